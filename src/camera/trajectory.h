/* Camera paths and intrinsics from files, as the model takes them: in single precision, one entry of intrinsics a pose.
 * The formats, their conventions and the guessing are formats.h's, the numbers' sanity is camera.h's. */
#ifndef SWM_TRAJECTORY_H
#define SWM_TRAJECTORY_H

#include "camera/camera.h"

typedef struct swm_trajectory {
    swm_poses poses;
    swm_intrinsics intrinsics; /* one entry a pose; count 0 where the file has none */
    int width, height;         /* of the pictures that the intrinsics are for; 0: the file does not say */
} swm_trajectory;

/* A camera path in any format of formats.h, each in its own convention; what could mean two things is refused. Passes
 * swm_poses_check or fails with one line that names the file. Intrinsics are in pixels of the pictures that the path
 * was made for: check them with swm_intrinsics_check. On failure `trajectory` is empty. */
int swm_trajectory_load(swm_trajectory *trajectory, const char *path, swm_error *error);
/* The same from one file in memory. */
int swm_trajectory_parse(swm_trajectory *trajectory, const char *name, const void *data, size_t size, swm_error *error);
void swm_trajectory_free(swm_trajectory *trajectory);

/* Intrinsics from a .npy file (or the "intrinsics" of a .npz archive), fitted to `frames` frames. */
int swm_intrinsics_load(swm_intrinsics *intrinsics, const char *path, int64_t frames, swm_error *error);

#endif
