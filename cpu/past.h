/* past.h - vector stores that pass the caches by, where the instruction set has them.
 *
 * SPDX-License-Identifier: ISC
 *
 * STREAM_VECTOR(to, v): VECTOR floats, aligned to as many.  Before others may read
 * what was stored, stream_end() (kernels.h). */
#ifndef EBM_CPU_PAST_H
#define EBM_CPU_PAST_H

#if defined __AVX512F__
#include <immintrin.h>
#define VECTOR 16
#define STREAM_VECTOR(to, v) _mm512_stream_ps(to, (__m512)(v))
#define STREAM(to, from) STREAM_VECTOR(to, _mm512_loadu_ps(from))
#elif defined __AVX__
#include <immintrin.h>
#define VECTOR 8
#define STREAM_VECTOR(to, v) _mm256_stream_ps(to, (__m256)(v))
#define STREAM(to, from) STREAM_VECTOR(to, _mm256_loadu_ps(from))
#elif defined __SSE2__
#include <emmintrin.h>
#define VECTOR 4
#define STREAM_VECTOR(to, v) _mm_stream_ps(to, (__m128)(v))
#define STREAM(to, from) STREAM_VECTOR(to, _mm_loadu_ps(from))
#endif

#endif
