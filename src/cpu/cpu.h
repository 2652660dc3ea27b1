/* The CPU backend's own declarations: one kernel an op, shared by the files of this folder and by nobody else.
 * Activations are F32 here; weights are converted from their file's type on the way into a product.
 *
 * Threads: OpenMP over independent rows, panels or heads, in pieces whose size does not depend on the number of threads,
 * so that a result does not either. BLAS is kept single-threaded and called from inside the pieces. */
#ifndef SWM_CPU_H
#define SWM_CPU_H

#include "core/backend.h"

/* Elementwise ops on fewer values stay on the calling thread: waking the others would take longer than the work, and
 * much longer on a machine whose cores are busy with something else. */
enum { SWM_CPU_WORTH_SHARING = 1 << 18 };

/* Work space of the calling OpenMP thread, SWM_CPU_WORKSPACE floats, for panels and tiles of one op. */
enum { SWM_CPU_WORKSPACE = 2 << 20 };
float *swm_cpu_workspace(swm_backend *b);

/* A small weight (bias, norm weight, taps) as floats: its own memory when it is F32, else converted into one of
 * SWM_CPU_SLOTS buffers, valid until the slot is used again. Call before the parallel region. */
enum { SWM_CPU_SLOTS = 3, SWM_CPU_SLOT_SIZE = 1 << 19 };
const float *swm_cpu_vector(swm_backend *b, int slot, swm_tensor weight);

void swm_cpu_linear(swm_backend *b, swm_tensor y, swm_tensor x, swm_tensor w, swm_tensor bias,
                    swm_activation activation, bool accumulate);
void swm_cpu_temporal_conv(swm_backend *b, swm_tensor y, swm_tensor x, swm_tensor weight, int64_t frames,
                           swm_chunks chunks, swm_tensor tail, bool keep_tail);

void swm_cpu_add(swm_backend *b, swm_tensor sum, swm_tensor y);
void swm_cpu_multiply_silu(swm_backend *b, swm_tensor x, swm_tensor gate);
void swm_cpu_gelu_multiply(swm_backend *b, swm_tensor gate, swm_tensor up);
void swm_cpu_silu(swm_backend *b, swm_tensor y, swm_tensor x);

void swm_cpu_modulation(swm_backend *b, swm_tensor y, swm_tensor t, swm_tensor table);
void swm_cpu_adaptive_norm(swm_backend *b, swm_tensor y, swm_tensor x, swm_tensor modulation, int shift_row,
                           int scale_row, bool centred);
void swm_cpu_gated_add(swm_backend *b, swm_tensor sum, swm_tensor y, swm_tensor modulation, int gate_row);
void swm_cpu_rms_norm(swm_backend *b, swm_tensor y, swm_tensor x, swm_tensor weight, float epsilon, float offset);
void swm_cpu_rotate_grid(swm_backend *b, swm_tensor y, swm_tensor x, swm_tensor norm, float epsilon,
                         const swm_grid_rotation *rotation);
void swm_cpu_transform_heads(swm_backend *b, swm_tensor y, swm_tensor x, const swm_head_transform *how);

void swm_cpu_attend(swm_backend *b, swm_tensor y, swm_tensor q, swm_tensor k, swm_tensor v, const swm_attention *how);

void swm_cpu_key_conv(swm_backend *b, swm_tensor y, swm_tensor k, swm_tensor taps, int64_t frames, swm_chunks chunks,
                      swm_tensor tail, bool keep_tail);
void swm_cpu_frame_mean(swm_backend *b, swm_tensor y, swm_tensor x);
void swm_cpu_gdn_decay(swm_backend *b, swm_tensor y, swm_tensor u, swm_tensor a_log, swm_tensor dt_bias);
void swm_cpu_gdn_camera_beta(swm_backend *b, swm_tensor y, swm_tensor beta, swm_tensor inflation, int64_t frames);
void swm_cpu_gdn_scan(swm_backend *b, swm_tensor y, const swm_gdn *how, const swm_gdn_work *work);

void swm_cpu_transpose(swm_backend *b, swm_tensor y, swm_tensor x, int64_t rows, int64_t columns);
void swm_cpu_pack_states(swm_backend *b, swm_tensor y, swm_tensor states);
void swm_cpu_rotate_half(swm_backend *b, swm_tensor x, swm_tensor rotation, int64_t heads);

void swm_cpu_depthwise_glu(swm_backend *b, swm_tensor y, swm_tensor x, swm_tensor weight, swm_tensor bias, int64_t h,
                           int64_t w);
void swm_cpu_conv(swm_backend *b, swm_tensor y, swm_tensor x, const swm_conv3d *how, swm_tensor padded);
void swm_cpu_upsample_merge(swm_backend *b, swm_tensor out, swm_tensor y, swm_tensor x, bool drop_first);
void swm_cpu_downsample_merge(swm_backend *b, swm_tensor out, swm_tensor y, swm_tensor x, const int stride[3]);
void swm_cpu_patchify(swm_backend *b, swm_tensor y, swm_tensor x);
void swm_cpu_unpatchify(swm_backend *b, swm_tensor y, swm_tensor x);
void swm_cpu_blend(swm_backend *b, swm_tensor tile, swm_tensor before, int axis, int64_t extent);
void swm_cpu_paste(swm_backend *b, swm_tensor to, const int64_t at[4], swm_tensor x, const int64_t from[4],
                   const int64_t box[4]);
void swm_cpu_pixels(swm_backend *b, swm_tensor y, swm_tensor x, bool truncate);

#endif
