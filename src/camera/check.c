/* Measures of camera paths and their limits. See check.h. */
#include "camera/check.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

static const double DEGREES = 180 / 3.14159265358979323846;

static double difference_squared(const swm_poses *poses, int64_t i, bool rotation)
{
    const float *a = poses->c2w + 16 * i, *b = a + 16;
    double sum = 0;
    for (int k = 0; k < 12; k++)
        if ((k % 4 != 3) == rotation) sum += ((double)b[k] - (double)a[k]) * ((double)b[k] - (double)a[k]);
    return sum;
}

double swm_camera_step(const swm_poses *poses, int64_t i) { return sqrt(difference_squared(poses, i, false)); }

double swm_camera_turn(const swm_poses *poses, int64_t i)
{
    return 2 * asin(fmin(1, sqrt(difference_squared(poses, i, true) / 8))) * DEGREES;
}

static void raise_to(double *most, int64_t *at, double value, int64_t frame)
{
    if (value <= *most) return;
    *most = value;
    *at = frame;
}

swm_camera_measures swm_camera_measure(const swm_poses *poses)
{
    swm_camera_measures m = {.frames = poses->count};
    double to_first[16], pose[16], low[3], high[3];
    swm_se3_from_floats(pose, poses->c2w);
    swm_se3_inverse(to_first, pose);
    for (int64_t i = 0; i < poses->count; i++) {
        swm_se3_from_floats(pose, poses->c2w + 16 * i);
        for (int k = 0; k < 3; k++) {
            low[k] = i == 0 ? pose[4 * k + 3] : fmin(low[k], pose[4 * k + 3]);
            high[k] = i == 0 ? pose[4 * k + 3] : fmax(high[k], pose[4 * k + 3]);
        }
        swm_se3_multiply(pose, to_first, pose);
        raise_to(&m.reach, &m.reach_at, sqrt(pose[3] * pose[3] + pose[7] * pose[7] + pose[11] * pose[11]), i);
        /* The third column is where the camera looks; its y component is the sine of the tilt. */
        raise_to(&m.tilt, &m.tilt_at, i > 0 ? asin(fmin(1, fabs(pose[6]))) * DEGREES : 0, i);
        if (i == 0) continue;
        const double step = swm_camera_step(poses, i - 1), turn = swm_camera_turn(poses, i - 1);
        m.length += step;
        m.turned += turn;
        raise_to(&m.step, &m.step_at, step, i);
        raise_to(&m.turn, &m.turn_at, turn, i);
    }
    for (int k = 0; k < 3 && poses->count > 0; k++) m.extent[k] = high[k] - low[k];
    return m;
}

swm_camera_limits swm_camera_limits_default(void)
{
    return (swm_camera_limits){.step = 0.055, .turn = 1.2, .reach = 0.055 * 960, .tilt = 60, .frames = 961};
}

void swm_camera_limits_cover(swm_camera_limits *limits, const swm_camera_measures *measures)
{
    limits->step = fmax(limits->step, measures->step);
    limits->turn = fmax(limits->turn, measures->turn);
    limits->reach = fmax(limits->reach, measures->reach);
    limits->tilt = fmax(limits->tilt, measures->tilt);
    limits->frames = swm_max(limits->frames, measures->frames);
}

static void warn(swm_camera_warning *warnings, int *count, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void warn(swm_camera_warning *warnings, int *count, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(warnings[*count].text, sizeof warnings[*count].text, format, arguments);
    va_end(arguments);
    *count += 1;
}

/* Beyond rounding: float poses of a path at exactly the limit exceed it by their last bits. */
static bool exceeds(double value, double limit) { return value > limit * 1.001 + 1e-9; }

/* Frames that slow the whole path down to the limit, filling whole latent frames; -1 where none can. Rounding must not
 * cost eight. */
static long long slower(int64_t frames, double value, double limit)
{
    const double steps = ceil((double)(frames - 1) * value / limit / 8 * (1 - 1e-5)) * 8 + 1;
    return limit > 0 && steps <= 1e6 ? (long long)steps : -1;
}

static void warn_pace(swm_camera_warning *warnings, int *count, int64_t frame, int64_t frames, const char *verb,
                      double value, double limit, const char *unit)
{
    const long long enough = slower(frames, value, limit);
    char remedy[64] = "slow down there";
    if (enough > 0) snprintf(remedy, sizeof remedy, "slow down there, or resample to %lld frames", enough);
    warn(warnings, count, "frame %lld %s %.3g %s from the one before; the model knows up to %.3g: %s", (long long)frame,
         verb, value, unit, limit, remedy);
}

int swm_camera_check(const swm_camera_measures *m, const swm_camera_limits *limits,
                     swm_camera_warning warnings[SWM_CAMERA_WARNINGS])
{
    int count = 0;
    if (exceeds(m->step, limits->step))
        warn_pace(warnings, &count, m->step_at, m->frames, "moves", m->step, limits->step, "units");
    if (exceeds(m->turn, limits->turn))
        warn_pace(warnings, &count, m->turn_at, m->frames, "turns", m->turn, limits->turn, "degrees");
    if (exceeds(m->reach, limits->reach))
        warn(warnings, &count,
             "frame %lld is %.4g units from the first; the model knows up to %.4g: shorten the path, or scale it down "
             "if "
             "its units are not metres",
             (long long)m->reach_at, m->reach, limits->reach);
    if (exceeds(m->tilt, limits->tilt))
        warn(warnings, &count, "frame %lld looks %.0f degrees up or down; the model knows up to %.0f: tilt less",
             (long long)m->tilt_at, m->tilt, limits->tilt);
    if (m->frames > limits->frames)
        warn(warnings, &count, "the path has %lld frames; the model knows up to %lld: shorten or split it",
             (long long)m->frames, (long long)limits->frames);
    return count;
}
