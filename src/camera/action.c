/* Key profiles, the action string and the laws of camera motion. See action.h. */
#include "camera/action.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double PI = 3.14159265358979323846;

/* The keys follow the order of the control bits: forward, back, yaw left and right, pitch up and down, strafe left and
 * right. "v1" has the letters and speeds of the first release of the model; the coupling of strafe and yaw that its
 * program applied is not reproduced. */
static const swm_key_profile PROFILES[] = {
    {.name = "current",
     .meaning = "w/s forward and back, a/d turn, i/k tilt, j/l strafe",
     .keys = "wsadikjl",
     .also = "........",
     .translation_speed = 0.025,
     .rotation_speed_degrees = 0.6,
     .pitch_limit_degrees = 60,
     .smooth = true},
    {.name = "v1",
     .meaning = "w/s forward and back, a/d strafe, i/k tilt, j/l turn",
     .keys = "wsjlikad",
     .also = "........",
     .translation_speed = 0.055,
     .rotation_speed_degrees = 1.2,
     .pitch_limit_degrees = 60,
     .smooth = true},
    {.name = "sglang",
     .meaning = "as SGLang: w/s forward and back, a/d strafe and turn a little, i/k tilt, j/l turn; no coasting",
     .keys = "wsjlikad",
     .also = "........",
     .translation_speed = 0.04,
     .rotation_speed_degrees = 1.2,
     .pitch_limit_degrees = 85,
     .strafe_yaw = 0.4,
     .pitch_stops_short = true},
    /* Its speeds are 0.8 units and 32 degrees a second; here are those of a frame at 16 a second. */
    {.name = "flashdreams",
     .meaning = "as FlashDreams: w/s forward and back, a/d or j/l turn, i/k tilt, q/e strafe; no coasting",
     .keys = "wsadikqe",
     .also = "..jl....",
     .translation_speed = 0.05,
     .rotation_speed_degrees = 2,
     .pitch_limit_degrees = 85,
     .pitch_stops_short = true,
     .yaw_about_camera = true},
};
enum { PROFILE_COUNT = sizeof PROFILES / sizeof PROFILES[0] };

const swm_key_profile *swm_key_profile_at(int index)
{
    return index >= 0 && index < PROFILE_COUNT ? &PROFILES[index] : NULL;
}

const swm_key_profile *swm_key_profile_find(const char *name, swm_error *error)
{
    if (name == NULL || name[0] == '\0') return &PROFILES[0];
    for (int i = 0; i < PROFILE_COUNT; i++)
        if (strcmp(name, PROFILES[i].name) == 0) return &PROFILES[i];
    char names[128] = "";
    for (int i = 0; i < PROFILE_COUNT; i++) {
        if (i > 0) strncat(names, ", ", sizeof names - strlen(names) - 1);
        strncat(names, PROFILES[i].name, sizeof names - strlen(names) - 1);
    }
    swm_fail(error, "key profile \"%.64s\" is unknown; there are: %s", name, names);
    return NULL;
}

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c; }

unsigned swm_key_control(const swm_key_profile *profile, char key)
{
    for (unsigned i = 0; i < SWM_CONTROL_COUNT; i++)
        if (profile->keys[i] == lower(key) || (key != '.' && profile->also[i] == lower(key))) return 1u << i;
    return 0;
}

/* --- the action string --- */

/* Bytes of the white space character at p, 0 if there is none. All of Unicode's: strings are pasted from anywhere. */
static size_t white_space(const uint8_t *p, const uint8_t *end)
{
    if (p[0] == ' ' || (p[0] >= 0x09 && p[0] <= 0x0d) || (p[0] >= 0x1c && p[0] <= 0x1f)) return 1;
    if (end - p >= 2 && p[0] == 0xc2 && (p[1] == 0x85 || p[1] == 0xa0)) return 2;
    if (end - p < 3) return 0;
    const unsigned code = (unsigned)p[1] << 8 | p[2];
    const bool punctuation_block = p[0] == 0xe2 && ((code >= 0x8080 && code <= 0x808a) || code == 0x80a8 ||
                                                    code == 0x80a9 || code == 0x80af || code == 0x819f);
    const bool ogham = p[0] == 0xe1 && code == 0x9a80, ideographic = p[0] == 0xe3 && code == 0x8080;
    return punctuation_block || ogham || ideographic ? 3 : 0;
}

