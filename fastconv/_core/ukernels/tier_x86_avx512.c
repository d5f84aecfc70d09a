/* tier_x86_avx512.c - 32 registers of 64 bytes; its narrow vectors are the tier avx2's.
 * Everything about this tier is in this file. */
#include "target.h"
#include "ukernels.h"
#if FC_X86_64
#define FC_TIER avx512
#define FC_VBYTES 64
#define FC_REGISTERS 32
#define FC_NARROW avx2
#define FC_ROWS_1 FC_UP_TO_9
#define FC_ROWS_2 FC_UP_TO_14
#define FC_ROWS_3 FC_UP_TO_9
#define FC_ROWS_4 FC_UP_TO_7
FC_PUSH_TARGET("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,bmi,bmi2")
#include "ukernels.inc.h"
FC_POP_TARGET
#else
typedef int fc_tier_avx512_absent;
#endif
