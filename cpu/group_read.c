/* group_read.c - the elements that an input gives a tile.
 *
 * SPDX-License-Identifier: ISC
 *
 * Contiguous floats are used where they lie; arrays that repeat with a short
 * period are written out once, so that any tile is a window of them; others are
 * read row by row. */
#include <string.h>
#include "group.h"

/* n elements from `first` on, `stride` apart. */
static void read_row(const struct kernels *k, float *d, const struct input *in, int64_t first,
                     int64_t stride, int64_t n)
{
    const float *f = in->at;
    const int32_t *w = in->at;
    const uint8_t *u = in->at;

    if (stride == 0) {
        float x = in->type == EBM_F32 ? f[first]
                : in->type == EBM_I32 ? (float)w[first] : (float)u[first];
        k->fill(d, x, n);
    } else if (stride == 1) {
        if (in->type == EBM_F32)
            memcpy(d, f + first, (size_t)n * sizeof *d);
        else if (in->type == EBM_I32)
            k->from_i32(d, w + first, n);
        else
            k->from_u8(d, u + first, n);
    } else if (in->type == EBM_F32) {
        for (int64_t i = 0; i < n; i++)
            d[i] = f[first + i * stride];
    } else if (in->type == EBM_I32) {
        for (int64_t i = 0; i < n; i++)
            d[i] = (float)w[first + i * stride];
    } else {
        for (int64_t i = 0; i < n; i++)
            d[i] = u[first + i * stride];
    }
}

/* The next axis position after `run` elements of axis i: carry outward. */
static void carry(const struct input *in, int64_t *at, int64_t *first, int i, int64_t run)
{
    *first += run * in->stride[i];
    at[i] += run;
    for (; i > 0 && at[i] == in->n[i]; i--) {
        *first += in->stride[i - 1] - at[i] * in->stride[i];
        at[i] = 0;
        at[i - 1]++;
    }
}

/* Elements [begin, begin+n) of the iteration space.  What lies inside an axis of
 * stride 0 is read once and then copied from before. */
static void read_rows(const struct kernels *k, float *d, const struct input *in, int64_t begin,
                      int64_t n)
{
    int64_t at[EBM_MAX_RANK], first = 0, rest = begin, done = 0;
    int inner = in->rank - 1;

    for (int i = inner; i >= 0; i--) {
        at[i] = rest % in->n[i];
        rest /= in->n[i];
        first += at[i] * in->stride[i];
    }
    while (done < n) {
        int64_t left = n - done, run = in->n[inner] - at[inner];
        bool whole = in->again >= 0 && at[in->again] > 0 && done >= in->inside && left >= in->inside;
        for (int i = in->again + 1; whole && i <= inner; i++)
            whole = at[i] == 0;
        if (whole) {
            memcpy(d + done, d + done - in->inside, (size_t)in->inside * sizeof *d);
            carry(in, at, &first, in->again, 1);
            done += in->inside;
            continue;
        }
        if (run > left)
            run = left;
        if (in->stride[inner] == 0 && run <= LANES && left >= LANES && in->type == EBM_F32) {
            const float x = ((const float *)in->at)[first];
            float *to = d + done;
            for (int j = 0; j < LANES; j++)      /* what is too much the next run overwrites */
                to[j] = x;
        } else {
            read_row(k, d + done, in, first, in->stride[inner], run);
        }
        carry(in, at, &first, inner, run);
        done += run;
    }
}

/* Continue the first `period` elements of d, one after the other, up to `size`. */
static void continue_period(float *d, int64_t period, int64_t size)
{
    for (int64_t done = period, n; done < size; done += n) {
        n = size - done < done ? size - done : done;
        memcpy(d + done, d, (size_t)n * sizeof *d);
    }
}

void inputs_begin(struct group *g)
{
    for (int i = 0; i < g->n_in; i++)
        if (made_size(g, &g->in[i]))
            read_rows(g->k, g->in[i].made, &g->in[i], 0,
                      g->in[i].reading == READ_ONE ? 1 : g->in[i].period);
    for (int i = 0; i < g->n_in; i++) {
        struct input *in = &g->in[i];
        if (in->reading == READ_ONE)
            g->k->fill(in->made, in->made[0], LANES);
        else if (in->reading == READ_PERIOD)
            continue_period(in->made, in->period, made_size(g, in));
    }
}

void inputs_begin_range(const struct group *g, char *scratch, int64_t n)
{
    for (int i = 0; i < g->n_in; i++)
        if (g->in[i].reading == READ_REPEAT)
            ((struct slot *)(void *)(scratch + g->in[i].slot))->block =
                n >= 2 * g->tile ? NOT_YET : NEVER;
}

/* The window of a slot for [begin, begin + n), which lies in one block; NULL if
 * it does not or the range is too short for slots to pay. */
static const float *slot_window(const struct group *g, const struct input *in, struct slot *slot,
                                int64_t begin, int64_t n)
{
    int64_t block = begin / in->block;

    if (slot->block == NEVER || begin % in->block + n > in->block)
        return NULL;
    if (slot->block != block) {
        const int64_t size = in->inside + g->tile + LANES;
        read_rows(g->k, slot->at, in, block * in->block, in->inside);
        continue_period(slot->at, in->inside, size);
        slot->block = block;
    }
    return slot->at + begin % in->inside;
}

/* A tile that lies at x. */
static struct reg lies(const float *x)
{
    return (struct reg){ (char *)(uintptr_t)x, sizeof *x };
}

static struct reg number(const float *x)
{
    return (struct reg){ (char *)(uintptr_t)x, ONE };
}

struct reg input_load(const struct group *g, const struct input *in, char *scratch,
                      int64_t begin, int64_t n)
{
    float *d = (float *)(void *)(scratch + in->copied);

    switch (in->reading) {
    case READ_LINEAR:
        if (fills_lanes(n))
            return lies((const float *)in->at + begin);
        break;
    case READ_ONE:
        return number(in->made);
    case READ_PERIOD:
        if (g->tile > g->span)               /* the same for all pieces */
            return (struct reg){ (char *)(in->made + begin % in->period), 0 };
        return lies(in->made + begin % in->period);
    case READ_WINDOW:
        if (fills_lanes(n) && begin % in->period + n <= in->period)
            return lies((const float *)in->at + begin % in->period);
        break;
    case READ_REPEAT: {
        const float *at = slot_window(g, in, (struct slot *)(void *)(scratch + in->slot), begin, n);
        if (at)
            return lies(at);
        break;
    }
    case READ_ROWS: {
        int64_t inner = in->n[in->rank - 1];
        if (in->stride[in->rank - 1] == 0 && begin % inner + n <= inner) {
            read_rows(g->k, d, in, begin, 1);          /* within one row: one number */
            g->k->fill(d, d[0], LANES);
            return number(d);
        }
        break;
    }
    }
    read_rows(g->k, d, in, begin, n);
    return lies(d);
}
