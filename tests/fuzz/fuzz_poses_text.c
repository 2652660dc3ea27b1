/* Any bytes as TUM, KITTI or RealEstate10K text, guessed and forced, and resampled where they are a path. */
#include "camera/resample.h"

#include <math.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void resample(const swm_camera_path *path)
{
    static const swm_resampling ways[] = {{.frames = 9, .smooth = true},
                                          {.frames = 7, .constant_speed = true},
                                          {.fps = 4, .constant_speed = true, .smooth = true}};
    for (int i = 0; i < 3; i++) {
        swm_camera_path out;
        swm_error error = {0};
        const int status = swm_camera_path_resample(&out, path, &ways[i], &error);
        SWM_REQUIRE((status < 0) == swm_failed(&error), "status %d with message \"%s\"", status, error.text);
        for (int64_t k = 0; k < 16 * out.count; k++) SWM_REQUIRE(isfinite(out.c2w[k]), "number %lld", (long long)k);
        swm_camera_path_free(&out);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const swm_path_format formats[] = {SWM_PATH_GUESS, SWM_PATH_TUM, SWM_PATH_KITTI, SWM_PATH_REALESTATE};
    const swm_path_source source = {"fuzz.txt", data, size};
    for (int i = 0; i < 4; i++) {
        swm_camera_path path;
        swm_error error = {0};
        const swm_path_reading reading = {.format = formats[i]};
        const int status = swm_camera_path_parse(&path, &source, 1, &reading, &error);
        SWM_REQUIRE((status < 0) == swm_failed(&error), "status %d with message \"%s\"", status, error.text);
        if (status == 0 && i == 0 && path.count < 100) resample(&path);
        swm_camera_path_free(&path);
    }
    return 0;
}
