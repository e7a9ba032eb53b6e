/* winograd_filter.c - CONV_FILTER with 3x3 filters by Winograd's algorithm.
 *
 * SPDX-License-Identifier: ISC
 *
 *     x --B'dB--> V[point][tile][c]        \
 *                                           > U[panel][point][c][NR] --G'uG--> f
 *     y --AyA'--> W[panel][point][tile][NR] /
 *
 * The depth of the products is tiles, so that nothing is transposed: of V, MR
 * consecutive channels of each tile are read where they lie.
 *
 * What products of so few terms cost beside their multiplications is lines of V, W
 * and U that leave the first cache, and each of them costs several times that from
 * beyond the second.  So the plane of channels c x k is cut into stripes in both
 * directions, and the tiles go by in blocks, such that V and W of a block and U of
 * a stripe stay in the second cache; for each stripe, tiles are transformed again.
 *
 * Blocks are dealt to slots, by the plan.  A task is one slot of one stripe: a
 * block's sums start at zero and are added to those before, and what they transform
 * to is the slot's part of the filter.  At the end the slots are added, in their
 * order.  So threads only decide who does what, and wait for each other twice. */
#include <string.h>
#include "winograd.h"

enum {
    FEW_TILES = 24, MANY_TILES = 192,    /* of a block: the terms of a float sum */
    CACHE = 1 << 18,             /* floats of U, V and W: a MiB */
    TASKS = 16,                  /* slots x stripes, if there are tiles enough */
    SLOT_BLOCKS = 2,             /* of a slot, at least: each transforms its sums */
    CHUNK = 16,                  /* channels collected at a time: a cache line */
    SMALL = 1 << 20,             /* multiplications that are not worth a second thread */
    RANGE = 16384                /* elements for the epilogue at a time */
};

struct winograd_filter {
    struct problem v;
    const struct ukernel *u;
    const struct winograd *f;
    struct tiling tiling;
    int64_t chunks, panels;      /* of c and of k */
    int64_t c_stripes, k_stripes, slots;
    int MR;                      /* u->MR or TALL */
    int64_t v_tile, v_point;     /* floats from one to the next */
    int64_t w_point, w_panel;
    int64_t u_point, u_panel;
    int64_t slot;
    int64_t *at;                 /* of a block's tiles: their rows of V */
    size_t own;                  /* scratch per thread */
};

static int panel_width(const struct winograd_filter *s, int64_t panel)
{
    return s->v.k - panel * s->u->NR > s->u->NS ? s->u->NR : s->u->NS;
}

/* ---- plan ------------------------------------------------------------- */

/* Stripes and tiles of a block that fit the cache and cost least: U is written once
 * for each block, and a line of V or W costs twice a line of U, as it is computed from
 * what may come from memory (measured: doc/tried.md). */
static int64_t cut(struct winograd_filter *s)
{
    const struct problem *v = &s->v;
    int64_t chosen = FEW_TILES;
    double least_cost = 1e30;

    for (int64_t tiles = FEW_TILES; tiles <= MANY_TILES; tiles += FEW_TILES / 2)
        for (int64_t i = 1; i <= s->chunks; i++)
            for (int64_t j = 1; j <= s->panels; j++) {
                int64_t c = divide_up(s->chunks, i) * CHUNK;
                int64_t k = divide_up(s->panels, j) * s->u->NR;
                double cost = 2.0 * (double)(v->c * j + v->k * i)
                            + (double)(v->c * v->k) / (double)tiles;
                if (s->f->points * (c * k + tiles * (c + k)) > CACHE || cost >= least_cost)
                    continue;
                least_cost = cost;
                chosen = tiles;
                s->c_stripes = i;
                s->k_stripes = j;
            }
    return chosen;
}

