/* tier_x86_avx2.c - 16 registers of 32 bytes, with FMA.  Everything about this tier is in this file. */
#include "target.h"
#include "ukernels.h"
#if FC_X86_64
#define FC_TIER avx2
#define FC_VBYTES 32
#define FC_REGISTERS 16
#define FC_ROWS_1 FC_UP_TO_9
#define FC_ROWS_2 FC_UP_TO_6
#define FC_ROWS_3 FC_UP_TO_4
#define FC_ROWS_4 FC_UP_TO_3
FC_PUSH_TARGET("avx2,fma,bmi,bmi2")
#include "ukernels.inc.h"
FC_POP_TARGET
#else
typedef int fc_tier_avx2_absent;
#endif
