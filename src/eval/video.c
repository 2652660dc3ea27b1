/* Likeness and flicker of pictures and videos. See video.h. */
#include "eval/video.h"

#include "io/video.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    HALF = SWM_SSIM_SIDE / 2,
    MOMENTS = 5, /* x, y, x^2, y^2, xy */
    BAND = 32    /* rows a thread takes at a time */
};

double swm_mean_squared_error(const uint8_t *a, const uint8_t *b, int width, int height)
{
    /* Whole numbers: exact, whatever the order. */
    uint64_t sum = 0;
    const size_t count = (size_t)width * (size_t)height * 3;
    for (size_t i = 0; i < count; i++) sum += (uint64_t)((a[i] - b[i]) * (a[i] - b[i]));
    return (double)sum / (double)count;
}

double swm_mean_absolute_error(const uint8_t *a, const uint8_t *b, int width, int height)
{
    uint64_t sum = 0;
    const size_t count = (size_t)width * (size_t)height * 3;
    for (size_t i = 0; i < count; i++) sum += (uint64_t)abs(a[i] - b[i]);
    return (double)sum / (double)count;
}

double swm_psnr(double mean_squared_error)
{
    return mean_squared_error < 1e-10 ? SWM_PSNR_SAME : 10 * log10(255.0 * 255.0 / mean_squared_error);
}

/* ---- structural similarity -------------------------------------------------------------------------------------- */

static void window_weights(double weights[SWM_SSIM_SIDE], swm_ssim_window window)
{
    const double sigma = 1.5;
    double sum = 0;
    for (int i = 0; i < SWM_SSIM_SIDE; i++) {
        const double x = i - HALF;
        weights[i] = window == SWM_SSIM_GAUSSIAN ? exp(-x * x / (2 * sigma * sigma)) : 1;
        sum += weights[i];
    }
    for (int i = 0; i < SWM_SSIM_SIDE; i++) weights[i] /= sum;
}

/* Index of a picture mirrored at its edges, edge pixels twice; |excess| is less than the size. */
static int mirrored(int i, int size) { return i < 0 ? -1 - i : i >= size ? 2 * size - 1 - i : i; }

static void add_weighted(double *restrict out, const double *restrict in, double weight, int count)
{
    for (int i = 0; i < count; i++) out[i] += weight * in[i];
}

/* The five moments of one channel's row, weighted along x: out[MOMENTS][width], zeroed before. `line` holds
 * MOMENTS x (width + 2 HALF). */
static void blur_row(double *out, double *line, const uint8_t *a, const uint8_t *b, int width,
                     const double weights[SWM_SSIM_SIDE])
{
    const int padded = width + 2 * HALF;
    for (int i = 0; i < padded; i++) {
        const int source = 3 * mirrored(i - HALF, width);
        const double x = a[source], y = b[source], moments[MOMENTS] = {x, y, x * x, y * y, x * y};
        for (int j = 0; j < MOMENTS; j++) line[j * padded + i] = moments[j];
    }
    for (int j = 0; j < MOMENTS; j++)
        for (int k = 0; k < SWM_SSIM_SIDE; k++) add_weighted(out + j * width, line + j * padded + k, weights[k], width);
}

/* Sum of the similarity over the windows with moments m[MOMENTS][width] at `margin` .. width - margin. */
static double compare_row(const double *m, int width, int margin)
{
    const double c1 = (0.01 * 255) * (0.01 * 255), c2 = (0.03 * 255) * (0.03 * 255);
    double sum = 0;
    for (int i = margin; i < width - margin; i++) {
        const double x = m[i], y = m[width + i];
        const double xx = m[2 * width + i] - x * x, yy = m[3 * width + i] - y * y, xy = m[4 * width + i] - x * y;
        sum += (2 * x * y + c1) * (2 * xy + c2) / ((x * x + y * y + c1) * (xx + yy + c2));
    }
    return sum;
}

/* One channel of two pictures, and what both passes over them share. */
typedef struct channel {
    const uint8_t *a, *b;
    int width, height, margin;
    double weights[SWM_SSIM_SIDE];
} channel;

