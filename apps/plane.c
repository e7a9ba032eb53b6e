/* plane.c - a model of points of the plane, as a picture.
 *
 *   data      samples    energy 0   energy 1
 *   energy 2  ...
 *
 * SPDX-License-Identifier: ISC
 *
 * Energies are dark where they are low.  A panel's scale goes from its least value
 * to its mean: what is high lies far from all data, and is of no interest. */
#include "config.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "canvas.h"
#include "plane.h"
#include "tool.h"

enum { COLUMNS = 4, SIDE = 240, GAP = 16, HEAD = 24, DOTS = 3000, CELLS = 120 };

static const struct colour paper = { 255, 255, 255 }, ink = { 40, 44, 52 }, blue = { 0, 114, 178 };

struct plane {
    ebm_context *context;
    ebm_backend *device;
    const char *model;
    struct canvas canvas;
    float *points;               /* [max(DOTS, CELLS^2)][2] */
    float *energies;             /* [CELLS^2] */
};

bool plane_is(int height, int width, int channels)
{
    return height == 1 && width == 2 && channels == 1;
}

/* The corner of panel number i, under its title. */
static void panel(struct plane *p, int i, const char *title, int *left, int *top)
{
    *left = GAP + i % COLUMNS * (SIDE + GAP);
    *top = HEAD + i / COLUMNS * (SIDE + HEAD);
    canvas_text(&p->canvas, *left, *top - CANVAS_TEXT_HEIGHT - 8, 1, title, ink);
    canvas_rectangle(&p->canvas, *left - 1, *top - 1, *left + SIDE + 1, *top + SIDE + 1, ink, 0.2);
    canvas_rectangle(&p->canvas, *left, *top, *left + SIDE, *top + SIDE, paper, 1);
}

static void draw_points(struct plane *p, int i, const char *title, size_t n)
{
    int left, top;

    panel(p, i, title, &left, &top);
    canvas_clip(&p->canvas, left, top, left + SIDE, top + SIDE);
    for (size_t k = 0; k < n; k++) {
        int x = left + (int)(p->points[2 * k] * SIDE), y = top + SIDE - 1 - (int)(p->points[2 * k + 1] * SIDE);
        canvas_rectangle(&p->canvas, x, y, x + 2, y + 2, blue, 0.5);
    }
    canvas_unclip(&p->canvas);
}

static int draw_data(struct plane *p, const char *source)
{
    ebm_data_info info;
    ebm_data *data;
    int rc = ebm_data_open(p->context, source, NULL, &data);

    if (rc < 0)
        return rc;
    ebm_data_describe(data, &info);
    size_t n = info.count < DOTS ? info.count : DOTS;
    for (size_t i = 0; rc >= 0 && i < n; i++)
        rc = ebm_data_read(data, i, p->points + 2 * i, NULL);
    ebm_data_free(data);
    draw_points(p, 0, "data", n);
    return rc;
}

static void draw_energies(struct plane *p, int i, const char *title)
{
    const int step = SIDE / CELLS;
    double low = INFINITY, sum = 0;
    int left, top;

    panel(p, i, title, &left, &top);
    for (int k = 0; k < CELLS * CELLS; k++) {
        low = fmin(low, p->energies[k]);
        sum += p->energies[k];
    }
    double range = sum / (CELLS * CELLS) - low;
    for (int k = 0; k < CELLS * CELLS; k++) {
        int x = left + k % CELLS * step, y = top + k / CELLS * step;
        double part = range > 0 ? (p->energies[k] - low) / range : 0;
        canvas_rectangle(&p->canvas, x, y, x + step, y + step, blue, part < 1 ? 1 - part : 0);
    }
}

/* Rows from the top, where the second coordinate is largest. */
static void make_cells(struct plane *p)
{
    for (int k = 0; k < CELLS * CELLS; k++) {
        p->points[2 * k] = (float)((k % CELLS + 0.5) / CELLS);
        p->points[2 * k + 1] = (float)(1 - (k / CELLS + 0.5) / CELLS);
    }
}

static int draw_level(struct plane *p, int level, bool only)
{
    char setting[32], title[32];
    const char *settings = setting;
    ebm_model_options options = { .settings = &settings, .n_settings = only ? 0 : 1 };
    ebm_model *model;
    int rc;

    snprintf(setting, sizeof setting, "sample.level=%d", level);
    snprintf(title, sizeof title, only ? "energy" : "energy of level %d", level);
    if ((rc = ebm_model_open(p->device, p->model, &options, &model)) < 0)
        return rc;
    make_cells(p);
    if ((rc = ebm_model_energy(model, CELLS * CELLS, p->points, p->energies)) >= 0)
        draw_energies(p, 2 + level, title);
    ebm_model_free(model);
    return rc;
}

/* Samples, and how many energies there are; 0: one, without levels. */
static int draw_samples(struct plane *p, uint64_t seed, float *points, int *levels)
{
    ebm_model *model;
    int rc = ebm_model_open(p->device, p->model, NULL, &model);

    if (rc < 0)
        return rc;
    const char *text = ebm_model_setting(model, "cdrl.levels");
    *levels = text ? atoi(text) : 0;
    rc = ebm_model_sample(model, seed, 0, DOTS, points, NULL, NULL);
    ebm_model_free(model);
    return rc;
}

int plane_save(ebm_context *context, ebm_backend *device, const char *model, const char *source,
               uint64_t seed, const char *path)
{
    struct plane p = { .context = context, .device = device, .model = model };
    int levels = 0, rc;

    p.points = calloc(CELLS * CELLS * 2, sizeof *p.points);
    p.energies = calloc(CELLS * CELLS, sizeof *p.energies);
    rc = p.points && p.energies ? draw_samples(&p, seed, p.points, &levels) : EBM_ERR_NOMEM;
    int rows = (2 + (levels ? levels : 1) + COLUMNS - 1) / COLUMNS;
    if (rc >= 0 && !canvas_new(&p.canvas, GAP + COLUMNS * (SIDE + GAP), rows * (SIDE + HEAD) + GAP, paper))
        rc = EBM_ERR_NOMEM;
    if (rc >= 0) {
        draw_points(&p, 1, "samples", DOTS);
        rc = draw_data(&p, source);
    }
    for (int level = 0; rc >= 0 && level < (levels ? levels : 1); level++)
        rc = draw_level(&p, level, levels == 0);
    if (rc >= 0)
        rc = canvas_save(&p.canvas, context, path);
    canvas_free(&p.canvas);
    free(p.points);
    free(p.energies);
    return rc == EBM_ERR_NOMEM ? tool_fail_memory() : rc < 0 ? tool_fail(context, rc) : 0;
}
