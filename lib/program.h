/* program.h - programs as stores and runs see them: memory that is taken late.
 *
 * SPDX-License-Identifier: ISC
 *
 * A program is planned when it is compiled and gets its memory when its store
 * has: then programs of all stores of a device share one arena, as large as the
 * largest needs, and what they take together is known before. */
#ifndef EBM_PROGRAM_H
#define EBM_PROGRAM_H

#include "store.h"

/* Bytes that the device's waiting programs will take, and those of them that only
 * save time.  To withhold some of these: backend->withheld. */
size_t programs_waiting_bytes(const ebm_backend *backend, size_t *spare);
/* Give the store's waiting programs their memory. */
int programs_bind(ebm_store *store);

#endif
