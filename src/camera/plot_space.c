/* Paths in space: a picture in perspective with the cameras' views, the ground below, and the path's shadow on it. See
 * plot_internal.h. */
#include "camera/plot_internal.h"
#include "camera/preset.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FRUSTA = 256, GRID_LINES = 64 };

/* The view: where from, and how its picture lies on the page. */
typedef struct scene {
    double low[3], high[3];                      /* the box that holds all paths */
    double size;                                 /* of that box, at least a little */
    double reach;                                /* how far the cameras' views are drawn */
    double ground, left, right, near, far, step; /* the ground's height (y), sides and grid */
    double from_view[16], to_view[16];
    double zoom, x, y; /* page = zoom * picture + (x, y) */
} scene;

static void project(const void *user, const double point[3], double on_page[2])
{
    const scene *s = user;
    double p[3];
    for (int i = 0; i < 3; i++)
        p[i] = s->to_view[4 * i] * point[0] + s->to_view[4 * i + 1] * point[1] + s->to_view[4 * i + 2] * point[2] +
               s->to_view[4 * i + 3];
    on_page[0] = s->x + s->zoom * p[0] / p[2];
    on_page[1] = s->y + s->zoom * p[1] / p[2];
}

static void project_shadow(const void *user, const double point[3], double on_page[2])
{
    const scene *s = user;
    project(user, (const double[3]){point[0], s->ground, point[2]}, on_page);
}

static void enclose(const plot_page *g, scene *s)
{
    for (int k = 0; k < 3; k++) s->low[k] = INFINITY, s->high[k] = -INFINITY;
    for (int path = 0; path < g->count; path++)
        for (int64_t i = 0; i < g->paths[path].poses->count; i++)
            for (int k = 0; k < 3; k++) {
                const double value = (double)swm_plot_pose(g, path, i)[4 * k + 3];
                s->low[k] = fmin(s->low[k], value);
                s->high[k] = fmax(s->high[k], value);
            }
    double largest = 1, sum = 0;
    for (int k = 0; k < 3; k++) {
        largest = fmax(largest, fmax(fabs(s->low[k]), fabs(s->high[k])));
        sum += (s->high[k] - s->low[k]) * (s->high[k] - s->low[k]);
    }
    s->size = sqrt(sum);
    if (s->size < 1e-6 * largest) s->size = fmax(0.5, 1e-3 * largest);
    s->reach = (g->count == 1 ? 0.13 : 0.085) * s->size;
}

static void lay_ground(scene *s)
{
    const double margin = 0.10 * s->size;
    s->step = swm_plot_round_up(s->size / 9);
    s->ground = s->high[1] + 0.15 * s->size;
    s->left = floor((s->low[0] - margin) / s->step) * s->step;
    s->right = ceil((s->high[0] + margin) / s->step) * s->step;
    s->near = floor((s->low[2] - margin) / s->step) * s->step;
    s->far = ceil((s->high[2] + margin) / s->step) * s->step;
}

/* Look from behind, the right and above at the middle, and fill the panel. */
static void set_view(const plot_page *g, const plot_panel *p, scene *s)
{
    const double azimuth = 0.62, elevation = 0.62,
                 away = 2.4 * fmax(s->size, hypot(s->right - s->left, s->far - s->near) / 2);
    const double middle[3] = {(s->left + s->right) / 2, (s->low[1] + s->ground) / 2, (s->near + s->far) / 2};
    const double eye[3] = {middle[0] + away * sin(azimuth) * cos(elevation), middle[1] - away * sin(elevation),
                           middle[2] - away * cos(azimuth) * cos(elevation)};
    swm_pose_look_at(s->from_view, eye, middle);
    swm_se3_inverse(s->to_view, s->from_view);
    s->zoom = 1;
    s->x = s->y = 0;
    double low[2] = {INFINITY, INFINITY}, high[2] = {-INFINITY, -INFINITY};
    const double top = s->low[1] - 0.6 * s->reach;
    for (int corner = 0; corner < 8; corner++) {
        const double point[3] = {corner & 1 ? s->left : s->right, corner & 2 ? s->ground : top,
                                 corner & 4 ? s->near : s->far};
        double at[2];
        project(s, point, at);
        /* The upper corners of the ground's box are empty; only the cameras' own box must fit. */
        if ((corner & 2) == 0) {
            const double inner[3] = {corner & 1 ? s->low[0] : s->high[0], top, corner & 4 ? s->low[2] : s->high[2]};
            project(s, inner, at);
        }
        for (int k = 0; k < 2; k++) {
            low[k] = fmin(low[k], at[k]);
            high[k] = fmax(high[k], at[k]);
        }
    }
    const double margin = 26 * g->scale, legend = g->count > 1 ? (14 + 21 * g->count) * g->scale : 0;
    const double width = p->right - p->left - 2 * margin,
                 height = fmax(40 * g->scale, p->bottom - p->top - 2 * margin - legend);
    s->zoom = fmin(width / (high[0] - low[0]), height / (high[1] - low[1]));
    s->x = (p->left + p->right) / 2 - s->zoom * (low[0] + high[0]) / 2;
    s->y = (p->top + legend + p->bottom) / 2 - s->zoom * (low[1] + high[1]) / 2;
}

