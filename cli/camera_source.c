/* Implements camera_source.h. */
#include "camera_source.h"

#include <stdlib.h>
#include <string.h>

#include "camera/check.h"
#include "camera/formats.h"
#include "camera/keyframe.h"
#include "core/file.h"

static bool has_ending(const char *text, const char *ending)
{
    const size_t n = strlen(text), m = strlen(ending);
    return n > m && strcmp(text + n - m, ending) == 0;
}

/* Other programs' paths end in .json too; ours says what it is. */
static bool holds_keyframes(const char *path)
{
    if (!has_ending(path, ".json")) return false;
    char *text = swm_file_read(path, SWM_KEYFRAMES_MAX_SIZE, NULL, NULL);
    const bool found = text != NULL && strstr(text, "\"sanawm-keyframes\"") != NULL;
    free(text);
    return found;
}

cli_source_kind cli_source_kind_of(const char *source)
{
    if (swm_file_exists(source) || swm_directory_exists(source))
        return holds_keyframes(source) ? CLI_SOURCE_KEYFRAMES : CLI_SOURCE_FILE;
    if (swm_preset_find(source, NULL) != NULL) return CLI_SOURCE_MOVE;
    /* A mistyped file name is told as such, not as a bad action. */
    if (strpbrk(source, "./") != NULL || strchr(source, '-') == NULL) return CLI_SOURCE_FILE;
    return CLI_SOURCE_ACTION;
}

static void tell(void *user, const char *text)
{
    (void)user;
    cli_message("%s", text);
}

static int load_file(swm_poses *poses, double *fps, const char *source, bool quiet, swm_error *error)
{
    swm_camera_path path;
    const swm_path_reading reading = {.poses_only = true, .notice = quiet ? NULL : tell};
    if (swm_camera_path_load(&path, source, &reading, error) != 0) return -1;
    const int status = swm_poses_create(poses, path.count, error);
    for (int64_t i = 0; i < 16 * path.count && status == 0; i++) poses->c2w[i] = (float)path.c2w[i];
    *fps = path.fps;
    swm_camera_path_free(&path);
    return status;
}

/* What is neither a file nor an action may be a mistyped move: the message lists both. */
static int explain_missing(const char *source, swm_error *error)
{
    swm_error moves = {0};
    swm_preset_find(source, &moves);
    return swm_fail(error, "%.200s: no such file, and no action such as w-80,dw-40; %s", source, moves.text);
}

int cli_source_load(swm_poses *poses, double *fps, const char *source, bool quiet, swm_error *error)
{
    *poses = (swm_poses){0};
    *fps = 0;
    switch (cli_source_kind_of(source)) {
    case CLI_SOURCE_KEYFRAMES: return swm_keyframes_load(poses, fps, source, error);
    case CLI_SOURCE_MOVE: {
        const swm_preset_options options = swm_preset_defaults(swm_preset_find(source, error));
        return swm_preset_make(&options, poses, error);
    }
    case CLI_SOURCE_ACTION: return swm_action_rollout(source, NULL, poses, error);
    case CLI_SOURCE_FILE: break;
    }
    if (!swm_file_exists(source) && !swm_directory_exists(source)) return explain_missing(source, error);
    return load_file(poses, fps, source, quiet, error);
}

const char *cli_source_name(const char *source)
{
    const char *slash = strrchr(source, '/');
    return slash != NULL && slash[1] != '\0' ? slash + 1 : source;
}

void cli_tell_path(const swm_poses *poses, double fps)
{
    const swm_camera_measures m = swm_camera_measure(poses);
    const swm_camera_limits limits = swm_camera_limits_default();
    swm_camera_warning warnings[SWM_CAMERA_WARNINGS];
    cli_message(
        "%lld poses, %.2f s at %g frames a second; %.3f units long, turned %.1f degrees; at most %.4f units and "
        "%.3f degrees a frame",
        (long long)m.frames, (double)m.frames / fps, fps, m.length, m.turned, m.step, m.turn);
    const int count = swm_camera_check(&m, &limits, warnings);
    for (int i = 0; i < count; i++) cli_message("warning: %s", warnings[i].text);
}
