/* conv_taps.c - the taps of a filter that a pixel sees along one axis.
 *
 * SPDX-License-Identifier: ISC
 *
 * CONV_DATA, with stride, sees different taps from different pixels: output
 * pixel h has the taps r with  h + top - r dilation = p stride.  So the output
 * falls into stride_y x stride_x phases, each of which is a convolution with
 * stride 1 of y by its own taps:
 *
 *     h     0 1 2 3 4 5         stride 2, r = 3, top = 1:
 *     r     1 02 1 02 1 02      phase 0 has tap 1, phase 1 taps 0 and 2
 *
 * and nothing is multiplied by zero or scattered.  CONV has one phase. */
#include "conv.h"

int axis_taps(const struct problem *v, bool y, int64_t phase, struct tap *tap)
{
    int64_t size = y ? v->r : v->s, stride = y ? v->stride_y : v->stride_x;
    int64_t dilation = y ? v->dilation_y : v->dilation_x, pad = y ? v->top : v->left;
    int n = 0;

    if (v->op == OP_CONV)
        for (int64_t i = 0; i < size; i++)
            tap[n++] = (struct tap){ i, i * dilation - pad };
    else
        for (int64_t i = size - 1; i >= 0; i--)
            if ((phase + pad - i * dilation) % stride == 0)
                tap[n++] = (struct tap){ i, (phase + pad - i * dilation) / stride };
    return n;
}

void axis_span(const struct problem *v, bool y, int64_t phases, struct tap *tap,
               int64_t *first, int64_t *span)
{
    int64_t low = INT64_MAX, high = INT64_MIN;

    for (int64_t i = 0; i < phases; i++) {
        int n = axis_taps(v, y, i, tap);
        for (int t = 0; t < n; t++) {
            low = least(low, tap[t].offset);
            high = most(high, tap[t].offset);
        }
    }
    *first = low <= high ? low : 0;
    *span = low <= high ? high - low + 1 : 1;
}
