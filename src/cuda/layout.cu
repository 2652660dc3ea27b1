/* Ops that move elements: transposition, embedding rows, and the half-split rotary embedding of the text encoders. */
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

/* A block a row; 300 rows of 2304 channels. */
template <typename T>
__global__ void __launch_bounds__(256)
    embed_kernel(T *y, const T *table, const int32_t *ids, int64_t width, float scale)
{
    const T *row = table + ids[blockIdx.x] * width;
    for (int64_t c = threadIdx.x; c < width; c += 256)
        y[blockIdx.x * width + c] = swm_from_float<T>(swm_float_of(row[c]) * scale);
}

extern "C" void swm_cuda_embed(swm_backend *b, swm_tensor y, swm_tensor table, const int32_t *ids, float scale)
{
    swm_cuda_device *device = swm_cuda_device_of(b);
    int64_t count = y.shape[0];
    size_t bytes = (size_t)count * sizeof *ids;
    for (int64_t n = 0; n < count; n++)
        SWM_REQUIRE(ids[n] >= 0 && ids[n] < table.shape[0], "token %d of %lld", ids[n], (long long)table.shape[0]);
    SWM_REQUIRE(bytes <= SWM_CUDA_SCRATCH, "%lld tokens", (long long)count);
    /* From pageable memory: the call returns when the ids have been read. */
    if (!swm_cuda_check(b, cudaMemcpyAsync(device->scratch, ids, bytes, cudaMemcpyHostToDevice, device->stream),
                        "embed"))
        return;
    SWM_CUDA_BY_TYPE(b->compute, {
        embed_kernel<<<(unsigned)count, 256, 0, device->stream>>>(swm_elements<T>(y), swm_elements<const T>(table),
                                                                  static_cast<const int32_t *>(device->scratch),
                                                                  table.shape[1], scale);
    });
    swm_cuda_launched(b, "embed");
}

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
