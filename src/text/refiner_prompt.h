/* Prompts of the second stage: text to the (1024, 3840) states that its cross attention sees, through Gemma-3 and the
 * connectors, and files that keep them. Owns the rules of assembly. */
#ifndef SWM_REFINER_PROMPT_H
#define SWM_REFINER_PROMPT_H

#include "text/connectors.h"
#include "text/gemma.h"
#include "text/tokenizer.h"

enum { SWM_REFINER_PROMPT_SLOTS = 1024 };

typedef struct swm_refiner_prompt {
    char *text; /* never NULL */
    int64_t slots, width;
    int64_t dropped; /* tokens of the text's end that had no room; 0 when loaded from a file */
    float *states;   /* (slots,width), owned */
} swm_refiner_prompt;
void swm_refiner_prompt_free(swm_refiner_prompt *prompt); /* safe on {0} */

/* ---- encoding ---------------------------------------------------------------------------------------------------- */

/* What turns text into states. Borrows everything. */
typedef struct swm_refiner_encoder {
    const swm_gemma *gemma; /* of generation 3 */
    const swm_tokenizer *tokenizer;
    const swm_connectors *connectors;
    int64_t slots; /* 1 to SWM_REFINER_PROMPT_MOST */
} swm_refiner_encoder;
enum { SWM_REFINER_PROMPT_MOST = 1 << 14 };

/* Whether encoder and connectors belong together; swm_refiner_prompt_encode asks, too. */
int swm_refiner_encoder_check(const swm_gemma *gemma, const swm_connectors *connectors, swm_error *error);

/* Which states they make: the fingerprints of both weights. */
enum { SWM_REFINER_FINGERPRINT = SWM_GEMMA_FINGERPRINT + 80 };
int swm_refiner_encoder_fingerprint(const swm_gemma *gemma, const swm_weights *gemma_weights,
                                    const swm_weights *connectors_weights, char text[SWM_REFINER_FINGERPRINT],
                                    swm_error *error);

/* The ids that `text`, cleaned as swm_prompt_clean does it, becomes: <bos> first, no template, at most `slots`, the rest
 * counted in *dropped. Fresh memory; NULL on failure. */
int32_t *swm_refiner_prompt_tokens(const swm_refiner_encoder *encoder, const char *text, int64_t *count,
                                   int64_t *dropped, swm_error *error);

/* Encode `count` prompts: the text encoder runs over all of them before the connectors run over all of them, so that
 * under a memory budget each is loaded once. In between the arena keeps layers + 1 states a token (0.38 MB in bf16 for
 * Gemma-3-12B). prompts[i] are filled; on failure all are {0}.
 * The arena must have room: its peak under plan, for the same texts, is exact. Under plan the states stay zero. */
int swm_refiner_prompt_encode(swm_refiner_prompt *prompts, const swm_refiner_encoder *encoder, swm_backend *b,
                              const char *const *texts, int64_t count, swm_error *error);

/* Its part on the device: text i has tokens[i] ids, 1 to slots, and its states go to states[i], (slots,E) on the host.
 * Plans need no tokenizer, and ids and states may be NULL. Ask swm_backend_check afterwards. */
void swm_refiner_prompt_forward(swm_backend *b, const swm_refiner_encoder *encoder, const int32_t *const *ids,
                                const int64_t *tokens, float *const *states, int64_t count);

/* ---- files ------------------------------------------------------------------------------------------------------- */

/* A safetensors file with states F32 (slots,width) and in its metadata format, version, prompt and encoder, which is
 * `fingerprint` (swm_refiner_encoder_fingerprint). */
int swm_refiner_prompt_save(const char *path, const swm_refiner_prompt *prompt, const char *fingerprint,
                            swm_error *error);
/* slots, width 0: any. On failure *prompt is {0}: a file that is something else, another version or shape, values that
 * are not finite. */
int swm_refiner_prompt_load(swm_refiner_prompt *prompt, const char *path, int64_t slots, int64_t width,
                            swm_error *error);
/* The same from memory; `name` stands for the path in messages. */
int swm_refiner_prompt_load_memory(swm_refiner_prompt *prompt, const void *data, size_t size, const char *name,
                                   int64_t slots, int64_t width, swm_error *error);

#endif
