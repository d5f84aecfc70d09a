/* tile.inc.h - the register tiles; included once per type and tier.
 *
 * One body serves every pass of the convolution.  Its MR x NR accumulators fill the register
 * file and a vector of `b` is used MR times.  In the outer-product tile an element of `a` is
 * broadcast by the FMA itself; in the lane-wise tile (depthwise, small groups) lane l of `a` meets
 * lane l of `b`.  The row pointers are kept apart so that the rows may lie anywhere: neighbouring
 * pixels, strided pixels, pixels of several images, taps of a kernel.
 */

/* The short vectors of old x86 processors, which few programs meet, are not worth so much code. */
#define FC_SLIDES (FC_VBYTES > 16 || !FC_X86_64)

/* The taps of a lane-wise tile whose rows share vectors, if they are a number that `slide` takes:
 * negative where neighbouring rows lie two taps apart, not one, and 0 if they share none. */
FC_INLINE int FC_N(sliding_taps)(const fc_tile *t, int MR)
{
    const ptrdiff_t apart = t->a_off[1] - t->a_off[0];
    if (t->nk != FC_SLIDE && t->nk != FC_LONG_SLIDE) return 0;
    for (int p = 2; p < MR; p++)
        if (t->a_off[p] - t->a_off[p - 1] != apart) return 0;
    return apart == t->a_k ? (int)t->nk : apart == 2 * t->a_k ? -(int)t->nk : 0;
}

/* A run of KW taps of a lane-wise tile whose rows lie `step` taps apart: each vector of `a` is read
 * once and serves several rows.  The taps of a row are added in the order of the general loop. */
FC_INLINE void FC_N(slide)(V acc[FC_MAX_MR][FC_MAX_NR], const T *a, ptrdiff_t a_k, const T *b,
                           ptrdiff_t b_k, const int MR, const int NR, const int KW, const int step)
{
    FC_UNROLL
    for (int v = 0; v < NR; v++) {
        V tap[FC_LONG_SLIDE];
        FC_UNROLL
        for (int k = 0; k < KW; k++) tap[k] = FC_N(load)(b + k * b_k + v * VF);
        const T *walk = a + v * VF;
        FC_UNROLL
        for (int x = 0; x < (MR - 1) * step + KW; x++) {
            const V at = FC_N(load)(walk);
            walk += a_k;
            FC_WALK(walk);
            FC_UNROLL
            for (int k = 0; k < KW; k++)
                if (x >= k && (x - k) % step == 0 && (x - k) / step < MR)
                    acc[(x - k) / step][v] += at * tap[k];
        }
    }
}

/* Whether the rows of a lane-wise tile come in runs of FC_SLIDE neighbouring taps: what one row
 * reads now, the row after it read one step ago. */
FC_INLINE int FC_N(rows_follow)(const fc_tile *t, int MR)
{
    for (int p = 1; p < MR; p++)
        if (p % FC_SLIDE && t->a_off[p] - t->a_off[p - 1] != t->a_k) return 0;
    return MR % FC_SLIDE == 0;
}

/* nk steps of a lane-wise tile whose rows follow each other: each vector of `a` is read once and
 * handed from row to row.  One vector of lanes at a time, which leaves registers for them. */
