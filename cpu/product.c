/* product.c - MATMUL of matrices that are worth packing.
 *
 * SPDX-License-Identifier: ISC
 *
 *              depth                      columns
 *        .-----.-----.              .-----.-----.-----.
 *   rows |  A  |     |      x    KC |  B  | NR  | NR  |
 *        .-----.-----.              .-----.-----.-----.
 *     MR |     |     |              |     |     |     |
 *
 * The depth is cut into blocks of KC terms; of a block, A is packed in panels of MR
 * rows and B in panels of NR columns, both term by term, as the micro-kernels want
 * them.  A panel of B stays in the first cache while the panels of a band of rows,
 * which are in the second, pass by (Goto and van de Geijn 2008, with the operands'
 * roles changed).  Transposed operands cost nothing but another way of packing.
 *
 * Tasks are bands of rows x bands of columns; these are cut where rows are few.  Of few
 * rows and a B beyond the caches, each task packs the panels it multiplies by, a few at a
 * time, so that B is read from memory once and never written there.
 * Invariant: what a task computes, and in which order, depends on the plan alone. */
#include <string.h>
#include "conv.h"

enum {
    KC_MOST = 288,           /* terms of a float sum: a panel of B is 36 KiB with AVX-512 */
    BAND_ROWS = 96,          /* whose panels of A are 108 KiB */
    TASKS = 8,               /* enough for threads to share */
    BAND_PANELS = 4,         /* of B, at least, in a task */
    PACK_PANELS = 8,         /* of B that are packed side by side: their rows are read in long runs */
    RANGE = 16384,           /* elements for the epilogue at a time */
    SMALL = 1 << 18,         /* multiplications that are not worth a second thread */
    LARGE_B = 1 << 23,       /* floats: more than is kept packed from step to step (cpu.c) */
    COLUMNS_LEAST = 96, ROWS_LEAST = 24, DEPTH_LEAST = 64    /* where packing pays: bench/contract.c */
};

struct product {
    struct problem v;
    const struct ukernel *u;
    int64_t KC, blocks;
    int64_t band_rows, row_bands;
    int64_t panels, band_panels, column_bands;
    int64_t padded;          /* columns in whole panels */
    bool packs_own;          /* panels of B, in each task */
    int64_t heights;         /* rows in whole panels, where A is packed before all tasks; else 0 */
    int64_t *at;             /* where the terms of a panel of A begin */
    size_t own, own_b;       /* floats of scratch per thread, and of those for panels of B */
};

/* ---- packing ---- */

typedef float four __attribute__((vector_size(16), aligned(sizeof(float)), may_alias));

static inline four load(const float *a)
{
    return *(const four *)(const void *)a;
}

static inline void store(float *to, four v)
{
    *(four *)(void *)to = v;
}

#ifdef __clang__
#define LANES_OF(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
typedef int four_ints __attribute__((vector_size(16)));
#define LANES_OF(a, b, i, j, k, l) __builtin_shuffle(a, b, (four_ints){ i, j, k, l })
#endif

/* to[k width + i] = a[i lda + k], i, k < 4. */
static inline void turn_square(const float *a, int64_t lda, float *to, int64_t width)
{
    four r0 = load(a), r1 = load(a + lda), r2 = load(a + 2 * lda), r3 = load(a + 3 * lda);
    four low01 = LANES_OF(r0, r1, 0, 4, 1, 5), high01 = LANES_OF(r0, r1, 2, 6, 3, 7);
    four low23 = LANES_OF(r2, r3, 0, 4, 1, 5), high23 = LANES_OF(r2, r3, 2, 6, 3, 7);

    store(to, LANES_OF(low01, low23, 0, 1, 4, 5));
    store(to + width, LANES_OF(low01, low23, 2, 3, 6, 7));
    store(to + 2 * width, LANES_OF(high01, high23, 0, 1, 4, 5));
    store(to + 3 * width, LANES_OF(high01, high23, 2, 3, 6, 7));
}

/* Lines that will be read soon. */
static void fetch(const float *a, int64_t n)
{
#ifdef __GNUC__
    for (int64_t i = 0; i < n; i += 16)
        __builtin_prefetch(a + i, 0, 2);
#else
    (void)a;
    (void)n;
#endif
}

