/* The page that shows a camera path. See plot.h. */
#include "camera/plot.h"

#include "camera/canvas.h"
#include "core/file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const swm_ink PAGE = {0xf6f7f9, 1}, PANEL = {0xffffff, 1}, GRID = {0xe7eaee, 1}, AXIS = {0xb8bfc9, 1};
static const swm_ink TITLE = {0x1f2937, 1}, LABEL = {0x6b7280, 1};
static const swm_ink WARM = {0xd07f3c, 1}, WARM_PALE = {0xd07f3c, 0.20}, BLUE = {0x2f6dac, 1},
                     BLUE_PALE = {0x2f6dac, 0.14};
static const swm_ink START = {0x2a9d8f, 1}, END = {0x1d4680, 1};
/* The path darkens from its beginning to its end, which shows the direction of time without arrows. */
static const uint32_t PATH_BEGIN = 0xa5c6e8, PATH_END = 0x1d4680;

/* The most points a curve is drawn with; longer clips are averaged, or skipped over, down to it. */
enum { MOST_POINTS = 2400, PATH_PIECES = 32 };

/* A rectangle of the page with the range of values it shows; y values grow upwards. */
typedef struct panel {
    double left, top, right, bottom; /* page */
    double x_low, x_high, y_low, y_high;
} panel;

typedef struct page {
    swm_canvas *canvas;
    const swm_poses *poses;
    const char *title;
    double fps, width, height, scale; /* scale: of letters and margins, 1 at 1200 x 960 */
} page;

static double page_x(const panel *p, double x)
{
    return p->left + (x - p->x_low) / (p->x_high - p->x_low) * (p->right - p->left);
}

static double page_y(const panel *p, double y)
{
    return p->bottom - (y - p->y_low) / (p->y_high - p->y_low) * (p->bottom - p->top);
}

/* The smallest of 1, 2, 5 x 10^n that is not below the value. */
static double round_up(double value)
{
    const double power = pow(10, floor(log10(value)));
    const double leading = value / power;
    return (leading <= 1 ? 1 : leading <= 2 ? 2 : leading <= 5 ? 5 : 10) * power;
}

static void rectangle(swm_canvas *canvas, double left, double top, double right, double bottom, swm_ink ink)
{
    const double corners[4][2] = {{left, top}, {right, top}, {right, bottom}, {left, bottom}};
    swm_canvas_fill(canvas, corners, 4, ink);
}

static void segment(swm_canvas *canvas, double x0, double y0, double x1, double y1, double width, swm_ink ink)
{
    const double ends[2][2] = {{x0, y0}, {x1, y1}};
    swm_canvas_line(canvas, ends, 2, width, ink);
}

static void text(const page *g, double x, double y, const char *words, double size, swm_anchor anchor, swm_ink ink)
{
    swm_canvas_text(g->canvas, x, y, words, (swm_lettering){.size = size * g->scale, .anchor = anchor}, ink);
}

/* To the middle of a pixel, where a thin line is crisp. */
static double crisp(double position) { return floor(position) + 0.5; }

static void tick_text(char out[32], double value, double step)
{
    const int decimals = (int)fmax(0, fmin(9, ceil(-log10(step) - 1e-9)));
    snprintf(out, 32, "%.*f", decimals, fabs(value) < step / 2 ? 0 : value);
}

