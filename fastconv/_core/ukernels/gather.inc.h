/* gather.inc.h - elements by a table of places; included once per type and tier.
 *
 * This is how the channels of small groups are spread over lanes, and how few channels are copied.
 * The places of one vector lie close together, so that mostly one load and one permutation serve: a
 * *window* of VF elements from the first place on.  Vectors may reach past a pixel, into the next
 * one, but not past the last.
 */

/* The lanes of x that `place` names, modulo VF. */
FC_INLINE V FC_N(permute)(V x, FC_N(ivec) place)
{
#ifdef FC_PERMUTE
    return FC_PERMUTE(x, place);
#else
    V y;
    for (int l = 0; l < VF; l++) y[l] = x[place[l] & (VF - 1)];
    return y;
#endif
}

/* One vector of a pixel, of whose elements those before `end` may be read. */
FC_INLINE V FC_N(gather_vector)(const T *src, const T *end, FC_N(ivec) place, ptrdiff_t windows)
{
    V y = {0};
    for (ptrdiff_t w = 0; w < windows; w++, src += VF, place -= VF) {
        const V x = end - src >= VF ? FC_N(load)(src) : FC_N(load_part)(src, end - src);
        const FC_N(ivec) here = (place >= 0) & (place < VF);
        y = (V)(((FC_N(ivec))FC_N(permute)(x, place) & here) | ((FC_N(ivec))y & ~here));
    }
    return y;
}

static void FC_N(gather)(void *dst_, ptrdiff_t dst_step, const void *src_, ptrdiff_t src_step,
                         ptrdiff_t pixels, const void *index_, ptrdiff_t n, ptrdiff_t room)
{
    /* All that may be read and written ends with the pixel at the highest address. */
    const T *const end = (const T *)src_ + (src_step > 0 ? (pixels - 1) * src_step : 0) + room;
    const T *const dst_end = (const T *)dst_ + (pixels - 1) * dst_step + n;
    for (ptrdiff_t done = 0; done < n; done += VF) {
        /* The last vector overlaps the one before it. */
        const ptrdiff_t i = done + VF <= n || n < VF ? done : n - VF;
        const ptrdiff_t last = n < VF ? n - 1 : i + VF - 1;
        const I *index = (const I *)index_;
        FC_N(ivec) place = FC_N(lane_numbers)();
        ptrdiff_t first = i, windows = 1;
        if (index) {
            first = index[i];
            windows = (index[last] - first) / VF + 1;
            place = *(const FC_N(uivec) *)(index + i) - (I)first;
        }
        const T *src = (const T *)src_ + first;
        T *dst = (T *)dst_ + i;
        for (ptrdiff_t p = 0; p < pixels; p++, src += src_step, dst += dst_step) {
            V y;
            if (windows == 1 && end - src >= VF)
                y = FC_N(permute)(FC_N(load)(src), place);
            else
                y = FC_N(gather_vector)(src, end, place, windows);
            if (dst_end - dst >= VF)
                FC_N(store)(dst, y);
            else
                FC_N(store_part)(dst, y, dst_end - dst);
        }
    }
}
