/* test_frechet.c - distances of sets of features that have closed forms.
 *
 * SPDX-License-Identifier: ISC
 *
 * The points m +- s_i e_i (i = 1 ... d) have the mean m and the covariance of the
 * diagonal 2 s_i^2 / (2 d - 1): sets whose moments are known, not estimated. */
#include <math.h>
#include <string.h>
#include "ebm.h"
#include "tap.h"

enum { D = 7, N = 2 * D, MANY = 40 };

static ebm_context *ctx;

/* NaN where it fails. */
static double between(size_t d, size_t n_a, const float *a, size_t n_b, const float *b)
{
    double distance;

    return ebm_frechet(ctx, d, n_a, a, n_b, b, &distance) == EBM_OK ? distance : NAN;
}

static double noise(unsigned *x)
{
    *x = *x * 1664525u + 1013904223u;
    return (double)(*x >> 8) / (1 << 24) - 0.5;
}

/* turned: in pairs of axes, by 30 degrees */
static void points(float x[N * D], double mean, const double s[D], bool turned)
{
    const double c = turned ? 0.86602540378443865 : 1, sine = turned ? 0.5 : 0;

    for (int k = 0; k < N; k++) {
        double p[D];
        for (int i = 0; i < D; i++)
            p[i] = mean * (i + 1) + (k / 2 == i ? (k % 2 ? s[i] : -s[i]) : 0);
        for (int i = 0; i + 1 < D; i += 2) {
            double old = p[i];
            p[i] = c * old - sine * p[i + 1];
            p[i + 1] = sine * old + c * p[i + 1];
        }
        for (int i = 0; i < D; i++)
            x[k * D + i] = (float)p[i];
    }
}

static void test_normal(void)
{
    static const double s[D] = { 1, 2, 0.5, 0.25, 3, 1, 0 }, t[D] = { 2, 2, 1, 0, 1, 1.5, 0.75 };
    float a[N * D], b[N * D];
    double expected = 0;

    for (int i = 0; i < D; i++)
        expected += 2. / (2 * D - 1) * (s[i] - t[i]) * (s[i] - t[i]) + 0.25 * (i + 1) * (i + 1);
    points(a, 0.5, s, false);
    points(b, 1, t, false);
    double is = between(D, N, a, N, b);
    tap_ok(fabs(is - expected) < 1e-6, "diagonal covariances, one of them singular: %.6f", is);
    points(a, 0.5, s, true);
    points(b, 1, t, true);
    double turned = between(D, N, a, N, b);
    tap_ok(fabs(turned - expected) < 1e-5, "the same when both are turned: %.6f", turned);
    tap_ok(fabs(between(D, N, b, N, a) - turned) < 1e-9, "and from the other side");
    tap_ok(fabs(between(D, N, a, N, a)) < 1e-9, "a set is at no distance from itself");
    const float one[] = { 1, 3 }, other[] = { -2, 6 };       /* means 2; deviations sqrt 2, 4 sqrt 2 */
    tap_ok(fabs(between(1, 2, one, 2, other) - 18) < 1e-9, "of one feature: the deviations' difference squared");
}

/* Covariances that do not commute.  Of two features
 * tr (C_a C_b)^(1/2) = sqrt(tr C_a C_b + 2 sqrt(det C_a C_b)). */
static void test_two(void)
{
    float x[2][MANY * 2];
    double m[2][2] = { { 0 } }, c[2][3] = { { 0 } };
    unsigned seed = 7;

    for (int set = 0; set < 2; set++)
        for (int k = 0; k < MANY; k++) {
            double u = noise(&seed), v = noise(&seed);
            x[set][2 * k] = (float)(set ? u + 2 * v : 3 * u);
            x[set][2 * k + 1] = (float)(set ? v - u : v + 0.3 * u + 1);
        }
    for (int set = 0; set < 2; set++) {
        const float *p = x[set];
        for (int k = 0; k < MANY; k++) {
            m[set][0] += p[2 * k] / (double)MANY;
            m[set][1] += p[2 * k + 1] / (double)MANY;
        }
        for (int k = 0; k < MANY; k++) {
            double u = p[2 * k] - m[set][0], v = p[2 * k + 1] - m[set][1];
            c[set][0] += u * u / (MANY - 1);
            c[set][1] += u * v / (MANY - 1);
            c[set][2] += v * v / (MANY - 1);
        }
    }
    double trace = c[0][0] * c[1][0] + 2 * c[0][1] * c[1][1] + c[0][2] * c[1][2];
    double det = (c[0][0] * c[0][2] - c[0][1] * c[0][1]) * (c[1][0] * c[1][2] - c[1][1] * c[1][1]);
    double expected = pow(m[0][0] - m[1][0], 2) + pow(m[0][1] - m[1][1], 2)
                    + c[0][0] + c[0][2] + c[1][0] + c[1][2] - 2 * sqrt(trace + 2 * sqrt(det));
    double is = between(2, MANY, x[0], MANY, x[1]);
    tap_ok(fabs(is - expected) < 1e-10, "covariances that do not commute: %.9f", is);
}

/* Fewer images than features. */
static void test_few(void)
{
    float a[3 * MANY], b[3 * MANY];
    unsigned seed = 1;

    for (int i = 0; i < 3 * MANY; i++) {
        a[i] = (float)noise(&seed);
        b[i] = a[i] + 0.25f;
    }
    double same = between(MANY, 3, a, 3, a), moved = between(MANY, 3, a, 3, b);
    tap_ok(fabs(same) < 1e-9 && fabs(moved - MANY / 16.) < 1e-5, "three images of 40 features: %.1e, moved %.6f", same,
           moved);
}

static void test_refusals(void)
{
    const float x[] = { 1, 2, 3, NAN };
    double distance;

    tap_ok(ebm_frechet(ctx, 1, 1, x, 2, x, &distance) == EBM_ERR_ARG, "%s", ebm_message(ctx));
    tap_ok(ebm_frechet(ctx, 0, 2, x, 2, x, &distance) == EBM_ERR_ARG, "%s", ebm_message(ctx));
    tap_ok(ebm_frechet(ctx, (size_t)-1, 2, x, 2, x, &distance) == EBM_ERR_ARG, "%s", ebm_message(ctx));
    tap_ok(ebm_frechet(ctx, 2, 2, x, 2, x, &distance) == EBM_ERR_ARG
           && strstr(ebm_message(ctx), "feature 1 of image 1"), "%s", ebm_message(ctx));
}

int main(void)
{
    if (!tap_ok(ebm_context_new(NULL, &ctx) == EBM_OK, "a context"))
        return tap_done();
    test_normal();
    test_two();
    test_few();
    test_refusals();
    ebm_context_free(ctx);
    return tap_done();
}
