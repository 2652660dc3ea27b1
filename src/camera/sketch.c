/* Draws paths into a grid of characters. See sketch.h. */
#include "camera/sketch.h"

#include "camera/check.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A grid of characters, each 2 dots wide and 4 high; a terminal's characters are twice as high as wide, so that dots are
 * square. */
typedef struct grid {
    int columns, rows;
    uint8_t *dots;          /* (rows,columns) bits of braille */
    const char **signs;     /* (rows,columns) characters that stand there instead, NULL for none */
    double unit, left, top; /* units a dot; the world's x and z at the upper left corner */
} grid;

typedef struct text {
    char *bytes;
    size_t size, capacity;
} text;

/* The text has been given its capacity for everything that will be put. */
static void put(text *t, const char *words)
{
    const size_t n = strlen(words);
    SWM_REQUIRE(t->size + n < t->capacity, "sketch of more than %zu bytes", t->capacity);
    memcpy(t->bytes + t->size, words, n + 1);
    t->size += n;
}

static void put_times(text *t, const char *words, int times)
{
    for (int i = 0; i < times; i++) put(t, words);
}

/* Bits of the dots in Unicode's order: [row][column]. */
static const uint8_t BRAILLE[4][2] = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};

static void put_braille(text *t, uint8_t dots)
{
    const char bytes[4] = {(char)0xe2, (char)(0xa0 | dots >> 6), (char)(0x80 | (dots & 0x3f)), '\0'};
    put(t, dots != 0 ? bytes : " ");
}

static const float *pose_at(const swm_poses *poses, int64_t i) { return poses->c2w + 16 * i; }

static void fit(grid *g, const swm_plot_path *paths, int count)
{
    double low[2] = {INFINITY, INFINITY}, high[2] = {-INFINITY, -INFINITY};
    for (int path = 0; path < count; path++)
        for (int64_t i = 0; i < paths[path].poses->count; i++)
            for (int k = 0; k < 2; k++) {
                const double value = (double)pose_at(paths[path].poses, i)[k == 0 ? 3 : 11];
                low[k] = fmin(low[k], value);
                high[k] = fmax(high[k], value);
            }
    const int across = 2 * g->columns, down = 4 * g->rows;
    const double largest = fmax(1, fmax(fmax(fabs(low[0]), fabs(high[0])), fmax(fabs(low[1]), fabs(high[1]))));
    /* Two characters are left free all around, for the arrows at the rim. */
    g->unit = fmax((high[0] - low[0]) / (across - 8), (high[1] - low[1]) / (down - 12));
    if (g->unit * down < 1e-6 * largest) g->unit = fmax(1, 1e-3 * largest) / down;
    g->left = (low[0] + high[0]) / 2 - g->unit * across / 2;
    g->top = (low[1] + high[1]) / 2 + g->unit * down / 2;
}

/* The dot of a place, clamped to the grid: rounding can put the rim one dot outside. */
static void dot_of(const grid *g, const float *pose, int at[2])
{
    const double x = ((double)pose[3] - g->left) / g->unit, y = (g->top - (double)pose[11]) / g->unit;
    at[0] = (int)fmax(0, fmin(2 * g->columns - 1, x));
    at[1] = (int)fmax(0, fmin(4 * g->rows - 1, y));
}

static void draw_line(grid *g, const int from[2], const int to[2])
{
    const int dx = to[0] - from[0], dy = to[1] - from[1], n = abs(dx) > abs(dy) ? abs(dx) : abs(dy);
    for (int i = 0; i <= n; i++) {
        const int x = from[0] + (n > 0 ? (int)lround((double)dx * i / n) : 0);
        const int y = from[1] + (n > 0 ? (int)lround((double)dy * i / n) : 0);
        g->dots[y / 4 * g->columns + x / 2] |= BRAILLE[y % 4][x % 2];
    }
}

static void set_sign(grid *g, const int at[2], const char *sign)
{
    g->signs[at[1] / 4 * g->columns + at[0] / 2] = sign;
}

static void draw_path(grid *g, const swm_poses *poses)
{
    int before[2], at[2];
    dot_of(g, poses->c2w, before);
    for (int64_t i = 0; i < poses->count; i++) {
        dot_of(g, pose_at(poses, i), at);
        draw_line(g, before, at);
        memcpy(before, at, sizeof before);
    }
}

