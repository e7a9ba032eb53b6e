/* loader.c - libvulkan, opened when it is asked for.
 *
 * SPDX-License-Identifier: ISC
 *
 * Nothing links it: where it is missing, opening the backend says so and the
 * rest of the library works.  Vulkan 1.1 is the floor; no extension is needed. */
#include <dlfcn.h>
#include <glob.h>
#include <string.h>
#include "vk.h"

/* Drivers that play a GPU take long to load only to be refused.  On Linux a GPU
 * has a device file. */
bool vulkan_likely(void)
{
#ifdef __linux__
    static const char *const files[] = {
        "/dev/dri/renderD*", "/dev/nvidia[0-9]*", "/dev/dxg", "/dev/kgsl*", "/dev/mali*",
    };
    bool any = false;

    for (size_t i = 0; i < COUNT(files) && !any; i++) {
        glob_t found = { 0 };
        any = glob(files[i], GLOB_NOSORT, NULL, &found) == 0;
        globfree(&found);
    }
    return any;
#else
    return true;
#endif
}

static const char *const names[] = { "libvulkan.so.1", "libvulkan.so", "libvulkan.1.dylib" };

/* A function pointer from dlsym, which gives an object pointer (POSIX). */
static PFN_vkGetInstanceProcAddr entry_of(void *library)
{
    PFN_vkGetInstanceProcAddr entry;
    void *symbol = dlsym(library, "vkGetInstanceProcAddr");

    memcpy(&entry, &symbol, sizeof entry);
    return entry;
}

static int missing(struct vk *vk, const char *name)
{
    return ebm_fail(vk->ctx, EBM_ERR_DEVICE, "vulkan: the driver has no %s", name);
}

static int new_instance(struct vk *vk)
{
    uint32_t version = VK_API_VERSION_1_0;
    VkApplicationInfo app = { .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
        .pApplicationName = "libebm", .apiVersion = VK_API_VERSION_1_1 };
    VkInstanceCreateInfo info = { .sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
        .pApplicationInfo = &app };

    if (!vk->f.EnumerateInstanceVersion || !vk->f.CreateInstance)
        return missing(vk, "Vulkan 1.1");
    if (vk->f.EnumerateInstanceVersion(&version) != VK_SUCCESS || version < VK_API_VERSION_1_1)
        return missing(vk, "Vulkan 1.1");
    return vk_check(vk, vk->f.CreateInstance(&info, NULL, &vk->instance), "opening Vulkan");
}

int loader_open(struct vk *vk)
{
    PFN_vkGetInstanceProcAddr entry;
    int rc;

    for (size_t i = 0; i < COUNT(names) && !vk->library; i++)
        vk->library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (!vk->library)
        return ebm_fail(vk->ctx, EBM_ERR_DEVICE, "vulkan: there is no %s", names[0]);
    if (!(entry = entry_of(vk->library)))
        return missing(vk, "vkGetInstanceProcAddr");
#define F(name) vk->f.name = (PFN_vk##name)entry(NULL, "vk" #name);
    VK_GLOBAL(F)
#undef F
    if ((rc = new_instance(vk)) < 0)
        return rc;
#define F(name) \
    if (!(vk->f.name = (PFN_vk##name)entry(vk->instance, "vk" #name))) \
        return missing(vk, "vk" #name);
    VK_INSTANCE(F)
#undef F
    return EBM_OK;
}

int loader_device(struct vk *vk)
{
#define F(name) \
    if (!(vk->f.name = (PFN_vk##name)vk->f.GetDeviceProcAddr(vk->device, "vk" #name))) \
        return missing(vk, "vk" #name);
    VK_DEVICE(F)
#undef F
    return EBM_OK;
}

PFN_vkVoidFunction loader_find(struct vk *vk, const char *name)
{
    PFN_vkGetInstanceProcAddr entry = entry_of(vk->library);

    return entry ? entry(vk->instance, name) : NULL;
}

void loader_close(struct vk *vk)
{
    if (vk->instance && vk->f.DestroyInstance)
        vk->f.DestroyInstance(vk->instance, NULL);
    if (vk->library)
        dlclose(vk->library);
}
