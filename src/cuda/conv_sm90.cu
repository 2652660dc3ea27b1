/* The 3x3x3 convolution on Hopper: bf16, a product of the padded input with weights [O][27][I], never unfolded; and the
 * 3x3 one of half precision with weights [O][9][I] that a lone frame comes down to. conv.cu decides who is called and has
 * padded the input.
 *
 * A block owns a box of bt x bh x bw <= 256 positions and 64 or 128 output channels, and takes boxes one after another
 * (persistent). For each of the frames around a position and each 64 input channels, the copy engine brings the box
 * with its border of one, (bh+2) x (bw+2) pixels, once; the nine taps of that frame are nine views of it, shifted by
 * whole rows of shared memory. wgmma can read its left operand from registers, and ldmatrix takes any row address, so a
 * tap costs nothing but its own addresses: the input is read from L2 about 1.3 times a frame instead of nine times,
 * which is what an unfolded product would read. Weights stream through a ring of tiles, one tap each; all of them are
 * read once a box.
 *
 * Warpgroup 0 copies. Warpgroups 1 and 2 own 128 positions each, two blocks of 64, times all output channels of the
 * tile. The copier runs ahead into the next box while results are written.
 *
 * Where O is a multiple of 32 the rows of a weight tile are permuted on the way in (a five-dimensional view of the same
 * memory) such that a thread ends up with 8 neighbouring output channels of a position: results, residual and bias move
 * 16 bytes at a time without an exchange between threads.
 *
 * A lone frame may have fewer boxes than there are multiprocessors. The sum over frames and slices is then cut into
 * parts, which blocks take like boxes; sums of the parts go to memory in float32 and are added in order by a second
 * kernel.
 *
 * Bound: tensor cores. 4.8e13 FLOP for one layer of 128 to 128 channels at 961x176x320; L2 traffic about 21 bytes a
 * clock and multiprocessor at full rate. */
#include "cuda/common.cuh"
#include "cuda/hopper.cuh"
#include "cuda/matrix.h"
#include "cuda/tensorcore.cuh"

enum {
    THREADS = 384,
    POSITIONS = 256,
    SLICE = 64, /* input channels at a time: 128 bytes */
    PATCH_ROWS = 400,
    PATCH_BYTES = PATCH_ROWS * 128, /* a multiple of 1024 */
    PATCHES = 2,
    WEIGHT_TILES = 6,
    TAPS = 9, /* of one frame */
    WARPS_READING = 8,
    BARRIERS = 2 * (PATCHES + WEIGHT_TILES)
};

template <int outputs> constexpr int shared_bytes()
{
    return PATCHES * PATCH_BYTES + WEIGHT_TILES * outputs * 128 + 8 * BARRIERS + 1024;
}

struct hopper_conv {
    __nv_bfloat16 *y;
    const __nv_bfloat16 *bias, *residual; /* residual: NULL if absent */
    int frames, height, width, outputs;
    int box_frames, box_height, box_width;
    int tiles_x, tiles_y, tiles_o; /* output tiles vary fastest, then columns, rows, frames, parts of the sum */
    int64_t tiles_part, tiles;     /* of a part, and of all */
    int parts;
    float *partial; /* (parts, positions, outputs); NULL: one part, straight to y */
    int64_t count;  /* elements of y */
    int depth, slices, patch_bytes;
    int permuted; /* whether rows of weight tiles are in the order above */
};

#if defined(SWM_HOPPER)

struct shared_places {
    uint32_t patch, weight, patch_full, patch_empty, weight_full, weight_empty;
};

/* Where a tile lies: first position and first output channel; and its part of the patches to be summed, which are
 * numbered by frame, then slice. */
struct tile_place {
    int x, y, frame, output, part, begin, end;
};

