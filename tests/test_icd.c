/* test_icd.c - improved contrastive divergence: its networks and its loss
 * against PyTorch, and identities that need no other implementation.
 *
 * SPDX-License-Identifier: ISC
 *
 * The files and the script that makes them are in tests/golden.  Each case is
 * evaluated by the oracle, in double precision, and on the CPU. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"
#include "methods/icd_loss.h"
#include "nets/icd.h"
#include "tap.h"

/* ---- inputs and weights that the script makes as well ---- */

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);

    return n >= m && strcmp(name + n - m, end) == 0;
}

/* Factors and gains are near 1. */
static void near_one(const char *name, int rank, double *factor, double *addend)
{
    (void)factor;
    if (rank == 1 && (strcmp(name, "heir_weight") == 0 || ends_with(name, ".gamma")
                      || ends_with(name, "bn1.weight") || ends_with(name, "bn2.weight")))
        *addend = 1;
}

static void give_image(struct golden *t, const char *name, ebm_val feed)
{
    int64_t count = shape_count(&node_of(t->g, feed)->shape);
    double *data = malloc((size_t)count * sizeof *data);

    for (int64_t i = 0; data && i < count; i++)
        data[i] = (golden_number(name, (uint64_t)i) + 1) / 2;
    golden_feed(t, name, data, count);
    free(data);
}

/* (i + 1) mod count, as one-hot vectors. */
static ebm_val labels_of(ebm_graph *g, int64_t n, int64_t count)
{
    ebm_val i = ebm_offset(g, ebm_iota(g, 1, &n, 0), 1);
    ebm_val turns = ebm_floor(g, ebm_scale(g, ebm_offset(g, i, 0.5), 1 / (double)count));

    return ebm_one_hot(g, ebm_sub(g, i, ebm_scale(g, turns, (double)count)), count);
}

/* ---- energies ---- */

struct net_case {
    const char *name;
    struct icd_spec spec;
    int64_t shape[4];
};

static const struct net_case nets[] = {
    { "icd-32", { .size = ICD_32, .width = 4, .labels = 3 }, { 2, 32, 32, 3 } },
    { "icd-128", { .size = ICD_128, .width = 4, .labels = 2 }, { 1, 72, 72, 3 } },
    { "icd-published", { .size = ICD_128, .width = 4, .labels = 2, .label_width = 6, .published = true },
      { 1, 72, 72, 3 } },
    { "icd-28", { .size = ICD_28, .width = 40 }, { 1, 28, 28, 1 } },
};

static void check_energies(ebm_context *ctx, ebm_backend *backend, const struct net_case *c,
                           double tolerance)
{
    struct golden t;
    ebm_outputs out = { 0 };

    golden_open(&t, ctx, backend, c->name);
    ebm_net net = { .graph = t.g, .region = "net" };
    ebm_val x = ebm_feed(t.g, "x", EBM_F32, 4, c->shape);
    ebm_val labels = c->spec.labels ? labels_of(t.g, c->shape[0], c->spec.labels) : 0;
    ebm_val e = icd_energies(&net, &c->spec, x, labels);
    ebm_val dx = ebm_grad(t.g, ebm_sum_all(t.g, e), x);
    ebm_output(t.g, &out, e);
    ebm_output(t.g, &out, dx);
    golden_ready(&t, &out);
    golden_weights(&t, near_one);
    give_image(&t, "x", x);
    golden_run(&t, &out);

    double of_e = golden_error(&t, "e", e), of_x = golden_error(&t, "dx", dx);
    tap_ok(of_e < tolerance && of_x < tolerance, "%s by %s: energies %.1e, input gradient %.1e",
           c->name, backend ? "the CPU" : "the oracle", of_e, of_x);
    golden_close(&t);
}

/* ---- one step of training ---- */

