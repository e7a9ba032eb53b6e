/* test_vulkan_large.c - operands larger than a device sees at once, in an arena of
 * several pieces: results are the CPU's, and what cannot be cut is refused before it
 * has memory.
 *
 * SPDX-License-Identifier: ISC
 *
 * The device pretends to see 16 KiB of a buffer, and to give 64 KiB at once. */
#include "config.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "device.h"
#include "tap.h"

enum { N = 12, H = 12, C = 8, IMAGE = H * H * C, ROWS = 500, WIDTH = 24, TABLE = ROWS * WIDTH, PICKED = 9 };
/* A table that is more than the device gives at once; its row LOW begins in one piece and ends
 * in the next. */
enum { MANY = 1700, LONG = MANY * WIDTH, LOW = (1 << 16) / (4 * WIDTH), NOISE = 18001 };
static const double TOLERANCE = 1e-5;
static const struct { const char *name; int64_t count; } results[] = {
    { "a convolution of images", N * IMAGE }, { "the gradient of its input", N * IMAGE },
    { "the gradient of its filters", C * 9 * C }, { "pooled", N * IMAGE / 4 },
    { "sums of images", N }, { "the sum over images", IMAGE }, { "the sum of all", 1 },
    { "the largest over images", IMAGE }, { "a group that reads across", N * IMAGE },
    { "random numbers", N * IMAGE }, { "turned", N * IMAGE }, { "rows times a matrix", ROWS * C },
    { "rows of a table", PICKED * WIDTH }, { "rows added to a table", TABLE },
    { "rows behind a table", TABLE + PICKED * WIDTH },
    { "rows of a table in pieces", PICKED * WIDTH }, { "rows added to one", LONG },
    { "random numbers in pieces", NOISE }, { "a group in pieces", LONG },
};
enum { RESULTS = COUNT(results) };

/* Images and tables that a program changes; outputs in the order of `results`,
 * then three assignments. */
static int build(ebm_graph *g, ebm_val *y)
{
    const int64_t image[] = { N, H, H, C }, filter[] = { C, 3, 3, C }, table[] = { ROWS, WIDTH },
                  matrix[] = { WIDTH, C }, picked[] = { PICKED }, four[] = { 4 },
                  many[] = { MANY, WIDTH }, line[] = { 1, WIDTH }, noise[] = { NOISE };
    const ebm_conv_spec conv = { { 1, 1 }, { 1, 1, 1, 1 }, { 1, 1 }, 1 };
    const ebm_pool_spec pool = { { 2, 2 }, { 2, 2 }, { 0 } };
    const ebm_init normal = { .kind = EBM_INIT_NORMAL, .a = 0, .b = 0.5 };
    const int turn[] = { 0, 2, 1, 3 };
    ebm_val x = ebm_state(g, "x", EBM_F32, 4, image, normal);
    ebm_val f = ebm_state(g, "f", EBM_F32, 4, filter, normal);
    ebm_val t = ebm_state(g, "t", EBM_F32, 2, table, normal);
    ebm_val m = ebm_state(g, "m", EBM_F32, 2, matrix, normal);
    ebm_val u = ebm_state(g, "u", EBM_F32, 2, many, normal);
    ebm_val index = ebm_feed(g, "index", EBM_I32, 1, picked), far = ebm_feed(g, "far", EBM_I32, 1, picked);
    ebm_val counter = ebm_feed(g, "counter", EBM_I32, 1, four);
    int n = 0;

    y[n++] = ebm_conv(g, x, f, &conv);
    ebm_val energy = ebm_sum_all(g, ebm_softplus(g, y[0]));
    y[n++] = ebm_grad(g, energy, x);
    y[n++] = ebm_grad(g, energy, f);
    y[n++] = ebm_sum_pool(g, x, &pool);
    y[n++] = ebm_sum(g, x, 14);
    y[n++] = ebm_sum(g, y[0], 1);
    y[n++] = ebm_sum_all(g, y[0]);
    y[n++] = ebm_amax(g, x, 1);
    y[n++] = ebm_mul(g, ebm_sub(g, x, y[5]), ebm_exp(g, ebm_scale(g, y[4], 0.01)));
    y[n++] = ebm_normal(g, counter, 3, 4, image);
    y[n++] = ebm_transpose(g, x, turn);
    y[n++] = ebm_matmul(g, t, m, false, false);
    y[n++] = ebm_gather(g, t, index);
    y[n++] = ebm_scatter(g, y[12], index, ROWS);
    y[n++] = ebm_concat(g, 0, 2, (const ebm_val[]){ t, y[12] });
    y[n++] = ebm_gather(g, u, far);
    y[n++] = ebm_scatter(g, y[12], far, MANY);
    y[n++] = ebm_normal(g, counter, 5, 1, noise);
    y[n++] = ebm_mul(g, ebm_tanh(g, u), ebm_state(g, "v", EBM_F32, 2, line, normal));
    y[n++] = ebm_assign(g, ebm_state(g, "x", EBM_F32, 4, image, normal),
                        ebm_add(g, ebm_scale(g, x, 0.5), ebm_tanh(g, x)));
    y[n++] = ebm_assign(g, ebm_state(g, "t", EBM_F32, 2, table, normal),
                        ebm_update(g, t, index, ebm_neg(g, y[12])));
    y[n++] = ebm_assign(g, ebm_state(g, "u", EBM_F32, 2, many, normal),
                        ebm_update(g, u, far, ebm_neg(g, y[15])));
    return n;
}

