/* A picture of a camera path: seen from above with the camera's view every so many frames, and below it how fast it
 * moves and turns. Owns the layout; pages are canvas.h's. */
#ifndef SWM_PLOT_H
#define SWM_PLOT_H

#include "camera/camera.h"

typedef struct swm_plot_options {
    const char *title; /* UTF-8, one line; NULL: "Camera path" */
    double fps;        /* frames a second of the video, > 0; 0: 16 */
    int width, height; /* pixels, 320 .. 8192; 0: 1200 x 960 */
} swm_plot_options;

/* All three refuse poses that swm_poses_check refuses and options out of range. Options may be NULL. */
int swm_plot_trajectory(swm_image *image, const swm_poses *poses, const swm_plot_options *options, swm_error *error);
/* The same page as SVG text, free with free(). NULL on failure. */
char *swm_plot_trajectory_svg(const swm_poses *poses, const swm_plot_options *options, swm_error *error);
/* To a file, by its ending: .svg or .png. */
int swm_plot_save(const char *path, const swm_poses *poses, const swm_plot_options *options, swm_error *error);

#endif
