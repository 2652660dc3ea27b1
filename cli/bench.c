/* sanawm bench: how long each stage of a model takes on this machine, and what the time goes into. */
#include "commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../bench/compare.h"
#include "../bench/whole.h"
#include "camera/camera.h"
#include "run.h"
#include "sanawm.h"

/* What a clip of the published length costs the public PyTorch implementation on one H200, at 1280x704 in bf16. */
static const double reference_clip_seconds = 686;
static const int64_t reference_clip_frames = 961;

enum { MOST_OPS = 30, MOST_WORDS = 64 };

typedef struct bench_values {
    const char *model, *stages, *device, *csv, *against, *with, *clip, *start, *write_model;
    bool release, float32, temporal_tiles, ops, serve, json;
    int dit_type;
    int64_t frames, repeat, threads, prompt_tokens, decode_span;
    uint64_t vram_budget;
    double matrix_rate, attention_rate, bandwidth;
    cli_size size;
} bench_values;

#define AT(member) .offset = offsetof(bench_values, member)

static const cli_option options[] = {
    {CLI_HEADING, .help = "What is timed"},
    {CLI_STRING, "model", AT(model), .value = "DIR", .help = "[the built-in toy world]"},
    {CLI_FLAG, "release", AT(release), .help = "The 720p release's networks with random weights, which need no files"},
    {CLI_STRING, "stage", "stages", AT(stages), .value = "LIST",
     .help = "Of prompt, encode, denoise, denoise_chunk, refiner_prompt, refine, refine_block and decode, with commas "
             "between [those that the model has, without denoise_chunk and refine_block]"},
    {CLI_INTEGER, "repeat", AT(repeat), .minimum = 1, .maximum = 10000, .value = "N",
     .help = "Timed passes of a stage, or rounds of a comparison [5]"},
    {CLI_INTEGER, "frames", "num-frames", AT(frames), .minimum = 1, .maximum = 100000, .value = "N",
     .help = "Rounded to 8k+1 [33]"},
    {CLI_SIZE, "size", AT(size), .value = "WxH", .help = "[the model's]"},
    {CLI_INTEGER, "decode-span", AT(decode_span), .minimum = 1, .maximum = 1 << 20, .value = "N",
     .help = "Of decode: 2^20 elements of a level at a time, 7 a frame of 1280x704 [256]"},
    {CLI_FLAG, "temporal-tiles", AT(temporal_tiles), .help = "Decode in overlapping pieces, as the reference does"},
    {CLI_INTEGER, "prompt-tokens", AT(prompt_tokens), .minimum = 1, .maximum = 1024, .value = "N",
     .help = "Of the prompt [the most that the model takes]"},

    {CLI_HEADING, .help = "Other measurements"},
    {CLI_FLAG, "ops", AT(ops), .help = "One more pass of every stage, op by op"},
    {CLI_STRING, "clip", AT(clip), .value = "SECONDS",
     .help = "The whole budget of a clip of this length at 16 fps, 60 steps with guidance: 60s is 961 frames"},
    {CLI_STRING, "start", AT(start), .value = "DIR",
     .help = "From the start of the process to the first sampler step of a model directory"},
    {CLI_STRING, "write-model", AT(write_model), .value = "DIR",
     .help = "Write a model directory with random weights, of --model's or --release's shapes, for --start"},
    {CLI_CHOICE, "dit-type", AT(dit_type), .value = "f32|bf16", .help = "Its DiT's elements [f32]"},
    {CLI_STRING, "against", AT(against), .value = "PROGRAM",
     .help = "Take turns with another build, sanawm or bench-bare: this one is A, that one B"},
    {CLI_STRING, "with", AT(with), .value = "OPTIONS",
     .help = "Take turns with other options: --with=\"--a 1 --b\" adds them for B"},
    {CLI_FLAG, "serve", AT(serve), .help = "Be one side of that: stage names come in, seconds go out"},

    {CLI_HEADING, .help = "Machine"},
    {CLI_WORD, "device", AT(device), .value = "cpu|cuda", .help = "[the first GPU if the build has CUDA, else cpu]"},
    {CLI_FLAG, "float32", AT(float32), .help = "Compute in float32 on a GPU too"},
    {CLI_MEMORY, "vram-budget", AT(vram_budget), .value = "SIZE",
     .help = "GPU memory to stay within, for instance 12G: weights stream"},
    {CLI_INTEGER, "threads", AT(threads), .minimum = 1, .maximum = 1024, .value = "N", .help = "[all processors]"},
    {CLI_NUMBER, "matrix-rate", AT(matrix_rate), .minimum = 1e-3, .maximum = 1e6, .value = "TFLOP/S",
     .help = "Of large matrix products at best [known for the device, else measured]"},
    {CLI_NUMBER, "attention-rate", AT(attention_rate), .minimum = 1e-3, .maximum = 1e6, .value = "TFLOP/S",
     .help = "Of softmax attention at best [likewise, else as matrix products]"},
    {CLI_NUMBER, "bandwidth", AT(bandwidth), .minimum = 1e-3, .maximum = 1e6, .value = "GB/S",
     .help = "Of a copy, both directions counted [known for the device, else measured]"},

    {CLI_HEADING, .help = "Results"},
    {CLI_FLAG, "json", AT(json), .help = "Print them as JSON"},
    {CLI_STRING, "csv", AT(csv), .value = "FILE", .help = "Append them to a file too"},
};

