/* pool_lanes.inc.h - max pooling and its gradient by vectors of LANES channels; included by pool.inc.h.
 *
 * Pixels are written in the order in which they lie in memory.  So a vector that holds a pixel's
 * last channels may reach into the pixels after it, which come later and overwrite what it left
 * there: with few channels, whole vectors still do the work.  `room` says how far that may go.
 */

typedef T P(vec) __attribute__((vector_size(LANES * sizeof(T))));
typedef I P(ivec) __attribute__((vector_size(LANES * sizeof(T))));
typedef T P(uvec) __attribute__((vector_size(LANES * sizeof(T)), aligned(sizeof(T)), may_alias));
typedef I P(uivec) __attribute__((vector_size(LANES * sizeof(T)), aligned(sizeof(T)), may_alias));
typedef uint8_t P(bytes) __attribute__((vector_size(LANES)));
typedef uint8_t P(ubytes) __attribute__((vector_size(LANES), aligned(1), may_alias));
typedef int32_t P(index) __attribute__((vector_size(LANES * 4)));
typedef int32_t P(uindex) __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

FC_INLINE P(vec) P(load)(const T *p) { return *(const P(uvec) *)p; }
FC_INLINE void P(store)(T *p, P(vec) x) { *(P(uvec) *)p = x; }

/* The lowest byte of every lane. */
FC_INLINE void P(narrow)(uint8_t *dst, P(ivec) x)
{
#if defined(__clang__) || FC_VBYTES != 32
    *(P(ubytes) *)dst = __builtin_convertvector(x, P(bytes));
#else
    /* gcc converts vectors of 32 bytes lane by lane, but knows how to shuffle them. */
    typedef uint8_t all __attribute__((vector_size(LANES * sizeof(T))));
    all order = {0};
    FC_UNROLL
    for (int l = 0; l < LANES; l++) order[l] = (uint8_t)(l * (int)sizeof(T));
    const all low = __builtin_shuffle((all)x, order);
    __builtin_memcpy(dst, &low, LANES);
#endif
}

FC_INLINE void P(max_pool_vector)(const fc_pool *p, ptrdiff_t j, ptrdiff_t c,
                                  const ptrdiff_t nt, const ptrdiff_t nu)
{
    const T *x = (const T *)p->x + j * p->x_n + c;
    const ptrdiff_t at = j * p->channels + c;
    const I first = p->index + (I)j * p->index_n;
    P(vec) best = P(load)(x);
    P(ivec) best_index = (P(ivec)){0} + first;
    for (ptrdiff_t it = 0; it < nt; it++) {
        for (ptrdiff_t iu = 0; iu < nu; iu++) {
            if (it + iu == 0) continue;
            const P(vec) v = P(load)(x + it * p->x_t + iu * p->x_u);
            const P(ivec) take = (v > best) | (v != v);
            const I index = first + (I)it * p->index_t + (I)iu * p->index_u;
            best = (P(vec))(((P(ivec))v & take) | ((P(ivec))best & ~take));
            best_index = (index & take) | (best_index & ~take);
        }
    }
    P(store)((T *)p->y + at, best);
    if (p->taps)
        P(narrow)(p->taps + at, best_index);
    else if (p->indices)
        *(P(uindex) *)(p->indices + at) = __builtin_convertvector(best_index, P(index));
}

/* One channel, where a vector would reach too far. */
FC_INLINE void P(max_pool_one)(const fc_pool *p, ptrdiff_t j, ptrdiff_t c)
{
    const T *x = (const T *)p->x + j * p->x_n + c;
    const ptrdiff_t at = j * p->channels + c;
    const int32_t first = p->index + (int32_t)j * p->index_n;
    T best = x[0];
    int32_t best_index = first;
    for (ptrdiff_t it = 0; it < p->nt; it++) {
        for (ptrdiff_t iu = 0; iu < p->nu; iu++) {
            const T v = x[it * p->x_t + iu * p->x_u];
            const int take = v > best || v != v;
            best = take ? v : best;
            best_index =
                take ? first + (int32_t)it * p->index_t + (int32_t)iu * p->index_u : best_index;
        }
    }
    ((T *)p->y)[at] = best;
    if (p->taps)
        p->taps[at] = (uint8_t)best_index;
    else if (p->indices)
        p->indices[at] = best_index;
}

