/* sha256.h - SHA-256 (FIPS 180-4), for checksums and names of models.
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_SHA256_H
#define EBM_SHA256_H

#include <stddef.h>
#include <stdint.h>

struct sha256 {
    uint32_t state[8];
    uint64_t bytes;
    uint8_t block[64];
};

enum { SHA256_SIZE = 32, SHA256_TEXT = 65 };

void sha256_begin(struct sha256 *h);
void sha256_add(struct sha256 *h, const void *data, size_t size);
/* The digest in hexadecimal, with the final zero. */
void sha256_end(struct sha256 *h, char text[SHA256_TEXT]);

#endif
