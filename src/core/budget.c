/* The part of core/backend.h that shares a device's memory between a stage's activations and its weights. What lies where
 * is decided in core/residency.c. */
#include "core/backend.h"

#include <stdio.h>

swm_weight_list swm_plan_weights(swm_backend *b)
{
    SWM_REQUIRE(b->kernels == NULL, "the %s backend lists no weights", b->name);
    swm_weight_list *own = b->device, weights = *own;
    *own = (swm_weight_list){0};
    return weights;
}

int swm_backend_limit(swm_backend *b, uint64_t bytes, swm_error *error)
{
    if (bytes > 0 && b->kernels != NULL && b->kernels->room == NULL)
        return swm_fail(error, "a budget of GPU memory was given, and the device is %s; leave the budget away",
                        b->name);
    b->limit = bytes;
    return 0;
}

size_t swm_backend_room(swm_backend *b)
{
    if (b->kernels == NULL || b->kernels->room == NULL) return SIZE_MAX;
    size_t room = b->kernels->room(b);
    uint64_t below_limit = b->limit > SWM_DEVICE_OVERHEAD ? b->limit - SWM_DEVICE_OVERHEAD : 0;
    return b->limit > 0 && below_limit < room ? (size_t)below_limit : room;
}

static double gibibytes(size_t bytes) { return (double)bytes / (double)(1 << 30); }

/* The smallest budget for so much of arena and weights, in tenths of GiB: what --vram-budget takes. */
static double smallest_budget(size_t room)
{
    const size_t tenth = ((size_t)1 << 30) / 10;
    return (double)((room + SWM_DEVICE_OVERHEAD) / tenth + 1) / 10;
}

int swm_backend_fits(swm_backend *b, const char *stage, size_t scratch, size_t least_weights, swm_error *error)
{
    size_t room = swm_backend_room(b);
    if (scratch <= room && least_weights <= room - scratch) return 0;
    double needed = smallest_budget(scratch + least_weights);
    size_t free_room = b->kernels->room(b);
    char remedy[80];
    if (scratch + least_weights <= free_room)
        snprintf(remedy, sizeof remedy, "pass --vram-budget %.1fG or more, or", needed);
    else
        snprintf(remedy, sizeof remedy, "end other programs on the device, or");
    return swm_fail(
        error,
        "the stage \"%s\" needs %.1f GiB of GPU memory (%.2f for activations, %.2f for weights that come and "
        "go, %.2f for CUDA itself) and has %.1f; %s take fewer frames or a smaller size",
        stage, needed, gibibytes(scratch), gibibytes(least_weights), gibibytes(SWM_DEVICE_OVERHEAD),
        gibibytes(room + SWM_DEVICE_OVERHEAD), remedy);
}

static int refuse(swm_backend *b, const char *stage, const char *what, size_t bytes, size_t least, swm_error *error)
{
    return swm_fail(error,
                    "out of GPU memory: the stage \"%s\" is refused %.2f GiB for %s, %.2f GiB are free; pass "
                    "--vram-budget %.1fG, with which it should work, or end other programs on the device",
                    stage, gibibytes(bytes), what, gibibytes(b->kernels->room(b)), smallest_budget(least));
}

int swm_backend_begin(swm_backend *b, const char *stage, size_t scratch, const swm_weight_list *weights,
                      swm_error *error)
{
    if (b->kernels == NULL || b->kernels->room == NULL) return swm_backend_reserve(b, scratch, error);
    SWM_REQUIRE(b->scratch.used == 0, "%zu bytes of the arena are in use", b->scratch.used);
    b->kernels->weights_leave(b);
    size_t least = swm_residency_least(weights);
    if (swm_backend_fits(b, stage, scratch, least, error) != 0) return -1;
    swm_residency residency;
    if (swm_residency_decide(&residency, weights, swm_backend_room(b) - scratch, error) != 0) return -1;
    /* The arena first of all goes: two stages' arenas together may be more than there is. */
    b->kernels->release(b, b->scratch.base);
    b->scratch = (swm_arena){.base = b->kernels->allocate(b, scratch), .capacity = scratch};
    if (b->scratch.base == NULL) {
        b->scratch.capacity = 0;
        swm_residency_free(&residency);
        return refuse(b, stage, "activations", scratch, scratch + least, error);
    }
    size_t memory = residency.memory;
    if (b->kernels->weights_arrange(b, &residency)) return 0;
    if (swm_failed(&b->error)) return swm_backend_check(b, error);
    return refuse(b, stage, "weights", memory, scratch + least, error);
}
