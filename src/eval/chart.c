/* Curves on a page. See chart.h. */
#include "eval/chart.h"

#include "camera/canvas.h"
#include "core/file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const swm_ink PAGE = {0xf6f7f9, 1}, PANEL = {0xffffff, 1}, GRID = {0xe7eaee, 1}, AXIS = {0xb8bfc9, 1};
static const swm_ink TITLE = {0x1f2937, 1}, LABEL = {0x6b7280, 1};

enum {
    WIDTH = 1200,
    LEFT = 92,
    RIGHT = 1152,
    HEADER = 108,
    CURVES_HEIGHT = 190,
    MAP_HEIGHT = 460,
    BETWEEN = 88,
    MOST_POINTS = 4000, /* a line has; longer ones skip points */
    MOST_PANELS = 8
};

/* Where a panel lies on the page and which values it shows; y values grow upwards. */
typedef struct frame {
    double top, bottom, x_low, x_high, y_low, y_high;
} frame;

static double page_x(const frame *f, double x)
{
    return LEFT + (x - f->x_low) / (f->x_high - f->x_low) * (RIGHT - LEFT);
}

static double page_y(const frame *f, double y)
{
    return f->bottom - (y - f->y_low) / (f->y_high - f->y_low) * (f->bottom - f->top);
}

/* The smallest of 1, 2, 5 x 10^n that is not below the value. */
static double round_up(double value)
{
    const double power = pow(10, floor(log10(value))), leading = value / power;
    return (leading <= 1 ? 1 : leading <= 2 ? 2 : leading <= 5 ? 5 : 10) * power;
}

static void segment(swm_canvas *canvas, double x0, double y0, double x1, double y1, swm_ink ink)
{
    const double ends[2][2] = {{x0, y0}, {x1, y1}};
    swm_canvas_line(canvas, ends, 2, 1, ink);
}

static void rectangle(swm_canvas *canvas, double left, double top, double right, double bottom, swm_ink ink)
{
    const double corners[4][2] = {{left, top}, {right, top}, {right, bottom}, {left, bottom}};
    swm_canvas_fill(canvas, corners, 4, ink);
}

static void text(swm_canvas *canvas, double x, double y, const char *words, double size, swm_anchor anchor, swm_ink ink)
{
    swm_canvas_text(canvas, x, y, words, (swm_lettering){.size = size, .anchor = anchor}, ink);
}

/* To the middle of a pixel, where a thin line is crisp. */
static double crisp(double position) { return floor(position) + 0.5; }

static void tick_text(char out[32], double value, double step)
{
    const double shown = fabs(value) < step / 2 ? 0 : value;
    if (step < 1e-5 || step >= 1e7)
        snprintf(out, 32, "%.3g", shown);
    else
        snprintf(out, 32, "%.*f", (int)fmax(0, ceil(-log10(step) - 1e-9)), shown);
}

/* Widen an empty or rounding-sized range, so that noise does not look like a signal. */
static void settle(double *low, double *high)
{
    const double least = 1e-9 * fmax(1e-3, fmax(fabs(*low), fabs(*high)));
    if (*high - *low >= least) return;
    const double middle = (*low + *high) / 2, half = fmax(0.5e-3, 0.05 * fabs(middle));
    *low = middle - half;
    *high = middle + half;
}

static bool drawn(const swm_chart_series *s, int64_t i) { return isfinite(s->x[i]) && isfinite(s->y[i]); }

