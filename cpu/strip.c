/* strip.c - steps done block by block of axis 0 (see lib/strip.c).
 *
 * SPDX-License-Identifier: ISC
 *
 * Each thread has every step made ready for a block, and for the shorter last
 * one, as if the block were all there is; before a block its operands' addresses
 * are moved to the block's rows:
 *
 *   shared operands and those in the thread's own memory    stay
 *   others                                                  base + row * bytes of a row
 *
 * A group whose results are summed is run piece by piece, and each piece is added up
 * while it is in the first caches; a result that only sums read is then no more than a
 * piece.  What has been added up lies apart until the sum's turn comes.
 *
 * A sum of squares (x - m)^2 behind a sum of x over the same axes, m being one number
 * for each of its results, is not added up: the first sum finds the squares about its
 * mean on the way, and x is read once less.
 *
 * Blocks are as the plan cuts them and write apart, but for sums over axis 0: the
 * parts of these are kept by block and added in the order of blocks. */
#include <string.h>
#include "step.h"

struct operand {
    char *at;                    /* of the first row */
    size_t row;                  /* bytes of a row; 0: stays */
};

enum { MOST_SUMS = 4 };

/* A step for blocks of one size in one thread. */
struct part {
    struct step_run run;
    int n_in, n_out;
    struct operand *in, *out;
    int n_sums;                  /* steps that sum its results while it makes them, */
    int sum[MOST_SUMS], of[MOST_SUMS];   /* and which result each does */
    unsigned passing;            /* a bit for each result that nothing else reads */
    bool early;                  /* it is such a sum */
    struct part *moments;        /* it makes squares, or sums them: a sum whose moments tell; or NULL */
    int centre;                  /* the operand that the squares made are about */
    bool keeps;                  /* its scratch has to stay as it is */
    char *own;                   /* so it has its own */
};

/* A sum over axis 0. */
struct closing {
    int step;
    int64_t count;               /* elements of the result */
    double *parts;               /* by block */
    float *out;
};

struct strip_run {
    struct cpu one;              /* the same with one thread */
    int n, n_closing, threads;
    int64_t rows, block, blocks;
    size_t scratch;              /* bytes of a thread's */
    struct part *parts;          /* by thread, by size of block (whole, last), by step */
    struct closing *closing;
    double *seconds;             /* by thread, by step; of the last run, if it was timed */
};

static struct part *parts_of(const struct strip_run *r, int thread, bool last)
{
    return r->parts + ((size_t)thread * 2 + last) * (size_t)r->n;
}

/* ---- running ---- */

static void *at_row(const struct operand *o, int64_t row)
{
    return o->at + (size_t)row * o->row;
}

static void move_to(struct part *p, int64_t row)
{
    struct group *g = p->run.group;

    for (int i = 0; i < p->n_in; i++)
        if (g)
            group_set_input(g, i, at_row(&p->in[i], row));
        else
            p->run.in[i] = at_row(&p->in[i], row);
    for (int i = 0; i < p->n_out; i++)
        if (g)
            group_set_output(g, i, at_row(&p->out[i], row));
        else
            p->run.out = at_row(&p->out[i], row);
}

/* Where a result would begin so that element `begin` of it lies at `at`. */
static void *shifted(char *at, int64_t begin)
{
    return (void *)((uintptr_t)at - (uintptr_t)begin * sizeof(float));
}

static void run_summed(const struct strip_run *r, struct part *parts, struct part *p, int64_t row)
{
    struct step_run *first = &parts[p->sum[0]].run;
    const int64_t pieces = reduce_pieces(first);

    group_begin(p->run.group, p->run.scratch);
    for (int k = 0; k < p->n_sums; k++) {
        struct part *sum = &parts[p->sum[k]];
        move_to(sum, row);
        sum->run.scratch = sum->own;
    }
    for (int64_t i = 0; i < pieces; i++) {
        int64_t begin = reduce_piece_begin(first, i), end = reduce_piece_begin(first, i + 1);
        for (int o = 0; o < p->n_out; o++)
            if (p->passing >> o & 1)
                group_set_output(p->run.group, o, shifted(at_row(&p->out[o], row), begin));
        group_range(p->run.group, begin, end, 0);
        for (int k = 0; k < p->n_sums; k++) {
            struct step_run *sum = &parts[p->sum[k]].run;
            if (p->passing >> p->of[k] & 1)
                sum->in[0] = shifted(at_row(&p->out[p->of[k]], row), begin);
            reduce_piece(&r->one, sum, i);
        }
    }
}

