/* place.c - where every value lies: one arena, states written where they are
 * kept, joined values made side by side.
 *
 * SPDX-License-Identifier: ISC
 *
 * Values share one arena by the steps from the first that writes them to the last
 * that reads them (arena.c).  Before that, blocks become fewer:
 *   a value assigned to a state is made in the state, if nobody still reads it;
 *   parts of a CONCAT are made inside it;
 *   an elementwise result takes the place of an operand that ends there.
 * Invariant: two values alive at one step share no byte, but in the third case. */
#include <string.h>
#include "schedule.h"
#include "store.h"

enum { ALIGN = 64 };

/* What is known of a stored value. */
struct life {
    int32_t first, last;     /* steps; last = n_steps: to the end. first < 0: not made here */
    ebm_val inside;          /* lies in this value's memory, at offset; 0: on its own */
    int64_t offset;
    bool pinned;             /* taken by another value, or read after the end */
    bool joined;             /* parts of a CONCAT lie in it */
    bool kept;               /* read after the run */
    int strip;               /* 1 + the strip whose blocks alone know it; 0: none */
    struct place place;      /* space NONE until known */
};

struct placing {
    struct schedule *s;
    struct plan *plan;
    const ebm_graph *g;
    struct life *life;       /* by value */
    struct life *scratch;    /* by step: raw results that are not stored */
    int *strip_of;           /* by step: 1 + its strip, or 0 */
    int32_t *slot_read;      /* by slot of the store: 1 + the last step that reads it, or 0 */
};

/* The value whose memory the i-th operand of the heavy operation reads. */
static ebm_val heavy_operand(const struct placing *p, const struct step *t, int i)
{
    return memory_root(p->g, operand(node_of(p->g, t->val), i));
}

static void read_at(struct placing *p, ebm_val v, int32_t step)
{
    if (p->life[v].last < step)
        p->life[v].last = step;
}

/* Step i reads v. */
static void read_by(struct placing *p, ebm_val v, int32_t i)
{
    const struct node *n = node_of(p->g, v);

    read_at(p, v, i);
    if (n->op == OP_STATE)
        p->slot_read[n->attr.state.slot] = i + 1;
}

static void made_at(struct placing *p, ebm_val v, int32_t step)
{
    p->life[v].first = p->life[v].last = step;
}

static bool keeps_raw(const struct placing *p, const struct step *t)
{
    return t->op != OP_NONE && p->s->drafts[p->s->maker[t->val]].keep_raw;
}

static void find_lives(struct placing *p)
{
    const struct plan *plan = p->plan;

    for (ebm_val v = 0; v < p->s->count; v++)
        p->life[v] = (struct life){ .first = -1, .last = -1 };
    for (int32_t i = 0; i < plan->n_steps; i++) {
        const struct step *t = &plan->steps[i];
        if (keeps_raw(p, t))
            made_at(p, t->val, i);
        for (int k = 0; t->group && k < t->group->n_out; k++)
            made_at(p, t->group->out[k].val, i);
    }
    for (int32_t i = 0; i < plan->n_steps; i++) {
        const struct step *t = &plan->steps[i];
        for (int k = 0; k < t->n_in; k++)
            read_by(p, heavy_operand(p, t, k), i);
        for (int k = 0; t->group && k < t->group->n_in; k++)
            read_by(p, t->group->in[k].val, i);
    }
    for (int i = 0; i < p->s->n_outputs; i++) {
        const struct node *n = node_of(p->g, p->s->outputs[i]);
        ebm_val root = memory_root(p->g, n->op == OP_ASSIGN ? n->in[0] : p->s->outputs[i]);
        read_at(p, root, plan->n_steps);
        p->life[root].pinned = true;
        p->life[root].kept |= n->op != OP_ASSIGN;
    }
}

/* Values that no other step reads live in the memory of a strip's blocks. */
static void find_strips(struct placing *p)
{
    const struct plan *plan = p->plan;

    for (int k = 0; k < plan->n_strips; k++)
        for (int i = 0; i < plan->strips[k].n; i++)
            p->strip_of[plan->strips[k].first + i] = k + 1;
    for (ebm_val v = 1; v < p->s->count; v++) {
        struct life *l = &p->life[v];
        int k = l->first < 0 ? 0 : p->strip_of[l->first];
        bool inner = k && !l->pinned && l->last > l->first && p->strip_of[l->last] == k;
        l->strip = inner ? k : 0;
    }
}

