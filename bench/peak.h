/* peak.h - what benchmarks compare with: this machine's multiplications and copies.
 *
 * SPDX-License-Identifier: ISC
 *
 * Measured beside each figure, as machines change their pace. */
#ifndef BENCH_PEAK_H
#define BENCH_PEAK_H

#include <string.h>
#include "gemm.h"
#include "timing.h"

/* Floating-point operations a second of so many threads in the own micro-kernel, on
 * data in the first cache; one thread is measured. */
static inline double peak_of(const struct ukernel *u, int threads)
{
    enum { DEPTH = 192, CALLS = 2000 };
    static float a[GEMM_MAX_MR * DEPTH], b[GEMM_MAX_NR * DEPTH], c[GEMM_MAX_MR * GEMM_MAX_NR];
    const float *rows[GEMM_MAX_MR];
    float *to[GEMM_MAX_MR];
    struct run run = { 0, DEPTH };

    for (int i = 0; i < u->MR; i++) {
        rows[i] = a + i * DEPTH;
        to[i] = c + i * u->NR;
    }
    double start = seconds_of(threads);
    for (int i = 0; i < CALLS; i++)
        u->rows(1, &run, rows, b, to, false);
    return 2.0 * CALLS * DEPTH * u->MR * u->NR * threads / (seconds_of(threads) - start);
}

/* Seconds of a plain copy of so many bytes by all threads. */
static inline double time_of_copy(char *to, const char *from, size_t size, int calls, int threads)
{
    enum { PIECE = 1 << 16 };
    long long pieces = (long long)(size / PIECE);
    double start = seconds_of(threads);

    for (int i = 0; i < calls; i++) {
#ifdef _OPENMP
#pragma omp parallel for schedule(static) num_threads(threads)
#endif
        for (long long j = 0; j < pieces; j++)
            memcpy(to + j * PIECE, from + j * PIECE, PIECE);
        memcpy(to + pieces * PIECE, from + pieces * PIECE, size % PIECE);
    }
    return (seconds_of(threads) - start) / calls;
}

#endif