static void run_block(const struct strip_run *r, int64_t block, int thread, char *scratch,
                      double *seconds)
{
    const int64_t row = block * r->block;
    struct part *parts = parts_of(r, thread, row + r->block > r->rows);
    const struct closing *c = r->closing, *end = c + r->n_closing;
    double from = seconds ? cpu_seconds() : 0;

    for (int i = 0; i < r->n; i++) {
        struct part *p = &parts[i];
        move_to(p, row);
        p->run.scratch = p->own ? p->own : scratch;
        if (c < end && c->step == i) {
            double *sums = c->parts + block * c->count;
            c++;
            if (p->early)
                reduce_finish_part(&p->run, sums);
            else
                reduce_part(&r->one, &p->run, sums);
        } else if (p->early) {
            reduce_finish(&r->one, &p->run);
        } else if (p->moments && p->run.group) {
            reduce_centre(&p->moments->run, at_row(&p->in[p->centre], row));
        } else if (p->moments) {
            reduce_squares(&p->moments->run, p->run.out);
        } else if (p->n_sums) {
            run_summed(r, parts, p, row);
        } else {
            p->run.run(&r->one, &p->run);
        }
        if (seconds) {
            double to = cpu_seconds();
            seconds[i] += to - from;
            from = to;
        }
    }
}

static void finish_sums(const struct strip_run *r)
{
    for (const struct closing *c = r->closing; c < r->closing + r->n_closing; c++)
        for (int64_t i = 0; i < c->count; i++) {
            double sum = 0;
            for (int64_t b = 0; b < r->blocks; b++)
                sum += c->parts[b * c->count + i];
            c->out[i] = (float)sum;
        }
}

static void strip_step(const struct cpu *cpu, const struct step_run *s)
{
    const struct strip_run *r = s->own;

    if (s->timed)
        memset(r->seconds, 0, sizeof *r->seconds * (size_t)(r->threads * r->n));
    (void)cpu;                   /* without OpenMP */
#pragma omp parallel for num_threads(cpu->threads) schedule(static)
    for (int64_t b = 0; b < r->blocks; b++) {
        int t = thread_index();
        run_block(r, b, t, s->scratch + (size_t)t * r->scratch,
                  s->timed ? r->seconds + t * r->n : NULL);
    }
    finish_sums(r);
}

void strip_share(const struct step_run *s, double *seconds, double total)
{
    const struct strip_run *r = s->own;
    double all = 0;

    for (int i = 0; i < r->threads * r->n; i++)
        all += r->seconds[i];
    for (int i = 0; i < r->threads * r->n && all > 0; i++)
        seconds[i % r->n] += total * r->seconds[i] / all;
}

/* ---- making ready ---- */

static void strip_release(const struct cpu *cpu, struct step_run *s)
{
    struct strip_run *r = s->own;

    if (!r)
        return;
    for (int i = 0; r->parts && i < r->threads * 2 * r->n; i++) {
        step_release(cpu, &r->parts[i].run);
        mem_free(cpu->ctx, r->parts[i].in);
        mem_free(cpu->ctx, r->parts[i].out);
        mem_free(cpu->ctx, r->parts[i].own);
    }
    for (int i = 0; r->closing && i < r->n_closing; i++)
        mem_free(cpu->ctx, r->closing[i].parts);
    mem_free(cpu->ctx, r->parts);
    mem_free(cpu->ctx, r->closing);
    mem_free(cpu->ctx, r->seconds);
    mem_free(cpu->ctx, r);
}

