/* test_cdrl.c - diffusion recovery likelihood against figures and closed forms.
 *
 * SPDX-License-Identifier: ISC
 *
 * Data N(0,v) by pixel have all densities known: state t has the variance
 *   M = signal^2 v + noise^2,  y = scale x_t that of V = scale^2 M,
 * and y given x_{t+1} is normal of precision L = 1/V + 1/sigma^2 (top: 1/V) and
 * mean x_{t+1} / (sigma^2 L).  A Langevin step shrinks a deviation from it by
 * q = 1 - s^2 L / 2.
 *
 * What an implementation has to show, and where that is tested:
 *
 *    1  schedules to 1e-6, one state from the other      test_schedules
 *    2  embeddings of levels                             test_cdrl_nets: check_levels
 *    3  pairs of one noise, and of two                   test_pairs
 *    4  the step is that of the textbook                 test_textbook
 *    5  exact densities of Gaussian data                 test_gaussian_chains
 *    6  what K unadjusted steps leave of mean, variance  test_gaussian_chains
 *    7  variances down the whole sampler, its end        test_sampler
 *    8  with exact samples a level learns its marginal   test_consistency
 *    9  where the loop comes to rest with 15 steps       test_fixed_points
 *   10  spectral norm: to the largest singular value     test_nn
 *       one iteration an update, none outside            test_cdrl_nets, test_cdrl_train
 *   11  gradients by y and of both networks, apart       test_cdrl_nets, test_cdrl_train
 *   12  a new initializer adds a number by channel       test_cdrl_nets: check_start
 *   13  the initializer's gradient is its likelihood's   test_proposal_loss
 *   14  fewer steps go as far; the usual ones, said      test_cdrl_train: test_identities
 *   15  guidance of weight 0, a class twice              test_cdrl_train: test_identities
 *   16  averages while they begin                        test_cdrl_train: check_average,
 *       rates while they rise                            test_optim; test_rates
 *   17  published checkpoints                            test_import
 *   18  the plain method: constants, noise, one network  test_schedules, test_pairs,
 *                                                        test_cdrl_train: test_plain_model
 *   19  detection figures; distances of sets             test_ood, test_frechet
 *   20  the toy: samples in all squares, sharper levels  test_cdrl_toy
 *
 * Both backends: test_cdrl_vulkan.  Lack of memory: test_faults. */
#include <math.h>
#include <string.h>
#include "methods/cdrl_chain.h"
#include "methods/settings.h"
#include "store.h"
#include "tap.h"

enum { LEVELS = 6, STEPS = 15, IMAGES = 1 << 16 };

static ebm_context *ctx;
static ebm_backend *cpu;

static double maximum(double a, double b)
{
    return a > b || a != a ? a : b;
}

/* ---- the schedules, by figures ---- */

static const enum cdrl_constant columns[] = {
    LEVEL_LOG_SNR, LEVEL_SIGNAL, LEVEL_NOISE, LEVEL_ALPHA, LEVEL_SIGMA, LEVEL_STEP, LEVEL_PROPOSAL, LEVEL_WEIGHT
};
static const double tan_cosine[LEVELS][8] = {
    { 9.800000, 0.99997228, 0.00744638, 0.96768571, 0.25215941, 0.00504319, 0.00720281, 1.000000 },
    { 2.688820, 0.96765888, 0.25226234, 0.90562762, 0.42407384, 0.04936569, 0.20112724, 0.594612 },
    { 1.196880, 0.87633861, 0.48169560, 0.83481438, 0.55053152, 0.08855764, 0.32472529, 0.458029 },
    { 0.141071, 0.73158007, 0.68175553, 0.74114991, 0.67133957, 0.12847365, 0.40371253, 0.375606 },
    { -0.876073, 0.54221050, 0.84024269, 0.58976628, 0.80757398, 0.17157033, 0.42236813, 0.312243 },
    { -2.172388, 0.31977747, 0.94749268, 0.24343406, 0.96991745, 0.21881657, 0.92178685, 0.259980 },
};
/* log SNR (to 4 digits), signal, noise, alpha, sigma, s, -, weight */
static const double linear[LEVELS][8] = {
    { 9.2102, 0.99995000, 0.01000000, 0.94616654, 0.32368022, 0.00457753, 0, 1.000000 },
    { 2.1444, 0.94611923, 0.32381848, 0.85629003, 0.51649529, 0.04156542, 0, 0.626686 },
    { 0.6471, 0.81015246, 0.58621924, 0.77479621, 0.63221107, 0.06845531, 0, 0.511981 },
    { -0.4305, 0.62770305, 0.77845287, 0.70091772, 0.71324214, 0.08899552, 0, 0.453815 },
    { -1.4270, 0.43996819, 0.89801336, 0.63395611, 0.77336903, 0.10364376, 0, 0.418533 },
    { -2.4727, 0.27892052, 0.96031419, 0.02277645, 0.99974058, 0.13855079, 0, 0.323764 },
};

