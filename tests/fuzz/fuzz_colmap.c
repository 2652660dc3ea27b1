/* Any bytes as a COLMAP model. The first says text or binary, the next two how much of the rest is the cameras' file. */
#include "camera/formats.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3) return 0;
    const bool binary = (data[0] & 1) != 0;
    const size_t rest = size - 3, wanted = (size_t)data[1] | (size_t)data[2] << 8,
                 cameras = wanted < rest ? wanted : rest;
    const swm_path_source sources[2] = {
        {binary ? "cameras.bin" : "cameras.txt", data + 3, cameras},
        {binary ? "images.bin" : "images.txt", data + 3 + cameras, rest - cameras},
    };
    for (int poses_only = 0; poses_only < 2; poses_only++) {
        swm_camera_path path;
        swm_error error = {0};
        const swm_path_reading reading = {.poses_only = poses_only == 1};
        const int status = swm_camera_path_parse(&path, sources, 2, &reading, &error);
        SWM_REQUIRE((status < 0) == swm_failed(&error), "status %d with message \"%s\"", status, error.text);
        SWM_REQUIRE(status < 0 || (path.count > 0 && (path.intrinsics != NULL) == (poses_only == 0)), "%lld poses",
                    (long long)path.count);
        swm_camera_path_free(&path);
    }
    return 0;
}
