/* sanawm generate: every member of a request as an option. */
#include "commands.h"

#include <stdlib.h>
#include <string.h>

#include "refiner_options.h"
#include "run.h"

typedef struct generate_values {
    const char *model, *dit, *text_encoder;
    bool softcap;
    const char *image;
    const char *action, *camera, *keys;
    double translation_speed, rotation_speed;
    const char *intrinsics;
    double fov;
    const char *prompt, *prompt_file, *negative_prompt, *prompt_embeddings, *save_prompt_embeddings;
    int64_t frames;
    cli_size size;
    double fps;
    int64_t steps;
    double guidance, flow_shift;
    uint64_t seed;
    const char *sampler;
    double chunk_interval;
    int noise, tiles;
    bool reference_exact;
    const char *device;
    uint64_t vram_budget;
    int64_t threads;
    cli_refiner_values refiner;
    const char *save_stage1, *save_latents;
    const char *output, *codec, *dataset;
    int64_t quality;
    bool no_sidecar, json, quiet, no_preview;
} generate_values;

#define AT(member) .offset = offsetof(generate_values, member)

static const cli_option options[] = {
    {CLI_HEADING, .help = "What to film"},
    {CLI_STRING, "image", AT(image), .value = "PICTURE", .help = "First frame: PNG, JPEG, WebP, ... (required)"},
    {CLI_STRING, "action", AT(action), .value = "KEYS",
     .help = "Camera path as held keys and frames, for instance w-80,dw-40: 80 frames forward, 40 forward and to the "
             "right. Either this or --camera"},
    {CLI_STRING, "camera", AT(camera), .value = "FILE",
     .help =
         "Camera path: SANA-WM .npy or .npz, COLMAP, transforms.json, TUM, KITTI, a run's .json; see camera convert"},
    {CLI_WORD, "keys", AT(keys), .value = "current|v1|sglang|flashdreams",
     .help = "What the letters of --action mean [current]"},
    {CLI_NUMBER, "translation-speed", AT(translation_speed), .minimum = 1e-6, .maximum = 1e6, .value = "UNITS",
     .help = "Of --action, a frame [0.025]"},
    {CLI_NUMBER, "rotation-speed-deg", AT(rotation_speed), .minimum = 1e-6, .maximum = 180, .value = "DEGREES",
     .help = "Of --action, a frame [0.6]"},
    {CLI_STRING, "intrinsics", AT(intrinsics), .value = "FILE|FX,FY,CX,CY",
     .help = "Of the picture, in its pixels: .npy (4), (3,3), (N,4) or (N,3,3), or four numbers"},
    {CLI_NUMBER, "fov", AT(fov), .minimum = 5, .maximum = 170, .value = "DEGREES",
     .help = "Horizontal field of view of the picture, in place of --intrinsics. Without both: from its EXIF, else 60"},
    {CLI_STRING, "prompt", AT(prompt), .value = "TEXT", .help = "What is to be seen; @FILE reads it from a file"},
    {CLI_STRING, "prompt-file", AT(prompt_file), .value = "FILE", .help = "The prompt from a UTF-8 file"},
    {CLI_STRING, "negative-prompt", AT(negative_prompt), .value = "TEXT", .help = "What is not to be seen"},
    {CLI_STRING, "prompt-embeddings", AT(prompt_embeddings), .value = "FILE",
     .help = "Encoded prompt of an earlier run; no text encoder is needed then"},
    {CLI_STRING, "save-prompt-embeddings", AT(save_prompt_embeddings), .value = "FILE",
     .help = "Keep the encoded prompt"},

    {CLI_HEADING, .help = "The video"},
    {CLI_STRING, "output", .letter = 'o', AT(output), .value = "PATH",
     .help = "[output.mp4] .mp4, .mkv for ffv1, a directory for png"},
    {CLI_INTEGER, "frames", "num-frames", AT(frames), .minimum = 1, .maximum = 1000000, .value = "N",
     .help = "Rounded to 8k+1 [the camera path, at most 161]"},
    {CLI_SIZE, "size", AT(size), .value = "WxH", .help = "Multiples of 32 [the model's]"},
    {CLI_NUMBER, "fps", AT(fps), .minimum = 1, .maximum = 1000, .value = "N", .help = "Of the file [16]"},
    {CLI_WORD, "codec", AT(codec), .value = "h264|hevc|av1|ffv1|png", .help = "[h264; ffv1 for .mkv]"},
    {CLI_INTEGER, "quality", AT(quality), .minimum = 1, .maximum = 63, .value = "CRF",
     .help = "Constant quality of the codec, smaller is better [the codec's default]"},
    {CLI_WORD, "dataset", AT(dataset), .value = "colmap|transforms|tum",
     .help = "Make PATH a directory for splat and robot tools: pictures and COLMAP's sparse/0, pictures and "
             "transforms.json, or video and TUM trajectory"},
    {CLI_FLAG, "no-sidecar", AT(no_sidecar), .help = "Do not write the settings and poses beside the video as .json"},

    {CLI_HEADING, .help = "Sampling"},
    {CLI_INTEGER, "steps", AT(steps), .minimum = 2, .maximum = 1000, .value = "N", .help = "[60]"},
    {CLI_NUMBER, "guidance", "cfg-scale", AT(guidance), .minimum = 1, .maximum = 100, .value = "SCALE",
     .help = "How closely to follow the prompt; 1 is none and half the work [5, without text encoder 1]"},
    {CLI_NUMBER, "flow-shift", AT(flow_shift), .minimum = 1e-3, .maximum = 1e3, .value = "S", .help = "[the model's]"},
    {CLI_SEED, "seed", AT(seed), .value = "N", .help = "[42]"},
    {CLI_WORD, "sampler", "sampling-algo", AT(sampler), .value = "auto|flow_euler_ltx|flow_dpm-solver|chunk_flow_euler",
     .help = "[auto: flow_euler_ltx, chunk_flow_euler for chunk-causal models]"},
    {CLI_NUMBER, "chunk-interval-k", AT(chunk_interval), .minimum = 1e-6, .maximum = 1, .value = "K",
     .help = "Of chunk_flow_euler: when the next chunk starts, in parts of all steps [1 / chunks]"},
    {CLI_CHOICE, "noise", AT(noise), .value = "torch|frame",
     .help = "As torch draws it on a GPU, or a stream a frame: the same beginning at any length [torch]"},
    {CLI_CHOICE, "tiles", AT(tiles), .value = "none|temporal|both",
     .help = "Decode in overlapping pieces of time, or of time and space as the reference does [none]"},
    {CLI_FLAG, "reference-exact", AT(reference_exact), .help = "Repeat the accidents of the reference's decoding"},

    {CLI_HEADING, .help = "Refiner: the second stage"},
    CLI_REFINER_OPTIONS(generate_values),
    {CLI_STRING, "save-stage1", AT(save_stage1), .value = "PATH",
     .help = "Also a video of the clip before it is refined"},
    {CLI_STRING, "save-latents", AT(save_latents), .value = "FILE",
     .help = "Keep the first stage's result, for sanawm refine"},

    {CLI_HEADING, .help = "Model and machine"},
    {CLI_STRING, "model", AT(model), .value = "DIR", .help = "[the built-in toy world]"},
    {CLI_STRING, "dit", AT(dit), .value = "PATH", .help = "DiT weights elsewhere than in DIR/dit"},
    {CLI_STRING, "text-encoder", AT(text_encoder), .value = "DIR",
     .help = "Gemma-2 elsewhere than in DIR/text_encoder"},
    {CLI_FLAG, "softcap", AT(softcap), .help = "Attention soft-capping in Gemma-2; the release was made without"},
    CLI_MACHINE_OPTIONS(generate_values),

    {CLI_HEADING, .help = "Messages"},
    {CLI_FLAG, "json", AT(json), .help = "Print the result as JSON instead of the video's path"},
    {CLI_FLAG, "quiet", AT(quiet), .help = "No progress and no notes"},
    {CLI_FLAG, "no-preview", AT(no_preview), .help = "No pictures in terminals that could show them"},
};

