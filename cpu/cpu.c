/* cpu.c - the CPU as a backend: opening it, making a plan ready, running it.
 *
 * SPDX-License-Identifier: ISC
 *
 * compile() resolves every place to an address and every operation to a
 * function with its tables; all memory is allocated there but the arena, which is
 * given and has room for what all steps share as scratch.  run() walks the steps and decides nothing. */
#include "config.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "backend.h"
#include "gemm.h"
#include "keep.h"

enum { MAX_THREADS = 1024 };

/* An arena is made larger by this for packed weights.  What exceeds the caches is read
 * about as slowly as it is packed again, so more is taken only where it is there. */
enum { WISHED = 1 << 25 };

/* A block stays in the second cache of a core; less than a few of them does anyway.
 * Fewer blocks would leave threads idle. */
static const struct strip_rules strip_rules = {
    .block_bytes = 512 << 10, .least_bytes = 1 << 20, .least_blocks = 8
};

struct device_buffer {
    char *bytes;
    size_t size;
};

struct backend {
    struct ebm_backend base;
    struct cpu cpu;
    struct ukernel *blis;        /* or NULL */
};

struct device_program {
    const struct cpu *cpu;
    struct cpu own;              /* the device with the program's precision */
    struct memory memory;
    size_t scratch_size;
    char **slots, **feeds;       /* what memory points to */
    int n_feeds, n_steps, n_copies;
    int n_planned;               /* steps of the plan: strips are one here */
    double *seconds;             /* of steps and of the copies, if they are timed */
    struct step_run *steps;
    struct copy_run { void *to; const void *from; size_t bytes; } *copies;
};

/* ---- opening ---- */

/* Threads for a request; 0: as many as this process may use processors. */
static int threads_of(int wanted)
{
#ifdef _OPENMP
    return wanted ? wanted : omp_get_num_procs();
#else
    (void)wanted;
    return 1;
#endif
}

static void cpu_close(ebm_backend *base)
{
    struct backend *b = (struct backend *)base;
    ebm_context *ctx = base->ctx;

    blis_free(ctx, b->blis);
    mem_free(ctx, b);
}

/* ---- buffers ---- */

static int buffer_new(ebm_backend *b, size_t size, struct device_buffer **buffer)
{
    *buffer = mem_new(b->ctx, 1, sizeof **buffer);
    if (!*buffer)
        return EBM_ERR_NOMEM;
    (*buffer)->size = size;
    (*buffer)->bytes = mem_new(b->ctx, size ? size : 1, 1);
    if (!(*buffer)->bytes) {
        mem_free(b->ctx, *buffer);
        *buffer = NULL;
        return EBM_ERR_NOMEM;
    }
    return EBM_OK;
}

static void buffer_free(ebm_backend *b, struct device_buffer *buffer)
{
    if (!buffer)
        return;
    mem_free(b->ctx, buffer->bytes);
    mem_free(b->ctx, buffer);
}

static int upload(ebm_backend *b, struct device_buffer *to, size_t offset, const void *from,
                  size_t size)
{
    (void)b;
    memcpy(to->bytes + offset, from, size);
    return EBM_OK;
}

static int download(ebm_backend *b, struct device_buffer *from, size_t offset, void *to,
                    size_t size)
{
    (void)b;
    memcpy(to, from->bytes + offset, size);
    return EBM_OK;
}

/* ---- compiling ---- */

void *memory_at(const struct memory *m, const struct place *p)
{
    switch (p->space) {
    case SPACE_ARENA: return m->arena + p->offset;
    case SPACE_KEPT:  return m->kept + p->offset;
    case SPACE_STATE: return m->slots[p->index] + p->offset;
    case SPACE_FEED:  return m->feeds[p->index] + p->offset;
    case SPACE_STRIP: return m->strip + p->offset;
    default:          return NULL;
    }
}

static void contract_step(const struct cpu *cpu, const struct step_run *s)
{
    struct epilogue epilogue = { group_range, s->group };

    if (s->group)
        group_begin(s->group, s->scratch + contract_scratch(s->own));
    contract_run(cpu, s->own, s->in[0], s->in[1], s->same || s->packed_before, s->out, s->scratch,
                 s->group ? &epilogue : NULL);
}

