/* The stage that makes the clip: noise, guidance, and the sampler's steps over the video model. */
#include "pipeline/clip.h"

#include "core/rng.h"

#include <stdlib.h>

/* Conditions on the device, below the mark that every pass returns to. */
typedef struct denoiser {
    swm_clip *clip;
    swm_backend *b;
    bool guided;
    int64_t steps; /* done */
    swm_dit_caption conditional, negative;
    swm_dit_view view;
    swm_dit_plucker plucker;
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
    swm_dit_plucker_prepare(d->b, dit, &d->plucker);
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
        .plucker = &d->plucker,
        .chunks = chunks,
    };
    swm_download(d->b, velocity, swm_dit_forward(d->b, job->checkpoint->dit, &step));
    swm_release(d->b, mark);
}

/* A picture of where the clip is heading: the latent less the noise that the model sees in it. */
static void show_estimate(swm_clip *c, const float *latent, int64_t frames, const float *timesteps,
                          const float *velocity, swm_image *preview)
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
    swm_clip *c = d->clip;
    const swm_job *job = c->job;
    run_model(d, &d->conditional, latent, frames, timesteps, chunks, velocity);
    c->done_flops += c->plan[c->stage].pass.flops;
    if (d->guided) {
        run_model(d, &d->negative, latent, frames, timesteps, chunks, c->other);
        c->done_flops += c->plan[c->stage].pass.flops;
    }
    if (swm_backend_check(d->b, error) != 0) return -1;
    int64_t count = job->latent.channels * frames * job->latent.height * job->latent.width;
    float scale = (float)job->guidance;
    for (int64_t i = 0; d->guided && i < count; i++) velocity[i] = c->other[i] + scale * (velocity[i] - c->other[i]);
    return 0;
}

/* The sampler's step, watched. */
static int watched_velocity(void *user, const float *latent, int64_t frames, const float *timesteps, swm_chunks chunks,
                            float *velocity, swm_error *error)
{
    denoiser *d = user;
    if (guided_velocity(user, latent, frames, timesteps, chunks, velocity, error) != 0) return -1;
    swm_image preview = {0};
    show_estimate(d->clip, latent, frames, timesteps, velocity, &preview);
    swm_clip_report(d->clip, ++d->steps, swm_sampling_passes(&d->clip->job->sampling), &preview);
    swm_image_free(&preview);
    return 0;
}

/* Frame 0 is the picture's; the rest is noise. The reference draws in bf16. */
static void add_noise(swm_clip *c)
{
    const swm_job *job = c->job;
    swm_latent_shape s = job->latent;
    int64_t cells = s.height * s.width, count = swm_latent_count(s);
    swm_generator generator = {.seed = job->seed};
    if (job->noise == SWM_NOISE_TORCH)
        swm_generator_normal(&generator, c->other, count);
    else
        for (int64_t f = 0; f < s.frames; f++)
            swm_frame_normal(job->seed, f, c->other + f * cells, s.channels, cells, s.frames * cells);
    for (int64_t i = 0; i < count; i++)
        if (i / cells % s.frames != 0) c->latent[i] = swm_bf16_to_f32(swm_f32_to_bf16(c->other[i]));
}

static int save_latent(const swm_clip *c)
{
    char *settings = swm_sidecar_settings(c->job, c->error);
    int result = settings != NULL ? swm_latents_save(c->job->save_latents, c->job, c->latent, settings, c->error) : -1;
    free(settings);
    return result;
}

static int run(swm_clip *c, swm_backend *b)
{
    swm_job *job = c->job;
    denoiser d = {.clip = c, .b = b, .guided = job->guidance != 1};
    swm_mark mark = swm_mark_of(b);
    prepare_denoiser(&d);
    c->done_flops += c->plan[c->stage].setup.flops;
    job->sampling.velocity = watched_velocity;
    job->sampling.user = &d;
    add_noise(c);
    int result = swm_sample(&job->sampling, job->latent, c->latent, c->error);
    swm_release(b, mark);
    return result == 0 && job->save_latents != NULL ? save_latent(c) : result;
}

static int plan(swm_clip *c, swm_backend *b, swm_stage_plan *plan)
{
    const swm_job *job = c->job;
    denoiser d = {.clip = c, .b = b, .guided = job->guidance != 1};
    swm_work start = b->work;
    swm_mark mark = swm_mark_of(b);
    prepare_denoiser(&d);
    plan->setup = swm_work_since(b, start);
    plan->forward_flops = d.one_half.flops - start.flops;
    start = b->work;
    run_model(&d, &d.conditional, NULL, job->latent.frames, NULL, job->sampling.chunks, NULL);
    plan->pass = swm_work_since(b, start);
    plan->forward_flops += plan->pass.flops;
    plan->passes = swm_sampling_passes(&job->sampling) * (d.guided ? 2 : 1);
    swm_release(b, mark);
    return 0;
}

static size_t weights(const swm_job *job) { return swm_stage_weights(job->checkpoint->dit_weights, ""); }

bool swm_job_has_first_stage(const swm_job *job) { return job->latents == NULL; }

const swm_stage_entry swm_denoise_stage = {
    .name = "denoise", .wanted = swm_job_has_first_stage, .weights = weights, .plan = plan, .run = run};
