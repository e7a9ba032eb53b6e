/* build.c - the builders of single operations: check operands, infer the shape,
 * make the node.
 *
 * SPDX-License-Identifier: ISC
 *
 * The first error is latched with the shapes that do not fit; from then on
 * every builder returns 0 at once. */
#include <string.h>
#include "build.h"
#include "store.h"

/* Elements of one value: 2^40 floats are 4 TiB, and products of sizes and
 * strides stay far from overflow. */
static const int64_t MAX_COUNT = (int64_t)1 << 40;

static bool usable(ebm_graph *g, ebm_val a)
{
    if (g->status < 0)
        return false;
    if (a <= 0 || a >= g->count) {
        graph_fail(g, EBM_ERR_ARG, "an operand is no value of this graph");
        return false;
    }
    return true;
}

static bool usable_type(ebm_graph *g, enum op op, ebm_val a, enum ebm_type type)
{
    static const char *const names[] = { "float32", "int32", "uint8" };

    if (!usable(g, a))
        return false;
    if (node_of(g, a)->type != type) {
        graph_fail(g, EBM_ERR_ARG, "%s: an operand is %s and must be %s: use ebm_cast()",
                   op_info[op].name, names[node_of(g, a)->type], names[type]);
        return false;
    }
    return true;
}

/* Check sizes and their product. */
static bool make_shape(ebm_graph *g, const char *what, int rank, const int64_t *n,
                       struct shape *s)
{
    int64_t count = 1;

    if (g->status < 0)
        return false;
    memset(s, 0, sizeof *s);
    if (rank < 0 || rank > EBM_MAX_RANK) {
        graph_fail(g, EBM_ERR_ARG, "%s: rank %d is not within 0 to %d", what, rank, EBM_MAX_RANK);
        return false;
    }
    s->rank = rank;
    for (int i = 0; i < rank; i++) {
        if (n[i] < 1 || n[i] > MAX_COUNT / count) {
            graph_fail(g, EBM_ERR_ARG, "%s: size %lld of axis %d is not possible", what,
                       (long long)n[i], i);
            return false;
        }
        s->n[i] = n[i];
        count *= n[i];
    }
    return true;
}

/* ---- leaves ---- */

ebm_val ebm_feed(ebm_graph *g, const char *name, enum ebm_type type, int rank, const int64_t *shape)
{
    union attr attr = { 0 };
    struct shape s;
    int32_t i;

    if (!make_shape(g, name, rank, shape, &s))
        return 0;
    for (i = 0; i < g->n_feeds; i++)
        if (strcmp(g->feeds[i], name) == 0)
            break;
    if (i == g->n_feeds) {
        char **feeds = mem_grow(g->ctx, g->feeds, (size_t)i, (size_t)i + 1, sizeof *feeds);
        if (!feeds)
            return graph_fail(g, EBM_ERR_NOMEM, "no memory for the graph");
        g->feeds = feeds;
        if (!(feeds[i] = mem_strdup(g->ctx, name)))
            return graph_fail(g, EBM_ERR_NOMEM, "no memory for the graph");
        g->n_feeds++;
    }
    for (ebm_val a = 1; a < g->count; a++) {
        const struct node *n = node_of(g, a);
        if (n->op == OP_FEED && n->attr.feed.name == i
            && (n->type != type || !shape_equal(&n->shape, &s)))
            return graph_fail(g, EBM_ERR_ARG, "feed '%s' is declared twice and differently", name);
    }
    attr.feed.name = i;
    return graph_node(g, OP_FEED, type, &s, 0, NULL, &attr);
}

static ebm_val store_error(ebm_graph *g, int status)
{
    if (g->status >= 0)
        g->status = status;      /* the store has worded it */
    return 0;
}

ebm_val ebm_param(ebm_graph *g, const char *region, const char *name, int rank,
                  const int64_t *shape, ebm_init init)
{
    union attr attr = { 0 };
    struct shape s;
    int slot, part;

    if (!make_shape(g, name, rank, shape, &s))
        return 0;
    if ((slot = store_region(g->store, region)) < 0
        || (part = store_part(g->store, slot, name, &s, init)) < 0)
        return store_error(g, slot < 0 ? slot : part);
    attr.state.slot = slot;
    attr.state.offset = g->store->tensors[slot].parts[part].offset;
    return graph_node(g, OP_STATE, EBM_F32, &s, 0, NULL, &attr);
}

ebm_val ebm_state(ebm_graph *g, const char *name, enum ebm_type type, int rank,
                  const int64_t *shape, ebm_init init)
{
    union attr attr = { 0 };
    struct shape s;
    int slot;

    if (!make_shape(g, name, rank, shape, &s))
        return 0;
    if ((slot = store_state(g->store, name, type, &s, init)) < 0)
        return store_error(g, slot);
    attr.state.slot = slot;
    return graph_node(g, OP_STATE, type, &s, 0, NULL, &attr);
}

