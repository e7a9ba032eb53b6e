// element.glsl - one element of an elementwise group, by group.comp or behind a tile of
// gemm.comp.
//
// SPDX-License-Identifier: ISC
//
// A straight-line program over registers (see plan.h).  It is in specialization
// constants, so a driver folds it: every slot becomes one instruction, registers
// become values, unused slots vanish.
//
//   I0 ...      inputs:  0 none, else mode | type << 2 | buffer << 4
//   O0 ...      outputs: 0 none, else 1 | type << 1 | register << 3 | buffer << 9
//   S0, V0 ...  slots:   op | dst << 5 | a << 11 | b << 17 | c << 23, and a number
//
// Whoever includes this says where its constants begin (CONSTANTS), its operands -
// inputs, then outputs - (OPERANDS), and in p its sizes and strides (SIZES).
//
// All inputs are read before any output is written, as an output may lie on an
// input.  Built with three capacities; lower_group.c takes the smallest that holds.
#if CAPACITY == 1
#define INPUTS 6
#define OUTPUTS 2
#define EACH_INPUT(M) M(0) M(1) M(2) M(3) M(4) M(5)
#define EACH_OUTPUT(M) M(0) M(1)
#elif CAPACITY == 2
#define INPUTS 12
#define OUTPUTS 4
#define EACH_INPUT(M) M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7) M(8) M(9) M(10) M(11)
#define EACH_OUTPUT(M) M(0) M(1) M(2) M(3)
#else
#define INPUTS 25
#define OUTPUTS 12
#define EACH_INPUT(M) M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7) M(8) M(9) M(10) M(11) M(12) \
    M(13) M(14) M(15) M(16) M(17) M(18) M(19) M(20) M(21) M(22) M(23) M(24)
#define EACH_OUTPUT(M) M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7) M(8) M(9) M(10) M(11)
#endif
// The large one has more operands than some devices have descriptors: operands
// that lie in one buffer share one.  With FEW, for devices that have no more than is
// guaranteed, all do.
#if CAPACITY == 3 && !defined FEW
#define BUFFERS 24
#endif
#if CAPACITY == 3 || defined FEW
#define INPUT_BUFFER(k) (I##k >> 4)
#define OUTPUT_BUFFER(k) (O##k >> 9)
#else
#define BUFFERS (OPERANDS + INPUTS + OUTPUTS)
#define INPUT_BUFFER(k) (OPERANDS + k)
#define OUTPUT_BUFFER(k) (OPERANDS + INPUTS + k)
#endif
#include "memory.glsl"
#include "functions.glsl"
#include "slots.glsl"

layout(constant_id = CONSTANTS) const uint RANK = 1;
#define DECLARE_INPUT(k) layout(constant_id = CONSTANTS + 1 + k) const uint I##k = 0;
#define DECLARE_OUTPUT(k) layout(constant_id = CONSTANTS + 26 + k) const uint O##k = 0;
#define DECLARE_SLOT(k) \
    layout(constant_id = CONSTANTS + 38 + 2 * k) const uint S##k = 31; \
    layout(constant_id = CONSTANTS + 39 + 2 * k) const float V##k = 0;
EACH_INPUT(DECLARE_INPUT)
EACH_OUTPUT(DECLARE_OUTPUT)
EACH_SLOT(DECLARE_SLOT)

const uint STRIDES = SIZES + 6;
const uint LINEAR = 1, SCALAR = 2, STRIDED = 3;
const uint TYPE_F32 = 0, TYPE_I32 = 1;

float x[INPUTS], reg[64];
uint position[6];

uint place_of(uint mode, uint k, uint i)
{
    if (mode == LINEAR)
        return i;
    uint j = 0;
    if (mode == STRIDED)
        for (uint a = 0; a < RANK; a++)
            j += position[a] * uint(p[STRIDES + 6 * k + a]);
    return j;
}

#define LOAD(k) \
    if (I##k != 0) { \
        uint j = place_of(I##k & 3, k, i); \
        if ((I##k >> 2 & 3) == TYPE_F32) \
            x[k] = uintBitsToFloat(WORD_IN(INPUT_BUFFER(k), OPERANDS + k, j)); \
        else if ((I##k >> 2 & 3) == TYPE_I32) \
            x[k] = float(int(WORD_IN(INPUT_BUFFER(k), OPERANDS + k, j))); \
        else \
            x[k] = float(BYTE_IN(INPUT_BUFFER(k), OPERANDS + k, j)); \
    }

#define STORE(k) \
    if (O##k != 0) { \
        float y = reg[O##k >> 3 & 63]; \
        if ((O##k >> 1 & 3) == TYPE_F32) \
            WORD_IN(OUTPUT_BUFFER(k), OPERANDS + INPUTS + k, i) = floatBitsToUint(y); \
        else if ((O##k >> 1 & 3) == TYPE_I32) \
            WORD_IN(OUTPUT_BUFFER(k), OPERANDS + INPUTS + k, i) = uint(int(y)); \
        else \
            PUT_BYTE_IN(OUTPUT_BUFFER(k), OPERANDS + INPUTS + k, i, uint(clamp(y, 0.0, 255.0))) \
    }

// In the order of enum ew_op, from EW_NEG on.
float apply(uint op, float a, float b, float c)
{
    switch (op) {
    case 4:  return -a;
    case 5:  return abs(a);
    case 6:  return a > 0.0 ? 1.0 : a < 0.0 ? -1.0 : 0.0;
    case 7:  return floor(a);
    case 8:  return exp_of(a);
    case 9:  return log_of(a);
    case 10: return sqrt(a);
    case 11: return sine_of(a, 0u);
    case 12: return sine_of(a, 1u);
    case 13: return tanh_of(a);
    case 14: return sigmoid_of(a);
    case 15: return softplus_of(a);
    case 16: return trunc(a);
    case 17: return a > 0.0 ? min(trunc(a), 255.0) : 0.0;
    case 18: return a + b;
    case 19: return a - b;
    case 20: return a * b;
    case 21: return a / b;
    case 22: return a >= b || isnan(a) ? a : b;
    case 23: return a <= b || isnan(a) ? a : b;
    case 24: return a < b ? 1.0 : 0.0;
    case 25: return a == b ? 1.0 : 0.0;
    case 26: return a != 0.0 ? b : c;
    }
    return 0.0;
}

// EW_LOAD (0) reads an input, EW_IMM (1) is a number, EW_RAW (2) what the contraction
// has made, EW_IOTA (3) a position; 31 marks a free slot.
#define RUN(k) \
    if ((S##k & 31) == 0) \
        reg[S##k >> 5 & 63] = x[S##k >> 11 & 63]; \
    else if ((S##k & 31) == 1) \
        reg[S##k >> 5 & 63] = V##k; \
    else if ((S##k & 31) == 2) \
        reg[S##k >> 5 & 63] = raw; \
    else if ((S##k & 31) == 3) \
        reg[S##k >> 5 & 63] = float(position[S##k >> 11 & 63]); \
    else if ((S##k & 31) != 31) \
        reg[S##k >> 5 & 63] = apply(S##k & 31, reg[S##k >> 11 & 63], reg[S##k >> 17 & 63], \
                                    reg[S##k >> 23 & 63]);

void element(uint i, float raw)
{
    uint rest = i;

    for (uint a = RANK; a-- > 0; ) {
        position[a] = rest % uint(p[SIZES + a]);
        rest /= uint(p[SIZES + a]);
    }
    EACH_INPUT(LOAD)
    EACH_SLOT(RUN)
    EACH_OUTPUT(STORE)
}
