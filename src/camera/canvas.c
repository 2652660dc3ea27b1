/* The two kinds of page: SVG text and an anti-aliased raster. See canvas.h. */
#include "camera/canvas.h"

#include "camera/font.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a kind of page must be able to do. */
typedef struct backend {
    void (*line)(swm_canvas *, const double (*)[2], int, double, swm_ink);
    void (*fill)(swm_canvas *, const double (*)[2], int, swm_ink);
    void (*disc)(swm_canvas *, double, double, double, swm_ink);
    void (*text)(swm_canvas *, double, double, const char *, swm_lettering, swm_ink);
} backend;

struct swm_canvas {
    const backend *backend;
    int width, height;
    swm_error error; /* the first failure while drawing */
    char *svg;       /* text so far */
    size_t svg_length, svg_capacity;
    swm_image image;
    float *coverage; /* (height,width) of the shape being drawn, 0 between shapes */
};

void swm_canvas_line(swm_canvas *canvas, const double (*points)[2], int count, double width, swm_ink ink)
{
    if (count > 0) canvas->backend->line(canvas, points, count, width, ink);
}

void swm_canvas_fill(swm_canvas *canvas, const double (*points)[2], int count, swm_ink ink)
{
    if (count > 2) canvas->backend->fill(canvas, points, count, ink);
}

void swm_canvas_disc(swm_canvas *canvas, double x, double y, double radius, swm_ink ink)
{
    canvas->backend->disc(canvas, x, y, radius, ink);
}

void swm_canvas_text(swm_canvas *canvas, double x, double y, const char *text, swm_lettering lettering, swm_ink ink)
{
    canvas->backend->text(canvas, x, y, text, lettering, ink);
}

void swm_canvas_free(swm_canvas *canvas)
{
    if (canvas == NULL) return;
    free(canvas->svg);
    free(canvas->coverage);
    swm_image_free(&canvas->image);
    free(canvas);
}

/* --- SVG --- */

static void append(swm_canvas *canvas, const char *text, size_t size)
{
    if (swm_failed(&canvas->error)) return;
    if (canvas->svg_length + size + 1 > canvas->svg_capacity) {
        const size_t capacity = 2 * (canvas->svg_length + size + 1);
        char *grown = realloc(canvas->svg, capacity);
        if (grown == NULL) {
            swm_fail(&canvas->error, "no memory for an SVG text of %zu bytes", capacity);
            return;
        }
        canvas->svg = grown;
        canvas->svg_capacity = capacity;
    }
    memcpy(canvas->svg + canvas->svg_length, text, size);
    canvas->svg_length += size;
    canvas->svg[canvas->svg_length] = '\0';
}

static void put(swm_canvas *canvas, const char *text) { append(canvas, text, strlen(text)); }

/* A number with two decimals, built from integers because the decimal point of printf is the locale's. */
static void put_number(swm_canvas *canvas, double value)
{
    char text[32];
    const long long hundredths = llround(fabs(fmax(-1e7, fmin(1e7, value))) * 100);
    snprintf(text, sizeof text, "%s%lld.%02lld", value < 0 && hundredths > 0 ? "-" : "", hundredths / 100,
             hundredths % 100);
    put(canvas, text);
}

static void put_attribute(swm_canvas *canvas, const char *name, double value)
{
    put(canvas, " ");
    put(canvas, name);
    put(canvas, "=\"");
    put_number(canvas, value);
    put(canvas, "\"");
}

static void put_ink(swm_canvas *canvas, const char *kind, swm_ink ink)
{
    char text[40];
    snprintf(text, sizeof text, " %s=\"#%06x\"", kind, (unsigned)(ink.color & 0xffffff));
    put(canvas, text);
    if (ink.opacity >= 1) return;
    snprintf(text, sizeof text, "%s-opacity", kind);
    put_attribute(canvas, text, ink.opacity);
}

/* Is a point so near to the straight line between two others that a reader cannot see it missing? */
static bool superfluous(const double before[2], const double point[2], const double after[2])
{
    const double dx = after[0] - before[0], dy = after[1] - before[1], length = hypot(dx, dy);
    const double x = point[0] - before[0], y = point[1] - before[1];
    if (length < 0.3) return hypot(x, y) < 0.3;
    const double along = (x * dx + y * dy) / length;
    return along >= 0 && along <= length && fabs(x * dy - y * dx) / length < 0.03;
}

