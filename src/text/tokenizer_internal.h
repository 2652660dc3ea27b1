/* What the two file readers (tokenizer_model.c, tokenizer_json.c) fill and the algorithm (tokenizer.c) reads.
 * Included by these three only. */
#ifndef SWM_TOKENIZER_INTERNAL_H
#define SWM_TOKENIZER_INTERNAL_H

#include "text/tokenizer.h"

/* Far above any real vocabulary (Gemma-3: 262145 pieces of at most 93 bytes, 0.6 million merges) and low enough that
 * a hostile file costs neither much memory nor much time. */
#define SWM_TOKENIZER_PIECE_LIMIT  (1 << 20)
#define SWM_TOKENIZER_PIECE_LENGTH 512
#define SWM_TOKENIZER_MERGE_LIMIT  (1 << 22)
#define SWM_TOKENIZER_SPACE        "\xe2\x96\x81" /* U+2581, stands for U+0020 inside pieces */
#define SWM_TOKENIZER_SPACE_LENGTH 3

typedef struct swm_piece {
    const char *text; /* in swm_tokenizer.text, NUL behind it; NULL for an id that the file leaves out */
    int32_t length;   /* bytes */
    int32_t rank;     /* of a merge that makes this piece, 0 first; only when merges come from scores */
} swm_piece;

/* String -> id over pieces; open addressing. */
typedef struct swm_word_map {
    int32_t *slots; /* id + 1, 0 when empty; NULL for a map without entries */
    uint32_t mask;
    int32_t longest;  /* bytes of its longest string */
    bool begins[256]; /* some string begins with this byte */
} swm_word_map;

typedef struct swm_merge {
    int32_t left, right, rank, id; /* ids of the parts, order of the merge, id of the whole; rank -1: an empty slot */
} swm_merge;

struct swm_tokenizer {
    char *name;
    char *text; /* the strings of all pieces */
    size_t text_used, text_size;
    swm_piece *pieces;
    int32_t count;
    swm_word_map words;      /* what characters and merged characters may become */
    swm_word_map raw;        /* strings cut out of the text as it came, before anything else */
    swm_word_map normalized; /* strings cut out of the rest after spaces became U+2581 */
    /* Merges listed by pair, from tokenizer.json. NULL: two neighbours merge when their concatenation is in `words`,
     * in the order of swm_piece.rank. */
    swm_merge *merges;
    uint32_t merge_mask;
    int32_t bytes[256];   /* ids of the pieces <0x00> .. <0xFF>, or -1 */
    int32_t bos, unknown; /* `unknown` may be -1 */
    bool fuse_unknown;    /* a run of unknown characters is one token */
};

/* Readers. They fill a zeroed tokenizer whose `name` is set; on failure the caller closes it. */
int swm_tokenizer_read_model(swm_tokenizer *tokenizer, const uint8_t *data, size_t size, swm_error *error);
int swm_tokenizer_read_json(swm_tokenizer *tokenizer, const char *data, size_t size, swm_error *error);

/* Room for ids [0, count) and for `text_size` bytes of piece text, NULs included. Sets bytes, bos and unknown to -1. */
int swm_tokenizer_reserve(swm_tokenizer *tokenizer, int32_t count, size_t text_size, swm_error *error);
/* Give an id its string: 1 to SWM_TOKENIZER_PIECE_LENGTH bytes of UTF-8 for an id that has none yet. */
int swm_tokenizer_set_piece(swm_tokenizer *tokenizer, int32_t id, const char *text, size_t length, swm_error *error);
/* Size a map for at most `entries` strings, then add pieces to it; the same string twice is an error. */
int swm_word_map_reserve(swm_word_map *map, size_t entries, swm_error *error);
int swm_word_map_add(swm_tokenizer *tokenizer, swm_word_map *map, int32_t id, swm_error *error);
/* The id of a string, or -1. */
int32_t swm_word_map_find(const swm_tokenizer *tokenizer, const swm_word_map *map, const char *text, int32_t length);
int swm_merges_reserve(swm_tokenizer *tokenizer, size_t entries, swm_error *error);
/* A pair that is listed twice keeps its later rank. */
int swm_merges_add(swm_tokenizer *tokenizer, swm_merge merge, swm_error *error);

/* Bytes of the UTF-8 character at text[0], or 0 when there is no valid one in `length` bytes. */
size_t swm_utf8_character(const char *text, size_t length);

#endif
