"""What must not matter does not: threads, batch, memory, repetition, company.

The values here are real, so every rounding shows, and the results are compared bit by bit: not only
the right number, but the same number, whatever the circumstances of the call.
"""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from arrays import (
    LAYOUTS,
    ORDERS,
    WITH_GAPS,
    assert_same,
    assert_same_bits,
    in_order,
    integer_operands,
    real_operands,
)
from shapes import EDGES, LAYERS, Problem, random_problems

import fastconv

# Large enough that a call is worth more than one thread, in each of the engine's ways of working.
LARGE = [
    LAYERS["lenet5.conv1"].with_batch(16),
    LAYERS["lenet5.conv2"].with_batch(16),
    LAYERS["mnist_cnn.conv2"].with_batch(5),
    LAYERS["resnet20.stem"].with_batch(7),
    LAYERS["resnet20.stage2_down"].with_batch(5),
    LAYERS["resnet20.stage3"].with_batch(8),
    LAYERS["resnet50.stage2_3x3"],
    LAYERS["resnet50.stage3_shortcut"],
    LAYERS["resnet50.stage5_3x3"].with_batch(2),
    LAYERS["resnet50.conv1"],
    LAYERS["filter_bank.7x7"],
    LAYERS["mobilenetv2.stem"],
    LAYERS["mobilenetv2.depthwise56_down"].with_batch(2),
    LAYERS["mobilenetv2.depthwise14"].with_batch(3),
    LAYERS["mobilenetv2.pointwise14"].with_batch(5),
    LAYERS["resnext.grouped28"].with_batch(2),
    LAYERS["deeplab.dilated56"],
    Problem(3, 33, 61, 67, 47, 3, 5, (2, 1), ((1, 2), (0, 3)), (1, 2)),
    Problem(70, 17, 9, 9, 19, 3, 3, padding=1),
]
SMALL = (*EDGES[::4], *random_problems(40, seed=9))


# Small problems with a batch that makes them worth several threads: every feature, every edge.
BATCHED = [
    problem.with_batch(math.ceil(6e6 / problem.flops))
    for problem in random_problems(240, seed=17)
    if problem.n and problem.flops > 3e4
]


def three_passes(problem: Problem, order: str, x, kernel, bias, dy) -> dict[str, np.ndarray]:
    x, dy = in_order(x, order), in_order(dy, order)
    keywords = problem.keywords
    return {
        "forward": fastconv.conv2d(x, kernel, bias, activation="relu", **keywords),
        "input gradient": fastconv.conv2d_backward_input(dy, kernel, x.shape, **keywords),
        "kernel gradient": fastconv.conv2d_backward_kernel(dy, x, kernel.shape, **keywords),
        "bias gradient": fastconv.conv2d_backward_bias(dy),
    }


# -- threads and instruction sets ------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("problem", [*LARGE, *BATCHED[::5]], ids=str)
def test_threads_and_runs(problem, order, count):
    """Every number of threads, more than there are cores too, and again and again."""
    operands = real_operands(problem)
    fastconv.set_num_threads(1)
    alone = three_passes(problem, order, *operands)
    for threads in (1, 2, 3, 4, 7, 8, 16):
        fastconv.set_num_threads(threads)
        for run in range(count(1, 20)):
            for name, result in three_passes(problem, order, *operands).items():
                what = f"{name} on {threads} threads, run {run}: {problem}"
                assert_same_bits(result, alone[name], what)


def test_there_are_fifty_problems():
    assert len({*LARGE, *BATCHED[::5]}) >= 50


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("chunk", range(4))
def test_threads_of_every_feature(chunk, order, isa):
    """Two tasks that write one place are right on one thread, and on two nearly always."""
    for problem in BATCHED[chunk::4]:
        operands = real_operands(problem)
        fastconv.set_num_threads(1)
        alone = three_passes(problem, order, *operands)
        fastconv.set_num_threads(3)
        for name, result in three_passes(problem, order, *operands).items():
            assert_same_bits(result, alone[name], f"{name}: {problem}, {order}, {isa}")


