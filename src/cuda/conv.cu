/* The 3x3x3 convolution: writing the padded input, and the product for devices and types that conv_sm90.cu does not
 * take.
 *
 * A video of one frame, which is its own past and future, needs a third of the products: the filters are summed over
 * time first. The sums are rounded to half precision, not to bfloat16, and so is what they meet, which pixel norm keeps
 * below sqrt(channels): the short way is the more exact one. It costs a pass over the weights (1.4 GB, 0.4 ms, for an
 * encoder).
 *
 * Padding is one pass: pixel norm, SiLU, the border in space and time and the frames of a cache. A group of lanes owns
 * a pixel of the padded volume and reads the one pixel of the input that it shows, 16 bytes a lane and step; pixels of
 * the border are normed again rather than copied. Bound: memory; 28 GB, 6.5 ms, for 961x176x320x128.
 *
 * The product never unfolds its input: with padding there are no special cases, tap (t,y,x) of a position is the
 * pixel that far on. A block owns 64 positions and 64 output channels and walks over taps and channels; bf16 by
 * mma.sync, float32 by plain multiplication (for tests). Weights come as [O][27][I]. */
#include "cuda/common.cuh"
#include "cuda/matrix.h"
#include "cuda/tensorcore.cuh"

#include <cuda_fp16.h>
#include <type_traits>

/* ---- the padded input -------------------------------------------------------------------------------------------- */

enum { PAD_THREADS = 256, MOST_ROWS = 65535 };

struct pad_arguments {
    int frames, height, width; /* of the input */
    int before;                /* padded frames in front of it */
    int64_t channels;
    int lanes; /* of a pixel, a power of two up to 32 */
    bool reflect, norm_silu;
};

/* The pixel of the input that a padded pixel shows; NULL: nothing but zeros. */
template <typename T>
__device__ inline const T *source_of(const pad_arguments &a, const T *x, int frame, int row, int column)
{
    int t = frame - a.before, h = row - 1, w = column - 1;
    t = t < 0 ? 0 : t < a.frames ? t : a.frames - 1;
    if (a.reflect) {
        h = h < 0 ? 1 : h == a.height ? a.height - 2 : h;
        w = w < 0 ? 1 : w == a.width ? a.width - 2 : w;
    }
    if (h < 0 || h == a.height || w < 0 || w == a.width) return NULL;
    return x + (((int64_t)t * a.height + h) * a.width + w) * a.channels;
}

template <int W> __device__ inline void store_half(__half *to, const float *values)
{
    union {
        __half elements[W];
        typename swm_word<2 * W>::type word;
    } out;
#pragma unroll
    for (int i = 0; i < W; i++) out.elements[i] = __float2half_rn(values[i]);
    *reinterpret_cast<decltype(out.word) *>(to) = out.word;
}

/* Blocks: pieces of a row, rows, frames of the padded volume, whose type R is T, or half for a lone frame that is normed.
 * cache: two padded frames that come first, or NULL. */
