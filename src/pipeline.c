/* The stages of a generation, planned and run. A stage is written once: the plan runs it on a backend that only counts,
 * the run on one that computes, so that the room it needs is known before it starts. */
#include "pipeline.h"

#include "core/rng.h"
#include "preview.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const stage_names[SWM_STAGE_COUNT] = {"prompt", "encode", "denoise", "decode"};
const char *swm_stage_name(swm_stage stage) { return stage_names[stage]; }

/* A generation on its way. Host memory only; `latent` is (C,T,h,w). */
typedef struct clip {
    swm_job *job;
    const swm_events *events; /* never NULL; all members may be */
    float *latent;
    float *guided;   /* (C,T,h,w): velocity of the unguided half */
    float *clean;    /* (C,T,h,w): estimate for the preview */
    uint8_t *frames; /* finished frames on their way out */
    int64_t frames_capacity, frames_done;
    swm_preview preview;
    double started, total_flops, done_flops;
    swm_stage_plan plan[SWM_STAGE_COUNT];
    bool planning;
    swm_error *error;
} clip;

/* ---- progress ---------------------------------------------------------------------------------------------------------- */

static void report(clip *c, swm_stage stage, int step, int steps, const swm_image *preview)
{
    if (c->events->progress == NULL) return;
    double elapsed = swm_seconds() - c->started;
    swm_progress progress = {
        .stage = stage_names[stage],
        .step = step,
        .steps = steps,
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

/* ---- prompt ------------------------------------------------------------------------------------------------------------ */

static int encode_prompt(clip *c, swm_backend *b)
{
    swm_job *job = c->job;
    const swm_checkpoint *checkpoint = job->checkpoint;
    swm_prompt_encoder encoder = {
        .gemma = &checkpoint->gemma,
        .tokenizer = checkpoint->tokenizer,
        .instruction = checkpoint->config.chi_prompt,
        .instruction_count = checkpoint->config.chi_prompt_count,
        .tokens = checkpoint->config.model_max_length,
    };
    swm_prompt_free(&job->conditional);
    swm_prompt_free(&job->negative);
    return swm_prompt_encode(&job->conditional, &job->negative, &encoder, b, job->prompt, job->negative_prompt,
                             c->error);
}

/* Prompt states from a file, or the null caption: nothing for a backend to do. */
static int load_prompt(clip *c)
{
    swm_job *job = c->job;
    const swm_dit_size *size = &job->checkpoint->dit->size;
    int64_t tokens = job->checkpoint->config.model_max_length;
    if (job->prompt_embeddings != NULL) {
        swm_prompt_expected expected = {.tokens = tokens, .width = size->caption_channels};
        return swm_prompt_load(&job->conditional, &job->negative, job->prompt_embeddings, expected, c->error);
    }
    if (swm_prompt_null(&job->conditional, tokens, size->caption_channels, c->error) != 0) return -1;
    return swm_prompt_null(&job->negative, tokens, size->caption_channels, c->error);
}

static int save_prompt(clip *c)
{
    swm_job *job = c->job;
    char fingerprint[SWM_GEMMA_FINGERPRINT];
    if (job->save_prompt_embeddings == NULL) return 0;
    if (swm_gemma_fingerprint(&job->checkpoint->gemma, job->checkpoint->text_weights, fingerprint, c->error) != 0)
        return -1;
    return swm_prompt_save(job->save_prompt_embeddings, &job->conditional, &job->negative, fingerprint, c->error);
}

/* ---- first frame --------------------------------------------------------------------------------------------------------- */

static swm_vae_tiling tiling_of(const swm_job *job)
{
    const swm_pipeline_config *config = &job->checkpoint->config;
    swm_vae_tiling tiling = {.reference_lag = job->reference_exact && !job->checkpoint->vae->config.decoder_causal};
    if (job->tiling != SWM_TILES_NONE) {
        tiling.frames = config->tile_sample_min_num_frames;
        tiling.frame_stride = config->tile_sample_stride_num_frames;
    }
    if (job->tiling == SWM_TILES_BOTH) {
        tiling.height = tiling.width = swm_vae_reference_tiling.height;
        tiling.stride = swm_vae_reference_tiling.stride;
    }
    return tiling;
}

/* Bytes to -1..1, (1,H,W,3). */
static void fill_pixels(const void *user, float *values)
{
    const swm_image *picture = user;
    size_t count = (size_t)picture->width * (size_t)picture->height * 3;
    for (size_t i = 0; i < count; i++) values[i] = (float)picture->rgb[i] / 255.0f * 2.0f - 1.0f;
}

/* The picture's latent into frame 0 of the clip. */
static int encode_picture(clip *c, swm_backend *b)
{
    const swm_job *job = c->job;
    const swm_vae *vae = job->checkpoint->vae;
    swm_latent_shape s = job->latent;
    int64_t cells = s.height * s.width;
    swm_mark mark = swm_mark_of(b);
    swm_vae_tiling tiling = tiling_of(job);
    swm_tensor video =
        swm_upload_computed(b, b->compute, fill_pixels, &job->picture, 4, (int64_t[]){1, job->height, job->width, 3});
    swm_tensor mean = swm_vae_encode(b, vae, video, &tiling); /* (1,h,w,C) */
    if (c->planning) {
        swm_release(b, mark);
        return 0;
    }
    float *values = swm_allocate(c->error, (size_t)(cells * s.channels), sizeof(float));
    if (values == NULL) return -1;
    swm_download(b, values, mean);
    swm_vae_normalise(vae, values, cells);
    for (int64_t channel = 0; channel < s.channels; channel++)
        for (int64_t cell = 0; cell < cells; cell++)
            c->latent[channel * s.frames * cells + cell] = values[cell * s.channels + channel];
    free(values);
    swm_release(b, mark);
    return swm_backend_check(b, c->error);
}

/* ---- denoising ----------------------------------------------------------------------------------------------------------- */

/* Conditions on the device, below the mark that every pass returns to. */
typedef struct denoiser {
    clip *clip;
    swm_backend *b;
    bool guided;
    swm_dit_caption conditional, negative;
    swm_dit_view view;
    swm_work one_half; /* the backend's count when the view and one caption were ready */
} denoiser;

static void prepare_denoiser(denoiser *d)
{
    const swm_job *job = d->clip->job;
    const swm_dit *dit = job->checkpoint->dit;
    int64_t tokens = job->checkpoint->config.model_max_length;
    swm_dit_cameras cameras = {
        .frames = job->latent.frames,
        .height = job->latent.height,
        .width = job->latent.width,
        .conditions = job->conditions,
        .plucker = job->plucker,
    };
    swm_dit_view_prepare(d->b, dit, &d->view, &cameras);
    swm_dit_caption_prepare(d->b, dit, &d->conditional, tokens, job->conditional.states, job->conditional.mask);
    d->one_half = d->b->work;
    if (d->guided) swm_dit_caption_prepare(d->b, dit, &d->negative, tokens, job->negative.states, job->negative.mask);
}

/* The view of the first `frames` frames: tokens are frame-major, so that it is a prefix of every tensor. */
static swm_dit_view view_prefix(const swm_dit_view *view, int64_t frames)
{
    int64_t rows = frames * view->height * view->width;
    swm_dit_view prefix = *view;
    prefix.frames = frames;
    prefix.rotation = swm_rows(view->rotation, 0, rows);
    prefix.camera_rotation = swm_rows(view->camera_rotation, 0, rows);
    prefix.rays = swm_rows(view->rays, 0, rows);
    prefix.rays_inverse = swm_rows(view->rays_inverse, 0, rows);
    prefix.plucker = swm_rows(view->plucker, 0, rows);
    return prefix;
}

/* One forward of one half of the guidance. */
static void run_model(denoiser *d, const swm_dit_caption *caption, const float *latent, int64_t frames,
                      const float *timesteps, swm_chunks chunks, float *velocity)
{
    const swm_job *job = d->clip->job;
    swm_latent_shape s = job->latent;
    swm_mark mark = swm_mark_of(d->b);
    swm_dit_view view = view_prefix(&d->view, frames);
    swm_dit_step step = {
        .latent = SWM_UPLOAD(d->b, d->b->compute, latent, s.channels, frames, s.height, s.width),
        .timesteps = timesteps,
        .caption = caption,
        .view = &view,
        .chunks = chunks,
    };
    swm_download(d->b, velocity, swm_dit_forward(d->b, job->checkpoint->dit, &step));
    swm_release(d->b, mark);
}

/* A picture of where the clip is heading: the latent less the noise that the model sees in it. */
static void show_estimate(clip *c, const float *latent, int64_t frames, const float *timesteps, const float *velocity,
                          swm_image *preview)
{
    swm_latent_shape s = c->job->latent;
    int64_t cells = s.height * s.width;
    if (c->events->progress == NULL || c->preview.map == NULL) return;
    for (int64_t i = 0; i < s.channels * frames * cells; i++)
        c->clean[i] = latent[i] - timesteps[i / cells % frames] / 1000.0f * velocity[i];
    s.frames = frames;
    swm_preview_draw(&c->preview, s, c->clean, preview, NULL);
}

static int guided_velocity(void *user, const float *latent, int64_t frames, const float *timesteps, swm_chunks chunks,
                           float *velocity, swm_error *error)
{
    denoiser *d = user;
    clip *c = d->clip;
    const swm_job *job = c->job;
    run_model(d, &d->conditional, latent, frames, timesteps, chunks, velocity);
    c->done_flops += c->plan[SWM_STAGE_DENOISE].pass.flops;
    if (d->guided) {
        run_model(d, &d->negative, latent, frames, timesteps, chunks, c->guided);
        c->done_flops += c->plan[SWM_STAGE_DENOISE].pass.flops;
    }
    if (swm_backend_check(d->b, error) != 0) return -1;
    int64_t count = job->latent.channels * frames * job->latent.height * job->latent.width;
    float scale = (float)job->guidance;
    for (int64_t i = 0; d->guided && i < count; i++) velocity[i] = c->guided[i] + scale * (velocity[i] - c->guided[i]);
    return 0;
}

/* The sampler's step, watched. */
static int watched_velocity(void *user, const float *latent, int64_t frames, const float *timesteps, swm_chunks chunks,
                            float *velocity, swm_error *error)
{
    denoiser *d = user;
    clip *c = d->clip;
    if (guided_velocity(user, latent, frames, timesteps, chunks, velocity, error) != 0) return -1;
    swm_image preview = {0};
    show_estimate(c, latent, frames, timesteps, velocity, &preview);
    int passes = swm_sampling_passes(&c->job->sampling);
    int64_t halves = d->guided ? 2 : 1;
    double before = c->plan[SWM_STAGE_DENOISE].setup.flops + c->plan[SWM_STAGE_PROMPT].setup.flops +
                    c->plan[SWM_STAGE_ENCODE].pass.flops;
    int step = (int)((c->done_flops - before) / ((double)halves * c->plan[SWM_STAGE_DENOISE].pass.flops) + 0.5);
    report(c, SWM_STAGE_DENOISE, step, passes, &preview);
    swm_image_free(&preview);
    return 0;
}

/* Frame 0 is the picture's; the rest is noise. The reference draws in bf16. */
static void add_noise(clip *c)
{
    const swm_job *job = c->job;
    swm_latent_shape s = job->latent;
    int64_t cells = s.height * s.width, count = swm_latent_count(s);
    swm_generator generator = {.seed = job->seed};
    if (job->noise == SWM_NOISE_TORCH)
        swm_generator_normal(&generator, c->guided, count);
    else
        for (int64_t f = 0; f < s.frames; f++)
            swm_frame_normal(job->seed, f, c->guided + f * cells, s.channels, cells, s.frames * cells);
    for (int64_t i = 0; i < count; i++)
        if (i / cells % s.frames != 0) c->latent[i] = swm_bf16_to_f32(swm_f32_to_bf16(c->guided[i]));
}

static int denoise(clip *c, swm_backend *b)
{
    swm_job *job = c->job;
    denoiser d = {.clip = c, .b = b, .guided = job->guidance != 1};
    swm_mark mark = swm_mark_of(b);
    prepare_denoiser(&d);
    job->sampling.velocity = watched_velocity;
    job->sampling.user = &d;
    add_noise(c);
    int result = swm_sample(&job->sampling, job->latent, c->latent, c->error);
    swm_release(b, mark);
    return result;
}

/* ---- decoding -------------------------------------------------------------------------------------------------------------- */

/* Finished frames to bytes and out. */
static int emit_frames(void *user, swm_backend *b, int64_t first, swm_tensor frames)
{
    clip *c = user;
    const swm_job *job = c->job;
    int64_t count = frames.shape[0];
    swm_mark mark = swm_mark_of(b);
    swm_tensor pixels = swm_pixels(b, frames, job->reference_exact);
    if (c->planning) {
        swm_release(b, mark);
        return 0;
    }
    if (count > c->frames_capacity) {
        free(c->frames);
        c->frames = swm_allocate(c->error, (size_t)count, (size_t)job->width * (size_t)job->height * 3);
        c->frames_capacity = c->frames != NULL ? count : 0;
        if (c->frames == NULL) return -1;
    }
    swm_download_bytes(b, c->frames, pixels);
    swm_release(b, mark);
    if (swm_backend_check(b, c->error) != 0) return -1;
    c->frames_done = first + count;
    c->done_flops += c->plan[SWM_STAGE_DECODE].pass.flops * (double)count / (double)job->frames;
    report(c, SWM_STAGE_DECODE, (int)c->frames_done, (int)job->frames, NULL);
    if (c->events->frames != NULL &&
        c->events->frames(c->events->user, first, count, c->frames, job->width, job->height) != 0)
        return swm_fail(c->error, "stopped by the receiver of frames");
    return 0;
}

/* (C,T,h,w) to denormalised (T,h,w,C). */
static void fill_denormalised(const void *user, float *values)
{
    const clip *c = user;
    swm_latent_shape s = c->job->latent;
    int64_t positions = s.frames * s.height * s.width;
    for (int64_t channel = 0; channel < s.channels; channel++)
        for (int64_t i = 0; i < positions; i++) values[i * s.channels + channel] = c->latent[channel * positions + i];
    swm_vae_denormalise(c->job->checkpoint->vae, values, positions);
}

static int decode(clip *c, swm_backend *b)
{
    const swm_job *job = c->job;
    swm_latent_shape s = job->latent;
    swm_vae_tiling tiling = tiling_of(job);
    swm_mark mark = swm_mark_of(b);
    swm_tensor latent = swm_upload_computed(b, b->compute, fill_denormalised, c, 4,
                                            (int64_t[]){s.frames, s.height, s.width, s.channels});
    int result = swm_vae_decode(b, job->checkpoint->vae, latent, &tiling, emit_frames, c);
    swm_release(b, mark);
    if (c->planning) return result;
    return swm_backend_check(b, c->error) != 0 ? -1 : result;
}

/* ---- planning -------------------------------------------------------------------------------------------------------------- */

static size_t weight_bytes(const swm_weights *weights, const char *prefix)
{
    size_t bytes = 0;
    for (size_t i = 0; weights != NULL && i < swm_weights_count(weights); i++) {
        const char *name;
        const swm_tensor *t = swm_weights_at(weights, i, &name);
        if (strncmp(name, prefix, strlen(prefix)) == 0) bytes += swm_bytes(*t);
    }
    return bytes;
}

static swm_work work_since(const swm_backend *b, swm_work start)
{
    return (swm_work){b->work.flops - start.flops, b->work.bytes - start.bytes, b->work.operations - start.operations};
}

/* The stages as a counting backend sees them. prompt_tokens stands for texts that are not there. */
static int plan_stage(clip *c, swm_stage stage, swm_backend *b, int64_t prompt_tokens)
{
    swm_job *job = c->job;
    const swm_checkpoint *checkpoint = job->checkpoint;
    swm_stage_plan *plan = &c->plan[stage];
    *plan = (swm_stage_plan){.passes = 1};
    b->scratch.peak = b->scratch.used;
    swm_work start = b->work;
    int result = 0;
    if (stage == SWM_STAGE_PROMPT) {
        plan->weights = weight_bytes(checkpoint->text_weights, "");
        if (job->prompt != NULL) {
            result = encode_prompt(c, b);
        } else if (prompt_tokens > 0 && checkpoint->text_weights != NULL) {
            swm_mark mark = swm_mark_of(b);
            swm_gemma_forward(b, &checkpoint->gemma, NULL, prompt_tokens, 0, NULL);
            swm_release(b, mark);
        } else {
            *plan = (swm_stage_plan){0};
        }
        plan->pass = work_since(b, start);
    } else if (stage == SWM_STAGE_ENCODE) {
        plan->weights = weight_bytes(checkpoint->vae_weights, "encoder.");
        result = encode_picture(c, b);
        plan->pass = work_since(b, start);
    } else if (stage == SWM_STAGE_DENOISE) {
        denoiser d = {.clip = c, .b = b, .guided = job->guidance != 1};
        swm_mark mark = swm_mark_of(b);
        plan->weights = weight_bytes(checkpoint->dit_weights, "");
        prepare_denoiser(&d);
        plan->setup = work_since(b, start);
        plan->forward_flops = d.one_half.flops - start.flops;
        start = b->work;
        run_model(&d, &d.conditional, NULL, job->latent.frames, NULL, job->sampling.chunks, NULL);
        plan->pass = work_since(b, start);
        plan->forward_flops += plan->pass.flops;
        plan->passes = swm_sampling_passes(&job->sampling) * (d.guided ? 2 : 1);
        swm_release(b, mark);
    } else {
        plan->weights = weight_bytes(checkpoint->vae_weights, "decoder.");
        result = decode(c, b);
        plan->pass = work_since(b, start);
    }
    plan->scratch = b->scratch.peak;
    return result;
}

static int plan_all(clip *c, swm_dtype compute, int64_t prompt_tokens)
{
    swm_backend *b = swm_backend_open_plan(compute, c->error);
    if (b == NULL) return -1;
    c->planning = true;
    int result = 0;
    for (int stage = 0; stage < SWM_STAGE_COUNT && result == 0; stage++)
        result = plan_stage(c, (swm_stage)stage, b, prompt_tokens);
    c->planning = false;
    swm_backend_close(b);
    return result;
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
    if (request->steps < 2 || request->steps > SWM_MAX_STEPS)
        return swm_fail(error, "%d sampling steps were asked for; 2 to %d are possible", request->steps, SWM_MAX_STEPS);
    int64_t whole = 0;
    swm_job job = {
        .checkpoint = checkpoint,
        .width = request->width,
        .height = request->height,
        .frames = frames,
        .latent = {checkpoint->dit->size.latent_channels, swm_latent_frames(frames), request->height / 32,
                   request->width / 32},
        .guidance = request->guided ? 2 : 1,
        .tiling = request->tiling,
        .sampling = {.steps = request->steps, .chunks = {1, &whole}},
    };
    swm_events silent = {0};
    clip c = {.job = &job, .events = &silent, .error = error};
    if (plan_all(&c, request->compute, request->prompt_tokens) != 0) return -1;
    memcpy(plan, c.plan, sizeof c.plan);
    return 0;
}

/* ---- running --------------------------------------------------------------------------------------------------------------- */

static int run_stage(clip *c, swm_stage stage, swm_backend *b)
{
    switch (stage) {
    case SWM_STAGE_PROMPT:
        if (c->job->prompt == NULL) return load_prompt(c);
        return encode_prompt(c, b) == 0 ? save_prompt(c) : -1;
    case SWM_STAGE_ENCODE:
        if (encode_picture(c, b) != 0) return -1;
        return swm_preview_fit(&c->preview, c->job->latent, c->latent, &c->job->picture, c->error);
    case SWM_STAGE_DENOISE: return denoise(c, b);
    case SWM_STAGE_DECODE: return decode(c, b);
    case SWM_STAGE_COUNT: break;
    }
    return -1;
}

static int run_all(clip *c, swm_backend *b, swm_run_report *out)
{
    size_t peak = 0;
    for (int stage = 0; stage < SWM_STAGE_COUNT; stage++) {
        peak = c->plan[stage].scratch > peak ? c->plan[stage].scratch : peak;
        c->total_flops += c->plan[stage].setup.flops + c->plan[stage].pass.flops * (double)c->plan[stage].passes;
    }
    if (swm_backend_reserve(b, peak, c->error) != 0) return -1;
    for (int stage = 0; stage < SWM_STAGE_COUNT; stage++) {
        double start = swm_seconds();
        report(c, (swm_stage)stage, 0, 0, NULL);
        b->scratch.peak = b->scratch.used;
        if (run_stage(c, (swm_stage)stage, b) != 0) return -1;
        swm_weights_leave(b);
        out->scratch[stage] = b->scratch.peak;
        out->seconds[stage] = swm_seconds() - start;
        if (stage == SWM_STAGE_PROMPT || stage == SWM_STAGE_ENCODE) c->done_flops += c->plan[stage].pass.flops;
        if (stage == SWM_STAGE_ENCODE) c->done_flops += c->plan[SWM_STAGE_DENOISE].setup.flops;
    }
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
    clip c = {.job = job, .events = events != NULL ? events : &silent, .started = swm_seconds(), .error = error};
    size_t count = (size_t)swm_latent_count(job->latent);
    *out = (swm_run_report){0};
    c.latent = swm_allocate(error, count, sizeof(float));
    c.guided = swm_allocate(error, count, sizeof(float));
    c.clean = swm_allocate(error, count, sizeof(float));
    swm_backend *b = swm_backend_open(job->device, job->float32, job->threads, error);
    int result = -1;
    if (c.latent != NULL && c.guided != NULL && c.clean != NULL && b != NULL) {
        if (c.events->stop != NULL) {
            b->interrupted = interrupted;
            b->interrupted_user = (void *)(uintptr_t)c.events;
        }
        snprintf(out->device, sizeof out->device, "%s", b->name);
        job->sampling.round_to_bf16 = b->compute == SWM_BF16;
        result = plan_all(&c, b->compute, 0);
        if (result == 0) result = run_all(&c, b, out);
    }
    swm_backend_close(b);
    swm_preview_free(&c.preview);
    free(c.frames);
    free(c.clean);
    free(c.guided);
    free(c.latent);
    return result;
}
