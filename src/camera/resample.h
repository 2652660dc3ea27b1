/* Poses between poses: rotations as quaternions, and camera paths at other frame counts and rates. Owns no formats. */
#ifndef SWM_RESAMPLE_H
#define SWM_RESAMPLE_H

#include "camera/formats.h"

/* Unit quaternions w, x, y, z, rotating column vectors as the upper left 3x3 of a pose does; w >= 0. */
void swm_quaternion_from_pose(double q[4], const double pose[16]);
/* Sets the rotation of `pose`, leaves its translation. q may have any length but zero. */
void swm_quaternion_to_pose(double pose[16], const double q[4]);
/* From a to b along the shorter arc, t in 0 .. 1. `out` may be one of the operands. */
void swm_quaternion_slerp(double out[4], const double a[4], const double b[4], double t);
/* Radians between the rotations of two poses, 0 .. pi; exact near both ends. */
double swm_pose_angle(const double a[16], const double b[16]);

enum { SWM_RESAMPLE_MAX_FRAMES = 1000000 };

typedef struct swm_resampling {
    int64_t frames; /* 0: see below */
    double fps;     /* 0: see below */
    /* Equal distances between frames. Where the camera (nearly) rests, below a hundredth of the mean speed, it keeps
     * the time it had, so turns on the spot are not lost; a path that only turns gets equal angles. */
    bool constant_speed;
    bool smooth; /* translation along a Catmull-Rom spline instead of straight lines; rotation is slerp in any case */
} swm_resampling;

/* A new path over the time of `in`. With fps alone the speed stays and the count follows; with frames alone the time
 * stays and the rate follows; with both the whole path is played in `frames` at `fps`; with neither the count stays.
 * Without times and fps, `in` counts as 16 frames a second. A path of one pose is held. Intrinsics are interpolated
 * linearly, names are dropped. Times must rise strictly. On failure *out is {0}. */
int swm_camera_path_resample(swm_camera_path *out, const swm_camera_path *in, const swm_resampling *options,
                             swm_error *error);

#endif
