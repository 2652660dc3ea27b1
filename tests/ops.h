/* Shared by the tests of ops and models: backends with an arena, made-up values, and comparison. */
#ifndef SWM_TEST_OPS_H
#define SWM_TEST_OPS_H

#include "core/backend.h"

/* For cmocka: *state is a swm_backend with 64 MiB of arena. */
int ops_open(void **state);
int ops_close(void **state);

/* A CPU backend with an arena. The one that was opened here is closed here, which fails the test if one of its ops did. */
swm_backend *ops_open_cpu(int threads, size_t bytes);
void ops_close_cpu(swm_backend *b);

/* Values in -1..1 that depend on the seed, in fresh memory. */
float *ops_floats(int64_t count, int seed);
/* A tensor of such values, rounded to its type; on a backend that only plans the shape alone. */
swm_tensor ops_make(swm_backend *b, swm_dtype dtype, int seed, int rank, const int64_t *shape);
#define OPS_MAKE(b, dtype, seed, ...)                                                                                  \
    ops_make(b, dtype, seed, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__})
/* cos and sin of made-up angles: F32 (tokens,pairs,2). */
swm_tensor ops_rotation(swm_backend *b, int seed, int64_t tokens, int64_t pairs);

/* An element as a double. */
double ops_at(swm_tensor t, int64_t index);
/* One of four axes and F32. */
static inline float ops_at4(swm_tensor t, int64_t i, int64_t j, int64_t k, int64_t l)
{
    return swm_floats(t)[((i * t.shape[1] + j) * t.shape[2] + k) * t.shape[3] + l];
}
/* Room for what a result should be, zeroed; lives in the arena. */
double *ops_want(swm_backend *b, int64_t count);
/* Fails the test unless the result is within 1e-5 in the Euclidean norm and has no element that is off by 1e-3. */
void ops_check(const char *name, swm_tensor got, const double *want);

/* Fails the test unless the relative distance (Euclidean) is within the bound. */
void ops_check_close(const char *name, const float *got, const float *want, int64_t count, double bound);
/* Fails the test unless the two are within 1e-5. */
void ops_check_near(float got, double want);

static inline double ops_sigmoid(double x) { return 1 / (1 + __builtin_exp(-x)); }
static inline double ops_silu(double x) { return x * ops_sigmoid(x); }

#endif
