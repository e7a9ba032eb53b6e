/* ood.c - how well scores tell foreign images from known ones.
 *
 * SPDX-License-Identifier: ISC
 *
 * All figures come from one pass over the scores in descending order, groups of
 * equal scores at a time, so that ties never depend on the order of the input:
 *
 *   threshold at a group:   TP, FP   positives and negatives at or above it
 *   recall = TP / P         precision = TP / (TP + FP)
 *
 * AUROC with ties half is the area under the ROC polygon through these points
 * (the Mann-Whitney statistic).  Average precision and the trapezoid rule differ
 * (Davis and Goadrich 2006), so both are given by their names. */
#include <math.h>
#include <stdlib.h>
#include "context.h"

struct scored {
    float score;             /* rises with being positive */
    bool positive;
};

static int descending(const void *pa, const void *pb)
{
    const struct scored *a = pa, *b = pb;

    return (a->score < b->score) - (a->score > b->score);
}

struct areas {
    double roc, ap, trapezoid;
    double fpr95;
};

static struct areas areas_of(struct scored *s, size_t n, double positives, double negatives)
{
    struct areas a = { 0, 0, 0, -1 };
    double tp = 0, fp = 0, recall = 0, precision = 1;

    qsort(s, n, sizeof *s, descending);
    for (size_t i = 0; i < n; ) {
        double tp_before = tp, fp_before = fp, recall_before = recall, precision_before = precision;
        float score = s[i].score;
        for (; i < n && s[i].score == score; i++) {
            tp += s[i].positive;
            fp += !s[i].positive;
        }
        recall = tp / positives;
        precision = tp / (tp + fp);
        a.roc += (fp - fp_before) * (tp + tp_before) / 2;
        a.ap += (recall - recall_before) * precision;
        a.trapezoid += (recall - recall_before) * (precision + precision_before) / 2;
        if (a.fpr95 < 0 && recall >= 0.95)
            a.fpr95 = fp / negatives;
    }
    a.roc /= positives * negatives;
    return a;
}

/* sign -1: the known images are the positives, and scores are negated. */
static void fill(struct scored *s, size_t n_in, const float *in,
                 size_t n_out, const float *out, float sign)
{
    for (size_t i = 0; i < n_in; i++)
        s[i] = (struct scored){ sign * in[i], sign < 0 };
    for (size_t i = 0; i < n_out; i++)
        s[n_in + i] = (struct scored){ sign * out[i], sign > 0 };
}

static int check(ebm_context *ctx, const char *side, size_t n, const float *scores)
{
    if (n == 0)
        return ebm_fail(ctx, EBM_ERR_ARG, "no %s images to tell apart", side);
    for (size_t i = 0; i < n; i++)
        if (isnan(scores[i]))
            return ebm_fail(ctx, EBM_ERR_ARG, "the score of %s image %zu is not a number", side, i);
    return EBM_OK;
}

int ebm_detect(ebm_context *ctx, size_t n_in, const float *in,
               size_t n_out, const float *out, ebm_detection *result)
{
    int status;

    if ((status = check(ctx, "known", n_in, in)) < 0
        || (status = check(ctx, "foreign", n_out, out)) < 0)
        return status;
    if (n_in > SIZE_MAX - n_out)
        return ebm_fail(ctx, EBM_ERR_ARG, "%zu and %zu scores are too many", n_in, n_out);
    struct scored *s = mem_new(ctx, n_in + n_out, sizeof *s);
    if (!s)
        return EBM_ERR_NOMEM;

    fill(s, n_in, in, n_out, out, 1);
    struct areas foreign = areas_of(s, n_in + n_out, (double)n_out, (double)n_in);
    fill(s, n_in, in, n_out, out, -1);
    struct areas known = areas_of(s, n_in + n_out, (double)n_in, (double)n_out);
    mem_free(ctx, s);

    *result = (ebm_detection){
        .auroc = foreign.roc, .fpr95 = foreign.fpr95,
        .aupr_out_ap = foreign.ap, .aupr_out_trapezoid = foreign.trapezoid,
        .aupr_in_ap = known.ap, .aupr_in_trapezoid = known.trapezoid,
    };
    return EBM_OK;
}
