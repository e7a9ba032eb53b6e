/* bf16_rows.c - CONV, CONV_DATA and MATMUL of operands in bfloat16.
 *
 * SPDX-License-Identifier: ISC
 *
 * The result's pixels are the rows, its channels the columns, as in conv_rows.c,
 * by phases (conv_taps.c).  A convolution of single pixels is a product of
 * matrices, whose rows are taken for images of one row.
 *
 * A task loads one band of the images, multiplies it by one panel of 32 columns
 * after the other, and lets the epilogue run over the result.  Invariant: what a
 * task computes, and in which order, depends on the plan alone. */
#include <string.h>
#include "bf16.h"

enum {
    BAND_FLOATS = 32768,     /* of the result, so that the epilogue finds them cached */
    LINE = 64,               /* rows of a matrix that make a line */
    SMALL = 1 << 20          /* multiplications that are not worth a second thread */
};

struct phase {
    int64_t y, x;            /* its first pixel of the result */
    int64_t nx;              /* its pixels in a line */
    int64_t taps;
    int64_t *tap;            /* where each begins in the filter */
    int64_t *a_at, *b_at;    /* of each term of 32 */
    int64_t packed;          /* where its filter begins among the packed ones */
};

struct bf16_rows {
    struct problem v;
    const struct bf16_kernels *kernels;
    struct bf16_images images;
    int64_t out_h, out_w, out_c, pixels;     /* pixels: of the whole result */
    int64_t depth, chunks, panels;
    int64_t tiles;                           /* elements of a chunk's tiles in a panel */
    int64_t f_term, f_column;
    int64_t phases_y, phases_x;
    struct phase *phase;
    int64_t batch, packed;                   /* elements of a batch's filters */
    size_t own;                              /* scratch per thread, floats */
    int64_t work;
};

/* ---- plan ------------------------------------------------------------- */

static int plan_phase(ebm_context *ctx, struct bf16_rows *s, struct phase *ph,
                      const struct tap *ty, int64_t n_y, const struct tap *tx, int64_t n_x)
{
    const struct problem *v = &s->v;
    int64_t taps = n_y * n_x, n = taps * s->chunks;
    int64_t window = v->op == OP_MATMUL ? 0 : v->c;

    ph->nx = (s->out_w - ph->x + s->phases_x - 1) / s->phases_x;
    ph->taps = taps;
    ph->tap = mem_new(ctx, (size_t)taps + 1, sizeof *ph->tap);
    ph->a_at = mem_new(ctx, (size_t)n + 1, sizeof *ph->a_at);
    ph->b_at = mem_new(ctx, (size_t)n + 1, sizeof *ph->b_at);
    if (!ph->tap || !ph->a_at || !ph->b_at)
        return EBM_ERR_NOMEM;
    for (int64_t t = 0; t < taps; t++) {
        const struct tap *y = &ty[t / n_x], *x = &tx[t % n_x];
        int64_t at = bf16_images_at(&s->images, y->offset - s->images.first_y,
                                    x->offset - s->images.first_x);
        ph->tap[t] = (y->index * v->s + x->index) * window;
        for (int64_t i = 0; i < s->chunks; i++) {
            ph->a_at[t * s->chunks + i] = at + i * BF16_TERMS;
            ph->b_at[t * s->chunks + i] = (t * s->chunks + i) * s->tiles;
        }
    }
    ph->packed = s->packed;
    s->packed += s->panels * n * s->tiles;
    return EBM_OK;
}

