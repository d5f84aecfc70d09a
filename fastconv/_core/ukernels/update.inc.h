/* update.inc.h - the steps of optimizers, each one pass over memory; once per type and tier. */

FC_INLINE T FC_N(square_root)(T x)
{
    return sizeof(T) == 4 ? (T)__builtin_sqrtf((float)x) : (T)__builtin_sqrt((double)x);
}

/* The gradient as a step takes it: scaled, then cut at both ends; NaN stays. */
FC_INLINE T FC_N(clipped)(T grad, T scale, T limit)
{
    const T g = grad * scale;
    return g > limit ? limit : g < -limit ? -limit : g;
}

FC_INLINE void FC_N(sgd_body)(const fc_step *s, const int momentum, const int nesterov)
{
    T *restrict value = (T *)s->value, *restrict velocity = (T *)s->first;
    const T *restrict grad = (const T *)s->grad;
    const T rate = (T)s->rate, m = (T)s->momentum, decay = (T)s->decay;
    const T scale = (T)s->scale, limit = (T)s->limit;
    for (ptrdiff_t i = 0; i < s->n; i++) {
        const T g = value[i] * decay + FC_N(clipped)(grad[i], scale, limit);
        T move = g;
        if (momentum) {
            const T v = velocity[i] * m + g;
            velocity[i] = v;
            move = nesterov ? g + m * v : v;
        }
        value[i] -= move * rate;
    }
}

static void FC_N(sgd)(const fc_step *s)
{
    if (s->first && s->nesterov)
        FC_N(sgd_body)(s, 1, 1);
    else if (s->first)
        FC_N(sgd_body)(s, 1, 0);
    else
        FC_N(sgd_body)(s, 0, 0);
}

static void FC_N(adam)(const fc_step *s)
{
    T *restrict value = (T *)s->value, *restrict mean = (T *)s->first;
    T *restrict square = (T *)s->second;
    const T *restrict grad = (const T *)s->grad;
    const T rate = (T)s->rate, epsilon = (T)s->epsilon, keep = (T)(1 - s->decay);
    const T new1 = (T)s->new1, new2 = (T)s->new2;
    const T scale = (T)s->scale, limit = (T)s->limit;
    for (ptrdiff_t i = 0; i < s->n; i++) {
        const T g = FC_N(clipped)(grad[i], scale, limit);
        const T m = mean[i] + (g - mean[i]) * new1;
        const T q = square[i] + (g * g - square[i]) * new2;
        mean[i] = m;
        square[i] = q;
        value[i] = value[i] * keep - m / (FC_N(square_root)(q) + epsilon) * rate;
    }
}

FC_INLINE void FC_N(rmsprop_body)(const fc_step *s, const int momentum)
{
    T *restrict value = (T *)s->value, *restrict velocity = (T *)s->first;
    T *restrict square = (T *)s->second;
    const T *restrict grad = (const T *)s->grad;
    const T rate = (T)s->rate, epsilon = (T)s->epsilon, new2 = (T)s->new2;
    const T m = (T)s->momentum, decay = (T)s->decay;
    const T scale = (T)s->scale, limit = (T)s->limit;
    for (ptrdiff_t i = 0; i < s->n; i++) {
        const T g = value[i] * decay + FC_N(clipped)(grad[i], scale, limit);
        const T q = square[i] + (g * g - square[i]) * new2;
        square[i] = q;
        T move = g / (FC_N(square_root)(q) + epsilon);
        if (momentum) {
            move += velocity[i] * m;
            velocity[i] = move;
        }
        value[i] -= move * rate;
    }
}

static void FC_N(rmsprop)(const fc_step *s)
{
    if (s->first)
        FC_N(rmsprop_body)(s, 1);
    else
        FC_N(rmsprop_body)(s, 0);
}

/* In double, which holds the square of any float; eight sums at a time, for vectors. */
static double FC_N(square_sum)(const void *x_, ptrdiff_t n)
{
    const T *x = (const T *)x_;
    double part[8] = {0}, sum = 0;
    ptrdiff_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int l = 0; l < 8; l++) part[l] += (double)x[i + l] * x[i + l];
    for (; i < n; i++) sum += (double)x[i] * x[i];
    for (int l = 0; l < 8; l++) sum += part[l];
    return sum;
}