ebm_val ebm_region(ebm_graph *g, const char *region)
{
    union attr attr = { 0 };
    int slot;

    if (g->status < 0)
        return 0;
    if ((slot = store_region(g->store, region)) < 0)
        return store_error(g, slot);
    const struct tensor *t = &g->store->tensors[slot];
    if (t->n_parts == 0)
        return graph_fail(g, EBM_ERR_ARG, "region '%s' has no parameters yet", region);
    attr.state.slot = slot;
    return graph_node(g, OP_STATE, EBM_F32, &t->shape, 0, NULL, &attr);
}

ebm_val build_const(ebm_graph *g, const struct shape *shape, double value)
{
    union attr attr = { 0 };

    attr.value = (float)value;
    return graph_node(g, OP_CONST, EBM_F32, shape, 0, NULL, &attr);
}

ebm_val ebm_const(ebm_graph *g, double value)
{
    struct shape scalar = { 0 };

    return build_const(g, &scalar, value);
}

ebm_val ebm_fill(ebm_graph *g, ebm_val like, double value)
{
    return usable(g, like) ? build_const(g, &node_of(g, like)->shape, value) : 0;
}

ebm_val ebm_iota(ebm_graph *g, int rank, const int64_t *shape, int axis)
{
    union attr attr = { 0 };
    struct shape s;

    if (!make_shape(g, "IOTA", rank, shape, &s))
        return 0;
    if (axis < 0 || axis >= rank)
        return graph_fail(g, EBM_ERR_ARG, "IOTA: no axis %d in rank %d", axis, rank);
    attr.axis = axis;
    return graph_node(g, OP_IOTA, EBM_F32, &s, 0, NULL, &attr);
}

static ebm_val random_node(ebm_graph *g, ebm_val counter, uint32_t purpose, bool normal,
                           int rank, const int64_t *shape)
{
    union attr attr = { 0 };
    struct shape s;

    if (!make_shape(g, "RANDOM", rank, shape, &s) || !usable_type(g, OP_RANDOM, counter, EBM_I32))
        return 0;
    if (shape_count(&node_of(g, counter)->shape) != 4)
        return graph_fail(g, EBM_ERR_ARG, "RANDOM: the counter is not int32 [4]");
    attr.random.purpose = purpose;
    attr.random.normal = normal;
    return graph_node(g, OP_RANDOM, EBM_F32, &s, 1, &counter, &attr);
}

ebm_val ebm_uniform(ebm_graph *g, ebm_val counter, uint32_t purpose, int rank, const int64_t *shape)
{
    return random_node(g, counter, purpose, false, rank, shape);
}

ebm_val ebm_normal(ebm_graph *g, ebm_val counter, uint32_t purpose, int rank, const int64_t *shape)
{
    return random_node(g, counter, purpose, true, rank, shape);
}

ebm_val ebm_tick(ebm_graph *g, ebm_val counter)
{
    if (!usable_type(g, OP_TICK, counter, EBM_I32))
        return 0;
    return graph_node(g, OP_TICK, EBM_I32, &node_of(g, counter)->shape, 1, &counter, NULL);
}

/* ---- elementwise ---- */

ebm_val build_ew1(ebm_graph *g, enum op op, ebm_val a)
{
    if (!usable_type(g, op, a, EBM_F32))
        return 0;
    return graph_node(g, op, EBM_F32, &node_of(g, a)->shape, 1, &a, NULL);
}

/* The shape both broadcast to, as in NumPy. */
static bool common_shape(ebm_graph *g, enum op op, const struct shape *a,
                         const struct shape *b, struct shape *s)
{
    memset(s, 0, sizeof *s);
    s->rank = a->rank > b->rank ? a->rank : b->rank;
    for (int i = 1; i <= s->rank; i++) {
        int64_t m = i <= a->rank ? a->n[a->rank - i] : 1;
        int64_t n = i <= b->rank ? b->n[b->rank - i] : 1;
        if (m != n && m != 1 && n != 1) {
            char ta[SHAPE_TEXT], tb[SHAPE_TEXT];
            graph_fail(g, EBM_ERR_ARG, "%s: shapes %s and %s do not broadcast",
                       op_info[op].name, shape_text(a, ta), shape_text(b, tb));
            return false;
        }
        s->n[s->rank - i] = m > n ? m : n;
    }
    return true;
}

