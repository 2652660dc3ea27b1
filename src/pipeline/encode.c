/* The stage that encodes the first frame. */
#include "pipeline/clip.h"

#include <stdlib.h>

/* Bytes to -1..1, (1,H,W,3). */
static void fill_pixels(const void *user, float *values)
{
    const swm_image *picture = user;
    size_t count = (size_t)picture->width * (size_t)picture->height * 3;
    for (size_t i = 0; i < count; i++) values[i] = (float)picture->rgb[i] / 255.0f * 2.0f - 1.0f;
}

/* mean (1,h,w,C) into frame 0 of the clip, normalised. */
static int keep_latent(swm_clip *c, swm_backend *b, swm_tensor mean)
{
    swm_latent_shape s = c->job->latent;
    int64_t cells = s.height * s.width;
    float *values = swm_allocate(c->error, (size_t)(cells * s.channels), sizeof(float));
    if (values == NULL) return -1;
    swm_download(b, values, mean);
    swm_vae_normalise(c->job->checkpoint->vae, values, cells);
    for (int64_t channel = 0; channel < s.channels; channel++)
        for (int64_t cell = 0; cell < cells; cell++)
            c->latent[channel * s.frames * cells + cell] = values[cell * s.channels + channel];
    free(values);
    return swm_backend_check(b, c->error);
}

static int run(swm_clip *c, swm_backend *b)
{
    const swm_job *job = c->job;
    swm_mark mark = swm_mark_of(b);
    swm_vae_tiling tiling = swm_job_tiling(job);
    swm_tensor video =
        swm_upload_computed(b, b->compute, fill_pixels, &job->picture, 4, (int64_t[]){1, job->height, job->width, 3});
    swm_tensor mean = swm_vae_encode(b, job->checkpoint->vae, video, &tiling);
    int result = c->planning ? 0 : keep_latent(c, b, mean);
    swm_release(b, mark);
    if (c->planning || result != 0) return result;
    return swm_preview_fit(&c->preview, job->latent, c->latent, &job->picture, c->error);
}

static size_t weights(const swm_job *job) { return swm_stage_weights(job->checkpoint->vae_weights, "encoder."); }

const swm_stage_entry swm_encode_stage = {
    .name = "encode", .wanted = swm_job_has_first_stage, .weights = weights, .run = run};
