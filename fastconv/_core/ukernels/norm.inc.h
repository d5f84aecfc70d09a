/* norm.inc.h - the passes of batch, layer and group normalisation; included once per type and tier.
 *
 * Sums run down the rows of a strip of some vectors, which stay in registers, for at most
 * FC_NORM_ROWS rows; then they are added to doubles.  Moments read such a block twice, for its mean
 * and for what deviates from it, the second time from the first cache: exact however far the mean
 * is from zero.
 */

#define FC_NORM_ROWS 64
#define FC_STRIP 4

/* What some rows add to the doubles of a strip, or are the first to: not inlined, since it is rare
 * and long. */
static FC_NOINLINE void FC_N(add_to_sums)(double *sums, const T *part, ptrdiff_t n, ptrdiff_t first)
{
    for (ptrdiff_t l = 0; l < n; l++) sums[l] = first ? 0.0 + part[l] : sums[l] + part[l];
}

/* Two sets of values, of r and n rows, become one: Chan, Golub and LeVeque's formula.  The second has
 * its deviations from `middles`. */
static FC_NOINLINE void FC_N(add_moments)(double *mean, double *square, ptrdiff_t r, ptrdiff_t n,
                                          const T *middles, const T *firsts, const T *seconds,
                                          ptrdiff_t lanes)
{
    const double each = 1.0 / (double)n, share = (double)n / (double)(r + n);
    for (ptrdiff_t l = 0; l < lanes && r == 0; l++) mean[l] = square[l] = 0;
    for (ptrdiff_t l = 0; l < lanes; l++) {
        const double rest = firsts[l] * each;
        const double away = middles[l] + rest - mean[l];
        mean[l] += away * share;
        square[l] += seconds[l] - firsts[l] * rest + away * away * share * (double)r;
    }
}

FC_INLINE void FC_N(moments_strip)(const fc_norm *s, ptrdiff_t at, ptrdiff_t lanes, const int nv,
                                   const int whole)
{
    const ptrdiff_t count = whole ? nv * VF : lanes;
    T middles[FC_STRIP * VF], firsts[FC_STRIP * VF], seconds[FC_STRIP * VF];
    for (ptrdiff_t r = 0; r < s->rows; r += FC_NORM_ROWS) {
        const ptrdiff_t n = s->rows - r < FC_NORM_ROWS ? s->rows - r : FC_NORM_ROWS;
        const T *block = (const T *)s->x + r * s->step + at, *x = block;
        V middle[FC_STRIP], first[FC_STRIP], second[FC_STRIP];
        FC_UNROLL
        for (int v = 0; v < nv; v++) first[v] = second[v] = middle[v] = (V){0};
        for (ptrdiff_t i = 0; i < n; i++, x += s->step) {
            FC_UNROLL
            for (int v = 0; v < nv; v++) middle[v] += FC_N(load_lanes)(x + v * VF, lanes, whole);
        }
        x = block;
        FC_UNROLL
        for (int v = 0; v < nv; v++) middle[v] *= (T)(1.0 / (double)n);
        for (ptrdiff_t i = 0; i < n; i++, x += s->step) {
            FC_UNROLL
            for (int v = 0; v < nv; v++) {
                const V d = FC_N(load_lanes)(x + v * VF, lanes, whole) - middle[v];
                first[v] += d;
                second[v] += d * d;
            }
        }
        FC_UNROLL
        for (int v = 0; v < nv; v++) {
            FC_N(store)(middles + v * VF, middle[v]);
            FC_N(store)(firsts + v * VF, first[v]);
            FC_N(store)(seconds + v * VF, second[v]);
        }
        FC_N(add_moments)(s->first + at, s->second + at, r, n, middles, firsts, seconds, count);
    }
}

/* The lanes that count of a vector, the others 0. */
FC_INLINE V FC_N(lanes_of)(V x, ptrdiff_t lanes)
{
    return (V)((FC_N(ivec))x & (FC_N(lane_numbers)() < (I)lanes));
}

#if VF >= 4
typedef T FC_N(four) __attribute__((vector_size(4 * sizeof(T)), aligned(sizeof(T)), may_alias));
typedef double FC_N(four_sums) __attribute__((vector_size(32)));
#endif

