/* sanawm demo: the toy world that comes with the program, along any action string. */
#include "commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "camera/action.h"
#include "core/file.h"
#include "io/json.h"
#include "run.h"

enum { TRAINED_FRAMES = 33, SCENE_BYTES = 1 << 16 };

typedef struct demo_values {
    const char *output, *model;
    int64_t scene, steps, threads;
    uint64_t seed;
    bool quiet, no_preview;
} demo_values;

#define AT(member) .offset = offsetof(demo_values, member)

static const uint64_t no_seed = UINT64_MAX;

static const cli_option options[] = {
    {CLI_STRING, "output", .letter = 'o', AT(output), .value = "PATH", .help = "[demo.mp4]"},
    {CLI_INTEGER, "scene", AT(scene), .minimum = 0, .maximum = 2, .value = "0|1|2", .help = "Which picture [0]"},
    {CLI_SEED, "seed", AT(seed), .value = "N", .help = "[the scene's]"},
    {CLI_INTEGER, "steps", AT(steps), .minimum = 2, .maximum = 1000, .value = "N", .help = "[the scene's, 20]"},
    {CLI_INTEGER, "threads", AT(threads), .minimum = 1, .maximum = 1024, .value = "N", .help = "[all processors]"},
    {CLI_STRING, "model", AT(model), .value = "DIR", .help = "The toy world elsewhere than beside the program"},
    {CLI_FLAG, "quiet", AT(quiet), .help = "No progress and no notes"},
    {CLI_FLAG, "no-preview", AT(no_preview), .help = "No pictures in terminals that could show them"},
};

/* A scene as its file describes it. Strings live in `tree`. */
typedef struct scene {
    cJSON *tree;
    char *picture;
    const char *action;
    double translation_speed, rotation_speed, guidance, flow_shift;
    float intrinsics[4];
    int64_t frames, width, height, steps, seed;
} scene;

static int read_numbers(scene *s, swm_json root, swm_error *error)
{
    if (swm_json_string(root, "action", &s->action, error) != 0 ||
        swm_json_number(root, "translation_speed", 0, 1e6, &s->translation_speed, error) != 0 ||
        swm_json_number(root, "rotation_speed_deg", 0, 180, &s->rotation_speed, error) != 0 ||
        swm_json_integer(root, "frames", 1, TRAINED_FRAMES, &s->frames, error) != 0 ||
        swm_json_integer(root, "width", 64, 8192, &s->width, error) != 0 ||
        swm_json_integer(root, "height", 64, 8192, &s->height, error) != 0 ||
        swm_json_integer(root, "steps", 2, 1000, &s->steps, error) != 0 ||
        swm_json_number(root, "cfg_scale", 1, 100, &s->guidance, error) != 0 ||
        swm_json_number(root, "flow_shift", 1e-3, 1e3, &s->flow_shift, error) != 0 ||
        swm_json_integer(root, "seed", 0, (int64_t)1 << 53, &s->seed, error) != 0)
        return -1;
    const cJSON *intrinsics = swm_json_find(root, "intrinsics");
    int count = 0;
    for (const cJSON *item = cJSON_IsArray(intrinsics) ? intrinsics->child : NULL; item != NULL; item = item->next) {
        if (!cJSON_IsNumber(item) || count == 4) return swm_json_refuse(root, "intrinsics", "four numbers", error);
        s->intrinsics[count++] = (float)item->valuedouble;
    }
    return count == 4 ? 0 : swm_json_refuse(root, "intrinsics", "four numbers", error);
}

static int scene_read(scene *s, const char *model, int64_t number, swm_error *error)
{
    *s = (scene){0};
    char *path = swm_format(error, "%s/demo/scene%lld.json", model, (long long)number);
    s->picture = swm_format(error, "%s/demo/scene%lld.png", model, (long long)number);
    int result = path != NULL && s->picture != NULL ? 0 : -1;
    if (result == 0) s->tree = swm_json_read(path, SCENE_BYTES, error);
    swm_json root;
    if (s->tree == NULL || swm_json_root(&root, path, s->tree, error) != 0 || read_numbers(s, root, error) != 0)
        result = -1;
    free(path);
    return result;
}

