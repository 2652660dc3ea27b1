/* What a camera path does, in numbers, and whether that is outside what the model has seen. Owns measures and limits; the
 * sanity of single poses is camera.h's.
 *
 * The limits by default are the motion that the model's own published control programs command: up to 0.055 units and
 * 1.2 degrees a frame at 16 frames a second, a tilt of 60 degrees, clips of 961 frames. The ranges of the training data
 * are not published. Whoever has the benchmark's paths can take the limits from them with swm_camera_limits_cover. */
#ifndef SWM_CHECK_H
#define SWM_CHECK_H

#include "camera/camera.h"

typedef struct swm_camera_measures {
    int64_t frames;
    double length;            /* units along the path */
    double turned;            /* degrees, all turns added up */
    double extent[3];         /* units: of the smallest box along x, y, z that holds the path */
    double step, turn;        /* largest from one frame to the next: units, degrees */
    int64_t step_at, turn_at; /* the frames that they lead to; 0 where nothing moves */
    double reach;             /* units: largest distance from the first frame */
    int64_t reach_at;
    double tilt; /* degrees: largest angle to the first frame's horizontal, up or down */
    int64_t tilt_at;
} swm_camera_measures;

typedef struct swm_camera_limits {
    double step, turn, reach, tilt; /* as in swm_camera_measures */
    int64_t frames;
} swm_camera_limits;

/* Of poses that have passed swm_poses_check. */
swm_camera_measures swm_camera_measure(const swm_poses *poses);
/* Units and degrees from frame i to the next, 0 <= i < count - 1. Turns come from the distance of the two rotations: their
 * trace would lose small angles to the rounding of the poses. */
double swm_camera_step(const swm_poses *poses, int64_t i);
double swm_camera_turn(const swm_poses *poses, int64_t i);

swm_camera_limits swm_camera_limits_default(void);
/* Widen limits so that they admit this path; begin with {0} to learn limits from a set of paths. */
void swm_camera_limits_cover(swm_camera_limits *limits, const swm_camera_measures *measures);

enum { SWM_CAMERA_WARNINGS = 5 };

typedef struct swm_camera_warning {
    char text[240]; /* one line: what, where, what is usual, what to do */
} swm_camera_warning;

/* One warning for each limit that the path exceeds by more than a thousandth; returns how many. */
int swm_camera_check(const swm_camera_measures *measures, const swm_camera_limits *limits,
                     swm_camera_warning warnings[SWM_CAMERA_WARNINGS]);

#endif
