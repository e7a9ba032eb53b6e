/* attributes.h - ebm-eval attributes: what pictures of shapes show.
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_ATTRIBUTES_H
#define EBM_ATTRIBUTES_H

#include "options.h"
#include "tool.h"

extern const struct tool attributes_tool;
/* argv[0] is "attributes"; the exit status. */
int attributes_main(ebm_context *context, int argc, char **argv);

#endif
