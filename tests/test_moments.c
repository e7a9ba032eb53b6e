/* test_moments.c - sums of squares about a mean: the loops, and programs in whose strips
 * an earlier sum finds them, against double precision.
 *
 * SPDX-License-Identifier: ISC */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "ebm.h"
#include "backend.h"
#include "isa.h"
#include "kernels.h"
#include "tap.h"

/* About 1 in spread, far from 0; columns differ. */
static void fill(float *x, int64_t rows, int64_t n, double centre)
{
    uint32_t random = 1;

    for (int64_t i = 0; i < rows * n; i++) {
        random = random * 1664525u + 1013904223u;
        x[i] = (float)(centre * (1 + (double)(i % n) / 8) + (random >> 8) * 0x1p-22);
    }
}

static void exact(const float *x, int64_t rows, int64_t ld, double *sum, double *square)
{
    *sum = *square = 0;
    for (int64_t i = 0; i < rows; i++)
        *sum += x[i * ld];
    for (int64_t i = 0; i < rows; i++)
        *square += (x[i * ld] - *sum / (double)rows) * (x[i * ld] - *sum / (double)rows);
}

static double off(double a, double b)
{
    return fabs(a - b) / (fabs(b) + 1e-30);
}

/* Columns in two goes, and a run in two; with another array, and without. */
static void test_loops(const struct kernels *k, int64_t rows, int64_t n, double centre, double bound)
{
    float *x = malloc(sizeof *x * (size_t)(rows * n)), *y = malloc(sizeof *y * (size_t)(rows * n));
    double *sum = calloc((size_t)n * 5, sizeof *sum), *plain = sum + 4 * n;
    double worst = 0, s, q, run[5] = { 0 };
    const struct moments m = { sum, sum + n, sum + 2 * n, sum + 3 * n }, alone = { run, run + 1, run + 2, run + 3 };
    const int64_t first = rows / 3, cut = rows * n / 3;

    fill(x, rows, n, centre);
    fill(y, rows, n, 1);
    k->moments_rows(&m, 0, x, y, n, first, n);
    k->moments_rows(&m, first, x + first * n, y + first * n, n, rows - first, n);
    k->sum_rows(plain, x, n, first, n);
    k->sum_rows(plain, x + first * n, n, rows - first, n);
    for (int64_t j = 0; j < n; j++) {
        double product = 0, other = 0;
        exact(x + j, rows, n, &s, &q);
        for (int64_t i = 0; i < rows; i++) {
            product += (x[i * n + j] - s / (double)rows) * y[i * n + j];
            other += y[i * n + j];
        }
        worst = fmax(worst, off(m.square[j], q));
        worst = fmax(worst, fabs(m.product[j] - product) / (q + fabs(other)));
        worst = fmax(worst, off(m.other[j], other));
    }
    for (int64_t j = 0; j < n; j++)
        worst = fmax(worst, off(sum[j], plain[j]));
    tap_ok(worst < bound,
           "%s: moments of %d rows of %d about %g: %.1e", k->name, (int)rows, (int)n, centre, worst);
    for (int with = 0; with < 2; with++) {
        double product = 0;
        memset(run, 0, sizeof run);
        k->moments(&alone, 0, x, with ? y : NULL, cut);
        k->moments(&alone, cut, x + cut, with ? y + cut : NULL, rows * n - cut);
        run[4] = k->sum(x, cut);
        run[4] += k->sum(x + cut, rows * n - cut);
        exact(x, rows * n, 1, &s, &q);
        for (int64_t i = 0; with && i < rows * n; i++)
            product += (x[i] - s / (double)(rows * n)) * y[i];
        tap_ok(off(run[0], run[4]) < bound && off(run[1], q) < bound && fabs(run[3] - product) < bound * (q + 1),
               "%s: of a run of %d%s: %.1e", k->name, (int)(rows * n), with ? ", and with another" : "",
               off(run[1], q));
    }
    free(x);
    free(y);
    free(sum);
}

/* ---- programs ---- */

enum { N = 9, MOST = N * 32 * 32 * 96 };
static float x[MOST], got[N * 96], other[N * 96];

/* The squares' sums about mean + shift; `read`: the squares have another reader as well. */
struct trial { int h, w, c; unsigned axes; float shift; bool read; };

static int64_t results(const struct trial *t)
{
    const int64_t n[3] = { t->h, t->w, t->c };
    int64_t count = N;

    for (int i = 0; i < 3; i++)
        count *= t->axes >> (i + 1) & 1 ? 1 : n[i];
    return count;
}

