/* Arbitrary bytes as a tokenizer.model; what loads must encode, into ids that exist. */
#include <stdlib.h>
#include <string.h>

#include "tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0 && data[0] == '{') return 0; /* the other target's */
    swm_error error = {0};
    swm_tokenizer *tokenizer = swm_tokenizer_from_memory((const char *)data, size, "fuzz", &error);
    if ((tokenizer == NULL) != swm_failed(&error)) abort();
    if (tokenizer == NULL) return 0;
    static const char sample[] =
        "A cat  sleeping.\n\n\n<end_of_turn> na\xc3\xafve \xe4\xb8\x96\xe7\x95\x8c \xf0\x9f\x99\x82";
    encode(tokenizer, sample, sizeof sample); /* its NUL included */
    encode(tokenizer, (const char *)data, size);
    for (int32_t id = 0; id < 64 && id < swm_tokenizer_vocabulary(tokenizer); id++) {
        const char *piece = swm_tokenizer_piece(tokenizer, id);
        if (piece != NULL) encode(tokenizer, piece, strlen(piece));
    }
    swm_tokenizer_close(tokenizer);
    return 0;
}
