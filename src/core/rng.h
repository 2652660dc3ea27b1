/* Normal noise, two kinds, both counter-based (Philox 4x32-10) and the same on every machine up to the last bits of log,
 * sin and cos:
 *   torch   what torch.randn draws from a CUDA generator of a given seed on a GPU with 132 multiprocessors (H100, H200),
 *           so that published samples can be repeated. The values depend on the number of elements drawn.
 *   frame   one stream per latent frame, independent of the length of the clip and of any hardware. */
#ifndef SWM_RNG_H
#define SWM_RNG_H

#include "core/base.h"

/* A torch CUDA generator: its seed and how far it has been used. Start with {.seed = ...}. */
typedef struct swm_generator {
    uint64_t seed;
    uint64_t rounds; /* Philox blocks used up by each thread of the GPU so far */
} swm_generator;

/* Draw `count` values, in the order of a contiguous tensor, and move the generator on as torch does. bf16 tensors hold
 * the same values rounded. */
void swm_generator_normal(swm_generator *generator, float *values, int64_t count);

/* Noise of latent frame `frame`: (channels, cells) values, cells = h*w. Element (c,i) depends on seed, frame and c*cells+i
 * alone. Written with a stride of `channel_stride` floats between channels, so that it can fill a slice of (C,T,h,w). */
void swm_frame_normal(uint64_t seed, int64_t frame, float *values, int64_t channels, int64_t cells,
                      int64_t channel_stride);

#endif
