/* test_vulkan_contract.c - contractions of the Vulkan backend in all their ways, against
 * the oracle.
 *
 * SPDX-License-Identifier: ISC
 *
 * Epilogues are part of the dispatch that makes what they read, where the device has
 * descriptors enough; a minimal device (EBM_VULKAN_LIMITS) has not. */
#include "config.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../vulkan/lower.h"
#include "device.h"
#include "store.h"
#include "tap.h"

static const char DEVICE[] = "vulkan:0";
static const double TOLERANCE = 5e-6;

/* ---- what compile() made of the last program ---- */

static const struct backend_vtable *real;
static size_t n_dispatches;

static int compile(ebm_backend *b, const struct plan *plan, struct device_buffer *arena,
                   struct device_buffer *const *slots, const size_t *feeds, struct device_program **program)
{
    int rc = real->compile(b, plan, arena, slots, feeds, program);

    n_dispatches = rc < 0 ? 0 : (*program)->n_dispatches;
    return rc;
}

/* ---- epilogues ---- */

enum { N = 3, H = 7, W = 5, C = 6, K = 18 };
enum kind { OF_CONV, OF_CONV_DATA, OF_MATMUL, KINDS };
static const char *const kind_name[] = { "a convolution", "a convolution's adjoint", "a product" };

static ebm_val contraction(struct trial *t, enum kind kind)
{
    const ebm_conv_spec spec = { { 1, 1 }, { 1, 1, 1, 1 }, { 1, 1 }, 1 };
    const int64_t x[] = { N, H, W, C }, f[] = { K, 3, 3, C }, back[] = { C, 3, 3, K };
    const int64_t a[] = { N * H, C }, b[] = { C, K };

    if (kind == OF_CONV)
        return ebm_conv(t->g, trial_input(t, EBM_F32, 4, x, -1, 1), trial_input(t, EBM_F32, 4, f, -1, 1), &spec);
    if (kind == OF_CONV_DATA)
        return ebm_conv_data(t->g, trial_input(t, EBM_F32, 4, x, -1, 1), trial_input(t, EBM_F32, 4, back, -1, 1),
                             &spec, H, W);
    return ebm_matmul(t->g, trial_input(t, EBM_F32, 2, a, -1, 1), trial_input(t, EBM_F32, 2, b, -1, 1),
                      false, false);
}

/* silu(a + bias), and that plus an array of a's shape. */
static int epilogue(struct trial *t, ebm_val a, ebm_val *outputs)
{
    ebm_graph *g = t->g;
    const struct shape s = node_of(g, a)->shape;
    const int64_t columns = K;
    ebm_val bias = trial_input(t, EBM_F32, 1, &columns, -1, 1);
    ebm_val rest = trial_input(t, EBM_F32, s.rank, s.n, -1, 1);
    ebm_val y = ebm_silu(g, ebm_add(g, a, ebm_broadcast(g, bias, s.rank, s.n)));

    outputs[0] = ebm_add(g, y, rest);
    outputs[1] = ebm_mul(g, y, rest);
    return 2;
}

static void test_epilogue(ebm_backend *backend, enum kind kind, bool stored)
{
    const struct vk *vk = (const struct vk *)backend;
    size_t want = vk->limits.buffers > 11 ? 1 : 2;
    ebm_val outputs[3];
    struct trial t;
    ebm_store *store;

    if (ebm_store_new(backend, &store) < 0)
        exit(99);
    trial_open(&t, store, 1 + kind);
    ebm_val a = contraction(&t, kind);
    int n = epilogue(&t, a, outputs);
    if (stored)
        outputs[n++] = a;
    struct answer answer = device_run(&t, n, outputs);
    double error = answer.bytes ? device_error(&t, n, outputs, &answer, NULL) : 1;
    tap_ok(error <= TOLERANCE, "behind %s%s (error %.1e)", kind_name[kind],
           stored ? " that is read besides" : "", error);
    tap_ok(n_dispatches == want, "behind %s%s: %zu dispatches", kind_name[kind],
           stored ? " that is read besides" : "", n_dispatches);
    free(answer.bytes);
    trial_close(&t);
    ebm_store_free(store);
}

