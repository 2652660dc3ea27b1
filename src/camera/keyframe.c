/* Reads keyframe files and joins their segments into one path. See keyframe.h.
 *
 * All segments are laid down on one track of closely spaced poses in double precision; limits of speed and the frame rate
 * are applied to the whole track at the end. */
#include "camera/keyframe.h"

#include "camera/action.h"
#include "camera/preset.h"
#include "camera/resample.h"
#include "camera/retime.h"
#include "core/file.h"
#include "io/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEYS_MOST = 4096, SEGMENTS_MOST = 1024, FINE = 4 };

static const double SECONDS_MOST = 36000, REACH_MOST = 1e5;

/* --- the track --- */

typedef struct track {
    double fps, rate; /* frames and poses a second; the rate is higher where the pace has limits */
    int64_t count, capacity, most;
    double *poses; /* (count,4,4), owned */
} track;

static int reserve(track *t, int64_t more, swm_error *error)
{
    if (more > t->most - t->count)
        return swm_fail(error, "the path grows longer than %d frames; shorten it", SWM_KEYFRAMES_MAX_FRAMES);
    if (t->count + more <= t->capacity) return 0;
    const int64_t capacity = swm_min(2 * (t->count + more), t->most);
    double *grown = realloc(t->poses, (size_t)capacity * 16 * sizeof *grown);
    if (grown == NULL) return swm_fail(error, "no memory for %lld poses", (long long)capacity);
    t->poses = grown;
    t->capacity = capacity;
    return 0;
}

static double *pose_at(const track *t, int64_t i) { return t->poses + 16 * i; }

/* Room has been reserved. */
static void append(track *t, const double pose[16]) { memcpy(pose_at(t, t->count++), pose, 16 * sizeof *pose); }

/* Steps of the track in so many seconds: at least one. */
static int64_t steps_in(const track *t, double seconds) { return swm_max(1, llround(seconds * t->rate)); }

/* What moves a segment that begins at `first` to the end of the track. The first segment stays where it is. */
static void joint(const track *t, const double first[16], double out[16])
{
    static const double identity[16] = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1};
    memcpy(out, identity, sizeof identity);
    if (t->count == 0) return;
    swm_se3_inverse(out, first);
    swm_se3_multiply(out, pose_at(t, t->count - 1), out);
}

/* A segment as a function of its time 0 .. 1. */
typedef void (*segment_pose)(const void *user, double time, double pose[16]);

static int lay_down(track *t, double seconds, segment_pose at, const void *user, swm_error *error)
{
    const int64_t steps = steps_in(t, seconds), begin = t->count == 0 ? 0 : 1;
    double first[16], to_track[16], pose[16];
    if (reserve(t, steps + 1 - begin, error) < 0) return -1;
    at(user, 0, first);
    joint(t, first, to_track);
    for (int64_t i = begin; i <= steps; i++) {
        at(user, (double)i / (double)steps, pose);
        swm_se3_multiply(pose, to_track, pose);
        append(t, pose);
    }
    return 0;
}

/* --- numbers of the file --- */

/* The list of exactly `count` numbers under `key`, which is there. */
static int read_numbers(swm_json in, const char *key, int count, double most, double *out, swm_error *error)
{
    char expected[80];
    snprintf(expected, sizeof expected, "a list of %d numbers within -%g .. %g", count, most, most);
    const cJSON *list = swm_json_find(in, key), *item;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != count) return swm_json_refuse(in, key, expected, error);
    int n = 0;
    cJSON_ArrayForEach(item, list)
    {
        if (!cJSON_IsNumber(item) || !(fabs(item->valuedouble) <= most))
            return swm_json_refuse(in, key, expected, error);
        out[n++] = item->valuedouble;
    }
    return 0;
}

static bool has(swm_json in, const char *key) { return swm_json_find(in, key) != NULL; }

/* --- poses with a curve through them --- */

/* One column each for the six coordinates of motion: position x, y, z and rotation vector x, y, z. */
enum { COLUMNS = 6 };

typedef struct key {
    double time, pose[16], rotation[4]; /* seconds, camera to world, its quaternion */
    double rate[COLUMNS]; /* at this key: units and radians a second, the latter about the camera's axes */
} key;

