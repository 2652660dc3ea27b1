/* Any bytes as encoded prompts, of the first stage and of the refiner. */
#include "text/prompt.h"
#include "text/refiner_prompt.h"

#include <math.h>

static void check_states(const float *states, int64_t count)
{
    SWM_REQUIRE(count > 0, "some states");
    for (int64_t i = 0; i < count; i++) SWM_REQUIRE(isfinite(states[i]), "finite states");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    swm_error error = {0};
    swm_prompt conditional, negative;
    int result = swm_prompt_load_memory(&conditional, &negative, data, size, "input", (swm_prompt_expected){0}, &error);
    SWM_REQUIRE((result != 0) == swm_failed(&error), "a result or a message");
    if (result == 0) {
        check_states(conditional.states, conditional.tokens * conditional.width);
        check_states(negative.states, negative.tokens * negative.width);
    }
    swm_prompt_free(&conditional);
    swm_prompt_free(&negative);

    error = (swm_error){0};
    swm_refiner_prompt refined;
    result = swm_refiner_prompt_load_memory(&refined, data, size, "input", 0, 0, &error);
    SWM_REQUIRE((result != 0) == swm_failed(&error), "a result or a message");
    if (result == 0) check_states(refined.states, refined.slots * refined.width);
    swm_refiner_prompt_free(&refined);
    return 0;
}
