/* bf16_filter.c - CONV_FILTER of operands in bfloat16: the sum runs over pixels.
 *
 * SPDX-License-Identifier: ISC
 *
 *     f[k, rsc] = sum over pixels npq of  y[npq, k] x[window of npq, rsc]
 *
 * A pair of terms is two images at one pixel, so that no tap breaks a pair: x is
 * read where it lies, by tiles of 16 pixels; y is transposed once for all taps.
 *
 * The images go by in bands, which are dealt to slots, both by the plan; at the end
 * the slots are added in their order, so that no float sum is long and threads only
 * decide who does what.  Large filters, of which memory bears few slots, and few
 * pixels, which do not pay for them, are cut into stripes of output channels as
 * well; x is then loaded for all stripes at once. */
#include <string.h>
#include "bf16.h"

enum {
    BAND_PIXELS = 512,           /* 16 tiles: y's of 32 channels fit the first cache */
    MAX_SLOTS = 32,
    SLOT_WORK = 1 << 22,         /* multiplications that make a slot worth a thread */
    SLOT_TERMS = 2048,           /* of a sum, that make a slot worth adding */
    SLOT_MEMORY = 1 << 22,       /* floats of all slots, where one is not larger */
    TASKS = 8,                   /* slots x stripes, if there are channels enough */
    RANGE = 16384                /* elements for the epilogue at a time */
};

struct bf16_filter {
    struct problem v;
    const struct bf16_kernels *kernels;
    struct bf16_images images;
    int64_t taps, c_blocks, k_blocks;
    int64_t chunks;              /* tiles of pixels in a line */
    int64_t tiles;               /* and in a band */
    int64_t *a_at, *b_at;        /* of each */
    int64_t y_size, row;         /* elements: y of a stripe, transposed; a pixel's pairs */
    int64_t y_low, row_low;      /* to the low parts of either; 0: none */
    int64_t sums;                /* floats of a slot: [k block][c block][tap][32][32] */
    int slots, stripes;
    size_t band;                 /* floats of x's band; stripes share all bands */
    size_t shared, own;          /* scratch, and per thread, floats */
};

/* ---- plan ------------------------------------------------------------- */

static void plan_slots(struct bf16_filter *s)
{
    const struct problem *v = &s->v;
    int64_t work = v->n * v->p * v->q * v->k * s->taps * v->c;
    int64_t worth = most(v->n * v->p * v->q / SLOT_TERMS, divide_up(TASKS, s->k_blocks));
    int64_t slots = least(least(MAX_SLOTS, worth), least(s->images.bands, 1 + work / SLOT_WORK));

    s->sums = s->k_blocks * s->c_blocks * s->taps * BF16_SPARE;
    s->slots = (int)most(1, least(slots, SLOT_MEMORY / s->sums));
    s->stripes = 1;
    if (work / SLOT_WORK > s->slots)
        s->stripes = (int)least(s->k_blocks, divide_up(TASKS, s->slots));
}

static int plan(const struct cpu *cpu, const struct problem *v, void *self,
                size_t *packed, size_t *scratch)
{
    struct bf16_filter *s = self;

    s->v = *v;
    s->kernels = v->bf16;
    s->taps = v->r * v->s;
    s->c_blocks = divide_up(v->c, BF16_BLOCK);
    s->k_blocks = divide_up(v->k, BF16_BLOCK);
    s->images = (struct bf16_images){
        .n = v->n, .h = v->h, .w = v->w, .c = v->c, .pixels = v->n * v->h * v->w,
        .first_y = -v->top, .first_x = -v->left,
        .span_y = (v->r - 1) * v->dilation_y + 1, .span_x = (v->s - 1) * v->dilation_x + 1,
        .step_y = v->stride_y, .step_x = v->stride_x, .units_y = v->p, .units_x = v->q,
        .pairs = true, .split = v->precision == EBM_BF16X3,
    };
    bf16_images_plan(&s->images, s->images.split ? BAND_PIXELS / 2 : BAND_PIXELS, 1);
    plan_slots(s);

    int64_t positions = v->q * s->images.together / 2;
    s->chunks = divide_up(positions, BF16_ROWS);
    s->tiles = s->images.units * s->chunks;
    s->a_at = mem_new(cpu->ctx, (size_t)s->tiles, sizeof *s->a_at);
    s->b_at = mem_new(cpu->ctx, (size_t)s->tiles, sizeof *s->b_at);
    if (!s->a_at || !s->b_at)
        return EBM_ERR_NOMEM;
    for (int64_t i = 0; i < s->tiles; i++) {
        s->a_at[i] = i * BF16_TILE;
        s->b_at[i] = i / s->chunks * v->stride_y * s->images.line
                   + i % s->chunks * BF16_ROWS * s->images.pixel;
    }
    int64_t blocks = divide_up(s->k_blocks, s->stripes);
    s->y_size = blocks * 2 * s->tiles * BF16_TILE;
    s->row = blocks * BF16_BLOCK * 2;
    int64_t rows = BF16_ROWS * s->row;
    if (s->images.split) {
        s->y_low = s->y_size;
        s->row_low = rows;
    }
    s->y_size += s->y_low;

    /* the slots' sums, x of all bands | per thread: x, y, y of a tile before it is
     * transposed */
    s->band = bf16_floats(s->images.size);
    s->shared = (size_t)s->slots * line_up((size_t)s->sums)
              + (s->stripes > 1 ? (size_t)s->images.bands * s->band : 0);
    s->own = (s->stripes > 1 ? 0 : s->band) + bf16_floats(s->y_size)
           + bf16_floats(rows + s->row_low);
    *packed = 0;
    *scratch = (s->shared + (size_t)cpu->threads * s->own) * sizeof(float);
    return EBM_OK;
}

