/* The forward of the stage-1 DiT, top to bottom as in the paper: one op a line, shapes behind. N = T*S tokens of C
 * channels in H heads of D. The camera branch is in dit_camera.c, names and shapes of weights in dit_bind.c. */
#include "model/dit.h"

#include <math.h>
#include <string.h>

/* The FFN's expanded activations are 6 C wide: they live a slice of frames at a time. */
enum { FFN_SLICE_TOKENS = 16384 };

static swm_tensor linear(swm_backend *b, swm_tensor x, swm_affine w)
{
    return swm_linear(b, x, w.weight, w.bias, SWM_IDENTITY);
}

/* ---- time and caption --------------------------------------------------------------------------------------------- */

/* 128 cosines, then 128 sines, of whole timesteps. */
static void fill_sinusoid(const void *user, float *values)
{
    const swm_dit_step *step = user;
    for (int64_t f = 0; f < step->view->frames; f++)
        for (int i = 0; i < 128; i++) {
            double angle = trunc((double)step->timesteps[f]) * exp(-log(10000.0) * i / 128);
            values[f * 256 + i] = (float)cos(angle);
            values[f * 256 + 128 + i] = (float)sin(angle);
        }
}

static swm_tensor time_embedding(swm_backend *b, const swm_dit_outer *w, const swm_dit_step *step)
{
    swm_tensor t = swm_upload_computed(b, b->compute, fill_sinusoid, step, 2, (int64_t[]){step->view->frames, 256});
    t = swm_linear(b, t, w->time_in.weight, w->time_in.bias, SWM_SILU); /* (T,C) */
    return linear(b, t, w->time_out);                                   /* (T,C) */
}

/* A caption on the host: those of its tokens that count first, each kind in its order. */
typedef struct caption_rows {
    const float *states;
    const uint8_t *mask;
    int64_t tokens, valid, width;
} caption_rows;

static void fill_states(const void *user, float *values)
{
    const caption_rows *c = user;
    int64_t at[2] = {c->valid, 0}; /* where the next hidden and the next valid token goes */
    for (int64_t i = 0; i < c->tokens; i++) {
        int64_t row = at[c->mask == NULL || c->mask[i] != 0]++;
        memcpy(values + row * c->width, c->states + i * c->width, (size_t)c->width * sizeof *values);
    }
}

/* Attention does not care about the order of keys, and a hidden token's weight is zero: so the valid ones come first,
 * and the others are left away in the end. Made for all of them, that a plan's memory does not depend on the mask. */
void swm_dit_caption_prepare(swm_backend *b, const swm_dit *dit, swm_dit_caption *caption, int64_t tokens,
                             const float *states, const uint8_t *mask)
{
    int64_t channels = dit->size.channels;
    SWM_REQUIRE(tokens > 0, "%lld caption tokens", (long long)tokens);
    caption_rows rows = {states, mask, tokens, 0, dit->size.caption_channels};
    for (int64_t i = 0; mask != NULL && i < tokens; i++) rows.valid += mask[i] != 0;
    if (rows.valid == 0) rows.mask = NULL, rows.valid = tokens;
    for (int64_t i = 0; i < dit->size.depth; i++) {
        caption->keys[i] = SWM_TAKE(b, b->compute, tokens, channels);
        caption->values[i] = SWM_TAKE(b, b->compute, tokens, channels);
    }
    swm_mark mark = swm_mark_of(b);
    const swm_dit_outer *outer = swm_weights_use(b, &dit->outer, sizeof dit->outer);
    swm_tensor y =
        swm_upload_computed(b, b->compute, fill_states, &rows, 2, (int64_t[]){tokens, rows.width}); /* (L,caption) */
    y = swm_linear(b, y, outer->caption_in.weight, outer->caption_in.bias, SWM_GELU_TANH);          /* (L,C) */
    y = linear(b, y, outer->caption_out);                                                           /* (L,C) */
    swm_trace(b, y, "y_embedder");
    y = swm_rms_norm(b, y, outer->caption_norm, 1e-5f, 0); /* (L,C) */
    swm_trace(b, y, "attention_y_norm");
    swm_weights_done(b, &dit->outer);
    for (int64_t i = 0; i < dit->size.depth; i++) {
        swm_mark block_mark = swm_mark_of(b);
        const swm_dit_block *w = swm_weights_use(b, &dit->blocks[i], sizeof *w);
        swm_affine kv = w->cross_kv;
        swm_tensor k = swm_linear(b, y, swm_rows(kv.weight, 0, channels), swm_rows(kv.bias, 0, channels), SWM_IDENTITY);
        swm_copy(b, caption->keys[i], swm_rms_norm(b, k, w->cross_k_norm, 1e-6f, 0)); /* (L,C) */
        swm_linear_to(b, caption->values[i], y, swm_rows(kv.weight, channels, channels),
                      swm_rows(kv.bias, channels, channels), SWM_IDENTITY); /* (L,C) */
        swm_weights_done(b, &dit->blocks[i]);
        swm_release(b, block_mark);
        caption->keys[i] = swm_rows(caption->keys[i], 0, rows.valid);
        caption->values[i] = swm_rows(caption->values[i], 0, rows.valid);
    }
    swm_release(b, mark);
}

