/* test_cdrl_nets.c - the networks of diffusion recovery likelihood: against
 * PyTorch, in their published sizes, and what their descriptions promise.
 *
 * SPDX-License-Identifier: ISC
 *
 * The files and the script that makes them are in tests/golden.  Each case is
 * evaluated by the oracle, in double precision, and on the CPU. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "faults.h"
#include "golden.h"
#include "nets/cdrl.h"
#include "tap.h"

static const double PI = 3.14159265358979323846;

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);

    return n >= m && strcmp(name + n - m, end) == 0;
}

/* Gains are near 1.  DRL: maps that stay below norm 1 are among those that may. */
static void change(const char *name, int rank, double *factor, double *addend)
{
    const char *dot = strrchr(name, '.');
    bool norm = dot && ((dot - name >= 4 && strncmp(dot - 4, "norm", 4) == 0)
                     || (dot - name >= 5 && strncmp(dot - 5, "norm", 4) == 0));

    if (rank == 1 && (ends_with(name, ".g") || (norm && ends_with(name, ".weight"))))
        *addend = 1;
    if (strcmp(name, "res_levels.0.0.conv2d_2.W") == 0)
        *factor = 0.1;
}

/* A constant of the graph's user: a vector [n]. */
static ebm_val numbers(ebm_graph *g, int64_t n, const double *a)
{
    ebm_val i = ebm_iota(g, 1, &n, 0), sum = ebm_fill(g, i, 0);

    for (int64_t j = 0; j < n; j++)
        sum = ebm_add(g, sum, ebm_scale(g, ebm_equal(g, i, ebm_fill(g, i, (double)j)), (double)(float)a[j]));
    return sum;
}

static double *made(const char *name, int64_t count)
{
    double *a = malloc((size_t)count * sizeof *a);

    for (int64_t i = 0; a && i < count; i++)
        a[i] = golden_number(name, (uint64_t)i);
    return a;
}

/* sum value(name) a, as the scripts weigh what they differentiate. */
static ebm_val weighted(struct golden *t, const char *name, ebm_val a)
{
    const struct shape *s = &node_of(t->g, a)->shape;

    return ebm_sum_all(t->g, ebm_mul(t->g, a, ebm_feed(t->g, name, EBM_F32, s->rank, s->n)));
}

static void feed_made(struct golden *t, const char *name, int64_t count)
{
    double *a = made(name, count);

    golden_feed(t, name, a, count);
    free(a);
}

/* The vectors of spectral norm from the file ("after.") or as the script made
 * them at first. */
static void give_vectors(struct golden *t, bool after)
{
    for (int i = 0; i < t->store->count; i++) {
        const struct tensor *tensor = &t->store->tensors[i];
        int64_t count = shape_count(&tensor->shape);
        char name[256];

        if (tensor->region || strncmp(tensor->name, "net/", 4) != 0)
            continue;
        snprintf(name, sizeof name, "after.%s", tensor->name + 4);
        double *a = after ? golden_tensor(t, name, &count) : made(tensor->name + 4, count);
        golden_put(t, tensor->name, a, count);
        free(a);
    }
}

static double vector_error(struct golden *t)
{
    double worst = 0;
    int vectors = 0, expected = 0;

    for (int i = 0; i < safetensors_count(t->file); i++) {
        const char *name = safetensors_at(t->file, i)->name;
        int64_t count;
        char full[256];

        if (strncmp(name, "after.", 6) != 0)
            continue;
        expected++;
        snprintf(full, sizeof full, "net/%s", name + 6);
        double *a = golden_tensor(t, name, &count), *is = golden_state(t, full);
        worst = fmax(worst, relative_error(is, a, count, 0));
        free(a);
        free(is);
    }
    for (int i = 0; i < t->store->count; i++)
        vectors += !t->store->tensors[i].region;
    return vectors == expected ? worst : 1;
}

static const char *by(const struct golden *t)
{
    return t->backend ? "the CPU" : "the oracle";
}

/* ---- log densities of CDRL ---- */

struct density_case {
    const char *name;
    struct cdrl_energy_spec spec;
    int rank;
    int64_t shape[4];
    double levels[5], labels[5];
    int iterations;
};

