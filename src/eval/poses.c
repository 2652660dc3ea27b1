/* Errors between camera paths. See poses.h. */
#include "eval/poses.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double DEGREES = 180 / 3.14159265358979323846;

/* ---- paths ------------------------------------------------------------------------------------------------------ */

static int path_create(swm_eval_path *path, int64_t count, swm_error *error)
{
    *path = (swm_eval_path){0};
    path->c2w = swm_allocate(error, (size_t)count, 16 * sizeof(double));
    if (path->c2w == NULL) return -1;
    path->count = count;
    return 0;
}

void swm_eval_path_free(swm_eval_path *path)
{
    free(path->c2w);
    *path = (swm_eval_path){0};
}

int swm_eval_path_load(swm_eval_path *path, const char *file, const swm_path_reading *reading, swm_error *error)
{
    *path = (swm_eval_path){0};
    swm_path_reading poses = reading != NULL ? *reading : (swm_path_reading){0};
    poses.poses_only = true;
    swm_camera_path loaded;
    if (swm_camera_path_load(&loaded, file, &poses, error) < 0) return -1;
    path->count = loaded.count;
    path->c2w = loaded.c2w;
    loaded.c2w = NULL;
    swm_camera_path_free(&loaded);
    return 0;
}

void swm_eval_path_thin(swm_eval_path *path, int64_t first, int64_t step)
{
    int64_t kept = 0;
    for (int64_t i = first; i < path->count; i += step, kept++)
        memmove(path->c2w + 16 * kept, path->c2w + 16 * i, 16 * sizeof(double));
    path->count = kept;
}

/* ---- small matrices --------------------------------------------------------------------------------------------- */

static double determinant3(const double m[9])
{
    return m[0] * (m[4] * m[8] - m[5] * m[7]) - m[1] * (m[3] * m[8] - m[5] * m[6]) + m[2] * (m[3] * m[7] - m[4] * m[6]);
}

static double column_dot(const double m[9], int i, int j)
{
    return m[i] * m[j] + m[3 + i] * m[3 + j] + m[6 + i] * m[6 + j];
}

static void rotate_columns(double m[9], int i, int j, double c, double s)
{
    for (int k = 0; k < 9; k += 3) {
        const double x = m[k + i], y = m[k + j];
        m[k + i] = c * x - s * y;
        m[k + j] = s * x + c * y;
    }
}

/* One sweep of one-sided Jacobi: turn pairs of columns of w until they are orthogonal, and v along. True when no pair
 * was off by more than rounding. */
static bool jacobi_sweep(double w[9], double v[9])
{
    bool done = true;
    for (int i = 0; i < 2; i++)
        for (int j = i + 1; j < 3; j++) {
            const double aa = column_dot(w, i, i), bb = column_dot(w, j, j), ab = column_dot(w, i, j);
            if (fabs(ab) <= DBL_EPSILON * sqrt(aa) * sqrt(bb)) continue;
            const double zeta = (bb - aa) / (2 * ab);
            const double t = copysign(1, zeta) / (fabs(zeta) + hypot(1, zeta)), c = 1 / hypot(1, t);
            rotate_columns(w, i, j, c, c * t);
            rotate_columns(v, i, j, c, c * t);
            done = false;
        }
    return done;
}

static void swap_columns(double m[9], int i, int j)
{
    for (int k = 0; k < 9; k += 3) {
        const double x = m[k + i];
        m[k + i] = m[k + j];
        m[k + j] = x;
    }
}

/* A unit vector at right angles to columns 0 .. column-1 of u, which are orthonormal, into `column`. */
static void complete_column(double u[9], int column)
{
    double best[3] = {0, 0, 0}, longest = -1;
    for (int axis = 0; axis < 3; axis++) {
        double x[3] = {axis == 0, axis == 1, axis == 2};
        for (int c = 0; c < column; c++) {
            const double along = u[3 * axis + c];
            for (int k = 0; k < 3; k++) x[k] -= along * u[3 * k + c];
        }
        const double length = sqrt(x[0] * x[0] + x[1] * x[1] + x[2] * x[2]);
        if (length <= longest) continue;
        longest = length;
        for (int k = 0; k < 3; k++) best[k] = x[k] / length;
    }
    for (int k = 0; k < 3; k++) u[3 * k + column] = best[k];
}