static void check_schedule(const char *name, const struct cdrl_schedule *s, const double table[LEVELS][8],
                           double of_snr)
{
    double worst = 0, identities = 0;

    for (int t = 0; t < s->levels; t++) {
        const double *of = s->of[t];
        for (size_t k = 0; k < COUNT(columns); k++)
            if (table[t][k] != 0)
                worst = maximum(worst, fabs(of[columns[k]] - table[t][k]) / (k ? 1 : of_snr));
        double a = of[LEVEL_ALPHA], n = of[LEVEL_NOISE];
        identities = maximum(identities, fabs(of[LEVEL_SIGNAL] * a - of[LEVEL_SIGNAL_ABOVE]));
        identities = maximum(identities, fabs(a * a * n * n + of[LEVEL_SIGMA] * of[LEVEL_SIGMA]
                                              - of[LEVEL_NOISE_ABOVE] * of[LEVEL_NOISE_ABOVE]));
        identities = maximum(identities, fabs(of[LEVEL_SCALE] - (t == s->levels - 1 ? 1 : a)));
    }
    tap_ok(s->levels == LEVELS && worst < 1e-6, "%s: the table to %.0e", name, worst);
    tap_ok(identities < 1e-12, "%s: one state follows from the other", name);
}

static struct cdrl_schedule published(void)
{
    struct cdrl_schedule s;

    cdrl_tan_cosine(&s, LEVELS, 9.8, -5.1);
    cdrl_set_steps(&s, 4e-4, true);
    return s;
}

static void test_schedules(void)
{
    struct cdrl_schedule s = published();

    check_schedule("tan-cosine", &s, tan_cosine, 1);
    tap_ok(fabs(s.of[5][LEVEL_SIGNAL_ABOVE] - 0.07784473) < 1e-7
           && fabs(s.of[5][LEVEL_NOISE_ABOVE] - 0.99696550) < 1e-7
           && fabs(s.of[5][LEVEL_LOG_SNR_ABOVE] + 5.1) < 1e-9, "tan-cosine: the last state");
    cdrl_linear(&s);
    cdrl_set_steps(&s, 2e-4, true);
    check_schedule("linear", &s, linear, 100);
    s = published();
    cdrl_set_steps(&s, 2e-3, false);
    double worst = 0;
    for (int t = 0; t < LEVELS; t++) {
        const double *of = s.of[t];
        worst = maximum(worst, fabs(of[LEVEL_STEP] * of[LEVEL_STEP] / (2e-3 * 134.29345 * of[LEVEL_SIGMA] * of[LEVEL_SIGMA]) - 1));
        worst = maximum(worst, fabs(of[LEVEL_PULL] - (t == LEVELS - 1 ? 0 : 1e-3 * 134.29345)));
    }
    tap_ok(worst < 1e-5, "steps that do not grow: those of the toy (%.0e)", worst);
}

/* ---- graphs ---- */

struct bench {
    ebm_store *store;
    ebm_graph *g;
    struct cdrl_schedule schedule;
    ebm_val counter, tick, x, y, level;
    struct cdrl_place place;
    double v;                    /* variance of the data */
};

enum { PROPOSE, STEP, DESCEND, END, PROGRAMS };

static void bench_open(struct bench *b, const int64_t shape[4], ebm_val (*level)(struct bench *b))
{
    const ebm_init zero = { EBM_INIT_CONST, 0, 0 };
    const int64_t constants = LEVEL_CONSTANTS;

    b->schedule = published();
    if (ebm_store_new(cpu, &b->store) < 0 || ebm_graph_new(b->store, &b->g) < 0) {
        tap_ok(false, "a graph: %s", ebm_message(ctx));
        exit(tap_done());
    }
    b->counter = counter_state(b->g, "rng");
    b->tick = ebm_assign(b->g, b->counter, ebm_tick(b->g, b->counter));
    b->x = ebm_state(b->g, "x", EBM_F32, 4, shape, zero);
    b->y = ebm_state(b->g, "y", EBM_F32, 4, shape, zero);
    if (level)
        b->place = cdrl_place(b->g, &b->schedule, b->level = level(b));
    else
        b->place = cdrl_place_of(b->g, ebm_feed(b->g, "level", EBM_F32, 1, &constants));
}

