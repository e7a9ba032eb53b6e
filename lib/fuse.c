/* fuse.c - which values are stored, which steps make them, in which order.
 *
 * SPDX-License-Identifier: ISC
 *
 * Elementwise values are formulas of their leaves.  A few must be stored (an
 * operand of a convolution, a fetched value); these are sinks.  Everything else
 * is computed in registers, again in each sink that needs it, unless that reads
 * more memory than storing it would:
 *
 *     conv h --+-- s = sigmoid h --+-- y = h s  (sink, operand of the next conv)
 *              |                   |
 *              +-------------------+-- dh = dy s (1 + h (1 - s))  (sink)
 *
 * h is stored; s is computed twice and never stored.
 *
 * Sinks of one shape join: behind the heavy operation whose result they read
 * (its epilogue), else with a group that makes or reads one of their leaves.
 * Joining must not close a cycle: no leaf of the newcomer may depend on the
 * step it joins, other than through registers (order.c tells).  Nor may it make
 * the step wait for long: what reads the step's other results would wait, too, and
 * what those had been made of would lie in memory. */
#include <string.h>
#include "schedule.h"

/* A formula beyond these is cut by storing its largest operand. */
enum { MAX_FORMULA = 40, MAX_LEAVES = 12 };

/* Drafts that a step may be put off by.  Within a network forward and back this
 * saves memory, and many more mean another part of the batch. */
enum { LONGEST_WAIT = 2048 };

ebm_val content(const ebm_graph *g, ebm_val v)
{
    while (node_of(g, v)->op == OP_STOP)
        v = node_of(g, v)->in[0];
    return v;
}

ebm_val memory_root(const ebm_graph *g, ebm_val v)
{
    while (node_of(g, v)->op == OP_STOP || node_of(g, v)->op == OP_RESHAPE)
        v = node_of(g, v)->in[0];
    return v;
}

bool is_elementwise(const ebm_graph *g, ebm_val v)
{
    enum op op = node_of(g, v)->op;

    return (op_info[op].class == EW && op != OP_STOP) || op == OP_CONST || op == OP_IOTA;
}

bool takes_epilogue(enum op op)
{
    return op == OP_CONV || op == OP_CONV_DATA || op == OP_MATMUL;
}

/* What an operand of an elementwise value reads from memory; 0 if nothing: a
 * number, an index or another formula in registers. */
static ebm_val leaf_root(const struct schedule *s, ebm_val v)
{
    const struct node *n = node_of(s->g, v);

    if (n->op == OP_CONST || n->op == OP_IOTA)
        return 0;
    if (is_elementwise(s->g, v))
        return s->mark[v] & MARK_STORED ? v : 0;
    if (n->op == OP_BROADCAST) {
        ebm_val from = content(s->g, n->in[0]);
        if (node_of(s->g, from)->op == OP_IOTA)
            return 0;                 /* an index along a kept axis */
        return memory_root(s->g, from);
    }
    return memory_root(s->g, v);
}

/* ---- what lives, what is stored ---- */

/* v is read from memory, as a whole. */
static void need(struct schedule *s, ebm_val v)
{
    v = memory_root(s->g, v);
    s->mark[v] |= MARK_LIVE;
    if (is_elementwise(s->g, v))
        s->mark[v] |= MARK_STORED;
}

static void need_operands(struct schedule *s, ebm_val v)
{
    const struct node *n = node_of(s->g, v);

    for (int i = 0; i < n->n_in; i++) {
        ebm_val o = operand(n, i);
        if (!is_elementwise(s->g, v)) {
            need(s, o);
            continue;
        }
        o = content(s->g, o);
        ebm_val root = leaf_root(s, o);
        if (root && root != o)
            need(s, root);            /* through BROADCAST or RESHAPE */
        else
            s->mark[o] |= MARK_LIVE;
    }
}

/* Readers have larger indices: one sweep down finds all. */
static void mark_live(struct schedule *s)
{
    for (int32_t i = 0; i < s->g->n_stored; i++)
        if (is_elementwise(s->g, s->g->stored[i]))
            s->mark[s->g->stored[i]] |= MARK_STORED | MARK_ALONE;
    for (int i = 0; i < s->n_outputs; i++) {
        const struct node *n = node_of(s->g, s->outputs[i]);
        need(s, n->op == OP_ASSIGN ? n->in[0] : s->outputs[i]);
    }
    for (ebm_val v = s->count - 1; v > 0; v--)
        if (s->mark[v] & MARK_LIVE)
            need_operands(s, v);
}

/* ---- storing what costs more to compute again ---- */

/* By value: sinks whose formulas contain it, as one sink or MANY. */
enum { MANY = -1 };