typedef struct curve {
    key *keys;
    int count;
    bool linear, watches; /* straight lines; always face `subject` */
    double subject[3];
} curve;

/* The rotation vector of a unit quaternion with w >= 0. */
static void quaternion_log(double out[3], const double q[4])
{
    const double sine = sqrt(q[1] * q[1] + q[2] * q[2] + q[3] * q[3]), half = atan2(sine, q[0]);
    const double scale = sine > 1e-12 ? 2 * half / sine : 2;
    for (int i = 0; i < 3; i++) out[i] = scale * q[1 + i];
}

static void quaternion_exp(double q[4], const double v[3], double factor)
{
    const double angle = factor * sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
    const double scale = fabs(angle) > 1e-12 ? factor * sin(angle / 2) / angle : factor / 2;
    q[0] = cos(angle / 2);
    for (int i = 0; i < 3; i++) q[1 + i] = scale * v[i];
}

static void quaternion_multiply(double out[4], const double a[4], const double b[4])
{
    const double q[4] = {
        a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3], a[0] * b[1] + a[1] * b[0] + a[2] * b[3] - a[3] * b[2],
        a[0] * b[2] - a[1] * b[3] + a[2] * b[0] + a[3] * b[1], a[0] * b[3] + a[1] * b[2] - a[2] * b[1] + a[3] * b[0]};
    memcpy(out, q, sizeof q);
}

/* a^-1 b with w >= 0, for unit quaternions. */
static void quaternion_between(double out[4], const double a[4], const double b[4])
{
    const double inverse[4] = {a[0], -a[1], -a[2], -a[3]};
    quaternion_multiply(out, inverse, b);
    if (out[0] < 0)
        for (int i = 0; i < 4; i++) out[i] = -out[i];
}

/* The way from a key to the next. */
static void difference(double out[COLUMNS], const key *a)
{
    double turn[4];
    for (int i = 0; i < 3; i++) out[i] = a[1].pose[4 * i + 3] - a[0].pose[4 * i + 3];
    quaternion_between(turn, a[0].rotation, a[1].rotation);
    quaternion_log(out + 3, turn);
}

/* Rates at the keys that make the second derivative of the position continuous, and that of the rotation nearly so: the
 * equations of the cubic spline, tridiagonal, by elimination. An eased end is at rest, the other kind has no second
 * derivative. */
static int solve_rates(curve *c, bool ease_in, bool ease_out, swm_error *error)
{
    const int n = c->count;
    double *upper = swm_allocate(error, (size_t)n, sizeof *upper);
    if (upper == NULL) return -1;
    double before[COLUMNS] = {0}, after[COLUMNS] = {0}, h_before = 1, h_after = 1;
    for (int i = 0; i < n; i++) {
        const bool first = i == 0, last = i == n - 1, rest = (first && ease_in) || (last && ease_out);
        if (!last) {
            difference(after, c->keys + i);
            h_after = c->keys[i + 1].time - c->keys[i].time;
        }
        const double p = first ? 0 : 1 / h_before, q = last ? 0 : 1 / h_after;
        const double pivot = rest ? 1 : 2 * (p + q) - (first ? 0 : p * upper[i - 1]);
        upper[i] = rest ? 0 : q / pivot;
        for (int k = 0; k < COLUMNS; k++) {
            const double right = 3 * (before[k] * p * p + after[k] * q * q) * (rest ? 0 : 1);
            c->keys[i].rate[k] = (right - (first || rest ? 0 : p * c->keys[i - 1].rate[k])) / pivot;
        }
        memcpy(before, after, sizeof before);
        memset(after, 0, sizeof after);
        h_before = h_after;
    }
    for (int i = n - 2; i >= 0; i--)
        for (int k = 0; k < COLUMNS; k++) c->keys[i].rate[k] -= upper[i] * c->keys[i + 1].rate[k];
    free(upper);
    return 0;
}

/* Cubic between two keys, by position, from positions and velocities at its ends. */
static double cubic(double a, double b, double rate_a, double rate_b, double h, double x)
{
    const double y = 1 - x;
    return a * (1 + 2 * x) * y * y + b * (3 - 2 * x) * x * x + rate_a * h * x * y * y - rate_b * h * x * x * y;
}

