/* Norms, the per-frame modulation around them, and what is done to heads before and after they mix tokens. */
#include "cpu/cpu.h"

#include <math.h>

void swm_cpu_modulation(swm_backend *b, swm_tensor y, swm_tensor t, swm_tensor table)
{
    const float *table_values = swm_cpu_vector(b, 0, table), *t_values = swm_floats(t);
    float *out = swm_floats(y);
    int64_t frames = y.shape[0], rows = y.shape[1], channels = y.shape[2], t_rows = t.shape[1];
    for (int64_t f = 0; f < frames; f++)
        for (int64_t r = 0; r < rows; r++) {
            const float *source = t_values + (f * t_rows + (t_rows > 1 ? r : 0)) * channels;
            for (int64_t c = 0; c < channels; c++)
                out[(f * rows + r) * channels + c] = source[c] + table_values[r * channels + c];
        }
}

/* Row `row` of the frame that token `n` of `tokens` belongs to. */
static const float *frame_row(swm_tensor modulation, int64_t n, int64_t tokens, int row)
{
    int64_t frame = n / (tokens / modulation.shape[0]);
    return swm_floats(modulation) + (frame * modulation.shape[1] + row) * modulation.shape[2];
}

void swm_cpu_adaptive_norm(swm_backend *b, swm_tensor y, swm_tensor x, swm_tensor modulation, int shift_row,
                           int scale_row, bool centred)
{
    int64_t tokens = x.shape[0], channels = x.shape[1];
#pragma omp parallel for num_threads(b->threads) if (tokens * channels > SWM_CPU_WORTH_SHARING)
    for (int64_t n = 0; n < tokens; n++) {
        const float *in = swm_floats(x) + n * channels;
        float *out = swm_floats(y) + n * channels;
        const float *shift = frame_row(modulation, n, tokens, shift_row);
        const float *scale = frame_row(modulation, n, tokens, scale_row);
        float sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t c = 0; c < channels; c++) sum += in[c];
        float mean = centred ? sum / (float)channels : 0.0f;
#pragma omp simd reduction(+ : squares)
        for (int64_t c = 0; c < channels; c++) squares += (in[c] - mean) * (in[c] - mean);
        float inverse = 1.0f / sqrtf(squares / (float)channels + 1e-6f);
        for (int64_t c = 0; c < channels; c++) out[c] = (in[c] - mean) * inverse * (1.0f + scale[c]) + shift[c];
    }
}

void swm_cpu_gated_add(swm_backend *b, swm_tensor sum, swm_tensor y, swm_tensor modulation, int gate_row)
{
    int64_t tokens = sum.shape[0], channels = sum.shape[1];
#pragma omp parallel for num_threads(b->threads) if (tokens * channels > SWM_CPU_WORTH_SHARING)
    for (int64_t n = 0; n < tokens; n++) {
        float *out = swm_floats(sum) + n * channels;
        const float *in = swm_floats(y) + n * channels, *gate = frame_row(modulation, n, tokens, gate_row);
        for (int64_t c = 0; c < channels; c++) out[c] += gate[c] * in[c];
    }
}

static float inverse_rms(const float *x, int64_t count, float epsilon)
{
    float squares = 0;
#pragma omp simd reduction(+ : squares)
    for (int64_t c = 0; c < count; c++) squares += x[c] * x[c];
    return 1.0f / sqrtf(squares / (float)count + epsilon);
}

void swm_cpu_rms_norm(swm_backend *b, swm_tensor y, swm_tensor x, swm_tensor weight, float epsilon, float offset)
{
    int64_t channels = swm_last(x), rows = swm_count(x) / channels;
    const float *w = swm_present(weight) ? swm_cpu_vector(b, 0, weight) : NULL;
#pragma omp parallel for num_threads(b->threads) if (rows * channels > SWM_CPU_WORTH_SHARING)
    for (int64_t n = 0; n < rows; n++) {
        const float *in = swm_floats(x) + n * channels;
        float *out = swm_floats(y) + n * channels, inverse = inverse_rms(in, channels, epsilon);
        for (int64_t c = 0; c < channels; c++) out[c] = in[c] * inverse * (w != NULL ? offset + w[c] : 1.0f);
    }
}

/* One row at the table rows `at` of its axes. */
static void rotate_entries(float *x, int64_t channels, const float *const at[3], int axes, int64_t frequencies,
                           const swm_grid_rotation *rotation)
{
    int64_t half = channels / rotation->heads / 2, still = channels / 2 - axes * frequencies;
    for (int64_t i = 0; i < axes * frequencies; i++) {
        int64_t entry = still + i;
        float *a = rotation->interleaved ? x + 2 * entry : x + entry / half * 2 * half + entry % half;
        float *c = rotation->interleaved ? a + 1 : a + half;
        const float *turn = at[i % axes] + i / axes * 2;
        float left = *a, right = *c;
        *a = left * turn[0] - right * turn[1];
        *c = right * turn[0] + left * turn[1];
    }
}

