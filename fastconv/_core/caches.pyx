# cython: language_level=3
"""Sizes of the data caches: what the blocks of every plan are measured by.

Asked of the system once, when the package is imported; where it does not tell, those of a common
server core are assumed.
"""

from pathlib import Path


def sizes() -> dict:
    """Level to bytes of the first processor's data caches, as far as the system tells."""
    units = {"K": 1 << 10, "M": 1 << 20}
    found = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size = (
                (index / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        if kind != "Instruction" and size[-1:] in units:
            found[f"L{level}"] = int(size[:-1]) * units[size[-1]]
    return found


_found = sizes()
L2_BYTES = _found.get("L2", 1 << 20)
L3_BYTES = max(_found.get("L3", 0), L2_BYTES) if _found else 1 << 25
