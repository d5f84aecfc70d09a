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

#if FC_VBYTES == 64
#define FC_REGISTER "v"
#else
#define FC_REGISTER "x"
#endif

/* x, or the bound where x lies outside of it.  The instruction gives x where that is NaN; a compiler
 * has no name for it that it would not dare to turn around. */
FC_INLINE V FC_N(at_least)(V x, T bound)
{
    V y = (V){0} + bound;
#if FC_X86_64 && FC_VBYTES > 16
    if (sizeof(T) == 4)
        __asm__("vmaxps %1, %0, %0" : "+" FC_REGISTER(y) : FC_REGISTER(x));
    else
        __asm__("vmaxpd %1, %0, %0" : "+" FC_REGISTER(y) : FC_REGISTER(x));
    return y;
#else
    return FC_N(choose)(x < bound, y, x);
#endif
}

FC_INLINE V FC_N(at_most)(V x, T bound)
{
    V y = (V){0} + bound;
#if FC_X86_64 && FC_VBYTES > 16
    if (sizeof(T) == 4)
        __asm__("vminps %1, %0, %0" : "+" FC_REGISTER(y) : FC_REGISTER(x));
    else
        __asm__("vminpd %1, %0, %0" : "+" FC_REGISTER(y) : FC_REGISTER(x));
    return y;
#else
    return FC_N(choose)(x > bound, y, x);
#endif
}

/* x + rest = k ln 2 + r with |r| <= ln 2 / 2; the result q of a polynomial, of the least error in
 * float and Taylor's in double, gives exp(r) = 1 + q r to the last bit. */
FC_INLINE V FC_N(exp_series)(V x, V rest, V *k, V *r_)
{
    const int single = sizeof(T) == 4;
    /* Adding 1.5 * 2^(mantissa bits) rounds to the nearest integer. */
    const T magic = single ? (T)12582912.0f : (T)6755399441055744.0;
    const V whole = (x + rest) * (T)1.4426950408889634 + magic - magic;
    /* ln 2 in two parts: products of the first with k are exact. */
    const T high = single ? (T)0.693145751953125f : (T)0.69314718036912381649;
    const T low = single ? (T)1.42860682030941723212e-6 : (T)1.9082149292705877e-10;
    const V r = (x - whole * high) - whole * low + rest;
    static const float short_series[] = {
        0.001381453988f, 0.008368745127f, 0.04166839079f, 0.166665204f, 0.4999999343f, 1,
    };
    static const double long_series[] = {
        1. / 6227020800., 1. / 479001600., 1. / 39916800., 1. / 3628800., 1. / 362880.,
        1. / 40320., 1. / 5040., 1. / 720., 1. / 120., 1. / 24., 1. / 6., 0.5, 1,
    };
    const int terms = single ? 6 : 13;
    V q = (V){0} + (single ? (T)short_series[0] : (T)long_series[0]);
    for (int i = 1; i < terms; i++) q = q * r + (single ? (T)short_series[i] : (T)long_series[i]);
    *k = whole;
    *r_ = r;
    return q;
}

/* y * 2^k for integers k, |k| < 2^11; small results fade out through denormals. */
FC_INLINE V FC_N(scaled)(V y, V k)
{
#if FC_X86_64 && FC_VBYTES == 64
    if (sizeof(T) == 4)
        __asm__("vscalefps %1, %0, %0" : "+v"(y) : "v"(k));
    else
        __asm__("vscalefpd %1, %0, %0" : "+v"(y) : "v"(k));
    return y;
#else
    /* Two powers of two.  In k + 1.5 * 2^(mantissa bits) the integer lies in the low bits. */
    const V magic = (V){0} + (sizeof(T) == 4 ? (T)12582912.0f : (T)6755399441055744.0);
    const FC_N(ivec) n = (FC_N(ivec))(k + magic) - (FC_N(ivec))magic, half = n >> 1;
    const int bias = sizeof(T) == 4 ? 127 : 1023, mantissa = sizeof(T) == 4 ? 23 : 52;
    return y * (V)((half + bias) << mantissa) * (V)((n - half + bias) << mantissa);
#endif
}

/* exp(x + rest) for x <= 0 and a rest that is small beside it, where x is not small. */
FC_INLINE V FC_N(exp_sum)(V x, V rest)
{
    V k, r;
    x = FC_N(at_least)(x, sizeof(T) == 4 ? (T)-104 : (T)-746);
    const V q = FC_N(exp_series)(x, rest, &k, &r);
    return FC_N(scaled)(q * r + 1, k);
}

/* exp(x) for x <= 0. */
FC_INLINE V FC_N(exp)(V x) { return FC_N(exp_sum)(x, (V){0}); }

