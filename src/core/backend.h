/* THE contract between the models and the machines: about forty ops at the granularity of the model's maths.
 *
 * A model is written once against the functions below. Three backends stand behind them: `cpu` (the definition, written
 * to be read), `cuda` (fast) and `plan` (runs nothing, adds up shapes: memory, FLOPs, bytes). A model never asks which.
 *
 * Conventions
 *   Tensors are contiguous; tokens come first: activations are (N,C) with N = T*S tokens, frame-major, then row, then
 *   column; video volumes are (T,H,W,C). Heads lie side by side in a row: channel h*D+i is element i of head h.
 *   Results are taken from the backend's arena and live until the caller releases to an earlier mark. Ops marked
 *   "in place" write into an operand instead. Activations have the backend's compute type; F32 is said where it is meant.
 *   Weights keep the type of their file (F32, F16, BF16).
 *   Absent optional operands are (swm_tensor){0}.
 * Errors
 *   A wrong shape is a bug and aborts with both shapes. A failure of the world (memory, device, interruption) is kept in
 *   b->error; later ops then do nothing, and the stage asks swm_backend_check once at its end. */
#ifndef SWM_BACKEND_H
#define SWM_BACKEND_H

#include "core/arena.h"
#include "core/residency.h"
#include "core/tensor.h"

typedef struct swm_backend swm_backend;
typedef struct swm_kernels swm_kernels;

/* What a run did or, under the plan backend, would do. FLOPs count a multiply-add as two, matrix work only. */
typedef struct swm_work {
    double flops;
    double bytes;       /* operands read and results written once each, weights included */
    int64_t operations; /* calls of ops */
} swm_work;

/* Called with every named intermediate, e.g. "blocks.3.attn". The name is the key of the golden tensor, the row of the
 * profile and the NVTX range. The tensor lives only during the call. */
typedef void (*swm_trace_function)(void *user, swm_backend *b, const char *name, swm_tensor value);

/* Called before every op and every transfer, e.g. "linear", "upload", with its first three operands (absent ones have
 * rank 0) and with b->work still without it. For profiles: what happens until the next call is this op's. */
typedef void (*swm_observe_function)(void *user, swm_backend *b, const char *op, const swm_tensor operands[3]);

/* The machine behind a backend. */
typedef struct swm_device_report {
    char name[128];             /* "NVIDIA H200" */
    size_t memory_used, memory; /* bytes of the device, by all programs; 0 where there is no memory of its own */
} swm_device_report;

struct swm_backend {
    const char *name;           /* "cpu", "cuda", "plan" */
    const swm_kernels *kernels; /* NULL: plan */
    swm_dtype compute;          /* type of activations */
    swm_arena scratch;
    swm_error error; /* sticky */
    swm_work work;
    swm_trace_function trace;
    void *trace_user;
    swm_observe_function observe; /* NULL: nobody */
    void *observer;
    bool (*interrupted)(void *user); /* asked between ops; true stops the run with an error */
    void *interrupted_user;
    int threads;    /* of the CPU backend */
    uint64_t limit; /* bytes of device memory; 0: what is free */
    void *device;   /* the backend's own state */
};

/* ---- opening ---------------------------------------------------------------------------------------------------- */

/* threads 0: as many as the machine has. NULL with a message on failure. */
swm_backend *swm_backend_open_cpu(int threads, swm_error *error);
/* GPU number `device` (as CUDA counts them). compute: BF16, the product, or F32, whose products are IEEE float32, for
 * tests. Use it from the thread that opened it. NULL with a message on failure. */
swm_backend *swm_backend_open_cuda(swm_dtype compute, int device, swm_error *error);
/* How many GPUs there are; 0 in a build without CUDA. */
int swm_cuda_device_count(void);
/* By name: "cpu", "cuda", or NULL for the first GPU if there is one and the CPU otherwise. The CPU computes in F32; a GPU
 * in BF16, or in F32 when `float32` asks for it. */
swm_backend *swm_backend_open(const char *device, bool float32, int threads, swm_error *error);
/* A backend that runs nothing and counts as `compute` would. */
swm_backend *swm_backend_open_plan(swm_dtype compute, swm_error *error);
void swm_backend_close(swm_backend *b);