void swm_cpu_rotate_grid(swm_backend *b, swm_tensor y, swm_tensor x, swm_tensor norm, float epsilon,
                         const swm_grid_rotation *rotation)
{
    int64_t rows = x.shape[0], channels = x.shape[1], frequencies = rotation->axes[0].shape[1];
    int axes = swm_present(rotation->axes[1]) ? 3 : 1;
    int64_t height = axes == 3 ? rotation->axes[1].shape[0] : 1, width = axes == 3 ? rotation->axes[2].shape[0] : 1;
    const float *w = swm_present(norm) ? swm_cpu_vector(b, 0, norm) : NULL;
#pragma omp parallel for num_threads(b->threads) if (rows * channels > SWM_CPU_WORTH_SHARING)
    for (int64_t n = 0; n < rows; n++) {
        const float *in = swm_floats(x) + n * channels;
        float *out = swm_floats(y) + n * channels;
        float inverse = w != NULL ? inverse_rms(in, channels, epsilon) : 1.0f;
        for (int64_t c = 0; c < channels; c++) out[c] = w != NULL ? in[c] * inverse * w[c] : in[c];
        int64_t position[3] = {n / (height * width), n / width % height, n % width};
        const float *at[3] = {NULL, NULL, NULL};
        for (int i = 0; i < axes; i++) at[i] = swm_floats(rotation->axes[i]) + position[i] * frequencies * 2;
        rotate_entries(out, channels, at, axes, frequencies, rotation);
    }
}

/* Pairs (2i, 2i+1) turned by the angles of `table` (pairs,2), backwards for sign -1. */
static void rotate_pairs(float *x, const float *table, int64_t pairs, float sign)
{
    for (int64_t i = 0; i < pairs; i++) {
        float cosine = table[2 * i], sine = sign * table[2 * i + 1], even = x[2 * i], odd = x[2 * i + 1];
        x[2 * i] = even * cosine - odd * sine;
        x[2 * i + 1] = even * sine + odd * cosine;
    }
}

/* Groups of four times a 4x4 matrix, or its transpose. */
static void multiply_groups(float *x, const float *matrix, int64_t groups, bool transpose)
{
    int row_step = transpose ? 1 : 4, column_step = transpose ? 4 : 1;
    for (int64_t g = 0; g < groups; g++, x += 4) {
        float out[4];
        for (int i = 0; i < 4; i++) {
            out[i] = 0;
            for (int j = 0; j < 4; j++) out[i] += matrix[i * row_step + j * column_step] * x[j];
        }
        for (int i = 0; i < 4; i++) x[i] = out[i];
    }
}

static float square_norm(const float *x, int64_t count)
{
    float squares = 0;
    for (int64_t i = 0; i < count; i++) squares += x[i] * x[i];
    return squares > 1e-12f ? squares : 1e-12f;
}

static void transform_head(float *head, int64_t size, int64_t token, const swm_head_transform *how, float *inflation)
{
    float sign = how->conjugate ? -1.0f : 1.0f;
    if (!swm_present(how->rays)) {
        if (swm_present(how->rotation)) rotate_pairs(head, swm_floats(how->rotation) + token * size, size / 2, sign);
        return;
    }
    float before = inflation != NULL ? square_norm(head, size) : 0;
    multiply_groups(head, swm_floats(how->rays) + token * 16, size / 8, how->transpose);
    rotate_pairs(head + size / 2, swm_floats(how->rotation) + token * (size / 2), size / 4, sign);
    if (inflation != NULL) *inflation = square_norm(head, size) / before;
}

void swm_cpu_transform_heads(swm_backend *b, swm_tensor y, swm_tensor x, const swm_head_transform *how)
{
    int64_t tokens = x.shape[0], channels = x.shape[1], size = channels / how->heads;
    const float *w = swm_cpu_vector(b, 0, how->norm);
    float scale = how->scale != 0 ? how->scale : 1.0f;
#pragma omp parallel for num_threads(b->threads) if (tokens * channels > SWM_CPU_WORTH_SHARING)
    for (int64_t n = 0; n < tokens; n++) {
        const float *in = swm_floats(x) + n * channels;
        float *out = swm_floats(y) + n * channels;
        float factor = (w != NULL ? inverse_rms(in, channels, how->epsilon) : 1.0f);
        for (int64_t c = 0; c < channels; c++) {
            float value = w != NULL ? in[c] * factor * w[c] : in[c];
            if (how->relu) value = value > 0 ? value : 0;
            out[c] = value * scale;
        }
        for (int64_t h = 0; h < how->heads; h++) {
            float *inflation = swm_present(how->inflation) ? swm_floats(how->inflation) + n * how->heads + h : NULL;
            transform_head(out + h * size, size, n, how, inflation);
        }
    }
}
