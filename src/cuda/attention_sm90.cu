/* Softmax attention on Hopper: no causal mask, no soft cap, heads of 112 or 128, bf16, with or without keys before the
 * keys. attention.cu decides who is called and owns everything else.
 *
 * A block owns 128 queries of one head and walks over its keys in tiles of KEYS. Warpgroup 0 only copies: queries once,
 * keys and values through rings of two tiles, by the copy engine. Warpgroups 1 and 2 own 64 queries each: scores by
 * wgmma from shared memory, running softmax in registers, the weights rounded to bf16 in registers as the A operand of
 * the second product. Within a warpgroup the scores of tile j+1 are under way while tile j's values are gathered;
 * between the two, named barriers let one use the tensor cores while the other computes exponentials.
 *
 * Heads of 112 are not padded in the arithmetic: scores take 7 steps of 16, values a product 112 wide. In shared memory
 * a head is two panels of 64 columns; the copy engine fills columns 112..127 with zeros.
 *
 * A block walks from the last tile to the first, so that the tile that the keys do not fill is the one before the loop.
 * The prefix is tiles of its own, with tensor maps of its own, in front of the others. Where its rows do not fill its
 * last tile, that one is masked, too (seamed); a frame of the release, 880 rows, fills five tiles.
 *
 * Blocks fill the processors in waves, all of a length. The last wave is made of pieces: the blocks that would not fill
 * it share their keys out, so that all processors work to the end, and merge_kernel adds up what they leave in scratch.
 * So the last bits of a call depend on how many queries it has: callers that slice do so the same way in every mode.
 *
 * Bound: tensor cores. 4 N M H D FLOP: 1.84e14 a layer for the refiner's 105600 queries and 106480 keys, H=32, D=128;
 * keys and values of a head (54 MB) stay about in L2 because all resident blocks work on the same head; a block reads
 * 90 KB of them for 11.5 MFLOP, all blocks together 5 TB/s at 640 TFLOP/s. In long calls the power limit sets the
 * clock. */
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
    WARPS_READING = 8,
    PIECE_OVERHEAD = 2 /* what a piece costs beside its tiles, in tiles */
};

struct hopper_attention {
    __nv_bfloat16 *y;
    int queries, keys, row;             /* row: elements from one query to the next; keys: without the prefix */
    int tiles, prefix_tiles, last_keys; /* tiles of both; keys in the last one */
    int seam_keys;                      /* keys in the prefix's last tile */
    int units, heads, share;            /* units: of 128 queries that a head has; share: query heads of a key head */
    float scale;                        /* times log2 e */
    int whole, pieces, piece_tiles;     /* the first `whole` units see all keys, the others are cut into pieces */
    float *sums;                        /* (pieces, QUERIES, head): values gathered by pieces */
    float2 *weights;                    /* (pieces, QUERIES): the exponent that they are relative to, total weight */
};

/* Maps of tensors for copies of tiles. */
struct hopper_maps {
    CUtensorMap q, k, v, prefix_k, prefix_v;
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
        float highest = first ? s[2 * r] : rows.maximum[r];
#pragma unroll
        for (int i = 0; i < KEYS / 8; i++) highest = fmaxf(highest, fmaxf(s[4 * i + 2 * r], s[4 * i + 2 * r + 1]));
        highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, 1));
        highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, 2));
        float shift = highest * scale, sums[2] = {};
        rescale[r] = first ? 1.0f : exp2_fast(rows.maximum[r] * scale - shift);
        rows.maximum[r] = highest;
#pragma unroll
        for (int i = 0; i < KEYS / 8; i++)
#pragma unroll
            for (int k = 0; k < 2; k++) {
                s[4 * i + 2 * r + k] = exp2_fast(fmaf(s[4 * i + 2 * r + k], scale, -shift));
                sums[k] += s[4 * i + 2 * r + k];
            }
        rows.total[r] = (first ? 0.0f : rows.total[r] * rescale[r]) + (sums[0] + sums[1]);
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

