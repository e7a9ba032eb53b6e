/* each_isa.h - a test once for each instruction set.
 *
 * SPDX-License-Identifier: ISC
 *
 * Each runs in a child process, as threads and libraries may keep what they
 * saw first.  Claims and failures are counted on in the parent. */
#ifndef EACH_ISA_H
#define EACH_ISA_H

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "context.h"
#include "isa.h"
#include "tap.h"

static void in_child(void (*main_of)(const char *isa), const char *mask, const char *isa)
{
    int pipe_ends[2], counts[2] = { tap_count, tap_failures + 1 };

    if (pipe(pipe_ends) < 0)
        exit(99);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        setenv("EBM_CPU_MASK", mask, 1);
        main_of(isa);
        counts[0] = tap_count;
        counts[1] = tap_failures;
        _exit(write(pipe_ends[1], counts, sizeof counts) != sizeof counts);
    }
    close(pipe_ends[1]);
    if (child < 0 || read(pipe_ends[0], counts, sizeof counts) != sizeof counts) {
        tap_ok(false, "%s: the process came to its end", isa);
        exit(1);
    }
    close(pipe_ends[0]);
    waitpid(child, NULL, 0);
    tap_count = counts[0];
    tap_failures = counts[1];
}

/* Run main_of for each instruction set that this processor has (EBM_CPU_MASK
 * hides the better ones), with `isa` to name it in claims. */
static void each_isa(void (*main_of)(const char *isa))
{
    static const struct { unsigned flag; const char *name, *mask; } sets[] = {
        { CPU_AVX512, "avx512", "" },
        { CPU_AVX2, "avx2", "avx512" },
        { 0, "base", "avx512,avx2" },
    };
    unsigned have = cpu_flags();

    for (size_t i = 0; i < COUNT(sets); i++)
        if (!sets[i].flag || have & sets[i].flag)
            in_child(main_of, sets[i].mask, sets[i].name);
}

#endif
