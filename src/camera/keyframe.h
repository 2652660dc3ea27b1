/* Camera paths written down by hand: a JSON file of poses at times with a smooth curve through them, of named moves, of
 * action strings, or a chain of all these. docs/camera-authoring.md describes the file.
 *
 * {"format": "sanawm-keyframes", "version": 1,
 *  "poses": [{"time": 0, "position": [0, 0, 0], "look_at": [0, 0, 3]},
 *            {"time": 3, "position": [1, 0, 1], "look_at": [0, 0, 3]}]}
 *
 * Positions are in units, x right, y down, z ahead, and angles in degrees; times are seconds. */
#ifndef SWM_KEYFRAME_H
#define SWM_KEYFRAME_H

#include "camera/camera.h"

enum {
    SWM_KEYFRAMES_MAX_FRAMES = 65536, /* over an hour of video */
    SWM_KEYFRAMES_MAX_SIZE = 16 << 20 /* bytes of a file */
};

/* From memory; `name` is for messages. *fps, which may be NULL, is the file's frames a second. `poses` is overwritten and
 * empty on failure; free it with swm_poses_free. */
int swm_keyframes_parse(swm_poses *poses, double *fps, const char *name, const void *data, size_t size,
                        swm_error *error);
int swm_keyframes_load(swm_poses *poses, double *fps, const char *path, swm_error *error);

#endif