static const struct density_case densities[] = {
    { "cdrl", { .width = 4, .blocks = 2, .multipliers = { 1, 2, 2 }, .labels = 3 }, 4, { 3, 9, 10, 3 },
      { 9.8, -0.876073, 1.19688 }, { 2, 0, 3 }, 3 },
    { "cdrl-swish", { .width = 4, .blocks = 1, .multipliers = { 1, 2 }, .swish = true, .quadratic = true },
      4, { 2, 4, 6, 3 }, { -2.172388, 2.68882 }, { 0 }, 1 },
    { "cdrl-points", { .width = 4, .blocks = 1, .multipliers = { 1, 2 } }, 2, { 5, 2 },
      { 9.8, 2.68882, 1.19688, 0.141071, -0.876073 }, { 0 }, 3 },
};

static void check_training(ebm_context *ctx, ebm_backend *backend, const struct density_case *c,
                           double tolerance)
{
    struct golden t;
    ebm_outputs out = { 0 };

    golden_open(&t, ctx, backend, c->name);
    ebm_net net = { .graph = t.g, .region = "net", .training = true, .effects = &out };
    ebm_val x = ebm_feed(t.g, "x", EBM_F32, c->rank, c->shape);
    ebm_val labels = c->spec.labels ? numbers(t.g, c->shape[0], c->labels) : 0;
    ebm_val n = cdrl_log_density(&net, &c->spec, x, numbers(t.g, c->shape[0], c->levels), labels);
    ebm_val loss = weighted(&t, "dn", n);
    ebm_val dx = ebm_grad(t.g, loss, x), dw = ebm_grad_region(t.g, loss, "net");
    ebm_output(t.g, &out, n);
    ebm_output(t.g, &out, dx);
    ebm_output(t.g, &out, dw);
    golden_ready(&t, &out);
    golden_weights(&t, change);
    give_vectors(&t, false);
    for (int i = 0; i < c->iterations; i++) {
        feed_made(&t, "x", shape_count(&node_of(t.g, x)->shape));
        feed_made(&t, "dn", c->shape[0]);
        golden_run(&t, &out);
    }
    double of_n = golden_error(&t, "n", n), of_x = golden_error(&t, "dx", dx);
    double of_w = golden_gradient_error(&t, dw), of_u = vector_error(&t);
    tap_ok(of_n < tolerance && of_x < tolerance && of_w < tolerance && of_u < tolerance,
           "%s by %s: log densities %.1e, gradients by images %.1e and weights %.1e, vectors after "
           "%d iterations %.1e", c->name, by(&t), of_n, of_x, of_w, c->iterations, of_u);
    golden_close(&t);
}

/* Outside training: one level and one label for all; the vectors stay. */
static void check_rest(ebm_context *ctx, ebm_backend *backend, const struct density_case *c,
                       double tolerance)
{
    struct golden t;
    ebm_outputs out = { 0 };

    golden_open(&t, ctx, backend, c->name);
    ebm_net net = { .graph = t.g, .region = "net", .frozen = true };
    ebm_val x = ebm_feed(t.g, "x", EBM_F32, c->rank, c->shape);
    ebm_val labels = c->spec.labels ? numbers(t.g, 1, c->labels) : 0;
    ebm_val n = cdrl_log_density(&net, &c->spec, x, numbers(t.g, 1, c->levels), labels);
    ebm_val dx = ebm_grad(t.g, weighted(&t, "dn", n), x);
    ebm_output(t.g, &out, n);
    ebm_output(t.g, &out, dx);
    golden_ready(&t, &out);
    golden_weights(&t, change);
    give_vectors(&t, true);
    for (int i = 0; i < 2; i++) {
        feed_made(&t, "x", shape_count(&node_of(t.g, x)->shape));
        feed_made(&t, "dn", c->shape[0]);
        golden_run(&t, &out);
    }
    double of_n = golden_error(&t, "rest.n", n), of_x = golden_error(&t, "rest.dx", dx);
    double of_u = vector_error(&t);
    tap_ok(of_n < tolerance && of_x < tolerance && of_u < 1e-7, "%s by %s, outside training: log "
           "densities %.1e, input gradient %.1e, vectors unchanged", c->name, by(&t), of_n, of_x);
    golden_close(&t);
}

/* ---- DRL ---- */

