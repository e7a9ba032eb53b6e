/* vulkan_faults.c - a libvulkan.so.1 whose calls fail when they are told to.
 *
 * SPDX-License-Identifier: ISC
 *
 * It hands every call on to the library that EBM_REAL_VULKAN names, but counts
 * those below.  EBM_VULKAN_FAULT=function:n:result makes the n-th call of this
 * function, and all later ones, return `result` (a VkResult; "-3once": it alone); "drop"
 * for QueueSubmit signals the fence and does nothing, as some drivers do.
 *
 * EBM_VULKAN_GPUS: each device is there twice, and says that it is an integrated GPU.
 *
 * EBM_VULKAN_SET=n: the device has so many storage buffers in a set, though a shader may
 * read more, and no layout has more.
 *
 * EBM_VULKAN_BUDGET=bytes: the device tells by VK_EXT_memory_budget that it has so
 * many left.
 *
 * EBM_VULKAN_LARGEST=bytes: no allocation of memory may be larger.
 *
 * When the device is closed, EBM_VULKAN_COUNTS names a file to which goes how many
 * submissions there were, how many of them at most were in flight, and the bytes of
 * the largest allocation. */
#define VK_NO_PROTOTYPES
#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vulkan/vulkan_core.h>

static struct { char function[40]; long at, calls; int result; bool drop, once, told; } fault;
static PFN_vkGetInstanceProcAddr real_instance;
static PFN_vkGetDeviceProcAddr real_device;

static void read_environment(void)
{
    const char *text = getenv("EBM_VULKAN_FAULT");
    char result[20];

    fault.told = true;
    dlopen("libvulkan.so.1", RTLD_NOW);      /* this one: calls are counted on when it is opened again */
    if (!text || sscanf(text, "%39[^:]:%ld:%19s", fault.function, &fault.at, result) != 3)
        return;
    fault.drop = strcmp(result, "drop") == 0;
    fault.once = strstr(result, "once") != NULL;
    fault.result = atoi(result);
}

static bool fails(const char *function)
{
    return fault.at && strcmp(fault.function, function) == 0 && ++fault.calls >= fault.at
        && (!fault.once || fault.calls == fault.at);
}

