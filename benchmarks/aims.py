"""What the engine aims at, beside what a run measured: the first table of the report."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable

from cases import LAYERS
from cells import count, share, short, table, times
from rows import Row, best, by_work, rate, ratio

# A layer is bound by its arithmetic from so many channels and such a kernel on.
COMPUTE_CHANNELS, COMPUTE_KERNEL = 64, 3
# Layers large enough that memory orders and threads should not matter: flop.
LARGE, LARGE_ORDERS = 5e7, 1e8
GRADIENTS = ("input gradient", "kernel gradient")

Cell = tuple[str, str, Callable[[int], str]]  # what, the aim, what was measured on some threads


def aims(results: dict) -> str:
    """A table: what, the aim, and what was measured for each number of threads."""
    machine = results["machine"]
    lines = [*passes(results["rows"]), *layers(results), *others(results["rows"])]
    lines += [*networks(results["rows"]), *memory(results["costs"])]
    columns = {
        "": [what for what, _, _ in lines],
        "aim": [aim for _, aim, _ in lines],
    }
    for threads in machine["threads"]:
        columns[count(threads)] = [measured(threads) for _, _, measured in lines]
    return table(columns, 2)


def mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value]
    return statistics.geometric_mean(known) if known else None


def least(values: Iterable[tuple[float | None, Row]]) -> str:
    """The least of some figures, and whose it is."""
    known = [(value, row) for value, row in values if value]
    if not known:
        return "-"
    value, row = min(known, key=lambda pair: pair[0])
    return f"{times(value)} ({row['name']}, {row['operation']})"


def passes(rows: list[Row]) -> list[Cell]:
    of = [row for row in rows if row["group"] == "layers"]

    def gain(operation: str, order: str = "") -> Callable[[int], str]:
        return lambda threads: times(
            mean(
                ratio(row, "torch", order)
                for row in of
                if row["threads"] == threads and operation in (row["operation"], "")
            )
        )

    def worst(threads: int) -> str:
        return least((ratio(row, "torch"), row) for row in of if row["threads"] == threads)

    return [
        ("layers beside PyTorch, forward", "≥ 1.4", gain("forward")),
        ("input gradient", "≥ 1.8", gain("input gradient")),
        ("kernel gradient", "≥ 1.6", gain("kernel gradient")),
        ("worst row", "≥ 1", worst),
        ("both C-contiguous", "≥ 1.8", gain("", "contiguous")),
    ]


def layers(results: dict) -> list[Cell]:
    rows, roof = results["rows"], results["machine"]["roof"]
    of = [row for row in rows if row["group"] == "layers"]
    known = by_work(of)

    def on(threads: int) -> list[Row]:
        return [row for row in of if row["threads"] == threads]

    def orders(threads: int) -> str:
        pairs = [
            (row["seconds"]["fastconv contiguous"], row["seconds"]["fastconv channels_last"])
            for row in on(threads)
            if row["flops"] >= LARGE_ORDERS and "fastconv channels_last" in row["seconds"]
        ]
        return f"{sum(a <= 1.15 * b for a, b in pairs)} of {len(pairs)}"

    def of_roof(threads: int) -> str:
        shares = [rate(row) / roof[str(threads)] for row in on(threads) if is_compute_bound(row)]
        return f"{share(min(shares))} to {share(max(shares))}" if shares else "-"

    def depthwise(*operations: str) -> Callable[[int], str]:
        return lambda threads: times(
            mean(
                ratio(row, "torch")
                for row in on(threads)
                if "depthwise" in row["name"] and row["operation"] in operations
            )
        )

    def of_copy(threads: int) -> str:
        copied = [(best(row, "copy"), row) for row in on(threads)]
        return least((time / best(row, "fastconv"), row) for time, row in copied if time)

    def scaling(threads: int) -> str:
        gains = [
            best(of_threads[1], "fastconv") / best(of_threads[threads], "fastconv")
            for of_threads in known.values()
            if {1, threads} <= of_threads.keys() and of_threads[1]["flops"] >= LARGE
        ]
        return f"{times(mean(gains))}, least {min(gains):.2f}" if threads > 1 and gains else "-"

    bound = f"rows of {COMPUTE_CHANNELS} channels and {COMPUTE_KERNEL}x{COMPUTE_KERNEL} kernels"
    return [
        (
            "C-contiguous within 15 % of channels-last, rows of 100 MFLOP and more",
            "all",
            orders,
        ),
        (f"share of the roof, {bound} and more", "≥ 93 %", of_roof),
        ("depthwise beside PyTorch, forward", "≥ 1.2", depthwise("forward")),
        ("depthwise gradients", "≥ 1.8", depthwise(*GRADIENTS)),
        ("depthwise beside a copy, least", "≥ 0.8", of_copy),
        ("over 1 thread, rows of 50 MFLOP and more", "≥ 1.85", scaling),
    ]


def is_compute_bound(row: Row) -> bool:
    layer = LAYERS[row["name"]]
    return layer.groups == 1 and min(layer.kh, layer.kw) >= COMPUTE_KERNEL and (
        min(layer.ic, layer.oc) >= COMPUTE_CHANNELS
    )


def others(rows: list[Row]) -> list[Cell]:
    def on(group: str, threads: int) -> list[Row]:
        return [row for row in rows if (row["group"], row["threads"]) == (group, threads)]

    def float64(threads: int) -> str:
        return times(mean(ratio(row, "torch") for row in on("float64", threads)))

    def tiers(threads: int) -> str:
        known = [row["seconds"] for row in on("tiers", threads)]
        return times(
            mean(s["avx512"] / s["avx2"] for s in known if {"avx512", "avx2"} <= s.keys())
        )

    def tiny(*operations: str) -> Callable[[int], str]:
        return lambda threads: short(
            max(
                (
                    best(row, "fastconv") or 0
                    for row in on("tiny", threads)
                    if row["operation"] in operations
                ),
                default=None,
            )
        )

    return [
        ("float64 beside PyTorch's", "≥ 2.5", float64),
        ("AVX2 beside AVX-512", "≥ 0.9", tiers),
        ("a tiny call, forward", "≤ 2.5 µs", tiny("forward")),
        ("a tiny call, gradients", "≤ 3.5 µs", tiny(*GRADIENTS)),
    ]


def networks(rows: list[Row]) -> list[Cell]:
    wanted = {
        "training": {"lenet5": "≥ 3", "mnist_cnn": "≥ 1.6", "vgg6": "≥ 1.1"},
        "inference": {"lenet5": "≥ 2.5", "mnist_cnn": "≥ 2.5", "vgg6": "≥ 1.2"},
    }

    def gain(group: str, name: str) -> Callable[[int], str]:
        return lambda threads: " / ".join(
            times(ratio(row, "torch"))
            for row in sorted(rows, key=lambda row: row["batch"])
            if (row["group"], row["name"], row["threads"]) == (group, name, threads)
        )

    titles = {
        "training": "training step of {}, batches of 1, 64, 256",
        "inference": "inference of {}, one image",
    }
    return [
        (titles[group].format(name), aim, gain(group, name))
        for group, of in wanted.items()
        for name, aim in of.items()
    ]


def memory(costs: list[Row]) -> list[Cell]:
    peaks = {(row["network"], row["side"]): row["peak_bytes"] for row in costs}
    shares = [
        peak / peaks[network, "torch"]
        for (network, side), peak in peaks.items()
        if side == "fastconv" and (network, "torch") in peaks
    ]
    if not shares:
        return []
    said = {row["threads"]: f"{share(min(shares))} to {share(max(shares))}" for row in costs}
    return [
        (
            "peak memory of a training run, of PyTorch's",
            "≤ 50 %",
            lambda threads: said.get(threads, "-"),
        )
    ]