ebm_val build_ew2(ebm_graph *g, enum op op, ebm_val a, ebm_val b)
{
    struct shape s;

    if (!usable_type(g, op, a, EBM_F32) || !usable_type(g, op, b, EBM_F32)
        || !common_shape(g, op, &node_of(g, a)->shape, &node_of(g, b)->shape, &s))
        return 0;
    ebm_val in[2] = { ebm_broadcast(g, a, s.rank, s.n), ebm_broadcast(g, b, s.rank, s.n) };
    return g->status < 0 ? 0 : graph_node(g, op, EBM_F32, &s, 2, in, NULL);
}

#define UNARY(name, OP) \
    ebm_val ebm_##name(ebm_graph *g, ebm_val a) { return build_ew1(g, OP_##OP, a); }
UNARY(neg, NEG)
UNARY(abs, ABS)
UNARY(sign, SIGN)
UNARY(floor, FLOOR)
UNARY(exp, EXP)
UNARY(log, LOG)
UNARY(sqrt, SQRT)
UNARY(sin, SIN)
UNARY(cos, COS)
UNARY(tanh, TANH)
UNARY(sigmoid, SIGMOID)
UNARY(softplus, SOFTPLUS)
UNARY(stop, STOP)
#undef UNARY

#define BINARY(name, OP) \
    ebm_val ebm_##name(ebm_graph *g, ebm_val a, ebm_val b) { return build_ew2(g, OP_##OP, a, b); }
BINARY(add, ADD)
BINARY(sub, SUB)
BINARY(mul, MUL)
BINARY(div, DIV)
BINARY(max, MAX)
BINARY(min, MIN)
BINARY(less, LESS)
BINARY(equal, EQUAL)
#undef BINARY

ebm_val ebm_select(ebm_graph *g, ebm_val c, ebm_val a, ebm_val b)
{
    struct shape ab, s;

    if (!usable_type(g, OP_SELECT, c, EBM_F32) || !usable_type(g, OP_SELECT, a, EBM_F32)
        || !usable_type(g, OP_SELECT, b, EBM_F32)
        || !common_shape(g, OP_SELECT, &node_of(g, a)->shape, &node_of(g, b)->shape, &ab)
        || !common_shape(g, OP_SELECT, &node_of(g, c)->shape, &ab, &s))
        return 0;
    ebm_val in[3] = {
        ebm_broadcast(g, c, s.rank, s.n),
        ebm_broadcast(g, a, s.rank, s.n),
        ebm_broadcast(g, b, s.rank, s.n),
    };
    return g->status < 0 ? 0 : graph_node(g, OP_SELECT, EBM_F32, &s, 3, in, NULL);
}

ebm_val ebm_cast(ebm_graph *g, ebm_val a, enum ebm_type type)
{
    if (!usable(g, a))
        return 0;
    return graph_node(g, OP_CAST, type, &node_of(g, a)->shape, 1, &a, NULL);
}

/* ---- moving elements ---- */

ebm_val ebm_reshape(ebm_graph *g, ebm_val a, int rank, const int64_t *shape)
{
    int64_t n[EBM_MAX_RANK] = { 0 }, known = 1;
    struct shape s;
    int open = -1;

    if (!usable(g, a))
        return 0;
    int64_t count = shape_count(&node_of(g, a)->shape);
    for (int i = 0; i < rank && i < EBM_MAX_RANK; i++) {
        n[i] = shape[i];
        if (n[i] == -1 && open < 0)
            open = i;
        else if (n[i] > 0 && known <= MAX_COUNT / n[i])
            known *= n[i];
    }
    if (open >= 0)
        n[open] = count / known;
    if (!make_shape(g, "RESHAPE", rank, n, &s))
        return 0;
    if (shape_count(&s) != count) {
        char from[SHAPE_TEXT], to[SHAPE_TEXT];
        return graph_fail(g, EBM_ERR_ARG, "RESHAPE: %s cannot become %s",
                          shape_text(&node_of(g, a)->shape, from), shape_text(&s, to));
    }
    return graph_node(g, OP_RESHAPE, node_of(g, a)->type, &s, 1, &a, NULL);
}

ebm_val ebm_broadcast(ebm_graph *g, ebm_val a, int rank, const int64_t *shape)
{
    struct shape s;

    if (!usable(g, a) || !make_shape(g, "BROADCAST", rank, shape, &s))
        return 0;
    struct shape from = node_of(g, a)->shape;
    int lead = s.rank - from.rank;
    bool fits = lead >= 0;
    for (int i = 0; fits && i < from.rank; i++)
        fits = from.n[i] == s.n[lead + i] || from.n[i] == 1;
    if (!fits) {
        char ta[SHAPE_TEXT], tb[SHAPE_TEXT];
        return graph_fail(g, EBM_ERR_ARG, "BROADCAST: %s does not broadcast to %s",
                          shape_text(&from, ta), shape_text(&s, tb));
    }
    if (lead > 0) {             /* the op keeps the rank */
        int64_t n[EBM_MAX_RANK];
        for (int i = 0; i < s.rank; i++)
            n[i] = i < lead ? 1 : from.n[i - lead];
        a = ebm_reshape(g, a, s.rank, n);
        if (!a)
            return 0;
    }
    return graph_node(g, OP_BROADCAST, node_of(g, a)->type, &s, 1, &a, NULL);
}

