/* target.h - what the compiler and the architecture allow, asked once.
 *
 * Every file is compiled for the ABI's floor.  Only the code between FC_PUSH_TARGET and
 * FC_POP_TARGET may use more, and nothing but leaves stands there: clang drops the target from
 * OpenMP bodies without a word, and does not define __AVX2__ inside such a region (gcc does), so
 * the leaves test FC_VBYTES, never the compiler's own macros.
 */
#ifndef FC_TARGET_H
#define FC_TARGET_H

#if defined(__x86_64__) || defined(_M_X64)
#define FC_X86_64 1
#else
#define FC_X86_64 0
#endif

#if defined(__aarch64__)
#define FC_ARM64 1
#else
#define FC_ARM64 0
#endif

#define FC_PRAGMA(x) _Pragma(#x)

#if defined(__clang__)
#define FC_PUSH_TARGET(features) \
    FC_PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define FC_POP_TARGET FC_PRAGMA(clang attribute pop)
#elif defined(__GNUC__)
#define FC_PUSH_TARGET(features) FC_PRAGMA(GCC push_options) FC_PRAGMA(GCC target(features))
#define FC_POP_TARGET FC_PRAGMA(GCC pop_options)
#else
#error "fastconv's leaves are written in the GCC/clang vector extensions: use gcc, clang or clang-cl"
#endif

#if defined(__clang__)
#define FC_UNROLL FC_PRAGMA(clang loop unroll(full))
#define FC_UNROLL_BY(n) FC_PRAGMA(clang loop unroll_count(n))
#else
#define FC_UNROLL FC_PRAGMA(GCC unroll 32)
#define FC_UNROLL_BY(n) FC_PRAGMA(GCC unroll n)
#endif

/* The lanes of x and y (numbered on from x's) in the order listed. */
#if defined(__clang__)
#define FC_SHUFFLE(ivec, x, y, ...) __builtin_shufflevector(x, y, __VA_ARGS__)
#else
#define FC_SHUFFLE(ivec, x, y, ...) __builtin_shuffle(x, y, (ivec){__VA_ARGS__})
#endif

/* Lane i of the result is lane index[i] of x.  clang has no such thing for an index that varies. */
#if !defined(__clang__)
#define FC_PERMUTE(x, index) __builtin_shuffle(x, index)
#endif

/* Keeps a pointer that walks in one register: compilers like to compute all its values first. */
#define FC_WALK(p) __asm__("" : "+r"(p))

/* Nothing is known of this vector any more.  It keeps a product apart from the sum that it begins:
 * compilers may fuse either of two products with their sum, or none, and not everywhere the same. */
#if FC_X86_64
#define FC_ROUND(v) __asm__("" : "+x"(v))
#elif FC_ARM64
#define FC_ROUND(v) __asm__("" : "+w"(v))
#else
#define FC_ROUND(v) __asm__("" : "+m"(v))
#endif

/* Keeps a vector in a register: compilers like to read it from memory again for each use, and the
 * loads of a few rows take longer than their products. */
#if FC_X86_64
#define FC_HOLD(v) __asm__("" : "+v"(v))
#elif FC_ARM64
#define FC_HOLD(v) __asm__("" : "+w"(v))
#else
#define FC_HOLD(v)
#endif

#define FC_INLINE static inline __attribute__((always_inline))
#define FC_NOINLINE __attribute__((noinline))
#define FC_PASTE_(a, b) a##b
#define FC_PASTE(a, b) FC_PASTE_(a, b)

#endif
