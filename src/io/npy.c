/* Implements io/npy.h. Every size that a file states is checked against the bytes that are there before it is used. */
#include "io/npy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

static const int64_t maximum_count = (int64_t)1 << 27; /* 1 GiB of doubles */
static const uint64_t maximum_unpacked = (uint64_t)1 << 30;

static uint64_t load_little(const uint8_t *bytes, size_t size)
{
    uint64_t value = 0;
    for (size_t i = size; i-- > 0;) value = value << 8 | bytes[i];
    return value;
}

static uint64_t load_big(const uint8_t *bytes, size_t size)
{
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++) value = value << 8 | bytes[i];
    return value;
}

int64_t swm_array_count(const swm_array *array)
{
    int64_t count = 1;
    for (int i = 0; i < array->rank; i++) count *= array->shape[i];
    return count;
}

void swm_array_free(swm_array *array)
{
    free(array->values);
    *array = (swm_array){0};
}

/* The header is a Python dict literal of three known entries; this reads exactly that and evaluates nothing. */
typedef struct header {
    char kind; /* f, i, u or b */
    size_t width;
    bool big_endian, fortran;
    int rank;
    int64_t shape[SWM_ARRAY_MAX_RANK];
} header;

typedef struct cursor {
    const char *at, *end;
} cursor;

static void skip_blanks(cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\t' || *c->at == '\n')) c->at++;
}

/* Take `text` if it comes next, after blanks. */
static bool take(cursor *c, const char *text)
{
    skip_blanks(c);
    size_t length = strlen(text);
    if ((size_t)(c->end - c->at) < length || memcmp(c->at, text, length) != 0) return false;
    c->at += length;
    return true;
}

static bool take_descr(cursor *c, header *h)
{
    skip_blanks(c);
    if (c->end - c->at < 5 || (c->at[0] != '\'' && c->at[0] != '"') || c->at[4] != c->at[0]) return false;
    char order = c->at[1];
    h->kind = c->at[2];
    h->width = (size_t)(c->at[3] - '0');
    h->big_endian = order == '>';
    c->at += 5;
    if (order != '<' && order != '>' && !(order == '|' && h->width == 1)) return false;
    switch (h->kind) {
    case 'f': return h->width == 2 || h->width == 4 || h->width == 8;
    case 'i': return h->width == 1 || h->width == 2 || h->width == 4 || h->width == 8;
    case 'u': return h->width == 1 || h->width == 2 || h->width == 4;
    case 'b': return h->width == 1;
    default: return false;
    }
}

/* "()", "(3,)", "(3, 4)" or "(3, 4,)". */
static bool take_shape(cursor *c, header *h)
{
    if (!take(c, "(")) return false;
    bool separated = true;
    while (!take(c, ")")) {
        if (!separated || h->rank == SWM_ARRAY_MAX_RANK) return false;
        int64_t extent = 0;
        const char *first = c->at; /* take has skipped the blanks */
        for (; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++) {
            extent = extent * 10 + (*c->at - '0');
            if (extent > maximum_count) return false;
        }
        if (c->at == first) return false;
        h->shape[h->rank++] = extent;
        separated = take(c, ",");
    }
    return h->rank != 1 || separated; /* Python needs the comma: (3) is a number */
}

static int parse_header(const char *file, cursor c, header *h, swm_error *error)
{
    bool descr = false, order = false, shape = false;
    *h = (header){0};
    if (!take(&c, "{")) return swm_fail(error, "%s: the .npy header is no dictionary; save it again with numpy", file);
    while (!take(&c, "}")) {
        if (!descr && (take(&c, "'descr':") || take(&c, "\"descr\":"))) {
            descr = true;
            if (!take_descr(&c, h))
                return swm_fail(error,
                                "%s: has an element type other than f2 f4 f8 i1 i2 i4 i8 u1 u2 u4 b1; convert it, "
                                "for example with array.astype('float32')",
                                file);
        } else if (!order && (take(&c, "'fortran_order':") || take(&c, "\"fortran_order\":"))) {
            order = true;
            h->fortran = take(&c, "True");
            if (!h->fortran && !take(&c, "False"))
                return swm_fail(error, "%s: fortran_order is neither True nor False; the file is damaged", file);
        } else if (!shape && (take(&c, "'shape':") || take(&c, "\"shape\":"))) {
            shape = true;
            if (!take_shape(&c, h))
                return swm_fail(error, "%s: the shape is no tuple of at most %d sizes up to 2^27", file,
                                SWM_ARRAY_MAX_RANK);
        } else
            return swm_fail(error,
                            "%s: the .npy header has something other than descr, fortran_order and shape once "
                            "each; save it again with numpy",
                            file);
        if (!take(&c, ",") && (skip_blanks(&c), c.at == c.end || *c.at != '}'))
            return swm_fail(error, "%s: the .npy header is cut off; the file is damaged", file);
    }
    skip_blanks(&c);
    if (!descr || !order || !shape || c.at != c.end)
        return swm_fail(error, "%s: the .npy header lacks descr, fortran_order or shape, or has more behind them",
                        file);
    return 0;
}

