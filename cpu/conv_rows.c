/* conv_rows.c - CONV, CONV_DATA and MATMUL: every row of A is a window.
 *
 * SPDX-License-Identifier: ISC
 *
 * The result's pixels are the rows, its channels the columns.  A row of A is
 * the window that the pixel sees, as runs of consecutive floats; the runs are
 * the same for all pixels, so a row is known by its first element.
 *
 * CONV_DATA, with stride, sees different taps from different pixels: output
 * pixel h has the taps r with  h + top - r dilation = p stride.  So the output
 * falls into stride_y x stride_x phases, each of which is a convolution with
 * stride 1 of y by its own taps:
 *
 *     h     0 1 2 3 4 5         stride 2, r = 3, top = 1:
 *     r     1 02 1 02 1 02      phase 0 has tap 1, phase 1 taps 0 and 2
 *
 * and nothing is multiplied by zero or scattered.  CONV has one phase.  Where
 * all phases together have few columns (one channel, stride 2), they are computed
 * at once, as columns of one phase with the taps of all and zeros between: a
 * vector that is read then serves four pixels.
 *
 * A task computes one band of the result with all columns and then lets the
 * epilogue run over it.  Invariant: what a task computes, and in which order,
 * depends on the plan alone. */
#include <string.h>
#include "conv.h"

enum {
    BLOCK_DEPTH = 1024,      /* terms of one float sum; a B panel is 128 KiB */
    BAND_FLOATS = 16384,     /* of the result, so that the epilogue finds them cached */
    SOURCE_FLOATS = 65536,   /* of the images that a band is computed of, about */
    BAND_PIXELS = 4096,      /* at most */
    MANY_BANDS = 16,         /* enough for any number of threads to share evenly */
    PLACES = 2048,           /* bytes: half the span of a first cache's way */
    FEW_FLOATS = 4096,       /* of packed filters, that leave a first cache room for A */
    MATMUL_TAP = 256,        /* packing's grain */
    SQUARE = 16,             /* of transposing: a cache line */
    BLIS_COLUMNS = 256,      /* that packed rows must serve */
    BLIS_DEPTH = 128,        /* of a call of its kernel */
    SMALL = 1 << 18          /* multiplications that are not worth a second thread */
};

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
    int64_t tap_length;                      /* terms of one tap */
    int64_t a_group;                         /* from one group to the next: in a pixel, */
    int64_t f_group, f_term, f_column;       /* and in the filter; its strides */
    int phases_y, phases_x;
    int phases;                              /* that are computed apart */
    bool merged;                             /* all in one */
    int64_t column[GEMM_DOT_COLUMNS];        /* DOT: where in c */
    struct phase *phase;
    int64_t packed, transposed;              /* floats of scratch, per batch */
    size_t own;                              /* and per thread */
    int64_t work;                            /* multiplications */
};

/* Panels of columns: as wide as the micro-kernel, the last perhaps narrow. */
static int64_t panels(const struct rows *s)
{
    return divide_up(s->columns, s->u->NR);
}

static int panel_width(const struct rows *s, int64_t j)
{
    return s->columns - j * s->u->NR > s->u->NS ? s->u->NR : s->u->NS;
}

/* Floats of a group's packed filter. */
static int64_t packed_size(const struct rows *s, int64_t depth)
{
    int64_t last = panels(s) - 1;

    if (s->kernel != TILES)
        return depth * s->columns;
    return depth * (last * s->u->NR + panel_width(s, last));
}

/* ---- plan ------------------------------------------------------------- */

/* One tap of a phase along one axis: its index and the source pixel it sees,
 * counted from the unit's. */
struct tap {
    int64_t index, offset;
};

