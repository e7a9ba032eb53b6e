/* conv_few.c - CONV and CONV_DATA to few channels: products first, then sums.
 *
 * SPDX-License-Identifier: ISC
 *
 * A convolution of many channels to one, two, three or four would fill a vector with
 * none of its own columns.  So every pixel of the source is multiplied by all taps at
 * once, and a pixel of the result is the sum of what its window's pixels became:
 *
 *     source [pixel][depth]  x  f [depth][tap,c]  =  M [pixel][tap,c]
 *
 *     y [pixel][c]  =  sum over taps of  M [pixel that the tap sees][tap][c]
 *
 * Each pixel is read once, where it lies; what a tap would see outside of the image is
 * left out, so nothing is padded.  CONV_DATA may have a stride: then its pixels fall
 * into phases (conv_taps.c), which share M.
 *
 * A task is a stripe of one image.  It goes down the source a chunk of rows at a time, so
 * that M stays in the first cache; behind each chunk, the last rows of M, which rows of the
 * result to come will see, move to its beginning:
 *
 *     M  | kept: span - 1 rows | chunk |
 *
 * Invariant: what a task computes, and in which order, depends on the plan alone. */
#include <string.h>
#include "conv.h"

enum {
    CHUNK_FLOATS = 6144,         /* of M, about: half of a first cache */
    BLOCK_DEPTH = 1024,          /* terms of one float sum */
    BLOCK_TILES = 4,             /* of rows that stay in the cache while the panels pass by */
    TASKS = 16,                  /* enough for any number of threads to share evenly */
    SPANS = 8,                   /* windows high is a stripe at least: neighbours overlap by one */
    FEW_TAPS = 64,               /* of a window, at most */
    LINE = 16,                   /* floats of a cache line, */
    VECTOR = 16,                 /* of a vector of the widest set, */
    GROUP = 12,                  /* and rows of its tiles */
    SMALL = 1 << 18              /* multiplications that are not worth a second thread */
};

/* Less is within the spread of what the weights were found from. */
static const double WORTHWHILE = 0.95;

struct few {
    struct problem v;
    const struct ukernel *u;
    int64_t h, w, depth;             /* the source */
    int64_t out_h, out_w, c;         /* the result */
    int64_t columns, ld;             /* taps x c; the same in whole panels: a pixel of M */
    int64_t phases_y, phases_x;      /* pixels of the result, as many on a pixel of the source */
    int64_t first_y, span_y;         /* rows that a row of the source's phases sees */
    struct tap *tap_y, *tap_x;       /* [phase][ntap]: r, s of each phase at most */
    int *taps_y, *taps_x;            /* of each phase */
    int64_t *at;                     /* [phase y][phase x][taps]: a tap's part of M, from the unit's pixel */
    int64_t stripes, stripe_units;   /* of an image; in rows of phases */
    int64_t chunk;                   /* rows of the source */
    size_t own;                      /* scratch per thread */
    int64_t work;
};

static int64_t panels(const struct few *s)
{
    return divide_up(s->columns, s->u->NR);
}

static int panel_width(const struct few *s, int64_t j)
{
    return s->columns - j * s->u->NR > s->u->NS ? s->u->NR : s->u->NS;
}

/* ---- plan ------------------------------------------------------------- */

/* Rows that leave little of the last tile empty. */
static int64_t chunk_rows(const struct few *s)
{
    int64_t least_rows = most(1, CHUNK_FLOATS / (s->w * s->ld)), best = least_rows;
    double least_waste = 1e30;

    for (int64_t rows = least_rows; rows < 2 * least_rows; rows++) {
        int64_t pixels = rows * s->w;
        double waste = (double)(divide_up(pixels, s->u->MR) * s->u->MR) / (double)pixels;
        if (waste < least_waste - 1e-9) {
            least_waste = waste;
            best = rows;
        }
    }
    return least(best, s->h);
}

static int axis_plan(ebm_context *ctx, const struct problem *v, bool y, int64_t phases,
                     struct tap **tap, int **taps)
{
    int64_t size = y ? v->r : v->s;

    *tap = mem_new(ctx, (size_t)phases * (size_t)size, sizeof **tap);
    *taps = mem_new(ctx, (size_t)phases, sizeof **taps);
    if (!*tap || !*taps)
        return EBM_ERR_NOMEM;
    for (int64_t i = 0; i < phases; i++)
        (*taps)[i] = axis_taps(v, y, i, *tap + i * size);
    return EBM_OK;
}