void swm_svd3(double u[9], double sigma[3], double v[9], const double a[9])
{
    static const double identity[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
    double w[9], largest = 0;
    for (int i = 0; i < 9; i++) largest = fmax(largest, fabs(a[i]));
    memcpy(v, identity, sizeof identity);
    memcpy(u, identity, sizeof identity);
    sigma[0] = sigma[1] = sigma[2] = 0;
    if (largest == 0) return;
    /* Squares of very large or small numbers would leave the range of doubles. */
    for (int i = 0; i < 9; i++) w[i] = a[i] / largest;
    /* Converges within a handful of sweeps; the bound only guards against a pair that flickers at the last bit. */
    for (int sweep = 0; sweep < 40 && !jacobi_sweep(w, v); sweep++) {
    }
    for (int i = 0; i < 3; i++) sigma[i] = sqrt(column_dot(w, i, i));
    static const int order[3][2] = {{0, 1}, {1, 2}, {0, 1}};
    for (int i = 0; i < 3; i++) {
        const int p = order[i][0], q = order[i][1];
        if (sigma[p] >= sigma[q]) continue;
        const double s = sigma[p];
        sigma[p] = sigma[q];
        sigma[q] = s;
        swap_columns(w, p, q);
        swap_columns(v, p, q);
    }
    for (int i = 0; i < 3; i++) {
        if (sigma[i] > 8 * DBL_EPSILON * sigma[0]) {
            for (int k = 0; k < 9; k += 3) u[k + i] = w[k + i] / sigma[i];
        } else {
            complete_column(u, i);
            if (i == 2 && determinant3(u) * determinant3(v) < 0)
                for (int k = 0; k < 9; k += 3) u[k + i] = -u[k + i];
        }
    }
    for (int i = 0; i < 3; i++) sigma[i] *= largest;
}

/* out = a b^T for 3x3 matrices. */
static void multiply_transposed(double out[9], const double a[9], const double b[9])
{
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            out[3 * i + j] = a[3 * i] * b[3 * j] + a[3 * i + 1] * b[3 * j + 1] + a[3 * i + 2] * b[3 * j + 2];
}

double swm_rotation_angle(const double a[16], const double b[16])
{
    double m[9];
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) m[3 * i + j] = a[i] * b[j] + a[4 + i] * b[4 + j] + a[8 + i] * b[8 + j];
    const double cosine = (m[0] + m[4] + m[8] - 1) / 2;
    const double x = m[7] - m[5], y = m[2] - m[6], z = m[3] - m[1];
    const double sine = sqrt(x * x + y * y + z * z) / 2;
    /* acos alone turns a rounding error of 1e-16 near 1 into an angle of 1e-6 degrees, and one of float poses into
     * 0.03. Sine and cosine belong together only when both matrices are rotations. */
    if (fabs(cosine * cosine + sine * sine - 1) < 1e-5) return atan2(sine, cosine) * DEGREES;
    return acos(fmax(-1, fmin(1, cosine))) * DEGREES;
}

static double distance(const double a[16], const double b[16])
{
    const double x = a[3] - b[3], y = a[7] - b[7], z = a[11] - b[11];
    return sqrt(x * x + y * y + z * z);
}

/* Over the twelve numbers of the two 3x4 matrices. */
static double matrix_distance(const double a[16], const double b[16])
{
    double sum = 0;
    for (int i = 0; i < 12; i++) sum += (a[i] - b[i]) * (a[i] - b[i]);
    return sqrt(sum);
}

/* ---- alignment -------------------------------------------------------------------------------------------------- */

static void mean_point(double mean[3], const double (*points)[3], int64_t count)
{
    mean[0] = mean[1] = mean[2] = 0;
    for (int64_t i = 0; i < count; i++)
        for (int k = 0; k < 3; k++) mean[k] += points[i][k];
    for (int k = 0; k < 3; k++) mean[k] /= (double)count;
}

static void apply_rotation(double out[3], const double rotation[9], const double x[3])
{
    double r[3];
    for (int i = 0; i < 3; i++) r[i] = rotation[3 * i] * x[0] + rotation[3 * i + 1] * x[1] + rotation[3 * i + 2] * x[2];
    memcpy(out, r, sizeof r);
}