/* Background, grid and numbers of a panel, and the names of its axes. A map has one scale and thus a square grid. */
static void draw_axes(const page *g, const panel *p, bool map, const char *x_name, const char *y_name)
{
    swm_canvas *c = g->canvas;
    char number[32];
    rectangle(c, p->left, p->top, p->right, p->bottom, PANEL);
    double x_step = round_up((p->x_high - p->x_low) / (p->right - p->left) * 76 * g->scale);
    double y_step = round_up((p->y_high - p->y_low) / (p->bottom - p->top) * 40 * g->scale);
    if (map) x_step = y_step = round_up((p->x_high - p->x_low) / (p->right - p->left) * 52 * g->scale);
    for (double i = ceil(p->x_low / x_step - 1e-6); i * x_step <= p->x_high + 1e-6 * x_step; i++) {
        const double x = crisp(page_x(p, i * x_step));
        segment(c, x, p->top, x, p->bottom, 1, GRID);
        tick_text(number, i * x_step, x_step);
        text(g, x, p->bottom + 20 * g->scale, number, 13, SWM_ANCHOR_MIDDLE, LABEL);
    }
    for (double i = ceil(p->y_low / y_step - 1e-6); i * y_step <= p->y_high + 1e-6 * y_step; i++) {
        const double y = crisp(page_y(p, i * y_step));
        segment(c, p->left, y, p->right, y, 1, GRID);
        tick_text(number, i * y_step, y_step);
        text(g, p->left - 9 * g->scale, y + 4.5 * g->scale, number, 13, SWM_ANCHOR_END, LABEL);
    }
    segment(c, p->left, crisp(p->bottom), p->right, crisp(p->bottom), 1, AXIS);
    segment(c, crisp(p->left), p->top, crisp(p->left), p->bottom, 1, AXIS);
    text(g, p->right, p->bottom + 42 * g->scale, x_name, 13, SWM_ANCHOR_END, LABEL);
    text(g, p->left, p->top - 12 * g->scale, y_name, 14, SWM_ANCHOR_START, TITLE);
}

/* --- seen from above --- */

static const float *pose_of(const page *g, int64_t i) { return g->poses->c2w + 16 * i; }

/* Choose the ranges so that the whole path fits and a unit is as long upwards as across. */
static void fit_path(const page *g, panel *p)
{
    double low[2] = {INFINITY, INFINITY}, high[2] = {-INFINITY, -INFINITY};
    for (int64_t i = 0; i < g->poses->count; i++)
        for (int k = 0; k < 2; k++) {
            const double value = (double)pose_of(g, i)[k == 0 ? 3 : 11];
            low[k] = fmin(low[k], value);
            high[k] = fmax(high[k], value);
        }
    const double margin = 44 * g->scale; /* room for camera symbols at the rim */
    const double across = p->right - p->left - 2 * margin, up = p->bottom - p->top - 2 * margin;
    double unit = fmax((high[0] - low[0]) / across, (high[1] - low[1]) / up); /* per pixel */
    const double largest = fmax(fmax(fabs(low[0]), fabs(high[0])), fmax(fabs(low[1]), fabs(high[1])));
    /* A camera that stays put, but for the rounding of its numbers, is shown amid one unit of space. */
    if (unit * up < 1e-6 * fmax(1, largest)) unit = fmax(1, 1e-3 * largest) / up;
    const double x = (low[0] + high[0]) / 2, z = (low[1] + high[1]) / 2;
    p->x_low = x - unit * (p->right - p->left) / 2;
    p->x_high = x + unit * (p->right - p->left) / 2;
    p->y_low = z - unit * (p->bottom - p->top) / 2;
    p->y_high = z + unit * (p->bottom - p->top) / 2;
}

static uint32_t mix(uint32_t a, uint32_t b, double t)
{
    uint32_t color = 0;
    for (int shift = 0; shift < 24; shift += 8) {
        const double from = a >> shift & 0xff, to = b >> shift & 0xff;
        color |= (uint32_t)lround(from + (to - from) * t) << shift;
    }
    return color;
}

