// functions.glsl - elementary functions to a few units in the last place.
//
// SPDX-License-Identifier: ISC
//
// Those of GLSL may be far off (sine: 2^-11), so these are the polynomials of
// cpu/ew.c; only the range reduction of sine differs, as there is no double.
const float LN2_HIGH = 0.693359375, LN2_LOW = -2.12194440e-4;
#define INFINITE uintBitsToFloat(0x7f800000u)
#define NO_NUMBER uintBitsToFloat(0x7fc00000u)

float exp_near(float r)
{
    float q = 0.0013814558;

    q = q * r + 0.00836873613;
    q = q * r + 0.041668389;
    q = q * r + 0.166665211;
    q = q * r + 0.49999994;
    return (q * (r * r) + r) + 1.0;
}

float exp_of(float x)
{
    x = x > 89.0 ? 89.0 : x;
    x = x < -104.0 ? -104.0 : x;
    float n = roundEven(x * 1.44269504);
    float y = exp_near((x - n * LN2_HIGH) - n * LN2_LOW);
    int k = int(n), first = k >> 1;

    y = y * intBitsToFloat((first + 127) << 23) * intBitsToFloat((k - first + 127) << 23);
    return isnan(x) ? x : y;
}

// For x <= 0; below 1.6e-38 it is 0.
float exp_falling(float x)
{
    float n = roundEven(max(x, -87.0) * 1.44269504);
    float y = exp_near((x - n * LN2_HIGH) - n * LN2_LOW) * intBitsToFloat((int(n) + 127) << 23);

    return isnan(x) ? x : x < -87.0 ? 0.0 : y;
}

float log_of(float x)
{
    const uint ROOT_HALF = 0x3f3504f3u;
    bool tiny = x < 1.17549435e-38;
    uint u = floatBitsToUint(tiny ? x * 33554432.0 : x) - ROOT_HALF + (128u << 23);
    float e = float(int(u >> 23) - 128) - (tiny ? 25.0 : 0.0);
    float z = uintBitsToFloat((u & 0x7fffffu) + ROOT_HALF) - 1.0;
    float zz = z * z, q = 0.0674660131;

    q = q * z - 0.116756409;
    q = q * z + 0.118881747;
    q = q * z - 0.124055915;
    q = q * z + 0.142195508;
    q = q * z - 0.166679963;
    q = q * z + 0.200021192;
    q = q * z - 0.250000089;
    q = q * z + 0.333333135;
    float y = ((zz * (z * q) + e * LN2_LOW) - 0.5 * zz) + z + e * LN2_HIGH;
    y = x < INFINITE ? y : x;
    y = x == 0.0 ? -INFINITE : y;
    return x >= 0.0 ? y : NO_NUMBER;
}

float tanh_of(float x)
{
    float a = abs(x), xx = x * x, q = -0.00570499059;

    q = q * xx + 0.0206390899;
    q = q * xx - 0.0537397154;
    q = q * xx + 0.133314416;
    q = q * xx - 0.333332807;
    float near = x + (x * xx) * q;
    float e = exp_falling(-2.0 * a);
    float far = (1.0 - e) / (1.0 + e);
    return a < 0.625 ? near : x < 0.0 ? -far : far;
}

float sigmoid_of(float x)
{
    float e = exp_falling(-abs(x));

    return (x >= 0.0 ? 1.0 : e) / (1.0 + e);
}

// max(x, 0) + ln(1 + e), e = e^-|x|; ln(1 + e) = 2 artanh(e / (2 + e)).
float softplus_of(float x)
{
    float e = exp_falling(-abs(x));
    float s = e / (2.0 + e), ss = s * s, q = 0.12150453;

    q = q * ss + 0.107138328;
    q = q * ss + 0.143084422;
    q = q * ss + 0.199994385;
    q = q * ss + 0.333333373;
    return (x > 0.0 ? x : 0.0) + 2.0 * (s + (s * ss) * q);
}

// sin(x + quarter pi/2).  pi/2 in three parts (Cody and Waite 1980), of which the
// first two have so few digits that their products with n are exact up to n = 2^13;
// `precise`, as contraction is allowed and reordering is not.
float sine_of(float x, uint quarter)
{
    float n = roundEven(x * 0.636619772);
    precise float t = x - n * 1.5703125;
    precise float u = t - n * 4.83751296997e-4;
    precise float r = u - n * 7.549790126e-8;

    r = clamp(r, -0.8, 0.8);
    quarter += uint(int(n));
    float rr = r * r;
    float s = r + (r * rr) * ((-0.000195152839 * rr + 0.0083321603) * rr - 0.166666552);
    float c = (rr * rr) * ((2.44331568e-5 * rr - 0.00138873165) * rr + 0.0416666456)
            - 0.5 * rr + 1.0;
    return uintBitsToFloat(floatBitsToUint((quarter & 1u) != 0u ? c : s) ^ (quarter >> 1) << 31);
}
