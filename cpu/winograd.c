/* winograd.c - CONV and CONV_DATA with 3x3 filters by Winograd's algorithm.
 *
 * SPDX-License-Identifier: ISC
 *
 *     x --B'dB--> V[point][tile][c]  \
 *                                     > M[point][tile][k] --A'mA--> y
 *     f --GgG'--> U[panel][point][c][NR]  /
 *
 * CONV_DATA is the convolution of y with filters turned by half a turn.  The
 * tiles go by in blocks, of which V and M stay in the cache; for each
 * point, the micro-kernel multiplies rows of V, as they lie, by packed panels
 * of U.  The columns k go by in blocks too, so that M is small.
 *
 * A task is one block with all columns; then the epilogue runs over what it
 * completed.  Invariant: what a task computes, and in which order, depends on
 * the plan alone. */
#include <math.h>
#include <string.h>
#include "kernels.h"
#include "winograd.h"

enum {
    FEW_TILES = 48, MANY_TILES = 192,    /* of a block */
    MANY_BLOCKS = 4,             /* for some threads to share evenly, */
    SMALL_FILTER = 1 << 18,      /* if reading U so often is cheap: floats; */
    LEAST_TILES = 24,            /* else not for blocks as small as that, */
    LARGE_FILTER = 1 << 22,      /* and none but one a thread, if U is larger than caches */
    BLOCK_COLUMNS = 256,         /* of M */
    BLOCK_DEPTH = 1024,          /* terms of one float sum */
    CHUNK = 16,                  /* rows of U that are made at a time */
    SMALL = 1 << 18              /* multiplications that are not worth a second thread */
};

struct winograd_rows {
    struct problem v;
    const struct ukernel *u;
    const struct winograd *f;
    struct tiling tiling;
    int64_t depth, columns;      /* channels of the input and of the result */
    int64_t panels, column_blocks;
    int64_t u_point, u_panel;    /* floats from one to the next */
    bool u_past;                 /* U is larger than caches */
    int64_t v_tile, v_point;
    int64_t m_tile, m_point;
    size_t own;                  /* scratch per thread */
};

static int panel_width(const struct winograd_rows *s, int64_t panel)
{
    return s->columns - panel * s->u->NR > s->u->NS ? s->u->NR : s->u->NS;
}

/* ---- when it applies --------------------------------------------------- */

/* Work is counted in multiplications of the micro-kernel; an element of a
 * transform weighs what bench/contract found, as it waits for memory as well.
 * The last tiles are multiplied in whole groups. */
enum { GROUP = 12 };
static const struct { double data, result, filter; } transform_work[WINOGRAD_SIZES] = {
    { 250, 250,  500 },
    { 600, 800, 1200 },
};
/* Gains below a tenth are not worth any error. */
static const double WORTHWHILE = 0.9;

const struct winograd *winograd_best(const struct problem *v, const struct winograd *sizes)
{
    bool data = v->op == OP_CONV_DATA;
    int64_t out_h = data ? v->h : v->p, out_w = data ? v->w : v->q;
    double c = (double)v->c, k = (double)v->k;
    double least_work = WORTHWHILE * (double)(v->n * out_h * out_w) * 9 * c * k;
    const struct winograd *best = NULL;

    for (int i = 0; i < WINOGRAD_SIZES; i++) {
        const struct winograd *f = &sizes[i];
        double tiles = (double)(v->n * divide_up(out_h, f->m) * divide_up(out_w, f->m));
        double work = ceil(tiles / GROUP) * GROUP * f->points * c * k
                    + tiles * transform_work[i].data * (data ? k : c)
                    + tiles * transform_work[i].result * (data ? c : k)
                    + transform_work[i].filter * c * k;
        if (work < least_work) {
            least_work = work;
            best = f;
        }
    }
    return best;
}

bool winograd_fits(const struct problem *v)
{
    return v->r == 3 && v->s == 3            /* as the transforms are */
        && v->stride_y == 1 && v->stride_x == 1
        && v->dilation_y == 1 && v->dilation_x == 1
        && v->groups == 1
        && v->c >= WINOGRAD_MIN_CHANNELS     /* vectors are of channels */
        && v->k >= WINOGRAD_MIN_CHANNELS
        && !v->exact                         /* errors: doc/accuracy.md */
        && winograd_best(v, winograd_base);
}

