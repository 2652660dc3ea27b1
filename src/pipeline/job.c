/* From a request to a job: every check that needs no network, every default, and the host data that the stages read. The
 * second stage's part of it is in job_refiner.c. */
#include "pipeline/job.h"

#include "camera/action.h"
#include "camera/trajectory.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_FRAMES = 161, DEFAULT_STEPS = 60, DEFAULT_FPS = 16, LARGEST_SIDE = 8192 };
static const double default_fov = 60, default_guidance = 5;

void swm_job_notice(const swm_events *events, const char *format, ...)
{
    if (events == NULL || events->notice == NULL) return;
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    events->notice(events->user, text);
}

/* ---- picture ------------------------------------------------------------------------------------------------------- */

static int resolve_size(swm_job *job, const swm_request *request, swm_error *error)
{
    swm_checkpoint_video_size(&job->checkpoint->config, &job->width, &job->height);
    if (request->width != 0 || request->height != 0) {
        job->width = request->width;
        job->height = request->height;
    }
    if (job->width < 64 || job->height < 64 || job->width % 32 != 0 || job->height % 32 != 0 ||
        job->width > LARGEST_SIDE || job->height > LARGEST_SIDE)
        return swm_fail(error, "a video of %dx%d was asked for; both sides must be multiples of 32 from 64 to %d",
                        job->width, job->height, LARGEST_SIDE);
    return 0;
}

/* The source is scaled and cropped; `fit` says how, for the intrinsics. */
static int resolve_picture(swm_job *job, const swm_request *request, swm_fit *fit, swm_error *error)
{
    swm_image source = {0};
    if (request->image != NULL) {
        if (swm_image_load(&source, request->image, error) != 0) return -1;
    } else if (request->image_rgb != NULL) {
        if (request->image_width < 1 || request->image_height < 1 || request->image_width > SWM_IMAGE_SIDE ||
            request->image_height > SWM_IMAGE_SIDE)
            return swm_fail(error, "a picture of %dx%d was given; sides of 1 to %d are possible", request->image_width,
                            request->image_height, SWM_IMAGE_SIDE);
        if (swm_image_make(&source, request->image_width, request->image_height, error) != 0) return -1;
        memcpy(source.rgb, request->image_rgb, (size_t)source.width * (size_t)source.height * 3);
    } else {
        return swm_fail(error, "no first frame was given; pass a picture with --image");
    }
    int result = swm_image_fit_to(&job->picture, fit, &source, job->width, job->height, error);
    swm_image_free(&source);
    return result;
}

/* ---- camera -------------------------------------------------------------------------------------------------------- */

static int rollout(swm_job *job, const swm_request *request, swm_error *error)
{
    const swm_key_profile *profile =
        swm_key_profile_find(request->key_profile != NULL ? request->key_profile : "current", error);
    if (profile == NULL) return -1;
    swm_motion_options options = swm_motion_defaults(profile);
    if (request->translation_speed != 0) options.translation_speed = request->translation_speed;
    if (request->rotation_speed_degrees != 0) options.rotation_speed_degrees = request->rotation_speed_degrees;
    if (swm_motion_check(&options, error) != 0) return -1;
    return swm_action_rollout(request->action, &options, &job->poses, error);
}

/* The path, and the intrinsics that its file may bring along. */
static int resolve_path(swm_job *job, const swm_request *request, swm_trajectory *with_path, swm_error *error)
{
    int given = (request->action != NULL) + (request->camera != NULL) + (request->poses != NULL);
    if (given != 1)
        return swm_fail(error, "%s; pass either --action or --camera",
                        given == 0 ? "no camera path was given" : "more than one camera path was given");
    if (request->action != NULL) {
        job->camera_source = swm_copy_string(error, request->action);
        return job->camera_source != NULL ? rollout(job, request, error) : -1;
    }
    if (request->camera != NULL) {
        job->camera_source = swm_copy_string(error, request->camera);
        if (job->camera_source == NULL || swm_trajectory_load(with_path, request->camera, error) != 0) return -1;
        job->poses = with_path->poses;
        with_path->poses = (swm_poses){0};
        return 0;
    }
    job->camera_source = swm_copy_string(error, "poses in memory");
    if (job->camera_source == NULL) return -1;
    if (request->pose_count < 1)
        return swm_fail(error, "a camera path of %lld poses was given", (long long)request->pose_count);
    if (swm_poses_create(&job->poses, request->pose_count, error) != 0) return -1;
    memcpy(job->poses.c2w, request->poses, (size_t)request->pose_count * 16 * sizeof(float));
    return 0;
}

