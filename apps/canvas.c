/* canvas.c - a picture to draw on: lines, rectangles, text.
 *
 * SPDX-License-Identifier: ISC */
#include "config.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "canvas.h"
#include "font.h"

bool canvas_new(struct canvas *c, int width, int height, struct colour fill)
{
    size_t n = (size_t)width * (size_t)height;

    c->width = width;
    c->height = height;
    canvas_unclip(c);
    if (!(c->rgb = malloc(3 * n)))
        return false;
    for (size_t i = 0; i < n; i++)
        memcpy(c->rgb + 3 * i, &fill, 3);
    return true;
}

void canvas_free(struct canvas *c)
{
    free(c->rgb);
    c->rgb = NULL;
}

void canvas_clip(struct canvas *c, int left, int top, int right, int bottom)
{
    c->left = left > 0 ? left : 0;
    c->top = top > 0 ? top : 0;
    c->right = right < c->width ? right : c->width;
    c->bottom = bottom < c->height ? bottom : c->height;
}

void canvas_unclip(struct canvas *c)
{
    canvas_clip(c, 0, 0, c->width, c->height);
}

static void blend(struct canvas *c, int x, int y, struct colour colour, double opacity)
{
    const uint8_t with[3] = { colour.r, colour.g, colour.b };

    if (x < c->left || x >= c->right || y < c->top || y >= c->bottom)
        return;
    uint8_t *p = c->rgb + 3 * ((size_t)y * (size_t)c->width + (size_t)x);
    for (int i = 0; i < 3; i++)
        p[i] = (uint8_t)(p[i] + (with[i] - p[i]) * opacity + 0.5);
}

void canvas_rectangle(struct canvas *c, int left, int top, int right, int bottom,
                      struct colour colour, double opacity)
{
    if (left < c->left)
        left = c->left;
    if (top < c->top)
        top = c->top;
    for (int y = top; y < bottom && y < c->bottom; y++)
        for (int x = left; x < right && x < c->right; x++)
            blend(c, x, y, colour, opacity);
}

/* A pixel is covered by how near its centre is to the segment. */
void canvas_line(struct canvas *c, double x0, double y0, double x1, double y1,
                 double width, struct colour colour)
{
    double dx = x1 - x0, dy = y1 - y0, length2 = dx * dx + dy * dy;
    double reach = width / 2 + 1;
    double left = fmax(fmin(x0, x1) - reach, c->left);
    double right = fmin(fmax(x0, x1) + reach, c->right);
    double top = fmax(fmin(y0, y1) - reach, c->top);
    double bottom = fmin(fmax(y0, y1) + reach, c->bottom);

    for (int y = (int)floor(top); y < bottom; y++) {
        for (int x = (int)floor(left); x < right; x++) {
            double t = length2 > 0 ? ((x - x0) * dx + (y - y0) * dy) / length2 : 0;
            t = fmin(fmax(t, 0), 1);
            double cover = width / 2 + 0.5 - hypot(x - x0 - t * dx, y - y0 - t * dy);
            if (cover > 0)
                blend(c, x, y, colour, fmin(cover, 1));
        }
    }
}

void canvas_text(struct canvas *c, int x, int y, int scale, const char *text,
                 struct colour colour)
{
    for (; *text; text++, x += FONT_ADVANCE * scale) {
        const uint8_t *rows = font_glyph(*text);
        for (int i = 0; rows && i < FONT_ROWS; i++)
            for (int j = 0; j < FONT_WIDTH; j++)
                if (rows[i] >> (FONT_WIDTH - 1 - j) & 1)
                    canvas_rectangle(c, x + j * scale, y + i * scale,
                                     x + (j + 1) * scale, y + (i + 1) * scale, colour, 1);
    }
}

int canvas_text_width(const char *text, int scale)
{
    int n = (int)strlen(text);

    return n ? (n * FONT_ADVANCE - 1) * scale : 0;
}

int canvas_save(const struct canvas *c, ebm_context *context, const char *path)
{
    const ebm_picture picture = {
        .bytes = c->rgb, .n = 1, .height = c->height, .width = c->width, .channels = 3,
    };

    return ebm_picture_write(context, path, &picture);
}
