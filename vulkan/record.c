/* record.c - the dispatches of a program as command buffers, and running them.
 *
 * SPDX-License-Identifier: ISC
 *
 * Descriptors are written once; commands are recorded once and submitted again
 * and again.  Two lanes, each with its own command buffers, fence and stamp, take
 * turns, so that the device always has the next submission while the host waits
 * for the last.  A command buffer holds one run of the program, or as many as
 * take about SUBMISSION_SECONDS, measured at the first run: desktops kill work
 * that holds the device for long.
 *
 * Some drivers drop work and still signal its fence: the last command of each
 * buffer writes a stamp, which the host clears before and checks afterwards. */
#include <string.h>
#include <time.h>
#include "lower.h"

enum { LANES = 2, RUNS_MOST = 64 };
static const uint32_t STAMP = 0x5eedf00d;
static const double SUBMISSION_SECONDS = 0.05;

struct recording {
    VkCommandBuffer once[LANES], many[LANES];
    VkFence fence[LANES];
    bool flying[LANES];
    int runs;                /* in `many`; 0: not measured yet */
    struct device_buffer *stamps;
};

/* ---- descriptors ---- */

static int new_pool(struct device_program *p)
{
    struct vk *vk = p->vk;
    VkDescriptorPoolSize size = { VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, 1 };
    VkDescriptorPoolCreateInfo info = { .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
        .maxSets = 1, .poolSizeCount = 1, .pPoolSizes = &size };

    for (size_t i = 0; i < p->n_dispatches; i++)
        if (p->dispatches[i].shader != SHADER_COUNT) {
            info.maxSets++;
            size.descriptorCount += 1 + (uint32_t)p->dispatches[i].n_bound;
        }
    return vk_check(vk, vk->f.CreateDescriptorPool(vk->device, &info, NULL, &p->pool),
                    "a descriptor pool");
}

static int new_set(struct device_program *p, struct dispatch *t)
{
    struct vk *vk = p->vk;
    VkDescriptorSetAllocateInfo info = { .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
        .descriptorPool = p->pool, .descriptorSetCount = 1,
        .pSetLayouts = &vk->shader[t->shader].set };
    VkDescriptorBufferInfo buffers[1 + BUFFERS_MAX];
    size_t align = vk->limits.offset_align;
    int rc = vk_check(vk, vk->f.AllocateDescriptorSets(vk->device, &info, &t->set), "descriptors");

    if (rc < 0)
        return rc;
    buffers[0] = (VkDescriptorBufferInfo){ p->params->handle, 4 * t->params, 4 * t->n_params };
    for (int i = 0; i < t->n_bound; i++) {
        const struct span *s = &t->bound[i];
        size_t first = s->offset / align * align;
        /* Whole words; an operand that is not there is bound to something. */
        buffers[1 + i] = s->size == 0 ? buffers[0] : (VkDescriptorBufferInfo){
            s->buffer->handle, first, (s->offset - first + s->size + 3) & ~(size_t)3 };
    }
    VkWriteDescriptorSet writes[2] = {
        { .sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET, .dstSet = t->set, .dstBinding = 0,
          .descriptorCount = 1, .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
          .pBufferInfo = buffers },
        { .sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET, .dstSet = t->set, .dstBinding = 1,
          .descriptorCount = (uint32_t)t->n_bound,
          .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, .pBufferInfo = buffers + 1 } };
    vk->f.UpdateDescriptorSets(vk->device, 2, writes, 0, NULL);
    return EBM_OK;
}

/* ---- barriers: one between two dispatches of which one writes what the other
 * touches; dispatches in between run side by side ---- */

static bool conflict(const struct span *a, const struct span *b)
{
    return (a->write || b->write) && a->size && b->size && a->buffer == b->buffer
        && a->offset < b->offset + b->size && b->offset < a->offset + a->size;
}

/* Does t have to wait for one of the dispatches from `first` on? */
static bool must_wait(const struct device_program *p, size_t first, size_t t)
{
    const struct dispatch *b = &p->dispatches[t];

    for (size_t i = first; i < t; i++) {
        const struct dispatch *a = &p->dispatches[i];
        for (int j = 0; j < a->n_operands; j++)
            for (int k = 0; k < b->n_operands; k++)
                if (conflict(&a->operands[j], &b->operands[k]))
                    return true;
    }
    return false;
}

