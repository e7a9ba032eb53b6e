/* cdrl_schedule.c - see cdrl_schedule.h.
 *
 * SPDX-License-Identifier: ISC */
#include <math.h>
#include "cdrl_schedule.h"

/* Of state t; signal^2 + noise^2 = 1. */
struct state {
    double log_snr, signal, noise;
};

static struct state state_of(double log_snr)
{
    return (struct state){ log_snr, sqrt(1 / (1 + exp(-log_snr))), sqrt(1 / (1 + exp(log_snr))) };
}

static void set_level(struct cdrl_schedule *schedule, int t, const struct state *below)
{
    const struct state *above = below + 1;
    double *of = schedule->of[t];
    double alpha = above->signal / below->signal, sigma = sqrt(1 - alpha * alpha);
    bool top = t == schedule->levels - 1;

    of[LEVEL_NUMBER] = t;
    of[LEVEL_LOG_SNR] = below->log_snr;
    of[LEVEL_LOG_SNR_ABOVE] = above->log_snr;
    of[LEVEL_SIGNAL] = below->signal;
    of[LEVEL_NOISE] = below->noise;
    of[LEVEL_SIGNAL_ABOVE] = above->signal;
    of[LEVEL_NOISE_ABOVE] = above->noise;
    of[LEVEL_ALPHA] = alpha;
    of[LEVEL_SIGMA] = sigma;
    of[LEVEL_SCALE] = top ? 1 : alpha;
    /* x_t given x_{t+1} and the clean image has this deviation. */
    of[LEVEL_PROPOSAL] = below->noise / above->noise * sigma * of[LEVEL_SCALE];
    of[LEVEL_WEIGHT] = schedule->of[0][LEVEL_SIGMA] / sigma;
}

static void set_levels(struct cdrl_schedule *schedule, int levels, const struct state *states)
{
    schedule->levels = levels;
    for (int t = 0; t < levels; t++)
        set_level(schedule, t, &states[t]);
}

void cdrl_tan_cosine(struct cdrl_schedule *schedule, int levels, double highest, double lowest)
{
    struct state states[CDRL_LEVELS + 1];
    double b = atan(exp(-highest / 2)), a = atan(exp(-lowest / 2)) - b;

    for (int t = 0; t <= levels; t++)
        states[t] = state_of(-2 * log(tan(a * t / levels + b)));
    set_levels(schedule, levels, states);
}

/* The noise of step i of the thousand; the last is followed by pure noise, which
 * no state reaches. */
static double beta(int i)
{
    return 1e-4 + (0.02 - 1e-4) * i / 999;
}

void cdrl_linear(struct cdrl_schedule *schedule)
{
    static const int cuts[] = { 0, 100, 200, 300, 400, 500, 999 };
    struct state states[COUNT(cuts)];
    double squared = 1;
    int i = 0;

    for (size_t t = 0; t < COUNT(cuts); t++) {
        for (; i <= cuts[t]; i++)
            squared *= 1 - beta(i);
        states[t] = (struct state){ log(squared / (1 - squared)), sqrt(squared), sqrt(1 - squared) };
    }
    set_levels(schedule, COUNT(cuts) - 1, states);
}

void cdrl_set_steps(struct cdrl_schedule *schedule, double step, bool growing)
{
    double first = schedule->of[0][LEVEL_NOISE];

    for (int t = 0; t < schedule->levels; t++) {
        double *of = schedule->of[t], c = (growing ? of[LEVEL_NOISE] : 1) / first;
        of[LEVEL_STEP] = sqrt(step * c) * of[LEVEL_SIGMA];
        of[LEVEL_PULL] = t == schedule->levels - 1 ? 0 : step * c / 2;
    }
}

/* Sums of exact products: the constant itself. */
struct cdrl_place cdrl_place(ebm_graph *g, const struct cdrl_schedule *schedule, ebm_val level)
{
    struct cdrl_place place = { { 0 } };

    for (int t = 0; t < schedule->levels; t++) {
        ebm_val here = ebm_equal(g, level, ebm_const(g, t));
        for (int k = 0; k < LEVEL_CONSTANTS; k++) {
            ebm_val part = ebm_scale(g, here, schedule->of[t][k]);
            place.of[k] = t ? ebm_add(g, place.of[k], part) : part;
        }
    }
    return place;
}

struct cdrl_place cdrl_place_of(ebm_graph *g, ebm_val constants)
{
    struct cdrl_place place;
    const int64_t one = 1;

    for (int64_t k = 0; k < LEVEL_CONSTANTS; k++)
        place.of[k] = ebm_slice(g, constants, &k, &one, NULL);
    return place;
}

ebm_val cdrl_beside(ebm_graph *g, ebm_val constant, ebm_val x)
{
    int64_t n[EBM_MAX_RANK], rows[EBM_MAX_RANK];
    int rank = ebm_shape(g, x, n);

    if (rank < 1 || ebm_shape(g, constant, rows) != 1)
        return 0;
    for (int i = 1; i < rank; i++)
        rows[i] = 1;
    return ebm_reshape(g, constant, rank, rows);
}
