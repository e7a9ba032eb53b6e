/* lower_winograd.c - convolutions with 3x3 filters by Winograd's algorithm.
 *
 * SPDX-License-Identifier: ISC
 *
 * CONV and CONV_DATA, which is the convolution of y with filters turned by half a turn:
 *
 *     x --B'dB--> V[point][tile][depth]  \
 *                                         > M[point][tile][column] --A'MA--> y
 *     f --GgG'--> U[point][k][c]         /
 *
 * CONV_FILTER:
 *
 *     x --B'dB--> V[point][tile][c]  \
 *                                     > U[point][k][c] --G'UG--> f
 *     y --AyA'--> W[point][tile][k]  /
 *
 * Transforms are winograd.comp's, products gemm.comp's, all in scratch.  The tiles go by
 * in blocks, so that what belongs to tiles takes little memory, and that of the cache;
 * smaller ones where memory is short, and where it is too short the definition serves.
 * An epilogue is done as y is written.  U of a filter is made once for several runs in
 * a row, if nothing in the program changes f; U of a gradient is a sum over blocks. */
#include "lower.h"

enum { DATA, FILTER, RESULT, SPREAD, GATHER };   /* as in winograd.comp, */
enum { KIND, SIZE, STORED, ROUNDED, TURNED, CONSTANTS };     /* by constant_id */
enum {
    LEAST_TILES = 64,                    /* of a block, if there are more */
    LEAST_CHANNELS = 16,
    SCRATCH_ALIGN = 256
};

/* What is moved counts as work: a GPU does so many operations of gemm.comp in the time
 * of a byte (5 Tflop/s at 350 GB/s, or 0.6 at 45: both about that). */
static const double BYTE_WORK = 14;
/* Runs in a row: steps of Langevin dynamics, between which filters stay what they are. */
static const double RUNS = 10;

struct winograd {
    bool gradient;                       /* of the filter */
    int m, points;
    int64_t h, w, depth;                 /* the images d that tiles overlap in */
    int64_t out_h, out_w, columns;       /* those that tiles fill: y, but for CONV_DATA */
    int64_t down, across, tiles;
    int64_t first_y, first_x;            /* the pixel of d that the first tile sees first */
    int64_t block, blocks;               /* tiles at once */
    bool lasts;                          /* is U kept for several runs? */
    int64_t sums;                        /* of a gradient: blocks' sums that are kept at once */
    struct span u, v, of_columns;        /* M or W */
};

/* The filter's shape, and that of the images which tiles fill. */
static const struct shape *filter_of(const struct lowering *l)
{
    return l->node->op == OP_CONV_FILTER ? &l->node->shape : l->shape[1];
}

static const struct shape *filled_by(const struct lowering *l)
{
    return l->node->op == OP_CONV_FILTER ? l->shape[1] : &l->node->shape;
}

static size_t point_bytes(const struct winograd *s, int64_t rows, int64_t columns)
{
    size_t bytes = (size_t)(s->points * rows * columns) * sizeof(float);

    return (bytes + SCRATCH_ALIGN - 1) / SCRATCH_ALIGN * SCRATCH_ALIGN;
}

static void set_blocks(struct winograd *s, size_t bytes)
{
    int64_t most = (int64_t)(bytes / sizeof(float)) / (s->points * (s->depth + s->columns));

    most = most > LEAST_TILES ? most / LEAST_TILES * LEAST_TILES : LEAST_TILES;
    s->blocks = (s->tiles + most - 1) / most;            /* of about one size */
    s->block = ((s->tiles + s->blocks - 1) / s->blocks + LEAST_TILES - 1) / LEAST_TILES * LEAST_TILES;
    s->block = s->block < s->tiles ? s->block : s->tiles;
    s->blocks = (s->tiles + s->block - 1) / s->block;
}

static size_t scratch_bytes(const struct winograd *s)
{
    return point_bytes(s, s->block, s->depth) + point_bytes(s, s->block, s->columns)
         + (s->lasts ? 0 : (size_t)s->sums * point_bytes(s, s->depth, s->columns));
}

/* What of it there is. */
static size_t scratch_room(const struct device_program *p)
{
    size_t most = p->spare.scratch < p->vk->limits.operand ? p->spare.scratch : p->vk->limits.operand;

    return most > p->held ? most - p->held : 0;
}

