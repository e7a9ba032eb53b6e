/* vk.h - the device as the files of the Vulkan backend see it.
 *
 * SPDX-License-Identifier: ISC
 *
 *   loader.c   libvulkan, opened when it is asked for, and its functions
 *   device.c   which device, its limits, its queue
 *   matrix.c   whether it has cooperative matrices that compute correctly
 *   heap.c     memory of the device, in blocks that small buffers share
 *   memory.c   buffers, what goes in and out of them
 *   pipe.c     shaders and their pipelines
 *   cache.c    pipelines on disk, for the next run
 *   lower.c    a step becomes dispatches; lower_*.c by the class of operation
 *   large.c    steps with operands that are too large, piece by piece
 *   record.c   dispatches become commands
 *   submit.c   commands in submissions, of bounded length
 *   selftest.c a device is believed when it computes correctly
 *   vulkan.c   the backend's table of functions */
#ifndef EBM_VULKAN_VK_H
#define EBM_VULKAN_VK_H

#define VK_NO_PROTOTYPES
#include <vulkan/vulkan_core.h>
#include "backend.h"

/* Functions by the level at which the loader hands them out. */
#define VK_GLOBAL(F) \
    F(EnumerateInstanceVersion) F(CreateInstance)
#define VK_INSTANCE(F) \
    F(DestroyInstance) F(EnumeratePhysicalDevices) F(GetPhysicalDeviceProperties2) \
    F(GetPhysicalDeviceFeatures2) F(GetPhysicalDeviceMemoryProperties2) F(GetPhysicalDeviceQueueFamilyProperties) \
    F(EnumerateDeviceExtensionProperties) F(CreateDevice) F(GetDeviceProcAddr)
#define VK_DEVICE(F) \
    F(DestroyDevice) F(GetDeviceQueue) F(DeviceWaitIdle) \
    F(CreateBuffer) F(DestroyBuffer) F(GetBufferMemoryRequirements) F(AllocateMemory) \
    F(FreeMemory) F(BindBufferMemory) F(MapMemory) \
    F(CreateShaderModule) F(DestroyShaderModule) F(CreateDescriptorSetLayout) \
    F(DestroyDescriptorSetLayout) F(CreatePipelineLayout) F(DestroyPipelineLayout) \
    F(CreatePipelineCache) F(DestroyPipelineCache) F(GetPipelineCacheData) \
    F(CreateComputePipelines) F(DestroyPipeline) \
    F(CreateDescriptorPool) F(DestroyDescriptorPool) F(AllocateDescriptorSets) \
    F(UpdateDescriptorSets) \
    F(CreateCommandPool) F(DestroyCommandPool) F(ResetCommandPool) F(AllocateCommandBuffers) F(FreeCommandBuffers) \
    F(BeginCommandBuffer) F(EndCommandBuffer) F(CmdBindPipeline) F(CmdBindDescriptorSets) \
    F(CmdDispatchBase) F(CmdPipelineBarrier) F(CmdCopyBuffer) F(CmdFillBuffer) \
    F(CreateFence) F(DestroyFence) F(ResetFences) F(WaitForFences) F(QueueSubmit)

struct vk_functions {
#define F(name) PFN_vk##name name;
    VK_GLOBAL(F)
    VK_INSTANCE(F)
    VK_DEVICE(F)
#undef F
};

/* Part of a block of memory. */
struct heap_block;
struct heap_part {
    struct heap_block *block;    /* NULL: none */
    uint64_t offset, size;
};

/* A buffer of the device, or several that follow each other where one may not be as
 * large: byte i lies in pieces[i / piece].  No operand crosses from one to the next. */
struct device_buffer {
    size_t size;             /* as asked for; the last piece has a few bytes more */
    size_t piece;            /* bytes of each but the last */
    int n;
    struct buffer_piece {
        VkBuffer handle;
        struct heap_part part;
        char *mapped;        /* NULL: not seen by the host */
    } *pieces;
};

enum shader {
    SHADER_GROUP_SMALL, SHADER_GROUP_MIDDLE, SHADER_GROUP_LARGE,
    SHADER_GROUP_SMALL_FEW, SHADER_GROUP_MIDDLE_FEW, SHADER_GROUP_LARGE_FEW, SHADER_RANDOM,
    SHADER_MOVE, SHADER_REDUCE, SHADER_WINDOW, SHADER_RESAMPLE, SHADER_INDEX, SHADER_GEMM,
    SHADER_GEMM_SMALL, SHADER_GEMM_MIDDLE,
    SHADER_WINOGRAD, SHADER_WINOGRAD_SMALL, SHADER_WINOGRAD_MIDDLE,
    SHADER_REDUCE_SMALL, SHADER_REDUCE_MIDDLE,
    SHADER_MATRIX, SHADER_MATRIX_SMALL, SHADER_MATRIX_MIDDLE,    /* only with vk->matrix */
    SHADER_COUNT
};
struct shader_state {
    VkShaderModule module;
    VkDescriptorSetLayout set;
    VkPipelineLayout layout;
};
struct pipeline;             /* of pipe.c */

