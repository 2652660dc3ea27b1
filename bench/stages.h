/* The stages of a model as things to be timed: one pass of each, on any open backend, from a file's weights or from
 * random ones of a declared size. Owns inputs, random weights and the clock; what a stage computes belongs to the model. */
#ifndef BENCH_STAGES_H
#define BENCH_STAGES_H

#include "checkpoint.h"

typedef enum bench_stage { BENCH_PROMPT, BENCH_ENCODE, BENCH_DENOISE, BENCH_DECODE, BENCH_STAGE_COUNT } bench_stage;
const char *bench_stage_name(bench_stage stage); /* "prompt", "encode", "denoise", "decode" */
/* "encode,decode" to a set of 1 << stage. */
int bench_stages_parse(const char *text, unsigned *stages, swm_error *error);

/* prompt   one caption of `prompt_tokens` tokens through the text encoder
 * encode   the first frame to its latent, not tiled
 * denoise  one forward of the DiT over the whole clip: one step, one half of the guidance
 * decode   the clip's latent to frames, spatially whole */
typedef struct bench_shape {
    int width, height;
    int64_t frames;        /* 8k+1 */
    int64_t prompt_tokens; /* 1.. */
    bool temporal_tiles;   /* decode long clips in pieces of 13 latent frames, as generate does by default */
} bench_shape;

/* Inputs that stand for a clip; their values matter only where results are compared. Host memory, owned. */
typedef struct bench_inputs {
    float *latent;     /* (C,T,h,w), what the DiT sees and, denormalised, what is decoded */
    float *conditions; /* (T,20) */
    float *plucker;    /* (48,T,h,w) */
    float *picture;    /* (1,H,W,3), -1..1 */
    float *timesteps;  /* (T): 0 for the first frame, 1000 for the others */
    int32_t *ids;      /* (prompt_tokens) */
} bench_inputs;

typedef struct bench {
    swm_backend *backend;
    const swm_checkpoint *model;
    bench_shape shape;
    unsigned stages;
    bench_inputs inputs;
    swm_dit_caption caption; /* in the arena, as long as the bench */
    swm_dit_view view;
} bench;

/* Size the backend's arena for the stages and put the DiT's conditions there. `source` may hold latent, conditions,
 * plucker and picture as tensors of the shapes above; NULL or absent: random ones. Borrows backend and model, whose
 * weights must have data (bench_weights_randomise). Close also after a failure. */
int bench_open(bench *bench, swm_backend *backend, const swm_checkpoint *model, bench_shape shape, unsigned stages,
               const swm_weights *source, swm_error *error);
void bench_close(bench *bench);

/* One pass. *seconds runs from inputs on the device to the result there. `result` may be NULL or has room for
 * bench_result_count floats. */
int bench_pass(bench *bench, bench_stage stage, double *seconds, float *result, swm_error *error);
/* Floats of a stage's result: states (prompt_tokens,width); latent (1,h,w,C), not normalised; velocity (C,T,h,w);
 * frames (F,H,W,3). */
int64_t bench_result_count(const bench *bench, bench_stage stage);

typedef struct bench_time {
    int repeats;
    double median, best, worst; /* seconds */
    swm_work work;              /* of one pass */
    size_t scratch;             /* bytes of the arena in use at most */
} bench_time;
/* Warm up for a pass, then `repeats` timed ones. */
int bench_measure(bench *bench, bench_stage stage, int repeats, bench_time *time, swm_error *error);

/* Data for the declared tensors of a model's networks that the stages use (swm_checkpoint_open_release): random values
 * of the usual sizes. *memory is to be freed after the model's last use. Gigabytes for the release. */
int bench_weights_randomise(swm_checkpoint *model, unsigned stages, void **memory, swm_error *error);

#endif
