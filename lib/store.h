/* store.h - the tensors that outlive a run, as the library's files see them.
 *
 * SPDX-License-Identifier: ISC
 *
 *   slot 0  "rng"      int32 [4]          a state: one tensor
 *   slot 1  "energy"   float [P]          a region: parts side by side
 *             conv1.weight  [16,5,5,1]  at 0
 *             conv1.bias    [16]        at 400 ...
 *   slot 2  "energy.m" float [P]          a state shaped like the region
 */
#ifndef EBM_STORE_H
#define EBM_STORE_H

#include "backend.h"

struct part {                /* a parameter of a region */
    char *name;              /* without the region's */
    struct shape shape;
    int64_t offset;          /* in elements */
    ebm_init init;
};

struct tensor {
    char *name;
    enum ebm_type type;
    struct shape shape;      /* of a region: [P], growing until allocated */
    ebm_init init;           /* of a state */
    bool region;
    int n_parts, parts_capacity;
    struct part *parts;
    struct device_buffer *buffer;    /* NULL until allocated */
};

struct ebm_store {
    ebm_context *ctx;
    ebm_backend *backend;
    enum ebm_precision precision;    /* of programs */
    int count, capacity;
    struct tensor *tensors;          /* by slot */
    bool blank;                      /* regions get their values later: zeros till then */
    int64_t batch, part;             /* programs take so many rows of a batch at a time; 0: all */
};

/* The slot of a name, or -1. */
int store_find(const ebm_store *store, const char *name);
/* Declare; the slot, or a negative status (message set). */
int store_state(ebm_store *store, const char *name, enum ebm_type type,
                const struct shape *shape, ebm_init init);
int store_region(ebm_store *store, const char *name);
/* Declare a parameter: its index among the region's parts, or a status. */
int store_part(ebm_store *store, int region, const char *name,
               const struct shape *shape, ebm_init init);
size_t tensor_bytes(const struct tensor *t);
/* Bytes of a tensor or parameter, from `offset` of it on. */
int store_read_at(ebm_store *store, const char *name, size_t offset, void *host, size_t size);
/* Whole tensors by slot. */
int store_read_slot(ebm_store *store, int slot, void *host, size_t size);
int store_write_slot(ebm_store *store, int slot, const void *host, size_t size);

#endif
