/* The tokenizer's algorithm and tables: split on added strings, spaces to U+2581, byte-fallback BPE.
 * The file forms are in tokenizer_model.c and tokenizer_json.c. */
#include "text/tokenizer_internal.h"

#include <stdlib.h>
#include <string.h>

#include "core/file.h"

/* A tokenizer.json of Gemma-3 has 33 MB. */
#define FILE_LIMIT ((size_t)64 << 20)

/* Half-empty tables with a fair hash have chains of some tens of slots. A file whose strings collide more often was
 * made to: refusing it keeps every lookup short. */
#define CHAIN_LIMIT 256

size_t swm_utf8_character(const char *text, size_t length)
{
    const unsigned char *c = (const unsigned char *)text;
    if (length == 0) return 0;
    if (c[0] < 0x80) return 1;
    size_t size = c[0] >= 0xf0 ? 4 : c[0] >= 0xe0 ? 3 : 2;
    if (c[0] < 0xc2 || c[0] > 0xf4 || size > length) return 0;
    for (size_t i = 1; i < size; i++)
        if ((c[i] & 0xc0) != 0x80) return 0;
    if (c[0] == 0xe0 && c[1] < 0xa0) return 0; /* longer than needed */
    if (c[0] == 0xed && c[1] > 0x9f) return 0; /* surrogates */
    if (c[0] == 0xf0 && c[1] < 0x90) return 0; /* longer than needed */
    if (c[0] == 0xf4 && c[1] > 0x8f) return 0; /* above U+10FFFF */
    return size;
}

/* Offset of the first byte that is no valid UTF-8, or `length`. */
static size_t utf8_valid(const char *text, size_t length)
{
    size_t at = 0;
    for (size_t step = 1; at < length && step > 0; at += step) step = swm_utf8_character(text + at, length - at);
    return at;
}

/* ---- tables */

#define HASH_START 0xcbf29ce484222325u

static uint64_t hash_byte(uint64_t hash, char byte) { return (hash ^ (unsigned char)byte) * 0x100000001b3u; }

static uint32_t hash_slot(uint64_t hash, uint32_t mask)
{
    hash *= 0x9e3779b97f4a7c15u;
    return (uint32_t)(hash >> 32) & mask;
}

static uint32_t table_size(size_t entries)
{
    uint32_t size = 16;
    while (size < 2 * entries) size *= 2;
    return size;
}

int swm_tokenizer_reserve(swm_tokenizer *tokenizer, int32_t count, size_t text_size, swm_error *error)
{
    tokenizer->pieces = swm_allocate(error, (size_t)count, sizeof *tokenizer->pieces);
    tokenizer->text = swm_allocate(error, text_size, 1);
    if (tokenizer->pieces == NULL || tokenizer->text == NULL) return -1;
    tokenizer->count = count;
    tokenizer->text_size = text_size;
    for (int i = 0; i < 256; i++) tokenizer->bytes[i] = -1;
    tokenizer->bos = tokenizer->unknown = -1;
    return 0;
}

int swm_tokenizer_set_piece(swm_tokenizer *tokenizer, int32_t id, const char *text, size_t length, swm_error *error)
{
    swm_piece *piece = &tokenizer->pieces[id];
    if (length < 1 || length > SWM_TOKENIZER_PIECE_LENGTH)
        return swm_fail(error, "%s: piece %d has %zu bytes, expected 1 to %d", tokenizer->name, id, length,
                        SWM_TOKENIZER_PIECE_LENGTH);
    if (utf8_valid(text, length) != length)
        return swm_fail(error, "%s: piece %d is no valid UTF-8", tokenizer->name, id);
    if (piece->text != NULL)
        return swm_fail(error, "%s: id %d belongs to both \"%s\" and \"%.*s\"", tokenizer->name, id, piece->text,
                        (int)length, text);
    SWM_REQUIRE(tokenizer->text_size - tokenizer->text_used > length, "piece %d does not fit the room reserved", id);
    char *copy = tokenizer->text + tokenizer->text_used;
    memcpy(copy, text, length);
    tokenizer->text_used += length + 1; /* the room was zeroed: a NUL follows */
    *piece = (swm_piece){.text = copy, .length = (int32_t)length};
    return 0;
}