/* A panel of lines that lie along the depth: to[k width + i] = a[i lda + k]. */
static void pack_turned(const float *a, int64_t lda, int64_t lines, int64_t terms, float *to, int64_t width)
{
    int64_t i = 0;

    for (; i + 4 <= lines; i += 4, a += 4 * lda) {
        int64_t k = 0;
        for (; k + 4 <= terms; k += 4) {
            if (i + 8 <= lines)
                fetch(a + (4 + k / 4 % 4) * lda + k / 16 * 16, 1);
            turn_square(a + k, lda, to + k * width + i, width);
        }
        for (; k < terms; k++)
            for (int64_t j = 0; j < 4; j++)
                to[k * width + i + j] = a[j * lda + k];
    }
    for (; i < width; i++, a += lda)
        for (int64_t k = 0; k < terms; k++)
            to[k * width + i] = i < lines ? a[k] : 0;
}

/* A row of a panel whose lines lie across the depth. */
static inline void pack_row(const float *a, int64_t lines, float *to, int64_t width)
{
    int64_t i = 0;

    for (; i + 4 <= lines; i += 4)
        store(to + i, load(a + i));
    for (; i < width; i++)
        to[i] = i < lines ? a[i] : 0;
}

static int panel_width(const struct product *s, int64_t j)
{
    return s->v.columns - j * s->u->NR > s->u->NS ? s->u->NR : s->u->NS;
}

static int64_t terms_of(const struct product *s, int64_t block)
{
    return least(s->KC, s->v.depth - block * s->KC);
}

/* Where panel j of a block lies in packed B. */
static int64_t panel_at(const struct product *s, int64_t block, int64_t j)
{
    return block * s->KC * s->padded + terms_of(s, block) * j * s->u->NR;
}

/* Panels [first, last) of B. */
static void pack_b(const struct product *s, const float *b, int64_t block, int64_t first, int64_t last, float *packed)
{
    const int64_t terms = terms_of(s, block);
    const int64_t NR = s->u->NR, columns = s->v.columns;

    if (s->v.tb) {
        for (int64_t j = first; j < last; j++)
            pack_turned(b + j * NR * s->v.depth + block * s->KC, s->v.depth, least(NR, columns - j * NR), terms,
                        packed + (j - first) * NR * terms, panel_width(s, j));
        return;
    }
    b += block * s->KC * columns;
    for (int64_t k = 0; k < terms; k++, b += columns)
        for (int64_t j = first; j < last; j++) {
            int width = panel_width(s, j);
            pack_row(b + j * NR, least(NR, columns - j * NR), packed + (j - first) * NR * terms + k * width, width);
        }
}

/* The rows [row, row + rows) of a block of A, in panels. */
static void pack_a(const struct product *s, const float *a, int64_t block, int64_t row, int64_t rows, float *to)
{
    const int64_t terms = terms_of(s, block), MR = s->u->MR;

    for (int64_t i = 0; i < rows; i += MR, to += MR * terms) {
        int64_t lines = least(MR, rows - i);
        if (!s->v.ta) {
            pack_turned(a + (row + i) * s->v.depth + block * s->KC, s->v.depth, lines, terms, to, MR);
            continue;
        }
        const float *from = a + block * s->KC * s->v.rows + row + i;
        for (int64_t k = 0; k < terms; k++)
            pack_row(from + k * s->v.rows, lines, to + k * MR, MR);
    }
}

/* ---- multiplying ---- */

static void multiply(const struct product *s, int64_t terms, const float *a, const float *b, int64_t rows,
                     int64_t columns, int width, float *c, bool add)
{
    const struct ukernel *u = s->u;
    float tile[GEMM_MAX_MR * GEMM_MAX_NR] __attribute__((aligned(64)));

    if (u->packed && rows == u->MR && columns == u->NR) {
        u->packed(u->blis, terms, a, b, c, s->v.columns, add);
        return;
    }
    (width == u->NR ? u->cols : u->cols_narrow)(terms, s->at, a, b, width, tile, false);
    for (int64_t i = 0; i < rows; i++, c += s->v.columns) {
        const float *from = tile + i * width;
        if (add)
            for (int64_t j = 0; j < columns; j++)
                c[j] += from[j];
        else
            memcpy(c, from, (size_t)columns * sizeof *c);
    }
}

