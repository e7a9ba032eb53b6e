/* stream.c - stores that pass the caches by, and weighed sums that are stored once;
 * compiled once per instruction set.
 *
 * SPDX-License-Identifier: ISC
 *
 * A plain store reads the line first that it then overwrites: an array larger
 * than the caches is moved twice.  Whole lines written at once are not read. */
#include <string.h>
#include "kernels.h"

#if defined __AVX512F__
#include <immintrin.h>
#define VECTOR 16
#define STREAM(to, from) _mm512_stream_ps(to, _mm512_loadu_ps(from))
#elif defined __AVX__
#include <immintrin.h>
#define VECTOR 8
#define STREAM(to, from) _mm256_stream_ps(to, _mm256_loadu_ps(from))
#elif defined __SSE2__
#include <emmintrin.h>
#define VECTOR 4
#define STREAM(to, from) _mm_stream_ps(to, _mm_loadu_ps(from))
#endif

void NAME(stream)(float *to, const float *from, int64_t n)
{
#ifdef STREAM
    if ((uintptr_t)to % (VECTOR * sizeof *to) == 0) {
        int64_t whole = n & -VECTOR;
        for (int64_t i = 0; i < whole; i += VECTOR)
            STREAM(to + i, from + i);
        to += whole;
        from += whole;
        n -= whole;
    }
#endif
    memcpy(to, from, (size_t)n * sizeof *to);
}

/* What rows r[0] ... add to a piece of d, from their element i on: up to four at
 * once; returns how many. */
LANE_INLINE int64_t weigh_few(float *restrict d, const struct weighed *r, int64_t count, int64_t i,
                              int64_t n, bool first)
{
    const float *a = r[0].a + i;
    const float w = r[0].w;

    if (count >= 4) {
        const float *b = r[1].a + i, *c = r[2].a + i, *e = r[3].a + i;
        const float v = r[1].w, u = r[2].w, t = r[3].w;
        if (first)
            for (int64_t j = 0; j < n; j++)
                d[j] = w * a[j] + v * b[j] + u * c[j] + t * e[j];
        else
            for (int64_t j = 0; j < n; j++)
                d[j] = d[j] + w * a[j] + v * b[j] + u * c[j] + t * e[j];
        return 4;
    }
    if (first)
        for (int64_t j = 0; j < n; j++)
            d[j] = w * a[j];
    else
        for (int64_t j = 0; j < n; j++)
            d[j] += w * a[j];
    return 1;
}

/* Pieces of d are made where they stay in the first cache. */
void NAME(weigh)(float *d, const struct weighed *row, int64_t count, int64_t n, bool past)
{
    enum { PIECE = 256 };
    float piece[PIECE];

    for (int64_t i = 0; i < n; i += PIECE) {
        int64_t size = n - i < PIECE ? n - i : PIECE;
        float *to = past ? piece : d + i;
        for (int64_t r = 0; r < count; )
            r += weigh_few(to, row + r, count - r, i, size, r == 0);
        if (past)
            NAME(stream)(d + i, piece, size);
    }
}

void NAME(stream_end)(void)
{
#ifdef STREAM
    _mm_sfence();
#endif
}
