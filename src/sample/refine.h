/* The two samplers of the second stage, over one function: from stage 1's latent and fresh noise to a refined latent in
 * three steps. They work on host floats and know the network only as a function. Frame 0, the sink, is never touched. */
#ifndef SWM_REFINE_H
#define SWM_REFINE_H

#include "core/rng.h"
#include "sample/sampler.h"

enum { SWM_REFINE_MAX_STEPS = 16 };

/* Velocity of frames first .. first+frames-1, latent and velocity (C,frames,h,w), all at `sigma`. `keep`: a pass over
 * clean frames (sigma 0) whose keys and values stay, as the sink when first is 0 and as history otherwise; its velocity
 * is not wanted (NULL). */
typedef int (*swm_refine_velocity)(void *user, int64_t first, int64_t frames, const float *latent, float sigma,
                                   bool keep, float *velocity, swm_error *error);
/* Normal noise for frames first .. first+frames-1, (C,frames,h,w), called in order. */
typedef void (*swm_refine_noise)(void *user, int64_t first, int64_t frames, float *noise);

typedef struct swm_refinement {
    int steps;                              /* 1 .. SWM_REFINE_MAX_STEPS */
    float sigmas[SWM_REFINE_MAX_STEPS + 1]; /* (steps+1), falling, the last 0 */
    int64_t block;      /* frames at a time, each behind the ones before; 0: all at once (one shot) */
    bool history;       /* with blocks: keep what is done for the next ones */
    bool round_to_bf16; /* latents in bf16 between steps, rounded where the reference rounds */
    swm_refine_velocity velocity;
    swm_refine_noise noise;
    /* After each forward pass, counted as swm_refinement_passes does; may be NULL. Of frames in work the latent holds
     * what is there after the last step. */
    swm_step_function after_step;
    void *user;
} swm_refinement;

/* 0.909375, 0.725, 0.421875, 0: the tail of LTX-2's distilled schedule. Leaves everything else zero. */
swm_refinement swm_refinement_defaults(void);
/* Sigmas from text, "0.9,0.7,0.4": decimal numbers in 0..1, falling; the last 0 is added when it is not there. On failure
 * nothing has changed. */
int swm_refinement_parse_sigmas(swm_refinement *how, const char *text, swm_error *error);

/* Forward passes that a refinement of `frames` latent frames takes, those that only keep included. */
int64_t swm_refinement_passes(const swm_refinement *how, int64_t frames);
/* latent (C,T,h,w), T >= 2, in place; frame 0 stays bit for bit. The velocity function sees the sink once, before all
 * else, then each span once a step and, if its history matters to a later block, once more. */
int swm_refine(const swm_refinement *how, swm_latent_shape shape, float *latent, swm_error *error);

/* ---- noise -------------------------------------------------------------------------------------------------------- */

/* Where noise comes from (core/rng.h): the torch generator, which depends on how frames are cut into draws, or one stream
 * a frame, which does not. */
typedef struct swm_refine_source {
    swm_generator generator; /* {.seed = ...} at first; moves on with every draw of the torch kind */
    bool by_frame;
    int64_t channels, height, width;
} swm_refine_source;
/* What a swm_refine_noise hands out: (C,frames,h,w) for frames first .. first+frames-1. One draw a call. */
void swm_refine_draw(swm_refine_source *source, int64_t first, int64_t frames, float *noise);

#endif