/* Which way the camera of that frame looks, from above. */
static const char *arrow(const float *pose)
{
    static const char *const arrows[8] = {"\xe2\x86\x91", "\xe2\x86\x97", "\xe2\x86\x92", "\xe2\x86\x98",
                                          "\xe2\x86\x93", "\xe2\x86\x99", "\xe2\x86\x90", "\xe2\x86\x96"};
    const double turn = atan2((double)pose[2], (double)pose[10]) / (3.14159265358979323846 / 4);
    return arrows[((int)lround(turn) + 8) % 8];
}

static void draw_signs(grid *g, const swm_plot_path *paths, int count)
{
    static const char *const numbers[SWM_PLOT_MOST_PATHS] = {"1", "2", "3", "4", "5", "6", "7", "8"};
    int at[2];
    for (int path = 0; path < count; path++) {
        const swm_poses *poses = paths[path].poses;
        const int64_t every = swm_max(1, (poses->count - 1) / 12);
        for (int64_t i = 0; i < poses->count && count == 1; i += every) {
            dot_of(g, pose_at(poses, i), at);
            set_sign(g, at, arrow(pose_at(poses, i)));
        }
        dot_of(g, pose_at(poses, poses->count - 1), at);
        set_sign(g, at, count == 1 ? "\xe2\x96\xa0" : numbers[path]);
    }
    for (int path = 0; path < count; path++) {
        dot_of(g, paths[path].poses->c2w, at);
        set_sign(g, at, "\xe2\x97\x8f");
    }
}

static void put_grid(text *t, const grid *g)
{
    char ruler[96];
    put(t, "\xe2\x94\x8c");
    put_times(t, "\xe2\x94\x80", g->columns);
    put(t, "\xe2\x94\x90\n");
    for (int row = 0; row < g->rows; row++) {
        put(t, "\xe2\x94\x82");
        for (int i = row * g->columns; i < (row + 1) * g->columns; i++)
            if (g->signs[i] != NULL)
                put(t, g->signs[i]);
            else
                put_braille(t, g->dots[i]);
        put(t, "\xe2\x94\x82\n");
    }
    /* A ruler of a round length in the lower rim: the largest of 1, 2, 5 x 10^n that fits a third of it. */
    const double most = g->unit * 2 * g->columns / 3, power = pow(10, floor(log10(most)));
    const double length = (most / power >= 5 ? 5 : most / power >= 2 ? 2 : 1) * power;
    const int marks = (int)lround(length / g->unit / 2);
    const int written = snprintf(ruler, sizeof ruler, " %g unit%s ", length, length == 1 ? "" : "s");
    put(t, "\xe2\x94\x94\xe2\x94\x80\xe2\x95\xb6");
    put_times(t, "\xe2\x94\x81", marks);
    put(t, "\xe2\x95\xb4");
    /* Columns left to the corner: the rim, the two ends of the ruler and its words are taken. */
    const int left = g->columns - 3 - marks - written;
    if (left >= 0) put(t, ruler);
    put_times(t, "\xe2\x94\x80", left >= 0 ? left : g->columns - 3 - marks);
    put(t, "\xe2\x94\x98\n");
}

typedef double (*frame_measure)(const swm_poses *poses, int64_t i);

/* A row of blocks, the highest value of each group of frames. */
static void put_curve(text *t, const char *name, const char *unit, const swm_poses *poses, frame_measure measure,
                      double fps, double least, int columns)
{
    static const char *const blocks[9] = {" ",
                                          "\xe2\x96\x81",
                                          "\xe2\x96\x82",
                                          "\xe2\x96\x83",
                                          "\xe2\x96\x84",
                                          "\xe2\x96\x85",
                                          "\xe2\x96\x86",
                                          "\xe2\x96\x87",
                                          "\xe2\x96\x88"};
    const int64_t steps = poses->count - 1;
    const int width = (int)swm_min(swm_max(columns - 34, 8), steps);
    double most = 0;
    for (int64_t i = 0; i < steps; i++) most = fmax(most, measure(poses, i) * fps);
    char words[64];
    snprintf(words, sizeof words, "%-9s", name);
    put(t, words);
    for (int column = 0; column < width; column++) {
        double highest = 0;
        for (int64_t i = steps * column / width; i < steps * (column + 1) / width; i++)
            highest = fmax(highest, measure(poses, i) * fps);
        put(t, blocks[(int)fmax(0, fmin(8, ceil(highest / fmax(most, least) * 8 - 1e-6)))]);
    }
    snprintf(words, sizeof words, " at most %.3g %s\n", most, unit);
    put(t, words);
}