/* ---- results that overlay what they are made of ---- */

/* The instruction that makes output `out`. */
static const struct ew_instr *maker(const struct ew_group *group, int out)
{
    const struct ew_instr *made = NULL;

    for (int i = 0; i < group->n_instr; i++)
        if (group->instr[i].dst == group->out[out].reg)
            made = &group->instr[i];
    return made;
}

/* Is the leaf itself, unchanged, an output other than `out`?  It would be stored
 * when `out` has overwritten it already. */
static bool handed_on(const struct ew_group *group, int out, enum ew_op leaf, int input)
{
    for (int i = 0; i < group->n_out; i++) {
        const struct ew_instr *t = maker(group, i);
        if (i != out && t->op == leaf && (leaf == EW_RAW || t->a == input))
            return true;
    }
    return false;
}

/* May output `out` lie on input `input`? Both whole, alike, and read once. */
static bool overlays(const struct ew_group *group, int out, int input)
{
    const struct ew_input *in = &group->in[input];

    if (!in->linear || in->type != group->out[out].type)
        return false;
    for (int i = 0; i < group->n_in; i++)
        if (i != input && group->in[i].val == in->val)
            return false;
    return !handed_on(group, out, EW_LOAD, input);
}

/* ---- states made in place ---- */

static bool reads_slot(const struct placing *p, ebm_val v, int slot)
{
    const struct node *n = node_of(p->g, v);

    return n->op == OP_STATE && n->attr.state.slot == slot;
}

static bool step_reads_slot(const struct placing *p, const struct step *t, int slot)
{
    for (int k = 0; k < t->n_in; k++)
        if (reads_slot(p, heavy_operand(p, t, k), slot))
            return true;
    for (int k = 0; t->group && k < t->group->n_in; k++)
        if (reads_slot(p, t->group->in[k].val, slot))
            return true;
    return false;
}

/* Group `t` reads the slot as it writes it: element by element. */
static bool group_updates(const struct placing *p, const struct step *t, ebm_val v, int slot)
{
    const struct ew_group *group = t->group;
    int out = 0, input = -1;

    if (t->op != OP_NONE)
        return false;
    while (group->out[out].val != v)
        out++;
    for (int i = 0; i < group->n_in; i++)
        if (reads_slot(p, group->in[i].val, slot)) {
            if (input >= 0)
                return false;
            input = i;
        }
    return value_bytes(p->g, group->in[input].val) == value_bytes(p->g, v)
        && overlays(group, out, input);
}

/* UPDATE of a table writes only its rows. */
static bool update_in_place(const struct placing *p, const struct step *t, int slot)
{
    return t->op == OP_UPDATE && !t->group && reads_slot(p, heavy_operand(p, t, 0), slot)
        && !reads_slot(p, heavy_operand(p, t, 1), slot) && !reads_slot(p, heavy_operand(p, t, 2), slot);
}

static bool can_live_in_slot(const struct placing *p, ebm_val v, int slot)
{
    const struct life *l = &p->life[v];
    const struct step *t;

    if (l->first < 0 || l->place.space != SPACE_NONE || l->inside)
        return false;
    for (int i = 0; i < p->s->n_outputs; i++)        /* fetched as it was before? */
        if (reads_slot(p, memory_root(p->g, p->s->outputs[i]), slot))
            return false;
    if (p->slot_read[slot] > l->first + 1)
        return false;
    int strip = p->strip_of[l->first];
    for (int32_t i = l->first - 1; strip && i >= 0 && p->strip_of[i] == strip; i--)
        if (step_reads_slot(p, &p->plan->steps[i], slot))
            return false;            /* for a later block */
    t = &p->plan->steps[l->first];
    return !step_reads_slot(p, t, slot)
        || (t->val != v && group_updates(p, t, v, slot))
        || (t->val == v && update_in_place(p, t, slot));
}

static int slot_of_assign(const ebm_graph *g, ebm_val assign)
{
    return node_of(g, assign)->attr.state.slot;
}

