/* icd.h - the energies of improved contrastive divergence: residual networks at
 * one or three scales of an image.
 *
 * SPDX-License-Identifier: ISC
 *
 * Du, Li, Tenenbaum and Mordatch 2021.  Weights have the names and, but for the
 * layout of filters, the shapes that the authors' checkpoints have. */
#ifndef EBM_ICD_H
#define EBM_ICD_H

#include "graph.h"

enum icd_size {
    ICD_28,              /* one scale, three blocks: MNIST */
    ICD_32,              /* CIFAR-10 */
    ICD_128              /* CelebA-HQ, LSUN, ImageNet */
};

struct icd_spec {
    enum icd_size size;
    int64_t width;               /* channels of the first blocks; 64 and 128 are usual */
    int64_t labels;              /* elements of a label vector; 0: no label maps */
    int64_t label_width;         /* of the label network's four layers; 0: label
                                  * vectors go to the maps of the blocks directly */
    bool one_scale;              /* the large scale alone */
    bool no_attention, no_norm;
    bool spectral_norm;          /* in place of standardised weights: of all blocks,
                                  * in ICD_128 of the large scale's */
    bool published;              /* as the weights of 2021 want it: smaller scales
                                  * by blurring, one learned weighted sum of them */
};

/* Energies [n,scales] of x [n,h,w,c], pixels in [0,1]: small, middle, large; one
 * column for one scale and for `published`.  labels: [n,spec->labels], or 0,
 * and then the label maps are not used, but are there. */
ebm_val icd_energies(ebm_net *net, const struct icd_spec *spec, ebm_val x, ebm_val labels);

/* Every second row and column of x, blurred by [1 2 1] both ways, with its edges
 * reflected. */
ebm_val icd_blur_down(ebm_graph *g, ebm_val x);
/* The mean of 3x3 pixels around every second one, zeros beyond the edge. */
ebm_val icd_pool(ebm_graph *g, ebm_val x);

#endif
