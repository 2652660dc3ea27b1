/* Implements tests/ops.h. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "ops.h"
#include "tolerance.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int ops_open(void **state)
{
    swm_backend *b = swm_backend_open_cpu(1, NULL);
    *state = b;
    return b != NULL && swm_backend_reserve(b, 64 << 20, NULL) == 0 ? 0 : -1;
}

int ops_close(void **state)
{
    swm_backend_close(*state);
    return 0;
}

swm_backend *ops_open_cpu(int threads, size_t bytes)
{
    swm_error error = {0};
    swm_backend *b = swm_backend_open_cpu(threads, &error);
    if (b == NULL || swm_backend_reserve(b, bytes, &error) != 0) fail_msg("%s", error.text);
    return b;
}

void ops_close_cpu(swm_backend *b)
{
    swm_error error = {0};
    if (swm_backend_check(b, &error) != 0) fail_msg("%s", error.text);
    swm_backend_close(b);
}

static float value(int seed, int64_t index)
{
    uint64_t x = (uint64_t)index * 0x9E3779B97F4A7C15u + (uint64_t)seed * 0xD1B54A32D192ED03u;
    x = (x ^ (x >> 29)) * 0xBF58476D1CE4E5B9u;
    return (float)((double)(x >> 40) / (1 << 23) - 1);
}

float *ops_floats(int64_t count, int seed)
{
    float *values = malloc((size_t)count * sizeof *values + 1);
    assert_non_null(values);
    for (int64_t i = 0; i < count; i++) values[i] = value(seed, i);
    return values;
}

swm_tensor ops_make(swm_backend *b, swm_dtype dtype, int seed, int rank, const int64_t *shape)
{
    swm_tensor t = swm_take(b, dtype, rank, shape);
    for (int64_t i = 0; t.data != NULL && i < swm_count(t); i++) {
        float v = value(seed, i);
        swm_from_f32((char *)t.data + (size_t)i * swm_dtype_size(dtype), dtype, &v, 1);
    }
    return t;
}

swm_tensor ops_rotation(swm_backend *b, int seed, int64_t tokens, int64_t pairs)
{
    swm_tensor t = SWM_TAKE(b, SWM_F32, tokens, pairs, 2);
    for (int64_t i = 0; i < tokens * pairs; i++) {
        swm_floats(t)[2 * i] = (float)cos(3 * (double)value(seed, i));
        swm_floats(t)[2 * i + 1] = (float)sin(3 * (double)value(seed, i));
    }
    return t;
}

double ops_at(swm_tensor t, int64_t index)
{
    float v;
    assert_true(index >= 0 && index < swm_count(t));
    swm_to_f32(&v, (const char *)t.data + (size_t)index * swm_dtype_size(t.dtype), t.dtype, 1);
    return (double)v;
}

double *ops_want(swm_backend *b, int64_t count)
{
    swm_tensor t = SWM_TAKE(b, SWM_F64, count);
    memset(t.data, 0, swm_bytes(t));
    return t.data;
}

void ops_check(const char *name, swm_tensor got, const double *want)
{
    double squares = 0, norm = 0;
    for (int64_t i = 0; i < swm_count(got); i++) {
        double difference = ops_at(got, i) - want[i];
        if (!(fabs(difference) <= 1e-3 * fmax(1, fabs(want[i]))))
            fail_msg("%s %s: element %lld is %g, not %g", name, swm_describe(got).text, (long long)i, ops_at(got, i),
                     want[i]);
        squares += difference * difference;
        norm += want[i] * want[i];
    }
    if (!(sqrt(squares) <= 1e-5 * sqrt(norm)))
        fail_msg("%s %s: relative distance %g", name, swm_describe(got).text, sqrt(squares / norm));
}

void ops_check_close(const char *name, const float *got, const float *want, int64_t count, double bound)
{
    double distance = swm_distance_of(got, want, count).relative;
    if (!(distance <= bound)) fail_msg("%s: relative distance %.3g above %.3g", name, distance, bound);
}

void ops_check_near(float got, double want)
{
    if (!(fabs((double)got - want) <= 1e-5)) fail_msg("%.8g where %.8g belongs", (double)got, want);
}
