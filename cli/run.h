/* One generation as the commands generate and demo run it: progress, notes, Ctrl-C, and the report of the result. */
#ifndef CLI_RUN_H
#define CLI_RUN_H

#include "console.h"
#include "refiner_options.h"
#include "sanawm.h"

/* The directory of the toy world that comes with the program: in the source tree that the program was built in, or
 * among the installed data. Fresh memory; NULL with a message that says how to name another. */
char *cli_builtin_model(swm_error *error);

/* --intrinsics takes a file or "fx,fy,cx,cy". True when no such file is there and the text is numbers and commas. */
bool cli_intrinsics_are_numbers(const char *text);
int cli_parse_intrinsics(const char *text, float values[4], swm_error *error);

/* A prompt from the command line: its text, "@FILE", or a file; NULL without either. */
int cli_read_prompt(const char *prompt, const char *prompt_file, char **text, swm_error *error);

/* "frames/" means the directory "frames". */
char *cli_without_trailing_slashes(const char *path, swm_error *error);

/* NULL after a failure, which has been told. */
swm_model *cli_open_model(const char *directory, const swm_model_options *options, const cli_refiner_values *refiner);

/* Rows of the option table of a command that computes, whose struct of values has `device`, `vram_budget` and `threads`. */
/* clang-format off */
#define CLI_MACHINE_OPTIONS(values)                                                                                    \
    {CLI_WORD, "device", .offset = offsetof(values, device), .value = "cpu|cuda",                                      \
     .help = "[the first GPU if the build has CUDA, else cpu]"},                                                       \
    {CLI_MEMORY, "vram-budget", .offset = offsetof(values, vram_budget), .value = "SIZE|auto",                         \
     .help = "GPU memory to stay within, for instance 12G: weights stream, the result is the same "                    \
             "[auto: what is free]"},                                                                                  \
    {CLI_INTEGER, "threads", .offset = offsetof(values, threads), .minimum = 1, .maximum = 1024, .value = "N",         \
     .help = "[all processors]"}
/* clang-format on */

typedef struct cli_run {
    const char *model_name; /* for messages */
    swm_request request;
    swm_output_options output;
    const char *dataset; /* layout of the directory that the output is: "colmap", "transforms", "tum"; NULL: none */
    bool quiet, no_preview;
    bool json;      /* the result is printed as JSON */
    double seconds; /* out: how long it took */
} cli_run;

/* Where no path was chosen: a name that fits the codec. Also settles the codec from the path's ending where it was not
 * chosen, and refuses a path that does not fit it. */
int cli_choose_output(swm_output_options *output, swm_error *error);

/* Like swm_generate_file, for a dataset. All members of the events but `frames` must be there. */
int cli_generate_dataset(const swm_model *model, const cli_run *run, const swm_events *events, swm_message *message);

/* Returns an exit status; failures have been told. */
int cli_generate_run(const swm_model *model, cli_run *run);
/* Tell the result of a run: the path, or JSON. Returns an exit status. */
int cli_report_result(const cli_run *run);

#endif