/* The taps of phase `phase` of an axis, by rising offset. */
static int axis_taps(const struct problem *v, bool y, int64_t phase, struct tap *tap)
{
    int64_t size = y ? v->r : v->s, stride = y ? v->stride_y : v->stride_x;
    int64_t dilation = y ? v->dilation_y : v->dilation_x, pad = y ? v->top : v->left;
    int n = 0;

    if (v->op == OP_CONV)
        for (int64_t i = 0; i < size; i++)
            tap[n++] = (struct tap){ i, i * dilation - pad };
    else
        for (int64_t i = size - 1; i >= 0; i--)
            if ((phase + pad - i * dilation) % stride == 0)
                tap[n++] = (struct tap){ i, (phase + pad - i * dilation) / stride };
    return n;
}

/* Join runs that touch, up to a block; then cut the list into blocks. */
static void make_runs(struct phase *ph, const int64_t *at, int64_t length, bool join)
{
    int64_t in_block = 0;

    ph->runs = ph->blocks = 0;
    ph->depth = ph->taps * length;
    for (int t = 0; t < ph->taps; t++) {
        struct run *last = ph->runs ? &ph->run[ph->runs - 1] : NULL;
        if (join && last && last->at + last->len == at[t] && last->len + length <= BLOCK_DEPTH)
            last->len += length;
        else
            ph->run[ph->runs++] = (struct run){ at[t], length };
    }
    ph->block[ph->blocks++] = 0;
    for (int t = 0; t < ph->runs; t++) {
        if (join && t > 0 && in_block + ph->run[t].len > BLOCK_DEPTH) {
            ph->block[ph->blocks++] = t;
            in_block = 0;
        }
        in_block += ph->run[t].len;
    }
    ph->block[ph->blocks] = ph->runs;
}

static int phase_memory(ebm_context *ctx, struct phase *ph, int taps, int64_t rows)
{
    ph->tap = mem_new(ctx, (size_t)taps + 1, sizeof *ph->tap);
    ph->run = mem_new(ctx, (size_t)taps + 1, sizeof *ph->run);
    ph->block = mem_new(ctx, (size_t)taps + 2, sizeof *ph->block);
    ph->a = mem_new(ctx, (size_t)rows + 1, sizeof *ph->a);
    ph->c = mem_new(ctx, (size_t)rows + 1, sizeof *ph->c);
    return ph->tap && ph->run && ph->block && ph->a && ph->c ? EBM_OK : EBM_ERR_NOMEM;
}

/* Pixels of the result along an axis of `size` that a phase has in units
 * [unit, unit + units). */
static int64_t pixels_of(int64_t size, int64_t phases, int64_t phase, int64_t unit, int64_t units)
{
    return most(0, least(units, divide_up(size - phase, phases) - unit));
}

/* Offsets of the rows of a full band. */
static void make_rows(const struct rows *s, struct phase *ph)
{
    const struct band *v = &s->band;
    int64_t row = 0;

    for (int64_t n = 0; n < v->band_images; n++)
        for (int64_t y = 0; y < ph->ny; y++)
            for (int64_t x = 0; x < ph->nx; x++, row++) {
                ph->a[row] = n * v->image + y * v->step_y * v->row + x * v->step_x * v->c;
                ph->c[row] = ((n * s->out_h + y * s->phases_y + ph->y) * s->out_w
                              + x * s->phases_x + ph->x) * s->out_c;
            }
}

/* Fewer pixels where bands would be few, or what they are computed of large. */
static int64_t band_pixels(const struct rows *s, int64_t all)
{
    int64_t pixels = most(BAND_FLOATS / s->out_c, 8 * s->u->MR);

    pixels = least(pixels, most(SOURCE_FLOATS / (s->band.c * s->band.step_y * s->band.step_x),
                                8 * s->u->MR));
    pixels = least(pixels, BAND_PIXELS);
    return most(least(pixels, divide_up(all, MANY_BANDS)), 4 * s->u->MR);
}