static void bench_close(struct bench *b)
{
    ebm_graph_free(b->g);
    ebm_store_free(b->store);
}

static void must(int status)
{
    if (status >= 0)
        return;
    tap_ok(false, "runs: %s", ebm_message(ctx));
    exit(tap_done());
}

static ebm_program *compiled(struct bench *b, int n, const ebm_val *outputs)
{
    ebm_program *p;

    must(ebm_store_alloc(b->store, 3));
    must(counter_write(b->store, "rng", 11, 0, 0));
    must(ebm_compile(b->g, n, outputs, &p));
    return p;
}

static void set_level(struct bench *b, ebm_program *p, int t)
{
    float constants[LEVEL_CONSTANTS];

    for (int k = 0; k < LEVEL_CONSTANTS; k++)
        constants[k] = (float)b->schedule.of[t][k];
    must(ebm_program_set(p, "level", constants, sizeof constants));
}

static double square(double a)
{
    return a * a;
}

/* 1/V of a level. */
static double precision_of(const struct cdrl_schedule *s, int t, double v)
{
    const double *of = s->of[t];

    return 1 / (square(of[LEVEL_SCALE]) * (square(of[LEVEL_SIGNAL]) * v + square(of[LEVEL_NOISE])));
}

/* N = -s^2 y^2 / (2 V): the exact density of Gaussian data. */
static ebm_val gaussian(ebm_graph *g, ebm_val y, const struct cdrl_place *place, void *user)
{
    const struct bench *b = user;
    const ebm_val *of = place->of;
    ebm_val m = ebm_add(g, ebm_scale(g, ebm_square(g, of[LEVEL_SIGNAL]), b->v), ebm_square(g, of[LEVEL_NOISE]));
    ebm_val part = ebm_div(g, ebm_square(g, of[LEVEL_STEP]), ebm_mul(g, ebm_square(g, of[LEVEL_SCALE]), m));
    int64_t n[EBM_MAX_RANK];

    if (ebm_shape(g, y, n) < 1)
        return 0;
    ebm_val squares = ebm_reshape(g, ebm_sum(g, ebm_square(g, y), 14), 1, n);
    return ebm_scale(g, ebm_mul(g, part, squares), -0.5);
}

/* E[y | x_{t+1}] */
static ebm_val gaussian_mean(struct bench *b, ebm_val x)
{
    ebm_graph *g = b->g;
    const ebm_val *of = b->place.of;
    ebm_val m = ebm_add(g, ebm_scale(g, ebm_square(g, of[LEVEL_SIGNAL]), b->v), ebm_square(g, of[LEVEL_NOISE]));
    ebm_val above = ebm_add(g, ebm_mul(g, ebm_square(g, of[LEVEL_ALPHA]), m), ebm_square(g, of[LEVEL_SIGMA]));
    ebm_val gain = ebm_div(g, ebm_mul(g, of[LEVEL_SCALE], ebm_mul(g, of[LEVEL_ALPHA], m)), above);

    return ebm_mul(g, cdrl_beside(g, gain, x), x);
}

static double variance(const float *x, int64_t n, double *mean)
{
    double s = 0, q = 0;

    for (int64_t i = 0; i < n; i++)
        s += x[i];
    *mean = s / (double)n;
    for (int64_t i = 0; i < n; i++)
        q += square(x[i] - *mean);
    return q / (double)n;
}

/* ---- one level ---- */

static ebm_val each_level(struct bench *b)
{
    const int64_t n = LEVELS;

    return ebm_iota(b->g, 1, &n, 0);
}

/* Some density without symmetry. */
static ebm_val wavy(ebm_graph *g, ebm_val y, const struct cdrl_place *place, void *user)
{
    int64_t n[EBM_MAX_RANK];
    ebm_val waves = ebm_tanh(g, ebm_sin(g, ebm_add(g, y, ebm_scale(g, ebm_square(g, y), 0.3))));

    (void)user;
    if (ebm_shape(g, y, n) < 1)
        return 0;
    return ebm_mul(g, place->of[LEVEL_STEP], ebm_reshape(g, ebm_sum(g, waves, 14), 1, n));
}

/* The step, against y + s^2/2 grad log p(y | x) + s noise with log p(y | x)
 * = N / s^2 - |y - x|^2 / (2 sigma^2), the latter not at the top. */