static struct operand operand_at(const struct memory *m, const struct place *place, int64_t stride,
                                 enum ebm_type type)
{
    size_t row = place->space == SPACE_STRIP ? 0 : (size_t)stride * type_size(type);

    return (struct operand){ memory_at(m, place), row };
}

static int make_part(const struct strip_run *r, const struct plan *plan, const struct step *step,
                     const struct memory *memory, int64_t rows, struct part *p)
{
    const struct cut cut = { r->rows, rows };
    const struct ew_group *group = step->op == OP_NONE ? step->group : NULL;
    const struct node *n = group ? NULL : node_of(plan->graph, step->val);
    const struct shape *shape = group ? &group->shape : &n->shape;
    int rc;

    p->in = mem_new(r->one.ctx, (size_t)(group ? group->n_in : step->n_in) + 1, sizeof *p->in);
    p->out = mem_new(r->one.ctx, (size_t)(group ? group->n_out : 1) + 1, sizeof *p->out);
    if (!p->in || !p->out)
        return EBM_ERR_NOMEM;
    if ((rc = step_prepare(&r->one, plan, step, memory, &cut, &p->run)) < 0)
        return rc;
    p->n_in = group ? group->n_in : step->n_in;
    p->n_out = group ? group->n_out : 1;
    for (int i = 0; i < p->n_in; i++) {
        const struct node *x = group ? NULL : node_of(plan->graph, operand(n, i));
        p->in[i] = group ? operand_at(memory, &group->in[i].place, group->in[i].stride[0], group->in[i].type)
                         : operand_at(memory, &step->in[i], heavy_stride(&x->shape, r->rows), x->type);
    }
    for (int i = 0; i < p->n_out; i++)
        p->out[i] = group ? operand_at(memory, &group->out[i].place, shape_count(shape) / r->rows,
                                       group->out[i].type)
                          : operand_at(memory, &step->out, heavy_stride(shape, r->rows), n->type);
    return EBM_OK;
}

static bool same_place(const struct place *a, const struct place *b)
{
    return a->space == b->space && a->index == b->index && a->offset == b->offset;
}

/* The root of what a step other than a group reads. */
static ebm_val reads(const struct plan *plan, const struct step *step, int i)
{
    return memory_root(plan->graph, operand(node_of(plan->graph, step->val), i));
}

/* Whether but for sums that are taken early nothing of the strip reads result o of
 * step i, and it may therefore pass: it lies in no operand's place. */
static bool only_passes(const struct strip_run *r, const struct plan *plan, const struct step *steps,
                        const struct part *parts, int i, int o)
{
    const struct ew_group *group = steps[i].group;

    if (group->out[o].place.space != SPACE_STRIP)
        return false;
    for (int k = 0; k < group->n_in; k++)
        if (same_place(&group->in[k].place, &group->out[o].place))
            return false;
    for (int j = i + 1; j < r->n; j++) {
        const struct step *t = &steps[j];
        for (int k = 0; t->op == OP_NONE && k < t->group->n_in; k++)
            if (t->group->in[k].val == group->out[o].val)
                return false;
        for (int k = 0; t->op != OP_NONE && k < t->n_in; k++)
            if (reads(plan, t, k) == group->out[o].val && !parts[j].early)
                return false;
    }
    return true;
}

/* Whether reduction j reads result o of step i, and in pieces as another does. */
static bool may_sum(const struct plan *plan, const struct step *steps, const struct part *parts, int i, int o, int j)
{
    const struct step *sum = &steps[j];
    const struct ew_output *out = &steps[i].group->out[o];
    const struct part *p = &parts[i];

    if ((sum->op != OP_SUM && sum->op != OP_AMAX) || out->type != EBM_F32 || p->n_sums == MOST_SUMS
        || parts[j].early || parts[j].moments || reads(plan, sum, 0) != out->val
        || !same_place(&sum->in[0], &out->place))
        return false;
    const struct step_run *run = &parts[j].run, *first = p->n_sums ? &parts[p->sum[0]].run : run;
    int64_t pieces = reduce_pieces(run);
    bool alike = pieces > 1 && pieces == reduce_pieces(first);
    for (int64_t k = 0; alike && k <= pieces; k++)
        alike = reduce_piece_begin(run, k) == reduce_piece_begin(first, k);
    return alike;
}

