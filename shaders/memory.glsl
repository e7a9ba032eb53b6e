// memory.glsl - how every shader sees its operands.
//
// SPDX-License-Identifier: ISC
//
// Binding 0 holds the parameters of one dispatch, binding 1 its operands.  A
// descriptor starts at an aligned offset, so the first words of the parameters
// say how many bytes after it each operand begins.
#ifndef BUFFERS
#define BUFFERS 3             // two that are read, the result: no device has fewer
#endif
layout(std430, binding = 0) readonly buffer Parameters { int p[]; };
layout(std430, binding = 1) buffer Memory { uint w[]; } at[BUFFERS];

// Operand k, through buffer b; most shaders have a buffer for each operand.
#define WORD_IN(b, k, i) at[b].w[(uint(p[k]) >> 2) + uint(i)]
#define WORD(k, i) WORD_IN(k, k, i)
#define REAL(k, i) uintBitsToFloat(WORD(k, i))
#define PUT(k, i, value) WORD(k, i) = floatBitsToUint(value)

// Bytes: other invocations may write other bytes of the same word.
#define BYTE_IN(b, k, i) \
    (at[b].w[(uint(p[k]) + uint(i)) >> 2] >> 8 * ((uint(p[k]) + uint(i)) & 3u) & 255u)
#define PUT_BYTE_IN(b, k, i, value) { \
    uint byte_at = uint(p[k]) + uint(i), shift = 8 * (byte_at & 3u); \
    atomicAnd(at[b].w[byte_at >> 2], ~(255u << shift)); \
    atomicOr(at[b].w[byte_at >> 2], (value) << shift); }
#define BYTE(k, i) BYTE_IN(k, k, i)
#define PUT_BYTE(k, i, value) PUT_BYTE_IN(k, k, i, value)

// With precision bf16 operands become bfloat16: to nearest, ties to even.
float rounded(float a, bool wanted)
{
    uint bits = floatBitsToUint(a);

    if (!wanted)
        return a;
    bits = (bits & 0x7fffffffu) > 0x7f800000u ? bits | 0x400000u : bits + 0x7fffu + (bits >> 16 & 1u);
    return uintBitsToFloat(bits & 0xffff0000u);
}

// Work is numbered along x; beyond what x can count, y goes on.
uint invocation()
{
    return gl_WorkGroupID.y * gl_NumWorkGroups.x * gl_WorkGroupSize.x + gl_GlobalInvocationID.x;
}
uint workgroup()
{
    return gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x;
}
