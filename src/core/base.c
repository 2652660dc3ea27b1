/* Implements core/base.h. */
#include "core/base.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int swm_fail(swm_error *error, const char *format, ...)
{
    if (error == NULL || error->text[0] != '\0') return -1;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    for (char *c = error->text; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = '?';
    if (error->text[0] == '\0') strcpy(error->text, "failed");
    return -1;
}

void swm_abort(const char *file, int line, const char *condition, const char *format, ...)
{
    fprintf(stderr, "%s:%d: broken promise: %s: ", file, line, condition);
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    abort();
}

static const struct {
    const char *name;
    size_t size;
} dtypes[SWM_DTYPE_COUNT] = {
    [SWM_F32] = {"F32", 4}, [SWM_BF16] = {"BF16", 2}, [SWM_F16] = {"F16", 2}, [SWM_F64] = {"F64", 8},
    [SWM_I64] = {"I64", 8}, [SWM_I32] = {"I32", 4},   [SWM_I16] = {"I16", 2}, [SWM_I8] = {"I8", 1},
    [SWM_U8] = {"U8", 1},   [SWM_BOOL] = {"BOOL", 1},
};

size_t swm_dtype_size(swm_dtype dtype) { return dtypes[dtype].size; }
const char *swm_dtype_name(swm_dtype dtype) { return dtypes[dtype].name; }

static uint32_t float_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float bits_float(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

uint16_t swm_f32_to_bf16(float value)
{
    uint32_t bits = float_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40u); /* keep NaN quiet */
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

float swm_bf16_to_f32(uint16_t bits) { return bits_float((uint32_t)bits << 16); }

float swm_f16_to_f32(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16, exponent = half >> 10 & 0x1fu, mantissa = half & 0x3ffu;
    if (exponent == 0x1f) return bits_float(sign | 0x7f800000u | mantissa << 13);
    if (exponent != 0) return bits_float(sign | (exponent + 112) << 23 | mantissa << 13);
    float magnitude = (float)mantissa * 0x1p-24f; /* subnormal or zero */
    return sign ? -magnitude : magnitude;
}

uint16_t swm_f32_to_f16(float value)
{
    uint32_t bits = float_bits(value), magnitude = bits & 0x7fffffffu;
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* rounds to 65536 or more: infinity */
    if (magnitude < 0x38800000u) {                                   /* subnormal half: units of 2^-24 */
        float scaled = bits_float(magnitude) * 0x1p24f;
        uint32_t whole = (uint32_t)scaled;
        float rest = scaled - (float)whole;
        if (rest > 0.5f || (rest == 0.5f && (whole & 1u))) whole++;
        return (uint16_t)(sign | whole);
    }
    uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1u);
    return (uint16_t)(sign | (rounded - 0x38000000u) >> 13);
}

/* One loop an element type; `source` may be unaligned inside a mapped file, hence the memcpy. */
#define CONVERT(type, expression)                                                                                      \
    for (size_t i = 0; i < count; i++) {                                                                               \
        type value;                                                                                                    \
        memcpy(&value, (const char *)source + i * sizeof value, sizeof value);                                         \
        destination[i] = (float)(expression);                                                                          \
    }                                                                                                                  \
    break

void swm_to_f32(float *restrict destination, const void *restrict source, swm_dtype dtype, size_t count)
{
    switch (dtype) {
    case SWM_F32: memcpy(destination, source, count * sizeof(float)); break;
    case SWM_BF16: CONVERT(uint16_t, swm_bf16_to_f32(value));
    case SWM_F16: CONVERT(uint16_t, swm_f16_to_f32(value));
    case SWM_F64: CONVERT(double, value);
    case SWM_I64: CONVERT(int64_t, value);
    case SWM_I32: CONVERT(int32_t, value);
    case SWM_I16: CONVERT(int16_t, value);
    case SWM_I8: CONVERT(int8_t, value);
    case SWM_U8:
    case SWM_BOOL: CONVERT(uint8_t, value);
    case SWM_DTYPE_COUNT: break;
    }
}

void swm_from_f32(void *restrict destination, swm_dtype dtype, const float *restrict source, size_t count)
{
    SWM_REQUIRE(dtype == SWM_F32 || dtype == SWM_BF16 || dtype == SWM_F16, "%s is no target of a conversion",
                swm_dtype_name(dtype));
    if (dtype == SWM_F32) {
        memcpy(destination, source, count * sizeof(float));
        return;
    }
    uint16_t *half = destination;
    for (size_t i = 0; i < count; i++)
        half[i] = dtype == SWM_BF16 ? swm_f32_to_bf16(source[i]) : swm_f32_to_f16(source[i]);
}

void *swm_allocate(swm_error *error, size_t count, size_t size)
{
    void *memory = calloc(count ? count : 1, size ? size : 1);
    if (memory == NULL) swm_fail(error, "out of memory: %zu x %zu bytes were refused", count, size);
    return memory;
}

char *swm_copy_string(swm_error *error, const char *text) { return swm_format(error, "%s", text); }

char *swm_format(swm_error *error, const char *format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    char *text = length < 0 ? NULL : swm_allocate(error, (size_t)length + 1, 1);
    if (text != NULL) vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    return text;
}

double swm_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}