/* Maxima settle early: from then on a warp has nothing to do here. */
template <int head> __device__ __forceinline__ void rescale_sums(float (&o)[head / 2], const float (&rescale)[2])
{
    if (!__any_sync(~0u, rescale[0] != 1.0f || rescale[1] != 1.0f)) return;
#pragma unroll
    for (int i = 0; i < head / 2; i++) o[i] *= rescale[i % 4 / 2];
}

template <int head>
__device__ __forceinline__ void gather_values(float (&o)[head / 2], const uint32_t (&p)[KEYS / 16][4], uint32_t v)
{
#pragma unroll
    for (int step = 0; step < KEYS / 16; step++)
        wgmma_rs<1>(o, p[step], descriptor(v + step * 16 * 128, PANEL_K, 1024), 1);
}

/* What a block does: queries from `query` on, tiles first .. end-1 of the keys, the last one first. */
struct block_work {
    int query, head, first, end, piece; /* piece -1: all keys */
};

__device__ __forceinline__ block_work work_of(const hopper_attention &a)
{
    int unit = (int)blockIdx.x, piece = -1, first = 0, end = a.tiles;
    if (unit >= a.whole) {
        piece = unit - a.whole;
        unit = a.whole + piece / a.pieces;
        first = piece % a.pieces * a.piece_tiles;
        end = min(a.tiles, first + a.piece_tiles);
    }
    return {unit % a.units * QUERIES, unit / a.units, first, end, piece};
}

/* Keys that a tile has. */
__device__ __forceinline__ int keys_of(const hopper_attention &a, int tile)
{
    return tile + 1 == a.tiles ? a.last_keys : tile + 1 == a.prefix_tiles ? a.seam_keys : KEYS;
}

struct shared_places {
    uint32_t q, k, v, q_full, k_full, k_empty, v_full, v_empty;
};

/* A tile into the ring. */
__device__ __forceinline__ void copy_tile(uint32_t to, uint32_t full, const CUtensorMap *prefix, const CUtensorMap *map,
                                          int key_head, int tile, const hopper_attention &a)
{
    bool before = tile < a.prefix_tiles;
    const CUtensorMap *from = before ? prefix : map;
    int row = (before ? tile : tile - a.prefix_tiles) * KEYS;
    barrier_expect(full, TILE_K);
    copy_box_3d(to, from, full, 0, key_head, row);
    copy_box_3d(to + PANEL_K, from, full, 64, key_head, row);
}

__device__ __forceinline__ void copy_tiles(const shared_places &at, const hopper_maps &maps, const hopper_attention &a)
{
    block_work work = work_of(a);
    int tiles = work.end - work.first, key_head = work.head / a.share;
    barrier_expect(at.q_full, 2 * PANEL_Q);
    copy_box_3d(at.q, &maps.q, at.q_full, 0, work.head, work.query);
    copy_box_3d(at.q + PANEL_Q, &maps.q, at.q_full, 64, work.head, work.query);
    /* Keys run one tile ahead of values, as they are used. */
    ring_place key_place = {0, 0}, value_place = {0, 0};
    for (int i = 0; i <= tiles; i++) {
        if (i < tiles) {
            barrier_wait(at.k_empty + 8 * key_place.stage, key_place.phase ^ 1);
            copy_tile(at.k + key_place.stage * TILE_K, at.k_full + 8 * key_place.stage, &maps.prefix_k, &maps.k,
                      key_head, work.end - 1 - i, a);
            key_place.next();
        }
        if (i > 0) {
            barrier_wait(at.v_empty + 8 * value_place.stage, value_place.phase ^ 1);
            copy_tile(at.v + value_place.stage * TILE_K, at.v_full + 8 * value_place.stage, &maps.prefix_v, &maps.v,
                      key_head, work.end - i, a);
            value_place.next();
        }
    }
}

/* A warp has read a tile. */
__device__ __forceinline__ void release_tile(uint32_t empty, int lane)
{
    if (lane == 0) barrier_arrive(empty);
}

/* Keys that a tile does not have score -infinity. */
__device__ __forceinline__ void mask_keys(float (&s)[KEYS / 2], int keys, int lane)
{
#pragma unroll
    for (int i = 0; i < KEYS / 2; i++)
        if (i / 4 * 8 + lane % 4 * 2 + i % 2 >= keys) s[i] = -INFINITY;
}

