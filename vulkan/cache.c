/* cache.c - compiled pipelines, kept on disk from one run to the next.
 *
 * SPDX-License-Identifier: ISC
 *
 * A driver compiles each pipeline from SPIR-V, which can take longer than the work.
 * What it made goes to a file for each device and driver:
 *
 *     $EBM_CACHE_DIR (else $XDG_CACHE_HOME/libebm, else ~/.cache/libebm)
 *         vulkan-<uuid of the driver's cache>.bin = digest, 64 bytes; the driver's data
 *
 * Some drivers trust what they are given, so a file that is not whole is not passed
 * on.  Nothing here fails: without a file pipelines are compiled, and where none can
 * be written the next run compiles them again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "io.h"
#include "sha256.h"
#include "vk.h"

static const size_t DIGEST = SHA256_TEXT - 1;
static const size_t LARGEST = (size_t)1 << 28;

/* The folder's name, for mem_free(); NULL: none, by the user's will or for want of
 * a home. */
static char *folder_of(ebm_context *ctx)
{
    const char *own = getenv("EBM_CACHE_DIR"), *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");

    if (own)
        return *own ? mem_strdup(ctx, own) : NULL;
    if (cache && *cache == '/')
        return io_join(ctx, cache, "libebm");
    return home && *home == '/' ? io_join(ctx, home, ".cache/libebm") : NULL;
}

static char *path_of(ebm_context *ctx, const uint8_t *uuid, const char *folder)
{
    char name[16 + 2 * VK_UUID_SIZE], *end = name + sprintf(name, "vulkan-");

    for (size_t i = 0; i < VK_UUID_SIZE; i++)
        end += sprintf(end, "%02x", uuid[i]);
    strcpy(end, ".bin");
    return io_join(ctx, folder, name);
}

static void digest(const char *data, size_t size, char text[SHA256_TEXT])
{
    struct sha256 h;

    sha256_begin(&h);
    sha256_add(&h, data, size);
    sha256_end(&h, text);
}

void cache_load(struct vk *vk, char **file, const void **data, size_t *size)
{
    ebm_context *quiet;              /* its messages are nobody's */
    char *folder, *path = NULL, want[SHA256_TEXT];

    *file = NULL;
    *data = NULL;
    *size = 0;
    if (context_like(vk->ctx, &quiet) < 0)
        return;
    if ((folder = folder_of(quiet)) && (path = path_of(quiet, vk->uuid, folder))
        && io_read_whole(quiet, path, LARGEST, file, size) == EBM_OK && *size > DIGEST) {
        digest(*file + DIGEST, *size - DIGEST, want);
        if (memcmp(*file, want, DIGEST) == 0) {
            *data = *file + DIGEST;
            vk->cached = *size - DIGEST;
        }
    }
    *size = vk->cached;
    mem_free(quiet, path);
    mem_free(quiet, folder);
    ebm_context_free(quiet);
}

/* The driver's data behind their digest, for mem_free(); NULL if there are none, or
 * none that are new. */
static char *take(struct vk *vk, ebm_context *quiet, size_t *size)
{
    char text[SHA256_TEXT], *block;

    if (vk->f.GetPipelineCacheData(vk->device, vk->cache, size, NULL) != VK_SUCCESS
        || *size <= vk->cached || *size > LARGEST || !(block = mem_new(quiet, DIGEST + *size, 1)))
        return NULL;
    if (vk->f.GetPipelineCacheData(vk->device, vk->cache, size, block + DIGEST) != VK_SUCCESS) {
        mem_free(quiet, block);
        return NULL;
    }
    digest(block + DIGEST, *size, text);
    memcpy(block, text, DIGEST);
    *size += DIGEST;
    return block;
}

void cache_save(struct vk *vk)
{
    ebm_context *quiet;
    size_t size = 0;
    char *folder, *path = NULL, *block = NULL;

    if (vk->lost || context_like(vk->ctx, &quiet) < 0)
        return;
    if ((folder = folder_of(quiet)) && (path = path_of(quiet, vk->uuid, folder))
        && (block = take(vk, quiet, &size)) && io_make_folder(quiet, folder) == EBM_OK)
        io_write_whole(quiet, path, block, size);
    mem_free(quiet, block);
    mem_free(quiet, path);
    mem_free(quiet, folder);
    ebm_context_free(quiet);
}
