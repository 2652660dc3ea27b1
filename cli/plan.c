/* sanawm plan: what a job takes in memory, FLOPs and time, from shapes alone. */
#include "commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inventory.h"
#include "pipeline.h"

typedef struct plan_values {
    const char *model;
    bool release;
    int64_t frames;
    cli_size size;
    int64_t steps, prompt_tokens, threads;
    double guidance, rate;
    int tiles, compute;
    bool json;
} plan_values;

#define AT(member) .offset = offsetof(plan_values, member)

static const cli_option options[] = {
    {CLI_STRING, "model", AT(model), .value = "DIR", .help = "Plan for this model directory"},
    {CLI_FLAG, "release", AT(release),
     .help = "Plan for the shapes of the 720p release, which need not be there [default]"},
    {CLI_INTEGER, "frames", "num-frames", AT(frames), .minimum = 1, .maximum = 1000000, .value = "N",
     .help = "Rounded to 8k+1 [161]"},
    {CLI_SIZE, "size", AT(size), .value = "WxH", .help = "[the model's]"},
    {CLI_INTEGER, "steps", AT(steps), .minimum = 2, .maximum = 1000, .value = "N", .help = "[60]"},
    {CLI_NUMBER, "guidance", "cfg-scale", AT(guidance), .minimum = 1, .maximum = 100, .value = "SCALE",
     .help = "1 halves the passes [5, without text encoder 1]"},
    {CLI_INTEGER, "prompt-tokens", AT(prompt_tokens), .minimum = 1, .maximum = 4096, .value = "N",
     .help = "Of the prompt and the instruction before it [the most that the model takes]"},
    {CLI_CHOICE, "tiles", AT(tiles), .value = "none|temporal|both", .help = "Of the decoder [temporal]"},
    {CLI_CHOICE, "compute", AT(compute), .value = "f32|bf16", .help = "Type of activations [f32, as on a CPU]"},
    {CLI_NUMBER, "rate", AT(rate), .minimum = 1e-6, .maximum = 1e6, .value = "TFLOPS",
     .help = "Speed to estimate times with [matrix products of this machine, measured now]"},
    {CLI_INTEGER, "threads", AT(threads), .minimum = 1, .maximum = 1024, .value = "N",
     .help = "Of that measurement [all processors]"},
    {CLI_FLAG, "json", AT(json), .help = "Print the plan as JSON"},
};

/* ---- the speed of this machine ----------------------------------------------------------------------------------- */

/* FLOPs a second of one large product, over and over for a fifth of a second; 0 after a failure. */
static double measure_rate(int threads, swm_error *error)
{
    enum { ROWS = 512, SIDE = 1024 };
    swm_backend *b = swm_backend_open_cpu(threads, error);
    float *ones = swm_allocate(error, SIDE * SIDE, sizeof(float));
    double rate = 0;
    if (b != NULL && ones != NULL && swm_backend_reserve(b, (size_t)16 << 20, error) == 0) {
        for (int i = 0; i < SIDE * SIDE; i++) ones[i] = 1;
        const swm_tensor w = SWM_TENSOR(SWM_F32, ones, SIDE, SIDE);
        const swm_tensor x = SWM_UPLOAD(b, SWM_F32, ones, ROWS, SIDE);
        const swm_mark mark = swm_mark_of(b);
        double start = 0, elapsed = 0;
        int64_t products = -1; /* the first one warms up */
        do {
            if (products == 0) start = swm_seconds();
            swm_linear(b, x, w, (swm_tensor){0}, SWM_IDENTITY);
            swm_release(b, mark);
            products++;
            if (products > 0) elapsed = swm_seconds() - start;
        } while (elapsed < 0.2 && !swm_failed(&b->error));
        if (swm_backend_check(b, error) == 0) rate = 2.0 * ROWS * SIDE * SIDE * (double)products / elapsed;
    }
    free(ones);
    swm_backend_close(b);
    return rate;
}

/* ---- the plan ---------------------------------------------------------------------------------------------------- */

typedef struct job_plan {
    const char *model_name;
    swm_plan_request request;
    double guidance, rate; /* rate: FLOPs a second */
    bool rate_measured;
    int64_t dit_parameters;
    swm_stage_plan stages[SWM_STAGE_COUNT];
} job_plan;

