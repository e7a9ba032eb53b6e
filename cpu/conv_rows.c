/* conv_rows.c - CONV, CONV_DATA and MATMUL: every row of A is a window.
 *
 * SPDX-License-Identifier: ISC
 *
 * The result's pixels are the rows, its channels the columns.  A row of A is
 * the window that the pixel sees, as runs of consecutive floats; the runs are
 * the same for all pixels of a phase, so a row is known by its first element.
 *
 * A task computes one band of the result with all columns and then lets the
 * epilogue run over it; or, where bands are few, a stripe of columns, and the
 * epilogue runs when all are done.  Invariant: what a task computes, and in which order,
 * depends on the plan alone. */
#include <string.h>
#include "kernels.h"
#include "rows.h"

enum {
    FEW_FLOATS = 4096,       /* of packed filters, that leave a first cache room for A */
    SQUARE = 16,             /* of transposing: a cache line */
    RANGE = 16384,           /* elements for the epilogue at a time, behind stripes */
    SMALL = 1 << 18          /* multiplications that are not worth a second thread */
};

/* What a tile needs besides A and B. */
struct tile {
    const struct ukernel *u;
    float *spare;            /* MR x NR floats */
    int rows;                /* of MR; the others go to waste */
    int64_t columns;
    int width;               /* NR or NS */
    bool past;               /* whole tiles are stored past the caches */
};

/* A part of a row of a tile, in pieces of fixed length; the last is moved back. */
static inline void copy_part(float *to, const float *from, int64_t n)
{
    enum { PIECE = 4 };
    int64_t last = n - PIECE;

    for (int64_t j = 0; j < last; j += PIECE)
        memcpy(to + j, from + j, PIECE * sizeof *to);
    if (last >= 0)
        memcpy(to + last, from + last, PIECE * sizeof *to);
    for (int64_t j = 0; j < n && last < 0; j++)
        to[j] = from[j];
}

