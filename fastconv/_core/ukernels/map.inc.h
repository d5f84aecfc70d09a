/* map.inc.h - functions of single elements, one pass over memory; included once per type and tier.
 *
 * Of an element x of the first array and y of the second, where there is one, and of one number.
 * A sum is of both. A gradient is given dy first, then the argument or the result, whichever is cheaper.
 */

#define FC_MAP(name, value)                                                                        \
    static void FC_N(map_##name)(void *dst_, const void *a_, const void *b_, ptrdiff_t n,          \
                                 double number_)                                                   \
    {                                                                                              \
        T *dst = (T *)dst_;                                                                        \
        const T *a = (const T *)a_, *b = b_ ? (const T *)b_ : a;                                   \
        const T number = (T)number_;                                                               \
        const ptrdiff_t whole = n / VF * VF;                                                       \
        (void)number;                                                                              \
        for (ptrdiff_t i = 0; i < whole; i += VF) {                                                \
            const V x = FC_N(load)(a + i), y = FC_N(load)(b + i);                                  \
            (void)y;                                                                               \
            FC_N(store)(dst + i, value);                                                           \
        }                                                                                          \
        if (whole < n) {                                                                           \
            const V x = FC_N(load_part)(a + whole, n - whole);                                     \
            const V y = FC_N(load_part)(b + whole, n - whole);                                     \
            (void)y;                                                                               \
            FC_N(store_part)(dst + whole, value, n - whole);                                       \
        }                                                                                          \
    }

/* Where the argument is infinite a factor is 0: beyond these bounds it is so anyway. */
#define FC_FAR (sizeof(T) == 4 ? (T)110 : (T)760)

FC_INLINE V FC_N(silu)(V x) { return FC_N(at_least)(x, -FC_FAR) * FC_N(sigmoid)(x); }

FC_INLINE V FC_N(silu_slope)(V x)
{
    V other;
    const V s = FC_N(sigmoids)(x, &other);
    return s * (FC_N(at_least)(FC_N(at_most)(x, FC_FAR), -FC_FAR) * other + 1);
}

FC_INLINE V FC_N(gelu)(V x)
{
    V z, bell;
    const V tail = FC_N(tail_by_bell)(x, &z, &bell) * z;
    return FC_N(relu)(x) - tail * bell;
}

FC_INLINE V FC_N(gelu_slope)(V x)
{
    V z, bell;
    const V tail = FC_N(tail_by_bell)(x, &z, &bell) * bell;
    const V share = FC_N(choose)(x < 0, tail, 1 - tail);
    return FC_N(at_least)(FC_N(at_most)(x, FC_FAR), -FC_FAR) * bell * (T)0.3989422804014327 + share;
}

/* (1 + tanh(u)) / 2 is the logistic function of 2u = x * (2 sqrt(2 / pi)) * (1 + 0.044715 x^2). */
#define FC_GELU_1 ((T)1.5957691216057308)
#define FC_GELU_3 ((T)0.07135481627260025)

FC_INLINE V FC_N(gelu_tanh)(V x)
{
    return FC_N(at_least)(x, -FC_FAR) * FC_N(sigmoid)(x * (x * x * FC_GELU_3 + FC_GELU_1));
}

FC_INLINE V FC_N(gelu_tanh_slope)(V x)
{
    V other;
    x = FC_N(at_least)(FC_N(at_most)(x, FC_FAR), -FC_FAR);
    const V square = x * x, s = FC_N(sigmoids)(x * (square * FC_GELU_3 + FC_GELU_1), &other);
    return s * (x * (square * (3 * FC_GELU_3) + FC_GELU_1) * other + 1);
}

FC_MAP(add, x + y)
FC_MAP(add_relu, FC_N(relu)(x + y))
FC_MAP(relu, FC_N(relu)(x))
FC_MAP(relu_backward, (V)((FC_N(ivec))x & (y > 0)))
FC_MAP(leaky_relu, FC_N(choose)(x < 0, x * number, x))
FC_MAP(leaky_relu_backward, FC_N(choose)(y > 0, x, x * number))
FC_MAP(sigmoid, FC_N(sigmoid)(x))
FC_MAP(sigmoid_backward, x * ((1 - y) * y))
FC_MAP(tanh, FC_N(tanh)(x))
FC_MAP(tanh_backward, x * ((1 - y) * (1 + y)))
FC_MAP(silu, FC_N(silu)(x))
FC_MAP(silu_backward, x * FC_N(silu_slope)(y))
FC_MAP(gelu, FC_N(gelu)(x))
FC_MAP(gelu_backward, x * FC_N(gelu_slope)(y))
FC_MAP(gelu_tanh, FC_N(gelu_tanh)(x))
FC_MAP(gelu_tanh_backward, x * FC_N(gelu_tanh_slope)(y))
#undef FC_MAP
#undef FC_FAR
#undef FC_GELU_1
#undef FC_GELU_3
