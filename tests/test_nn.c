/* test_nn.c - layers and networks from descriptions: names, sizes, first
 * weights, what is shared, what is random, what is refused.
 *
 * SPDX-License-Identifier: ISC
 *
 * That layers compute what they should is test_golden.c's claim. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"
#include "tap.h"

/* ---- sizes of published networks ---- */

#define BN "batchnorm:frozen "
#define BOTTLENECK(p, s, out) \
    "conv:" p ",k1,nobias " BN "relu conv:" p ",s" s ",nobias " BN "relu conv:" out ",k1,nobias " BN
#define STAGE(p, s, out, more) \
    "add(" BOTTLENECK(p, s, out) "| conv:" out ",k1,s" s ",nobias " BN ") relu " \
    "repeat:" more "(add(" BOTTLENECK(p, "1", out) "| ) relu) "
#define DOWN(in, out) "res:half,nobias(leaky conv:" in " avgpool:2 leaky conv:" out ") "
#define HAT(out, pool) "add(relu conv:" out " relu conv:" out " " pool "| " pool " conv:" out ",k1) "

static const struct {
    const char *title, *text;
    int64_t h, w, c, parameters;
} published[] = {
    { "ResNet-50 for 32x32", "conv:64,nobias " BN "relu " STAGE("64", "1", "256", "2")
      STAGE("128", "2", "512", "3") STAGE("256", "2", "1024", "5") STAGE("512", "2", "2048", "2")
      "avgpool:4 flatten linear:10", 32, 32, 3, 23520842 },
    { "the StarGAN-v2 discriminator for 256x256", "conv:64 " DOWN("64", "128") DOWN("128", "256")
      DOWN("256", "512") DOWN("512", "512") DOWN("512", "512") DOWN("512", "512")
      "leaky conv:512,k4,p0 leaky flatten linear:1", 256, 256, 3, 20851777 },
    { "the Hat EBM's energy for 32x32",
      "init:xavier add(conv:256 relu conv:256 avgpool:2 | avgpool:2 conv:256,k1) " HAT("256", "avgpool:2")
      "repeat:2( res(relu conv:256 relu conv:256) ) relu mean linear:1,nobias",
      32, 32, 3, 598272 + 1245952 + 2 * 1180160 + 256 },
};

static void check_sizes(ebm_context *ctx)
{
    for (size_t i = 0; i < COUNT(published); i++) {
        struct golden t;
        int64_t shape[] = { 2, published[i].h, published[i].w, published[i].c }, n[EBM_MAX_RANK] = { 0 };

        golden_open(&t, ctx, NULL, NULL);
        ebm_net net = { .graph = t.g, .region = "net" };
        ebm_val x = ebm_feed(t.g, "x", EBM_F32, 4, shape);
        int rank = ebm_shape(t.g, ebm_sequential(&net, published[i].text, x), n);
        ebm_val all = ebm_region(t.g, "net");
        tap_ok(rank == 2 && n[0] == 2 && all && node_of(t.g, all)->shape.n[0] == published[i].parameters,
               "%s has %lld parameters%s%s", published[i].title, (long long)published[i].parameters,
               rank < 0 ? ": " : "", rank < 0 ? ebm_message(ctx) : "");
        golden_close(&t);
    }
}

/* ---- names ---- */

static void check_names(ebm_context *ctx)
{
    static const char *const names[] = {
        "conv1.weight", "conv1.bias", "groupnorm1.weight", "groupnorm1.bias",
        "res1.conv1.weight", "res1.conv1.bias", "res1.shortcut.weight", "res1.shortcut.bias",
        "conv2.weight", "conv3.weight", "conv3.bias",
        "attention1.query.weight", "attention1.query.bias", "attention1.key.weight",
        "attention1.key.bias", "attention1.value.weight", "attention1.value.bias", "attention1.gamma",
        "add1.1.linear1.weight", "add1.1.linear1.bias", "add1.2.linear1.weight", "add1.2.linear1.bias",
    };
    struct golden t;

    golden_open(&t, ctx, NULL, NULL);
    ebm_net net = { .graph = t.g, .region = "net" };
    ebm_val x = ebm_feed(t.g, "x", EBM_F32, 4, (int64_t[]){ 2, 8, 8, 3 });
    const char *text = "conv:4 groupnorm:2 silu res( conv:8,s2 ) repeat:1(conv:8,k1,nobias conv:8)"
                       "\tattention:2,gamma,noout mean add(linear:1|linear:1)";
    ebm_val first = ebm_energy_net(&net, text, x), second = ebm_energy_net(&net, text, x);
    int slot = store_find(t.store, "net"), right = 0;
    const struct tensor *region = slot >= 0 ? &t.store->tensors[slot] : NULL;

    for (size_t i = 0; region && i < COUNT(names) && i < (size_t)region->n_parts; i++)
        right += strcmp(region->parts[i].name, names[i]) == 0;
    tap_ok(region && region->n_parts == (int)COUNT(names) && right == (int)COUNT(names),
           "weights are named by scope, kind and number");
    tap_ok(first && first == second, "the same description twice is the same network");
    golden_close(&t);
}

