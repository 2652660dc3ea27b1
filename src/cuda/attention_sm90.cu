/* Softmax attention on Hopper: no causal mask, no soft cap, heads of 112 or 128, bf16, with or without keys before the
 * keys. attention.cu decides who is called and owns everything else.
 *
 * A block owns 64 queries a computing warpgroup, of one head, and walks over its keys in tiles. Warpgroup 0 only
 * copies: queries once, keys and values through rings of tiles, by the copy engine. The others compute: scores by
 * wgmma from shared memory, softmax in registers, the weights rounded to bf16 in registers as the A operand of the
 * second product. Within a warpgroup the scores of tile j+1 are under way while tile j's values are gathered; between
 * them, named barriers let one use the tensor cores while the others compute exponentials.
 *
 * Heads of 112 are not padded in the arithmetic: scores take 7 steps of 16, values a product 112 wide. In shared memory
 * a head is two panels of 64 columns; the copy engine fills columns 112..127 with zeros.
 *
 * Any shift of a row's exponents gives the same softmax, so a row keeps the maximum of its first tile: later weights
 * may exceed 1, which costs no precision, since float32 and bf16 have the same exponents. No maxima are looked for, no
 * sums rescaled. Only if a row's weights come near the end of the range, 66 nats above that tile, its block walks over
 * its keys a second time, carefully, with the running maximum.
 *
 * A block walks from the last tile to the first, so that the tile that the keys do not fill is the one before the loop.
 * The prefix is tiles of its own, with tensor maps of its own, in front of the others. Where its rows do not fill its
 * last tile, that one is masked, too (seamed); a frame of the release, 880 rows, fills five tiles of 176.
 *
 * Blocks fill the processors in waves, all of a length. The last wave is made of pieces: the blocks that would not fill
 * it share their keys out, so that all processors work to the end, and merge_kernel adds up what they leave in scratch.
 * So the last bits of a call depend on how many queries it has: callers that slice do so the same way in every mode.
 *
 * Bound: power. 4 N M H D FLOP: 1.84e14 a layer for the refiner's 105600 queries and 106480 keys, H=32, D=128; keys and
 * values of a head (54 MB) stay about in L2 because all resident blocks work on the same head. In long calls the device
 * is at its power limit, which sets the clock: fewer bytes from L2 and fewer instructions beside the products are what
 * makes it faster (PERF.md). */
#include "cuda/common.cuh"
#include "cuda/hopper.cuh"
#include "cuda/matrix.h"

static constexpr float LOG2_E = 1.4426950408889634f;

/* How blocks are cut for a size of heads. More queries a block mean fewer bytes from L2: three warpgroups share a tile
 * of keys where a thread's sums, scores and weights leave room in its registers. */
template <int head> struct tiling;
template <> struct tiling<112> {
    static constexpr int groups = 3, keys = 96, stages = 3, registers = 160, copier_registers = 32;
};
template <> struct tiling<128> {
    static constexpr int groups = 2, keys = 176, stages = 2, registers = 240, copier_registers = 24;
};

/* What follows from it. Sizes are bytes; a panel has 64 columns. */
template <int head> struct block_shape : tiling<head> {
    static constexpr int queries = 64 * tiling<head>::groups;
    static constexpr int threads = 128 * (1 + tiling<head>::groups);
    static constexpr int readers = 4 * tiling<head>::groups; /* warps */
    static constexpr int query_panel = queries * 128;
    static constexpr int key_panel = tiling<head>::keys * 128;
    static constexpr int tile = 2 * key_panel;
    static constexpr int barriers = 1 + 4 * tiling<head>::stages;
    static constexpr int shared = 2 * query_panel + 2 * tiling<head>::stages * tile + 8 * barriers + 1024;
};

/* What a piece costs beside its tiles, in tiles. */
enum { PIECE_OVERHEAD = 2 };

/* Named barriers. The turn of computing warpgroup g is TURN + g. */
enum { TURN = 1, VERDICT = 7 };

