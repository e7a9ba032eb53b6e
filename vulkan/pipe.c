/* pipe.c - shaders, and their pipelines by constants.
 *
 * SPDX-License-Identifier: ISC
 *
 * All shaders see their operands alike (shaders/memory.glsl), so a layout is a
 * number of buffers.  A pipeline is a shader with its specialization constants;
 * each is made once for the life of the backend and found again by them. */
#include "config.h"
#include <string.h>
#include "vk.h"

static const uint32_t group_small[] = {
#include "shaders/group_small.inc"
};
static const uint32_t group_middle[] = {
#include "shaders/group_middle.inc"
};
static const uint32_t group_large[] = {
#include "shaders/group_large.inc"
};
static const uint32_t group_small_few[] = {
#include "shaders/group_small_few.inc"
};
static const uint32_t group_middle_few[] = {
#include "shaders/group_middle_few.inc"
};
static const uint32_t group_large_few[] = {
#include "shaders/group_large_few.inc"
};
static const uint32_t random_words[] = {
#include "shaders/random.inc"
};
static const uint32_t move_words[] = {
#include "shaders/move.inc"
};
static const uint32_t reduce_words[] = {
#include "shaders/reduce.inc"
};
static const uint32_t window_words[] = {
#include "shaders/window.inc"
};
static const uint32_t resample_words[] = {
#include "shaders/resample.inc"
};
static const uint32_t index_words[] = {
#include "shaders/index.inc"
};
static const uint32_t gemm_words[] = {
#include "shaders/gemm.inc"
};
static const uint32_t gemm_small[] = {
#include "shaders/gemm_small.inc"
};
static const uint32_t gemm_middle[] = {
#include "shaders/gemm_middle.inc"
};
static const uint32_t reduce_small[] = {
#include "shaders/reduce_small.inc"
};
static const uint32_t reduce_middle[] = {
#include "shaders/reduce_middle.inc"
};
static const uint32_t winograd_words[] = {
#include "shaders/winograd.inc"
};
static const uint32_t winograd_small[] = {
#include "shaders/winograd_small.inc"
};
static const uint32_t winograd_middle[] = {
#include "shaders/winograd_middle.inc"
};

#ifdef HAVE_COOPERATIVE_MATRIX
static const uint32_t matrix_words[] = {
#include "shaders/gemm_matrix.inc"
};
static const uint32_t matrix_small[] = {
#include "shaders/gemm_matrix_small.inc"
};
static const uint32_t matrix_middle[] = {
#include "shaders/gemm_matrix_middle.inc"
};
#endif

static const struct {
    const char *name;
    const uint32_t *words;
    size_t size;
    int operands, buffers;
} table[SHADER_COUNT] = {
    [SHADER_GROUP_SMALL] = { "group (small)", group_small, sizeof group_small, 8, 8 },
    [SHADER_GROUP_MIDDLE] = { "group (middle)", group_middle, sizeof group_middle, 16, 16 },
    [SHADER_GROUP_LARGE] = { "group (large)", group_large, sizeof group_large, 25 + 12, BUFFERS_MAX },
    [SHADER_GROUP_SMALL_FEW] = { "group (small, few)", group_small_few, sizeof group_small_few, 8, 3 },
    [SHADER_GROUP_MIDDLE_FEW] = { "group (middle, few)", group_middle_few, sizeof group_middle_few, 16, 3 },
    [SHADER_GROUP_LARGE_FEW] = { "group (large, few)", group_large_few, sizeof group_large_few, 25 + 12, 3 },
    [SHADER_RANDOM] = { "random", random_words, sizeof random_words, 3, 3 },
    [SHADER_MOVE] = { "move", move_words, sizeof move_words, 3, 3 },
    [SHADER_REDUCE] = { "reduce", reduce_words, sizeof reduce_words, 3, 3 },
    [SHADER_WINDOW] = { "window", window_words, sizeof window_words, 3, 3 },
    [SHADER_RESAMPLE] = { "resample", resample_words, sizeof resample_words, 3, 3 },
    [SHADER_INDEX] = { "index", index_words, sizeof index_words, 3, 3 },
    [SHADER_GEMM] = { "gemm", gemm_words, sizeof gemm_words, 3, 3 },
    [SHADER_GEMM_SMALL] = { "gemm (small epilogue)", gemm_small, sizeof gemm_small, 3 + 8, 3 + 8 },
    [SHADER_GEMM_MIDDLE] = { "gemm (middle epilogue)", gemm_middle, sizeof gemm_middle, 3 + 16, 3 + 16 },
    [SHADER_WINOGRAD] = { "winograd", winograd_words, sizeof winograd_words, 3, 3 },
    [SHADER_WINOGRAD_SMALL] = { "winograd (small epilogue)", winograd_small, sizeof winograd_small, 3 + 8, 3 + 8 },
    [SHADER_REDUCE_SMALL] = { "reduce (small epilogue)", reduce_small, sizeof reduce_small, 3 + 8, 3 + 8 },
    [SHADER_REDUCE_MIDDLE] = { "reduce (middle epilogue)", reduce_middle, sizeof reduce_middle, 3 + 16, 3 + 16 },
    [SHADER_WINOGRAD_MIDDLE] = { "winograd (middle epilogue)", winograd_middle, sizeof winograd_middle, 3 + 16, 3 + 16 },
#ifdef HAVE_COOPERATIVE_MATRIX
    [SHADER_MATRIX] = { "gemm of matrices", matrix_words, sizeof matrix_words, 3, 3 },
    [SHADER_MATRIX_SMALL] = { "gemm of matrices (small epilogue)", matrix_small, sizeof matrix_small, 3 + 8, 3 + 8 },
    [SHADER_MATRIX_MIDDLE] = { "gemm of matrices (middle epilogue)", matrix_middle, sizeof matrix_middle, 3 + 16, 3 + 16 },
#endif
};

