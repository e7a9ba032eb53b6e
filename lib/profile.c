/* profile.c - see profile.h.
 *
 * SPDX-License-Identifier: ISC
 *
 * Floating-point operations are those of the contractions' definitions, two for
 * each pair of factors; bytes are what a step must move at least: operands, each
 * once, and results. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include "profile.h"
#include "store.h"
#include "work.h"

struct profile {
    ebm_context *ctx;
    int count, capacity;
    struct profiled **programs;
    ebm_profile_row *rows;           /* of all programs, made when asked for */
};

static double bytes_of(const ebm_graph *g, ebm_val v)
{
    const struct node *n = node_of(g, v);

    return (double)shape_count(&n->shape) * (double)type_size(n->type);
}

/* Bytes of an operand of a group: broadcast axes are read once. */
static double input_bytes(const struct ew_group *group, const struct ew_input *in)
{
    double bytes = (double)type_size(in->type);

    for (int i = 0; i < group->shape.rank; i++)
        if (in->stride[i])
            bytes *= (double)group->shape.n[i];
    return bytes;
}

/* Bytes of a heavy operation's operands.  Of tables, the rows that are taken. */
static double operand_bytes(const ebm_graph *g, ebm_val v)
{
    const struct node *n = node_of(g, v);
    double bytes = 0;

    if (n->op == OP_GATHER)
        return bytes_of(g, v) + bytes_of(g, n->in[1]);
    for (int i = n->op == OP_UPDATE ? 1 : 0; i < n->n_in; i++)
        bytes += bytes_of(g, operand(n, i));
    return bytes;
}

static double result_bytes(const ebm_graph *g, ebm_val v)
{
    const struct node *n = node_of(g, v);

    return bytes_of(g, n->op == OP_UPDATE ? n->in[2] : v);
}

static double step_bytes(const ebm_graph *g, const struct step *step)
{
    const struct ew_group *group = step->group;
    double bytes = 0;

    if (step->op != OP_NONE) {
        bytes += operand_bytes(g, step->val);
        if (!group)
            bytes += result_bytes(g, step->val);
    }
    for (int i = 0; group && i < group->n_in; i++)
        bytes += input_bytes(group, &group->in[i]);
    for (int i = 0; group && i < group->n_out; i++)
        bytes += (double)shape_count(&group->shape) * (double)type_size(group->out[i].type);
    return bytes;
}

/* The parameter that lies at a place of the store: its number among all. */
static const char *name_at(const ebm_store *store, int slot, int64_t element)
{
    const struct tensor *t = &store->tensors[slot];

    for (int i = 0; i < t->n_parts; i++)
        if (element >= t->parts[i].offset
            && element < t->parts[i].offset + shape_count(&t->parts[i].shape))
            return t->parts[i].name;
    return NULL;
}

/* The weight that a value is or is made of, followed through first operands as
 * far as weights go: normalised ones are a few operations away. */
static const char *weight_name(const ebm_graph *g, ebm_val v)
{
    enum { FAR = 8 };

    for (int i = 0; i < FAR; i++) {
        const struct node *n = node_of(g, v);
        if (n->op == OP_STATE)
            return name_at(g->store, n->attr.state.slot, n->attr.state.offset);
        if (n->n_in == 0 || op_info[n->op].class == CONTRACT)
            return NULL;
        v = operand(n, 0);
    }
    return NULL;
}

/* The layer of a contraction, by its weight; of a filter's gradient by the
 * convolution of the same image with a filter of that shape. */
static const char *layer_of(const ebm_graph *g, ebm_val v)
{
    const struct node *n = node_of(g, v);
    const char *name = NULL;

    if (op_info[n->op].class != CONTRACT)
        return NULL;
    for (int i = 1; i >= 0 && !name && n->op != OP_CONV_FILTER; i--)
        name = weight_name(g, n->in[i]);
    for (ebm_val u = 1; n->op == OP_CONV_FILTER && !name && u < g->count; u++) {
        const struct node *other = node_of(g, u);
        if (other->op == OP_CONV && other->in[0] == n->in[0]
            && shape_equal(&node_of(g, other->in[1])->shape, &n->shape))
            name = weight_name(g, other->in[1]);
    }
    return name;
}

static void copy_text(char *to, size_t size, const char *from, bool lower)
{
    size_t i = 0;

    for (; from && from[i] && i + 1 < size; i++)
        to[i] = lower ? (char)tolower((unsigned char)from[i]) : from[i];
    to[i] = '\0';
}