/* ---- self attention ----------------------------------------------------------------------------------------------- */

float swm_dit_key_scale(const swm_dit *dit, const swm_dit_view *view)
{
    return (float)(1.0 / sqrt((double)(dit->size.head * view->height * view->width)));
}

/* Without a cache, the chunk-causal reference groups frames by three for this convolution alone whenever the clip is a
 * multiple of three frames long, whatever its chunks are. Its weights were trained so. */
swm_chunks swm_dit_key_chunks(const swm_dit_step *step, int64_t *starts)
{
    int64_t frames = step->view->frames;
    if (step->state != NULL || step->chunks.count == 1 || frames % 3 != 0) return step->chunks;
    for (int64_t i = 0; i < frames / 3; i++) starts[i] = 3 * i;
    return (swm_chunks){(int)(frames / 3), starts};
}

swm_tensor swm_dit_attend(swm_backend *b, const swm_dit *dit, const swm_dit_step *step, swm_tensor cached_keys,
                          swm_tensor cached_values, swm_tensor q, swm_tensor k, swm_tensor v)
{
    swm_attention how = {.heads = dit->size.heads, .scale = (float)(1.0 / sqrt((double)dit->size.head))};
    int64_t tokens = step->view->height * step->view->width, count = swm_row_count(k);
    if (step->state != NULL) {
        int64_t context = step->state->context * tokens;
        swm_copy(b, swm_rows(cached_keys, context, count), k);
        swm_copy(b, swm_rows(cached_values, context, count), v);
        return swm_attend(b, q, swm_rows(cached_keys, 0, context + count), swm_rows(cached_values, 0, context + count),
                          &how);
    }
    if (step->chunks.count == 1) return swm_attend(b, q, k, v, &how);
    swm_tensor out = swm_take(b, b->compute, q.rank, q.shape);
    for (int i = 0; i < step->chunks.count; i++) {
        int64_t start = step->chunks.starts[i] * tokens;
        int64_t end = i + 1 < step->chunks.count ? step->chunks.starts[i + 1] * tokens : count;
        swm_mark mark = swm_mark_of(b);
        swm_tensor o = swm_attend(b, swm_rows(q, start, end - start), swm_rows(k, 0, end), swm_rows(v, 0, end), &how);
        swm_copy(b, swm_rows(out, start, end - start), o);
        swm_release(b, mark);
    }
    return out;
}

/* Queries, keys and values from the rows of one weight without bias. */
static swm_tensor project(swm_backend *b, swm_tensor a, swm_tensor qkv, int64_t which)
{
    int64_t channels = qkv.shape[1];
    return swm_linear(b, a, swm_rows(qkv, which * channels, channels), (swm_tensor){0}, SWM_IDENTITY);
}

static swm_tensor softmax_branch(swm_backend *b, const swm_dit *dit, const swm_dit_block *w, const swm_dit_step *step,
                                 swm_dit_memory *memory, swm_tensor a)
{
    swm_head_transform how = {.heads = dit->size.heads, .epsilon = 1e-5f, .rotation = step->view->rotation};
    how.norm = w->q_norm;
    swm_tensor q = swm_transform_heads(b, project(b, a, w->qkv, 0), &how); /* (N,C) */
    how.norm = w->k_norm;
    swm_tensor k = swm_transform_heads(b, project(b, a, w->qkv, 1), &how); /* (N,C) */
    swm_tensor v = project(b, a, w->qkv, 2);                               /* (N,C) */
    return swm_dit_attend(b, dit, step, memory != NULL ? memory->keys : (swm_tensor){0},
                          memory != NULL ? memory->values : (swm_tensor){0}, q, k, v);
}

