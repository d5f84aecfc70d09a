/* update.inc.h - the steps of optimizers, each one pass over memory; once per type and tier. */

FC_INLINE void FC_N(sgd_body)(const fc_sgd *s, const int momentum, const int nesterov)
{
    T *restrict value = (T *)s->value, *restrict velocity = (T *)s->velocity;
    const T *restrict grad = (const T *)s->grad;
    const T rate = (T)s->rate, m = (T)s->momentum, decay = (T)s->decay;
    for (ptrdiff_t i = 0; i < s->n; i++) {
        const T g = value[i] * decay + grad[i];
        T move = g;
        if (momentum) {
            const T v = velocity[i] * m + g;
            velocity[i] = v;
            move = nesterov ? g + m * v : v;
        }
        value[i] -= move * rate;
    }
}

static void FC_N(sgd)(const fc_sgd *s)
{
    if (s->velocity && s->nesterov)
        FC_N(sgd_body)(s, 1, 1);
    else if (s->velocity)
        FC_N(sgd_body)(s, 1, 0);
    else
        FC_N(sgd_body)(s, 0, 0);
}

FC_INLINE T FC_N(square_root)(T x)
{
    return sizeof(T) == 4 ? (T)__builtin_sqrtf((float)x) : (T)__builtin_sqrt((double)x);
}

static void FC_N(adam)(const fc_adam *s)
{
    T *restrict value = (T *)s->value, *restrict mean = (T *)s->mean;
    T *restrict square = (T *)s->square;
    const T *restrict grad = (const T *)s->grad;
    const T rate = (T)s->rate, epsilon = (T)s->epsilon;
    const T new1 = (T)s->new1, new2 = (T)s->new2;
    for (ptrdiff_t i = 0; i < s->n; i++) {
        const T g = grad[i];
        const T m = mean[i] + (g - mean[i]) * new1;
        const T q = square[i] + (g * g - square[i]) * new2;
        mean[i] = m;
        square[i] = q;
        value[i] -= m / (FC_N(square_root)(q) + epsilon) * rate;
    }
}
