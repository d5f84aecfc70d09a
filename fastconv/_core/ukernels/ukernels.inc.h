/* ukernels.inc.h - every leaf of one tier, for both types, and the tier's table.
 *
 * A tier_*.c file says how wide a vector is and how tall a tile may be, opens its target region
 * and includes this file.  No system header may be included inside the region.
 */

#define FC_N3(name, type, tier) fc_##name##_##type##__##tier
#define FC_N2(name, type, tier) FC_N3(name, type, tier)
#define FC_N(name) FC_N2(name, FC_TYPE, FC_TIER)

/* The heights 1..n of a tile, as a list for X(height, width). */
#define FC_UP_TO_1(X, nr) X(1, nr)
#define FC_UP_TO_2(X, nr) FC_UP_TO_1(X, nr) X(2, nr)
#define FC_UP_TO_3(X, nr) FC_UP_TO_2(X, nr) X(3, nr)
#define FC_UP_TO_4(X, nr) FC_UP_TO_3(X, nr) X(4, nr)
#define FC_UP_TO_5(X, nr) FC_UP_TO_4(X, nr) X(5, nr)
#define FC_UP_TO_6(X, nr) FC_UP_TO_5(X, nr) X(6, nr)
#define FC_UP_TO_7(X, nr) FC_UP_TO_6(X, nr) X(7, nr)
#define FC_UP_TO_8(X, nr) FC_UP_TO_7(X, nr) X(8, nr)
#define FC_UP_TO_9(X, nr) FC_UP_TO_8(X, nr) X(9, nr)
#define FC_UP_TO_12(X, nr) FC_UP_TO_9(X, nr) X(10, nr) X(11, nr) X(12, nr)
#define FC_UP_TO_14(X, nr) FC_UP_TO_12(X, nr) X(13, nr) X(14, nr)

#define FC_TYPE f32
#define T float
#define I int32_t
#define VF (FC_VBYTES / 4)
#include "leaves.inc.h"
#undef FC_TYPE
#undef T
#undef I
#undef VF

#define FC_TYPE f64
#define T double
#define I int64_t
#define VF (FC_VBYTES / 8)
#include "leaves.inc.h"
#undef FC_TYPE
#undef T
#undef I
#undef VF

#define FC_TIER_NAME_(tier) #tier
#define FC_TIER_NAME(tier) FC_TIER_NAME_(tier)
#define FC_TABLE FC_PASTE(fc_isa_, FC_TIER)
const fc_isa FC_TABLE;
const fc_isa FC_TABLE = {
    .name = FC_TIER_NAME(FC_TIER),
    .f32 = &FC_N2(leaves, f32, FC_TIER),
    .f64 = &FC_N2(leaves, f64, FC_TIER),
};
