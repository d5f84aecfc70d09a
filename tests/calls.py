"""A valid call of every operation: small, with every array argument that it takes.

What must hold of any argument of any operation is tried by changing one of these.
"""

import numpy as np

import fastconv

X = np.arange(2 * 4 * 7 * 8, dtype=np.float32).reshape(2, 4, 7, 8)
KERNEL = np.ones((6, 4, 3, 3), np.float32)
BIAS = np.ones(6, np.float32)
DY = np.ones((2, 6, 5, 6), np.float32)
INDICES = np.arange(2 * 4 * 3 * 4, dtype=np.int32).reshape(2, 4, 3, 4) % 56
FLAT, MATRIX, VECTOR = (np.ones(shape, np.float32) for shape in ((5, 3), (4, 3), (4,)))
SQUARE = np.ones((2, 2), np.float32)
LOGITS, LABELS = np.zeros((5, 3), np.float32), np.array([0, 1, 2, 1, 0])

CALLS = {
    "conv2d": {"x": X, "kernel": KERNEL, "bias": BIAS},
    "conv2d_backward_input": {"dy": DY, "kernel": KERNEL, "input_shape": X.shape},
    "conv2d_backward_kernel": {"dy": DY, "x": X, "kernel_shape": KERNEL.shape},
    "conv2d_backward_bias": {"dy": DY},
    "max_pool2d": {"x": X, "size": 2},
    "max_pool2d_backward": {
        "dy": np.ones(INDICES.shape, np.float32),
        "indices": INDICES,
        "input_shape": X.shape,
    },
    "avg_pool2d": {"x": X, "size": 2},
    "avg_pool2d_backward": {"dy": X, "input_shape": X.shape, "size": 3, "stride": 1, "padding": 1},
    "adaptive_avg_pool2d": {"x": X, "output_size": (2, 3)},
    "adaptive_avg_pool2d_backward": {"dy": X, "input_shape": X.shape},
    "global_avg_pool2d": {"x": X},
    "global_avg_pool2d_backward": {"dy": X[..., 0, 0].copy(), "input_shape": X.shape},
    "global_max_pool2d": {"x": X},
    "global_max_pool2d_backward": {
        "dy": X[..., 0, 0].copy(),
        "indices": INDICES[..., 0, 0].copy(),
        "input_shape": X.shape,
    },
    "conv_transpose2d": {"x": DY, "kernel": KERNEL, "stride": 2},
    "conv_transpose2d_backward_input": {"dy": X, "kernel": KERNEL, "input_shape": DY.shape},
    "conv_transpose2d_backward_kernel": {"dy": X, "x": DY, "kernel_shape": KERNEL.shape},
    "pad2d": {"x": X, "padding": 1, "mode": "reflect"},
    "pad2d_backward": {"dy": X, "padding": 1, "mode": "replicate"},
    "upsample2d": {"x": X, "scale": 2, "mode": "bilinear"},
    "upsample2d_backward": {"dy": np.tile(X, (1, 1, 2, 2)), "scale": 2},
    "output_shape": {"input_shape": X.shape, "kernel_shape": KERNEL.shape},
    "dense": {"x": FLAT, "kernel": MATRIX, "bias": VECTOR},
    "dense_backward": {"dy": np.ones((5, 4), np.float32), "x": FLAT, "kernel": MATRIX},
    "relu": {"x": X},
    "relu_backward": {"dy": X, "y": X},
    "add": {"x": X, "y": X},
    "leaky_relu": {"x": X},
    "leaky_relu_backward": {"dy": X, "y": X},
    "sigmoid": {"x": X},
    "sigmoid_backward": {"dy": X, "y": X},
    "tanh": {"x": X},
    "tanh_backward": {"dy": X, "y": X},
    "silu": {"x": X},
    "silu_backward": {"dy": X, "x": X},
    "gelu": {"x": X},
    "gelu_backward": {"dy": X, "x": X},
    "softmax_backward": {"dy": LOGITS, "y": LOGITS},
    "log_softmax_backward": {"dy": LOGITS, "y": LOGITS},
    "batch_norm": {"x": X, "gamma": VECTOR, "beta": VECTOR, "mean": VECTOR, "variance": VECTOR},
    "batch_norm_train": {"x": X, "gamma": VECTOR, "beta": VECTOR},
    "batch_norm_backward": {
        "dy": X, "x": X, "gamma": VECTOR, "beta": VECTOR, "mean": VECTOR, "variance": VECTOR,
    },
    "group_norm": {"x": X, "groups": 2, "gamma": VECTOR, "beta": VECTOR},
    "group_norm_backward": {
        "dy": X, "x": X, "groups": 2, "gamma": VECTOR, "beta": VECTOR,
        "mean": SQUARE, "variance": SQUARE,
    },
    "layer_norm": {"x": X, "gamma": VECTOR, "beta": VECTOR},
    "layer_norm_backward": {
        "dy": X, "x": X, "gamma": VECTOR, "beta": VECTOR,
        "mean": SQUARE[:, :1], "variance": SQUARE[:, :1],
    },
    "softmax": {"x": LOGITS},
    "log_softmax": {"x": LOGITS},
    "softmax_cross_entropy": {"logits": LOGITS, "labels": LABELS},
    "binary_cross_entropy": {"logits": LOGITS, "targets": LOGITS},
    "mean_squared_error": {"outputs": LOGITS, "targets": LOGITS},
    "huber": {"outputs": LOGITS, "targets": LOGITS},
    "as_channels_last": {"x": X},
    "as_contiguous": {"x": X},
    "empty": {"shape": (2, 3, 4, 5), "dtype": np.float32},
}  # fmt: skip


def call(operation: str, **changes):
    return getattr(fastconv, operation)(**{**CALLS[operation], **changes})
