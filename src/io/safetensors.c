/* Implements io/safetensors.h. The JSON tree lives only while a file is being opened; io/json.h has refused what is no
 * strict JSON and keys that stand twice, so names are distinct. */
#include "io/safetensors.h"

#include "core/file.h"
#include "io/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PREFIX_SIZE = 8, MAX_HEADER = 100 * 1000 * 1000, COPY_ALIGNMENT = 16 };

struct entry {
    char *name;
    swm_tensor tensor;
    uint64_t begin, end; /* bytes within the data section */
};

struct swm_safetensors {
    char *label;         /* path or the caller's label, for messages */
    swm_mapping mapping; /* size 0 when the memory is the caller's */
    struct entry *entries;
    size_t count;
    cJSON *metadata; /* NULL when the header has none */
    uint8_t *copies; /* tensors that are not aligned in the file */
};

/* A name out of a hostile header can be megabytes long; messages show its beginning. */
#define NAME "%.128s"

static bool json_integer(const cJSON *item, int64_t *value)
{
    /* Above 2^53 a double, which is what cJSON keeps, no longer tells neighbours apart. */
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0 && item->valuedouble <= 0x1p53)) return false;
    *value = (int64_t)item->valuedouble;
    return (double)*value == item->valuedouble;
}

static int parse_dtype(swm_tensor *tensor, const cJSON *item, const swm_safetensors *file, const char *name,
                       swm_error *error)
{
    if (!cJSON_IsString(item)) return swm_fail(error, "%s: tensor " NAME ": dtype is no string", file->label, name);
    for (int i = 0; i < SWM_DTYPE_COUNT; i++) {
        tensor->dtype = (swm_dtype)i;
        if (strcmp(item->valuestring, swm_dtype_name(tensor->dtype)) == 0) return 0;
    }
    return swm_fail(error,
                    "%s: tensor " NAME " has dtype %.32s; expected F32, BF16, F16, F64, I64, I32, I16, I8, U8 or BOOL",
                    file->label, name, item->valuestring);
}

static int parse_shape(swm_tensor *tensor, const cJSON *item, const swm_safetensors *file, const char *name,
                       swm_error *error)
{
    if (!cJSON_IsArray(item)) return swm_fail(error, "%s: tensor " NAME ": shape is no list", file->label, name);
    for (const cJSON *size = item->child; size != NULL; size = size->next) {
        if (tensor->rank == SWM_MAX_RANK)
            return swm_fail(error, "%s: tensor " NAME " has more than %d dimensions", file->label, name, SWM_MAX_RANK);
        if (!json_integer(size, &tensor->shape[tensor->rank++]))
            return swm_fail(error, "%s: tensor " NAME ": a size in its shape is no integer from 0 to 2^53", file->label,
                            name);
    }
    if (tensor->rank == 0) tensor->shape[tensor->rank++] = 1;
    return 0;
}

/* The bytes of a tensor. Sizes of zero count as one, so that no order of multiplication overflows later either. */
static int tensor_size(const swm_tensor *tensor, uint64_t *size)
{
    int64_t bytes = (int64_t)swm_dtype_size(tensor->dtype);
    for (int i = 0; i < tensor->rank; i++)
        if (__builtin_mul_overflow(bytes, swm_max(tensor->shape[i], 1), &bytes)) return -1;
    *size = (uint64_t)swm_bytes(*tensor);
    return 0;
}

static int parse_offsets(struct entry *entry, const cJSON *item, const swm_safetensors *file, swm_error *error)
{
    int64_t begin = 0, end = 0;
    if (!cJSON_IsArray(item) || cJSON_GetArraySize(item) != 2 || !json_integer(item->child, &begin) ||
        !json_integer(item->child->next, &end) || begin > end)
        return swm_fail(error, "%s: tensor " NAME ": data_offsets is no [begin, end] with begin <= end", file->label,
                        entry->name);
    entry->begin = (uint64_t)begin;
    entry->end = (uint64_t)end;
    return 0;
}

/* One member of the header, {"dtype": ..., "shape": [...], "data_offsets": [begin, end]}, against a data section of
 * `available` bytes at `base`. */
