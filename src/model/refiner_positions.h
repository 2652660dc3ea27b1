/* Where the refiner's tokens are, as its rotary embedding sees it: seconds of the video, rows and columns of pixels.
 * Owned here: float32 in the order of the reference, whose last bits the fastest angles turn into visible phase. */
#ifndef SWM_REFINER_POSITIONS_H
#define SWM_REFINER_POSITIONS_H

#include "model/refiner.h"

/* Frames first .. first+frames-1 of a video with `fps` pictures a second, each of height x width cells. */
typedef struct swm_refiner_grid {
    int64_t first, frames, height, width;
    double fps;
} swm_refiner_grid;

/* Begin and end of cell `index` along axis 0, 1 or 2 of a grid. Frame 0 is one picture long, every other one eight. */
void swm_refiner_span(const swm_refiner_grid *grid, int axis, int64_t index, float span[2]);
/* The angles along an axis of a grid as a fresh table, (T,P,2), (h,P,2) or (w,P,2), P = C/6 frequencies. */
swm_tensor swm_refiner_angles(swm_backend *b, const swm_refiner_config *config, const swm_refiner_grid *grid, int axis);

#endif
