/* The forward of the refiner, top to bottom: one op a line, shapes behind. N = T*S tokens of C channels. All of them
 * share a sigma, so a block has one row of modulation. Where tokens lie in the video is in refiner_positions.c, names
 * and shapes of weights are in refiner_bind.c.
 *
 * Only keys and values are ever whole: everything else is made a slice of frames at a time, because a clip of a minute
 * has 105,600 tokens and each (N,C) of it takes 0.87 GB. */
#include "model/refiner.h"

#include "model/refiner_positions.h"

#include <math.h>

enum { SLICE_TOKENS = 16384 };

static const float epsilon = 1e-6f;

static swm_tensor linear(swm_backend *b, swm_tensor x, swm_affine w)
{
    return swm_linear(b, x, w.weight, w.bias, SWM_IDENTITY);
}

static void linear_to(swm_backend *b, swm_tensor y, swm_tensor x, swm_affine w)
{
    swm_linear_to(b, y, x, w.weight, w.bias, SWM_IDENTITY);
}

static int64_t width_of(const swm_refiner *refiner) { return refiner->config.heads * refiner->config.head; }

/* ---- time and text ------------------------------------------------------------------------------------------------ */

/* 128 cosines, then 128 sines; float32 as in the reference up to the angle. */
static void fill_sinusoid(const void *user, float *values)
{
    const swm_refiner_step *step = user;
    float time = step->sigma * 1000.0f;
    for (int i = 0; i < 128; i++) {
        float frequency = expf(-(float)log(10000.0) * (float)i / 128.0f), angle = time * frequency;
        values[i] = (float)cos((double)angle);
        values[128 + i] = (float)sin((double)angle);
    }
}

static swm_tensor time_embedding(swm_backend *b, const swm_refiner_outer *w, const swm_refiner_step *step)
{
    swm_tensor t = swm_upload_computed(b, b->compute, fill_sinusoid, step, 2, (int64_t[]){1, 256});
    t = swm_linear(b, t, w->time_in.weight, w->time_in.bias, SWM_SILU); /* (1,C) */
    return linear(b, t, w->time_out);                                   /* (1,C) */
}

void swm_refiner_text_prepare(swm_backend *b, const swm_refiner *refiner, swm_refiner_text *text, int64_t tokens,
                              const float *states)
{
    SWM_REQUIRE(tokens > 0, "%lld text tokens", (long long)tokens);
    for (int64_t i = 0; i < refiner->config.depth; i++) {
        text->keys[i] = SWM_TAKE(b, b->compute, tokens, width_of(refiner));
        text->values[i] = SWM_TAKE(b, b->compute, tokens, width_of(refiner));
    }
    swm_mark mark = swm_mark_of(b);
    const swm_refiner_outer *outer = swm_weights_use(b, &refiner->outer, sizeof *outer);
    swm_tensor y = SWM_UPLOAD(b, b->compute, states, tokens, refiner->config.caption_channels); /* (L,caption) */
    y = swm_linear(b, y, outer->caption_in.weight, outer->caption_in.bias, SWM_GELU_TANH);      /* (L,C) */
    y = linear(b, y, outer->caption_out);                                                       /* (L,C) */
    swm_trace(b, y, "caption_projection");
    swm_weights_done(b, &refiner->outer);
    for (int64_t i = 0; i < refiner->config.depth; i++) {
        swm_mark block_mark = swm_mark_of(b);
        const swm_refiner_block *w = swm_weights_use(b, &refiner->blocks[i], sizeof *w);
        swm_tensor k = swm_rms_norm(b, linear(b, y, w->cross.k), w->cross.k_norm, epsilon, 0); /* (L,C) */
        swm_copy(b, text->keys[i], k);
        linear_to(b, text->values[i], y, w->cross.v); /* (L,C) */
        swm_weights_done(b, &refiner->blocks[i]);
        swm_release(b, block_mark);
    }
    swm_release(b, mark);
}

/* ---- the window --------------------------------------------------------------------------------------------------- */

void swm_refiner_window_take(swm_backend *b, const swm_refiner *refiner, swm_refiner_window *window, int64_t history,
                             int64_t height, int64_t width)
{
    int64_t tokens = height * width, rows = (1 + history) * tokens;
    SWM_REQUIRE(history >= 0 && tokens > 0, "a history of %lld frames of %lld tokens", (long long)history,
                (long long)tokens);
    *window = (swm_refiner_window){.tokens = tokens, .history = history, .sink_at = -1};
    const swm_refiner_grid grid = {.height = height, .width = width};
    window->rows = swm_refiner_angles(b, &refiner->config, &grid, 1);
    window->columns = swm_refiner_angles(b, &refiner->config, &grid, 2);
    for (int64_t i = 0; i < refiner->config.depth; i++) {
        window->blocks[i].sink_keys = SWM_TAKE(b, b->compute, tokens, width_of(refiner));
        window->blocks[i].keys = SWM_TAKE(b, b->compute, rows, width_of(refiner));
        window->blocks[i].values = SWM_TAKE(b, b->compute, rows, width_of(refiner));
    }
}