void swm_umeyama(swm_similarity *fit, const double (*from)[3], const double (*to)[3], int64_t count, bool with_scale)
{
    double from_mean[3], to_mean[3], covariance[9] = {0}, variance = 0, u[9], sigma[3], v[9];
    mean_point(from_mean, from, count);
    mean_point(to_mean, to, count);
    for (int64_t n = 0; n < count; n++)
        for (int i = 0; i < 3; i++) {
            const double x = from[n][i] - from_mean[i];
            variance += x * x;
            for (int j = 0; j < 3; j++) covariance[3 * j + i] += (to[n][j] - to_mean[j]) * x;
        }
    variance /= (double)count;
    for (int i = 0; i < 9; i++) covariance[i] /= (double)count;
    swm_svd3(u, sigma, v, covariance);
    fit->rank = 0;
    for (int i = 0; i < 3; i++) fit->rank += sigma[i] > fmax(DBL_EPSILON, 1e-12 * sigma[0]);
    if (determinant3(u) * determinant3(v) < 0) {
        for (int k = 2; k < 9; k += 3) u[k] = -u[k];
        sigma[2] = -sigma[2];
    }
    multiply_transposed(fit->rotation, u, v);
    fit->scale = with_scale && variance > 0 ? (sigma[0] + sigma[1] + sigma[2]) / variance : 1;
    apply_rotation(fit->translation, fit->rotation, from_mean);
    for (int k = 0; k < 3; k++) fit->translation[k] = to_mean[k] - fit->scale * fit->translation[k];
}

static void set_pose(double out[16], const double rotation[9], const double position[3])
{
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < 3; j++) out[4 * i + j] = rotation[3 * i + j];
        out[4 * i + 3] = position[i];
    }
    out[12] = out[13] = out[14] = 0;
    out[15] = 1;
}

/* The 3x3 part of a 4x4 matrix, and its transpose. */
static void rotation_of(double r[9], const double pose[16])
{
    for (int i = 0; i < 9; i++) r[i] = pose[4 * (i / 3) + i % 3];
}
static void transpose3(double out[9], const double m[9])
{
    for (int i = 0; i < 9; i++) out[i] = m[3 * (i % 3) + i / 3];
}

static void align_pose(double out[16], const swm_similarity *fit, const double pose[16])
{
    double r[9], transposed[9], product[9];
    rotation_of(r, pose);
    transpose3(transposed, r);
    multiply_transposed(product, fit->rotation, transposed);
    double position[3] = {fit->scale * pose[3], fit->scale * pose[7], fit->scale * pose[11]};
    apply_rotation(position, fit->rotation, position);
    for (int k = 0; k < 3; k++) position[k] += fit->translation[k];
    set_pose(out, product, position);
}

/* Poses seen from the first one, which becomes exactly the identity. The evaluators invert the first matrix as it is;
 * transposing its rotation would differ where that is not quite orthonormal. Positions are subtracted before they are
 * turned, so that a camera that stays put stays at exactly zero. */
static int relative_path(swm_eval_path *out, const swm_eval_path *path, swm_error *error)
{
    if (path_create(out, path->count, error) < 0) return -1;
    double m[9], inverse[9], product[9], r[9], transposed[9];
    rotation_of(m, path->c2w);
    const double determinant = determinant3(m);
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) {
            const int a = (j + 1) % 3, b = (j + 2) % 3, c = (i + 1) % 3, d = (i + 2) % 3;
            inverse[3 * i + j] = (m[3 * a + c] * m[3 * b + d] - m[3 * a + d] * m[3 * b + c]) / determinant;
        }
    for (int64_t n = 0; n < path->count; n++) {
        const double *pose = path->c2w + 16 * n;
        double position[3];
        for (int k = 0; k < 3; k++) position[k] = pose[4 * k + 3] - path->c2w[4 * k + 3];
        apply_rotation(position, inverse, position);
        rotation_of(r, pose);
        transpose3(transposed, r);
        multiply_transposed(product, inverse, transposed);
        set_pose(out->c2w + 16 * n, product, position);
    }
    for (int i = 0; i < 16; i++) out->c2w[i] = i % 5 == 0;
    return 0;
}

/* ---- SANA-WM ---------------------------------------------------------------------------------------------------- */

/* The world-to-camera translation -R^T c of a camera-to-world pose. */
static void inverse_translation(double t[3], const double pose[16])
{
    for (int i = 0; i < 3; i++) t[i] = -(pose[i] * pose[3] + pose[4 + i] * pose[7] + pose[8 + i] * pose[11]);
}

/* R t: the evaluator fits scale and shift to these, with EST's rotations for both paths. */
static void turned_back(double out[3], const double pose[16], const double t[3])
{
    for (int i = 0; i < 3; i++) out[i] = pose[4 * i] * t[0] + pose[4 * i + 1] * t[1] + pose[4 * i + 2] * t[2];
}