template <typename T, typename R, int W>
static __global__ void __launch_bounds__(PAD_THREADS)
    pad_kernel(R *padded, const T *x, const T *cache, const pad_arguments a)
{
    constexpr bool half = sizeof(T) == 2 && !std::is_same<T, R>::value;
    int thread = (int)(blockIdx.x * PAD_THREADS + threadIdx.x), column = thread / a.lanes, step = a.lanes * W;
    int frame = (int)blockIdx.z, row = (int)blockIdx.y, first = thread % a.lanes * W;
    bool inside = column < a.width + 2, ready = frame < 2 && cache != NULL;
    int64_t at = (((int64_t)frame * (a.height + 2) + row) * (a.width + 2) + column) * a.channels;
    const T *from = !inside ? NULL : ready ? cache + at : source_of(a, x, frame, row, column);
    bool change = a.norm_silu && !ready && from != NULL;
    /* The first vector stays in registers: with up to 32 vectors a pixel nothing is read twice. */
    swm_raw<T, W> raw;
    raw.clear();
    if (from != NULL && first < a.channels) raw.load(from + first);
    float scale = 0;
    if (a.norm_silu) {
        float square = 0;
#pragma unroll
        for (int i = 0; i < W; i++) square = fmaf(raw.get(i), raw.get(i), square);
        if (change)
            for (int64_t c = first + step; c < a.channels; c += step) {
                float values[W];
                swm_load<T, W>(values, from + c);
#pragma unroll
                for (int i = 0; i < W; i++) square = fmaf(values[i], values[i], square);
            }
        for (int distance = a.lanes / 2; distance > 0; distance /= 2) square += __shfl_xor_sync(~0u, square, distance);
        scale = 1.0f / sqrtf(square / (float)a.channels + 1e-8f);
    }
    if (!inside) return;
    for (int64_t c = first; c < a.channels; c += step) {
        if (c > first && from != NULL) raw.load(from + c);
        float values[W];
        if (change || half) {
#pragma unroll
            for (int i = 0; i < W; i++) {
                float value = raw.get(i) * scale; /* nothing but zeros where there is nothing to change */
                values[i] = sizeof(T) == 2 ? swm_silu_of(value) : value / (1.0f + expf(-value));
            }
        }
        if constexpr (half) {
            store_half<W>(padded + at + c, values);
        } else {
            if (change) raw.set(values);
            raw.store(padded + at + c);
        }
    }
}

/* before: frames of `padded` in front of x. */
template <typename T, typename R>
static void pad(swm_backend *b, swm_tensor padded, swm_tensor x, const swm_conv3d *how, int64_t before)
{
    constexpr int W = swm_wide<T>;
    cudaStream_t stream = swm_cuda_device_of(b)->stream;
    const T *cache = how->cache_filled ? swm_elements<T>(how->cache) : NULL;
    R *to = static_cast<R *>(padded.data);
    if (padded.shape[0] > MOST_ROWS || padded.shape[1] > MOST_ROWS || padded.shape[2] > INT32_MAX / 64) {
        swm_fail(&b->error, "cuda: conv: %s is larger than %d frames of %d rows", swm_describe(x).text, MOST_ROWS - 2,
                 MOST_ROWS - 2);
        return;
    }
    pad_arguments a;
    a.frames = (int)x.shape[0];
    a.height = (int)x.shape[1];
    a.width = (int)x.shape[2];
    a.channels = x.shape[3];
    a.before = (int)before;
    a.reflect = how->reflect;
    a.norm_silu = how->norm_silu;
    bool wide = a.channels % W == 0 && swm_aligned(x.data) && swm_aligned(padded.data) && swm_aligned(cache);
    int64_t steps = wide ? a.channels / W : a.channels;
    a.lanes = 1;
    while (a.lanes < 32 && a.lanes < steps) a.lanes *= 2;
    dim3 grid(swm_blocks(padded.shape[2] * a.lanes, PAD_THREADS), (unsigned)padded.shape[1], (unsigned)padded.shape[0]);
    if (wide)
        pad_kernel<T, R, W><<<grid, PAD_THREADS, 0, stream>>>(to, swm_elements<T>(x), cache, a);
    else
        pad_kernel<T, R, 1><<<grid, PAD_THREADS, 0, stream>>>(to, swm_elements<T>(x), cache, a);
    if (!swm_cuda_launched(b, "conv") || !swm_present(how->cache)) return;
    swm_tensor last = swm_rows(padded, padded.shape[0] - 2, 2);
    swm_cuda_check(b, cudaMemcpyAsync(how->cache.data, last.data, swm_bytes(last), cudaMemcpyDeviceToDevice, stream),
                   "conv");
}

/* ---- the generic product ----------------------------------------------------------------------------------------- */

enum { POSITIONS = 64, OUTPUTS = 64, CONV_THREADS = 128, PLAIN_THREADS = 256, PLAIN_DEPTH = 16, DEPTH = 32 };

struct conv_arguments {
    const void *padded, *weight, *bias, *residual; /* residual: NULL if absent */
    void *y;
    int64_t height, width, inputs, outputs, positions; /* of the result */
    bool wide;
};

