/* mix.inc.h - weighted sums of pixels or rows; included once per type and tier.
 *
 * Channels fill the vectors of `mix`.  Several vectors of an input are added at a time: a line of it
 * is used up while it is here, and no sum waits for the last addition to itself.  Where there are few
 * channels, or one, neighbouring values of a row fill those of `mix_rows`, and a table says where
 * they come from.  Both begin a sum with its first product and add the others one by one: the same
 * bits, and a single value of weight 1 stays what it is.
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

/* nv vectors of one input: of a pixel, or of the weighted sum of such in several rows. */
FC_INLINE void FC_N(mix_input)(const fc_mix *m, const T *x, V value[], const int nv,
                               const ptrdiff_t last)
{
    const T *by = (const T *)m->row_weight;
    if (m->row) x += m->row[0] * m->row_pitch;
    FC_UNROLL
    for (int v = 0; v < nv; v++)
        value[v] = FC_N(load_lanes)(x + v * VF, last, v < nv - 1 || last == VF);
    if (!m->row) return;
    FC_UNROLL
    for (int v = 0; v < nv; v++) {
        value[v] *= by[0];
        FC_ROUND(value[v]);
    }
    for (ptrdiff_t r = 1; r < m->rows; r++) {
        const T *at = x + (m->row[r] - m->row[0]) * m->row_pitch;
        FC_UNROLL
        for (int v = 0; v < nv; v++)
            value[v] += by[r] * FC_N(load_lanes)(at + v * VF, last, v < nv - 1 || last == VF);
    }
}

/* nv vectors of channels, the last one of `last` lanes, of the inputs [t0, t1) of the sum. */
FC_INLINE void FC_N(mix_vectors)(const fc_mix *m, ptrdiff_t j, ptrdiff_t c, const int nv,
                                 const ptrdiff_t last, ptrdiff_t t0, ptrdiff_t t1,
                                 const FC_N(quotient) q, const int begins, const int ends)
{
    const T *x = (const T *)m->x + c, *weight = (const T *)m->weight;
    T *y = (T *)m->y + j * m->channels + c;
    V sum[4], value[4];
    if (begins && t0 < t1) {
        FC_N(mix_input)(m, x + m->index[t0] * m->pitch, value, nv, last);
        FC_UNROLL
        for (int v = 0; v < nv; v++) {
            sum[v] = weight[t0] * value[v];
            FC_ROUND(sum[v]);
        }
        t0++;
    } else {
        FC_UNROLL
        for (int v = 0; v < nv; v++) {
            sum[v] = (V){0} + (T)m->fill;
            if (!begins) sum[v] = FC_N(load_lanes)(y + v * VF, last, v < nv - 1 || last == VF);
        }
    }
    for (ptrdiff_t t = t0; t < t1; t++) {
        FC_N(mix_input)(m, x + m->index[t] * m->pitch, value, nv, last);
        FC_UNROLL
        for (int v = 0; v < nv; v++) sum[v] += weight[t] * value[v];
    }
    FC_UNROLL
    for (int v = 0; v < nv; v++) {
        if (ends && q.divides) {
            if (q.exact)
                sum[v] *= q.by;
            else
                sum[v] /= q.by;
        }
        if (v == nv - 1 && last < VF)
            FC_N(store_part)(y + v * VF, sum[v], last);
        else if (ends && m->stream)
            FC_N(stream)(y + v * VF, sum[v]);
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

static void FC_N(mix)(const fc_mix *call)
{
    const fc_mix copy = *call, *m = &copy; /* in registers: no store can change it */
    for (ptrdiff_t j = 0; j < m->n; j++) {
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

/* `count` rows from row r on. */
FC_INLINE void FC_N(mix_some_rows)(const fc_mix_rows *m, ptrdiff_t r, const int count)
{
    const T *const *x = (const T *const *)m->x + r;
    T *y = (T *)m->y + r * m->n;
    const T *weight = (const T *)m->weight, *divide = (const T *)m->divide;
    const ptrdiff_t n = m->n, source = m->source, lanes = n < VF ? n : VF;
    for (ptrdiff_t done = 0, v = 0; done < n; done += VF, v++) {
        /* The last vector overlaps the one before it. */
        const ptrdiff_t at = done + VF <= n || n < VF ? done : n - VF;
        if (m->run[v] > 1 && !m->divisor) {
            /* The factor is 1, and makes of a denormal what it becomes elsewhere. */
            const ptrdiff_t slot = m->first[v], end = m->run[v] * VF;
            const V one = FC_N(load)(weight + slot * VF);
            for (int i = 0; i < count; i++) {
                const T *from = x[i] + m->base[slot];
                T *to = y + i * n + at;
                for (ptrdiff_t k = 0; k < end; k += VF)
                    FC_N(store)(to + k, one * FC_N(load)(from + k));
            }
            v += m->run[v] - 1;
            done += end - VF;
            continue;
        }
        V sum[4];
        FC_UNROLL
        for (int i = 0; i < count; i++) sum[i] = (V){0} + (T)m->fill;
        for (ptrdiff_t s = m->first[v]; s < m->first[v + 1]; s++) {
            const V by = FC_N(load)(weight + s * VF);
            const FC_N(ivec) place = *(const FC_N(uivec) *)((const I *)m->place + s * VF);
            const FC_N(ivec) here = place >= 0;
            const ptrdiff_t base = m->base[s];
            const int begins = m->kind[s] & FC_BEGINS;
            V value[4];
            FC_UNROLL
            for (int i = 0; i < count; i++)
                value[i] = source < VF ? FC_N(load_part)(x[i], source) : FC_N(load)(x[i] + base);
            if (m->kind[s] & FC_IN_ORDER) {
                FC_UNROLL
                for (int i = 0; i < count; i++) {
                    if (begins) {
                        FC_ROUND(value[i]);
                        sum[i] = by * value[i];
                        FC_ROUND(sum[i]);
                    } else {
                        sum[i] += by * value[i];
                    }
                }
                continue;
            }
            FC_UNROLL
            for (int i = 0; i < count; i++) {
                value[i] = FC_N(permute)(value[i], place);
                if (begins) {
                    FC_ROUND(value[i]);
                    value[i] = by * value[i];
                } else {
                    value[i] = sum[i] + by * value[i];
                }
                sum[i] = (V)(((FC_N(ivec))value[i] & here) | ((FC_N(ivec))sum[i] & ~here));
            }
        }
        if (m->divisor) {
            const T *divisor = (const T *)m->divisor + at;
            const V all = FC_N(load_lanes)(divisor, lanes, lanes == VF);
            FC_UNROLL
            for (int i = 0; i < count; i++) sum[i] /= all * divide[r + i];
        }
        FC_UNROLL
        for (int i = 0; i < count; i++) {
            if (n < VF)
                FC_N(store_part)(y + i * n + at, sum[i], lanes);
            else if (m->stream && at == done)
                FC_N(stream)(y + i * n + at, sum[i]);
            else
                FC_N(store)(y + i * n + at, sum[i]);
        }
    }
}

static void FC_N(mix_rows)(const fc_mix_rows *call)
{
    const fc_mix_rows copy = *call, *m = &copy; /* in registers: no store can change it */
    ptrdiff_t r = 0;
    if (!m->alone)
        for (; r + 4 <= m->rows; r += 4) FC_N(mix_some_rows)(m, r, 4);
    for (; r < m->rows; r++) FC_N(mix_some_rows)(m, r, 1);
}
