/* The formulas of the named moves. See preset.h. */
#include "camera/preset.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const double PI = 3.14159265358979323846;

static double radians(double degrees) { return degrees * (PI / 180); }

/* --- poses --- */

void swm_pose_from_angles(double pose[16], const double position[3], double yaw, double pitch, double roll)
{
    const double cy = cos(radians(yaw)), sy = sin(radians(yaw)), cp = cos(radians(pitch)), sp = sin(radians(pitch));
    const double cr = cos(radians(roll)), sr = sin(radians(roll));
    const double turned[16] = {cy, 0, sy, 0, 0, 1, 0, 0, -sy, 0, cy, 0, 0, 0, 0, 1};
    const double tilted[16] = {1, 0, 0, 0, 0, cp, -sp, 0, 0, sp, cp, 0, 0, 0, 0, 1};
    const double rolled[16] = {cr, -sr, 0, 0, sr, cr, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1};
    swm_se3_multiply(pose, turned, tilted);
    swm_se3_multiply(pose, pose, rolled);
    for (int i = 0; i < 3; i++) pose[4 * i + 3] = position[i];
}

void swm_pose_look_at(double pose[16], const double position[3], const double target[3])
{
    const double x = target[0] - position[0], y = target[1] - position[1], z = target[2] - position[2];
    const double flat = hypot(x, z);
    swm_pose_from_angles(pose, position, atan2(x, z) * (180 / PI), atan2(-y, flat) * (180 / PI), 0);
}

/* --- noise --- */

