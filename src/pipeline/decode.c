/* The stage that decodes a latent and hands the frames out. */
#include "pipeline/clip.h"

#include <stdlib.h>

swm_vae_tiling swm_job_tiling(const swm_job *job)
{
    const swm_pipeline_config *config = &job->checkpoint->config;
    /* The reference cuts long clips for every decoder that is not causal. */
    bool lag = job->reference_exact && !job->checkpoint->vae->config.decoder_causal;
    swm_vae_tiling tiling = {.reference_lag = lag, .span = job->decode_span};
    if (job->tiling != SWM_TILES_NONE || lag) {
        tiling.frames = config->tile_sample_min_num_frames;
        tiling.frame_stride = config->tile_sample_stride_num_frames;
    }
    if (job->tiling == SWM_TILES_BOTH) {
        tiling.height = tiling.width = swm_vae_reference_tiling.height;
        tiling.stride = swm_vae_reference_tiling.stride;
    }
    return tiling;
}

/* Where a decoding sends its frames. */
typedef struct receiver {
    swm_clip *clip;
    int64_t dropped; /* frames at the start that nobody gets */
    int (*frames)(void *user, int64_t first, int64_t count, const uint8_t *rgb, int width, int height);
} receiver;

static int make_room(swm_clip *c, int64_t count)
{
    if (count <= c->frames_capacity) return 0;
    free(c->frames);
    c->frames = swm_allocate(c->error, (size_t)count, (size_t)c->job->width * (size_t)c->job->height * 3);
    c->frames_capacity = c->frames != NULL ? count : 0;
    return c->frames != NULL ? 0 : -1;
}

/* c->frames are frames first .. first+count-1 of the decoder. */
static int hand_out(const receiver *r, int64_t first, int64_t count)
{
    swm_clip *c = r->clip;
    const swm_job *job = c->job;
    int64_t skipped = swm_min(count, swm_max(r->dropped - first, 0));
    const uint8_t *rgb = c->frames + (size_t)skipped * (size_t)job->width * (size_t)job->height * 3;
    if (r->frames == NULL || skipped == count) return 0;
    if (r->frames(c->events->user, first + skipped - r->dropped, count - skipped, rgb, job->width, job->height) == 0)
        return 0;
    return swm_fail(c->error, "stopped by the receiver of frames");
}

/* Finished frames to bytes and out. */
static int emit_frames(void *user, swm_backend *b, int64_t first, swm_tensor frames)
{
    const receiver *r = user;
    swm_clip *c = r->clip;
    int64_t count = frames.shape[0];
    swm_mark mark = swm_mark_of(b);
    swm_tensor pixels = swm_pixels(b, frames, c->job->reference_exact);
    if (c->planning) {
        swm_release(b, mark);
        return 0;
    }
    if (make_room(c, count) != 0) return -1;
    swm_download_bytes(b, c->frames, pixels);
    swm_release(b, mark);
    if (swm_backend_check(b, c->error) != 0) return -1;
    c->done_flops += c->plan[c->stage].pass.flops * (double)count / (double)c->job->frames;
    swm_clip_report(c, first + count, c->job->frames, NULL);
    return hand_out(r, first, count);
}

/* (C,T,h,w) to denormalised (T,h,w,C). */
static void fill_denormalised(const void *user, float *values)
{
    const swm_clip *c = user;
    swm_latent_shape s = c->job->latent;
    int64_t positions = s.frames * s.height * s.width;
    for (int64_t channel = 0; channel < s.channels; channel++)
        for (int64_t i = 0; i < positions; i++) values[i * s.channels + channel] = c->latent[channel * positions + i];
    swm_vae_denormalise(c->job->checkpoint->vae, values, positions);
}

static int decode(swm_clip *c, swm_backend *b, receiver *r)
{
    const swm_job *job = c->job;
    swm_latent_shape s = job->latent;
    swm_vae_tiling tiling = swm_job_tiling(job);
    swm_mark mark = swm_mark_of(b);
    swm_tensor latent = swm_upload_computed(b, b->compute, fill_denormalised, c, 4,
                                            (int64_t[]){s.frames, s.height, s.width, s.channels});
    int result = swm_vae_decode(b, job->checkpoint->vae, latent, &tiling, emit_frames, r);
    swm_release(b, mark);
    if (c->planning) return result;
    return swm_backend_check(b, c->error) != 0 ? -1 : result;
}

static size_t weights(const swm_job *job) { return swm_stage_weights(job->checkpoint->vae_weights, "decoder."); }

static int run(swm_clip *c, swm_backend *b)
{
    receiver r = {.clip = c, .dropped = swm_job_dropped(c->job), .frames = c->events->frames};
    return decode(c, b, &r);
}

const swm_stage_entry swm_decode_stage = {.name = "decode", .weights = weights, .run = run};

/* ---- the unrefined clip, to be looked at --------------------------------------------------------------------------- */

static int run_stage1(swm_clip *c, swm_backend *b)
{
    receiver r = {.clip = c, .frames = c->events->stage1_frames};
    return decode(c, b, &r);
}

static bool stage1_wanted(const swm_job *job) { return job->show_stage1; }

const swm_stage_entry swm_decode_stage1_stage = {
    .name = "decode_stage1", .wanted = stage1_wanted, .weights = weights, .run = run_stage1};
