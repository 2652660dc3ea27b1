/* Shared by the tests of ops: a backend with an arena, tensors of made-up values, and comparison with plain loops. */
#ifndef SWM_TEST_OPS_H
#define SWM_TEST_OPS_H

#include "core/backend.h"

/* For cmocka: *state is a swm_backend with 64 MiB of arena. */
int ops_open(void **state);
int ops_close(void **state);

/* A tensor of values in -1..1 that depend on the seed, rounded to its type. */
swm_tensor ops_make(swm_backend *b, swm_dtype dtype, int seed, int rank, const int64_t *shape);
#define OPS_MAKE(b, dtype, seed, ...)                                                                                  \
    ops_make(b, dtype, seed, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__})
/* cos and sin of made-up angles: F32 (tokens,pairs,2). */
swm_tensor ops_rotation(swm_backend *b, int seed, int64_t tokens, int64_t pairs);

/* An element as a double. */
double ops_at(swm_tensor t, int64_t index);
/* Room for what a result should be, zeroed; lives in the arena. */
double *ops_want(swm_backend *b, int64_t count);
/* Fails the test unless the result is within 1e-5 in the Euclidean norm and has no element that is off by 1e-3. */
void ops_check(const char *name, swm_tensor got, const double *want);

static inline double ops_sigmoid(double x) { return 1 / (1 + __builtin_exp(-x)); }
static inline double ops_silu(double x) { return x * ops_sigmoid(x); }

#endif
