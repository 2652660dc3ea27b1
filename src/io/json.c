/* Implements io/json.h. cJSON is lenient (control characters, numbers such as 01 or 1., repeated keys) and its older
 * releases read past the end of some broken inputs, so the text is checked before cJSON sees it. */
#include "io/json.h"

#include "core/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAXIMUM_DEPTH = 64, MAXIMUM_NUMBER_LENGTH = 60 };

/* Length of the UTF-8 sequence at `text`, 0 when it is none: overlong forms, surrogates and values past U+10FFFF are
 * refused, as are sequences cut off by the end. */
static size_t utf8_length(const uint8_t *text, size_t left)
{
    uint8_t first = text[0];
    if (first < 0x80) return 1;
    size_t length = first >= 0xc2 && first <= 0xdf   ? 2
                    : first >= 0xe0 && first <= 0xef ? 3
                    : first >= 0xf0 && first <= 0xf4 ? 4
                                                     : 0;
    if (length == 0 || left < length) return 0;
    for (size_t i = 1; i < length; i++)
        if ((text[i] & 0xc0) != 0x80) return 0;
    uint8_t second = text[1];
    if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f)) return 0;
    if ((first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f)) return 0;
    return length;
}

/* Bytes of the string that starts with the quote at `text`, both quotes included; 0 when it is malformed. */
static size_t string_length(const uint8_t *text, size_t left)
{
    size_t i = 1;
    while (i < left && text[i] != '"') {
        if (text[i] < 0x20) return 0;
        if (text[i] != '\\') {
            size_t length = utf8_length(text + i, left - i);
            if (length == 0) return 0;
            i += length;
            continue;
        }
        if (i + 1 >= left || text[i + 1] == '\0' || strchr("\"\\/bfnrtu", text[i + 1]) == NULL) return 0;
        if (text[i + 1] != 'u') {
            i += 2;
            continue;
        }
        /* cJSON's strings end at the first NUL, so an escaped one would hide what follows. */
        if (left - i < 6 || memcmp(text + i + 2, "0000", 4) == 0) return 0;
        i += 6; /* cJSON checks the digits and the pairing of surrogates */
    }
    return i < left ? i + 1 : 0;
}

static size_t skip_digits(const uint8_t *text, size_t i, size_t left)
{
    while (i < left && text[i] >= '0' && text[i] <= '9') i++;
    return i;
}

/* Bytes of the number at `text`, 0 when it is malformed. */
static size_t number_length(const uint8_t *text, size_t left)
{
    size_t start = text[0] == '-' ? 1 : 0, i = skip_digits(text, start, left);
    if (i == start || (text[start] == '0' && i > start + 1)) return 0;
    if (i < left && text[i] == '.') {
        size_t end = skip_digits(text, i + 1, left);
        if (end == i + 1) return 0;
        i = end;
    }
    if (i < left && (text[i] == 'e' || text[i] == 'E')) {
        size_t digits = i + 1 < left && (text[i + 1] == '+' || text[i + 1] == '-') ? i + 2 : i + 1;
        i = skip_digits(text, digits, left);
        if (i == digits) return 0;
    }
    return i <= MAXIMUM_NUMBER_LENGTH ? i : 0;
}

/* What cJSON does not check: characters, strings, numbers and depth. The order of tokens is left to cJSON. */
static int check_tokens(const char *file, const uint8_t *text, size_t size, swm_error *error)
{
    int depth = 0, line = 1;
    for (size_t i = 0; i < size;) {
        uint8_t c = text[i];
        size_t length = 1;
        if (c == '"') {
            length = string_length(text + i, size - i);
            if (length == 0)
                return swm_fail(error, "%s: line %d has a malformed string; the file is damaged", file, line);
        } else if (c == '-' || (c >= '0' && c <= '9')) {
            length = number_length(text + i, size - i);
            if (length == 0)
                return swm_fail(error, "%s: line %d has a malformed number; the file is damaged", file, line);
        } else if (c < 0x20 && c != '\t' && c != '\n' && c != '\r')
            return swm_fail(error, "%s: line %d has the control character 0x%02x; the file is no JSON", file, line, c);
        if (c == '\n') line++;
        if (c == '}' || c == ']') depth--;
        if ((c == '{' || c == '[') && ++depth > MAXIMUM_DEPTH)
            return swm_fail(error, "%s: line %d is nested more than %d deep", file, line, MAXIMUM_DEPTH);
        i += length;
    }
    return 0;
}

