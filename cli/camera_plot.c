/* sanawm camera plot: camera paths as pictures, as a page that plays them, or as a sketch in the terminal. */
#include "camera_source.h"
#include "commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "camera/html.h"
#include "camera/plot.h"
#include "camera/sketch.h"
#include "core/file.h"

typedef struct plot_values {
    const char *output, *html, *title;
    double fps; /* 0: the file's, or 16 */
    int64_t width, height, columns, rows;
    bool sketch;
} plot_values;

#define AT(member) .offset = offsetof(plot_values, member)

static const cli_option options[] = {
    {CLI_STRING, "output", .letter = 'o', AT(output), .value = "FILE.svg|FILE.png",
     .help = "In space, from above, from the side, and speed and rotation over time"},
    {CLI_STRING, "html", AT(html), .value = "FILE.html", .help = "One page that plays the paths; drag to look around"},
    {CLI_FLAG, "sketch", AT(sketch), .help = "In the terminal; also when no file is asked for"},
    {CLI_STRING, "title", AT(title), .value = "TEXT", .help = "[the name of the path]"},
    {CLI_NUMBER, "fps", AT(fps), .minimum = 1e-3, .maximum = 1e6, .value = "N",
     .help = "Frames a second [the file's, or 16]"},
    {CLI_INTEGER, "width", AT(width), .minimum = 320, .maximum = 8192, .value = "PIXELS", .help = "Of FILE [1200]"},
    {CLI_INTEGER, "height", AT(height), .minimum = 320, .maximum = 8192, .value = "PIXELS", .help = "Of FILE [960]"},
    {CLI_INTEGER, "columns", AT(columns), .minimum = 24, .maximum = 400, .value = "N", .help = "Of the sketch [80]"},
    {CLI_INTEGER, "rows", AT(rows), .minimum = 8, .maximum = 200, .value = "N", .help = "Of the sketch [30]"},
};

static int write_page(const char *file, const swm_plot_path *paths, int count, const swm_plot_options *plot,
                      swm_error *error)
{
    char *page = swm_camera_html(paths, count, plot, error);
    if (page == NULL) return -1;
    const int status = swm_file_write(file, page, strlen(page), error);
    free(page);
    return status;
}

static int print_sketch(const swm_plot_path *paths, int count, const plot_values *v, double fps, swm_error *error)
{
    const swm_sketch_options o = {.fps = fps, .columns = (int)v->columns, .rows = (int)v->rows};
    char *text = swm_sketch(paths, count, &o, error);
    if (text == NULL) return -1;
    fputs(text, stdout);
    free(text);
    return 0;
}

static int show(const swm_plot_path *paths, int count, const plot_values *v, double fps, swm_error *error)
{
    const swm_plot_options plot = {.title = v->title != NULL ? v->title
                                            : count == 1     ? paths[0].name
                                                             : NULL,
                                   .fps = fps,
                                   .width = (int)v->width,
                                   .height = (int)v->height};
    if (v->output != NULL && swm_plot_save_paths(v->output, paths, count, &plot, error) != 0) return -1;
    if (v->html != NULL && write_page(v->html, paths, count, &plot, error) != 0) return -1;
    if (v->sketch || (v->output == NULL && v->html == NULL)) return print_sketch(paths, count, v, fps, error);
    return 0;
}

static int run_plot(const cli_command *command, int argc, char **argv)
{
    plot_values v = {0};
    const char *sources[SWM_PLOT_MOST_PATHS];
    int status;
    if (!cli_parse(command, argc, argv, &v, sources, &status)) return status;
    swm_poses poses[SWM_PLOT_MOST_PATHS] = {{0}};
    swm_plot_path paths[SWM_PLOT_MOST_PATHS];
    swm_error error = {0};
    double fps = v.fps;
    int count = 0, result = 0;
    while (count < SWM_PLOT_MOST_PATHS && sources[count] != NULL && result == 0) {
        double own;
        result = cli_source_load(&poses[count], &own, sources[count], false, &error);
        if (fps == 0) fps = own;
        paths[count] = (swm_plot_path){&poses[count], cli_source_name(sources[count])};
        count++;
    }
    if (result == 0) result = show(paths, count, &v, fps > 0 ? fps : 16, &error);
    for (int i = 0; i < count; i++) swm_poses_free(&poses[i]);
    if (result != 0) return cli_failure(&error);
    if (v.output != NULL) puts(v.output);
    if (v.html != NULL) puts(v.html);
    return CLI_OK;
}

const cli_command cli_camera_plot = {
    .name = "camera plot",
    .summary = "Pictures of camera paths",
    .operands = "PATH [PATH...]",
    .operands_least = 1,
    .operands_most = SWM_PLOT_MOST_PATHS,
    .description = "Draw up to 8 camera paths over each other. A PATH is a file in any format that camera convert "
                   "reads, a keyframe file, "
                   "an action string, or the name of a move with its own values.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run_plot,
};
