/* Implements sample/sampler.h. Arithmetic is float32 in the order of the reference. */
#include "sample/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const sampler_names[] = {
    [SWM_FLOW_EULER_LTX] = "flow_euler_ltx",
    [SWM_FLOW_DPM_SOLVER] = "flow_dpm-solver",
    [SWM_CHUNK_FLOW_EULER] = "chunk_flow_euler",
};

int swm_sampler_from_name(const char *name, swm_sampler *sampler, swm_error *error)
{
    for (size_t i = 0; i < sizeof sampler_names / sizeof *sampler_names; i++)
        if (strcmp(name, sampler_names[i]) == 0) {
            *sampler = (swm_sampler)i;
            return 0;
        }
    return swm_fail(error, "sampler \"%s\" is unknown; flow_euler_ltx, flow_dpm-solver and chunk_flow_euler are known",
                    name);
}

const char *swm_sampler_name(swm_sampler sampler) { return sampler_names[sampler]; }

static void round_to_bf16(float *values, int64_t count)
{
    for (int64_t i = 0; i < count; i++) values[i] = swm_bf16_to_f32(swm_f32_to_bf16(values[i]));
}

/* The next smaller level of the schedule, 0 below the last. */
static float next_sigma(const float *sigmas, int steps, float sigma)
{
    float next = 0;
    for (int i = 0; i <= steps; i++)
        if (sigmas[i] < sigma - 1e-6f && sigmas[i] > next) next = sigmas[i];
    return next;
}

/* x -= (sigma - next) v on `frames` leading frames, each by its own distance; x has shape.frames frames, v just these. */
static void euler_step(float *x, const float *v, swm_latent_shape shape, int64_t frames, const float *distance)
{
    int64_t cells = shape.height * shape.width;
    for (int64_t c = 0; c < shape.channels; c++)
        for (int64_t f = 0; f < frames; f++) {
            float *to = x + (c * shape.frames + f) * cells;
            const float *from = v + (c * frames + f) * cells;
            if (distance[f] == 0) continue; /* given frames stay bit for bit */
            for (int64_t i = 0; i < cells; i++) to[i] -= distance[f] * from[i];
        }
}

/* Frames 0 .. frames-1 of every channel, packed. */
static void copy_prefix(float *to, const float *x, swm_latent_shape shape, int64_t frames)
{
    int64_t cells = shape.height * shape.width;
    for (int64_t c = 0; c < shape.channels; c++)
        memcpy(to + c * frames * cells, x + c * shape.frames * cells, (size_t)(frames * cells) * sizeof(float));
}

/* What a sampling holds while it runs. */
typedef struct run {
    const swm_sampling *how;
    swm_latent_shape shape;
    float *x, *prefix, *v;                /* (C,T,h,w) each */
    float *timesteps, *distance, *sigmas; /* (T), (T), (steps+1) */
    float *schedule;                      /* timesteps of the schedule (steps) */
    swm_error *error;
} run;

/* Step at which chunk k begins. Truncated from doubles in the order of the reference, which is not the exact floor. */
static int chunk_begin(const swm_sampling *how, int k)
{
    double interval = how->interval > 0 ? how->interval : 1.0 / how->chunks.count;
    return (int)(k * interval * how->steps);
}

int swm_sampling_passes(const swm_sampling *how)
{
    int last = how->sampler == SWM_CHUNK_FLOW_EULER ? chunk_begin(how, how->chunks.count - 1) : 0;
    return last + how->steps;
}

/* Timesteps of the active frames at a step, and how many frames are active. Finished chunks stay as clean context. */
static int64_t set_timesteps(run *r, int step)
{
    const swm_sampling *how = r->how;
    bool chunked = how->sampler == SWM_CHUNK_FLOW_EULER;
    int64_t frames = 0;
    for (int k = 0; k < (chunked ? how->chunks.count : 1); k++) {
        int age = step - (chunked ? chunk_begin(how, k) : 0);
        if (age < 0) break;
        int64_t end = chunked && k + 1 < how->chunks.count ? how->chunks.starts[k + 1] : r->shape.frames;
        for (; frames < end; frames++) r->timesteps[frames] = age < how->steps ? r->schedule[age] : 0;
    }
    r->timesteps[0] = 0;
    return frames;
}

static int sample_euler(run *r)
{
    const swm_sampling *how = r->how;
    swm_schedule_euler(how->steps, how->shift, r->sigmas, r->schedule);
    int passes = swm_sampling_passes(how);
    for (int step = 0; step < passes; step++) {
        int64_t frames = set_timesteps(r, step);
        swm_chunks active = how->chunks;
        while (active.count > 1 && active.starts[active.count - 1] >= frames) active.count--;
        copy_prefix(r->prefix, r->x, r->shape, frames);
        if (how->velocity(how->user, r->prefix, frames, r->timesteps, active, r->v, r->error) != 0) return -1;
        for (int64_t f = 0; f < frames; f++) {
            float sigma = r->timesteps[f] / 1000.0f;
            r->distance[f] = sigma - next_sigma(r->sigmas, how->steps, sigma);
        }
        euler_step(r->x, r->v, r->shape, frames, r->distance);
        if (how->round_to_bf16) round_to_bf16(r->x, swm_latent_count(r->shape));
        if (how->after_step != NULL) how->after_step(how->user, step + 1, passes, r->x);
    }
    return 0;
}

