/* Convolutions of the CPU backend: the autoencoder's 3x3x3 and the transformer's depthwise 3x3 with its gate.
 *
 * The 3x3x3 convolution is a matrix product that never builds its left matrix. The input is written once with its border
 * (and, on the way, normed and activated); a block of 16 output channels has its weights repacked as [tap][channel][16];
 * then 6 positions x 16 channels of the result live in registers while the taps run. Blocks of channels and ranges of
 * positions go to threads, sums are never split between them, so results do not depend on the number of threads. */
#include "cpu/cpu.h"
#include "cpu/vector_math.h"

#include <math.h>
#include <string.h>

/* Compilers turn this into whatever vectors the machine has; alignment 4 because rows start anywhere. */
typedef float v8 __attribute__((vector_size(32), aligned(4), may_alias));

enum {
    BLOCK = 16,           /* output channels in registers: two v8 */
    GROUP = 6,            /* positions in registers: 12 sums, 2 weights and a broadcast fill 16 vector registers */
    CHANNEL_PIECE = 2048, /* input channels of one pass, as many as the work space holds weights of */
    PACK_PIECE = 16,      /* input channels converted at a time while packing */
    TAPS = 27,
    SMALL_COPY = 1 << 13,
    SMALL_PRODUCT = 1 << 19
};

/* A small op is done before a second thread has woken up. `work` counts elements written or multiplications. */
static int threads_for(const swm_backend *b, int64_t work, int64_t least) { return work < least ? 1 : b->threads; }

/* ---- the padded input ----------------------------------------------------------------------------------------------- */

/* 1 / sqrt(mean(x^2) + 1e-8) */
static float pixel_scale(const float *x, int64_t channels)
{
    v8 squares = {0};
    int64_t c = 0;
    for (; c + 8 <= channels; c += 8) squares += *(const v8 *)(x + c) * *(const v8 *)(x + c);
    float square = 0;
    for (int k = 0; k < 8; k++) square += squares[k];
    for (; c < channels; c++) square += x[c] * x[c];
    return 1.0f / sqrtf(square / (float)channels + 1e-8f);
}

/* Pixel norm and SiLU of a row. SiLU runs over the whole row at once because pixels may have few channels. */
static void norm_silu(float *restrict to, const float *restrict from, int64_t width, int64_t channels)
{
    for (int64_t w = 0; w < width; w++) {
        float scale = pixel_scale(from + w * channels, channels);
        for (int64_t c = w * channels; c < (w + 1) * channels; c++) to[c] = from[c] * scale;
    }
    for (int64_t c = 0; c < width * channels; c++) to[c] = swm_silu_of(to[c]);
}

/* One row of the padded picture, both borders included, from a row of the input. */
static void pad_row(float *to, const float *from, int64_t width, int64_t channels, const swm_conv3d *how)
{
    size_t pixel = (size_t)channels * sizeof(float);
    float *inner = to + channels;
    if (how->norm_silu) {
        norm_silu(inner, from, width, channels);
    } else {
        memcpy(inner, from, (size_t)width * pixel);
    }
    if (how->reflect) {
        memcpy(to, inner + channels, pixel);
        memcpy(inner + width * channels, inner + (width - 2) * channels, pixel);
    } else {
        memset(to, 0, pixel);
        memset(inner + width * channels, 0, pixel);
    }
}

/* The frames of x to padded frames `lead` and on. Rows reflected at the top and bottom are computed twice: they are few,
 * and every row stays independent of the others. */
static void pad_frames(swm_backend *b, swm_tensor padded, int64_t lead, swm_tensor x, const swm_conv3d *how)
{
    int64_t frames = x.shape[0], height = x.shape[1], width = x.shape[2], channels = x.shape[3];
    int64_t row = width * channels, padded_row = (width + 2) * channels, rows = frames * (height + 2);
    int threads = threads_for(b, rows * padded_row, SMALL_COPY);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        int64_t t = r / (height + 2), h = r % (height + 2) - 1;
        float *to = swm_floats(padded) + (lead * (height + 2) + r) * padded_row;
        if (how->reflect) h = h < 0 ? 1 : h == height ? height - 2 : h;
        if (h < 0 || h == height)
            memset(to, 0, (size_t)padded_row * sizeof(float));
        else
            pad_row(to, swm_floats(x) + (t * height + h) * row, width, channels, how);
    }
}

static void copy_frames(swm_tensor to, int64_t at, swm_tensor from, int64_t first, int64_t count)
{
    size_t frame = (size_t)swm_row_size(to) * sizeof(float);
    memcpy(swm_rows(to, at, count).data, swm_rows(from, first, count).data, (size_t)count * frame);
}