static bool compute(ebm_backend *device, const struct trial *t, float *to)
{
    const int64_t shape[] = { N, t->h, t->w, t->c }, elements = N * (int64_t)t->h * t->w * t->c;
    const int64_t count = results(t);
    ebm_store *store = NULL;
    ebm_graph *g = NULL;
    ebm_program *p = NULL;
    bool good = false;

    if (ebm_store_new(device, &store) >= 0 && ebm_graph_new(store, &g) >= 0) {
        ebm_val v = ebm_feed(g, "x", EBM_F32, 4, shape);
        ebm_val m = ebm_offset(g, ebm_mean(g, v, t->axes), t->shift);
        ebm_val squares = ebm_square(g, ebm_sub(g, v, m)), s = ebm_sum(g, squares, t->axes);
        ebm_val y = ebm_mul(g, v, ebm_sqrt(g, s));       /* reads x once more */
        const ebm_val outputs[] = { s, y, t->read ? ebm_exp(g, ebm_neg(g, squares)) : s };
        good = ebm_store_alloc(store, 1) >= 0 && ebm_compile(g, t->read ? 3 : 2, outputs, &p) >= 0
            && ebm_program_set(p, "x", x, (size_t)elements * sizeof *x) >= 0 && ebm_program_run(p, 2) >= 0
            && ebm_program_get(p, s, to, (size_t)count * sizeof *to) >= 0;
    }
    ebm_program_free(p);
    ebm_graph_free(g);
    ebm_store_free(store);
    return good;
}

/* The largest error of a sum over its value. */
static double error_of(const struct trial *t, const float *y)
{
    const int64_t image = (int64_t)t->h * t->w * t->c, count = results(t) / N;
    static double sum[96], square[96];
    double worst = 0;

    for (int n = 0; n < N; n++)
        for (int pass = 0; pass < 2; pass++) {
            memset(pass ? square : sum, 0, sizeof sum);
            for (int64_t i = 0; i < image; i++) {
                int64_t cell = t->axes & 8 ? 0 : i % t->c;
                double e = x[n * image + i] - sum[cell] / (double)(image / count) - (double)t->shift;
                if (pass)
                    square[cell] += e * e;
                else
                    sum[cell] += x[n * image + i];
            }
            for (int64_t i = 0; pass && i < count; i++)
                worst = fmax(worst, off(y[n * count + i], square[i]));
        }
    return worst;
}

static void test_programs(ebm_backend *const *device)
{
    const unsigned space = 6, all = 14;
    const struct trial trials[] = {
        { 32, 32, 64, space, 0, false },  { 32, 32, 64, space, 2, false }, { 32, 32, 64, space, 0, true },
        { 32, 32, 64, all, 0, false },    { 24, 24, 96, space, 0, false }, { 7, 9, 3, space, 0.25f, false },
        { 16, 16, 33, space, 0, false },  { 16, 16, 33, all, -1, false },  { 8, 8, 8, space, 0, false },
    };

    for (size_t i = 0; i < COUNT(trials); i++) {
        const struct trial *t = &trials[i];
        for (double centre = 0; centre <= (t->shift != 0 ? 0 : 100); centre += 100) {
            fill(x, (int64_t)N * t->h * t->w, t->c, t->axes & 8 ? centre / t->c : centre);
            bool good = compute(device[0], t, got) && compute(device[1], t, other);
            double worst = good ? error_of(t, got) : 1;
            tap_ok(good && worst < 2e-6 && memcmp(got, other, (size_t)results(t) * sizeof *got) == 0,
                   "%dx%dx%d, axes %u, %g from the mean%s, about %g: %.1e, the same by two threads",
                   t->h, t->w, t->c, t->axes, (double)t->shift, t->read ? ", read" : "", centre, worst);
        }
    }
}

/* Sums of squares, of products (x - m) q, and of q, which is y, or is made: y w, y e^-y. */
enum made { THERE, WEIGHED, OF_ONE };
static float y[MOST], w[32 * 32 * 96];

static bool compute_products(ebm_backend *device, const struct trial *t, enum made made, float *to)
{
    const int64_t shape[] = { N, t->h, t->w, t->c }, elements = N * (int64_t)t->h * t->w * t->c;
    const int64_t count = results(t);
    ebm_store *store = NULL;
    ebm_graph *g = NULL;
    ebm_program *p = NULL;
    bool good = false;

    if (ebm_store_new(device, &store) >= 0 && ebm_graph_new(store, &g) >= 0) {
        ebm_val v = ebm_feed(g, "x", EBM_F32, 4, shape), q = ebm_feed(g, "y", EBM_F32, 4, shape);
        if (made == WEIGHED)
            q = ebm_mul(g, q, ebm_feed(g, "w", EBM_F32, 3, shape + 1));
        else if (made == OF_ONE)
            q = ebm_mul(g, q, ebm_exp(g, ebm_neg(g, q)));
        ebm_val e = ebm_sub(g, v, ebm_offset(g, ebm_mean(g, v, t->axes), t->shift));
        ebm_val s[3] = { ebm_sum(g, ebm_square(g, e), t->axes), ebm_sum(g, ebm_mul(g, e, q), t->axes),
                         ebm_sum(g, q, t->axes) };
        ebm_val all = ebm_add(g, ebm_mul(g, q, s[1]), ebm_mul(g, e, ebm_add(g, s[0], s[2])));
        const ebm_val outputs[] = { s[0], s[1], s[2], all };
        good = ebm_store_alloc(store, 1) >= 0 && ebm_compile(g, 4, outputs, &p) >= 0
            && ebm_program_set(p, "x", x, (size_t)elements * sizeof *x) >= 0
            && ebm_program_set(p, "y", y, (size_t)elements * sizeof *y) >= 0
            && (made != WEIGHED || ebm_program_set(p, "w", w, (size_t)(elements / N) * sizeof *w) >= 0)
            && ebm_program_run(p, 2) >= 0;
        for (int i = 0; good && i < 3; i++)
            good = ebm_program_get(p, s[i], to + i * count, (size_t)count * sizeof *to) >= 0;
    }
    ebm_program_free(p);
    ebm_graph_free(g);
    ebm_store_free(store);
    return good;
}