static int plan(const struct cpu *cpu, const struct problem *v, void *self,
                size_t *packed, size_t *scratch)
{
    struct winograd_filter *s = self;
    const struct ukernel *u = cpu->ukernel;
    (void)packed;

    s->v = *v;
    s->u = u;
    s->f = winograd_best(v, u->winograd);
    s->tiling = (struct tiling){
        .n = v->n, .h = v->h, .w = v->w, .c = v->c, .first_y = -v->top, .first_x = -v->left,
        .out_h = v->p, .out_w = v->q, .m = s->f->m,
    };
    s->chunks = v->c / CHUNK;            /* the last has what is left */
    s->panels = divide_up(v->k, u->NR);
    s->c_stripes = s->chunks;
    s->k_stripes = s->panels;
    tiling_plan(&s->tiling, cut(s), 1, 1);     /* sums are of blocks: the same for all threads */
    int64_t tiles = s->tiling.block_tiles, stripes = s->c_stripes * s->k_stripes;
    s->slots = most(1, least(TASKS / stripes, s->tiling.blocks / SLOT_BLOCKS));

    int64_t c = divide_up(s->chunks, s->c_stripes) * CHUNK + v->c % CHUNK;
    int64_t tall = divide_up(c, u->TALL) * u->TALL, rows = divide_up(c, u->MR) * u->MR;
    s->MR = tall < rows ? u->TALL : u->MR;      /* whichever wastes fewer rows */
    s->v_tile = odd_lines(c);
    s->v_point = odd_lines(tiles * s->v_tile);
    s->w_point = odd_lines(tiles * u->NR);
    s->w_panel = s->f->points * s->w_point;
    s->u_point = least(tall, rows) * u->NR;
    s->u_panel = s->f->points * s->u_point;
    s->slot = (int64_t)line_up((size_t)(s->panels * WINOGRAD_TAPS * v->c * u->NR));
    s->at = mem_new(cpu->ctx, (size_t)tiles, sizeof *s->at);
    if (!s->at)
        return EBM_ERR_NOMEM;
    for (int64_t i = 0; i < tiles; i++)
        s->at[i] = i * s->v_tile;

    /* the slots' sums | per thread: zeros, pixels of y in whole vectors, V, W, U; later, taps */
    int64_t panels = divide_up(s->panels, s->k_stripes);
    size_t works = line_up((size_t)most(v->c, v->k)) + line_up((size_t)(WINOGRAD_PIXELS * u->NR))
                 + line_up((size_t)(s->f->points * s->v_point))
                 + line_up((size_t)(panels * s->w_panel)) + line_up((size_t)(panels * s->u_panel));
    size_t taps = line_up((size_t)(WINOGRAD_TAPS * 2 * CHUNK * u->NR));
    s->own = works > taps ? works : taps;
    *scratch = ((size_t)(s->slots * s->slot) + (size_t)cpu->threads * s->own) * sizeof(float);
    return EBM_OK;
}

static void winograd_filter_free(ebm_context *ctx, void *self)
{
    struct winograd_filter *s = self;

    mem_free(ctx, s->at);
}

/* ---- run -------------------------------------------------------------- */

/* Channels [c, c_end) and panels [panel, panel_end), and where a thread has what. */
struct stripe {
    int64_t c, c_end, panel, panel_end;
    float *zeros, *whole, *v, *w, *u;
};

static struct stripe stripe_of(const struct winograd_filter *s, int64_t i, float *own)
{
    int64_t ci = i % s->c_stripes, ki = i / s->c_stripes;
    struct stripe to;

    to.c = s->chunks * ci / s->c_stripes * CHUNK;
    to.c_end = ci + 1 == s->c_stripes ? s->v.c : s->chunks * (ci + 1) / s->c_stripes * CHUNK;
    to.panel = s->panels * ki / s->k_stripes;
    to.panel_end = s->panels * (ki + 1) / s->k_stripes;
    to.zeros = own;
    to.whole = to.zeros + line_up((size_t)most(s->v.c, s->v.k));
    to.v = to.whole + line_up((size_t)(WINOGRAD_PIXELS * s->u->NR));
    to.w = to.v + line_up((size_t)(s->f->points * s->v_point));
    to.u = to.w + line_up((size_t)(divide_up(s->panels, s->k_stripes) * s->w_panel));
    return to;
}

