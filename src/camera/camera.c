/* Pose and intrinsics arithmetic and the model's camera tensors. See camera.h. */
#include "camera/camera.h"

#include "core/tensor.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double PI = 3.14159265358979323846;

/* --- containers --- */

int swm_poses_create(swm_poses *poses, int64_t count, swm_error *error)
{
    *poses = (swm_poses){0};
    if (count < 1) return swm_fail(error, "a camera path of %lld poses; it needs at least one", (long long)count);
    poses->c2w = swm_allocate(error, (size_t)count, 16 * sizeof(float));
    if (poses->c2w == NULL) return -1;
    poses->count = count;
    return 0;
}

void swm_poses_free(swm_poses *poses)
{
    free(poses->c2w);
    *poses = (swm_poses){0};
}

int swm_intrinsics_create(swm_intrinsics *intrinsics, int64_t count, swm_error *error)
{
    *intrinsics = (swm_intrinsics){0};
    if (count < 1) return swm_fail(error, "intrinsics for %lld frames; at least one is needed", (long long)count);
    intrinsics->values = swm_allocate(error, (size_t)count, 4 * sizeof(float));
    if (intrinsics->values == NULL) return -1;
    intrinsics->count = count;
    return 0;
}

void swm_intrinsics_free(swm_intrinsics *intrinsics)
{
    free(intrinsics->values);
    *intrinsics = (swm_intrinsics){0};
}

/* "(3,4)" for messages; ranks beyond a tensor's are cut short. */
static swm_shape_text shape_text(int rank, const int64_t *shape)
{
    if (rank < 1) return (swm_shape_text){"()"};
    return swm_describe(swm_tensor_make(SWM_F64, NULL, rank < SWM_MAX_RANK ? rank : SWM_MAX_RANK, shape));
}

/* --- poses --- */

int swm_poses_from_array(swm_poses *poses, int rank, const int64_t *shape, const double *values, swm_error *error)
{
    *poses = (swm_poses){0};
    if (rank != 3 || shape[1] != 4 || shape[2] != 4 || shape[0] < 1)
        return swm_fail(error, "camera path has shape %s; expected (frames,4,4) camera-to-world matrices",
                        shape_text(rank, shape).text);
    if (swm_poses_create(poses, shape[0], error) < 0) return -1;
    for (int64_t i = 0; i < 16 * poses->count; i++) poses->c2w[i] = (float)values[i];
    return 0;
}

double swm_se3_deviation(const double pose[16])
{
    double worst = 0;
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) {
            double dot = i == j ? -1 : 0;
            for (int k = 0; k < 3; k++) dot += pose[4 * i + k] * pose[4 * j + k];
            worst = fmax(worst, fabs(dot));
        }
    return worst;
}

double swm_se3_determinant(const double p[16])
{
    return p[0] * (p[5] * p[10] - p[6] * p[9]) - p[1] * (p[4] * p[10] - p[6] * p[8]) +
           p[2] * (p[4] * p[9] - p[5] * p[8]);
}

int swm_se3_check_form(const double p[16], int64_t frame, swm_error *error)
{
    const long long n = (long long)frame;
    for (int i = 0; i < 16; i++)
        if (!isfinite(p[i]))
            return swm_fail(error, "pose of frame %lld holds %g in row %d, column %d; repair the camera path", n, p[i],
                            i / 4, i % 4);
    if (fabs(p[12]) > 1e-6 || fabs(p[13]) > 1e-6 || fabs(p[14]) > 1e-6 || fabs(p[15] - 1) > 1e-6)
        return swm_fail(error,
                        "pose of frame %lld has the bottom row %g %g %g %g instead of 0 0 0 1; a matrix stored by "
                        "columns must be transposed",
                        n, p[12], p[13], p[14], p[15]);
    return 0;
}

static int check_pose(const double p[16], int64_t frame, swm_error *error)
{
    const long long n = (long long)frame;
    if (swm_se3_check_form(p, frame, error) != 0) return -1;
    const double deviation = swm_se3_deviation(p);
    if (deviation > 1e-3)
        return swm_fail(error,
                        "pose of frame %lld has no orthonormal rotation: R R^T is off the identity by %.3g (at most "
                        "0.001); remove scale or shear from the matrices",
                        n, deviation);
    if (swm_se3_determinant(p) < 0)
        return swm_fail(error,
                        "pose of frame %lld is left-handed (determinant %.3f); flip one axis, the model uses x right, "
                        "y down, z forward",
                        n, swm_se3_determinant(p));
    for (int i = 0; i < 3; i++)
        if (fabs(p[4 * i + 3]) > 1e6)
            return swm_fail(error,
                            "pose of frame %lld is %g units from the origin; at most 1e6 (a step is about 0.025)", n,
                            fabs(p[4 * i + 3]));
    return 0;
}