/* Size the arena, usually to the peak of a plan. Nothing may be taken from it at that time. */
int swm_backend_reserve(swm_backend *b, size_t bytes, swm_error *error);

/* Use no more device memory than this; 0: what is free. An error on a CPU, whose weights stay in their files. */
int swm_backend_limit(swm_backend *b, uint64_t bytes, swm_error *error);
/* What arena and weights may take together; SIZE_MAX where nobody counts. */
size_t swm_backend_room(swm_backend *b);
/* Device memory that a backend takes beside arena and weights: the driver's context, code, libraries, work spaces. About;
 * a limit is understood to include it. */
#define SWM_DEVICE_OVERHEAD ((size_t)768 << 20)
/* Whether a stage of this arena and these weights fits, streamed if need be. The error names the stage, what it takes and
 * the limit under which it would work. */
int swm_backend_fits(swm_backend *b, const char *stage, size_t scratch, size_t least_weights, swm_error *error);
/* Begin a stage: the arena gets exactly `scratch` bytes, the weights of the list (swm_plan_weights) the rest of the room.
 * swm_weights_leave ends it. Weights that no list named get memory of their own when they are used. */
int swm_backend_begin(swm_backend *b, const char *stage, size_t scratch, const swm_weight_list *weights,
                      swm_error *error);
/* The structs of weights that a plan backend was asked for since the last call; the caller frees the list. */
swm_weight_list swm_plan_weights(swm_backend *b);

/* Wait for the device and hand over the sticky error, which is cleared. 0 when there was none. */
int swm_backend_check(swm_backend *b, swm_error *error);
/* The machine: under plan, nothing. */
swm_device_report swm_backend_device(swm_backend *b);
/* Mark this point of the device's work as stamp `index`, counted from 0; costs no waiting. Nothing under plan. */
void swm_backend_stamp(swm_backend *b, size_t index);
/* Seconds of the device's time between two stamps; waits for both. */
double swm_backend_between(swm_backend *b, size_t from, size_t to);

/* ---- memory ----------------------------------------------------------------------------------------------------- */

swm_tensor swm_take(swm_backend *b, swm_dtype dtype, int rank, const int64_t *shape);
#define SWM_TAKE(b, dtype, ...)                                                                                        \
    swm_take(b, dtype, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__})

static inline swm_mark swm_mark_of(swm_backend *b) { return swm_arena_mark(&b->scratch); }
static inline void swm_release(swm_backend *b, swm_mark mark) { swm_arena_release(&b->scratch, mark); }

/* Host floats to a fresh tensor of `dtype` and this shape; `values` may be NULL under plan only. */
swm_tensor swm_upload(swm_backend *b, swm_dtype dtype, const float *values, int rank, const int64_t *shape);
#define SWM_UPLOAD(b, dtype, values, ...)                                                                              \
    swm_upload(b, dtype, values, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__})
/* The same from values that the host computes only if somebody will read them: `fill` gets room for all floats and runs
 * on the calling thread before the function returns. */
typedef void (*swm_fill_function)(const void *user, float *values);
swm_tensor swm_upload_computed(swm_backend *b, swm_dtype dtype, swm_fill_function fill, const void *user, int rank,
                               const int64_t *shape);
/* To host floats; waits. Does nothing under plan or after an error. */
void swm_download(swm_backend *b, float *values, swm_tensor t);
/* To host bytes of a U8 tensor; waits. */
void swm_download_bytes(swm_backend *b, uint8_t *values, swm_tensor t);
void swm_copy(swm_backend *b, swm_tensor to, swm_tensor from); /* equal type and count */
void swm_zero(swm_backend *b, swm_tensor t);

/* A struct of bound weights (nothing but swm_tensor members) as the device sees it, there until swm_weights_done.
 * On a CPU that is the struct itself; under a memory budget a GPU backend streams it in here. Both functions
 * are given the struct that the model holds, never the one that swm_weights_use returned. */
const void *swm_weights_use(swm_backend *b, const void *weights, size_t bytes);
void swm_weights_done(swm_backend *b, const void *weights);
/* The stage that used weights is over: what lies on the device leaves it. */
void swm_weights_leave(swm_backend *b);