/* x and then x / 2, each with its own power iteration. */
static void check_drl(ebm_context *ctx, ebm_backend *backend, double tolerance)
{
    const struct cdrl_energy_spec first = { .width = 4, .blocks = 1, .multipliers = { 1, 2, 2 },
                                            .drl = true, .attention = 2 };
    const int64_t shape[4] = { 3, 8, 8, 3 };
    struct cdrl_energy_spec second = first;
    struct golden t;
    ebm_outputs out = { 0 };

    second.calls = 2;
    golden_open(&t, ctx, backend, "drl");
    ebm_net leads = { .graph = t.g, .region = "net" }, follows = leads;
    follows.effects = &out;
    ebm_val x = ebm_feed(t.g, "x", EBM_F32, 4, shape), level = numbers(t.g, 3, (double[]){ 0, 3, 5 });
    ebm_val a = cdrl_log_density(&leads, &first, x, level, 0);
    ebm_val b = cdrl_log_density(&follows, &second, ebm_scale(t.g, x, 0.5), level, 0);
    ebm_val loss = weighted(&t, "dn", ebm_sub(t.g, a, b));
    ebm_val dx = ebm_grad(t.g, loss, x), dw = ebm_grad_region(t.g, loss, "net");
    ebm_output(t.g, &out, a);
    ebm_output(t.g, &out, b);
    ebm_output(t.g, &out, dx);
    ebm_output(t.g, &out, dw);
    golden_ready(&t, &out);
    golden_weights(&t, change);
    give_vectors(&t, false);
    feed_made(&t, "x", shape_count(&node_of(t.g, x)->shape));
    feed_made(&t, "dn", shape[0]);
    golden_run(&t, &out);
    double of_a = golden_error(&t, "n", a), of_b = golden_error(&t, "second.n", b);
    double of_x = golden_error(&t, "dx", dx), of_w = golden_gradient_error(&t, dw), of_u = vector_error(&t);
    tap_ok(of_a < tolerance && of_b < tolerance && of_x < tolerance && of_w < tolerance
           && of_u < tolerance, "drl by %s: log densities of two calls %.1e and %.1e, gradients by images "
           "%.1e and weights %.1e, vectors after both %.1e", by(&t), of_a, of_b, of_x, of_w, of_u);
    golden_close(&t);
}

/* ---- proposals ---- */

struct proposal_case {
    const char *name;
    struct cdrl_proposal_spec spec;
    int rank;
    int64_t shape[4];
    double levels[5], labels[5];
};

static const struct proposal_case proposals[] = {
    { "cdrl-proposal", { .width = 4, .stages = 2, .blocks = 2, .attention = 2, .groups = 2, .labels = 3,
      .dropout = 0.25 }, 4, { 3, 4, 6, 3 }, { -5.1, 0.141071, 2.68882 }, { 2, 0, 3 } },
    { "cdrl-proposal-points", { .width = 8, .blocks = 2, .groups = 4 }, 2, { 5, 2 },
      { -5.1, 2.68882, 1.19688, 0.141071, -0.876073 }, { 0 } },
};

/* The counter of the script's RANDOM. */
static void give_counter(struct golden *t)
{
    static const int32_t counter[4] = { 11, 22, 33, 44 };
    static const double same[4] = { 11, 22, 33, 44 };

    if (!t->backend)
        golden_put(t, "rng", same, 4);
    else if (ebm_store_write(t->store, "rng", counter, sizeof counter) < 0)
        tap_ok(false, "the counter: %s", ebm_message(t->ctx));
}

static void check_proposal(ebm_context *ctx, ebm_backend *backend, const struct proposal_case *c,
                           double tolerance)
{
    const ebm_init zero = { EBM_INIT_CONST, 0, 0 };
    struct golden t;
    ebm_outputs out = { 0 };

    golden_open(&t, ctx, backend, c->name);
    ebm_net net = { .graph = t.g, .region = "net", .training = true }, resting = net;
    net.counter = resting.counter = ebm_state(t.g, "rng", EBM_I32, 1, (int64_t[]){ 4 }, zero);
    resting.training = false;
    ebm_val x = ebm_feed(t.g, "x", EBM_F32, c->rank, c->shape);
    ebm_val level = numbers(t.g, c->shape[0], c->levels);
    ebm_val labels = c->spec.labels ? numbers(t.g, c->shape[0], c->labels) : 0;
    ebm_val y = cdrl_proposal(&net, &c->spec, x, level, labels);
    ebm_val rest = cdrl_proposal(&resting, &c->spec, x, level, labels);
    ebm_val loss = weighted(&t, "dy", y);
    ebm_val dx = ebm_grad(t.g, loss, x), dw = ebm_grad_region(t.g, loss, "net");
    ebm_output(t.g, &out, y);
    ebm_output(t.g, &out, rest);
    ebm_output(t.g, &out, dx);
    ebm_output(t.g, &out, dw);
    golden_ready(&t, &out);
    golden_weights(&t, change);
    give_counter(&t);
    feed_made(&t, "x", shape_count(&node_of(t.g, x)->shape));
    feed_made(&t, "dy", shape_count(&node_of(t.g, x)->shape));
    golden_run(&t, &out);
    double of_y = golden_error(&t, "y", y), of_rest = golden_error(&t, "rest.y", rest);
    double of_x = golden_error(&t, "dx", dx), of_w = golden_gradient_error(&t, dw);
    tap_ok(of_y < tolerance && of_rest < tolerance && of_x < tolerance && of_w < tolerance,
           "%s by %s: with dropout %.1e, without %.1e, gradients by images %.1e and weights %.1e",
           c->name, by(&t), of_y, of_rest, of_x, of_w);
    golden_close(&t);
}

