/* Implements core/file.h over POSIX. */
#include "core/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Open a regular file for reading and learn its size. Opening without blocking keeps a FIFO from hanging us. */
static int open_regular(const char *path, size_t *size, swm_error *error)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) return swm_fail(error, "%s: cannot be opened: %s", path, strerror(errno));
    struct stat status;
    if (fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
        close(descriptor);
        return swm_fail(error, "%s: is no regular file", path);
    }
    *size = (size_t)status.st_size;
    return descriptor;
}

int swm_file_map(swm_mapping *mapping, const char *path, swm_error *error)
{
    *mapping = (swm_mapping){0};
    size_t size = 0;
    int descriptor = open_regular(path, &size, error);
    if (descriptor < 0) return -1;
    void *data = size == 0 ? (void *)"" : mmap(NULL, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    int failure = errno;
    close(descriptor);
    if (data == MAP_FAILED) return swm_fail(error, "%s: cannot be mapped: %s", path, strerror(failure));
    *mapping = (swm_mapping){.data = data, .size = size};
    return 0;
}

void swm_file_unmap(swm_mapping *mapping)
{
    if (mapping->size > 0) munmap((void *)(uintptr_t)mapping->data, mapping->size);
    *mapping = (swm_mapping){0};
}

void swm_copy_mapped(void *restrict to, const void *restrict from, size_t bytes, int threads)
{
    const size_t least = 1 << 20, page = 4096; /* a thread is not worth its while for less */
    size_t part = (bytes / (size_t)(threads > 0 ? threads : 1) + page) / page * page;
    if (part < least) part = least;
    int64_t parts = (int64_t)((bytes + part - 1) / part);
#pragma omp parallel for num_threads(parts) schedule(static) if (parts > 1)
    for (int64_t i = 0; i < parts; i++) {
        size_t first = (size_t)i * part, size = bytes - first < part ? bytes - first : part;
        const char *source = (const char *)from + first;
#ifdef MADV_POPULATE_READ
        /* One call in place of a fault every few pages. Its failure means no more than faults. */
        uintptr_t start = (uintptr_t)source / page * page;
        madvise((void *)start, (uintptr_t)source + size - start, MADV_POPULATE_READ);
#endif
        memcpy((char *)to + first, source, size);
    }
}

char *swm_file_read(const char *path, size_t limit, size_t *size, swm_error *error)
{
    size_t length = 0;
    int descriptor = open_regular(path, &length, error);
    if (descriptor < 0) return NULL;
    char *data = NULL;
    if (length > limit)
        swm_fail(error, "%s: has %zu bytes, more than the %zu that such a file may have", path, length, limit);
    else
        data = swm_allocate(error, length + 1, 1);
    size_t done = 0;
    while (data != NULL && done < length) {
        ssize_t got = read(descriptor, data + done, length - done);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) {
            swm_fail(error, "%s: cannot be read: %s", path, got < 0 ? strerror(errno) : "it became shorter");
            free(data);
            data = NULL;
            break;
        }
        done += (size_t)got;
    }
    close(descriptor);
    if (size != NULL) *size = length;
    return data;
}

bool swm_file_exists(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISREG(status.st_mode);
}