static void check_step(ebm_context *ctx, ebm_backend *backend, double tolerance)
{
    const int64_t batch[4] = { 3, 20, 20, 3 }, past[4] = { 5, 20, 20, 3 };
    const struct icd_spec spec = { .size = ICD_32, .width = 4, .labels = 3 };
    const struct icd_loss_spec l = { .step = 20, .penalty = 1, .kl = 1, .entropy = 0.3, .kl_images = 2 };
    struct golden t;
    ebm_outputs out = { 0 };

    golden_open(&t, ctx, backend, "icd-step");
    ebm_net net = { .graph = t.g, .region = "net" };
    struct icd_loss_in in = {
        .data = ebm_feed(t.g, "data", EBM_F32, 4, batch),
        .noised = ebm_feed(t.g, "noised", EBM_F32, 4, batch),
        .past = ebm_feed(t.g, "past", EBM_F32, 4, past),
        .labels = labels_of(t.g, batch[0], spec.labels),
    };
    const struct icd_trained trained = icd_trained_of(&net, &spec);
    struct icd_loss loss = icd_loss(&trained, &l, &in);
    ebm_val grad = ebm_add(t.g, ebm_grad_region(t.g, loss.cd, "net"), ebm_grad_region(t.g, loss.kl, "net"));
    ebm_output(t.g, &out, loss.ends);
    ebm_output(t.g, &out, loss.cd);
    ebm_output(t.g, &out, loss.kl);
    ebm_output(t.g, &out, loss.entropy);
    ebm_output(t.g, &out, grad);
    golden_ready(&t, &out);
    golden_weights(&t, near_one);
    give_image(&t, "data", in.data);
    give_image(&t, "noised", in.noised);
    give_image(&t, "past", in.past);
    golden_run(&t, &out);

    double of_ends = golden_error(&t, "ends", loss.ends), of_cd = golden_error(&t, "cd", loss.cd);
    double of_kl = golden_error(&t, "kl", loss.kl), of_entropy = golden_error(&t, "entropy", loss.entropy);
    double of_w = golden_gradient_error(&t, grad);
    tap_ok(of_ends < tolerance && of_cd < tolerance && of_kl < tolerance && of_entropy < tolerance
           && of_w < tolerance, "a step of training by %s: samples %.1e, contrastive divergence %.1e, "
           "KL term %.1e, entropy %.1e, gradients of all weights %.1e",
           backend ? "the CPU" : "the oracle", of_ends, of_cd, of_kl, of_entropy, of_w);
    golden_close(&t);
}

/* ---- counts of the published networks ---- */

static const struct {
    const char *name;
    struct icd_spec spec;
    int64_t size, channels, parameters;
    int tensors;                 /* 0: not known */
} sizes[] = {
    { "CIFAR-10", { .size = ICD_32, .width = 64, .labels = 10 }, 32, 3, 6643044, 253 },
    { "CIFAR-10 without labels", { .size = ICD_32, .width = 64 }, 32, 3, 6564196, 0 },
    { "CIFAR-10 of width 128", { .size = ICD_32, .width = 128, .labels = 10 }, 32, 3, 26376900, 253 },
    /* the authors' has three more: a vector that it does not use */
    { "CelebA-HQ", { .size = ICD_128, .width = 128, .labels = 2 }, 128, 3, 27095943 - 3, 265 },
    { "CelebA-HQ of width 64", { .size = ICD_128, .width = 64, .labels = 2 }, 128, 3, 6793671 - 3, 265 },
    { "ImageNet", { .size = ICD_128, .width = 128, .labels = 1000 }, 128, 3, 41147783 - 3, 265 },
    { "the published CelebA-HQ", { .size = ICD_128, .width = 128, .labels = 2, .label_width = 512,
      .published = true }, 128, 3, 35066247, 274 },
    { "the published CelebA-HQ of width 64", { .size = ICD_128, .width = 64, .labels = 2,
      .label_width = 512, .published = true }, 128, 3, 11173575, 274 },
};

static void check_sizes(ebm_context *ctx)
{
    for (size_t i = 0; i < COUNT(sizes); i++) {
        struct golden t;
        const int64_t shape[4] = { 1, sizes[i].size, sizes[i].size, sizes[i].channels };
        int64_t count = 0;
        int tensors = 0;

        golden_open(&t, ctx, NULL, NULL);
        ebm_net net = { .graph = t.g, .region = "net" };
        ebm_val labels = sizes[i].spec.label_width
                       ? ebm_one_hot(t.g, ebm_iota(t.g, 1, shape, 0), sizes[i].spec.labels) : 0;
        icd_energies(&net, &sizes[i].spec, ebm_feed(t.g, "x", EBM_F32, 4, shape), labels);
        if (ebm_graph_status(t.g) >= 0) {
            const struct tensor *region = &t.store->tensors[store_find(t.store, "net")];
            tensors = region->n_parts;
            for (int j = 0; j < tensors; j++)
                count += shape_count(&region->parts[j].shape);
        }
        tap_ok(count == sizes[i].parameters && (!sizes[i].tensors || tensors == sizes[i].tensors),
               "%s: %lld parameters in %d tensors", sizes[i].name, (long long)count, tensors);
        golden_close(&t);
    }
}

/* ---- identities ---- */

