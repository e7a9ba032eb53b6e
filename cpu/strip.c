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
 * Blocks are as the plan cuts them and write apart, but for sums over axis 0: the
 * parts of these are kept by block and added in the order of blocks. */
#include <string.h>
#include "step.h"

struct operand {
    char *at;                    /* of the first row */
    size_t row;                  /* bytes of a row; 0: stays */
};

/* A step for blocks of one size in one thread. */
struct part {
    struct step_run run;
    int n_in, n_out;
    struct operand *in, *out;
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
        p->run.scratch = scratch;
        if (c < end && c->step == i) {
            reduce_part(&r->one, &p->run, c->parts + block * c->count);
            c++;
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
