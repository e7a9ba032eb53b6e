/* grad.c - gradients, from graph to graph.
 *
 * SPDX-License-Identifier: ISC
 *
 * Reverse accumulation: dy flows from a value to its operands, last value
 * first.  Every rule emits operations of ops.def, so a gradient is a value like
 * any other and has gradients itself.  Only values between x and y are visited. */
#include <string.h>
#include "build.h"
#include "store.h"

struct grad {
    ebm_graph *g;
    ebm_val *d;              /* accumulated gradient by value; 0: none yet */
    const char *needed;      /* by value: does it depend on an x? */
};

static void add_grad(struct grad *s, ebm_val a, ebm_val da)
{
    if (a < 1 || !s->needed[a] || !da)
        return;
    s->d[a] = s->d[a] ? ebm_add(s->g, s->d[a], da) : da;
}

static ebm_val in(const struct grad *s, ebm_val y, int i)
{
    return operand(node_of(s->g, y), i);
}

/* ---- rules: grad_<name>(s, y, dy), one for each name in ops.def ---- */

#define RULE(name) static void grad_##name(struct grad *s, ebm_val y, ebm_val dy)
#define G s->g
#define A in(s, y, 0)
#define B in(s, y, 1)

RULE(zero) { (void)s; (void)y; (void)dy; }

RULE(none)
{
    (void)dy;
    graph_fail(G, EBM_ERR_ARG, "%s has no gradient", op_info[node_of(G, y)->op].name);
}

RULE(neg)      { add_grad(s, A, ebm_neg(G, dy)); }
RULE(abs)      { add_grad(s, A, ebm_mul(G, dy, ebm_sign(G, A))); }
RULE(exp)      { add_grad(s, A, ebm_mul(G, dy, y)); }
RULE(log)      { add_grad(s, A, ebm_div(G, dy, A)); }
RULE(sqrt)     { add_grad(s, A, ebm_div(G, ebm_scale(G, dy, 0.5), y)); }
RULE(sin)      { add_grad(s, A, ebm_mul(G, dy, ebm_cos(G, A))); }
RULE(cos)      { add_grad(s, A, ebm_neg(G, ebm_mul(G, dy, ebm_sin(G, A)))); }
RULE(softplus) { add_grad(s, A, ebm_mul(G, dy, ebm_sigmoid(G, A))); }

RULE(tanh)     /* 1 - y^2 */
{
    add_grad(s, A, ebm_mul(G, dy, ebm_offset(G, ebm_neg(G, ebm_square(G, y)), 1)));
}

RULE(sigmoid)  /* y (1 - y) */
{
    add_grad(s, A, ebm_mul(G, dy, ebm_mul(G, y, ebm_offset(G, ebm_neg(G, y), 1))));
}

/* Integers do not vary: only float to float would carry a gradient, and that
 * cast is no node. */
RULE(cast) { (void)s; (void)y; (void)dy; }

RULE(add)  { add_grad(s, A, dy); add_grad(s, B, dy); }
RULE(sub)  { add_grad(s, A, dy); add_grad(s, B, ebm_neg(G, dy)); }

RULE(mul)
{
    ebm_val a = A, b = B;

    if (a == b) {
        add_grad(s, a, ebm_mul(G, ebm_scale(G, dy, 2), a));
        return;
    }
    add_grad(s, a, ebm_mul(G, dy, b));
    add_grad(s, b, ebm_mul(G, dy, a));
}

RULE(div)      /* y = a / b:  dy / b,  -dy y / b */
{
    ebm_val b = B, q = ebm_div(G, dy, b);

    add_grad(s, A, q);
    add_grad(s, b, ebm_neg(G, ebm_mul(G, q, y)));
}

/* `wins` is 1 where the first operand is the result; all of dy goes to it. */
static void grad_either(struct grad *s, ebm_val y, ebm_val dy, ebm_val wins)
{
    ebm_val zero = ebm_fill(G, dy, 0);

    add_grad(s, A, ebm_select(G, wins, dy, zero));
    add_grad(s, B, ebm_select(G, wins, zero, dy));
}

RULE(max)
{
    ebm_val zero = ebm_const(G, 0), one = ebm_const(G, 1);

    grad_either(s, y, dy, ebm_select(G, ebm_less(G, A, B), zero, one));
}

RULE(min)
{
    ebm_val zero = ebm_const(G, 0), one = ebm_const(G, 1);

    grad_either(s, y, dy, ebm_select(G, ebm_less(G, B, A), zero, one));
}

RULE(select)
{
    ebm_val c = A, zero = ebm_fill(G, dy, 0);

    add_grad(s, B, ebm_select(G, c, dy, zero));
    add_grad(s, in(s, y, 2), ebm_select(G, c, zero, dy));
}

RULE(broadcast)
{
    const struct shape *from = &node_of(G, A)->shape, *to = &node_of(G, y)->shape;
    unsigned axes = 0;

    for (int i = 0; i < to->rank; i++)
        if (from->n[i] != to->n[i])
            axes |= 1u << i;
    add_grad(s, A, ebm_sum(G, dy, axes));
}

