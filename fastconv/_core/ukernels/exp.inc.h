/* exp.inc.h - exp and what is made of it, in vectors; included once per type and tier.
 *
 * Errors are a few units in the last place, down to where results fade out through denormals; NaN
 * stays NaN.
 */

FC_INLINE V FC_N(choose)(FC_N(ivec) which, V yes, V no)
{
    return (V)(((FC_N(ivec))yes & which) | ((FC_N(ivec))no & ~which));
}

FC_INLINE FC_N(ivec) FC_N(sign_bit)(void)
{
    return ((FC_N(ivec)){0} + 1) << (int)(8 * sizeof(T) - 1);
}

/* -|x| */
FC_INLINE V FC_N(below_zero)(V x) { return (V)((FC_N(ivec))x | FC_N(sign_bit)()); }

FC_INLINE V FC_N(with_sign_of)(V x, V sign)
{
    return FC_N(choose)(FC_N(sign_bit)(), sign, x);
}

/* x, or the bound where x lies outside of it. */
FC_INLINE V FC_N(at_least)(V x, T bound) { return FC_N(choose)(x < bound, (V){0} + bound, x); }
FC_INLINE V FC_N(at_most)(V x, T bound) { return FC_N(choose)(x > bound, (V){0} + bound, x); }

/* x + rest = k ln 2 + r with |r| <= ln 2 / 2; the result q of a Taylor series gives
 * exp(r) = 1 + q r to the last bit. */
FC_INLINE V FC_N(exp_series)(V x, V rest, FC_N(ivec) *k, V *r_)
{
    const int single = sizeof(T) == 4;
    /* Adding 1.5 * 2^(mantissa bits) rounds to the nearest integer, which lies in the low bits. */
    const T magic = single ? (T)12582912.0f : (T)6755399441055744.0;
    const V shifted = (x + rest) * (T)1.4426950408889634 + magic;
    const V whole = shifted - magic;
    /* ln 2 in two parts: products of the first with k are exact. */
    const T high = single ? (T)0.693145751953125f : (T)0.69314718036912381649;
    const T low = single ? (T)1.42860682030941723212e-6 : (T)1.9082149292705877e-10;
    const V r = (x - whole * high) - whole * low + rest;
    static const T series[] = {
        (T)(1. / 6227020800.), (T)(1. / 479001600.), (T)(1. / 39916800.), (T)(1. / 3628800.),
        (T)(1. / 362880.),     (T)(1. / 40320.),     (T)(1. / 5040.),     (T)(1. / 720.),
        (T)(1. / 120.),        (T)(1. / 24.),        (T)(1. / 6.),        (T)0.5,
        (T)1,
    };
    const int first = single ? 6 : 0;
    V q = (V){0} + series[first];
    for (int i = first + 1; i < 13; i++) q = q * r + series[i];
    *k = (FC_N(ivec))shifted - (FC_N(ivec))((V){0} + magic);
    *r_ = r;
    return q;
}

/* 2^k for normal results. */
FC_INLINE V FC_N(power)(FC_N(ivec) k)
{
    return (V)((k + (sizeof(T) == 4 ? 127 : 1023)) << (sizeof(T) == 4 ? 23 : 52));
}

/* exp(x + rest) for x <= 0 and a rest that is small beside it, where x is not small. */
FC_INLINE V FC_N(exp_sum)(V x, V rest)
{
    FC_N(ivec) k;
    V r;
    x = FC_N(at_least)(x, sizeof(T) == 4 ? (T)-104 : (T)-746);
    const V q = FC_N(exp_series)(x, rest, &k, &r);
    /* In two factors, so that small results fade out through denormals. */
    const FC_N(ivec) half = k >> 1;
    return (q * r + 1) * FC_N(power)(half) * FC_N(power)(k - half);
}

/* exp(x) for x <= 0. */
FC_INLINE V FC_N(exp)(V x) { return FC_N(exp_sum)(x, (V){0}); }

/* exp(x) - 1 for x <= 0, exact also where x is small. */
FC_INLINE V FC_N(exp_less_1)(V x)
{
    FC_N(ivec) k;
    V r;
    const V q = FC_N(exp_series)(FC_N(at_least)(x, -50), (V){0}, &k, &r);
    const V scale = FC_N(power)(k);
    return q * r * scale + (scale - 1);
}

/* The logistic function of x, and that of -x: together they are 1. */
FC_INLINE V FC_N(sigmoids)(V x, V *other)
{
    const V e = FC_N(exp)(FC_N(below_zero)(x)), whole = 1 / (1 + e), part = e * whole;
    const FC_N(ivec) negative = x < 0;
    *other = FC_N(choose)(negative, whole, part);
    return FC_N(choose)(negative, part, whole);
}

FC_INLINE V FC_N(sigmoid)(V x)
{
    V other;
    return FC_N(sigmoids)(x, &other);
}

FC_INLINE V FC_N(tanh)(V x)
{
    const V e = FC_N(exp_less_1)(2 * FC_N(below_zero)(x));
    return FC_N(with_sign_of)(e / (e + 2), x);
}

/* The normal distribution function of x; the density times sqrt(2 pi) in `bell`.
 *
 * With z = |x| its upper tail is bell * M(z), and M(z) * (z + 4) is a smooth function of
 * (z - 4) / (z + 4), from -1 to 1: a polynomial, interpolated in Chebyshev's points.
 * z^2 / 2 is exact in two parts, since an error in it would be one of its own size in the result. */
FC_INLINE V FC_N(normal)(V x, V *bell)
{
    const int single = sizeof(T) == 4;
    static const float short_series[] = {
        2.11829843e-5f, -1.7310823e-6f, -0.000215573776f, 0.000133653387f, 0.00162204011f,
        -0.00347995464f, -0.00753771716f, 0.0603966483f, -0.18652216f, 0.387137394f,
        -0.607896631f, 0.755285131f,
    };
    static const double long_series[] = {
        1.17547993486983427e-10, 3.40331268571694854e-10, -8.54652770069468328e-10,
        -3.73064530917072825e-9, 1.43299340339466132e-9, 2.1427604440509072e-8,
        1.46307249791219519e-8, -8.68664710567241214e-8, -1.56502362221975678e-7,
        2.72462970361087764e-7, 1.02256041425500507e-6, -6.29836734377799334e-7,
        -5.92058651886076565e-6, 7.1665876433744212e-7, 0.0000351447947873280165,
        -1.90824635147330234e-6, -0.000231094953240155008, 0.000133344309411842501,
        0.00163081845939458135, -0.00347969236704797462, -0.00754018896682523968,
        0.0603965748909178723, -0.186521857959654829, 0.387137400742214917,
        -0.607896641971892125, 0.755285130415751492,
    };
    const V z = FC_N(at_most)(-FC_N(below_zero)(x), single ? (T)14.5 : (T)39);
    const V high = (V)((FC_N(ivec))z & -((FC_N(ivec)){0} + ((I)1 << (single ? 12 : 27))));
    const V e = FC_N(exp_sum)(high * high * (T)-0.5, (high - z) * (high + z) * (T)0.5);
    const V w = 1 / (z + 4), u = (z - 4) * w;
    const int terms = single ? 12 : 26;
    V m = (V){0} + (single ? (T)short_series[0] : (T)long_series[0]);
    for (int i = 1; i < terms; i++) m = m * u + (single ? (T)short_series[i] : (T)long_series[i]);
    const V tail = m * w * e;
    *bell = e;
    return FC_N(choose)(x < 0, tail, 1 - tail);
}
