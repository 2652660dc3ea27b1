/* The frame-wise gated delta rule's two-directional scan over frames; its gates and its convolution are in gates.cu.
 *
 * It is three steps, each a launch or two:
 *   outer  per frame and head the sums P, A over the frame's tokens, as transition decay (I - P) and content A, and the
 *          same of unrotated keys for the normaliser: 160 GFLOP at the release's size, tensor cores in BF16 mode;
 *   scan   through the frames, both directions at once: 14 GFLOP, serial in frames; in BF16 mode on tensor cores, with
 *          state and transitions as sums of two bf16, good to 17 bits;
 *   read   (M + B)^T q for every token, over z.q: 53 GFLOP, tensor cores in BF16 mode.
 * Least traffic: q, k, v and the result 1.9 GB, transitions, contents and memories 0.5 GB: 0.6 ms at 4.3 TB/s. */
#include "cuda/common.cuh"
#include "cuda/tensorcore.cuh"

/* ---- what the steps of the scan share ---------------------------------------------------------------------------- */

typedef struct scan_shape {
    int frames, tokens, heads; /* tokens a frame */
    int64_t channels;          /* heads * size */
} scan_shape;

/* Beta has the activations' type in the main branch and is F32 in the camera branch. */
typedef struct gate_values {
    const void *values;
    bool wide;
    __device__ float at(int64_t i) const
    {
        return wide ? static_cast<const float *>(values)[i]
                    : swm_float_of(static_cast<const __nv_bfloat16 *>(values)[i]);
    }
} gate_values;

/* W elements of a head turned by their token's angles. */
template <int W> __device__ inline void turn(float *x, const float *angles)
{
#pragma unroll
    for (int i = 0; i < W; i += 2) {
        float even = x[i], odd = x[i + 1];
        x[i] = even * angles[i] - odd * angles[i + 1];
        x[i + 1] = even * angles[i + 1] + odd * angles[i];
    }
}

/* Two floats as two pairs of bf16: rounded, and what is missing then, rounded. */
__device__ inline void split(float x, float y, uint32_t &high, uint32_t &low)
{
    high = swm_pair(x, y);
    low = swm_pair(x - swm_low(high), y - swm_high(high));
}
/* Elements `at` (even) and at + 1 of a split (D,D) matrix, whose second half lies behind the first, in the memory that
 * the floats would take. */
template <int D> __device__ inline void write_split(uint32_t *matrix, int at, float x, float y)
{
    split(x, y, matrix[at / 2], matrix[(D * D + at) / 2]);
}

/* ---- step 1: outer products of a frame --------------------------------------------------------------------------- */

typedef struct outer_operands {
    const void *k, *v;
    const float *rotation; /* of k; NULL: none */
    gate_values beta;
    const float *decay;
    float *transition, *content; /* content: (D,D), or (D) for the normaliser */
    scan_shape shape;
} outer_operands;

enum { OUTER_TOKENS = 32 };

/* BF16. RIGHT is 2 for the memory, (beta k)^T [k | v], whose transition is written split, and 1 for the normaliser,
 * (beta k)^T k and the sum of beta k.
 *
 * Tiling: a block owns a frame and a head and walks through its tokens in tiles of 32. Its 4 D threads are as many as
 * a tile has pieces of 8 channels: each fetches a piece, turns and weighs it, and puts it into the one buffer while
 * the tensor cores read the other. A pair of warps owns 16 RIGHT columns of the result, each warp one half of the
 * rows. Blocks of a frame's heads run together, so that the table of angles comes from the second-level cache. Bound
 * by shared memory, about 330 cycles a tile of 16 tokens against 200 of tensor cores: 0.2 ms at the release's size. */