static int parse_entry(struct entry *entry, const cJSON *item, const swm_safetensors *file, const uint8_t *base,
                       size_t available, swm_error *error)
{
    const cJSON *dtype = NULL, *shape = NULL, *offsets = NULL;
    entry->name = swm_copy_string(error, item->string);
    if (entry->name == NULL) return -1;
    if (!cJSON_IsObject(item)) return swm_fail(error, "%s: tensor " NAME " is no object", file->label, entry->name);
    for (const cJSON *field = item->child; field != NULL; field = field->next) {
        const cJSON **slot = strcmp(field->string, "dtype") == 0          ? &dtype
                             : strcmp(field->string, "shape") == 0        ? &shape
                             : strcmp(field->string, "data_offsets") == 0 ? &offsets
                                                                          : NULL;
        if (slot == NULL)
            return swm_fail(error, "%s: tensor " NAME " has the unknown field %.32s", file->label, entry->name,
                            field->string);
        *slot = field;
    }
    if (dtype == NULL || shape == NULL || offsets == NULL)
        return swm_fail(error, "%s: tensor " NAME " lacks its %s", file->label, entry->name,
                        dtype == NULL   ? "dtype"
                        : shape == NULL ? "shape"
                                        : "data_offsets");
    if (parse_dtype(&entry->tensor, dtype, file, entry->name, error) != 0 ||
        parse_shape(&entry->tensor, shape, file, entry->name, error) != 0 ||
        parse_offsets(entry, offsets, file, error) != 0)
        return -1;
    if (entry->end > available)
        return swm_fail(
            error, "%s: tensor " NAME " ends at byte %" PRIu64 " of the data, which has %zu; the file is truncated",
            file->label, entry->name, entry->end, available);
    uint64_t size = 0;
    if (tensor_size(&entry->tensor, &size) != 0 || size != entry->end - entry->begin)
        return swm_fail(error,
                        "%s: tensor " NAME " of shape %s %s occupies %" PRIu64 " bytes, which do not fit that shape",
                        file->label, entry->name, swm_describe(entry->tensor).text, swm_dtype_name(entry->tensor.dtype),
                        entry->end - entry->begin);
    entry->tensor.data = (void *)(uintptr_t)(base + entry->begin);
    return 0;
}

static int parse_metadata(swm_safetensors *file, cJSON *root, cJSON *item, swm_error *error)
{
    if (!cJSON_IsObject(item)) return swm_fail(error, "%s: __metadata__ is no object", file->label);
    for (const cJSON *pair = item->child; pair != NULL; pair = pair->next)
        if (!cJSON_IsString(pair))
            return swm_fail(error, "%s: __metadata__ key " NAME " is no string", file->label, pair->string);
    file->metadata = cJSON_DetachItemViaPointer(root, item);
    return 0;
}

static int compare_names(const void *left, const void *right)
{
    return strcmp(((const struct entry *)left)->name, ((const struct entry *)right)->name);
}

static int compare_offsets(const void *left, const void *right)
{
    const struct entry *a = left, *b = right;
    if (a->begin != b->begin) return a->begin < b->begin ? -1 : 1;
    return a->end < b->end ? -1 : a->end > b->end;
}

/* Refuse overlaps and data of no tensor behind the last, and leave the entries sorted by name. */
static int sort_entries(swm_safetensors *file, size_t available, swm_error *error)
{
    struct entry *entries = file->entries;
    qsort(entries, file->count, sizeof *entries, compare_offsets);
    for (size_t i = 1; i < file->count; i++)
        if (entries[i].begin < entries[i - 1].end)
            return swm_fail(error, "%s: tensors " NAME " and " NAME " overlap", file->label, entries[i - 1].name,
                            entries[i].name);
    const uint64_t end = file->count > 0 ? entries[file->count - 1].end : 0;
    if (end != available)
        return swm_fail(error, "%s: has %zu bytes of data and its tensors end at byte %" PRIu64 "; copy the file again",
                        file->label, available, end);
    qsort(entries, file->count, sizeof *entries, compare_names);
    return 0;
}

static bool aligned(const swm_tensor *tensor) { return (uintptr_t)tensor->data % swm_dtype_size(tensor->dtype) == 0; }

/* Writers need not align; reading a float at an odd address is undefined. Tensors do not overlap, so the copies are
 * never larger than the file. */
static int align_tensors(swm_safetensors *file, swm_error *error)
{
    size_t total = 0;
    for (size_t i = 0; i < file->count; i++)
        if (!aligned(&file->entries[i].tensor)) total += swm_bytes(file->entries[i].tensor) + COPY_ALIGNMENT;
    if (total == 0) return 0;
    file->copies = swm_allocate(error, total, 1);
    if (file->copies == NULL) return -1;
    uint8_t *next = file->copies;
    for (size_t i = 0; i < file->count; i++) {
        swm_tensor *tensor = &file->entries[i].tensor;
        if (aligned(tensor)) continue;
        size_t size = swm_bytes(*tensor);
        tensor->data = memcpy(next, tensor->data, size);
        next += (size + COPY_ALIGNMENT - 1) / COPY_ALIGNMENT * COPY_ALIGNMENT;
    }
    return 0;
}