/* ---- sizes ---- */

#define PUBLISHED .width = 128, .multipliers = { 1, 2, 2, 2 }
#define INITIALIZER .width = 64, .stages = 3, .attention = 6, .dropout = 0.1

static const struct size_case {
    const char *name;
    struct cdrl_energy_spec energy;        /* or, of width 0: */
    struct cdrl_proposal_spec proposal;
    int rank;
    int64_t size, parameters;
    int tensors;
    int64_t states;                        /* elements of spectral norm's vectors; -1: not known */
} sizes[] = {
    { "CDRL, CIFAR-10", { PUBLISHED, .blocks = 8 }, { 0 }, 4, 32, 34833152, 233, 168987 },
    { "CDRL, ImageNet 32x32 with labels", { PUBLISHED, .blocks = 8, .labels = 1000 }, { 0 }, 4, 32, 35346176,
      235, 168987 + 512 + 1001 },
    { "CDRL of width 256", { .width = 256, .multipliers = { 1, 2, 2, 2 }, .blocks = 8 }, { 0 }, 4, 32,
      139265536, 233, -1 },
    { "DRL, CIFAR-10", { PUBLISHED, .blocks = 8, .drl = true }, { 0 }, 4, 32, 34833408, 234, -1 },
    /* by summing their layers */
    { "DRL, CelebA 64x64", { .width = 128, .multipliers = { 1, 2, 2, 2, 4 }, .blocks = 6, .drl = true }, { 0 },
      4, 64, 56269568, 222, -1 },
    { "DRL, LSUN 128x128", { .width = 128, .multipliers = { 1, 2, 2, 2, 4, 4 }, .blocks = 5, .drl = true },
      { 0 }, 4, 128, 71904512, 222, -1 },
    { "CDRL, toy", { PUBLISHED, .blocks = 1 }, { 0 }, 2, 2, 1217920, 37, -1 },
    { "initializer, CIFAR-10", { 0 }, { INITIALIZER, .blocks = 3 }, 4, 32, 3769795, 394, 0 },
    /* the published count of 306 tensors is with the label's two */
    { "initializer, ImageNet 32x32 with labels", { 0 }, { INITIALIZER, .blocks = 2, .labels = 1000 }, 4, 32,
      3181443, 306, 0 },
    { "initializer, toy", { 0 }, { .width = 64, .blocks = 1 }, 2, 2, 58432, 17, 0 },
};

static void check_size(ebm_context *ctx, const struct size_case *c)
{
    const int64_t image[4] = { 1, c->size, c->size, 3 }, point[2] = { 1, c->size };
    int64_t count = 0, states = 0;
    struct golden t;
    int tensors = 0;

    golden_open(&t, ctx, NULL, NULL);
    ebm_net net = { .graph = t.g, .region = "net" };
    ebm_val x = ebm_feed(t.g, "x", EBM_F32, c->rank, c->rank == 4 ? image : point);
    ebm_val level = numbers(t.g, 1, (double[]){ 1 });
    bool told = c->energy.labels || c->proposal.labels;
    if (c->energy.width)
        cdrl_log_density(&net, &c->energy, x, level, told ? level : 0);
    else
        cdrl_proposal(&net, &c->proposal, x, level, told ? level : 0);
    for (int i = 0; ebm_graph_status(t.g) >= 0 && i < t.store->count; i++) {
        const struct tensor *tensor = &t.store->tensors[i];
        *(tensor->region ? &count : &states) += shape_count(&tensor->shape);
        tensors += tensor->n_parts;
    }
    tap_ok(count == c->parameters && tensors == c->tensors && (c->states < 0 || states == c->states),
           "%s: %lld parameters in %d tensors, %lld elements of vectors", c->name, (long long)count,
           tensors, (long long)states);
    golden_close(&t);
}

