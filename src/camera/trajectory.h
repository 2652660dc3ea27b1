/* Camera paths and intrinsics from files. Owns the choice of format and what its arrays mean; the file formats
 * themselves are io/npy.h's, the numbers' sanity is camera.h's. */
#ifndef SWM_TRAJECTORY_H
#define SWM_TRAJECTORY_H

#include "camera/camera.h"

typedef struct swm_trajectory {
    swm_poses poses;
    swm_intrinsics intrinsics; /* one entry a pose; count 0 where the file has none */
} swm_trajectory;

/* A camera path of camera-to-world matrices, (F,4,4): a .npy file, or a .npz archive with an array "c2w" or "poses" and
 * optionally "intrinsics" in any shape of swm_intrinsics_from_array. Passes swm_poses_check or fails with one line that
 * names the file. Intrinsics are in pixels of the source image, whose size is not known here: check them with
 * swm_intrinsics_check. On failure `trajectory` is empty. */
int swm_trajectory_load(swm_trajectory *trajectory, const char *path, swm_error *error);
/* The same from memory; the ending of `name` tells the format. */
int swm_trajectory_parse(swm_trajectory *trajectory, const char *name, const void *data, size_t size, swm_error *error);
void swm_trajectory_free(swm_trajectory *trajectory);

/* Intrinsics from a .npy file (or the "intrinsics" of a .npz archive), fitted to `frames` frames. */
int swm_intrinsics_load(swm_intrinsics *intrinsics, const char *path, int64_t frames, swm_error *error);

#endif
