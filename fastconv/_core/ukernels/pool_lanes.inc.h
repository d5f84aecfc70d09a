/* pool_lanes.inc.h - max pooling by vectors of LANES channels; included by pool.inc.h.
 *
 * Pixels are written in the order in which they lie in memory.  So a vector that holds a pixel's
 * last channels may reach into the pixels after it, which come later and overwrite what it left
 * there: with few channels, whole vectors still do the work.  `room` says how far that may go.
 */

enum { P(VECTORS) = 4 };

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

/* nv vectors of a window's channels: all of a pixel's, so that its cache lines are read once. */
FC_INLINE void P(max_pool_vectors)(const fc_pool *p, ptrdiff_t j, ptrdiff_t c, const int nv,
                                   const ptrdiff_t nt, const ptrdiff_t nu)
{
    const T *x = (const T *)p->x + j * p->x_n + c;
    const ptrdiff_t at = j * p->channels + c;
    const I first = p->index + (I)j * p->index_n;
    P(vec) best[P(VECTORS)];
    P(ivec) best_index[P(VECTORS)];
    FC_UNROLL
    for (int i = 0; i < nv; i++) {
        best[i] = P(load)(x + i * LANES);
        best_index[i] = (P(ivec)){0} + first;
    }
    for (ptrdiff_t it = 0; it < nt; it++) {
        for (ptrdiff_t iu = 0; iu < nu; iu++) {
            if (it + iu == 0) continue;
            const I index = first + (I)it * p->index_t + (I)iu * p->index_u;
            FC_UNROLL
            for (int i = 0; i < nv; i++) {
                const P(vec) v = P(load)(x + it * p->x_t + iu * p->x_u + i * LANES);
                const P(ivec) take = (v > best[i]) | (v != v);
                best[i] = (P(vec))(((P(ivec))v & take) | ((P(ivec))best[i] & ~take));
                best_index[i] = (index & take) | (best_index[i] & ~take);
            }
        }
    }
    FC_UNROLL
    for (int i = 0; i < nv; i++) {
        P(store)((T *)p->y + at + i * LANES, best[i]);
        if (p->taps)
            P(narrow)(p->taps + at + i * LANES, best_index[i]);
        else if (p->indices)
            *(P(uindex) *)(p->indices + at + i * LANES) =
                __builtin_convertvector(best_index[i], P(index));
    }
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
        if (nt * nu > 9)
            for (; c + P(VECTORS) * LANES <= p->channels; c += P(VECTORS) * LANES)
                P(max_pool_vectors)(p, j, c, P(VECTORS), nt, nu);
        for (; c + LANES <= p->channels; c += LANES) P(max_pool_vectors)(p, j, c, 1, nt, nu);
        if (c == p->channels) continue;
        if (j * p->x_n + c + reach <= p->x_room && j * p->channels + c + LANES <= p->y_room)
            P(max_pool_vectors)(p, j, c, 1, nt, nu);
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
