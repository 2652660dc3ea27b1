/* What matmul.cu, attention.cu and conv.cu share: the state behind swm_cuda_device.matrix, tensor maps for the copy
 * engine, and the kernels that exist twice. For these files and their tests. */
#ifndef SWM_CUDA_MATRIX_H
#define SWM_CUDA_MATRIX_H

#include "cuda/cuda.h"

#include <cublasLt.h>
#include <cuda.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { SWM_CUDA_PLANS = 1024 };

/* Which kernel runs where there is a choice. A measurement sets it; nobody else should. */
typedef enum swm_cuda_choice {
    SWM_CUDA_BEST,   /* the fastest that this device and these operands allow */
    SWM_CUDA_GENERIC /* mma.sync, any device from sm_80 on */
} swm_cuda_choice;

/* An algorithm chosen for a kind of product, for any number of rows of a class, so that a result does not depend on how
 * rows were cut into calls. */
typedef struct swm_cuda_plan {
    int64_t rows, inputs, outputs; /* rows: the class's */
    cublasLtEpilogue_t epilogue;
    bool accumulate;
    int alignment;
    cublasLtMatmulAlgo_t algorithm;
} swm_cuda_plan;

typedef CUresult (*swm_cuda_encode)(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *, const cuuint64_t *,
                                    const cuuint64_t *, const cuuint32_t *, const cuuint32_t *, CUtensorMapInterleave,
                                    CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

struct swm_cuda_matrix {
    cublasLtHandle_t blas;
    swm_cuda_encode encode;                  /* cuTensorMapEncodeTiled; NULL: no Hopper kernels on this device */
    swm_cuda_choice attention, conv, linear; /* linear GENERIC: one class for all row counts */
    int plan_count;
    swm_cuda_plan plans[SWM_CUDA_PLANS];
};

/* A map of a bf16 tensor for copies of boxes with 128-byte swizzling: sizes innermost first, byte strides of all but
 * the innermost dimension, box sizes. Outside is zero. */
bool swm_cuda_map(swm_backend *b, CUtensorMap *map, void *data, int rank, const int64_t *sizes, const int64_t *strides,
                  const int64_t *box);

/* attention_sm90.cu. Whether the Hopper kernel takes these operands; and the call. */
bool swm_cuda_attend_hopper_takes(swm_backend *b, swm_tensor y, swm_tensor q, swm_tensor k, swm_tensor v,
                                  const swm_attention *how);
void swm_cuda_attend_hopper(swm_backend *b, swm_tensor y, swm_tensor q, swm_tensor k, swm_tensor v,
                            const swm_attention *how);

/* What a convolution multiplies, and how. */
typedef struct swm_cuda_conv_form {
    const void *weight;    /* [O][9 depth][I] */
    int depth;             /* frames that a filter spans */
    bool half;             /* weight and padded input are half precision, not bfloat16 */
    float *partial;        /* room for partial sums where the sum over inputs may be split, for want of positions to */
    int64_t partial_count; /* fill the device; NULL: it may not, so that results do not depend on their number */
} swm_cuda_conv_form;

/* conv_sm90.cu. The same for the product of a padded input with prepared weights. */
bool swm_cuda_conv_hopper_takes(swm_backend *b, swm_tensor y, const swm_conv3d *how, swm_tensor padded);
void swm_cuda_conv_hopper(swm_backend *b, swm_tensor y, const swm_conv3d *how, swm_tensor padded,
                          const swm_cuda_conv_form *form);

#ifdef __cplusplus
}
#endif

#endif
