/* conv_filter.c - CONV_FILTER: the sum runs over pixels.
 *
 * SPDX-License-Identifier: ISC
 *
 *     f[k,rsc] = sum over pixels npq of  x[window of npq, rsc] y[npq,k]
 *
 * Rows of the tiles are filter elements rsc, columns are output channels, and
 * the depth is pixels: of x, MR consecutive floats of each window are read where
 * they lie, and y's channels too, unless many tiles gain from their being packed.
 * Of few channels (one to three) the windows are gathered first, so that tiles
 * reach over the ends of their rows:
 *
 *     x    a b c d e f       windows 2x2:   a b g h
 *          g h i j k l                      b c h i ...
 *
 * Where y has the few channels, both change places: x is the gradient then, of a
 * convolution of y, and the filter comes out mirrored and turned,
 *
 *     f[k,r,s,c] = f'[c,R-1-r,S-1-s,k].
 *
 * Where y's channels would leave half of the narrowest tile empty and x has few as well,
 * pixels side by side are taken as one of more channels, whose window is so much wider
 * (rows_plan.c does the same).  Each of them has its own sums, of which those that belong
 * to one tap are added at the end:
 *
 *     f[k,r,s,c] = f'[(0,k),r,s,c] + f'[(1,k),r,s+stride,c] + ...
 *
 * The pixels are cut into bands, and the bands dealt to slots, both by the plan.
 * Each band's sum starts at zero and is added to its slot's, band after band;
 * at the end the slots are added in their order.  So no float sum is longer
 * than a band, and threads only decide who does what.  The sums of an only band go to the filter
 * at once.  Large filters, of which memory bears few slots, are cut into stripes of columns as well. */
#include <string.h>
#include "conv.h"

enum {
    BAND_PIXELS = 384,           /* of a band, about: the terms of a float sum */
    FEW_PIXELS = 128,            /* with gathered windows, that all fit a first cache */
    MAX_SLOTS = 32,
    SLOT_WORK = 1 << 19,         /* multiplications that make a slot worth its sum */
    SLOT_MEMORY = 1 << 22,       /* floats of all slots, where one is not larger */
    TASKS = 16,                  /* slots x stripes, if there are columns enough */
    FEW_TILES = 16,              /* of a panel of y that is not worth packing */
    RANGE = 16384                /* elements for the epilogue at a time */
};

/* Rows [skip, skip + rows) of a tile are the filter elements from `element` on. */
struct row_tile {
    int64_t at;                  /* row 0, from a window's first element */
    int64_t element, rows;
    int64_t skip;                /* rows that the tile before has too */
};

