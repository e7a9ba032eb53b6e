/* test_vulkan_contract.c - contractions of the Vulkan backend in all their ways, against
 * the oracle.
 *
 * SPDX-License-Identifier: ISC
 *
 * Winograd's algorithm is forced on shapes that it would not pay for.
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
enum { CHANNELS = 16 };
static const double TOLERANCE = 5e-6;

/* ---- what compile() made of the last program ---- */

static const struct backend_vtable *real;
static size_t n_dispatches, n_once, arena_size, n_matrices;

static int compile(ebm_backend *b, const struct plan *plan, struct device_buffer *arena,
                   struct device_buffer *const *slots, const size_t *feeds, struct device_program **program)
{
    int rc = real->compile(b, plan, arena, slots, feeds, program);

    n_dispatches = rc < 0 ? 0 : (*program)->n_dispatches;
    n_once = rc < 0 ? 0 : (*program)->n_once;
    arena_size = arena->size;
    n_matrices = 0;
    for (size_t i = 0; i < n_dispatches; i++) {
        enum shader shader = (*program)->dispatches[i].shader;
        n_matrices += shader == SHADER_MATRIX || shader == SHADER_MATRIX_SMALL || shader == SHADER_MATRIX_MIDDLE;
    }
    return rc;
}

/* ---- epilogues ---- */

enum { N = 3, H = 7, W = 5, C = 6, K = 18, LONG = 1100 };
enum kind { OF_CONV, OF_CONV_DATA, OF_MATMUL, OF_PARTS, KINDS };
static const char *const kind_name[] = { "a convolution", "a convolution's adjoint", "a product",
                                         "a product in parts" };

