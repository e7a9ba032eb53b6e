/* simplify.c - algebra on nodes as they are made.
 *
 * SPDX-License-Identifier: ISC
 *
 * A rule looks at one node and its operands and names a simpler equal value.
 * Operands are simplified already, so one step at a time reaches the end.
 * Rules treat numbers as reals: x * 0 is 0 also where x could be infinite.
 * What gradients need most: adding zeros, multiplying by ones, constants. */
#include <math.h>
#include <string.h>
#include "build.h"

static bool is_const(const ebm_graph *g, ebm_val a, double *value)
{
    const struct node *n = node_of(g, a);

    *value = (double)n->attr.value;
    return n->op == OP_CONST;
}

static bool is_value(const ebm_graph *g, ebm_val a, double value)
{
    double v;

    return is_const(g, a, &v) && v == value;
}

static double fold(enum op op, double a, double b, double c)
{
    switch (op) {
    case OP_NEG: return -a;
    case OP_ABS: return fabs(a);
    case OP_SIGN: return (a > 0) - (a < 0);
    case OP_FLOOR: return floor(a);
    case OP_EXP: return exp(a);
    case OP_LOG: return log(a);
    case OP_SQRT: return sqrt(a);
    case OP_SIN: return sin(a);
    case OP_COS: return cos(a);
    case OP_TANH: return tanh(a);
    case OP_SIGMOID: return 1 / (1 + exp(-a));
    case OP_SOFTPLUS: return fmax(a, 0) + log1p(exp(-fabs(a)));
    case OP_STOP: return a;
    case OP_ADD: return a + b;
    case OP_SUB: return a - b;
    case OP_MUL: return a * b;
    case OP_DIV: return a / b;
    case OP_MAX: return a >= b ? a : b;
    case OP_MIN: return a <= b ? a : b;
    case OP_LESS: return a < b;
    case OP_EQUAL: return a == b;
    case OP_SELECT: return a != 0 ? b : c;
    default: return NAN;
    }
}

/* An elementwise operation on constants only. */
static ebm_val fold_constants(ebm_graph *g, const struct node *n)
{
    double v[3] = { 0 };

    if (n->op == OP_CAST)
        return 0;
    for (int i = 0; i < n->n_in; i++)
        if (!is_const(g, n->in[i], &v[i]))
            return 0;
    return build_const(g, &n->shape, fold(n->op, v[0], v[1], v[2]));
}

static ebm_val inverse(ebm_graph *g, ebm_val a)
{
    return ebm_div(g, build_const(g, &node_of(g, a)->shape, 1), a);
}

/* s = c ? a : 0 and t = c ? 0 : b, or the other way round: the choice that is their sum. */
static ebm_val merge_choices(ebm_graph *g, ebm_val s, ebm_val t)
{
    const struct node *p = node_of(g, s), *q = node_of(g, t);

    if (p->op != OP_SELECT || q->op != OP_SELECT || p->in[0] != q->in[0])
        return 0;
    if (is_value(g, p->in[2], 0) && is_value(g, q->in[1], 0))
        return ebm_select(g, p->in[0], p->in[1], q->in[2]);
    if (is_value(g, p->in[1], 0) && is_value(g, q->in[2], 0))
        return ebm_select(g, p->in[0], q->in[1], p->in[2]);
    return 0;
}

/* A sum of which two terms are such choices, perhaps one of them within the other operand:
 * what comes of the gradient of a choice both of whose sides depend on one value. */
static ebm_val add_choices(ebm_graph *g, ebm_val a, ebm_val b)
{
    ebm_val merged = merge_choices(g, a, b);

    for (int i = 0; i < 2 && !merged; i++) {
        const struct node *sum = node_of(g, i ? a : b);
        ebm_val choice = i ? b : a;
        if (sum->op != OP_ADD || node_of(g, choice)->op != OP_SELECT)
            continue;
        const ebm_val term[2] = { sum->in[0], sum->in[1] };
        for (int k = 0; k < 2 && !merged; k++) {
            ebm_val both = merge_choices(g, term[k], choice);
            merged = both ? ebm_add(g, term[1 - k], both) : 0;
        }
    }
    return merged;
}

