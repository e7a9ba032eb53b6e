/* memory.c - buffers of the device, and what goes in and out of them.
 *
 * SPDX-License-Identifier: ISC
 *
 * Where the host sees the device's memory, it copies; elsewhere copies go through
 * one staging buffer, piece by piece.  Sizes are rounded up to whole words, as
 * shaders address words. */
#include <string.h>
#include "vk.h"

enum { STAGING = 4 << 20 };

static int memory_type(struct vk *vk, uint32_t allowed, VkMemoryPropertyFlags wanted)
{
    for (uint32_t i = 0; i < vk->memory.memoryTypeCount; i++)
        if (allowed >> i & 1 && (vk->memory.memoryTypes[i].propertyFlags & wanted) == wanted)
            return (int)i;
    return -1;
}

static int allocate(struct vk *vk, struct device_buffer *b, enum memory_use use)
{
    const VkMemoryPropertyFlags host = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT
                                     | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    bool seen = use == MEMORY_HOST || vk->shared;
    VkMemoryPropertyFlags wanted = (seen ? host : 0)
        | (use == MEMORY_DEVICE ? VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT : 0);
    VkMemoryRequirements need;
    VkMemoryAllocateInfo info = { .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO };
    int type, rc;

    vk->f.GetBufferMemoryRequirements(vk->device, b->handle, &need);
    type = memory_type(vk, need.memoryTypeBits, wanted);
    if (type < 0)
        type = memory_type(vk, need.memoryTypeBits, seen ? host : 0);
    if (type < 0)
        return ebm_fail(vk->ctx, EBM_ERR_DEVICE, "vulkan: the device has no memory for buffers");
    info.allocationSize = need.size;
    info.memoryTypeIndex = (uint32_t)type;
    if ((rc = vk_check(vk, vk->f.AllocateMemory(vk->device, &info, NULL, &b->memory), "a buffer")) < 0
        || (rc = vk_check(vk, vk->f.BindBufferMemory(vk->device, b->handle, b->memory, 0),
                          "a buffer")) < 0)
        return rc;
    if (!seen)
        return EBM_OK;
    void *mapped;
    rc = vk_check(vk, vk->f.MapMemory(vk->device, b->memory, 0, VK_WHOLE_SIZE, 0, &mapped),
                  "mapping a buffer");
    b->mapped = rc < 0 ? NULL : mapped;
    return rc;
}

/* ---- transfers: recorded, submitted and waited for, one at a time ---- */

static int transfer_begin(struct vk *vk)
{
    VkCommandBufferBeginInfo begin = { .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
        .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT };

    if (vk->lost)
        return ebm_fail(vk->ctx, EBM_ERR_DEVICE, "vulkan: the device was lost");
    return vk_check(vk, vk->f.BeginCommandBuffer(vk->transfer, &begin), "a transfer");
}

static int transfer_end(struct vk *vk)
{
    VkSubmitInfo submit = { .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO, .commandBufferCount = 1,
        .pCommandBuffers = &vk->transfer };
    VkMemoryBarrier seen = { .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
        .srcAccessMask = VK_ACCESS_TRANSFER_WRITE_BIT, .dstAccessMask = VK_ACCESS_HOST_READ_BIT };
    int rc;

    vk->f.CmdPipelineBarrier(vk->transfer, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_PIPELINE_STAGE_HOST_BIT,
                             0, 1, &seen, 0, NULL, 0, NULL);
    if ((rc = vk_check(vk, vk->f.EndCommandBuffer(vk->transfer), "a transfer")) < 0
        || (rc = vk_check(vk, vk->f.QueueSubmit(vk->queue, 1, &submit, vk->fence), "a transfer")) < 0
        || (rc = vk_check(vk, vk->f.WaitForFences(vk->device, 1, &vk->fence, VK_TRUE, UINT64_MAX),
                          "a transfer")) < 0)
        return rc;
    return vk_check(vk, vk->f.ResetFences(vk->device, 1, &vk->fence), "a transfer");
}

