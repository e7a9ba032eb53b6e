/* device.c - which device computes, and within which limits.
 *
 * SPDX-License-Identifier: ISC
 *
 * Without a number the best is taken: discrete, then integrated, then virtual;
 * never a processor that plays a GPU, which is opened by its number alone.
 *
 * EBM_VULKAN_LIMITS=minimum makes any device pretend to what the specification
 * guarantees, and to memory that the host does not see, so that tests on one
 * device go the ways of others; tiny, to buffers of a few kilobytes besides, so that
 * small tests go the ways of large operands. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "vk.h"

enum { DEVICES_MAX = 64, FAMILIES_MAX = 32 };
enum { TINY_PIECE = 1 << 16, TINY_RANGE = 1 << 14 };
/* Buffers of so much take no more memory than they have, whatever pages a driver deals in. */
enum { PIECE_ALIGN = 1 << 16 };

void vk_lose(struct vk *vk)
{
    vk->lost = true;
    vk->f.DeviceWaitIdle(vk->device);
}

int vk_check(struct vk *vk, VkResult result, const char *what)
{
    switch (result) {
    case VK_SUCCESS:
        return EBM_OK;
    case VK_ERROR_OUT_OF_HOST_MEMORY:
        return ebm_fail(vk->ctx, EBM_ERR_NOMEM, "vulkan: %s: the host has no memory left", what);
    case VK_ERROR_OUT_OF_DEVICE_MEMORY:
        return ebm_fail(vk->ctx, EBM_ERR_NOMEM, "vulkan: %s: the device has no memory left; "
                        "try a smaller batch", what);
    case VK_ERROR_DEVICE_LOST:
        if (vk->device && vk->f.DeviceWaitIdle)
            vk_lose(vk);
        return ebm_fail(vk->ctx, EBM_ERR_DEVICE, "vulkan: %s: the device was lost", what);
    case VK_ERROR_INCOMPATIBLE_DRIVER:
        return ebm_fail(vk->ctx, EBM_ERR_DEVICE, "vulkan: %s: there is no driver", what);
    default:
        return ebm_fail(vk->ctx, EBM_ERR_DEVICE, "vulkan: %s: error %d", what, (int)result);
    }
}

static int rank_of(VkPhysicalDeviceType type)
{
    return type == VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU ? 3
         : type == VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU ? 2
         : type == VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU ? 1 : 0;
}

static VkPhysicalDeviceProperties properties_of(struct vk *vk, VkPhysicalDevice device,
                                                VkPhysicalDeviceMaintenance3Properties *more)
{
    VkPhysicalDeviceProperties2 p = { .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2 };

    more->sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES;
    more->pNext = NULL;
    p.pNext = more;
    vk->f.GetPhysicalDeviceProperties2(device, &p);
    return p.properties;
}

static int enumerate(struct vk *vk, VkPhysicalDevice list[DEVICES_MAX], uint32_t *count)
{
    VkResult result;

    *count = DEVICES_MAX;
    result = vk->f.EnumeratePhysicalDevices(vk->instance, count, list);
    return result == VK_INCOMPLETE ? EBM_OK : vk_check(vk, result, "listing devices");
}

int device_count(struct vk *vk)
{
    VkPhysicalDevice list[DEVICES_MAX];
    uint32_t count;
    int rc = enumerate(vk, list, &count);

    if (rc < 0)
        return rc;
    if (!count)
        ebm_fail(vk->ctx, EBM_ERR_DEVICE, "vulkan: no device");
    return (int)count;
}

/* The device with this number, or the best that was not tried. */
static int choose(struct vk *vk, const char *device)
{
    VkPhysicalDevice list[DEVICES_MAX];
    VkPhysicalDeviceMaintenance3Properties more;
    uint32_t count, number = 0;
    int best = 0, rc = enumerate(vk, list, &count);

    if (rc < 0)
        return rc;
    if (device) {
        char *end;
        long n = strtol(device, &end, 10);
        if (end == device || *end || n < 0)
            return ebm_fail(vk->ctx, EBM_ERR_ARG, "'vulkan:%s': a device is a number", device);
        if (n >= (long)count)
            return ebm_fail(vk->ctx, EBM_ERR_DEVICE, "vulkan: there is no device %ld, but %u",
                            n, (unsigned)count);
        vk->physical = list[n];
        return EBM_OK;
    }
    for (uint32_t i = 0; i < count; i++) {
        int rank = rank_of(properties_of(vk, list[i], &more).deviceType);
        if (rank > best && !(vk->tried >> i & 1)) {
            best = rank;
            number = i;
        }
    }
    if (!best)
        return ebm_fail(vk->ctx, EBM_ERR_DEVICE, count ? "vulkan: no GPU, only a processor that plays "
                        "one (vulkan:0 names it)" : "vulkan: no device");
    vk->tried |= UINT64_C(1) << number;
    vk->physical = list[number];
    return EBM_OK;
}

