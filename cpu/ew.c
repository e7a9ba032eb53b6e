/* ew.c - the elementwise loops, compiled once per instruction set.
 *
 * SPDX-License-Identifier: ISC
 *
 * Functions are branch-free polynomials, the same code for every lane; the
 * compiler makes vectors of the loops.  Coefficients are near-minimax (Lawson's
 * weighted least squares), rounded to float.  Errors in units of the last place,
 * held by test_ew.c: exp 1, log 0.8, sqrt 0.5, sin and cos 1.5 (for |a| up to
 * 10^4), tanh 2.6, sigmoid 2.4, softplus 2.7. */
#include <math.h>
#include <string.h>
#include "kernels.h"

LANE_INLINE uint32_t bits_of(float x)
{
    uint32_t u;

    memcpy(&u, &x, sizeof u);
    return u;
}

LANE_INLINE float float_of(uint32_t u)
{
    float x;

    memcpy(&x, &u, sizeof x);
    return x;
}

/* Adding it rounds a float below 2^22 to an integer, held in the low bits. */
static const float ROUND = 0x1.8p23f;
/* ln 2 in two parts: products of the first with exponents are exact. */
static const float LN2_HIGH = 0.693359375f, LN2_LOW = -2.12194440e-4f;

/* e^r - 1, |r| <= ln 2 / 2. */
LANE_INLINE float exp_near_less_1(float r)
{
    float p = 0.0013814558f;

    p = p * r + 0.00836873613f;
    p = p * r + 0.041668389f;
    p = p * r + 0.166665211f;
    p = p * r + 0.49999994f;
    return p * (r * r) + r;
}

LANE_INLINE float exp_near(float r)
{
    return exp_near_less_1(r) + 1.0f;
}

/* e^x = 2^n e^r; the power in two factors, for denormals. */
LANE_INLINE float exp_of(float x)
{
    x = x > 89.0f ? 89.0f : x;           /* NaN passes */
    x = x < -104.0f ? -104.0f : x;
    float t = x * 1.44269504f + ROUND;
    float n = t - ROUND;
    uint32_t k = bits_of(t) - bits_of(ROUND) + 256;
    float r = (x - n * LN2_HIGH) - n * LN2_LOW;
    uint32_t half = k >> 1;

    return exp_near(r) * float_of((half - 128 + 127) << 23) * float_of((k - half - 128 + 127) << 23);
}

/* e^x for x <= 0, where one factor does; below 1.6e-38 it is 0. */
LANE_INLINE float exp_falling(float x)
{
    float t = x * 1.44269504f + ROUND;
    float n = t - ROUND;
    float r = (x - n * LN2_HIGH) - n * LN2_LOW;
    float y = exp_near(r) * float_of((bits_of(t) << 23) + (127u << 23));

    return x < -87.0f ? 0.0f : y;
}

/* ln x = e ln 2 + ln(1 + z), 1 + z in [sqrt 1/2, sqrt 2). */
LANE_INLINE float log_of(float x)
{
    const uint32_t ROOT_HALF = 0x3f3504f3, BIAS = 128u << 23;
    bool denormal = x < 0x1p-126f;
    float y = denormal ? x * 0x1p25f : x;
    uint32_t u = bits_of(y) - ROOT_HALF + BIAS;
    float e = (float)((int32_t)(u >> 23) - 128) - (denormal ? 25.0f : 0.0f);
    float z = float_of((u & 0x7fffff) + ROOT_HALF) - 1.0f;
    float zz = z * z;
    float q = 0.0674660131f;

    q = q * z - 0.116756409f;
    q = q * z + 0.118881747f;
    q = q * z - 0.124055915f;
    q = q * z + 0.142195508f;
    q = q * z - 0.166679963f;
    q = q * z + 0.200021192f;
    q = q * z - 0.250000089f;
    q = q * z + 0.333333135f;
    y = ((zz * (z * q) + e * LN2_LOW) - 0.5f * zz) + z + e * LN2_HIGH;
    y = x < INFINITY ? y : x;
    y = x == 0.0f ? -INFINITY : y;
    return x >= 0.0f ? y : NAN;
}

/* m / (m + 2), m = e^2x - 1 = 2^n (e^r - 1) + (2^n - 1). */
LANE_INLINE float tanh_of(float x)
{
    x = x < -15.0f ? -15.0f : x;         /* NaN passes */
    x = x > 15.0f ? 15.0f : x;
    float t = x * (2 * 1.44269504f) + ROUND;
    float n = t - ROUND;
    float r = (2 * x - n * LN2_HIGH) - n * LN2_LOW;
    float power = float_of((bits_of(t) << 23) + (127u << 23));
    float m = power * exp_near_less_1(r) + (power - 1.0f);

    return m / (m + 2.0f);
}

/* By e^-|x|, so that small results keep their digits. */
LANE_INLINE float sigmoid_of(float x)
{
    float e = exp_falling(-fabsf(x));

    return (x >= 0.0f ? 1.0f : e) / (1.0f + e);
}