/* (c ? a : 0) v = c ? a v : 0 for a constant v, so that sums of choices meet. */
static ebm_val scale_choice(ebm_graph *g, ebm_val a, ebm_val v)
{
    const struct node *n = node_of(g, a);
    ebm_val c = n->in[0], x = n->in[1], y = n->in[2];

    if (n->op != OP_SELECT)
        return 0;
    if (is_value(g, x, 0))
        return ebm_select(g, c, x, ebm_mul(g, y, v));
    return is_value(g, y, 0) ? ebm_select(g, c, ebm_mul(g, x, v), y) : 0;
}

static ebm_val simplify_binary(ebm_graph *g, const struct node *n)
{
    ebm_val a = n->in[0], b = n->in[1];
    double v;

    switch (n->op) {
    case OP_ADD:
        if (is_value(g, a, 0)) return b;
        if (is_value(g, b, 0)) return a;
        if (node_of(g, b)->op == OP_NEG) return ebm_sub(g, a, node_of(g, b)->in[0]);
        if (node_of(g, a)->op == OP_NEG) return ebm_sub(g, b, node_of(g, a)->in[0]);
        /* one order for both: a + b and b + a are one node; constants last */
        if (node_of(g, a)->op == OP_CONST || (node_of(g, b)->op != OP_CONST && a > b))
            return ebm_add(g, b, a);
        return add_choices(g, a, b);
    case OP_SUB:
        if (is_value(g, b, 0)) return a;
        if (is_value(g, a, 0)) return ebm_neg(g, b);
        if (a == b) return build_const(g, &n->shape, 0);
        if (node_of(g, b)->op == OP_NEG) return ebm_add(g, a, node_of(g, b)->in[0]);
        return 0;
    case OP_MUL:
        if (is_value(g, a, 0) || is_value(g, b, 0)) return build_const(g, &n->shape, 0);
        if (is_value(g, a, 1)) return b;
        if (is_value(g, b, 1)) return a;
        if (is_value(g, a, -1)) return ebm_neg(g, b);
        if (is_value(g, b, -1)) return ebm_neg(g, a);
        if (node_of(g, a)->op == OP_CONST || (node_of(g, b)->op != OP_CONST && a > b))
            return ebm_mul(g, b, a);
        if (is_const(g, b, &v) && node_of(g, a)->op == OP_MUL) {     /* (x c) d = x (c d) */
            double w;
            if (is_const(g, node_of(g, a)->in[1], &w) && isnormal((float)(v * w)))
                return ebm_mul(g, node_of(g, a)->in[0], build_const(g, &n->shape, v * w));
        }
        if (is_const(g, b, &v) && node_of(g, a)->op == OP_NEG)
            return ebm_mul(g, node_of(g, a)->in[0], build_const(g, &n->shape, -v));
        if (is_const(g, b, &v) && node_of(g, a)->op == OP_BROADCAST)  /* fewer are multiplied */
            return ebm_broadcast(g, ebm_scale(g, node_of(g, a)->in[0], v), n->shape.rank, n->shape.n);
        return node_of(g, b)->op == OP_CONST ? scale_choice(g, a, b) : 0;
    case OP_DIV:
        if (is_value(g, a, 0)) return build_const(g, &n->shape, 0);
        if (is_value(g, b, 1)) return a;
        if (node_of(g, b)->op == OP_BROADCAST)           /* few are divided by */
            return ebm_mul(g, a, ebm_broadcast(g, inverse(g, node_of(g, b)->in[0]),
                                               n->shape.rank, n->shape.n));
        return 0;
    default:
        return 0;
    }
}

