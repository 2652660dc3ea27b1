/* sanawm plan: what a job takes in memory, FLOPs and time, from shapes alone. */
#include "commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inventory.h"
#include "pipeline/pipeline.h"

typedef struct plan_values {
    const char *model;
    bool release;
    int64_t frames;
    cli_size size;
    int64_t steps, prompt_tokens, threads;
    double guidance, rate;
    int tiles, compute;
    uint64_t vram_budget;
    bool no_refiner;
    const char *refiner, *refiner_mode;
    int64_t refiner_block, refiner_window, refiner_tokens;
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
    {CLI_CHOICE, "tiles", AT(tiles), .value = "none|temporal|both", .help = "Of the decoder [none]"},
    {CLI_FLAG, "no-refiner", AT(no_refiner), .help = "Leave the second stage away"},
    {CLI_STRING, "refiner", AT(refiner), .value = "DIR", .help = "The refiner elsewhere than in DIR/refiner"},
    {CLI_WORD, "refiner-mode", AT(refiner_mode), .value = "one-shot|blocks",
     .help = "[one-shot; blocks for the streaming release]"},
    {CLI_INTEGER, "refiner-block", AT(refiner_block), .minimum = 1, .maximum = 1024, .value = "N",
     .help = "Latent frames of a block [3]"},
    {CLI_INTEGER, "refiner-window", AT(refiner_window), .minimum = 1, .maximum = 1024, .value = "N",
     .help = "Latent frames that a block sees before itself [11]"},
    {CLI_INTEGER, "refiner-tokens", AT(refiner_tokens), .minimum = 1, .maximum = SWM_REFINER_PROMPT_SLOTS, .value = "N",
     .help = "Of the refiner's prompt [the most that it takes]"},
    {CLI_CHOICE, "compute", AT(compute), .value = "f32|bf16",
     .help = "Type of activations [f32, as on a CPU; with --vram-budget bf16, as on a GPU]"},
    {CLI_MEMORY, "vram-budget", AT(vram_budget), .value = "SIZE",
     .help = "Say stage by stage how the job would stay within so much GPU memory, for instance 12G"},
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
    int64_t dit_parameters, refiner_parameters; /* refiner_parameters 0: it takes no part */
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

/* How weights would lie, in a word. */
static const char *residence(const swm_stage_memory *gpu)
{
    return gpu->used == 0 ? "does not fit" : gpu->streamed > 0 ? "streamed" : "resident";
}

/* Not every job has every stage. */
static bool planned(const swm_stage_plan *s) { return s->passes > 0; }

static void print_gpu(const job_plan *plan)
{
    if (plan->request.compute != SWM_BF16) return;
    const uint64_t budget = plan->request.vram_budget;
    printf("On a GPU%s%s%s\n%-14s %11s %13s %11s %13s %16s\n", budget > 0 ? " within " : "",
           budget > 0 ? cli_bytes((double)budget).text : "", ":", "stage", "weights", "", "in all", "pinned host",
           "smallest budget");
    for (int i = 0; i < SWM_STAGE_COUNT; i++) {
        const swm_stage_plan *s = &plan->stages[i];
        if (!planned(s)) continue;
        printf("%-14s %11s %13s %11s %13s %16s\n", swm_stage_name((swm_stage)i), cli_bytes((double)s->gpu.weights).text,
               residence(&s->gpu), s->gpu.used > 0 ? cli_bytes((double)s->gpu.used).text : "-",
               s->gpu.streamed > 0 && s->passes > 1 ? cli_bytes((double)s->gpu.streamed).text : "-",
               cli_bytes((double)s->gpu.least).text);
    }
    const swm_stage_plan *decode = &plan->stages[SWM_STAGE_DECODE];
    if (decode->gpu.least > 0 && decode->gpu.used == 0 && plan->request.tiling != SWM_TILES_BOTH)
        puts("Where decode does not fit, generate takes shorter spans, then smaller tiles: see --tiles.");
    putchar('\n');
}

static void print_plan(const job_plan *plan)
{
    const swm_plan_request *r = &plan->request;
    double flops, bytes;
    const swm_stage_plan all = totals(plan, &flops, &bytes);
    printf("%s: %lld frames of %dx%d, %d steps, guidance %g, activations %s\n", plan->model_name, (long long)r->frames,
           r->width, r->height, r->steps, plan->guidance, swm_dtype_name(r->compute));
    printf("DiT: %s parameters, %.6g TFLOP a forward\n", cli_grouped((double)plan->dit_parameters).text,
           plan->stages[SWM_STAGE_DENOISE].forward_flops / 1e12);
    if (plan->refiner_parameters > 0) {
        printf("Refiner: %s parameters, ", cli_grouped((double)plan->refiner_parameters).text);
        if (r->refinement.block > 0)
            printf("blocks of %lld latent frames behind %lld\n", (long long)r->refinement.block,
                   (long long)r->refiner_history + 1);
        else
            puts("one shot");
    }
    putchar('\n');
    printf("%-14s %7s %11s %11s %12s %12s %11s %10s\n", "stage", "passes", "weights", "scratch", "TFLOP a pass",
           "TFLOP", "moved", "time");
    for (int i = 0; i < SWM_STAGE_COUNT; i++) {
        const swm_stage_plan *s = &plan->stages[i];
        if (s->passes == 0) continue;
        printf("%-14s %7lld %11s %11s %12.6g %12.6g %11s %10s\n", swm_stage_name((swm_stage)i), (long long)s->passes,
               cli_bytes((double)s->weights).text, cli_bytes((double)s->scratch).text, s->pass.flops / 1e12,
               stage_flops(s) / 1e12, cli_bytes(stage_bytes(s)).text, cli_duration(stage_flops(s) / plan->rate).text);
    }
    printf("%-14s %7s %11s %11s %12s %12.6g %11s %10s\n\n", "all", "", cli_bytes((double)all.weights).text,
           cli_bytes((double)all.scratch).text, "", flops / 1e12, cli_bytes(bytes).text,
           cli_duration(flops / plan->rate).text);
    print_gpu(plan);
    printf("Times at %.4g TFLOPS (%s), as if everything ran at that speed.\n", plan->rate / 1e12,
           plan->rate_measured ? "matrix products of this machine" : "--rate");
    puts("Weights are mapped from their files; scratch is allocated stage by stage.");
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
    if (plan->refiner_parameters > 0) {
        cJSON_AddNumberToObject(root, "refiner_parameters", (double)plan->refiner_parameters);
        cJSON_AddNumberToObject(root, "refiner_block", (double)r->refinement.block);
        cJSON_AddNumberToObject(root, "refiner_history", (double)r->refiner_history);
    }
    for (int i = 0; i < SWM_STAGE_COUNT; i++) {
        const swm_stage_plan *s = &plan->stages[i];
        if (!planned(s)) continue;
        cJSON *stage = cJSON_CreateObject();
        cJSON_AddStringToObject(stage, "stage", swm_stage_name((swm_stage)i));
        cJSON_AddNumberToObject(stage, "passes", (double)s->passes);
        cJSON_AddNumberToObject(stage, "weight_bytes", (double)s->weights);
        cJSON_AddNumberToObject(stage, "scratch_bytes", (double)s->scratch);
        cJSON_AddNumberToObject(stage, "gpu_bytes", (double)s->gpu.used);
        cJSON_AddNumberToObject(stage, "gpu_weight_bytes", (double)s->gpu.weights);
        cJSON_AddNumberToObject(stage, "gpu_streamed_bytes", (double)s->gpu.streamed);
        cJSON_AddNumberToObject(stage, "gpu_smallest_budget", (double)s->gpu.least);
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

/* As a job resolves it (job_refiner.c). */
static void plan_refiner(job_plan *plan, const plan_values *v, const swm_checkpoint *checkpoint)
{
    swm_plan_request *r = &plan->request;
    r->refine = checkpoint->refiner.transformer != NULL && !v->no_refiner;
    if (!r->refine) return;
    const bool sized = v->refiner_block > 0 || v->refiner_window > 0;
    const bool blocks = v->refiner_mode != NULL ? strcmp(v->refiner_mode, "blocks") == 0
                                                : sized || checkpoint->layout.refiner_streaming;
    plan->refiner_parameters = swm_transformer_size(checkpoint->refiner.transformer).parameters;
    r->refinement = swm_refinement_defaults();
    if (checkpoint->refiner.connectors != NULL)
        r->refiner_tokens = v->refiner_tokens > 0 ? v->refiner_tokens : SWM_REFINER_PROMPT_SLOTS;
    if (!blocks) return;
    r->refinement.block = v->refiner_block > 0 ? v->refiner_block : SWM_REFINER_BLOCK;
    r->refiner_history = (v->refiner_window > 0 ? v->refiner_window : SWM_REFINER_WINDOW) - 1;
    r->refiner_history = swm_min(r->refiner_history, swm_latent_frames(r->frames) - 1);
    r->refinement.history = r->refiner_history > 0;
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
        .compute = v->compute == 1 || (v->compute < 0 && v->vram_budget > 0) ? SWM_BF16 : SWM_F32,
        .vram_budget = v->vram_budget,
    };
    if (r->frames != v->frames)
        cli_message("note: %lld frames instead of %lld: the model makes 8k+1 of them", (long long)r->frames,
                    (long long)v->frames);
    swm_checkpoint_video_size(&checkpoint->config, &r->width, &r->height);
    if (v->size.width > 0) {
        r->width = v->size.width;
        r->height = v->size.height;
    }
    plan_refiner(plan, v, checkpoint);
    plan->dit_parameters = cli_parameters(checkpoint->dit_weights);
    if (swm_plan(plan->stages, checkpoint, r, error) != 0) return -1;
    plan->rate_measured = v->rate <= 0;
    plan->rate = v->rate > 0 ? v->rate * 1e12 : measure_rate((int)v->threads, error);
    return plan->rate > 0 ? 0 : -1;
}

static int run_plan(const cli_command *command, int argc, char **argv)
{
    plan_values v = {.frames = 161, .steps = 60, .compute = -1, .tiles = SWM_TILES_NONE};
    int status;
    if (!cli_parse(command, argc, argv, &v, NULL, &status)) return status;
    if (v.model != NULL && v.release)
        return cli_usage(command, "--model and --release were both given; pass one of them");
    if (v.model == NULL && v.refiner != NULL) return cli_usage(command, "--refiner goes with --model");
    swm_error error = {0};
    swm_checkpoint checkpoint;
    job_plan plan = {.model_name = v.model != NULL ? v.model : "SANA-WM 720p release"};
    const swm_checkpoint_options places = {.refiner = v.refiner, .with_refiner = !v.no_refiner};
    const int opened = v.model != NULL ? swm_checkpoint_open(&checkpoint, v.model, &places, &error)
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
