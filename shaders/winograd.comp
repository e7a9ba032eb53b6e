// winograd.comp - the transforms of Winograd's convolutions with 3x3 filters.
//
// SPDX-License-Identifier: ISC
//
//   DATA    V[point][tile][channel] = B' d B    d: SIZE + 2 pixels square
//   FILTER  U[point][k][c]          = G g G'    g: 3x3 taps, TURNED by half a turn or not
//   RESULT  y                       = A' M A    M[point][tile][channel], y: SIZE pixels square
//   SPREAD  W[point][tile][channel] = A y A'
//   GATHER  f[k][3][3][c]           = G' U G
//
// and between them, by gemm.comp, for each of (SIZE + 2)^2 points, M = V U, or, for the
// filter's gradient, U = W' V.  Points are
// those of cpu/winograd_transform.c, where the matrices come from.  An invocation does
// one tile of one channel: columns first, then rows, in d, six apart.
//
// With CAPACITY, a group is the epilogue of RESULT; see gemm.comp.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#ifdef CAPACITY
#define CONSTANTS 12
#define OPERANDS 3
#define FIRST (OPERANDS + INPUTS + OUTPUTS)
#define SIZES (FIRST + 9)
#include "element.glsl"
#else
#define FIRST 3
#include "memory.glsl"
#endif
layout(local_size_x = 128) in;

const uint DATA = 0, FILTER = 1, RESULT = 2, SPREAD = 3, GATHER = 4;
layout(constant_id = 0) const uint KIND = DATA;
layout(constant_id = 1) const uint SIZE = 4;         // or 2
layout(constant_id = 2) const bool STORED = true;    // is y read by others?
layout(constant_id = 3) const bool ROUNDED = false;  // operands to bfloat16
layout(constant_id = 4) const bool TURNED = false;

// in p: elements of a point, channels, and of tiles the first, how many an image has
// down and across, its pixels, and which of them the first tile begins at
const uint COUNT = FIRST, CHANNELS = FIRST + 1, TILE = FIRST + 2, DOWN = FIRST + 3, ACROSS = FIRST + 4;
const uint IMAGE = FIRST + 5, BEGIN = FIRST + 7;

const uint SEEN = SIZE + 2;
// Powers, products and sums of a^2 and b^2, the points a = 11/16 and b = 23/16; 1 / N.
const float A1 = 11.0 / 16, A2 = 121.0 / 256, A3 = 1331.0 / 4096;
const float B1 = 23.0 / 16, B2 = 529.0 / 256, B3 = 12167.0 / 4096;
const float AB2 = 121.0 * 529 / 65536, SUM2 = 650.0 / 256;
const float N0 = 65536.0 / (121.0 * 529), NA = 65536.0 / (2.0 * 121 * (121.0 - 529));
const float NB = 65536.0 / (2.0 * 529 * (529.0 - 121));

float d[36];
#ifdef CAPACITY
// Of each invocation its own pixels: registers have no index that varies.
shared float pixels[16 * 128];
#endif

void data_line(uint at, uint by)
{
    float d0 = d[at], d1 = d[at + by], d2 = d[at + 2 * by], d3 = d[at + 3 * by];

    if (SIZE == 2) {
        d[at] = d2 - d0;
        d[at + by] = d2 + d1;
        d[at + 2 * by] = d2 - d1;
        d[at + 3 * by] = d3 - d1;
        return;
    }
    float d4 = d[at + 4 * by], d5 = d[at + 5 * by];
    float even_a = d4 - B2 * d2, odd_a = d3 - B2 * d1;
    float even_b = d4 - A2 * d2, odd_b = d3 - A2 * d1;
    d[at] = d4 - SUM2 * d2 + AB2 * d0;
    d[at + by] = even_a + A1 * odd_a;
    d[at + 2 * by] = even_a - A1 * odd_a;
    d[at + 3 * by] = even_b + B1 * odd_b;
    d[at + 4 * by] = even_b - B1 * odd_b;
    d[at + 5 * by] = d5 - SUM2 * d3 + AB2 * d1;
}

