/* stream.c - stores that pass the caches by, compiled once per instruction set.
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

void NAME(stream_end)(void)
{
#ifdef STREAM
    _mm_sfence();
#endif
}
