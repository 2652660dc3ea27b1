/* Ops on single elements of activations, and conversions between element types.
 *
 * Tiling: a thread owns 16 bytes of the result, reads as many of each operand once, and keeps nothing; what does not
 * fill 16 bytes at the end, or operands that start at odd addresses, go element by element. Bound by memory: at the
 * release's size (106480 x 2240 bf16) an op in place on one operand and reading another moves 1.43 GB, 0.33 ms at 4.3
 * TB/s. */
#include "cuda/common.cuh"

#include <cuda_fp16.h>

enum { THREADS = 256 };

typedef enum pointwise_op { ADD, MULTIPLY_SILU, GELU_MULTIPLY, SILU } pointwise_op;

template <pointwise_op OP> __device__ inline float apply(float x, float y)
{
    if constexpr (OP == ADD) return x + y;
    if constexpr (OP == MULTIPLY_SILU) return x * swm_silu_of(y);
    if constexpr (OP == GELU_MULTIPLY) return swm_gelu_tanh_of(x) * y;
    if constexpr (OP == SILU) return swm_silu_of(y);
}

/* out = op(out, y) */
template <pointwise_op OP, typename T, int W>
__global__ void __launch_bounds__(THREADS) pointwise_kernel(T *out, const T *y, int64_t count)
{
    int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * W;
    if (i + W <= count) {
        float a[W] = {}, c[W];
        if (OP != SILU) swm_load<T, W>(a, out + i);
        swm_load<T, W>(c, y + i);
#pragma unroll
        for (int k = 0; k < W; k++) a[k] = apply<OP>(a[k], c[k]);
        swm_store<T, W>(out + i, a);
    } else {
        for (; i < count; i++)
            out[i] = swm_from_float<T>(apply<OP>(OP == SILU ? 0.0f : swm_float_of(out[i]), swm_float_of(y[i])));
    }
}

template <pointwise_op OP> static void pointwise(swm_backend *b, swm_tensor out, swm_tensor y, const char *name)
{
    int64_t count = swm_count(out);
    cudaStream_t stream = swm_cuda_device_of(b)->stream;
    if (count == 0) return;
    SWM_CUDA_BY_TYPE(b->compute, {
        constexpr int W = swm_wide<T>;
        T *to = swm_elements<T>(out);
        const T *from = swm_elements<T>(y);
        if (swm_aligned(to) && swm_aligned(from))
            pointwise_kernel<OP, T, W><<<swm_blocks(count, THREADS * W), THREADS, 0, stream>>>(to, from, count);
        else
            pointwise_kernel<OP, T, 1><<<swm_blocks(count, THREADS), THREADS, 0, stream>>>(to, from, count);
    });
    swm_cuda_launched(b, name);
}

extern "C" void swm_cuda_add(swm_backend *b, swm_tensor sum, swm_tensor y) { pointwise<ADD>(b, sum, y, "add"); }

extern "C" void swm_cuda_multiply_silu(swm_backend *b, swm_tensor x, swm_tensor gate)
{
    pointwise<MULTIPLY_SILU>(b, x, gate, "multiply_silu");
}

extern "C" void swm_cuda_gelu_multiply(swm_backend *b, swm_tensor gate, swm_tensor up)
{
    pointwise<GELU_MULTIPLY>(b, gate, up, "gelu_multiply");
}

extern "C" void swm_cuda_silu(swm_backend *b, swm_tensor y, swm_tensor x) { pointwise<SILU>(b, y, x, "silu"); }

/* ---- conversions ------------------------------------------------------------------------------------------------- */

__device__ inline float widen(float x) { return x; }
__device__ inline float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ inline float widen(__half x) { return __half2float(x); }

/* One element a thread: PCIe, not this, is what uploads wait for. */
template <typename T, typename F>
__global__ void __launch_bounds__(THREADS) convert_kernel(T *to, const F *from, int64_t count)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < count) to[i] = swm_from_float<T>(widen(from[i]));
}

template <typename T>
static void convert_to(T *to, const void *from, swm_dtype type, int64_t count, unsigned blocks, cudaStream_t stream)
{
    if (type == SWM_F32)
        convert_kernel<<<blocks, THREADS, 0, stream>>>(to, static_cast<const float *>(from), count);
    else if (type == SWM_BF16)
        convert_kernel<<<blocks, THREADS, 0, stream>>>(to, static_cast<const __nv_bfloat16 *>(from), count);
    else
        convert_kernel<<<blocks, THREADS, 0, stream>>>(to, static_cast<const __half *>(from), count);
}

extern "C" void swm_cuda_convert(swm_backend *b, void *to, swm_dtype to_type, const void *from, swm_dtype from_type,
                                 int64_t count)
{
    SWM_REQUIRE((to_type == SWM_F32 || to_type == SWM_BF16) &&
                    (from_type == SWM_F32 || from_type == SWM_BF16 || from_type == SWM_F16),
                "%s to %s", swm_dtype_name(from_type), swm_dtype_name(to_type));
    cudaStream_t stream = swm_cuda_device_of(b)->stream;
    unsigned blocks = swm_blocks(count, THREADS);
    if (count == 0) return;
    if (to_type == SWM_F32)
        convert_to(static_cast<float *>(to), from, from_type, count, blocks, stream);
    else
        convert_to(static_cast<__nv_bfloat16 *>(to), from, from_type, count, blocks, stream);
    swm_cuda_launched(b, "convert");
}
