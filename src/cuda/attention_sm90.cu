/* Softmax attention on Hopper: no causal mask, no soft cap, heads of 112 or 128, bf16, with or without a bias of keys.
 * attention.cu decides who is called and owns everything else.
 *
 * A block owns 128 queries of one head and walks over its keys in tiles of KEYS. Warpgroup 0 only copies: queries once,
 * keys and values through rings of two tiles, by the copy engine. Warpgroups 1 and 2 own 64 queries each: scores by
 * wgmma from shared memory, running softmax in registers, the weights rounded to bf16 in registers as the A operand of
 * the second product. Within a warpgroup the scores of tile j+1 are under way while tile j's values are gathered;
 * between the two, named barriers let one use the tensor cores while the other computes exponentials.
 *
 * Heads of 112 are not padded in the arithmetic: scores take 7 steps of 16, values a product 112 wide. In shared memory
 * a head is two panels of 64 columns; the copy engine fills columns 112..127 with zeros. PV is the width of the second
 * product, 128 to multiply those zeros too.
 *
 * Bound: tensor cores. 4 N^2 H D = 1.02e14 FLOP a layer at N=106480, H=20, D=112; keys and values of a head (48 MB)
 * stay about in L2 because all resident blocks work on the same head; a block reads 90 KB of them for 20 MFLOP. */
#include "cuda/common.cuh"
#include "cuda/hopper.cuh"
#include "cuda/matrix.h"

static constexpr float LOG2_E = 1.4426950408889634f;

enum {
    QUERIES = 128,
    KEYS = 176,
    STAGES = 2,
    THREADS = 384,
    PANEL_Q = QUERIES * 128, /* bytes of 64 columns */
    PANEL_K = KEYS * 128,
    TILE_K = 2 * PANEL_K,
    BARRIERS = 1 + 4 * STAGES,
    SHARED_BYTES = 2 * PANEL_Q + 2 * STAGES * TILE_K + 8 * BARRIERS + 1024,
    WARPS_READING = 8
};

struct hopper_attention {
    __nv_bfloat16 *y;
    const float *bias;      /* of keys, or NULL */
    int queries, keys, row; /* row: elements from one query to the next */
    int share;              /* query heads of a key head */
    float scale;            /* times log2 e */
};

#if defined(SWM_HOPPER)

__device__ __forceinline__ float exp2_fast(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

struct ring_place {
    int stage;
    uint32_t phase;
    __device__ __forceinline__ void next()
    {
        if (++stage == STAGES) stage = 0, phase ^= 1;
    }
};

/* Running softmax of a thread's two rows; totals are the thread's share of the row until the end. */
struct softmax_rows {
    float maximum[2], total[2];
};

/* Scores to weights in place; returns in `rescale` what earlier sums are worth under the new maximum. */
template <bool first>
__device__ __forceinline__ void soften(float (&s)[KEYS / 2], softmax_rows &rows, float (&rescale)[2], float scale)
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float highest = s[2 * r];
#pragma unroll
        for (int i = 0; i < KEYS / 8; i++) highest = fmaxf(highest, fmaxf(s[4 * i + 2 * r], s[4 * i + 2 * r + 1]));
        highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, 1));
        highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, 2));
        if (!first) highest = fmaxf(highest, rows.maximum[r]);
        float shift = highest * scale;
        rescale[r] = first ? 1.0f : exp2_fast(rows.maximum[r] * scale - shift);
        rows.maximum[r] = highest;
        float sum = 0, sum1 = 0;
#pragma unroll
        for (int i = 0; i < KEYS / 8; i++) {
            s[4 * i + 2 * r] = exp2_fast(fmaf(s[4 * i + 2 * r], scale, -shift));
            s[4 * i + 2 * r + 1] = exp2_fast(fmaf(s[4 * i + 2 * r + 1], scale, -shift));
            sum += s[4 * i + 2 * r];
            sum1 += s[4 * i + 2 * r + 1];
        }
        rows.total[r] = (first ? 0.0f : rows.total[r] * rescale[r]) + (sum + sum1);
    }
}

/* A branch that needs both totals and does nothing: without it the assembler moves the exponentials behind the wait for
 * the product that they are to overlap with. */
__device__ __forceinline__ void computed(const float (&total)[2])
{
    if (__any_sync(~0u, fminf(total[0], total[1]) < 0)) asm volatile("nanosleep.u32 0;" ::: "memory");
}