struct pipeline {
    VkPipeline handle;
    uint32_t hash;
    enum shader shader;
    int n;
    uint32_t *constants;
};

int shader_operands(enum shader shader)
{
    return table[shader].operands;
}

int shader_buffers(enum shader shader)
{
    return table[shader].buffers;
}

const char *shader_name(enum shader shader)
{
    return table[shader].name;
}

static int new_layouts(struct vk *vk, struct shader_state *s, int buffers)
{
    VkDescriptorSetLayoutBinding bindings[2] = {
        { 0, VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, 1, VK_SHADER_STAGE_COMPUTE_BIT, NULL },
        { 1, VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, (uint32_t)buffers, VK_SHADER_STAGE_COMPUTE_BIT, NULL } };
    VkDescriptorSetLayoutCreateInfo set = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
        .bindingCount = 2, .pBindings = bindings };
    VkPipelineLayoutCreateInfo layout = { .sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
        .setLayoutCount = 1, .pSetLayouts = &s->set };
    int rc = vk_check(vk, vk->f.CreateDescriptorSetLayout(vk->device, &set, NULL, &s->set), "a layout");

    if (rc < 0)
        return rc;
    return vk_check(vk, vk->f.CreatePipelineLayout(vk->device, &layout, NULL, &s->layout), "a layout");
}

/* Modules and layouts are made when a shader is first needed. */
int shader_load(struct vk *vk, enum shader shader)
{
    struct shader_state *s = &vk->shader[shader];
    VkShaderModuleCreateInfo module = { .sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
        .codeSize = table[shader].size, .pCode = table[shader].words };
    int rc;

    if (s->module)
        return EBM_OK;
    if ((uint32_t)table[shader].buffers + 1 > vk->limits.buffers)
        return ebm_fail(vk->ctx, EBM_ERR_DEVICE, "vulkan: the device binds %u buffers at once, %s "
                        "needs %d", (unsigned)vk->limits.buffers, table[shader].name,
                        table[shader].buffers + 1);
    if (!s->layout && (rc = new_layouts(vk, s, table[shader].buffers)) < 0)
        return rc;
    return vk_check(vk, vk->f.CreateShaderModule(vk->device, &module, NULL, &s->module), "a shader");
}

/* FNV-1a over words. */
static uint32_t hash_of(enum shader shader, int n, const uint32_t *constants)
{
    uint32_t h = 2166136261u ^ (uint32_t)shader;

    for (int i = 0; i < n; i++)
        h = (h ^ constants[i]) * 16777619u;
    return h;
}

