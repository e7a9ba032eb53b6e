/* program.c - a plan, compiled by a backend, and run.
 *
 * SPDX-License-Identifier: ISC
 *
 *   compile   planned, in the list of those that wait     (no memory)
 *   bind      an arena, shared; results and feeds, its own (when the store has memory)
 *   run       again and again */
#include <stdio.h>
#include <string.h>
#include "parts.h"
#include "profile.h"
#include "program.h"
#include "schedule.h"

/* The arena of programs that never run at once.  A program that needs more than
 * there is gets a new one; earlier programs keep theirs. */
struct workspace {
    struct device_buffer *buffer;
    size_t size;
    int users;
};

struct ebm_program {
    ebm_context *ctx;
    ebm_backend *backend;
    ebm_store *store;
    struct device_program *device;
    struct plan plan;                /* until the program has memory, and */
    ebm_graph *parts;                /* its graph, if that is not the caller's */
    size_t arena, wish, own;         /* bytes: shared; more of it for speed; results and feeds */
    struct workspace *workspace;     /* NULL: it waits for memory */
    ebm_program *next;               /* of those that wait */
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
    return EBM_OK;
}

static int check_precision(const ebm_program *p, const struct plan *plan)
{
    if (plan->precision != EBM_BF16 || p->backend->v->bf16)
        return EBM_OK;
    return ebm_fail(p->ctx, EBM_ERR_DEVICE, "%s does not compute with precision bf16: use fp32, or "
                    "the backend cpu", p->backend->v->name);
}

static int note_interface(ebm_program *p, const ebm_graph *g, const struct plan *plan,
                          const struct schedule *s, const ebm_val *outputs)
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
            p->feeds[n->attr.feed.name].bytes = value_bytes(g, v);
    }
    for (int i = 0; i < s->n_outputs; i++) {
        if (node_of(g, s->outputs[i])->op == OP_ASSIGN)
            continue;
        const struct fetch *fetch = &plan->fetches[p->n_fetches];
        p->fetches[p->n_fetches++] = (struct program_fetch){ outputs[i], fetch->place, value_bytes(g, fetch->val) };
    }
    return EBM_OK;
}

/* ---- memory ---- */

static bool has_memory(const ebm_store *store)
{
    for (int i = 0; i < store->count; i++)
        if (!store->tensors[i].buffer)
            return false;
    return true;
}

/* What the arena has to be for this program and all that wait. */
static size_t arena_needed(const ebm_backend *b)
{
    size_t most = 0;

    for (const ebm_program *p = b->waiting; p; p = p->next)
        if (most < p->arena)
            most = p->arena;
    return most;
}

/* And what it will be: with what programs wish for, less what is withheld. */
static size_t arena_granted(const ebm_backend *b)
{
    size_t least = arena_needed(b), most = least;

    for (const ebm_program *p = b->waiting; p; p = p->next)
        if (most < p->arena + p->wish)
            most = p->arena + p->wish;
    return most - least > b->withheld ? most - b->withheld : least;
}

size_t programs_waiting_bytes(const ebm_backend *b, size_t *spare)
{
    size_t bytes = 0;

    *spare = 0;
    if (arena_needed(b) == SIZE_MAX)
        return SIZE_MAX;
    if (!b->workspace || b->workspace->size < arena_needed(b)) {
        bytes += arena_granted(b);
        *spare = bytes - arena_needed(b);
    }
    for (const ebm_program *p = b->waiting; p; p = p->next)
        bytes += p->own;
    return bytes;
}

static void drop_workspace(ebm_backend *b, struct workspace *w)
{
    if (!w || --w->users > 0)
        return;
    if (b->workspace == w)
        b->workspace = NULL;
    if (w->buffer)
        b->v->buffer_free(b, w->buffer);
    mem_free(b->ctx, w);
}

/* Less than this of what would save time is not asked for. */
enum { LITTLE = 1 << 20 };

/* A driver may refuse what it said there was room for: then less, down to `least`. */
static int new_arena(ebm_backend *b, size_t least, size_t *size, struct device_buffer **arena)
{
    const size_t wanted = *size;
    int status = b->v->buffer_new(b, wanted, arena);

    while (status == EBM_ERR_NOMEM && *size > least) {
        size_t spare = (*size - least) / 2;
        *size = least + (spare < LITTLE ? 0 : spare);
        status = b->v->buffer_new(b, *size, arena);
    }
    if (status >= 0 && *size < wanted)
        ebm_note(b->ctx, EBM_LOG_INFO, "%.1f MiB at once were refused: %.1f do, more slowly",
                 (double)wanted / (1 << 20), (double)*size / (1 << 20));
    return status;
}

static int take_workspace(ebm_program *p)
{
    ebm_backend *b = p->backend;
    size_t size = arena_granted(b);
    struct workspace *w = b->workspace;
    int status;

    if (!w || w->size < p->arena) {
        if (!(w = mem_new(b->ctx, 1, sizeof *w)))
            return EBM_ERR_NOMEM;
        if ((status = new_arena(b, arena_needed(b), &size, &w->buffer)) < 0) {
            mem_free(b->ctx, w);
            return status;
        }
        w->size = size;
        b->workspace = w;
    }
    w->users++;
    p->workspace = w;
    return EBM_OK;
}