void filter_line(uint at, uint by)
{
    float g0 = d[at], g1 = d[at + by], g2 = d[at + 2 * by];

    if (SIZE == 2) {
        float even = 0.5 * (g0 + g2), odd = 0.5 * g1;
        d[at] = -g0;
        d[at + by] = even + odd;
        d[at + 2 * by] = even - odd;
        d[at + 3 * by] = g2;
        return;
    }
    float even_a = g0 + A2 * g2, odd_a = A1 * g1;
    float even_b = g0 + B2 * g2, odd_b = B1 * g1;
    d[at] = N0 * g0;
    d[at + by] = NA * (even_a + odd_a);
    d[at + 2 * by] = NA * (even_a - odd_a);
    d[at + 3 * by] = NB * (even_b + odd_b);
    d[at + 4 * by] = NB * (even_b - odd_b);
    d[at + 5 * by] = g2;
}

void result_line(uint at, uint by)
{
    float even_a = d[at + by] + d[at + 2 * by], odd_a = d[at + by] - d[at + 2 * by];

    if (SIZE == 2) {
        d[at] += even_a;
        d[at + by] = odd_a + d[at + 3 * by];
        return;
    }
    float even_b = d[at + 3 * by] + d[at + 4 * by], odd_b = d[at + 3 * by] - d[at + 4 * by];
    float d5 = d[at + 5 * by];
    d[at] += even_a + even_b;
    d[at + by] = A1 * odd_a + B1 * odd_b;
    d[at + 2 * by] = A2 * even_a + B2 * even_b;
    d[at + 3 * by] = A3 * odd_a + (B3 * odd_b + d5);
}

void spread_line(uint at, uint by)
{
    float y0 = d[at], y1 = d[at + by];

    if (SIZE == 2) {
        d[at + by] = y0 + y1;
        d[at + 2 * by] = y0 - y1;
        d[at + 3 * by] = y1;
        return;
    }
    float y2 = d[at + 2 * by], y3 = d[at + 3 * by];
    float even_a = y0 + A2 * y2, odd_a = y1 + A2 * y3;
    float even_b = y0 + B2 * y2, odd_b = y1 + B2 * y3;
    d[at + by] = even_a + A1 * odd_a;
    d[at + 2 * by] = even_a - A1 * odd_a;
    d[at + 3 * by] = even_b + B1 * odd_b;
    d[at + 4 * by] = even_b - B1 * odd_b;
    d[at + 5 * by] = y3;
}

void gather_line(uint at, uint by)
{
    float u1 = d[at + by], u2 = d[at + 2 * by], u3 = d[at + 3 * by];

    if (SIZE == 2) {
        float even = 0.5 * (u1 + u2), odd = 0.5 * (u1 - u2);
        d[at] = even - d[at];
        d[at + by] = odd;
        d[at + 2 * by] = even + u3;
        return;
    }
    float u4 = d[at + 4 * by], u5 = d[at + 5 * by];
    float even_a = NA * (u1 + u2), odd_a = NA * (u1 - u2);
    float even_b = NB * (u3 + u4), odd_b = NB * (u3 - u4);
    d[at] = N0 * d[at] + (even_a + even_b);
    d[at + by] = A1 * odd_a + B1 * odd_b;
    d[at + 2 * by] = A2 * even_a + (B2 * even_b + u5);
}

// FROM x FROM elements of d become TO x TO.
#define TRANSFORM(line, FROM, TO) \
    for (uint j = 0; j < FROM; j++) \
        line(j, 6); \
    for (uint j = 0; j < TO; j++) \
        line(6 * j, 1);

void store_points(uint e)
{
    for (uint y = 0; y < SEEN; y++)
        for (uint x = 0; x < SEEN; x++)
            PUT(2, (y * SEEN + x) * uint(p[COUNT]) + e, d[6 * y + x]);
}