int swm_poses_check(const swm_poses *poses, swm_error *error)
{
    if (poses->count < 1) return swm_fail(error, "the camera path is empty; it needs at least one pose");
    for (int64_t i = 0; i < poses->count; i++) {
        double pose[16];
        swm_se3_from_floats(pose, poses->c2w + 16 * i);
        if (check_pose(pose, i, error) < 0) return -1;
    }
    return 0;
}

void swm_se3_from_floats(double out[16], const float pose[16])
{
    for (int i = 0; i < 16; i++) out[i] = (double)pose[i];
}

void swm_se3_inverse(double out[16], const double pose[16])
{
    double r[16] = {0};
    r[15] = 1;
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < 3; j++) r[4 * i + j] = pose[4 * j + i];
        r[4 * i + 3] = -(pose[i] * pose[3] + pose[4 + i] * pose[7] + pose[8 + i] * pose[11]);
    }
    memcpy(out, r, sizeof r);
}

void swm_se3_multiply(double out[16], const double a[16], const double b[16])
{
    double r[16] = {0};
    r[15] = 1;
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < 4; j++) r[4 * i + j] = a[4 * i] * b[j] + a[4 * i + 1] * b[4 + j] + a[4 * i + 2] * b[8 + j];
        r[4 * i + 3] += a[4 * i + 3];
    }
    memcpy(out, r, sizeof r);
}

void swm_poses_relativise(swm_poses *poses)
{
    double to_first[16], pose[16];
    swm_se3_from_floats(pose, poses->c2w);
    swm_se3_inverse(to_first, pose);
    for (int64_t i = 0; i < poses->count; i++) {
        float *p = poses->c2w + 16 * i;
        swm_se3_from_floats(pose, p);
        swm_se3_multiply(pose, to_first, pose);
        /* Frame 0 is the identity even where its rotation is only nearly orthonormal. */
        for (int k = 0; k < 16; k++) p[k] = i > 0 ? (float)pose[k] : (float)(k % 5 == 0);
    }
}

int64_t swm_snap_frames(int64_t requested, int64_t available, int64_t stride)
{
    const int64_t n = swm_min(requested, available);
    if (n < 1) return 1;
    const int64_t above = (n - 1) % stride, low = n - above, high = low + stride;
    if (above == 0) return n;
    return above < high - n || high > available ? low : high;
}

/* --- intrinsics --- */

/* Read one entry; 3x3 matrices are taken apart, their skew and bottom row ignored. */
static void read_entry(float out[4], const double *values, bool matrix)
{
    static const int in_matrix[4] = {0, 4, 2, 5};
    for (int i = 0; i < 4; i++) out[i] = (float)values[matrix ? in_matrix[i] : i];
}

/* Entry of frame j out of `frames` when n entries, 1 < n < frames, are spread evenly from the first to the last. */
static void stretch(float out[4], const double *values, size_t size, int64_t n, int64_t j, int64_t frames)
{
    const double position = (double)j * (double)(n - 1) / (double)(frames - 1);
    const int64_t at = swm_min((int64_t)position, n - 2);
    float a[4], b[4];
    read_entry(a, values + (size_t)at * size, size == 9);
    read_entry(b, values + (size_t)(at + 1) * size, size == 9);
    for (int i = 0; i < 4; i++)
        out[i] = (float)((double)a[i] + ((double)b[i] - (double)a[i]) * (position - (double)at));
}

int swm_intrinsics_from_array(swm_intrinsics *intrinsics, int64_t frames, int rank, const int64_t *shape,
                              const double *values, swm_error *error)
{
    *intrinsics = (swm_intrinsics){0};
    const bool vector = rank == 1 && shape[0] == 4, matrix = rank == 2 && shape[0] == 3 && shape[1] == 3;
    const bool vectors = rank == 2 && shape[1] == 4 && shape[0] >= 1;
    const bool matrices = rank == 3 && shape[1] == 3 && shape[2] == 3 && shape[0] >= 1;
    if (!vector && !matrix && !vectors && !matrices)
        return swm_fail(error, "intrinsics have shape %s; expected (4) fx fy cx cy, (3,3), (frames,4) or (frames,3,3)",
                        shape_text(rank, shape).text);
    const int64_t n = vector || matrix ? 1 : shape[0];
    const size_t size = matrix || matrices ? 9 : 4;
    if (swm_intrinsics_create(intrinsics, frames, error) < 0) return -1;
    for (int64_t j = 0; j < frames; j++) {
        float *out = intrinsics->values + 4 * j;
        if (n > 1 && n < frames)
            stretch(out, values, size, n, j, frames);
        else
            read_entry(out, n == 1 ? values : values + (size_t)j * size, size == 9);
    }
    return 0;
}