static bool applies(const struct problem *v)
{
    return (v->op == OP_CONV || v->op == OP_CONV_DATA) && winograd_fits(v);
}

/* ---- plan ------------------------------------------------------------- */

/* So many tiles are multiplied where there are `tiles`: whole groups. */
static int64_t multiplied(const struct winograd_rows *s, int64_t tiles)
{
    return divide_up(tiles, s->u->MR) * s->u->MR;
}

/* Larger filters have larger blocks, since each block reads all of U.  Where blocks are
 * few, there are as many for each thread, if that does not make them much larger.  What
 * a tile is computed from, and in which order, does not depend on its block, which
 * therefore may depend on the number of threads. */
static int64_t tiles_of_block(const struct winograd_rows *s, int threads)
{
    const struct problem *v = &s->v;
    int64_t MR = s->u->MR, u = s->f->points * s->depth * s->columns;
    int64_t tiles = most(FEW_TILES, least(v->c * v->k / (v->c + v->k), MANY_TILES));
    int64_t all = v->n * divide_up(s->tiling.out_h, s->f->m)
                * divide_up(s->tiling.out_w, s->f->m);

    if (u > LARGE_FILTER) {
        int64_t blocks = divide_up(divide_up(all, tiles), threads) * threads;
        return most(divide_up(divide_up(all, blocks), MR) * MR, LEAST_TILES);
    }
    tiles = most(least(tiles, divide_up(all, MANY_BLOCKS)), u > SMALL_FILTER ? LEAST_TILES : MR);
    int64_t even = divide_up(all, most(1, divide_up(all, tiles) / threads) * threads);
    return even > tiles && even <= tiles * 3 / 2 ? even : tiles;
}

static int plan(const struct cpu *cpu, const struct problem *v, void *self,
                size_t *packed, size_t *scratch)
{
    struct winograd_rows *s = self;
    bool data = v->op == OP_CONV_DATA;

    s->v = *v;
    s->u = cpu->ukernel;
    s->f = winograd_best(v, s->u->winograd);
    s->depth = data ? v->k : v->c;
    s->columns = data ? v->c : v->k;
    s->tiling = (struct tiling){
        .n = v->n, .h = data ? v->p : v->h, .w = data ? v->q : v->w, .c = s->depth,
        .out_h = data ? v->h : v->p, .out_w = data ? v->w : v->q, .m = s->f->m,
        .first_y = data ? v->top - 2 : -v->top, .first_x = data ? v->left - 2 : -v->left,
    };
    s->v_tile = odd_lines(s->depth);
    s->u_past = s->f->points * s->depth * s->columns > LARGE_FILTER;
    tiling_plan(&s->tiling, tiles_of_block(s, cpu->threads), s->u->MR, cpu->threads);

    int64_t tiles = multiplied(s, s->tiling.block_tiles);

    /* At least a vector of columns in each block. */
    s->panels = divide_up(s->columns, s->u->NR);
    s->column_blocks = most(1, s->panels * s->u->NR / BLOCK_COLUMNS);
    int64_t block_panels = divide_up(s->panels, s->column_blocks);
    s->u_point = s->depth * s->u->NR + 16;
    s->u_panel = s->f->points * s->u_point;
    s->v_point = odd_lines(tiles * s->v_tile);
    s->m_tile = odd_lines(least(block_panels * s->u->NR, divide_up(s->columns, s->u->NS) * s->u->NS));
    s->m_point = odd_lines(tiles * s->m_tile);

    /* U, packed; per thread: zeros, a tile of the result, V or taps, M */
    s->own = line_up((size_t)s->depth) + line_up((size_t)(WINOGRAD_PIXELS * s->columns))
           + line_up((size_t)most(s->f->points * s->v_point, WINOGRAD_TAPS * CHUNK * s->u->NR))
           + line_up((size_t)(s->f->points * s->m_point));
    *packed = line_up((size_t)(s->panels * s->u_panel)) * sizeof(float);
    *scratch = (size_t)cpu->threads * s->own * sizeof(float);
    return EBM_OK;
}

static void winograd_free(ebm_context *ctx, void *self)
{
    (void)ctx;
    (void)self;
}

