/* test_icd_facts.c - improved contrastive divergence: facts that need no other
 * implementation.
 *
 * SPDX-License-Identifier: ISC
 *
 * What Du, Li, Tenenbaum and Mordatch 2021 and their code imply, and which test
 * proves it:
 *
 *   swish, its first two derivatives        check_swish
 *   standardised filters                    check_standard
 *   instance norm                           check_instance_norm
 *   pooling, blurring                       test_icd.c, check_windows
 *   attention: one position, gain 0         check_attention
 *   the term through the last step          check_through
 *   what is differentiated and what not     check_inner
 *   the entropy's gradient                  test_icd.c, check_distance
 *   steps follow the sum of the scales      check_scales
 *   no gradient where samples are data      check_balance
 *   the best energy under the penalty       check_best
 *   bytes there and back                    check_bytes
 *   ring buffer: order                      test_icd_train.c, test_ring
 *   reservoir: each as likely               check_reservoir
 *   new noise at its rate, rows evenly      check_starts
 *   data spread over their bytes            test_loader.c, test_values
 *   the average of constant weights         check_average
 *   sums and the least of models            test_joint.c
 *   counts of parameters and tensors        test_icd.c, check_sizes
 *   resumed runs                            test_icd_train.c, test_same
 *   a ring in the plane is learned          test_icd_toy.c
 *   two networks' step against PyTorch      test_icd.c, check_step */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"
#include "methods/icd_settings.h"
#include "recipe.h"
#include "tap.h"

static ebm_context *ctx;

static bool near(double a, double b, double tolerance)
{
    return fabs(a - b) <= tolerance;
}

/* The values of a few nodes, one element each or the first of several. */
static void first_of(struct golden *t, const ebm_val *nodes, int count, double *values)
{
    for (int i = 0; i < count; i++) {
        double *v = golden_value(t, nodes[i]);
        values[i] = v[0];
        free(v);
    }
}

/* ---- parts of the network ---- */

static void check_swish(void)
{
    static const double expected[3][3] = {
        { -0.268941, 0, 0.731059 }, { 0.072329, 0.5, 0.927671 }, { 0.302366, 0.5, 0.302366 },
    };
    const int64_t three = 3;
    struct golden t;
    ebm_outputs out = { 0 };

    golden_open(&t, ctx, NULL, NULL);
    ebm_val x = ebm_feed(t.g, "x", EBM_F32, 1, &three), of[3];
    of[0] = ebm_silu(t.g, x);
    of[1] = ebm_grad(t.g, ebm_sum_all(t.g, of[0]), x);
    of[2] = ebm_grad(t.g, ebm_sum_all(t.g, of[1]), x);
    for (int i = 0; i < 3; i++)
        ebm_output(t.g, &out, of[i]);
    golden_ready(&t, &out);
    golden_feed(&t, "x", (double[]){ -1, 0, 1 }, 3);
    golden_run(&t, &out);
    for (int i = 0; i < 3; i++) {
        double *v = golden_value(&t, of[i]);
        bool good = true;
        for (int j = 0; j < 3; j++)
            good = good && near(v[j], expected[i][j], 1e-6);
        tap_ok(good, "swish, derivative %d, at -1, 0 and 1: %.6f %.6f %.6f", i, v[0], v[1], v[2]);
        free(v);
    }
    golden_close(&t);
}