/* Blocks, and sums of gradients, of about so many bytes. */
static void set_memory(struct winograd *s, size_t bytes)
{
    set_blocks(s, bytes);
    s->sums = 1;
    if (s->gradient && s->blocks > 1) {
        s->sums = (int64_t)(bytes / point_bytes(s, s->depth, s->columns));
        s->sums = s->sums < 2 ? 2 : s->sums < s->blocks ? s->sums : s->blocks;
    }
}

static void set_tiles(const struct lowering *l, int m, struct winograd *s)
{
    bool data = l->node->op == OP_CONV_DATA;
    const struct shape *x = l->shape[0], *y = filled_by(l);
    const ebm_conv_spec *spec = &l->node->attr.conv;
    size_t bytes = l->program->vk->winograd.block;

    *s = (struct winograd){ .gradient = l->node->op == OP_CONV_FILTER, .m = m, .points = (m + 2) * (m + 2),
        .h = x->n[1], .w = x->n[2], .depth = x->n[3],
        .out_h = y->n[1], .out_w = y->n[2], .columns = y->n[3],
        .first_y = data ? spec->pad[0] - 2 : -spec->pad[0], .first_x = data ? spec->pad[1] - 2 : -spec->pad[1] };
    s->down = (s->out_h + m - 1) / m;
    s->across = (s->out_w + m - 1) / m;
    s->tiles = y->n[0] * s->down * s->across;
    s->lasts = !s->gradient && l->filter_lasts && has_lasting(l->program, point_bytes(s, s->depth, s->columns));
    set_memory(s, bytes);
    while (scratch_bytes(s) > scratch_room(l->program) && s->block > LEAST_TILES)
        set_memory(s, bytes /= 2);
}

/* Operations, counting bytes: of each tile the pixels, points written and read again;
 * of U likewise, in a gradient for each block. */
static double work_of(const struct winograd *s)
{
    double depth = (double)s->depth, columns = (double)s->columns, points = s->points;
    double elements = (s->m * s->m + 2 * points) * (depth + columns);
    double times = s->gradient ? (double)s->blocks : s->lasts ? 1 / RUNS : 1;

    return (double)s->tiles * (2 * points * depth * columns + BYTE_WORK * sizeof(float) * elements)
         + BYTE_WORK * sizeof(float) * (9 + 2 * points) * depth * columns * times;
}

static bool applies(const struct lowering *l)
{
    const ebm_conv_spec *spec = &l->node->attr.conv;

    return l->node->op != OP_MATMUL
        && filter_of(l)->n[1] == 3 && filter_of(l)->n[2] == 3        /* as the transforms are */
        && spec->stride[0] == 1 && spec->stride[1] == 1
        && spec->dilation[0] == 1 && spec->dilation[1] == 1
        && spec->groups == 1
        && l->shape[0]->n[3] >= LEAST_CHANNELS && filled_by(l)->n[3] >= LEAST_CHANNELS;
}

int winograd_size(const struct lowering *l)
{
    int best = 0;

    if (!applies(l) || shape_count(filled_by(l)) == 0)
        return 0;
    double least = l->program->vk->winograd.share * 18.0 * (double)shape_count(filled_by(l)) * (double)l->shape[0]->n[3];
    for (int m = 2; m <= 4; m += 2) {
        struct winograd s;
        set_tiles(l, m, &s);
        if (work_of(&s) < least && scratch_bytes(&s) <= scratch_room(l->program)) {
            least = work_of(&s);
            best = m;
        }
    }
    return best;
}

/* ---- dispatches ---- */

/* Is the transform one of tiles that fill their images? */
static bool fills(uint32_t kind)
{
    return kind == RESULT || kind == SPREAD;
}

/* A transform of `count` elements for each point, of `channels`; of tiles from `first` on. */
static struct draft_dispatch draft(const struct winograd *s, uint32_t kind, struct span from, struct span to,
                                   int64_t count, int64_t channels, int64_t first)
{
    const uint32_t constants[CONSTANTS] = { [KIND] = kind, [SIZE] = (uint32_t)s->m, [STORED] = true };
    const int64_t params[] = { count, channels, first, s->down, s->across,
        fills(kind) ? s->out_h : s->h, fills(kind) ? s->out_w : s->w,
        fills(kind) ? 0 : s->first_y, fills(kind) ? 0 : s->first_x };
    struct draft_dispatch d = { .shader = SHADER_WINOGRAD };

    d.operands[0] = from;
    d.operands[2] = written(to);
    for (size_t i = 0; i < COUNT(constants); i++)
        draft_constant(&d, constants[i]);
    for (size_t i = 0; i < COUNT(params); i++)
        draft_param(&d, params[i]);
    draft_count(&d, count);
    return d;
}