static int bind_device(ebm_program *p)
{
    ebm_context *ctx = p->ctx;
    const ebm_store *store = p->store;
    size_t *feeds = mem_new(ctx, (size_t)p->n_feeds, sizeof *feeds);
    struct device_buffer **slots = mem_new(ctx, (size_t)store->count, sizeof *slots);
    int status = EBM_ERR_NOMEM;

    if (feeds && slots) {
        for (int i = 0; i < p->n_feeds; i++)
            feeds[i] = p->feeds[i].bytes;
        for (int i = 0; i < store->count; i++)
            slots[i] = store->tensors[i].buffer;
        status = p->backend->v->compile(p->backend, &p->plan, p->workspace->buffer, slots, feeds, &p->device);
    }
    mem_free(ctx, slots);
    mem_free(ctx, feeds);
    if (status >= 0 && p->profiled)
        p->backend->v->time_steps(p->backend, p->device, p->profiled->seconds);
    return status;
}

static void stop_waiting(ebm_program *p)
{
    ebm_program **at = &p->backend->waiting;

    while (*at && *at != p)
        at = &(*at)->next;
    if (*at)
        *at = p->next;
}

static void release_plan(ebm_program *p)
{
    plan_free(p->ctx, &p->plan);
    ebm_graph_free(p->parts);
    p->parts = NULL;
}

static int measure(ebm_program *p)
{
    ebm_backend *b = p->backend;
    size_t own = 0;
    int status = EBM_OK;

    p->arena = (size_t)p->plan.arena;
    if (b->v->measure)
        status = b->v->measure(b, &p->plan, &p->arena, &p->wish, &own);
    p->own = own + (size_t)p->plan.kept;
    for (int i = 0; i < p->n_feeds; i++)
        p->own += p->feeds[i].bytes;
    return status;
}

static int bind(ebm_program *p)
{
    int status;

    if (p->arena == SIZE_MAX) {
        measure(p);                              /* which words the reason */
        return EBM_ERR_NOMEM;
    }
    status = take_workspace(p);
    if (status >= 0 && (status = bind_device(p)) < 0) {
        drop_workspace(p->backend, p->workspace);
        p->workspace = NULL;
    }
    if (status < 0)
        return status;
    stop_waiting(p);
    release_plan(p);
    return EBM_OK;
}

int programs_bind(ebm_store *store)
{
    ebm_program *p = store->backend->waiting, *next;
    int status = EBM_OK;

    for (; p && status >= 0; p = next) {
        next = p->next;
        if (p->store == store)
            status = bind(p);
    }
    return status;
}

/* ---- compiling ---- */

static int prepare(ebm_program *p, ebm_graph *g, struct schedule *s, const ebm_val *outputs)
{
    int status;

    p->plan.precision = p->store->precision;
    p->plan.piece = (int64_t)p->backend->piece;
    if ((status = check_precision(p, &p->plan)) < 0
        || (status = emit_steps(s, &p->plan)) < 0
        || (status = strips_find(s, p->backend, &p->plan)) < 0
        || (status = place_steps(s, &p->plan)) < 0
        || (status = note_interface(p, g, &p->plan, s, outputs)) < 0
        || (status = measure(p)) < 0)
        return status;
    if (p->backend->profile && !(p->profiled = profile_add(p->backend, &p->plan)))
        return EBM_ERR_NOMEM;
    return EBM_OK;
}

/* outputs: in the graph of the caller, by whose values they are fetched. */
static int plan_program(ebm_program *p, ebm_graph *g, int n, const ebm_val *outputs)
{
    const ebm_store *store = p->store;
    struct schedule *s = NULL;
    ebm_val *parts = NULL;
    int status = EBM_OK;

    if (store->part && store->part < store->batch) {
        if (!(parts = mem_new(p->ctx, (size_t)n, sizeof *parts)))
            return EBM_ERR_NOMEM;
        status = parts_new(g, store->batch, store->part, n, outputs, &p->parts, parts);
    }
    if (status >= 0)
        status = schedule_new(parts ? p->parts : g, n, parts ? parts : outputs, &s);
    if (status >= 0)
        status = prepare(p, parts ? p->parts : g, s, outputs);
    schedule_free(s);
    mem_free(p->ctx, parts);
    return status;
}

int ebm_compile(ebm_graph *g, int n, const ebm_val *outputs, ebm_program **program)
{
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
    p->store = g->store;
    p->backend = g->store->backend;
    if ((status = plan_program(p, g, n, outputs)) >= 0) {
        p->next = p->backend->waiting;
        p->backend->waiting = p;
        if (has_memory(p->store))
            status = bind(p);
    }
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
    stop_waiting(p);
    release_plan(p);
    if (p->device)
        p->backend->v->program_free(p->backend, p->device);
    drop_workspace(p->backend, p->workspace);
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
    return p->arena + p->wish + p->own;
}

static int need_memory(const ebm_program *p)
{
    if (p->workspace)
        return EBM_OK;
    return ebm_fail(p->ctx, EBM_ERR_ARG, "the program has no memory yet: call ebm_store_alloc() first");
}

int ebm_program_set(ebm_program *p, const char *feed, const void *host, size_t size)
{
    int status = need_memory(p);

    if (status < 0)
        return status;
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
    int status = need_memory(p);

    if (status < 0)
        return status;
    for (int i = 0; i < p->n_feeds; i++)
        if (p->feeds[i].bytes && !p->feeds[i].given)
            return ebm_fail(p->ctx, EBM_ERR_ARG, "feed '%s' has not been given", p->feeds[i].name);
    if (p->profiled)
        p->profiled->runs += times;
    return p->backend->v->run(p->backend, p->device, times);
}

int ebm_program_get(ebm_program *p, ebm_val output, void *host, size_t size)
{
    int status = need_memory(p);

    if (status < 0)
        return status;
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
