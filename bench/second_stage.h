/* What stages.c and second_stage.c share: a pass under way. */
#ifndef BENCH_SECOND_STAGE_H
#define BENCH_SECOND_STAGE_H

#include "sample/sampler.h"
#include "stages.h"
#include "text/refiner_prompt.h"

/* The clock runs from the uploaded input to the finished result; copies to the host are not in it, except those of a
 * pass whose frames are wanted. */
typedef struct bench_run {
    bench *bench;
    swm_backend *b;
    float *result;
    bench_profile *profile; /* NULL: none */
    bool unwatched;         /* no clock, no waiting */
    double start, enqueue, seconds;
    swm_error error;
} bench_run;
void bench_start_clock(bench_run *run);
void bench_stop_clock(bench_run *run);

swm_latent_shape bench_latent_shape(const bench *bench);
double bench_median(double *seconds, int count); /* sorts them */

/* Text, window, and in the window the sink and, for blocks, a full history. */
void bench_refine_prepare(bench *bench, bench_stage stage, swm_backend *b);
void bench_refiner_prompt_run(bench_run *run);
void bench_refine_run(bench_run *run);
void bench_refine_block_run(bench_run *run);

#endif
