/* sanawm camera: an action string or a file of poses as numbers, as JSON, as a file, as a picture. */
#include "commands.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "camera/action.h"
#include "camera/plot.h"
#include "camera/trajectory.h"
#include "core/file.h"
#include "io/npy.h"
#include "run.h"

typedef struct camera_values {
    const char *keys, *intrinsics, *save, *plot;
    double translation_speed, rotation_speed;
    int64_t frames;
    bool json;
} camera_values;

#define AT(member) .offset = offsetof(camera_values, member)

static const cli_option options[] = {
    {CLI_WORD, "keys", AT(keys), .value = "current|v1|sglang|flashdreams",
     .help = "What the letters of the action mean [current]"},
    {CLI_NUMBER, "translation-speed", AT(translation_speed), .minimum = 1e-6, .maximum = 1e6, .value = "UNITS",
     .help = "A frame [the keys', 0.025]"},
    {CLI_NUMBER, "rotation-speed-deg", AT(rotation_speed), .minimum = 1e-6, .maximum = 180, .value = "DEGREES",
     .help = "A frame [the keys', 0.6]"},
    {CLI_INTEGER, "frames", "num-frames", AT(frames), .minimum = 1, .maximum = 1000001, .value = "N",
     .help = "Only the first N poses [all]"},
    {CLI_STRING, "intrinsics", AT(intrinsics), .value = "FILE|FX,FY,CX,CY",
     .help = "Shown with the poses, fitted to their number"},
    {CLI_STRING, "save", AT(save), .value = "FILE.npy", .help = "Write the poses as (frames,4,4) float32"},
    {CLI_STRING, "plot", AT(plot), .value = "FILE.svg|FILE.png",
     .help = "Draw the path from above, and its speed over time"},
    {CLI_FLAG, "json", AT(json), .help = "Print everything as JSON"},
};

static const double frames_a_second = 16;

/* ---- reading ----------------------------------------------------------------------------------------------------- */

static bool names_a_file(const char *text)
{
    const size_t length = strlen(text);
    return swm_file_exists(text) ||
           (length > 4 && (strcmp(text + length - 4, ".npy") == 0 || strcmp(text + length - 4, ".npz") == 0));
}

static int roll_out(swm_poses *poses, const char *action, const camera_values *v, swm_error *error)
{
    const swm_key_profile *profile = swm_key_profile_find(v->keys, error);
    if (profile == NULL) return -1;
    swm_motion_options motion = swm_motion_defaults(profile);
    if (v->translation_speed > 0) motion.translation_speed = v->translation_speed;
    if (v->rotation_speed > 0) motion.rotation_speed_degrees = v->rotation_speed;
    return swm_action_rollout(action, &motion, poses, error);
}

static int read_intrinsics(swm_intrinsics *intrinsics, const camera_values *v, int64_t frames, swm_error *error)
{
    if (!cli_intrinsics_are_numbers(v->intrinsics))
        return swm_intrinsics_load(intrinsics, v->intrinsics, frames, error);
    float numbers[4];
    if (cli_parse_intrinsics(v->intrinsics, numbers, error) != 0) return -1;
    const double values[4] = {(double)numbers[0], (double)numbers[1], (double)numbers[2], (double)numbers[3]};
    return swm_intrinsics_from_array(intrinsics, frames, 1, (const int64_t[]){4}, values, error);
}

static int read_path(swm_trajectory *path, const char *source, const camera_values *v, swm_error *error)
{
    const bool file = names_a_file(source);
    if (file ? swm_trajectory_load(path, source, error) != 0 : roll_out(&path->poses, source, v, error) != 0) return -1;
    if (v->frames > path->poses.count)
        return swm_fail(error, "--frames is %lld and the path has %lld poses; lengthen the path or ask for fewer",
                        (long long)v->frames, (long long)path->poses.count);
    if (v->frames > 0) path->poses.count = v->frames;
    if (v->intrinsics != NULL) {
        swm_intrinsics_free(&path->intrinsics);
        return read_intrinsics(&path->intrinsics, v, path->poses.count, error);
    }
    if (path->intrinsics.count > path->poses.count) path->intrinsics.count = path->poses.count;
    return 0;
}

