/* matrix.c - cooperative matrices: has the device such as gemm_matrix.comp uses, and do
 * they compute correctly?
 *
 * SPDX-License-Identifier: ISC
 *
 * VK_KHR_cooperative_matrix: the subgroups of a workgroup multiply matrices of float16
 * and add in float32, several times as fast as invocations do.  Only precision bf16
 * uses them, so no other run meets a driver's faults: the trial is before the first plan
 * of bf16.  Where the compiler of shaders, the headers, the device or the trial say no,
 * products are done without. */
#include "config.h"
#include <math.h>
#include <string.h>
#include "lower.h"

#ifdef HAVE_COOPERATIVE_MATRIX

enum { INVOCATIONS = 128, DEPTH = 32 };  /* of a workgroup; of a panel; as in gemm_matrix.comp */
enum { KINDS_MAX = 64 };
/* Shared memory with matrices of 16 rows; matrices have no more. */
enum { SHARED = 16 << 10, ROWS_MOST = 16 };

static const char *const extensions[] = {
    VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME, VK_KHR_VULKAN_MEMORY_MODEL_EXTENSION_NAME,
    VK_KHR_SHADER_FLOAT16_INT8_EXTENSION_NAME,
};

/* What those three extensions add to a device; chained. */
struct features {
    VkPhysicalDeviceCooperativeMatrixFeaturesKHR matrix;
    VkPhysicalDeviceVulkanMemoryModelFeatures model;
    VkPhysicalDeviceShaderFloat16Int8Features half;
};

static void chain(struct features *f)
{
    memset(f, 0, sizeof *f);
    f->matrix.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR;
    f->matrix.pNext = &f->model;
    f->model.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_MEMORY_MODEL_FEATURES;
    f->model.pNext = &f->half;
    f->half.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_FLOAT16_INT8_FEATURES;
}

static int has_features(struct vk *vk, bool *has)
{
    struct features f;
    VkPhysicalDeviceFeatures2 all = { .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, .pNext = &f };
    int rc = EBM_OK;

    *has = true;
    for (size_t i = 0; i < COUNT(extensions) && *has && rc >= 0; i++)
        rc = device_has(vk, extensions[i], has);
    if (rc < 0 || !*has)
        return rc;
    chain(&f);
    vk->f.GetPhysicalDeviceFeatures2(vk->physical, &all);
    *has = f.matrix.cooperativeMatrix && f.half.shaderFloat16
        && f.model.vulkanMemoryModel && f.model.vulkanMemoryModelDeviceScope;    /* of atomics */
    return EBM_OK;
}

/* Subgroups of a workgroup, if they can find the largest of their numbers; else 0. */
static uint32_t subgroups_of(struct vk *vk)
{
    VkPhysicalDeviceSubgroupProperties s = { .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES };
    VkPhysicalDeviceProperties2 p = { .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &s };

    vk->f.GetPhysicalDeviceProperties2(vk->physical, &p);
    return s.supportedOperations & VK_SUBGROUP_FEATURE_ARITHMETIC_BIT
        && s.supportedStages & VK_SHADER_STAGE_COMPUTE_BIT
        && s.subgroupSize && INVOCATIONS % s.subgroupSize == 0 ? INVOCATIONS / s.subgroupSize : 0;
}

/* Matrices of one subgroup, in a rectangle that is as square as can be: a matrix that
 * is loaded is used as often.  False: the tile is not theirs to share. */
static bool share(uint32_t subgroups, struct matrices *x)
{
    uint32_t down = MATRIX_TILE / x->m, across = MATRIX_TILE / x->n, each = down * across / subgroups;

    x->down = 0;
    for (uint32_t i = 1; i <= each && each * subgroups == down * across; i++)
        if (each % i == 0 && down % i == 0 && across % (each / i) == 0
            && (!x->down || i + each / i < x->down + x->across)) {
            x->down = i;
            x->across = each / i;
        }
    return x->down > 0;
}

static bool suits(const VkCooperativeMatrixPropertiesKHR *v)
{
    return v->scope == VK_SCOPE_SUBGROUP_KHR && !v->saturatingAccumulation
        && v->AType == VK_COMPONENT_TYPE_FLOAT16_KHR && v->BType == VK_COMPONENT_TYPE_FLOAT16_KHR
        && v->CType == VK_COMPONENT_TYPE_FLOAT32_KHR && v->ResultType == VK_COMPONENT_TYPE_FLOAT32_KHR
        && v->MSize && v->NSize && v->KSize && v->MSize <= ROWS_MOST
        && MATRIX_TILE % v->MSize == 0 && MATRIX_TILE % v->NSize == 0 && DEPTH % v->KSize == 0;
}

int matrix_find(struct vk *vk, const VkPhysicalDeviceProperties *p)
{
    PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR list = (PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR)
        loader_find(vk, "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR");
    VkCooperativeMatrixPropertiesKHR kinds[KINDS_MAX];
    uint32_t n = KINDS_MAX, subgroups, best = 0;
    bool has;
    int rc = has_features(vk, &has);

    if (rc < 0 || !has || !list || vk->pretends || p->limits.maxComputeSharedMemorySize < SHARED
        || !(subgroups = subgroups_of(vk)))
        return rc;
    memset(kinds, 0, sizeof kinds);
    for (uint32_t i = 0; i < n; i++)
        kinds[i].sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR;
    if (list(vk->physical, &n, kinds) < 0)
        return EBM_OK;
    for (uint32_t i = 0; i < n; i++) {
        struct matrices x = { .m = kinds[i].MSize, .n = kinds[i].NSize, .k = kinds[i].KSize };
        if (suits(&kinds[i]) && x.m * x.n * x.k > best && share(subgroups, &x)) {
            best = x.m * x.n * x.k;
            vk->matrix = x;
        }
    }
    return EBM_OK;
}

