/* bf16_x86.c - AVX-512's instructions for bfloat16: conversions and products.
 *
 * SPDX-License-Identifier: ISC
 *
 * They take subnormal numbers for zero, which matters to nobody.  Compiled with
 * the instruction set's flags. */
#include <immintrin.h>
#include <string.h>
#include "bf16_x86.h"

enum { LANES = 16 };

static inline __mmask16 first_of(int64_t n)
{
    return (__mmask16)(n >= LANES ? 0xffff : n > 0 ? (1u << n) - 1 : 0);
}

static inline __m512i wide(__m256bh a)
{
    return _mm512_cvtepu16_epi32((__m256i)a);
}

/* What rounding has left of a. */
static inline __m512 rest_of(__m512 a, __m256bh high)
{
    return _mm512_sub_ps(a, _mm512_castsi512_ps(_mm512_slli_epi32(wide(high), 16)));
}

void bf16_x86_round(bf16 *to, bf16 *low, const float *from, int64_t n, int64_t whole)
{
    for (int64_t i = 0; i < whole; i += LANES) {
        __mmask16 here = first_of(n - i), there = first_of(whole - i);
        __m512 a = _mm512_maskz_loadu_ps(here, from + i);
        __m256bh high = _mm512_cvtneps_pbh(a);
        _mm256_mask_storeu_epi16(to + i, there, (__m256i)high);
        if (low)
            _mm256_mask_storeu_epi16(low + i, there, (__m256i)_mm512_cvtneps_pbh(rest_of(a, high)));
    }
}

static inline __m512i pairs_of(__m256bh first, __m256bh second)
{
    return _mm512_or_si512(wide(first), _mm512_slli_epi32(wide(second), 16));
}

void bf16_x86_pair(bf16 *to, bf16 *low, const float *first, const float *second, int64_t n, int64_t whole)
{
    for (int64_t i = 0; i < whole; i += LANES) {
        __mmask16 here = first_of(n - i), there = first_of(whole - i);
        __m512 a = _mm512_maskz_loadu_ps(here, first + i);
        __m512 b = second ? _mm512_maskz_loadu_ps(here, second + i) : _mm512_setzero_ps();
        __m256bh high_a = _mm512_cvtneps_pbh(a), high_b = _mm512_cvtneps_pbh(b);
        _mm512_mask_storeu_epi32(to + 2 * i, there, pairs_of(high_a, high_b));
        if (low)
            _mm512_mask_storeu_epi32(low + 2 * i, there,
                                     pairs_of(_mm512_cvtneps_pbh(rest_of(a, high_a)),
                                              _mm512_cvtneps_pbh(rest_of(b, high_b))));
    }
}

/* Pairs, then fours of lanes change places, then quarters of registers. */
void bf16_x86_turn(bf16 *to, int64_t to_row, const bf16 *from, int64_t from_row)
{
    __m512i a[LANES], b[LANES];

    for (int i = 0; i < LANES; i++)
        a[i] = _mm512_loadu_si512(from + i * from_row);
    for (int i = 0; i < LANES; i += 2) {
        b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
    }
    for (int i = 0; i < LANES; i += 4) {
        a[i] = _mm512_unpacklo_epi64(b[i], b[i + 2]);
        a[i + 1] = _mm512_unpackhi_epi64(b[i], b[i + 2]);
        a[i + 2] = _mm512_unpacklo_epi64(b[i + 1], b[i + 3]);
        a[i + 3] = _mm512_unpackhi_epi64(b[i + 1], b[i + 3]);
    }
    for (int i = 0; i < 4; i++) {        /* a[4j + i]: columns i, i + 4, ... of rows 4j ... */
        __m512i even = _mm512_shuffle_i32x4(a[i], a[4 + i], 0x88);
        __m512i odd = _mm512_shuffle_i32x4(a[i], a[4 + i], 0xdd);
        __m512i even_below = _mm512_shuffle_i32x4(a[8 + i], a[12 + i], 0x88);
        __m512i odd_below = _mm512_shuffle_i32x4(a[8 + i], a[12 + i], 0xdd);
        _mm512_storeu_si512(to + i * to_row, _mm512_shuffle_i32x4(even, even_below, 0x88));
        _mm512_storeu_si512(to + (i + 4) * to_row, _mm512_shuffle_i32x4(odd, odd_below, 0x88));
        _mm512_storeu_si512(to + (i + 8) * to_row, _mm512_shuffle_i32x4(even, even_below, 0xdd));
        _mm512_storeu_si512(to + (i + 12) * to_row, _mm512_shuffle_i32x4(odd, odd_below, 0xdd));
    }
}

/* ---- the product -------------------------------------------------------- */

enum { MR = 8 };             /* rows at a time: 16 registers of sums */

static inline __m512bh two_of(const bf16 *a)
{
    int32_t two;

    memcpy(&two, a, sizeof two);
    return (__m512bh)_mm512_set1_epi32(two);
}

/* One pair of tiles' MR rows, all pairs of terms. */
static inline void add_tile(const bf16 *a, int64_t a_row, const bf16 *b, int64_t b_row,
                            int64_t b_second, __m512 c[MR][2])
{
    for (int k = 0; k < BF16_TERMS; k += 2, b += b_row) {
        __m512bh b0 = (__m512bh)_mm512_loadu_si512(b);
        __m512bh b1 = (__m512bh)_mm512_loadu_si512(b + b_second);
        for (int i = 0; i < MR; i++) {
            __m512bh ai = two_of(a + i * a_row + k);
            c[i][0] = _mm512_dpbf16_ps(c[i][0], ai, b0);
            c[i][1] = _mm512_dpbf16_ps(c[i][1], ai, b1);
        }
    }
}

static void multiply_rows(const struct bf16_sum *s, const bf16 *a, const bf16 *b, float *c, bool add)
{
    int64_t second = s->column_tiles > 1 ? s->b_second : 0;
    __m512 sum[MR][2];

    for (int i = 0; i < MR; i++) {
        sum[i][0] = add ? _mm512_loadu_ps(c + i * s->c_row) : _mm512_setzero_ps();
        sum[i][1] = add && second ? _mm512_loadu_ps(c + i * s->c_row + BF16_COLUMNS)
                                  : _mm512_setzero_ps();
    }
    for (int64_t t = 0; t < s->n; t++)
        add_tile(a + s->a_at[t], s->a_row, b + s->b_at[t], s->b_row, second, sum);
    for (int i = 0; i < MR; i++) {
        _mm512_storeu_ps(c + i * s->c_row, sum[i][0]);
        if (second)
            _mm512_storeu_ps(c + i * s->c_row + BF16_COLUMNS, sum[i][1]);
    }
}

static void multiply(const struct bf16_sum *s, const bf16 *a, const bf16 *b, float *c, bool add)
{
    for (int i = 0; i < s->row_tiles; i++)
        for (int row = 0; row < BF16_ROWS; row += MR)
            multiply_rows(s, a + i * s->a_second + row * s->a_row, b,
                          c + (i * BF16_ROWS + row) * s->c_row, add);
}

static void nothing(void)
{
}

const struct bf16_kernels bf16_avx512 = {
    .name = "avx512bf16", .begin = nothing, .end = nothing, .multiply = multiply,
    .round = bf16_x86_round, .pair = bf16_x86_pair, .turn = bf16_x86_turn,
};
