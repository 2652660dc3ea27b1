/* sanawm camera make: a camera path from the name of a move, a keyframe file or an action string. */
#include "camera_source.h"
#include "commands.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "camera/formats.h"
#include "camera/keyframe.h"
#include "camera/retime.h"
#include "camera/sketch.h"

typedef struct make_values {
    double parameters[SWM_PRESET_PARAMETER_COUNT]; /* NAN: not given, here and below */
    double ease, fps, shake, sway, frequency;
    double translation_speed, rotation_speed;
    double speed, acceleration, turn, turn_acceleration;
    int64_t frames; /* 0: not given */
    uint64_t seed;
    const char *keys, *output, *to;
    bool list;
} make_values;

#define AT(member)       .offset = offsetof(make_values, member)
#define PARAMETER(index) .offset = offsetof(make_values, parameters) + (index) * sizeof(double)

static const cli_option options[] = {
    {CLI_STRING, "output", .letter = 'o', AT(output), .value = "FILE",
     .help = "Where to: .npy, or what camera convert writes by ending [a sketch on standard output]"},
    {CLI_STRING, "to", AT(to), .value = "FORMAT", .help = "As for camera convert [told by the ending of FILE]"},
    {CLI_FLAG, "list", AT(list), .help = "The moves, what each does, and its own values"},

    {CLI_HEADING, .help = "Moves [each has its own values: --list]"},
    {CLI_NUMBER, "distance", PARAMETER(SWM_PRESET_DISTANCE), .minimum = -1000, .maximum = 1000, .value = "UNITS",
     .help = "Length of the way; negative goes back or left"},
    {CLI_NUMBER, "radius", PARAMETER(SWM_PRESET_RADIUS), .minimum = 0.01, .maximum = 1000, .value = "UNITS",
     .help = "From the first camera to the subject, straight ahead"},
    {CLI_NUMBER, "end-radius", PARAMETER(SWM_PRESET_END_RADIUS), .minimum = 0.01, .maximum = 1000, .value = "UNITS",
     .help = "The same at the end of a spiral"},
    {CLI_NUMBER, "angle", PARAMETER(SWM_PRESET_ANGLE), .minimum = -3600, .maximum = 3600, .value = "DEGREES",
     .help = "Around the subject or of the turn; positive is right"},
    {CLI_NUMBER, "tilt", PARAMETER(SWM_PRESET_TILT), .minimum = -89, .maximum = 89, .value = "DEGREES",
     .help = "Up, or down"},
    {CLI_NUMBER, "height", PARAMETER(SWM_PRESET_HEIGHT), .minimum = -1000, .maximum = 1000, .value = "UNITS",
     .help = "Rise, or sink"},
    {CLI_NUMBER, "turns", PARAMETER(SWM_PRESET_TURNS), .minimum = -20, .maximum = 20, .value = "N",
     .help = "Turns of a spiral"},
    {CLI_INTEGER, "frames", "num-frames", AT(frames), .minimum = 2, .maximum = 1000001, .value = "N",
     .help = "Poses of the clip [as few as keep to 0.025 units and 0.6 degrees a frame, at most 961]"},
    {CLI_NUMBER, "ease", AT(ease), .minimum = 0, .maximum = 0.5, .value = "PART",
     .help = "Of the clip, spent speeding up, and as much slowing down [0.1]"},
    {CLI_NUMBER, "shake", AT(shake), .minimum = 0, .maximum = 100, .value = "UNITS",
     .help = "Trembling of the position [0]"},
    {CLI_NUMBER, "sway", AT(sway), .minimum = 0, .maximum = 45, .value = "DEGREES",
     .help = "Trembling of the view [0]"},
    {CLI_NUMBER, "frequency", AT(frequency), .minimum = 0.01, .maximum = 100, .value = "HERTZ",
     .help = "Of the trembling, about [1]"},
    {CLI_SEED, "seed", AT(seed), .value = "N", .help = "Of the trembling [0]"},

    {CLI_HEADING, .help = "Actions"},
    {CLI_WORD, "keys", AT(keys), .value = "current|v1|sglang|flashdreams",
     .help = "What the letters mean and how they move the camera [current]"},
    {CLI_NUMBER, "translation-speed", AT(translation_speed), .minimum = 0, .maximum = 1e6, .value = "UNITS",
     .help = "A frame [the keys']"},
    {CLI_NUMBER, "rotation-speed-deg", AT(rotation_speed), .minimum = 0, .maximum = 180, .value = "DEGREES",
     .help = "A frame [the keys']"},

    {CLI_HEADING, .help = "Limits [none]: the path is slowed down where it would break them"},
    {CLI_NUMBER, "max-speed", AT(speed), .minimum = 1e-6, .maximum = 1e6, .value = "UNITS", .help = "A second"},
    {CLI_NUMBER, "max-acceleration", AT(acceleration), .minimum = 1e-6, .maximum = 1e6, .value = "UNITS",
     .help = "A second, a second; the path then begins and ends at rest"},
    {CLI_NUMBER, "max-turn", AT(turn), .minimum = 1e-6, .maximum = 1e6, .value = "DEGREES", .help = "A second"},
    {CLI_NUMBER, "max-turn-acceleration", AT(turn_acceleration), .minimum = 1e-6, .maximum = 1e6, .value = "DEGREES",
     .help = "A second, a second; likewise"},
    {CLI_NUMBER, "fps", AT(fps), .minimum = 1, .maximum = 1000, .value = "N",
     .help = "Frames a second, for limits, trembling and files [16, or the keyframe file's]"},
};

