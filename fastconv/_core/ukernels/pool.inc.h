/* pool.inc.h - max pooling, channels in the lanes; included once per type and tier. */

FC_INLINE void FC_N(max_pool_vector)(const fc_pool *p, ptrdiff_t c, ptrdiff_t lanes)
{
    const T *x = (const T *)p->x + c;
    FC_N(ivec) best_index = {0}, take;
    V best = {0};
    int first = 1;
    for (ptrdiff_t it = 0; it < p->nt; it++) {
        for (ptrdiff_t iu = 0; iu < p->nu; iu++) {
            const T *at = x + it * p->x_t + iu * p->x_u;
            const V v = lanes == VF ? FC_N(load)(at) : FC_N(load_part)(at, lanes);
            take = first ? ~best_index : (v > best) | (v != v);
            const I index = p->index + (I)it * p->index_t + (I)iu * p->index_u;
            best = (V)(((FC_N(ivec))v & take) | ((FC_N(ivec))best & ~take));
            best_index = (index & take) | (best_index & ~take);
            first = 0;
        }
    }
    if (lanes == VF)
        FC_N(store)((T *)p->y + c, best);
    else
        FC_N(store_part)((T *)p->y + c, best, lanes);
    if (p->indices)
        for (ptrdiff_t i = 0; i < lanes; i++) p->indices[c + i] = (int32_t)best_index[i];
}

static void FC_N(max_pool)(const fc_pool *p)
{
    ptrdiff_t c = 0;
    for (; c + VF <= p->channels; c += VF) FC_N(max_pool_vector)(p, c, VF);
    if (c < p->channels) FC_N(max_pool_vector)(p, c, p->channels - c);
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