def test_threads_of_the_other_operations(rng):
    x = rng.standard_normal((32, 16, 40, 40), np.float32)
    flat, kernel = x.reshape(32, -1), rng.standard_normal((120, 16 * 1600), np.float32)
    dy = rng.standard_normal((32, 120), np.float32)

    def results():
        y, indices = fastconv.max_pool2d(x, 3, stride=2, padding=1, return_indices=True)
        return [
            y,
            indices,
            fastconv.max_pool2d_backward(y, indices, x.shape),
            fastconv.relu(x),
            fastconv.relu_backward(x, x),
            fastconv.add(x, x, activation="relu"),
            fastconv.dense(flat, kernel),
            *fastconv.dense_backward(dy, flat, kernel),
            fastconv.softmax(flat),
            *fastconv.softmax_cross_entropy(dy, np.arange(32), label_smoothing=0.1),
            *fastconv.mean_squared_error(x, y := fastconv.relu(x)),
            *fastconv.huber(x, y, delta=0.1, sample_weights=np.arange(32)),
            *fastconv.binary_cross_entropy(x, x > 0, pos_weight=np.arange(40)),
        ]

    fastconv.set_num_threads(1)
    alone = results()
    for threads in (2, 3, 4, 7):
        fastconv.set_num_threads(threads)
        for i, (result, expected) in enumerate(zip(results(), alone, strict=True)):
            assert_same_bits(
                np.asarray(result), np.asarray(expected), f"result {i} on {threads} threads"
            )


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("problem", LARGE, ids=str)
def test_instruction_sets(problem, order):
    """Exactly equal on integers: real values may round in another order."""
    operands = integer_operands(problem)
    results = {}
    for isa in fastconv.available_isas():
        with fastconv.use_isa(isa):
            results[isa] = three_passes(problem, order, *operands)
    baseline = results["baseline"]
    for isa, passes in results.items():
        for name, result in passes.items():
            assert_same(result, baseline[name], f"{name} with {isa}: {problem}, {order}")


def test_concurrent_calls():
    """Eight Python threads, each with work of its own, disturb nobody."""
    problems = [*LARGE[1::3], *SMALL]
    operands = [real_operands(problem) for problem in problems]
    alone = [three_passes(p, "contiguous", *o) for p, o in zip(problems, operands, strict=True)]

    def work(turn: int) -> None:
        for i in np.random.default_rng(turn).permutation(len(problems)):
            for name, result in three_passes(problems[i], "contiguous", *operands[i]).items():
                assert_same_bits(result, alone[i][name], f"{name}: {problems[i]}")

    fastconv.set_num_threads(2)
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work, turn) for turn in range(24)]:
            done.result()