/* 1 ... 16 as a 4x4 image. */
static void check_windows(ebm_context *ctx)
{
    static const double pooled[4] = { 14. / 9, 30. / 9, 57. / 9, 99. / 9 };
    static const double blurred[4] = { 3.5, 5, 9.5, 11 };
    struct golden t;
    ebm_outputs out = { 0 };

    golden_open(&t, ctx, NULL, NULL);
    ebm_val x = ebm_reshape(t.g, ebm_offset(t.g, ebm_iota(t.g, 1, (int64_t[]){ 16 }, 0), 1),
                            4, (int64_t[]){ 1, 4, 4, 1 });
    ebm_val p = icd_pool(t.g, x), b = icd_blur_down(t.g, x);
    ebm_output(t.g, &out, p);
    ebm_output(t.g, &out, b);
    golden_ready(&t, &out);
    golden_run(&t, &out);
    double *of_p = golden_value(&t, p), *of_b = golden_value(&t, b);
    tap_ok(relative_error(of_p, pooled, 4, 0) < 1e-6 && relative_error(of_b, blurred, 4, 0) < 1e-6,
           "pooling and blurring of a 4x4 image");
    free(of_p);
    free(of_b);
    golden_close(&t);
}

/* One pixel, one neighbour at distance d: the derivative of log d is 1/d; at
 * d = 0 it is 0 and the loss is a number. */
static void check_distance(ebm_context *ctx)
{
    struct golden t;
    ebm_outputs out = { 0 };
    const int64_t one[4] = { 1, 1, 1, 1 }, two[4] = { 2, 1, 1, 1 };

    golden_open(&t, ctx, NULL, NULL);
    ebm_val x = ebm_feed(t.g, "x", EBM_F32, 4, one), b = ebm_feed(t.g, "b", EBM_F32, 4, two);
    ebm_val log = icd_log_distance(t.g, x, b), dx = ebm_grad(t.g, log, x);
    ebm_output(t.g, &out, log);
    ebm_output(t.g, &out, dx);
    golden_ready(&t, &out);
    for (int same = 0; same < 2; same++) {
        golden_feed(&t, "x", &(double){ 0.5 }, 1);
        golden_feed(&t, "b", (double[]){ same ? 0.5 : 0.25, 0.9 }, 2);
        golden_run(&t, &out);
        double *v = golden_value(&t, log), *d = golden_value(&t, dx);
        if (same)
            tap_ok(isfinite(*v) && *d == 0, "a sample that is a past one: no gradient");
        else
            tap_ok(fabs(*v - log10(0.25) / log10(exp(1))) < 1e-6 && fabs(*d - 4) < 1e-6,
                   "the log distance to the nearest, and its derivative");
        free(v);
        free(d);
    }
    golden_close(&t);
}

static void check_refusals(ebm_context *ctx)
{
    static const struct { struct icd_spec spec; int64_t size; const char *why; } wrong[] = {
        { { .size = ICD_32, .width = 8 }, 16, "small image" },
        { { .size = ICD_128, .width = 8 }, 32, "small image for the large network" },
        { { .size = ICD_32, .width = 7 }, 32, "odd width" },
        { { .size = ICD_32, .width = 36 }, 32, "width whose groups do not divide" },
    };

    for (size_t i = 0; i < COUNT(wrong); i++) {
        struct golden t;
        golden_open(&t, ctx, NULL, NULL);
        ebm_net net = { .graph = t.g, .region = "net" };
        icd_energies(&net, &wrong[i].spec, ebm_feed(t.g, "x", EBM_F32, 4,
                     (int64_t[]){ 1, wrong[i].size, wrong[i].size, 3 }), 0);
        tap_ok(ebm_graph_status(t.g) == EBM_ERR_ARG, "refused, %s: %s", wrong[i].why, ebm_message(ctx));
        golden_close(&t);
    }
}

int main(void)
{
    ebm_context *ctx;
    ebm_backend *cpu;

    if (ebm_context_new(NULL, &ctx) < 0)
        return 1;
    check_windows(ctx);
    check_distance(ctx);
    check_sizes(ctx);
    check_refusals(ctx);
    if (ebm_backend_open(ctx, "cpu", 1, &cpu) < 0) {
        tap_ok(false, "the CPU opens: %s", ebm_message(ctx));
        return tap_done();
    }
    for (size_t i = 0; i < COUNT(nets); i++) {
        check_energies(ctx, NULL, &nets[i], 1e-6);
        check_energies(ctx, cpu, &nets[i], 2e-5);
    }
    check_step(ctx, NULL, 1e-6);
    check_step(ctx, cpu, 2e-4);
    ebm_backend_free(cpu);
    ebm_context_free(ctx);
    return tap_done();
}