/* ---- run -------------------------------------------------------------- */

/* Rows [first, first + n) of one panel of U. */
static void load_taps(const struct winograd_rows *s, const float *f, int64_t panel,
                      int64_t first, int64_t n, float *taps)
{
    int64_t width = panel_width(s, panel), column = panel * s->u->NR, c = s->v.c;
    int64_t columns = least(width, s->columns - column);

    if (columns < width)
        memset(taps, 0, (size_t)(n * WINOGRAD_TAPS * width) * sizeof *taps);
    if (s->v.op == OP_CONV_DATA) {
        for (int64_t d = 0; d < n; d++)
            for (int64_t t = WINOGRAD_TAPS - 1; t >= 0; t--, taps += width)
                memcpy(taps, f + ((first + d) * WINOGRAD_TAPS + t) * c + column,
                       (size_t)columns * sizeof *taps);
        return;
    }
    for (int64_t j = 0; j < columns; j++)
        for (int64_t t = 0; t < WINOGRAD_TAPS; t++)
            for (int64_t d = 0; d < n; d++)
                taps[(d * WINOGRAD_TAPS + t) * width + j] = f[((column + j) * WINOGRAD_TAPS + t) * c + first + d];
}

static void make_filter(const struct winograd_rows *s, int64_t piece, const float *f,
                        float *u, float *taps)
{
    int64_t chunks = divide_up(s->depth, CHUNK), panel = piece / chunks;
    int64_t first = piece % chunks * CHUNK, n = least(CHUNK, s->depth - first);
    int64_t width = panel_width(s, panel);
    const struct grid from = { 3 * width, width }, to = points_at(s->f, s->u_point);

    load_taps(s, f, panel, first, n, taps);
    for (int64_t d = 0; d < n; d++)
        (s->u_past ? s->f->filter_past : s->f->filter)(taps + d * WINOGRAD_TAPS * width, from,
                     u + panel * s->u_panel + (first + d) * width, to, width);
}

/* All tiles of a block at one point, one panel of columns. */
static void multiply(const struct winograd_rows *s, int64_t tiles, const float *v,
                     const float *u, int width, float *m)
{
    gemm_even *kernel = width == s->u->NR ? s->u->even : s->u->even_narrow;

    for (int64_t d = 0; d < s->depth; d += BLOCK_DEPTH)
        kernel(multiplied(s, tiles), least(BLOCK_DEPTH, s->depth - d), v + d, s->v_tile,
               u + d * width, m, s->m_tile, d > 0);
}

/* What a tile of n columns transforms to; at the edge, `tile` holds it until what lies in
 * the image is copied. */
static void put_tile(const struct winograd_rows *s, const struct tile_output *o, const float *m,
                     float *out, int64_t n, bool past, float *tile)
{
    const struct grid from = points_at(s->f, s->m_point);
    const struct grid to = { s->tiling.out_w * s->columns, s->columns }, apart = { s->f->m * n, n };

    if (o->rows == s->f->m && o->columns == s->f->m) {
        (past ? s->f->result_past : s->f->result)(m, from, out, to, n);
        return;
    }
    s->f->result(m, from, tile, apart, n);
    for (int64_t y = 0; y < o->rows; y++)
        for (int64_t x = 0; x < o->columns; x++)
            memcpy(out + y * to.row + x * to.column, tile + y * apart.row + x * apart.column,
                   (size_t)n * sizeof *out);
}

/* One block of tiles and columns: the products, and what they transform to. */
static void run_columns(const struct winograd_rows *s, const struct tile_block *b,
                        int64_t begin, int64_t end, const float *v, const float *u,
                        float *m, float *out, bool past, float *spare)
{
    int64_t first = begin * s->u->NR, n = least(end * s->u->NR, s->columns) - first;

    for (int64_t point = 0; point < s->f->points; point++)
        for (int64_t panel = begin; panel < end; panel++)
            multiply(s, b->tiles, v + point * s->v_point,
                     u + panel * s->u_panel + point * s->u_point, panel_width(s, panel),
                     m + point * s->m_point + (panel - begin) * s->u->NR);
    for (int64_t tile = 0; tile < b->tiles; tile++) {
        struct tile_output o = tiling_output(&s->tiling, b, tile, s->columns);
        put_tile(s, &o, m + tile * s->m_tile, out + o.at + first, n, past, spare);
    }
}