void load_points(uint e)
{
    for (uint y = 0; y < SEEN; y++)
        for (uint x = 0; x < SEEN; x++)
            d[6 * y + x] = REAL(0, (y * SEEN + x) * uint(p[COUNT]) + e);
}

void gather_filter(uint e)
{
    uint c = e % uint(p[CHANNELS]), k = e / uint(p[CHANNELS]);

    load_points(e);
    TRANSFORM(gather_line, SEEN, 3)
    for (uint t = 0; t < 9; t++)
        PUT(2, (9 * k + t) * uint(p[CHANNELS]) + c, d[6 * (t / 3) + t % 3]);
}

void filter_points(uint e)
{
    uint c = e % uint(p[CHANNELS]), k = e / uint(p[CHANNELS]);

    for (uint t = 0; t < 9; t++) {
        float tap = rounded(REAL(0, (9 * k + (TURNED ? 8 - t : t)) * uint(p[CHANNELS]) + c), ROUNDED);
        d[6 * (t / 3) + t % 3] = tap;
    }
    TRANSFORM(filter_line, 3, SEEN)
    store_points(e);
}

void main()
{
    uint e = invocation();

    if (e >= uint(p[COUNT]))
        return;
    for (uint i = 0; i < 36; i++)
        d[i] = 0.0;
    if (KIND == FILTER) {
        filter_points(e);
        return;
    }
    if (KIND == GATHER) {
        gather_filter(e);
        return;
    }
    uint channel = e % uint(p[CHANNELS]), tile = uint(p[TILE]) + e / uint(p[CHANNELS]);
    uint row = tile / uint(p[ACROSS]);
    int n = int(row / uint(p[DOWN]));
    int top = int(row % uint(p[DOWN]) * SIZE) + p[BEGIN];
    int left = int(tile % uint(p[ACROSS]) * SIZE) + p[BEGIN + 1];
    if (KIND == DATA || KIND == SPREAD) {
        const uint LOADED = KIND == DATA ? SEEN : SIZE;
        for (uint y = 0; y < LOADED; y++)
            for (uint x = 0; x < LOADED; x++) {
                int h = top + int(y), w = left + int(x);
                if (h >= 0 && w >= 0 && h < p[IMAGE] && w < p[IMAGE + 1])
                    d[6 * y + x] = rounded(REAL(0, ((n * p[IMAGE] + h) * p[IMAGE + 1] + w) * p[CHANNELS]
                                                   + int(channel)), ROUNDED);
            }
        if (KIND == DATA) {
            TRANSFORM(data_line, SEEN, SEEN)
        } else {
            TRANSFORM(spread_line, SIZE, SEEN)
        }
        store_points(e);
        return;
    }
    load_points(e);
    TRANSFORM(result_line, SEEN, SIZE)
#ifdef CAPACITY
    for (uint y = 0; y < SIZE; y++)
        for (uint x = 0; x < SIZE; x++)
            pixels[128 * (y * SIZE + x) + gl_LocalInvocationID.x] = d[6 * y + x];
    [[dont_unroll]] for (uint i = 0; i < SIZE * SIZE; i++) {
        int h = top + int(i / SIZE), w = left + int(i % SIZE);
        uint there = uint(((n * p[IMAGE] + h) * p[IMAGE + 1] + w) * p[CHANNELS]) + channel;
        float raw = pixels[128 * i + gl_LocalInvocationID.x];
        if (h < p[IMAGE] && w < p[IMAGE + 1]) {
            if (STORED)
                PUT(2, there, raw);
            element(there, raw);
        }
    }
#else
    for (uint y = 0; y < SIZE; y++)
        for (uint x = 0; x < SIZE; x++) {
            int h = top + int(y), w = left + int(x);
            if (h < p[IMAGE] && w < p[IMAGE + 1])
                PUT(2, uint(((n * p[IMAGE] + h) * p[IMAGE + 1] + w) * p[CHANNELS]) + channel, d[6 * y + x]);
        }
#endif
}
