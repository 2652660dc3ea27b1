/* How far a result may be from its golden, and why: one table for every model, file and compute type. */
#ifndef SWM_TOLERANCE_H
#define SWM_TOLERANCE_H

#include "core/base.h"

typedef enum swm_measure {
    SWM_EQUAL,    /* not one element differs; the bound is 0 */
    SWM_LARGEST,  /* largest absolute difference */
    SWM_RELATIVE, /* |got - want| / |want|, Euclidean */
    SWM_DECIBELS, /* at least so much peak signal-to-noise ratio of bytes */
} swm_measure;

typedef struct swm_tolerance {
    const char *kind, *tensor; /* fnmatch patterns of the kind of golden file and of the tensor's name */
    const char *stored;        /* fnmatch pattern of the golden's element type, e.g. "F16" */
    swm_measure measure;
    double f32, bf16; /* the bound for each compute type */
    const char *reason;
} swm_tolerance;

/* How far two vectors are apart. */
typedef struct swm_distance {
    double relative, largest, decibels;
    bool finite; /* everything was */
} swm_distance;
swm_distance swm_distance_of(const float *got, const float *want, int64_t count);

/* The first row of the table that fits. Every tensor has one: the last row fits anything. */
const swm_tolerance *swm_tolerance_find(const char *kind, const char *tensor, swm_dtype stored);
double swm_tolerance_bound(const swm_tolerance *tolerance, swm_dtype compute);
/* Distances that are not finite hold nowhere. */
bool swm_tolerance_holds(const swm_tolerance *tolerance, swm_dtype compute, const swm_distance *distance);
/* "l2 1e-04", "equal", "psnr 45" into a small buffer; returns the buffer. */
typedef struct swm_bound_text {
    char text[24];
} swm_bound_text;
swm_bound_text swm_tolerance_text(const swm_tolerance *tolerance, swm_dtype compute);

/* Rows by index, NULL behind the last. */
const swm_tolerance *swm_tolerance_at(size_t index);

#endif
