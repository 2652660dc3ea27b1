/* Prompts: from text to the states and mask that one branch of the video model attends to, and files that keep them, so
 * that the text encoder need not be loaded again. Owns the rules of assembly; the tokenizer and the encoder stand
 * beside. */
#ifndef SWM_PROMPT_H
#define SWM_PROMPT_H

#include "text/gemma.h"
#include "text/tokenizer.h"

/* One branch, with or without guidance. All memory is owned: free with swm_prompt_free. */
typedef struct swm_prompt {
    char *text;      /* as the user wrote it, without the instruction that is put before it; never NULL */
    int64_t tokens;  /* model_max_length */
    int64_t width;   /* of the text encoder */
    int64_t dropped; /* tokens of the text's end that had no room; 0 when loaded from a file */
    float *states;   /* (tokens,width); rows that are masked are zero */
    uint8_t *mask;   /* (tokens): 1 for a token of the text, 0 for padding; at least one is 1 */
} swm_prompt;

void swm_prompt_free(swm_prompt *prompt); /* safe on {0} */

/* ---- text -------------------------------------------------------------------------------------------------------- */

/* The most bytes a prompt may have. */
#define SWM_PROMPT_LIMIT SWM_TOKENIZER_TEXT_LIMIT

/* A prompt's text in fresh memory, without the whitespace (Unicode's) around it. Empty text, invalid UTF-8, NUL bytes
 * and more than SWM_PROMPT_LIMIT bytes are errors. `name` is the file or option in messages. NULL on failure. */
char *swm_prompt_clean(const char *name, const char *data, size_t size, swm_error *error);
/* The same for a file. */
char *swm_prompt_read_file(const char *path, swm_error *error);

/* ---- encoding ---------------------------------------------------------------------------------------------------- */

/* What turns text into states. Borrows everything. */
typedef struct swm_prompt_encoder {
    const swm_gemma *gemma;
    const swm_tokenizer *tokenizer;
    char *const *instruction; /* lines put before the prompt (chi_prompt), joined by newlines; verbatim, blanks count */
    int instruction_count;    /* 0: none */
    int64_t tokens;           /* model_max_length, 2 to SWM_PROMPT_TOKENS */
} swm_prompt_encoder;
enum { SWM_PROMPT_TOKENS = 1 << 16 };

/* Encode both branches. `prompt` is cleaned as above; `negative` is taken literally and may be empty. What exceeds the
 * tokens there are is cut off and counted in `dropped`. On failure both are {0}.
 * The arena must have room: its peak under plan, for the same texts, is exact. Under plan the states stay zero. */
int swm_prompt_encode(swm_prompt *conditional, swm_prompt *unconditional, const swm_prompt_encoder *encoder,
                      swm_backend *b, const char *prompt, const char *negative, swm_error *error);

/* The prompt of a model that was trained without text: `tokens` zero states, of which the first is valid. */
int swm_prompt_null(swm_prompt *prompt, int64_t tokens, int64_t width, swm_error *error);

/* ---- files ------------------------------------------------------------------------------------------------------- */

/* A safetensors file with conditional.states and unconditional.states F32 (tokens,width), conditional.mask and
 * unconditional.mask U8 (tokens), and in its metadata format, version, prompt, negative_prompt and encoder.
 * `fingerprint`, never NULL, names the encoder (swm_gemma_fingerprint); instruction and tokenizer are not part of it.
 * Both branches have the same shape. */
int swm_prompt_save(const char *path, const swm_prompt *conditional, const swm_prompt *unconditional,
                    const char *fingerprint, swm_error *error);

/* What a model needs of a file of prompt states. */
typedef struct swm_prompt_expected {
    int64_t tokens, width;   /* 0: any */
    const char *fingerprint; /* NULL: of any encoder */
} swm_prompt_expected;

/* On failure both are {0}: a file that is something else, another version, shapes or an encoder other than expected,
 * values that are not finite, masks of other than 0 and 1 or without a valid token. */
int swm_prompt_load(swm_prompt *conditional, swm_prompt *unconditional, const char *path, swm_prompt_expected expected,
                    swm_error *error);
/* The same from memory; `name` stands for the path in messages. */
int swm_prompt_load_memory(swm_prompt *conditional, swm_prompt *unconditional, const void *data, size_t size,
                           const char *name, swm_prompt_expected expected, swm_error *error);

#endif
