"""JSON in files, read as if a stranger had written it.

Python's objects take up to thirty times the room of the text that describes them, so that the
length of a text is what bounds memory. Depth is bounded for those who walk through it.
"""

from __future__ import annotations

import json
from typing import Any

LONGEST = 1_000_000  # bytes
DEEPEST = 40  # lists and objects inside each other


def parse(data: bytes) -> Any:
    """Return what a text of JSON says.

    Raises
    ------
    ValueError
        If it is none, too long or too deep, or names something twice.
    """
    if len(data) > LONGEST:
        raise ValueError(f"expected a description of at most {LONGEST} bytes, got {len(data)}")
    try:
        found = json.loads(data.decode(), object_pairs_hook=_once)
    except RecursionError:
        raise ValueError(f"expected a description of at most {DEEPEST} levels") from None
    level = [found]
    for _ in range(DEEPEST):
        level = [item for value in level for item in _inside(value)]
        if not level:
            return found
    raise ValueError(f"expected a description of at most {DEEPEST} levels")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("its description names something twice")
    return found


def _inside(value: Any) -> Any:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
