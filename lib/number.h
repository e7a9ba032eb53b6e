/* number.h - numbers as text, the same in every locale.
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_NUMBER_H
#define EBM_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NUMBER_TEXT = 40 };

/* The shortest decimal text that reads back as the same double; "nan", "inf",
 * "-inf" for those. */
void number_write(double value, char text[NUMBER_TEXT]);
/* All of text[0 ... size) as a number; false when it is not one. */
bool number_read(const char *text, size_t size, double *value);
/* The same for an integer; 1e5 is one, 1.5 is not. */
bool number_read_integer(const char *text, size_t size, int64_t *value);

#endif