/* A filter of 1 ... 9 seen through an impulse, and the same of 3 w - 7. */
static void check_standard(void)
{
    const int64_t image[4] = { 1, 3, 3, 1 };
    double impulse[9] = { 0 }, seen[2][9], worst = 0, change = 0;

    impulse[4] = 1;
    for (int turn = 0; turn < 2; turn++) {
        struct golden t;
        ebm_outputs out = { 0 };
        double w[9];
        for (int i = 0; i < 9; i++)
            w[i] = turn ? 3 * (i + 1) - 7 : i + 1;
        golden_open(&t, ctx, NULL, NULL);
        ebm_net net = { .graph = t.g, .region = "net" };
        ebm_val y = ebm_conv_layer(&net, "conv", ebm_feed(t.g, "x", EBM_F32, 4, image), &(ebm_layer){
            .out = 1, .kernel = 3, .pad = 1, .weight_standard = true, .no_bias = true });
        ebm_output(t.g, &out, y);
        golden_ready(&t, &out);
        golden_put(&t, "net", w, 9);
        golden_feed(&t, "x", impulse, 9);
        golden_run(&t, &out);
        double *v = golden_value(&t, y);
        memcpy(seen[turn], v, sizeof seen[turn]);
        free(v);
        golden_close(&t);
    }
    for (int i = 0; i < 9; i++) {        /* a correlation turns the filter about */
        worst = fmax(worst, fabs(seen[0][8 - i] - (i - 4) / (sqrt(7.5) + 1e-5)));
        change = fmax(change, fabs(seen[1][i] - seen[0][i]));
    }
    tap_ok(worst < 1e-6, "a standardised filter: (w - 5) / (2.7386 + 1e-5), off by %.1e", worst);
    tap_ok(change < 1e-5, "and for a w + b nearly the same: %.1e", change);
}

static void check_instance_norm(void)
{
    static const double expected[4] = { -1.34164, -0.44721, 0.44721, 1.34164 };
    const int64_t image[4] = { 1, 2, 2, 1 };
    struct golden t;
    ebm_outputs out = { 0 };

    golden_open(&t, ctx, NULL, NULL);
    ebm_net net = { .graph = t.g, .region = "net" };
    ebm_val y = ebm_instance_norm(&net, "norm", ebm_feed(t.g, "x", EBM_F32, 4, image), 1e-5);
    ebm_output(t.g, &out, y);
    golden_ready(&t, &out);
    golden_put(&t, "net", (double[]){ 1, 0 }, 2);
    golden_feed(&t, "x", (double[]){ 1, 2, 3, 4 }, 4);
    golden_run(&t, &out);
    double *v = golden_value(&t, y);
    tap_ok(relative_error(v, expected, 4, 0) < 1e-5, "the instance norm of 1, 2, 3, 4");
    free(v);
    golden_close(&t);
}

/* Of one position attention is its value; in the network its gain starts at 0, so
 * that it changes nothing. */
static void check_attention(void)
{
    const int64_t q[3] = { 1, 1, 2 }, v[3] = { 1, 1, 3 }, image[4] = { 2, 20, 20, 3 };
    struct golden t;
    ebm_outputs out = { 0 };

    golden_open(&t, ctx, NULL, NULL);
    ebm_val value = ebm_feed(t.g, "v", EBM_F32, 3, v), key = ebm_feed(t.g, "k", EBM_F32, 3, q);
    ebm_val y = ebm_attend(t.g, key, key, value, 1);
    ebm_output(t.g, &out, y);
    golden_ready(&t, &out);
    golden_feed(&t, "k", (double[]){ 3, -1 }, 2);
    golden_feed(&t, "v", (double[]){ 0.5, -2, 7 }, 3);
    golden_run(&t, &out);
    double *is = golden_value(&t, y);
    tap_ok(is[0] == 0.5 && is[1] == -2 && is[2] == 7, "attention of one position is its value");
    free(is);
    golden_close(&t);

    double e[2][6];
    for (int without = 0; without < 2; without++) {
        const struct icd_spec spec = { .size = ICD_32, .width = 4, .no_attention = without };
        double pixels[2 * 20 * 20 * 3];
        out = (ebm_outputs){ 0 };
        golden_open(&t, ctx, NULL, NULL);
        ebm_net net = { .graph = t.g, .region = "net" };
        y = icd_energies(&net, &spec, ebm_feed(t.g, "x", EBM_F32, 4, image), 0);
        ebm_output(t.g, &out, y);
        golden_ready(&t, &out);
        golden_weights(&t, NULL);
        if (!without)
            golden_put(&t, "net/self_attn.gamma", &(double){ 0 }, 1);
        for (size_t i = 0; i < COUNT(pixels); i++)
            pixels[i] = (golden_number("x", i) + 1) / 2;
        golden_feed(&t, "x", pixels, COUNT(pixels));
        golden_run(&t, &out);
        double *now = golden_value(&t, y);
        memcpy(e[without], now, sizeof e[without]);
        free(now);
        golden_close(&t);
    }
    tap_ok(memcmp(e[0], e[1], sizeof e[0]) == 0, "with a gain of 0 the network is that without attention");
}

