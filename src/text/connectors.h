/* The text connectors of LTX-2: all hidden states of Gemma-3 packed, projected, completed with learned registers and sent
 * through a small 1-D transformer. Owns binding and forward of the video side; the audio side is never read. */
#ifndef SWM_CONNECTORS_H
#define SWM_CONNECTORS_H

#include "core/backend.h"
#include "io/json.h"
#include "io/weights.h"

enum { SWM_CONNECTORS_MAX_DEPTH = 16 };

/* connectors/config.json. E = caption_channels = heads * head. */
typedef struct swm_connectors_config {
    int64_t caption_channels, layers; /* width of the encoder's states, and how many of them (its layers + 1) */
    int64_t depth, heads, head, registers;
    int64_t base_positions; /* 4096: position that stands for 1 */
    double rope_theta;
    bool interleaved; /* rope_type, which must be told: the class and the release disagree on its default */
} swm_connectors_config;

/* Absent keys are as in the release; values that ask for another network are refused; what is said about the audio side
 * is not looked at. `path`: the file, or the directory that holds it as config.json. On failure *config is {0}. */
int swm_connectors_config_read(swm_connectors_config *config, const char *path, swm_error *error);
int swm_connectors_config_parse(swm_connectors_config *config, const char *file, const void *data, size_t size,
                                swm_error *error);
/* From a parsed object; `file` only names the source. */
int swm_connectors_config_from_json(swm_connectors_config *config, const char *file, const cJSON *object,
                                    swm_error *error);
swm_connectors_config swm_connectors_release_config(void);

typedef struct swm_connectors_block {
    swm_affine q, k, v, out;     /* (E,E) */
    swm_tensor q_norm, k_norm;   /* (E) */
    swm_affine expand, contract; /* (4E,E), (E,4E) */
} swm_connectors_block;
typedef struct swm_connectors_outer {
    swm_tensor text_in;   /* (E, E*layers) */
    swm_tensor registers; /* (R,E) */
} swm_connectors_outer;
typedef struct swm_connectors {
    swm_connectors_config config;
    swm_connectors_outer outer;
    swm_connectors_block blocks[SWM_CONNECTORS_MAX_DEPTH];
} swm_connectors;

/* Free with free(). Borrows the tensors: keep the weights open as long as it is used. NULL on failure. */
swm_connectors *swm_connectors_bind(const swm_weights *weights, const swm_connectors_config *config, swm_error *error);
/* Declare the tensors that bind asks for, all of one type, to plan without files. */
int swm_connectors_declare(swm_weights *weights, const swm_connectors_config *config, swm_dtype dtype,
                           swm_error *error);

/* states (layers,n,E) of the text's n tokens alone, 1 <= n <= slots -> (slots,E): the text first, registers behind it.
 * Traces "packed", "text_proj_in", "blocks.0", ... and "prompt_embeds". The result is all that stays in the arena. */
swm_tensor swm_connectors_forward(swm_backend *b, const swm_connectors *connectors, swm_tensor states, int64_t slots);

#endif
