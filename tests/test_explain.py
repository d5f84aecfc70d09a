"""What `explain` says: the path of known shapes, counts against independent arithmetic, errors."""

import dataclasses
import math

import numpy as np
import pytest
from shapes import EDGES, LAYERS, Problem

import fastconv
from fastconv import explain

OPERATIONS = ("conv2d", "conv2d_backward_input", "conv2d_backward_kernel")
BOTH_ORDERS = pytest.mark.parametrize("channels_last", [True, False], ids=["last", "C"])


def ask(operation, problem: Problem, **rest):
    return explain(operation, problem.x_shape, problem.kernel_shape, **problem.keywords, **rest)


def pairs_inside(size, taps, stride, before, dilation, outputs) -> int:
    """Pairs of an output and a tap inside the image."""
    at = np.add.outer(np.arange(outputs) * stride - before, np.arange(taps) * dilation)
    return int(np.count_nonzero((at >= 0) & (at < size)))


def useful(problem: Problem) -> int:
    (sh, sw), (dh, dw), ((top, _), (left, _)) = problem.stride, problem.dilation, problem.pads
    n, oc, oh, ow = problem.y_shape
    rows = pairs_inside(problem.ih, problem.kh, sh, top, dh, oh)
    columns = pairs_inside(problem.iw, problem.kw, sw, left, dw, ow)
    return n * oc * (problem.ic // problem.groups) * rows * columns


# ---- paths ---------------------------------------------------------------------------------------

CHANNELS, LANEWISE, PIXELS = "channels in the lanes", "lanes meet lanes", "pixels in the lanes"
GRADIENT = "kernel gradient, "
BY_CHANNELS = GRADIENT + "channels of a tap as rows"
BY_TAPS = GRADIENT + "taps and channels as rows"
BY_OUTPUTS = GRADIENT + "output channels as rows"
GRADIENT_LANEWISE = GRADIENT + "lanes meet lanes"


@BOTH_ORDERS
@pytest.mark.parametrize(
    ("problem", "paths"),
    [
        (LAYERS["resnet50.stage2_3x3"], (CHANNELS, CHANNELS, BY_CHANNELS)),
        (LAYERS["resnet50.stage2_expand"], (CHANNELS, CHANNELS, BY_CHANNELS)),
        (Problem(64, 256, 1, 1, 512, 1, 1), (CHANNELS, CHANNELS, BY_CHANNELS)),  # as dense layers
        (LAYERS["resnet50.conv1"], (CHANNELS, PIXELS, BY_TAPS)),
        (LAYERS["mobilenetv2.depthwise56"], (LANEWISE, LANEWISE, GRADIENT_LANEWISE)),
        (Problem(1, 64, 28, 28, 64, 3, 3, (1, 1), 1, (1, 1), 2), (CHANNELS, CHANNELS, BY_CHANNELS)),
        (Problem(64, 512, 1, 1, 1, 1, 1), (CHANNELS, CHANNELS, BY_OUTPUTS)),
    ],
    ids=["3x3", "1x1", "dense", "first layer", "depthwise", "groups", "few outputs"],
)
def test_paths(problem, paths, channels_last, isa):
    for operation, path in zip(OPERATIONS, paths, strict=True):
        plan = ask(operation, problem, channels_last=channels_last)
        assert (plan.path, plan.isa) == (path, isa)


def test_few_output_channels_put_pixels_in_the_lanes(isa):
    assert ask("conv2d", Problem(1, 1, 512, 512, 1, 7, 7, padding=3)).path == PIXELS


def test_small_groups_and_multipliers_are_spread_over_lanes():
    for problem in (
        LAYERS["resnext.grouped28"],
        Problem(1, 64, 14, 14, 128, 3, 3, padding=1, groups=64),
    ):
        for operation in OPERATIONS:
            with fastconv.use_isa(fastconv.available_isas()[0]):
                plan = ask(operation, problem)
            if plan.tile[2] >= 16:
                assert "lanes meet lanes" in plan.path
                assert plan.spread and plan.packed
    assert not ask("conv2d", LAYERS["mobilenetv2.depthwise56"]).spread


def test_what_is_packed():
    layer, first = LAYERS["resnet50.stage2_3x3"], LAYERS["resnet50.conv1"]
    images = [("x", "y"), ("dy", "dx"), ("x", "dy")]
    for operation, both in zip(OPERATIONS, images, strict=True):
        assert ask(operation, layer).packed == ()
        assert ask(operation, layer, channels_last=False).packed == both
    assert ask("conv2d", first).packed == ("x",)
    assert ask("conv2d", first).padded and not ask("conv2d", layer).padded


def test_large_results_are_streamed_where_vectors_are_aligned():
    def streams(images, channels, **rest):
        shape, kernel = (images, channels, 256, 256), (channels, channels, 3, 3)
        return explain("conv2d", shape, kernel, padding=1, **rest).streams

    many = 64 * (1 + fastconv.cache_sizes().get("L3", 1 << 25) // (256 * 256 * 64 * 4))
    assert streams(many, 64)
    assert not streams(many, 65)
    assert streams(many, 64, channels_last=False)
    assert explain("conv2d", (many, 64, 256, 256), (64, 64, 1, 1)).streams
    assert not explain("conv2d", (1, 64, 8, 8), (64, 64, 3, 3)).streams


# ---- counts --------------------------------------------------------------------------------------


@BOTH_ORDERS
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_counts(operation, dtype, channels_last, isa):
    for problem in (*EDGES, *LAYERS.values()):
        plan = ask(operation, problem, dtype=dtype, channels_last=channels_last)
        assert plan.output_shape == problem.y_shape
        assert 2 * plan.multiply_adds == problem.flops
        assert plan.useful_multiply_adds == useful(problem)
        shapes = (problem.x_shape, problem.kernel_shape, problem.y_shape)
        assert plan.array_bytes == np.dtype(dtype).itemsize * sum(map(math.prod, shapes))
        if problem.n == 0:
            continue
        rows, vectors, lanes = plan.tile
        assert rows >= 1 and 1 <= vectors <= 4 and lanes in (2, 4, 8, 16)
        assert 1 <= plan.threads <= plan.tasks
        assert plan.lanes_per_cycle >= lanes
        assert plan.step_cycles * plan.lanes_per_cycle >= plan.vector_fmas * lanes


@pytest.mark.parametrize("operation", OPERATIONS)
def test_vectors_compute_all_that_is_useful(operation, isa):
    """No product inside the image is missed, and where all lanes are full none is added."""
    for problem in (*EDGES, *LAYERS.values()):
        if problem.n == 0 or problem.groups > 1:
            continue
        plan = ask(operation, problem)
        computed = plan.vector_fmas * plan.tile[2]
        assert computed >= plan.useful_multiply_adds, problem
        channels = problem.ic if operation == "conv2d_backward_input" else problem.oc
        full = channels % plan.tile[2] == 0 and not plan.padded
        if full and plan.path in (CHANNELS, BY_CHANNELS):
            assert computed == plan.useful_multiply_adds, problem


def test_tasks_cover_the_problem():
    plan = explain("conv2d", (4, 64, 56, 56), (64, 64, 3, 3), padding=1)
    images, rows = math.ceil(4 / plan.task["images"]), math.ceil(56 / plan.task["rows"])
    blocks = math.ceil(plan.lane_blocks / plan.task["lane blocks"])
    assert plan.tasks == images * rows * math.ceil(56 / plan.task["columns"]) * blocks
    assert plan.kernel_bytes == 64 * 64 * 9 * 4


def test_threads():
    fastconv.set_num_threads(3)
    assert explain("conv2d", (4, 64, 56, 56), (64, 64, 3, 3), padding=1).threads == 3
    assert explain("conv2d", (1, 1, 8, 8), (1, 1, 3, 3)).threads == 1


def test_doubles_have_half_the_lanes(isa):
    single, double = (
        explain("conv2d", (1, 64, 9, 9), (64, 64, 3, 3), dtype=dtype)
        for dtype in (np.float32, np.float64)
    )
    assert single.tile[2] == 2 * double.tile[2]
    assert 2 * single.array_bytes == double.array_bytes


def test_function_or_name_and_single_image():
    shapes = (1, 3, 8, 8), (4, 3, 3, 3)
    for operation in OPERATIONS:
        by_name = explain(operation, *shapes)
        assert by_name == explain(getattr(fastconv, operation), *shapes)
        assert by_name == explain(operation, shapes[0][1:], shapes[1])


@pytest.mark.parametrize("operation", OPERATIONS)
def test_empty_batch(operation):
    plan = explain(operation, (0, 3, 8, 8), (4, 3, 3, 3))
    assert (plan.path, plan.tasks, plan.multiply_adds) == ("nothing to compute", 0, 0)
    assert plan.array_bytes == 4 * 4 * 27 and plan.lanes_in_use == 0 and str(plan)
    assert plan.seconds(1e11, 1e10) == pytest.approx(432e-10)


def test_no_array_is_made():
    """Shapes that no memory holds can be asked for."""
    plan = explain("conv2d", (1 << 30, 64, 56, 56), (64, 64, 3, 3), padding=1)
    assert plan.multiply_adds == (1 << 30) * 56 * 56 * 64 * 64 * 9


# ---- words and seconds ---------------------------------------------------------------------------


def test_text():
    text = str(explain("conv2d", (1, 16, 9, 9), (32, 16, 3, 3), channels_last=False))
    assert "16 -> 32 channels" in text and "C order" in text and "channels in the lanes" in text
    assert fastconv.isa() in text and len(text.splitlines()) == 9


def test_seconds():
    fastconv.set_num_threads(1)
    plan = explain("conv2d", (4, 64, 56, 56), (64, 64, 3, 3), padding=1)
    least = 2 * plan.useful_multiply_adds / 1e11
    assert least < plan.seconds(1e11, math.inf) < 1.3 * least
    assert plan.seconds(math.inf, 1e10) == pytest.approx(plan.array_bytes / 1e10)
    assert plan.seconds(1e11, 1e10) == pytest.approx(
        plan.seconds(1e11, math.inf) + plan.seconds(math.inf, 1e10)
    )
    fastconv.set_num_threads(2)
    both = explain("conv2d", (4, 64, 56, 56), (64, 64, 3, 3), padding=1)
    assert both.seconds(1e11, math.inf) == pytest.approx(plan.seconds(1e11, math.inf) / 2, rel=0.05)


def test_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        explain("conv2d", (1, 1, 3, 3), (1, 1, 3, 3)).path = "another"


# ---- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "keywords", "error", "message"),
    [
        (("pool", (1, 3, 8, 8), (4, 3, 3, 3)), {}, ValueError, "operation: expected one of conv2d"),
        ((7, (1, 3, 8, 8), (4, 3, 3, 3)), {}, TypeError, "operation: expected a function"),
        ((fastconv.dense, (1, 3, 8, 8), (4, 3, 3, 3)), {}, ValueError, "operation: expected one"),
        (("conv2d", (3, 8), (4, 3, 3, 3)), {}, ValueError, "input_shape: expected"),
        (("conv2d", 8, (4, 3, 3, 3)), {}, TypeError, "input_shape: expected a tuple"),
        (("conv2d", (1, 0, 8, 8), (4, 3, 3, 3)), {}, ValueError, "input_shape: expected at least"),
        (("conv2d", (1, 3, 8, 8), (4, 3, 3)), {}, ValueError, "kernel_shape: expected"),
        (("conv2d", (1, 3, 8, 8), (4, 2, 3, 3)), {}, ValueError, "kernel_shape: expected shape"),
        (("conv2d", (1, 3, 8, 8), (4, 3, 9, 3)), {}, ValueError, "kernel_shape: expected an"),
        (("conv2d", (1, 3, 8, 8), (4, 3, 3, 3)), {"stride": 0}, ValueError, "stride: expected"),
        (("conv2d", (1, 3, 8, 8), (4, 3, 3, 3)), {"groups": 2}, ValueError, "groups: expected"),
        (("conv2d", (1, 3, 8, 8), (4, 3, 3, 3)), {"padding": "all"}, ValueError, "padding: "),
        (("conv2d", (1, 3, 8, 8), (4, 3, 3, 3)), {"dtype": "float16"}, TypeError, "dtype: "),
        (("conv2d", (1, 3, 8, 8), (4, 3, 3, 3)), {"dtype": "real"}, TypeError, "dtype: expected"),
        (
            *(("conv2d", (1, 3, 8, 8), (4, 3, 3, 3)), {"channels_last": "yes"}, TypeError),
            "channels_last: expected a bool",
        ),
    ],
    ids=lambda value: "",
)
def test_errors(arguments, keywords, error, message):
    with pytest.raises(error, match=message):
        explain(*arguments, **keywords)