static int compare_keys(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* Two readers of a file with a key twice may each take another value, so such files are refused. Sorting keeps this
 * quick for tables of a few hundred thousand keys. */
static int check_duplicates(const char *file, const cJSON *item, swm_error *error)
{
    if (cJSON_IsObject(item)) {
        size_t count = (size_t)cJSON_GetArraySize(item), i = 0;
        const char **keys = swm_allocate(error, count, sizeof *keys);
        if (keys == NULL) return -1;
        const cJSON *member;
        cJSON_ArrayForEach(member, item) keys[i++] = member->string;
        qsort(keys, count, sizeof *keys, compare_keys);
        int result = 0;
        for (i = 1; i < count && result == 0; i++)
            if (strcmp(keys[i - 1], keys[i]) == 0)
                result = swm_fail(error, "%s: the key \"%.80s\" stands twice in one object; remove one", file, keys[i]);
        free(keys);
        if (result != 0) return -1;
    }
    const cJSON *child;
    cJSON_ArrayForEach(child, item)
    {
        if (check_duplicates(file, child, error) != 0) return -1;
    }
    return 0;
}

/* `text` has a NUL behind its `size` bytes; cJSON is told of it, because it looks one byte ahead in places. */
static cJSON *parse_terminated(const char *file, const char *text, size_t size, swm_error *error)
{
    if (size == 0) {
        swm_fail(error, "%s: is empty, expected JSON; copy the file again", file);
        return NULL;
    }
    if (check_tokens(file, (const uint8_t *)text, size, error) != 0) return NULL;
    const char *end = NULL;
    cJSON *tree = cJSON_ParseWithLengthOpts(text, size + 1, &end, false);
    if (tree == NULL) {
        size_t at = end != NULL ? (size_t)(end - text) : 0;
        swm_fail(error, "%s: is no valid JSON, or no memory is left, at byte %zu of %zu", file, at, size);
        return NULL;
    }
    while (*end == ' ' || *end == '\t' || *end == '\n' || *end == '\r') end++;
    int result = 0;
    if (end != text + size)
        result = swm_fail(error, "%s: has more behind its JSON value, from byte %zu of %zu", file, (size_t)(end - text),
                          size);
    if (result == 0) result = check_duplicates(file, tree, error);
    if (result == 0) return tree;
    cJSON_Delete(tree);
    return NULL;
}

cJSON *swm_json_parse(const char *file, const void *data, size_t size, swm_error *error)
{
    if (size == SIZE_MAX) {
        swm_fail(error, "%s: is too large", file);
        return NULL;
    }
    char *text = swm_allocate(error, size + 1, 1);
    if (text == NULL) return NULL;
    if (size > 0) memcpy(text, data, size);
    cJSON *tree = parse_terminated(file, text, size, error);
    free(text);
    return tree;
}

cJSON *swm_json_read(const char *path, size_t limit, swm_error *error)
{
    size_t size = 0;
    char *text = swm_file_read(path, limit, &size, error);
    if (text == NULL) return NULL;
    cJSON *tree = parse_terminated(path, text, size, error);
    free(text);
    return tree;
}

int swm_json_root(swm_json *root, const char *file, const cJSON *object, swm_error *error)
{
    *root = (swm_json){.file = file, .object = object};
    if (!cJSON_IsObject(object)) return swm_fail(error, "%s: holds no object of keys and values", file);
    return 0;
}

const cJSON *swm_json_find(swm_json in, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(in.object, key);
    return cJSON_IsNull(item) ? NULL : item;
}

/* "section.key" for messages. */
typedef struct place {
    char text[128];
} place;

static place describe_place(swm_json in, const char *key)
{
    place p;
    snprintf(p.text, sizeof p.text, "%s%s%s", in.section != NULL ? in.section : "", in.section != NULL ? "." : "", key);
    return p;
}

int swm_json_refuse(swm_json in, const char *key, const char *expected, swm_error *error)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(in.object, key);
    char found[100];
    if (item == NULL)
        snprintf(found, sizeof found, "missing");
    else if (cJSON_IsString(item))
        snprintf(found, sizeof found, "\"%.80s\"", item->valuestring);
    else if (cJSON_IsNumber(item))
        snprintf(found, sizeof found, "%.17g", item->valuedouble);
    else
        snprintf(found, sizeof found, "%s",
                 cJSON_IsTrue(item)    ? "true"
                 : cJSON_IsFalse(item) ? "false"
                 : cJSON_IsNull(item)  ? "null"
                 : cJSON_IsArray(item) ? "a list that does not fit"
                                       : "a section");
    return swm_fail(error, "%s: %s is %s, expected %s", in.file, describe_place(in, key).text, found, expected);
}