static double element(const uint8_t *bytes, const header *h)
{
    uint64_t bits = h->big_endian ? load_big(bytes, h->width) : load_little(bytes, h->width);
    if (h->kind == 'b') return bits != 0;
    if (h->kind == 'u') return (double)bits;
    if (h->kind == 'i') {
        unsigned unused = 64 - 8 * (unsigned)h->width;
        return (double)((int64_t)(bits << unused) >> unused); /* sign extension */
    }
    if (h->width == 2) return (double)swm_f16_to_f32((uint16_t)bits);
    if (h->width == 4) {
        uint32_t word = (uint32_t)bits;
        float value;
        memcpy(&value, &word, sizeof value);
        return (double)value;
    }
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Walk the result in C order and fetch each value from where the file's order has it. */
static void convert(double *values, int64_t count, const uint8_t *data, const header *h)
{
    int64_t stride[SWM_ARRAY_MAX_RANK], index[SWM_ARRAY_MAX_RANK] = {0}, step = 1, from = 0;
    for (int i = 0; i < h->rank; i++) {
        int axis = h->fortran ? i : h->rank - 1 - i;
        stride[axis] = step;
        step *= h->shape[axis];
    }
    for (int64_t n = 0; n < count; n++) {
        values[n] = element(data + (size_t)from * h->width, h);
        for (int axis = h->rank - 1; axis >= 0; axis--) {
            from += stride[axis];
            if (++index[axis] < h->shape[axis]) break;
            from -= stride[axis] * h->shape[axis];
            index[axis] = 0;
        }
    }
}

int swm_npy_parse(const char *file, const void *data, size_t size, swm_array *array, swm_error *error)
{
    *array = (swm_array){0};
    const uint8_t *bytes = data;
    if (size < 10 || memcmp(bytes, "\x93NUMPY", 6) != 0)
        return swm_fail(error, "%s: is no .npy file: it does not start with NumPy's signature", file);
    if (bytes[6] < 1 || bytes[6] > 3)
        return swm_fail(error, "%s: has .npy version %d, expected 1 to 3; save it again with numpy", file, bytes[6]);
    size_t prefix = bytes[6] == 1 ? 10 : 12;
    size_t length = size < prefix ? SIZE_MAX : (size_t)load_little(bytes + 8, prefix - 8);
    if (size < prefix || length > size - prefix)
        return swm_fail(error, "%s: is cut off in its header at %zu bytes; copy the file again", file, size);
    header h;
    const char *text = (const char *)bytes + prefix;
    if (parse_header(file, (cursor){text, text + length}, &h, error) != 0) return -1;
    bool empty = false;
    int64_t count = 1; /* of the non-empty dimensions, so that a 0 does not hide an absurd one */
    for (int i = 0; i < h.rank; i++) {
        empty = empty || h.shape[i] == 0;
        count *= swm_max(h.shape[i], 1); /* both factors are at most 2^27 */
        if (count > maximum_count) return swm_fail(error, "%s: the shape has more than 2^27 elements", file);
    }
    if (empty) count = 0;
    size_t present = size - prefix - length, expected = (size_t)count * h.width;
    if (present != expected)
        return swm_fail(error, "%s: has %zu bytes of data where its shape needs %zu; copy the file again", file,
                        present, expected);
    double *values = swm_allocate(error, (size_t)count, sizeof *values);
    if (values == NULL) return -1;
    convert(values, count, bytes + prefix + length, &h);
    array->rank = h.rank;
    memcpy(array->shape, h.shape, sizeof array->shape);
    array->values = values;
    return 0;
}

int swm_npy_read(const char *path, swm_array *array, swm_error *error)
{
    *array = (swm_array){0};
    swm_mapping mapping;
    if (swm_file_map(&mapping, path, error) != 0) return -1;
    int result = swm_npy_parse(path, mapping.data, mapping.size, array, error);
    swm_file_unmap(&mapping);
    return result;
}

/* Values pass through a small buffer, in the byte order that the header names. */
static int write_values(swm_output *output, swm_dtype dtype, int64_t count, const double *values, swm_error *error)
{
    uint8_t buffer[8192];
    size_t width = swm_dtype_size(dtype), used = 0;
    for (int64_t n = 0; n < count; n++) {
        uint64_t bits = 0;
        float single = (float)values[n];
        uint32_t word;
        memcpy(&word, &single, sizeof word);
        memcpy(&bits, &values[n], sizeof bits);
        if (dtype == SWM_F32) bits = word;
        for (size_t i = 0; i < width; i++) buffer[used++] = (uint8_t)(bits >> 8 * i);
        if (used < sizeof buffer && n + 1 < count) continue;
        if (swm_output_write(output, buffer, used, error) != 0) return -1;
        used = 0;
    }
    return 0;
}

int swm_npy_save(const char *path, swm_dtype dtype, int rank, const int64_t *shape, const double *values,
                 swm_error *error)
{
    SWM_REQUIRE(dtype == SWM_F32 || dtype == SWM_F64, "%s is not written to .npy", swm_dtype_name(dtype));
    SWM_REQUIRE(rank >= 0 && rank <= SWM_ARRAY_MAX_RANK, "rank %d", rank);
    char sizes[SWM_ARRAY_MAX_RANK * 24] = "", text[256];
    int64_t count = 1;
    for (int i = 0; i < rank; i++) {
        SWM_REQUIRE(shape[i] > 0, "size %lld", (long long)shape[i]);
        size_t used = strlen(sizes);
        snprintf(sizes + used, sizeof sizes - used, "%s%lld%s", i > 0 ? " " : "", (long long)shape[i],
                 i + 1 < rank || rank == 1 ? "," : "");
        count *= shape[i];
    }
    int length = snprintf(text, sizeof text, "{'descr': '<f%d', 'fortran_order': False, 'shape': (%s), }",
                          dtype == SWM_F32 ? 4 : 8, sizes);
    /* Blanks and a newline bring the data to a multiple of 64 bytes, so that it can be mapped. */
    int padded = (10 + length + 1 + 63) / 64 * 64 - 10;
    memset(text + length, ' ', (size_t)(padded - length));
    text[padded - 1] = '\n';
    const uint8_t prefix[10] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (uint8_t)padded, (uint8_t)(padded >> 8)};
    swm_output output;
    if (swm_output_open(&output, path, error) != 0) return -1;
    if (swm_output_write(&output, prefix, sizeof prefix, error) != 0 ||
        swm_output_write(&output, text, (size_t)padded, error) != 0 ||
        write_values(&output, dtype, count, values, error) != 0) {
        swm_output_abandon(&output);
        return -1;
    }
    return swm_output_commit(&output, error);
}

