/* The JSON text that goes beside a video: everything needed to make it again, and how long it took. */
#include "pipeline/pipeline.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <time.h>

static cJSON *numbers(const float *values, int64_t count)
{
    cJSON *array = cJSON_CreateArray();
    for (int64_t i = 0; array != NULL && i < count; i++)
        cJSON_AddItemToArray(array, cJSON_CreateNumber((double)values[i]));
    return array;
}

static cJSON *rows(const float *values, int64_t count, int64_t width)
{
    cJSON *array = cJSON_CreateArray();
    for (int64_t i = 0; array != NULL && i < count; i++)
        cJSON_AddItemToArray(array, numbers(values + i * width, width));
    return array;
}

static int add_part(cJSON *model, const char *name, const swm_weights *weights, swm_error *error)
{
    char hex[65];
    if (weights == NULL) return 0;
    if (swm_weights_fingerprint(weights, hex, error) != 0) return -1;
    cJSON *part = cJSON_AddObjectToObject(model, name);
    cJSON_AddStringToObject(part, "path", swm_weights_path(weights));
    cJSON_AddStringToObject(part, "fingerprint", hex);
    return 0;
}

/* Fingerprints of the weights; a part that the run did not read is left out. */
static int add_model(cJSON *root, const swm_job *job, bool refined, swm_error *error)
{
    const swm_checkpoint *c = job->checkpoint;
    const swm_refiner_parts *r = &c->refiner;
    bool encoded = refined && job->refiner.text != NULL;
    cJSON *model = cJSON_AddObjectToObject(root, "model");
    cJSON_AddStringToObject(model, "directory", c->layout.directory);
    cJSON_AddStringToObject(model, "name", c->config.model);
    if (job->latents == NULL && (add_part(model, "dit", c->dit_weights, error) != 0 ||
                                 add_part(model, "text_encoder", c->text_weights, error) != 0))
        return -1;
    if (add_part(model, "vae", c->vae_weights, error) != 0) return -1;
    if (refined && add_part(model, "refiner", r->transformer_weights, error) != 0) return -1;
    if (!encoded) return 0;
    return add_part(model, "connectors", r->connector_weights, error) != 0
               ? -1
               : add_part(model, "refiner_text_encoder", r->text_weights, error);
}

/* A 64-bit number as text: JSON's own end at 2^53. */
static void add_seed(cJSON *root, uint64_t seed)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)seed);
    cJSON_AddStringToObject(root, "seed", text);
}

static void add_settings(cJSON *root, const swm_job *job)
{
    static const char *const tilings[] = {"none", "temporal", "both"};
    cJSON *s = cJSON_AddObjectToObject(root, "settings");
    cJSON_AddStringToObject(s, "tiles", tilings[job->tiling]);
    cJSON_AddBoolToObject(s, "reference_exact", job->reference_exact);
    if (job->latents != NULL) return;
    add_seed(s, job->seed);
    cJSON_AddStringToObject(s, "noise", job->noise == SWM_NOISE_TORCH ? "torch" : "frame");
    cJSON_AddStringToObject(s, "sampler", swm_sampler_name(job->sampling.sampler));
    cJSON_AddNumberToObject(s, "steps", job->sampling.steps);
    cJSON_AddNumberToObject(s, "flow_shift", job->sampling.shift);
    cJSON_AddNumberToObject(s, "guidance", job->guidance);
    cJSON_AddNumberToObject(s, "chunks", job->sampling.chunks.count);
}

static void add_refiner(cJSON *root, const swm_job *job)
{
    const swm_job_refiner *r = &job->refiner;
    cJSON *s = cJSON_AddObjectToObject(root, "refiner");
    cJSON_AddStringToObject(s, "mode", r->how.block > 0 ? "blocks" : "one-shot");
    if (r->how.block > 0) {
        cJSON_AddNumberToObject(s, "block", (double)r->how.block);
        cJSON_AddNumberToObject(s, "window", (double)(1 + r->history));
    }
    add_seed(s, r->seed);
    cJSON_AddStringToObject(s, "noise", job->noise == SWM_NOISE_TORCH ? "torch" : "frame");
    cJSON_AddItemToObject(s, "sigmas", numbers(r->how.sigmas, r->how.steps + 1));
    cJSON_AddStringToObject(s, "prompt", r->text != NULL ? r->text : r->prompt.text);
    if (r->prompt_embeddings != NULL) cJSON_AddStringToObject(s, "prompt_embeddings", r->prompt_embeddings);
}

