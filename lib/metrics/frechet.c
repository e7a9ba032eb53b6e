/* frechet.c - the distance of two sets of features, taken for normal.
 *
 * SPDX-License-Identifier: ISC
 *
 *   |m_a - m_b|^2 + tr C_a + tr C_b - 2 tr (C_a C_b)^(1/2)
 *
 * With C = L L', the last trace is the sum of the singular values of L_a' L_b, whose
 * squares are the eigenvalues of C_a C_b: no square root of a matrix is needed, and
 * nothing that is not symmetric has its eigenvalues taken.  Singular values come by
 * turning rows until they are orthogonal (Hestenes 1958).
 *
 * Source: Dowson and Landau 1982; of Inception's features, Heusel et al. 2017. */
#include <float.h>
#include <math.h>
#include "context.h"

enum { FEATURES_MAX = 1 << 14, SWEEPS_MAX = 60 };

/* In four sums, none of which waits for another. */
static double dot(size_t n, const double *x, const double *y)
{
    double s[4] = { 0 };
    size_t i = 0;

    for (; i + 4 <= n; i += 4)
        for (int j = 0; j < 4; j++)
            s[j] += x[i + (size_t)j] * y[i + (size_t)j];
    for (; i < n; i++)
        s[0] += x[i] * y[i];
    return s[0] + s[1] + (s[2] + s[3]);
}

/* Mean and covariance (over n - 1), its lower half; row: room for d.  The trace. */
static double moments(size_t d, size_t n, const float *x, double *mean, double *c, double *row)
{
    double trace = 0;

    for (size_t k = 0; k < n; k++)
        for (size_t i = 0; i < d; i++)
            mean[i] += x[k * d + i] / (double)n;
    for (size_t k = 0; k < n; k++) {
        for (size_t i = 0; i < d; i++)
            row[i] = x[k * d + i] - mean[i];
        for (size_t i = 0; i < d; i++)
            for (size_t j = 0; j <= i; j++)
                c[i * d + j] += row[i] * row[j];
    }
    for (size_t i = 0; i < d * d; i++)
        c[i] /= (double)(n - 1);
    for (size_t i = 0; i < d; i++)
        trace += c[i * d + i];
    return trace;
}

/* C = L L', in its place.  A pivot that rounding alone has left is none: fewer images
 * than features leave many. */
static void factor(size_t d, double *c, double trace)
{
    const double least = trace * DBL_EPSILON;

    for (size_t j = 0; j < d; j++) {
        double pivot = c[j * d + j] - dot(j, c + j * d, c + j * d);
        double root = pivot > least ? sqrt(pivot) : 0;
        c[j * d + j] = root;
        for (size_t i = j + 1; i < d; i++)
            c[i * d + j] = root > 0 ? (c[i * d + j] - dot(j, c + i * d, c + j * d)) / root : 0;
    }
}

/* m = A' B of lower triangles; m starts as zeros. */
static void multiply(size_t d, const double *a, const double *b, double *m)
{
    for (size_t k = 0; k < d; k++)
        for (size_t i = 0; i <= k; i++)
            for (size_t j = 0; j <= k; j++)
                m[i * d + j] += a[k * d + i] * b[k * d + j];
}

/* Turn rows x and y in their plane until they are orthogonal; whether they were not. */
static bool turn(size_t d, double *x, double *y)
{
    double xx = dot(d, x, x), yy = dot(d, y, y), xy = dot(d, x, y);

    if (fabs(xy) <= 4 * DBL_EPSILON * sqrt(xx) * sqrt(yy))
        return false;
    double zeta = (yy - xx) / (2 * xy);
    double t = (zeta < 0 ? -1 : 1) / (fabs(zeta) + sqrt(1 + zeta * zeta));
    double cosine = 1 / sqrt(1 + t * t), sine = cosine * t;
    for (size_t i = 0; i < d; i++) {
        double old = x[i];
        x[i] = cosine * old - sine * y[i];
        y[i] = sine * old + cosine * y[i];
    }
    return true;
}

static double sum_of_singular_values(size_t d, double *m)
{
    bool turned = true;
    double sum = 0;

    for (int sweep = 0; turned && sweep < SWEEPS_MAX; sweep++) {
        turned = false;
        for (size_t i = 0; i < d; i++)
            for (size_t j = i + 1; j < d; j++)
                turned |= turn(d, m + i * d, m + j * d);
    }
    for (size_t i = 0; i < d; i++)
        sum += sqrt(dot(d, m + i * d, m + i * d));
    return sum;
}

static int check(ebm_context *ctx, const char *which, size_t d, size_t n, const float *x)
{
    if (n < 2)
        return ebm_fail(ctx, EBM_ERR_ARG, "a covariance needs two images at least; the %s set has %zu", which, n);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < d; j++)
            if (!isfinite(x[i * d + j]))
                return ebm_fail(ctx, EBM_ERR_ARG, "feature %zu of image %zu of the %s set is not a finite number",
                                j, i, which);
    return EBM_OK;
}

int ebm_frechet(ebm_context *ctx, size_t d, size_t n_a, const float *a, size_t n_b, const float *b,
                double *distance)
{
    int status;

    if (d < 1 || d > FEATURES_MAX)
        return ebm_fail(ctx, EBM_ERR_ARG, "%zu features; 1 to %d can be compared", d, FEATURES_MAX);
    if ((status = check(ctx, "first", d, n_a, a)) < 0 || (status = check(ctx, "second", d, n_b, b)) < 0)
        return status;
    double *all = mem_new(ctx, 3 * d + 3, d * sizeof *all);
    if (!all)
        return EBM_ERR_NOMEM;
    double *ca = all, *cb = ca + d * d, *m = cb + d * d, *mean_a = m + d * d, *mean_b = mean_a + d;
    double trace_a = moments(d, n_a, a, mean_a, ca, mean_b + d);
    double trace_b = moments(d, n_b, b, mean_b, cb, mean_b + d);
    double apart = 0;
    for (size_t i = 0; i < d; i++)
        apart += (mean_a[i] - mean_b[i]) * (mean_a[i] - mean_b[i]);
    factor(d, ca, trace_a);
    factor(d, cb, trace_b);
    multiply(d, ca, cb, m);
    *distance = fmax(0, apart + trace_a + trace_b - 2 * sum_of_singular_values(d, m));
    mem_free(ctx, all);
    return EBM_OK;
}
