/* isa.c - the one place where a run-time choice of instruction set is made.
 *
 * SPDX-License-Identifier: ISC */
#include "config.h"
#include <stdlib.h>
#include <string.h>
#include "gemm.h"
#include "isa.h"
#include "kernels.h"

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

static const struct { const char *name; unsigned flag; } names[] = {
    { "avx2",   CPU_AVX2 },
    { "avx512", CPU_AVX512 },
};

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
