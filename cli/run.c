/* Implements run.h. */
#include "run.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "args.h"
#include "core/file.h"
#include "io/json.h"
#include "progress.h"
#include "text/prompt.h"

#ifndef SWM_DATADIR
#define SWM_DATADIR "/usr/local/share/sanawm"
#endif

/* ---- places ------------------------------------------------------------------------------------------------------ */

/* From build/, build/sanitize/ or deeper, and from PREFIX/bin/ wherever the whole of PREFIX was moved. */
static char *model_near(const char *program_directory, swm_error *error)
{
    static const char *const places[] = {"../models", "../../models", "../../../models", "../share/sanawm/models"};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        char *path = swm_format(error, "%s/%s/toyworld", program_directory, places[i]);
        char *resolved = path != NULL && swm_directory_exists(path) ? realpath(path, NULL) : NULL;
        free(path);
        if (resolved != NULL) return resolved;
    }
    return NULL;
}

char *cli_builtin_model(swm_error *error)
{
    char program[PATH_MAX];
    const ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length > 0) {
        program[length] = '\0';
        char *slash = strrchr(program, '/');
        if (slash != NULL) *slash = '\0';
        char *found = model_near(program, error);
        if (found != NULL) return found;
    }
    if (swm_directory_exists(SWM_DATADIR "/models/toyworld"))
        return swm_copy_string(error, SWM_DATADIR "/models/toyworld");
    swm_fail(error, "the built-in toy world is neither beside the program nor in %s; pass --model DIR", SWM_DATADIR);
    return NULL;
}

static bool ends_in(const char *path, const char *ending)
{
    const size_t length = strlen(path), size = strlen(ending);
    return length > size && strcasecmp(path + length - size, ending) == 0;
}

/* A name that says another format than the file has confuses every player; a directory has no such name. */
static int check_ending(const char *path, const char *codec, swm_error *error)
{
    static const char *const endings[] = {".mp4", ".m4v", ".mov", ".mkv", ".avi", ".webm", ".gif", ".png"};
    const char *const allowed = strcmp(codec, "ffv1") == 0 ? ".mkv" : strcmp(codec, "png") == 0 ? "" : ".mp4";
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        if (!ends_in(path, endings[i]) || strcmp(endings[i], allowed) == 0) continue;
        if (strcmp(codec, "png") == 0)
            return swm_fail(error, "%s: --codec png writes a directory of pictures; name it without %s", path,
                            endings[i]);
        return swm_fail(error,
                        "%s: --codec %s writes %s files; change the ending or the codec (h264, hevc and av1 go "
                        "into .mp4, ffv1 into .mkv, png into a directory)",
                        path, codec, allowed);
    }
    return 0;
}

int cli_choose_output(swm_output_options *output, swm_error *error)
{
    if (output->codec == NULL) output->codec = output->path == NULL || !ends_in(output->path, ".mkv") ? "h264" : "ffv1";
    if (output->path == NULL)
        output->path = strcmp(output->codec, "png") == 0    ? "output"
                       : strcmp(output->codec, "ffv1") == 0 ? "output.mkv"
                                                            : "output.mp4";
    if (check_ending(output->path, output->codec, error) != 0) return -1;
    return output->stage1_path != NULL ? check_ending(output->stage1_path, output->codec, error) : 0;
}

char *cli_without_trailing_slashes(const char *path, swm_error *error)
{
    char *copy = swm_copy_string(error, path);
    for (size_t length = copy != NULL ? strlen(copy) : 0; length > 1 && copy[length - 1] == '/'; length--)
        copy[length - 1] = '\0';
    return copy;
}

/* ---- intrinsics -------------------------------------------------------------------------------------------------- */

bool cli_intrinsics_are_numbers(const char *text) { return strchr(text, ',') != NULL && !swm_file_exists(text); }

int cli_parse_intrinsics(const char *text, float values[4], swm_error *error)
{
    int count = 0;
    for (const char *at = text; count <= 4; at++) {
        char field[40];
        double value;
        const size_t length = strcspn(at, ",");
        if (length >= sizeof field) break;
        memcpy(field, at, length);
        field[length] = '\0';
        if (!cli_number(field, &value) || !(value > -1e9 && value < 1e9)) break;
        if (count < 4) values[count] = (float)value;
        count++;
        at += length;
        if (*at == '\0') {
            if (count == 4) return 0;
            break;
        }
    }
    return swm_fail(error,
                    "--intrinsics is \"%.100s\"; expected a file or four numbers fx,fy,cx,cy in pixels of the picture",
                    text);
}

/* ---- prompts ---------------------------------------------------------------------------------------------------- */

int cli_read_prompt(const char *prompt, const char *prompt_file, char **text, swm_error *error)
{
    const char *file = prompt_file;
    if (prompt != NULL && prompt[0] == '@') file = prompt + 1;
    if (file != NULL)
        *text = swm_prompt_read_file(file, error);
    else if (prompt != NULL)
        *text = swm_prompt_clean("--prompt", prompt, strlen(prompt), error);
    return swm_failed(error) ? -1 : 0;
}

