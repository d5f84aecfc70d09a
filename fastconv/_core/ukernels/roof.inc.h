/* roof.inc.h - the arithmetic peak to measure a tile by; included once per type and tier. */

/* n rounds of FC_ROOF_FMAS independent vector FMAs; returns their sum so that none is dropped. */
static double FC_N(roof)(ptrdiff_t n)
{
    V acc[FC_ROOF_FMAS];
    const V x = (V){0} + (T)0.5, y = (V){0} + (T)n;
    FC_UNROLL
    for (int i = 0; i < FC_ROOF_FMAS; i++) acc[i] = (V){0} + (T)i;
    for (; n > 0; n--) {
        FC_UNROLL
        for (int i = 0; i < FC_ROOF_FMAS; i++) acc[i] = acc[i] * x + y;
    }
    V sum = {0};
    FC_UNROLL
    for (int i = 0; i < FC_ROOF_FMAS; i++) sum += acc[i];
    double total = 0;
    for (int l = 0; l < VF; l++) total += sum[l];
    return total;
}
