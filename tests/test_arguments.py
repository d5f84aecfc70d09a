"""Every argument of every operation is checked, and the error names it.

A wrong argument raises ValueError or TypeError, begins with the argument's name, and leaves the
arrays as they were. Nothing is converted silently: a stride of 1.5 is not 1, True is not 1.
"""

import itertools

import numpy as np
import pytest
from arrays import assert_same
from calls import BIAS, CALLS, DY, FLAT, INDICES, KERNEL, LABELS, LOGITS, MATRIX, X, call

import fastconv
from fastconv import reference

OF_ANY_AXES = (
    "relu", "leaky_relu", "sigmoid", "tanh", "silu", "gelu", "softmax", "log_softmax",
)  # fmt: skip
CONVOLUTIONS = ("conv2d", "conv2d_backward_input", "conv2d_backward_kernel")
ARRAYS = [
    (operation, argument)
    for operation, arguments in CALLS.items()
    for argument, value in arguments.items()
    if isinstance(value, np.ndarray) and value.dtype.kind == "f"
]


def refused(operation: str, argument: str, value, *others: str) -> None:
    """The call fails and its message begins with the argument (or with one of the others)."""
    names = "|".join((argument, *others))
    with pytest.raises((ValueError, TypeError), match=rf"^({names})\b"):
        call(operation, **{argument: value})


@pytest.mark.parametrize("operation", CALLS)
def test_the_valid_calls_are_valid(operation):
    before = {k: v.copy() for k, v in CALLS[operation].items() if isinstance(v, np.ndarray)}
    call(operation)
    for argument, copy in before.items():
        assert_same(CALLS[operation][argument], copy, f"{operation} changed {argument}")


# -- numbers ---------------------------------------------------------------------------------------

NOT_A_PAIR = ["1", None, (), (1,), (1, 2, 3), {1, 2}, object(), np.ones((2, 2), int)]
NOT_POSITIVE = [0, -1, (0, 1), (1, 0), (1, -1), -(2**63), 2**64]
NOT_INTEGER = [1.0, 1.5, True, np.True_, np.float64(1), (1.0, 1), (1, True), "12", 1j, np.nan]


def id_of(value) -> str:
    plain = isinstance(value, (int, float, complex, str, bytes, tuple, type(None)))
    return repr(value) if plain else type(value).__name__


@pytest.mark.parametrize("value", NOT_A_PAIR + NOT_POSITIVE + NOT_INTEGER, ids=id_of)
@pytest.mark.parametrize("argument", ["stride", "dilation"])
@pytest.mark.parametrize("operation", [*CONVOLUTIONS, "max_pool2d"])
def test_stride_and_dilation(operation, argument, value):
    if value is None and (operation, argument) == ("max_pool2d", "stride"):
        return  # the size
    refused(operation, argument, value)


@pytest.mark.parametrize("value", NOT_A_PAIR + NOT_POSITIVE + NOT_INTEGER, ids=id_of)
def test_pool_size(value):
    refused("max_pool2d", "size", value)


@pytest.mark.parametrize(
    "value",
    [
        *(-1, (0, -1), ((0, 0), (-1, 0)), ((0, -1), (0, 0)), -(2**63), 2**64),
        *(1.0, 0.5, True, (1, False), ((0, 0), (0, 1.0)), np.float32(1)),
        *("full", "SAME ", "", b"same", None, (), (1,), (1, 2, 3), {1, 2}, object()),
        *(
            ((1, 2),),
            ((1, 2), (3,)),
            ((1, 2), (3, 4), (5, 6)),
            (1, 2, 3, 4),
            ((1, 2, 3), (4, 5, 6)),
        ),
        *(((1, 2), None), np.ones((2, 2, 2), int)),
    ],
    ids=id_of,
)
@pytest.mark.parametrize("operation", [*CONVOLUTIONS, "max_pool2d"])
def test_padding(operation, value):
    refused(operation, "padding", value)


@pytest.mark.parametrize("value", ["same", "valid", ((0, 0), (0, 0)), 2, (0, 2)], ids=id_of)
def test_padding_of_pooling(value):
    """Numbers only, and at most half the window."""
    refused("max_pool2d", "padding", value)


@pytest.mark.parametrize(
    "value",
    [0, -1, 3, 5, 100, -(2**63), 2**63, 2**64, 1.0, 2.5, True, "1", None, (1,), (1, 1)],
    ids=id_of,
)
@pytest.mark.parametrize("operation", CONVOLUTIONS)
def test_groups(operation, value):
    refused(operation, "groups", value)


