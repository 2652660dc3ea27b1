/* Strict JSON on top of cJSON: the parse, and getters that check type and range and name file and key when they fail.
 * Owns the rules of what is accepted; what the keys mean belongs to the callers (io/config.h, safetensors, tokenizer).
 *
 * Trees are cJSON's own: walk them with cJSON_ArrayForEach, free them with cJSON_Delete. */
#ifndef SWM_JSON_H
#define SWM_JSON_H

#include "core/base.h"

#include <cjson/cJSON.h>

/* Parse `size` bytes; `file` only names the source in messages. Accepts RFC 8259 and nothing more: the whole input must
 * be one value, valid UTF-8, nested at most 64 deep, with no key twice in one object, no \u0000 and no number of more
 * than 60 characters. Memory used is at most about 40 times `size`, so callers bound the size. */
cJSON *swm_json_parse(const char *file, const void *data, size_t size, swm_error *error);
/* The same for a file of at most `limit` bytes. */
cJSON *swm_json_read(const char *path, size_t limit, swm_error *error);

/* One object of a tree, with what a message needs to say where it is. Borrows everything. */
typedef struct swm_json {
    const char *file;    /* path, the start of every message */
    const char *section; /* key of the object in the file, NULL for the outermost */
    const cJSON *object;
} swm_json;

/* Fails unless `object` is an object. */
int swm_json_root(swm_json *root, const char *file, const cJSON *object, swm_error *error);
/* The object under `key`, which must be there. */
int swm_json_section(swm_json in, const char *key, swm_json *section, swm_error *error);
/* The value under `key`, NULL when absent or null. */
const cJSON *swm_json_find(swm_json in, const char *key);
/* Fail with "<file>: <section>.<key> is <what was found>, expected <expected>". */
int swm_json_refuse(swm_json in, const char *key, const char *expected, swm_error *error);
/* Fail when the object has a key that is not among `known`; the message names the nearest known one. */
int swm_json_only(swm_json in, const char *const *known, int count, swm_error *error);

/* Getters. The plain form requires the key; the _or form takes `otherwise` when the key is absent or null. Bounds are
 * inclusive. Integers may be written 3 or 3.0 and must be below 2^53. Strings are borrowed from the tree. */
int swm_json_integer(swm_json in, const char *key, int64_t minimum, int64_t maximum, int64_t *value, swm_error *error);
int swm_json_integer_or(swm_json in, const char *key, int64_t minimum, int64_t maximum, int64_t otherwise,
                        int64_t *value, swm_error *error);
int swm_json_number(swm_json in, const char *key, double minimum, double maximum, double *value, swm_error *error);
int swm_json_number_or(swm_json in, const char *key, double minimum, double maximum, double otherwise, double *value,
                       swm_error *error);
int swm_json_bool(swm_json in, const char *key, bool *value, swm_error *error);
int swm_json_bool_or(swm_json in, const char *key, bool otherwise, bool *value, swm_error *error);
int swm_json_string(swm_json in, const char *key, const char **value, swm_error *error);
int swm_json_string_or(swm_json in, const char *key, const char *otherwise, const char **value, swm_error *error);
/* For what has one form here: fail unless the value is this one, or absent. */
int swm_json_must_be_bool(swm_json in, const char *key, bool value, swm_error *error);
int swm_json_must_be_string(swm_json in, const char *key, const char *value, swm_error *error);
/* A list of at most `capacity` integers, each within the bounds; *count says how many. The _or form gives none. */
int swm_json_integers(swm_json in, const char *key, int64_t minimum, int64_t maximum, int64_t *values, int capacity,
                      int *count, swm_error *error);
int swm_json_integers_or_none(swm_json in, const char *key, int64_t minimum, int64_t maximum, int64_t *values,
                              int capacity, int *count, swm_error *error);

#endif
