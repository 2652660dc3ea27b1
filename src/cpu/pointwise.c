/* Ops on single elements of activations. */
#include "cpu/cpu.h"
#include "cpu/vector_math.h"

void swm_cpu_add(swm_backend *b, swm_tensor sum, swm_tensor y)
{
    float *restrict s = swm_floats(sum);
    const float *restrict v = swm_floats(y);
    int64_t count = swm_count(sum);
#pragma omp parallel for simd num_threads(b->threads) if (count > SWM_CPU_WORTH_SHARING)
    for (int64_t i = 0; i < count; i++) s[i] += v[i];
}

void swm_cpu_multiply_silu(swm_backend *b, swm_tensor x, swm_tensor gate)
{
    float *restrict v = swm_floats(x);
    const float *restrict g = swm_floats(gate);
    int64_t count = swm_count(x);
#pragma omp parallel for simd num_threads(b->threads) if (count > SWM_CPU_WORTH_SHARING)
    for (int64_t i = 0; i < count; i++) v[i] *= swm_silu_of(g[i]);
}

void swm_cpu_gelu_multiply(swm_backend *b, swm_tensor gate, swm_tensor up)
{
    float *restrict g = swm_floats(gate);
    const float *restrict u = swm_floats(up);
    int64_t count = swm_count(gate);
#pragma omp parallel for simd num_threads(b->threads) if (count > SWM_CPU_WORTH_SHARING)
    for (int64_t i = 0; i < count; i++) g[i] = swm_gelu_tanh_of(g[i]) * u[i];
}

void swm_cpu_silu(swm_backend *b, swm_tensor y, swm_tensor x)
{
    float *out = swm_floats(y);
    const float *v = swm_floats(x); /* may be y */
    int64_t count = swm_count(x);
#pragma omp parallel for simd num_threads(b->threads) if (count > SWM_CPU_WORTH_SHARING)
    for (int64_t i = 0; i < count; i++) out[i] = swm_silu_of(v[i]);
}
