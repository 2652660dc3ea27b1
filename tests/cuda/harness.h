/* What the tests of the CUDA ops share: twins of a tensor on both backends, comparison with the CPU, and timing. The
 * program's main is in test_cuda_ops.c. */
#ifndef SWM_CUDA_HARNESS_H
#define SWM_CUDA_HARNESS_H

#include "core/backend.h"

/* The same values on both backends: F32 on the CPU, rounded to what the GPU holds. */
typedef struct twin {
    swm_tensor cpu, gpu;
} twin;

typedef struct harness {
    swm_backend *cpu, *gpu; /* cpu NULL while timing */
    uint64_t random;
    const char *only;             /* what the name of an op to be timed has to contain */
    int cases, failures, reports; /* cases and the worst distance since the last report */
    double worst;
    char where[192]; /* the case with the worst distance */
    void *weights[64];
    int weight_count;
} harness;

int64_t harness_pick(harness *h, int64_t low, int64_t high); /* both included */
float harness_uniform(harness *h);                           /* -1 .. 1 */

/* Everything made between begin and end is gone after end. */
void harness_begin(harness *h);
void harness_end(harness *h);

/* Fresh tensors; `f32`: F32 on the GPU too. low <= values < high. */
twin harness_values(harness *h, bool f32, float low, float high, int rank, const int64_t *shape);
twin harness_from(harness *h, bool f32, const float *values, int rank, const int64_t *shape);
/* A weight of a random type of file, -scale .. scale, as each backend wants to see it. */
twin harness_weight(harness *h, float scale, int rank, const int64_t *shape);
#define SHAPE(...)                                                                                                     \
    (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]) { __VA_ARGS__ }

/* Compare a result: relative Euclidean distance; NaN is infinitely far. */
void harness_check(harness *h, twin result, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Two runs of an op must leave the same bits; else they are infinitely far from each other. */
void harness_check_repeated(harness *h, swm_tensor first, swm_tensor second, const char *op);
/* One line about an op, the verdict against the bound of the GPU's type; forgets what has been compared. */
void harness_report(harness *h, const char *op, double f32, double bf16);

/* A large tensor on the GPU alone, repeating a few million random values. */
swm_tensor harness_large(harness *h, bool f32, float low, float high, int rank, const int64_t *shape);
swm_tensor harness_large_weight(harness *h, float scale, int rank, const int64_t *shape);
/* Time `run` (median of nine after three) and print a line from what the backend counted. */
void harness_time(harness *h, const char *name, void (*run)(harness *h, const void *user), const void *user);

/* test_cuda_ops.c, and test_cuda_matrix.c where it is linked in. */
void cuda_ops_tests(harness *h);
void cuda_ops_times(harness *h);
void cuda_residency_tests(harness *h);
void cuda_matrix_tests(harness *h) __attribute__((weak));
void cuda_matrix_times(harness *h) __attribute__((weak));

#endif
