/* sanawm bench: how long each stage of a model takes on this machine. */
#include "commands.h"

#include <stdio.h>
#include <stdlib.h>

#include "../bench/stages.h"
#include "camera/camera.h"
#include "run.h"
#include "sanawm.h"

typedef struct bench_values {
    const char *model, *stages, *device;
    bool release, float32, temporal_tiles;
    int64_t frames, repeat, threads, prompt_tokens;
    cli_size size;
    bool json;
} bench_values;

#define AT(member) .offset = offsetof(bench_values, member)

static const cli_option options[] = {
    {CLI_STRING, "model", AT(model), .value = "DIR", .help = "[the built-in toy world]"},
    {CLI_FLAG, "release", AT(release),
     .help = "The 720p release's size with random weights, which need no files: gigabytes"},
    {CLI_STRING, "stage", "stages", AT(stages), .value = "LIST",
     .help = "Of prompt, encode, denoise and decode, with commas between [those that the model has]"},
    {CLI_INTEGER, "repeat", AT(repeat), .minimum = 1, .maximum = 10000, .value = "N",
     .help = "Timed passes of a stage [5]"},
    {CLI_INTEGER, "threads", AT(threads), .minimum = 1, .maximum = 1024, .value = "N", .help = "[all processors]"},
    {CLI_INTEGER, "frames", "num-frames", AT(frames), .minimum = 1, .maximum = 100000, .value = "N",
     .help = "Rounded to 8k+1 [33]"},
    {CLI_SIZE, "size", AT(size), .value = "WxH", .help = "[the model's]"},
    {CLI_FLAG, "temporal-tiles", AT(temporal_tiles), .help = "Decode in pieces, as generate does with long clips"},
    {CLI_INTEGER, "prompt-tokens", AT(prompt_tokens), .minimum = 1, .maximum = 4096, .value = "N",
     .help = "Of the prompt [the most that the model takes]"},
    {CLI_WORD, "device", AT(device), .value = "cpu|cuda", .help = "[the first GPU if the build has CUDA, else cpu]"},
    {CLI_FLAG, "float32", AT(float32), .help = "Compute in float32 on a GPU too"},
    {CLI_FLAG, "json", AT(json), .help = "Print the times as JSON"},
};

static void print_times(const bench *m, const bench_time *times, int repeats)
{
    const bench_shape *s = &m->shape;
    printf("%lld frames of %dx%d on %s, %d threads, median of %d\n\n", (long long)s->frames, s->width, s->height,
           m->backend->name, m->backend->threads, repeats);
    printf("%-8s %12s %12s %12s %10s %10s %10s %12s\n", "stage", "median", "best", "worst", "GFLOP", "TFLOP/s", "GB/s",
           "scratch");
    for (int i = 0; i < BENCH_STAGE_COUNT; i++) {
        if ((m->stages >> i & 1) == 0) continue;
        const bench_time *t = &times[i];
        printf("%-8s %9.2f ms %9.2f ms %9.2f ms %10.4g %10.4g %10.4g %12s\n", bench_stage_name((bench_stage)i),
               t->median * 1e3, t->best * 1e3, t->worst * 1e3, t->work.flops / 1e9, t->work.flops / t->median / 1e12,
               t->work.bytes / t->median / 1e9, cli_bytes((double)t->scratch).text);
    }
    puts("\nFLOPs are those of matrix products and convolutions; bytes count every operand of an op once.");
}

static cJSON *describe(const bench *m, const bench_time *times)
{
    cJSON *root = cJSON_CreateObject(), *stages = cJSON_CreateArray();
    cJSON_AddStringToObject(root, "version", swm_version());
    cJSON_AddStringToObject(root, "device", m->backend->name);
    cJSON_AddNumberToObject(root, "threads", m->backend->threads);
    cJSON_AddNumberToObject(root, "width", m->shape.width);
    cJSON_AddNumberToObject(root, "height", m->shape.height);
    cJSON_AddNumberToObject(root, "frames", (double)m->shape.frames);
    for (int i = 0; i < BENCH_STAGE_COUNT; i++) {
        if ((m->stages >> i & 1) == 0) continue;
        const bench_time *t = &times[i];
        cJSON *stage = cJSON_CreateObject();
        cJSON_AddStringToObject(stage, "stage", bench_stage_name((bench_stage)i));
        cJSON_AddNumberToObject(stage, "repeats", t->repeats);
        cJSON_AddNumberToObject(stage, "seconds", t->median);
        cJSON_AddNumberToObject(stage, "best_seconds", t->best);
        cJSON_AddNumberToObject(stage, "worst_seconds", t->worst);
        cJSON_AddNumberToObject(stage, "flops", t->work.flops);
        cJSON_AddNumberToObject(stage, "bytes_moved", t->work.bytes);
        cJSON_AddNumberToObject(stage, "operations", (double)t->work.operations);
        cJSON_AddNumberToObject(stage, "scratch_bytes", (double)t->scratch);
        cJSON_AddItemToArray(stages, stage);
    }
    cJSON_AddItemToObject(root, "stages", stages);
    return root;
}