static int find_queue(struct vk *vk)
{
    VkQueueFamilyProperties families[FAMILIES_MAX];
    uint32_t count;

    vk->f.GetPhysicalDeviceQueueFamilyProperties(vk->physical, &count, NULL);
    count = count < FAMILIES_MAX ? count : FAMILIES_MAX;
    vk->f.GetPhysicalDeviceQueueFamilyProperties(vk->physical, &count, families);
    for (uint32_t i = 0; i < count; i++)
        if (families[i].queueFlags & VK_QUEUE_COMPUTE_BIT) {
            vk->family = i;
            return EBM_OK;
        }
    return ebm_fail(vk->ctx, EBM_ERR_DEVICE, "vulkan: the device does not compute");
}

/* Operations in 50 ms on a slow device of its kind. */
static double work_of(VkPhysicalDeviceType type)
{
    return type == VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU ? 5e10
         : type == VK_PHYSICAL_DEVICE_TYPE_CPU ? 5e8 : 5e9;
}

/* Gains below a tenth are not worth any error.  Blocks as large as second caches, but
 * enough to keep a GPU busy. */
static const struct winograd_rules winograd_rules = { 0.9, 1 << 25 };

/* So little that the smallest training takes several submissions. */
static const double LITTLE_WORK = 1 << 15;

/* What the specification guarantees, and memory that the host does not see. */
static void pretend(struct vk *vk, size_t piece, size_t range)
{
    vk->limits = (struct vk_limits){ .offset_align = 256, .operand = range - 256, .piece = piece,
        .blocks = 4096, .groups = 65535, .buffers = 4, .work = LITTLE_WORK };
    vk->shared = false;
    vk->pretends = true;
}

/* Descriptors of storage buffers that a compute shader may have; all are in one set. */
static uint32_t buffers_of(const VkPhysicalDeviceLimits *l)
{
    const uint32_t most[] = { l->maxPerStageDescriptorStorageBuffers, l->maxDescriptorSetStorageBuffers,
                              l->maxPerStageResources };
    uint32_t least = most[0];

    for (size_t i = 1; i < COUNT(most); i++)
        least = most[i] < least ? most[i] : least;
    return least;
}

static void set_limits(struct vk *vk, const VkPhysicalDeviceProperties *p, uint64_t allocation)
{
    const char *pretended = getenv("EBM_VULKAN_LIMITS");
    VkPhysicalDeviceMemoryProperties2 memory = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2 };
    size_t align = (size_t)p->limits.minStorageBufferOffsetAlignment;
    uint64_t range = (p->limits.maxStorageBufferRange < INT32_MAX ? p->limits.maxStorageBufferRange : INT32_MAX) / 4 * 4;
    uint32_t across = p->limits.maxComputeWorkGroupCount[0], down = p->limits.maxComputeWorkGroupCount[1];

    align = align > 4 ? align : 4;
    vk->limits = (struct vk_limits){
        .offset_align = align, .operand = (size_t)range - align,
        .piece = (size_t)(allocation < SIZE_MAX / 4 ? allocation : SIZE_MAX / 4) / PIECE_ALIGN * PIECE_ALIGN,
        .blocks = p->limits.maxMemoryAllocationCount, .groups = across < down ? across : down,
        .buffers = buffers_of(&p->limits), .work = work_of(p->deviceType) };
    vk->f.GetPhysicalDeviceMemoryProperties2(vk->physical, &memory);
    vk->memory = memory.memoryProperties;
    /* A discrete GPU may show all its memory too, but reading it is slow. */
    vk->shared = p->deviceType != VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU && heap_is_seen(vk);
    if (pretended && strcmp(pretended, "minimum") == 0)
        pretend(vk, 1 << 27, 1 << 27);
    if (pretended && strcmp(pretended, "tiny") == 0)
        pretend(vk, TINY_PIECE, TINY_RANGE);
}

