"""What hypothesis draws: arrays in any memory, and a valid call of every operation.

A call is ``(name, arrays, arguments, keywords)``: the operation, its leading array arguments, and
the rest. Arrays hold small integers in halves, so that sums of products are exact in float32 and
float64, and operations that only add and multiply can be compared to the bit.
"""

import numpy as np
from arrays import in_order
from hypothesis import strategies as st

from fastconv import reference

SEED = st.integers(0, 2**32 - 1)
ACTIVATION = st.sampled_from([None, "relu"])
small = st.integers


@st.composite
def array(draw, shape, dtype, positive=False):
    """Halves from -8 to 8, in C order, channels-last, reversed, with gaps or read-only."""
    rng = np.random.default_rng(draw(SEED))
    values = (rng.integers(1 if positive else -16, 17, shape) / 2).astype(dtype)
    kind = draw(st.sampled_from(["plain", "last", "reversed", "gaps", "read-only"]))
    if kind == "last" and len(shape) >= 3:
        return in_order(values, "channels_last")
    if kind == "reversed" and len(shape):
        return values[::-1].copy()[::-1]
    if kind == "gaps" and len(shape):
        return np.repeat(values, 2, axis=-1)[..., ::2]
    if kind == "read-only":
        values.flags.writeable = False
    return values


def pair(low, high):
    """One number for both axes, or two."""
    return small(low, high) | st.tuples(small(low, high), small(low, high))


def both(value):
    return value if isinstance(value, tuple) else (value, value)


@st.composite
def image_shape(draw, least=1):
    """(N, C, H, W) or (C, H, W); a batch may be empty."""
    shape = draw(st.tuples(small(1, 9), small(least, 12), small(least, 12)))
    batch = draw(st.sampled_from([None, 0, 1, 2, 3]))
    return shape if batch is None else (batch, *shape)


