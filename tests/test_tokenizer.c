/* The tokenizer: the golden cases, both file forms against each other and against a brute-force BPE over random
 * vocabularies, malformed files, hostile prompts. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "text/tokenizer.h"

#define GOLDEN_DIRECTORY "tests/golden/tiny_random_model/text_encoder"
#define SPACE            "\xe2\x96\x81"

int test_tokenizer(void);

static uint32_t next_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

static uint32_t below(uint32_t *state, uint32_t limit) { return next_random(state) % limit; }

static swm_tokenizer *load(const char *data, size_t size)
{
    swm_error error = {0};
    swm_tokenizer *tokenizer = swm_tokenizer_from_memory(data, size, "memory", &error);
    if (tokenizer == NULL) fail_msg("%s", error.text);
    return tokenizer;
}

static swm_tokenizer *load_golden(void)
{
    swm_error error = {0};
    swm_tokenizer *tokenizer = swm_tokenizer_open(GOLDEN_DIRECTORY, &error);
    if (tokenizer == NULL) fail_msg("%s", error.text);
    return tokenizer;
}

static void check_ids(const swm_tokenizer *tokenizer, const char *text, size_t length, const int32_t *expected,
                      size_t expected_count)
{
    int32_t *ids;
    size_t count;
    swm_error error = {0};
    if (swm_tokenizer_encode(tokenizer, text, length, &ids, &count, &error) != 0) fail_msg("%s", error.text);
    bool same = count == expected_count && memcmp(ids, expected, count * sizeof *ids) == 0;
    free(ids);
    if (!same) fail_msg("\"%.*s\": %zu ids differ from the %zu expected", (int)length, text, count, expected_count);
}

static void check_equal(const swm_tokenizer *a, const swm_tokenizer *b, const char *text, size_t length)
{
    int32_t *ids;
    size_t count;
    swm_error error = {0};
    if (swm_tokenizer_encode(a, text, length, &ids, &count, &error) != 0) fail_msg("%s", error.text);
    check_ids(b, text, length, ids, count);
    free(ids);
}

/* ---- golden cases */

static const struct {
    const char *text;
    size_t count;
    int32_t ids[24];
} golden[] = {
    {"A cat sleeping.", 12, {2, 406, 275, 375, 376, 268, 383, 280, 390, 266, 395, 388}},
    {"  two  spaces and\ttab\n\nnewlines\n", 23, {2,   374, 326, 392, 382, 374, 268, 390, 375, 389, 272, 265,
                                                  314, 18,  376, 375, 411, 8,   286, 392, 383, 368, 7}},
    {"<start_of_turn>user\nhello<end_of_turn>", 10, {2, 5, 288, 271, 7, 386, 377, 383, 312, 6}},
    {"na\xc3\xafve caf\xc3\xa9 \xe4\xb8\x96\xe7\x95\x8c \xf0\x9f\x99\x82 x\xc2\xb2",
     23,
     {2, 380, 375, 204, 184, 413, 377, 275, 375, 384, 204, 178, 374, 329, 374, 249, 168, 162, 139, 374, 129, 203, 187}},
    {"12345 6.78", 11, {2, 401, 402, 403, 61, 404, 374, 63, 388, 64, 65}},
    {"", 1, {2}},
    {"User Prompt: a black car", 9, {2, 364, 322, 298, 396, 265, 324, 369, 297}},
};
#define GOLDEN_COUNT (sizeof golden / sizeof *golden)

static void check_golden(const swm_tokenizer *tokenizer)
{
    for (size_t i = 0; i < GOLDEN_COUNT; i++)
        check_ids(tokenizer, golden[i].text, strlen(golden[i].text), golden[i].ids, golden[i].count);
}

static void test_golden(void **state)
{
    (void)state;
    swm_tokenizer *tokenizer = load_golden();
    assert_int_equal(swm_tokenizer_vocabulary(tokenizer), 420);
    assert_string_equal(swm_tokenizer_piece(tokenizer, 5), "<start_of_turn>");
    assert_string_equal(swm_tokenizer_piece(tokenizer, 275), SPACE "c");
    assert_null(swm_tokenizer_piece(tokenizer, -1));
    assert_null(swm_tokenizer_piece(tokenizer, 420));
    check_golden(tokenizer);
    swm_tokenizer_close(tokenizer);
}

/* ---- files made here */

typedef struct buffer {
    FILE *stream;
    char *data;
    size_t size;
} buffer;

static void buffer_open(buffer *b)
{
    *b = (buffer){0};
    b->stream = open_memstream(&b->data, &b->size);
    assert_non_null(b->stream);
}