static void multiply(const struct tile *t, int runs, const struct run *run,
                     const float *const *a, const float *b, float *const *c, bool add)
{
    gemm_rows *kernel = t->width != t->u->NR ? t->u->rows_narrow
                      : t->past && t->rows == t->u->MR ? t->u->rows_past : t->u->rows;
    float *to[GEMM_MAX_MR];

    if (t->columns == t->width) {
        kernel(runs, run, a, b, c, add);
        return;
    }
    for (int i = 0; i < t->u->MR; i++) {
        to[i] = t->spare + i * t->width;
        if (add && i < t->rows)
            copy_part(to[i], c[i], t->columns);
    }
    (t->width == t->u->NR ? t->u->rows : t->u->rows_narrow)(runs, run, a, b, to, add);
    for (int i = 0; i < t->rows; i++)
        copy_part(c[i], to[i], t->columns);
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

/* Rows of one phase and one group by tiles, panels [begin, end).  A panel of B stays in the cache
 * while all rows pass by; where all panels do, they take turns at each row. */
static void by_tiles(const struct rows *s, const struct phase *ph, int64_t rows,
                     const float *from, const float *packed, float *to, int64_t begin, int64_t end,
                     bool past, float *spare)
{
    const float *a[GEMM_MAX_MR];
    float *c[GEMM_MAX_MR];
    struct tile tile = { .u = s->u, .spare = spare, .past = past && ph->blocks == 1 };
    int64_t before = 0, n = end - begin;

    for (int block = 0; block < ph->blocks; block++) {
        const struct run *run = ph->run + ph->block[block];
        int runs = ph->block[block + 1] - ph->block[block];
        int64_t depth = 0;

        for (int t = 0; t < runs; t++)
            depth += run[t].len;
        int64_t at_once = depth * n * s->u->NR <= FEW_FLOATS ? n : 1;
        for (int64_t j = begin; j < end; j += at_once) {
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
                      const float *from, const float *packed, float *to, int64_t begin, int64_t end,
                      bool past, float *spare)
{
    const struct ukernel *u = s->u;
    const float *a[GEMM_MAX_MR];
    float *c[GEMM_MAX_MR];
    float *a_panels = spare + line_up(GEMM_MAX_MR * GEMM_MAX_NR);
    struct tile tile = { .u = u, .spare = spare };
    int64_t before = 0;
    (void)past;                  /* BLIS stores as it likes */

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
        for (int64_t j = begin; j < end; j++) {
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
                    const float *from, const float *packed, float *to, int64_t begin, int64_t end,
                    bool past, float *spare)
{
    gemm_taps *taps = past ? s->u->taps_past : s->u->taps;
    const float *a[GEMM_MAX_MR];
    float *c[GEMM_MAX_MR];
    (void)begin;                 /* all of one panel */
    (void)end;

    for (int64_t row = 0; row < rows; row += s->u->MR) {
        int n = row_pointers(s, ph, row, rows, from, to, spare, a, c);
        for (int i = n; i < s->u->MR; i++)
            c[i] = c[0];          /* the same again: rows may be longer than spare */
        if (s->kernel == DOT)
            s->u->dot(ph->runs, ph->run, a, packed, ph->depth, (int)s->columns, s->column, c);
        else
            taps(ph->runs, ph->run, a, packed, s->columns, c);
    }
}

static void run_band(const struct rows *s, int64_t band, int64_t stripe, const float *x,
                     const float *packed, float *out, float *own, int64_t offset, bool past,
                     const struct epilogue *epilogue, int thread)
{
    struct part part = band_part(&s->band, band);
    float *spare = own + line_up(band_size(&s->band));
    const float *from = band_load(&s->band, &part, x, own);
    int64_t line = s->out_w * s->out_c;
    int64_t begin = (part.image * s->out_h + part.unit * s->phases_y) * line;
    int64_t panel = panels(s) * stripe / s->stripes, panel_end = panels(s) * (stripe + 1) / s->stripes;

    for (int i = 0; i < s->phases; i++) {
        const struct phase *ph = &s->phase[i];
        int64_t ny = pixels_of(s->out_h, s->phases_y, ph->y, part.unit, part.units);
        int64_t rows = part.images * ny * ph->nx;
        for (int64_t g = 0; g < s->groups; g++)
            (s->kernel != TILES ? by_rows : s->packs ? by_panels : by_tiles)
                (s, ph, rows, from + g * s->a_group,
                 packed + ph->packed + g * packed_size(s, ph->depth),
                 out + begin + g * s->columns, panel, panel_end, past, spare);
    }
    if (epilogue && s->stripes == 1) {
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
    int64_t out_batch = v->rows * v->columns, tasks = s->band.bands * s->stripes;
    int64_t striped = epilogue && s->stripes > 1 ? v->batch * s->band.n * s->out_h * s->out_w * s->out_c : 0;
    int threads = s->work > SMALL ? cpu->threads : 1;
    bool past = passes_caches(v->batch * s->band.n * s->out_h * s->out_w, s->out_c, out, epilogue);
    (void)threads;               /* without OpenMP nobody reads it */

    #pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int thread = thread_index();
        float *own = owned + (size_t)thread * s->own;

        for (int i = 0; f && i < s->phases; i++) {
            const struct phase *ph = &s->phase[i];
            int64_t pieces = rows_pieces(s, ph);
            #pragma omp for schedule(static) nowait
            for (int64_t piece = 0; piece < v->batch * pieces; piece++)
                rows_pack(s, ph, piece % pieces, f + piece / pieces * f_batch,
                     packed + piece / pieces * s->packed);
        }
        #pragma omp for schedule(static) nowait
        for (int64_t i = 0; i < v->batch * stripes; i++)
            transpose(x + i / stripes * x_batch, turned + i / stripes * x_batch,
                      v->rows, v->depth, i % stripes);
        if (f || stripes) {
            #pragma omp barrier
        }
        #pragma omp for schedule(dynamic) nowait
        for (int64_t i = 0; i < v->batch * tasks; i++) {
            int64_t batch = i / tasks;
            run_band(s, i % tasks / s->stripes, i % s->stripes, (stripes ? turned : x) + batch * x_batch,
                     packed + batch * s->packed, out + batch * out_batch, own,
                     batch * out_batch, past, epilogue, thread);
        }
        if (past)
            cpu->kernels->stream_end();
        if (striped) {
            #pragma omp barrier
        }
        #pragma omp for schedule(static)
        for (int64_t begin = 0; begin < striped; begin += RANGE)
            epilogue->run(epilogue->self, begin, least(begin + RANGE, striped), thread);
    }
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

static bool applies(const struct problem *v)
{
    return v->op == OP_CONV || v->op == OP_CONV_DATA || v->op == OP_MATMUL;
}

const struct algorithm conv_rows = {
    "rows", applies, rows_plan, run, rows_free, sizeof(struct rows),
};