static int place_assigns(struct placing *p)
{
    ebm_context *ctx = p->g->ctx;
    struct plan *plan = p->plan;

    plan->copies = mem_new(ctx, (size_t)p->s->n_outputs, sizeof *plan->copies);
    if (!plan->copies)
        return EBM_ERR_NOMEM;
    for (int i = 0; i < p->s->n_outputs; i++) {
        const struct node *n = node_of(p->g, p->s->outputs[i]);
        if (n->op != OP_ASSIGN)
            continue;
        int slot = n->attr.state.slot;
        ebm_val v = memory_root(p->g, n->in[0]);
        for (int k = 0; k < p->s->n_outputs; k++) {
            ebm_val other = p->s->outputs[k];
            if (node_of(p->g, other)->op != OP_ASSIGN) {
                if (reads_slot(p, memory_root(p->g, other), slot))
                    return ebm_fail(ctx, EBM_ERR_ARG, "'%s' is fetched and assigned in one program: "
                                    "read it with ebm_store_read()", p->g->store->tensors[slot].name);
                continue;
            }
            if (k != i && slot_of_assign(p->g, other) == slot)
                return ebm_fail(ctx, EBM_ERR_ARG, "'%s' is assigned twice in one program",
                                p->g->store->tensors[slot].name);
            if (k != i && reads_slot(p, v, slot_of_assign(p->g, other)))
                return ebm_fail(ctx, EBM_ERR_ARG, "'%s' is assigned from a state that changes too",
                                p->g->store->tensors[slot].name);
        }
        if (reads_slot(p, v, slot) && node_of(p->g, v)->attr.state.offset == 0)
            continue;                                /* itself: nothing to do */
        struct place place = { SPACE_STATE, slot, 0 };
        if (can_live_in_slot(p, v, slot))
            p->life[v].place = place;
        else
            plan->copies[plan->n_copies++] = (struct copy){
                { SPACE_NONE, v, 0 }, place, value_bytes(p->g, v) };   /* from: below */
    }
    return EBM_OK;
}

/* ---- parts of a CONCAT ---- */

/* Parts lie one after the other if all axes before the joined one have size 1. */
static bool is_contiguous_concat(const struct node *n)
{
    for (int i = 0; i < n->attr.axis; i++)
        if (n->shape.n[i] != 1)
            return false;
    return true;
}

static void place_concats(struct placing *p)
{
    for (int32_t i = p->plan->n_steps - 1; i >= 0; i--) {
        const struct step *t = &p->plan->steps[i];
        if (t->op != OP_CONCAT || p->life[t->val].place.space != SPACE_NONE
            || !is_contiguous_concat(node_of(p->g, t->val)))
            continue;
        int64_t offset = 0;
        struct life *whole = &p->life[t->val];
        for (int k = 0; k < t->n_in; k++) {
            ebm_val part = heavy_operand(p, t, k);
            struct life *l = &p->life[part];
            if (l->first >= 0 && l->place.space == SPACE_NONE && !l->inside && part != t->val) {
                l->inside = t->val;
                l->offset = offset;
                whole->joined = true;
            }
            offset += (int64_t)value_bytes(p->g, part);
        }
    }
}

/* ---- results on top of operands that end ---- */

static ebm_val outermost(const struct placing *p, ebm_val v, int64_t *offset)
{
    for (; p->life[v].inside; v = p->life[v].inside)
        *offset += p->life[v].offset;
    return v;
}

/* Is v dead after step i, and its memory its own? */
static bool ends_at(const struct placing *p, ebm_val v, int32_t i)
{
    const struct life *l = &p->life[v];

    if (l->first < 0 || l->first == i || l->last != i || l->pinned || l->place.space != SPACE_NONE)
        return false;
    for (; v; v = p->life[v].inside)
        if (p->life[v].joined)
            return false;
    return true;
}

static void place_on_operands(struct placing *p)
{
    for (int32_t i = 0; i < p->plan->n_steps; i++) {
        const struct step *t = &p->plan->steps[i];
        if (t->op != OP_NONE)
            continue;
        for (int out = 0; out < t->group->n_out; out++) {
            struct life *o = &p->life[t->group->out[out].val];
            if (o->place.space != SPACE_NONE || o->inside)
                continue;
            for (int in = 0; in < t->group->n_in && !o->inside; in++) {
                ebm_val v = t->group->in[in].val;
                if (ends_at(p, v, i) && p->life[v].strip == o->strip
                    && value_bytes(p->g, v) == value_bytes(p->g, t->group->out[out].val)
                    && overlays(t->group, out, in)) {
                    o->inside = v;
                    p->life[v].pinned = true;        /* one result only */
                }
            }
        }
    }
}

/* ---- the arena ---- */

static int64_t aligned(size_t bytes)
{
    return ((int64_t)bytes + ALIGN - 1) / ALIGN * ALIGN;
}

