/* npy.h - NumPy's arrays.
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_NPY_H
#define EBM_NPY_H

#include "records.h"

enum { NPY_RANK_MAX = 8 };

struct npy {
    char kind;                       /* b bool, u unsigned, i signed, f float */
    unsigned size;                   /* bytes of an element */
    bool big_endian;
    int rank;
    uint64_t shape[NPY_RANK_MAX];
};

bool npy_is(const uint8_t *head, size_t size);
/* Read the header; the input is then at the elements. */
int npy_header(struct input *in, struct npy *npy);
/* Take it as images: sets the layout of r (or checks it, if r has parts). */
int npy_layout(ebm_context *ctx, const char *name, const struct npy *npy,
               struct records *r, size_t *count);

#endif
