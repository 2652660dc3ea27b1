/* Implements core/residency.h. */
#include "core/residency.h"

#include "core/arena.h"

#include <stdlib.h>

/* ---- lists -------------------------------------------------------------------------------------------------------- */

size_t swm_weights_placed_bytes(const swm_tensor *tensors, size_t count, swm_dtype compute)
{
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        size_t size = (size_t)swm_count(tensors[i]) * swm_dtype_size(compute);
        bytes += swm_aligned_bytes(size);
    }
    return bytes;
}

void swm_weight_list_free(swm_weight_list *list)
{
    free(list->uses);
    *list = (swm_weight_list){0};
}

size_t swm_weight_list_bytes(const swm_weight_list *list)
{
    size_t bytes = 0;
    for (int64_t i = 0; i < list->count; i++) bytes += list->uses[i].bytes;
    return bytes;
}

static swm_weight_use *find_use(const swm_weight_list *list, const void *key)
{
    for (int64_t i = 0; i < list->count; i++)
        if (list->uses[i].key == key) return &list->uses[i];
    return NULL;
}

static swm_weight_use *append_use(swm_weight_list *list, swm_error *error)
{
    if (list->count == list->capacity) {
        int64_t capacity = swm_max(64, 2 * list->capacity);
        swm_weight_use *uses = swm_allocate(error, (size_t)capacity, sizeof *uses);
        if (uses == NULL) return NULL;
        for (int64_t i = 0; i < list->count; i++) uses[i] = list->uses[i];
        free(list->uses);
        list->uses = uses;
        list->capacity = capacity;
    }
    return &list->uses[list->count++];
}

int swm_weight_list_use(swm_weight_list *list, const void *weights, size_t bytes, swm_dtype compute, swm_error *error)
{
    for (int64_t i = 0; i < list->count; i++)
        if (list->uses[i].users > 0) list->uses[i].held = true;
    size_t placed = swm_weights_placed_bytes(weights, bytes / sizeof(swm_tensor), compute);
    swm_weight_use *use = find_use(list, weights);
    if (use == NULL) {
        use = append_use(list, error);
        if (use == NULL) return -1;
        *use = (swm_weight_use){.key = weights, .bytes = placed};
    }
    SWM_REQUIRE(use->bytes == placed, "two structs of weights at one address: %zu and %zu bytes", use->bytes, placed);
    use->users++;
    return 0;
}

void swm_weight_list_done(swm_weight_list *list, const void *weights)
{
    swm_weight_use *use = find_use(list, weights);
    SWM_REQUIRE(use != NULL && use->users > 0, "weights that are not in use are done");
    use->users--;
}

/* ---- places ------------------------------------------------------------------------------------------------------- */

/* What must stay when slots have `slot` bytes: what is held, and what is larger. */
static bool must_stay(const swm_weight_use *use, size_t slot) { return use->held || use->bytes > slot; }

static size_t memory_with_slot(const swm_weight_list *list, size_t slot)
{
    size_t memory = SWM_RING_SLOTS * slot;
    for (int64_t i = 0; i < list->count; i++)
        if (must_stay(&list->uses[i], slot)) memory += list->uses[i].bytes;
    return memory;
}

/* One large struct among small ones is cheaper kept than given two slots of its size, hence the search over all sizes.
 * Returns the least memory; the slot's size is 0 when everything stays. */
static size_t least_memory(const swm_weight_list *list, size_t *slot)
{
    size_t least = swm_weight_list_bytes(list);
    *slot = 0;
    for (int64_t i = 0; i < list->count; i++) {
        size_t memory = memory_with_slot(list, list->uses[i].bytes);
        if (list->uses[i].held || memory >= least) continue;
        least = memory;
        *slot = list->uses[i].bytes;
    }
    return least;
}

size_t swm_residency_least(const swm_weight_list *list)
{
    size_t slot;
    return least_memory(list, &slot);
}