/* id: decides between blocks of one size and one first step. */
static void add_block(struct block *blocks, int *n, struct life *l, int32_t id, size_t bytes)
{
    blocks[(*n)++] = (struct block){ l->first, l->last, id, aligned(bytes), 0, l };
}

/* What is fetched lies apart: other programs write to the arena before it is. */
static void place_kept(struct placing *p)
{
    for (ebm_val v = 1; v < p->s->count; v++) {
        struct life *l = &p->life[v];
        if (l->first < 0 || l->inside || l->place.space != SPACE_NONE || !l->kept)
            continue;
        int64_t bytes = aligned(value_bytes(p->g, v));
        int64_t at = arena_piece(p->plan->kept, bytes, p->plan->piece);
        l->place = (struct place){ SPACE_KEPT, 0, at };
        p->plan->kept = at + bytes;
    }
}

/* What a strip makes or reads lives from its first step to its last: blocks go
 * through all of them. */
static void extend_to_strip(const struct placing *p, struct life *l)
{
    int n = p->plan->n_steps;

    if (l->first < 0 || l->strip)
        return;
    int from = p->strip_of[l->first], to = l->last < n ? p->strip_of[l->last] : 0;
    if (from)
        l->first = p->plan->strips[from - 1].first;
    if (to)
        l->last = p->plan->strips[to - 1].first + p->plan->strips[to - 1].n - 1;
}

static void extend_owners(struct placing *p)
{
    for (ebm_val v = 1; v < p->s->count; v++) {
        if (p->life[v].first < 0 || !p->life[v].inside)
            continue;
        struct life *top = &p->life[outermost(p, v, &(int64_t){ 0 })];
        top->first = p->life[v].first < top->first ? p->life[v].first : top->first;
        top->last = p->life[v].last > top->last ? p->life[v].last : top->last;
        top->kept |= p->life[v].kept;
    }
    for (ebm_val v = 1; v < p->s->count; v++)
        extend_to_strip(p, &p->life[v]);
}

/* Places n blocks in one memory of `size` bytes, in pieces (0: whole). */
static int place_blocks(const struct placing *p, struct block *blocks, int n, enum space space, int64_t piece,
                        int64_t *size)
{
    int status = arena_place(p->g->ctx, n, blocks, piece, size);

    for (int i = 0; status >= 0 && i < n; i++)
        blocks[i].owner->place = (struct place){ space, 0, blocks[i].offset };
    return status;
}

static void add_value(const struct placing *p, ebm_val v, int k, struct block *blocks, int *n)
{
    const struct strip *strip = k ? &p->plan->strips[k - 1] : NULL;
    struct life *l = &p->life[v];
    size_t bytes = value_bytes(p->g, v);

    if (l->first >= 0 && !l->inside && l->place.space == SPACE_NONE && l->strip == k)
        add_block(blocks, n, l, v, strip ? bytes / (size_t)strip->rows * (size_t)strip->block : bytes);
}

/* The blocks that values need which strip k - 1 makes and reads. */
static int blocks_of_strip(struct placing *p, int k, struct block *blocks)
{
    const struct strip *strip = &p->plan->strips[k - 1];
    int n = 0;

    for (int i = strip->first; i < strip->first + strip->n; i++) {
        const struct step *t = &p->plan->steps[i];
        if (keeps_raw(p, t))
            add_value(p, t->val, k, blocks, &n);
        for (int out = 0; t->group && out < t->group->n_out; out++)
            add_value(p, t->group->out[out].val, k, blocks, &n);
    }
    return n;
}

/* The blocks that other values need, and raw results. */
static int blocks_of_arena(struct placing *p, struct block *blocks)
{
    int n = 0;

    for (ebm_val v = 1; v < p->s->count; v++)
        add_value(p, v, 0, blocks, &n);
    for (int32_t i = 0; i < p->plan->n_steps; i++)
        if (p->scratch[i].first >= 0)
            add_block(blocks, &n, &p->scratch[i], p->s->count + i, value_bytes(p->g, p->plan->steps[i].val));
    return n;
}

static int place_memory(struct placing *p)
{
    ebm_context *ctx = p->g->ctx;
    struct plan *plan = p->plan;
    struct block *blocks = mem_new(ctx, (size_t)p->s->count + (size_t)plan->n_steps, sizeof *blocks);
    int status = EBM_OK;

    if (!blocks)
        return EBM_ERR_NOMEM;
    extend_owners(p);
    place_kept(p);
    for (int k = 1; status >= 0 && k <= plan->n_strips; k++)
        status = place_blocks(p, blocks, blocks_of_strip(p, k, blocks), SPACE_STRIP, 0,
                              &plan->strips[k - 1].bytes);
    if (status >= 0)
        status = place_blocks(p, blocks, blocks_of_arena(p, blocks), SPACE_ARENA, plan->piece, &plan->arena);
    mem_free(ctx, blocks);
    return status;
}