FC_INLINE double FC_N(sum_of_lanes)(const V *x)
{
    T part[VF];
    FC_N(store)(part, (x[0] + x[1]) + (x[2] + x[3]));
#if VF >= 4
    FC_N(four_sums) sum = {0};
    FC_UNROLL
    for (int l = 0; l < VF; l += 4)
        sum += __builtin_convertvector(*(const FC_N(four) *)(part + l), FC_N(four_sums));
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
#else
    return (double)part[0] + (double)part[1];
#endif
}

/* Of row r, which is one channel's. */
FC_INLINE void FC_N(moments_along)(const fc_norm *s, ptrdiff_t r)
{
    const ptrdiff_t most = FC_NORM_ROWS * FC_STRIP * VF, strip = FC_STRIP * VF;
    double mean = 0, square = 0;
    for (ptrdiff_t at = 0; at < s->width; at += most) {
        const ptrdiff_t n = s->width - at < most ? s->width - at : most, whole = n / VF * VF;
        const T *x = (const T *)s->x + r * s->step + at;
        V sum[FC_STRIP] = {{0}, {0}, {0}, {0}}, first[FC_STRIP] = {{0}, {0}, {0}, {0}};
        V second[FC_STRIP] = {{0}, {0}, {0}, {0}}, tail = {0};
        ptrdiff_t i = 0;
        for (; i + strip <= n; i += strip) {
            FC_UNROLL
            for (int v = 0; v < FC_STRIP; v++) sum[v] += FC_N(load)(x + i + v * VF);
        }
        for (; i < whole; i += VF) sum[0] += FC_N(load)(x + i);
        if (whole < n) {
            tail = FC_N(load_part)(x + whole, n - whole);
            sum[1] += tail;
        }
        const double each = 1.0 / (double)n;
        const T middle = (T)(FC_N(sum_of_lanes)(sum) * each);
        for (i = 0; i + strip <= n; i += strip) {
            FC_UNROLL
            for (int v = 0; v < FC_STRIP; v++) {
                const V d = FC_N(load)(x + i + v * VF) - middle;
                first[v] += d;
                second[v] += d * d;
            }
        }
        for (; i < whole; i += VF) {
            const V d = FC_N(load)(x + i) - middle;
            first[0] += d;
            second[0] += d * d;
        }
        if (whole < n) {
            const V d = FC_N(lanes_of)(tail - middle, n - whole);
            first[1] += d;
            second[1] += d * d;
        }
        const double away = FC_N(sum_of_lanes)(first), rest = away * each;
        const double step = middle + rest - mean, share = (double)n / (double)(at + n);
        mean += step * share;
        square += FC_N(sum_of_lanes)(second) - away * rest + step * step * share * (double)at;
    }
    s->first[r] = mean;
    s->second[r] = square;
}

static void FC_N(moments)(const fc_norm *s)
{
    if (s->kind != FC_BY_POSITION) {
        for (ptrdiff_t r = 0; r < s->rows; r++) FC_N(moments_along)(s, r);
        return;
    }
    ptrdiff_t at = 0;
    for (; at + FC_STRIP * VF <= s->width; at += FC_STRIP * VF)
        FC_N(moments_strip)(s, at, VF, FC_STRIP, 1);
    for (; at + VF <= s->width; at += VF) FC_N(moments_strip)(s, at, VF, 1, 1);
    if (at < s->width) FC_N(moments_strip)(s, at, s->width - at, 1, 0);
}

/* What the tables say for the lanes from `at` on; of `uniform` tables, for all lanes of row `at`.
 * `by` is the factor of a `by_row` scale. */
typedef struct {
    V center, scale, shift, tilt, level, by;
} FC_N(norm_terms);

FC_INLINE V FC_N(norm_term)(const void *table, ptrdiff_t at, const int uniform)
{
    return uniform ? (V){0} + ((const T *)table)[at] : FC_N(load)((const T *)table + at);
}

/* `forward` and `gradient` say which of them are needed. */
FC_INLINE FC_N(norm_terms) FC_N(norm_terms_at)(const fc_norm *s, ptrdiff_t at, const int uniform,
                                               const int forward, const int gradient)
{
    FC_N(norm_terms) terms = {{0}, {0}, {0}, {0}, {0}, {0}};
    terms.center = FC_N(norm_term)(s->center, at, uniform);
    if (forward || gradient) terms.scale = FC_N(norm_term)(s->scale, at, uniform);
    if (forward) terms.shift = FC_N(norm_term)(s->shift, at, uniform);
    if (gradient) {
        terms.tilt = FC_N(norm_term)(s->tilt, at, uniform);
        terms.level = FC_N(norm_term)(s->level, at, uniform);
    }
    return terms;
}