static int plan_phases(ebm_context *ctx, struct bf16_rows *s)
{
    const struct problem *v = &s->v;
    struct tap *ty = mem_new(ctx, (size_t)v->r, sizeof *ty), *tx = mem_new(ctx, (size_t)v->s, sizeof *tx);
    int rc = ty && tx ? EBM_OK : EBM_ERR_NOMEM;

    s->phase = mem_new(ctx, (size_t)(s->phases_y * s->phases_x), sizeof *s->phase);
    if (!s->phase)
        rc = EBM_ERR_NOMEM;
    if (rc == EBM_OK) {
        axis_span(v, true, s->phases_y, ty, &s->images.first_y, &s->images.span_y);
        axis_span(v, false, s->phases_x, tx, &s->images.first_x, &s->images.span_x);
        bf16_images_plan(&s->images, BAND_FLOATS / (s->phases_y * s->phases_x), s->out_c);
    }
    for (int64_t i = 0; rc == EBM_OK && i < s->phases_y * s->phases_x; i++) {
        struct phase *ph = &s->phase[i];
        ph->y = i / s->phases_x;
        ph->x = i % s->phases_x;
        int n_y = axis_taps(v, true, ph->y, ty), n_x = axis_taps(v, false, ph->x, tx);
        rc = plan_phase(ctx, s, ph, ty, n_y, tx, n_x);
    }
    mem_free(ctx, ty);
    mem_free(ctx, tx);
    return rc;
}

static void describe_conv(struct bf16_rows *s)
{
    const struct problem *v = &s->v;
    bool data = v->op == OP_CONV_DATA;
    int64_t window = v->r * v->s;

    s->batch = 1;
    s->depth = data ? v->k : v->c;
    s->out_h = data ? v->h : v->p;
    s->out_w = data ? v->w : v->q;
    s->out_c = data ? v->c : v->k;
    s->f_term = data ? window * v->c : 1;
    s->f_column = data ? 1 : window * v->c;
    s->phases_y = data ? v->stride_y : 1;
    s->phases_x = data ? v->stride_x : 1;
    s->images.n = v->n;
    s->images.h = data ? v->p : v->h;
    s->images.w = data ? v->q : v->w;
    s->images.pixels = s->images.n * s->images.h * s->images.w;
    s->images.step_y = data ? 1 : v->stride_y;
    s->images.step_x = data ? 1 : v->stride_x;
}

/* As a convolution of single pixels, in lines. */
static void describe_matmul(struct bf16_rows *s, int64_t rows)
{
    struct problem *v = &s->v;

    s->out_w = least(rows, LINE);
    s->out_h = divide_up(rows, s->out_w);
    s->pixels = s->images.pixels = rows;     /* the last line may be short */
    s->images.n = 1;
    s->images.h = s->out_h;
    s->images.w = s->out_w;
    s->images.step_y = s->images.step_x = s->phases_y = s->phases_x = 1;
    v->r = v->s = v->stride_y = v->stride_x = v->dilation_y = v->dilation_x = 1;
    v->top = v->left = 0;
}

static bool single_pixels(const struct problem *v)
{
    return v->op != OP_MATMUL && v->r == 1 && v->s == 1 && v->stride_y == 1 && v->stride_x == 1
        && v->top == 0 && v->left == 0 && v->p == v->h && v->q == v->w;
}

static int plan(const struct cpu *cpu, const struct problem *v, void *self,
                size_t *packed, size_t *scratch)
{
    struct bf16_rows *s = self;
    int rc;

    s->v = *v;
    s->kernels = v->bf16;
    s->images.split = v->precision == EBM_BF16X3;
    if (v->op == OP_MATMUL) {
        s->batch = v->batch;
        s->depth = v->depth;
        s->out_c = v->columns;
        s->f_term = v->tb ? 1 : v->columns;
        s->f_column = v->tb ? v->depth : 1;
        s->images.turned = v->ta;
        describe_matmul(s, v->rows);
        s->work = v->batch * v->rows * v->columns * v->depth;
    } else {
        s->work = v->n * v->p * v->q * v->k * v->r * v->s * v->c;
        describe_conv(s);
        s->pixels = v->n * s->out_h * s->out_w;
        if (single_pixels(v))
            describe_matmul(s, s->pixels);
    }
    s->chunks = divide_up(s->depth, BF16_TERMS);
    s->panels = divide_up(s->out_c, BF16_BLOCK);
    s->tiles = (s->images.split ? 4 : 2) * BF16_TILE;
    s->images.c = s->depth;
    s->images.units_y = divide_up(s->out_h, s->phases_y);
    s->images.units_x = divide_up(s->out_w, s->phases_x);
    if ((rc = plan_phases(cpu->ctx, s)) < 0)
        return rc;

    /* packed: filters.  Scratch, per thread: the band, a block. */
    s->own = bf16_floats(s->images.size) + line_up(BF16_SPARE);
    *packed = bf16_floats(s->batch * s->packed) * sizeof(float);
    *scratch = (size_t)cpu->threads * s->own * sizeof(float);
    return EBM_OK;
}