FC_INLINE void FC_N(follow)(V acc[FC_MAX_MR][FC_MAX_NR], const T *const row[], ptrdiff_t ia,
                            const T *b, const fc_tile *t, const int MR, const int NR)
{
    const ptrdiff_t a_k = t->a_k, b_k = t->b_k;
    FC_UNROLL
    for (int v = 0; v < NR; v++) {
        V x[FC_MAX_MR];
        FC_UNROLL
        for (int p = 0; p < MR; p++)
            if (p % FC_SLIDE) x[p] = FC_N(load)(row[p - 1] + ia + v * VF);
        for (ptrdiff_t ik = 0; ik < t->nk; ik++) {
            const V bv = FC_N(load)(b + ik * b_k + v * VF);
            __builtin_prefetch(b + ik * b_k + v * VF + t->b_ahead, 0, 2);
            __builtin_prefetch(row[MR - 1] + ia + ik * a_k + v * VF + t->a_ahead, 0, 2);
            FC_UNROLL
            for (int p = 0; p < MR; p += FC_SLIDE) {
                const V last = FC_N(load)(row[p + FC_SLIDE - 1] + ia + ik * a_k + v * VF);
                FC_UNROLL
                for (int q = 0; q + 1 < FC_SLIDE; q++) {
                    acc[p + q][v] += x[p + q + 1] * bv;
                    x[p + q + 1] = q + 2 < FC_SLIDE ? x[p + q + 2] : last;
                }
                acc[p + FC_SLIDE - 1][v] += last * bv;
            }
        }
    }
}

/* Whether the rows of a tall tile lie evenly: a few registers then hold the pointers to all of them,
 * which for more than eight there are too few of. */
FC_INLINE int FC_N(rows_are_even)(const fc_tile *t, const int MR)
{
    for (int p = 2; p < MR; p++)
        if (t->a_off[p] - t->a_off[p - 1] != t->a_off[1] - t->a_off[0]) return 0;
    return MR > 8;
}

/* nk steps of an outer product, or lane by lane.  With `even` every fourth row has a pointer, and the
 * rows after it lie `apart`. */
FC_INLINE void FC_N(steps)(V acc[FC_MAX_MR][FC_MAX_NR], const T *const row[], ptrdiff_t ia,
                           ptrdiff_t a_k, const T *b, ptrdiff_t b_k, ptrdiff_t nk, const int MR,
                           const int NR, const int lanewise, const int even, ptrdiff_t apart)
{
    /* Where there are too few registers for all vectors of `b`, the values of fewer rows have them, or
     * the last vector is an operand in memory. */
    const int tight = !lanewise && MR * NR + NR >= FC_REGISTERS;
    const int by_rows = tight && MR < NR && MR * NR + MR < FC_REGISTERS;
    const int kept = by_rows ? 0 : tight ? FC_REGISTERS - 1 - MR * NR : NR;
    const T *a[FC_MAX_MR / 4 + 1];
    FC_UNROLL
    for (int p = 0; p < MR; p += 4) a[p / 4] = row[p] + ia;
    for (ptrdiff_t ik = nk; ik > 0; ik--) {
        V av[FC_MAX_MR], bv[FC_MAX_NR];
        FC_UNROLL
        for (int v = 0; v < kept; v++) {
            bv[v] = FC_N(load)(b + v * VF);
            if (!lanewise && MR > 1) FC_HOLD(bv[v]);
        }
        if (by_rows) {
            FC_UNROLL
            for (int p = 0; p < MR; p++) {
                av[p] = row[p][ia] - (V){0};
                FC_HOLD(av[p]);
            }
            FC_UNROLL
            for (int v = 0; v < NR; v++) {
                bv[v] = FC_N(load)(b + v * VF);
                FC_HOLD(bv[v]);
                FC_UNROLL
                for (int p = 0; p < MR; p++) acc[p][v] += av[p] * bv[v];
            }
        }
        FC_UNROLL
        for (int p = 0; p < MR && !by_rows; p++) {
            if (kept < NR) FC_WALK(b);
            FC_UNROLL
            for (int v = 0; v < NR; v++) {
                if (v >= kept) bv[v] = FC_N(load)(b + v * VF);
                if (lanewise)
                    acc[p][v] += FC_N(load)(row[p] + ia + v * VF) * bv[v];
                else
                    acc[p][v] += (even ? a[p / 4][p % 4 * apart] : row[p][ia]) * bv[v];
            }
        }
        if (even) {
            FC_UNROLL
            for (int p = 0; p < MR; p += 4) {
                a[p / 4] += a_k;
                FC_WALK(a[p / 4]);
            }
        }
        ia += a_k;
        b += b_k;
    }
}