/* Frames in front of those of x and behind them; the cache changes hands here. */
static void pad_time(swm_tensor padded, int64_t frames, const swm_conv3d *how)
{
    int64_t before = swm_conv_before(how);
    if (how->cache_filled) copy_frames(padded, 0, how->cache, 0, 2);
    for (int64_t t = 0; !how->cache_filled && t < before; t++) copy_frames(padded, t, padded, before, 1);
    if (swm_conv_after(how) > 0) copy_frames(padded, before + frames, padded, before + frames - 1, 1);
    if (swm_present(how->cache)) copy_frames(how->cache, 0, padded, padded.shape[0] - 2, 2);
}

/* ---- weights ---------------------------------------------------------------------------------------------------------- */

/* Weights of output channels first .. first+15 (zeros past the last one) and `count` input channels from `from` on, as
 * [tap][channel][16]. Nine taps: those of the three frames summed, for a picture that is its own past and future.
 * `rows` is room for 16 * PACK_PIECE * 27 floats. */
static void pack_weights(float *restrict packed, float *restrict rows, swm_tensor weight, int64_t first, int64_t from,
                         int64_t count, int taps)
{
    int64_t outputs = swm_min(BLOCK, weight.shape[0] - first), inputs = weight.shape[1];
    size_t size = swm_dtype_size(weight.dtype);
    memset(rows, 0, sizeof(float) * BLOCK * PACK_PIECE * TAPS);
    for (int64_t i0 = 0; i0 < count; i0 += PACK_PIECE) {
        int64_t piece = swm_min(PACK_PIECE, count - i0);
        for (int64_t o = 0; o < outputs; o++) {
            float *row = rows + o * PACK_PIECE * TAPS;
            const char *source = (const char *)weight.data + (size_t)(((first + o) * inputs + from + i0) * TAPS) * size;
            swm_to_f32(row, source, weight.dtype, (size_t)(piece * TAPS));
            for (int64_t i = 0; taps == 9 && i < piece; i++)
                for (int k = 0; k < 9; k++) row[i * TAPS + k] += row[i * TAPS + 9 + k] + row[i * TAPS + 18 + k];
        }
        for (int64_t i = 0; i < piece; i++)
            for (int k = 0; k < taps; k++) {
                float *to = packed + (k * count + i0 + i) * BLOCK;
                for (int o = 0; o < BLOCK; o++) to[o] = rows[o * PACK_PIECE * TAPS + i * TAPS + k];
            }
    }
}

/* ---- the product ------------------------------------------------------------------------------------------------------ */

/* Where the taps find their input, relative to the first tap of a position: `count` runs of `length` floats. */
typedef struct run_table {
    int count;
    int64_t length, offset[TAPS];
} run_table;

/* Adjacent columns are adjacent in memory, so with all channels in one piece three taps make one run. */
static run_table find_runs(swm_tensor padded, int64_t channels, int taps)
{
    int64_t column = padded.shape[3], row = column * padded.shape[2], frame = row * padded.shape[1];
    bool whole = channels == column;
    run_table runs = {.count = whole ? taps / 3 : taps, .length = whole ? 3 * channels : channels};
    for (int i = 0; i < runs.count; i++) {
        int tap = whole ? 3 * i : i;
        runs.offset[i] = tap / 9 * frame + tap / 3 % 3 * row + tap % 3 * column;
    }
    return runs;
}

/* One pass over a piece of the input channels: a range of positions of one block of output channels. */
typedef struct conv_pass {
    const float *packed;
    run_table runs;
    int64_t channel, channels, first, outputs; /* input channels, output channels */
    bool begin, end; /* start the sums at zero and add the residual, which may lie where the sums go; add the bias */
    float bias[BLOCK];
} conv_pass;

/* sums[r] = (begin ? 0 : sums[r]) + the taps of position r, 16 channels. `count` is a constant where this is inlined. */
static inline __attribute__((always_inline)) void sum_taps(float (*sums)[BLOCK], const float *const *input,
                                                           const conv_pass *pass, int count)
{
    v8 low[GROUP], high[GROUP];
    for (int r = 0; r < count; r++) {
        low[r] = pass->begin ? (v8){0} : *(const v8 *)sums[r];
        high[r] = pass->begin ? (v8){0} : *(const v8 *)(sums[r] + 8);
    }
    const float *weight = pass->packed;
    for (int k = 0; k < pass->runs.count; k++) {
        const float *x[GROUP];
        for (int r = 0; r < count; r++) x[r] = input[r] + pass->runs.offset[k];
        for (int64_t i = 0; i < pass->runs.length; i++, weight += BLOCK) {
            v8 weight_low = *(const v8 *)weight, weight_high = *(const v8 *)(weight + 8);
            for (int r = 0; r < count; r++) {
                low[r] += x[r][i] * weight_low;
                high[r] += x[r][i] * weight_high;
            }
        }
    }
    for (int r = 0; r < count; r++) {
        *(v8 *)sums[r] = low[r];
        *(v8 *)(sums[r] + 8) = high[r];
    }
}