struct filter {
    struct problem v;            /* after changing places */
    const struct ukernel *u;
    struct band band;
    bool depthwise, turned;
    bool direct;                 /* one band: its sums are the filter */
    int64_t side, k, columns;    /* pixels side by side; channels and columns s of one */
    int runs;                    /* of a window that is gathered; else 0, or taps */
    struct run *gather;
    int64_t *from;               /* of each pixel: where its window begins */
    int64_t gathered;            /* floats from one gathered window to the next */
    int64_t together;            /* of the problem's groups in one; of their blocks, those on
                                  * the diagonal are the filter */
    int64_t cg, kg, window;      /* channels of a group; r s cg */
    int64_t run;                 /* consecutive elements of a window */
    int64_t pixels;              /* of a full band */
    int64_t *at;                 /* of each: offset of its window, as tiles see it */
    int tiles, MR;               /* MR: u->MR, TALL or FLAT */
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

/* Whichever height of tiles wastes the fewest rows of a run. */
static int height(const struct filter *s, int64_t length)
{
    const struct ukernel *u = s->u;
    const int heights[] = { u->MR, u->TALL, s->kg <= u->NS ? u->FLAT : u->MR };
    int best = u->MR;

    for (size_t i = 1; i < COUNT(heights); i++)
        if (divide_up(length, heights[i]) * heights[i] < divide_up(length, best) * best)
            best = heights[i];
    return best;
}

/* Tiles over a window.  A run of `length` elements takes whole tiles, the last
 * of which is moved back so as not to read beyond the run. */
static int tiles_plan(ebm_context *ctx, struct filter *s)
{
    const struct problem *v = &s->v;
    int64_t length = s->runs ? s->window : s->run;
    int64_t runs = s->window / length, in_row = most(1, runs / v->r);
    int64_t MR = s->MR = height(s, length), tiles = divide_up(length, MR);

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

/* Whether y's few channels would leave most of a vector empty, and x's not. */
static bool turns(const struct problem *v, const struct ukernel *u)
{
    return v->groups == 1 && v->stride_y == 1 && v->stride_x == 1
        && v->k <= u->NS / 2 && v->c >= u->NS;
}

static struct problem turn(const struct problem *v)
{
    struct problem to = *v;

    to.h = v->p;
    to.w = v->q;
    to.c = v->k;
    to.p = v->h;
    to.q = v->w;
    to.k = v->c;
    to.top = (v->r - 1) * v->dilation_y - v->top;
    to.left = (v->s - 1) * v->dilation_x - v->left;
    return to;
}

/* Pixels side by side as one, if they fit a tile and their taps are fewer by that. */
static void pair_pixels(struct filter *s)
{
    struct problem *v = &s->v;
    int64_t pixels = most(1, s->u->NS / v->k);

    while (v->q % pixels)
        pixels--;
    int64_t more = (pixels - 1) * v->stride_x;
    s->side = 1;
    s->k = v->k;
    s->columns = v->s;
    if (v->groups > 1 || v->dilation_x > 1 || pixels < 2
        || v->s + more >= v->s * pixels)
        return;
    s->side = pixels;
    v->s += more;
    v->stride_x *= pixels;
    v->q /= pixels;
    v->k *= pixels;
}

/* The runs of a window: of few channels whole rows of it, of a depthwise one taps. */
static int runs_plan(ebm_context *ctx, struct filter *s)
{
    const struct problem *v = &s->v;
    int64_t length = s->depthwise ? v->c : s->run;
    int64_t in_row = s->depthwise ? v->s : s->window / v->r / s->run;

    s->runs = (int)(v->r * in_row);
    s->gather = mem_new(ctx, (size_t)s->runs, sizeof *s->gather);
    if (!s->gather)
        return EBM_ERR_NOMEM;
    for (int64_t i = 0; i < s->runs; i++)
        s->gather[i] = (struct run){
            i / in_row * v->dilation_y * s->band.row + i % in_row * v->dilation_x * v->c, length,
        };
    return EBM_OK;
}

/* Floats of all sums of pixels side by side. */
static size_t sides_size(const struct filter *s)
{
    return s->side > 1 ? line_up((size_t)(s->window * s->v.k)) : 0;
}

static int plan(const struct cpu *cpu, const struct problem *v, void *self,
                size_t *packed, size_t *scratch)
{
    struct filter *s = self;
    int rc = EBM_OK;
    (void)packed;

    s->u = cpu->ukernel;
    s->turned = turns(v, s->u);
    s->v = s->turned ? turn(v) : *v;
    pair_pixels(s);
    v = &s->v;
    s->depthwise = v->groups > 1 && v->groups == v->c && v->groups == v->k;
    s->together = s->depthwise ? 1 : groups_together(v->groups, v->k / v->groups, s->u->NS);
    s->v.groups /= s->together;
    s->cg = v->c / v->groups;
    s->kg = v->k / v->groups;
    s->window = v->r * v->s * s->cg;
    s->band = (struct band){
        .n = v->n, .h = v->h, .w = v->w, .c = v->c,
        .first_y = -v->top, .first_x = -v->left,
        .span_y = (v->r - 1) * v->dilation_y + 1, .span_x = (v->s - 1) * v->dilation_x + 1,
        .step_y = v->stride_y, .step_x = v->stride_x, .units_y = v->p, .units_x = v->q,
    };
    /* The columns s of a window touch when nothing lies between them. */
    s->run = v->groups == 1 && v->dilation_x == 1 ? v->s * v->c : s->cg;
    bool gathers = v->groups == 1 && s->run < s->window && s->run % s->u->MR != 0
                && s->run < 2 * s->u->MR;
    /* To read beyond runs safely. */
    int64_t tallest = most(s->u->MR, most(s->u->TALL, s->u->FLAT));
    s->band.copied = gathers || s->run < tallest;
    band_plan(&s->band, gathers ? FEW_PIXELS : BAND_PIXELS, 1, 1);
    s->pixels = s->band.band_images * s->band.band_units * v->q;

    s->from = mem_new(cpu->ctx, (size_t)s->pixels, sizeof *s->from);
    s->at = mem_new(cpu->ctx, (size_t)s->pixels, sizeof *s->at);
    if (!s->at || !s->from)
        return EBM_ERR_NOMEM;
    int64_t i = 0;
    for (int64_t n = 0; n < s->band.band_images; n++)
        for (int64_t p = 0; p < s->band.band_units; p++)
            for (int64_t q = 0; q < v->q; q++)
                s->from[i++] = n * s->band.image + p * v->stride_y * s->band.row
                             + q * v->stride_x * v->c;
    if ((gathers || s->depthwise) && (rc = runs_plan(cpu->ctx, s)) < 0)
        return rc;
    s->gathered = gathers ? most(s->window, tallest) : 0;
    for (i = 0; i < s->pixels; i++)
        s->at[i] = gathers ? i * s->gathered : s->from[i];
    if (s->depthwise)
        s->sums = s->window * v->c;
    else
        rc = tiles_plan(cpu->ctx, s);
    if (rc < 0)
        return rc;

    s->direct = s->band.bands == 1 && !s->depthwise && s->side == 1;
    /* As many slots as bands, work and memory bear. */
    int64_t work = v->n * v->p * v->q * v->k * s->window;
    int64_t slots = least(MAX_SLOTS, least(s->band.bands, 1 + work / SLOT_WORK));
    s->slots = (int)most(1, least(slots, SLOT_MEMORY / s->sums));
    s->stripes = 1;
    if (!s->depthwise && work / SLOT_WORK > s->slots)
        s->stripes = (int)least(v->groups * divide_up(s->kg, s->u->NR),
                                divide_up(TASKS, s->slots));

    /* the slots' sums | sums of pixels side by side | per thread: copy of the band, panel of y, gathered windows */
    s->own = line_up(band_size(&s->band)) + line_up((size_t)s->pixels * (size_t)s->u->NR)
           + line_up((size_t)(s->pixels * s->gathered));
    size_t sums = s->direct ? 0 : (size_t)s->slots * line_up((size_t)s->sums);
    *scratch = (sums + sides_size(s) + (size_t)cpu->threads * s->own) * sizeof(float);
    return EBM_OK;
}

static void filter_free(ebm_context *ctx, void *self)
{
    struct filter *s = self;

    mem_free(ctx, s->at);
    mem_free(ctx, s->from);
    mem_free(ctx, s->gather);
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

    return s->tiles * s->MR * (i / panels * s->padded + i % panels * s->u->NR);
}

static gemm_cols *kernel_for(const struct filter *s, int width)
{
    const struct ukernel *u = s->u;

    if (s->MR == u->MR)
        return width == u->NR ? u->cols : u->cols_narrow;
    if (s->MR == u->TALL)
        return width == u->NR ? u->cols_tall : u->cols_tall_narrow;
    return u->cols_flat_narrow;
}

/* One element of the window, of channels [first, first + columns), where these lie together. */
static void place(const struct filter *s, int64_t element, int64_t first, int64_t columns,
                  const float *sum, float *f)
{
    if (s->side > 1) {
        memcpy(f + element * s->v.k + first, sum, (size_t)columns * sizeof *f);
        return;
    }
    int64_t taps = s->v.r * s->v.s, tap = taps - 1 - element / s->cg;
    memcpy(f + (element % s->cg * taps + tap) * s->v.k + first, sum, (size_t)columns * sizeof *f);
}

/* One element of the window of groups that are one: of its own group's channels. */
static void place_together(const struct filter *s, int64_t group, int64_t element, const float *sum, float *f)
{
    int64_t cg = s->cg / s->together, kg = s->kg / s->together, window = s->window / s->together;
    int64_t i = element % s->cg / cg, c = element % cg;

    f += (group * s->kg + i * kg) * window + element / s->cg * cg + c;
    for (int64_t j = 0; j < kg; j++)
        f[j * window] = sum[i * kg + j];
}

/* The sums of one row tile and of one panel, whose columns begin at `first`, into the filter. */
static void place_tile(const struct filter *s, int64_t g, int t, int64_t first, const float *sum, float *f)
{
    const struct row_tile *tile = &s->tile[t];
    int64_t width = panel_width(s, first), columns = least(width, s->kg - first);

    sum += tile->skip * width;
    if (s->together > 1)
        for (int64_t i = 0; i < tile->rows; i++)
            place_together(s, g, tile->element + i, sum + i * width, f);
    else if (s->side > 1 || s->turned)
        for (int64_t i = 0; i < tile->rows; i++)
            place(s, tile->element + i, g * s->kg + first, columns, sum + i * width, f);
    else                         /* a channel's elements lie together */
        for (int64_t j = 0; j < columns; j++)
            for (int64_t i = 0; i < tile->rows; i++)
                f[(g * s->kg + first + j) * s->window + tile->element + i] = sum[i * width + j];
}

/* One band into its slot, or the only one into the filter; panels [begin, end). */
static void add_band(const struct filter *s, int64_t begin, int64_t end, int64_t pixels,
                     const float *x, const float *y, float *sums, bool add, float *y_panel, float *f)
{
    const struct ukernel *u = s->u;
    float sum[GEMM_MAX_MR * GEMM_MAX_NR];
    int64_t panels = divide_up(s->kg, u->NR);

    for (int64_t i = begin; i < end; i++) {
        int64_t g = i / panels, first = i % panels * u->NR;
        int width = panel_width(s, first);
        gemm_cols *kernel = kernel_for(s, width);
        float *to = s->direct ? sum : sums + panel_at(s, i);
        const float *panel = y + g * s->kg + first;
        int64_t ld = s->v.k;
        if (s->kg - first < width || s->tiles > FEW_TILES) {
            pack_y(panel, pixels, s->v.k, least(width, s->kg - first), width, y_panel);
            panel = y_panel;
            ld = width;
        }
        for (int t = 0; t < s->tiles; t++, to += s->direct ? 0 : s->MR * width) {
            kernel(pixels, s->at, x + g * s->cg + s->tile[t].at, panel, ld, to, add);
            if (s->direct)
                place_tile(s, g, t, first, sum, f);
        }
    }
}

/* All bands of a slot, one stripe of the columns. */
static void run_slot(const struct filter *s, int slot, int stripe, const float *x,
                     const float *y, float *sums, float *own, float *f)
{
    float *y_panel = own + line_up(band_size(&s->band));
    float *windows = y_panel + line_up((size_t)s->pixels * (size_t)s->u->NR);
    int64_t first = s->band.bands * slot / s->slots, last = s->band.bands * (slot + 1) / s->slots;
    int64_t panels = s->v.groups * divide_up(s->kg, s->u->NR);
    int64_t begin = panels * stripe / s->stripes, end = panels * (stripe + 1) / s->stripes;

    if (s->depthwise || first == last) {
        int64_t from_sum = s->depthwise ? 0 : panel_at(s, begin);
        int64_t to_sum = s->depthwise ? s->sums : panel_at(s, end);
        memset(sums + from_sum, 0, (size_t)(to_sum - from_sum) * sizeof *sums);
    }
    for (int64_t band = first; band < last; band++) {
        struct part part = band_part(&s->band, band);
        const float *from = band_load(&s->band, &part, x, own);
        const float *dy = y + (part.image * s->v.p + part.unit) * s->v.q * s->v.k;
        int64_t pixels = part.images * part.units * s->v.q;
        if (s->gathered) {
            s->u->gather(pixels, s->from, from, s->runs, s->gather, windows, s->gathered);
            from = windows;
        }
        if (s->depthwise)
            s->u->taps_cols(s->runs, s->gather, pixels, s->at, from, dy, s->v.k, s->v.c, sums);
        else
            add_band(s, begin, end, pixels, from, dy, sums, band > first, y_panel, f);
    }
}

/* The slots' sums of one row tile, all its columns, into the filter. */
static void collect(const struct filter *s, int64_t piece, const float *sums, float *f)
{
    int64_t MR = s->MR, slot = (int64_t)line_up((size_t)s->sums);
    int64_t g = piece / s->tiles, t = piece % s->tiles;
    float sum[GEMM_MAX_MR * GEMM_MAX_NR];

    sums += g * s->tiles * MR * s->padded;
    for (int64_t first = 0; first < s->kg; first += s->u->NR) {
        int64_t width = panel_width(s, first);
        s->u->total(s->slots, sums + (s->tiles * first + t * width) * MR, slot, MR * width, sum);
        place_tile(s, g, (int)t, first, sum, f);
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

/* The filter of channel k from sums[r s' c][pixel and k] of pixels side by side. */
static void add_sides(const struct filter *s, int64_t k, const float *sums, float *f)
{
    const struct problem *v = &s->v;
    int64_t step = v->stride_x / s->side;

    for (int64_t r = 0; r < v->r; r++)
        for (int64_t i = 0; i < s->columns; i++)
            for (int64_t c = 0; c < v->c; c++) {
                float sum = 0;
                for (int64_t pixel = 0; pixel < s->side; pixel++)
                    sum += sums[((r * v->s + i + pixel * step) * v->c + c) * v->k + pixel * s->k + k];
                f[((k * v->r + r) * s->columns + i) * v->c + c] = sum;
            }
}

static void run(const struct cpu *cpu, const void *self, const float *x, const float *y,
                float *out, float *packed, float *scratch, const struct epilogue *epilogue)
{
    const struct filter *s = self;
    const float *image = s->turned ? y : x, *gradient = s->turned ? x : y;
    (void)packed;
    size_t slot_size = s->direct ? 0 : line_up((size_t)s->sums);
    float *sides = scratch + (size_t)s->slots * slot_size, *owned = sides + sides_size(s);
    int64_t pieces = s->direct ? 0 : s->depthwise ? s->v.c : s->v.groups * s->tiles;
    int64_t count = s->k * s->v.r * s->columns * (s->cg / s->together);
    int threads = s->slots * s->stripes > 1 ? cpu->threads : 1;
    (void)threads;               /* without OpenMP nobody reads it */

    #pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int thread = thread_index();
        float *own = owned + (size_t)thread * s->own;

        #pragma omp for schedule(dynamic)
        for (int i = 0; i < s->slots * s->stripes; i++) {
            int slot = i / s->stripes;
            run_slot(s, slot, i % s->stripes, image, gradient,
                     scratch + (size_t)slot * slot_size, own, out);
        }
        #pragma omp for schedule(static)
        for (int64_t piece = 0; piece < pieces; piece++) {
            if (s->depthwise)
                collect_depthwise(s, piece, scratch, out);
            else
                collect(s, piece, scratch, s->side > 1 ? sides : out);
        }
        #pragma omp for schedule(static)
        for (int64_t k = 0; k < (s->side > 1 ? s->k : 0); k++)
            add_sides(s, k, sides, out);
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
