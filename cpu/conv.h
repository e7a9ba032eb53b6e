/* conv.h - contractions as their own files see them.
 *
 * SPDX-License-Identifier: ISC
 *
 *   contract.c     the problem, the table of algorithms, plan and run
 *   conv_band.c    cuts the images into bands, copied with their padding
 *   conv_taps.c    which taps a pixel sees
 *   product.c      MATMUL of matrices that are worth packing
 *   conv_rows.c    CONV, CONV_DATA and other MATMULs: rows of A are pixels; with
 *                  rows_plan.c and rows_pack.c, as rows.h says
 *   conv_few.c     CONV and CONV_DATA to few channels: products first, then sums
 *   conv_filter.c  CONV_FILTER: the sum runs over pixels
 *   bf16_rows.c, bf16_filter.c, bf16_round.c   operands in bfloat16: bf16.h
 *   winograd.c     3x3 filters by fewer multiplications, unless `exact`, which
 *                  the environment variable EBM_EXACT sets when the device opens
 *
 * One letter, one meaning: n batch, h w space, c channels, k output channels,
 * r s filter, p q output space; of a matrix product, rows, columns, depth. */
#ifndef EBM_CPU_CONV_H
#define EBM_CPU_CONV_H

#ifdef _OPENMP
#include <omp.h>
#endif
#include "contract.h"
#include "gemm.h"

/* Whether a result of pixels x channels, which nobody reads at once, passes the caches
 * by: it is larger than they are and consists of whole lines. */
bool passes_caches(int64_t pixels, int64_t channels, const float *out,
                   const struct epilogue *epilogue);

/* What is to be computed. */
struct problem {
    enum op op;
    int64_t n, h, w, c, k, r, s, p, q, groups;
    int64_t stride_y, stride_x, dilation_y, dilation_x, top, left;
    int64_t batch, rows, columns, depth;      /* MATMUL */
    bool ta, tb;
    bool exact;                               /* sums of products, nothing else */
    enum ebm_precision precision;
    const struct bf16_kernels *bf16;          /* NULL: no instructions for it */
};

/* Plan a problem whose result has elements by the first algorithm that applies. */
int contract_plan(const struct cpu *cpu, const struct problem *v, struct contract **contract);

/* An algorithm states when it applies, plans, and runs. */
struct algorithm {
    const char *name;
    bool (*applies)(const struct problem *v);
    /* Fills self (zeroed memory of `size` bytes), the bytes that b is packed into
     * (whole cache lines; 0, as it was: b is read where it lies), and of scratch. */
    int (*plan)(const struct cpu *cpu, const struct problem *v, void *self,
                size_t *packed, size_t *scratch);
    /* b NULL: `packed` holds it already. */
    void (*run)(const struct cpu *cpu, const void *self, const float *a, const float *b,
                float *out, float *packed, float *scratch, const struct epilogue *epilogue);
    void (*free)(ebm_context *ctx, void *self);      /* half-built ones too */
    size_t size;
};

extern const struct algorithm conv_rows, conv_few, conv_filter, conv_winograd,
                              conv_winograd_filter, matrix_product;

/* A tap along one axis: its index and the source pixel it sees, counted from the
 * unit's. */
struct tap {
    int64_t index, offset;
};

/* The taps of a phase, by rising offset. */
int axis_taps(const struct problem *v, bool y, int64_t phase, struct tap *tap);
/* The span of offsets over all phases of an axis; `tap` is scratch. */
void axis_span(const struct problem *v, bool y, int64_t phases, struct tap *tap,
               int64_t *first, int64_t *span);

/* Images cut into bands, the tasks of a parallel loop.  A unit is what one
 * vertical step of the filter computes; a band is some units of one image, or
 * all of some images.  It is read where it lies, or, when windows reach over
 * the edge, from a copy with zeros around it:
 *
 *     0 0 0 0 0 0    span_y rows for the first unit,
 *     0 x x x x 0    step_y more for each other */
struct band {
    int64_t n, h, w, c;                 /* the images */
    int64_t first_y, first_x;           /* the first pixel that unit 0 reads */
    int64_t span_y, span_x;             /* pixels that one window covers */
    int64_t step_y, step_x;
    int64_t units_y, units_x;           /* of an image */
    int64_t band_images, band_units;    /* of a band */
    int64_t bands;
    int64_t gap;                        /* floats left free behind a copied row */
    bool copied;
    int64_t row, image;                 /* floats from one row, image to the next */
};

struct part {                           /* a band: units [unit, unit + units) of */
    int64_t image, images, unit, units; /* images [image, image + images) */
};

/* Fill the lower half of a band from the upper; `copied` may be set to have a
 * copy in any case.  `pixels`: how many units_x in all a band should have about;
 * `multiple`: of how many, if that can be; `threads`: that share out bands of whole images. */
void band_plan(struct band *v, int64_t pixels, int64_t multiple, int threads);
struct part band_part(const struct band *v, int64_t band);
/* Floats that band_load wants. */
size_t band_size(const struct band *v);
/* The band's first pixel: in x, or in `copy`, which is filled. */
const float *band_load(const struct band *v, const struct part *part,
                       const float *x, float *copy);

static inline int thread_index(void)
{
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

static inline int64_t divide_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static inline int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* The work of pieces of `piece` units, the last of which is what is left of `all`: of the
 * thread that does most, if pieces go to whoever is free, and of all.  `each`: what a
 * unit is, in things that are computed in groups of `multiple`; groups are counted. */
struct load { int64_t busiest, all; };
static inline struct load load_of(int64_t all, int64_t piece, int64_t each, int64_t multiple, int threads)
{
    int64_t before = divide_up(all, piece) - 1, last = all - before * piece;
    int64_t full = divide_up(piece * each, multiple), of_last = divide_up(last * each, multiple);

    return (struct load){
        before % threads ? divide_up(before, threads) * full : before / threads * full + of_last,
        before * full + of_last,
    };
}

static inline bool lighter(const struct load *a, const struct load *b)
{
    return a->busiest != b->busiest ? a->busiest < b->busiest : a->all < b->all;
}

/* How many groups of so few columns fill a tile, whose filters then are one with zeros
 * between: as many multiplications, in longer runs, and none of the tile's columns idle. */
static inline int64_t groups_together(int64_t groups, int64_t columns, int64_t tile)
{
    int64_t together = groups > 1 ? least(groups, tile / columns) : 1;

    while (together > 1 && groups % together)
        together--;
    return most(together, 1);
}

/* Floats to whole cache lines, and a line between neighbours. */
static inline size_t line_up(size_t floats)
{
    return (floats + 15) / 16 * 16 + 16;
}

#endif
