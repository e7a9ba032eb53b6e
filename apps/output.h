/* output.h - a result's file, which appears whole or not at all.
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_OUTPUT_H
#define EBM_OUTPUT_H

#include <stdio.h>

struct output {
    const char *path;
    char *temporary;
    FILE *file;                /* to print to; its errors are seen at the end */
};

/* 0, or an exit status after a message. */
int output_begin(struct output *output, const char *path);
/* Keep the file, or (keep false) leave what was there. */
int output_end(struct output *output, int keep);

/* Make a folder unless it is there; 0, or an exit status after a message. */
int output_folder(const char *path);

#endif
