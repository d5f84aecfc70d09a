"""Which pixels of the input a value inside a network can see: its receptive field.

Along one axis, output ``o`` of a layer sees a run of input pixels,

    from  offset + o * stride    to  offset + o * stride + size - 1

and three rules give the three numbers from one layer to the next. A window of k taps with dilation
d, stride s and padding p in front reaches over ``k' = (k - 1) * d + 1`` values, which lie `stride`
pixels apart:

    size'   = size + (k' - 1) * stride
    offset' = offset - p * stride
    stride' = stride * s

A small step may lead far: pixels between neighbours multiply with every stride before. A value that
has no place any more, like a class's score, sees the whole image, with stride 0.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastconv.nn import Layer, Sequential

Shape = tuple[int, ...]
Pair = tuple[int, int]


class ReceptiveField(NamedTuple):
    """What the outputs of one layer see; each pair is of (height, width), in pixels of the input.

    `offset` is where the field of output (0, 0) begins; below zero it begins in the padding.
    """

    layer: str
    size: Pair
    stride: Pair
    offset: Pair

    def box(self, oh: int = 0, ow: int = 0) -> tuple[Pair, Pair]:
        """Rows and columns that output (oh, ow) sees, each from the first to behind the last.

        They may lie outside the image, in the padding.
        """
        first = [begin + o * step
                 for begin, o, step in zip(self.offset, (oh, ow), self.stride, strict=True)]
        (h, w), (KH, KW) = first, self.size
        return (h, h + KH), (w, w + KW)


def receptive_field(model: Sequential) -> list[ReceptiveField]:
    """What the outputs of each layer see of the model's input.

    A layer made of layers is one step; what stands side by side counts as seeing all that its
    branches see. Normalizing and other layers that keep an image's size count as seeing one pixel
    each: what they gather from the whole image are two numbers, not a pattern.

    Parameters
    ----------
    model : Sequential
        Built, for images (C, H, W).

    Returns
    -------
    list of ReceptiveField
        One for each of ``model.layers``.

    Raises
    ------
    ValueError
        If the model has no shapes yet, or a layer does not tell its window.

    Examples
    --------
    >>> from fastconv import Conv2D, MaxPool, Sequential, receptive_field
    >>> model = Sequential([Conv2D(8, 3), MaxPool(2), Conv2D(8, 3)], input_shape=(1, 28, 28))
    >>> for field in receptive_field(model):
    ...     print(field.layer, field.size, field.stride, field.box(1, 0))
    0 Conv2D (3, 3) (1, 1) ((1, 4), (0, 3))
    1 MaxPool (4, 4) (2, 2) ((2, 6), (0, 4))
    2 Conv2D (8, 8) (2, 2) ((2, 10), (0, 8))
    """
    if not isinstance(model, Sequential):
        raise TypeError(f"model: expected a Sequential, got {model!r}")
    shape = model.input_shape
    if shape is None or len(shape) != 3:
        raise ValueError(f"model: expected one built for images (C, H, W), got shape {shape}")
    whole = ReceptiveField("", (shape[1], shape[2]), (0, 0), (0, 0))
    field = ReceptiveField("", (1, 1), (1, 1), (0, 0))
    fields = []
    for position, layer in enumerate(model.layers):
        field, shape = _through(layer, field, shape, whole, model.dtype)
        fields.append(field._replace(layer=f"{position} {type(layer).__name__}"))
    return fields


def _through(
    layer: Layer, field: ReceptiveField, before: Shape, whole: ReceptiveField, dtype: np.dtype
) -> tuple[ReceptiveField, Shape]:
    """What the layer's outputs see, if its inputs, of shape `before`, see `field`; their shape."""
    after = layer.forward(np.empty((0, *before), dtype)).shape[1:]
    if field.stride == (0, 0) or len(after) != 3:
        return whole, after
    children = list(layer.children().values())
    if isinstance(layer, Sequential):
        for child in children:
            field, before = _through(child, field, before, whole, dtype)
        return field, after
    if children:
        ends = [_through(child, field, before, whole, dtype)[0] for child in children]
        # A single branch stands beside the input itself, as in a residual block.
        if len(ends) == 1 and before[1:] == after[1:]:
            ends.append(field)
        return _union(layer, ends), after
    kernel = getattr(layer, "kernel_size", getattr(layer, "size", None))
    if kernel is None and before[1:] == after[1:]:
        return field, after
    if kernel is None and after[1:] == (1, 1):
        return whole, after
    if kernel is None:
        raise ValueError(f"model: expected layers with a kernel_size or size, got {layer!r}")
    stride = getattr(layer, "stride", None)
    strides = _pair(kernel if stride is None else stride)
    dilations = _pair(getattr(layer, "dilation", 1))
    extents = [(k - 1) * d + 1 for k, d in zip(_pair(kernel), dilations, strict=True)]
    size, offset, steps = [], [], []
    for axis, (extent, step) in enumerate(zip(extents, strides, strict=True)):
        n, jump = before[1 + axis], field.stride[axis]
        front, behind = _padding(getattr(layer, "padding", 0), axis, n, extent, step)
        free = n + front + behind - extent
        if after[1 + axis] not in (free // step + 1, -(-free // step) + 1):
            raise ValueError(f"model: expected layers that slide a window, got {layer!r}")
        size.append(field.size[axis] + (extent - 1) * jump)
        offset.append(field.offset[axis] - front * jump)
        steps.append(jump * step)
    return ReceptiveField("", _pair(size), _pair(steps), _pair(offset)), after


def _union(layer: Layer, fields: list[ReceptiveField]) -> ReceptiveField:
    """What branches see together."""
    stride = fields[0].stride
    if any(field.stride != stride for field in fields):
        raise ValueError(f"model: expected branches of one stride, got {layer!r}")
    first = [min(field.offset[axis] for field in fields) for axis in (0, 1)]
    last = [max(f.offset[axis] + f.size[axis] for f in fields) for axis in (0, 1)]
    return ReceptiveField("", (last[0] - first[0], last[1] - first[1]), stride, _pair(first))


def _pair(value: Any) -> Pair:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _padding(padding: Any, axis: int, n: int, extent: int, stride: int) -> Pair:
    """Padding in front of and behind an axis, however it was said."""
    if padding == "valid":
        return 0, 0
    if padding == "same":
        total = max((-(-n // stride) - 1) * stride + extent - n, 0)
        return total // 2, total - total // 2
    return _pair(padding if isinstance(padding, int) else padding[axis])