/* The first tap of a position: element offset into the padded volume. */
__device__ __forceinline__ int64_t corner_of(const conv_arguments &a, int64_t position)
{
    int64_t x = position % a.width, y = position / a.width % a.height, t = position / a.width / a.height;
    return ((t * (a.height + 2) + y) * (a.width + 2) + x) * a.inputs;
}
__device__ __forceinline__ int64_t tap_offset(const conv_arguments &a, int tap)
{
    return ((tap / 9 * (a.height + 2) + tap / 3 % 3) * (a.width + 2) + tap % 3) * a.inputs;
}

/* Eight channels from `channel` on, those past the last one as zeros. */
__device__ __forceinline__ uint4 load_channels(const __nv_bfloat16 *from, int64_t channel, const conv_arguments &a,
                                               bool inside)
{
    swm_raw<__nv_bfloat16, 8> raw;
    raw.clear();
    if (!inside || channel >= a.inputs) return raw.words[0];
    if (a.wide) {
        raw.load(from + channel);
    } else {
        for (int i = 0; i < 8; i++)
            if (channel + i < a.inputs) raw.elements[i] = from[channel + i];
    }
    return raw.words[0];
}

/* Four warps, each 32 positions times 32 channels. The next step's operands wait in registers while this one's
 * multiply. */
static __global__ void __launch_bounds__(CONV_THREADS) conv_bf16(const conv_arguments a)
{
    constexpr int PITCH = DEPTH + 8;
    __shared__ __align__(16) __nv_bfloat16 left_tile[POSITIONS * PITCH], right_tile[OUTPUTS * PITCH];
    int thread = (int)threadIdx.x, lane = thread % 32, warp = thread / 32;
    int64_t first = (int64_t)blockIdx.x * POSITIONS, output = (int64_t)blockIdx.y * OUTPUTS;
    const __nv_bfloat16 *padded = static_cast<const __nv_bfloat16 *>(a.padded);
    const __nv_bfloat16 *weight = static_cast<const __nv_bfloat16 *>(a.weight);

    /* A thread brings rows thread/4 and thread/4 + 32 of both tiles, 8 channels of each. */
    int load_row = thread / 4, load_column = thread % 4 * 8;
    int64_t corner[2];
    bool position_inside[2], output_inside[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        int64_t position = first + load_row + 32 * i;
        position_inside[i] = position < a.positions;
        corner[i] = corner_of(a, position_inside[i] ? position : 0);
        output_inside[i] = output + load_row + 32 * i < a.outputs;
    }
    int slices = (int)((a.inputs + DEPTH - 1) / DEPTH), steps = 27 * slices;
    uint4 next[4];
    auto fetch = [&](int step) {
        int tap = step / slices;
        int64_t channel = step % slices * DEPTH + load_column;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            next[i] = load_channels(padded + corner[i] + tap_offset(a, tap), channel, a, position_inside[i]);
            next[2 + i] = load_channels(weight + ((output + load_row + 32 * i) * 27 + tap) * a.inputs, channel, a,
                                        output_inside[i]);
        }
    };
    float sums[2][4][4] = {};
    int row = warp / 2 * 32, column = warp % 2 * 32;
    uint32_t left_row = shared_place(left_tile + (row + lane % 16) * PITCH + lane / 16 * 8);
    uint32_t right_row = shared_place(right_tile + (column + lane % 8 + lane / 16 * 8) * PITCH + lane / 8 % 2 * 8);
    fetch(0);
    for (int step = 0; step < steps; step++) {
        __syncthreads();
#pragma unroll
        for (int i = 0; i < 2; i++) {
            *reinterpret_cast<uint4 *>(left_tile + (load_row + 32 * i) * PITCH + load_column) = next[i];
            *reinterpret_cast<uint4 *>(right_tile + (load_row + 32 * i) * PITCH + load_column) = next[2 + i];
        }
        __syncthreads();
        if (step + 1 < steps) fetch(step + 1);
#pragma unroll
        for (int k = 0; k < DEPTH; k += 16) {
            uint32_t left[2][4], right[2][4];
#pragma unroll
            for (int i = 0; i < 2; i++) {
                load_matrices(left[i], left_row + (uint32_t)(i * 16 * PITCH + k) * 2);
                load_matrices(right[i], right_row + (uint32_t)(i * 16 * PITCH + k) * 2);
            }
#pragma unroll
            for (int i = 0; i < 2; i++)
#pragma unroll
                for (int j = 0; j < 4; j++)
                    mma(sums[i][j], left[i], right[j / 2][j % 2 * 2], right[j / 2][j % 2 * 2 + 1]);
        }
    }
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                int64_t position = first + row + i * 16 + lane / 4 + e / 2 * 8;
                int64_t channel = output + column + j * 8 + lane % 4 * 2 + e % 2, at = position * a.outputs + channel;
                if (position >= a.positions || channel >= a.outputs) continue;
                float value = sums[i][j][e] + __bfloat162float(static_cast<const __nv_bfloat16 *>(a.bias)[channel]);
                if (a.residual != NULL) value += __bfloat162float(static_cast<const __nv_bfloat16 *>(a.residual)[at]);
                static_cast<__nv_bfloat16 *>(a.y)[at] = __float2bfloat16_rn(value);
            }
}