static void filter_free(ebm_context *ctx, void *self)
{
    struct bf16_filter *s = self;

    mem_free(ctx, s->a_at);
    mem_free(ctx, s->b_at);
}

/* ---- run -------------------------------------------------------------- */

/* What a task adds up: blocks [begin, end) of output channels. */
struct stripe {
    int64_t begin, end;
    const bf16 *x;
    bf16 *y, *rows;
};

/* One tile of pixels of y: rows of pairs, then turned.  Zeros stand for pixels
 * beyond a line's end, and for the images that are missing in the last band. */
static void load_tile(const struct bf16_filter *s, const struct stripe *st, const struct part *part,
                      int64_t tile, const float *y)
{
    const struct problem *v = &s->v;
    const struct bf16_kernels *kernels = s->kernels;
    int64_t unit = part->unit + tile / s->chunks, pairs = s->images.together / 2;
    int64_t first = st->begin * BF16_BLOCK, k = least(st->end * BF16_BLOCK, v->k) - first;

    for (int64_t i = 0; i < BF16_ROWS; i++) {
        int64_t position = tile % s->chunks * BF16_ROWS + i, q = position / pairs;
        int64_t image = position % pairs * 2;
        bool inside = q < v->q && image < part->images;
        const float *one = y + (((part->image + image) * v->p + unit) * v->q + q) * v->k + first;
        const float *other = image + 1 < part->images ? one + v->p * v->q * v->k : NULL;
        bf16 *to = st->rows + i * s->row;
        kernels->pair(to, s->row_low ? to + s->row_low : NULL, inside ? one : y,
                      inside ? other : NULL, inside ? k : 0, s->row / 2);
    }
    for (int64_t j = 0; j < (st->end - st->begin) * 2; j++) {
        bf16 *to = st->y + (j * s->tiles + tile) * BF16_TILE, *from = st->rows + j * BF16_TERMS;
        kernels->turn(to, BF16_TERMS, from, s->row);
        if (s->y_low)
            kernels->turn(to + s->y_low, BF16_TERMS, from + s->row_low, s->row);
    }
}

static void add_band(const struct bf16_filter *s, const struct stripe *st, int64_t tiles,
                     float *sums, bool add)
{
    const struct problem *v = &s->v;
    struct bf16_sum sum = {
        .n = tiles, .a_at = s->a_at, .b_at = s->b_at,
        .a_row = BF16_TERMS, .a_second = s->tiles * BF16_TILE,
        .b_row = s->images.pixel, .b_second = 2 * BF16_COLUMNS,
        .a_low = s->y_low, .b_low = s->images.low,
        .c_row = BF16_BLOCK,
    };

    for (int64_t k = st->begin; k < st->end; k++)
        for (int64_t c = 0; c < s->c_blocks; c++)
            for (int64_t t = 0; t < s->taps; t++) {
                int64_t at = bf16_images_at(&s->images, t / v->s * v->dilation_y,
                                            t % v->s * v->dilation_x);
                sum.row_tiles = v->k - k * BF16_BLOCK > BF16_ROWS ? 2 : 1;
                sum.column_tiles = v->c - c * BF16_BLOCK > BF16_COLUMNS ? 2 : 1;
                s->kernels->multiply(&sum, st->y + (k - st->begin) * 2 * s->tiles * BF16_TILE,
                                     st->x + at + c * 2 * BF16_BLOCK,
                                     sums + ((k * s->c_blocks + c) * s->taps + t) * BF16_SPARE, add);
            }
}