static int resolve_length(swm_job *job, const swm_request *request, const swm_events *events, swm_error *error)
{
    if (request->frames < 0) return swm_fail(error, "%lld frames were asked for", (long long)request->frames);
    if (request->frames > job->poses.count)
        return swm_fail(
            error, "%lld frames were asked for and the camera path has %lld poses; lengthen the path or ask for %lld",
            (long long)request->frames, (long long)job->poses.count,
            (long long)swm_snap_frames(job->poses.count, job->poses.count, 8));
    int64_t wanted = request->frames > 0 ? request->frames : swm_min(DEFAULT_FRAMES, job->poses.count);
    job->frames = swm_snap_frames(wanted, job->poses.count, 8);
    if (request->frames > 0 && job->frames != request->frames)
        swm_job_notice(events, "%lld frames instead of %lld: the model makes 8k+1 of them", (long long)job->frames,
                       (long long)request->frames);
    else if (request->frames == 0 && job->frames != job->poses.count)
        swm_job_notice(events, "%lld frames: the first part of a path of %lld poses (ask for more with --frames)",
                       (long long)job->frames, (long long)job->poses.count);
    job->poses.count = job->frames;
    job->latent.frames = swm_latent_frames(job->frames);
    return swm_poses_check(&job->poses, error);
}

/* A centred camera from --fov, the picture's EXIF, or, announced, an assumption. */
static int assume_intrinsics(swm_job *job, const swm_request *request, const swm_events *events, const swm_fit *fit,
                             const char **source, swm_error *error)
{
    double fov = request->fov != 0 ? request->fov : default_fov;
    double focal = swm_focal_from_fov(fov, fit->source_width);
    *source = request->fov != 0 ? "fov" : "assumed";
    if (request->fov == 0 && request->image != NULL &&
        swm_image_exif_focal(request->image, fit->source_width, fit->source_height, &focal)) {
        *source = "exif";
        swm_job_notice(
            events, "focal length of %.0f pixels from the picture's EXIF; pass --fov or --intrinsics to set it", focal);
    } else if (request->fov == 0) {
        swm_job_notice(events,
                       "intrinsics are unknown: %g degrees across are assumed; pass --fov or --intrinsics to set them",
                       fov);
    }
    return swm_intrinsics_centred(&job->intrinsics, job->frames, focal, fit->source_width, fit->source_height, error);
}

/* Intrinsics that came with the path. A file that says for which pictures they are must mean the source picture, or, like
 * our own sidecars, the video itself: then they need no fitting any more. */
static int take_intrinsics(swm_job *job, swm_trajectory *path, swm_fit *fit, swm_error *error)
{
    bool source = path->width == 0 || (path->width == fit->source_width && path->height == fit->source_height);
    bool video = path->width == job->width && path->height == job->height;
    if (!source && !video)
        return swm_fail(error,
                        "%s: its intrinsics are for pictures of %dx%d, yours has %dx%d; pass --fov or --intrinsics",
                        job->camera_source, path->width, path->height, fit->source_width, fit->source_height);
    path->intrinsics.count = swm_min(path->intrinsics.count, job->frames);
    job->intrinsics = path->intrinsics;
    path->intrinsics = (swm_intrinsics){0};
    if (!source) *fit = (swm_fit){job->width, job->height, job->width, job->height, 0, 0};
    return 0;
}

