/* The CUDA backend of a build without CUDA: a sentence. */
#include "core/backend.h"

swm_backend *swm_backend_open_cuda(swm_dtype compute, int device, swm_error *error)
{
    (void)compute;
    (void)device;
    swm_fail(error, "this build has no CUDA backend; build with `make CUDA=/usr/local/cuda`, or use --device cpu");
    return NULL;
}

int swm_cuda_device_count(void) { return 0; }