/* A run: what is open, what came out. */
typedef struct session {
    const bench_values *values;
    const char *command;
    bench_model model;
    swm_backend *backend;
    bench bench;
    bench_rates rates;
    bench_rows rows;
    swm_device_report device;
    unsigned stages;
    double opening;
} session;

/* ---- results ------------------------------------------------------------------------------------------------------- */

static int64_t whole_frames(int64_t frames)
{
    return swm_snap_frames(frames, frames + SWM_FRAMES_PER_LATENT, SWM_FRAMES_PER_LATENT);
}

static bench_shape choose_shape(const bench_values *v, const swm_checkpoint *model)
{
    bench_shape shape = {
        .width = v->size.width,
        .height = v->size.height,
        .frames = whole_frames(v->frames),
        .temporal_tiles = v->temporal_tiles,
        .decode_span = v->decode_span << 20,
        .deliver = v->clip != NULL,
        .prompt_tokens = v->prompt_tokens > 0 ? v->prompt_tokens : swm_min(model->config.model_max_length, 1024),
    };
    if (shape.width == 0) swm_checkpoint_video_size(&model->config, &shape.width, &shape.height);
    return shape;
}

static cJSON *describe(const session *s)
{
    const bench_shape *shape = &s->bench.shape;
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "version", swm_version());
    cJSON_AddStringToObject(root, "commit", bench_commit);
    cJSON_AddStringToObject(root, "device", s->device.name);
    cJSON_AddNumberToObject(root, "width", shape->width);
    cJSON_AddNumberToObject(root, "height", shape->height);
    cJSON_AddNumberToObject(root, "frames", (double)shape->frames);
    if (s->rates.matrix > 0) {
        cJSON_AddNumberToObject(root, "matrix_flops", s->rates.matrix);
        cJSON_AddNumberToObject(root, "attention_flops", s->rates.attention);
        cJSON_AddNumberToObject(root, "bandwidth", s->rates.bandwidth);
    }
    cJSON_AddItemToObject(root, "rows", bench_describe(&s->rows));
    return root;
}

static void print_head(const session *s)
{
    const bench_shape *shape = &s->bench.shape;
    printf("%lld frames of %dx%d on %s, commit %s\n", (long long)shape->frames, shape->width, shape->height,
           s->device.name, bench_commit);
    if (s->values->clip == NULL && s->values->start == NULL)
        printf("at best %.4g TFLOP/s, %.4g in attention, and %.4g GB/s%s\n", s->rates.matrix / 1e12,
               s->rates.attention / 1e12, s->rates.bandwidth / 1e9, s->rates.measured ? ", measured now" : "");
    puts("");
}

