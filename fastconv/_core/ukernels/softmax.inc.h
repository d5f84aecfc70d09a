/* softmax.inc.h - softmax and its cross entropy, a row at a time; included once per type and tier.
 *
 * A row's scores are read once: what comes after finds them in the first cache.
 */

/* exp of x <= 0; NaN stays NaN.  x = k ln 2 + r with |r| <= ln 2 / 2 and a Taylor series for r, long
 * enough for the last bit; 2^k in two factors, so that small results fade out through denormals. */
FC_INLINE V FC_N(exp)(V x)
{
    const int single = sizeof(T) == 4;
    const T least = single ? (T)-104 : (T)-746;
    const FC_N(ivec) low = x < least;
    x = (V)(((FC_N(ivec))((V){0} + least) & low) | ((FC_N(ivec))x & ~low));
    /* Adding 1.5 * 2^(mantissa bits) rounds to the nearest integer, which lies in the low bits. */
    const T magic = single ? (T)12582912.0f : (T)6755399441055744.0;
    const V shifted = x * (T)1.4426950408889634 + magic;
    const FC_N(ivec) k = (FC_N(ivec))shifted - (FC_N(ivec))((V){0} + magic);
    const V whole = shifted - magic;
    /* ln 2 in two parts: products of the first with k are exact. */
    const T high = single ? (T)0.693145751953125f : (T)0.69314718036912381649;
    const T rest = single ? (T)1.42860682030941723212e-6 : (T)1.9082149292705877e-10;
    const V r = (x - whole * high) - whole * rest;
    static const T series[] = {
        (T)(1. / 6227020800.), (T)(1. / 479001600.), (T)(1. / 39916800.), (T)(1. / 3628800.),
        (T)(1. / 362880.),     (T)(1. / 40320.),     (T)(1. / 5040.),     (T)(1. / 720.),
        (T)(1. / 120.),        (T)(1. / 24.),        (T)(1. / 6.),        (T)0.5,
        (T)1,                  (T)1,
    };
    const int first = single ? 6 : 0;
    V y = (V){0} + series[first];
    for (int i = first + 1; i < 14; i++) y = y * r + series[i];
    const int mantissa = single ? 23 : 52, bias = single ? 127 : 1023;
    const FC_N(ivec) half = k >> 1;
    const V a = (V)((half + bias) << mantissa), b = (V)((k - half + bias) << mantissa);
    return y * a * b;
}

/* One row: dst = exp(x - most), and the sum of that; lanes past n are not touched. */
static double FC_N(softmax_row)(T *dst, const T *x, ptrdiff_t n, double *most_)
{
    const T lowest = -(T)__builtin_inf();
    T part[VF];
    ptrdiff_t i = 0;
    V tail = (V){0} + lowest, most = tail, sum = {0};
    const ptrdiff_t whole = n / VF * VF;
    if (whole < n) {
        for (int l = 0; l < VF; l++) part[l] = whole + l < n ? x[whole + l] : lowest;
        tail = most = FC_N(load)(part);
    }
    for (i = 0; i < whole; i += VF) {
        const V v = FC_N(load)(x + i);
        const FC_N(ivec) take = v > most;
        most = (V)(((FC_N(ivec))v & take) | ((FC_N(ivec))most & ~take));
    }
    T m = lowest;
    for (int l = 0; l < VF; l++) m = most[l] > m ? most[l] : m;
    for (i = 0; i < whole; i += VF) {
        const V e = FC_N(exp)(FC_N(load)(x + i) - m);
        FC_N(store)(dst + i, e);
        sum += e;
    }
    double total = 0;
    for (int l = 0; l < VF; l++) total += sum[l];
    if (whole < n) {
        FC_N(store)(part, FC_N(exp)(tail - m));
        for (i = whole; i < n; i++) {
            dst[i] = part[i - whole];
            total += part[i - whole];
        }
    }
    *most_ = m;
    return total;
}

static void FC_N(softmax_loss)(const fc_softmax_loss *s)
{
    const ptrdiff_t n = s->classes;
    for (ptrdiff_t r = 0; r < s->rows; r++) {
        T *dst = (T *)s->dst + r * n;
        const T *x = (const T *)s->x + r * n;
        const ptrdiff_t label = s->labels[r];
        double most;
        const double sum = FC_N(softmax_row)(dst, x, n, &most);
        const double score = x[label], e = dst[label];
        const T scale = (T)(s->scale / sum);
        for (ptrdiff_t i = 0; i < n; i++) dst[i] *= scale;
        dst[label] = (T)((e / sum - 1) * s->scale);
        s->sums[r] = sum;
        s->scores[r] = score - most;
    }
}