/* Bytes of the comma at p, ASCII or full-width, 0 if there is none. */
static size_t comma(const uint8_t *p, const uint8_t *end)
{
    if (p[0] == ',') return 1;
    return end - p >= 3 && p[0] == 0xef && p[1] == 0xbc && p[2] == 0x8c ? 3 : 0;
}

/* The text without white space and with ASCII commas; as long as the text at most. */
static size_t compact(char *out, const char *text, size_t size)
{
    size_t n = 0;
    const uint8_t *p = (const uint8_t *)text, *end = p + size;
    while (p < end) {
        size_t skip = white_space(p, end);
        if (skip == 0) {
            skip = comma(p, end);
            out[n++] = skip > 0 ? ',' : (char)*p;
            if (skip == 0) skip = 1;
        }
        p += skip;
    }
    return n;
}

/* Where a segment begins in the text as it was written: a character number from 1, for messages. */
static int64_t column_of(const char *text, size_t size, int64_t segment)
{
    int64_t commas = 1, column = 1;
    const uint8_t *p = (const uint8_t *)text, *end = p + size;
    while (p < end && !(commas == segment && white_space(p, end) == 0)) {
        if (comma(p, end) > 0) commas++;
        column++;
        for (p++; p < end && (*p & 0xc0) == 0x80;) p++; /* to the next character */
    }
    return column;
}

typedef struct segment {
    const char *text;
    int length;     /* as shown in messages, at most 60 */
    size_t size;    /* whole */
    int64_t number; /* from 1 */
} segment;

typedef struct parser {
    const char *text; /* as written */
    size_t size;
    const swm_key_profile *profile;
    swm_error *error;
} parser;

static int refuse(const parser *p, const segment *s, const char *complaint)
{
    return swm_fail(p->error, "action: segment %lld \"%.*s\" (at character %lld): %s", (long long)s->number, s->length,
                    s->text, (long long)column_of(p->text, p->size, s->number), complaint);
}

static int refuse_key(const parser *p, const segment *s, char key)
{
    char letters[4 * SWM_CONTROL_COUNT + 1], complaint[200], shown[16];
    int n = 0;
    for (int i = 0; i < 2 * SWM_CONTROL_COUNT; i++) {
        const char letter = i < SWM_CONTROL_COUNT ? p->profile->keys[i] : p->profile->also[i - SWM_CONTROL_COUNT];
        if (letter == '.') continue;
        if (n > 0) letters[n++] = ' ';
        letters[n++] = letter;
    }
    letters[n] = '\0';
    if (key > ' ' && key < 0x7f)
        snprintf(shown, sizeof shown, "'%c'", key);
    else
        snprintf(shown, sizeof shown, "byte 0x%02x", (unsigned)(uint8_t)key);
    snprintf(complaint, sizeof complaint, "%s is no key; keys of profile \"%s\" are %s, or the word none", shown,
             p->profile->name, letters);
    return refuse(p, s, complaint);
}

/* One segment "keys-frames" to its control mask and duration. */
static int parse_segment(const parser *p, const segment *s, unsigned *controls, int64_t *frames)
{
    if (s->size == 0) return refuse(p, s, "it is empty; remove the superfluous comma");
    size_t dash = s->size;
    while (dash > 0 && s->text[dash - 1] != '-') dash--;
    if (dash == 0) return refuse(p, s, "it has no '-'; write keys-frames, for instance w-80");
    const size_t keys = dash - 1;
    if (dash == s->size) return refuse(p, s, "the number of frames after '-' is missing; write for instance w-80");
    *frames = 0;
    for (size_t i = dash; i < s->size; i++) {
        const char c = s->text[i];
        if (c < '0' || c > '9') return refuse(p, s, "the number of frames must be digits only, for instance w-80");
        if (*frames <= SWM_ACTION_MAX_FRAMES) *frames = *frames * 10 + (c - '0');
    }
    if (*frames == 0) return refuse(p, s, "the number of frames must be 1 or more");
    *controls = 0;
    if (keys == 4 && lower(s->text[0]) == 'n' && lower(s->text[1]) == 'o' && lower(s->text[2]) == 'n' &&
        lower(s->text[3]) == 'e')
        return 0;
    for (size_t i = 0; i < keys; i++) {
        const unsigned control = swm_key_control(p->profile, s->text[i]);
        if (control == 0) return refuse_key(p, s, s->text[i]);
        *controls |= control;
    }
    return 0;
}

