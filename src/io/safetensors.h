/* The safetensors format: an 8-byte little-endian header length, a JSON header that names every tensor, then raw
 * little-endian elements. Owns the mapping of one file and its validation; knows nothing of shards and directories.
 *
 * Everything the header claims is checked against the file when it is opened, so that a tensor handed out here can be
 * read without further checks. */
#ifndef SWM_SAFETENSORS_H
#define SWM_SAFETENSORS_H

#include "core/tensor.h"

typedef struct swm_safetensors swm_safetensors;

/* Map a file read-only and validate its header. Tensors are of rank 1 to SWM_MAX_RANK (a scalar becomes shape
 * {1}) and of a swm_dtype; a file with anything else is refused. NULL on failure. */
swm_safetensors *swm_safetensors_open(const char *path, swm_error *error);

/* The same over memory, which stays the caller's and must outlive the result. Messages say `label` for the path. */
swm_safetensors *swm_safetensors_open_memory(const void *data, size_t size, const char *label, swm_error *error);

void swm_safetensors_close(swm_safetensors *file); /* NULL is fine; invalidates every tensor and name handed out */

size_t swm_safetensors_count(const swm_safetensors *file);

/* Tensors in the order of their names (strcmp), index < count. The data is read-only, valid until close and
 * aligned to the size of its element: the rare tensor that is not aligned in the file is copied. `name` may be NULL. */
const swm_tensor *swm_safetensors_at(const swm_safetensors *file, size_t index, const char **name);
const swm_tensor *swm_safetensors_find(const swm_safetensors *file, const char *name); /* NULL if absent */

/* The value of a key of __metadata__, NULL if absent. Valid until close. */
const char *swm_safetensors_metadata(const swm_safetensors *file, const char *key);

/* Write `count` tensors, all with data, under distinct names. `metadata` is NULL or key, value, ..., NULL. The header
 * is padded to 8 bytes and wide element types go first, so every tensor is aligned. Nothing stands under `path`
 * on failure. */
int swm_safetensors_save(const char *path, size_t count, const char *const *names, const swm_tensor *tensors,
                         const char *const *metadata, swm_error *error);

#endif