template <int D, int RIGHT> __global__ void __launch_bounds__(4 * D, 1) outer_kernel(const outer_operands o)
{
    constexpr int PIECES = D / 8, ROW = D + 8, BUFFER = OUTER_TOKENS * ROW, ROW_TILES = D / 16,
                  MOST = (ROW_TILES + 1) / 2;
    extern __shared__ uint4 outer_memory[];
    __nv_bfloat16 *buffers =
        reinterpret_cast<__nv_bfloat16 *>(outer_memory); /* [2][weighted, key, value][token][ROW] */
    const scan_shape s = o.shape;
    int head = (int)blockIdx.x, frame = (int)blockIdx.y, lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    int token = (int)threadIdx.x / PIECES, piece = (int)threadIdx.x % PIECES * 8;
    int64_t first = (int64_t)frame * s.tokens, index = (int64_t)frame * s.heads + head;

    swm_raw<__nv_bfloat16, 8> key, value;
    float angles[8], beta = 0, total[8] = {};
    auto fetch = [&](int start) {
        int64_t n = first + start + token, at = n * s.channels + head * D + piece;
        key.clear();
        value.clear();
        beta = 0;
        if (start + token >= s.tokens) return;
        key.load(static_cast<const __nv_bfloat16 *>(o.k) + at);
        if (RIGHT == 2) value.load(static_cast<const __nv_bfloat16 *>(o.v) + at);
        if (RIGHT == 2 && o.rotation != nullptr) swm_load<float, 8>(angles, o.rotation + n * D + piece);
        beta = o.beta.at(n * s.heads + head);
    };
    auto put = [&](int which) {
        __nv_bfloat16 *to = buffers + which * (RIGHT + 1) * BUFFER + token * ROW + piece;
        float x[8], weighted[8];
#pragma unroll
        for (int i = 0; i < 8; i++) x[i] = key.get(i);
        if (RIGHT == 2 && o.rotation != nullptr && beta != 0) turn<8>(x, angles); /* beta 0 adds nothing */
#pragma unroll
        for (int i = 0; i < 8; i++) {
            weighted[i] = beta * x[i];
            total[i] += weighted[i];
        }
        swm_store<__nv_bfloat16, 8>(to, weighted);
        swm_store<__nv_bfloat16, 8>(to + BUFFER, x);
        if (RIGHT == 2) value.store(to + 2 * BUFFER);
    };

    int columns = warp / 2 * 16 * RIGHT, row_tile = warp % 2 * MOST,
        row_tiles = warp % 2 == 0 ? MOST : ROW_TILES - MOST;
    /* This lane's row of the matrices that it addresses: rows are tokens, columns channels. */
    int left_at = (lane / 16 * 8 + lane % 8) * ROW + lane / 8 % 2 * 8 + row_tile * 16;
    int right_at = (lane / 8 % 2 * 8 + lane % 8) * ROW + lane / 16 * 8;
    float sums[MOST][2 * RIGHT][4] = {};
    fetch(0);
    put(0);
    __syncthreads();
    for (int start = 0, which = 0; start < s.tokens; start += OUTER_TOKENS, which ^= 1) {
        bool more = start + OUTER_TOKENS < s.tokens;
        if (more) fetch(start + OUTER_TOKENS);
        const __nv_bfloat16 *weighted = buffers + which * (RIGHT + 1) * BUFFER;
#pragma unroll
        for (int n = 0; n < OUTER_TOKENS; n += 16) {
            uint32_t right[RIGHT][4];
#pragma unroll
            for (int p = 0; p < RIGHT; p++) {
                int column = columns + 16 * p, source = column >= D ? 2 : 1;
                load_matrices_transposed(right[p],
                                         shared_place(weighted + source * BUFFER + n * ROW + right_at + column % D));
            }
#pragma unroll
            for (int m = 0; m < MOST; m++) {
                if (m >= row_tiles) break;
                uint32_t left[4];
                load_matrices_transposed(left, shared_place(weighted + n * ROW + left_at + 16 * m));
#pragma unroll
                for (int p = 0; p < RIGHT; p++) {
                    mma(sums[m][2 * p], left, right[p][0], right[p][1]);
                    mma(sums[m][2 * p + 1], left, right[p][2], right[p][3]);
                }
            }
        }
        if (more) put(which ^ 1);
        __syncthreads();
    }

    float decay = o.decay[index];
#pragma unroll
    for (int m = 0; m < MOST; m++) {
        if (m >= row_tiles) break;
#pragma unroll
        for (int p = 0; p < 2 * RIGHT; p++) {
            int column = columns + 8 * p + lane % 4 * 2;
#pragma unroll
            for (int half = 0; half < 2; half++) {
                int row = (row_tile + m) * 16 + lane / 4 + 8 * half, at = row * D + column % D;
                float x = sums[m][p][2 * half], y = sums[m][p][2 * half + 1];
                if (column < D) {
                    x = decay * ((row == column ? 1.0f : 0.0f) - x);
                    y = decay * ((row == column + 1 ? 1.0f : 0.0f) - y);
                }
                float *to = (column < D ? o.transition : o.content) + index * D * D;
                if (RIGHT == 2 && column < D)
                    write_split<D>(reinterpret_cast<uint32_t *>(to), at, x, y);
                else
                    *reinterpret_cast<float2 *>(to + at) = make_float2(x, y);
            }
        }
    }
    if (RIGHT == 2) return;
    float *parts = reinterpret_cast<float *>(outer_memory); /* [token][D]: the buffers have been read */
#pragma unroll
    for (int i = 0; i < 8; i++) parts[token * D + piece + i] = total[i];
    __syncthreads();
    if (threadIdx.x < D) {
        float sum = 0;
        for (int n = 0; n < OUTER_TOKENS; n++) sum += parts[n * D + threadIdx.x];
        o.content[index * D + threadIdx.x] = sum;
    }
}

/* F32, for tests. A block owns a frame, a head and one product: blockIdx.z 0 the transition, 1 the content, 2 both of
 * the normaliser. Thread (x,y) of 16x16 owns every 16th column and row of the result. */
