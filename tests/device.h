/* device.h - run values of a trial on a backend and hold them against the oracle.
 *
 * SPDX-License-Identifier: ISC */
#ifndef DEVICE_H
#define DEVICE_H

#include "cases.h"

/* The bytes of some values, one after the other. */
struct answer {
    unsigned char *bytes;    /* NULL: it failed, and the message says why */
    size_t size;
};

/* The backend that EBM_TEST_BACKEND names, or NULL: the CPU in all its ways.  Where
 * it does not open, the test is skipped with the reason. */
const char *device_name(void);
ebm_backend *device_backend(ebm_context *ctx, const char *name);

/* Compile the outputs on the trial's store, give the inputs, run once, fetch. */
struct answer device_run(struct trial *t, int n, const ebm_val *outputs);

/* Give the inputs that these outputs read. */
int device_inputs(struct trial *t, ebm_program *program, int n, const ebm_val *outputs);

/* Largest difference from the oracle over all outputs, by the largest magnitude
 * of the output (elementwise: by that of the element), or by 1 if that is more.  r: content of the region "r", or NULL. */
double device_error(const struct trial *t, int n, const ebm_val *outputs,
                    const struct answer *answer, const double *r);

/* Elements of a type as doubles, and back. */
void doubles_from(double *to, enum ebm_type type, const void *from, int64_t count);
void doubles_to(void *to, enum ebm_type type, const double *from, int64_t count);

#endif
