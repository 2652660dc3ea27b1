/* Actions: what the keys of a keyboard mean, the action string ("w-80,dw-40"), and the motion that turns held controls
 * into camera poses, one frame at a time. Owns no tensors of the model and reads no files. */
#ifndef SWM_ACTION_H
#define SWM_ACTION_H

#include "camera/camera.h"

/* What a held key asks of the camera: the bits of a frame's control mask. */
typedef enum swm_control {
    SWM_CONTROL_FORWARD = 1 << 0,
    SWM_CONTROL_BACK = 1 << 1,
    SWM_CONTROL_YAW_LEFT = 1 << 2,
    SWM_CONTROL_YAW_RIGHT = 1 << 3,
    SWM_CONTROL_PITCH_UP = 1 << 4,
    SWM_CONTROL_PITCH_DOWN = 1 << 5,
    SWM_CONTROL_STRAFE_LEFT = 1 << 6,
    SWM_CONTROL_STRAFE_RIGHT = 1 << 7,
} swm_control;

enum {
    SWM_CONTROL_COUNT = 8,
    SWM_ACTION_MAX_FRAMES = 1000000, /* over 17 hours of video; guards against a mistyped duration */
};

/* The same letters have meant different motion in different releases and engines, so a meaning has a name. A profile
 * says which letter is which control, how fast the camera moves by default, and where the engine's law of motion departs
 * from the common one. */
typedef struct swm_key_profile {
    const char *name;
    const char *meaning;              /* one line for help texts */
    char keys[SWM_CONTROL_COUNT + 1]; /* lower-case letter of each control, in the order of the control bits */
    char also[SWM_CONTROL_COUNT + 1]; /* a second letter of each, '.' for none */
    double translation_speed;         /* units a frame */
    double rotation_speed_degrees;    /* degrees a frame, for yaw and pitch */
    double pitch_limit_degrees;       /* the camera never tilts further than this from the horizon */
    double strafe_yaw;                /* strafing also turns the camera that way, at this part of the rotation speed */
    bool smooth;                      /* coast after a release instead of stopping dead */
    bool pitch_stops_short;           /* a step past the pitch limit is not taken at all; else it ends on the limit */
    bool yaw_about_camera; /* turn about the camera's own vertical, which leans while it is tilted; else the world's */
} swm_key_profile;

/* The profile of that name; NULL or "" is the default, "current". An unknown name gives NULL and lists the names. */
const swm_key_profile *swm_key_profile_find(const char *name, swm_error *error);
/* Profiles by index, for listing them; NULL behind the last. */
const swm_key_profile *swm_key_profile_at(int index);
/* The control of a letter of either case, 0 if the profile does not use it. */
unsigned swm_key_control(const swm_key_profile *profile, char key);

/* The controls held in each frame. */
typedef struct swm_action {
    int64_t count;     /* frames, 1 .. SWM_ACTION_MAX_FRAMES */
    uint8_t *controls; /* (count) masks of swm_control; owned, free with swm_action_free */
} swm_action;

/* Parse an action string of `size` bytes: segments "keys-frames" joined by commas, for instance "w-80,dw-40,none-20".
 * Keys are letters of the profile in any order and case, or "none"; white space and full-width commas are tolerated.
 * Fails with the segment, its position and the remedy, and then leaves `action` empty. */
int swm_action_parse(swm_action *action, const char *text, size_t size, const swm_key_profile *profile,
                     swm_error *error);
void swm_action_free(swm_action *action);

typedef struct swm_motion_options {
    const swm_key_profile *profile; /* NULL: "current" */
    double translation_speed;       /* units a frame, >= 0 */
    double rotation_speed_degrees;  /* degrees a frame, 0 .. 180 */
    double pitch_limit_degrees;     /* 0 .. 90 */
    bool smooth;
} swm_motion_options;

/* The profile's own speeds and limits, to be changed at will. NULL is the default profile. */
swm_motion_options swm_motion_defaults(const swm_key_profile *profile);
/* Refuses numbers outside the ranges above, NaN included. */
int swm_motion_check(const swm_motion_options *options, swm_error *error);

/* A camera in motion, small enough to live in a session that is steered while it plays. Plain data: copy it to
 * remember a moment and return to it. */
typedef struct swm_camera_motion {
    double pose[16];                    /* camera to world, row-major 4x4, OpenCV axes (x right, y down, z forward) */
    double forward, strafe, yaw, pitch; /* velocities, a frame: units and radians */
    double tilt;                        /* pitch summed over all frames so far, radians */
    double translation_speed, rotation_speed, pitch_limit; /* units, radians */
    double strafe_yaw;                                     /* of the profile, as the two at the end */
    unsigned held;                                         /* controls of the frame before */
    bool smooth, pitch_stops_short, yaw_about_camera;
} swm_camera_motion;

/* Stand at the identity pose, at rest. The options have passed swm_motion_check. */
void swm_motion_start(swm_camera_motion *motion, const swm_motion_options *options);
/* Move by one frame under the given controls and write the pose arrived at. */
void swm_motion_step(swm_camera_motion *motion, unsigned controls, double pose[16]);

/* An action string to its N + 1 poses, the first being the identity. NULL options: swm_motion_defaults(NULL).
 * `out` is overwritten; free it with swm_poses_free. */
int swm_action_rollout(const char *action, const swm_motion_options *options, swm_poses *out, swm_error *error);

#endif
