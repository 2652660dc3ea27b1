/* Samplers of the flow: from noise and a clean first frame to a clean latent. They work on host floats, a latent being
 * small next to the network that each step runs, and know the model only as a function. */
#ifndef SWM_SAMPLER_H
#define SWM_SAMPLER_H

#include "core/backend.h"
#include "sample/schedule.h"

typedef enum swm_sampler {
    SWM_FLOW_EULER_LTX,   /* the default: frame 0 is given, every other frame shares a timestep */
    SWM_FLOW_DPM_SOLVER,  /* DPM-Solver++ 2M over the whole clip; frame 0 is treated as noise (not image-conditioned) */
    SWM_CHUNK_FLOW_EULER, /* chunks start one after another and see all that came before (chunk-causal checkpoints) */
} swm_sampler;
int swm_sampler_from_name(const char *name, swm_sampler *sampler, swm_error *error);
const char *swm_sampler_name(swm_sampler sampler);

typedef struct swm_latent_shape {
    int64_t channels, frames, height, width;
} swm_latent_shape;
static inline int64_t swm_latent_count(swm_latent_shape s) { return s.channels * s.frames * s.height * s.width; }

/* The guided velocity of the first `frames` frames: latent and velocity (C,frames,h,w), timesteps (frames). */
typedef int (*swm_velocity_function)(void *user, const float *latent, int64_t frames, const float *timesteps,
                                     swm_chunks chunks, float *velocity, swm_error *error);
/* After each step, with the latent (C,T,h,w) as it stands. */
typedef void (*swm_step_function)(void *user, int step, int steps, const float *latent);

typedef struct swm_sampling {
    swm_sampler sampler;
    int steps;          /* 2..SWM_MAX_STEPS */
    double shift;       /* flow shift */
    swm_chunks chunks;  /* the clip's chunks; {1,{0}} for bidirectional models */
    double interval;    /* SWM_CHUNK_FLOW_EULER: steps between chunk starts as a part of all; 0: 1 / chunks */
    bool round_to_bf16; /* keep the latent in bf16 between steps, as the reference does when it runs in bf16 */
    swm_velocity_function velocity;
    swm_step_function after_step; /* may be NULL */
    void *user;
} swm_sampling;

/* Forward passes that a sampling takes. */
int swm_sampling_passes(const swm_sampling *sampling);

/* latent (C,T,h,w): noise with the clean first frame in frame 0; the result in place. */
int swm_sample(const swm_sampling *sampling, swm_latent_shape shape, float *latent, swm_error *error);

/* ---- self-forcing: the streaming student ----------------------------------------------------------------------------- */

/* Velocity of frames first .. first+frames-1 after the cached ones. `keep`: the pass with clean latents whose state
 * stays; its velocity is not wanted (NULL). */
typedef int (*swm_chunk_velocity_function)(void *user, int64_t first, int64_t frames, const float *latent,
                                           const float *timesteps, bool keep, float *velocity, swm_error *error);

typedef struct swm_self_forcing {
    int steps;           /* 1..15 */
    const float *sigmas; /* (steps+1), falling, the last 0 */
    int64_t chunk;       /* latent frames a chunk; the first one takes the remainder too */
    bool round_to_bf16;
    swm_chunk_velocity_function velocity;
    void *user;
} swm_self_forcing;

/* Frames of the first chunk and number of chunks of a video. */
int64_t swm_self_forcing_first(const swm_self_forcing *how, int64_t frames);
/* One chunk of a video, in place: latent (C,frames,h,w) of the chunk alone. Frame 0 of the video is given and stays. */
int swm_self_forcing_chunk(const swm_self_forcing *how, swm_latent_shape chunk, int64_t first, float *latent,
                           swm_error *error);

#endif
