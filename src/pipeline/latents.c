/* Latents of the first stage as files, so that a clip can be refined, or only decoded, without making it again. */
#include "pipeline/pipeline.h"

#include "io/json.h"
#include "io/safetensors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FORMAT  "sana-wm latents"
#define VERSION "1"

enum { LARGEST_DESCRIPTION = 1 << 20 };

int swm_latents_save(const char *path, const swm_job *job, const float *latent, const char *run, swm_error *error)
{
    swm_latent_shape s = job->latent;
    const char *const names[] = {"latent", "c2w", "intrinsics"};
    const swm_tensor tensors[] = {
        SWM_TENSOR(SWM_F32, (void *)(uintptr_t)latent, s.channels, s.frames, s.height, s.width),
        SWM_TENSOR(SWM_F32, job->poses.c2w, job->frames, 4, 4),
        SWM_TENSOR(SWM_F32, job->intrinsics.values, job->frames, 4),
    };
    const char *const metadata[] = {"format", FORMAT, "version", VERSION, "run", run, NULL};
    return swm_safetensors_save(path, 3, names, tensors, metadata, error);
}

/* ---- reading ------------------------------------------------------------------------------------------------------ */

/* A tensor of this name, F32, of finite numbers; a size of -1 in `shape` may be any. NULL on failure. */
static const swm_tensor *find(const swm_safetensors *file, const char *path, const char *name, int rank,
                              const int64_t *shape, swm_error *error)
{
    const swm_tensor *t = swm_safetensors_find(file, name);
    bool good = t != NULL && t->dtype == SWM_F32 && t->rank == rank && swm_count(*t) > 0;
    for (int i = 0; good && i < rank; i++) good = shape[i] < 0 || t->shape[i] == shape[i];
    if (!good) {
        swm_tensor expected = {.rank = rank};
        memcpy(expected.shape, shape, (size_t)rank * sizeof *shape);
        swm_fail(error, "%s: tensor %s is %s, expected F32 %s (-1: any); is it for this model?", path, name,
                 t != NULL ? swm_describe(*t).text : "not there", swm_describe(expected).text);
        return NULL;
    }
    const float *values = t->data;
    for (int64_t i = 0; i < swm_count(*t); i++)
        if (!isfinite(values[i])) {
            swm_fail(error, "%s: tensor %s has a value that is not finite", path, name);
            return NULL;
        }
    return t;
}

static int check_format(const swm_safetensors *file, const char *path, swm_error *error)
{
    const char *format = swm_safetensors_metadata(file, "format"), *version = swm_safetensors_metadata(file, "version");
    if (format == NULL || strcmp(format, FORMAT) != 0)
        return swm_fail(error, "%s: holds no latents; expected a file that --save-latents has written", path);
    if (version == NULL || strcmp(version, VERSION) != 0)
        return swm_fail(error, "%s: is of version %s, expected %s", path, version != NULL ? version : "(none)",
                        VERSION);
    return 0;
}

static int take_latent(swm_job *job, const swm_safetensors *file, const char *path, swm_error *error)
{
    const int64_t shape[] = {job->latent.channels, -1, -1, -1};
    const swm_tensor *t = find(file, path, "latent", 4, shape, error);
    if (t == NULL) return -1;
    for (int i = 1; i < 4; i++)
        if (t->shape[i] < (i == 1 ? 1 : 2) || t->shape[i] > (i == 1 ? 1 << 17 : 1 << 8))
            return swm_fail(error, "%s: a latent of %s is smaller or larger than any clip (64 to 8192 pixels a side)",
                            path, swm_describe(*t).text);
    job->latent = (swm_latent_shape){t->shape[0], t->shape[1], t->shape[2], t->shape[3]};
    job->frames = 8 * (job->latent.frames - 1) + 1;
    job->height = (int)job->latent.height * 32;
    job->width = (int)job->latent.width * 32;
    job->given = swm_allocate(error, (size_t)swm_latent_count(job->latent), sizeof(float));
    if (job->given == NULL) return -1;
    memcpy(job->given, t->data, swm_bytes(*t));
    return 0;
}

static int take_camera(swm_job *job, const swm_safetensors *file, const char *path, swm_error *error)
{
    const swm_tensor *c2w = find(file, path, "c2w", 3, (int64_t[]){job->frames, 4, 4}, error);
    const swm_tensor *k = c2w != NULL ? find(file, path, "intrinsics", 2, (int64_t[]){job->frames, 4}, error) : NULL;
    if (k == NULL || swm_poses_create(&job->poses, job->frames, error) != 0 ||
        swm_intrinsics_create(&job->intrinsics, job->frames, error) != 0)
        return -1;
    memcpy(job->poses.c2w, c2w->data, swm_bytes(*c2w));
    memcpy(job->intrinsics.values, k->data, swm_bytes(*k));
    swm_error why = {0};
    return swm_poses_check(&job->poses, &why) == 0 ? 0 : swm_fail(error, "%s: tensor c2w: %s", path, why.text);
}

/* What the run that made it says of itself. */
static int take_run(swm_job *job, const swm_safetensors *file, const char *path, swm_error *error)
{
    const char *text = swm_safetensors_metadata(file, "run"), *prompt, *camera, *source;
    if (text == NULL || strlen(text) > LARGEST_DESCRIPTION)
        return swm_fail(error, "%s: its metadata does not tell the run that made it", path);
    cJSON *tree = swm_json_parse(path, text, strlen(text), error);
    swm_json run;
    int result = -1;
    if (tree != NULL && swm_json_root(&run, path, tree, error) == 0 &&
        swm_json_number(run, "fps", 1, 1000, &job->fps, error) == 0 &&
        swm_json_string_or(run, "prompt", "", &prompt, error) == 0 &&
        swm_json_string_or(run, "camera", "", &camera, error) == 0 &&
        swm_json_string_or(run, "intrinsics_source", "", &source, error) == 0) {
        if (prompt[0] != '\0') job->prompt = swm_copy_string(error, prompt);
        job->camera_source = swm_copy_string(error, camera);
        job->intrinsics_source = swm_copy_string(error, source);
        job->origin = swm_copy_string(error, text);
        result = swm_failed(error) ? -1 : 0;
    }
    cJSON_Delete(tree);
    return result;
}

/* Takes the file over. */
static int load(swm_job *job, swm_safetensors *file, const char *path, swm_error *error)
{
    int result = file != NULL ? check_format(file, path, error) : -1;
    if (result == 0) result = take_latent(job, file, path, error);
    if (result == 0) result = take_camera(job, file, path, error);
    if (result == 0) result = take_run(job, file, path, error);
    swm_safetensors_close(file);
    return result;
}

int swm_latents_load(swm_job *job, const char *path, swm_error *error)
{
    return load(job, swm_safetensors_open(path, error), path, error);
}

int swm_latents_load_memory(swm_job *job, const void *data, size_t size, const char *name, swm_error *error)
{
    return load(job, swm_safetensors_open_memory(data, size, name, error), name, error);
}