/* max(x, 0) + ln(1 + e), e = e^-|x|; ln(1 + e) = 2 artanh(e / (2 + e)). */
LANE_INLINE float softplus_of(float x)
{
    float e = exp_falling(-fabsf(x));
    float s = e / (2.0f + e), ss = s * s;
    float p = 0.12150453f;

    p = p * ss + 0.107138328f;
    p = p * ss + 0.143084422f;
    p = p * ss + 0.199994385f;
    p = p * ss + 0.333333373f;
    return (x > 0.0f ? x : 0.0f) + 2.0f * (s + (s * ss) * p);
}

/* sin(x + quarter pi/2): the turns are taken off in double. */
LANE_INLINE float sine_of(float x, uint32_t quarter)
{
    const double ROUND_DOUBLE = 0x1.8p52;
    double t = (double)x * 0.63661977236758138 + ROUND_DOUBLE;
    uint64_t u;

    memcpy(&u, &t, sizeof u);
    quarter += (uint32_t)u;
    float r = (float)((double)x - (t - ROUND_DOUBLE) * 1.5707963267948966);
    r = r > 0.8f ? 0.8f : r;             /* beyond 2^50 no digit is left */
    r = r < -0.8f ? -0.8f : r;
    float rr = r * r;
    float s = r + (r * rr) * ((-0.000195152839f * rr + 0.0083321603f) * rr - 0.166666552f);
    float c = (rr * rr) * ((2.44331568e-5f * rr - 0.00138873165f) * rr + 0.0416666456f)
            - 0.5f * rr + 1.0f;
    return float_of(bits_of(quarter & 1 ? c : s) ^ (quarter >> 1) << 31);
}

/* Rounded toward zero; from 2^23 on every float is whole. */
LANE_INLINE float trunc_of(float x)
{
    float a = fabsf(x);
    float r = (a + 0x1p23f) - 0x1p23f;

    r = r > a ? r - 1.0f : r;
    r = float_of(bits_of(r) | (bits_of(x) & 0x80000000u));
    return a < 0x1p23f ? r : x;
}

LANE_INLINE float floor_of(float x)
{
    float r = trunc_of(x);

    return r > x ? r - 1.0f : r;
}

LANE_INLINE float byte_of(float x)
{
    x = trunc_of(x);
    x = x > 0.0f ? x : 0.0f;
    return x < 255.0f ? x : 255.0f;
}

#define LOOP(name) \
    static void name(void *to, const float *a, const float *b, const float *c, int64_t n)