int swm_word_map_reserve(swm_word_map *map, size_t entries, swm_error *error)
{
    uint32_t size = table_size(entries);
    map->slots = swm_allocate(error, size, sizeof *map->slots);
    map->mask = size - 1;
    return map->slots == NULL ? -1 : 0;
}

int swm_word_map_add(swm_tokenizer *tokenizer, swm_word_map *map, int32_t id, swm_error *error)
{
    const swm_piece *piece = &tokenizer->pieces[id];
    uint64_t hash = HASH_START;
    for (int32_t i = 0; i < piece->length; i++) hash = hash_byte(hash, piece->text[i]);
    uint32_t slot = hash_slot(hash, map->mask);
    for (int step = 0; map->slots[slot] != 0; step++, slot = (slot + 1) & map->mask) {
        const swm_piece *other = &tokenizer->pieces[map->slots[slot] - 1];
        if (other->length == piece->length && memcmp(other->text, piece->text, (size_t)piece->length) == 0)
            return swm_fail(error, "%s: ids %d and %d are both \"%s\"", tokenizer->name, map->slots[slot] - 1, id,
                            piece->text);
        if (step == CHAIN_LIMIT)
            return swm_fail(error, "%s: its strings collide in the hash table; is it a real vocabulary?",
                            tokenizer->name);
    }
    map->slots[slot] = id + 1;
    map->begins[(unsigned char)piece->text[0]] = true;
    if (piece->length > map->longest) map->longest = piece->length;
    return 0;
}

static int32_t find_hashed(const swm_tokenizer *tokenizer, const swm_word_map *map, uint64_t hash, const char *text,
                           int32_t length)
{
    for (uint32_t slot = hash_slot(hash, map->mask); map->slots[slot] != 0; slot = (slot + 1) & map->mask) {
        const swm_piece *piece = &tokenizer->pieces[map->slots[slot] - 1];
        if (piece->length == length && memcmp(piece->text, text, (size_t)length) == 0) return map->slots[slot] - 1;
    }
    return -1;
}

int32_t swm_word_map_find(const swm_tokenizer *tokenizer, const swm_word_map *map, const char *text, int32_t length)
{
    if (map->slots == NULL || length < 1 || length > map->longest) return -1;
    uint64_t hash = HASH_START;
    for (int32_t i = 0; i < length; i++) hash = hash_byte(hash, text[i]);
    return find_hashed(tokenizer, map, hash, text, length);
}

/* The id of the longest string of the map that `text` begins with, or -1. */
static int32_t find_prefix(const swm_tokenizer *tokenizer, const swm_word_map *map, const char *text, size_t length)
{
    if (length == 0 || !map->begins[(unsigned char)text[0]]) return -1;
    int32_t best = -1, limit = (int32_t)swm_min(map->longest, (int64_t)length);
    uint64_t hash = HASH_START;
    for (int32_t i = 0; i < limit; i++) {
        hash = hash_byte(hash, text[i]);
        int32_t id = find_hashed(tokenizer, map, hash, text, i + 1);
        if (id >= 0) best = id;
    }
    return best;
}

static uint32_t merge_slot(const swm_tokenizer *tokenizer, int32_t left, int32_t right)
{
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    key = (key ^ key >> 29) * 0xbf58476d1ce4e5b9u;
    return hash_slot(key ^ key >> 32, tokenizer->merge_mask);
}

int swm_merges_reserve(swm_tokenizer *tokenizer, size_t entries, swm_error *error)
{
    uint32_t size = table_size(entries);
    tokenizer->merges = swm_allocate(error, size, sizeof *tokenizer->merges);
    if (tokenizer->merges == NULL) return -1;
    tokenizer->merge_mask = size - 1;
    for (uint32_t i = 0; i < size; i++) tokenizer->merges[i].rank = -1;
    return 0;
}

