/* lower_move.c - operations that move elements or rows, and random numbers.
 *
 * SPDX-License-Identifier: ISC */
#include "lower.h"

/* Strides and first elements of the box of operand i; see move.comp. */
struct box {
    int64_t n[EBM_MAX_RANK], from[EBM_MAX_RANK], to[EBM_MAX_RANK];
    int64_t first_from, first_to;
};

static void set_box(const struct lowering *l, const struct shape *x, int64_t before, struct box *b)
{
    const union attr *attr = &l->node->attr;
    const struct shape *y = &l->node->shape;
    int64_t stride[EBM_MAX_RANK];

    strides_of(x, stride);
    strides_of(y, b->to);
    for (int a = 0; a < y->rank; a++) {
        b->n[a] = l->node->op == OP_CONCAT ? x->n[a] : y->n[a];
        b->from[a] = stride[a];
        switch (l->node->op) {
        case OP_BROADCAST:
            b->from[a] = x->n[a] == 1 ? 0 : stride[a];
            break;
        case OP_TRANSPOSE:
            b->from[a] = stride[attr->perm[a]];
            break;
        case OP_SLICE:
            b->first_from += attr->box.begin[a] * stride[a];
            b->from[a] = stride[a] * attr->box.step[a];
            break;
        case OP_FLIP:
            if (attr->axes >> a & 1) {
                b->first_from += (y->n[a] - 1) * stride[a];
                b->from[a] = -stride[a];
            }
            break;
        case OP_CONCAT:
            if (a == attr->axis)
                b->first_to = before * b->to[a];
            break;
        default:                                      /* PAD: see below */
            break;
        }
    }
}

static int emit_box(const struct lowering *l, struct span from, const struct shape *x, int64_t before)
{
    const struct node *y = l->node;
    struct draft_dispatch d = { .shader = SHADER_MOVE };
    struct box b = { .first_from = 0 };
    int64_t count = y->op == OP_CONCAT ? shape_count(x) : shape_count(&y->shape);
    int rank = y->shape.rank;

    set_box(l, x, before, &b);
    d.operands[0] = from;
    d.operands[2] = l->out;
    draft_constant(&d, y->type == EBM_U8);
    draft_constant(&d, y->op == OP_PAD);
    draft_param(&d, count);
    draft_param(&d, b.first_from);
    draft_param(&d, b.first_to);
    draft_axes(&d, rank, b.n, 1);
    draft_axes(&d, rank, b.from, 0);
    draft_axes(&d, rank, b.to, 0);
    if (y->op == OP_PAD) {
        draft_axes(&d, rank, y->attr.box.begin, 0);
        draft_axes(&d, rank, y->attr.box.step, 1);
        draft_axes(&d, rank, x->n, 1);
    }
    draft_count(&d, count);
    return draft_emit(l->program, &d);
}

/* Where a part of a CONCAT belongs, if its elements lie side by side there. */
static bool set_part(const struct lowering *l, int64_t before, struct span *part)
{
    const struct node *y = l->node;
    int64_t stride[EBM_MAX_RANK];

    for (int a = 0; a < y->attr.axis; a++)
        if (y->shape.n[a] != 1)
            return false;
    strides_of(&y->shape, stride);
    part->buffer = l->out.buffer;
    part->offset = l->out.offset + (size_t)(before * stride[y->attr.axis]) * type_size(y->type);
    return true;
}

/* Parts that lie there already are not copied. */
int lower_move(const struct lowering *l)
{
    int64_t before = 0;

    if (l->node->op != OP_CONCAT)
        return emit_box(l, l->in[0], l->shape[0], 0);
    for (int i = 0; i < l->n_in; i++) {
        const struct shape *x = &node_of(l->graph, operand(l->node, i))->shape;
        struct span from = span_at(l->program, &l->step->in[i],
                                   (size_t)shape_count(x) * type_size(l->node->type)), part = from;
        int rc = set_part(l, before, &part) ? emit_copy(l->program, from, part) : emit_box(l, from, x, before);
        if (rc < 0)
            return rc;
        before += x->n[l->node->attr.axis];
    }
    return EBM_OK;
}

int lower_random(const struct lowering *l)
{
    const struct node *y = l->node;
    int64_t count = shape_count(&y->shape), n;
    int rc = EBM_OK;

    for (int64_t first = 0; first < count && rc >= 0; first += n) {
        struct draft_dispatch d = { .shader = SHADER_RANDOM };
        d.operands[0] = l->in[0];
        d.operands[2] = span_seen(l->program, &l->out, (size_t)first * sizeof(float));
        n = (int64_t)(d.operands[2].size / sizeof(float));
        n = first + n < count ? n / 4 * 4 : n;       /* numbers are made by fours */
        d.operands[2].size = (size_t)n * sizeof(float);
        draft_constant(&d, y->op == OP_TICK ? 2 : y->attr.random.normal ? 1 : 0);
        draft_param(&d, n);
        draft_param(&d, y->op == OP_TICK ? 0 : (int32_t)y->attr.random.purpose);
        draft_param(&d, first / 4);
        draft_count(&d, (n + 3) / 4);
        rc = draft_emit(l->program, &d);
    }
    return rc;
}

/* The elements of the table in a window, for all indices. */
static int emit_index(const struct lowering *l, const struct shape *table, struct span window, size_t before)
{
    const struct node *y = l->node;
    struct draft_dispatch d = { .shader = SHADER_INDEX };
    int64_t rows = table->n[0], width = shape_count(table) / rows, indices = shape_count(l->shape[1]);
    int64_t first = (int64_t)(before / type_size(y->type)), n = (int64_t)(window.size / type_size(y->type));
    int64_t count = y->op == OP_SCATTER ? n : indices * width, skipped = first % width;

    d.operands[0] = l->in[y->op == OP_UPDATE ? 2 : 0];   /* rows of UPDATE: its table is copied already */
    d.operands[1] = l->in[1];
    d.operands[2] = l->out;
    d.operands[y->op == OP_GATHER ? 0 : 2] = window;
    draft_constant(&d, y->op == OP_GATHER ? 0 : y->op == OP_SCATTER ? 1 : 2);
    draft_constant(&d, y->type == EBM_U8);
    const int64_t params[] = { count, rows, indices, width, first / width, (skipped + n + width - 1) / width,
                               skipped, n };
    for (size_t i = 0; i < COUNT(params); i++)
        draft_param(&d, params[i]);
    draft_count(&d, count);
    if (y->op != OP_GATHER)                           /* each looks at all indices */
        d.work = 4.0 * (double)count * (double)indices;
    return draft_emit(l->program, &d);
}

/* A table is looked up through windows of as much as a descriptor sees; a row may begin in
 * one and end in another. */
int lower_index(const struct lowering *l)
{
    const struct node *y = l->node;
    const struct shape *table = y->op == OP_SCATTER ? &y->shape : l->shape[0];
    const struct span *whole = y->op == OP_GATHER ? &l->in[0] : &l->out;
    struct span window;
    int rc = EBM_OK;

    if (y->op == OP_UPDATE && (rc = emit_copy(l->program, l->in[0], l->out)) < 0)
        return rc;
    for (size_t at = 0; at < whole->size && rc >= 0; at += window.size) {
        window = span_seen(l->program, whole, at);
        rc = emit_index(l, table, window, at);
    }
    return rc;
}