static void test_textbook(void)
{
    const int64_t shape[4] = { LEVELS, 3, 2, 1 };
    struct bench b;
    float is[LEVELS * 6], expected[LEVELS * 6], start[2][LEVELS * 6];
    double worst = 0;

    bench_open(&b, shape, each_level);
    ebm_graph *g = b.g;
    const struct cdrl_step step = { wavy, NULL, 1, 1, b.counter, 7 };
    ebm_val a = cdrl_step(g, &step, &b.place, b.y, b.x), log_p = 0;
    ebm_val s = cdrl_beside(g, b.place.of[LEVEL_STEP], b.y);
    ebm_val far = ebm_reshape(g, ebm_sum(g, ebm_square(g, ebm_sub(g, b.y, b.x)), 14), 1, shape);
    ebm_val below_top = ebm_less(g, b.level, ebm_const(g, LEVELS - 1));
    ebm_val pull = ebm_div(g, ebm_mul(g, below_top, far), ebm_scale(g, ebm_square(g, b.place.of[LEVEL_SIGMA]), 2));
    log_p = ebm_sub(g, ebm_div(g, wavy(g, b.y, &b.place, NULL), ebm_square(g, b.place.of[LEVEL_STEP])), pull);
    ebm_val slope = ebm_grad(g, ebm_sum_all(g, log_p), b.y);
    ebm_val c = ebm_add(g, b.y, ebm_add(g, ebm_mul(g, ebm_scale(g, ebm_square(g, s), 0.5), slope),
                                        ebm_mul(g, s, ebm_normal(g, b.counter, 7, 4, shape))));
    ebm_program *p = compiled(&b, 2, (ebm_val[]){ a, c });
    for (int i = 0; i < LEVELS * 6; i++) {
        start[0][i] = (float)sin(3. * i);
        start[1][i] = (float)cos(5. * i);
    }
    must(ebm_store_write(b.store, "x", start[0], sizeof start[0]));
    must(ebm_store_write(b.store, "y", start[1], sizeof start[1]));
    must(ebm_program_run(p, 1));
    must(ebm_program_get(p, a, is, sizeof is));
    must(ebm_program_get(p, c, expected, sizeof expected));
    for (int i = 0; i < LEVELS * 6; i++)
        worst = maximum(worst, fabs(is[i] - expected[i]) / (1 + fabs(expected[i])));
    tap_ok(worst < 1e-5, "a step is that of the textbook at every level (%.0e)", worst);
    ebm_program_free(p);
    bench_close(&b);
}

/* The constants of a graph's table are those of the schedule. */
static void test_places(void)
{
    struct bench b;
    ebm_val all[LEVEL_CONSTANTS];
    float is[LEVELS];
    int wrong = 0;

    bench_open(&b, (const int64_t[]){ LEVELS, 1, 1, 1 }, each_level);
    for (int k = 0; k < LEVEL_CONSTANTS; k++)      /* a leaf alone is no output */
        all[k] = ebm_add(b.g, b.place.of[k], ebm_fill(b.g, b.place.of[k], 0));
    ebm_program *p = compiled(&b, LEVEL_CONSTANTS, all);
    must(ebm_program_run(p, 1));
    for (int k = 0; k < LEVEL_CONSTANTS; k++) {
        must(ebm_program_get(p, all[k], is, sizeof is));
        for (int t = 0; t < LEVELS; t++)
            wrong += is[t] != (float)b.schedule.of[t][k];
    }
    tap_ok(wrong == 0, "constants by level: to the bit");
    ebm_program_free(p);
    bench_close(&b);
}

/* K steps from one point: the deviation shrinks by q^K, the variance is
 * s^2 (1 - q^2K) / (1 - q^2). */
