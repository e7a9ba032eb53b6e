/* stream.c - stores that pass the caches by, and weighed sums of pixels stored once;
 * compiled once per instruction set.
 *
 * SPDX-License-Identifier: ISC
 *
 * A plain store reads the line first that it then overwrites: an array larger
 * than the caches is moved twice.  Whole lines written at once are not read. */
#include <string.h>
#include "kernels.h"
#include "past.h"

void NAME(stream)(void *d, const float *from, const float *b, const float *c, int64_t n)
{
    float *to = d;

    (void)b;
    (void)c;
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

/* A few vectors of channels at a time, whose sums stay in registers. */
#ifndef VECTOR
#define VECTOR 4
#endif
enum { FEW = 4 };
typedef float vec __attribute__((vector_size(VECTOR * sizeof(float)), aligned(sizeof(float)), may_alias));

/* The sum that is channels [c, c + V vectors) of a pixel: by line, then by tap. */
#define WEAVE_FEW(V, put)                                                        \
    do {                                                                         \
        vec sum[V];                                                              \
        UNROLL for (int v = 0; v < (V); v++)                                     \
            sum[v] = (vec){ 0 };                                                 \
        for (int64_t p = 0; p < lines; p++)                                      \
            for (int64_t q = first[j]; q < first[j + 1]; q++) {                  \
                const float *a = line[p].a + tap[q].at + c;                      \
                const float w = line[p].w * tap[q].weight;                       \
                UNROLL for (int v = 0; v < (V); v++)                             \
                    sum[v] += w * *(const vec *)(const void *)(a + v * VECTOR);  \
            }                                                                    \
        UNROLL for (int v = 0; v < (V); v++)                                     \
            put(d + c + v * VECTOR, sum[v]);                                     \
    } while (0)

#define WEAVE(name, put)                                                         \
static void name(float *d, const struct weighed *line, int64_t lines, const int64_t *first,   \
                 const struct tapped *tap, int64_t pixels, int64_t n)            \
{                                                                                \
    for (int64_t j = 0; j < pixels; j++, d += n) {                               \
        int64_t c = 0;                                                           \
        for (; c + FEW * VECTOR <= n; c += FEW * VECTOR)                         \
            WEAVE_FEW(FEW, put);                                                 \
        for (; c + VECTOR <= n; c += VECTOR)                                     \
            WEAVE_FEW(1, put);                                                   \
        for (; c < n; c++) {                                                     \
            float sum = 0;                                                       \
            for (int64_t p = 0; p < lines; p++)                                  \
                for (int64_t q = first[j]; q < first[j + 1]; q++)                \
                    sum += line[p].w * tap[q].weight * line[p].a[tap[q].at + c]; \
            d[c] = sum;                                                          \
        }                                                                        \
    }                                                                            \
}

#define PUT(to, v) *(vec *)(void *)(to) = v
WEAVE(weave_here, PUT)
#ifdef STREAM_VECTOR
WEAVE(weave_past, STREAM_VECTOR)
#endif

void NAME(weave)(float *d, const struct weighed *line, int64_t lines, const int64_t *first,
                 const struct tapped *tap, int64_t pixels, int64_t n, bool past)
{
#ifdef STREAM_VECTOR
    if (past && n % VECTOR == 0 && (uintptr_t)d % (VECTOR * sizeof *d) == 0) {
        weave_past(d, line, lines, first, tap, pixels, n);
        return;
    }
#endif
    (void)past;
    weave_here(d, line, lines, first, tap, pixels, n);
}

void NAME(stream_end)(void)
{
#ifdef STREAM
    _mm_sfence();
#endif
}