/* A block of whole rows of tiles completes one range, a part of a row as many
 * as it has rows of pixels. */
static void run_epilogue(const struct winograd_rows *s, const struct tile_block *b,
                         const struct epilogue *epilogue, int thread)
{
    const struct tiling *v = &s->tiling;
    int64_t last = b->row + b->rows, line = v->out_w * s->columns;
    int64_t y = b->row / v->tiles_y * v->out_h + b->row % v->tiles_y * v->m;
    int64_t end = last / v->tiles_y * v->out_h + last % v->tiles_y * v->m;

    if (b->columns == v->tiles_x) {
        epilogue->run(epilogue->self, y * line, end * line, thread);
        return;
    }
    int64_t from = b->column * v->m, to = least((b->column + b->columns) * v->m, v->out_w);
    for (; y < end; y++)
        epilogue->run(epilogue->self, y * line + from * s->columns, y * line + to * s->columns,
                      thread);
}

static void run_block(const struct winograd_rows *s, int64_t block, const float *x,
                      const float *u, float *out, float *own, bool past,
                      const struct epilogue *epilogue, int thread)
{
    struct tile_block b = tiling_block(&s->tiling, block);
    float *zeros = own, *spare = zeros + line_up((size_t)s->depth);
    float *v = spare + line_up((size_t)(WINOGRAD_PIXELS * s->columns));
    float *m = v + line_up((size_t)(s->f->points * s->v_point));
    const struct grid from = { s->tiling.w * s->depth, s->depth }, to = points_at(s->f, s->v_point);
    const float *pixel[WINOGRAD_POINTS];

    memset(zeros, 0, (size_t)s->depth * sizeof *zeros);
    for (int64_t tile = 0; tile < b.tiles; tile++) {
        const float *inside = tiling_data(&s->tiling, &b, tile, x, zeros, pixel);
        if (inside)
            s->f->data(inside, from, v + tile * s->v_tile, to, s->depth);
        else
            s->f->data_edge(pixel, v + tile * s->v_tile, to, s->depth);
    }
    int64_t idle = multiplied(s, b.tiles) - b.tiles;     /* to be multiplied, by nobody read */
    for (int64_t point = 0; idle && point < s->f->points; point++)
        memset(v + point * s->v_point + b.tiles * s->v_tile, 0, (size_t)(idle * s->v_tile) * sizeof *v);
    for (int64_t i = 0; i < s->column_blocks; i++)
        run_columns(s, &b, s->panels * i / s->column_blocks,
                    s->panels * (i + 1) / s->column_blocks, v, u, m, out, past, spare);
    if (epilogue)
        run_epilogue(s, &b, epilogue, thread);
}

static void run(const struct cpu *cpu, const void *self, const float *x, const float *f,
                float *out, float *u, float *scratch, const struct epilogue *epilogue)
{
    const struct winograd_rows *s = self;
    int64_t pieces = !f ? 0 : s->panels * divide_up(s->depth, CHUNK);
    int64_t work = s->v.n * s->v.p * s->v.q * s->v.c * s->v.k;
    int threads = work > SMALL ? cpu->threads : 1;
    bool past = passes_caches(s->tiling.n * s->tiling.out_h * s->tiling.out_w, s->columns, out,
                              epilogue);
    (void)threads;               /* without OpenMP nobody reads it */

    #pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int thread = thread_index();
        float *own = scratch + (size_t)thread * s->own;

        #pragma omp for schedule(static) nowait
        for (int64_t piece = 0; piece < pieces; piece++)
            make_filter(s, piece, f, u, own);
        if (s->u_past)
            cpu->kernels->stream_end();
        #pragma omp barrier
        #pragma omp for schedule(dynamic) nowait
        for (int64_t block = 0; block < s->tiling.blocks; block++)
            run_block(s, block, x, u, out, own, past, epilogue, thread);
        if (past)
            cpu->kernels->stream_end();
    }
}

const struct algorithm conv_winograd = {
    "winograd", applies, plan, run, winograd_free, sizeof(struct winograd_rows),
};