/* Points that make no difference are left out, but not many in a row, over which small differences would add up. */
static void put_points(swm_canvas *canvas, const double (*points)[2], int count)
{
    put(canvas, " points=\"");
    int written = 0;
    for (int i = 0; i < count; i++) {
        if (i > 0 && i + 1 < count && i - written < 16 && superfluous(points[written], points[i], points[i + 1]))
            continue;
        written = i;
        if (i > 0) put(canvas, " ");
        put_number(canvas, points[i][0]);
        put(canvas, ",");
        put_number(canvas, points[i][1]);
    }
    put(canvas, "\"");
}

static void svg_line(swm_canvas *canvas, const double (*points)[2], int count, double width, swm_ink ink)
{
    put(canvas, "<polyline fill=\"none\" stroke-linecap=\"round\" stroke-linejoin=\"round\"");
    put_ink(canvas, "stroke", ink);
    put_attribute(canvas, "stroke-width", width);
    put_points(canvas, points, count);
    put(canvas, "/>\n");
}

static void svg_fill(swm_canvas *canvas, const double (*points)[2], int count, swm_ink ink)
{
    put(canvas, "<polygon fill-rule=\"evenodd\"");
    put_ink(canvas, "fill", ink);
    put_points(canvas, points, count);
    put(canvas, "/>\n");
}

static void svg_disc(swm_canvas *canvas, double x, double y, double radius, swm_ink ink)
{
    put(canvas, "<circle");
    put_attribute(canvas, "cx", x);
    put_attribute(canvas, "cy", y);
    put_attribute(canvas, "r", radius);
    put_ink(canvas, "fill", ink);
    put(canvas, "/>\n");
}

/* Bytes of the well-formed UTF-8 character at p (1 .. 4), 0 if there is none: an SVG with a stray byte, a surrogate or
 * a control character is not XML and no viewer opens it. */
static int xml_character(const uint8_t *p)
{
    if (p[0] >= 0x20 && p[0] < 0x7f) return 1;
    const int size = p[0] >= 0xc2 && p[0] < 0xe0   ? 2
                     : p[0] >= 0xe0 && p[0] < 0xf0 ? 3
                     : p[0] >= 0xf0 && p[0] < 0xf5 ? 4
                                                   : 0;
    for (int i = 1; i < size; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    if (p[0] == 0xc2 && p[1] < 0xa0) return 0;                                      /* C1 controls */
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xf0 && p[1] < 0x90)) return 0;   /* overlong */
    if ((p[0] == 0xed && p[1] >= 0xa0) || (p[0] == 0xf4 && p[1] >= 0x90)) return 0; /* surrogates, too large */
    if (p[0] == 0xef && p[1] == 0xbf && p[2] >= 0xbe) return 0;                     /* U+FFFE, U+FFFF */
    return size;
}

static void put_escaped(swm_canvas *canvas, const char *text)
{
    for (const char *p = text; *p != '\0';) {
        const int size = xml_character((const uint8_t *)p);
        if (*p == '<' || *p == '>' || *p == '&' || *p == '"')
            put(canvas, *p == '<' ? "&lt;" : *p == '>' ? "&gt;" : *p == '&' ? "&amp;" : "&quot;");
        else if (size > 0)
            append(canvas, p, (size_t)size);
        else
            put(canvas, "?");
        p += size > 0 ? size : 1;
    }
}

static void svg_text(swm_canvas *canvas, double x, double y, const char *text, swm_lettering lettering, swm_ink ink)
{
    static const char *const anchors[] = {"start", "middle", "end"};
    put(canvas, "<text text-anchor=\"");
    put(canvas, anchors[lettering.anchor]);
    put(canvas, lettering.bold ? "\" font-weight=\"600\"" : "\"");
    put_attribute(canvas, "font-size", lettering.size);
    put_ink(canvas, "fill", ink);
    put(canvas, " transform=\"translate(");
    put_number(canvas, x);
    put(canvas, " ");
    put_number(canvas, y);
    put(canvas, lettering.upwards ? ") rotate(-90)\">" : ")\">");
    put_escaped(canvas, text);
    put(canvas, "</text>\n");
}

static const backend SVG = {svg_line, svg_fill, svg_disc, svg_text};

static swm_canvas *make(const backend *kind, int width, int height, swm_error *error)
{
    if (width < 1 || width > 16384 || height < 1 || height > 16384) {
        swm_fail(error, "a plot of %dx%d pixels; sides must lie in 1 .. 16384", width, height);
        return NULL;
    }
    swm_canvas *canvas = swm_allocate(error, 1, sizeof *canvas);
    if (canvas == NULL) return NULL;
    canvas->backend = kind;
    canvas->width = width;
    canvas->height = height;
    return canvas;
}

