/* lower_winograd.c - CONV and CONV_DATA with 3x3 filters by Winograd's algorithm.
 *
 * SPDX-License-Identifier: ISC
 *
 *     x --B'dB--> V[point][tile][depth]  \
 *                                         > M[point][tile][column] --A'MA--> y
 *     f --GgG'--> U[point][k][c]         /
 *
 * Three kinds of dispatches by winograd.comp, and products by gemm.comp, all in
 * scratch.  CONV_DATA is the convolution of y with filters turned by half a turn.  The
 * tiles go by in blocks, so that V and M take little memory, and that of the cache.  An
 * epilogue is done as y is written.  U is made once for several runs in a row, if
 * nothing in the program changes f. */
#include "lower.h"

enum { DATA, FILTER, RESULT };           /* as in winograd.comp */
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
    int m, points;
    int64_t h, w, depth;                 /* what is read */
    int64_t out_h, out_w, columns;
    int64_t down, across, tiles;
    int64_t first_y, first_x;            /* the pixel that the first tile sees first */
    int64_t block;                       /* tiles at once */
    bool lasts;                          /* is U kept for several runs? */
    struct span u, v, m_span;
};

static size_t point_bytes(const struct winograd *s, int64_t rows, int64_t columns)
{
    size_t bytes = (size_t)(s->points * rows * columns) * sizeof(float);

    return (bytes + SCRATCH_ALIGN - 1) / SCRATCH_ALIGN * SCRATCH_ALIGN;
}

static void set_tiles(const struct lowering *l, int m, struct winograd *s)
{
    int64_t floats = (int64_t)(l->program->vk->winograd.block / sizeof(float));
    bool data = l->node->op == OP_CONV_DATA;
    const struct shape *x = l->shape[0], *y = &l->node->shape;
    const ebm_conv_spec *spec = &l->node->attr.conv;

    *s = (struct winograd){ .m = m, .points = (m + 2) * (m + 2), .h = x->n[1], .w = x->n[2], .depth = x->n[3],
        .out_h = y->n[1], .out_w = y->n[2], .columns = y->n[3],
        .first_y = data ? spec->pad[0] - 2 : -spec->pad[0], .first_x = data ? spec->pad[1] - 2 : -spec->pad[1] };
    s->down = (s->out_h + m - 1) / m;
    s->across = (s->out_w + m - 1) / m;
    s->tiles = y->n[0] * s->down * s->across;
    int64_t most = floats / (s->points * (s->depth + s->columns)) / LEAST_TILES * LEAST_TILES;
    most = most > LEAST_TILES ? most : LEAST_TILES;
    int64_t blocks = (s->tiles + most - 1) / most;           /* of about one size */
    s->block = ((s->tiles + blocks - 1) / blocks + LEAST_TILES - 1) / LEAST_TILES * LEAST_TILES;
    s->block = s->block < s->tiles ? s->block : s->tiles;
    s->lasts = l->filter_lasts && has_lasting(l->program, point_bytes(s, s->depth, s->columns));
}

static size_t scratch_bytes(const struct winograd *s)
{
    return point_bytes(s, s->block, s->depth) + point_bytes(s, s->block, s->columns)
         + (s->lasts ? 0 : point_bytes(s, s->depth, s->columns));
}

/* Operations, counting bytes: of each tile the pixels, points written and read again. */
static double work_of(const struct winograd *s)
{
    double depth = (double)s->depth, columns = (double)s->columns, points = s->points;
    double elements = (s->m * s->m + 2 * points) * (depth + columns);

    return (double)s->tiles * (2 * points * depth * columns + BYTE_WORK * sizeof(float) * elements)
         + BYTE_WORK * sizeof(float) * (9 + 2 * points) * depth * columns / (s->lasts ? RUNS : 1);
}

static bool applies(const struct lowering *l)
{
    const ebm_conv_spec *spec = &l->node->attr.conv;

    return (l->node->op == OP_CONV || l->node->op == OP_CONV_DATA)
        && l->shape[1]->n[1] == 3 && l->shape[1]->n[2] == 3  /* as the transforms are */
        && spec->stride[0] == 1 && spec->stride[1] == 1
        && spec->dilation[0] == 1 && spec->dilation[1] == 1
        && spec->groups == 1
        && l->shape[0]->n[3] >= LEAST_CHANNELS && l->node->shape.n[3] >= LEAST_CHANNELS;
}

