/* conv_band.c - cut the images into bands, and pad them.
 *
 * SPDX-License-Identifier: ISC
 *
 * Where sums reach over bands, these depend on shapes alone, never on the number of
 * threads.  The copy is one band long and stays in the cache until the band is done;
 * against the r s k multiplications that follow on each of its elements it costs
 * little. */
#include <string.h>
#include "conv.h"

/* The number from base to 3 base, at most `all`, whose multiple of `each`
 * leaves the least over. */
static int64_t fitting(int64_t base, int64_t all, int64_t each, int64_t multiple)
{
    double best = 1e30;
    int64_t chosen = base;

    if (base >= all)
        return all;
    for (int64_t i = base; i <= 3 * base && i <= all; i++) {
        int64_t rows = i * each;
        double waste = (double)(divide_up(rows, multiple) * multiple) / (double)rows;
        if (waste < best - 1e-9) {
            best = waste;
            chosen = i;
        }
    }
    return chosen;
}

/* The number of images, from base to 3 base, that keeps threads busy for the shortest time;
 * fewer, where else some would have nothing. */
static int64_t even(int64_t base, int64_t all, int64_t each, int64_t multiple, int threads)
{
    struct load best = { INT64_MAX, INT64_MAX };
    int64_t chosen = base;

    if (base >= all && threads == 1)
        return all;
    for (int64_t i = least(base, divide_up(all, threads)); i <= least(3 * base, all); i++) {
        struct load load = load_of(all, i, each, multiple, threads);
        if (lighter(&load, &best)) {
            best = load;
            chosen = i;
        }
    }
    return chosen;
}

void band_plan(struct band *v, int64_t pixels, int64_t multiple, int threads)
{
    int64_t of_image = v->units_y * v->units_x;

    if (v->n == 0 || of_image == 0) {
        v->bands = 0;
        return;
    }
    if (of_image > pixels) {
        v->band_images = 1;
        v->band_units = fitting(most(1, pixels / v->units_x), v->units_y, v->units_x, multiple);
    } else {
        v->band_images = even(most(1, pixels / of_image), v->n, of_image, multiple, threads);
        v->band_units = v->units_y;
    }
    v->bands = divide_up(v->n, v->band_images) * divide_up(v->units_y, v->band_units);

    int64_t last_y = v->first_y + (v->units_y - 1) * v->step_y + v->span_y;
    int64_t last_x = v->first_x + (v->units_x - 1) * v->step_x + v->span_x;
    v->copied = v->copied || v->first_y < 0 || v->first_x < 0 || last_y > v->h || last_x > v->w;
    if (v->copied) {
        v->row = (last_x - v->first_x) * v->c + v->gap;
        v->image = ((v->band_units - 1) * v->step_y + v->span_y) * v->row;
    } else {
        v->row = v->w * v->c;
        v->image = v->h * v->row;
    }
}

struct part band_part(const struct band *v, int64_t band)
{
    int64_t per_image = divide_up(v->units_y, v->band_units);
    struct part part;

    part.image = band / per_image * v->band_images;
    part.images = least(v->band_images, v->n - part.image);
    part.unit = band % per_image * v->band_units;
    part.units = least(v->band_units, v->units_y - part.unit);
    return part;
}

size_t band_size(const struct band *v)
{
    return v->copied ? (size_t)(v->band_images * v->image) : 0;
}

const float *band_load(const struct band *v, const struct part *part,
                       const float *x, float *copy)
{
    int64_t y = v->first_y + part->unit * v->step_y;
    int64_t rows = (part->units - 1) * v->step_y + v->span_y;
    int64_t of_row = v->w * v->c;

    if (!v->copied)
        return x + (part->image * v->h + y) * of_row + v->first_x * v->c;

    /* A row of the copy: zeros [0, from), pixels [from, to), zeros [to, row). */
    int64_t columns = (v->row - v->gap) / v->c;
    int64_t from = least(columns, most(0, -v->first_x));
    int64_t to = most(from, least(columns, v->w - v->first_x));
    int64_t skip = most(0, v->first_x) * v->c;
    from *= v->c;
    to *= v->c;
    for (int64_t n = 0; n < part->images; n++)
        for (int64_t i = 0; i < rows; i++) {
            float *row = copy + n * v->image + i * v->row;
            if (y + i < 0 || y + i >= v->h || from == to) {
                memset(row, 0, (size_t)v->row * sizeof *row);
                continue;
            }
            const float *line = x + ((part->image + n) * v->h + y + i) * of_row + skip;
            memset(row, 0, (size_t)from * sizeof *row);
            memcpy(row + from, line, (size_t)(to - from) * sizeof *row);
            memset(row + to, 0, (size_t)(v->row - to) * sizeof *row);
        }
    return copy;
}
