"""Layers and models.

- ``layer.py``: what a layer is; read this first.
- ``conv.py``, ``transposed.py``, ``separable.py``, ``pooling.py``, ``averaging.py``,
  ``resizing.py``, ``dense.py``, ``normalization.py``, ``activation.py``, ``dropout.py``: the
  layers, each a few lines around functions of ``fastconv.functional``; ``initializers.py``: first
  kernels.
- ``containers.py``: layers made of layers. ``sequential.py``: the model, a chain of layers.
- ``fit.py``: the loops over batches, which come from ``batches.py``. ``files.py``: the file format;
  ``checkpoint.py``: that of training which goes on.
"""

from .activation import GELU, LeakyReLU, ReLU, Sigmoid, SiLU, Softmax, Tanh
from .averaging import AdaptiveAvgPool, AvgPool, GlobalAvgPool, GlobalMaxPool
from .containers import Concat, Container, Residual
from .conv import Conv2D
from .dense import Dense, Flatten
from .dropout import Dropout, SpatialDropout
from .fit import History
from .layer import Layer, Parameter
from .normalization import BatchNorm, GroupNorm, LayerNorm
from .pooling import MaxPool
from .resizing import Pad2D, Upsample
from .separable import DepthwiseConv2D, SeparableConv2D
from .sequential import Sequential
from .transposed import Conv2DTranspose

__all__ = [
    "GELU",
    "AdaptiveAvgPool",
    "AvgPool",
    "BatchNorm",
    "Concat",
    "Container",
    "Conv2D",
    "Conv2DTranspose",
    "Dense",
    "DepthwiseConv2D",
    "Dropout",
    "Flatten",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "GroupNorm",
    "History",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "MaxPool",
    "Pad2D",
    "Parameter",
    "ReLU",
    "Residual",
    "SeparableConv2D",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "SpatialDropout",
    "Tanh",
    "Upsample",
]
