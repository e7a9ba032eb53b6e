/* programs.h - the programs of a method, as a table: outputs while graphs are
 * built, then what they are compiled to.
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_PROGRAMS_H
#define EBM_PROGRAMS_H

#include "method.h"

struct program {                 /* with no outputs: there is none */
    ebm_outputs out;
    ebm_program *program;
};

/* labels: a word for each, that profiles show. */
int programs_compile(ebm_graph *g, struct program *programs, int count, const char *const *labels);
/* Multiply-adds of running each so many times. */
double programs_work(ebm_graph *g, const struct program *programs, int count, const double *times);
void programs_free(struct program *programs, int count);

/* Bytes of as many of the site's images as the key says, as floats. */
int batch_bytes(const struct method_site *site, const char *key, size_t *bytes);

#endif
