/* The memory of the streaming DiT between chunks: GDN states, convolution tails, and the window of keys and values that
 * softmax blocks may look back on. */
#include "model/dit.h"

static swm_tensor take_zeroed(swm_backend *b, swm_dtype dtype, int rank, const int64_t *shape)
{
    swm_tensor t = swm_take(b, dtype, rank, shape);
    swm_zero(b, t);
    return t;
}
#define TAKE_ZEROED(b, dtype, ...)                                                                                     \
    take_zeroed(b, dtype, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__})

void swm_dit_state_take(swm_backend *b, const swm_dit *dit, swm_dit_state *state, swm_dit_window window, int64_t frames,
                        int64_t chunk, int64_t height, int64_t width)
{
    const swm_dit_size *s = &dit->size;
    int64_t tokens = height * width, first = frames % chunk + chunk;
    SWM_REQUIRE(frames >= chunk && (window.chunks == -1 || window.chunks > 0), "%lld frames, a window of %lld",
                (long long)frames, (long long)window.chunks);
    /* The first chunk is the longest; behind it a full window and the chunk in work. */
    int64_t capacity = window.chunks < 0 ? frames : swm_min(frames, first + chunk * window.chunks);
    *state = (swm_dit_state){.window = window, .tokens = tokens, .capacity = capacity};
    for (int64_t i = 0; i < s->depth; i++) {
        swm_dit_memory *m = &state->blocks[i];
        if (swm_dit_is_softmax(s, i)) {
            m->keys = TAKE_ZEROED(b, b->compute, capacity * tokens, s->channels);
            m->values = TAKE_ZEROED(b, b->compute, capacity * tokens, s->channels);
            m->camera_keys = TAKE_ZEROED(b, b->compute, capacity * tokens, s->channels);
            m->camera_values = TAKE_ZEROED(b, b->compute, capacity * tokens, s->channels);
        } else {
            m->state = TAKE_ZEROED(b, SWM_F32, s->heads, s->head, s->head);
            m->normaliser = TAKE_ZEROED(b, SWM_F32, s->heads, s->head);
            m->camera_state = TAKE_ZEROED(b, SWM_F32, s->heads, s->head, s->head);
            m->key_tail = TAKE_ZEROED(b, b->compute, 3 * tokens, s->channels);
            m->camera_key_tail = TAKE_ZEROED(b, b->compute, 3 * tokens, s->channels);
        }
        m->ffn_tail = TAKE_ZEROED(b, b->compute, tokens, s->channels);
    }
}

/* Move `frames` frames of a window down to `to`. Source and target do not overlap: a chunk never moves by less than
 * its own length, since the chunk that left was at least as long. */
static void move_frames(swm_backend *b, const swm_dit_state *state, swm_tensor window, int64_t to, int64_t from,
                        int64_t frames)
{
    int64_t tokens = state->tokens;
    swm_copy(b, swm_rows(window, to * tokens, frames * tokens), swm_rows(window, from * tokens, frames * tokens));
}

/* Take chunk `index` out of the window of every softmax block. */
static void drop_chunk(swm_backend *b, const swm_dit *dit, swm_dit_state *state, int64_t index)
{
    int64_t to = 0, gone = state->held_frames[index];
    for (int64_t i = 0; i < index; i++) to += state->held_frames[i];
    for (int64_t i = index + 1; i < state->held; i++) {
        int64_t frames = state->held_frames[i];
        for (int64_t block = 0; block < dit->size.depth; block++) {
            if (!swm_dit_is_softmax(&dit->size, block)) continue;
            swm_dit_memory *m = &state->blocks[block];
            move_frames(b, state, m->keys, to, to + gone, frames);
            move_frames(b, state, m->values, to, to + gone, frames);
            move_frames(b, state, m->camera_keys, to, to + gone, frames);
            move_frames(b, state, m->camera_values, to, to + gone, frames);
        }
        to += frames;
        state->held_frames[i - 1] = frames;
    }
    state->held--;
    state->context -= gone;
}

void swm_dit_state_advance(swm_backend *b, const swm_dit *dit, swm_dit_state *state, int64_t frames)
{
    SWM_REQUIRE(state->held < SWM_MAX_CHUNKS && state->context + frames <= state->capacity,
                "%lld frames after %lld of %lld", (long long)frames, (long long)state->context,
                (long long)state->capacity);
    state->held_frames[state->held++] = frames;
    state->context += frames;
    /* The sink is the first chunk and counts as one of the window's. */
    while (state->window.chunks > 0 && state->held > state->window.chunks)
        drop_chunk(b, dit, state, state->window.sink ? 1 : 0);
}