/* One scale and shift from EST's turned-back translations to GT's, by least squares over all coordinates. */
static void fit_scale_and_shift(double *scale, double shift[3], const swm_eval_path *est, const swm_eval_path *gt)
{
    double a_mean[3] = {0}, b_mean[3] = {0}, ab = 0, aa = 0;
    const double n = (double)est->count;
    for (int pass = 0; pass < 2; pass++)
        for (int64_t i = 0; i < est->count; i++) {
            double a[3], b[3], t[3];
            const double *pose = est->c2w + 16 * i;
            inverse_translation(t, pose);
            turned_back(a, pose, t);
            inverse_translation(t, gt->c2w + 16 * i);
            turned_back(b, pose, t);
            for (int k = 0; k < 3; k++) {
                if (pass == 0) {
                    a_mean[k] += a[k] / n;
                    b_mean[k] += b[k] / n;
                } else {
                    ab += (a[k] - a_mean[k]) * (b[k] - b_mean[k]) / (3 * n);
                    aa += (a[k] - a_mean[k]) * (a[k] - a_mean[k]) / (3 * n);
                }
            }
        }
    *scale = est->count > 1 ? ab / fmax(aa, 1e-9) : 1;
    for (int k = 0; k < 3; k++) shift[k] = b_mean[k] - *scale * a_mean[k];
}

/* EST as the evaluator aligns it: one rotation of the world from the mean of the relative rotations, not forced to be
 * proper, then scale and shift. `est` is relative to its first frame. */
static void align_as_sanawm(swm_pose_errors *errors, const swm_eval_path *est)
{
    const swm_eval_path *gt = &errors->commanded;
    double mean[9] = {0}, u[9], sigma[3], v[9], turn[9], shift[3];
    for (int64_t n = 0; n < est->count; n++) {
        double a[9], b[9], product[9];
        rotation_of(a, gt->c2w + 16 * n);
        rotation_of(b, est->c2w + 16 * n);
        multiply_transposed(product, a, b);
        for (int i = 0; i < 9; i++) mean[i] += product[i] / (double)est->count;
    }
    swm_svd3(u, sigma, v, mean);
    multiply_transposed(turn, u, v);
    errors->sanawm_mirrored = determinant3(turn) < 0;
    fit_scale_and_shift(&errors->sanawm_scale, shift, est, gt);
    for (int64_t n = 0; n < est->count; n++) {
        const double *pose = est->c2w + 16 * n;
        double r[9], transposed[9], rotation[9], t[3], position[3];
        rotation_of(r, pose);
        transpose3(transposed, r);
        multiply_transposed(rotation, turn, transposed);
        /* World to camera, the aligned translation is R^T shift + scale t; back from there to the camera's place. */
        inverse_translation(t, pose);
        for (int k = 0; k < 3; k++) t[k] = errors->sanawm_scale * t[k];
        for (int k = 0; k < 3; k++) t[k] += r[k] * shift[0] + r[3 + k] * shift[1] + r[6 + k] * shift[2];
        apply_rotation(position, rotation, t);
        for (int k = 0; k < 3; k++) position[k] = -position[k];
        set_pose(errors->aligned.c2w + 16 * n, rotation, position);
    }
}

/* ---- all errors ------------------------------------------------------------------------------------------------- */

static double *column(const swm_pose_errors *errors, int metric) { return errors->values + metric * errors->count; }

const double *swm_pose_errors_of(const swm_pose_errors *errors, int metric) { return column(errors, metric); }

/* Largest distance from the first camera, and the evaluators' guard against division by zero. */
static double reach(const swm_eval_path *path)
{
    double most = 0;
    for (int64_t n = 0; n < path->count; n++) most = fmax(most, distance(path->c2w + 16 * n, path->c2w));
    return most + 1e-9;
}

static void scaled_pose(double out[16], const double pose[16], double unit)
{
    memcpy(out, pose, 16 * sizeof(double));
    for (int k = 3; k < 12; k += 4) out[k] /= unit;
}