int swm_intrinsics_centred(swm_intrinsics *intrinsics, int64_t frames, double focal, int width, int height,
                           swm_error *error)
{
    const double entry[4] = {focal, focal, width / 2.0, height / 2.0};
    return swm_intrinsics_from_array(intrinsics, frames, 1, (const int64_t[]){4}, entry, error);
}

double swm_focal_from_fov(double degrees, int width) { return width / 2.0 / tan(degrees * (PI / 180) / 2); }

static double fov_degrees(double focal, double size) { return 2 * atan(size / 2 / focal) * (180 / PI); }

int swm_intrinsics_check(const swm_intrinsics *intrinsics, int width, int height, swm_error *error)
{
    static const char *const fix = "intrinsics are fx fy cx cy in pixels of the image itself";
    const double narrowest = 5, widest = 170;
    if (intrinsics->count < 1) return swm_fail(error, "the intrinsics are empty; %s", fix);
    for (int64_t i = 0; i < intrinsics->count; i++) {
        const float *k = intrinsics->values + 4 * i;
        const double fx = (double)k[0], fy = (double)k[1], cx = (double)k[2], cy = (double)k[3];
        const long long n = (long long)i;
        if (!isfinite(fx) || !isfinite(fy) || !isfinite(cx) || !isfinite(cy) || fx <= 0 || fy <= 0)
            return swm_fail(error,
                            "intrinsics of frame %lld are fx %g, fy %g, cx %g, cy %g; focal lengths must be positive "
                            "and all four finite; %s",
                            n, fx, fy, cx, cy, fix);
        const double across = fov_degrees(fx, width), down = fov_degrees(fy, height);
        if (across < narrowest || across > widest || down < narrowest || down > widest)
            return swm_fail(error,
                            "intrinsics of frame %lld give a field of view of %.1f x %.1f degrees on the %dx%d image "
                            "(fx %g, fy %g), outside 5 .. 170; %s",
                            n, across, down, width, height, fx, fy, fix);
        if (fabs(cx - width / 2.0) > width || fabs(cy - height / 2.0) > height)
            return swm_fail(error,
                            "intrinsics of frame %lld put the principal point at (%g, %g), far outside the %dx%d "
                            "image; %s",
                            n, cx, cy, width, height, fix);
    }
    return 0;
}

void swm_intrinsics_apply_fit(swm_intrinsics *intrinsics, const swm_fit *fit)
{
    const float x = (float)((double)fit->resized_width / fit->source_width);
    const float y = (float)((double)fit->resized_height / fit->source_height);
    for (int64_t i = 0; i < intrinsics->count; i++) {
        float *k = intrinsics->values + 4 * i;
        k[0] *= x;
        k[1] *= y;
        k[2] = k[2] * x - (float)fit->left;
        k[3] = k[3] * y - (float)fit->top;
    }
}

void swm_intrinsics_to_latent(swm_intrinsics *intrinsics, int width, int height, int64_t w, int64_t h)
{
    const float x = (float)((double)w / width), y = (float)((double)h / height);
    for (int64_t i = 0; i < 4 * intrinsics->count; i++) intrinsics->values[i] *= i % 2 == 0 ? x : y;
}

/* --- the denoiser's conditions --- */

void swm_raymap(float *raymap, const swm_poses *poses, const swm_intrinsics *latent, int64_t first, int64_t count)
{
    SWM_REQUIRE(first >= 0 && count >= 0 && first + count <= swm_latent_frames(poses->count) &&
                    latent->count >= poses->count,
                "latent frames %lld+%lld of %lld poses, %lld intrinsics", (long long)first, (long long)count,
                (long long)poses->count, (long long)latent->count);
    for (int64_t j = 0; j < count; j++) {
        const int64_t frame = SWM_FRAMES_PER_LATENT * (first + j);
        memcpy(raymap + 20 * j, poses->c2w + 16 * frame, 16 * sizeof(float));
        memcpy(raymap + 20 * j + 16, latent->values + 4 * frame, 4 * sizeof(float));
    }
}

