/* isa.c - the one place where a run-time choice of instruction set is made.
 *
 * SPDX-License-Identifier: ISC */
#include "config.h"
#include <stdlib.h>
#include <string.h>
#include "bf16.h"
#include "isa.h"
#include "kernels.h"

#if defined HAVE_AMX && defined __linux__
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

static const struct isa {         /* worst to best */
    const char *name;
    unsigned needs;
    const struct kernels *kernels;
    const struct ukernel *ukernel;
} table[] = {
    { "base",   0,                     &kernels_base,   &ukernel_base },
#ifdef HAVE_AVX2
    { "avx2",   CPU_AVX2,              &kernels_avx2,   &ukernel_avx2 },
#endif
#ifdef HAVE_AVX512
    { "avx512", CPU_AVX2 | CPU_AVX512, &kernels_avx512, &ukernel_avx512 },
#endif
};

static const struct {                /* worst to best */
    unsigned needs;
    const struct bf16_kernels *kernels;
} bf16_table[] = {
    { 0, NULL },
#ifdef HAVE_AVX512BF16
    { CPU_AVX512 | CPU_AVX512BF16, &bf16_avx512 },
#endif
#ifdef HAVE_AMX
    { CPU_AVX512 | CPU_AVX512BF16 | CPU_AMX, &bf16_amx },
#endif
};

static const struct { const char *name; unsigned flag; } names[] = {
    { "avx2",       CPU_AVX2 },
    { "avx512",     CPU_AVX512 },
    { "avx512bf16", CPU_AVX512BF16 },
    { "amx",        CPU_AMX },
};

/* AMX: the processor has it, the system saves its registers, and lends them to this
 * process, which has to ask for each: they are large. */
#if defined HAVE_AMX && defined __linux__ && defined SYS_arch_prctl
__attribute__((target("xsave")))
static bool amx_lent(void)
{
    enum { ASK = 0x1023, TILE_DATA = 18 };
    const unsigned products = 1u << 22, tiles = 1u << 24, saved = 3u << 17, osxsave = 1u << 27;
    unsigned a, b, c, d;

    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & osxsave)
        || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & (products | tiles)) != (products | tiles))
        return false;
    return (_xgetbv(0) & saved) == saved && syscall(SYS_arch_prctl, ASK, TILE_DATA) == 0;
}
#endif

static unsigned detected(void)
{
    unsigned flags = 0;
#if defined __x86_64__ || defined __i386__
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        flags |= CPU_AVX2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")
        && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
        flags |= CPU_AVX512;
    if (__builtin_cpu_supports("avx512bf16"))
        flags |= CPU_AVX512BF16;
#if defined HAVE_AMX && defined __linux__ && defined SYS_arch_prctl
    if (amx_lent())
        flags |= CPU_AMX;
#endif
#endif
    return flags;
}

/* Whether the list, separated by commas or spaces, holds the word. */
static bool listed(const char *list, const char *word)
{
    size_t length = strlen(word);

    while (list && *list) {
        size_t n = strcspn(list, ", ");
        if (n == length && memcmp(list, word, n) == 0)
            return true;
        list += n + strspn(list + n, ", ");
    }
    return false;
}

unsigned cpu_flags(void)
{
    const char *mask = getenv("EBM_CPU_MASK");
    unsigned flags = detected();

    for (size_t i = 0; i < COUNT(names); i++)
        if (listed(mask, names[i].name))
            flags &= ~names[i].flag;
    return flags;
}

static const struct isa *best(unsigned flags)
{
    const struct isa *isa = &table[0];

    for (size_t i = 1; i < COUNT(table); i++)
        if (!(table[i].needs & ~flags))
            isa = &table[i];
    return isa;
}

const struct kernels *kernels_best(unsigned flags)
{
    return best(flags)->kernels;
}

const struct ukernel *ukernel_best(unsigned flags)
{
    return best(flags)->ukernel;
}

const struct bf16_kernels *bf16_best(unsigned flags)
{
    const struct bf16_kernels *kernels = NULL;

    for (size_t i = 0; i < COUNT(bf16_table); i++)
        if (!(bf16_table[i].needs & ~flags))
            kernels = bf16_table[i].kernels;
    return kernels;
}

const char *bf16_name(const struct bf16_kernels *kernels)
{
    return kernels ? kernels->name : "float32";
}

const struct ukernel *ukernel_nth(unsigned flags, int i)
{
    for (size_t t = 0; t < COUNT(table); t++)
        if (!(table[t].needs & ~flags) && i-- == 0)
            return table[t].ukernel;
    return NULL;
}

const char *kernels_name(const struct kernels *k)
{
    return k->name;
}