/* The next of a sequence of well-mixed 64-bit numbers (splitmix64), as a fraction 0 .. 1. */
static double fraction(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

/* One noise of root mean square 1 at a time: waves of 0.4 to 2.5 times the frequency, the fast ones smaller. */
static double wander(uint64_t *state, double frequency, double seconds)
{
    enum { WAVES = 6 };
    double sum = 0, power = 0;
    for (int i = 0; i < WAVES; i++) {
        const double ratio = 0.4 * pow(2.5 / 0.4, (i + fraction(state)) / WAVES), amplitude = 1 / (0.5 + ratio);
        sum += amplitude * sin(2 * PI * (fraction(state) + ratio * frequency * seconds));
        power += amplitude * amplitude / 2;
    }
    return sum / sqrt(power);
}

void swm_handheld_pose(const swm_handheld *handheld, double seconds, double pose[16])
{
    const double begun = fmin(1, seconds / 0.5), strength = begun * begun * (3 - 2 * begun);
    uint64_t state = handheld->seed;
    double noise[6];
    for (int i = 0; i < 6; i++) noise[i] = strength * wander(&state, handheld->frequency, seconds);
    for (int i = 0; i < 3; i++) noise[i] *= handheld->shake;
    swm_pose_from_angles(pose, noise, handheld->sway * noise[3], handheld->sway * noise[4], handheld->sway * noise[5]);
}

/* --- moves --- */

static const double ORIGIN[3] = {0};

/* A position on the circle around the subject, `angle` degrees on, risen by `height` and facing the subject. */
static void around(double pose[16], double subject, double radius, double angle, double height)
{
    const double a = radians(angle), target[3] = {0, 0, subject};
    const double position[3] = {radius * sin(a), -height, subject - radius * cos(a)};
    swm_pose_look_at(pose, position, target);
}

/* Drive a curve of that length which turns by `angle` degrees to the right, looking where it goes. */
static void drive(double pose[16], double distance, double angle)
{
    const double a = radians(angle);
    /* The chord's two parts; for small angles their series, as the quotients lose all digits there. */
    const double aside = fabs(a) > 1e-4 ? (1 - cos(a)) / a : a / 2, ahead = fabs(a) > 1e-4 ? sin(a) / a : 1 - a * a / 6;
    const double position[3] = {distance * aside, 0, distance * ahead};
    swm_pose_from_angles(pose, position, angle, 0, 0);
}

static void pose_orbit(const double *v, double u, double pose[16])
{
    around(pose, v[SWM_PRESET_RADIUS], v[SWM_PRESET_RADIUS], v[SWM_PRESET_ANGLE] * u, 0);
}

static void pose_arc(const double *v, double u, double pose[16])
{
    around(pose, v[SWM_PRESET_RADIUS], v[SWM_PRESET_RADIUS], v[SWM_PRESET_ANGLE] * u, v[SWM_PRESET_HEIGHT] * u);
}

static void pose_spiral(const double *v, double u, double pose[16])
{
    const double radius = v[SWM_PRESET_RADIUS] + (v[SWM_PRESET_END_RADIUS] - v[SWM_PRESET_RADIUS]) * u;
    around(pose, v[SWM_PRESET_RADIUS], radius, 360 * v[SWM_PRESET_TURNS] * u, v[SWM_PRESET_HEIGHT] * u);
}

static void pose_dolly(const double *v, double u, double pose[16])
{
    swm_pose_from_angles(pose, (const double[3]){0, 0, v[SWM_PRESET_DISTANCE] * u}, 0, 0, 0);
}

static void pose_truck(const double *v, double u, double pose[16])
{
    swm_pose_from_angles(pose, (const double[3]){v[SWM_PRESET_DISTANCE] * u, 0, 0}, 0, 0, 0);
}

static void pose_pedestal(const double *v, double u, double pose[16])
{
    swm_pose_from_angles(pose, (const double[3]){0, -v[SWM_PRESET_HEIGHT] * u, 0}, 0, 0, 0);
}

static void pose_crane(const double *v, double u, double pose[16])
{
    const double position[3] = {0, -v[SWM_PRESET_HEIGHT] * u, v[SWM_PRESET_DISTANCE] * u};
    swm_pose_look_at(pose, position, (const double[3]){0, 0, v[SWM_PRESET_RADIUS]});
}

static void pose_pan(const double *v, double u, double pose[16])
{
    swm_pose_from_angles(pose, ORIGIN, v[SWM_PRESET_ANGLE] * u, 0, 0);
}

static void pose_tilt(const double *v, double u, double pose[16])
{
    swm_pose_from_angles(pose, ORIGIN, 0, v[SWM_PRESET_TILT] * u, 0);
}

static void pose_look_around(const double *v, double u, double pose[16])
{
    swm_pose_from_angles(pose, ORIGIN, v[SWM_PRESET_ANGLE] * sin(2 * PI * u), v[SWM_PRESET_TILT] * sin(4 * PI * u), 0);
}

static void pose_figure_8(const double *v, double u, double pose[16])
{
    const double side = u <= 0.5 ? 1 : -1, around_loop = u <= 0.5 ? 2 * u : 2 * u - 1;
    drive(pose, 2 * PI * v[SWM_PRESET_RADIUS] * around_loop, 360 * side * around_loop);
}

static void pose_there_and_back(const double *v, double u, double pose[16])
{
    drive(pose, v[SWM_PRESET_DISTANCE] * u, v[SWM_PRESET_ANGLE] * u);
}

/* --- the list --- */

static const swm_preset_parameter_info PARAMETERS[SWM_PRESET_PARAMETER_COUNT] = {
    [SWM_PRESET_DISTANCE] = {"distance", "units", -1000, 1000},
    [SWM_PRESET_RADIUS] = {"radius", "units", 0.01, 1000},
    [SWM_PRESET_END_RADIUS] = {"end-radius", "units", 0.01, 1000},
    [SWM_PRESET_ANGLE] = {"angle", "degrees", -3600, 3600},
    [SWM_PRESET_TILT] = {"tilt", "degrees", -89, 89},
    [SWM_PRESET_HEIGHT] = {"height", "units", -1000, 1000},
    [SWM_PRESET_TURNS] = {"turns", "turns", -20, 20},
};

#define DISTANCE   (1u << SWM_PRESET_DISTANCE)
#define RADIUS     (1u << SWM_PRESET_RADIUS)
#define END_RADIUS (1u << SWM_PRESET_END_RADIUS)
#define ANGLE      (1u << SWM_PRESET_ANGLE)
#define TILT       (1u << SWM_PRESET_TILT)
#define HEIGHT     (1u << SWM_PRESET_HEIGHT)
#define TURNS      (1u << SWM_PRESET_TURNS)

/* The noise of a move that is meant to be steady, for when only one of its numbers is asked for. */
#define STEADY                                                                                                         \
    {                                                                                                                  \
        .frequency = 1                                                                                                 \
    }

static const swm_preset PRESETS[] = {
    {.name = "orbit",
     .meaning = "Circle the subject at the same height, always facing it; a positive angle begins to the right.",
     .takes = RADIUS | ANGLE,
     .values = {[SWM_PRESET_RADIUS] = 2, [SWM_PRESET_ANGLE] = 360},
     .handheld = STEADY,
     .pose = pose_orbit},
    {.name = "arc",
     .meaning = "Swing part of the way around the subject, rising on the way, always facing it.",
     .takes = RADIUS | ANGLE | HEIGHT,
     .values = {[SWM_PRESET_RADIUS] = 2, [SWM_PRESET_ANGLE] = 60, [SWM_PRESET_HEIGHT] = 0.4},
     .handheld = STEADY,
     .pose = pose_arc},
    {.name = "spiral",
     .meaning = "Circle the subject while the distance to it changes from radius to end-radius and the camera rises.",
     .takes = RADIUS | END_RADIUS | TURNS | HEIGHT,
     .values =
         {[SWM_PRESET_RADIUS] = 2, [SWM_PRESET_END_RADIUS] = 1, [SWM_PRESET_TURNS] = 1.5, [SWM_PRESET_HEIGHT] = 0.8},
     .handheld = STEADY,
     .pose = pose_spiral},
    {.name = "dolly",
     .meaning = "Move straight ahead, or back for a negative distance, without turning.",
     .takes = DISTANCE,
     .values = {[SWM_PRESET_DISTANCE] = 2},
     .handheld = STEADY,
     .pose = pose_dolly},
    {.name = "truck",
     .meaning = "Move sideways, to the right for a positive distance, without turning.",
     .takes = DISTANCE,
     .values = {[SWM_PRESET_DISTANCE] = 1.5},
     .handheld = STEADY,
     .pose = pose_truck},
    {.name = "pedestal",
     .meaning = "Move straight up, or down for a negative height, without turning.",
     .takes = HEIGHT,
     .values = {[SWM_PRESET_HEIGHT] = 1},
     .handheld = STEADY,
     .pose = pose_pedestal},
    {.name = "crane",
     .meaning = "Rise while moving ahead by distance, tilting so that the subject stays in the middle.",
     .takes = HEIGHT | DISTANCE | RADIUS,
     .values = {[SWM_PRESET_HEIGHT] = 1.2, [SWM_PRESET_DISTANCE] = 0.8, [SWM_PRESET_RADIUS] = 3},
     .handheld = STEADY,
     .pose = pose_crane},
    {.name = "pan",
     .meaning = "Stay and turn, to the right for a positive angle.",
     .takes = ANGLE,
     .values = {[SWM_PRESET_ANGLE] = 90},
     .handheld = STEADY,
     .pose = pose_pan},
    {.name = "tilt",
     .meaning = "Stay and look up, or down for a negative tilt.",
     .takes = TILT,
     .values = {[SWM_PRESET_TILT] = 30},
     .handheld = STEADY,
     .pose = pose_tilt},
    {.name = "look-around",
     .meaning =
         "Stay and look to the right by the angle, then to the left by as much, then ahead again; with tilt, up and "
         "down on each side.",
     .takes = ANGLE | TILT,
     .values = {[SWM_PRESET_ANGLE] = 45},
     .handheld = STEADY,
     .pose = pose_look_around},
    {.name = "figure-8",
     .meaning = "Walk a circle to the right and one to the left, each back to the start, looking along the way.",
     .takes = RADIUS,
     .values = {[SWM_PRESET_RADIUS] = 1.2},
     .handheld = STEADY,
     .pose = pose_figure_8},
    {.name = "there-and-back",
     .meaning =
         "Move along a curve that turns right by the angle, straight for 0, and return over the very same poses.",
     .takes = DISTANCE | ANGLE,
     .values = {[SWM_PRESET_DISTANCE] = 2, [SWM_PRESET_ANGLE] = 30},
     .handheld = STEADY,
     .pose = pose_there_and_back,
     .returns = true},
    {.name = "handheld",
     .meaning = "Walk ahead by distance, or stand for 0, with a camera that trembles in the hand.",
     .takes = DISTANCE,
     .handheld = {.shake = 0.01, .sway = 0.5, .frequency = 1},
     .pose = pose_dolly},
};
enum { PRESET_COUNT = sizeof PRESETS / sizeof PRESETS[0] };

const swm_preset *swm_preset_at(int index) { return index >= 0 && index < PRESET_COUNT ? &PRESETS[index] : NULL; }

const swm_preset_parameter_info *swm_preset_parameter_at(int parameter)
{
    return parameter >= 0 && parameter < SWM_PRESET_PARAMETER_COUNT ? &PARAMETERS[parameter] : NULL;
}

const swm_preset *swm_preset_find(const char *name, swm_error *error)
{
    char names[256] = "";
    for (int i = 0; i < PRESET_COUNT; i++) {
        if (strcmp(name, PRESETS[i].name) == 0) return &PRESETS[i];
        if (i > 0) strncat(names, ", ", sizeof names - strlen(names) - 1);
        strncat(names, PRESETS[i].name, sizeof names - strlen(names) - 1);
    }
    swm_fail(error, "camera move \"%.64s\" is unknown; there are: %s", name, names);
    return NULL;
}

/* --- clips --- */

swm_preset_options swm_preset_defaults(const swm_preset *preset)
{
    swm_preset_options options = {.preset = preset, .handheld = preset->handheld, .ease = 0.1, .fps = 16};
    memcpy(options.values, preset->values, sizeof options.values);
    return options;
}

/* The parameters of a move as words, for messages. */
static void list_parameters(char out[160], const swm_preset *preset)
{
    out[0] = '\0';
    for (int i = 0; i < SWM_PRESET_PARAMETER_COUNT; i++) {
        if ((preset->takes >> i & 1) == 0) continue;
        if (out[0] != '\0') strncat(out, ", ", 159 - strlen(out));
        strncat(out, PARAMETERS[i].name, 159 - strlen(out));
    }
}

static int check_values(const swm_preset_options *options, swm_error *error)
{
    const swm_preset *preset = options->preset;
    for (int i = 0; i < SWM_PRESET_PARAMETER_COUNT; i++) {
        const swm_preset_parameter_info *p = &PARAMETERS[i];
        const double value = options->values[i];
        if ((preset->takes >> i & 1) == 0) {
            if (value == 0) continue;
            char list[160];
            list_parameters(list, preset);
            return swm_fail(error, "%s: the move has no %s; it takes %s", preset->name, p->name, list);
        }
        if (!(value >= p->minimum && value <= p->maximum))
            return swm_fail(error, "%s: %s is %g; it must lie in %g .. %g %s", preset->name, p->name, value, p->minimum,
                            p->maximum, p->unit);
    }
    if (preset->pose == pose_crane && options->values[SWM_PRESET_DISTANCE] >= options->values[SWM_PRESET_RADIUS])
        return swm_fail(error,
                        "crane: distance %g reaches the subject, which is %g ahead; shorten distance or raise radius",
                        options->values[SWM_PRESET_DISTANCE], options->values[SWM_PRESET_RADIUS]);
    return 0;
}

static int check_range(double value, double minimum, double maximum, const char *name, swm_error *error)
{
    if (value >= minimum && value <= maximum) return 0;
    return swm_fail(error, "%s is %g; it must lie in %g .. %g", name, value, minimum, maximum);
}

int swm_preset_check(const swm_preset_options *options, swm_error *error)
{
    if (check_values(options, error) < 0 || check_range(options->ease, 0, 0.5, "ease", error) < 0 ||
        check_range(options->fps, 1, 1000, "fps", error) < 0 ||
        check_range(options->handheld.shake, 0, 100, "shake", error) < 0 ||
        check_range(options->handheld.sway, 0, 45, "sway", error) < 0 ||
        check_range(options->handheld.frequency, 0.01, 100, "frequency", error) < 0)
        return -1;
    if (options->frames != 0 && (options->frames < 2 || options->frames > 1000001))
        return swm_fail(error, "a camera move of %lld frames; it must have 2 .. 1000001", (long long)options->frames);
    return 0;
}

double swm_ease(double time, double ease)
{
    if (time >= 1) return 1;
    if (time <= 0) return 0;
    if (ease <= 0) return time;
    if (time > 0.5) return 1 - swm_ease(1 - time, ease);
    /* The speed is 3u^2 - 2u^3 of the full one where u < 1; the whole distance is 1 - ease at full speed. */
    const double u = time / ease;
    const double covered = u < 1 ? ease * (u * u * u - u * u * u * u / 2) : ease / 2 + (time - ease);
    return covered / (1 - ease);
}

void swm_preset_pose(const swm_preset_options *options, double time, double pose[16])
{
    const swm_preset *preset = options->preset;
    if (preset->returns) time = time <= 0.5 ? 2 * time : 2 - 2 * time;
    preset->pose(options->values, swm_ease(time, options->ease), pose);
}

/* The fewest frames, filling whole latent frames, whose steps stay within 0.025 units and 0.6 degrees; at most 961, the
 * longest clips that the model knows. */
static int64_t unhurried_frames(const swm_preset_options *options)
{
    enum { STEPS = 960 };
    double before[16], pose[16], most = 0;
    swm_preset_pose(options, 0, before);
    for (int i = 1; i <= STEPS; i++) {
        swm_preset_pose(options, (double)i / STEPS, pose);
        double moved = 0, turned = 0;
        for (int k = 0; k < 12; k++) *(k % 4 == 3 ? &moved : &turned) += (pose[k] - before[k]) * (pose[k] - before[k]);
        const double degrees = 2 * asin(fmin(1, sqrt(turned / 8))) * (180 / PI);
        most = fmax(most, fmax(sqrt(moved) / 0.025, degrees / 0.6));
        memcpy(before, pose, sizeof before);
    }
    /* A millionth less, so that rounding does not cost eight frames. */
    const int64_t steps = (int64_t)ceil(fmin(STEPS * most, STEPS) * (1 - 1e-6));
    return most > 0 ? swm_max(swm_divide_up(steps, 8) * 8, 8) + 1 : 161;
}

static bool trembles(const swm_handheld *handheld) { return handheld->shake > 0 || handheld->sway > 0; }

int swm_preset_make(const swm_preset_options *options, swm_poses *out, swm_error *error)
{
    *out = (swm_poses){0};
    if (swm_preset_check(options, error) < 0) return -1;
    const int64_t count = options->frames != 0 ? options->frames : unhurried_frames(options), last = count - 1;
    if (swm_poses_create(out, count, error) < 0) return -1;
    for (int64_t i = 0; i < count; i++) {
        /* The way back takes its times from the way there, so that its poses are the same to the last bit. */
        const int64_t at = options->preset->returns ? swm_min(i, last - i) : i;
        double pose[16], noise[16];
        swm_preset_pose(options, (double)at / (double)last, pose);
        if (trembles(&options->handheld)) {
            swm_handheld_pose(&options->handheld, (double)i / options->fps, noise);
            swm_se3_multiply(pose, pose, noise);
        }
        for (int k = 0; k < 16; k++) out->c2w[16 * i + k] = (float)pose[k];
    }
    return 0;
}
