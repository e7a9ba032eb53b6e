/* test_parts.c - programs whose batch is computed in parts.
 *
 * SPDX-License-Identifier: ISC
 *
 * Every operation, its first and second gradients, and random programs are cut in
 * parts of one row and more and held against the oracle, on a device that takes
 * plans at their word; a training step also on the CPU, where it must take less
 * memory, and give the same bits on any number of threads. */
#include "config.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "device.h"
#include "plain.h"
#include "random_graph.h"
#include "store.h"
#include "tap.h"

enum { CASES_MAX = 200, SEEDS = 300, OUTPUTS_MAX = 2 + 2 * TRIAL_INPUTS, GRADIENTS = 3 };
static const double TOLERANCE = 1e-4;

static ebm_val random_sum(struct trial *t, ebm_val a)
{
    struct shape s = node_of(t->g, a)->shape;
    ebm_val w = trial_input(t, EBM_F32, s.rank, s.n, -1, 1);

    return ebm_sum_all(t->g, ebm_mul(t->g, a, w));
}

/* First and second gradients by all inputs. */
static int gradients_of(struct trial *t, ebm_val y, ebm_val *outputs)
{
    ebm_val x[TRIAL_INPUTS], loss;
    int n = 0;

    for (int k = 0; k < t->n_in; k++)
        if (t->in[k].type == EBM_F32)
            x[n++] = t->in[k].val;
    if (node_of(t->g, y)->type != EBM_F32 || n == 0 || node_of(t->g, y)->op == OP_UPDATE
        || node_of(t->g, y)->op == OP_ASSIGN)
        return 0;            /* these have no gradient */
    ebm_gradients(t->g, random_sum(t, y), n, x, outputs);
    loss = ebm_const(t->g, 0);
    for (int i = 0; i < n; i++)
        loss = ebm_add(t->g, loss, random_sum(t, outputs[i]));
    ebm_gradients(t->g, loss, n, x, outputs + n);
    return t->g->status < 0 ? 0 : 2 * n;
}

/* The batch of a case: the most rows that an input has. */
static int64_t most_rows(const struct trial *t)
{
    int64_t most = 1;

    for (int k = 0; k < t->n_in; k++) {
        const struct shape *s = &node_of(t->g, t->in[k].val)->shape;
        if (s->rank > 0 && s->n[0] > most)
            most = s->n[0];
    }
    return most;
}

/* The error of a case in parts of `part` rows; NO_CASE past the last. */
static double case_error(ebm_backend *device, enum op op, int i, int64_t part, int64_t *batch)
{
    ebm_val outputs[OUTPUTS_MAX];
    struct answer answer = { NULL, 0 };
    double error = NAN;
    ebm_store *store;
    struct trial t;

    if (ebm_store_new(device, &store) < 0)
        exit(99);
    trial_open(&t, store, 1000 * (uint64_t)op + (uint64_t)i);
    outputs[0] = case_build(&t, op, i);
    if (outputs[0] == NO_CASE) {
        error = NO_CASE;
    } else {
        int n = 1 + gradients_of(&t, outputs[0], outputs + 1);
        *batch = most_rows(&t);
        if (*batch % part == 0) {
            store->batch = *batch;
            store->part = part;
            answer = device_run(&t, n, outputs);
            error = answer.bytes ? device_error(&t, n, outputs, &answer, NULL) : NAN;
        } else {
            error = 0;
        }
    }
    free(answer.bytes);
    trial_close(&t);
    ebm_store_free(store);
    return error;
}

static void test_cases(ebm_backend *device)
{
    for (int op = 1; op < OP_ASSIGN; op++) {         /* effects are not fetched */
        double worst = 0, error;
        int count = 0, bad = 0;
        int64_t batch = 0;
        for (int i = 0; i < CASES_MAX && (error = case_error(device, op, i, 1, &batch)) != NO_CASE; i++)
            for (int64_t part = 1; part <= 3; part++) {
                error = case_error(device, op, i, part, &batch);
                if (!(error <= TOLERANCE)) {
                    tap_note("case %d, %lld of %lld rows at a time: error %.1e", i, (long long)part,
                             (long long)batch, error);
                    bad++;
                }
                worst = fmax(worst, error);
                count++;
            }
        tap_ok(bad == 0, "%s: %d programs in parts (worst %.1e)", op_info[op].name, count, worst);
    }
}

/* The region "r" as doubles, or NULL. */
static double *region_of(ebm_store *store)
{
    int slot = store_find(store, "r");

    if (slot < 0)
        return NULL;
    size_t count = tensor_bytes(&store->tensors[slot]) / sizeof(float);
    float *r = malloc(count * sizeof *r + 1);
    double *exact = malloc(count * sizeof *exact + 1);
    if (ebm_store_read(store, "r", r, count * sizeof *r) < 0)
        exit(99);
    for (size_t i = 0; i < count; i++)
        exact[i] = (double)r[i];
    free(r);
    return exact;
}

static double graph_error(ebm_backend *device, uint64_t seed)
{
    ebm_val outputs[RANDOM_OUTPUTS + GRADIENTS];
    ebm_store *store;
    struct trial t;

    if (ebm_store_new(device, &store) < 0)
        exit(99);
    trial_open(&t, store, seed);
    store->batch = 2;
    store->part = 1;
    int n = random_graph(&t, seed % 3 == 0, outputs);
    if (seed % 3 == 0) {
        ebm_val x[GRADIENTS];
        for (int i = 0; i < GRADIENTS; i++)
            x[i] = t.in[i].val;
        ebm_gradients(t.g, outputs[0], GRADIENTS, x, outputs + n);
        n += GRADIENTS;
    }
    struct answer answer = device_run(&t, n, outputs);
    double *r = answer.bytes ? region_of(store) : NULL;
    double error = answer.bytes ? device_error(&t, n, outputs, &answer, r) : NAN;
    free(r);
    free(answer.bytes);
    trial_close(&t);
    ebm_store_free(store);
    return error;
}

