/* chart.c - curves over the steps of a run, drawn as a picture.
 *
 *   title                    -- data  -- samples
 *   4 |            ________
 *   2 |    ___/\__/             a line: the mean of the steps of each column;
 *   0 |___/                     a band behind it: from their least to greatest
 *     +-------+-------+-----
 *     0      500    1000  step
 *
 * SPDX-License-Identifier: ISC
 *
 * The scale leaves out the most extreme two of a hundred values on either side,
 * so that one outlier does not flatten the rest; what lies outside is cut. */
#include "config.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "chart.h"

enum {
    WIDTH = 960, PANEL_HEIGHT = 300, FOOT = 34,
    LEFT = 78, RIGHT = 24, TOP = 40, BOTTOM = 14,   /* around the curves */
    COLUMNS = WIDTH - LEFT - RIGHT
};

static const struct colour white = { 255, 255, 255 }, ink = { 40, 44, 52 },
    faint = { 228, 230, 234 };
/* Told apart by most who see colours differently (Okabe and Ito 2008). */
static const struct colour hues[CHART_LINES] = {
    { 0, 114, 178 }, { 213, 94, 0 }, { 130, 130, 130 }, { 0, 158, 115 },
};

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* A number of a panel's line, less that which is taken from it. */
static double value_at(const struct series *s, int64_t row, int column, int minus)
{
    return series_value(s, row, column) - (minus < 0 ? 0 : series_value(s, row, minus));
}

static int minus_of(const struct series *s, const struct panel *p)
{
    return p->minus ? series_find(s, p->minus) : -1;
}

/* The range of a panel's values, without outliers; false if it has none. */
static bool find_range(const struct series *s, const struct panel *p, double *lo, double *hi)
{
    double *all = malloc((size_t)(s->rows + 1) * CHART_LINES * sizeof *all);
    size_t n = 0;

    if (!all)
        return false;
    for (int line = 0; line < CHART_LINES && p->names[line]; line++) {
        int column = series_find(s, p->names[line]);
        for (int64_t i = 0; column >= 0 && i < s->rows; i++) {
            double v = value_at(s, i, column, minus_of(s, p));
            if (isfinite(v))
                all[n++] = v;
        }
    }
    if (n) {
        qsort(all, n, sizeof *all, ascending);
        *lo = all[n / 50];
        *hi = all[n - 1 - n / 50];
        double margin = 0.06 * (*hi - *lo);
        if (!(margin > 0))
            margin = fabs(*lo) > 0 ? 0.1 * fabs(*lo) : 1;
        *lo -= margin;
        *hi += margin;
    }
    free(all);
    return n > 0;
}

/* A distance of ticks of 1, 2 or 5 times a power of ten, for about n of them. */
static double tick_distance(double range, int n)
{
    double rough = range / n, power = pow(10, floor(log10(rough)));

    return rough <= power ? power : rough <= 2 * power ? 2 * power
         : rough <= 5 * power ? 5 * power : 10 * power;
}

static void tick_label(char *text, size_t size, double v, double distance)
{
    int decimals = distance < 1 ? (int)ceil(-log10(distance) - 1e-9) : 0;

    if (fabs(v) < distance / 1000)
        v = 0;
    if (fabs(v) >= 1e6 || decimals > 5)
        snprintf(text, size, "%.2g", v);
    else
        snprintf(text, size, "%.*f", decimals, v);
}

/* One curve: its values gathered by the column of the picture they fall in. */
static void draw_line(struct canvas *c, const struct series *s, int column, int minus, double last_step,
                      double lo, double hi, int top, int height, struct colour hue)
{
    double sum = 0, least = HUGE_VAL, greatest = -HUGE_VAL, x0 = 0, y0 = 0;
    int64_t in_column = 0;
    int at = -1;
    bool begun = false;

    for (int64_t i = 0; i <= s->rows; i++) {
        int x = i < s->rows ? (int)(series_step(s, i) / last_step * (COLUMNS - 1) + 0.5) : -1;
        if (x != at && in_column) {
            double scale = (height - 1) / (hi - lo);
            double y = top + (hi - sum / (double)in_column) * scale;
            if (in_column > 1)
                canvas_rectangle(c, LEFT + at, (int)fmax(top + (hi - greatest) * scale, top),
                                 LEFT + at + 1,
                                 (int)fmin(top + (hi - least) * scale, top + height) + 1,
                                 hue, 0.18);
            if (begun)
                canvas_line(c, x0, y0, LEFT + at, y, 1.6, hue);
            x0 = LEFT + at;
            y0 = y;
            begun = true;
            in_column = 0;
            sum = 0;
            least = HUGE_VAL;
            greatest = -HUGE_VAL;
        }
        at = x;
        double v = i < s->rows ? value_at(s, i, column, minus) : NAN;
        if (isfinite(v)) {
            sum += v;
            least = fmin(least, v);
            greatest = fmax(greatest, v);
            in_column++;
        }
    }
}

