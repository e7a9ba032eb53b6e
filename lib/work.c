/* work.c - see work.h.
 *
 * SPDX-License-Identifier: ISC */
#include "work.h"

/* Of every one of these, one multiply-add for each pair of factors. */
double node_work(const ebm_graph *g, const struct node *n)
{
    const struct node *a = node_of(g, n->in[0]), *b = node_of(g, n->in[1]);
    double each;             /* multiply-adds for an element of `of` */
    const struct node *of = n;

    switch (n->op) {
    case OP_MATMUL:
        each = (double)a->shape.n[a->shape.rank - (n->attr.matmul.ta ? 2 : 1)];
        break;
    case OP_CONV:
        each = (double)shape_count(&b->shape) / (double)b->shape.n[0];
        break;
    case OP_CONV_DATA:       /* the pairs of the convolution that makes a */
        of = a;
        each = (double)shape_count(&b->shape) / (double)b->shape.n[0];
        break;
    case OP_CONV_FILTER:
        of = b;
        each = (double)shape_count(&n->shape) / (double)n->shape.n[0];
        break;
    default:
        return 0;
    }
    return each * (double)shape_count(&of->shape);
}

double graph_work(const ebm_graph *g, int n, const ebm_val *outputs)
{
    unsigned char *live = mem_new(g->ctx, (size_t)g->count, 1);
    double work = 0;

    if (!live)
        return 0;
    for (int i = 0; i < n; i++)
        live[outputs[i]] = 1;
    for (int32_t i = g->count - 1; i > 0; i--) {     /* operands come before their users */
        const struct node *node = node_of(g, i);
        if (!live[i])
            continue;
        for (int k = 0; k < node->n_in; k++)
            live[operand(node, k)] = 1;
        work += node_work(g, node);
    }
    mem_free(g->ctx, live);
    return work;
}
