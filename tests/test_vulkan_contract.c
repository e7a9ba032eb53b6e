/* test_vulkan_contract.c - contractions of the Vulkan backend in all their ways, against
 * the oracle.
 *
 * SPDX-License-Identifier: ISC
 *
 * Epilogues are part of the dispatch that makes what they read, where the device has
 * descriptors enough; a minimal device (EBM_VULKAN_LIMITS) has not. */
#include "config.h"
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
