/* cdrl_level.c - what the networks of diffusion recovery likelihood are told:
 * the level and the label.
 *
 * SPDX-License-Identifier: ISC */
#include "cdrl.h"

/* a times a number that a float does not hold: by it and by what it leaves. */
static ebm_val scale_exactly(ebm_graph *g, ebm_val a, double number)
{
    double held = (double)(float)number;

    return ebm_add(g, ebm_scale(g, a, held), ebm_scale(g, a, number - held));
}

/* `times` arctan r for r in [0,1].  arctan r = 2 arctan(r / (1 + sqrt(1 + r^2)))
 * three times brings r below 0.1, where six terms of the series do. */
static ebm_val arctan(ebm_graph *g, ebm_val r, double times)
{
    for (int i = 0; i < 3; i++)
        r = ebm_div(g, r, ebm_offset(g, ebm_sqrt(g, ebm_offset(g, ebm_square(g, r), 1)), 1));
    ebm_val square = ebm_square(g, r), sum = ebm_fill(g, r, -1. / 11);
    for (int k = 9; k > 0; k -= 2)
        sum = ebm_offset(g, ebm_mul(g, sum, square), k % 4 == 1 ? 1. / k : -1. / k);
    return scale_exactly(g, ebm_mul(g, sum, r), 8 * times);
}

/* arctan(exp(-l/2)), the angle whose tangent is the ratio of noise to signal, as
 * a part of pi/2.  By the smaller of the two ratios, for the larger angle is its
 * complement. */
ebm_val cdrl_noise_level(ebm_graph *g, ebm_val log_snr)
{
    const double most = 20, right = 1.5707963267948966, scale = 1000;
    ebm_val l = ebm_clamp(g, log_snr, -most, most);
    ebm_val part = arctan(g, ebm_exp(g, ebm_scale(g, ebm_abs(g, l), -0.5)), scale / right);
    ebm_val noisy = ebm_less(g, l, ebm_fill(g, l, 0));

    return ebm_select(g, noisy, ebm_offset(g, ebm_neg(g, part), scale), part);
}

static bool rows_fit(ebm_graph *g, ebm_val a, int64_t n, const char *what)
{
    int64_t rows[EBM_MAX_RANK];
    int rank = ebm_shape(g, a, rows);

    if (rank == 1 && (rows[0] == n || rows[0] == 1))
        return true;
    graph_fail(g, EBM_ERR_ARG, "%s must be [1] or [%lld]", what, (long long)n);
    return false;
}

bool cdrl_told(ebm_graph *g, ebm_val x, ebm_val level, ebm_val labels, int64_t classes)
{
    int64_t n[EBM_MAX_RANK];
    int rank = ebm_shape(g, x, n);

    if (g->status < 0)
        return false;
    if (rank != 2 && rank != 4) {
        graph_fail(g, EBM_ERR_ARG, "this network takes images [n,h,w,c] or points [n,d]");
        return false;
    }
    if (!labels != !classes) {
        graph_fail(g, EBM_ERR_ARG, classes ? "this network needs labels" : "this network takes no labels");
        return false;
    }
    return rows_fit(g, level, n[0], "levels") && (!labels || rows_fit(g, labels, n[0], "labels"));
}