/* One tile of x as V. */
static void data_tile(const struct winograd_filter *s, const struct stripe *stripe,
                      const struct tile_block *b, int64_t tile, const float *x)
{
    const struct grid from = { s->v.w * s->v.c, s->v.c }, to = points_at(s->f, s->v_point);
    int64_t n = stripe->c_end - stripe->c;
    const float *pixel[WINOGRAD_POINTS];
    float *v = stripe->v + tile * s->v_tile;
    const float *inside = tiling_data(&s->tiling, b, tile, x + stripe->c, stripe->zeros, pixel);

    if (inside)
        s->f->data(inside, from, v, to, n);
    else
        s->f->data_edge(pixel, v, to, n);
}

/* One tile of y as W. */
static void spread_tile(const struct winograd_filter *s, const struct stripe *stripe,
                        const struct tile_block *b, int64_t tile, const float *y)
{
    struct tile_output o = tiling_output(&s->tiling, b, tile, s->v.k);
    const struct grid in_y = { s->v.q * s->v.k, s->v.k }, to = points_at(s->f, s->w_point);
    bool inside = o.rows == s->f->m && o.columns == s->f->m;
    float *w = stripe->w;

    for (int64_t panel = stripe->panel; panel < stripe->panel_end; panel++, w += s->w_panel) {
        int64_t width = panel_width(s, panel), first = panel * s->u->NR;
        int64_t columns = least(width, s->v.k - first);
        const struct grid whole = { s->f->m * width, width };
        const float *from = y + o.at + first;
        if (inside && columns == width) {
            s->f->spread(from, in_y, w + tile * width, to, width);
            continue;
        }
        memset(stripe->whole, 0, (size_t)(s->f->m * whole.row) * sizeof *stripe->whole);
        for (int64_t i = 0; i < o.rows; i++)
            for (int64_t j = 0; j < o.columns; j++)
                memcpy(stripe->whole + i * whole.row + j * whole.column,
                       from + i * in_y.row + j * in_y.column, (size_t)columns * sizeof *from);
        s->f->spread(stripe->whole, whole, w + tile * width, to, width);
    }
}

/* The first channel of a tile of rows of n; the last is moved back to fit. */
static int64_t row_tile(const struct winograd_filter *s, int64_t i, int64_t n)
{
    return least(i * s->MR, n - s->MR);
}

/* All tiles of a block at one point. */
static void multiply(const struct winograd_filter *s, const struct stripe *stripe, int64_t tiles,
                     int64_t point, bool add)
{
    const struct ukernel *u = s->u;
    int64_t n = stripe->c_end - stripe->c, row_tiles = divide_up(n, s->MR);

    for (int64_t panel = stripe->panel; panel < stripe->panel_end; panel++) {
        int width = panel_width(s, panel);
        gemm_cols *kernel = s->MR == u->MR ? width == u->NR ? u->cols : u->cols_narrow
                                           : width == u->NR ? u->cols_tall : u->cols_tall_narrow;
        const float *w = stripe->w + (panel - stripe->panel) * s->w_panel + point * s->w_point;
        float *to = stripe->u + (panel - stripe->panel) * s->u_panel + point * s->u_point;
        for (int64_t i = 0; i < row_tiles; i++, to += s->MR * width)
            kernel(tiles, s->at, stripe->v + point * s->v_point + row_tile(s, i, n), w, width, to,
                   add);
    }
}

/* The sums of a stripe as taps: sums[panel][tap][c][width]. */
static void gather(const struct winograd_filter *s, const struct stripe *stripe, float *sums)
{
    int64_t n = stripe->c_end - stripe->c;

    for (int64_t panel = stripe->panel; panel < stripe->panel_end; panel++) {
        int64_t width = panel_width(s, panel), tap = s->v.c * width;
        const struct grid from = points_at(s->f, s->u_point), to = { 3 * tap, tap };
        const float *u = stripe->u + (panel - stripe->panel) * s->u_panel;
        float *panel_sums = sums + panel * WINOGRAD_TAPS * s->v.c * s->u->NR;
        for (int64_t c = 0; c < n; c++) {
            int64_t tile = c / s->MR, row = tile * s->MR + c - row_tile(s, tile, n);
            s->f->gather(u + row * width, from, panel_sums + (stripe->c + c) * width, to, width);
        }
    }
}

