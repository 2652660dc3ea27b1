/* sanawm refine: the second stage alone, over the saved result of the first. */
#include "commands.h"

#include <stdlib.h>
#include <string.h>

#include "refiner_options.h"
#include "run.h"

typedef struct refine_values {
    const char *model;
    const char *prompt, *prompt_file;
    const char *output, *codec, *save_stage1;
    int64_t quality;
    double fps;
    int noise, tiles;
    bool reference_exact;
    cli_refiner_values refiner;
    const char *device;
    uint64_t vram_budget;
    int64_t threads;
    bool no_sidecar, json, quiet;
} refine_values;

#define AT(member) .offset = offsetof(refine_values, member)

static const cli_option options[] = {
    {CLI_STRING, "prompt", AT(prompt), .value = "TEXT",
     .help = "What is to be seen; @FILE reads it from a file [the prompt of the latents]"},
    {CLI_STRING, "prompt-file", AT(prompt_file), .value = "FILE", .help = "The prompt from a UTF-8 file"},

    {CLI_HEADING, .help = "The video"},
    {CLI_STRING, "output", .letter = 'o', AT(output), .value = "PATH",
     .help = "[output.mp4] .mp4, .mkv for ffv1, a directory for png"},
    {CLI_NUMBER, "fps", AT(fps), .minimum = 1, .maximum = 1000, .value = "N", .help = "[that of the latents]"},
    {CLI_WORD, "codec", AT(codec), .value = "h264|hevc|av1|ffv1|png", .help = "[h264; ffv1 for .mkv]"},
    {CLI_INTEGER, "quality", AT(quality), .minimum = 1, .maximum = 63, .value = "CRF",
     .help = "Constant quality of the codec, smaller is better [the codec's default]"},
    {CLI_CHOICE, "tiles", AT(tiles), .value = "none|temporal|both",
     .help = "Decode in overlapping pieces of time, or of time and space as the reference does [none]"},
    {CLI_FLAG, "reference-exact", AT(reference_exact), .help = "Repeat the accidents of the reference's decoding"},
    {CLI_STRING, "save-stage1", AT(save_stage1), .value = "PATH",
     .help = "Also a video of the clip before it is refined"},
    {CLI_FLAG, "no-sidecar", AT(no_sidecar), .help = "Do not write the settings and poses beside the video as .json"},

    {CLI_HEADING, .help = "Refiner"},
    CLI_REFINER_OPTIONS(refine_values),
    {CLI_CHOICE, "noise", AT(noise), .value = "torch|frame",
     .help = "As torch draws it on a GPU, or a stream a frame: the same beginning at any length [torch]"},

    {CLI_HEADING, .help = "Model and machine"},
    {CLI_STRING, "model", AT(model), .value = "DIR",
     .help = "The model that made the latents, or another with its VAE"},
    CLI_MACHINE_OPTIONS(refine_values),

    {CLI_HEADING, .help = "Messages"},
    {CLI_FLAG, "json", AT(json), .help = "Print the result as JSON instead of the video's path"},
    {CLI_FLAG, "quiet", AT(quiet), .help = "No progress and no notes"},
};

static void fill_request(swm_request *r, const refine_values *v, const char *latents, const char *prompt)
{
    r->latents = latents;
    r->prompt = prompt;
    r->fps = v->fps;
    r->noise = v->noise == 0 ? SWM_NOISE_TORCH : SWM_NOISE_FRAME;
    r->tiling = (swm_tiling)v->tiles;
    r->reference_exact = v->reference_exact;
    cli_refiner_request(r, &v->refiner);
    r->device = v->device;
    r->vram_budget = v->vram_budget;
    r->threads = (int)v->threads;
}

static int refine_with(const refine_values *v, const char *latents, const char *prompt, const char *output)
{
    swm_error error = {0};
    cli_run run = {.model_name = v->model, .quiet = v->quiet, .no_preview = true, .json = v->json};
    run.output = (swm_output_options){.path = output,
                                      .codec = v->codec,
                                      .quality = (int)v->quality,
                                      .no_sidecar = v->no_sidecar,
                                      .stage1_path = v->save_stage1};
    if (cli_choose_output(&run.output, &error) != 0) return cli_failure(&error);
    swm_model *model = cli_open_model(v->model, &(swm_model_options){0}, &v->refiner);
    if (model == NULL) return CLI_FAILURE;
    int status = CLI_FAILURE;
    if (!swm_model_has_refiner(model) && !v->refiner.off) {
        cli_message("%s: has no refiner; name one with --refiner DIR, or only decode with --no-refiner", v->model);
    } else {
        run.request = swm_request_defaults(model);
        fill_request(&run.request, v, latents, prompt);
        status = cli_generate_run(model, &run);
    }
    swm_model_close(model);
    return status == CLI_OK ? cli_report_result(&run) : status;
}

static int run_refine(const cli_command *command, int argc, char **argv)
{
    refine_values v = {.refiner = CLI_REFINER_DEFAULTS, .tiles = SWM_TILES_NONE};
    const char *latents = NULL;
    int status;
    if (!cli_parse(command, argc, argv, &v, &latents, &status)) return status;
    if (v.model == NULL) return cli_usage(command, "--model is missing: the directory with the refiner");
    if (v.prompt != NULL && v.prompt_file != NULL)
        return cli_usage(command, "--prompt and --prompt-file were both given; pass one of them");
    if (v.save_stage1 != NULL && v.refiner.off)
        return cli_usage(command,
                         "--save-stage1 does not go with --no-refiner, whose video is that of the first stage");
    cli_catch_interrupts();
    swm_error error = {0};
    char *prompt = NULL, *output = NULL;
    if (cli_read_prompt(v.prompt, v.prompt_file, &prompt, &error) == 0 && v.output != NULL)
        output = cli_without_trailing_slashes(v.output, &error);
    status = swm_failed(&error) ? cli_failure(&error) : refine_with(&v, latents, prompt, output);
    free(output);
    free(prompt);
    return status;
}

const cli_command cli_refine = {
    .name = "refine",
    .summary = "Refine and decode the saved result of a first stage",
    .operands = "LATENTS",
    .operands_least = 1,
    .operands_most = 1,
    .description =
        "Refine what sanawm generate --save-latents has kept, and decode it to a video, without making the clip "
        "again. With the same options the video is the same as if it had been made in one go.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run_refine,
};
