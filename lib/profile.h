/* profile.h - where the time goes: seconds of each step of each program.
 *
 * SPDX-License-Identifier: ISC
 *
 * A backend that is profiled has one of these.  Programs compiled from then on
 * enter it: what their steps are and cost is noted from the plan, and the
 * backend adds up seconds.  It outlives the programs. */
#ifndef EBM_PROFILE_H
#define EBM_PROFILE_H

#include "backend.h"

struct profile;

/* One program of a profile: seconds[n], a step each and the copies at the end. */
struct profiled {
    ebm_profile_row *rows;
    double *seconds;
    int n;
    int64_t runs;
};

void profile_free(struct profile *profile);
/* The program's place, which stays where it is; NULL without memory (told). */
struct profiled *profile_add(ebm_backend *backend, const struct plan *plan);
/* The program's name in profiles: a text that stays. */
void program_label(ebm_program *program, const char *label);

#endif