def test_groups_that_divide_one_side_only():
    with pytest.raises(ValueError, match=r"^groups\b"):
        fastconv.conv2d(X, np.ones((6, 1, 3, 3), np.float32), groups=4)
    with pytest.raises(ValueError, match=r"^groups\b"):
        fastconv.conv2d(X, np.ones((6, 1, 3, 3), np.float32), groups=3)


@pytest.mark.parametrize(
    "value", ["tanh", "ReLU", "", 1, True, False, np.tanh, ("relu",)], ids=id_of
)
@pytest.mark.parametrize("operation", ["conv2d", "dense"])
def test_activation(operation, value):
    refused(operation, "activation", value)


@pytest.mark.parametrize("kind", [int, np.int8, np.uint8, np.int32, np.int64, np.uint64, np.intp])
def test_any_kind_of_integer_is_accepted(kind):
    two, one = kind(2), kind(1)
    expected = reference.conv2d(X, KERNEL[:, :2], stride=2, padding=1, dilation=2, groups=2)
    for pair in (two, (two, two), [two, two]):
        got = fastconv.conv2d(X, KERNEL[:, :2], stride=pair, padding=one, dilation=pair, groups=two)
        assert_same(got, expected, pair)
    got = fastconv.conv2d(X, KERNEL, padding=((one, two), (two, one)))
    assert_same(got, reference.conv2d(X, KERNEL, padding=((1, 2), (2, 1))), kind)
    assert_same(fastconv.max_pool2d(X, two), reference.max_pool2d(X, 2), kind)
    shape = np.array(X.shape, kind)
    got = fastconv.conv2d_backward_input(DY, KERNEL, shape)
    assert_same(got, reference.conv2d_backward_input(DY, KERNEL, X.shape), kind)


@pytest.mark.parametrize(
    "operation, argument",
    [
        *itertools.product([*CONVOLUTIONS, "max_pool2d"], ["stride", "padding", "dilation"]),
        ("max_pool2d", "size"),
    ],
)
@pytest.mark.parametrize("value", [2**20, 2**31 - 1, 2**31, 2**33, 2**40, 2**55, 2**62, 2**63 - 1])
def test_huge_numbers_are_refused_or_right(operation, argument, value):
    """No product of sizes overflows unnoticed."""
    if argument == "stride" and operation in ("conv2d", "max_pool2d") and value <= 2**40:
        far_apart = call(operation, stride=100)
        assert_same(call(operation, stride=value), far_apart, value)
    else:
        with pytest.raises((ValueError, MemoryError)):
            call(operation, **{argument: value})


# -- arrays ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        None,
        "abc",
        object(),
        [[1, 2], [3]],
        {},
        pytest.param("complex64", id="complex64"),
        pytest.param("complex128", id="complex128"),
        pytest.param("O", id="object"),
        pytest.param("U4", id="str"),
        pytest.param("S4", id="bytes"),
        pytest.param("longdouble", id="longdouble"),
        pytest.param("M8[s]", id="datetime"),
        pytest.param("V4", id="void"),
    ],
    ids=id_of,
)
@pytest.mark.parametrize("operation, argument", ARRAYS)
def test_arrays_of_numbers_only(operation, argument, value):
    if argument == "bias" and value is None:
        return  # no bias
    shape = CALLS[operation][argument].shape
    if isinstance(value, str) and value != "abc":
        value = np.zeros(shape, value)
    # Text is an array without axes, so its shape may be found wrong first, or the other's.
    pairwise = operation.endswith(("add", *(f"{name}_backward" for name in OF_ANY_AXES)))
    refused(operation, argument, value, *(["x", "y"] if pairwise else []))


@pytest.mark.parametrize(
    "operation, argument",
    [pair for pair in ARRAYS if not pair[0].startswith(OF_ANY_AXES)]
    + [("softmax_cross_entropy", "logits")],
)
def test_number_of_axes(operation, argument):
    array = CALLS[operation][argument]
    row = array[(0,) * (array.ndim - 1)]
    for value in (
        array[None],
        array[(None,) * 3],
        np.float32(1),
        *([row] if array.ndim > 1 else []),
    ):
        refused(operation, argument, value, *CALLS[operation])


def shapes_of(operation: str, argument: str, *wrong: tuple[int, ...]):
    return [(operation, argument, shape) for shape in wrong]


