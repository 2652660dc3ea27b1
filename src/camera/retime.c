/* Limits of speed and acceleration along a path. See retime.h.
 *
 * The new pace is told by one number a pose: how much of the old speed is left there, 0 .. 1. Speed limits bound it
 * directly. Acceleration limits bound how much the square of a speed can grow over a distance, v1^2 <= v0^2 + 2 a s, so
 * one walk forwards and one backwards over the poses are enough. */
#include "camera/retime.h"

#include "camera/resample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The least that is left of the old speed, on average between two poses: where a stop for the sake of position meets a
 * turn, and the other way around, the limits give way to this instead of standing still for ever. */
static const double SLOWEST = 0.02;

typedef struct road {
    int64_t count;
    double rate;
    double *moved, *turned; /* (count-1) units and degrees between poses */
    double *left;           /* (count) of the old speed */
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

/* Let the speed at pose `to` be reachable from that at its neighbour `from`. */
static void bound_step(road *r, const double *values, double limit, int64_t from, int64_t to)
{
    if (limit <= 0) return;
    const double before = speed_at(r, values, from) * r->left[from], after = speed_at(r, values, to);
    const double most = sqrt(before * before + 2 * limit * values[from < to ? from : to]);
    if (after * r->left[to] > most) r->left[to] = most / after;
}

static void bound_acceleration(road *r, const swm_pace *pace)
{
    if (pace->acceleration <= 0 && pace->turn_acceleration <= 0) return;
    const int64_t last = r->count - 1;
    r->left[0] = r->left[last] = 0;
    for (int64_t i = 0; i < last; i++) {
        bound_step(r, r->moved, pace->acceleration, i, i + 1);
        bound_step(r, r->turned, pace->turn_acceleration, i, i + 1);
    }
    for (int64_t i = last; i > 0; i--) {
        bound_step(r, r->moved, pace->acceleration, i, i - 1);
        bound_step(r, r->turned, pace->turn_acceleration, i, i - 1);
    }
}

/* Seconds from pose i to the next at the new pace. */
static double duration(const road *r, int64_t i)
{
    if (r->moved[i] <= 0 && r->turned[i] <= 0) return 1 / r->rate;
    return 2 / fmax(r->left[i] + r->left[i + 1], SLOWEST) / r->rate;
}

/* The part of interval i that lies behind after the part x of its time: acceleration is constant between poses. */
static double covered(const road *r, int64_t i, double x)
{
    const double a = r->left[i], b = r->left[i + 1];
    if (a + b <= SLOWEST || (r->moved[i] <= 0 && r->turned[i] <= 0)) return x;
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
    road r = {.count = count, .rate = rate};
    double *memory = swm_allocate(error, (size_t)count, 3 * sizeof *memory);
    if (memory == NULL) return -1;
    r.moved = memory;
    r.turned = memory + count;
    r.left = memory + 2 * count;
    for (int64_t i = 0; i < count; i++) r.left[i] = 1;
    for (int64_t i = 0; i + 1 < count; i++) {
        const double *a = poses + 16 * i, *b = a + 16;
        r.moved[i] =
            sqrt((b[3] - a[3]) * (b[3] - a[3]) + (b[7] - a[7]) * (b[7] - a[7]) + (b[11] - a[11]) * (b[11] - a[11]));
        r.turned[i] = swm_pose_angle(a, b) * (180 / 3.14159265358979323846);
    }
    bound_speed(&r, r.moved, pace->speed);
    bound_speed(&r, r.turned, pace->turn);
    if (count > 1) bound_acceleration(&r, pace);
    const int status = sample(out, &r, poses, fps, most, error);
    free(memory);
    return status;
}
