// window.comp - POOL, UNPOOL, PICK, PLACE.
//
// SPDX-License-Identifier: ISC
//
// Windows of the large side [n,h,w,c] belong to elements of the small side
// [n,p,q,c].  One invocation makes one element of the result; on the large side
// it visits the windows that hold it, so nothing is added by two.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "memory.glsl"
layout(local_size_x = 128) in;

const uint POOL = 0, UNPOOL = 1, PICK = 2, PLACE = 3;
layout(constant_id = 0) const uint KIND = POOL;
const uint COUNT = 3, HWC = 4, PQ = 7, WINDOW = 9, STRIDE = 11, PADDING = 13;   // in p

int H, W, C, P, Q;

int large_at(int n, int h, int w, int c)
{
    return ((n * H + h) * W + w) * C + c;
}

bool inside(int h, int w)
{
    return h >= 0 && h < H && w >= 0 && w < W;
}

// The first largest element of a in the window of (p,q); -1: none.
int largest(int n, int h0, int w0, int c)
{
    int best = -1;
    float top = 0.0;

    for (int r = 0; r < p[WINDOW]; r++)
        for (int s = 0; s < p[WINDOW + 1]; s++)
            if (inside(h0 + r, w0 + s)) {
                int j = large_at(n, h0 + r, w0 + s, c);
                float a = REAL(0, j);
                if (best < 0 || a > top) {
                    best = j;
                    top = a;
                }
            }
    return best;
}

void main()
{
    uint i = invocation();
    float y = 0.0;

    if (i >= uint(p[COUNT]))
        return;
    H = p[HWC], W = p[HWC + 1], C = p[HWC + 2], P = p[PQ], Q = p[PQ + 1];
    int rest = int(i), c = rest % C;
    rest /= C;
    if (KIND == POOL || KIND == PICK) {
        int q = rest % Q, row = rest / Q % P, n = rest / Q / P;
        int h0 = row * p[STRIDE] - p[PADDING], w0 = q * p[STRIDE + 1] - p[PADDING + 1];
        if (KIND == PICK) {
            int j = largest(n, h0, w0, c);
            y = j >= 0 ? REAL(1, j) : 0.0;
        } else {
            for (int r = 0; r < p[WINDOW]; r++)
                for (int s = 0; s < p[WINDOW + 1]; s++)
                    if (inside(h0 + r, w0 + s))
                        y += REAL(0, large_at(n, h0 + r, w0 + s, c));
        }
    } else {
        int w = rest % W, h = rest / W % H, n = rest / W / H;
        for (int r = 0; r < p[WINDOW]; r++)
            for (int s = 0; s < p[WINDOW + 1]; s++) {
                int hp = h + p[PADDING] - r, wp = w + p[PADDING + 1] - s;
                int row = hp / p[STRIDE], q = wp / p[STRIDE + 1];
                if (hp < 0 || wp < 0 || row * p[STRIDE] != hp || q * p[STRIDE + 1] != wp
                    || row >= P || q >= Q)
                    continue;
                int small = ((n * P + row) * Q + q) * C + c;
                if (KIND == UNPOOL)
                    y += REAL(0, small);
                else if (largest(n, h - r, w - s, c) == int(i))
                    y += REAL(1, small);
            }
    }
    PUT(2, i, y);
}
