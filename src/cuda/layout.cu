/* Ops that move elements: transposition, the packing of text states, and the half-split rotary embedding of the text
 * encoders. */
#include "cuda/common.cuh"

/* ---- transposition ----------------------------------------------------------------------------------------------- */

/* Tiling: a block of 32 x 8 threads owns a square of 32 x 32 elements, which turns over in shared memory (a padded row
 * keeps columns off one bank). Bound by memory; at most 27 MB here, the latents of a clip. */
enum { TILE = 32, TILE_ROWS = 8 };

template <typename T>
__global__ void __launch_bounds__(TILE *TILE_ROWS) transpose_kernel(T *y, const T *x, int64_t rows, int64_t columns)
{
    __shared__ T square[TILE][TILE + (sizeof(T) == 2 ? 2 : 1)];
    int64_t across = (columns + TILE - 1) / TILE, row = blockIdx.x / across * TILE, column = blockIdx.x % across * TILE;
    for (int i = (int)threadIdx.y; i < TILE; i += TILE_ROWS)
        if (row + i < rows && column + threadIdx.x < columns)
            square[i][threadIdx.x] = x[(row + i) * columns + column + threadIdx.x];
    __syncthreads();
    for (int i = (int)threadIdx.y; i < TILE; i += TILE_ROWS)
        if (column + i < columns && row + threadIdx.x < rows)
            y[(column + i) * rows + row + threadIdx.x] = square[threadIdx.x][i];
}

extern "C" void swm_cuda_transpose(swm_backend *b, swm_tensor y, swm_tensor x, int64_t rows, int64_t columns)
{
    int64_t tiles = swm_divide_up(rows, TILE) * swm_divide_up(columns, TILE);
    if (tiles == 0) return;
    SWM_CUDA_BY_TYPE(b->compute, {
        transpose_kernel<<<(unsigned)tiles, dim3(TILE, TILE_ROWS), 0, swm_cuda_device_of(b)->stream>>>(
            swm_elements<T>(y), swm_elements<const T>(x), rows, columns);
    });
    swm_cuda_launched(b, "transpose");
}

/* ---- text -------------------------------------------------------------------------------------------------------- */

/* A block a token, a thread a pair at a time. Text alone: a few hundred tokens. */
template <typename T>
__global__ void __launch_bounds__(256) rotate_half_kernel(T *x, const float *rotation, int heads, int half)
{
    T *row = x + (int64_t)blockIdx.x * heads * half * 2;
    const float *table = rotation + (int64_t)blockIdx.x * half * 2;
    for (int p = (int)threadIdx.x; p < heads * half; p += 256) {
        int i = p % half;
        T *pair = row + p / half * half * 2 + i;
        float low = swm_float_of(pair[0]), high = swm_float_of(pair[half]);
        float cosine = table[2 * i], sine = table[2 * i + 1];
        pair[0] = swm_from_float<T>(low * cosine - high * sine);
        pair[half] = swm_from_float<T>(high * cosine + low * sine);
    }
}

extern "C" void swm_cuda_rotate_half(swm_backend *b, swm_tensor x, swm_tensor rotation, int64_t heads)
{
    if (x.shape[0] == 0) return;
    SWM_CUDA_BY_TYPE(b->compute, {
        rotate_half_kernel<<<(unsigned)x.shape[0], 256, 0, swm_cuda_device_of(b)->stream>>>(
            swm_elements<T>(x), swm_elements<const float>(rotation), (int)heads, (int)(x.shape[1] / heads / 2));
    });
    swm_cuda_launched(b, "rotate_half");
}

/* ---- packing of text states -------------------------------------------------------------------------------------- */

/* Once a prompt, a hundred megabytes: statistics of all layers, of what the first normalisation makes of them, then
 * both normalisations on the way into the transposed result, so that nothing lies in between. Partial sums of PARTS
 * blocks a layer are added in order. Bound by memory: three reads and a write of 113 MB at 300 tokens, 0.1 ms. */
enum { PARTS = 64, STATE_THREADS = 256 };

struct layer_part {
    float sum, low, high;
};
struct layer_norm {
    float mean, range;
};

/* bf16 states: the sum, the range and the results are rounded to bf16, the mean is not. */
template <typename T> __device__ inline float rounded(float x) { return swm_float_of(swm_from_float<T>(x)); }
template <typename T> __device__ inline float normalised(float x, layer_norm n)
{
    return rounded<T>((x - n.mean) / n.range * 8.0f);
}

