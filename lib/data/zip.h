/* zip.h - members of ZIP archives.
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_ZIP_H
#define EBM_ZIP_H

#include "input.h"

struct zip_member {
    char *name;
    unsigned method;               /* 0 stored, 8 deflated */
    uint32_t crc;
    uint64_t packed, size;         /* bytes in the archive, and of content */
    uint64_t header;               /* offset of its local header */
};

struct zip {
    struct input *in;
    struct zip_member *members;
    size_t count;
};

/* Read the directory; the input must outlive the archive. */
int zip_open(struct input *in, struct zip *zip);
void zip_close(struct zip *zip);
/* NULL if there is none. */
const struct zip_member *zip_find(const struct zip *zip, const char *name);
/* A member's content, checked; free it with mem_free. */
int zip_extract(const struct zip *zip, const struct zip_member *member,
                uint64_t limit, uint8_t **bytes);

#endif
