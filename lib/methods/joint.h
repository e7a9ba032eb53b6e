/* joint.h - the energy that a model's chains follow: that of one network, or of
 * several models composed.
 *
 * SPDX-License-Identifier: ISC
 *
 *   sum   D(x) = sum w_i E_i(x) / sum |w_i|     chains; the energy reported is
 *                                               not divided
 *   any   D(x) = -1/b log sum w_i e^(-b E_i(x))
 *
 * Divided so, a sum of one model with itself is that model, whose settings of
 * sampling then suit it (Du et al. 2021 divide the step by the number of models).
 * Models may see pixels in ranges of their own, and be told labels. */
#ifndef EBM_JOINT_H
#define EBM_JOINT_H

#include "method.h"

/* One of the models that a site's model is composed of; the first is the site's. */
struct joint_part {
    const struct method *method;
    struct recipe *recipe;
    char region[16];             /* its weights in the store, "energy2" */
    double weight;
};
struct joint_spec {
    int count;
    const struct joint_part *parts;
    double any;                  /* b; 0: a sum */
};

struct joint;

/* Of the site's model alone where the site has no joint_spec.  The programs that
 * joint_energy() needs are built too. */
int joint_new(const struct method_site *site, ebm_graph *g, const int64_t shape[4], struct joint **joint);
void joint_free(struct joint *joint);                  /* NULL is allowed */

/* An ebm_energy_fn with a struct joint: D of chains, told the labels that the
 * last joint_begin() assigned. */
ebm_val joint_at(ebm_graph *g, ebm_val x, void *joint);
/* Effects: chains' labels, chosen or drawn from the counter. */
void joint_begin(struct joint *joint, ebm_val counter, ebm_outputs *effects);

/* Energies of a batch of images; where a label is not chosen, -log sum e^-E over
 * all labels. */
int joint_compile(struct joint *joint);
int joint_energy(struct joint *joint, const float *images, float *energies);

#endif
