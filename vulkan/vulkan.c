/* vulkan.c - the Vulkan backend: opening a device, compiling a plan, running it.
 *
 * SPDX-License-Identifier: ISC */
#include <stdio.h>
#include <string.h>
#include "lower.h"
#include "store.h"

static void vulkan_close(ebm_backend *base)
{
    struct vk *vk = (struct vk *)base;

    if (vk->device && vk->f.DestroyDevice && vk->f.DeviceWaitIdle) {
        vk->f.DeviceWaitIdle(vk->device);
        pipe_close(vk);
        memory_close(vk);
    }
    device_close(vk);
    loader_close(vk);
    mem_free(vk->ctx, vk);
}

static int buffer_new(ebm_backend *b, size_t size, struct device_buffer **buffer)
{
    return memory_new((struct vk *)b, size, MEMORY_DEVICE, buffer);
}

static void buffer_free(ebm_backend *b, struct device_buffer *buffer)
{
    memory_free((struct vk *)b, buffer);
}

static int upload(ebm_backend *b, struct device_buffer *to, size_t offset, const void *from, size_t size)
{
    return memory_write((struct vk *)b, to, offset, from, size);
}

static int download(ebm_backend *b, struct device_buffer *from, size_t offset, void *to, size_t size)
{
    return memory_read((struct vk *)b, from, offset, to, size);
}

static size_t room(ebm_backend *b)
{
    return heap_room((struct vk *)b);
}

/* ---- programs ---- */

static void program_free(ebm_backend *base, struct device_program *p)
{
    struct vk *vk = (struct vk *)base;

    if (!p)
        return;
    submit_free(p);
    if (p->pool)
        vk->f.DestroyDescriptorPool(vk->device, p->pool, NULL);
    memory_free(vk, p->kept);
    memory_free(vk, p->params);
    for (int i = 0; p->feeds && i < p->n_feeds; i++)
        memory_free(vk, p->feeds[i]);
    mem_free(vk->ctx, p->feeds);
    mem_free(vk->ctx, p->slots);
    mem_free(vk->ctx, p->dispatches);
    mem_free(vk->ctx, p->words);
    mem_free(vk->ctx, p);
}

/* What a plan takes besides its values:
 *
 *   arena  [ values of the plan | lasting | scratch ]     scratch in one piece
 *
 * What lasts for several runs in a row may lie in the arena, as programs never run at
 * once. */
struct extra {
    struct spare spare;              /* which it was lowered with */
    size_t scratch, lasting, words, dispatches;
    bool too_large;
};

/* Beyond this, filters are transformed in every run. */
static const struct spare everything = { SIZE_MAX, 1 << 26 }, nothing;

static size_t lasting_at(const struct vk *vk, const struct plan *plan)
{
    return within_piece(vk, (size_t)plan->arena, 0);
}

static size_t scratch_at(const struct vk *vk, const struct plan *plan, const struct extra *extra)
{
    return within_piece(vk, lasting_at(vk, plan) + extra->lasting, extra->scratch);
}

/* Bytes of an arena that has it all. */
static size_t arena_of(const struct vk *vk, const struct plan *plan, const struct extra *extra)
{
    return extra->scratch ? scratch_at(vk, plan, extra) + extra->scratch
         : extra->lasting ? lasting_at(vk, plan) + extra->lasting : (size_t)plan->arena;
}

