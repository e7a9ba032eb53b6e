/* submit.c - a program cut into command buffers, and running them.
 *
 * SPDX-License-Identifier: ISC
 *
 *   run      |= = = = = = =|= = = = = = =|     dispatches
 *   once     [ 0 ][ 1 ][ 2 ]                   a long run: several submissions
 *   many     [ 0             1           ]     short runs: several in one
 *
 * Dispatches that are done once for several runs in a row go before the first.
 *
 * A desktop's picture stands still while a submission runs, and work that holds
 * the device for long is killed.  So a submission is to take SUBMISSION_SECONDS:
 * at first by an estimate of its work, then by the time that the first run took.
 * A dispatch that is too long by itself is cut between its workgroups.
 *
 * Two submissions are in flight, so that the device has the next while the host
 * waits for the last.  A command buffer may not be submitted while it runs: each
 * series has at least two, taken in turn.
 *
 * Some drivers drop work and still signal its fence: the last command of each
 * buffer writes a stamp, which the host clears before and checks afterwards. */
#include "config.h"
#include <string.h>
#include <time.h>
#include "lower.h"

enum { LANES = 2, RUNS_MOST = 64, DISPATCHES_MOST = 4096 };
static const uint32_t STAMP = 0x5eedf00d;
static const double SUBMISSION_SECONDS = 0.05;
static const double TOO_LONG = 2;        /* times as long as it should be: cut again */

struct submission {
    VkCommandBuffer commands;
    VkFence fence;
};

/* Submissions that follow each other round and round. */
struct series {
    size_t n, next, n_made;
    struct submission *list;
    struct device_buffer *stamps;    /* a word for each */
};

struct recording {
    struct series before, once, many;
    size_t pieces;           /* of a run, in `once` */
    size_t pieces_before;    /* in `before`: what is done before the first run */
    int runs;                /* in a submission of `many`; 0: a run is too long for it */
    bool measured;
    struct flight { struct series *series; size_t i; } flights[LANES];   /* the older first */
};

/* ---- cutting ---- */

static double work_of(const struct dispatch *t, double bound)
{
    double least = bound / DISPATCHES_MOST;

    return t->work > least ? t->work : least;
}

/* The end of the piece that begins at `from` and has as much work as `bound`, or that
 * of all: dispatch `end`. */
static struct cut next_cut(const struct device_program *p, struct cut from, size_t end, double bound)
{
    struct cut at = from;
    double left = bound;

    while (at.dispatch < end) {
        const struct dispatch *t = &p->dispatches[at.dispatch];
        uint32_t units = dispatch_units(t);
        double of_unit = work_of(t, bound) / units, rest = of_unit * (units - at.unit);
        bool empty = at.dispatch == from.dispatch && at.unit == from.unit;
        if (rest <= left) {
            left -= rest;
            at = (struct cut){ at.dispatch + 1, 0 };
            continue;
        }
        if (empty && units - at.unit > 1) {
            double take = left / of_unit;
            at.unit += take < 1 ? 1 : (uint32_t)take;
            return at;
        }
        return empty ? (struct cut){ at.dispatch + 1, 0 } : at;
    }
    return at;
}

static size_t count_pieces(const struct device_program *p, struct cut at, size_t end, double bound)
{
    size_t n = 0;

    while (at.dispatch < end) {
        at = next_cut(p, at, end, bound);
        n++;
    }
    return n ? n : 1;
}

/* ---- series ---- */

static void series_free(struct vk *vk, struct series *s)
{
    for (size_t i = 0; i < s->n_made; i++) {
        if (s->list[i].commands)
            vk->f.FreeCommandBuffers(vk->device, vk->commands, 1, &s->list[i].commands);
        if (s->list[i].fence)
            vk->f.DestroyFence(vk->device, s->list[i].fence, NULL);
    }
    memory_free(vk, s->stamps);
    mem_free(vk->ctx, s->list);
    *s = (struct series){ 0 };
}

static int series_new(struct vk *vk, size_t n, struct series *s)
{
    s->n = n;
    if (!(s->list = mem_new(vk->ctx, n, sizeof *s->list)))
        return EBM_ERR_NOMEM;
    return memory_new(vk, n * sizeof STAMP, MEMORY_HOST, &s->stamps);
}

