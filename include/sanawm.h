/* sana-wm.c: SANA-WM, a camera-controlled video world model, as a C library.
 *
 *     swm_message message;
 *     swm_model *model = swm_model_open("models/toyworld", NULL, &message);
 *     swm_request request = swm_request_defaults(model);
 *     request.image = "picture.png";
 *     request.action = "w-16,dw-16";
 *     request.fov = 60;
 *     swm_output_options output = {.path = "out.mp4"};
 *     if (swm_generate_file(model, &request, &output, NULL, &message) != 0) puts(message.text);
 *     swm_model_close(model);
 *
 * A model is immutable once open and may serve several threads; a generation owns everything else that it needs.
 * Functions return 0, or -1 (pointers: NULL) with one line in the message that names the cause and the fix. The library
 * prints nothing and never exits. Strings and arrays in requests are borrowed for the duration of the call. */
#ifndef SANAWM_H
#define SANAWM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SWM_API __attribute__((visibility("default")))

typedef struct swm_message {
    char text[1024]; /* one line, no newline */
} swm_message;

/* "0.1.0" */
SWM_API const char *swm_version(void);

/* ---- model -------------------------------------------------------------------------------------------------------- */

typedef struct swm_model swm_model;

typedef struct swm_model_options {
    const char *dit;          /* DiT weights elsewhere than in DIRECTORY/dit: .safetensors, index, .pt; NULL: there */
    const char *text_encoder; /* Gemma-2 directory elsewhere than in DIRECTORY/text_encoder; NULL: there */
    bool softcap;             /* attention soft-capping in Gemma-2; the reference runs without */
    bool no_refiner;          /* do not open the refiner, the second stage */
    /* The refiner elsewhere: a directory with transformer/, connectors/ and text_encoder/, or another model's. NULL: in
     * DIRECTORY/refiner, or in DIRECTORY/refiner_diffusers and DIRECTORY/gemma3_12b. */
    const char *refiner;
    const char *refiner_lora;     /* adapter (.safetensors) for base weights of LTX-2, merged when opened; NULL: none */
    double refiner_lora_strength; /* 0: 1 */
} swm_model_options;

/* Open a directory in the release's layout: config.yaml, dit/, vae/, unless the model runs on its null caption
 * text_encoder/, and if it is there the refiner, which must then be complete. A Hugging Face cache directory (models--...) stands for its snapshot. Weights are mapped, not read.
 * options may be NULL. */
SWM_API swm_model *swm_model_open(const char *directory, const swm_model_options *options, swm_message *message);
SWM_API void swm_model_close(swm_model *model); /* NULL is fine */
/* Clips are refined unless the request says otherwise. */
SWM_API bool swm_model_has_refiner(const swm_model *model);

/* ---- what to generate --------------------------------------------------------------------------------------------- */

typedef enum swm_noise {
    SWM_NOISE_TORCH, /* what torch draws on a GPU with 132 multiprocessors: repeats published samples */
    SWM_NOISE_FRAME, /* one stream a latent frame: independent of the clip's length and of hardware */
} swm_noise;

typedef enum swm_tiling {
    SWM_TILES_NONE,     /* decode the whole clip, in spans that remember their past: memory does not grow with length */
    SWM_TILES_TEMPORAL, /* long clips in overlapping pieces of 13 latent frames, cross-faded */
    SWM_TILES_BOTH,     /* and in pieces of 512 pixels, as the reference does */
} swm_tiling;

/* How the second stage goes over a clip. */
typedef enum swm_refiner_mode {
    SWM_REFINER_AUTO,     /* blocks for the streaming release's weights or when their sizes are set, else one shot */
    SWM_REFINER_ONE_SHOT, /* the whole clip at once */
    SWM_REFINER_BLOCKS,   /* a few latent frames at a time, behind a window of those before: less memory, linear time */
} swm_refiner_mode;