/* Rays of one pixel frame: six planes of h x w, `plane` floats apart. */
static void plucker_rays(float *out, int64_t plane, const float *c2w, const float *k, int64_t h, int64_t w)
{
    double p[16];
    swm_se3_from_floats(p, c2w);
    const double fx = (double)k[0], fy = (double)k[1], cx = (double)k[2], cy = (double)k[3];
    const double o[3] = {p[3], p[7], p[11]};
    for (int64_t y = 0; y < h; y++)
        for (int64_t x = 0; x < w; x++) {
            const double a = ((double)x - cx) / fx, b = ((double)y - cy) / fy;
            double d[3], norm = 0;
            for (int i = 0; i < 3; i++) {
                d[i] = p[4 * i] * a + p[4 * i + 1] * b + p[4 * i + 2];
                norm += d[i] * d[i];
            }
            norm = sqrt(norm);
            for (int i = 0; i < 3; i++) d[i] /= norm;
            float *cell = out + y * w + x;
            for (int i = 0; i < 3; i++) {
                cell[i * plane] = (float)d[i];
                cell[(3 + i) * plane] = (float)(o[(i + 1) % 3] * d[(i + 2) % 3] - o[(i + 2) % 3] * d[(i + 1) % 3]);
            }
        }
}

void swm_chunk_plucker(float *plucker, const swm_poses *poses, const swm_intrinsics *latent, int64_t first,
                       int64_t count, int64_t h, int64_t w)
{
    SWM_REQUIRE(first >= 0 && count >= 0 && first + count <= swm_latent_frames(poses->count) &&
                    latent->count >= poses->count,
                "latent frames %lld+%lld of %lld poses, %lld intrinsics", (long long)first, (long long)count,
                (long long)poses->count, (long long)latent->count);
    const int64_t n = SWM_FRAMES_PER_LATENT, plane = count * h * w;
#pragma omp parallel for
    for (int64_t i = 0; i < count * n; i++) {
        const int64_t j = i / n, in_chunk = i % n;
        const int64_t frame = swm_min(swm_max(0, n * (first + j) - (n - 1)) + in_chunk, poses->count - 1);
        plucker_rays(plucker + 6 * in_chunk * plane + j * h * w, plane, poses->c2w + 16 * frame,
                     latent->values + 4 * frame, h, w);
    }
}

/* --- ray matrices --- */

/* One ray frame in both directions: rows of `axes` are x, y (right and down across the ray) and z along the ray, in
 * world coordinates, `into` and `back` the translations of P and of its inverse. */
typedef struct ray_frame {
    double axes[3][3], into[3], back[3];
} ray_frame;

static void normalise(double v[3])
{
    const double norm = fmax(sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]), 1e-6);
    for (int i = 0; i < 3; i++) v[i] /= norm;
}

static void cross(double out[3], const double a[3], const double b[3])
{
    for (int i = 0; i < 3; i++) out[i] = a[(i + 1) % 3] * b[(i + 2) % 3] - a[(i + 2) % 3] * b[(i + 1) % 3];
}

static void exact_ray(ray_frame *ray, const float *condition, int64_t u, int64_t v)
{
    double c[16], k[4];
    swm_se3_from_floats(c, condition);
    for (int i = 0; i < 4; i++) k[i] = (double)condition[16 + i];
    const double d[3] = {((double)u - k[2]) / k[0], ((double)v - k[3]) / k[1], 1};
    double *x = ray->axes[0], *y = ray->axes[1], *z = ray->axes[2];
    for (int i = 0; i < 3; i++) z[i] = c[4 * i] * d[0] + c[4 * i + 1] * d[1] + c[4 * i + 2] * d[2];
    normalise(z);
    cross(x, (const double[3]){c[1], c[5], c[9]}, z); /* the camera's y axis in the world, across the ray */
    normalise(x);
    cross(y, z, x);
    normalise(y);
    for (int i = 0; i < 3; i++)
        ray->into[i] = -(ray->axes[i][0] * c[3] + ray->axes[i][1] * c[7] + ray->axes[i][2] * c[11]);
    for (int i = 0; i < 3; i++) ray->back[i] = -(x[i] * ray->into[0] + y[i] * ray->into[1] + z[i] * ray->into[2]);
}

static float round_bf16(float value) { return swm_bf16_to_f32(swm_f32_to_bf16(value)); }

/* The reference takes focal length to a field of view in degrees and back, all in bf16: f -> A = 2f/size -> angle. */
static float focal_through_degrees(float focal, int64_t size)
{
    const float pi = 3.14159274f, smallest_sine = 0.0078125f;
    const float ratio = round_bf16(2 * focal / (float)size);
    const float half_angle = round_bf16(atanf(round_bf16(1 / ratio)));
    const float fov = round_bf16(2 * half_angle * (180 / pi));
    const float theta = round_bf16(0.5f * fov * (pi / 180));
    const float adjacent = round_bf16((float)size / 2 * round_bf16(cosf(theta)));
    return round_bf16(adjacent / fmaxf(round_bf16(sinf(theta)), smallest_sine));
}

