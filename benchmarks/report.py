"""The report of a run in Markdown: first what is slower than a peer, then means, then all rows.

`write` takes what ``compare.py`` measured and fills a directory with the text and its pictures.
The words are in `text`; what follows it makes the tables.
"""

from __future__ import annotations

from pathlib import Path

from aims import aims
from cells import count, mean, share, short, table, times
from rows import DRAW, PEERS, Row, best, by_work, fastest_peer, rate, ratio, work

NAME = "README.md"
PASSES = ("forward", "input gradient", "kernel gradient")
SWEEPS = ("channels", "image size", "batch")
ORDERS = {"contiguous": "C-contiguous", "channels_last": "channels-last"}


def write(results: dict, directory: Path) -> Path:
    """Write the report and its pictures; return the report's path."""
    directory.mkdir(parents=True, exist_ok=True)
    pictures = {}
    try:
        import plots
    except ImportError:
        print("matplotlib is not installed and nothing is drawn: pip install matplotlib")
    else:
        pictures = plots.draw(results, directory)
    path = directory / NAME
    path.write_text(text(results, pictures))
    return path


def text(results: dict, pictures: dict[str, str]) -> str:
    machine, rows = results["machine"], results["rows"]
    groups = dict.fromkeys(row["group"] for row in rows)
    of = {group: [row for row in rows if row["group"] == group] for group in groups}
    raced = [row for row in rows if row["group"] != "tiers"]
    parts = [
        "# Measured",
        f"fastconv beside {', '.join(peers(rows)) or 'nobody'}, on {machine['date']}: "
        f"{machine['cpu']}, {machine['processors']} processors, {machine['isa']}. A ratio is the "
        "time of the fastest peer by fastconv's: above 1, fastconv is faster; **bold** where it is "
        "slower. Each side's faster memory order counts. [How this is measured, and on "
        "what](#machine-and-method) is at the end.",
        "## Slower than a peer",
        slower(raced),
        "## Aims",
        "What the engine aims at. Means are geometric, and ratios are of PyTorch's time by "
        "fastconv's. [Why some are missed](../cost-model.md#what-is-missed-and-why).",
        aims(results),
        "## Means",
        "Geometric means of ratios, over the rows further down.",
        means([row for row in raced if row["group"] not in SWEEPS]),
        *(f"![{caption}]({file})\n\n*{caption}*" for file, caption in pictures.items()),
        "## Networks",
        *section("Training steps", of.get("training")),
        *section("Inference, one image", of.get("inference")),
        *costs(results["costs"]),
        "## Layers",
        *layers(of.get("layers", []), machine),
        "## Other operations",
        *section("Dense layers, batch 64", of.get("dense"), machine),
        *section("Max pooling with indices", of.get("pooling"), machine),
        *section("Averages, borders, enlargement", of.get("resampling"), machine),
        *section("Transposed convolutions", of.get("transposed"), machine),
        *section("Normalisation", of.get("normalization"), machine),
        *section("Activations", of.get("activations"), machine),
        *section("Losses, optimizers, dropout", of.get("parts"), machine),
        *section("Tiny calls", of.get("tiny")),
        *section("One filter on one picture", of.get("filters"), machine),
        *section("float64", of.get("float64"), machine),
        *(
            part
            for group in SWEEPS
            for part in section(f"3x3 layers, by {group}", of.get(group), machine)
        ),
        *depthwise(rows),
        *tiers(of.get("tiers", [])),
        "## Machine and method",
        method(machine),
    ]
    return "\n\n".join(parts) + "\n"


# ---- tables ----------------------------------------------------------------------------------


def peers(rows: list[Row]) -> dict[str, str]:
    """Names of the sides that race in these rows, with what they are called."""
    return {PEERS[side]: side for side in PEERS if any(best(row, side) for row in rows)}