static void scene_free(scene *s)
{
    cJSON_Delete(s->tree);
    free(s->picture);
}

/* As many frames as the action has, up to what the model was trained for. *poses: what the action has. */
static int64_t clip_frames(const char *action, int64_t most, int64_t *poses, swm_error *error)
{
    swm_action parsed;
    const swm_key_profile *profile = swm_key_profile_find(NULL, error);
    if (profile == NULL || swm_action_parse(&parsed, action, strlen(action), profile, error) != 0) return -1;
    *poses = parsed.count + 1;
    swm_action_free(&parsed);
    return swm_snap_frames(most, *poses, SWM_FRAMES_PER_LATENT);
}

static int film(const demo_values *v, const char *directory, const scene *s, const char *action)
{
    swm_error error = {0};
    swm_message message = {{0}};
    int64_t poses = 0;
    const int64_t frames = clip_frames(action, s->frames, &poses, &error);
    cli_run run = {.model_name = directory, .quiet = v->quiet, .no_preview = v->no_preview};
    run.output.path = v->output;
    if (frames < 0 || cli_choose_output(&run.output, &error) != 0) return cli_failure(&error);
    if (poses > frames && !v->quiet)
        cli_message("note: %lld of the action's %lld frames: the toy world makes 8k+1 frames, at most %lld",
                    (long long)(frames - 1), (long long)(poses - 1), (long long)s->frames);
    swm_model *model = swm_model_open(directory, NULL, &message);
    if (model == NULL) {
        cli_message("%s", message.text);
        return CLI_FAILURE;
    }
    swm_request *r = &run.request;
    *r = swm_request_defaults(model);
    r->image = s->picture;
    r->action = action;
    r->translation_speed = s->translation_speed;
    r->rotation_speed_degrees = s->rotation_speed;
    r->intrinsics_values = s->intrinsics;
    r->frames = frames;
    r->width = (int)s->width;
    r->height = (int)s->height;
    r->steps = (int)(v->steps > 0 ? v->steps : s->steps);
    r->guidance = s->guidance;
    r->flow_shift = s->flow_shift;
    r->seed = v->seed != no_seed ? v->seed : (uint64_t)s->seed;
    r->threads = (int)v->threads;
    const int status = cli_generate_run(model, &run);
    swm_model_close(model);
    if (status != CLI_OK) return status;
    if (!v->quiet)
        cli_message("%lld frames of %dx%d along %s, from the picture %s, in %s", (long long)frames, r->width, r->height,
                    action, s->picture, cli_duration(run.seconds).text);
    puts(run.output.path);
    return CLI_OK;
}

static int run_demo(const cli_command *command, int argc, char **argv)
{
    demo_values v = {.output = "demo.mp4", .seed = no_seed};
    const char *action = NULL;
    int status;
    if (!cli_parse(command, argc, argv, &v, &action, &status)) return status;
    cli_catch_interrupts();
    swm_error error = {0};
    char *builtin = v.model == NULL ? cli_builtin_model(&error) : NULL;
    const char *directory = v.model != NULL ? v.model : builtin;
    scene s = {0};
    status = directory == NULL || scene_read(&s, directory, v.scene, &error) != 0
                 ? cli_failure(&error)
                 : film(&v, directory, &s, action != NULL ? action : s.action);
    scene_free(&s);
    free(builtin);
    return status;
}

const cli_command cli_demo = {
    .name = "demo",
    .summary = "The built-in toy world along any action string",
    .operands = "[ACTION]",
    .operands_most = 1,
    .description = "Write a short video of the toy world that comes with the program, a small model of simple rendered "
                   "scenes. ACTION is "
                   "keys and frames, for instance w-16,dw-16: w and s move forward and back, a and d turn left and "
                   "right, i and k tilt up "
                   "and down, j and l step aside. The model was trained on 33 frames of 224x128, so at most 32 frames "
                   "of ACTION are used.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run_demo,
};
