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
 * The tiles go by in blocks: all threads transform one, then multiply it, each
 * its own points and panels.  A block's sums start at zero and are added to those
 * before, and so have the same bits whoever adds them.  Larger filters have larger
 * blocks, since V and W of a block are written and read once, as U is. */
#include <string.h>
#include "winograd.h"

enum {
    FEW_TILES = 48, MANY_TILES = 192,    /* of a block: the terms of a float sum */
    CHUNK = 16,                  /* channels collected at a time: a cache line */
    SMALL = 1 << 20,             /* multiplications that are not worth a second thread */
    RANGE = 16384                /* elements for the epilogue at a time */
};

struct winograd_filter {
    struct problem v;
    const struct ukernel *u;
    const struct winograd *f;
    struct tiling tiling;
    int64_t panels, row_tiles;
    int64_t v_tile, v_point;     /* floats from one to the next */
    int64_t w_point, w_panel;
    int64_t u_point, u_panel;
    int64_t *at;                 /* of a block's tiles: their rows of V */
    size_t own;                  /* scratch per thread */
};

static int panel_width(const struct winograd_filter *s, int64_t panel)
{
    return s->v.k - panel * s->u->NR > s->u->NS ? s->u->NR : s->u->NS;
}

/* The first channel of a tile of rows; the last is moved back to fit. */
static int64_t row_tile(const struct winograd_filter *s, int64_t i)
{
    return least(i * s->u->MR, s->v.c - s->u->MR);
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
    int64_t tiles = v->c * v->k / (v->c + v->k);
    tiling_plan(&s->tiling, most(FEW_TILES, least(tiles, MANY_TILES)), 1);
    tiles = s->tiling.block_tiles;

    s->panels = divide_up(v->k, u->NR);
    s->row_tiles = divide_up(v->c, u->MR);
    s->v_tile = odd_lines(v->c);
    s->v_point = odd_lines(tiles * s->v_tile);
    s->w_point = odd_lines(tiles * u->NR);
    s->w_panel = s->f->points * s->w_point;
    s->u_point = s->row_tiles * u->MR * u->NR;
    s->u_panel = s->f->points * s->u_point;
    s->at = mem_new(cpu->ctx, (size_t)tiles, sizeof *s->at);
    if (!s->at)
        return EBM_ERR_NOMEM;
    for (int64_t i = 0; i < tiles; i++)
        s->at[i] = i * s->v_tile;

    /* U | V | W | per thread: zeros, pixels of y in whole vectors; later, sums and taps */
    size_t pixels = line_up((size_t)most(v->c, v->k)) + line_up((size_t)(WINOGRAD_PIXELS * u->NR));
    size_t taps = line_up((size_t)(WINOGRAD_TAPS * CHUNK * u->NR));
    s->own = pixels > taps ? pixels : taps;
    *scratch = (line_up((size_t)(s->panels * s->u_panel))
                + line_up((size_t)(s->f->points * s->v_point))
                + line_up((size_t)(s->panels * s->w_panel))
                + (size_t)cpu->threads * s->own) * sizeof(float);
    return EBM_OK;
}

static void winograd_filter_free(ebm_context *ctx, void *self)
{
    struct winograd_filter *s = self;

    mem_free(ctx, s->at);
}

/* ---- run -------------------------------------------------------------- */

/* One tile of y as W. */
static void spread_tile(const struct winograd_filter *s, const struct tile_block *b, int64_t tile,
                        const float *y, const float *zeros, float *whole, float *w)
{
    int pixels = s->f->m * s->f->m;
    int64_t at[WINOGRAD_PIXELS];
    const float *from[WINOGRAD_PIXELS];
    float *to[WINOGRAD_POINTS];

    tiling_output(&s->tiling, b, tile, s->v.k, at);
    for (int64_t panel = 0; panel < s->panels; panel++) {
        int64_t width = panel_width(s, panel), first = panel * s->u->NR;
        int64_t columns = least(width, s->v.k - first);
        for (int i = 0; i < pixels; i++)
            from[i] = at[i] < 0 ? zeros : y + at[i] + first;
        if (columns < width) {
            memset(whole, 0, (size_t)(pixels * width) * sizeof *whole);
            for (int i = 0; i < pixels; i++) {
                memcpy(whole + i * width, from[i], (size_t)columns * sizeof *whole);
                from[i] = whole + i * width;
            }
        }
        for (int64_t point = 0; point < s->f->points; point++)
            to[point] = w + panel * s->w_panel + point * s->w_point + tile * width;
        s->f->spread(from, to, width);
    }
}