static void add_timings(cJSON *root, const swm_job *job, const swm_run_report *report)
{
    cJSON *timings = cJSON_AddObjectToObject(root, "seconds"), *memory = cJSON_AddObjectToObject(root, "scratch_bytes");
    for (int stage = 0; stage < SWM_STAGE_COUNT; stage++) {
        if (!swm_stage_wanted(job, (swm_stage)stage)) continue;
        cJSON_AddNumberToObject(timings, swm_stage_name((swm_stage)stage), report->seconds[stage]);
        cJSON_AddNumberToObject(memory, swm_stage_name((swm_stage)stage), (double)report->scratch[stage]);
    }
}

static void add_time(cJSON *root)
{
    char now[32];
    time_t seconds = time(NULL);
    struct tm utc;
    strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&seconds, &utc));
    cJSON_AddStringToObject(root, "program", "sana-wm.c " SWM_VERSION);
    cJSON_AddStringToObject(root, "created", now);
}

/* What was asked for, with a video of `frames` frames. */
static int add_request(cJSON *root, const swm_job *job, int64_t frames, bool refined, swm_error *error)
{
    if (add_model(root, job, refined, error) != 0) return -1;
    cJSON_AddNumberToObject(root, "width", job->width);
    cJSON_AddNumberToObject(root, "height", job->height);
    cJSON_AddNumberToObject(root, "frames", (double)frames);
    cJSON_AddNumberToObject(root, "fps", job->fps);
    if (job->prompt != NULL) cJSON_AddStringToObject(root, "prompt", job->prompt);
    if (job->encode_prompt) cJSON_AddStringToObject(root, "negative_prompt", job->negative_prompt);
    if (job->prompt_embeddings != NULL) cJSON_AddStringToObject(root, "prompt_embeddings", job->prompt_embeddings);
    add_settings(root, job);
    if (refined) add_refiner(root, job);
    cJSON_AddStringToObject(root, "camera", job->camera_source);
    cJSON_AddStringToObject(root, "intrinsics_source", job->intrinsics_source);
    return 0;
}

static int fill(cJSON *root, const swm_job *job, const swm_run_report *report, swm_error *error)
{
    int64_t first = swm_job_dropped(job), frames = job->frames - first;
    add_time(root);
    cJSON_AddStringToObject(root, "device", report->device);
    if (add_request(root, job, frames, job->refiner.wanted, error) != 0) return -1;
    if (job->latents != NULL) {
        cJSON_AddStringToObject(root, "latents", job->latents);
        cJSON_AddItemToObject(root, "stage1", cJSON_Parse(job->origin));
    }
    add_timings(root, job, report);
    cJSON_AddStringToObject(root, "convention",
                            "c2w: camera to world, 4x4 row-major, relative to the given picture's, OpenCV axes (x "
                            "right, y down, z forward); intrinsics: fx, fy, cx, cy in pixels of the video");
    cJSON_AddItemToObject(root, "c2w", rows(job->poses.c2w + 16 * first, frames, 16));
    cJSON_AddItemToObject(root, "intrinsics", rows(job->intrinsics.values + 4 * first, frames, 4));
    return 0;
}

static char *print(cJSON *root, swm_error *error)
{
    char *text = cJSON_PrintUnformatted(root);
    if (text == NULL) swm_fail(error, "out of memory while a run was described");
    return text;
}

char *swm_sidecar_settings(const swm_job *job, swm_error *error)
{
    cJSON *root = cJSON_CreateObject();
    add_time(root);
    char *text = add_request(root, job, job->frames, false, error) == 0 ? print(root, error) : NULL;
    cJSON_Delete(root);
    return text;
}

char *swm_sidecar(const swm_job *job, const swm_run_report *report, swm_error *error)
{
    cJSON *root = cJSON_CreateObject();
    char *text = fill(root, job, report, error) == 0 ? print(root, error) : NULL;
    cJSON_Delete(root);
    return text;
}