static void buffer_finish(buffer *b) { assert_int_equal(fclose(b->stream), 0); }

static void put_varint(FILE *out, uint64_t value)
{
    for (; value >= 0x80; value >>= 7) fputc((int)(value & 0x7f) | 0x80, out);
    fputc((int)value, out);
}

enum { NORMAL = 1, UNKNOWN, CONTROL, USER, BYTE = 6 };

static void put_piece(FILE *out, const char *text, float score, int type)
{
    size_t length = strlen(text);
    fputc(0x0a, out);
    put_varint(out, (length < 128 ? 2u : 3u) + length + 5 + 2);
    fputc(0x0a, out);
    put_varint(out, length);
    fwrite(text, 1, length, out);
    fputc(0x15, out);
    uint32_t bits;
    memcpy(&bits, &score, sizeof bits);
    for (int i = 0; i < 4; i++) fputc((int)(bits >> 8 * i & 0xff), out);
    fputc(0x18, out);
    fputc(type, out);
}

static void put_trainer(FILE *out, int bos)
{
    fputs("\x12\x03\xc8\x02", out);
    fputc(bos, out);
}

static void put_json_string(FILE *out, const char *text)
{
    fputc('"', out);
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < 0x20)
            fprintf(out, "\\u%04x", (unsigned)*text);
        else
            fprintf(out, "%s%c", *text == '"' || *text == '\\' ? "\\" : "", *text);
    }
    fputc('"', out);
}

static const char json_steps[] =
    "\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" SPACE "\"},"
    "\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\" \"},\"behavior\":\"MergedWithPrevious\","
    "\"invert\":false},";

/* ---- brute force: a vocabulary in plain arrays and BPE by trying every pair every time */

#define WORLD_LIMIT 420

typedef struct world_piece {
    char text[32];
    float score;
    int type; /* of tokenizer.model; USER: an added token */
    bool normalized;
} world_piece;

typedef struct world {
    world_piece pieces[WORLD_LIMIT];
    int count;
    bool by_pair;
    int merges[WORLD_LIMIT][2]; /* ids, in order of rank */
    int merge_count;
} world;

static int world_find(const world *w, const char *text, size_t length)
{
    for (int i = 0; i < w->count; i++)
        if (w->pieces[i].type == NORMAL && strlen(w->pieces[i].text) == length &&
            memcmp(w->pieces[i].text, text, length) == 0)
            return i;
    return -1;
}

static void world_add(world *w, const char *text, float score, int type)
{
    for (int i = 0; i < w->count; i++)
        if (strcmp(w->pieces[i].text, text) == 0) return;
    assert_true(w->count < WORLD_LIMIT && strlen(text) < sizeof w->pieces->text);
    world_piece *piece = &w->pieces[w->count++];
    *piece = (world_piece){.score = score, .type = type};
    strcpy(piece->text, text);
}

/* Order of the merge of two neighbours, smaller first, or -1. */
static double world_rank(const world *w, const char *text, size_t left, size_t right)
{
    if (!w->by_pair) {
        int id = world_find(w, text, left + right);
        return id < 0 ? -1 : 1000.0 - (double)w->pieces[id].score;
    }
    int a = world_find(w, text, left), b = world_find(w, text + left, right);
    for (int i = 0; i < w->merge_count; i++)
        if (w->merges[i][0] == a && w->merges[i][1] == b) return i;
    return -1;
}

static size_t reference_bpe(const world *w, const char *text, size_t size, int32_t *ids)
{
    size_t lengths[512], count = 0, emitted = 0;
    for (size_t i = 0; i < size; i++) {
        if (((unsigned char)text[i] & 0xc0) != 0x80) lengths[count++] = 0;
        lengths[count - 1]++;
    }
    for (;;) {
        double best = -1;
        size_t found = 0, start = 0;
        for (size_t i = 0; i + 1 < count; start += lengths[i++]) {
            double rank = world_rank(w, text + start, lengths[i], lengths[i + 1]);
            if (rank < 0 || (best >= 0 && rank >= best)) continue;
            best = rank;
            found = i;
        }
        if (best < 0) break;
        lengths[found] += lengths[found + 1];
        memmove(lengths + found + 1, lengths + found + 2, (count - found - 2) * sizeof *lengths);
        count--;
    }
    for (size_t i = 0, start = 0; i < count; start += lengths[i++]) {
        int id = world_find(w, text + start, lengths[i]);
        if (id >= 0) ids[emitted++] = id;
        for (size_t j = 0; id < 0 && j < lengths[i]; j++) ids[emitted++] = 1 + (unsigned char)text[start + j];
    }
    return emitted;
}

