/* shapes_measure.c - the attributes of any picture, by the nearest drawn one.
 *
 * SPDX-License-Identifier: ISC
 *
 * For a shape that covers the part t of each pixel, the two colours that make the
 * picture nearest are a regression of its pixels on t; what that explains,
 *   sum over channels of cov(p,t)^2 / var(t),
 * is to be as large as possible.  Of each shape the best of a coarse grid of
 * places, sizes and angles is improved by steps that are halved. */
#include <math.h>
#include <string.h>
#include "source.h"

enum { CHANNELS_MAX = 3, SHAPES = 6, SIDE_MIN = 8, SIDE_MAX = 256 };

/* Degrees after which a shape is itself again; 0: at once. */
static const double symmetry[SHAPES] = { 0, 90, 120, 72, 90, 0 };

struct search {
    const float *pixels;
    size_t height, width;
    int channels;
    double mean[CHANNELS_MAX], total;    /* of the pixels; their variance, summed */
    uint8_t *hits;
};

struct match {
    ebm_shapes_attributes a;
    double explained;
    double ink[CHANNELS_MAX], ground[CHANNELS_MAX];
};

static void begin(struct search *s)
{
    size_t n = s->height * s->width;

    s->total = 0;
    for (int c = 0; c < s->channels; c++) {
        double sum = 0, squares = 0;
        for (size_t i = 0; i < n; i++) {
            double p = s->pixels[i * (size_t)s->channels + (size_t)c];
            sum += p;
            squares += p * p;
        }
        s->mean[c] = sum / (double)n;
        s->total += squares - sum * sum / (double)n;
    }
}

static void consider(struct search *s, const ebm_shapes_attributes *a, int points, struct match *m)
{
    double n = (double)(s->height * s->width), t = 0, tt = 0, pt[CHANNELS_MAX] = { 0 };
    double all = points * points;

    m->a = *a;
    shapes_cover(a, s->height, s->width, points, s->hits);
    for (size_t i = 0; i < s->height * s->width; i++) {
        double part = s->hits[i] / all;
        if (part == 0)
            continue;
        t += part;
        tt += part * part;
        for (int c = 0; c < s->channels; c++)
            pt[c] += part * ((double)s->pixels[i * (size_t)s->channels + (size_t)c] - s->mean[c]);
    }
    double variance = tt - t * t / n;
    m->explained = 0;
    for (int c = 0; c < s->channels; c++) {
        double slope = variance > 0 ? pt[c] / variance : 0;
        m->explained += slope * pt[c];
        m->ground[c] = s->mean[c] - slope * t / n;
        m->ink[c] = m->ground[c] + slope;
    }
}

/* Within what "shapes" draws: the size, the whole shape in the picture. */
static void keep_inside(const struct search *s, ebm_shapes_attributes *a)
{
    double side = (double)(s->height < s->width ? s->height : s->width);

    a->size = fminf(fmaxf(a->size, 0.15f), 0.35f);
    float rx = (float)((double)a->size * side / (double)s->width);
    float ry = (float)((double)a->size * side / (double)s->height);
    a->x = fminf(fmaxf(a->x, rx), 1 - rx);
    a->y = fminf(fmaxf(a->y, ry), 1 - ry);
    double period = symmetry[a->shape];
    a->rotation = period > 0 ? (float)(a->rotation - period * floor(a->rotation / period)) : 0;
}

static void coarse(struct search *s, int shape, struct match *best)
{
    enum { SIZES = 3, ANGLES = 3 };
    const int angles = symmetry[shape] > 0 ? ANGLES : 1;
    const double pixels = 2;             /* between places */
    struct match m;

    best->explained = -1;
    for (int i = 0; i < SIZES; i++)
        for (int j = 0; j < angles; j++)
            for (double y = pixels / 2; y < (double)s->height; y += pixels)
                for (double x = pixels / 2; x < (double)s->width; x += pixels) {
                    ebm_shapes_attributes a = {
                        .shape = shape, .size = (float)(0.18 + 0.07 * i),
                        .rotation = (float)(symmetry[shape] * j / angles),
                        .x = (float)(x / (double)s->width), .y = (float)(y / (double)s->height),
                    };
                    ebm_shapes_attributes inside = a;
                    keep_inside(s, &inside);
                    if (fabsf(inside.x - a.x) * (float)s->width > 1 || fabsf(inside.y - a.y) * (float)s->height > 1)
                        continue;
                    consider(s, &inside, 2, &m);
                    if (m.explained > best->explained)
                        *best = m;
                }
}

/* Steps along x, y, size and angle, both ways, halved where none helps. */
static void improve(struct search *s, struct match *best)
{
    double step[4] = { 2. / (double)s->width, 2. / (double)s->height, 0.04, symmetry[best->a.shape] / 6 };
    struct match m;

    consider(s, &best->a, SHAPES_POINTS, best);
    for (int halvings = 0; halvings < 6; ) {
        bool better = false;
        for (int k = 0; k < 8; k++) {
            ebm_shapes_attributes a = best->a;
            float *const field[4] = { &a.x, &a.y, &a.size, &a.rotation };
            if (step[k / 2] == 0)
                continue;
            *field[k / 2] += (float)(k % 2 ? step[k / 2] : -step[k / 2]);
            keep_inside(s, &a);
            consider(s, &a, SHAPES_POINTS, &m);
            if (m.explained > best->explained * (1 + 1e-9)) {
                *best = m;
                better = true;
            }
        }
        if (better)
            continue;
        for (int k = 0; k < 4; k++)
            step[k] /= 2;
        halvings++;
    }
}

/* The paint nearest to a colour found. */
static int nearest(const struct search *s, const double *found, bool ink)
{
    const char *attribute = ink ? "colour" : "background";
    double least = HUGE_VAL;
    int best = 0;

    for (int v = 0; ebm_shapes_name(attribute, v); v++) {
        const uint8_t *rgb = shapes_paint(ink ? v : -1, v);
        double grey = (0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]) / 255, d = 0;
        for (int c = 0; c < s->channels; c++) {
            double apart = found[c] - (s->channels == 1 ? grey : rgb[c] / 255.);
            d += apart * apart;
        }
        if (d < least) {
            least = d;
            best = v;
        }
    }
    return best;
}

int ebm_shapes_measure(ebm_context *ctx, const float *pixels, int height, int width, int channels,
                       ebm_shapes_attributes *attributes, double *fit)
{
    struct search s = { pixels, (size_t)height, (size_t)width, channels, { 0 }, 0, NULL };
    struct match best = { .explained = -1 }, m;

    if (height < SIDE_MIN || width < SIDE_MIN || height > SIDE_MAX || width > SIDE_MAX
        || (channels != 1 && channels != 3))
        return ebm_fail(ctx, EBM_ERR_ARG, "pictures of %dx%dx%d: shapes are measured in 1 or 3 channels, "
                        "from %d to %d pixels a side", height, width, channels, SIDE_MIN, SIDE_MAX);
    if (!(s.hits = mem_new(ctx, s.height * s.width, 1)))
        return EBM_ERR_NOMEM;
    begin(&s);
    for (int shape = 0; shape < SHAPES; shape++) {
        coarse(&s, shape, &m);
        improve(&s, &m);
        if (m.explained > best.explained)
            best = m;
    }
    mem_free(ctx, s.hits);
    *attributes = best.a;
    attributes->colour = nearest(&s, best.ink, true);
    attributes->background = nearest(&s, best.ground, false);
    if (fit)
        *fit = s.total > 0 ? fmin(1, best.explained / s.total) : 0;
    return EBM_OK;
}