/* ---- writing the places into the steps ---- */

static struct place place_of(const struct placing *p, ebm_val v)
{
    const struct node *n = node_of(p->g, v);
    int64_t offset = 0;

    if (n->op == OP_FEED)
        return (struct place){ SPACE_FEED, n->attr.feed.name, 0 };
    if (n->op == OP_STATE)
        return (struct place){ SPACE_STATE, n->attr.state.slot,
                               n->attr.state.offset * (int64_t)type_size(n->type) };
    struct place place = p->life[outermost(p, v, &offset)].place;
    place.offset += offset;
    return place;
}

/* A raw result that is not stored is made where an output will lie, if that is
 * float and as large. */
static void find_raw(struct placing *p)
{
    for (int32_t i = 0; i < p->plan->n_steps; i++) {
        struct step *t = &p->plan->steps[i];
        p->scratch[i].first = -1;
        if (t->op == OP_NONE || keeps_raw(p, t))
            continue;
        t->out.index = -1;
        for (int k = 0; k < t->group->n_out && t->out.index < 0; k++)
            if (t->group->out[k].type == EBM_F32 && !handed_on(t->group, k, EW_RAW, 0))
                t->out.index = k;
        if (t->out.index < 0)
            p->scratch[i] = (struct life){ .first = i, .last = i };
    }
}

static int write_places(struct placing *p)
{
    struct plan *plan = p->plan;

    for (int32_t i = 0; i < plan->n_steps; i++) {
        struct step *t = &plan->steps[i];
        for (int k = 0; k < t->n_in; k++)
            t->in[k] = place_of(p, heavy_operand(p, t, k));
        for (int k = 0; t->group && k < t->group->n_in; k++)
            t->group->in[k].place = place_of(p, t->group->in[k].val);
        for (int k = 0; t->group && k < t->group->n_out; k++)
            t->group->out[k].place = place_of(p, t->group->out[k].val);
        if (keeps_raw(p, t))
            t->out = place_of(p, t->val);
        else if (t->op != OP_NONE)
            t->out = p->scratch[i].first >= 0 ? p->scratch[i].place
                   : t->group->out[t->out.index].place;
    }
    for (int i = 0; i < plan->n_copies; i++)
        plan->copies[i].from = place_of(p, plan->copies[i].from.index);
    plan->fetches = mem_new(p->g->ctx, (size_t)p->s->n_outputs, sizeof *plan->fetches);
    if (!plan->fetches)
        return EBM_ERR_NOMEM;
    for (int i = 0; i < p->s->n_outputs; i++) {
        ebm_val v = p->s->outputs[i];
        if (node_of(p->g, v)->op != OP_ASSIGN)
            plan->fetches[plan->n_fetches++] = (struct fetch){ v, place_of(p, memory_root(p->g, v)) };
    }
    return EBM_OK;
}

int place_steps(struct schedule *s, struct plan *plan)
{
    ebm_context *ctx = s->g->ctx;
    struct placing p = { .s = s, .plan = plan, .g = s->g };
    int status = EBM_ERR_NOMEM;

    p.life = mem_new(ctx, (size_t)s->count, sizeof *p.life);
    p.scratch = mem_new(ctx, (size_t)plan->n_steps + 1, sizeof *p.scratch);
    p.strip_of = mem_new(ctx, (size_t)plan->n_steps + 1, sizeof *p.strip_of);
    p.slot_read = mem_new(ctx, (size_t)s->g->store->count + 1, sizeof *p.slot_read);
    if (p.life && p.scratch && p.strip_of && p.slot_read) {
        find_lives(&p);
        find_strips(&p);
        if ((status = place_assigns(&p)) >= 0) {
            place_concats(&p);
            place_on_operands(&p);
            find_raw(&p);
            if ((status = place_memory(&p)) >= 0)
                status = write_places(&p);
        }
    }
    mem_free(ctx, p.slot_read);
    mem_free(ctx, p.strip_of);
    mem_free(ctx, p.scratch);
    mem_free(ctx, p.life);
    return status;
}