/* ---- the loss of small energies ---- */

enum { LOSS_BATCH = 4 };

/* A loss of batches of one pixel by a single weight a, or by a few. */
struct toy {
    struct golden t;
    ebm_outputs out;
    struct icd_loss loss;
    ebm_val cd, kl;                      /* gradients */
};

typedef ebm_val energies_fn(ebm_net *net, const void *spec, ebm_val x, ebm_val labels);

static void toy_open(struct toy *toy, energies_fn *energies, const struct icd_loss_spec *spec, int64_t n)
{
    const int64_t shape[4] = { n, 1, 1, 1 };

    memset(toy, 0, sizeof *toy);
    golden_open(&toy->t, ctx, NULL, NULL);
    ebm_graph *g = toy->t.g;
    ebm_net net = { .graph = g, .region = "net" };
    const struct icd_trained trained = { &net, energies, NULL };
    const struct icd_loss_in in = { .data = ebm_feed(g, "data", EBM_F32, 4, shape),
                                    .noised = ebm_feed(g, "noised", EBM_F32, 4, shape) };
    toy->loss = icd_loss(&trained, spec, &in);
    toy->cd = ebm_grad_region(g, toy->loss.cd, "net");
    ebm_output(g, &toy->out, toy->loss.ends);
    ebm_output(g, &toy->out, toy->loss.cd);
    ebm_output(g, &toy->out, toy->cd);
    if (toy->loss.kl) {
        toy->kl = ebm_grad_region(g, toy->loss.kl, "net");
        ebm_output(g, &toy->out, toy->loss.kl);
        ebm_output(g, &toy->out, toy->kl);
    }
    golden_ready(&toy->t, &toy->out);
}

static void toy_run(struct toy *toy, const double *w, int n_w, const double *data, const double *noised, int n)
{
    golden_put(&toy->t, "net", w, n_w);
    golden_feed(&toy->t, "data", data, n);
    golden_feed(&toy->t, "noised", noised, n);
    golden_run(&toy->t, &toy->out);
}

static ebm_val weights(ebm_net *net, int64_t count)
{
    return ebm_net_param(net, "a", 1, &count, (ebm_init){ EBM_INIT_CONST, 1, 0 });
}

/* x as [n,1]. */
static ebm_val column(ebm_net *net, ebm_val x)
{
    int64_t n[EBM_MAX_RANK] = { 0 };

    ebm_shape(net->graph, x, n);
    return ebm_reshape(net->graph, x, 2, (int64_t[]){ n[0], 1 });
}

/* a x^2 / 2 */
static ebm_val half_square(ebm_net *net, const void *spec, ebm_val x, ebm_val labels)
{
    (void)spec;
    (void)labels;
    return ebm_mul(net->graph, ebm_scale(net->graph, ebm_square(net->graph, column(net, x)), 0.5), weights(net, 1));
}

/* a x^4 / 4 */
static ebm_val quarter_fourth(ebm_net *net, const void *spec, ebm_val x, ebm_val labels)
{
    ebm_graph *g = net->graph;

    (void)spec;
    (void)labels;
    return ebm_mul(g, ebm_scale(g, ebm_square(g, ebm_square(g, column(net, x))), 0.25), weights(net, 1));
}

/* At x = 0.5 with a = 2 and a step of 0.1: the sample is 0.4, its energy 0.16, and
 * the derivative -step a x^2 (1 - step a) = -0.04: the outer a is constant. */
