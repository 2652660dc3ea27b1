/* Reads Hugging Face `tokenizer.json` in the layout of the Gemma family: BPE with byte fallback, spaces replaced by
 * U+2581, no splitting into words. What would tokenize differently from that is refused, not ignored. The
 * post-processor, truncation and padding are left to the caller: BOS goes in front and nothing else. */
#include "text/tokenizer_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#define BOS_TEXT    "<bos>"
#define BOS_DEFAULT 2

typedef struct parts {
    const cJSON *model, *vocabulary, *merges, *added; /* `added` may be NULL */
} parts;

static bool is_absent(const cJSON *item) { return item == NULL || cJSON_IsNull(item); }

static const cJSON *member(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

static bool member_is(const cJSON *object, const char *name, const char *expected)
{
    const char *text = cJSON_GetStringValue(member(object, name));
    return text != NULL && strcmp(text, expected) == 0;
}

/* An integer in [0, limit), or -1. */
static int32_t whole_number(const cJSON *item, int32_t limit)
{
    if (!cJSON_IsNumber(item)) return -1;
    double value = item->valuedouble;
    return value >= 0 && value < limit && value == floor(value) ? (int32_t)value : -1;
}

/* The only member of a Sequence is as good as itself. */
static const cJSON *unwrap(const cJSON *step, const char *list)
{
    const cJSON *items = member_is(step, "type", "Sequence") ? member(step, list) : NULL;
    return cJSON_IsArray(items) && items->child != NULL && items->child->next == NULL ? items->child : step;
}

static int check_steps(const cJSON *root, const char *name, swm_error *error)
{
    const cJSON *normalizer = unwrap(member(root, "normalizer"), "normalizers");
    if (!member_is(normalizer, "type", "Replace") || !member_is(member(normalizer, "pattern"), "String", " ") ||
        !member_is(normalizer, "content", SWM_TOKENIZER_SPACE))
        return swm_fail(error, "%s: its normalizer is not the one supported: Replace \" \" by \"%s\", as Gemma has it",
                        name, SWM_TOKENIZER_SPACE);
    /* Gemma splits at spaces, of which the normalizer has left none. */
    const cJSON *splitter = unwrap(member(root, "pre_tokenizer"), "pretokenizers");
    if (!is_absent(splitter) &&
        (!member_is(splitter, "type", "Split") || !member_is(member(splitter, "pattern"), "String", " ") ||
         !member_is(splitter, "behavior", "MergedWithPrevious") || cJSON_IsTrue(member(splitter, "invert"))))
        return swm_fail(error, "%s: its pre_tokenizer is not one supported: null, or Split \" \" MergedWithPrevious",
                        name);
    return 0;
}

static int check_model(const parts *p, const char *name, swm_error *error)
{
    if (!cJSON_IsObject(p->model)) return swm_fail(error, "%s: has no \"model\" object", name);
    const cJSON *type = member(p->model, "type");
    if (!is_absent(type) && !member_is(p->model, "type", "BPE"))
        return swm_fail(error, "%s: its model type is %s, expected BPE", name,
                        cJSON_IsString(type) ? type->valuestring : "no string");
    static const char *const unsupported[] = {"dropout", "continuing_subword_prefix", "end_of_word_suffix",
                                              "ignore_merges"};
    for (size_t i = 0; i < sizeof unsupported / sizeof *unsupported; i++) {
        const cJSON *option = member(p->model, unsupported[i]);
        bool off = is_absent(option) || cJSON_IsFalse(option) || (cJSON_IsNumber(option) && option->valuedouble == 0) ||
                   (cJSON_IsString(option) && option->valuestring[0] == '\0');
        if (!off) return swm_fail(error, "%s: model option \"%s\" is not supported", name, unsupported[i]);
    }
    if (!cJSON_IsObject(p->vocabulary)) return swm_fail(error, "%s: has no \"model.vocab\" object", name);
    if (!cJSON_IsArray(p->merges)) return swm_fail(error, "%s: has no \"model.merges\" array", name);
    if (p->added != NULL && !cJSON_IsArray(p->added)) return swm_fail(error, "%s: \"added_tokens\" is no array", name);
    return 0;
}

/* Sizes first, so that every table is allocated once. */
static int reserve_tables(swm_tokenizer *t, const parts *p, swm_error *error)
{
    size_t words = 0, added = 0, merges = 0, text = 0;
    int32_t highest = -1;
    for (const cJSON *item = p->vocabulary->child; item != NULL; item = item->next) {
        int32_t id = whole_number(item, SWM_TOKENIZER_PIECE_LIMIT);
        if (id < 0)
            return swm_fail(error, "%s: the id of \"%.64s\" is no whole number below %d", t->name, item->string,
                            SWM_TOKENIZER_PIECE_LIMIT);
        if (id > highest) highest = id;
        words++;
        text += strlen(item->string) + 1;
    }
    for (const cJSON *item = p->added == NULL ? NULL : p->added->child; item != NULL; item = item->next) {
        const char *content = cJSON_GetStringValue(member(item, "content"));
        int32_t id = whole_number(member(item, "id"), SWM_TOKENIZER_PIECE_LIMIT);
        if (content == NULL || id < 0)
            return swm_fail(error, "%s: added token %zu lacks a \"content\" string or an \"id\" below %d", t->name,
                            added, SWM_TOKENIZER_PIECE_LIMIT);
        if (id > highest) highest = id;
        added++;
        text += strlen(content) + 1;
    }
    for (const cJSON *item = p->merges->child; item != NULL; item = item->next) merges++;
    if (words == 0) return swm_fail(error, "%s: its vocabulary is empty", t->name);
    if (merges > SWM_TOKENIZER_MERGE_LIMIT)
        return swm_fail(error, "%s: has %zu merges, more than the %d that are supported", t->name, merges,
                        SWM_TOKENIZER_MERGE_LIMIT);
    /* Which of the two maps an added token goes to is not known yet: room for all in both. */
    return swm_tokenizer_reserve(t, highest + 1, text, error) != 0 ||
                   swm_word_map_reserve(&t->words, words, error) != 0 ||
                   swm_word_map_reserve(&t->raw, added, error) != 0 ||
                   swm_word_map_reserve(&t->normalized, added, error) != 0 || swm_merges_reserve(t, merges, error) != 0
               ? -1
               : 0;
}

static int read_vocabulary(swm_tokenizer *t, const parts *p, swm_error *error)
{
    for (const cJSON *item = p->vocabulary->child; item != NULL; item = item->next) {
        /* "\u0000" arrives as the empty string: the parser's strings end at NUL. It stays out, so that a NUL in a text
         * becomes its byte piece. */
        if (item->string[0] == '\0') continue;
        int32_t id = (int32_t)item->valuedouble;
        if (swm_tokenizer_set_piece(t, id, item->string, strlen(item->string), error) != 0 ||
            swm_word_map_add(t, &t->words, id, error) != 0)
            return -1;
    }
    return 0;
}

static int32_t find_word(const swm_tokenizer *t, const char *text)
{
    size_t length = strlen(text);
    return length > SWM_TOKENIZER_PIECE_LENGTH ? -1 : swm_word_map_find(t, &t->words, text, (int32_t)length);
}

static int read_added(swm_tokenizer *t, const cJSON *item, swm_error *error)
{
    const char *content = member(item, "content")->valuestring;
    int32_t id = (int32_t)member(item, "id")->valuedouble;
    static const char *const unsupported[] = {"lstrip", "rstrip", "single_word"};
    for (size_t i = 0; i < sizeof unsupported / sizeof *unsupported; i++)
        if (cJSON_IsTrue(member(item, unsupported[i])))
            return swm_fail(error, "%s: added token \"%.64s\" has \"%s\", which is not supported", t->name, content,
                            unsupported[i]);
    bool normalized = cJSON_IsTrue(member(item, "normalized"));
    if (normalized && strchr(content, ' ') != NULL)
        return swm_fail(error, "%s: added token \"%.64s\" is normalized and has a space, which is not supported",
                        t->name, content);
    int32_t word = find_word(t, content);
    if (word >= 0 && word != id)
        return swm_fail(error, "%s: added token \"%.64s\" has id %d here and %d in the vocabulary", t->name, content,
                        id, word);
    if (word < 0 && swm_tokenizer_set_piece(t, id, content, strlen(content), error) != 0) return -1;
    if (strcmp(content, BOS_TEXT) == 0) t->bos = id;
    return swm_word_map_add(t, normalized ? &t->normalized : &t->raw, id, error);
}

/* A merge is "left right" or ["left", "right"]; pieces have no spaces, so the first one separates. */
static int read_merge(swm_tokenizer *t, const cJSON *item, int32_t rank, swm_error *error)
{
    const char *left = NULL, *right = NULL;
    size_t left_length = 0;
    if (cJSON_IsString(item)) {
        const char *space = strchr(item->valuestring, ' ');
        left = item->valuestring;
        left_length = space == NULL ? 0 : (size_t)(space - left);
        right = space == NULL ? NULL : space + 1;
    } else if (cJSON_IsArray(item) && item->child != NULL && item->child->next != NULL &&
               item->child->next->next == NULL) {
        left = cJSON_GetStringValue(item->child);
        left_length = left == NULL ? 0 : strlen(left);
        right = cJSON_GetStringValue(item->child->next);
    }
    if (left == NULL || right == NULL)
        return swm_fail(error, "%s: merge %d is neither \"left right\" nor [\"left\", \"right\"]", t->name, rank);
    size_t right_length = strlen(right);
    swm_merge merge = {.left = -1, .right = -1, .rank = rank, .id = -1};
    if (left_length > 0 && right_length > 0 && left_length <= SWM_TOKENIZER_PIECE_LENGTH &&
        right_length <= SWM_TOKENIZER_PIECE_LENGTH) {
        char whole[2 * SWM_TOKENIZER_PIECE_LENGTH];
        memcpy(whole, left, left_length);
        memcpy(whole + left_length, right, right_length);
        merge.left = swm_word_map_find(t, &t->words, left, (int32_t)left_length);
        merge.right = swm_word_map_find(t, &t->words, right, (int32_t)right_length);
        merge.id = swm_word_map_find(t, &t->words, whole, (int32_t)(left_length + right_length));
    }
    if (merge.left < 0 || merge.right < 0 || merge.id < 0)
        return swm_fail(error,
                        "%s: merge %d of \"%.*s\" and \"%.64s\": the parts or the whole are not in the vocabulary",
                        t->name, rank, left_length > 64 ? 64 : (int)left_length, left, right);
    return swm_merges_add(t, merge, error);
}

static int read_special_ids(swm_tokenizer *t, const parts *p, swm_error *error)
{
    if (t->bos < 0) t->bos = find_word(t, BOS_TEXT);
    if (t->bos < 0) t->bos = BOS_DEFAULT;
    if (swm_tokenizer_piece(t, t->bos) == NULL)
        return swm_fail(error, "%s: has no token %s and no id %d to take for it", t->name, BOS_TEXT, BOS_DEFAULT);
    const cJSON *unknown = member(p->model, "unk_token");
    if (cJSON_IsString(unknown)) {
        t->unknown = find_word(t, unknown->valuestring);
        if (t->unknown < 0)
            return swm_fail(error, "%s: its unk_token \"%.64s\" is not in the vocabulary", t->name,
                            unknown->valuestring);
    } else if (!is_absent(unknown)) {
        return swm_fail(error, "%s: its unk_token is no string", t->name);
    }
    t->fuse_unknown = cJSON_IsTrue(member(p->model, "fuse_unk"));
    if (!cJSON_IsTrue(member(p->model, "byte_fallback"))) return 0;
    for (unsigned i = 0; i < 256; i++) {
        char text[16];
        snprintf(text, sizeof text, "<0x%02X>", i);
        t->bytes[i] = find_word(t, text);
    }
    return 0;
}

static int read_root(swm_tokenizer *t, const cJSON *root, swm_error *error)
{
    parts p = {.model = member(root, "model"), .added = member(root, "added_tokens")};
    p.vocabulary = member(p.model, "vocab");
    p.merges = member(p.model, "merges");
    if (is_absent(p.added)) p.added = NULL;
    if (check_model(&p, t->name, error) != 0 || check_steps(root, t->name, error) != 0 ||
        reserve_tables(t, &p, error) != 0 || read_vocabulary(t, &p, error) != 0)
        return -1;
    for (const cJSON *item = p.added == NULL ? NULL : p.added->child; item != NULL; item = item->next)
        if (read_added(t, item, error) != 0) return -1;
    int32_t rank = 0;
    for (const cJSON *item = p.merges->child; item != NULL; item = item->next)
        if (read_merge(t, item, rank++, error) != 0) return -1;
    return read_special_ids(t, &p, error);
}

int swm_tokenizer_read_json(swm_tokenizer *tokenizer, const char *data, size_t size, swm_error *error)
{
    const char *end = data;
    cJSON *root = cJSON_ParseWithLengthOpts(data, size, &end, 0);
    if (root == NULL)
        return swm_fail(error, "%s: byte %zu: is no valid JSON; the file is damaged, download it again",
                        tokenizer->name, end == NULL ? (size_t)0 : (size_t)(end - data));
    while (end < data + size && strchr(" \t\r\n", *end) != NULL && *end != '\0') end++;
    int result = 0;
    if (end < data + size)
        result =
            swm_fail(error, "%s: byte %zu: something follows the JSON object; the file is damaged, download it again",
                     tokenizer->name, (size_t)(end - data));
    else
        result = read_root(tokenizer, root, error);
    cJSON_Delete(root);
    return result;
}
