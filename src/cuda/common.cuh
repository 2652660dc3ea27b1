/* What the kernels of this folder share: element types, 16-byte accesses, sums over warps and rows, activations. */
#ifndef SWM_CUDA_COMMON_CUH
#define SWM_CUDA_COMMON_CUH

#include "cuda/cuda.h"

#include <cuda_bf16.h>

/* Elements of type T in 16 bytes, the widest access of a thread. */
template <typename T> constexpr int swm_wide = 16 / (int)sizeof(T);

/* Run a statement with T standing for the type of activations. */
#define SWM_CUDA_BY_TYPE(type, ...)                                                                                    \
    do {                                                                                                               \
        if ((type) == SWM_BF16) {                                                                                      \
            using T = __nv_bfloat16;                                                                                   \
            __VA_ARGS__;                                                                                               \
        } else {                                                                                                       \
            using T = float;                                                                                           \
            __VA_ARGS__;                                                                                               \
        }                                                                                                              \
    } while (0)

template <typename T> static inline T *swm_elements(swm_tensor t) { return static_cast<T *>(t.data); }

static inline bool swm_aligned(const void *p) { return (uintptr_t)p % 16 == 0; }

/* Blocks of `size` that cover `count`, for gridDim.x. */
static inline unsigned swm_blocks(int64_t count, int64_t size) { return (unsigned)((count + size - 1) / size); }

/* ---- elements and vectors ---------------------------------------------------------------------------------------- */

__device__ inline float swm_float_of(float x) { return x; }
__device__ inline float swm_float_of(__nv_bfloat16 x) { return __bfloat162float(x); }
template <typename T> __device__ inline T swm_from_float(float x);
template <> __device__ inline float swm_from_float<float>(float x) { return x; }
template <> __device__ inline __nv_bfloat16 swm_from_float<__nv_bfloat16>(float x) { return __float2bfloat16_rn(x); }

/* The two bf16 of a word; the first element is in the low half. */
__device__ inline float swm_low(uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ inline float swm_high(uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }
__device__ inline uint32_t swm_pair(float low, float high)
{
    __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<uint32_t *>(&pair);
}

/* Memory of BYTES bytes as the widest type that it is a multiple of. */
template <int BYTES> struct swm_word;
template <> struct swm_word<16> {
    using type = uint4;
};
template <> struct swm_word<8> {
    using type = uint2;
};
template <> struct swm_word<4> {
    using type = uint32_t;
};
template <> struct swm_word<2> {
    using type = uint16_t;
};

/* W elements at an address that is a multiple of their size, up to 16 bytes an access. */
template <typename T, int W> struct swm_raw {
    static constexpr int BYTES = W * (int)sizeof(T) < 16 ? W * (int)sizeof(T) : 16, WORDS = W * (int)sizeof(T) / BYTES;
    using word = typename swm_word<BYTES>::type;
    union {
        word words[WORDS];
        T elements[W];
        uint32_t pairs[W * sizeof(T) >= 4 ? W * sizeof(T) / 4 : 1];
    };
    __device__ swm_raw() {}
    __device__ void load(const T *from)
    {
#pragma unroll
        for (int i = 0; i < WORDS; i++) words[i] = reinterpret_cast<const word *>(from)[i];
    }
    __device__ void store(T *to) const
    {
#pragma unroll
        for (int i = 0; i < WORDS; i++) reinterpret_cast<word *>(to)[i] = words[i];
    }
    __device__ void clear()
    {
#pragma unroll
        for (int i = 0; i < WORDS; i++) words[i] = word{};
    }
    __device__ float get(int i) const
    {
        if constexpr (sizeof(T) == 2 && W >= 2)
            return i % 2 ? swm_high(pairs[i / 2]) : swm_low(pairs[i / 2]);
        else
            return swm_float_of(elements[i]);
    }
    __device__ void set(const float *values)
    {
        if constexpr (sizeof(T) == 2 && W >= 2) {
#pragma unroll
            for (int i = 0; i < W / 2; i++) pairs[i] = swm_pair(values[2 * i], values[2 * i + 1]);
        } else {
#pragma unroll
            for (int i = 0; i < W; i++) elements[i] = swm_from_float<T>(values[i]);
        }
    }
};

template <typename T, int W> __device__ inline void swm_load(float *values, const T *from)
{
    swm_raw<T, W> raw;
    raw.load(from);
#pragma unroll
    for (int i = 0; i < W; i++) values[i] = raw.get(i);
}

template <typename T, int W> __device__ inline void swm_store(T *to, const float *values)
{
    swm_raw<T, W> raw;
    raw.set(values);
    raw.store(to);
}

/* ---- activations ------------------------------------------------------------------------------------------------- */

/* The hardware's exponential is good to 2 units in the last place plus |x| 2^-24; large negative x gives 0. */
__device__ inline float swm_sigmoid(float x) { return __fdividef(1.0f, 1.0f + __expf(-x)); }
__device__ inline float swm_silu_of(float x) { return x * swm_sigmoid(x); }
__device__ inline float swm_gelu_tanh_of(float x)
{
    float u = 0.7978845608028654f * (x + 0.044715f * x * x * x);
    return x * swm_sigmoid(2.0f * u); /* 0.5 (1 + tanh u) = sigmoid(2u) */
}

/* ---- sums -------------------------------------------------------------------------------------------------------- */

/* Over a warp; every lane has the sum. A butterfly: the order does not depend on anything. */
__device__ inline float swm_warp_sum(float x)
{
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(0xffffffffu, x, distance);
    return x;
}

/* Over threads with threadIdx.x 0 .. THREADS-1 (a multiple of 32; all of the block when more than 32). */
template <int THREADS> __device__ inline float swm_row_sum(float x)
{
    x = swm_warp_sum(x);
    if constexpr (THREADS > 32) {
        __shared__ float parts[THREADS / 32];
        __syncthreads(); /* somebody may still read the parts of the sum before */
        if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
        __syncthreads();
        x = 0;
#pragma unroll
        for (int i = 0; i < THREADS / 32; i++) x += parts[i];
    }
    return x;
}

/* ---- chunks ------------------------------------------------------------------------------------------------------ */

/* Where chunks start, one bit a frame; travels as a kernel parameter. */
enum { SWM_CUDA_FRAMES = 4096 };
typedef struct swm_chunk_bits {
    uint32_t words[SWM_CUDA_FRAMES / 32];
    __device__ bool starts(int frame) const { return words[frame / 32] >> frame % 32 & 1; }
} swm_chunk_bits;

/* False with an error when there are too many frames. */
static inline bool swm_mark_chunks(swm_backend *b, swm_chunk_bits *bits, swm_chunks chunks, int64_t frames)
{
    *bits = {};
    for (int i = 0; frames <= SWM_CUDA_FRAMES && i < chunks.count; i++)
        bits->words[chunks.starts[i] / 32] |= 1u << chunks.starts[i] % 32;
    if (frames <= SWM_CUDA_FRAMES) return true;
    swm_fail(&b->error, "cuda: %lld latent frames, where at most %d were expected; choose a shorter clip",
             (long long)frames, SWM_CUDA_FRAMES);
    return false;
}

#endif