static int matmul_plan(ebm_context *ctx, struct rows *s)
{
    const struct problem *v = &s->v;
    int64_t taps = divide_up(v->depth, MATMUL_TAP);

    s->out_h = v->rows;
    s->out_w = 1;
    s->out_c = s->columns = v->columns;
    s->groups = 1;
    s->phases_y = s->phases_x = s->phases = 1;
    s->f_term = v->tb ? 1 : v->columns;
    s->f_column = v->tb ? v->depth : 1;
    s->transposed = v->ta ? v->rows * v->depth : 0;
    s->tap_length = least(v->depth, MATMUL_TAP);
    s->kernel = v->columns <= GEMM_DOT_COLUMNS && v->depth >= 2 * s->u->lanes ? DOT : TILES;
    for (int j = 0; j < GEMM_DOT_COLUMNS; j++)
        s->column[j] = j;

    s->band = (struct band){
        .n = 1, .h = v->rows, .w = 1, .c = v->depth, .span_y = 1, .span_x = 1,
        .step_y = 1, .step_x = 1, .units_y = v->rows, .units_x = 1,
    };
    /* Rows that far apart would all want the same places of the cache. */
    if (v->depth * (int64_t)sizeof(float) % PLACES == 0 && v->columns >= 2 * s->u->NR) {
        s->band.copied = true;
        s->band.gap = SQUARE;
    }
    band_plan(&s->band, band_pixels(s, v->rows * v->batch), s->u->MR);

    s->phase = mem_new(ctx, 1, sizeof *s->phase);
    if (!s->phase)
        return EBM_ERR_NOMEM;
    struct phase *ph = s->phase;
    ph->ny = s->band.band_units;
    ph->nx = 1;
    if (phase_memory(ctx, ph, (int)taps, ph->ny) < 0)
        return EBM_ERR_NOMEM;
    ph->taps = (int)taps;
    for (int t = 0; t < ph->taps; t++)
        ph->tap[t] = t * MATMUL_TAP * s->f_term;
    /* The last tap is short: join by hand what make_runs takes for equal. */
    for (int64_t at = 0; at < v->depth; at += BLOCK_DEPTH) {
        ph->block[ph->blocks++] = ph->runs;
        ph->run[ph->runs++] = (struct run){ at, least(BLOCK_DEPTH, v->depth - at) };
    }
    if (ph->blocks == 0)
        ph->blocks = 1;
    ph->block[ph->blocks] = ph->runs;
    ph->depth = v->depth;
    make_rows(s, ph);
    s->packed = packed_size(s, ph->depth);
    return EBM_OK;
}

/* One phase of a convolution; the band is planned. */
static int conv_phase(ebm_context *ctx, struct rows *s, struct phase *ph,
                      const struct tap *ty, int n_y, const struct tap *tx, int n_x)
{
    const struct problem *v = &s->v;
    const struct band *band = &s->band;
    int64_t cg = v->c / v->groups;
    int64_t *at;

    ph->ny = pixels_of(s->out_h, s->phases_y, ph->y, 0, band->band_units);
    ph->nx = pixels_of(s->out_w, s->phases_x, ph->x, 0, band->units_x);
    if (phase_memory(ctx, ph, n_y * n_x, band->band_images * ph->ny * ph->nx) < 0
        || !(at = mem_new(ctx, (size_t)n_y * (size_t)n_x + 1, sizeof *at)))
        return EBM_ERR_NOMEM;
    for (int i = 0; i < n_y; i++)
        for (int j = 0; j < n_x; j++, ph->taps++) {
            ph->tap[ph->taps] = (ty[i].index * v->s + tx[j].index) * cg;
            at[ph->taps] = (ty[i].offset - band->first_y) * band->row
                         + (tx[j].offset - band->first_x) * band->c;
        }
    make_runs(ph, at, s->tap_length, s->kernel != TAPS);
    if (s->kernel == TAPS)
        ph->depth = ph->taps;
    mem_free(ctx, at);
    make_rows(s, ph);
    ph->packed = s->packed;
    s->packed += s->groups * packed_size(s, ph->depth);
    return EBM_OK;
}

