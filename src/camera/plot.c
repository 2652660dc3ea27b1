/* The page of a plot: its parts' places, its header, and what the parts share. See plot.h. */
#include "camera/plot.h"

#include "camera/check.h"
#include "camera/plot_internal.h"
#include "core/file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- colours --- */

/* Distinguishable by people of any colour vision as far as eight can be; none is the start's green. */
static const uint32_t SERIES[SWM_PLOT_MOST_PATHS] = {0x2f6dac, 0xd0722a, 0xb5446e, 0x6c5aa8,
                                                     0x8a7a1f, 0x5c8fd6, 0x4c7a3d, 0x6b7280};

uint32_t swm_plot_mix(uint32_t a, uint32_t b, double t)
{
    uint32_t color = 0;
    for (int shift = 0; shift < 24; shift += 8) {
        const double from = a >> shift & 0xff, to = b >> shift & 0xff;
        color |= (uint32_t)lround(from + (to - from) * t) << shift;
    }
    return color;
}

plot_colors swm_plot_colors(const plot_page *page, int path)
{
    if (page->count == 1) return (plot_colors){0xa5c6e8, 0x1d4680, 0xd07f3c};
    return (plot_colors){swm_plot_mix(SERIES[path], 0xffffff, 0.45), SERIES[path], SERIES[path]};
}

/* --- drawing --- */

double swm_plot_x(const plot_panel *p, double x)
{
    return p->left + (x - p->x_low) / (p->x_high - p->x_low) * (p->right - p->left);
}

double swm_plot_y(const plot_panel *p, double y)
{
    return p->bottom - (y - p->y_low) / (p->y_high - p->y_low) * (p->bottom - p->top);
}

double swm_plot_round_up(double value)
{
    const double power = pow(10, floor(log10(value)));
    const double leading = value / power;
    return (leading <= 1 ? 1 : leading <= 2 ? 2 : leading <= 5 ? 5 : 10) * power;
}

double swm_plot_crisp(double position) { return floor(position) + 0.5; }

void swm_plot_rectangle(const plot_page *page, double left, double top, double right, double bottom, swm_ink ink)
{
    const double corners[4][2] = {{left, top}, {right, top}, {right, bottom}, {left, bottom}};
    swm_canvas_fill(page->canvas, corners, 4, ink);
}

void swm_plot_segment(const plot_page *page, double x0, double y0, double x1, double y1, double width, swm_ink ink)
{
    const double ends[2][2] = {{x0, y0}, {x1, y1}};
    swm_canvas_line(page->canvas, ends, 2, width, ink);
}

void swm_plot_text(const plot_page *page, double x, double y, const char *words, double size, swm_anchor anchor,
                   swm_ink ink)
{
    swm_canvas_text(page->canvas, x, y, words, (swm_lettering){.size = size * page->scale, .anchor = anchor}, ink);
}

void swm_plot_marker(const plot_page *page, double x, double y, swm_ink ink)
{
    swm_canvas_disc(page->canvas, x, y, 7 * page->scale, PLOT_PANEL);
    swm_canvas_disc(page->canvas, x, y, 5 * page->scale, ink);
}

static void tick_text(char out[32], double value, double step)
{
    const int decimals = (int)fmax(0, fmin(9, ceil(-log10(step) - 1e-9)));
    snprintf(out, 32, "%.*f", decimals, fabs(value) < step / 2 ? 0 : value);
}

