# cython: language_level=3, cdivision=True
"""The size formula by itself: how many windows there are, for convolution and pooling."""

from fastconv.arguments import as_tuple, boolean

from fastconv._core.arguments cimport integer, pair, window
from fastconv._core.geometry cimport Geometry


cdef Py_ssize_t windows(
    Py_ssize_t count, Py_ssize_t n, Py_ssize_t extent, Py_ssize_t stride, Py_ssize_t before,
    Py_ssize_t after, bint ceil_mode
) noexcept:
    """`count`, and with ceil_mode one more that starts inside the padded image but ends outside."""
    cdef Py_ssize_t free = n + before + after - extent
    return count + (ceil_mode and free % stride != 0 and count * stride < n + before)


def output_shape(input_shape, kernel_shape, stride, padding, dilation, ceil_mode):
    cdef Geometry g
    cdef list found
    found = [integer(n, "input_shape", 0) for n in as_tuple("input_shape", input_shape)]
    if not 2 <= len(found) <= 4 or min(found[len(found) - 3 if len(found) > 2 else 0:]) < 1:
        raise ValueError(f"input_shape: expected (N, C, H, W), (C, H, W) or (H, W) with at least "
                         f"one channel, row and column, got {tuple(found)}")
    boolean("ceil_mode", ceil_mode)
    if isinstance(kernel_shape, (tuple, list)) and len(kernel_shape) == 4:
        OC, IC_G, KH, KW = [integer(n, "kernel_shape", 1) for n in kernel_shape]
        if len(found) > 2:
            if found[len(found) - 3] % IC_G:
                raise ValueError(
                    f"kernel_shape: expected (OC, IC // groups, KH, KW) for {found[len(found) - 3]}"
                    f" input channels, got {tuple(kernel_shape)}")
            found[len(found) - 3] = OC
        g.KH, g.KW = KH, KW
    else:
        pair(kernel_shape, "kernel_shape", 1, &g.KH, &g.KW)
    g.IH, g.IW = found[len(found) - 2], found[len(found) - 1]
    window(&g, "kernel_shape", stride, padding, dilation, 1)
    found[len(found) - 2] = windows(g.OH, g.IH, (g.KH - 1) * g.dil_h + 1, g.stride_h, g.pad_t,
                                    g.pad_b, ceil_mode)
    found[len(found) - 1] = windows(g.OW, g.IW, (g.KW - 1) * g.dil_w + 1, g.stride_w, g.pad_l,
                                    g.pad_r, ceil_mode)
    return tuple(found)
