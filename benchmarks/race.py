"""How the contenders of a case are timed: they agree on the result, then take turns.

Turns hit all contenders with a busy moment of the machine alike, and the fastest repeat of each
counts: a machine that does other things too disturbs every statistic but the minimum. A turn is
several calls, since the first finds the caches and the idle threads of the contender before it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from peers import first_array

TURN = 2e-3  # seconds of a turn, unless one of these says otherwise
FEWEST_CALLS, MOST_CALLS = 3, 50
LONG = 0.1  # seconds of a call that needs no second one in its turn

# Relative to the largest value of the result. Sums are long, and everyone adds in another order.
TOLERANCE = 1e-3


def race(calls: dict[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    """The fastest single call of each, in seconds; `seconds` is the time for each, on average."""
    best = dict.fromkeys(calls, math.inf)
    calls_per_turn = {}
    for name, call in calls.items():
        taken = min(timed(call) for _ in range(2))
        fitting = min(max(round(TURN / taken), FEWEST_CALLS), MOST_CALLS)
        calls_per_turn[name] = 1 if taken > LONG else fitting
    end, turns = time.perf_counter() + seconds * len(calls), 0
    while turns < 2 or time.perf_counter() < end:
        for name, call in calls.items():
            for _ in range(calls_per_turn[name]):
                best[name] = min(best[name], timed(call))
        turns += 1
    return best


def timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def check(calls: dict[str, Callable[[], Any]]) -> None:
    """Call each once; raise a ValueError if a result is not the first contender's.

    Copies of memory, which have no result, only stand beside the contenders.
    """
    results = {n: first_array(call()) for n, call in calls.items() if not n.startswith("copy")}
    first, expected = next(iter(results.items()))
    for name, result in results.items():
        close = np.abs(result - expected).max() <= TOLERANCE * np.abs(expected).max()
        if result.shape != expected.shape or not close:
            raise ValueError(f"{name} computes something other than {first}")