/* ---- descriptions that are refused ---- */

static void check_refusals(ebm_context *ctx)
{
    static const struct { const char *text, *says; } cases[] = {
        { "conv:4 cnov:8", "column 8: there is no layer 'cnov'" },
        { "conv", "column 1: 'conv' needs a whole number from 1" },
        { "conv:0", "column 1: 'conv' needs a whole number from 1" },
        { "conv:1e99", "column 1: 'conv' needs a whole number" },
        { "conv:2.5", "column 1: 'conv' needs a whole number" },
        { "conv:4,q3", "column 8: 'conv' has no setting 'q3'" },
        { "conv:4,,k3", "column 7: a setting is missing" },
        { "conv:4,5", "column 8: 'conv' has no setting '5'" },
        { "conv:4,g3", "3 groups do not divide 3 channels in and 4 out" },
        { "res(conv:4", "column 4: this parenthesis is never closed" },
        { "conv:4 )", "column 8: ')' where a layer was expected" },
        { "silu(relu)", "column 1: 'silu' takes no layers" },
        { "res mean", "column 1: 'res' needs layers" },
        { "flatten conv:4", "column 9: 'conv1' needs an image" },
        { "mean res(linear:4) avgpool:2", "column 20: 'avgpool1' needs an image" },
        { "res(flatten)", "column 1: the residual branch changes the rank" },
        { "conv:4", "ends with 256 numbers for an image" },
        { "init:best conv:4", "column 6: weights start by" },
        { "repeat:100(repeat:1000(relu))", "more than 10000 layers" },
        { "((((((", "column 1: '(' where a layer was expected" },
        { "avgpool:9", "smaller than a window" },
        { "groupnorm:2", "2 groups do not divide 3 channels" },
        { "relu|relu", "column 5: '|' is not expected" },
        { "dropout:2", "the dropout probability 2" },
        { "attention:2", "2 heads do not divide 3 key" },
        { "ws conv:4,k1 mean ws linear:2 linear:1 ws:on", "column 43: 'ws' has no setting 'on'" },
        { "res(res(res(res(res(res(res(res(res(res(res(res(res(res(res(res(res(res(res("
          "relu)))))))))))))))))))", "levels of parentheses" },
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct golden t;

        golden_open(&t, ctx, NULL, NULL);
        ebm_net net = { .graph = t.g, .region = "net" };
        ebm_val e = ebm_energy_net(&net, cases[i].text,
                                   ebm_feed(t.g, "x", EBM_F32, 4, (int64_t[]){ 2, 8, 8, 3 }));
        bool refused = e == 0 && ebm_graph_status(t.g) == EBM_ERR_ARG;
        tap_ok(refused && strstr(ebm_message(ctx), cases[i].says), "'%s': %s", cases[i].text,
               refused ? ebm_message(ctx) : "was taken");
        golden_close(&t);
    }
}

/* Descriptions with characters changed, dropped and doubled are built or
 * refused, whatever they say. */
