/* The depthwise stage of the FFN, and shuffles of video volumes (T,H,W,C): between space and channels, between tiles
 * and pictures, to pixels. */
#include "cuda/common.cuh"

/* ---- depthwise convolution and gate ------------------------------------------------------------------------------ */

/* Tiling: a thread owns V channels of the value half and the same V of the gate half (8 bytes each), two rows of a
 * frame, and walks along their columns. An input element is loaded once per thread that needs it (four rows for two
 * results) and added to the sums of the three columns around it, so that no window has to be kept; the next column is
 * on its way meanwhile. Threads above and below share the input in the first-level cache: a block spans DEPTHWISE_ROWS
 * rows. Bound by memory and instruction issue alike: 4.3 GB (1.0 ms) and 12.9 G multiply-adds for (106480, 13440)
 * bf16. */
enum { DEPTHWISE_LANES = 32, DEPTHWISE_GROUPS = 11, DEPTHWISE_ROWS = 2 * DEPTHWISE_GROUPS };

template <typename T, int V> struct depthwise_column {
    swm_raw<T, V> value[4], gate[4];
};

template <typename T, int V>
__global__ void __launch_bounds__(DEPTHWISE_LANES *DEPTHWISE_GROUPS)
    depthwise_glu_kernel(T *y, const T *x, const T *weight, const T *bias, int height, int width, int half,
                         int row_blocks)
{
    int c = ((int)blockIdx.y * DEPTHWISE_LANES + (int)threadIdx.x) * V;
    int row = (int)(blockIdx.x % (unsigned)row_blocks) * DEPTHWISE_ROWS + 2 * (int)threadIdx.y;
    int64_t frame = blockIdx.x / (unsigned)row_blocks;
    if (c >= half || row >= height) return;
    const T *in = x + frame * height * width * 2 * half + c;
    T *out = y + frame * height * width * half + c;

    float taps[2][V][9], shift[2][V];
#pragma unroll
    for (int part = 0; part < 2; part++)
#pragma unroll
        for (int k = 0; k < V; k++) {
            int64_t channel = part * half + c + k;
            shift[part][k] = swm_float_of(bias[channel]);
#pragma unroll
            for (int tap = 0; tap < 9; tap++) taps[part][k][tap] = swm_float_of(weight[9 * channel + tap]);
        }

    /* sums[i][r]: column i of (left, middle, right) of the column that is being added; i = 0 is complete afterwards. */
    float sums[3][2][2][V];
#pragma unroll
    for (int i = 0; i < 3; i++)
#pragma unroll
        for (int r = 0; r < 2; r++)
#pragma unroll
            for (int part = 0; part < 2; part++)
#pragma unroll
                for (int k = 0; k < V; k++) sums[i][r][part][k] = shift[part][k];

    swm_raw<T, V> next[2][4];
#pragma unroll
    for (int part = 0; part < 2; part++)
#pragma unroll
        for (int r = 0; r < 4; r++) {
            next[part][r].clear();
            int h = row + r - 1;
            if (h >= 0 && h < height) next[part][r].load(in + (int64_t)h * width * 2 * half + part * half);
        }
    for (int w = 0; w <= width; w++) { /* at w == width a column of zeros completes the last result */
        swm_raw<T, V> now[2][4];
#pragma unroll
        for (int part = 0; part < 2; part++)
#pragma unroll
            for (int r = 0; r < 4; r++) {
                now[part][r] = next[part][r];
                next[part][r].clear();
                int h = row + r - 1;
                if (w + 1 < width && h >= 0 && h < height)
                    next[part][r].load(in + ((int64_t)h * width + w + 1) * 2 * half + part * half);
            }
#pragma unroll
        for (int part = 0; part < 2; part++)
#pragma unroll
            for (int k = 0; k < V; k++)
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    float value = now[part][i].get(k);
#pragma unroll
                    for (int r = 0; r < 2; r++) {
                        int dy = i - r; /* row of the tap */
                        if (dy < 0 || dy > 2) continue;
#pragma unroll
                        for (int j = 0; j < 3; j++) sums[j][r][part][k] += taps[part][k][3 * dy + 2 - j] * value;
                    }
                }
#pragma unroll
        for (int r = 0; r < 2; r++) {
            if (w > 0 && row + r < height) {
                float result[V];
#pragma unroll
                for (int k = 0; k < V; k++) result[k] = sums[0][r][0][k] * swm_silu_of(sums[0][r][1][k]);
                swm_store<T, V>(out + ((int64_t)(row + r) * width + w - 1) * half, result);
            }
#pragma unroll
            for (int part = 0; part < 2; part++)
#pragma unroll
                for (int k = 0; k < V; k++) {
                    sums[0][r][part][k] = sums[1][r][part][k];
                    sums[1][r][part][k] = sums[2][r][part][k];
                    sums[2][r][part][k] = shift[part][k];
                }
        }
    }
}