/* The largest error of a sum over that of its terms' sizes. */
static double error_of_products(const struct trial *t, enum made made, const float *s)
{
    const int64_t image = (int64_t)t->h * t->w * t->c, all = results(t), count = all / N;
    double worst = 0;

    for (int n = 0; n < N; n++)
        for (int64_t cell = 0; cell < count; cell++) {
            double sum = 0, exact_sum[3] = { 0 }, size[3] = { 1e-30, 1e-30, 1e-30 };
            const int64_t step = count == 1 ? 1 : t->c;
            for (int64_t i = cell; i < image; i += step)
                sum += x[n * image + i];
            for (int64_t i = cell; i < image; i += step) {
                double e = x[n * image + i] - sum * (double)count / (double)image - (double)t->shift;
                double q = y[n * image + i];
                q = made == WEIGHED ? q * w[i] : made == OF_ONE ? q * exp(-q) : q;
                const double term[3] = { e * e, e * q, q };
                for (int k = 0; k < 3; k++) {
                    exact_sum[k] += term[k];
                    size[k] += fabs(term[k]);
                }
            }
            for (int k = 0; k < 3; k++)
                worst = fmax(worst, fabs(s[k * all + n * count + cell] - exact_sum[k]) / size[k]);
        }
    return worst;
}

static void test_products(ebm_backend *const *device)
{
    static const char *const names[] = { "there", "weighed", "of one" };
    static float one[3 * N * 96], two[3 * N * 96];
    const unsigned space = 6, all = 14;
    const struct trial trials[] = {
        { 32, 32, 64, space, 0, false }, { 32, 32, 64, space, 1, false }, { 32, 32, 64, all, 0, false },
        { 24, 24, 96, space, 0, false }, { 16, 16, 33, space, 0, false }, { 16, 16, 33, all, -1, false },
        { 8, 8, 8, space, 0, false },    { 9, 7, 3, all, 0, false },
    };

    fill(y, MOST, 1, -1);
    for (int i = 0; i < (int)COUNT(w); i++)
        w[i] = 1 + (float)(i % 7) / 8;
    for (size_t i = 0; i < COUNT(trials); i++)
        for (int made = THERE; made <= OF_ONE; made++)
            for (double centre = 0; centre <= (trials[i].shift != 0 ? 0 : 100); centre += 100) {
                const struct trial *t = &trials[i];
                fill(x, (int64_t)N * t->h * t->w, t->c, centre / t->c);
                bool good = compute_products(device[0], t, made, one) && compute_products(device[1], t, made, two);
                double worst = good ? error_of_products(t, made, one) : 1;
                tap_ok(good && worst < 2e-6
                       && memcmp(one, two, 3 * (size_t)results(t) * sizeof *one) == 0,
                       "%dx%dx%d, axes %u, %g from the mean, about %g, with what is %s: %.1e, the same by two threads",
                       t->h, t->w, t->c, t->axes, (double)t->shift, centre, names[made], worst);
            }
}

int main(void)
{
    static const int sizes[][2] = { { 1000, 64 }, { 77, 200 }, { 1024, 8 }, { 333, 3 }, { 40, 17 }, { 3, 1 } };
    const struct kernels *done = NULL;
    ebm_backend *device[2];
    ebm_context *ctx;

    if (ebm_context_new(NULL, &ctx) < 0)
        return 99;
    for (unsigned flags = 0; flags < 4; flags = flags * 2 + 1) {
        const struct kernels *k = kernels_best(flags & cpu_flags());
        if (k == done)
            continue;
        done = k;
        for (size_t i = 0; i < COUNT(sizes); i++)
            for (double centre = 0; centre <= 1000; centre += 500)
                test_loops(k, sizes[i][0], sizes[i][1], centre, 1e-6);
    }
    for (int i = 0; i < 2; i++) {
        if (ebm_backend_open(ctx, "cpu", 1 + i, &device[i]) < 0)
            return 99;
        device[i]->strips.least_bytes = 1 << 12;     /* so that small images are done in strips, too */
    }
    test_programs(device);
    test_products(device);
    for (int i = 0; i < 2; i++)
        ebm_backend_free(device[i]);
    ebm_context_free(ctx);
    return tap_done();
}