static ebm_val simplify_ew(ebm_graph *g, const struct node *n)
{
    ebm_val folded = fold_constants(g, n), a = n->in[0];

    if (folded || g->status < 0)
        return folded;
    switch (n->op) {
    case OP_NEG:
        if (node_of(g, a)->op == OP_NEG) return node_of(g, a)->in[0];
        if (node_of(g, a)->op == OP_SUB)
            return ebm_sub(g, node_of(g, a)->in[1], node_of(g, a)->in[0]);
        return 0;
    case OP_STOP:
        return node_of(g, a)->op == OP_STOP ? a : 0;
    case OP_CAST:
        return node_of(g, a)->type == n->type ? a : 0;
    case OP_SELECT: {
        double c;
        if (is_const(g, a, &c)) return c != 0 ? n->in[1] : n->in[2];
        return n->in[1] == n->in[2] ? n->in[1] : 0;
    }
    default:
        return simplify_binary(g, n);
    }
}

static bool same_shape_as_operand(const ebm_graph *g, const struct node *n)
{
    return shape_equal(&n->shape, &node_of(g, n->in[0])->shape);
}

static bool is_identity_perm(const struct node *n)
{
    for (int i = 0; i < n->shape.rank; i++)
        if (n->attr.perm[i] != i)
            return false;
    return true;
}

/* A constant, moved, is a constant. PAD brings in zeros. */
static ebm_val move_constant(ebm_graph *g, const struct node *n)
{
    double v;

    if (n->op == OP_CONCAT || node_of(g, n->in[0])->op != OP_CONST || !is_const(g, n->in[0], &v))
        return 0;
    return n->op == OP_PAD && v != 0 ? 0 : build_const(g, &n->shape, v);
}

static ebm_val simplify_move(ebm_graph *g, const struct node *n)
{
    ebm_val constant = move_constant(g, n), a = operand(n, 0);
    const struct node *from = node_of(g, a);

    if (constant || g->status < 0)
        return constant;
    switch (n->op) {
    case OP_RESHAPE:
        if (same_shape_as_operand(g, n)) return a;
        if (from->op == OP_RESHAPE) return ebm_reshape(g, from->in[0], n->shape.rank, n->shape.n);
        return 0;
    case OP_BROADCAST:
        if (same_shape_as_operand(g, n)) return a;
        if (from->op == OP_BROADCAST) return ebm_broadcast(g, from->in[0], n->shape.rank, n->shape.n);
        return 0;
    case OP_TRANSPOSE:
        if (is_identity_perm(n)) return a;
        if (from->op == OP_TRANSPOSE) {
            int perm[EBM_MAX_RANK];
            for (int i = 0; i < n->shape.rank; i++)
                perm[i] = from->attr.perm[n->attr.perm[i]];
            return ebm_transpose(g, from->in[0], perm);
        }
        return 0;
    case OP_SLICE:      /* of its full size: the whole; PAD likewise */
    case OP_PAD:
        return same_shape_as_operand(g, n) ? a : 0;
    case OP_FLIP: {
        unsigned axes = 0;
        for (int i = 0; i < n->shape.rank; i++)
            if (n->attr.axes >> i & 1 && n->shape.n[i] > 1)
                axes |= 1u << i;
        if (!axes) return a;
        return axes != n->attr.axes ? ebm_flip(g, a, axes) : 0;
    }
    case OP_CONCAT:
        return n->n_in == 1 ? a : 0;
    default:
        return 0;
    }
}

/* ---- sums that are known in part ----
 *
 * sum ((x - m) f + dy k) = f (sum x - N m) + k sum dy, where f, k and m do not vary along what
 * is summed and the sum of x is taken anyway.  Gradients of normalisations have such a sum of
 * all that they are but for a mean, which therefore need not be there before it is whole. */

/* What a value is that does not vary along the axes summed over, in the sum's shape; 0: it
 * does, or is neither constant nor BROADCAST. */
static ebm_val along(ebm_graph *g, ebm_val a, const struct shape *sum)
{
    const struct node *n = node_of(g, a);

    if (n->op == OP_CONST)
        return build_const(g, sum, (double)n->attr.value);
    if (n->op != OP_BROADCAST)
        return 0;
    const struct shape *from = &node_of(g, n->in[0])->shape;
    for (int i = 0; i < sum->rank; i++)
        if (from->n[i] != 1 && from->n[i] != sum->n[i])
            return 0;
    return ebm_broadcast(g, n->in[0], sum->rank, sum->n);
}