static void test_gaussian_chains(void)
{
    static float y[IMAGES];
    const int64_t shape[4] = { IMAGES, 1, 1, 1 };
    struct bench b = { .v = 0.25 };
    double worst_mean = 0, worst_variance = 0;

    bench_open(&b, shape, NULL);
    const struct cdrl_step step = { gaussian, &b, 1, 1, b.counter, 7 };
    ebm_val outputs[2] = { ebm_assign(b.g, b.y, cdrl_step(b.g, &step, &b.place, b.y, b.x)), b.tick };
    ebm_program *p = compiled(&b, 2, outputs);
    for (int t = 0; t < LEVELS; t++) {
        const double *of = b.schedule.of[t], from = 1.5, x = 0.7;
        double own = precision_of(&b.schedule, t, b.v), pull = t == LEVELS - 1 ? 0 : 1 / square(of[LEVEL_SIGMA]);
        double precision = own + pull, centre = x * pull / precision;
        double q = 1 - square(of[LEVEL_STEP]) * precision / 2, mean;
        double v = square(of[LEVEL_STEP]) * (1 - pow(q, 2 * STEPS)) / (1 - q * q);
        for (int i = 0; i < IMAGES; i++)
            y[i] = (float)x;
        must(ebm_store_write(b.store, "x", y, sizeof y));
        for (int i = 0; i < IMAGES; i++)
            y[i] = (float)from;
        must(ebm_store_write(b.store, "y", y, sizeof y));
        set_level(&b, p, t);
        must(ebm_program_run(p, STEPS));
        must(ebm_store_read(b.store, "y", y, sizeof y));
        double is = variance(y, IMAGES, &mean);
        double expected = centre + (from - centre) * pow(q, STEPS);
        worst_mean = maximum(worst_mean, fabs(mean - expected) / sqrt(v / IMAGES));
        worst_variance = maximum(worst_variance, fabs(is / v - 1));
    }
    /* 65536 chains: the deviation of a variance is 0.55 %. */
    tap_ok(worst_mean < 5 && worst_variance < 0.02, "chains of %d steps at every level: means within %.1f "
           "deviations, variances within %.1f %%", STEPS, worst_mean, 100 * worst_variance);
    ebm_program_free(p);
    bench_close(&b);
}

/* ---- pairs ---- */

static void test_pairs(void)
{
    static float below[IMAGES], above[IMAGES];
    const int64_t shape[4] = { IMAGES, 1, 1, 1 };

    for (int shared = 0; shared < 2; shared++) {
        struct bench b = { 0 };
        double worst = 0, deviation = 0, mean[2];
        bench_open(&b, shape, NULL);
        ebm_val noise = ebm_normal(b.g, b.counter, 1, 4, shape), again = ebm_normal(b.g, b.counter, 2, 4, shape);
        struct cdrl_pair pair = cdrl_pair(b.g, &b.place, b.x, noise, shared ? 0 : again);
        ebm_program *p = compiled(&b, 2, (ebm_val[]){ pair.below, pair.above });
        const float x = 0.5f;
        for (int i = 0; i < IMAGES; i++)
            below[i] = x;
        must(ebm_store_write(b.store, "x", below, sizeof below));
        for (int t = 0; t < LEVELS; t++) {
            const double *of = b.schedule.of[t];
            set_level(&b, p, t);
            must(ebm_program_run(p, 1));
            must(ebm_program_get(p, pair.below, below, sizeof below));
            must(ebm_program_get(p, pair.above, above, sizeof above));
            double v[2] = { variance(below, IMAGES, &mean[0]), variance(above, IMAGES, &mean[1]) };
            for (int i = 0; i < 2; i++) {
                double n = of[i ? LEVEL_NOISE_ABOVE : LEVEL_NOISE], s = of[i ? LEVEL_SIGNAL_ABOVE : LEVEL_SIGNAL];
                worst = maximum(worst, fabs(v[i] / (n * n) - 1) / 0.02);
                worst = maximum(worst, fabs(mean[i] - s * x) / (5 * n / sqrt(IMAGES)));
            }
            for (int i = 0; i < IMAGES; i++) {
                double e = (below[i] - of[LEVEL_SIGNAL] * x) / of[LEVEL_NOISE];
                deviation = maximum(deviation, fabs(above[i] - of[LEVEL_SIGNAL_ABOVE] * x - of[LEVEL_NOISE_ABOVE] * e));
            }
        }
        tap_ok(worst < 1, "pairs, %s noise: means and variances of both states", shared ? "shared" : "independent");
        /* dividing by noise 0.007 enlarges rounding */
        tap_ok(shared ? deviation < 1e-4 : deviation > 1, "pairs, %s noise: the state above %s from image and "
               "state below", shared ? "shared" : "independent", shared ? "follows" : "does not follow");
        ebm_program_free(p);
        bench_close(&b);
    }
}

/* ---- the whole sampler ---- */

static const struct { double v; int steps; double expected[LEVELS], once, twice; } samplers[] = {
    { 1, 15, { 0.745275, 0.795388, 0.874398, 0.942156, 0.987197, 0.962247 }, 0.745234, 0.745151 },
    { 0.25, 15, { 0.154185, 0.232748, 0.396201, 0.596276, 0.795174, 0.919628 }, 0.154125, 0.154057 },
    { 0.01, 15, { 0.001717, 0.071252, 0.242536, 0.480979, 0.730612, 0.905221 }, 0.001699, 0.001680 },
    { 1, 5, { 0.770156 }, 0, 0 },
    { 0.25, 5, { 0.158480 }, 0, 0 },
    { 0.01, 5, { 0.001748 }, 0, 0 },
};

