// contract.glsl - matrix products and the three partials of convolution: what is
// multiplied.
//
// SPDX-License-Identifier: ISC
//
//   C[z][m][n] = sum_k A[z][m][k] B[z][k][n]
//
//   ROLE         z      m        n        k
//   MATMUL       batch  m        n        k
//   CONV         group  n p q    k out    r s c      A gathered from x
//   CONV_DATA    group  n h w    c        r s k out  A gathered from y
//   CONV_FILTER  group  k out    r s c    n p q      B gathered from x
//
// Implicit GEMM: no matrix of patches is stored.  A workgroup makes a tile of BM x BN;
// panels of BK go through shared memory.  A position in space and a tap of the filter
// meet in each gathered element; both are decoded once, into `pixel` and `tap`, not for
// each element.  A long k is split: part s goes to its own result, and reduce.comp adds
// the parts.
//
// With CAPACITY, a group is the epilogue: it takes elements of C as it is written, in
// the order of memory.  C itself is stored if others read it.  Whoever includes this
// says how deep a panel is (BK).
#extension GL_EXT_control_flow_attributes : require
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

const uint MATMUL = 0, CONV = 1, CONV_DATA = 2, CONV_FILTER = 3;
layout(constant_id = 0) const uint ROLE = MATMUL;
layout(constant_id = 1) const uint BM = 64;
layout(constant_id = 2) const uint BN = 64;
// Are neighbours along k neighbours in memory?
layout(constant_id = 3) const bool A_ALONG = true;
layout(constant_id = 4) const bool B_ALONG = true;
layout(constant_id = 5) const bool STORED = true;    // is C read by others?
layout(constant_id = 6) const bool ROUNDED = false;  // operands to bfloat16
const uint THREADS = 128;
const uint TABLE = BM > BN ? (BM > BK ? BM : BK) : (BN > BK ? BN : BK);

// in p, after the operands
const uint SIZE_M = FIRST, SIZE_N = FIRST + 1, SIZE_K = FIRST + 2, PART = FIRST + 3, PARTS = FIRST + 4;
const uint BATCHES = FIRST + 5, A_M = FIRST + 6, A_K = FIRST + 7, A_Z = FIRST + 8, B_N = FIRST + 9;
const uint B_K = FIRST + 10, B_Z = FIRST + 11, C_M = FIRST + 12, C_Z = FIRST + 13, C_PART = FIRST + 14;
const uint IMAGE = FIRST + 15, GRID = FIRST + 18, TAPS = FIRST + 20, CHANNELS = FIRST + 21;
const uint STRIDE = FIRST + 22, PADDING = FIRST + 24, DILATION = FIRST + 26;

shared ivec4 pixel[TABLE], tap[TABLE];

// The tile of the workgroup, and its part [first, last) of k.
uint m0, n0, z, part, first, last;
uint a0, b0, c0;                             // where its matrices begin

bool find_tile()
{
    uint across = (uint(p[SIZE_N]) + BN - 1) / BN, down = (uint(p[SIZE_M]) + BM - 1) / BM;
    uint tile = workgroup();

    n0 = tile % across * BN;
    m0 = tile / across % down * BM;
    part = tile / across / down % uint(p[PARTS]);
    z = tile / across / down / uint(p[PARTS]);
    first = part * uint(p[PART]);
    last = min(first + uint(p[PART]), uint(p[SIZE_K]));
    a0 = z * uint(p[A_Z]);
    b0 = z * uint(p[B_Z]);
    c0 = part * uint(p[C_PART]) + z * uint(p[C_Z]);
    return z < uint(p[BATCHES]);
}

