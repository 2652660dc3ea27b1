/* The public API of sanawm.h over checkpoint.h, pipeline.h and io/video.h. */
#include "sanawm.h"

#include "core/file.h"
#include "io/video.h"
#include "pipeline/pipeline.h"

#include <stdlib.h>
#include <string.h>

struct swm_model {
    swm_checkpoint checkpoint;
};

static void hand_over(swm_message *message, const swm_error *error)
{
    _Static_assert(sizeof(swm_message) == sizeof(swm_error), "messages are handed over whole");
    if (message != NULL) memcpy(message->text, error->text, sizeof message->text);
}

swm_model *swm_model_open(const char *directory, const swm_model_options *options, swm_message *message)
{
    static const swm_model_options defaults;
    const swm_model_options *o = options != NULL ? options : &defaults;
    const swm_checkpoint_options places = {
        .dit = o->dit,
        .text_encoder = o->text_encoder,
        .refiner = o->refiner,
        .with_refiner = !o->no_refiner,
        .refiner_lora = o->refiner_lora,
        .refiner_lora_strength = o->refiner_lora_strength,
        .softcap = o->softcap,
    };
    swm_error error = {0};
    swm_model *model = swm_allocate(&error, 1, sizeof *model);
    if (model != NULL && swm_checkpoint_open(&model->checkpoint, directory, &places, &error) != 0) {
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

bool swm_model_has_refiner(const swm_model *model) { return model->checkpoint.refiner.transformer != NULL; }

swm_request swm_request_defaults(const swm_model *model)
{
    const swm_pipeline_config *config = &model->checkpoint.config;
    swm_request request = {
        .frames = 0,
        .fps = 16,
        .steps = 60,
        .guidance = model->checkpoint.tokenizer != NULL ? 5 : 1,
        .seed = 42,
        .refiner_seed = 42,
        .flow_shift = config->inference_flow_shift > 0 ? config->inference_flow_shift : config->flow_shift,
        .tiling = SWM_TILES_NONE,
    };
    swm_checkpoint_video_size(config, &request.width, &request.height);
    return request;
}

/* The videos that frames go into, opened before the work begins: a place that cannot be written, or a codec that is not
 * there, is found out now and not after an hour. */
typedef struct recording {
    const char *path, *stage1_path; /* stage1_path NULL: none */
    char *sidecar_path;             /* NULL: none */
    swm_video_options options;
    const swm_events *events;  /* the caller's; may be NULL */
    swm_video *video, *stage1; /* stage1 only when there is a second stage */
    swm_error error;           /* of the videos */
} recording;

static int open_recording(recording *r, const swm_job *job, swm_error *error)
{
    r->options.width = job->width;
    r->options.height = job->height;
    r->options.fps = job->fps;
    r->video = swm_video_open(r->path, &r->options, error);
    if (r->video == NULL) return -1;
    if (!job->show_stage1 || r->stage1_path == NULL) return 0;
    r->stage1 = swm_video_open(r->stage1_path, &r->options, error);
    return r->stage1 != NULL ? 0 : -1;
}

/* No file that the run writes may take the place of another one, or of one that it reads: the loss would show only at the
 * end. A run's description is an exception: it may replace the one that the camera path came from. */
static int check_places(const swm_request *q, const recording *into, swm_error *error)
{
    enum { SIDECAR = 0, CAMERA = 0 };
    const char *const outputs[] = {[SIDECAR] = into != NULL ? into->sidecar_path : NULL,
                                   into != NULL ? into->path : NULL,
                                   into != NULL ? into->stage1_path : NULL,
                                   q->save_latents,
                                   q->save_prompt_embeddings,
                                   q->save_refiner_prompt_embeddings};
    const char *const inputs[] = {
        [CAMERA] = q->camera, q->image, q->latents, q->intrinsics, q->prompt_embeddings, q->refiner_prompt_embeddings};
    const size_t writes = sizeof outputs / sizeof *outputs, reads = sizeof inputs / sizeof *inputs;
    for (size_t i = 0; i < writes; i++) {
        for (size_t k = 0; outputs[i] != NULL && k < i; k++)
            if (outputs[k] != NULL && swm_same_file(outputs[i], outputs[k]))
                return swm_fail(error, "%s: two results would go there; give one of them another name", outputs[i]);
        for (size_t k = 0; outputs[i] != NULL && k < reads; k++)
            if (inputs[k] != NULL && !(i == SIDECAR && k == CAMERA) && swm_same_file(outputs[i], inputs[k]))
                return swm_fail(error, "%s: is read by this run and would be overwritten; name another output",
                                outputs[i]);
    }
    return 0;
}

/* `into` may be NULL. */
static int generate(const swm_model *model, const swm_request *request, const swm_events *events, recording *into,
                    char **sidecar, swm_error *error)
{
    swm_job job;
    swm_run_report report;
    if (check_places(request, into, error) != 0) return -1;
    int result = swm_job_resolve(&job, &model->checkpoint, request, events, error);
    if (result == 0 && into != NULL) result = open_recording(into, &job, error);
    if (result == 0) result = swm_pipeline_run(&job, events, &report, error);
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
    int result = generate(model, request, events, NULL, sidecar, &error);
    hand_over(message, &error);
    return result;
}

/* ---- into a file --------------------------------------------------------------------------------------------------------- */

static int write_frames(recording *r, swm_video *video, int64_t count, const uint8_t *rgb, int width, int height)
{
    size_t size = (size_t)width * (size_t)height * 3;
    for (int64_t i = 0; i < count; i++)
        if (swm_video_write(video, rgb + (size_t)i * size, &r->error) != 0) return -1;
    return 0;
}

static int record_frames(void *user, int64_t first, int64_t count, const uint8_t *rgb, int width, int height)
{
    recording *r = user;
    if (write_frames(r, r->video, count, rgb, width, height) != 0) return -1;
    if (r->events == NULL || r->events->frames == NULL) return 0;
    return r->events->frames(r->events->user, first, count, rgb, width, height);
}

static int record_stage1(void *user, int64_t first, int64_t count, const uint8_t *rgb, int width, int height)
{
    recording *r = user;
    if (r->stage1 != NULL && write_frames(r, r->stage1, count, rgb, width, height) != 0) return -1;
    if (r->events == NULL || r->events->stage1_frames == NULL) return 0;
    return r->events->stage1_frames(r->events->user, first, count, rgb, width, height);
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

char *swm_sidecar_path(const char *path)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/') length--;
    size_t stem = length;
    for (size_t i = length; i > 0 && path[i - 1] != '/'; i--)
        if (path[i - 1] == '.' && i - 1 > 0 && path[i - 2] != '/') {
            stem = i - 1;
            break;
        }
    return swm_format(NULL, "%.*s.json", (int)stem, path);
}

/* The video and, beside it, the text that describes it: both in place, or neither. */
static int finish_recording(recording *r, const char *sidecar, swm_error *error)
{
    swm_output output = {0};
    int result = r->sidecar_path != NULL ? swm_output_open(&output, r->sidecar_path, error) : 0;
    if (result == 0 && r->sidecar_path != NULL) result = swm_output_write(&output, sidecar, strlen(sidecar), error);
    if (result == 0 && r->stage1 != NULL) {
        result = swm_video_finish(r->stage1, error);
        r->stage1 = NULL;
    }
    if (result == 0) {
        result = swm_video_finish(r->video, error);
        r->video = NULL;
    }
    if (result == 0 && r->sidecar_path != NULL) return swm_output_commit(&output, error);
    swm_output_abandon(&output);
    return result;
}

int swm_generate_file(const swm_model *model, const swm_request *request, const swm_output_options *output,
                      const swm_events *events, swm_message *message)
{
    recording r = {.path = output->path, .stage1_path = output->stage1_path, .events = events};
    swm_error error = {0};
    char *sidecar = NULL;
    swm_events own = {
        .user = &r,
        .frames = record_frames,
        .stage1_frames =
            output->stage1_path != NULL || (events != NULL && events->stage1_frames != NULL) ? record_stage1 : NULL,
        .notice = events != NULL && events->notice != NULL ? pass_notice : NULL,
        .progress = events != NULL && events->progress != NULL ? pass_progress : NULL,
        .stop = events != NULL && events->stop != NULL ? pass_stop : NULL,
    };
    r.options = (swm_video_options){
        .quality = output->quality > 0 ? output->quality : -1,
        .threads = request->threads,
        .comment = "sana-wm.c " SWM_VERSION,
    };
    int result = output->path == NULL ? swm_fail(&error, "no output was named; pass one with --output") : 0;
    if (result == 0)
        result = swm_video_codec_from_name(output->codec != NULL ? output->codec : "h264", &r.options.codec, &error);
    if (result == 0 && !output->no_sidecar) {
        r.sidecar_path = swm_sidecar_path(output->path);
        if (r.sidecar_path == NULL) result = swm_fail(&error, "out of memory");
    }
    if (result == 0) result = generate(model, request, &own, &r, &sidecar, &error);
    if (swm_failed(&r.error)) error = r.error; /* the video's words say more than that frames were refused */
    if (result == 0) result = finish_recording(&r, sidecar, &error);
    swm_video_abort(r.stage1);
    swm_video_abort(r.video);
    free(r.sidecar_path);
    free(sidecar);
    hand_over(message, &error);
    return result;
}