struct hopper_attention {
    __nv_bfloat16 *y;
    int queries, keys, row;             /* row: elements from one query to the next; keys: without the prefix */
    int tiles, prefix_tiles, last_keys; /* tiles of both; keys in the last one */
    int seam_keys;                      /* keys in the prefix's last tile */
    int units, heads, share;            /* units: blocks that a head's queries fill; share: query heads of a key head */
    float scale;                        /* times log2 e */
    int whole, pieces, piece_tiles;     /* the first `whole` units see all keys, the others are cut into pieces */
    float *sums;                        /* (pieces, a block's queries, head): values gathered by pieces */
    float2 *weights;                    /* (pieces, a block's queries): what they are relative to, total weight */
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

/* Where a warpgroup is in the rings of keys and values. */
template <int stages> struct ring_places {
    ring_place<stages> key, value;
};

/* Softmax of a thread's two rows: weights are 2^(score * scale - shift); totals are the thread's share of the row until
 * the end. */
struct softmax_rows {
    float shift[2], total[2];
};

/* Shifts up to the maximum of these scores and of all before; `rescale` is what earlier weights are worth then. */
template <int count>
__device__ __forceinline__ void raise_shift(const float (&s)[count], softmax_rows &rows, float (&rescale)[2],
                                            float scale)
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float highest = s[2 * r];
#pragma unroll
        for (int i = 0; i < count / 4; i++) highest = fmaxf(highest, fmaxf(s[4 * i + 2 * r], s[4 * i + 2 * r + 1]));
        highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, 1));
        highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, 2));
        float shift = fmaxf(rows.shift[r], highest * scale);
        rescale[r] = exp2_fast(rows.shift[r] - shift);
        rows.shift[r] = shift;
        rows.total[r] *= rescale[r];
    }
}

/* Scores to weights, in place. */
template <int count> __device__ __forceinline__ void weigh(float (&s)[count], softmax_rows &rows, float scale)
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float sums[2] = {};
#pragma unroll
        for (int i = 0; i < count / 4; i++)
#pragma unroll
            for (int k = 0; k < 2; k++) {
                float &x = s[4 * i + 2 * r + k];
                x = exp2_fast(fmaf(x, scale, -rows.shift[r]));
                sums[k] += x;
            }
        rows.total[r] += sums[0] + sums[1];
    }
}

/* A branch that needs both totals and does nothing: without it the assembler moves the exponentials behind the wait for
 * the product that they are to overlap with. */
__device__ __forceinline__ void computed(const float (&total)[2])
{
    if (__any_sync(~0u, fminf(total[0], total[1]) < 0)) asm volatile("nanosleep.u32 0;" ::: "memory");
}

/* Accumulators of scores, rounded, are the A operands of keys/16 steps of the second product. */
template <int keys>
__device__ __forceinline__ void round_weights(uint32_t (&p)[keys / 16][4], const float (&s)[keys / 2])
{
#pragma unroll
    for (int k = 0; k < keys / 16; k++)
#pragma unroll
        for (int i = 0; i < 4; i++) p[k][i] = swm_pair(s[8 * k + 2 * i], s[8 * k + 2 * i + 1]);
}

template <int head>
__device__ __forceinline__ void multiply_scores(float (&s)[block_shape<head>::keys / 2], uint32_t q, uint32_t k)
{
#pragma unroll
    for (int step = 0; step < head / 16; step++) {
        int panel = step / 4, inside = step % 4 * 32;
        wgmma_ss(s, descriptor(q + panel * block_shape<head>::query_panel + inside, 16, 1024),
                 descriptor(k + panel * block_shape<head>::key_panel + inside, 16, 1024), step > 0);
    }
}

/* Maxima settle early: from then on a warp has nothing to do here. */
template <int count> __device__ __forceinline__ void rescale_sums(float (&o)[count], const float (&rescale)[2])
{
    if (!__any_sync(~0u, rescale[0] != 1.0f || rescale[1] != 1.0f)) return;
#pragma unroll
    for (int i = 0; i < count; i++) o[i] *= rescale[i % 4 / 2];
}

template <int head>
__device__ __forceinline__ void gather_values(float (&o)[head / 2],
                                              const uint32_t (&p)[block_shape<head>::keys / 16][4], uint32_t v)
{
#pragma unroll
    for (int step = 0; step < block_shape<head>::keys / 16; step++)
        wgmma_rs<1>(o, p[step], descriptor(v + step * 16 * 128, block_shape<head>::key_panel, 1024), 1);
}

