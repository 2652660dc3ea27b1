/* Any bytes as a saved latent: what loads is a clip that the decoder takes, with its path. */
#include "pipeline/pipeline.h"

#include <math.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    swm_error error = {0};
    swm_job job = {.latent = {.channels = 2}};
    int result = swm_latents_load_memory(&job, data, size, "input", &error);
    SWM_REQUIRE((result != 0) == swm_failed(&error), "a result or a message");
    if (result == 0) {
        SWM_REQUIRE(job.latent.channels == 2 && job.width >= 64 && job.height >= 64, "the sizes of a clip");
        SWM_REQUIRE(job.frames == 8 * (job.latent.frames - 1) + 1 && job.poses.count == job.frames, "a pose a frame");
        for (int64_t i = 0; i < swm_latent_count(job.latent); i++) SWM_REQUIRE(isfinite(job.given[i]), "finite values");
    }
    char *const texts[] = {job.prompt, job.camera_source, job.intrinsics_source, job.origin};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) free(texts[i]);
    free(job.given);
    swm_poses_free(&job.poses);
    swm_intrinsics_free(&job.intrinsics);
    return 0;
}
