/* Norms, the per-frame modulation around them, and what is done to heads before and after they mix tokens.
 *
 * Tiling: a row of channels belongs to 32 threads (to 128 or 512 when it is longer), which hold all of it in registers
 * in vectors of 16 bytes: vector i of thread t is vector t + 32 i of the row. So a row is read once and written once,
 * and sums over it are butterflies. Bound by memory: 0.95 GB in and out for (106480, 2240) bf16, 0.22 ms at 4.3 TB/s.
 */
#include "cuda/common.cuh"

/* Threads that share a row, vectors that each of them holds, rows of a block. */
template <int THREADS_, int VECTORS_> struct row_shape {
    static constexpr int THREADS = THREADS_, VECTORS = VECTORS_, ROWS = THREADS_ < 128 ? 128 / THREADS_ : 1;
};
using short_row = row_shape<32, 3>;
using usual_row = row_shape<32, 9>; /* 2240 or 2304 bf16 channels */
using wide_row = row_shape<128, 4>; /* 4096 bf16 channels */
using long_row = row_shape<128, 9>;
using longest_row = row_shape<512, 9>;
enum { LONGEST = 512 * 9 };

/* Launch kernel<T, W, shape> for `rows` rows of `vectors` vectors, with `shared` bytes of shared memory a row. */
#define LAUNCH_ROWS(kernel, T, W, rows, vectors, shared, stream, ...)                                                  \
    do {                                                                                                               \
        if ((vectors) <= 32 * 3)                                                                                       \
            LAUNCH_SHAPE(kernel, T, W, short_row, rows, shared, stream, __VA_ARGS__);                                  \
        else if ((vectors) <= 32 * 9)                                                                                  \
            LAUNCH_SHAPE(kernel, T, W, usual_row, rows, shared, stream, __VA_ARGS__);                                  \
        else if ((vectors) <= 128 * 4)                                                                                 \
            LAUNCH_SHAPE(kernel, T, W, wide_row, rows, shared, stream, __VA_ARGS__);                                   \
        else if ((vectors) <= 128 * 9)                                                                                 \
            LAUNCH_SHAPE(kernel, T, W, long_row, rows, shared, stream, __VA_ARGS__);                                   \
        else                                                                                                           \
            LAUNCH_SHAPE(kernel, T, W, longest_row, rows, shared, stream, __VA_ARGS__);                                \
    } while (0)
#define LAUNCH_SHAPE(kernel, T, W, shape, rows, shared, stream, ...)                                                   \
    kernel<T, W, shape>                                                                                                \
        <<<swm_blocks(rows, shape::ROWS), dim3(shape::THREADS, shape::ROWS), (size_t)(shared)*shape::ROWS, stream>>>(  \
            __VA_ARGS__)

/* Whether rows of `channels` fit in registers; they do up to 36864 bf16 channels. */
static bool rows_fit(swm_backend *b, int64_t channels, int width, const char *op)
{
    if (channels % width == 0 && channels / width <= LONGEST) return true;
    swm_fail(&b->error, "cuda: %s: rows of %lld channels, where at most %lld were expected", op, (long long)channels,
             (long long)LONGEST * width);
    return false;
}

/* A row in registers; what lies behind its end is zero. */
template <typename T, int W, typename S> struct row {
    float values[S::VECTORS][W];

    __device__ static int vector(int i) { return (int)threadIdx.x + S::THREADS * i; }
    __device__ void load(const T *from, int vectors)
    {
        swm_raw<T, W> raw[S::VECTORS];
#pragma unroll
        for (int i = 0; i < S::VECTORS; i++) {
            if (vector(i) < vectors)
                raw[i].load(from + vector(i) * W);
            else
                raw[i].clear();
        }
#pragma unroll
        for (int i = 0; i < S::VECTORS; i++)
#pragma unroll
            for (int k = 0; k < W; k++) values[i][k] = raw[i].get(k);
    }
    __device__ float sum() const
    {
        float sum = 0;
#pragma unroll
        for (int i = 0; i < S::VECTORS; i++)
#pragma unroll
            for (int k = 0; k < W; k++) sum += values[i][k];
        return swm_row_sum<S::THREADS>(sum);
    }
    /* Of the squares of (value - mean) over the elements of the row. */
    __device__ float squares(float mean, int vectors) const
    {
        float sum = 0;
#pragma unroll
        for (int i = 0; i < S::VECTORS; i++)
            if (vector(i) < vectors)
#pragma unroll
                for (int k = 0; k < W; k++) sum += (values[i][k] - mean) * (values[i][k] - mean);
        return swm_row_sum<S::THREADS>(sum);
    }
};