/* Sums of the similarity along rows first .. last - 1. A band at a time keeps the moments, 40 bytes a pixel, small. */
static int compare_band(double *sums, const channel *c, int first, int last)
{
    const size_t row = MOMENTS * (size_t)c->width, line = MOMENTS * ((size_t)c->width + 2 * HALF);
    const size_t rows = (size_t)(last - first) + 2 * HALF;
    double *blurred = swm_allocate(NULL, (rows + 1) * row + line, sizeof(double));
    if (blurred == NULL) return -1;
    double *moments = blurred + rows * row;
    for (int y = first - HALF; y < last + HALF; y++) {
        const size_t at = (size_t)mirrored(y, c->height) * (size_t)c->width * 3;
        blur_row(blurred + (size_t)(y - first + HALF) * row, moments + row, c->a + at, c->b + at, c->width, c->weights);
    }
    for (int y = first; y < last; y++) {
        memset(moments, 0, row * sizeof(double));
        for (int k = 0; k < SWM_SSIM_SIDE; k++)
            add_weighted(moments, blurred + (size_t)(y - first + k) * row, c->weights[k], (int)row);
        sums[y] = compare_row(moments, c->width, c->margin);
    }
    free(blurred);
    return 0;
}

int swm_ssim(double *ssim, const uint8_t *a, const uint8_t *b, int width, int height, swm_ssim_window window,
             swm_error *error)
{
    if (width < SWM_SSIM_SIDE || height < SWM_SSIM_SIDE)
        return swm_fail(error, "SSIM of %dx%d pixels; its window needs at least %dx%d", width, height, SWM_SSIM_SIDE,
                        SWM_SSIM_SIDE);
    const int margin = window == SWM_SSIM_GAUSSIAN ? HALF : 0, top = margin, bottom = height - margin;
    channel c = {.width = width, .height = height, .margin = margin};
    window_weights(c.weights, window);
    double *sums = swm_allocate(error, (size_t)height, sizeof(double)), total = 0;
    if (sums == NULL) return -1;
    int failures = 0;
    for (int k = 0; k < 3; k++) {
        c.a = a + k;
        c.b = b + k;
#pragma omp parallel for schedule(dynamic) reduction(+ : failures)
        for (int y = top; y < bottom; y += BAND)
            failures += compare_band(sums, &c, y, y + BAND < bottom ? y + BAND : bottom) < 0;
        for (int y = top; y < bottom; y++) total += sums[y];
    }
    free(sums);
    if (failures > 0) return swm_fail(error, "out of memory comparing %dx%d pixels", width, height);
    *ssim = total / (3.0 * (width - 2 * margin) * (height - 2 * margin));
    return 0;
}

/* ---- videos ----------------------------------------------------------------------------------------------------- */

const char *swm_video_metric_name(int metric)
{
    static const char *const names[SWM_VIDEO_METRICS] = {"psnr_db",   "ssim",      "ssim_uniform",
                                                         "flicker_a", "flicker_b", "flicker_difference"};
    return names[metric];
}

typedef struct pair {
    swm_video_reader *readers[2];
    swm_video_info info[2];
    const char *paths[2];
    uint8_t *frames[2], *before[2]; /* before: of frame n - 1 */
    int64_t room;
} pair;

static int open_pair(pair *p, swm_error *error)
{
    for (int i = 0; i < 2; i++) {
        p->readers[i] = swm_video_reader_open(p->paths[i], &p->info[i], error);
        if (p->readers[i] == NULL) return -1;
    }
    const swm_video_info *a = &p->info[0], *b = &p->info[1];
    if (a->width != b->width || a->height != b->height)
        return swm_fail(error, "%.300s is %dx%d pixels, %.300s is %dx%d; only videos of one size can be compared",
                        p->paths[0], a->width, a->height, p->paths[1], b->width, b->height);
    for (int i = 0; i < 2; i++) {
        const size_t size = (size_t)a->width * (size_t)a->height * 3;
        if ((p->frames[i] = swm_allocate(error, size, 1)) == NULL) return -1;
        if ((p->before[i] = swm_allocate(error, size, 1)) == NULL) return -1;
    }
    return 0;
}

static void close_pair(pair *p)
{
    for (int i = 0; i < 2; i++) {
        swm_video_reader_close(p->readers[i]);
        free(p->frames[i]);
        free(p->before[i]);
    }
}

