// gemm.comp - matrix products and the three partials of convolution.
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
// Implicit GEMM: no matrix of patches is stored.  A workgroup of 16 x 8 makes a
// tile of BM x BN; panels of BK go through shared memory:
//   4 (BK (BM + BN + 2) + 8 max(BM, BN, BK)) bytes, 10.2 KiB at 64 x 64.
// A position in space and a tap of the filter meet in each gathered element; both
// are decoded once, into `pixel` and `tap`, not for each element.  A long k is
// split: part s goes to its own result, and reduce.comp adds the parts.
//
// With CAPACITY, a group is the epilogue: it takes elements of C as it is written, in
// the order of memory, through the shared memory of a panel.  C itself is stored if
// others read it.
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#ifdef CAPACITY
#define CONSTANTS 8
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
const uint BK = 16, THREADS = 128, ROWS = 16, COLUMNS = 8;
const uint TM = BM / ROWS, TN = BN / COLUMNS;
const uint PM = BM + 1, PN = BN + 1;         // + 1: no bank conflicts
const uint TABLE = BM > BN ? BM : BN;        // at least BK

// in p, after the operands
const uint SIZE_M = FIRST, SIZE_N = FIRST + 1, SIZE_K = FIRST + 2, PART = FIRST + 3, PARTS = FIRST + 4;
const uint BATCHES = FIRST + 5, A_M = FIRST + 6, A_K = FIRST + 7, A_Z = FIRST + 8, B_N = FIRST + 9;
const uint B_K = FIRST + 10, B_Z = FIRST + 11, C_M = FIRST + 12, C_Z = FIRST + 13, C_PART = FIRST + 14;
const uint IMAGE = FIRST + 15, GRID = FIRST + 18, TAPS = FIRST + 20, CHANNELS = FIRST + 21;
const uint STRIDE = FIRST + 22, PADDING = FIRST + 24, DILATION = FIRST + 26;

shared float As[BK * PM], Bs[BK * PN];
shared ivec4 pixel[TABLE], tap[TABLE];

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

void decode(uint k0, uint last)
{
    uint t = gl_LocalInvocationID.x;

    if (ROLE == MATMUL || t >= BK)
        return;
    if (ROLE == CONV_FILTER)
        pixel[t] = pixel_of(min(k0 + t, last - 1));
    else
        tap[t] = tap_of(min(k0 + t, last - 1));
}

void main()
{
    uint M = uint(p[SIZE_M]), N = uint(p[SIZE_N]), K = uint(p[SIZE_K]);
    uint across = (N + BN - 1) / BN, down = (M + BM - 1) / BM;
    uint tile = workgroup(), t = gl_LocalInvocationID.x;
    uint n0 = tile % across * BN, m0 = tile / across % down * BM;
    uint part = tile / across / down % uint(p[PARTS]), z = tile / across / down / uint(p[PARTS]);
    uint first = part * uint(p[PART]), last = min(first + uint(p[PART]), K);
    uint row = t / COLUMNS, column = t % COLUMNS;
    uint a0 = z * uint(p[A_Z]), b0 = z * uint(p[B_Z]);
    float sum[TM * TN];

    if (z >= uint(p[BATCHES]))               // no such tile
        return;
    for (uint i = 0; i < TM * TN; i++)
        sum[i] = 0.0;
    if ((ROLE == CONV || ROLE == CONV_DATA) && t < BM)
        pixel[t] = pixel_of(min(m0 + t, M - 1));
    if (ROLE == CONV_FILTER && t < BN)
        tap[t] = tap_of(min(n0 + t, N - 1));
    decode(first, last);
    barrier();
    for (uint k0 = first; k0 < last; k0 += BK) {
        for (uint e = t; e < BM * BK; e += THREADS) {
            uint m = A_ALONG ? e / BK : e % BM, k = A_ALONG ? e % BK : e / BM;
            float a = 0.0;
            if (m0 + m < M && k0 + k < last)
                a = ROLE == CONV || ROLE == CONV_DATA
                  ? gathered(a0, pixel[m], tap[k])
                  : REAL(0, a0 + (m0 + m) * uint(p[A_M]) + (k0 + k) * uint(p[A_K]));
            As[k * PM + m] = rounded(a, ROUNDED);
        }
        for (uint e = t; e < BN * BK; e += THREADS) {
            uint n = B_ALONG ? e / BK : e % BN, k = B_ALONG ? e % BK : e / BN;
            float b = 0.0;
            if (n0 + n < N && k0 + k < last) {
                if (ROLE == CONV_FILTER)
                    b = gathered(b0, pixel[k], tap[n]);
                else if (ROLE == CONV_DATA)  // f[k out][r s][c]
                    b = REAL(1, b0 + uint(tap[k].z * p[B_K] + tap[k].w * p[B_N]) + n0 + n);
                else
                    b = REAL(1, b0 + (k0 + k) * uint(p[B_K]) + (n0 + n) * uint(p[B_N]));
            }
            Bs[k * PN + n] = rounded(b, ROUNDED);
        }
        barrier();
        for (uint k = 0; k < BK; k++) {
            float a[TM], b[TN];
            for (uint i = 0; i < TM; i++)
                a[i] = As[k * PM + row + ROWS * i];
            for (uint j = 0; j < TN; j++)
                b[j] = Bs[k * PN + column + COLUMNS * j];
            for (uint i = 0; i < TM; i++)
                for (uint j = 0; j < TN; j++)
                    sum[i * TN + j] += a[i] * b[j];
        }
        decode(k0 + BK, last);
        barrier();
    }
    uint c0 = part * uint(p[C_PART]) + z * uint(p[C_Z]);
#ifdef CAPACITY
    // ROWS rows at a time.  What an element takes is not written out TM TN times, and
    // `sum` is indexed by constants: registers have no other index.
    [[dont_unroll]] for (uint turn = 0; turn < TM; turn++) {
        for (uint i = 0; i < TM; i++)
            if (i == turn)
                for (uint j = 0; j < TN; j++)
                    Bs[row * PN + column + COLUMNS * j] = sum[i * TN + j];
        barrier();
        [[dont_unroll]] for (uint e = t; e < ROWS * BN; e += THREADS) {
            uint m = m0 + ROWS * turn + e / BN, n = n0 + e % BN, c = c0 + m * uint(p[C_M]) + n;
            float raw = Bs[e / BN * PN + e % BN];
            if (m < M && n < N) {
                if (STORED)
                    PUT(2, c, raw);
                element(c, raw);
            }
        }
        barrier();
    }
#else
    for (uint i = 0; i < TM; i++)
        for (uint j = 0; j < TN; j++) {
            uint m = m0 + row + ROWS * i, n = n0 + column + COLUMNS * j;
            if (m < M && n < N)
                PUT(2, c0 + m * uint(p[C_M]) + n, sum[i * TN + j]);
        }
#endif
}