enum {
    END_SIZE = 22,
    END64_LOCATOR_SIZE = 20,
    END64_SIZE = 56,
    CENTRAL_SIZE = 46,
    LOCAL_SIZE = 30,
    MAXIMUM_COMMENT = 65535,
    MAXIMUM_ENTRIES = 4096
};

static bool has_signature(const swm_npz *npz, uint64_t offset, uint32_t signature)
{
    return offset <= npz->size && npz->size - offset >= 4 && load_little(npz->data + offset, 4) == signature;
}

typedef struct directory {
    uint64_t offset, size, count;
} directory;

/* The end record lies within the last 64 KiB; a ZIP64 one, when there is one, is named by a locator right before it. */
static int find_directory(const swm_npz *npz, directory *found, swm_error *error)
{
    uint64_t lowest = npz->size > END_SIZE + MAXIMUM_COMMENT ? npz->size - END_SIZE - MAXIMUM_COMMENT : 0, end = 0;
    bool exists = false;
    for (uint64_t at = npz->size < END_SIZE ? 0 : npz->size - END_SIZE + 1; at-- > lowest && !exists;) {
        exists = has_signature(npz, at, 0x06054b50) && at + END_SIZE + load_little(npz->data + at + 20, 2) == npz->size;
        end = at;
    }
    if (!exists) return swm_fail(error, "%s: is no .npz file, or cut off: the zip directory is missing", npz->file);
    const uint8_t *record = npz->data + end;
    *found = (directory){load_little(record + 16, 4), load_little(record + 12, 4), load_little(record + 10, 2)};
    if (end >= END64_LOCATOR_SIZE && has_signature(npz, end - END64_LOCATOR_SIZE, 0x07064b50)) {
        uint64_t at = load_little(npz->data + end - END64_LOCATOR_SIZE + 8, 8);
        if (!has_signature(npz, at, 0x06064b50) || npz->size - at < END64_SIZE)
            return swm_fail(error, "%s: the ZIP64 end record is missing; the file is damaged", npz->file);
        record = npz->data + at;
        *found = (directory){load_little(record + 48, 8), load_little(record + 40, 8), load_little(record + 32, 8)};
    }
    if (found->offset > end || found->size > end - found->offset || found->count > found->size / CENTRAL_SIZE)
        return swm_fail(error, "%s: the zip directory does not fit into the file; copy it again", npz->file);
    if (found->count > MAXIMUM_ENTRIES)
        return swm_fail(error, "%s: has %llu members, more than %d", npz->file, (unsigned long long)found->count,
                        MAXIMUM_ENTRIES);
    return 0;
}

