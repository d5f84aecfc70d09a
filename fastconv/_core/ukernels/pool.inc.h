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
static void FC_N(unpool_windows)(const fc_unpool *p) { FC_POOL(unpool_windows, p); }
#undef FC_POOL

static ptrdiff_t FC_N(unpool)(void *dx_, const void *dy_, const int32_t *indices,
                              ptrdiff_t pixels, ptrdiff_t channels, ptrdiff_t plane)
{
    T *dx = (T *)dx_;
    const T *dy = (const T *)dy_;
    for (ptrdiff_t p = 0; p < pixels; p++) {
        for (ptrdiff_t c = 0; c < channels; c++) {
            const ptrdiff_t i = p * channels + c;
            if (indices[i] < 0 || indices[i] >= plane) return i;
            dx[indices[i] * channels + c] += dy[i];
        }
    }
    return -1;
}