/* Combinations that make no sense whatever the model. */
static int check_usage(const cli_command *command, const generate_values *v)
{
    if (v->image == NULL) return cli_usage(command, "--image is missing: the picture to start from");
    if (v->action != NULL && v->camera != NULL)
        return cli_usage(command, "--action and --camera were both given; pass one of them");
    if (v->action == NULL && v->camera == NULL)
        return cli_usage(command, "no camera path; pass --action, for instance --action w-32, or --camera FILE");
    if (v->camera != NULL && (v->translation_speed > 0 || v->rotation_speed > 0 || v->keys != NULL))
        return cli_usage(command,
                         "--keys, --translation-speed and --rotation-speed-deg belong to --action, not to --camera");
    if (v->dataset != NULL && v->output == NULL)
        return cli_usage(command, "--dataset needs a directory; name it with --output");
    if (v->dataset != NULL && v->no_sidecar)
        return cli_usage(command, "--no-sidecar does not go with --dataset, whose camera.json describes the run");
    if (v->save_stage1 != NULL && (v->refiner.off || v->dataset != NULL))
        return cli_usage(command, "--save-stage1 does not go with %s",
                         v->dataset != NULL ? "--dataset" : "--no-refiner, whose video is that of the first stage");
    if (v->intrinsics != NULL && v->fov > 0)
        return cli_usage(command, "--intrinsics and --fov were both given; pass one of them");
    if ((v->prompt != NULL) + (v->prompt_file != NULL) + (v->prompt_embeddings != NULL) > 1)
        return cli_usage(command, "pass only one of --prompt, --prompt-file and --prompt-embeddings");
    return CLI_OK;
}