int swm_json_section(swm_json in, const char *key, swm_json *section, swm_error *error)
{
    const cJSON *item = swm_json_find(in, key);
    *section = (swm_json){.file = in.file, .section = key, .object = item};
    if (!cJSON_IsObject(item)) return swm_json_refuse(in, key, "a section of keys and values", error);
    return 0;
}

/* Levenshtein distance, with both words cut at 63 letters. */
static int edit_distance(const char *a, const char *b)
{
    int row[64], columns = (int)strnlen(b, 63), rows = (int)strnlen(a, 63);
    for (int j = 0; j <= columns; j++) row[j] = j;
    for (int i = 1; i <= rows; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= columns; j++) {
            int replaced = diagonal + (a[i - 1] != b[j - 1]), shorter = row[j] < row[j - 1] ? row[j] : row[j - 1];
            diagonal = row[j];
            row[j] = replaced < shorter + 1 ? replaced : shorter + 1;
        }
    }
    return row[columns];
}

int swm_json_only(swm_json in, const char *const *known, int count, swm_error *error)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, in.object)
    {
        const char *nearest = "";
        int best = INT32_MAX;
        for (int i = 0; i < count; i++) {
            int distance = strcmp(item->string, known[i]) == 0 ? 0 : 1 + edit_distance(item->string, known[i]);
            if (distance >= best) continue;
            best = distance;
            nearest = known[i];
        }
        if (best == 0) continue;
        char key[81];
        snprintf(key, sizeof key, "%s", item->string);
        return swm_fail(error, "%s: %s is no known key; the nearest known one is %s", in.file,
                        describe_place(in, key).text, nearest);
    }
    return 0;
}

static bool integer_of(const cJSON *item, int64_t minimum, int64_t maximum, int64_t *value)
{
    if (!cJSON_IsNumber(item)) return false;
    double number = item->valuedouble;
    /* Above 2^53 a double no longer holds every integer; the comparison also refuses infinity. */
    if (!(number >= -0x1p53 && number <= 0x1p53) || number != (double)(int64_t)number) return false;
    if ((int64_t)number < minimum || (int64_t)number > maximum) return false;
    *value = (int64_t)number;
    return true;
}

static int refuse_integer(swm_json in, const char *key, const char *what, int64_t minimum, int64_t maximum,
                          swm_error *error)
{
    char expected[100];
    snprintf(expected, sizeof expected, "%s from %lld to %lld", what, (long long)minimum, (long long)maximum);
    return swm_json_refuse(in, key, expected, error);
}

int swm_json_integer(swm_json in, const char *key, int64_t minimum, int64_t maximum, int64_t *value, swm_error *error)
{
    if (integer_of(swm_json_find(in, key), minimum, maximum, value)) return 0;
    return refuse_integer(in, key, "an integer", minimum, maximum, error);
}