/* ---- what a path is ---------------------------------------------------------------------------------------------- */

typedef struct view {
    double position[3], yaw, pitch, roll; /* degrees; right, up and clockwise are positive */
} view;

/* The rotation is taken apart as yaw about the vertical, then pitch, then roll. */
static view view_of(const float *c2w)
{
    const double degrees = 180 / 3.14159265358979323846;
    const double down = fmin(fmax((double)c2w[6], -1), 1);
    return (view){
        .position = {(double)c2w[3], (double)c2w[7], (double)c2w[11]},
        .yaw = atan2((double)c2w[2], (double)c2w[10]) * degrees,
        .pitch = asin(-down) * degrees,
        .roll = atan2((double)c2w[4], (double)c2w[5]) * degrees,
    };
}

typedef struct measures {
    double length, extent[3], speed, turn; /* units; largest of any frame: units, degrees */
} measures;

/* The angle between two rotations from the length of their difference, which stays exact for small angles. */
static double turn_between(const float *a, const float *b)
{
    double sum = 0;
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) sum += pow((double)a[i * 4 + j] - (double)b[i * 4 + j], 2);
    return 2 * asin(fmin(sqrt(sum / 8), 1)) * 180 / 3.14159265358979323846;
}

static measures measure(const swm_poses *poses)
{
    measures m = {0};
    double least[3], most[3];
    for (int64_t i = 0; i < poses->count; i++) {
        const float *pose = poses->c2w + i * 16, *before = i > 0 ? pose - 16 : pose;
        double step = 0;
        for (int axis = 0; axis < 3; axis++) {
            const double at = (double)pose[axis * 4 + 3];
            step += pow(at - (double)before[axis * 4 + 3], 2);
            least[axis] = i == 0 ? at : fmin(least[axis], at);
            most[axis] = i == 0 ? at : fmax(most[axis], at);
            m.extent[axis] = most[axis] - least[axis];
        }
        m.length += sqrt(step);
        m.speed = fmax(m.speed, sqrt(step));
        m.turn = fmax(m.turn, turn_between(before, pose));
    }
    return m;
}

/* ---- telling ----------------------------------------------------------------------------------------------------- */

static void print_poses(const swm_poses *poses)
{
    puts("# frame         x         y         z       yaw     pitch      roll");
    for (int64_t i = 0; i < poses->count; i++) {
        const view p = view_of(poses->c2w + i * 16);
        /* Adding 0 turns a negative zero into zero. */
        printf("%7lld %9.4f %9.4f %9.4f %9.3f %9.3f %9.3f\n", (long long)i, p.position[0] + 0.0, p.position[1] + 0.0,
               p.position[2] + 0.0, p.yaw + 0.0, p.pitch + 0.0, p.roll + 0.0);
    }
}

static void tell_summary(const swm_trajectory *path)
{
    const measures m = measure(&path->poses);
    const int64_t video = swm_snap_frames(path->poses.count, path->poses.count, SWM_FRAMES_PER_LATENT);
    cli_message("%lld poses, a video of %lld frames (%.2f s); path %.3f units long, extent %.3f x %.3f x %.3f, at most "
                "%.4f units "
                "and %.3f degrees a frame",
                (long long)path->poses.count, (long long)video, (double)video / frames_a_second, m.length, m.extent[0],
                m.extent[1], m.extent[2], m.speed, m.turn);
    if (path->intrinsics.count > 0) {
        const float *k = path->intrinsics.values;
        cli_message("intrinsics fx %.3f, fy %.3f, cx %.3f, cy %.3f in the first frame", (double)k[0], (double)k[1],
                    (double)k[2], (double)k[3]);
    }
}

static cJSON *matrix_rows(const float *values, int64_t count, int64_t width)
{
    cJSON *rows = cJSON_CreateArray();
    for (int64_t i = 0; i < count; i++)
        cJSON_AddItemToArray(rows, cJSON_CreateFloatArray(values + i * width, (int)width));
    return rows;
}