/* ---- modulation -------------------------------------------------------------------------------------------------- */

/* y (T,R,C) = t (T,R or 1,C) + table (R,C): a thread an element, a few megabytes in all. */
template <typename T>
__global__ void __launch_bounds__(256) modulation_kernel(T *y, const T *t, const T *table, int64_t count,
                                                         int64_t frame_size, int64_t channels, bool shared)
{
    int64_t i = (int64_t)blockIdx.x * 256 + threadIdx.x;
    if (i >= count) return;
    int64_t source = shared ? i / frame_size * channels + i % channels : i;
    y[i] = swm_from_float<T>(swm_float_of(t[source]) + swm_float_of(table[i % frame_size]));
}

extern "C" void swm_cuda_modulation(swm_backend *b, swm_tensor y, swm_tensor t, swm_tensor table)
{
    int64_t count = swm_count(y);
    bool shared = t.shape[1] == 1 && y.shape[1] > 1;
    SWM_CUDA_BY_TYPE(b->compute, {
        modulation_kernel<<<swm_blocks(count, 256), 256, 0, swm_cuda_device_of(b)->stream>>>(
            swm_elements<T>(y), swm_elements<const T>(t), swm_elements<const T>(table), count, swm_count(table),
            swm_last(y), shared);
    });
    swm_cuda_launched(b, "modulation");
}

/* Rows of the modulation that belong to a frame, of which there are `tokens` tokens. */
template <typename T> struct frame_rows {
    const T *values;
    int64_t tokens, rows, channels;
    __device__ const T *row(int64_t token, int row) const
    {
        return values + ((int64_t)((uint32_t)token / (uint32_t)tokens) * rows + row) * channels;
    }
};

template <typename T> static frame_rows<T> frame_rows_of(swm_tensor modulation, int64_t tokens)
{
    return {swm_elements<const T>(modulation), tokens / modulation.shape[0], modulation.shape[1], modulation.shape[2]};
}

template <typename T, int W, typename S>
__global__ void __launch_bounds__(S::THREADS *S::ROWS)
    adaptive_norm_kernel(T *y, const T *x, frame_rows<T> modulation, int shift_row, int scale_row, bool centred,
                         int64_t tokens, int vectors)
{
    int64_t n = (int64_t)blockIdx.x * S::ROWS + threadIdx.y;
    if (n >= tokens) return;
    int64_t channels = modulation.channels;
    row<T, W, S> r;
    r.load(x + n * channels, vectors);
    float mean = centred ? r.sum() / (float)channels : 0.0f;
    float inverse = 1.0f / sqrtf(r.squares(mean, vectors) / (float)channels + 1e-6f);
    const T *shift = modulation.row(n, shift_row), *scale = modulation.row(n, scale_row);
#pragma unroll
    for (int i = 0; i < S::VECTORS; i++) {
        int v = r.vector(i);
        if (v >= vectors) break;
        float add[W], multiply[W];
        swm_load<T, W>(add, shift + v * W);
        swm_load<T, W>(multiply, scale + v * W);
#pragma unroll
        for (int k = 0; k < W; k++) add[k] += (r.values[i][k] - mean) * inverse * (1.0f + multiply[k]);
        swm_store<T, W>(y + n * channels + v * W, add);
    }
}

