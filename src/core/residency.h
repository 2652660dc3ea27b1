/* Which weights lie where on a device whose memory may not hold them all. Plain decisions over sizes: a counting run
 * lists the structs of weights that a stage uses (swm_weight_list), a residency gives each of them a place in one piece
 * of device memory, a ring says what has to come and go while the stage runs. Nothing here touches a device; the backend
 * that does so only carries it out.
 *
 * When room is short, some structs stay and the others stream through two slots: one is in use while the next one
 * arrives. Those that stay are spread evenly among those that stream, so that every arrival has as much computing to hide
 * behind. Bytes on the device are the same wherever a struct lies, hence so are the results. */
#ifndef SWM_RESIDENCY_H
#define SWM_RESIDENCY_H

#include "core/tensor.h"

/* A struct of weights (nothing but tensors). */
typedef struct swm_weight_use {
    const void *key; /* where the model keeps it */
    size_t bytes;    /* on the device */
    int users;       /* uses not done yet */
    bool held;       /* another one was asked for while this one was in use: it must not stream */
} swm_weight_use;

/* In the order of their first use, each once. {0} is empty. */
typedef struct swm_weight_list {
    swm_weight_use *uses;
    int64_t count, capacity;
} swm_weight_list;

void swm_weight_list_free(swm_weight_list *list);
/* Bytes of all. */
size_t swm_weight_list_bytes(const swm_weight_list *list);
/* What swm_weights_use and swm_weights_done mean to a list. `bytes`: of the struct; tensors are counted as `compute`
 * would hold them. -1 when memory is short. */
int swm_weight_list_use(swm_weight_list *list, const void *weights, size_t bytes, swm_dtype compute, swm_error *error);
void swm_weight_list_done(swm_weight_list *list, const void *weights);

/* Bytes of a struct of tensors as `compute` holds them, each aligned. */
size_t swm_weights_placed_bytes(const swm_tensor *tensors, size_t count, swm_dtype compute);

/* ---- places ------------------------------------------------------------------------------------------------------- */

enum { SWM_RING_SLOTS = 2 };

typedef struct swm_weight_place {
    const void *key;
    size_t bytes, offset; /* offset: of a struct that stays */
    bool streamed;
} swm_weight_place;

/* Structs that stay come first in the memory, then the slots. */
typedef struct swm_residency {
    swm_weight_place *places; /* in the order of the list */
    int64_t count;
    size_t memory;   /* bytes on the device: resident + slots */
    size_t resident; /* of structs that stay */
    size_t slot;     /* of one slot; 0: nothing streams */
    size_t streamed; /* of structs that come and go */
} swm_residency;

/* The least memory in which the structs of a list can do their work. */
size_t swm_residency_least(const swm_weight_list *list);
/* Use at most `room` bytes, which must not be less than that. -1 when memory for the decision itself is short. Free
 * with swm_residency_free. */
int swm_residency_decide(swm_residency *residency, const swm_weight_list *list, size_t room, swm_error *error);
void swm_residency_free(swm_residency *residency);

/* ---- the ring ------------------------------------------------------------------------------------------------------ */

/* Who is in the slots. Structs are named by their index in a residency. */
typedef struct swm_ring {
    int64_t occupant[SWM_RING_SLOTS]; /* -1: nobody */
    int users[SWM_RING_SLOTS];
    int latest;         /* slot that was handed out last */
    int64_t previous;   /* streamed struct that was used last; -1: none yet */
    int64_t *successor; /* of every streamed struct: the one that was used after it, the last time; -1: not known */
} swm_ring;

int swm_ring_open(swm_ring *ring, const swm_residency *residency, swm_error *error);
void swm_ring_close(swm_ring *ring);

/* The slot where a struct is; -1: in none. */
int swm_ring_find(const swm_ring *ring, int64_t index);
/* Give a struct a slot that nobody uses; who was there has gone. -1: all are in use. */
int swm_ring_take(swm_ring *ring, int64_t index);
/* A use begins; and ends. */
void swm_ring_hold(swm_ring *ring, int slot);
void swm_ring_let_go(swm_ring *ring, int slot);
/* Note that `index` is in use now. Returns the struct to be fetched meanwhile, or -1 when it is not known, is there
 * already, or finds no slot. */
int64_t swm_ring_next(swm_ring *ring, int64_t index);

#endif