/* Intrinsics of the source picture, one a frame. */
static int resolve_intrinsics(swm_job *job, const swm_request *request, const swm_events *events, swm_trajectory *path,
                              swm_fit *fit, swm_error *error)
{
    int given = (request->intrinsics != NULL) + (request->intrinsics_values != NULL) + (request->fov != 0);
    if (given > 1)
        return swm_fail(error, "intrinsics were given in more than one way; pass one of --intrinsics and --fov");
    if (request->fov != 0 && !(request->fov > 1 && request->fov < 179))
        return swm_fail(error, "a field of view of %g degrees was given; 1 to 179 are possible", request->fov);
    const char *source;
    int result;
    if (request->intrinsics != NULL) {
        source = "file";
        result = swm_intrinsics_load(&job->intrinsics, request->intrinsics, job->frames, error);
    } else if (request->intrinsics_values != NULL) {
        source = "values";
        double values[4];
        for (int i = 0; i < 4; i++) values[i] = (double)request->intrinsics_values[i];
        result = swm_intrinsics_from_array(&job->intrinsics, job->frames, 1, (int64_t[]){4}, values, error);
    } else if (request->fov == 0 && path->intrinsics.count > 0) {
        source = "path";
        result = take_intrinsics(job, path, fit, error);
    } else {
        result = assume_intrinsics(job, request, events, fit, &source, error);
    }
    job->intrinsics_source = swm_copy_string(error, source);
    if (result != 0 || job->intrinsics_source == NULL) return -1;
    if (job->intrinsics.count != job->frames)
        return swm_fail(error, "%lld intrinsics for %lld frames", (long long)job->intrinsics.count,
                        (long long)job->frames);
    return swm_intrinsics_check(&job->intrinsics, fit->source_width, fit->source_height, error);
}

/* What the denoiser sees of the path: poses relative to the first, intrinsics in latent cells. */
static int prepare_conditions(swm_job *job, const swm_fit *fit, swm_error *error)
{
    swm_latent_shape s = job->latent;
    swm_intrinsics_apply_fit(&job->intrinsics, fit);
    swm_poses_relativise(&job->poses);
    swm_intrinsics cells;
    if (swm_intrinsics_create(&cells, job->frames, error) != 0) return -1;
    memcpy(cells.values, job->intrinsics.values, (size_t)job->frames * 4 * sizeof(float));
    swm_intrinsics_to_latent(&cells, job->width, job->height, s.width, s.height);
    job->conditions = swm_allocate(error, (size_t)(s.frames * SWM_RAYMAP_CHANNELS), sizeof(float));
    job->plucker = swm_allocate(error, (size_t)(SWM_PLUCKER_CHANNELS * s.frames * s.height * s.width), sizeof(float));
    bool ready = job->conditions != NULL && job->plucker != NULL;
    if (ready) {
        swm_raymap(job->conditions, &job->poses, &cells, 0, s.frames);
        swm_chunk_plucker(job->plucker, &job->poses, &cells, 0, s.frames, s.height, s.width);
    }
    swm_intrinsics_free(&cells);
    return ready ? 0 : -1;
}

static int resolve_camera(swm_job *job, const swm_request *request, const swm_events *events, swm_fit fit,
                          swm_error *error)
{
    swm_trajectory path = {0};
    int result = resolve_path(job, request, &path, error);
    if (result == 0) result = resolve_length(job, request, events, error);
    if (result == 0) result = resolve_intrinsics(job, request, events, &path, &fit, error);
    if (result == 0) result = prepare_conditions(job, &fit, error);
    swm_trajectory_free(&path);
    return result;
}

/* ---- prompt and sampling --------------------------------------------------------------------------------------------- */

static int copy_text(char **to, const char *text, swm_error *error)
{
    *to = text != NULL ? swm_copy_string(error, text) : NULL;
    return text == NULL || *to != NULL ? 0 : -1;
}

/* Whose words need which encoder. */
static int check_prompt(const swm_job *job, const swm_request *request, swm_error *error)
{
    bool encoder = job->checkpoint->tokenizer != NULL;
    if (request->prompt_embeddings != NULL && (request->prompt != NULL || request->negative_prompt != NULL))
        return swm_fail(error, "a prompt and a file of prompt embeddings were given; pass one of them");
    if (request->save_prompt_embeddings != NULL && !encoder)
        return swm_fail(error, "the model in %s has no text encoder, so there are no prompt embeddings to save",
                        job->checkpoint->layout.directory);
    if (request->prompt != NULL && !encoder && !job->refiner.wanted)
        return swm_fail(error,
                        "the model in %s has no text_encoder/ and takes no prompt; leave --prompt away or pass "
                        "--text-encoder",
                        job->checkpoint->layout.directory);
    if (request->prompt == NULL && request->prompt_embeddings == NULL && encoder)
        return swm_fail(error, "no prompt was given; pass one with --prompt");
    return 0;
}

