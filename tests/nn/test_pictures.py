"""The picture of kernels and feature maps."""

import numpy as np
import pytest

from fastconv import Conv2D, Dense, Flatten, Sequential

pytest.importorskip("matplotlib")
pictures = pytest.importorskip("fastconv.pictures")


@pytest.mark.parametrize("layers", [[Conv2D(5, 3)], [Conv2D(5, 3), Conv2D(4, 3), Conv2D(3, 3)]])
def test_a_png_is_written_at_the_path(tmp_path, layers):
    model = Sequential(layers, input_shape=(3, 9, 9))
    path = tmp_path / "kernels"
    pictures.save_kernels_and_features(model, np.ones((3, 9, 9)), path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_model_without_kernels_has_no_picture(tmp_path):
    model = Sequential([Flatten(), Dense(3)], input_shape=(1, 4, 4))
    with pytest.raises(ValueError, match="expected one with a Conv2D layer"):
        pictures.save_kernels_and_features(model, np.ones((1, 4, 4)), tmp_path / "x")


def test_mosaic_keeps_every_plane():
    planes = np.arange(5 * 2 * 3, dtype=float).reshape(5, 2, 3)
    grid = pictures._mosaic(planes)
    assert grid.shape == (2 * 3 - 1, 3 * 4 - 1)
    np.testing.assert_array_equal(grid[3:5, 4:7], planes[4])
    assert sorted(grid[np.isfinite(grid)]) == list(range(30))
