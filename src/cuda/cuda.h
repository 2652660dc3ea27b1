/* The CUDA backend's own declarations, shared by the files of this folder and by nobody else: the device's state,
 * error reports, the preparation of weights, and one kernel launcher an op. C linkage throughout.
 *
 * Rules for kernels
 *   Types: activations have b->compute (BF16 or F32); tensors marked F32 in core/backend.h are F32 in both modes.
 *   Weights: weights_use has copied them to the device and converted EVERY tensor of the struct to b->compute, so that
 *   a kernel meets no third type. 3x3x3 and 3x1 convolutions are laid out anew once (swm_cuda_prepare_weight); their
 *   swm_tensor keeps the shape of the file.
 *   Order: everything runs on device->stream. An op takes no memory; what it needs beyond its operands it finds in
 *   device->scratch, which belongs to the running op and is forgotten at its end.
 *   Precision: float32 inside an op, one rounding at its result. In F32 mode products are IEEE float32 (no TF32).
 *   Determinism: no atomics on floats; orders of summation depend on shapes alone.
 *   Offsets into tensors are int64_t: there are more than 2^31 elements. */
#ifndef SWM_CUDA_H
#define SWM_CUDA_H

#ifdef __cplusplus
/* The headers of the library are C11. */
#define restrict __restrict__
#define _Noreturn [[noreturn]]
extern "C" {
#endif

#include "core/backend.h"
#include "core/file.h"

#include <cuda_runtime_api.h>

enum { SWM_CUDA_SCRATCH = 128 << 20, SWM_CUDA_BLAS_WORKSPACE = 64 << 20, SWM_CUDA_STAGES = 2 };

typedef struct swm_cuda_weights swm_cuda_weights; /* residence of weights; weights.cu */
typedef struct swm_cuda_matrix swm_cuda_matrix;   /* libraries and chosen algorithms; matrix.h */

typedef struct swm_cuda_device {
    int ordinal;
    int capability;      /* 10 * major + minor: 80, 89, 90, 100, 120 */
    int processors;      /* multiprocessors */
    size_t shared_limit; /* bytes of shared memory that one block may ask for */
    char name[256];
    cudaStream_t stream;
    void *scratch;                /* SWM_CUDA_SCRATCH bytes, for the running op */
    void *blas_workspace;         /* SWM_CUDA_BLAS_WORKSPACE bytes */
    char *stage[SWM_CUDA_STAGES]; /* pinned, on the way of activations */
    cudaEvent_t stage_free[SWM_CUDA_STAGES];
    swm_cuda_weights *weights;
    swm_cuda_matrix *matrix;
    cudaEvent_t *stamps; /* swm_backend_stamp; NULL: not yet recorded */
    size_t stamp_count;
} swm_cuda_device;

static inline swm_cuda_device *swm_cuda_device_of(swm_backend *b) { return (swm_cuda_device *)b->device; }

/* ---- errors ------------------------------------------------------------------------------------------------------ */

/* cudaSuccess: true. Anything else goes to b->error, with `what` (an op, "memory for ...") in the sentence; false. */
bool swm_cuda_check(swm_backend *b, cudaError_t status, const char *what);
/* Whether the launch just made was accepted. Costs no synchronisation; a fault inside the kernel shows at the next
 * one. */
static inline bool swm_cuda_launched(swm_backend *b, const char *op)
{
    return swm_cuda_check(b, cudaGetLastError(), op);
}

/* ---- weights (weights.cu) ---------------------------------------------------------------------------------------- */

int swm_cuda_weights_open(swm_backend *b, swm_error *error); /* the rest as for the matrix libraries */
void swm_cuda_weights_close(swm_backend *b);
size_t swm_cuda_weights_held(swm_backend *b); /* bytes of the device that swm_cuda_weights_arrange has taken */
/* Of struct swm_kernels. */
bool swm_cuda_weights_arrange(swm_backend *b, const swm_residency *residency);
const void *swm_cuda_weights_use(swm_backend *b, const void *weights, size_t bytes);
void swm_cuda_weights_done(swm_backend *b, const void *weights);
void swm_cuda_weights_leave(swm_backend *b);

/* ---- matrix libraries (matmul.cu) -------------------------------------------------------------------------------- */

/* Called at the end of opening (b->device is complete but for `matrix`) and before the device's memory goes. -1 with a
 * message on failure. `close` bears a device whose `open` failed or never ran. */
int swm_cuda_matrix_open(swm_backend *b, swm_error *error);
void swm_cuda_matrix_close(swm_backend *b);

/* Whether kernels want this weight in another order than the file's, judged by its shape: (O,I,3,3,3) becomes
 * [O][27][I], (C,C,3,1) becomes [C][3][C] (both keep their count). */
bool swm_cuda_wants_preparation(swm_tensor weight);
/* Write that order to `to` from `from`, both on the device, b->compute, swm_count(weight) elements; on device->stream.
 */
void swm_cuda_prepare_weight(swm_backend *b, void *to, const void *from, swm_tensor weight);

/* ---- kernels: struct swm_kernels --------------------------------------------------------------------------------- */

/* matmul.cu */
void swm_cuda_linear(swm_backend *b, swm_tensor y, swm_tensor x, swm_tensor w, swm_tensor bias,
                     swm_activation activation, bool accumulate);
void swm_cuda_temporal_conv(swm_backend *b, swm_tensor y, swm_tensor x, swm_tensor weight, int64_t frames,
                            swm_chunks chunks, swm_tensor tail, bool keep_tail);
/* attention.cu */
void swm_cuda_attend(swm_backend *b, swm_tensor y, swm_tensor q, swm_tensor k, swm_tensor v, const swm_attention *how);
/* conv.cu */
void swm_cuda_conv(swm_backend *b, swm_tensor y, swm_tensor x, const swm_conv3d *how, swm_tensor padded);

/* pointwise.cu */
void swm_cuda_add(swm_backend *b, swm_tensor sum, swm_tensor y);
void swm_cuda_multiply_silu(swm_backend *b, swm_tensor x, swm_tensor gate);
void swm_cuda_gelu_multiply(swm_backend *b, swm_tensor gate, swm_tensor up);
void swm_cuda_silu(swm_backend *b, swm_tensor y, swm_tensor x);
/* Elements between types, on device->stream: F32, BF16 or F16 to F32 or BF16. For uploads and downloads. */
void swm_cuda_convert(swm_backend *b, void *to, swm_dtype to_type, const void *from, swm_dtype from_type,
                      int64_t count);

/* norm.cu */
void swm_cuda_modulation(swm_backend *b, swm_tensor y, swm_tensor t, swm_tensor table);
void swm_cuda_adaptive_norm(swm_backend *b, swm_tensor y, swm_tensor x, swm_tensor modulation, int shift_row,
                            int scale_row, bool centred);
void swm_cuda_gated_add(swm_backend *b, swm_tensor sum, swm_tensor y, swm_tensor modulation, int gate_row);
void swm_cuda_rms_norm(swm_backend *b, swm_tensor y, swm_tensor x, swm_tensor weight, float epsilon, float offset);
void swm_cuda_rotate_grid(swm_backend *b, swm_tensor y, swm_tensor x, swm_tensor norm, float epsilon,
                          const swm_grid_rotation *rotation);
void swm_cuda_transform_heads(swm_backend *b, swm_tensor y, swm_tensor x, const swm_head_transform *how);

/* gates.cu */
void swm_cuda_key_conv(swm_backend *b, swm_tensor y, swm_tensor k, swm_tensor taps, int64_t frames, swm_chunks chunks,
                       swm_tensor tail, bool keep_tail);
void swm_cuda_frame_mean(swm_backend *b, swm_tensor y, swm_tensor x);
void swm_cuda_gdn_decay(swm_backend *b, swm_tensor y, swm_tensor u, swm_tensor a_log, swm_tensor dt_bias);
void swm_cuda_gdn_camera_beta(swm_backend *b, swm_tensor y, swm_tensor beta, swm_tensor inflation, int64_t frames);
/* gdn.cu */
void swm_cuda_gdn_scan(swm_backend *b, swm_tensor y, const swm_gdn *how, const swm_gdn_work *work);

/* layout.cu */
void swm_cuda_transpose(swm_backend *b, swm_tensor y, swm_tensor x, int64_t rows, int64_t columns);
void swm_cuda_pack_states(swm_backend *b, swm_tensor y, swm_tensor states);
void swm_cuda_rotate_half(swm_backend *b, swm_tensor x, swm_tensor rotation, int64_t heads);

/* video.cu */
void swm_cuda_depthwise_glu(swm_backend *b, swm_tensor y, swm_tensor x, swm_tensor weight, swm_tensor bias, int64_t h,
                            int64_t w);
void swm_cuda_upsample_merge(swm_backend *b, swm_tensor out, swm_tensor y, swm_tensor x, bool drop_first);
void swm_cuda_downsample_merge(swm_backend *b, swm_tensor out, swm_tensor y, swm_tensor x, const int stride[3]);
void swm_cuda_patchify(swm_backend *b, swm_tensor y, swm_tensor x);
void swm_cuda_unpatchify(swm_backend *b, swm_tensor y, swm_tensor x);
void swm_cuda_blend(swm_backend *b, swm_tensor tile, swm_tensor before, int axis, int64_t extent);
void swm_cuda_paste(swm_backend *b, swm_tensor to, const int64_t at[4], swm_tensor x, const int64_t from[4],
                    const int64_t box[4]);
void swm_cuda_pixels(swm_backend *b, swm_tensor y, swm_tensor x, bool truncate);

#ifdef __cplusplus
}
#endif

#endif