extern "C" void swm_cuda_adaptive_norm(swm_backend *b, swm_tensor y, swm_tensor x, swm_tensor modulation, int shift_row,
                                       int scale_row, bool centred)
{
    int64_t tokens = x.shape[0], channels = x.shape[1];
    cudaStream_t stream = swm_cuda_device_of(b)->stream;
    if (tokens == 0) return;
    SWM_CUDA_BY_TYPE(b->compute, {
        T *to = swm_elements<T>(y);
        const T *from = swm_elements<T>(x);
        frame_rows<T> rows = frame_rows_of<T>(modulation, tokens);
        bool wide = channels % swm_wide<T> == 0 && swm_aligned(to) && swm_aligned(from) && swm_aligned(modulation.data);
        if (!rows_fit(b, channels, wide ? swm_wide<T> : 1, "adaptive_norm")) return;
        if (wide)
            LAUNCH_ROWS(adaptive_norm_kernel, T, swm_wide<T>, tokens, channels / swm_wide<T>, 0, stream, to, from, rows,
                        shift_row, scale_row, centred, tokens, (int)(channels / swm_wide<T>));
        else
            LAUNCH_ROWS(adaptive_norm_kernel, T, 1, tokens, channels, 0, stream, to, from, rows, shift_row, scale_row,
                        centred, tokens, (int)channels);
    });
    swm_cuda_launched(b, "adaptive_norm");
}

/* sum += gate y. A block owns GATED_ROWS rows, so that every thread has that many pairs of loads in flight. Bound by
 * memory: 1.43 GB, 0.33 ms for (106480, 2240) bf16. */
enum { GATED_ROWS = 4 };

template <typename T, int W>
__global__ void __launch_bounds__(512)
    gated_add_kernel(T *sum, const T *y, frame_rows<T> modulation, int gate_row, int64_t tokens, int vectors)
{
    int64_t first = (int64_t)blockIdx.x * GATED_ROWS, channels = modulation.channels;
    for (int v = (int)threadIdx.x; v < vectors; v += (int)blockDim.x) {
        swm_raw<T, W> old[GATED_ROWS], add[GATED_ROWS], gate[GATED_ROWS];
#pragma unroll
        for (int i = 0; i < GATED_ROWS; i++) {
            if (first + i >= tokens) break;
            int64_t at = (first + i) * channels + v * W;
            old[i].load(sum + at);
            add[i].load(y + at);
            gate[i].load(modulation.row(first + i, gate_row) + v * W);
        }
#pragma unroll
        for (int i = 0; i < GATED_ROWS; i++) {
            if (first + i >= tokens) break;
            float out[W];
#pragma unroll
            for (int k = 0; k < W; k++) out[k] = old[i].get(k) + gate[i].get(k) * add[i].get(k);
            swm_store<T, W>(sum + (first + i) * channels + v * W, out);
        }
    }
}

extern "C" void swm_cuda_gated_add(swm_backend *b, swm_tensor sum, swm_tensor y, swm_tensor modulation, int gate_row)
{
    int64_t tokens = sum.shape[0], channels = sum.shape[1];
    cudaStream_t stream = swm_cuda_device_of(b)->stream;
    if (tokens == 0) return;
    SWM_CUDA_BY_TYPE(b->compute, {
        T *to = swm_elements<T>(sum);
        const T *from = swm_elements<T>(y);
        frame_rows<T> rows = frame_rows_of<T>(modulation, tokens);
        bool wide = channels % swm_wide<T> == 0 && swm_aligned(to) && swm_aligned(from) && swm_aligned(modulation.data);
        int64_t vectors = wide ? channels / swm_wide<T> : channels;
        unsigned blocks = swm_blocks(tokens, GATED_ROWS),
                 threads = (unsigned)swm_min(512, swm_divide_up(vectors, 32) * 32);
        if (wide)
            gated_add_kernel<T, swm_wide<T>>
                <<<blocks, threads, 0, stream>>>(to, from, rows, gate_row, tokens, (int)vectors);
        else
            gated_add_kernel<T, 1><<<blocks, threads, 0, stream>>>(to, from, rows, gate_row, tokens, (int)vectors);
    });
    swm_cuda_launched(b, "gated_add");
}

/* ---- RMS norm ---------------------------------------------------------------------------------------------------- */

