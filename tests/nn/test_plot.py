"""What is in the pictures: panels, titles, and the numbers that are drawn."""

import subprocess
import sys

import numpy as np
import pytest

from fastconv import Conv2D, Dense, Dropout, Flatten, MaxPool, Sequential, filters

pytest.importorskip("matplotlib")
plot = pytest.importorskip("fastconv.plot")

from matplotlib.figure import Figure  # noqa: E402
from matplotlib.patches import Rectangle  # noqa: E402


def network(channels=1):
    layers = [Conv2D(5, 3, activation="relu"), MaxPool(2), Dropout(0.5),
              Conv2D(4, 3, padding=1), Flatten(), Dense(3)]  # fmt: skip
    return Sequential(layers, input_shape=(channels, 12, 10), seed=0)


def titles(figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes]


def drawn(axes) -> np.ndarray:
    """The picture in a panel, NaN where it is empty."""
    return np.ma.filled(axes.images[0].get_array().astype(float), np.nan)


def draw(figure) -> None:
    """All that is only found when the picture is made; warnings are errors."""
    assert isinstance(figure, Figure)
    figure.canvas.draw()


# -- kernels ---------------------------------------------------------------------------------------


def test_kernels_of_a_model():
    model = network()
    figure = plot.plot_kernels(model)
    assert titles(figure)[0] == "0 Conv2D, 5 kernels of 3 x 3"
    picture = drawn(figure.axes[0])
    assert picture.shape == (2 * 4 - 1, 3 * 4 - 1)
    np.testing.assert_array_equal(picture[:3, :3], model.layers[0].params["kernel"][0, 0])
    np.testing.assert_array_equal(picture[4:, 4:7], model.layers[0].params["kernel"][4, 0])
    low, high = figure.axes[0].images[0].get_clim()
    assert high == -low == np.abs(model.layers[0].params["kernel"]).max()
    draw(figure)


def test_kernels_of_a_later_layer_are_means():
    model = network()
    figure = plot.plot_kernels(model, layer=3, limit=2)
    assert titles(figure)[0] == "3 Conv2D, 2 of 4 kernels of 3 x 3\nmean over 5 channels"
    mean = model.layers[3].params["kernel"].astype(float).mean(axis=1)
    np.testing.assert_allclose(drawn(figure.axes[0])[:, :3], mean[0])


def test_kernels_over_three_channels_are_in_colour():
    kernels = np.zeros((2, 3, 2, 2))
    kernels[0, 0], kernels[1, 2] = 4, -2
    (axes,) = plot.plot_kernels(kernels).axes
    picture = drawn(axes)
    np.testing.assert_array_equal(picture[0, 0], [1, 0.5, 0.5])
    np.testing.assert_array_equal(picture[0, 3], [0.5, 0.5, 0.25])


@pytest.mark.parametrize("shape", [(3, 5), (1, 3, 5), (1, 1, 3, 5)])
def test_kernels_as_arrays(shape):
    figure = plot.plot_kernels(np.arange(15.0).reshape(shape))
    assert titles(figure)[0] == "1 kernel of 3 x 5"
    np.testing.assert_array_equal(drawn(figure.axes[0]), np.arange(15).reshape(3, 5))


def test_a_kernel_of_zeros():
    draw(plot.plot_kernels(np.zeros((2, 3, 3))))


# -- feature maps ----------------------------------------------------------------------------------


def test_feature_maps_layer_by_layer():
    model = network()
    image = np.random.default_rng(0).random((1, 12, 10), np.float32)
    figure = plot.plot_feature_maps(model, image, limit=4, columns=3)
    assert titles(figure) == [
        "input\n1 x 12 x 10",
        "0 Conv2D\n4 of 5 maps of 10 x 8",
        "1 MaxPool\n4 of 5 maps of 5 x 4",
        "3 Conv2D\n4 maps of 5 x 4",
        "5 Dense\n3 values",
    ]
    first = model.layers[0].forward(image[None])[0]
    np.testing.assert_allclose(drawn(figure.axes[1])[:10, :8], first[0], rtol=1e-6)
    bars = [bar.get_height() for bar in figure.axes[4].patches]
    np.testing.assert_allclose(bars, model.predict(image[None])[0], rtol=1e-5)
    draw(figure)


# -- patches ---------------------------------------------------------------------------------------


