/* Implements io/weights.h over io/safetensors.h and io/torch_pt.h. */
#include "io/weights.h"

#include "core/file.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "io/torch_pt.h"

#include <dirent.h>
#include <errno.h>
#include <libavutil/mem.h>
#include <libavutil/sha.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_INDEX = 64 << 20, MAX_SHARDS = 4096, MAX_NAME = 512 };

/* One open file. */
struct source {
    char *path;
    swm_safetensors *safetensors; /* at most one of the two; none for an index */
    swm_torch_pt *torch_pt;
};

struct entry {
    char *name;
    swm_tensor tensor;
    const struct source *source; /* NULL when declared */
    void *own;                   /* the tensor's data where it has replaced the file's, else NULL */
};

struct swm_weights {
    char *path;
    struct source *sources; /* never grows after the entries point into it */
    size_t source_count;
    struct entry *entries; /* sorted by name once open */
    size_t count, capacity;
    int64_t parameters;
    char *signature; /* what replaced tensors come from, NULL for nothing */
};

static bool ends_with(const char *text, const char *suffix)
{
    size_t length = strlen(text), tail = strlen(suffix);
    return length >= tail && strcmp(text + length - tail, suffix) == 0;
}

static int compare_names(const void *left, const void *right)
{
    return strcmp(((const struct entry *)left)->name, ((const struct entry *)right)->name);
}

static int compare_key(const void *key, const void *entry) { return strcmp(key, ((const struct entry *)entry)->name); }

static const struct entry *find(const swm_weights *weights, const char *name)
{
    if (weights->count == 0) return NULL;
    return bsearch(name, weights->entries, weights->count, sizeof *weights->entries, compare_key);
}

/* Append an entry; the caller keeps the order. */
static int add_entry(swm_weights *weights, const char *name, swm_tensor tensor, const struct source *source,
                     swm_error *error)
{
    int64_t parameters;
    if (__builtin_add_overflow(weights->parameters, swm_count(tensor), &parameters))
        return swm_fail(error, "%s: more parameters than a number can count, with tensor %.128s", weights->path, name);
    if (weights->count == weights->capacity) {
        size_t capacity = weights->capacity * 2 + 256;
        struct entry *grown = realloc(weights->entries, capacity * sizeof *grown);
        if (grown == NULL) return swm_fail(error, "%s: out of memory for %zu tensors", weights->path, capacity);
        weights->entries = grown;
        weights->capacity = capacity;
    }
    char *copy = swm_copy_string(error, name);
    if (copy == NULL) return -1;
    weights->entries[weights->count++] = (struct entry){.name = copy, .tensor = tensor, .source = source};
    weights->parameters = parameters;
    return 0;
}

/* ---- Opening ---- */

/* All tensors of one safetensors file. */
static int open_safetensors(swm_weights *weights, swm_error *error)
{
    struct source *source = weights->sources = swm_allocate(error, 1, sizeof *source);
    if (source == NULL) return -1;
    weights->source_count = 1;
    source->path = swm_copy_string(error, weights->path);
    source->safetensors = source->path == NULL ? NULL : swm_safetensors_open(source->path, error);
    if (source->safetensors == NULL) return -1;
    for (size_t i = 0; i < swm_safetensors_count(source->safetensors); i++) {
        const char *name;
        const swm_tensor *tensor = swm_safetensors_at(source->safetensors, i, &name);
        if (add_entry(weights, name, *tensor, source, error) != 0) return -1;
    }
    return 0;
}

static int open_torch_pt(swm_weights *weights, swm_error *error)
{
    struct source *source = weights->sources = swm_allocate(error, 1, sizeof *source);
    if (source == NULL) return -1;
    weights->source_count = 1;
    source->path = swm_copy_string(error, weights->path);
    source->torch_pt = source->path == NULL ? NULL : swm_torch_pt_open(source->path, error);
    if (source->torch_pt == NULL) return -1;
    for (size_t i = 0; i < swm_torch_pt_count(source->torch_pt); i++) {
        const char *name;
        const swm_tensor *tensor = swm_torch_pt_at(source->torch_pt, i, &name);
        if (add_entry(weights, name, *tensor, source, error) != 0) return -1;
    }
    return 0;
}

