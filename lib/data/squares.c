/* squares.c - points of the plane: a set whose densities can be looked at.
 *
 * SPDX-License-Identifier: ISC
 *
 * A point is an image of 1 x 2, its coordinates from [-10,10] brought to [0,1].  All
 * are uniform on eight squares of side 4 (Zhu et al. 2024), which are the classes. */
#include <string.h>
#include "number.h"
#include "philox.h"
#include "source.h"

enum { COUNT_DEFAULT = 50000, SQUARES = 8, PURPOSE = 0x73717561 };

/* Lower corners, by side. */
static const int corners[SQUARES][2] = {
    { 1, 0 }, { 0, 1 }, { 0, -1 }, { 1, -2 }, { -1, -2 }, { -2, -1 }, { -1, 0 }, { -2, 1 },
};
static const double SIDE = 4, LOW = -10, WHOLE = 20;

struct squares {
    uint64_t count, first;
    uint32_t key[2];
};

static double unit(uint32_t word)
{
    return (double)(word >> 8) / (1 << 24);
}

static int read_point(ebm_context *ctx, void *state, size_t index, struct image *image, int32_t *label)
{
    const struct squares *s = state;
    uint64_t i = index + s->first;
    uint32_t word[4], counter[4] = { 0, (uint32_t)i, (uint32_t)(i >> 32), PURPOSE };
    int rc = image_new(ctx, image, 1, 2, 1, true);

    if (rc < 0)
        return rc;
    philox_block(counter, s->key, word);
    *label = (int32_t)((uint64_t)word[0] * SQUARES >> 32);
    for (int k = 0; k < 2; k++)
        image->floats[k] = (float)((SIDE * (corners[*label][k] + unit(word[1 + k])) - LOW) / WHOLE);
    return EBM_OK;
}

static void close_squares(ebm_context *ctx, void *state)
{
    mem_free(ctx, state);
}

bool squares_named(const char *spec)
{
    return strcmp(spec, "squares") == 0 || strncmp(spec, "squares:", 8) == 0;
}

int squares_open(ebm_context *ctx, const char *spec, const struct request *request, struct source *source)
{
    int64_t count = COUNT_DEFAULT;
    const char *text = strchr(spec, ':');
    struct squares *s;

    if (text && (!number_read_integer(text + 1, strlen(text + 1), &count) || count < 1 || count > 1 << 30))
        return ebm_fail(ctx, EBM_ERR_ARG, "%s: write squares, or squares:COUNT", spec);
    if ((request->height && request->height != 1) || (request->width && request->width != 2)
        || (request->channels && request->channels != 1))
        return ebm_fail(ctx, EBM_ERR_ARG, "%s are points: 1 x 2 numbers, one channel", spec);
    if (!(s = mem_new(ctx, 1, sizeof *s)))
        return EBM_ERR_NOMEM;
    s->count = (uint64_t)count;
    s->first = request->split == SPLIT_TEST ? s->count : 0;
    s->key[0] = (uint32_t)request->seed;
    s->key[1] = (uint32_t)(request->seed >> 32);
    source->format = "squares";
    source->splits = SPLIT_ALL;
    source->count = (size_t)count * (request->split == SPLIT_ALL ? 2 : 1);
    source->height = 1;
    source->width = 2;
    source->channels = 1;
    source->classes = SQUARES;
    source->fingerprint = fingerprint(FINGERPRINT_START, s->key, sizeof s->key);
    source->fingerprint = fingerprint(source->fingerprint, spec, strlen(spec));
    source->read = read_point;
    source->close = close_squares;
    source->state = s;
    return EBM_OK;
}