int swm_merges_add(swm_tokenizer *tokenizer, swm_merge merge, swm_error *error)
{
    uint32_t slot = merge_slot(tokenizer, merge.left, merge.right);
    for (int step = 0; tokenizer->merges[slot].rank >= 0; step++, slot = (slot + 1) & tokenizer->merge_mask) {
        if (tokenizer->merges[slot].left == merge.left && tokenizer->merges[slot].right == merge.right) break;
        if (step == CHAIN_LIMIT)
            return swm_fail(error, "%s: its merges collide in the hash table; is it a real vocabulary?",
                            tokenizer->name);
    }
    tokenizer->merges[slot] = merge;
    return 0;
}

static const swm_merge *find_merge(const swm_tokenizer *tokenizer, int32_t left, int32_t right)
{
    uint32_t slot = merge_slot(tokenizer, left, right);
    for (; tokenizer->merges[slot].rank >= 0; slot = (slot + 1) & tokenizer->merge_mask)
        if (tokenizer->merges[slot].left == left && tokenizer->merges[slot].right == right)
            return &tokenizer->merges[slot];
    return NULL;
}

/* ---- encoding */

/* A character or a run of merged ones. Symbols of a segment form a list over their array; a symbol that was merged into
 * its left neighbour has length 0. */
typedef struct symbol {
    int32_t start, length;  /* bytes in the segment */
    int32_t previous, next; /* indices, -1 at the ends */
    int32_t id;             /* -1: a single character that is no piece */
} symbol;

/* A possible merge of symbol `left` with its next one. Symbols only grow, and to the right, so it is out of date
 * exactly when `left` is gone or the two no longer have `length` bytes together. */
typedef struct candidate {
    int32_t rank, left, length, id;
} candidate;

typedef struct encoder {
    const swm_tokenizer *tokenizer;
    char *plain;     /* a stretch of text with its spaces replaced */
    symbol *symbols; /* of one segment */
    candidate *heap; /* lowest rank first, leftmost on ties */
    int32_t heap_count;
    int32_t *ids;
    size_t count;
    swm_error *error;
} encoder;

static bool before(candidate a, candidate b) { return a.rank != b.rank ? a.rank < b.rank : a.left < b.left; }

