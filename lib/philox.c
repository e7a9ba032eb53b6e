/* philox.c - Philox4x32-10 and Box-Muller, many counters at a time.
 *
 * SPDX-License-Identifier: ISC
 *
 * Block b of a draw encrypts the counter (b, step, stream, purpose) into four
 * lanes, elements 4b ... 4b+3:
 *
 *   x[0][b] -> radius   x[1][b] -> angle     elements 4b, 4b+1
 *   x[2][b] -> radius   x[3][b] -> angle     elements 4b+2, 4b+3
 *
 * Blocks are processed in groups, lane by lane, in loops that compilers turn
 * into vector code.
 *
 * Sources: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as
 * 1, 2, 3" (2011); Box and Muller (1958).
 *
 * Invariant: every float operation is one rounded +, - or *, in the order
 * written, and none makes a denormal.  Hence this file must be built without
 * contraction to fused multiply-adds, and any build gives the same bits. */
#include <string.h>
#include "philox.h"

#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#endif

#ifdef ISA        /* a further build, for one instruction set */
#define NAME_JOIN(f, isa) f##_##isa
#define NAME_OF(f, isa) NAME_JOIN(f, isa)
#define philox_uniform NAME_OF(philox_uniform, ISA)
#define philox_normal NAME_OF(philox_normal, ISA)
#endif

/* A loop that calls a function is no vector loop. */
#ifdef __GNUC__
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#endif

enum { GROUP = 64, ROUNDS = 10 };

static const uint32_t MULTIPLIER[2] = { 0xd2511f53, 0xcd9e8d57 };
static const uint32_t WEYL[2] = { 0x9e3779b9, 0xbb67ae85 };  /* golden ratio, sqrt 3 - 1 */

INLINE uint32_t bits_of(float x)
{
    uint32_t u;

    memcpy(&u, &x, sizeof u);
    return u;
}

INLINE float float_of(uint32_t u)
{
    float x;

    memcpy(&x, &u, sizeof x);
    return x;
}

/* The rounds, on n blocks at once. */
INLINE void encrypt(uint32_t *x0, uint32_t *x1, uint32_t *x2, uint32_t *x3, int n,
                           const uint32_t key[2])
{
    uint32_t k0 = key[0], k1 = key[1];

    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < n; i++) {
            uint64_t a = (uint64_t)MULTIPLIER[0] * x0[i];
            uint64_t b = (uint64_t)MULTIPLIER[1] * x2[i];
            x0[i] = (uint32_t)(b >> 32) ^ x1[i] ^ k0;
            x1[i] = (uint32_t)b;
            x2[i] = (uint32_t)(a >> 32) ^ x3[i] ^ k1;
            x3[i] = (uint32_t)a;
        }
        k0 += WEYL[0];
        k1 += WEYL[1];
    }
}

#ifndef ISA
void philox_block(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    memcpy(out, counter, 4 * sizeof *out);
    encrypt(&out[0], &out[1], &out[2], &out[3], 1, key);
}
#endif

static void encrypt_group(uint32_t x[4][GROUP], uint32_t first, const struct philox *rng,
                          uint32_t purpose)
{
    for (int i = 0; i < GROUP; i++) {
        x[0][i] = first + (uint32_t)i;
        x[1][i] = rng->step;
        x[2][i] = rng->stream;
        x[3][i] = purpose;
    }
    encrypt(x[0], x[1], x[2], x[3], GROUP, rng->seed);
}

/* -2 ln u for u = count 2^-24, count in 1 ... 2^24.
 *
 * count = m 2^e with m in [sqrt 1/2, sqrt 2) and z = m - 1; then
 * ln m = z - z^2/2 + z^3 Q(z), Q near-minimax to 6e-9 of ln m. */
INLINE float minus_two_log(uint32_t count)
{
    const uint32_t ROOT_HALF = 0x3f3504f3;
    const float LN2_HIGH = 0.693359375f, LN2_LOW = -2.12194440e-4f;
    uint32_t u = bits_of((float)(int32_t)count) - ROOT_HALF;
    float e = (float)((int32_t)(u >> 23) - 24);
    float z = float_of((u & 0x7fffff) + ROOT_HALF) - 1.0f;
    float q = -0.0763442963f;

    q = q * z + 0.127615497f;
    q = q * z - 0.131601945f;
    q = q * z + 0.142017618f;
    q = q * z - 0.166233569f;
    q = q * z + 0.200012267f;
    q = q * z - 0.250008225f;
    q = q * z + 0.333333313f;
    float zz = z * z;
    float low = zz * (z * q) + e * LN2_LOW;
    float ln = ((low - 0.5f * zz) + z) + e * LN2_HIGH;
    return -2.0f * ln;
}

