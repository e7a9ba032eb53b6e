/* font.h - letters for the labels of charts.
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_FONT_H
#define EBM_FONT_H

#include <stdint.h>

enum { FONT_WIDTH = 5, FONT_ROWS = 9, FONT_ADVANCE = 6 };

/* The rows of a letter, or NULL for one that is blank or not in the font. */
const uint8_t *font_glyph(char c);

#endif