static int list_moves(void)
{
    for (int i = 0; swm_preset_at(i) != NULL; i++) {
        const swm_preset *p = swm_preset_at(i);
        printf("%-15s%s\n%-15s", p->name, p->meaning, "");
        for (int k = 0; k < SWM_PRESET_PARAMETER_COUNT; k++)
            if ((p->takes >> k & 1) != 0) printf("--%s %g ", swm_preset_parameter_at(k)->name, p->values[k]);
        if (p->handheld.shake > 0) printf("--shake %g --sway %g", p->handheld.shake, p->handheld.sway);
        putchar('\n');
    }
    return CLI_OK;
}

static void replace(double *value, double given)
{
    if (!isnan(given)) *value = given;
}

static int make_move(swm_poses *poses, const char *name, const make_values *v, double fps, swm_error *error)
{
    swm_preset_options o = swm_preset_defaults(swm_preset_find(name, error));
    for (int i = 0; i < SWM_PRESET_PARAMETER_COUNT; i++) replace(&o.values[i], v->parameters[i]);
    replace(&o.ease, v->ease);
    replace(&o.handheld.shake, v->shake);
    replace(&o.handheld.sway, v->sway);
    replace(&o.handheld.frequency, v->frequency);
    o.handheld.seed = v->seed;
    o.frames = v->frames;
    o.fps = fps;
    return swm_preset_make(&o, poses, error);
}

static int make_action(swm_poses *poses, const char *action, const make_values *v, swm_error *error)
{
    const swm_key_profile *profile = swm_key_profile_find(v->keys, error);
    if (profile == NULL) return -1;
    swm_motion_options motion = swm_motion_defaults(profile);
    replace(&motion.translation_speed, v->translation_speed);
    replace(&motion.rotation_speed_degrees, v->rotation_speed);
    return swm_action_rollout(action, &motion, poses, error);
}

/* The options that belong to moves only, or to actions only, given with something else. */
static const char *misplaced(const make_values *v, cli_source_kind kind)
{
    if (kind != CLI_SOURCE_MOVE) {
        for (int i = 0; i < SWM_PRESET_PARAMETER_COUNT; i++)
            if (!isnan(v->parameters[i])) return swm_preset_parameter_at(i)->name;
        if (v->frames > 0) return "frames";
        if (!isnan(v->ease)) return "ease";
        if (!isnan(v->shake)) return "shake";
        if (!isnan(v->sway)) return "sway";
    }
    if (kind != CLI_SOURCE_ACTION) {
        if (v->keys != NULL) return "keys";
        if (!isnan(v->translation_speed)) return "translation-speed";
        if (!isnan(v->rotation_speed)) return "rotation-speed-deg";
    }
    return NULL;
}