static cJSON *describe(const swm_trajectory *path, const char *source)
{
    const measures m = measure(&path->poses);
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "source", source);
    cJSON_AddNumberToObject(root, "poses", (double)path->poses.count);
    cJSON_AddNumberToObject(root, "video_frames",
                            (double)swm_snap_frames(path->poses.count, path->poses.count, SWM_FRAMES_PER_LATENT));
    cJSON_AddNumberToObject(root, "length", m.length);
    cJSON_AddItemToObject(root, "extent", cJSON_CreateDoubleArray(m.extent, 3));
    cJSON_AddNumberToObject(root, "largest_step", m.speed);
    cJSON_AddNumberToObject(root, "largest_turn_degrees", m.turn);
    cJSON_AddItemToObject(root, "c2w", matrix_rows(path->poses.c2w, path->poses.count, 16));
    if (path->intrinsics.count > 0)
        cJSON_AddItemToObject(root, "intrinsics", matrix_rows(path->intrinsics.values, path->intrinsics.count, 4));
    return root;
}

static int save_poses(const char *path, const swm_poses *poses, swm_error *error)
{
    const size_t count = (size_t)poses->count * 16;
    double *values = swm_allocate(error, count, sizeof *values);
    if (values == NULL) return -1;
    for (size_t i = 0; i < count; i++) values[i] = (double)poses->c2w[i];
    const int64_t shape[3] = {poses->count, 4, 4};
    const int result = swm_npy_save(path, SWM_F32, 3, shape, values, error);
    free(values);
    return result;
}

static int write_files(const swm_trajectory *path, const char *source, const camera_values *v, swm_error *error)
{
    if (v->save != NULL && save_poses(v->save, &path->poses, error) != 0) return -1;
    if (v->plot == NULL) return 0;
    const swm_plot_options plot = {.title = source, .fps = frames_a_second};
    return swm_plot_save(v->plot, &path->poses, &plot, error);
}

static int run_camera(const cli_command *command, int argc, char **argv)
{
    camera_values v = {0};
    const char *source = NULL;
    int status;
    static const struct {
        const char *name;
        const cli_command *command;
    } parts[] = {{"convert", &cli_camera_convert},
                 {"make", &cli_camera_make},
                 {"plot", &cli_camera_plot},
                 {"check", &cli_camera_check}};
    for (size_t i = 0; argc > 0 && i < sizeof parts / sizeof parts[0]; i++)
        if (strcmp(argv[0], parts[i].name) == 0) return parts[i].command->run(parts[i].command, argc - 1, argv + 1);
    if (!cli_parse(command, argc, argv, &v, &source, &status)) return status;
    swm_error error = {0};
    swm_trajectory path = {0};
    if (read_path(&path, source, &v, &error) != 0 || write_files(&path, source, &v, &error) != 0) {
        swm_trajectory_free(&path);
        return cli_failure(&error);
    }
    tell_summary(&path);
    if (v.json) {
        status = cli_print_json(describe(&path, source));
    } else if (v.save == NULL && v.plot == NULL) {
        print_poses(&path.poses);
    } else {
        if (v.save != NULL) puts(v.save);
        if (v.plot != NULL) puts(v.plot);
    }
    swm_trajectory_free(&path);
    return status;
}

const cli_command cli_camera = {
    .name = "camera",
    .summary = "An action string or pose file as poses, printed, saved or plotted",
    .operands = "ACTION|FILE",
    .operands_least = 1,
    .operands_most = 1,
    .description = "Show where a camera goes: one line a frame with its position (x right, y down, z forward) and its "
                   "yaw (right), pitch (up) and roll in degrees. With --save or --plot the files are written and named "
                   "instead. Where an action string is also the name of a file, the file is meant.\n\n"
                   "sanawm camera make MOVE|KEYFRAMES.json: a path from a named move or from keyframes.\n"
                   "sanawm camera convert IN OUT: from one format to another.\n"
                   "sanawm camera plot PATH...: several paths over each other, in space and over time.\n"
                   "sanawm camera check PATH: does it stay within what the model knows.\n"
                   "Each has more options: sanawm help camera make",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run_camera,
};