/* Accumulators of scores, rounded, are the A operands of KEYS/16 steps of the second product. */
__device__ __forceinline__ void round_weights(uint32_t (&p)[KEYS / 16][4], const float (&s)[KEYS / 2])
{
#pragma unroll
    for (int k = 0; k < KEYS / 16; k++)
#pragma unroll
        for (int i = 0; i < 4; i++) p[k][i] = swm_pair(s[8 * k + 2 * i], s[8 * k + 2 * i + 1]);
}

template <int head> __device__ __forceinline__ void multiply_scores(float (&s)[KEYS / 2], uint32_t q, uint32_t k)
{
#pragma unroll
    for (int step = 0; step < head / 16; step++) {
        int panel = step / 4, inside = step % 4 * 32;
        wgmma_ss(s, descriptor(q + panel * PANEL_Q + inside, 16, 1024),
                 descriptor(k + panel * PANEL_K + inside, 16, 1024), step > 0);
    }
}

template <int width>
__device__ __forceinline__ void gather_values(float (&o)[width / 2], const uint32_t (&p)[KEYS / 16][4], uint32_t v)
{
#pragma unroll
    for (int step = 0; step < KEYS / 16; step++)
        wgmma_rs<1>(o, p[step], descriptor(v + step * 16 * 128, PANEL_K, 1024), 1);
}

struct shared_places {
    uint32_t q, k, v, q_full, k_full, k_empty, v_full, v_empty;
};

template <int head>
__device__ __forceinline__ void copy_tiles(const shared_places &at, const CUtensorMap *q, const CUtensorMap *k,
                                           const CUtensorMap *v, const hopper_attention &a)
{
    int tiles = (a.keys + KEYS - 1) / KEYS, query = (int)blockIdx.x * QUERIES, query_head = (int)blockIdx.y;
    int key_head = query_head / a.share;
    barrier_expect(at.q_full, 2 * PANEL_Q);
    copy_box_3d(at.q, q, at.q_full, 0, query_head, query);
    copy_box_3d(at.q + PANEL_Q, q, at.q_full, 64, query_head, query);
    /* Keys run one tile ahead of values, as they are used. The last tile comes first: it alone needs a mask. */
    ring_place key_place = {0, 0}, value_place = {0, 0};
    for (int i = 0; i <= tiles; i++) {
        if (i < tiles) {
            uint32_t to = at.k + key_place.stage * TILE_K, full = at.k_full + 8 * key_place.stage;
            barrier_wait(at.k_empty + 8 * key_place.stage, key_place.phase ^ 1);
            barrier_expect(full, TILE_K);
            copy_box_3d(to, k, full, 0, key_head, (tiles - 1 - i) * KEYS);
            copy_box_3d(to + PANEL_K, k, full, 64, key_head, (tiles - 1 - i) * KEYS);
            key_place.next();
        }
        if (i > 0) {
            uint32_t to = at.v + value_place.stage * TILE_K, full = at.v_full + 8 * value_place.stage;
            barrier_wait(at.v_empty + 8 * value_place.stage, value_place.phase ^ 1);
            barrier_expect(full, TILE_K);
            copy_box_3d(to, v, full, 0, key_head, (tiles - i) * KEYS);
            copy_box_3d(to + PANEL_K, v, full, 64, key_head, (tiles - i) * KEYS);
            value_place.next();
        }
    }
}

/* Scaled scores with the bias of their keys; keys past the last one score -infinity. */
__device__ __forceinline__ void add_bias(float (&s)[KEYS / 2], const hopper_attention &a, int first_key)
{
    int key = first_key + (int)threadIdx.x % 4 * 2;
#pragma unroll
    for (int i = 0; i < KEYS / 2; i++) {
        int at = key + i / 4 * 8 + i % 2;
        s[i] = at < a.keys ? fmaf(s[i], a.scale, __ldg(a.bias + at) * LOG2_E) : -INFINITY;
    }
}

