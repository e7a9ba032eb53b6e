/* sha256_x86.c - SHA-256's blocks by the SHA instructions of x86.
 *
 * SPDX-License-Identifier: ISC
 *
 * The state lies in two registers as the instruction wants it, {a,b,e,f} and
 * {c,d,g,h} from the highest lane down; one instruction does two rounds.
 * Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume
 * 2, SHA256RNDS2, SHA256MSG1, SHA256MSG2. */
#include <cpuid.h>
#include <immintrin.h>
#include "sha256.h"

bool sha256_x86_usable(void)
{
    unsigned a, b, c, d;
    const unsigned sse41 = 1u << 19, ssse3 = 1u << 9, sha = 1u << 29;

    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & sse41) || !(c & ssse3))
        return false;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & sha);
}

void sha256_x86_compress(uint32_t H[8], const uint8_t *block, size_t blocks, const uint32_t K[64])
{
    const __m128i order = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
    __m128i low = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)H), 0xb1);            /* c d a b */
    __m128i high = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(H + 4)), 0x1b);     /* e f g h */
    __m128i abef = _mm_alignr_epi8(low, high, 8), cdgh = _mm_blend_epi16(high, low, 0xf0);

    for (; blocks; blocks--, block += 64) {
        const __m128i abef_before = abef, cdgh_before = cdgh;
        __m128i w[4];
        for (int i = 0; i < 4; i++)
            w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(block + 16 * i)), order);
        for (int t = 0; t < 16; t++) {           /* four rounds each; w is a ring */
            __m128i now = w[t % 4];
            __m128i sum = _mm_add_epi32(now, _mm_loadu_si128((const __m128i *)(K + 4 * t)));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sum, 0x0e));
            /* The words four groups later take this group's place. */
            __m128i far = _mm_alignr_epi8(w[(t + 3) % 4], w[(t + 2) % 4], 4);
            now = _mm_add_epi32(_mm_sha256msg1_epu32(now, w[(t + 1) % 4]), far);
            w[t % 4] = _mm_sha256msg2_epu32(now, w[(t + 3) % 4]);
        }
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }
    low = _mm_shuffle_epi32(abef, 0x1b);         /* back: f e b a, and d c h g */
    high = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128((__m128i *)H, _mm_blend_epi16(low, high, 0xf0));
    _mm_storeu_si128((__m128i *)(H + 4), _mm_alignr_epi8(high, low, 8));
}