/* DPM-Solver++ (2M) on the data prediction D = x - sigma v. Lu et al., "DPM-Solver++", algorithm 2; first and last step
 * are of first order. The last one ends at sigma 0, where it gives D itself. */
static int sample_dpm(run *r)
{
    const swm_sampling *how = r->how;
    int64_t count = swm_latent_count(r->shape);
    float *data = r->prefix, *previous = swm_allocate(r->error, (size_t)count, sizeof(float));
    if (previous == NULL) return -1;
    swm_schedule_dpm(how->steps, how->shift, r->sigmas);
    int result = 0;
    double last_h = 0;
    for (int step = 0; step < how->steps && result == 0; step++) {
        double sigma = r->sigmas[step], next = r->sigmas[step + 1];
        for (int64_t f = 0; f < r->shape.frames; f++) r->timesteps[f] = 1000.0f * r->sigmas[step];
        result = how->velocity(how->user, r->x, r->shape.frames, r->timesteps, how->chunks, r->v, r->error);
        if (result != 0) break;
        bool last = step == how->steps - 1;
        double lambda = log1p(-sigma) - log(sigma), h = last ? 0 : log1p(-next) - log(next) - lambda;
        double phi = last ? -1 : expm1(-h), alpha = 1 - next;
        double slope = step == 0 || last ? 0 : 0.5 * h / last_h;
        for (int64_t i = 0; i < count; i++) {
            data[i] = r->x[i] - (float)sigma * r->v[i];
            double d = (1 + slope) * data[i] - slope * previous[i];
            r->x[i] = (float)(next / sigma * r->x[i] - alpha * phi * d);
            previous[i] = data[i];
        }
        last_h = h;
        if (how->after_step != NULL) how->after_step(how->user, step + 1, how->steps, r->x);
    }
    free(previous);
    return result;
}

int swm_sample(const swm_sampling *how, swm_latent_shape shape, float *latent, swm_error *error)
{
    if (how->steps < 2 || how->steps > SWM_MAX_STEPS)
        return swm_fail(error, "%d sampling steps were asked for; 2 to %d are possible", how->steps, SWM_MAX_STEPS);
    if (!(how->shift > 0) || !isfinite(how->shift))
        return swm_fail(error, "a flow shift of %g was asked for; it must be above 0", how->shift);
    size_t count = (size_t)swm_latent_count(shape), frames = (size_t)shape.frames, steps = (size_t)how->steps;
    float *memory = swm_allocate(error, 2 * count + 2 * frames + 2 * steps + 1, sizeof(float));
    if (memory == NULL) return -1;
    run r = {.how = how, .shape = shape, .x = latent, .error = error};
    r.prefix = memory;
    r.v = r.prefix + count;
    r.timesteps = r.v + count;
    r.distance = r.timesteps + frames;
    r.schedule = r.distance + frames;
    r.sigmas = r.schedule + steps;
    int result = how->sampler == SWM_FLOW_DPM_SOLVER ? sample_dpm(&r) : sample_euler(&r);
    free(memory);
    return result;
}

/* ---- self-forcing ----------------------------------------------------------------------------------------------------- */

int64_t swm_self_forcing_first(const swm_self_forcing *how, int64_t frames) { return how->chunk + frames % how->chunk; }

int swm_self_forcing_chunk(const swm_self_forcing *how, swm_latent_shape shape, int64_t first, float *latent,
                           swm_error *error)
{
    int64_t count = swm_latent_count(shape);
    float *v = swm_allocate(error, (size_t)(count + 2 * shape.frames), sizeof(float));
    if (v == NULL) return -1;
    float *timesteps = v + count, *distance = timesteps + shape.frames;
    int result = 0;
    for (int step = 0; step < how->steps && result == 0; step++) {
        float sigma = how->sigmas[step], drop = sigma - next_sigma(how->sigmas, how->steps, sigma);
        for (int64_t f = 0; f < shape.frames; f++) {
            bool given = first + f == 0;
            timesteps[f] = given ? 0 : 1000.0f * sigma;
            distance[f] = given ? 0 : drop;
        }
        result = how->velocity(how->user, first, shape.frames, latent, timesteps, false, v, error);
        if (result == 0) euler_step(latent, v, shape, shape.frames, distance);
        if (how->round_to_bf16) round_to_bf16(latent, count);
    }
    memset(timesteps, 0, (size_t)shape.frames * sizeof(float));
    if (result == 0) result = how->velocity(how->user, first, shape.frames, latent, timesteps, true, NULL, error);
    free(v);
    return result;
}