/* Level 0 cuts the added strings out of the raw text, level 1 the normalized ones, level 2 is BPE. */
static size_t reference_encode(const world *w, int level, const char *text, size_t size, int32_t *ids)
{
    if (size == 0) return 0;
    if (level == 2) return reference_bpe(w, text, size, ids);
    char plain[512];
    size_t length = 0;
    for (size_t i = 0; i < size; i++) {
        if (level == 1 && text[i] == ' ') {
            memcpy(plain + length, SPACE, 3);
            length += 3;
        } else
            plain[length++] = text[i];
    }
    for (size_t at = 0; at < length; at++) {
        int best = -1;
        for (int i = 0; i < w->count; i++) {
            size_t own = strlen(w->pieces[i].text);
            if (w->pieces[i].type == USER && w->pieces[i].normalized == (level == 1) && own <= length - at &&
                memcmp(w->pieces[i].text, plain + at, own) == 0 && (best < 0 || own > strlen(w->pieces[best].text)))
                best = i;
        }
        if (best < 0) continue;
        size_t count = reference_encode(w, level + 1, plain, at, ids), next = at + strlen(w->pieces[best].text);
        ids[count++] = best;
        return count + reference_encode(w, level, plain + next, length - next, ids + count);
    }
    return reference_encode(w, level + 1, plain, length, ids);
}

static const char *const characters[] = {"a", "b", "c", " ", " ", "\n", "\xc3\xa9", "\xf0\x9f\x99\x82", SPACE};
#define CHARACTER_COUNT 9

static size_t random_text(uint32_t *seed, char *text, uint32_t limit)
{
    text[0] = '\0';
    for (uint32_t i = below(seed, limit + 1); i > 0; i--) strcat(text, characters[below(seed, CHARACTER_COUNT)]);
    return strlen(text);
}

/* id 0 is BOS and 1..256 are the bytes; then some characters, strings of them, and added strings. */
static void make_world(world *w, uint32_t *seed, bool by_pair)
{
    *w = (world){.by_pair = by_pair};
    world_add(w, "<bos>", 0, CONTROL);
    for (unsigned i = 0; i < 256; i++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", i & 0xffu);
        world_add(w, text, 0, BYTE);
    }
    for (int i = 0; i < CHARACTER_COUNT; i++)
        if (strcmp(characters[i], " ") != 0 && below(seed, 6) > 0)
            world_add(w, characters[i], -(float)below(seed, 8), NORMAL);
    int first = 257;
    for (int i = 0; i < 40 && w->count > first; i++) {
        int a = first + (int)below(seed, (uint32_t)(w->count - first));
        int b = first + (int)below(seed, (uint32_t)(w->count - first));
        char text[64];
        size_t length = (size_t)snprintf(text, sizeof text, "%s%s", w->pieces[a].text, w->pieces[b].text);
        if (length >= sizeof w->pieces->text) continue;
        world_add(w, text, -(float)below(seed, 8), NORMAL);
        bool known = false;
        for (int j = 0; j < w->merge_count; j++) known |= w->merges[j][0] == a && w->merges[j][1] == b;
        if (known) continue;
        int place = (int)below(seed, (uint32_t)++w->merge_count);
        memcpy(w->merges[w->merge_count - 1], w->merges[place], sizeof w->merges[place]);
        w->merges[place][0] = a;
        w->merges[place][1] = b;
    }
    for (uint32_t i = below(seed, 5); i > 0; i--) {
        char text[32];
        if (random_text(seed, text, 4) == 0) continue;
        int before = w->count;
        world_add(w, text, 0, USER);
        if (w->count > before) w->pieces[before].normalized = by_pair && strchr(text, ' ') == NULL && below(seed, 2);
    }
}

static void put_model(const world *w, FILE *out)
{
    for (int i = 0; i < w->count; i++) put_piece(out, w->pieces[i].text, w->pieces[i].score, w->pieces[i].type);
    put_trainer(out, 0);
}

