/* strip.c - runs of steps that treat the rows of axis 0 apart.
 *
 * SPDX-License-Identifier: ISC
 *
 *                  step 0   step 1   step 2          Done step by step, each reads
 *   rows 0, 1  |     1        2        3             from memory what the one before
 *   rows 2, 3  |     4        5        6             has written there; block by
 *   ...        V                                     block, from the caches.
 *
 * A normalisation is such a run: sums over an image, their squares' sums, and a
 * group that reads the image a third time.  Values that only the strip reads
 * exist for one block at a time.
 *
 * Every operand of a step is read by rows - rows [b,e) of the result need its rows
 * [b,e) - or shared: read by all rows alike, and made before the strip.  A sum over
 * axis 0 closes: each block adds its part, and the result, ready after the last
 * block, is read by no step of the strip.
 *
 * Blocks depend on shapes and on what the backend says of its caches, so the
 * bits of sums do too, and on nothing else. */
#include <string.h>
#include "schedule.h"

enum {
    CLOSED_MOST = 4096,          /* elements of a closing sum: each block has a copy */
    NEAR_BLOCKS = 4              /* times what a block should have: more is not near */
};

/* How the steps of the strip in the making use a value. */
enum use { UNUSED, BY_ROWS, SHARED, MADE, CLOSED };

struct search {
    const ebm_graph *g;
    struct plan *plan;
    unsigned char *use;      /* by value */
    size_t row_bytes;        /* of all values used by rows */
};

bool closes_strip(const struct node *n)
{
    return n->op == OP_SUM && n->attr.axes & 1;
}

/* Axis 0 of what the step computes, if that can be cut; else 0. */
static int64_t rows_of(const struct plan *plan, const struct step *t)
{
    const struct shape *s = t->op == OP_NONE ? &t->group->shape
                                             : &node_of(plan->graph, t->val)->shape;
    const struct node *n;

    if (t->op == OP_NONE) {
        for (int i = 0; i < t->group->n_instr; i++)
            if (t->group->instr[i].op == EW_IOTA && t->group->instr[i].a == 0)
                return 0;
        return s->rank ? s->n[0] : 0;
    }
    n = node_of(plan->graph, t->val);
    const struct shape *x = n->n_in ? &node_of(plan->graph, operand(n, 0))->shape : s;
    if (t->group || s->rank == 0 || x->rank == 0)
        return 0;
    switch (n->op) {
    case OP_SUM:
        return !closes_strip(n) || shape_count(s) <= CLOSED_MOST ? x->n[0] : 0;
    case OP_AMAX:
    case OP_FLIP:
        return n->attr.axes & 1 ? 0 : s->n[0];
    case OP_TRANSPOSE:
        return n->attr.perm[0] == 0 ? s->n[0] : 0;
    case OP_SLICE:
    case OP_PAD:
        return x->n[0] == s->n[0] ? s->n[0] : 0;
    case OP_CONCAT:
        return n->attr.axis != 0 ? s->n[0] : 0;
    case OP_BROADCAST:
    case OP_POOL: case OP_UNPOOL: case OP_PICK: case OP_PLACE:
    case OP_RESAMPLE: case OP_RESAMPLE_T:
        return s->n[0];
    default:
        return 0;
    }
}

/* Rows of a value that one row of the iteration space takes, 1 or 0 (shared); -1:
 * neither. */
static int step_of(const ebm_graph *g, ebm_val root, int64_t rows, int64_t stride)
{
    int64_t count = shape_count(&node_of(g, root)->shape);

    return stride == 0 ? 0 : count == rows * stride ? 1 : -1;
}

static bool may_read(const struct search *f, ebm_val root, int step)
{
    enum use use = f->use[root];

    if (step < 0 || use == CLOSED)
        return false;
    return step ? use != SHARED : use == UNUSED || use == SHARED;
}

