/* test_fuse.c - random programs against the oracle: on the CPU, and on a device
 * that takes plans at their word.
 *
 * SPDX-License-Identifier: ISC
 *
 * What no list of cases finds: groups that read and write in unlucky order,
 * buffers placed over one another, epilogues, states updated in place.  On another
 * backend (device.h) there are fewer, as it may be slow to compile them. */
#include "config.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device.h"
#include "each_isa.h"
#include "plain.h"
#include "random_graph.h"
#include "store.h"
#include "tap.h"

/* Dozens of float32 operations in a row, some of which amplify. */
static const double TOLERANCE = 1e-4;
enum { SEEDS = 150, EFFECT_SEEDS = 60, RUNS = 3, THREADS_MAX = 3, GRADIENTS = 3 };

struct bench {
    ebm_context *ctx;
    ebm_backend *backend[THREADS_MAX];
};

static void open_trial(struct bench *b, struct trial *t, int threads, uint64_t seed)
{
    ebm_store *store;

    if (ebm_store_new(b->backend[threads - 1], &store) < 0)
        exit(99);
    trial_open(t, store, seed);
}

static void close_trial(struct trial *t)
{
    ebm_store *store = t->store;

    trial_close(t);
    ebm_store_free(store);
}

/* The content of a tensor as doubles. */
static double *content_of(ebm_store *store, const char *name, int64_t *count)
{
    const struct tensor *s = &store->tensors[store_find(store, name)];
    size_t size = tensor_bytes(s);
    void *bytes = malloc(size);

    *count = shape_count(&s->shape);
    double *data = malloc((size_t)*count * sizeof *data);
    if (ebm_store_read(store, name, bytes, size) < 0)
        exit(99);
    doubles_from(data, s->type, bytes, *count);
    free(bytes);
    return data;
}

/* A random graph, every third with gradients; its outputs as bytes. */
static struct answer run_graph(struct bench *b, int threads, uint64_t seed, double *error)
{
    ebm_val outputs[RANDOM_OUTPUTS + GRADIENTS];
    bool gradients = seed % 3 == 0;
    struct trial t;

    open_trial(b, &t, threads, seed);
    int n = random_graph(&t, gradients, outputs);
    if (gradients) {
        ebm_val x[GRADIENTS];
        for (int i = 0; i < GRADIENTS; i++)
            x[i] = t.in[i].val;
        ebm_gradients(t.g, outputs[0], GRADIENTS, x, outputs + n);
        n += GRADIENTS;
    }
    struct answer answer = device_run(&t, n, outputs);
    *error = NAN;
    if (answer.bytes && store_find(t.store, "r") >= 0) {
        int64_t count;
        double *r = content_of(t.store, "r", &count);
        *error = device_error(&t, n, outputs, &answer, r);
        free(r);
    } else if (answer.bytes) {
        *error = device_error(&t, n, outputs, &answer, NULL);
    }
    close_trial(&t);
    return answer;
}

static void test_graphs(struct bench *b, const char *isa, int seeds)
{
    double worst = 0;
    int bad = 0, differ = 0;

    for (int seed = 1; seed <= seeds; seed++) {
        double error, again;
        struct answer one = run_graph(b, 1, (uint64_t)seed, &error);
        struct answer more = run_graph(b, 2 + seed % 2, (uint64_t)seed, &again);
        if (!(error <= TOLERANCE)) {
            tap_note("graph %d: error %.1e", seed, error);
            bad++;
        }
        if (!one.bytes || !more.bytes || memcmp(one.bytes, more.bytes, one.size) != 0) {
            tap_note("graph %d: depends on threads", seed);
            differ++;
        }
        worst = fmax(worst, error);
        free(one.bytes);
        free(more.bytes);
    }
    tap_ok(bad == 0, "%s: %d random graphs (worst %.1e)", isa, seeds, worst);
    tap_ok(differ == 0, "%s: %d random graphs, any number of threads", isa, seeds);
}

static double distance(const double *a, const double *b, int64_t count)
{
    double worst = 0;

    for (int64_t i = 0; i < count; i++) {
        double e = fabs(a[i] - b[i]);
        worst = e <= worst || isnan(worst) ? worst : e;
    }
    return worst;
}

/* Both states after some runs, by the oracle; in place. */
static void step_oracle(struct trial *t, const ebm_val *effects, double *s, int64_t ns,
                        double *r, int64_t nr)
{
    struct oracle *o = trial_oracle(t);
    double *s2 = malloc((size_t)ns * sizeof *s2), *r2 = malloc((size_t)nr * sizeof *r2);

    oracle_slot(o, store_find(t->store, "s"), s);
    oracle_slot(o, store_find(t->store, "r"), r);
    memcpy(s2, oracle_value(o, effects[0]), (size_t)ns * sizeof *s2);
    memcpy(r2, oracle_value(o, effects[1]), (size_t)nr * sizeof *r2);
    memcpy(s, s2, (size_t)ns * sizeof *s);
    memcpy(r, r2, (size_t)nr * sizeof *r);
    oracle_free(o);
    free(s2);
    free(r2);
}