static void put_json(const world *w, FILE *out)
{
    fprintf(out, "{\"version\":\"1.0\",\"added_tokens\":[");
    fprintf(out, "{\"id\":0,\"content\":\"<bos>\",\"normalized\":false,\"special\":true}");
    for (int i = 0; i < w->count; i++) {
        if (w->pieces[i].type != USER) continue;
        fprintf(out,
                ",{\"id\":%d,\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":%s,\"content\":", i,
                w->pieces[i].normalized ? "true" : "false");
        put_json_string(out, w->pieces[i].text);
        fputc('}', out);
    }
    fprintf(out, "],%s\"model\":{\"type\":\"BPE\",\"unk_token\":null,\"byte_fallback\":true,\"vocab\":{", json_steps);
    for (int i = 0, some = 0; i < w->count; i++) {
        if (w->pieces[i].type == USER) continue; /* ids outside the vocabulary, as Gemma-3 has one */
        if (some++) fputc(',', out);
        put_json_string(out, w->pieces[i].text);
        fprintf(out, ":%d", i);
    }
    fprintf(out, "},\"merges\":[");
    for (int i = 0; i < w->merge_count; i++) {
        const char *left = w->pieces[w->merges[i][0]].text, *right = w->pieces[w->merges[i][1]].text;
        fprintf(out, i == 0 ? "" : ",");
        if (i % 2 == 0) { /* both spellings */
            char pair[64];
            snprintf(pair, sizeof pair, "%s %s", left, right);
            put_json_string(out, pair);
        } else {
            fputc('[', out);
            put_json_string(out, left);
            fputc(',', out);
            put_json_string(out, right);
            fputc(']', out);
        }
    }
    fprintf(out, "]}}\n");
}

static void check_against_reference(bool by_pair)
{
    uint32_t seed = 2463534242u;
    world *w = malloc(sizeof *w);
    assert_non_null(w);
    for (int round = 0; round < 60; round++) {
        make_world(w, &seed, by_pair);
        buffer file;
        buffer_open(&file);
        (by_pair ? put_json : put_model)(w, file.stream);
        buffer_finish(&file);
        swm_tokenizer *tokenizer = load(file.data, file.size);
        assert_int_equal(swm_tokenizer_vocabulary(tokenizer), w->count);
        for (int i = 0; i < 30; i++) {
            char text[256];
            int32_t expected[1024] = {0};
            size_t length = random_text(&seed, text, 40);
            size_t count = 1 + reference_encode(w, 0, text, length, expected + 1);
            check_ids(tokenizer, text, length, expected, count);
        }
        swm_tokenizer_close(tokenizer);
        free(file.data);
    }
    free(w);
}

static void test_model_against_reference(void **state)
{
    (void)state;
    check_against_reference(false);
}

static void test_json_against_reference(void **state)
{
    (void)state;
    check_against_reference(true);
}

/* ---- the golden vocabulary in the other form */

/* A merge for every way to cut a piece of tokenizer.model into two, in the order of ids, which is that of the scores. */
static void golden_world(world *w, const swm_tokenizer *tokenizer)
{
    *w = (world){0};
    w->count = (int)swm_tokenizer_vocabulary(tokenizer);
    assert_true(w->count <= WORLD_LIMIT);
    for (int id = 0; id < w->count; id++) {
        const char *text = swm_tokenizer_piece(tokenizer, id);
        int type = id <= 3 ? CONTROL : id <= 8 ? USER : strncmp(text, "<0x", 3) == 0 ? BYTE : NORMAL;
        w->pieces[id].type = type;
        strcpy(w->pieces[id].text, text);
    }
    for (int id = 0; id < w->count; id++) {
        const char *text = w->pieces[id].text;
        for (size_t cut = 1; w->pieces[id].type == NORMAL && cut < strlen(text); cut++) {
            int left = world_find(w, text, cut), right = world_find(w, text + cut, strlen(text) - cut);
            if (left < 0 || right < 0) continue;
            w->merges[w->merge_count][0] = left;
            w->merges[w->merge_count++][1] = right;
        }
    }
}

