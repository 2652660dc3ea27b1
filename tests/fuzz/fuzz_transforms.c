/* Any bytes as the JSON of a camera path: nerfstudio's, instant-ngp's, Blender's, ours. */
#include "camera/formats.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const swm_path_format formats[] = {SWM_PATH_GUESS, SWM_PATH_NERFSTUDIO, SWM_PATH_JSON};
    const swm_path_source source = {"fuzz.json", data, size};
    for (int i = 0; i < 3; i++) {
        swm_camera_path path;
        swm_error error = {0};
        const swm_path_reading reading = {.format = formats[i], .width = 640, .height = 360};
        const int status = swm_camera_path_parse(&path, &source, 1, &reading, &error);
        SWM_REQUIRE((status < 0) == swm_failed(&error), "status %d with message \"%s\"", status, error.text);
        SWM_REQUIRE(status < 0 || path.count > 0, "%lld poses", (long long)path.count);
        swm_camera_path_free(&path);
    }
    return 0;
}
