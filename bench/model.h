/* The networks that are timed, from a model directory or, without files, in the release's shapes with random weights.
 * Owns random weights and the writing of a random model. */
#ifndef BENCH_MODEL_H
#define BENCH_MODEL_H

#include "checkpoint.h"

typedef struct bench_model {
    swm_checkpoint checkpoint;
    void *random; /* memory of random weights, which the networks share */
    bool release; /* shapes only, no files */
} bench_model;

/* directory NULL: the release's shapes, whose tensors have no data until bench_model_randomise. */
int bench_model_open(bench_model *model, const char *directory, swm_error *error);
void bench_model_close(bench_model *model);

/* Data for the declared tensors of the networks that the stages (1 << bench_stage) use: values of the usual sizes.
 * Blocks of a network share one memory: a GPU still gets a copy for each, the host stays small. */
int bench_model_randomise(bench_model *model, unsigned stages, swm_error *error);

/* A model directory of the same shapes with random weights, without the second stage: the DiT in `dit_type`, everything
 * else in BF16. Files of the model's own directory are copied where they are no weights. */
int bench_model_write(const bench_model *model, const char *directory, swm_dtype dit_type, swm_error *error);

#endif
