/* conv_filter.c - CONV_FILTER: the sum runs over pixels.
 *
 * SPDX-License-Identifier: ISC
 *
 *     f[k,rsc] = sum over pixels npq of  x[window of npq, rsc] y[npq,k]
 *
 * Rows of the tiles are filter elements rsc, columns are output channels, and
 * the depth is pixels: of x, MR consecutive floats of each window are read where
 * they lie; y's channels are packed as panels.  Runs shorter than MR (one to
 * three channels) are read beyond their end, into rows that nobody collects.
 *
 * The pixels are cut into bands, and the bands dealt to slots, both by the plan.
 * Each band's sum starts at zero and is added to its slot's, band after band;
 * at the end the slots are added in their order.  So no float sum is longer
 * than a band, and threads only decide who does what.  Large filters, of which
 * memory bears few slots, are cut into stripes of columns as well. */
#include <string.h>
#include "conv.h"

enum {
    BAND_PIXELS = 384,           /* of a band, about: the terms of a float sum */
    MAX_SLOTS = 32,
    SLOT_WORK = 1 << 19,         /* multiplications that make a slot worth its sum */
    SLOT_MEMORY = 1 << 22,       /* floats of all slots, where one is not larger */
    TASKS = 16,                  /* slots x stripes, if there are columns enough */
    RANGE = 16384                /* elements for the epilogue at a time */
};

/* Rows [skip, skip + rows) of a tile are the filter elements from `element` on. */
struct row_tile {
    int64_t at;                  /* row 0, from a window's first element */
    int64_t element, rows;
    int64_t skip;                /* rows that the tile before has too */
};

struct filter {
    struct problem v;
    const struct ukernel *u;
    struct band band;
    bool depthwise;
    int64_t cg, kg, window;      /* channels of a group; r s cg */
    int64_t run;                 /* consecutive elements of a window */
    int64_t pixels;              /* of a full band */
    int64_t *at;                 /* of each: offset of its window in the band */
    int tiles;
    struct row_tile *tile;
    int64_t padded;              /* columns in whole panels */
    int64_t sums;                /* floats of a slot */
    int slots, stripes;
    size_t own;                  /* scratch per thread */
};

static int panel_width(const struct filter *s, int64_t first)
{
    return s->kg - first > s->u->NS ? s->u->NR : s->u->NS;
}

/* ---- plan ------------------------------------------------------------- */

/* Tiles over a window.  A run of `length` elements takes whole tiles, the last
 * of which is moved back so as not to read beyond the run. */
static int tiles_plan(ebm_context *ctx, struct filter *s)
{
    const struct problem *v = &s->v;
    int64_t MR = s->u->MR, length = s->run, tiles = divide_up(length, MR);
    int64_t runs = s->window / length, in_row = runs / v->r;

    s->tile = mem_new(ctx, (size_t)(runs * tiles), sizeof *s->tile);
    if (!s->tile)
        return EBM_ERR_NOMEM;
    for (int64_t run = 0; run < runs; run++)
        for (int64_t i = 0; i < length; i += MR) {
            int64_t skip = length < MR ? 0 : most(0, i + MR - length);
            int64_t at = run / in_row * v->dilation_y * s->band.row
                       + run % in_row * v->dilation_x * v->c;
            s->tile[s->tiles++] = (struct row_tile){
                at + i - skip, run * length + i, least(MR - skip, length - i), skip,
            };
        }
    int64_t whole_panels = (s->kg - 1) / s->u->NR * s->u->NR;
    s->padded = whole_panels + panel_width(s, whole_panels);
    s->sums = v->groups * s->tiles * MR * s->padded;
    return EBM_OK;
}

