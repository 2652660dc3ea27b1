/* Camera moves by name: orbit, dolly, crane and their like, each a formula with a few parameters, and the trembling of a
 * hand. Owns what the names mean; limits of speed and chains of moves are keyframe.h's.
 *
 * Every move starts at the identity pose: at the origin, looking along +z, x to the right and y down. "The subject" is
 * the point `radius` units straight ahead of that first pose. Distances are in the units of the path, angles in degrees;
 * right, up and ahead are positive. */
#ifndef SWM_PRESET_H
#define SWM_PRESET_H

#include "camera/camera.h"

typedef enum swm_preset_parameter {
    SWM_PRESET_DISTANCE,
    SWM_PRESET_RADIUS,
    SWM_PRESET_END_RADIUS,
    SWM_PRESET_ANGLE,
    SWM_PRESET_TILT,
    SWM_PRESET_HEIGHT,
    SWM_PRESET_TURNS,
    SWM_PRESET_PARAMETER_COUNT
} swm_preset_parameter;

typedef struct swm_preset_parameter_info {
    const char *name, *unit; /* "end-radius", "units" */
    double minimum, maximum;
} swm_preset_parameter_info;

/* What a camera in a hand does besides what it is meant to do: six slow noises, three of position, three of rotation.
 * Each is a sum of sine waves around `frequency` that depends on the seed alone, so it is the same everywhere. It grows
 * from nothing over the first half second. */
typedef struct swm_handheld {
    double shake;     /* units, root mean square along each axis; 0 .. 100 */
    double sway;      /* degrees, root mean square about each axis; 0 .. 45 */
    double frequency; /* waves a second, 0.01 .. 100 */
    uint64_t seed;
} swm_handheld;

/* What the noise multiplies a camera's pose with, from the right, after so many seconds. */
void swm_handheld_pose(const swm_handheld *handheld, double seconds, double pose[16]);

typedef struct swm_preset {
    const char *name;
    const char *meaning;                       /* a sentence for help texts */
    unsigned takes;                            /* parameters the move has: bits 1 << swm_preset_parameter */
    double values[SWM_PRESET_PARAMETER_COUNT]; /* defaults; 0 for those it has not */
    swm_handheld handheld;                     /* defaults */
    void (*pose)(const double *values, double progress, double pose[16]); /* progress 0 .. 1 */
    bool returns; /* the second half of the clip visits the poses of the first in reverse */
} swm_preset;

/* The move of that name; an unknown one gives NULL and lists the names. */
const swm_preset *swm_preset_find(const char *name, swm_error *error);
const swm_preset *swm_preset_at(int index);                              /* NULL behind the last */
const swm_preset_parameter_info *swm_preset_parameter_at(int parameter); /* NULL behind the last */

typedef struct swm_preset_options {
    const swm_preset *preset;
    double values[SWM_PRESET_PARAMETER_COUNT]; /* 0 for parameters that the move does not have */
    swm_handheld handheld;                     /* no shake and no sway: none */
    double ease;    /* part of the clip spent speeding up at its begin, and as much slowing down at its end; 0 .. 0.5 */
    double fps;     /* frames a second, 1 .. 1000; only the noise depends on it */
    int64_t frames; /* 2 .. 1000001; 0: as few as keep to 0.025 units and 0.6 degrees a frame, at most 961 */
} swm_preset_options;

/* The move's own values, ease 0.1, 16 frames a second, frames 0. */
swm_preset_options swm_preset_defaults(const swm_preset *preset);
/* Refuses what is out of range or not a parameter of this move. */
int swm_preset_check(const swm_preset_options *options, swm_error *error);
/* The pose when `time` 0 .. 1 of the clip has passed, without noise. The options have passed swm_preset_check. */
void swm_preset_pose(const swm_preset_options *options, double time, double pose[16]);
/* The whole clip. `out` is overwritten; free it with swm_poses_free. */
int swm_preset_make(const swm_preset_options *options, swm_poses *out, swm_error *error);

/* Distance covered, 0 .. 1, when `time` 0 .. 1 has passed: the speed rises smoothly over the first `ease` 0 .. 0.5 of the
 * time, stays, and falls over the last. */
double swm_ease(double time, double ease);

/* A pose from a position and angles in degrees: turned right by yaw about the world's vertical, then up by pitch about the
 * camera's x axis, then clockwise by roll about its z axis. */
void swm_pose_from_angles(double pose[16], const double position[3], double yaw, double pitch, double roll);
/* A pose at `position` that faces `target` with a level horizon. Straight up or down it keeps yaw 0; facing itself, it
 * looks ahead. */
void swm_pose_look_at(double pose[16], const double position[3], const double target[3]);

#endif