static void note_read(struct search *f, ebm_val root, int step, int64_t rows)
{
    if (f->use[root] != UNUSED)
        return;
    f->use[root] = step ? BY_ROWS : SHARED;
    if (step)
        f->row_bytes += value_bytes(f->g, root) / (size_t)rows;
}

static void note_made(struct search *f, ebm_val v, bool closed, int64_t rows)
{
    f->use[v] = closed ? CLOSED : MADE;
    if (!closed)
        f->row_bytes += value_bytes(f->g, v) / (size_t)rows;
}

int64_t heavy_stride(const struct shape *operand, int64_t rows)
{
    return operand->rank && operand->n[0] == rows ? shape_count(operand) / rows : 0;
}

/* Take the step into the strip if its operands allow it. */
static bool take(struct search *f, const struct step *t, int64_t rows)
{
    const ebm_graph *g = f->g;
    const struct ew_group *group = t->op == OP_NONE ? t->group : NULL;
    const struct node *n = group ? NULL : node_of(g, t->val);

    for (int pass = 0; pass < 2; pass++)             /* look, then take */
        for (int i = 0; i < (group ? group->n_in : n->n_in); i++) {
            ebm_val root = group ? group->in[i].val : memory_root(g, operand(n, i));
            int64_t stride = group ? group->in[i].stride[0]
                                   : heavy_stride(&node_of(g, operand(n, i))->shape, rows);
            int step = step_of(g, root, rows, stride);
            if (pass == 0 && !may_read(f, root, step))
                return false;
            if (pass == 0 && group)
                group->in[i].near = f->use[root] == BY_ROWS || f->use[root] == MADE;
            if (pass == 1)
                note_read(f, root, step, rows);
        }
    for (int i = 0; group && i < group->n_out; i++)
        note_made(f, group->out[i].val, false, rows);
    if (!group)
        note_made(f, t->val, closes_strip(n), rows);
    return true;
}

static void add_strip(struct search *f, const struct strip_rules *rules, int first, int n,
                      int64_t rows)
{
    struct plan *plan = f->plan;
    int64_t block = f->row_bytes ? (int64_t)(rules->block_bytes / f->row_bytes) : 1;
    const bool strip = n >= 2 && rows >= rules->least_blocks && f->row_bytes * (size_t)rows >= rules->least_bytes;

    for (int i = first; i < first + n; i++)
        for (int k = 0; plan->steps[i].op == OP_NONE && k < plan->steps[i].group->n_in; k++)
            plan->steps[i].group->in[k].near &= strip && f->row_bytes <= NEAR_BLOCKS * rules->block_bytes;
    if (!strip)
        return;
    if (block > rows / rules->least_blocks)
        block = rows / rules->least_blocks;
    plan->strips[plan->n_strips++] = (struct strip){ first, n, rows, block < 1 ? 1 : block, 0 };
}

int strips_find(const struct schedule *s, const ebm_backend *backend, struct plan *plan)
{
    ebm_context *ctx = s->g->ctx;
    struct search f = { s->g, plan, NULL, 0 };

    if (!backend->strips.block_bytes)
        return EBM_OK;
    plan->strips = mem_new(ctx, (size_t)plan->n_steps, sizeof *plan->strips);
    f.use = mem_new(ctx, (size_t)s->count, 1);
    if (!plan->strips || !f.use) {
        mem_free(ctx, f.use);
        return EBM_ERR_NOMEM;
    }
    for (int first = 0; first < plan->n_steps; ) {
        int64_t rows = rows_of(plan, &plan->steps[first]);
        int n = 0;
        memset(f.use, UNUSED, (size_t)s->count);
        f.row_bytes = 0;
        while (rows > 0 && first + n < plan->n_steps
               && rows_of(plan, &plan->steps[first + n]) == rows
               && take(&f, &plan->steps[first + n], rows))
            n++;
        add_strip(&f, &backend->strips, first, n, rows);
        first += n ? n : 1;
    }
    mem_free(ctx, f.use);
    return EBM_OK;
}
