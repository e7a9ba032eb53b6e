/* journal.h - the log of a run: metrics.jsonl, a JSON object per line.
 *
 * SPDX-License-Identifier: ISC
 *
 *   {"step":10,"loss":-0.0123,"energy.data":0.1,...,"energy.noise":null}
 *   {"step":137,"event":"skipped","reason":"the gradient is not finite"}
 *   {"step":140,"event":"rolled back","to":100,"reason":"..."}
 *
 * No times and no places: the lines depend on recipe, data and build alone, so
 * that a resumed run writes what an uninterrupted one would have. */
#ifndef EBM_JOURNAL_H
#define EBM_JOURNAL_H

#include "io.h"

struct journal;

/* keep: as of io_log_open(). */
int journal_open(ebm_context *ctx, const char *path, uint64_t keep, struct journal **journal);
void journal_close(struct journal *journal);           /* NULL is allowed */

int journal_values(struct journal *journal, int64_t step, int n,
                   const char *const *names, const double *values);
/* to: the step that an event led to, -1 for none. */
int journal_event(struct journal *journal, int64_t step, const char *event, int64_t to,
                  const char *reason);

/* Make it durable; the bytes it has. */
int journal_sync(struct journal *journal);
uint64_t journal_size(const struct journal *journal);

#endif