/* The same for rotations: three turns after each other, the outer ones of a third of the key's rate times h. Exact at both
 * keys, with the keys' angular velocities there. */
static void turn_between(double pose[16], const key *a, const key *b, double h, double x)
{
    double turns[3][3], q[4], rest[4], step[4];
    for (int i = 0; i < 3; i++) {
        turns[0][i] = a->rate[3 + i] * h / 3;
        turns[2][i] = b->rate[3 + i] * h / 3;
    }
    quaternion_between(rest, a->rotation, b->rotation);
    quaternion_exp(step, turns[0], -1);
    quaternion_multiply(rest, step, rest);
    quaternion_exp(step, turns[2], -1);
    quaternion_multiply(rest, rest, step);
    if (rest[0] < 0)
        for (int i = 0; i < 4; i++) rest[i] = -rest[i];
    quaternion_log(turns[1], rest);
    const double y = 1 - x, parts[3] = {1 - y * y * y, x * x * (3 - 2 * x), x * x * x};
    memcpy(q, a->rotation, sizeof q);
    for (int i = 0; i < 3; i++) {
        quaternion_exp(step, turns[i], parts[i]);
        quaternion_multiply(q, q, step);
    }
    swm_quaternion_to_pose(pose, q);
}

static void curve_pose(const void *user, double time, double pose[16])
{
    const curve *c = user;
    const double t = c->keys[0].time + time * (c->keys[c->count - 1].time - c->keys[0].time);
    int at = 0, high = c->count - 2;
    while (at < high) { /* the last interval that begins by then */
        const int middle = (at + high + 1) / 2;
        if (c->keys[middle].time <= t)
            at = middle;
        else
            high = middle - 1;
    }
    const key *a = c->keys + at, *b = a + 1;
    const double h = b->time - a->time, x = fmax(0, fmin(1, (t - a->time) / h));
    memset(pose, 0, 16 * sizeof *pose);
    pose[15] = 1;
    for (int i = 0; i < 3; i++) {
        const double from = a->pose[4 * i + 3], to = b->pose[4 * i + 3];
        pose[4 * i + 3] = c->linear ? from + (to - from) * x : cubic(from, to, a->rate[i], b->rate[i], h, x);
    }
    if (c->watches) {
        const double position[3] = {pose[3], pose[7], pose[11]};
        swm_pose_look_at(pose, position, c->subject);
    } else if (c->linear) {
        double q[4];
        swm_quaternion_slerp(q, a->rotation, b->rotation, x);
        swm_quaternion_to_pose(pose, q);
    } else {
        turn_between(pose, a, b, h, x);
    }
}

static int read_quaternion(swm_json in, const char *name, bool w_first, double pose[16], swm_error *error)
{
    double n[4];
    if (read_numbers(in, name, 4, 1e6, n, error) < 0) return -1;
    if (n[0] * n[0] + n[1] * n[1] + n[2] * n[2] + n[3] * n[3] < 1e-12)
        return swm_json_refuse(in, name, "a quaternion that is not zero", error);
    const double q[4] = {w_first ? n[0] : n[3], w_first ? n[1] : n[0], w_first ? n[2] : n[1], w_first ? n[3] : n[2]};
    swm_quaternion_to_pose(pose, q);
    return 0;
}

static int read_look_at(swm_json in, const double position[3], double pose[16], swm_error *error)
{
    double target[3], roll, level[16];
    if (read_numbers(in, "look_at", 3, REACH_MOST, target, error) < 0 ||
        swm_json_number_or(in, "roll", -360, 360, 0, &roll, error) < 0)
        return -1;
    if (hypot(hypot(target[0] - position[0], target[1] - position[1]), target[2] - position[2]) < 1e-9)
        return swm_json_refuse(in, "look_at", "another point than the position", error);
    swm_pose_look_at(pose, position, target);
    swm_pose_from_angles(level, (const double[3]){0, 0, 0}, 0, 0, roll);
    swm_se3_multiply(pose, pose, level);
    return 0;
}

