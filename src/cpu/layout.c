/* Ops that move elements: transposition, the packing of text states, and the half-split rotary embedding of the text
 * encoders. */
#include "cpu/cpu.h"

#include <stdlib.h>
#include <string.h>

void swm_cpu_transpose(swm_backend *b, swm_tensor y, swm_tensor x, int64_t rows, int64_t columns)
{
    const float *in = swm_floats(x);
    float *out = swm_floats(y);
    enum { TILE = 32 }; /* both sides of a tile stay in the first-level cache */
#pragma omp parallel for num_threads(b->threads) if (rows * columns > SWM_CPU_WORTH_SHARING)
    for (int64_t row = 0; row < rows; row += TILE)
        for (int64_t column = 0; column < columns; column += TILE)
            for (int64_t i = row; i < swm_min(rows, row + TILE); i++)
                for (int64_t j = column; j < swm_min(columns, column + TILE); j++)
                    out[j * rows + i] = in[i * columns + j];
}

/* (h - mean) / range * 8 of `count` elements, in place. */
static void normalise_states(float *h, int64_t count)
{
    double sum = 0;
    float low = h[0], high = h[0];
    for (int64_t i = 0; i < count; i++) {
        sum += (double)h[i];
        low = h[i] < low ? h[i] : low;
        high = h[i] > high ? h[i] : high;
    }
    float mean = (float)(sum / ((double)count + 1e-6)), scale = 8.0f / (high - low + 1e-6f);
    for (int64_t i = 0; i < count; i++) h[i] = (h[i] - mean) * scale;
}

void swm_cpu_pack_states(swm_backend *b, swm_tensor y, swm_tensor states)
{
    int64_t layers = states.shape[0], count = states.shape[1] * states.shape[2];
    float *out = swm_floats(y), *row = swm_allocate(&b->error, (size_t)count, sizeof *row);
    for (int64_t layer = 0; row != NULL && layer < layers; layer++) {
        memcpy(row, swm_floats(states) + layer * count, (size_t)count * sizeof *row);
        normalise_states(row, count);
        normalise_states(row, count);
        for (int64_t i = 0; i < count; i++) out[i * layers + layer] = row[i];
    }
    free(row);
}

void swm_cpu_rotate_half(swm_backend *b, swm_tensor x, swm_tensor rotation, int64_t heads)
{
    int64_t tokens = x.shape[0], half = x.shape[1] / heads / 2;
#pragma omp parallel for num_threads(b->threads) if (tokens * x.shape[1] > SWM_CPU_WORTH_SHARING)
    for (int64_t n = 0; n < tokens; n++)
        for (int64_t h = 0; h < heads; h++) {
            float *head = swm_floats(x) + n * x.shape[1] + h * 2 * half;
            const float *table = swm_floats(rotation) + n * half * 2;
            for (int64_t i = 0; i < half; i++) {
                float low = head[i], high = head[i + half];
                head[i] = low * table[2 * i] - high * table[2 * i + 1];
                head[i + half] = high * table[2 * i] + low * table[2 * i + 1];
            }
        }
}