static void run_task(const struct winograd_filter *s, int64_t slot, int64_t i, const float *x,
                     const float *y, float *sums, float *own)
{
    struct stripe stripe = stripe_of(s, i, own);
    int64_t blocks = s->tiling.blocks, first = blocks * slot / s->slots;

    memset(stripe.zeros, 0, (size_t)most(s->v.c, s->v.k) * sizeof *own);
    for (int64_t block = first; block < blocks * (slot + 1) / s->slots; block++) {
        struct tile_block b = tiling_block(&s->tiling, block);
        for (int64_t tile = 0; tile < b.tiles; tile++) {
            data_tile(s, &stripe, &b, tile, x);
            spread_tile(s, &stripe, &b, tile, y);
        }
        for (int64_t point = 0; point < s->f->points; point++)
            multiply(s, &stripe, b.tiles, point, block > first);
    }
    gather(s, &stripe, sums);
}

/* The slots' sums of one panel and CHUNK channels, into the filter. */
static void collect(const struct winograd_filter *s, int64_t piece, const float *sums, float *taps,
                    float *f)
{
    int64_t panel = piece / s->chunks, first = piece % s->chunks * CHUNK;
    int64_t n = piece % s->chunks + 1 == s->chunks ? s->v.c - first : CHUNK;
    int64_t width = panel_width(s, panel), column = panel * s->u->NR;
    int64_t columns = least(width, s->v.k - column);

    sums += panel * WINOGRAD_TAPS * s->v.c * s->u->NR;
    for (int64_t t = 0; t < WINOGRAD_TAPS; t++)
        s->u->total((int)s->slots, sums + (t * s->v.c + first) * width, s->slot, n * width,
                    taps + t * n * width);
    for (int64_t j = 0; j < columns; j++)
        for (int64_t t = 0; t < WINOGRAD_TAPS; t++)
            for (int64_t c = 0; c < n; c++)
                f[((column + j) * WINOGRAD_TAPS + t) * s->v.c + first + c]
                    = taps[(t * n + c) * width + j];
}

static void run(const struct cpu *cpu, const void *self, const float *x, const float *y,
                float *out, float *packed, float *scratch, const struct epilogue *epilogue)
{
    const struct winograd_filter *s = self;
    (void)packed;
    float *owned = scratch + s->slots * s->slot;
    int64_t stripes = s->c_stripes * s->k_stripes, pieces = s->panels * s->chunks;
    int64_t count = s->v.k * WINOGRAD_TAPS * s->v.c;
    int64_t work = s->tiling.block_tiles * s->tiling.blocks * s->v.c * s->v.k;
    int threads = work > SMALL ? cpu->threads : 1;
    (void)threads;               /* without OpenMP nobody reads it */

    #pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int thread = thread_index();
        float *own = owned + (size_t)thread * s->own;

        #pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < s->slots * stripes; i++)
            run_task(s, i / stripes, i % stripes, x, y, scratch + i / stripes * s->slot, own);
        #pragma omp for schedule(static)
        for (int64_t piece = 0; piece < pieces; piece++)
            collect(s, piece, scratch, own, out);
        /* Only now is anything complete. */
        #pragma omp for schedule(dynamic)
        for (int64_t begin = 0; begin < (epilogue ? count : 0); begin += RANGE)
            epilogue->run(epilogue->self, begin, least(begin + RANGE, count), thread);
    }
}

static bool applies(const struct problem *v)
{
    return v->op == OP_CONV_FILTER && winograd_fits(v);
}

const struct algorithm conv_winograd_filter = {
    "winograd filter", applies, plan, run, winograd_filter_free, sizeof(struct winograd_filter),
};