static void draw_path(const page *g, const panel *p)
{
    double points[MOST_POINTS + 2][2];
    const int64_t last = g->poses->count - 1, skip = swm_max(1, swm_divide_up(last, MOST_POINTS));
    int count = 0;
    for (int64_t i = 0; i <= last; i = i < last ? swm_min(i + skip, last) : last + 1) {
        points[count][0] = page_x(p, (double)pose_of(g, i)[3]);
        points[count++][1] = page_y(p, (double)pose_of(g, i)[11]);
    }
    const int pieces = count - 1 < PATH_PIECES ? count - 1 : PATH_PIECES;
    for (int i = 0; i < pieces; i++) {
        const int from = (count - 1) * i / pieces, to = (count - 1) * (i + 1) / pieces;
        const swm_ink ink = {mix(PATH_BEGIN, PATH_END, pieces > 1 ? (double)i / (pieces - 1) : 1), 1};
        swm_canvas_line(g->canvas, (const double(*)[2])points + from, to - from + 1, 3.2 * g->scale, ink);
    }
}

/* A camera from above: a triangle that opens the way it looks, shorter when it looks up or down. */
static void draw_camera(const page *g, const panel *p, int64_t frame)
{
    const float *m = pose_of(g, frame);
    const double depth = 26 * g->scale, half = 12 * g->scale;
    const double x = page_x(p, (double)m[3]), y = page_y(p, (double)m[11]);
    double corners[4][2] = {{x, y}, {0, 0}, {0, 0}, {x, y}};
    for (int i = 1; i <= 2; i++) {
        const double side = i == 1 ? half : -half;
        corners[i][0] = x + depth * (double)m[2] + side * (double)m[0];
        corners[i][1] = y - depth * (double)m[10] - side * (double)m[8];
    }
    swm_canvas_fill(g->canvas, (const double(*)[2])corners, 3, WARM_PALE);
    swm_canvas_line(g->canvas, (const double(*)[2])corners, 4, 1.3 * g->scale, WARM);
}

static void marker(const page *g, double x, double y, swm_ink ink)
{
    swm_canvas_disc(g->canvas, x, y, 7.5 * g->scale, PANEL);
    swm_canvas_disc(g->canvas, x, y, 5.5 * g->scale, ink);
}

static void draw_top_view(const page *g, panel *p, int64_t every)
{
    fit_path(g, p);
    draw_axes(g, p, true, "x, to the right (units)", "Seen from above: z, ahead (units)");
    const int64_t last = g->poses->count - 1;
    for (int64_t i = 0; i <= last; i += every) draw_camera(g, p, i);
    draw_path(g, p);
    marker(g, page_x(p, (double)pose_of(g, last)[3]), page_y(p, (double)pose_of(g, last)[11]), END);
    marker(g, page_x(p, (double)pose_of(g, 0)[3]), page_y(p, (double)pose_of(g, 0)[11]), START);
}

/* --- over time --- */

/* Units moved from frame i to the next. */
static double moved(const page *g, int64_t i)
{
    const float *a = pose_of(g, i), *b = pose_of(g, i + 1);
    double sum = 0;
    for (int k = 3; k < 12; k += 4) sum += ((double)b[k] - (double)a[k]) * ((double)b[k] - (double)a[k]);
    return sqrt(sum);
}

/* Degrees turned from frame i to the next. From the distance of the two rotations: their trace would lose small
 * angles to the rounding of the poses. */
static double turned(const page *g, int64_t i)
{
    const float *a = pose_of(g, i), *b = pose_of(g, i + 1);
    double sum = 0;
    for (int k = 0; k < 12; k++)
        if (k % 4 != 3) sum += ((double)b[k] - (double)a[k]) * ((double)b[k] - (double)a[k]);
    return 2 * asin(fmin(1, sqrt(sum / 8))) * (180 / 3.14159265358979323846);
}

typedef double (*frame_measure)(const page *g, int64_t i);

static double total(const page *g, frame_measure measure)
{
    double sum = 0;
    for (int64_t i = 0; i + 1 < g->poses->count; i++) sum += measure(g, i);
    return sum;
}

