/* vec.inc.h - one vector register of FC_VBYTES bytes: VF lanes of T; included once per type and tier.
 *
 * T is float or double, I the signed integer of its size, and FC_N(name) appends the type's and
 * the tier's suffix.  VF is a plain number, so that the preprocessor can choose by it.
 */

typedef T FC_N(vec) __attribute__((vector_size(FC_VBYTES)));
typedef I FC_N(ivec) __attribute__((vector_size(FC_VBYTES)));
typedef T FC_N(uvec) __attribute__((vector_size(FC_VBYTES), aligned(sizeof(T)), may_alias));
typedef I FC_N(uivec) __attribute__((vector_size(FC_VBYTES), aligned(sizeof(T)), may_alias));
#define V FC_N(vec)

FC_INLINE V FC_N(load)(const T *p) { return *(const FC_N(uvec) *)p; }
FC_INLINE void FC_N(store)(T *p, V x) { *(FC_N(uvec) *)p = x; }

/* Stores a whole vector to an aligned place past the caches: the line is not read first, as a plain
 * store would, and pushes nothing out.  gcc has no portable spelling for it. */
FC_INLINE void FC_N(stream)(T *p, V x)
{
#if FC_X86_64 && FC_VBYTES == 64
    __asm__ volatile("vmovntps %1, %0" : "=m"(*(V *)p) : "v"(x));
#elif FC_X86_64 && FC_VBYTES == 32
    __asm__ volatile("vmovntps %1, %0" : "=m"(*(V *)p) : "x"(x));
#elif FC_X86_64
    __asm__ volatile("movntps %1, %0" : "=m"(*(V *)p) : "x"(x));
#else
    FC_N(store)(p, x);
#endif
}

/* 0, 1, 2, ... */
FC_INLINE FC_N(ivec) FC_N(lane_numbers)(void)
{
    I number[VF];
    FC_UNROLL
    for (int l = 0; l < VF; l++) number[l] = l;
    return *(const FC_N(uivec) *)number;
}

/* The first `lanes` lanes of a vector, 0 < lanes < VF: nothing past them is read or written.  The
 * other lanes of what is loaded are 0.  Where that is not one instruction, it is not worth a copy in
 * each tile. */
#if FC_X86_64 && FC_VBYTES > 16
FC_INLINE
#else
static FC_NOINLINE
#endif
V FC_N(load_part)(const T *p, ptrdiff_t lanes)
{
#if FC_X86_64 && FC_VBYTES == 64
    V x;
    const uint16_t mask = (uint16_t)((1u << lanes) - 1);
    if (sizeof(T) == 4)
        __asm__("vmovups (%1), %0%{%2%}%{z%}" : "=v"(x) : "r"(p), "Yk"(mask) : "memory");
    else
        __asm__("vmovupd (%1), %0%{%2%}%{z%}" : "=v"(x) : "r"(p), "Yk"(mask) : "memory");
    return x;
#elif FC_X86_64 && FC_VBYTES == 32
    V x;
    const FC_N(ivec) mask = FC_N(lane_numbers)() < (I)lanes;
    if (sizeof(T) == 4)
        __asm__("vmaskmovps (%1), %2, %0" : "=x"(x) : "r"(p), "x"(mask) : "memory");
    else
        __asm__("vmaskmovpd (%1), %2, %0" : "=x"(x) : "r"(p), "x"(mask) : "memory");
    return x;
#else
    T part[VF] = {0};
    for (ptrdiff_t l = 0; l < lanes; l++) part[l] = p[l];
    return FC_N(load)(part);
#endif
}

#if FC_X86_64 && FC_VBYTES == 64
FC_INLINE void FC_N(store_part)(T *p, V x, ptrdiff_t lanes)
{
    const uint16_t mask = (uint16_t)((1u << lanes) - 1);
    if (sizeof(T) == 4)
        __asm__ volatile("vmovups %1, (%0)%{%2%}" : : "r"(p), "v"(x), "Yk"(mask) : "memory");
    else
        __asm__ volatile("vmovupd %1, (%0)%{%2%}" : : "r"(p), "v"(x), "Yk"(mask) : "memory");
}
#else
/* Two stores that overlap: AVX2's masked store takes some processors a dozen cycles. */
static FC_NOINLINE void FC_N(store_part)(T *p, V x, ptrdiff_t lanes)
{
    T part[VF];
    FC_N(store)(part, x);
    char *to = (char *)p, *from = (char *)part;
    const ptrdiff_t bytes = lanes * (ptrdiff_t)sizeof(T);
    if (bytes >= 16) {
        __builtin_memcpy(to, from, 16);
        __builtin_memcpy(to + bytes - 16, from + bytes - 16, 16);
    } else if (bytes >= 8) {
        __builtin_memcpy(to, from, 8);
        __builtin_memcpy(to + bytes - 8, from + bytes - 8, 8);
    } else {
        *p = part[0];
    }
}
#endif

/* `lanes` lanes, or all with the constant `whole`. */
FC_INLINE V FC_N(load_lanes)(const T *p, ptrdiff_t lanes, const int whole)
{
    return whole ? FC_N(load)(p) : FC_N(load_part)(p, lanes);
}

static void FC_N(fence)(void)
{
#if FC_X86_64
    __asm__ volatile("sfence" ::: "memory");
#endif
}

static void FC_N(prefetch)(const void *p, ptrdiff_t bytes)
{
    for (ptrdiff_t i = 0; i < bytes; i += FC_LINE_BYTES) __builtin_prefetch((const char *)p + i, 0, 2);
}

/* max(x, 0) that keeps NaN. */
FC_INLINE V FC_N(relu)(V x) { return (V)((FC_N(ivec))x & ~(FC_N(ivec))(x < 0)); }

/* Lanes of the lower (upper) halves of x and y in turn: x0 y0 x1 y1 ... */
#if VF == 2
#define FC_LOW 0, 2
#define FC_HIGH 1, 3
#elif VF == 4
#define FC_LOW 0, 4, 1, 5
#define FC_HIGH 2, 6, 3, 7
#elif VF == 8
#define FC_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define FC_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#else
#define FC_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define FC_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#endif
FC_INLINE V FC_N(zip_low)(V x, V y) { return FC_SHUFFLE(FC_N(ivec), x, y, FC_LOW); }
FC_INLINE V FC_N(zip_high)(V x, V y) { return FC_SHUFFLE(FC_N(ivec), x, y, FC_HIGH); }
#undef FC_LOW
#undef FC_HIGH