template <typename T, int W, typename S>
__global__ void __launch_bounds__(S::THREADS *S::ROWS)
    rms_norm_kernel(T *y, const T *x, const T *weight, float epsilon, float offset, int64_t rows, int vectors)
{
    int64_t n = (int64_t)blockIdx.x * S::ROWS + threadIdx.y;
    if (n >= rows) return;
    row<T, W, S> r;
    r.load(x + n * vectors * W, vectors);
    float inverse = 1.0f / sqrtf(r.squares(0, vectors) / (float)(vectors * W) + epsilon);
#pragma unroll
    for (int i = 0; i < S::VECTORS; i++) {
        int v = r.vector(i);
        if (v >= vectors) break;
        float w[W];
        if (weight != nullptr) swm_load<T, W>(w, weight + v * W);
#pragma unroll
        for (int k = 0; k < W; k++) w[k] = r.values[i][k] * inverse * (weight != nullptr ? offset + w[k] : 1.0f);
        swm_store<T, W>(y + n * vectors * W + v * W, w);
    }
}

extern "C" void swm_cuda_rms_norm(swm_backend *b, swm_tensor y, swm_tensor x, swm_tensor weight, float epsilon,
                                  float offset)
{
    int64_t channels = swm_last(x), count = swm_count(x) / channels;
    cudaStream_t stream = swm_cuda_device_of(b)->stream;
    if (count == 0) return;
    SWM_CUDA_BY_TYPE(b->compute, {
        T *to = swm_elements<T>(y);
        const T *from = swm_elements<T>(x), *w = swm_elements<T>(weight);
        bool wide = channels % swm_wide<T> == 0 && swm_aligned(to) && swm_aligned(from) && swm_aligned(w);
        if (!rows_fit(b, channels, wide ? swm_wide<T> : 1, "rms_norm")) return;
        if (wide)
            LAUNCH_ROWS(rms_norm_kernel, T, swm_wide<T>, count, channels / swm_wide<T>, 0, stream, to, from, w, epsilon,
                        offset, count, (int)(channels / swm_wide<T>));
        else
            LAUNCH_ROWS(rms_norm_kernel, T, 1, count, channels, 0, stream, to, from, w, epsilon, offset, count,
                        (int)channels);
    });
    swm_cuda_launched(b, "rms_norm");
}

/* ---- heads ------------------------------------------------------------------------------------------------------- */

/* swm_head_transform with pointers of the kernel's types. */
template <typename T> struct head_transform {
    const T *norm;
    const float *rotation, *rays;
    float *inflation;
    int heads, size; /* elements a head */
    float epsilon, scale, sign;
    bool relu, transpose;
};

/* Pairs turned by (cos, sin) pairs of a table. */
template <int COUNT> __device__ inline void rotate_pairs(float *x, const float *table, float sign)
{
    float angles[COUNT];
    swm_load<float, COUNT>(angles, table);
#pragma unroll
    for (int i = 0; i < COUNT; i += 2) {
        float cosine = angles[i], sine = sign * angles[i + 1], even = x[i], odd = x[i + 1];
        x[i] = even * cosine - odd * sine;
        x[i + 1] = even * sine + odd * cosine;
    }
}

__device__ inline void transpose_matrix(float *matrix)
{
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < i; j++) {
            float value = matrix[4 * i + j];
            matrix[4 * i + j] = matrix[4 * j + i];
            matrix[4 * j + i] = value;
        }
}

/* Four elements times a row-major 4x4 matrix. */
__device__ inline void multiply_group(float *x, const float *matrix)
{
    float out[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        out[i] = 0;
#pragma unroll
        for (int j = 0; j < 4; j++) out[i] += matrix[4 * i + j] * x[j];
    }
#pragma unroll
    for (int i = 0; i < 4; i++) x[i] = out[i];
}

/* What a head does to W elements, W being 2, 4 or 8, from its element `at` on; groups of 4 (of 2 if W is) lie inside
 * one head. `table`: the token's angles. */
template <typename T, int W, bool RAYS>
__device__ __forceinline__ void transform_vector(float *x, int at, const float *table, const head_transform<T> &how,
                                                 const float *matrix)
{
    constexpr int STEP = W < 4 ? W : 4;
    if constexpr (RAYS) {
        int half = how.size / 2;
#pragma unroll
        for (int g = 0; g < W; g += 4) {
            if (at + g < half)
                multiply_group(x + g, matrix);
            else
                rotate_pairs<4>(x + g, table + (at + g - half), how.sign);
        }
    } else {
#pragma unroll
        for (int g = 0; g < W; g += STEP)
            rotate_pairs<STEP>(x + g, table + (at + g < how.size ? at + g : at + g - how.size), how.sign);
    }
}

