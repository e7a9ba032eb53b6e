/* peaks.c - what this machine reaches at best, by measurement.
 *
 * SPDX-License-Identifier: ISC
 *
 * Arithmetic: the micro-kernel that contractions end in, on data in the first
 * cache.  Memory: a plain copy of arrays that no second cache holds.  Each is
 * the best of a few turns of all threads, as others may share the machine. */
#include "config.h"
#include <string.h>
#include <time.h>
#include "gemm.h"
#include "step.h"

enum { TURNS = 5, DEPTH = 192, CALLS = 2000 };
#define COPY_BYTES ((size_t)48 << 20)
#define PIECE ((size_t)1 << 16)

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Floats of a thread: A, B and C of a tile. */
enum { TILE_FLOATS = (GEMM_MAX_MR + GEMM_MAX_NR) * DEPTH + GEMM_MAX_MR * GEMM_MAX_NR };

static void multiply(const struct ukernel *u, float *floats)
{
    const float *rows[GEMM_MAX_MR];
    float *a = floats, *b = a + GEMM_MAX_MR * DEPTH, *c = b + GEMM_MAX_NR * DEPTH, *to[GEMM_MAX_MR];
    const struct run run = { 0, DEPTH };

    for (int i = 0; i < u->MR; i++) {
        rows[i] = a + i * DEPTH;
        to[i] = c + i * u->NR;
    }
    for (int i = 0; i < CALLS; i++)
        u->rows(1, &run, rows, b, to, false);
}

static double arithmetic(const struct cpu *cpu, float *floats)
{
    double best = 0;

    for (int turn = 0; turn < TURNS; turn++) {
        double start = now();
#pragma omp parallel for num_threads(cpu->threads) schedule(static)
        for (int i = 0; i < cpu->threads; i++)
            multiply(cpu->ukernel, floats + (size_t)i * TILE_FLOATS);
        double rate = 2.0 * CALLS * DEPTH * cpu->ukernel->MR * cpu->ukernel->NR * cpu->threads
                    / (now() - start);
        if (rate > best)
            best = rate;
    }
    return best;
}

static double memory(const struct cpu *cpu, char *to, const char *from)
{
    double best = 0;

    (void)cpu;                   /* without OpenMP nobody reads it */
    for (int turn = 0; turn < TURNS; turn++) {
        double start = now();
#pragma omp parallel for num_threads(cpu->threads) schedule(static)
        for (int i = 0; i < (int)(COPY_BYTES / PIECE); i++)
            memcpy(to + (size_t)i * PIECE, from + (size_t)i * PIECE, PIECE);
        double rate = 2.0 * (double)COPY_BYTES / (now() - start);
        if (rate > best)
            best = rate;
    }
    return best;
}

int cpu_peaks(const struct cpu *cpu, ebm_peaks *peaks)
{
    float *floats = mem_new(cpu->ctx, (size_t)cpu->threads, TILE_FLOATS * sizeof *floats);
    char *bytes = mem_new(cpu->ctx, 2, COPY_BYTES);
    bool enough = floats && bytes;

    if (enough) {
        peaks->flops = arithmetic(cpu, floats);
        peaks->bytes = memory(cpu, bytes, bytes + COPY_BYTES);
    }
    mem_free(cpu->ctx, floats);
    mem_free(cpu->ctx, bytes);
    return enough ? EBM_OK : EBM_ERR_NOMEM;
}
