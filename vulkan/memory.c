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

/* ---- transfers: recorded, submitted and waited for, one at a time ---- */

static int transfer_begin(struct vk *vk)
{
    VkCommandBufferBeginInfo begin = { .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
        .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT };

    int rc;

    if (vk->lost)
        return ebm_fail(vk->ctx, EBM_ERR_DEVICE, "vulkan: the device was lost");
    if ((rc = vk_check(vk, vk->f.ResetCommandPool(vk->device, vk->transfers, 0), "a transfer")) < 0)
        return rc;
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

static int clear(struct vk *vk, const struct buffer_piece *b, size_t size)
{
    int rc;

    if (b->mapped) {
        memset(b->mapped, 0, size);
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
    for (int i = 0; b->pieces && i < b->n; i++) {
        if (b->pieces[i].handle)
            vk->f.DestroyBuffer(vk->device, b->pieces[i].handle, NULL);
        heap_give(vk, &b->pieces[i].part);
    }
    mem_free(vk->ctx, b->pieces);
    mem_free(vk->ctx, b);
}

static int new_piece(struct vk *vk, size_t size, enum memory_use use, struct buffer_piece *b)
{
    VkBufferCreateInfo info = { .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO, .size = size,
        .usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT
               | VK_BUFFER_USAGE_TRANSFER_DST_BIT };
    VkMemoryRequirements need;
    int rc = vk_check(vk, vk->f.CreateBuffer(vk->device, &info, NULL, &b->handle), "a buffer");

    if (rc < 0)
        return rc;
    vk->f.GetBufferMemoryRequirements(vk->device, b->handle, &need);
    if ((rc = heap_take(vk, &need, use, &b->part)) < 0
        || (rc = vk_check(vk, vk->f.BindBufferMemory(vk->device, b->handle, heap_memory(&b->part), b->part.offset),
                          "a buffer")) < 0)
        return rc;
    b->mapped = heap_mapped(&b->part);
    return clear(vk, b, size);
}

int memory_new(struct vk *vk, size_t size, enum memory_use use, struct device_buffer **buffer)
{
    size_t most = vk->limits.piece, all = ((size < SIZE_MAX / 2 ? size : SIZE_MAX / 2) + 4 + 3) & ~(size_t)3;
    struct device_buffer *b = mem_new(vk->ctx, 1, sizeof *b);
    int rc = EBM_OK;

    *buffer = NULL;
    if (!b)
        return EBM_ERR_NOMEM;
    b->size = size;
    b->piece = most;
    b->n = (int)((all + most - 1) / most);
    if (!(b->pieces = mem_new(vk->ctx, (size_t)b->n, sizeof *b->pieces)))
        rc = EBM_ERR_NOMEM;
    for (int i = 0; i < b->n && rc >= 0; i++)
        rc = new_piece(vk, i + 1 < b->n ? most : all - (size_t)i * most, use, &b->pieces[i]);
    if (rc < 0) {
        memory_free(vk, b);
        return rc;
    }
    *buffer = b;
    return EBM_OK;
}

/* Bytes from `at` on that one copy can take, of `left`. */
static size_t stretch(const struct device_buffer *b, size_t at, size_t left)
{
    size_t rest = b->piece - at % b->piece;
    size_t n = left < rest ? left : rest;

    return b->pieces[0].mapped || n < STAGING ? n : STAGING;
}

int memory_write(struct vk *vk, struct device_buffer *to, size_t offset, const void *from, size_t size)
{
    VkBuffer staging = vk->staging ? vk->staging->pieces[0].handle : VK_NULL_HANDLE;
    int rc = EBM_OK;

    for (size_t done = 0, n; done < size && rc >= 0; done += n) {
        const struct buffer_piece *b = &to->pieces[(offset + done) / to->piece];
        size_t at = (offset + done) % to->piece;
        n = stretch(to, offset + done, size - done);
        memcpy(b->mapped ? b->mapped + at : vk->staging->pieces[0].mapped, (const char *)from + done, n);
        if (!b->mapped)
            rc = copy(vk, b->handle, at, staging, 0, n);
    }
    return rc;
}

int memory_read(struct vk *vk, struct device_buffer *from, size_t offset, void *to, size_t size)
{
    VkBuffer staging = vk->staging ? vk->staging->pieces[0].handle : VK_NULL_HANDLE;
    int rc = EBM_OK;

    for (size_t done = 0, n; done < size && rc >= 0; done += n) {
        const struct buffer_piece *b = &from->pieces[(offset + done) / from->piece];
        size_t at = (offset + done) % from->piece;
        n = stretch(from, offset + done, size - done);
        if (!b->mapped)
            rc = copy(vk, staging, 0, b->handle, at, n);
        if (rc >= 0)
            memcpy((char *)to + done, b->mapped ? b->mapped + at : vk->staging->pieces[0].mapped, n);
    }
    return rc;
}

int memory_open(struct vk *vk)
{
    VkFenceCreateInfo fence = { .sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO };
    VkCommandBufferAllocateInfo info = { .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
        .commandPool = vk->transfers, .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
        .commandBufferCount = 1 };
    int rc;

    if ((rc = vk_check(vk, vk->f.CreateFence(vk->device, &fence, NULL, &vk->fence), "a fence")) < 0
        || (rc = vk_check(vk, vk->f.AllocateCommandBuffers(vk->device, &info, &vk->transfer),
                          "a command buffer")) < 0)
        return rc;
    return vk->shared ? EBM_OK : memory_new(vk, STAGING, MEMORY_HOST, &vk->staging);
}

void memory_close(struct vk *vk)
{
    memory_free(vk, vk->staging);
    if (vk->fence)
        vk->f.DestroyFence(vk->device, vk->fence, NULL);
}
