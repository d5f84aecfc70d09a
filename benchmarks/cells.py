"""How figures are written: times, ratios, shares, and tables of them in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from rows import DRAW


def table(columns: dict[str, list[str]], words: int = 1) -> str:
    """Columns by their headings; the first are words, the others are numbers."""
    header = list(columns)
    rule = ["---" if i < words else "---:" for i in range(len(header))]
    lines = [header, rule, *zip(*columns.values(), strict=True)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def times(value: float | None) -> str:
    """A ratio; bold where fastconv is slower."""
    cell = f"{value:.2f}" if value else "-"
    return f"**{cell}**" if value and value < DRAW else cell


def share(value: float | None) -> str:
    return f"{100 * value:.0f} %" if value else "-"


def mean(values: Iterable[float | None]) -> str:
    known = [value for value in values if value]
    return times(statistics.geometric_mean(known)) if known else "-"


def count(threads: int) -> str:
    return f"{threads} thread" + "s" * (threads > 1)


def short(seconds: float | None) -> str:
    """A time with three digits and its unit."""
    if not seconds:
        return "-"
    scale, unit = next(
        (scale, unit)
        for scale, unit in ((1e6, "µs"), (1e3, "ms"), (1, "s"))
        if seconds * scale < 999.5 or scale == 1
    )
    value = seconds * scale
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {unit}"