/* Ask for the next lines of memory. */
FC_INLINE void FC_N(ask_ahead)(fc_tile *t, ptrdiff_t lines)
{
    for (; lines > 0; lines--) {
        FC_UNROLL
        for (int i = 0; i < FC_ASKS; i++) {
            __builtin_prefetch(t->ask[i], 0, 2);
            t->ask[i] += t->ask_step[i];
        }
    }
}

/* One tile: its sum, and what is stored of it. */
FC_INLINE void FC_N(tile_body)(fc_tile *t, const int MR, const int NR, const int lanewise,
                               const int slide, const int follows, const int even)
{
    V acc[FC_MAX_MR][FC_MAX_NR];
    const T *row[FC_MAX_MR];
    T *const c0 = t->c;
    FC_UNROLL
    for (int p = 0; p < MR; p++) {
        row[p] = (const T *)t->a + t->a_off[p];
        FC_UNROLL
        for (int v = 0; v < NR; v++) {
            acc[p][v] = (V){0};
        }
    }
    if (!t->stream) {
        /* The lines that are stored to come from memory while the sum runs. */
        FC_UNROLL
        for (int p = 0; p < MR; p++) {
            FC_UNROLL
            for (int v = 0; v < NR; v++) __builtin_prefetch(c0 + t->c_off[p] + v * VF, 1);
        }
    }
    const ptrdiff_t a_k = t->a_k, b_k = t->b_k, apart = even ? t->a_off[1] - t->a_off[0] : 0;
    ptrdiff_t nu = t->nu, a_u = t->a_u, b_u = t->b_u, nk = t->nk, last = nk;
    ptrdiff_t lines = t->ask_lines;
    if (!lanewise && nu == 1 && lines > FC_ASK_LINES) {
        /* Shorter runs, before each of which a few are asked for. */
        nu = (lines + FC_ASK_LINES - 1) / FC_ASK_LINES;
        lines = FC_ASK_LINES, nk /= nu, last -= (nu - 1) * nk;
        a_u = nk * a_k, b_u = nk * b_k;
    }
    for (ptrdiff_t it = 0; it < t->nt; it++) {
        for (ptrdiff_t iu = 0; iu < nu; iu++) {
            const ptrdiff_t ia = it * t->a_t + iu * a_u;
            const T *b = (const T *)t->b + it * t->b_t + iu * b_u;
            FC_N(ask_ahead)(t, lines);
            if (FC_SLIDES && lanewise && MR > 2 && slide) {
                const T *a = row[0] + ia;
                if (slide == FC_SLIDE)
                    FC_N(slide)(acc, a, a_k, b, b_k, MR, NR, FC_SLIDE, 1);
                else if (slide == -FC_SLIDE)
                    FC_N(slide)(acc, a, a_k, b, b_k, MR, NR, FC_SLIDE, 2);
                else if (slide == FC_LONG_SLIDE)
                    FC_N(slide)(acc, a, a_k, b, b_k, MR, NR, FC_LONG_SLIDE, 1);
                else
                    FC_N(slide)(acc, a, a_k, b, b_k, MR, NR, FC_LONG_SLIDE, 2);
                continue;
            }
            if (lanewise && MR % FC_SLIDE == 0 && follows) {
                FC_N(follow)(acc, row, ia, b, t, MR, NR);
                continue;
            }
            FC_N(steps)(acc, row, ia, a_k, b, b_k, lanewise || iu + 1 < nu ? nk : last, MR, NR, lanewise,
                        even, apart);
        }
    }

    const int whole = t->lanes == NR * VF ? NR : NR - 1;
    FC_UNROLL
    for (int v = 0; v < NR; v++) {
        if (v < whole) {
            if (t->lane_bias) {
                const V bias = FC_N(load)((const T *)t->lane_bias + v * VF);
                FC_UNROLL
                for (int p = 0; p < MR; p++) acc[p][v] += bias;
            }
            if (t->row_bias) {
                FC_UNROLL
                for (int p = 0; p < MR; p++) acc[p][v] += ((const T *)t->row_bias)[p];
            }
            if (t->accumulate) {
                FC_UNROLL
                for (int p = 0; p < MR; p++)
                    acc[p][v] += FC_N(load)(c0 + t->c_off[p] + v * VF);
            }
            if (t->relu) {
                FC_UNROLL
                for (int p = 0; p < MR; p++) acc[p][v] = FC_N(relu)(acc[p][v]);
            }
            if (t->stream) {
                FC_UNROLL
                for (int p = 0; p < MR; p++)
                    FC_N(stream)(c0 + t->c_off[p] + v * VF, acc[p][v]);
            } else {
                FC_UNROLL
                for (int p = 0; p < MR; p++)
                    FC_N(store)(c0 + t->c_off[p] + v * VF, acc[p][v]);
            }
        }
    }
    if (whole < NR) {
        const int v = NR - 1;
        const ptrdiff_t lanes = t->lanes - v * VF;
        FC_UNROLL
        for (int p = 0; p < MR; p++) {
            T *c = c0 + t->c_off[p] + v * VF;
            V y = acc[p][v];
            if (t->lane_bias) y += FC_N(load)((const T *)t->lane_bias + v * VF);
            if (t->row_bias) y += ((const T *)t->row_bias)[p];
            if (t->accumulate) y += FC_N(load_part)(c, lanes);
            if (t->relu) y = FC_N(relu)(y);
            FC_N(store_part)(c, y, lanes);
        }
    }
}