static void print_rows(const session *s)
{
    const bench_values *v = s->values;
    if (v->against != NULL || v->with != NULL) {
        bench_print_comparison(&s->rows);
        return;
    }
    print_head(s);
    if (v->start != NULL) {
        puts("seconds since the start of the process, as the kernel counts it (in steps of 10 ms)");
        for (size_t i = 0; i < s->rows.count; i++)
            printf("%9.2f s  %s\n", s->rows.rows[i].time.median, s->rows.rows[i].name);
    } else if (v->clip != NULL) {
        bench_print_clip(&s->rows);
        const bench_shape *shape = &s->bench.shape;
        if (v->release && shape->frames == reference_clip_frames && shape->width == 1280 && shape->height == 704)
            printf("%-24s %6s %12s %12s %9.2f s\n", "the reference, one H200", "", "", "", reference_clip_seconds);
    } else {
        bench_print_stages(&s->rows);
        for (int i = 0; v->ops && i < BENCH_STAGE_COUNT; i++)
            if ((s->stages >> i & 1) != 0) bench_print_ops(&s->rows, bench_stage_name((bench_stage)i), MOST_OPS);
    }
}

static int publish(const session *s, swm_error *error)
{
    const bench_values *v = s->values;
    const bench_context context = {.device = s->device.name,
                                   .command = s->command,
                                   .frames = s->bench.shape.frames,
                                   .width = s->bench.shape.width,
                                   .height = s->bench.shape.height};
    if (v->csv != NULL && bench_append_csv(v->csv, &context, &s->rows, error) != 0) return CLI_FAILURE;
    if (v->json) return cli_print_json(describe(s));
    print_rows(s);
    return CLI_OK;
}

/* ---- measuring ----------------------------------------------------------------------------------------------------- */

/* A stage's row, and the rows of its ops. */
static int measure_stage(session *s, bench_stage stage, swm_error *error)
{
    const int repeats = (int)s->values->repeat;
    bench_row row = bench_row_of("stage", bench_stage_name(stage), 1, 0);
    bench_profile profile = {0};
    cli_message("%s: a pass to warm up, then %d", row.name, repeats);
    if (bench_measure(&s->bench, stage, repeats, &row.time, error) != 0) return -1;
    row.floor = bench_floor(row.time.demand, s->rates);
    int result = bench_rows_add(&s->rows, row, error);
    if (result == 0 && s->values->ops) result = bench_measure_ops(&s->bench, stage, &profile, error);
    for (size_t i = 0; i < profile.count && result == 0; i++) {
        const bench_op *op = &profile.rows[i];
        char name[sizeof row.name];
        snprintf(name, sizeof name, "%s: %s", bench_stage_name(stage), op->name);
        bench_row part = bench_row_of("op", name, op->calls, op->seconds);
        part.time.demand = op->demand;
        part.floor = bench_floor(op->demand, s->rates);
        result = bench_rows_add(&s->rows, part, error);
    }
    bench_profile_free(&profile);
    return result;
}

static int measure_stages(session *s, swm_error *error)
{
    int result = 0;
    for (int i = 0; i < BENCH_STAGE_COUNT && result == 0; i++)
        if ((s->stages >> i & 1) != 0) result = measure_stage(s, (bench_stage)i, error);
    return result;
}

static int serve(session *s, swm_error *error)
{
    puts("ready");
    fflush(stdout);
    return bench_serve(&s->bench, stdin, stdout, error);
}

static int open_model(session *s, swm_error *error)
{
    const bench_values *v = s->values;
    char *builtin = v->model == NULL && !v->release ? cli_builtin_model(error) : NULL;
    const char *directory = v->model != NULL ? v->model : builtin;
    int result =
        v->release || directory != NULL ? bench_model_open(&s->model, v->release ? NULL : directory, error) : -1;
    free(builtin);
    if (result == 0 && s->stages == 0) s->stages = bench_stages_of(&s->model);
    return result;
}