static int taps_plan(ebm_context *ctx, struct few *s)
{
    const struct problem *v = &s->v;
    int64_t phases = s->phases_y * s->phases_x;

    if (axis_plan(ctx, v, true, s->phases_y, &s->tap_y, &s->taps_y) < 0
        || axis_plan(ctx, v, false, s->phases_x, &s->tap_x, &s->taps_x) < 0
        || !(s->at = mem_new(ctx, (size_t)(phases * v->r * v->s), sizeof *s->at)))
        return EBM_ERR_NOMEM;
    for (int64_t phase = 0; phase < phases; phase++) {
        int64_t y = phase / s->phases_x, x = phase % s->phases_x;
        int64_t *at = s->at + phase * v->r * v->s;
        for (int i = 0; i < s->taps_y[y]; i++)
            for (int j = 0; j < s->taps_x[x]; j++) {
                struct tap ty = s->tap_y[y * v->r + i], tx = s->tap_x[x * v->s + j];
                *at++ = (ty.offset * s->w + tx.offset) * s->ld + (ty.index * v->s + tx.index) * s->c;
            }
    }
    return EBM_OK;
}

static int plan(const struct cpu *cpu, const struct problem *v, void *self,
                size_t *packed, size_t *scratch)
{
    struct few *s = self;
    bool data = v->op == OP_CONV_DATA;
    struct tap *spare;

    s->v = *v;
    s->u = cpu->ukernel;
    s->h = data ? v->p : v->h;
    s->w = data ? v->q : v->w;
    s->depth = data ? v->k : v->c;
    s->out_h = data ? v->h : v->p;
    s->out_w = data ? v->w : v->q;
    s->c = data ? v->c : v->k;
    s->phases_y = data ? v->stride_y : 1;
    s->phases_x = data ? v->stride_x : 1;
    s->columns = v->r * v->s * s->c;
    s->ld = (panels(s) - 1) * s->u->NR + panel_width(s, panels(s) - 1);
    s->work = v->n * s->h * s->w * s->depth * s->ld;
    if (taps_plan(cpu->ctx, s) < 0 || !(spare = mem_new(cpu->ctx, (size_t)v->r, sizeof *spare)))
        return EBM_ERR_NOMEM;
    axis_span(v, true, s->phases_y, spare, &s->first_y, &s->span_y);
    mem_free(cpu->ctx, spare);

    int64_t units = divide_up(s->out_h, s->phases_y);
    int64_t stripes = least(divide_up(TASKS, v->n), units / (SPANS * s->span_y));
    s->stripe_units = divide_up(units, most(1, stripes));
    s->stripes = divide_up(units, s->stripe_units);
    s->chunk = chunk_rows(s);

    /* per thread: M, and what is read behind its end; a tile nobody reads */
    int64_t rows = least(s->span_y - 1 + s->chunk, s->h);
    s->own = line_up((size_t)(rows * s->w * s->ld) + GEMM_DOT_COLUMNS)
           + line_up(GEMM_MAX_MR * GEMM_MAX_NR);
    *packed = line_up((size_t)(s->depth * s->ld)) * sizeof(float);
    *scratch = (size_t)cpu->threads * s->own * sizeof(float);
    return EBM_OK;
}

static void few_free(ebm_context *ctx, void *self)
{
    struct few *s = self;

    mem_free(ctx, s->tap_y);
    mem_free(ctx, s->tap_x);
    mem_free(ctx, s->taps_y);
    mem_free(ctx, s->taps_x);
    mem_free(ctx, s->at);
}

/* ---- run -------------------------------------------------------------- */

/* Filters [k,r,s,c] to [panel][depth][width], columns (tap, channel of the result). */
static void pack(const struct few *s, int64_t d, const float *f, float *packed)
{
    bool data = s->v.op == OP_CONV_DATA;
    int64_t window = s->v.r * s->v.s, tap = 0, c = 0;

    for (int64_t j = 0; j < panels(s); j++) {
        int64_t width = panel_width(s, j), first = j * s->u->NR;
        int64_t columns = least(width, s->columns - first);
        float *to = packed + first * s->depth + d * width;
        if (data)
            memcpy(to, f + d * s->columns + first, (size_t)columns * sizeof *to);
        for (int64_t i = 0; i < columns && !data; i++) {
            to[i] = f[(c * window + tap) * s->depth + d];
            if (++c == s->c) {
                c = 0;
                tap++;
            }
        }
        for (int64_t i = columns; i < width; i++)
            to[i] = 0;
    }
}