static void check_mutants(ebm_context *ctx)
{
    static const char start[] = "conv:4,k3,s2 groupnorm:2,e1e-6 silu res:half(conv:8 relu add(conv:8|up:2 "
                                "avgpool:2 conv:8)) repeat:2(attention:2,k4) flatten linear:4,sn linear:1";
    static const char letters[] = "():,|0123456789 eks-.lnm";
    uint64_t random = 7;
    int built = 0, refused = 0;

    for (int i = 0; i < 3000; i++) {
        char text[sizeof start + 8];
        struct golden t;

        memcpy(text, start, sizeof start);
        for (int change = i ? draw_below(&random, 2) + 1 : 0; change > 0; change--) {
            int at = draw_below(&random, (int)strlen(text)), with = draw_below(&random, (int)sizeof letters + 1);
            if (with < (int)sizeof letters - 1)
                text[at] = letters[with];
            else
                memmove(text + at, text + at + 1, strlen(text + at));
        }
        golden_open(&t, ctx, NULL, NULL);
        ebm_net net = { .graph = t.g, .region = "net" };
        ebm_val e = ebm_energy_net(&net, text, ebm_feed(t.g, "x", EBM_F32, 4, (int64_t[]){ 2, 8, 8, 3 }));
        if (i == 0)
            tap_ok(e > 0, "unaltered: %s", e ? "built" : ebm_message(ctx));
        built += e > 0 && ebm_graph_status(t.g) == EBM_OK;
        refused += e == 0 && ebm_graph_status(t.g) < 0;
        golden_close(&t);
    }
    tap_ok(built + refused == 3000 && built > 0 && refused > 0,
           "altered descriptions: %d built, %d refused", built, refused);
}

/* ---- an allocation that fails ---- */

struct scarce {
    long left, live;
};

static void *scarce_alloc(void *user, size_t size)
{
    struct scarce *s = user;
    void *p = s->left-- > 0 ? malloc(size) : NULL;

    s->live += p != NULL;
    return p;
}

static void scarce_release(void *user, void *p)
{
    ((struct scarce *)user)->live -= p != NULL;
    free(p);
}

static int build_and_optimise(ebm_context *ctx)
{
    static const char text[] = "sn conv:4,s2 batchnorm silu res(conv:8) attention:2 mean linear:1";
    struct ebm_backend nothing = { .ctx = ctx };
    ebm_optimiser o = ebm_adam_defaults(1e-3);
    ebm_outputs *out = calloc(1, sizeof *out);
    ebm_store *store = NULL;
    ebm_graph *g = NULL;

    o.clip_tensor = 1;
    o.ema = 0.99;
    int rc = ebm_store_new(&nothing, &store);
    if (rc >= 0)
        rc = ebm_graph_new(store, &g);
    if (rc >= 0) {
        ebm_net net = { .graph = g, .region = "net", .training = true, .effects = out };
        ebm_val x = ebm_feed(g, "x", EBM_F32, 4, (int64_t[]){ 2, 8, 8, 3 });
        ebm_val loss = ebm_mean_all(g, ebm_energy_net(&net, text, x));
        ebm_optimise(g, "net", ebm_grad_region(g, loss, "net"), &o, 0, out);
        rc = ebm_graph_status(g);
    }
    ebm_graph_free(g);
    ebm_store_free(store);
    free(out);
    return rc;
}

static void check_memory(void)
{
    bool right = true, leaked = false;
    long n;
    int rc;

    for (n = 0, rc = EBM_ERR_NOMEM; rc == EBM_ERR_NOMEM && n < 100000; n++) {
        struct scarce s = { .left = 1 << 20 };
        ebm_host host = { .alloc = scarce_alloc, .release = scarce_release, .user = &s };
        ebm_context *ctx;
        if (ebm_context_new(&host, &ctx) < 0)
            break;
        s.left = n;
        rc = build_and_optimise(ctx);
        right = right && (rc == EBM_ERR_NOMEM || rc == EBM_OK);
        ebm_context_free(ctx);
        leaked = leaked || s.live != 0;
    }
    tap_ok(right && rc == EBM_OK && !leaked, "each of %ld allocations failed once: reported, nothing leaked",
           n - 1);
}

/* ---- where weights start ---- */

struct statistics {
    double mean, deviation, least, most;
};

static struct statistics statistics_of(const double *x, int64_t n)
{
    struct statistics s = { .least = x[0], .most = x[0] };

    for (int64_t i = 0; i < n; i++) {
        s.mean += x[i] / (double)n;
        s.least = fmin(s.least, x[i]);
        s.most = fmax(s.most, x[i]);
    }
    for (int64_t i = 0; i < n; i++)
        s.deviation += (x[i] - s.mean) * (x[i] - s.mean) / (double)n;
    s.deviation = sqrt(s.deviation);
    return s;
}