#define WRAP(name, parameters, ...) \
    static PFN_vk##name real_##name; \
    static VKAPI_ATTR VkResult VKAPI_CALL name parameters \
    { \
        return fails(#name) ? (VkResult)fault.result : real_##name(__VA_ARGS__); \
    }
WRAP(CreateDevice, (VkPhysicalDevice p, const VkDeviceCreateInfo *i, const VkAllocationCallbacks *a,
                    VkDevice *d), p, i, a, d)
WRAP(CreateBuffer, (VkDevice d, const VkBufferCreateInfo *i, const VkAllocationCallbacks *a,
                    VkBuffer *b), d, i, a, b)
WRAP(MapMemory, (VkDevice d, VkDeviceMemory m, VkDeviceSize o, VkDeviceSize s, VkMemoryMapFlags f,
                 void **p), d, m, o, s, f, p)
WRAP(CreateComputePipelines, (VkDevice d, VkPipelineCache c, uint32_t n,
                              const VkComputePipelineCreateInfo *i, const VkAllocationCallbacks *a,
                              VkPipeline *p), d, c, n, i, a, p)
WRAP(CreateDescriptorPool, (VkDevice d, const VkDescriptorPoolCreateInfo *i,
                            const VkAllocationCallbacks *a, VkDescriptorPool *p), d, i, a, p)
WRAP(AllocateCommandBuffers, (VkDevice d, const VkCommandBufferAllocateInfo *i, VkCommandBuffer *c),
     d, i, c)
WRAP(ResetFences, (VkDevice d, uint32_t n, const VkFence *f), d, n, f)

static struct { long submissions, flying, most; VkDeviceSize largest; } counts;

static PFN_vkAllocateMemory real_AllocateMemory;
static VKAPI_ATTR VkResult VKAPI_CALL AllocateMemory(VkDevice d, const VkMemoryAllocateInfo *i,
                                                     const VkAllocationCallbacks *a, VkDeviceMemory *m)
{
    const char *largest = getenv("EBM_VULKAN_LARGEST");

    if (fails("AllocateMemory"))
        return (VkResult)fault.result;
    if (largest && i->allocationSize > strtoull(largest, NULL, 10))
        return VK_ERROR_OUT_OF_DEVICE_MEMORY;
    counts.largest = i->allocationSize > counts.largest ? i->allocationSize : counts.largest;
    return real_AllocateMemory(d, i, a, m);
}

static PFN_vkWaitForFences real_WaitForFences;
static VKAPI_ATTR VkResult VKAPI_CALL WaitForFences(VkDevice d, uint32_t n, const VkFence *f, VkBool32 all,
                                                    uint64_t t)
{
    counts.flying -= n;
    return fails("WaitForFences") ? (VkResult)fault.result : real_WaitForFences(d, n, f, all, t);
}

static PFN_vkDestroyDevice real_DestroyDevice;
static VKAPI_ATTR void VKAPI_CALL DestroyDevice(VkDevice d, const VkAllocationCallbacks *a)
{
    const char *path = getenv("EBM_VULKAN_COUNTS");
    FILE *file = path ? fopen(path, "w") : NULL;

    if (file) {
        fprintf(file, "submissions %ld\nin flight %ld\nlargest %llu\n", counts.submissions, counts.most,
                (unsigned long long)counts.largest);
        fclose(file);
    }
    real_DestroyDevice(d, a);
}

static PFN_vkEnumerateDeviceExtensionProperties real_EnumerateDeviceExtensionProperties;
static VKAPI_ATTR VkResult VKAPI_CALL EnumerateDeviceExtensionProperties(VkPhysicalDevice p, const char *layer,
                                                                         uint32_t *n, VkExtensionProperties *list)
{
    if (!getenv("EBM_VULKAN_BUDGET"))
        return real_EnumerateDeviceExtensionProperties(p, layer, n, list);
    *n = 1;
    if (list)
        list[0] = (VkExtensionProperties){ VK_EXT_MEMORY_BUDGET_EXTENSION_NAME, 1 };
    return VK_SUCCESS;
}

static PFN_vkEnumeratePhysicalDevices real_EnumeratePhysicalDevices;
static VKAPI_ATTR VkResult VKAPI_CALL EnumeratePhysicalDevices(VkInstance instance, uint32_t *n, VkPhysicalDevice *list)
{
    uint32_t most = *n;
    VkResult result = real_EnumeratePhysicalDevices(instance, n, list);

    for (uint32_t i = 0, all = *n; getenv("EBM_VULKAN_GPUS") && list && i < all && *n < most; i++)
        list[(*n)++] = list[i];
    return result;
}

static PFN_vkGetPhysicalDeviceProperties2 real_GetPhysicalDeviceProperties2;
static VKAPI_ATTR void VKAPI_CALL GetPhysicalDeviceProperties2(VkPhysicalDevice p, VkPhysicalDeviceProperties2 *of)
{
    real_GetPhysicalDeviceProperties2(p, of);
    if (getenv("EBM_VULKAN_GPUS"))
        of->properties.deviceType = VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU;
    if (getenv("EBM_VULKAN_SET"))
        of->properties.limits.maxDescriptorSetStorageBuffers = (uint32_t)strtoul(getenv("EBM_VULKAN_SET"), NULL, 10);
}

static PFN_vkCreateDescriptorSetLayout real_CreateDescriptorSetLayout;
static VKAPI_ATTR VkResult VKAPI_CALL CreateDescriptorSetLayout(VkDevice d, const VkDescriptorSetLayoutCreateInfo *i,
                                                                const VkAllocationCallbacks *a,
                                                                VkDescriptorSetLayout *s)
{
    uint32_t n = 0;

    for (uint32_t b = 0; b < i->bindingCount; b++)
        n += i->pBindings[b].descriptorCount;
    return getenv("EBM_VULKAN_SET") && n > strtoul(getenv("EBM_VULKAN_SET"), NULL, 10)
         ? VK_ERROR_OUT_OF_HOST_MEMORY : real_CreateDescriptorSetLayout(d, i, a, s);
}

static PFN_vkGetPhysicalDeviceMemoryProperties2 real_GetPhysicalDeviceMemoryProperties2;
static VKAPI_ATTR void VKAPI_CALL GetPhysicalDeviceMemoryProperties2(VkPhysicalDevice p,
                                                                     VkPhysicalDeviceMemoryProperties2 *m)
{
    VkPhysicalDeviceMemoryBudgetPropertiesEXT *budget = m->pNext;
    const char *bytes = getenv("EBM_VULKAN_BUDGET");

    m->pNext = bytes ? NULL : budget;        /* the driver may know it, too */
    real_GetPhysicalDeviceMemoryProperties2(p, m);
    m->pNext = budget;
    for (uint32_t i = 0; bytes && budget && i < VK_MAX_MEMORY_HEAPS; i++) {
        budget->heapBudget[i] = strtoull(bytes, NULL, 10);
        budget->heapUsage[i] = 0;
    }
}

static PFN_vkQueueSubmit real_QueueSubmit;
static VKAPI_ATTR VkResult VKAPI_CALL QueueSubmit(VkQueue q, uint32_t n, const VkSubmitInfo *i, VkFence f)
{
    counts.submissions += n;
    counts.flying += n;
    counts.most = counts.flying > counts.most ? counts.flying : counts.most;
    if (!fails("QueueSubmit"))
        return real_QueueSubmit(q, n, i, f);
    return fault.drop ? real_QueueSubmit(q, 0, NULL, f) : (VkResult)fault.result;
}

/* Ours for `name`, with the real one kept; NULL: not one of ours. */
static PFN_vkVoidFunction ours(const char *name, PFN_vkVoidFunction real)
{
#define OURS(function) \
    if (strcmp(name, "vk" #function) == 0) { \
        real_##function = (PFN_vk##function)real; \
        return (PFN_vkVoidFunction)function; \
    }
    OURS(CreateDevice) OURS(CreateBuffer) OURS(AllocateMemory) OURS(MapMemory)
    OURS(CreateComputePipelines) OURS(CreateDescriptorPool) OURS(AllocateCommandBuffers)
    OURS(WaitForFences) OURS(QueueSubmit) OURS(DestroyDevice) OURS(ResetFences)
    OURS(CreateDescriptorSetLayout) OURS(EnumeratePhysicalDevices) OURS(GetPhysicalDeviceProperties2) OURS(EnumerateDeviceExtensionProperties) OURS(GetPhysicalDeviceMemoryProperties2)
    return NULL;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL of_device(VkDevice device, const char *name)
{
    PFN_vkVoidFunction real = real_device(device, name), mine = real ? ours(name, real) : NULL;

    return mine ? mine : real;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL of_instance(VkInstance instance, const char *name)
{
    PFN_vkVoidFunction real = real_instance(instance, name), mine = real ? ours(name, real) : NULL;

    if (real && strcmp(name, "vkGetDeviceProcAddr") == 0) {
        real_device = (PFN_vkGetDeviceProcAddr)real;
        return (PFN_vkVoidFunction)of_device;
    }
    return mine ? mine : real;
}

VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL vkGetInstanceProcAddr(VkInstance instance, const char *name);

VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL vkGetInstanceProcAddr(VkInstance instance, const char *name)
{
    if (!fault.told)
        read_environment();
    if (!real_instance) {
        const char *path = getenv("EBM_REAL_VULKAN");
        void *library = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
        void *symbol = library ? dlsym(library, "vkGetInstanceProcAddr") : NULL;
        memcpy(&real_instance, &symbol, sizeof symbol);
    }
    return real_instance ? of_instance(instance, name) : NULL;
}