/* What a block does: queries from `query` on, tiles first .. end-1 of the keys, the last one first. */
struct block_work {
    int query, head, first, end, piece; /* piece -1: all keys */
};

template <int head> __device__ __forceinline__ block_work work_of(const hopper_attention &a)
{
    int unit = (int)blockIdx.x, piece = -1, first = 0, end = a.tiles;
    if (unit >= a.whole) {
        piece = unit - a.whole;
        unit = a.whole + piece / a.pieces;
        first = piece % a.pieces * a.piece_tiles;
        end = min(a.tiles, first + a.piece_tiles);
    }
    return {unit % a.units * block_shape<head>::queries, unit / a.units, first, end, piece};
}

/* Keys that a tile has, of `full`. */
__device__ __forceinline__ int keys_of(const hopper_attention &a, int tile, int full)
{
    return tile + 1 == a.tiles ? a.last_keys : tile + 1 == a.prefix_tiles ? a.seam_keys : full;
}

struct shared_places {
    uint32_t q, k, v, q_full, k_full, k_empty, v_full, v_empty;
};

/* A tile into the ring. */
template <int head>
__device__ __forceinline__ void copy_tile(uint32_t to, uint32_t full, const CUtensorMap *prefix, const CUtensorMap *map,
                                          int key_head, int tile, const hopper_attention &a)
{
    bool before = tile < a.prefix_tiles;
    const CUtensorMap *from = before ? prefix : map;
    int row = (before ? tile : tile - a.prefix_tiles) * block_shape<head>::keys;
    barrier_expect(full, block_shape<head>::tile);
    copy_box_3d(to, from, full, 0, key_head, row);
    copy_box_3d(to + block_shape<head>::key_panel, from, full, 64, key_head, row);
}

template <int head>
__device__ __forceinline__ void copy_queries(const shared_places &at, const hopper_maps &maps, const block_work &work)
{
    barrier_expect(at.q_full, 2 * block_shape<head>::query_panel);
    copy_box_3d(at.q, &maps.q, at.q_full, 0, work.head, work.query);
    copy_box_3d(at.q + block_shape<head>::query_panel, &maps.q, at.q_full, 64, work.head, work.query);
}

/* All tiles of a walk. Keys run one tile ahead of values, as they are used. */
template <int head>
__device__ __forceinline__ void copy_tiles(const shared_places &at, const hopper_maps &maps, const hopper_attention &a,
                                           const block_work &work, ring_places<block_shape<head>::stages> &places)
{
    constexpr int tile = block_shape<head>::tile;
    int tiles = work.end - work.first, key_head = work.head / a.share;
    for (int i = 0; i <= tiles; i++) {
        if (i < tiles) {
            barrier_wait(at.k_empty + 8 * places.key.stage, places.key.phase ^ 1);
            copy_tile<head>(at.k + places.key.stage * tile, at.k_full + 8 * places.key.stage, &maps.prefix_k, &maps.k,
                            key_head, work.end - 1 - i, a);
            places.key.next();
        }
        if (i > 0) {
            barrier_wait(at.v_empty + 8 * places.value.stage, places.value.phase ^ 1);
            copy_tile<head>(at.v + places.value.stage * tile, at.v_full + 8 * places.value.stage, &maps.prefix_v,
                            &maps.v, key_head, work.end - i, a);
            places.value.next();
        }
    }
}

/* A warp has read a tile. */
__device__ __forceinline__ void release_tile(uint32_t empty, int lane)
{
    if (lane == 0) barrier_arrive(empty);
}