/* All bands of a slot, one stripe; `bands`: x of all, loaded, or NULL. */
static void run_slot(const struct bf16_filter *s, int slot, int stripe, const float *x,
                     const float *bands, const float *y, float *sums, float *own)
{
    int64_t first = s->images.bands * slot / s->slots;
    int64_t last = s->images.bands * (slot + 1) / s->slots;
    struct stripe st = {
        .begin = s->k_blocks * stripe / s->stripes, .end = s->k_blocks * (stripe + 1) / s->stripes,
    };
    bf16 *x_own = (bf16 *)own;

    st.y = (bf16 *)(own + (bands ? 0 : s->band));
    st.rows = (bf16 *)((float *)st.y + bf16_floats(s->y_size));
    for (int64_t band = first; band < last; band++) {
        struct part part = bf16_images_part(&s->images, band);
        int64_t tiles = part.units * s->chunks;
        if (bands) {
            st.x = (const bf16 *)(bands + (size_t)band * s->band);
        } else {
            bf16_images_load(s->kernels, &s->images, &part, x, x_own);
            st.x = x_own;
        }
        for (int64_t tile = 0; tile < tiles; tile++)
            load_tile(s, &st, &part, tile, y);
        add_band(s, &st, tiles, sums, band > first);
    }
}

/* The slots' sums of one output channel and tap. */
static void collect(const struct bf16_filter *s, int64_t piece, const float *sums, float *f)
{
    const struct problem *v = &s->v;
    int64_t slot = (int64_t)line_up((size_t)s->sums), k = piece / s->taps, t = piece % s->taps;

    f += piece * v->c;
    for (int64_t c = 0; c < v->c; c += BF16_BLOCK) {
        int64_t n = least(BF16_BLOCK, v->c - c);
        const float *from = sums + ((k / BF16_BLOCK * s->c_blocks + c / BF16_BLOCK) * s->taps + t)
                            * BF16_SPARE + k % BF16_BLOCK * BF16_BLOCK;
        memcpy(f + c, from, (size_t)n * sizeof *f);
        for (int i = 1; i < s->slots; i++)
            for (int64_t j = 0; j < n; j++)
                f[c + j] += from[i * slot + j];
    }
}

static void run(const struct cpu *cpu, const void *self, const float *x, const float *y,
                float *out, float *packed, float *scratch, const struct epilogue *epilogue)
{
    const struct bf16_filter *s = self;
    size_t slot_size = line_up((size_t)s->sums);
    float *owned = scratch + s->shared;
    float *bands = s->stripes > 1 ? scratch + (size_t)s->slots * slot_size : NULL;
    int64_t pieces = s->v.k * s->taps, count = pieces * s->v.c;
    int threads = s->slots * s->stripes > 1 ? cpu->threads : 1;
    (void)packed;
    (void)threads;               /* without OpenMP nobody reads it */

    #pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int thread = thread_index();
        float *own = owned + (size_t)thread * s->own;

        #pragma omp for schedule(static)
        for (int64_t band = 0; band < (bands ? s->images.bands : 0); band++) {
            struct part part = bf16_images_part(&s->images, band);
            bf16_images_load(s->kernels, &s->images, &part, x, (bf16 *)(bands + (size_t)band * s->band));
        }
        s->kernels->begin();
        #pragma omp for schedule(dynamic)
        for (int i = 0; i < s->slots * s->stripes; i++) {
            int slot = i / s->stripes;
            run_slot(s, slot, i % s->stripes, x, bands, y, scratch + (size_t)slot * slot_size, own);
        }
        s->kernels->end();
        #pragma omp for schedule(static)
        for (int64_t piece = 0; piece < pieces; piece++)
            collect(s, piece, scratch, out);
        /* Only now is anything complete. */
        #pragma omp for schedule(dynamic)
        for (int64_t begin = 0; begin < (epilogue ? count : 0); begin += RANGE)
            epilogue->run(epilogue->self, begin, least(begin + RANGE, count), thread);
    }
}

/* ---- when it applies --------------------------------------------------- */

static bool applies(const struct problem *v)
{
    int64_t c = divide_up(v->c, BF16_COLUMNS) * BF16_COLUMNS;
    int64_t k = divide_up(v->k, BF16_ROWS) * BF16_ROWS;

    return v->op == OP_CONV_FILTER
        && v->groups == 1
        && bf16_pays(v, c * k, v->c * v->k);
}

const struct algorithm conv_bf16_filter = {
    "bf16 filter", applies, plan, run, filter_free, sizeof(struct bf16_filter),
};
