/* progress.h - how far a work has come, on stderr where that is a terminal.
 *
 *   training [#########.....]  64 %  640/1000  5.2/s  1:09 left  E -0.31
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_PROGRESS_H
#define EBM_PROGRESS_H

#include <stdbool.h>

struct progress {
    const char *label;
    double start, total;       /* in units: steps, images */
    double begun, shown;       /* seconds */
    bool silent;
};

/* start: what was done before, which counts for no rate. */
void progress_begin(struct progress *progress, const char *label, double start,
                    double total, bool quiet);
/* note: a few words more, or NULL.  Redraws at most ten times a second. */
void progress_show(struct progress *progress, double done, const char *note);
void progress_end(struct progress *progress);
/* Wipe the line, before a message; it comes back with the next progress_show(). */
void progress_hide(void);

/* Seconds of a clock that only goes forward. */
double progress_seconds(void);

#endif