/* Named barriers 1 and 2 are the turns of the two computing warpgroups; 256 threads take part in each. */
template <int head, int width, bool biased>
__device__ __forceinline__ void attend_rows(const shared_places &at, const hopper_attention &a, int group)
{
    int tiles = (a.keys + KEYS - 1) / KEYS, lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x % 128 / 32;
    uint32_t q = at.q + group * 64 * 128;
    float scale = biased ? 1.0f : a.scale;
    float s[KEYS / 2], o[width / 2], rescale[2];
    uint32_t p[KEYS / 16][4];
    softmax_rows rows;
    ring_place key_place = {0, 0}, value_place = {0, 0};
#pragma unroll
    for (int i = 0; i < width / 2; i++) o[i] = 0;
    if (group == 1) named_arrive(1, 256);

    barrier_wait(at.q_full, 0);
    barrier_wait(at.k_full, 0);
    wgmma_fence();
    multiply_scores<head>(s, q, at.k);
    wgmma_commit();
    wgmma_wait<0>();
    pin(s);
    if (lane == 0) barrier_arrive(at.k_empty);
    key_place.next();
    int valid = a.keys - (tiles - 1) * KEYS;
    if (biased)
        add_bias(s, a, (tiles - 1) * KEYS);
    else if (valid < KEYS)
#pragma unroll
        for (int i = 0; i < KEYS / 2; i++)
            if (i / 4 * 8 + lane % 4 * 2 + i % 2 >= valid) s[i] = -INFINITY;
    soften<true>(s, rows, rescale, scale);
    round_weights(p, s);

    for (int tile = 1; tile < tiles; tile++) {
        barrier_wait(at.k_full + 8 * key_place.stage, key_place.phase);
        named_wait(1 + group, 256);
        pin(s);
        wgmma_fence();
        multiply_scores<head>(s, q, at.k + key_place.stage * TILE_K);
        wgmma_commit();
        barrier_wait(at.v_full + 8 * value_place.stage, value_place.phase);
        pin(o);
        wgmma_fence();
        gather_values<width>(o, p, at.v + value_place.stage * TILE_K);
        wgmma_commit();
        /* The last turn of group 1 would be handed to a warpgroup that has left. */
        if (group == 0 || tile + 1 < tiles) named_arrive(2 - group, 256);
        wgmma_wait<1>();
        pin(s);
        if (lane == 0) barrier_arrive(at.k_empty + 8 * key_place.stage);
        key_place.next();
        if (biased) add_bias(s, a, (tiles - 1 - tile) * KEYS);
        soften<false>(s, rows, rescale, scale);
        computed(rows.total);
        wgmma_wait<0>();
        pin(o);
        if (lane == 0) barrier_arrive(at.v_empty + 8 * value_place.stage);
        value_place.next();
        round_weights(p, s);
#pragma unroll
        for (int i = 0; i < width / 2; i++) o[i] *= rescale[i % 4 / 2];
    }
    barrier_wait(at.v_full + 8 * value_place.stage, value_place.phase);
    pin(o);
    wgmma_fence();
    gather_values<width>(o, p, at.v + value_place.stage * TILE_K);
    wgmma_commit();
    wgmma_wait<0>();
    pin(o);

#pragma unroll
    for (int r = 0; r < 2; r++) {
        float total = rows.total[r];
        total += __shfl_xor_sync(~0u, total, 1);
        total += __shfl_xor_sync(~0u, total, 2);
        float inverse = 1.0f / total;
        int query = (int)blockIdx.x * QUERIES + group * 64 + warp * 16 + lane / 4 + 8 * r;
        if (query >= a.queries) continue;
        __nv_bfloat16 *to = a.y + (int64_t)query * a.row + (int64_t)blockIdx.y * head + lane % 4 * 2;
#pragma unroll
        for (int i = 0; i < head / 8; i++)
            *reinterpret_cast<uint32_t *>(to + 8 * i) =
                swm_pair(o[4 * i + 2 * r] * inverse, o[4 * i + 2 * r + 1] * inverse);
    }
}
#endif