/* One entry of "poses". `previous` is the key before, or NULL: what is not said stays as it was. */
static int read_key(key *k, const key *previous, swm_json in, swm_error *error)
{
    static const char *const known[] = {"time",  "position",        "look_at",        "roll",
                                        "euler", "quaternion_wxyz", "quaternion_xyzw"};
    static const char *const kinds[] = {"look_at", "euler", "quaternion_wxyz", "quaternion_xyzw"};
    if (swm_json_only(in, known, sizeof known / sizeof known[0], error) < 0 ||
        swm_json_number(in, "time", 0, SECONDS_MOST, &k->time, error) < 0)
        return -1;
    if (previous != NULL && k->time <= previous->time)
        return swm_fail(error, "%s: %s has time %g, the one before %g; times must rise", in.file, in.section, k->time,
                        previous->time);
    double position[3] = {0}, angles[3];
    for (int i = 0; i < 3 && previous != NULL; i++) position[i] = previous->pose[4 * i + 3];
    if (has(in, "position") && read_numbers(in, "position", 3, REACH_MOST, position, error) < 0) return -1;
    swm_pose_from_angles(k->pose, position, 0, 0, 0);
    if (previous != NULL) memcpy(k->pose, previous->pose, sizeof k->pose);
    const char *kind = NULL;
    for (int i = 0; i < 4; i++) {
        if (!has(in, kinds[i])) continue;
        if (kind != NULL)
            return swm_fail(error, "%s: %s has both %s and %s; keep one", in.file, in.section, kind, kinds[i]);
        kind = kinds[i];
    }
    if (has(in, "roll") && kind != kinds[0])
        return swm_fail(error, "%s: %s has roll without look_at; write euler [yaw, pitch, roll]", in.file, in.section);
    if (kind == kinds[0] && read_look_at(in, position, k->pose, error) < 0) return -1;
    if (kind == kinds[1]) {
        if (read_numbers(in, "euler", 3, 36000, angles, error) < 0) return -1;
        swm_pose_from_angles(k->pose, position, angles[0], angles[1], angles[2]);
    }
    if (kind == kinds[2] && read_quaternion(in, "quaternion_wxyz", true, k->pose, error) < 0) return -1;
    if (kind == kinds[3] && read_quaternion(in, "quaternion_xyzw", false, k->pose, error) < 0) return -1;
    for (int i = 0; i < 3; i++) k->pose[4 * i + 3] = position[i];
    swm_quaternion_from_pose(k->rotation, k->pose);
    return 0;
}

static int read_keys(curve *c, swm_json in, const cJSON *list, swm_error *error)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, list)
    {
        char where[48];
        snprintf(where, sizeof where, "poses[%d]", c->count);
        swm_json entry;
        if (swm_json_root(&entry, in.file, item, error) < 0) return -1;
        entry.section = where;
        if (read_key(c->keys + c->count, c->count > 0 ? c->keys + c->count - 1 : NULL, entry, error) < 0) return -1;
        if (c->watches) {
            const double *p = c->keys[c->count].pose, position[3] = {p[3], p[7], p[11]};
            swm_pose_look_at(c->keys[c->count].pose, position, c->subject);
        }
        c->count++;
    }
    return 0;
}

static int lay_curve(track *t, curve *c, swm_json in, swm_error *error)
{
    const cJSON *list = swm_json_find(in, "poses");
    const char *kind, *ease;
    if (swm_json_string_or(in, "curve", "smooth", &kind, error) < 0 ||
        swm_json_string_or(in, "ease", "both", &ease, error) < 0 ||
        (has(in, "look_at") && read_numbers(in, "look_at", 3, REACH_MOST, c->subject, error) < 0))
        return -1;
    const bool both = strcmp(ease, "both") == 0, in_only = strcmp(ease, "in") == 0, out_only = strcmp(ease, "out") == 0;
    c->linear = strcmp(kind, "linear") == 0;
    c->watches = has(in, "look_at");
    if (!c->linear && strcmp(kind, "smooth") != 0)
        return swm_json_refuse(in, "curve", "\"smooth\" or \"linear\"", error);
    if (!both && !in_only && !out_only && strcmp(ease, "none") != 0)
        return swm_json_refuse(in, "ease", "\"both\", \"in\", \"out\" or \"none\"", error);
    if (read_keys(c, in, list, error) < 0) return -1;
    if (!c->linear && solve_rates(c, both || in_only, both || out_only, error) < 0) return -1;
    return lay_down(t, c->keys[c->count - 1].time - c->keys[0].time, curve_pose, c, error);
}

