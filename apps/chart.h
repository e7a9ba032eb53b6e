/* chart.h - curves over the steps of a run, drawn as a picture.
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_CHART_H
#define EBM_CHART_H

#include "canvas.h"
#include "series.h"

/* A panel: some of a run's numbers over a common axis.  Names that the run does
 * not have are left out. */
enum { CHART_LINES = 4 };
struct panel {
    const char *title;
    const char *names[CHART_LINES];    /* in the series; NULL ends them */
    const char *labels[CHART_LINES];   /* in the legend */
    const char *minus;                 /* taken from each, as a difference; NULL: nothing */
};

/* Draw panels one below the other on a new canvas; false without memory. */
bool chart_draw(struct canvas *canvas, const struct series *series,
                const struct panel *panels, int count);

#endif