static void test_graphs(ebm_backend *device, const char *name)
{
    double worst = 0;
    int bad = 0;

    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        double error = graph_error(device, seed);
        if (!(error <= TOLERANCE)) {
            tap_note("graph %d: error %.1e", (int)seed, error);
            bad++;
        }
        worst = fmax(worst, error);
    }
    tap_ok(bad == 0, "%s: %d random graphs in parts (worst %.1e)", name, SEEDS, worst);
}

/* ---- a training step ---- */

enum { BATCH = 16, SIDE = 32 };

struct outcome {
    size_t bytes, count;         /* of its memory; weights */
    float loss, *weights;        /* after it */
};

/* By contrastive divergence, with a norm over each image and a penalty. */
static void build_step(ebm_graph *g, ebm_val *loss, ebm_outputs *out)
{
    const int64_t shape[] = { BATCH, SIDE, SIDE, 3 }, begin[] = { 0, BATCH }, size = BATCH;
    ebm_net net = { .graph = g, .region = "energy", .training = true, .effects = out };
    ebm_val x = ebm_state(g, "x", EBM_F32, 4, shape, (ebm_init){ EBM_INIT_NORMAL, 0, 1 });
    ebm_val chains = ebm_state(g, "chains", EBM_F32, 4, shape, (ebm_init){ EBM_INIT_NORMAL, 0, 1 });
    ebm_val e = ebm_energy_net(&net, "conv:32 repeat:3(res(groupnorm:8 silu conv:32)) silu sum linear:1",
                               ebm_concat(g, 0, 2, (ebm_val[]){ x, chains }));
    ebm_val data = ebm_slice(g, e, &begin[0], &size, NULL), samples = ebm_slice(g, e, &begin[1], &size, NULL);
    ebm_optimiser sgd = ebm_sgd_defaults(1e-3, 0);

    *loss = ebm_sub(g, ebm_mean_all(g, data), ebm_mean_all(g, samples));
    *loss = ebm_add(g, *loss, ebm_scale(g, ebm_mean_all(g, ebm_square(g, e)), 0.01));
    ebm_optimise(g, "energy", ebm_grad_region(g, *loss, "energy"), &sgd, 0, out);
    ebm_output(g, out, *loss);
}

static struct outcome take_step(ebm_context *ctx, int threads, int64_t part)
{
    struct outcome step = { 0 };
    ebm_program *program = NULL;
    ebm_outputs out = { 0 };
    ebm_backend *device;
    ebm_store *store;
    ebm_graph *g;
    ebm_val loss;

    if (ebm_backend_open(ctx, "cpu", threads, &device) < 0 || ebm_store_new(device, &store) < 0
        || ebm_graph_new(store, &g) < 0)
        exit(99);
    build_step(g, &loss, &out);
    store->batch = BATCH;
    store->part = part;
    bool good = ebm_compile(g, out.count, out.list, &program) >= 0 && ebm_store_alloc(store, 1) >= 0
             && ebm_program_run(program, 1) >= 0
             && ebm_program_get(program, loss, &step.loss, sizeof step.loss) >= 0;
    if (good) {
        size_t size = tensor_bytes(&store->tensors[store_find(store, "energy")]);
        step.bytes = ebm_program_bytes(program);
        step.count = size / sizeof(float);
        step.weights = malloc(size);
        good = ebm_store_read(store, "energy", step.weights, size) >= 0;
    }
    tap_ok(good, "a step in parts of %d on %d threads", (int)part, threads);
    ebm_program_free(program);
    ebm_graph_free(g);
    ebm_store_free(store);
    ebm_backend_free(device);
    return step;
}

static void test_step(ebm_context *ctx)
{
    struct outcome whole = take_step(ctx, 1, 0);

    for (int64_t part = 2; part <= 8; part *= 2) {
        struct outcome one = take_step(ctx, 1, part), two = take_step(ctx, 2, part);
        double apart = 0;
        for (size_t i = 0; i < whole.count; i++)
            apart = fmax(apart, fabs((double)one.weights[i] - (double)whole.weights[i]));
        tap_ok(fabs(one.loss - whole.loss) <= 1e-5 * fmax(1, fabs(whole.loss)), "the same loss: %g, %g",
               (double)one.loss, (double)whole.loss);
        tap_ok(apart <= 1e-6, "the same weights: %.1e apart", apart);
        tap_ok(one.loss == two.loss && memcmp(one.weights, two.weights, one.count * sizeof(float)) == 0,
               "the same bits on two threads");
        double share = (double)one.bytes / (double)whole.bytes, rows = (double)part / (2 * BATCH);
        tap_ok(share <= rows + 0.3, "%d of %d rows at a time take %.2f of the memory", (int)part, 2 * BATCH, share);
        free(one.weights);
        free(two.weights);
    }
    free(whole.weights);
}

int main(void)
{
    ebm_context *ctx;

    if (ebm_context_new(NULL, &ctx) < 0)
        return 99;
    ebm_backend *plain = plain_open(ctx), *cpu;
    test_cases(plain);
    test_graphs(plain, "plain");
    ebm_backend_free(plain);
    if (ebm_backend_open(ctx, "cpu", 2, &cpu) < 0)
        return 99;
    test_graphs(cpu, "cpu");
    ebm_backend_free(cpu);
    test_step(ctx);
    ebm_context_free(ctx);
    return tap_done();
}