/* All phases in one, if that is few columns and each unit has all of them. */
static void merge_phases(struct rows *s)
{
    int64_t phases = (int64_t)s->phases_y * s->phases_x;

    s->phases = (int)phases;
    for (int j = 0; j < GEMM_DOT_COLUMNS; j++)
        s->column[j] = j;
    if (s->kernel != DOT || s->groups > 1 || phases == 1
        || phases * s->columns > GEMM_DOT_COLUMNS
        || s->out_h % s->phases_y || s->out_w % s->phases_x)
        return;
    int j = 0;
    for (int y = 0; y < s->phases_y; y++)
        for (int x = 0; x < s->phases_x; x++)
            for (int64_t c = 0; c < s->columns; c++)
                s->column[j++] = (y * s->out_w + x) * s->out_c + c;
    s->columns *= phases;
    s->phases = 1;
    s->merged = true;
}

/* Its taps along an axis: all offsets. */
static int merged_taps(int64_t first, int64_t span, struct tap *tap)
{
    for (int64_t i = 0; i < span; i++)
        tap[i] = (struct tap){ 0, first + i };
    return (int)span;
}

/* The filter's index that phase `phase` of an axis has at an offset, or -1. */
static int64_t tap_at(int64_t phase, int64_t offset, int64_t pad, int64_t stride,
                      int64_t dilation, int64_t size)
{
    int64_t i = phase + pad - offset * stride;

    return i >= 0 && i % dilation == 0 && i / dilation < size ? i / dilation : -1;
}

/* The span of offsets over all phases of an axis. */
static void axis_span(const struct problem *v, bool y, int phases, struct tap *tap,
                      int64_t *first, int64_t *span)
{
    int64_t low = INT64_MAX, high = INT64_MIN;

    for (int i = 0; i < phases; i++) {
        int n = axis_taps(v, y, i, tap);
        for (int t = 0; t < n; t++) {
            low = least(low, tap[t].offset);
            high = most(high, tap[t].offset);
        }
    }
    *first = low <= high ? low : 0;
    *span = low <= high ? high - low + 1 : 1;
}

static int conv_plan(ebm_context *ctx, struct rows *s)
{
    const struct problem *v = &s->v;
    bool data = v->op == OP_CONV_DATA;
    int64_t cg = v->c / v->groups, kg = v->k / v->groups, window = v->r * v->s;
    bool depthwise = v->groups > 1 && cg == 1 && kg == 1;
    struct tap *ty, *tx;
    int rc = EBM_OK;

    s->out_h = data ? v->h : v->p;
    s->out_w = data ? v->w : v->q;
    s->out_c = data ? v->c : v->k;
    s->phases_y = data ? (int)v->stride_y : 1;
    s->phases_x = data ? (int)v->stride_x : 1;
    s->groups = depthwise ? 1 : v->groups;
    s->columns = s->out_c / s->groups;
    s->tap_length = depthwise ? v->c : data ? kg : cg;
    s->a_group = data ? kg : cg;
    s->f_group = kg * window * cg;
    s->f_term = data ? window * cg : 1;
    s->f_column = data ? 1 : window * cg;
    if (depthwise)
        s->kernel = TAPS;
    else if (s->columns <= GEMM_DOT_COLUMNS && s->tap_length >= s->u->lanes)
        s->kernel = DOT;

    s->band.n = v->n;
    s->band.h = data ? v->p : v->h;
    s->band.w = data ? v->q : v->w;
    s->band.c = data ? v->k : v->c;
    s->band.step_y = data ? 1 : v->stride_y;
    s->band.step_x = data ? 1 : v->stride_x;
    s->band.units_y = divide_up(s->out_h, s->phases_y);
    s->band.units_x = divide_up(s->out_w, s->phases_x);

    merge_phases(s);

    /* An axis has at most so many taps or, of a merged phase, offsets. */
    ty = mem_new(ctx, (size_t)(v->r * v->dilation_y) + 1, sizeof *ty);
    tx = mem_new(ctx, (size_t)(v->s * v->dilation_x) + 1, sizeof *tx);
    s->phase = mem_new(ctx, (size_t)s->phases, sizeof *s->phase);
    if (!ty || !tx || !s->phase) {
        rc = EBM_ERR_NOMEM;
        goto out;
    }
    axis_span(v, true, s->phases_y, ty, &s->band.first_y, &s->band.span_y);
    axis_span(v, false, s->phases_x, tx, &s->band.first_x, &s->band.span_x);
    int64_t phases = (int64_t)s->phases_y * s->phases_x;
    band_plan(&s->band, band_pixels(s, v->n * s->out_h * s->out_w) / phases, s->u->MR);
    for (int i = 0; i < s->phases && rc == EBM_OK; i++) {
        struct phase *ph = &s->phase[i];
        ph->y = i / s->phases_x;
        ph->x = i % s->phases_x;
        int n_y = s->merged ? merged_taps(s->band.first_y, s->band.span_y, ty)
                            : axis_taps(v, true, ph->y, ty);
        int n_x = s->merged ? merged_taps(s->band.first_x, s->band.span_x, tx)
                            : axis_taps(v, false, ph->x, tx);
        rc = conv_phase(ctx, s, ph, ty, n_y, tx, n_x);
    }
out:
    mem_free(ctx, ty);
    mem_free(ctx, tx);
    return rc;
}