/* Name an intermediate. printf-style. */
void swm_trace(swm_backend *b, swm_tensor value, const char *name_format, ...) __attribute__((format(printf, 3, 4)));

/* ---- linear layers and pointwise maths ---------------------------------------------------------------------------- */

typedef enum swm_activation { SWM_IDENTITY, SWM_SILU, SWM_GELU_TANH, SWM_SIGMOID } swm_activation;

/* activation(x w^T + bias): x (N,I), w (O,I) or with trailing ones, bias (O) or absent -> (N,O). */
swm_tensor swm_linear(swm_backend *b, swm_tensor x, swm_tensor w, swm_tensor bias, swm_activation activation);
/* The same into y (N,O), for results that outlive what stands above them in the arena. */
void swm_linear_to(swm_backend *b, swm_tensor y, swm_tensor x, swm_tensor w, swm_tensor bias,
                   swm_activation activation);
/* sum += x w^T + bias, in place: sum (N,O). */
void swm_linear_add(swm_backend *b, swm_tensor sum, swm_tensor x, swm_tensor w, swm_tensor bias);

/* sum += y, in place. */
void swm_add(swm_backend *b, swm_tensor sum, swm_tensor y);
/* x *= silu(gate), in place; both (N,C). */
void swm_multiply_silu(swm_backend *b, swm_tensor x, swm_tensor gate);
/* gate = gelu_tanh(gate) * up, in place. */
void swm_gelu_multiply(swm_backend *b, swm_tensor gate, swm_tensor up);
/* silu(x) */
swm_tensor swm_silu(swm_backend *b, swm_tensor x);

/* ---- norms and modulation --------------------------------------------------------------------------------------- */

/* Modulation rows of every frame: t (T,R,C), or (T,1,C) used for each row, plus table (R,C) -> (T,R,C). */
swm_tensor swm_modulation(swm_backend *b, swm_tensor t, swm_tensor table);
/* LayerNorm(x, eps 1e-6, no affine) * (1 + scale) + shift with the rows of the token's frame: x (T*S,C), modulation (T,R,C). */
swm_tensor swm_adaptive_norm(swm_backend *b, swm_tensor x, swm_tensor modulation, int shift_row, int scale_row);
/* The same with RMSNorm(x, eps 1e-6, no weight) in LayerNorm's place. */
swm_tensor swm_adaptive_rms_norm(swm_backend *b, swm_tensor x, swm_tensor modulation, int shift_row, int scale_row);
/* sum += gate * y, in place, gate = the frame's row gate_row: sum, y (T*S,C). */
void swm_gated_add(swm_backend *b, swm_tensor sum, swm_tensor y, swm_tensor modulation, int gate_row);

/* x / sqrt(mean(x^2) + eps) * (offset + weight) over the last dimension; offset is 1 for Gemma and 0 elsewhere. Without
 * a weight that factor is 1. */
swm_tensor swm_rms_norm(swm_backend *b, swm_tensor x, swm_tensor weight, float epsilon, float offset);

/* Everything that happens to projected queries, keys and values before (or to outputs after) a head mixes tokens, in
 * this order: RMSNorm over all channels, ReLU, scale, then per head a rotation, or a ray transform: groups of four of
 * the first half of the head times the token's 4x4 matrix, rotation of the second half (UCPE; spec of stage 1, 8.1). */
typedef struct swm_head_transform {
    int64_t heads;
    swm_tensor norm; /* (C) or absent */
    float epsilon;
    bool relu;
    float scale;         /* 0 means 1 */
    swm_tensor rotation; /* F32 (N,P,2) cos and sin of P pairs (2i,2i+1) of the head, or of its second half with rays */
    bool conjugate;      /* rotate backwards */
    swm_tensor rays;     /* F32 (N,16) row-major 4x4, or absent */
    bool transpose;      /* multiply by the transposed matrix */
    swm_tensor inflation; /* out, F32 (N,heads): |after|^2 / |before|^2 of the ray transform, each at least 1e-12 */
} swm_head_transform;
swm_tensor swm_transform_heads(swm_backend *b, swm_tensor x, const swm_head_transform *how);

