"""Whatever is drawn for the arguments of an operation, it does what its twin in NumPy does.

Shapes, steps, modes and values are drawn by hypothesis, each argument by its name, fitting or not.
Where the call is refused the message begins with an argument's name; where it is not, the result is
the twin's, of the dtype that the rule demands, in the memory of nobody else, and the arguments are
as they were. Examples follow from the seed that the run prints, and shrink to small ones.
"""

import inspect
import re

import numpy as np
import pytest
from arrays import LAYOUTS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_contract import SIGNATURES

import fastconv
from fastconv import reference

SIZES = st.integers(1, 6)
PAIRS = st.one_of(st.integers(1, 3), st.tuples(st.integers(1, 3), st.integers(1, 3)))
SMALL = st.integers(0, 2)
PADS = st.one_of(SMALL, st.tuples(SMALL, SMALL), st.tuples(*[st.tuples(SMALL, SMALL)] * 2))
DTYPES = st.sampled_from(["f4", "f8", "f4", "f2", ">f4", "i4", "u1", "?"])


WITH_NAN = ("sliced", "cropped")  # there is NaN between their values
CHOICES = {
    "stride": PAIRS,
    "dilation": PAIRS,
    "size": PAIRS,
    "scale": PAIRS,
    "output_size": PAIRS,
    "padding": PADS,
    "output_padding": st.sampled_from([0, 0, 0, 1]),
    "mode": st.sampled_from(["constant", "reflect", "replicate", "circular"]),
    "epsilon": st.sampled_from([1e-5, 0.5]),
    "slope": st.sampled_from([0, 0.25]),
    "activation": st.sampled_from([None, "relu"]),
    "delta": st.sampled_from([0.5, 2.0]),
    "label_smoothing": st.sampled_from([0.0, 0.1]),
    "approximate": st.sampled_from(["none", "tanh"]),
    "ceil_mode": st.booleans(),
    "count_include_pad": st.booleans(),
    "return_indices": st.booleans(),
    "channels_last": st.booleans(),
    "return_moments": st.booleans(),
}


@st.composite
def array(draw, shape, dtypes=DTYPES):
    """Values of one seed in one of the layouts; small integers, so that most sums are exact."""
    values = np.random.default_rng(draw(st.integers(0, 99))).integers(-4, 5, shape)
    found = values.astype(draw(dtypes))
    names = [name for name in LAYOUTS if found.dtype.kind == "f" or name not in WITH_NAN]
    return LAYOUTS[draw(st.sampled_from(names))](found)


@st.composite
def arguments(draw, operation):
    """Arguments that know of each other: mostly they fit, and now and then a size is off by one."""
    names = inspect.signature(getattr(fastconv, operation)).parameters
    n, c, h, w, oc = (draw(SIZES) for _ in range(5))
    kh, kw = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    batch = (draw(st.sampled_from([n, n, n, 0])),) if draw(st.booleans()) else ()
    groups = draw(st.sampled_from([1, 1, c]))
    x = (*batch, c, h + 4, w + 4)
    kernel = (groups * oc, c // groups, kh, kw)
    found = {
        "groups": groups,
        "input_shape": x,
        "shape": x,
        "align_corners": False,
        "algorithm": "auto",
    }
    for name, strategy in CHOICES.items():
        if name in names:
            found[name] = draw(strategy)
    if "upsample" in operation:
        found["mode"] = draw(st.sampled_from(["nearest", "bilinear"]))
    if "transpose" in operation:
        kernel = (c, oc, kh, kw)
    if operation.startswith(("dense", "softmax", "log_softmax")):
        x, kernel = (n, c), (oc, c)
    found["kernel_shape"] = kernel
    per_group = (*batch, 1 if operation.startswith("layer") else groups)
    moments = (c,) if operation.startswith("batch") else per_group
    shapes = {
        "x": x, "y": x, "outputs": x, "targets": x, "kernel": kernel, "gamma": (c,), "beta": (c,),
        "logits": x, "mean": moments, "variance": moments,
        "bias": (oc * groups if "transpose" in operation else kernel[0],),
    }  # fmt: skip
    if "dy" in names:
        shapes["dy"] = shapes["indices"] = gradient_shape(operation, found, x)
    for name in set(shapes) & set(names):
        sizes = [max(0, n + draw(st.sampled_from([0] * 30 + [-1, 1]))) for n in shapes[name]]
        found[name] = draw(array(tuple(sizes)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    if "variance" in names:
        found["variance"] = abs(found["variance"].astype("f4")) + 1
    if operation == "binary_cross_entropy":
        found["targets"] = rng.random(found["targets"].shape)
    if "indices" in names:
        found["indices"] = rng.integers(0, x[-1] * x[-2], shapes["indices"])
    found["labels"] = rng.integers(0, c, n)
    return {name: found[name] for name in names if name in found}


def gradient_shape(operation, found, x):
    """The shape of the forward pass's result, where there is one; else x's."""
    forward = operation.removesuffix("_backward_input").removesuffix("_backward_kernel")
    forward = forward.removesuffix("_backward_bias").removesuffix("_backward")
    if forward.startswith("global"):
        return x[:-2]
    names = inspect.signature(getattr(reference, forward)).parameters
    arrays = {"x": np.zeros(x), "kernel": np.zeros(found["kernel_shape"])}
    given_ = {k: v for k, v in {**found, **arrays, "bias": None}.items() if k in names}
    if forward == "max_pool2d":
        given_["size"] = 2
    elif forward == "adaptive_avg_pool2d":
        given_["output_size"] = (2, 1)
    elif not {"size", "scale", "kernel", "padding"} & set(names):
        return x
    try:
        with np.errstate(all="ignore"):
            y = getattr(reference, forward)(**given_)
    except (ValueError, TypeError):
        return x
    return (y[0] if isinstance(y, tuple) else y).shape


def parts(result):
    return result if isinstance(result, tuple) else (result,)


@pytest.mark.parametrize("operation", [name for name in SIGNATURES if name != "empty"])
def test_is_its_twin(operation):
    seen = {"answered": 0, "refused": 0}

    @settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    @given(arguments(operation))
    def check(given_):
        before = {k: v.tobytes() for k, v in given_.items() if isinstance(v, np.ndarray)}
        try:
            got = parts(getattr(fastconv, operation)(**given_))
        except (ValueError, TypeError) as error:
            assert re.match(rf"({'|'.join(given_)}): expected ", str(error)), error
            seen["refused"] += 1
            return
        seen["answered"] += 1
        plain = {
            k: np.array(v, v.dtype.newbyteorder("=")) if isinstance(v, np.ndarray) else v
            for k, v in given_.items()
        }
        with np.errstate(all="ignore"):
            wanted = parts(getattr(reference, operation)(**plain))
        assert len(got) == len(wanted)
        single = any(np.asarray(a).dtype == np.float32 for a in got if a is not None)
        tolerance = 1e-4 if single else 1e-9
        for a, b in zip(got, wanted, strict=True):
            assert np.shape(a) == np.shape(b)
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
            if not operation.startswith("as_") and isinstance(a, np.ndarray):
                shared = [k for k in before if np.shares_memory(a, given_[k])]
                assert not [k for k in shared if k not in ("mean", "variance")], shared
        assert before == {k: v.tobytes() for k, v in given_.items() if isinstance(v, np.ndarray)}

    check()
    assert seen["answered"] > 20, f"nearly everything was refused: {seen}"
