/* record.c - the dispatches of a program: descriptors, written once, and commands,
 * recorded once.
 *
 * SPDX-License-Identifier: ISC */
#include "lower.h"

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

/* Where a span lies: it does not cross from one piece of its buffer to the next. */
static VkBuffer handle_of(const struct span *s)
{
    return s->buffer->pieces[s->offset / s->buffer->piece].handle;
}

static VkDeviceSize place_of(const struct span *s)
{
    return s->offset % s->buffer->piece;
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
    const struct span params = { p->params, 4 * t->params, 4 * t->n_params, false };
    buffers[0] = (VkDescriptorBufferInfo){ handle_of(&params), place_of(&params), params.size };
    for (int i = 0; i < t->n_bound; i++) {
        const struct span *s = &t->bound[i];
        size_t before = s->offset % align;
        /* Whole words; an operand that is not there is bound to something. */
        buffers[1 + i] = s->size == 0 ? buffers[0] : (VkDescriptorBufferInfo){
            handle_of(s), place_of(s) - before, (before + s->size + 3) & ~(size_t)3 };
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

/* Workgroups [from, to) of a dispatch; rows of them where there are several. */
static void record_dispatch(struct vk *vk, VkCommandBuffer c, const struct dispatch *t,
                            uint32_t from, uint32_t to)
{
    if (t->shader == SHADER_COUNT) {
        const struct span *source = &t->operands[0], *target = &t->operands[1];
        VkBufferCopy region = { place_of(source), place_of(target), source->size };
        vk->f.CmdCopyBuffer(c, handle_of(source), handle_of(target), 1, &region);
        return;
    }
    vk->f.CmdBindPipeline(c, VK_PIPELINE_BIND_POINT_COMPUTE, t->pipeline);
    vk->f.CmdBindDescriptorSets(c, VK_PIPELINE_BIND_POINT_COMPUTE, vk->shader[t->shader].layout, 0, 1,
                                &t->set, 0, NULL);
    if (t->groups[1] > 1)
        vk->f.CmdDispatchBase(c, 0, from, 0, t->groups[0], to - from, 1);
    else
        vk->f.CmdDispatchBase(c, from, 0, 0, to - from, 1, 1);
}

uint32_t dispatch_units(const struct dispatch *t)
{
    return t->shader == SHADER_COUNT ? 1 : t->groups[1] > 1 ? t->groups[1] : t->groups[0];
}

void record_range(struct device_program *p, VkCommandBuffer c, struct cut from, struct cut to)
{
    size_t first = from.dispatch;

    barrier(p->vk, c);
    for (size_t i = from.dispatch; i < p->n_dispatches && (i < to.dispatch || to.unit > 0); i++) {
        const struct dispatch *t = &p->dispatches[i];
        bool last = i == to.dispatch;
        if (must_wait(p, first, i)) {
            barrier(p->vk, c);
            first = i;
        }
        record_dispatch(p->vk, c, t, i == from.dispatch ? from.unit : 0, last ? to.unit : dispatch_units(t));
        if (last)
            break;
    }
}

int record_new(struct device_program *p)
{
    int rc = new_pool(p);

    for (size_t i = 0; i < p->n_dispatches && rc >= 0; i++)
        if (p->dispatches[i].shader != SHADER_COUNT)
            rc = new_set(p, &p->dispatches[i]);
    return rc;
}
