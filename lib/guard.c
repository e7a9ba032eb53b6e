/* guard.c - see guard.h.
 *
 * SPDX-License-Identifier: ISC
 *
 * The running mean of the gradient's norm forgets with 1/n over the first
 * hundred steps and with 1/100 from then on.  An outlier moves it by no more than
 * the limit itself would, so that a lasting change of scale is refused for some
 * steps and then accepted. */
#include <math.h>
#include <stdio.h>
#include "guard.h"

const struct recipe_key guard_keys[] = {
    { "guard.gap", KEY_NUMBER, "1000", 0, 1e30,
      "refuse updates where |E(data) - E(samples)| is above this; 0: never", NULL },
    { "guard.gradient", KEY_NUMBER, "50", 0, 1e30,
      "refuse updates whose gradient norm is above this many times its running mean; 0: never", NULL },
    { "guard.patience", KEY_INTEGER, "20", 1, 1e6,
      "after so many refused updates in a row, go back to a checkpoint", NULL },
    { "guard.rollbacks", KEY_INTEGER, "5", 0, 1e6,
      "give up when this many returns to a checkpoint were in vain", NULL },
};
const int guard_n_keys = COUNT(guard_keys);

static const double LARGE = 1e30;            /* short of the largest float */
enum { MEMORY = 100, COUNT_MAX = 1000000 };  /* steps; the count stays exact */

/* 1 for a number, 0 for infinities and NaN, whose comparisons are false. */
static ebm_val is_finite(ebm_graph *g, ebm_val a)
{
    return ebm_less(g, ebm_abs(g, a), ebm_const(g, LARGE));
}

ebm_val guard_enable(ebm_graph *g, struct recipe *recipe, const struct guard_view *view,
                     ebm_val *mean_out, ebm_outputs *outputs)
{
    double gap_limit = recipe_number(recipe, "guard.gap");
    double factor = recipe_number(recipe, "guard.gradient");
    ebm_init zero = { EBM_INIT_CONST, 0, 0 };
    ebm_val mean = ebm_state(g, "guard.mean", EBM_F32, 0, NULL, zero);
    ebm_val count = ebm_state(g, "guard.count", EBM_F32, 0, NULL, zero);

    ebm_val finite = ebm_mul(g, is_finite(g, view->loss),
                             ebm_mul(g, is_finite(g, view->gap), is_finite(g, view->gradient)));
    if (view->others)
        finite = ebm_mul(g, finite, is_finite(g, view->others));
    ebm_val ok = finite;
    if (gap_limit > 0)
        ok = ebm_mul(g, ok, ebm_less(g, ebm_abs(g, view->gap), ebm_const(g, gap_limit)));

    ebm_val seen = view->gradient;
    if (factor > 0) {
        ebm_val limit = ebm_scale(g, mean, factor);
        ebm_val young = ebm_less(g, count, ebm_const(g, MEMORY));
        ok = ebm_mul(g, ok, ebm_max(g, young, ebm_less(g, seen, limit)));
        seen = ebm_select(g, young, seen, ebm_min(g, seen, limit));
    }
    ebm_val older = ebm_offset(g, count, 1);
    ebm_val weight = ebm_max(g, ebm_div(g, ebm_const(g, 1), older), ebm_const(g, 1. / MEMORY));
    ebm_val moved = ebm_add(g, mean, ebm_mul(g, weight, ebm_sub(g, seen, mean)));

    ebm_output(g, outputs, ebm_assign(g, mean, ebm_select(g, finite, moved, mean)));
    ebm_output(g, outputs, ebm_assign(g, count, ebm_select(g, finite,
               ebm_min(g, older, ebm_const(g, COUNT_MAX)), count)));
    if (mean_out)
        *mean_out = mean;
    return ok;
}

struct guard guard_of(struct recipe *recipe)
{
    return (struct guard){
        .gap = recipe_number(recipe, "guard.gap"),
        .gradient = recipe_number(recipe, "guard.gradient"),
        .patience = (int)recipe_integer(recipe, "guard.patience"),
        .limit = (int)recipe_integer(recipe, "guard.rollbacks"),
    };
}

enum guard_verdict guard_judge(struct guard *guard, bool accepted)
{
    if (accepted) {
        guard->skips = 0;
        return GUARD_GOOD;
    }
    return ++guard->skips < guard->patience ? GUARD_SKIPPED : GUARD_ROLL_BACK;
}

void guard_reason(const struct guard *guard, double loss, double gap, double gradient,
                  double mean, char text[GUARD_TEXT])
{
    if (!isfinite(loss) || !isfinite(gap))
        snprintf(text, GUARD_TEXT, "the energies are not finite");
    else if (!isfinite(gradient))
        snprintf(text, GUARD_TEXT, "the gradient is not finite");
    else if (guard->gap > 0 && !(fabs(gap) < guard->gap))
        snprintf(text, GUARD_TEXT, "energy gap %.4g, beyond guard.gap %.4g", gap, guard->gap);
    else if (guard->gradient > 0 && !(gradient < guard->gradient * mean))
        snprintf(text, GUARD_TEXT, "gradient norm %.4g, %.3g times its running mean %.4g",
                 gradient, gradient / mean, mean);
    else
        snprintf(text, GUARD_TEXT, "values are not finite");
}
