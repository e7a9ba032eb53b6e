/* winograd_tiles.c - which tiles are computed together, and where they lie.
 *
 * SPDX-License-Identifier: ISC
 *
 *      . . . . . . . . . . .     images of 3 x 2 tiles, the last of a row and of
 *      . +---+---+--. . . .      an image cut by the edge; what a tile reads
 *      . | 0 | 1 |2 .            overlaps its neighbours by two pixels, and
 *      . +---+---+--. . . .      zeros outside of the image
 *      . | 3 | 4 |5 .
 *
 * What a block completes is one range of the result's elements, or m of them. */
#include "winograd.h"

/* How many rows of tiles: those that take threads the shortest time and leave least of
 * groups empty, and rather more. */
static int64_t whole_rows(int64_t tiles_x, int64_t rows, int64_t most_rows, int64_t multiple, int threads)
{
    struct load best = { INT64_MAX, INT64_MAX };
    int64_t chosen = 1;

    for (int64_t i = divide_up(most_rows, 2); i <= most_rows; i++) {
        struct load load = load_of(rows, i, tiles_x, multiple, threads);
        if (!lighter(&best, &load)) {
            best = load;
            chosen = i;
        }
    }
    return chosen;
}

void tiling_plan(struct tiling *v, int64_t tiles, int64_t multiple, int threads)
{
    v->tiles_y = divide_up(v->out_h, v->m);
    v->tiles_x = divide_up(v->out_w, v->m);
    int64_t rows = v->n * v->tiles_y;
    if (v->tiles_x > tiles) {
        int64_t part = divide_up(v->tiles_x, divide_up(v->tiles_x, tiles));
        v->block_rows = 1;
        v->block_columns = least(divide_up(part, multiple) * multiple, v->tiles_x);
    } else {
        v->block_rows = whole_rows(v->tiles_x, rows, least(tiles / v->tiles_x, rows), multiple, threads);
        v->block_columns = v->tiles_x;
    }
    v->block_tiles = v->block_rows * v->block_columns;
    v->blocks = divide_up(rows, v->block_rows) * divide_up(v->tiles_x, v->block_columns);
}

struct tile_block tiling_block(const struct tiling *v, int64_t block)
{
    int64_t parts = divide_up(v->tiles_x, v->block_columns);
    struct tile_block b;

    b.row = block / parts * v->block_rows;
    b.rows = least(v->block_rows, v->n * v->tiles_y - b.row);
    b.column = block % parts * v->block_columns;
    b.columns = least(v->block_columns, v->tiles_x - b.column);
    b.tiles = b.rows * b.columns;
    return b;
}

/* Image, and first pixel of the output, of tile i. */
static void locate(const struct tiling *v, const struct tile_block *b, int64_t i,
                   int64_t *image, int64_t *y, int64_t *x)
{
    int64_t row = b->row + i / b->columns;

    *image = row / v->tiles_y;
    *y = row % v->tiles_y * v->m;
    *x = (b->column + i % b->columns) * v->m;
}

const float *tiling_data(const struct tiling *v, const struct tile_block *b, int64_t i,
                         const float *d, const float *outside, const float **pixel)
{
    int64_t image, first_y, first_x, size = v->m + 2;

    locate(v, b, i, &image, &first_y, &first_x);
    first_y += v->first_y;
    first_x += v->first_x;
    if (first_y >= 0 && first_x >= 0 && first_y + size <= v->h && first_x + size <= v->w)
        return d + ((image * v->h + first_y) * v->w + first_x) * v->c;
    for (int64_t y = first_y; y < first_y + size; y++) {
        bool inside = y >= 0 && y < v->h;
        const float *line = inside ? d + (image * v->h + y) * v->w * v->c : outside;
        for (int64_t x = first_x; x < first_x + size; x++)
            *pixel++ = inside && x >= 0 && x < v->w ? line + x * v->c : outside;
    }
    return NULL;
}

struct tile_output tiling_output(const struct tiling *v, const struct tile_block *b, int64_t i,
                                 int64_t k)
{
    int64_t image, y, x;

    locate(v, b, i, &image, &y, &x);
    return (struct tile_output){
        ((image * v->out_h + y) * v->out_w + x) * k,
        least(v->m, v->out_h - y), least(v->m, v->out_w - x),
    };
}