def test_top_patches_are_where_the_kernel_fits():
    """A bright line, hidden once in each of some images, is what a kernel for lines finds."""
    model = Sequential([Conv2D(2, 3, bias=False)], input_shape=(1, 9, 9))
    kernel = model.layers[0].params["kernel"]
    kernel[0, 0], kernel[1, 0] = filters.laplacian(), [[-1, 2, -1]] * 3
    images = np.random.default_rng(0).random((30, 1, 9, 9)) * 0.1
    for n, brightness in ((4, 1.0), (17, 3.0), (25, 2.0)):
        images[n, 0, 2:5, 6] = brightness
    figure = plot.plot_top_patches(model, images, kernels=[1], patches=3, batch_size=7)
    assert len(figure.axes) == 3
    assert figure.get_suptitle() == "What excites layer 0, Conv2D, most: patches of 3 x 3 pixels"
    assert figure.axes[0].get_ylabel() == "kernel 1"
    values = model.predict(images)[:, 1].max(axis=(1, 2))
    assert [float(title) for title in titles(figure)] == [
        pytest.approx(values[n], rel=1e-2) for n in (17, 25, 4)
    ]
    for axes, n in zip(figure.axes, (17, 25, 4), strict=True):
        patch, image = images[n, 0, 2:5, 5:8], images[n, 0]
        expected = (patch - image.min()) / (image.max() - image.min())
        np.testing.assert_allclose(drawn(axes), expected)
    draw(figure)


@pytest.mark.parametrize("channels", [1, 3])
def test_patches_end_at_the_border(channels):
    model = Sequential([Conv2D(1, 5, padding=2, bias=False)], input_shape=(channels, 6, 6))
    model.layers[0].params["kernel"][...] = 0
    model.layers[0].params["kernel"][0, :, 2, 2] = 1
    images = np.zeros((1, channels, 6, 6))
    images[0, :, 0, 5] = 1
    (axes,) = plot.plot_top_patches(model, images).axes
    picture = drawn(axes)
    assert picture.shape[:2] == (5, 5)
    outside = picture[:2], picture[:, 3:]
    for part in outside:
        assert (np.isnan(part) if channels == 1 else part == plot.NOTHING).all()
    np.testing.assert_array_equal(picture[2, :3].reshape(3, -1)[:, 0], [0, 0, 1])
    draw(axes.figure)


# -- training --------------------------------------------------------------------------------------


def test_history():
    model = network()
    x, y = np.zeros((8, 1, 12, 10)), np.arange(8) % 3
    history = model.fit(x, y, epochs=3, validation_data=(x, y), progress=False)
    figure = plot.plot_history(history)
    assert titles(figure) == ["loss", "accuracy"]
    for axes, name in zip(figure.axes, ("loss", "accuracy"), strict=True):
        training, validation = axes.lines
        assert training.get_label() == "training" and validation.get_label() == "validation"
        np.testing.assert_array_equal(training.get_xdata(), [1, 2, 3])
        np.testing.assert_array_equal(training.get_ydata(), getattr(history, name))
        np.testing.assert_array_equal(validation.get_ydata(), getattr(history, f"val_{name}"))
    draw(figure)


def test_a_long_history_without_validation():
    figure = plot.plot_history({"loss": list(range(100)), "val_loss": []})
    assert titles(figure) == ["loss"]
    (line,) = figure.axes[0].lines
    assert line.get_marker() == "None"
    draw(figure)


def test_confusion_matrix():
    labels, guesses = [0, 0, 0, 1, 3], [0, 0, 1, 1, 0]
    figure = plot.plot_confusion_matrix(labels, guesses, class_names=["a", "b", "c", "dog"])
    axes = figure.axes[0]
    assert titles(figure)[0] == "60.0% of 5 right"
    counts = np.array([int(text.get_text()) for text in axes.texts]).reshape(4, 4)
    np.testing.assert_array_equal(counts, [[2, 1, 0, 0], [0, 1, 0, 0], [0] * 4, [1, 0, 0, 0]])
    places = [text.get_position() for text in axes.texts]
    assert places == [(column, row) for row in range(4) for column in range(4)]
    np.testing.assert_allclose(drawn(axes)[0], [2 / 3, 1 / 3, 0, 0])
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b", "c", "dog"]
    draw(figure)


def test_confusion_of_scores_and_of_many_classes():
    scores = np.eye(50)[[3, 4, 5]]
    figure = plot.plot_confusion_matrix(np.array([3, 4, 6]), scores)
    assert drawn(figure.axes[0]).shape == (50, 50)
    assert not figure.axes[0].texts
    assert len(figure.axes[0].get_xticks()) <= 40
    draw(figure)


