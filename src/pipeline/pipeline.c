/* The stages of a generation, planned and run one after the other. A stage is written once (clip.h): the plan runs it on a
 * backend that only counts, the run on one that computes, so that the room it needs is known before it starts. */
#include "pipeline/clip.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const swm_stage_entry *const stages[SWM_STAGE_COUNT] = {
    [SWM_STAGE_PROMPT] = &swm_prompt_stage,
    [SWM_STAGE_ENCODE] = &swm_encode_stage,
    [SWM_STAGE_DENOISE] = &swm_denoise_stage,
    [SWM_STAGE_DECODE_STAGE1] = &swm_decode_stage1_stage,
    [SWM_STAGE_REFINER_PROMPT] = &swm_refiner_prompt_stage,
    [SWM_STAGE_REFINE] = &swm_refine_stage,
    [SWM_STAGE_DECODE] = &swm_decode_stage,
};
const char *swm_stage_name(swm_stage stage) { return stages[stage]->name; }

bool swm_stage_wanted(const swm_job *job, swm_stage stage)
{
    return stages[stage]->wanted == NULL || stages[stage]->wanted(job);
}

/* ---- progress ---------------------------------------------------------------------------------------------------- */

void swm_clip_report(const swm_clip *c, int64_t step, int64_t steps, const swm_image *preview)
{
    if (c->events->progress == NULL) return;
    double elapsed = swm_seconds() - c->started;
    swm_progress progress = {
        .stage = stages[c->stage]->name,
        .step = (int)step,
        .steps = (int)steps,
        .seconds = elapsed,
        .remaining = c->done_flops > 0 ? elapsed * (c->total_flops / c->done_flops - 1) : -1,
    };
    if (preview != NULL && preview->rgb != NULL) {
        progress.preview = preview->rgb;
        progress.preview_width = preview->width;
        progress.preview_height = preview->height;
    }
    c->events->progress(c->events->user, &progress);
}

static double stage_flops(const swm_stage_plan *plan)
{
    return plan->setup.flops + plan->pass.flops * (double)plan->passes;
}

/* ---- planning ---------------------------------------------------------------------------------------------------- */

size_t swm_stage_weights(const swm_weights *weights, const char *prefix)
{
    size_t bytes = 0;
    for (size_t i = 0; weights != NULL && i < swm_weights_count(weights); i++) {
        const char *name;
        const swm_tensor *t = swm_weights_at(weights, i, &name);
        if (strncmp(name, prefix, strlen(prefix)) == 0) bytes += swm_bytes(*t);
    }
    return bytes;
}

swm_work swm_work_since(const swm_backend *b, swm_work start)
{
    return (swm_work){b->work.flops - start.flops, b->work.bytes - start.bytes, b->work.operations - start.operations};
}

static int plan_stage(swm_clip *c, swm_stage stage, swm_backend *b)
{
    const swm_stage_entry *entry = stages[stage];
    swm_stage_plan *plan = &c->plan[stage];
    swm_work start = b->work;
    *plan = (swm_stage_plan){.passes = 1, .weights = entry->weights(c->job)};
    b->scratch.peak = b->scratch.used;
    int result = entry->plan != NULL ? entry->plan(c, b, plan) : entry->run(c, b);
    if (entry->plan == NULL) plan->pass = swm_work_since(b, start);
    plan->scratch = b->scratch.peak;
    swm_weight_list_free(&c->weights[stage]);
    c->weights[stage] = swm_plan_weights(b);
    swm_stage_place(plan, &c->weights[stage], c->job->vram_budget);
    return result;
}

int swm_clip_plan(swm_clip *c, swm_dtype compute)
{
    swm_backend *b = swm_backend_open_plan(compute, c->error);
    if (b == NULL) return -1;
    int result = 0;
    c->planning = true;
    for (int i = 0; i < SWM_STAGE_COUNT && result == 0; i++)
        if (swm_stage_wanted(c->job, (swm_stage)i)) result = plan_stage(c, (swm_stage)i, b);
    c->planning = false;
    swm_backend_close(b);
    return result;
}

void swm_clip_free_plan(swm_clip *c)
{
    for (int i = 0; i < SWM_STAGE_COUNT; i++) swm_weight_list_free(&c->weights[i]);
}

