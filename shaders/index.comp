// index.comp - GATHER, SCATTER, UPDATE: rows by index, indices clamped.
//
// SPDX-License-Identifier: ISC
//
// Where equal indices meet, no two invocations write one element: SCATTER goes
// over the result and adds rows in their order; in UPDATE a row whose index
// comes again later is not written.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "memory.glsl"
layout(local_size_x = 128) in;

const uint GATHER = 0, SCATTER = 1, UPDATE = 2;
layout(constant_id = 0) const uint KIND = GATHER;
layout(constant_id = 1) const bool BYTES = false;
const uint COUNT = 3, ROWS = 4, INDICES = 5, WIDTH = 6;     // in p
// Of the table, WINDOW elements are seen, the others by other dispatches: from row FIRST on,
// of SEEN rows, but for the SKIPPED elements before them.
const uint FIRST = 7, SEEN = 8, SKIPPED = 9, WINDOW = 10;
// Software drivers stop a loop after 65,535 turns: long ones are nested.
const int TURNS = 32768;

int row_of(int i)
{
    return clamp(int(WORD(1, i)), 0, p[ROWS] - 1);
}

bool comes_again(int i)
{
    for (int j0 = i + 1; j0 < p[INDICES]; j0 += TURNS)
        for (int j = j0; j < min(j0 + TURNS, p[INDICES]); j++)
            if (row_of(j) == row_of(i))
                return true;
    return false;
}

void main()
{
    uint e = invocation();

    if (e >= uint(p[COUNT]))
        return;
    int here = int(e) + (KIND == SCATTER ? p[SKIPPED] : 0), row = here / p[WIDTH], d = here % p[WIDTH];
    if (KIND == SCATTER) {
        float y = 0.0;
        for (int j0 = 0; j0 < p[INDICES]; j0 += TURNS)
            for (int j = j0; j < min(j0 + TURNS, p[INDICES]); j++)
                if (row_of(j) == p[FIRST] + row)
                    y += REAL(0, j * p[WIDTH] + d);
        PUT(2, e, y);
        return;
    }
    int seen = row_of(row) - p[FIRST];
    if (seen < 0 || seen >= p[SEEN])
        return;
    int there = seen * p[WIDTH] + d - p[SKIPPED];
    if (there < 0 || there >= p[WINDOW] || (KIND == UPDATE && comes_again(row)))
        return;
    uint from = KIND == UPDATE ? e : uint(there), to = KIND == UPDATE ? uint(there) : e;
    if (BYTES) {
        uint y = BYTE(0, from);
        PUT_BYTE(2, to, y)
    } else {
        WORD(2, to) = WORD(0, from);
    }
}