/* Read ahead, line by line: the rows of a tile are too many streams for the processor to
 * see that they are one. */
static void fetch(const float *a, int64_t n)
{
#ifdef __GNUC__
    for (int64_t i = 0; i < n; i += LINE)
        __builtin_prefetch(a + i);
#else
    (void)a, (void)n;
#endif
}

/* `pixels` of the source, from a on, by all columns. */
static void multiply(const struct few *s, const float *a, int64_t pixels, const float *packed,
                     float *m, float *spare)
{
    const struct ukernel *u = s->u;
    int64_t whole = pixels / u->MR * u->MR;

    for (int64_t j = 0; j < panels(s); j++) {
        int width = panel_width(s, j);
        const float *b = packed + j * u->NR * s->depth;
        float *c = m + j * u->NR;
        for (int64_t d = 0; d < s->depth; d += BLOCK_DEPTH) {
            int64_t depth = least(BLOCK_DEPTH, s->depth - d);
            (width == u->NR ? u->even : u->even_narrow)(whole, depth, a + d, s->depth,
                                                        b + d * width, c, s->ld, d > 0);
            if (whole == pixels)
                continue;
            /* Behind the last pixel the first is multiplied again, for nobody. */
            const float *row[GEMM_MAX_MR];
            float *to[GEMM_MAX_MR];
            const struct run run = { d, depth };
            for (int64_t i = 0; i < u->MR; i++) {
                bool there = whole + i < pixels;
                row[i] = a + (there ? whole + i : 0) * s->depth;
                to[i] = there ? c + (whole + i) * s->ld : spare + i * u->NR;
            }
            (width == u->NR ? u->rows : u->rows_narrow)(1, &run, row, b + d * width, to, d > 0);
        }
    }
}

/* The pixels of one phase in row y of units; those in the middle see all taps of the row.
 * m: where the row's own pixels begin.  Both axes have their taps by rising offset. */
static void sum_row(const struct few *s, int64_t y, int64_t phase_y, int64_t phase_x,
                    const float *m, float *out)
{
    const struct tap *ty = s->tap_y + phase_y * s->v.r, *tx = s->tap_x + phase_x * s->v.s;
    const int64_t *at = s->at + (phase_y * s->phases_x + phase_x) * s->v.r * s->v.s;
    int rows = s->taps_y[phase_y], columns = s->taps_x[phase_x], above = 0;
    int64_t units = divide_up(s->out_w - phase_x, s->phases_x), step = s->phases_x * s->c;
    int64_t from = columns ? least(units, most(0, -tx[0].offset)) : 0;
    int64_t to = columns ? most(from, least(units, s->w - tx[columns - 1].offset)) : units;
    int64_t seen[FEW_TAPS];

    for (; rows > 0 && y + ty[rows - 1].offset >= s->h; )
        rows--;
    for (; above < rows && y + ty[above].offset < 0; )
        above++;
    at += above * columns;
    rows -= above;
    for (int64_t unit = 0; unit < units; unit++, m += s->ld, out += step) {
        int taps = 0;
        if (unit == from && from < to) {
            s->u->shifted(to - from, rows * columns, at, m, s->ld, (int)s->c, out, step);
            unit = to - 1;
            m += (to - 1 - from) * s->ld;
            out += (to - 1 - from) * step;
            continue;
        }
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < columns; j++)
                if (unit + tx[j].offset >= 0 && unit + tx[j].offset < s->w)
                    seen[taps++] = at[i * columns + j];
        s->u->shifted(1, taps, seen, m, s->ld, (int)s->c, out, step);
    }
}

