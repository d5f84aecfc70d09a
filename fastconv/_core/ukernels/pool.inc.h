/* pool.inc.h - max pooling, channels in the lanes; included once per type and tier. */

FC_INLINE void FC_N(max_pool_vector)(const fc_pool *p, ptrdiff_t c, ptrdiff_t lanes)
{
    const T *x = (const T *)p->x + c;
    FC_N(ivec) best_index = {0}, take;
    V best = {0};
    int first = 1;
    for (ptrdiff_t it = 0; it < p->nt; it++) {
        for (ptrdiff_t iu = 0; iu < p->nu; iu++) {
            const V v = FC_N(load)(x + it * p->x_t + iu * p->x_u);
            take = first ? ~best_index : (v > best) | (v != v);
            const I index = p->index + (I)it * p->index_t + (I)iu * p->index_u;
            best = (V)(((FC_N(ivec))v & take) | ((FC_N(ivec))best & ~take));
            best_index = (index & take) | (best_index & ~take);
            first = 0;
        }
    }
    if (lanes == VF) {
        FC_N(store)((T *)p->y + c, best);
    } else {
        T part[VF];
        FC_N(store)(part, best);
        for (ptrdiff_t i = 0; i < lanes; i++) ((T *)p->y)[c + i] = part[i];
    }
    if (p->indices) {
        I part[VF];
        *(FC_N(uivec) *)part = best_index;
        for (ptrdiff_t i = 0; i < lanes; i++) p->indices[c + i] = (int32_t)part[i];
    }
}

/* One channel, where a vector would reach past the end of x. */
FC_INLINE void FC_N(max_pool_one)(const fc_pool *p, ptrdiff_t c)
{
    const T *x = (const T *)p->x + c;
    T best = x[0];
    int32_t best_index = p->index;
    for (ptrdiff_t it = 0; it < p->nt; it++) {
        for (ptrdiff_t iu = 0; iu < p->nu; iu++) {
            const T v = x[it * p->x_t + iu * p->x_u];
            const int take = v > best || v != v;
            best = take ? v : best;
            best_index =
                take ? p->index + (int32_t)it * p->index_t + (int32_t)iu * p->index_u : best_index;
        }
    }
    ((T *)p->y)[c] = best;
    if (p->indices) p->indices[c] = best_index;
}

static void FC_N(max_pool)(const fc_pool *p)
{
    ptrdiff_t c = 0;
    for (; c + VF <= p->channels; c += VF) FC_N(max_pool_vector)(p, c, VF);
    if (p->over_read && c < p->channels)
        FC_N(max_pool_vector)(p, c, p->channels - c);
    else
        for (; c < p->channels; c++) FC_N(max_pool_one)(p, c);
}

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