static void test_sampler(int which)
{
    static float x[IMAGES], before[IMAGES];
    const int64_t shape[4] = { IMAGES, 1, 1, 1 };
    struct bench b = { .v = samplers[which].v };
    ebm_program *programs[PROGRAMS];
    int steps = samplers[which].steps;
    double worst = 0, mean, last = 0, ended[2];

    bench_open(&b, shape, NULL);
    ebm_graph *g = b.g;
    const struct cdrl_step step = { gaussian, &b, sqrt((double)STEPS / steps), 1, b.counter, 7 };
    ebm_val proposed = cdrl_propose(g, &b.place, gaussian_mean(&b, b.x), ebm_normal(g, b.counter, 8, 4, shape));
    ebm_val effects[PROGRAMS] = {
        ebm_assign(g, b.y, proposed),
        ebm_assign(g, b.y, cdrl_step(g, &step, &b.place, b.y, b.x)),
        ebm_assign(g, b.x, cdrl_unscale(g, &b.place, b.y)),
    };
    ebm_val ends[2];
    for (int i = 0; i < 2; i++)
        ends[i] = cdrl_denoise(g, gaussian, &b, &b.place, b.x, 1 + i);
    ebm_val x6 = ebm_assign(g, b.x, ebm_normal(g, b.counter, 9, 4, shape));
    ebm_program *start = compiled(&b, 2, (ebm_val[]){ x6, b.tick });
    for (int i = PROPOSE; i < END; i++)
        programs[i] = compiled(&b, 2, (ebm_val[]){ effects[i], b.tick });
    programs[END] = compiled(&b, 2, ends);
    must(counter_write(b.store, "rng", 100 + (uint64_t)which, 0, 0));
    must(ebm_program_run(start, 1));
    for (int t = LEVELS - 1; t >= 0; t--) {
        for (int i = PROPOSE; i < END; i++) {
            set_level(&b, programs[i], t);
            must(ebm_program_run(programs[i], i == STEP ? steps : 1));
        }
        must(ebm_store_read(b.store, "x", x, sizeof x));
        last = variance(x, IMAGES, &mean);
        if (samplers[which].expected[t] != 0)
            worst = maximum(worst, fabs(last / samplers[which].expected[t] - 1));
    }
    tap_ok(worst < 0.02, "drawn in %d steps a level from data of variance %g: %.6f, all levels within %.1f %%",
           steps, b.v, last, 100 * worst);
    if (samplers[which].once != 0) {
        set_level(&b, programs[END], 0);
        must(ebm_program_run(programs[END], 1));
        for (int i = 0; i < 2; i++) {
            must(ebm_program_get(programs[END], ends[i], before, sizeof before));
            ended[i] = variance(before, IMAGES, &mean) / last;
        }
        double once = samplers[which].once / samplers[which].expected[0];
        double twice = samplers[which].twice / samplers[which].expected[0];
        /* the figures have 6 digits behind the point */
        double digits = 1.1e-6 / samplers[which].expected[0];
        tap_ok(fabs(ended[0] - once) < digits && fabs(ended[1] - twice) < digits,
               "the last correction, once and twice: %.6f, %.6f of the variance", ended[0], ended[1]);
    }
    ebm_program_free(start);
    for (int i = 0; i < PROGRAMS; i++)
        ebm_program_free(programs[i]);
    bench_close(&b);
}

/* ---- the loss ---- */

/* N = -s^2 theta y^2 / 2 with samples that are exact: the gradient is 0 where
 * theta = 1/V, of either sign beside it. */
