/* journal.c - see journal.h.
 *
 * SPDX-License-Identifier: ISC */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "journal.h"
#include "number.h"

enum { LINE = 2048 };

struct journal {
    ebm_context *ctx;
    struct io_log *log;
    size_t used;
    char line[LINE];
};

int journal_open(ebm_context *ctx, const char *path, uint64_t keep, struct journal **journal)
{
    struct journal *j = mem_new(ctx, 1, sizeof *j);
    int status;

    *journal = NULL;
    if (!j)
        return EBM_ERR_NOMEM;
    j->ctx = ctx;
    if ((status = io_log_open(ctx, path, keep, &j->log)) < 0) {
        mem_free(ctx, j);
        return status;
    }
    *journal = j;
    return EBM_OK;
}

void journal_close(struct journal *j)
{
    if (!j)
        return;
    io_log_close(j->log);
    mem_free(j->ctx, j);
}

static void put(struct journal *j, const char *text)
{
    size_t n = strlen(text);

    if (n > sizeof j->line - j->used)
        n = sizeof j->line - j->used;            /* finish() refuses a full line */
    memcpy(j->line + j->used, text, n);
    j->used += n;
}

static void put_integer(struct journal *j, const char *before, int64_t value)
{
    char text[32];

    snprintf(text, sizeof text, "%" PRId64, value);
    put(j, before);
    put(j, text);
}

/* Seven digits, all that a float has; JSON has no NaN. */
static void put_number(struct journal *j, double value)
{
    char text[NUMBER_TEXT];

    if (!isfinite(value)) {
        put(j, "null");
        return;
    }
    if (value != 0) {
        int digits = 7 - (int)ceil(log10(fabs(value)));
        if (digits >= 0 && digits < 30) {
            double scale = pow(10, digits);
            value = round(value * scale) / scale;
        }
    }
    number_write(value, text);
    put(j, text);
}

/* Ours have neither quotes nor control characters, but a file's name may. */
static void put_text(struct journal *j, const char *text)
{
    char c[3] = "\\";

    for (; *text; text++) {
        bool quoted = *text == '"' || *text == '\\';
        c[1] = (unsigned char)*text < 0x20 ? ' ' : *text;
        c[2] = 0;
        put(j, quoted ? c : c + 1);
    }
}

static int finish(struct journal *j)
{
    put(j, "}\n");
    if (j->used == sizeof j->line)
        return ebm_fail(j->ctx, EBM_ERR_INTERNAL, "a line of the log is longer than %d bytes", LINE);
    return io_log_write(j->log, j->line, j->used);
}

int journal_values(struct journal *j, int64_t step, int n,
                   const char *const *names, const double *values)
{
    j->used = 0;
    put_integer(j, "{\"step\":", step);
    for (int i = 0; i < n; i++) {
        put(j, ",\"");
        put(j, names[i]);
        put(j, "\":");
        put_number(j, values[i]);
    }
    return finish(j);
}

int journal_event(struct journal *j, int64_t step, const char *event, int64_t to,
                  const char *reason)
{
    j->used = 0;
    put_integer(j, "{\"step\":", step);
    put(j, ",\"event\":\"");
    put(j, event);
    put(j, "\"");
    if (to >= 0)
        put_integer(j, ",\"to\":", to);
    put(j, ",\"reason\":\"");
    put_text(j, reason);
    put(j, "\"");
    return finish(j);
}

int journal_sync(struct journal *j)
{
    return io_log_sync(j->log);
}

uint64_t journal_size(const struct journal *j)
{
    return io_log_size(j->log);
}