// The image that is gathered from is [n, IMAGE, IMAGE+1, IMAGE+2 channels], the
// positions are those of GRID, filters have TAPS columns of CHANNELS.
ivec4 pixel_of(uint i)
{
    uint q = i % uint(p[GRID + 1]), row = i / uint(p[GRID + 1]);
    int h = int(row % uint(p[GRID])), n = int(row / uint(p[GRID])), w = int(q);
    int base = n * p[IMAGE] * p[IMAGE + 1] * p[IMAGE + 2];

    return ROLE == CONV_DATA
         ? ivec4(base, h + p[PADDING], w + p[PADDING + 1], 0)
         : ivec4(base, h * p[STRIDE] - p[PADDING], w * p[STRIDE + 1] - p[PADDING + 1], 0);
}

ivec4 tap_of(uint i)
{
    int c = int(i % uint(p[CHANNELS])), rs = int(i / uint(p[CHANNELS]));
    int r = rs / p[TAPS], s = rs % p[TAPS];

    return ivec4(r * p[DILATION], s * p[DILATION + 1], c, rs);
}

float gathered(uint operand_at, ivec4 x, ivec4 t)
{
    int h = x.y + t.x, w = x.z + t.y;

    if (ROLE == CONV_DATA) {
        int hp = x.y - t.x, wp = x.z - t.y;
        h = hp / p[STRIDE], w = wp / p[STRIDE + 1];
        if (hp < 0 || wp < 0 || h * p[STRIDE] != hp || w * p[STRIDE + 1] != wp)
            return 0.0;
    }
    if (h < 0 || w < 0 || h >= p[IMAGE] || w >= p[IMAGE + 1])
        return 0.0;
    uint i = operand_at + uint(x.x + (h * p[IMAGE + 1] + w) * p[IMAGE + 2] + t.z);
    return ROLE == CONV_FILTER ? REAL(1, i) : REAL(0, i);
}

// For the panel at k0.
void decode(uint k0)
{
    uint t = gl_LocalInvocationID.x;

    if (ROLE == MATMUL || t >= BK)
        return;
    if (ROLE == CONV_FILTER)
        pixel[t] = pixel_of(min(k0 + t, last - 1));
    else
        tap[t] = tap_of(min(k0 + t, last - 1));
}

// For all panels.
void decode_tile()
{
    uint t = gl_LocalInvocationID.x;

    if ((ROLE == CONV || ROLE == CONV_DATA) && t < BM)
        pixel[t] = pixel_of(min(m0 + t, uint(p[SIZE_M]) - 1));
    if (ROLE == CONV_FILTER && t < BN)
        tap[t] = tap_of(min(n0 + t, uint(p[SIZE_N]) - 1));
}

// Elements of the tile, from k0 on; 0 beyond its ends.
float a_at(uint m, uint k0, uint k)
{
    if (m0 + m >= uint(p[SIZE_M]) || k0 + k >= last)
        return 0.0;
    return ROLE == CONV || ROLE == CONV_DATA
         ? gathered(a0, pixel[m], tap[k])
         : REAL(0, a0 + (m0 + m) * uint(p[A_M]) + (k0 + k) * uint(p[A_K]));
}

float b_at(uint k0, uint k, uint n)
{
    if (n0 + n >= uint(p[SIZE_N]) || k0 + k >= last)
        return 0.0;
    if (ROLE == CONV_FILTER)
        return gathered(b0, pixel[k], tap[n]);
    if (ROLE == CONV_DATA)                   // f[k out][r s][c]
        return REAL(1, b0 + uint(tap[k].z * p[B_K] + tap[k].w * p[B_N]) + n0 + n);
    return REAL(1, b0 + (k0 + k) * uint(p[B_K]) + (n0 + n) * uint(p[B_N]));
}

void finish(uint m, uint n, float raw)
{
    uint c = c0 + (m0 + m) * uint(p[C_M]) + n0 + n;

    if (m0 + m >= uint(p[SIZE_M]) || n0 + n >= uint(p[SIZE_N]))
        return;
    if (STORED)
        PUT(2, c, raw);
#ifdef CAPACITY
    element(c, raw);
#endif
}