static void check_through(void)
{
    const struct icd_loss_spec spec = { .step = 0.1, .kl = 1, .kl_images = 1 };
    struct toy toy;
    double v[3];

    toy_open(&toy, half_square, &spec, 1);
    toy_run(&toy, &(double){ 2 }, 1, &(double){ 0.1 }, &(double){ 0.5 }, 1);
    first_of(&toy.t, (ebm_val[]){ toy.loss.ends, toy.loss.kl, toy.kl }, 3, v);
    tap_ok(near(v[0], 0.4, 1e-7) && near(v[1], 0.16, 1e-7) && near(v[2], -0.04, 1e-8),
           "the term through the last step: sample %.3f, energy %.3f, derivative %.4f", v[0], v[1], v[2]);
    toy_run(&toy, &(double){ 2 }, 1, &(double){ 0.1 }, &(double){ 1.5 }, 1);
    first_of(&toy.t, (ebm_val[]){ toy.loss.ends, toy.kl }, 2, v);
    tap_ok(v[0] == 1 && v[1] == 0, "where the sample is clipped, there is none");
    golden_close(&toy.t);
}

/* The derivative is that of the inner energy's weight alone, by finite differences
 * of a0/4 (x - step a x^3)^4 in a; that of both weights is another. */
static void check_inner(void)
{
    const double a0 = 1.5, x = 0.8, step = 0.3, h = 1e-5;
    const struct icd_loss_spec spec = { .step = step, .kl = 1, .kl_images = 1 };
    struct toy toy;
    double is, value[2], inner[2], both[2];

    toy_open(&toy, quarter_fourth, &spec, 1);
    toy_run(&toy, &a0, 1, &(double){ 0.2 }, &x, 1);
    first_of(&toy.t, &toy.kl, 1, &is);
    for (int side = 0; side < 2; side++) {
        double a = a0 + (side ? h : -h), end;
        toy_run(&toy, &a, 1, &(double){ 0.2 }, &x, 1);
        first_of(&toy.t, (ebm_val[]){ toy.loss.ends, toy.loss.kl }, 2, value);
        end = value[0];
        inner[side] = a0 * end * end * end * end / 4;
        both[side] = value[1];
    }
    double alone = (inner[1] - inner[0]) / (2 * h), all = (both[1] - both[0]) / (2 * h);
    tap_ok(near(is / alone, 1, 1e-7) && fabs(is / all - 1) > 0.1,
           "the weights of the inner energy count (%.9f, differences %.9f), the outer's do not (%.4f)", is,
           alone, all);
    golden_close(&toy.t);
}

/* Three scales, each a x. */
static ebm_val three_scales(ebm_net *net, const void *spec, ebm_val x, ebm_val labels)
{
    ebm_val one = ebm_mul(net->graph, column(net, x), weights(net, 1));

    (void)spec;
    (void)labels;
    return ebm_concat(net->graph, 1, 3, (ebm_val[]){ one, one, one });
}

static void check_scales(void)
{
    const struct icd_loss_spec spec = { .step = 0.1, .penalty = 1, .kl = 1, .kl_images = 1 };
    struct toy toy;
    double v[5];

    toy_open(&toy, three_scales, &spec, 1);
    toy_run(&toy, &(double){ 0.5 }, 1, &(double){ 0.6 }, &(double){ 0.7 }, 1);
    first_of(&toy.t, (ebm_val[]){ toy.loss.ends, toy.loss.cd, toy.loss.kl, toy.loss.data, toy.loss.samples }, 5, v);
    double end = 0.7 - 0.1 * 3 * 0.5, d = 0.5 * 0.6, s = 0.5 * end;
    tap_ok(near(v[0], end, 1e-7), "a step follows the sum over the scales, three times the mean: %.3f", v[0]);
    tap_ok(near(v[1], d - s + d * d + s * s, 1e-7) && near(v[2], s, 1e-7),
           "the loss is a mean over the scales, squares of each");
    tap_ok(near(v[3], 3 * d, 1e-7) && near(v[4], 3 * s, 1e-7), "what is shown are sums over them");
    golden_close(&toy.t);
}

/* E is w0 at x = 0 and w1 at x = 1. */
static ebm_val two_levels(ebm_net *net, const void *spec, ebm_val x, ebm_val labels)
{
    ebm_graph *g = net->graph;
    ebm_val w = weights(net, 2), is_one = column(net, x), is_zero = ebm_offset(g, ebm_neg(g, is_one), 1);
    ebm_val w0 = ebm_slice(g, w, (int64_t[]){ 0 }, (int64_t[]){ 1 }, NULL);
    ebm_val w1 = ebm_slice(g, w, (int64_t[]){ 1 }, (int64_t[]){ 1 }, NULL);

    (void)spec;
    (void)labels;
    return ebm_add(g, ebm_mul(g, is_zero, w0), ebm_mul(g, is_one, w1));
}