static int add_poses(track *t, swm_json in, swm_error *error)
{
    const cJSON *list = swm_json_find(in, "poses");
    const int count = cJSON_IsArray(list) ? cJSON_GetArraySize(list) : 0;
    if (count < 2 || count > KEYS_MOST) return swm_json_refuse(in, "poses", "a list of 2 to 4096 poses", error);
    curve c = {.keys = swm_allocate(error, (size_t)count, sizeof *c.keys)};
    if (c.keys == NULL) return -1;
    const int status = lay_curve(t, &c, in, error);
    free(c.keys);
    return status;
}

/* --- other segments --- */

static void resting_pose(const void *user, double time, double pose[16])
{
    (void)user, (void)time;
    swm_pose_from_angles(pose, (const double[3]){0, 0, 0}, 0, 0, 0);
}

static int add_hold(track *t, swm_json in, swm_error *error)
{
    double seconds;
    if (swm_json_number(in, "hold", 0, SECONDS_MOST, &seconds, error) < 0) return -1;
    return lay_down(t, seconds, resting_pose, NULL, error);
}

static void move_pose(const void *user, double time, double pose[16]) { swm_preset_pose(user, time, pose); }

static int add_move(track *t, swm_json in, swm_error *error)
{
    const char *name;
    double seconds;
    if (swm_json_string(in, "move", &name, error) < 0) return -1;
    swm_error cause = {0};
    const swm_preset *preset = swm_preset_find(name, &cause);
    if (preset == NULL) return swm_fail(error, "%s: %s: %s", in.file, in.section, cause.text);
    swm_preset_options options = swm_preset_defaults(preset);
    if (swm_json_number(in, "seconds", 0.001, SECONDS_MOST, &seconds, error) < 0 ||
        swm_json_number_or(in, "ease", 0, 0.5, options.ease, &options.ease, error) < 0)
        return -1;
    for (int i = 0; i < SWM_PRESET_PARAMETER_COUNT; i++) {
        const swm_preset_parameter_info *p = swm_preset_parameter_at(i);
        if (swm_json_number_or(in, p->name, p->minimum, p->maximum, options.values[i], &options.values[i], error) < 0)
            return -1;
    }
    if (swm_preset_check(&options, &cause) < 0) return swm_fail(error, "%s: %s: %s", in.file, in.section, cause.text);
    return lay_down(t, seconds, move_pose, &options, error);
}

/* Poses that exist already, one a frame. */
static void stored_pose(const void *user, double time, double pose[16])
{
    const swm_poses *poses = user;
    const double position = time * (double)(poses->count - 1);
    const int64_t at = swm_max(0, swm_min((int64_t)position, poses->count - 2));
    double a[16], b[16], from[4], to[4];
    swm_se3_from_floats(a, poses->c2w + 16 * at);
    swm_se3_from_floats(b, poses->c2w + 16 * (at + 1));
    swm_quaternion_from_pose(from, a);
    swm_quaternion_from_pose(to, b);
    swm_quaternion_slerp(from, from, to, position - (double)at);
    memset(pose, 0, 16 * sizeof *pose);
    pose[15] = 1;
    swm_quaternion_to_pose(pose, from);
    for (int i = 3; i < 12; i += 4) pose[i] = a[i] + (b[i] - a[i]) * (position - (double)at);
}

static int add_action(track *t, swm_json in, swm_error *error)
{
    const char *action, *name;
    if (swm_json_string(in, "action", &action, error) < 0 || swm_json_string_or(in, "keys", "", &name, error) < 0)
        return -1;
    swm_error cause = {0};
    const swm_key_profile *profile = swm_key_profile_find(name, &cause);
    if (profile == NULL) return swm_fail(error, "%s: %s: %s", in.file, in.section, cause.text);
    swm_motion_options motion = swm_motion_defaults(profile);
    if (swm_json_number_or(in, "translation_speed", 0, 100, motion.translation_speed, &motion.translation_speed,
                           error) < 0 ||
        swm_json_number_or(in, "rotation_speed", 0, 180, motion.rotation_speed_degrees, &motion.rotation_speed_degrees,
                           error) < 0)
        return -1;
    swm_poses poses;
    if (swm_action_rollout(action, &motion, &poses, &cause) < 0)
        return swm_fail(error, "%s: %s: %s", in.file, in.section, cause.text);
    const int status = lay_down(t, (double)(poses.count - 1) / t->fps, stored_pose, &poses, error);
    swm_poses_free(&poses);
    return status;
}

