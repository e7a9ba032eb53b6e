/* rows_plan.c - conv_rows.c before it runs: phases, runs, bands, memory.
 *
 * SPDX-License-Identifier: ISC
 *
 * Where all phases (conv_taps.c) together have few columns (one channel, stride
 * 2), they are computed at once, as columns of one phase with the taps of all and
 * zeros between: a vector that is read then serves four pixels.
 *
 * Where a pixel's columns would leave half of the narrowest tile empty, as many
 * pixels side by side as fill it are computed at once, in the same way: of 3x3
 * filters, two pixels have the taps of four, not of six.
 *
 *     taps     0 1 2 .        pixel x
 *              . 0 1 2        pixel x + 1, as further columns of it
 *
 * Where bands are too few for all threads (small images, few rows), tasks are stripes of
 * columns of a band. */
#include "rows.h"

enum {
    BAND_FLOATS = 16384,     /* of the result, so that the epilogue finds them cached */
    SOURCE_FLOATS = 65536,   /* of the images that a band is computed of, about */
    BAND_PIXELS = 4096,      /* at most */
    MANY_BANDS = 16,         /* enough for any number of threads to share evenly */
    EVEN = 4,                /* tasks for each thread: fewer bands are cut in stripes of columns */
    PLACES = 2048,           /* bytes: half the span of a first cache's way */
    GAP = 16,                /* floats that keep rows apart: a cache line */
    MATMUL_TAP = 256,        /* packing's grain */
    BLIS_COLUMNS = 256,      /* that packed rows must serve */
    BLIS_DEPTH = 128         /* of a call of its kernel */
};

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

/* Offsets of the rows of a full band. */
static void make_rows(const struct rows *s, struct phase *ph)
{
    const struct band *v = &s->band;
    int64_t row = 0;

    for (int64_t n = 0; n < v->band_images; n++)
        for (int64_t y = 0; y < ph->ny; y++)
            for (int64_t x = 0; x < ph->nx; x++, row++) {
                /* Of pixels side by side, the last are moved back to the row's end. */
                int64_t at = least(x * s->side, s->out_w - s->side);
                ph->a[row] = n * v->image + y * v->step_y * v->row
                           + at * (v->step_x / s->side) * v->c;
                ph->c[row] = ((n * s->out_h + y * s->phases_y + ph->y) * s->out_w
                              + at * s->phases_x + ph->x) * s->out_c;
            }
}

/* Fewer pixels where bands would be few, or what they are computed of large. */
static int64_t band_pixels(const struct rows *s, int64_t all)
{
    int64_t pixels = most(BAND_FLOATS / s->out_c, 8 * s->u->MR);

    int64_t step_x = s->band.step_x / s->side;
    pixels = least(pixels, most(SOURCE_FLOATS / (s->band.c * s->band.step_y * step_x),
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
        s->band.gap = GAP;
    }
    band_plan(&s->band, band_pixels(s, v->rows * v->batch), s->u->MR, 1);

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

/* Pixels side by side in one, if they fit a tile and their taps are fewer by that. */
static void pair_pixels(struct rows *s)
{
    const struct problem *v = &s->v;
    bool data = v->op == OP_CONV_DATA;
    int64_t pixels = s->u->NS / s->columns, more = (pixels - 1) * s->band.step_x;

    if (s->kernel != TILES || v->groups > 1 || (data && v->stride_x > 1) || v->dilation_x > 1
        || pixels < 2 || s->out_w < pixels || v->s + more >= v->s * pixels)
        return;
    s->side = (int)pixels;
    s->columns *= pixels;
    s->band.units_x = divide_up(s->out_w, pixels);
    s->band.span_x += more;
    s->band.step_x *= pixels;
}

/* Its taps along an axis: all offsets. */
static int merged_taps(int64_t first, int64_t span, struct tap *tap)
{
    for (int64_t i = 0; i < span; i++)
        tap[i] = (struct tap){ 0, first + i };
    return (int)span;
}

static int conv_plan(ebm_context *ctx, struct rows *s, int threads)
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
    if (s->kernel == TILES) {
        s->together = groups_together(v->groups, s->columns, s->u->NS);
        s->groups /= s->together;
        s->columns *= s->together;
        s->tap_length *= s->together;
        s->a_group *= s->together;
    }

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
    tx = mem_new(ctx, (size_t)(v->s * v->dilation_x) + 1 + (size_t)(s->u->NS * v->stride_x), sizeof *tx);
    s->phase = mem_new(ctx, (size_t)s->phases, sizeof *s->phase);
    if (!ty || !tx || !s->phase) {
        rc = EBM_ERR_NOMEM;
        goto out;
    }
    axis_span(v, true, s->phases_y, ty, &s->band.first_y, &s->band.span_y);
    axis_span(v, false, s->phases_x, tx, &s->band.first_x, &s->band.span_x);
    pair_pixels(s);
    int64_t phases = (int64_t)s->phases_y * s->phases_x * s->side;
    band_plan(&s->band, band_pixels(s, v->n * s->out_h * s->out_w) / phases, s->u->MR, threads);
    for (int i = 0; i < s->phases && rc == EBM_OK; i++) {
        struct phase *ph = &s->phase[i];
        ph->y = i / s->phases_x;
        ph->x = i % s->phases_x;
        int n_y = s->merged ? merged_taps(s->band.first_y, s->band.span_y, ty)
                            : axis_taps(v, true, ph->y, ty);
        int n_x = s->merged || s->side > 1 ? merged_taps(s->band.first_x, s->band.span_x, tx)
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

int rows_plan(const struct cpu *cpu, const struct problem *v, void *self,
              size_t *packed, size_t *scratch)
{
    struct rows *s = self;
    int rc;

    s->v = *v;
    s->u = cpu->ukernel;
    s->side = 1;
    s->together = 1;
    rc = v->op == OP_MATMUL ? matmul_plan(cpu->ctx, s) : conv_plan(cpu->ctx, s, cpu->threads);
    if (rc < 0)
        return rc;
    if (v->op == OP_MATMUL)
        s->work = v->batch * v->rows * v->columns * v->depth;
    else
        s->work = v->n * v->p * v->q * v->k * v->r * v->s * (v->c / v->groups);

    s->packs = blis_applies(s);
    s->stripes = cpu->threads > 1 && s->kernel == TILES
               ? most(1, least(panels(s), divide_up(EVEN * cpu->threads, v->batch * s->band.bands))) : 1;

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