ebm_val ebm_transpose(ebm_graph *g, ebm_val a, const int *perm)
{
    union attr attr = { 0 };
    struct shape s = { 0 };
    unsigned seen = 0;

    if (!usable(g, a))
        return 0;
    struct shape from = node_of(g, a)->shape;
    s.rank = from.rank;
    for (int i = 0; i < from.rank; i++) {
        if (perm[i] < 0 || perm[i] >= from.rank || seen & 1u << perm[i])
            return graph_fail(g, EBM_ERR_ARG, "TRANSPOSE: not a permutation of %d axes", from.rank);
        seen |= 1u << perm[i];
        s.n[i] = from.n[perm[i]];
        attr.perm[i] = perm[i];
    }
    return graph_node(g, OP_TRANSPOSE, node_of(g, a)->type, &s, 1, &a, &attr);
}

ebm_val ebm_slice(ebm_graph *g, ebm_val a, const int64_t *begin, const int64_t *size,
                  const int64_t *step)
{
    union attr attr = { 0 };
    struct shape s;

    if (!usable(g, a))
        return 0;
    struct shape from = node_of(g, a)->shape;
    if (!make_shape(g, "SLICE", from.rank, size, &s))
        return 0;
    for (int i = 0; i < s.rank; i++) {
        int64_t by = step ? step[i] : 1;
        if (begin[i] < 0 || by < 1 || by > MAX_COUNT || begin[i] >= from.n[i]
            || (s.n[i] - 1) > (from.n[i] - 1 - begin[i]) / by)
            return graph_fail(g, EBM_ERR_ARG, "SLICE: axis %d: %lld elements from %lld by %lld "
                              "are not within %lld", i, (long long)s.n[i], (long long)begin[i],
                              (long long)by, (long long)from.n[i]);
        attr.box.begin[i] = begin[i];
        attr.box.step[i] = by;
    }
    return graph_node(g, OP_SLICE, node_of(g, a)->type, &s, 1, &a, &attr);
}

ebm_val build_pad(ebm_graph *g, ebm_val a, const struct shape *to, const int64_t *before,
                  const int64_t *step)
{
    union attr attr = { 0 };

    if (!usable(g, a))
        return 0;
    for (int i = 0; i < to->rank; i++) {
        attr.box.begin[i] = before[i];
        attr.box.step[i] = step ? step[i] : 1;
    }
    return graph_node(g, OP_PAD, node_of(g, a)->type, to, 1, &a, &attr);
}

ebm_val ebm_pad(ebm_graph *g, ebm_val a, const int64_t *before, const int64_t *after)
{
    int64_t n[EBM_MAX_RANK];
    struct shape s;

    if (!usable(g, a))
        return 0;
    struct shape from = node_of(g, a)->shape;
    for (int i = 0; i < from.rank; i++) {
        if (before[i] < 0 || after[i] < 0 || before[i] > MAX_COUNT || after[i] > MAX_COUNT)
            return graph_fail(g, EBM_ERR_ARG, "PAD: axis %d: %lld before and %lld after", i,
                              (long long)before[i], (long long)after[i]);
        n[i] = before[i] + from.n[i] + after[i];
    }
    return make_shape(g, "PAD", from.rank, n, &s) ? build_pad(g, a, &s, before, NULL) : 0;
}

static bool known_axes(ebm_graph *g, enum op op, ebm_val a, unsigned axes)
{
    if (!usable(g, a))
        return false;
    if (axes >> node_of(g, a)->shape.rank) {
        graph_fail(g, EBM_ERR_ARG, "%s: axes 0x%x are beyond rank %d", op_info[op].name, axes,
                   node_of(g, a)->shape.rank);
        return false;
    }
    return true;
}

ebm_val ebm_flip(ebm_graph *g, ebm_val a, unsigned axes)
{
    union attr attr = { 0 };

    if (!known_axes(g, OP_FLIP, a, axes))
        return 0;
    attr.axes = axes;
    return graph_node(g, OP_FLIP, node_of(g, a)->type, &node_of(g, a)->shape, 1, &a, &attr);
}

