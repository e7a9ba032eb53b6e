/* parts.c - see parts.h.
 *
 * SPDX-License-Identifier: ISC
 *
 * A value is whole, or in parts along its first axis; what sums over that axis is
 * accumulated from part to part.
 *
 *   part 0   x0 -> h0 -> e0 -> dh0 -> df  = dh0 x0
 *   part 1   x1 -> h1 -> e1 -> dh1 -> df += dh1 x1     h1 takes over h0's memory
 *
 * Rows are part of a value from where they are drawn, fed or kept; the rules of
 * the operations, one each below, say how far they go.  Whatever has no rule is
 * computed whole, from parts joined again: right for every graph, only larger.
 *
 * Where a whole value is made of parts, and parts depend on it (a mean over the
 * batch), these are of a later stage: another sweep through the parts, in which
 * what is needed of earlier stages is computed again rather than kept.
 *
 * Part p of a value is made in turn p + shift: a slice of rows shifts what follows,
 * so that a part goes forward and back in one turn. */
#include <string.h>
#include "parts.h"
#include "store.h"

enum { MOST_ROWS = 8 };      /* times the batch: what counts as rows of it */

enum form { WHOLE, LEAF_ROWS, IN_PARTS, ACCUMULATED };

struct value {
    enum form form;
    bool live;
    int64_t rows;            /* of a part; 0: whole */
    int32_t parts;
    int32_t stage, shift;
    bool joined;             /* somebody reads its parts as one */
    ebm_val whole;           /* in the new graph; 0: not made yet */
    int32_t first;           /* its parts are at[first ...] */
    int32_t sweep;           /* in which they were made */
};

struct splitting {
    const ebm_graph *g;
    ebm_graph *to;
    int64_t batch, part;
    struct value *v;         /* by value of g */
    ebm_val *at;             /* parts made */
    int32_t stages, sweep;
    int32_t first_turn, last_turn;
};

/* ---- what is in parts ---- */

static int64_t rows_in(const struct node *n)
{
    return n->shape.rank ? n->shape.n[0] : 0;
}

/* A leaf with rows of the batch: it is whole, and its parts are slices. */
static bool has_rows(const struct splitting *s, const struct node *n)
{
    int64_t rows = rows_in(n);

    if (n->op != OP_FEED && n->op != OP_STATE && n->op != OP_RANDOM)
        return false;
    if (n->op == OP_STATE && s->g->store->tensors[n->attr.state.slot].region)
        return false;
    return rows > 0 && rows % s->batch == 0 && rows <= MOST_ROWS * s->batch
        && (n->shape.rank > 1 || rows == s->batch);
}

static struct value *operand_value(const struct splitting *s, const struct node *n, int i)
{
    return &s->v[operand(n, i)];
}

/* Rows of a part of the operands that are to go along: those of the mask.  0 where
 * none is in parts, or they differ. */
static int64_t common_rows(const struct splitting *s, const struct node *n, unsigned mask)
{
    int64_t rows = 0;

    for (int i = 0; i < n->n_in; i++) {
        int64_t r = mask >> (i < 31 ? i : 31) & 1 ? operand_value(s, n, i)->rows : 0;
        if (r && rows && r != rows)
            return 0;
        rows = r ? r : rows;
    }
    return rows;
}

static int64_t reshaped_rows(const struct splitting *s, const struct node *n)
{
    int64_t rows = operand_value(s, n, 0)->rows, from = rows_in(node_of(s->g, n->in[0])), to = rows_in(n);

    if (!rows || !to || rows * to % from || rows * to / from == 0)
        return 0;
    return rows * to / from;
}

/* A box along the first axis that begins and ends where parts do. */
static int64_t boxed_rows(const struct splitting *s, const struct node *n)
{
    int64_t rows = operand_value(s, n, 0)->rows, begin = n->attr.box.begin[0];
    const struct node *x = node_of(s->g, n->in[0]);

    if (rows_in(x) == rows_in(n) && begin == 0)
        return rows;
    return rows && begin % rows == 0 && rows_in(n) % rows == 0 && rows_in(x) % rows == 0
        && n->attr.box.step[0] == 1 ? rows : 0;
}