extern "C" void swm_cuda_depthwise_glu(swm_backend *b, swm_tensor y, swm_tensor x, swm_tensor weight, swm_tensor bias,
                                       int64_t h, int64_t w)
{
    int64_t half = x.shape[1] / 2, frames = x.shape[0] / (h * w), row_blocks = swm_divide_up(h, DEPTHWISE_ROWS);
    cudaStream_t stream = swm_cuda_device_of(b)->stream;
    if (frames == 0) return;
    SWM_CUDA_BY_TYPE(b->compute, {
        T *to = swm_elements<T>(y);
        const T *from = swm_elements<T>(x), *taps = swm_elements<T>(weight), *shift = swm_elements<T>(bias);
        bool wide = half % 4 == 0 && swm_aligned(to) && swm_aligned(from);
        int64_t vectors = wide ? half / 4 : half;
        /* A short frame does not fill the rows of a block. */
        dim3 threads(DEPTHWISE_LANES, (unsigned)swm_min(DEPTHWISE_GROUPS, swm_divide_up(h, 2)));
        dim3 blocks((unsigned)(frames * row_blocks), swm_blocks(vectors, DEPTHWISE_LANES));
        if (wide)
            depthwise_glu_kernel<T, 4>
                <<<blocks, threads, 0, stream>>>(to, from, taps, shift, (int)h, (int)w, (int)half, (int)row_blocks);
        else
            depthwise_glu_kernel<T, 1>
                <<<blocks, threads, 0, stream>>>(to, from, taps, shift, (int)h, (int)w, (int)half, (int)row_blocks);
    });
    swm_cuda_launched(b, "depthwise_glu");
}

/* ---- up- and down-samplers of the autoencoder -------------------------------------------------------------------- */

/* Tiling: a thread owns V output channels of one input position: it reads their 8 V elements of y, which lie together,
 * and writes V channels to each of 8 places. Neighbouring threads own neighbouring channels, so that writes are whole
 * lines. Bound by memory: 28 GB, 6.5 ms, for the last level of 961 frames of 704x1280. */
template <typename T, int V>
__global__ void __launch_bounds__(256) upsample_merge_kernel(T *out, const T *y, const T *x, int64_t items, int height,
                                                             int width, int channels, int repeat, int drop)
{
    int64_t item = (int64_t)blockIdx.x * 256 + threadIdx.x;
    if (item >= items) return;
    int vectors = channels / V, c = (int)(item % vectors) * V;
    int64_t position = item / vectors, w = position % width, h = position / width % height,
            t = position / width / height;
    float results[8][V];
#pragma unroll
    for (int k = 0; k < V; k++) {
        float learned[8], kept[8];
        swm_load<T, 8>(learned, y + (position * channels + c + k) * 8);
        swm_load<T, 8>(kept, x + (position * repeat + (c + k) % repeat) * 8);
#pragma unroll
        for (int cell = 0; cell < 8; cell++) results[cell][k] = learned[cell] + kept[cell];
    }
#pragma unroll
    for (int cell = 0; cell < 8; cell++) {
        int64_t to_t = 2 * t + cell / 4 - drop, to_h = 2 * h + cell / 2 % 2, to_w = 2 * w + cell % 2;
        if (to_t >= 0)
            swm_store<T, V>(out + ((to_t * 2 * height + to_h) * 2 * width + to_w) * channels + c, results[cell]);
    }
}