static void check_start(ebm_context *ctx, ebm_backend *cpu)
{
    /* conv 3x3, 16 to 64 channels: fan_in 144, fan_out 576 */
    const double pytorch = 1 / sqrt(144), glorot = sqrt(6.0 / 720), xavier = sqrt(2) * glorot;
    const struct { const char *text; double bound, deviation, bias; } cases[] = {
        { "conv:64", pytorch, pytorch / sqrt(3), pytorch },
        { "init:xavier conv:64", glorot, glorot / sqrt(3), 0 },
        { "init:xavier,1.41421356 bias:pytorch conv:64", xavier, xavier / sqrt(3), pytorch },
        { "init:he conv:64", 0, sqrt(2.0 / 144), 0 },
        { "init:normal,0.02 conv:64", 0, 0.02, 0 },
        { "conv:64,zero", 0, 0, 0 },
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct golden t;
        ebm_outputs out = { 0 };

        golden_open(&t, ctx, cpu, NULL);
        ebm_net net = { .graph = t.g, .region = "net" };
        ebm_val x = ebm_feed(t.g, "x", EBM_F32, 4, (int64_t[]){ 1, 4, 4, 16 });
        ebm_output(t.g, &out, ebm_sum_all(t.g, ebm_sequential(&net, cases[i].text, x)));
        golden_ready(&t, &out);
        double *w = golden_state(&t, "net/conv1.weight"), *b = golden_state(&t, "net/conv1.bias");
        struct statistics s = statistics_of(w, 64 * 144), of_bias = statistics_of(b, 64);
        bool within = cases[i].bound == 0
            || (s.most <= cases[i].bound && s.most > 0.99 * cases[i].bound && s.least < -0.99 * cases[i].bound);
        bool spread = fabs(s.deviation - cases[i].deviation) <= 0.03 * cases[i].deviation
            && fabs(s.mean) <= 0.05 * cases[i].deviation;
        bool bias = cases[i].bias == 0 ? of_bias.most == 0 && of_bias.least == 0
            : of_bias.most <= cases[i].bias && of_bias.most > 0.8 * cases[i].bias && of_bias.least < -0.8 * cases[i].bias;
        tap_ok(within && spread && bias, "'%s' starts with deviation %.4f, biases within %.4f",
               cases[i].text, s.deviation, of_bias.most);
        free(w);
        free(b);
        golden_close(&t);
    }
}

/* ---- what stands for the weights, what holds them fixed ---- */

static void check_weights(ebm_context *ctx, ebm_backend *cpu)
{
    const char *text = "conv:4,s2 silu flatten linear:1";
    struct golden t;
    ebm_outputs out = { 0 };
    double image[2 * 8 * 8 * 3];
    uint64_t random = 3;

    golden_open(&t, ctx, cpu, NULL);
    ebm_net net = { .graph = t.g, .region = "net" };
    ebm_val x = ebm_feed(t.g, "x", EBM_F32, 4, (int64_t[]){ 2, 8, 8, 3 });
    ebm_val e = ebm_energy_net(&net, text, x), w = ebm_region(t.g, "net");
    ebm_net averaged = net, halved = net, frozen = net;
    averaged.weights = ebm_average(t.g, "net");
    halved.weights = ebm_scale(t.g, w, 0.5);
    frozen.frozen = true;
    ebm_val of_average = ebm_energy_net(&averaged, text, x);
    ebm_val of_half = ebm_energy_net(&halved, text, x);
    ebm_val still = ebm_grad_region(t.g, ebm_sum_all(t.g, ebm_energy_net(&frozen, text, x)), "net");
    ebm_val push = ebm_grad(t.g, ebm_sum_all(t.g, ebm_energy_net(&frozen, text, x)), x);
    ebm_val list[] = { e, of_average, of_half, still, push };
    for (size_t i = 0; i < COUNT(list); i++)
        ebm_output(t.g, &out, list[i]);
    golden_ready(&t, &out);

    int64_t count = node_of(t.g, w)->shape.n[0];
    double *first = golden_state(&t, "net"), *doubled = malloc((size_t)count * sizeof *doubled);
    for (int64_t i = 0; i < count; i++)
        doubled[i] = 2 * first[i];
    golden_put(&t, "net.ema", first, count);
    golden_put(&t, "net", doubled, count);
    for (size_t i = 0; i < COUNT(image); i++)
        image[i] = draw_between(&random, -1, 1);
    golden_feed(&t, "x", image, (int64_t)COUNT(image));
    golden_run(&t, &out);

    double *a = golden_value(&t, of_average), *h = golden_value(&t, of_half), *d = golden_value(&t, e);
    double *s = golden_value(&t, still), *p = golden_value(&t, push);
    struct statistics zero = statistics_of(s, count), moving = statistics_of(p, (int64_t)COUNT(image));
    tap_ok(relative_error(a, h, 2, 0) < 1e-6 && relative_error(a, d, 2, 0) > 1e-3,
           "a network on the average of its weights, and on a value of the graph");
    tap_ok(zero.most == 0 && zero.least == 0 && moving.deviation > 0,
           "frozen: no gradient for the weights, one for the image");
    free(first);
    free(doubled);
    free(a);
    free(h);
    free(d);
    free(s);
    free(p);
    golden_close(&t);
}