static void rows_free(ebm_context *ctx, void *self)
{
    struct bf16_rows *s = self;

    for (int64_t i = 0; s->phase && i < s->phases_y * s->phases_x; i++) {
        mem_free(ctx, s->phase[i].tap);
        mem_free(ctx, s->phase[i].a_at);
        mem_free(ctx, s->phase[i].b_at);
    }
    mem_free(ctx, s->phase);
}

/* ---- run -------------------------------------------------------------- */

/* One tap of one panel. */
static void pack(const struct bf16_rows *s, const struct phase *ph, int64_t piece,
                 const float *f, bf16 *packed)
{
    int64_t panel = piece / ph->taps, tap = piece % ph->taps, first = panel * BF16_BLOCK;
    struct bf16_matrix m = { s->depth, least(BF16_BLOCK, s->out_c - first), s->f_term, s->f_column,
                             s->images.split };

    bf16_pack(s->kernels, &m, f + ph->tap[tap] + first * s->f_column,
              packed + ph->packed + piece * s->chunks * s->tiles);
}

/* Rows of a line: pixels of images side by side. */
struct line {
    const struct part *part;
    const struct phase *phase;
    int64_t y;                   /* of the result */
    int64_t rows;
};

/* Where row i of a line is in the result; -1: nowhere. */
static int64_t row_at(const struct bf16_rows *s, const struct line *l, int64_t i)
{
    int64_t image = i % s->images.together, x = i / s->images.together;
    int64_t at = ((l->part->image + image) * s->out_h + l->y) * s->out_w
               + x * s->phases_x + l->phase->x;

    return image < l->part->images && x < l->phase->nx && at < s->pixels ? at * s->out_c : -1;
}

static void scatter(const struct bf16_rows *s, const struct line *l, int64_t row, int64_t rows,
                    int64_t columns, const float *spare, float *out)
{
    for (int64_t i = 0; i < rows; i++, spare += BF16_BLOCK) {
        int64_t at = row_at(s, l, row + i);
        if (at >= 0)
            memcpy(out + at, spare, (size_t)columns * sizeof *out);
    }
}

/* A line by one panel, in blocks of up to two by two tiles.  A block whose rows are
 * as far from each other in the result goes there at once. */
static void multiply_line(const struct bf16_rows *s, const struct line *l, int64_t panel,
                          const bf16 *images, const bf16 *packed, float *spare, float *out)
{
    const struct phase *ph = l->phase;
    int64_t first = panel * BF16_BLOCK, columns = least(BF16_BLOCK, s->out_c - first);
    int64_t n = ph->taps * s->chunks;
    struct bf16_sum sum = {
        .n = n, .a_at = ph->a_at, .b_at = ph->b_at,
        .a_row = s->images.pixel, .a_second = BF16_ROWS * s->images.pixel,
        .b_row = 2 * BF16_COLUMNS, .b_second = BF16_TILE,
        .a_low = s->images.low, .b_low = 2 * BF16_TILE,
        .column_tiles = columns > BF16_COLUMNS ? 2 : 1,
    };
    bool even = s->images.together == 1 && columns == BF16_COLUMNS * sum.column_tiles;

    packed += ph->packed + panel * n * s->tiles;
    for (int64_t row = 0; row < l->rows; row += BF16_BLOCK) {
        int64_t rows = least(BF16_BLOCK, l->rows - row);
        int64_t last = row_at(s, l, row + rows - 1);
        sum.row_tiles = rows > BF16_ROWS ? 2 : 1;
        bool direct = even && rows == BF16_ROWS * sum.row_tiles && last >= 0;
        float *c = direct ? out + first + row_at(s, l, row) : spare;
        sum.c_row = direct ? s->phases_x * s->out_c : BF16_BLOCK;
        s->kernels->multiply(&sum, images + row * s->images.pixel, packed, c, false);
        if (!direct)
            scatter(s, l, row, rows, columns, spare, out + first);
    }
}