ebm_val ebm_concat(ebm_graph *g, int axis, int n, const ebm_val *parts)
{
    union attr attr = { 0 };
    struct shape s = { 0 };

    if (n < 1)
        return graph_fail(g, EBM_ERR_ARG, "CONCAT: nothing to join");
    for (int i = 0; i < n; i++) {
        if (!usable(g, parts[i]))
            return 0;
        const struct node *p = node_of(g, parts[i]);
        if (axis < 0 || axis >= p->shape.rank)
            return graph_fail(g, EBM_ERR_ARG, "CONCAT: no axis %d in rank %d", axis, p->shape.rank);
        struct shape like = p->shape;
        like.n[axis] = i ? s.n[axis] : like.n[axis];
        if (i && (!shape_equal(&like, &s) || p->type != node_of(g, parts[0])->type)) {
            char ta[SHAPE_TEXT], tb[SHAPE_TEXT];
            return graph_fail(g, EBM_ERR_ARG, "CONCAT: part %d is %s and part 0 %s", i,
                              shape_text(&p->shape, ta),
                              shape_text(&node_of(g, parts[0])->shape, tb));
        }
        if (i)
            s.n[axis] += p->shape.n[axis];
        else
            s = p->shape;
    }
    int64_t sizes[EBM_MAX_RANK];
    memcpy(sizes, s.n, sizeof sizes);
    if (!make_shape(g, "CONCAT", s.rank, sizes, &s))
        return 0;
    attr.axis = axis;
    return graph_node(g, OP_CONCAT, node_of(g, parts[0])->type, &s, n, parts, &attr);
}

/* ---- reductions ---- */

static ebm_val reduce(ebm_graph *g, enum op op, ebm_val a, unsigned axes)
{
    union attr attr = { 0 };

    if (!known_axes(g, op, a, axes) || !usable_type(g, op, a, EBM_F32))
        return 0;
    struct shape s = node_of(g, a)->shape;
    for (int i = 0; i < s.rank; i++)
        if (axes >> i & 1)
            s.n[i] = 1;
    attr.axes = axes;
    return graph_node(g, op, EBM_F32, &s, 1, &a, &attr);
}

ebm_val ebm_sum(ebm_graph *g, ebm_val a, unsigned axes)
{
    return reduce(g, OP_SUM, a, axes);
}

ebm_val ebm_amax(ebm_graph *g, ebm_val a, unsigned axes)
{
    return reduce(g, OP_AMAX, a, axes);
}

/* ---- contractions ---- */

ebm_val ebm_matmul(ebm_graph *g, ebm_val a, ebm_val b, bool ta, bool tb)
{
    return build_matmul(g, a, b, ta, tb, false);
}

ebm_val build_matmul(ebm_graph *g, ebm_val a, ebm_val b, bool ta, bool tb, bool full)
{
    union attr attr = { 0 };

    if (!usable_type(g, OP_MATMUL, a, EBM_F32) || !usable_type(g, OP_MATMUL, b, EBM_F32))
        return 0;
    struct shape sa = node_of(g, a)->shape, sb = node_of(g, b)->shape, s = { 0 };
    int r = sa.rank;
    bool fits = r == sb.rank && (r == 2 || (r == 3 && sa.n[0] == sb.n[0]))
             && sa.n[r - (ta ? 2 : 1)] == sb.n[r - (tb ? 1 : 2)];
    if (!fits) {
        char na[SHAPE_TEXT], nb[SHAPE_TEXT];
        return graph_fail(g, EBM_ERR_ARG, "MATMUL: %s%s and %s%s do not multiply",
                          shape_text(&sa, na), ta ? " transposed" : "",
                          shape_text(&sb, nb), tb ? " transposed" : "");
    }
    s.rank = 3;
    s.n[0] = r == 3 ? sa.n[0] : 1;
    s.n[1] = sa.n[r - (ta ? 1 : 2)];
    s.n[2] = sb.n[r - (tb ? 2 : 1)];
    if (r == 2) {               /* the op has a batch always */
        a = ebm_reshape(g, a, 3, (int64_t[]){ 1, sa.n[0], sa.n[1] });
        b = ebm_reshape(g, b, 3, (int64_t[]){ 1, sb.n[0], sb.n[1] });
    }
    attr.matmul.ta = ta;
    attr.matmul.tb = tb;
    attr.matmul.full = full;
    ebm_val c = g->status < 0 ? 0
              : graph_node(g, OP_MATMUL, EBM_F32, &s, 2, (ebm_val[]){ a, b }, &attr);
    return r == 2 && c ? ebm_reshape(g, c, 2, s.n + 1) : c;
}

