/* Readers of camera paths. A new format is one more reader in FORMATS. See trajectory.h. */
#include "camera/trajectory.h"

#include "core/file.h"
#include "io/npy.h"

#include <stdlib.h>
#include <string.h>

/* Put the name of the file before a message that was made without knowing it. */
static int name_file(swm_error *error, const char *name, const swm_error *cause)
{
    return swm_fail(error, "%.300s: %s", name, cause->text);
}

static int take_poses(swm_trajectory *trajectory, const char *name, const swm_array *array, swm_error *error)
{
    swm_error cause = {0};
    if (swm_poses_from_array(&trajectory->poses, array->rank, array->shape, array->values, &cause) < 0 ||
        swm_poses_check(&trajectory->poses, &cause) < 0)
        return name_file(error, name, &cause);
    return 0;
}

static int take_intrinsics(swm_intrinsics *intrinsics, int64_t frames, const char *name, const swm_array *array,
                           swm_error *error)
{
    swm_error cause = {0};
    if (swm_intrinsics_from_array(intrinsics, frames, array->rank, array->shape, array->values, &cause) < 0)
        return name_file(error, name, &cause);
    return 0;
}

static int read_npy(swm_trajectory *trajectory, const char *name, const void *data, size_t size, swm_error *error)
{
    swm_array array;
    if (swm_npy_parse(name, data, size, &array, error) < 0) return -1;
    const int status = take_poses(trajectory, name, &array, error);
    swm_array_free(&array);
    return status;
}

static bool has_array(const swm_npz *npz, const char *name)
{
    for (int i = 0; i < npz->count; i++)
        if (strcmp(npz->entries[i].name, name) == 0) return true;
    return false;
}

static int read_archive(swm_trajectory *trajectory, const char *name, const swm_npz *npz, swm_error *error)
{
    const char *key = has_array(npz, "c2w") ? "c2w" : "poses";
    if (!has_array(npz, key))
        return swm_fail(
            error,
            "%.300s: the archive holds neither \"c2w\" nor \"poses\"; store the (frames,4,4) matrices as one of them",
            name);
    swm_array array;
    if (swm_npz_read(npz, key, &array, error) < 0) return -1;
    int status = take_poses(trajectory, name, &array, error);
    swm_array_free(&array);
    if (status < 0 || !has_array(npz, "intrinsics")) return status;
    if (swm_npz_read(npz, "intrinsics", &array, error) < 0) return -1;
    status = take_intrinsics(&trajectory->intrinsics, trajectory->poses.count, name, &array, error);
    swm_array_free(&array);
    return status;
}

static int read_npz(swm_trajectory *trajectory, const char *name, const void *data, size_t size, swm_error *error)
{
    swm_npz npz;
    if (swm_npz_parse(&npz, name, data, size, error) < 0) return -1;
    const int status = read_archive(trajectory, name, &npz, error);
    swm_npz_close(&npz);
    return status;
}

typedef struct format {
    const char *ending;
    int (*read)(swm_trajectory *trajectory, const char *name, const void *data, size_t size, swm_error *error);
} format;

static const format FORMATS[] = {{".npy", read_npy}, {".npz", read_npz}};

static bool has_ending(const char *name, const char *ending)
{
    const size_t n = strlen(name), m = strlen(ending);
    return n >= m && strcmp(name + n - m, ending) == 0;
}

int swm_trajectory_parse(swm_trajectory *trajectory, const char *name, const void *data, size_t size, swm_error *error)
{
    *trajectory = (swm_trajectory){0};
    for (size_t i = 0; i < sizeof FORMATS / sizeof FORMATS[0]; i++) {
        if (!has_ending(name, FORMATS[i].ending)) continue;
        if (FORMATS[i].read(trajectory, name, data, size, error) == 0) return 0;
        swm_trajectory_free(trajectory);
        return -1;
    }
    return swm_fail(error, "%.300s: unknown kind of camera path; expected a .npy or .npz file", name);
}

int swm_trajectory_load(swm_trajectory *trajectory, const char *path, swm_error *error)
{
    *trajectory = (swm_trajectory){0};
    swm_mapping mapping;
    if (swm_file_map(&mapping, path, error) < 0) return -1;
    const int status = swm_trajectory_parse(trajectory, path, mapping.data, mapping.size, error);
    swm_file_unmap(&mapping);
    return status;
}

void swm_trajectory_free(swm_trajectory *trajectory)
{
    swm_poses_free(&trajectory->poses);
    swm_intrinsics_free(&trajectory->intrinsics);
}

static int load_intrinsics_array(swm_array *array, const char *path, swm_error *error)
{
    if (!has_ending(path, ".npz")) return swm_npy_read(path, array, error);
    swm_npz npz;
    if (swm_npz_open(&npz, path, error) < 0) return -1;
    const int status = swm_npz_read(&npz, "intrinsics", array, error);
    swm_npz_close(&npz);
    return status;
}

int swm_intrinsics_load(swm_intrinsics *intrinsics, const char *path, int64_t frames, swm_error *error)
{
    *intrinsics = (swm_intrinsics){0};
    swm_array array;
    if (load_intrinsics_array(&array, path, error) < 0) return -1;
    const int status = take_intrinsics(intrinsics, frames, path, &array, error);
    swm_array_free(&array);
    return status;
}