/* Sizes of 2^32-1 stand in a ZIP64 extra field instead, in this order, only those that need it. */
static bool widen(const uint8_t *extra, size_t length, uint64_t *unpacked, uint64_t *packed, uint64_t *local)
{
    uint64_t *wanted[3] = {unpacked, packed, local};
    const uint8_t *field = NULL;
    size_t left = 0;
    for (size_t at = 0; field == NULL && length - at >= 4;) {
        size_t size = (size_t)load_little(extra + at + 2, 2);
        if (size > length - at - 4) return false;
        if (load_little(extra + at, 2) == 1) {
            field = extra + at + 4;
            left = size;
        }
        at += 4 + size;
    }
    for (int i = 0; i < 3; i++) {
        if (*wanted[i] != UINT32_MAX) continue;
        if (left < 8) return false;
        *wanted[i] = load_little(field, 8);
        field += 8;
        left -= 8;
    }
    return true;
}

/* Where the packed bytes of a member start: behind its local header, whose name and extra may differ in length. */
static int locate(swm_npz *npz, struct swm_npz_entry *entry, uint64_t local, swm_error *error)
{
    if (!has_signature(npz, local, 0x04034b50) || npz->size - local < LOCAL_SIZE)
        return swm_fail(error, "%s: the member %s has no header; the file is damaged", npz->file, entry->name);
    const uint8_t *record = npz->data + local;
    entry->offset = local + LOCAL_SIZE + load_little(record + 26, 2) + load_little(record + 28, 2);
    if (entry->offset > npz->size || entry->packed > npz->size - entry->offset)
        return swm_fail(error, "%s: the member %s is cut off; copy the file again", npz->file, entry->name);
    return 0;
}

/* One record of the central directory at *at, which moves on. Members that are no .npy are passed over. */
static int read_member(swm_npz *npz, uint64_t *at, uint64_t end, swm_error *error)
{
    if (end - *at < CENTRAL_SIZE || !has_signature(npz, *at, 0x02014b50))
        return swm_fail(error, "%s: the zip directory is damaged; copy the file again", npz->file);
    const uint8_t *record = npz->data + *at;
    size_t name = (size_t)load_little(record + 28, 2), extra = (size_t)load_little(record + 30, 2);
    size_t whole = CENTRAL_SIZE + name + extra + (size_t)load_little(record + 32, 2);
    if (whole > end - *at) return swm_fail(error, "%s: the zip directory is cut off; copy the file again", npz->file);
    *at += whole;
    const char *text = (const char *)record + CENTRAL_SIZE;
    if (name < 4 || memcmp(text + name - 4, ".npy", 4) != 0) return 0;
    struct swm_npz_entry *entry = &npz->entries[npz->count];
    entry->name = swm_format(error, "%.*s", (int)(name - 4), text);
    if (entry->name == NULL) return -1;
    npz->count++;
    if (strlen(entry->name) != name - 4)
        return swm_fail(error, "%s: the member name %s holds a NUL; the file is damaged", npz->file, entry->name);
    for (int i = 0; i + 1 < npz->count; i++)
        if (strcmp(npz->entries[i].name, entry->name) == 0)
            return swm_fail(error, "%s: has the array %s twice; save it again", npz->file, entry->name);
    uint64_t method = load_little(record + 10, 2), local = load_little(record + 42, 4);
    entry->checksum = (uint32_t)load_little(record + 16, 4);
    entry->packed = load_little(record + 20, 4);
    entry->unpacked = load_little(record + 24, 4);
    entry->deflated = method == 8;
    if ((record[8] & 1) != 0 || (method != 0 && method != 8))
        return swm_fail(error, "%s: the member %s is encrypted or packed by method %d; use numpy.savez", npz->file,
                        entry->name, (int)method);
    if (!widen(record + CENTRAL_SIZE + name, extra, &entry->unpacked, &entry->packed, &local))
        return swm_fail(error, "%s: the ZIP64 sizes of member %s are missing; the file is damaged", npz->file,
                        entry->name);
    return locate(npz, entry, local, error);
}