/* ---- running ----------------------------------------------------------------------------------------------------- */

typedef struct watcher {
    const cli_run *run;
    cli_progress progress;
    bool refines, settings_told;
} watcher;

static void on_notice(void *user, const char *text)
{
    watcher *w = user;
    if (w->run->quiet) return;
    cli_progress_clear(&w->progress);
    cli_message("note: %s", text);
}

/* ", refiner in blocks, seed 42" or nothing. */
static cli_text describe_refiner(const watcher *w)
{
    const swm_request *r = &w->run->request;
    cli_text text = {""};
    if (!w->refines) return text;
    snprintf(text.text, sizeof text.text, ", refiner%s%s seed %llu", r->refiner_mode == SWM_REFINER_BLOCKS ? " in" : "",
             r->refiner_mode == SWM_REFINER_BLOCKS ? " blocks," : "", (unsigned long long)r->refiner_seed);
    return text;
}

/* Told when the request has turned out to be in order, so that a refusal stays one line. */
static void tell_settings(watcher *w)
{
    static const char *const tilings[] = {"none", "temporal", "both"};
    const swm_request *r = &w->run->request;
    const char *exact = r->reference_exact ? ", reference exact" : "",
               *noise = r->noise == SWM_NOISE_TORCH ? "torch" : "frame";
    const cli_text refiner = describe_refiner(w);
    w->settings_told = true;
    if (w->run->quiet) return;
    if (r->latents != NULL) {
        cli_message("latents %s%s, noise %s, tiles %s%s, model %s", r->latents, refiner.text, noise, tilings[r->tiling],
                    exact, w->run->model_name);
        return;
    }
    char guidance[32] = "default";
    if (r->guidance > 0) snprintf(guidance, sizeof guidance, "%g", r->guidance);
    cli_message(
        "seed %llu, %d steps, guidance %s, flow shift %g, sampler %s, noise %s, tiles %s, %dx%d, %g fps%s%s, model %s",
        (unsigned long long)r->seed, r->steps, guidance, r->flow_shift, r->sampler != NULL ? r->sampler : "auto", noise,
        tilings[r->tiling], r->width, r->height, r->fps, exact, refiner.text, w->run->model_name);
}

static void on_progress(void *user, const swm_progress *now)
{
    watcher *w = user;
    if (!w->settings_told) tell_settings(w);
    cli_progress_show(&w->progress, now);
}

static bool on_stop(void *user)
{
    (void)user;
    return cli_interrupted();
}

swm_model *cli_open_model(const char *directory, const swm_model_options *options, const cli_refiner_values *refiner)
{
    swm_error error = {0};
    swm_message message = {{0}};
    swm_model_options all = *options;
    char *lora = cli_refiner_model(&all, refiner, &error);
    swm_model *model = swm_failed(&error) ? NULL : swm_model_open(directory, &all, &message);
    free(lora);
    if (model == NULL) cli_message("%s", swm_failed(&error) ? error.text : message.text);
    return model;
}

/* {"video", "sidecar", "seconds", "run"}: the sidecar's content under "run". */
static int print_result_json(const cli_run *run, const char *sidecar)
{
    swm_error error = {0};
    cJSON *content = sidecar != NULL ? swm_json_read(sidecar, (size_t)1 << 30, &error) : NULL;
    if (swm_failed(&error)) return cli_failure(&error);
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "video", run->output.path);
    if (sidecar != NULL) cJSON_AddStringToObject(root, "sidecar", sidecar);
    cJSON_AddNumberToObject(root, "seconds", run->seconds);
    if (content != NULL) cJSON_AddItemToObject(root, "run", content);
    return cli_print_json(root);
}

int cli_report_result(const cli_run *run)
{
    if (!run->quiet) cli_message("done in %s", cli_duration(run->seconds).text);
    if (!run->json) {
        puts(run->output.path);
        return CLI_OK;
    }
    swm_error error = {0};
    char *sidecar = run->dataset != NULL     ? swm_path_join(&error, run->output.path, "camera.json")
                    : run->output.no_sidecar ? NULL
                                             : swm_sidecar_path(run->output.path);
    const int status = print_result_json(run, sidecar);
    free(sidecar);
    return status;
}

int cli_generate_run(const swm_model *model, cli_run *run)
{
    watcher w = {.run = run, .refines = swm_model_has_refiner(model) && !run->request.no_refiner};
    const swm_events events = {.user = &w, .notice = on_notice, .progress = on_progress, .stop = on_stop};
    swm_message message = {{0}};
    cli_progress_start(&w.progress, run->quiet, !run->no_preview);
    const double start = swm_seconds();
    const int result = run->dataset != NULL ? cli_generate_dataset(model, run, &events, &message)
                                            : swm_generate_file(model, &run->request, &run->output, &events, &message);
    run->seconds = swm_seconds() - start;
    cli_progress_clear(&w.progress);
    if (result == 0) return CLI_OK;
    if (!cli_interrupted()) {
        cli_message("%s", message.text);
        return CLI_FAILURE;
    }
    cli_message("interrupted; no video was written");
    return cli_interrupt_status();
}