/* The own kernels run at the speed of BLIS's and need A not packed, so that in
 * convolutions packing would only cost (bench: 5 to 20 % of the peak).  In large
 * products it costs nothing, and there the assembly of those who know a
 * processor better may gain. */
static bool blis_applies(const struct rows *s)
{
    return s->u->packed
        && s->v.op == OP_MATMUL
        && s->columns >= BLIS_COLUMNS
        && s->v.depth >= BLIS_DEPTH;
}

static int plan(const struct cpu *cpu, const struct problem *v, void *self,
                size_t *packed, size_t *scratch)
{
    struct rows *s = self;
    int rc;

    s->v = *v;
    s->u = cpu->ukernel;
    rc = v->op == OP_MATMUL ? matmul_plan(cpu->ctx, s) : conv_plan(cpu->ctx, s);
    if (rc < 0)
        return rc;
    if (v->op == OP_MATMUL)
        s->work = v->batch * v->rows * v->columns * v->depth;
    else
        s->work = v->n * v->p * v->q * v->k * v->r * v->s * (v->c / v->groups);

    s->packs = blis_applies(s);

    /* transposed A | per thread: copy of the band, a tile, and
     * for BLIS a block of the band as panels */
    int64_t panelled = divide_up(s->band.band_units, s->u->MR) * s->u->MR;
    s->own = line_up(band_size(&s->band)) + line_up(GEMM_MAX_MR * GEMM_MAX_NR)
           + (s->packs ? line_up((size_t)(panelled * BLOCK_DEPTH)) : 0);
    *packed = line_up((size_t)(v->batch * s->packed)) * sizeof(float);
    *scratch = (line_up((size_t)(v->batch * s->transposed))
                + (size_t)cpu->threads * s->own) * sizeof(float);
    return EBM_OK;
}

static void rows_free(ebm_context *ctx, void *self)
{
    struct rows *s = self;

    for (int i = 0; s->phase && i < s->phases; i++) {
        mem_free(ctx, s->phase[i].tap);
        mem_free(ctx, s->phase[i].run);
        mem_free(ctx, s->phase[i].block);
        mem_free(ctx, s->phase[i].a);
        mem_free(ctx, s->phase[i].c);
    }
    mem_free(ctx, s->phase);
}

/* ---- run -------------------------------------------------------------- */

/* A piece of packing: one tap of one panel (TILES) or of all columns. */
static int64_t phase_pieces(const struct rows *s, const struct phase *ph)
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