static void sum_group(float (*sums)[BLOCK], const float *const *input, const conv_pass *pass, int count)
{
    switch (count) {
    case 1: sum_taps(sums, input, pass, 1); break;
    case 2: sum_taps(sums, input, pass, 2); break;
    case 3: sum_taps(sums, input, pass, 3); break;
    case 4: sum_taps(sums, input, pass, 4); break;
    case 5: sum_taps(sums, input, pass, 5); break;
    default: sum_taps(sums, input, pass, 6); break;
    }
}

/* Positions begin .. end-1 of the result, counted over frames, rows and columns: groups run across the ends of rows. */
static void run_pass(swm_tensor y, const swm_conv3d *how, swm_tensor padded, const conv_pass *pass, int64_t begin,
                     int64_t end)
{
    int64_t height = y.shape[1], width = y.shape[2], stride = y.shape[3], column = padded.shape[3];
    int64_t w = begin % width, h = begin / width % height, t = begin / width / height;
    const float *input[GROUP];
    float sums[GROUP][BLOCK];
    size_t bytes = (size_t)pass->outputs * sizeof(float);
    for (int64_t p = begin; p < end; p += GROUP) {
        int count = (int)swm_min(GROUP, end - p);
        float *result = swm_floats(y) + p * stride + pass->first;
        for (int r = 0; r < count; r++) {
            int64_t at = (t * padded.shape[1] + h) * padded.shape[2] + w;
            input[r] = swm_floats(padded) + at * column + pass->channel;
            if (++w == width) w = 0, h++;
            if (h == height) h = 0, t++;
            if (!pass->begin) memcpy(sums[r], result + r * stride, bytes);
        }
        sum_group(sums, input, pass, count);
        for (int r = 0; r < count; r++) {
            for (int o = 0; pass->end && o < BLOCK; o++) sums[r][o] += pass->bias[o];
            if (pass->begin && swm_present(how->residual)) {
                const float *residual = swm_floats(how->residual) + (p + r) * stride + pass->first;
                for (int64_t o = 0; o < pass->outputs; o++) sums[r][o] += residual[o];
            }
            memcpy(result + r * stride, sums[r], bytes);
        }
    }
}

/* A block of output channels over a range of positions. */
static void conv_block(swm_backend *b, swm_tensor y, const swm_conv3d *how, swm_tensor padded, int taps, int64_t first,
                       int64_t begin, int64_t end)
{
    float *rows = swm_cpu_workspace(b), *packed = rows + BLOCK * PACK_PIECE * TAPS;
    int64_t inputs = padded.shape[3];
    conv_pass pass = {.packed = packed, .first = first, .outputs = swm_min(BLOCK, y.shape[3] - first)};
    size_t bias = (size_t)first * swm_dtype_size(how->bias.dtype);
    swm_to_f32(pass.bias, (const char *)how->bias.data + bias, how->bias.dtype, (size_t)pass.outputs);
    for (int64_t channel = 0; channel < inputs; channel += CHANNEL_PIECE) {
        pass.channel = channel;
        pass.channels = swm_min(CHANNEL_PIECE, inputs - channel);
        pass.begin = channel == 0;
        pass.end = channel + pass.channels == inputs;
        pass.runs = find_runs(padded, pass.channels, taps);
        pack_weights(packed, rows, how->weight, first, channel, pass.channels, taps);
        run_pass(y, how, padded, &pass, begin, end);
    }
}

void swm_cpu_conv(swm_backend *b, swm_tensor y, swm_tensor x, const swm_conv3d *how, swm_tensor padded)
{
    int64_t frames = x.shape[0];
    /* A video of one frame, repeated on both sides: sum the weights over time instead of the products. A span of one
     * frame is no such thing, for it has to give the same bits as a longer one. */
    bool still = frames == 1 && !swm_present(how->cache);
    pad_frames(b, padded, still ? 0 : swm_conv_before(how), x, how);
    if (!still) pad_time(padded, frames, how);
    if (swm_count(y) == 0) return;

    int taps = still ? 9 : TAPS;
    int64_t positions = y.shape[0] * x.shape[1] * x.shape[2], blocks = swm_divide_up(y.shape[3], BLOCK);
    /* Every range packs the weights again, which has to stay small beside its work: a few hundred positions at least. */
    int64_t ranges = swm_min(swm_divide_up(4 * b->threads, blocks), swm_max(1, positions / 256));
    int threads = threads_for(b, positions * taps * x.shape[3] * y.shape[3], SMALL_PRODUCT);
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int64_t job = 0; job < blocks * ranges; job++) {
        int64_t range = job % ranges;
        conv_block(b, y, how, padded, taps, job / ranges * BLOCK, positions * range / ranges,
                   positions * (range + 1) / ranges);
    }
}

