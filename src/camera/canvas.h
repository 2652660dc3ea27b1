/* A page for plots, described once and produced as pixels or as SVG text. Owns the page under construction; knows
 * nothing about cameras. Coordinates are pixels, x right, y down, pixel centres at .5. Failures (no memory) are kept
 * until the page is finished, so that drawing code needs no checks. */
#ifndef SWM_CANVAS_H
#define SWM_CANVAS_H

#include "io/image.h"

typedef struct swm_canvas swm_canvas;

typedef struct swm_ink {
    uint32_t color; /* 0xRRGGBB */
    double opacity; /* 0 .. 1 */
} swm_ink;

typedef enum swm_anchor { SWM_ANCHOR_START, SWM_ANCHOR_MIDDLE, SWM_ANCHOR_END } swm_anchor;

typedef struct swm_lettering {
    double size; /* em in pixels; capitals are about 0.72 of it high */
    swm_anchor anchor;
    bool bold;
    bool upwards; /* turned to read from the bottom to the top */
} swm_lettering;

/* A white page; NULL without memory. Sides of 1 .. 16384 pixels. */
swm_canvas *swm_canvas_pixels(int width, int height, swm_error *error);
swm_canvas *swm_canvas_svg(int width, int height, swm_error *error);
void swm_canvas_free(swm_canvas *canvas);

/* Line through `count` points with round joints and ends. */
void swm_canvas_line(swm_canvas *canvas, const double (*points)[2], int count, double width, swm_ink ink);
/* Even-odd filled polygon, closed by itself. */
void swm_canvas_fill(swm_canvas *canvas, const double (*points)[2], int count, swm_ink ink);
void swm_canvas_disc(swm_canvas *canvas, double x, double y, double radius, swm_ink ink);
/* One line of UTF-8 text with its baseline at (x, y). */
void swm_canvas_text(swm_canvas *canvas, double x, double y, const char *text, swm_lettering lettering, swm_ink ink);

/* The finished page, from the canvas of the fitting kind. The picture is the caller's (swm_image_free), the text is
 * freed with free(). The canvas stays to be freed. */
int swm_canvas_image(swm_canvas *canvas, swm_image *image, swm_error *error);
char *swm_canvas_svg_text(swm_canvas *canvas, swm_error *error);

#endif
