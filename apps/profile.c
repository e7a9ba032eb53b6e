/* profile.c - see profile.h.
 *
 * SPDX-License-Identifier: ISC
 *
 * Per cent stand beside a rate: of the kernels' arithmetic or of a plain copy,
 * both measured as the profile is printed. */
#include "config.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "profile.h"
#include "tool.h"

enum { SHOWN = 40 };             /* steps; the rest is told in one line */

struct total {                   /* of steps of a kind */
    const char *op;
    double seconds, flop, bytes;
};

static int longer(double a, double b)
{
    return (a < b) - (a > b);
}

static int by_total(const void *a, const void *b)
{
    return longer(((const struct total *)a)->seconds, ((const struct total *)b)->seconds);
}

static int by_seconds(const void *a, const void *b)
{
    return longer((*(const ebm_profile_row *const *)a)->seconds,
                  (*(const ebm_profile_row *const *)b)->seconds);
}

static void print_rate(const ebm_peaks *peaks, double seconds, double flop, double bytes)
{
    if (seconds <= 0)
        printf("\n");
    else if (flop > 0)
        printf(" %8.1f GFLOP/s %4.0f%%\n", 1e-9 * flop / seconds, 100 * flop / seconds / peaks->flops);
    else
        printf(" %8.1f GB/s    %4.0f%%\n", 1e-9 * bytes / seconds, 100 * bytes / seconds / peaks->bytes);
}

static void print_kinds(const ebm_profile_row *rows, size_t n, const ebm_peaks *peaks,
                        struct total *totals, double all)
{
    size_t kinds = 0;

    for (size_t i = 0; i < n; i++) {
        size_t k = 0;
        while (k < kinds && strcmp(totals[k].op, rows[i].op))
            k++;
        if (k == kinds)
            totals[kinds++] = (struct total){ rows[i].op, 0, 0, 0 };
        totals[k].seconds += rows[i].seconds;
        totals[k].flop += rows[i].flop * (double)rows[i].calls;
        totals[k].bytes += rows[i].bytes * (double)rows[i].calls;
    }
    qsort(totals, kinds, sizeof *totals, by_total);
    printf("%-14s %10s %6s\n", "operation", "seconds", "share");
    for (size_t k = 0; k < kinds && totals[k].seconds > 0; k++) {
        printf("%-14s %10.3f %5.1f%%", totals[k].op, totals[k].seconds, 100 * totals[k].seconds / all);
        print_rate(peaks, totals[k].seconds, totals[k].flop, totals[k].bytes);
    }
}

static void print_steps(const ebm_profile_row **order, size_t n, const ebm_peaks *peaks, double all)
{
    double rest = 0;

    printf("\n%-10s %-12s %-24s %-20s %9s %9s %6s\n", "program", "operation", "layer", "result",
           "calls", "us a call", "share");
    for (size_t i = 0; i < n; i++) {
        const ebm_profile_row *r = order[i];
        if (i >= SHOWN) {
            rest += r->seconds;
            continue;
        }
        if (r->seconds <= 0)
            break;
        printf("%-10s %-12s %-24s %-20s %9" PRId64 " %9.1f %5.1f%%", r->program, r->op, r->layer,
               r->shape, r->calls, 1e6 * r->seconds / (double)r->calls, 100 * r->seconds / all);
        print_rate(peaks, r->seconds, r->flop * (double)r->calls, r->bytes * (double)r->calls);
    }
    if (rest > 0)
        printf("%zu other steps: %.1f%%\n", n - SHOWN, 100 * rest / all);
}

int profile_print(ebm_context *context, ebm_backend *device)
{
    const ebm_profile_row *rows;
    ebm_peaks peaks;
    size_t n;
    double all = 0;
    int rc;

    if ((rc = ebm_backend_profile_read(device, &rows, &n)) < 0
        || (rc = ebm_backend_peaks(device, &peaks)) < 0)
        return tool_fail(context, rc);
    struct total *totals = calloc(n + 1, sizeof *totals);
    const ebm_profile_row **order = calloc(n + 1, sizeof *order);
    if (totals && order) {
        for (size_t i = 0; i < n; i++) {
            order[i] = &rows[i];
            all += rows[i].seconds;
        }
        qsort(order, n, sizeof *order, by_seconds);
        printf("\nprofile of %.3f s; this machine's best: %.1f GFLOP/s, %.1f GB/s copied\n", all,
               1e-9 * peaks.flops, 1e-9 * peaks.bytes);
        all = all > 0 ? all : 1;
        print_kinds(rows, n, &peaks, totals, all);
        print_steps(order, n, &peaks, all);
    }
    rc = totals && order ? 0 : tool_fail_memory();
    free(totals);
    free(order);
    return rc;
}

json_t *profile_add_json(json_t *object, ebm_backend *device)
{
    const ebm_profile_row *rows;
    ebm_peaks peaks;
    size_t n;
    json_t *steps = json_array();

    if (ebm_backend_profile_read(device, &rows, &n) < 0 || ebm_backend_peaks(device, &peaks) < 0) {
        json_decref(steps);
        json_decref(object);
        return NULL;
    }
    for (size_t i = 0; i < n; i++)
        json_array_append_new(steps, json_pack("{s:s, s:s, s:s, s:s, s:I, s:f, s:f, s:f}",
            "program", rows[i].program, "operation", rows[i].op, "layer", rows[i].layer,
            "result", rows[i].shape, "calls", (json_int_t)rows[i].calls,
            "seconds", rows[i].seconds, "flop", rows[i].flop, "bytes", rows[i].bytes));
    if (json_object_set_new(object, "profile", json_pack("{s:f, s:f, s:o}", "peak_flops", peaks.flops,
                            "peak_bytes", peaks.bytes, "steps", steps)) < 0) {
        json_decref(object);
        return NULL;
    }
    return object;
}