static int plan(const struct cpu *cpu, const struct problem *v, void *self,
                size_t *packed, size_t *scratch)
{
    struct filter *s = self;
    int rc = EBM_OK;
    (void)packed;

    s->v = *v;
    s->u = cpu->ukernel;
    s->cg = v->c / v->groups;
    s->kg = v->k / v->groups;
    s->window = v->r * v->s * s->cg;
    s->depthwise = v->groups > 1 && s->cg == 1 && s->kg == 1;
    s->band = (struct band){
        .n = v->n, .h = v->h, .w = v->w, .c = v->c,
        .first_y = -v->top, .first_x = -v->left,
        .span_y = (v->r - 1) * v->dilation_y + 1, .span_x = (v->s - 1) * v->dilation_x + 1,
        .step_y = v->stride_y, .step_x = v->stride_x, .units_y = v->p, .units_x = v->q,
    };
    /* The columns s of a window touch when nothing lies between them. */
    s->run = v->groups == 1 && v->dilation_x == 1 ? v->s * v->c : s->cg;
    s->band.copied = s->run < s->u->MR;      /* to read beyond runs safely */
    band_plan(&s->band, BAND_PIXELS, 1);
    s->pixels = s->band.band_images * s->band.band_units * v->q;

    s->at = mem_new(cpu->ctx, (size_t)s->pixels, sizeof *s->at);
    if (!s->at)
        return EBM_ERR_NOMEM;
    int64_t i = 0;
    for (int64_t n = 0; n < s->band.band_images; n++)
        for (int64_t p = 0; p < s->band.band_units; p++)
            for (int64_t q = 0; q < v->q; q++)
                s->at[i++] = n * s->band.image + p * v->stride_y * s->band.row
                           + q * v->stride_x * v->c;
    if (s->depthwise)
        s->sums = s->window * v->c;
    else
        rc = tiles_plan(cpu->ctx, s);
    if (rc < 0)
        return rc;

    /* As many slots as bands, work and memory bear. */
    int64_t work = v->n * v->p * v->q * v->k * s->window;
    int64_t slots = least(MAX_SLOTS, least(s->band.bands, 1 + work / SLOT_WORK));
    s->slots = (int)most(1, least(slots, SLOT_MEMORY / s->sums));
    s->stripes = 1;
    if (!s->depthwise && work / SLOT_WORK > s->slots)
        s->stripes = (int)least(v->groups * divide_up(s->kg, s->u->NR),
                                divide_up(TASKS, s->slots));

    /* the slots' sums | per thread: copy of the band, panel of y */
    s->own = line_up(band_size(&s->band)) + line_up((size_t)s->pixels * (size_t)s->u->NR);
    *scratch = ((size_t)s->slots * line_up((size_t)s->sums)
                + (size_t)cpu->threads * s->own) * sizeof(float);
    return EBM_OK;
}

static void filter_free(ebm_context *ctx, void *self)
{
    struct filter *s = self;

    mem_free(ctx, s->at);
    mem_free(ctx, s->tile);
}

/* ---- run -------------------------------------------------------------- */

static void pack_y(const float *y, int64_t pixels, int64_t k, int64_t columns, int width,
                   float *packed)
{
    for (int64_t i = 0; i < pixels; i++, y += k, packed += width) {
        memcpy(packed, y, (size_t)columns * sizeof *y);
        for (int64_t j = columns; j < width; j++)
            packed[j] = 0;
    }
}

/* Where the sums of panel i of all groups' begin: sums[group][panel][tile][MR][width]. */
static int64_t panel_at(const struct filter *s, int64_t i)
{
    int64_t panels = divide_up(s->kg, s->u->NR);

    return s->tiles * s->u->MR * (i / panels * s->padded + i % panels * s->u->NR);
}

/* One band into its slot, panels [begin, end). */
static void add_band(const struct filter *s, int64_t begin, int64_t end, int64_t pixels,
                     const float *x, const float *y, float *sums, float *y_panel)
{
    const struct ukernel *u = s->u;
    int64_t panels = divide_up(s->kg, u->NR);

    for (int64_t i = begin; i < end; i++) {
        int64_t g = i / panels, first = i % panels * u->NR;
        int width = panel_width(s, first);
        gemm_cols *kernel = width == u->NR ? u->cols : u->cols_narrow;
        float *to = sums + panel_at(s, i);
        pack_y(y + g * s->kg + first, pixels, s->v.k, least(width, s->kg - first), width,
               y_panel);
        for (int t = 0; t < s->tiles; t++, to += u->MR * width)
            kernel(pixels, s->at, x + g * s->cg + s->tile[t].at, y_panel, to);
    }
}

static void add_band_depthwise(const struct filter *s, int64_t pixels, const float *x,
                               const float *y, float *sums)
{
    const struct problem *v = &s->v;

    for (int64_t r = 0; r < v->r; r++)
        for (int64_t j = 0; j < v->s; j++, sums += v->c)
            s->u->taps_cols(pixels, s->at,
                            x + r * v->dilation_y * s->band.row + j * v->dilation_x * v->c,
                            y, v->k, v->c, sums);
}

