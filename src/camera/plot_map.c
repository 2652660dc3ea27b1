/* Paths from above and from the side: maps with one scale in both directions. See plot_internal.h. */
#include "camera/plot_internal.h"

#include <math.h>

/* Which world coordinate runs to the right and which upwards, and the latter's sign: height is against y. */
typedef struct map {
    plot_panel panel;
    int right, up;
    double sign;
} map;

static void project(const void *user, const double point[3], double on_page[2])
{
    const map *m = user;
    on_page[0] = swm_plot_x(&m->panel, point[m->right]);
    on_page[1] = swm_plot_y(&m->panel, m->sign * point[m->up]);
}

/* Choose the ranges so that all paths fit and a unit is as long upwards as across. */
static void fit(const plot_page *g, map *m)
{
    plot_panel *p = &m->panel;
    double low[2] = {INFINITY, INFINITY}, high[2] = {-INFINITY, -INFINITY};
    for (int path = 0; path < g->count; path++)
        for (int64_t i = 0; i < g->paths[path].poses->count; i++)
            for (int k = 0; k < 2; k++) {
                const float *pose = swm_plot_pose(g, path, i);
                const double value = k == 0 ? (double)pose[4 * m->right + 3] : m->sign * (double)pose[4 * m->up + 3];
                low[k] = fmin(low[k], value);
                high[k] = fmax(high[k], value);
            }
    const double margin = 30 * g->scale; /* room for camera symbols at the rim */
    const double across = p->right - p->left - 2 * margin, up = p->bottom - p->top - 2 * margin;
    double unit = fmax((high[0] - low[0]) / across, (high[1] - low[1]) / fmax(up, 8)); /* per pixel */
    const double largest = fmax(fmax(fabs(low[0]), fabs(high[0])), fmax(fabs(low[1]), fabs(high[1])));
    /* A camera that stays put, but for the rounding of its numbers, is shown amid one unit of space. */
    if (unit * across < 1e-6 * fmax(1, largest)) unit = fmax(1, 1e-3 * largest) / across;
    const double x = (low[0] + high[0]) / 2, y = (low[1] + high[1]) / 2;
    p->x_low = x - unit * (p->right - p->left) / 2;
    p->x_high = x + unit * (p->right - p->left) / 2;
    p->y_low = y - unit * (p->bottom - p->top) / 2;
    p->y_high = y + unit * (p->bottom - p->top) / 2;
}

/* A camera as a triangle that opens the way it looks, shorter when it looks towards or away from the reader. Its width
 * stays across the way it looks, so that it never shows edge-on. */
static void draw_camera(const plot_page *g, const map *m, int path, int64_t frame)
{
    const float *pose = swm_plot_pose(g, path, frame);
    const double depth = 19 * g->scale, half = 9 * g->scale;
    double at[2];
    project(m, (const double[3]){(double)pose[3], (double)pose[7], (double)pose[11]}, at);
    const double ahead[2] = {(double)pose[4 * m->right + 2], -m->sign * (double)pose[4 * m->up + 2]};
    const double length = hypot(ahead[0], ahead[1]);
    const double across[2] = {length > 0 ? -ahead[1] / length : 1, length > 0 ? ahead[0] / length : 0};
    double corners[4][2] = {{at[0], at[1]}, {0, 0}, {0, 0}, {at[0], at[1]}};
    for (int i = 1; i <= 2; i++)
        for (int k = 0; k < 2; k++) corners[i][k] = at[k] + depth * ahead[k] + (i == 1 ? half : -half) * across[k];
    const uint32_t color = swm_plot_colors(g, path).camera;
    swm_canvas_fill(g->canvas, (const double(*)[2])corners, 3, (swm_ink){color, 0.18});
    swm_canvas_line(g->canvas, (const double(*)[2])corners, 4, 1.1 * g->scale, (swm_ink){color, 0.9});
}

static void draw_map(const plot_page *g, map *m, const char *x_name, const char *y_name)
{
    fit(g, m);
    swm_plot_axes(g, &m->panel, true, x_name, y_name);
    for (int path = 0; path < g->count; path++)
        for (int64_t i = 0; i < g->paths[path].poses->count; i += swm_plot_every(g, path)) draw_camera(g, m, path, i);
    for (int path = 0; path < g->count; path++) {
        plot_line line;
        swm_plot_project(g, path, project, m, &line);
        swm_plot_stroke(g, path, &line, 2.8);
        const double *first = line.points[0], *last = line.points[line.count - 1];
        swm_plot_marker(g, last[0], last[1], (swm_ink){swm_plot_colors(g, path).end, 1});
        swm_plot_marker(g, first[0], first[1], PLOT_START);
    }
}

void swm_plot_top(const plot_page *page, const plot_panel *panel)
{
    map m = {.panel = *panel, .right = 0, .up = 2, .sign = 1};
    draw_map(page, &m, "x, to the right (units)", "From above: z, ahead (units)");
}

void swm_plot_side(const plot_page *page, const plot_panel *panel)
{
    map m = {.panel = *panel, .right = 2, .up = 1, .sign = -1};
    draw_map(page, &m, "z, ahead (units)", "From the right: height (units)");
}
