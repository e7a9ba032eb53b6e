// group.comp - an elementwise group: one invocation computes one element.
//
// SPDX-License-Identifier: ISC
#version 450
#extension GL_GOOGLE_include_directive : require
#define CONSTANTS 0
#define OPERANDS 0
#define SIZES (INPUTS + OUTPUTS + 1)
#include "element.glsl"
layout(local_size_x = 128) in;

const uint COUNT = INPUTS + OUTPUTS;         // in p

void main()
{
    uint i = invocation();

    if (i < uint(p[COUNT]))
        element(i, 0.0);
}
