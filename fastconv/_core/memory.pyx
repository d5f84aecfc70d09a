# cython: language_level=3
"""Memory that is used again: a bounded pool of aligned blocks.

A fresh page costs more than the arithmetic done on it (a fault, and the kernel's zeroes), and the
C library gives large blocks back on every ``free``.  So results, packed kernels and scratch come
from here.  A ``Block`` owns its memory; a result array keeps its block as ``base``, and when the
last view of it dies the memory goes back to its shelf, for the next array of about that size.

Sizes are rounded up to four steps per power of two.  The pool keeps at most a quarter of the
machine's memory; ``release`` gives all of it back.  Everything here runs under the GIL.
"""

import os

from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc

cimport numpy as cnp

cnp.import_array()

cdef extern from *:
    """
    /* Large blocks come straight from the system, so that their pages are fresh and may be huge. */
    #if defined(__linux__)
    #include <sys/mman.h>
    static void *fc_map(size_t n)
    {
        void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        return p == MAP_FAILED ? NULL : p;
    }
    static void fc_unmap(void *p, size_t n) { munmap(p, n); }
    static void fc_advise_huge(void *p, size_t n)
    {
    #ifdef MADV_HUGEPAGE
        (void)madvise(p, n, MADV_HUGEPAGE);
    #endif
    }
    #else
    #include <stdlib.h>
    static void *fc_map(size_t n) { return malloc(n); }
    static void fc_unmap(void *p, size_t n) { free(p); }
    static void fc_advise_huge(void *p, size_t n) {}
    #endif
    """
    void* fc_map(size_t n) nogil
    void fc_unmap(void* p, size_t n) nogil
    void fc_advise_huge(void* p, size_t n) nogil

cdef extern from "numpy/arrayobject.h":
    int PyArray_SetBaseObject(cnp.ndarray array, object base) except -1
    object PyArray_New(
        type subtype, int ndim, cnp.npy_intp* dims, int type, cnp.npy_intp* strides,
        void* data, int itemsize, int flags, void* like)

cdef enum:
    ALIGNMENT = 64
    HUGE_PAGE = 2097152
    SHELVES = 256
    SMALLEST = 256

cdef struct Free:
    # A free block's own first bytes hold the list of its shelf.
    Free* next
    void* raw
    size_t size

cdef Free* shelves[SHELVES]
cdef size_t kept = 0
cdef size_t limit = 1 << 30

try:
    limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4
except (AttributeError, ValueError, OSError):
    pass


cdef int _shelf(size_t size, size_t* rounded) noexcept:
    """The shelf for ``size`` bytes, and the size its blocks have: 4..7 eighths of a power of 2."""
    cdef int shelf = 0
    cdef size_t step = SMALLEST // 4
    while size > 8 * step:
        step *= 2
        shelf += 4
    cdef size_t quarters = (size + step - 1) // step
    if quarters < 4:
        quarters = 4
    rounded[0] = quarters * step
    return shelf + <int>(quarters - 4)


cdef class Block:
    """Owner of one piece of memory; gives it back to the pool when it dies."""

    def __dealloc__(self):
        global kept
        cdef Free* block
        if self.raw == NULL:
            return
        if kept + self.size > limit:
            give_back(self.raw, self.size)
            return
        block = <Free*>self.data
        block.raw, block.size = self.raw, self.size
        block.next = shelves[self.shelf]
        shelves[self.shelf] = block
        kept += self.size


cdef Block take(size_t size):
    """A block of at least ``size`` bytes with arbitrary contents, or MemoryError."""
    global kept
    cdef size_t rounded = 0, alignment
    cdef void* raw
    cdef Free* found
    cdef Block block = Block.__new__(Block)
    if size > <size_t>1 << 62:
        raise MemoryError(f"cannot allocate {size} bytes")
    block.shelf = _shelf(size, &rounded)
    block.size = rounded
    found = shelves[block.shelf]
    if found != NULL:
        shelves[block.shelf] = found.next
        block.raw = found.raw
        block.data = <char*>found
        kept -= rounded
        return block
    raw = get(rounded)
    if raw == NULL:
        release()
        raw = get(rounded)
    if raw == NULL:
        raise MemoryError(f"cannot allocate {rounded} bytes")
    alignment = alignment_of(rounded)
    block.raw = raw
    block.data = <char*>((<uintptr_t>raw + alignment - 1) // alignment * alignment)
    if alignment == HUGE_PAGE:
        fc_advise_huge(block.data, rounded // HUGE_PAGE * HUGE_PAGE)
    return block


cdef inline size_t alignment_of(size_t size) noexcept nogil:
    return HUGE_PAGE if size >= HUGE_PAGE else ALIGNMENT


cdef void* get(size_t size) noexcept nogil:
    """Room for an aligned block of that size."""
    cdef size_t alignment = alignment_of(size)
    return fc_map(size + alignment) if alignment == HUGE_PAGE else malloc(size + alignment)


cdef void give_back(void* raw, size_t size) noexcept nogil:
    cdef size_t alignment = alignment_of(size)
    if alignment == HUGE_PAGE:
        fc_unmap(raw, size + alignment)
    else:
        free(raw)


cdef object new_array(
    int ndim, const Py_ssize_t* shape, int itemsize, bint channels_last
):
    """An uninitialised array; ``channels_last`` puts axis ndim - 3 innermost in memory."""
    cdef cnp.npy_intp dims[4]
    cdef cnp.npy_intp strides[4]
    cdef int order[4]
    cdef int i, axis
    cdef Py_ssize_t step = itemsize
    cdef bint empty = False
    for i in range(ndim):
        order[i] = i
        empty |= shape[i] == 0
    if channels_last:
        order[ndim - 3] = ndim - 2
        order[ndim - 2] = ndim - 1
        order[ndim - 1] = ndim - 3
    for i in range(ndim - 1, -1, -1):
        axis = order[i]
        dims[axis] = shape[axis]
        strides[axis] = step
        if shape[axis] > 0:
            if step > (<Py_ssize_t>1 << 62) // shape[axis]:
                raise MemoryError("cannot allocate an array of more than 2**62 bytes")
            step *= shape[axis]
    cdef Block block = take(0 if empty else <size_t>step)
    cdef cnp.ndarray array = PyArray_New(
        cnp.ndarray, ndim, dims, cnp.NPY_FLOAT32 if itemsize == 4 else cnp.NPY_FLOAT64,
        strides, block.data, itemsize, cnp.NPY_ARRAY_WRITEABLE, NULL)
    cnp.Py_INCREF(block)
    PyArray_SetBaseObject(array, block)
    return array


def release():
    """Give every unused block back to the system; returns how many bytes that was."""
    global kept
    cdef Free* block
    cdef size_t released = kept
    cdef int shelf
    for shelf in range(SHELVES):
        while shelves[shelf] != NULL:
            block = shelves[shelf]
            shelves[shelf] = block.next
            give_back(block.raw, block.size)
    kept = 0
    return released
