/* dots.inc.h - products of rows with rows; included once per type and tier.
 *
 * Both operands are read where they lie, along the sum: lanes are steps of the sum.  FC_DOT_ROWS
 * rows of a meet FC_DOT_COLS of b, so that a vector serves several products, and whole vectors of
 * products are folded together in the end.  A product's bits depend on its two rows alone.
 */

#define FC_DOT_ROWS 4
#define FC_DOT_COLS (FC_VBYTES >= 64 ? 4 : 2)
#define FC_DOTS (FC_DOT_ROWS * FC_DOT_COLS) /* a whole number of vectors */

/* Sums of mr x nr products, still in lanes. */
FC_INLINE void FC_N(dots_along)(const T *const a[], const T *const b[], ptrdiff_t n, V *sums,
                                const int mr, const int nr)
{
    V acc[FC_DOTS];
    FC_UNROLL
    for (int i = 0; i < mr * nr; i++) acc[i] = (V){0};
    const ptrdiff_t whole = n / VF * VF;
    for (ptrdiff_t k = 0; k < whole; k += VF) {
        V columns[FC_DOT_COLS];
        FC_UNROLL
        for (int o = 0; o < nr; o++) columns[o] = FC_N(load)(b[o] + k);
        FC_UNROLL
        for (int r = 0; r < mr; r++) {
            const V row = FC_N(load)(a[r] + k);
            FC_UNROLL
            for (int o = 0; o < nr; o++) acc[r * nr + o] += row * columns[o];
        }
    }
    if (whole < n) {
        V columns[FC_DOT_COLS];
        FC_UNROLL
        for (int o = 0; o < nr; o++) columns[o] = FC_N(load_part)(b[o] + whole, n - whole);
        FC_UNROLL
        for (int r = 0; r < mr; r++) {
            const V row = FC_N(load_part)(a[r] + whole, n - whole);
            FC_UNROLL
            for (int o = 0; o < nr; o++) acc[r * nr + o] += row * columns[o];
        }
    }
    FC_UNROLL
    for (int i = 0; i < mr * nr; i++) sums[i] = acc[i];
}

/* Lane i of the result is the sum of the lanes of sums[i], i < VF: of two vectors' halves becomes
 * one vector, again and again. */
FC_INLINE V FC_N(dots_fold)(V *sums)
{
    FC_UNROLL
    for (int half = VF / 2; half; half /= 2) {
        FC_UNROLL
        for (int i = 0; i < half; i++)
            sums[i] = FC_N(zip_low)(sums[i], sums[i + half]) + FC_N(zip_high)(sums[i], sums[i + half]);
    }
    return sums[0];
}

/* The biases of a tile's products, which lie nr to a row. */
FC_INLINE void FC_N(dots_bias)(const fc_dots *d, ptrdiff_t o, ptrdiff_t cols, T *bias, const int nr)
{
    for (int i = 0; i < FC_DOTS; i++)
        bias[i] = d->bias && i % nr < cols ? ((const T *)d->bias)[o + i % nr] : 0;
}

/* Store rows x cols of products, which lie nr to a row. */
FC_INLINE void FC_N(dots_store)(const fc_dots *d, T *c, const T *bias, V *sums, ptrdiff_t rows,
                                ptrdiff_t cols, const int nr)
{
    T values[FC_DOTS], before[FC_DOTS] = {0};
    if (d->accumulate)
        for (ptrdiff_t r = 0; r < rows; r++)
            for (ptrdiff_t i = 0; i < cols; i++) before[r * nr + i] = c[r * d->c_row + i];
    FC_UNROLL
    for (int i = 0; i < FC_DOTS; i += VF) {
        V y = FC_N(dots_fold)(sums + i);
        if (d->accumulate) y += FC_N(load)(before + i);
        if (d->bias) y += FC_N(load)(bias + i);
        FC_N(store)(values + i, d->relu ? FC_N(relu)(y) : y);
    }
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t i = 0; i < cols; i++) c[r * d->c_row + i] = values[r * nr + i];
}