/* A measure per second over time. `least` is the smallest full scale: rounding noise must not look like motion. */
static void draw_rate(const page *g, panel *p, frame_measure measure, const char *name, double least, swm_ink ink,
                      swm_ink pale)
{
    /* One more point at either end takes the curve to the panel's edges, two more close the area below it. */
    double curve[MOST_POINTS + 5][2], highest = 0;
    const int64_t steps = g->poses->count - 1, group = swm_max(1, swm_divide_up(steps, MOST_POINTS));
    int count = 1;
    for (int64_t i = 0; i < steps; i += group) {
        const int64_t n = swm_min(group, steps - i);
        double sum = 0;
        for (int64_t k = 0; k < n; k++) sum += measure(g, i + k);
        curve[count][0] = ((double)i + (double)n / 2) / g->fps;
        curve[count][1] = sum / (double)n * g->fps;
        highest = fmax(highest, curve[count++][1]);
    }
    p->x_low = 0;
    p->x_high = fmax(1, (double)steps) / g->fps;
    p->y_low = 0;
    p->y_high = fmax(least, highest * 1.15);
    draw_axes(g, p, false, "time (s)", name);
    if (count == 1) return;
    for (int i = 1; i < count; i++) {
        curve[i][0] = page_x(p, curve[i][0]);
        curve[i][1] = page_y(p, curve[i][1]);
    }
    curve[0][0] = p->left;
    curve[0][1] = curve[1][1];
    curve[count][0] = curve[count + 1][0] = p->right;
    curve[count][1] = curve[count - 1][1];
    curve[count + 1][1] = curve[count + 2][1] = p->bottom;
    curve[count + 2][0] = p->left;
    swm_canvas_fill(g->canvas, (const double(*)[2])curve, count + 3, pale);
    swm_canvas_line(g->canvas, (const double(*)[2])curve, count + 1, 2.2 * g->scale, ink);
}

/* --- the page --- */

static void draw_header(const page *g, double left, double right, int64_t every)
{
    char line[240], views[64];
    const double s = g->scale, y = 84 * s;
    swm_canvas_text(g->canvas, left, 52 * s, g->title, (swm_lettering){.size = 27 * s, .bold = true}, TITLE);
    snprintf(line, sizeof line,
             "%lld frames \xc2\xb7 %.1f s at %g fps \xc2\xb7 path %.2f units \xc2\xb7 turned %.0f\xc2\xb0",
             (long long)g->poses->count, (double)g->poses->count / g->fps, g->fps, total(g, moved), total(g, turned));
    text(g, left, y, line, 15, SWM_ANCHOR_START, LABEL);
    snprintf(views, sizeof views, every == 1 ? "view of each frame" : "view every %lld frames", (long long)every);
    text(g, right, y, views, 14, SWM_ANCHOR_END, LABEL);
    /* The words' widths are not known for SVG; the legend keeps fixed places to the left of the longest. */
    const double view_x = right - 180 * s, end_x = view_x - 74 * s, start_x = end_x - 78 * s;
    const double tip = y - 5 * s;
    const double camera[4][2] = {
        {view_x, tip}, {view_x + 20 * s, tip - 8 * s}, {view_x + 20 * s, tip + 8 * s}, {view_x, tip}};
    swm_canvas_fill(g->canvas, camera, 3, WARM_PALE);
    swm_canvas_line(g->canvas, camera, 4, 1.3 * s, WARM);
    marker(g, end_x, tip, END);
    text(g, end_x + 13 * s, y, "end", 14, SWM_ANCHOR_START, LABEL);
    marker(g, start_x, tip, START);
    text(g, start_x + 13 * s, y, "start", 14, SWM_ANCHOR_START, LABEL);
}

