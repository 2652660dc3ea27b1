/* How alike two pictures or two videos are, and how restless a video is, from their 8-bit RGB values. Owns the
 * definitions; decoding is io/video.h's. docs/evaluation.md writes every formula out. */
#ifndef SWM_EVAL_VIDEO_H
#define SWM_EVAL_VIDEO_H

#include "core/base.h"

enum { SWM_SSIM_SIDE = 11, SWM_PSNR_SAME = 100 };

/* Mean over all width x height x 3 values of the squared, and of the absolute, difference. Sides >= 1. */
double swm_mean_squared_error(const uint8_t *a, const uint8_t *b, int width, int height);
double swm_mean_absolute_error(const uint8_t *a, const uint8_t *b, int width, int height);
/* 10 log10(255^2 / mean squared error) in dB; SWM_PSNR_SAME for equal pictures, as SANA-WM's evaluator has it. */
double swm_psnr(double mean_squared_error);

typedef enum swm_ssim_window {
    /* Wang et al. 2004: 11x11 Gaussian of sigma 1.5, only windows that lie inside the picture. scikit-image's
     * structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255). */
    SWM_SSIM_GAUSSIAN,
    /* SANA-WM's evaluator for revisits: 11x11 equal weights, the picture mirrored at its borders. */
    SWM_SSIM_UNIFORM
} swm_ssim_window;

/* Mean of the structural similarity over windows and the three channels, -1 .. 1. Sides from SWM_SSIM_SIDE on. The
 * result does not depend on the number of threads. */
int swm_ssim(double *ssim, const uint8_t *a, const uint8_t *b, int width, int height, swm_ssim_window window,
             swm_error *error);

/* One value a frame. Flicker is the mean absolute difference to the frame before, in 8-bit steps; frame 0 has NaN. */
enum swm_video_metric {
    SWM_VIDEO_PSNR,
    SWM_VIDEO_SSIM,         /* Gaussian */
    SWM_VIDEO_SSIM_UNIFORM, /* uniform */
    SWM_VIDEO_FLICKER_A,
    SWM_VIDEO_FLICKER_B,
    SWM_VIDEO_FLICKER_DIFFERENCE, /* of A - B: what the scene's motion does to both is left out */
    SWM_VIDEO_METRICS
};
/* "psnr_db", "ssim", "ssim_uniform", "flicker_a", "flicker_b", "flicker_difference" */
const char *swm_video_metric_name(int metric);

typedef struct swm_video_errors {
    int64_t count;
    int width, height;
    double fps;                        /* of A */
    double mean_squared_error;         /* of all frames together */
    double *values[SWM_VIDEO_METRICS]; /* (count) each, owned */
} swm_video_errors;

/* Called after every frame; anything but 0 stops with the failure "stopped". May be NULL. */
typedef int (*swm_eval_progress)(void *user, int64_t frames_done);

/* Frame by frame through two video files, which must agree in size and number of frames. On failure *errors is {0}. */
int swm_video_errors_compute(swm_video_errors *errors, const char *a, const char *b, swm_eval_progress progress,
                             void *user, swm_error *error);
void swm_video_errors_free(swm_video_errors *errors); /* safe on {0} and twice */

#endif
