/* heap.c - memory of the device: few allocations, which small buffers share.
 *
 * SPDX-License-Identifier: ISC
 *
 *   block   |==a==|   |=b=|==c==|        |     parts in order of their offsets; a new
 *                                              one goes into the first gap it fits
 *
 * A driver gives few allocations (some no more than 4,096), and each takes time and
 * at least a page.  A large buffer has a block of its own. */
#include "vk.h"

enum { BLOCK = 4 << 20, LARGE = BLOCK / 4, PARTS_MOST = 256 };

struct heap_block {
    struct heap_block *next;
    VkDeviceMemory memory;
    uint32_t type;
    uint64_t size;
    char *mapped;
    int n;
    struct { uint64_t offset, size; } parts[PARTS_MOST];
};

static const VkMemoryPropertyFlags LOCAL = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT,
    HOST = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;

static int memory_type(const struct vk *vk, uint32_t allowed, VkMemoryPropertyFlags wanted)
{
    for (uint32_t i = 0; i < vk->memory.memoryTypeCount; i++)
        if (allowed >> i & 1 && (vk->memory.memoryTypes[i].propertyFlags & wanted) == wanted)
            return (int)i;
    return -1;
}

/* The memory of buffers, where the device has such; -1: none. */
static int type_for(const struct vk *vk, uint32_t allowed, enum memory_use use, bool seen)
{
    int type = memory_type(vk, allowed, (seen ? HOST : 0) | (use == MEMORY_DEVICE ? LOCAL : 0));

    return type < 0 ? memory_type(vk, allowed, seen ? HOST : 0) : type;
}

static VkDeviceSize heap_size(const struct vk *vk, int type)
{
    return type < 0 ? 0 : vk->memory.memoryHeaps[vk->memory.memoryTypes[type].heapIndex].size;
}

/* Some GPUs show a window of their memory, less than all. */
bool heap_is_seen(const struct vk *vk)
{
    int seen = memory_type(vk, UINT32_MAX, LOCAL | HOST);

    return seen >= 0 && heap_size(vk, seen) >= heap_size(vk, memory_type(vk, UINT32_MAX, LOCAL));
}

/* ---- blocks ---- */

static int map(struct vk *vk, struct heap_block *b)
{
    void *mapped;
    int rc = vk_check(vk, vk->f.MapMemory(vk->device, b->memory, 0, VK_WHOLE_SIZE, 0, &mapped),
                      "mapping a buffer");

    b->mapped = rc < 0 ? NULL : mapped;
    return rc;
}

static void free_block(struct vk *vk, struct heap_block *b)
{
    if (b->memory) {
        vk->f.FreeMemory(vk->device, b->memory, NULL);       /* unmaps it, too */
        vk->n_blocks--;
        vk->taken -= b->size;
    }
    mem_free(vk->ctx, b);
}

static int new_block(struct vk *vk, uint64_t size, uint32_t type, bool seen)
{
    VkMemoryAllocateInfo info = { .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
        .allocationSize = size, .memoryTypeIndex = type };
    struct heap_block *b;
    int rc;

    if (vk->n_blocks >= vk->limits.blocks)
        return ebm_fail(vk->ctx, EBM_ERR_NOMEM, "vulkan: the device gives no more than %u allocations",
                        (unsigned)vk->limits.blocks);
    if (!(b = mem_new(vk->ctx, 1, sizeof *b)))
        return EBM_ERR_NOMEM;
    b->size = size;
    b->type = type;
    rc = vk_check(vk, vk->f.AllocateMemory(vk->device, &info, NULL, &b->memory), "memory");
    if (rc < 0)
        b->memory = VK_NULL_HANDLE;
    else {
        vk->n_blocks++;
        vk->taken += size;
        rc = seen ? map(vk, b) : EBM_OK;
    }
    if (rc < 0) {
        free_block(vk, b);
        return rc;
    }
    b->next = vk->blocks;
    vk->blocks = b;
    return EBM_OK;
}

/* ---- parts ---- */

/* The first gap for it; false: there is none. */
static bool find_gap(const struct heap_block *b, const VkMemoryRequirements *need, int *before, uint64_t *offset)
{
    uint64_t at = 0;

    if (b->n == PARTS_MOST)
        return false;
    for (*before = 0; ; ++*before) {
        uint64_t end = *before < b->n ? b->parts[*before].offset : b->size;
        at = (at + need->alignment - 1) / need->alignment * need->alignment;
        if (at + need->size <= end) {
            *offset = at;
            return true;
        }
        if (*before == b->n)
            return false;
        at = b->parts[*before].offset + b->parts[*before].size;
    }
}

static bool take_from(struct heap_block *b, const VkMemoryRequirements *need, struct heap_part *part)
{
    int before;

    if (!find_gap(b, need, &before, &part->offset))
        return false;
    for (int i = b->n++; i > before; i--)
        b->parts[i] = b->parts[i - 1];
    b->parts[before].offset = part->offset;
    b->parts[before].size = part->size = need->size;
    part->block = b;
    return true;
}

int heap_take(struct vk *vk, const VkMemoryRequirements *need, enum memory_use use, struct heap_part *part)
{
    bool seen = use == MEMORY_HOST || vk->shared, large = need->size > LARGE;
    int type = type_for(vk, need->memoryTypeBits, use, seen), rc;

    if (type < 0)
        return ebm_fail(vk->ctx, EBM_ERR_DEVICE, "vulkan: the device has no memory for buffers");
    for (struct heap_block *b = vk->blocks; b && !large; b = b->next)
        if (b->type == (uint32_t)type && !b->mapped == !seen && take_from(b, need, part))
            return EBM_OK;
    if ((rc = new_block(vk, large ? need->size : BLOCK, (uint32_t)type, seen)) >= 0)
        take_from(vk->blocks, need, part);
    return rc;
}

void heap_give(struct vk *vk, struct heap_part *part)
{
    struct heap_block *b = part->block, **at = &vk->blocks;
    int i = 0;

    if (!b)
        return;
    while (b->parts[i].offset != part->offset)
        i++;
    for (b->n--; i < b->n; i++)
        b->parts[i] = b->parts[i + 1];
    part->block = NULL;
    if (b->n)
        return;
    while (*at != b)
        at = &(*at)->next;
    *at = b->next;
    free_block(vk, b);
}

VkDeviceMemory heap_memory(const struct heap_part *part)
{
    return part->block->memory;
}

char *heap_mapped(const struct heap_part *part)
{
    return part->block->mapped ? part->block->mapped + part->offset : NULL;
}

/* ---- what is left ---- */

size_t heap_room(struct vk *vk)
{
    VkPhysicalDeviceMemoryBudgetPropertiesEXT budget = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT };
    VkPhysicalDeviceMemoryProperties2 now = { .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2,
        .pNext = vk->budget ? &budget : NULL };
    uint64_t all, used;
    int type = type_for(vk, UINT32_MAX, MEMORY_DEVICE, vk->shared);
    uint32_t heap = type < 0 ? 0 : vk->memory.memoryTypes[type].heapIndex;

    vk->f.GetPhysicalDeviceMemoryProperties2(vk->physical, &now);
    all = now.memoryProperties.memoryHeaps[heap].size;
    used = vk->taken;
    if (vk->budget) {                    /* others use it, too */
        all = budget.heapBudget[heap];
        used = budget.heapUsage[heap];
    }
    return used >= all ? 0 : all - used < SIZE_MAX ? (size_t)(all - used) : SIZE_MAX;
}