/* Panels [first, last) of B by rows of A. */
static void run_panels(const struct product *s, int64_t terms, int64_t row, int64_t rows, int64_t first,
                       int64_t last, const float *a, const float *b, float *out, bool add)
{
    const int64_t MR = s->u->MR, NR = s->u->NR, share = terms * NR * MR / rows;

    for (int64_t j = first; j < last; j++, b += terms * NR) {
        const float *panel = a;
        const int64_t columns = least(NR, s->v.columns - j * NR);
        const int width = panel_width(s, j);
        float *c = out + row * s->v.columns + j * NR;
        for (int64_t i = 0; i < rows; i += MR, panel += MR * terms, c += MR * s->v.columns) {
            if (j + 1 < last && i + MR <= rows)
                fetch(b + terms * width + i / MR * share, share);
            multiply(s, terms, panel, b, least(MR, rows - i), columns, width, c, add);
        }
    }
}

/* packed_a: all panels of A, or room for those of a block of the task; packed: of B,
 * likewise. */
static void run_task(const struct product *s, int64_t task, const float *a, float *packed_a, const float *b,
                     float *packed, float *out)
{
    const int64_t row = task / s->column_bands * s->band_rows, rows = least(s->band_rows, s->v.rows - row);
    const int64_t first = task % s->column_bands * s->band_panels;
    const int64_t last = least(first + s->band_panels, s->panels);

    for (int64_t block = 0; block < s->blocks; block++) {
        const int64_t terms = terms_of(s, block);
        const float *panels = packed_a;
        if (s->heights)
            panels += block * s->KC * s->heights + row * terms;
        else
            pack_a(s, a, block, row, rows, packed_a);
        if (!s->packs_own) {
            run_panels(s, terms, row, rows, first, last, panels, packed + panel_at(s, block, first), out, block > 0);
            continue;
        }
        for (int64_t j = first; j < last; j += PACK_PANELS) {
            const int64_t end = least(j + PACK_PANELS, last);
            pack_b(s, b, block, j, end, packed);
            run_panels(s, terms, row, rows, j, end, panels, packed, out, block > 0);
        }
    }
}

/* One panel of A of one block. */
static void pack_shared(const struct product *s, int64_t tile, const float *a, float *to)
{
    const int64_t tiles = s->heights / s->u->MR, block = tile / tiles, row = tile % tiles * s->u->MR;

    pack_a(s, a, block, row, least(s->u->MR, s->v.rows - row),
           to + block * s->KC * s->heights + row * terms_of(s, block));
}

