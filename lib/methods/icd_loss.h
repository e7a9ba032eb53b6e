/* icd_loss.h - the loss of improved contrastive divergence, with the term that
 * plain contrastive divergence drops.
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_ICD_LOSS_H
#define EBM_ICD_LOSS_H

#include "nets/icd.h"

/* What is trained: energies [n,scales] of x [n,...] by the weights of a network;
 * icd_energies() with its spec, or any other. */
struct icd_trained {
    ebm_net *net;
    ebm_val (*energies)(ebm_net *net, const void *spec, ebm_val x, ebm_val labels);
    const void *spec;
};
struct icd_trained icd_trained_of(ebm_net *net, const struct icd_spec *spec);

struct icd_loss_spec {
    double step;                 /* of Langevin dynamics */
    double penalty, kl, entropy; /* weights of squared energies, of the energy of
                                  * samples, of the distance to past samples */
    int64_t kl_images;           /* the last two count the first so many samples */
};

/* What goes in.  Pixels are in [0,1]; nothing here receives a gradient. */
struct icd_loss_in {
    ebm_val data;                /* [n,h,w,c] */
    ebm_val noised;              /* chains [n,h,w,c], the noise of the last step added */
    ebm_val labels;              /* [n,l] of both, or 0 */
    ebm_val past;                /* past samples [m,h,w,c], or 0: no entropy */
    ebm_val active;              /* 1 where the entropy counts, else 0; a scalar, or 0: it does */
};

struct icd_loss {
    ebm_val ends;                /* samples: the chains after their last step */
    ebm_val data, samples;       /* mean energies, summed over the scales */
    ebm_val cd;                  /* contrastive divergence and penalty */
    ebm_val kl;                  /* what reaches the weights through the last step; 0: none */
    ebm_val entropy;             /* mean log distance; 0: none */
};

/* The noised chains after the gradient of the step: clamp(y - step dE/dy, 0, 1).
 * Gradients flow into the weights through dE/dy. */
ebm_val icd_end(const struct icd_trained *t, ebm_val y, ebm_val labels, ebm_val step);

/* The loss is cd + kl. */
struct icd_loss icd_loss(const struct icd_trained *t, const struct icd_loss_spec *l, const struct icd_loss_in *in);

/* Mean over samples of the log of the Euclidean distance to the nearest of `past`. */
ebm_val icd_log_distance(ebm_graph *g, ebm_val samples, ebm_val past);

#endif