/* One pass over a row: norm, ReLU, scale, rotation or ray transform, all in registers. The tables of angles are read
 * once a head, from the first-level cache after the first. `sums`: room for two floats a vector of the row, for the
 * inflation, whose heads are shared by several threads. */
template <typename T, int W, typename S, bool RAYS>
__device__ __forceinline__ void transform_row(T *y, const T *x, const head_transform<T> &how, int64_t tokens,
                                              int vectors)
{
    extern __shared__ float2 sums_of_rows[];
    int64_t n = (int64_t)blockIdx.x * S::ROWS + threadIdx.y;
    if (n >= tokens) return;
    float2 *sums = sums_of_rows + (int)threadIdx.y * vectors;
    int64_t start = n * vectors * W;
    row<T, W, S> r;
    r.load(x + start, vectors);
    float matrix[16] = {};
    if constexpr (RAYS) {
        swm_load<float, 16>(matrix, how.rays + n * 16);
        if (how.transpose) transpose_matrix(matrix);
    }
    const float *table = how.rotation + n * (RAYS ? how.size / 2 : how.size);
    float inverse = 1.0f;
    if (how.norm != nullptr) inverse = 1.0f / sqrtf(r.squares(0, vectors) / (float)(vectors * W) + how.epsilon);
    /* Element of its head that a vector starts with; from one vector of the thread to the next it moves by `step`. */
    int at = (int)threadIdx.x * W % how.size, step = S::THREADS * W % how.size;
#pragma unroll
    for (int i = 0; i < S::VECTORS; i++) {
        int v = r.vector(i);
        if (v >= vectors) break;
        float *values = r.values[i];
        if (how.norm != nullptr) {
            float w[W];
            swm_load<T, W>(w, how.norm + v * W);
#pragma unroll
            for (int k = 0; k < W; k++) values[k] = values[k] * inverse * w[k];
        }
        if (how.relu)
#pragma unroll
            for (int k = 0; k < W; k++) values[k] = fmaxf(values[k], 0.0f);
        if (how.scale != 1.0f)
#pragma unroll
            for (int k = 0; k < W; k++) values[k] *= how.scale;
        float before = 0, after = 0;
        if (RAYS && how.inflation != nullptr)
#pragma unroll
            for (int k = 0; k < W; k++) before += values[k] * values[k];
        if (RAYS || how.rotation != nullptr) transform_vector<T, W, RAYS>(values, at, table, how, matrix);
        if (RAYS && how.inflation != nullptr) {
#pragma unroll
            for (int k = 0; k < W; k++) after += values[k] * values[k];
            sums[v] = make_float2(before, after);
        }
        swm_store<T, W>(y + start + v * W, values);
        at += step;
        if (at >= how.size) at -= how.size;
    }
    if (!RAYS) return;
    if (how.inflation == nullptr) return;
    if constexpr (S::THREADS == 32)
        __syncwarp();
    else
        __syncthreads();
    int share = how.size / W; /* with rays, heads are made of whole vectors */
    for (int head = (int)threadIdx.x; head < how.heads; head += S::THREADS) {
        float before = 0, after = 0;
        for (int k = 0; k < share; k++) {
            before += sums[head * share + k].x;
            after += sums[head * share + k].y;
        }
        how.inflation[n * how.heads + head] = fmaxf(after, 1e-12f) / fmaxf(before, 1e-12f);
    }
}

template <typename T, int W, typename S>
__global__ void __launch_bounds__(S::THREADS *S::ROWS)
    transform_heads_kernel(T *y, const T *x, head_transform<T> how, int64_t tokens, int vectors)
{
    transform_row<T, W, S, false>(y, x, how, tokens, vectors);
}

template <typename T, int W, typename S>
__global__ void __launch_bounds__(S::THREADS *S::ROWS)
    transform_rays_kernel(T *y, const T *x, head_transform<T> how, int64_t tokens, int vectors)
{
    transform_row<T, W, S, true>(y, x, how, tokens, vectors);
}

