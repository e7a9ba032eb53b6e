/* walk.c - see walk.h.
 *
 * SPDX-License-Identifier: ISC */
#include "context.h"
#include "walk.h"

/* Steps between two calls of progress. */
enum { STRIDE = 16 };

static const struct recipe_key keys[] = {
    { "sample.one_start", KEY_BOOL, "false", 0, 0, "all chains of a batch start from the same noise", NULL },
};
const struct key_table walk_table = { keys, COUNT(keys) };

ebm_val walk_start(ebm_graph *g, struct recipe *recipe, ebm_val x)
{
    const int64_t begin[EBM_MAX_RANK] = { 0 };
    int64_t n[EBM_MAX_RANK], first[EBM_MAX_RANK];
    int rank = ebm_shape(g, x, n);

    if (!recipe_bool(recipe, "sample.one_start"))
        return x;
    first[0] = 1;
    for (int i = 1; i < rank; i++)
        first[i] = n[i];
    return ebm_broadcast(g, ebm_slice(g, x, begin, first, NULL), rank, n);
}

static int read_chains(const struct walk *w)
{
    return ebm_store_read(w->site->store, WALK_CHAIN, w->images, w->bytes);
}

/* The step of the next frame; beyond the last when all are shown. */
static int64_t next_frame(const struct walk *w)
{
    int frames = w->draw->frames;

    if (w->frame >= frames)
        return INT64_MAX;
    return frames == 1 ? w->all : (int64_t)((double)w->all * w->frame / (frames - 1));
}

static int show_frames(struct walk *w)
{
    int status = EBM_OK;

    while (status >= 0 && next_frame(w) <= w->done)
        if ((status = read_chains(w)) >= 0)
            w->draw->show(w->draw->shots, w->frame++);
    return status;
}

int walk_begin(struct walk *w)
{
    w->done = 0;
    w->frame = 0;
    return show_frames(w);
}

int walk_steps(struct walk *w, const struct phase *phase, int64_t steps)
{
    int64_t end = w->done + steps;
    int status;

    if ((status = ebm_program_set(w->step, "step", &phase->step, sizeof phase->step)) < 0
        || (status = ebm_program_set(w->step, "noise", &phase->noise, sizeof phase->noise)) < 0)
        return status;
    while (w->done < end) {
        int64_t stop = next_frame(w) < end ? next_frame(w) : end;
        int times = (int)(stop - w->done < STRIDE ? stop - w->done : STRIDE);
        if ((status = ebm_program_run(w->step, times)) < 0)
            return status;
        w->done += times;
        if ((status = show_frames(w)) < 0)
            return status;
        if (w->draw->progress && w->draw->progress(w->draw->user, (double)w->done / (double)w->all))
            return ebm_fail(w->site->ctx, EBM_ERR_STOPPED, "sampling was stopped");
    }
    return EBM_OK;
}

int walk_end(struct walk *w)
{
    return read_chains(w);
}