template <int outputs> __device__ __forceinline__ tile_place place_of(const hopper_conv &a, int64_t tile)
{
    tile_place at;
    at.part = (int)(tile / a.tiles_part);
    at.begin = a.depth * a.slices * at.part / a.parts;
    at.end = a.depth * a.slices * (at.part + 1) / a.parts;
    tile %= a.tiles_part;
    at.output = (int)(tile % a.tiles_o) * outputs;
    tile /= a.tiles_o;
    at.x = (int)(tile % a.tiles_x) * a.box_width;
    tile /= a.tiles_x;
    at.y = (int)(tile % a.tiles_y) * a.box_height;
    at.frame = (int)(tile / a.tiles_y) * a.box_frames;
    return at;
}

template <int outputs>
__device__ __forceinline__ void copy_tiles(const shared_places &at, const CUtensorMap *padded,
                                           const CUtensorMap *weight, const hopper_conv &a, int inputs)
{
    ring_place<PATCHES> patch;
    ring_place<WEIGHT_TILES> tap_place;
    for (int64_t tile = blockIdx.x; tile < a.tiles; tile += gridDim.x) {
        tile_place place = place_of<outputs>(a, tile);
        for (int i = place.begin; i < place.end; i++) {
            int frame = i / a.slices, slice = i % a.slices;
            uint32_t full = at.patch_full + 8 * patch.stage;
            barrier_wait(at.patch_empty + 8 * patch.stage, patch.phase ^ 1);
            barrier_expect(full, (uint32_t)a.patch_bytes);
            copy_box_4d(at.patch + patch.stage * PATCH_BYTES, padded, full, slice * SLICE, place.x, place.y,
                        place.frame + frame);
            patch.next();
            for (int tap = 0; tap < TAPS; tap++) {
                uint32_t to = at.weight + tap_place.stage * outputs * 128;
                full = at.weight_full + 8 * tap_place.stage;
                barrier_wait(at.weight_empty + 8 * tap_place.stage, tap_place.phase ^ 1);
                barrier_expect(full, outputs * 128);
                int which = frame * TAPS + tap;
                if (a.permuted)
                    copy_box_5d(to, weight, full, which * inputs + slice * SLICE, 0, 0, 0, place.output / 32);
                else
                    copy_box_3d(to, weight, full, slice * SLICE, which, place.output);
                tap_place.next();
            }
        }
    }
}

/* The position of a row of the box, in the box; false for rows past its end. */
struct box_position {
    int x, y, frame;
    bool inside;
};
__device__ __forceinline__ box_position position_of(const hopper_conv &a, int row)
{
    box_position p;
    p.x = row % a.box_width;
    row /= a.box_width;
    p.y = row % a.box_height;
    p.frame = row / a.box_height;
    p.inside = p.frame < a.box_frames;
    return p;
}

/* Left operands of a tap, 2 x 64 positions x SLICE channels. rows: of the patch. */
__device__ __forceinline__ void load_left(uint32_t (&left)[2][SLICE / 16][4], uint32_t patch, const int (&first_row)[2],
                                          int shift)
{
    uint32_t half = threadIdx.x % 32 / 16;
#pragma unroll
    for (int m = 0; m < 2; m++) {
        uint32_t row = (uint32_t)(first_row[m] + shift), base = patch + row * 128, swizzle = (half ^ (row & 7)) << 4;
#pragma unroll
        for (int k = 0; k < SLICE / 16; k++) load_matrices(left[m][k], base + (swizzle ^ (uint32_t)(k << 5)));
    }
}

/* Nine taps of one patch into the sums: 2 x 64 positions of this warpgroup. first_row: of the patch, where the
 * thread's row finds its first tap. While the products of a tap run, the operands of the next one are loaded. */