# -- batch -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
def test_batch(order):
    """An image gives the same bits alone, unbatched, and among others."""
    for problem in (*LARGE, *SMALL):
        x, kernel, bias, dy = real_operands(problem)
        together = three_passes(problem, order, x, kernel, bias, dy)
        for n in {0, problem.n // 2, problem.n - 1} if problem.n else ():
            one = slice(n, n + 1)
            alone = three_passes(problem, order, x[one], kernel, bias, dy[one])
            unbatched = three_passes(problem, order, x[n], kernel, bias, dy[n])
            for name in ("forward", "input gradient"):
                what = f"{name} of image {n}: {problem}, {order}"
                assert_same_bits(alone[name], together[name][one], what)
                assert_same_bits(unbatched[name], together[name][n], f"unbatched {what}")
            assert_same_bits(unbatched["kernel gradient"], alone["kernel gradient"], problem)


# -- memory ----------------------------------------------------------------------------------------


def operations(problem: Problem, rng: np.random.Generator):
    """Every operation with arrays that suit it: ``name, function, arrays by argument``."""
    x, kernel, bias, dy = real_operands(problem)
    keywords = problem.keywords
    yield (
        "conv2d",
        lambda x, kernel, bias: fastconv.conv2d(x, kernel, bias, **keywords),
        {"x": x, "kernel": kernel, "bias": bias},
    )
    yield (
        "conv2d_backward_input",
        lambda dy, kernel: fastconv.conv2d_backward_input(dy, kernel, x.shape, **keywords),
        {"dy": dy, "kernel": kernel},
    )
    yield (
        "conv2d_backward_kernel",
        lambda dy, x: fastconv.conv2d_backward_kernel(dy, x, kernel.shape, **keywords),
        {"dy": dy, "x": x},
    )
    yield "conv2d_backward_bias", fastconv.conv2d_backward_bias, {"dy": dy}
    if min(problem.ih, problem.iw) > 1:
        yield (
            "max_pool2d",
            lambda x: fastconv.max_pool2d(x, 2, stride=1, return_indices=True),
            {"x": x},
        )
        y, indices = fastconv.max_pool2d(x, 2, stride=1, return_indices=True)
        yield (
            "max_pool2d_backward",
            lambda dy, indices: fastconv.max_pool2d_backward(dy, indices, x.shape),
            {"dy": rng.standard_normal(y.shape, np.float32), "indices": indices},
        )
    yield "adaptive_avg_pool2d", lambda x: fastconv.adaptive_avg_pool2d(x, (3, 2)), {"x": x}
    yield (
        "avg_pool2d_backward",
        lambda dy: fastconv.avg_pool2d_backward(dy, dy.shape, 3, stride=1, padding=1),
        {"dy": dy},
    )
    yield (
        "global_max_pool2d",
        lambda x: fastconv.global_max_pool2d(x, return_indices=True),
        {"x": x},
    )
    yield "pad2d", lambda x: fastconv.pad2d(x, 2, "replicate"), {"x": x}
    yield "upsample2d", lambda x: fastconv.upsample2d(x, (2, 3), "bilinear"), {"x": x}
    spread = rng.standard_normal((problem.ic, 3, 3, 2), np.float32)
    yield (
        "conv_transpose2d",
        lambda x, kernel: fastconv.conv_transpose2d(x, kernel, stride=2, padding=1),
        {"x": x, "kernel": spread},
    )
    shapes = {"x": (problem.oc, problem.ic), "kernel": (problem.iw, problem.ic)}
    flat, matrix = (rng.standard_normal(shape, np.float32) for shape in shapes.values())
    gradient, vector = flat @ matrix.T, matrix[:, 0].copy()
    yield "dense", fastconv.dense, {"x": flat, "kernel": matrix, "bias": vector}
    yield "dense_backward", fastconv.dense_backward, {"dy": gradient, "x": flat, "kernel": matrix}
    yield "relu", fastconv.relu, {"x": x}
    yield "relu_backward", fastconv.relu_backward, {"dy": dy, "y": dy}
    yield "add", fastconv.add, {"x": x, "y": x[::-1].copy()}
    yield "softmax", fastconv.softmax, {"x": flat}
    yield "log_softmax", fastconv.log_softmax, {"x": flat}
    labels = rng.integers(0, problem.ic, problem.oc)
    yield (
        "softmax_cross_entropy",
        fastconv.softmax_cross_entropy,
        {"logits": flat, "labels": labels},
    )
    odds = fastconv.softmax(flat)
    yield "binary_cross_entropy", fastconv.binary_cross_entropy, {"logits": flat, "targets": odds}
    yield "mean_squared_error", fastconv.mean_squared_error, {"outputs": flat, "targets": odds}
    yield "huber", fastconv.huber, {"outputs": flat, "targets": odds}
    yield "as_channels_last", fastconv.as_channels_last, {"x": x}
    yield "as_contiguous", fastconv.as_contiguous, {"x": x}


LAYOUT_PROBLEMS = [
    Problem(2, 5, 9, 11, 7, 3, 3, padding=1),
    Problem(3, 17, 6, 33, 33, 1, 1),
    Problem(2, 6, 9, 8, 6, 3, 2, (2, 1), (1, 2), groups=6),
    Problem(1, 4, 13, 12, 6, 3, 3, (2, 2), "same", (2, 1), 2),
    Problem(2, 1, 10, 18, 6, 5, 5, padding=2),
    Problem(2, 32, 7, 15, 3, 3, 3, padding=1),
    Problem(2, 20, 5, 19, 24, 3, 3),
    Problem(2, 16, 9, 8, 16, 2, 5, (1, 2), (0, 2)),
    Problem(2, 24, 7, 9, 16, 3, 3, padding=1, groups=4),
]


def as_tuple(result) -> tuple:
    return tuple(map(np.asarray, result if isinstance(result, tuple) else (result,)))


@pytest.mark.parametrize("problem", LAYOUT_PROBLEMS, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(problem, layout, rng):
    """Every array argument of every operation, one after the other, and all together."""
    for name, function, arrays in operations(problem, rng):
        expected = as_tuple(function(**arrays))
        for changed in (*arrays, "every argument"):
            moved = {
                argument: LAYOUTS[layout](array)
                if changed in (argument, "every argument")
                else array
                for argument, array in arrays.items()
                if array.dtype.kind == "f" or layout not in WITH_GAPS
            }
            moved = {**arrays, **moved}
            for i, (got, wanted) in enumerate(
                zip(as_tuple(function(**moved)), expected, strict=True)
            ):
                assert_same_bits(
                    got, wanted, f"result {i} of {name}, {changed} {layout}: {problem}"
                )
            for argument, array in moved.items():
                assert np.array_equal(array, arrays[argument]), f"{name} changed {argument}"


@pytest.mark.parametrize("problem", LAYOUT_PROBLEMS, ids=str)
def test_channels_last_arguments(problem, rng):
    for name, function, arrays in operations(problem, rng):
        expected = as_tuple(function(**arrays))
        images = [argument for argument, array in arrays.items() if array.ndim == 4]
        for changed in (*images, images):
            moved = {
                argument: in_order(array, "channels_last") if argument in changed else array
                for argument, array in arrays.items()
            }
            for got, wanted in zip(as_tuple(function(**moved)), expected, strict=True):
                assert_same_bits(got, wanted, f"{name}, {changed} channels-last: {problem}")


@pytest.mark.parametrize("problem", LAYOUT_PROBLEMS, ids=str)
def test_broadcast_arguments(problem, rng):
    """Arrays in which many elements are one element (stride 0)."""
    for name, function, arrays in operations(problem, rng):
        for argument, array in arrays.items():
            for axis in range(array.ndim):
                view = np.broadcast_to(array.take([0], axis), array.shape)
                expected = as_tuple(function(**{**arrays, argument: view.copy()}))
                got = as_tuple(function(**{**arrays, argument: view}))
                for result, wanted in zip(got, expected, strict=True):
                    what = f"{name}, {argument} broadcast along axis {axis}: {problem}"
                    assert_same_bits(result, wanted, what)


@pytest.mark.parametrize("order", ORDERS)
def test_results_come_in_the_order_of_the_input(order, rng):
    x, dy, dp = (in_order(rng.standard_normal((2, c, 6, 7)), order) for c in (3, 5, 3))
    kernel = rng.standard_normal((5, 3, 3, 3))
    for images in (slice(None), 0):
        for result in (
            fastconv.conv2d(x[images], kernel, padding=1),
            fastconv.conv2d_backward_input(dy[images], kernel, x[images].shape, padding=1),
            *fastconv.max_pool2d(x[images], 3, return_indices=True),
            fastconv.max_pool2d_backward(
                dp[images], np.zeros(dp[images].shape, np.int32), (2, 3, 12, 14)[-dp[images].ndim :]
            ),
            fastconv.avg_pool2d(x[images], 3),
            fastconv.avg_pool2d_backward(dp[images], dp[images].shape, 3, stride=1, padding=1),
            fastconv.relu(x[images]),
            fastconv.relu_backward(dy[images], dy[images]),
            fastconv.add(dy[images], dy[images], activation="relu"),
        ):
            assert in_order(result, order).strides == result.strides


def test_results_do_not_share_memory_with_arguments_or_each_other(rng):
    """Recycled buffers come back only when the array in them is gone."""
    x, kernel = rng.standard_normal((2, 3, 16, 16), np.float32), np.ones((4, 3, 3, 3), np.float32)
    results = [fastconv.conv2d(x, kernel, padding=1) for _ in range(20)]
    for i, result in enumerate(results):
        assert not np.shares_memory(result, x)
        assert not any(np.shares_memory(result, other) for other in results[:i])
    view = results[0][1, 2]
    values = view.copy()
    del results, result
    for _ in range(20):
        fastconv.conv2d(-x, kernel, padding=1)
    assert_same_bits(view, values, "a view keeps its buffer")