/* Largest error of the states after RUNS runs, -1 if it failed. */
static double run_effects(struct bench *b, int threads, uint64_t seed)
{
    ebm_program *program = NULL;
    ebm_val effects[2];
    struct trial t;
    double error = -1;
    int rc;

    open_trial(b, &t, threads, seed);
    random_effects(&t, effects);
    if ((rc = ebm_store_alloc(t.store, seed)) >= 0
        && (rc = ebm_compile(t.g, 2, effects, &program)) >= 0
        && (rc = device_inputs(&t, program, 2, effects)) >= 0) {
        int64_t ns, nr;
        double *s = content_of(t.store, "s", &ns), *r = content_of(t.store, "r", &nr);
        for (int i = 0; i < RUNS; i++)
            step_oracle(&t, effects, s, ns, r, nr);
        if ((rc = ebm_program_run(program, RUNS)) >= 0) {
            double *s2 = content_of(t.store, "s", &ns), *r2 = content_of(t.store, "r", &nr);
            error = fmax(distance(s, s2, ns), distance(r, r2, nr));
            free(s2);
            free(r2);
        }
        free(s);
        free(r);
    }
    if (rc < 0)
        tap_note("effects %d: %s", (int)seed, ebm_message(t.ctx));
    ebm_program_free(program);
    close_trial(&t);
    return error;
}

static void test_effects(struct bench *b, const char *isa, int seeds)
{
    double worst = 0;
    int bad = 0;

    for (int seed = 1; seed <= seeds; seed++) {
        double error = run_effects(b, 1 + seed % 3, 7000 + (uint64_t)seed);
        if (!(error >= 0 && error <= TOLERANCE)) {
            tap_note("effects %d: error %.1e", seed, error);
            bad++;
        }
        worst = fmax(worst, error);
    }
    tap_ok(bad == 0, "%s: %d random updates of states, %d runs each (worst %.1e)",
           isa, seeds, RUNS, worst);
}

/* Rules by which even small steps are done block by block. */
static const struct strip_rules SMALL_BLOCKS = { .block_bytes = 2048, .least_blocks = 1 };

static void test_isa(const char *isa)
{
    struct bench b = { NULL, { NULL } };
    bool base = strcmp(isa, "base") == 0;
    char strips[64];

    if (ebm_context_new(NULL, &b.ctx) < 0)
        exit(99);
    for (int k = 0; k < THREADS_MAX; k++)
        if (ebm_backend_open(b.ctx, "cpu", k + 1, &b.backend[k]) < 0) {
            tap_ok(false, "%s: %s", isa, ebm_message(b.ctx));
            return;
        }
    test_graphs(&b, isa, base ? SEEDS / 4 : SEEDS);
    test_effects(&b, isa, base ? EFFECT_SEEDS / 4 : EFFECT_SEEDS);
    snprintf(strips, sizeof strips, "%s in strips", isa);
    for (int k = 0; k < THREADS_MAX; k++)
        b.backend[k]->strips = SMALL_BLOCKS;
    test_graphs(&b, strips, base ? SEEDS / 4 : SEEDS);
    test_effects(&b, strips, base ? EFFECT_SEEDS / 4 : EFFECT_SEEDS);
    for (int k = 0; k < THREADS_MAX; k++)
        ebm_backend_free(b.backend[k]);
    ebm_context_free(b.ctx);
}

/* Plans alone, without the CPU's arithmetic. */
static void test_plans(void)
{
    struct bench b = { NULL, { NULL } };

    if (ebm_context_new(NULL, &b.ctx) < 0)
        exit(99);
    for (int k = 0; k < THREADS_MAX; k++)
        b.backend[k] = plain_open(b.ctx);
    test_graphs(&b, "plain", SEEDS);
    test_effects(&b, "plain", EFFECT_SEEDS);
    for (int k = 0; k < THREADS_MAX; k++)
        ebm_backend_free(b.backend[k]);
    ebm_context_free(b.ctx);
}

/* A device that has float32 only says so. */
static void test_precision(void)
{
    const int64_t shape[] = { 2, 2 };
    ebm_context *ctx;
    ebm_store *store;
    ebm_graph *g;
    ebm_program *program;

    if (ebm_context_new(NULL, &ctx) < 0)
        exit(99);
    ebm_backend *plain = plain_open(ctx);
    if (ebm_store_new(plain, &store) < 0 || ebm_graph_new(store, &g) < 0)
        exit(99);
    ebm_val a = ebm_feed(g, "a", EBM_F32, 2, shape), y = ebm_matmul(g, a, a, false, false);
    ebm_store_precision(store, EBM_BF16);
    tap_ok(ebm_compile(g, 1, &y, &program) == EBM_ERR_DEVICE && !program
           && strstr(ebm_message(ctx), "bf16"), "bf16 is refused where there is none: %s", ebm_message(ctx));
    ebm_graph_free(g);
    ebm_store_free(store);
    ebm_backend_free(plain);
    ebm_context_free(ctx);
}

static void test_device(const char *name)
{
    struct bench b = { NULL, { NULL } };

    if (ebm_context_new(NULL, &b.ctx) < 0)
        exit(99);
    b.backend[0] = device_backend(b.ctx, name);
    for (int k = 1; k < THREADS_MAX; k++)
        b.backend[k] = b.backend[0];
    test_graphs(&b, name, SEEDS / 10);
    test_effects(&b, name, EFFECT_SEEDS / 4);
    ebm_backend_free(b.backend[0]);
    ebm_context_free(b.ctx);
}

int main(void)
{
    if (device_name()) {
        test_device(device_name());
        return tap_done();
    }
    test_precision();
    test_plans();
    each_isa(test_isa);
    return tap_done();
}
