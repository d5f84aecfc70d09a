"""Every operation on what hypothesis draws: as the plain one, inputs untouched, bits repeated."""

import numpy as np
import pytest
import strategies
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import fastconv
from fastconv import reference

SCALE = 30.0  # sums of so many terms as large as the largest result may round


def flat(result):
    """Arrays of a result, which may be one, several, or a number and one."""
    return result if isinstance(result, tuple) else (result,)


def wide(value):
    """The argument in float64, where it is an array of floats."""
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return value.astype(np.float64)
    return {key: wide(item) for key, item in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize("name", strategies.CALLS)
def test_as_the_reference(name, count):
    operation, plain = getattr(fastconv, name), getattr(reference, name)
    drawn, compared = [], []

    @settings(max_examples=count(100, 2000), suppress_health_check=list(HealthCheck))
    @given(st.data(), st.sampled_from(["float32", "float64"]))
    def compare(data, dtype):
        drawn.append(1)
        try:
            arrays, rest, options = data.draw(strategies.CALLS[name](name, dtype))
        except ValueError:
            assume(False)  # the reference refuses the geometry
        given_arrays = [value for value in arrays if isinstance(value, np.ndarray)]
        before = [value.tobytes() for value in given_arrays]
        try:
            expected = plain(*map(wide, arrays), *map(wide, rest), **wide(options))
        except ValueError:
            with pytest.raises(ValueError):
                operation(*arrays, *rest, **options)
            return
        result = operation(*arrays, *rest, **options)
        assert [value.tobytes() for value in given_arrays] == before
        again = operation(*arrays, *rest, **options)
        tolerance = 2e-5 if dtype == "float32" else 1e-12
        for ours, same, theirs in zip(flat(result), flat(again), flat(expected), strict=True):
            compared.append(np.size(theirs) > 0)
            if theirs is None:
                assert ours is None
                continue
            ours, theirs = np.asarray(ours), np.asarray(theirs)
            assert ours.tobytes() == np.asarray(same).tobytes(), "the same bits each time"
            assert ours.shape == theirs.shape
            if ours.dtype.kind == "f" and ours.ndim:
                assert ours.dtype == dtype
            if name in strategies.EXACT:
                np.testing.assert_array_equal(ours, theirs)
            else:
                largest = float(np.abs(theirs).max(initial=1.0))
                np.testing.assert_allclose(ours, theirs, tolerance, SCALE * tolerance * largest)

    compare()
    # Some draws are refused and some have no elements; how many, depends on hypothesis's release.
    assert sum(compared) >= len(drawn) / 10, "what is drawn is hardly ever a call with a result"


def test_every_operation_is_tried():
    calls = set(strategies.CALLS) | {"as_channels_last", "as_contiguous", "empty", "output_shape"}
    assert calls == set(reference.__all__)