template <int outputs, bool half>
__device__ __forceinline__ void multiply_patch(float (&sums)[2][outputs / 2], const shared_places &at,
                                               ring_place<WEIGHT_TILES> &tap_place, uint32_t patch,
                                               const int (&first_row)[2], const hopper_conv &a, bool first)
{
    int lane = (int)threadIdx.x % 32, stride = a.box_width + 2;
    uint32_t left[2][2][SLICE / 16][4], used = 0;
    load_left(left[0], patch, first_row, 0);
    pin(sums[0]);
    pin(sums[1]);
#pragma unroll
    for (int tap = 0; tap < TAPS; tap++) {
        barrier_wait(at.weight_full + 8 * tap_place.stage, tap_place.phase);
        uint32_t weight = at.weight + tap_place.stage * outputs * 128;
        wgmma_fence();
#pragma unroll
        for (int k = 0; k < SLICE / 16; k++)
#pragma unroll
            for (int m = 0; m < 2; m++) {
                uint64_t right = descriptor(weight + k * 32, 16, 1024);
                int accumulate = k > 0 || tap > 0 || !first;
                if constexpr (half)
                    wgmma_rs_half(sums[m], left[tap % 2][m][k], right, accumulate);
                else
                    wgmma_rs<0>(sums[m], left[tap % 2][m][k], right, accumulate);
            }
        wgmma_commit();
        if (tap > 0) {
            wgmma_wait<1>();
            if (lane == 0) barrier_arrive(used);
        }
        used = at.weight_empty + 8 * tap_place.stage;
        tap_place.next();
        if (tap + 1 < TAPS) load_left(left[(tap + 1) % 2], patch, first_row, (tap + 1) / 3 * stride + (tap + 1) % 3);
    }
    wgmma_wait<0>();
    pin(sums[0]);
    pin(sums[1]);
    if (lane == 0) barrier_arrive(used);
}

/* Two rows of the box in the result: element offset of each, -1 where there is no position. */
__device__ __forceinline__ void find_rows(int64_t (&at)[2], const hopper_conv &a, const tile_place &place, int row)
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        box_position p = position_of(a, row + 8 * r);
        int x = place.x + p.x, y = place.y + p.y, frame = place.frame + p.frame;
        bool inside = p.inside && x < a.width && y < a.height && frame < a.frames;
        at[r] = inside ? (((int64_t)frame * a.height + y) * a.width + x) * a.outputs : -1;
    }
}

/* Sums of a thread's two rows to the result, 8 channels at a time; all of the residual is asked for before it is
 * needed. */
template <int outputs>
__device__ __forceinline__ void write_permuted(const float (&sums)[outputs / 2], const hopper_conv &a,
                                               const int64_t (&at)[2], int output)
{
    using vector = swm_raw<__nv_bfloat16, 8>;
    int channel = output + (int)threadIdx.x % 4 * 8;
    vector residual[2][outputs / 32];
#pragma unroll
    for (int r = 0; r < 2; r++)
#pragma unroll
        for (int j = 0; j < outputs / 32; j++) {
            residual[r][j].clear();
            if (a.residual != NULL && at[r] >= 0 && channel + 32 * j < a.outputs)
                residual[r][j].load(a.residual + at[r] + channel + 32 * j);
        }
#pragma unroll
    for (int j = 0; j < outputs / 32; j++) {
        if (channel + 32 * j >= a.outputs) continue;
        vector bias;
        bias.load(a.bias + channel + 32 * j);
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float values[8];
#pragma unroll
            for (int i = 0; i < 8; i++)
                values[i] = sums[(4 * j + i / 2) * 4 + 2 * r + i % 2] + bias.get(i) + residual[r][j].get(i);
            if (at[r] >= 0) swm_store<__nv_bfloat16, 8>(a.y + at[r] + channel + 32 * j, values);
        }
    }
}

template <int outputs>
__device__ __forceinline__ void write_plain(const float (&sums)[outputs / 2], const hopper_conv &a,
                                            const int64_t (&at)[2], int output)
{
#pragma unroll
    for (int j = 0; j < outputs / 8; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            int channel = output + j * 8 + (int)threadIdx.x % 4 * 2 + e % 2;
            int64_t place = at[e / 2];
            if (channel >= a.outputs || place < 0) continue;
            float value = sums[4 * j + e] + __bfloat162float(a.bias[channel]);
            if (a.residual != NULL) value += __bfloat162float(a.residual[place + channel]);
            a.y[place + channel] = __float2bfloat16_rn(value);
        }
}

