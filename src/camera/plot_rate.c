/* How fast paths move and turn, over time. See plot_internal.h. */
#include "camera/check.h"
#include "camera/plot_internal.h"

#include <math.h>

typedef double (*frame_measure)(const swm_poses *poses, int64_t i);

/* What one panel shows. */
typedef struct rate {
    frame_measure measure; /* from one frame to the next */
    const char *name;
    double least; /* the smallest full scale: rounding noise must not look like motion */
    double usual; /* a second; what the model knows at most */
    plot_colors single;
} rate;

/* One more point at either end takes the curve to the path's first and last frame, two more close the area below it. */
typedef struct curve {
    double points[PLOT_POINTS + 5][2];
    int count; /* without those */
} curve;

/* Means over groups of frames, in seconds and units a second; returns the highest. */
static double measure(const plot_page *g, const rate *r, int path, curve *c)
{
    const swm_poses *poses = g->paths[path].poses;
    const int64_t steps = poses->count - 1, group = swm_max(1, swm_divide_up(steps, PLOT_POINTS));
    double highest = 0;
    c->count = 0;
    for (int64_t i = 0; i < steps; i += group) {
        const int64_t n = swm_min(group, steps - i);
        double sum = 0;
        for (int64_t k = 0; k < n; k++) sum += r->measure(poses, i + k);
        c->points[1 + c->count][0] = ((double)i + (double)n / 2) / g->fps;
        c->points[1 + c->count][1] = sum / (double)n * g->fps;
        highest = fmax(highest, c->points[1 + c->count++][1]);
    }
    return highest;
}

static void draw_curve(const plot_page *g, const plot_panel *p, const rate *r, int path, curve *c)
{
    if (c->count == 0) return;
    const int n = c->count;
    double(*points)[2] = c->points;
    for (int i = 1; i <= n; i++) {
        points[i][0] = swm_plot_x(p, points[i][0]);
        points[i][1] = swm_plot_y(p, points[i][1]);
    }
    points[0][0] = p->left;
    points[0][1] = points[1][1];
    points[n + 1][0] = points[n + 2][0] = swm_plot_x(p, (double)(g->paths[path].poses->count - 1) / g->fps);
    points[n + 1][1] = points[n][1];
    points[n + 2][1] = points[n + 3][1] = p->bottom;
    points[n + 3][0] = p->left;
    const plot_colors colors = g->count == 1 ? r->single : swm_plot_colors(g, path);
    if (g->count == 1) swm_canvas_fill(g->canvas, (const double(*)[2])points, n + 4, (swm_ink){colors.end, 0.15});
    swm_canvas_line(g->canvas, (const double(*)[2])points, n + 2, 2.2 * g->scale, (swm_ink){colors.end, 1});
}

static void draw_usual(const plot_page *g, const plot_panel *p, double usual)
{
    const double s = g->scale, y = swm_plot_crisp(swm_plot_y(p, usual));
    for (double x = p->left; x < p->right; x += 9 * s)
        swm_plot_segment(g, x, y, fmin(x + 4.5 * s, p->right), y, 1.2 * s, (swm_ink){0xb5446e, 0.8});
    swm_plot_text(g, p->right - 6 * s, y - 6 * s, "usual at most", 11.5, SWM_ANCHOR_END, (swm_ink){0xb5446e, 1});
}

static void draw_rate(const plot_page *g, plot_panel p, const rate *r)
{
    double highest = 0;
    int64_t steps = 1;
    curve c;
    for (int path = 0; path < g->count; path++) {
        highest = fmax(highest, measure(g, r, path, &c));
        steps = swm_max(steps, g->paths[path].poses->count - 1);
    }
    p.x_low = 0;
    p.x_high = (double)steps / g->fps;
    p.y_low = 0;
    p.y_high = fmax(r->least, highest * 1.2);
    swm_plot_axes(g, &p, false, "time (s)", r->name);
    for (int path = 0; path < g->count; path++) {
        measure(g, r, path, &c);
        draw_curve(g, &p, r, path, &c);
    }
    if (r->usual * g->fps < p.y_high * 0.95) draw_usual(g, &p, r->usual * g->fps);
}

void swm_plot_speed(const plot_page *page, const plot_panel *panel)
{
    const rate r = {swm_camera_step, "Speed (units / s)", 0.01, swm_camera_limits_default().step, {0, 0x2f6dac, 0}};
    draw_rate(page, *panel, &r);
}

void swm_plot_rotation(const plot_page *page, const plot_panel *panel)
{
    const rate r = {swm_camera_turn, "Rotation (\xc2\xb0 / s)", 1, swm_camera_limits_default().turn, {0, 0xd07f3c, 0}};
    draw_rate(page, *panel, &r);
}
