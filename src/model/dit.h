/* The stage-1 diffusion transformer of SANA-WM: frame-wise gated delta net with every n-th block softmax attention, a
 * camera branch in every block, cross attention to a caption, and a convolutional FFN. MODEL.md tells the maths.
 *
 * One forward serves three uses: a whole clip (both directions), a whole clip cut into chunks (chunk-causal), and one
 * chunk after the cached rest (streaming, with a swm_dit_state). It takes one sample; the two halves of classifier-free
 * guidance are two calls that share the camera.
 *
 * Owned here: weights bound by name, conditions fixed for a clip, the forward. Not here: sampling, camera paths. */
#ifndef SWM_DIT_H
#define SWM_DIT_H

#include "core/backend.h"
#include "io/config.h"
#include "io/weights.h"

enum { SWM_DIT_MAX_DEPTH = 64 };

/* Sizes. Those that the tensors' shapes tell are read off them; the others come from config.yaml. */
typedef struct swm_dit_size {
    int64_t depth, channels;                   /* blocks; C */
    int64_t heads, head;                       /* H * D = C */
    int64_t softmax_every;                     /* block i attends by softmax when (i+1) % softmax_every == 0 */
    int64_t latent_channels, plucker_channels; /* in and out; 48 */
    int64_t caption_channels, caption_tokens;
    int64_t ffn; /* F: channels of the FFN after its gate */
} swm_dit_size;

/* The release's sizes (2.66 B parameters), for plans and benchmarks without files. */
swm_dit_size swm_dit_release_size(void);

/* Structs of nothing but tensors: what swm_weights_use takes. */
typedef struct swm_dit_outer {
    swm_affine x_embedder, plucker_embedder, time_in, time_out, time_block, caption_in, caption_out, final;
    swm_tensor caption_norm, final_table; /* (C), (2,C) */
} swm_dit_outer;

typedef struct swm_dit_block {
    swm_tensor table;                 /* (6,C): shift, scale, gate of attention, then of the FFN */
    swm_tensor qkv;                   /* (3C,C), no bias */
    swm_tensor q_norm, k_norm;        /* (C) */
    swm_tensor conv_k, conv_k_camera; /* (C,1,4), GDN blocks only */
    swm_affine beta, decay;           /* (H,C), GDN blocks only */
    swm_tensor a_log, dt_bias;        /* (H), GDN blocks only */
    swm_affine q_camera, k_camera, v_camera, out_camera;
    swm_tensor q_norm_camera, k_norm_camera;
    swm_affine output_gate, projection, plucker;
    swm_affine cross_q, cross_kv, cross_out;
    swm_tensor cross_q_norm, cross_k_norm;
    swm_affine expand;             /* (2F,C) */
    swm_affine depthwise;          /* (2F,1,3,3) */
    swm_tensor contract, temporal; /* (C,F), (C,C,3,1) */
} swm_dit_block;

typedef struct swm_dit {
    swm_dit_size size;
    swm_dit_outer outer;
    swm_dit_block blocks[SWM_DIT_MAX_DEPTH];
} swm_dit;

/* Look every tensor up by name, once. The weights must outlive the result. `head` and `softmax_every` come from
 * config.yaml (linear_head_dim, softmax_every_n). Unknown tensors are ignored, tensors that inference never reads may be
 * absent, anything else missing or of another shape is an error. Free with free(). */
swm_dit *swm_dit_bind(const swm_weights *weights, int64_t head, int64_t softmax_every, swm_error *error);
/* Declare the parameters of a model of this size, data absent (buffers are no parameters and are left out). */
int swm_dit_declare(swm_weights *weights, const swm_dit_size *size, swm_dtype dtype, swm_error *error);

static inline bool swm_dit_is_softmax(const swm_dit_size *size, int64_t block)
{
    return (block + 1) % size->softmax_every == 0;
}

/* ---- conditions, fixed for a clip --------------------------------------------------------------------------------- */

/* What a caption contributes: keys and values of every block's cross attention, of its valid tokens. */
typedef struct swm_dit_caption {
    swm_tensor keys[SWM_DIT_MAX_DEPTH], values[SWM_DIT_MAX_DEPTH]; /* (valid,C) */
} swm_dit_caption;
/* states (L,caption channels) and mask (L), 1 = token, 0 = padding, on the host. A mask that is NULL or hides every token
 * hides none. Both may be NULL under plan, where the memory is that of any mask; the FLOPs of forwards depend on it and
 * are then those of L valid tokens, the most. */
void swm_dit_caption_prepare(swm_backend *b, const swm_dit *dit, swm_dit_caption *caption, int64_t tokens,
                             const float *states, const uint8_t *mask);

