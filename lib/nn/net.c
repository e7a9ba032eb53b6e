/* net.c - where the weights of a network are.
 *
 * SPDX-License-Identifier: ISC
 *
 *   region   scope             layer   weight
 *   energy / block1.shortcut . conv1 . weight      a parameter: a part of the region
 *   energy / block1.shortcut . conv1 . weight_u    a state of the store
 *
 * A weight is read from the region, or from a vector that stands for it (its
 * moving average), at the same offset. */
#include <stdio.h>
#include <string.h>
#include "net.h"
#include "store.h"

void ebm_output(ebm_graph *g, ebm_outputs *outputs, ebm_val a)
{
    if (g->status < 0)
        return;
    if (a <= 0 || a >= g->count) {
        graph_fail(g, EBM_ERR_ARG, "an output is no value of this graph");
        return;
    }
    const struct node *n = node_of(g, a);
    for (int i = 0; i < outputs->count; i++) {
        const struct node *o = node_of(g, outputs->list[i]);
        if (outputs->list[i] == a)
            return;
        if (n->op == OP_ASSIGN && o->op == OP_ASSIGN
            && n->attr.state.slot == o->attr.state.slot) {
            graph_fail(g, EBM_ERR_ARG, "'%s' is given two contents in one program",
                       g->store->tensors[n->attr.state.slot].name);
            return;
        }
    }
    if (outputs->count == EBM_MAX_OUTPUTS) {
        graph_fail(g, EBM_ERR_ARG, "a program has at most %d outputs and effects",
                   EBM_MAX_OUTPUTS);
        return;
    }
    outputs->list[outputs->count++] = a;
}

void ebm_net_enter(ebm_net *net, const char *name)
{
    size_t used = strlen(net->scope), room = sizeof net->scope - used;

    if (strchr(name, '.')) {     /* leaving would find its own beginning there */
        graph_fail(net->graph, EBM_ERR_ARG, "the scope '%s' has a dot in its name", name);
        return;
    }
    if ((size_t)snprintf(net->scope + used, room, "%s.", name) >= room) {
        net->scope[used] = '\0';
        graph_fail(net->graph, EBM_ERR_ARG, "the name '%s%s.' is longer than %zu characters",
                   net->scope, name, sizeof net->scope - 1);
    }
}

void ebm_net_leave(ebm_net *net)
{
    size_t used = strlen(net->scope);

    if (used > 0)
        net->scope[used - 1] = '\0';
    char *dot = strrchr(net->scope, '.');
    if (dot)
        dot[1] = '\0';
    else
        net->scope[0] = '\0';
}

bool net_name(ebm_net *net, const char *name, const char *suffix, char text[NET_NAME])
{
    int n = snprintf(text, NET_NAME, suffix ? "%s%s.%s" : "%s%s", net->scope, name, suffix);

    if (n < 0 || n >= NET_NAME) {
        graph_fail(net->graph, EBM_ERR_ARG, "the name '%s%s' is too long", net->scope, name);
        return false;
    }
    return net->graph->status >= 0;
}

/* The part of `vector` that stands for the parameter which `param` reads. */
static ebm_val stand_in(ebm_graph *g, ebm_val vector, ebm_val param)
{
    if (g->status < 0)
        return 0;
    struct shape shape = node_of(g, param)->shape;
    int64_t offset = node_of(g, param)->attr.state.offset, count = shape_count(&shape);
    const struct node *v = node_of(g, vector);

    if (v->op == OP_STATE && v->shape.rank == 1
        && offset + count <= v->shape.n[0]) {      /* a window needs no copy */
        union attr attr = v->attr;
        attr.state.offset += offset;
        return graph_node(g, OP_STATE, EBM_F32, &shape, 0, NULL, &attr);
    }
    return ebm_reshape(g, ebm_slice(g, vector, &offset, &count, NULL), shape.rank, shape.n);
}

ebm_val net_param(ebm_net *net, const char *name, const char *suffix,
                  int rank, const int64_t *shape, ebm_init init)
{
    char full[NET_NAME];

    if (!net_name(net, name, suffix, full))
        return 0;
    ebm_val w = ebm_param(net->graph, net->region, full, rank, shape, init);
    if (net->weights)
        w = stand_in(net->graph, net->weights, w);
    return net->frozen ? ebm_stop(net->graph, w) : w;
}

ebm_val net_state(ebm_net *net, const char *name, const char *suffix,
                  int rank, const int64_t *shape, ebm_init init)
{
    char within[NET_NAME], full[2 * NET_NAME];

    if (!net_name(net, name, suffix, within))
        return 0;
    int n = snprintf(full, sizeof full, "%s/%s", net->region, within);
    if (n < 0 || (size_t)n >= sizeof full)
        return graph_fail(net->graph, EBM_ERR_ARG, "the region's name '%s' is too long",
                          net->region);
    return ebm_state(net->graph, full, EBM_F32, rank, shape, init);
}

ebm_val ebm_net_param(ebm_net *net, const char *name, int rank, const int64_t *shape,
                      ebm_init init)
{
    return net_param(net, name, NULL, rank, shape, init);
}

ebm_val ebm_net_state(ebm_net *net, const char *name, int rank, const int64_t *shape,
                      ebm_init init)
{
    return net_state(net, name, NULL, rank, shape, init);
}

bool net_learns(const ebm_net *net)
{
    return net->training && net->effects;
}

void net_assign(ebm_net *net, ebm_val state, ebm_val a)
{
    ebm_output(net->graph, net->effects, ebm_assign(net->graph, state, ebm_stop(net->graph, a)));
}

int net_shape(ebm_net *net, const char *layer, ebm_val x, int least, int most,
              int64_t n[EBM_MAX_RANK])
{
    int rank = ebm_shape(net->graph, x, n);

    if (net->graph->status < 0)
        return 0;
    if (rank < least || rank > most) {
        char t[SHAPE_TEXT];
        graph_fail(net->graph, EBM_ERR_ARG, "%s%s: its input %s should have rank %d%s",
                   net->scope, layer, rank < 0 ? "(none)" : shape_text(&node_of(net->graph, x)->shape, t),
                   least, most > least ? " or more" : "");
        return 0;
    }
    return rank;
}