FC_INLINE void FC_N(next_tile)(fc_tile *t)
{
    t->a = (const T *)t->a + t->a_n;
    t->b = (const T *)t->b + t->b_n;
    t->c = (T *)t->c + t->c_n;
}

/* The leaves of one size, for leaves.inc.h.  The loop over tiles stands outside of the function that
 * computes one, whose registers are all taken. */
#define FC_TILE(mr, nr)                                                                            \
    static FC_NOINLINE void FC_N(one_##mr##x##nr)(fc_tile *t)                                      \
    {                                                                                              \
        FC_N(tile_body)(t, mr, nr, 0, 0, 0, 0);                                                    \
    }                                                                                              \
    static FC_NOINLINE void FC_N(even_##mr##x##nr)(fc_tile *t)                                     \
    {                                                                                              \
        FC_N(tile_body)(t, mr, nr, 0, 0, 0, 1);                                                    \
    }                                                                                              \
    static void FC_N(tile_##mr##x##nr)(fc_tile *t)                                                 \
    {                                                                                              \
        const int even = FC_N(rows_are_even)(t, mr);                                               \
        for (ptrdiff_t left = t->n; left > 0; left--, FC_N(next_tile)(t)) {                        \
            if (even)                                                                              \
                FC_N(even_##mr##x##nr)(t);                                                         \
            else                                                                                   \
                FC_N(one_##mr##x##nr)(t);                                                          \
        }                                                                                          \
    }
#define FC_LANEWISE_TILE(mr, nr)                                                                   \
    static FC_NOINLINE void FC_N(one_lanewise_##mr##x##nr)(fc_tile *t, int slide,                  \
                                                           int follows)                            \
    {                                                                                              \
        FC_N(tile_body)(t, mr, nr, 1, slide, follows, 0);                                          \
    }                                                                                              \
    static void FC_N(lanewise_##mr##x##nr)(fc_tile *t)                                             \
    {                                                                                              \
        const int slide = FC_SLIDES && mr > 2 ? FC_N(sliding_taps)(t, mr) : 0;                     \
        const int follows = mr % FC_SLIDE == 0 && !slide && t->nk > FC_SLIDE                       \
                            && FC_N(rows_follow)(t, mr);                                           \
        for (ptrdiff_t left = t->n; left > 0; left--, FC_N(next_tile)(t))                          \
            FC_N(one_lanewise_##mr##x##nr)(t, slide, follows);                                     \
    }
