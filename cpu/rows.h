/* rows.h - what conv_rows.c, its plan and its packing share.
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_CPU_ROWS_H
#define EBM_CPU_ROWS_H

#include "conv.h"

enum { BLOCK_DEPTH = 1024 };     /* terms of one float sum; a B panel is 128 KiB */

/* Pixels of the result that see the same taps (conv_taps.c). */
struct phase {
    int64_t y, x;            /* its first pixel of the result */
    int64_t ny, nx;          /* rows of a full band: images x ny x nx */
    int taps, runs, blocks;
    int64_t *tap;            /* where a tap begins in the filter */
    struct run *run;
    int *block;              /* the first run of each block, and the end */
    int64_t depth;           /* of the sum */
    int64_t packed;          /* where its filter begins among the packed ones */
    int64_t *a, *c;          /* of each row of a band: offsets into band and result */
};

struct rows {
    struct problem v;
    const struct ukernel *u;
    enum { TILES, DOT, TAPS } kernel;
    bool packs;              /* rows of A, for BLIS */
    struct band band;
    int64_t out_h, out_w, out_c;
    int64_t groups, columns;                 /* columns of one group */
    int64_t together;                        /* of the problem's groups in one */
    int64_t tap_length;                      /* terms of one tap */
    int64_t a_group;                         /* from one group to the next: in a pixel, */
    int64_t f_group, f_term, f_column;       /* and in the filter; its strides */
    int phases_y, phases_x;
    int phases;                              /* that are computed apart */
    bool merged;                             /* all in one */
    int side;                                /* pixels side by side in one */
    int64_t column[GEMM_DOT_COLUMNS];        /* DOT: where in c */
    struct phase *phase;
    int64_t packed, transposed;              /* floats of scratch, per batch */
    size_t own;                              /* and per thread */
    int64_t stripes;                         /* of panels, where bands are few */
    int64_t work;                            /* multiplications */
};

int rows_plan(const struct cpu *cpu, const struct problem *v, void *self,
              size_t *packed, size_t *scratch);

/* Packing is cut into pieces: one tap of one panel (TILES) or of all columns. */
int64_t rows_pieces(const struct rows *s, const struct phase *ph);
void rows_pack(const struct rows *s, const struct phase *ph, int64_t piece,
               const float *f, float *packed);

/* Panels of columns: as wide as the micro-kernel, the last perhaps narrow. */
static inline int64_t panels(const struct rows *s)
{
    return divide_up(s->columns, s->u->NR);
}

static inline int panel_width(const struct rows *s, int64_t j)
{
    return s->columns - j * s->u->NR > s->u->NS ? s->u->NR : s->u->NS;
}

/* Floats of a group's packed filter. */
static inline int64_t packed_size(const struct rows *s, int64_t depth)
{
    int64_t last = panels(s) - 1;

    if (s->kernel != TILES)
        return depth * s->columns;
    return depth * (last * s->u->NR + panel_width(s, last));
}

/* Pixels of the result along an axis of `size` that a phase has in units
 * [unit, unit + units). */
static inline int64_t pixels_of(int64_t size, int64_t phases, int64_t phase,
                                int64_t unit, int64_t units)
{
    return most(0, least(units, divide_up(size - phase, phases) - unit));
}

#endif
