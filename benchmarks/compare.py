"""Let fastconv and PyTorch race, and print who is how much faster.

python benchmarks/compare.py [--threads T] [--seconds S] [--only TEXT] [--out results.json]

All contenders of a case take turns in this one process, so that a busy moment of the machine hits
each alike; the fastest repeat of each counts. ``plot.py`` draws what ``--out`` wrote.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable

import cases
import numpy as np

import fastconv
from fastconv._core import probe

CALLS_PER_TURN = 3  # the first finds the caches and threads of the contender before it
NOISE = 0.97  # ratios from here to 1 are a draw


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=fastconv.get_num_threads(), metavar="T")
    parser.add_argument(
        "--seconds", type=float, default=0.3, metavar="S", help="for each contender of a case"
    )
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="cases whose name contains the text"
    )
    parser.add_argument("--out", metavar="JSON", help="where to write all times")
    options = parser.parse_args()

    cases.set_num_threads(options.threads)
    machine = describe_machine()
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    print(HEADER)
    rows = []
    for case in all_cases():
        if options.only in str(case):
            rows.append(measure(case, options.seconds))
            print(line(rows[-1], machine["roof"]), flush=True)
    print(summary(rows))
    if options.out:
        with open(options.out, "w") as file:
            json.dump({"machine": machine, "cases": rows}, file, indent=1)


def all_cases() -> list[cases.Case]:
    return cases.convolution() + cases.pooling() + cases.dense() + cases.training()


def describe_machine() -> dict:
    """What the figures depend on; the roof is in GFLOP/s, the bandwidth in GB/s, of all threads."""
    info = fastconv.info()
    return {
        "fastconv": info["version"],
        "torch": cases.torch.__version__ if cases.torch else None,
        "isa": info["isa"],
        "threads": info["threads"],
        "roof": round(probe.roof(info["isa"], 0.5) * info["threads"], 1),
        "bandwidth": round(bandwidth(), 1),
    }


def bandwidth() -> float:
    """Bytes that ReLU reads and writes in a second, on an array that no cache holds."""
    x = np.ones(1 << 24, np.float32)
    seconds = race({"relu": lambda: fastconv.relu(x)}, 0.2)["relu"]
    return 2 * x.nbytes / seconds / 1e9


def race(calls: dict[str, Callable], seconds: float) -> dict[str, float]:
    """The fastest single call of each, in seconds."""
    best = dict.fromkeys(calls, math.inf)
    for call in calls.values():
        call()
    end, turns = time.perf_counter() + seconds * len(calls), 0
    while turns < 2 or time.perf_counter() < end:
        for name, call in calls.items():
            for _ in range(CALLS_PER_TURN):
                start = time.perf_counter()
                call()
                best[name] = min(best[name], time.perf_counter() - start)
        turns += 1
    return best


def measure(case: cases.Case, seconds: float) -> dict:
    times = race({who: make() for who, make in case.makers.items()}, seconds)
    best = {
        side: min((t for who, t in times.items() if who.startswith(side)), default=None)
        for side in ("fastconv", "torch")
    }
    return {
        "name": case.name,
        "operation": case.operation,
        "batch": case.batch,
        "flops": case.flops,
        "bytes": case.bytes,
        "seconds": times,
        "best": best,
        "ratio": best["torch"] / best["fastconv"] if best["torch"] else None,
    }


HEADER = (
    f"{'':30}{'':18}{'batch':>5}{'fastconv':>14}{'PyTorch':>14}{'ratio':>8}{'rate':>15}"
    f"{'of roof':>9}"
)


def line(row: dict, roof: float) -> str:
    ours, theirs = row["best"]["fastconv"], row["best"]["torch"]
    work, unit = (row["flops"], "GFLOP/s") if row["flops"] else (row["bytes"], "GB/s")
    rate = work / ours / 1e9
    text = f"{row['name']:30}{row['operation']:18}{row['batch']:5}{1e6 * ours:11.1f} µs"
    text += f"{1e6 * theirs:11.1f} µs{row['ratio']:8.2f}" if theirs else f"{'-':>14}{'-':>8}"
    text += f"{rate:7.1f} {unit:7}"
    return text + (f"{rate / roof:9.0%}" if row["flops"] else "")


def summary(rows: list[dict]) -> str:
    """Geometric means of PyTorch's best time by fastconv's best: above 1, fastconv is faster."""
    rows = [row for row in rows if row["ratio"]]
    if not rows:
        return "PyTorch is not installed: nothing to compare with"
    lines = []
    for operation in [*dict.fromkeys(row["operation"] for row in rows), "all"]:
        ratios = [r["ratio"] for r in rows if operation in (r["operation"], "all")]
        slower = sum(ratio < NOISE for ratio in ratios)
        lines.append(
            f"{operation:18} geometric mean {statistics.geometric_mean(ratios):.2f}, "
            f"worst {min(ratios):.2f}, slower in {slower} of {len(ratios)}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
