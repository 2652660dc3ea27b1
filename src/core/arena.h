/* A bump allocator with marks. Activations live in one arena per backend: an op takes its result from the top, a stage
 * marks the level before it starts and releases to the mark when it is done. The plan backend runs the same calls on a
 * counting arena, so that the size of the real one is known, to the byte, before anything is allocated. */
#ifndef SWM_ARENA_H
#define SWM_ARENA_H

#include "core/base.h"

/* Every piece starts at a multiple of this: wide vector loads on a CPU, 128-byte lines and TMA on a GPU. */
enum { SWM_ARENA_ALIGNMENT = 256 };

/* What so many bytes take up where every piece is aligned. */
static inline size_t swm_aligned_bytes(size_t bytes)
{
    return (bytes + SWM_ARENA_ALIGNMENT - 1) / SWM_ARENA_ALIGNMENT * SWM_ARENA_ALIGNMENT;
}

typedef struct swm_arena {
    char *base; /* NULL: count only */
    size_t capacity, used, peak;
} swm_arena;

typedef size_t swm_mark;

static inline swm_mark swm_arena_mark(const swm_arena *arena) { return arena->used; }

static inline void swm_arena_release(swm_arena *arena, swm_mark mark)
{
    SWM_REQUIRE(mark <= arena->used, "release to %zu above %zu", mark, arena->used);
    arena->used = mark;
}

/* NULL in a counting arena. Running past the capacity is a bug in the plan, hence an abort and no error. */
static inline void *swm_arena_take(swm_arena *arena, size_t bytes)
{
    size_t rounded = swm_aligned_bytes(bytes);
    size_t start = arena->used;
    arena->used += rounded;
    if (arena->used > arena->peak) arena->peak = arena->used;
    if (arena->base == NULL) return NULL;
    SWM_REQUIRE(arena->used <= arena->capacity, "%zu bytes taken of %zu planned", arena->used, arena->capacity);
    return arena->base + start;
}

#endif