def slower(rows: list[Row]) -> str:
    """Everything that loses on some number of threads, the worst first."""
    ratios = [(row, value) for row in rows if (value := ratio(row))]
    lost = [(row, value) for row, value in ratios if value < DRAW]
    drawn = sum(DRAW <= value < 1 for _, value in ratios)
    if not ratios:
        return "No peer is installed here: nothing is known."
    says = (
        f"fastconv is slower in {len(lost)} of {len(ratios)} races; {drawn} more lie between "
        f"{DRAW} and 1, which is a draw."
    )
    worst: dict[tuple, Row] = {}
    for row, _ in sorted(lost, key=lambda pair: pair[1]):
        worst.setdefault(work(row), row)
    if not worst:
        return says
    known, shown = by_work(rows), list(worst.values())
    columns = {
        "": [row["name"] for row in shown],
        "pass": [kind(row) for row in shown],
        "batch": [str(row["batch"]) for row in shown],
        "fastconv": [short(best(row, "fastconv")) for row in shown],
        "fastest peer": [short(best(row, fastest_peer(row))) for row in shown],
        "which": [f"{PEERS[fastest_peer(row)]}, {count(row['threads'])}" for row in shown],
    }
    for threads in sorted({row["threads"] for row in rows}):
        columns[f"ratio, {count(threads)}"] = [
            times(ratio(known[work(row)][threads])) if threads in known[work(row)] else "-"
            for row in shown
        ]
    return f"{says} The times are those of the worse number of threads.\n\n{table(columns, 2)}"


def kind(row: Row) -> str:
    return row["operation"] + ", float64" * (row["group"] == "float64")


def means(rows: list[Row]) -> str:
    sets: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        what = row["group"] if row["group"] in ("tiny", "filters", "float64") else row["operation"]
        sets.setdefault((what, row["threads"]), []).append(row)
    columns: dict[str, list[str]] = {
        "": [what for what, _ in sets],
        "threads": [str(threads) for _, threads in sets],
        "rows": [str(len(rows)) for rows in sets.values()],
        "fastest peer": [mean(map(ratio, rows)) for rows in sets.values()],
    }
    for name, side in peers(rows).items():
        columns[name] = [mean(ratio(row, side) for row in rows) for rows in sets.values()]
        for order, title in ORDERS.items() if side == "torch" else ():
            columns[f"both {title}"] = [
                mean(ratio(row, side, order) for row in rows) for rows in sets.values()
            ]
    columns["worst"] = [
        times(min(filter(None, map(ratio, rows)), default=None)) for rows in sets.values()
    ]
    columns["slower in"] = [
        str(sum((ratio(row) or 1) < DRAW for row in rows)) for rows in sets.values()
    ]
    return table(columns)


def section(
    title: str, rows: list[Row] | None, machine: dict | None = None, threads: int = 0
) -> list[str]:
    """A heading and a table of races; with the machine, of rates and shares of its roof too.

    All rows are shown, or those of a number of threads.
    """
    if not rows:
        return []
    known = by_work(rows)
    rows = [row for row in rows if threads in (0, row["threads"])]
    columns = {"": [row["name"] for row in rows]}
    for heading, field in (("pass", "operation"), ("batch", "batch"), ("threads", "threads")):
        if len({row[field] for row in rows}) > 1:
            columns[heading] = [str(row[field]) for row in rows]
    columns["fastconv"] = [short(best(row, "fastconv")) for row in rows]
    for name, side in peers(rows).items():
        columns[name] = [short(best(row, side)) for row in rows]
    columns["ratio"] = [times(ratio(row)) for row in rows]
    if any(ratio(row, "torch", "contiguous") for row in rows):
        columns["both C-contiguous"] = [times(ratio(row, "torch", "contiguous")) for row in rows]
    if machine:
        columns["GFLOP/s" if rows[0]["flops"] else "GB/s"] = [f"{rate(row):.1f}" for row in rows]
        if rows[0]["flops"]:
            columns["of roof"] = [share(rate(row) / roof(row, machine)) for row in rows]
    if max(row["threads"] for row in rows) > 1:
        columns["over 1 thread"] = [gain(known[work(row)], row["threads"]) for row in rows]
    return [f"### {title}", table(columns, 1 + ("pass" in columns))]


def layers(rows: list[Row], machine: dict) -> list[str]:
    """A table for each pass and number of threads."""
    parts = []
    for operation in PASSES:
        of_pass = [row for row in rows if row["operation"] == operation]
        for threads in machine["threads"]:
            title = f"{operation.capitalize()}, {count(threads)}"
            parts += section(title, of_pass, machine, threads)
    return parts


def roof(row: Row, machine: dict) -> float:
    """GFLOP/s; float64 has half the lanes."""
    return machine["roof"][str(row["threads"])] / (2 if row["group"] == "float64" else 1)


def gain(of_threads: dict[int, Row], threads: int) -> str:
    """How many times as fast as on one thread."""
    if threads == 1 or 1 not in of_threads:
        return "-"
    return f"{best(of_threads[1], 'fastconv') / best(of_threads[threads], 'fastconv'):.2f}"


