/* keep.c - weights that stay packed from run to run.
 *
 * SPDX-License-Identifier: ISC
 *
 * A program that is run many times in a row packs its weights in the first run
 * alone, if there is room: behind all else in the arena.  Other programs overwrite
 * that, but not within a row; and where one of them needs a larger arena anyway,
 * the room costs nothing.  Steps that pack the same weights alike, as the parts of
 * a batch do, share what the first of them has packed. */
#include "keep.h"

struct kept {
    const struct place *weights;
    const struct step_run *step;
    char *at;
};

static bool same_place(const struct place *a, const struct place *b)
{
    return a->space == b->space && a->index == b->index && a->offset == b->offset;
}

/* Whether the program itself never writes there. */
static bool constant(const struct keeping *k, const struct place *at)
{
    return at->space == SPACE_FEED || (at->space == SPACE_STATE && !k->written[at->index]);
}

static void note_written(const struct place *at, unsigned char *written)
{
    if (at->space == SPACE_STATE)
        written[at->index] = 1;
}

/* The slots that the program writes to. */
static void find_written(const struct plan *plan, unsigned char *written)
{
    for (int i = 0; i < plan->n_copies; i++)
        note_written(&plan->copies[i].to, written);
    for (int i = 0; i < plan->n_steps; i++) {
        const struct step *s = &plan->steps[i];
        note_written(&s->out, written);
        for (int o = 0; s->group && o < s->group->n_out; o++)
            note_written(&s->group->out[o].place, written);
    }
}

static const struct kept *find(const struct kept *kept, int n, const struct place *weights,
                               const struct step_run *step)
{
    for (int i = 0; i < n; i++)
        if (same_place(kept[i].weights, weights) && contract_packs_alike(kept[i].step->own, step->own))
            return &kept[i];
    return NULL;
}

static size_t keep(const struct keeping *k, struct kept *kept)
{
    size_t used = 0;
    int n = 0;

    for (int i = 0; i < k->n_steps; i++) {
        struct step_run *s = &k->steps[i];
        const struct step *step = &k->plan->steps[s->first];
        size_t bytes = s->contracts ? contract_keeps(s->own) : 0;
        if (!bytes || !constant(k, &step->in[1]))
            continue;
        const struct kept *shared = find(kept, n, &step->in[1], s);
        if (!shared && bytes > k->room - used)
            continue;
        if (!shared) {
            kept[n] = (struct kept){ &step->in[1], s, k->at ? k->at + used : NULL };
            used += bytes;
        }
        s->packed_before = shared;
        if (k->at)
            contract_keep(s->own, (float *)(shared ? shared->at : kept[n].at));
        n += !shared;
    }
    return used;
}

int64_t keep_packed(ebm_context *ctx, struct keeping *k)
{
    struct kept *kept = mem_new(ctx, (size_t)k->n_steps + 1, sizeof *kept);
    int64_t bytes = EBM_ERR_NOMEM;

    k->written = mem_new(ctx, (size_t)k->plan->graph->store->count + 1, 1);
    if (kept && k->written) {
        find_written(k->plan, k->written);
        bytes = (int64_t)keep(k, kept);
    }
    mem_free(ctx, k->written);
    mem_free(ctx, kept);
    return bytes;
}
