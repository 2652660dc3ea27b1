/* Any bytes as a safetensors file: whatever opens must be readable to its last element. */
#include "io/safetensors.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    swm_error error = {0};
    swm_safetensors *file = swm_safetensors_open_memory(data, size, "input", &error);
    SWM_REQUIRE((file == NULL) == swm_failed(&error), "a result and a message");
    if (file == NULL) return 0;
    for (size_t i = 0; i < swm_safetensors_count(file); i++) {
        const char *name;
        const swm_tensor *tensor = swm_safetensors_at(file, i, &name);
        SWM_REQUIRE(swm_safetensors_find(file, name) == tensor, "the tensor under its name");
        SWM_REQUIRE((uintptr_t)tensor->data % swm_dtype_size(tensor->dtype) == 0, "an aligned tensor");
        void *copy = malloc(swm_bytes(*tensor) + 1);
        SWM_REQUIRE(copy != NULL, "memory for what the input itself holds");
        memcpy(copy, tensor->data, swm_bytes(*tensor));
        free(copy);
    }
    swm_safetensors_metadata(file, "format");
    swm_safetensors_close(file);
    return 0;
}
