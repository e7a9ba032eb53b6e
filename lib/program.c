/* program.c - a plan, compiled by a backend, and run.
 *
 * SPDX-License-Identifier: ISC */
#include <stdio.h>
#include <string.h>
#include "profile.h"
#include "schedule.h"
#include "store.h"

struct ebm_program {
    ebm_context *ctx;
    ebm_backend *backend;
    struct device_program *device;
    size_t arena;
    struct profiled *profiled;       /* or NULL */
    int n_feeds, n_fetches;
    struct program_feed { char *name; size_t bytes; bool given; } *feeds;   /* bytes 0: not read */
    struct program_fetch { ebm_val val; struct place place; size_t bytes; } *fetches;
};

static int check_outputs(ebm_graph *g, int n, const ebm_val *outputs)
{
    if (n < 1)
        return ebm_fail(g->ctx, EBM_ERR_ARG, "a program without outputs computes nothing");
    for (int i = 0; i < n; i++)
        if (outputs[i] < 1 || outputs[i] >= g->count)
            return ebm_fail(g->ctx, EBM_ERR_ARG, "output %d of a program is no value of its graph", i);
    for (int i = 0; i < g->store->count; i++)
        if (!g->store->tensors[i].buffer)
            return ebm_fail(g->ctx, EBM_ERR_ARG, "'%s' has no memory yet: call ebm_store_alloc() "
                            "before ebm_compile()", g->store->tensors[i].name);
    return EBM_OK;
}

static int check_precision(const ebm_program *p, const struct plan *plan)
{
    if (plan->precision == EBM_FP32 || p->backend->v->bf16)
        return EBM_OK;
    return ebm_fail(p->ctx, EBM_ERR_DEVICE, "%s does not compute with precision bf16: use fp32, or "
                    "the backend cpu", p->backend->v->name);
}

static int note_interface(ebm_program *p, ebm_graph *g, const struct plan *plan,
                          const struct schedule *s)
{
    p->n_feeds = g->n_feeds;
    p->feeds = mem_new(p->ctx, (size_t)g->n_feeds, sizeof *p->feeds);
    p->fetches = mem_new(p->ctx, (size_t)plan->n_fetches, sizeof *p->fetches);
    if (!p->feeds || !p->fetches)
        return EBM_ERR_NOMEM;
    for (int i = 0; i < g->n_feeds; i++)
        if (!(p->feeds[i].name = mem_strdup(p->ctx, g->feeds[i])))
            return EBM_ERR_NOMEM;
    for (ebm_val v = 1; v < s->count; v++) {
        const struct node *n = node_of(g, v);
        if (n->op == OP_FEED && s->mark[v] & MARK_LIVE)
            p->feeds[n->attr.feed.name].bytes = (size_t)shape_count(&n->shape) * type_size(n->type);
    }
    for (int i = 0; i < plan->n_fetches; i++) {
        const struct node *n = node_of(g, plan->fetches[i].val);
        p->fetches[p->n_fetches++] = (struct program_fetch){
            plan->fetches[i].val, plan->fetches[i].place,
            (size_t)shape_count(&n->shape) * type_size(n->type) };
    }
    return EBM_OK;
}

static int hand_over(ebm_program *p, ebm_graph *g, const struct plan *plan)
{
    ebm_context *ctx = p->ctx;
    size_t *feeds = mem_new(ctx, (size_t)p->n_feeds, sizeof *feeds);
    struct device_buffer **slots = mem_new(ctx, (size_t)g->store->count, sizeof *slots);
    int status = EBM_ERR_NOMEM;

    if (feeds && slots) {
        for (int i = 0; i < p->n_feeds; i++)
            feeds[i] = p->feeds[i].bytes;
        for (int i = 0; i < g->store->count; i++)
            slots[i] = g->store->tensors[i].buffer;
        status = p->backend->v->compile(p->backend, plan, slots, feeds, &p->device);
    }
    mem_free(ctx, slots);
    mem_free(ctx, feeds);
    if (status >= 0 && p->backend->profile) {
        if (!(p->profiled = profile_add(p->backend, plan)))
            return EBM_ERR_NOMEM;
        p->backend->v->time_steps(p->backend, p->device, p->profiled->seconds);
    }
    return status;
}

