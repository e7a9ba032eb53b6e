/* bf16_x86.h - conversions that both instruction sets use.
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_CPU_BF16_X86_H
#define EBM_CPU_BF16_X86_H

#include "bf16.h"

void bf16_x86_round(bf16 *to, bf16 *low, const float *from, int64_t n, int64_t whole);
void bf16_x86_pair(bf16 *to, bf16 *low, const float *first, const float *second, int64_t n, int64_t whole);
void bf16_x86_turn(bf16 *to, int64_t to_row, const bf16 *from, int64_t from_row);

#endif