/* Lowered in buffers that have no memory. */
static int dry_run(struct vk *vk, const struct plan *plan, const struct spare *spare, struct extra *extra)
{
    int n_slots = plan->graph->store ? plan->graph->store->count : 0, n = n_slots + plan->graph->n_feeds;
    enum { ARENA, KEPT, SCRATCH, OTHERS };
    struct device_buffer *blank = mem_new(vk->ctx, (size_t)n + OTHERS, sizeof *blank);
    struct device_buffer **all = mem_new(vk->ctx, (size_t)n + 1, sizeof *all);
    struct device_program p = { .vk = vk, .dry = true, .spare = *spare };
    int rc = EBM_ERR_NOMEM;

    if (blank && all) {
        for (int i = 0; i < n + OTHERS; i++)
            blank[i].piece = vk->limits.piece;
        for (int i = 0; i < n; i++)
            all[i] = &blank[OTHERS + i];
        p.slots = all;
        p.feeds = all + n_slots;
        p.arena = p.lasting = &blank[ARENA];
        p.lasting_at = lasting_at(vk, plan);
        p.kept = &blank[KEPT];
        p.scratch = &blank[SCRATCH];
        rc = lower_plan(&p, plan);
        *extra = (struct extra){ *spare, p.scratch_size, p.lasting_size, p.n_words, p.n_dispatches, p.too_large };
    }
    mem_free(vk->ctx, all);
    mem_free(vk->ctx, blank);
    mem_free(vk->ctx, p.dispatches);
    mem_free(vk->ctx, p.words);
    return rc;
}

static size_t own_of(const struct extra *extra)
{
    return 4 * extra->words + extra->dispatches * sizeof(struct dispatch);
}

static int measure(ebm_backend *base, const struct plan *plan, size_t *arena, size_t *wish, size_t *own)
{
    struct vk *vk = (struct vk *)base;
    struct extra least = { 0 }, most = { 0 };
    int rc = plan->precision == EBM_BF16 ? matrix_check(vk) : EBM_OK;

    *wish = 0;
    if (rc < 0)
        return rc;
    rc = dry_run(vk, plan, &nothing, &least);
    if (least.too_large) {
        *arena = SIZE_MAX;
        return EBM_OK;
    }
    if (rc < 0 || (rc = dry_run(vk, plan, &everything, &most)) < 0)
        return rc;
    *arena = arena_of(vk, plan, &least);
    if (arena_of(vk, plan, &most) > *arena)
        *wish = arena_of(vk, plan, &most) - *arena;
    *own = own_of(&most) > own_of(&least) ? own_of(&most) : own_of(&least);
    return EBM_OK;
}

/* What the arena has room for: everything, or scratch to its end. */
static int choose(struct vk *vk, const struct plan *plan, size_t arena, struct extra *extra)
{
    size_t at = lasting_at(vk, plan), next = (at / vk->limits.piece + 1) * vk->limits.piece;
    struct spare spare = { 0 };
    int rc = dry_run(vk, plan, &everything, extra);

    if (rc < 0 || arena_of(vk, plan, extra) <= arena)
        return rc;
    spare.scratch = at >= arena ? 0 : arena < next ? arena - at : next - at;
    if (arena > next && arena - next > spare.scratch)
        spare.scratch = arena - next;
    return dry_run(vk, plan, &spare, extra);
}

static int set_memory(struct device_program *p, const struct plan *plan, const struct extra *extra,
                      struct device_buffer *arena, struct device_buffer *const *slots, const size_t *feeds)
{
    struct vk *vk = p->vk;
    int n_slots = plan->graph->store ? plan->graph->store->count : 0, rc;

    p->n_feeds = plan->graph->n_feeds;
    p->slots = mem_new(vk->ctx, (size_t)n_slots + 1, sizeof *p->slots);
    p->feeds = mem_new(vk->ctx, (size_t)p->n_feeds + 1, sizeof *p->feeds);
    if (!p->slots || !p->feeds)
        return EBM_ERR_NOMEM;
    if (n_slots)
        memcpy(p->slots, slots, (size_t)n_slots * sizeof *p->slots);
    p->arena = p->scratch = p->lasting = arena;
    p->spare = extra->spare;
    p->lasting_at = lasting_at(vk, plan);
    p->scratch_at = scratch_at(vk, plan, extra);
    rc = plan->kept ? memory_new(vk, (size_t)plan->kept, MEMORY_DEVICE, &p->kept) : EBM_OK;
    for (int i = 0; i < p->n_feeds && rc >= 0; i++)
        if (feeds[i])
            rc = memory_new(vk, feeds[i], MEMORY_DEVICE, &p->feeds[i]);
    return rc;
}

