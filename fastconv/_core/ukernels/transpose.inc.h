/* transpose.inc.h - transposition through registers; included once per type and tier.
 *
 * This is how a kernel (OC, IC*KH*KW) becomes rows of OC lanes, planes become pixels of channels
 * and a tile's pixels become planes: whole vectors are read and written on both sides.
 */

/* log2(VF) rounds of interleaving turn VF rows into VF columns. */
FC_INLINE void FC_N(transpose_square)(V x[])
{
    FC_UNROLL
    for (int half = VF / 2; half > 0; half /= 2) {
        V y[VF];
        FC_UNROLL
        for (int i = 0; i < VF / 2; i++) {
            y[2 * i] = FC_N(zip_low)(x[i], x[i + VF / 2]);
            y[2 * i + 1] = FC_N(zip_high)(x[i], x[i + VF / 2]);
        }
        FC_UNROLL
        for (int i = 0; i < VF; i++) x[i] = y[i];
    }
}

/* A square of `count` rows, the others 0.  Vectors may reach past their rows, but not past `end`. */
FC_INLINE void FC_N(load_square)(V x[], const T *src, ptrdiff_t src_row, const T *end,
                                 ptrdiff_t count)
{
    if (count == VF && end - src >= (src_row > 0 ? (VF - 1) * src_row : 0) + VF) {
        FC_UNROLL
        for (int i = 0; i < VF; i++) x[i] = FC_N(load)(src + i * src_row);
        return;
    }
    for (ptrdiff_t i = 0; i < VF; i++, src += src_row) {
        x[i] = (V){0};
        if (i < count)
            x[i] = end - src >= VF ? FC_N(load)(src) : FC_N(load_part)(src, end - src);
    }
}

FC_INLINE void FC_N(transpose_body)(void *dst_, ptrdiff_t dst_row, const ptrdiff_t *order,
                                    const void *src_, ptrdiff_t src_row, ptrdiff_t rows,
                                    ptrdiff_t cols, const int stream)
{
    const T *src = (const T *)src_;
    /* A vector may reach past its own row, never past the one at the highest address. */
    const T *end = src + (src_row > 0 ? (rows - 1) * src_row : 0) + cols;
    T *dst = (T *)dst_;
    ptrdiff_t r = 0;
    for (; r + VF <= rows; r += VF) {
        ptrdiff_t c = 0;
        /* Where few columns are wanted, whole vectors are not worth their shuffles. */
        for (; 4 * (cols - c) > VF; c += VF) {
            V x[VF];
            FC_N(load_square)(x, src + r * src_row + c, src_row, end, VF);
            FC_N(transpose_square)(x);
            if (stream && c + VF <= cols) {
                FC_UNROLL
                for (int i = 0; i < VF; i++) FC_N(stream)(dst + (c + i) * dst_row + r, x[i]);
            } else if (!order && c + VF <= cols) {
                FC_UNROLL
                for (int i = 0; i < VF; i++) FC_N(store)(dst + (c + i) * dst_row + r, x[i]);
            } else {
                FC_UNROLL
                for (int i = 0; i < VF; i++)
                    if (c + i < cols)
                        FC_N(store)(dst + (order ? order[c + i] : c + i) * dst_row + r, x[i]);
            }
        }
        for (; c < cols; c++) {
            T *d = dst + (order ? order[c] : c) * dst_row + r;
            for (int i = 0; i < VF; i++) d[i] = src[(r + i) * src_row + c];
        }
    }
    /* Rows that fill no vector: worth their shuffles where a part of one is stored at once. */
    if (FC_VBYTES == 64 && 4 * (rows - r) > VF) {
        for (ptrdiff_t c = 0; c < cols; c += VF) {
            V x[VF];
            FC_N(load_square)(x, src + r * src_row + c, src_row, end, rows - r);
            FC_N(transpose_square)(x);
            FC_UNROLL
            for (int i = 0; i < VF; i++)
                if (c + i < cols)
                    FC_N(store_part)(dst + (order ? order[c + i] : c + i) * dst_row + r, x[i],
                                     rows - r);
        }
        return;
    }
    for (; r < rows; r++) {
        const T *row = src + r * src_row;
        if (order) {
            for (ptrdiff_t c = 0; c < cols; c++) dst[order[c] * dst_row + r] = row[c];
        } else {
            T *to = dst + r;
            FC_UNROLL_BY(8)
            for (ptrdiff_t c = 0; c < cols; c++, to += dst_row) *to = row[c];
        }
    }
}

static void FC_N(transpose)(void *dst, ptrdiff_t dst_row, const ptrdiff_t *order, const void *src,
                            ptrdiff_t src_row, ptrdiff_t rows, ptrdiff_t cols)
{
    FC_N(transpose_body)(dst, dst_row, order, src, src_row, rows, cols, 0);
}

static void FC_N(transpose_stream)(void *dst, ptrdiff_t dst_row, const ptrdiff_t *order,
                                   const void *src, ptrdiff_t src_row, ptrdiff_t rows,
                                   ptrdiff_t cols)
{
    FC_N(transpose_body)(dst, dst_row, order, src, src_row, rows, cols, 1);
}