/* Mean absolute change of A - B from one frame to the next. */
static double flicker_of_difference(const pair *p)
{
    uint64_t sum = 0;
    const size_t count = (size_t)p->info[0].width * (size_t)p->info[0].height * 3;
    for (size_t i = 0; i < count; i++)
        sum += (uint64_t)abs((p->frames[0][i] - p->before[0][i]) - (p->frames[1][i] - p->before[1][i]));
    return (double)sum / (double)count;
}

static int make_room(swm_video_errors *errors, pair *p, swm_error *error)
{
    if (errors->count < p->room) return 0;
    const int64_t room = p->room > 0 ? 2 * p->room : 256;
    for (int m = 0; m < SWM_VIDEO_METRICS; m++) {
        double *values = swm_allocate(error, (size_t)room, sizeof(double));
        if (values == NULL) return -1;
        if (errors->count > 0) memcpy(values, errors->values[m], (size_t)errors->count * sizeof(double));
        free(errors->values[m]);
        errors->values[m] = values;
    }
    p->room = room;
    return 0;
}

static int compare_frames(swm_video_errors *errors, pair *p, swm_error *error)
{
    const int w = errors->width, h = errors->height;
    const int64_t n = errors->count;
    const uint8_t *a = p->frames[0], *b = p->frames[1];
    double **values = errors->values;
    const double squared = swm_mean_squared_error(a, b, w, h);
    if (make_room(errors, p, error) < 0 ||
        swm_ssim(&values[SWM_VIDEO_SSIM][n], a, b, w, h, SWM_SSIM_GAUSSIAN, error) < 0 ||
        swm_ssim(&values[SWM_VIDEO_SSIM_UNIFORM][n], a, b, w, h, SWM_SSIM_UNIFORM, error) < 0)
        return -1;
    values[SWM_VIDEO_PSNR][n] = swm_psnr(squared);
    values[SWM_VIDEO_FLICKER_A][n] = n > 0 ? swm_mean_absolute_error(a, p->before[0], w, h) : (double)NAN;
    values[SWM_VIDEO_FLICKER_B][n] = n > 0 ? swm_mean_absolute_error(b, p->before[1], w, h) : (double)NAN;
    values[SWM_VIDEO_FLICKER_DIFFERENCE][n] = n > 0 ? flicker_of_difference(p) : (double)NAN;
    errors->mean_squared_error += squared;
    errors->count++;
    return 0;
}

static int compare_all(swm_video_errors *errors, pair *p, swm_eval_progress progress, void *user, swm_error *error)
{
    for (;;) {
        int got[2];
        for (int i = 0; i < 2; i++) {
            got[i] = swm_video_reader_next(p->readers[i], p->frames[i], error);
            if (got[i] < 0) return -1;
        }
        if (got[0] != got[1])
            return swm_fail(error, "%.300s ends after %lld frames, %.300s goes on; cut them to the same frames",
                            p->paths[got[0] == 0 ? 0 : 1], (long long)errors->count, p->paths[got[0] == 0 ? 1 : 0]);
        if (got[0] == 0) break;
        if (compare_frames(errors, p, error) < 0) return -1;
        for (int i = 0; i < 2; i++) {
            uint8_t *spare = p->before[i];
            p->before[i] = p->frames[i];
            p->frames[i] = spare;
        }
        if (progress != NULL && progress(user, errors->count) != 0) return swm_fail(error, "stopped");
    }
    if (errors->count == 0) return swm_fail(error, "%.300s holds no frame", p->paths[0]);
    errors->mean_squared_error /= (double)errors->count;
    return 0;
}

int swm_video_errors_compute(swm_video_errors *errors, const char *a, const char *b, swm_eval_progress progress,
                             void *user, swm_error *error)
{
    *errors = (swm_video_errors){0};
    pair p = {.paths = {a, b}};
    int status = open_pair(&p, error);
    if (status == 0) {
        errors->width = p.info[0].width;
        errors->height = p.info[0].height;
        errors->fps = p.info[0].fps;
        status = compare_all(errors, &p, progress, user, error);
    }
    close_pair(&p);
    if (status < 0) swm_video_errors_free(errors);
    return status;
}

void swm_video_errors_free(swm_video_errors *errors)
{
    for (int m = 0; m < SWM_VIDEO_METRICS; m++) free(errors->values[m]);
    *errors = (swm_video_errors){0};
}