/* What a whole row has in common. */
FC_INLINE FC_N(norm_terms) FC_N(norm_terms_of_row)(const fc_norm *s, const int gradient)
{
    FC_N(norm_terms) terms = {{0}, {0}, {0}, {0}, {0}, {0}};
    terms.center = FC_N(norm_term)(s->center, 0, 1);
    terms.by = FC_N(norm_term)(s->by, 0, 1);
    if (gradient) {
        terms.tilt = FC_N(norm_term)(s->tilt, 0, 1);
        terms.level = FC_N(norm_term)(s->level, 0, 1);
    }
    return terms;
}

/* The terms of the vector at `at`, after those of another.  Tables of a row end with it. */
FC_INLINE void FC_N(norm_terms_move)(FC_N(norm_terms) *terms, const fc_norm *s, ptrdiff_t at,
                                     ptrdiff_t lanes, const int whole, const int kind,
                                     const int forward, const int gradient)
{
    if (kind == FC_BY_POSITION) *terms = FC_N(norm_terms_at)(s, at, 0, forward, gradient);
    if (kind == FC_BY_ROW) {
        terms->scale = FC_N(load_lanes)((const T *)s->scale + at, lanes, whole) * terms->by;
        if (forward) terms->shift = FC_N(load_lanes)((const T *)s->shift + at, lanes, whole);
    }
}

/* The forward pass; its sign, where the ReLU's mask is wanted, has the same bits. */
FC_INLINE V FC_N(normalized)(V x, FC_N(norm_terms) terms)
{
    return (x - terms.center) * terms.scale + terms.shift;
}

FC_INLINE V FC_N(norm_dz)(V x, V dy, FC_N(norm_terms) terms, const int relu)
{
    if (!relu) return dy;
    return (V)((FC_N(ivec))dy & (FC_N(ivec))(FC_N(normalized)(x, terms) > 0));
}

FC_INLINE void FC_N(norm_sums_strip)(const fc_norm *s, ptrdiff_t at, ptrdiff_t lanes, const int nv,
                                     const int whole, const int relu)
{
    const ptrdiff_t count = whole ? nv * VF : lanes;
    T part[FC_STRIP * VF];
    for (ptrdiff_t r = 0; r < s->rows; r += FC_NORM_ROWS) {
        const ptrdiff_t n = s->rows - r < FC_NORM_ROWS ? s->rows - r : FC_NORM_ROWS;
        const T *x = (const T *)s->x + r * s->step + at, *dy = (const T *)s->dy + r * s->step + at;
        V first[FC_STRIP], second[FC_STRIP];
        FC_UNROLL
        for (int v = 0; v < nv; v++) first[v] = second[v] = (V){0};
        for (ptrdiff_t i = 0; i < n; i++, x += s->step, dy += s->step) {
            FC_UNROLL
            for (int v = 0; v < nv; v++) {
                const FC_N(norm_terms) terms = FC_N(norm_terms_at)(s, at + v * VF, 0, relu, 0);
                const V value = FC_N(load_lanes)(x + v * VF, lanes, whole);
                const V dz = FC_N(norm_dz)(value, FC_N(load_lanes)(dy + v * VF, lanes, whole),
                                           terms, relu);
                first[v] += dz;
                second[v] += dz * (value - terms.center);
            }
        }
        FC_UNROLL
        for (int v = 0; v < nv; v++) FC_N(store)(part + v * VF, first[v]);
        FC_N(add_to_sums)(s->first + at, part, count, r == 0);
        FC_UNROLL
        for (int v = 0; v < nv; v++) FC_N(store)(part + v * VF, second[v]);
        FC_N(add_to_sums)(s->second + at, part, count, r == 0);
    }
}

FC_INLINE void FC_N(norm_sums_down)(const fc_norm *s, const int relu)
{
    ptrdiff_t at = 0;
    for (; at + FC_STRIP * VF <= s->width; at += FC_STRIP * VF)
        FC_N(norm_sums_strip)(s, at, VF, FC_STRIP, 1, relu);
    for (; at + VF <= s->width; at += VF) FC_N(norm_sums_strip)(s, at, VF, 1, 1, relu);
    if (at < s->width) FC_N(norm_sums_strip)(s, at, s->width - at, 1, 0, relu);
}

