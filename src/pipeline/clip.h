/* What the stages of a generation share: the clip on its way, on the host, and the table entry that each stage is. One
 * file a stage; pipeline.c plans and runs them. */
#ifndef SWM_CLIP_H
#define SWM_CLIP_H

#include "pipeline/pipeline.h"
#include "pipeline/preview.h"

/* Host memory only. */
typedef struct swm_clip {
    swm_job *job;
    const swm_events *events; /* never NULL; all members may be */
    float *latent;            /* (C,T,h,w), normalised: what passes from stage to stage */
    float *other;             /* (C,T,h,w): noise, then the velocity of the unguided half */
    float *clean;             /* (C,T,h,w): estimate for the preview */
    uint8_t *frames;          /* finished frames on their way out */
    int64_t frames_capacity;
    swm_preview preview;
    swm_stage stage; /* now */
    double started, total_flops, done_flops;
    swm_stage_plan plan[SWM_STAGE_COUNT];
    swm_weight_list weights[SWM_STAGE_COUNT]; /* that the stages use */
    bool planning;                            /* the backend counts; `latent` and the others may be NULL */
    swm_error *error;
} swm_clip;

/* A stage is written once: under the plan it meets a backend that only counts. */
typedef struct swm_stage_entry {
    const char *name;
    bool (*wanted)(const swm_job *job); /* NULL: always */
    size_t (*weights)(const swm_job *job);
    /* Fill in passes, setup, pass and forward_flops where the stage makes several equal passes. NULL: it is one, which
     * is planned by running it. */
    int (*plan)(swm_clip *c, swm_backend *b, swm_stage_plan *plan);
    int (*run)(swm_clip *c, swm_backend *b);
} swm_stage_entry;
extern const swm_stage_entry swm_prompt_stage, swm_encode_stage, swm_denoise_stage, swm_decode_stage1_stage,
    swm_refiner_prompt_stage, swm_refine_stage, swm_decode_stage;
/* `wanted` of what makes the clip; not there when its latent was given. */
bool swm_job_has_first_stage(const swm_job *job);

/* Bytes of the weights whose names begin with `prefix`; 0 for NULL. */
size_t swm_stage_weights(const swm_weights *weights, const char *prefix);
swm_work swm_work_since(const swm_backend *b, swm_work start);

/* Plan the wanted stages. Lists of weights that an earlier plan has left are replaced. */
int swm_clip_plan(swm_clip *c, swm_dtype compute);
void swm_clip_free_plan(swm_clip *c);
/* budget.c. Fill in plan->gpu, the rest of it being known. budget 0: none. */
void swm_stage_place(swm_stage_plan *plan, const swm_weight_list *weights, uint64_t budget);
/* See that all planned stages fit the device before the first one runs: decoding goes over to tiles, with a notice, where
 * it must. The error says which stage does not fit and what would help. */
int swm_clip_fit(swm_clip *c, swm_backend *b);

/* Tell how far the stage is; done_flops says what remains. preview may be NULL. */
void swm_clip_report(const swm_clip *c, int64_t step, int64_t steps, const swm_image *preview);

/* A prompt was longer than its encoder takes. */
void swm_clip_tell_dropped(const swm_clip *c, const char *whose, int64_t dropped);

/* How a job has its clip decoded, and its picture encoded. */
swm_vae_tiling swm_job_tiling(const swm_job *job);

#endif