static void draw_edge(const plot_page *g, const scene *s, const double a[3], const double b[3], double width,
                      swm_ink ink)
{
    double ends[2][2];
    project(s, a, ends[0]);
    project(s, b, ends[1]);
    swm_canvas_line(g->canvas, (const double(*)[2])ends, 2, width * g->scale, ink);
}

static void draw_ground(const plot_page *g, const plot_panel *p, const scene *s)
{
    const double corners[4][3] = {{s->left, s->ground, s->near},
                                  {s->right, s->ground, s->near},
                                  {s->right, s->ground, s->far},
                                  {s->left, s->ground, s->far}};
    double floor_points[4][2];
    for (int i = 0; i < 4; i++) project(s, corners[i], floor_points[i]);
    swm_canvas_fill(g->canvas, (const double(*)[2])floor_points, 4, (swm_ink){0xf3f5f8, 1});
    const swm_ink ink = {0xdbe0e7, 1}, origin = {0xb4bcc8, 1};
    const int across = (int)fmin(GRID_LINES, round((s->right - s->left) / s->step));
    const int along = (int)fmin(GRID_LINES, round((s->far - s->near) / s->step));
    for (int i = 0; i <= across; i++) {
        const double x = s->left + i * s->step;
        draw_edge(g, s, (const double[3]){x, s->ground, s->near}, (const double[3]){x, s->ground, s->far}, 1,
                  fabs(x) < 1e-6 * s->step ? origin : ink);
    }
    for (int i = 0; i <= along; i++) {
        const double z = s->near + i * s->step;
        draw_edge(g, s, (const double[3]){s->left, s->ground, z}, (const double[3]){s->right, s->ground, z}, 1,
                  fabs(z) < 1e-6 * s->step ? origin : ink);
    }
    char words[64];
    snprintf(words, sizeof words, "grid %g unit%s", s->step, s->step == 1 ? "" : "s");
    swm_plot_text(g, p->right - 14 * g->scale, p->bottom - 14 * g->scale, words, 12.5, SWM_ANCHOR_END, PLOT_LABEL);
}

/* Three arrows in the corner: where x, y and z point. Parallel, not in perspective. */
static void draw_directions(const plot_page *g, const plot_panel *p, const scene *s)
{
    static const uint32_t colors[3] = {0xc44e52, 0x3f8f4f, 0x2f6dac};
    static const char *const names[3] = {"x", "y", "z"};
    const double length = 34 * g->scale, origin[2] = {p->left + 54 * g->scale, p->bottom - 62 * g->scale};
    for (int i = 0; i < 3; i++) {
        const double dx = s->to_view[i], dy = s->to_view[4 + i];
        const double tip[2] = {origin[0] + length * dx, origin[1] + length * dy};
        const swm_ink ink = {colors[i], 1};
        swm_plot_segment(g, origin[0], origin[1], tip[0], tip[1], 2 * g->scale, ink);
        const double norm = fmax(1e-9, hypot(dx, dy)), ux = dx / norm, uy = dy / norm, head = 5.5 * g->scale;
        const double arrow[3][2] = {{tip[0] + head * ux, tip[1] + head * uy},
                                    {tip[0] - head * uy * 0.7, tip[1] + head * ux * 0.7},
                                    {tip[0] + head * uy * 0.7, tip[1] - head * ux * 0.7}};
        swm_canvas_fill(g->canvas, arrow, 3, ink);
        swm_plot_text(g, tip[0] + 15 * g->scale * ux, tip[1] + 15 * g->scale * uy + 4 * g->scale, names[i], 13,
                      SWM_ANCHOR_MIDDLE, ink);
    }
}