/* Rotary embedding over a grid, every head with frequencies of its own. The C/2 pairs of a row are its entries; the last
 * A*P of them turn, entry C/2 - A*P + i*A + axis by the angle of frequency i < P at the token's position on `axis`; those
 * before them stay as they are. A is 3 or, when only the first table is there, 1. */
typedef struct swm_grid_rotation {
    int64_t heads;
    /* F32 cos and sin: (T,P,2), (h,P,2), (w,P,2) for the tokens (f,y,x) of a grid, or (N,P,2), absent, absent. */
    swm_tensor axes[3];
    bool interleaved; /* entry e is the pair (2e, 2e+1) of the row; otherwise (D/2)*h + r is (r, r + D/2) of head h */
} swm_grid_rotation;
/* x (N,C) into y, which may be x: RMSNorm over all channels with the weight `norm` (C), or none if absent; then rotated.
 * Keys live longer than what is around them, hence the given y. */
void swm_rotate_grid(swm_backend *b, swm_tensor y, swm_tensor x, swm_tensor norm, float epsilon,
                     const swm_grid_rotation *rotation);

/* ---- mixing tokens ------------------------------------------------------------------------------------------------ */

typedef struct swm_attention {
    int64_t heads, key_heads; /* heads / key_heads query heads share a key head; key_heads 0 means heads */
    float scale;              /* of q.k */
    float softcap;            /* cap * tanh(score / cap) on the scaled score; 0: none */
    bool causal;              /* query i sees key j <= i; needs as many keys as queries */
    int64_t window;           /* causal only: i - j < window; 0: unlimited */
    /* (P,key_heads*D): keys and values that every query sees besides k and v, so that a window of the past need not lie
     * in one piece with the present. Absent: none. Not with causal. */
    swm_tensor prefix_keys, prefix_values;
} swm_attention;
/* softmax(q k^T) v per head: q (N,heads*D), k and v (M,key_heads*D) -> (N,heads*D). */
swm_tensor swm_attend(swm_backend *b, swm_tensor q, swm_tensor k, swm_tensor v, const swm_attention *how);

/* A span of frames cut into chunks: chunk i starts at starts[i] and ends where the next one starts. */
typedef struct swm_chunks {
    int count;
    const int64_t *starts; /* host memory; starts[0] == 0 */
} swm_chunks;

/* Short temporal convolution of keys, depthwise, taps (C,1,4) with taps[3] on the frame itself: causal over the span and
 * the three frames before it (tail (3*S,C), zero if absent), plus the mirrored anti-causal taps inside each chunk.
 * keep_tail: leave the last three frames of (tail, k) in tail. k (T*S,C) -> (T*S,C). */
swm_tensor swm_key_conv(swm_backend *b, swm_tensor k, swm_tensor taps, int64_t frames, swm_chunks chunks,
                        swm_tensor tail, bool keep_tail);
/* Mean over the tokens of each frame: (T*S,C) -> (T,C). */
swm_tensor swm_frame_mean(swm_backend *b, swm_tensor x, int64_t frames);
/* exp(-exp(A_log) * softplus(u + dt_bias)): u (T,H) -> F32 (T,H). */
swm_tensor swm_gdn_decay(swm_backend *b, swm_tensor u, swm_tensor a_log, swm_tensor dt_bias);
/* beta (T*S,H) divided by max(1, the frame's mean inflation of the head) -> F32 (T*S,H). */
swm_tensor swm_gdn_camera_beta(swm_backend *b, swm_tensor beta, swm_tensor inflation, int64_t frames);

/* Frame-wise gated delta rule, both directions: per head, with P_f = sum beta k k^T and A_f = sum beta k v^T of frame f,
 *   M_f = decay_f (I - P_f) M_{f-1} + A_f              forward, inclusive, from state
 *   B_{f-1} = decay_f (I - P_f) B_f + A_f              backward, exclusive, zero at the end of every chunk
 *   out = (M_f + B_f)^T q                              and, with `normalise`, divided by z.q + 1e-8
 * where z follows the same recurrence on unrotated keys with the value 1. M is stored key row, value column. */
