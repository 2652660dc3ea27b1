/* What the parts of a plot share: the page under construction, panels with ranges of values, and the colours. */
#ifndef SWM_PLOT_INTERNAL_H
#define SWM_PLOT_INTERNAL_H

#include "camera/canvas.h"
#include "camera/plot.h"

/* The most points a path or curve is drawn with; longer clips are averaged, or skipped over, down to it. */
enum { PLOT_POINTS = 1000, PLOT_PIECES = 32 };

static const swm_ink PLOT_PAGE = {0xf6f7f9, 1}, PLOT_PANEL = {0xffffff, 1}, PLOT_GRID = {0xe7eaee, 1},
                     PLOT_AXIS = {0xb8bfc9, 1}, PLOT_TITLE = {0x1f2937, 1}, PLOT_LABEL = {0x6b7280, 1},
                     PLOT_START = {0x2a9d8f, 1};

typedef struct plot_colors {
    uint32_t begin, end; /* of the path: time runs from pale to dark, which shows its direction without arrows */
    uint32_t camera;     /* of the cameras' views */
} plot_colors;

typedef struct plot_page {
    swm_canvas *canvas;
    const swm_plot_path *paths;
    int count;
    const char *title;
    double fps, width, height, scale; /* scale: of letters and margins, 1 at 1200 x 960 */
} plot_page;

/* A rectangle of the page with the range of values it shows; y values grow upwards. */
typedef struct plot_panel {
    double left, top, right, bottom; /* page */
    double x_low, x_high, y_low, y_high;
} plot_panel;

/* A path as a line on the page, thinned out to PLOT_POINTS. */
typedef struct plot_line {
    double points[PLOT_POINTS + 2][2];
    int count;
} plot_line;

/* Check everything and begin the page's description, without its canvas. */
int swm_plot_prepare(plot_page *page, const swm_plot_path *paths, int count, const swm_plot_options *options,
                     swm_error *error);

plot_colors swm_plot_colors(const plot_page *page, int path);
uint32_t swm_plot_mix(uint32_t a, uint32_t b, double t);
int64_t swm_plot_every(const plot_page *page, int path); /* frames between the cameras that are shown */
const float *swm_plot_pose(const plot_page *page, int path, int64_t frame); /* 4x4 */

/* The smallest of 1, 2, 5 x 10^n that is not below the value. */
double swm_plot_round_up(double value);
double swm_plot_x(const plot_panel *panel, double x);
double swm_plot_y(const plot_panel *panel, double y);
/* To the middle of a pixel, where a thin line is crisp. */
double swm_plot_crisp(double position);

void swm_plot_rectangle(const plot_page *page, double left, double top, double right, double bottom, swm_ink ink);
void swm_plot_segment(const plot_page *page, double x0, double y0, double x1, double y1, double width, swm_ink ink);
void swm_plot_text(const plot_page *page, double x, double y, const char *words, double size, swm_anchor anchor,
                   swm_ink ink);
void swm_plot_marker(const plot_page *page, double x, double y, swm_ink ink);
/* Background, grid and numbers of a panel, and the names of its axes. A map has one scale and thus a square grid. */
void swm_plot_axes(const plot_page *page, const plot_panel *panel, bool map, const char *x_name, const char *y_name);

typedef void (*plot_projection)(const void *user, const double point[3], double on_page[2]);
/* All frames of a path through a projection. */
void swm_plot_project(const plot_page *page, int path, plot_projection project, const void *user, plot_line *line);
/* From pale to dark. */
void swm_plot_stroke(const plot_page *page, int path, const plot_line *line, double width);

/* The parts of the page; each fills a panel. */
void swm_plot_space(const plot_page *page, const plot_panel *panel);
void swm_plot_top(const plot_page *page, const plot_panel *panel);
void swm_plot_side(const plot_page *page, const plot_panel *panel);
void swm_plot_speed(const plot_page *page, const plot_panel *panel);
void swm_plot_rotation(const plot_page *page, const plot_panel *panel);

#endif
