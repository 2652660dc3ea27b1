/* Cameras as the model sees them: poses and intrinsics, their sanity, and the tensors made from them (ray map, Plucker
 * chunks, ray matrices). Owns the arithmetic only; files are trajectory.h's, motion is action.h's.
 *
 * A pose is a camera-to-world matrix, 4x4 row-major, acting on column vectors, in OpenCV axes: x right, y down,
 * z forward. Intrinsics are fx, fy, cx, cy in units of some image's pixels; which image, the context says. Pixel (and
 * latent cell) coordinates are integer indices without a half-pixel offset, as in the model's training. */
#ifndef SWM_CAMERA_H
#define SWM_CAMERA_H

#include "io/image.h"

enum {
    SWM_FRAMES_PER_LATENT = 8,                       /* latent frame j ends at pixel frame 8 j */
    SWM_RAYMAP_CHANNELS = 20,                        /* pose (16), fx, fy, cx, cy */
    SWM_PLUCKER_CHANNELS = 6 * SWM_FRAMES_PER_LATENT /* direction (3) and moment (3) of each of 8 pixel frames */
};

typedef struct swm_poses {
    int64_t count;
    float *c2w; /* (count,4,4), owned */
} swm_poses;

typedef struct swm_intrinsics {
    int64_t count;
    float *values; /* (count,4): fx, fy, cx, cy; owned */
} swm_intrinsics;

/* Zeroed memory for `count` >= 1 entries; overwrites the struct. */
int swm_poses_create(swm_poses *poses, int64_t count, swm_error *error);
void swm_poses_free(swm_poses *poses);
int swm_intrinsics_create(swm_intrinsics *intrinsics, int64_t count, swm_error *error);
void swm_intrinsics_free(swm_intrinsics *intrinsics);

/* From an array of any file format with shape (F,4,4). Values are rounded to float; nothing else is checked. */
int swm_poses_from_array(swm_poses *poses, int rank, const int64_t *shape, const double *values, swm_error *error);
/* Refuses what would silently give a wrong video: values that are not finite or beyond 1e6 units, a bottom row that is
 * not 0 0 0 1, a rotation that is mirrored or off orthonormal by more than 1e-3. Names the frame. Whether a path is
 * world-to-camera by mistake cannot be seen from the numbers. */
int swm_poses_check(const swm_poses *poses, swm_error *error);

/* From an array with shape (4), (3,3), (N,4) or (N,3,3), fitted to `frames` frames: one entry serves every frame,
 * surplus entries are dropped, too few are stretched linearly over the clip. (4,4) means four rows of fx fy cx cy. */
int swm_intrinsics_from_array(swm_intrinsics *intrinsics, int64_t frames, int rank, const int64_t *shape,
                              const double *values, swm_error *error);
/* The same centred pinhole camera in every frame; `focal` in pixels of the width x height image (as EXIF gives it, or
 * from swm_focal_from_fov). */
int swm_intrinsics_centred(swm_intrinsics *intrinsics, int64_t frames, double focal, int width, int height,
                           swm_error *error);
/* Focal length in pixels of a horizontal field of view in degrees (0 .. 180, exclusive) across `width` pixels. */
double swm_focal_from_fov(double degrees, int width);
/* Refuses values that are not finite, a field of view outside 5 .. 170 degrees and a principal point further outside
 * the width x height image than half its size: nearly always intrinsics of another image or another unit. */
int swm_intrinsics_check(const swm_intrinsics *intrinsics, int width, int height, swm_error *error);

/* From pixels of the source image to pixels of the picture that was resized and cropped from it, in place. */
void swm_intrinsics_apply_fit(swm_intrinsics *intrinsics, const swm_fit *fit);
/* From pixels to latent cells, in place: the model's image is width x height pixels and w x h cells. */
void swm_intrinsics_to_latent(swm_intrinsics *intrinsics, int width, int height, int64_t w, int64_t h);

/* Rigid motions in double precision, 4x4 row-major. `out` may be one of the operands. The inverse transposes the
 * rotation, so it is exact for orthonormal rotations only. */
void swm_se3_inverse(double out[16], const double pose[16]);
void swm_se3_multiply(double out[16], const double a[16], const double b[16]);
void swm_se3_from_floats(double out[16], const float pose[16]);
/* Of the rotation part: the largest deviation of R R^T from the identity, and the determinant (-1: mirrored). */
double swm_se3_deviation(const double pose[16]);
double swm_se3_determinant(const double pose[16]);
/* Refuses values that are not finite and a bottom row that is not 0 0 0 1; names the frame. */
int swm_se3_check_form(const double pose[16], int64_t frame, swm_error *error);

/* Poses as seen from pose 0, which becomes exactly the identity; scale is kept. In place. */
void swm_poses_relativise(swm_poses *poses);

/* Latent frames of `frames` pixel frames: frame 0 alone, then one for every full 8. */
static inline int64_t swm_latent_frames(int64_t frames) { return frames < 1 ? 0 : (frames - 1) / 8 + 1; }
/* The clip length for a request, given that so many poses (or frames of other material) are available: the nearest
 * multiple of `stride` plus one, ties upwards, never more than available. Stride 8 fills whole latent frames. */
int64_t swm_snap_frames(int64_t requested, int64_t available, int64_t stride);

/* The two conditions of the denoiser, for latent frames first .. first+count-1 of a clip. `poses` are relative,
 * `latent` in latent cells, one entry a pose. Live sessions call this for the frames that have become known.
 * Ray map: (count,20), the pose and intrinsics of pixel frame 8 j.
 * Plucker chunks: (48,count,h,w); latent frame j holds pixel frames max(0, 8j-7) and the seven after it (the last one
 * repeated where the clip ends), six channels each: unit direction d and moment o x d of the cell's ray. */
void swm_raymap(float *raymap, const swm_poses *poses, const swm_intrinsics *latent, int64_t first, int64_t count);
void swm_chunk_plucker(float *plucker, const swm_poses *poses, const swm_intrinsics *latent, int64_t first,
                       int64_t count, int64_t h, int64_t w);

/* Per token the matrix world -> ray frame and its inverse: P and P_inverse are (T*h*w,16) row-major 4x4, from the ray
 * map (T,20); one of them may be NULL. Exact form: double arithmetic, stored as float. With `round_to_bf16` the
 * reference's bf16 arithmetic is repeated rounding by rounding, as the weights were trained with it: its field-of-view
 * round trip alone moves a focal length by up to 2 %. Rays that are no numbers get the identity. */
void swm_ray_matrices(float *P, float *P_inverse, const float *conditions, int64_t T, int64_t h, int64_t w,
                      bool round_to_bf16);

#endif