static void heap_push(encoder *e, candidate item)
{
    int32_t at = e->heap_count++;
    while (at > 0 && before(item, e->heap[(at - 1) / 2])) {
        e->heap[at] = e->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    e->heap[at] = item;
}

static candidate heap_pop(encoder *e)
{
    candidate top = e->heap[0], item = e->heap[--e->heap_count];
    int32_t at = 0;
    for (int32_t child = 1; child < e->heap_count; child = 2 * at + 1) {
        if (child + 1 < e->heap_count && before(e->heap[child + 1], e->heap[child])) child++;
        if (!before(e->heap[child], item)) break;
        e->heap[at] = e->heap[child];
        at = child;
    }
    e->heap[at] = item;
    return top;
}

/* Queue the merge of symbol `left` with its next one, if there is such a merge. */
static void consider(encoder *e, const char *segment, int32_t left)
{
    const swm_tokenizer *t = e->tokenizer;
    if (left < 0 || e->symbols[left].next < 0) return;
    const symbol *a = &e->symbols[left], *b = &e->symbols[a->next];
    candidate item = {.left = left, .length = a->length + b->length};
    if (t->merges != NULL) {
        const swm_merge *merge = a->id < 0 || b->id < 0 ? NULL : find_merge(t, a->id, b->id);
        if (merge == NULL) return;
        item.rank = merge->rank;
        item.id = merge->id;
    } else {
        item.id = swm_word_map_find(t, &t->words, segment + a->start, item.length);
        if (item.id < 0) return;
        item.rank = t->pieces[item.id].rank;
    }
    heap_push(e, item);
}

static void merge_all(encoder *e, const char *segment)
{
    while (e->heap_count > 0) {
        candidate item = heap_pop(e);
        symbol *left = &e->symbols[item.left];
        if (left->length == 0 || left->next < 0) continue;
        symbol *right = &e->symbols[left->next];
        if (left->length + right->length != item.length) continue;
        left->length = item.length;
        left->id = item.id;
        left->next = right->next;
        right->length = 0;
        if (left->next >= 0) e->symbols[left->next].previous = item.left;
        consider(e, segment, left->previous);
        consider(e, segment, item.left);
    }
}

/* Tokens of a character that is no piece: its bytes or, where a byte has no piece, the unknown token. */
static int emit_bytes(encoder *e, const char *text, int32_t length, bool *unknown)
{
    const swm_tokenizer *t = e->tokenizer;
    bool known = true, follows = *unknown;
    for (int32_t i = 0; i < length; i++) known = known && t->bytes[(unsigned char)text[i]] >= 0;
    *unknown = !known;
    if (known) {
        for (int32_t i = 0; i < length; i++) e->ids[e->count++] = t->bytes[(unsigned char)text[i]];
        return 0;
    }
    if (t->unknown < 0)
        return swm_fail(e->error, "prompt: %s has no token for the character \"%.*s\", and no unknown token", t->name,
                        (int)length, text);
    if (!(follows && t->fuse_unknown)) e->ids[e->count++] = t->unknown;
    return 0;
}

/* BPE over text that holds no added string. */
static int encode_segment(encoder *e, const char *segment, size_t size)
{
    const swm_tokenizer *t = e->tokenizer;
    int32_t count = 0;
    for (size_t at = 0; at < size;) {
        size_t step = swm_utf8_character(segment + at, size - at);
        e->symbols[count] = (symbol){.start = (int32_t)at, .length = (int32_t)step, .previous = count - 1};
        e->symbols[count].id = swm_word_map_find(t, &t->words, segment + at, (int32_t)step);
        at += step;
        e->symbols[count].next = at < size ? count + 1 : -1;
        count++;
    }
    for (int32_t i = 0; i < count; i++) consider(e, segment, i);
    merge_all(e, segment);
    bool unknown = false;
    for (int32_t i = count > 0 ? 0 : -1; i >= 0; i = e->symbols[i].next) {
        const symbol *s = &e->symbols[i];
        if (s->id < 0) {
            if (emit_bytes(e, segment + s->start, s->length, &unknown) != 0) return -1;
        } else {
            e->ids[e->count++] = s->id;
            unknown = false;
        }
    }
    return 0;
}

/* Cut the strings of `map` out of `text`, leftmost and longest first; hand what lies between them to `rest`. */
static int split(encoder *e, const swm_word_map *map, const char *text, size_t length,
                 int (*rest)(encoder *e, const char *text, size_t length))
{
    size_t start = 0;
    for (size_t at = 0; at < length;) {
        int32_t id = find_prefix(e->tokenizer, map, text + at, length - at);
        if (id < 0) {
            at++;
            continue;
        }
        if (at > start && rest(e, text + start, at - start) != 0) return -1;
        e->ids[e->count++] = id;
        at += (size_t)e->tokenizer->pieces[id].length;
        start = at;
    }
    return length > start ? rest(e, text + start, length - start) : 0;
}

static int encode_stretch(encoder *e, const char *text, size_t length)
{
    size_t size = 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] == ' ') {
            memcpy(e->plain + size, SWM_TOKENIZER_SPACE, SWM_TOKENIZER_SPACE_LENGTH);
            size += SWM_TOKENIZER_SPACE_LENGTH;
        } else {
            e->plain[size++] = text[i];
        }
    }
    return split(e, &e->tokenizer->normalized, e->plain, size, encode_segment);
}