/* `est` is relative to its first frame. */
static void cameractrl_errors(swm_pose_errors *errors, const swm_eval_path *est)
{
    const swm_eval_path *gt = &errors->commanded;
    const double est_reach = reach(est), gt_reach = reach(gt);
    for (int64_t n = 0; n < errors->count; n++) {
        double a[16], b[16], c[16];
        scaled_pose(a, gt->c2w + 16 * n, gt_reach);
        scaled_pose(b, est->c2w + 16 * n, est_reach);
        scaled_pose(c, est->c2w + 16 * n, gt_reach);
        column(errors, SWM_CAMERACTRL_ROTATION)[n] = swm_rotation_angle(a, b) / DEGREES;
        column(errors, SWM_CAMERACTRL_TRANSLATION)[n] = distance(a, b);
        column(errors, SWM_CAMERACTRL_MOTION)[n] = matrix_distance(a, b);
        column(errors, SWM_CAMERACTRL_TRANSLATION_ABSOLUTE)[n] = distance(a, c);
        column(errors, SWM_CAMERACTRL_MOTION_ABSOLUTE)[n] = matrix_distance(a, c);
    }
}

static void sanawm_errors(swm_pose_errors *errors)
{
    for (int64_t n = 0; n < errors->count; n++) {
        const double *a = errors->commanded.c2w + 16 * n, *b = errors->aligned.c2w + 16 * n;
        column(errors, SWM_SANAWM_ROTATION)[n] = swm_rotation_angle(a, b);
        column(errors, SWM_SANAWM_TRANSLATION)[n] = distance(a, b);
        column(errors, SWM_SANAWM_MOTION)[n] = matrix_distance(a, b);
    }
}

static void fit_origin(swm_similarity *fit, const double est[16], const double gt[16])
{
    double inverse[16], product[16];
    swm_se3_inverse(inverse, est);
    swm_se3_multiply(product, gt, inverse);
    *fit = (swm_similarity){.scale = 1, .rank = 3};
    rotation_of(fit->rotation, product);
    for (int k = 0; k < 3; k++) fit->translation[k] = product[4 * k + 3];
}

static int fit_alignments(swm_similarity fits[SWM_ALIGN_COUNT], const swm_eval_path *est, const swm_eval_path *gt,
                          swm_error *error)
{
    double(*points)[3] = swm_allocate(error, (size_t)est->count, 6 * sizeof(double));
    if (points == NULL) return -1;
    double(*to)[3] = points + est->count;
    for (int64_t n = 0; n < est->count; n++)
        for (int k = 0; k < 3; k++) {
            points[n][k] = est->c2w[16 * n + 4 * k + 3];
            to[n][k] = gt->c2w[16 * n + 4 * k + 3];
        }
    fits[SWM_ALIGN_NONE] = (swm_similarity){{1, 0, 0, 0, 1, 0, 0, 0, 1}, {0, 0, 0}, 1, 3};
    fit_origin(&fits[SWM_ALIGN_ORIGIN], est->c2w, gt->c2w);
    swm_umeyama(&fits[SWM_ALIGN_RIGID], (const double(*)[3])points, (const double(*)[3])to, est->count, false);
    swm_umeyama(&fits[SWM_ALIGN_SIMILARITY], (const double(*)[3])points, (const double(*)[3])to, est->count, true);
    free(points);
    return 0;
}

/* The pose `to` as seen from `from`. */
static void relative_pose(double out[16], const double from[16], const double to[16])
{
    double inverse[16];
    swm_se3_inverse(inverse, from);
    swm_se3_multiply(out, inverse, to);
}

static void evo_errors(swm_pose_errors *errors, swm_alignment alignment, const swm_eval_path *est,
                       const swm_eval_path *gt)
{
    const swm_similarity *fit = &errors->alignment[alignment];
    double *values[SWM_EVO_KINDS];
    for (int k = 0; k < SWM_EVO_KINDS; k++) values[k] = column(errors, swm_evo_metric(alignment, (enum swm_evo_kind)k));
    double before[16] = {0};
    for (int64_t n = 0; n < errors->count; n++) {
        const double *target = gt->c2w + 16 * n;
        double pose[16], moved[16], commanded[16];
        align_pose(pose, fit, est->c2w + 16 * n);
        values[SWM_ATE_TRANSLATION][n] = distance(target, pose);
        values[SWM_ATE_ROTATION][n] = fit->rank >= 2 ? swm_rotation_angle(target, pose) : (double)NAN;
        values[SWM_RPE_TRANSLATION][n] = values[SWM_RPE_ROTATION][n] = (double)NAN;
        if (n % errors->delta != 0) continue;
        if (n > 0) {
            relative_pose(moved, before, pose);
            relative_pose(commanded, target - 16 * errors->delta, target);
            values[SWM_RPE_TRANSLATION][n] = distance(commanded, moved);
            values[SWM_RPE_ROTATION][n] = swm_rotation_angle(commanded, moved);
        }
        memcpy(before, pose, sizeof before);
    }
}