static int64_t joined_rows(const struct splitting *s, const struct node *n)
{
    int64_t rows = common_rows(s, n, ~0u);

    for (int i = 0; n->attr.axis == 0 && rows && i < n->n_in; i++)
        if (rows_in(node_of(s->g, operand(n, i))) % rows)
            return 0;
    return rows;
}

static int64_t product_rows(const struct splitting *s, const struct node *n, bool *sums)
{
    const struct value *a = operand_value(s, n, 0), *b = operand_value(s, n, 1);

    if (n->shape.rank == 3)
        return common_rows(s, n, 3);
    *sums = n->attr.matmul.ta && !n->attr.matmul.tb && a->rows && a->rows == b->rows;
    return *sums || !n->attr.matmul.ta ? a->rows : 0;
}

/* Rows of a part, and whether the value is a sum over them; 0: it is whole. */
static int64_t rows_of(const struct splitting *s, const struct node *n, bool *sums)
{
    *sums = false;
    switch (n->op) {
    case OP_RESHAPE:
        return reshaped_rows(s, n);
    case OP_BROADCAST:
        return rows_in(node_of(s->g, n->in[0])) == rows_in(n) ? common_rows(s, n, 1) : 0;
    case OP_TRANSPOSE:
        return n->attr.perm[0] == 0 ? common_rows(s, n, 1) : 0;
    case OP_SLICE: case OP_PAD:
        return boxed_rows(s, n);
    case OP_FLIP:
        return n->attr.axes & 1 ? 0 : common_rows(s, n, 1);
    case OP_CONCAT:
        return joined_rows(s, n);
    case OP_SUM: case OP_AMAX:
        *sums = n->attr.axes & 1;
        return common_rows(s, n, 1);
    case OP_MATMUL:
        return product_rows(s, n, sums);
    case OP_CONV: case OP_CONV_DATA:
        return common_rows(s, n, 1);
    case OP_CONV_FILTER: case OP_SCATTER:
        *sums = operand_value(s, n, 0)->rows == operand_value(s, n, 1)->rows;
        return *sums ? common_rows(s, n, 3) : 0;
    case OP_POOL: case OP_UNPOOL: case OP_PICK: case OP_PLACE: case OP_RESAMPLE: case OP_RESAMPLE_T:
        return common_rows(s, n, 3);
    case OP_GATHER:
        return common_rows(s, n, 2);
    default:
        return op_info[n->op].class == EW ? common_rows(s, n, 7) : 0;
    }
}

/* Which operands are read in parts. */
static unsigned read_in_parts(const struct node *n)
{
    switch (n->op) {
    case OP_MATMUL:
        return n->shape.rank == 3 || n->attr.matmul.ta ? 3 : 1;
    case OP_CONV: case OP_CONV_DATA:
        return 1;
    case OP_GATHER:
        return 2;
    default:
        return ~0u;
    }
}

static bool in_mask(unsigned mask, int i)
{
    return mask >> (i < 31 ? i : 31) & 1;
}

/* By how many parts operand i lies before the value. */
static int32_t offset_of(const struct splitting *s, const struct node *n, int i, int64_t rows)
{
    int64_t before = 0;

    if (n->op == OP_SLICE)
        return (int32_t)(n->attr.box.begin[0] / rows);
    if (n->op == OP_PAD)
        return -(int32_t)(n->attr.box.begin[0] / rows);
    for (int k = 0; n->op == OP_CONCAT && n->attr.axis == 0 && k < i; k++)
        before += rows_in(node_of(s->g, operand(n, k)));
    return -(int32_t)(before / rows);
}

