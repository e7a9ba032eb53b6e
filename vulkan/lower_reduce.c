/* lower_reduce.c - SUM and AMAX.
 *
 * SPDX-License-Identifier: ISC
 *
 * Few terms: an invocation makes a result.  More: up to 128 share one.  Many
 * terms for few results: they are cut into parts, which a second dispatch
 * combines.  The cut depends on shapes alone. */
#include "lower.h"

enum {
    LOCAL = 128,
    TERMS_ALONE = 8,         /* of one invocation, when there are results enough */
    PART_MOST = 1 << 16,     /* terms of a part: 512 turns of 128 invocations */
    PART_LEAST = 1 << 12,
    GROUPS_WANTED = 128
};

struct axes {
    int64_t n[EBM_MAX_RANK], stride[EBM_MAX_RANK];
};

struct reduction {
    bool largest;
    struct span from, to;
    struct axes kept, reduced;
    int64_t results, terms;
    const struct ew_group *epilogue;     /* or NULL */
    bool stored;                         /* with an epilogue: do others read the result? */
};

/* Invocations for a result: enough that none adds much more than TERMS_ALONE
 * numbers, which also keeps rounding errors small. */
static int64_t lanes_of(int64_t terms)
{
    int64_t lanes = 1;

    while (lanes < LOCAL && lanes * TERMS_ALONE < terms)
        lanes *= 2;
    return lanes;
}

/* Is the axis of neighbours in memory a reduced one? */
static bool along(const struct reduction *r)
{
    for (int a = 0; a < EBM_MAX_RANK; a++)
        if (r->kept.n[a] > 1 && r->kept.stride[a] == 1)
            return false;
    return true;
}

static int emit(struct device_program *p, const struct reduction *r, struct span to,
                int64_t part, int64_t parts)
{
    struct draft_dispatch d = { .shader = SHADER_REDUCE };
    int64_t lanes = lanes_of(part), width = LOCAL / lanes;

    d.operands[0] = r->from;
    if (!r->epilogue || r->stored)
        d.operands[2] = to;
    draft_constant(&d, r->largest);
    draft_constant(&d, (uint32_t)lanes);
    draft_constant(&d, along(r));
    draft_constant(&d, !r->epilogue || r->stored);
    draft_param(&d, r->results);
    draft_param(&d, r->terms);
    draft_param(&d, part);
    draft_param(&d, parts);
    draft_axes(&d, EBM_MAX_RANK, r->kept.n, 1);
    draft_axes(&d, EBM_MAX_RANK, r->kept.stride, 0);
    draft_axes(&d, EBM_MAX_RANK, r->reduced.n, 1);
    draft_axes(&d, EBM_MAX_RANK, r->reduced.stride, 0);
    if (r->epilogue)
        group_append(p, r->epilogue, BEHIND_REDUCE, &d);
    d.groups = (uint64_t)((r->results * parts + width - 1) / width);
    return draft_emit(p, &d);
}

/* One row of terms for each result, `pitch` apart, `step` between terms. */
static void set_line(struct reduction *r, int64_t results, int64_t pitch, int64_t terms, int64_t step)
{
    for (int a = 0; a < EBM_MAX_RANK; a++) {
        r->kept.n[a] = r->reduced.n[a] = 1;
        r->kept.stride[a] = r->reduced.stride[a] = 0;
    }
    r->kept.n[EBM_MAX_RANK - 1] = r->results = results;
    r->kept.stride[EBM_MAX_RANK - 1] = pitch;
    r->reduced.n[EBM_MAX_RANK - 1] = r->terms = terms;
    r->reduced.stride[EBM_MAX_RANK - 1] = step;
}

int lower_parts(struct device_program *p, struct span from, struct span to, int64_t results, int64_t parts,
                bool largest)
{
    struct reduction r = { .largest = largest, .from = from };

    set_line(&r, results, 1, parts, results);
    return emit(p, &r, to, parts, 1);
}

int lower_parts_of(const struct lowering *l, struct span from, int64_t results, int64_t parts)
{
    struct reduction r = { .from = from, .epilogue = l->epilogue, .stored = l->step->stored };

    set_line(&r, results, 1, parts, results);
    return emit(l->program, &r, l->out, parts, 1);
}

int lower_reduce(const struct lowering *l)
{
    const struct node *y = l->node;
    const struct shape *x = l->shape[0];
    struct reduction r = { .largest = y->op == OP_AMAX, .from = l->in[0], .to = l->out,
                           .results = 1, .terms = 1 };
    int64_t stride[EBM_MAX_RANK], part, parts = 1;
    int rc;

    strides_of(x, stride);
    for (int a = 0; a < EBM_MAX_RANK; a++) {
        bool here = a < x->rank, gone = here && y->attr.axes >> a & 1;
        int64_t n = here ? x->n[a] : 1, s = here ? stride[a] : 0;
        r.kept.n[a] = gone ? 1 : n;
        r.reduced.n[a] = gone ? n : 1;
        r.kept.stride[a] = r.reduced.stride[a] = s;
        r.results *= r.kept.n[a];
        r.terms *= r.reduced.n[a];
    }
    while ((r.terms + parts - 1) / parts > PART_MOST
           || (2 * parts * r.results <= GROUPS_WANTED && r.terms / (2 * parts) >= PART_LEAST))
        parts *= 2;
    part = (r.terms + parts - 1) / parts;
    parts = (r.terms + part - 1) / part;
    if (parts == 1)
        return emit(l->program, &r, r.to, part, 1);
    struct span scratch = span_scratch(l->program, (size_t)(r.results * parts) * sizeof(float));
    if ((rc = emit(l->program, &r, written(scratch), part, parts)) < 0)
        return rc;
    return lower_parts(l->program, scratch, r.to, r.results, parts, r.largest);
}
