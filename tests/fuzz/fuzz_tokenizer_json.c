/* Arbitrary bytes as a tokenizer.json; what loads must encode, into ids that exist. */
#include <stdlib.h>
#include <string.h>

#include "tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || data[0] != '{') return 0; /* the other target's */
    swm_error error = {0};
    swm_tokenizer *tokenizer = swm_tokenizer_from_memory((const char *)data, size, "fuzz", &error);
    if ((tokenizer == NULL) != swm_failed(&error)) abort();
    if (tokenizer == NULL) return 0;
    encode(tokenizer, (const char *)data, size); /* the file as a prompt: full of its own pieces */
    for (int32_t id = 0; id < 64 && id < swm_tokenizer_vocabulary(tokenizer); id++) {
        const char *piece = swm_tokenizer_piece(tokenizer, id);
        if (piece != NULL) encode(tokenizer, piece, strlen(piece));
    }
    swm_tokenizer_close(tokenizer);
    return 0;
}