extern "C" void swm_cuda_upsample_merge(swm_backend *b, swm_tensor out, swm_tensor y, swm_tensor x, bool drop_first)
{
    int64_t positions = y.shape[0] * y.shape[1] * y.shape[2], channels = out.shape[3];
    cudaStream_t stream = swm_cuda_device_of(b)->stream;
    if (positions == 0) return;
    SWM_CUDA_BY_TYPE(b->compute, {
        constexpr int V = swm_wide<T>;
        bool wide = channels % V == 0;
        int64_t items = positions * channels / (wide ? V : 1);
        if (wide)
            upsample_merge_kernel<T, V><<<swm_blocks(items, 256), 256, 0, stream>>>(
                swm_elements<T>(out), swm_elements<const T>(y), swm_elements<const T>(x), items, (int)y.shape[1],
                (int)y.shape[2], (int)channels, (int)(x.shape[3] / 8), drop_first);
        else
            upsample_merge_kernel<T, 1><<<swm_blocks(items, 256), 256, 0, stream>>>(
                swm_elements<T>(out), swm_elements<const T>(y), swm_elements<const T>(x), items, (int)y.shape[1],
                (int)y.shape[2], (int)channels, (int)(x.shape[3] / 8), drop_first);
    });
    swm_cuda_launched(b, "upsample_merge");
}

/* A volume's sizes, for kernels. */
typedef struct volume {
    int64_t frames, height, width, channels;
} volume;

static volume volume_of(swm_tensor t) { return {t.shape[0], t.shape[1], t.shape[2], t.shape[3]}; }

/* Places of the cells that a position of the smaller volume covers; cells in the order time, row, column. */
struct cell_places {
    int64_t first, frame, row; /* of cell 0; from one frame or row to the next */
    int sh, sw;
    __device__ int64_t operator()(int cell) const
    {
        return first + cell / (sh * sw) * frame + cell / sw % sh * row + cell % sw;
    }
};

/* A block a position of the result, a thread every 256th channel of it. Encoding sees one frame. */
template <typename T>
__global__ void __launch_bounds__(256)
    downsample_merge_kernel(T *out, const T *y, const T *x, volume to, int learned, int kept, int st, int sh, int sw)
{
    unsigned position = blockIdx.x, height = (unsigned)to.height, width = (unsigned)to.width;
    unsigned w = position % width, h = position / width % height, t = position / width / height;
    int channels = (int)to.channels, cells = st * sh * sw, group = kept * cells / channels;
    cell_places places = {0, to.height * sh * to.width * sw, to.width * sw, sh, sw};
    places.first = (int64_t)t * st * places.frame + (int64_t)h * sh * places.row + (int64_t)w * sw;
    for (int channel = (int)threadIdx.x; channel < channels; channel += 256) {
        float sum = 0;
        for (int k = channel * group; k < (channel + 1) * group; k++)
            sum += swm_float_of(x[places(k % cells) * kept + k / cells]) / (float)group;
        sum += swm_float_of(y[places(channel % cells) * learned + channel / cells]);
        out[(int64_t)position * channels + channel] = swm_from_float<T>(sum);
    }
}

