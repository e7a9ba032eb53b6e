/* compose.c - builders that are formulas of others.
 *
 * SPDX-License-Identifier: ISC */
#include <math.h>
#include "build.h"

/* The operand's shape, or that of a scalar when an error is latched. */
static struct shape shape_of(const ebm_graph *g, ebm_val a)
{
    static const struct shape scalar;

    return a > 0 && a < g->count ? g->nodes[a].shape : scalar;
}

ebm_val ebm_scale(ebm_graph *g, ebm_val a, double factor)
{
    return ebm_mul(g, a, ebm_fill(g, a, factor));
}

ebm_val ebm_offset(ebm_graph *g, ebm_val a, double add)
{
    return ebm_add(g, a, ebm_fill(g, a, add));
}

ebm_val ebm_square(ebm_graph *g, ebm_val a)
{
    return ebm_mul(g, a, a);
}

ebm_val ebm_clamp(ebm_graph *g, ebm_val a, double lo, double hi)
{
    return ebm_min(g, ebm_max(g, a, ebm_fill(g, a, lo)), ebm_fill(g, a, hi));
}

/* The comparison, not MAX: the derivative at 0 is then 0, as frameworks have it. */
ebm_val ebm_relu(ebm_graph *g, ebm_val a)
{
    ebm_val zero = ebm_fill(g, a, 0);

    return ebm_select(g, ebm_less(g, zero, a), a, zero);
}

ebm_val ebm_leaky_relu(ebm_graph *g, ebm_val a, double slope)
{
    return ebm_select(g, ebm_less(g, ebm_fill(g, a, 0), a), a, ebm_scale(g, a, slope));
}

ebm_val ebm_silu(ebm_graph *g, ebm_val a)
{
    return ebm_mul(g, a, ebm_sigmoid(g, a));
}

/* a > 0 ? a : e^a - 1; the exponent is kept from overflowing on the other side. */
ebm_val ebm_elu(ebm_graph *g, ebm_val a)
{
    ebm_val zero = ebm_fill(g, a, 0);
    ebm_val e = ebm_offset(g, ebm_exp(g, ebm_min(g, a, zero)), -1);

    return ebm_select(g, ebm_less(g, zero, a), a, e);
}

/* Hendrycks and Gimpel 2016, the tanh form. */
ebm_val ebm_gelu(ebm_graph *g, ebm_val a)
{
    const double root_2_over_pi = 0.79788456080286535588;
    ebm_val cubic = ebm_mul(g, a, ebm_offset(g, ebm_scale(g, ebm_square(g, a), 0.044715), 1));
    ebm_val t = ebm_tanh(g, ebm_scale(g, cubic, root_2_over_pi));

    return ebm_mul(g, ebm_scale(g, a, 0.5), ebm_offset(g, t, 1));
}

ebm_val ebm_mean(ebm_graph *g, ebm_val a, unsigned axes)
{
    struct shape s = shape_of(g, a);
    int64_t count = 1;

    for (int i = 0; i < s.rank; i++)
        if (axes >> i & 1)
            count *= s.n[i];
    return ebm_scale(g, ebm_sum(g, a, axes), 1.0 / (double)count);
}

ebm_val ebm_sum_all(ebm_graph *g, ebm_val a)
{
    return ebm_reshape(g, ebm_sum(g, a, (1u << shape_of(g, a).rank) - 1), 0, NULL);
}

ebm_val ebm_mean_all(ebm_graph *g, ebm_val a)
{
    struct shape s = shape_of(g, a);

    return ebm_scale(g, ebm_sum_all(g, a), 1.0 / (double)shape_count(&s));
}

static ebm_val known_axis(ebm_graph *g, const char *what, ebm_val a, int axis)
{
    if (a && (axis < 0 || axis >= shape_of(g, a).rank))
        return graph_fail(g, EBM_ERR_ARG, "%s: no axis %d in rank %d", what, axis,
                          shape_of(g, a).rank);
    return a;
}

/* Shifted by the largest element, which changes nothing but the range. */
ebm_val ebm_softmax(ebm_graph *g, ebm_val a, int axis)
{
    if (!(a = known_axis(g, "softmax", a, axis)))
        return 0;
    ebm_val e = ebm_exp(g, ebm_sub(g, a, ebm_stop(g, ebm_amax(g, a, 1u << axis))));

    return ebm_div(g, e, ebm_sum(g, e, 1u << axis));
}

ebm_val ebm_logsumexp(ebm_graph *g, ebm_val a, int axis)
{
    if (!(a = known_axis(g, "logsumexp", a, axis)))
        return 0;
    ebm_val top = ebm_stop(g, ebm_amax(g, a, 1u << axis));
    ebm_val sum = ebm_sum(g, ebm_exp(g, ebm_sub(g, a, top)), 1u << axis);

    return ebm_add(g, ebm_log(g, sum), top);
}

ebm_val ebm_avg_pool(ebm_graph *g, ebm_val x, const ebm_pool_spec *spec)
{
    return ebm_scale(g, ebm_sum_pool(g, x, spec), 1.0 / ((double)spec->window[0] * spec->window[1]));
}

ebm_val ebm_one_hot(ebm_graph *g, ebm_val labels, int64_t classes)
{
    int64_t n = shape_count(&(struct shape){ 1, { shape_of(g, labels).rank ? shape_of(g, labels).n[0] : 1 } });
    ebm_val column = ebm_reshape(g, ebm_cast(g, labels, EBM_F32), 2, (int64_t[]){ n, 1 });

    return ebm_equal(g, column, ebm_iota(g, 2, (int64_t[]){ 1, classes }, 1));
}
