/* series.h - a run's numbers over its steps, as metrics.jsonl has them.
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_SERIES_H
#define EBM_SERIES_H

#include <stdbool.h>
#include <stdint.h>

struct series {
    int columns;
    char **names;
    int64_t rows, capacity;
    double *values;          /* [rows][1 + columns], the step first */
};

void series_free(struct series *series);
int series_find(const struct series *series, const char *name);   /* or -1 */
double series_step(const struct series *series, int64_t row);
double series_value(const struct series *series, int64_t row, int column);

/* Append a row; names are those of the first.  Rows of this step and later ones
 * are dropped, as after a roll-back.  false without memory. */
bool series_add(struct series *series, int64_t step, int n,
                const char *const *names, const double *values);

/* Append the lines of a metrics.jsonl; lines without numbers are passed over, as
 * is a missing file.  false without memory. */
bool series_read(struct series *series, const char *path);

#endif
