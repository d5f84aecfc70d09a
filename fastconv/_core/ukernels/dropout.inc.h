/* dropout.inc.h - which elements are dropped is a function of their number and a key; included once per
 * type and tier.
 *
 * So nothing is drawn in turn and nothing is kept: threads need no order, and the gradient finds the
 * same elements again.  Numbers are 32 bits wide for both types, which then drop the same.
 */

typedef uint32_t FC_N(words) __attribute__((vector_size(4 * VF)));

/* Two rounds of a multiplication between shifts spread each bit of the number over all others. */
FC_INLINE FC_N(words) FC_N(hash)(FC_N(words) x, uint32_t key)
{
    x ^= x >> 16;
    x += key;
    x *= 0x21f0aaadu;
    x ^= x >> 15;
    x *= 0xd35a2d97u;
    x ^= x >> 15;
    return x;
}

/* All bits of the lanes that are kept. */
FC_INLINE FC_N(ivec) FC_N(kept)(FC_N(words) number, const fc_dropout *s)
{
    return __builtin_convertvector(FC_N(hash)(number, s->key[1]) >= s->threshold, FC_N(ivec));
}

/* Elements of a row from `at` to `end`, whose first vector has these numbers, and a whole vector on
 * those `more` further.  With `alike` all of them are kept or none is. */
FC_INLINE void FC_N(drop_row)(const fc_dropout *s, ptrdiff_t r, ptrdiff_t at, ptrdiff_t end,
                              FC_N(words) number, uint32_t more, const int alike)
{
    T *dst = (T *)s->dst + r * s->step;
    const T *x = (const T *)s->x + r * s->step, scale = (T)s->scale;
    FC_N(ivec) keep = FC_N(kept)(number, s);
    for (; at + VF <= end; at += VF) {
        if (!alike) keep = FC_N(kept)(number, s);
        number += more;
        FC_N(store)(dst + at, (V)((FC_N(ivec))(FC_N(load)(x + at) * scale) & keep));
    }
    if (at < end) {
        const V y = FC_N(load_part)(x + at, end - at) * scale;
        if (!alike) keep = FC_N(kept)(number, s);
        FC_N(store_part)(dst + at, (V)((FC_N(ivec))y & keep), end - at);
    }
}

static void FC_N(dropout)(const fc_dropout *call)
{
    const fc_dropout copy = *call, *s = &copy; /* in registers: no store can change it */
    /* Numbers times an odd constant, so that neighbours have no bits in common to begin with. */
    const uint32_t odd = 0x9e3779b1u, more = VF * s->lane_number * odd;
    FC_N(words) number;
    FC_UNROLL
    for (uint32_t l = 0; l < VF; l++) number[l] = s->key[0] + (s->first + l * s->lane_number) * odd;
    if (s->row_number == 0) { /* one vector of all rows, whose numbers are the same, after the other */
        for (ptrdiff_t at = 0; at < s->width; at += VF, number += more)
            for (ptrdiff_t r = 0; r < s->rows; r++)
                FC_N(drop_row)(s, r, at, at + VF < s->width ? at + VF : s->width, number, 0, 1);
        return;
    }
    for (ptrdiff_t r = 0; r < s->rows; r++, number += s->row_number * odd) {
        if (s->lane_number == 0)
            FC_N(drop_row)(s, r, 0, s->width, number, 0, 1);
        else
            FC_N(drop_row)(s, r, 0, s->width, number, more, 0);
    }
}