int swm_plan(swm_stage_plan plan[SWM_STAGE_COUNT], const swm_checkpoint *checkpoint, const swm_plan_request *request,
             swm_error *error)
{
    int64_t frames = request->frames;
    if (request->width % 32 != 0 || request->height % 32 != 0 || request->width < 64 || request->height < 64 ||
        request->width > 1 << 14 || request->height > 1 << 14)
        return swm_fail(error, "a video of %dx%d was asked for; both sides must be multiples of 32 from 64",
                        request->width, request->height);
    if (frames < 1 || frames > 1 << 20 || (frames - 1) % 8 != 0)
        return swm_fail(error, "%lld frames were asked for; a clip has 8k+1 of them", (long long)frames);
    if (request->refine && (checkpoint->refiner.transformer == NULL || frames < 9))
        return swm_fail(error, frames < 9 ? "one frame was asked for; a refined clip has at least 9"
                                          : "a refiner was asked for and the model has none");
    if (request->steps < 2 || request->steps > SWM_MAX_STEPS)
        return swm_fail(error, "%d sampling steps were asked for; 2 to %d are possible", request->steps, SWM_MAX_STEPS);
    int64_t whole = 0;
    swm_job job = {
        .checkpoint = checkpoint,
        .width = request->width,
        .height = request->height,
        .fps = 16,
        .frames = frames,
        .latent = {checkpoint->dit->size.latent_channels, swm_latent_frames(frames), request->height / 32,
                   request->width / 32},
        .guidance = request->guided ? 2 : 1,
        .prompt_tokens = checkpoint->text_weights != NULL ? request->prompt_tokens : 0,
        .tiling = request->tiling,
        .vram_budget = request->vram_budget,
        .sampling = {.steps = request->steps, .chunks = {1, &whole}},
        .refiner = {.wanted = request->refine,
                    .how = request->refinement,
                    .history = request->refiner_history,
                    .prompt_tokens = request->refiner_tokens},
    };
    swm_events silent = {0};
    swm_clip c = {.job = &job, .events = &silent, .error = error};
    int result = swm_clip_plan(&c, request->compute);
    if (result == 0) memcpy(plan, c.plan, sizeof c.plan);
    swm_clip_free_plan(&c);
    return result;
}

/* ---- running ----------------------------------------------------------------------------------------------------- */

static int run_stage(swm_clip *c, swm_stage stage, swm_backend *b, swm_run_report *out)
{
    double start = swm_seconds(), before = c->done_flops;
    c->stage = stage;
    swm_clip_report(c, 0, 0, NULL);
    if (swm_backend_begin(b, stages[stage]->name, c->plan[stage].scratch, &c->weights[stage], c->error) != 0) return -1;
    if (stages[stage]->run(c, b) != 0) return -1;
    swm_weights_leave(b);
    out->scratch[stage] = b->scratch.peak;
    out->seconds[stage] = swm_seconds() - start;
    c->done_flops = before + stage_flops(&c->plan[stage]);
    return 0;
}

static int run_all(swm_clip *c, swm_backend *b, swm_run_report *out)
{
    for (int i = 0; i < SWM_STAGE_COUNT; i++) c->total_flops += stage_flops(&c->plan[i]);
    for (int i = 0; i < SWM_STAGE_COUNT; i++)
        if (swm_stage_wanted(c->job, (swm_stage)i) && run_stage(c, (swm_stage)i, b, out) != 0) return -1;
    return 0;
}

static bool interrupted(void *user)
{
    const swm_events *events = user;
    return events->stop(events->user);
}

int swm_pipeline_run(swm_job *job, const swm_events *events, swm_run_report *out, swm_error *error)
{
    swm_events silent = {0};
    swm_clip c = {.job = job, .events = events != NULL ? events : &silent, .started = swm_seconds(), .error = error};
    size_t count = (size_t)swm_latent_count(job->latent);
    *out = (swm_run_report){0};
    c.latent = swm_allocate(error, count, sizeof(float));
    c.other = swm_allocate(error, count, sizeof(float));
    c.clean = swm_allocate(error, count, sizeof(float));
    swm_backend *b = swm_backend_open(job->device, job->float32, job->threads, error);
    int result = -1;
    if (c.latent != NULL && c.other != NULL && c.clean != NULL && b != NULL) {
        if (c.events->stop != NULL) {
            b->interrupted = interrupted;
            b->interrupted_user = (void *)(uintptr_t)c.events;
        }
        snprintf(out->device, sizeof out->device, "%s", b->name);
        job->sampling.round_to_bf16 = job->refiner.how.round_to_bf16 = b->compute == SWM_BF16;
        if (job->given != NULL) memcpy(c.latent, job->given, count * sizeof(float));
        result = swm_backend_limit(b, job->vram_budget, error);
        if (result == 0) result = swm_clip_plan(&c, b->compute);
        if (result == 0) result = swm_clip_fit(&c, b);
        if (result == 0) result = run_all(&c, b, out);
    }
    swm_clip_free_plan(&c);
    swm_backend_close(b);
    swm_preview_free(&c.preview);
    free(c.frames);
    free(c.clean);
    free(c.other);
    free(c.latent);
    return result;
}
