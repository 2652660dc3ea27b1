/* The same path at another pace: nowhere faster than it was, and slower where limits of speed and acceleration ask for
 * it. Owns the pace only; where the path leads is not changed. */
#ifndef SWM_RETIME_H
#define SWM_RETIME_H

#include "camera/camera.h"

/* 0 stands for no limit. Acceleration is that along the path: how fast the speed changes. At a
 * corner of more than 30 degrees between two poses, a path with limits of acceleration stops; bends it takes as they are. */
typedef struct swm_pace {
    double speed;             /* units a second */
    double acceleration;      /* units a second, a second; a path with this limit begins and ends at rest */
    double turn;              /* degrees a second */
    double turn_acceleration; /* degrees a second, a second; likewise */
} swm_pace;

static inline bool swm_pace_limits(const swm_pace *pace)
{
    return pace->speed > 0 || pace->acceleration > 0 || pace->turn > 0 || pace->turn_acceleration > 0;
}

/* Refuses negative numbers, NaN and infinity. */
int swm_pace_check(const swm_pace *pace, swm_error *error);

/* `poses` are (count,4,4), count >= 1, `rate` to the second; out gets frames at `fps` to the second, the first and the
 * last pose among them, and at most `most` frames or a failure. Between poses the camera moves straight and turns about
 * one axis, so a path with corners should come with a high rate. Both rates are positive. */
int swm_retime(swm_poses *out, const double *poses, int64_t count, double rate, double fps, const swm_pace *pace,
               int64_t most, swm_error *error);

#endif
