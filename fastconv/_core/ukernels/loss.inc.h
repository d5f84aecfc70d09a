/* loss.inc.h - losses of one value and its target, with their derivative; once per type and tier. */

/* log(1 + z) for z in [0, 1]: with s = z / (2 + z) <= 1/3 it is 2 (s + s^3 / 3 + s^5 / 5 + ...),
 * long enough for the last bit. */
FC_INLINE V FC_N(log1p)(V z)
{
    const V s = z / (z + 2), square = s * s;
    const int most = sizeof(T) == 4 ? 7 : 16;
    V y = (V){0} + (T)1 / (T)(2 * most + 1);
    for (int i = most - 1; i >= 0; i--) y = y * square + (T)1 / (T)(2 * i + 1);
    return 2 * s * y;
}

/* The losses of one vector; `derivative` gets their derivatives, `outside` the lanes whose target
 * is no probability. */
FC_INLINE V FC_N(one_loss)(const int kind, V x, V t, V by, T delta, V *derivative,
                           FC_N(ivec) *outside)
{
    const V zero = {0};
    if (kind == FC_LOGISTIC) {
        const FC_N(ivec) negative = x < 0;
        const V size = -FC_N(below_zero)(x);
        const V e = FC_N(exp)(-size), near = 1 / (1 + e), far = e * near, l = FC_N(log1p)(e);
        const V yes = t * by, no = 1 - t; /* what a missing yes, and a missing no, cost */
        *outside |= (t < 0) | (t > 1);
        *derivative = no * FC_N(choose)(negative, far, near)
                      - yes * FC_N(choose)(negative, near, far);
        return yes * (l + FC_N(choose)(negative, size, zero))
               + no * (l + FC_N(choose)(negative, zero, size));
    }
    const V d = x - t;
    if (kind == FC_SQUARED) {
        *derivative = 2 * d;
        return d * d;
    }
    const V end = zero + delta;
    const V size = FC_N(choose)(d < 0, -d, d), inner = FC_N(choose)(size < end, size, end);
    *derivative = FC_N(choose)(d > end, end, FC_N(choose)(d < -end, -end, d));
    return inner * (size - inner * (T)0.5);
}

FC_INLINE double FC_N(loss_body)(fc_loss *s, const int kind)
{
    enum { FEW = 16 }; /* vectors whose sum is as exact as one value */
    T *dst = (T *)s->dst;
    const T *x = (const T *)s->x, *t = (const T *)s->t, *by = (const T *)s->by;
    const T scale = (T)s->scale, delta = (T)s->delta;
    const V one = (V){0} + 1;
    const ptrdiff_t whole = s->n / VF * VF, rest = s->n - whole;
    FC_N(ivec) outside = {0};
    V derivative;
    double total = 0;
    for (ptrdiff_t i = 0; i < whole;) {
        const ptrdiff_t end = whole - i < FEW * VF ? whole : i + FEW * VF;
        V sum = {0};
        for (; i < end; i += VF) {
            sum += FC_N(one_loss)(kind, FC_N(load)(x + i), FC_N(load)(t + i),
                                  by ? FC_N(load)(by + i) : one, delta, &derivative, &outside);
            FC_N(store)(dst + i, derivative * scale);
        }
        for (int l = 0; l < VF; l++) total += sum[l];
    }
    if (rest) {
        const V loss = FC_N(one_loss)(
            kind, FC_N(load_part)(x + whole, rest), FC_N(load_part)(t + whole, rest),
            by ? FC_N(load_part)(by + whole, rest) : one, delta, &derivative, &outside);
        FC_N(store_part)(dst + whole, derivative * scale, rest);
        T part[VF];
        FC_N(store)(part, loss);
        for (ptrdiff_t l = 0; l < rest; l++) total += part[l];
    }
    for (int l = 0; l < VF; l++)
        if (outside[l]) s->outside = 1;
    return total;
}

static double FC_N(squared_loss)(fc_loss *s) { return FC_N(loss_body)(s, FC_SQUARED); }
static double FC_N(huber_loss)(fc_loss *s) { return FC_N(loss_body)(s, FC_HUBER); }
static double FC_N(logistic_loss)(fc_loss *s) { return FC_N(loss_body)(s, FC_LOGISTIC); }