struct run {
    float *result[RESULTS], x[N * IMAGE], t[TABLE], u[LONG];
};

static bool compute(ebm_context *ctx, ebm_backend *backend, struct run *r)
{
    const int32_t index[PICKED] = { 3, 499, 0, 250, 3, 77, 251, 498, 100 }, counter[4] = { 1, 2, 3, 4 };
    const int32_t far[PICKED] = { LOW, MANY - 1, 0, 2 * LOW + 1, LOW + 1, LOW - 1, LOW, 1300, 4000 };
    ebm_program *program = NULL;
    ebm_val y[RESULTS + 3];
    ebm_store *store;
    ebm_graph *g;

    if (ebm_store_new(backend, &store) < 0 || ebm_graph_new(store, &g) < 0)
        exit(99);
    int n = build(g, y);
    bool ok = ebm_store_alloc(store, 7) >= 0 && ebm_compile(g, n, y, &program) >= 0
           && ebm_program_set(program, "index", index, sizeof index) >= 0
           && ebm_program_set(program, "far", far, sizeof far) >= 0
           && ebm_program_set(program, "counter", counter, sizeof counter) >= 0
           && ebm_program_run(program, 2) >= 0;
    for (int i = 0; i < RESULTS && ok; i++) {
        size_t size = (size_t)results[i].count * sizeof(float);
        r->result[i] = malloc(size);
        ok = r->result[i] && ebm_program_get(program, y[i], r->result[i], size) >= 0;
    }
    ok = ok && ebm_store_read(store, "x", r->x, sizeof r->x) >= 0
            && ebm_store_read(store, "t", r->t, sizeof r->t) >= 0
            && ebm_store_read(store, "u", r->u, sizeof r->u) >= 0;
    if (!ok)
        tap_note("%s", ebm_message(ctx));
    ebm_program_free(program);
    ebm_graph_free(g);
    ebm_store_free(store);
    return ok;
}

static double difference(const float *a, const float *b, int64_t n)
{
    double scale = 1, worst = 0;

    for (int64_t i = 0; i < n; i++) {
        double e = fabs((double)a[i] - (double)b[i]);
        scale = fmax(scale, fabs((double)b[i]));
        worst = e <= worst ? worst : e;
    }
    return worst / scale;
}

/* A product with a matrix that is seen by no window. */
static void claim_refused(ebm_context *ctx, ebm_backend *backend)
{
    const int64_t rows[] = { 2, 200 }, matrix[] = { 200, 60 };
    const ebm_init zero = { .kind = EBM_INIT_CONST };
    ebm_program *program = NULL;
    ebm_store *store;
    ebm_graph *g;

    if (ebm_store_new(backend, &store) < 0 || ebm_graph_new(store, &g) < 0)
        exit(99);
    ebm_val y = ebm_matmul(g, ebm_state(g, "a", EBM_F32, 2, rows, zero),
                           ebm_state(g, "b", EBM_F32, 2, matrix, zero), false, false);
    tap_ok(ebm_compile(g, 1, &y, &program) == EBM_OK, "what cannot be cut is planned");
    tap_ok(ebm_store_alloc(store, 0) == EBM_ERR_NOMEM && strstr(ebm_message(ctx), "gemm"),
           "and refused before it runs: %s", ebm_message(ctx));
    ebm_program_free(program);
    ebm_graph_free(g);
    ebm_store_free(store);
}

int main(void)
{
    static struct run want, got;
    ebm_context *ctx;
    ebm_backend *cpu, *vulkan;

    if (ebm_context_new(NULL, &ctx) < 0 || setenv("EBM_VULKAN_LIMITS", "tiny", 1) != 0
        || ebm_backend_open(ctx, "cpu", 1, &cpu) < 0)
        exit(99);
    vulkan = device_backend(ctx, "vulkan:0");
    bool ok = compute(ctx, cpu, &want) && compute(ctx, vulkan, &got);
    tap_ok(ok, "a program with operands of %zu KiB", sizeof got.x >> 10);
    for (int i = 0; i < RESULTS && ok; i++) {
        double e = difference(got.result[i], want.result[i], results[i].count);
        tap_ok(e <= TOLERANCE, "%s (%.1e)", results[i].name, e);
    }
    tap_ok(ok && difference(got.x, want.x, N * IMAGE) <= TOLERANCE, "a state changed by a group");
    tap_ok(ok && memcmp(got.t, want.t, sizeof got.t) == 0, "a table with rows replaced");
    tap_ok(ok && memcmp(got.u, want.u, sizeof got.u) == 0, "and one in pieces");
    claim_refused(ctx, vulkan);
    for (int i = 0; i < RESULTS; i++) {
        free(want.result[i]);
        free(got.result[i]);
    }
    ebm_backend_free(vulkan);
    ebm_backend_free(cpu);
    ebm_context_free(ctx);
    return tap_done();
}
