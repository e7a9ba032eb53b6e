/* backend.c - the choice of a device.
 *
 * SPDX-License-Identifier: ISC */
#include "config.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "profile.h"

static const struct {
    const char *name;
    int (*open)(ebm_context *ctx, const char *device, int threads, ebm_backend **backend);
    int (*count)(ebm_context *ctx);      /* of devices; NULL: one */
    bool (*likely)(void);                /* may "auto" try? A quick look; NULL: always */
} table[] = {                /* "auto" takes the first that opens */
#ifdef HAVE_VULKAN
    { "vulkan", vulkan_open, vulkan_count, vulkan_likely },
#endif
    { "cpu", cpu_open, NULL, NULL },
};
#ifdef HAVE_VULKAN
static const char choices[] = "auto, cpu, vulkan or vulkan:N";
#else
static const char choices[] = "auto or cpu";
#endif

bool exact_wanted(void)
{
    const char *exact = getenv("EBM_EXACT");

    return exact && *exact && strcmp(exact, "0") != 0;
}

/* Of a backend that "auto" took: why not a better one. */
static void tell_missed(ebm_backend *backend, const char *missed)
{
    char *description = backend->description;
    size_t used = strlen(description);

    if (*missed)
        snprintf(description + used, DESCRIPTION - used, " (%s)", missed);
}

int ebm_backend_open(ebm_context *ctx, const char *name, int threads, ebm_backend **backend)
{
    bool any = !name || strcmp(name, "auto") == 0;
    char missed[DESCRIPTION / 2] = "";

    *backend = NULL;
    for (size_t i = 0; i < COUNT(table); i++) {
        size_t n = strlen(table[i].name);
        if (any && table[i].likely && !table[i].likely()) {
            snprintf(missed, sizeof missed, "%s: no GPU", table[i].name);
            continue;
        }
        if (any) {
            int rc = table[i].open(ctx, NULL, threads, backend);
            if (rc >= 0)
                tell_missed(*backend, missed);
            if (rc >= 0 || i + 1 == COUNT(table))
                return rc;
            snprintf(missed, sizeof missed, "%s", ebm_message(ctx));
            continue;
        }
        if (strcmp(name, table[i].name) == 0)
            return table[i].open(ctx, NULL, threads, backend);
        if (strncmp(name, table[i].name, n) == 0 && name[n] == ':')
            return table[i].open(ctx, name + n + 1, threads, backend);
    }
    return ebm_fail(ctx, EBM_ERR_ARG, "there is no backend '%s': use %s", name, choices);
}

int ebm_backend_devices(ebm_context *ctx, const char *name)
{
    for (size_t i = 0; i < COUNT(table); i++)
        if (strcmp(name, table[i].name) == 0)
            return table[i].count ? table[i].count(ctx) : 1;
    return ebm_fail(ctx, EBM_ERR_ARG, "there is no backend '%s'", name);
}

void ebm_backend_free(ebm_backend *backend)
{
    if (!backend)
        return;
    profile_free(backend->profile);
    backend->v->close(backend);
}

const char *ebm_backend_describe(const ebm_backend *backend)
{
    return backend->description;
}