static void put_legend(text *t, const swm_plot_path *paths, int count, const swm_sketch_options *o)
{
    char line[200];
    for (int i = 0; i < count; i++) {
        const swm_camera_measures m = swm_camera_measure(paths[i].poses);
        char name[25] = "";
        /* Bytes of a name, not its characters, are counted here, so only plain ones are taken. */
        for (size_t k = 0; paths[i].name != NULL && paths[i].name[k] != '\0' && k < sizeof name - 1; k++)
            name[k] = paths[i].name[k] >= ' ' && paths[i].name[k] < 0x7f ? paths[i].name[k] : '?';
        if (count > 1)
            snprintf(line, sizeof line, "%d %-.24s  %lld frames, %.2f units, %.0f degrees\n", i + 1, name,
                     (long long)m.frames, m.length, m.turned);
        else
            snprintf(line, sizeof line, "%lld frames, %.1f s, %.2f units, %.0f degrees\n", (long long)m.frames,
                     (double)m.frames / o->fps, m.length, m.turned);
        put(t, line);
        if (count > 1) continue;
        put_curve(t, "speed", "units/s", paths[i].poses, swm_camera_step, o->fps, 0.01, o->columns);
        put_curve(t, "rotation", "degrees/s", paths[i].poses, swm_camera_turn, o->fps, 1, o->columns);
    }
}

static int check(const swm_plot_path *paths, int count, const swm_sketch_options *o, swm_error *error)
{
    if (count < 1 || count > SWM_PLOT_MOST_PATHS)
        return swm_fail(error, "a sketch of %d paths; it shows 1 to %d", count, SWM_PLOT_MOST_PATHS);
    if (o->columns < 24 || o->columns > 400 || o->rows < 8 || o->rows > 200)
        return swm_fail(error, "a sketch of %dx%d characters; it must have 24 .. 400 by 8 .. 200", o->columns, o->rows);
    if (!(o->fps > 0 && o->fps <= 1e6))
        return swm_fail(error, "a sketch at %g frames a second; it must be positive", o->fps);
    for (int i = 0; i < count; i++)
        if (swm_poses_check(paths[i].poses, error) < 0) return -1;
    return 0;
}

char *swm_sketch(const swm_plot_path *paths, int count, const swm_sketch_options *options, swm_error *error)
{
    swm_sketch_options o = options != NULL ? *options : (swm_sketch_options){0};
    if (o.fps == 0) o.fps = 16;
    if (o.columns == 0) o.columns = 80;
    if (o.rows == 0) o.rows = 30;
    if (check(paths, count, &o, error) < 0) return NULL;
    const int below = count == 1 ? 3 : count, rows = o.rows - 2 - below > 4 ? o.rows - 2 - below : 4;
    grid g = {.columns = o.columns - 2, .rows = rows};
    const size_t cells = (size_t)g.columns * (size_t)g.rows;
    /* Every character has at most 3 bytes; the rim and the lines below are counted generously. */
    text t = {.capacity = 3 * (cells + 4 * (size_t)o.columns + 2 * (size_t)rows) + 256 * (size_t)(below + 4)};
    g.dots = swm_allocate(error, cells, 1);
    g.signs = swm_allocate(error, cells, sizeof *g.signs);
    t.bytes = swm_allocate(error, t.capacity, 1);
    if (g.dots != NULL && g.signs != NULL && t.bytes != NULL) {
        fit(&g, paths, count);
        for (int i = 0; i < count; i++) draw_path(&g, paths[i].poses);
        draw_signs(&g, paths, count);
        put_grid(&t, &g);
        put_legend(&t, paths, count, &o);
    } else {
        free(t.bytes);
        t.bytes = NULL;
    }
    free(g.dots);
    free(g.signs);
    return t.bytes;
}
