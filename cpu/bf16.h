/* bf16.h - contractions whose operands are bfloat16: the kernels, and what they read.
 *
 * SPDX-License-Identifier: ISC
 *
 * With precision bf16 an operand is rounded; with bf16x3 it is the sum of two parts,
 * high + low, and a product is high high + low high + high low, which leaves
 * 2^-16 of it away.  Low parts are a plane of their own, as far behind the high ones.
 *
 *   bf16_x86.c     conversions; the product by AVX-512's instruction
 *   bf16_amx.c     the product by AMX's
 *   bf16_images.c  images as the kernels read them: rounded, padded, interleaved
 *   bf16_pack.c    filters and matrices, likewise
 *   bf16_rows.c    CONV, CONV_DATA and MATMUL
 *   bf16_filter.c  CONV_FILTER
 *   bf16_round.c   any other: operands rounded, products in float32
 *
 * A tile of A is 16 rows of 32 terms; of B, the same 32 terms in pairs, for 16
 * columns; of C, 16 rows of 16 floats:
 *
 *          32 terms            16 columns, a pair each      16 columns
 *        .---------.              .------------.            .------.
 *     16 |         |    x   16    | b0 b1 ...  |   =     16 |      |
 *   rows |    A    |      pairs   | of a term  |       rows |  C   |
 *        '---------'              | pair       |            '------'
 *                                 '------------' */
#ifndef EBM_CPU_BF16_H
#define EBM_CPU_BF16_H

#include "conv.h"

typedef uint16_t bf16;

enum {
    BF16_ROWS = 16, BF16_COLUMNS = 16, BF16_TERMS = 32,
    BF16_TILE = 512,             /* elements of A or B */
    BF16_BLOCK = 32,             /* rows and columns of two by two tiles */
    BF16_SPARE = BF16_BLOCK * BF16_BLOCK,
    BF16_SPEED = 8               /* times float32's, about; of three products a third */
};

/* What a block of C is the sum of: pairs of tiles, found by offsets.  Elements,
 * but c_row: floats. */
struct bf16_sum {
    int64_t n;
    const int64_t *a_at, *b_at;
    int64_t a_row, a_second;     /* from one row, one tile of rows, to the next */
    int64_t b_row, b_second;
    int64_t a_low, b_low;        /* to the low parts; a_low 0: there are none */
    int64_t c_row;
    int row_tiles, column_tiles; /* 1 or 2 */
};

struct bf16_kernels {
    const char *name;
    bool three;                  /* three products are faster than one in float32 */
    /* Before and after products of a thread. */
    void (*begin)(void);
    void (*end)(void);
    /* c = the sum; add: c += it. */
    void (*multiply)(const struct bf16_sum *sum, const bf16 *a, const bf16 *b, float *c, bool add);
    /* n floats, then zeros up to `whole`; low: where the low parts go, or NULL. */
    void (*round)(bf16 *to, bf16 *low, const float *from, int64_t n, int64_t whole);
    /* The same of two rows (the second NULL: zeros), element by element in turn:
     * 2 whole elements. */
    void (*pair)(bf16 *to, bf16 *low, const float *first, const float *second, int64_t n, int64_t whole);
    /* 16 x 16 pairs transposed; rows are so many elements apart. */
    void (*turn)(bf16 *to, int64_t to_row, const bf16 *from, int64_t from_row);
};

extern const struct bf16_kernels bf16_avx512, bf16_amx;

/* Times that these kernels are as fast as float32's, about. */
static inline int bf16_speed(const struct problem *v)
{
    return v->bf16 && v->precision == EBM_BF16 ? BF16_SPEED
         : v->bf16 && v->precision == EBM_BF16X3 && v->bf16->three ? BF16_SPEED / 3 : 1;
}

/* Do they take a problem?  Channels are rounded up to whole tiles; where that takes so
 * many more products, float32 does as well. */
static inline bool bf16_pays(const struct problem *v, int64_t in_tiles, int64_t products)
{
    return bf16_speed(v) > 1 && 8 * in_tiles <= 5 * bf16_speed(v) * products;
}

extern const struct algorithm conv_bf16_rows, conv_bf16_filter, conv_bf16_round;

/* Images as lines: rounded, padded with zeros, and `together` of them interleaved
 * so that 16 outputs side by side make a tile even where images are narrow.  With
 * a horizontal stride, columns of equal rest lie together:
 *
 *     line y:  [x % step_x][x / step_x][image][channel]
 *
 * In pairs, for sums over pixels: [..][..][pair of images][channel][2].  So the
 * windows of neighbouring outputs are a constant distance apart. */
struct bf16_images {
    int64_t n, h, w, c;                 /* the images */
    int64_t pixels;                     /* of all; behind them is nothing */
    int64_t first_y, first_x;           /* the first pixel that output (0,0) reads */
    int64_t span_y, span_x, step_y, step_x;
    int64_t units_y, units_x;           /* outputs of an image */
    bool pairs;
    bool split;                         /* low parts too */
    bool turned;                        /* [c][pixels] in memory: a matrix transposed */
    /* Planned. */
    int64_t together, units;            /* images of a band, lines of outputs */
    int64_t bands;
    int64_t pixel;                      /* elements of a pixel: c in whole tiles */
    int64_t position;                   /* and of all images (pairs) there: together pixel */
    int64_t columns, line;              /* of one rest: positions; of y: elements */
    int64_t low;                        /* elements to the low parts; 0: none */
    int64_t size;                       /* of all */
};

/* Fill the lower half.  floats: how many of the result a band should have, about,
 * with so many at each output. */
void bf16_images_plan(struct bf16_images *v, int64_t floats, int64_t channels);
struct part bf16_images_part(const struct bf16_images *v, int64_t band);
void bf16_images_load(const struct bf16_kernels *kernels, const struct bf16_images *v,
                      const struct part *part, const float *x, bf16 *to);
/* Elements from the first of a line to pixel (y, x) behind a window's first. */
int64_t bf16_images_at(const struct bf16_images *v, int64_t y, int64_t x);

/* Floats that so many elements take, in whole cache lines. */
static inline size_t bf16_floats(int64_t elements)
{
    return line_up((size_t)divide_up(elements, 2));
}

/* A matrix [terms, columns], columns at most 32, as tiles [terms / 32][2][512], split:
 * [terms / 32][high, low][2][512]; element (t, j) is f[t f_term + j f_column], one of
 * which is 1. */
struct bf16_matrix {
    int64_t terms, columns, f_term, f_column;
    bool split;
};
void bf16_pack(const struct bf16_kernels *kernels, const struct bf16_matrix *m, const float *f, bf16 *to);

#endif
