/* sha256.h - SHA-256 (FIPS 180-4), for checksums and names of models.
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_SHA256_H
#define EBM_SHA256_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sha256 {
    uint32_t state[8];
    uint64_t bytes;
    uint8_t block[64];
    bool fast;               /* the processor does the blocks */
};

enum { SHA256_SIZE = 32, SHA256_TEXT = 65 };

void sha256_begin(struct sha256 *h);
void sha256_add(struct sha256 *h, const void *data, size_t size);
/* The digest in hexadecimal, with the final zero. */
void sha256_end(struct sha256 *h, char text[SHA256_TEXT]);

/* sha256_x86.c, where the compiler knows it: whether this processor does, and
 * whole blocks; K are the standard's constants. */
bool sha256_x86_usable(void);
void sha256_x86_compress(uint32_t H[8], const uint8_t *block, size_t blocks, const uint32_t K[64]);

#endif