static void test_consistency(void)
{
    const int64_t one = 1;
    double worst = 0;
    int signs = 0;

    for (int t = 0; t < LEVELS; t++)
        for (int side = -1; side <= 1; side++) {
            struct bench b = { .v = 0.25 };
            bench_open(&b, (const int64_t[]){ 1, 1, 1, 1 }, NULL);
            const double *of = b.schedule.of[t];
            bool top = t == LEVELS - 1;
            double variance_of_y = 1 / precision_of(&b.schedule, t, b.v);
            double theta = (1 + 0.1 * side) / variance_of_y, pull = top ? 0 : 1 / square(of[LEVEL_SIGMA]);
            double x = square(of[LEVEL_SIGNAL_ABOVE]) * b.v + square(of[LEVEL_NOISE_ABOVE]);
            /* E y^2 of samples: 1/L + (mean's factor)^2 E x^2 */
            double samples = 1 / (theta + pull) + square(pull / (theta + pull)) * x;
            ebm_val w = ebm_param(b.g, "theta", "w", 1, &one, (ebm_init){ EBM_INIT_CONST, (float)theta, 0 });
            ebm_val half = ebm_scale(b.g, ebm_mul(b.g, w, ebm_square(b.g, b.place.of[LEVEL_STEP])), -0.5);
            ebm_val n_data = ebm_scale(b.g, half, variance_of_y), n_samples = ebm_scale(b.g, half, samples);
            struct cdrl_loss l = cdrl_loss(b.g, &b.place, n_data, n_samples);
            ebm_val grad = ebm_grad_region(b.g, l.loss, "theta");
            ebm_program *p = compiled(&b, 1, &grad);
            float is;
            set_level(&b, p, t);
            must(ebm_program_run(p, 1));
            must(ebm_program_get(p, grad, &is, sizeof is));
            double scale = of[LEVEL_WEIGHT] * square(of[LEVEL_STEP]) * variance_of_y / 2;
            if (side == 0)
                worst = maximum(worst, fabs(is / scale));
            else
                signs += (is > 0) == (side > 0);
            ebm_program_free(p);
            bench_close(&b);
        }
    tap_ok(worst < 1e-5 && signs == 2 * LEVELS, "with exact samples every level learns its marginal (%.0e)", worst);
}

/* N = -s^2 theta y^2 / 2 for a theta that is fed. */
static ebm_val of_theta(ebm_graph *g, ebm_val y, const struct cdrl_place *place, void *user)
{
    ebm_val half = ebm_scale(g, ebm_mul(g, ebm_square(g, place->of[LEVEL_STEP]), *(const ebm_val *)user), -0.5);
    int64_t n[EBM_MAX_RANK];

    if (ebm_shape(g, y, n) < 1)
        return 0;
    return ebm_mul(g, half, ebm_reshape(g, ebm_sum(g, ebm_square(g, y), 14), 1, n));
}

/* E y^2 after K steps from b x + d n.  All is linear in the independent normals x,
 * n and those of the steps: a row answers to one of them, and squares add up. */
static double second_moment(struct bench *b, ebm_program *p, int t, double theta)
{
    const double *of = b->schedule.of[t];
    double pull = t == LEVELS - 1 ? 0 : 1 / square(of[LEVEL_SIGMA]), gain = pull / (theta + pull);
    double x = sqrt(square(of[LEVEL_SIGNAL_ABOVE]) * b->v + square(of[LEVEL_NOISE_ABOVE])), sum = 0;
    float above[STEPS + 2] = { (float)x }, y[STEPS + 2] = { (float)(gain * x), (float)of[LEVEL_PROPOSAL] };

    set_level(b, p, t);
    must(ebm_program_set(p, "theta", &(float){ (float)theta }, sizeof(float)));
    must(ebm_store_write(b->store, "x", above, sizeof above));
    for (int k = 0; k < STEPS; k++) {
        must(ebm_store_write(b->store, "y", y, sizeof y));
        must(ebm_program_run(p, 1));
        must(ebm_store_read(b->store, "y", y, sizeof y));
        y[2 + k] += (float)of[LEVEL_STEP];
    }
    for (int i = 0; i < STEPS + 2; i++)
        sum += square(y[i]);
    return sum;
}

/* Where chains of 15 steps, begun by an initializer that has learned all it can,
 * come to rest: not at 1/V, but at known figures. */
static void test_fixed_points(void)
{
    static const double rest[LEVELS] = { 2.0237, 2.9081, 3.0540, 2.9893, 3.7818, 1.0226 };
    struct bench b = { .v = 0.25 };
    double worst = 0, least = 1;

    bench_open(&b, (const int64_t[]){ STEPS + 2, 1, 1, 1 }, NULL);
    ebm_val theta = ebm_feed(b.g, "theta", EBM_F32, 1, &(const int64_t){ 1 });
    const struct cdrl_step step = { of_theta, &theta, 1, 0, b.counter, 7 };
    ebm_val effect = ebm_assign(b.g, b.y, cdrl_step(b.g, &step, &b.place, b.y, b.x));
    ebm_program *p = compiled(&b, 1, &effect);
    for (int t = 0; t < LEVELS; t++) {
        double own = precision_of(&b.schedule, t, b.v);
        worst = maximum(worst, fabs(second_moment(&b, p, t, rest[t]) * own - 1));
        least = fmin(least, fabs(second_moment(&b, p, t, own) * own - 1));
    }
    tap_ok(worst < 3e-5 && least > 3e-4, "where the loop comes to rest at each level: the moments agree (%.0e), "
           "and do not at 1/V (%.0e)", worst, least);
    ebm_program_free(p);
    bench_close(&b);
}

