/* resize.c - bilinear resampling with antialiasing, to the bit Pillow's (version
 * 10; version 13 takes the columns first at times, which moves a byte by 1).
 *
 * SPDX-License-Identifier: ISC
 *
 * Separable, rows first.  Output i of a line takes the inputs under a triangle
 * around its centre, which is widened by the scale when the line shrinks:
 *
 *      weight        . ^ .            centre   (i + 1/2) scale
 *               . '    |    ' .       support  max(scale, 1)
 *      --|--|--|--|--|-|-|--|--|--|-- inputs
 *
 * Weights are normalised to 1.  Pillow computes bytes with weights in units of
 * 2^-22 and rounds after each of the two passes; sums of such products are exact
 * in a double, so one loop serves bytes and floats. */
#include <math.h>
#include <string.h>
#include "image.h"

enum { WEIGHT_BITS = 22 };

/* Which inputs make an output, and how much of each. */
struct taps {
    size_t reach;       /* weights per output */
    size_t *first, *count;
    double *weights;
};

static void taps_free(ebm_context *ctx, struct taps *t)
{
    mem_free(ctx, t->first);
    mem_free(ctx, t->count);
    mem_free(ctx, t->weights);
}

/* To be freed on failure too.  Outputs [start,start+n) of a line resized from `in` to `out` elements. */
static int taps_new(ebm_context *ctx, struct taps *t, size_t in, size_t out,
                    size_t start, size_t n, bool bytes)
{
    const double scale = (double)in / (double)out, support = scale > 1 ? scale : 1;
    const double unit = (double)(1 << WEIGHT_BITS);
    size_t i, j;

    memset(t, 0, sizeof *t);
    t->reach = 2 * (size_t)ceil(support) + 1;
    t->first = mem_new(ctx, n, sizeof *t->first);
    t->count = mem_new(ctx, n, sizeof *t->count);
    t->weights = mem_new(ctx, n, t->reach * sizeof *t->weights);
    if (!t->first || !t->count || !t->weights)
        return EBM_ERR_NOMEM;
    for (i = 0; i < n; i++) {
        double *w = t->weights + i * t->reach, sum = 0;
        double centre = ((double)(start + i) + 0.5) * scale;
        double begin = centre - support + 0.5, end = centre + support + 0.5;
        size_t first = begin > 0 ? (size_t)begin : 0;
        size_t last = end < (double)in ? (size_t)end : in;

        t->first[i] = first;
        t->count[i] = last - first;
        for (j = 0; j < last - first; j++) {
            double d = fabs(((double)(first + j) - centre + 0.5) * (1 / support));
            w[j] = d < 1 ? 1 - d : 0;
            sum += w[j];
        }
        for (j = 0; j < last - first; j++) {
            w[j] /= sum;
            if (bytes)
                w[j] = floor(w[j] * unit + 0.5) / unit;
        }
    }
    return EBM_OK;
}

/* n outputs, `step` elements apart: output k takes from[first[k] * stride ...]. */
static void resample_line(const struct image *from, size_t at, size_t stride,
                          const struct taps *t, size_t n,
                          struct image *to, size_t to_at, size_t step)
{
    size_t k, j;

    for (k = 0; k < n; k++, to_at += step) {
        const double *w = t->weights + k * t->reach;
        size_t source = at + t->first[k] * stride;
        double sum = 0;

        if (from->bytes) {
            for (j = 0; j < t->count[k]; j++, source += stride)
                sum += w[j] * from->bytes[source];
            sum = floor(sum + 0.5);
            to->bytes[to_at] = (uint8_t)(sum > 255 ? 255 : sum);
        } else {
            for (j = 0; j < t->count[k]; j++, source += stride)
                sum += w[j] * (double)from->floats[source];
            to->floats[to_at] = (float)sum;
        }
    }
}

int image_resample(ebm_context *ctx, const struct image *from, const size_t full[2],
                   size_t y, size_t x, size_t height, size_t width,
                   struct image *to)
{
    const size_t c = from->channels;
    const bool bytes = from->bytes != NULL;
    struct taps rows = { 0 }, columns = { 0 };
    struct image middle = { 0 };   /* all columns of the rows that are needed */
    size_t i, k;
    int rc;

    memset(to, 0, sizeof *to);
    if ((rc = taps_new(ctx, &columns, from->width, full[1], x, width, bytes)) < 0
        || (rc = taps_new(ctx, &rows, from->height, full[0], y, height, bytes)) < 0)
        goto end;
    size_t top = rows.first[0];
    size_t bottom = rows.first[height - 1] + rows.count[height - 1];
    if ((rc = image_new(ctx, &middle, bottom - top, width, c, !bytes)) < 0
        || (rc = image_new(ctx, to, height, width, c, !bytes)) < 0)
        goto end;
    for (i = top; i < bottom; i++)
        for (k = 0; k < c; k++)
            resample_line(from, i * from->width * c + k, c, &columns, width,
                          &middle, (i - top) * width * c + k, c);
    for (i = 0; i < height; i++)
        rows.first[i] -= top;
    for (i = 0; i < width * c; i++)
        resample_line(&middle, i, width * c, &rows, height, to, i, width * c);
end:
    taps_free(ctx, &rows);
    taps_free(ctx, &columns);
    image_free(ctx, &middle);
    return rc;
}
