/* winograd.h - convolutions with 3x3 filters by fewer multiplications.
 *
 * SPDX-License-Identifier: ISC
 *
 *   winograd_transform.c  the transforms, compiled once per instruction set
 *   winograd_tiles.c      which tiles are computed together
 *   winograd.c            CONV and CONV_DATA; when it applies
 *   winograd_filter.c     CONV_FILTER
 *
 * F(m x m, 3x3) computes tiles of m x m pixels y from tiles of (m + 2) x (m + 2)
 * pixels d and a filter g (Winograd 1980; Lavin and Gray 2016):
 *
 *     y = A' [ (G g G') . (B' d B) ] A          . is element by element
 *
 * so that, for many tiles and channels, the product in brackets becomes
 * (m + 2)^2 products of matrices [tile, c] x [c, k]; one of these elements of a
 * transformed tile is called a point.  The gradient of the filter is
 * G' [ sum of (A y A') . (B' d B) ] G. */
#ifndef EBM_CPU_WINOGRAD_H
#define EBM_CPU_WINOGRAD_H

#include "conv.h"

enum {
    WINOGRAD_SIZES = 2,          /* m = 2 and m = 4 */
    WINOGRAD_POINTS = 36,        /* at most */
    WINOGRAD_PIXELS = 16,        /* of a tile's output, at most */
    WINOGRAD_TAPS = 9,
    WINOGRAD_MIN_CHANNELS = 16   /* a vector of the widest set */
};

/* Where the elements of a tile lie: (y, x) at y row + x column floats from the first. */
struct grid { int64_t row, column; };

/* One of the five transforms, on n >= WINOGRAD_MIN_CHANNELS channels of a tile. */
typedef void winograd_transform(const float *from, struct grid from_at, float *to, struct grid to_at,
                                int64_t n);
/* The same of elements that lie anywhere, row by row: at the edge of an image. */
typedef void winograd_edge(const float *const *from, float *to, struct grid to_at, int64_t n);

struct winograd {
    int m, size, points;             /* m + 2 and its square */
    winograd_transform *data;        /* B' d B:  size x size to size x size */
    winograd_edge *data_edge;
    winograd_transform *filter;      /* G g G':  3 x 3       to size x size */
    winograd_transform *filter_past; /* the same, stored past the caches */
    winograd_transform *result;      /* A' . A:  size x size to m x m */
    winograd_transform *result_past; /* the same, stored past the caches */
    winograd_transform *spread;      /* A y A':  m x m       to size x size */
    winograd_transform *gather;      /* G' . G:  size x size to 3 x 3 */
};

extern const struct winograd winograd_base[], winograd_avx2[], winograd_avx512[];

/* The tiles of all images.  Tiles side by side make a row of tiles; the rows of
 * all images, one below the other, are cut into blocks of whole rows or, if they
 * are long, of parts of one row. */
struct tiling {
    int64_t n, h, w, c;              /* the images d */
    int64_t first_y, first_x;        /* the pixel of d that output (0,0) sees first */
    int64_t out_h, out_w;
    int m;
    int64_t tiles_y, tiles_x;        /* of an image */
    int64_t block_rows, block_columns;
    int64_t block_tiles;             /* of a full block */
    int64_t blocks;
};

struct tile_block {
    int64_t row, rows;               /* of tiles, through all images */
    int64_t column, columns;
    int64_t tiles;
};

/* Fill what follows m for blocks of at most `tiles` (one row or part at least), which are
 * computed in groups of `multiple` by so many threads. */
void tiling_plan(struct tiling *v, int64_t tiles, int64_t multiple, int threads);
struct tile_block tiling_block(const struct tiling *v, int64_t block);

/* The first pixel of d that tile i of a block covers, if all lie in the image; else NULL
 * and pointers to each, `outside` for those that do not. */
const float *tiling_data(const struct tiling *v, const struct tile_block *b, int64_t i,
                         const float *d, const float *outside, const float **pixel);

/* Its pixels in the output of k channels: the first, and how many there are. */
struct tile_output { int64_t at, rows, columns; };
struct tile_output tiling_output(const struct tiling *v, const struct tile_block *b, int64_t i,
                                 int64_t k);

/* The points of a tile, so far apart. */
static inline struct grid points_at(const struct winograd *f, int64_t distance)
{
    return (struct grid){ f->size * distance, distance };
}

/* Floats between rows: whole cache lines, an odd number of them, so that rows
 * one below the other do not want the same places of the cache. */
static inline int64_t odd_lines(int64_t floats)
{
    return (divide_up(floats, 16) | 1) * 16;
}

/* Whether it is a convolution that the transforms fit and that gains. */
bool winograd_fits(const struct problem *v);
/* The F(m x m, 3x3) that takes the least work, counted, or NULL if that is the
 * definition. */
const struct winograd *winograd_best(const struct problem *v, const struct winograd *sizes);

#endif