/* What lowering could not do: the parameters of all dispatches, and commands. */
static int finish(struct device_program *p)
{
    struct vk *vk = p->vk;
    int rc = memory_new(vk, 4 * p->n_words, MEMORY_DEVICE, &p->params);

    if (rc < 0)
        return rc;
    rc = memory_write(vk, p->params, 0, p->words, 4 * p->n_words);
    mem_free(vk->ctx, p->words);
    p->words = NULL;
    if (rc < 0 || (rc = record_new(p)) < 0)
        return rc;
    return submit_new(p);
}

static int compile(ebm_backend *base, const struct plan *plan, struct device_buffer *arena,
                   struct device_buffer *const *slots, const size_t *feeds, struct device_program **program)
{
    struct device_program *p = mem_new(base->ctx, 1, sizeof *p);
    struct extra extra;
    int rc;

    *program = NULL;
    if (!p)
        return EBM_ERR_NOMEM;
    p->vk = (struct vk *)base;
    if ((rc = choose(p->vk, plan, arena->size, &extra)) < 0
        || (rc = set_memory(p, plan, &extra, arena, slots, feeds)) < 0 || (rc = lower_plan(p, plan)) < 0
        || (rc = finish(p)) < 0) {
        program_free(base, p);
        return rc;
    }
    *program = p;
    return EBM_OK;
}

static int feed(ebm_backend *b, struct device_program *p, int index, const void *from, size_t size)
{
    return p->feeds[index] ? memory_write((struct vk *)b, p->feeds[index], 0, from, size) : EBM_OK;
}

static int run(ebm_backend *b, struct device_program *p, int times)
{
    (void)b;
    return submit_run(p, times);
}

static int fetch(ebm_backend *b, struct device_program *p, const struct place *place, void *to, size_t size)
{
    struct span s = span_at(p, place, size);

    return memory_read((struct vk *)b, s.buffer, s.offset, to, size);
}

static const struct backend_vtable vtable = {
    .name = "vulkan", .bf16 = true, .close = vulkan_close,
    .buffer_new = buffer_new, .buffer_free = buffer_free,
    .upload = upload, .download = download,
    .room = room, .measure = measure, .compile = compile, .program_free = program_free,
    .feed = feed, .run = run, .fetch = fetch,
};

int vulkan_count(ebm_context *ctx)
{
    struct vk vk = { .ctx = ctx };
    int rc = loader_open(&vk);

    if (rc >= 0)
        rc = device_count(&vk);
    loader_close(&vk);
    return rc < 0 ? 0 : rc;
}

/* tried: devices not to be chosen, and then the one that was, too. */
static int open_one(ebm_context *ctx, const char *device, uint64_t *tried, ebm_backend **backend)
{
    struct vk *vk = mem_new(ctx, 1, sizeof *vk);
    int rc;

    if (!vk)
        return EBM_ERR_NOMEM;
    vk->base.v = &vtable;
    vk->base.ctx = vk->ctx = ctx;
    vk->tried = *tried;
    if ((rc = loader_open(vk)) < 0 || (rc = device_open(vk, device)) < 0 || (rc = memory_open(vk)) < 0
        || (rc = pipe_open(vk)) < 0 || (rc = selftest(vk)) < 0) {
        *tried = vk->tried;
        vulkan_close(&vk->base);
        return rc;
    }
    *backend = &vk->base;
    return EBM_OK;
}

/* Where the best does not open, the next best may; what was wrong is told. */
int vulkan_open(ebm_context *ctx, const char *device, int threads, ebm_backend **backend)
{
    char why[DESCRIPTION];
    uint64_t tried = 0, before;
    int first, rc;

    (void)threads;
    *backend = NULL;
    if ((first = rc = open_one(ctx, device, &tried, backend)) >= 0)
        return rc;
    snprintf(why, sizeof why, "%s", ebm_message(ctx));
    do {
        before = tried;
        rc = tried ? open_one(ctx, device, &tried, backend) : rc;
    } while (rc < 0 && tried != before);
    if (rc < 0)
        return ebm_fail(ctx, first, "%s", why);
    char *end = (*backend)->description + strlen((*backend)->description);
    snprintf(end, DESCRIPTION - (size_t)(end - (*backend)->description), " (another: %s)", why);
    return EBM_OK;
}