extern "C" void swm_cuda_transform_heads(swm_backend *b, swm_tensor y, swm_tensor x, const swm_head_transform *how)
{
    int64_t tokens = x.shape[0], channels = x.shape[1], size = channels / how->heads;
    cudaStream_t stream = swm_cuda_device_of(b)->stream;
    if (tokens == 0) return;
    SWM_CUDA_BY_TYPE(b->compute, {
        T *to = swm_elements<T>(y);
        const T *from = swm_elements<T>(x);
        head_transform<T> transform = {swm_elements<const T>(how->norm),
                                       swm_elements<const float>(how->rotation),
                                       swm_elements<const float>(how->rays),
                                       swm_elements<float>(how->inflation),
                                       (int)how->heads,
                                       (int)size,
                                       how->epsilon,
                                       how->scale != 0 ? how->scale : 1.0f,
                                       how->conjugate ? -1.0f : 1.0f,
                                       how->relu,
                                       how->transpose};
        bool wide = channels % swm_wide<T> == 0 && size % 4 == 0 && swm_aligned(to) && swm_aligned(from) &&
                    swm_aligned(how->norm.data) && swm_aligned(how->rotation.data);
        if (swm_present(
                how->rays)) /* a head of 8 k elements: the inflation needs whole vectors, the matrices wide ones */
            SWM_REQUIRE(wide && size % swm_wide<T> == 0 && swm_aligned(how->rays.data),
                        "heads of %lld at odd addresses", (long long)size);
        SWM_REQUIRE(wide || size % 2 == 0, "heads of %lld", (long long)size);
        int64_t vectors = channels / (wide ? swm_wide<T> : 2);
        size_t shared = swm_present(how->inflation) ? (size_t)vectors * sizeof(float2) : 0;
        if (!rows_fit(b, channels, wide ? swm_wide<T> : 2, "transform_heads")) return;
        if (swm_present(how->rays))
            LAUNCH_ROWS(transform_rays_kernel, T, swm_wide<T>, tokens, vectors, shared, stream, to, from, transform,
                        tokens, (int)vectors);
        else if (wide)
            LAUNCH_ROWS(transform_heads_kernel, T, swm_wide<T>, tokens, vectors, shared, stream, to, from, transform,
                        tokens, (int)vectors);
        else
            LAUNCH_ROWS(transform_heads_kernel, T, 2, tokens, vectors, shared, stream, to, from, transform, tokens,
                        (int)vectors);
    });
    swm_cuda_launched(b, "transform_heads");
}

/* ---- rotation over a grid ---------------------------------------------------------------------------------------- */

/* Tiling: a block owns ROWS rows that follow each other, thread t the entries (pairs) W t .. W t + W - 1 of each, and
 * so on in UNITS of as many threads: two vectors of W elements, which the form of pairs puts side by side or half a
 * head apart. All rows are loaded before the first sum, and written when all have been read, so y may be x. A row needs
 * C/2 angles, twice the bytes of what is rotated, from the caches: two of its three tables are those of the row before.
 * Bound by memory: 1.74 GB, 0.41 ms for (106480, 4096) bf16, provided that few instructions go into addresses. */
enum { GRID_THREADS = 256 };

template <typename T> struct grid_rotation {
    const T *norm; /* or NULL */
    float epsilon;
    const float2 *axes[3]; /* (positions, frequencies) of cos, sin; all the same one if there is only one */
    int frequencies, count, height, width;
    int half, entries, still; /* of a head; of a row; of a row's that do not turn */
};

/* Where a token is: its row in the table of every axis. */
struct grid_position {
    int frame, line, column;
    template <typename T> __device__ __forceinline__ grid_position(const grid_rotation<T> &r, int token)
    {
        int lines = token / r.width;
        column = token % r.width;
        line = lines % r.height;
        frame = lines / r.height;
        if (r.count == 1) line = column = frame;
    }
    template <typename T> __device__ __forceinline__ void next(const grid_rotation<T> &r)
    {
        if (r.count == 1) {
            frame++, line++, column++;
        } else if (++column == r.width) {
            column = 0;
            if (++line == r.height) line = 0, frame++;
        }
    }
};

/* The entries of a thread that turn take the axes in turn: numbers 0, 3, 6, ... have the axis of the first of them, and
 * so on, and lie `step` apart in their table. */