@st.composite
def convolution(draw, name, dtype):
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    ic, oc = groups * draw(small(1, 5)), groups * draw(small(1, 9))
    kh, kw = draw(small(1, 4)), draw(small(1, 4))
    stride, dilation = draw(pair(1, 3)), draw(pair(1, 2))
    padding = draw(
        pair(0, 2)
        | st.sampled_from(["same", "valid"])
        | st.tuples(*[st.tuples(small(0, 2), small(0, 2))] * 2)
    )  # fmt: skip
    extent = [(k - 1) * d + 1 for k, d in zip((kh, kw), both(dilation), strict=True)]
    ih, iw = (draw(small(least, least + 9)) for least in extent)
    batch = draw(st.sampled_from([(), (0,), (1,), (2,), (3,)]))
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    x = draw(array((*batch, ic, ih, iw), dtype))
    if name.startswith("conv_transpose2d"):
        kernel = draw(array((ic, oc // groups, kh, kw), dtype))
    else:
        kernel = draw(array((oc, ic // groups, kh, kw), dtype))
    forward = name.removesuffix("_backward_input").removesuffix("_backward_kernel")
    if name == forward:
        bias = draw(st.none() | array((oc,), dtype))
        return [x, kernel], [bias], options | {"activation": draw(ACTIVATION)}
    y = getattr(reference, forward)(x, kernel, **options)
    dy = draw(array(y.shape, dtype))
    if name.endswith("input"):
        return [dy, kernel], [x.shape], options
    return [dy, x], [kernel.shape], options


@st.composite
def transposed(draw, name, dtype):
    """Padding that leaves something of the result."""
    kind = name  # the geometry is drawn as for a convolution, then refused where nothing is left
    return draw(convolution(kind, dtype).filter(lambda call: min(call[0][0].shape[-2:]) > 0))


@st.composite
def pooling(draw, name, dtype):
    shape = draw(image_shape(least=4))
    size = draw(pair(1, 4))
    padding = tuple(draw(small(0, k // 2)) for k in both(size))
    options = {
        "stride": draw(st.none() | pair(1, 3)), "padding": padding, "ceil_mode": draw(st.booleans())
    }  # fmt: skip
    x = draw(array(shape, dtype))
    if name.startswith("max_pool2d"):
        found = reference.max_pool2d(x, size, **options, return_indices=True)
        if name == "max_pool2d":
            return [x], [size], options | {"return_indices": True}
        return [draw(array(found[0].shape, dtype)), found[1]], [shape], {}
    options["count_include_pad"] = draw(st.booleans())
    if name == "avg_pool2d":
        return [x], [size], options
    y = reference.avg_pool2d(x, size, **options)
    return [draw(array(y.shape, dtype))], [shape, size], options


@st.composite
def adaptive(draw, name, dtype):
    shape, size = draw(image_shape()), draw(pair(1, 6))
    if name == "adaptive_avg_pool2d":
        return [draw(array(shape, dtype))], [size], {}
    return [draw(array((*shape[:-2], *both(size)), dtype))], [shape], {}


@st.composite
def global_pooling(draw, name, dtype):
    shape = draw(image_shape())
    if not name.endswith("backward"):
        return [draw(array(shape, dtype))], [], {}
    last = {"channels_last": draw(st.booleans())}
    dy = draw(array(shape[:-2], dtype))
    if "avg" in name:
        return [dy], [shape], last
    _, indices = reference.global_max_pool2d(draw(array(shape, dtype)), return_indices=True)
    return [dy, indices], [shape], last


@st.composite
def border(draw, name, dtype):
    shape = draw(image_shape(least=3))
    mode = draw(st.sampled_from(["constant", "reflect", "replicate", "circular"]))
    padding = draw(pair(0, 2) | st.tuples(*[st.tuples(small(0, 2), small(0, 2))] * 2))
    if name == "pad2d":
        value = draw(small(-3, 3)) if mode == "constant" else 0
        return [draw(array(shape, dtype))], [padding, mode, value], {}
    y = reference.pad2d(np.zeros(shape, dtype), padding, mode)
    return [draw(array(y.shape, dtype))], [padding, mode], {}


@st.composite
def enlargement(draw, name, dtype):
    shape, scale = draw(image_shape()), draw(pair(1, 4))
    mode = draw(st.sampled_from(["nearest", "bilinear"]))
    corners = mode == "bilinear" and draw(st.booleans())
    if name.endswith("backward"):
        sh, sw = both(scale)
        shape = (*shape[:-2], shape[-2] * sh, shape[-1] * sw)
    return [draw(array(shape, dtype))], [scale, mode, corners], {}


@st.composite
def norm(draw, name, dtype):
    groups = draw(small(1, 3))
    C = groups * draw(small(1, 6))
    shape = draw(st.sampled_from([(1, C), (3, C), (2, C, 3, 5), (1, C, 7, 2), (4, C, 1, 1)]))
    x = draw(array(shape, dtype))
    gamma, beta = draw(array((C,), dtype)), draw(array((C,), dtype))
    options = {"epsilon": draw(st.sampled_from([1e-3, 0.1, 1.0])), "activation": draw(ACTIVATION)}
    kind = name.removesuffix("_backward")
    group = [groups] if kind == "group_norm" else []
    if name == "batch_norm":
        mean, variance = draw(array((C,), dtype)), draw(array((C,), dtype, True))
        return [x, gamma, beta, mean, variance], [], options
    if name == "batch_norm_train":
        return [x, gamma, beta], [], options
    if name == kind:
        return [x, *group, gamma, beta], [], options | {"return_moments": True}
    if kind == "batch_norm":
        _, mean, variance = reference.batch_norm_train(x, gamma, beta, **options)
    else:
        _, mean, variance = getattr(reference, kind)(
            x, *group, gamma, beta, **options, return_moments=True
        )
    dy = draw(array(shape, dtype))
    need = {"need_dx": draw(st.booleans())}
    mean, variance = mean.astype(dtype), variance.astype(dtype)
    return [dy, x, *group, gamma, beta, mean, variance], [], options | need


@st.composite
def elementwise(draw, name, dtype):
    shape = draw(st.lists(small(0, 7), max_size=4).map(tuple))
    arrays = [draw(array(shape, dtype)) for _ in range(1 + name.endswith("backward"))]
    rest = {}
    if name.startswith("gelu"):
        rest = {"approximate": draw(st.sampled_from(["none", "tanh"]))}
    if name.startswith("leaky_relu"):
        rest = {"slope": draw(st.sampled_from([0, 0.25, 1, 2]))}
    if name == "add":
        arrays, rest = [arrays[0], draw(array(shape, dtype))], {"activation": draw(ACTIVATION)}
    if name in ("sigmoid_backward", "tanh_backward"):
        arrays[1] = arrays[1] / 16
    return arrays, [], rest


@st.composite
def rows(draw, name, dtype):
    shape = draw(st.tuples(small(0, 5), small(1, 20)))
    x = draw(array(shape, dtype))
    if not name.endswith("backward"):
        return [x], [], {}
    y = getattr(reference, name.removesuffix("_backward"))(x)
    return [draw(array(shape, dtype)), y.astype(dtype)], [], {}


@st.composite
def dense(draw, name, dtype):
    N, units, features = draw(small(0, 5)), draw(small(1, 20)), draw(small(1, 20))
    x, kernel = draw(array((N, features), dtype)), draw(array((units, features), dtype))
    if name == "dense":
        bias = draw(st.none() | array((units,), dtype))
        return [x, kernel], [bias], {"activation": draw(ACTIVATION)}
    dy = draw(array((N, units), dtype))
    return [dy, x, kernel], [], {"need_dx": draw(st.booleans())}


@st.composite
def loss(draw, name, dtype):
    N, C = draw(small(1, 6)), draw(small(2, 9))
    outputs = draw(array((N, C), dtype))
    weights = {"sample_weights": draw(st.none() | array((N,), dtype, True))}
    if name == "softmax_cross_entropy":
        labels = np.random.default_rng(draw(SEED)).integers(0, C, N)
        more = {
            "label_smoothing": draw(st.sampled_from([0.0, 0.1, 0.5])),
            "class_weights": draw(st.none() | array((C,), dtype, True)),
        }
        if N > 1 and draw(st.booleans()):
            more["ignore_label"] = int(labels[0])
            labels[1] = (labels[0] + 1) % C  # one that counts
        return [outputs, labels], [], weights | more
    if name == "binary_cross_entropy":
        targets = np.random.default_rng(draw(SEED)).integers(0, 2, (N, C)).astype(dtype)
        weights["pos_weight"] = draw(st.none() | array((C,), dtype, True))
        return [outputs, targets], [], weights
    delta = {"delta": draw(st.sampled_from([0.5, 1.0, 3.0]))} if name == "huber" else {}
    return [outputs, draw(array((N, C), dtype))], [], weights | delta


@st.composite
def bias_gradient(draw, name, dtype):
    return [draw(array(draw(image_shape()), dtype))], [], {}


FAMILIES = {
    convolution: ("conv2d", "conv2d_backward_input", "conv2d_backward_kernel"),
    transposed: (
        "conv_transpose2d", "conv_transpose2d_backward_input", "conv_transpose2d_backward_kernel",
    ),
    bias_gradient: ("conv2d_backward_bias",),
    pooling: ("max_pool2d", "max_pool2d_backward", "avg_pool2d", "avg_pool2d_backward"),
    adaptive: ("adaptive_avg_pool2d", "adaptive_avg_pool2d_backward"),
    global_pooling: (
        "global_avg_pool2d", "global_avg_pool2d_backward", "global_max_pool2d",
        "global_max_pool2d_backward",
    ),
    border: ("pad2d", "pad2d_backward"),
    enlargement: ("upsample2d", "upsample2d_backward"),
    norm: (
        "batch_norm", "batch_norm_train", "batch_norm_backward",
        "group_norm", "group_norm_backward",
        "layer_norm", "layer_norm_backward",
    ),
    elementwise: (
        "add", "relu", "relu_backward", "leaky_relu", "leaky_relu_backward",
        "gelu", "gelu_backward",
        "silu", "silu_backward", "sigmoid", "sigmoid_backward", "tanh", "tanh_backward",
    ),
    rows: ("softmax", "softmax_backward", "log_softmax", "log_softmax_backward"),
    dense: ("dense", "dense_backward"),
    loss: (
        "softmax_cross_entropy", "binary_cross_entropy", "huber", "mean_squared_error",
    ),
}  # fmt: skip
CALLS = {name: family for family, names in FAMILIES.items() for name in names}
# They add and multiply only: no rounding, in halves.
EXACT = {
    "conv2d", "conv2d_backward_input", "conv2d_backward_kernel", "conv2d_backward_bias",
    "conv_transpose2d", "conv_transpose2d_backward_input", "conv_transpose2d_backward_kernel",
    "max_pool2d", "max_pool2d_backward", "global_max_pool2d", "global_max_pool2d_backward",
    "pad2d", "pad2d_backward", "add", "relu", "relu_backward", "leaky_relu", "leaky_relu_backward",
    "dense", "dense_backward",
}  # fmt: skip