static void run_stripe(const struct few *s, int64_t stripe, const float *x, const float *packed,
                       float *out, float *m)
{
    int64_t first = stripe * s->stripe_units;
    int64_t last = least(first + s->stripe_units, divide_up(s->out_h, s->phases_y));
    int64_t have = least(s->h, most(0, first + s->first_y)), base = have;
    int64_t end = least(s->h, most(have, last + s->first_y + s->span_y - 1));
    int64_t row = s->w * s->ld;
    float *spare = m + s->own - line_up(GEMM_MAX_MR * GEMM_MAX_NR);

    for (int64_t y = first; y < last; ) {
        int64_t rows = least(s->chunk, end - have);
        for (int64_t i = 0, n, pixels = rows * s->w; i < pixels; i += n) {
            const float *a = x + (have * s->w + i) * s->depth;
            n = least(BLOCK_TILES * s->u->MR, pixels - i);
            fetch(a, n * s->depth);
            multiply(s, a, n, packed, m + (have - base) * row + i * s->ld, spare);
        }
        have += rows;
        for (; y < last && (have == end || y + s->first_y + s->span_y <= have); y++)
            for (int64_t i = 0; i < s->phases_y && y * s->phases_y + i < s->out_h; i++)
                for (int64_t j = 0; j < least(s->phases_x, s->out_w); j++)
                    sum_row(s, y, i, j, m + (y - base) * row,
                            out + ((y * s->phases_y + i) * s->out_w + j) * s->c);
        int64_t keep = least(have, most(base, y + s->first_y));
        memmove(m, m + (keep - base) * row, (size_t)((have - keep) * row) * sizeof *m);
        base = keep;
    }
}

static void run(const struct cpu *cpu, const void *self, const float *x, const float *f,
                float *out, float *packed, float *scratch, const struct epilogue *epilogue)
{
    const struct few *s = self;
    int64_t line = s->out_w * s->c;
    int threads = s->work > SMALL ? cpu->threads : 1;
    (void)threads;               /* without OpenMP nobody reads it */

    #pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int thread = thread_index();
        float *own = scratch + (size_t)thread * s->own;

        #pragma omp for schedule(static)
        for (int64_t d = 0; d < (f ? s->depth : 0); d++)
            pack(s, d, f, packed);
        #pragma omp for schedule(dynamic) nowait
        for (int64_t i = 0; i < s->v.n * s->stripes; i++) {
            int64_t n = i / s->stripes, stripe = i % s->stripes;
            int64_t begin = stripe * s->stripe_units * s->phases_y;
            int64_t end = least(begin + s->stripe_units * s->phases_y, s->out_h);
            run_stripe(s, stripe, x + n * s->h * s->w * s->depth, packed,
                       out + n * s->out_h * line, own);
            if (epilogue)
                epilogue->run(epilogue->self, (n * s->out_h + begin) * line,
                              (n * s->out_h + end) * line, thread);
        }
    }
}

/* ---- when it applies --------------------------------------------------- */

/* Work at a pixel of the source, counted in multiplications of the widest vectors; what it
 * weighs else was found by bench/contract. */
static double work_here(int64_t pixels, int64_t taps, int64_t depth, int64_t c)
{
    double whole_groups = (double)(divide_up(pixels, GROUP) * GROUP) / (double)pixels;

    return whole_groups * (double)(depth * divide_up(taps * c, VECTOR)) + 3.0 * (double)taps;
}

/* The same of conv_rows.c: sums of whole vectors, the dearer the fewer columns they serve,
 * and of what is left; or, where no vector is whole, tiles of mostly empty columns. */
static double work_of_rows(int64_t taps, int64_t depth, int64_t c)
{
    static const double dot[GEMM_DOT_COLUMNS] = { 2.0, 1.75, 1.75, 1.3 };

    if (depth < VECTOR)
        return 1.3 * (double)(taps * depth);
    return (double)(taps * c) * (dot[c - 1] * (double)(depth / VECTOR) + (double)(depth % VECTOR));
}

static bool applies(const struct problem *v)
{
    bool data = v->op == OP_CONV_DATA;
    int64_t c = data ? v->c : v->k, depth = data ? v->k : v->c, taps = v->r * v->s;
    int64_t pixels = data ? v->p * v->q : v->h * v->w;

    return (v->op == OP_CONV || v->op == OP_CONV_DATA)
        && v->groups == 1
        && (data || (v->stride_y == 1 && v->stride_x == 1))   /* else much of M is for nobody */
        && c <= GEMM_DOT_COLUMNS
        && taps <= FEW_TAPS && pixels > 0
        && work_here(pixels, taps, depth, c) < WORTHWHILE * work_of_rows(taps, depth, c);
}

const struct algorithm conv_few = {
    "few", applies, plan, run, few_free, sizeof(struct few),
};
