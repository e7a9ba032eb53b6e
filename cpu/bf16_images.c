/* bf16_images.c - images rounded to bfloat16, as lines of tiles.
 *
 * SPDX-License-Identifier: ISC
 *
 * Depends on shapes alone, never on the number of threads. */
#include <string.h>
#include "bf16.h"

enum {
    MANY_BANDS = 16,             /* for any number of threads to share evenly */
    MAX_TOGETHER = 16
};

/* ---- plan ------------------------------------------------------------- */

static int64_t images_at(const struct bf16_images *v, int64_t together)
{
    return v->pairs ? 2 * together : together;
}

/* Tiles that so many images at each position take, over the fewest possible; one
 * tile alone costs more than half of two. */
static double waste(const struct bf16_images *v, int64_t together)
{
    int64_t rows = v->units_x * together, tiles = divide_up(rows, BF16_ROWS);
    int64_t images = images_at(v, together);

    return ((double)tiles + 0.25 * (double)(tiles & 1)) / (double)rows
         * (double)(divide_up(v->n, images) * images) / (double)v->n;
}

void bf16_images_plan(struct bf16_images *v, int64_t floats, int64_t channels)
{
    int64_t best = 1;

    for (int64_t i = 2; i <= MAX_TOGETHER && !v->turned; i *= 2)
        if (waste(v, i) < 0.97 * waste(v, best))
            best = i;
    v->together = images_at(v, best);

    int64_t units = most(1, floats / (v->units_x * v->together * channels));
    int64_t groups = divide_up(v->n, v->together);
    if (!v->pairs)               /* sums over pixels have stripes to share */
        units = least(units, divide_up(v->units_y, divide_up(MANY_BANDS, groups)));
    v->units = divide_up(v->units_y, divide_up(v->units_y, units));
    v->bands = groups * divide_up(v->units_y, v->units);

    v->pixel = v->pairs ? 2 * divide_up(v->c, BF16_COLUMNS) * BF16_COLUMNS
                        : divide_up(v->c, BF16_TERMS) * BF16_TERMS;
    v->position = best * v->pixel;
    v->columns = divide_up((v->units_x - 1) * v->step_x + v->span_x, v->step_x);
    v->line = v->step_x * v->columns * v->position;
    /* The last tile may reach beyond the last line. */
    v->size = ((v->units - 1) * v->step_y + v->span_y) * v->line + BF16_ROWS * v->pixel;
    v->low = v->split ? v->size : 0;
    v->size += v->low;
}

struct part bf16_images_part(const struct bf16_images *v, int64_t band)
{
    int64_t per_image = divide_up(v->units_y, v->units);
    struct part part;

    part.image = band / per_image * v->together;
    part.images = least(v->together, v->n - part.image);
    part.unit = band % per_image * v->units;
    part.units = least(v->units, v->units_y - part.unit);
    return part;
}

int64_t bf16_images_at(const struct bf16_images *v, int64_t y, int64_t x)
{
    return y * v->line + (x % v->step_x * v->columns + x / v->step_x) * v->position;
}

/* ---- load ------------------------------------------------------------- */

static bf16 *low_of(const struct bf16_images *v, bf16 *to)
{
    return v->low ? to + v->low : NULL;
}

/* The pixel (y, x) of image n, or NULL. */
static const float *pixel_at(const struct bf16_images *v, const float *x, int64_t n, int64_t y,
                             int64_t column)
{
    int64_t at = (n * v->h + y) * v->w + column;

    return n < v->n && y >= 0 && y < v->h && column >= 0 && column < v->w && at < v->pixels
         ? x + at * v->c : NULL;
}

static void load_pixels(const struct bf16_kernels *k, const struct bf16_images *v, int64_t image,
                        int64_t y, const float *x, bf16 *line)
{
    int64_t columns = v->columns * v->step_x;    /* all that tiles may read */
    int64_t each = v->pairs ? 2 : 1, whole = v->pixel / each;

    for (int64_t i = 0; i < columns; i++) {
        bf16 *to = line + bf16_images_at(v, 0, i);
        for (int64_t n = image; n < image + v->together; n += each, to += v->pixel) {
            const float *first = pixel_at(v, x, n, y, v->first_x + i);
            int64_t c = first ? v->c : 0;
            if (v->pairs)
                k->pair(to, low_of(v, to), first, pixel_at(v, x, n + 1, y, v->first_x + i), c, whole);
            else
                k->round(to, low_of(v, to), first, c, whole);
        }
    }
}

/* A line of one image whose pixels follow each other as they do in memory. */
static void load_row(const struct bf16_kernels *k, const struct bf16_images *v, int64_t image,
                     int64_t y, const float *x, bf16 *line)
{
    int64_t columns = v->units_x - 1 + v->span_x;
    int64_t from = least(columns, most(0, -v->first_x));
    int64_t to = most(from, least(columns, v->w - v->first_x));

    if (y < 0 || y >= v->h)
        from = to = columns;
    int64_t at = (image * v->h + y) * v->w + v->first_x + from;
    to = most(from, least(to, from + v->pixels - at));
    k->round(line, low_of(v, line), x, 0, from * v->c);
    line += from * v->c;
    k->round(line, low_of(v, line), x + (from < to ? at * v->c : 0), (to - from) * v->c,
             (columns - from) * v->c);
}

/* A line of a transposed matrix: 16 pixels, of 16 pairs of terms, at a time.  Pixels
 * beyond the line's end go where the next line will be. */
static void load_turned(const struct bf16_kernels *k, const struct bf16_images *v, int64_t y,
                        const float *x, bf16 *line)
{
    bf16 tile[BF16_TILE], low[BF16_TILE];
    int64_t begin = y * v->w, rest = most(0, v->pixels - begin);

    for (int64_t i = 0; i < v->units_x; i += BF16_ROWS)
        for (int64_t t = 0; t < v->pixel; t += BF16_TERMS) {
            for (int64_t j = 0; j < BF16_TERMS; j += 2) {
                const float *first = x + (t + j) * v->pixels + begin + i;
                int64_t n = t + j < v->c ? most(0, least(BF16_ROWS, rest - i)) : 0;
                k->pair(tile + j * BF16_ROWS, v->low ? low + j * BF16_ROWS : NULL, n ? first : x,
                        t + j + 1 < v->c ? n ? first + v->pixels : x : NULL, n, BF16_ROWS);
            }
            bf16 *to = line + i * v->pixel + t;
            k->turn(to, v->pixel, tile, BF16_TERMS);
            if (v->low)
                k->turn(to + v->low, v->pixel, low, BF16_TERMS);
        }
}

void bf16_images_load(const struct bf16_kernels *k, const struct bf16_images *v,
                      const struct part *part, const float *x, bf16 *to)
{
    int64_t y = v->first_y + part->unit * v->step_y;
    int64_t lines = (part->units - 1) * v->step_y + v->span_y;
    bool as_is = v->together == 1 && v->step_x == 1 && v->pixel == v->c && !v->turned;

    for (int64_t i = 0; i < lines; i++, to += v->line) {
        if (v->turned)
            load_turned(k, v, y + i, x, to);
        else if (as_is)
            load_row(k, v, part->image, y + i, x, to);
        else
            load_pixels(k, v, part->image, y + i, x, to);
    }
    /* What the last tile reads too: numbers, for zeros to be multiplied by. */
    k->round(to, low_of(v, to), x, 0, BF16_ROWS * v->pixel);
}