typedef struct swm_gdn {
    swm_tensor q, k, v;  /* (T*S,H*D) */
    swm_tensor rotation; /* F32 (N,D/2,2) turns q and k for M but not for z; absent: none */
    swm_tensor beta;     /* (T*S,H) */
    swm_tensor decay;    /* F32 (T,H) */
    bool normalise;
    swm_chunks chunks;
    swm_tensor state;      /* F32 (H,D,D), read at the start; absent: zero */
    swm_tensor normaliser; /* F32 (H,D), likewise */
    bool keep_state;       /* write the last M and z back */
} swm_gdn;
swm_tensor swm_gdn_scan(swm_backend *b, const swm_gdn *how);

/* ---- convolutions of the FFN -------------------------------------------------------------------------------------- */

/* depthwise 3x3 over each frame's h x w grid, zero padding, weight (2F,1,3,3), bias (2F); then first half * silu(second):
 * x (T*h*w,2F) -> (T*h*w,F). */
swm_tensor swm_depthwise_glu(swm_backend *b, swm_tensor x, swm_tensor weight, swm_tensor bias, int64_t h, int64_t w);
/* x + temporal convolution, dense, weight (C,C,3,1): left neighbour across chunks (tail (S,C) before the span, zero if
 * absent), right neighbour only inside a chunk. keep_tail: leave the last frame of x in tail. (T*S,C) -> (T*S,C). */
swm_tensor swm_temporal_conv(swm_backend *b, swm_tensor x, swm_tensor weight, int64_t frames, swm_chunks chunks,
                             swm_tensor tail, bool keep_tail);

/* ---- layout ------------------------------------------------------------------------------------------------------- */

swm_tensor swm_channels_last(swm_backend *b, swm_tensor x);  /* (C,...) -> (...,C), rank kept */
swm_tensor swm_channels_first(swm_backend *b, swm_tensor x); /* (...,C) -> (C,...) */
/* States of a text encoder's L layers (L,N,C), to features (N,C*L), the layer running fastest: twice in a row, each
 * layer less its mean, by its range, times 8 (diffusers, pipelines/ltx2: pack_text_embeds). Sums and ranges are rounded to
 * the compute type between the steps, as the reference does. */
swm_tensor swm_pack_states(swm_backend *b, swm_tensor states);
/* Rotary embedding of half-split pairs (i, i+D/2): x (N,heads*D), rotation F32 (N,D/2,2); in place. */
void swm_rotate_half(swm_backend *b, swm_tensor x, swm_tensor rotation, int64_t heads);

/* ---- video autoencoder -------------------------------------------------------------------------------------------- */

/* 3x3x3 convolution of a volume (T,H,W,I) -> (T',H,W,O), the frame axis padded by repetition: two copies of the first
 * frame in front (causal) or one copy at each end; the picture axes by zeros or by reflection.
 *
 * A video may come in spans, each of at least one frame, with the same result. A cache carries the last two padded frames
 * from a span to the next, which has them in front of it. A convolution that is not causal is then a frame behind its
 * input: T' is T-1 for the first span, T+1 for the last one, and T between, where the video is one span, and where the
 * convolution is causal. T' may be 0. */
typedef struct swm_conv3d {
    swm_tensor weight, bias; /* (O,I,3,3,3), (O) */
    bool causal, reflect;
    bool norm_silu;      /* pixel norm (eps 1e-8) over channels and SiLU on the way in, before padding */
    swm_tensor residual; /* (T',H,W,O) added to the result; absent: none */
    swm_tensor cache;    /* (2,H+2,W+2,I), read if filled, written always; absent: none */
    bool cache_filled;   /* false: x starts the video, the first frame is repeated and the cache only written */
    bool open;           /* the video goes on after x, so that its last frame is not repeated; needs a cache */
} swm_conv3d;
/* Frames that the padded input has in front of x and behind it, and T'. */
static inline int64_t swm_conv_before(const swm_conv3d *how) { return how->causal || how->cache_filled ? 2 : 1; }
static inline int64_t swm_conv_after(const swm_conv3d *how) { return how->causal || how->open ? 0 : 1; }
static inline int64_t swm_conv_frames(const swm_conv3d *how, int64_t frames)
{
    return frames + swm_conv_before(how) + swm_conv_after(how) - 2;
}
swm_tensor swm_conv(swm_backend *b, swm_tensor x, const swm_conv3d *how);
/* The same into y, which may be the residual. */
void swm_conv_to(swm_backend *b, swm_tensor y, swm_tensor x, const swm_conv3d *how);