swm_canvas *swm_canvas_svg(int width, int height, swm_error *error)
{
    swm_canvas *canvas = make(&SVG, width, height, error);
    if (canvas == NULL) return NULL;
    char text[400];
    snprintf(text, sizeof text,
             "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" "
             "font-family=\"Inter, 'Helvetica Neue', Helvetica, Arial, sans-serif\">\n"
             "<rect width=\"%d\" height=\"%d\" fill=\"#ffffff\"/>\n",
             width, height, width, height, width, height);
    put(canvas, text);
    return canvas;
}

char *swm_canvas_svg_text(swm_canvas *canvas, swm_error *error)
{
    SWM_REQUIRE(canvas->backend == &SVG, "SVG text of a page of pixels");
    if (swm_failed(&canvas->error)) {
        swm_fail(error, "%s", canvas->error.text);
        return NULL;
    }
    return swm_format(error, "%s</svg>\n", canvas->svg);
}

/* --- pixels --- */

/* A rectangle of pixels, right and bottom exclusive. */
typedef struct box {
    int left, top, right, bottom;
} box;

static int clamp_to_int(double value, int low, int high)
{
    return value <= low ? low : value >= high ? high : (int)value;
}

static box box_around(const swm_canvas *canvas, double left, double top, double right, double bottom)
{
    return (box){clamp_to_int(floor(left), 0, canvas->width), clamp_to_int(floor(top), 0, canvas->height),
                 clamp_to_int(ceil(right), 0, canvas->width), clamp_to_int(ceil(bottom), 0, canvas->height)};
}

static box box_of_points(const swm_canvas *canvas, const double (*points)[2], int count, double margin)
{
    double left = points[0][0], right = left, top = points[0][1], bottom = top;
    for (int i = 1; i < count; i++) {
        left = fmin(left, points[i][0]);
        right = fmax(right, points[i][0]);
        top = fmin(top, points[i][1]);
        bottom = fmax(bottom, points[i][1]);
    }
    return box_around(canvas, left - margin, top - margin, right + margin, bottom + margin);
}

/* Blend the ink in by the coverage collected inside the box, and clear it for the next shape. Collecting first keeps
 * overlapping parts of one translucent line from adding up. */
static void blend(swm_canvas *canvas, box area, swm_ink ink)
{
    const double channel[3] = {ink.color >> 16 & 0xff, ink.color >> 8 & 0xff, ink.color & 0xff};
    for (int y = area.top; y < area.bottom; y++)
        for (int x = area.left; x < area.right; x++) {
            const size_t at = (size_t)y * (size_t)canvas->width + (size_t)x;
            const double alpha = fmin(1, (double)canvas->coverage[at]) * ink.opacity;
            canvas->coverage[at] = 0;
            if (alpha <= 0) continue;
            uint8_t *pixel = canvas->image.rgb + 3 * at;
            for (int i = 0; i < 3; i++) pixel[i] = (uint8_t)lround(pixel[i] + (channel[i] - pixel[i]) * alpha);
        }
}

/* Cover the pixels within `radius` of a segment; the edge falls off over one pixel. */
static void cover_segment(swm_canvas *canvas, const double a[2], const double b[2], double radius, double strength)
{
    const double margin = radius + 1, dx = b[0] - a[0], dy = b[1] - a[1], length = dx * dx + dy * dy;
    const box area = box_around(canvas, fmin(a[0], b[0]) - margin, fmin(a[1], b[1]) - margin, fmax(a[0], b[0]) + margin,
                                fmax(a[1], b[1]) + margin);
    for (int y = area.top; y < area.bottom; y++)
        for (int x = area.left; x < area.right; x++) {
            const double px = x + 0.5 - a[0], py = y + 0.5 - a[1];
            const double along = length > 0 ? fmax(0, fmin(1, (px * dx + py * dy) / length)) : 0;
            const double distance = hypot(px - along * dx, py - along * dy);
            const float covered = (float)(fmax(0, fmin(1, radius + 0.5 - distance)) * strength);
            float *coverage = canvas->coverage + (size_t)y * (size_t)canvas->width + (size_t)x;
            if (covered > *coverage) *coverage = covered;
        }
}

static void cover_line(swm_canvas *canvas, const double (*points)[2], int count, double width)
{
    /* Lines thinner than a pixel become paler, not thinner. */
    const double radius = fmax(width, 1) / 2, strength = fmin(width, 1);
    cover_segment(canvas, points[0], points[count > 1 ? 1 : 0], radius, strength);
    for (int i = 1; i + 1 < count; i++) cover_segment(canvas, points[i], points[i + 1], radius, strength);
}

static void pixels_line(swm_canvas *canvas, const double (*points)[2], int count, double width, swm_ink ink)
{
    cover_line(canvas, points, count, width);
    blend(canvas, box_of_points(canvas, points, count, width + 2), ink);
}