static void normalise_bf16(float v[3])
{
    const float norm = fmaxf(round_bf16(sqrtf(v[0] * v[0] + v[1] * v[1] + v[2] * v[2])), round_bf16(1e-6f));
    for (int i = 0; i < 3; i++) v[i] = round_bf16(v[i] / norm);
}

static void cross_bf16(float out[3], const float a[3], const float b[3])
{
    for (int i = 0; i < 3; i++)
        out[i] = round_bf16(round_bf16(a[(i + 1) % 3] * b[(i + 2) % 3]) - round_bf16(a[(i + 2) % 3] * b[(i + 1) % 3]));
}

/* The same as exact_ray with every intermediate result rounded where the reference rounds it; dot products accumulate
 * in float and round once. c is the condition already in bf16, its focal lengths already through degrees. */
static void rounded_ray(ray_frame *ray, const float c[20], int64_t u, int64_t v)
{
    const float a = round_bf16(round_bf16((float)u - c[18]) / c[16]);
    const float b = round_bf16(round_bf16((float)v - c[19]) / c[17]);
    const float squares = round_bf16(round_bf16(a * a) + round_bf16(b * b));
    const float sum = round_bf16(1 + squares), length = round_bf16(sqrtf(sum)), gamma = round_bf16(length / sum);
    const float d[3] = {round_bf16(gamma * a), round_bf16(gamma * b), gamma};
    float axes[3][3], into[3];
    float *x = axes[0], *y = axes[1], *z = axes[2];
    for (int i = 0; i < 3; i++) z[i] = round_bf16(c[4 * i] * d[0] + c[4 * i + 1] * d[1] + c[4 * i + 2] * d[2]);
    normalise_bf16(z);
    cross_bf16(x, (const float[3]){c[1], c[5], c[9]}, z);
    normalise_bf16(x);
    cross_bf16(y, z, x);
    normalise_bf16(y);
    for (int i = 0; i < 3; i++) into[i] = -round_bf16(axes[i][0] * c[3] + axes[i][1] * c[7] + axes[i][2] * c[11]);
    for (int i = 0; i < 3; i++) {
        ray->into[i] = (double)into[i];
        ray->back[i] = (double)-round_bf16(x[i] * into[0] + y[i] * into[1] + z[i] * into[2]);
        for (int j = 0; j < 3; j++) ray->axes[i][j] = (double)axes[i][j];
    }
}

static void store_ray(float P[16], float P_inverse[16], const ray_frame *ray)
{
    double sum = 0; /* not finite as soon as one term is not */
    for (int i = 0; i < 3; i++)
        sum += ray->axes[i][0] + ray->axes[i][1] + ray->axes[i][2] + ray->into[i] + ray->back[i];
    const bool number = isfinite(sum);
    memset(P, 0, 16 * sizeof(float));
    memset(P_inverse, 0, 16 * sizeof(float));
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < 3; j++) {
            P[4 * i + j] = number ? (float)ray->axes[i][j] : (float)(i == j);
            P_inverse[4 * j + i] = P[4 * i + j];
        }
        P[4 * i + 3] = number ? (float)ray->into[i] : 0;
        P_inverse[4 * i + 3] = number ? (float)ray->back[i] : 0;
    }
    P[15] = P_inverse[15] = 1;
}

void swm_ray_matrices(float *P, float *P_inverse, const float *conditions, int64_t T, int64_t h, int64_t w,
                      bool round_to_bf16)
{
#pragma omp parallel for
    for (int64_t t = 0; t < T; t++) {
        float c[SWM_RAYMAP_CHANNELS];
        memcpy(c, conditions + SWM_RAYMAP_CHANNELS * t, sizeof c);
        if (round_to_bf16) {
            for (int i = 0; i < SWM_RAYMAP_CHANNELS; i++) c[i] = round_bf16(c[i]);
            c[16] = focal_through_degrees(c[16], w);
            c[17] = focal_through_degrees(c[17], h);
        }
        for (int64_t token = 0; token < h * w; token++) {
            ray_frame ray;
            float unwanted[16];
            if (round_to_bf16)
                rounded_ray(&ray, c, token % w, token / w);
            else
                exact_ray(&ray, c, token % w, token / w);
            const int64_t at = 16 * (t * h * w + token);
            store_ray(P != NULL ? P + at : unwanted, P_inverse != NULL ? P_inverse + at : unwanted, &ray);
        }
    }
}