static void look_at(struct splitting *s, ebm_val a)
{
    const struct node *n = node_of(s->g, a);
    struct value *v = &s->v[a];
    bool sums = false, first = true;
    int64_t rows = n->n_in ? rows_of(s, n, &sums) : 0;
    unsigned mask = rows ? read_in_parts(n) : 0;

    if (has_rows(s, n)) {
        v->form = LEAF_ROWS;
        v->rows = s->part;
        v->parts = (int32_t)(rows_in(n) / s->part);
    } else if (rows) {
        v->form = sums ? ACCUMULATED : IN_PARTS;
        v->rows = sums ? 0 : rows;
        v->parts = (int32_t)((sums ? rows_in(node_of(s->g, operand(n, n->op == OP_SCATTER))) : rows_in(n)) / rows);
    }
    for (int i = 0; i < n->n_in; i++) {
        struct value *o = operand_value(s, n, i);
        bool part = in_mask(mask, i) && o->rows;
        int32_t stage = o->stage + (o->form == ACCUMULATED || (o->form == IN_PARTS && !part));
        o->joined |= !part;
        if (stage > v->stage)
            v->stage = stage;
        if (!part || o->form == LEAF_ROWS)
            continue;
        int32_t shift = o->shift + offset_of(s, n, i, rows);
        if (first || shift > v->shift)
            v->shift = shift;
        first = false;
    }
    if (v->stage >= s->stages)
        s->stages = v->stage + 1;
    if (v->parts && v->shift < s->first_turn)
        s->first_turn = v->shift;
    if (v->parts && v->shift + v->parts > s->last_turn)
        s->last_turn = v->shift + v->parts;
}

/* ---- the new graph ---- */

static ebm_val whole_of(struct splitting *s, ebm_val a);
static ebm_val part_of(struct splitting *s, ebm_val a, int32_t p, int64_t rows);

static ebm_val remake(struct splitting *s, const struct node *n, const struct shape *shape, const ebm_val *in,
                      const union attr *attr)
{
    return graph_node(s->to, n->op, n->type, shape, n->n_in, in, attr);
}

/* The operands of a value, or of its part p; NULL without memory. */
static ebm_val *operands(struct splitting *s, const struct node *n, int32_t p, unsigned mask, int64_t rows)
{
    ebm_val *in = mem_new(s->g->ctx, (size_t)n->n_in + 1, sizeof *in);

    for (int i = 0; in && i < n->n_in; i++) {
        const struct node *o = node_of(s->g, operand(n, i));
        struct value *v = operand_value(s, n, i);
        int64_t each = v->rows ? v->rows : rows;
        /* A whole operand that has all the rows is cut, too. */
        bool cut = in_mask(mask, i) && (v->rows || (rows && o->shape.rank == n->shape.rank
                                                    && rows_in(o) == rows_in(n)));
        in[i] = cut ? part_of(s, operand(n, i), p, each) : whole_of(s, operand(n, i));
    }
    if (!in)
        graph_fail(s->to, EBM_ERR_NOMEM, "no memory for the parts of a graph");
    return in;
}

static ebm_val number(struct splitting *s, const struct node *n, const struct shape *shape, float value)
{
    union attr attr = { { { 0 }, { 0 } } };

    attr.value = value;
    return graph_node(s->to, OP_CONST, n->type, shape, 0, NULL, &attr);
}

/* Rows `begin` on of a whole value. */
static ebm_val slice_rows(struct splitting *s, ebm_val whole, int64_t begin, int64_t rows)
{
    const struct node n = *node_of(s->to, whole);
    union attr attr = { { { 0 }, { 0 } } };
    struct shape shape = n.shape;

    if (n.op == OP_CONST || (n.op == OP_IOTA && n.attr.axis != 0)) {
        shape.n[0] = rows;
        return graph_node(s->to, n.op, n.type, &shape, 0, NULL, &n.attr);
    }
    for (int i = 0; i < shape.rank; i++)
        attr.box.step[i] = 1;
    attr.box.begin[0] = begin;
    shape.n[0] = rows;
    return graph_node(s->to, OP_SLICE, n.type, &shape, 1, &whole, &attr);
}