bool swm_directory_exists(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

/* The directory that a path's last part is in: its length, 0 for the current one. */
static size_t directory_length(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? 0 : (size_t)(slash - path) + 1;
}

static bool same_directory(const char *path, const char *other)
{
    struct stat a, b;
    char *here = swm_format(NULL, "%.*s.", (int)directory_length(path), path);
    char *there = swm_format(NULL, "%.*s.", (int)directory_length(other), other);
    bool same = here != NULL && there != NULL && stat(here, &a) == 0 && stat(there, &b) == 0 && a.st_dev == b.st_dev &&
                a.st_ino == b.st_ino;
    free(here);
    free(there);
    return same;
}

bool swm_same_file(const char *path, const char *other)
{
    struct stat a, b;
    if (stat(path, &a) == 0 && stat(other, &b) == 0) return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
    return strcmp(path + directory_length(path), other + directory_length(other)) == 0 && same_directory(path, other);
}

int swm_make_directories(const char *path, swm_error *error)
{
    char *partial = swm_copy_string(error, path);
    if (partial == NULL) return -1;
    int result = 0;
    for (char *slash = partial + 1; result == 0; slash++) {
        if (*slash != '/' && *slash != '\0') continue;
        char kept = *slash;
        *slash = '\0';
        if (mkdir(partial, 0777) != 0 && !swm_directory_exists(partial))
            result = swm_fail(error, "%s: cannot be made a directory: %s", partial, strerror(errno));
        *slash = kept;
        if (kept == '\0') break;
    }
    free(partial);
    return result;
}

char *swm_path_join(swm_error *error, const char *directory, const char *name)
{
    size_t length = strlen(directory);
    const char *separator = length > 0 && directory[length - 1] == '/' ? "" : "/";
    return swm_format(error, "%s%s%s", directory, separator, name);
}

int swm_output_open(swm_output *output, const char *path, swm_error *error)
{
    *output = (swm_output){0};
    if (swm_directory_exists(path)) return swm_fail(error, "%s: is a directory; name a file in it", path);
    /* Renaming onto a device or a pipe would put a file in its place. */
    struct stat status;
    if (stat(path, &status) == 0 && !S_ISREG(status.st_mode))
        return swm_fail(error, "%s: is no regular file; choose another place for the output", path);
    output->path = swm_copy_string(error, path);
    /* The pid keeps two runs apart; the final suffix is kept because libav reads formats off it. */
    const char *suffix = strrchr(path, '.');
    if (suffix == NULL || strchr(suffix, '/') != NULL) suffix = "";
    output->temporary = swm_format(error, "%s.partial-%ld%s", path, (long)getpid(), suffix);
    if (output->path == NULL || output->temporary == NULL) {
        swm_output_abandon(output);
        return -1;
    }
    output->stream = fopen(output->temporary, "wbe");
    if (output->stream == NULL) {
        swm_fail(error, "%s: cannot be written: %s; choose another place for the output", path, strerror(errno));
        free(output->temporary);
        output->temporary = NULL;
        swm_output_abandon(output);
        return -1;
    }
    return 0;
}

int swm_output_write(swm_output *output, const void *data, size_t size, swm_error *error)
{
    if (fwrite(data, 1, size, output->stream) != size)
        return swm_fail(error, "%s: cannot be written: %s; free some space or choose another place", output->path,
                        strerror(errno));
    return 0;
}

int swm_output_commit(swm_output *output, swm_error *error)
{
    int failure = 0;
    if (output->stream != NULL) {
        if (fflush(output->stream) != 0 || fsync(fileno(output->stream)) != 0) failure = errno;
        if (fclose(output->stream) != 0 && failure == 0) failure = errno;
        output->stream = NULL;
    }
    if (failure == 0 && rename(output->temporary, output->path) != 0) failure = errno;
    if (failure != 0)
        swm_fail(error, "%s: cannot be written: %s; free some space or choose another place", output->path,
                 strerror(failure));
    else {
        free(output->temporary);
        output->temporary = NULL;
    }
    swm_output_abandon(output);
    return failure == 0 ? 0 : -1;
}

void swm_output_abandon(swm_output *output)
{
    if (output->stream != NULL) fclose(output->stream);
    if (output->temporary != NULL) unlink(output->temporary);
    free(output->temporary);
    free(output->path);
    *output = (swm_output){0};
}

int swm_file_write(const char *path, const void *data, size_t size, swm_error *error)
{
    swm_output output;
    if (swm_output_open(&output, path, error) != 0) return -1;
    if (swm_output_write(&output, data, size, error) != 0) {
        swm_output_abandon(&output);
        return -1;
    }
    return swm_output_commit(&output, error);
}