static void pixels_disc(swm_canvas *canvas, double x, double y, double radius, swm_ink ink)
{
    const double centre[1][2] = {{x, y}};
    pixels_line(canvas, centre, 1, 2 * radius, ink);
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Cover a row's pixels between two abscissae, partial pixels in part. */
static void cover_span(float *row, int width, double left, double right, float strength)
{
    left = fmax(left, 0);
    right = fmin(right, width);
    for (int x = (int)left; x < right; x++) row[x] += strength * (float)fmax(0, fmin(right, x + 1.0) - fmax(left, x));
}

static void pixels_fill(swm_canvas *canvas, const double (*points)[2], int count, swm_ink ink)
{
    enum { LINES = 4 }; /* sample lines a row of pixels */
    double *crossings = swm_allocate(&canvas->error, (size_t)count, sizeof *crossings);
    if (crossings == NULL) return;
    const box area = box_of_points(canvas, points, count, 1);
    for (int line = area.top * LINES; line < area.bottom * LINES; line++) {
        const double y = (line + 0.5) / LINES;
        size_t n = 0;
        for (int i = 0; i < count; i++) {
            const double *a = points[i], *b = points[(i + 1) % count];
            if ((a[1] <= y) != (b[1] <= y)) crossings[n++] = a[0] + (y - a[1]) / (b[1] - a[1]) * (b[0] - a[0]);
        }
        qsort(crossings, n, sizeof *crossings, ascending);
        float *row = canvas->coverage + (size_t)(line / LINES) * (size_t)canvas->width;
        for (size_t i = 0; i + 1 < n; i += 2)
            cover_span(row, canvas->width, crossings[i], crossings[i + 1], 1.0f / LINES);
    }
    free(crossings);
    blend(canvas, area, ink);
}

/* Where the strokes of a line of text go. */
typedef struct text_place {
    swm_canvas *canvas;
    double x, y, width;
    bool upwards;
} text_place;

static void cover_stroke(void *user, const double (*points)[2], int count)
{
    const text_place *place = user;
    double on_page[128][2];
    const int n = count < 128 ? count : 128;
    for (int i = 0; i < n; i++) {
        const double x = points[i][0], y = points[i][1];
        on_page[i][0] = place->x + (place->upwards ? -y : x);
        on_page[i][1] = place->y + (place->upwards ? -x : -y);
    }
    cover_line(place->canvas, (const double(*)[2])on_page, n, place->width);
}

static void pixels_text(swm_canvas *canvas, double x, double y, const char *text, swm_lettering lettering, swm_ink ink)
{
    const double length = swm_font_draw(text, lettering.size, NULL, NULL);
    const double before = lettering.anchor == SWM_ANCHOR_START    ? 0
                          : lettering.anchor == SWM_ANCHOR_MIDDLE ? length / 2
                                                                  : length;
    const double thickness = lettering.size * (lettering.bold ? 0.115 : 0.085), margin = 0.4 * lettering.size + 2;
    text_place place = {canvas, x, y, thickness, lettering.upwards};
    *(lettering.upwards ? &place.y : &place.x) += lettering.upwards ? before : -before;
    swm_font_draw(text, lettering.size, cover_stroke, &place);
    const double far_end[2] = {place.x + (lettering.upwards ? 0 : length), place.y - (lettering.upwards ? length : 0)};
    const double ends[2][2] = {{place.x, place.y}, {far_end[0], far_end[1]}};
    blend(canvas, box_of_points(canvas, ends, 2, lettering.size + margin), ink);
}

static const backend PIXELS = {pixels_line, pixels_fill, pixels_disc, pixels_text};

swm_canvas *swm_canvas_pixels(int width, int height, swm_error *error)
{
    swm_canvas *canvas = make(&PIXELS, width, height, error);
    if (canvas == NULL) return NULL;
    const size_t pixels = (size_t)width * (size_t)height;
    canvas->coverage = swm_allocate(error, pixels, sizeof(float));
    if (canvas->coverage == NULL || swm_image_make(&canvas->image, width, height, error) < 0) {
        swm_canvas_free(canvas);
        return NULL;
    }
    memset(canvas->image.rgb, 0xff, 3 * pixels);
    return canvas;
}

int swm_canvas_image(swm_canvas *canvas, swm_image *image, swm_error *error)
{
    SWM_REQUIRE(canvas->backend == &PIXELS, "pixels of an SVG page");
    *image = (swm_image){0};
    if (swm_failed(&canvas->error)) return swm_fail(error, "%s", canvas->error.text);
    *image = canvas->image;
    canvas->image = (swm_image){0};
    return 0;
}
