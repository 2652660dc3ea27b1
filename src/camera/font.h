/* A small stroke font for raster plots: glyphs are lines and arcs, so they stay clean at any size. Printable ASCII and
 * the signs for degree, middle dot and times. Owns no pixels. */
#ifndef SWM_FONT_H
#define SWM_FONT_H

#include "core/base.h"

/* Called for each stroke of a glyph: `count` points, y upwards from the baseline, in pixels. */
typedef void (*swm_font_stroke)(void *user, const double (*points)[2], int count);

/* Draw one line of UTF-8 text with its left end at the origin and return its width in pixels; `size` is the em, the
 * capitals are 0.72 of it high. `stroke` may be NULL to measure only. Unknown characters become a small box. */
double swm_font_draw(const char *text, double size, swm_font_stroke stroke, void *user);

#endif
