/* Implements io/torch_zip.h. */
#include "io/torch_zip.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { LOCAL_SIZE = 30, CENTRAL_SIZE = 46, END_SIZE = 22, END64_SIZE = 56, LOCATOR_SIZE = 20, MAX_COMMENT = 65535 };

/* Where the central directory lies and how many entries it has. */
struct directory {
    uint64_t offset, size, count;
};

static int find_directory64(const swm_torch_zip *zip, struct directory *directory, size_t locator, size_t *limit,
                            swm_error *error)
{
    uint64_t end64 = swm_little_endian(zip->data + locator + 8, 8);
    if (end64 > locator || locator - end64 < END64_SIZE)
        return swm_fail(error, "%s: damaged zip archive: no place for its ZIP64 end record", zip->label);
    const uint8_t *record = zip->data + end64;
    if (memcmp(record, "PK\6\6", 4) != 0 || swm_little_endian(record + 4, 8) != locator - end64 - 12 ||
        swm_little_endian(record + 16, 4) != 0 || swm_little_endian(record + 20, 4) != 0 ||
        swm_little_endian(record + 24, 8) != swm_little_endian(record + 32, 8))
        return swm_fail(error, "%s: damaged zip archive: bad ZIP64 end record", zip->label);
    *directory = (struct directory){swm_little_endian(record + 48, 8), swm_little_endian(record + 40, 8),
                                    swm_little_endian(record + 32, 8)};
    *limit = (size_t)end64;
    return 0;
}

static int find_directory(const swm_torch_zip *zip, struct directory *directory, swm_error *error)
{
    if (zip->size < END_SIZE || memcmp(zip->data, "PK\3\4", 4) != 0)
        return swm_fail(error,
                        "%s: is no zip archive as torch.save writes since 1.6; load it in PyTorch and save it again",
                        zip->label);
    size_t end = zip->size - END_SIZE, lowest = end > MAX_COMMENT ? end - MAX_COMMENT : 0;
    while (memcmp(zip->data + end, "PK\5\6", 4) != 0 ||
           swm_little_endian(zip->data + end + 20, 2) != zip->size - end - END_SIZE)
        if (end-- == lowest)
            return swm_fail(error, "%s: the zip archive has no end record; the file is truncated", zip->label);
    const uint8_t *record = zip->data + end;
    size_t limit = end;
    *directory = (struct directory){swm_little_endian(record + 16, 4), swm_little_endian(record + 12, 4),
                                    swm_little_endian(record + 10, 2)};
    if (end >= LOCATOR_SIZE && memcmp(record - LOCATOR_SIZE, "PK\6\7", 4) == 0) {
        if (find_directory64(zip, directory, end - LOCATOR_SIZE, &limit, error) != 0) return -1;
    } else if (swm_little_endian(record + 4, 4) != 0 || swm_little_endian(record + 8, 2) != directory->count) {
        return swm_fail(error, "%s: zip archives in several parts are not supported", zip->label);
    }
    if (directory->offset > limit || directory->size != limit - directory->offset ||
        directory->count > directory->size / CENTRAL_SIZE)
        return swm_fail(error,
                        "%s: damaged zip archive: its directory of %" PRIu64 " entries and %" PRIu64
                        " bytes does not end "
                        "at the end record",
                        zip->label, directory->count, directory->size);
    return 0;
}

/* Take the 64-bit values that stand in the extra field for the 32-bit fields that are all ones. */
static int read_extra(const uint8_t *extra, size_t size, uint64_t *const fields[3])
{
    while (size >= 4) {
        uint64_t id = swm_little_endian(extra, 2), length = swm_little_endian(extra + 2, 2);
        if (length > size - 4) return -1;
        const uint8_t *value = extra + 4, *end = value + length;
        for (int i = 0; id == 1 && i < 3; i++) {
            if (*fields[i] != UINT32_MAX) continue;
            if (end - value < 8) return -1;
            *fields[i] = swm_little_endian(value, 8);
            value += 8;
        }
        extra += 4 + length;
        size -= 4 + length;
    }
    return size == 0 ? 0 : -1;
}

/* Find where the data of an entry starts and check that it ends before the directory at `limit`. */
static int read_local(const swm_torch_zip *zip, swm_torch_zip_entry *entry, uint64_t method, uint64_t limit)
{
    if (entry->start > limit || limit - entry->start < LOCAL_SIZE) return -1;
    const uint8_t *record = zip->data + entry->start;
    uint64_t name_size = swm_little_endian(record + 26, 2),
             skipped = LOCAL_SIZE + name_size + swm_little_endian(record + 28, 2);
    if (memcmp(record, "PK\3\4", 4) != 0 || swm_little_endian(record + 8, 2) != method ||
        name_size != entry->name_size || skipped > limit - entry->start ||
        memcmp(record + LOCAL_SIZE, entry->name, entry->name_size) != 0)
        return -1;
    entry->data = entry->start + skipped;
    return entry->size <= limit - entry->data ? 0 : -1;
}

