/* pool.inc.h - max pooling and its gradient, channels in the lanes; included once per type and tier.
 *
 * Where all channels fit half a vector, half vectors are used: they are cheaper on processors that
 * take wide ones in two halves, and reach over fewer cache lines.
 */

#define P(name) FC_N(FC_PASTE(whole_, name))
#define LANES VF
#include "pool_lanes.inc.h"
#undef P
#undef LANES

#if VF >= 8
#define P(name) FC_N(FC_PASTE(half_, name))
#define LANES (VF / 2)
#include "pool_lanes.inc.h"
#undef P
#undef LANES
#define FC_POOL(name, p) (2 * (p)->channels <= VF ? FC_N(half_##name)(p) : FC_N(whole_##name)(p))
#else
#define FC_POOL(name, p) FC_N(whole_##name)(p)
#endif

static void FC_N(max_pool)(const fc_pool *p) { FC_POOL(max_pool, p); }
#undef FC_POOL

/* Windows that are taken at once. */
#define FC_SEEN 4

/* `sum` and the channels of a window's gradient that the pixel has won. */
FC_INLINE V FC_N(add_won)(const fc_unpool *p, V sum, ptrdiff_t at, uint8_t tap, const int relu)
{
    const V dy = FC_N(load)((const T *)p->dy + at);
#if FC_X86_64 && FC_VBYTES == 64
    typedef uint8_t bytes __attribute__((vector_size(16)));
    bytes taps = {0};
    __builtin_memcpy(&taps, p->taps + at, VF);
    uint16_t won;
    __asm__("vpcmpeqb %1, %2, %0" : "=Yk"(won) : "x"(taps), "x"((bytes){0} + tap));
    if (relu) {
        const V y = FC_N(load)((const T *)p->y + at);
        if (sizeof(T) == 4)
            __asm__("vcmpps $30, %1, %2, %0%{%0%}" : "+Yk"(won) : "v"((V){0}), "v"(y));
        else
            __asm__("vcmppd $30, %1, %2, %0%{%0%}" : "+Yk"(won) : "v"((V){0}), "v"(y));
    }
    if (sizeof(T) == 4)
        __asm__("vaddps %1, %0, %0%{%2%}" : "+v"(sum) : "v"(dy), "Yk"(won));
    else
        __asm__("vaddpd %1, %0, %0%{%2%}" : "+v"(sum) : "v"(dy), "Yk"(won));
    return sum;
#else
    I taps[VF];
    for (int l = 0; l < VF; l++) taps[l] = p->taps[at + l];
    FC_N(ivec) won = *(const FC_N(uivec) *)taps == (I)tap;
    if (relu) won &= FC_N(load)((const T *)p->y + at) > 0;
    return sum + (V)((FC_N(ivec))dy & won);
#endif
}

/* The last channels of a pixel, one by one, where a vector would reach too far. */
static FC_NOINLINE void FC_N(unpool_lanes)(const fc_unpool *p, T *dx, const ptrdiff_t *from,
                                           const uint8_t *tap, ptrdiff_t at, ptrdiff_t count,
                                           ptrdiff_t lanes, int add)
{
    for (ptrdiff_t l = 0; l < lanes; l++) {
        T sum = add ? dx[l] : 0;
        for (ptrdiff_t q = 0; q < count; q++) {
            const ptrdiff_t i = from[q] + at + l;
            if (p->taps[i] == tap[q] && (!p->y || ((const T *)p->y)[i] > 0))
                sum += ((const T *)p->dy)[i];
        }
        dx[l] = sum;
    }
}

/* The first `lanes` lanes, in a few pieces: a masked store takes longer. */
FC_INLINE void FC_N(store_lanes)(T *to, V x, ptrdiff_t lanes)
{
    T part[VF];
    const T *from = part;
    FC_N(store)(part, x);
    FC_UNROLL
    for (int n = VF / 2; n; n /= 2)
        if (lanes & n) {
            __builtin_memcpy(to, from, (size_t)n * sizeof(T));
            to += n;
            from += n;
        }
}

/* What windows add to `sum`. */
FC_INLINE V FC_N(unpool_sum)(const fc_unpool *p, V sum, const ptrdiff_t *from, const uint8_t *tap,
                             ptrdiff_t at, const ptrdiff_t count, const int relu)
{
    FC_UNROLL
    for (ptrdiff_t q = 0; q < count; q++)
        sum = FC_N(add_won)(p, sum, from[q] + at, tap[q], relu);
    return sum;
}

/* `add` to what earlier windows left.  It is constant: with a variable one gcc 12 adds but the
 * first lane. */
