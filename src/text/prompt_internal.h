/* What prompts of both stages share: the text's check, token ids that fit an encoder, and the parts of a file of states.
 * Included by text/prompt.c, which implements it, and text/refiner_prompt.c. */
#ifndef SWM_PROMPT_INTERNAL_H
#define SWM_PROMPT_INTERNAL_H

#include "io/safetensors.h"
#include "text/gemma.h"
#include "text/tokenizer.h"

/* Valid UTF-8 without NUL, of at most SWM_PROMPT_LIMIT bytes. */
int swm_prompt_check_text(const char *name, const char *data, size_t size, swm_error *error);

/* Token ids of `text`, BOS first, each a row of the encoder's embedding. Fresh memory; NULL on failure. */
int32_t *swm_prompt_ids(const swm_tokenizer *tokenizer, const swm_gemma *gemma, const char *text, int64_t *count,
                        swm_error *error);

/* The value of a metadata key that must be there; NULL on failure. `name` is the file in messages, here and below. */
const char *swm_prompt_metadata(const swm_safetensors *file, const char *name, const char *key, swm_error *error);
/* That a file has this format and version, and was made by this encoder (NULL: by any). */
int swm_prompt_check_file(const swm_safetensors *file, const char *name, const char *format, const char *version,
                          const char *encoder, swm_error *error);
/* A tensor of exactly this type and rank; NULL on failure. */
const swm_tensor *swm_prompt_tensor(const swm_safetensors *file, const char *name, const char *tensor, swm_dtype dtype,
                                    int rank, swm_error *error);
/* That `count` values of a tensor are finite. */
int swm_prompt_check_values(const char *name, const char *tensor, const float *values, int64_t count, swm_error *error);

#endif
