/* The part of io/image.h that needs no codec: making pictures, and Lanczos resampling as Pillow does it. */
#include "io/image.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- images ---------------------------------------------------------------------------------------------------- */

int swm_image_make(swm_image *image, int width, int height, swm_error *error)
{
    *image = (swm_image){0};
    if (width < 1 || height < 1 || width > SWM_IMAGE_SIDE || height > SWM_IMAGE_SIDE ||
        (int64_t)width * height > SWM_IMAGE_AREA)
        return swm_fail(error, "a picture of %d x %d pixels is not possible: sides are 1 to %d, the area at most 2^30",
                        width, height, SWM_IMAGE_SIDE);
    image->rgb = swm_allocate(error, (size_t)width * (size_t)height, 3);
    if (image->rgb == NULL) return -1;
    image->width = width;
    image->height = height;
    return 0;
}

void swm_image_free(swm_image *image)
{
    free(image->rgb);
    *image = (swm_image){0};
}

/* ---- resampling ------------------------------------------------------------------------------------------------ */

/* Fixed-point weights of the outputs first .. first+count-1 of a pass over one dimension. Their number is bounded by
 * the input's size: an output's share of taps shrinks as outputs become more. */
typedef struct resampler {
    int count, taps;
    int *low, *used; /* [count] first input and number of inputs of each output */
    int32_t *weight; /* [count][taps], 22 fractional bits */
} resampler;

static double sinc(double x) { return x == 0.0 ? 1.0 : sin(x * M_PI) / (x * M_PI); }
static double lanczos(double x) { return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3.0) : 0.0; }

static void resampler_free(resampler *r)
{
    free(r->low);
    free(r->used);
    free(r->weight);
    *r = (resampler){0};
}

/* size_in inputs to size_out outputs, of which only a window is wanted. Every operation keeps Pillow's order and
 * rounding. */
static int resampler_make(resampler *r, int size_in, int size_out, int first, int count, swm_error *error)
{
    double scale = (double)size_in / (double)size_out, filter = scale > 1.0 ? scale : 1.0, support = 3.0 * filter;
    *r = (resampler){.count = count, .taps = (int)ceil(support) * 2 + 1};
    size_t taps = (size_t)r->taps;
    r->low = swm_allocate(error, (size_t)count, sizeof *r->low);
    r->used = swm_allocate(error, (size_t)count, sizeof *r->used);
    r->weight = swm_allocate(error, (size_t)count * taps, sizeof *r->weight);
    double *exact = swm_allocate(error, taps, sizeof *exact);
    if (r->low == NULL || r->used == NULL || r->weight == NULL || exact == NULL) {
        free(exact);
        resampler_free(r);
        return -1;
    }
    for (int i = 0; i < count; i++) {
        double centre = (first + i + 0.5) * scale, sum = 0.0;
        int low = (int)(centre - support + 0.5), high = (int)(centre + support + 0.5);
        if (low < 0) low = 0;
        if (high > size_in) high = size_in;
        for (int k = 0; k < high - low; k++) sum += exact[k] = lanczos((k + low - centre + 0.5) * (1.0 / filter));
        for (int k = 0; k < high - low; k++) {
            double w = exact[k] / sum * 4194304.0;
            r->weight[(size_t)i * taps + (size_t)k] = (int32_t)(w + (w < 0 ? -0.5 : 0.5));
        }
        r->low[i] = low;
        r->used[i] = high - low;
    }
    free(exact);
    return 0;
}

/* Input rows first_row .. of `in` to [rows][r->count][3]. */
static void resample_across(uint8_t *out, const swm_image *in, int first_row, int rows, const resampler *r)
{
#pragma omp parallel for schedule(static)
    for (int y = 0; y < rows; y++) {
        const uint8_t *source = in->rgb + (size_t)(first_row + y) * (size_t)in->width * 3;
        uint8_t *target = out + (size_t)y * (size_t)r->count * 3;
        for (int x = 0; x < r->count; x++, target += 3) {
            const int32_t *weight = r->weight + (size_t)x * (size_t)r->taps;
            const uint8_t *pixel = source + (size_t)r->low[x] * 3;
            int32_t red = 1 << 21, green = 1 << 21, blue = 1 << 21;
            for (int k = 0; k < r->used[x]; k++, pixel += 3) {
                red += weight[k] * pixel[0];
                green += weight[k] * pixel[1];
                blue += weight[k] * pixel[2];
            }
            target[0] = swm_clamp_byte(red >> 22);
            target[1] = swm_clamp_byte(green >> 22);
            target[2] = swm_clamp_byte(blue >> 22);
        }
    }
}

