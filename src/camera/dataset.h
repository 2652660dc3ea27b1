/* A clip laid out for other tools, with the poses that were commanded: pictures and a COLMAP model, pictures and
 * transforms.json, or a video and a TUM trajectory. Owns the layout; the formats are formats.h's. */
#ifndef SWM_DATASET_H
#define SWM_DATASET_H

#include "camera/formats.h"
#include "io/video.h"

typedef enum swm_dataset_kind {
    SWM_DATASET_COLMAP,     /* images/000000.png ..., sparse/0/{cameras,images,points3D}.bin, without points */
    SWM_DATASET_TRANSFORMS, /* images/000000.png ..., transforms.json for nerfstudio */
    SWM_DATASET_TUM,        /* video.mp4 (video.mkv for FFV1), trajectory.txt */
} swm_dataset_kind;

/* "colmap", "transforms" or "tum". */
int swm_dataset_kind_from_name(const char *name, swm_dataset_kind *kind, swm_error *error);

typedef struct swm_dataset_options {
    swm_dataset_kind kind;
    double fps;
    swm_video_codec codec; /* of the TUM video: not SWM_PNG_SEQUENCE */
    int quality, threads;  /* as in swm_video_options */
} swm_dataset_options;

typedef struct swm_dataset swm_dataset;

/* `directory` must be new or empty; it is made at once, so that a long run does not fail at its end. NULL on
 * failure. */
swm_dataset *swm_dataset_open(const char *directory, const swm_dataset_options *options, swm_error *error);
/* The next frames, rgb[count][height][width][3], of the size of the first. Returns -1 and remembers why. With a dataset
 * as `user` it serves as swm_events.frames. */
int swm_dataset_frames(void *dataset, int64_t first, int64_t count, const uint8_t *rgb, int width, int height);
/* What swm_dataset_frames failed of; "" when it did not. */
const swm_error *swm_dataset_error(const swm_dataset *dataset);
/* Write poses and intrinsics, one a frame in pixels of the frames, and finish. camera.json lies beside them: `sidecar`
 * if given, else the path itself. Frees the dataset in any case; on failure nothing is left behind. */
int swm_dataset_finish(swm_dataset *dataset, const swm_camera_path *path, const char *sidecar, swm_error *error);
/* Leaves nothing behind and frees; safe on NULL. */
void swm_dataset_abort(swm_dataset *dataset);

#endif