@pytest.mark.parametrize(
    "operation, argument, shape",
    [
        *shapes_of("conv2d", "x", (2, 3, 7, 8), (2, 5, 7, 8), (2, 0, 7, 8), (2, 4, 2, 8)),
        *shapes_of("conv2d", "kernel", (6, 3, 3, 3), (6, 8, 3, 3), (6, 4, 0, 3), (6, 4, 3, 0)),
        *shapes_of("conv2d", "kernel", (6, 4, 8, 3), (6, 4, 3, 9), (6, 4, 8, 9)),
        *shapes_of("conv2d", "bias", (5,), (7,), (1,), (0,), (6, 1), (1, 6)),
        *shapes_of("conv2d_backward_input", "dy", (2, 5, 5, 6), (2, 6, 4, 6), (2, 6, 5, 7)),
        *shapes_of("conv2d_backward_input", "dy", (3, 6, 5, 6), (0, 6, 5, 6), (2, 6, 0, 0)),
        *shapes_of("conv2d_backward_input", "kernel", (5, 4, 3, 3), (6, 3, 3, 3), (6, 4, 2, 3)),
        *shapes_of("conv2d_backward_input", "kernel", (6, 4, 3, 4), (6, 4, 0, 0), (6, 4, 9, 9)),
        *shapes_of("conv2d_backward_kernel", "dy", (2, 5, 5, 6), (2, 6, 4, 6), (2, 6, 5, 7)),
        *shapes_of("conv2d_backward_kernel", "dy", (3, 6, 5, 6), (0, 6, 5, 6), (2, 6, 0, 0)),
        *shapes_of("conv2d_backward_kernel", "x", (2, 3, 7, 8), (1, 4, 7, 8), (2, 4, 8, 8)),
        *shapes_of("max_pool2d", "x", (2, 4, 1, 8), (2, 4, 7, 1), (2, 4, 0, 0)),
        *shapes_of("max_pool2d_backward", "dy", (2, 4, 3, 3), (1, 4, 3, 4), (2, 3, 3, 4)),
        *shapes_of("max_pool2d_backward", "dy", (0, 4, 3, 4), (4, 3, 4)),
        *shapes_of("dense", "x", (5, 4), (5, 2), (5, 0)),
        *shapes_of("dense", "kernel", (4, 2), (3, 4)),
        *shapes_of("dense", "bias", (3,), (5,), (1,), (4, 1)),
        *shapes_of("dense_backward", "dy", (5, 3), (4, 4), (0, 4)),
        *shapes_of("dense_backward", "x", (4, 3), (5, 4), (0, 3)),
        *shapes_of("dense_backward", "kernel", (3, 3), (4, 4)),
        *shapes_of("relu_backward", "dy", (2, 4, 7, 1), (1,), (4, 7, 8)),
        *shapes_of("relu_backward", "y", (2, 4, 7, 1), (1,), (4, 7, 8)),
        *shapes_of("add", "y", (2, 4, 7, 1), (1,), (4, 7, 8)),
    ],
    ids=str,
)
def test_shapes(operation, argument, shape):
    """One argument that does not fit the others; any of them may be named."""
    names = "|".join(CALLS[operation])
    with pytest.raises(ValueError, match=rf"^({names})\b"):
        call(operation, **{argument: np.ones(shape, np.float32)})


@pytest.mark.parametrize(
    "shape",
    [
        *(5, None, "abcd", (), (2, 4), (2, 4, 7), (1, 2, 4, 7, 8), {2, 4, 7, 8}),
        *((2, 4, 7.0, 8), (2, 4, True, 8), (2, 4, -7, 8), (2, 4, "7", 8), (-2, 4, 7, 8)),
        *((2, 3, 7, 8), (3, 4, 7, 8), (2, 4, 6, 8), (2, 4, 7, 9), (2, 4, 0, 0), (0, 4, 7, 8)),
        *((2**63, 4, 7, 8), (2, 4, 2**40, 8), (-536870912,) * 4),
    ],
    ids=id_of,
)
def test_input_shape(shape):
    for operation in ("conv2d_backward_input", "max_pool2d_backward"):
        others = ("dy", "kernel", "indices")
        if operation == "max_pool2d_backward" and shape in ((2, 4, 7, 9), (2, 4, 2**40, 8)):
            continue  # the indices fit a larger plane too
        refused(operation, "input_shape", shape, *others)