static void fit(frame *f, const swm_chart_panel *panel)
{
    double low[2] = {INFINITY, INFINITY}, high[2] = {-INFINITY, -INFINITY};
    for (int n = 0; n < panel->count; n++)
        for (int64_t i = 0; i < panel->series[n].count; i++) {
            const swm_chart_series *s = &panel->series[n];
            if (!drawn(s, i)) continue;
            low[0] = fmin(low[0], s->x[i]);
            high[0] = fmax(high[0], s->x[i]);
            low[1] = fmin(low[1], s->y[i]);
            high[1] = fmax(high[1], s->y[i]);
        }
    if (!(low[0] <= high[0])) low[0] = low[1] = 0, high[0] = high[1] = 1;
    for (int k = 0; k < 2; k++) settle(&low[k], &high[k]);
    *f = (frame){f->top, f->bottom, low[0], high[0], low[1], high[1]};
    if (panel->from_zero) f->y_low = 0;
    if (!panel->map) {
        const double room = 0.08 * (f->y_high - f->y_low);
        f->y_high += room;
        if (!panel->from_zero) f->y_low -= room;
        /* Dots at the very rim would be cut in two by the axis. */
        const double side = panel->series[0].dots ? 0.03 * (f->x_high - f->x_low) : 0;
        f->x_low -= side;
        f->x_high += side;
        return;
    }
    const double across = RIGHT - LEFT - 60, up = f->bottom - f->top - 60;
    const double unit = fmax((high[0] - low[0]) / across, (high[1] - low[1]) / up);
    const double x = (low[0] + high[0]) / 2, y = (low[1] + high[1]) / 2;
    f->x_low = x - unit * (RIGHT - LEFT) / 2;
    f->x_high = x + unit * (RIGHT - LEFT) / 2;
    f->y_low = y - unit * (f->bottom - f->top) / 2;
    f->y_high = y + unit * (f->bottom - f->top) / 2;
}

static void draw_axes(swm_canvas *canvas, const frame *f, const swm_chart_panel *panel)
{
    char number[32];
    rectangle(canvas, LEFT, f->top, RIGHT, f->bottom, PANEL);
    double x_step = round_up((f->x_high - f->x_low) / (RIGHT - LEFT) * 76);
    double y_step = round_up((f->y_high - f->y_low) / (f->bottom - f->top) * 40);
    if (panel->map) x_step = y_step = round_up((f->x_high - f->x_low) / (RIGHT - LEFT) * 60);
    for (double i = ceil(f->x_low / x_step - 1e-6); i * x_step <= f->x_high + 1e-6 * x_step; i++) {
        const double x = crisp(page_x(f, i * x_step));
        segment(canvas, x, f->top, x, f->bottom, GRID);
        tick_text(number, i * x_step, x_step);
        text(canvas, x, f->bottom + 19, number, 13, SWM_ANCHOR_MIDDLE, LABEL);
    }
    for (double i = ceil(f->y_low / y_step - 1e-6); i * y_step <= f->y_high + 1e-6 * y_step; i++) {
        const double y = crisp(page_y(f, i * y_step));
        segment(canvas, LEFT, y, RIGHT, y, GRID);
        tick_text(number, i * y_step, y_step);
        text(canvas, LEFT - 9, y + 4.5, number, 13, SWM_ANCHOR_END, LABEL);
    }
    segment(canvas, LEFT, crisp(f->bottom), RIGHT, crisp(f->bottom), AXIS);
    segment(canvas, crisp(LEFT), f->top, crisp(LEFT), f->bottom, AXIS);
    text(canvas, RIGHT, f->bottom + 39, panel->x_name, 13, SWM_ANCHOR_END, LABEL);
    text(canvas, LEFT, f->top - 12, panel->title, 14, SWM_ANCHOR_START, TITLE);
}

/* Names on the right above the panel, the last one outermost. How wide letters come out in SVG is not known; the room
 * is that of wide ones. */
static void draw_legend(swm_canvas *canvas, const frame *f, const swm_chart_panel *panel)
{
    double x = RIGHT;
    for (int n = panel->count - 1; n >= 0; n--) {
        const swm_chart_series *s = &panel->series[n];
        if (s->name == NULL) continue;
        x -= 7.4 * (double)strlen(s->name) + 4;
        text(canvas, x, f->top - 12, s->name, 13, SWM_ANCHOR_START, LABEL);
        swm_canvas_disc(canvas, x - 11, f->top - 16.5, 4.5, (swm_ink){s->color, 1});
        x -= 30;
    }
}

