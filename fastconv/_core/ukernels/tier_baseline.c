/* tier_baseline.c - the ABI's floor: SSE2 on x86-64, plain vectors elsewhere.
 *
 * 16 registers of 16 bytes.  On arm64 the floor is NEON, which has a file of its own.
 */
#include "target.h"
#include "ukernels.h"
#if !FC_ARM64
#define FC_TIER baseline
#define FC_VBYTES 16
#define FC_REGISTERS 15 /* and one for products, which here are no part of the sum */
#define FC_ROWS_1 FC_UP_TO_6
#define FC_ROWS_2 FC_UP_TO_6
#define FC_ROWS_3 FC_UP_TO_4
#define FC_ROWS_4 FC_UP_TO_3
#include "ukernels.inc.h"
#else
typedef int fc_tier_baseline_absent;
#endif
