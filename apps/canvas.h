/* canvas.h - a picture to draw on: lines, rectangles, text.
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_CANVAS_H
#define EBM_CANVAS_H

#include <stdbool.h>
#include <stdint.h>
#include "ebm.h"

struct colour { uint8_t r, g, b; };

struct canvas {
    int width, height;
    uint8_t *rgb;                      /* rows from the top */
    int left, top, right, bottom;      /* what is drawn outside is cut off */
};

/* A canvas filled with one colour; false without memory. */
bool canvas_new(struct canvas *canvas, int width, int height, struct colour fill);
void canvas_free(struct canvas *canvas);

/* Draw only within [left,right) x [top,bottom); canvas_unclip() ends it. */
void canvas_clip(struct canvas *canvas, int left, int top, int right, int bottom);
void canvas_unclip(struct canvas *canvas);

/* Blend a colour in with opacity 0 ... 1. */
void canvas_rectangle(struct canvas *canvas, int left, int top, int right, int bottom,
                      struct colour colour, double opacity);
/* A line of some width, antialiased; coordinates of pixel centres are whole. */
void canvas_line(struct canvas *canvas, double x0, double y0, double x1, double y1,
                 double width, struct colour colour);

/* Text whose top left corner is (x,y), each dot `scale` pixels large. */
void canvas_text(struct canvas *canvas, int x, int y, int scale, const char *text,
                 struct colour colour);
int canvas_text_width(const char *text, int scale);
enum { CANVAS_TEXT_HEIGHT = 7 };       /* above the baseline, at scale 1 */

/* Save it as PNG; a status of the library. */
int canvas_save(const struct canvas *canvas, ebm_context *context, const char *path);

#endif