static int clear(struct vk *vk, struct device_buffer *b)
{
    int rc;

    if (b->mapped) {
        memset(b->mapped, 0, b->size);
        return EBM_OK;
    }
    if ((rc = transfer_begin(vk)) < 0)
        return rc;
    vk->f.CmdFillBuffer(vk->transfer, b->handle, 0, VK_WHOLE_SIZE, 0);
    return transfer_end(vk);
}

static int copy(struct vk *vk, VkBuffer to, size_t to_at, VkBuffer from, size_t from_at, size_t size)
{
    VkBufferCopy region = { from_at, to_at, size };
    int rc = transfer_begin(vk);

    if (rc < 0)
        return rc;
    vk->f.CmdCopyBuffer(vk->transfer, from, to, 1, &region);
    return transfer_end(vk);
}

/* ---- buffers ---- */

void memory_free(struct vk *vk, struct device_buffer *b)
{
    if (!b)
        return;
    if (b->handle)
        vk->f.DestroyBuffer(vk->device, b->handle, NULL);
    if (b->memory)                       /* unmaps it, too */
        vk->f.FreeMemory(vk->device, b->memory, NULL);
    mem_free(vk->ctx, b);
}

int memory_new(struct vk *vk, size_t size, enum memory_use use, struct device_buffer **buffer)
{
    VkBufferCreateInfo info = { .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
        .size = ((uint64_t)size + 4 + 3) & ~(uint64_t)3,
        .usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT
               | VK_BUFFER_USAGE_TRANSFER_DST_BIT };
    struct device_buffer *b;
    int rc;

    *buffer = NULL;
    if (info.size > vk->limits.allocation)
        return ebm_fail(vk->ctx, EBM_ERR_NOMEM, "vulkan: %zu MiB at once, of which the device gives "
                        "%zu: try a smaller batch", size >> 20, (size_t)(vk->limits.allocation >> 20));
    if (!(b = mem_new(vk->ctx, 1, sizeof *b)))
        return EBM_ERR_NOMEM;
    b->size = size;
    if ((rc = vk_check(vk, vk->f.CreateBuffer(vk->device, &info, NULL, &b->handle), "a buffer")) < 0
        || (rc = allocate(vk, b, use)) < 0 || (rc = clear(vk, b)) < 0) {
        memory_free(vk, b);
        return rc;
    }
    *buffer = b;
    return EBM_OK;
}

int memory_write(struct vk *vk, struct device_buffer *to, size_t offset, const void *from, size_t size)
{
    int rc = EBM_OK;

    if (to->mapped) {
        memcpy(to->mapped + offset, from, size);
        return EBM_OK;
    }
    for (size_t at = 0; at < size && rc >= 0; at += STAGING) {
        size_t n = size - at < STAGING ? size - at : STAGING;
        memcpy(vk->staging->mapped, (const char *)from + at, n);
        rc = copy(vk, to->handle, offset + at, vk->staging->handle, 0, n);
    }
    return rc;
}

int memory_read(struct vk *vk, struct device_buffer *from, size_t offset, void *to, size_t size)
{
    int rc = EBM_OK;

    if (from->mapped) {
        memcpy(to, from->mapped + offset, size);
        return EBM_OK;
    }
    for (size_t at = 0; at < size && rc >= 0; at += STAGING) {
        size_t n = size - at < STAGING ? size - at : STAGING;
        if ((rc = copy(vk, vk->staging->handle, 0, from->handle, offset + at, n)) >= 0)
            memcpy((char *)to + at, vk->staging->mapped, n);
    }
    return rc;
}

int memory_open(struct vk *vk)
{
    VkFenceCreateInfo fence = { .sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO };
    VkCommandBufferAllocateInfo info = { .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
        .commandPool = vk->commands, .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
        .commandBufferCount = 1 };
    int rc;

    if ((rc = vk_check(vk, vk->f.CreateFence(vk->device, &fence, NULL, &vk->fence), "a fence")) < 0
        || (rc = vk_check(vk, vk->f.AllocateCommandBuffers(vk->device, &info, &vk->transfer),
                          "a command buffer")) < 0)
        return rc;
    return vk->shared ? EBM_OK : memory_new(vk, STAGING, MEMORY_HOST, &vk->staging);
}
