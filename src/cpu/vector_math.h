/* exp, sigmoid, SiLU and tanh-GELU as straight-line float code that compilers turn into vector instructions: no branches,
 * no library calls. Relative error of exp below 2e-7 on [-87, 88]; smaller arguments give the smallest normal float,
 * larger ones exp(88). */
#ifndef SWM_VECTOR_MATH_H
#define SWM_VECTOR_MATH_H

#include <stdint.h>
#include <string.h>

static inline float swm_exp(float x)
{
    /* The comparisons are written so that NaN falls through to the polynomial and comes out as NaN. */
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    /* Adding 1.5 * 2^23 rounds to an integer in the low bits of the mantissa. */
    float shifted = x * 1.44269504088896341f + 12582912.0f;
    float n = shifted - 12582912.0f;
    float r = x - n * 0.693359375f + n * 2.12194440e-4f; /* ln 2 in two parts keeps r exact */
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    int32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (int32_t)((uint32_t)(bits - 0x4b400000 + 127) << 23);
    float power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

static inline float swm_sigmoid_of(float x) { return 1.0f / (1.0f + swm_exp(-x)); }
static inline float swm_silu_of(float x) { return x * swm_sigmoid_of(x); }

static inline float swm_gelu_tanh_of(float x)
{
    float u = 0.7978845608028654f * (x + 0.044715f * x * x * x);
    return x * swm_sigmoid_of(2.0f * u); /* 0.5 (1 + tanh u) = sigmoid(2u) */
}

#endif
