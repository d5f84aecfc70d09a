"""Labelled images from files: IDX, CIFAR's binary records, folders of pictures. No downloads.

All readers give bytes as they are stored, (N, C, H, W); ``fit`` and ``predict`` convert them batch
by batch. A file that is not what it should be is refused by its name, and none is skipped.

- ``labelled.py``: what the readers give.
- ``idx.py``: MNIST, Fashion-MNIST, EMNIST. ``cifar.py``: CIFAR-10 and CIFAR-100.
- ``folder.py``: pictures of any kind, a subfolder for each class (Pillow).
- ``digits.py``: the digits that come with scikit-learn.
"""

from .cifar import load_cifar_folder, read_cifar
from .digits import load_digits
from .folder import load_folder
from .idx import load_idx_folder, read_idx
from .labelled import LabelledImages

__all__ = [
    "LabelledImages",
    "load_cifar_folder",
    "load_digits",
    "load_folder",
    "load_idx_folder",
    "read_cifar",
    "read_idx",
]