/* A shard lies beside its index: a name that could lead elsewhere is refused. */
static bool good_shard_name(const cJSON *name)
{
    return cJSON_IsString(name) && strchr(name->valuestring, '/') == NULL && strstr(name->valuestring, "..") == NULL &&
           ends_with(name->valuestring, ".safetensors");
}

/* The open shard `name` in the index's directory; opened on first use. */
static const struct source *open_shard(swm_weights *weights, const char *name, swm_error *error)
{
    const char *slash = strrchr(weights->path, '/');
    int directory = slash == NULL ? 0 : (int)(slash - weights->path) + 1;
    for (size_t i = 1; i < weights->source_count; i++) /* 0 is the index itself */
        if (strcmp(weights->sources[i].path + directory, name) == 0) return &weights->sources[i];
    if (weights->source_count == MAX_SHARDS) {
        swm_fail(error, "%s: names more than %d shards", weights->path, MAX_SHARDS - 1);
        return NULL;
    }
    struct source *source = &weights->sources[weights->source_count++];
    source->path = swm_format(error, "%.*s%s", directory, weights->path, name);
    source->safetensors = source->path == NULL ? NULL : swm_safetensors_open(source->path, error);
    return source->safetensors == NULL ? NULL : source;
}

static int read_index(swm_weights *weights, const cJSON *root, swm_error *error)
{
    const cJSON *map = cJSON_GetObjectItemCaseSensitive(root, "weight_map"), *item;
    if (!cJSON_IsObject(map))
        return swm_fail(error, "%s: has no weight_map, so it is no index of shards", weights->path);
    cJSON_ArrayForEach(item, map)
    {
        if (!good_shard_name(item))
            return swm_fail(error, "%s: tensor %.128s: its shard is no name of a .safetensors file beside the index",
                            weights->path, item->string);
        const struct source *source = open_shard(weights, item->valuestring, error);
        if (source == NULL) return -1;
        const swm_tensor *tensor = swm_safetensors_find(source->safetensors, item->string);
        if (tensor == NULL)
            return swm_fail(error, "%s: has no tensor %.128s, which %s promises; download both again", source->path,
                            item->string, weights->path);
        if (add_entry(weights, item->string, *tensor, source, error) != 0) return -1;
    }
    return 0;
}

static int open_index(swm_weights *weights, swm_error *error)
{
    weights->sources = swm_allocate(error, MAX_SHARDS, sizeof *weights->sources);
    if (weights->sources == NULL) return -1;
    weights->source_count = 1;
    weights->sources[0].path = swm_copy_string(error, weights->path);
    if (weights->sources[0].path == NULL) return -1;
    cJSON *root = swm_json_read(weights->path, MAX_INDEX, error);
    int result = root == NULL ? -1 : read_index(weights, root, error);
    cJSON_Delete(root);
    return result;
}

/* The path of the only .safetensors file of a directory. */
static char *only_safetensors(const char *directory, swm_error *error)
{
    DIR *listing = opendir(directory);
    if (listing == NULL) {
        swm_fail(error, "%s: cannot be listed: %s", directory, strerror(errno));
        return NULL;
    }
    char *found = NULL;
    int count = 0;
    for (const struct dirent *item; count < 2 && (item = readdir(listing)) != NULL;)
        if (item->d_name[0] != '.' && ends_with(item->d_name, ".safetensors") && count++ == 0)
            found = swm_path_join(error, directory, item->d_name);
    closedir(listing);
    if (count == 1) return found;
    free(found);
    swm_fail(error,
             "%s: has %s; expected diffusion_pytorch_model.safetensors, model.safetensors, one of their "
             ".index.json, or a single .safetensors file",
             directory, count == 0 ? "no .safetensors file" : "several .safetensors files and no index");
    return NULL;
}

/* The file that holds the weights of a directory, as fresh memory. */
static char *resolve_directory(const char *directory, swm_error *error)
{
    static const char *const names[] = {"diffusion_pytorch_model.safetensors",
                                        "diffusion_pytorch_model.safetensors.index.json", "model.safetensors",
                                        "model.safetensors.index.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *path = swm_path_join(error, directory, names[i]);
        if (path == NULL || swm_file_exists(path)) return path;
        free(path);
    }
    return only_safetensors(directory, error);
}

