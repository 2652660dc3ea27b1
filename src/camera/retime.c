/* Limits of speed and acceleration along a path. See retime.h.
 *
 * The new pace is told by one number a pose: how much of the old speed is left there, 0 .. 1. Speed limits bound it
 * directly. Acceleration limits bound how much the square of a speed can grow over a distance, v1^2 <= v0^2 + 2 a s, which
 * walks forwards and backwards over the poses see to. */
#include "camera/retime.h"

#include "camera/resample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The least part of the speed that the speed limits allow, on average between two poses: where two stops are neighbours,
 * the limits of acceleration give way to this instead of standing still for ever. */
static const double SLOWEST = 0.01;

typedef struct road {
    int64_t count;
    double rate;
    double *moved, *turned; /* (count-1) units and degrees between poses */
    double *left;           /* (count) of the old speed */
    double *allowed;        /* (count) of the old speed by the limits of speed alone */
} road;

static double interval(const double *values, int64_t count, int64_t i)
{
    return i >= 0 && i < count - 1 ? values[i] : 0;
}

/* Old speed at a pose: the mean of the intervals at its sides, at the ends of the one there is. */
static double speed_at(const road *r, const double *values, int64_t i)
{
    const double sum = interval(values, r->count, i - 1) + interval(values, r->count, i);
    return sum * r->rate / (i == 0 || i == r->count - 1 ? 1 : 2);
}

static void bound_speed(road *r, const double *values, double limit)
{
    if (limit <= 0) return;
    for (int64_t i = 0; i < r->count; i++) {
        const double fastest = fmax(interval(values, r->count, i - 1), interval(values, r->count, i)) * r->rate;
        if (fastest * r->left[i] > limit) r->left[i] = limit / fastest;
    }
}

/* Let the speed at pose `to` be reachable from that at its neighbour `from`; true if that changed it. */
static bool bound_step(road *r, const double *values, double limit, int64_t from, int64_t to)
{
    if (limit <= 0) return false;
    const double before = speed_at(r, values, from) * r->left[from], after = speed_at(r, values, to);
    const double most = sqrt(before * before + 2 * limit * values[from < to ? from : to]);
    if (!(after * r->left[to] > most * (1 + 1e-12))) return false;
    r->left[to] = most / after;
    return true;
}

/* A stop of the one motion is a stop of the other, which then needs its own way to stop and start: walks are repeated
 * until nothing changes. Each can only slow the path down; a few are enough but for artful input. */
static void bound_acceleration(road *r, const swm_pace *pace)
{
    enum { WALKS = 32 };
    const int64_t last = r->count - 1;
    bool changed = pace->acceleration > 0 || pace->turn_acceleration > 0;
    if (changed) r->left[0] = r->left[last] = 0;
    for (int walk = 0; walk < WALKS && changed; walk++) {
        changed = false;
        for (int64_t i = 0; i < last; i++) {
            changed |= bound_step(r, r->moved, pace->acceleration, i, i + 1);
            changed |= bound_step(r, r->turned, pace->turn_acceleration, i, i + 1);
        }
        for (int64_t i = last; i > 0; i--) {
            changed |= bound_step(r, r->moved, pace->acceleration, i, i - 1);
            changed |= bound_step(r, r->turned, pace->turn_acceleration, i, i - 1);
        }
    }
}

/* The direction of a motion from pose a to pose b: its translation, or the axis of its rotation, of length about its
 * angle in radians. */
static void direction(double out[3], const double *a, const double *b, bool rotation)
{
    for (int i = 0; i < 3; i++) out[i] = b[4 * i + 3] - a[4 * i + 3];
    if (!rotation) return;
    double relative[16];
    swm_se3_inverse(relative, a);
    swm_se3_multiply(relative, relative, b);
    out[0] = (relative[9] - relative[6]) / 2;
    out[1] = (relative[2] - relative[8]) / 2;
    out[2] = (relative[4] - relative[1]) / 2;
}

/* Where the motion changes its direction by more than 30 degrees at once, it turns back or around a corner: it must stop
 * there, though its speed would be the same on both sides. */
static void stop_at_corners(road *r, const double *poses, bool rotation)
{
    double before[3] = {0}, after[3];
    for (int64_t i = 0; i + 1 < r->count; i++) {
        direction(after, poses + 16 * i, poses + 16 * (i + 1), rotation);
        const double dot = before[0] * after[0] + before[1] * after[1] + before[2] * after[2];
        const double b = sqrt(before[0] * before[0] + before[1] * before[1] + before[2] * before[2]);
        const double a = sqrt(after[0] * after[0] + after[1] * after[1] + after[2] * after[2]);
        if (a > 1e-9 && b > 1e-9 && dot < 0.866 * a * b) r->left[i] = 0;
        memcpy(before, after, sizeof before);
    }
}

/* Twice the mean part of the old speed that is never gone below from pose i to the next. */
static double slowest(const road *r, int64_t i) { return SLOWEST * (r->allowed[i] + r->allowed[i + 1]); }

