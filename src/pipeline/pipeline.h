/* From a request to frames: the job (everything resolved on the host) and its stages, one file each (clip.h), which run the
 * same under a real backend and under the plan. */
#ifndef SWM_PIPELINE_H
#define SWM_PIPELINE_H

#include "camera/camera.h"
#include "checkpoint.h"
#include "io/image.h"
#include "sample/refine.h"
#include "sample/sampler.h"
#include "sanawm.h"
#include "text/prompt.h"
#include "text/refiner_prompt.h"

/* Latent frames of a block and of what it sees before itself, unless asked otherwise. */
enum { SWM_REFINER_BLOCK = 3, SWM_REFINER_WINDOW = 11 };

/* The second stage of a job. */
typedef struct swm_job_refiner {
    bool wanted;
    swm_refinement how;        /* sigmas, block, history */
    int64_t history;           /* frames of the window behind the sink; 0 in one shot */
    uint64_t seed;             /* of its noise */
    int64_t prompt_tokens;     /* in plans of shapes alone, as below */
    char *text;                /* prompt to encode; NULL: `prompt` has been loaded */
    swm_refiner_prompt prompt; /* filled in by its stage, or from prompt_embeddings */
    char *prompt_embeddings, *save_prompt_embeddings;
} swm_job_refiner;

/* A generation with nothing left open: host data only. */
typedef struct swm_job {
    const swm_checkpoint *checkpoint;
    int width, height;
    double fps;
    swm_latent_shape latent;          /* of the clip */
    int64_t frames;                   /* 8 (T-1) + 1 */
    swm_image picture;                /* width x height */
    swm_poses poses;                  /* (F,4,4), relative to the first */
    swm_intrinsics intrinsics;        /* (F,4), in pixels of the video */
    float *conditions;                /* (T,20) */
    float *plucker;                   /* (48,T,h,w) */
    swm_prompt conditional, negative; /* encoded by the prompt stage, or from prompt_embeddings */
    char *prompt, *negative_prompt;   /* prompt NULL: none was given */
    char *prompt_embeddings, *save_prompt_embeddings;
    bool encode_prompt;    /* the first stage has text to encode */
    int64_t prompt_tokens; /* in plans of shapes alone: tokens of the texts that are not there; else 0 */
    double guidance;
    uint64_t seed;
    swm_noise noise;
    swm_tiling tiling;
    int64_t decode_span; /* swm_vae_tiling.span */
    bool reference_exact;
    const char *device;   /* of swm_backend_open; borrowed from the request */
    uint64_t vram_budget; /* bytes; 0: what is free */
    bool float32;
    int threads;
    swm_sampling sampling; /* sampler, steps, shift, chunks, interval */
    int64_t *chunk_starts;
    char *intrinsics_source; /* "file", "exif", ... for the sidecar */
    char *camera_source;     /* the action string or the file */
    swm_job_refiner refiner;
    bool show_stage1;   /* decode the unrefined latent too */
    char *save_latents; /* file for the first stage's latent; NULL: none */
    char *latents;      /* file that the latent came from: there is no first stage then; NULL: none */
    float *given;       /* (C,T,h,w): the latent from there */
    char *origin;       /* JSON text of the run that made it */
} swm_job;

/* Check and resolve a request; notices through events. Free with swm_job_free, also after a failure. */
int swm_job_resolve(swm_job *job, const swm_checkpoint *checkpoint, const swm_request *request,
                    const swm_events *events, swm_error *error);
void swm_job_free(swm_job *job);

/* Frames that leave at the end: a refined clip has lost its first one, the given picture. */
static inline int64_t swm_job_dropped(const swm_job *job) { return job->refiner.wanted ? 1 : 0; }

/* A latent of the first stage with its poses, intrinsics and the description of its run: a safetensors file with latent F32
 * (C,T,h,w), c2w F32 (F,4,4), intrinsics F32 (F,4), and in its metadata format, version and run, which is the text of
 * swm_sidecar_settings. */
int swm_latents_save(const char *path, const swm_job *job, const float *latent, const char *run, swm_error *error);
/* Fills in what such a file says: given, origin, sizes, poses, intrinsics, fps, prompt. The job has latent.channels and
 * owns what it gets, also after a failure. Fails for files that are something else or are not for this model. */
int swm_latents_load(swm_job *job, const char *path, swm_error *error);
/* The same from memory; `name` stands for the path in messages. */
int swm_latents_load_memory(swm_job *job, const void *data, size_t size, const char *name, swm_error *error);

typedef enum swm_stage {
    SWM_STAGE_PROMPT,
    SWM_STAGE_ENCODE,
    SWM_STAGE_DENOISE,
    SWM_STAGE_DECODE_STAGE1,
    SWM_STAGE_REFINER_PROMPT,
    SWM_STAGE_REFINE,
    SWM_STAGE_DECODE,
    SWM_STAGE_COUNT
} swm_stage;
const char *swm_stage_name(swm_stage stage);
/* Does the job have this stage? */
bool swm_stage_wanted(const swm_job *job, swm_stage stage);

/* What a stage takes of a GPU. Budgets and `used` include what the device takes for itself (SWM_DEVICE_OVERHEAD). */
typedef struct swm_stage_memory {
    size_t weights;  /* bytes of its weights there */
    size_t least;    /* the smallest budget that it works in, all weights that can streaming */
    size_t used;     /* under the plan's budget; 0: it does not fit */
    size_t streamed; /* of the weights then; from the second pass on as much is pinned on the host */
} swm_stage_memory;

/* What a stage takes: it prepares once and makes `passes` equal passes. */
typedef struct swm_stage_plan {
    size_t scratch; /* peak of the arena */
    size_t weights; /* bytes of the weights that it uses */
    swm_work setup, pass;
    int64_t passes;       /* 0: the stage has nothing to run */
    double forward_flops; /* of one pass that keeps nothing from before it, as publications count; denoise only */
    swm_stage_memory gpu;
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
    uint64_t vram_budget; /* bytes; 0: none */
    bool refine;
    swm_refinement refinement; /* steps and block */
    int64_t refiner_history;   /* frames of the window behind the sink */
    int64_t refiner_tokens;    /* of the refiner's prompt */
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
/* The same without what only the end of a run knows, and without poses and intrinsics. */
char *swm_sidecar_settings(const swm_job *job, swm_error *error);

#endif