static int open_path(swm_weights *weights, const char *path, swm_error *error)
{
    weights->path = swm_directory_exists(path) ? resolve_directory(path, error) : swm_copy_string(error, path);
    if (weights->path == NULL) return -1;
    if (ends_with(weights->path, ".safetensors")) return open_safetensors(weights, error);
    if (ends_with(weights->path, ".index.json")) return open_index(weights, error);
    if (ends_with(weights->path, ".pt") || ends_with(weights->path, ".pth")) return open_torch_pt(weights, error);
    return swm_fail(error, "%s: is no directory and ends in none of .safetensors, .safetensors.index.json, .pt, .pth",
                    path);
}

swm_weights *swm_weights_open(const char *path, swm_error *error)
{
    swm_weights *weights = swm_allocate(error, 1, sizeof *weights);
    if (weights == NULL) return NULL;
    if (open_path(weights, path, error) != 0) {
        swm_weights_close(weights);
        return NULL;
    }
    if (weights->count > 0) qsort(weights->entries, weights->count, sizeof *weights->entries, compare_names);
    return weights;
}

swm_weights *swm_weights_open_prefixed(const char *path, const char *prefix, swm_error *error)
{
    swm_weights *weights = swm_weights_open(path, error);
    if (weights == NULL) return NULL;
    size_t length = strlen(prefix), kept = 0;
    weights->parameters = 0;
    for (size_t i = 0; i < weights->count; i++) {
        struct entry *entry = &weights->entries[i];
        if (strncmp(entry->name, prefix, length) != 0) {
            free(entry->name);
            continue;
        }
        /* Names keep their order when they all lose the same head. */
        memmove(entry->name, entry->name + length, strlen(entry->name + length) + 1);
        weights->parameters += swm_count(entry->tensor);
        weights->entries[kept++] = *entry;
    }
    weights->count = kept;
    if (kept > 0) return weights;
    swm_fail(error, "%s: has no tensor whose name begins with \"%s\"", weights->path, prefix);
    swm_weights_close(weights);
    return NULL;
}

/* ---- Declaring ---- */

swm_weights *swm_weights_declared(swm_error *error)
{
    swm_weights *weights = swm_allocate(error, 1, sizeof *weights);
    if (weights == NULL) return NULL;
    weights->path = swm_copy_string(error, "(declared)");
    if (weights->path != NULL) return weights;
    swm_weights_close(weights);
    return NULL;
}

int swm_weights_declare(swm_weights *weights, const char *name, swm_dtype dtype, int rank, const int64_t *shape,
                        swm_error *error)
{
    if (find(weights, name) != NULL) return swm_fail(error, "tensor %.128s is declared twice", name);
    int64_t bytes = (int64_t)swm_dtype_size(dtype);
    for (int i = 0; i < rank; i++)
        if (shape[i] < 0 || shape[i] > INT64_C(1) << 53 || __builtin_mul_overflow(bytes, swm_max(shape[i], 1), &bytes))
            return swm_fail(error, "tensor %.128s is declared with impossible size %lld of dimension %d", name,
                            (long long)shape[i], i);
    if (add_entry(weights, name, swm_tensor_make(dtype, NULL, rank, shape), NULL, error) != 0) return -1;
    struct entry last = weights->entries[weights->count - 1];
    size_t place = weights->count - 1;
    while (place > 0 && strcmp(weights->entries[place - 1].name, name) > 0) place--;
    memmove(weights->entries + place + 1, weights->entries + place,
            (weights->count - 1 - place) * sizeof *weights->entries);
    weights->entries[place] = last;
    return 0;
}

void swm_weights_close(swm_weights *weights)
{
    if (weights == NULL) return;
    for (size_t i = 0; i < weights->count; i++) {
        free(weights->entries[i].name);
        free(weights->entries[i].own);
    }
    for (size_t i = 0; i < weights->source_count; i++) {
        swm_safetensors_close(weights->sources[i].safetensors);
        swm_torch_pt_close(weights->sources[i].torch_pt);
        free(weights->sources[i].path);
    }
    free(weights->entries);
    free(weights->sources);
    free(weights->signature);
    free(weights->path);
    free(weights);
}

/* ---- Replacing ---- */