static swm_dit_gates gates_of(swm_backend *b, const swm_dit_block *w, swm_tensor a, int64_t frames)
{
    swm_tensor mean = swm_frame_mean(b, a, frames); /* (T,C) */
    return (swm_dit_gates){
        .beta = swm_linear(b, a, w->beta.weight, w->beta.bias, SWM_SIGMOID),        /* (N,H) */
        .decay = swm_gdn_decay(b, linear(b, mean, w->decay), w->a_log, w->dt_bias), /* (T,H) */
    };
}

static swm_tensor gdn_branch(swm_backend *b, const swm_dit *dit, const swm_dit_block *w, const swm_dit_step *step,
                             swm_dit_memory *memory, swm_tensor a, const swm_dit_gates *gates)
{
    int64_t starts[SWM_MAX_CHUNKS];
    swm_tensor tail = memory != NULL ? memory->key_tail : (swm_tensor){0};
    swm_head_transform how = {.heads = dit->size.heads, .norm = w->q_norm, .epsilon = 1e-5f, .relu = true};
    swm_tensor q = swm_transform_heads(b, project(b, a, w->qkv, 0), &how); /* (N,C) */
    swm_tensor k = swm_key_conv(b, project(b, a, w->qkv, 1), w->conv_k, step->view->frames,
                                swm_dit_key_chunks(step, starts), tail, step->keep); /* (N,C) */
    how.norm = w->k_norm;
    how.scale = swm_dit_key_scale(dit, step->view);
    k = swm_transform_heads(b, k, &how);     /* (N,C) */
    swm_tensor v = project(b, a, w->qkv, 2); /* (N,C) */
    swm_gdn scan = {
        .q = q,
        .k = k,
        .v = v,
        .rotation = step->view->rotation,
        .beta = gates->beta,
        .decay = gates->decay,
        .normalise = true,
        .chunks = step->chunks,
        .keep_state = step->keep,
    };
    if (memory != NULL) {
        scan.state = memory->state;
        scan.normaliser = memory->normaliser;
    }
    return swm_gdn_scan(b, &scan); /* (N,C) */
}

/* Both branches, gated and projected: (N,C). */
static swm_tensor self_attention(swm_backend *b, const swm_dit *dit, const swm_dit_block *w, const swm_dit_step *step,
                                 swm_dit_memory *memory, bool softmax, swm_tensor a)
{
    swm_dit_gates gates = {0};
    if (!softmax) gates = gates_of(b, w, a, step->view->frames);
    swm_tensor o = softmax ? softmax_branch(b, dit, w, step, memory, a)
                           : gdn_branch(b, dit, w, step, memory, a, &gates);                /* (N,C) */
    swm_tensor camera = swm_dit_camera_branch(b, dit, w, step, memory, softmax, a, &gates); /* (N,C) */
    swm_linear_add(b, o, camera, w->out_camera.weight, w->out_camera.bias);                 /* main + camera */
    swm_multiply_silu(b, o, linear(b, a, w->output_gate));
    return linear(b, o, w->projection); /* (N,C) */
}

/* ---- the rest of a block ------------------------------------------------------------------------------------------ */

static swm_tensor cross_attention(swm_backend *b, const swm_dit *dit, const swm_dit_block *w,
                                  const swm_dit_caption *caption, int64_t block, swm_tensor x)
{
    swm_attention how = {.heads = dit->size.heads, .scale = (float)(1.0 / sqrt((double)dit->size.head))};
    swm_tensor q = swm_rms_norm(b, linear(b, x, w->cross_q), w->cross_q_norm, 1e-6f, 0); /* (N,C) */
    swm_tensor o = swm_attend(b, q, caption->keys[block], caption->values[block], &how); /* (N,C) */
    return linear(b, o, w->cross_out);                                                   /* (N,C) */
}

static swm_tensor feed_forward(swm_backend *b, const swm_dit_block *w, const swm_dit_step *step, swm_dit_memory *memory,
                               swm_tensor m)
{
    const swm_dit_view *view = step->view;
    int64_t tokens = view->height * view->width, slice = swm_max(1, FFN_SLICE_TOKENS / tokens);
    swm_tensor p = swm_take(b, b->compute, m.rank, m.shape); /* (N,C) */
    for (int64_t frame = 0; frame < view->frames; frame += slice) {
        int64_t first = frame * tokens, count = swm_min(slice, view->frames - frame) * tokens;
        swm_mark mark = swm_mark_of(b);
        swm_tensor e =
            swm_linear(b, swm_rows(m, first, count), w->expand.weight, w->expand.bias, SWM_SILU);       /* (n,2F) */
        e = swm_depthwise_glu(b, e, w->depthwise.weight, w->depthwise.bias, view->height, view->width); /* (n,F) */
        swm_linear_to(b, swm_rows(p, first, count), e, w->contract, (swm_tensor){0}, SWM_IDENTITY);     /* (n,C) */
        swm_release(b, mark);
    }
    swm_tensor tail = memory != NULL ? memory->ffn_tail : (swm_tensor){0};
    return swm_temporal_conv(b, p, w->temporal, view->frames, step->chunks, tail, step->keep); /* (N,C) */
}

