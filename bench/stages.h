/* The stages of a model as things to be timed: one pass of each, on any open backend. Owns inputs, what is prepared
 * before a pass, and the clock; what a stage computes belongs to the model. */
#ifndef BENCH_STAGES_H
#define BENCH_STAGES_H

#include "model.h"
#include "profile.h"

typedef enum bench_stage {
    BENCH_PROMPT,         /* one caption of `prompt_tokens` tokens through the text encoder */
    BENCH_ENCODE,         /* the first frame to its latent, not tiled */
    BENCH_DENOISE,        /* one forward of the DiT over the whole clip: one step, one half of the guidance */
    BENCH_DENOISE_CHUNK,  /* one forward of the DiT over a chunk of 3 frames behind a full window of earlier ones */
    BENCH_REFINER_PROMPT, /* a prompt of `prompt_tokens` tokens through Gemma-3 and the connectors */
    BENCH_REFINE,         /* one forward of the refiner over the whole clip behind the sink: one step */
    BENCH_REFINE_BLOCK,   /* the refiner's 4 passes over a block of 3 frames behind the sink and 10 frames of history */
    BENCH_DECODE,         /* the clip's latent to frames, spatially whole */
    BENCH_STAGE_COUNT
} bench_stage;
const char *bench_stage_name(bench_stage stage); /* "prompt", "encode", ... */
/* "encode,decode" to a set of 1 << stage. */
int bench_stages_parse(const char *text, unsigned *stages, swm_error *error);
/* Those whose networks a model has. */
unsigned bench_stages_of(const bench_model *model);

typedef struct bench_shape {
    int width, height;
    int64_t frames;        /* 8k+1; 9 and more for the refiner */
    int64_t prompt_tokens; /* 1.. */
    bool temporal_tiles;   /* decode long clips in overlapping pieces of 13 latent frames, as the reference does */
    int64_t decode_span;   /* swm_vae_tiling.span */
    bool deliver;          /* decode hands the frames to the host as bytes */
} bench_shape;

/* Inputs that stand for a clip; their values matter only where results are compared. Host memory, owned. */
typedef struct bench_inputs {
    float *latent;     /* (C,T,h,w), what the DiT sees and, denormalised, what is decoded */
    float *conditions; /* (T,20) */
    float *plucker;    /* (48,T,h,w) */
    float *picture;    /* (1,H,W,3), -1..1 */
    float *timesteps;  /* (T): 0 for the first frame, 1000 for the others */
    float *text;       /* (1024, caption width of the refiner) */
    int32_t *ids;      /* (prompt_tokens) */
} bench_inputs;

/* What a counting run says about a stage. */
typedef struct bench_plan {
    size_t scratch; /* peak of the arena, preparation included */
    swm_weight_list weights;
    bench_demand demand;
} bench_plan;

typedef struct bench {
    swm_backend *backend;
    const bench_model *model;
    bench_shape shape;
    unsigned stages;
    bench_inputs inputs;
    bench_plan plan[BENCH_STAGE_COUNT];
    bench_stage ready; /* prepared; BENCH_STAGE_COUNT: none */
    swm_mark ground;   /* of the arena below what is prepared */
    /* What is prepared: in the arena, as long as the stage is the ready one. */
    swm_dit_caption caption;
    swm_dit_view view;
    swm_dit_plucker plucker;
    swm_dit_state state;
    swm_refiner_text text;
    swm_refiner_window window;
    int64_t first; /* of the chunk or block in work, in its video */
} bench;

/* Plan the stages. `source` may hold latent, conditions, plucker and picture as tensors of the
 * shapes above; NULL or absent: random ones. Borrows backend and model, whose weights must have data. Close also after
 * a failure. */
int bench_open(bench *bench, swm_backend *backend, const bench_model *model, bench_shape shape, unsigned stages,
               const swm_weights *source, swm_error *error);
void bench_close(bench *bench);

/* One pass. *seconds runs from inputs on the device to the result there. `result` may be NULL or has room for
 * bench_result_count floats. The first pass of another stage lets the weights of the last one go and prepares. */
int bench_pass(bench *bench, bench_stage stage, double *seconds, float *result, swm_error *error);
/* Floats of a stage's result: states (prompt_tokens,width); latent (1,h,w,C), not normalised; velocity (C,T,h,w);
 * frames (F,H,W,3). 0 for stages that hand nothing out. */
int64_t bench_result_count(const bench *bench, bench_stage stage);

typedef struct bench_time {
    int repeats;
    double median, best, worst; /* seconds of a pass */
    double setup;               /* seconds until the first result, less one pass: weights, conditions, libraries */
    double enqueue;             /* seconds in which the host hands a pass to the device, without waiting; median */
    double back_to_back;        /* seconds a pass when passes follow each other without waiting; 0: not measured */
    bench_demand demand;        /* of one pass */
    size_t scratch;             /* bytes of the arena in use at most */
    size_t weights;             /* bytes of the stage's weights as the device would hold them */
    size_t memory;              /* bytes in use on the device by everything; 0: none of its own */
} bench_time;
/* Let other stages' weights go, prepare, warm up for a pass, then `repeats` timed ones. */
int bench_measure(bench *bench, bench_stage stage, int repeats, bench_time *time, swm_error *error);
/* One more pass, op by op. Close the profile also after a failure. */
int bench_measure_ops(bench *bench, bench_stage stage, bench_profile *profile, swm_error *error);
/* Nothing is ready any more; weights leave the device. */
void bench_leave(bench *bench);

/* Answer every line of `in` that names a stage with the seconds of a pass in a line of `out` (FILE *), until it ends. */
int bench_serve(bench *bench, void *in, void *out, swm_error *error);

#endif
