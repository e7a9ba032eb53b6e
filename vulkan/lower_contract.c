/* lower_contract.c - MATMUL and the convolutions, as products for gemm.comp, or
 * gemm_matrix.comp.
 *
 * SPDX-License-Identifier: ISC
 *
 * A tile of the result is a workgroup's.  Where tiles are few and k is long - a
 * filter's gradient, a last linear layer - k is cut into parts that reduce.comp
 * adds.  The cut depends on shapes alone, so a device repeats its bits. */
#include "lower.h"

enum role { MATMUL, CONV, CONV_DATA, CONV_FILTER };   /* as in contract.glsl */
enum {
    TILE = 64, NARROW = 16,  /* rows or columns of a tile */
    DEPTH = 16,              /* of a panel */
    TILES_WANTED = 256,      /* to keep a GPU busy */
    PART_LEAST = 256,        /* terms worth a part of their own */
    PARTS_MOST = 64,
    PART_LARGEST = DEPTH << 15           /* software drivers stop a loop after 65,535 turns */
};

struct product {
    enum role role;
    int64_t M, N, K, batches;
    int64_t a_m, a_k, a_z, b_n, b_k, b_z, c_m, c_z;   /* strides */
    bool a_along, b_along;
    int64_t image[3], grid[2], taps, channels;        /* what is gathered */
    int64_t c, k;            /* channels of convolutions' images x and y */
    int64_t results;
};

static void set_matmul(const struct lowering *l, struct product *v)
{
    const struct shape *a = l->shape[0], *y = &l->node->shape;
    bool ta = l->node->attr.matmul.ta, tb = l->node->attr.matmul.tb;
    int r = y->rank;

    v->role = MATMUL;
    v->M = y->n[r - 2];
    v->N = y->n[r - 1];
    v->K = a->n[ta ? r - 2 : r - 1];
    v->batches = r == 3 ? y->n[0] : 1;
    v->a_m = ta ? 1 : v->K;
    v->a_k = ta ? v->M : 1;
    v->a_z = v->M * v->K;
    v->b_n = tb ? v->K : 1;
    v->b_k = tb ? 1 : v->N;
    v->b_z = v->K * v->N;
    v->c_m = v->N;
    v->c_z = v->M * v->N;
    v->a_along = !ta;
    v->b_along = tb;
}

static void set_conv(const struct lowering *l, struct product *v)
{
    enum op op = l->node->op;
    const struct shape *y = op == OP_CONV ? &l->node->shape : op == OP_CONV_DATA ? l->shape[0] : l->shape[1];
    const struct shape *x = op == OP_CONV_DATA ? &l->node->shape : l->shape[0];
    const struct shape *f = op == OP_CONV_FILTER ? &l->node->shape : l->shape[1];
    int64_t groups = l->node->attr.conv.groups, Kt = f->n[0], Kg = Kt / groups;
    int64_t RS = f->n[1] * f->n[2], Cg = f->n[3], C = x->n[3];
    const struct shape *image = op == OP_CONV_DATA ? y : x, *grid = op == OP_CONV_DATA ? x : y;

    v->batches = groups;
    v->c = C;
    v->k = Kt;
    v->taps = f->n[2];
    v->channels = op == OP_CONV_DATA ? Kg : Cg;
    for (int i = 0; i < 3; i++)
        v->image[i] = image->n[i + 1];
    for (int i = 0; i < 2; i++)
        v->grid[i] = grid->n[i + 1];
    int64_t positions = grid->n[0] * grid->n[1] * grid->n[2];
    if (op == OP_CONV) {
        v->role = CONV;
        v->M = positions, v->N = Kg, v->K = RS * Cg;
        v->a_z = Cg;
        v->b_n = RS * Cg, v->b_k = 1, v->b_z = Kg * RS * Cg;
        v->c_m = Kt, v->c_z = Kg;
        v->a_along = v->b_along = true;
    } else if (op == OP_CONV_DATA) {
        v->role = CONV_DATA;
        v->M = positions, v->N = Cg, v->K = RS * Kg;
        v->a_z = Kg;
        v->b_n = Cg, v->b_k = RS * Cg, v->b_z = Kg * RS * Cg;
        v->c_m = C, v->c_z = Cg;
        v->a_along = true;
    } else {
        v->role = CONV_FILTER;
        v->M = Kg, v->N = RS * Cg, v->K = positions;
        v->a_m = 1, v->a_k = Kt, v->a_z = Kg;
        v->b_z = Cg;
        v->c_m = RS * Cg, v->c_z = Kg * RS * Cg;
    }
}

static int64_t tile_of(int64_t n)
{
    return n <= NARROW ? NARROW : TILE;
}

/* How a product is cut: tiles, and parts of k. */
struct tiling {
    int64_t BM, BN, tiles, part, parts;
};

static struct tiling tiling_of(const struct product *v)
{
    struct tiling t = { .BM = tile_of(v->M), .BN = tile_of(v->N), .parts = 1 };

    t.tiles = ((v->M + t.BM - 1) / t.BM) * ((v->N + t.BN - 1) / t.BN) * v->batches;
    while (v->K / t.parts > PART_LARGEST || (2 * t.parts * t.tiles <= TILES_WANTED
           && 2 * t.parts <= PARTS_MOST && v->K / (2 * t.parts) >= PART_LEAST))
        t.parts *= 2;
    t.part = ((v->K + t.parts - 1) / t.parts + DEPTH - 1) / DEPTH * DEPTH;
    t.parts = (v->K + t.part - 1) / t.part;
    return t;
}

static void set_product(const struct lowering *l, struct product *v)
{
    v->results = shape_count(&l->node->shape);
    if (l->node->op == OP_MATMUL)
        set_matmul(l, v);
    else
        set_conv(l, v);
}