static int begin(struct vk *vk, struct series *s)
{
    VkCommandBufferAllocateInfo info = { .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
        .commandPool = vk->commands, .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY, .commandBufferCount = 1 };
    VkCommandBufferBeginInfo how = { .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO };
    VkFenceCreateInfo fence = { .sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO };
    struct submission *u = &s->list[s->n_made++];
    int rc;

    if ((rc = vk_check(vk, vk->f.CreateFence(vk->device, &fence, NULL, &u->fence), "a fence")) < 0
        || (rc = vk_check(vk, vk->f.AllocateCommandBuffers(vk->device, &info, &u->commands),
                          "a command buffer")) < 0)
        return rc;
    return vk_check(vk, vk->f.BeginCommandBuffer(u->commands, &how), "a command buffer");
}

static int end(struct vk *vk, struct series *s)
{
    const VkPipelineStageFlags shader = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT,
                               transfer = VK_PIPELINE_STAGE_TRANSFER_BIT;
    VkMemoryBarrier before = { .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
        .srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT,
        .dstAccessMask = VK_ACCESS_TRANSFER_WRITE_BIT };
    VkMemoryBarrier seen = { .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
        .srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT,
        .dstAccessMask = VK_ACCESS_HOST_READ_BIT | VK_ACCESS_HOST_WRITE_BIT };
    size_t i = s->n_made - 1;
    VkCommandBuffer c = s->list[i].commands;

    vk->f.CmdPipelineBarrier(c, shader | transfer, transfer, 0, 1, &before, 0, NULL, 0, NULL);
    vk->f.CmdFillBuffer(c, s->stamps->pieces[0].handle, 4 * (VkDeviceSize)i, 4, STAMP);
    vk->f.CmdPipelineBarrier(c, shader | transfer, VK_PIPELINE_STAGE_HOST_BIT, 0, 1, &seen, 0, NULL, 0, NULL);
    return vk_check(vk, vk->f.EndCommandBuffer(c), "a command buffer");
}

/* The next submission of a series: `runs` times from `from` to `to`. */
static int record(struct device_program *p, struct series *s, struct cut from, struct cut to, int runs)
{
    int rc = begin(p->vk, s);

    if (rc < 0)
        return rc;
    for (int run = 0; run < runs; run++)
        record_range(p, s->list[s->n_made - 1].commands, from, to);
    return end(p->vk, s);
}

/* Dispatches [first, end) in pieces of `bound`, in place of a former cut; if it is one
 * piece, twice. */
static int record_pieces(struct device_program *p, size_t first, size_t end, double bound,
                         struct series *series, size_t *n)
{
    struct series s = { 0 };
    struct cut from = { first, 0 };
    size_t pieces = count_pieces(p, from, end, bound);
    int rc = series_new(p->vk, pieces < LANES ? LANES : pieces, &s);

    while (rc >= 0 && s.n_made < s.n) {
        struct cut to = next_cut(p, from, end, bound);
        rc = record(p, &s, from, to, 1);
        from = pieces == 1 ? from : to;
    }
    if (rc < 0) {
        series_free(p->vk, &s);
        return rc;
    }
    series_free(p->vk, series);
    *series = s;
    *n = pieces;
    return EBM_OK;
}

static int record_once(struct device_program *p, double bound)
{
    struct recording *r = p->recording;

    return record_pieces(p, p->n_once, p->n_dispatches, bound, &r->once, &r->pieces);
}

static int record_many(struct device_program *p)
{
    struct series *s = &p->recording->many;
    const struct cut from = { p->n_once, 0 }, to = { p->n_dispatches, 0 };
    int rc = series_new(p->vk, LANES, s);

    while (rc >= 0 && s->n_made < s->n)
        rc = record(p, s, from, to, p->recording->runs);
    if (rc < 0)
        series_free(p->vk, s);
    return rc;
}

int submit_new(struct device_program *p)
{
    double bound = p->vk->limits.work;
    struct recording *r = p->recording = mem_new(p->vk->ctx, 1, sizeof *p->recording);
    int rc = r ? EBM_OK : EBM_ERR_NOMEM;

    if (rc >= 0 && p->n_once)
        rc = record_pieces(p, 0, p->n_once, bound, &r->before, &r->pieces_before);
    return rc < 0 ? rc : record_once(p, bound);
}

void submit_free(struct device_program *p)
{
    struct recording *r = p->recording;

    if (!r)
        return;
    series_free(p->vk, &r->before);
    series_free(p->vk, &r->once);
    series_free(p->vk, &r->many);
    mem_free(p->vk->ctx, r);
}

/* ---- running ---- */