void swm_plot_axes(const plot_page *g, const plot_panel *p, bool map, const char *x_name, const char *y_name)
{
    char number[32];
    const double s = g->scale;
    swm_plot_rectangle(g, p->left, p->top, p->right, p->bottom, PLOT_PANEL);
    double x_step = swm_plot_round_up((p->x_high - p->x_low) / (p->right - p->left) * 76 * s);
    double y_step = swm_plot_round_up((p->y_high - p->y_low) / (p->bottom - p->top) * 36 * s);
    if (map) x_step = y_step = swm_plot_round_up((p->x_high - p->x_low) / (p->right - p->left) * 46 * s);
    for (double i = ceil(p->x_low / x_step - 1e-6); i * x_step <= p->x_high + 1e-6 * x_step; i++) {
        const double x = swm_plot_crisp(swm_plot_x(p, i * x_step));
        swm_plot_segment(g, x, p->top, x, p->bottom, 1, PLOT_GRID);
        tick_text(number, i * x_step, x_step);
        swm_plot_text(g, x, p->bottom + 19 * s, number, 12.5, SWM_ANCHOR_MIDDLE, PLOT_LABEL);
    }
    for (double i = ceil(p->y_low / y_step - 1e-6); i * y_step <= p->y_high + 1e-6 * y_step; i++) {
        const double y = swm_plot_crisp(swm_plot_y(p, i * y_step));
        swm_plot_segment(g, p->left, y, p->right, y, 1, PLOT_GRID);
        tick_text(number, i * y_step, y_step);
        swm_plot_text(g, p->left - 8 * s, y + 4.5 * s, number, 12.5, SWM_ANCHOR_END, PLOT_LABEL);
    }
    swm_plot_segment(g, p->left, swm_plot_crisp(p->bottom), p->right, swm_plot_crisp(p->bottom), 1, PLOT_AXIS);
    swm_plot_segment(g, swm_plot_crisp(p->left), p->top, swm_plot_crisp(p->left), p->bottom, 1, PLOT_AXIS);
    swm_plot_text(g, p->right, p->bottom + 37 * s, x_name, 12.5, SWM_ANCHOR_END, PLOT_LABEL);
    swm_plot_text(g, p->left, p->top - 12 * s, y_name, 14, SWM_ANCHOR_START, PLOT_TITLE);
}

int64_t swm_plot_every(const plot_page *page, int path)
{
    const double shown = page->count == 1 ? 16 : 6;
    return (int64_t)swm_plot_round_up(fmax(1, (double)(page->paths[path].poses->count - 1) / shown));
}

const float *swm_plot_pose(const plot_page *page, int path, int64_t frame)
{
    return page->paths[path].poses->c2w + 16 * frame;
}

void swm_plot_project(const plot_page *page, int path, plot_projection project, const void *user, plot_line *line)
{
    const int64_t last = page->paths[path].poses->count - 1, skip = swm_max(1, swm_divide_up(last, PLOT_POINTS));
    line->count = 0;
    for (int64_t i = 0; i <= last; i = i < last ? swm_min(i + skip, last) : last + 1) {
        const float *m = swm_plot_pose(page, path, i);
        project(user, (const double[3]){(double)m[3], (double)m[7], (double)m[11]}, line->points[line->count++]);
    }
}

void swm_plot_stroke(const plot_page *page, int path, const plot_line *line, double width)
{
    const plot_colors colors = swm_plot_colors(page, path);
    const int pieces = line->count - 1 < PLOT_PIECES ? line->count - 1 : PLOT_PIECES;
    for (int i = 0; i < pieces; i++) {
        const int from = (line->count - 1) * i / pieces, to = (line->count - 1) * (i + 1) / pieces;
        const double t = pieces > 1 ? (double)i / (pieces - 1) : 1;
        swm_canvas_line(page->canvas, line->points + from, to - from + 1, width * page->scale,
                        (swm_ink){swm_plot_mix(colors.begin, colors.end, t), 1});
    }
}

/* --- the page --- */

static void describe(char out[160], const swm_poses *poses, double fps)
{
    const swm_camera_measures m = swm_camera_measure(poses);
    snprintf(out, 160, "%lld frames \xc2\xb7 %.1f s \xc2\xb7 path %.2f units \xc2\xb7 turned %.0f\xc2\xb0",
             (long long)m.frames, (double)m.frames / fps, m.length, m.turned);
}