static int emit_filter(const struct lowering *l, const struct winograd *s, bool rounded)
{
    struct draft_dispatch d = draft(s, FILTER, l->in[1], s->u, s->depth * s->columns, l->shape[1]->n[3], 0);

    d.once = s->lasts;
    d.constants[ROUNDED] = rounded;
    d.constants[TURNED] = l->node->op == OP_CONV_DATA;
    return draft_emit(l->program, &d);
}

static int emit_data(const struct lowering *l, const struct winograd *s, int64_t first, int64_t n, bool rounded)
{
    struct draft_dispatch d = draft(s, DATA, l->in[0], s->v, n * s->depth, s->depth, first);

    d.constants[ROUNDED] = rounded;
    return draft_emit(l->program, &d);
}

static int emit_result(const struct lowering *l, const struct winograd *s, int64_t first, int64_t n)
{
    struct draft_dispatch d = draft(s, RESULT, s->of_columns, l->out, n * s->columns, s->columns, first);

    if (l->epilogue && !l->step->stored) {
        d.operands[2] = (struct span){ 0 };
        d.constants[STORED] = false;
    }
    if (l->epilogue)
        group_append(l->program, l->epilogue, BEHIND_WINOGRAD, &d);
    return draft_emit(l->program, &d);
}

static int lower_images(const struct lowering *l, const struct winograd *s, bool rounded)
{
    int rc = emit_filter(l, s, rounded);

    for (int64_t first = 0, n; first < s->tiles && rc >= 0; first += n) {
        n = s->tiles - first < s->block ? s->tiles - first : s->block;
        const struct point_products q = { .points = s->points, .rows = n, .depth = s->depth,
            .columns = s->columns, .a = s->v, .b = s->u, .to = s->of_columns,
            .b_turned = l->node->op == OP_CONV_DATA };
        if ((rc = emit_data(l, s, first, n, rounded)) >= 0 && (rc = lower_points(l->program, &q)) >= 0)
            rc = emit_result(l, s, first, n);
    }
    return rc;
}

/* Sums of blocks side by side, as many as are kept; these become one, which takes the
 * place of the first. */
static int lower_gradient(const struct lowering *l, const struct winograd *s, bool rounded)
{
    int64_t results = s->points * s->depth * s->columns, sums = 0;
    struct span all = s->u, one = s->u;
    int rc = EBM_OK;

    one.size = (size_t)results * sizeof(float);
    for (int64_t first = 0, n; first < s->tiles && rc >= 0; first += n) {
        n = s->tiles - first < s->block ? s->tiles - first : s->block;
        if (sums == s->sums) {
            rc = lower_parts(l->program, all, written(one), results, sums, false);
            sums = 1;
        }
        struct span to = one;
        to.offset += (size_t)sums++ * one.size;
        struct draft_dispatch d = draft(s, SPREAD, l->in[1], s->of_columns, n * s->columns, s->columns, first);
        const struct point_products q = { .points = s->points, .rows = s->columns, .depth = n,
            .columns = s->depth, .a = s->of_columns, .b = s->v, .to = to, .a_turned = true, .b_turned = true };
        d.constants[ROUNDED] = rounded;
        if (rc >= 0 && (rc = emit_data(l, s, first, n, rounded)) >= 0
            && (rc = draft_emit(l->program, &d)) >= 0)
            rc = lower_points(l->program, &q);
    }
    all.size = (size_t)sums * one.size;
    if (rc >= 0 && sums > 1)
        rc = lower_parts(l->program, all, written(one), results, sums, false);
    struct draft_dispatch d = draft(s, GATHER, one, l->out, s->depth * s->columns, s->depth, 0);
    return rc < 0 ? rc : draft_emit(l->program, &d);
}

int lower_winograd(const struct lowering *l, int size, bool rounded)
{
    struct winograd s;

    set_tiles(l, size, &s);
    s.u = s.v = s.of_columns = span_scratch(l->program, scratch_bytes(&s));
    s.v.size = point_bytes(&s, s.block, s.depth);
    s.of_columns.size = point_bytes(&s, s.block, s.columns);
    s.u.size = (size_t)s.sums * point_bytes(&s, s.depth, s.columns);
    s.of_columns.offset += s.v.size;
    s.u.offset = s.of_columns.offset + s.of_columns.size;
    if (s.lasts)
        s.u = span_lasting(l->program, s.u.size);
    return s.gradient ? lower_gradient(l, &s, rounded) : lower_images(l, &s, rounded);
}