static ebm_val reshape_like(ebm_graph *g, ebm_val a, ebm_val like)
{
    struct shape to = node_of(g, like)->shape;

    return ebm_reshape(g, a, to.rank, to.n);
}

static ebm_val broadcast_like(ebm_graph *g, ebm_val a, ebm_val like)
{
    struct shape to = node_of(g, like)->shape;

    return ebm_broadcast(g, a, to.rank, to.n);
}

RULE(reshape) { add_grad(s, A, reshape_like(G, dy, A)); }

RULE(transpose)
{
    const struct node *n = node_of(G, y);
    int inverse[EBM_MAX_RANK];

    for (int i = 0; i < n->shape.rank; i++)
        inverse[n->attr.perm[i]] = i;
    add_grad(s, A, ebm_transpose(G, dy, inverse));
}

RULE(slice)
{
    union attr attr = node_of(G, y)->attr;
    struct shape to = node_of(G, A)->shape;

    add_grad(s, A, build_pad(G, dy, &to, attr.box.begin, attr.box.step));
}

RULE(pad)
{
    union attr attr = node_of(G, y)->attr;
    struct shape to = node_of(G, A)->shape;

    add_grad(s, A, ebm_slice(G, dy, attr.box.begin, to.n, attr.box.step));
}

RULE(flip) { add_grad(s, A, ebm_flip(G, dy, node_of(G, y)->attr.axes)); }

RULE(concat)
{
    int axis = node_of(G, y)->attr.axis, n = node_of(G, y)->n_in;
    int64_t begin[EBM_MAX_RANK] = { 0 };

    for (int i = 0; i < n; i++) {
        struct shape part = node_of(G, in(s, y, i))->shape;
        if (s->needed[in(s, y, i)])
            add_grad(s, in(s, y, i), ebm_slice(G, dy, begin, part.n, NULL));
        begin[axis] += part.n[axis];
    }
}

RULE(sum) { add_grad(s, A, broadcast_like(G, dy, A)); }

RULE(amax)     /* shared by all elements that are the largest */
{
    ebm_val hit = ebm_equal(G, A, y);
    ebm_val share = ebm_div(G, dy, ebm_sum(G, hit, node_of(G, y)->attr.axes));

    add_grad(s, A, ebm_mul(G, hit, share));
}

RULE(matmul)   /* c = op(a) op(b):  dop(a) = dc op(b)',  dop(b) = op(a)' dc */
{
    bool ta = node_of(G, y)->attr.matmul.ta, tb = node_of(G, y)->attr.matmul.tb;
    bool full = node_of(G, y)->attr.matmul.full;
    ebm_val a = A, b = B;

    if (s->needed[a])
        add_grad(s, a, ta ? build_matmul(G, b, dy, tb, true, full)
                          : build_matmul(G, dy, b, false, !tb, full));
    if (s->needed[b])
        add_grad(s, b, tb ? build_matmul(G, dy, a, true, ta, full)
                          : build_matmul(G, a, dy, !ta, false, full));
}

/* One trilinear form, sum y (x conv f): each partial of one of its partials is
 * another of them. */
static ebm_val form_x(struct grad *s, ebm_val y, ebm_val f, const ebm_conv_spec *v, ebm_val like)
{
    struct shape to = node_of(G, like)->shape;

    return ebm_conv_data(G, y, f, v, to.n[1], to.n[2]);
}

static ebm_val form_f(struct grad *s, ebm_val x, ebm_val y, const ebm_conv_spec *v, ebm_val like)
{
    struct shape to = node_of(G, like)->shape;

    return ebm_conv_filter(G, x, y, v, to.n[1], to.n[2]);
}

RULE(conv)
{
    ebm_conv_spec v = node_of(G, y)->attr.conv;
    ebm_val x = A, f = B;

    if (s->needed[x])
        add_grad(s, x, form_x(s, dy, f, &v, x));
    if (s->needed[f])
        add_grad(s, f, form_f(s, x, dy, &v, f));
}

RULE(conv_data)    /* operands y', f; dy is shaped like x */
{
    ebm_conv_spec v = node_of(G, y)->attr.conv;
    ebm_val b = A, f = B;

    if (s->needed[b])
        add_grad(s, b, ebm_conv(G, dy, f, &v));
    if (s->needed[f])
        add_grad(s, f, form_f(s, dy, b, &v, f));
}

RULE(conv_filter)  /* operands x, y'; dy is shaped like f */
{
    ebm_conv_spec v = node_of(G, y)->attr.conv;
    ebm_val x = A, b = B;

    if (s->needed[x])
        add_grad(s, x, form_x(s, b, dy, &v, x));
    if (s->needed[b])
        add_grad(s, b, ebm_conv(G, x, dy, &v));
}

RULE(pool)
{
    ebm_pool_spec v = node_of(G, y)->attr.pool;
    struct shape to = node_of(G, A)->shape;

    add_grad(s, A, build_unpool(G, dy, &v, &to));
}

RULE(unpool)
{
    ebm_pool_spec v = node_of(G, y)->attr.pool;

    add_grad(s, A, ebm_sum_pool(G, dy, &v));
}