static void barrier(struct vk *vk, VkCommandBuffer c)
{
    const VkPipelineStageFlags work = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT
                                    | VK_PIPELINE_STAGE_TRANSFER_BIT;
    VkMemoryBarrier all = { .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
        .srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT,
        .dstAccessMask = VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT
                       | VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT };

    vk->f.CmdPipelineBarrier(c, work, work, 0, 1, &all, 0, NULL, 0, NULL);
}

/* ---- commands ---- */

static void record_dispatch(struct vk *vk, VkCommandBuffer c, const struct dispatch *t)
{
    if (t->shader == SHADER_COUNT) {
        const struct span *from = &t->operands[0], *to = &t->operands[1];
        VkBufferCopy region = { from->offset, to->offset, from->size };
        vk->f.CmdCopyBuffer(c, from->buffer->handle, to->buffer->handle, 1, &region);
        return;
    }
    vk->f.CmdBindPipeline(c, VK_PIPELINE_BIND_POINT_COMPUTE, t->pipeline);
    vk->f.CmdBindDescriptorSets(c, VK_PIPELINE_BIND_POINT_COMPUTE, vk->shader[t->shader].layout, 0, 1,
                                &t->set, 0, NULL);
    vk->f.CmdDispatch(c, t->groups[0], t->groups[1], 1);
}

static int record(struct device_program *p, VkCommandBuffer *c, int lane, int runs)
{
    struct vk *vk = p->vk;
    VkCommandBufferAllocateInfo info = { .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
        .commandPool = vk->commands, .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY, .commandBufferCount = 1 };
    VkCommandBufferBeginInfo begin = { .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO };
    VkMemoryBarrier seen = { .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
        .srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT,
        .dstAccessMask = VK_ACCESS_HOST_READ_BIT | VK_ACCESS_HOST_WRITE_BIT };
    int rc;

    if ((rc = vk_check(vk, vk->f.AllocateCommandBuffers(vk->device, &info, c), "a command buffer")) < 0
        || (rc = vk_check(vk, vk->f.BeginCommandBuffer(*c, &begin), "a command buffer")) < 0)
        return rc;
    for (int run = 0; run < runs; run++) {
        size_t first = 0;
        barrier(vk, *c);
        for (size_t i = 0; i < p->n_dispatches; i++) {
            if (must_wait(p, first, i)) {
                barrier(vk, *c);
                first = i;
            }
            record_dispatch(vk, *c, &p->dispatches[i]);
        }
    }
    barrier(vk, *c);
    vk->f.CmdFillBuffer(*c, p->recording->stamps->handle, 4 * (VkDeviceSize)lane, 4, STAMP);
    vk->f.CmdPipelineBarrier(*c, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT,
                             VK_PIPELINE_STAGE_HOST_BIT, 0, 1, &seen, 0, NULL, 0, NULL);
    return vk_check(vk, vk->f.EndCommandBuffer(*c), "a command buffer");
}

int record_new(struct device_program *p)
{
    struct vk *vk = p->vk;
    struct recording *r = p->recording = mem_new(vk->ctx, 1, sizeof *r);
    VkFenceCreateInfo fence = { .sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO };
    int rc;

    if (!r)
        return EBM_ERR_NOMEM;
    if ((rc = memory_new(vk, LANES * sizeof STAMP, MEMORY_HOST, &r->stamps)) < 0
        || (rc = new_pool(p)) < 0)
        return rc;
    for (size_t i = 0; i < p->n_dispatches && rc >= 0; i++)
        if (p->dispatches[i].shader != SHADER_COUNT)
            rc = new_set(p, &p->dispatches[i]);
    for (int lane = 0; lane < LANES && rc >= 0; lane++)
        if ((rc = vk_check(vk, vk->f.CreateFence(vk->device, &fence, NULL, &r->fence[lane]), "a fence")) >= 0)
            rc = record(p, &r->once[lane], lane, 1);
    return rc;
}

