// random.comp - RANDOM and TICK: Philox4x32-10 with the bits of lib/philox.c.
//
// SPDX-License-Identifier: ISC
//
// One invocation makes one block of four numbers.  Every float operation is one
// rounded +, - or *: hence `precise` throughout.  Sources: see lib/philox.c.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "memory.glsl"
layout(local_size_x = 128) in;

const uint UNIFORM = 0, NORMAL = 1, TICK = 2;
layout(constant_id = 0) const uint KIND = UNIFORM;
const uint COUNT = 3, PURPOSE = 4, FIRST = 5;    // in p; FIRST: block of the stream
const uint COUNTER = 0, RESULT = 2;          // operands

uvec4 philox(uvec4 x, uvec2 key)
{
    for (int round = 0; round < 10; round++) {
        uint ah, al, bh, bl;
        umulExtended(0xd2511f53u, x.x, ah, al);
        umulExtended(0xcd9e8d57u, x.z, bh, bl);
        x = uvec4(bh ^ x.y ^ key.x, bl, ah ^ x.w ^ key.y, al);
        key += uvec2(0x9e3779b9u, 0xbb67ae85u);
    }
    return x;
}

float minus_two_log(uint count)
{
    const uint ROOT_HALF = 0x3f3504f3u;
    uint u = floatBitsToUint(float(int(count))) - ROOT_HALF;
    precise float e = float(int(u >> 23) - 24);
    precise float z = uintBitsToFloat((u & 0x7fffffu) + ROOT_HALF) - 1.0;
    precise float q = -0.0763442963;

    q = q * z + 0.127615497;
    q = q * z - 0.131601945;
    q = q * z + 0.142017618;
    q = q * z - 0.166233569;
    q = q * z + 0.200012267;
    q = q * z - 0.250008225;
    q = q * z + 0.333333313;
    precise float zz = z * z;
    precise float low = zz * (z * q) + e * -2.12194440e-4;
    precise float ln = ((low - 0.5 * zz) + z) + e * 0.693359375;
    return -2.0 * ln;
}

float root(float x)
{
    precise float y = uintBitsToFloat(0x5f3759dfu - (floatBitsToUint(x) >> 1));
    precise float half_x = 0.5 * x;

    y = y * (1.5 - half_x * (y * y));
    y = y * (1.5 - half_x * (y * y));
    y = y * (1.5 - half_x * (y * y));
    precise float r = x * y;
    precise float result = r + (0.5 * y) * (x - r * r);
    return result;
}

vec2 box_muller(uint radius, uint angle)
{
    precise float r = root(minus_two_log((radius >> 8) + 1));
    uint quarter = angle >> 30;
    precise float a = float(int((angle >> 8) & 0x3fffffu) * 2 + 1 - (1 << 22)) * 1.87253519e-7;
    precise float aa = a * a;
    precise float s = a + (a * aa) * ((-0.000195152839 * aa + 0.0083321603) * aa - 0.166666552);
    precise float c = ((aa * aa) * ((2.44331568e-5 * aa - 0.00138873165) * aa + 0.0416666456)
                       - 0.5 * aa) + 1.0;
    precise float x = r * ((quarter & 1) != 0 ? s : c);
    precise float y = r * ((quarter & 1) != 0 ? c : s);

    return vec2(uintBitsToFloat(floatBitsToUint(x) ^ (quarter ^ quarter >> 1) << 31),
                uintBitsToFloat(floatBitsToUint(y) ^ (quarter >> 1) << 31));
}

void main()
{
    uint block = invocation(), count = uint(p[COUNT]);
    uvec4 counter = uvec4(WORD(COUNTER, 0), WORD(COUNTER, 1), WORD(COUNTER, 2), WORD(COUNTER, 3));

    if (4 * block >= count)
        return;
    if (KIND == TICK) {
        counter.z++;
        for (uint i = 0; i < 4; i++)
            WORD(RESULT, i) = counter[i];
        return;
    }
    uvec4 bits = philox(uvec4(uint(p[FIRST]) + block, counter.z, counter.w, uint(p[PURPOSE])), counter.xy);
    vec4 y;
    if (KIND == NORMAL)
        y = vec4(box_muller(bits.x, bits.y), box_muller(bits.z, bits.w));
    else
        y = vec4(ivec4(bits >> 8)) * (1.0 / 16777216.0);
    for (uint i = 0; i < 4 && 4 * block + i < count; i++)
        PUT(RESULT, 4 * block + i, y[i]);
}