static int open_session(session *s, swm_error *error)
{
    const bench_values *v = s->values;
    const double start = swm_seconds();
    if (open_model(s, error) != 0) return -1;
    s->backend = swm_backend_open(v->device, v->float32, (int)v->threads, error);
    if (s->backend == NULL || (v->vram_budget > 0 && swm_backend_limit(s->backend, v->vram_budget, error) != 0))
        return -1;
    s->opening = swm_seconds() - start;
    s->device = swm_backend_device(s->backend);
    s->rates = (bench_rates){
        .matrix = v->matrix_rate * 1e12, .attention = v->attention_rate * 1e12, .bandwidth = v->bandwidth * 1e9};
    if (!v->serve && v->clip == NULL && bench_rates_find(&s->rates, s->backend, error) != 0) return -1;
    if (bench_model_randomise(&s->model, s->stages, error) != 0) return -1;
    return bench_open(&s->bench, s->backend, &s->model, choose_shape(v, &s->model.checkpoint), s->stages, NULL, error);
}

static int measure_model(session *s, swm_error *error)
{
    if (open_session(s, error) != 0) return CLI_FAILURE;
    const bench_values *v = s->values;
    if (v->serve) return serve(s, error) == 0 ? CLI_OK : CLI_FAILURE;
    int result =
        v->clip != NULL ? bench_clip(&s->bench, (int)v->repeat, s->opening, &s->rows, error) : measure_stages(s, error);
    return result == 0 ? publish(s, error) : CLI_FAILURE;
}

static int measure_start(session *s, swm_error *error)
{
    const bench_values *v = s->values;
    const bench_choice choice = {
        .device = v->device,
        .float32 = v->float32,
        .threads = (int)v->threads,
        .vram_budget = v->vram_budget,
        .shape = {v->size.width, v->size.height, whole_frames(v->frames), .prompt_tokens = v->prompt_tokens}};
    s->bench.shape = choice.shape;
    if (bench_start(v->start, choice, &s->rows, &s->device, error) != 0) return CLI_FAILURE;
    return publish(s, error);
}

static int write_model(session *s, swm_error *error)
{
    const bench_values *v = s->values;
    if (open_model(s, error) != 0) return CLI_FAILURE;
    const swm_dtype type = v->dit_type == 1 ? SWM_BF16 : SWM_F32;
    return bench_model_write(&s->model, v->write_model, type, error) == 0 ? CLI_OK : CLI_FAILURE;
}

/* ---- taking turns --------------------------------------------------------------------------------------------------- */

/* A worker's command line: the program, its command unless it has only this one, our options, then more. */
static void set_words(char **words, char *program, int argc, char **argv, char *more)
{
    static char command[] = "bench", side[] = "--serve";
    const char *name = strrchr(program, '/');
    int count = 0;
    words[count++] = program;
    if (strstr(name != NULL ? name : program, "bench") == NULL) words[count++] = command;
    for (int i = 0; i < argc && count < MOST_WORDS - 2; i++) words[count++] = argv[i];
    for (char *rest = NULL, *word = more != NULL ? strtok_r(more, " ", &rest) : NULL;
         word != NULL && count < MOST_WORDS - 2; word = strtok_r(NULL, " ", &rest))
        words[count++] = word;
    words[count++] = side;
    words[count] = NULL;
}

/* The workers hold the device; this process only asks what it is called. */
static int name_device(session *s, swm_error *error)
{
    const bench_values *v = s->values;
    swm_backend *b = swm_backend_open(v->device, v->float32, (int)v->threads, error);
    if (b == NULL) return -1;
    s->device = swm_backend_device(b);
    swm_backend_close(b);
    return 0;
}

