"""The arithmetic of receptive fields, against where a gradient really comes from."""

import numpy as np
import pytest

from fastconv import (
    AvgPool,
    Concat,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAvgPool,
    Layer,
    MaxPool,
    ReLU,
    Residual,
    SeparableConv2D,
    Sequential,
    receptive_field,
)

NETWORKS = {
    "one": [Conv2D(2, 3)],
    "even": [Conv2D(2, (2, 4)), Conv2D(2, (4, 2), padding="same")],
    "padding": [Conv2D(2, 5, padding=2), Conv2D(2, 3, padding=((1, 0), (0, 2)))],
    "same": [Conv2D(2, 3, stride=2, padding="same"), Conv2D(2, 4, stride=3, padding="same")],
    "dilation": [Conv2D(2, 3, dilation=(2, 3)), ReLU(), Conv2D(2, (3, 1), dilation=2, stride=2)],
    "pools": [MaxPool(2), Conv2D(2, 3), MaxPool(3, stride=2, padding=1), Conv2D(2, 2, stride=2)],
    "means": [AvgPool(3, stride=2, padding=1, ceil_mode=True), Conv2D(2, 3)],
    "separable": [DepthwiseConv2D(3, stride=2, padding="same"), SeparableConv2D(4, 5, padding=1)],
    "groups": [Conv2D(4, 3, groups=2, padding="valid"), Dropout(0.5), Conv2D(4, (1, 3), groups=4)],
}


def support(layers, shape, at):
    """Pixels of the input that the gradient of one output reaches, if every tap passes it on."""
    # A max pooling passes gradients to winners only; a mean over its window to all.
    chain = [AvgPool(c.size, stride=c.stride, padding=c.padding) if isinstance(c, MaxPool) else
             type(c)(**c.config()) for c in layers if not isinstance(c, (ReLU, Dropout))]
    model = Sequential(chain, input_shape=shape, dtype="float64")
    for _, value, _ in model.parameters():
        value[...] = 1
    y = model.forward(np.ones((1, *shape)), training=True)
    dy = np.zeros_like(y)
    dy[0, 0, at[0], at[1]] = 1
    reached = model.backward(dy, need_dx=True)[0].any(axis=0)
    return [np.flatnonzero(reached.any(axis=axis)) for axis in (1, 0)]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_field_is_where_the_gradient_comes_from(name):
    layers, shape = NETWORKS[name], (2, 33, 40)
    model = Sequential(layers, input_shape=shape)
    fields = receptive_field(model)
    assert len(fields) == len(layers)
    for count in range(1, len(layers) + 1):
        _, OH, OW = Sequential(layers[:count], input_shape=shape).output_shape
        for at in ((0, 0), (OH // 2, OW // 2), (OH - 1, OW - 1)):
            box = fields[count - 1].box(*at)
            reached = support(layers[:count], shape, at)
            for (first, end), pixels, n in zip(box, reached, shape[1:], strict=True):
                assert (max(first, 0), min(end, n)) == (pixels[0], pixels[-1] + 1)


@pytest.mark.parametrize("end", [Flatten, GlobalAvgPool])
def test_a_score_sees_the_whole_image(end):
    layers = [Conv2D(4, 3), MaxPool(2), end(), Dense(3)]
    model = Sequential(layers, input_shape=(1, 12, 10))
    fields = receptive_field(model)
    assert [field.layer for field in fields] == [
        "0 Conv2D", "1 MaxPool", f"2 {end.__name__}", "3 Dense",
    ]  # fmt: skip
    for field in fields[2:]:
        assert field.box() == field.box(5, 7) == ((0, 12), (0, 10))


def test_branches_see_what_they_see_together():
    beside = Concat(Conv2D(2, (3, 1), padding=((2, 0), (0, 0))), Conv2D(2, (1, 5), padding=(0, 2)))
    alone = Residual(Sequential([Conv2D(2, 2, padding=((0, 1), (0, 1))), Conv2D(4, 1)]))
    model = Sequential([Conv2D(2, 2, stride=2), beside, alone], input_shape=(1, 20, 20))
    first, second, third = receptive_field(model)
    assert first.size == (2, 2)
    assert (second.size, second.stride, second.offset) == ((6, 10), (2, 2), (-4, -4))
    assert (third.size, third.stride, third.offset) == ((8, 12), (2, 2), (-4, -4))
    uneven = Concat(Conv2D(2, 1, stride=2), Conv2D(2, 11))
    with pytest.raises(ValueError, match=r"^model: expected branches of one stride"):
        receptive_field(Sequential([uneven], input_shape=(1, 20, 20)))


class Cut(Layer):
    """A layer that tells nothing of the window it has."""

    def build(self, input_shape, rng, dtype):
        C, H, W = input_shape
        return C, H // 2, W

    def forward(self, x, *, training=False):
        return x[:, :, : x.shape[2] // 2]


def test_what_has_no_field():
    with pytest.raises(ValueError, match=r"^model: expected one built for images"):
        receptive_field(Sequential([Conv2D(2, 3)]))
    with pytest.raises(ValueError, match=r"^model: expected one built for images"):
        receptive_field(Sequential([Dense(2)], input_shape=(3,)))
    with pytest.raises(ValueError, match=r"^model: expected layers .* got Cut\(\)"):
        receptive_field(Sequential([Cut()], input_shape=(1, 8, 8)))
