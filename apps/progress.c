/* progress.c - how far a work has come, on stderr where that is a terminal.
 *
 * SPDX-License-Identifier: ISC */
#include "config.h"
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>
#include "progress.h"

enum { BAR = 24, DEFAULT_WIDTH = 80, LINE = 256 };
static const double redraw = 0.1;      /* seconds */
static bool visible;

double progress_seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void progress_begin(struct progress *p, const char *label, double start, double total, bool quiet)
{
    p->label = label;
    p->start = start;
    p->total = total;
    p->begun = progress_seconds();
    p->shown = 0;
    p->silent = quiet || !isatty(STDERR_FILENO);
}

static int terminal_width(void)
{
#ifdef TIOCGWINSZ
    struct winsize size;

    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
#endif
    return DEFAULT_WIDTH;
}

/* "1:09" or "2:01:09". */
static void duration(char *text, size_t size, double seconds)
{
    long s = seconds < 360000 ? (long)(seconds + 0.5) : 360000;

    if (s >= 3600)
        snprintf(text, size, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(text, size, "%ld:%02ld", s / 60, s % 60);
}

void progress_show(struct progress *p, double done, const char *note)
{
    char line[LINE], left[32], bar[BAR + 1];
    double now = progress_seconds(), spent = now - p->begun;

    if (p->silent || now - p->shown < redraw)
        return;
    p->shown = now;
    double part = p->total > 0 ? done / p->total : 1;
    double rate = spent > 0 ? (done - p->start) / spent : 0;
    int filled = (int)(part * BAR);
    for (int i = 0; i < BAR; i++)
        bar[i] = i < filled ? '#' : '.';
    bar[BAR] = 0;
    if (rate > 0)
        duration(left, sizeof left, (p->total - done) / rate);
    else
        strcpy(left, "?");
    snprintf(line, sizeof line, "%s [%s] %3.0f %%  %.0f/%.0f  %.*f/s  %s left%s%s", p->label,
             bar, 100 * part, done, p->total, rate < 10 ? 2 : 0, rate, left,
             note ? "  " : "", note ? note : "");
    int width = terminal_width() - 1;
    fprintf(stderr, "\r%.*s\033[K", width < LINE ? width : LINE, line);
    fflush(stderr);
    visible = true;
}

void progress_hide(void)
{
    if (visible)
        fprintf(stderr, "\r\033[K");
    visible = false;
}

void progress_end(struct progress *p)
{
    p->silent = true;
    progress_hide();
    fflush(stderr);
}