enum { SHIFT_ATTENTION, SCALE_ATTENTION, GATE_ATTENTION, SHIFT_FFN, SCALE_FFN, GATE_FFN };

/* x (N,C), in place; t (T,6,C). */
static void block(swm_backend *b, const swm_dit *dit, int64_t index, const swm_dit_step *step, swm_tensor x,
                  swm_tensor t)
{
    swm_mark mark = swm_mark_of(b);
    const swm_dit_block *w = swm_weights_use(b, &dit->blocks[index], sizeof *w);
    swm_dit_memory *memory = step->state != NULL ? &step->state->blocks[index] : NULL;
    swm_tensor modulation = swm_modulation(b, t, w->table); /* (T,6,C) */
    swm_mark part = swm_mark_of(b);

    swm_tensor a = swm_adaptive_norm(b, x, modulation, SHIFT_ATTENTION, SCALE_ATTENTION); /* (N,C) */
    swm_tensor o = self_attention(b, dit, w, step, memory, swm_dit_is_softmax(&dit->size, index), a);
    swm_trace(b, o, "blocks.%lld.attn", (long long)index);
    swm_gated_add(b, x, o, modulation, GATE_ATTENTION);
    swm_linear_add(b, x, step->view->plucker, step->plucker->weight[index], step->plucker->bias[index]);
    swm_release(b, part);

    o = cross_attention(b, dit, w, step->caption, index, x); /* reads x as it is: no norm, no modulation, no gate */
    swm_trace(b, o, "blocks.%lld.cross_attn", (long long)index);
    swm_add(b, x, o);
    swm_release(b, part);

    swm_tensor m = swm_adaptive_norm(b, x, modulation, SHIFT_FFN, SCALE_FFN); /* (N,C) */
    o = feed_forward(b, w, step, memory, m);
    swm_trace(b, o, "blocks.%lld.mlp", (long long)index);
    swm_gated_add(b, x, o, modulation, GATE_FFN);
    swm_trace(b, x, "blocks.%lld", (long long)index);

    swm_weights_done(b, &dit->blocks[index]);
    swm_release(b, mark);
}

/* ---- the whole ---------------------------------------------------------------------------------------------------- */

swm_tensor swm_dit_forward(swm_backend *b, const swm_dit *dit, const swm_dit_step *step)
{
    const swm_dit_size *s = &dit->size;
    const swm_dit_view *view = step->view;
    int64_t tokens = view->frames * view->height * view->width;
    swm_tensor velocity = swm_take(b, b->compute, step->latent.rank, step->latent.shape); /* (c,T,h,w) */
    swm_mark mark = swm_mark_of(b);

    const swm_dit_outer *w = swm_weights_use(b, &dit->outer, sizeof *w);
    swm_tensor cells = swm_channels_last(b, step->latent);                                   /* (T,h,w,c) */
    swm_tensor x = linear(b, SWM_RESHAPE(cells, tokens, s->latent_channels), w->x_embedder); /* (N,C) */
    swm_trace(b, x, "x_embedder");
    swm_tensor time = time_embedding(b, w, step); /* (T,C) */
    swm_trace(b, time, "t_embedder");
    swm_tensor t = linear(b, swm_silu(b, time), w->time_block); /* (T,6C) */
    swm_trace(b, t, "t_block");
    t = SWM_RESHAPE(t, view->frames, 6, s->channels);

    for (int64_t i = 0; i < s->depth; i++) block(b, dit, i, step, x, t);

    swm_tensor modulation =
        swm_modulation(b, SWM_RESHAPE(time, view->frames, 1, s->channels), w->final_table); /* (T,2,C) */
    x = linear(b, swm_adaptive_norm(b, x, modulation, 0, 1), w->final);                     /* (N,c) */
    swm_trace(b, x, "final_layer");
    x = SWM_RESHAPE(x, view->frames, view->height, view->width, s->latent_channels);
    swm_copy(b, velocity, swm_channels_first(b, x));
    swm_weights_done(b, &dit->outer);
    swm_release(b, mark);
    return velocity;
}
