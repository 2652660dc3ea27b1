/* The stage that refines the clip: fresh noise on it, and the few steps of the second network, whole or in blocks. */
#include "pipeline/clip.h"

/* What lies on the device below the mark that every pass returns to, and where the noise comes from. */
typedef struct refiner {
    swm_clip *clip;
    swm_backend *b;
    swm_refiner_text text;
    swm_refiner_window window;
    swm_refine_source noise;
} refiner;

static void prepare(refiner *r)
{
    const swm_job *job = r->clip->job;
    const swm_refiner *network = job->checkpoint->refiner.transformer;
    const swm_refiner_prompt *prompt = &job->refiner.prompt;
    int64_t slots = prompt->states != NULL ? prompt->slots : SWM_REFINER_PROMPT_SLOTS;
    swm_refiner_text_prepare(r->b, network, &r->text, slots, prompt->states);
    swm_refiner_window_take(r->b, network, &r->window, job->refiner.history, job->latent.height, job->latent.width);
}

/* One pass over frames first .. first+frames-1. Nothing to read or write under plan. */
static int velocity(void *user, int64_t first, int64_t frames, const float *latent, float sigma, bool keep,
                    float *velocity, swm_error *error)
{
    refiner *r = user;
    const swm_job *job = r->clip->job;
    swm_latent_shape s = job->latent;
    swm_work start = r->b->work;
    swm_mark mark = swm_mark_of(r->b);
    swm_refiner_step step = {
        .latent = SWM_UPLOAD(r->b, r->b->compute, latent, s.channels, frames, s.height, s.width),
        .first = first,
        .fps = job->fps,
        .sigma = sigma,
        .text = &r->text,
        .window = &r->window,
        .keep = !keep        ? SWM_REFINER_KEEP_NOTHING
                : first == 0 ? SWM_REFINER_KEEP_SINK
                             : SWM_REFINER_KEEP_HISTORY,
    };
    swm_tensor v = swm_refiner_forward(r->b, job->checkpoint->refiner.transformer, &step);
    if (!keep) swm_download(r->b, velocity, v);
    swm_release(r->b, mark);
    if (r->clip->planning) return 0;
    r->clip->done_flops += swm_work_since(r->b, start).flops;
    return swm_backend_check(r->b, error);
}

static void draw(void *user, int64_t first, int64_t frames, float *noise)
{
    swm_refine_draw(&((refiner *)user)->noise, first, frames, noise);
}

static void report(void *user, int step, int steps, const float *latent)
{
    (void)latent;
    swm_clip_report(((refiner *)user)->clip, step, steps, NULL);
}

/* Noise of a stream a frame would be the first stage's under the same seed, hence another one. The torch kind is left as
 * the reference has it. */
static swm_refine_source source_of(const swm_job *job)
{
    static const uint64_t apart = 0x9e3779b97f4a7c15u;
    bool by_frame = job->noise == SWM_NOISE_FRAME;
    return (swm_refine_source){
        .generator = {.seed = by_frame ? job->refiner.seed ^ apart : job->refiner.seed},
        .by_frame = by_frame,
        .channels = job->latent.channels,
        .height = job->latent.height,
        .width = job->latent.width,
    };
}

static int run(swm_clip *c, swm_backend *b)
{
    swm_job *job = c->job;
    refiner r = {.clip = c, .b = b, .noise = source_of(job)};
    swm_work start = b->work;
    swm_mark mark = swm_mark_of(b);
    prepare(&r);
    c->done_flops += swm_work_since(b, start).flops;
    swm_refinement *how = &job->refiner.how;
    how->velocity = velocity;
    how->noise = draw;
    how->after_step = report;
    how->user = &r;
    int result = swm_refine(how, job->latent, c->latent, c->error);
    swm_release(b, mark);
    return result;
}

/* The passes that swm_refine makes, in its order. The prompt and the sink are prepared; `pass` is the mean of the others,
 * which are all equal in one shot. */
static int plan(swm_clip *c, swm_backend *b, swm_stage_plan *plan)
{
    const swm_refinement *how = &c->job->refiner.how;
    int64_t frames = c->job->latent.frames, block = how->block > 0 ? how->block : frames - 1;
    refiner r = {.clip = c, .b = b};
    swm_work start = b->work;
    swm_mark mark = swm_mark_of(b);
    prepare(&r);
    velocity(&r, 0, 1, NULL, 0, true, NULL, c->error);
    plan->setup = swm_work_since(b, start);
    start = b->work;
    for (int64_t first = 1; first < frames; first += block) {
        int64_t count = swm_min(block, frames - first);
        for (int i = 0; i < how->steps; i++) velocity(&r, first, count, NULL, how->sigmas[i], false, NULL, c->error);
        if (how->history && first + count < frames) velocity(&r, first, count, NULL, 0, true, NULL, c->error);
    }
    swm_release(b, mark);
    plan->pass = swm_work_since(b, start);
    plan->passes = swm_refinement_passes(how, frames) - 1;
    plan->pass.flops /= (double)plan->passes;
    plan->pass.bytes /= (double)plan->passes;
    plan->pass.operations /= plan->passes;
    return 0;
}

static bool wanted(const swm_job *job) { return job->refiner.wanted; }

static size_t weights(const swm_job *job) { return swm_transformer_size(job->checkpoint->refiner.transformer).bytes; }

const swm_stage_entry swm_refine_stage = {
    .name = "refine", .wanted = wanted, .weights = weights, .plan = plan, .run = run};
