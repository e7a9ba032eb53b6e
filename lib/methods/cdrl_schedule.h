/* cdrl_schedule.h - the ladder of noise levels of diffusion recovery likelihood.
 *
 * SPDX-License-Identifier: ISC
 *
 *   state   0 ---- 1 ---- 2 ---- ... ---- T          x_0 is nearly clean, x_T noise
 *   level      0      1            T-1               an energy for each step down
 *
 * x_t = signal x + noise e, and from one state to the next
 * x_{t+1} = alpha x_t + sigma e.  The energy of level t sees y = scale x_t, where
 * scale is alpha, but 1 at the top level, whose energy is that of x_{T-1} itself;
 * elsewhere it is of y given x_{t+1}. */
#ifndef EBM_CDRL_SCHEDULE_H
#define EBM_CDRL_SCHEDULE_H

#include "graph.h"

enum { CDRL_LEVELS = 32 };       /* at most */

/* What is known of a level. */
enum cdrl_constant {
    LEVEL_NUMBER,
    LEVEL_LOG_SNR, LEVEL_LOG_SNR_ABOVE,   /* of the state below and the one above */
    LEVEL_SIGNAL, LEVEL_NOISE,
    LEVEL_SIGNAL_ABOVE, LEVEL_NOISE_ABOVE,
    LEVEL_ALPHA, LEVEL_SIGMA, LEVEL_SCALE,
    LEVEL_STEP,                  /* s: the deviation of a Langevin step's noise */
    LEVEL_PULL,                  /* s^2 / (2 sigma^2), or 0 at the top: how much of the
                                  * way to x_{t+1} a step goes */
    LEVEL_PROPOSAL,              /* deviation of what is proposed for y */
    LEVEL_WEIGHT,                /* of the level in the loss */
    LEVEL_CONSTANTS
};

struct cdrl_schedule {
    int levels;
    double of[CDRL_LEVELS][LEVEL_CONSTANTS];
};

/* Log signal-to-noise ratios -2 log tan(a u + b) from `highest` at state 0 to
 * `lowest` at the last (Zhu et al. 2024). */
void cdrl_tan_cosine(struct cdrl_schedule *schedule, int levels, double highest, double lowest);
/* Six levels cut out of the thousand steps of denoising diffusion (Gao et al. 2021). */
void cdrl_linear(struct cdrl_schedule *schedule);
/* Step sizes s^2 = step c sigma^2 with c = noise / noise of state 0, or, if not
 * growing, 1 / noise of state 0 at every level. */
void cdrl_set_steps(struct cdrl_schedule *schedule, double step, bool growing);

/* The constants as values of a graph, each [n] or [1]. */
struct cdrl_place {
    ebm_val of[LEVEL_CONSTANTS];
};
/* level [n]: numbers of levels, float32. */
struct cdrl_place cdrl_place(ebm_graph *g, const struct cdrl_schedule *schedule, ebm_val level);
/* From a feed or state [LEVEL_CONSTANTS]: one level for all. */
struct cdrl_place cdrl_place_of(ebm_graph *g, ebm_val constants);
/* A constant as x [n,...] takes it: [n,1,...]. */
ebm_val cdrl_beside(ebm_graph *g, ebm_val constant, ebm_val x);

#endif