/* ---- what they are told ---- */

/* The numbers of the levels, and their embeddings' first and last elements. */
static void check_levels(ebm_context *ctx)
{
    static const double snr[] = { 9.8, 2.688820, 1.196880, 0.141071, -0.876073, -2.172388, -5.1, 0, 30, -30 };
    static const double of_128[][2] = { { 0, -0.999603 }, { 1, -0.815846 }, { 2, -0.386762 },
        { 63, 0.000474 }, { 64, 0.028161 }, { 65, -0.578269 }, { 127, 1 } };
    struct golden t;
    ebm_outputs out = { 0 };
    double worst = 0, off = 0;

    golden_open(&t, ctx, NULL, NULL);
    ebm_val l = ebm_feed(t.g, "l", EBM_F32, 1, (int64_t[]){ COUNT(snr) });
    ebm_val c = cdrl_noise_level(t.g, l), e = ebm_sinusoidal(t.g, c, 128, 10000);
    ebm_output(t.g, &out, c);
    ebm_output(t.g, &out, e);
    golden_ready(&t, &out);
    golden_feed(&t, "l", snr, COUNT(snr));
    golden_run(&t, &out);
    double *of_c = golden_value(&t, c), *of_e = golden_value(&t, e);
    for (size_t i = 0; i < COUNT(snr); i++) {
        double want = 1000 * atan(exp(-fmin(fmax(snr[i], -20), 20) / 2)) / (PI / 2);
        worst = fmax(worst, fabs(of_c[i] - want) / want);
    }
    tap_ok(worst < 1e-9, "numbers of levels are %.1e from the arctangent", worst);
    for (size_t i = 0; i < COUNT(of_128); i++)
        off = fmax(off, fabs(of_e[(int)of_128[i][0]] - of_128[i][1]));
    tap_ok(off < 1e-6, "their embedding is %.1e from published figures", off);
    free(of_c);
    free(of_e);
    golden_close(&t);
}

/* ---- at the start ---- */

/* A proposal is x plus one number by channel, whatever x and the level are. */
static void check_start(ebm_context *ctx, ebm_backend *cpu)
{
    const struct cdrl_proposal_spec spec = { .width = 8, .stages = 2, .blocks = 1, .attention = 3, .groups = 4 };
    const int64_t shape[4] = { 2, 4, 4, 3 };
    struct golden t;
    ebm_outputs out = { 0 };
    double worst = 0;

    golden_open(&t, ctx, cpu, NULL);
    ebm_net net = { .graph = t.g, .region = "net" };
    ebm_val x = ebm_feed(t.g, "x", EBM_F32, 4, shape);
    ebm_val y = cdrl_proposal(&net, &spec, x, numbers(t.g, 2, (double[]){ 2, -3 }), 0);
    ebm_val change = ebm_sub(t.g, y, x);
    ebm_output(t.g, &out, change);
    golden_ready(&t, &out);
    feed_made(&t, "x", 2 * 4 * 4 * 3);
    golden_run(&t, &out);
    double *is = golden_value(&t, change), *bias = golden_state(&t, "net/final_conv.bias");
    for (int i = 0; i < 2 * 4 * 4 * 3; i++)
        worst = fmax(worst, fabs(is[i] - bias[i % 3]));
    tap_ok(worst < 1e-6 && bias[0] != 0, "at the start a proposal is x and a bias by channel");
    free(is);
    free(bias);
    golden_close(&t);
}

