/* Implements io/binding.h. */
#include "io/binding.h"

#include <stdarg.h>
#include <stdio.h>

void swm_binding_prefix(swm_binding *k, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(k->prefix, sizeof k->prefix, format, arguments);
    va_end(arguments);
    SWM_REQUIRE(length >= 0 && (size_t)length < sizeof k->prefix, "prefix %s...", k->prefix);
}

void swm_visit(swm_binding *k, swm_tensor *slot, const char *name, int rank, const int64_t *shape)
{
    if (k->result != 0) return;
    char full[160];
    snprintf(full, sizeof full, "%s%s", k->prefix, name);
    k->result = k->declare != NULL ? swm_weights_declare(k->declare, full, k->dtype, rank, shape, k->error)
                                   : swm_weights_bind(k->weights, slot, k->error, rank, shape, "%s", full);
}

void swm_visit_affine(swm_binding *k, swm_affine *slot, const char *name, int64_t out, int64_t in)
{
    char full[96];
    snprintf(full, sizeof full, "%s.weight", name);
    SWM_VISIT(k, &slot->weight, full, out, in);
    snprintf(full, sizeof full, "%s.bias", name);
    SWM_VISIT(k, &slot->bias, full, out);
}
