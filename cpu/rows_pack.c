/* rows_pack.c - filters as the kernels of conv_rows.c read them.
 *
 * SPDX-License-Identifier: ISC */
#include <string.h>
#include "rows.h"

int64_t rows_pieces(const struct rows *s, const struct phase *ph)
{
    return ph->taps * s->groups * (s->kernel == TILES ? panels(s) : 1);
}

static void pack_tile(const struct rows *s, const float *f, int64_t terms, int64_t columns,
                      int width, float *packed)
{
    if (s->f_column == 1) {
        for (int64_t k = 0; k < terms; k++, packed += width) {
            memcpy(packed, f + k * s->f_term, (size_t)columns * sizeof *f);
            for (int64_t j = columns; j < width; j++)
                packed[j] = 0;
        }
        return;
    }
    for (int64_t j = 0; j < columns; j++)
        for (int64_t k = 0; k < terms; k++)
            packed[k * width + j] = f[j * s->f_column + k * s->f_term];
    for (int64_t j = columns; j < width; j++)
        for (int64_t k = 0; k < terms; k++)
            packed[k * width + j] = 0;
}

/* The filter's index that phase `phase` of an axis has at an offset, or -1. */
static int64_t tap_at(int64_t phase, int64_t offset, int64_t pad, int64_t stride,
                      int64_t dilation, int64_t size)
{
    int64_t i = phase + pad - offset * stride;

    return i >= 0 && i % dilation == 0 && i / dilation < size ? i / dilation : -1;
}

/* One tap of a merged phase: filter [k,r,s,c] to [phase and c][tap][k]. */
static void pack_merged(const struct rows *s, const struct phase *ph, int64_t t,
                        const float *f, float *packed)
{
    const struct problem *v = &s->v;
    int64_t y = s->band.first_y + t / s->band.span_x, x = s->band.first_x + t % s->band.span_x;

    packed += t * v->k;
    for (int64_t j = 0; j < s->columns; j++, packed += ph->depth) {
        int64_t phase = j / v->c, c = j % v->c;
        int64_t r = tap_at(phase / s->phases_x, y, v->top, v->stride_y, v->dilation_y, v->r);
        int64_t i = tap_at(phase % s->phases_x, x, v->left, v->stride_x, v->dilation_x, v->s);
        for (int64_t k = 0; k < v->k; k++)
            packed[k] = r < 0 || i < 0 ? 0 : f[((k * v->r + r) * v->s + i) * v->c + c];
    }
}

/* One tap of pixels side by side, the panel's only one: to columns [pixel and c]. */
static void pack_side(const struct rows *s, int64_t t, const float *f, int64_t terms, float *packed)
{
    const struct problem *v = &s->v;
    int64_t x = t % s->band.span_x, each = s->columns / s->side, step = s->band.step_x / s->side;
    int64_t cg = v->c / v->groups;

    for (int64_t k = 0; k < terms; k++, packed += s->u->NS) {
        memset(packed, 0, (size_t)s->u->NS * sizeof *packed);
        for (int64_t pixel = 0; pixel < s->side; pixel++) {
            int64_t i = x - pixel * step;
            if (i < 0 || i >= v->s)
                continue;
            const float *tap = f + (v->op == OP_CONV ? i : v->s - 1 - i) * cg + k * s->f_term;
            for (int64_t c = 0; c < each; c++)
                packed[pixel * each + c] = tap[c * s->f_column];
        }
    }
}

/* One tap of groups that are one: each group's terms by its own columns, else zeros. */
static void pack_together(const struct rows *s, const float *f, float *packed)
{
    int64_t width = s->u->NS, columns = s->columns / s->together, terms = s->tap_length / s->together;

    memset(packed, 0, (size_t)(s->tap_length * width) * sizeof *packed);
    for (int64_t i = 0; i < s->together; i++, f += s->f_group, packed += terms * width + columns)
        for (int64_t j = 0; j < columns; j++)
            for (int64_t k = 0; k < terms; k++)
                packed[k * width + j] = f[j * s->f_column + k * s->f_term];
}

void rows_pack(const struct rows *s, const struct phase *ph, int64_t piece,
               const float *f, float *packed)
{
    int64_t t = piece % ph->taps, rest = piece / ph->taps;
    int64_t before = t * s->tap_length;       /* terms of earlier taps */
    int64_t terms = least(s->tap_length, ph->depth - before);

    if (s->merged) {
        pack_merged(s, ph, t, f, packed);
        return;
    }
    f += ph->tap[t];
    packed += ph->packed;
    if (s->kernel == TAPS) {
        int64_t window = s->v.r * s->v.s;     /* filter [c,r,s,1] */
        for (int64_t c = 0; c < s->columns; c++)
            packed[t * s->columns + c] = f[c * window];
        return;
    }
    int64_t each = s->kernel == TILES ? panels(s) : 1;
    int64_t group = rest / each, j = rest % each;
    f += group * s->together * s->f_group;
    packed += group * packed_size(s, ph->depth);
    if (s->kernel == DOT) {
        for (int64_t c = 0; c < s->columns; c++)
            for (int64_t k = 0; k < terms; k++)
                packed[c * ph->depth + before + k] = f[c * s->f_column + k * s->f_term];
        return;
    }
    if (s->side > 1) {
        pack_side(s, t, f, terms, packed + before * s->u->NS);
        return;
    }
    if (s->together > 1) {
        pack_together(s, f, packed + before * s->u->NS);
        return;
    }
    int width = panel_width(s, j);
    int64_t first = j * s->u->NR;
    pack_tile(s, f + first * s->f_column, terms, least(width, s->columns - first), width,
              packed + first * ph->depth + before * width);
}
