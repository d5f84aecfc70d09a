/* winograd.inc.h - the transforms of Winograd's convolution; included once per type and tier.
 *
 * A polynomial of degree n - 1 is known by its values at n points, and there a product of two is a
 * plain product of values.  A row of pixels slid under a row of taps is such a product read
 * backwards, so that along one axis
 *
 *     results = fold( data(pixels) * spread(taps) )        n products for n + 1 - taps results
 *
 * and on images the same in both directions.  Lanes are channels; every transform is a few sums.
 *
 * The points are 0, 1, -1 and infinity for n = 4; for n = 6 they are 0, +-FC_NEAR, +-FC_FAR and
 * infinity.  Any points are right in exact arithmetic.  These are each other's inverses, which
 * saves multiplications, and lie so that powers neither grow nor vanish: with the usual 1 and 2
 * float32 loses twice as much (docs/winograd.md).
 */

#define FC_NEAR (2.0 / 3.0)
#define FC_FAR (3.0 / 2.0)

/* n values of pixels; x becomes them. */
FC_INLINE void FC_N(winograd_data_axis)(V x[], const int n)
{
    if (n == 4) {
        const V x1 = x[1];
        x[0] = x[2] - x[0];
        x[1] = x[2] + x1;
        x[2] = x[2] - x1;
        x[3] = x[3] - x1;
    } else {
        const T near = (T)FC_NEAR, far = (T)FC_FAR;
        const T near2 = (T)(FC_NEAR * FC_NEAR), far2 = (T)(FC_FAR * FC_FAR);
        const V even_near = x[4] - x[2] * far2, odd_near = x[3] - x[1] * far2;
        const V even_far = x[4] - x[2] * near2, odd_far = x[3] - x[1] * near2;
        x[0] = (x[4] + x[0]) - x[2] * (near2 + far2);
        x[5] = (x[5] + x[1]) - x[3] * (near2 + far2);
        x[1] = even_near + odd_near * near;
        x[2] = even_near - odd_near * near;
        x[3] = even_far + odd_far * far;
        x[4] = even_far - odd_far * far;
    }
}

/* n values of a row of `taps`; x becomes them. */
FC_INLINE void FC_N(winograd_spread_axis)(V x[], const int n, const int taps)
{
    const V none = {0}, x0 = x[0], x1 = x[1], x2 = taps > 2 ? x[2] : none;
    const V x3 = taps > 3 ? x[3] : none, last = x[taps - 1];
    if (n == 4) {
        const V even = (x0 + x2) * (T)0.5, odd = x1 * (T)0.5;
        x[0] = -x0;
        x[1] = even + odd;
        x[2] = even - odd;
        x[3] = last;
    } else {
        const double near2 = FC_NEAR * FC_NEAR, far2 = FC_FAR * FC_FAR;
        const double near_scale = 0.5 / (near2 * (near2 - far2));
        const double far_scale = 0.5 / (far2 * (far2 - near2));
        const V even_near = x0 * (T)near_scale + x2 * (T)(near2 * near_scale);
        const V even_far = x0 * (T)far_scale + x2 * (T)(far2 * far_scale);
        V odd_near = x1 * (T)(FC_NEAR * near_scale), odd_far = x1 * (T)(FC_FAR * far_scale);
        if (taps > 3) {
            odd_near += x3 * (T)(FC_NEAR * near2 * near_scale);
            odd_far += x3 * (T)(FC_FAR * far2 * far_scale);
        }
        x[1] = even_near + odd_near;
        x[2] = even_near - odd_near;
        x[3] = even_far + odd_far;
        x[4] = even_far - odd_far;
        x[5] = last;
    }
}

/* `results` numbers from n products; x becomes them. */
FC_INLINE void FC_N(winograd_fold_axis)(V x[], const int n, const int results)
{
    const V x0 = x[0], last = x[n - 1];
    const V even_near = x[1] + x[2], odd_near = x[1] - x[2];
    if (n == 4) {
        x[0] = x0 + even_near;
        x[1] = odd_near;
        x[2] = even_near;
    } else {
        const T near = (T)FC_NEAR, far = (T)FC_FAR;
        const T near2 = (T)(FC_NEAR * FC_NEAR), far2 = (T)(FC_FAR * FC_FAR);
        const V even_far = x[3] + x[4], odd_far = x[3] - x[4];
        x[0] = (x0 + even_near) + even_far;
        x[1] = odd_near * near + odd_far * far;
        x[2] = even_near * near2 + even_far * far2;
        x[3] = odd_near * (T)(FC_NEAR * FC_NEAR * FC_NEAR) + odd_far * (T)(FC_FAR * FC_FAR * FC_FAR);
    }
    x[results - 1] += last;
}

