/* Whether a job's stages fit the device, found out before the first one runs; the decoder goes over to tiles where it must. */
#include "pipeline/clip.h"

#include <stdio.h>

void swm_stage_place(swm_stage_plan *plan, const swm_weight_list *weights, uint64_t budget)
{
    size_t all = swm_weight_list_bytes(weights), least = swm_residency_least(weights);
    size_t fixed = plan->scratch + SWM_DEVICE_OVERHEAD;
    plan->gpu = (swm_stage_memory){.weights = all, .least = fixed + least, .used = fixed + all};
    if (budget == 0 || plan->gpu.used <= budget) return;
    swm_residency residency;
    plan->gpu.used = 0;
    if (plan->gpu.least > budget || swm_residency_decide(&residency, weights, budget - fixed, NULL) != 0) return;
    plan->gpu.used = fixed + residency.memory;
    plan->gpu.streamed = residency.streamed;
    swm_residency_free(&residency);
}

/* error NULL: only whether. */
static bool fits(const swm_clip *c, swm_backend *b, swm_stage stage, swm_error *error)
{
    const swm_stage_plan *plan = &c->plan[stage];
    size_t weights = plan->gpu.least - plan->scratch - SWM_DEVICE_OVERHEAD;
    return swm_backend_fits(b, swm_stage_name(stage), plan->scratch, weights, error) == 0;
}

/* Shorter and shorter spans until the stage fits, which costs speed alone; below a few frames of the last level what the
 * spans remember of each other is most of the memory, and only tiles save some. */
static int choose_tiles(swm_clip *c, swm_backend *b, swm_stage stage)
{
    static const char *const names[] = {"none", "temporal", "both"};
    swm_job *job = c->job;
    swm_tiling asked = job->tiling;
    int64_t span = job->decode_span > 0 ? job->decode_span : SWM_VAE_SPAN;
    while (!fits(c, b, stage, NULL) && span > SWM_VAE_SPAN / 32) {
        job->decode_span = span /= 2;
        if (swm_clip_plan(c, b->compute) != 0) return -1;
    }
    if (fits(c, b, stage, NULL) || asked == SWM_TILES_BOTH) return 0;
    double needed = (double)c->plan[stage].gpu.least / (1 << 30);
    job->tiling = SWM_TILES_BOTH;
    if (swm_clip_plan(c, b->compute) != 0) return -1;
    if (c->events->notice == NULL || !fits(c, b, stage, NULL)) return 0;
    char text[256];
    snprintf(
        text, sizeof text,
        "decoding in tiles (--tiles both instead of %s), which differs slightly: it would need %.1f GiB of GPU memory",
        names[asked], needed);
    c->events->notice(c->events->user, text);
    return 0;
}

int swm_clip_fit(swm_clip *c, swm_backend *b)
{
    const swm_stage decoders[] = {SWM_STAGE_DECODE_STAGE1, SWM_STAGE_DECODE};
    for (size_t i = 0; i < sizeof decoders / sizeof *decoders; i++)
        if (swm_stage_wanted(c->job, decoders[i]) && choose_tiles(c, b, decoders[i]) != 0) return -1;
    for (int i = 0; i < SWM_STAGE_COUNT; i++)
        if (swm_stage_wanted(c->job, (swm_stage)i) && !fits(c, b, (swm_stage)i, c->error)) return -1;
    return 0;
}
