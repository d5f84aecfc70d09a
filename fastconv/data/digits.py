"""Scikit-learn's handwritten digits, which come with it and so need no download."""

from __future__ import annotations

import numpy as np

from .labelled import LabelledImages


def load_digits() -> LabelledImages:
    """Return scikit-learn's 1,797 handwritten digits of 8 x 8 pixels, every class split 80 : 20.

    The split is always the same, so that a test image stays one whatever a model was seeded with.

    Returns
    -------
    LabelledImages
        Bytes from 0 to 16.

    Raises
    ------
    ModuleNotFoundError
        If scikit-learn, of the extra ``demo``, is not installed.
    """
    from sklearn import datasets
    from sklearn.model_selection import train_test_split

    digits = datasets.load_digits()
    x_train, x_test, y_train, y_test = train_test_split(
        digits.images.astype(np.uint8)[:, None],
        digits.target.astype(np.int64),
        test_size=0.2,
        stratify=digits.target,
        random_state=0,
    )
    return LabelledImages(x_train, y_train, x_test, y_test)