/* One vector of lanes of a window of pixels or of taps, `size` on a side, to its n x n values. */
FC_INLINE void FC_N(winograd_values)(const T *src, ptrdiff_t src_h, ptrdiff_t src_w, T *dst,
                                     ptrdiff_t dst_h, ptrdiff_t dst_w, const int n,
                                     const int size, const int is_data)
{
    V x[6][6];
    FC_UNROLL
    for (int i = 0; i < size; i++) {
        V row[6];
        FC_UNROLL
        for (int j = 0; j < size; j++) row[j] = FC_N(load)(src + i * src_h + j * src_w);
        if (is_data)
            FC_N(winograd_data_axis)(row, n);
        else
            FC_N(winograd_spread_axis)(row, n, size);
        FC_UNROLL
        for (int j = 0; j < n; j++) x[j][i] = row[j];
    }
    FC_UNROLL
    for (int j = 0; j < n; j++) {
        if (is_data)
            FC_N(winograd_data_axis)(x[j], n);
        else
            FC_N(winograd_spread_axis)(x[j], n, size);
        FC_UNROLL
        for (int i = 0; i < n; i++) FC_N(store)(dst + i * dst_h + j * dst_w, x[j][i]);
    }
}

/* A window that hangs over an edge, or a vector that holds some lanes only, as a whole one. */
static void FC_N(winograd_window)(const fc_winograd *w, const T *src, ptrdiff_t lanes, int size,
                                  V window[])
{
    for (int i = 0; i < size; i++)
        for (int j = 0; j < size; j++) {
            const T *at = src + i * w->src_h + j * w->src_w;
            V x = {0};
            if (i >= w->h0 && i < w->h1 && j >= w->w0 && j < w->w1)
                x = lanes < VF ? FC_N(load_part)(at, lanes) : FC_N(load)(at);
            window[i * size + j] = x;
        }
}

FC_INLINE void FC_N(winograd_values_body)(const fc_winograd *call, const int n, const int size,
                                          const int is_data)
{
    const fc_winograd w = *call; /* in registers: no store can change it */
    const int whole = w.h0 <= 0 && w.h1 >= size && w.w0 <= 0 && w.w1 >= size;
    for (ptrdiff_t l = 0; l < w.lanes; l += VF) {
        const T *src = (const T *)w.src + l;
        ptrdiff_t src_h = w.src_h, src_w = w.src_w;
        V window[36];
        if (!whole || w.lanes - l < VF) {
            FC_N(winograd_window)(&w, src, w.lanes - l, size, window);
            src = (const T *)window;
            src_h = size * VF;
            src_w = VF;
        }
        FC_N(winograd_values)(src, src_h, src_w, (T *)w.dst + l, w.dst_h, w.dst_w, n, size,
                              is_data);
    }
}

static void FC_N(winograd_data)(const fc_winograd *w)
{
    if (w->n == 4)
        FC_N(winograd_values_body)(w, 4, 4, 1);
    else
        FC_N(winograd_values_body)(w, 6, 6, 1);
}

static void FC_N(winograd_spread)(const fc_winograd *w)
{
    if (w->n == 4 && w->size == 2)
        FC_N(winograd_values_body)(w, 4, 2, 0);
    else if (w->n == 4)
        FC_N(winograd_values_body)(w, 4, 3, 0);
    else if (w->size == 3)
        FC_N(winograd_values_body)(w, 6, 3, 0);
    else
        FC_N(winograd_values_body)(w, 6, 4, 0);
}

/* One vector of lanes of n x n products to size x size results. */
FC_INLINE void FC_N(winograd_results)(const fc_winograd *w, const T *src, T *dst, const T *bias,
                                      ptrdiff_t lanes, const int n, const int size)
{
    V x[6][6];
    FC_UNROLL
    for (int i = 0; i < n; i++) {
        V row[6];
        FC_UNROLL
        for (int j = 0; j < n; j++) row[j] = FC_N(load)(src + i * w->src_h + j * w->src_w);
        FC_N(winograd_fold_axis)(row, n, size);
        FC_UNROLL
        for (int j = 0; j < size; j++) x[j][i] = row[j];
    }
    const V add = bias ? FC_N(load)(bias) : (V){0};
    FC_UNROLL
    for (int j = 0; j < size; j++) {
        FC_N(winograd_fold_axis)(x[j], n, size);
        if (j >= w->w1) continue;
        FC_UNROLL
        for (int i = 0; i < size; i++) {
            if (i >= w->h1) continue;
            V y = x[j][i] + add;
            if (w->relu) y = FC_N(relu)(y);
            T *at = dst + i * w->dst_h + j * w->dst_w;
            if (lanes < VF)
                FC_N(store_part)(at, y, lanes);
            else if (w->stream)
                FC_N(stream)(at, y);
            else
                FC_N(store)(at, y);
        }
    }
}

FC_INLINE void FC_N(winograd_fold_body)(const fc_winograd *call, const int n, const int size)
{
    const fc_winograd w = *call;
    for (ptrdiff_t l = 0; l < w.lanes; l += VF)
        FC_N(winograd_results)(&w, (const T *)w.src + l, (T *)w.dst + l,
                               w.bias ? (const T *)w.bias + l : NULL, w.lanes - l, n, size);
}

static void FC_N(winograd_fold)(const fc_winograd *w)
{
    if (w->n == 4 && w->size == 2)
        FC_N(winograd_fold_body)(w, 4, 2);
    else if (w->n == 4)
        FC_N(winograd_fold_body)(w, 4, 3);
    else if (w->size == 3)
        FC_N(winograd_fold_body)(w, 6, 3);
    else
        FC_N(winograd_fold_body)(w, 6, 4);
}

#undef FC_NEAR
#undef FC_FAR