/* What a thread gathered: to the result, or as a piece of it to scratch. */
template <int head>
__device__ __forceinline__ void write_rows(const float (&o)[head / 2], const softmax_rows &rows,
                                           const hopper_attention &a, const block_work &work, int group)
{
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x % 128 / 32;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float total = rows.total[r];
        total += __shfl_xor_sync(~0u, total, 1);
        total += __shfl_xor_sync(~0u, total, 2);
        int row = group * 64 + warp * 16 + lane / 4 + 8 * r;
        if (work.query + row >= a.queries) continue;
        if (work.piece >= 0) {
            int64_t at = (int64_t)work.piece * QUERIES + row;
            if (lane % 4 == 0) a.weights[at] = make_float2(rows.maximum[r] * a.scale, total);
#pragma unroll
            for (int i = 0; i < head / 8; i++)
                *reinterpret_cast<float2 *>(a.sums + at * head + 8 * i + lane % 4 * 2) =
                    make_float2(o[4 * i + 2 * r], o[4 * i + 2 * r + 1]);
            continue;
        }
        float inverse = 1.0f / total;
        __nv_bfloat16 *to = a.y + (int64_t)(work.query + row) * a.row + (int64_t)work.head * head + lane % 4 * 2;
#pragma unroll
        for (int i = 0; i < head / 8; i++)
            *reinterpret_cast<uint32_t *>(to + 8 * i) =
                swm_pair(o[4 * i + 2 * r] * inverse, o[4 * i + 2 * r + 1] * inverse);
    }
}

/* Named barriers 1 and 2 are the turns of the two computing warpgroups; 256 threads take part in each. */
template <int head, bool seamed>
__device__ __forceinline__ void attend_rows(const shared_places &at, const hopper_attention &a, int group)
{
    block_work work = work_of(a);
    int lane = (int)threadIdx.x % 32;
    uint32_t q = at.q + group * 64 * 128;
    float s[KEYS / 2], o[head / 2], rescale[2];
    uint32_t p[KEYS / 16][4];
    softmax_rows rows;
    ring_place key_place = {0, 0}, value_place = {0, 0};
#pragma unroll
    for (int i = 0; i < head / 2; i++) o[i] = 0;
    if (group == 1) named_arrive(1, 256);

    barrier_wait(at.q_full, 0);
    barrier_wait(at.k_full, 0);
    wgmma_fence();
    multiply_scores<head>(s, q, at.k);
    wgmma_commit();
    wgmma_wait<0>();
    pin(s);
    release_tile(at.k_empty, lane);
    key_place.next();
    int tile = work.end - 1, keys = keys_of(a, tile);
    if (keys < KEYS) mask_keys(s, keys, lane);
    soften<true>(s, rows, rescale, a.scale);
    round_weights(p, s);

    while (--tile >= work.first) {
        barrier_wait(at.k_full + 8 * key_place.stage, key_place.phase);
        named_wait(1 + group, 256);
        pin(s);
        wgmma_fence();
        multiply_scores<head>(s, q, at.k + key_place.stage * TILE_K);
        wgmma_commit();
        rescale_sums<head>(o, rescale); /* of the tile before, while the tensor cores work */
        barrier_wait(at.v_full + 8 * value_place.stage, value_place.phase);
        pin(o);
        wgmma_fence();
        gather_values<head>(o, p, at.v + value_place.stage * TILE_K);
        wgmma_commit();
        /* The last turn of group 1 would be handed to a warpgroup that has left. */
        if (group == 0 || tile > work.first) named_arrive(2 - group, 256);
        wgmma_wait<1>();
        pin(s);
        release_tile(at.k_empty + 8 * key_place.stage, lane);
        key_place.next();
        if (seamed && tile + 1 == a.prefix_tiles) mask_keys(s, a.seam_keys, lane);
        soften<false>(s, rows, rescale, a.scale);
        computed(rows.total);
        wgmma_wait<0>();
        pin(o);
        release_tile(at.v_empty + 8 * value_place.stage, lane);
        value_place.next();
        round_weights(p, s);
    }
    rescale_sums<head>(o, rescale);
    barrier_wait(at.v_full + 8 * value_place.stage, value_place.phase);
    pin(o);
    wgmma_fence();
    gather_values<head>(o, p, at.v + value_place.stage * TILE_K);
    wgmma_commit();
    wgmma_wait<0>();
    pin(o);
    write_rows<head>(o, rows, a, work, group);
}
#endif