/* All bands of a slot, one stripe of the columns. */
static void run_slot(const struct filter *s, int slot, int stripe, const float *x,
                     const float *y, float *sums, float *own)
{
    float *y_panel = own + line_up(band_size(&s->band));
    int64_t last = s->band.bands * (slot + 1) / s->slots;
    int64_t panels = s->v.groups * divide_up(s->kg, s->u->NR);
    int64_t begin = panels * stripe / s->stripes, end = panels * (stripe + 1) / s->stripes;
    int64_t from_sum = s->depthwise ? 0 : panel_at(s, begin);
    int64_t to_sum = s->depthwise ? s->sums : panel_at(s, end);

    memset(sums + from_sum, 0, (size_t)(to_sum - from_sum) * sizeof *sums);
    for (int64_t band = s->band.bands * slot / s->slots; band < last; band++) {
        struct part part = band_part(&s->band, band);
        const float *from = band_load(&s->band, &part, x, own);
        const float *dy = y + (part.image * s->v.p + part.unit) * s->v.q * s->v.k;
        int64_t pixels = part.images * part.units * s->v.q;
        if (s->depthwise)
            add_band_depthwise(s, pixels, from, dy, sums);
        else
            add_band(s, begin, end, pixels, from, dy, sums, y_panel);
    }
}

/* The slots' sums of one row tile, all its columns, into the filter. */
static void collect(const struct filter *s, int64_t piece, const float *sums, float *f)
{
    int64_t MR = s->u->MR, slot = (int64_t)line_up((size_t)s->sums);
    int64_t g = piece / s->tiles, t = piece % s->tiles;
    const struct row_tile *tile = &s->tile[t];

    sums += g * s->tiles * MR * s->padded;
    for (int64_t first = 0; first < s->kg; first += s->u->NR) {
        int64_t width = panel_width(s, first), columns = least(width, s->kg - first);
        const float *from = sums + s->tiles * MR * first + (t * MR + tile->skip) * width;
        float *to = f + (g * s->kg + first) * s->window + tile->element;
        for (int64_t j = 0; j < columns; j++)
            for (int64_t i = 0; i < tile->rows; i++) {
                float sum = 0;
                for (int n = 0; n < s->slots; n++)
                    sum += from[n * slot + i * width + j];
                to[j * s->window + i] = sum;
            }
    }
}

static void collect_depthwise(const struct filter *s, int64_t channel, const float *sums, float *f)
{
    int64_t slot = (int64_t)line_up((size_t)s->sums);

    for (int64_t e = 0; e < s->window; e++) {
        float sum = 0;
        for (int n = 0; n < s->slots; n++)
            sum += sums[n * slot + e * s->v.c + channel];
        f[channel * s->window + e] = sum;
    }
}

static void run(const struct cpu *cpu, const void *self, const float *x, const float *y,
                float *out, float *packed, float *scratch, const struct epilogue *epilogue)
{
    const struct filter *s = self;
    (void)packed;
    size_t slot_size = line_up((size_t)s->sums);
    float *owned = scratch + (size_t)s->slots * slot_size;
    int64_t pieces = s->depthwise ? s->v.c : s->v.groups * s->tiles;
    int64_t count = s->v.k * s->window;
    int threads = s->slots * s->stripes > 1 ? cpu->threads : 1;
    (void)threads;               /* without OpenMP nobody reads it */

    #pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int thread = thread_index();
        float *own = owned + (size_t)thread * s->own;

        #pragma omp for schedule(dynamic)
        for (int i = 0; i < s->slots * s->stripes; i++) {
            int slot = i / s->stripes;
            run_slot(s, slot, i % s->stripes, x, y, scratch + (size_t)slot * slot_size, own);
        }
        #pragma omp for schedule(static)
        for (int64_t piece = 0; piece < pieces; piece++) {
            if (s->depthwise)
                collect_depthwise(s, piece, scratch, out);
            else
                collect(s, piece, scratch, out);
        }
        /* Only now is anything complete. */
        #pragma omp for schedule(dynamic)
        for (int64_t begin = 0; begin < (epilogue ? count : 0); begin += RANGE)
            epilogue->run(epilogue->self, begin, least(begin + RANGE, count), thread);
    }
}

static bool applies(const struct problem *v)
{
    return v->op == OP_CONV_FILTER;
}

const struct algorithm conv_filter = {
    "filter", applies, plan, run, filter_free, sizeof(struct filter),
};
