/* test_philox.c - the random numbers: the cipher's published vectors, the same
 * bits from every build and any cut, and the distributions.
 *
 * SPDX-License-Identifier: ISC */
#include <math.h>
#include <string.h>
#include "isa.h"
#include "kernels.h"
#include "tap.h"

enum { N = 1 << 20 };
static float a[N], b[N];

/* Known answers of Philox4x32-10 from its authors' distribution. */
static void test_vectors(void)
{
    static const struct { uint32_t counter[4], key[2], out[4]; } known[] = {
        { { 0, 0, 0, 0 }, { 0, 0 }, { 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 } },
        { { 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff }, { 0xffffffff, 0xffffffff },
          { 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd } },
        { { 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344 }, { 0xa4093822, 0x299f31d0 },
          { 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1 } },
    };
    for (size_t i = 0; i < COUNT(known); i++) {
        uint32_t out[4];
        philox_block(known[i].counter, known[i].key, out);
        tap_ok(memcmp(out, known[i].out, sizeof out) == 0, "known answer %d: %08x", (int)i, out[0]);
    }
}

/* Element e of a draw is lane e % 4 of block e / 4. */
static void test_layout(void)
{
    const struct philox rng = { { 5, 6 }, 7, 8 };
    bool right = true;

    philox_uniform(a, 0, 4096, &rng, 9);
    for (uint32_t e = 0; e < 4096; e++) {
        const uint32_t counter[4] = { e / 4, 7, 8, 9 };
        uint32_t out[4];
        philox_block(counter, rng.seed, out);
        right = right && a[e] == (float)(out[e % 4] >> 8) / 16777216;
    }
    tap_ok(right, "uniforms are the top 24 bits of the lanes, in order");

    const struct philox other[] = { { { 4, 6 }, 7, 8 }, { { 5, 7 }, 7, 8 }, { { 5, 6 }, 8, 8 },
                                    { { 5, 6 }, 7, 9 }, { { 5, 6 }, 7, 8 } };
    for (size_t i = 0; i < COUNT(other); i++) {
        int same = 0;
        philox_uniform(b, 0, 4096, &other[i], i + 1 == COUNT(other) ? 10 : 9);
        for (int e = 0; e < 4096; e++)
            same += a[e] == b[e];
        tap_ok(same < 4, "another %s gives another draw",
               (const char *const[]){ "seed", "seed", "step", "stream", "purpose" }[i]);
    }
}

/* The definition in double precision: lanes x, y of a pair. */
static void exact_normals(uint32_t x, uint32_t y, double *first, double *second)
{
    double r = sqrt(-2 * log(((x >> 8) + 1) / 16777216.0));
    double turn = (y >> 30) / 4.0 + (((y >> 8 & 0x3fffff) + 0.5) / 4194304 - 0.5) / 4;

    *first = r * cos(2 * acos(-1) * turn);
    *second = r * sin(2 * acos(-1) * turn);
}

static void test_accuracy(void)
{
    const struct philox rng = { { 1, 2 }, 3, 4 };
    double worst = 0;

    philox_normal(a, 0, N, &rng, 5);
    for (uint32_t block = 0; block < N / 4; block++) {
        const uint32_t counter[4] = { block, 3, 4, 5 };
        uint32_t x[4];
        double y[4];
        philox_block(counter, rng.seed, x);
        exact_normals(x[0], x[1], &y[0], &y[1]);
        exact_normals(x[2], x[3], &y[2], &y[3]);
        for (int i = 0; i < 4; i++)
            worst = fmax(worst, fabs(a[4 * block + i] - y[i]));
    }
    tap_ok(worst < 1e-6, "normals are Box and Muller's to %.2g", worst);
}

static int ascending(const void *x, const void *y)
{
    float p = *(const float *)x, q = *(const float *)y;

    return (p > q) - (p < q);
}

