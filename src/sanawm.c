/* The public API of sanawm.h over checkpoint.h, pipeline.h and io/video.h. */
#include "sanawm.h"

#include "core/file.h"
#include "io/video.h"
#include "pipeline.h"

#include <stdlib.h>
#include <string.h>

struct swm_model {
    swm_checkpoint checkpoint;
};

const char *swm_version(void) { return SWM_VERSION; }

static void hand_over(swm_message *message, const swm_error *error)
{
    _Static_assert(sizeof(swm_message) == sizeof(swm_error), "messages are handed over whole");
    if (message != NULL) memcpy(message->text, error->text, sizeof message->text);
}

swm_model *swm_model_open(const char *directory, const swm_model_options *options, swm_message *message)
{
    static const swm_model_options defaults;
    const swm_model_options *o = options != NULL ? options : &defaults;
    swm_error error = {0};
    swm_model *model = swm_allocate(&error, 1, sizeof *model);
    if (model != NULL &&
        swm_checkpoint_open(&model->checkpoint, directory, o->dit, o->text_encoder, o->softcap, &error) != 0) {
        free(model);
        model = NULL;
    }
    hand_over(message, &error);
    return model;
}

void swm_model_close(swm_model *model)
{
    if (model == NULL) return;
    swm_checkpoint_close(&model->checkpoint);
    free(model);
}

swm_request swm_request_defaults(const swm_model *model)
{
    const swm_pipeline_config *config = &model->checkpoint.config;
    swm_request request = {
        .frames = 0, .fps = 16, .steps = 60, .guidance = model->checkpoint.tokenizer != NULL ? 5 : 1, .seed = 42,
        .flow_shift = config->inference_flow_shift > 0 ? config->inference_flow_shift : config->flow_shift,
        .tiling = SWM_TILES_TEMPORAL,
    };
    swm_checkpoint_video_size(config, &request.width, &request.height);
    return request;
}

static int generate(const swm_model *model, const swm_request *request, const swm_events *events, char **sidecar,
                    swm_error *error)
{
    swm_job job;
    swm_run_report report;
    int result = swm_job_resolve(&job, &model->checkpoint, request, events, error);
    if (result == 0) result = swm_pipeline_run(&job, events, request->threads, &report, error);
    if (result == 0 && sidecar != NULL) {
        *sidecar = swm_sidecar(&job, &report, error);
        if (*sidecar == NULL) result = -1;
    }
    swm_job_free(&job);
    return result;
}

int swm_generate(const swm_model *model, const swm_request *request, const swm_events *events, char **sidecar,
                 swm_message *message)
{
    swm_error error = {0};
    if (sidecar != NULL) *sidecar = NULL;
    int result = generate(model, request, events, sidecar, &error);
    hand_over(message, &error);
    return result;
}

/* ---- into a file --------------------------------------------------------------------------------------------------------- */

/* Frames on their way into a video, which is opened with the first of them, when its size is known. */
typedef struct recording {
    const char *path;
    swm_video_options options;
    const swm_events *events; /* the caller's; may be NULL */
    swm_video *video;
    swm_error error; /* of the video */
} recording;

static int record_frames(void *user, int64_t first, int64_t count, const uint8_t *rgb, int width, int height)
{
    recording *r = user;
    r->options.width = width;
    r->options.height = height;
    if (r->video == NULL) r->video = swm_video_open(r->path, &r->options, &r->error);
    if (r->video == NULL) return -1;
    for (int64_t i = 0; i < count; i++)
        if (swm_video_write(r->video, rgb + (size_t)i * (size_t)width * (size_t)height * 3, &r->error) != 0) return -1;
    if (r->events == NULL || r->events->frames == NULL) return 0;
    return r->events->frames(r->events->user, first, count, rgb, width, height);
}

static void pass_notice(void *user, const char *text)
{
    recording *r = user;
    r->events->notice(r->events->user, text);
}

static void pass_progress(void *user, const swm_progress *progress)
{
    recording *r = user;
    r->events->progress(r->events->user, progress);
}

static bool pass_stop(void *user)
{
    recording *r = user;
    return r->events->stop(r->events->user);
}

/* "clip.mp4" -> "clip.json"; a directory of pictures "clip" -> "clip.json" too. */
static char *sidecar_path(const char *path, swm_error *error)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/') length--;
    size_t stem = length;
    for (size_t i = length; i > 0 && path[i - 1] != '/'; i--)
        if (path[i - 1] == '.' && i - 1 > 0 && path[i - 2] != '/') {
            stem = i - 1;
            break;
        }
    return swm_format(error, "%.*s.json", (int)stem, path);
}

/* A place that cannot be written is found out now and not after an hour. */
static int check_writable(const char *path, swm_error *error)
{
    swm_output probe;
    char *name = swm_format(error, "%s.json", path);
    int result = name != NULL ? swm_output_open(&probe, name, error) : -1;
    if (result == 0) swm_output_abandon(&probe);
    free(name);
    return result;
}

int swm_generate_file(const swm_model *model, const swm_request *request, const swm_output_options *output,
                      const swm_events *events, swm_message *message)
{
    recording r = {.path = output->path, .events = events};
    swm_error error = {0};
    char *sidecar = NULL, *beside = NULL;
    swm_events own = {
        .user = &r,
        .frames = record_frames,
        .notice = events != NULL && events->notice != NULL ? pass_notice : NULL,
        .progress = events != NULL && events->progress != NULL ? pass_progress : NULL,
        .stop = events != NULL && events->stop != NULL ? pass_stop : NULL,
    };
    r.options = (swm_video_options){
        .fps = request->fps != 0 ? request->fps : 16,
        .quality = output->quality > 0 ? output->quality : -1,
        .threads = request->threads,
        .comment = "sana-wm.c " SWM_VERSION,
    };
    int result = output->path == NULL ? swm_fail(&error, "no output was named; pass one with --output") : 0;
    if (result == 0)
        result = swm_video_codec_from_name(output->codec != NULL ? output->codec : "h264", &r.options.codec, &error);
    if (result == 0) result = check_writable(output->path, &error);
    if (result == 0 && !output->no_sidecar) {
        beside = sidecar_path(output->path, &error);
        if (beside == NULL) result = -1;
    }
    if (result == 0) result = generate(model, request, &own, &sidecar, &error);
    if (swm_failed(&r.error)) error = r.error; /* the video's words say more than that frames were refused */
    if (result == 0) {
        result = swm_video_finish(r.video, &error);
        r.video = NULL;
    }
    if (result == 0 && beside != NULL) result = swm_file_write(beside, sidecar, strlen(sidecar), &error);
    swm_video_abort(r.video);
    free(beside);
    free(sidecar);
    hand_over(message, &error);
    return result;
}