static int add_return(track *t, swm_json in, swm_error *error)
{
    bool wanted;
    if (swm_json_bool(in, "return", &wanted, error) < 0) return -1;
    if (!wanted || t->count < 2)
        return swm_fail(error, "%s: %s: return goes back over everything before it: write true, and not first", in.file,
                        in.section);
    const int64_t there = t->count;
    if (reserve(t, there - 1, error) < 0) return -1;
    for (int64_t i = there - 2; i >= 0; i--) append(t, pose_at(t, i));
    return 0;
}

static const struct segment_kind {
    const char *key;
    int (*add)(track *t, swm_json in, swm_error *error);
    const char *known[12];
} KINDS[] = {
    {"poses", add_poses, {"poses", "curve", "ease", "look_at"}},
    {"hold", add_hold, {"hold"}},
    {"move",
     add_move,
     {"move", "seconds", "ease", "distance", "radius", "end-radius", "angle", "tilt", "height", "turns"}},
    {"action", add_action, {"action", "keys", "translation_speed", "rotation_speed"}},
    {"return", add_return, {"return"}},
};
enum { KIND_COUNT = sizeof KINDS / sizeof KINDS[0] };

static int add_segment(track *t, swm_json in, swm_error *error)
{
    for (int i = 0; i < KIND_COUNT; i++) {
        if (!has(in, KINDS[i].key)) continue;
        int known = 0;
        while (known < 12 && KINDS[i].known[known] != NULL) known++;
        if (swm_json_only(in, KINDS[i].known, known, error) < 0) return -1;
        return KINDS[i].add(t, in, error);
    }
    return swm_fail(error, "%s: %s has none of poses, hold, move, action and return; one of them says what happens",
                    in.file, in.section);
}

static int add_segments(track *t, swm_json root, swm_error *error)
{
    const cJSON *list = swm_json_find(root, "segments"), *item;
    const int count = cJSON_IsArray(list) ? cJSON_GetArraySize(list) : 0;
    if (count < 1 || count > SEGMENTS_MOST)
        return swm_json_refuse(root, "segments", "a list of 1 to 1024 segments", error);
    int i = 0;
    cJSON_ArrayForEach(item, list)
    {
        char where[48];
        snprintf(where, sizeof where, "segments[%d]", i++);
        swm_json in;
        if (swm_json_root(&in, root.file, item, error) < 0) return -1;
        in.section = where;
        if (add_segment(t, in, error) < 0) return -1;
    }
    return 0;
}

/* --- the whole file --- */

static int read_pace(swm_pace *pace, swm_json root, swm_error *error)
{
    static const char *const known[] = {"speed", "acceleration", "turn", "turn_acceleration"};
    double *const values[] = {&pace->speed, &pace->acceleration, &pace->turn, &pace->turn_acceleration};
    swm_json in;
    if (!has(root, "limits")) return 0;
    if (swm_json_section(root, "limits", &in, error) < 0 || swm_json_only(in, known, 4, error) < 0) return -1;
    for (int i = 0; i < 4; i++)
        if (swm_json_number_or(in, known[i], 1e-6, 1e6, 0, values[i], error) < 0) return -1;
    return 0;
}

static int read_handheld(swm_handheld *handheld, swm_json root, swm_error *error)
{
    static const char *const known[] = {"shake", "sway", "frequency", "seed"};
    swm_json in;
    int64_t seed;
    if (!has(root, "handheld")) return 0;
    if (swm_json_section(root, "handheld", &in, error) < 0 || swm_json_only(in, known, 4, error) < 0 ||
        swm_json_number_or(in, "shake", 0, 100, 0.01, &handheld->shake, error) < 0 ||
        swm_json_number_or(in, "sway", 0, 45, 0.5, &handheld->sway, error) < 0 ||
        swm_json_number_or(in, "frequency", 0.01, 100, 1, &handheld->frequency, error) < 0 ||
        swm_json_integer_or(in, "seed", 0, (int64_t)1 << 52, 0, &seed, error) < 0)
        return -1;
    handheld->seed = (uint64_t)seed;
    return 0;
}

