/* detect.c - which tiers this processor runs, best first; compiled for the floor, so that asking
 * can never fault.  Adding a tier is one tier_*.c file, its declaration and one line here. */
#include "target.h"
#include "ukernels.h"
#if FC_X86_64
#include <cpuid.h>
#endif

#if FC_X86_64
extern const fc_isa fc_isa_avx512, fc_isa_avx2, fc_isa_baseline;
#elif FC_ARM64
extern const fc_isa fc_isa_neon;
#else
extern const fc_isa fc_isa_baseline;
#endif

int fc_detect(const fc_isa *found[FC_MAX_TIERS])
{
    int n = 0;
#if FC_X86_64
    __builtin_cpu_init();
    const int v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                   __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    if (v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq"))
        found[n++] = &fc_isa_avx512;
    if (v3) found[n++] = &fc_isa_avx2;
    found[n++] = &fc_isa_baseline;
#elif FC_ARM64
    found[n++] = &fc_isa_neon;
#else
    found[n++] = &fc_isa_baseline;
#endif
    return n;
}

int fc_wide_is_two_narrow(void)
{
#if FC_X86_64
    /* Zen 4 (AMD's family 25 with AVX-512) passes 512-bit vectors in two halves. */
    unsigned eax, ebx, ecx, edx;
    if (!__get_cpuid(0, &eax, &ebx, &ecx, &edx) || ebx != signature_AMD_ebx) return 0;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx)) return 0;
    return ((eax >> 8) & 15) + ((eax >> 20) & 255) == 25;
#else
    return 0;
#endif
}
