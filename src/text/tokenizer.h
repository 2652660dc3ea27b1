/* Text to token ids for the Gemma text encoders: byte-fallback BPE, read from a SentencePiece `tokenizer.model` or from
 * a Hugging Face `tokenizer.json`. Prompt assembly, truncation and padding belong to the prompt stage. */
#ifndef SWM_TOKENIZER_H
#define SWM_TOKENIZER_H

#include "core/base.h"

/* Immutable once loaded: any number of threads may encode with it at the same time. */
typedef struct swm_tokenizer swm_tokenizer;

/* Longest text that swm_tokenizer_encode takes, in bytes. */
#define SWM_TOKENIZER_TEXT_LIMIT ((size_t)1 << 20)

/* Load a tokenizer.json or tokenizer.model file, or a directory that holds one of them (tokenizer.json is preferred).
 * Which of the two a file is follows from its content, not its name. NULL with a message when it cannot be used. */
swm_tokenizer *swm_tokenizer_open(const char *path, swm_error *error);

/* The same from memory, which is not needed after the call; `name` stands for the file in messages. */
swm_tokenizer *swm_tokenizer_from_memory(const char *data, size_t size, const char *name, swm_error *error);

void swm_tokenizer_close(swm_tokenizer *tokenizer); /* NULL is fine */

/* All ids are in [0, vocabulary). */
int64_t swm_tokenizer_vocabulary(const swm_tokenizer *tokenizer);

/* Tokens of `text` (`length` bytes of UTF-8, no NUL needed) with BOS in front and no EOS; the empty text is BOS alone.
 * On success *ids is fresh memory (free()) of *count ids. Invalid UTF-8 is an error that names the byte offset; texts
 * above SWM_TOKENIZER_TEXT_LIMIT are refused. On failure *ids is NULL and *count 0. */
int swm_tokenizer_encode(const swm_tokenizer *tokenizer, const char *text, size_t length, int32_t **ids, size_t *count,
                         swm_error *error);

/* The string of a token, for messages and tests; NULL when the id is out of range or unused. Owned by the tokenizer. */
const char *swm_tokenizer_piece(const swm_tokenizer *tokenizer, int32_t id);

#endif