static double stage_flops(const swm_stage_plan *s)
{
    return s->passes == 0 ? 0 : s->setup.flops + s->pass.flops * (double)s->passes;
}
static double stage_bytes(const swm_stage_plan *s)
{
    return s->passes == 0 ? 0 : s->setup.bytes + s->pass.bytes * (double)s->passes;
}

static swm_stage_plan totals(const job_plan *plan, double *flops, double *bytes)
{
    swm_stage_plan all = {0};
    *flops = *bytes = 0;
    for (int i = 0; i < SWM_STAGE_COUNT; i++) {
        const swm_stage_plan *s = &plan->stages[i];
        all.weights += s->weights;
        if (s->scratch > all.scratch) all.scratch = s->scratch;
        *flops += stage_flops(s);
        *bytes += stage_bytes(s);
    }
    return all;
}

static void print_plan(const job_plan *plan)
{
    const swm_plan_request *r = &plan->request;
    double flops, bytes;
    const swm_stage_plan all = totals(plan, &flops, &bytes);
    printf("%s: %lld frames of %dx%d, %d steps, guidance %g, activations %s\n", plan->model_name, (long long)r->frames,
           r->width, r->height, r->steps, plan->guidance, swm_dtype_name(r->compute));
    printf("DiT: %s parameters, %.6g TFLOP a forward\n\n", cli_grouped((double)plan->dit_parameters).text,
           plan->stages[SWM_STAGE_DENOISE].forward_flops / 1e12);
    printf("%-8s %7s %11s %11s %12s %12s %11s %10s\n", "stage", "passes", "weights", "scratch", "TFLOP a pass", "TFLOP",
           "moved", "time");
    for (int i = 0; i < SWM_STAGE_COUNT; i++) {
        const swm_stage_plan *s = &plan->stages[i];
        printf("%-8s %7lld %11s %11s %12.6g %12.6g %11s %10s\n", swm_stage_name((swm_stage)i), (long long)s->passes,
               cli_bytes((double)s->weights).text, cli_bytes((double)s->scratch).text, s->pass.flops / 1e12,
               stage_flops(s) / 1e12, cli_bytes(stage_bytes(s)).text, cli_duration(stage_flops(s) / plan->rate).text);
    }
    printf("%-8s %7s %11s %11s %12s %12.6g %11s %10s\n\n", "all", "", cli_bytes((double)all.weights).text,
           cli_bytes((double)all.scratch).text, "", flops / 1e12, cli_bytes(bytes).text,
           cli_duration(flops / plan->rate).text);
    printf("Times at %.4g TFLOPS (%s), as if everything ran at that speed.\n", plan->rate / 1e12,
           plan->rate_measured ? "matrix products of this machine" : "--rate");
    puts("Weights are mapped from their files; scratch is allocated, once, in the size of its largest stage.");
}

static cJSON *describe(const job_plan *plan)
{
    static const char *const tilings[] = {"none", "temporal", "both"};
    const swm_plan_request *r = &plan->request;
    double flops, bytes;
    const swm_stage_plan all = totals(plan, &flops, &bytes);
    cJSON *root = cJSON_CreateObject(), *stages = cJSON_CreateArray();
    cJSON_AddStringToObject(root, "model", plan->model_name);
    cJSON_AddNumberToObject(root, "width", r->width);
    cJSON_AddNumberToObject(root, "height", r->height);
    cJSON_AddNumberToObject(root, "frames", (double)r->frames);
    cJSON_AddNumberToObject(root, "steps", r->steps);
    cJSON_AddNumberToObject(root, "guidance", plan->guidance);
    cJSON_AddStringToObject(root, "tiles", tilings[r->tiling]);
    cJSON_AddStringToObject(root, "compute", swm_dtype_name(r->compute));
    cJSON_AddNumberToObject(root, "dit_parameters", (double)plan->dit_parameters);
    cJSON_AddNumberToObject(root, "dit_forward_flops", plan->stages[SWM_STAGE_DENOISE].forward_flops);
    for (int i = 0; i < SWM_STAGE_COUNT; i++) {
        const swm_stage_plan *s = &plan->stages[i];
        cJSON *stage = cJSON_CreateObject();
        cJSON_AddStringToObject(stage, "stage", swm_stage_name((swm_stage)i));
        cJSON_AddNumberToObject(stage, "passes", (double)s->passes);
        cJSON_AddNumberToObject(stage, "weight_bytes", (double)s->weights);
        cJSON_AddNumberToObject(stage, "scratch_bytes", (double)s->scratch);
        cJSON_AddNumberToObject(stage, "flops_a_pass", s->pass.flops);
        cJSON_AddNumberToObject(stage, "flops", stage_flops(s));
        cJSON_AddNumberToObject(stage, "bytes_moved", stage_bytes(s));
        cJSON_AddNumberToObject(stage, "seconds", stage_flops(s) / plan->rate);
        cJSON_AddItemToArray(stages, stage);
    }
    cJSON_AddItemToObject(root, "stages", stages);
    cJSON_AddNumberToObject(root, "weight_bytes", (double)all.weights);
    cJSON_AddNumberToObject(root, "scratch_bytes", (double)all.scratch);
    cJSON_AddNumberToObject(root, "flops", flops);
    cJSON_AddNumberToObject(root, "bytes_moved", bytes);
    cJSON_AddNumberToObject(root, "flops_a_second", plan->rate);
    cJSON_AddNumberToObject(root, "seconds", flops / plan->rate);
    return root;
}

