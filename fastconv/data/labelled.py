"""What every reader of a whole data set gives."""

from __future__ import annotations

from typing import NamedTuple

from numpy.typing import NDArray


class LabelledImages(NamedTuple):
    """Images (N, C, H, W) and their labels (N,), for training and for testing.

    `class_names` has the name of label 0, of label 1, and so on, where the files tell.
    """

    x_train: NDArray
    y_train: NDArray
    x_test: NDArray
    y_test: NDArray
    class_names: tuple[str, ...] = ()
