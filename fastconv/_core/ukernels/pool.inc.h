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

/* `lanes` channels of a window's gradient, 0 where the pixel has not won it; whole vectors are read
 * with the constant `whole`. */
FC_INLINE V FC_N(won_vector)(const fc_unpool *p, ptrdiff_t at, I tap, ptrdiff_t lanes,
                             const int whole, const int relu)
{
    I taps[VF];
    if (whole)
        for (int l = 0; l < VF; l++) taps[l] = p->taps[at + l];
    else
        for (ptrdiff_t l = 0; l < VF; l++) taps[l] = l < lanes ? p->taps[at + l] : 0;
    FC_N(ivec) won = *(const FC_N(uivec) *)taps == tap;
    if (relu) won &= FC_N(load_lanes)((const T *)p->y + at, lanes, whole) > 0;
    return (V)((FC_N(ivec))FC_N(load_lanes)((const T *)p->dy + at, lanes, whole) & won);
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

/* The sums of pixel i, from channel c on. */
FC_INLINE V FC_N(unpool_sum)(const fc_unpool *p, const ptrdiff_t *from, const I *tap, ptrdiff_t at,
                             const ptrdiff_t count, ptrdiff_t lanes, const int whole, const int relu)
{
    V sum = {0};
    FC_UNROLL
    for (ptrdiff_t q = 0; q < count; q++) {
        const V v = FC_N(won_vector)(p, from[q] + at, tap[q], lanes, whole, relu);
        sum = q ? sum + v : v;
    }
    return sum;
}

/* `add` to what earlier windows left.  It is constant: with a variable one gcc 12 adds but the first
 * lane. */
FC_INLINE void FC_N(unpool_windows)(const fc_unpool *p, ptrdiff_t first, const ptrdiff_t count,
                                    const int add, const int relu)
{
    const ptrdiff_t channels = p->channels, whole = channels / VF * VF;
    ptrdiff_t from[FC_SEEN];
    I tap[FC_SEEN];
    FC_UNROLL
    for (ptrdiff_t q = 0; q < count; q++) {
        from[q] = p->window[first + q];
        tap[q] = (I)p->tap[first + q];
    }
    T *dx = (T *)p->dx;
    for (ptrdiff_t i = 0; i < p->pixels; i++, dx += p->dx_step) {
        for (ptrdiff_t c = 0; c < whole; c += VF) {
            const V sum = FC_N(unpool_sum)(p, from, tap, i * channels + c, count, VF, 1, relu);
            FC_N(store)(dx + c, add ? FC_N(load)(dx + c) + sum : sum);
        }
        if (whole < channels) {
            const ptrdiff_t lanes = channels - whole, at = i * channels + whole;
            V sum;
            if (count == 0 || from[count - 1] + at + VF <= p->room)
                sum = FC_N(unpool_sum)(p, from, tap, at, count, lanes, 1, relu);
            else
                sum = FC_N(unpool_sum)(p, from, tap, at, count, lanes, 0, relu);
            if (add) sum += FC_N(load_part)(dx + whole, lanes);
            FC_N(store_lanes)(dx + whole, sum, lanes);
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
    else
        FC_N(unpool_windows)(p, first, 0, add, relu);
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