FC_INLINE void P(max_pool_body)(const fc_pool *call, const ptrdiff_t nt, const ptrdiff_t nu)
{
    const fc_pool copy = *call, *p = &copy; /* in registers: no store can change it */
    const ptrdiff_t reach = (nt - 1) * p->x_t + (nu - 1) * p->x_u + LANES;
    for (ptrdiff_t j = 0; j < p->n; j++) {
        ptrdiff_t c = 0;
        for (; c + LANES <= p->channels; c += LANES) P(max_pool_vector)(p, j, c, nt, nu);
        if (c == p->channels) continue;
        if (j * p->x_n + c + reach <= p->x_room && j * p->channels + c + LANES <= p->y_room)
            P(max_pool_vector)(p, j, c, nt, nu);
        else
            for (; c < p->channels; c++) P(max_pool_one)(p, j, c);
    }
}

static void P(max_pool)(const fc_pool *p)
{
    if (p->nt == 2 && p->nu == 2)
        P(max_pool_body)(p, 2, 2);
    else if (p->nt == 3 && p->nu == 3)
        P(max_pool_body)(p, 3, 3);
    else
        P(max_pool_body)(p, p->nt, p->nu);
}

/* `lanes` channels of a window's gradient, from channel c on, go to the pixels of its nu taps. */
FC_INLINE void P(unpool_vector)(const fc_unpool *p, ptrdiff_t j, ptrdiff_t c, ptrdiff_t lanes,
                                const int add, const int relu)
{
    const ptrdiff_t at = j * p->channels + c;
    T *dx = (T *)p->dx + j * p->dx_n + c;
    P(vec) v = P(load)((const T *)p->dy + at);
    I widened[LANES];
    for (int l = 0; l < LANES; l++) widened[l] = p->taps[at + l];
    const P(ivec) taps = *(const P(uivec) *)widened - p->tap;
    if (relu) v = (P(vec))((P(ivec))v & (P(load)((const T *)p->y + at) > 0));
    if (add && lanes < LANES) {
        for (int l = 0; l < LANES; l++) widened[l] = l < lanes ? -1 : 0;
        v = (P(vec))((P(ivec))v & *(const P(uivec) *)widened);
    }
    for (ptrdiff_t u = 0; u < p->nu; u++, dx += p->dx_u) {
        const P(vec) won = (P(vec))((P(ivec))v & (taps == (I)u));
        P(store)(dx, add ? P(load)(dx) + won : won);
    }
}

FC_INLINE void P(unpool_body)(const fc_unpool *call, const int add, const int relu)
{
    const fc_unpool copy = *call, *p = &copy; /* in registers: no store can change it */
    const T *dy = (const T *)p->dy, *y = (const T *)p->y;
    const ptrdiff_t channels = p->channels, whole = channels / LANES * LANES;
    for (ptrdiff_t j = 0; j < p->n; j++) {
        /* What the last channels' vectors leave in the pixels after their own is overwritten by
         * the whole vectors of these, or of the next window. */
        if (whole < channels) {
            const ptrdiff_t to = j * p->dx_n + (p->nu - 1) * p->dx_u + whole;
            if (to + LANES <= p->dx_room && j * channels + whole + LANES <= p->dy_room)
                P(unpool_vector)(p, j, whole, channels - whole, add, relu);
            else
                for (ptrdiff_t u = 0; u < p->nu; u++) {
                    T *dx = (T *)p->dx + j * p->dx_n + u * p->dx_u;
                    for (ptrdiff_t c = whole; c < channels; c++) {
                        const ptrdiff_t i = j * channels + c;
                        const T v = p->taps[i] == p->tap + u && (!relu || y[i] > 0) ? dy[i] : 0;
                        dx[c] = add ? dx[c] + v : v;
                    }
                }
        }
        for (ptrdiff_t c = 0; c < whole; c += LANES) P(unpool_vector)(p, j, c, LANES, add, relu);
        for (ptrdiff_t i = 0; i < p->gap; i++) {
            T *dx = (T *)p->dx + j * p->dx_n + (p->nu + i) * p->dx_u;
            for (ptrdiff_t c = 0; c < channels; c++) dx[c] = 0;
        }
    }
}

static void P(unpool_windows)(const fc_unpool *p)
{
    if (p->add && p->y)
        P(unpool_body)(p, 1, 1);
    else if (p->add)
        P(unpool_body)(p, 1, 0);
    else if (p->y)
        P(unpool_body)(p, 0, 1);
    else
        P(unpool_body)(p, 0, 0);
}
