"""Every operation of `fastconv.functional` in plain NumPy: the oracle and the documentation.

The functions here have the names and the signatures of their fast twins and are written to be
read: a formula in the docstring, then the same formula as code. They take every argument the fast
ones take, compute in float64 whatever they are given, and round once, at the end, to the result's
dtype. That makes them the yardstick of the tests, and the place to look when a convention is in
doubt. They are slow, and they check only what would otherwise give a silently wrong answer.

One picture serves the convolution, its two gradients and pooling. Along one axis, tap ``k`` of
the window that makes output ``o`` lies on input

    i = o * stride + k * dilation - before

where ``before`` is the padding in front of the axis. For one tap, the outputs whose ``i`` falls
inside the image are a plain range, and so are the inputs they meet: two slices. All four
operations walk over the taps and do their arithmetic on such a pair of slices,

    y[oh, ow]   += kernel[kh, kw] * x[ih, iw]          convolution
    dx[ih, iw]  += kernel[kh, kw] * dy[oh, ow]         gradient with respect to the input
    dk[kh, kw]   = sum of dy[oh, ow] * x[ih, iw]       gradient with respect to the kernel
    y[oh, ow]    = max(y[oh, ow], x[ih, iw])           max pooling

A tap that lies in the padding is skipped here. The fast twins may multiply it by zero instead,
which differs only where the other factor is infinite or NaN.

There is one way to sum here, whatever ``algorithm`` says.

The dtype rule: the result is float64 if any floating-point array given is float64, or if none is
floating-point; otherwise it is float32 (float16 counts as float32). Complex, object, string and
long double arrays are refused.
"""

from .activation import (
    gelu,
    gelu_backward,
    leaky_relu,
    leaky_relu_backward,
    log_softmax,
    log_softmax_backward,
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    silu,
    silu_backward,
    softmax,
    softmax_backward,
    tanh,
    tanh_backward,
)
from .addition import add
from .arrays import as_channels_last, as_contiguous, empty
from .convolution import (
    conv2d,
    conv2d_backward_bias,
    conv2d_backward_input,
    conv2d_backward_kernel,
)
from .dense import dense, dense_backward
from .loss import (
    binary_cross_entropy,
    huber,
    mean_squared_error,
    softmax_cross_entropy,
)
from .normalization import (
    batch_norm,
    batch_norm_backward,
    batch_norm_train,
    group_norm,
    group_norm_backward,
    layer_norm,
    layer_norm_backward,
)
from .pooling import (
    adaptive_avg_pool2d,
    adaptive_avg_pool2d_backward,
    avg_pool2d,
    avg_pool2d_backward,
    global_avg_pool2d,
    global_avg_pool2d_backward,
    global_max_pool2d,
    global_max_pool2d_backward,
    max_pool2d,
    max_pool2d_backward,
)
from .resizing import pad2d, pad2d_backward, upsample2d, upsample2d_backward
from .transposed import (
    conv_transpose2d,
    conv_transpose2d_backward_input,
    conv_transpose2d_backward_kernel,
)
from .windows import output_shape

__all__ = [
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_backward",
    "add",
    "as_channels_last",
    "as_contiguous",
    "avg_pool2d",
    "avg_pool2d_backward",
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_train",
    "binary_cross_entropy",
    "conv2d",
    "conv2d_backward_bias",
    "conv2d_backward_input",
    "conv2d_backward_kernel",
    "conv_transpose2d",
    "conv_transpose2d_backward_input",
    "conv_transpose2d_backward_kernel",
    "dense",
    "dense_backward",
    "empty",
    "gelu",
    "gelu_backward",
    "global_avg_pool2d",
    "global_avg_pool2d_backward",
    "global_max_pool2d",
    "global_max_pool2d_backward",
    "group_norm",
    "group_norm_backward",
    "huber",
    "layer_norm",
    "layer_norm_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "log_softmax",
    "log_softmax_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "mean_squared_error",
    "output_shape",
    "pad2d",
    "pad2d_backward",
    "relu",
    "relu_backward",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
    "softmax",
    "softmax_backward",
    "softmax_cross_entropy",
    "tanh",
    "tanh_backward",
    "upsample2d",
    "upsample2d_backward",
]
