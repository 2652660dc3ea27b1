/* Reads SentencePiece `tokenizer.model`: a protobuf message whose field 1 repeats a piece {1: string, 2: float score,
 * 3: type} with its id as position, and whose field 2 holds the trainer settings, of which the BOS id matters here.
 * Only the wire format is read, strictly; unknown fields are skipped, groups (long deprecated) are refused. */
#include "text/tokenizer_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE_NORMAL = 1, PIECE_UNKNOWN, PIECE_CONTROL, PIECE_USER, PIECE_UNUSED, PIECE_BYTE };
enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

#define FIELD_PIECES      1
#define FIELD_TRAINER     2
#define TRAINER_BOS_ID    41
#define TRAINER_BOS_UNSET 1 /* what an absent field stands for */

typedef struct reader {
    const char *name;
    const uint8_t *start, *at, *end; /* `start`: of the file, for offsets in messages */
    swm_error *error;
} reader;

typedef struct field {
    uint32_t number;
    unsigned wire;
    uint64_t value; /* varints and fixed sizes */
    reader body;    /* WIRE_BYTES */
} field;

typedef struct model_piece {
    reader text;
    float score;
    uint64_t type;
} model_piece;

static int damaged(const reader *r, const char *what)
{
    return swm_fail(r->error, "%s: byte %zu: %s; it is no SentencePiece tokenizer.model, or a damaged one", r->name,
                    (size_t)(r->at - r->start), what);
}

static int read_varint(reader *r, uint64_t *value)
{
    *value = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        if (r->at == r->end) return damaged(r, "the data ends inside a number");
        uint8_t byte = *r->at++;
        if (shift == 63 && byte > 1) break;
        *value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) return 0;
    }
    return damaged(r, "a number has more than 64 bits");
}

static int read_fixed(reader *r, int size, uint64_t *value)
{
    if (r->end - r->at < size) return damaged(r, "the data ends inside a number");
    *value = 0;
    for (int i = 0; i < size; i++) *value |= (uint64_t)*r->at++ << 8 * i;
    return 0;
}

/* Read the field at the cursor and move behind it. The cursor must not be at the end. */
static int read_field(reader *r, field *f)
{
    uint64_t tag;
    if (read_varint(r, &tag) != 0) return -1;
    if (tag >> 3 == 0 || tag >> 3 > 0x1fffffff) return damaged(r, "a field number is out of range");
    *f = (field){.number = (uint32_t)(tag >> 3), .wire = (unsigned)(tag & 7), .body = *r};
    switch (f->wire) {
    case WIRE_VARINT: return read_varint(r, &f->value);
    case WIRE_64: return read_fixed(r, 8, &f->value);
    case WIRE_32: return read_fixed(r, 4, &f->value);
    case WIRE_BYTES: break;
    default: return damaged(r, "a field has an unknown wire type");
    }
    uint64_t length;
    if (read_varint(r, &length) != 0) return -1;
    if (length > (uint64_t)(r->end - r->at)) return damaged(r, "a field is longer than what holds it");
    f->body.at = r->at;
    f->body.end = r->at += length;
    return 0;
}

static int read_piece(reader r, model_piece *piece)
{
    *piece = (model_piece){.text = {.at = r.at, .end = r.at}, .type = PIECE_NORMAL};
    while (r.at < r.end) {
        field f;
        if (read_field(&r, &f) != 0) return -1;
        static const unsigned wires[] = {[1] = WIRE_BYTES, [2] = WIRE_32, [3] = WIRE_VARINT};
        if (f.number > 3) continue;
        if (f.wire != wires[f.number]) return damaged(&r, "a field of a piece has the wrong wire type");
        if (f.number == 1) piece->text = f.body;
        if (f.number == 3) piece->type = f.value;
        if (f.number == 2) {
            uint32_t bits = (uint32_t)f.value;
            memcpy(&piece->score, &bits, sizeof bits);
        }
    }
    if (!isfinite(piece->score)) return damaged(&r, "the score of a piece is not finite");
    if (piece->type < PIECE_NORMAL || piece->type > PIECE_BYTE) return damaged(&r, "a piece has an unknown type");
    return 0;
}

/* How many pieces there are, of which kinds, and how much text they have. */
typedef struct census {
    size_t pieces, normal, user, text;
    int64_t bos;
} census;