static void draw_page(const page *g)
{
    const double s = g->scale, left = 84 * s, right = g->width - 48 * s, gap = 92 * s;
    const double top = 138 * s, bottom = g->height - 64 * s, lower_height = fmax(90 * s, (bottom - top) * 0.24);
    const double middle = (left + right) / 2;
    const int64_t every = (int64_t)round_up(fmax(1, (double)(g->poses->count - 1) / 12));
    panel above = {left, top, right, bottom - lower_height - 104 * s, 0, 1, 0, 1};
    panel speed = {left, bottom - lower_height, middle - gap / 2, bottom, 0, 1, 0, 1};
    panel rotation = {middle + gap / 2, bottom - lower_height, right, bottom, 0, 1, 0, 1};
    rectangle(g->canvas, 0, 0, g->width, g->height, PAGE);
    draw_header(g, left, right, every);
    draw_top_view(g, &above, every);
    draw_rate(g, &speed, moved, "Speed (units / s)", 0.01, BLUE, BLUE_PALE);
    draw_rate(g, &rotation, turned, "Rotation (\xc2\xb0 / s)", 1, WARM, WARM_PALE);
}

/* Check everything and begin the page's description, without its canvas. */
static int prepare(page *g, const swm_poses *poses, const swm_plot_options *options, swm_error *error)
{
    const swm_plot_options none = {0};
    if (options == NULL) options = &none;
    const int width = options->width != 0 ? options->width : 1200,
              height = options->height != 0 ? options->height : 960;
    const double fps = options->fps != 0 ? options->fps : 16;
    if (width < 320 || width > 8192 || height < 320 || height > 8192)
        return swm_fail(error, "a plot of %dx%d pixels; sides must lie in 320 .. 8192", width, height);
    if (!(fps > 0 && fps <= 1e6)) return swm_fail(error, "a plot at %g frames a second; it must be positive", fps);
    if (swm_poses_check(poses, error) < 0) return -1;
    *g = (page){.poses = poses,
                .title = options->title != NULL ? options->title : "Camera path",
                .fps = fps,
                .width = width,
                .height = height,
                .scale = fmin(width / 1200.0, height / 960.0)};
    return 0;
}

int swm_plot_trajectory(swm_image *image, const swm_poses *poses, const swm_plot_options *options, swm_error *error)
{
    *image = (swm_image){0};
    page g;
    if (prepare(&g, poses, options, error) < 0) return -1;
    g.canvas = swm_canvas_pixels((int)g.width, (int)g.height, error);
    if (g.canvas == NULL) return -1;
    draw_page(&g);
    const int status = swm_canvas_image(g.canvas, image, error);
    swm_canvas_free(g.canvas);
    return status;
}

char *swm_plot_trajectory_svg(const swm_poses *poses, const swm_plot_options *options, swm_error *error)
{
    page g;
    if (prepare(&g, poses, options, error) < 0) return NULL;
    g.canvas = swm_canvas_svg((int)g.width, (int)g.height, error);
    if (g.canvas == NULL) return NULL;
    draw_page(&g);
    char *svg = swm_canvas_svg_text(g.canvas, error);
    swm_canvas_free(g.canvas);
    return svg;
}

static int save_png(const char *path, const swm_poses *poses, const swm_plot_options *options, swm_error *error)
{
    swm_image image;
    if (swm_plot_trajectory(&image, poses, options, error) < 0) return -1;
    const int status = swm_image_save_png(path, &image, error);
    swm_image_free(&image);
    return status;
}

static int save_svg(const char *path, const swm_poses *poses, const swm_plot_options *options, swm_error *error)
{
    char *svg = swm_plot_trajectory_svg(poses, options, error);
    if (svg == NULL) return -1;
    const int status = swm_file_write(path, svg, strlen(svg), error);
    free(svg);
    return status;
}

int swm_plot_save(const char *path, const swm_poses *poses, const swm_plot_options *options, swm_error *error)
{
    const char *dot = strrchr(path, '.');
    if (dot != NULL && strcmp(dot, ".svg") == 0) return save_svg(path, poses, options, error);
    if (dot != NULL && strcmp(dot, ".png") == 0) return save_png(path, poses, options, error);
    return swm_fail(error, "%s: a plot is written as .svg or .png; choose one of these endings", path);
}
