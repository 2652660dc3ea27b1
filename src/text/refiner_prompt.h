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

/* What turns text into states. Borrows everything. */
typedef struct swm_refiner_encoder {
    const swm_gemma *gemma; /* of generation 3 */
    const swm_tokenizer *tokenizer;
    const swm_connectors *connectors;
    int64_t slots;
} swm_refiner_encoder;

/* The ids that `text` becomes: <bos> first, no template, at most `slots`, the rest counted in *dropped. Fresh memory. */
int32_t *swm_refiner_prompt_tokens(const swm_refiner_encoder *encoder, const char *text, int64_t *count,
                                   int64_t *dropped, swm_error *error);

/* Encode `count` prompts: the text encoder runs over all of them before the connectors run over all of them, so that
 * under a memory budget each is loaded once. prompts[i] are filled; on failure all are {0}. */
int swm_refiner_prompt_encode(swm_refiner_prompt *prompts, const swm_refiner_encoder *encoder, swm_backend *b,
                              const char *const *texts, int64_t count, swm_error *error);

/* A safetensors file with states F32 (slots,width) and in its metadata format, version, prompt and encoder. */
int swm_refiner_prompt_save(const char *path, const swm_refiner_prompt *prompt, const char *fingerprint,
                            swm_error *error);
/* slots, width 0: any. On failure *prompt is {0}. */
int swm_refiner_prompt_load(swm_refiner_prompt *prompt, const char *path, int64_t slots, int64_t width,
                            swm_error *error);

#endif