/* The places of the largest do not move, almost everywhere. */
RULE(pick)
{
    ebm_pool_spec v = node_of(G, y)->attr.pool;

    add_grad(s, B, build_place(G, A, dy, &v));
}

RULE(place)
{
    ebm_pool_spec v = node_of(G, y)->attr.pool;

    add_grad(s, B, build_pick(G, A, dy, &v));
}

static void grad_resampling(struct grad *s, ebm_val y, ebm_val dy, enum op adjoint)
{
    struct shape to = node_of(G, A)->shape;

    add_grad(s, A, build_resample(G, adjoint, dy, node_of(G, y)->attr.resample, to.n[1], to.n[2]));
}

RULE(resample)   { grad_resampling(s, y, dy, OP_RESAMPLE_T); }
RULE(resample_t) { grad_resampling(s, y, dy, OP_RESAMPLE); }

RULE(gather)  { add_grad(s, A, ebm_scatter(G, dy, B, node_of(G, A)->shape.n[0])); }
RULE(scatter) { add_grad(s, A, ebm_gather(G, dy, B)); }

static void (*const rules[OP_COUNT])(struct grad *, ebm_val, ebm_val) = {
    [OP_NONE] = grad_none,
#define OP(name, operands, class, gradient, meaning) [OP_##name] = grad_##gradient,
#include "ops.def"
#undef OP
};

#undef A
#undef B
#undef G

/* ---- the sweep ---- */

static void mark_dependents(const ebm_graph *g, ebm_val last, char *needed)
{
    for (ebm_val a = 1; a <= last; a++) {
        const struct node *n = node_of(g, a);
        for (int i = 0; i < n->n_in && !needed[a]; i++)
            needed[a] = n->type == EBM_F32 && needed[operand(n, i)];
    }
}

/* Differentiate sum y by everything marked in `needed`: d, by value up to y. */
static void sweep(ebm_graph *g, ebm_val y, const char *needed, ebm_val *d)
{
    struct grad s = { g, d, needed };

    d[y] = ebm_fill(g, y, 1);
    for (ebm_val a = y; a > 0 && g->status >= 0; a--)
        if (d[a] && needed[a])
            rules[node_of(g, a)->op](&s, a, d[a]);
}

void ebm_gradients(ebm_graph *g, ebm_val y, int n, const ebm_val *x, ebm_val *dx)
{
    for (int i = 0; i < n; i++)
        dx[i] = 0;
    if (g->status < 0)
        return;
    if (y < 1 || y >= g->count || node_of(g, y)->type != EBM_F32) {
        graph_fail(g, EBM_ERR_ARG, "gradient of something that is no float value");
        return;
    }
    for (int i = 0; i < n; i++)
        if (x[i] < 1 || x[i] >= g->count) {
            graph_fail(g, EBM_ERR_ARG, "gradient by something that is no value");
            return;
        }
    /* sized by the graph of now: rules append values beyond y only */
    int32_t count = g->count;
    char *needed = mem_new(g->ctx, (size_t)count, 1);
    ebm_val *d = mem_new(g->ctx, (size_t)count, sizeof *d);
    if (!needed || !d) {
        graph_fail(g, EBM_ERR_NOMEM, "no memory for a gradient");
    } else {
        for (int i = 0; i < n; i++)
            needed[x[i]] = 1;
        mark_dependents(g, y, needed);
        sweep(g, y, needed, d);
        for (int i = 0; i < n && g->status >= 0; i++)
            dx[i] = d[x[i]] ? d[x[i]] : ebm_fill(g, x[i], 0);
    }
    mem_free(g->ctx, d);
    mem_free(g->ctx, needed);
}

ebm_val ebm_grad(ebm_graph *g, ebm_val y, ebm_val x)
{
    ebm_val dx;

    ebm_gradients(g, y, 1, &x, &dx);
    return g->status < 0 ? 0 : dx;
}

ebm_val ebm_grad_region(ebm_graph *g, ebm_val y, const char *region)
{
    if (!ebm_region(g, region))
        return 0;
    int slot = store_find(g->store, region);
    const struct tensor *t = &g->store->tensors[slot];
    int n = t->n_parts;
    ebm_val *x = mem_new(g->ctx, (size_t)n, sizeof *x);
    ebm_val *dx = mem_new(g->ctx, (size_t)n, sizeof *dx);
    ebm_val flat = 0;

    if (!x || !dx) {
        graph_fail(g, EBM_ERR_NOMEM, "no memory for a gradient");
    } else {
        for (int i = 0; i < n; i++)
            x[i] = ebm_param(g, region, t->parts[i].name, t->parts[i].shape.rank,
                             t->parts[i].shape.n, t->parts[i].init);
        ebm_gradients(g, y, n, x, dx);
        for (int i = 0; i < n; i++)
            dx[i] = ebm_reshape(g, dx[i], 1, (int64_t[]){ -1 });
        flat = ebm_concat(g, 0, n, dx);
    }
    mem_free(g->ctx, dx);
    mem_free(g->ctx, x);
    return flat;
}