/* 16x16 threads, each 4x4 results 16 apart. */
static __global__ void __launch_bounds__(PLAIN_THREADS) conv_f32(const conv_arguments a)
{
    __shared__ float left[PLAIN_DEPTH][POSITIONS + 1], right[PLAIN_DEPTH][OUTPUTS + 1];
    int thread = (int)threadIdx.x, tx = thread % 16, ty = thread / 16;
    int64_t first = (int64_t)blockIdx.x * POSITIONS, output = (int64_t)blockIdx.y * OUTPUTS;
    const float *padded = static_cast<const float *>(a.padded), *weight = static_cast<const float *>(a.weight);
    int64_t corner[POSITIONS / 16];
#pragma unroll
    for (int i = 0; i < POSITIONS / 16; i++)
        corner[i] = corner_of(a, first + ty + 16 * i < a.positions ? first + ty + 16 * i : 0);
    float sums[4][4] = {};
    for (int tap = 0; tap < 27; tap++)
        for (int64_t channel = 0; channel < a.inputs; channel += PLAIN_DEPTH) {
            bool inside = channel + tx < a.inputs;
            __syncthreads();
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int64_t o = output + ty + 16 * i;
                left[tx][ty + 16 * i] = inside ? padded[corner[i] + tap_offset(a, tap) + channel + tx] : 0.0f;
                right[tx][ty + 16 * i] =
                    inside && o < a.outputs ? weight[(o * 27 + tap) * a.inputs + channel + tx] : 0.0f;
            }
            __syncthreads();
#pragma unroll
            for (int k = 0; k < PLAIN_DEPTH; k++)
#pragma unroll
                for (int i = 0; i < 4; i++)
#pragma unroll
                    for (int j = 0; j < 4; j++)
                        sums[i][j] = fmaf(left[k][ty + 16 * i], right[k][tx + 16 * j], sums[i][j]);
        }
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            int64_t position = first + ty + 16 * i, channel = output + tx + 16 * j, at = position * a.outputs + channel;
            if (position >= a.positions || channel >= a.outputs) continue;
            float value = sums[i][j] + static_cast<const float *>(a.bias)[channel];
            if (a.residual != NULL) value += static_cast<const float *>(a.residual)[at];
            static_cast<float *>(a.y)[at] = value;
        }
}