template <int D>
__global__ void __launch_bounds__(256) outer_plain_kernel(const outer_operands o, float *z_transition, float *z_content)
{
    constexpr int SHARE = D / 16;
    __shared__ float left[OUTER_TOKENS][D], right[OUTER_TOKENS][D];
    const scan_shape s = o.shape;
    int head = (int)blockIdx.x, frame = (int)blockIdx.y, product = (int)blockIdx.z;
    int64_t first = (int64_t)frame * s.tokens, index = (int64_t)frame * s.heads + head;
    float sums[SHARE][SHARE] = {}, total = 0;
    for (int start = 0; start < s.tokens; start += OUTER_TOKENS) {
        int count = min(OUTER_TOKENS, s.tokens - start);
        __syncthreads();
        for (int i = (int)threadIdx.x * 2; i < count * D; i += 512) {
            int64_t n = first + start + i / D, at = n * s.channels + head * D + i % D;
            float x[2];
            swm_load<float, 2>(x, static_cast<const float *>(o.k) + at);
            if (product < 2 && o.rotation != nullptr) turn<2>(x, o.rotation + n * D + i % D);
            for (int j = 0; j < 2; j++) {
                left[i / D][i % D + j] = o.beta.at(n * s.heads + head) * x[j];
                right[i / D][i % D + j] = product == 1 ? static_cast<const float *>(o.v)[at + j] : x[j];
            }
        }
        __syncthreads();
        for (int n = 0; n < count; n++) {
#pragma unroll
            for (int i = 0; i < SHARE; i++)
#pragma unroll
                for (int j = 0; j < SHARE; j++)
                    sums[i][j] += left[n][threadIdx.x / 16 + 16 * i] * right[n][threadIdx.x % 16 + 16 * j];
            if (product == 2 && threadIdx.x < D) total += left[n][threadIdx.x];
        }
    }
    float decay = o.decay[index], *out = product == 0 ? o.transition : product == 1 ? o.content : z_transition;
#pragma unroll
    for (int i = 0; i < SHARE; i++)
#pragma unroll
        for (int j = 0; j < SHARE; j++) {
            int row = (int)threadIdx.x / 16 + 16 * i, column = (int)threadIdx.x % 16 + 16 * j;
            float sum = sums[i][j];
            out[index * D * D + row * D + column] = product == 1 ? sum : decay * ((row == column ? 1.0f : 0.0f) - sum);
        }
    if (product == 2 && threadIdx.x < D) z_content[index * D + threadIdx.x] = total;
}

/* ---- step 2: the scans ------------------------------------------------------------------------------------------- */

typedef struct scan_operands {
    const float *transition, *content; /* (T,H,D,D), and (T,H,D,D) or (T,H,D) */
    float *memory;                     /* like content, zero before: the forward and the backward state added */
    float *state;                      /* (H,D,D) or (H,D); NULL: starts at zero */
    bool keep_state;
    int frames, heads;
} scan_operands;

/* Where a direction stands at a step. Forward, step f turns M_{f-1} into M_f, which belongs to frame f; backward, frame
 * f = T-1-step turns B_f into B_{f-1}, which belongs to frame f-1. */
struct scan_step {
    int frame, place; /* place -1: nothing to write */
    bool fresh;       /* start from zero */
    __device__ scan_step(int step, bool backward, int frames, const swm_chunk_bits &chunks)
    {
        frame = backward ? frames - 1 - step : step;
        place = !backward ? frame : chunks.starts(frame) ? -1 : frame - 1;
        fresh = backward && (frame == frames - 1 || chunks.starts(frame + 1));
    }
};

/* BF16. With M^T as the left operand and T^T as the right one, a warp owns 16 columns of M through all frames of a
 * direction and shares nothing with others but the transitions: its sums of a step, M^T + A^T, are laid out as the left
 * operand of the next one is, so the state never leaves its registers. Both are split: T M is T_high M_high + T_high
 * M_low + T_low M_high.
 *
 * Tiling: a block owns four such warps; the transition comes 16 rows at a time, with the rows of A that they lead to,
 * through a ring of asynchronous copies. Both directions add to the memory, which starts at zero: at most two values
 * meet at a place, so their order does not show. Bound by the latency of a step: 294 products a warp at the release's
 * size, where there are 80 blocks. */
template <int D> struct scan_shapes {
    static constexpr int TILES = D / 16, WARPS = TILES < 4 ? TILES : 4, COLUMNS = 16 * WARPS, STAGES = 6;
    static constexpr int ROW = D + 8, CONTENT_ROW = COLUMNS + 4; /* padded: rows of an access meet different banks */
    static constexpr int PLANE = 16 * ROW * 2, STAGE = 2 * PLANE + 16 * CONTENT_ROW * 4; /* bytes */
};

