/* How far one camera path is from another: the errors of SANA-WM's evaluator, those of the CameraCtrl line of papers
 * and evo's, frame by frame. Owns the definitions and the loading in double precision; what is printed is the caller's.
 *
 * EST is the path that was measured (estimated from a video), GT the one that was commanded. Both are camera-to-world
 * matrices, (count,4,4) row-major, OpenCV axes, in the units of GT. docs/evaluation.md writes every formula out. */
#ifndef SWM_EVAL_POSES_H
#define SWM_EVAL_POSES_H

#include "camera/formats.h"

/* A camera path in double precision: errors near zero would drown in the rounding of floats. */
typedef struct swm_eval_path {
    int64_t count;
    double *c2w; /* (count,4,4), owned */
} swm_eval_path;

/* From any format of camera/formats.h; .npy, .npz and JSON keep all their digits. `reading` says what the file does
 * not; NULL takes it at its word. Refuses what swm_poses_check refuses, naming file and frame. On failure *path is {0}. */
int swm_eval_path_load(swm_eval_path *path, const char *file, const swm_path_reading *reading, swm_error *error);
/* Keep poses first, first + step, ... in place. `first` 0 .. count-1, step >= 1. */
void swm_eval_path_thin(swm_eval_path *path, int64_t first, int64_t step);
void swm_eval_path_free(swm_eval_path *path); /* safe on {0} and twice */

/* x -> scale * rotation x + translation. */
typedef struct swm_similarity {
    double rotation[9], translation[3], scale;
    int rank; /* directions that the data fix, 0 .. 3; below 2 the rotation is one of many */
} swm_similarity;

/* A = U diag(sigma) V^T with orthogonal U and V, sigma descending and not negative; row-major, all finite. Where A has
 * lost rank (sigma[2] below rounding) det(U) = det(V), so that U V^T is a rotation. */
void swm_svd3(double u[9], double sigma[3], double v[9], const double a[9]);
/* The rotation (never a reflection), shift and, if asked for, scale that bring the points `from` nearest to `to` in the
 * mean square (Umeyama 1991, as in evo). count >= 1. Data of rank 1 or 0 still give a best fit, with one of the equally
 * good rotations; points `from` that coincide keep scale 1. */
void swm_umeyama(swm_similarity *fit, const double (*from)[3], const double (*to)[3], int64_t count, bool with_scale);
/* Degrees between two rotations, the 3x3 parts of two 4x4 matrices: acos((tr(A^T B) - 1) / 2), computed so that small
 * angles keep their digits. Where one of the two is a reflection it is that formula with the cosine clamped. */
double swm_rotation_angle(const double a[16], const double b[16]);

/* How EST is brought over GT before evo's errors are taken. */
typedef enum swm_alignment {
    SWM_ALIGN_NONE,
    SWM_ALIGN_ORIGIN,     /* the first poses are made equal: evo --align_origin */
    SWM_ALIGN_RIGID,      /* Umeyama: evo --align */
    SWM_ALIGN_SIMILARITY, /* Umeyama with scale: evo --align --correct_scale */
    SWM_ALIGN_COUNT
} swm_alignment;
const char *swm_alignment_name(swm_alignment alignment); /* "none", "origin", "rigid", "similarity" */

/* Every metric has one value a frame; NaN where it has none. */
enum swm_pose_metric {
    SWM_SANAWM_ROTATION,                 /* degrees; SANA-WM's RotErr is the mean */
    SWM_SANAWM_TRANSLATION,              /* units; TransErr is the mean */
    SWM_SANAWM_MOTION,                   /* CamMC is the mean */
    SWM_CAMERACTRL_ROTATION,             /* radians; CameraCtrl's RotErr is the sum */
    SWM_CAMERACTRL_TRANSLATION,          /* in parts of each path's own reach; the sum */
    SWM_CAMERACTRL_MOTION,               /* the same for all 12 numbers of the pose; the sum */
    SWM_CAMERACTRL_TRANSLATION_ABSOLUTE, /* both paths in parts of GT's reach; the sum */
    SWM_CAMERACTRL_MOTION_ABSOLUTE,
    SWM_EVO_METRICS /* from here on SWM_EVO_KINDS for every alignment */
};
enum swm_evo_kind {
    SWM_ATE_TRANSLATION, /* units */
    SWM_ATE_ROTATION,    /* degrees; NaN when the alignment's rank is below 2 */
    SWM_RPE_TRANSLATION, /* units, between a frame and the one `delta` before; frames that end no pair are NaN */
    SWM_RPE_ROTATION,    /* degrees */
    SWM_EVO_KINDS
};
enum { SWM_POSE_METRICS = SWM_EVO_METRICS + SWM_ALIGN_COUNT * SWM_EVO_KINDS };
static inline int swm_evo_metric(swm_alignment alignment, enum swm_evo_kind kind)
{
    return SWM_EVO_METRICS + (int)alignment * SWM_EVO_KINDS + (int)kind;
}
/* "sanawm_roterr_deg", ..., "rpe_similarity_rot_deg": the heads of the table. */
const char *swm_pose_metric_name(int metric);

typedef struct swm_pose_errors {
    int64_t count, delta;
    double *values;                            /* (SWM_POSE_METRICS, count), owned */
    swm_eval_path commanded;                   /* GT seen from its first pose */
    swm_eval_path aligned;                     /* EST as SANA-WM's evaluator aligns it to that */
    swm_similarity alignment[SWM_ALIGN_COUNT]; /* EST to GT; rank 3 where nothing was fitted */
    double sanawm_scale;                       /* of SANA-WM's alignment */
    bool sanawm_mirrored;                      /* that alignment is a reflection: the paths have little in common */
} swm_pose_errors;

/* All metrics. The paths must have the same number of frames; `delta` >= 1 is the RPE's step in frames, taken from
 * frame 0 on without overlap, as evo does by default. On failure *errors is {0}. */
int swm_pose_errors_compute(swm_pose_errors *errors, const swm_eval_path *est, const swm_eval_path *gt, int64_t delta,
                            swm_error *error);
void swm_pose_errors_free(swm_pose_errors *errors);                          /* safe on {0} and twice */
const double *swm_pose_errors_of(const swm_pose_errors *errors, int metric); /* (count) */

/* Statistics of the values that are numbers; all NaN when there is none. The deviation is the population's, the median
 * of an even number is the middle of the two. */
typedef struct swm_summary {
    int64_t count;
    double mean, rmse, median, deviation, least, greatest, sum;
} swm_summary;
int swm_summarise(swm_summary *summary, const double *values, int64_t count, swm_error *error);

#endif