/* Part p of a CONCAT along the first axis. */
static ebm_val part_of_joined(struct splitting *s, const struct node *n, int32_t p, int64_t rows)
{
    int64_t at = p * rows;

    for (int i = 0; i < n->n_in; i++) {
        int64_t here = rows_in(node_of(s->g, operand(n, i)));
        if (at < here)
            return part_of(s, operand(n, i), (int32_t)(at / rows), rows);
        at -= here;
    }
    return 0;
}

/* Part p of PAD: of zeros in front or behind, or of what is padded. */
static ebm_val part_of_padded(struct splitting *s, const struct node *n, int32_t p, int64_t rows)
{
    int64_t at = p * rows - n->attr.box.begin[0];
    struct shape shape = n->shape;
    union attr attr = n->attr;

    shape.n[0] = rows;
    if (at < 0 || at >= rows_in(node_of(s->g, n->in[0])))
        return number(s, n, &shape, 0);
    ebm_val x = part_of(s, n->in[0], (int32_t)(at / rows), rows);
    attr.box.begin[0] = 0;
    return remake(s, n, &shape, &x, &attr);
}

static ebm_val part_of_slice(struct splitting *s, const struct node *n, int32_t p, int64_t rows)
{
    ebm_val x = part_of(s, n->in[0], p + (int32_t)(n->attr.box.begin[0] / rows), rows);
    struct shape shape = n->shape;
    union attr attr = n->attr;

    shape.n[0] = rows;
    attr.box.begin[0] = 0;
    return remake(s, n, &shape, &x, &attr);
}

static ebm_val make_part(struct splitting *s, const struct node *n, int32_t p, int64_t rows)
{
    struct shape shape = n->shape;
    ebm_val *in, made;

    if (n->op == OP_CONCAT && n->attr.axis == 0)
        return part_of_joined(s, n, p, rows);
    if (n->op == OP_PAD)
        return part_of_padded(s, n, p, rows);
    if (n->op == OP_SLICE)
        return part_of_slice(s, n, p, rows);
    if (!(in = operands(s, n, p, read_in_parts(n), rows)))
        return 0;
    shape.n[0] = rows;
    made = remake(s, n, &shape, in, &n->attr);
    mem_free(s->g->ctx, in);
    return made;
}

static ebm_val part_of(struct splitting *s, ebm_val a, int32_t p, int64_t rows)
{
    const struct node *n = node_of(s->g, a);
    struct value *v = &s->v[a];

    if (s->to->status < 0)
        return 0;
    if (n->op == OP_BROADCAST && v->form == WHOLE && rows_in(node_of(s->g, n->in[0])) == 1) {
        struct shape shape = n->shape;
        ebm_val x = whole_of(s, n->in[0]);
        shape.n[0] = rows;
        return shape_equal(&shape, &node_of(s->to, x)->shape) ? x : remake(s, n, &shape, &x, &n->attr);
    }
    if (v->form != IN_PARTS)
        return slice_rows(s, whole_of(s, a), p * rows, rows);
    if (v->sweep != s->sweep) {
        memset(s->at + v->first, 0, (size_t)v->parts * sizeof *s->at);
        v->sweep = s->sweep;
    }
    ebm_val *made = &s->at[v->first + p];
    if (!*made)
        *made = make_part(s, n, p, rows);
    return *made;
}

/* Sums take part p in; each is stored, in place of the one before. */
static void accumulate(struct splitting *s, ebm_val a, int32_t p)
{
    const struct node *n = node_of(s->g, a);
    struct value *v = &s->v[a];
    int64_t rows = operand_value(s, n, n->op == OP_SCATTER)->rows;
    ebm_val *in = operands(s, n, p, ~0u, rows), sum[2];

    if (!in)
        return;
    sum[0] = v->whole;
    sum[1] = remake(s, n, &n->shape, in, &n->attr);
    mem_free(s->g->ctx, in);
    if (!sum[0] || !sum[1]) {
        v->whole = sum[1];
        return;
    }
    v->whole = graph_node(s->to, n->op == OP_AMAX ? OP_MAX : OP_ADD, n->type, &n->shape, 2, sum, NULL);
    graph_store(s->to, v->whole);
}