/* a = rest * factor, a factor that does not vary. */
static bool factor_of(ebm_graph *g, ebm_val a, const struct shape *sum, ebm_val *rest, ebm_val *factor)
{
    const ebm_val in[2] = { node_of(g, a)->in[0], node_of(g, a)->in[1] };

    for (int i = 0; i < 2 && node_of(g, a)->op == OP_MUL; i++)
        if ((*factor = along(g, in[i], sum))) {
            *rest = in[1 - i];
            return true;
        }
    return false;
}

/* The sum (a node but for its operand) of x - m from that of x, or of x itself; 0: x is not
 * summed. */
static ebm_val sum_taken(ebm_graph *g, const struct node *sum, ebm_val a)
{
    const enum op op = node_of(g, a)->op;
    const ebm_val in[2] = { node_of(g, a)->in[0], node_of(g, a)->in[1] };
    const double count = (double)(shape_count(&node_of(g, a)->shape) / shape_count(&sum->shape));
    struct node other = *sum;

    other.in[0] = op == OP_SUB ? in[0] : a;
    ebm_val x = graph_find(g, &other), m = x && op == OP_SUB ? along(g, in[1], &sum->shape) : 0;
    return op != OP_SUB ? x : m ? ebm_sub(g, x, ebm_scale(g, m, count)) : 0;
}

static ebm_val sum_known_in_part(ebm_graph *g, const struct node *sum)
{
    const struct node *from = node_of(g, sum->in[0]);
    const ebm_val term[2] = { from->in[0], from->in[1] };
    ebm_val rest[2], factor[2];

    if (from->op != OP_ADD || !factor_of(g, term[0], &sum->shape, &rest[0], &factor[0])
        || !factor_of(g, term[1], &sum->shape, &rest[1], &factor[1]))
        return 0;
    for (int i = 0; i < 2; i++) {
        ebm_val taken = sum_taken(g, sum, rest[i]);
        if (taken)
            return ebm_add(g, ebm_mul(g, taken, factor[i]),
                           ebm_mul(g, ebm_sum(g, rest[1 - i], sum->attr.axes), factor[1 - i]));
    }
    return 0;
}

static ebm_val simplify_reduce(ebm_graph *g, const struct node *n)
{
    const struct node *from = node_of(g, n->in[0]);
    double v;

    if (same_shape_as_operand(g, n))
        return n->in[0];
    if (is_const(g, n->in[0], &v)) {
        double count = (double)(shape_count(&from->shape) / shape_count(&n->shape));
        return build_const(g, &n->shape, n->op == OP_SUM ? v * count : v);
    }
    if (n->op == OP_SUM && from->op == OP_NEG)       /* fewer are negated */
        return ebm_neg(g, ebm_sum(g, from->in[0], n->attr.axes));
    if (n->op == OP_SUM && from->op == OP_SUM)
        return ebm_sum(g, from->in[0], from->attr.axes | n->attr.axes);
    return n->op == OP_SUM ? sum_known_in_part(g, n) : 0;
}

/* Linear in each operand: zero if one is. */
static ebm_val simplify_linear(ebm_graph *g, const struct node *n)
{
    for (int i = 0; i < n->n_in; i++)
        if (is_value(g, n->in[i], 0))
            return build_const(g, &n->shape, 0);
    return 0;
}

ebm_val simplify(ebm_graph *g, const struct node *n)
{
    switch (op_info[n->op].class) {
    case EW:
        return simplify_ew(g, n);
    case MOVE:
        return simplify_move(g, n);
    case REDUCE:
        return simplify_reduce(g, n);
    case CONTRACT:
        return simplify_linear(g, n);
    case WINDOW:
        if (n->op == OP_PICK || n->op == OP_PLACE)
            return is_value(g, n->in[1], 0) ? build_const(g, &n->shape, 0) : 0;
        if ((n->op == OP_RESAMPLE || n->op == OP_RESAMPLE_T) && same_shape_as_operand(g, n))
            return n->in[0];
        return simplify_linear(g, n);
    case INDEX:
        return n->op == OP_SCATTER && is_value(g, n->in[0], 0) ? build_const(g, &n->shape, 0) : 0;
    default:
        return 0;
    }
}