static int take_census(reader r, census *c)
{
    *c = (census){.bos = TRAINER_BOS_UNSET};
    while (r.at < r.end) {
        field f;
        model_piece piece;
        if (read_field(&r, &f) != 0) return -1;
        if (f.number > FIELD_TRAINER) continue;
        if (f.wire != WIRE_BYTES) return damaged(&r, "a field of the model has the wrong wire type");
        if (f.number == FIELD_PIECES) {
            if (read_piece(f.body, &piece) != 0) return -1;
            c->pieces++;
            c->normal += piece.type == PIECE_NORMAL;
            c->user += piece.type == PIECE_USER;
            c->text += (size_t)(piece.text.end - piece.text.at) + 1;
        }
        while (f.number == FIELD_TRAINER && f.body.at < f.body.end) {
            field setting;
            if (read_field(&f.body, &setting) != 0) return -1;
            if (setting.number != TRAINER_BOS_ID) continue;
            if (setting.wire != WIRE_VARINT) return damaged(&f.body, "the BOS id has the wrong wire type");
            c->bos = (int32_t)(uint32_t)setting.value; /* an int32; -1 is written with 64 bits */
        }
    }
    if (c->pieces == 0 || c->pieces > SWM_TOKENIZER_PIECE_LIMIT)
        return swm_fail(r.error, "%s: has %zu pieces, expected 1 to %d; is it a SentencePiece tokenizer.model?", r.name,
                        c->pieces, SWM_TOKENIZER_PIECE_LIMIT);
    if (c->bos < 0 || c->bos >= (int64_t)c->pieces)
        return swm_fail(r.error, "%s: its BOS id is %lld, expected one of its %zu pieces", r.name, (long long)c->bos,
                        c->pieces);
    return 0;
}

/* The byte that a piece <0x00> .. <0xFF> stands for, or -1. */
static int byte_value(const char *text)
{
    static const char digits[] = "0123456789ABCDEF";
    if (strlen(text) != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>') return -1;
    const char *high = strchr(digits, text[3]), *low = strchr(digits, text[4]);
    return high == NULL || low == NULL ? -1 : (int)((high - digits) * 16 + (low - digits));
}

static int add_piece(swm_tokenizer *t, int32_t id, const model_piece *piece, swm_error *error)
{
    if (swm_tokenizer_set_piece(t, id, (const char *)piece->text.at, (size_t)(piece->text.end - piece->text.at),
                                error) != 0)
        return -1;
    int byte;
    switch (piece->type) {
    case PIECE_NORMAL: return swm_word_map_add(t, &t->words, id, error);
    case PIECE_USER: return swm_word_map_add(t, &t->raw, id, error);
    case PIECE_UNKNOWN:
        if (t->unknown >= 0)
            return swm_fail(error, "%s: pieces %d and %d are both the unknown token", t->name, t->unknown, id);
        t->unknown = id;
        return 0;
    case PIECE_BYTE:
        byte = byte_value(t->pieces[id].text);
        if (byte < 0 || t->bytes[byte] >= 0)
            return swm_fail(error, "%s: byte piece %d is \"%s\", expected one of <0x00> to <0xFF>, each once", t->name,
                            id, t->pieces[id].text);
        t->bytes[byte] = id;
        return 0;
    default: return 0; /* control and unused pieces never stand for text */
    }
}

typedef struct scored {
    float score;
    int32_t id;
} scored;

static int by_score(const void *left, const void *right)
{
    float a = ((const scored *)left)->score, b = ((const scored *)right)->score;
    return (a < b) - (a > b);
}

/* Merges go by score, highest first, and leftmost among equal scores: equal scores share a rank. */
static void rank_pieces(swm_tokenizer *t, scored *scores, size_t count)
{
    qsort(scores, count, sizeof *scores, by_score);
    int32_t rank = 0;
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && scores[i].score < scores[i - 1].score) rank++;
        t->pieces[scores[i].id].rank = rank;
    }
}

int swm_tokenizer_read_model(swm_tokenizer *tokenizer, const uint8_t *data, size_t size, swm_error *error)
{
    if (size == 0) return swm_fail(error, "%s: is empty, expected a tokenizer", tokenizer->name);
    reader r = {.name = tokenizer->name, .start = data, .at = data, .end = data + size, .error = error};
    census c;
    if (take_census(r, &c) != 0 || swm_tokenizer_reserve(tokenizer, (int32_t)c.pieces, c.text, error) != 0 ||
        swm_word_map_reserve(&tokenizer->words, c.normal, error) != 0 ||
        swm_word_map_reserve(&tokenizer->raw, c.user, error) != 0)
        return -1;
    scored *scores = swm_allocate(error, c.normal, sizeof *scores);
    if (scores == NULL) return -1;
    size_t normal = 0;
    int result = 0;
    for (int32_t id = 0; result == 0 && r.at < r.end;) {
        field f;
        model_piece piece;
        result = read_field(&r, &f);
        if (result != 0 || f.number != FIELD_PIECES) continue;
        result = read_piece(f.body, &piece);
        if (result == 0) result = add_piece(tokenizer, id, &piece, error);
        if (result == 0 && piece.type == PIECE_NORMAL) scores[normal++] = (scored){.score = piece.score, .id = id};
        id++;
    }
    if (result == 0) rank_pieces(tokenizer, scores, normal);
    free(scores);
    tokenizer->bos = (int32_t)c.bos;
    tokenizer->fuse_unknown = true;
    return result;
}