/* exp(x) - 1 for x <= 0, exact also where x is small. */
FC_INLINE V FC_N(exp_less_1)(V x)
{
    V k, r;
    const V q = FC_N(exp_series)(FC_N(at_least)(x, -50), (V){0}, &k, &r);
    const V scale = FC_N(scaled)((V){0} + 1, k);
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

/* z^2, and what is left of it after rounding. */
FC_INLINE V FC_N(square_of)(V z, V *rest)
{
#if FC_X86_64 && FC_VBYTES > 16
    const V square = z * z;
    V left = z;
    if (sizeof(T) == 4)
        __asm__("vfmsub213ps %1, %2, %0"
                : "+" FC_REGISTER(left)
                : FC_REGISTER(square), FC_REGISTER(z));
    else
        __asm__("vfmsub213pd %1, %2, %0"
                : "+" FC_REGISTER(left)
                : FC_REGISTER(square), FC_REGISTER(z));
    *rest = left;
    return square;
#else
    /* By halves of the digits, whose products are exact. */
    const int digits = sizeof(T) == 4 ? 12 : 27;
    const V high = (V)((FC_N(ivec))z & -((FC_N(ivec)){0} + ((I)1 << digits)));
    *rest = (z - high) * (z + high);
    return high * high;
#endif
}

/* exp(-z^2 / 2) for z from 0 to where it is 0: an error in z^2 would be one of its own size in the
 * result, which so takes it in two parts. */
FC_INLINE V FC_N(bell)(V z)
{
    V rest;
    const V square = FC_N(square_of)(z, &rest);
    if (sizeof(T) != 4) return FC_N(exp_sum)(square * (T)-0.5, rest * (T)-0.5);
    /* As exp_series, of -2 times the argument. */
    const T magic = (T)12582912.0f;
    const V k = (square + rest) * (T)-0.72134752044448170368 + magic - magic;
    const V r = (square + k * (T)1.38629150390625f) + k * (T)2.85721364061883446424e-6 + rest;
    static const float series[] = {
        -0.0002590709977f, 0.002618634982f, -0.02083454766f, 0.1249978696f, -0.4999998532f, 1,
    };
    V e = (V){0} + (T)series[0];
    for (int i = 1; i < 6; i++) e = e * r + (T)series[i];
    return FC_N(scaled)(e, k);
}

/* The share of a normal distribution above z, for z = |x| up to where it is 0, by exp(-z^2 / 2),
 * which is left in `bell`.
 *
 * In float it is a quotient of polynomials of z.  In double, times z + 4, it is a smooth function of
 * 1 / (z + 4): a polynomial, interpolated in Chebyshev's points. */
FC_INLINE V FC_N(tail_by_bell)(V x, V *z_, V *bell)
{
    const int single = sizeof(T) == 4;
    const V z = FC_N(at_most)(-FC_N(below_zero)(x), single ? (T)14.5 : (T)39);
    *z_ = z;
    *bell = FC_N(bell)(z);
    if (single) {
        static const float above[] = {
            0.398947063f, 3.942800429f, 17.79550421f, 42.59749604f, 48.64026716f,
        };
        static const float below[] = {
            9.883775953f, 45.59191983f, 116.8567982f, 162.8136679f, 97.28053376f,
        };
        V p = (V){0} + (T)above[0], q = z + (T)below[0];
        for (int i = 1; i < 5; i++) p = p * z + (T)above[i];
        for (int i = 1; i < 5; i++) q = q * z + (T)below[i];
        return p / q;
    }
    static const double series[] = {
        -1.12762133945027387e-10, -2.64387225307287749e-10, 1.68220697343071392e-9,
        1.56823359394797547e-9, -1.3775775123837805e-8, 3.29272137007468064e-9,
        8.38983566462612108e-8, -1.15278205552129938e-7, -4.35399371649812883e-7,
        1.21397011206920046e-6, 2.18402003085623436e-6, -0.0000104639292392951265,
        -0.0000136222935592133199, 0.000088470177795968677, 0.000147208063110120107,
        -0.000737420891699517261, -0.00250145905675674313, 0.00325884619002011952,
        0.0429063267769432499, 0.156369955467944702, 0.36390673682703851, 0.621244102224725349,
        0.815338396842516909,
    };
    const V w = 1 / (z + 4), u = w * (T)8.82051282051282051 - (T)1.20512820512820513;
    V m = (V){0} + (T)series[0];
    for (int i = 1; i < 23; i++) m = m * u + (T)series[i];
    return m * w;
}
#undef FC_REGISTER