/* Walk all segments of the compact text; with `fill` NULL only count and check. Returns the frames, or -1. */
static int64_t walk(const parser *p, const char *text, size_t size, uint8_t *fill)
{
    int64_t total = 0, number = 0;
    for (size_t begin = 0; begin <= size;) {
        const char *found = memchr(text + begin, ',', size - begin);
        const size_t end = found != NULL ? (size_t)(found - text) : size;
        const segment s = {text + begin, (int)swm_min((int64_t)(end - begin), 60), end - begin, ++number};
        unsigned controls = 0;
        int64_t frames = 0;
        if (parse_segment(p, &s, &controls, &frames) < 0) return -1;
        if (total + frames > SWM_ACTION_MAX_FRAMES)
            return refuse(p, &s, "the action grows longer than 1000000 frames; shorten it");
        if (fill != NULL) memset(fill + total, (int)controls, (size_t)frames);
        total += frames;
        begin = end + 1;
    }
    return total;
}

int swm_action_parse(swm_action *action, const char *text, size_t size, const swm_key_profile *profile,
                     swm_error *error)
{
    *action = (swm_action){0};
    const size_t longest = 16u << 20;
    if (size > longest) return swm_fail(error, "action: %zu bytes of text; at most %zu are read", size, longest);
    char *plain = swm_allocate(error, size + 1, 1);
    if (plain == NULL) return -1;
    const parser p = {text, size, profile, error};
    const size_t length = compact(plain, text, size);
    int64_t count = -1;
    if (length == 0)
        swm_fail(error, "action: the text is empty; write segments keys-frames, for instance w-80,dw-40");
    else
        count = walk(&p, plain, length, NULL);
    if (count > 0) action->controls = swm_allocate(error, (size_t)count, 1);
    if (action->controls != NULL) {
        action->count = count;
        walk(&p, plain, length, action->controls);
    }
    free(plain);
    return action->controls != NULL ? 0 : -1;
}

void swm_action_free(swm_action *action)
{
    free(action->controls);
    *action = (swm_action){0};
}

/* --- motion --- */

swm_motion_options swm_motion_defaults(const swm_key_profile *profile)
{
    if (profile == NULL) profile = &PROFILES[0];
    return (swm_motion_options){.profile = profile,
                                .translation_speed = profile->translation_speed,
                                .rotation_speed_degrees = profile->rotation_speed_degrees,
                                .pitch_limit_degrees = profile->pitch_limit_degrees,
                                .smooth = profile->smooth};
}

int swm_motion_check(const swm_motion_options *options, swm_error *error)
{
    const double translation = options->translation_speed, rotation = options->rotation_speed_degrees;
    /* The bound keeps a million frames of it far inside the range of float32. */
    if (!(translation >= 0 && translation <= 1e6))
        return swm_fail(error, "translation speed is %g units a frame; it must lie in 0 .. 1e6 (usual: 0.025)",
                        translation);
    if (!(rotation >= 0 && rotation <= 180))
        return swm_fail(error, "rotation speed is %g degrees a frame; it must lie in 0 .. 180 (usual: 0.6)", rotation);
    if (!(options->pitch_limit_degrees >= 0 && options->pitch_limit_degrees <= 90))
        return swm_fail(error, "pitch limit is %g degrees; it must lie in 0 .. 90 (usual: 60)",
                        options->pitch_limit_degrees);
    return 0;
}

static double radians(double degrees) { return degrees * (PI / 180); }

void swm_motion_start(swm_camera_motion *motion, const swm_motion_options *options)
{
    const swm_key_profile *profile = options->profile != NULL ? options->profile : &PROFILES[0];
    *motion = (swm_camera_motion){.pose = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1},
                                  .translation_speed = options->translation_speed,
                                  .rotation_speed = radians(options->rotation_speed_degrees),
                                  .pitch_limit = radians(options->pitch_limit_degrees),
                                  .strafe_yaw = profile->strafe_yaw,
                                  .smooth = options->smooth,
                                  .pitch_stops_short = profile->pitch_stops_short,
                                  .yaw_about_camera = profile->yaw_about_camera};
}

/* +1, -1 or 0: opposite controls cancel. */
static double direction(unsigned controls, unsigned positive, unsigned negative)
{
    return (double)((controls & positive) != 0) - (double)((controls & negative) != 0);
}

/* Approach the target exponentially: quickly towards a wanted speed, slowly towards rest. A frame is 1/16 s for this
 * purpose whatever rate the video plays at. */
static double ease(double velocity, double target)
{
    const double seconds = fabs(target) > 1e-12 ? 0.45 : 1.0;
    return velocity + (1 - exp(-(1.0 / 16) / seconds)) * (target - velocity);
}