/* States that need no encoding: from a file, or the null caption. */
static int load_prompt(swm_job *job, swm_error *error)
{
    const swm_dit_size *size = &job->checkpoint->dit->size;
    int64_t tokens = job->checkpoint->config.model_max_length;
    if (job->prompt_embeddings != NULL) {
        swm_prompt_expected expected = {.tokens = tokens, .width = size->caption_channels};
        return swm_prompt_load(&job->conditional, &job->negative, job->prompt_embeddings, expected, error);
    }
    if (swm_prompt_null(&job->conditional, tokens, size->caption_channels, error) != 0) return -1;
    return swm_prompt_null(&job->negative, tokens, size->caption_channels, error);
}

/* Texts are checked here and encoded in the prompt stage. */
static int resolve_prompt(swm_job *job, const swm_request *request, swm_error *error)
{
    if (check_prompt(job, request, error) != 0) return -1;
    bool encoder = job->checkpoint->tokenizer != NULL;
    if (request->prompt != NULL) {
        job->prompt = swm_prompt_clean("prompt", request->prompt, strlen(request->prompt), error);
        if (job->prompt == NULL) return -1;
    }
    job->encode_prompt = encoder && request->prompt != NULL;
    job->guidance = request->guidance != 0                          ? request->guidance
                    : encoder || request->prompt_embeddings != NULL ? default_guidance
                                                                    : 1;
    if (!(job->guidance >= 1 && job->guidance <= 100))
        return swm_fail(error, "a guidance scale of %g was asked for; 1 (none) to 100 are possible", job->guidance);
    const char *negative = request->negative_prompt != NULL ? request->negative_prompt : "";
    if (copy_text(&job->negative_prompt, negative, error) != 0 ||
        copy_text(&job->prompt_embeddings, request->prompt_embeddings, error) != 0 ||
        swm_job_copy_output(&job->save_prompt_embeddings, request->save_prompt_embeddings, error) != 0)
        return -1;
    return job->encode_prompt ? 0 : load_prompt(job, error);
}

/* Chunks from the configuration: an explicit list, or a size and a rule; bidirectional models have one. */
static int resolve_chunks(swm_job *job, swm_error *error)
{
    const swm_pipeline_config *config = &job->checkpoint->config;
    int64_t frames = job->latent.frames;
    job->chunk_starts = swm_allocate(error, (size_t)swm_max(frames, SWM_MAX_CHUNKS), sizeof(int64_t));
    if (job->chunk_starts == NULL) return -1;
    int count = 1;
    if (config->chunk_index_count > 0) {
        for (count = 0; count < config->chunk_index_count && config->chunk_index[count] < frames; count++)
            job->chunk_starts[count] = config->chunk_index[count];
    } else if (config->chunk_size > 0) {
        count = swm_chunk_starts(config->chunk_split_strategy, config->chunk_size, frames, job->chunk_starts);
    }
    if (count < 1 || count > SWM_MAX_CHUNKS || job->chunk_starts[0] != 0)
        return swm_fail(error, "%s: %d chunks for %lld latent frames; they must start at frame 0 and be at most %d",
                        job->checkpoint->layout.config, count, (long long)frames, SWM_MAX_CHUNKS);
    job->sampling.chunks = (swm_chunks){count, job->chunk_starts};
    return 0;
}