/* ---- depthwise convolution and gate ------------------------------------------------------------------------------------ */

enum {
    COLUMNS = 4
}; /* neighbouring columns share their weights: 4 sums of a vector need 3 weights and 6 inputs a row */

/* sums[w][c] = bias[c] + the 9 taps of column w, for channels 0 .. count-1. input[r][k]: row r of the taps, column k - 1;
 * weights [9][stride]. */
static void sum_columns(float *restrict sums, const float *const (*input)[COLUMNS + 2], const float *weights,
                        int64_t stride, const float *bias, int64_t count)
{
    int64_t c = 0;
    for (; c + 8 <= count; c += 8) {
        v8 sum[COLUMNS];
        for (int w = 0; w < COLUMNS; w++) sum[w] = *(const v8 *)(bias + c);
        for (int r = 0; r < 3; r++)
            for (int k = 0; k < 3; k++) {
                v8 weight = *(const v8 *)(weights + (3 * r + k) * stride + c);
                for (int w = 0; w < COLUMNS; w++) sum[w] += *(const v8 *)(input[r][w + k] + c) * weight;
            }
        for (int w = 0; w < COLUMNS; w++) *(v8 *)(sums + w * count + c) = sum[w];
    }
    for (; c < count; c++)
        for (int w = 0; w < COLUMNS; w++) {
            float sum = bias[c];
            for (int k = 0; k < 9; k++) sum += input[k / 3][w + k % 3][c] * weights[k * stride + c];
            sums[w * count + c] = sum;
        }
}

/* Weights (2F,1,3,3) and bias as floats [9][2F], [2F], then 2F zeros that stand for everything outside of the picture. */
static void pack_depthwise(float *restrict packed, swm_tensor weight, swm_tensor bias)
{
    int64_t channels = weight.shape[0];
    const char *source = weight.data;
    for (int64_t c = 0; c < channels; c++) {
        float taps[9];
        swm_to_f32(taps, source + (size_t)(9 * c) * swm_dtype_size(weight.dtype), weight.dtype, 9);
        for (int k = 0; k < 9; k++) packed[k * channels + c] = taps[k];
    }
    swm_to_f32(packed + 9 * channels, bias.data, bias.dtype, (size_t)channels);
    memset(packed + 10 * channels, 0, (size_t)channels * sizeof(float));
}

/* Row h of a frame: `frame` (h*w,2F) to `y` (w,F). `work` is room for 2 * COLUMNS * F floats. */
static void depthwise_row(float *restrict y, const float *frame, const float *packed, float *restrict work, int64_t row,
                          int64_t height, int64_t width, int64_t channels)
{
    int64_t half = channels / 2;
    float *value = work, *gate = work + COLUMNS * half;
    const float *bias = packed + 9 * channels, *zeros = packed + 10 * channels;
    for (int64_t w = 0; w < width; w += COLUMNS) {
        const float *input[2][3][COLUMNS + 2];
        for (int r = 0; r < 3; r++)
            for (int k = 0; k < COLUMNS + 2; k++) {
                int64_t h = row + r - 1, column = w + k - 1;
                bool inside = h >= 0 && h < height && column >= 0 && column < width;
                input[0][r][k] = inside ? frame + (h * width + column) * channels : zeros;
                input[1][r][k] = input[0][r][k] + half;
            }
        sum_columns(value, (const float *const(*)[COLUMNS + 2]) input[0], packed, channels, bias, half);
        sum_columns(gate, (const float *const(*)[COLUMNS + 2]) input[1], packed + half, channels, bias + half, half);
        int64_t count = swm_min(COLUMNS, width - w) * half;
        float *restrict to = y + w * half;
        for (int64_t i = 0; i < count; i++) to[i] = value[i] * swm_silu_of(gate[i]);
    }
}

void swm_cpu_depthwise_glu(swm_backend *b, swm_tensor y, swm_tensor x, swm_tensor weight, swm_tensor bias, int64_t h,
                           int64_t w)
{
    int64_t channels = x.shape[1], rows = x.shape[0] / w;
    int64_t packed = 11 * channels; /* floats of pack_depthwise */
    SWM_REQUIRE(packed + COLUMNS * channels <= SWM_CPU_WORKSPACE, "depthwise convolution of %lld channels",
                (long long)channels);
    int threads = threads_for(b, 9 * swm_count(x), SMALL_PRODUCT);
#pragma omp parallel num_threads(threads)
    {
        float *work = swm_cpu_workspace(b);
        pack_depthwise(work, weight, bias);
#pragma omp for schedule(static)
        for (int64_t r = 0; r < rows; r++)
            depthwise_row(swm_floats(y) + r * w * (channels / 2), swm_floats(x) + r / h * h * w * channels, work,
                          work + packed, r % h, h, w, channels);
    }
}