template <int D>
__global__ void __launch_bounds__(32 * scan_shapes<D>::WARPS)
    scan_kernel(const scan_operands o, const __grid_constant__ swm_chunk_bits chunks)
{
    using shape = scan_shapes<D>;
    constexpr int TILES = shape::TILES, WARPS = shape::WARPS, STAGES = shape::STAGES, ROW = shape::ROW;
    extern __shared__ uint4 scan_memory[];
    uint32_t stages = shared_place(scan_memory);
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, head = (int)blockIdx.y;
    int first_column = (int)blockIdx.x * shape::COLUMNS, column = first_column + warp * 16 + lane / 4;
    bool backward = blockIdx.z == 1, owner = column < D;
    int64_t square = (int64_t)head * D * D, stride = (int64_t)o.heads * D * D; /* from frame to frame */
    int pieces = o.frames * TILES;

    /* What this thread copies of every piece: every WARPS-th 16 bytes of one of the 2 x 16 rows of the transition, and
     * every 2 WARPS-th of one of the 16 rows of the content. */
    int plane = (int)threadIdx.x / WARPS / 16, plane_row = (int)threadIdx.x / WARPS % 16,
        share = (int)threadIdx.x % WARPS;
    int content_row = (int)threadIdx.x / (2 * WARPS), content_share = (int)threadIdx.x % (2 * WARPS);
    const __nv_bfloat16 *transition =
        reinterpret_cast<const __nv_bfloat16 *>(o.transition + square) + plane * D * D + plane_row * D + share * 8;
    const float *content = o.content + square + content_row * D;
    uint32_t transition_to = stages + plane * shape::PLANE + (plane_row * ROW + share * 8) * 2;
    uint32_t content_to = stages + 2 * shape::PLANE + (content_row * shape::CONTENT_ROW + content_share * 4) * 4;
    auto fetch = [&](int piece) {
        if (piece < pieces) {
            int step = piece / TILES, to = piece % STAGES * shape::STAGE;
            int64_t from = (backward ? o.frames - 1 - step : step) * stride + piece % TILES * 16 * D;
            const __nv_bfloat16 *rows = transition + (from * 2 - piece % TILES * 16 * D);
#pragma unroll
            for (int i = 0; i < (D / 8 + WARPS - 1) / WARPS; i++)
                if (share + i * WARPS < D / 8)
                    copy_async(transition_to + to + i * WARPS * 16, rows + i * WARPS * 8, true);
#pragma unroll
            for (int i = 0; i < 2; i++) {
                int at = first_column + (content_share + i * 2 * WARPS) * 4;
                copy_async(content_to + to + i * 2 * WARPS * 16, content + from + (at < D ? at : 0), at < D);
            }
        }
        copy_commit();
    };

    /* Sums of a step: element e of tile n is row 8n + 2(lane%4) + e%2 of M and column lane/4 + 8(e/2) of the warp's. */
    float state[2 * TILES][4];
    int row = lane % 4 * 2;
    int64_t mine = square + row * D + column; /* element 0 of tile 0 */
    auto offset = [](int n, int e) { return (8 * n + e % 2) * D + e / 2 * 8; };
    bool starts = !backward && owner && o.state != nullptr;
#pragma unroll
    for (int n = 0; n < 2 * TILES; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) state[n][e] = starts ? o.state[mine + offset(n, e)] : 0.0f;

    /* This lane's row of the matrices that it addresses: rows are rows of T, columns its columns. */
    int right_at = ((lane / 16 * 8 + lane % 8) * ROW + lane / 8 % 2 * 8) * 2;
#pragma unroll
    for (int i = 0; i < STAGES - 1; i++) fetch(i);
    for (int step = 0; step < o.frames; step++) {
        scan_step at(step, backward, o.frames, chunks);
        uint32_t high[TILES][4], low[TILES][4];
#pragma unroll
        for (int k = 0; k < TILES; k++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float *pair = &state[2 * k + i / 2][i % 2 * 2];
                split(at.fresh ? 0 : pair[0], at.fresh ? 0 : pair[1], high[k][i], low[k][i]);
            }
#pragma unroll
        for (int tile = 0; tile < TILES; tile++) {
            int piece = step * TILES + tile;
            copy_wait<STAGES - 2>();
            __syncthreads(); /* the piece is there for all, and the one before it has been read by all */
            fetch(piece + STAGES - 1);
            int place = piece % STAGES * shape::STAGE;
            const float *added = reinterpret_cast<const float *>(scan_memory) + (place + 2 * shape::PLANE) / 4;
            float sums[2][3][4] = {};
#pragma unroll
            for (int n = 0; n < 2; n++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    sums[n][0][e] =
                        added[(8 * n + row + e % 2) * shape::CONTENT_ROW + warp * 16 + lane / 4 + e / 2 * 8];
#pragma unroll
            for (int k = 0; k < TILES; k++) {
                uint32_t right[4], rest[4];
                load_matrices(right, stages + place + right_at + k * 32);
                load_matrices(rest, stages + place + shape::PLANE + right_at + k * 32);
#pragma unroll
                for (int n = 0; n < 2; n++) {
                    mma(sums[n][0], high[k], right[2 * n], right[2 * n + 1]);
                    mma(sums[n][1], low[k], right[2 * n], right[2 * n + 1]);
                    mma(sums[n][2], high[k], rest[2 * n], rest[2 * n + 1]);
                }
            }
#pragma unroll
            for (int n = 0; n < 2; n++)
#pragma unroll
                for (int e = 0; e < 4; e++) state[2 * tile + n][e] = sums[n][0][e] + (sums[n][1][e] + sums[n][2][e]);
        }
        if (!owner || at.place < 0) continue;
        float *memory = o.memory + at.place * stride + mine;
#pragma unroll
        for (int n = 0; n < 2 * TILES; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) atomicAdd(memory + offset(n, e), state[n][e]);
    }
    if (backward || !owner || !o.keep_state) return;
#pragma unroll
    for (int n = 0; n < 2 * TILES; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) o.state[mine + offset(n, e)] = state[n][e];
}

/* F32, for tests. A block owns 16 columns of one head's memory in one direction; thread (x,y) of 16x16 every 16th row
 * of column x. */
template <int D>
__global__ void __launch_bounds__(256)
    scan_plain_kernel(const scan_operands o, const __grid_constant__ swm_chunk_bits chunks)
{
    __shared__ float state[D][16];
    int x = (int)threadIdx.x % 16, y = (int)threadIdx.x / 16, column = (int)blockIdx.x * 16 + x;
    bool backward = blockIdx.z == 1;
    int64_t square = (int64_t)blockIdx.y * D * D + column, stride = (int64_t)o.heads * D * D;
    for (int row = y; row < D; row += 16)
        state[row][x] = !backward && o.state != nullptr ? o.state[square + row * D] : 0.0f;
    for (int step = 0; step < o.frames; step++) {
        scan_step at(step, backward, o.frames, chunks);
        const float *transition = o.transition + at.frame * stride + (int64_t)blockIdx.y * D * D;
        float sums[D / 16] = {};
        __syncthreads();
        for (int k = 0; k < D && !at.fresh; k++)
#pragma unroll
            for (int i = 0; i < D / 16; i++) sums[i] += transition[(y + 16 * i) * D + k] * state[k][x];
        __syncthreads();
#pragma unroll
        for (int i = 0; i < D / 16; i++) {
            int64_t cell = square + (y + 16 * i) * D;
            float sum = sums[i] + o.content[at.frame * stride + cell];
            state[y + 16 * i][x] = sum;
            if (at.place >= 0) atomicAdd(o.memory + at.place * stride + cell, sum);
            if (!backward && o.keep_state && step + 1 == o.frames) o.state[cell] = sum;
        }
    }
}

/* The same for z, one column a head, in float32. Tiling: a block owns a head; D/8 warps go forward and as many
 * backward; a warp owns 8 rows, a lane 4 columns of them; the next transition is on its way into registers while the
 * sums of this one meet. Bound by what a multiprocessor can fetch, 100 KB a step over 20 blocks: 0.13 ms at the
 * release's size. */
template <int D>
__global__ void __launch_bounds__(8 * D, 1)
    normaliser_kernel(const scan_operands o, const __grid_constant__ swm_chunk_bits chunks)
{
    constexpr int WARPS = D / 8, SQUARE = D * D;
    __shared__ __align__(16) float states[2][D];
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32 % WARPS, row = warp * 8;
    bool backward = (int)threadIdx.x / 32 >= WARPS, reads = lane * 4 < D;
    float *state = states[backward];
    const float *transition = o.transition + (int64_t)blockIdx.x * SQUARE + row * D + lane * 4;
    const float *content = o.content + (int64_t)blockIdx.x * D + row;
    float *memory = o.memory + (int64_t)blockIdx.x * D + row;
    float *carried = o.state == nullptr ? nullptr : o.state + (int64_t)blockIdx.x * D + row;
    int64_t square_stride = (int64_t)o.heads * SQUARE, stride = (int64_t)o.heads * D;

    float4 matrix[8];
    auto fetch = [&](int step) {
        const float *from = transition + (backward ? o.frames - 1 - step : step) * square_stride;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            matrix[i] = make_float4(0, 0, 0, 0);
            if (reads) matrix[i] = *reinterpret_cast<const float4 *>(from + i * D);
        }
    };

    if (lane < 8) state[row + lane] = !backward && carried != nullptr ? carried[lane] : 0.0f;
    fetch(0);
    __syncthreads();
    for (int step = 0; step < o.frames; step++) {
        scan_step at(step, backward, o.frames, chunks);
        float4 z = make_float4(0, 0, 0, 0);
        if (reads && !at.fresh) z = *reinterpret_cast<const float4 *>(state + lane * 4);
        float parts[8], sum = 0;
#pragma unroll
        for (int i = 0; i < 8; i++)
            parts[i] = matrix[i].x * z.x + matrix[i].y * z.y + matrix[i].z * z.z + matrix[i].w * z.w;
        if (step + 1 < o.frames) fetch(step + 1);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            float whole = swm_warp_sum(parts[i]);
            if (lane == i) sum = whole;
        }
        if (lane < 8) sum += content[at.frame * stride + lane];
        __syncthreads();
        if (lane < 8) {
            state[row + lane] = sum;
            if (at.place >= 0) atomicAdd(memory + at.place * stride + lane, sum);
            if (!backward && o.keep_state && step + 1 == o.frames) carried[lane] = sum;
        }
        __syncthreads();
    }
}