static void pack(const struct rows *s, const struct phase *ph, int64_t piece,
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
    f += group * s->f_group;
    packed += group * packed_size(s, ph->depth);
    if (s->kernel == DOT) {
        for (int64_t c = 0; c < s->columns; c++)
            for (int64_t k = 0; k < terms; k++)
                packed[c * ph->depth + before + k] = f[c * s->f_column + k * s->f_term];
        return;
    }
    int width = panel_width(s, j);
    int64_t first = j * s->u->NR;
    pack_tile(s, f + first * s->f_column, terms, least(width, s->columns - first), width,
              packed + first * ph->depth + before * width);
}

/* What a tile needs besides A and B. */
struct tile {
    const struct ukernel *u;
    float *spare;            /* MR x NR floats */
    int rows;                /* of MR; the others go to waste */
    int64_t columns;
    int width;               /* NR or NS */
};

static void multiply(const struct tile *t, int runs, const struct run *run,
                     const float *const *a, const float *b, float *const *c, bool add)
{
    gemm_rows *kernel = t->width == t->u->NR ? t->u->rows : t->u->rows_narrow;
    float *to[GEMM_MAX_MR];

    if (t->columns == t->width) {
        kernel(runs, run, a, b, c, add);
        return;
    }
    for (int i = 0; i < t->u->MR; i++)
        to[i] = t->spare + i * t->width;
    kernel(runs, run, a, b, to, false);
    for (int i = 0; i < t->rows; i++)
        for (int64_t j = 0; j < t->columns; j++)
            c[i][j] = add ? c[i][j] + to[i][j] : to[i][j];
}

/* Pointers to MR rows of A and C from the given one on; behind the last row the
 * first is read again and written to the spare tile. */
static inline int row_pointers(const struct rows *s, const struct phase *ph, int64_t row,
                               int64_t rows, const float *from, float *to, float *spare,
                               const float **a, float **c)
{
    const int64_t *a_at = ph->a + row, *c_at = ph->c + row;
    int MR = s->u->MR, n = (int)least(MR, rows - row);

    for (int i = 0; i < n; i++)
        a[i] = from + a_at[i];
    for (int i = 0; i < n; i++)
        c[i] = to + c_at[i];
    for (int i = n; i < MR; i++) {
        a[i] = a[0];
        c[i] = spare + i * s->u->NR;
    }
    return n;
}

static void panel_of(const struct rows *s, int64_t j, struct tile *tile)
{
    tile->width = panel_width(s, j);
    tile->columns = least(tile->width, s->columns - j * s->u->NR);
}

/* Rows of one phase and one group by tiles.  A panel of B stays in the cache
 * while all rows pass by; where all panels do, they take turns at each row. */
static void by_tiles(const struct rows *s, const struct phase *ph, int64_t rows,
                     const float *from, const float *packed, float *to, float *spare)
{
    const float *a[GEMM_MAX_MR];
    float *c[GEMM_MAX_MR];
    struct tile tile = { .u = s->u, .spare = spare };
    int64_t before = 0, n = panels(s);

    for (int block = 0; block < ph->blocks; block++) {
        const struct run *run = ph->run + ph->block[block];
        int runs = ph->block[block + 1] - ph->block[block];
        int64_t depth = 0;

        for (int t = 0; t < runs; t++)
            depth += run[t].len;
        int64_t at_once = depth * n * s->u->NR <= FEW_FLOATS ? n : 1;
        for (int64_t j = 0; j < n; j += at_once) {
            panel_of(s, j, &tile);
            for (int64_t row = 0; row < rows; row += s->u->MR) {
                tile.rows = row_pointers(s, ph, row, rows, from, to + j * s->u->NR, spare, a, c);
                for (int64_t i = j; i < j + at_once; i++) {
                    if (at_once > 1)
                        panel_of(s, i, &tile);
                    multiply(&tile, runs, run, a,
                             packed + i * s->u->NR * ph->depth + before * tile.width, c, block > 0);
                    for (int r = 0; at_once > 1 && r < tile.rows; r++)
                        c[r] += s->u->NR;
                }
            }
        }
        before += depth;
    }
}