struct grid_entries {
    int axis, at[3], step, still; /* axis of entry 0; the first ones' places in a table's row; `still` do not turn */
    template <typename T> __device__ __forceinline__ grid_entries(const grid_rotation<T> &r, int entry)
    {
        int turning = max(entry - r.still, 0);
        still = max(r.still - entry, 0);
        step = r.count == 3 ? 1 : 3;
        axis = turning % 3;
#pragma unroll
        for (int j = 0; j < 3; j++) at[j] = r.count == 3 ? (turning + j) / 3 : turning + j;
    }
};

/* Angles of W entries at a position. */
template <typename T, int W>
__device__ __forceinline__ void load_angles(float2 (&angles)[W], const grid_entries &e, const grid_rotation<T> &r,
                                            const grid_position &position)
{
    const float2 *from[3];
#pragma unroll
    for (int j = 0; j < 3; j++) {
        int axis = e.axis + j - (e.axis + j >= 3 ? 3 : 0);
        const float2 *table = axis == 0 ? r.axes[0] : axis == 1 ? r.axes[1] : r.axes[2];
        int row = axis == 0 ? position.frame : axis == 1 ? position.line : position.column;
        from[j] = table + ((int64_t)row * r.frequencies + e.at[j]);
    }
    if (e.still == 0) {
#pragma unroll
        for (int k = 0; k < W; k++) angles[k] = __ldg(from[k % 3] + k / 3 * e.step);
    } else {
#pragma unroll
        for (int k = 0; k < W; k++) {
            int i = k - e.still; /* number among those that turn */
            angles[k] = make_float2(1, 0);
            if (i >= 0) angles[k] = __ldg((i % 3 == 0 ? from[0] : i % 3 == 1 ? from[1] : from[2]) + i / 3 * e.step);
        }
    }
}

/* Sums of every row over the block; every thread has them all. */
template <int ROWS> __device__ inline void grid_sums(float (&sums)[ROWS])
{
    __shared__ float parts[GRID_THREADS / 32][ROWS];
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
        sums[i] = swm_warp_sum(sums[i]);
        if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32][i] = sums[i];
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
        sums[i] = 0;
#pragma unroll
        for (int part = 0; part < GRID_THREADS / 32; part++) sums[i] += parts[part][i];
    }
}

template <typename T, int W, int UNITS, int ROWS, bool INTERLEAVED>
__global__ void __launch_bounds__(GRID_THREADS, UNITS == 1 ? 4 : 1)
    rotate_grid_kernel(T *y, const T *x, const grid_rotation<T> r, int64_t tokens)
{
    int64_t first = (int64_t)blockIdx.x * ROWS, channels = 2 * (int64_t)r.entries;
    swm_raw<T, W> raw[ROWS][UNITS][2];
    float scale[ROWS] = {};
    int apart = INTERLEAVED ? W : r.half, low[UNITS]; /* channel of a unit's first vector */
#pragma unroll
    for (int u = 0; u < UNITS; u++) {
        int entry = ((int)threadIdx.x + GRID_THREADS * u) * W;
        low[u] = INTERLEAVED ? 2 * entry : entry / r.half * 2 * r.half + entry % r.half;
#pragma unroll
        for (int side = 0; side < 2; side++) {
            bool inside = entry < r.entries;
#pragma unroll
            for (int i = 0; i < ROWS; i++) {
                if (inside && first + i < tokens)
                    raw[i][u][side].load(x + (first + i) * channels + low[u] + side * apart);
                else
                    raw[i][u][side].clear();
            }
        }
    }
    if (r.norm != nullptr) {
#pragma unroll
        for (int i = 0; i < ROWS; i++)
#pragma unroll
            for (int u = 0; u < UNITS; u++)
#pragma unroll
                for (int k = 0; k < 2 * W; k++) scale[i] += raw[i][u][k / W].get(k % W) * raw[i][u][k / W].get(k % W);
        grid_sums(scale);
#pragma unroll
        for (int i = 0; i < ROWS; i++) scale[i] = 1.0f / sqrtf(scale[i] / (float)channels + r.epsilon);
    }
#pragma unroll
    for (int u = 0; u < UNITS; u++) {
        int entry = ((int)threadIdx.x + GRID_THREADS * u) * W;
        if (entry >= r.entries) break;
        const grid_entries entries(r, entry);
        grid_position position(r, (int)first);
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            if (first + i >= tokens) break;
            if (i > 0) position.next(r);
            float2 angles[W];
            load_angles(angles, entries, r, position);
            float values[2][W];
#pragma unroll
            for (int side = 0; side < 2; side++) {
                swm_raw<T, W> weight; /* from the first-level cache: registers are what rows in flight are made of */
                if (r.norm != nullptr) weight.load(r.norm + low[u] + side * apart);
#pragma unroll
                for (int k = 0; k < W; k++) {
                    float value = raw[i][u][side].get(k);
                    values[side][k] = r.norm != nullptr ? value * scale[i] * weight.get(k) : value;
                }
            }
#pragma unroll
            for (int k = 0; k < W; k++) {
                float &a = INTERLEAVED ? values[2 * k / W][2 * k % W] : values[0][k];
                float &c = INTERLEAVED ? values[(2 * k + 1) / W][(2 * k + 1) % W] : values[1][k];
                float left = a, right = c;
                a = left * angles[k].x - right * angles[k].y;
                c = right * angles[k].x + left * angles[k].y;
            }
            T *to = y + (first + i) * channels + low[u];
            swm_store<T, W>(to, values[0]);
            swm_store<T, W>(to + apart, values[1]);
        }
    }
}