/* Frame that the sink stands at for a span: right before the history, which keeps the distances of training however long
 * the video is. */
static int64_t sink_place(const swm_refiner_step *step)
{
    return step->keep == SWM_REFINER_KEEP_SINK ? 0 : step->first - step->window->held - 1;
}

/* The last frames of a span's keys and values (N,C) take the places of the oldest. */
static void remember(swm_backend *b, const swm_refiner_step *step, int64_t block, swm_tensor k, swm_tensor v)
{
    const swm_refiner_window *window = step->window;
    int64_t tokens = window->tokens, frames = k.shape[0] / tokens;
    for (int64_t f = swm_max(0, frames - window->history); f < frames; f++) {
        int64_t slot = 1 + (window->written + f) % window->history;
        swm_copy(b, swm_rows(window->blocks[block].keys, slot * tokens, tokens), swm_rows(k, f * tokens, tokens));
        swm_copy(b, swm_rows(window->blocks[block].values, slot * tokens, tokens), swm_rows(v, f * tokens, tokens));
    }
}

/* After a pass: the sink has been turned, and what was kept counts. */
static void advance(const swm_refiner_step *step)
{
    swm_refiner_window *window = step->window;
    window->sink_at = sink_place(step);
    if (step->keep == SWM_REFINER_KEEP_SINK) window->held = window->written = 0;
    if (step->keep != SWM_REFINER_KEEP_HISTORY) return;
    window->held = swm_min(window->held + step->latent.shape[1], window->history);
    window->written += step->latent.shape[1];
}

/* ---- a block ------------------------------------------------------------------------------------------------------ */

/* What every block of a pass shares. */
typedef struct pass {
    const swm_refiner *refiner;
    const swm_refiner_step *step;
    int64_t frames, tokens, slice; /* T, S, frames of a slice */
    swm_grid_rotation rotation;    /* of the span */
    swm_grid_rotation sink;        /* of the sink, where it stands */
    swm_tensor time;               /* (1,6,C) */
} pass;

enum { SHIFT_ATTENTION, SCALE_ATTENTION, GATE_ATTENTION, SHIFT_FFN, SCALE_FFN, GATE_FFN };

/* Rows of `count` frames from `first` on. */
static swm_tensor slice_of(const pass *p, swm_tensor x, int64_t first, int64_t count)
{
    return swm_rows(x, first * p->tokens, count * p->tokens);
}

static swm_grid_rotation rotation_of(const pass *p, int64_t first, int64_t count)
{
    swm_grid_rotation rotation = p->rotation;
    rotation.axes[0] = swm_rows(rotation.axes[0], first, count);
    return rotation;
}

/* Keys, turned, and values of the span (N,C). The sink's go to their slot, unturned keys beside them. */
static void keys_and_values(swm_backend *b, const pass *p, const swm_refiner_attention *w, int64_t block, swm_tensor x,
                            swm_tensor modulation, swm_tensor k, swm_tensor v)
{
    for (int64_t f = 0; f < p->frames; f += p->slice) {
        int64_t count = swm_min(p->slice, p->frames - f);
        swm_mark mark = swm_mark_of(b);
        swm_tensor n = swm_adaptive_rms_norm(b, slice_of(p, x, f, count), modulation, SHIFT_ATTENTION,
                                             SCALE_ATTENTION); /* (n,C) */
        swm_tensor keys = slice_of(p, k, f, count);
        linear_to(b, slice_of(p, v, f, count), n, w->v);
        linear_to(b, keys, n, w->k);
        swm_grid_rotation rotation = rotation_of(p, f, count);
        swm_tensor norm = w->k_norm;
        if (p->step->keep == SWM_REFINER_KEEP_SINK) {
            swm_tensor sink = p->step->window->blocks[block].sink_keys;
            swm_copy(b, sink, swm_rms_norm(b, keys, norm, epsilon, 0));
            keys = sink;
            norm = (swm_tensor){0};
        }
        swm_rotate_grid(b, slice_of(p, k, f, count), keys, norm, epsilon, &rotation);
        swm_release(b, mark);
    }
}

