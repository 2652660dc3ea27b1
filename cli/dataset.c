/* A generation laid out as a dataset for other tools: the frames go to camera/dataset.h, and the poses are those of the
 * run's own description. */
#include "camera/dataset.h"

#include <stdlib.h>
#include <string.h>

#include "run.h"

/* Frames go to the dataset, everything else to the caller's events. */
typedef struct bridge {
    swm_dataset *dataset;
    const swm_events *events;
} bridge;

static int pass_frames(void *user, int64_t first, int64_t count, const uint8_t *rgb, int width, int height)
{
    return swm_dataset_frames(((bridge *)user)->dataset, first, count, rgb, width, height);
}

static void pass_notice(void *user, const char *text)
{
    const bridge *b = user;
    b->events->notice(b->events->user, text);
}

static void pass_progress(void *user, const swm_progress *progress)
{
    const bridge *b = user;
    b->events->progress(b->events->user, progress);
}

static bool pass_stop(void *user)
{
    const bridge *b = user;
    return b->events->stop(b->events->user);
}

static int read_options(swm_dataset_options *options, const cli_run *run, swm_error *error)
{
    *options = (swm_dataset_options){
        .fps = run->request.fps > 0 ? run->request.fps : 16,
        .quality = run->output.quality > 0 ? run->output.quality : -1,
        .threads = run->request.threads < SWM_VIDEO_THREADS ? run->request.threads : SWM_VIDEO_THREADS,
    };
    if (swm_dataset_kind_from_name(run->dataset, &options->kind, error) != 0) return -1;
    const char *codec = run->output.codec;
    if (options->kind == SWM_DATASET_TUM)
        return swm_video_codec_from_name(codec != NULL ? codec : "h264", &options->codec, error);
    if (codec == NULL || strcmp(codec, "png") == 0) return 0;
    return swm_fail(error, "--dataset %s has PNG pictures; leave --codec %.32s away", run->dataset, codec);
}

static int finish(swm_dataset *dataset, const char *sidecar, swm_error *error)
{
    const swm_path_source source = {"the run's description", sidecar, strlen(sidecar)};
    const swm_path_reading reading = {.format = SWM_PATH_JSON};
    swm_camera_path path;
    if (swm_camera_path_parse(&path, &source, 1, &reading, error) != 0) {
        swm_dataset_abort(dataset);
        return -1;
    }
    const int status = swm_dataset_finish(dataset, &path, sidecar, error);
    swm_camera_path_free(&path);
    return status;
}

int cli_generate_dataset(const swm_model *model, const cli_run *run, const swm_events *events, swm_message *message)
{
    swm_error error = {0};
    swm_dataset_options options;
    bridge b = {.events = events};
    const swm_events own = {
        .user = &b, .notice = pass_notice, .progress = pass_progress, .stop = pass_stop, .frames = pass_frames};
    char *sidecar = NULL;
    int result = read_options(&options, run, &error);
    if (result == 0) b.dataset = swm_dataset_open(run->output.path, &options, &error);
    if (b.dataset == NULL) {
        memcpy(message->text, error.text, sizeof message->text);
        return -1;
    }
    result = swm_generate(model, &run->request, &own, &sidecar, message);
    /* What the dataset says of a refused frame is more than that it was refused. */
    if (result != 0 && swm_failed(swm_dataset_error(b.dataset))) error = *swm_dataset_error(b.dataset);
    if (result != 0)
        swm_dataset_abort(b.dataset);
    else
        result = finish(b.dataset, sidecar, &error);
    if (swm_failed(&error)) memcpy(message->text, error.text, sizeof message->text);
    free(sidecar);
    return result;
}
