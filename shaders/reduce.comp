// reduce.comp - SUM and AMAX over some axes; also the sums of split contractions.
//
// SPDX-License-Identifier: ISC
//
//   y[part][m] = sum or max over its part of k of  x[kept(m) + reduced(k)]
//
// LANES invocations share a result and combine in a fixed tree; without atomics
// the bits are the same every time.  Which neighbours are neighbours in memory
// decides who sits side by side: lanes of one result (ALONG) or results.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "memory.glsl"
layout(local_size_x = 128) in;

layout(constant_id = 0) const bool LARGEST = false;
layout(constant_id = 1) const uint LANES = 128;      // a power of 2, up to 128
layout(constant_id = 2) const bool ALONG = true;
const uint RESULTS = 3, TERMS = 4, PART = 5, PARTS = 6;   // PART: terms of a part
const uint KEPT_SIZES = 7, KEPT_STRIDES = 13, SIZES = 19, STRIDES = 25;

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
            y = combine(y, REAL(0, from + offset_of(k, SIZES, STRIDES)));
    }
    const uint STRIDE = ALONG ? 1 : WIDTH;   // between lanes
    partial[t] = y;
    for (uint half_lanes = LANES / 2; half_lanes > 0; half_lanes /= 2) {
        barrier();
        if (lane < half_lanes)
            partial[t] = combine(partial[t], partial[t + half_lanes * STRIDE]);
    }
    if (lane == 0 && result < all)
        PUT(2, result, partial[t]);
}