/* The root of x, 0 or above 1e-8: Newton's iteration for 1 / sqrt x, three times
 * from 3 % off, then one step for the root itself. */
INLINE float root(float x)
{
    float y = float_of(0x5f3759df - (bits_of(x) >> 1));
    float half = 0.5f * x;

    y = y * (1.5f - half * (y * y));
    y = y * (1.5f - half * (y * y));
    y = y * (1.5f - half * (y * y));
    float r = x * y;
    return r + (0.5f * y) * (x - r * r);
}

/* Two normals of a radius and an angle.  The top two bits of `angle` turn by
 * quarters, the next 22 by odd multiples of 2^-23 quarters within +-1/8 turn. */
INLINE void box_muller(uint32_t radius, uint32_t angle, float *first, float *second)
{
    const float STEP = 1.87253519e-7f;                  /* pi/2 2^-23 */
    float r = root(minus_two_log((radius >> 8) + 1));
    uint32_t quarter = angle >> 30;
    float a = (float)((int32_t)((angle >> 8) & 0x3fffff) * 2 + 1 - (1 << 22)) * STEP;
    float aa = a * a;
    float s = a + (a * aa) * ((-0.000195152839f * aa + 0.0083321603f) * aa - 0.166666552f);
    float c = ((aa * aa) * ((2.44331568e-5f * aa - 0.00138873165f) * aa + 0.0416666456f)
               - 0.5f * aa) + 1.0f;
    float x = quarter & 1 ? s : c;
    float y = quarter & 1 ? c : s;

    *first = float_of(bits_of(r * x) ^ (quarter ^ quarter >> 1) << 31);
    *second = float_of(bits_of(r * y) ^ (quarter >> 1) << 31);
}

static void group_uniform(float *out, uint32_t x[4][GROUP])
{
    for (int i = 0; i < GROUP; i++) {
        out[4 * i] = (float)(int32_t)(x[0][i] >> 8) * 0x1p-24f;
        out[4 * i + 1] = (float)(int32_t)(x[1][i] >> 8) * 0x1p-24f;
        out[4 * i + 2] = (float)(int32_t)(x[2][i] >> 8) * 0x1p-24f;
        out[4 * i + 3] = (float)(int32_t)(x[3][i] >> 8) * 0x1p-24f;
    }
}

static void group_normal(float *out, uint32_t x[4][GROUP])
{
    float y[4][GROUP];

    for (int i = 0; i < GROUP; i++)
        box_muller(x[0][i], x[1][i], &y[0][i], &y[1][i]);
    for (int i = 0; i < GROUP; i++)
        box_muller(x[2][i], x[3][i], &y[2][i], &y[3][i]);
    for (int i = 0; i < GROUP; i++) {
        out[4 * i] = y[0][i];
        out[4 * i + 1] = y[1][i];
        out[4 * i + 2] = y[2][i];
        out[4 * i + 3] = y[3][i];
    }
}

/* Whole groups go straight to out, those cut by begin or end by a buffer. */
static void draw(void (*group)(float *, uint32_t [4][GROUP]), float *out, int64_t begin,
                 int64_t end, const struct philox *rng, uint32_t purpose)
{
    uint32_t x[4][GROUP];
    float cut[4 * GROUP];

    while (begin < end) {
        int64_t block = begin / 4, skip = begin % 4;
        int64_t n = end - begin < 4 * GROUP - skip ? end - begin : 4 * GROUP - skip;

        encrypt_group(x, (uint32_t)block, rng, purpose);
        if (n == 4 * GROUP) {
            group(out, x);
        } else {
            group(cut, x);
            memcpy(out, cut + skip, (size_t)n * sizeof *out);
        }
        out += n;
        begin += n;
    }
}

void philox_uniform(float *out, int64_t begin, int64_t end,
                    const struct philox *rng, uint32_t purpose)
{
    draw(group_uniform, out, begin, end, rng, purpose);
}

void philox_normal(float *out, int64_t begin, int64_t end,
                   const struct philox *rng, uint32_t purpose)
{
    draw(group_normal, out, begin, end, rng, purpose);
}