/* Samples that are the data in another order; then data that are 1 three times of
 * four and samples once: E = (q - p) / (2 w (q + p)). */
static void check_best(void)
{
    static const double data[LOSS_BATCH] = { 1, 1, 0, 1 }, alike[LOSS_BATCH] = { 0, 1, 1, 1 };
    static const double samples[LOSS_BATCH] = { 0, 1, 0, 0 };
    const double w = 0.7, p[2] = { 0.25, 0.75 }, q[2] = { 0.75, 0.25 };
    struct icd_loss_spec spec = { .step = 0 };
    struct toy toy;
    double best[2];

    toy_open(&toy, two_levels, &spec, LOSS_BATCH);
    toy_run(&toy, (double[]){ 0.3, -0.9 }, 2, data, alike, LOSS_BATCH);
    double *v = golden_value(&toy.t, toy.cd);
    tap_ok(fabs(v[0]) < 1e-15 && fabs(v[1]) < 1e-15, "no gradient where samples are as the data");
    free(v);
    golden_close(&toy.t);

    spec.penalty = w;
    for (int i = 0; i < 2; i++)
        best[i] = (q[i] - p[i]) / (2 * w * (q[i] + p[i]));
    toy_open(&toy, two_levels, &spec, LOSS_BATCH);
    for (int off = 0; off < 2; off++) {
        toy_run(&toy, (double[]){ best[0] + 0.01 * off, best[1] }, 2, data, samples, LOSS_BATCH);
        v = golden_value(&toy.t, toy.cd);
        if (off)
            tap_ok(v[0] > 1e-3 && fabs(v[1]) < 1e-7, "and beside it a gradient back: %.4f", v[0]);
        else
            tap_ok(fabs(v[0]) < 1e-7 && fabs(v[1]) < 1e-7 && fabs(best[0]) <= 1 / (2 * w),
                   "the best energies under the penalty: %.4f and %.4f", best[0], best[1]);
        free(v);
    }
    golden_close(&toy.t);
}

/* ---- weights' average ---- */

/* With a rate of 0 after t steps: w - (w - first) decay^t. */
static void check_average(void)
{
    struct golden t;
    ebm_outputs out = { 0 };
    ebm_optimiser o = ebm_adam_defaults(0);

    o.ema = 0.9;
    golden_open(&t, ctx, NULL, NULL);
    ebm_val w = ebm_param(t.g, "net", "w", 1, (int64_t[]){ 1 }, (ebm_init){ EBM_INIT_CONST, 2, 0 });
    ebm_optimise(t.g, "net", ebm_grad_region(t.g, ebm_sum_all(t.g, w), "net"), &o, 0, &out);
    golden_ready(&t, &out);
    golden_put(&t, "net", &(double){ 2 }, 1);
    golden_put(&t, "net.ema", &(double){ 5 }, 1);
    golden_put(&t, "net.step", &(double){ 1 }, 1);    /* at 0 it would start from the weights */
    for (int i = 0; i < 7; i++)
        golden_run(&t, &out);
    double *v = golden_state(&t, "net.ema");
    tap_ok(near(v[0], 2 - (2 - 5) * pow(0.9, 7), 1e-6), "the average of a constant after 7 steps: %.6f", v[0]);
    free(v);
    golden_close(&t);
}

/* ---- the buffer, by training that moves nothing ---- */