int swm_tokenizer_encode(const swm_tokenizer *tokenizer, const char *text, size_t length, int32_t **ids, size_t *count,
                         swm_error *error)
{
    *ids = NULL;
    *count = 0;
    if (length > SWM_TOKENIZER_TEXT_LIMIT)
        return swm_fail(error, "prompt: has %zu bytes, more than the %zu that are allowed; shorten it", length,
                        SWM_TOKENIZER_TEXT_LIMIT);
    size_t valid = utf8_valid(text, length);
    if (valid != length)
        return swm_fail(error, "prompt: byte %zu (0x%02x) is no valid UTF-8; save the text as UTF-8", valid,
                        (unsigned char)text[valid]);
    /* A space becomes at most three tokens, any other byte one. A segment has at most a symbol a byte, and starts with
     * a candidate a symbol; a merge takes one candidate and a symbol away and adds two candidates. */
    encoder e = {.tokenizer = tokenizer, .error = error};
    e.plain = swm_allocate(error, length * SWM_TOKENIZER_SPACE_LENGTH, 1);
    e.symbols = swm_allocate(error, length, sizeof *e.symbols);
    e.heap = swm_allocate(error, length * 2, sizeof *e.heap);
    e.ids = swm_allocate(error, length * SWM_TOKENIZER_SPACE_LENGTH + 1, sizeof *e.ids);
    int result = -1;
    if (e.plain != NULL && e.symbols != NULL && e.heap != NULL && e.ids != NULL) {
        e.ids[e.count++] = tokenizer->bos;
        result = split(&e, &tokenizer->raw, text, length, encode_stretch);
    }
    free(e.plain);
    free(e.symbols);
    free(e.heap);
    if (result != 0) {
        free(e.ids);
        return -1;
    }
    int32_t *shrunk = realloc(e.ids, e.count * sizeof *e.ids);
    *ids = shrunk != NULL ? shrunk : e.ids;
    *count = e.count;
    return 0;
}

/* ---- loading */

swm_tokenizer *swm_tokenizer_from_memory(const char *data, size_t size, const char *name, swm_error *error)
{
    swm_tokenizer *tokenizer = swm_allocate(error, 1, sizeof *tokenizer);
    if (tokenizer == NULL) return NULL;
    tokenizer->name = swm_copy_string(error, name);
    int result = -1;
    if (tokenizer->name == NULL) {
        swm_tokenizer_close(tokenizer);
        return NULL;
    }
    if (size > FILE_LIMIT)
        swm_fail(error, "%s: has %zu bytes, more than the %zu that a tokenizer may have", name, size, FILE_LIMIT);
    else if (size >= 8 && memcmp(data, "version ", 8) == 0) /* what a clone without its large files leaves */
        swm_fail(error, "%s: is a Git LFS pointer, not the file itself; download the file", name);
    else if (size > 0 && data[0] == '{') /* in a tokenizer.model this byte would open a group, which none has */
        result = swm_tokenizer_read_json(tokenizer, data, size, error);
    else
        result = swm_tokenizer_read_model(tokenizer, (const uint8_t *)data, size, error);
    if (result == 0) return tokenizer;
    swm_tokenizer_close(tokenizer);
    return NULL;
}

/* The path of the tokenizer file at `path` or in the directory `path`, as fresh memory. */
static char *find_file(const char *path, swm_error *error)
{
    if (!swm_directory_exists(path)) return swm_copy_string(error, path);
    static const char *const names[] = {"tokenizer.json", "tokenizer.model"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *file = swm_path_join(error, path, names[i]);
        if (file == NULL || swm_file_exists(file)) return file;
        free(file);
    }
    swm_fail(error, "%s: holds neither tokenizer.json nor tokenizer.model; download one of them with the text encoder",
             path);
    return NULL;
}

swm_tokenizer *swm_tokenizer_open(const char *path, swm_error *error)
{
    char *file = find_file(path, error);
    size_t size = 0;
    char *data = file == NULL ? NULL : swm_file_read(file, FILE_LIMIT, &size, error);
    swm_tokenizer *tokenizer = data == NULL ? NULL : swm_tokenizer_from_memory(data, size, file, error);
    free(data);
    free(file);
    return tokenizer;
}

void swm_tokenizer_close(swm_tokenizer *tokenizer)
{
    if (tokenizer == NULL) return;
    free(tokenizer->name);
    free(tokenizer->text);
    free(tokenizer->pieces);
    free(tokenizer->words.slots);
    free(tokenizer->raw.slots);
    free(tokenizer->normalized.slots);
    free(tokenizer->merges);
    free(tokenizer);
}

int64_t swm_tokenizer_vocabulary(const swm_tokenizer *tokenizer) { return tokenizer->count; }

const char *swm_tokenizer_piece(const swm_tokenizer *tokenizer, int32_t id)
{
    return id >= 0 && id < tokenizer->count ? tokenizer->pieces[id].text : NULL;
}
