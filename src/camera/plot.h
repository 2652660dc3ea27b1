/* Pictures of camera paths: in space with the cameras' views, from above, from the side, and how fast they move and turn
 * over time. Owns the layout; pages are canvas.h's. */
#ifndef SWM_PLOT_H
#define SWM_PLOT_H

#include "camera/camera.h"

enum { SWM_PLOT_MOST_PATHS = 8 };

typedef struct swm_plot_options {
    const char *title; /* UTF-8, one line; NULL: "Camera path" */
    double fps;        /* frames a second of the video, > 0; 0: 16 */
    int width, height; /* pixels, 320 .. 8192; 0: 1200 x 960 */
} swm_plot_options;

/* One of several paths on a page. Borrows everything. */
typedef struct swm_plot_path {
    const swm_poses *poses;
    const char *name; /* UTF-8, for the legend */
} swm_plot_path;

/* All of these refuse poses that swm_poses_check refuses and options out of range. Options may be NULL. A single path is
 * drawn lighter at its begin and darker at its end; of several, each has its colour. */
int swm_plot_paths(swm_image *image, const swm_plot_path *paths, int count, const swm_plot_options *options,
                   swm_error *error);
/* The same page as SVG text, free with free(). NULL on failure. */
char *swm_plot_paths_svg(const swm_plot_path *paths, int count, const swm_plot_options *options, swm_error *error);
/* To a file, by its ending: .svg or .png. */
int swm_plot_save_paths(const char *file, const swm_plot_path *paths, int count, const swm_plot_options *options,
                        swm_error *error);

/* The same for one path. */
int swm_plot_trajectory(swm_image *image, const swm_poses *poses, const swm_plot_options *options, swm_error *error);
char *swm_plot_trajectory_svg(const swm_poses *poses, const swm_plot_options *options, swm_error *error);
int swm_plot_save(const char *path, const swm_poses *poses, const swm_plot_options *options, swm_error *error);

#endif