static void contract_release(const struct cpu *cpu, struct step_run *s)
{
    contract_free(cpu, s->own);
}

static int contract_prepare(const struct cpu *cpu, struct step_run *s)
{
    struct contract *contract = NULL;
    int rc = contract_new(cpu, &s->node, &s->shape[0], &s->shape[1], &contract);

    s->run = contract_step;
    s->release = contract_release;
    s->own = contract;
    s->contracts = true;
    if (contract)
        s->scratch_size = contract_scratch(contract);
    return rc;
}

static void group_step(const struct cpu *cpu, const struct step_run *s)
{
    group_run(cpu, s->group, s->scratch);
}

static int group_prepare(const struct cpu *cpu, struct step_run *s)
{
    (void)cpu;
    s->run = group_step;
    return EBM_OK;
}

static int (*const prepare[OP_COUNT])(const struct cpu *cpu, struct step_run *s) = {
    [OP_NONE] = group_prepare,
    [OP_RANDOM] = random_prepare, [OP_TICK] = random_prepare,
    [OP_BROADCAST] = move_prepare, [OP_TRANSPOSE] = move_prepare, [OP_SLICE] = move_prepare,
    [OP_PAD] = move_prepare, [OP_FLIP] = move_prepare, [OP_CONCAT] = move_prepare,
    [OP_SUM] = reduce_prepare, [OP_AMAX] = reduce_prepare,
    [OP_MATMUL] = contract_prepare, [OP_CONV] = contract_prepare,
    [OP_CONV_DATA] = contract_prepare, [OP_CONV_FILTER] = contract_prepare,
    [OP_POOL] = resample_prepare, [OP_UNPOOL] = resample_prepare,
    [OP_PICK] = window_prepare, [OP_PLACE] = window_prepare,
    [OP_RESAMPLE] = resample_prepare, [OP_RESAMPLE_T] = resample_prepare,
    [OP_GATHER] = index_prepare, [OP_SCATTER] = index_prepare, [OP_UPDATE] = index_prepare,
};

static void cut_shape(struct shape *s, const struct cut *cut)
{
    if (cut && s->rank && s->n[0] == cut->rows)
        s->n[0] = cut->n;
}

/* Node, operands and result of a step. */
static int resolve(const struct cpu *cpu, const struct plan *plan, const struct step *step,
                   const struct memory *memory, const struct cut *cut, struct step_run *s)
{
    ebm_context *ctx = cpu->ctx;
    const ebm_graph *g = plan->graph;

    s->node.op = step->op;
    if (step->op == OP_NONE)
        return EBM_OK;
    s->node = *node_of(g, step->val);
    s->node.many = NULL;
    cut_shape(&s->node.shape, cut);
    s->n_in = step->n_in;
    s->in = mem_new(ctx, (size_t)s->n_in + 1, sizeof *s->in);
    s->shape = mem_new(ctx, (size_t)s->n_in + 1, sizeof *s->shape);
    if (!s->in || !s->shape)
        return EBM_ERR_NOMEM;
    for (int i = 0; i < s->n_in; i++) {
        s->in[i] = memory_at(memory, &step->in[i]);
        s->shape[i] = node_of(g, operand(node_of(g, step->val), i))->shape;
        cut_shape(&s->shape[i], cut);
    }
    s->out = memory_at(memory, &step->out);
    s->past = step->out.space != SPACE_STRIP
           && shape_count(&node_of(g, step->val)->shape) * (int64_t)sizeof(float) >= PAST_CACHES;
    return EBM_OK;
}

static int prepare_group(const struct cpu *cpu, const struct ew_group *plan,
                         const struct memory *memory, const struct cut *cut, struct step_run *s)
{
    struct ew_group group = *plan;
    int rc;

    cut_shape(&group.shape, cut);
    if ((rc = group_new(cpu, &group, memory, s->out, shape_count(&plan->shape), &s->group)) < 0)
        return rc;
    /* Registers of the threads follow what the operation itself takes. */
    s->scratch_size = ((s->scratch_size + 63) & ~(size_t)63)
                    + group_scratch(s->group) * (size_t)cpu->threads;
    return EBM_OK;
}