template <int head, int width, bool biased>
static __global__ void __launch_bounds__(THREADS, 1)
    attention_kernel(const __grid_constant__ CUtensorMap q, const __grid_constant__ CUtensorMap k,
                     const __grid_constant__ CUtensorMap v, const hopper_attention a)
{
#if defined(SWM_HOPPER)
    extern __shared__ uint8_t memory[];
    uint32_t base = (shared_address(memory) + 1023) & ~1023u;
    shared_places at;
    at.q = base;
    at.k = at.q + 2 * PANEL_Q;
    at.v = at.k + STAGES * TILE_K;
    at.q_full = at.v + STAGES * TILE_K;
    at.k_full = at.q_full + 8;
    at.k_empty = at.k_full + 8 * STAGES;
    at.v_full = at.k_empty + 8 * STAGES;
    at.v_empty = at.v_full + 8 * STAGES;
    if (threadIdx.x == 0) {
        barrier_init(at.q_full, 1);
        for (int i = 0; i < STAGES; i++) {
            barrier_init(at.k_full + 8 * i, 1);
            barrier_init(at.v_full + 8 * i, 1);
            barrier_init(at.k_empty + 8 * i, WARPS_READING);
            barrier_init(at.v_empty + 8 * i, WARPS_READING);
        }
        barrier_init_fence();
    }
    __syncthreads();
    int group = (int)threadIdx.x / 128;
    if (group == 0) {
        registers_fewer<24>();
        if (threadIdx.x == 0) copy_tiles<head>(at, &q, &k, &v, a);
    } else {
        registers_more<240>();
        attend_rows<head, width, biased>(at, a, group - 1);
    }
#else
    __trap(); /* built for sm_90 without the a */
#endif
}

template <int head, int width, bool biased>
static void launch(swm_backend *b, const CUtensorMap (&maps)[3], const hopper_attention &a, int heads)
{
    auto kernel = attention_kernel<head, width, biased>;
    if (!swm_cuda_check(b, cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, SHARED_BYTES),
                        "attend"))
        return;
    dim3 grid(swm_blocks(a.queries, QUERIES), (unsigned)heads);
    kernel<<<grid, THREADS, SHARED_BYTES, swm_cuda_device_of(b)->stream>>>(maps[0], maps[1], maps[2], a);
    swm_cuda_launched(b, "attend");
}

extern "C" bool swm_cuda_attend_hopper_takes(swm_backend *b, swm_tensor y, swm_tensor q, swm_tensor k, swm_tensor v,
                                             const swm_attention *how)
{
    const swm_cuda_matrix *matrix = swm_cuda_device_of(b)->matrix;
    int64_t head = q.shape[1] / how->heads;
    return matrix->encode != NULL && b->compute == SWM_BF16 && (head == 112 || head == 128) && !how->causal &&
           how->softcap <= 0 && how->scale > 0 && q.shape[0] > 0 && q.shape[0] < INT32_MAX - QUERIES &&
           k.shape[0] < INT32_MAX - KEYS && how->heads < 65536 && swm_aligned(y.data) && swm_aligned(q.data) &&
           swm_aligned(k.data) && swm_aligned(v.data);
}

extern "C" void swm_cuda_attend_hopper(swm_backend *b, swm_tensor y, swm_tensor q, swm_tensor k, swm_tensor v,
                                       const swm_attention *how)
{
    int64_t key_heads = how->key_heads ? how->key_heads : how->heads, head = q.shape[1] / how->heads;
    swm_tensor operands[3] = {q, k, v};
    CUtensorMap maps[3];
    for (int i = 0; i < 3; i++) {
        int64_t heads = i == 0 ? how->heads : key_heads;
        int64_t sizes[] = {head, heads, operands[i].shape[0]}, strides[] = {2 * head, 2 * head * heads};
        int64_t box[] = {64, 1, i == 0 ? QUERIES : KEYS};
        if (!swm_cuda_map(b, &maps[i], operands[i].data, 3, sizes, strides, box)) return;
    }
    bool biased = swm_present(how->key_bias);
    hopper_attention a = {swm_elements<__nv_bfloat16>(y),
                          biased ? swm_elements<float>(how->key_bias) : NULL,
                          (int)q.shape[0],
                          (int)k.shape[0],
                          (int)q.shape[1],
                          (int)(how->heads / key_heads),
                          how->scale * LOG2_E};
    int heads = (int)how->heads;
    bool padded = swm_cuda_device_of(b)->matrix->attention == SWM_CUDA_PADDED;
    if (head == 128)
        biased ? launch<128, 128, true>(b, maps, a, heads) : launch<128, 128, false>(b, maps, a, heads);
    else if (padded)
        biased ? launch<112, 128, true>(b, maps, a, heads) : launch<112, 128, false>(b, maps, a, heads);
    else
        biased ? launch<112, 112, true>(b, maps, a, heads) : launch<112, 112, false>(b, maps, a, heads);
}