static int make_plan(job_plan *plan, const plan_values *v, const swm_checkpoint *checkpoint, swm_error *error)
{
    const bool guided_by_text = checkpoint->text_weights != NULL;
    swm_plan_request *r = &plan->request;
    plan->guidance = v->guidance > 0 ? v->guidance : guided_by_text ? 5 : 1;
    *r = (swm_plan_request){
        .frames = swm_snap_frames(v->frames, v->frames + SWM_FRAMES_PER_LATENT, SWM_FRAMES_PER_LATENT),
        .steps = (int)v->steps,
        .guided = plan->guidance > 1,
        .prompt_tokens = v->prompt_tokens > 0 ? v->prompt_tokens : checkpoint->config.model_max_length,
        .tiling = (swm_tiling)v->tiles,
        .compute = v->compute == 0 ? SWM_F32 : SWM_BF16,
    };
    if (r->frames != v->frames)
        cli_message("note: %lld frames instead of %lld: the model makes 8k+1 of them", (long long)r->frames,
                    (long long)v->frames);
    swm_checkpoint_video_size(&checkpoint->config, &r->width, &r->height);
    if (v->size.width > 0) {
        r->width = v->size.width;
        r->height = v->size.height;
    }
    plan->dit_parameters = cli_parameters(checkpoint->dit_weights);
    if (swm_plan(plan->stages, checkpoint, r, error) != 0) return -1;
    plan->rate_measured = v->rate <= 0;
    plan->rate = v->rate > 0 ? v->rate * 1e12 : measure_rate((int)v->threads, error);
    return plan->rate > 0 ? 0 : -1;
}

static int run_plan(const cli_command *command, int argc, char **argv)
{
    plan_values v = {.frames = 161, .steps = 60, .tiles = SWM_TILES_TEMPORAL};
    int status;
    if (!cli_parse(command, argc, argv, &v, NULL, &status)) return status;
    if (v.model != NULL && v.release)
        return cli_usage(command, "--model and --release were both given; pass one of them");
    swm_error error = {0};
    swm_checkpoint checkpoint;
    job_plan plan = {.model_name = v.model != NULL ? v.model : "SANA-WM 720p release"};
    const int opened = v.model != NULL ? swm_checkpoint_open(&checkpoint, v.model, NULL, NULL, false, &error)
                                       : swm_checkpoint_open_release(&checkpoint, &error);
    if (opened != 0) return cli_failure(&error);
    if (make_plan(&plan, &v, &checkpoint, &error) != 0)
        status = cli_failure(&error);
    else if (v.json)
        status = cli_print_json(describe(&plan));
    else
        print_plan(&plan);
    swm_checkpoint_close(&checkpoint);
    return status;
}

const cli_command cli_plan = {
    .name = "plan",
    .summary = "Memory, FLOPs and time of a job before it starts",
    .operands = "",
    .description =
        "Add up what a job takes, stage by stage, from shapes alone: no weights are read, and none need be there. "
        "Scratch is exact to the byte for the CPU; times are estimates.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run_plan,
};
