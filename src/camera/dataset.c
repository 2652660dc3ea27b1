/* Implements dataset.h. */
#include "camera/dataset.h"

#include "core/file.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct swm_dataset {
    char *directory;
    bool made; /* the directory is ours to remove */
    swm_dataset_options options;
    swm_video *video; /* NULL before the first frame */
    int width, height;
    int64_t frames;
    swm_error error;
};

static const char *const KIND_NAMES[] = {"colmap", "transforms", "tum"};

int swm_dataset_kind_from_name(const char *name, swm_dataset_kind *kind, swm_error *error)
{
    for (int i = 0; i < 3; i++)
        if (strcmp(name, KIND_NAMES[i]) == 0) {
            *kind = (swm_dataset_kind)i;
            return 0;
        }
    return swm_fail(error, "no dataset layout is called \"%.64s\"; expected colmap, transforms or tum", name);
}

static bool is_empty(const char *directory)
{
    DIR *stream = opendir(directory);
    int entries = 0;
    if (stream == NULL) return false;
    while (entries <= 2 && readdir(stream) != NULL) entries++;
    closedir(stream);
    return entries <= 2; /* "." and ".." */
}

static void free_dataset(swm_dataset *dataset)
{
    free(dataset->directory);
    free(dataset);
}

swm_dataset *swm_dataset_open(const char *directory, const swm_dataset_options *options, swm_error *error)
{
    if (options->kind == SWM_DATASET_TUM && options->codec == SWM_PNG_SEQUENCE) {
        swm_fail(error, "the tum layout has a video; choose the codec h264, hevc, av1 or ffv1");
        return NULL;
    }
    const bool there = swm_directory_exists(directory);
    if (there && !is_empty(directory)) {
        swm_fail(error, "%.300s: is not empty; a dataset needs a directory of its own", directory);
        return NULL;
    }
    if (swm_make_directories(directory, error) < 0) return NULL;
    swm_dataset *dataset = swm_allocate(error, 1, sizeof *dataset);
    if (dataset != NULL) {
        dataset->directory = swm_copy_string(error, directory);
        dataset->made = !there;
        dataset->options = *options;
    }
    if (dataset != NULL && dataset->directory == NULL) {
        free_dataset(dataset);
        dataset = NULL;
    }
    if (dataset == NULL && !there) rmdir(directory);
    return dataset;
}

static const char *video_name(const swm_dataset *dataset)
{
    if (dataset->options.kind != SWM_DATASET_TUM) return "images";
    return dataset->options.codec == SWM_FFV1 ? "video.mkv" : "video.mp4";
}

static int open_video(swm_dataset *dataset, int width, int height, swm_error *error)
{
    const swm_dataset_options *o = &dataset->options;
    const swm_video_options video = {
        .codec = o->kind == SWM_DATASET_TUM ? o->codec : SWM_PNG_SEQUENCE,
        .width = width,
        .height = height,
        .fps = o->fps,
        .quality = o->quality,
        .threads = o->threads,
        .comment = "sana-wm.c",
    };
    char *path = swm_path_join(error, dataset->directory, video_name(dataset));
    dataset->width = width;
    dataset->height = height;
    if (path != NULL) dataset->video = swm_video_open(path, &video, error);
    free(path);
    return dataset->video != NULL ? 0 : -1;
}

int swm_dataset_frames(void *user, int64_t first, int64_t count, const uint8_t *rgb, int width, int height)
{
    swm_dataset *dataset = user;
    swm_error *error = &dataset->error;
    if (swm_failed(error)) return -1;
    if (first != dataset->frames)
        return swm_fail(error, "frame %lld came where frame %lld was due", (long long)first,
                        (long long)dataset->frames);
    if (dataset->video == NULL && open_video(dataset, width, height, error) < 0) return -1;
    if (width != dataset->width || height != dataset->height)
        return swm_fail(error, "a frame is %dx%d after frames of %dx%d", width, height, dataset->width,
                        dataset->height);
    for (int64_t i = 0; i < count; i++, dataset->frames++)
        if (swm_video_write(dataset->video, rgb + (size_t)i * (size_t)width * (size_t)height * 3, error) < 0) return -1;
    return 0;
}