/* The header as a JSON tree; *header_size excludes the length field. */
static cJSON *parse_header(const swm_safetensors *file, const uint8_t *data, size_t size, size_t *header_size,
                           swm_error *error)
{
    if (size < PREFIX_SIZE) {
        swm_fail(error, "%s: has %zu bytes, too few for a safetensors file", file->label, size);
        return NULL;
    }
    uint64_t length = 0;
    for (int i = PREFIX_SIZE - 1; i >= 0; i--) length = length << 8 | data[i];
    if (length > size - PREFIX_SIZE || length > MAX_HEADER) {
        swm_fail(error,
                 "%s: claims a header of %" PRIu64
                 " bytes, but has %zu and may have %d; truncated, or no safetensors file",
                 file->label, length, size - PREFIX_SIZE, MAX_HEADER);
        return NULL;
    }
    *header_size = (size_t)length;
    cJSON *root = swm_json_parse(file->label, data + PREFIX_SIZE, *header_size, error);
    if (root == NULL || cJSON_IsObject(root)) return root;
    swm_fail(error, "%s: the header is no object of tensors", file->label);
    cJSON_Delete(root);
    return NULL;
}

static int read_entries(swm_safetensors *file, cJSON *root, const uint8_t *base, size_t available, swm_error *error)
{
    size_t children = 0;
    for (const cJSON *item = root->child; item != NULL; item = item->next) children++;
    file->entries = swm_allocate(error, children, sizeof *file->entries);
    if (file->entries == NULL) return -1;
    for (cJSON *item = root->child, *next; item != NULL; item = next) {
        next = item->next; /* metadata leaves the tree */
        if (strcmp(item->string, "__metadata__") == 0) {
            if (parse_metadata(file, root, item, error) != 0) return -1;
        } else if (parse_entry(&file->entries[file->count++], item, file, base, available, error) != 0) {
            return -1;
        }
    }
    return 0;
}

static int parse_file(swm_safetensors *file, const uint8_t *data, size_t size, swm_error *error)
{
    size_t header_size = 0;
    cJSON *root = parse_header(file, data, size, &header_size, error);
    if (root == NULL) return -1;
    size_t start = PREFIX_SIZE + header_size;
    int result = read_entries(file, root, data + start, size - start, error);
    cJSON_Delete(root);
    if (result == 0) result = sort_entries(file, size - start, error);
    if (result == 0) result = align_tensors(file, error);
    return result;
}

swm_safetensors *swm_safetensors_open_memory(const void *data, size_t size, const char *label, swm_error *error)
{
    swm_safetensors *file = swm_allocate(error, 1, sizeof *file);
    if (file == NULL) return NULL;
    file->label = swm_copy_string(error, label);
    if (file->label == NULL || parse_file(file, data, size, error) != 0) {
        swm_safetensors_close(file);
        return NULL;
    }
    return file;
}

swm_safetensors *swm_safetensors_open(const char *path, swm_error *error)
{
    swm_mapping mapping;
    if (swm_file_map(&mapping, path, error) != 0) return NULL;
    swm_safetensors *file = swm_safetensors_open_memory(mapping.data, mapping.size, path, error);
    if (file == NULL)
        swm_file_unmap(&mapping);
    else
        file->mapping = mapping;
    return file;
}

void swm_safetensors_close(swm_safetensors *file)
{
    if (file == NULL) return;
    for (size_t i = 0; i < file->count; i++) free(file->entries[i].name);
    free(file->entries);
    free(file->copies);
    cJSON_Delete(file->metadata);
    swm_file_unmap(&file->mapping);
    free(file->label);
    free(file);
}

size_t swm_safetensors_count(const swm_safetensors *file) { return file->count; }

const swm_tensor *swm_safetensors_at(const swm_safetensors *file, size_t index, const char **name)
{
    SWM_REQUIRE(index < file->count, "tensor %zu of %zu", index, file->count);
    if (name != NULL) *name = file->entries[index].name;
    return &file->entries[index].tensor;
}

static int compare_key(const void *key, const void *entry) { return strcmp(key, ((const struct entry *)entry)->name); }

const swm_tensor *swm_safetensors_find(const swm_safetensors *file, const char *name)
{
    const struct entry *entry = bsearch(name, file->entries, file->count, sizeof *entry, compare_key);
    return entry == NULL ? NULL : &entry->tensor;
}

const char *swm_safetensors_metadata(const swm_safetensors *file, const char *key)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(file->metadata, key));
}

/* Where each tensor goes: wide elements first, in the given order among equals. Official readers refuse padding between
 * tensors, so order is the only means to align them. */
static void place_tensors(size_t count, const swm_tensor *tensors, size_t *order, uint64_t *begin)
{
    size_t placed = 0;
    uint64_t offset = 0;
    for (size_t width = sizeof(double); width > 0; width /= 2)
        for (size_t i = 0; i < count; i++) {
            if (swm_dtype_size(tensors[i].dtype) != width) continue;
            order[placed++] = i;
            begin[i] = offset;
            offset += swm_bytes(tensors[i]);
        }
}

