/* The second stage's network: the video stream of the LTX-2 transformer, which turns slightly noised latents of stage 1
 * into finer ones. Spec of the maths: MODEL.md, "Refiner".
 *
 * One forward serves both samplers. It always runs a span of frames that share one sigma, behind an optional window of
 * earlier frames' keys and values: the whole clip behind the sink (one shot), or three frames behind the sink and a
 * sliding history (blocks). The sink, the encoded picture, sees only itself, so its part of the clip is one pass.
 *
 * Owned here: weights bound by name, the text's part of cross attention, the window, the forward. Not here: sampling,
 * noise (sample/refine.h), the text encoder (text/refiner_prompt.h), audio, of which LTX-2's files have much. */
#ifndef SWM_REFINER_H
#define SWM_REFINER_H

#include "core/backend.h"
#include "io/config.h"
#include "io/weights.h"

enum { SWM_REFINER_MAX_DEPTH = 96 };

/* transformer/config.json. C = heads * head. */
typedef struct swm_refiner_config {
    int64_t channels;           /* of a latent, in and out */
    int64_t depth, heads, head; /* blocks */
    int64_t caption_channels;
    bool interleaved;         /* rope_type; the release says "split" */
    double rope_theta;        /* 10000 */
    int64_t max_positions[3]; /* seconds, rows and columns of pixels that stand for 1: 20, 2048, 2048 */
} swm_refiner_config;

/* The config.json at `path` or in the directory there, or its text. Keys that name another network (gated attention,
 * cross-attention modulation, another norm, activation or patch size, ...) are errors, as is a missing rope_type; audio
 * and unknown keys are ignored. */
int swm_refiner_config_read(swm_refiner_config *config, const char *path, swm_error *error);
int swm_refiner_config_parse(swm_refiner_config *config, const char *file, const void *data, size_t size,
                             swm_error *error);
/* LTX-2.0, 19B. */
swm_refiner_config swm_refiner_release_config(void);

/* Structs of nothing but tensors: what swm_weights_use takes. */
typedef struct swm_refiner_attention {
    swm_affine q, k, v, out;   /* (C,C) */
    swm_tensor q_norm, k_norm; /* (C) */
} swm_refiner_attention;

typedef struct swm_refiner_block {
    swm_tensor table; /* (6,C): shift, scale, gate of self attention, then of the FFN */
    swm_refiner_attention self, cross;
    swm_affine expand, contract; /* (4C,C), (C,4C) */
} swm_refiner_block;

typedef struct swm_refiner_outer {
    swm_affine in, out;                       /* (C,c), (c,C) */
    swm_affine caption_in, caption_out;       /* (C,caption), (C,C) */
    swm_affine time_in, time_out, time_block; /* (C,256), (C,C), (6C,C) */
    swm_tensor table;                         /* (2,C): shift, scale of the last norm */
} swm_refiner_outer;

typedef struct swm_refiner {
    swm_refiner_config config;
    swm_refiner_outer outer;
    swm_refiner_block blocks[SWM_REFINER_MAX_DEPTH];
} swm_refiner;

/* Look every tensor of the video stream up by name, once; the others in the file are never touched. The weights must
 * outlive the result. Free with free(). */
swm_refiner *swm_refiner_bind(const swm_weights *weights, const swm_refiner_config *config, swm_error *error);
/* Declare the parameters of the video stream, data absent. */
int swm_refiner_declare(swm_weights *weights, const swm_refiner_config *config, swm_dtype dtype, swm_error *error);

/* ---- text, fixed for a clip --------------------------------------------------------------------------------------- */

/* Keys and values of every block's cross attention: all slots are seen, registers included. */
typedef struct swm_refiner_text {
    swm_tensor keys[SWM_REFINER_MAX_DEPTH], values[SWM_REFINER_MAX_DEPTH]; /* (L,C) */
} swm_refiner_text;
/* states (L,caption channels) on the host, as the connectors leave them; may be NULL under plan. */
void swm_refiner_text_prepare(swm_backend *b, const swm_refiner *refiner, swm_refiner_text *text, int64_t tokens,
                              const float *states);

/* ---- the window --------------------------------------------------------------------------------------------------- */

/* What every block remembers of frames that are done. A ring: slot 0 is the sink, its keys turned to the frame before
 * the history whenever that moves; history frame f lies in slot 1 + (number of frames since the first) % history. */
typedef struct swm_refiner_window {
    int64_t tokens;           /* S of a frame */
    int64_t history;          /* most frames of history: 0 for one shot */
    int64_t held;             /* frames of history that are there now */
    int64_t written;          /* frames of history so far, those that have left included */
    int64_t sink_at;          /* frame that the sink's keys are turned to; -1: not yet */
    swm_tensor rows, columns; /* F32 (h,P,2), (w,P,2): angles, the same in all passes */
    struct {
        swm_tensor sink_keys;    /* (S,C) before rotation */
        swm_tensor keys, values; /* ((1 + history)*S,C) */
    } blocks[SWM_REFINER_MAX_DEPTH];
} swm_refiner_window;

/* Room in the backend's arena for a sink of one frame and `history` frames of h x w cells. */
void swm_refiner_window_take(swm_backend *b, const swm_refiner *refiner, swm_refiner_window *window, int64_t history,
                             int64_t height, int64_t width);

/* ---- the forward -------------------------------------------------------------------------------------------------- */

typedef enum swm_refiner_keep {
    SWM_REFINER_KEEP_NOTHING, /* a velocity is wanted */
    SWM_REFINER_KEEP_SINK,    /* frame 0, clean: its keys and values become the sink; no velocity */
    SWM_REFINER_KEEP_HISTORY, /* clean frames: their keys and values join the history; no velocity */
} swm_refiner_keep;

typedef struct swm_refiner_step {
    swm_tensor latent; /* (c,T,h,w): frames first .. first+T-1 of the clip */
    int64_t first;
    double fps;  /* of the video: positions are in seconds */
    float sigma; /* of every frame here; 0: clean */
    const swm_refiner_text *text;
    swm_refiner_window *window; /* read, and written as `keep` says */
    swm_refiner_keep keep;
} swm_refiner_step;

/* The flow velocity (noise minus clean), (c,T,h,w); absent when something is kept, in which case the last block only
 * makes its keys and values. Traces "blocks.0", ... (N,C) and "velocity" (N,c). */
swm_tensor swm_refiner_forward(swm_backend *b, const swm_refiner *refiner, const swm_refiner_step *step);

#endif
