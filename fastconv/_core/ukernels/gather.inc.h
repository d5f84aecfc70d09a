/* gather.inc.h - elements by a table of places; included once per type and tier.
 *
 * This is how the channels of small groups are spread over lanes.  The places of one vector lie
 * close together, so that mostly one load and one permutation serve.
 */

static void FC_N(gather)(void *dst_, ptrdiff_t dst_step, const void *src_, ptrdiff_t src_step,
                         ptrdiff_t pixels, const void *index_, ptrdiff_t n, ptrdiff_t room)
{
    const I *index = (const I *)index_;
    ptrdiff_t lanes;
    for (ptrdiff_t i = 0; i < n; i += lanes) {
        T *dst = (T *)dst_ + i;
        lanes = n - i < VF ? n - i : VF;
#ifdef FC_PERMUTE
        /* The window that is loaded ends where the pixel does, at the latest. */
        const I first = index[i] + VF <= room ? index[i] : (I)(room - VF);
        if (lanes == VF && room >= VF && index[i + VF - 1] - first < VF) {
            const FC_N(ivec) place = *(const FC_N(uivec) *)(index + i) - first;
            const T *src = (const T *)src_ + first;
            for (ptrdiff_t p = 0; p < pixels; p++)
                FC_N(store)(dst + p * dst_step, FC_PERMUTE(FC_N(load)(src + p * src_step), place));
            continue;
        }
#endif
        for (ptrdiff_t p = 0; p < pixels; p++)
            for (ptrdiff_t l = 0; l < lanes; l++)
                dst[p * dst_step + l] = ((const T *)src_)[p * src_step + index[i + l]];
    }
    (void)room;
}