#define UNARY(name, result) \
    LOOP(name##_v) \
    { \
        float *d = to; \
        (void)b; \
        (void)c; \
        n &= -LANES; \
        LANE_LOOP \
        for (int64_t i = 0; i < n; i++) { \
            float x = a[i]; \
            d[i] = result; \
        } \
    }
UNARY(neg, -x)
UNARY(abs, fabsf(x))
UNARY(sign, x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : 0.0f)
UNARY(floor, floor_of(x))
UNARY(exp, exp_of(x))
UNARY(log, log_of(x))
UNARY(sqrt, sqrtf(x))
UNARY(sin, sine_of(x, 0))
UNARY(cos, sine_of(x, 1))
UNARY(tanh, tanh_of(x))
UNARY(sigmoid, sigmoid_of(x))
UNARY(softplus, softplus_of(x))
UNARY(trunc, trunc_of(x))
UNARY(byte, byte_of(x))
#undef UNARY

#define BINARY_KIND(name, kind, first, second, result) \
    LOOP(name##_##kind) \
    { \
        float *d = to, a0 = a[0], b0 = b[0]; \
        (void)a0; \
        (void)b0; \
        (void)c; \
        n &= -LANES; \
        LANE_LOOP \
        UNROLLED \
        for (int64_t i = 0; i < n; i++) { \
            float x = first, y = second; \
            d[i] = result; \
        } \
    }
#define BINARY(name, result) \
    BINARY_KIND(name, vv, a[i], b[i], result) \
    BINARY_KIND(name, sv, a0, b[i], result) \
    BINARY_KIND(name, vs, a[i], b0, result)
BINARY(add, x + y)
BINARY(sub, x - y)
BINARY(mul, x * y)
BINARY(div, x / y)
BINARY(max, ((x >= y) | (x != x)) ? x : y)    /* NaN passes from either side */
BINARY(min, ((x <= y) | (x != x)) ? x : y)
BINARY(less, x < y ? 1.0f : 0.0f)
BINARY(equal, x == y ? 1.0f : 0.0f)
#undef BINARY
#undef BINARY_KIND

#define SELECT(kind, first, second) \
    LOOP(select_##kind) \
    { \
        float *d = to, b0 = b[0], c0 = c[0]; \
        (void)b0; \
        (void)c0; \
        n &= -LANES; \
        LANE_LOOP \
        for (int64_t i = 0; i < n; i++) { \
            float x = first, y = second; \
            d[i] = a[i] != 0.0f ? x : y; \
        } \
    }
SELECT(vv, b[i], c[i])
SELECT(sv, b0, c[i])
SELECT(vs, b[i], c0)
SELECT(ss, b0, c0)
#undef SELECT

#define POSITIVE(kind, first, second) \
    LOOP(positive_##kind) \
    { \
        float *d = to, b0 = b[0], c0 = c[0]; \
        (void)b0; \
        (void)c0; \
        n &= -LANES; \
        LANE_LOOP \
        for (int64_t i = 0; i < n; i++) { \
            float x = first, y = second; \
            d[i] = 0.0f < a[i] ? x : y; \
        } \
    }
POSITIVE(vv, b[i], c[i])
POSITIVE(sv, b0, c[i])
POSITIVE(vs, b[i], c0)
POSITIVE(ss, b0, c0)
#undef POSITIVE

/* Conversions: each element is converted exactly, so remainders do not matter. */
static void from_i32(float *d, const int32_t *a, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        d[i] = (float)a[i];
}

static void from_u8(float *d, const uint8_t *a, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        d[i] = a[i];
}

/* The upper half of a float, after half of what is below it is added; a NaN stays
 * one. */
static void round_bf16(float *d, const float *a, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &a[i], sizeof bits);
        uint32_t rounded = bits + 0x7fff + (bits >> 16 & 1);
        bits = (a[i] == a[i] ? rounded : bits | 0x400000) & 0xffff0000;
        memcpy(&d[i], &bits, sizeof bits);
    }
}

/* Beyond the range of int32: its nearest end; NaN: 0. */
LOOP(to_i32)
{
    int32_t *d = to;

    (void)b;
    (void)c;
    for (int64_t i = 0; i < n; i++) {
        float x = a[i] == a[i] ? a[i] : 0.0f;
        x = x > -0x1p31f ? x : -0x1p31f;
        d[i] = x < 0x1p31f ? (int32_t)(x < 0x1p31f ? x : 0.0f) : INT32_MAX;
    }
}

LOOP(to_u8)
{
    uint8_t *d = to;

    (void)b;
    (void)c;
    for (int64_t i = 0; i < n; i++) {
        float x = a[i] > 0.0f ? a[i] : 0.0f;
        d[i] = (uint8_t)(int32_t)(x < 255.0f ? x : 255.0f);
    }
}

static void fill(float *d, float value, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        d[i] = value;
}

LOOP(copy)
{
    (void)b;
    (void)c;
    memmove(to, a, (size_t)n * sizeof *a);
}

LOOP(spread)
{
    (void)b;
    (void)c;
    fill(to, a[0], n);
}

LOOP(fetch)
{
    (void)to;
    (void)b;
    (void)c;
#ifdef __GNUC__
    for (int64_t i = 0; i < n; i += LANES)
        __builtin_prefetch(a + i);
#else
    (void)a;
    (void)n;
#endif
}

static void add(float *restrict d, const float *restrict a, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        d[i] += a[i];
}

/* The base build draws by philox.c as the library has it. */
#define philox_uniform_base philox_uniform
#define philox_normal_base philox_normal
#define STRING(x) #x
#define STRING_OF(x) STRING(x)
#define UNARY(name) { name##_v }
#define BINARY(name) { name##_vv, name##_sv, name##_vs }

const struct kernels NAME(kernels) = {
    .name = STRING_OF(ISA),
    .loop = {
        [EW_NEG] = UNARY(neg), [EW_ABS] = UNARY(abs), [EW_SIGN] = UNARY(sign),
        [EW_FLOOR] = UNARY(floor), [EW_EXP] = UNARY(exp), [EW_LOG] = UNARY(log),
        [EW_SQRT] = UNARY(sqrt), [EW_SIN] = UNARY(sin), [EW_COS] = UNARY(cos),
        [EW_TANH] = UNARY(tanh), [EW_SIGMOID] = UNARY(sigmoid), [EW_SOFTPLUS] = UNARY(softplus),
        [EW_TRUNC] = UNARY(trunc), [EW_BYTE] = UNARY(byte),
        [EW_ADD] = BINARY(add), [EW_SUB] = BINARY(sub), [EW_MUL] = BINARY(mul),
        [EW_DIV] = BINARY(div), [EW_MAX] = BINARY(max), [EW_MIN] = BINARY(min),
        [EW_LESS] = BINARY(less), [EW_EQUAL] = BINARY(equal),
        [EW_SELECT] = { select_vv, select_sv, select_vs, select_ss },
    },
    .pair = NAME(pairs), .positive = { positive_vv, positive_sv, positive_vs, positive_ss },
    .to_i32 = to_i32, .to_u8 = to_u8, .copy = copy, .spread = spread,
    .stream = NAME(stream), .fetch = fetch, .stream_end = NAME(stream_end),
    .from_i32 = from_i32, .from_u8 = from_u8,
    .round_bf16 = round_bf16, .fill = fill,
    .add = add, .weave = NAME(weave), .pick = NAME(pick), .place = NAME(place),
    .sum = NAME(sum), .amax = NAME(amax),
    .sum_rows = NAME(sum_rows), .amax_rows = NAME(amax_rows),
    .moments = NAME(moments), .moments_rows = NAME(moments_rows),
    .fold_sum = NAME(fold_sum), .fold_max = NAME(fold_max),
    .uniform = NAME(philox_uniform), .normal = NAME(philox_normal),
};
