"""Operations on arrays, without state: convolution, pooling, dense layers, losses.

Images are logically ``(N, C, H, W)``.  What lies contiguous is the strides' business: a
C-contiguous array and a *channels-last* one (``(N, H, W, C)`` memory seen through
``transpose(0, 3, 1, 2)``) are both read where they lie, and results come in the same order.
Where a batch is taken, a single image ``(C, H, W)`` is too.

Float32 arrays (and float16) compute in float32; one float64 array makes it float64; integer and
bool arrays follow the float ones, and alone they compute in float64.

A wrong argument raises ValueError or TypeError, which names it, what was expected and what came;
a result too large to allocate raises MemoryError.

Each operation has a plain NumPy twin of the same name in `fastconv.reference`.
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
from .convolution import (
    conv2d,
    conv2d_backward_bias,
    conv2d_backward_input,
    conv2d_backward_kernel,
)
from .dense import dense, dense_backward
from .global_pooling import (
    global_avg_pool2d,
    global_avg_pool2d_backward,
    global_max_pool2d,
    global_max_pool2d_backward,
)
from .loss import (
    binary_cross_entropy,
    huber,
    mean_squared_error,
    softmax_cross_entropy,
)
from .memory_order import as_channels_last, as_contiguous, empty
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
    max_pool2d,
    max_pool2d_backward,
)
from .resizing import pad2d, pad2d_backward, upsample2d, upsample2d_backward
from .shapes import output_shape
from .transposed import (
    conv_transpose2d,
    conv_transpose2d_backward_input,
    conv_transpose2d_backward_kernel,
)

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
