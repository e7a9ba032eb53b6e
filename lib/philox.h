/* philox.h - counter-based random numbers, the same on every device.
 *
 * SPDX-License-Identifier: ISC
 *
 * Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011) with
 *   key      seed low, seed high
 *   counter  element / 4, step, stream, purpose
 * so that a number depends on its place in the draw and on nothing else: not
 * on threads, batches or devices. */
#ifndef EBM_PHILOX_H
#define EBM_PHILOX_H

#include <stdint.h>

/* A counter state as the store holds it. */
struct philox {
    uint32_t seed[2], step, stream;
};

void philox_block(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* Elements [begin,end) of a draw go to out[0 ...].  uniform: multiples of 2^-24
 * in [0,1).  normal: Box-Muller on pairs of lanes, by additions, subtractions
 * and multiplications that are rounded one by one, so that a GPU, whose
 * divisions and roots may be rough, gets the same bits. */
void philox_uniform(float *out, int64_t begin, int64_t end,
                    const struct philox *rng, uint32_t purpose);
void philox_normal(float *out, int64_t begin, int64_t end,
                   const struct philox *rng, uint32_t purpose);

/* The same from builds of philox.c for other instruction sets; see the CPU
 * backend. */
void philox_uniform_avx2(float *out, int64_t begin, int64_t end,
                         const struct philox *rng, uint32_t purpose);
void philox_normal_avx2(float *out, int64_t begin, int64_t end,
                        const struct philox *rng, uint32_t purpose);
void philox_uniform_avx512(float *out, int64_t begin, int64_t end,
                           const struct philox *rng, uint32_t purpose);
void philox_normal_avx512(float *out, int64_t begin, int64_t end,
                          const struct philox *rng, uint32_t purpose);

#endif