static bool add_metadata(cJSON *root, const char *const *metadata)
{
    if (metadata == NULL) return true;
    cJSON *object = cJSON_AddObjectToObject(root, "__metadata__");
    for (; object != NULL && metadata[0] != NULL; metadata += 2)
        if (cJSON_AddStringToObject(object, metadata[0], metadata[1]) == NULL) return false;
    return object != NULL;
}

static bool add_tensor(cJSON *root, const char *name, swm_tensor tensor, uint64_t begin)
{
    char text[256];
    swm_shape_text shape = swm_describe(tensor); /* "(3,4)": its inside is a JSON list's */
    snprintf(text, sizeof text, "{\"dtype\":\"%s\",\"shape\":[%.*s],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}",
             swm_dtype_name(tensor.dtype), (int)strlen(shape.text) - 2, shape.text + 1, begin,
             begin + swm_bytes(tensor));
    return cJSON_AddRawToObject(root, name, text) != NULL;
}

/* The JSON text, padded with spaces to a multiple of 8; NULL with a message. */
static char *make_header(size_t count, const char *const *names, const swm_tensor *tensors, const size_t *order,
                         const uint64_t *begin, const char *const *metadata, swm_error *error)
{
    cJSON *root = cJSON_CreateObject();
    bool good = root != NULL && add_metadata(root, metadata);
    for (size_t i = 0; good && i < count; i++)
        good = add_tensor(root, names[order[i]], tensors[order[i]], begin[order[i]]);
    char *text = good ? cJSON_PrintUnformatted(root) : NULL;
    char *padded = NULL;
    if (text == NULL)
        swm_fail(error, "out of memory for the header of %zu tensors", count);
    else
        padded = swm_format(error, "%s%*s", text, (int)(-strlen(text) & 7), "");
    cJSON_free(text);
    cJSON_Delete(root);
    return padded;
}

static int compare_strings(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

static int check_names(const char *path, size_t count, const char *const *names, swm_error *error)
{
    const char **sorted = swm_allocate(error, count, sizeof *sorted);
    if (sorted == NULL) return -1;
    for (size_t i = 0; i < count; i++) sorted[i] = names[i];
    qsort(sorted, count, sizeof *sorted, compare_strings);
    int result = 0;
    for (size_t i = 0; i < count && result == 0; i++) {
        if (strcmp(sorted[i], "__metadata__") == 0)
            result = swm_fail(error, "%s: no tensor can be named __metadata__", path);
        else if (i > 0 && strcmp(sorted[i - 1], sorted[i]) == 0)
            result = swm_fail(error, "%s: two tensors to save are named " NAME, path, sorted[i]);
    }
    free(sorted);
    return result;
}

static int write_file(const char *path, const char *header, size_t count, const swm_tensor *tensors,
                      const size_t *order, swm_error *error)
{
    swm_output output;
    if (swm_output_open(&output, path, error) != 0) return -1;
    size_t length = strlen(header);
    uint8_t prefix[PREFIX_SIZE];
    for (int i = 0; i < PREFIX_SIZE; i++) prefix[i] = (uint8_t)((uint64_t)length >> 8 * i);
    int result = swm_output_write(&output, prefix, sizeof prefix, error);
    if (result == 0) result = swm_output_write(&output, header, length, error);
    for (size_t i = 0; i < count && result == 0; i++) {
        swm_tensor tensor = tensors[order[i]];
        if (swm_bytes(tensor) > 0) result = swm_output_write(&output, tensor.data, swm_bytes(tensor), error);
    }
    if (result == 0) return swm_output_commit(&output, error);
    swm_output_abandon(&output);
    return -1;
}

int swm_safetensors_save(const char *path, size_t count, const char *const *names, const swm_tensor *tensors,
                         const char *const *metadata, swm_error *error)
{
    for (size_t i = 0; i < count; i++)
        SWM_REQUIRE(swm_present(tensors[i]) && (tensors[i].data != NULL || swm_count(tensors[i]) == 0),
                    "%s has no data to save", names[i]);
    if (check_names(path, count, names, error) != 0) return -1;
    size_t *order = swm_allocate(error, count, sizeof *order);
    uint64_t *begin = swm_allocate(error, count, sizeof *begin);
    char *header = NULL;
    int result = -1;
    if (order != NULL && begin != NULL) {
        place_tensors(count, tensors, order, begin);
        header = make_header(count, names, tensors, order, begin, metadata, error);
        if (header != NULL) result = write_file(path, header, count, tensors, order, error);
    }
    free(header);
    free(order);
    free(begin);
    return result;
}