/* Each image's rows are complete; those of whole images follow each other. */
static void run_epilogue(const struct bf16_rows *s, const struct part *part, int64_t offset,
                         const struct epilogue *epilogue, int thread)
{
    int64_t line = s->out_w * s->out_c, first = part->unit * s->phases_y;
    int64_t last = least((part->unit + part->units) * s->phases_y, s->out_h);
    bool whole = first == 0 && last == s->out_h;
    int64_t all = s->pixels * s->out_c;

    for (int64_t i = 0; i < (whole ? 1 : part->images); i++) {
        int64_t image = part->image + i, end = whole ? image + part->images - 1 : image;
        epilogue->run(epilogue->self, offset + (image * s->out_h + first) * line,
                      offset + least(all, (end * s->out_h + last) * line), thread);
    }
}

static void run_band(const struct bf16_rows *s, int64_t band, const float *x, const bf16 *packed,
                     float *out, float *own, int64_t offset,
                     const struct epilogue *epilogue, int thread)
{
    struct part part = bf16_images_part(&s->images, band);
    bf16 *images = (bf16 *)own;
    float *spare = own + bf16_floats(s->images.size);

    bf16_images_load(s->kernels, &s->images, &part, x, images);
    for (int64_t i = 0; i < s->phases_y * s->phases_x; i++) {
        const struct phase *ph = &s->phase[i];
        struct line l = { &part, ph, 0, ph->nx * s->images.together };
        for (int64_t panel = 0; panel < s->panels; panel++)
            for (int64_t unit = 0; unit < part.units; unit++) {
                l.y = (part.unit + unit) * s->phases_y + ph->y;
                if (l.y < s->out_h)
                    multiply_line(s, &l, panel, images + unit * s->images.step_y * s->images.line,
                                  packed, spare, out);
            }
    }
    if (epilogue)
        run_epilogue(s, &part, offset, epilogue, thread);
}

static void run(const struct cpu *cpu, const void *self, const float *x, const float *f,
                float *out, float *memory, float *scratch, const struct epilogue *epilogue)
{
    const struct bf16_rows *s = self;
    const struct problem *v = &s->v;
    bf16 *packed = (bf16 *)memory;
    int64_t x_batch = v->rows * v->depth, f_batch = v->depth * v->columns;
    int64_t out_batch = v->rows * v->columns;
    int threads = s->work > SMALL ? cpu->threads : 1;
    (void)threads;               /* without OpenMP nobody reads it */

    #pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int thread = thread_index();
        float *own = scratch + (size_t)thread * s->own;

        for (int64_t i = 0; f && i < s->phases_y * s->phases_x; i++) {
            const struct phase *ph = &s->phase[i];
            int64_t pieces = s->panels * ph->taps;
            #pragma omp for schedule(static) nowait
            for (int64_t piece = 0; piece < s->batch * pieces; piece++)
                pack(s, ph, piece % pieces, f + piece / pieces * f_batch,
                     packed + piece / pieces * s->packed);
        }
        if (f) {
            #pragma omp barrier
        }
        s->kernels->begin();
        #pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < s->batch * s->images.bands; i++) {
            int64_t batch = i / s->images.bands;
            run_band(s, i % s->images.bands, x + batch * x_batch, packed + batch * s->packed,
                     out + batch * out_batch, own, batch * out_batch, epilogue, thread);
        }
        s->kernels->end();
    }
}

/* ---- when it applies --------------------------------------------------- */

static bool applies(const struct problem *v)
{
    bool data = v->op == OP_CONV_DATA, product = v->op == OP_MATMUL;
    int64_t depth = product ? v->depth : data ? v->k : v->c;
    int64_t columns = product ? v->columns : data ? v->c : v->k;

    return v->op != OP_CONV_FILTER
        && (product || v->groups == 1)
        && bf16_pays(v, divide_up(depth, BF16_TERMS) * BF16_TERMS * divide_up(columns, BF16_COLUMNS)
                        * BF16_COLUMNS, depth * columns);
}

const struct algorithm conv_bf16_rows = {
    "bf16 rows", applies, plan, run, rows_free, sizeof(struct bf16_rows),
};