/* ---- spectral norm ---- */

static void check_spectral_norm(ebm_context *ctx, ebm_backend *cpu)
{
    enum { OUT = 6, REST = 2 * 2 * 3 };
    struct golden t;
    ebm_outputs out = { 0 };
    double image[2 * 4 * 4 * 3] = { 1 };

    golden_open(&t, ctx, cpu, NULL);
    ebm_net net = { .graph = t.g, .region = "net", .training = true, .effects = &out };
    ebm_val x = ebm_feed(t.g, "x", EBM_F32, 4, (int64_t[]){ 2, 4, 4, 3 });
    ebm_val twice = ebm_add(t.g, ebm_sequential(&net, "conv:6,k2,p0,sn", x),
                            ebm_sequential(&net, "conv:6,k2,p0,sn", ebm_neg(t.g, x)));
    ebm_output(t.g, &out, ebm_sum_all(t.g, twice));
    tap_ok(out.count == 3, "two uses of a weight share one power iteration");
    golden_ready(&t, &out);
    golden_feed(&t, "x", image, (int64_t)COUNT(image));
    for (int i = 0; i < 200; i++)
        golden_run(&t, &out);

    double *w = golden_state(&t, "net/conv1.weight"), *u = golden_state(&t, "net/conv1.weight_u");
    double *v = golden_state(&t, "net/conv1.weight_v"), sigma = 0, largest = 0, exact[REST] = { 1, 1 };
    for (int o = 0; o < OUT; o++)
        for (int r = 0; r < REST; r++)
            sigma += u[o] * w[o * REST + r] * v[r];
    for (int i = 0; i < 2000; i++) {     /* the power method on W'W in double */
        double wv[OUT] = { 0 }, next[REST] = { 0 }, norm = 0;
        for (int o = 0; o < OUT; o++)
            for (int r = 0; r < REST; r++)
                wv[o] += w[o * REST + r] * exact[r];
        for (int r = 0; r < REST; r++) {
            for (int o = 0; o < OUT; o++)
                next[r] += w[o * REST + r] * wv[o];
            norm += next[r] * next[r];
        }
        for (int r = 0; r < REST; r++)
            exact[r] = next[r] / sqrt(norm);
        largest = sqrt(sqrt(norm));
    }
    tap_ok(fabs(sigma - largest) < 1e-4 * largest,
           "after 200 steps sigma is %.5f, the largest singular value %.5f", sigma, largest);
    free(w);
    free(u);
    free(v);
    golden_close(&t);
}

/* ---- dropout ---- */