/* ---- precision bf16: operations are held against the oracle by test_ops ---- */

static const double BF16_TOLERANCE = 1e-3;
enum { CHANNELS = 16, LAYERS_OUT = 3 };

/* Two layers, and the gradients of their sum. */
static struct answer layers(ebm_backend *backend, enum ebm_precision precision)
{
    const ebm_conv_spec spec = { { 1, 1 }, { 1, 1, 1, 1 }, { 1, 1 }, 1 };
    const int64_t x_shape[] = { N, H, W, CHANNELS }, f_shape[] = { CHANNELS, 3, 3, CHANNELS };
    const int64_t b_shape[] = { CHANNELS, CHANNELS }, flat[] = { N * H * W, CHANNELS };
    ebm_val x[2], outputs[LAYERS_OUT];
    struct trial t;
    ebm_store *store;

    if (ebm_store_new(backend, &store) < 0)
        exit(99);
    ebm_store_precision(store, precision);
    trial_open(&t, store, 7);
    x[0] = trial_input(&t, EBM_F32, 4, x_shape, -1, 1);
    x[1] = trial_input(&t, EBM_F32, 4, f_shape, -1, 1);
    ebm_val b = trial_input(&t, EBM_F32, 2, b_shape, -1, 1);
    ebm_val h = ebm_reshape(t.g, ebm_tanh(t.g, ebm_conv(t.g, x[0], x[1], &spec)), 2, flat);
    outputs[0] = ebm_matmul(t.g, h, b, false, true);
    ebm_gradients(t.g, ebm_sum_all(t.g, ebm_silu(t.g, outputs[0])), 2, x, outputs + 1);
    struct answer answer = device_run(&t, LAYERS_OUT, outputs);
    trial_close(&t);
    ebm_store_free(store);
    return answer;
}

/* The largest difference by the largest element. */
static double apart(const struct answer *a, const struct answer *b)
{
    const float *x = (const float *)(const void *)a->bytes, *y = (const float *)(const void *)b->bytes;
    double most = 0, error = 0;

    if (!x || !y)
        return INFINITY;
    for (size_t i = 0; i < a->size / sizeof *x; i++) {
        most = fmax(most, fabs(y[i]));
        error = fmax(error, fabs(x[i] - y[i]));
    }
    return error / most;
}

static void test_bf16(ebm_context *ctx, ebm_backend *vulkan)
{
    ebm_backend *cpu;

    if (ebm_backend_open(ctx, "cpu", 1, &cpu) < 0)
        exit(99);
    struct answer want = layers(cpu, EBM_BF16), got = layers(vulkan, EBM_BF16), full = layers(vulkan, EBM_FP32);
    double same = apart(&got, &want), other = apart(&full, &want);
    tap_ok(same <= BF16_TOLERANCE, "layers with precision bf16 are those of the CPU (within %.1e)", same);
    tap_ok(other > 2 * BF16_TOLERANCE, "which those with fp32 are not (%.1e)", other);
    free(want.bytes);
    free(got.bytes);
    free(full.bytes);
    ebm_backend_free(cpu);
}

static void test_device(ebm_context *ctx)
{
    ebm_backend *backend = device_backend(ctx, DEVICE);
    struct backend_vtable spy = *backend->v;

    real = backend->v;
    spy.compile = compile;
    backend->v = &spy;
    tap_note("%s", ebm_backend_describe(backend));
    for (enum kind kind = 0; kind < KINDS; kind++) {
        test_epilogue(backend, kind, false);
        test_epilogue(backend, kind, true);
    }
    backend->v = real;
    test_bf16(ctx, backend);
    ebm_backend_free(backend);
}

int main(void)
{
    ebm_context *ctx;

    if (ebm_context_new(NULL, &ctx) < 0)
        exit(99);
    test_device(ctx);
    setenv("EBM_VULKAN_LIMITS", "minimum", 1);
    test_device(ctx);
    ebm_context_free(ctx);
    return tap_done();
}