# -- receptive field -------------------------------------------------------------------------------


@pytest.mark.parametrize(("at", "corner"), [(None, (3, 3)), ((0, 0), (-2, -2)), ((4, 3), (4, 6))])
def test_receptive_field(at, corner):
    model = network()
    figure = plot.plot_receptive_field(model, 3, np.ones((1, 12, 10)), at=at)
    left, right = figure.axes
    assert left.get_title() == "seen: 8 x 8 pixels"
    at = at or (2, 2)
    assert right.get_title() == f"3 Conv2D, value {at}\nmean of 4 maps of 5 x 4"
    (frame,), (mark,) = left.patches, right.patches
    assert isinstance(frame, Rectangle)
    h, w = 2 * at[0] - 2, 2 * at[1] - 2
    assert frame.get_bbox().bounds == (w - 0.5, h - 0.5, 8, 8)
    assert mark.get_bbox().bounds == (at[1] - 0.5, at[0] - 0.5, 1, 1)
    (x0, x1), (y1, y0) = left.get_xlim(), left.get_ylim()
    assert x0 <= frame.get_x() and frame.get_x() + 8 <= x1
    assert y0 <= frame.get_y() and frame.get_y() + 8 <= y1
    draw(figure)


# -- all -------------------------------------------------------------------------------------------


def test_pictures_go_into_a_part_of_a_figure():
    whole = Figure()
    parts = whole.subfigures(1, 2)
    assert plot.plot_kernels(np.ones((2, 3, 3)), figure=parts[0]) is whole
    assert plot.plot_feature_maps(network(), np.ones((1, 12, 10)), figure=parts[1]) is whole
    assert len(parts[0].axes) == 2 and len(parts[1].axes) == 5


def test_pyplot_stays_out():
    script = """if True:
        import sys, fastconv.plot
        assert not any(name.startswith("matplotlib") for name in sys.modules)
        fastconv.plot.plot_history({"loss": [1.0]})
        assert "matplotlib.pyplot" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", script], check=True)


IMAGE = np.ones((1, 12, 10))
BATCH = IMAGE[None]


@pytest.mark.parametrize(("call", "message"), [
    (lambda m: plot.plot_kernels(Sequential([Flatten()], input_shape=(1, 2, 2))),
     "model: expected one with a layer that has kernels"),
    (lambda m: plot.plot_kernels(Sequential([Conv2D(2, 3)])), "model: expected one with shapes"),
    (lambda m: plot.plot_kernels(m, layer=1), "layer: expected one with kernels"),
    (lambda m: plot.plot_kernels(m, layer=9), "layer: expected an integer from 0 to 5, got 9"),
    (lambda m: plot.plot_kernels(np.ones((3, 3)), layer=0), "layer: expected None"),
    (lambda m: plot.plot_kernels(np.ones(3)), r"kernels: expected shape .* got \(3,\)"),
    (lambda m: plot.plot_kernels(m, limit=0), "limit: expected a positive integer"),
    (lambda m: plot.plot_feature_maps(m, BATCH), r"image: expected shape \(C, H, W\)"),
    (lambda m: plot.plot_top_patches(m, IMAGE), r"x: expected shape \(N, 1, 12, 10\)"),
    (lambda m: plot.plot_top_patches(m, BATCH[:0]), r"images: expected shape .* N > 0"),
    (lambda m: plot.plot_top_patches(m, BATCH, layer=5), "layer: expected one that gives maps"),
    (lambda m: plot.plot_top_patches(m, BATCH, kernels=[5]), "kernels: expected some of the .* 5"),
    (lambda m: plot.plot_history({}), "history: expected at least one epoch"),
    (lambda m: plot.plot_confusion_matrix([0], [0, 1]), "predictions: expected as many integers"),
    (lambda m: plot.plot_confusion_matrix([0.5], [0]), "labels: expected as many integers"),
    (lambda m: plot.plot_confusion_matrix([-1], [0]), "labels: expected integers from 0"),
    (lambda m: plot.plot_confusion_matrix([1], [0], class_names="a"), "class_names: expected at"),
    (lambda m: plot.plot_receptive_field(m, 5, IMAGE), "layer: expected one that gives maps"),
    (lambda m: plot.plot_receptive_field(m, 0, IMAGE, at=(10, 0)), r"at: expected a place in maps"),
])  # fmt: skip
def test_what_cannot_be_drawn(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call(network())