def costs(rows: list[Row]) -> list[str]:
    if not rows:
        return []
    MiB = 1 << 20
    columns = {
        "": [f"{row['network']}, {row['side']}" for row in rows],
        "step": [short(row["seconds"]) for row in rows],
        "page faults a step": [f"{row['faults_per_step']:,.0f}" for row in rows],
        "peak MiB": [f"{row['peak_bytes'] / MiB:.0f}" for row in rows],
        "of that training": [
            f"{(row['peak_bytes'] - row['imported_bytes']) / MiB:.0f}" for row in rows
        ],
    }
    says = (
        f"Batches of {rows[0]['batch']} on {count(rows[0]['threads'])}, each side in a process of "
        "its own with the C library's usual allocator; PyTorch in its usual memory order. Page "
        "faults are those of a steady step, the peak is of resident memory, and the last column is "
        "how much of it came after all imports."
    )
    return ["### Page faults and memory of training", says, table(columns)]


def depthwise(rows: list[Row]) -> list[str]:
    rows = [row for row in rows if best(row, "copy")]
    if not rows:
        return []
    columns = {
        "": [row["name"] for row in rows],
        "pass": [kind(row) for row in rows],
        "threads": [str(row["threads"]) for row in rows],
        "fastconv": [short(best(row, "fastconv")) for row in rows],
        "copy": [short(best(row, "copy")) for row in rows],
        "of copy": [share(best(row, "copy") / best(row, "fastconv")) for row in rows],
        "PyTorch of copy": [
            share((time := best(row, "torch")) and best(row, "copy") / time) for row in rows
        ],
    }
    says = (
        "Memory is their roof. *Copy* moves as many bytes as the images have, in turns with them: "
        "the faster of NumPy's copy, on one thread, and fastconv's ReLU."
    )
    return ["### Depthwise layers beside a copy", says, table(columns, 2)]


def tiers(rows: list[Row]) -> list[str]:
    if not rows:
        return []
    first, *others = rows[0]["seconds"]
    columns = {
        "": [row["name"] for row in rows],
        "pass": [row["operation"] for row in rows],
        "threads": [str(row["threads"]) for row in rows],
        first: [short(row["seconds"][first]) for row in rows],
    }
    for isa in others:
        columns[isa] = [short(row["seconds"][isa]) for row in rows]
        columns[f"{isa}'s share"] = [
            share(row["seconds"][first] / row["seconds"][isa]) for row in rows
        ]
    says = (
        f"Channels-last images; a share is the speed by that of {first}. Above 100 % the lower "
        "tier is the faster one."
    )
    return ["### Instruction sets", says, table(columns, 2)]


def method(machine: dict) -> str:
    caches = ", ".join(f"{name} {size >> 10} KiB" for name, size in machine["caches"].items())
    lines = [
        f"**Processor**: {machine['cpu']}, {machine['processors']} processors; {caches}; "
        f"{machine['system']}; instruction set {machine['isa']} of "
        f"{', '.join(machine['available_isas'])}.",
        "**Versions**: "
        + ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
        + ".",
    ]
    for threads in machine["threads"]:
        before, after = (machine[name][str(threads)] for name in ("roof", "roof_after"))
        lines.append(
            f"**Roof, {count(threads)}**: {before} GFLOP/s in float32 before the run and {after} "
            f"after it; a copy moves {machine['copy'][str(threads)]} GB/s."
        )
    lines += [
        "**Time**: the fastest repeat. Everything ran in one process, the contenders of a row in "
        "turns, after their results were found to agree; and all of it twice, with new arrays. "
        f"The run took {machine['minutes']} minutes.",
        "**GFLOP/s** count multiplications and additions inside the image. Products with the "
        "padding do not count, for any side.",
        "**The allocator** was told to keep memory (`MALLOC_MMAP_MAX_=0`, "
        "`MALLOC_TRIM_THRESHOLD_`, `MALLOC_TOP_PAD_`) and PyTorch to ask for huge pages "
        "(`THP_MEM_ALLOC_ENABLE=1`). Without this the peers, which do not recycle their results as "
        "fastconv does, would pay for page faults on every call.",
        "**Both sides allocate their results** on each call, as for any caller.",
    ]
    return "\n".join(f"- {line}" for line in lines)
