/* tile.inc.h - the outer-product register tile; included once per type and tier.
 *
 * One body serves every pass of the convolution.  Its MR x NR accumulators fill the register
 * file, an element of `a` is broadcast by the FMA itself, and a vector of `b` is used MR times.
 * The row pointers are kept apart so that the rows may lie anywhere: neighbouring pixels, strided
 * pixels, pixels of several images, taps of a kernel.
 */

FC_INLINE void FC_N(tile_body)(const fc_tile *t, const int MR, const int NR)
{
    V acc[FC_MAX_MR][FC_MAX_NR];
    const T *row[FC_MAX_MR];
    FC_UNROLL
    for (int p = 0; p < MR; p++) {
        row[p] = (const T *)t->a + t->a_off[p];
        FC_UNROLL
        for (int v = 0; v < NR; v++) acc[p][v] = (V){0};
    }
    const ptrdiff_t a_k = t->a_k, b_k = t->b_k;
    for (ptrdiff_t it = 0; it < t->nt; it++) {
        for (ptrdiff_t iu = 0; iu < t->nu; iu++) {
            ptrdiff_t ia = it * t->a_t + iu * t->a_u;
            const T *b = (const T *)t->b + it * t->b_t + iu * t->b_u;
            for (ptrdiff_t ik = t->nk; ik > 0; ik--) {
                V bv[FC_MAX_NR];
                FC_UNROLL
                for (int v = 0; v < NR; v++) bv[v] = FC_N(load)(b + v * VF);
                FC_UNROLL
                for (int p = 0; p < MR; p++) {
                    const T ap = row[p][ia];
                    FC_UNROLL
                    for (int v = 0; v < NR; v++) acc[p][v] += ap * bv[v];
                }
                ia += a_k;
                b += b_k;
            }
        }
    }

    V bias[FC_MAX_NR];
    FC_UNROLL
    for (int v = 0; v < NR; v++)
        bias[v] = t->lane_bias ? FC_N(load)((const T *)t->lane_bias + v * VF) : (V){0};
    const ptrdiff_t last = t->lanes - (NR - 1) * VF;
    FC_UNROLL
    for (int p = 0; p < MR; p++) {
        T *c = (T *)t->c + t->c_off[p];
        const T row_bias = t->row_bias ? ((const T *)t->row_bias)[p] : 0;
        FC_UNROLL
        for (int v = 0; v < NR; v++) {
            const int whole = v < NR - 1 || last == VF;
            V y = acc[p][v];
            if (t->accumulate) y += whole ? FC_N(load)(c + v * VF) : FC_N(load_part)(c + v * VF, last);
            y += bias[v] + row_bias;
            if (t->relu) y = FC_N(relu)(y);
            if (whole)
                FC_N(store)(c + v * VF, y);
            else
                FC_N(store_part)(c + v * VF, y, last);
        }
    }
}
