/* Camera paths for a terminal: from above in braille dots, with the direction of view in arrows, and speed and rotation
 * over time in blocks. Plain UTF-8 text without colours or control sequences. */
#ifndef SWM_SKETCH_H
#define SWM_SKETCH_H

#include "camera/plot.h"

typedef struct swm_sketch_options {
    double fps;        /* frames a second, > 0; 0: 16 */
    int columns, rows; /* characters, 24 .. 400 and 8 .. 200; 0: 80 and 30 */
} swm_sketch_options;

/* Lines of text, each ended by a newline; free with free(). NULL on failure. The picture is `columns` wide, the lines of
 * numbers below it may be wider where that is little. One path shows its views as arrows, of several each shows its
 * number. Options may be NULL. */
char *swm_sketch(const swm_plot_path *paths, int count, const swm_sketch_options *options, swm_error *error);

#endif
