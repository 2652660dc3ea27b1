/* Shuffles of video volumes (T,H,W,C) on the CPU: between space and channels, between tiles and pictures, to pixels. */
#include "cpu/cpu.h"

#include <string.h>

/* A small op is done before a second thread has woken up. */
static int threads_for(const swm_backend *b, swm_tensor result) { return swm_count(result) < 1 << 13 ? 1 : b->threads; }

void swm_cpu_upsample_merge(swm_backend *b, swm_tensor out, swm_tensor y, swm_tensor x, bool drop_first)
{
    int64_t height = y.shape[1], width = y.shape[2], channels = out.shape[3], repeat = x.shape[3] / 8;
    int64_t rows = y.shape[0] * height;
#pragma omp parallel for num_threads(threads_for(b, out)) schedule(static)
    for (int64_t row = 0; row < rows; row++)
        for (int64_t w = 0; w < width; w++) {
            const float *learned = swm_floats(y) + (row * width + w) * 8 * channels;
            const float *kept = swm_floats(x) + (row * width + w) * 8 * repeat;
            for (int cell = 0; cell < 8; cell++) {
                int64_t t = 2 * (row / height) + cell / 4 - (drop_first ? 1 : 0);
                int64_t to_row = t * 2 * height + 2 * (row % height) + cell / 2 % 2;
                if (t < 0) continue;
                float *restrict to = swm_floats(out) + (to_row * 2 * width + 2 * w + cell % 2) * channels;
                for (int64_t c = 0; c < channels; c += repeat)
                    for (int64_t k = 0; k < repeat; k++) to[c + k] = learned[8 * (c + k) + cell] + kept[8 * k + cell];
            }
        }
}

void swm_cpu_downsample_merge(swm_backend *b, swm_tensor out, swm_tensor y, swm_tensor x, const int stride[3])
{
    int64_t height = out.shape[1], width = out.shape[2], rows = out.shape[0] * height;
    int64_t cells = (int64_t)stride[0] * stride[1] * stride[2], learned = y.shape[3], kept = x.shape[3];
    int64_t group = kept * cells / out.shape[3];
#pragma omp parallel for num_threads(threads_for(b, out)) schedule(static)
    for (int64_t row = 0; row < rows; row++)
        for (int64_t w = 0; w < width; w++) {
            float *restrict to = swm_floats(out) + (row * width + w) * out.shape[3];
            memset(to, 0, (size_t)out.shape[3] * sizeof(float));
            for (int64_t cell = 0; cell < cells; cell++) { /* time, row, column; column fastest */
                int64_t t = row / height * stride[0] + cell / (stride[1] * stride[2]);
                int64_t h = row % height * stride[1] + cell / stride[2] % stride[1];
                int64_t at = (t * y.shape[1] + h) * y.shape[2] + w * stride[2] + cell % stride[2];
                const float *from_y = swm_floats(y) + at * learned, *from_x = swm_floats(x) + at * kept;
                for (int64_t c = 0; c < kept; c++) to[(c * cells + cell) / group] += from_x[c] / (float)group;
                for (int64_t c = 0; c < learned; c++) to[c * cells + cell] += from_y[c];
            }
        }
}

/* Copies between pixels (F,4H,4W,C) and patches (F,H,W,16C): channel c*16 + dx*4 + dy, the ROW offset dy fastest. */
static void exchange_patches(swm_backend *b, swm_tensor patches, swm_tensor picture, bool to_patches)
{
    int64_t rows = patches.shape[0] * patches.shape[1], width = patches.shape[2], colours = picture.shape[3];
#pragma omp parallel for num_threads(threads_for(b, patches)) schedule(static)
    for (int64_t row = 0; row < rows; row++)
        for (int64_t w = 0; w < width; w++) {
            float *patch = swm_floats(patches) + (row * width + w) * 16 * colours;
            for (int64_t dy = 0; dy < 4; dy++)
                for (int64_t dx = 0; dx < 4; dx++)
                    for (int64_t c = 0; c < colours; c++) {
                        float *pixel = swm_floats(picture) + (((4 * row + dy) * width + w) * 4 + dx) * colours + c;
                        float *element = patch + 16 * c + 4 * dx + dy;
                        if (to_patches)
                            *element = *pixel;
                        else
                            *pixel = *element;
                    }
        }
}

void swm_cpu_patchify(swm_backend *b, swm_tensor y, swm_tensor x) { exchange_patches(b, y, x, true); }

void swm_cpu_unpatchify(swm_backend *b, swm_tensor y, swm_tensor x) { exchange_patches(b, x, y, false); }

void swm_cpu_blend(swm_backend *b, swm_tensor tile, swm_tensor before, int axis, int64_t extent)
{
    int64_t outer = 1, inner = 1, length = tile.shape[axis], old = before.shape[axis];
    for (int i = 0; i < axis; i++) outer *= tile.shape[i];
    for (int i = axis + 1; i < 4; i++) inner *= tile.shape[i];
#pragma omp parallel for num_threads(threads_for(b, tile)) schedule(static) collapse(2)
    for (int64_t o = 0; o < outer; o++)
        for (int64_t k = 0; k < extent; k++) {
            float share = (float)k / (float)extent;
            float *restrict to = swm_floats(tile) + (o * length + k) * inner;
            const float *restrict from = swm_floats(before) + (o * old + old - extent + k) * inner;
            for (int64_t i = 0; i < inner; i++) to[i] = from[i] * (1.0f - share) + to[i] * share;
        }
}

void swm_cpu_paste(swm_backend *b, swm_tensor to, const int64_t at[4], swm_tensor x, const int64_t from[4],
                   const int64_t box[4])
{
    size_t size = swm_dtype_size(x.dtype), run = (size_t)box[3] * size;
    int64_t rows = box[0] * box[1];
#pragma omp parallel for num_threads(threads_for(b, x)) schedule(static)
    for (int64_t row = 0; row < rows; row++)
        for (int64_t w = 0; w < box[2]; w++) {
            int64_t t = row / box[1], h = row % box[1];
            int64_t target = ((at[0] + t) * to.shape[1] + at[1] + h) * to.shape[2] + at[2] + w;
            int64_t source = ((from[0] + t) * x.shape[1] + from[1] + h) * x.shape[2] + from[2] + w;
            memcpy((char *)to.data + (size_t)(target * to.shape[3] + at[3]) * size,
                   (const char *)x.data + (size_t)(source * x.shape[3] + from[3]) * size, run);
        }
}

void swm_cpu_pixels(swm_backend *b, swm_tensor y, swm_tensor x, bool truncate)
{
    int64_t count = swm_count(x);
    uint8_t *restrict to = y.data;
    const float *restrict from = swm_floats(x);
    float half = truncate ? 0.0f : 0.5f;
#pragma omp parallel for num_threads(threads_for(b, x)) schedule(static)
    for (int64_t i = 0; i < count; i++) {
        float value = 127.5f * from[i] + 127.5f;
        value = value > 0.0f ? value : 0.0f; /* NaN becomes black */
        to[i] = (uint8_t)((value < 255.0f ? value : 255.0f) + half);
    }
}
