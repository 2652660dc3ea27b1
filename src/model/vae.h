/* The LTX-2 video autoencoder: pixels in -1..1 to latents, 32 times smaller in space and 8 in time, and back. Owns its
 * structure, the binding of its weights, tiling, and the streaming decoder's memory. Videos are (F,H,W,3), latents
 * (T,h,w,C) with F = 8T-7, H = 32h, W = 32w.
 *
 * Whole clips, tiles and streams run through one encoder and one decoder function. Results that are returned live in the
 * backend's arena; whatever else was taken has been released. */
#ifndef SWM_VAE_H
#define SWM_VAE_H

#include "core/backend.h"
#include "io/config.h"
#include "io/weights.h"

enum {
    SWM_VAE_MAX_LAYERS = 64, /* resnets of one stage, as many as a config may ask for */
    SWM_VAE_MAX_LATENTS = 4096,
    SWM_VAE_DECODER_CONVS = 1 + (SWM_VAE_MAX_BLOCKS + 1) * (1 + 2 * SWM_VAE_MAX_LAYERS),
    SWM_VAE_DECODER_BRANCHES = (SWM_VAE_MAX_BLOCKS + 1) * (1 + SWM_VAE_MAX_LAYERS)
};

/* Structs of nothing but tensors: what swm_weights_use takes. */
typedef struct swm_vae_conv {
    swm_tensor weight, bias; /* (O,I,3,3,3), (O) */
} swm_vae_conv;
typedef struct swm_vae_resnet {
    swm_vae_conv conv1, conv2; /* width kept */
} swm_vae_resnet;

/* Resnets of one width, and the change to the next: encoder stages end with a sampler, decoder stages start with one;
 * the mid stage (the encoder's last, the decoder's first) has none. */
typedef struct swm_vae_stage {
    swm_vae_conv sampler;
    swm_vae_resnet resnets[SWM_VAE_MAX_LAYERS];
} swm_vae_stage;

typedef struct swm_vae {
    swm_vae_config config;
    bool has_encoder, has_decoder;
    swm_vae_conv encoder_in, encoder_out, decoder_in, decoder_out;
    swm_vae_stage encoder[SWM_VAE_MAX_BLOCKS + 1], decoder[SWM_VAE_MAX_BLOCKS + 1];
    float mean[SWM_VAE_MAX_LATENTS], deviation[SWM_VAE_MAX_LATENTS]; /* per latent channel; 0 and 1 if only declared */
} swm_vae;

typedef enum swm_vae_parts { SWM_VAE_ENCODER = 1, SWM_VAE_DECODER = 2, SWM_VAE_BOTH = 3 } swm_vae_parts;

/* Look up the tensors of the parts, once, with exact shapes. The weights must outlive the result. Free with free(). */
swm_vae *swm_vae_bind(const swm_weights *weights, const swm_vae_config *config, swm_vae_parts parts, swm_error *error);
/* Declare every tensor of both parts, to plan without files. */
int swm_vae_declare(swm_weights *weights, const swm_vae_config *config, swm_dtype dtype, swm_error *error);

/* Between the posterior mean of the encoder and what the diffusion model sees, in place on the host: `positions` rows of
 * C channels. normalise: (x - mean) * scaling / deviation; denormalise is its inverse. */
void swm_vae_normalise(const swm_vae *vae, float *latent, int64_t positions);
void swm_vae_denormalise(const swm_vae *vae, float *latent, int64_t positions);

/* Sizes in pixels and frames: multiples of 32 and 8. Tiles start every `stride` and overlap by the rest, where they are
 * blended. Tiles change the picture: each sees its own border and not what lies behind it. Nobody needs them to save
 * memory over time: the decoder goes through a tile, however long, in spans that remember their past. */
typedef struct swm_vae_tiling {
    int64_t height, width, stride; /* 0: one tile, however large */
    int64_t frames, frame_stride;  /* decoder only; temporal tiles have one latent more than frames / 8. 0: one tile */
    int64_t span;                  /* decoder only: about how many elements of a level are computed at a time, at least
                                    * a latent's; changes memory and speed, not the frames. 0: SWM_VAE_SPAN */
    bool reference_lag;            /* reproduce the reference's non-causal decoder, which cuts the last frame of later
                                    * tiles where the first is the superfluous one: everything after them is a frame late */
} swm_vae_tiling;
/* 37 frames of 704x1280 on the last level: enough that their borders do not count, and half a gigabyte in bf16. */
#define SWM_VAE_SPAN ((int64_t)1 << 28)
/* What the released pipeline uses, less the lag. */
extern const swm_vae_tiling swm_vae_reference_tiling;

/* Posterior mean, not normalised, of F = 8k+1 frames; `tiling` may be NULL. (F,H,W,3) -> (T,h,w,C).
 * Traces encoder.conv_in, encoder.down_blocks.0, ..., encoder.mid_block, encoder.conv_out of every tile. */
swm_tensor swm_vae_encode(swm_backend *b, const swm_vae *vae, swm_tensor video, const swm_vae_tiling *tiling);

/* Frames first_frame .. first_frame + frames.shape[0] - 1 of the video, (n,H,W,3), final; the tensor lives during the
 * call only. Return nonzero to stop. */
typedef int (*swm_frames_callback)(void *user, swm_backend *b, int64_t first_frame, swm_tensor frames);

/* Decode denormalised latents (T,h,w,C) and hand out the 8T-7 frames in order, in spans that are final. Without spatial
 * tiles a video of any length needs the memory of one span a level, and the frames are those of the whole decoder. h and
 * w are at least 2 when the decoder reflects at the border. -1 when the callback stopped it or the backend has failed,
 * which swm_backend_check tells; frames of a failed backend are not handed out.
 * Traces decoder.conv_in, decoder.mid_block, decoder.up_blocks.0, ... of every span. `tiling` may be NULL. */
int swm_vae_decode(swm_backend *b, const swm_vae *vae, swm_tensor latent, const swm_vae_tiling *tiling,
                   swm_frames_callback emit, void *user);

/* What a decoder remembers between spans. Every convolution keeps the last two padded frames of its input. One that is
 * not causal is a frame late, so that branches around convolutions (resnets, up-samplers) keep the frames of their input
 * whose results are still to come: up to two, or one. In order of execution; room is taken for what the model has. */
typedef struct swm_vae_state {
    int64_t frames;                            /* handed out so far; 0: the next call starts a video */
    swm_tensor caches[SWM_VAE_DECODER_CONVS];  /* (2,H+2,W+2,I) */
    bool filled[SWM_VAE_DECODER_CONVS];        /* whether the convolution has seen a frame of this video */
    swm_tensor late[SWM_VAE_DECODER_BRANCHES]; /* (2,H,W,I) or (1,H,W,I); decoders that are not causal */
    int64_t late_count[SWM_VAE_DECODER_BRANCHES];
    bool begun[SWM_VAE_MAX_BLOCKS + 1]; /* whether the up-sampler has dropped the video's first frame */
} swm_vae_state;

/* Room in the arena, for latents of h x w. To start another video with a causal decoder set state->frames to 0. */
void swm_vae_state_take(swm_backend *b, const swm_vae *vae, swm_vae_state *state, int64_t height, int64_t width);

/* The next n latents of a stream (n,h,w,C), denormalised: 8n-7 frames on the first call, 8n later. Needs a causal decoder.
 * The same frames as decoding all latents at once. */
swm_tensor swm_vae_decode_next(swm_backend *b, const swm_vae *vae, swm_vae_state *state, swm_tensor latent);

#endif
