/* From a request to frames: the job (everything resolved on the host) and its stages, each a short function that runs the
 * same under a real backend and under the plan. */
#ifndef SWM_PIPELINE_H
#define SWM_PIPELINE_H

#include "camera/camera.h"
#include "checkpoint.h"
#include "io/image.h"
#include "sample/sampler.h"
#include "sanawm.h"
#include "text/prompt.h"

/* A generation with nothing left open: host data only. */
typedef struct swm_job {
    const swm_checkpoint *checkpoint;
    int width, height;
    double fps;
    swm_latent_shape latent;   /* of the clip */
    int64_t frames;            /* 8 (T-1) + 1 */
    swm_image picture;         /* width x height */
    swm_poses poses;           /* (F,4,4), relative to the first */
    swm_intrinsics intrinsics; /* (F,4), in pixels of the video */
    float *conditions;         /* (T,20) */
    float *plucker;            /* (48,T,h,w) */
    swm_prompt conditional, negative;
    char *prompt, *negative_prompt, *prompt_embeddings, *save_prompt_embeddings;
    double guidance;
    uint64_t seed;
    swm_noise noise;
    swm_tiling tiling;
    bool reference_exact;
    const char *device; /* of swm_backend_open; borrowed from the request */
    bool float32;
    int threads;
    swm_sampling sampling; /* sampler, steps, shift, chunks, interval */
    int64_t *chunk_starts;
    char *intrinsics_source; /* "file", "exif", ... for the sidecar */
    char *camera_source;     /* the action string or the file */
} swm_job;

/* Check and resolve a request; notices through events. Free with swm_job_free, also after a failure. */
int swm_job_resolve(swm_job *job, const swm_checkpoint *checkpoint, const swm_request *request,
                    const swm_events *events, swm_error *error);
void swm_job_free(swm_job *job);

typedef enum swm_stage {
    SWM_STAGE_PROMPT,
    SWM_STAGE_ENCODE,
    SWM_STAGE_DENOISE,
    SWM_STAGE_DECODE,
    SWM_STAGE_COUNT
} swm_stage;
const char *swm_stage_name(swm_stage stage);

/* What a stage takes: it prepares once and makes `passes` equal passes. */
typedef struct swm_stage_plan {
    size_t scratch; /* peak of the arena */
    size_t weights; /* bytes of the weights that it uses */
    swm_work setup, pass;
    int64_t passes;       /* 0: the stage has nothing to run */
    double forward_flops; /* of one pass that keeps nothing from before it, as publications count */
} swm_stage_plan;

/* Of a shape alone: no pictures, no poses. prompt_tokens: valid tokens of the longer prompt. */
typedef struct swm_plan_request {
    int width, height;
    int64_t frames;
    int steps;
    bool guided;
    int64_t prompt_tokens;
    swm_tiling tiling;
    swm_dtype compute;
} swm_plan_request;
int swm_plan(swm_stage_plan plan[SWM_STAGE_COUNT], const swm_checkpoint *checkpoint, const swm_plan_request *request,
             swm_error *error);

/* Run all stages. Frames go to events->frames. timings and peaks are per stage. */
typedef struct swm_run_report {
    char device[8]; /* "cpu" or "cuda" */
    double seconds[SWM_STAGE_COUNT];
    size_t scratch[SWM_STAGE_COUNT]; /* measured peak */
} swm_run_report;
int swm_pipeline_run(swm_job *job, const swm_events *events, swm_run_report *report, swm_error *error);

/* The JSON text that describes a run; NULL on failure. */
char *swm_sidecar(const swm_job *job, const swm_run_report *report, swm_error *error);

#endif