static bench_shape choose_shape(const bench_values *v, const swm_checkpoint *model)
{
    bench_shape shape = {
        .width = v->size.width,
        .height = v->size.height,
        .frames = swm_snap_frames(v->frames, v->frames + SWM_FRAMES_PER_LATENT, SWM_FRAMES_PER_LATENT),
        .temporal_tiles = v->temporal_tiles,
        .prompt_tokens = v->prompt_tokens > 0 ? v->prompt_tokens : model->config.model_max_length,
    };
    if (shape.width == 0) swm_checkpoint_video_size(&model->config, &shape.width, &shape.height);
    return shape;
}

/* Results go to standard output when all stages are timed; what is under way, to standard error. */
static int measure(const bench_values *v, swm_checkpoint *model, unsigned stages, swm_error *error)
{
    bench_time times[BENCH_STAGE_COUNT] = {0};
    bench m = {0};
    void *weights = NULL;
    swm_backend *b = swm_backend_open(v->device, v->float32, (int)v->threads, error);
    int result = b != NULL ? bench_weights_randomise(model, stages, &weights, error) : -1;
    if (result == 0) result = bench_open(&m, b, model, choose_shape(v, model), stages, NULL, error);
    for (int i = 0; i < BENCH_STAGE_COUNT && result == 0; i++) {
        if ((stages >> i & 1) == 0) continue;
        cli_message("%s: a pass to warm up, then %lld", bench_stage_name((bench_stage)i), (long long)v->repeat);
        result = bench_measure(&m, (bench_stage)i, (int)v->repeat, &times[i], error);
    }
    int status = CLI_FAILURE;
    if (result == 0 && v->json) status = cli_print_json(describe(&m, times));
    if (result == 0 && !v->json) {
        print_times(&m, times, (int)v->repeat);
        status = CLI_OK;
    }
    bench_close(&m);
    swm_backend_close(b);
    free(weights);
    return status;
}

static int open_model(swm_checkpoint *model, const bench_values *v, swm_error *error)
{
    if (v->release) return swm_checkpoint_open_release(model, error);
    char *builtin = v->model == NULL ? cli_builtin_model(error) : NULL;
    const char *directory = v->model != NULL ? v->model : builtin;
    int result = directory != NULL ? swm_checkpoint_open(model, directory, NULL, NULL, false, error) : -1;
    free(builtin);
    return result;
}

static int run_bench(const cli_command *command, int argc, char **argv)
{
    bench_values v = {.frames = 33, .repeat = 5};
    int status;
    if (!cli_parse(command, argc, argv, &v, NULL, &status)) return status;
    if (v.model != NULL && v.release)
        return cli_usage(command, "--model and --release were both given; pass one of them");
    unsigned stages = 0;
    swm_error error = {0};
    if (v.stages != NULL && bench_stages_parse(v.stages, &stages, &error) != 0)
        return cli_usage(command, "%s", error.text);
    swm_checkpoint model;
    if (open_model(&model, &v, &error) != 0) return cli_failure(&error);
    if (stages == 0) {
        stages = 1u << BENCH_ENCODE | 1u << BENCH_DENOISE | 1u << BENCH_DECODE;
        if (model.gemma.layers != NULL) stages |= 1u << BENCH_PROMPT;
    }
    status = measure(&v, &model, stages, &error);
    if (swm_failed(&error)) status = cli_failure(&error);
    swm_checkpoint_close(&model);
    return status;
}

const cli_command cli_bench = {
    .name = "bench",
    .summary = "How long each stage takes on this machine",
    .operands = "",
    .description = "Time a model's stages one by one: prompt (a caption through the text encoder), encode (the first "
                   "frame), denoise "
                   "(one forward of the diffusion transformer; a step with guidance takes two), decode (the whole "
                   "clip, not tiled).",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run_bench,
};