static void convolve(swm_backend *b, swm_tensor y, const swm_conv3d *how, swm_tensor padded)
{
    conv_arguments a;
    a.padded = padded.data;
    a.weight = how->weight.data;
    a.bias = how->bias.data;
    a.residual = swm_present(how->residual) ? how->residual.data : NULL;
    a.y = y.data;
    a.height = y.shape[1];
    a.width = y.shape[2];
    a.inputs = padded.shape[3];
    a.outputs = y.shape[3];
    a.positions = y.shape[0] * y.shape[1] * y.shape[2];
    a.wide = a.inputs % 8 == 0 && swm_aligned(padded.data) && swm_aligned(how->weight.data);
    dim3 grid(swm_blocks(a.positions, POSITIONS), swm_blocks(a.outputs, OUTPUTS));
    cudaStream_t stream = swm_cuda_device_of(b)->stream;
    if (b->compute == SWM_BF16)
        conv_bf16<<<grid, CONV_THREADS, 0, stream>>>(a);
    else
        conv_f32<<<grid, PLAIN_THREADS, 0, stream>>>(a);
    swm_cuda_launched(b, "conv");
}

/* ---- a lone frame ------------------------------------------------------------------------------------------------ */

/* Filters [O][27][I] summed over time to [O][9][I]: eight channels a thread. */
static __global__ void __launch_bounds__(256)
    sum_frames_kernel(__half *to, const __nv_bfloat16 *from, int64_t inputs, int64_t items)
{
    int64_t item = (int64_t)blockIdx.x * 256 + threadIdx.x;
    if (item >= items) return;
    int64_t vectors = inputs / 8, tap = item / vectors % 9, output = item / vectors / 9;
    const __nv_bfloat16 *filter = from + (output * 27 + tap) * inputs + item % vectors * 8;
    float sums[8], values[8];
    swm_load<__nv_bfloat16, 8>(sums, filter);
#pragma unroll
    for (int frame = 1; frame < 3; frame++) {
        swm_load<__nv_bfloat16, 8>(values, filter + 9 * frame * inputs);
#pragma unroll
        for (int i = 0; i < 8; i++) sums[i] += values[i];
    }
    store_half<8>(to + item * 8, sums);
}

/* How the Hopper kernel shall see it; sums filters if it pays. */
static swm_cuda_conv_form form_of(swm_backend *b, const swm_conv3d *how, bool lone)
{
    swm_cuda_device *device = swm_cuda_device_of(b);
    swm_cuda_conv_form form = {};
    form.weight = how->weight.data;
    form.depth = 3;
    if (!lone) return form;
    int64_t inputs = how->weight.shape[1], count = how->weight.shape[0] * 9 * inputs;
    size_t bytes = 0;
    if (how->norm_silu && count * 2 <= SWM_CUDA_SCRATCH) {
        bytes = ((size_t)count * 2 + 255) / 256 * 256;
        form.weight = device->scratch;
        form.depth = 1;
        form.half = true;
        sum_frames_kernel<<<swm_blocks(count / 8, 256), 256, 0, device->stream>>>(
            static_cast<__half *>(device->scratch), swm_elements<__nv_bfloat16>(how->weight), inputs, count / 8);
        swm_cuda_launched(b, "conv");
    }
    form.partial = reinterpret_cast<float *>(static_cast<char *>(device->scratch) + bytes);
    form.partial_count = (int64_t)(SWM_CUDA_SCRATCH - bytes) / 4;
    return form;
}

extern "C" void swm_cuda_conv(swm_backend *b, swm_tensor y, swm_tensor x, const swm_conv3d *how, swm_tensor padded)
{
    bool hopper = swm_cuda_device_of(b)->matrix->conv != SWM_CUDA_GENERIC &&
                  swm_cuda_conv_hopper_takes(b, y, how, padded) && swm_aligned(x.data);
    /* A span of one frame is no lone frame: it has to give the same bits as a longer one. */
    bool lone = hopper && x.shape[0] == 1 && !swm_present(how->cache);
    swm_cuda_conv_form form = {};
    if (hopper) form = form_of(b, how, lone);
    if (form.half) {
        padded = swm_rows(padded, 0, 1);
        pad<__nv_bfloat16, __half>(b, padded, x, how, 0);
    } else {
        SWM_CUDA_BY_TYPE(b->compute, pad<T, T>(b, padded, x, how, swm_conv_before(how)));
    }
    if (swm_failed(&b->error) || swm_count(y) == 0) return;
    if (hopper)
        swm_cuda_conv_hopper(b, y, how, padded, &form);
    else
        convolve(b, y, how, padded);
}