/* Of row r, which is one channel's. */
FC_INLINE void FC_N(norm_sums_along)(const fc_norm *s, ptrdiff_t r, const int relu)
{
    const ptrdiff_t most = FC_NORM_ROWS * FC_STRIP * VF, strip = FC_STRIP * VF;
    const FC_N(norm_terms) terms = FC_N(norm_terms_at)(s, r, 1, relu, 0);
    double sum = 0, product = 0;
    for (ptrdiff_t at = 0; at < s->width; at += most) {
        const ptrdiff_t n = s->width - at < most ? s->width - at : most, whole = n / VF * VF;
        const T *x = (const T *)s->x + r * s->step + at;
        const T *dy = (const T *)s->dy + r * s->step + at;
        V first[FC_STRIP] = {{0}, {0}, {0}, {0}}, second[FC_STRIP] = {{0}, {0}, {0}, {0}};
        ptrdiff_t i = 0;
        for (; i + strip <= n; i += strip) {
            FC_UNROLL
            for (int v = 0; v < FC_STRIP; v++) {
                const V value = FC_N(load)(x + i + v * VF);
                const V dz = FC_N(norm_dz)(value, FC_N(load)(dy + i + v * VF), terms, relu);
                first[v] += dz;
                second[v] += dz * (value - terms.center);
            }
        }
        for (; i < n; i += VF) {
            const ptrdiff_t lanes = n - i;
            const V value = FC_N(load_lanes)(x + i, lanes, i < whole);
            const V dz =
                FC_N(norm_dz)(value, FC_N(load_lanes)(dy + i, lanes, i < whole), terms, relu);
            first[0] += dz;
            second[0] += dz * (value - terms.center);
        }
        sum += FC_N(sum_of_lanes)(first);
        product += FC_N(sum_of_lanes)(second);
    }
    s->first[r] = sum;
    s->second[r] = product;
}

FC_INLINE void FC_N(norm_sums_of_channels)(const fc_norm *s, const int relu)
{
    for (ptrdiff_t r = 0; r < s->rows; r++) FC_N(norm_sums_along)(s, r, relu);
}

/* Of a row: sums along it of dz * scale, and each position's dz added to its own sums. */
FC_INLINE void FC_N(norm_sums_of_row)(const fc_norm *s, const int relu)
{
    const ptrdiff_t most = FC_NORM_ROWS * VF;
    const FC_N(norm_terms) row = FC_N(norm_terms_of_row)(s, 0);
    T *sums = (T *)s->dz_sums, *products = (T *)s->dz_products;
    double sum = 0, product = 0;
    for (ptrdiff_t at = 0; at < s->width; at += most) {
        const ptrdiff_t end = s->width - at < most ? s->width : at + most;
        V first[FC_STRIP] = {{0}, {0}, {0}, {0}}, second[FC_STRIP] = {{0}, {0}, {0}, {0}};
        for (ptrdiff_t i = at; i < end; i += VF) {
            const ptrdiff_t lanes = end - i;
            const int whole = lanes >= VF;
            FC_N(norm_terms) terms = row;
            FC_N(norm_terms_move)(&terms, s, i, lanes, whole, FC_BY_ROW, relu, 0);
            const V x = FC_N(load_lanes)((const T *)s->x + i, lanes, whole);
            const V dy = FC_N(load_lanes)((const T *)s->dy + i, lanes, whole);
            const V dz = FC_N(norm_dz)(x, dy, terms, relu), away = x - terms.center;
            first[0] += dz * terms.scale;
            second[0] += dz * terms.scale * away;
            if (whole) {
                FC_N(store)(sums + i, FC_N(load)(sums + i) + dz);
                FC_N(store)(products + i, FC_N(load)(products + i) + dz * (away * terms.by));
            } else {
                const V d = FC_N(load_part)(sums + i, lanes);
                const V p = FC_N(load_part)(products + i, lanes);
                FC_N(store_part)(sums + i, d + dz, lanes);
                FC_N(store_part)(products + i, p + dz * (away * terms.by), lanes);
            }
        }
        sum += FC_N(sum_of_lanes)(first);
        product += FC_N(sum_of_lanes)(second);
    }
    s->first[0] = sum;
    s->second[0] = product;
}

