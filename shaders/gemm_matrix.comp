// gemm_matrix.comp - contract.glsl's products with precision bf16, by the cooperative
// matrices of the device.
//
// SPDX-License-Identifier: ISC
//
// Devices multiply matrices of float16, few of bfloat16, into float32.  The 8 digits of
// a bfloat16 fit float16's 11, its range does not, so panels are scaled by powers of
// two, which rounds nothing:
//
//   C = 2^-(shift_a + shift_b) sum_k (2^shift_a A) (2^shift_b B)
//
// The largest of the first panel that is not 0 goes to [2^TOP, 2^(TOP+1)).  A later one
// that would not fit moves the shift, and the sums with it.  Elements less than
// 2^-(TOP+14) of the largest so far may be rounded, or become 0: an error that float32
// makes, too, when it adds their products to those of the largest.
//
// The workgroup's subgroups have SM x SN matrices of M x N each.  Shared memory:
//   2 BK (BM + BN + 16) + 4 M (BN + 4) + 32 max(BM, BN) bytes, 15.3 KiB for 16 x 16
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
const uint BK = 32;
#include "contract.glsl"

layout(constant_id = 7) const uint M = 16;
layout(constant_id = 8) const uint N = 16;
layout(constant_id = 9) const uint K = 16;
layout(constant_id = 10) const uint SM = 2;
layout(constant_id = 11) const uint SN = 2;
const uint PM = BM + 8, PN = BN + 8, PC = BN + 4;    // rows begin at multiples of 16 bytes
const uint LOADS_A = BM * BK / THREADS, LOADS_B = BN * BK / THREADS;
const int TOP = 12, FITS = 15;

shared float16_t As[BK * PM], Bs[BK * PN];
shared float Cs[M * PC];
shared uint largest[4];                      // of A and B; of this panel and of the next

float power_of_2(int e)
{
    return e < -126 ? 0.0 : uintBitsToFloat(uint(min(e, 127) + 127) << 23);
}

float scaled(float x, int e)
{
    return x * power_of_2(e / 2) * power_of_2(e - e / 2);
}

uint magnitude(float x)
{
    return floatBitsToUint(x) & 0x7fffffffu;
}

void note_largest(uint i, uint bits)
{
    uint most = subgroupMax(bits);

    if (subgroupElect())
        atomicMax(largest[i], most);
}

// The shift for a panel whose largest element has these bits.
int shift_for(uint bits, int shift, bool any)
{
    int exponent = int(min(bits, 0x7f7fffffu) >> 23) - 127;

    return bits != 0 && (!any || exponent + shift > FITS) ? TOP - exponent : shift;
}

void main()
{
    uint t = gl_LocalInvocationID.x, parity = 0;
    uint row = gl_SubgroupID / (BN / N / SN) * SM, column = gl_SubgroupID % (BN / N / SN) * SN;
    int shift_a = 0, shift_b = 0;
    bool any_a = false, any_b = false;
    coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator> sum[SM * SN];

    // Where subgroups are smaller than the device says, the trial of matrix.c finds nothing.
    if (!find_tile() || gl_NumSubgroups * SM * SN * M * N != BM * BN)
        return;
    for (uint i = 0; i < SM * SN; i++)
        sum[i] = coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator>(0.0);
    if (t < 4)
        largest[t] = 0;
    decode_tile();
    decode(first);
    barrier();
    for (uint k0 = first; k0 < last; k0 += BK, parity ^= 2) {
        float a[LOADS_A], b[LOADS_B];
        uint most_a = 0, most_b = 0;
        for (uint i = 0; i < LOADS_A; i++) {
            uint e = t + THREADS * i, m = A_ALONG ? e / BK : e % BM, k = A_ALONG ? e % BK : e / BM;
            a[i] = rounded(a_at(m, k0, k), true);
            most_a = max(most_a, magnitude(a[i]));
        }
        for (uint i = 0; i < LOADS_B; i++) {
            uint e = t + THREADS * i, n = B_ALONG ? e / BK : e % BN, k = B_ALONG ? e % BK : e / BN;
            b[i] = rounded(b_at(k0, k, n), true);
            most_b = max(most_b, magnitude(b[i]));
        }
        note_largest(parity, most_a);
        note_largest(parity + 1, most_b);
        barrier();
        most_a = largest[parity];
        most_b = largest[parity + 1];
        if (t < 2)
            largest[(parity ^ 2) + t] = 0;
        decode(k0 + BK);
        int to_a = shift_for(most_a, shift_a, any_a), to_b = shift_for(most_b, shift_b, any_b);
        int change = (any_a ? to_a - shift_a : 0) + (any_b ? to_b - shift_b : 0);
        if (change != 0)
            for (uint i = 0; i < SM * SN; i++)
                sum[i] *= power_of_2(change);
        shift_a = to_a;
        shift_b = to_b;
        any_a = any_a || most_a != 0;
        any_b = any_b || most_b != 0;
        for (uint i = 0; i < LOADS_A; i++) {
            uint e = t + THREADS * i, m = A_ALONG ? e / BK : e % BM, k = A_ALONG ? e % BK : e / BM;
            As[k * PM + m] = float16_t(scaled(a[i], shift_a));
        }
        for (uint i = 0; i < LOADS_B; i++) {
            uint e = t + THREADS * i, n = B_ALONG ? e / BK : e % BN, k = B_ALONG ? e % BK : e / BN;
            Bs[k * PN + n] = float16_t(scaled(b[i], shift_b));
        }
        barrier();
        for (uint k = 0; k < BK; k += K) {
            coopmat<float16_t, gl_ScopeSubgroup, M, K, gl_MatrixUseA> left[SM];
            coopmat<float16_t, gl_ScopeSubgroup, K, N, gl_MatrixUseB> right;
            for (uint i = 0; i < SM; i++)
                coopMatLoad(left[i], As, k * PM + (row + i) * M, PM, gl_CooperativeMatrixLayoutColumnMajor);
            for (uint j = 0; j < SN; j++) {
                coopMatLoad(right, Bs, k * PN + (column + j) * N, PN, gl_CooperativeMatrixLayoutRowMajor);
                for (uint i = 0; i < SM; i++)
                    sum[i * SN + j] = coopMatMulAdd(left[i], right, sum[i * SN + j]);
            }
        }
    }
    // A row of matrices at a time; registers have no index that varies.
    [[dont_unroll]] for (uint turn = 0; turn < BM / M; turn++) {
        for (uint i = 0; i < SM; i++)
            if (row + i == turn)
                for (uint j = 0; j < SN; j++)
                    coopMatStore(sum[i * SN + j], Cs, (column + j) * N, PC, gl_CooperativeMatrixLayoutRowMajor);
        barrier();
        [[dont_unroll]] for (uint e = t; e < M * BN; e += THREADS)
            finish(M * turn + e / BN, e % BN, scaled(Cs[e / BN * PC + e % BN], -(shift_a + shift_b)));
        barrier();
    }
}