int swm_json_integer_or(swm_json in, const char *key, int64_t minimum, int64_t maximum, int64_t otherwise,
                        int64_t *value, swm_error *error)
{
    *value = otherwise;
    return swm_json_find(in, key) == NULL ? 0 : swm_json_integer(in, key, minimum, maximum, value, error);
}

int swm_json_number(swm_json in, const char *key, double minimum, double maximum, double *value, swm_error *error)
{
    const cJSON *item = swm_json_find(in, key);
    if (cJSON_IsNumber(item) && item->valuedouble >= minimum && item->valuedouble <= maximum) {
        *value = item->valuedouble;
        return 0;
    }
    char expected[100];
    snprintf(expected, sizeof expected, "a number from %g to %g", minimum, maximum);
    return swm_json_refuse(in, key, expected, error);
}

int swm_json_number_or(swm_json in, const char *key, double minimum, double maximum, double otherwise, double *value,
                       swm_error *error)
{
    *value = otherwise;
    return swm_json_find(in, key) == NULL ? 0 : swm_json_number(in, key, minimum, maximum, value, error);
}

int swm_json_bool(swm_json in, const char *key, bool *value, swm_error *error)
{
    const cJSON *item = swm_json_find(in, key);
    if (!cJSON_IsBool(item)) return swm_json_refuse(in, key, "true or false", error);
    *value = cJSON_IsTrue(item);
    return 0;
}

int swm_json_bool_or(swm_json in, const char *key, bool otherwise, bool *value, swm_error *error)
{
    *value = otherwise;
    return swm_json_find(in, key) == NULL ? 0 : swm_json_bool(in, key, value, error);
}

int swm_json_string(swm_json in, const char *key, const char **value, swm_error *error)
{
    const cJSON *item = swm_json_find(in, key);
    if (!cJSON_IsString(item)) return swm_json_refuse(in, key, "text", error);
    *value = item->valuestring;
    return 0;
}

int swm_json_string_or(swm_json in, const char *key, const char *otherwise, const char **value, swm_error *error)
{
    *value = otherwise;
    return swm_json_find(in, key) == NULL ? 0 : swm_json_string(in, key, value, error);
}

int swm_json_must_be_bool(swm_json in, const char *key, bool value, swm_error *error)
{
    bool found;
    if (swm_json_bool_or(in, key, value, &found, error) != 0) return -1;
    if (found == value) return 0;
    return swm_json_refuse(in, key, value ? "true: nothing else is implemented" : "false: nothing else is implemented",
                           error);
}

int swm_json_must_be_string(swm_json in, const char *key, const char *value, swm_error *error)
{
    const char *found;
    if (swm_json_string_or(in, key, value, &found, error) != 0) return -1;
    return strcmp(found, value) == 0 ? 0 : swm_json_refuse(in, key, value, error);
}

int swm_json_integers(swm_json in, const char *key, int64_t minimum, int64_t maximum, int64_t *values, int capacity,
                      int *count, swm_error *error)
{
    const cJSON *list = swm_json_find(in, key), *item;
    *count = 0;
    bool good = cJSON_IsArray(list) && cJSON_GetArraySize(list) <= capacity;
    if (good) cJSON_ArrayForEach(item, list) good = good && integer_of(item, minimum, maximum, &values[(*count)++]);
    if (good) return 0;
    *count = 0;
    char what[64];
    snprintf(what, sizeof what, "a list of at most %d integers", capacity);
    return refuse_integer(in, key, what, minimum, maximum, error);
}

int swm_json_integers_or_none(swm_json in, const char *key, int64_t minimum, int64_t maximum, int64_t *values,
                              int capacity, int *count, swm_error *error)
{
    *count = 0;
    if (swm_json_find(in, key) == NULL) return 0;
    return swm_json_integers(in, key, minimum, maximum, values, capacity, count, error);
}