/* Of all weights: the bound of their uniform distribution is reached and kept. */
static void check_weights(ebm_context *ctx, ebm_backend *cpu, bool drl)
{
    const struct cdrl_energy_spec spec = { .width = 32, .blocks = 1, .multipliers = { 1, 2 }, .drl = drl };
    struct golden t;
    int wrong = 0, seen = 0;

    golden_open(&t, ctx, cpu, NULL);
    ebm_net net = { .graph = t.g, .region = "net" };
    ebm_val x = ebm_feed(t.g, "x", EBM_F32, 4, (int64_t[]){ 1, 4, 4, 3 });
    ebm_val n = cdrl_log_density(&net, &spec, x, numbers(t.g, 1, (double[]){ 2 }), 0);
    golden_ready(&t, &(ebm_outputs){ .count = 1, .list = { n } });
    const struct tensor *region = &t.store->tensors[store_find(t.store, "net")];
    for (int i = 0; i < region->n_parts; i++) {
        const struct part *part = &region->parts[i];
        const struct shape *s = &part->shape;
        double taps = s->rank == 4 ? 9 : 1, bound, largest = 0;
        char name[256];

        if (s->rank == 1)
            continue;
        snprintf(name, sizeof name, "net/%s", part->name);
        double *w = golden_state(&t, name);
        for (int64_t j = 0; j < shape_count(s); j++)
            largest = fmax(largest, fabs(w[j]));
        if (drl)
            bound = sqrt(6 * (strstr(part->name, "conv2d_2") ? 1e-10 : 1)
                         / (taps * (double)(s->n[0] + s->n[s->rank - 1])));
        else
            bound = 1 / sqrt(taps * (double)s->n[s->rank - 1]);
        seen++;
        if (largest > bound * (1 + 1e-6) || largest < 0.9 * bound) {
            tap_note("%s: up to %g, not %g", part->name, largest, bound);
            wrong++;
        }
        free(w);
    }
    tap_ok(seen > 10 && wrong == 0, "%s: %d weights start within their bounds", drl ? "DRL" : "CDRL", seen);
    golden_close(&t);
}

/* ---- refusals ---- */

static void check_refusals(ebm_context *ctx)
{
    static const struct {
        struct cdrl_energy_spec energy;
        struct cdrl_proposal_spec proposal;
        int64_t side, levels;
        bool labels;
        const char *why;
    } wrong[] = {
        { { .width = 5, .blocks = 1, .multipliers = { 1 } }, { 0 }, 8, 1, false, "odd width" },
        { { .width = 4, .multipliers = { 1 } }, { 0 }, 8, 1, false, "no blocks" },
        { { .width = 4, .blocks = 1 }, { 0 }, 8, 1, false, "no stages" },
        { { .width = 4, .blocks = 1, .multipliers = { 1, -2 } }, { 0 }, 8, 1, false, "a negative multiplier" },
        { { .width = 4, .blocks = 1, .multipliers = { 1, 2, 2 } }, { 0 }, 3, 1, false, "a small image" },
        { { .width = 4, .blocks = 1, .multipliers = { 1 } }, { 0 }, 8, 3, false, "three levels for two images" },
        { { .width = 4, .blocks = 1, .multipliers = { 1 } }, { 0 }, 8, 1, true, "labels unasked" },
        { { .width = 4, .blocks = 1, .multipliers = { 1 }, .labels = 2 }, { 0 }, 8, 1, false, "no labels" },
        { { 0 }, { .width = 8, .stages = 2, .blocks = 1 }, 8, 1, false, "a width that 32 groups do not divide" },
        { { 0 }, { .width = 32, .stages = 3, .blocks = 1 }, 6, 1, false, "sides that cannot be halved" },
        { { 0 }, { .width = 32, .stages = 2 }, 8, 1, false, "no blocks" },
        { { 0 }, { .width = 32, .blocks = 1 }, 8, 1, false, "no stages" },
        { { 0 }, { .width = 32, .stages = 1, .blocks = 1, .dropout = 1 }, 8, 1, false, "dropout of all" },
    };

    for (size_t i = 0; i < COUNT(wrong); i++) {
        struct golden t;
        golden_open(&t, ctx, NULL, NULL);
        ebm_net net = { .graph = t.g, .region = "net" };
        ebm_val x = ebm_feed(t.g, "x", EBM_F32, 4, (int64_t[]){ 2, wrong[i].side, wrong[i].side, 1 });
        ebm_val level = ebm_iota(t.g, 1, &wrong[i].levels, 0), labels = wrong[i].labels ? level : 0;
        if (wrong[i].energy.width)
            cdrl_log_density(&net, &wrong[i].energy, x, level, labels);
        else
            cdrl_proposal(&net, &wrong[i].proposal, x, level, labels);
        tap_ok(ebm_graph_status(t.g) == EBM_ERR_ARG, "refused, %s: %s", wrong[i].why, ebm_message(ctx));
        golden_close(&t);
    }
}

