// move.comp - BROADCAST, TRANSPOSE, SLICE, PAD, FLIP, CONCAT: copies between two
// strided boxes of one shape.
//
// SPDX-License-Identifier: ISC
//
//   to[sum i_a to_a] = from[sum i_a from_a]      0 <= i_a < n_a
//
// PAD goes over the result: where i_a - begin_a is no multiple of step_a, or out
// of the operand, there is a zero.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "memory.glsl"
layout(local_size_x = 128) in;

layout(constant_id = 0) const bool BYTES = false;
layout(constant_id = 1) const bool PADDED = false;
const uint COUNT = 3, FROM = 4, TO = 5;      // in p: elements, first offsets
const uint SIZES = 6, FROM_STRIDE = 12, TO_STRIDE = 18;
const uint BEGIN = 24, STEP = 30, INNER = 36;   // PAD: INNER sizes of the operand

void main()
{
    uint i = invocation(), rest = i;
    int from = p[FROM], to = p[TO];
    bool zero = false;

    if (i >= uint(p[COUNT]))
        return;
    for (int a = 5; a >= 0; a--) {
        int n = p[SIZES + a], k = 0;
        if (n == 1 && !PADDED)
            continue;
        k = int(rest % uint(n));
        rest /= uint(n);
        to += k * p[TO_STRIDE + a];
        if (PADDED) {
            int b = k - p[BEGIN + a], step = p[STEP + a];
            k = b / step;
            zero = zero || b < 0 || k * step != b || k >= p[INNER + a];
        }
        from += k * p[FROM_STRIDE + a];
    }
    if (BYTES) {
        uint y = zero ? 0u : BYTE(0, from);
        PUT_BYTE(2, to, y)
    } else {
        WORD(2, to) = zero ? 0u : WORD(0, from);
    }
}
