/* Implements model/refiner_positions.h. */
#include "model/refiner_positions.h"

#include <math.h>

/* Pictures a latent frame and pixels a cell stand for; a clip's first latent frame is its first picture alone. */
enum { PICTURES = 8, PIXELS = 32 };

void swm_refiner_span(const swm_refiner_grid *grid, int axis, int64_t index, float span[2])
{
    for (int end = 0; end < 2; end++) {
        int64_t cell = index + end;
        if (axis == 0)
            span[end] = (float)swm_max(0, PICTURES * cell + 1 - PICTURES) * (1.0f / (float)grid->fps);
        else
            span[end] = (float)(PIXELS * cell);
    }
}

/* One axis of a grid: cells first .. of its table. */
typedef struct axis_table {
    const swm_refiner_config *config;
    const swm_refiner_grid *grid;
    int axis;
    int64_t first, count, frequencies;
} axis_table;

static void fill_table(const void *user, float *values)
{
    const axis_table *t = user;
    /* The reference divides by these numbers on a GPU, which multiplies by their reciprocals. */
    float scale = 1.0f / (float)t->config->max_positions[t->axis];
/* A pass over three frames needs 2046 angles: less than it takes to wake threads. */
#pragma omp parallel for schedule(static) if (t->count * t->frequencies > 1 << 15)
    for (int64_t i = 0; i < t->frequencies; i++) {
        double exponent = (double)i / (double)swm_max(t->frequencies - 1, 1);
        float frequency = (float)(pow(t->config->rope_theta, exponent) * M_PI / 2);
        for (int64_t n = 0; n < t->count; n++) {
            float span[2];
            swm_refiner_span(t->grid, t->axis, t->first + n, span);
            float place = (span[0] + span[1]) * 0.5f * scale; /* beyond 1 in clips of more than 20 s, as is */
            float angle = (place * 2.0f - 1.0f) * frequency;  /* up to 1e5: needs the full range reduction of cos */
            values[2 * (n * t->frequencies + i)] = (float)cos((double)angle);
            values[2 * (n * t->frequencies + i) + 1] = (float)sin((double)angle);
        }
    }
}

swm_tensor swm_refiner_angles(swm_backend *b, const swm_refiner_config *config, const swm_refiner_grid *grid, int axis)
{
    const int64_t counts[3] = {grid->frames, grid->height, grid->width};
    axis_table table = {
        config, grid, axis, axis == 0 ? grid->first : 0, counts[axis], config->heads * config->head / 6};
    return swm_upload_computed(b, SWM_F32, fill_table, &table, 3, (int64_t[]){table.count, table.frequencies, 2});
}