static ebm_val contraction(struct trial *t, enum kind kind)
{
    const ebm_conv_spec spec = { { 1, 1 }, { 1, 1, 1, 1 }, { 1, 1 }, 1 };
    const int64_t x[] = { N, H, W, C }, f[] = { K, 3, 3, C }, back[] = { C, 3, 3, K };
    const int64_t depth = kind == OF_PARTS ? LONG : C, a[] = { N * H, depth }, b[] = { depth, K };

    if (kind == OF_CONV)
        return ebm_conv(t->g, trial_input(t, EBM_F32, 4, x, -1, 1), trial_input(t, EBM_F32, 4, f, -1, 1), &spec);
    if (kind == OF_CONV_DATA)
        return ebm_conv_data(t->g, trial_input(t, EBM_F32, 4, x, -1, 1), trial_input(t, EBM_F32, 4, back, -1, 1),
                             &spec, H, W);
    const double large = kind == OF_PARTS ? 0.1 : 1;         /* results of about 1 */
    return ebm_matmul(t->g, trial_input(t, EBM_F32, 2, a, -large, large), trial_input(t, EBM_F32, 2, b, -1, 1),
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
    size_t want = (kind == OF_PARTS ? 2 : 1) + (vk->limits.buffers > 11 ? 0 : 1);
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

/* ---- Winograd's algorithm ---- */

static const struct winograd_rules always = { 1e9, 1 };  /* whatever the work, in small blocks */
/* Elementwise results are held against their own size, not against the largest. */
static const double EPILOGUE_TOLERANCE = 1e-4;

/* One of shapes that end within tiles or not, with borders or without; of some F(2x2)
 * is chosen, of some F(4x4). */
static const struct winograd_case {
    int64_t n, h, w, c, k;
    int pad, dispatches, of_filter;      /* without an epilogue; of the filter's gradient */
} winograd_cases[] = {
    { 2, 2, 2, 16, 16, 1, 4, 4 }, { 2, 8, 8, 16, 24, 1, 4, 4 }, { 3, 7, 5, 20, 17, 1, 4, 4 },
    { 1, 6, 9, 16, 16, 0, 4, 4 }, { 1, 5, 4, 33, 16, 2, 4, 4 }, { 5, 4, 4, 130, 18, 1, 4, 4 },
    { 40, 8, 8, 16, 16, 1, 10, 12 },     /* three blocks of tiles, two sums at a time */
    { 1, 8, 8, 15, 16, 1, 1, 1 }, { 1, 8, 8, 16, 15, 1, 1, 1 },      /* the definition */
};

static double run_winograd(ebm_backend *backend, const struct winograd_case *v, enum op op, bool behind,
                           enum ebm_precision precision)
{
    const ebm_conv_spec spec = { { 1, 1 }, { v->pad, v->pad, v->pad, v->pad }, { 1, 1 }, 1 };
    const int64_t y = v->h + 2 * v->pad - 2, x_of_y = v->w + 2 * v->pad - 2;
    const int64_t x[] = { v->n, v->h, v->w, v->c }, f[] = { v->k, 3, 3, v->c };
    const int64_t dy[] = { v->n, y, x_of_y, v->k };
    struct trial t;
    ebm_store *store;

    if (ebm_store_new(backend, &store) < 0)
        exit(99);
    ebm_store_precision(store, precision);
    trial_open(&t, store, 11);
    ebm_val from = trial_input(&t, EBM_F32, 4, op == OP_CONV_DATA ? dy : x, -1, 1);
    ebm_val other = trial_input(&t, EBM_F32, 4, op == OP_CONV_FILTER ? dy : f, -1, 1);
    ebm_val a = op == OP_CONV_DATA ? ebm_conv_data(t.g, from, other, &spec, v->h, v->w)
              : op == OP_CONV ? ebm_conv(t.g, from, other, &spec)
                              : ebm_conv_filter(t.g, from, other, &spec, 3, 3);
    ebm_val out[2] = { a, 0 };
    int n = 1;
    if (behind) {
        const struct shape s = node_of(t.g, a)->shape;
        out[n++] = ebm_relu(t.g, ebm_sub(t.g, a, trial_input(&t, EBM_F32, 4, s.n, -1, 1)));
    }
    struct answer answer = device_run(&t, n, out);
    double error = answer.bytes ? device_error(&t, n, out, &answer, NULL) : 1;
    free(answer.bytes);
    trial_close(&t);
    ebm_store_free(store);
    return error;
}

static void test_winograd(ebm_backend *backend)
{
    struct vk *vk = (struct vk *)backend;
    const struct winograd_rules usual = vk->winograd;
    double worst = 0, worst_behind = 0, worst_bf16 = 0;
    static const enum op ops[] = { OP_CONV, OP_CONV_DATA, OP_CONV_FILTER };
    bool behind = vk->limits.buffers > 11, as_told = true;

    vk->winograd = always;
    for (size_t i = 0; i < COUNT(winograd_cases); i++) {
        const struct winograd_case *v = &winograd_cases[i];
        for (int k = 0; k < 3; k++)
            for (int group = 0; group < (ops[k] == OP_CONV_FILTER ? 1 : 2); group++) {
                size_t want = (size_t)(ops[k] == OP_CONV_FILTER ? v->of_filter : v->dispatches);
                double error = run_winograd(backend, v, ops[k], group, EBM_FP32);
                if (n_dispatches != want + (group && !behind)) {
                    tap_note("case %zu: %zu dispatches", i, n_dispatches);
                    as_told = false;
                }
                *(group ? &worst_behind : &worst) = fmax(group ? worst_behind : worst, error);
            }
        worst_bf16 = fmax(worst_bf16, run_winograd(backend, v, ops[i % 3], false, EBM_BF16));
    }
    tap_ok(worst <= TOLERANCE, "Winograd's convolutions, adjoints and gradients of filters (worst %.1e)", worst);
    tap_ok(worst_behind <= EPILOGUE_TOLERANCE, "and what is behind them (worst %.1e)", worst_behind);
    tap_ok(as_told, "are done where 3x3 filters have 16 channels, with their epilogues");
    tap_ok(worst_bf16 <= TOLERANCE, "and with precision bf16 (worst %.1e)", worst_bf16);
    vk->winograd = usual;
}

/* Without the memory that Winograd's algorithm wants it is done in smaller blocks, and
 * without any not at all. */
static void test_short(ebm_backend *backend)
{
    static const struct winograd_case v = { 40, 8, 8, 16, 16, 1, 4, 4 };
    static const enum op ops[] = { OP_CONV, OP_CONV_DATA, OP_CONV_FILTER };
    static const char *const name[] = { "a convolution", "its adjoint", "its filter's gradient" };
    struct vk *vk = (struct vk *)backend;
    const struct winograd_rules usual = vk->winograd;

    for (int k = 0; k < 3; k++) {
        vk->winograd = (struct winograd_rules){ 0, 0 };
        run_winograd(backend, &v, ops[k], false, EBM_FP32);
        size_t least = arena_size, direct = n_dispatches;
        vk->winograd = (struct winograd_rules){ 1e9, 1 << 25 };
        run_winograd(backend, &v, ops[k], false, EBM_FP32);
        size_t most = arena_size, at_once = n_dispatches;
        tap_ok(most > least && at_once > direct, "%s wishes for %zu bytes besides %zu", name[k], most - least, least);
        backend->withheld = (most - least) / 2;
        double error = run_winograd(backend, &v, ops[k], false, EBM_FP32);
        tap_ok(error <= TOLERANCE && arena_size == most - (most - least) / 2 && n_dispatches > at_once,
               "half of them: %zu dispatches, not %zu (error %.1e)", n_dispatches, at_once, error);
        backend->withheld = SIZE_MAX;
        error = run_winograd(backend, &v, ops[k], false, EBM_FP32);
        tap_ok(error <= TOLERANCE && arena_size == least && n_dispatches == direct,
               "none: the definition, in %zu bytes (error %.1e)", arena_size, error);
        backend->withheld = 0;
    }
    vk->winograd = usual;
}

/* Dispatches of a convolution of `channels` to as many, which is compiled and not run.
 * made: its filter is made in the program, by one dispatch more. */
static size_t dispatches_of(ebm_backend *backend, int64_t images, int64_t size, int64_t channels, bool made)
{
    const ebm_conv_spec spec = { { 1, 1 }, { 1, 1, 1, 1 }, { 1, 1 }, 1 };
    const int64_t x[] = { images, size, size, channels }, f[] = { channels, 3, 3, channels };
    ebm_program *program = NULL;
    ebm_store *store;
    ebm_graph *g;

    if (ebm_store_new(backend, &store) < 0 || ebm_store_alloc(store, 1) < 0 || ebm_graph_new(store, &g) < 0)
        exit(99);
    ebm_val filter = ebm_feed(g, "f", EBM_F32, 4, f);
    ebm_val y = ebm_conv(g, ebm_feed(g, "x", EBM_F32, 4, x), made ? ebm_exp(g, filter) : filter, &spec);
    if (ebm_compile(g, 1, &y, &program) < 0)
        n_dispatches = 0;
    ebm_program_free(program);
    ebm_graph_free(g);
    ebm_store_free(store);
    return n_dispatches;
}

static void test_choice(ebm_backend *backend)
{
    struct vk *vk = (struct vk *)backend;

    tap_ok(dispatches_of(backend, 64, 16, 128, false) == 7, "many channels: Winograd's algorithm, in two blocks");
    tap_ok(dispatches_of(backend, 64, 16, 32, false) == 1, "few channels: the definition");
    tap_ok(dispatches_of(backend, 8, 4, 256, true) <= 3, "few pixels for large filters that are made: the definition");
    tap_ok(dispatches_of(backend, 8, 4, 256, false) == 4, "that last: Winograd's algorithm");
    vk->winograd.share = 0;
    tap_ok(dispatches_of(backend, 64, 16, 128, false) == 1, "with EBM_EXACT: the definition");
}

/* y = conv(x, f) for a state f, run `runs` times in a row and then once more with f
 * other than it was; shrinks: the program halves f, too.  The last y. */
static void run_state(ebm_backend *backend, bool shrinks, int runs, float *y, size_t count)
{
    const ebm_conv_spec spec = { { 1, 1 }, { 1, 1, 1, 1 }, { 1, 1 }, 1 };
    const int64_t x[] = { 1, 6, 6, CHANNELS }, f[] = { CHANNELS, 3, 3, CHANNELS };
    float images[6 * 6 * CHANNELS], filter[CHANNELS * 9 * CHANNELS];
    ebm_program *program = NULL;
    ebm_store *store;
    ebm_graph *g;
    ebm_val out[2];

    if (ebm_store_new(backend, &store) < 0 || ebm_graph_new(store, &g) < 0)
        exit(99);
    ebm_val state = ebm_state(g, "f", EBM_F32, 4, f, (ebm_init){ 0 });
    out[0] = ebm_conv(g, ebm_feed(g, "x", EBM_F32, 4, x), state, &spec);
    out[1] = ebm_assign(g, state, ebm_mul(g, state, ebm_const(g, 0.5f)));
    for (size_t i = 0; i < COUNT(images); i++)
        images[i] = (float)(i % 7) - 3;
    int rc = ebm_store_alloc(store, 1);
    if (rc >= 0)
        rc = ebm_compile(g, shrinks ? 2 : 1, out, &program);
    if (rc >= 0)
        rc = ebm_program_set(program, "x", images, sizeof images);
    for (int last = 0; last < 2 && rc >= 0; last++) {
        for (size_t i = 0; i < COUNT(filter); i++)
            filter[i] = (float)(i % (last ? 5 : 11)) - 2;
        rc = ebm_store_write(store, "f", filter, sizeof filter);
        if (rc >= 0)
            rc = ebm_program_run(program, last ? 2 : runs);
    }
    if (rc < 0 || ebm_program_get(program, out[0], y, count * sizeof *y) < 0)
        memset(y, 0, count * sizeof *y);
    ebm_program_free(program);
    ebm_graph_free(g);
    ebm_store_free(store);
}

static void test_lasting(ebm_backend *backend)
{
    enum { RESULTS = 6 * 6 * CHANNELS };
    static const float CLOSE = 4e-3f;        /* of results up to some hundreds */
    static float many[RESULTS], want[RESULTS], halved[RESULTS];
    struct vk *vk = (struct vk *)backend;
    const struct winograd_rules usual = vk->winograd;
    float most = 0, worst = 0, worst_halved = 0;

    vk->winograd.share = 0;
    run_state(backend, false, 1, want, RESULTS);
    vk->winograd = always;
    run_state(backend, false, 100, many, RESULTS);
    tap_ok(n_once == 1, "a filter that lasts is transformed before the first of several runs");
    run_state(backend, true, 100, halved, RESULTS);
    tap_ok(n_once == 0, "one that the program changes is not");
    for (int i = 0; i < RESULTS; i++) {
        most = fmaxf(most, fabsf(want[i]));
        worst = fmaxf(worst, fabsf(many[i] - want[i]));
        worst_halved = fmaxf(worst_halved, fabsf(2 * halved[i] - want[i]));
    }
    tap_ok(most > 10 && worst <= CLOSE, "and again when it was changed in between (error %.1e of %.0f)",
           (double)worst, (double)most);
    tap_ok(worst_halved <= CLOSE, "the second run sees what the first has changed (error %.1e)",
           (double)worst_halved);
    vk->winograd = usual;
}

/* ---- cooperative matrices, where the device has them: precision bf16 ---- */

enum form { PRODUCT, TURNED, CONV, STRIDED, CONV_DATA, CONV_FILTER, SPLIT, FORMS };
static const char *const form_name[] = { "a product", "one of turned matrices", "a convolution", "one with strides",
                                         "an adjoint", "a gradient of filters", "a product in parts" };

/* Operands up to `a` and `b` in size, of odd shapes that fill no tile. */
static ebm_val rounded_product(struct trial *t, enum form form, double a, double b)
{
    const ebm_conv_spec spec = { { form == STRIDED ? 2 : 1, 1 }, { 1, 1, 1, 1 }, { 1, 1 }, 1 };
    const int64_t depth = form == SPLIT ? LONG : 45, m = form == SPLIT ? 20 : 130;
    const int64_t left[] = { m, depth }, right[] = { depth, 70 }, left_turned[] = { depth, m }, right_turned[] = { 70, depth };
    const int64_t x[] = { 3, 9, 7, 20 }, f[] = { 37, 3, 3, 20 }, y[] = { 3, 9, 7, 37 };
    bool turned = form == TURNED;

    if (form == PRODUCT || form == TURNED || form == SPLIT)
        return ebm_matmul(t->g, trial_input(t, EBM_F32, 2, turned ? left_turned : left, -a, a),
                          trial_input(t, EBM_F32, 2, turned ? right_turned : right, -b, b), turned, turned);
    if (form == CONV_DATA)
        return ebm_conv_data(t->g, trial_input(t, EBM_F32, 4, y, -a, a), trial_input(t, EBM_F32, 4, f, -b, b),
                             &spec, x[1], x[2]);
    ebm_val image = trial_input(t, EBM_F32, 4, x, -a, a);
    return form == CONV_FILTER ? ebm_conv_filter(t->g, image, trial_input(t, EBM_F32, 4, y, -b, b), &spec, 3, 3)
                               : ebm_conv(t->g, image, trial_input(t, EBM_F32, 4, f, -b, b), &spec);
}

static double run_rounded(ebm_backend *backend, enum form form, double a, double b, bool behind)
{
    ebm_val out[2] = { 0 };
    struct trial t;
    ebm_store *store;
    int n = 1;

    if (ebm_store_new(backend, &store) < 0)
        exit(99);
    ebm_store_precision(store, EBM_BF16);
    trial_open(&t, store, 21 + form);
    out[0] = rounded_product(&t, form, a, b);
    if (behind) {
        const struct shape s = node_of(t.g, out[0])->shape;
        out[n++] = ebm_tanh(t.g, ebm_add(t.g, out[0], trial_input(&t, EBM_F32, s.rank, s.n, -1, 1)));
    }
    struct answer answer = device_run(&t, n, out);
    double error = answer.bytes ? device_error(&t, n, out, &answer, NULL) : 1;
    free(answer.bytes);
    trial_close(&t);
    ebm_store_free(store);
    return error;
}

static void test_matrices(ebm_backend *backend)
{
    /* float16 counts from 6e-8 to 65504; errors are told from those of 1 or more */
    static const struct { double a, b; } sizes[] = { { 1, 1 }, { 1e-20, 1e21 }, { 1e30, 1e-30 }, { 1e15, 1e10 } };
    struct vk *vk = (struct vk *)backend;

    if (matrix_check(vk) < 0 || !vk->matrix.m) {
        tap_skip("the build or the device has no cooperative matrices");
        return;
    }
    for (enum form form = 0; form < FORMS; form++) {
        double worst = 0;
        bool used = true;
        for (size_t i = 0; i < COUNT(sizes); i++) {
            worst = fmax(worst, run_rounded(backend, form, sizes[i].a, sizes[i].b, false));
            used = used && n_matrices == 1;
        }
        tap_ok(used && worst <= TOLERANCE, "%s by cooperative matrices, of any size (worst %.1e)", form_name[form], worst);
        double error = run_rounded(backend, form, 0.1, 1, true);
        tap_ok(n_matrices == 1 && error <= EPILOGUE_TOLERANCE, "and what is behind it, %zu dispatches (error %.1e)",
               n_dispatches, error);
    }
    const struct matrices usual = vk->matrix;
    vk->matrix.m = 0;
    double error = run_rounded(backend, PRODUCT, 1, 1, false);
    tap_ok(n_matrices == 0 && error <= TOLERANCE, "without them, too (error %.1e)", error);
    vk->matrix = usual;
}

/* ---- precision bf16: operations are held against the oracle by test_ops ---- */

static const double BF16_TOLERANCE = 1e-3;
enum { LAYERS_OUT = 3 };

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
    test_winograd(backend);
    test_short(backend);
    test_lasting(backend);
    test_choice(backend);
    test_matrices(backend);
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
    setenv("EBM_EXACT", "1", 1);
    ebm_backend *exact = device_backend(ctx, DEVICE);
    tap_ok(!(((struct vk *)exact)->winograd.share > 0), "EBM_EXACT forbids Winograd's algorithm");
    ebm_backend_free(exact);
    unsetenv("EBM_EXACT");
    setenv("EBM_VULKAN_LIMITS", "minimum", 1);
    test_device(ctx);
    ebm_context_free(ctx);
    return tap_done();
}