static void draw_legend(struct canvas *c, const struct series *s, const struct panel *p, int y)
{
    int x = WIDTH - RIGHT;

    for (int line = CHART_LINES; line-- > 0; ) {
        if (!p->names[line] || !p->labels[line] || series_find(s, p->names[line]) < 0)
            continue;
        x -= canvas_text_width(p->labels[line], 2);
        canvas_text(c, x, y, 2, p->labels[line], ink);
        x -= 26;
        canvas_line(c, x, y + 7, x + 18, y + 7, 3, hues[line]);
        x -= 20;
    }
}

static void draw_panel(struct canvas *c, const struct series *s, const struct panel *p,
                       int at, double last_step)
{
    int top = at + TOP, height = PANEL_HEIGHT - TOP - BOTTOM;
    double lo = 0, hi = 1;
    char label[32];
    bool any = find_range(s, p, &lo, &hi);
    double distance = tick_distance(hi - lo, 5);

    canvas_text(c, LEFT, at + 12, 2, p->title, ink);
    draw_legend(c, s, p, at + 12);
    for (double v = ceil(lo / distance) * distance; v <= hi; v += distance) {
        int y = (int)(top + (hi - v) / (hi - lo) * (height - 1) + 0.5);
        canvas_rectangle(c, LEFT, y, WIDTH - RIGHT, y + 1, faint, 1);
        if (!any)
            continue;
        tick_label(label, sizeof label, v, distance);
        canvas_text(c, LEFT - 10 - canvas_text_width(label, 2), y - 7, 2, label, ink);
    }
    canvas_rectangle(c, LEFT - 1, top, LEFT, top + height, ink, 1);
    canvas_rectangle(c, LEFT - 1, top + height, WIDTH - RIGHT, top + height + 1, ink, 1);
    canvas_clip(c, LEFT, top, WIDTH - RIGHT, top + height);
    for (int line = CHART_LINES; line-- > 0; ) {
        int column = p->names[line] ? series_find(s, p->names[line]) : -1;
        if (column >= 0)
            draw_line(c, s, column, minus_of(s, p), last_step, lo, hi, top, height, hues[line]);
    }
    canvas_unclip(c);
}

static void draw_steps(struct canvas *c, int y, double last_step)
{
    double distance = fmax(tick_distance(last_step, 6), 1);
    char label[32];

    for (double v = 0; v <= last_step; v += distance) {
        int x = LEFT + (int)(v / last_step * (COLUMNS - 1) + 0.5);
        canvas_rectangle(c, x, y - BOTTOM, x + 1, y - BOTTOM + 6, ink, 1);
        tick_label(label, sizeof label, v, distance);
        if (v + distance > last_step)
            strcat(label, " steps");
        int w = canvas_text_width(label, 2);
        if (x - w / 2 + w > WIDTH - 2)
            x = WIDTH - 2 - w + w / 2;
        canvas_text(c, x - w / 2, y, 2, label, ink);
    }
}

bool chart_draw(struct canvas *c, const struct series *s, const struct panel *panels, int count)
{
    double last_step = 1;

    if (!canvas_new(c, WIDTH, count * PANEL_HEIGHT + FOOT, white))
        return false;
    for (int64_t i = 0; i < s->rows; i++)
        last_step = fmax(last_step, series_step(s, i));
    for (int i = 0; i < count; i++)
        draw_panel(c, s, &panels[i], i * PANEL_HEIGHT, last_step);
    draw_steps(c, count * PANEL_HEIGHT, last_step);
    return true;
}
