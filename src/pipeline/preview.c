/* Implements preview.h: ridge regression over the cells of the first frame. */
#include "pipeline/preview.h"

#include <math.h>
#include <stdlib.h>

/* Solve (A + ridge I) X = B for symmetric A (n,n) and B (n,3), in place, by Cholesky's factorisation. */
static void solve(double *a, double *b, int64_t n, double ridge)
{
    for (int64_t i = 0; i < n; i++) {
        a[i * n + i] += ridge;
        for (int64_t j = 0; j <= i; j++) {
            double sum = a[i * n + j];
            for (int64_t k = 0; k < j; k++) sum -= a[i * n + k] * a[j * n + k];
            a[i * n + j] = i == j ? sqrt(sum > ridge ? sum : ridge) : sum / a[j * n + j];
        }
    }
    for (int colour = 0; colour < 3; colour++) {
        for (int64_t i = 0; i < n; i++) {
            for (int64_t k = 0; k < i; k++) b[i * 3 + colour] -= a[i * n + k] * b[k * 3 + colour];
            b[i * 3 + colour] /= a[i * n + i];
        }
        for (int64_t i = n - 1; i >= 0; i--) {
            for (int64_t k = i + 1; k < n; k++) b[i * 3 + colour] -= a[k * n + i] * b[k * 3 + colour];
            b[i * 3 + colour] /= a[i * n + i];
        }
    }
}

/* Mean colour of the 32x32 pixels of a cell. */
static void cell_colour(const swm_image *picture, int64_t x, int64_t y, double colour[3])
{
    colour[0] = colour[1] = colour[2] = 0;
    for (int64_t row = 32 * y; row < 32 * y + 32; row++)
        for (int64_t column = 32 * x; column < 32 * x + 32; column++)
            for (int i = 0; i < 3; i++) colour[i] += picture->rgb[(row * picture->width + column) * 3 + i] / 1024.0;
}

int swm_preview_fit(swm_preview *preview, swm_latent_shape s, const float *latent, const swm_image *picture,
                    swm_error *error)
{
    int64_t cells = s.height * s.width, n = s.channels + 1;
    *preview = (swm_preview){.channels = s.channels, .map = swm_allocate(error, (size_t)(n * 3), sizeof(float))};
    double *a = swm_allocate(error, (size_t)(n * (n + 4)), sizeof(double));
    if (preview->map == NULL || a == NULL) {
        free(a);
        swm_preview_free(preview);
        return -1;
    }
    double *b = a + n * n, *features = b + n * 3;
    for (int64_t cell = 0; cell < cells; cell++) {
        double colour[3];
        cell_colour(picture, cell % s.width, cell / s.width, colour);
        for (int64_t c = 0; c < s.channels; c++) features[c] = latent[c * s.frames * cells + cell];
        features[s.channels] = 1;
        for (int64_t i = 0; i < n; i++) {
            for (int64_t j = 0; j <= i; j++) a[i * n + j] += features[i] * features[j];
            for (int i3 = 0; i3 < 3; i3++) b[i * 3 + i3] += features[i] * colour[i3];
        }
    }
    /* Fewer cells than channels leave directions open: the ridge keeps those small. */
    solve(a, b, n, 0.05 * (double)cells);
    for (int64_t i = 0; i < n * 3; i++) preview->map[i] = (float)b[i];
    free(a);
    return 0;
}

void swm_preview_free(swm_preview *preview)
{
    free(preview->map);
    *preview = (swm_preview){0};
}

int swm_preview_draw(const swm_preview *preview, swm_latent_shape s, const float *latent, swm_image *picture,
                     swm_error *error)
{
    int64_t cells = s.height * s.width, shown = swm_min(4, s.frames);
    if (swm_image_make(picture, (int)(shown * s.width), (int)s.height, error) != 0) return -1;
    for (int64_t panel = 0; panel < shown; panel++) {
        int64_t frame = shown > 1 ? panel * (s.frames - 1) / (shown - 1) : 0;
        for (int64_t cell = 0; cell < cells; cell++)
            for (int i = 0; i < 3; i++) {
                float value = preview->map[preview->channels * 3 + i];
                for (int64_t c = 0; c < s.channels; c++)
                    value += preview->map[c * 3 + i] * latent[(c * s.frames + frame) * cells + cell];
                int64_t x = panel * s.width + cell % s.width, y = cell / s.width;
                picture->rgb[(y * picture->width + x) * 3 + i] = (uint8_t)fminf(fmaxf(value, 0), 255);
            }
    }
    return 0;
}