@pytest.mark.parametrize(
    "shape",
    [
        *(5, None, "abcd", (), (6, 4), (6, 4, 3), (1, 6, 4, 3, 3)),
        *((6, 4, 3.0, 3), (6, 4, True, 3), (6, 4, -3, 3), (6, 4, 0, 3), (6, 4, 3, 0)),
        *((5, 4, 3, 3), (6, 3, 3, 3), (6, 4, 2, 3), (6, 4, 3, 4), (6, 4, 9, 9), (2**63, 4, 3, 3)),
    ],
    ids=id_of,
)
def test_kernel_shape(shape):
    refused("conv2d_backward_kernel", "kernel_shape", shape, "dy", "x")


def test_one_batched_one_not():
    refused("conv2d_backward_kernel", "dy", DY[0], "x")
    refused("conv2d_backward_kernel", "x", X[0], "dy")
    refused("conv2d_backward_input", "dy", DY[0], "input_shape")
    refused("conv2d_backward_input", "input_shape", X.shape[1:], "dy")
    refused("max_pool2d_backward", "input_shape", X.shape[1:], "dy")


def test_axes_of_activations():
    with pytest.raises((ValueError, TypeError), match=r"^x\b"):
        fastconv.relu(X[None])
    for operation in (fastconv.softmax, fastconv.log_softmax):
        for x in (np.float32(1), np.zeros((3, 0))):
            with pytest.raises((ValueError, TypeError), match=r"^x\b"):
                operation(x)
    with pytest.raises(ValueError, match=r"^logits\b"):
        fastconv.softmax_cross_entropy(LOGITS[:0], LABELS[:0])


def test_windows_that_see_no_pixel():
    """Taps at -1 and 1 around an image of one row: there is no largest of nothing."""
    for rest in ({"stride": 1}, {"stride": 1, "return_indices": True}):
        with pytest.raises(ValueError, match=r"^(padding|dilation)\b"):
            fastconv.max_pool2d(X[:, :, :1], (2, 1), padding=(1, 0), dilation=(2, 1), **rest)


@pytest.mark.parametrize("value", [None, 1, 0.0, "yes", (True,)], ids=id_of)
def test_switches(value):
    refused("max_pool2d", "ceil_mode", value)
    refused("max_pool2d", "return_indices", value)
    refused("empty", "channels_last", value)


@pytest.mark.parametrize("stride", [1, 2])
def test_kernel_larger_than_the_padded_image(stride):
    """In C ``(2 - 3) / 2 + 1`` is 1: one pixel, read outside of the image."""
    kernel = np.ones((6, 4, 3, 3), np.float32)
    for x in (X[:, :, :2], X[:, :, :, :2], X[:, :, :0], X[:, :, :, :0]):
        with pytest.raises(ValueError, match=r"^(kernel|x)\b"):
            fastconv.conv2d(x, kernel, stride=stride)
        with pytest.raises(ValueError, match=r"^(size|x)\b"):
            fastconv.max_pool2d(x, 3, stride=stride)
    with pytest.raises(ValueError, match=r"^kernel\b"):
        fastconv.conv2d(X[:, :, :2], kernel, padding=1, dilation=2, stride=stride)


# -- out -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", CONVOLUTIONS)
def test_out(operation):
    expected = call(operation)
    for wrong in (
        np.empty(expected.shape[1:], np.float32),
        np.empty((1, *expected.shape), np.float32),
        np.empty((*expected.shape[:3], expected.shape[3] + 1), np.float32),
        np.empty(expected.size, np.float32),
        np.empty(expected.shape, np.float64),
        np.empty(expected.shape, np.float16),
        np.empty(expected.shape, np.int32),
        np.empty(expected.shape, np.complex64),
        np.empty(expected.shape, object),
        expected.tolist(),
        "out",
        (np.empty(expected.shape, np.float32),),
        True,
    ):
        refused(operation, "out", wrong)
    read_only = np.zeros(expected.shape, np.float32)
    read_only.flags.writeable = False
    refused(operation, "out", read_only)
    refused(operation, "out", np.broadcast_to(np.float32(0), expected.shape))
    assert not read_only.any()


@pytest.mark.parametrize("operation", CONVOLUTIONS)
def test_out_may_not_overlap_the_operands(operation):
    """Written while the operands are still read, it would give a wrong result silently."""
    expected = call(operation)
    for argument, array in CALLS[operation].items():
        if not isinstance(array, np.ndarray):
            continue
        memory = np.zeros(array.size + expected.size - 1, np.float32)
        operand = memory[: array.size].reshape(array.shape)
        operand[...] = array
        before = memory.copy()
        out = memory[array.size - 1 :].reshape(expected.shape)
        with pytest.raises(ValueError, match=r"^out\b"):
            call(operation, **{argument: operand, "out": out})
        assert np.array_equal(memory, before)