static void check_dropout(ebm_context *ctx, ebm_backend *cpu)
{
    enum { N = 20000 };
    static double ones[N];
    const ebm_init zero = { EBM_INIT_CONST, 0, 0 };
    struct golden t;
    ebm_outputs out = { 0 };
    int64_t n = N;

    golden_open(&t, ctx, cpu, NULL);
    ebm_val counter = ebm_state(t.g, "rng", EBM_I32, 1, (int64_t[]){ 4 }, zero);
    ebm_net net = { .graph = t.g, .region = "net", .training = true, .counter = counter };
    ebm_net other = net, resting = net;
    other.purpose = 1;
    resting.training = false;
    ebm_val x = ebm_feed(t.g, "x", EBM_F32, 1, &n);
    ebm_val a = ebm_dropout(&net, "a", x, 0.3), b = ebm_dropout(&net, "b", x, 0.3);
    ebm_val c = ebm_dropout(&other, "a", x, 0.3);
    tap_ok(ebm_dropout(&net, "a", x, 0.3) == a, "a name draws once in a program");
    tap_ok(ebm_dropout(&resting, "a", x, 0.3) == x, "nothing is dropped outside training");
    ebm_output(t.g, &out, a);
    ebm_output(t.g, &out, b);
    ebm_output(t.g, &out, c);
    golden_ready(&t, &out);
    for (int i = 0; i < N; i++)
        ones[i] = 1;
    golden_feed(&t, "x", ones, N);
    golden_run(&t, &out);
    double *of_a = golden_value(&t, a), *of_b = golden_value(&t, b), *of_c = golden_value(&t, c);
    int kept = 0, with_b = 0, with_c = 0, wrong = 0;
    for (int i = 0; i < N; i++) {
        kept += of_a[i] != 0;
        wrong += of_a[i] != 0 && fabs(of_a[i] - 1 / 0.7) > 1e-6;
        with_b += (of_a[i] != 0) == (of_b[i] != 0);
        with_c += (of_a[i] != 0) == (of_c[i] != 0);
    }
    /* five standard deviations; two independent masks agree on 0.49 + 0.09 */
    tap_ok(abs(kept - 14000) < 5 * 65 && wrong == 0, "%d of %d are kept, divided by 0.7", kept, N);
    tap_ok(abs(with_b - 11600) < 5 * 70 && abs(with_c - 11600) < 5 * 70,
           "names and purposes draw apart: %d and %d of %d agree", with_b, with_c, N);
    free(of_a);
    free(of_b);
    free(of_c);
    golden_close(&t);
}

/* ---- images do not see each other ---- */

static void check_independence(ebm_context *ctx)
{
    const char *text = "conv:4 groupnorm:2 silu attention:2 res(conv:8,s2 instnorm relu) batchnorm:frozen "
                       "maxpool:2 mean layernorm linear:1";
    double image[3 * 8 * 8 * 3], energy[2][3] = { { 0 } };
    uint64_t random = 11;

    for (size_t i = 0; i < COUNT(image); i++)
        image[i] = draw_between(&random, -1, 1);
    for (int batch = 3; batch >= 2; batch--) {
        struct golden t;
        ebm_outputs out = { 0 };

        golden_open(&t, ctx, NULL, NULL);
        ebm_net net = { .graph = t.g, .region = "net" };
        ebm_val x = ebm_feed(t.g, "x", EBM_F32, 4, (int64_t[]){ batch, 8, 8, 3 });
        ebm_val e = ebm_energy_net(&net, text, x);
        ebm_output(t.g, &out, e);
        int64_t count = node_of(t.g, ebm_region(t.g, "net"))->shape.n[0];
        golden_ready(&t, &out);
        double *w = malloc((size_t)count * sizeof *w);
        uint64_t weights = 5;
        for (int64_t i = 0; i < count; i++)
            w[i] = draw_between(&weights, -0.5, 0.5);
        golden_put(&t, "net", w, count);
        golden_feed(&t, "x", image, (int64_t)batch * 8 * 8 * 3);
        golden_run(&t, &out);
        double *value = golden_value(&t, e);
        memcpy(energy[batch - 2], value, (size_t)batch * sizeof *value);
        free(value);
        free(w);
        golden_close(&t);
    }
    tap_ok(energy[0][0] == energy[1][0] && energy[0][1] == energy[1][1] && energy[0][0] != energy[0][1],
           "an energy does not depend on the other images of its batch");
}

int main(void)
{
    ebm_context *ctx;
    ebm_backend *cpu;

    if (ebm_context_new(NULL, &ctx) < 0)
        return 1;
    check_sizes(ctx);
    check_names(ctx);
    check_refusals(ctx);
    check_mutants(ctx);
    check_memory();
    check_independence(ctx);
    if (ebm_backend_open(ctx, "cpu", 1, &cpu) < 0) {
        tap_ok(false, "the CPU opens: %s", ebm_message(ctx));
        return tap_done();
    }
    check_start(ctx, cpu);
    check_weights(ctx, cpu);
    check_spectral_norm(ctx, cpu);
    check_dropout(ctx, cpu);
    ebm_backend_free(cpu);
    ebm_context_free(ctx);
    return tap_done();
}