int swm_weights_sign(swm_weights *weights, const char *text, swm_error *error)
{
    const char *before = weights->signature == NULL ? "" : weights->signature;
    char *signature = swm_format(error, "%s%s\n", before, text);
    if (signature == NULL) return -1;
    free(weights->signature);
    weights->signature = signature;
    return 0;
}

void swm_weights_replace(swm_weights *weights, const char *name, void *data)
{
    SWM_REQUIRE(weights->signature != NULL, "tensor %s is replaced in unsigned weights", name);
    struct entry *entry = weights->count == 0
                              ? NULL
                              : bsearch(name, weights->entries, weights->count, sizeof *weights->entries, compare_key);
    SWM_REQUIRE(entry != NULL, "no tensor %s to replace", name);
    free(entry->own);
    entry->own = entry->tensor.data = data;
}

/* ---- Looking up ---- */

const char *swm_weights_path(const swm_weights *weights) { return weights->path; }
size_t swm_weights_count(const swm_weights *weights) { return weights->count; }
int64_t swm_weights_parameters(const swm_weights *weights) { return weights->parameters; }

const swm_tensor *swm_weights_at(const swm_weights *weights, size_t index, const char **name)
{
    SWM_REQUIRE(index < weights->count, "tensor %zu of %zu", index, weights->count);
    if (name != NULL) *name = weights->entries[index].name;
    return &weights->entries[index].tensor;
}

const swm_tensor *swm_weights_find(const swm_weights *weights, const char *name)
{
    const struct entry *entry = find(weights, name);
    return entry == NULL ? NULL : &entry->tensor;
}

/* Checkpoints often differ from what is asked for by a leading "model." only. */
static int fail_missing(const swm_weights *weights, const char *name, swm_error *error)
{
    char longer[MAX_NAME + 8];
    snprintf(longer, sizeof longer, "model.%s", name);
    const char *near = find(weights, longer) != NULL ? longer : NULL;
    if (near == NULL && strncmp(name, "model.", 6) == 0 && find(weights, name + 6) != NULL) near = name + 6;
    if (near != NULL)
        return swm_fail(error, "%s: has no tensor %s, but %s; its names need the prefix \"model.\" %s", weights->path,
                        name, near, near == longer ? "taken off" : "put on");
    return swm_fail(error, "%s: has no tensor %s among its %zu; is this the right model?", weights->path, name,
                    weights->count);
}

/* The sizes other than 1; wildcards (-1) are kept. */
static int squeeze(int64_t out[SWM_MAX_RANK], int rank, const int64_t *shape)
{
    int count = 0;
    for (int i = 0; i < rank; i++)
        if (shape[i] != 1) out[count++] = shape[i];
    return count;
}

/* Whether the found elements can be seen under `shape`; fills in its wildcards in *resolved. A wildcard stands for the
 * next size other than 1, or, if the file has none left over for any of them, for 1. */
static bool match_shape(int64_t resolved[SWM_MAX_RANK], const swm_tensor *found, int rank, const int64_t *shape)
{
    int64_t have[SWM_MAX_RANK], want[SWM_MAX_RANK];
    int have_count = squeeze(have, found->rank, found->shape), want_count = squeeze(want, rank, shape), fixed = 0;
    for (int i = 0; i < want_count; i++) fixed += want[i] >= 0;
    bool exact = found->rank == rank; /* ranks agree: a wildcard may meet a 1 in its own place */
    for (int i = 0; exact && i < rank; i++) exact = shape[i] == -1 || shape[i] == found->shape[i];
    if (exact) {
        memcpy(resolved, found->shape, sizeof(int64_t) * (size_t)rank);
        return true;
    }
    if (have_count != want_count && have_count != fixed) return false;
    int next = 0;
    for (int i = 0; i < rank; i++) {
        bool single = shape[i] == 1 || (shape[i] == -1 && have_count != want_count);
        resolved[i] = single ? 1 : have[next++];
        if (shape[i] != -1 && resolved[i] != shape[i]) return false;
    }
    return true;
}

