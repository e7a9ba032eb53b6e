// reduce.comp - SUM and AMAX over some axes; also the sums of split contractions.
//
// SPDX-License-Identifier: ISC
//
//   y[part][m] = sum or max over its part of k of  x[kept(m) + reduced(k)]
//
// LANES invocations share a result and combine in a fixed tree; without atomics
// the bits are the same every time.  Which neighbours are neighbours in memory
// decides who sits side by side: lanes of one result (ALONG) or results.
//
// With CAPACITY, a group is the epilogue: of a contraction in parts; see gemm.comp.
#version 450
#extension GL_GOOGLE_include_directive : require
#ifdef CAPACITY
#define CONSTANTS 12
#define OPERANDS 3
#define FIRST (OPERANDS + INPUTS + OUTPUTS)
#define SIZES (FIRST + 28)
#include "element.glsl"
#else
#define FIRST 3
#include "memory.glsl"
#endif
layout(local_size_x = 128) in;

layout(constant_id = 0) const bool LARGEST = false;
layout(constant_id = 1) const uint LANES = 128;      // a power of 2, up to 128
layout(constant_id = 2) const bool ALONG = true;
layout(constant_id = 3) const bool STORED = true;    // is y read by others?

// in p, after the operands; PART: terms of a part
const uint RESULTS = FIRST, TERMS = FIRST + 1, PART = FIRST + 2, PARTS = FIRST + 3;
const uint KEPT_SIZES = FIRST + 4, KEPT_STRIDES = FIRST + 10, GONE_SIZES = FIRST + 16, GONE_STRIDES = FIRST + 22;

shared float partial[128];

uint offset_of(uint i, uint sizes, uint strides)
{
    uint at = 0;

    for (int a = 5; a >= 0; a--) {
        uint n = uint(p[sizes + a]);
        if (n == 1)
            continue;
        at += i % n * uint(p[strides + a]);
        i /= n;
    }
    return at;
}

float combine(float a, float b)
{
    return LARGEST ? (b > a ? b : a) : a + b;
}

void main()
{
    const uint WIDTH = 128 / LANES;          // results of a workgroup
    uint t = gl_LocalInvocationID.x;
    uint lane = ALONG ? t % LANES : t / WIDTH, column = ALONG ? t / LANES : t % WIDTH;
    uint all = uint(p[RESULTS]) * uint(p[PARTS]), result = workgroup() * WIDTH + column;
    float y = LARGEST ? uintBitsToFloat(0xff800000u) : 0.0;

    if (result < all) {
        uint m = result % uint(p[RESULTS]), first = result / uint(p[RESULTS]) * uint(p[PART]);
        uint last = min(first + uint(p[PART]), uint(p[TERMS]));
        uint from = offset_of(m, KEPT_SIZES, KEPT_STRIDES);
        for (uint k = first + lane; k < last; k += LANES)
            y = combine(y, REAL(0, from + offset_of(k, GONE_SIZES, GONE_STRIDES)));
    }
    const uint STRIDE = ALONG ? 1 : WIDTH;   // between lanes
    partial[t] = y;
    for (uint half_lanes = LANES / 2; half_lanes > 0; half_lanes /= 2) {
        barrier();
        if (lane < half_lanes)
            partial[t] = combine(partial[t], partial[t + half_lanes * STRIDE]);
    }
    if (lane == 0 && result < all) {
        if (STORED)
            PUT(2, result, partial[t]);
#ifdef CAPACITY
        element(result, partial[t]);
#endif
    }
}
