"""Fast direct 2-D convolution on NumPy arrays, with its gradients, and small CNNs on top.

The floors of the house, each using those below it and none above::

    command line, pictures          fastconv.cli, fastconv.plot
    what a value inside can see     fastconv.receptive
    layers and training             fastconv.nn, fastconv.optim, fastconv.losses, fastconv.data
    a training step's own           fastconv.training
    classical kernels               fastconv.filters
    operations on arrays            fastconv.functional        (twins: fastconv.reference)
    threads, instruction sets       fastconv.runtime
    what a call would do            fastconv.explanation
    loop nests and their plans      fastconv._core             (Cython)
    register tiles                  fastconv._core/ukernels    (C, once per instruction set)
"""

from fastconv import filters
from fastconv.explanation import Explanation, explain
from fastconv.functional import (
    adaptive_avg_pool2d,
    adaptive_avg_pool2d_backward,
    as_channels_last,
    as_contiguous,
    avg_pool2d,
    avg_pool2d_backward,
    conv2d,
    conv2d_backward_bias,
    conv2d_backward_input,
    conv2d_backward_kernel,
    dense,
    dense_backward,
    empty,
    global_avg_pool2d,
    global_avg_pool2d_backward,
    global_max_pool2d,
    global_max_pool2d_backward,
    log_softmax,
    max_pool2d,
    max_pool2d_backward,
    relu,
    relu_backward,
    softmax,
    softmax_cross_entropy,
)
from fastconv.nn import (
    AdaptiveAvgPool,
    AvgPool,
    Concat,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAvgPool,
    GlobalMaxPool,
    Layer,
    MaxPool,
    ReLU,
    Residual,
    SeparableConv2D,
    Sequential,
    Softmax,
)
from fastconv.optim import SGD, Adam
from fastconv.receptive import ReceptiveField, receptive_field
from fastconv.runtime import (
    available_isas,
    cache_sizes,
    get_num_threads,
    info,
    isa,
    release_memory,
    set_num_threads,
    use_isa,
)

__all__ = [
    "SGD",
    "Adam",
    "AdaptiveAvgPool",
    "AvgPool",
    "Concat",
    "Conv2D",
    "Dense",
    "DepthwiseConv2D",
    "Dropout",
    "Explanation",
    "Flatten",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "Layer",
    "MaxPool",
    "ReLU",
    "ReceptiveField",
    "Residual",
    "SeparableConv2D",
    "Sequential",
    "Softmax",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_backward",
    "as_channels_last",
    "as_contiguous",
    "available_isas",
    "avg_pool2d",
    "avg_pool2d_backward",
    "cache_sizes",
    "conv2d",
    "conv2d_backward_bias",
    "conv2d_backward_input",
    "conv2d_backward_kernel",
    "dense",
    "dense_backward",
    "empty",
    "explain",
    "filters",
    "get_num_threads",
    "global_avg_pool2d",
    "global_avg_pool2d_backward",
    "global_max_pool2d",
    "global_max_pool2d_backward",
    "info",
    "isa",
    "log_softmax",
    "max_pool2d",
    "max_pool2d_backward",
    "receptive_field",
    "release_memory",
    "relu",
    "relu_backward",
    "set_num_threads",
    "softmax",
    "softmax_cross_entropy",
    "use_isa",
]
