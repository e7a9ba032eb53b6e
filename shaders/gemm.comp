// gemm.comp - contract.glsl's products by the multiply-adds of each invocation.
//
// SPDX-License-Identifier: ISC
//
// A workgroup is 16 x 8, each of it TM x TN elements of the tile.  Shared memory:
//   4 (BK (BM + BN + 2) + 8 max(BM, BN, BK)) bytes, 10.2 KiB at 64 x 64
#version 450
#extension GL_GOOGLE_include_directive : require
const uint BK = 16;
#include "contract.glsl"

const uint ROWS = 16, COLUMNS = 8;
const uint TM = BM / ROWS, TN = BN / COLUMNS;
const uint PM = BM + 1, PN = BN + 1;         // + 1: no bank conflicts

shared float As[BK * PM], Bs[BK * PN];

void main()
{
    uint t = gl_LocalInvocationID.x, row = t / COLUMNS, column = t % COLUMNS;
    float sum[TM * TN];

    if (!find_tile())
        return;
    for (uint i = 0; i < TM * TN; i++)
        sum[i] = 0.0;
    decode_tile();
    decode(first);
    barrier();
    for (uint k0 = first; k0 < last; k0 += BK) {
        for (uint e = t; e < BM * BK; e += THREADS) {
            uint m = A_ALONG ? e / BK : e % BM, k = A_ALONG ? e % BK : e / BM;
            As[k * PM + m] = rounded(a_at(m, k0, k), ROUNDED);
        }
        for (uint e = t; e < BN * BK; e += THREADS) {
            uint n = B_ALONG ? e / BK : e % BN, k = B_ALONG ? e % BK : e / BN;
            Bs[k * PN + n] = rounded(b_at(k0, k, n), ROUNDED);
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
        decode(k0 + BK);
        barrier();
    }
#ifdef CAPACITY
    // Through the shared memory of a panel, ROWS rows at a time.  What an element takes
    // is not written out TM TN times, and `sum` is indexed by constants: registers have
    // no other index.
    [[dont_unroll]] for (uint turn = 0; turn < TM; turn++) {
        for (uint i = 0; i < TM; i++)
            if (i == turn)
                for (uint j = 0; j < TN; j++)
                    Bs[row * PN + column + COLUMNS * j] = sum[i * TN + j];
        barrier();
        [[dont_unroll]] for (uint e = t; e < ROWS * BN; e += THREADS)
            finish(ROWS * turn + e / BN, e % BN, Bs[e / BN * PN + e % BN]);
        barrier();
    }
#else
    for (uint i = 0; i < TM; i++)
        for (uint j = 0; j < TN; j++)
            finish(row + ROWS * i, column + COLUMNS * j, sum[i * TN + j]);
#endif
}
