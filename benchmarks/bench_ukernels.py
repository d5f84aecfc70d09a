"""The register tile beside the machine's FMA roof, for every instruction set.

The roof is what one core does with independent multiply-adds on registers alone. The tile is
measured as the loop nests call it, on operands that stay in the first cache; the tallest tile of
each width is the one that matters.
"""

import pytest

import fastconv
from fastconv._core import probe

ITEM_SIZES = {"float32": 4, "float64": 8}
TILES = [
    (isa, dtype, *tile)
    for isa in fastconv.available_isas()
    for dtype in ITEM_SIZES
    for tile in probe.tiles(isa, dtype)
]


@pytest.fixture(scope="module")
def roofs() -> dict[str, float]:
    """GFLOP/s of one core in float32; float64 has half the lanes."""
    return {isa: probe.roof(isa, 0.3) for isa in fastconv.available_isas()}


@pytest.mark.parametrize("isa, dtype, mr, nr", TILES)
def test_tile(benchmark, rate, roofs, isa, dtype, mr, nr):
    rates = []
    benchmark.group = f"tile {isa} {dtype}"
    benchmark.pedantic(lambda: rates.append(probe.tile(isa, mr, nr, dtype)), rounds=5)
    roof = roofs[isa] * 4 / ITEM_SIZES[dtype]
    note = f"{max(rates) / roof:6.1%} of the roof {roof:.1f}"
    rate(f"tile {isa} {dtype} {mr} x {nr}", max(rates), "GFLOP/s", note)