extern "C" void swm_cuda_downsample_merge(swm_backend *b, swm_tensor out, swm_tensor y, swm_tensor x,
                                          const int stride[3])
{
    int64_t positions = out.shape[0] * out.shape[1] * out.shape[2];
    if (positions == 0) return;
    SWM_CUDA_BY_TYPE(b->compute, {
        downsample_merge_kernel<<<(unsigned)positions, 256, 0, swm_cuda_device_of(b)->stream>>>(
            swm_elements<T>(out), swm_elements<const T>(y), swm_elements<const T>(x), volume_of(out), (int)y.shape[3],
            (int)x.shape[3], stride[0], stride[1], stride[2]);
    });
    swm_cuda_launched(b, "downsample_merge");
}

/* ---- patches ----------------------------------------------------------------------------------------------------- */

/* Channel c*16 + dx*4 + dy of a patch is colour c at row dy, column dx. A thread an element of the patches: encoding
 * sees one frame. */
template <typename T>
__global__ void __launch_bounds__(256) patchify_kernel(T *y, const T *x, int64_t count, int64_t width, int64_t colours)
{
    int64_t i = (int64_t)blockIdx.x * 256 + threadIdx.x;
    if (i >= count) return;
    int64_t channel = i % (16 * colours), position = i / (16 * colours), row = position / width, w = position % width;
    int64_t c = channel / 16, dx = channel / 4 % 4, dy = channel % 4;
    y[i] = x[(((4 * row + dy) * width + w) * 4 + dx) * colours + c];
}

extern "C" void swm_cuda_patchify(swm_backend *b, swm_tensor y, swm_tensor x)
{
    int64_t count = swm_count(y);
    if (count == 0) return;
    SWM_CUDA_BY_TYPE(b->compute, {
        patchify_kernel<<<swm_blocks(count, 256), 256, 0, swm_cuda_device_of(b)->stream>>>(
            swm_elements<T>(y), swm_elements<const T>(x), count, y.shape[2], x.shape[3]);
    });
    swm_cuda_launched(b, "patchify");
}

/* Tiling: a block owns up to 64 patches of a row of patches. They lie together; they pass through shared memory and
 * leave as four runs of pixels, 16 bytes a thread. COLOURS is 3, or 0 for any number. Bound by memory: 10.4 GB, 2.4
 * ms, for 961 frames of 704x1280. */
enum { PATCHES = 64 };

template <typename T, int COLOURS, int W>
__global__ void __launch_bounds__(256) unpatchify_kernel(T *y, const T *x, int64_t width, int any_colours, int runs)
{
    extern __shared__ uint4 patches_memory[];
    T *patches = reinterpret_cast<T *>(patches_memory);
    const int colours = COLOURS > 0 ? COLOURS : any_colours;
    int64_t row = blockIdx.x / (unsigned)runs, first = blockIdx.x % (unsigned)runs * PATCHES;
    int here = (int)(width - first < PATCHES ? width - first : PATCHES), run = here * 4 * colours;
    const T *from = x + (row * width + first) * 16 * colours; /* 16 elements or a multiple: always aligned */
    for (int i = (int)threadIdx.x * swm_wide<T>; i < 4 * run; i += 256 * swm_wide<T>) {
        swm_raw<T, swm_wide<T>> raw;
        raw.load(from + i);
        raw.store(patches + i);
    }
    __syncthreads();
    for (int i = (int)threadIdx.x * W; i < 4 * run; i += 256 * W) {
        int dy = i / run, at = i % run;
        float values[W];
#pragma unroll
        for (int k = 0; k < W; k++) {
            int pixel = (at + k) / colours, c = (at + k) % colours;
            values[k] = swm_float_of(patches[pixel / 4 * 16 * colours + 16 * c + pixel % 4 * 4 + dy]);
        }
        swm_store<T, W>(y + (((4 * row + dy) * width) + first) * 4 * colours + at, values);
    }
}