/* MR rows of A as a panel. */
static float *pack_rows(int MR, int runs, const struct run *run, const float *const *a, float *to)
{
    for (int t = 0; t < runs; t++) {
        for (int i = 0; i < MR; i++)
            for (int64_t k = 0; k < run[t].len; k++)
                to[k * MR + i] = a[i][run[t].at + k];
        to += run[t].len * MR;
    }
    return to;
}

/* The distance of the rows of a tile, or 0 if they are not equally far. */
static int64_t row_distance(int MR, float *const *c)
{
    int64_t ldc = c[1] - c[0];

    for (int i = 2; i < MR; i++)
        if (c[i] - c[i - 1] != ldc)
            return 0;
    return ldc;
}

/* The same by BLIS, which wants A in panels too. */
static void by_panels(const struct rows *s, const struct phase *ph, int64_t rows,
                      const float *from, const float *packed, float *to, float *spare)
{
    const struct ukernel *u = s->u;
    const float *a[GEMM_MAX_MR];
    float *c[GEMM_MAX_MR];
    float *a_panels = spare + line_up(GEMM_MAX_MR * GEMM_MAX_NR);
    struct tile tile = { .u = u, .spare = spare };
    int64_t before = 0;

    for (int block = 0; block < ph->blocks; block++) {
        const struct run *run = ph->run + ph->block[block];
        int runs = ph->block[block + 1] - ph->block[block];
        int64_t depth = 0;

        for (int t = 0; t < runs; t++)
            depth += run[t].len;
        float *panel = a_panels;
        for (int64_t row = 0; row < rows; row += u->MR) {
            row_pointers(s, ph, row, rows, from, to, spare, a, c);
            panel = pack_rows(u->MR, runs, run, a, panel);
        }
        for (int64_t j = 0; j < panels(s); j++) {
            int64_t first = j * u->NR, ldc;
            tile.width = panel_width(s, j);
            tile.columns = least(tile.width, s->columns - first);
            const float *b = packed + first * ph->depth + before * tile.width;
            panel = a_panels;
            for (int64_t row = 0; row < rows; row += u->MR, panel += u->MR * depth) {
                tile.rows = row_pointers(s, ph, row, rows, from, to + first, spare, a, c);
                if (tile.rows == u->MR && tile.columns == u->NR
                    && (ldc = row_distance(u->MR, c)) != 0)
                    u->packed(u->blis, depth, panel, b, c[0], ldc, block > 0);
                else
                    multiply(&tile, runs, run, a, b, c, block > 0);
            }
        }
        before += depth;
    }
}

/* Rows of one phase and one group by the kernels that take all columns. */
static void by_rows(const struct rows *s, const struct phase *ph, int64_t rows,
                    const float *from, const float *packed, float *to, float *spare)
{
    const float *a[GEMM_MAX_MR];
    float *c[GEMM_MAX_MR];

    for (int64_t row = 0; row < rows; row += s->u->MR) {
        int n = row_pointers(s, ph, row, rows, from, to, spare, a, c);
        for (int i = n; i < s->u->MR; i++)
            c[i] = c[0];          /* the same again: rows may be longer than spare */
        if (s->kernel == DOT)
            s->u->dot(ph->runs, ph->run, a, packed, ph->depth, (int)s->columns, s->column, c);
        else
            s->u->taps(ph->runs, ph->run, a, packed, s->columns, c);
    }
}