/* Whether a group is (x - m)^2 of its two operands and no more: which is x. */
static bool squares_of(const struct ew_group *g, int *x)
{
    const struct ew_instr *p = g->instr;

    if (g->n_in != 2 || g->n_out != 1 || g->n_instr != 4 || p[0].op != EW_LOAD || p[1].op != EW_LOAD
        || p[0].a == p[1].a || p[0].dst == p[1].dst || p[2].op != EW_SUB || p[3].op != EW_MUL)
        return false;
    *x = p[2].a == p[0].dst ? p[0].a : p[1].a;
    return p[2].a != p[2].b && (p[2].b == p[0].dst || p[2].b == p[1].dst)
        && p[3].a == p[2].dst && p[3].b == p[2].dst && g->out[0].reg == p[3].dst;
}

/* Whether an operand has one number for each result of a sum over axes, in their order. */
static bool one_for_each(const struct shape *s, unsigned axes, const struct ew_input *m)
{
    int64_t stride = 1;

    if (m->type != EBM_F32)
        return false;
    for (int i = s->rank - 1; i >= 0; i--) {
        bool gone = axes >> i & 1;
        if (s->n[i] > 1 && m->stride[i] != (gone ? 0 : stride))
            return false;
        stride *= gone ? 1 : s->n[i];
    }
    return true;
}

static bool sums_over(const struct plan *plan, const struct step *t, const struct shape *s, unsigned axes)
{
    const struct node *n = t->op == OP_SUM ? node_of(plan->graph, t->val) : NULL;

    return n && !t->group && n->attr.axes == axes && !closes_strip(n)
        && shape_equal(&node_of(plan->graph, operand(n, 0))->shape, s);
}

/* Find sums of squares (of group i) that moments of earlier sums have. */
static void find_moments(const struct strip_run *r, const struct plan *plan, const struct step *steps,
                         struct part *parts, int i)
{
    const struct ew_group *g = steps[i].op == OP_NONE ? steps[i].group : NULL;
    int x, j = i + 1, k = 0;

    if (!g || !squares_of(g, &x) || !g->in[x].linear || g->in[x].type != EBM_F32)
        return;
    while (j < r->n && !(steps[j].op == OP_SUM && reads(plan, &steps[j], 0) == g->out[0].val))
        j++;
    if (j == r->n)
        return;
    const unsigned axes = node_of(plan->graph, steps[j].val)->attr.axes;
    if (!sums_over(plan, &steps[j], &g->shape, axes) || !one_for_each(&g->shape, axes, &g->in[1 - x]))
        return;
    while (k < i && !(sums_over(plan, &steps[k], &g->shape, axes) && reads(plan, &steps[k], 0) == g->in[x].val))
        k++;
    parts[j].early = true;               /* nothing else may read the squares */
    bool alone = only_passes(r, plan, steps, parts, i, 0);
    parts[j].early = false;
    if (k == i || !alone || !reduce_moments(&parts[k].run))
        return;
    parts[i].moments = parts[j].moments = &parts[k];
    parts[i].centre = 1 - x;
    parts[k].keeps = true;
}

/* Find which results of groups are summed as they are made. */
static void find_sums(const struct strip_run *r, const struct plan *plan, const struct step *steps, struct part *parts)
{
    for (int i = 0; i < r->n; i++) {
        struct part *p = &parts[i];
        if (steps[i].op != OP_NONE || p->moments)
            continue;
        for (int o = 0; o < p->n_out; o++)
            for (int j = i + 1; j < r->n; j++)
                if (may_sum(plan, steps, parts, i, o, j)) {
                    parts[j].early = parts[j].keeps = true;
                    p->sum[p->n_sums] = j;
                    p->of[p->n_sums++] = o;
                }
        for (int o = 0; p->n_sums && o < p->n_out; o++)
            if (only_passes(r, plan, steps, parts, i, o))
                p->passing |= 1u << o;
    }
}