static int build(struct vk *vk, enum shader shader, int n, const uint32_t *constants, VkPipeline *pipeline)
{
    VkSpecializationMapEntry entries[CONSTANTS_MAX];
    VkSpecializationInfo special = { (uint32_t)n, entries, (size_t)n * sizeof *constants, constants };
    VkComputePipelineCreateInfo info = { .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .flags = VK_PIPELINE_CREATE_DISPATCH_BASE_BIT };     /* submit.c cuts dispatches */
    int rc = shader_load(vk, shader);

    if (rc < 0)
        return rc;
    for (int i = 0; i < n; i++)
        entries[i] = (VkSpecializationMapEntry){ (uint32_t)i, 4 * (uint32_t)i, 4 };
    info.layout = vk->shader[shader].layout;
    info.stage = (VkPipelineShaderStageCreateInfo){
        .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
        .stage = VK_SHADER_STAGE_COMPUTE_BIT, .module = vk->shader[shader].module,
        .pName = "main", .pSpecializationInfo = &special };
    return vk_check(vk, vk->f.CreateComputePipelines(vk->device, vk->cache, 1, &info, NULL, pipeline),
                    table[shader].name);
}

static int remember(struct vk *vk, const struct pipeline *p)
{
    if (vk->n_pipelines == vk->pipelines_capacity) {
        size_t capacity = vk->pipelines_capacity ? 2 * vk->pipelines_capacity : 64;
        struct pipeline *grown = mem_grow(vk->ctx, vk->pipelines, vk->n_pipelines, capacity, sizeof *grown);
        if (!grown)
            return EBM_ERR_NOMEM;
        vk->pipelines = grown;
        vk->pipelines_capacity = capacity;
    }
    vk->pipelines[vk->n_pipelines++] = *p;
    return EBM_OK;
}

int pipe_get(struct vk *vk, enum shader shader, int n, const uint32_t *constants, VkPipeline *pipeline)
{
    struct pipeline p = { .hash = hash_of(shader, n, constants), .shader = shader, .n = n };
    int rc;

    for (size_t i = 0; i < vk->n_pipelines; i++) {
        const struct pipeline *q = &vk->pipelines[i];
        if (q->hash == p.hash && q->shader == shader && q->n == n
            && memcmp(q->constants, constants, (size_t)n * sizeof *constants) == 0) {
            *pipeline = q->handle;
            return EBM_OK;
        }
    }
    if (!(p.constants = mem_new(vk->ctx, (size_t)n + 1, sizeof *p.constants)))
        return EBM_ERR_NOMEM;
    memcpy(p.constants, constants, (size_t)n * sizeof *constants);
    if ((rc = build(vk, shader, n, constants, &p.handle)) < 0 || (rc = remember(vk, &p)) < 0) {
        if (p.handle)
            vk->f.DestroyPipeline(vk->device, p.handle, NULL);
        mem_free(vk->ctx, p.constants);
        return rc;
    }
    *pipeline = p.handle;
    return EBM_OK;
}

int pipe_open(struct vk *vk)
{
    VkPipelineCacheCreateInfo info = { .sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO };
    char *file;
    VkResult result;

    cache_load(vk, &file, &info.pInitialData, &info.initialDataSize);
    result = vk->f.CreatePipelineCache(vk->device, &info, NULL, &vk->cache);
    mem_free(vk->ctx, file);
    return vk_check(vk, result, "a pipeline cache");
}

void pipe_close(struct vk *vk)
{
    for (size_t i = 0; i < vk->n_pipelines; i++) {
        vk->f.DestroyPipeline(vk->device, vk->pipelines[i].handle, NULL);
        mem_free(vk->ctx, vk->pipelines[i].constants);
    }
    mem_free(vk->ctx, vk->pipelines);
    for (int i = 0; i < SHADER_COUNT; i++) {
        struct shader_state *s = &vk->shader[i];
        if (s->module)
            vk->f.DestroyShaderModule(vk->device, s->module, NULL);
        if (s->layout)
            vk->f.DestroyPipelineLayout(vk->device, s->layout, NULL);
        if (s->set)
            vk->f.DestroyDescriptorSetLayout(vk->device, s->set, NULL);
    }
    if (vk->cache) {
        cache_save(vk);
        vk->f.DestroyPipelineCache(vk->device, vk->cache, NULL);
    }
}
