/* Implements resample.h. */
#include "camera/resample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SUBDIVISION = 16 }; /* straight pieces that measure the length of a spline segment */

static const double DEFAULT_FPS = 16, REST_SPEED = 0.01;

/* --- rotations --- */

void swm_quaternion_from_pose(double q[4], const double p[16])
{
    /* Four candidates, each without cancellation where its component is the largest. */
    const double squares[4] = {1 + p[0] + p[5] + p[10], 1 + p[0] - p[5] - p[10], 1 - p[0] + p[5] - p[10],
                               1 - p[0] - p[5] + p[10]};
    int best = 0;
    for (int i = 1; i < 4; i++)
        if (squares[i] > squares[best]) best = i;
    const double x = p[9] - p[6], y = p[2] - p[8], z = p[4] - p[1];
    const double xy = p[1] + p[4], xz = p[2] + p[8], yz = p[6] + p[9], s = squares[best];
    const double rows[4][4] = {{s, x, y, z}, {x, s, xy, xz}, {y, xy, s, yz}, {z, xz, yz, s}};
    double norm = 0;
    for (int i = 0; i < 4; i++) norm += rows[best][i] * rows[best][i];
    const double scale = (rows[best][0] < 0 ? -1 : 1) / sqrt(norm);
    for (int i = 0; i < 4; i++) q[i] = rows[best][i] * scale;
}

void swm_quaternion_to_pose(double pose[16], const double q[4])
{
    const double n = sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3]);
    const double w = q[0] / n, x = q[1] / n, y = q[2] / n, z = q[3] / n;
    pose[0] = 1 - 2 * (y * y + z * z);
    pose[1] = 2 * (x * y - w * z);
    pose[2] = 2 * (x * z + w * y);
    pose[4] = 2 * (x * y + w * z);
    pose[5] = 1 - 2 * (x * x + z * z);
    pose[6] = 2 * (y * z - w * x);
    pose[8] = 2 * (x * z - w * y);
    pose[9] = 2 * (y * z + w * x);
    pose[10] = 1 - 2 * (x * x + y * y);
}

/* Half the angle between two rotations; `b` is turned to the near side of `a`. The arcus cosine of the dot product
 * would lose half the digits for near rotations. */
static double half_angle(const double a[4], double b[4])
{
    double dot = 0, difference = 0, sum = 0;
    for (int i = 0; i < 4; i++) dot += a[i] * b[i];
    for (int i = 0; i < 4; i++) {
        if (dot < 0) b[i] = -b[i];
        difference += (a[i] - b[i]) * (a[i] - b[i]);
        sum += (a[i] + b[i]) * (a[i] + b[i]);
    }
    return 2 * atan2(sqrt(difference), sqrt(sum));
}

void swm_quaternion_slerp(double out[4], const double a[4], const double b[4], double t)
{
    double near_b[4], norm = 0;
    memcpy(near_b, b, sizeof near_b);
    const double angle = half_angle(a, near_b), sine = sin(angle);
    const double weight_a = angle > 1e-8 ? sin((1 - t) * angle) / sine : 1 - t;
    const double weight_b = angle > 1e-8 ? sin(t * angle) / sine : t;
    double q[4];
    for (int i = 0; i < 4; i++) {
        q[i] = weight_a * a[i] + weight_b * near_b[i];
        norm += q[i] * q[i];
    }
    for (int i = 0; i < 4; i++) out[i] = q[i] / sqrt(norm);
}

double swm_pose_angle(const double a[16], const double b[16])
{
    double qa[4], qb[4];
    swm_quaternion_from_pose(qa, a);
    swm_quaternion_from_pose(qb, b);
    return 2 * half_angle(qa, qb);
}

/* --- the curve --- */

typedef struct curve {
    const swm_camera_path *path;
    double *times; /* (count) rising, owned */
    bool smooth;
} curve;

static const double *pose_of(const curve *c, int64_t i) { return c->path->c2w + 16 * i; }

static double coordinate(const curve *c, int64_t i, int axis) { return pose_of(c, i)[4 * axis + 3]; }

/* Velocity at pose i: the slope of the parabola through it and its neighbours, which is Catmull-Rom's tangent where
 * the times are evenly spaced; at the ends the slope of the only segment. */
static double tangent(const curve *c, int64_t i, int axis)
{
    const int64_t last = c->path->count - 1;
    double before = 0, after = 0, slope_before = 0, slope_after = 0;
    if (i > 0) {
        before = c->times[i] - c->times[i - 1];
        slope_before = (coordinate(c, i, axis) - coordinate(c, i - 1, axis)) / before;
    }
    if (i < last) {
        after = c->times[i + 1] - c->times[i];
        slope_after = (coordinate(c, i + 1, axis) - coordinate(c, i, axis)) / after;
    }
    if (i == 0) return slope_after;
    if (i == last) return slope_before;
    return (slope_before * after + slope_after * before) / (before + after);
}