VkResult matrix_open(struct vk *vk, VkDeviceCreateInfo *info)
{
    const VkDeviceCreateInfo plain = *info;
    struct features f;
    VkResult result;

    if (vk->matrix.m) {
        chain(&f);
        f.matrix.cooperativeMatrix = f.half.shaderFloat16 = VK_TRUE;
        f.model.vulkanMemoryModel = f.model.vulkanMemoryModelDeviceScope = VK_TRUE;
        info->pNext = &f;
        info->enabledExtensionCount = COUNT(extensions);
        info->ppEnabledExtensionNames = extensions;
    }
    result = vk->f.CreateDevice(vk->physical, info, NULL, &vk->device);
    if (!vk->matrix.m || (result != VK_ERROR_EXTENSION_NOT_PRESENT && result != VK_ERROR_FEATURE_NOT_PRESENT))
        return result;
    vk->matrix.m = 0;                        /* it has less than it said */
    return vk->f.CreateDevice(vk->physical, &plain, NULL, &vk->device);
}

/* ---- the trial: a product that crosses what float16 can count, in sums that are known ---- */

enum { M = 70, N = 40, K = 3 * DEPTH };  /* more than a tile */
enum { V_NONE, V_A, V_B, V_C, VALUES };

struct trial {
    float a[M * K], b[K * N], c[M * N];
};

/* Whole numbers below 8, times 2^-60 in the first panel of A, 1 in the second and
 * 2^60 in the third, and times 2^30 in B.  Rows have three panels, two or one, so that
 * each panel decides some. */
static void set_operands(struct trial *t)
{
    for (int m = 0; m < M; m++)
        for (int k = 0; k < K; k++)
            if (k / DEPTH <= m % 3)
                t->a[m * K + k] = ldexpf((float)((m * 5 + k * 3) % 15 - 7), 60 * (k / DEPTH) - 60);
    for (int k = 0; k < K; k++)
        for (int n = 0; n < N; n++)
            t->b[k * N + n] = ldexpf((float)((k * 7 + n * 11) % 13 - 6), 30);
}

static int run_trial(struct vk *vk, struct trial *t)
{
    ebm_backend *b = &vk->base;
    struct node nodes[VALUES] = {
        [V_A] = { .op = OP_FEED, .shape = { 2, { M, K } } },
        [V_B] = { .op = OP_FEED, .shape = { 2, { K, N } } },
        [V_C] = { .op = OP_MATMUL, .shape = { 2, { M, N } }, .n_in = 2, .in = { V_A, V_B } } };
    ebm_graph graph = { .ctx = vk->ctx, .nodes = nodes, .count = VALUES, .n_feeds = 2 };
    struct place in[] = { { SPACE_FEED, 0, 0 }, { SPACE_FEED, 1, 0 } }, out = { SPACE_ARENA, 0, 0 };
    struct step step = { OP_MATMUL, V_C, 2, in, out, NULL, true };
    struct plan plan = { .graph = &graph, .precision = EBM_BF16, .n_steps = 1, .steps = &step, .arena = sizeof t->c };
    const size_t feeds[] = { sizeof t->a, sizeof t->b };
    struct device_buffer *memory = NULL;
    struct device_program *program = NULL;
    int rc;

    if ((rc = b->v->buffer_new(b, sizeof t->c, &memory)) >= 0
        && (rc = b->v->compile(b, &plan, memory, NULL, feeds, &program)) >= 0
        && (rc = b->v->feed(b, program, 0, t->a, sizeof t->a)) >= 0
        && (rc = b->v->feed(b, program, 1, t->b, sizeof t->b)) >= 0
        && (rc = b->v->run(b, program, 1)) >= 0)
        rc = b->v->fetch(b, program, &out, t->c, sizeof t->c);
    b->v->program_free(b, program);
    b->v->buffer_free(b, memory);
    return rc;
}

static bool is_right(const struct trial *t)
{
    static const double CLOSE = 1e-6;

    for (int m = 0; m < M; m++)
        for (int n = 0; n < N; n++) {
            double sum = 0, size = 0;
            for (int k = 0; k < K; k++) {
                sum += (double)t->a[m * K + k] * t->b[k * N + n];
                size += fabs((double)t->a[m * K + k] * t->b[k * N + n]);
            }
            if (!(fabs(t->c[m * N + n] - sum) <= CLOSE * size))
                return false;
        }
    return true;
}

int matrix_check(struct vk *vk)
{
    struct trial *t;

    if (!vk->matrix.m || vk->matrix.tried)
        return EBM_OK;
    vk->matrix.tried = true;
    if (!(t = mem_new(vk->ctx, 1, sizeof *t)))
        return EBM_ERR_NOMEM;
    set_operands(t);
    int rc = run_trial(vk, t);
    if (rc < 0 || !is_right(t)) {
        vk->matrix = (struct matrices){ .tried = true };
        ebm_note(vk->ctx, EBM_LOG_WARN, "vulkan: cooperative matrices %s: precision bf16 goes without",
                 rc < 0 ? "do not run" : "compute wrongly");
    }
    mem_free(vk->ctx, t);
    return vk->lost || rc == EBM_ERR_NOMEM ? rc : EBM_OK;
}

#else

int matrix_find(struct vk *vk, const VkPhysicalDeviceProperties *p)
{
    (void)vk;
    (void)p;
    return EBM_OK;
}

VkResult matrix_open(struct vk *vk, VkDeviceCreateInfo *info)
{
    return vk->f.CreateDevice(vk->physical, info, NULL, &vk->device);
}

int matrix_check(struct vk *vk)
{
    (void)vk;
    return EBM_OK;
}

#endif