static void join_sinks(int32_t *sinks, ebm_val v, int32_t sink)
{
    sinks[v] = sinks[v] == 0 || sinks[v] == sink ? sink : MANY;
}

static void find_sinks(const struct schedule *s, int32_t *sinks)
{
    for (ebm_val v = s->count - 1; v > 0; v--) {
        if (!(s->mark[v] & MARK_LIVE) || !is_elementwise(s->g, v))
            continue;
        const struct node *n = node_of(s->g, v);
        int32_t sink = s->mark[v] & MARK_STORED ? v : sinks[v];
        for (int i = 0; i < n->n_in; i++) {
            ebm_val o = content(s->g, n->in[i]);
            if (is_elementwise(s->g, o))
                join_sinks(sinks, o, sink);
        }
    }
}

/* Size of a formula and the whole arrays it reads, counted with repetition. */
struct cost { int32_t nodes, arrays; };

static struct cost operand_cost(const struct schedule *s, const struct cost *cost,
                                ebm_val v, ebm_val o)
{
    ebm_val root = leaf_root(s, o);

    if (!root)
        return is_elementwise(s->g, o) && node_of(s->g, o)->n_in ? cost[o] : (struct cost){ 1, 0 };
    bool whole = shape_count(&node_of(s->g, root)->shape) == shape_count(&node_of(s->g, v)->shape);
    return (struct cost){ 1, whole };
}

static void store_costly(struct schedule *s, const int32_t *sinks, struct cost *cost)
{
    for (ebm_val v = 1; v < s->count; v++) {
        const struct node *n = node_of(s->g, v);
        if (!(s->mark[v] & MARK_LIVE) || !is_elementwise(s->g, v) || n->n_in == 0)
            continue;
        for (;;) {
            struct cost sum = { 1, 0 };
            ebm_val largest = 0;
            for (int i = 0; i < n->n_in; i++) {
                ebm_val o = content(s->g, n->in[i]);
                struct cost c = operand_cost(s, cost, v, o);
                sum.nodes += c.nodes;
                sum.arrays += c.arrays;
                if (!leaf_root(s, o) && is_elementwise(s->g, o) && node_of(s->g, o)->n_in
                    && (!largest || cost[largest].nodes < c.nodes))
                    largest = o;
            }
            cost[v] = sum;
            if (!largest || (sum.nodes <= MAX_FORMULA && sum.arrays <= MAX_LEAVES))
                break;
            s->mark[largest] |= MARK_STORED;
        }
        if (sinks[v] == MANY && cost[v].arrays > 1)
            s->mark[v] |= MARK_STORED;
    }
}

/* ---- leaves ---- */

static bool walk(struct schedule *s, ebm_val v, leaf_fn *fn, void *user)
{
    const struct node *n = node_of(s->g, v);

    for (int i = 0; i < n->n_in; i++) {
        ebm_val o = content(s->g, n->in[i]);
        if (s->stamp[o] == s->epoch)
            continue;
        s->stamp[o] = s->epoch;
        ebm_val root = leaf_root(s, o);
        if (root ? !fn(user, o, root) : is_elementwise(s->g, o) && !walk(s, o, fn, user))
            return false;
    }
    return true;
}

/* Recursion is bounded by MAX_FORMULA. */
bool walk_leaves(struct schedule *s, ebm_val v, leaf_fn *fn, void *user)
{
    s->epoch++;
    return walk(s, v, fn, user);
}

/* ---- drafts ---- */

struct joining {
    struct schedule *s;
    int32_t newcomer, host;
};

/* A leaf of the newcomer must be ready before the host starts, or be made by
 * the host in a register: a sink, or the raw result, read element by element. */
static bool leaf_allows(void *user, ebm_val leaf, ebm_val root)
{
    const struct joining *j = user;
    const struct schedule *s = j->s;
    int32_t maker = s->maker[root];

    if (maker < 0 || maker == j->newcomer)
        return true;
    if (maker != j->host)
        return s->drafts[maker].latest <= s->drafts[j->host].latest + LONGEST_WAIT
            && !leads_to(j->s, j->host, maker);
    return node_of(s->g, leaf)->op != OP_BROADCAST
        && (is_elementwise(s->g, root) ? leaf == root : true);
}

static ebm_val first_sink(const struct draft *d)
{
    return d->n_sinks ? d->sinks[0] : 0;
}

