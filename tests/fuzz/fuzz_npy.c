/* Fuzz target: the .npy reader. */
#include "io/npy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    swm_array array;
    swm_error error = {0};
    if (swm_npy_parse("fuzz", data, size, &array, &error) == 0) {
        int64_t count = swm_array_count(&array);
        if (count > 0) (void)*(volatile double *)&array.values[count - 1]; /* the sanitizer checks that it is there */
    }
    swm_array_free(&array);
    return 0;
}
