/* What both tokenizer targets ask of a tokenizer that loads: any text becomes ids that exist, or is refused. */
#ifndef SWM_FUZZ_TOKENIZER_H
#define SWM_FUZZ_TOKENIZER_H

#include <stdlib.h>

#include "text/tokenizer.h"

static inline void encode(const swm_tokenizer *tokenizer, const char *text, size_t length)
{
    int32_t *ids;
    size_t count;
    swm_error error = {0};
    if (swm_tokenizer_encode(tokenizer, text, length, &ids, &count, &error) != 0) {
        if (!swm_failed(&error) || ids != NULL || count != 0) abort();
        return;
    }
    if (count == 0) abort();
    for (size_t i = 0; i < count; i++)
        if (swm_tokenizer_piece(tokenizer, ids[i]) == NULL) abort();
    free(ids);
}

#endif