/* A single row: as many columns as fill the vectors. */
FC_INLINE void FC_N(dots_of_row)(const fc_dots *d, const T *a, T *c)
{
    for (ptrdiff_t o = 0; o < d->cols; o += FC_DOTS) {
        V sums[FC_DOTS];
        T bias[FC_DOTS];
        for (int i = 0; i < FC_DOTS; i += FC_DOT_COLS) {
            const T *b[FC_DOT_COLS];
            for (ptrdiff_t j = 0; j < FC_DOT_COLS; j++) {
                const ptrdiff_t at = o + i + j;
                b[j] = (const T *)d->b + (at < d->cols ? at : d->cols - 1) * d->b_row;
            }
            FC_N(dots_along)(&a, b, d->n, sums + i, 1, FC_DOT_COLS);
        }
        const ptrdiff_t cols = d->cols - o < FC_DOTS ? d->cols - o : FC_DOTS;
        FC_N(dots_bias)(d, o, cols, bias, FC_DOTS);
        FC_N(dots_store)(d, c + o, bias, sums, 1, cols, FC_DOTS);
    }
}

static void FC_N(dots)(const fc_dots *call)
{
    const fc_dots copy = *call, *d = &copy; /* in registers: no store can change it */
    const T *a = (const T *)d->a;
    T *c = (T *)d->c;
    const ptrdiff_t tiled = d->rows % FC_DOT_ROWS == 1 ? d->rows - 1 : d->rows;
    /* While one set of columns meets its rows, each tile asks for some of the next set. */
    const ptrdiff_t share = tiled ? (d->n * FC_DOT_ROWS + tiled - 1) / tiled : 0;
    for (ptrdiff_t o = 0; o < d->cols; o += FC_DOT_COLS) {
        const ptrdiff_t cols = d->cols - o < FC_DOT_COLS ? d->cols - o : FC_DOT_COLS;
        const T *row[FC_DOT_ROWS], *b[FC_DOT_COLS];
        T bias[FC_DOTS];
        for (ptrdiff_t i = 0; i < FC_DOT_COLS; i++)
            b[i] = (const T *)d->b + (o + (i < cols ? i : cols - 1)) * d->b_row;
        FC_N(dots_bias)(d, o, cols, bias, FC_DOT_COLS);
        for (ptrdiff_t r = 0; r < tiled; r += FC_DOT_ROWS) {
            const ptrdiff_t rows = tiled - r < FC_DOT_ROWS ? tiled - r : FC_DOT_ROWS;
            V sums[FC_DOTS];
            for (ptrdiff_t i = 0; i < FC_DOT_ROWS; i++)
                row[i] = a + (r + (i < rows ? i : rows - 1)) * d->a_row;
            for (ptrdiff_t i = 0; i < FC_DOT_COLS; i++)
                FC_N(prefetch)(b[i] + FC_DOT_COLS * d->b_row + r / FC_DOT_ROWS * share,
                               share * (ptrdiff_t)sizeof(T));
            FC_N(dots_along)(row, b, d->n, sums, FC_DOT_ROWS, FC_DOT_COLS);
            T *to = c + r * d->c_row + o;
            if (rows == FC_DOT_ROWS && cols == FC_DOT_COLS)
                FC_N(dots_store)(d, to, bias, sums, FC_DOT_ROWS, FC_DOT_COLS, FC_DOT_COLS);
            else
                FC_N(dots_store)(d, to, bias, sums, rows, cols, FC_DOT_COLS);
        }
    }
    if (tiled < d->rows) FC_N(dots_of_row)(d, a + tiled * d->a_row, c + tiled * d->c_row);
}
#undef FC_DOT_ROWS
#undef FC_DOT_COLS
#undef FC_DOTS