/* Seconds from pose i to the next at the new pace. */
static double duration(const road *r, int64_t i)
{
    if (r->moved[i] <= 0 && r->turned[i] <= 0) return 1 / r->rate;
    return 2 / fmax(r->left[i] + r->left[i + 1], slowest(r, i)) / r->rate;
}

/* The part of interval i that lies behind after the part x of its time: acceleration is constant between poses. */
static double covered(const road *r, int64_t i, double x)
{
    const double a = r->left[i], b = r->left[i + 1];
    if (a + b <= slowest(r, i) || (r->moved[i] <= 0 && r->turned[i] <= 0)) return x;
    return (2 * a * x + (b - a) * x * x) / (a + b);
}

static void between(float *out, const double *a, const double *b, double t)
{
    double pose[16] = {0}, from[4], to[4];
    swm_quaternion_from_pose(from, a);
    swm_quaternion_from_pose(to, b);
    swm_quaternion_slerp(from, from, to, t);
    swm_quaternion_to_pose(pose, from);
    for (int i = 3; i < 12; i += 4) pose[i] = a[i] + (b[i] - a[i]) * t;
    pose[15] = 1;
    for (int i = 0; i < 16; i++) out[i] = (float)pose[i];
}

static int sample(swm_poses *out, const road *r, const double *poses, double fps, int64_t most, swm_error *error)
{
    double total = 0;
    for (int64_t i = 0; i + 1 < r->count; i++) total += duration(r, i);
    /* Rounding must not add a frame to a path that fits exactly. */
    const double steps = ceil(total * fps * (1 - 1e-9) - 1e-9);
    if (!(steps < (double)most))
        return swm_fail(
            error, "within these limits the path takes %.0f s, more than %lld frames; raise the limits or shorten it",
            total, (long long)most);
    const int64_t frames = r->count > 1 ? swm_max(1, (int64_t)steps) + 1 : 1;
    if (swm_poses_create(out, frames, error) < 0) return -1;
    int64_t at = 0;
    double begun = 0;
    for (int64_t k = 0; k < frames; k++) {
        const double time = frames > 1 ? total * (double)k / (double)(frames - 1) : 0;
        while (at + 2 < r->count && begun + duration(r, at) <= time) begun += duration(r, at++);
        const double x = r->count > 1 && k < frames - 1 ? fmin(1, (time - begun) / duration(r, at)) : 0;
        if (k == frames - 1)
            between(out->c2w + 16 * k, poses + 16 * (r->count - 1), poses + 16 * (r->count - 1), 0);
        else
            between(out->c2w + 16 * k, poses + 16 * at, poses + 16 * (at + 1), covered(r, at, x));
    }
    return 0;
}

int swm_pace_check(const swm_pace *pace, swm_error *error)
{
    const struct {
        const char *name;
        double value;
    } all[] = {{"speed", pace->speed},
               {"acceleration", pace->acceleration},
               {"turn", pace->turn},
               {"turn acceleration", pace->turn_acceleration}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (!(all[i].value >= 0 && all[i].value <= 1e9))
            return swm_fail(error, "the limit of %s is %g; it must be positive, or 0 for none", all[i].name,
                            all[i].value);
    return 0;
}

int swm_retime(swm_poses *out, const double *poses, int64_t count, double rate, double fps, const swm_pace *pace,
               int64_t most, swm_error *error)
{
    *out = (swm_poses){0};
    if (swm_pace_check(pace, error) < 0) return -1;
    if (!swm_pace_limits(pace) && rate == fps && count <= most) { /* nothing to do, so nothing is rounded */
        if (swm_poses_create(out, count, error) < 0) return -1;
        for (int64_t i = 0; i < 16 * count; i++) out->c2w[i] = (float)poses[i];
        return 0;
    }
    road r = {.count = count, .rate = rate};
    double *memory = swm_allocate(error, (size_t)count, 4 * sizeof *memory);
    if (memory == NULL) return -1;
    r.moved = memory;
    r.turned = memory + count;
    r.left = memory + 2 * count;
    r.allowed = memory + 3 * count;
    for (int64_t i = 0; i < count; i++) r.left[i] = 1;
    for (int64_t i = 0; i + 1 < count; i++) {
        const double *a = poses + 16 * i, *b = a + 16;
        r.moved[i] =
            sqrt((b[3] - a[3]) * (b[3] - a[3]) + (b[7] - a[7]) * (b[7] - a[7]) + (b[11] - a[11]) * (b[11] - a[11]));
        r.turned[i] = swm_pose_angle(a, b) * (180 / 3.14159265358979323846);
    }
    bound_speed(&r, r.moved, pace->speed);
    bound_speed(&r, r.turned, pace->turn);
    memcpy(r.allowed, r.left, (size_t)count * sizeof *r.allowed);
    if (pace->acceleration > 0) stop_at_corners(&r, poses, false);
    if (pace->turn_acceleration > 0) stop_at_corners(&r, poses, true);
    if (count > 1) bound_acceleration(&r, pace);
    const int status = sample(out, &r, poses, fps, most, error);
    free(memory);
    return status;
}
