/* test_golden.c - networks against PyTorch: outputs, states, first and second
 * derivatives.
 *
 * SPDX-License-Identifier: ISC
 *
 * The files and the script that makes them are in tests/golden.  Each network
 * is evaluated by the oracle, in double precision, and on the CPU. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"
#include "tap.h"

/* What is compared, and what a builder is given. */
struct network {
    ebm_net net;
    const char *text;            /* of the metadata */
    ebm_val x, t;
    ebm_val y, loss;             /* made by the builder; loss 0: sum(dy y) */
};

static void described(struct network *b)
{
    b->y = ebm_sequential(&b->net, b->text, b->x);
}

static void film(struct network *b)
{
    ebm_graph *g = b->net.graph;
    ebm_net *net = &b->net;
    ebm_val e = ebm_linear(net, "embed", ebm_sinusoidal(g, b->t, 8, 10000), &(ebm_layer){ .out = 10 });
    ebm_val h = ebm_conv_layer(net, "conv", b->x,
                               &(ebm_layer){ .out = 6, .kernel = 3, .pad = 1 });

    h = ebm_silu(g, ebm_film(net, "film", h, ebm_silu(g, e), 1));
    h = ebm_reshape(g, ebm_mean(g, h, 1u << 1 | 1u << 2), 2, (int64_t[]){ -1, 6 });
    b->y = ebm_linear(net, "linear", h, &(ebm_layer){ .out = 1 });
}

static void softmax(struct network *b)
{
    ebm_graph *g = b->net.graph;
    ebm_val features = ebm_reshape(g, b->x, 2, (int64_t[]){ 3, 12 });
    ebm_val z = ebm_scale(g, ebm_linear(&b->net, "linear", features, &(ebm_layer){ .out = 7 }), 4);

    b->y = ebm_concat(g, 1, 2, (ebm_val[]){ ebm_logsumexp(g, z, 1), ebm_softmax(g, z, 1) });
}

static ebm_val slope(struct network *b)
{
    ebm_graph *g = b->net.graph;
    ebm_val energy = ebm_energy_net(&b->net, b->text, b->x);

    return ebm_grad(g, ebm_sum_all(g, energy), b->x);
}

/* The mean over images of |dE/dx|^2. */
static void r1_penalty(struct network *b)
{
    ebm_graph *g = b->net.graph;
    int64_t n[EBM_MAX_RANK];

    ebm_shape(g, b->x, n);
    b->y = slope(b);
    b->loss = ebm_scale(g, ebm_sum_all(g, ebm_square(g, b->y)), 1 / (double)n[0]);
}

/* The energy, held fixed, of where a Langevin step without noise leads. */
static void langevin_step(struct network *b)
{
    ebm_graph *g = b->net.graph;
    ebm_net fixed = b->net;

    b->y = ebm_sub(g, b->x, ebm_scale(g, slope(b), 10));
    fixed.frozen = true;
    b->loss = ebm_mean_all(g, ebm_energy_net(&fixed, b->text, b->y));
}

static const struct {
    const char *name;
    void (*build)(struct network *b);
} networks[] = {
    { "residual", described },
    { "attention", described },
    { "attention-block", described },
    { "spectral-norm-training", described },
    { "spectral-norm-evaluation", described },
    { "group-norm", described },
    { "layer-norm", described },
    { "instance-norm", described },
    { "batch-norm-training", described },
    { "batch-norm-frozen", described },
    { "conv-transpose", described },
    { "conv", described },
    { "pooling", described },
    { "resampling", described },
    { "film", film },
    { "softmax", softmax },
    { "r1-penalty", r1_penalty },
    { "langevin-step", langevin_step },
};

/* Tensors of the file whose names start with a prefix go to the store. */
static void put_all(struct golden *t, const char *prefix)
{
    size_t n = strlen(prefix);

    for (int i = 0; i < safetensors_count(t->file); i++) {
        const char *name = safetensors_at(t->file, i)->name;
        char full[256];
        int64_t count;
        double *data;

        if (strncmp(name, prefix, n) != 0)
            continue;
        snprintf(full, sizeof full, "net/%s", name + n);
        data = golden_tensor(t, name, &count);
        golden_put(t, full, data, count);
        free(data);
    }
}