/* Kolmogorov and Smirnov's distance times sqrt n; above 1.95 once in 1000. */
static double distance(float *x, bool normal)
{
    double d = 0;

    qsort(x, N, sizeof *x, ascending);
    for (int i = 0; i < N; i++) {
        double p = normal ? 0.5 * erfc(-x[i] / sqrt(2)) : x[i];
        d = fmax(d, fmax(fabs(p - (double)i / N), fabs(p - (i + 1.0) / N)));
    }
    return d * sqrt(N);
}

static void test_distribution(bool normal)
{
    const struct philox rng = { { 2026, 0 }, 0, 0 };
    const double mean = normal ? 0 : 0.5, variance = normal ? 1 : 1.0 / 12;
    const double fourth = normal ? 3 : 1.0 / 80;
    const char *name = normal ? "normal" : "uniform";
    double m[5] = { 0 }, neighbours[4] = { 0 };

    (normal ? philox_normal : philox_uniform)(a, 0, N, &rng, 1);
    for (int i = 0; i < N; i++)
        for (int k = 1; k <= 4; k++)
            m[k] += pow(a[i] - mean, k) / N;
    for (int k = 0; k < 4; k++)
        for (int i = 0; i + k + 1 < N; i++)
            neighbours[k] += (a[i] - mean) * (a[i + k + 1] - mean) / N;
    /* four standard deviations of each estimate */
    tap_ok(fabs(m[1]) < 4 * sqrt(variance / N), "%s: mean off by %.1e", name, m[1]);
    tap_ok(fabs(m[2] - variance) < 4 * sqrt((fourth - variance * variance) / N),
           "%s: variance %.5f", name, m[2]);
    tap_ok(fabs(m[3]) < 4 * sqrt(15.0 * pow(variance, 3) / N), "%s: third moment %.1e", name, m[3]);
    tap_ok(fabs(m[4] - fourth) < 4 * sqrt(96 * pow(variance, 4) / N), "%s: fourth moment %.5f",
           name, m[4]);
    for (int k = 0; k < 4; k++)
        tap_ok(fabs(neighbours[k]) < 4 * variance / sqrt(N), "%s: covariance with the %d-th next %.1e",
               name, k + 1, neighbours[k]);
    double d = distance(a, normal);
    tap_ok(d < 1.95, "%s: distance of Kolmogorov and Smirnov %.2f", name, d);
    tap_ok(normal ? a[0] > -6 && a[N - 1] < 6 : a[0] >= 0 && a[N - 1] < 1, "%s: within [%g,%g]",
           name, a[0], a[N - 1]);
}

static void test_builds(const struct kernels *k)
{
    static const struct philox rng = { { 0xfedcba98, 0x12345678 }, 0xffffffff, 17 };
    static const int64_t cuts[] = { 0, 1, 2, 3, 7, 64, 255, 256, 257, 700, 1021, 5000, 5001, 65536, N };

    for (int normal = 0; normal < 2; normal++) {
        (normal ? philox_normal : philox_uniform)(a, 0, N, &rng, 3);
        memset(b, 0, sizeof b);
        for (size_t i = 0; i + 1 < COUNT(cuts); i++)
            (normal ? k->normal : k->uniform)(b + cuts[i], cuts[i], cuts[i + 1], &rng, 3);
        tap_ok(memcmp(a, b, sizeof a) == 0, "%s: %s in pieces have the bits of the library's",
               k->name, normal ? "normals" : "uniforms");
    }
    int64_t far = ((int64_t)1 << 33) + 5;
    k->normal(a, far, far + 1000, &rng, 3);
    philox_normal(b, far, far + 1000, &rng, 3);
    tap_ok(memcmp(a, b, 1000 * sizeof *a) == 0, "%s: far along a draw", k->name);
}

int main(void)
{
    const struct kernels *done = NULL;

    test_vectors();
    test_layout();
    test_accuracy();
    test_distribution(false);
    test_distribution(true);
    for (unsigned flags = 0; flags < 4; flags = flags * 2 + 1) {
        const struct kernels *k = kernels_best(flags & cpu_flags());
        if (k == done)
            continue;
        done = k;
        test_builds(k);
    }
    return tap_done();
}