static void draw_series(swm_canvas *canvas, const frame *f, const swm_chart_series *s)
{
    double points[MOST_POINTS + 2][2];
    const int64_t skip = swm_max(1, swm_divide_up(s->count, MOST_POINTS));
    const swm_ink ink = {s->color, 0.9};
    int count = 0;
    for (int64_t i = 0; i < s->count; i = i < s->count - 1 ? swm_min(i + skip, s->count - 1) : s->count) {
        const bool inside = drawn(s, i);
        if (inside) {
            points[count][0] = page_x(f, s->x[i]);
            points[count++][1] = page_y(f, s->y[i]);
            if (s->dots) swm_canvas_disc(canvas, points[count - 1][0], points[count - 1][1], 4.5, ink);
        }
        if (inside && i < s->count - 1) continue;
        /* A single point between gaps is no line. */
        if (!s->dots && count == 1) swm_canvas_disc(canvas, points[0][0], points[0][1], 3, ink);
        if (!s->dots && count > 1) swm_canvas_line(canvas, (const double(*)[2])points, count, 2, ink);
        count = 0;
    }
}

static int page_height(const swm_chart_panel *panels, int count)
{
    int height = HEADER;
    for (int i = 0; i < count; i++) height += (panels[i].map ? MAP_HEIGHT : CURVES_HEIGHT) + BETWEEN;
    return height - 24;
}

static void draw_page(swm_canvas *canvas, const char *title, const char *subtitle, const swm_chart_panel *panels,
                      int count)
{
    rectangle(canvas, 0, 0, WIDTH, page_height(panels, count), PAGE);
    swm_canvas_text(canvas, LEFT, 44, title, (swm_lettering){.size = 25, .bold = true}, TITLE);
    text(canvas, LEFT, 71, subtitle, 15, SWM_ANCHOR_START, LABEL);
    double top = HEADER + 12;
    for (int i = 0; i < count; i++) {
        frame f = {.top = top, .bottom = top + (panels[i].map ? MAP_HEIGHT : CURVES_HEIGHT)};
        fit(&f, &panels[i]);
        draw_axes(canvas, &f, &panels[i]);
        draw_legend(canvas, &f, &panels[i]);
        for (int n = 0; n < panels[i].count; n++) draw_series(canvas, &f, &panels[i].series[n]);
        top = f.bottom + BETWEEN;
    }
}

static int save_canvas(const char *path, swm_canvas *canvas, bool svg, swm_error *error)
{
    if (svg) {
        char *words = swm_canvas_svg_text(canvas, error);
        const int status = words == NULL ? -1 : swm_file_write(path, words, strlen(words), error);
        free(words);
        return status;
    }
    swm_image image;
    if (swm_canvas_image(canvas, &image, error) < 0) return -1;
    const int status = swm_image_save_png(path, &image, error);
    swm_image_free(&image);
    return status;
}

int swm_chart_save(const char *path, const char *title, const char *subtitle, const swm_chart_panel *panels, int count,
                   swm_error *error)
{
    const char *ending = strrchr(path, '.');
    const bool svg = ending != NULL && strcmp(ending, ".svg") == 0;
    if (!svg && (ending == NULL || strcmp(ending, ".png") != 0))
        return swm_fail(error, "%.300s: a plot's file must end in .svg or .png", path);
    SWM_REQUIRE(count >= 1 && count <= MOST_PANELS, "%d panels", count);
    const int height = page_height(panels, count);
    swm_canvas *canvas = svg ? swm_canvas_svg(WIDTH, height, error) : swm_canvas_pixels(WIDTH, height, error);
    if (canvas == NULL) return -1;
    draw_page(canvas, title, subtitle, panels, count);
    const int status = save_canvas(path, canvas, svg, error);
    swm_canvas_free(canvas);
    return status;
}