static void tremble(swm_poses *poses, const swm_handheld *handheld, double fps)
{
    for (int64_t i = 0; i < poses->count; i++) {
        double pose[16], noise[16];
        swm_se3_from_floats(pose, poses->c2w + 16 * i);
        swm_handheld_pose(handheld, (double)i / fps, noise);
        swm_se3_multiply(pose, pose, noise);
        for (int k = 0; k < 16; k++) poses->c2w[16 * i + k] = (float)pose[k];
    }
}

static int build(swm_poses *poses, double *fps, swm_json root, swm_error *error)
{
    static const char *const known[] = {"format",   "version", "comment", "fps",  "limits", "handheld",
                                        "segments", "poses",   "curve",   "ease", "look_at"};
    const char *format, *comment;
    int64_t version;
    track t = {0};
    swm_pace pace = {0};
    swm_handheld handheld = {0};
    if (swm_json_string(root, "format", &format, error) < 0) return -1;
    if (strcmp(format, "sanawm-keyframes") != 0) return swm_json_refuse(root, "format", "\"sanawm-keyframes\"", error);
    if (swm_json_only(root, known, sizeof known / sizeof known[0], error) < 0 ||
        swm_json_integer(root, "version", 1, 1, &version, error) < 0 ||
        swm_json_string_or(root, "comment", "", &comment, error) < 0 ||
        swm_json_number_or(root, "fps", 1, 240, 16, &t.fps, error) < 0 || read_pace(&pace, root, error) < 0 ||
        read_handheld(&handheld, root, error) < 0)
        return -1;
    if (has(root, "segments") == has(root, "poses"))
        return swm_fail(error, "%s: expected either \"poses\" or \"segments\"", root.file);
    if (has(root, "segments") && (has(root, "curve") || has(root, "ease") || has(root, "look_at")))
        return swm_fail(error, "%s: curve, ease and look_at belong into a segment with poses", root.file);
    const int fine = swm_pace_limits(&pace) ? FINE : 1;
    t.rate = fine * t.fps;
    t.most = (int64_t)fine * SWM_KEYFRAMES_MAX_FRAMES;
    int status = has(root, "poses") ? add_poses(&t, root, error) : add_segments(&t, root, error);
    if (status == 0)
        status = swm_retime(poses, t.poses, t.count, t.rate, t.fps, &pace, SWM_KEYFRAMES_MAX_FRAMES, error);
    free(t.poses);
    if (status < 0) return -1;
    if (handheld.shake > 0 || handheld.sway > 0) tremble(poses, &handheld, t.fps);
    if (fps != NULL) *fps = t.fps;
    return 0;
}

int swm_keyframes_parse(swm_poses *poses, double *fps, const char *name, const void *data, size_t size,
                        swm_error *error)
{
    *poses = (swm_poses){0};
    if (size > SWM_KEYFRAMES_MAX_SIZE)
        return swm_fail(error, "%.300s: %zu bytes of keyframes; at most %d are read", name, size,
                        SWM_KEYFRAMES_MAX_SIZE);
    cJSON *tree = swm_json_parse(name, data, size, error);
    if (tree == NULL) return -1;
    swm_json root;
    swm_error cause = {0};
    int status = swm_json_root(&root, name, tree, &cause);
    if (status == 0) status = build(poses, fps, root, &cause);
    /* A path can leave the allowed space between its keys, or through a long chain. */
    if (status == 0) status = swm_poses_check(poses, &cause);
    if (status < 0) {
        swm_poses_free(poses);
        const size_t n = strlen(name);
        const bool named = n > 0 && strncmp(cause.text, name, n) == 0;
        swm_fail(error, "%.300s%s%s", named ? "" : name, named ? "" : ": ", cause.text);
    }
    cJSON_Delete(tree);
    return status;
}

int swm_keyframes_load(swm_poses *poses, double *fps, const char *path, swm_error *error)
{
    *poses = (swm_poses){0};
    size_t size;
    char *text = swm_file_read(path, SWM_KEYFRAMES_MAX_SIZE, &size, error);
    if (text == NULL) return -1;
    const int status = swm_keyframes_parse(poses, fps, path, text, size, error);
    free(text);
    return status;
}