static bool may_join(struct schedule *s, int32_t newcomer, int32_t host)
{
    struct draft *h = &s->drafts[host], *d = &s->drafts[newcomer];
    const struct shape *shape = &node_of(s->g, d->sinks[0])->shape;
    ebm_val sinks[EW_MAX_OUTPUTS];

    if (h->merged || h->n_sinks + d->n_sinks > EW_MAX_OUTPUTS - 1)
        return false;
    if ((s->mark[d->sinks[0]] | s->mark[first_sink(h)]) & MARK_ALONE)
        return false;
    if (h->heavy && (!takes_epilogue(node_of(s->g, h->heavy)->op)
                     || shape_count(&node_of(s->g, h->heavy)->shape) != shape_count(shape)))
        return false;
    if (first_sink(h) && !shape_equal(&node_of(s->g, first_sink(h))->shape, shape))
        return false;
    struct joining j = { s, newcomer, host };
    for (int i = 0; i < d->n_sinks; i++)
        if (!walk_leaves(s, d->sinks[i], leaf_allows, &j))
            return false;
    memcpy(sinks, h->sinks, (size_t)h->n_sinks * sizeof *sinks);
    memcpy(sinks + h->n_sinks, d->sinks, (size_t)d->n_sinks * sizeof *sinks);
    return group_fits(s, h->heavy, h->n_sinks + d->n_sinks, sinks);
}

static void join(struct schedule *s, int32_t newcomer, int32_t host)
{
    struct draft *h = &s->drafts[host], *d = &s->drafts[newcomer];

    for (int i = 0; i < d->n_sinks; i++) {
        s->maker[d->sinks[i]] = host;
        h->sinks[h->n_sinks++] = d->sinks[i];
    }
    d->merged = true;
}

/* Hosts worth trying: makers of the leaves, then groups that read one too. */
struct candidates {
    struct schedule *s;
    const int32_t *reader;   /* by value: the last draft that read it, or -1 */
    int n;
    int32_t host[2 * EW_MAX_INPUTS];
};

static bool add_candidate(struct candidates *c, int32_t host)
{
    for (int i = 0; i < c->n; i++)
        if (c->host[i] == host)
            return true;
    if (host >= 0 && c->n < (int)COUNT(c->host))
        c->host[c->n++] = host;
    return true;
}

static bool leaf_maker(void *user, ebm_val leaf, ebm_val root)
{
    struct candidates *c = user;

    return node_of(c->s->g, leaf)->op == OP_BROADCAST || add_candidate(c, c->s->maker[root]);
}

static bool leaf_reader(void *user, ebm_val leaf, ebm_val root)
{
    struct candidates *c = user;

    return node_of(c->s->g, leaf)->op == OP_BROADCAST || add_candidate(c, c->reader[root]);
}

/* The draft `by` reads what others make. */
struct reading_made { struct schedule *s; int32_t by; int status; };

static bool note_maker(void *user, ebm_val leaf, ebm_val root)
{
    struct reading_made *r = user;
    int32_t maker = r->s->maker[root];

    (void)leaf;
    if (maker < 0 || maker == r->by)
        return true;
    struct draft *d = &r->s->drafts[r->by], *m = &r->s->drafts[maker];
    if (d->latest < m->latest)
        d->latest = m->latest;
    r->status = must_follow(r->s, r->by, maker);
    return r->status >= 0;
}

struct reading { struct schedule *s; int32_t *reader; int32_t by; };

static bool note_reader(void *user, ebm_val leaf, ebm_val root)
{
    struct reading *r = user;

    if (node_of(r->s->g, leaf)->op != OP_BROADCAST)
        r->reader[root] = r->by;
    return true;
}

/* One draft for each heavy operation and each sink, in index order; a sink
 * joins the first host that takes it. */
static int make_drafts(struct schedule *s, int32_t *reader)
{
    for (ebm_val v = 1; v < s->count; v++)
        reader[v] = -1;
    for (ebm_val v = 1; v < s->count; v++) {
        const struct node *n = node_of(s->g, v);
        int32_t me = s->maker[v];
        if (me < 0)
            continue;
        struct draft *d = &s->drafts[me];
        struct reading_made made = { s, me, EBM_OK };
        d->latest = me;
        if (!is_elementwise(s->g, v)) {
            d->heavy = v;
            for (int i = 0; i < n->n_in; i++) {
                ebm_val root = memory_root(s->g, operand(n, i));
                note_maker(&made, root, root);
            }
            if (made.status < 0)
                return made.status;
            continue;
        }
        d->n_sinks = 1;
        d->sinks[0] = v;
        struct candidates c = { s, reader, 0, { 0 } };
        walk_leaves(s, v, leaf_maker, &c);
        walk_leaves(s, v, leaf_reader, &c);
        for (int i = 0; i < c.n; i++)
            if (c.host[i] != me && may_join(s, me, c.host[i])) {
                join(s, me, c.host[i]);
                break;
            }
        made.by = s->maker[v];
        walk_leaves(s, v, note_maker, &made);
        if (made.status < 0)
            return made.status;
        struct reading r = { s, reader, s->maker[v] };
        walk_leaves(s, v, note_reader, &r);
    }
    return EBM_OK;
}