static void position_at(const curve *c, int64_t segment, double t, double out[3])
{
    const double h = c->times[segment + 1] - c->times[segment];
    for (int axis = 0; axis < 3; axis++) {
        const double a = coordinate(c, segment, axis), b = coordinate(c, segment + 1, axis);
        out[axis] = a + (b - a) * t;
        if (!c->smooth) continue;
        /* Hermite's cubic, written as the straight line plus what bends it: exact at both ends. */
        const double bend_a = tangent(c, segment, axis) * h - (b - a),
                     bend_b = tangent(c, segment + 1, axis) * h - (b - a);
        out[axis] += t * (1 - t) * ((1 - t) * bend_a - t * bend_b);
    }
}

static double distance(const double a[3], const double b[3])
{
    return hypot(hypot(a[0] - b[0], a[1] - b[1]), a[2] - b[2]);
}

static double piece_length(const curve *c, int64_t segment, int piece, int pieces)
{
    double from[3], to[3];
    position_at(c, segment, (double)piece / pieces, from);
    position_at(c, segment, (double)(piece + 1) / pieces, to);
    return distance(from, to);
}

static void pose_at(const curve *c, int64_t segment, double t, double out[16])
{
    double a[4], b[4], position[3];
    if (t == 0 || c->path->count == 1) {
        memcpy(out, pose_of(c, segment), 16 * sizeof *out);
        return;
    }
    if (t == 1) {
        memcpy(out, pose_of(c, segment + 1), 16 * sizeof *out);
        return;
    }
    swm_quaternion_from_pose(a, pose_of(c, segment));
    swm_quaternion_from_pose(b, pose_of(c, segment + 1));
    swm_quaternion_slerp(a, a, b, t);
    position_at(c, segment, t, position);
    memset(out, 0, 16 * sizeof *out);
    swm_quaternion_to_pose(out, a);
    for (int axis = 0; axis < 3; axis++) out[4 * axis + 3] = position[axis];
    out[15] = 1;
}

/* --- how far along --- */

/* Weights of the pieces of all segments, summed up: (segments * pieces + 1), rising from 0. A frame's place is where
 * its share of the total falls. */
typedef struct progress {
    double *sums;
    int pieces; /* a segment */
} progress;

static double sum_of_lengths(const curve *c, const progress *p, double *sums)
{
    double total = 0;
    for (int64_t i = 0; i + 1 < c->path->count; i++)
        for (int k = 0; k < p->pieces; k++) total += sums[i * p->pieces + k + 1] = piece_length(c, i, k, p->pieces);
    return total;
}

/* Give resting segments the length that a camera of mean speed would go in their time. */
static void keep_rests(const curve *c, const progress *p, double *sums, double total)
{
    const int64_t segments = c->path->count - 1;
    const double mean = total / (c->times[segments] - c->times[0]);
    double moving = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int64_t i = 0; i < segments; i++) {
            const double h = c->times[i + 1] - c->times[i];
            double length = 0;
            for (int k = 1; pass == 0 && k <= p->pieces; k++) length += sums[i * p->pieces + k];
            /* The first pass marks rests by a negative weight; the second replaces it. */
            if (pass == 0 && length >= REST_SPEED * mean * h) moving += h;
            for (int k = 1; k <= p->pieces; k++) {
                double *weight = &sums[i * p->pieces + k];
                if (pass == 0 && length < REST_SPEED * mean * h) *weight = -h / p->pieces;
                if (pass == 1 && *weight < 0) *weight *= -total / moving;
            }
        }
}

static int measure(const curve *c, bool constant_speed, progress *p, swm_error *error)
{
    const int64_t segments = c->path->count - 1;
    p->pieces = constant_speed && c->smooth ? SUBDIVISION : 1;
    p->sums = swm_allocate(error, (size_t)(segments * p->pieces + 1), sizeof(double));
    if (p->sums == NULL) return -1;
    double total = constant_speed ? sum_of_lengths(c, p, p->sums) : 0, reach = 1e-3;
    for (int64_t i = 0; i <= segments; i++)
        for (int axis = 0; axis < 3; axis++) reach = fmax(reach, fabs(coordinate(c, i, axis)));
    if (total > 1e-9 * reach)
        keep_rests(c, p, p->sums, total);
    else if (constant_speed) {
        total = 0;
        for (int64_t i = 0; i < segments; i++)
            for (int k = 0; k < p->pieces; k++)
                total += p->sums[i * p->pieces + k + 1] = swm_pose_angle(pose_of(c, i), pose_of(c, i + 1)) / p->pieces;
    }
    const bool by_time = !constant_speed || total <= 1e-9;
    for (int64_t i = 0; i < segments; i++)
        for (int k = 0; k < p->pieces; k++) {
            double *sum = &p->sums[i * p->pieces + k + 1];
            if (by_time) *sum = (c->times[i + 1] - c->times[i]) / p->pieces;
            *sum += sum[-1];
        }
    return 0;
}

