/* mix.inc.h - weighted sums of pixels or rows; included once per type and tier.
 *
 * Several vectors of an input are added at a time: a line of it is used up while it is here, and
 * no sum waits for the last addition to itself.  The sum starts from 0 everywhere, so that one value
 * alone is rounded like a lane of a vector.
 */

/* nv vectors of channels, the last one of `last` lanes. */
FC_INLINE void FC_N(mix_vectors)(const fc_mix *m, ptrdiff_t j, ptrdiff_t c, const int nv,
                                 const ptrdiff_t last, const T divisor)
{
    const T *x = (const T *)m->x + c, *weight = (const T *)m->weight;
    T *y = (T *)m->y + j * m->channels + c;
    V sum[4];
    FC_UNROLL
    for (int v = 0; v < nv; v++) sum[v] = (V){0};
    for (ptrdiff_t t = m->start[j]; t < m->start[j + 1]; t++) {
        const T *at = x + m->index[t] * m->pitch;
        FC_UNROLL
        for (int v = 0; v < nv; v++) {
            const V value = v == nv - 1 && last < VF ? FC_N(load_part)(at + v * VF, last)
                                                     : FC_N(load)(at + v * VF);
            sum[v] += weight[t] * value;
        }
    }
    FC_UNROLL
    for (int v = 0; v < nv; v++) {
        if (m->start[j] == m->start[j + 1]) sum[v] = (V){0} + (T)m->fill;
        if (m->divisor) sum[v] /= divisor;
        if (v == nv - 1 && last < VF)
            FC_N(store_part)(y + v * VF, sum[v], last);
        else
            FC_N(store)(y + v * VF, sum[v]);
    }
}

/* One channel: its values are gathered one by one. */
FC_INLINE void FC_N(mix_one)(const fc_mix *m, ptrdiff_t j, const T divisor)
{
    const T *x = (const T *)m->x, *weight = (const T *)m->weight;
    T sum = 0;
    for (ptrdiff_t t = m->start[j]; t < m->start[j + 1]; t++)
        sum += weight[t] * x[m->index[t] * m->pitch];
    if (m->start[j] == m->start[j + 1]) sum = (T)m->fill;
    ((T *)m->y)[j] = m->divisor ? sum / divisor : sum;
}

static void FC_N(mix)(const fc_mix *call)
{
    const fc_mix copy = *call, *m = &copy; /* in registers: no store can change it */
    for (ptrdiff_t j = 0; j < m->n; j++) {
        const T divisor = m->divisor ? ((const T *)m->divisor)[j] * (T)m->divide : 1;
        ptrdiff_t c = 0;
        if (m->channels == 1) {
            FC_N(mix_one)(m, j, divisor);
            continue;
        }
        for (; c + 4 * VF <= m->channels; c += 4 * VF)
            FC_N(mix_vectors)(m, j, c, 4, VF, divisor);
        for (; c + VF <= m->channels; c += VF) FC_N(mix_vectors)(m, j, c, 1, VF, divisor);
        if (c < m->channels) FC_N(mix_vectors)(m, j, c, 1, m->channels - c, divisor);
    }
}