/* Sums of a part to its place among the partial ones. */
template <int outputs>
__device__ __forceinline__ void write_partial(const float (&sums)[outputs / 2], const hopper_conv &a,
                                              const int64_t (&at)[2], const tile_place &place)
{
    float *to = a.partial + place.part * a.count;
#pragma unroll
    for (int j = 0; j < outputs / 8; j++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            /* As write_permuted and write_plain have it: neighbours in both. */
            int pair = (int)threadIdx.x % 4;
            int channel = place.output + (a.permuted ? j / 4 * 32 + pair * 8 + j % 4 * 2 : j * 8 + pair * 2);
            if (at[r] < 0) continue;
            if (channel < a.outputs) to[at[r] + channel] = sums[4 * j + 2 * r];
            if (channel + 1 < a.outputs) to[at[r] + channel + 1] = sums[4 * j + 2 * r + 1];
        }
}

template <int outputs, bool half>
__device__ __forceinline__ void convolve(const shared_places &at, const hopper_conv &a, int group)
{
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x % 128 / 32;
    int row = group * 128 + warp * 16, first_row[2];
#pragma unroll
    for (int m = 0; m < 2; m++) {
        box_position p = position_of(a, row + m * 64 + lane % 16);
        first_row[m] = p.inside ? (p.frame * (a.box_height + 2) + p.y) * (a.box_width + 2) + p.x : 0;
    }
    ring_place<PATCHES> patch;
    ring_place<WEIGHT_TILES> tap_place;
    float sums[2][outputs / 2];
    for (int64_t tile = blockIdx.x; tile < a.tiles; tile += gridDim.x) {
        tile_place place = place_of<outputs>(a, tile);
        for (int i = place.begin; i < place.end; i++) {
            barrier_wait(at.patch_full + 8 * patch.stage, patch.phase);
            multiply_patch<outputs, half>(sums, at, tap_place, at.patch + patch.stage * PATCH_BYTES, first_row, a,
                                          i == place.begin);
            if (lane == 0) barrier_arrive(at.patch_empty + 8 * patch.stage);
            patch.next();
        }
#pragma unroll
        for (int m = 0; m < 2; m++) {
            int64_t rows[2];
            find_rows(rows, a, place, row + m * 64 + lane / 4);
            if (a.partial != NULL)
                write_partial<outputs>(sums[m], a, rows, place);
            else if (a.permuted)
                write_permuted<outputs>(sums[m], a, rows, place.output);
            else
                write_plain<outputs>(sums[m], a, rows, place.output);
        }
    }
}
#endif

template <int outputs, bool half>
static __global__ void __launch_bounds__(THREADS, 1)
    conv_kernel(const __grid_constant__ CUtensorMap padded, const __grid_constant__ CUtensorMap weight,
                const hopper_conv a, int inputs)
{
#if defined(SWM_HOPPER)
    extern __shared__ uint8_t memory[];
    shared_places at;
    at.patch = (shared_address(memory) + 1023) & ~1023u;
    at.weight = at.patch + PATCHES * PATCH_BYTES;
    at.patch_full = at.weight + WEIGHT_TILES * outputs * 128;
    at.patch_empty = at.patch_full + 8 * PATCHES;
    at.weight_full = at.patch_empty + 8 * PATCHES;
    at.weight_empty = at.weight_full + 8 * WEIGHT_TILES;
    if (threadIdx.x == 0) {
        for (int i = 0; i < PATCHES; i++) {
            barrier_init(at.patch_full + 8 * i, 1);
            barrier_init(at.patch_empty + 8 * i, WARPS_READING);
        }
        for (int i = 0; i < WEIGHT_TILES; i++) {
            barrier_init(at.weight_full + 8 * i, 1);
            barrier_init(at.weight_empty + 8 * i, WARPS_READING);
        }
        barrier_init_fence();
    }
    __syncthreads();
    int group = (int)threadIdx.x / 128;
    if (group == 0) {
        registers_fewer<40>();
        if (threadIdx.x == 0) copy_tiles<outputs>(at, &padded, &weight, a, inputs);
    } else {
        registers_more<232>();
        convolve<outputs, half>(at, a, group - 1);
    }
#else
    __trap(); /* built for sm_90 without the a */
#endif
}

