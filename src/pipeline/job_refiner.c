/* The second stage's half of a job, and jobs that begin with the first stage's result. */
#include "pipeline/job.h"

#include "core/file.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

enum { LARGEST_WINDOW = 1 << 10 };

int swm_job_copy_output(char **to, const char *path, swm_error *error)
{
    *to = NULL;
    if (path == NULL) return 0;
    swm_output output;
    if (swm_output_open(&output, path, error) != 0) return -1;
    swm_output_abandon(&output);
    *to = swm_copy_string(error, path);
    return *to != NULL ? 0 : -1;
}

/* ---- a given latent ----------------------------------------------------------------------------------------------- */

static int refuse_first_stage(const swm_request *request, swm_error *error)
{
    const struct {
        const char *name;
        bool given;
    } options[] = {
        {"a picture", request->image != NULL || request->image_rgb != NULL},
        {"an action", request->action != NULL},
        {"a camera path", request->camera != NULL || request->poses != NULL},
        {"intrinsics", request->intrinsics != NULL || request->intrinsics_values != NULL || request->fov != 0},
        {"a file of prompt embeddings", request->prompt_embeddings != NULL || request->save_prompt_embeddings != NULL},
        {"a file for latents", request->save_latents != NULL},
    };
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (options[i].given)
            return swm_fail(error, "latents and %s were given; latents already hold what the first stage makes",
                            options[i].name);
    return 0;
}

/* The same latent space is all that is needed, which only a person can vouch for. */
static void compare_vae(const swm_job *job, const swm_events *events)
{
    char hex[65];
    swm_error error = {0};
    cJSON *run = cJSON_Parse(job->origin);
    const cJSON *vae = cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(run, "model"), "vae");
    const char *theirs = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(vae, "fingerprint"));
    if (theirs != NULL && swm_weights_fingerprint(job->checkpoint->vae_weights, hex, &error) == 0 &&
        strcmp(hex, theirs) != 0)
        swm_job_notice(events, "the latents were made with another VAE than the one in %s",
                       job->checkpoint->layout.vae);
    cJSON_Delete(run);
}

int swm_job_resolve_latents(swm_job *job, const swm_request *request, const swm_events *events, swm_error *error)
{
    if (refuse_first_stage(request, error) != 0) return -1;
    job->latents = swm_copy_string(error, request->latents);
    if (job->latents == NULL || swm_latents_load(job, request->latents, error) != 0) return -1;
    compare_vae(job, events);
    if (request->fps != 0) job->fps = request->fps;
    if (request->prompt == NULL) return 0;
    free(job->prompt);
    job->prompt = swm_prompt_clean("prompt", request->prompt, strlen(request->prompt), error);
    return job->prompt != NULL ? 0 : -1;
}

/* ---- the second stage --------------------------------------------------------------------------------------------- */

static int resolve_prompt(swm_job *job, const swm_request *request, swm_error *error)
{
    swm_job_refiner *r = &job->refiner;
    const swm_checkpoint *c = job->checkpoint;
    const char *path = request->refiner_prompt_embeddings, *save = request->save_refiner_prompt_embeddings;
    if (path != NULL && save != NULL)
        return swm_fail(error, "the refiner's prompt embeddings are to be read and saved; pass one of them");
    if (path != NULL) {
        r->prompt_embeddings = swm_copy_string(error, path);
        if (r->prompt_embeddings == NULL) return -1;
        return swm_refiner_prompt_load(&r->prompt, path, 0, c->refiner.transformer->config.caption_channels, error);
    }
    if (swm_refiner_can_encode(c, error) != 0) return -1;
    /* The words behind the first stage's embeddings serve the second stage too. */
    const char *text = job->prompt != NULL ? job->prompt : job->conditional.text;
    if (text == NULL || text[0] == '\0')
        return swm_fail(error, "the refiner needs a prompt; pass --prompt or --refiner-prompt-embeddings");
    r->text = swm_copy_string(error, text);
    return r->text != NULL ? swm_job_copy_output(&r->save_prompt_embeddings, save, error) : -1;
}

/* One shot, or blocks behind a window of the sink and a history. A size of either means blocks. */
static int resolve_mode(swm_job *job, const swm_request *request, swm_error *error)
{
    swm_job_refiner *r = &job->refiner;
    bool sized = request->refiner_block != 0 || request->refiner_window != 0;
    bool blocks = request->refiner_mode == SWM_REFINER_BLOCKS ||
                  (request->refiner_mode == SWM_REFINER_AUTO && (sized || job->checkpoint->layout.refiner_streaming));
    int64_t block = request->refiner_block != 0 ? request->refiner_block : SWM_REFINER_BLOCK;
    int64_t window = request->refiner_window != 0 ? request->refiner_window : SWM_REFINER_WINDOW;
    if (!blocks && sized)
        return swm_fail(error, "a block or a window was given for a refiner in one shot; pass --refiner-mode blocks");
    if (block < 1 || block > LARGEST_WINDOW)
        return swm_fail(error, "refinement in blocks of %lld frames was asked for; 1 to %d are possible",
                        (long long)block, LARGEST_WINDOW);
    if (window < 1 || window > LARGEST_WINDOW)
        return swm_fail(error, "a refiner's window of %lld frames was asked for; 1 (the sink alone) to %d are possible",
                        (long long)window, LARGEST_WINDOW);
    if (request->refiner_sink != 0 && request->refiner_sink != 1)
        return swm_fail(error, "a sink of %lld frames was asked for; the refiner has one of 1, the given picture",
                        (long long)request->refiner_sink);
    if (!blocks) return 0;
    r->how.block = block;
    r->history = swm_min(window - 1, job->latent.frames - 1);
    r->how.history = r->history > 0;
    return 0;
}

int swm_job_resolve_refiner(swm_job *job, const swm_request *request, swm_error *error)
{
    swm_job_refiner *r = &job->refiner;
    if (!r->wanted) {
        if (request->refiner_prompt_embeddings == NULL && request->save_refiner_prompt_embeddings == NULL) return 0;
        return swm_fail(error, "embeddings for the refiner were named, and no refiner is there or wanted");
    }
    r->seed = request->refiner_seed;
    r->how = swm_refinement_defaults();
    if (request->refiner_sigmas != NULL && swm_refinement_parse_sigmas(&r->how, request->refiner_sigmas, error) != 0)
        return -1;
    if (job->latent.frames < 2)
        return swm_fail(error, "a clip of one frame has nothing to refine; ask for 9 or more, or pass --no-refiner");
    return resolve_mode(job, request, error) != 0 ? -1 : resolve_prompt(job, request, error);
}