int step_prepare(const struct cpu *cpu, const struct plan *plan, const struct step *step,
                 const struct memory *memory, const struct cut *cut, struct step_run *s)
{
    int rc = resolve(cpu, plan, step, memory, cut, s);

    if (rc < 0)
        return rc;
    if (!prepare[step->op])
        return ebm_fail(cpu->ctx, EBM_ERR_INTERNAL, "cpu: %s is not an operation that runs",
                        op_info[step->op].name);
    if ((rc = prepare[step->op](cpu, s)) < 0 || !step->group)
        return rc;
    return prepare_group(cpu, step->group, memory, cut, s);
}

void step_release(const struct cpu *cpu, struct step_run *s)
{
    if (s->release)
        s->release(cpu, s);
    else
        mem_free(cpu->ctx, s->own);
    group_free(cpu, s->group);
    mem_free(cpu->ctx, s->in);
    mem_free(cpu->ctx, s->shape);
}

static size_t line_up(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

static size_t largest_strip(const struct plan *plan)
{
    size_t most = 0;

    for (int i = 0; i < plan->n_strips; i++)
        if ((size_t)plan->strips[i].bytes > most)
            most = (size_t)plan->strips[i].bytes;
    return most;
}

/* The arena: the plan's, the strips' of all threads, then the scratch of the step
 * that runs. */
static size_t before_scratch(const struct device_program *p, const struct plan *plan)
{
    return line_up((size_t)plan->arena) + line_up(largest_strip(plan) * (size_t)p->cpu->threads);
}

static int set_memory(struct device_program *p, const struct plan *plan, char *arena,
                      struct device_buffer *const *slots, const size_t *feeds)
{
    ebm_context *ctx = p->cpu->ctx;
    int n_slots = plan->graph->store->count;

    p->n_feeds = plan->graph->n_feeds;
    p->slots = mem_new(ctx, (size_t)n_slots + 1, sizeof *p->slots);
    p->feeds = mem_new(ctx, (size_t)p->n_feeds + 1, sizeof *p->feeds);
    p->memory.kept = mem_new(ctx, (size_t)plan->kept + 1, 1);
    if (!p->slots || !p->feeds || !p->memory.kept)
        return EBM_ERR_NOMEM;
    for (int i = 0; i < n_slots; i++)
        p->slots[i] = slots[i] ? slots[i]->bytes : NULL;
    for (int i = 0; i < p->n_feeds; i++)
        if (feeds[i] && !(p->feeds[i] = mem_new(ctx, feeds[i], 1)))
            return EBM_ERR_NOMEM;
    p->memory.arena = arena;
    p->memory.strip = arena + line_up((size_t)plan->arena);
    p->memory.strip_size = largest_strip(plan);
    p->memory.slots = p->slots;
    p->memory.feeds = p->feeds;
    return EBM_OK;
}

static int make_all(struct device_program *p, const struct plan *plan)
{
    ebm_context *ctx = p->cpu->ctx;
    int rc;

    p->steps = mem_new(ctx, (size_t)plan->n_steps + 1, sizeof *p->steps);
    p->copies = mem_new(ctx, (size_t)plan->n_copies + 1, sizeof *p->copies);
    if (!p->steps || !p->copies)
        return EBM_ERR_NOMEM;
    p->n_planned = plan->n_steps;
    for (int i = 0, k = 0; i < plan->n_steps; ) {
        struct step_run *s = &p->steps[p->n_steps++];
        const struct strip *strip = k < plan->n_strips && plan->strips[k].first == i
                                  ? &plan->strips[k++] : NULL;
        rc = strip ? strip_prepare(p->cpu, plan, strip, &p->memory, s)
                   : step_prepare(p->cpu, plan, &plan->steps[i], &p->memory, NULL, s);
        if (rc < 0)
            return rc;
        s->first = i;
        i += strip ? strip->n : 1;
        s->scratch = p->memory.arena + before_scratch(p, plan);
        if (s->scratch_size > p->scratch_size)
            p->scratch_size = s->scratch_size;
    }
    for (int i = 0; i < plan->n_copies; i++) {
        const struct copy *c = &plan->copies[i];
        struct copy_run r = { memory_at(&p->memory, &c->to), memory_at(&p->memory, &c->from),
                              c->bytes };
        if (r.to != r.from)
            p->copies[p->n_copies++] = r;
    }
    return EBM_OK;
}

static void program_free(ebm_backend *base, struct device_program *p)
{
    ebm_context *ctx = base->ctx;

    if (!p)
        return;
    for (int i = 0; i < p->n_steps; i++)
        step_release(p->cpu, &p->steps[i]);
    for (int i = 0; p->feeds && i < p->n_feeds; i++)
        mem_free(ctx, p->feeds[i]);
    mem_free(ctx, p->feeds);
    mem_free(ctx, p->slots);
    mem_free(ctx, p->memory.kept);
    mem_free(ctx, p->steps);
    mem_free(ctx, p->copies);
    mem_free(ctx, p);
}

/* What steps and blocks need of the arena. */
static size_t arena_of(const struct device_program *p, const struct plan *plan)
{
    return before_scratch(p, plan) + line_up(p->scratch_size);
}

/* Packed weights, in what is left of an arena; without one, the bytes they would take. */
static int64_t keep_weights(struct device_program *p, const struct plan *plan, const struct device_buffer *arena)
{
    size_t used = arena_of(p, plan);
    struct keeping keeping = {
        .plan = plan, .n_steps = p->n_steps, .steps = p->steps,
        .at = arena ? arena->bytes + used : NULL, .room = arena ? arena->size - used : SIZE_MAX,
    };

    return keep_packed(p->cpu->ctx, &keeping);
}

static struct device_program *program_new(ebm_backend *base, const struct plan *plan)
{
    struct device_program *p = mem_new(base->ctx, 1, sizeof *p);

    if (p) {
        p->own = ((struct backend *)base)->cpu;
        p->own.precision = plan->precision;
        p->cpu = &p->own;
    }
    return p;
}

static int compile(ebm_backend *base, const struct plan *plan, struct device_buffer *arena,
                   struct device_buffer *const *slots, const size_t *feeds,
                   struct device_program **program)
{
    struct device_program *p = program_new(base, plan);
    int rc;

    *program = NULL;
    if (!p)
        return EBM_ERR_NOMEM;
    if ((rc = set_memory(p, plan, arena->bytes, slots, feeds)) < 0
        || (rc = make_all(p, plan)) < 0
        || (rc = keep_weights(p, plan, arena) < 0 ? EBM_ERR_NOMEM : EBM_OK) < 0) {
        program_free(base, p);
        return rc;
    }
    *program = p;
    return EBM_OK;
}

/* Make the steps on memory that is not there: what they take is known then. */
static int measure(ebm_backend *base, const struct plan *plan, size_t *arena, size_t *wish, size_t *own)
{
    ebm_context *ctx = base->ctx;
    size_t before = mem_held(ctx), n_slots = (size_t)plan->graph->store->count;
    size_t n_feeds = (size_t)plan->graph->n_feeds;
    struct device_program *p = program_new(base, plan);
    char nothing[1], **at = mem_new(ctx, n_slots + n_feeds + 1, sizeof *at);
    int rc = p && at ? EBM_OK : EBM_ERR_NOMEM;

    for (size_t i = 0; at && i < n_slots + n_feeds; i++)
        at[i] = nothing;
    if (rc >= 0) {
        p->memory = (struct memory){ .arena = nothing, .kept = nothing, .slots = at,
                                     .feeds = at + n_slots, .strip = nothing,
                                     .strip_size = largest_strip(plan) };
        rc = make_all(p, plan);
        *arena = arena_of(p, plan);
        *own = mem_held(ctx) - before;
        p->memory.kept = NULL;
    }
    if (rc >= 0) {
        int64_t bytes = keep_weights(p, plan, NULL);
        *wish = bytes < 0 ? 0 : bytes < WISHED ? (size_t)bytes : WISHED;
        rc = bytes < 0 ? EBM_ERR_NOMEM : EBM_OK;
    }
    mem_free(ctx, at);
    program_free(base, p);
    return rc;
}

/* ---- running ---- */

static int feed(ebm_backend *b, struct device_program *p, int index, const void *from,
                size_t size)
{
    (void)b;
    if (p->feeds[index])
        memcpy(p->feeds[index], from, size);
    return EBM_OK;
}

static void run_copies(const struct device_program *p)
{
    for (int i = 0; i < p->n_copies; i++)
        memmove(p->copies[i].to, p->copies[i].from, p->copies[i].bytes);
}

double cpu_seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void run_timed(const struct device_program *p)
{
    double from = cpu_seconds(), to;

    for (int i = 0; i < p->n_steps; i++, from = to) {
        struct step_run *s = &p->steps[i];
        s->timed = true;
        s->run(p->cpu, s);
        to = cpu_seconds();
        if (s->share)
            s->share(s, p->seconds + s->first, to - from);
        else
            p->seconds[s->first] += to - from;
    }
    run_copies(p);
    p->seconds[p->n_planned] += cpu_seconds() - from;
}

static void time_steps(ebm_backend *b, struct device_program *p, double *seconds)
{
    (void)b;
    p->seconds = seconds;
}

static int peaks_of(ebm_backend *b, ebm_peaks *peaks)
{
    return cpu_peaks(&((struct backend *)b)->cpu, peaks);
}

static void run_once(const struct device_program *p)
{
    for (int i = 0; i < p->n_steps; i++)
        p->steps[i].run(p->cpu, &p->steps[i]);
    run_copies(p);
}

static int run(ebm_backend *b, struct device_program *p, int times)
{
    (void)b;
    for (int t = 0; t < times; t++) {
        for (int i = 0; i < p->n_steps; i++)
            p->steps[i].same = t > 0;
        (p->seconds ? run_timed : run_once)(p);
    }
    return EBM_OK;
}

static int fetch(ebm_backend *b, struct device_program *p, const struct place *place, void *to,
                 size_t size)
{
    (void)b;
    memcpy(to, memory_at(&p->memory, place), size);
    return EBM_OK;
}

static const struct backend_vtable vtable = {
    .name = "cpu", .bf16 = true, .close = cpu_close,
    .buffer_new = buffer_new, .buffer_free = buffer_free,
    .upload = upload, .download = download,
    .measure = measure, .compile = compile, .program_free = program_free,
    .feed = feed, .run = run, .fetch = fetch,
    .time_steps = time_steps, .peaks = peaks_of,
};

int cpu_open(ebm_context *ctx, const char *device, int threads, ebm_backend **backend)
{
    const char *reason = NULL;

    *backend = NULL;
    if (device)
        return ebm_fail(ctx, EBM_ERR_ARG, "'cpu:%s': there is one cpu; say cpu", device);
    if (threads < 0 || threads > MAX_THREADS)
        return ebm_fail(ctx, EBM_ERR_ARG, "%d threads are not within 0 (all processors) to %d",
                        threads, MAX_THREADS);
    struct backend *b = mem_new(ctx, 1, sizeof *b);
    if (!b)
        return EBM_ERR_NOMEM;
    b->base.v = &vtable;
    b->base.ctx = ctx;
    b->base.strips = strip_rules;
    b->cpu.ctx = ctx;
    b->cpu.threads = threads_of(threads);
    b->cpu.flags = cpu_flags();
    b->cpu.exact = exact_wanted();
    b->cpu.kernels = kernels_best(b->cpu.flags);
    b->cpu.ukernel = ukernel_best(b->cpu.flags);
    b->cpu.bf16 = bf16_best(b->cpu.flags);
    b->blis = blis_new(ctx, b->cpu.flags, b->cpu.ukernel, &reason);
    if (!b->blis && !reason) {
        mem_free(ctx, b);
        return EBM_ERR_NOMEM;
    }
    if (b->blis)
        b->cpu.ukernel = b->blis;
    snprintf(b->base.description, sizeof b->base.description, "cpu: %s, %s %dx%d, bf16 by %s, %d thread%s",
             kernels_name(b->cpu.kernels), b->cpu.ukernel->name, b->cpu.ukernel->MR,
             b->cpu.ukernel->NR, bf16_name(b->cpu.bf16), b->cpu.threads, b->cpu.threads == 1 ? "" : "s");
    *backend = &b->base;
    return EBM_OK;
}