/* Fill in what zeros stand for; false with an error for the impossible. */
static bool normal_conv(ebm_graph *g, const ebm_conv_spec *spec, ebm_conv_spec *v)
{
    bool fits = true;

    memset(v, 0, sizeof *v);
    if (spec)
        *v = *spec;
    for (int i = 0; i < 2; i++) {
        v->stride[i] = v->stride[i] ? v->stride[i] : 1;
        v->dilation[i] = v->dilation[i] ? v->dilation[i] : 1;
        fits &= v->stride[i] > 0 && v->dilation[i] > 0
             && v->stride[i] < 1 << 20 && v->dilation[i] < 1 << 20;
    }
    v->groups = v->groups ? v->groups : 1;
    for (int i = 0; i < 4; i++)
        fits &= v->pad[i] >= 0 && v->pad[i] < 1 << 20;
    if (!fits || v->groups < 0)
        graph_fail(g, EBM_ERR_ARG, "CONV: stride, padding, dilation and groups must not be negative");
    return g->status >= 0;
}

/* Output size of one axis; less than 1 where the filter is larger than the
 * padded input. */
static int64_t conv_size(int64_t in, int before, int after, int64_t filter, int stride, int dilation)
{
    int64_t room = in + before + after - dilation * (filter - 1) - 1;

    return room < 0 ? 0 : room / stride + 1;
}

static bool rank4(ebm_graph *g, enum op op, ebm_val a)
{
    if (!usable_type(g, op, a, EBM_F32))
        return false;
    if (node_of(g, a)->shape.rank != 4) {
        char t[SHAPE_TEXT];
        graph_fail(g, EBM_ERR_ARG, "%s: operand %s is not of rank 4", op_info[op].name,
                   shape_text(&node_of(g, a)->shape, t));
        return false;
    }
    return true;
}

/* The three shapes of the trilinear form sum y (x conv f) must agree. */
static bool conv_agrees(ebm_graph *g, enum op op, const struct shape *x, const struct shape *f,
                        const struct shape *y, const ebm_conv_spec *v)
{
    bool fits = x->n[0] == y->n[0]
             && x->n[3] == f->n[3] * v->groups
             && f->n[0] == y->n[3] && f->n[0] % v->groups == 0
             && y->n[1] == conv_size(x->n[1], v->pad[0], v->pad[2], f->n[1], v->stride[0], v->dilation[0])
             && y->n[2] == conv_size(x->n[2], v->pad[1], v->pad[3], f->n[2], v->stride[1], v->dilation[1])
             && y->n[1] > 0 && y->n[2] > 0;
    if (!fits) {
        char tx[SHAPE_TEXT], tf[SHAPE_TEXT], ty[SHAPE_TEXT];
        graph_fail(g, EBM_ERR_ARG, "%s: x %s, filter %s and y %s do not fit (stride %d,%d pad %d,%d,%d,%d "
                   "dilation %d,%d groups %d)", op_info[op].name, shape_text(x, tx), shape_text(f, tf),
                   shape_text(y, ty), v->stride[0], v->stride[1], v->pad[0], v->pad[1], v->pad[2],
                   v->pad[3], v->dilation[0], v->dilation[1], v->groups);
    }
    return fits;
}

ebm_val ebm_conv(ebm_graph *g, ebm_val x, ebm_val f, const ebm_conv_spec *spec)
{
    union attr attr = { 0 };
    ebm_conv_spec *v = &attr.conv;

    if (!rank4(g, OP_CONV, x) || !rank4(g, OP_CONV, f) || !normal_conv(g, spec, v))
        return 0;
    struct shape sx = node_of(g, x)->shape, sf = node_of(g, f)->shape, y = { 4, { 0 } };
    y.n[0] = sx.n[0];
    y.n[1] = conv_size(sx.n[1], v->pad[0], v->pad[2], sf.n[1], v->stride[0], v->dilation[0]);
    y.n[2] = conv_size(sx.n[2], v->pad[1], v->pad[3], sf.n[2], v->stride[1], v->dilation[1]);
    y.n[3] = sf.n[0];
    if (!conv_agrees(g, OP_CONV, &sx, &sf, &y, v))
        return 0;
    return graph_node(g, OP_CONV, EBM_F32, &y, 2, (ebm_val[]){ x, f }, &attr);
}

ebm_val ebm_conv_data(ebm_graph *g, ebm_val y, ebm_val f, const ebm_conv_spec *spec,
                      int64_t h, int64_t w)
{
    union attr attr = { 0 };
    struct shape x;

    if (!rank4(g, OP_CONV_DATA, y) || !rank4(g, OP_CONV_DATA, f) || !normal_conv(g, spec, &attr.conv))
        return 0;
    struct shape sy = node_of(g, y)->shape, sf = node_of(g, f)->shape;
    if (!make_shape(g, "CONV_DATA", 4, (int64_t[]){ sy.n[0], h, w, sf.n[3] * attr.conv.groups }, &x)
        || !conv_agrees(g, OP_CONV_DATA, &x, &sf, &sy, &attr.conv))
        return 0;
    return graph_node(g, OP_CONV_DATA, EBM_F32, &x, 2, (ebm_val[]){ y, f }, &attr);
}