static int land(struct device_program *p, struct flight *flight)
{
    struct vk *vk = p->vk;
    struct submission *u;
    uint32_t stamp = 0;
    int rc;

    if (!flight->series)
        return EBM_OK;
    u = &flight->series->list[flight->i];
    if ((rc = vk_check(vk, vk->f.WaitForFences(vk->device, 1, &u->fence, VK_TRUE, UINT64_MAX),
                       "running a program")) >= 0)
        rc = vk_check(vk, vk->f.ResetFences(vk->device, 1, &u->fence), "running a program");
    if (rc >= 0)
        memcpy(&stamp, flight->series->stamps->pieces[0].mapped + 4 * flight->i, sizeof stamp);
    flight->series = NULL;
    if (rc < 0 || stamp == STAMP)
        return rc;
    vk_lose(vk);
    return ebm_fail(vk->ctx, EBM_ERR_DEVICE, "vulkan: the driver dropped work without saying so");
}

static int submit(struct device_program *p, struct series *s)
{
    struct vk *vk = p->vk;
    struct recording *r = p->recording;
    size_t i = s->next;
    VkSubmitInfo info = { .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO, .commandBufferCount = 1,
        .pCommandBuffers = &s->list[i].commands };
    int rc = land(p, &r->flights[0]);

    r->flights[0] = r->flights[1];
    r->flights[1].series = NULL;
    if (rc < 0)
        return rc;
    memset(s->stamps->pieces[0].mapped + 4 * i, 0, sizeof STAMP);
    rc = vk_check(vk, vk->f.QueueSubmit(vk->queue, 1, &info, s->list[i].fence), "running a program");
    if (rc >= 0)
        r->flights[1] = (struct flight){ s, i };
    s->next = (i + 1) % s->n;
    return rc;
}

/* Wait for all that is in flight, whatever happened. */
static int land_all(struct device_program *p)
{
    int rc = EBM_OK;

    for (int i = 0; i < LANES; i++) {
        int landed = land(p, &p->recording->flights[i]);
        rc = rc < 0 ? rc : landed;
    }
    return rc;
}

static int run_pieces(struct device_program *p, struct series *s, size_t pieces)
{
    int rc = EBM_OK;

    for (size_t i = 0; i < pieces && rc >= 0; i++)
        rc = submit(p, s);
    return rc;
}

static int run_once(struct device_program *p)
{
    return run_pieces(p, &p->recording->once, p->recording->pieces);
}

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double all_work(const struct device_program *p)
{
    double work = 0;

    for (size_t i = p->n_once; i < p->n_dispatches; i++)
        work += work_of(&p->dispatches[i], p->vk->limits.work);
    return work;
}

/* One run alone, which says how many go into a submission, or how much of one. */
static int measure(struct device_program *p)
{
    struct recording *r = p->recording;
    double start = seconds();
    int rc = run_once(p), landed = land_all(p);

    if (rc < 0 || landed < 0)
        return rc < 0 ? rc : landed;
    double each = seconds() - start;
    r->measured = true;
    if (p->vk->pretends)             /* the time is that of another device */
        return EBM_OK;
    if (each / (double)r->pieces > TOO_LONG * SUBMISSION_SECONDS)
        return record_once(p, all_work(p) * SUBMISSION_SECONDS / each);
    r->runs = each * RUNS_MOST < SUBMISSION_SECONDS ? RUNS_MOST : (int)(SUBMISSION_SECONDS / each);
    return EBM_OK;
}

int submit_run(struct device_program *p, int times)
{
    struct recording *r = p->recording;
    int rc = EBM_OK, landed;

    if (p->vk->lost)
        return ebm_fail(p->vk->ctx, EBM_ERR_DEVICE, "vulkan: the device was lost");
    if (times > 0 && p->n_once)
        rc = run_pieces(p, &r->before, r->pieces_before);
    if (times > 0 && !r->measured) {
        landed = land_all(p);        /* which is not part of what is measured */
        if (rc < 0 || landed < 0 || (rc = measure(p)) < 0)
            return rc < 0 ? rc : landed;
        times--;
    }
    bool many = r->runs > 1 || (r->runs == 1 && r->pieces > 1);
    if (rc >= 0 && many && times >= r->runs && !r->many.n)
        rc = record_many(p);
    while (times > 0 && rc >= 0) {
        bool whole = many && times >= r->runs;
        rc = whole ? submit(p, &r->many) : run_once(p);
        times -= whole ? r->runs : 1;
    }
    landed = land_all(p);
    if (r->pieces > 1)               /* it may have failed halfway */
        r->once.next = 0;
    if (r->pieces_before > 1)
        r->before.next = 0;
    return rc < 0 ? rc : landed;
}
