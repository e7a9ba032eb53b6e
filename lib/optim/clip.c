/* clip.c - norms and their limits.
 *
 * SPDX-License-Identifier: ISC */
#include "store.h"

/* Keeps the quotient finite where the norm is 0, as PyTorch's clipping has it. */
static const double GUARD = 1e-6;

ebm_val ebm_norm(ebm_graph *g, ebm_val a)
{
    return ebm_sqrt(g, ebm_sum_all(g, ebm_square(g, a)));
}

static ebm_val factor(ebm_graph *g, ebm_val norm, double limit)
{
    ebm_val ratio = ebm_div(g, ebm_const(g, limit), ebm_offset(g, norm, GUARD));

    return ebm_min(g, ratio, ebm_const(g, 1));
}

ebm_val ebm_clip_norm(ebm_graph *g, ebm_val a, double limit)
{
    return ebm_mul(g, a, factor(g, ebm_norm(g, a), limit));
}

ebm_val ebm_clip_rows(ebm_graph *g, ebm_val a, double limit)
{
    int64_t n[EBM_MAX_RANK];
    int rank = ebm_shape(g, a, n);

    if (rank < 1)
        return graph_fail(g, EBM_ERR_ARG, "only a value with rows can be clipped by rows");
    unsigned within = ((1u << rank) - 1) & ~1u;
    return ebm_mul(g, a, factor(g, ebm_sqrt(g, ebm_sum(g, ebm_square(g, a), within)), limit));
}

ebm_val ebm_clip_tensors(ebm_graph *g, const char *region, ebm_val grad, double limit)
{
    if (g->status < 0)
        return 0;
    int slot = store_find(g->store, region);
    const struct tensor *t = slot < 0 ? NULL : &g->store->tensors[slot];
    if (!t || !t->region || t->n_parts == 0)
        return graph_fail(g, EBM_ERR_ARG, "there is no region '%s'", region);

    ebm_val *parts = mem_new(g->ctx, (size_t)t->n_parts, sizeof *parts);
    if (!parts)
        return graph_fail(g, EBM_ERR_NOMEM, "no memory for the graph");
    for (int i = 0; i < t->n_parts; i++) {
        int64_t begin = t->parts[i].offset, size = shape_count(&t->parts[i].shape);
        parts[i] = ebm_clip_norm(g, ebm_slice(g, grad, &begin, &size, NULL), limit);
    }
    ebm_val clipped = ebm_concat(g, 0, t->n_parts, parts);
    mem_free(g->ctx, parts);
    return clipped;
}