/* One record of the central directory at *position, which moves behind it. */
static int read_central(const swm_torch_zip *zip, swm_torch_zip_entry *entry, uint64_t *position,
                        const struct directory *directory, swm_error *error)
{
    uint64_t left = directory->offset + directory->size - *position;
    const uint8_t *record = zip->data + *position;
    if (left < CENTRAL_SIZE || memcmp(record, "PK\1\2", 4) != 0)
        return swm_fail(error, "%s: damaged zip archive: its directory ends early", zip->label);
    uint64_t flags = swm_little_endian(record + 8, 2), method = swm_little_endian(record + 10, 2),
             compressed = swm_little_endian(record + 20, 4);
    size_t extra_size = (size_t)swm_little_endian(record + 30, 2),
           comment_size = (size_t)swm_little_endian(record + 32, 2);
    entry->size = swm_little_endian(record + 24, 4);
    entry->start = swm_little_endian(record + 42, 4);
    entry->name_size = (size_t)swm_little_endian(record + 28, 2);
    entry->name = (const char *)record + CENTRAL_SIZE;
    size_t total = CENTRAL_SIZE + entry->name_size + extra_size + comment_size;
    if (total > left) return swm_fail(error, "%s: damaged zip archive: its directory ends early", zip->label);
    *position += total;
    int shown = (int)swm_min((int64_t)entry->name_size, 128);
    if ((flags & 1) != 0 || method != 0)
        return swm_fail(error, "%s: zip entry %.*s is %s; torch.save stores entries as they are: save it again",
                        zip->label, shown, entry->name,
                        (flags & 1) != 0 ? "encrypted"
                        : method == 8    ? "deflated"
                                         : "compressed");
    if (read_extra(record + CENTRAL_SIZE + entry->name_size, extra_size,
                   (uint64_t *const[]){&entry->size, &compressed, &entry->start}) != 0 ||
        compressed != entry->size || read_local(zip, entry, method, directory->offset) != 0)
        return swm_fail(error,
                        "%s: damaged zip archive: entry %.*s of %" PRIu64 " bytes at %" PRIu64
                        " contradicts itself or does not lie in the file",
                        zip->label, shown, entry->name, entry->size, entry->start);
    return 0;
}

static int compare_starts(const void *left, const void *right)
{
    uint64_t a = ((const swm_torch_zip_entry *)left)->start, b = ((const swm_torch_zip_entry *)right)->start;
    return a < b ? -1 : a > b;
}

static int compare_entries(const void *left, const void *right)
{
    const swm_torch_zip_entry *a = left, *b = right;
    size_t common = a->name_size < b->name_size ? a->name_size : b->name_size;
    int order = memcmp(a->name, b->name, common);
    return order != 0 ? order : a->name_size < b->name_size ? -1 : a->name_size > b->name_size;
}

/* Leaves the archive sorted by name. Entries that share bytes are how a small file claims to be a huge one. */
static int check_entries(const swm_torch_zip *zip, swm_error *error)
{
    swm_torch_zip_entry *entries = zip->entries;
    qsort(entries, zip->count, sizeof *entries, compare_starts);
    for (size_t i = 1; i < zip->count; i++)
        if (entries[i].start < entries[i - 1].data + entries[i - 1].size)
            return swm_fail(error, "%s: zip entries %.*s and %.*s overlap", zip->label,
                            (int)swm_min((int64_t)entries[i - 1].name_size, 128), entries[i - 1].name,
                            (int)swm_min((int64_t)entries[i].name_size, 128), entries[i].name);
    qsort(entries, zip->count, sizeof *entries, compare_entries);
    for (size_t i = 1; i < zip->count; i++)
        if (compare_entries(&entries[i - 1], &entries[i]) == 0)
            return swm_fail(error, "%s: zip entry %.*s is there twice", zip->label,
                            (int)swm_min((int64_t)entries[i].name_size, 128), entries[i].name);
    return 0;
}

static int read_entries(swm_torch_zip *zip, swm_error *error)
{
    struct directory directory = {0};
    if (find_directory(zip, &directory, error) != 0) return -1;
    zip->entries = swm_allocate(error, (size_t)directory.count, sizeof *zip->entries);
    if (zip->entries == NULL) return -1;
    uint64_t position = directory.offset;
    while (zip->count < directory.count)
        if (read_central(zip, &zip->entries[zip->count++], &position, &directory, error) != 0) return -1;
    if (position != directory.offset + directory.size)
        return swm_fail(error, "%s: damaged zip archive: its directory has more than its %" PRIu64 " entries",
                        zip->label, directory.count);
    return check_entries(zip, error);
}

int swm_torch_zip_read(swm_torch_zip *zip, const void *data, size_t size, const char *label, swm_error *error)
{
    *zip = (swm_torch_zip){.label = label, .data = data, .size = size};
    if (read_entries(zip, error) == 0) return 0;
    swm_torch_zip_free(zip);
    return -1;
}

void swm_torch_zip_free(swm_torch_zip *zip)
{
    free(zip->entries);
    *zip = (swm_torch_zip){0};
}

const swm_torch_zip_entry *swm_torch_zip_find(const swm_torch_zip *zip, const char *prefix, size_t prefix_size,
                                              const char *suffix)
{
    size_t suffix_size = strlen(suffix);
    for (size_t low = 0, high = zip->count; low < high;) {
        size_t middle = low + (high - low) / 2;
        const swm_torch_zip_entry *entry = &zip->entries[middle];
        size_t head = entry->name_size < prefix_size ? entry->name_size : prefix_size;
        int order = memcmp(prefix, entry->name, head);
        if (order == 0 && head < prefix_size) order = 1;
        if (order == 0) {
            swm_torch_zip_entry key = {.name = suffix, .name_size = suffix_size};
            swm_torch_zip_entry tail = {.name = entry->name + head, .name_size = entry->name_size - head};
            order = compare_entries(&key, &tail);
        }
        if (order == 0) return entry;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}