typedef struct swm_request {
    /* First frame: a file (PNG, JPEG, WebP, ...), or 8-bit RGB pixels. Scaled and cropped to the video's size. */
    const char *image;
    const uint8_t *image_rgb; /* [image_height][image_width][3] when `image` is NULL */
    int image_width, image_height;

    /* Camera path, exactly one: an action string ("w-100,dw-60"), a file of camera-to-world poses (.npy, .npz), or
     * poses in memory. OpenCV axes: +x right, +y down, +z forward. */
    const char *action, *camera;
    const float *poses; /* [pose_count][4][4] */
    int64_t pose_count;
    const char *key_profile;  /* what the letters of an action mean: "current" (NULL), "v1", "sglang", "flashdreams" */
    double translation_speed; /* units a frame; 0: the profile's */
    double rotation_speed_degrees; /* degrees a frame; 0: the profile's */

    /* Intrinsics in pixels of the source picture, at most one; else the picture's EXIF focal length, else 60 degrees
     * across, either of which is announced as a notice. */
    const char *intrinsics;         /* .npy: (4), (3,3), (N,4) or (N,3,3) */
    const float *intrinsics_values; /* fx, fy, cx, cy */
    double fov;                     /* horizontal field of view in degrees; 0: not given */

    /* Prompt, or embeddings saved by an earlier run (then no text encoder is needed). Models without a text encoder use
     * their null caption and take neither. */
    const char *prompt, *negative_prompt; /* UTF-8; negative NULL: "" */
    const char *prompt_embeddings;        /* file to read */
    const char *save_prompt_embeddings;   /* file to write; NULL: none */

    int64_t frames;    /* at most; snapped to 8k+1 and bounded by the path. 0: 161 */
    int width, height; /* multiples of 32; 0: the model's */
    double fps;        /* of the file; the motion of actions is fixed at 16 a second. 0: 16 */
    int steps;         /* 0: 60 */
    double guidance;   /* classifier-free guidance scale; 1: none, half the work. 0: 5, or 1 without a text encoder */
    double flow_shift; /* 0: the model's */
    uint64_t seed;
    const char *sampler; /* NULL: flow_euler_ltx, or chunk_flow_euler for a chunk-causal model */
    double
        chunk_interval; /* chunk_flow_euler: start of a chunk after the one before, in parts of all steps; 0: 1 / chunks */
    swm_noise noise;
    swm_tiling tiling;
    bool
        reference_exact; /* also repeat what is an accident in the reference: lagging tiles (temporal ones at least, but
                           * for streaming models), truncation to bytes */

    /* The second stage, if the model has one. The refined video lacks the first frame, which is the given picture's. */
    bool no_refiner;
    swm_refiner_mode refiner_mode;
    int64_t refiner_block;      /* latent frames at a time in blocks. 0: 3 */
    int64_t refiner_window;     /* latent frames that a block sees before itself, the first of all included. 0: 11 */
    int64_t refiner_sink;       /* leading latent frames that stay as they are: only 1 is possible. 0: 1 */
    uint64_t refiner_seed;      /* 42 by default */
    const char *refiner_sigmas; /* noise levels, falling. NULL: "0.909375,0.725,0.421875" */
    const char *refiner_prompt_embeddings;      /* file to read: no Gemma-3 is needed then */
    const char *save_refiner_prompt_embeddings; /* file to write; NULL: none */

    /* The first stage's result with its poses, as a file: to be refined or decoded without making it again. With `latents`
     * picture, camera and intrinsics stay empty, sizes and frames are the file's, and so are prompt and fps where they are
     * NULL and 0. */
    const char *latents;      /* file to read */
    const char *save_latents; /* file to write; NULL: none */

    const char *device; /* "cpu" or "cuda"; NULL: the first GPU if there is one and the build has CUDA, else the CPU */
    /* Bytes of GPU memory to stay within: weights stream, and decoding goes over to tiles, with a notice, where they
     * must. 0: what is free. The result is the same but for tiles. */
    uint64_t vram_budget;
    bool float32; /* compute in float32 on a GPU too: for tests, slow */
    int threads;  /* of the CPU; 0: as many as the machine has */
} swm_request;

/* All defaults written out for this model, seed 42. Image and camera are left empty. */
SWM_API swm_request swm_request_defaults(const swm_model *model);

/* ---- watching and stopping ---------------------------------------------------------------------------------------- */

typedef struct swm_progress {
    const char *stage;      /* "prompt", "encode", "denoise", "decode_stage1", "refiner_prompt", "refine", "decode" */
    int step, steps;        /* of the stage; steps 0: unknown */
    double seconds;         /* since the generation began */
    double remaining;       /* estimate for the whole generation; negative: not known yet */
    const uint8_t *preview; /* coarse RGB picture of the clip as it stands, or NULL; lives during the call */
    int preview_width, preview_height;
} swm_progress;

/* All members may be NULL. Called from the generating thread. */
typedef struct swm_events {
    void *user;
    void (*notice)(void *user, const char *text); /* something was assumed, rounded or shortened */
    void (*progress)(void *user, const swm_progress *progress);
    bool (*stop)(void *user); /* polled often; true ends the generation with an error, leaving no file */
    /* Finished frames, in order: rgb[count][height][width][3]; non-zero ends the generation. */
    int (*frames)(void *user, int64_t first, int64_t count, const uint8_t *rgb, int width, int height);
    /* The same for the clip before it is refined, which is decoded for this alone. Not called without a refiner. */
    int (*stage1_frames)(void *user, int64_t first, int64_t count, const uint8_t *rgb, int width, int height);
} swm_events;

/* ---- generating --------------------------------------------------------------------------------------------------- */

/* Frames go to events->frames. `sidecar`, if not NULL, receives a JSON text that describes the run (poses, intrinsics,
 * prompt, seed, all settings, fingerprints of the weights, timings); free() it. */
SWM_API int swm_generate(const swm_model *model, const swm_request *request, const swm_events *events, char **sidecar,
                         swm_message *message);

typedef struct swm_output_options {
    const char *path;        /* .mp4, .mkv for ffv1, a directory for png */
    const char *codec;       /* "h264" (NULL), "hevc", "av1", "ffv1", "png" */
    int quality;             /* the codec's constant quality (CRF); 0: its default */
    bool no_sidecar;         /* do not write the JSON text beside it */
    const char *stage1_path; /* video of the clip before it is refined, of the same codec; NULL: none */
} swm_output_options;

/* Where the sidecar of a video stands: "clip.mp4" -> "clip.json", "frames/" -> "frames.json". free() it. */
SWM_API char *swm_sidecar_path(const char *path);

/* Frames go into a video, renamed into place when complete, with the sidecar beside it. */
SWM_API int swm_generate_file(const swm_model *model, const swm_request *request, const swm_output_options *output,
                              const swm_events *events, swm_message *message);

#ifdef __cplusplus
}
#endif
#endif
