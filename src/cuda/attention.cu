/* Softmax attention in tiles with running maxima: the generic kernels (bf16 on tensor cores by mma.sync, and plain
 * float32), and the choice between them and attention_sm90.cu.
 *
 * bf16: a block of four warps owns 64 queries of one head, a warp 16 of them; keys pass in tiles through shared memory,
 * the next keys being copied while the scores of these become weights, the values while scores are made. Heads are
 * padded to 32, 64, 128 or 256 columns with zeros in shared memory only. Bound at N=106480: tensor cores by mma.sync,
 * about 60 % of what sm_90's own instructions reach; on sm_80, sm_89 and sm_120 mma.sync is all there is.
 *
 * float32: 32 queries a block, 16 keys a tile, eight threads a query. For tests: correct, not fast.
 *
 * Keys before the keys (prefix) are rows of another tensor: the row number says which, so that a tile may lie across
 * the seam. */
#include "cuda/common.cuh"
#include "cuda/matrix.h"
#include "cuda/tensorcore.cuh"

/* Below every score yet finite, so that a row whose keys so far are all hidden stays free of NaN: what it gathered is
 * scaled to nothing by the first visible key. Keys past the end score -infinity and weigh nothing even then. */
static constexpr float HIDDEN = -1e30f;
static constexpr float LOG2_E = 1.4426950408889634f;

struct attention_arguments {
    const void *q, *k, *v;
    const void *prefix_k, *prefix_v;
    void *y;
    int64_t queries, keys, prefix, window; /* keys: those of the prefix included */
    int64_t row, key_row;                  /* elements from one query, one key to the next */
    int head, share;                       /* channels of a head; query heads of a key head */
    float scale, softcap;
    bool causal, wide; /* wide: rows may be read 16 bytes at a time */
};

/* The score of a query and a key as softmax sees it, in units of log 2. */
__device__ __forceinline__ float finish_score(float score, const attention_arguments &a, int64_t query, int64_t key)
{
    if (key >= a.keys) return -INFINITY;
    score *= a.scale;
    if (a.softcap > 0) score = a.softcap * tanhf(score / a.softcap);
    if (a.causal && (key > query || (a.window > 0 && query - key >= a.window))) return HIDDEN;
    return score * LOG2_E;
}

/* The first key that queries from `query` on see, rounded down to a tile, and one past the last that `count` of them
 * see. */
__device__ __forceinline__ int64_t first_key_of(const attention_arguments &a, int64_t query, int tile)
{
    return a.causal && a.window > 0 && query >= a.window ? (query - a.window + 1) / tile * tile : 0;
}
__device__ __forceinline__ int64_t end_key_of(const attention_arguments &a, int64_t query, int count)
{
    return a.causal && query + count < a.keys ? query + count : a.keys;
}

/* ---- bf16 -------------------------------------------------------------------------------------------------------- */

enum { QUERIES = 64, THREADS = 128 };

/* Rows of a head: `prefix` of them at `before`, the others at `from`. */
template <typename T> struct head_rows {
    const T *before, *from;
    int64_t prefix, stride;
    __device__ __forceinline__ const T *row(int64_t i) const
    {
        return i < prefix ? before + i * stride : from + (i - prefix) * stride;
    }
};

/* Of keys or values. */
template <typename T>
__device__ __forceinline__ head_rows<T> key_rows(const void *before, const void *from, int64_t key_head,
                                                 const attention_arguments &a)
{
    return {static_cast<const T *>(before) + key_head * a.head, static_cast<const T *>(from) + key_head * a.head,
            a.prefix, a.key_row};
}

/* Rows first .. first+rows-1 of a head to shared memory, columns and rows that are not there as zeros. Rows in
 * shared memory are 16 bytes longer than the head, so that eight of them lie in different banks. */
template <int rows, int width>
__device__ __forceinline__ void load_tile(__nv_bfloat16 *to, const head_rows<__nv_bfloat16> &from, int64_t first,
                                          int64_t count, const attention_arguments &a)
{
    for (int i = (int)threadIdx.x; i < rows * (width / 8); i += THREADS) {
        int row = i / (width / 8), column = i % (width / 8) * 8;
        __nv_bfloat16 *place = to + row * (width + 8) + column;
        bool inside = first + row < count;
        const __nv_bfloat16 *source = from.row(first + row) + column;
        if (a.wide) {
            bool valid = inside && column < a.head;
            copy_async(shared_place(place), valid ? source : from.from, valid);
        } else {
            for (int c = 0; c < 8; c++)
                place[c] = inside && column + c < a.head ? source[c] : __float2bfloat16_rn(0.0f);
        }
    }
}

