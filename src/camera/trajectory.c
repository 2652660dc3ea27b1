/* From paths of any format to the model's poses and intrinsics. See trajectory.h. */
#include "camera/trajectory.h"

#include "camera/formats.h"
#include "io/npy.h"

#include <stdlib.h>
#include <string.h>

/* Put the name of the file before a message that was made without knowing it. */
static int name_file(swm_error *error, const char *name, const swm_error *cause)
{
    return swm_fail(error, "%.300s: %s", name, cause->text);
}

static int take_intrinsics(swm_intrinsics *intrinsics, int64_t frames, const char *name, const swm_array *array,
                           swm_error *error)
{
    swm_error cause = {0};
    if (swm_intrinsics_from_array(intrinsics, frames, array->rank, array->shape, array->values, &cause) < 0)
        return name_file(error, name, &cause);
    return 0;
}

/* Round to what the model works in, and check that nothing was lost. */
static int take_path(swm_trajectory *trajectory, const char *name, const swm_camera_path *path, swm_error *error)
{
    swm_error cause = {0};
    const int64_t poses_shape[3] = {path->count, 4, 4}, intrinsics_shape[2] = {path->count, 4};
    int status = swm_poses_from_array(&trajectory->poses, 3, poses_shape, path->c2w, &cause);
    if (status == 0) status = swm_poses_check(&trajectory->poses, &cause);
    if (status == 0 && path->intrinsics != NULL && path->fractions)
        status = swm_fail(&cause, "the intrinsics are fractions of a picture of unknown size; convert the path with "
                                  "sanawm camera convert --size WIDTHxHEIGHT, or --poses-only");
    else if (status == 0 && path->intrinsics != NULL)
        status = swm_intrinsics_from_array(&trajectory->intrinsics, path->count, 2, intrinsics_shape, path->intrinsics,
                                           &cause);
    trajectory->width = path->width;
    trajectory->height = path->height;
    if (status == 0) return 0;
    swm_trajectory_free(trajectory);
    return name_file(error, name, &cause);
}

int swm_trajectory_parse(swm_trajectory *trajectory, const char *name, const void *data, size_t size, swm_error *error)
{
    const swm_path_source source = {name, data, size};
    swm_camera_path path;
    *trajectory = (swm_trajectory){0};
    if (swm_camera_path_parse(&path, &source, 1, NULL, error) < 0) return -1;
    const int status = take_path(trajectory, name, &path, error);
    swm_camera_path_free(&path);
    return status;
}

int swm_trajectory_load(swm_trajectory *trajectory, const char *path, swm_error *error)
{
    swm_camera_path found;
    *trajectory = (swm_trajectory){0};
    if (swm_camera_path_load(&found, path, NULL, error) < 0) return -1;
    const int status = take_path(trajectory, path, &found, error);
    swm_camera_path_free(&found);
    return status;
}

void swm_trajectory_free(swm_trajectory *trajectory)
{
    swm_poses_free(&trajectory->poses);
    swm_intrinsics_free(&trajectory->intrinsics);
    *trajectory = (swm_trajectory){0};
}

static bool has_ending(const char *name, const char *ending)
{
    const size_t n = strlen(name), m = strlen(ending);
    return n >= m && strcmp(name + n - m, ending) == 0;
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