/* ---- step 3: the read-out ---------------------------------------------------------------------------------------- */

typedef struct read_operands {
    void *y;
    const void *q;
    const float *rotation, *memory, *normaliser; /* normaliser NULL: no division */
    scan_shape shape;
} read_operands;

/* BF16. Tiling: a block owns a frame and a head; its memory waits in shared memory, rounded to bf16 as the reference
 * rounds it, while each of 8 warps takes 16 tokens at a time. Queries go straight from memory to the tensor cores'
 * registers: rows and columns of the memory are permuted so that a lane's share of a row is 4 consecutive channels, 8
 * bytes to read and 8 to write. Bound by memory, 0.95 GB and the table of angles: 0.25 ms at the release's size. */
enum { READ_WARPS = 8 };

/* Channel 4t + 2h + e of 16 goes where lane t of four finds element e of half h. */
__device__ inline int shuffled(int channel)
{
    return channel / 16 * 16 + channel / 2 % 2 * 8 + channel % 16 / 4 * 2 + channel % 2;
}

template <int D> __global__ void __launch_bounds__(32 * READ_WARPS) read_kernel(const read_operands o)
{
    constexpr int ROW = D + 8, TILES = D / 16;
    __shared__ __align__(16) __nv_bfloat16 memory[D * ROW];
    __shared__ __align__(16) float z[D];
    const scan_shape s = o.shape;
    int head = (int)blockIdx.x, frame = (int)blockIdx.y, lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    int64_t index = (int64_t)frame * s.heads + head;
    for (int i = (int)threadIdx.x * 4; i < D * D; i += 32 * READ_WARPS * 4) {
        float x[4];
        swm_load<float, 4>(x, o.memory + index * D * D + i);
        __nv_bfloat16 *to = memory + shuffled(i / D) * ROW + shuffled(i % D);
        *reinterpret_cast<uint32_t *>(to) = swm_pair(x[0], x[1]);
        *reinterpret_cast<uint32_t *>(to + 8) = swm_pair(x[2], x[3]);
    }
    if (o.normaliser != nullptr && threadIdx.x < D) z[threadIdx.x] = o.normaliser[index * D + threadIdx.x];
    __syncthreads();
    int right_at = (lane / 8 % 2 * 8 + lane % 8) * ROW + lane / 16 * 8, share = lane % 4 * 4;
    for (int start = warp * 16; start < s.tokens; start += READ_WARPS * 16) {
        uint32_t left[TILES][4];
        float denominator[2] = {};
#pragma unroll
        for (int half = 0; half < 2; half++) { /* rows lane / 4 and lane / 4 + 8 */
            int token = start + lane / 4 + 8 * half;
            int64_t n = (int64_t)frame * s.tokens + token;
            swm_raw<__nv_bfloat16, 4> raw[TILES];
#pragma unroll
            for (int t = 0; t < TILES; t++) {
                raw[t].clear();
                if (token < s.tokens)
                    raw[t].load(static_cast<const __nv_bfloat16 *>(o.q) + n * s.channels + head * D + 16 * t + share);
            }
#pragma unroll
            for (int t = 0; t < TILES; t++) {
                float x[4] = {raw[t].get(0), raw[t].get(1), raw[t].get(2), raw[t].get(3)}, other[4];
                if (o.normaliser != nullptr) {
                    swm_load<float, 4>(other, z + 16 * t + share);
#pragma unroll
                    for (int i = 0; i < 4; i++) denominator[half] += x[i] * other[i];
                }
                if (o.rotation != nullptr && token < s.tokens) {
                    swm_load<float, 4>(other, o.rotation + n * D + 16 * t + share);
                    turn<4>(x, other);
                }
                left[t][half] = swm_pair(x[0], x[1]);
                left[t][half + 2] = swm_pair(x[2], x[3]);
            }
        }
        float sums[2 * TILES][4] = {};
#pragma unroll
        for (int t = 0; t < TILES; t++)
#pragma unroll
            for (int p = 0; p < TILES; p++) {
                uint32_t right[4];
                load_matrices_transposed(right, shared_place(memory + 16 * t * ROW + right_at + 16 * p));
                mma(sums[2 * p], left[t], right[0], right[1]);
                mma(sums[2 * p + 1], left[t], right[2], right[3]);
            }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int token = start + lane / 4 + 8 * half;
            float scale = 1.0f;
            if (o.normaliser != nullptr) {
                float sum = denominator[half] + __shfl_xor_sync(0xffffffffu, denominator[half], 1);
                sum += __shfl_xor_sync(0xffffffffu, sum, 2);
                scale = 1.0f / (sum + 1e-8f);
            }
            if (token >= s.tokens) continue;
            __nv_bfloat16 *to =
                static_cast<__nv_bfloat16 *>(o.y) + ((int64_t)frame * s.tokens + token) * s.channels + head * D + share;
#pragma unroll
            for (int p = 0; p < TILES; p++) {
                float x[4] = {sums[2 * p][2 * half] * scale, sums[2 * p][2 * half + 1] * scale,
                              sums[2 * p + 1][2 * half] * scale, sums[2 * p + 1][2 * half + 1] * scale};
                swm_store<__nv_bfloat16, 4>(to + 16 * p, x);
            }
        }
    }
}