/* Keys that a tile does not have score -infinity. */
template <int count> __device__ __forceinline__ void mask_keys(float (&s)[count], int keys, int lane)
{
#pragma unroll
    for (int i = 0; i < count; i++)
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
            int64_t at = (int64_t)work.piece * block_shape<head>::queries + row;
            if (lane % 4 == 0) a.weights[at] = make_float2(rows.shift[r], total);
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

/* A warpgroup's walk over the keys. 256 threads take part in a turn: those whose turn it is, and those before them. */
template <int head, bool seamed, bool careful>
__device__ __forceinline__ void walk(float (&o)[head / 2], softmax_rows &rows, const shared_places &at,
                                     const hopper_attention &a, const block_work &work,
                                     ring_places<block_shape<head>::stages> &places, int group)
{
    constexpr int keys = block_shape<head>::keys, groups = block_shape<head>::groups, bytes = block_shape<head>::tile;
    int lane = (int)threadIdx.x % 32;
    uint32_t q = at.q + group * 64 * 128;
    float s[keys / 2], rescale[2];
    uint32_t p[keys / 16][4];
#pragma unroll
    for (int i = 0; i < head / 2; i++) o[i] = 0;
#pragma unroll
    for (int r = 0; r < 2; r++) rows.shift[r] = -INFINITY, rows.total[r] = 0;
    if (group == groups - 1) named_arrive(TURN, 256);

    barrier_wait(at.q_full, 0);
    barrier_wait(at.k_full + 8 * places.key.stage, places.key.phase);
    wgmma_fence();
    multiply_scores<head>(s, q, at.k + places.key.stage * bytes);
    wgmma_commit();
    wgmma_wait<0>();
    pin(s);
    release_tile(at.k_empty + 8 * places.key.stage, lane);
    places.key.next();
    int tile = work.end - 1, valid = keys_of(a, tile, keys);
    if (valid < keys) mask_keys(s, valid, lane);
    raise_shift(s, rows, rescale, a.scale);
    weigh(s, rows, a.scale);
    round_weights<keys>(p, s);

    while (--tile >= work.first) {
        barrier_wait(at.k_full + 8 * places.key.stage, places.key.phase);
        named_wait(TURN + group, 256);
        pin(s);
        wgmma_fence();
        multiply_scores<head>(s, q, at.k + places.key.stage * bytes);
        wgmma_commit();
        if (careful) rescale_sums(o, rescale); /* of the tile before, while the tensor cores work */
        barrier_wait(at.v_full + 8 * places.value.stage, places.value.phase);
        pin(o);
        wgmma_fence();
        gather_values<head>(o, p, at.v + places.value.stage * bytes);
        wgmma_commit();
        /* The last turn of the last group would be handed to a warpgroup that has left. */
        if (group < groups - 1 || tile > work.first) named_arrive(TURN + (group + 1) % groups, 256);
        wgmma_wait<1>();
        pin(s);
        release_tile(at.k_empty + 8 * places.key.stage, lane);
        places.key.next();
        if (seamed && tile + 1 == a.prefix_tiles) mask_keys(s, a.seam_keys, lane);
        if (careful) raise_shift(s, rows, rescale, a.scale);
        weigh(s, rows, a.scale);
        computed(rows.total);
        wgmma_wait<0>();
        pin(o);
        release_tile(at.v_empty + 8 * places.value.stage, lane);
        places.value.next();
        round_weights<keys>(p, s);
    }
    if (careful) rescale_sums(o, rescale);
    barrier_wait(at.v_full + 8 * places.value.stage, places.value.phase);
    pin(o);
    wgmma_fence();
    gather_values<head>(o, p, at.v + places.value.stage * bytes);
    wgmma_commit();
    wgmma_wait<0>();
    pin(o);
    release_tile(at.v_empty + 8 * places.value.stage, lane);
    places.value.next();
}

/* Weights of a row may add up to so much: sums of values below 2^31 stay finite. */
static constexpr float MOST_WEIGHT = 0x1p96f;

/* The whole block agrees on whether to walk again: the copier must know, too. */
template <int head> __device__ __forceinline__ bool any_overflow(bool mine)
{
    return named_any(VERDICT, block_shape<head>::threads, mine);
}

template <int head, bool seamed>
__device__ __forceinline__ void attend_rows(const shared_places &at, const hopper_attention &a, int group)
{
    block_work work = work_of<head>(a);
    ring_places<block_shape<head>::stages> places;
    float o[head / 2];
    softmax_rows rows;
    walk<head, seamed, false>(o, rows, at, a, work, places, group);
    if (any_overflow<head>(!(fmaxf(rows.total[0], rows.total[1]) < MOST_WEIGHT)))
        walk<head, seamed, true>(o, rows, at, a, work, places, group);
    write_rows<head>(o, rows, a, work, group);
}

/* The thread that starts copies, and its warpgroup, which only waits for the verdict. */
template <int head>
__device__ __forceinline__ void copy_all(const shared_places &at, const hopper_maps &maps, const hopper_attention &a)
{
    block_work work = work_of<head>(a);
    ring_places<block_shape<head>::stages> places;
    if (threadIdx.x == 0) {
        copy_queries<head>(at, maps, work);
        copy_tiles<head>(at, maps, a, work, places);
    }
    __syncwarp();
    if (any_overflow<head>(false) && threadIdx.x == 0) copy_tiles<head>(at, maps, a, work, places);
}
#endif

template <int head, bool seamed>
static __global__ void __launch_bounds__(block_shape<head>::threads, 1)
    attention_kernel(const __grid_constant__ hopper_maps maps, const hopper_attention a)
{
#if defined(SWM_HOPPER)
    constexpr int stages = block_shape<head>::stages;
    extern __shared__ uint8_t memory[];
    uint32_t base = (shared_address(memory) + 1023) & ~1023u;
    shared_places at;
    at.q = base;
    at.k = at.q + 2 * block_shape<head>::query_panel;
    at.v = at.k + stages * block_shape<head>::tile;
    at.q_full = at.v + stages * block_shape<head>::tile;
    at.k_full = at.q_full + 8;
    at.k_empty = at.k_full + 8 * stages;
    at.v_full = at.k_empty + 8 * stages;
    at.v_empty = at.v_full + 8 * stages;
    if (threadIdx.x == 0) {
        barrier_init(at.q_full, 1);
        for (int i = 0; i < stages; i++) {
            barrier_init(at.k_full + 8 * i, 1);
            barrier_init(at.v_full + 8 * i, 1);
            barrier_init(at.k_empty + 8 * i, block_shape<head>::readers);
            barrier_init(at.v_empty + 8 * i, block_shape<head>::readers);
        }
        barrier_init_fence();
    }
    __syncthreads();
    int group = (int)threadIdx.x / 128;
    if (group == 0) {
        registers_fewer<block_shape<head>::copier_registers>();
        copy_all<head>(at, maps, a);
    } else {
        registers_more<block_shape<head>::registers>();
        attend_rows<head, seamed>(at, a, group - 1);
    }
#else
    __trap(); /* built for sm_90 without the a */
#endif
}

/* Pieces of a row added up. A warp a row, four rows a block; a few megabytes. */
enum { MERGE_ROWS = 4 };

template <int head> static __global__ void __launch_bounds__(32 * MERGE_ROWS) merge_kernel(const hopper_attention a)
{
    constexpr int queries = block_shape<head>::queries;
    int cut = (int)blockIdx.x / (queries / MERGE_ROWS), unit = a.whole + cut;
    int row = (int)blockIdx.x % (queries / MERGE_ROWS) * MERGE_ROWS + (int)threadIdx.y;
    int query = unit % a.units * queries + row, column = (int)threadIdx.x * 4;
    if (query >= a.queries || column >= head) return;
    int64_t first = (int64_t)cut * a.pieces * queries + row;
    float highest = -INFINITY, total = 0;
    for (int i = 0; i < a.pieces; i++) highest = fmaxf(highest, a.weights[first + i * queries].x);
    float4 sum = {};
    for (int i = 0; i < a.pieces; i++) {
        float2 weight = a.weights[first + i * queries];
        float worth = exp2f(weight.x - highest);
        float4 piece = *reinterpret_cast<const float4 *>(a.sums + (first + i * queries) * head + column);
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
template <int head> static void split_last_wave(swm_cuda_device *device, hopper_attention *a)
{
    constexpr size_t unit_bytes = block_shape<head>::queries * (sizeof(float2) + head * sizeof(float));
    int total = a->units * a->heads, slots = device->processors, tail = total % slots;
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
    a->sums =
        reinterpret_cast<float *>(a->weights + (int64_t)(total - a->whole) * a->pieces * block_shape<head>::queries);
}

template <int head, bool seamed> static void launch(swm_backend *b, const hopper_maps &maps, const hopper_attention &a)
{
    auto kernel = attention_kernel<head, seamed>;
    constexpr int shared = block_shape<head>::shared, threads = block_shape<head>::threads;
    cudaStream_t stream = swm_cuda_device_of(b)->stream;
    if (!swm_cuda_check(b, cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared), "attend"))
        return;
    int split = a.units * a.heads - a.whole;
    kernel<<<(unsigned)(a.whole + split * a.pieces), threads, shared, stream>>>(maps, a);
    if (swm_cuda_launched(b, "attend") && split > 0)
        merge_kernel<head>
            <<<(unsigned)(split * (block_shape<head>::queries / MERGE_ROWS)), dim3(32, MERGE_ROWS), 0, stream>>>(a);
    swm_cuda_launched(b, "attend");
}

extern "C" bool swm_cuda_attend_hopper_takes(swm_backend *b, swm_tensor y, swm_tensor q, swm_tensor k, swm_tensor v,
                                             const swm_attention *how)
{
    const swm_cuda_matrix *matrix = swm_cuda_device_of(b)->matrix;
    int64_t head = q.shape[1] / how->heads;
    int64_t prefix = swm_present(how->prefix_keys) ? how->prefix_keys.shape[0] : 0;
    return matrix->encode != NULL && b->compute == SWM_BF16 && (head == 112 || head == 128) && !how->causal &&
           how->softcap <= 0 && how->scale > 0 && q.shape[0] > 0 && q.shape[0] / 64 * how->heads < INT32_MAX / 4 &&
           k.shape[0] + prefix < INT32_MAX / 2 && swm_aligned(y.data) && swm_aligned(q.data) && swm_aligned(k.data) &&
           swm_aligned(v.data) && swm_aligned(how->prefix_keys.data) && swm_aligned(how->prefix_values.data);
}

/* A map of rows of heads for copies of 64 columns of `rows` of them. */
static bool map_rows(swm_backend *b, CUtensorMap *map, swm_tensor x, int64_t heads, int64_t rows)
{
    int64_t head = x.shape[1] / heads;
    int64_t sizes[] = {head, heads, x.shape[0]}, strides[] = {2 * head, 2 * head * heads}, box[] = {64, 1, rows};
    return swm_cuda_map(b, map, x.data, 3, sizes, strides, box);
}

template <int head>
static void attend_heads_of(swm_backend *b, swm_tensor y, swm_tensor q, swm_tensor k, swm_tensor v,
                            const swm_attention *how)
{
    constexpr int keys = block_shape<head>::keys, queries = block_shape<head>::queries;
    int64_t key_heads = how->key_heads ? how->key_heads : how->heads;
    int64_t prefix = swm_present(how->prefix_keys) ? how->prefix_keys.shape[0] : 0;
    hopper_maps maps;
    if (!map_rows(b, &maps.q, q, how->heads, queries) || !map_rows(b, &maps.k, k, key_heads, keys) ||
        !map_rows(b, &maps.v, v, key_heads, keys) ||
        !map_rows(b, &maps.prefix_k, prefix > 0 ? how->prefix_keys : k, key_heads, keys) ||
        !map_rows(b, &maps.prefix_v, prefix > 0 ? how->prefix_values : v, key_heads, keys))
        return;
    hopper_attention a = {};
    a.y = swm_elements<__nv_bfloat16>(y);
    a.queries = (int)q.shape[0];
    a.keys = (int)k.shape[0];
    a.row = (int)q.shape[1];
    a.prefix_tiles = (int)swm_divide_up(prefix, keys);
    a.tiles = a.prefix_tiles + (int)swm_divide_up(k.shape[0], keys);
    a.last_keys = (a.keys - 1) % keys + 1;
    a.seam_keys = prefix > 0 ? (int)((prefix - 1) % keys) + 1 : keys;
    a.units = (int)swm_divide_up(q.shape[0], queries);
    a.heads = (int)how->heads;
    a.share = (int)(how->heads / key_heads);
    a.scale = how->scale * LOG2_E;
    split_last_wave<head>(swm_cuda_device_of(b), &a);
    a.seam_keys < keys ? launch<head, true>(b, maps, a) : launch<head, false>(b, maps, a);
}

extern "C" void swm_cuda_attend_hopper(swm_backend *b, swm_tensor y, swm_tensor q, swm_tensor k, swm_tensor v,
                                       const swm_attention *how)
{
    if (q.shape[1] / how->heads == 128)
        attend_heads_of<128>(b, y, q, k, v, how);
    else
        attend_heads_of<112>(b, y, q, k, v, how);
}