template <typename T>
__global__ void __launch_bounds__(STATE_THREADS)
    state_parts_kernel(layer_part *parts, const T *states, const layer_norm *before, int64_t count)
{
    const T *layer = states + blockIdx.y * count;
    layer_part mine = {0, INFINITY, -INFINITY};
    for (int64_t i = (int64_t)blockIdx.x * STATE_THREADS + threadIdx.x; i < count; i += PARTS * STATE_THREADS) {
        float value = swm_float_of(layer[i]);
        if (before != nullptr) value = normalised<T>(value, before[blockIdx.y]);
        mine.sum += value;
        mine.low = fminf(mine.low, value);
        mine.high = fmaxf(mine.high, value);
    }
    __shared__ float low[STATE_THREADS], high[STATE_THREADS];
    low[threadIdx.x] = mine.low;
    high[threadIdx.x] = mine.high;
    mine.sum = swm_row_sum<STATE_THREADS>(mine.sum);
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int i = 1; i < STATE_THREADS; i++) {
        mine.low = fminf(mine.low, low[i]);
        mine.high = fmaxf(mine.high, high[i]);
    }
    parts[blockIdx.y * PARTS + blockIdx.x] = mine;
}

/* A thread a layer. */
template <typename T>
__global__ void state_norms_kernel(layer_norm *norms, const layer_part *parts, int layers, int64_t count)
{
    int layer = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (layer >= layers) return;
    layer_part all = parts[layer * PARTS];
    for (int i = 1; i < PARTS; i++) {
        layer_part part = parts[layer * PARTS + i];
        all.sum += part.sum;
        all.low = fminf(all.low, part.low);
        all.high = fmaxf(all.high, part.high);
    }
    norms[layer].mean = (float)((double)rounded<T>(all.sum) / ((double)count + 1e-6));
    norms[layer].range = rounded<T>(rounded<T>(all.high - all.low) + 1e-6f);
}

template <typename T>
__global__ void __launch_bounds__(TILE *TILE_ROWS)
    pack_states_kernel(T *y, const T *states, const layer_norm *first, const layer_norm *second, int layers,
                       int64_t count)
{
    __shared__ T square[TILE][TILE + (sizeof(T) == 2 ? 2 : 1)];
    int64_t column = (int64_t)blockIdx.x * TILE;
    int row = (int)blockIdx.y * TILE;
    for (int i = (int)threadIdx.y; i < TILE; i += TILE_ROWS)
        if (row + i < layers && column + threadIdx.x < count) {
            float value = swm_float_of(states[(row + i) * count + column + threadIdx.x]);
            value = normalised<T>(normalised<T>(value, first[row + i]), second[row + i]);
            square[i][threadIdx.x] = swm_from_float<T>(value);
        }
    __syncthreads();
    for (int i = (int)threadIdx.y; i < TILE; i += TILE_ROWS)
        if (column + i < count && row + (int)threadIdx.x < layers)
            y[(column + i) * layers + row + threadIdx.x] = square[threadIdx.x][i];
}

extern "C" void swm_cuda_pack_states(swm_backend *b, swm_tensor y, swm_tensor states)
{
    swm_cuda_device *device = swm_cuda_device_of(b);
    int64_t layers = states.shape[0], count = states.shape[1] * states.shape[2];
    SWM_REQUIRE(layers < 1 << 16 &&
                    (size_t)layers * (PARTS * sizeof(layer_part) + 2 * sizeof(layer_norm)) < SWM_CUDA_SCRATCH,
                "pack_states: %s", swm_describe(states).text);
    layer_part *parts = static_cast<layer_part *>(device->scratch);
    layer_norm *first = reinterpret_cast<layer_norm *>(parts + layers * PARTS), *second = first + layers;
    dim3 pieces(PARTS, (unsigned)layers);
    dim3 tiles(swm_blocks(count, TILE), swm_blocks(layers, TILE));
    SWM_CUDA_BY_TYPE(b->compute, {
        const T *from = swm_elements<const T>(states);
        for (int pass = 0; pass < 2; pass++) {
            state_parts_kernel<<<pieces, STATE_THREADS, 0, device->stream>>>(parts, from, pass ? first : NULL, count);
            state_norms_kernel<T>
                <<<swm_blocks(layers, 32), 32, 0, device->stream>>>(pass ? second : first, parts, (int)layers, count);
        }
        pack_states_kernel<<<tiles, dim3(TILE, TILE_ROWS), 0, device->stream>>>(swm_elements<T>(y), from, first, second,
                                                                                (int)layers, count);
    });
    swm_cuda_launched(b, "pack_states");
}