/* One tile of x and y as V and W. */
static void transform(const struct winograd_filter *s, const struct tile_block *b, int64_t tile,
                      const float *x, const float *y, float *v, float *w, float *own)
{
    float *zeros = own, *whole = zeros + line_up((size_t)most(s->v.c, s->v.k));
    const float *from[WINOGRAD_POINTS];
    float *to[WINOGRAD_POINTS];

    tiling_data(&s->tiling, b, tile, x, zeros, from);
    for (int64_t point = 0; point < s->f->points; point++)
        to[point] = v + point * s->v_point + tile * s->v_tile;
    s->f->data(from, to, s->v.c);
    spread_tile(s, b, tile, y, zeros, whole, w);
}

/* All tiles of a block at one point, one panel of columns. */
static void multiply(const struct winograd_filter *s, int64_t tiles, int64_t point, int64_t panel,
                     const float *v, const float *w, float *u)
{
    int width = panel_width(s, panel);
    gemm_cols *kernel = width == s->u->NR ? s->u->cols : s->u->cols_narrow;

    v += point * s->v_point;
    w += panel * s->w_panel + point * s->w_point;
    u += panel * s->u_panel + point * s->u_point;
    for (int64_t i = 0; i < s->row_tiles; i++, u += s->u->MR * width)
        kernel(tiles, s->at, v + row_tile(s, i), w, width, u);
}

/* The sums of one panel and CHUNK channels, into the filter. */
static void collect(const struct winograd_filter *s, int64_t piece, const float *u, float *own,
                    float *f)
{
    int64_t chunks = divide_up(s->v.c, CHUNK), panel = piece / chunks;
    int64_t first = piece % chunks * CHUNK, n = least(CHUNK, s->v.c - first);
    int64_t width = panel_width(s, panel), column = panel * s->u->NR;
    int64_t columns = least(width, s->v.k - column);
    float *taps = own;
    const float *from[WINOGRAD_POINTS];
    float *to[WINOGRAD_TAPS];

    for (int64_t c = first; c < first + n; c++) {
        int64_t tile = c / s->u->MR, row = tile * s->u->MR + c - row_tile(s, tile);
        for (int64_t point = 0; point < s->f->points; point++)
            from[point] = u + panel * s->u_panel + point * s->u_point + row * width;
        for (int t = 0; t < WINOGRAD_TAPS; t++)
            to[t] = taps + (t * CHUNK + c - first) * width;
        s->f->gather(from, to, width);
    }
    for (int64_t j = 0; j < columns; j++)
        for (int64_t t = 0; t < WINOGRAD_TAPS; t++)
            for (int64_t c = 0; c < n; c++)
                f[((column + j) * WINOGRAD_TAPS + t) * s->v.c + first + c]
                    = taps[(t * CHUNK + c) * width + j];
}

static void run(const struct cpu *cpu, const void *self, const float *x, const float *y,
                float *out, float *packed, float *scratch, const struct epilogue *epilogue)
{
    const struct winograd_filter *s = self;
    (void)packed;
    float *u = scratch, *v = u + line_up((size_t)(s->panels * s->u_panel));
    float *w = v + line_up((size_t)(s->f->points * s->v_point));
    float *owned = w + line_up((size_t)(s->panels * s->w_panel));
    int64_t products = s->panels * s->f->points, blocks = s->tiling.blocks;
    int64_t pieces = s->panels * divide_up(s->v.c, CHUNK);
    int64_t count = s->v.k * WINOGRAD_TAPS * s->v.c;
    int threads = s->tiling.block_tiles * blocks * s->v.c * s->v.k > SMALL ? cpu->threads : 1;
    (void)threads;               /* without OpenMP nobody reads it */

    #pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int thread = thread_index();
        float *own = owned + (size_t)thread * s->own;

        memset(own, 0, (size_t)most(s->v.c, s->v.k) * sizeof *own);
        #pragma omp for schedule(static) nowait
        for (int64_t i = 0; i < products; i++)
            memset(u + i * s->u_point, 0, (size_t)s->u_point * sizeof *u);
        for (int64_t block = 0; block < blocks; block++) {
            struct tile_block b = tiling_block(&s->tiling, block);
            #pragma omp for schedule(static)
            for (int64_t tile = 0; tile < b.tiles; tile++)
                transform(s, &b, tile, x, y, v, w, own);
            #pragma omp for schedule(static)
            for (int64_t i = 0; i < products; i++)
                multiply(s, b.tiles, i / s->panels, i % s->panels, v, w, u);
        }
        #pragma omp for schedule(static)
        for (int64_t piece = 0; piece < pieces; piece++)
            collect(s, piece, u, own, out);
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
