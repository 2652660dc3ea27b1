/* A page of curves over each other: measurements frame by frame, and paths from above. Owns the layout; pages are
 * canvas.h's. */
#ifndef SWM_EVAL_CHART_H
#define SWM_EVAL_CHART_H

#include "core/base.h"

typedef struct swm_chart_series {
    const char *name;    /* in the legend; NULL: not named there */
    const double *x, *y; /* (count); where one is no finite number, the curve is broken */
    int64_t count;
    uint32_t color; /* 0xRRGGBB */
    bool dots;      /* points instead of a line */
} swm_chart_series;

typedef struct swm_chart_panel {
    const char *title, *x_name; /* UTF-8, one line each */
    const swm_chart_series *series;
    int count;
    bool map;       /* one scale for both axes, and a taller panel */
    bool from_zero; /* the y axis starts at 0; values below are not drawn */
} swm_chart_panel;

/* Panels below each other, to a file by its ending: .svg or .png. One to eight panels. */
int swm_chart_save(const char *path, const char *title, const char *subtitle, const swm_chart_panel *panels, int count,
                   swm_error *error);

#endif
