/* The part of core/tensor.h that is not inline. */
#include "core/tensor.h"

#include <stdio.h>

swm_shape_text swm_describe(swm_tensor t)
{
    swm_shape_text out = {"("};
    size_t used = 1;
    for (int i = 0; i < t.rank; i++)
        used += (size_t)snprintf(out.text + used, sizeof out.text - used, i ? ",%lld" : "%lld", (long long)t.shape[i]);
    snprintf(out.text + used, sizeof out.text - used, ")");
    return out;
}