static bool rounds(const struct lowering *l, const struct product *v)
{
    const ebm_conv_spec *spec = &l->node->attr.conv;

    if (l->precision != EBM_BF16)
        return false;
    if (v->role == MATMUL)
        return !l->node->attr.matmul.full && rounds_to_bf16(1, v->K, v->N);
    return rounds_to_bf16(spec->groups, v->c, v->k);
}

/* Is it rounded and wide enough for tiles of cooperative matrices?  By the data sheets of
 * GPUs these multiply 2 to 15 times as fast as float32 is; Winograd's algorithm, which
 * saves up to three quarters of the multiplications, moves more for it, and is left. */
static bool by_matrices(const struct lowering *l, const struct product *v)
{
    return l->program->vk->matrix.m && rounds(l, v)
        && tile_of(v->M) == MATRIX_TILE && tile_of(v->N) == MATRIX_TILE;
}

bool contract_takes(const struct lowering *l, const struct ew_group *g)
{
    const struct vk *vk = l->program->vk;
    struct product v = { 0 };

    set_product(l, &v);
    bool matrices = by_matrices(l, &v);
    if (!matrices && winograd_size(l))
        return group_behind(vk, g, BEHIND_WINOGRAD);
    return group_behind(vk, g, tiling_of(&v).parts > 1 ? BEHIND_REDUCE : matrices ? BEHIND_MATRIX : BEHIND_GEMM);
}

/* Constants and parameters of all but an epilogue, and of cooperative matrices. */
static void put_product(const struct product *v, const struct tiling *t, bool stored, bool rounded,
                        const ebm_conv_spec *spec, struct draft_dispatch *d)
{
    const uint32_t constants[] = { v->role, (uint32_t)t->BM, (uint32_t)t->BN, v->a_along, v->b_along,
        stored, rounded };
    const int64_t params[] = { v->M, v->N, v->K, t->part, t->parts, v->batches, v->a_m, v->a_k, v->a_z,
        v->b_n, v->b_k, v->b_z, v->c_m, v->c_z, v->results, v->image[0], v->image[1], v->image[2],
        v->grid[0], v->grid[1], v->taps, v->channels };

    for (size_t i = 0; i < COUNT(constants); i++)
        draft_constant(d, constants[i]);
    for (size_t i = 0; i < COUNT(params); i++)
        draft_param(d, params[i]);
    for (int i = 0; i < 6; i++)
        draft_param(d, !spec ? 0 : i < 2 ? spec->stride[i] : i < 4 ? spec->pad[i - 2] : spec->dilation[i - 4]);
    d->groups = (uint64_t)(t->tiles * t->parts);
    d->work = 2.0 * (double)v->K * (double)(t->tiles * t->BM * t->BN);
}

static void put_matrices(const struct matrices *x, struct draft_dispatch *d)
{
    const uint32_t constants[] = { x->m, x->n, x->k, x->down, x->across };

    for (size_t i = 0; i < COUNT(constants); i++)
        draft_constant(d, constants[i]);
}

int lower_contract(const struct lowering *l)
{
    struct product v = { 0 };
    struct draft_dispatch d = { .shader = SHADER_GEMM };
    bool stored = true;
    struct span out = l->out;
    int rc, size;

    set_product(l, &v);
    bool matrices = by_matrices(l, &v);
    if (!matrices && (size = winograd_size(l)))
        return lower_winograd(l, size, rounds(l, &v));
    struct tiling t = tiling_of(&v);
    if (t.parts > 1)
        out = written(span_scratch(l->program, (size_t)(v.results * t.parts) * sizeof(float)));
    else if (l->epilogue)
        stored = l->step->stored;
    d.operands[0] = l->in[v.role == CONV_FILTER];     /* A is y, B is of x */
    d.operands[1] = l->in[v.role != CONV_FILTER];
    if (stored)
        d.operands[2] = out;
    put_product(&v, &t, stored, rounds(l, &v), v.role == MATMUL ? NULL : &l->node->attr.conv, &d);
    if (matrices) {
        d.shader = SHADER_MATRIX;
        put_matrices(&l->program->vk->matrix, &d);
    }
    if (l->epilogue && t.parts == 1)
        group_append(l->program, l->epilogue, matrices ? BEHIND_MATRIX : BEHIND_GEMM, &d);
    if ((rc = draft_emit(l->program, &d)) < 0 || t.parts == 1)
        return rc;
    out.write = false;
    return lower_parts_of(l, out, v.results, t.parts);
}

/* Points are enough to keep a GPU busy: k is not split. */
int lower_points(struct device_program *p, const struct point_products *q)
{
    struct product v = { .role = MATMUL, .M = q->rows, .N = q->columns, .K = q->depth, .batches = q->points,
        .a_m = q->a_turned ? 1 : q->depth, .a_k = q->a_turned ? q->rows : 1,
        .a_z = q->rows * q->depth, .a_along = !q->a_turned,
        .b_n = q->b_turned ? 1 : q->depth, .b_k = q->b_turned ? q->columns : 1,
        .b_z = q->columns * q->depth, .b_along = !q->b_turned,
        .c_m = q->columns, .c_z = q->rows * q->columns, .results = q->points * q->rows * q->columns };
    struct draft_dispatch d = { .shader = SHADER_GEMM, .operands = { q->a, q->b, written(q->to) } };
    struct tiling t = { .BM = tile_of(v.M), .BN = tile_of(v.N), .part = (v.K + DEPTH - 1) / DEPTH * DEPTH,
                        .parts = 1 };

    t.tiles = ((v.M + t.BM - 1) / t.BM) * ((v.N + t.BN - 1) / t.BN) * v.batches;
    put_product(&v, &t, true, false, NULL, &d);
    return draft_emit(p, &d);
}
