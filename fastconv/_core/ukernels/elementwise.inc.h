/* elementwise.inc.h - one pass over memory, no reuse; included once per type and tier. */

static void FC_N(add)(void *dst_, const void *src_, ptrdiff_t n)
{
    T *dst = (T *)dst_;
    const T *src = (const T *)src_;
    for (ptrdiff_t i = 0; i < n; i++) dst[i] += src[i];
}

static void FC_N(scale)(void *dst_, const void *x_, const void *by_, ptrdiff_t n)
{
    T *restrict dst = (T *)dst_;
    const T *restrict x = (const T *)x_;
    const T by = *(const T *)by_;
    for (ptrdiff_t i = 0; i < n; i++) dst[i] = by * x[i];
}
