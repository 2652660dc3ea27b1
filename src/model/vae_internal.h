/* What the encoder and the decoder share: convolutions, resnets and spatial tiles. For src/model/vae*.c only. */
#ifndef SWM_VAE_INTERNAL_H
#define SWM_VAE_INTERNAL_H

#include "model/vae.h"

/* One run of an encoder or decoder. */
typedef struct swm_vae_run {
    swm_backend *b;
    bool causal, reflect;
    swm_vae_state *state; /* NULL: no past */
    int next_cache;
} swm_vae_run;

typedef struct swm_vae_conv_options {
    bool norm_silu;
    swm_tensor residual;
} swm_vae_conv_options;

/* `conv` as swm_weights_use gave it. */
swm_tensor swm_vae_convolve(swm_vae_run *run, swm_tensor x, const swm_vae_conv *conv, swm_vae_conv_options options);
/* A convolution that is used alone. */
swm_tensor swm_vae_single(swm_vae_run *run, swm_tensor x, const swm_vae_conv *conv, swm_vae_conv_options options);
/* A chain of resnets on x, in place. */
void swm_vae_resnets(swm_vae_run *run, swm_tensor x, const swm_vae_stage *stage, int64_t layers);

/* Release to `mark` and move t, taken after it, down to there. What lies between must be at least as large as t. */
swm_tensor swm_vae_settle(swm_backend *b, swm_mark mark, swm_tensor t);

/* A network over a volume, cut into spatial tiles. Sizes count latents; `in` and `out` are pixels a latent of its input
 * and output: 1 and 32, or 32 and 1. */
typedef swm_tensor (*swm_vae_network)(swm_backend *b, const swm_vae *vae, swm_tensor x);
typedef struct swm_vae_tiles {
    int64_t height, width, stride, in, out;
    int64_t out_frames, out_channels;
    swm_vae_network network;
} swm_vae_tiles;
swm_tensor swm_vae_run_tiles(swm_backend *b, const swm_vae *vae, swm_tensor x, const swm_vae_tiles *how);

#endif