/* The gradient by g of |end - g - d n|^2, averaged over n, is 2 d^2 times that of
 * |end - g|^2 / (2 d^2). */
static void test_proposal_loss(void)
{
    enum { DRAWS = 1 << 16 };
    const int64_t one = 1, shape[4] = { DRAWS, 1, 1, 1 };
    const double end = 0.9, mean = 0.4;
    double worst = 0;
    struct bench b;
    float is;

    bench_open(&b, shape, NULL);
    ebm_val w = ebm_param(b.g, "phi", "mean", 1, &one, (ebm_init){ EBM_INIT_CONST, (float)mean, 0 });
    ebm_val g_of_x = ebm_broadcast(b.g, ebm_reshape(b.g, w, 4, (int64_t[]){ 1, 1, 1, 1 }), 4, shape);
    ebm_val proposed = cdrl_propose(b.g, &b.place, g_of_x, ebm_normal(b.g, b.counter, 3, 4, shape));
    ebm_val loss = cdrl_proposal_loss(b.g, proposed, ebm_fill(b.g, g_of_x, end));
    ebm_val grad = ebm_grad_region(b.g, loss, "phi");
    ebm_program *p = compiled(&b, 2, (ebm_val[]){ grad, b.tick });
    for (int t = 0; t < LEVELS; t++) {
        double d = b.schedule.of[t][LEVEL_PROPOSAL], expected = 2 * d * d * (mean - end) / (d * d);
        set_level(&b, p, t);
        must(ebm_program_run(p, 1));
        must(ebm_program_get(p, grad, &is, sizeof is));
        worst = maximum(worst, fabs(is - expected) / (2 * d / sqrt(DRAWS)));
    }
    tap_ok(worst < 5, "the initializer's gradient: that of its likelihood by 2 variances (%.1f deviations)", worst);
    ebm_program_free(p);
    bench_close(&b);
}

/* ---- rates ---- */

static void test_rates(void)
{
    static const struct { double rate, from, n, expected; } known[] = {
        { 1e-4, 0, 0, 0 }, { 1e-4, 0, 5000, 5e-5 }, { 1e-4, 0, 10000, 1e-4 }, { 1e-4, 0, 20000, 1e-4 },
        { 1e-5, 500, 0, 5e-7 }, { 1e-5, 500, 5000, 5.5e-6 }, { 1e-5, 500, 10000, 1e-5 },
    };
    ebm_val rates[COUNT(known)];
    struct bench b;
    double worst = 0;

    bench_open(&b, (const int64_t[]){ 1, 1, 1, 1 }, NULL);
    ebm_val n = ebm_feed(b.g, "n", EBM_F32, 0, NULL);
    for (size_t i = 0; i < COUNT(known); i++) {
        ebm_schedule s = { .rate = known[i].rate, .warmup = 10000, .warmup_offset = known[i].from };
        rates[i] = ebm_schedule_at(b.g, ebm_offset(b.g, n, known[i].n), &s);
    }
    ebm_program *p = compiled(&b, COUNT(known), rates);
    must(ebm_program_set(p, "n", &(float){ 0 }, sizeof(float)));
    must(ebm_program_run(p, 1));
    for (size_t i = 0; i < COUNT(known); i++) {
        float is;
        must(ebm_program_get(p, rates[i], &is, sizeof is));
        worst = maximum(worst, fabs(is - known[i].expected) / known[i].rate);
    }
    tap_ok(worst < 1e-6, "learning rates of both networks while they rise");
    ebm_program_free(p);
    bench_close(&b);
}

int main(void)
{
    if (ebm_context_new(NULL, &ctx) < 0 || ebm_backend_open(ctx, "cpu", 0, &cpu) < 0)
        return 1;
    test_schedules();
    test_places();
    test_textbook();
    test_gaussian_chains();
    test_pairs();
    for (size_t i = 0; i < COUNT(samplers); i++)
        test_sampler((int)i);
    test_consistency();
    test_fixed_points();
    test_proposal_loss();
    test_rates();
    ebm_backend_free(cpu);
    ebm_context_free(ctx);
    return tap_done();
}