static void update_velocities(swm_camera_motion *m, unsigned controls)
{
    const double forward = direction(controls, SWM_CONTROL_FORWARD, SWM_CONTROL_BACK) * m->translation_speed;
    const double right = direction(controls, SWM_CONTROL_STRAFE_RIGHT, SWM_CONTROL_STRAFE_LEFT);
    const double turn = direction(controls, SWM_CONTROL_YAW_RIGHT, SWM_CONTROL_YAW_LEFT);
    const double strafe = right * m->translation_speed;
    const double yaw = (turn + m->strafe_yaw * right) * m->rotation_speed;
    const double pitch = direction(controls, SWM_CONTROL_PITCH_UP, SWM_CONTROL_PITCH_DOWN) * m->rotation_speed;
    /* A newly pressed key sets all four velocities at once, those of keys just released included: the model was
     * trained on motion with this property. */
    const bool snap = !m->smooth || (controls & ~m->held) != 0;
    m->forward = snap ? forward : ease(m->forward, forward);
    m->strafe = snap ? strafe : ease(m->strafe, strafe);
    m->yaw = snap ? yaw : ease(m->yaw, yaw);
    m->pitch = snap ? pitch : ease(m->pitch, pitch);
    m->held = controls;
}

/* Turn by yaw about the world's vertical (from the left) or the camera's own (from the right), then tilt by pitch about
 * the camera's x axis. */
static void rotate(double pose[16], double yaw, double pitch, bool about_camera)
{
    const double cy = cos(yaw), sy = sin(yaw), cx = cos(pitch), sx = sin(pitch);
    for (int j = 0; j < 3; j++) {
        double *first = about_camera ? pose + 4 * j : pose + j, *third = about_camera ? first + 2 : first + 8;
        const double x = *first, z = *third, sign = about_camera ? -1 : 1;
        *first = cy * x + sign * sy * z;
        *third = -sign * sy * x + cy * z;
    }
    for (int i = 0; i < 3; i++) {
        double *row = pose + 4 * i;
        const double y = row[1], z = row[2];
        row[1] = y * cx + z * sx;
        row[2] = y * -sx + z * cx;
    }
}

/* Walk along a camera axis (a column of the rotation) laid flat on the ground. The 1e-6 makes a step shorter by a
 * millionth, as in the motion the model was trained on. */
static void walk_along(double pose[16], const double axis[3], double distance)
{
    const double norm = sqrt(axis[0] * axis[0] + axis[2] * axis[2]);
    if (norm <= 0) return;
    pose[3] += axis[0] / (norm + 1e-6) * distance;
    pose[11] += axis[2] / (norm + 1e-6) * distance;
}

void swm_motion_step(swm_camera_motion *motion, unsigned controls, double pose[16])
{
    update_velocities(motion, controls);
    const double limit = motion->pitch_limit, wanted = motion->tilt + motion->pitch;
    double tilt = fmax(-limit, fmin(limit, wanted));
    if (motion->pitch_stops_short && fabs(wanted) > limit) tilt = motion->tilt;
    double *p = motion->pose;
    rotate(p, motion->yaw, tilt - motion->tilt, motion->yaw_about_camera);
    motion->tilt = tilt;
    walk_along(p, (const double[3]){p[2], p[6], p[10]}, motion->forward);
    walk_along(p, (const double[3]){p[0], p[4], p[8]}, motion->strafe);
    if (pose != p) memcpy(pose, p, sizeof motion->pose);
}

static void store(float *destination, const double pose[16])
{
    for (int i = 0; i < 16; i++) destination[i] = (float)pose[i];
}

int swm_action_rollout(const char *action, const swm_motion_options *options, swm_poses *out, swm_error *error)
{
    *out = (swm_poses){0};
    const swm_motion_options defaults = swm_motion_defaults(NULL);
    if (options == NULL) options = &defaults;
    const swm_key_profile *profile = options->profile != NULL ? options->profile : defaults.profile;
    if (swm_motion_check(options, error) < 0) return -1;
    swm_action held;
    if (swm_action_parse(&held, action, strlen(action), profile, error) < 0) return -1;
    const int status = swm_poses_create(out, held.count + 1, error);
    if (status == 0) {
        swm_camera_motion motion;
        double pose[16];
        swm_motion_start(&motion, options);
        store(out->c2w, motion.pose);
        for (int64_t i = 0; i < held.count; i++) {
            swm_motion_step(&motion, held.controls[i], pose);
            store(out->c2w + 16 * (i + 1), pose);
        }
    }
    swm_action_free(&held);
    return status;
}
