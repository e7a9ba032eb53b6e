/* test_ood.c - detection figures on cases small enough to work out by hand.
 *
 * SPDX-License-Identifier: ISC */
#include <math.h>
#include <string.h>
#include "ebm.h"
#include "tap.h"

static bool near(double a, double b)
{
    return fabs(a - b) < 1e-12;
}

/* The definition: pairs in which the foreign one scores higher, ties half. */
static double pairs(size_t n_in, const float *in, size_t n_out, const float *out)
{
    double wins = 0;

    for (size_t i = 0; i < n_in; i++)
        for (size_t j = 0; j < n_out; j++)
            wins += out[j] > in[i] ? 1 : out[j] == in[i] ? 0.5 : 0;
    return wins / (double)(n_in * n_out);
}

int main(void)
{
    ebm_context *ctx;
    ebm_detection d;

    if (!tap_ok(ebm_context_new(NULL, &ctx) == EBM_OK, "a context"))
        return tap_done();

    {
        const float in[] = { 0, 1, 2 }, out[] = { 3, 4 };
        int rc = ebm_detect(ctx, 3, in, 2, out, &d);
        tap_ok(rc == EBM_OK && near(d.auroc, 1) && near(d.fpr95, 0), "apart: AUROC 1, FPR 0");
        tap_ok(near(d.aupr_out_ap, 1) && near(d.aupr_in_ap, 1)
               && near(d.aupr_out_trapezoid, 1) && near(d.aupr_in_trapezoid, 1), "apart: AUPR 1");
        rc = ebm_detect(ctx, 2, out, 3, in, &d);
        tap_ok(rc == EBM_OK && near(d.auroc, 0) && near(d.fpr95, 1), "the wrong way round: 0 and 1");
    }
    {
        /* Descending: 4+ 3- 2+ 1-.  Thresholds: P 1, R 1/2; 1/2, 1/2; 2/3, 1; 1/2, 1. */
        const float in[] = { 3, 1 }, out[] = { 4, 2 };
        int rc = ebm_detect(ctx, 2, in, 2, out, &d);
        tap_ok(rc == EBM_OK && near(d.auroc, 0.75), "interleaved: AUROC 3/4");
        tap_ok(near(d.aupr_out_ap, 0.5 + 0.5 * 2 / 3), "interleaved: average precision 5/6");
        tap_ok(near(d.aupr_out_trapezoid, 0.5 + 0.5 * (0.5 + 2. / 3) / 2),
               "interleaved: trapezoid 19/24");
        tap_ok(near(d.fpr95, 0.5), "interleaved: FPR at 95 %% is 1/2");
        /* Known ones positive, negated: -1+ -2- -3+ -4-: the same picture. */
        tap_ok(near(d.aupr_in_ap, 0.5 + 0.5 * 2 / 3), "interleaved: AUPR of known ones 5/6");
    }
    {
        const float in[] = { 5, 5, 5, 5 }, out[] = { 5, 5 };
        int rc = ebm_detect(ctx, 4, in, 2, out, &d);
        tap_ok(rc == EBM_OK && near(d.auroc, 0.5), "all tied: AUROC 1/2");
        tap_ok(near(d.aupr_out_ap, 1. / 3) && near(d.aupr_in_ap, 2. / 3),
               "all tied: average precision is the share of positives");
        tap_ok(near(d.fpr95, 1), "all tied: FPR 1");
    }
    {
        /* Whatever the order of the input, whatever the ties. */
        float in[97], out[53], back[97];
        unsigned x = 1;
        for (int i = 0; i < 97; i++)
            in[i] = (float)((x = x * 1664525u + 1013904223u) >> 28);
        for (int i = 0; i < 53; i++)
            out[i] = (float)((x = x * 1664525u + 1013904223u) >> 28) + 2;
        int rc = ebm_detect(ctx, 97, in, 53, out, &d);
        tap_ok(rc == EBM_OK && near(d.auroc, pairs(97, in, 53, out)), "AUROC counts pairs");
        for (int i = 0; i < 97; i++)
            back[i] = in[96 - i];
        ebm_detection e;
        rc = ebm_detect(ctx, 97, back, 53, out, &e);
        tap_ok(rc == EBM_OK && memcmp(&d, &e, sizeof d) == 0, "the order of the input is nothing");
    }
    {
        const float in[] = { 1, 2 }, out[] = { 3, NAN };
        tap_ok(ebm_detect(ctx, 0, in, 1, out, &d) == EBM_ERR_ARG, "an empty side is refused");
        tap_ok(ebm_detect(ctx, 2, in, 2, out, &d) == EBM_ERR_ARG
               && strstr(ebm_message(ctx), "foreign image 1"), "not a number is refused by its place");
    }
    ebm_context_free(ctx);
    return tap_done();
}
