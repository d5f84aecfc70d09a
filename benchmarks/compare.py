"""Let fastconv, PyTorch, ONNX Runtime and SciPy race, and report who is how much faster.

python benchmarks/compare.py --threads 1,2 --out results.json --report docs/benchmarks

Everything runs in this one process, the contenders of a case in turns (``race.py``), on one number
of threads after the other; and all of it a second time, with new arrays, since a busy minute of the
machine or an unlucky place in memory would tell against one side. Only page faults and memory are
measured in processes of their own (``costs.py``). ``report.py`` writes the report, ``plots.py``
draws its pictures.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from cells import short
from rows import PEERS, Row, best, fastest_peer, rate, ratio, work

if TYPE_CHECKING:
    import cases

# The first touch of a page costs more than the arithmetic done on it, and the C library gives large
# blocks back at every `free`. fastconv recycles its memory; these settings make every other library
# recycle too, and PyTorch ask for huge pages as fastconv does, so that the race is about computing.
# The C library reads them when the process starts.
SETTINGS = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 32),
    "MALLOC_TOP_PAD_": str(1 << 26),
    "THP_MEM_ALLOC_ENABLE": "1",
}
ROUNDS, QUICK_ROUNDS = 2, 1
QUICK_SECONDS = 0.003


def settle_memory() -> None:
    """Start this program again with the settings, unless it has them."""
    if any(os.environ.get(name) != value for name, value in SETTINGS.items()):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | SETTINGS)


def main() -> None:
    options = parse()
    if options.load:
        results = json.loads(options.load.read_text())
    else:
        settle_memory()
        # Minutes of figures shall not be lost for want of a place to write them.
        if options.out:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.touch()
        results = measure(options)
    if options.out:
        options.out.write_text(dump(results))
    if options.report:
        import report

        print(f"the report is {report.write(results, options.report)}")


def parse() -> argparse.Namespace:
    def numbers(text: str) -> list[int]:
        return sorted({int(number) for number in text.split(",")})

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--threads", type=numbers, metavar="T,T", help="numbers of threads; by default 1 and all")
    add(
        "--seconds",
        type=float,
        default=0.1,
        metavar="S",
        help="for each contender, in all",
    )
    add("--only", default="", metavar="TEXT", help="cases whose name or group contains the text")
    add("--quick", action="store_true", help="small cases only, and briefly")
    add("--out", type=Path, metavar="JSON", help="where to write all figures")
    add("--load", type=Path, metavar="JSON", help="report what --out wrote, measure nothing")
    add("--report", type=Path, metavar="DIR", help="where to write the report")
    return parser.parse_args()


def measure(options: argparse.Namespace) -> dict:
    import cases
    import machine
    import peers

    import fastconv

    start = time.perf_counter()
    threads = options.threads or sorted({1, fastconv.get_num_threads()})
    for message in peers.missing():
        print(message)
    description = machine.describe(threads)
    for name, value in description.items():
        print(f"{name:14}  {value}")
    print(HEADER)
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    seconds = QUICK_SECONDS if options.quick else options.seconds / rounds
    found: dict[tuple, Row] = {}
    for _ in range(rounds):
        for case in cases.everything():
            if options.only not in f"{case.group} {case}" or (options.quick and not case.is_quick):
                continue
            # The curves of a sweep are drawn for one number of threads.
            for count in threads[-1:] if case.at else threads:
                peers.set_num_threads(count)
                new = run(case, count, seconds)
                row = found.setdefault((*work(new), count), new)
                for who, taken in new["seconds"].items():
                    row["seconds"][who] = min(taken, row["seconds"][who])
                print(line(row, description["roof"]), flush=True)
    rows = list(found.values())
    trained = [] if options.only else costs_of_training(threads[-1], options.quick)
    description["roof_after"] = machine.roof(description["isa"], threads)
    description["minutes"] = round((time.perf_counter() - start) / 60, 1)
    print(f"{len(rows)} rows in {description['minutes']} minutes")
    return {"machine": description, "rows": rows, "costs": trained}


def run(case: cases.Case, threads: int, seconds: float) -> Row:
    from race import check, race

    calls = {who: make() for who, make in case.makers.items()}
    check(calls)
    fields = ("group", "name", "operation", "batch", "flops", "bytes", "at")
    return {
        **{field: getattr(case, field) for field in fields},
        "threads": threads,
        "seconds": {who: float(f"{t:.4g}") for who, t in race(calls, seconds).items()},
    }


def costs_of_training(threads: int, quick: bool) -> list[Row]:
    import costs
    import networks

    environment = {k: v for k, v in os.environ.items() if k not in SETTINGS}
    names = list(networks.NETWORKS)[: 1 if quick else None]
    return [row for name in names for row in costs.measure(name, threads, environment)]


def dump(results: dict) -> str:
    """JSON with a line for each row, so that versions of a file compare well."""
    parts = []
    for key, value in results.items():
        entries = value if isinstance(value, list) else [value]
        body = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries)
        parts.append(f'"{key}": [\n{body}\n]' if isinstance(value, list) else f'"{key}": {body}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


HEADER = (
    f"{'':30}{'':18}{'batch':>5}{'threads':>8}{'fastconv':>12}{'fastest peer':>26}{'ratio':>8}"
    f"{'rate':>16}{'of roof':>9}"
)


def line(row: Row, roof: dict[str, float]) -> str:
    text = f"{row['name']:30}{row['operation']:18}{row['batch']:5}{row['threads']:8}"
    if row["group"] == "tiers":
        return text + ", ".join(f"{isa} {short(t)}" for isa, t in row["seconds"].items()).rjust(46)
    text += f"{short(best(row, 'fastconv')):>12}"
    peer = fastest_peer(row)
    if peer:
        text += f"{short(best(row, peer)):>12}  {PEERS[peer]:12}{ratio(row):8.2f}"
    else:
        text += f"{'-':>12}{'':14}{'':8}"
    value = rate(row)
    if value:
        text += f"{value:8.1f} {'GFLOP/s' if row['flops'] else 'GB/s':7}"
        text += f"{value / roof[str(row['threads'])]:9.0%}" if row["flops"] else ""
    return text


if __name__ == "__main__":
    main()