static void note_step(ebm_profile_row *row, const struct plan *plan, const struct step *step)
{
    const ebm_graph *g = plan->graph;
    bool alone = step->op == OP_NONE;
    const struct shape *shape = alone ? &step->group->shape : &node_of(g, step->val)->shape;
    char text[SHAPE_TEXT];

    copy_text(row->op, sizeof row->op, alone ? "elementwise" : op_info[step->op].name, true);
    copy_text(row->shape, sizeof row->shape, shape_text(shape, text), false);
    if (!alone) {
        copy_text(row->layer, sizeof row->layer, layer_of(g, step->val), false);
        row->flop = 2 * node_work(g, node_of(g, step->val));
    }
    row->bytes = step_bytes(g, step);
}

static void note_copies(ebm_profile_row *row, const struct plan *plan)
{
    copy_text(row->op, sizeof row->op, "copy", false);
    for (int i = 0; i < plan->n_copies; i++)
        row->bytes += 2.0 * (double)plan->copies[i].bytes;
}

struct profiled *profile_add(ebm_backend *backend, const struct plan *plan)
{
    struct profile *f = backend->profile;
    ebm_context *ctx = f->ctx;
    int n = plan->n_steps + 1;

    if (f->count == f->capacity) {
        int capacity = f->capacity ? 2 * f->capacity : 8;
        void *grown = mem_grow(ctx, f->programs, (size_t)f->capacity, (size_t)capacity,
                               sizeof *f->programs);
        if (!grown)
            return NULL;
        f->programs = grown;
        f->capacity = capacity;
    }
    struct profiled *p = mem_new(ctx, 1, sizeof *p);
    if (!p)
        return NULL;
    p->n = n;
    p->rows = mem_new(ctx, (size_t)n, sizeof *p->rows);
    p->seconds = mem_new(ctx, (size_t)n, sizeof *p->seconds);
    f->programs[f->count++] = p;
    if (!p->rows || !p->seconds)
        return NULL;
    for (int i = 0; i < n; i++)
        snprintf(p->rows[i].program, sizeof p->rows[i].program, "%d", f->count);
    for (int i = 0; i < plan->n_steps; i++)
        note_step(&p->rows[i], plan, &plan->steps[i]);
    note_copies(&p->rows[n - 1], plan);
    return p;
}

void profile_free(struct profile *f)
{
    if (!f)
        return;
    for (int i = 0; i < f->count; i++) {
        mem_free(f->ctx, f->programs[i]->rows);
        mem_free(f->ctx, f->programs[i]->seconds);
        mem_free(f->ctx, f->programs[i]);
    }
    mem_free(f->ctx, f->programs);
    mem_free(f->ctx, f->rows);
    mem_free(f->ctx, f);
}

int ebm_backend_profile(ebm_backend *backend)
{
    ebm_context *ctx = backend->ctx;

    if (backend->profile)
        return EBM_OK;
    if (!backend->v->time_steps)
        return ebm_fail(ctx, EBM_ERR_ARG, "%s cannot time the steps of a program",
                        backend->v->name);
    if (!(backend->profile = mem_new(ctx, 1, sizeof *backend->profile)))
        return EBM_ERR_NOMEM;
    backend->profile->ctx = ctx;
    return EBM_OK;
}

int ebm_backend_profile_read(ebm_backend *backend, const ebm_profile_row **rows, size_t *count)
{
    struct profile *f = backend->profile;
    size_t n = 0;

    *rows = NULL;
    *count = 0;
    if (!f)
        return EBM_OK;
    for (int i = 0; i < f->count; i++)
        n += (size_t)f->programs[i]->n;
    mem_free(f->ctx, f->rows);
    if (!(f->rows = mem_new(f->ctx, n + 1, sizeof *f->rows)))
        return EBM_ERR_NOMEM;
    for (int i = 0; i < f->count; i++) {
        const struct profiled *p = f->programs[i];
        for (int j = 0; p->rows && p->seconds && j < p->n; j++) {
            ebm_profile_row *row = &f->rows[(*count)++];
            *row = p->rows[j];
            row->calls = p->runs;
            row->seconds = p->seconds[j];
        }
    }
    *rows = f->rows;
    return EBM_OK;
}

int ebm_backend_peaks(ebm_backend *backend, ebm_peaks *peaks)
{
    *peaks = (ebm_peaks){ 0, 0 };
    if (!backend->v->peaks)
        return ebm_fail(backend->ctx, EBM_ERR_ARG, "the peaks of %s cannot be measured",
                        backend->v->name);
    return backend->v->peaks(backend, peaks);
}