template <typename T, int W, bool INTERLEAVED>
static void rotate_grid(swm_backend *b, T *y, const T *x, const grid_rotation<T> &r, int64_t tokens)
{
    cudaStream_t stream = swm_cuda_device_of(b)->stream;
    int64_t units = swm_divide_up(r.entries / W, GRID_THREADS);
    if (units <= 1)
        rotate_grid_kernel<T, W, 1, 2, INTERLEAVED>
            <<<swm_blocks(tokens, 2), GRID_THREADS, 0, stream>>>(y, x, r, tokens);
    else if (units <= 8)
        rotate_grid_kernel<T, W, 8, 1, INTERLEAVED>
            <<<swm_blocks(tokens, 1), GRID_THREADS, 0, stream>>>(y, x, r, tokens);
    else
        swm_fail(&b->error, "cuda: rotate_grid: rows of %lld channels, where at most %d were expected",
                 2 * (long long)r.entries, 2 * W * 8 * GRID_THREADS);
}

extern "C" void swm_cuda_rotate_grid(swm_backend *b, swm_tensor y, swm_tensor x, swm_tensor norm, float epsilon,
                                     const swm_grid_rotation *rotation)
{
    int64_t tokens = x.shape[0], channels = x.shape[1], half = channels / rotation->heads / 2;
    int count = swm_present(rotation->axes[1]) ? 3 : 1;
    SWM_REQUIRE(tokens <= INT32_MAX, "rotate_grid: %s", swm_describe(x).text);
    if (tokens == 0) return;
    SWM_CUDA_BY_TYPE(b->compute, {
        T *to = swm_elements<T>(y);
        const T *from = swm_elements<const T>(x);
        grid_rotation<T> r = {};
        r.norm = swm_elements<const T>(norm);
        r.epsilon = epsilon;
        for (int i = 0; i < 3; i++) r.axes[i] = swm_elements<const float2>(rotation->axes[count == 3 ? i : 0]);
        r.frequencies = (int)rotation->axes[0].shape[1];
        r.count = count;
        r.height = count == 3 ? (int)rotation->axes[1].shape[0] : 1;
        r.width = count == 3 ? (int)rotation->axes[2].shape[0] : 1;
        r.half = (int)half;
        r.entries = (int)(channels / 2);
        r.still = r.entries - count * r.frequencies;
        bool wide = half % swm_wide<T> == 0 && swm_aligned(to) && swm_aligned(from) && swm_aligned(r.norm);
        if (wide && rotation->interleaved)
            rotate_grid<T, swm_wide<T>, true>(b, to, from, r, tokens);
        else if (wide)
            rotate_grid<T, swm_wide<T>, false>(b, to, from, r, tokens);
        else if (rotation->interleaved)
            rotate_grid<T, 1, true>(b, to, from, r, tokens);
        else
            rotate_grid<T, 1, false>(b, to, from, r, tokens);
    });
    swm_cuda_launched(b, "rotate_grid");
}
