"""Layers and models.

- ``layer.py``: what a layer is; read this first.
- ``conv.py``, ``pooling.py``, ``dense.py``, ``activation.py``, ``dropout.py``: the layers, each a
  few lines around a function of ``fastconv.functional``; ``initializers.py``: first kernels.
- ``sequential.py``: the model, a chain of layers.
- ``fit.py``: the loops over batches. ``files.py``: the file format.
"""

from .activation import ReLU, Softmax
from .conv import Conv2D
from .dense import Dense, Flatten
from .dropout import Dropout
from .fit import History
from .layer import Layer, Parameter
from .pooling import MaxPool
from .sequential import Sequential

__all__ = [
    "Conv2D",
    "Dense",
    "Dropout",
    "Flatten",
    "History",
    "Layer",
    "MaxPool",
    "Parameter",
    "ReLU",
    "Sequential",
    "Softmax",
]