/* --- the cameras' views --- */

typedef struct frustum {
    double distance; /* from the eye, for the order of drawing */
    int path;
    int64_t frame;
} frustum;

static int farther_first(const void *a, const void *b)
{
    const double x = ((const frustum *)a)->distance, y = ((const frustum *)b)->distance;
    return x > y ? -1 : x < y;
}

static void draw_frustum(const plot_page *g, const scene *s, const frustum *f)
{
    const float *m = swm_plot_pose(g, f->path, f->frame);
    const double depth = s->reach, half_width = 0.56 * depth, half_height = half_width * 9 / 16;
    const double tip[3] = {(double)m[3], (double)m[7], (double)m[11]};
    double corners[4][3], rim[5][2], apex[2];
    project(s, tip, apex);
    for (int i = 0; i < 4; i++) {
        const double x = i == 0 || i == 3 ? -half_width : half_width, y = i < 2 ? -half_height : half_height;
        for (int k = 0; k < 3; k++)
            corners[i][k] = tip[k] + x * (double)m[4 * k] + y * (double)m[4 * k + 1] + depth * (double)m[4 * k + 2];
        project(s, corners[i], rim[i]);
    }
    memcpy(rim[4], rim[0], sizeof rim[4]);
    const swm_ink edge = {swm_plot_colors(g, f->path).camera, 0.85}, thin = {edge.color, 0.5};
    swm_canvas_fill(g->canvas, (const double(*)[2])rim, 4, (swm_ink){edge.color, 0.16});
    for (int i = 0; i < 4; i++) swm_plot_segment(g, apex[0], apex[1], rim[i][0], rim[i][1], 1 * g->scale, thin);
    swm_canvas_line(g->canvas, (const double(*)[2])rim, 5, 1.2 * g->scale, edge);
    /* The upper edge is stronger: it tells up from down. */
    swm_canvas_line(g->canvas, (const double(*)[2])rim, 2, 2.4 * g->scale, edge);
}

static void draw_frusta(const plot_page *g, const scene *s)
{
    frustum frusta[FRUSTA];
    int count = 0;
    for (int path = 0; path < g->count; path++)
        for (int64_t i = 0; i < g->paths[path].poses->count && count < FRUSTA; i += swm_plot_every(g, path)) {
            const float *m = swm_plot_pose(g, path, i);
            double sum = 0;
            for (int k = 0; k < 3; k++) sum += pow((double)m[4 * k + 3] - s->from_view[4 * k + 3], 2);
            frusta[count++] = (frustum){sum, path, i};
        }
    qsort(frusta, (size_t)count, sizeof frusta[0], farther_first);
    for (int i = 0; i < count; i++) {
        const float *m = swm_plot_pose(g, frusta[i].path, frusta[i].frame);
        const double at[3] = {(double)m[3], (double)m[7], (double)m[11]};
        draw_edge(g, s, at, (const double[3]){at[0], s->ground, at[2]}, 1, (swm_ink){0x9aa4b2, 0.45});
    }
    for (int i = 0; i < count; i++) draw_frustum(g, s, &frusta[i]);
}

void swm_plot_space(const plot_page *g, const plot_panel *p)
{
    scene s = {.zoom = 1};
    plot_line line;
    enclose(g, &s);
    lay_ground(&s);
    set_view(g, p, &s);
    swm_plot_rectangle(g, p->left, p->top, p->right, p->bottom, PLOT_PANEL);
    draw_ground(g, p, &s);
    for (int path = 0; path < g->count; path++) {
        swm_plot_project(g, path, project_shadow, &s, &line);
        swm_canvas_line(g->canvas, (const double(*)[2])line.points, line.count, 2.4 * g->scale,
                        (swm_ink){0x7b8694, 0.30});
    }
    draw_frusta(g, &s);
    for (int path = 0; path < g->count; path++) {
        swm_plot_project(g, path, project, &s, &line);
        swm_plot_stroke(g, path, &line, 3.2);
        const double *first = line.points[0], *last = line.points[line.count - 1];
        swm_plot_marker(g, last[0], last[1], (swm_ink){swm_plot_colors(g, path).end, 1});
        swm_plot_marker(g, first[0], first[1], PLOT_START);
    }
    draw_directions(g, p, &s);
}
