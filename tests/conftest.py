"""Fixtures shared by all tests, the option ``--long``, and how hypothesis draws.

``--long`` asks for as many examples, rounds and problems as a release wants; without it there are
as many as a commit can wait for. A test asks the function ``count`` how many it shall do; the
marker ``long`` keeps a test out of short runs altogether. Both kinds of run draw the same examples
each time. ``--hypothesis-seed N`` draws others, and the last lines say which were drawn.
"""

import signal
from collections.abc import Callable

import hypothesis
import numpy as np
import pytest

import fastconv

EXAMPLES = {"short": 100, "long": 5000}
for profile, examples in EXAMPLES.items():
    hypothesis.settings.register_profile(
        profile, max_examples=examples, deadline=None, database=None, print_blob=True
    )


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="as much as a release wants")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    # A shell's background job ignores Ctrl-C, and so would the processes that tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "long: runs with --long only")
    hypothesis.settings.load_profile("long" if config.getoption("--long") else "short")
    if config.getoption("--hypothesis-seed", None) is None:
        config.option.hypothesis_seed = "20"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items if not config.getoption("--long") else ():
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.skip(reason="runs with --long"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    config, info = terminalreporter.config, fastconv.info()
    terminalreporter.write_line(
        f"fastconv {info['version']}: {info['isa']}, {info['threads']} threads; "
        f"{'long' if config.getoption('--long') else 'short'} run, hypothesis "
        f"{hypothesis.__version__} with seed {config.getoption('--hypothesis-seed', None)}"
    )


@pytest.fixture(scope="session")
def count(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """``count(short, long)``: how many rounds this run shall do."""
    wants_long = request.config.getoption("--long")
    return lambda short, long: long if wants_long else short


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)


@pytest.fixture(params=fastconv.available_isas())
def isa(request):
    """Runs the test on every instruction set this machine has."""
    with fastconv.use_isa(request.param):
        yield request.param


@pytest.fixture(autouse=True)
def _threads_restored():
    """A test may set the number of threads; the next one finds the old number."""
    threads = fastconv.get_num_threads()
    yield
    fastconv.set_num_threads(threads)