/* ---- memory ---- */

/* Both networks and DRL's, with gradients: the first failure's status. */
static int built(ebm_context *ctx)
{
    const struct cdrl_energy_spec energy = { .width = 4, .blocks = 1, .multipliers = { 1, 2 }, .labels = 2 };
    const struct cdrl_energy_spec drl = { .width = 4, .blocks = 1, .multipliers = { 1, 2 }, .drl = true,
                                          .attention = 1 };
    const struct cdrl_proposal_spec proposal = { .width = 4, .stages = 2, .blocks = 1, .attention = 1,
                                                 .groups = 2, .dropout = 0.1 };
    struct ebm_backend nothing = { .ctx = ctx };
    ebm_store *store = NULL;
    ebm_graph *g = NULL;
    ebm_outputs out = { 0 };
    int rc;

    if ((rc = ebm_store_new(&nothing, &store)) < 0 || (rc = ebm_graph_new(store, &g)) < 0)
        goto end;
    ebm_net net = { .graph = g, .region = "energy", .training = true, .effects = &out };
    ebm_val x = ebm_feed(g, "x", EBM_F32, 4, (int64_t[]){ 2, 4, 4, 3 });
    ebm_val level = ebm_iota(g, 1, (int64_t[]){ 2 }, 0);
    net.counter = ebm_state(g, "rng", EBM_I32, 1, (int64_t[]){ 4 }, (ebm_init){ EBM_INIT_CONST, 0, 0 });
    ebm_val n = cdrl_log_density(&net, &energy, x, level, level);
    ebm_grad_region(g, ebm_sum_all(g, n), "energy");
    net.region = "drl";
    ebm_grad_region(g, ebm_sum_all(g, cdrl_log_density(&net, &drl, x, level, 0)), "drl");
    net.region = "proposal";
    ebm_grad_region(g, ebm_sum_all(g, cdrl_proposal(&net, &proposal, x, level, 0)), "proposal");
    rc = ebm_graph_status(g);
end:
    ebm_graph_free(g);
    ebm_store_free(store);
    return rc;
}

static void check_memory(void)
{
    struct faults f = { .left = -1 };
    ebm_host host = fault_host(&f);
    int wrong = 0, leaks = 0, rc;
    long n;

    for (n = 0; ; n++) {
        ebm_context *ctx;
        fault_arm(&f, n);
        rc = ebm_context_new(&host, &ctx);
        if (rc >= 0)
            rc = built(ctx);
        wrong += f.fired && rc != EBM_ERR_NOMEM;
        ebm_context_free(ctx);
        leaks += f.live != 0;
        f.live = 0;
        if (!f.fired)
            break;
    }
    tap_ok(rc >= 0 && wrong == 0 && leaks == 0,
           "each of %ld allocations that fails is reported, and nothing is lost", n);
}

int main(void)
{
    ebm_context *ctx;
    ebm_backend *cpu;

    if (ebm_context_new(NULL, &ctx) < 0)
        return 1;
    check_levels(ctx);
    for (size_t i = 0; i < COUNT(sizes); i++)
        check_size(ctx, &sizes[i]);
    check_refusals(ctx);
    check_memory();
    if (ebm_backend_open(ctx, "cpu", 1, &cpu) < 0) {
        tap_ok(false, "the CPU opens: %s", ebm_message(ctx));
        return tap_done();
    }
    for (int on_cpu = 0; on_cpu < 2; on_cpu++) {
        ebm_backend *backend = on_cpu ? cpu : NULL;
        /* a float near 500, as levels are embedded by, is off by 3e-5: so are its
         * sine and cosine */
        double tolerance = on_cpu ? 3e-5 : 1e-6;
        for (size_t i = 0; i < COUNT(densities); i++) {
            check_training(ctx, backend, &densities[i], tolerance);
            check_rest(ctx, backend, &densities[i], tolerance);
        }
        check_drl(ctx, backend, tolerance);
        for (size_t i = 0; i < COUNT(proposals); i++)
            check_proposal(ctx, backend, &proposals[i], tolerance);
    }
    check_start(ctx, cpu);
    check_weights(ctx, cpu, false);
    check_weights(ctx, cpu, true);
    ebm_backend_free(cpu);
    ebm_context_free(ctx);
    return tap_done();
}
