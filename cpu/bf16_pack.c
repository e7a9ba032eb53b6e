/* bf16_pack.c - matrices as tiles of pairs of terms.
 *
 * SPDX-License-Identifier: ISC */
#include "bf16.h"

/* One tile, of columns [first, first + n) and terms from `term` on. */
static void pack_tile(const struct bf16_kernels *k, const struct bf16_matrix *m, const float *f,
                      int64_t term, int64_t first, int64_t n, bf16 *to)
{
    int64_t terms = least(BF16_TERMS, m->terms - term);
    bf16 rows[BF16_TILE], low_rows[BF16_TILE], *low = m->split ? to + 2 * BF16_TILE : NULL;

    if (m->f_column == 1) {
        for (int64_t t = 0; t < BF16_TERMS; t += 2) {
            const float *from = f + (term + t) * m->f_term + first;
            k->pair(to + t * BF16_COLUMNS, low ? low + t * BF16_COLUMNS : NULL, t < terms ? from : f,
                    t + 1 < terms ? from + m->f_term : NULL, t < terms ? n : 0, BF16_COLUMNS);
        }
        return;
    }
    for (int64_t j = 0; j < BF16_COLUMNS; j++)
        k->round(rows + j * BF16_TERMS, low ? low_rows + j * BF16_TERMS : NULL,
                 j < n ? f + (first + j) * m->f_column + term : f, j < n ? terms : 0, BF16_TERMS);
    k->turn(to, BF16_TERMS, rows, BF16_TERMS);
    if (low)
        k->turn(low, BF16_TERMS, low_rows, BF16_TERMS);
}

void bf16_pack(const struct bf16_kernels *k, const struct bf16_matrix *m, const float *f, bf16 *to)
{
    for (int64_t t = 0; t < m->terms; t += BF16_TERMS, to += (m->split ? 4 : 2) * BF16_TILE)
        for (int64_t j = 0; j < m->columns; j += BF16_COLUMNS)
            pack_tile(k, m, f, t, j, least(BF16_COLUMNS, m->columns - j),
                      to + j / BF16_COLUMNS * BF16_TILE);
}