# -- indices and labels ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.float32, np.float64, bool, complex, object, "U2"])
def test_kinds_of_indices(kind):
    refused("max_pool2d_backward", "indices", INDICES.astype(kind))
    refused("softmax_cross_entropy", "labels", LABELS.astype(kind))


@pytest.mark.parametrize("kind", [np.int32, np.int64])
@pytest.mark.parametrize("value", [-1, 56, 57, 2**31 - 1, -(2**31)])
@pytest.mark.parametrize("place", [(0, 0, 0, 0), (1, 3, 2, 3), (0, 2, 1, 3)])
def test_indices_outside_of_the_plane(place, value, kind):
    indices = INDICES.astype(kind)
    indices[place] = value
    refused("max_pool2d_backward", "indices", indices)


def test_indices_beyond_32_bits():
    for value in (2**32, 2**32 + 5, -(2**32), 2**63 - 1):
        indices = INDICES.astype(np.int64)
        indices[1, 1, 1, 1] = value
        refused("max_pool2d_backward", "indices", indices)


def test_shapes_of_indices():
    for indices in (INDICES[:1], INDICES[:, :1], INDICES[..., :3], INDICES[0], INDICES[None], 0):
        refused("max_pool2d_backward", "indices", indices, "dy")


@pytest.mark.parametrize(
    "labels", [[0, 1, 2, 3, 0], [-1, 0, 0, 0, 0], [0, 0, 0, 0, 2**40]], ids=str
)
def test_labels_out_of_range(labels):
    refused("softmax_cross_entropy", "labels", np.array(labels))


@pytest.mark.parametrize("shape", [(), (4,), (6,), (0,), (5, 1), (5, 3), (1, 5)], ids=str)
def test_shapes_of_labels(shape):
    refused("softmax_cross_entropy", "labels", np.zeros(shape, int))


# -- what is allowed -------------------------------------------------------------------------------

# Kinds of x and of the kernel -> kind of the result.
DTYPES = {
    ("f4", "f4"): "f4",
    ("f2", "f4"): "f4",
    ("f2", "f2"): "f4",
    ("f4", "f8"): "f8",
    ("f8", "f4"): "f8",
    ("f2", "f8"): "f8",
    ("u1", "f4"): "f4",
    ("i8", "f4"): "f4",
    ("?", "f4"): "f4",
    ("f4", "i4"): "f4",
    ("u1", "f2"): "f4",
    ("i4", "f8"): "f8",
    ("u1", "i1"): "f8",
    ("?", "?"): "f8",
    (">f4", ">f4"): "f4",
    (">f8", "<f4"): "f8",
    (">i2", ">f4"): "f4",
}


