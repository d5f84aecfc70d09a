/* mix.inc.h - weighted sums of pixels or rows; included once per type and tier.
 *
 * Several vectors of an input are added at a time: a line of it is used up while it is here, and
 * no sum waits for the last addition to itself.  The sum starts from 0 everywhere, so that one value
 * alone is rounded like a lane of a vector.
 */

/* Inputs of a long sum that are added at a time, so that each is read in a long run. */
#define FC_MIX_INPUTS 8

/* What sums are divided by: a power of two as a factor, which gives the same bits sooner. */
typedef struct {
    T by;
    int divides, exact;
} FC_N(quotient);

FC_INLINE FC_N(quotient) FC_N(quotient_of)(const fc_mix *m, ptrdiff_t j)
{
    FC_N(quotient) q = {1, m->divisor != 0, 0};
    if (!q.divides) return q;
    q.by = ((const T *)m->divisor)[j] * (T)m->divide;
    union { T value; I bits; } number = {q.by};
    q.exact = (number.bits & (((I)1 << (sizeof(T) == 4 ? 23 : 52)) - 1)) == 0 && q.by <= 65536;
    if (q.exact) q.by = 1 / q.by;
    return q;
}

/* nv vectors of channels, the last one of `last` lanes, of the inputs [t0, t1) of the sum. */
FC_INLINE void FC_N(mix_vectors)(const fc_mix *m, ptrdiff_t j, ptrdiff_t c, const int nv,
                                 const ptrdiff_t last, ptrdiff_t t0, ptrdiff_t t1,
                                 const FC_N(quotient) q, const int begins, const int ends)
{
    const T *x = (const T *)m->x + c, *weight = (const T *)m->weight;
    T *y = (T *)m->y + j * m->channels + c;
    V sum[4];
    FC_UNROLL
    for (int v = 0; v < nv; v++) {
        sum[v] = (V){0};
        if (!begins) sum[v] = FC_N(load_lanes)(y + v * VF, last, v < nv - 1 || last == VF);
    }
    for (ptrdiff_t t = t0; t < t1; t++) {
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
        if (begins && ends && t0 == t1) sum[v] = (V){0} + (T)m->fill;
        if (ends && q.divides) {
            if (q.exact)
                sum[v] *= q.by;
            else
                sum[v] /= q.by;
        }
        if (v == nv - 1 && last < VF)
            FC_N(store_part)(y + v * VF, sum[v], last);
        else
            FC_N(store)(y + v * VF, sum[v]);
    }
}

/* All channels of some inputs of a sum: those that it `begins` and `ends` with, or not. */
FC_INLINE void FC_N(mix_inputs)(const fc_mix *m, ptrdiff_t j, ptrdiff_t t0, ptrdiff_t t1,
                                const FC_N(quotient) q, const int begins, const int ends)
{
    ptrdiff_t c = 0;
    for (; c + 4 * VF <= m->channels; c += 4 * VF)
        FC_N(mix_vectors)(m, j, c, 4, VF, t0, t1, q, begins, ends);
    for (; c + VF <= m->channels; c += VF)
        FC_N(mix_vectors)(m, j, c, 1, VF, t0, t1, q, begins, ends);
    if (c < m->channels)
        FC_N(mix_vectors)(m, j, c, 1, m->channels - c, t0, t1, q, begins, ends);
}

/* One channel: its values are gathered one by one. */
FC_INLINE void FC_N(mix_one)(const fc_mix *m, ptrdiff_t j)
{
    const T *x = (const T *)m->x, *weight = (const T *)m->weight;
    T sum = 0;
    for (ptrdiff_t t = m->start[j]; t < m->start[j + 1]; t++)
        sum += weight[t] * x[m->index[t] * m->pitch];
    if (m->start[j] == m->start[j + 1]) sum = (T)m->fill;
    if (m->divisor) sum /= ((const T *)m->divisor)[j] * (T)m->divide;
    ((T *)m->y)[j] = sum;
}

static void FC_N(mix)(const fc_mix *call)
{
    const fc_mix copy = *call, *m = &copy; /* in registers: no store can change it */
    for (ptrdiff_t j = 0; j < m->n; j++) {
        if (m->channels == 1) {
            FC_N(mix_one)(m, j);
            continue;
        }
        const FC_N(quotient) q = FC_N(quotient_of)(m, j);
        const ptrdiff_t end = m->start[j + 1];
        ptrdiff_t t = m->start[j];
        if (m->channels <= 8 * VF || end - t < 2 * FC_MIX_INPUTS) {
            FC_N(mix_inputs)(m, j, t, end, q, 1, 1);
            continue;
        }
        FC_N(mix_inputs)(m, j, t, t + FC_MIX_INPUTS, q, 1, 0);
        for (t += FC_MIX_INPUTS; end - t > FC_MIX_INPUTS; t += FC_MIX_INPUTS)
            FC_N(mix_inputs)(m, j, t, t + FC_MIX_INPUTS, q, 0, 0);
        FC_N(mix_inputs)(m, j, t, end, q, 0, 1);
    }
}
#undef FC_MIX_INPUTS
