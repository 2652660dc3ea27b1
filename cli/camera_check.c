/* sanawm camera check: is a camera path within what the model knows. */
#include "camera_source.h"
#include "commands.h"

#include <stdio.h>

#include "camera/check.h"

enum { MOST_SOURCES = 1025 };

static void print_measures(const char *source, const swm_camera_measures *m, double fps)
{
    printf("%s: %lld frames, %.2f s\n", source, (long long)m->frames, (double)m->frames / fps);
    printf("  length   %10.4f units, turned %.2f degrees\n", m->length, m->turned);
    printf("  extent   %10.4f x %.4f x %.4f units, up to %.4f from the start\n", m->extent[0], m->extent[1],
           m->extent[2], m->reach);
    printf("  step     %10.4f units at most, into frame %lld\n", m->step, (long long)m->step_at);
    printf("  turn     %10.4f degrees at most, into frame %lld\n", m->turn, (long long)m->turn_at);
    printf("  tilt     %10.4f degrees at most\n", m->tilt);
}

static int measure(swm_camera_measures *m, double *fps, const char *source, bool quiet, swm_error *error)
{
    swm_poses poses;
    if (cli_source_load(&poses, fps, source, quiet, error) != 0) return -1;
    *m = swm_camera_measure(&poses);
    if (*fps <= 0) *fps = 16;
    swm_poses_free(&poses);
    return 0;
}

static int run_check(const cli_command *command, int argc, char **argv)
{
    const char *sources[MOST_SOURCES];
    int status;
    if (!cli_parse(command, argc, argv, NULL, sources, &status)) return status;
    swm_error error = {0};
    swm_camera_measures m, reference;
    swm_camera_limits limits = sources[1] != NULL ? (swm_camera_limits){0} : swm_camera_limits_default();
    double fps, any;
    if (measure(&m, &fps, sources[0], false, &error) != 0) return cli_failure(&error);
    for (int i = 1; i < MOST_SOURCES && sources[i] != NULL; i++) {
        if (measure(&reference, &any, sources[i], true, &error) != 0) return cli_failure(&error);
        swm_camera_limits_cover(&limits, &reference);
    }
    print_measures(sources[0], &m, fps);
    swm_camera_warning warnings[SWM_CAMERA_WARNINGS];
    const int count = swm_camera_check(&m, &limits, warnings);
    for (int i = 0; i < count; i++) printf("  warning  %s\n", warnings[i].text);
    if (count == 0) puts(sources[1] != NULL ? "  within the range of the references" : "  within what the model knows");
    return count == 0 ? CLI_OK : CLI_FAILURE;
}

const cli_command cli_camera_check = {
    .name = "camera check",
    .summary = "Is a camera path within what the model knows",
    .operands = "PATH [REFERENCE...]",
    .operands_least = 1,
    .operands_most = MOST_SOURCES,
    .description =
        "Measure a camera path and warn where it leaves what the model knows: speed, rotation from frame to frame, "
        "extent, tilt "
        "and length. The limits are the motion that the model's own control programs command. With REFERENCE paths, "
        "for "
        "instance the benchmark's, the limits are what those do instead. Exit status 1 when there is a warning.",
    .run = run_check,
};
