/* A contiguous row-major tensor of up to eight dimensions, by value. It owns nothing: the memory belongs to an arena, a
 * mapped file or the caller. The last dimension varies fastest. */
#ifndef SWM_TENSOR_H
#define SWM_TENSOR_H

#include "core/base.h"

enum { SWM_MAX_RANK = 8 };

typedef struct swm_tensor {
    void *data; /* NULL when only the shape matters: absent optional operands have rank 0 too */
    swm_dtype dtype;
    int rank; /* 0: no tensor at all */
    int64_t shape[SWM_MAX_RANK];
} swm_tensor;

/* SWM_TENSOR(dtype, data, 2, 3) describes a 2x3 tensor at data. */
#define SWM_TENSOR(dtype, data, ...)                                                                                   \
    swm_tensor_make(dtype, data, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__})

static inline swm_tensor swm_tensor_make(swm_dtype dtype, void *data, int rank, const int64_t *shape)
{
    SWM_REQUIRE(rank >= 1 && rank <= SWM_MAX_RANK, "rank %d", rank);
    swm_tensor t = {.data = data, .dtype = dtype, .rank = rank, .shape = {0}};
    for (int i = 0; i < rank; i++) t.shape[i] = shape[i];
    return t;
}

static inline bool swm_present(swm_tensor t) { return t.rank > 0; }

static inline int64_t swm_count(swm_tensor t)
{
    int64_t count = t.rank > 0 ? 1 : 0;
    for (int i = 0; i < t.rank; i++) count *= t.shape[i];
    return count;
}

static inline size_t swm_bytes(swm_tensor t) { return (size_t)swm_count(t) * swm_dtype_size(t.dtype); }

/* Elements below the first dimension. */
static inline int64_t swm_row_count(swm_tensor t) { return t.shape[0]; }
static inline int64_t swm_row_size(swm_tensor t) { return t.shape[0] > 0 ? swm_count(t) / t.shape[0] : 0; }
static inline int64_t swm_last(swm_tensor t) { return t.shape[t.rank - 1]; }

/* Rows first .. first+count-1 of the first dimension, as a view. */
static inline swm_tensor swm_rows(swm_tensor t, int64_t first, int64_t count)
{
    SWM_REQUIRE(t.rank > 0 && first >= 0 && count >= 0 && first + count <= t.shape[0], "rows %lld+%lld of %lld",
                (long long)first, (long long)count, (long long)t.shape[0]);
    if (t.data != NULL) t.data = (char *)t.data + (size_t)(first * swm_row_size(t)) * swm_dtype_size(t.dtype);
    t.shape[0] = count;
    return t;
}

/* The same elements under another shape. */
#define SWM_RESHAPE(t, ...)                                                                                            \
    swm_reshape(t, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__})
static inline swm_tensor swm_reshape(swm_tensor t, int rank, const int64_t *shape)
{
    swm_tensor r = swm_tensor_make(t.dtype, t.data, rank, shape);
    SWM_REQUIRE(swm_count(r) == swm_count(t), "%lld elements reshaped to %lld", (long long)swm_count(t),
                (long long)swm_count(r));
    return r;
}

static inline float *swm_floats(swm_tensor t)
{
    SWM_REQUIRE(t.dtype == SWM_F32, "floats of a %s tensor", swm_dtype_name(t.dtype));
    return (float *)t.data;
}

/* "(3,224)" into a small buffer, for messages; returns the buffer. */
typedef struct swm_shape_text {
    char text[192];
} swm_shape_text;
swm_shape_text swm_describe(swm_tensor t);

/* A linear layer. */
typedef struct swm_affine {
    swm_tensor weight, bias; /* (out,in), (out) or absent */
} swm_affine;

#endif
