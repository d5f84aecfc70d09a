/* dropout.inc.h - which elements are dropped is a function of their number and a key; included once
 * per type and tier.
 *
 * So nothing is drawn in turn and nothing is kept: threads need no order, and the gradient finds
 * the same elements again.  Numbers are 32 bits wide for both types, which then drop the same.
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

FC_INLINE V FC_N(masked)(V x, FC_N(ivec) mask) { return (V)((FC_N(ivec))x & mask); }

static void FC_N(dropout)(const fc_dropout *call)
{
    const fc_dropout copy = *call, *s = &copy; /* in registers: no store can change it */
    /* Numbers times an odd constant, so that neighbours have no bits in common to begin with. */
    const uint32_t odd = 0x9e3779b1u, more = VF * s->lane_number * odd, down = s->row_number * odd;
    const T scale = (T)s->scale, *x = (const T *)s->x;
    T *dst = (T *)s->dst;
    FC_N(words) row;
    for (uint32_t l = 0; l < VF; l++) row[l] = s->key[0] + (s->first + l * s->lane_number) * odd;
    if (down == 0) { /* rows are alike: one vector of all of them after the other */
        for (ptrdiff_t at = 0; at < s->width; at += VF, row += more) {
            const FC_N(ivec) keep = FC_N(kept)(row, s);
            const ptrdiff_t lanes = s->width - at, end = at + s->rows * s->step;
            for (ptrdiff_t i = at; i < end && lanes >= VF; i += s->step)
                FC_N(store)(dst + i, FC_N(masked)(FC_N(load)(x + i) * scale, keep));
            for (ptrdiff_t i = at; i < end && lanes < VF; i += s->step)
                FC_N(store_part)(dst + i, FC_N(masked)(FC_N(load_part)(x + i, lanes) * scale, keep),
                                 lanes);
        }
        return;
    }
    for (ptrdiff_t r = 0; r < s->rows; r++, row += down, dst += s->step, x += s->step) {
        FC_N(words) number = row;
        FC_N(ivec) keep = FC_N(kept)(row, s);
        ptrdiff_t i = 0;
        for (; i + VF <= s->width; i += VF, number += more) {
            if (more) keep = FC_N(kept)(number, s);
            FC_N(store)(dst + i, FC_N(masked)(FC_N(load)(x + i) * scale, keep));
        }
        if (i < s->width) {
            const ptrdiff_t lanes = s->width - i;
            if (more) keep = FC_N(kept)(number, s);
            FC_N(store_part)(dst + i, FC_N(masked)(FC_N(load_part)(x + i, lanes) * scale, keep),
                             lanes);
        }
    }
}
