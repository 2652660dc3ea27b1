/* Any bytes as a keyframe file: a path that passes the checks of poses, or a message. */
#include "camera/keyframe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    swm_poses poses;
    swm_error error = {0};
    double fps = 0;
    const int status = swm_keyframes_parse(&poses, &fps, "keyframes.json", data, size, &error);
    SWM_REQUIRE((status < 0) == swm_failed(&error), "status %d with message \"%s\"", status, error.text);
    if (status == 0) {
        SWM_REQUIRE(poses.count > 0 && poses.count <= SWM_KEYFRAMES_MAX_FRAMES && fps >= 1 && fps <= 240,
                    "%lld frames at %g", (long long)poses.count, fps);
        SWM_REQUIRE(swm_poses_check(&poses, &error) == 0, "%s", error.text);
    }
    swm_poses_free(&poses);
    return 0;
}
