/* The JSON text that goes beside a video: everything needed to make it again, and how long it took. */
#include "pipeline.h"

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

/* Fingerprints of the weights; a part that the run did not read is left out. */
static int add_model(cJSON *root, const swm_checkpoint *c, swm_error *error)
{
    cJSON *model = cJSON_AddObjectToObject(root, "model");
    const swm_weights *parts[] = {c->dit_weights, c->vae_weights, c->text_weights};
    static const char *const names[] = {"dit", "vae", "text_encoder"};
    cJSON_AddStringToObject(model, "directory", c->layout.directory);
    cJSON_AddStringToObject(model, "name", c->config.model);
    for (int i = 0; i < 3; i++) {
        char hex[65];
        if (parts[i] == NULL) continue;
        if (swm_weights_fingerprint(parts[i], hex, error) != 0) return -1;
        cJSON *part = cJSON_AddObjectToObject(model, names[i]);
        cJSON_AddStringToObject(part, "path", swm_weights_path(parts[i]));
        cJSON_AddStringToObject(part, "fingerprint", hex);
    }
    return 0;
}

static void add_settings(cJSON *root, const swm_job *job)
{
    static const char *const tilings[] = {"none", "temporal", "both"};
    cJSON *s = cJSON_AddObjectToObject(root, "settings");
    char seed[24];
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)job->seed); /* JSON numbers end at 2^53 */
    cJSON_AddStringToObject(s, "seed", seed);
    cJSON_AddStringToObject(s, "noise", job->noise == SWM_NOISE_TORCH ? "torch" : "frame");
    cJSON_AddStringToObject(s, "sampler", swm_sampler_name(job->sampling.sampler));
    cJSON_AddNumberToObject(s, "steps", job->sampling.steps);
    cJSON_AddNumberToObject(s, "flow_shift", job->sampling.shift);
    cJSON_AddNumberToObject(s, "guidance", job->guidance);
    cJSON_AddNumberToObject(s, "chunks", job->sampling.chunks.count);
    cJSON_AddStringToObject(s, "tiles", tilings[job->tiling]);
    cJSON_AddBoolToObject(s, "reference_exact", job->reference_exact);
}

static void add_timings(cJSON *root, const swm_run_report *report)
{
    cJSON *timings = cJSON_AddObjectToObject(root, "seconds"), *memory = cJSON_AddObjectToObject(root, "scratch_bytes");
    for (int stage = 0; stage < SWM_STAGE_COUNT; stage++) {
        cJSON_AddNumberToObject(timings, swm_stage_name((swm_stage)stage), report->seconds[stage]);
        cJSON_AddNumberToObject(memory, swm_stage_name((swm_stage)stage), (double)report->scratch[stage]);
    }
}

static int fill(cJSON *root, const swm_job *job, const swm_run_report *report, swm_error *error)
{
    char now[32];
    time_t seconds = time(NULL);
    struct tm utc;
    strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&seconds, &utc));
    cJSON_AddStringToObject(root, "program", "sana-wm.c " SWM_VERSION);
    cJSON_AddStringToObject(root, "created", now);
    if (add_model(root, job->checkpoint, error) != 0) return -1;
    cJSON_AddStringToObject(root, "device", report->device);
    cJSON_AddNumberToObject(root, "width", job->width);
    cJSON_AddNumberToObject(root, "height", job->height);
    cJSON_AddNumberToObject(root, "frames", (double)job->frames);
    cJSON_AddNumberToObject(root, "fps", job->fps);
    if (job->prompt != NULL) cJSON_AddStringToObject(root, "prompt", job->prompt);
    if (job->prompt != NULL) cJSON_AddStringToObject(root, "negative_prompt", job->negative_prompt);
    if (job->prompt_embeddings != NULL) cJSON_AddStringToObject(root, "prompt_embeddings", job->prompt_embeddings);
    add_settings(root, job);
    add_timings(root, report);
    cJSON_AddStringToObject(root, "camera", job->camera_source);
    cJSON_AddStringToObject(root, "intrinsics_source", job->intrinsics_source);
    cJSON_AddStringToObject(root, "convention",
                            "c2w: camera to world, 4x4 row-major, relative to frame 0, OpenCV axes (x right, y down, z "
                            "forward); intrinsics: fx, fy, cx, cy in pixels of the video");
    cJSON_AddItemToObject(root, "c2w", rows(job->poses.c2w, job->frames, 16));
    cJSON_AddItemToObject(root, "intrinsics", rows(job->intrinsics.values, job->frames, 4));
    return 0;
}

char *swm_sidecar(const swm_job *job, const swm_run_report *report, swm_error *error)
{
    cJSON *root = cJSON_CreateObject();
    char *text = NULL;
    if (root != NULL && fill(root, job, report, error) == 0) {
        text = cJSON_PrintUnformatted(root);
        if (text == NULL) swm_fail(error, "out of memory while the sidecar was written");
    }
    cJSON_Delete(root);
    return text;
}
