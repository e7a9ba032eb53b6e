/* made.c - see made.h.
 *
 * SPDX-License-Identifier: ISC */
#include "config.h"
#include <string.h>
#include "made.h"
#include "tool.h"

enum made made_of_name(const char *source)
{
    static const struct { const char *name; enum made made; } names[] = {
        { "interpolations", MADE_INTERPOLATIONS }, { "noise", MADE_NOISE }, { "constant", MADE_CONSTANT },
    };

    for (size_t i = 0; i < COUNT(names); i++)
        if (!strcmp(names[i].name, source))
            return names[i].made;
    return MADE_NONE;
}

/* Number i of image `index`, in [0,1): splitmix64 of both (Steele et al. 2014). */
static float unit(size_t index, size_t i)
{
    uint64_t z = ((uint64_t)index << 32) + i + 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (float)((z ^ z >> 31) >> 40) / (1 << 24);
}

/* Pixels of two images, one after the other, become their mean. */
static int interpolate(ebm_data *data, size_t index, const ebm_data_info *info, float *pixels)
{
    size_t n = (size_t)info->height * (size_t)info->width * (size_t)info->channels;
    int rc;

    if ((rc = ebm_data_read(data, index, pixels, NULL)) < 0
        || (rc = ebm_data_read(data, (index + 1) % info->count, pixels + n, NULL)) < 0)
        return rc;
    for (size_t i = 0; i < n; i++)
        pixels[i] = (pixels[i] + pixels[n + i]) / 2;
    return EBM_OK;
}

int made_read(enum made made, ebm_data *data, size_t index, float *pixels)
{
    ebm_data_info info;

    ebm_data_describe(data, &info);
    size_t channels = (size_t)info.channels, n = (size_t)info.height * (size_t)info.width * channels;
    if (made == MADE_INTERPOLATIONS)
        return interpolate(data, index, &info, pixels);
    for (size_t i = 0; i < n; i++)
        pixels[i] = unit(index, made == MADE_CONSTANT ? i % channels : i);
    return EBM_OK;
}
