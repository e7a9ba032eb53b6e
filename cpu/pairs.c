/* pairs.c - loops of two sums, differences or products, one of the other's result; compiled
 * once per instruction set, and without contraction.
 *
 * SPDX-License-Identifier: ISC
 *
 * What is between the two stays in a register.  Both are rounded, so that bits do not depend
 * on what has been paired. */
#include "kernels.h"

#define LOOP(name, kind, first, second, third, between, result)                          \
    static void name##_##kind(void *to, const float *a, const float *b, const float *c, int64_t n) \
    {                                                                                     \
        float *d = to, a0 = a[0], b0 = b[0], c0 = c[0];                                   \
        (void)a0;                                                                         \
        (void)b0;                                                                         \
        (void)c0;                                                                         \
        n &= -LANES;                                                                      \
        LANE_LOOP                                                                         \
        for (int64_t i = 0; i < n; i++) {                                                 \
            float x = first, y = second, z = third, w = between;                          \
            d[i] = result;                                                                \
        }                                                                                 \
    }
#define KINDS(name, between, result)                       \
    LOOP(name, vvv, a[i], b[i], c[i], between, result)     \
    LOOP(name, vvs, a[i], b[i], c0, between, result)       \
    LOOP(name, svv, a0, b[i], c[i], between, result)       \
    LOOP(name, svs, a0, b[i], c0, between, result)         \
    LOOP(name, vsv, a[i], b0, c[i], between, result)       \
    LOOP(name, vss, a[i], b0, c0, between, result)
#define SECONDS(name, between)                             \
    KINDS(name##_add, between, w + z)                      \
    KINDS(name##_sub, between, w - z)                      \
    KINDS(name##_mul, between, w * z)                      \
    KINDS(name##_from, between, z - w)
SECONDS(add, x + y)
SECONDS(sub, x - y)
SECONDS(mul, x * y)

#define ROW(name) { name##_vvv, name##_vvs, name##_svv, name##_svs, name##_vsv, name##_vss }
#define ROWS(name) { ROW(name##_add), ROW(name##_sub), ROW(name##_mul), ROW(name##_from) }

ew_loop *const NAME(pairs)[PAIR_FIRST][PAIR_SECOND][PAIR_KINDS] = { ROWS(add), ROWS(sub), ROWS(mul) };