/* [..][row_size] whose first row is input row `first_row` to [r->count][row_size]. */
static void resample_down(uint8_t *out, const uint8_t *in, size_t row_size, int first_row, const resampler *r)
{
#pragma omp parallel for schedule(static)
    for (int y = 0; y < r->count; y++) {
        const int32_t *weight = r->weight + (size_t)y * (size_t)r->taps;
        const uint8_t *source = in + (size_t)(r->low[y] - first_row) * row_size;
        uint8_t *target = out + (size_t)y * row_size;
        for (size_t x = 0; x < row_size; x++) {
            int32_t sum = 1 << 21;
            for (int k = 0; k < r->used[y]; k++) sum += weight[k] * source[(size_t)k * row_size + x];
            target[x] = swm_clamp_byte(sum >> 22);
        }
    }
}

/* The window out->width x out->height at (fit.left, fit.top) of the resized picture; out is made and its size set. A
 * pass whose dimension keeps its size only copies. Columns go first, and only in the rows that the second pass reads:
 * a strip of 65500 x 1 pixels would otherwise become 46 million pixels wide. */
static int resample_window(swm_image *out, const swm_image *in, swm_fit fit, swm_error *error)
{
    resampler down = {0}, across = {0};
    bool scale_down = fit.resized_height != in->height, scale_across = fit.resized_width != in->width;
    size_t row_size = (size_t)out->width * 3;
    uint8_t *middle = NULL;
    int result = 0, first = fit.top, rows = out->height;
    if (scale_down) {
        result = resampler_make(&down, in->height, fit.resized_height, fit.top, out->height, error);
        if (result == 0) {
            first = down.low[0];
            rows = down.low[out->height - 1] + down.used[out->height - 1] - first;
        }
    }
    if (result == 0 && scale_across)
        result = resampler_make(&across, in->width, fit.resized_width, fit.left, out->width, error);
    if (result == 0 && scale_down) middle = swm_allocate(error, (size_t)rows, row_size);
    if (scale_down && middle == NULL) result = -1;
    if (result == 0) {
        uint8_t *target = scale_down ? middle : out->rgb;
        if (scale_across) resample_across(target, in, first, rows, &across);
        for (int y = 0; !scale_across && y < rows; y++)
            memcpy(target + (size_t)y * row_size,
                   in->rgb + ((size_t)(first + y) * (size_t)in->width + (size_t)fit.left) * 3, row_size);
        if (scale_down) resample_down(out->rgb, middle, row_size, first, &down);
    }
    free(middle);
    resampler_free(&across);
    resampler_free(&down);
    if (result != 0) swm_image_free(out);
    return result;
}

int swm_image_resize(swm_image *out, const swm_image *in, int width, int height, swm_error *error)
{
    if (swm_image_make(out, width, height, error) != 0) return -1;
    swm_fit fit = {in->width, in->height, width, height, 0, 0};
    return resample_window(out, in, fit, error);
}

swm_fit swm_image_fit(int source_width, int source_height, int target_width, int target_height)
{
    SWM_REQUIRE(source_width >= 1 && source_height >= 1 && source_width <= SWM_IMAGE_SIDE &&
                    source_height <= SWM_IMAGE_SIDE,
                "source %d x %d", source_width, source_height);
    SWM_REQUIRE(target_width >= 1 && target_height >= 1 && target_width <= SWM_FIT_SIDE &&
                    target_height <= SWM_FIT_SIDE,
                "target %d x %d", target_width, target_height);
    double scale = fmax((double)target_height / source_height, (double)target_width / source_width);
    /* rint rounds halves to even, as Python's round does. */
    int width = (int)rint(source_width * scale), height = (int)rint(source_height * scale);
    if (width < target_width) width = target_width;
    if (height < target_height) height = target_height;
    return (swm_fit){
        source_width, source_height, width, height, (width - target_width) / 2, (height - target_height) / 2};
}

int swm_image_fit_to(swm_image *out, swm_fit *fit, const swm_image *in, int target_width, int target_height,
                     swm_error *error)
{
    *out = (swm_image){0};
    *fit = (swm_fit){0};
    if (target_width < 1 || target_height < 1 || target_width > SWM_FIT_SIDE || target_height > SWM_FIT_SIDE)
        return swm_fail(error, "a picture cannot be fitted to %d x %d pixels; sides are 1 to %d", target_width,
                        target_height, SWM_FIT_SIDE);
    *fit = swm_image_fit(in->width, in->height, target_width, target_height);
    if (swm_image_make(out, target_width, target_height, error) != 0) return -1;
    return resample_window(out, in, *fit, error);
}