extern "C" void swm_cuda_unpatchify(swm_backend *b, swm_tensor y, swm_tensor x)
{
    int64_t rows = x.shape[0] * x.shape[1], width = x.shape[2], colours = y.shape[3],
            runs = swm_divide_up(width, PATCHES);
    cudaStream_t stream = swm_cuda_device_of(b)->stream;
    if (rows * width == 0) return;
    SWM_CUDA_BY_TYPE(b->compute, {
        T *to = swm_elements<T>(y);
        const T *from = swm_elements<T>(x);
        size_t shared = (size_t)(PATCHES * 16 * colours) * sizeof(T);
        SWM_REQUIRE(shared <= 48 << 10 && swm_aligned(to) && swm_aligned(from), "patches of %lld colours",
                    (long long)colours);
        /* Runs of pixels, the last of a row too, are whole vectors when a row is. */
        bool wide = width * 4 * colours % swm_wide<T> == 0 && PATCHES * 4 * colours % swm_wide<T> == 0;
        unsigned blocks = (unsigned)(rows * runs);
        if (wide && colours == 3)
            unpatchify_kernel<T, 3, swm_wide<T>><<<blocks, 256, shared, stream>>>(to, from, width, 3, (int)runs);
        else
            unpatchify_kernel<T, 0, 1><<<blocks, 256, shared, stream>>>(to, from, width, (int)colours, (int)runs);
    });
    swm_cuda_launched(b, "unpatchify");
}

/* ---- tiles and pictures ------------------------------------------------------------------------------------------ */

/* tile (outer,length,inner), before (outer,old,inner): a thread owns W elements of one of the first `extent` steps. */
template <typename T, int W>
__global__ void __launch_bounds__(256)
    blend_kernel(T *tile, const T *before, int64_t items, int64_t length, int64_t old, int64_t inner, int64_t extent)
{
    int64_t item = (int64_t)blockIdx.x * 256 + threadIdx.x;
    if (item >= items) return;
    int64_t vectors = inner / W, i = item % vectors * W, k = item / vectors % extent, o = item / vectors / extent;
    float share = (float)k / (float)extent, now[W], past[W];
    T *to = tile + (o * length + k) * inner + i;
    swm_load<T, W>(now, to);
    swm_load<T, W>(past, before + (o * old + old - extent + k) * inner + i);
#pragma unroll
    for (int j = 0; j < W; j++) now[j] = past[j] * (1.0f - share) + now[j] * share;
    swm_store<T, W>(to, now);
}

extern "C" void swm_cuda_blend(swm_backend *b, swm_tensor tile, swm_tensor before, int axis, int64_t extent)
{
    int64_t outer = 1, inner = 1, length = tile.shape[axis], old = before.shape[axis];
    for (int i = 0; i < axis; i++) outer *= tile.shape[i];
    for (int i = axis + 1; i < 4; i++) inner *= tile.shape[i];
    cudaStream_t stream = swm_cuda_device_of(b)->stream;
    if (outer * inner * extent == 0) return;
    SWM_CUDA_BY_TYPE(b->compute, {
        T *to = swm_elements<T>(tile);
        const T *from = swm_elements<T>(before);
        bool wide = inner % swm_wide<T> == 0 && swm_aligned(to) && swm_aligned(from);
        int64_t items = outer * extent * inner / (wide ? swm_wide<T> : 1);
        if (wide)
            blend_kernel<T, swm_wide<T>>
                <<<swm_blocks(items, 256), 256, 0, stream>>>(to, from, items, length, old, inner, extent);
        else
            blend_kernel<T, 1><<<swm_blocks(items, 256), 256, 0, stream>>>(to, from, items, length, old, inner, extent);
    });
    swm_cuda_launched(b, "blend");
}