static int compute(swm_pose_errors *errors, const swm_eval_path *est, const swm_eval_path *gt, swm_error *error)
{
    errors->values = swm_allocate(error, (size_t)errors->count, SWM_POSE_METRICS * sizeof(double));
    if (errors->values == NULL || relative_path(&errors->commanded, gt, error) < 0 ||
        path_create(&errors->aligned, est->count, error) < 0 || fit_alignments(errors->alignment, est, gt, error) < 0)
        return -1;
    swm_eval_path est_relative;
    if (relative_path(&est_relative, est, error) < 0) return -1;
    align_as_sanawm(errors, &est_relative);
    sanawm_errors(errors);
    cameractrl_errors(errors, &est_relative);
    for (int a = 0; a < SWM_ALIGN_COUNT; a++) evo_errors(errors, (swm_alignment)a, est, gt);
    swm_eval_path_free(&est_relative);
    return 0;
}

int swm_pose_errors_compute(swm_pose_errors *errors, const swm_eval_path *est, const swm_eval_path *gt, int64_t delta,
                            swm_error *error)
{
    *errors = (swm_pose_errors){0};
    if (est->count != gt->count)
        return swm_fail(error,
                        "the measured path has %lld poses, the commanded one %lld; they must be of the same frames "
                        "(--interval N when only every Nth frame was measured)",
                        (long long)est->count, (long long)gt->count);
    if (est->count < 1) return swm_fail(error, "the camera paths are empty; at least one pose is needed");
    if (delta < 1) return swm_fail(error, "a step of %lld frames; it must be at least 1", (long long)delta);
    errors->count = est->count;
    errors->delta = delta;
    if (compute(errors, est, gt, error) == 0) return 0;
    swm_pose_errors_free(errors);
    return -1;
}

void swm_pose_errors_free(swm_pose_errors *errors)
{
    free(errors->values);
    swm_eval_path_free(&errors->aligned);
    swm_eval_path_free(&errors->commanded);
    *errors = (swm_pose_errors){0};
}

const char *swm_alignment_name(swm_alignment alignment)
{
    static const char *const names[SWM_ALIGN_COUNT] = {"none", "origin", "rigid", "similarity"};
    return names[alignment];
}

const char *swm_pose_metric_name(int metric)
{
    /* clang-format off */
    static const char *const names[SWM_POSE_METRICS] = {
        "sanawm_roterr_deg", "sanawm_transerr", "sanawm_cammc",
        "cameractrl_roterr_rad", "cameractrl_transerr", "cameractrl_cammc",
        "cameractrl_transerr_abs", "cameractrl_cammc_abs",
        "ate_none_trans", "ate_none_rot_deg", "rpe_none_trans", "rpe_none_rot_deg",
        "ate_origin_trans", "ate_origin_rot_deg", "rpe_origin_trans", "rpe_origin_rot_deg",
        "ate_rigid_trans", "ate_rigid_rot_deg", "rpe_rigid_trans", "rpe_rigid_rot_deg",
        "ate_similarity_trans", "ate_similarity_rot_deg", "rpe_similarity_trans", "rpe_similarity_rot_deg",
    };
    /* clang-format on */
    return names[metric];
}

/* ---- statistics ------------------------------------------------------------------------------------------------- */

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int swm_summarise(swm_summary *summary, const double *values, int64_t count, swm_error *error)
{
    const double none = (double)NAN;
    *summary = (swm_summary){0, none, none, none, none, none, none, none};
    double *sorted = swm_allocate(error, (size_t)swm_max(1, count), sizeof(double)), sum = 0, squares = 0, off = 0;
    if (sorted == NULL) return -1;
    int64_t n = 0;
    for (int64_t i = 0; i < count; i++) {
        if (isnan(values[i])) continue;
        sorted[n++] = values[i];
        sum += values[i];
        squares += values[i] * values[i];
    }
    if (n > 0) {
        const double mean = sum / (double)n;
        for (int64_t i = 0; i < n; i++) off += (sorted[i] - mean) * (sorted[i] - mean);
        qsort(sorted, (size_t)n, sizeof(double), compare_doubles);
        *summary = (swm_summary){.count = n,
                                 .mean = mean,
                                 .rmse = sqrt(squares / (double)n),
                                 .median = (sorted[(n - 1) / 2] + sorted[n / 2]) / 2,
                                 .deviation = sqrt(off / (double)n),
                                 .least = sorted[0],
                                 .greatest = sorted[n - 1],
                                 .sum = sum};
    }
    free(sorted);
    return 0;
}