static ebm_val join(struct splitting *s, ebm_val a)
{
    const struct node *n = node_of(s->g, a);
    const struct value *v = &s->v[a];
    union attr attr = { { { 0 }, { 0 } } };

    for (int32_t p = 0; p < v->parts; p++)
        part_of(s, a, p, v->rows);
    if (s->to->status < 0)
        return 0;
    if (v->parts == 1)
        return s->at[v->first];
    attr.axis = 0;
    return graph_node(s->to, OP_CONCAT, n->type, &n->shape, v->parts, s->at + v->first, &attr);
}

static ebm_val whole_of(struct splitting *s, ebm_val a)
{
    const struct node *n = node_of(s->g, a);
    struct value *v = &s->v[a];

    if (v->whole || s->to->status < 0)
        return v->whole;
    if (v->form == IN_PARTS) {
        v->whole = join(s, a);
        return v->whole;
    }
    ebm_val *in = operands(s, n, 0, 0, 0);
    if (in)
        v->whole = remake(s, n, &n->shape, in, &n->attr);
    mem_free(s->g->ctx, in);
    return v->whole;
}

/* ---- the way through ---- */

static void sweep(struct splitting *s, int32_t stage)
{
    s->sweep = stage + 1;
    graph_forget(s->to);
    for (ebm_val a = 1; a < s->g->count; a++)
        if (s->v[a].live && s->v[a].stage == stage && (s->v[a].form == WHOLE || s->v[a].form == LEAF_ROWS))
            whole_of(s, a);
    for (int32_t turn = s->first_turn; turn < s->last_turn; turn++)
        for (ebm_val a = 1; a < s->g->count && s->to->status >= 0; a++) {
            struct value *v = &s->v[a];
            int32_t p = turn - v->shift;
            if (!v->live || v->stage != stage || p < 0 || p >= v->parts)
                continue;
            if (v->form == ACCUMULATED)
                accumulate(s, a, p);
            else if (v->form == IN_PARTS)
                part_of(s, a, p, v->rows);
        }
    for (ebm_val a = 1; a < s->g->count; a++)            /* while its parts are there */
        if (s->v[a].joined && s->v[a].stage == stage)
            whole_of(s, a);
}

static int prepare(struct splitting *s, int n, const ebm_val *outputs)
{
    ebm_context *ctx = s->g->ctx;
    int32_t parts = 0;

    if (!(s->v = mem_new(ctx, (size_t)s->g->count, sizeof *s->v)))
        return EBM_ERR_NOMEM;
    for (int i = 0; i < n; i++)
        s->v[outputs[i]].live = s->v[outputs[i]].joined = true;
    for (ebm_val a = s->g->count - 1; a > 0; a--)
        for (int i = 0; s->v[a].live && i < node_of(s->g, a)->n_in; i++)
            operand_value(s, node_of(s->g, a), i)->live = true;
    for (ebm_val a = 1; a < s->g->count; a++) {
        if (!s->v[a].live)
            continue;
        look_at(s, a);
        s->v[a].first = parts;
        parts += s->v[a].form == IN_PARTS ? s->v[a].parts : 0;
    }
    s->at = mem_new(ctx, (size_t)parts + 1, sizeof *s->at);
    return s->at ? EBM_OK : EBM_ERR_NOMEM;
}

int parts_new(const ebm_graph *g, int64_t batch, int64_t part, int n, const ebm_val *outputs,
              ebm_graph **graph, ebm_val *in_parts)
{
    struct splitting s = { .g = g, .batch = batch, .part = part, .stages = 1 };
    int status = graph_like(g, graph);

    s.to = *graph;
    if (status >= 0 && (status = prepare(&s, n, outputs)) >= 0) {
        for (int32_t stage = 0; stage < s.stages; stage++)
            sweep(&s, stage);
        for (int i = 0; i < n; i++)
            in_parts[i] = whole_of(&s, outputs[i]);
        status = s.to->status;
    }
    mem_free(g->ctx, s.at);
    mem_free(g->ctx, s.v);
    return status;
}