/* F32, for tests: 64 tokens at a time; thread (x,y) of 16x16 owns every 16th column of 4 tokens. */
template <int D> __global__ void __launch_bounds__(256) read_plain_kernel(const read_operands o)
{
    constexpr int TOKENS = 64, ROW = D + 1, SHARE = D / 16;
    extern __shared__ float4 read_memory[];
    float *memory = reinterpret_cast<float *>(read_memory), *queries = memory + D * D;
    __shared__ float denominator[TOKENS];
    const scan_shape s = o.shape;
    int head = (int)blockIdx.x, frame = (int)blockIdx.y, x = (int)threadIdx.x % 16, y = (int)threadIdx.x / 16 * 4;
    int64_t index = (int64_t)frame * s.heads + head, first = (int64_t)frame * s.tokens;
    for (int i = (int)threadIdx.x; i < D * D; i += 256) memory[i] = o.memory[index * D * D + i];
    for (int start = 0; start < s.tokens; start += TOKENS) {
        int count = min(TOKENS, s.tokens - start);
        __syncthreads();
        for (int i = (int)threadIdx.x; i < TOKENS * D; i += 256)
            queries[i / D * ROW + i % D] =
                i / D < count ? static_cast<const float *>(o.q)[(first + start + i / D) * s.channels + head * D + i % D]
                              : 0;
        __syncthreads();
        if ((int)threadIdx.x < count) {
            float sum = 0, *query = queries + threadIdx.x * ROW;
            for (int i = 0; o.normaliser != nullptr && i < D; i++) sum += query[i] * o.normaliser[index * D + i];
            denominator[threadIdx.x] = o.normaliser != nullptr ? sum + 1e-8f : 1.0f;
            if (o.rotation != nullptr)
                for (int i = 0; i < D; i += 2) turn<2>(query + i, o.rotation + (first + start + threadIdx.x) * D + i);
        }
        __syncthreads();
        float sums[4][SHARE] = {};
        for (int k = 0; k < D; k++)
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < SHARE; j++) sums[i][j] += queries[(y + i) * ROW + k] * memory[k * D + x + 16 * j];
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int j = 0; j < SHARE; j++)
                if (y + i < count)
                    static_cast<float *>(o.y)[(first + start + y + i) * s.channels + head * D + x + 16 * j] =
                        sums[i][j] / denominator[y + i];
    }
}