ebm_val ebm_conv_filter(ebm_graph *g, ebm_val x, ebm_val y, const ebm_conv_spec *spec,
                        int64_t r, int64_t s)
{
    union attr attr = { 0 };
    struct shape f;

    if (!rank4(g, OP_CONV_FILTER, x) || !rank4(g, OP_CONV_FILTER, y)
        || !normal_conv(g, spec, &attr.conv))
        return 0;
    struct shape sx = node_of(g, x)->shape, sy = node_of(g, y)->shape;
    if (!make_shape(g, "CONV_FILTER", 4, (int64_t[]){ sy.n[3], r, s, sx.n[3] / attr.conv.groups }, &f)
        || !conv_agrees(g, OP_CONV_FILTER, &sx, &f, &sy, &attr.conv))
        return 0;
    return graph_node(g, OP_CONV_FILTER, EBM_F32, &f, 2, (ebm_val[]){ x, y }, &attr);
}

/* ---- windows ---- */

static bool normal_pool(ebm_graph *g, const ebm_pool_spec *spec, ebm_pool_spec *v)
{
    bool fits = true;

    *v = *spec;
    for (int i = 0; i < 2; i++) {
        v->stride[i] = v->stride[i] ? v->stride[i] : v->window[i];
        fits &= v->window[i] > 0 && v->stride[i] > 0
             && v->window[i] < 1 << 20 && v->stride[i] < 1 << 20;
    }
    for (int i = 0; i < 4; i++)      /* every window has a pixel of the image */
        fits &= v->pad[i] >= 0 && v->pad[i] < v->window[i & 1];
    if (!fits)
        graph_fail(g, EBM_ERR_ARG, "POOL: windows and strides must be positive, "
                   "padding less than the window");
    return g->status >= 0;
}

static bool pooled_shape(ebm_graph *g, const struct shape *x, const ebm_pool_spec *v, struct shape *y)
{
    *y = *x;
    y->n[1] = conv_size(x->n[1], v->pad[0], v->pad[2], v->window[0], v->stride[0], 1);
    y->n[2] = conv_size(x->n[2], v->pad[1], v->pad[3], v->window[1], v->stride[1], 1);
    if (y->n[1] < 1 || y->n[2] < 1) {
        char t[SHAPE_TEXT];
        graph_fail(g, EBM_ERR_ARG, "POOL: %s is smaller than a window of %d,%d",
                   shape_text(x, t), v->window[0], v->window[1]);
        return false;
    }
    return true;
}

ebm_val ebm_sum_pool(ebm_graph *g, ebm_val x, const ebm_pool_spec *spec)
{
    union attr attr = { 0 };
    struct shape y;

    if (!rank4(g, OP_POOL, x) || !normal_pool(g, spec, &attr.pool)
        || !pooled_shape(g, &node_of(g, x)->shape, &attr.pool, &y))
        return 0;
    return graph_node(g, OP_POOL, EBM_F32, &y, 1, &x, &attr);
}

ebm_val build_unpool(ebm_graph *g, ebm_val y, const ebm_pool_spec *spec, const struct shape *x)
{
    union attr attr = { 0 };

    if (!rank4(g, OP_UNPOOL, y))
        return 0;
    attr.pool = *spec;
    return graph_node(g, OP_UNPOOL, EBM_F32, x, 1, &y, &attr);
}

ebm_val build_pick(ebm_graph *g, ebm_val key, ebm_val b, const ebm_pool_spec *spec)
{
    union attr attr = { 0 };
    struct shape y;

    if (!rank4(g, OP_PICK, key) || !rank4(g, OP_PICK, b) || !normal_pool(g, spec, &attr.pool)
        || !pooled_shape(g, &node_of(g, key)->shape, &attr.pool, &y))
        return 0;
    return graph_node(g, OP_PICK, EBM_F32, &y, 2, (ebm_val[]){ key, b }, &attr);
}

ebm_val build_place(ebm_graph *g, ebm_val key, ebm_val b, const ebm_pool_spec *spec)
{
    union attr attr = { 0 };

    if (!rank4(g, OP_PLACE, key) || !rank4(g, OP_PLACE, b))
        return 0;
    attr.pool = *spec;
    return graph_node(g, OP_PLACE, EBM_F32, &node_of(g, key)->shape, 2, (ebm_val[]){ key, b }, &attr);
}

ebm_val ebm_max_pool(ebm_graph *g, ebm_val x, const ebm_pool_spec *spec)
{
    return build_pick(g, x, x, spec);
}