static void draw_single_legend(const plot_page *g, double right, double y)
{
    char views[64];
    const double s = g->scale, tip = y - 5 * s;
    const int64_t every = swm_plot_every(g, 0);
    snprintf(views, sizeof views, every == 1 ? "view of each frame" : "view every %lld frames", (long long)every);
    swm_plot_text(g, right, y, views, 14, SWM_ANCHOR_END, PLOT_LABEL);
    /* The words' widths are not known for SVG; the legend keeps fixed places to the left of the longest. */
    const double view_x = right - 180 * s, end_x = view_x - 74 * s, start_x = end_x - 78 * s;
    const double camera[4][2] = {
        {view_x, tip}, {view_x + 20 * s, tip - 8 * s}, {view_x + 20 * s, tip + 8 * s}, {view_x, tip}};
    const plot_colors colors = swm_plot_colors(g, 0);
    swm_canvas_fill(g->canvas, camera, 3, (swm_ink){colors.camera, 0.2});
    swm_canvas_line(g->canvas, camera, 4, 1.3 * s, (swm_ink){colors.camera, 1});
    swm_plot_marker(g, end_x, tip, (swm_ink){colors.end, 1});
    swm_plot_text(g, end_x + 13 * s, y, "end", 14, SWM_ANCHOR_START, PLOT_LABEL);
    swm_plot_marker(g, start_x, tip, PLOT_START);
    swm_plot_text(g, start_x + 13 * s, y, "start", 14, SWM_ANCHOR_START, PLOT_LABEL);
}

/* A line a path, in the corner of the picture in space. */
static void draw_legend(const plot_page *g, const plot_panel *p)
{
    char line[256], numbers[160];
    const double s = g->scale;
    for (int i = 0; i < g->count; i++) {
        const double y = p->top + (26 + 21 * i) * s, x = p->left + 18 * s;
        const swm_ink ink = {swm_plot_colors(g, i).end, 1};
        swm_plot_segment(g, x, y - 4.5 * s, x + 22 * s, y - 4.5 * s, 3.5 * s, ink);
        describe(numbers, g->paths[i].poses, g->fps);
        snprintf(line, sizeof line, "%.80s", g->paths[i].name != NULL ? g->paths[i].name : "path");
        swm_plot_text(g, x + 32 * s, y, line, 14, SWM_ANCHOR_START, PLOT_TITLE);
        swm_plot_text(g, p->right - 16 * s, y, numbers, 12.5, SWM_ANCHOR_END, PLOT_LABEL);
    }
}

static void draw_header(const plot_page *g, double left, double right)
{
    char line[256], numbers[160];
    const double s = g->scale, y = 82 * s;
    swm_canvas_text(g->canvas, left, 51 * s, g->title, (swm_lettering){.size = 27 * s, .bold = true}, PLOT_TITLE);
    describe(numbers, g->paths[0].poses, g->fps);
    if (g->count == 1)
        snprintf(line, sizeof line, "%s \xc2\xb7 %g fps", numbers, g->fps);
    else
        snprintf(line, sizeof line, "%d paths \xc2\xb7 %g fps \xc2\xb7 lighter at the start, darker at the end",
                 g->count, g->fps);
    swm_plot_text(g, left, y, line, 15, SWM_ANCHOR_START, PLOT_LABEL);
    if (g->count == 1) draw_single_legend(g, right, y);
}

static void draw_page(const plot_page *g)
{
    const double s = g->scale, left = 48 * s, right = g->width - 48 * s;
    const double top = 112 * s, bottom = g->height - 58 * s, curves = fmax(80 * s, (bottom - top) * 0.21);
    const double lower_top = bottom - curves, upper_bottom = lower_top - 100 * s;
    const double column = right - 0.34 * (right - left), upper = upper_bottom - top;
    const double middle = (left + right) / 2;
    const plot_panel space = {.left = left, .top = top, .right = column - 74 * s, .bottom = upper_bottom + 36 * s};
    const plot_panel above = {.left = column, .top = top + 26 * s, .right = right, .bottom = top + 0.60 * upper};
    const plot_panel side = {
        .left = column, .top = top + 0.60 * upper + 82 * s, .right = right, .bottom = upper_bottom};
    const plot_panel speed = {.left = left + 30 * s, .top = lower_top, .right = middle - 38 * s, .bottom = bottom};
    const plot_panel rotation = {.left = middle + 40 * s, .top = lower_top, .right = right, .bottom = bottom};
    swm_plot_rectangle(g, 0, 0, g->width, g->height, PLOT_PAGE);
    draw_header(g, left, right);
    swm_plot_space(g, &space);
    if (g->count > 1) draw_legend(g, &space);
    swm_plot_top(g, &above);
    swm_plot_side(g, &side);
    swm_plot_speed(g, &speed);
    swm_plot_rotation(g, &rotation);
}

