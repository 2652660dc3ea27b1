/* Does the world look the same when the camera comes back? Pairs of frames with nearly the same pose, the camera having
 * been elsewhere in between, and how alike the two pictures are. Owns the choice of pairs. */
#ifndef SWM_EVAL_REVISIT_H
#define SWM_EVAL_REVISIT_H

#include "eval/poses.h"
#include "eval/video.h"

enum {
    SWM_REVISIT_FRAMES = 20000, /* longest path: the search is quadratic */
    SWM_REVISIT_PAIRS = 100     /* most pairs: both their frames are kept in memory */
};

typedef struct swm_revisit_options {
    double distance; /* most, in units of the path, > 0 */
    double degrees;  /* most between the viewing directions' rotations, > 0 */
    int64_t gap;     /* least number of frames from one to the other, >= 1 */
    int64_t spacing; /* of two pairs, either their first or their second frames are at least so far apart, >= 1 */
    int pairs;       /* at most, 1 .. SWM_REVISIT_PAIRS */
} swm_revisit_options;
/* 0.5 units and 20 degrees, SANA-WM's benchmark's limits; 16 frames; spacing 8; 5 pairs. */
swm_revisit_options swm_revisit_defaults(void);

typedef struct swm_revisit {
    int64_t first, second; /* frames */
    double distance, degrees;
    double psnr, ssim, ssim_uniform; /* after swm_revisit_measure */
} swm_revisit;

/* Pairs first < second within both limits, at least `gap` apart, where some frame in between lies outside a limit as
 * seen from `first`. The closest (distance / limit + angle / limit; ties: the earliest) first, then the closest that
 * keeps its spacing from all before it, up to `pairs`. `found` has room for options->pairs; returns how many there
 * are, 0 when the camera never comes back, -1 on failure. */
int swm_revisit_find(swm_revisit *found, const swm_eval_path *path, const swm_revisit_options *options,
                     swm_error *error);

/* Frames of a video file, as its container says or else counted by decoding; -1 on failure. */
int64_t swm_video_frame_count(const char *video, swm_error *error);
/* Fill in psnr, ssim and ssim_uniform from the video's frames; pose n belongs to frame n. */
int swm_revisit_measure(swm_revisit *revisits, int count, const char *video, swm_error *error);

#endif