const swm_error *swm_dataset_error(const swm_dataset *dataset) { return &dataset->error; }

static int save(const swm_dataset *dataset, const char *name, const swm_camera_path *path, swm_path_format format,
                swm_error *error)
{
    const swm_path_writing writing = {.format = format};
    char *place = swm_path_join(error, dataset->directory, name);
    const int status = place != NULL ? swm_camera_path_save(path, place, &writing, error) : -1;
    free(place);
    return status;
}

static int write_files(const swm_dataset *dataset, const swm_camera_path *path, const char *sidecar, swm_error *error)
{
    int status = 0;
    switch (dataset->options.kind) {
    case SWM_DATASET_COLMAP: status = save(dataset, "sparse/0", path, SWM_PATH_COLMAP_BINARY, error); break;
    case SWM_DATASET_TRANSFORMS: status = save(dataset, "transforms.json", path, SWM_PATH_NERFSTUDIO, error); break;
    case SWM_DATASET_TUM: status = save(dataset, "trajectory.txt", path, SWM_PATH_TUM, error); break;
    }
    if (status < 0) return -1;
    if (sidecar == NULL) return save(dataset, "camera.json", path, SWM_PATH_JSON, error);
    char *place = swm_path_join(error, dataset->directory, "camera.json");
    status = place != NULL ? swm_file_write(place, sidecar, strlen(sidecar), error) : -1;
    free(place);
    return status;
}

/* The path as the frames have it: their size, numbered pictures, times from the rate. */
static int finish(swm_dataset *dataset, const swm_camera_path *path, const char *sidecar, swm_error *error)
{
    if (swm_failed(&dataset->error)) return swm_fail(error, "%s", dataset->error.text);
    if (dataset->frames != path->count || dataset->video == NULL)
        return swm_fail(error, "%lld frames were made for a path of %lld poses", (long long)dataset->frames,
                        (long long)path->count);
    if ((path->width > 0 && path->width != dataset->width) || (path->height > 0 && path->height != dataset->height))
        return swm_fail(error, "the intrinsics are for pictures of %dx%d and the frames are %dx%d", path->width,
                        path->height, dataset->width, dataset->height);
    swm_camera_path exact = *path;
    exact.names = NULL;
    exact.times = NULL;
    exact.fps = dataset->options.fps;
    exact.width = dataset->width;
    exact.height = dataset->height;
    if (write_files(dataset, &exact, sidecar, error) < 0) return -1;
    const int status = swm_video_finish(dataset->video, error);
    dataset->video = NULL;
    return status;
}

int swm_dataset_finish(swm_dataset *dataset, const swm_camera_path *path, const char *sidecar, swm_error *error)
{
    const int status = finish(dataset, path, sidecar, error);
    if (status < 0)
        swm_dataset_abort(dataset);
    else
        free_dataset(dataset);
    return status;
}

/* The video removes itself; these are all the other files that may have been written. */
void swm_dataset_abort(swm_dataset *dataset)
{
    static const char *const files[] = {"sparse/0/cameras.bin", "sparse/0/images.bin", "sparse/0/points3D.bin",
                                        "transforms.json",      "trajectory.txt",      "camera.json"};
    static const char *const directories[] = {"sparse/0", "sparse"};
    if (dataset == NULL) return;
    swm_video_abort(dataset->video);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char *path = swm_path_join(NULL, dataset->directory, files[i]);
        if (path != NULL) unlink(path);
        free(path);
    }
    for (size_t i = 0; i < sizeof directories / sizeof directories[0]; i++) {
        char *path = swm_path_join(NULL, dataset->directory, directories[i]);
        if (path != NULL) rmdir(path);
        free(path);
    }
    if (dataset->made) rmdir(dataset->directory);
    free_dataset(dataset);
}