/* What a span of T latent frames of h x w cells sees of its positions and cameras. */
typedef struct swm_dit_view {
    int64_t frames, height, width;
    swm_tensor rotation, camera_rotation; /* F32 (N,D/2,2), (N,D/4,2) */
    swm_tensor rays, rays_inverse;        /* F32 (N,16) */
    swm_tensor plucker;                   /* (N,48) */
} swm_dit_view;
typedef struct swm_dit_cameras {
    int64_t frames, height, width;
    int64_t first_frame;     /* of the span in its video */
    const float *conditions; /* (T,20): camera to world relative to frame 0, fx fy cx cy in latent cells */
    const float *plucker;    /* (48,T,h,w) */
} swm_dit_cameras;           /* host memory; pointers may be NULL under plan */
void swm_dit_view_prepare(swm_backend *b, const swm_dit *dit, swm_dit_view *view, const swm_dit_cameras *cameras);

/* plucker_embedder and then a block's plucker_proj are two affine maps in a row. Here they are one, for every block: what
 * the block adds to a token, from its 48 Plucker numbers. The same for all clips. */
typedef struct swm_dit_plucker {
    swm_tensor weight[SWM_DIT_MAX_DEPTH], bias[SWM_DIT_MAX_DEPTH]; /* (C,48), (C) */
} swm_dit_plucker;
void swm_dit_plucker_prepare(swm_backend *b, const swm_dit *dit, swm_dit_plucker *plucker);

/* ---- streaming state ---------------------------------------------------------------------------------------------- */

/* What one block remembers of earlier chunks. */
typedef struct swm_dit_memory {
    swm_tensor state, normaliser, camera_state;          /* F32 (H,D,D), (H,D), (H,D,D): GDN blocks */
    swm_tensor key_tail, camera_key_tail;                /* (3*S,C): GDN blocks */
    swm_tensor keys, values, camera_keys, camera_values; /* (capacity*S,C): softmax blocks */
    swm_tensor ffn_tail;                                 /* (S,C) */
} swm_dit_memory;

/* Which earlier chunks softmax attention may see. GDN blocks remember everything in their state. */
typedef struct swm_dit_window {
    int64_t chunks; /* -1: all */
    bool sink;      /* the first chunk stays, as one of them */
} swm_dit_window;

typedef struct swm_dit_state {
    swm_dit_window window;
    int64_t tokens;                      /* S */
    int64_t capacity;                    /* frames that fit in a window, the current chunk included */
    int64_t held;                        /* chunks in the window */
    int64_t held_frames[SWM_MAX_CHUNKS]; /* frames of each, oldest first */
    int64_t context;                     /* frames in the window */
    swm_dit_memory blocks[SWM_DIT_MAX_DEPTH];
} swm_dit_state;

/* Room in the backend's arena for a video of `frames` latent frames cut into chunks of `chunk` (the first takes the
 * remainder too), zeroed. */
void swm_dit_state_take(swm_backend *b, const swm_dit *dit, swm_dit_state *state, swm_dit_window window, int64_t frames,
                        int64_t chunk, int64_t height, int64_t width);
/* After a pass with `keep`: the chunk of `frames` joins the window, and what has fallen out of it leaves. */
void swm_dit_state_advance(swm_backend *b, const swm_dit *dit, swm_dit_state *state, int64_t frames);

/* ---- the forward -------------------------------------------------------------------------------------------------- */

typedef struct swm_dit_step {
    swm_tensor latent;      /* (c,T,h,w) */
    const float *timesteps; /* (T) in 0..1000, truncated to whole numbers inside; host memory, may be NULL under plan */
    const swm_dit_caption *caption;
    const swm_dit_view *view;
    const swm_dit_plucker *plucker;
    swm_chunks chunks;    /* {1,{0}}: one span that looks both ways */
    swm_dit_state *state; /* NULL: nothing came before */
    bool keep;            /* write this span into the state */
} swm_dit_step;

/* The flow velocity (noise minus data), (c,T,h,w). */
swm_tensor swm_dit_forward(swm_backend *b, const swm_dit *dit, const swm_dit_step *step);

/* ---- shared by dit.c and dit_camera.c ----------------------------------------------------------------------------- */

/* The gates that both branches of a GDN block share. */
typedef struct swm_dit_gates {
    swm_tensor beta, decay; /* (N,H), F32 (T,H) */
} swm_dit_gates;

/* The camera branch on the modulated input a (N,C): heads in each token's ray frame. Returns (N,C) before out_proj_cam. */
swm_tensor swm_dit_camera_branch(swm_backend *b, const swm_dit *dit, const swm_dit_block *w, const swm_dit_step *step,
                                 swm_dit_memory *memory, bool softmax, swm_tensor a, const swm_dit_gates *gates);
/* Softmax attention of a span: every chunk sees the cached context and all frames up to its own end. */
swm_tensor swm_dit_attend(swm_backend *b, const swm_dit *dit, const swm_dit_step *step, swm_tensor cached_keys,
                          swm_tensor cached_values, swm_tensor q, swm_tensor k, swm_tensor v);
/* Key scale of GDN blocks: (D * S)^-1/2, S = tokens a frame. */
float swm_dit_key_scale(const swm_dit *dit, const swm_dit_view *view);
/* Chunks as the short convolution of keys sees them. */
swm_chunks swm_dit_key_chunks(const swm_dit_step *step, int64_t *starts);

#endif
