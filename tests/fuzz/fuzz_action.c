/* Any bytes as an action string: parsed or refused with a message, and what was parsed stays within its limits. */
#include "camera/action.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (int i = 0; swm_key_profile_at(i) != NULL; i++) {
        swm_action action;
        swm_error error = {0};
        const int status = swm_action_parse(&action, (const char *)data, size, swm_key_profile_at(i), &error);
        SWM_REQUIRE((status < 0) == swm_failed(&error), "status %d with message \"%s\"", status, error.text);
        SWM_REQUIRE(status < 0 || (action.count > 0 && action.count <= SWM_ACTION_MAX_FRAMES), "%lld frames",
                    (long long)action.count);
        if (status == 0) {
            const swm_motion_options options = swm_motion_defaults(swm_key_profile_at(i));
            swm_camera_motion motion;
            swm_motion_start(&motion, &options);
            for (int64_t k = 0; k < swm_min(action.count, 200); k++)
                swm_motion_step(&motion, action.controls[k], motion.pose);
        }
        swm_action_free(&action);
    }
    return 0;
}