extern "C" void swm_cuda_paste(swm_backend *b, swm_tensor to, const int64_t at[4], swm_tensor x, const int64_t from[4],
                               const int64_t box[4])
{
    size_t size = swm_dtype_size(x.dtype);
    for (int i = 0; i < 4; i++)
        if (box[i] == 0) return;
    /* The copy engine knows three dimensions. Whole pixels make a row of the box one run; otherwise frames go one by
     * one. */
    bool whole = box[3] == to.shape[3] && box[3] == x.shape[3];
    for (int64_t t = 0; t < (whole ? 1 : box[0]); t++) {
        char *target = (char *)to.data + (size_t)((at[0] + t) * swm_row_size(to)) * size;
        char *source = (char *)x.data + (size_t)((from[0] + t) * swm_row_size(x)) * size;
        target += (size_t)((at[1] * to.shape[2] + at[2]) * to.shape[3] + at[3]) * size;
        source += (size_t)((from[1] * x.shape[2] + from[2]) * x.shape[3] + from[3]) * size;
        cudaMemcpy3DParms copy = {};
        copy.kind = cudaMemcpyDeviceToDevice;
        if (whole) {
            size_t to_row = (size_t)(to.shape[2] * to.shape[3]) * size,
                   x_row = (size_t)(x.shape[2] * x.shape[3]) * size;
            copy.dstPtr = make_cudaPitchedPtr(target, to_row, to_row, (size_t)to.shape[1]);
            copy.srcPtr = make_cudaPitchedPtr(source, x_row, x_row, (size_t)x.shape[1]);
            copy.extent = make_cudaExtent((size_t)(box[2] * box[3]) * size, (size_t)box[1], (size_t)box[0]);
        } else {
            size_t to_pixel = (size_t)to.shape[3] * size, x_pixel = (size_t)x.shape[3] * size;
            copy.dstPtr = make_cudaPitchedPtr(target, to_pixel, to_pixel, (size_t)to.shape[2]);
            copy.srcPtr = make_cudaPitchedPtr(source, x_pixel, x_pixel, (size_t)x.shape[2]);
            copy.extent = make_cudaExtent((size_t)box[3] * size, (size_t)box[2], (size_t)box[1]);
        }
        if (!swm_cuda_check(b, cudaMemcpy3DAsync(&copy, swm_cuda_device_of(b)->stream), "paste")) return;
    }
}

/* A thread owns W pixels' bytes. Bound by memory: 7.8 GB, 1.8 ms, for 961 frames of 704x1280 from bf16. */
template <typename T, int W>
__global__ void __launch_bounds__(256) pixels_kernel(uint8_t *y, const T *x, int64_t count, float half)
{
    int64_t i = ((int64_t)blockIdx.x * 256 + threadIdx.x) * W;
    if (i >= count) return;
    float values[W];
    union {
        uint8_t bytes[W];
        typename swm_word<(W < 2 ? 2 : W)>::type word;
    } out;
    swm_load<T, W>(values, x + i);
#pragma unroll
    for (int k = 0; k < W; k++) {
        float value = 127.5f * values[k] + 127.5f;
        value = value > 0.0f ? value : 0.0f; /* NaN becomes black */
        out.bytes[k] = (uint8_t)((value < 255.0f ? value : 255.0f) + half);
    }
    if constexpr (W > 1)
        *reinterpret_cast<decltype(out.word) *>(y + i) = out.word;
    else
        y[i] = out.bytes[0];
}

extern "C" void swm_cuda_pixels(swm_backend *b, swm_tensor y, swm_tensor x, bool truncate)
{
    int64_t count = swm_count(x);
    float half = truncate ? 0.0f : 0.5f;
    cudaStream_t stream = swm_cuda_device_of(b)->stream;
    if (count == 0) return;
    SWM_CUDA_BY_TYPE(b->compute, {
        uint8_t *to = static_cast<uint8_t *>(y.data);
        const T *from = swm_elements<T>(x);
        if (count % 16 == 0 && swm_aligned(to) && swm_aligned(from))
            pixels_kernel<T, 16><<<swm_blocks(count, 256 * 16), 256, 0, stream>>>(to, from, count, half);
        else
            pixels_kernel<T, 1><<<swm_blocks(count, 256), 256, 0, stream>>>(to, from, count, half);
    });
    swm_cuda_launched(b, "pixels");
}