template <int head, bool seamed>
static __global__ void __launch_bounds__(THREADS, 1)
    attention_kernel(const __grid_constant__ hopper_maps maps, const hopper_attention a)
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
        if (threadIdx.x == 0) copy_tiles(at, maps, a);
    } else {
        registers_more<240>();
        attend_rows<head, seamed>(at, a, group - 1);
    }
#else
    __trap(); /* built for sm_90 without the a */
#endif
}

/* Pieces of a row added up. A warp a row, four rows a block; a few megabytes. */
enum { MERGE_ROWS = 4 };

static __global__ void __launch_bounds__(32 * MERGE_ROWS) merge_kernel(const hopper_attention a, int head)
{
    int cut = (int)blockIdx.x / (QUERIES / MERGE_ROWS), unit = a.whole + cut;
    int row = (int)blockIdx.x % (QUERIES / MERGE_ROWS) * MERGE_ROWS + (int)threadIdx.y;
    int query = unit % a.units * QUERIES + row, column = (int)threadIdx.x * 4;
    if (query >= a.queries || column >= head) return;
    int64_t first = (int64_t)cut * a.pieces * QUERIES + row;
    float highest = -INFINITY, total = 0;
    for (int i = 0; i < a.pieces; i++) highest = fmaxf(highest, a.weights[first + i * QUERIES].x);
    float4 sum = {};
    for (int i = 0; i < a.pieces; i++) {
        float2 weight = a.weights[first + i * QUERIES];
        float worth = exp2f(weight.x - highest);
        float4 piece = *reinterpret_cast<const float4 *>(a.sums + (first + i * QUERIES) * head + column);
        total += worth * weight.y;
        sum.x += worth * piece.x;
        sum.y += worth * piece.y;
        sum.z += worth * piece.z;
        sum.w += worth * piece.w;
    }
    float inverse = 1.0f / total;
    *reinterpret_cast<uint2 *>(a.y + (int64_t)query * a.row + (int64_t)(unit / a.units) * head + column) =
        make_uint2(swm_pair(sum.x * inverse, sum.y * inverse), swm_pair(sum.z * inverse, sum.w * inverse));
}

/* Into how many pieces the units of the last wave are cut so that it ends soonest, if that is worth another launch. */
static void split_last_wave(swm_cuda_device *device, hopper_attention *a, int head)
{
    int total = a->units * a->heads, slots = device->processors, tail = total % slots;
    size_t unit_bytes = QUERIES * (sizeof(float2) + (size_t)head * sizeof(float));
    int most = tail > 0 ? (int)swm_min(a->tiles, (int64_t)(SWM_CUDA_SCRATCH / unit_bytes) / tail) : 0;
    int64_t least = a->tiles - 2 * PIECE_OVERHEAD; /* beside it, the launch */
    a->whole = total;
    a->pieces = a->piece_tiles = 1;
    for (int pieces = 2; pieces <= most; pieces++) {
        int tiles = (a->tiles + pieces - 1) / pieces, used = (a->tiles + tiles - 1) / tiles;
        int64_t cost = swm_divide_up((int64_t)tail * used, slots) * (tiles + PIECE_OVERHEAD);
        if (cost >= least) continue;
        least = cost;
        a->whole = total - tail;
        a->pieces = used;
        a->piece_tiles = tiles;
    }
    a->weights = static_cast<float2 *>(device->scratch);
    a->sums = reinterpret_cast<float *>(a->weights + (int64_t)(total - a->whole) * a->pieces * QUERIES);
}

