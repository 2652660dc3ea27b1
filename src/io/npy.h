/* NumPy's .npy and .npz files: camera poses, intrinsics and embeddings in, arrays out. Owns the file formats, not the
 * meaning: shapes, NaN and infinity are the caller's to judge. */
#ifndef SWM_NPY_H
#define SWM_NPY_H

#include "core/base.h"
#include "core/file.h"

enum { SWM_ARRAY_MAX_RANK = 5 };

/* An array of any real NumPy type, converted to double, in C order. Integers past 2^53 are rounded. */
typedef struct swm_array {
    int rank; /* 0: a single value */
    int64_t shape[SWM_ARRAY_MAX_RANK];
    double *values; /* owned; freed by swm_array_free */
} swm_array;

int64_t swm_array_count(const swm_array *array);
void swm_array_free(swm_array *array); /* safe on {0} and twice */

/* Read format version 1, 2 or 3 of f2 f4 f8 i1 i2 i4 i8 u1 u2 u4 b1, either byte order, C or Fortran order. The file
 * must hold exactly the bytes that its shape asks for, at most 2^27 elements. On failure *array is {0}. */
int swm_npy_read(const char *path, swm_array *array, swm_error *error);
/* The same from memory; `file` only names the source in messages. */
int swm_npy_parse(const char *file, const void *data, size_t size, swm_array *array, swm_error *error);

/* Write values (C order, at least one element a dimension or rank 0) as little-endian F32 or F64, version 1. The file
 * appears whole or not at all. */
int swm_npy_save(const char *path, swm_dtype dtype, int rank, const int64_t *shape, const double *values,
                 swm_error *error);

/* A zip of .npy files, as numpy.savez and savez_compressed write it: stored or deflated, ZIP64 accepted. */
typedef struct swm_npz {
    char *file;          /* owned, for messages */
    swm_mapping mapping; /* of swm_npz_open, else empty */
    const uint8_t *data;
    size_t size;
    int count; /* arrays; at most 4096 */
    struct swm_npz_entry {
        char *name; /* without ".npy" */
        uint64_t offset, packed, unpacked;
        uint32_t checksum;
        bool deflated;
    } * entries;
} swm_npz;

/* Only the directory is read. The memory of swm_npz_parse must outlive *npz. */
int swm_npz_open(swm_npz *npz, const char *path, swm_error *error);
int swm_npz_parse(swm_npz *npz, const char *file, const void *data, size_t size, swm_error *error);
/* The array called `name`; refuses one that unpacks to more than 1 GiB. */
int swm_npz_read(const swm_npz *npz, const char *name, swm_array *array, swm_error *error);
void swm_npz_close(swm_npz *npz); /* safe on {0} and twice */

#endif