static int take_turns(session *s, int argc, char **argv, swm_error *error)
{
    const bench_values *v = s->values;
    char own[4096] = "", *a[MOST_WORDS], *b[MOST_WORDS];
    if (readlink("/proc/self/exe", own, sizeof own - 1) <= 0)
        return cli_message("the program's own path is not known"), CLI_FAILURE;
    char *other = swm_copy_string(error, v->against != NULL ? v->against : own);
    char *more = v->with != NULL ? swm_copy_string(error, v->with) : NULL;
    int result = other != NULL && (v->with == NULL || more != NULL) ? open_model(s, error) : -1;
    if (result == 0) result = name_device(s, error);
    if (result == 0) {
        set_words(a, own, argc, argv, NULL);
        set_words(b, other, argc, argv, more);
        s->bench.shape = choose_shape(v, &s->model.checkpoint);
        result = bench_compare(a, b, s->stages, (int)v->repeat, &s->rows, error);
    }
    free(more);
    free(other);
    return result == 0 ? publish(s, error) : CLI_FAILURE;
}

/* ---- the command ---------------------------------------------------------------------------------------------------- */

/* "60s" or "60" to frames at 16 fps. */
static bool parse_clip(const char *text, int64_t *frames)
{
    char number[16];
    double seconds;
    const size_t length = strlen(text);
    if (length == 0 || length >= sizeof number) return false;
    memcpy(number, text, length + 1);
    if (number[length - 1] == 's') number[length - 1] = '\0';
    if (!cli_number(number, &seconds) || !(seconds > 0 && seconds <= 3600)) return false;
    *frames = (int64_t)(16 * seconds) + 1;
    return true;
}

/* The options as they were given, with blanks between. */
static char *join(int argc, char **argv, swm_error *error)
{
    char *text = swm_copy_string(error, "bench");
    for (int i = 0; i < argc && text != NULL; i++) {
        char *longer = swm_format(error, "%s %s", text, argv[i]);
        free(text);
        text = longer;
    }
    return text;
}

static int run_bench(const cli_command *command, int argc, char **argv)
{
    bench_values v = {.frames = 33, .repeat = 5};
    session s = {.values = &v};
    swm_error error = {0};
    int status;
    if (!cli_parse(command, argc, argv, &v, NULL, &status)) return status;
    const bool turns = !v.serve && (v.against != NULL || v.with != NULL);
    if (v.model != NULL && v.release)
        return cli_usage(command, "--model and --release were both given; pass one of them");
    if ((v.clip != NULL) + (v.start != NULL) + (v.write_model != NULL) + turns > 1)
        return cli_usage(command, "--clip, --start, --write-model, and --against or --with exclude each other");
    if (v.stages != NULL && bench_stages_parse(v.stages, &s.stages, &error) != 0)
        return cli_usage(command, "%s", error.text);
    if (v.clip != NULL && !parse_clip(v.clip, &v.frames))
        return cli_usage(command, "--clip is \"%s\"; expected seconds up to 3600, for instance 60s", v.clip);
    if (argc > MOST_WORDS / 2) return cli_usage(command, "%d words are too many", argc);
    if (v.csv != NULL && !v.serve && bench_check_csv(v.csv, &error) != 0) return cli_failure(&error);
    char *line = join(argc, argv, &error);
    s.command = line != NULL ? line : "";
    if (turns)
        status = take_turns(&s, argc, argv, &error);
    else if (v.write_model != NULL)
        status = write_model(&s, &error);
    else if (v.start != NULL)
        status = measure_start(&s, &error);
    else
        status = measure_model(&s, &error);
    if (swm_failed(&error)) status = cli_failure(&error);
    bench_close(&s.bench);
    swm_backend_close(s.backend);
    bench_model_close(&s.model);
    bench_rows_free(&s.rows);
    free(line);
    return status;
}

const cli_command cli_bench = {
    .name = "bench",
    .summary = "How long each stage takes on this machine",
    .operands = "",
    .description = "Time a model's stages one by one: prompt (a caption through the text encoder), encode (the first "
                   "frame), denoise (one forward of the diffusion transformer; a step with guidance takes two), "
                   "denoise_chunk (the same over 3 latent frames behind a window of earlier ones), refiner_prompt, "
                   "refine (one forward of the refiner over the clip), refine_block (its four passes over 3 latent "
                   "frames), decode (the whole clip).",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run_bench,
};
