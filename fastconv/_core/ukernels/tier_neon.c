/* tier_neon.c - 32 registers of 16 bytes, with FMA: the floor of arm64. */
#include "target.h"
#include "ukernels.h"
#if FC_ARM64
#define FC_TIER neon
#define FC_VBYTES 16
#define FC_REGISTERS 32
#define FC_ROWS_1 FC_UP_TO_14
#define FC_ROWS_2 FC_UP_TO_12
#define FC_ROWS_3 FC_UP_TO_8
#define FC_ROWS_4 FC_UP_TO_6
#include "ukernels.inc.h"
#else
typedef int fc_tier_neon_absent;
#endif