static void fill_request(swm_request *r, const generate_values *v, const char *prompt, const float *intrinsics)
{
    r->image = v->image;
    r->action = v->action;
    r->camera = v->camera;
    r->key_profile = v->keys;
    r->translation_speed = v->translation_speed;
    r->rotation_speed_degrees = v->rotation_speed;
    r->intrinsics = intrinsics == NULL ? v->intrinsics : NULL;
    r->intrinsics_values = intrinsics;
    r->fov = v->fov;
    r->prompt = prompt;
    r->negative_prompt = v->negative_prompt;
    r->prompt_embeddings = v->prompt_embeddings;
    r->save_prompt_embeddings = v->save_prompt_embeddings;
    r->frames = v->frames;
    if (v->size.width > 0) {
        r->width = v->size.width;
        r->height = v->size.height;
    }
    if (v->fps > 0) r->fps = v->fps;
    if (v->steps > 0) r->steps = (int)v->steps;
    /* With a saved prompt the library knows better than the defaults of a model without text encoder. */
    if (v->guidance > 0 || v->prompt_embeddings != NULL) r->guidance = v->guidance;
    if (v->flow_shift > 0) r->flow_shift = v->flow_shift;
    r->seed = v->seed;
    r->sampler = v->sampler != NULL && strcmp(v->sampler, "auto") != 0 ? v->sampler : NULL;
    r->chunk_interval = v->chunk_interval;
    r->noise = v->noise == 0 ? SWM_NOISE_TORCH : SWM_NOISE_FRAME;
    r->tiling = (swm_tiling)v->tiles;
    r->reference_exact = v->reference_exact;
    r->save_latents = v->save_latents;
    cli_refiner_request(r, &v->refiner);
    r->device = v->device;
    r->vram_budget = v->vram_budget;
    r->threads = (int)v->threads;
}

static int generate_with(const generate_values *v, const char *directory, const char *prompt, const float *intrinsics,
                         char *output_path)
{
    swm_error error = {0};
    cli_run run = {.model_name = directory, .quiet = v->quiet, .no_preview = v->no_preview, .json = v->json};
    run.dataset = v->dataset;
    run.output = (swm_output_options){.path = output_path,
                                      .codec = v->codec,
                                      .quality = (int)v->quality,
                                      .no_sidecar = v->no_sidecar,
                                      .stage1_path = v->save_stage1};
    if (v->dataset == NULL && cli_choose_output(&run.output, &error) != 0) return cli_failure(&error);
    swm_model *model = cli_open_model(
        directory, &(swm_model_options){.dit = v->dit, .text_encoder = v->text_encoder, .softcap = v->softcap},
        &v->refiner);
    if (model == NULL) return CLI_FAILURE;
    run.request = swm_request_defaults(model);
    fill_request(&run.request, v, prompt, intrinsics);
    const int status = cli_generate_run(model, &run);
    swm_model_close(model);
    return status == CLI_OK ? cli_report_result(&run) : status;
}

static int generate_checked(const generate_values *v)
{
    swm_error error = {0};
    float intrinsics[4];
    const bool numbers = v->intrinsics != NULL && cli_intrinsics_are_numbers(v->intrinsics);
    char *prompt = NULL, *output = NULL, *builtin = NULL;
    int status = CLI_FAILURE;
    if (!swm_failed(&error) && numbers) cli_parse_intrinsics(v->intrinsics, intrinsics, &error);
    if (!swm_failed(&error)) cli_read_prompt(v->prompt, v->prompt_file, &prompt, &error);
    if (!swm_failed(&error) && v->output != NULL) output = cli_without_trailing_slashes(v->output, &error);
    if (!swm_failed(&error) && v->model == NULL) builtin = cli_builtin_model(&error);
    if (swm_failed(&error))
        cli_failure(&error);
    else
        status = generate_with(v, v->model != NULL ? v->model : builtin, prompt, numbers ? intrinsics : NULL, output);
    free(builtin);
    free(output);
    free(prompt);
    return status;
}

static int run_generate(const cli_command *command, int argc, char **argv)
{
    generate_values v = {.seed = 42, .refiner = CLI_REFINER_DEFAULTS, .tiles = SWM_TILES_NONE};
    int status;
    if (!cli_parse(command, argc, argv, &v, NULL, &status)) return status;
    status = check_usage(command, &v);
    if (status != CLI_OK) return status;
    cli_catch_interrupts();
    return generate_checked(&v);
}

const cli_command cli_generate = {
    .name = "generate",
    .summary = "A video from a picture, a camera path and a prompt",
    .operands = "",
    .description =
        "Turn a picture, a camera path and a prompt into a video. Prints the path of the video; beside it lies a "
        ".json file with everything needed to make it again.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run_generate,
};