/* Compare a value, or where value is NULL the state, with a tensor of the file. */
static double error_of(struct golden *t, const char *name, const double *value, double least)
{
    int64_t count;
    double *expected = golden_tensor(t, name, &count);
    double *state = value ? NULL : golden_state(t, name);
    double error = relative_error(value ? value : state, expected, count, least);

    free(expected);
    free(state);
    return error;
}

static void give(struct golden *t, const char *feed, const char *tensor)
{
    int64_t count;
    double *data = golden_tensor(t, tensor, &count);

    if (data)
        golden_feed(t, feed, data, count);
    free(data);
}

static ebm_val feed_like(struct golden *t, const char *name)
{
    const struct safetensor *s = safetensors_find(t->file, name);

    return s ? ebm_feed(t->g, name, EBM_F32, s->rank, s->shape) : 0;
}

static double state_error(struct golden *t)
{
    double worst = 0;

    for (int i = 0; i < safetensors_count(t->file); i++) {
        const char *name = safetensors_at(t->file, i)->name;
        char full[256];
        int64_t count;

        if (strncmp(name, "after.", 6) != 0)
            continue;
        snprintf(full, sizeof full, "net/%s", name + 6);
        double *expected = golden_tensor(t, name, &count), *state = golden_state(t, full);
        double error = relative_error(state, expected, count, 1e-3);
        worst = error > worst ? error : worst;
        free(expected);
        free(state);
    }
    return worst;
}

static void check(ebm_context *ctx, ebm_backend *backend, const char *name,
                  void (*build)(struct network *b), double tolerance)
{
    struct golden t;
    ebm_outputs out = { 0 };
    struct network b = { .y = 0 };

    golden_open(&t, ctx, backend, name);
    const char *training = safetensors_metadata(t.file, "training");
    b.net = (ebm_net){
        .graph = t.g, .region = "net", .effects = &out,
        .training = training && strcmp(training, "1") == 0,
    };
    b.text = safetensors_metadata(t.file, "network");
    b.x = feed_like(&t, "x");
    b.t = feed_like(&t, "t");
    build(&b);

    ebm_val dy = feed_like(&t, "dy");
    ebm_val loss = b.loss ? b.loss : ebm_sum_all(t.g, ebm_mul(t.g, dy, b.y));
    ebm_val dx = ebm_grad(t.g, loss, b.x), dw = ebm_grad_region(t.g, loss, "net");
    ebm_output(t.g, &out, b.y);
    ebm_output(t.g, &out, dx);
    ebm_output(t.g, &out, dw);
    ebm_output(t.g, &out, loss);
    golden_ready(&t, &out);

    put_all(&t, "param.");
    put_all(&t, "state.");
    give(&t, "x", "x");
    give(&t, "t", "t");
    give(&t, "dy", "dy");
    golden_run(&t, &out);

    double *y = golden_value(&t, b.y), *d = golden_value(&t, dx);
    double of_y = error_of(&t, "y", y, 0), of_x = error_of(&t, "dx", d, 0);
    double of_w = golden_gradient_error(&t, dw), of_state = state_error(&t);
    bool same = of_y < tolerance && of_x < tolerance && of_w < tolerance && of_state < tolerance;
    tap_ok(same, "%s by %s: output %.1e, input gradient %.1e, weight gradients %.1e, states %.1e",
           name, backend ? "the CPU" : "the oracle", of_y, of_x, of_w, of_state);
    free(y);
    free(d);
    golden_close(&t);
}

int main(void)
{
    ebm_context *ctx;
    ebm_backend *cpu;

    if (ebm_context_new(NULL, &ctx) < 0)
        return 1;
    for (size_t i = 0; i < COUNT(networks); i++)
        check(ctx, NULL, networks[i].name, networks[i].build, 1e-6);
#ifndef GOLDEN_ORACLE_ONLY
    if (ebm_backend_open(ctx, "cpu", 1, &cpu) < 0) {
        tap_ok(false, "the CPU opens: %s", ebm_message(ctx));
        return tap_done();
    }
    for (size_t i = 0; i < COUNT(networks); i++)
        check(ctx, cpu, networks[i].name, networks[i].build, 2e-5);
    ebm_backend_free(cpu);
#else
    (void)cpu;
#endif
    ebm_context_free(ctx);
    return tap_done();
}
