/* plain.h - a device that takes plans at their word.
 *
 * SPDX-License-Identifier: ISC */
#ifndef PLAIN_H
#define PLAIN_H

#include "backend.h"

/* A backend for tests; close it with ebm_backend_free(). */
ebm_backend *plain_open(ebm_context *ctx);

#endif