struct vk {
    struct ebm_backend base; /* first: a backend is one of these */
    ebm_context *ctx;
    void *library;
    struct vk_functions f;
    VkInstance instance;
    uint64_t tried;          /* devices, by number, when the best is looked for */
    VkPhysicalDevice physical;
    VkDevice device;
    VkQueue queue;
    uint32_t family;
    VkCommandPool commands;
    VkFence fence;           /* of transfers */
    VkCommandPool transfers;
    VkCommandBuffer transfer;
    struct heap_block *blocks;
    uint32_t n_blocks;
    uint64_t taken;          /* bytes of all blocks */
    VkPhysicalDeviceMemoryProperties memory;
    struct vk_limits {
        size_t offset_align; /* of a descriptor */
        size_t operand;      /* bytes that a descriptor sees from any offset */
        size_t piece;        /* bytes of a buffer */
        uint32_t blocks;     /* allocations of memory */
        uint32_t groups;     /* workgroups along an axis */
        uint32_t buffers;    /* descriptors of a dispatch */
        double work;         /* operations of a submission, see submit.c */
    } limits;
    bool pretends;           /* to these limits */
    struct winograd_rules {
        double share;        /* it is taken where it is less of the definition's work; 0: never */
        size_t block;        /* bytes of transforms at once */
    } winograd;
    struct matrices {        /* cooperative ones, of float16 into float32; see gemm_matrix.comp */
        uint32_t m, n, k;    /* their sizes; 0: none */
        uint32_t down, across;           /* of a tile's, those of a subgroup */
        bool tried;
    } matrix;
    bool budget;             /* VK_EXT_memory_budget is there */
    bool shared;             /* the host sees the device's memory: no staging */
    bool lost;
    struct device_buffer *staging;
    struct shader_state shader[SHADER_COUNT];
    VkPipelineCache cache;
    uint8_t uuid[VK_UUID_SIZE];          /* of the device and driver, for caches */
    size_t cached;           /* bytes that the cache began with */
    struct pipeline *pipelines;
    size_t n_pipelines, pipelines_capacity;
};

/* The status and message of a failed call; EBM_OK if it did not fail. */
int vk_check(struct vk *vk, VkResult result, const char *what);

/* Nothing more is submitted; what may still run is waited for, as its memory is
 * about to be freed. */
void vk_lose(struct vk *vk);

/* loader.c */
int loader_open(struct vk *vk);
int loader_device(struct vk *vk);
void loader_close(struct vk *vk);
/* A function of an extension, or NULL. */
PFN_vkVoidFunction loader_find(struct vk *vk, const char *name);

/* device.c; device: a number, or NULL for the best that is no processor. */
int device_open(struct vk *vk, const char *device);
int device_count(struct vk *vk);         /* or a status; 0 and a message: none */
void device_close(struct vk *vk);
/* Extensions are used where they are, so a failure means no. */
int device_has(struct vk *vk, const char *extension, bool *has);

/* matrix.c.  matrix_find() sets vk->matrix, matrix_open() opens the device with what
 * they need, matrix_check() tries them, once, and forgets them if they compute wrongly. */
enum { MATRIX_TILE = 64 };               /* a workgroup's, in rows and columns */
int matrix_find(struct vk *vk, const VkPhysicalDeviceProperties *p);
VkResult matrix_open(struct vk *vk, VkDeviceCreateInfo *info);
int matrix_check(struct vk *vk);

/* heap.c.  Where the host sees the memory, it is mapped. */
enum memory_use { MEMORY_DEVICE, MEMORY_HOST };
int heap_take(struct vk *vk, const VkMemoryRequirements *need, enum memory_use use, struct heap_part *part);
void heap_give(struct vk *vk, struct heap_part *part);
VkDeviceMemory heap_memory(const struct heap_part *part);
char *heap_mapped(const struct heap_part *part);     /* or NULL */
/* Does the host see all of the device's memory? */
bool heap_is_seen(const struct vk *vk);
/* Bytes that the device has left for buffers. */
size_t heap_room(struct vk *vk);

/* memory.c.  Buffers are zeroed. */
int memory_new(struct vk *vk, size_t size, enum memory_use use, struct device_buffer **buffer);
void memory_free(struct vk *vk, struct device_buffer *buffer);
int memory_write(struct vk *vk, struct device_buffer *to, size_t offset, const void *from, size_t size);
int memory_read(struct vk *vk, struct device_buffer *from, size_t offset, void *to, size_t size);
int memory_open(struct vk *vk);
void memory_close(struct vk *vk);

/* pipe.c.  Constants are 32-bit words by their constant_id; floats by their bits. */
enum { CONSTANTS_MAX = 12 + 38 + 2 * EW_MAX_INSTRS };
int pipe_get(struct vk *vk, enum shader shader, int n, const uint32_t *constants, VkPipeline *pipeline);
/* Operands of a shader, and descriptors for them, BUFFERS of its source. */
enum { BUFFERS_MAX = 24 };
int shader_operands(enum shader shader);
int shader_buffers(enum shader shader);
const char *shader_name(enum shader shader);
int shader_load(struct vk *vk, enum shader shader);
int pipe_open(struct vk *vk);
void pipe_close(struct vk *vk);

/* cache.c.  data points into file, which is for mem_free(); all NULL: nothing kept. */
void cache_load(struct vk *vk, char **file, const void **data, size_t *size);
void cache_save(struct vk *vk);

/* selftest.c */
int selftest(struct vk *vk);

#endif
