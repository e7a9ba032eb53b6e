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
 * Some sums are not added up, as an earlier one finds them on its way (strip_moments.c).
 *
 * Blocks are as the plan cuts them and write apart, but for sums over axis 0: the
 * parts of these are kept by block and added in the order of blocks. */
#include <string.h>
#include "strip.h"

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

/* A sum of which moments with another array are taken. */
static void run_pairs(const struct strip_run *r, struct part *parts, struct part *p, int64_t row)
{
    p->run.in[1] = at_row(&p->other, row);
    if (!p->ahead) {
        p->run.run(&r->one, &p->run);
        return;
    }
    move_to(p->ahead, row);
    p->ahead->run.scratch = p->ahead->own;
    run_summed(r, parts, p->ahead, row);
    reduce_finish(&r->one, &p->run);
}

/* What moments say of the sums of a group's results, now that it is known what these are about. */
static void find_about(const struct part *p, const float *centre)
{
    const int64_t count = reduce_results(&p->moments->run);

    for (int o = 0; o < p->n_out; o++)
        if (p->about[o] != ABOUT_NOTHING)
            reduce_about(&p->moments->run, p->about[o], centre, p->found + o * count);
}

static void take_found(const struct part *p)
{
    const int64_t count = reduce_results(&p->moments->run);

    if (p->maker)
        memcpy(p->run.out, p->maker->found + p->of_maker * count, (size_t)count * sizeof(float));
    else
        reduce_about(&p->moments->run, ABOUT_NOTHING, NULL, p->run.out);
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
            find_about(p, at_row(&p->in[p->centre], row));
        } else if (p->moments) {
            take_found(p);
        } else if (p->pairs) {
            run_pairs(r, parts, p, row);
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

void part_free(const struct cpu *cpu, struct part *p)
{
    step_release(cpu, &p->run);
    mem_free(cpu->ctx, p->in);
    mem_free(cpu->ctx, p->out);
    mem_free(cpu->ctx, p->own);
    mem_free(cpu->ctx, p->found);
}

static void strip_release(const struct cpu *cpu, struct step_run *s)
{
    struct strip_run *r = s->own;

    if (!r)
        return;
    for (int i = 0; r->parts && i < r->threads * 2 * r->n; i++) {
        if (r->parts[i].ahead)
            part_free(cpu, r->parts[i].ahead);
        mem_free(cpu->ctx, r->parts[i].ahead);
        part_free(cpu, &r->parts[i]);
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

int part_new(const struct strip_run *r, const struct plan *plan, const struct step *step,
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

ebm_val strip_reads(const struct plan *plan, const struct step *step, int i)
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
            if (strip_reads(plan, t, k) == group->out[o].val && !parts[j].early)
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
        || parts[j].early || parts[j].moments || parts[j].pairs || strip_reads(plan, sum, 0) != out->val
        || !same_place(&sum->in[0], &out->place))
        return false;
    const struct step_run *run = &parts[j].run, *first = p->n_sums ? &parts[p->sum[0]].run : run;
    int64_t pieces = reduce_pieces(run);
    bool alike = pieces > 1 && pieces == reduce_pieces(first);
    for (int64_t k = 0; alike && k <= pieces; k++)
        alike = reduce_piece_begin(run, k) == reduce_piece_begin(first, k);
    return alike;
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

static int prepare_sums(struct strip_run *r, const struct plan *plan, const struct step *steps,
                        const struct memory *memory, int64_t rows, struct part *parts)
{
    for (int i = 0; i < r->n; i++)
        if (strip_find_moments(r, plan, steps, memory, rows, parts, i) < 0)
            return EBM_ERR_NOMEM;
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
                int rc = part_new(r, plan, &plan->steps[strip->first + i], &own, rows, p);
                if (rc < 0)
                    return rc;
                if (p->run.scratch_size > r->scratch)
                    r->scratch = p->run.scratch_size;
            }
            if (rows && prepare_sums(r, plan, &plan->steps[strip->first], &own, rows, parts_of(r, t, last)) < 0)
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