static void FC_N(norm_sums)(const fc_norm *s)
{
    if (s->kind == FC_BY_ROW && s->relu)
        FC_N(norm_sums_of_row)(s, 1);
    else if (s->kind == FC_BY_ROW)
        FC_N(norm_sums_of_row)(s, 0);
    else if (s->kind == FC_UNIFORM && s->relu)
        FC_N(norm_sums_of_channels)(s, 1);
    else if (s->kind == FC_UNIFORM)
        FC_N(norm_sums_of_channels)(s, 0);
    else if (s->relu)
        FC_N(norm_sums_down)(s, 1);
    else
        FC_N(norm_sums_down)(s, 0);
}

FC_INLINE V FC_N(norm_result)(V x, V dy, FC_N(norm_terms) terms, const int relu, const int gradient)
{
    if (gradient)
        return FC_N(norm_dz)(x, dy, terms, relu) * terms.scale
               + ((x - terms.center) * terms.tilt + terms.level);
    const V y = FC_N(normalized)(x, terms);
    return relu ? FC_N(relu)(y) : y;
}

/* Rows of results: forward, or the gradient. */
FC_INLINE void FC_N(norm_rows)(const fc_norm *s, const int kind, const int relu, const int gradient,
                               const int stream)
{
    const int forward = relu || !gradient;
    FC_N(norm_terms) terms = kind == FC_BY_ROW
                                 ? FC_N(norm_terms_of_row)(s, gradient)
                                 : FC_N(norm_terms_at)(s, 0, kind, forward, gradient);
    const ptrdiff_t whole = s->width / VF * VF, lanes = s->width - whole;
    for (ptrdiff_t r = 0; r < s->rows; r++) {
        T *dst = (T *)s->dst + r * s->step;
        const T *x = (const T *)s->x + r * s->step, *dy = x;
        if (gradient) dy = (const T *)s->dy + r * s->step;
        if (kind == FC_UNIFORM) terms = FC_N(norm_terms_at)(s, r, 1, forward, gradient);
        for (ptrdiff_t i = 0; i < whole; i += VF) {
            FC_N(norm_terms_move)(&terms, s, i, VF, 1, kind, forward, gradient);
            const V y =
                FC_N(norm_result)(FC_N(load)(x + i), FC_N(load)(dy + i), terms, relu, gradient);
            if (stream)
                FC_N(stream)(dst + i, y);
            else
                FC_N(store)(dst + i, y);
        }
        if (lanes) {
            FC_N(norm_terms_move)(&terms, s, whole, lanes, 0, kind, forward, gradient);
            const V v = FC_N(load_part)(x + whole, lanes), d = FC_N(load_part)(dy + whole, lanes);
            FC_N(store_part)(dst + whole, FC_N(norm_result)(v, d, terms, relu, gradient), lanes);
        }
    }
}

FC_INLINE void FC_N(norm_rows_stored)(const fc_norm *s, const int kind, const int relu,
                                      const int gradient)
{
    const int aligned = (uintptr_t)s->dst % FC_VBYTES == 0 && (s->rows <= 1 || s->step % VF == 0);
    if (s->stream && aligned)
        FC_N(norm_rows)(s, kind, relu, gradient, 1);
    else
        FC_N(norm_rows)(s, kind, relu, gradient, 0);
}

FC_INLINE void FC_N(norm_kind)(const fc_norm *s, const int kind, const int gradient)
{
    if (s->relu)
        FC_N(norm_rows_stored)(s, kind, 1, gradient);
    else
        FC_N(norm_rows_stored)(s, kind, 0, gradient);
}

FC_INLINE void FC_N(norm_pass)(const fc_norm *s, const int gradient)
{
    if (s->kind == FC_BY_ROW)
        FC_N(norm_kind)(s, FC_BY_ROW, gradient);
    else if (s->kind == FC_UNIFORM)
        FC_N(norm_kind)(s, FC_UNIFORM, gradient);
    else
        FC_N(norm_kind)(s, FC_BY_POSITION, gradient);
}

static void FC_N(normalize)(const fc_norm *s) { FC_N(norm_pass)(s, 0); }
static void FC_N(norm_gradient)(const fc_norm *s) { FC_N(norm_pass)(s, 1); }
#undef FC_NORM_ROWS
#undef FC_STRIP
