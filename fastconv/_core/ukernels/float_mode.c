/* float_mode.c - how this thread rounds, and what it does with denormals; compiled for the floor,
 * where every processor of the architecture has it.
 *
 * The mode is the control half of the register that also collects exceptions; what was collected
 * stays as it is. */
#include "target.h"
#include "ukernels.h"

#if FC_X86_64
#define FC_COLLECTED 0x3fu
#define FC_FLUSH 0x8040u /* results to zero, and operands read as zero */
FC_INLINE uint64_t fc_read(void) { return __builtin_ia32_stmxcsr(); }
FC_INLINE void fc_write(uint64_t value) { __builtin_ia32_ldmxcsr((unsigned)value); }
#elif FC_ARM64
#define FC_COLLECTED 0u /* in another register */
#define FC_FLUSH ((uint64_t)1 << 24)
FC_INLINE uint64_t fc_read(void)
{
    uint64_t value;
    __asm__ volatile("mrs %0, fpcr" : "=r"(value));
    return value;
}
FC_INLINE void fc_write(uint64_t value) { __asm__ volatile("msr fpcr, %0" ::"r"(value)); }
#else
#define FC_COLLECTED 0u
#define FC_FLUSH 0u
FC_INLINE uint64_t fc_read(void) { return 0; }
FC_INLINE void fc_write(uint64_t value) { (void)value; }
#endif

uint64_t fc_float_mode(void) { return fc_read() & ~(uint64_t)FC_COLLECTED; }

uint64_t fc_flushed(uint64_t mode) { return mode | FC_FLUSH; }

uint64_t fc_set_float_mode(uint64_t mode)
{
    const uint64_t value = fc_read(), before = value & ~(uint64_t)FC_COLLECTED;
    if (before != mode) fc_write((value & FC_COLLECTED) | mode);
    return before;
}
