/* Fuzz target: the .npz reader, directory and every array. */
#include "io/npy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    swm_npz npz;
    swm_error error = {0};
    if (swm_npz_parse(&npz, "fuzz", data, size, &error) != 0) return 0;
    for (int i = 0; i < npz.count; i++) {
        swm_array array;
        swm_npz_read(&npz, npz.entries[i].name, &array, NULL);
        swm_array_free(&array);
    }
    swm_npz_close(&npz);
    return 0;
}