int winograd_size(const struct lowering *l)
{
    const struct vk *vk = l->program->vk;
    int best = 0;

    if (!applies(l) || shape_count(&l->node->shape) == 0)
        return 0;
    double least = vk->winograd.share * 18.0 * (double)shape_count(&l->node->shape) * (double)l->shape[0]->n[3];
    for (int m = 2; m <= 4; m += 2) {
        struct winograd s;
        set_tiles(l, m, &s);
        if (work_of(&s) < least && scratch_bytes(&s) + l->program->held <= vk->limits.operand) {
            least = work_of(&s);
            best = m;
        }
    }
    return best;
}

/* ---- dispatches ---- */

static void put_params(const struct winograd *s, int64_t count, int64_t channels, int64_t tile,
                       bool result, struct draft_dispatch *d)
{
    const int64_t params[] = { count, channels, tile, s->down, s->across,
        result ? s->out_h : s->h, result ? s->out_w : s->w, result ? 0 : s->first_y, result ? 0 : s->first_x };

    for (size_t i = 0; i < COUNT(params); i++)
        draft_param(d, params[i]);
    draft_count(d, count);
}

static void put_constants(const struct winograd *s, uint32_t kind, bool stored, bool rounded, bool turned,
                          struct draft_dispatch *d)
{
    draft_constant(d, kind);
    draft_constant(d, (uint32_t)s->m);
    draft_constant(d, stored);
    draft_constant(d, rounded);
    draft_constant(d, turned);
}

static int emit_filter(const struct lowering *l, const struct winograd *s, bool rounded)
{
    struct draft_dispatch d = { .shader = SHADER_WINOGRAD };

    d.operands[0] = l->in[1];
    d.operands[2] = written(s->u);
    d.once = s->lasts;
    put_constants(s, FILTER, true, rounded, l->node->op == OP_CONV_DATA, &d);
    put_params(s, s->depth * s->columns, l->shape[1]->n[3], 0, false, &d);
    return draft_emit(l->program, &d);
}

static int emit_data(const struct lowering *l, const struct winograd *s, int64_t first, int64_t n, bool rounded)
{
    struct draft_dispatch d = { .shader = SHADER_WINOGRAD };

    d.operands[0] = l->in[0];
    d.operands[2] = written(s->v);
    put_constants(s, DATA, true, rounded, false, &d);
    put_params(s, n * s->depth, s->depth, first, false, &d);
    return draft_emit(l->program, &d);
}

static int emit_result(const struct lowering *l, const struct winograd *s, int64_t first, int64_t n)
{
    struct draft_dispatch d = { .shader = SHADER_WINOGRAD };
    bool stored = !l->epilogue || l->step->stored;

    d.operands[0] = s->m_span;
    if (stored)
        d.operands[2] = l->out;
    put_constants(s, RESULT, stored, false, false, &d);
    put_params(s, n * s->columns, s->columns, first, true, &d);
    if (l->epilogue)
        group_append(l->program, l->epilogue, BEHIND_WINOGRAD, &d);
    return draft_emit(l->program, &d);
}

int lower_winograd(const struct lowering *l, int size, bool rounded)
{
    struct winograd s;
    int rc;

    set_tiles(l, size, &s);
    s.u = s.v = s.m_span = span_scratch(l->program, scratch_bytes(&s));
    s.v.size = point_bytes(&s, s.block, s.depth);
    s.m_span.size = point_bytes(&s, s.block, s.columns);
    s.u.size = point_bytes(&s, s.depth, s.columns);
    s.m_span.offset += s.v.size;
    s.u.offset = s.m_span.offset + s.m_span.size;
    if (s.lasts)
        s.u = span_lasting(l->program, s.u.size);
    rc = emit_filter(l, &s, rounded);
    for (int64_t first = 0, n; first < s.tiles && rc >= 0; first += n) {
        n = s.tiles - first < s.block ? s.tiles - first : s.block;
        const struct point_products q = { .points = s.points, .tiles = n, .depth = s.depth, .columns = s.columns,
            .v = s.v, .u = s.u, .m = s.m_span, .turned = l->node->op == OP_CONV_DATA };
        if ((rc = emit_data(l, &s, first, n, rounded)) >= 0 && (rc = lower_points(l->program, &q)) >= 0)
            rc = emit_result(l, &s, first, n);
    }
    return rc;
}