/* Everything behind keys and values for a slice x (n,C), in place. */
static void slice(swm_backend *b, const pass *p, const swm_refiner_block *w, int64_t block, swm_tensor x,
                  swm_tensor modulation, const swm_grid_rotation *rotation, swm_tensor k, swm_tensor v,
                  const swm_attention *self)
{
    const swm_attention cross = {.heads = self->heads, .scale = self->scale};
    const swm_refiner_text *text = p->step->text;
    swm_mark mark = swm_mark_of(b);

    swm_tensor q = swm_adaptive_rms_norm(b, x, modulation, SHIFT_ATTENTION, SCALE_ATTENTION); /* (n,C) */
    q = linear(b, q, w->self.q);                                                              /* (n,C) */
    swm_rotate_grid(b, q, q, w->self.q_norm, epsilon, rotation);
    swm_tensor o = linear(b, swm_attend(b, q, k, v, self), w->self.out); /* (n,C) */
    swm_gated_add(b, x, o, modulation, GATE_ATTENTION);
    swm_release(b, mark);

    q = linear(b, swm_rms_norm(b, x, (swm_tensor){0}, epsilon, 0), w->cross.q); /* (n,C) */
    q = swm_rms_norm(b, q, w->cross.q_norm, epsilon, 0);                        /* (n,C) */
    o = swm_attend(b, q, text->keys[block], text->values[block], &cross);       /* (n,C) */
    swm_linear_add(b, x, o, w->cross.out.weight, w->cross.out.bias);
    swm_release(b, mark);

    swm_tensor m = swm_adaptive_rms_norm(b, x, modulation, SHIFT_FFN, SCALE_FFN); /* (n,C) */
    m = swm_linear(b, m, w->expand.weight, w->expand.bias, SWM_GELU_TANH);        /* (n,4C) */
    swm_gated_add(b, x, linear(b, m, w->contract), modulation, GATE_FFN);         /* (n,C) */
    swm_release(b, mark);
}

/* x (N,C), in place. */
static void block(swm_backend *b, const pass *p, int64_t index, swm_tensor x)
{
    const swm_refiner_config *config = &p->refiner->config;
    const swm_refiner_window *window = p->step->window;
    bool is_sink = p->step->keep == SWM_REFINER_KEEP_SINK;
    swm_tensor sink = swm_rows(window->blocks[index].keys, 0, p->tokens);
    swm_mark mark = swm_mark_of(b);
    const swm_refiner_block *w = swm_weights_use(b, &p->refiner->blocks[index], sizeof *w);
    swm_tensor modulation = swm_modulation(b, p->time, w->table);             /* (1,6,C) */
    swm_tensor k = is_sink ? sink : swm_take(b, b->compute, x.rank, x.shape); /* (N,C) */
    swm_tensor v = is_sink ? swm_rows(window->blocks[index].values, 0, p->tokens)
                           : swm_take(b, b->compute, x.rank, x.shape); /* (N,C) */
    keys_and_values(b, p, &w->self, index, x, modulation, k, v);

    swm_attention self = {.heads = config->heads, .scale = (float)(1.0 / sqrt((double)config->head))};
    if (!is_sink) {
        if (window->sink_at != sink_place(p->step))
            swm_rotate_grid(b, sink, window->blocks[index].sink_keys, (swm_tensor){0}, epsilon, &p->sink);
        self.prefix_keys = swm_rows(window->blocks[index].keys, 0, (1 + window->held) * p->tokens);
        self.prefix_values = swm_rows(window->blocks[index].values, 0, (1 + window->held) * p->tokens);
    }
    /* Nobody reads what the last block makes of x when keys and values are all that is wanted. */
    bool whole = p->step->keep == SWM_REFINER_KEEP_NOTHING || index + 1 < config->depth;
    for (int64_t f = 0; whole && f < p->frames; f += p->slice) {
        int64_t count = swm_min(p->slice, p->frames - f);
        swm_grid_rotation rotation = rotation_of(p, f, count);
        slice(b, p, w, index, slice_of(p, x, f, count), modulation, &rotation, k, v, &self);
    }
    if (whole) swm_trace(b, x, "blocks.%lld", (long long)index);
    /* Now that this block has looked at the frames whose places they take. */
    if (p->step->keep == SWM_REFINER_KEEP_HISTORY) remember(b, p->step, index, k, v);
    swm_weights_done(b, &p->refiner->blocks[index]);
    swm_release(b, mark);
}

/* ---- the whole ---------------------------------------------------------------------------------------------------- */

