/* A coarse picture of a clip while it is still latent: one linear map from latent channels to colour, fitted to the only
 * place where both are known, the first frame. Costs nothing next to a step of the model. */
#ifndef SWM_PREVIEW_H
#define SWM_PREVIEW_H

#include "io/image.h"
#include "sample/sampler.h"

typedef struct swm_preview {
    int64_t channels;
    float *map; /* (channels + 1, 3): weights and constant, to 0..255 */
} swm_preview;

/* Fit to the clean latent of frame 0 in `latent` (C,T,h,w) and the picture that it encodes (32h x 32w). */
int swm_preview_fit(swm_preview *preview, swm_latent_shape shape, const float *latent, const swm_image *picture,
                    swm_error *error);
void swm_preview_free(swm_preview *preview);

/* Up to four frames of the latent side by side, one pixel a cell: a picture of (frames * w) x h. */
int swm_preview_draw(const swm_preview *preview, swm_latent_shape shape, const float *latent, swm_image *picture,
                     swm_error *error);

#endif
