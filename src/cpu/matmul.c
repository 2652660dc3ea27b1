/* Products with weights: linear layers and the dense temporal convolution of the FFN.
 *
 * Work is cut into pieces of at most 1024 rows and 64 outputs. A piece converts its panel of the weight to floats once
 * and hands the product to BLAS; pieces are fixed by the shapes alone. */
#include "cpu/cpu.h"
#include "cpu/vector_math.h"

#include <cblas.h>
#include <string.h>

enum { PIECE_ROWS = 1024, PIECE_OUTPUTS = 64 };

/* Outputs a panel: at most `limit`, evenly divided so that two threads have equal shares, in multiples of 8. */
static int64_t panel_width(int64_t outputs, int64_t limit)
{
    int64_t panels = swm_divide_up(outputs, swm_max(limit, 8));
    return swm_divide_up(swm_divide_up(outputs, panels), 8) * 8;
}

static void activate(float *y, const float *bias, int64_t count, swm_activation activation)
{
    if (bias != NULL)
        for (int64_t i = 0; i < count; i++) y[i] += bias[i];
    switch (activation) {
    case SWM_IDENTITY: break;
    case SWM_SILU:
        for (int64_t i = 0; i < count; i++) y[i] = swm_silu_of(y[i]);
        break;
    case SWM_GELU_TANH:
        for (int64_t i = 0; i < count; i++) y[i] = swm_gelu_tanh_of(y[i]);
        break;
    case SWM_SIGMOID:
        for (int64_t i = 0; i < count; i++) y[i] = swm_sigmoid_of(y[i]);
        break;
    }
}

/* y[rows, outputs) = beta y + x panel^T */
static void product(float *y, int64_t y_stride, const float *x, const float *panel, int64_t rows, int64_t outputs,
                    int64_t inputs, float beta)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)rows, (int)outputs, (int)inputs, 1.0f, x, (int)inputs,
                panel, (int)inputs, beta, y, (int)y_stride);
}

void swm_cpu_linear(swm_backend *b, swm_tensor y, swm_tensor x, swm_tensor w, swm_tensor bias,
                    swm_activation activation, bool accumulate)
{
    int64_t rows = x.shape[0], inputs = x.shape[1], outputs = w.shape[0];
    int64_t width = panel_width(outputs, swm_min(PIECE_OUTPUTS, SWM_CPU_WORKSPACE / inputs));
    int64_t panels = swm_divide_up(outputs, width), blocks = swm_divide_up(rows, PIECE_ROWS);
    size_t element = swm_dtype_size(w.dtype);
    const float *bias_values = swm_cpu_vector(b, 0, bias);
    const float *x_values = swm_floats(x);
    float *y_values = swm_floats(y);
#pragma omp parallel for num_threads(b->threads) schedule(dynamic) collapse(2)
    for (int64_t block = 0; block < blocks; block++)
        for (int64_t panel = 0; panel < panels; panel++) {
            int64_t first_row = block * PIECE_ROWS, row_count = swm_min(PIECE_ROWS, rows - first_row);
            int64_t first = panel * width, count = swm_min(width, outputs - first);
            float *values = swm_cpu_workspace(b);
            swm_to_f32(values, (const char *)w.data + (size_t)(first * inputs) * element, w.dtype,
                       (size_t)(count * inputs));
            float *corner = y_values + first_row * outputs + first;
            product(corner, outputs, x_values + first_row * inputs, values, row_count, count, inputs,
                    accumulate ? 1.0f : 0.0f);
            for (int64_t row = 0; row < row_count; row++)
                activate(corner + row * outputs, bias_values != NULL ? bias_values + first : NULL, count, activation);
        }
}

/* y += neighbour x tap^T over `count` frames, one panel of outputs. */
typedef struct temporal_panel {
    int64_t tokens, channels, first, count; /* tokens a frame, channels, the panel's outputs */
} temporal_panel;

static void add_neighbour(const temporal_panel *p, float *y, int64_t frame, const float *neighbour, int64_t frames,
                          const float *tap)
{
    if (frames > 0)
        product(y + frame * p->tokens * p->channels + p->first, p->channels, neighbour, tap, frames * p->tokens,
                p->count, p->channels, 1.0f);
}

void swm_cpu_temporal_conv(swm_backend *b, swm_tensor y, swm_tensor x, swm_tensor weight, int64_t frames,
                           swm_chunks chunks, swm_tensor tail, bool keep_tail)
{
    int64_t channels = x.shape[1], tokens = x.shape[0] / frames, frame_size = tokens * channels;
    /* A panel holds the taps interleaved as in the file and again apart. */
    int64_t width = panel_width(channels, swm_min(PIECE_OUTPUTS, SWM_CPU_WORKSPACE / (6 * channels)));
    size_t element = swm_dtype_size(weight.dtype);
    const float *x_values = swm_floats(x), *tail_values = swm_present(tail) ? swm_floats(tail) : NULL;
    float *y_values = swm_floats(y);
    memcpy(y_values, x_values, swm_bytes(x));
#pragma omp parallel for num_threads(b->threads) schedule(dynamic)
    for (int64_t first = 0; first < channels; first += width) {
        temporal_panel p = {tokens, channels, first, swm_min(width, channels - first)};
        int64_t size = p.count * channels;
        float *mixed = swm_cpu_workspace(b), *taps = mixed + 3 * size;
        swm_to_f32(mixed, (const char *)weight.data + (size_t)(3 * first * channels) * element, weight.dtype,
                   (size_t)(3 * size));
        for (int64_t i = 0; i < size; i++)
            for (int64_t k = 0; k < 3; k++) taps[k * size + i] = mixed[3 * i + k];
        if (tail_values != NULL) add_neighbour(&p, y_values, 0, tail_values, 1, taps);
        add_neighbour(&p, y_values, 1, x_values, frames - 1, taps);
        add_neighbour(&p, y_values, 0, x_values, frames, taps + size);
        for (int i = 0; i < chunks.count; i++) {
            int64_t start = chunks.starts[i], end = i + 1 < chunks.count ? chunks.starts[i + 1] : frames;
            add_neighbour(&p, y_values, start, x_values + (start + 1) * frame_size, end - start - 1, taps + 2 * size);
        }
    }
    if (keep_tail) memcpy(tail.data, x_values + (frames - 1) * frame_size, (size_t)frame_size * sizeof(float));
}