/* Weights of a warp's 16 queries from their scores, against the running maximum; what is gathered so far is
 * rescaled. */
template <int tiles, int columns>
__device__ __forceinline__ void soften(float (&s)[tiles][4], float (&o)[columns][4], float (&maximum)[2],
                                       float (&total)[2])
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float highest = maximum[r];
#pragma unroll
        for (int j = 0; j < tiles; j++) highest = fmaxf(highest, fmaxf(s[j][2 * r], s[j][2 * r + 1]));
        highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, 1));
        highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, 2));
        float rescale = exp2f(maximum[r] - highest), sum = 0;
        maximum[r] = highest;
#pragma unroll
        for (int j = 0; j < tiles; j++)
#pragma unroll
            for (int e = 2 * r; e < 2 * r + 2; e++) {
                s[j][e] = exp2f(s[j][e] - highest);
                sum += s[j][e];
            }
        total[r] = total[r] * rescale + sum;
#pragma unroll
        for (int j = 0; j < columns; j++) {
            o[j][2 * r] *= rescale;
            o[j][2 * r + 1] *= rescale;
        }
    }
}

template <int width, int keys>
static __global__ void __launch_bounds__(THREADS) attention_bf16(const attention_arguments a)
{
    constexpr int PITCH = width + 8;
    extern __shared__ __align__(16) uint8_t memory[];
    __nv_bfloat16 *q_tile = reinterpret_cast<__nv_bfloat16 *>(memory), *k_tile = q_tile + QUERIES * PITCH,
                  *v_tile = k_tile + keys * PITCH;
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    int64_t first = (int64_t)blockIdx.x * QUERIES, head = blockIdx.y, key_head = head / a.share;
    head_rows<__nv_bfloat16> q = {NULL, static_cast<const __nv_bfloat16 *>(a.q) + head * a.head, 0, a.row};
    head_rows<__nv_bfloat16> k = key_rows<__nv_bfloat16>(a.prefix_k, a.k, key_head, a);
    head_rows<__nv_bfloat16> v = key_rows<__nv_bfloat16>(a.prefix_v, a.v, key_head, a);
    int64_t begin = first_key_of(a, first, keys), end = end_key_of(a, first, QUERIES);

    load_tile<QUERIES, width>(q_tile, q, first, a.queries, a);
    load_tile<keys, width>(k_tile, k, begin, a.keys, a);
    copy_commit();
    float o[width / 8][4] = {}, maximum[2] = {HIDDEN, HIDDEN}, total[2] = {0, 0};
    uint32_t q_row = shared_place(q_tile + (warp * 16 + lane % 16) * PITCH + lane / 16 * 8);
    uint32_t k_row = shared_place(k_tile + (lane % 8 + lane / 16 * 8) * PITCH + lane / 8 % 2 * 8);
    uint32_t v_row = shared_place(v_tile + lane % 16 * PITCH + lane / 16 * 8);
    int64_t query = first + warp * 16 + lane / 4;

    for (int64_t key = begin; key < end; key += keys) {
        load_tile<keys, width>(v_tile, v, key, a.keys, a);
        copy_commit();
        copy_wait<1>();
        __syncthreads();
        float s[keys / 8][4] = {};
#pragma unroll
        for (int c = 0; c < width; c += 16) {
            uint32_t left[4], right[4];
            load_matrices(left, q_row + c * 2);
#pragma unroll
            for (int j = 0; j < keys; j += 16) {
                load_matrices(right, k_row + (j * PITCH + c) * 2);
                mma(s[j / 8], left, right[0], right[1]);
                mma(s[j / 8 + 1], left, right[2], right[3]);
            }
        }
        __syncthreads();
        if (key + keys < end) load_tile<keys, width>(k_tile, k, key + keys, a.keys, a);
        copy_commit();
#pragma unroll
        for (int j = 0; j < keys / 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                s[j][e] = finish_score(s[j][e], a, query + e / 2 * 8, key + j * 8 + lane % 4 * 2 + e % 2);
        soften(s, o, maximum, total);
        copy_wait<1>();
        __syncthreads();
#pragma unroll
        for (int j = 0; j < keys; j += 16) {
            uint32_t left[4] = {swm_pair(s[j / 8][0], s[j / 8][1]), swm_pair(s[j / 8][2], s[j / 8][3]),
                                swm_pair(s[j / 8 + 1][0], s[j / 8 + 1][1]), swm_pair(s[j / 8 + 1][2], s[j / 8 + 1][3])};
#pragma unroll
            for (int c = 0; c < width; c += 16) {
                uint32_t right[4];
                load_matrices_transposed(right, v_row + (j * PITCH + c) * 2);
                mma(o[c / 8], left, right[0], right[1]);
                mma(o[c / 8 + 1], left, right[2], right[3]);
            }
        }
        __syncthreads();
    }

#pragma unroll
    for (int r = 0; r < 2; r++) {
        total[r] += __shfl_xor_sync(~0u, total[r], 1);
        total[r] += __shfl_xor_sync(~0u, total[r], 2);
        if (query + 8 * r >= a.queries) continue;
        __nv_bfloat16 *to = static_cast<__nv_bfloat16 *>(a.y) + (query + 8 * r) * a.row + head * a.head;
        float inverse = 1.0f / total[r];
#pragma unroll
        for (int j = 0; j < width / 8; j++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                int column = j * 8 + lane % 4 * 2 + e;
                if (column < a.head) to[column] = __float2bfloat16_rn(o[j][2 * r + e] * inverse);
            }
    }
}

/* ---- float32 ----------------------------------------------------------------------------------------------------- */

enum { PLAIN_QUERIES = 32, PLAIN_KEYS = 16, PLAIN_THREADS = 256, PLAIN_HEAD = 256, SHARERS = 8 };

static __global__ void __launch_bounds__(PLAIN_THREADS) attention_f32(const attention_arguments a)
{
    extern __shared__ __align__(16) float floats[];
    int head = a.head, pitch = head + 1, thread = (int)threadIdx.x;
    float *q_tile = floats, *k_tile = q_tile + PLAIN_QUERIES * pitch, *v_tile = k_tile + PLAIN_KEYS * pitch;
    int64_t first = (int64_t)blockIdx.x * PLAIN_QUERIES;
    const float *q = static_cast<const float *>(a.q) + (int64_t)blockIdx.y * head;
    head_rows<float> k = key_rows<float>(a.prefix_k, a.k, blockIdx.y / a.share, a);
    head_rows<float> v = key_rows<float>(a.prefix_v, a.v, blockIdx.y / a.share, a);
    for (int i = thread; i < PLAIN_QUERIES * head; i += PLAIN_THREADS) {
        int64_t query = first + i / head;
        q_tile[i / head * pitch + i % head] = query < a.queries ? q[query * a.row + i % head] : 0.0f;
    }
    /* Eight neighbouring threads share a query: each scores every eighth key and gathers every eighth channel. */
    int row = thread / SHARERS, part = thread % SHARERS, base = thread % 32 - part;
    float o[PLAIN_HEAD / SHARERS] = {}, maximum = HIDDEN, total = 0;
    int64_t begin = first_key_of(a, first, PLAIN_KEYS), end = end_key_of(a, first, PLAIN_QUERIES);
    for (int64_t key = begin; key < end; key += PLAIN_KEYS) {
        __syncthreads();
        for (int i = thread; i < PLAIN_KEYS * head; i += PLAIN_THREADS) {
            int64_t at = key + i / head;
            k_tile[i / head * pitch + i % head] = at < a.keys ? k.row(at)[i % head] : 0.0f;
            v_tile[i / head * pitch + i % head] = at < a.keys ? v.row(at)[i % head] : 0.0f;
        }
        __syncthreads();
        float s[PLAIN_KEYS / SHARERS], highest = maximum;
#pragma unroll
        for (int j = 0; j < PLAIN_KEYS / SHARERS; j++) {
            int column = j * SHARERS + part;
            float sum = 0;
            for (int d = 0; d < head; d++) sum = fmaf(q_tile[row * pitch + d], k_tile[column * pitch + d], sum);
            s[j] = finish_score(sum, a, first + row, key + column);
            highest = fmaxf(highest, s[j]);
        }
        for (int lane = 1; lane < SHARERS; lane *= 2) highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, lane));
        float rescale = exp2f(maximum - highest);
        maximum = highest;
        total *= rescale;
#pragma unroll
        for (int i = 0; i < PLAIN_HEAD / SHARERS; i++) o[i] *= rescale;
#pragma unroll
        for (int j = 0; j < PLAIN_KEYS / SHARERS; j++) {
            s[j] = exp2f(s[j] - highest);
            total += s[j];
            for (int t = 0; t < SHARERS; t++) {
                float weight = __shfl_sync(~0u, s[j], base + t);
#pragma unroll
                for (int i = 0; i < PLAIN_HEAD / SHARERS; i++)
                    if (i * SHARERS + part < head)
                        o[i] = fmaf(weight, v_tile[(j * SHARERS + t) * pitch + i * SHARERS + part], o[i]);
            }
        }
    }
    for (int lane = 1; lane < SHARERS; lane *= 2) total += __shfl_xor_sync(~0u, total, lane);
    if (first + row >= a.queries) return;
    float *to = static_cast<float *>(a.y) + (first + row) * a.row + (int64_t)blockIdx.y * head;