int swm_plot_prepare(plot_page *g, const swm_plot_path *paths, int count, const swm_plot_options *options,
                     swm_error *error)
{
    const swm_plot_options none = {0};
    if (options == NULL) options = &none;
    const int width = options->width != 0 ? options->width : 1200,
              height = options->height != 0 ? options->height : 960;
    const double fps = options->fps != 0 ? options->fps : 16;
    if (count < 1 || count > SWM_PLOT_MOST_PATHS)
        return swm_fail(error, "a plot of %d paths; it shows 1 to %d", count, SWM_PLOT_MOST_PATHS);
    if (width < 320 || width > 8192 || height < 320 || height > 8192)
        return swm_fail(error, "a plot of %dx%d pixels; sides must lie in 320 .. 8192", width, height);
    if (!(fps > 0 && fps <= 1e6)) return swm_fail(error, "a plot at %g frames a second; it must be positive", fps);
    for (int i = 0; i < count; i++)
        if (swm_poses_check(paths[i].poses, error) < 0) return -1;
    *g = (plot_page){.paths = paths,
                     .count = count,
                     .title = options->title != NULL ? options->title
                              : count == 1           ? "Camera path"
                                                     : "Camera paths",
                     .fps = fps,
                     .width = width,
                     .height = height,
                     .scale = fmin(width / 1200.0, height / 960.0)};
    return 0;
}

int swm_plot_paths(swm_image *image, const swm_plot_path *paths, int count, const swm_plot_options *options,
                   swm_error *error)
{
    *image = (swm_image){0};
    plot_page g;
    if (swm_plot_prepare(&g, paths, count, options, error) < 0) return -1;
    g.canvas = swm_canvas_pixels((int)g.width, (int)g.height, error);
    if (g.canvas == NULL) return -1;
    draw_page(&g);
    const int status = swm_canvas_image(g.canvas, image, error);
    swm_canvas_free(g.canvas);
    return status;
}

char *swm_plot_paths_svg(const swm_plot_path *paths, int count, const swm_plot_options *options, swm_error *error)
{
    plot_page g;
    if (swm_plot_prepare(&g, paths, count, options, error) < 0) return NULL;
    g.canvas = swm_canvas_svg((int)g.width, (int)g.height, error);
    if (g.canvas == NULL) return NULL;
    draw_page(&g);
    char *svg = swm_canvas_svg_text(g.canvas, error);
    swm_canvas_free(g.canvas);
    return svg;
}

static int save_png(const char *file, const swm_plot_path *paths, int count, const swm_plot_options *options,
                    swm_error *error)
{
    swm_image image;
    if (swm_plot_paths(&image, paths, count, options, error) < 0) return -1;
    const int status = swm_image_save_png(file, &image, error);
    swm_image_free(&image);
    return status;
}

static int save_svg(const char *file, const swm_plot_path *paths, int count, const swm_plot_options *options,
                    swm_error *error)
{
    char *svg = swm_plot_paths_svg(paths, count, options, error);
    if (svg == NULL) return -1;
    const int status = swm_file_write(file, svg, strlen(svg), error);
    free(svg);
    return status;
}

int swm_plot_save_paths(const char *file, const swm_plot_path *paths, int count, const swm_plot_options *options,
                        swm_error *error)
{
    const char *dot = strrchr(file, '.');
    if (dot != NULL && strcmp(dot, ".svg") == 0) return save_svg(file, paths, count, options, error);
    if (dot != NULL && strcmp(dot, ".png") == 0) return save_png(file, paths, count, options, error);
    return swm_fail(error, "%s: a plot is written as .svg or .png; choose one of these endings", file);
}

/* --- one path --- */

int swm_plot_trajectory(swm_image *image, const swm_poses *poses, const swm_plot_options *options, swm_error *error)
{
    return swm_plot_paths(image, &(swm_plot_path){.poses = poses}, 1, options, error);
}

char *swm_plot_trajectory_svg(const swm_poses *poses, const swm_plot_options *options, swm_error *error)
{
    return swm_plot_paths_svg(&(swm_plot_path){.poses = poses}, 1, options, error);
}

int swm_plot_save(const char *path, const swm_poses *poses, const swm_plot_options *options, swm_error *error)
{
    return swm_plot_save_paths(path, &(swm_plot_path){.poses = poses}, 1, options, error);
}
