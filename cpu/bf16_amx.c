/* bf16_amx.c - products of bfloat16 by AMX's matrix tiles.
 *
 * SPDX-License-Identifier: ISC
 *
 * Four of the eight tiles accumulate; they are added to in turn, so that none
 * waits for itself.  Compiled with the instruction set's flags. */
#include <immintrin.h>
#include "bf16_x86.h"

/* Eight tiles of 16 rows of 64 bytes, as the instruction wants it. */
static const struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} layout __attribute__((aligned(64))) = {
    .palette = 1,
    .row_bytes = { 64, 64, 64, 64, 64, 64, 64, 64 },
    .rows = { 16, 16, 16, 16, 16, 16, 16, 16 },
};

static void begin(void)
{
    _tile_loadconfig(&layout);
}

static void end(void)
{
    _tile_release();
}

/* Tiles 0 to 3: C; 4 and 5: A; 6 and 7: B. */
static inline void add_products(bool rows, bool columns)
{
    _tile_dpbf16ps(0, 4, 6);
    if (columns)
        _tile_dpbf16ps(1, 4, 7);
    if (rows) {
        _tile_dpbf16ps(2, 5, 6);
        if (columns)
            _tile_dpbf16ps(3, 5, 7);
    }
}

static void multiply(const struct bf16_sum *s, const bf16 *a, const bf16 *b, float *c, bool add)
{
    const int64_t a_row = s->a_row * (int64_t)sizeof *a, b_row = s->b_row * (int64_t)sizeof *b;
    const int64_t c_row = s->c_row * (int64_t)sizeof *c;
    const bool rows = s->row_tiles > 1, columns = s->column_tiles > 1;
    float *below = c + BF16_ROWS * s->c_row;

    if (add) {
        _tile_loadd(0, c, c_row);
        if (columns)
            _tile_loadd(1, c + BF16_COLUMNS, c_row);
        if (rows)
            _tile_loadd(2, below, c_row);
        if (rows && columns)
            _tile_loadd(3, below + BF16_COLUMNS, c_row);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int64_t i = 0; i < s->n; i++) {
        const bf16 *ai = a + s->a_at[i], *bi = b + s->b_at[i];
        _tile_loadd(6, bi, b_row);
        if (columns)
            _tile_loadd(7, bi + s->b_second, b_row);
        if (s->a_low) {
            _tile_loadd(4, ai + s->a_low, a_row);
            if (rows)
                _tile_loadd(5, ai + s->a_low + s->a_second, a_row);
            add_products(rows, columns);
        }
        _tile_loadd(4, ai, a_row);
        if (rows)
            _tile_loadd(5, ai + s->a_second, a_row);
        add_products(rows, columns);
        if (s->a_low) {
            _tile_loadd(6, bi + s->b_low, b_row);
            if (columns)
                _tile_loadd(7, bi + s->b_low + s->b_second, b_row);
            add_products(rows, columns);
        }
    }
    _tile_stored(0, c, c_row);
    if (columns)
        _tile_stored(1, c + BF16_COLUMNS, c_row);
    if (rows)
        _tile_stored(2, below, c_row);
    if (rows && columns)
        _tile_stored(3, below + BF16_COLUMNS, c_row);
}

const struct bf16_kernels bf16_amx = {
    .name = "amx", .three = true, .begin = begin, .end = end, .multiply = multiply,
    .round = bf16_x86_round, .pair = bf16_x86_pair, .turn = bf16_x86_turn,
};