template <int head, bool seamed> static void launch(swm_backend *b, const hopper_maps &maps, const hopper_attention &a)
{
    auto kernel = attention_kernel<head, seamed>;
    cudaStream_t stream = swm_cuda_device_of(b)->stream;
    if (!swm_cuda_check(b, cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, SHARED_BYTES),
                        "attend"))
        return;
    int split = a.units * a.heads - a.whole;
    kernel<<<(unsigned)(a.whole + split * a.pieces), THREADS, SHARED_BYTES, stream>>>(maps, a);
    if (swm_cuda_launched(b, "attend") && split > 0)
        merge_kernel<<<(unsigned)(split * (QUERIES / MERGE_ROWS)), dim3(32, MERGE_ROWS), 0, stream>>>(a, head);
    swm_cuda_launched(b, "attend");
}

extern "C" bool swm_cuda_attend_hopper_takes(swm_backend *b, swm_tensor y, swm_tensor q, swm_tensor k, swm_tensor v,
                                             const swm_attention *how)
{
    const swm_cuda_matrix *matrix = swm_cuda_device_of(b)->matrix;
    int64_t head = q.shape[1] / how->heads;
    int64_t prefix = swm_present(how->prefix_keys) ? how->prefix_keys.shape[0] : 0;
    return matrix->encode != NULL && b->compute == SWM_BF16 && (head == 112 || head == 128) && !how->causal &&
           how->softcap <= 0 && how->scale > 0 && q.shape[0] > 0 &&
           swm_divide_up(q.shape[0], QUERIES) * how->heads < INT32_MAX / 2 && k.shape[0] + prefix < INT32_MAX / 2 &&
           swm_aligned(y.data) && swm_aligned(q.data) && swm_aligned(k.data) && swm_aligned(v.data) &&
           swm_aligned(how->prefix_keys.data) && swm_aligned(how->prefix_values.data);
}

/* A map of rows of heads for copies of 64 columns of `rows` of them. */
static bool map_rows(swm_backend *b, CUtensorMap *map, swm_tensor x, int64_t heads, int64_t rows)
{
    int64_t head = x.shape[1] / heads;
    int64_t sizes[] = {head, heads, x.shape[0]}, strides[] = {2 * head, 2 * head * heads}, box[] = {64, 1, rows};
    return swm_cuda_map(b, map, x.data, 3, sizes, strides, box);
}

extern "C" void swm_cuda_attend_hopper(swm_backend *b, swm_tensor y, swm_tensor q, swm_tensor k, swm_tensor v,
                                       const swm_attention *how)
{
    int64_t key_heads = how->key_heads ? how->key_heads : how->heads, head = q.shape[1] / how->heads;
    int64_t prefix = swm_present(how->prefix_keys) ? how->prefix_keys.shape[0] : 0;
    hopper_maps maps;
    if (!map_rows(b, &maps.q, q, how->heads, QUERIES) || !map_rows(b, &maps.k, k, key_heads, KEYS) ||
        !map_rows(b, &maps.v, v, key_heads, KEYS) ||
        !map_rows(b, &maps.prefix_k, prefix > 0 ? how->prefix_keys : k, key_heads, KEYS) ||
        !map_rows(b, &maps.prefix_v, prefix > 0 ? how->prefix_values : v, key_heads, KEYS))
        return;
    hopper_attention a = {};
    a.y = swm_elements<__nv_bfloat16>(y);
    a.queries = (int)q.shape[0];
    a.keys = (int)k.shape[0];
    a.row = (int)q.shape[1];
    a.prefix_tiles = (int)swm_divide_up(prefix, KEYS);
    a.tiles = a.prefix_tiles + (int)swm_divide_up(k.shape[0], KEYS);
    a.last_keys = (a.keys - 1) % KEYS + 1;
    a.seam_keys = prefix > 0 ? (int)((prefix - 1) % KEYS) + 1 : KEYS;
    a.units = (int)swm_divide_up(q.shape[0], QUERIES);
    a.heads = (int)how->heads;
    a.share = (int)(how->heads / key_heads);
    a.scale = how->scale * LOG2_E;
    split_last_wave(swm_cuda_device_of(b), &a, (int)head);
    bool seamed = a.seam_keys < KEYS;
    if (head == 128)
        seamed ? launch<128, true>(b, maps, a) : launch<128, false>(b, maps, a);
    else
        seamed ? launch<112, true>(b, maps, a) : launch<112, false>(b, maps, a);
}
