/* The zip archives that torch.save writes: stored entries only, ZIP64 included. Owns the validation of the
 * archive's directory; knows nothing about what the entries hold, and does not verify checksums, which would read the
 * whole file. */
#ifndef SWM_TORCH_ZIP_H
#define SWM_TORCH_ZIP_H

#include "core/base.h"

/* An unsigned number of up to 8 bytes. */
static inline uint64_t swm_little_endian(const uint8_t *bytes, int count)
{
    uint64_t value = 0;
    while (count-- > 0) value = value << 8 | bytes[count];
    return value;
}

typedef struct swm_torch_zip_entry {
    const char *name; /* name_size bytes in the archive, no NUL */
    size_t name_size;
    uint64_t start;      /* of the local header in the archive */
    uint64_t data, size; /* of the contents, bytes data .. data+size-1 of the archive */
} swm_torch_zip_entry;

typedef struct swm_torch_zip {
    const char *label; /* the caller's name for the archive in messages */
    const uint8_t *data;
    size_t size;
    swm_torch_zip_entry *entries; /* sorted by name; distinct names, no shared bytes, all within the archive */
    size_t count;
} swm_torch_zip;

/* Read the directory of an archive in memory, which stays the caller's, like `label`, and must outlive the result. */
int swm_torch_zip_read(swm_torch_zip *zip, const void *data, size_t size, const char *label, swm_error *error);
void swm_torch_zip_free(swm_torch_zip *zip); /* safe on zeros and after a failed read */

/* The entry "<prefix><suffix>"; NULL if absent. The prefix has prefix_size bytes and need not end in a NUL. */
const swm_torch_zip_entry *swm_torch_zip_find(const swm_torch_zip *zip, const char *prefix, size_t prefix_size,
                                              const char *suffix);

#endif
