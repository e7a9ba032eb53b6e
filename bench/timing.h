/* timing.h - clocks and medians of the benchmarks.
 *
 * SPDX-License-Identifier: ISC */
#ifndef BENCH_TIMING_H
#define BENCH_TIMING_H

#include <stdlib.h>
#include <time.h>

/* Seconds.  One thread is timed in seconds of the processor, which others that
 * share the machine lengthen less; several by the clock on the wall. */
static inline double seconds_of(int threads)
{
    struct timespec t;

    clock_gettime(threads > 1 ? CLOCK_MONOTONIC : CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static inline int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static inline double median(double *a, int n)
{
    qsort(a, (size_t)n, sizeof *a, by_size);
    return a[n / 2];
}

#endif