/* Up-sampler: y (T,H,W,8K) and x (T,H,W,8R) with R dividing K -> (2T-drop,2H,2W,K): depth-to-space of y plus that of x
 * with its R channels tiled; `drop_first` removes the leading frame. Channel order c, time, row, column (column fastest). */
swm_tensor swm_upsample_merge(swm_backend *b, swm_tensor y, swm_tensor x, bool drop_first);
/* The same into `out`. */
void swm_upsample_merge_to(swm_backend *b, swm_tensor out, swm_tensor y, swm_tensor x, bool drop_first);
/* Down-sampler: space-to-depth of y plus the group means of space-to-depth of x: stride (st,sh,sw), y (T,H,W,K/S),
 * x (T,H,W,I), S = st*sh*sw -> (T/st,H/sh,W/sw,K); each output channel averages I*S/K consecutive channels of x. */
swm_tensor swm_downsample_merge(swm_backend *b, swm_tensor y, swm_tensor x, const int stride[3]);
/* The same into `out`. */
void swm_downsample_merge_to(swm_backend *b, swm_tensor out, swm_tensor y, swm_tensor x, const int stride[3]);
/* (F,H,W,3) -> (F,H/4,W/4,48), channel c*16 + dx*4 + dy, and back. */
swm_tensor swm_patchify(swm_backend *b, swm_tensor x);
swm_tensor swm_unpatchify(swm_backend *b, swm_tensor x);
/* The head of `tile` along `axis` mixed with the tail of `before`, `extent` steps: tile[k] = before[n-extent+k]*(1-k/extent)
 * + tile[k]*(k/extent), in place. Both rank 4; they differ at most along the axis. */
void swm_blend(swm_backend *b, swm_tensor tile, swm_tensor before, int axis, int64_t extent);
/* A box of x (rank 4) copied into `to` at `at`: sizes from the box. */
void swm_paste(swm_backend *b, swm_tensor to, const int64_t at[4], swm_tensor x, const int64_t from[4],
               const int64_t box[4]);
/* clamp(127.5 x + 127.5, 0, 255) to U8, rounded to nearest, or truncated as the reference does. */
swm_tensor swm_pixels(swm_backend *b, swm_tensor x, bool truncate);

/* ---- what a backend implements --------------------------------------------------------------------------------- */

/* F32 work space of a scan: what a frame does to M (decay (I - P) and A), what the scans leave (M_f + B_f), and the same
 * for z when the scan normalises. */
typedef struct swm_gdn_work {
    swm_tensor transition, content, memory;                                  /* (T,H,D,D) */
    swm_tensor normaliser_transition, normaliser_content, normaliser_memory; /* (T,H,D,D), (T,H,D), (T,H,D) */
} swm_gdn_work;

/* One function an op; shapes are checked and results taken before it is called. Kernels report a failure of the world
 * through swm_fail(&b->error, ...). */
struct swm_kernels {
    void *(*allocate)(swm_backend *b, size_t bytes); /* memory of the arena; NULL when refused */
    void (*release)(swm_backend *b, void *memory);
    void (*close)(swm_backend *b);
    void (*synchronise)(swm_backend *b);
    void (*report)(swm_backend *b, swm_device_report *report);
    void (*stamp)(swm_backend *b, size_t index);
    double (*between)(swm_backend *b, size_t from, size_t to);
    void (*upload)(swm_backend *b, swm_tensor to, const float *values);
    void (*download)(swm_backend *b, void *values, swm_tensor from); /* F32, or bytes for U8 */
    void (*copy)(swm_backend *b, swm_tensor to, swm_tensor from);
    void (*zero)(swm_backend *b, swm_tensor t);
    /* Device memory for arena and weights, what they have now included. NULL: nobody counts. */
    size_t (*room)(swm_backend *b);
    /* Take the memory of a residency, whose owner the device becomes; NULL without `room`. False when refused. */
    bool (*weights_arrange)(swm_backend *b, const swm_residency *residency);
    const void *(*weights_use)(swm_backend *b, const void *weights, size_t bytes);
    void (*weights_done)(swm_backend *b, const void *weights);
    void (*weights_leave)(swm_backend *b);