/* The segment and the place within it where the sums reach `share`. */
static int64_t locate(const progress *p, int64_t segments, double share, double *t)
{
    int64_t low = 0, high = segments * p->pieces; /* sums[low] <= share <= sums[high] */
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        if (p->sums[middle] <= share)
            low = middle;
        else
            high = middle;
    }
    const double width = p->sums[high] - p->sums[low];
    const double within = width > 0 ? fmin(fmax((share - p->sums[low]) / width, 0), 1) : 0;
    *t = ((double)(low % p->pieces) + within) / p->pieces;
    return low / p->pieces;
}

/* --- resampling --- */

static int take_times(curve *c, swm_error *error)
{
    const swm_camera_path *in = c->path;
    c->times = swm_allocate(error, (size_t)in->count, sizeof(double));
    if (c->times == NULL) return -1;
    for (int64_t i = 0; i < in->count; i++) {
        c->times[i] = in->times != NULL ? in->times[i] : (double)i / (in->fps > 0 ? in->fps : DEFAULT_FPS);
        if (i > 0 && c->times[i] <= c->times[i - 1])
            return swm_fail(
                error,
                "pose %lld has the time %.9g after %.9g; times must rise to be resampled: sort the poses or "
                "remove the repeated ones",
                (long long)i, c->times[i], c->times[i - 1]);
    }
    return 0;
}

/* How many frames, and how far apart in the time of `in` and in that of the result. */
static int plan(const curve *c, const swm_resampling *o, int64_t *frames, double *step, double *fps, swm_error *error)
{
    const double duration = c->times[c->path->count - 1] - c->times[0];
    if (o->frames < 0 || o->frames > SWM_RESAMPLE_MAX_FRAMES)
        return swm_fail(error, "%lld frames were asked for; 1 to %d are possible", (long long)o->frames,
                        SWM_RESAMPLE_MAX_FRAMES);
    if (!(o->fps >= 0 && o->fps <= 1e6)) return swm_fail(error, "%g frames a second were asked for", o->fps);
    const double counted = floor(duration * o->fps + 1e-6) + 1;
    if (o->frames == 0 && o->fps > 0 && counted > SWM_RESAMPLE_MAX_FRAMES)
        return swm_fail(
            error,
            "%.6g seconds at %g frames a second are %.0f frames, more than %d; if the times of the path are "
            "no seconds, say --frames instead",
            duration, o->fps, counted, SWM_RESAMPLE_MAX_FRAMES);
    *frames = o->frames > 0 ? o->frames : o->fps > 0 ? (int64_t)counted : c->path->count;
    *step = o->frames == 0 && o->fps > 0 ? 1 / o->fps : *frames > 1 ? duration / (double)(*frames - 1) : 0;
    *fps = o->fps > 0 ? o->fps : *step > 0 ? 1 / *step : c->path->fps;
    return 0;
}

static void fill(swm_camera_path *out, const curve *c, const progress *p, double step, double fps)
{
    const swm_camera_path *in = c->path;
    const int64_t segments = in->count - 1;
    const double duration = c->times[segments] - c->times[0], total = segments > 0 ? p->sums[segments * p->pieces] : 0;
    for (int64_t i = 0; i < out->count; i++) {
        double t = 0;
        int64_t segment = 0;
        /* The last frame of a whole path is its last pose, whatever the division rounds to. */
        const double share = duration > 0 ? fmin((double)i * step / duration, 1) : 0;
        if (segments > 0) segment = locate(p, segments, fabs(share - 1) < 1e-12 ? total : share * total, &t);
        pose_at(c, segment, t, out->c2w + 16 * i);
        out->times[i] = c->times[0] + (fps > 0 ? (double)i / fps : 0);
        const int64_t next = segments > 0 ? segment + 1 : segment;
        for (int k = 0; out->intrinsics != NULL && k < 4; k++) {
            const double a = in->intrinsics[4 * segment + k], b = in->intrinsics[4 * next + k];
            out->intrinsics[4 * i + k] = a + (b - a) * t;
        }
    }
    out->fps = fps;
    out->width = in->width;
    out->height = in->height;
    out->fractions = in->fractions;
}

int swm_camera_path_resample(swm_camera_path *out, const swm_camera_path *in, const swm_resampling *options,
                             swm_error *error)
{
    *out = (swm_camera_path){0};
    curve c = {.path = in, .smooth = options->smooth};
    progress p = {0};
    int64_t frames = 0;
    double step = 0, fps = 0;
    int status = take_times(&c, error);
    if (status == 0) status = plan(&c, options, &frames, &step, &fps, error);
    if (status == 0) status = measure(&c, options->constant_speed, &p, error);
    if (status == 0) status = swm_camera_path_create(out, frames, true, in->intrinsics != NULL, false, error);
    if (status == 0) fill(out, &c, &p, step, fps);
    free(p.sums);
    free(c.times);
    return status;
}
