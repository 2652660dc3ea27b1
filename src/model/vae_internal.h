/* What the encoder and the decoder share: convolutions, resnets and spatial tiles. For src/model/vae*.c only. */
#ifndef SWM_VAE_INTERNAL_H
#define SWM_VAE_INTERNAL_H

#include "model/vae.h"

/* One run of an encoder or decoder. */
typedef struct swm_vae_run {
    swm_backend *b;
    bool causal, reflect;
    swm_vae_state *state;        /* NULL: the video is one span */
    bool last;                   /* with a state: this is the video's last span */
    int next_cache, next_branch; /* of the state: the next convolution's and branch's */
} swm_vae_run;

/* Frames first .. first+count-1 of a volume. In front of them there is room for frames that come late: a run whose
 * convolutions lag behind needs two for every resnet and one for an up-sampler. */
typedef struct swm_vae_span {
    swm_tensor room;
    int64_t first, count;
} swm_vae_span;
static inline swm_tensor swm_vae_frames(swm_vae_span x) { return swm_rows(x.room, x.first, x.count); }

typedef struct swm_vae_conv_options {
    bool norm_silu;
    swm_tensor residual;
    int64_t front; /* frames of room to be left in front of the result */
} swm_vae_conv_options;

/* A convolution that is used alone; the result has options.front frames more, which are not written. */
swm_tensor swm_vae_single(swm_vae_run *run, swm_tensor x, const swm_vae_conv *conv, swm_vae_conv_options options);
/* The branch around `lag` convolutions in a row, which x is about to enter: puts the frames that they owe in front of x,
 * keeps those that they will owe, and leaves x as the frames that their result belongs to. */
void swm_vae_branch(swm_vae_run *run, swm_vae_span *x, int64_t lag);
/* A chain of resnets on x, in place, but that frames which come late leave x and others enter it at the front. */
void swm_vae_resnets(swm_vae_run *run, swm_vae_span *x, const swm_vae_stage *stage, int64_t layers);

/* A network over a volume, cut into spatial tiles. Sizes count latents; `in` and `out` are pixels a latent of its input
 * and output: 1 and 32, or 32 and 1. */
typedef swm_tensor (*swm_vae_network)(swm_backend *b, const swm_vae *vae, swm_tensor x, const void *user);
typedef struct swm_vae_tiles {
    int64_t height, width, stride, in, out;
    int64_t out_frames, out_channels;
    swm_vae_network network;
    const void *user;
} swm_vae_tiles;
swm_tensor swm_vae_run_tiles(swm_backend *b, const swm_vae *vae, swm_tensor x, const swm_vae_tiles *how);

#endif