static void run(const struct cpu *cpu, const void *self, const float *a, const float *b, float *out,
                float *packed, float *scratch, const struct epilogue *epilogue)
{
    const struct product *s = self;
    const struct problem *v = &s->v;
    const int64_t a_batch = v->rows * v->depth, b_batch = v->depth * v->columns, packed_batch = v->depth * s->padded;
    const int64_t out_batch = v->rows * v->columns, tasks = s->row_bands * s->column_bands;
    const int64_t groups = divide_up(s->panels, PACK_PANELS), pieces = s->blocks * groups;
    const int64_t shared = v->depth * s->heights, tiles = s->blocks * s->heights / s->u->MR;
    int threads = out_batch * v->batch * v->depth > SMALL ? cpu->threads : 1;
    (void)threads;               /* without OpenMP nobody reads it */

    #pragma omp parallel num_threads(threads) if (threads > 1)
    {
        float *own = scratch + line_up((size_t)(v->batch * shared)) + (size_t)thread_index() * s->own;
        float *panels_a = own + s->own_b;

        #pragma omp for schedule(static) nowait
        for (int64_t i = 0; i < v->batch * tiles; i++)
            pack_shared(s, i % tiles, a + i / tiles * a_batch, scratch + i / tiles * shared);
        if (b && !s->packs_own) {
            #pragma omp for schedule(static) nowait
            for (int64_t i = 0; i < v->batch * pieces; i++) {
                int64_t block = i % pieces / groups, first = i % groups * PACK_PANELS;
                pack_b(s, b + i / pieces * b_batch, block, first, least(first + PACK_PANELS, s->panels),
                       packed + i / pieces * packed_batch + panel_at(s, block, first));
            }
        }
        if (b || tiles) {
            #pragma omp barrier
        }
        #pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < v->batch * tasks; i++) {
            int64_t batch = i / tasks, row = i % tasks / s->column_bands * s->band_rows;
            run_task(s, i % tasks, a + batch * a_batch, tiles ? scratch + batch * shared : panels_a,
                     b ? b + batch * b_batch : NULL, s->packs_own ? own : packed + batch * packed_batch, out + batch * out_batch);
            if (epilogue && s->column_bands == 1)
                epilogue->run(epilogue->self, batch * out_batch + row * v->columns,
                              batch * out_batch + least(row + s->band_rows, v->rows) * v->columns, thread_index());
        }
        if (epilogue && s->column_bands > 1) {
            #pragma omp for schedule(static)
            for (int64_t begin = 0; begin < v->batch * out_batch; begin += RANGE)
                epilogue->run(epilogue->self, begin, least(begin + RANGE, v->batch * out_batch), thread_index());
        }
    }
}

/* ---- plan ---- */

static int plan(const struct cpu *cpu, const struct problem *v, void *self, size_t *packed, size_t *scratch)
{
    struct product *s = self;
    const int64_t MR = cpu->ukernel->MR, NR = cpu->ukernel->NR;

    s->v = *v;
    s->u = cpu->ukernel;
    s->blocks = divide_up(v->depth, KC_MOST);
    s->KC = divide_up(divide_up(v->depth, s->blocks), 4) * 4;
    s->blocks = divide_up(v->depth, s->KC);
    s->panels = divide_up(v->columns, NR);
    s->padded = (s->panels - 1) * NR + panel_width(s, s->panels - 1);
    s->row_bands = divide_up(v->rows, BAND_ROWS / MR * MR);
    s->band_rows = divide_up(divide_up(v->rows, s->row_bands), MR) * MR;
    s->row_bands = divide_up(v->rows, s->band_rows);
    s->packs_own = s->row_bands == 1 && v->depth * v->columns >= LARGE_B;
    s->column_bands = most(1, least(divide_up(TASKS, v->batch * s->row_bands),
                                    s->panels / (s->packs_own ? 1 : BAND_PANELS)));
    s->band_panels = divide_up(s->panels, s->column_bands);
    s->column_bands = divide_up(s->panels, s->band_panels);
    s->at = mem_new(cpu->ctx, (size_t)s->KC, sizeof *s->at);
    if (!s->at)
        return EBM_ERR_NOMEM;
    for (int64_t k = 0; k < s->KC; k++)
        s->at[k] = k * MR;
    s->own_b = s->packs_own ? line_up((size_t)(PACK_PANELS * NR * s->KC)) : 0;
    s->own = s->own_b;
    if (s->column_bands > 1)
        s->heights = divide_up(v->rows, MR) * MR;
    else
        s->own += line_up((size_t)(s->band_rows * s->KC));
    *packed = s->packs_own ? 0 : line_up((size_t)(v->batch * v->depth * s->padded)) * sizeof(float);
    *scratch = ((size_t)cpu->threads * s->own + line_up((size_t)(v->batch * v->depth * s->heights))) * sizeof(float);
    return EBM_OK;
}

static void product_free(ebm_context *ctx, void *self)
{
    mem_free(ctx, ((struct product *)self)->at);
}

static bool applies(const struct problem *v)
{
    return v->op == OP_MATMUL
        && v->columns >= COLUMNS_LEAST       /* that packed rows must serve */
        && (v->rows >= ROWS_LEAST || v->depth * v->columns >= LARGE_B)
        && v->depth >= DEPTH_LEAST;
}

const struct algorithm matrix_product = {
    "product", applies, plan, run, product_free, sizeof(struct product),
};
