/* sha256.c - SHA-256 (FIPS 180-4).
 *
 * SPDX-License-Identifier: ISC
 *
 * Letters are those of the standard: H the chaining state, W the message
 * schedule, K the round constants, a ... h the working variables.
 * A model is hashed each time it is opened, so where the processor has
 * instructions for it, sha256_x86.c does the blocks. */
#include "config.h"
#include <string.h>
#include "sha256.h"

static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1,
    0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3,
    0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
    0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
    0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
    0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
    0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
    0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
    0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotr(uint32_t x, int n)
{
    return x >> n | x << (32 - n);
}

static uint32_t big_endian(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* One round; the variables are not moved, the caller renames them. */
static inline void turn(uint32_t a, uint32_t b, uint32_t c, uint32_t *d, uint32_t e, uint32_t f,
                        uint32_t g, uint32_t *h, uint32_t k, uint32_t w)
{
    uint32_t S1 = rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25);
    uint32_t S0 = rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22);
    uint32_t T1 = *h + S1 + (g ^ (e & (f ^ g))) + k + w;

    *d += T1;
    *h = T1 + S0 + ((a & b) | (c & (a | b)));
}

static uint32_t extended(const uint32_t *w)      /* W[t] of W + t */
{
    uint32_t s0 = rotr(w[-15], 7) ^ rotr(w[-15], 18) ^ w[-15] >> 3;
    uint32_t s1 = rotr(w[-2], 17) ^ rotr(w[-2], 19) ^ w[-2] >> 10;

    return s1 + w[-7] + s0 + w[-16];
}

static void compress_one(uint32_t H[8], const uint8_t block[64])
{
    uint32_t W[64];
    uint32_t a = H[0], b = H[1], c = H[2], d = H[3], e = H[4], f = H[5], g = H[6], h = H[7];

    for (int t = 0; t < 16; t++)
        W[t] = big_endian(block + 4 * t);
    for (int t = 16; t < 64; t++)
        W[t] = extended(W + t);
    for (int t = 0; t < 64; t += 8) {            /* after eight, each has its name again */
        turn(a, b, c, &d, e, f, g, &h, K[t], W[t]);
        turn(h, a, b, &c, d, e, f, &g, K[t + 1], W[t + 1]);
        turn(g, h, a, &b, c, d, e, &f, K[t + 2], W[t + 2]);
        turn(f, g, h, &a, b, c, d, &e, K[t + 3], W[t + 3]);
        turn(e, f, g, &h, a, b, c, &d, K[t + 4], W[t + 4]);
        turn(d, e, f, &g, h, a, b, &c, K[t + 5], W[t + 5]);
        turn(c, d, e, &f, g, h, a, &b, K[t + 6], W[t + 6]);
        turn(b, c, d, &e, f, g, h, &a, K[t + 7], W[t + 7]);
    }
    H[0] += a, H[1] += b, H[2] += c, H[3] += d;
    H[4] += e, H[5] += f, H[6] += g, H[7] += h;
}

static void compress(struct sha256 *h, const uint8_t *block, size_t blocks)
{
#ifdef HAVE_SHA_X86
    if (h->fast) {
        sha256_x86_compress(h->state, block, blocks, K);
        return;
    }
#endif
    for (; blocks; blocks--, block += 64)
        compress_one(h->state, block);
}

void sha256_begin(struct sha256 *h)
{
    static const uint32_t start[8] = {
        0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
    };
    memcpy(h->state, start, sizeof start);
    h->bytes = 0;
    h->fast = false;
#ifdef HAVE_SHA_X86
    h->fast = sha256_x86_usable();
#endif
}

void sha256_add(struct sha256 *h, const void *data, size_t size)
{
    const uint8_t *p = data;

    while (size) {
        size_t held = h->bytes % 64, n = 64 - held;

        if (held == 0 && size >= 64) {
            n = size / 64 * 64;
            compress(h, p, n / 64);
        } else {
            if (n > size)
                n = size;
            memcpy(h->block + held, p, n);
            if (held + n == 64)
                compress(h, h->block, 1);
        }
        h->bytes += n;
        p += n;
        size -= n;
    }
}

void sha256_end(struct sha256 *h, char text[SHA256_TEXT])
{
    static const uint8_t padding[64] = { 0x80 };
    static const char hex[] = "0123456789abcdef";
    uint64_t bits = h->bytes * 8;
    uint8_t length[8];

    sha256_add(h, padding, 1 + (119 - h->bytes % 64) % 64);
    for (int i = 0; i < 8; i++)
        length[i] = (uint8_t)(bits >> (56 - 8 * i));
    sha256_add(h, length, 8);
    for (int i = 0; i < 64; i++)
        text[i] = hex[h->state[i / 8] >> (28 - 4 * (i % 8)) & 15];
    text[64] = 0;
}