int ebm_compile(ebm_graph *g, int n, const ebm_val *outputs, ebm_program **program)
{
    struct schedule *s = NULL;
    struct plan plan = { 0 };
    ebm_program *p;
    int status;

    *program = NULL;
    if (g->status < 0)
        return g->status;
    if ((status = check_outputs(g, n, outputs)) < 0)
        return status;
    if (!(p = mem_new(g->ctx, 1, sizeof *p)))
        return EBM_ERR_NOMEM;
    p->ctx = g->ctx;
    p->backend = g->store->backend;
    plan.precision = g->store->precision;
    if ((status = check_precision(p, &plan)) >= 0
        && (status = schedule_new(g, n, outputs, &s)) >= 0
        && (status = emit_steps(s, &plan)) >= 0
        && (status = strips_find(s, p->backend, &plan)) >= 0
        && (status = place_steps(s, &plan)) >= 0
        && (status = note_interface(p, g, &plan, s)) >= 0)
        status = hand_over(p, g, &plan);
    p->arena = (size_t)plan.arena;
    plan_free(g->ctx, &plan);
    schedule_free(s);
    if (status < 0) {
        ebm_program_free(p);
        return status;
    }
    *program = p;
    return EBM_OK;
}

void ebm_program_free(ebm_program *p)
{
    if (!p)
        return;
    if (p->device)
        p->backend->v->program_free(p->backend, p->device);
    for (int i = 0; p->feeds && i < p->n_feeds; i++)
        mem_free(p->ctx, p->feeds[i].name);
    mem_free(p->ctx, p->feeds);
    mem_free(p->ctx, p->fetches);
    mem_free(p->ctx, p);
}

void program_label(ebm_program *p, const char *label)
{
    for (int i = 0; p->profiled && i < p->profiled->n; i++)
        snprintf(p->profiled->rows[i].program, sizeof p->profiled->rows[i].program, "%s", label);
}

size_t ebm_program_bytes(const ebm_program *p)
{
    return p->arena;
}

int ebm_program_set(ebm_program *p, const char *feed, const void *host, size_t size)
{
    for (int i = 0; i < p->n_feeds; i++) {
        struct program_feed *f = &p->feeds[i];
        if (strcmp(f->name, feed) != 0)
            continue;
        if (f->bytes == 0)
            return EBM_OK;                       /* the program does not read it */
        if (f->bytes != size)
            return ebm_fail(p->ctx, EBM_ERR_ARG, "feed '%s' has %zu bytes, not %zu",
                            feed, f->bytes, size);
        f->given = true;
        return p->backend->v->feed(p->backend, p->device, i, host, size);
    }
    return ebm_fail(p->ctx, EBM_ERR_ARG, "the program has no feed '%s'", feed);
}

int ebm_program_run(ebm_program *p, int times)
{
    for (int i = 0; i < p->n_feeds; i++)
        if (p->feeds[i].bytes && !p->feeds[i].given)
            return ebm_fail(p->ctx, EBM_ERR_ARG, "feed '%s' has not been given", p->feeds[i].name);
    if (p->profiled)
        p->profiled->runs += times;
    return p->backend->v->run(p->backend, p->device, times);
}

int ebm_program_get(ebm_program *p, ebm_val output, void *host, size_t size)
{
    for (int i = 0; i < p->n_fetches; i++) {
        const struct program_fetch *f = &p->fetches[i];
        if (f->val != output)
            continue;
        if (f->bytes != size)
            return ebm_fail(p->ctx, EBM_ERR_ARG, "the output has %zu bytes, not %zu", f->bytes, size);
        return p->backend->v->fetch(p->backend, p->device, &f->place, host, size);
    }
    return ebm_fail(p->ctx, EBM_ERR_ARG, "the value is no output of this program");
}
