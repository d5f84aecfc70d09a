# cython: language_level=3, cdivision=True
"""What a spatial axis of a convolution reads and writes.

The forward pass and the gradient of the input are the same sum, a *correlation*, with other
axes (``Axis``).  Forward, output ``oh`` reads ``oh*stride - pad + kh*dilation``.  Backwards, input
``ih`` receives from every ``oh`` with ``oh*stride - pad + kh*dilation == ih``; the inputs with
``ih % stride == r`` form *phase* r, which is a correlation of stride 1 over the taps whose
remainder fits.  No zeros are inserted, and no tap that falls outside is visited.
"""


cdef inline Py_ssize_t floor_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    """a // b rounded down, b > 0."""
    return a // b if a >= 0 else -((b - 1 - a) // b)


cdef void forward_axis(
    Axis* axis, Py_ssize_t source, Py_ssize_t n, Py_ssize_t taps,
    Py_ssize_t stride, Py_ssize_t pad, Py_ssize_t dilation
) noexcept nogil:
    """The axis of the forward pass: ``n`` outputs of ``source`` inputs."""
    axis.n, axis.start, axis.step = n, 0, 1
    axis.source, axis.stride = source, stride
    axis.taps, axis.offset, axis.offset_step = taps, -pad, dilation
    axis.tap, axis.tap_step = 0, 1


cdef void gradient_axes(
    Axis* axes, Py_ssize_t n, Py_ssize_t source, Py_ssize_t taps,
    Py_ssize_t stride, Py_ssize_t pad, Py_ssize_t dilation
) noexcept nogil:
    """The min(stride, n) phases of the input's gradient: ``n`` inputs of ``source`` outputs.

    ``oh = (ih + pad - kh*dilation) / stride``: in phase r the taps kh with
    ``(r + pad - kh*dilation) % stride == 0`` repeat every ``stride / gcd(stride, dilation)``, and
    from one to the next oh falls by ``dilation / gcd``.  They are walked from the last one down,
    so that the source is read upwards.
    """
    cdef Py_ssize_t r, a, b, last, first, every
    cdef Axis* axis
    a, b = stride, dilation
    while b:
        a, b = b, a % b
    every = stride // a
    for r in range(min(stride, n)):
        axis = &axes[r]
        axis.n, axis.start, axis.step = (n - r + stride - 1) // stride, r, stride
        axis.source, axis.stride = source, 1
        axis.offset_step, axis.tap_step = dilation // a, -every
        first = 0
        while first < taps and first < every and (r + pad - first * dilation) % stride != 0:
            first += 1
        if first >= min(taps, every):
            axis.taps = axis.tap = axis.offset = 0
            continue
        axis.taps = (taps - 1 - first) // every + 1
        last = first + (axis.taps - 1) * every
        axis.tap = last
        axis.offset = floor_div(r + pad - last * dilation, stride)


cdef Py_ssize_t first_valid(const Axis* axis, Py_ssize_t t) noexcept nogil:
    """The first output whose tap t lies inside the source (or n)."""
    cdef Py_ssize_t offset = axis.offset + t * axis.offset_step
    if offset >= 0:
        return 0
    return min((axis.stride - 1 - offset) // axis.stride, axis.n)


cdef Py_ssize_t end_valid(const Axis* axis, Py_ssize_t t) noexcept nogil:
    """One past the last output whose tap t lies inside the source."""
    cdef Py_ssize_t offset = axis.offset + t * axis.offset_step
    if offset >= axis.source:
        return 0
    return max(min((axis.source - 1 - offset) // axis.stride + 1, axis.n), 0)


cdef void valid_taps(
    const Axis* axis, Py_ssize_t i, Py_ssize_t* t0, Py_ssize_t* t1
) noexcept nogil:
    """The taps [t0, t1) of output i that lie inside the source."""
    cdef Py_ssize_t at = i * axis.stride + axis.offset
    t0[0] = 0 if at >= 0 else min((axis.offset_step - 1 - at) // axis.offset_step, axis.taps)
    if at >= axis.source:
        t1[0] = t0[0]
    else:
        t1[0] = max(t0[0], min((axis.source - 1 - at) // axis.offset_step + 1, axis.taps))


cdef void span(
    const Axis* axes, int count, Py_ssize_t b0, Py_ssize_t b1, Py_ssize_t* low, Py_ssize_t* high
) noexcept nogil:
    """Source positions [low, high) that outputs [b0, b1) of every phase may read."""
    cdef Py_ssize_t a, b, i1
    cdef int phase
    cdef bint any = False
    low[0] = high[0] = 0
    for phase in range(count):
        i1 = min(b1, axes[phase].n)
        if axes[phase].taps == 0 or i1 <= b0:
            continue
        a = b0 * axes[phase].stride + axes[phase].offset
        b = ((i1 - 1) * axes[phase].stride + axes[phase].offset
             + (axes[phase].taps - 1) * axes[phase].offset_step + 1)
        low[0] = min(low[0], a) if any else a
        high[0] = max(high[0], b) if any else b
        any = True


cdef Py_ssize_t end_of_run(
    const Axis* axis, Py_ssize_t i, Py_ssize_t end, Py_ssize_t* t0, Py_ssize_t* t1
) noexcept nogil:
    """One past the outputs from i on that see the same taps [t0, t1)."""
    cdef Py_ssize_t v0, v1
    valid_taps(axis, i, t0, t1)
    v0, v1 = t0[0], t1[0]
    while i < end and v0 == t0[0] and v1 == t1[0]:
        i += 1
        if i < end:
            valid_taps(axis, i, &v0, &v1)
    return i


cdef bint all_inside(const Axis* axis, Py_ssize_t i0, Py_ssize_t i1) noexcept nogil:
    """Whether outputs [i0, i1) see all taps, of which there are some."""
    return axis.taps > 0 and first_valid(axis, 0) <= i0 and i1 <= end_valid(axis, axis.taps - 1)


cdef bint most_see_the_border(const Axis* axis) noexcept nogil:
    """Whether fewer than half of the outputs see all taps."""
    cdef Py_ssize_t all = 0, i, t0, t1
    for i in range(axis.n):
        valid_taps(axis, i, &t0, &t1)
        all += t1 - t0 == axis.taps
    return 2 * all < axis.n
