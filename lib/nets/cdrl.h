/* cdrl.h - the networks of diffusion recovery likelihood, plain (DRL: Gao et al.
 * 2021) and cooperative (CDRL: Zhu et al. 2024).
 *
 * SPDX-License-Identifier: ISC
 *
 * A residual network gives the log density of a noised image; the initializer, a
 * U-Net, guesses the image of the level below.  Both are told the level by a
 * sinusoidal embedding, and perhaps a label.
 *
 * Weights have the names that the authors' checkpoints have, where CDRL's say
 *
 *   weight_orig             for a weight with vectors weight_u and weight_v
 *   [out,in,r,s]            for filters [out,r,s,in]; weight_v as well
 *   [1,out,1,1]             for g [out]
 *   [out,in,1,1]            for to_qkv, to_out and res_conv [out,in]
 *
 * DRL's have W [r,s,in,out] or [in,out], b, g, and u [1,out].
 *
 * x may also be points [n,d]: then these are the networks of the authors' toy,
 * with linear maps for convolutions, without pooling and attention. */
#ifndef EBM_CDRL_H
#define EBM_CDRL_H

#include "graph.h"

enum { CDRL_STAGES = 8, CDRL_BLOCKS = 64 };      /* at most */

/* Published, both for CIFAR-10 and ImageNet 32x32: width 128, blocks 8,
 * multipliers 1 2 2 2; the toy: width 128, blocks 1, multipliers 1 2 2 2.
 * DRL: multipliers 1 2 2 2 for images of 32, 1 2 2 2 4 of 64, 1 2 2 2 4 4 of
 * 128, 1 1 2 2 2 4 4 of 256. */
struct cdrl_energy_spec {
    int64_t width;               /* channels by a multiplier of 1, and size of the
                                  * embedding: even, 4 or more */
    int blocks;                  /* of each stage */
    int multipliers[CDRL_STAGES];/* of each stage, 0 ends; from one to the next the
                                  * image is halved */
    int64_t labels;              /* classes; 0: it is told none */
    bool swish;                  /* instead of leaky ReLU of slope 0.2 */
    bool quadratic;              /* |x|^2 / 2 is subtracted */
    bool drl;                    /* DRL's variant */
    int calls;                   /* DRL: power iterations up to this call; 0: one */
    ebm_val average, steps;      /* DRL, where effects are set: part of the way to the new
                                  * vectors that averages of them, u.ema, go (0: there
                                  * are none); they start where the vectors are when
                                  * steps is 0 */
    unsigned attention;          /* DRL: bit i: after the blocks of stage i; published
                                  * networks have none */
};

/* N [n], a multiple of the log density of x up to a constant: N = s^2 log p, s
 * the level's step size.  High for what looks like data; the energy is -N / s^2.
 *
 * level   [n], or [1] for all.  CDRL: the log signal-to-noise ratio of the level
 *         to which x belongs; DRL: its number
 * labels  [n] or [1], any type: 1 ... spec->labels, 0 for none.  0 is passed
 *         where the spec has no labels, and only there
 *
 * Spectral norm of all maps but the last.  CDRL iterates once where both
 * net->training and net->effects are set (all calls of a program share this
 * iteration) and else takes the stored vectors as they are.  To iterate without
 * running the network, compile the effects alone.
 * DRL iterates at every call, in sampling too, and stores the result where
 * net->effects is set.  Two calls in a program follow each other if the first
 * has no effects and the second has calls = 2. */
ebm_val cdrl_log_density(ebm_net *net, const struct cdrl_energy_spec *spec,
                         ebm_val x, ebm_val level, ebm_val labels);

/* Published for CIFAR-10: width 64, stages 3, blocks 3, attention 6, dropout
 * 0.1; for ImageNet 32x32 the same with blocks 2; the toy: width 64, blocks 1. */
struct cdrl_proposal_spec {
    int64_t width;               /* channels; even, 4 or more */
    int stages;                  /* resolutions; points: not used */
    int blocks;                  /* of each stage going down; one more going up */
    unsigned attention;          /* bit i: after the blocks of stage i; between down
                                  * and up there always is */
    int groups;                  /* of normalisations; 0: 32 */
    int64_t labels;              /* classes; 0: it is told none */
    double dropout;
};

/* The mean of the proposal for x [n,h,w,c] (h and w divisible by 2^(stages-1)) or
 * [n,d], in the shape of x: it starts as x plus a bias by channel.
 *
 * level, labels  as above, but of the level of x itself: the upper one
 * Dropout where net->training and net->counter are set. */
ebm_val cdrl_proposal(ebm_net *net, const struct cdrl_proposal_spec *spec,
                      ebm_val x, ebm_val level, ebm_val labels);

/* cdrl_level.c: what both are told. */

/* By which number a log signal-to-noise ratio is embedded: 0 ... 1000, of a's
 * shape. */
ebm_val cdrl_noise_level(ebm_graph *g, ebm_val log_snr);
/* Latches an error unless level (and labels, if there are to be any) are [n] or
 * [1] for the n of x. */
bool cdrl_told(ebm_graph *g, ebm_val x, ebm_val level, ebm_val labels, int64_t classes);

/* cdrl_map.c: maps of log densities: 3x3 convolution of images, linear map of
 * rows; result y factor + bias. */
enum cdrl_kind {
    CDRL_NORMED,
    CDRL_SMALL,                  /* DRL: starts near 0 and may stay below norm 1 */
    CDRL_SMALL_FREE,             /* the same without spectral norm */
    CDRL_FREE                    /* no spectral norm */
};
struct cdrl_map {
    ebm_val y;
    ebm_val factor;              /* a scalar; 0: 1 */
    ebm_val bias;                /* [out] */
};
struct cdrl_map cdrl_map(ebm_net *net, const struct cdrl_energy_spec *spec, const char *name,
                         ebm_val x, int64_t out, enum cdrl_kind kind);
ebm_val cdrl_mapped(ebm_graph *g, struct cdrl_map map);
/* Self-attention of DRL over pixels, added to x; starts near the identity. */
ebm_val drl_attention(ebm_net *net, ebm_val x);

#endif