    void (*linear)(swm_backend *b, swm_tensor y, swm_tensor x, swm_tensor w, swm_tensor bias, swm_activation activation,
                   bool accumulate);
    void (*add)(swm_backend *b, swm_tensor sum, swm_tensor y);
    void (*multiply_silu)(swm_backend *b, swm_tensor x, swm_tensor gate);
    void (*gelu_multiply)(swm_backend *b, swm_tensor gate, swm_tensor up);
    void (*silu)(swm_backend *b, swm_tensor y, swm_tensor x);

    void (*modulation)(swm_backend *b, swm_tensor y, swm_tensor t, swm_tensor table);
    /* centred: LayerNorm; otherwise RMSNorm. */
    void (*adaptive_norm)(swm_backend *b, swm_tensor y, swm_tensor x, swm_tensor modulation, int shift_row,
                          int scale_row, bool centred);
    void (*gated_add)(swm_backend *b, swm_tensor sum, swm_tensor y, swm_tensor modulation, int gate_row);
    void (*rms_norm)(swm_backend *b, swm_tensor y, swm_tensor x, swm_tensor weight, float epsilon, float offset);
    void (*transform_heads)(swm_backend *b, swm_tensor y, swm_tensor x, const swm_head_transform *how);

    void (*rotate_grid)(swm_backend *b, swm_tensor y, swm_tensor x, swm_tensor norm, float epsilon,
                        const swm_grid_rotation *rotation);

    void (*attend)(swm_backend *b, swm_tensor y, swm_tensor q, swm_tensor k, swm_tensor v, const swm_attention *how);
    void (*key_conv)(swm_backend *b, swm_tensor y, swm_tensor k, swm_tensor taps, int64_t frames, swm_chunks chunks,
                     swm_tensor tail, bool keep_tail);
    void (*frame_mean)(swm_backend *b, swm_tensor y, swm_tensor x);
    void (*gdn_decay)(swm_backend *b, swm_tensor y, swm_tensor u, swm_tensor a_log, swm_tensor dt_bias);
    void (*gdn_camera_beta)(swm_backend *b, swm_tensor y, swm_tensor beta, swm_tensor inflation, int64_t frames);
    void (*gdn_scan)(swm_backend *b, swm_tensor y, const swm_gdn *how, const swm_gdn_work *work);

    void (*depthwise_glu)(swm_backend *b, swm_tensor y, swm_tensor x, swm_tensor weight, swm_tensor bias, int64_t h,
                          int64_t w);
    void (*temporal_conv)(swm_backend *b, swm_tensor y, swm_tensor x, swm_tensor weight, int64_t frames,
                          swm_chunks chunks, swm_tensor tail, bool keep_tail);

    void (*transpose)(swm_backend *b, swm_tensor y, swm_tensor x, int64_t rows, int64_t columns);
    void (*pack_states)(swm_backend *b, swm_tensor y, swm_tensor states);
    void (*rotate_half)(swm_backend *b, swm_tensor x, swm_tensor rotation, int64_t heads);

    /* padded (T'+2,H+2,W+2,I): work space for the input as the convolution sees it. y may be the residual; without
     * frames it leaves the cache to be written. */
    void (*conv)(swm_backend *b, swm_tensor y, swm_tensor x, const swm_conv3d *how, swm_tensor padded);
    void (*upsample_merge)(swm_backend *b, swm_tensor out, swm_tensor y, swm_tensor x, bool drop_first);
    void (*downsample_merge)(swm_backend *b, swm_tensor out, swm_tensor y, swm_tensor x, const int stride[3]);
    void (*patchify)(swm_backend *b, swm_tensor y, swm_tensor x);
    void (*unpatchify)(swm_backend *b, swm_tensor y, swm_tensor x);
    void (*blend)(swm_backend *b, swm_tensor tile, swm_tensor before, int axis, int64_t extent);
    void (*paste)(swm_backend *b, swm_tensor to, const int64_t at[4], swm_tensor x, const int64_t from[4],
                  const int64_t box[4]);
    void (*pixels)(swm_backend *b, swm_tensor y, swm_tensor x, bool truncate);
};

#endif