static int prepare_sums(struct strip_run *r, const struct plan *plan, const struct step *steps, struct part *parts)
{
    for (int i = 0; i < r->n; i++)
        find_moments(r, plan, steps, parts, i);
    find_sums(r, plan, steps, parts);
    for (int i = 0; i < r->n; i++)
        if (parts[i].keeps && !(parts[i].own = mem_new(r->one.ctx, parts[i].run.scratch_size, 1)))
            return EBM_ERR_NOMEM;
    return EBM_OK;
}

static int make_parts(struct strip_run *r, const struct plan *plan, const struct strip *strip,
                      const struct memory *memory)
{
    for (int t = 0; t < r->threads; t++)
        for (int last = 0; last < 2; last++) {
            int64_t rows = last ? r->rows % r->block : r->block;
            struct memory own = *memory;
            own.strip += (size_t)t * memory->strip_size;
            for (int i = 0; rows && i < r->n; i++) {
                struct part *p = parts_of(r, t, last) + i;
                int rc = make_part(r, plan, &plan->steps[strip->first + i], &own, rows, p);
                if (rc < 0)
                    return rc;
                if (p->run.scratch_size > r->scratch)
                    r->scratch = p->run.scratch_size;
            }
            if (rows && prepare_sums(r, plan, &plan->steps[strip->first], parts_of(r, t, last)) < 0)
                return EBM_ERR_NOMEM;
        }
    r->scratch = (r->scratch + 63) & ~(size_t)63;
    return EBM_OK;
}

static int find_closing(struct strip_run *r, const struct plan *plan, const struct strip *strip,
                        const struct memory *memory)
{
    for (int i = 0; i < r->n; i++) {
        const struct step *step = &plan->steps[strip->first + i];
        if (step->op == OP_NONE || !closes_strip(node_of(plan->graph, step->val)))
            continue;
        struct closing *c = &r->closing[r->n_closing++];
        c->step = i;
        c->count = shape_count(&node_of(plan->graph, step->val)->shape);
        c->out = memory_at(memory, &step->out);
        c->parts = mem_new(r->one.ctx, (size_t)(c->count * r->blocks), sizeof *c->parts);
        if (!c->parts)
            return EBM_ERR_NOMEM;
    }
    return EBM_OK;
}

int strip_prepare(const struct cpu *cpu, const struct plan *plan, const struct strip *strip,
                  const struct memory *memory, struct step_run *s)
{
    struct strip_run *r = mem_new(cpu->ctx, 1, sizeof *r);
    int rc;

    if (!r)
        return EBM_ERR_NOMEM;
    s->own = r;
    s->run = strip_step;
    s->release = strip_release;
    s->share = strip_share;
    r->one = *cpu;
    r->one.threads = 1;
    r->n = strip->n;
    r->threads = cpu->threads;
    r->rows = strip->rows;
    r->block = strip->block;
    r->blocks = (r->rows + r->block - 1) / r->block;
    r->parts = mem_new(cpu->ctx, (size_t)r->threads * 2 * (size_t)r->n, sizeof *r->parts);
    r->closing = mem_new(cpu->ctx, (size_t)r->n, sizeof *r->closing);
    r->seconds = mem_new(cpu->ctx, (size_t)r->threads * (size_t)r->n, sizeof *r->seconds);
    if (!r->parts || !r->closing || !r->seconds)
        return EBM_ERR_NOMEM;
    if ((rc = make_parts(r, plan, strip, memory)) < 0
        || (rc = find_closing(r, plan, strip, memory)) < 0)
        return rc;
    s->scratch_size = (size_t)r->threads * r->scratch;
    return EBM_OK;
}