static void test_forms_agree(void **state)
{
    (void)state;
    swm_tokenizer *model = load_golden();
    world *w = malloc(sizeof *w);
    assert_non_null(w);
    golden_world(w, model);
    strcpy(w->pieces[2].text, "<bos>"); /* "<s>" in this file */
    buffer file;
    buffer_open(&file);
    fprintf(file.stream, "{\"added_tokens\":[");
    for (int id = 4; id <= 8; id++) {
        fprintf(file.stream, "%s{\"id\":%d,\"content\":", id > 4 ? "," : "", id);
        put_json_string(file.stream, w->pieces[id].text);
        fprintf(file.stream, "}");
    }
    fprintf(file.stream, "],%s\"model\":{\"byte_fallback\":true,\"unk_token\":\"<unk>\",\"vocab\":{", json_steps);
    for (int id = 0; id < w->count; id++) {
        if (id > 0) fputc(',', file.stream);
        put_json_string(file.stream, w->pieces[id].text);
        fprintf(file.stream, ":%d", id);
    }
    fprintf(file.stream, "},\"merges\":[");
    for (int i = 0; i < w->merge_count; i++)
        fprintf(file.stream, "%s\"%s %s\"", i == 0 ? "" : ",", w->pieces[w->merges[i][0]].text,
                w->pieces[w->merges[i][1]].text);
    fprintf(file.stream, "]}}");
    buffer_finish(&file);
    swm_tokenizer *json = load(file.data, file.size);
    check_golden(json);
    uint32_t seed = 88675123u;
    for (int i = 0; i < 3000; i++) {
        char text[512] = "";
        for (uint32_t j = below(&seed, 15); j > 0; j--) {
            int id = 4 + (int)below(&seed, (uint32_t)w->count - 4);
            strcat(text, w->pieces[id].type == BYTE ? below(&seed, 2) ? " " : "\xc3\xbf" : w->pieces[id].text);
        }
        check_equal(model, json, text, strlen(text));
    }
    swm_tokenizer_close(json);
    swm_tokenizer_close(model);
    free(file.data);
    free(w);
}

/* ---- hand-made tokenizer.json */

#define VOCABULARY                                                                                                     \
    "\"<unk>\":0,\"<bos>\":1,\"a\":2,\"b\":3,\"ab\":4,\"" SPACE "\":5,\"" SPACE "a\":6,\"\\n\":7,\"\\n\\n\":8,"        \
    "\"aba\":9,\"\\u0000\":10"
#define MODEL(options, merges) "\"model\":{" options "\"vocab\":{" VOCABULARY "},\"merges\":" merges "}}"
#define MERGES                 "[\"a b\",[\"" SPACE "\",\"a\"],\"ab a\"]"

static swm_tokenizer *load_text(const char *added, const char *model)
{
    char text[4096];
    int length = snprintf(text, sizeof text, "{\"added_tokens\":%s,%s%s", added, json_steps, model);
    return load(text, (size_t)length);
}

#define EXPECT(tokenizer, text, ...)                                                                                   \
    check_ids(tokenizer, text, sizeof text - 1, (const int32_t[]){__VA_ARGS__},                                        \
              sizeof(int32_t[]){__VA_ARGS__} / sizeof(int32_t))

static void test_json_by_hand(void **state)
{
    (void)state;
    static const char added[] = "[{\"id\":1,\"content\":\"<bos>\",\"special\":true},{\"id\":7,\"content\":\"\\n\"},"
                                "{\"id\":8,\"content\":\"\\n\\n\"},{\"id\":12,\"content\":\"<img>\"}]";
    swm_tokenizer *t = load_text(added, MODEL("\"unk_token\":\"<unk>\",\"fuse_unk\":true,", MERGES));
    assert_int_equal(swm_tokenizer_vocabulary(t), 13); /* one id lies outside the vocabulary, one is not used */
    assert_string_equal(swm_tokenizer_piece(t, 12), "<img>");
    assert_null(swm_tokenizer_piece(t, 11));
    EXPECT(t, "", 1);
    EXPECT(t, " aba", 1, 5, 9);            /* "a b" comes before " a" */
    EXPECT(t, "aaab", 1, 2, 2, 4);         /* leftmost does not beat rank */
    EXPECT(t, "abab", 1, 4, 4);            /* every "a b" goes before any "ab a" */
    EXPECT(t, "  a", 1, 5, 6);             /* no merge of spaces */
    EXPECT(t, "\n\n\na\n", 1, 8, 7, 2, 7); /* runs of newlines, longest first */
    EXPECT(t, "a<img>b", 1, 2, 12, 3);     /* no merge across */
    EXPECT(t, "a<bos>b", 1, 2, 1, 3);      /* as the reference: control strings in a prompt count */
    EXPECT(t, "xya\xc3\xa9", 1, 0, 2, 0);  /* unknown runs are one token */
    EXPECT(t, "a\0b", 1, 2, 0, 3);         /* NUL is a character like any other */
    EXPECT(t, SPACE "a", 1, 6);
    swm_tokenizer_close(t);

    t = load_text("[]", MODEL("\"unk_token\":\"<unk>\",", "[]"));
    EXPECT(t, "xyab", 1, 0, 0, 2, 3);
    swm_tokenizer_close(t);

    t = load_text("null", MODEL("\"unk_token\":null,", MERGES));
    int32_t *ids;
    size_t count;
    swm_error error = {0};
    assert_int_equal(swm_tokenizer_encode(t, "ax", 2, &ids, &count, &error), -1);
    assert_non_null(strstr(error.text, "\"x\""));
    assert_null(ids);
    swm_tokenizer_close(t);
}