FC_INLINE void FC_N(unpool_windows)(const fc_unpool *p, ptrdiff_t first, const ptrdiff_t count,
                                    const int add, const int relu)
{
    const ptrdiff_t channels = p->channels, whole = channels / VF * VF;
    ptrdiff_t from[FC_SEEN];
    uint8_t tap[FC_SEEN];
    FC_UNROLL
    for (ptrdiff_t q = 0; q < count; q++) {
        from[q] = p->window[first + q];
        tap[q] = (uint8_t)p->tap[first + q];
    }
    for (ptrdiff_t r = 0; r < p->rows; r++) {
        T *dx = (T *)p->dx + r * p->dx_row;
        for (ptrdiff_t i = 0; i < p->pixels; i++, dx += p->dx_step) {
            const ptrdiff_t pixel = r * p->row + i * channels;
            for (ptrdiff_t c = 0; c < whole; c += VF) {
                V sum = {0};
                if (add) sum = FC_N(load)(dx + c);
                sum = FC_N(unpool_sum)(p, sum, from, tap, pixel + c, count, relu);
                FC_N(store)(dx + c, sum);
            }
            if (whole == channels) continue;
            const ptrdiff_t lanes = channels - whole, at = pixel + whole;
            if (count == 0 || from[count - 1] + at + VF <= p->room) {
                V sum = {0};
                if (add) sum = FC_N(load_part)(dx + whole, lanes);
                sum = FC_N(unpool_sum)(p, sum, from, tap, at, count, relu);
                FC_N(store_lanes)(dx + whole, sum, lanes);
            } else {
                FC_N(unpool_lanes)(p, dx + whole, from, tap, at, count, lanes, add);
            }
        }
    }
}

/* Constant counts, whose loops are unrolled. */
FC_INLINE void FC_N(unpool_some)(const fc_unpool *p, ptrdiff_t first, ptrdiff_t count, const int add,
                                 const int relu)
{
    if (count == 1)
        FC_N(unpool_windows)(p, first, 1, add, relu);
    else if (count == 2)
        FC_N(unpool_windows)(p, first, 2, add, relu);
    else if (count == 3)
        FC_N(unpool_windows)(p, first, 3, add, relu);
    else if (count == FC_SEEN)
        FC_N(unpool_windows)(p, first, FC_SEEN, add, relu);
    else if (!add)
        FC_N(unpool_windows)(p, first, 0, 0, relu);
}

FC_INLINE void FC_N(unpool_all)(const fc_unpool *call, const int relu)
{
    const fc_unpool copy = *call, *p = &copy; /* in registers: no store can change it */
    FC_N(unpool_some)(p, 0, p->windows < FC_SEEN ? p->windows : FC_SEEN, 0, relu);
    for (ptrdiff_t q = FC_SEEN; q < p->windows; q += FC_SEEN)
        FC_N(unpool_some)(p, q, p->windows - q < FC_SEEN ? p->windows - q : FC_SEEN, 1, relu);
}
#undef FC_SEEN

static void FC_N(unpool_pixels)(const fc_unpool *p)
{
    if (p->y)
        FC_N(unpool_all)(p, 1);
    else
        FC_N(unpool_all)(p, 0);
}

static int FC_N(most)(const uint8_t *taps, ptrdiff_t n)
{
    uint8_t most = 0;
    for (ptrdiff_t i = 0; i < n; i++) most = taps[i] > most ? taps[i] : most;
    return most;
}

/* Indices are looked at in runs of so many: all of a run, in vectors, before the first is used. */
#define FC_RUN 256

static ptrdiff_t FC_N(unpool)(void *dx_, const void *dy_, const int32_t *indices,
                              ptrdiff_t pixels, ptrdiff_t channels, ptrdiff_t plane)
{
    T *restrict dx = (T *)dx_;
    const T *restrict dy = (const T *)dy_;
    const uint32_t end = plane > INT32_MAX ? (uint32_t)INT32_MAX + 1 : (uint32_t)plane;
    const ptrdiff_t each = channels < FC_RUN ? FC_RUN / channels : 1;
    for (ptrdiff_t first = 0; first < pixels; first += each) {
        const ptrdiff_t last = pixels - first < each ? pixels : first + each;
        uint32_t most = 0;
        for (ptrdiff_t i = first * channels; i < last * channels; i++)
            most = (uint32_t)indices[i] > most ? (uint32_t)indices[i] : most;
        if (most >= end)
            for (ptrdiff_t i = first * channels;; i++)
                if ((uint32_t)indices[i] >= end) return i;
        if (channels == 1)
            for (ptrdiff_t i = first; i < last; i++) dx[indices[i]] += dy[i];
        else
            for (ptrdiff_t p = first * channels; p < last * channels; p += channels)
                for (ptrdiff_t c = 0; c < channels; c++)
                    dx[indices[p + c] * channels + c] += dy[p + c];
    }
    return -1;
}
#undef FC_RUN
