"""What the suites share: one benchmark per case and contender, and a table of rates at the end."""

from __future__ import annotations

import cases
import peers
import pytest

import fastconv

_rates: list[str] = []


def pytest_report_header() -> str:
    info = fastconv.info()
    beside = ", ".join(name for name, library in peers.LIBRARIES.items() if library) or "nobody"
    threads = f"{info['threads']} threads"
    return f"fastconv {info['version']} beside {beside}: {info['isa']}, {threads}"


def pytest_configure() -> None:
    peers.set_num_threads(fastconv.get_num_threads())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests with the argument `case` run for every contender of their module's CASES."""
    if "case" in metafunc.fixturenames:
        pairs = [(case, who) for case in metafunc.module.CASES for who in case.makers]
        metafunc.parametrize("case, contender", pairs, ids=[f"{c} {who}" for c, who in pairs])


@pytest.fixture
def rate(benchmark):
    """Keep a rate with the benchmark's record, and show it after the run."""

    def keep(what: str, value: float, unit: str, note: str = "") -> None:
        benchmark.extra_info[unit] = value
        _rates.append(f"{what:72}{value:9.1f} {unit:8}{note}")

    return keep


@pytest.fixture
def measure(benchmark, rate):
    """Time one contender of a case."""

    def run(case: cases.Case, contender: str) -> None:
        benchmark.group = str(case)
        benchmark(case.makers[contender]())
        work, unit = (case.flops, "GFLOP/s") if case.flops else (case.bytes, "GB/s")
        rate(f"{case} {contender}", work / benchmark.stats.stats.min / 1e9, unit)

    return run


def pytest_terminal_summary(terminalreporter) -> None:
    if _rates:
        terminalreporter.section("rates of the fastest repeat")
        for line in _rates:
            terminalreporter.write_line(line)