/* Parts in order, bias and residual, W elements a thread: W divides the output channels. */
template <int W> static __global__ void __launch_bounds__(256) add_parts_kernel(const hopper_conv a)
{
    int64_t at = ((int64_t)blockIdx.x * 256 + threadIdx.x) * W;
    if (at >= a.count) return;
    float sums[W], values[W];
    swm_load<float, W>(sums, a.partial + at);
    for (int part = 1; part < a.parts; part++) {
        swm_load<float, W>(values, a.partial + part * a.count + at);
#pragma unroll
        for (int i = 0; i < W; i++) sums[i] += values[i];
    }
    swm_load<__nv_bfloat16, W>(values, a.bias + at % a.outputs);
#pragma unroll
    for (int i = 0; i < W; i++) sums[i] += values[i];
    if (a.residual != NULL) {
        swm_load<__nv_bfloat16, W>(values, a.residual + at);
#pragma unroll
        for (int i = 0; i < W; i++) sums[i] += values[i];
    }
    swm_store<__nv_bfloat16, W>(a.y + at, sums);
}

/* ---- the call ---------------------------------------------------------------------------------------------------- */

/* The box that covers the volume in the fewest blocks; among equals the one with the smallest border. */
static void choose_box(hopper_conv *a)
{
    int64_t best = INT64_MAX;
    int best_rows = 0;
    for (int t = 1; t <= 16 && t <= a->frames; t++)
        for (int h = 1; h <= a->height && t * h <= POSITIONS; h++)
            for (int w = 1; w <= a->width && t * h * w <= POSITIONS; w++) {
                int rows = t * (h + 2) * (w + 2);
                if (rows > PATCH_ROWS || w + 2 > 256 || h + 2 > 256) continue;
                int64_t tiles = swm_divide_up(a->frames, t) * swm_divide_up(a->height, h) * swm_divide_up(a->width, w);
                if (tiles > best || (tiles == best && rows >= best_rows)) continue;
                best = tiles;
                best_rows = rows;
                a->box_frames = t;
                a->box_height = h;
                a->box_width = w;
            }
    a->tiles_x = (int)swm_divide_up(a->width, a->box_width);
    a->tiles_y = (int)swm_divide_up(a->height, a->box_height);
    a->patch_bytes = best_rows * 128;
    a->tiles_part = best * a->tiles_o;
}

/* The number of parts with the shortest way to the end, counted in quarters of the 6 us that a block spends on a patch.
 * Adding up costs a launch and, a part, the partial sums written and read, at about 4 TB/s. */
static void choose_parts(hopper_conv *a, int processors, const swm_cuda_conv_form *form)
{
    int64_t patches = a->depth * a->slices, best = 4 * swm_divide_up(a->tiles_part, processors) * patches;
    a->parts = 1;
    for (int parts = 2; form->partial != NULL && parts <= patches && parts * a->count <= form->partial_count; parts++) {
        int64_t time = 4 * swm_divide_up(a->tiles_part * parts, processors) * swm_divide_up(patches, parts) + 4 +
                       (parts * a->count >> 20);
        if (time >= best) continue;
        best = time;
        a->parts = parts;
    }
    a->partial = a->parts > 1 ? form->partial : NULL;
    a->tiles = a->tiles_part * a->parts;
}

template <int outputs, bool half>
static void launch(swm_backend *b, const CUtensorMap &padded, const CUtensorMap &weight, const hopper_conv &a,
                   int inputs)
{
    swm_cuda_device *device = swm_cuda_device_of(b);
    auto kernel = conv_kernel<outputs, half>;
    constexpr int shared = shared_bytes<outputs>();
    if (!swm_cuda_check(b, cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared), "conv"))
        return;
    unsigned blocks = (unsigned)swm_min(a.tiles, device->processors);
    kernel<<<blocks, THREADS, shared, device->stream>>>(padded, weight, a, inputs);
    if (!swm_cuda_launched(b, "conv") || a.partial == NULL) return;
    if (a.outputs % 8 == 0)
        add_parts_kernel<8><<<swm_blocks(a.count, 8 * 256), 256, 0, device->stream>>>(a);
    else
        add_parts_kernel<1><<<swm_blocks(a.count, 256), 256, 0, device->stream>>>(a);
    swm_cuda_launched(b, "conv");
}