static void run_band(const struct rows *s, int64_t band, const float *x, const float *packed,
                     float *out, float *own, int64_t offset,
                     const struct epilogue *epilogue, int thread)
{
    struct part part = band_part(&s->band, band);
    float *spare = own + line_up(band_size(&s->band));
    const float *from = band_load(&s->band, &part, x, own);
    int64_t line = s->out_w * s->out_c;
    int64_t begin = (part.image * s->out_h + part.unit * s->phases_y) * line;

    for (int i = 0; i < s->phases; i++) {
        const struct phase *ph = &s->phase[i];
        int64_t ny = pixels_of(s->out_h, s->phases_y, ph->y, part.unit, part.units);
        int64_t rows = part.images * ny * ph->nx;
        for (int64_t g = 0; g < s->groups; g++)
            (s->kernel != TILES ? by_rows : s->packs ? by_panels : by_tiles)
                (s, ph, rows, from + g * s->a_group,
                 packed + ph->packed + g * packed_size(s, ph->depth),
                 out + begin + g * s->columns, spare);
    }
    if (epilogue) {
        int64_t last = part.unit + part.units;         /* of the last image */
        int64_t end = ((part.image + part.images - 1) * s->out_h
                       + least(last * s->phases_y, s->out_h)) * line;
        epilogue->run(epilogue->self, offset + begin, offset + end, thread);
    }
}

/* a [k,m] of each batch to [m,k], by squares, so that whole cache lines are read
 * and written however the rows' distance falls into the cache. */
static void transpose(const float *a, float *to, int64_t rows, int64_t depth, int64_t stripe)
{
    int64_t first = stripe * SQUARE, n = least(SQUARE, rows - first);
    float square[SQUARE][SQUARE];

    for (int64_t k0 = 0; k0 < depth; k0 += SQUARE) {
        int64_t terms = least(SQUARE, depth - k0);
        for (int64_t k = 0; k < terms; k++)
            for (int64_t i = 0; i < n; i++)
                square[i][k] = a[(k0 + k) * rows + first + i];
        for (int64_t i = 0; i < n; i++)
            memcpy(to + (first + i) * depth + k0, square[i], (size_t)terms * sizeof *to);
    }
}

static void run(const struct cpu *cpu, const void *self, const float *x, const float *f,
                float *out, float *packed, float *scratch, const struct epilogue *epilogue)
{
    const struct rows *s = self;
    const struct problem *v = &s->v;
    float *turned = scratch;
    float *owned = turned + line_up((size_t)(v->batch * s->transposed));
    int64_t stripes = s->transposed ? divide_up(v->rows, SQUARE) : 0;
    int64_t x_batch = v->rows * v->depth, f_batch = v->depth * v->columns;
    int64_t out_batch = v->rows * v->columns;
    int threads = s->work > SMALL ? cpu->threads : 1;
    (void)threads;               /* without OpenMP nobody reads it */

    #pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int thread = thread_index();
        float *own = owned + (size_t)thread * s->own;

        for (int i = 0; f && i < s->phases; i++) {
            const struct phase *ph = &s->phase[i];
            int64_t pieces = phase_pieces(s, ph);
            #pragma omp for schedule(static) nowait
            for (int64_t piece = 0; piece < v->batch * pieces; piece++)
                pack(s, ph, piece % pieces, f + piece / pieces * f_batch,
                     packed + piece / pieces * s->packed);
        }
        #pragma omp for schedule(static) nowait
        for (int64_t i = 0; i < v->batch * stripes; i++)
            transpose(x + i / stripes * x_batch, turned + i / stripes * x_batch,
                      v->rows, v->depth, i % stripes);
        if (f || stripes) {
            #pragma omp barrier
        }
        #pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < v->batch * s->band.bands; i++) {
            int64_t batch = i / s->band.bands;
            run_band(s, i % s->band.bands, (stripes ? turned : x) + batch * x_batch,
                     packed + batch * s->packed, out + batch * out_batch, own,
                     batch * out_batch, epilogue, thread);
        }
    }
}

static bool applies(const struct problem *v)
{
    return v->op == OP_CONV || v->op == OP_CONV_DATA || v->op == OP_MATMUL;
}

const struct algorithm conv_rows = {
    "rows", applies, plan, run, rows_free, sizeof(struct rows),
};