/* ---- the three steps --------------------------------------------------------------------------------------------- */

/* More shared memory than the 48 KB that a launch gets unasked. */
static bool allow_shared(swm_backend *b, const void *kernel, size_t bytes)
{
    return swm_cuda_check(b, cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes),
                          "gdn_scan");
}

template <int D>
static bool run_outer(swm_backend *b, const swm_gdn *how, const swm_gdn_work *work, const scan_shape &s)
{
    outer_operands o = {how->k.data,
                        how->v.data,
                        swm_elements<const float>(how->rotation),
                        {how->beta.data, how->beta.dtype == SWM_F32},
                        swm_elements<const float>(how->decay),
                        swm_elements<float>(work->transition),
                        swm_elements<float>(work->content),
                        s};
    outer_operands z = o;
    z.transition = swm_elements<float>(work->normaliser_transition);
    z.content = swm_elements<float>(work->normaliser_content);
    z.rotation = nullptr;
    cudaStream_t stream = swm_cuda_device_of(b)->stream;
    dim3 blocks((unsigned)s.heads, (unsigned)s.frames);
    if (b->compute == SWM_F32) {
        blocks.z = how->normalise ? 3 : 2;
        outer_plain_kernel<D><<<blocks, 256, 0, stream>>>(o, z.transition, z.content);
        return swm_cuda_launched(b, "gdn_scan, outer products");
    }
    size_t buffer = (size_t)(2 * OUTER_TOKENS * (D + 8)) * sizeof(__nv_bfloat16);
    if (!allow_shared(b, (const void *)outer_kernel<D, 2>, 3 * buffer)) return false;
    outer_kernel<D, 2><<<blocks, 4 * D, 3 * buffer, stream>>>(o);
    if (how->normalise) outer_kernel<D, 1><<<blocks, 4 * D, 2 * buffer, stream>>>(z);
    return swm_cuda_launched(b, "gdn_scan, outer products");
}