static void check_bytes(void)
{
    enum { N = 1000 };
    const int64_t n = N;
    const uint32_t seed[4] = { 11, 0, 0, 0 };
    struct golden t;
    ebm_outputs out = { 0 };
    ebm_backend *cpu;
    double x[N], worst = 0;
    int wrong = 0;

    if (ebm_backend_open(ctx, "cpu", 1, &cpu) < 0)
        return;
    golden_open(&t, ctx, cpu, NULL);
    ebm_val counter = counter_state(t.g, "rng"), levels = icd_levels(t.g, ebm_feed(t.g, "x", EBM_F32, 1, &n));
    ebm_val back = icd_spread(t.g, levels, counter, DRAW_SPREAD);
    ebm_output(t.g, &out, levels);
    ebm_output(t.g, &out, back);
    golden_ready(&t, &out);
    ebm_store_write(t.store, "rng", seed, sizeof seed);
    for (int i = 0; i < N; i++)
        x[i] = i / (N - 1.);
    golden_feed(&t, "x", x, N);
    golden_run(&t, &out);
    double *level = golden_value(&t, levels), *y = golden_value(&t, back);
    for (int i = 0; i < N; i++) {
        worst = fmax(worst, fabs(y[i] - x[i]));
        wrong += floor(256 * y[i]) != level[i] || level[i] != floor((double)(255 * (float)x[i])) || y[i] >= 1;
    }
    tap_ok(worst < 2. / 255 && wrong == 0, "bytes there and back: pixels differ by up to %.5f, no byte does", worst);
    free(level);
    free(y);
    golden_close(&t);
    ebm_backend_free(cpu);
}

enum { SIDE = 9, IMAGE = SIDE * SIDE };

static const char still[] =
    "method = icd\ndata.low = 0\ndata.high = 1\n"
    "icd.net = 28\nicd.width = 4\nicd.kl = 0\nicd.entropy = 0\nguard.gap = 0\n"
    "langevin.steps = 1\nlangevin.step = 0\nlangevin.noise = 0\n"
    "augment.area = 1, 1\naugment.flip = false\naugment.colour = 0\naugment.grey = 0\n";

/* A method at work without a trainer: its programs on a store, and the states in
 * reach. */
struct rig {
    ebm_backend *cpu;
    struct recipe *recipe;
    const struct method *method;
    void *state;
    struct method_site site;
    float *images;
};

static int same_images(void *user, const float **images, const int32_t **labels)
{
    *images = user;
    if (labels)
        *labels = NULL;
    return EBM_OK;
}

static bool rig_open(struct rig *r, const char *more, uint64_t seed)
{
    memset(r, 0, sizeof *r);
    if (ebm_backend_open(ctx, "cpu", 1, &r->cpu) < 0
        || recipe_new(ctx, &r->recipe) < 0
        || recipe_parse(r->recipe, still, strlen(still), "still") < 0
        || recipe_parse(r->recipe, more, strlen(more), "more") < 0
        || method_declare(ctx, r->recipe, &r->method) < 0)
        return false;
    r->site = (struct method_site){ .ctx = ctx, .recipe = r->recipe, .image = { SIDE, SIDE, 1 },
                                    .method = r->method };
    r->images = calloc((size_t)recipe_integer(r->recipe, "batch") * IMAGE, sizeof *r->images);
    return r->images
        && ebm_store_new(r->cpu, &r->site.store) >= 0
        && r->method->train_build(&r->site, &r->state) >= 0
        && ebm_store_alloc(r->site.store, 1) >= 0
        && r->method->train_compile(r->state) >= 0
        && counter_write(r->site.store, METHOD_RNG, seed, 0, 0) >= 0;
}

static bool rig_step(struct rig *r)
{
    const struct batch_source source = { same_images, r->images };
    struct method_shown shown;

    return r->method->train_step(r->state, &source, false, &shown) >= 0 && shown.accepted;
}

static void rig_close(struct rig *r)
{
    if (r->method)
        r->method->train_free(r->state);
    ebm_store_free(r->site.store);
    recipe_free(r->recipe);
    ebm_backend_free(r->cpu);
    free(r->images);
}

static bool is_row(const float *chain, const uint8_t *row, double levels)
{
    for (int i = 0; i < IMAGE; i++)
        if ((int)floor(levels * (double)chain[i]) != row[i])
            return false;
    return true;
}

/* Chains that are never moved: new noise, or what lies in a row of the buffer.
 * The rate of new ones, and how evenly rows are drawn. */