int device_has(struct vk *vk, const char *extension, bool *has)
{
    VkExtensionProperties *list;
    uint32_t n = 0;

    *has = false;
    if (vk->f.EnumerateDeviceExtensionProperties(vk->physical, NULL, &n, NULL) != VK_SUCCESS || n == 0)
        return EBM_OK;
    if (!(list = mem_new(vk->ctx, n, sizeof *list)))
        return EBM_ERR_NOMEM;
    if (vk->f.EnumerateDeviceExtensionProperties(vk->physical, NULL, &n, list) == VK_SUCCESS)
        for (uint32_t i = 0; i < n; i++)
            *has = *has || strcmp(list[i].extensionName, extension) == 0;
    mem_free(vk->ctx, list);
    return EBM_OK;
}

static int new_device(struct vk *vk)
{
    float priority = 1;
    VkDeviceQueueCreateInfo queue = { .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
        .queueFamilyIndex = vk->family, .queueCount = 1, .pQueuePriorities = &priority };
    VkDeviceCreateInfo info = { .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
        .queueCreateInfoCount = 1, .pQueueCreateInfos = &queue };
    VkCommandPoolCreateInfo pool = { .sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
        .queueFamilyIndex = vk->family };
    int rc;

    if ((rc = vk_check(vk, matrix_open(vk, &info), "opening the device")) < 0
        || (rc = loader_device(vk)) < 0)
        return rc;
    vk->f.GetDeviceQueue(vk->device, vk->family, 0, &vk->queue);
    if ((rc = vk_check(vk, vk->f.CreateCommandPool(vk->device, &pool, NULL, &vk->commands),
                       "a command pool")) < 0)
        return rc;
    pool.flags = VK_COMMAND_POOL_CREATE_TRANSIENT_BIT;
    return vk_check(vk, vk->f.CreateCommandPool(vk->device, &pool, NULL, &vk->transfers), "a command pool");
}

int device_open(struct vk *vk, const char *device)
{
    VkPhysicalDeviceMaintenance3Properties more;
    char matrices[60] = "";
    int rc;

    if ((rc = choose(vk, device)) < 0 || (rc = find_queue(vk)) < 0)
        return rc;
    VkPhysicalDeviceProperties p = properties_of(vk, vk->physical, &more);
    if (p.apiVersion < VK_API_VERSION_1_1)
        return ebm_fail(vk->ctx, EBM_ERR_DEVICE, "vulkan: %s has no Vulkan 1.1", p.deviceName);
    if ((rc = device_has(vk, VK_EXT_MEMORY_BUDGET_EXTENSION_NAME, &vk->budget)) < 0)
        return rc;
    set_limits(vk, &p, more.maxMemoryAllocationSize);
    if ((rc = matrix_find(vk, &p)) < 0)
        return rc;
    vk->winograd = winograd_rules;
    if (exact_wanted())
        vk->winograd.share = 0;
    vk->base.piece = vk->limits.piece;
    memcpy(vk->uuid, p.pipelineCacheUUID, sizeof vk->uuid);
    if ((rc = new_device(vk)) < 0)
        return rc;
    if (vk->matrix.m)
        snprintf(matrices, sizeof matrices, ", matrices of %ux%ux%u for bf16", (unsigned)vk->matrix.m,
                 (unsigned)vk->matrix.n, (unsigned)vk->matrix.k);
    snprintf(vk->base.description, sizeof vk->base.description, "vulkan: %.100s, Vulkan %u.%u%s%s",
             p.deviceName, (unsigned)VK_API_VERSION_MAJOR(p.apiVersion),
             (unsigned)VK_API_VERSION_MINOR(p.apiVersion), vk->shared ? ", shared memory" : "", matrices);
    return EBM_OK;
}

void device_close(struct vk *vk)
{
    if (!vk->device)
        return;
    if (vk->commands)
        vk->f.DestroyCommandPool(vk->device, vk->commands, NULL);
    if (vk->transfers)
        vk->f.DestroyCommandPool(vk->device, vk->transfers, NULL);
    if (vk->f.DestroyDevice)
        vk->f.DestroyDevice(vk->device, NULL);
}
