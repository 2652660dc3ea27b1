/* What a user waits for, made of stages: from the start of a process to the first step, and a whole clip. */
#ifndef BENCH_WHOLE_H
#define BENCH_WHOLE_H

#include "report.h"

/* How the machine and the clip are chosen. */
typedef struct bench_choice {
    const char *device; /* NULL: the best */
    bool float32;
    int threads;
    uint64_t vram_budget; /* 0: none */
    bench_shape shape;    /* width 0: the model's */
} bench_choice;

/* Seconds since the kernel started this process, from /proc/self/stat (in steps of 10 ms); -1 where there is none. */
double bench_process_seconds(void);

/* Open a model directory and do what a generation does up to its first guided sampler step: rows of kind "start" with the
 * seconds since the start of the process. The device's name goes to `report`. */
int bench_start(const char *directory, bench_choice choice, bench_rows *rows, swm_device_report *report,
                swm_error *error);

/* Of a clip of 60 steps with guidance: rows of kind "clip" for the stages that are open, those of the refiner in one shot
 * or in blocks, in the order in which they run, each measured `repeats` times; every row's setup counts once. The last
 * row, "total", is the sum. `opening`: seconds that opening model and device took. */
int bench_clip(bench *bench, int repeats, double opening, bench_rows *rows, swm_error *error);
void bench_print_clip(const bench_rows *rows);

/* Seconds that writing `frames` frames to an MP4 file takes; 0 in a program without libav, and said so on standard error.
 * Belongs to the program. */
int bench_movie(int64_t frames, int width, int height, double *seconds, swm_error *error);

#endif