static void check_starts(void)
{
    enum { BATCH = 32, ROWS = 64, STEPS = 250 };
    static uint8_t rows[(ROWS + 1) * IMAGE];
    static float chains[BATCH * IMAGE];
    const double rate = 0.05;
    int fresh = 0, all = 0, first_new = 0, halves[2] = { 0, 0 };
    struct rig r;

    bool ok = rig_open(&r, "batch = 32\nbuffer.size = 64\nbuffer.fresh = 0.05\n", 3);
    for (int step = 0; ok && step < STEPS; step++) {
        ok = ebm_store_read(r.site.store, "buffer", rows, sizeof rows) >= 0 && rig_step(&r)
          && ebm_store_read(r.site.store, METHOD_CHAINS, chains, sizeof chains) >= 0;
        for (int k = 0; ok && k < BATCH; k++) {
            int from = -1;
            for (int row = 0; from < 0 && row < ROWS; row++)
                if (is_row(&chains[k * IMAGE], &rows[row * IMAGE], 256))
                    from = row;
            if (step == 0)
                first_new += from < 0;
            if (step < 2)
                continue;                /* until the buffer is full */
            all++;
            fresh += from < 0;
            if (from >= 0)
                halves[from >= ROWS / 2]++;
        }
    }
    double deviation = sqrt(rate * (1 - rate) / all), even = 0.5 / sqrt(all - fresh);
    tap_ok(ok && first_new == BATCH, "while the buffer is empty all chains start anew%s%s", ok ? "" : ": ",
           ok ? "" : ebm_message(ctx));
    tap_ok(ok && fabs(fresh / (double)all - rate) < 4 * deviation, "then %.3f of %d do, for 0.05",
           fresh / (double)all, all);
    tap_ok(ok && fabs(halves[0] / (double)(all - fresh) - 0.5) < 4 * even, "rows are drawn evenly: %d and %d",
           halves[0], halves[1]);
    rig_close(&r);
}

/* Which of all images are in the reservoir at the end?  As many of the first
 * quarter as of the last, and as many as fit. */
static void check_reservoir(void)
{
    enum { BATCH = 8, ROWS = 32, STEPS = 16, TURNS = 24 };
    static uint8_t rows[(ROWS + 1) * IMAGE];
    static float seen[STEPS * BATCH * IMAGE];
    int quarters[4] = { 0 }, found = 0;
    bool ok = true;

    for (int turn = 0; ok && turn < TURNS; turn++) {
        struct rig r;
        /* 25 is made 32: whole batches come in while it fills. */
        ok = rig_open(&r, "batch = 8\nbuffer.size = 25\nbuffer.keep = reservoir\nbuffer.fresh = 1\n",
                      (uint64_t)turn + 1);
        for (int step = 0; ok && step < STEPS; step++)
            ok = rig_step(&r)
              && ebm_store_read(r.site.store, METHOD_CHAINS, &seen[step * BATCH * IMAGE],
                                BATCH * IMAGE * sizeof *seen) >= 0;
        ok = ok && ebm_store_read(r.site.store, "buffer", rows, sizeof rows) >= 0;
        for (int row = 0; ok && row < ROWS; row++)
            for (int i = 0; i < STEPS * BATCH; i++)
                if (is_row(&seen[i * IMAGE], &rows[row * IMAGE], 255)) {
                    quarters[4 * i / (STEPS * BATCH)]++;
                    found++;
                    break;
                }
        rig_close(&r);
    }
    double expected = ROWS * TURNS / 4., deviation = sqrt(ROWS * TURNS * 0.25 * 0.75), worst = 0;
    for (int i = 0; i < 4; i++)
        worst = fmax(worst, fabs(quarters[i] - expected) / deviation);
    tap_ok(ok && found == ROWS * TURNS, "a reservoir keeps images that were seen%s%s", ok ? "" : ": ",
           ok ? "" : ebm_message(ctx));
    tap_ok(ok && worst < 4, "each as likely: of four quarters of time %d, %d, %d, %d", quarters[0], quarters[1],
           quarters[2], quarters[3]);
}

int main(void)
{
    if (ebm_context_new(NULL, &ctx) < 0)
        return 1;
    check_swish();
    check_standard();
    check_instance_norm();
    check_attention();
    check_through();
    check_inner();
    check_scales();
    check_best();
    check_average();
    check_bytes();
    check_starts();
    check_reservoir();
    ebm_context_free(ctx);
    return tap_done();
}