#pragma unroll
    for (int i = 0; i < PLAIN_HEAD / SHARERS; i++)
        if (i * SHARERS + part < head) to[i * SHARERS + part] = o[i] / total;
}

/* ---- the op ------------------------------------------------------------------------------------------------------ */

template <typename Kernel>
static void launch(swm_backend *b, Kernel kernel, int queries, int threads, size_t shared, const attention_arguments &a,
                   int64_t heads)
{
    if (!swm_cuda_check(b, cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared),
                        "attend"))
        return;
    dim3 grid(swm_blocks(a.queries, queries), (unsigned)heads);
    kernel<<<grid, (unsigned)threads, shared, swm_cuda_device_of(b)->stream>>>(a);
    swm_cuda_launched(b, "attend");
}

template <int width, int keys> static void launch_bf16(swm_backend *b, const attention_arguments &a, int64_t heads)
{
    launch(b, attention_bf16<width, keys>, QUERIES, THREADS, (size_t)(QUERIES + 2 * keys) * (width + 8) * 2, a, heads);
}

extern "C" void swm_cuda_attend(swm_backend *b, swm_tensor y, swm_tensor q, swm_tensor k, swm_tensor v,
                                const swm_attention *how)
{
    int64_t key_heads = how->key_heads ? how->key_heads : how->heads, head = q.shape[1] / how->heads;
    if (q.shape[0] == 0) return;
    if (head > PLAIN_HEAD || how->heads > 65535) {
        swm_fail(&b->error, "cuda: attend: %lld heads of %lld channels; at most 65535 of 256 are supported",
                 (long long)how->heads, (long long)head);
        return;
    }
    if (swm_cuda_device_of(b)->matrix->attention != SWM_CUDA_GENERIC &&
        swm_cuda_attend_hopper_takes(b, y, q, k, v, how)) {
        swm_cuda_attend_hopper(b, y, q, k, v, how);
        return;
    }
    attention_arguments a;
    a.q = q.data;
    a.k = k.data;
    a.v = v.data;
    a.y = y.data;
    a.queries = q.shape[0];
    a.prefix_k = how->prefix_keys.data;
    a.prefix_v = how->prefix_values.data;
    a.prefix = swm_present(how->prefix_keys) ? how->prefix_keys.shape[0] : 0;
    a.keys = a.prefix + k.shape[0];
    a.window = how->window;
    a.row = q.shape[1];
    a.key_row = k.shape[1];
    a.head = (int)head;
    a.share = (int)(how->heads / key_heads);
    a.scale = how->scale;
    a.softcap = how->softcap;
    a.causal = how->causal;
    a.wide = head % 8 == 0 && swm_aligned(q.data) && swm_aligned(k.data) && swm_aligned(v.data) &&
             (a.prefix == 0 || (swm_aligned(a.prefix_k) && swm_aligned(a.prefix_v)));
    if (b->compute == SWM_F32)
        launch(b, attention_f32, PLAIN_QUERIES, PLAIN_THREADS,
               (size_t)(PLAIN_QUERIES + 2 * PLAIN_KEYS) * (size_t)(head + 1) * sizeof(float), a, how->heads);
    else if (head <= 32)
        launch_bf16<32, 64>(b, a, how->heads);
    else if (head <= 64)
        launch_bf16<64, 64>(b, a, how->heads);
    else if (head <= 128)
        launch_bf16<128, 64>(b, a, how->heads);
    else
        launch_bf16<256, 32>(b, a, how->heads);
}