void record_free(struct device_program *p)
{
    struct vk *vk = p->vk;
    struct recording *r = p->recording;

    for (int lane = 0; r && lane < LANES; lane++) {
        if (r->once[lane])
            vk->f.FreeCommandBuffers(vk->device, vk->commands, 1, &r->once[lane]);
        if (r->many[lane])
            vk->f.FreeCommandBuffers(vk->device, vk->commands, 1, &r->many[lane]);
        if (r->fence[lane])
            vk->f.DestroyFence(vk->device, r->fence[lane], NULL);
    }
    if (r)
        memory_free(vk, r->stamps);
    if (p->pool)
        vk->f.DestroyDescriptorPool(vk->device, p->pool, NULL);
    mem_free(vk->ctx, r);
}

/* ---- running ---- */

static int wait_for(struct device_program *p, int lane)
{
    struct vk *vk = p->vk;
    struct recording *r = p->recording;
    uint32_t stamp;
    int rc;

    if (!r->flying[lane])
        return EBM_OK;
    r->flying[lane] = false;
    if ((rc = vk_check(vk, vk->f.WaitForFences(vk->device, 1, &r->fence[lane], VK_TRUE, UINT64_MAX),
                       "running a program")) < 0
        || (rc = vk_check(vk, vk->f.ResetFences(vk->device, 1, &r->fence[lane]), "running a program")) < 0)
        return rc;
    memcpy(&stamp, r->stamps->mapped + 4 * lane, sizeof stamp);
    if (stamp == STAMP)
        return EBM_OK;
    vk_lose(vk);
    return ebm_fail(vk->ctx, EBM_ERR_DEVICE, "vulkan: the driver dropped work without saying so");
}

static int submit(struct device_program *p, int lane, VkCommandBuffer c)
{
    struct vk *vk = p->vk;
    struct recording *r = p->recording;
    VkSubmitInfo info = { .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO, .commandBufferCount = 1,
        .pCommandBuffers = &c };
    int rc = wait_for(p, lane);

    if (rc < 0)
        return rc;
    memset(r->stamps->mapped + 4 * lane, 0, sizeof STAMP);
    rc = vk_check(vk, vk->f.QueueSubmit(vk->queue, 1, &info, r->fence[lane]), "running a program");
    r->flying[lane] = rc >= 0;
    return rc;
}

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* One run alone, which says how many go into a submission. */
static int measure(struct device_program *p)
{
    struct recording *r = p->recording;
    double start = seconds();
    int rc;

    if ((rc = submit(p, 0, r->once[0])) < 0 || (rc = wait_for(p, 0)) < 0)
        return rc;
    double each = seconds() - start;
    r->runs = each * RUNS_MOST < SUBMISSION_SECONDS ? RUNS_MOST : (int)(SUBMISSION_SECONDS / each);
    r->runs = r->runs < 1 ? 1 : r->runs;
    return EBM_OK;
}

static int record_many(struct device_program *p)
{
    struct recording *r = p->recording;
    int rc = EBM_OK;

    for (int lane = 0; lane < LANES && rc >= 0; lane++)
        rc = record(p, &r->many[lane], lane, r->runs);
    return rc;
}

int record_run(struct device_program *p, int times)
{
    struct recording *r = p->recording;
    int rc = EBM_OK, lane = 0;

    if (p->vk->lost)
        return ebm_fail(p->vk->ctx, EBM_ERR_DEVICE, "vulkan: the device was lost");
    if (times > 0 && !r->runs) {
        if ((rc = measure(p)) < 0)
            return rc;
        times--;
    }
    if (times >= r->runs && r->runs > 1 && !r->many[0] && (rc = record_many(p)) < 0)
        return rc;
    for (; times > 0 && rc >= 0; lane = 1 - lane) {
        bool many = r->many[0] && times >= r->runs;
        rc = submit(p, lane, many ? r->many[lane] : r->once[lane]);
        times -= many ? r->runs : 1;
    }
    for (int i = 0; i < LANES; i++) {
        int waited = wait_for(p, i);
        rc = rc < 0 ? rc : waited;
    }
    return rc;
}
