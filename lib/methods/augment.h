/* augment.h - images cut, mirrored, coloured and blurred by chance, on the device.
 *
 * SPDX-License-Identifier: ISC
 *
 * Chains of improved contrastive divergence go on from such images, which lets
 * them pass from one mode to another (Du et al. 2021; the transformations are
 * those of SimCLR, Chen et al. 2020). */
#ifndef EBM_AUGMENT_H
#define EBM_AUGMENT_H

#include "recipe.h"

struct augment {
    double area[2];              /* part of the image that a cut keeps; 1, 1: none */
    bool flip;
    double colour;               /* strength of the jitter; 0: none */
    double grey;                 /* probability of losing the colours */
    int blur;                    /* pixels of the filter, odd; 0: none */
};

/* Random numbers of an image, columns of u. */
enum {
    U_FLIP, U_JITTER, U_BRIGHTNESS, U_CONTRAST, U_SATURATION, U_HUE,
    U_ORDER, U_GREY = U_ORDER + 4, U_BLUR, U_SIGMA, U_TOP, U_LEFT,
    U_AREA, AUGMENT_TRIES = 10, U_RATIO = U_AREA + AUGMENT_TRIES,
    AUGMENT_DRAWS = U_RATIO + AUGMENT_TRIES
};

/* x [n,h,w,c], levels 0 ... 255; the result too.  u [n,AUGMENT_DRAWS] in [0,1).
 * Colours change where c is 3 (brightness and contrast where it is 1 as well). */
ebm_val augment_with(ebm_graph *g, const struct augment *a, ebm_val u, ebm_val x);
/* The same with random numbers of a counter. */
ebm_val augment_images(ebm_graph *g, const struct augment *a, ebm_val counter, uint32_t purpose,
                       ebm_val x);

/* Settings that no image can have: EBM_ERR_ARG. */
int augment_check(ebm_context *ctx, const struct augment *a, const int64_t image[3]);

#endif
