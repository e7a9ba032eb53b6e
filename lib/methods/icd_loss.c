/* icd_loss.c - see icd_loss.h.
 *
 * SPDX-License-Identifier: ISC
 *
 *   x-   = clamp(y - step dE/dy, 0, 1)                y: chains, noise added
 *   cd   = mean E(x+) - mean E(x-) + penalty (mean E(x+)^2 + mean E(x-)^2)
 *   kl   = w1 mean E'(xhat) - w2 mean log NN(xhat)    xhat: x- of some images
 *
 * In cd, x- is a constant.  In kl, the weights of E' are, and what is left is the
 * way from the weights through dE/dy into xhat: a second derivative.  Means are
 * over images and scales; a Langevin step follows the sum over scales.
 * Source: Du, Li, Tenenbaum and Mordatch 2021. */
#include "build.h"
#include "icd_loss.h"

static ebm_val energies_of_spec(ebm_net *net, const void *spec, ebm_val x, ebm_val labels)
{
    return icd_energies(net, spec, x, labels);
}

struct icd_trained icd_trained_of(ebm_net *net, const struct icd_spec *spec)
{
    return (struct icd_trained){ net, energies_of_spec, spec };
}

ebm_val icd_end(const struct icd_trained *t, ebm_val y, ebm_val labels, ebm_val step)
{
    ebm_graph *g = t->net->graph;
    ebm_val dy = ebm_grad(g, ebm_sum_all(g, t->energies(t->net, t->spec, y, labels)), y);

    return ebm_clamp(g, ebm_sub(g, y, ebm_mul(g, step, dy)), 0, 1);
}

/* Rows begin ... begin + count - 1. */
static ebm_val rows(ebm_graph *g, ebm_val a, int64_t begin, int64_t count)
{
    int64_t n[EBM_MAX_RANK], from[EBM_MAX_RANK] = { begin };

    if (ebm_shape(g, a, n) < 1)
        return 0;
    n[0] = count;
    return ebm_slice(g, a, from, n, NULL);
}

static ebm_val flat(ebm_graph *g, ebm_val a)
{
    int64_t n[EBM_MAX_RANK];

    return ebm_shape(g, a, n) < 1 ? 0 : ebm_reshape(g, a, 2, (int64_t[]){ n[0], -1 });
}

static ebm_val square_norms(ebm_graph *g, ebm_val a)
{
    return ebm_sum(g, ebm_square(g, a), 1u << 1);
}

/* Which is nearest is found by |a|^2 + |b|^2 - 2 ab, one matrix product; how far
 * it is, by the difference, as the former cancels.  Of several at the same
 * distance the mean is taken. */
ebm_val icd_log_distance(ebm_graph *g, ebm_val samples, ebm_val past)
{
    const double least = 1e-20;          /* of a squared distance: log 0 has no gradient */
    ebm_val x = flat(g, samples), b = flat(g, past), fixed = ebm_stop(g, x);
    ebm_val across = ebm_transpose(g, square_norms(g, b), (const int[]){ 1, 0 });
    ebm_val d = ebm_sub(g, ebm_add(g, square_norms(g, fixed), across),
                        ebm_scale(g, build_matmul(g, fixed, b, false, true, true), 2));
    ebm_val nearest = ebm_equal(g, ebm_neg(g, d), ebm_amax(g, ebm_neg(g, d), 1u << 1));

    nearest = ebm_div(g, nearest, ebm_sum(g, nearest, 1u << 1));
    ebm_val apart = ebm_sub(g, x, ebm_stop(g, build_matmul(g, nearest, b, false, false, true)));
    ebm_val square = square_norms(g, apart);
    return ebm_scale(g, ebm_mean_all(g, ebm_log(g, ebm_max(g, ebm_fill(g, square, least), square))), 0.5);
}

static ebm_val mean_square(ebm_graph *g, ebm_val a)
{
    return ebm_mean_all(g, ebm_square(g, a));
}

/* Energies of two halves in one pass: the larger the batch, the better the
 * device is used. */
static ebm_val both_energies(const struct icd_trained *t, const struct icd_loss_in *in,
                             ebm_val ends)
{
    ebm_graph *g = t->net->graph;
    ebm_val x = ebm_concat(g, 0, 2, (ebm_val[]){ in->data, ends });
    ebm_val labels = in->labels ? ebm_concat(g, 0, 2, (ebm_val[]){ in->labels, in->labels }) : 0;

    return t->energies(t->net, t->spec, x, labels);
}

static ebm_val kl_terms(const struct icd_trained *t, const struct icd_loss_spec *l,
                        const struct icd_loss_in *in, ebm_val xhat, ebm_val labels, ebm_val *entropy)
{
    ebm_graph *g = t->net->graph;
    ebm_net frozen = *t->net;
    ebm_val kl = ebm_const(g, 0);

    frozen.frozen = true;
    frozen.effects = NULL;               /* spectral norm learns in the other passes */
    if (l->kl != 0)
        kl = ebm_scale(g, ebm_mean_all(g, t->energies(&frozen, t->spec, xhat, labels)), l->kl);
    if (l->entropy != 0 && in->past) {
        *entropy = icd_log_distance(g, xhat, in->past);
        ebm_val term = ebm_scale(g, *entropy, l->entropy);
        kl = ebm_sub(g, kl, in->active ? ebm_mul(g, in->active, term) : term);
    }
    return kl;
}

struct icd_loss icd_loss(const struct icd_trained *t, const struct icd_loss_spec *l, const struct icd_loss_in *in)
{
    ebm_graph *g = t->net->graph;
    struct icd_loss loss = { 0 };
    int64_t n[EBM_MAX_RANK];
    ebm_val step = ebm_const(g, l->step);
    bool wanted = l->kl_images > 0 && (l->kl != 0 || (l->entropy != 0 && in->past));

    if (ebm_shape(g, in->noised, n) != 4)
        return loss;
    int64_t count = wanted && l->kl_images < n[0] ? l->kl_images : n[0];
    ebm_val labels = in->labels ? rows(g, in->labels, 0, count) : 0;
    ebm_val xhat = icd_end(t, rows(g, in->noised, 0, count), labels, step);
    loss.ends = ebm_stop(g, xhat);
    if (count < n[0]) {                  /* the others take no second derivative */
        ebm_val others = in->labels ? rows(g, in->labels, count, n[0] - count) : 0;
        ebm_val rest = icd_end(t, rows(g, in->noised, count, n[0] - count), others, step);
        loss.ends = ebm_concat(g, 0, 2, (ebm_val[]){ loss.ends, ebm_stop(g, rest) });
    }

    ebm_val e = both_energies(t, in, loss.ends);
    ebm_val data = rows(g, e, 0, n[0]), samples = rows(g, e, n[0], n[0]);
    loss.cd = ebm_sub(g, ebm_mean_all(g, data), ebm_mean_all(g, samples));
    if (l->penalty != 0)
        loss.cd = ebm_add(g, loss.cd, ebm_scale(g, ebm_add(g, mean_square(g, data),
                                                           mean_square(g, samples)), l->penalty));
    loss.data = ebm_mean_all(g, ebm_sum(g, data, 1u << 1));
    loss.samples = ebm_mean_all(g, ebm_sum(g, samples, 1u << 1));
    if (wanted)
        loss.kl = kl_terms(t, l, in, xhat, labels, &loss.entropy);
    return loss;
}