ebm_val build_resample(ebm_graph *g, enum op op, ebm_val x, int mode, int64_t h, int64_t w)
{
    union attr attr = { 0 };
    struct shape y;

    if (!rank4(g, op, x))
        return 0;
    struct shape from = node_of(g, x)->shape;
    if (!make_shape(g, "RESAMPLE", 4, (int64_t[]){ from.n[0], h, w, from.n[3] }, &y))
        return 0;
    attr.resample = mode;
    return graph_node(g, op, EBM_F32, &y, 1, &x, &attr);
}

ebm_val ebm_resample(ebm_graph *g, ebm_val x, enum ebm_resample mode, int64_t h, int64_t w)
{
    return build_resample(g, OP_RESAMPLE, x, mode, h, w);
}

/* ---- rows ---- */

static bool row_index(ebm_graph *g, enum op op, ebm_val a, ebm_val index)
{
    if (!usable(g, a) || !usable_type(g, op, index, EBM_I32))
        return false;
    if (node_of(g, a)->shape.rank < 1 || node_of(g, index)->shape.rank != 1) {
        graph_fail(g, EBM_ERR_ARG, "%s: needs rows [n,...] and an index [n]", op_info[op].name);
        return false;
    }
    return true;
}

ebm_val ebm_gather(ebm_graph *g, ebm_val a, ebm_val index)
{
    if (!row_index(g, OP_GATHER, a, index))
        return 0;
    struct shape s = node_of(g, a)->shape;
    int64_t n[EBM_MAX_RANK];
    memcpy(n, s.n, sizeof n);
    n[0] = node_of(g, index)->shape.n[0];
    if (!make_shape(g, "GATHER", s.rank, n, &s))
        return 0;
    return graph_node(g, OP_GATHER, node_of(g, a)->type, &s, 2, (ebm_val[]){ a, index }, NULL);
}

static bool rows_match(ebm_graph *g, enum op op, ebm_val rows, ebm_val index)
{
    if (!row_index(g, op, rows, index))
        return false;
    if (node_of(g, rows)->shape.n[0] != node_of(g, index)->shape.n[0]) {
        graph_fail(g, EBM_ERR_ARG, "%s: %lld rows and %lld indices", op_info[op].name,
                   (long long)node_of(g, rows)->shape.n[0], (long long)node_of(g, index)->shape.n[0]);
        return false;
    }
    return true;
}

ebm_val ebm_scatter(ebm_graph *g, ebm_val rows, ebm_val index, int64_t v)
{
    if (!rows_match(g, OP_SCATTER, rows, index) || !usable_type(g, OP_SCATTER, rows, EBM_F32))
        return 0;
    struct shape s = node_of(g, rows)->shape;
    int64_t n[EBM_MAX_RANK];
    memcpy(n, s.n, sizeof n);
    n[0] = v;
    if (!make_shape(g, "SCATTER", s.rank, n, &s))
        return 0;
    return graph_node(g, OP_SCATTER, EBM_F32, &s, 2, (ebm_val[]){ rows, index }, NULL);
}

ebm_val ebm_update(ebm_graph *g, ebm_val a, ebm_val index, ebm_val rows)
{
    if (!usable(g, a) || !rows_match(g, OP_UPDATE, rows, index))
        return 0;
    struct shape s = node_of(g, a)->shape, like = node_of(g, rows)->shape;
    like.n[0] = s.rank > 0 ? s.n[0] : 0;
    if (!shape_equal(&s, &like) || node_of(g, a)->type != node_of(g, rows)->type)
        return graph_fail(g, EBM_ERR_ARG, "UPDATE: the rows do not have the shape and type of the table's");
    return graph_node(g, OP_UPDATE, node_of(g, a)->type, &s, 3, (ebm_val[]){ a, index, rows }, NULL);
}

/* ---- effects ---- */

ebm_val ebm_assign(ebm_graph *g, ebm_val state, ebm_val a)
{
    union attr attr = { 0 };

    if (!usable(g, state) || !usable(g, a))
        return 0;
    const struct node *s = node_of(g, state), *v = node_of(g, a);
    if (s->op != OP_STATE || s->attr.state.offset != 0
        || shape_count(&s->shape) != shape_count(&g->store->tensors[s->attr.state.slot].shape))
        return graph_fail(g, EBM_ERR_ARG, "ASSIGN: the target is not a whole state or region");
    if (s->type != v->type || shape_count(&s->shape) != shape_count(&v->shape)) {
        char ts[SHAPE_TEXT], tv[SHAPE_TEXT];
        return graph_fail(g, EBM_ERR_ARG, "ASSIGN: '%s' %s cannot take a value %s of %s type",
                          g->store->tensors[s->attr.state.slot].name, shape_text(&s->shape, ts),
                          shape_text(&v->shape, tv), s->type == v->type ? "its" : "another");
    }
    attr.state.slot = s->attr.state.slot;
    return graph_node(g, OP_ASSIGN, v->type, &v->shape, 1, &a, &attr);
}
