"""The machine that figures belong to: processor, what it can reach at most, and versions."""

from __future__ import annotations

import datetime
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np
from peers import LIBRARIES, set_num_threads
from race import race

import fastconv
from fastconv._core import probe


def describe(thread_counts: list[int]) -> dict:
    """Everything; the roof is in GFLOP/s and the copy's bandwidth in GB/s, by threads."""
    info = fastconv.info()
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": cpu(),
        "processors": info["processors"],
        "caches": info["caches"],
        "system": f"{platform.system()} {platform.machine()}",
        "isa": info["isa"],
        "available_isas": info["available_isas"],
        "threads": thread_counts,
        "roof": roof(info["isa"], thread_counts),
        "copy": {str(threads): round(bandwidth(threads), 1) for threads in thread_counts},
        "versions": {
            "fastconv": info["version"],
            "python": platform.python_version(),
            "numpy": np.__version__,
            **{name: version(name) for name, library in LIBRARIES.items() if library},
        },
    }


def cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    fields = (line.partition(":") for line in lines)
    names = (value.strip() for name, _, value in fields if name.strip() == "model name")
    return next(names, platform.processor() or "unknown processor")


def roof(isa: str, thread_counts: list[int]) -> dict[str, float]:
    """What independent multiply-adds reach on one core, times the threads, in float32."""
    one = probe.roof(isa, 0.5)
    return {str(threads): round(one * threads, 1) for threads in thread_counts}


def bandwidth(threads: int) -> float:
    """Bytes read and written by a copy of an array that no cache holds.

    ReLU is the copy that uses all threads; NumPy's uses one.
    """
    set_num_threads(threads)
    x = np.ones(1 << 24, np.float32)
    y = np.empty_like(x)
    copies = {"relu": lambda: fastconv.relu(x), "numpy": lambda: np.copyto(y, x)}
    return 2 * x.nbytes / min(race(copies, 0.2).values()) / 1e9