static void check_step(const swm_refiner *refiner, const swm_refiner_step *step)
{
    const swm_refiner_window *window = step->window;
    swm_tensor x = step->latent;
    SWM_REQUIRE(x.rank == 4 && x.shape[0] == refiner->config.channels && x.shape[1] > 0 &&
                    x.shape[2] == window->rows.shape[0] && x.shape[3] == window->columns.shape[0] && step->fps > 0,
                "latent %s at %g pictures a second, a window of %lldx%lld cells", swm_describe(x).text, step->fps,
                (long long)window->rows.shape[0], (long long)window->columns.shape[0]);
    bool is_sink = step->keep == SWM_REFINER_KEEP_SINK;
    SWM_REQUIRE(is_sink ? step->first == 0 && x.shape[1] == 1 : step->first > window->held,
                "%lld frames from %lld on, keep %d, %lld of history", (long long)x.shape[1], (long long)step->first,
                (int)step->keep, (long long)window->held);
    SWM_REQUIRE(step->keep == SWM_REFINER_KEEP_NOTHING || step->sigma == 0, "keep at sigma %g", (double)step->sigma);
    SWM_REQUIRE(step->keep != SWM_REFINER_KEEP_HISTORY || window->history > 0, "no room for history");
    SWM_REQUIRE(is_sink || window->sink_at >= 0, "no sink");
}

/* Of frames first .. first+frames-1 of the clip. */
static swm_grid_rotation rotation_at(swm_backend *b, const swm_refiner *refiner, const swm_refiner_step *step,
                                     int64_t first, int64_t frames)
{
    const swm_refiner_grid grid = {.first = first, .frames = frames, .fps = step->fps};
    return (swm_grid_rotation){
        .heads = refiner->config.heads,
        .interleaved = refiner->config.interleaved,
        .axes = {swm_refiner_angles(b, &refiner->config, &grid, 0), step->window->rows, step->window->columns},
    };
}

/* LayerNorm here, where blocks have RMSNorm; modulated by the embedding itself, x (N,C) -> (N,c). */
static swm_tensor output(swm_backend *b, const swm_refiner_outer *w, swm_tensor time, swm_tensor x)
{
    swm_tensor modulation = swm_modulation(b, SWM_RESHAPE(time, 1, 1, time.shape[1]), w->table); /* (1,2,C) */
    return linear(b, swm_adaptive_norm(b, x, modulation, 0, 1), w->out);                         /* (N,c) */
}

swm_tensor swm_refiner_forward(swm_backend *b, const swm_refiner *refiner, const swm_refiner_step *step)
{
    check_step(refiner, step);
    int64_t channels = refiner->config.channels, frames = step->latent.shape[1];
    int64_t height = step->latent.shape[2], width = step->latent.shape[3], tokens = height * width;
    swm_tensor velocity = {0}; /* (c,T,h,w) */
    if (step->keep == SWM_REFINER_KEEP_NOTHING)
        velocity = swm_take(b, b->compute, step->latent.rank, step->latent.shape);
    swm_mark mark = swm_mark_of(b);

    const swm_refiner_outer *w = swm_weights_use(b, &refiner->outer, sizeof *w);
    swm_tensor time = time_embedding(b, w, step); /* (1,C) */
    pass p = {.refiner = refiner, .step = step, .frames = frames, .tokens = tokens};
    p.time = SWM_RESHAPE(linear(b, swm_silu(b, time), w->time_block), 1, 6, width_of(refiner)); /* (1,6,C) */
    /* Slices of equal length, within one frame: a short last one would waste the machine. */
    int64_t most = swm_max(1, SLICE_TOKENS / tokens);
    p.slice = swm_divide_up(frames, swm_divide_up(frames, most));
    p.rotation = rotation_at(b, refiner, step, step->first, frames);
    if (step->keep != SWM_REFINER_KEEP_SINK && step->window->sink_at != sink_place(step))
        p.sink = rotation_at(b, refiner, step, sink_place(step), 1);

    swm_tensor x = SWM_TAKE(b, b->compute, frames * tokens, width_of(refiner)); /* (N,C) */
    swm_mark input = swm_mark_of(b);
    swm_tensor cells = swm_channels_last(b, step->latent); /* (T,h,w,c) */
    linear_to(b, x, SWM_RESHAPE(cells, frames * tokens, channels), w->in);
    swm_release(b, input);

    for (int64_t i = 0; i < refiner->config.depth; i++) block(b, &p, i, x);
    advance(step);

    if (swm_present(velocity)) {
        x = output(b, w, time, x); /* (N,c) */
        swm_trace(b, x, "velocity");
        swm_copy(b, velocity, swm_channels_first(b, SWM_RESHAPE(x, frames, height, width, channels)));
    }
    swm_weights_done(b, &refiner->outer);
    swm_release(b, mark);
    return velocity;
}
