"""What no caller should pass, passed to everything: a program, and the tables it works through.

Every parameter of every operation, layer, loss, optimizer, schedule, metric, transform, filter and
reader is given every value of a table, and every array every kind of array. Each call either gives
its documented result or raises ValueError, TypeError or MemoryError; a message begins with the
name of the argument and says what came; arrays that were passed are as they were. `WRONG` says of
which values a result would be a fault.

    python tests/bad_inputs.py [FAMILY ...]

prints the name of a case before it runs it, so that the last line of a process that died or hung
names its killer, and ends with how many cases went wrong. `test_bad_inputs.py` runs each family in
a process of its own; so can a build with sanitizers.
"""

from __future__ import annotations

import faulthandler
import re
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from bad_objects import functions, layers, trains
from bad_triggers import triggers
from bad_values import Case, array_cases, value_cases
from calls import CALLS

import fastconv

LONGEST = 10  # seconds that a case may take
ROOM = 6 << 30  # bytes of address space: what is refused for its size must not be touched first


def operations() -> Iterator[Case]:
    """Every parameter of every operation."""
    for name, valid in CALLS.items():
        yield from value_cases(name, getattr(fastconv, name), valid, lambda result: result)


def arrays() -> Iterator[Case]:
    """Every array argument of every operation."""
    for name, valid in CALLS.items():
        yield from array_cases(name, getattr(fastconv, name), valid)


FAMILIES: dict[str, Callable[[], Iterator[Case]]] = {
    family.__name__: family for family in (operations, arrays, triggers, layers, trains, functions)
}


# -- the program -----------------------------------------------------------------------------------

ALLOWED = (ValueError, TypeError, MemoryError)


def parts_of(result: Any) -> list[np.ndarray]:
    parts = result if isinstance(result, tuple) else (result,)
    return [np.asarray(part) for part in parts if isinstance(part, (float, np.generic, np.ndarray))]


def fault(case: Case) -> str | None:
    """Run a case; what went wrong, if anything did."""
    before = {name: array.tobytes() for name, array in case.inputs.items()}
    try:
        result = case.run()
    except ALLOWED as error:
        message = str(error)
        if not isinstance(error, MemoryError):
            named = re.match(r"(?:\w+: )?(\w+)\b", message)
            words = re.match(r"(\w+): (?:(\w+): )?", message)
            if not named or not words or not {*words.groups()} & {*case.names}:
                return f"{type(error).__name__} that names no argument: {message[:200]}"
            if "expected" not in message and "got" not in message:
                return (
                    f"{type(error).__name__} that does not say what was expected: {message[:200]}"
                )
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    else:
        if case.wrong:
            return f"accepted, and gave {' '.join(repr(result)[:100].split())}"
        if case.same is not None:
            for got, wanted in zip(parts_of(result), parts_of(case.same()), strict=True):
                if got.dtype != wanted.dtype or got.tobytes() != wanted.tobytes():
                    return f"other bits than a plain copy of dtype {wanted.dtype} gives"
    for name, array in case.inputs.items():
        if array.tobytes() != before[name]:
            return f"{name} has changed"
    return None


def main(families: list[str]) -> int:
    faulthandler.enable()
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    with open("/proc/self/maps") as maps:
        sanitized = "libasan" in maps.read()
    longest = 10 * LONGEST if sanitized else LONGEST
    if not sanitized:
        resource.setrlimit(resource.RLIMIT_AS, (ROOM, ROOM))
    cases = faults = 0
    for family in families or FAMILIES:
        for case in FAMILIES[family]():
            cases += 1
            print(case.name, flush=True)
            faulthandler.dump_traceback_later(longest, exit=True)
            start = time.perf_counter()
            found = fault(case)
            faulthandler.cancel_dump_traceback_later()
            if time.perf_counter() - start > 1:
                print(f"SLOW {case.name}: {time.perf_counter() - start:.1f} s", file=sys.stderr)
            if found:
                faults += 1
                print(f"FAULT {case.name}: {found}", file=sys.stderr)
    print(f"{cases} cases, {faults} faults")
    return faults > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