/* Bytes that could stay but need not. */
static size_t free_choice(const swm_weight_list *list, size_t slot)
{
    size_t bytes = 0;
    for (int64_t i = 0; i < list->count; i++)
        if (!must_stay(&list->uses[i], slot)) bytes += list->uses[i].bytes;
    return bytes;
}

int swm_residency_decide(swm_residency *r, const swm_weight_list *list, size_t room, swm_error *error)
{
    size_t slot, least = least_memory(list, &slot), all = swm_weight_list_bytes(list);
    SWM_REQUIRE(room >= least, "%zu bytes for weights that need %zu", room, least);
    *r = (swm_residency){.count = list->count, .slot = all <= room ? 0 : slot};
    r->places = swm_allocate(error, (size_t)list->count + 1, sizeof *r->places);
    if (r->places == NULL) return -1;
    /* Every struct earns its part of what is left over, and stays when it has earned its size. */
    double share = r->slot > 0 ? (double)(room - least) / (double)free_choice(list, slot) : 1, earned = 0;
    size_t left = room - least;
    for (int64_t i = 0; i < list->count; i++) {
        const swm_weight_use *use = &list->uses[i];
        swm_weight_place *place = &r->places[i];
        *place = (swm_weight_place){.key = use->key, .bytes = use->bytes};
        if (r->slot > 0 && !must_stay(use, slot)) {
            earned += share * (double)use->bytes;
            /* Half a byte of patience with sums that are rounded. */
            place->streamed = earned + 0.5 < (double)use->bytes || use->bytes > left;
            if (!place->streamed) {
                earned -= (double)use->bytes;
                left -= use->bytes;
            }
        }
        if (place->streamed) {
            r->streamed += use->bytes;
        } else {
            place->offset = r->resident;
            r->resident += use->bytes;
        }
    }
    r->memory = r->resident + SWM_RING_SLOTS * r->slot;
    return 0;
}

void swm_residency_free(swm_residency *residency)
{
    free(residency->places);
    *residency = (swm_residency){0};
}

/* ---- the ring ------------------------------------------------------------------------------------------------------ */

int swm_ring_open(swm_ring *ring, const swm_residency *residency, swm_error *error)
{
    *ring = (swm_ring){.previous = -1};
    for (int slot = 0; slot < SWM_RING_SLOTS; slot++) ring->occupant[slot] = -1;
    ring->successor = swm_allocate(error, (size_t)residency->count + 1, sizeof *ring->successor);
    if (ring->successor == NULL) return -1;
    for (int64_t i = 0; i < residency->count; i++) ring->successor[i] = -1;
    return 0;
}

void swm_ring_close(swm_ring *ring)
{
    free(ring->successor);
    *ring = (swm_ring){0};
}

int swm_ring_find(const swm_ring *ring, int64_t index)
{
    for (int slot = 0; slot < SWM_RING_SLOTS; slot++)
        if (ring->occupant[slot] == index) return slot;
    return -1;
}

/* A slot that nobody uses: rather not the one that was handed out last, whose struct may be wanted again. */
static int free_slot(const swm_ring *ring)
{
    for (int step = 1; step <= SWM_RING_SLOTS; step++) {
        int slot = (ring->latest + step) % SWM_RING_SLOTS;
        if (ring->users[slot] == 0) return slot;
    }
    return -1;
}

int swm_ring_take(swm_ring *ring, int64_t index)
{
    int slot = free_slot(ring);
    if (slot >= 0) ring->occupant[slot] = index;
    return slot;
}

void swm_ring_hold(swm_ring *ring, int slot)
{
    ring->users[slot]++;
    ring->latest = slot;
}

void swm_ring_let_go(swm_ring *ring, int slot)
{
    SWM_REQUIRE(ring->users[slot] > 0, "slot %d is not in use", slot);
    ring->users[slot]--;
}

int64_t swm_ring_next(swm_ring *ring, int64_t index)
{
    if (ring->previous >= 0) ring->successor[ring->previous] = index;
    ring->previous = index;
    int64_t next = ring->successor[index];
    if (next < 0 || swm_ring_find(ring, next) >= 0 || free_slot(ring) < 0) return -1;
    return next;
}
