"""What a row of the results says: the best of each side, and who is faster.

A row is one case on one number of threads, as JSON keeps it: the case's fields, ``threads``, and
``seconds`` by contender. A contender's first word is its side.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Row = dict[str, Any]

PEERS = {"torch": "PyTorch", "onnxruntime": "ONNX Runtime", "scipy": "SciPy"}
DRAW = 0.97  # ratios from here to 1 lie within what two runs differ by


def best(row: Row, side: str) -> float | None:
    """Seconds of a side's fastest contender: its better memory order counts."""
    times = [time for who, time in row["seconds"].items() if who.split()[0] == side]
    return min(times, default=None)


def fastest_peer(row: Row) -> str | None:
    times = {side: time for side in PEERS if (time := best(row, side))}
    return min(times, key=times.__getitem__, default=None)


def ratio(row: Row, side: str | None = None, order: str = "") -> float | None:
    """Time of a peer (or the fastest) by fastconv's: above 1, fastconv is faster.

    With an order, of both sides' contenders in that memory order alone.
    """
    side = side or fastest_peer(row)
    if order:
        ours, theirs = (row["seconds"].get(f"{who} {order}") for who in ("fastconv", side))
    else:
        ours, theirs = best(row, "fastconv"), side and best(row, side)
    return theirs / ours if ours and theirs else None


def rate(row: Row, side: str = "fastconv") -> float | None:
    """GFLOP/s, or GB/s where the arithmetic does not count."""
    seconds, work = best(row, side), row["flops"] or row["bytes"]
    return work / seconds / 1e9 if seconds and work else None


def work(row: Row) -> tuple:
    """What was computed, whoever did it on however many threads."""
    return tuple(row[field] for field in ("group", "name", "operation", "batch"))


def by_work(rows: Iterable[Row]) -> dict[tuple, dict[int, Row]]:
    """Rows by their work, then by their threads."""
    found: dict[tuple, dict[int, Row]] = {}
    for row in rows:
        found.setdefault(work(row), {})[row["threads"]] = row
    return found