/* ---- malformed files */

static void refuse(const char *data, size_t size, const char *reason)
{
    swm_error error = {0};
    /* Exact memory, so that the sanitizer sees a read behind the end. */
    char *copy = malloc(size + (size == 0));
    assert_non_null(copy);
    memcpy(copy, data, size);
    swm_tokenizer *tokenizer = swm_tokenizer_from_memory(copy, size, "memory", &error);
    free(copy);
    if (tokenizer != NULL) fail_msg("accepted, expected: %s", reason);
    if (strstr(error.text, reason) == NULL || strncmp(error.text, "memory: ", 8) != 0)
        fail_msg("\"%s\" does not say \"%s\"", error.text, reason);
}

static void test_malformed_json(void **state)
{
    (void)state;
    char steps[1024];
    snprintf(steps, sizeof steps, "{%s", json_steps);
    const struct {
        const char *head, *tail, *reason;
    } cases[] = {
        {"{", "", "no valid JSON"},
        {"{}", "", "\"model\""},
        {"{} x", "", "something follows"},
        {"{\"model\":[]}", "", "\"model\""},
        {"{\"model\":{\"type\":\"Unigram\"}}", "", "Unigram"},
        {"{\"model\":{\"vocab\":{}}}", "", "merges"},
        {"{", MODEL("", "[]"), "normalizer"},
        {"{\"normalizer\":{\"type\":\"NFKC\"},", MODEL("", "[]"), "normalizer"},
        {steps, MODEL("\"ignore_merges\":true,", "[]"), "ignore_merges"},
        {steps, MODEL("\"dropout\":0.1,", "[]"), "dropout"},
        {steps, MODEL("\"unk_token\":\"<none>\",", "[]"), "unk_token"},
        {steps, MODEL("\"unk_token\":3,", "[]"), "unk_token"},
        {steps, MODEL("", "{}"), "merges"},
        {steps, MODEL("", "[\"ab\"]"), "merge 0"},
        {steps, MODEL("", "[\" b\"]"), "merge 0"},
        {steps, MODEL("", "[[\"a\"]]"), "merge 0"},
        {steps, MODEL("", "[[\"a\",\"b\",\"a\"]]"), "merge 0"},
        {steps, MODEL("", "[\"a b\",[\"a\",1]]"), "merge 1"},
        {steps, MODEL("", "[\"b b\"]"), "not in the vocabulary"},
        {steps, "\"model\":{\"vocab\":{},\"merges\":[]}}", "empty"},
        {steps, "\"model\":{\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}", "id 0"},
        {steps, "\"model\":{\"vocab\":{\"a\":0,\"a\":1},\"merges\":[]}}", "both \"a\""},
        {steps, "\"model\":{\"vocab\":{\"a\":-1},\"merges\":[]}}", "whole number"},
        {steps, "\"model\":{\"vocab\":{\"a\":0.5},\"merges\":[]}}", "whole number"},
        {steps, "\"model\":{\"vocab\":{\"a\":1e300},\"merges\":[]}}", "whole number"},
        {steps, "\"model\":{\"vocab\":{\"a\":1048576},\"merges\":[]}}", "whole number"},
        {steps, "\"model\":{\"vocab\":{\"a\":0},\"merges\":[]}}", "<bos>"},
        {steps, "\"model\":{\"vocab\":{\"\xff\":0},\"merges\":[]}}", "UTF-8"},
        {steps, "\"added_tokens\":{}," MODEL("", "[]"), "added_tokens"},
        {steps, "\"added_tokens\":[3]," MODEL("", "[]"), "added token 0"},
        {steps, "\"added_tokens\":[{\"id\":99}]," MODEL("", "[]"), "added token 0"},
        {steps, "\"added_tokens\":[{\"id\":99,\"content\":\"\"}]," MODEL("", "[]"), "0 bytes"},
        {steps, "\"added_tokens\":[{\"id\":3,\"content\":\"a\"}]," MODEL("", "[]"), "3 here and 2"},
        {steps, "\"added_tokens\":[{\"id\":3,\"content\":\"x\"}]," MODEL("", "[]"), "id 3"},
        {steps, "\"added_tokens\":[{\"id\":99,\"content\":\"x\",\"lstrip\":true}]," MODEL("", "[]"), "lstrip"},
        {steps, "\"added_tokens\":[{\"id\":99,\"content\":\"x \",\"normalized\":true}]," MODEL("", "[]"), "space"},
        {"{\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":"
         "\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" SPACE "\"}]},",
         MODEL("", "[]"), "pre_tokenizer"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[2048];
        int length = snprintf(text, sizeof text, "%s%s", cases[i].head, cases[i].tail);
        refuse(text, (size_t)length, cases[i].reason);
    }
}

#define REFUSE(bytes, reason) refuse(bytes, sizeof bytes - 1, reason)

static void refuse_pieces(const world_piece *pieces, size_t count, const char *reason)
{
    buffer file;
    buffer_open(&file);
    for (size_t i = 0; i < count; i++) put_piece(file.stream, pieces[i].text, pieces[i].score, pieces[i].type);
    buffer_finish(&file);
    refuse(file.data, file.size, reason);
    free(file.data);
}

static void test_malformed_model(void **state)
{
    (void)state;
    REFUSE("", "empty");
    REFUSE("version https://git-lfs.github.com/spec/v1\n", "LFS");
    REFUSE("\x0a", "ends inside");
    REFUSE("\x0a\x05z", "longer than");
    REFUSE("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "longer than");
    REFUSE("\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", "64 bits");
    REFUSE("\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "64 bits");
    REFUSE("\x0b\x0c", "wire type"); /* a group */
    REFUSE("\x02\x00", "field number");
    REFUSE("\x08\x01", "wrong wire type");
    REFUSE("\x0a\x02\x08\x01", "wrong wire type");
    REFUSE("\x0a\x03\x0a\x01z\x12\x03\xcd\x02z", "ends inside");
    REFUSE("\x0a\x03\x0a\x01z\x12\x06\xcd\x02zzzz", "BOS id has the wrong");
    REFUSE("\x0a\x03\x0a\x01z\x12\x03\xc8\x02\x01", "BOS id is 1");
    REFUSE("\x0a\x03\x0a\x01z\x12\x0c\xc8\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "BOS id is -1");
    REFUSE("\x1a\x00", "0 pieces");
    REFUSE("\x0a\x00\x0a\x00", "0 bytes");
    REFUSE("\x0a\x03\x0a\x01\xff\x0a\x00", "UTF-8");
    REFUSE("\x0a\x05\x15\x00\x00\xc0\x7f", "not finite");
    REFUSE("\x0a\x02\x18\x07", "unknown type");
    refuse_pieces((const world_piece[]){{"a", 0, NORMAL, false}, {"a", -1, NORMAL, false}}, 2, "both \"a\"");
    refuse_pieces((const world_piece[]){{"a", 0, USER, false}, {"a", -1, USER, false}}, 2, "both \"a\"");
    refuse_pieces((const world_piece[]){{"a", 0, UNKNOWN, false}, {"b", 0, UNKNOWN, false}}, 2, "both the unknown");
    refuse_pieces((const world_piece[]){{"<0xAG>", 0, BYTE, false}, {"b", 0, NORMAL, false}}, 2, "<0xAG>");
    refuse_pieces((const world_piece[]){{"<0x0A>", 0, BYTE, false}, {"<0x0A>", 0, BYTE, false}}, 2, "<0x0A>");
    buffer file;
    buffer_open(&file);
    char text[514];
    memset(text, 'a', 513);
    text[513] = '\0';
    put_piece(file.stream, text, 0, NORMAL);
    put_piece(file.stream, "b", 0, NORMAL);
    buffer_finish(&file);
    refuse(file.data, file.size, "513 bytes");
    free(file.data);
}

/* Every truncation of a real file either is refused or is a tokenizer that works. */
static void test_truncated_model(void **state)
{
    (void)state;
    swm_error error = {0};
    size_t size;
    char *data = swm_file_read(GOLDEN_DIRECTORY "/tokenizer.model", 1 << 20, &size, &error);
    assert_non_null(data);
    size_t refused = 0;
    for (size_t length = 0; length < size; length += length < 200 ? 1 : 37) {
        error = (swm_error){0};
        swm_tokenizer *tokenizer = swm_tokenizer_from_memory(data, length, "memory", &error);
        if (tokenizer == NULL) {
            assert_true(swm_failed(&error));
            refused++;
            continue;
        }
        int32_t *ids;
        size_t count;
        if (swm_tokenizer_encode(tokenizer, "A cat", 5, &ids, &count, &error) == 0) free(ids);
        swm_tokenizer_close(tokenizer);
    }
    assert_true(refused > 100);
    free(data);
}

/* ---- prompts and places */

static void refuse_text(const swm_tokenizer *tokenizer, const char *text, size_t length, const char *reason)
{
    int32_t *ids;
    size_t count = 1;
    swm_error error = {0};
    assert_int_equal(swm_tokenizer_encode(tokenizer, text, length, &ids, &count, &error), -1);
    assert_null(ids);
    assert_int_equal(count, 0);
    if (strstr(error.text, reason) == NULL) fail_msg("\"%s\" does not say \"%s\"", error.text, reason);
}

static void test_hostile_prompts(void **state)
{
    (void)state;
    swm_tokenizer *tokenizer = load_golden();
    refuse_text(tokenizer, "ab\xff", 3, "byte 2 (0xff)");
    refuse_text(tokenizer, "\x80", 1, "byte 0");
    refuse_text(tokenizer, "a\xc0\xaf", 3, "byte 1");        /* overlong */
    refuse_text(tokenizer, "a\xe0\x80\xaf", 4, "byte 1");    /* overlong */
    refuse_text(tokenizer, "\xed\xa0\x80", 3, "byte 0");     /* surrogate */
    refuse_text(tokenizer, "\xf4\x90\x80\x80", 4, "byte 0"); /* above U+10FFFF */
    refuse_text(tokenizer, "caf\xc3\xa9", 4, "byte 3");      /* cut inside a character */
    EXPECT(tokenizer, "\0", 2, 9);                           /* <0x00> */

    size_t size = SWM_TOKENIZER_TEXT_LIMIT;
    char *text = malloc(size + 1);
    assert_non_null(text);
    memset(text, ' ', size + 1);
    refuse_text(tokenizer, text, size + 1, "1048577 bytes");
    uint32_t seed = 1;
    for (size_t i = 0; i < size; i++) text[i] = "   eeaalls.\n"[below(&seed, 12)];
    int32_t *ids;
    size_t count;
    swm_error error = {0};
    assert_int_equal(swm_tokenizer_encode(tokenizer, text, size, &ids, &count, &error), 0);
    size_t length = 0; /* the tokens spell the text */
    for (size_t i = 1; i < count; i++) {
        const char *piece = swm_tokenizer_piece(tokenizer, ids[i]);
        bool spaced = strncmp(piece, SPACE, 3) == 0;
        if (spaced) assert_int_equal(text[length++], ' ');
        piece += spaced ? 3 : 0;
        assert_memory_equal(text + length, piece, strlen(piece));
        length += strlen(piece);
    }
    assert_int_equal(length, size);
    free(ids);
    free(text);
    swm_tokenizer_close(tokenizer);
}

static void test_places(void **state)
{
    (void)state;
    char directory[] = "/tmp/swm-tokenizer-XXXXXX", json[64];
    assert_non_null(mkdtemp(directory));
    snprintf(json, sizeof json, "%s/tokenizer.json", directory);
    swm_error error = {0};
    assert_null(swm_tokenizer_open(directory, &error));
    assert_non_null(strstr(error.text, "neither tokenizer.json nor tokenizer.model"));
    error = (swm_error){0};
    assert_null(swm_tokenizer_open(json, &error));
    assert_non_null(strstr(error.text, json));
    /* The content decides, not the name; and tokenizer.json is looked for first. */
    error = (swm_error){0};
    size_t size;
    char *data = swm_file_read(GOLDEN_DIRECTORY "/tokenizer.model", 1 << 20, &size, &error);
    assert_non_null(data);
    assert_int_equal(swm_file_write(json, data, size, &error), 0);
    free(data);
    swm_tokenizer *tokenizer = swm_tokenizer_open(directory, &error);
    assert_non_null(tokenizer);
    check_golden(tokenizer);
    swm_tokenizer_close(tokenizer);
    swm_tokenizer_close(NULL);
    assert_int_equal(unlink(json), 0);
    assert_int_equal(rmdir(directory), 0);
}

int test_tokenizer(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_model_against_reference),
        cmocka_unit_test(test_json_against_reference),
        cmocka_unit_test(test_forms_agree),
        cmocka_unit_test(test_json_by_hand),
        cmocka_unit_test(test_malformed_json),
        cmocka_unit_test(test_malformed_model),
        cmocka_unit_test(test_truncated_model),
        cmocka_unit_test(test_hostile_prompts),
        cmocka_unit_test(test_places),
    };
    return cmocka_run_group_tests_name("tokenizer", tests, NULL, NULL);
}
