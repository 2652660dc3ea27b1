/* Files: read-only mappings, bounded reads, and output that appears whole or not at all. */
#ifndef SWM_FILE_H
#define SWM_FILE_H

#include "core/base.h"

/* A file mapped read-only. `data` is valid until swm_file_unmap; empty files have size 0 and a non-NULL data. */
typedef struct swm_mapping {
    const uint8_t *data;
    size_t size;
} swm_mapping;

int swm_file_map(swm_mapping *mapping, const char *path, swm_error *error);
void swm_file_unmap(swm_mapping *mapping);
/* memcpy for gigabytes that may lie in a mapping and still have to come from the disk or the page cache: on several
 * threads, pages asked for in bulk. */
void swm_copy_mapped(void *restrict to, const void *restrict from, size_t bytes, int threads);

/* The whole file as fresh memory with a NUL behind its last byte; NULL when it is missing, no regular file, or larger
 * than `limit` bytes. *size may be NULL. Free with free(). */
char *swm_file_read(const char *path, size_t limit, size_t *size, swm_error *error);

bool swm_file_exists(const char *path);
bool swm_directory_exists(const char *path);
/* Do both paths lead to one file, be it there or still to be written? Directories that are not there are no file. */
bool swm_same_file(const char *path, const char *other);
/* mkdir -p */
int swm_make_directories(const char *path, swm_error *error);
/* "directory/name" in fresh memory. */
char *swm_path_join(swm_error *error, const char *directory, const char *name);

/* An output file under a temporary name beside its final one. Writers that need a path (libav) use `temporary`; others
 * write through `stream`. Nothing stands under the final name until swm_output_commit has renamed it into place. */
typedef struct swm_output {
    char *path, *temporary;
    void *stream; /* FILE *, NULL when the writer opens `temporary` itself */
} swm_output;

/* Both directions check at once that the place can be written, so that a long run does not fail at its end. */
int swm_output_open(swm_output *output, const char *path, swm_error *error);
int swm_output_write(swm_output *output, const void *data, size_t size, swm_error *error);
int swm_output_commit(swm_output *output, swm_error *error); /* flush, sync, rename; on failure nothing is left */
void swm_output_abandon(swm_output *output);                 /* remove the temporary file; safe after commit */

/* Write a whole small file through the three calls above. */
int swm_file_write(const char *path, const void *data, size_t size, swm_error *error);

#endif