extern "C" bool swm_cuda_conv_hopper_takes(swm_backend *b, swm_tensor y, const swm_conv3d *how, swm_tensor padded)
{
    const swm_cuda_matrix *matrix = swm_cuda_device_of(b)->matrix;
    int64_t inputs = padded.shape[3];
    bool bounded = true;
    for (int i = 0; i < 4; i++) bounded = bounded && y.shape[i] < INT32_MAX / 32 && padded.shape[i] < INT32_MAX / 32;
    return matrix->encode != NULL && b->compute == SWM_BF16 && inputs % 8 == 0 && bounded && swm_aligned(padded.data) &&
           swm_aligned(how->weight.data) && swm_aligned(how->bias.data) && swm_aligned(y.data) &&
           (!swm_present(how->residual) || swm_aligned(how->residual.data));
}

extern "C" void swm_cuda_conv_hopper(swm_backend *b, swm_tensor y, const swm_conv3d *how, swm_tensor padded,
                                     const swm_cuda_conv_form *form)
{
    int64_t inputs = padded.shape[3], outputs = y.shape[3], tile = outputs > 64 ? 128 : 64;
    hopper_conv a = {};
    a.y = swm_elements<__nv_bfloat16>(y);
    a.bias = swm_elements<__nv_bfloat16>(how->bias);
    a.residual = swm_present(how->residual) ? swm_elements<__nv_bfloat16>(how->residual) : NULL;
    a.frames = (int)y.shape[0];
    a.height = (int)y.shape[1];
    a.width = (int)y.shape[2];
    a.outputs = (int)outputs;
    a.tiles_o = (int)swm_divide_up(outputs, tile);
    a.slices = (int)swm_divide_up(inputs, SLICE);
    a.permuted = outputs % 32 == 0;
    a.depth = form->depth;
    a.count = swm_count(y);
    choose_box(&a);
    choose_parts(&a, swm_cuda_device_of(b)->processors, form);

    CUtensorMap padded_map, weight_map;
    int64_t pixel = 2 * inputs, row = pixel * padded.shape[2], frame = row * padded.shape[1];
    int64_t sizes[] = {inputs, padded.shape[2], padded.shape[1], padded.shape[0]}, strides[] = {pixel, row, frame};
    int64_t box[] = {SLICE, a.box_width + 2, a.box_height + 2, a.box_frames};
    if (!swm_cuda_map(b, &padded_map, padded.data, 4, sizes, strides, box)) return;

    int64_t taps = TAPS * a.depth, filter = taps * pixel; /* bytes of the weights of an output channel */
    void *weights = const_cast<void *>(form->weight);
    bool mapped;
    if (a.permuted) {
        /* Channel 32 j + 8 t + 2 i + e lies in row 32 j + 8 i + 2 t + e of the tile. A slice that runs past the
         * inputs of its tap reads weights of the next one; they meet channels of the input that are zero. */
        int64_t view[] = {taps * inputs, 2, 4, 4, outputs / 32},
                steps[] = {filter, 8 * filter, 2 * filter, 32 * filter};
        int64_t part[] = {SLICE, 2, 4, 4, tile / 32};
        mapped = swm_cuda_map(b, &weight_map, weights, 5, view, steps, part);
    } else {
        int64_t view[] = {inputs, taps, outputs}, steps[] = {pixel, filter}, part[] = {SLICE, 1, tile};
        mapped = swm_cuda_map(b, &weight_map, weights, 3, view, steps, part);
    }
    if (!mapped) return;
    if (tile == 128 && form->half)
        launch<128, true>(b, padded_map, weight_map, a, (int)inputs);
    else if (tile == 128)
        launch<128, false>(b, padded_map, weight_map, a, (int)inputs);
    else if (form->half)
        launch<64, true>(b, padded_map, weight_map, a, (int)inputs);
    else
        launch<64, false>(b, padded_map, weight_map, a, (int)inputs);
}