/* Number drafts: one for each value that a step makes. */
static int count_drafts(struct schedule *s)
{
    for (ebm_val v = 1; v < s->count; v++) {
        const struct node *n = node_of(s->g, v);
        bool made = s->mark[v] & MARK_LIVE;
        if (is_elementwise(s->g, v))
            made = made && s->mark[v] & MARK_STORED;
        else
            made = made && n->op != OP_FEED && n->op != OP_STATE && n->op != OP_RESHAPE
                && n->op != OP_STOP && n->op != OP_ASSIGN;
        s->maker[v] = made ? s->n_drafts++ : -1;
    }
    s->drafts = mem_new(s->g->ctx, (size_t)s->n_drafts, sizeof *s->drafts);
    s->order = mem_new(s->g->ctx, (size_t)s->n_drafts, sizeof *s->order);
    return s->drafts && s->order ? order_new(s) : EBM_ERR_NOMEM;
}

/* A stored value that only its own step reads needs no memory after all. */
struct usage { struct schedule *s; int32_t by; unsigned char *outside; };

static bool note_outside(void *user, ebm_val leaf, ebm_val root)
{
    struct usage *u = user;

    (void)leaf;
    if (u->s->maker[root] != u->by)
        u->outside[root] = 1;
    return true;
}

static void drop_inner(struct schedule *s, unsigned char *outside)
{
    for (int32_t i = 0; i < s->n_drafts; i++) {
        struct draft *d = &s->drafts[i];
        struct usage u = { s, i, outside };
        if (d->merged)
            continue;
        for (int k = 0; k < d->n_sinks; k++)
            walk_leaves(s, d->sinks[k], note_outside, &u);
        if (d->heavy) {
            const struct node *n = node_of(s->g, d->heavy);
            for (int k = 0; k < n->n_in; k++)
                outside[memory_root(s->g, operand(n, k))] = 1;
        }
    }
    for (int i = 0; i < s->n_outputs; i++) {
        const struct node *n = node_of(s->g, s->outputs[i]);
        outside[memory_root(s->g, n->op == OP_ASSIGN ? n->in[0] : s->outputs[i])] = 1;
    }
    for (int32_t i = 0; i < s->n_drafts; i++) {
        struct draft *d = &s->drafts[i];
        for (int k = 0; k < d->n_sinks; k++)
            d->dropped[k] = !outside[d->sinks[k]];
        d->keep_raw = d->heavy && (outside[d->heavy] || d->n_sinks == 0);
    }
}

int schedule_new(const ebm_graph *g, int n, const ebm_val *outputs, struct schedule **schedule)
{
    ebm_context *ctx = g->ctx;
    size_t count = (size_t)g->count;
    struct schedule *s = mem_new(ctx, 1, sizeof *s);
    int32_t *sinks = mem_new(ctx, count, sizeof *sinks);
    struct cost *cost = mem_new(ctx, count, sizeof *cost);
    unsigned char *outside = mem_new(ctx, count, 1);
    int status = EBM_ERR_NOMEM;

    *schedule = s;
    if (s) {
        s->g = g;
        s->n_outputs = n;
        s->outputs = outputs;
        s->count = g->count;
        s->mark = mem_new(ctx, count, 1);
        s->maker = mem_new(ctx, count, sizeof *s->maker);
        s->stamp = mem_new(ctx, count, sizeof *s->stamp);
    }
    if (s && sinks && cost && outside && s->mark && s->maker && s->stamp) {
        mark_live(s);
        find_sinks(s, sinks);
        store_costly(s, sinks, cost);
        if ((status = count_drafts(s)) >= 0 && (status = make_drafts(s, sinks)) >= 0) {
            drop_inner(s, outside);
            status = order_drafts(s);
        }
    }
    mem_free(ctx, outside);
    mem_free(ctx, cost);
    mem_free(ctx, sinks);
    if (status < 0) {
        schedule_free(s);
        *schedule = NULL;
    }
    return status;
}

void schedule_free(struct schedule *s)
{
    if (!s)
        return;
    ebm_context *ctx = s->g->ctx;
    order_free(s);
    mem_free(ctx, s->drafts);
    mem_free(ctx, s->order);
    mem_free(ctx, s->stamp);
    mem_free(ctx, s->maker);
    mem_free(ctx, s->mark);
    mem_free(ctx, s);
}
