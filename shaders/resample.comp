// resample.comp - RESAMPLE and its adjoint, as products with sparse matrices.
//
// SPDX-License-Identifier: ISC
//
//   y[n,i,j,c] = sum over taps t of row i and u of row j:
//                weight_t weight_u x[n,index_t,index_u,c]
//
// The parameters hold both matrices: where the taps of each row begin, then
// index and weight of each tap.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "memory.glsl"
layout(local_size_x = 128) in;

const uint COUNT = 3, FROM = 4, TO = 6, CHANNELS = 8, MATRIX = 9;   // MATRIX: where each begins

void main()
{
    uint e = invocation();
    float y = 0.0;

    if (e >= uint(p[COUNT]))
        return;
    int C = p[CHANNELS], H = p[FROM], W = p[FROM + 1];
    int c = int(e) % C, rest = int(e) / C;
    int j = rest % p[TO + 1], i = rest / p[TO + 1] % p[TO], n = rest / p[TO + 1] / p[TO];
    int rows = p[MATRIX], columns = p[MATRIX + 1];
    for (int t = p[rows + i]; t < p[rows + i + 1]; t += 2)
        for (int u = p[columns + j]; u < p[columns + j + 1]; u += 2)
            y += intBitsToFloat(p[t + 1]) * intBitsToFloat(p[u + 1])
               * REAL(0, ((n * H + p[t]) * W + p[u]) * C + c);
    PUT(2, e, y);
}