int swm_npz_parse(swm_npz *npz, const char *file, const void *data, size_t size, swm_error *error)
{
    *npz = (swm_npz){.file = swm_copy_string(error, file), .data = data, .size = size};
    directory found = {0};
    int result = npz->file == NULL ? -1 : find_directory(npz, &found, error);
    if (result == 0) {
        npz->entries = swm_allocate(error, (size_t)found.count, sizeof *npz->entries);
        if (npz->entries == NULL) result = -1;
    }
    uint64_t at = found.offset;
    for (uint64_t i = 0; i < found.count && result == 0; i++)
        result = read_member(npz, &at, found.offset + found.size, error);
    if (result != 0) swm_npz_close(npz);
    return result;
}

int swm_npz_open(swm_npz *npz, const char *path, swm_error *error)
{
    swm_mapping mapping;
    *npz = (swm_npz){0};
    if (swm_file_map(&mapping, path, error) != 0) return -1;
    int result = swm_npz_parse(npz, path, mapping.data, mapping.size, error);
    if (result == 0)
        npz->mapping = mapping;
    else
        swm_file_unmap(&mapping);
    return result;
}

void swm_npz_close(swm_npz *npz)
{
    for (int i = 0; i < npz->count; i++) free(npz->entries[i].name);
    free(npz->entries);
    free(npz->file);
    swm_file_unmap(&npz->mapping);
    *npz = (swm_npz){0};
}

/* Inflate into exactly entry->unpacked bytes. */
static uint8_t *unpack(const swm_npz *npz, const struct swm_npz_entry *entry, swm_error *error)
{
    /* Deflate cannot pack better than 1032 to 1, so a size beyond that is a lie told to make us allocate. */
    if (entry->unpacked > maximum_unpacked || entry->unpacked / 1032 > entry->packed) {
        swm_fail(error, "%s: the array %s claims %llu bytes from %llu packed ones; at most 1 GiB is unpacked",
                 npz->file, entry->name, (unsigned long long)entry->unpacked, (unsigned long long)entry->packed);
        return NULL;
    }
    uint8_t *bytes = swm_allocate(error, (size_t)entry->unpacked + 1, 1);
    if (bytes == NULL) return NULL;
    /* packed is bounded by what the file holds; zlib counts in unsigned int, and more is never needed for 1 GiB. */
    z_stream stream = {.next_in = (Bytef *)(uintptr_t)(npz->data + entry->offset),
                       .avail_in = (uInt)(entry->packed > UINT32_MAX ? UINT32_MAX : entry->packed),
                       .next_out = bytes,
                       .avail_out = (uInt)entry->unpacked + 1};
    int status = inflateInit2(&stream, -MAX_WBITS);
    if (status == Z_OK) {
        status = inflate(&stream, Z_FINISH);
        inflateEnd(&stream);
    }
    if (status == Z_STREAM_END && stream.total_out == entry->unpacked) return bytes;
    swm_fail(error, "%s: the array %s does not unpack to its %llu bytes; the file is damaged", npz->file, entry->name,
             (unsigned long long)entry->unpacked);
    free(bytes);
    return NULL;
}

int swm_npz_read(const swm_npz *npz, const char *name, swm_array *array, swm_error *error)
{
    *array = (swm_array){0};
    const struct swm_npz_entry *entry = NULL;
    for (int i = 0; i < npz->count && entry == NULL; i++)
        if (strcmp(npz->entries[i].name, name) == 0) entry = &npz->entries[i];
    if (entry == NULL)
        return swm_fail(error, "%s: has no array %s; its first is %s", npz->file, name,
                        npz->count > 0 ? npz->entries[0].name : "missing: it is empty");
    uint8_t *unpacked = NULL;
    const uint8_t *bytes = npz->data + entry->offset;
    if (entry->deflated) {
        bytes = unpacked = unpack(npz, entry, error);
        if (bytes == NULL) return -1;
    } else if (entry->packed != entry->unpacked || entry->unpacked > maximum_unpacked)
        return swm_fail(error, "%s: the stored array %s has %llu of %llu bytes, or more than 1 GiB", npz->file, name,
                        (unsigned long long)entry->packed, (unsigned long long)entry->unpacked);
    char *place = swm_format(error, "%s[%s]", npz->file, name);
    int result = -1;
    if (place != NULL && crc32_z(crc32_z(0, NULL, 0), bytes, (size_t)entry->unpacked) != entry->checksum)
        swm_fail(error, "%s: the checksum does not match; the file is damaged", place);
    else if (place != NULL)
        result = swm_npy_parse(place, bytes, (size_t)entry->unpacked, array, error);
    free(place);
    free(unpacked);
    return result;
}
