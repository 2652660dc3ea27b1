/* Any bytes as a torch checkpoint: whatever opens must be readable to its last element. */
#include "io/torch_pt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    swm_error error = {0};
    swm_torch_pt *file = swm_torch_pt_open_memory(data, size, "input", &error);
    SWM_REQUIRE((file == NULL) == swm_failed(&error), "a result and a message");
    if (file == NULL) return 0;
    for (size_t i = 0; i < swm_torch_pt_count(file); i++) {
        const swm_tensor *tensor = swm_torch_pt_at(file, i, NULL);
        SWM_REQUIRE((uintptr_t)tensor->data % swm_dtype_size(tensor->dtype) == 0, "an aligned tensor");
        /* Aliases may stand for more than the input holds, so elements are read and not kept. */
        unsigned sum = 0;
        const uint8_t *bytes = tensor->data;
        for (size_t k = 0; k < swm_bytes(*tensor); k++) sum += bytes[k];
        SWM_REQUIRE(sum != 1u << 31, "a sum that the compiler must compute");
    }
    swm_torch_pt_close(file);
    return 0;
}