@pytest.mark.parametrize("kinds", DTYPES, ids=str)
def test_dtype_rule(kinds):
    x, kernel = (a.astype(kind) for a, kind in zip((X // 8, KERNEL), kinds, strict=True))
    dtype = np.dtype(DTYPES[kinds])
    y = fastconv.conv2d(x, kernel)
    assert y.dtype == dtype and y.dtype.isnative
    assert_same(y, reference.conv2d(x, kernel), kinds)
    assert fastconv.conv2d(x, kernel, np.ones(6, np.float64)).dtype == np.float64
    dy = DY.astype(kinds[1])
    assert_same(
        fastconv.conv2d_backward_input(x[:, :1, :5, :6].repeat(6, 1), kernel, X.shape),
        reference.conv2d_backward_input(x[:, :1, :5, :6].repeat(6, 1), kernel, X.shape),
        kinds,
    )
    assert_same(
        fastconv.conv2d_backward_kernel(dy, x, KERNEL.shape),
        reference.conv2d_backward_kernel(dy, x, KERNEL.shape),
        kinds,
    )
    flat, matrix = FLAT.astype(kinds[0]), MATRIX.astype(kinds[1])
    assert_same(fastconv.dense(flat, matrix), reference.dense(flat, matrix), kinds)
    assert fastconv.dense_backward(flat[:, [0] * 4], flat, matrix)[1].dtype == dtype
    assert_same(fastconv.relu_backward(x, x), reference.relu_backward(x, x), kinds)
    assert_same(fastconv.max_pool2d(x, 2), reference.max_pool2d(x, 2), kinds)
    assert_same(fastconv.relu(x), reference.relu(x), kinds)


def test_lists_are_arrays():
    assert_same(
        fastconv.conv2d(X.tolist(), KERNEL.tolist()), reference.conv2d(X, KERNEL).astype(float), ""
    )
    assert_same(
        fastconv.dense(FLAT.tolist(), MATRIX), reference.dense(FLAT, MATRIX).astype(float), ""
    )


def test_empty_batch():
    assert fastconv.conv2d(X[:0], KERNEL, BIAS).shape == (0, 6, 5, 6)
    dk = fastconv.conv2d_backward_kernel(DY[:0], X[:0], KERNEL.shape)
    assert dk.shape == KERNEL.shape and not dk.any()
    y, indices = fastconv.max_pool2d(X[:0], 2, return_indices=True)
    assert y.shape == indices.shape == (0, 4, 3, 4)
    assert fastconv.max_pool2d_backward(y, indices, (0, 4, 7, 8)).shape == (0, 4, 7, 8)
    assert fastconv.dense(FLAT[:0], MATRIX).shape == (0, 4)
    assert not fastconv.dense_backward(np.zeros((0, 4), np.float32), FLAT[:0], MATRIX)[1].any()


@pytest.mark.parametrize(
    "shape", [5, (2, -1, 4, 5), (2, 3.0, 4, 5), "abc", None, (2, True, 4, 5)], ids=id_of
)
def test_shape_of_empty(shape):
    if shape == 5:
        with pytest.raises((ValueError, TypeError), match=r"^shape\b"):
            fastconv.empty(shape, np.float32, channels_last=True)
    else:
        refused("empty", "shape", shape)


@pytest.mark.parametrize(
    "dtype", [np.int32, complex, object, "U3", np.longdouble, np.float16], ids=str
)
def test_dtype_of_empty(dtype):
    refused("empty", "dtype", dtype)


# -- what few callers meet -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "refusal, call",
    {
        "kernel: expected no empty": lambda: fastconv.dense(FLAT[:, :0], MATRIX[:, :0]),
        "stride: expected a result": lambda: call("conv_transpose2d", stride=2**39),
        "x: expected planes of at most": lambda: fastconv.max_pool2d(
            np.broadcast_to(np.float32(0), (1, 1, 2**16, 2**16)), 2
        ),
        "x: expected at least one value": lambda: fastconv.batch_norm_train(
            X[:0], BIAS[:4], BIAS[:4]
        ),
        "input_shape: expected at least one": lambda: fastconv.training.max_pool2d_taps_backward(
            DY[:, :0], DY[:, :0].astype(np.uint8), (2, 0, 5, 6), 1
        ),
        "cannot allocate planes": lambda: fastconv.upsample2d(X[:0], 2**39),
        "cannot allocate planes of": lambda: fastconv.upsample2d(
            np.broadcast_to(np.float32(0), (1, 1, 2**11, 1)), 2**40
        ),
        "cannot allocate an array": lambda: fastconv.explain(
            "conv2d", (2**30, 1, 2**15, 2**15), (1, 1, 1, 1)
        ),
    }.items(),
    ids=id_of,
)
def test_rare_refusals(refusal, call):
    with pytest.raises((ValueError, MemoryError), match=f"^{refusal}"):
        call()


def test_memory_that_no_nest_reads():
    """Neither channels nor rows lie densely, or an element is not at a multiple of its size."""
    dense = fastconv.conv2d(X, KERNEL)
    apart = np.repeat(X, 2, axis=3)[..., ::2]
    assert_same(fastconv.conv2d(apart, KERNEL), dense, "columns apart")
    records = np.zeros(X.shape, [("a", "i1"), ("x", "f4")])
    records["x"] = X
    assert_same(fastconv.conv2d(records["x"], KERNEL), dense, "in records")
    out = np.zeros(dense.shape, [("a", "i1"), ("y", "f4")])["y"]
    assert_same(fastconv.conv2d(X, KERNEL, out=out), dense, "into records")
    # An axis of one image may have any step, and NumPy calls the array aligned.
    odd, out = (
        np.lib.stride_tricks.as_strided(a[:1], strides=(3, *a.strides[1:]))
        for a in (X, np.zeros_like(dense))
    )
    assert odd.flags.aligned
    assert_same(fastconv.conv2d(odd, KERNEL, out=out), dense[:1], "an odd step")