template <int D> static bool run_scan(swm_backend *b, const swm_gdn *how, const swm_gdn_work *work, const scan_shape &s)
{
    using shape = scan_shapes<D>;
    cudaStream_t stream = swm_cuda_device_of(b)->stream;
    swm_chunk_bits bits;
    b->kernels->zero(b, work->memory);
    if (how->normalise) b->kernels->zero(b, work->normaliser_memory);
    if (swm_failed(&b->error) || !swm_mark_chunks(b, &bits, how->chunks, s.frames)) return false;
    scan_operands o = {swm_elements<const float>(work->transition),
                       swm_elements<const float>(work->content),
                       swm_elements<float>(work->memory),
                       swm_elements<float>(how->state),
                       how->keep_state && swm_present(how->state),
                       s.frames,
                       s.heads};
    if (b->compute == SWM_F32) {
        scan_plain_kernel<D><<<dim3(D / 16, (unsigned)s.heads, 2), 256, 0, stream>>>(o, bits);
    } else {
        size_t bytes = (size_t)(shape::STAGES * shape::STAGE);
        dim3 blocks(swm_blocks(D, shape::COLUMNS), (unsigned)s.heads, 2);
        if (!allow_shared(b, (const void *)scan_kernel<D>, bytes)) return false;
        scan_kernel<D><<<blocks, 32 * shape::WARPS, bytes, stream>>>(o, bits);
    }
    if (how->normalise) {
        scan_operands z = o;
        z.transition = swm_elements<const float>(work->normaliser_transition);
        z.content = swm_elements<const float>(work->normaliser_content);
        z.memory = swm_elements<float>(work->normaliser_memory);
        z.state = swm_elements<float>(how->normaliser);
        z.keep_state = how->keep_state && swm_present(how->normaliser);
        normaliser_kernel<D><<<(unsigned)s.heads, 8 * D, 0, stream>>>(z, bits);
    }
    return swm_cuda_launched(b, "gdn_scan, scan");
}

template <int D>
static bool run_read(swm_backend *b, swm_tensor y, const swm_gdn *how, const swm_gdn_work *work, const scan_shape &s)
{
    cudaStream_t stream = swm_cuda_device_of(b)->stream;
    read_operands o = {y.data,
                       how->q.data,
                       swm_elements<const float>(how->rotation),
                       swm_elements<const float>(work->memory),
                       how->normalise ? swm_elements<const float>(work->normaliser_memory) : nullptr,
                       s};
    dim3 blocks((unsigned)s.heads, (unsigned)s.frames);
    size_t plain = (size_t)(D * D + 64 * (D + 1)) * sizeof(float);
    if (b->compute == SWM_BF16)
        read_kernel<D><<<blocks, 32 * READ_WARPS, 0, stream>>>(o);
    else if (allow_shared(b, (const void *)read_plain_kernel<D>, plain))
        read_plain_kernel<D><<<blocks, 256, plain, stream>>>(o);
    return swm_cuda_launched(b, "gdn_scan, read-out");
}

template <int D>
static void scan_heads_of(swm_backend *b, swm_tensor y, const swm_gdn *how, const swm_gdn_work *work,
                          const scan_shape &s)
{
    if (run_outer<D>(b, how, work, s) && run_scan<D>(b, how, work, s)) run_read<D>(b, y, how, work, s);
}

extern "C" void swm_cuda_gdn_scan(swm_backend *b, swm_tensor y, const swm_gdn *how, const swm_gdn_work *work)
{
    scan_shape s = {(int)how->decay.shape[0], 0, (int)how->decay.shape[1], how->q.shape[1]};
    s.tokens = (int)(how->q.shape[0] / s.frames);
    switch (s.channels / s.heads) {
    case 32: scan_heads_of<32>(b, y, how, work, s); break;
    case 64: scan_heads_of<64>(b, y, how, work, s); break;
    case 112: scan_heads_of<112>(b, y, how, work, s); break;
    case 128: scan_heads_of<128>(b, y, how, work, s); break;
    default:
        swm_fail(&b->error,
                 "cuda: gated delta rule with heads of %lld, where 32, 64, 112 or 128 was expected; use the CPU",
                 (long long)(s.channels / s.heads));
    }
}