/* A shape to bind, for messages: "(2240,any)". */
static swm_shape_text describe_wanted(int rank, const int64_t *shape)
{
    swm_shape_text out = {"("};
    size_t used = 1;
    for (int i = 0; i < rank && used < sizeof out.text - 24; i++) {
        if (i > 0) out.text[used++] = ',';
        used += (size_t)(shape[i] == -1 ? snprintf(out.text + used, 22, "any")
                                        : snprintf(out.text + used, 22, "%lld", (long long)shape[i]));
    }
    snprintf(out.text + used, sizeof out.text - used, ")");
    return out;
}

int swm_weights_bind(const swm_weights *weights, swm_tensor *out, swm_error *error, int rank, const int64_t *shape,
                     const char *name_format, ...)
{
    SWM_REQUIRE(rank >= 1 && rank <= SWM_MAX_RANK, "rank %d", rank);
    *out = (swm_tensor){0};
    char name[MAX_NAME];
    va_list arguments;
    va_start(arguments, name_format);
    int length = vsnprintf(name, sizeof name, name_format, arguments);
    va_end(arguments);
    SWM_REQUIRE(length >= 0 && length < MAX_NAME, "name of %d bytes", length);
    const struct entry *entry = find(weights, name);
    if (entry == NULL) return fail_missing(weights, name, error);
    const char *path = entry->source == NULL ? weights->path : entry->source->path;
    const swm_tensor *found = &entry->tensor;
    if (found->dtype != SWM_F32 && found->dtype != SWM_F16 && found->dtype != SWM_BF16)
        return swm_fail(error, "%s: tensor %s has elements of type %s, expected F32, F16 or BF16", path, name,
                        swm_dtype_name(found->dtype));
    int64_t resolved[SWM_MAX_RANK];
    if (!match_shape(resolved, found, rank, shape))
        return swm_fail(error, "%s: tensor %s has shape %s, expected %s; does the model's config belong to this file?",
                        path, name, swm_describe(*found).text, describe_wanted(rank, shape).text);
    *out = swm_tensor_make(found->dtype, found->data, rank, resolved);
    return 0;
}

/* ---- Fingerprint ---- */

static int digest_file(struct AVSHA *sha, const struct source *source, swm_error *error)
{
    enum { MIB = 1 << 20 };
    swm_mapping mapping;
    if (swm_file_map(&mapping, source->path, error) != 0) return -1;
    uint8_t bytes[8];
    for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)((uint64_t)mapping.size >> 8 * i);
    av_sha_update(sha, bytes, sizeof bytes);
    size_t head = MIB;
    if (source->safetensors != NULL && mapping.size >= 8) {
        uint64_t header = 0;
        for (int i = 7; i >= 0; i--) header = header << 8 | mapping.data[i];
        head = header < mapping.size ? (size_t)header + 8 : mapping.size;
    }
    if (head > mapping.size) head = mapping.size;
    size_t tail = mapping.size < MIB ? mapping.size : MIB;
    av_sha_update(sha, mapping.data, head);
    av_sha_update(sha, mapping.data + mapping.size - tail, tail);
    swm_file_unmap(&mapping);
    return 0;
}

static int compare_paths(const void *left, const void *right)
{
    return strcmp((*(const struct source *const *)left)->path, (*(const struct source *const *)right)->path);
}

int swm_weights_fingerprint(const swm_weights *weights, char hex[65], swm_error *error)
{
    hex[0] = '\0';
    if (weights->source_count == 0)
        return swm_fail(error, "%s: weights without a file have no fingerprint", weights->path);
    const struct source **order = swm_allocate(error, weights->source_count, sizeof *order);
    struct AVSHA *sha = av_sha_alloc();
    int result = order == NULL ? -1 : sha == NULL ? swm_fail(error, "out of memory for a fingerprint") : 0;
    if (result == 0) {
        for (size_t i = 0; i < weights->source_count; i++) order[i] = &weights->sources[i];
        qsort(order, weights->source_count, sizeof *order, compare_paths);
        av_sha_init(sha, 256);
    }
    for (size_t i = 0; result == 0 && i < weights->source_count; i++) result = digest_file(sha, order[i], error);
    if (result == 0) {
        if (weights->signature != NULL)
            av_sha_update(sha, (const uint8_t *)weights->signature, strlen(weights->signature));
        uint8_t digest[32];
        av_sha_final(sha, digest);
        for (int i = 0; i < 32; i++) snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    }
    av_free(sha);
    free(order);
    return result;
}