static int slow_down(swm_poses *poses, const make_values *v, double fps, swm_error *error)
{
    swm_pace pace = {0};
    replace(&pace.speed, v->speed);
    replace(&pace.acceleration, v->acceleration);
    replace(&pace.turn, v->turn);
    replace(&pace.turn_acceleration, v->turn_acceleration);
    if (!swm_pace_limits(&pace)) return 0;
    double *values = swm_allocate(error, (size_t)poses->count, 16 * sizeof *values);
    if (values == NULL) return -1;
    for (int64_t i = 0; i < 16 * poses->count; i++) values[i] = (double)poses->c2w[i];
    swm_poses slower;
    const int status = swm_retime(&slower, values, poses->count, fps, fps, &pace, SWM_ACTION_MAX_FRAMES, error);
    free(values);
    if (status < 0) return -1;
    swm_poses_free(poses);
    *poses = slower;
    return 0;
}

static int save(const make_values *v, const swm_poses *poses, double fps, swm_error *error)
{
    swm_path_writing writing = {.single = true};
    if (v->to != NULL && swm_path_format_from_name(v->to, &writing.format, error) != 0) return -1;
    swm_camera_path path;
    if (swm_camera_path_create(&path, poses->count, false, false, false, error) < 0) return -1;
    for (int64_t i = 0; i < 16 * poses->count; i++) path.c2w[i] = (double)poses->c2w[i];
    path.fps = fps;
    const int status = swm_camera_path_save(&path, v->output, &writing, error);
    swm_camera_path_free(&path);
    return status;
}

static int show(const char *source, const swm_poses *poses, double fps, swm_error *error)
{
    const swm_plot_path path = {poses, cli_source_name(source)};
    const swm_sketch_options sketch = {.fps = fps};
    char *text = swm_sketch(&path, 1, &sketch, error);
    if (text == NULL) return -1;
    fputs(text, stdout);
    free(text);
    return 0;
}

static int make(const char *source, cli_source_kind kind, const make_values *v, swm_error *error)
{
    double fps = 16;
    replace(&fps, v->fps);
    swm_poses poses;
    double file_fps = 0;
    int status = kind == CLI_SOURCE_MOVE     ? make_move(&poses, source, v, fps, error)
                 : kind == CLI_SOURCE_ACTION ? make_action(&poses, source, v, error)
                                             : cli_source_load(&poses, &file_fps, source, false, error);
    if (status < 0) return -1;
    if (isnan(v->fps) && file_fps > 0) fps = file_fps;
    status = slow_down(&poses, v, fps, error);
    if (status == 0) status = v->output != NULL ? save(v, &poses, fps, error) : show(source, &poses, fps, error);
    if (status == 0) cli_tell_path(&poses, fps);
    swm_poses_free(&poses);
    if (status == 0 && v->output != NULL) puts(v->output);
    return status;
}

static int run_make(const cli_command *command, int argc, char **argv)
{
    make_values v = {.ease = NAN,
                     .fps = NAN,
                     .shake = NAN,
                     .sway = NAN,
                     .frequency = NAN,
                     .translation_speed = NAN,
                     .rotation_speed = NAN,
                     .speed = NAN,
                     .acceleration = NAN,
                     .turn = NAN,
                     .turn_acceleration = NAN};
    for (int i = 0; i < SWM_PRESET_PARAMETER_COUNT; i++) v.parameters[i] = NAN;
    const char *source = NULL;
    int status;
    if (!cli_parse(command, argc, argv, &v, &source, &status)) return status;
    if (v.list) return list_moves();
    if (v.to != NULL && v.output == NULL) return cli_usage(command, "--to belongs to --output");
    if (source == NULL) return cli_usage(command, "%s is missing", command->operands);
    const cli_source_kind kind = cli_source_kind_of(source);
    const char *wrong = misplaced(&v, kind);
    if (wrong != NULL) return cli_usage(command, "--%s does not go with \"%.64s\"", wrong, source);
    swm_error error = {0};
    return make(source, kind, &v, &error) == 0 ? CLI_OK : cli_failure(&error);
}

const cli_command cli_camera_make = {
    .name = "camera make",
    .summary = "A camera path from a move, keyframes or an action",
    .operands = "MOVE|KEYFRAMES.json|ACTION|FILE",
    .operands_most = 1,
    .description = "Make a camera path: a named move (orbit, arc, spiral, dolly, truck, pedestal, crane, pan, tilt, "
                   "look-around, figure-8, "
                   "there-and-back, handheld), a keyframe file, or an action string. A file of poses is taken as well, "
                   "to be slowed "
                   "down. Says on standard error what the path does, and warns where it leaves what the model knows.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run_make,
};