static int resolve_sampling(swm_job *job, const swm_request *request, swm_error *error)
{
    const swm_pipeline_config *config = &job->checkpoint->config;
    bool chunked = config->chunk_size > 0 || config->chunk_index_count > 0;
    swm_sampling *s = &job->sampling;
    double shift = config->inference_flow_shift > 0 ? config->inference_flow_shift : config->flow_shift;
    s->steps = request->steps != 0 ? request->steps : DEFAULT_STEPS;
    s->shift = request->flow_shift != 0 ? request->flow_shift : shift;
    s->interval = request->chunk_interval;
    if (s->steps < 2 || s->steps > SWM_MAX_STEPS)
        return swm_fail(error, "%d sampling steps were asked for; 2 to %d are possible", s->steps, SWM_MAX_STEPS);
    if (!(s->shift > 0) || !isfinite(s->shift))
        return swm_fail(error, "a flow shift of %g was asked for; it must be above 0", s->shift);
    if (!(s->interval >= 0 && s->interval <= 1))
        return swm_fail(error, "a chunk interval of %g was asked for; it must lie between 0 and 1", s->interval);
    s->sampler = chunked ? SWM_CHUNK_FLOW_EULER : SWM_FLOW_EULER_LTX;
    if (request->sampler != NULL && swm_sampler_from_name(request->sampler, &s->sampler, error) != 0) return -1;
    if (s->sampler == SWM_CHUNK_FLOW_EULER && !chunked)
        return swm_fail(error, "chunk_flow_euler needs a chunk-causal model; %s names no chunks. Use flow_euler_ltx",
                        job->checkpoint->layout.config);
    return resolve_chunks(job, error);
}

/* ---- the whole --------------------------------------------------------------------------------------------------------- */

static int resolve_first_stage(swm_job *job, const swm_request *request, const swm_events *events, swm_error *error)
{
    swm_fit fit;
    job->fps = request->fps != 0 ? request->fps : DEFAULT_FPS;
    if (resolve_size(job, request, error) != 0 || resolve_prompt(job, request, error) != 0 ||
        resolve_picture(job, request, &fit, error) != 0)
        return -1;
    job->latent.width = job->width / 32;
    job->latent.height = job->height / 32;
    if (resolve_camera(job, request, events, fit, error) != 0 || resolve_sampling(job, request, error) != 0) return -1;
    return swm_job_copy_output(&job->save_latents, request->save_latents, error);
}

int swm_job_resolve(swm_job *job, const swm_checkpoint *checkpoint, const swm_request *request,
                    const swm_events *events, swm_error *error)
{
    *job = (swm_job){
        .checkpoint = checkpoint,
        .seed = request->seed,
        .noise = request->noise,
        .tiling = request->tiling,
        .reference_exact = request->reference_exact,
        .device = request->device,
        .vram_budget = request->vram_budget,
        .float32 = request->float32,
        .threads = request->threads,
        .latent = {.channels = checkpoint->dit->size.latent_channels},
        .refiner = {.wanted = checkpoint->refiner.transformer != NULL && !request->no_refiner},
    };
    if (request->fps != 0 && !(request->fps >= 1 && request->fps <= 1000))
        return swm_fail(error, "%g frames a second were asked for; 1 to 1000 are possible", request->fps);
    int result = request->latents != NULL ? swm_job_resolve_latents(job, request, events, error)
                                          : resolve_first_stage(job, request, events, error);
    if (result != 0) return -1;
    job->show_stage1 = job->refiner.wanted && events != NULL && events->stage1_frames != NULL;
    return swm_job_resolve_refiner(job, request, error);
}

void swm_job_free(swm_job *job)
{
    swm_image_free(&job->picture);
    swm_poses_free(&job->poses);
    swm_intrinsics_free(&job->intrinsics);
    swm_prompt_free(&job->conditional);
    swm_prompt_free(&job->negative);
    swm_refiner_prompt_free(&job->refiner.prompt);
    char *const owned[] = {job->prompt,
                           job->negative_prompt,
                           job->prompt_embeddings,
                           job->save_prompt_embeddings,
                           job->intrinsics_source,
                           job->camera_source,
                           job->refiner.text,
                           job->refiner.prompt_embeddings,
                           job->refiner.save_prompt_embeddings,
                           job->save_latents,
                           job->latents,
                           job->origin};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) free(owned[i]);
    free(job->conditions);
    free(job->plucker);
    free(job->chunk_starts);
    free(job->given);
    *job = (swm_job){0};
}
