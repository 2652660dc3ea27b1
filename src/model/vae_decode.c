/* The decoder of model/vae.h, and the drivers that run it over tiles of space and time and over streams. */
#include "model/vae_internal.h"

#include <string.h>

/* A video on its way through the decoder. A stage takes its input in pieces, each as large as memory allows, and hands
 * every result on to the next stage before it takes the next piece; so each level's frames are computed once and few of
 * them are there at a time. */
typedef struct decoder {
    swm_vae_run run;
    const swm_vae *vae;
    int64_t span; /* elements of a level at a time */
    swm_frames_callback emit;
    void *user;
    int64_t shown;
} decoder;

/* Frames of a stage's input, h x w, at a time. An up-sampler makes four elements of one. */
static int64_t most_frames(const swm_vae_config *config, int64_t span, int stage, int64_t height, int64_t width)
{
    int64_t frame =
        height * width * (stage == 0 ? config->decoder_channels[0] : 4 * config->decoder_channels[stage - 1]);
    return swm_max(1, span / frame);
}

/* Whether no stage has to cut its input: a past is not needed then. */
static bool fits_one_span(const swm_vae_config *config, int64_t span, swm_tensor latent)
{
    int64_t frames = latent.shape[0], height = latent.shape[1], width = latent.shape[2];
    if (frames > most_frames(config, span, 0, height, width)) return false;
    for (int stage = 1; stage <= config->decoder_blocks; stage++) {
        if (frames > most_frames(config, span, stage, height, width)) return false;
        frames = 2 * frames - 1, height *= 2, width *= 2;
    }
    return true;
}

/* Frames of a failed backend are never shown. */
static int show(swm_backend *b, swm_frames_callback emit, void *user, int64_t first_frame, swm_tensor frames)
{
    return !swm_failed(&b->error) && emit(user, b, first_frame, frames) == 0 ? 0 : -1;
}

/* Where a stage's convolutions and branches start among those of the state; that of the number of stages is the end. */
static int first_conv(const swm_vae_config *config, int stage)
{
    int64_t count = 0;
    for (int i = 0; i < stage; i++) count += 1 + 2 * config->decoder_layers[i];
    return (int)count;
}
static int first_branch(const swm_vae_config *config, int stage)
{
    int64_t count = 0;
    for (int i = 0; i < stage; i++) count += 1 + config->decoder_layers[i];
    return (int)count;
}

/* What x enters a stage as: conv_in's result, or twice the size along every axis and half the width, without the first
 * frame where the video starts. `front` frames of room are left before it. */
static swm_vae_span enter_stage(decoder *d, int stage, swm_vae_span x, int64_t front)
{
    swm_vae_run *run = &d->run;
    swm_backend *b = run->b;
    swm_tensor in = swm_vae_frames(x);
    if (stage == 0) { /* n, h, w, width */
        in = swm_vae_single(run, in, &d->vae->decoder_in, (swm_vae_conv_options){.front = front});
        return (swm_vae_span){in, front, in.shape[0] - front};
    }
    swm_vae_branch(run, &x, 1);
    bool start = run->state == NULL || !run->state->begun[stage];
    if (run->state != NULL && x.count > 0) run->state->begun[stage] = true;
    swm_vae_span out = {.first = front, .count = x.count > 0 ? 2 * x.count - (start ? 1 : 0) : 0};
    out.room = SWM_TAKE(b, b->compute, front + out.count, 2 * in.shape[1], 2 * in.shape[2], in.shape[3] / 2);
    swm_mark mark = swm_mark_of(b);
    swm_tensor y = swm_vae_single(run, in, &d->vae->decoder[stage].sampler, (swm_vae_conv_options){0});
    if (x.count > 0) swm_upsample_merge_to(b, swm_vae_frames(out), y, swm_vae_frames(x), start);
    swm_release(b, mark);
    return out;
}

/* The last convolution, and out. */
static int finish(decoder *d, swm_vae_span x)
{
    swm_backend *b = d->run.b;
    const swm_vae_conv_options options = {.norm_silu = true};
    d->run.next_cache = first_conv(&d->vae->config, d->vae->config.decoder_blocks + 1);
    x.room = swm_vae_single(&d->run, swm_vae_frames(x), &d->vae->decoder_out, options); /* n', 8h, 8w, 48 */
    if (x.room.shape[0] == 0) return 0;
    swm_tensor frames = swm_unpatchify(b, x.room); /* n', 32h, 32w, 3 */
    int64_t first = d->shown;
    d->shown += frames.shape[0];
    return show(b, d->emit, d->user, first, frames);
}

/* A span of a stage's input through it and all later ones. `last`: the video ends with it. */
static int run_stage(decoder *d, int stage, swm_vae_span x, bool last);

static int run_pieces(decoder *d, int stage, swm_vae_span x, bool last)
{
    int64_t most = most_frames(&d->vae->config, d->span, stage, x.room.shape[1], x.room.shape[2]);
    int64_t pieces = swm_divide_up(x.count, most);
    int result = 0;
    for (int64_t i = 0; result == 0 && i < pieces; i++) {
        int64_t start = x.count * i / pieces, end = x.count * (i + 1) / pieces;
        swm_mark mark = swm_mark_of(d->run.b);
        result = run_stage(d, stage, (swm_vae_span){x.room, x.first + start, end - start}, last && i == pieces - 1);
        swm_release(d->run.b, mark);
    }
    return result;
}

static int run_stage(decoder *d, int stage, swm_vae_span x, bool last)
{
    const swm_vae_config *config = &d->vae->config;
    swm_vae_run *run = &d->run;
    int64_t layers = config->decoder_layers[stage];
    run->last = last;
    run->next_cache = first_conv(config, stage);
    run->next_branch = first_branch(config, stage) + (stage == 0 ? 1 : 0); /* nothing branches around conv_in */
    /* Every resnet moves a span that is late by two frames, the next up-sampler by one. */
    x = enter_stage(d, stage, x, run->state == NULL || run->causal ? 0 : 2 * layers + 1);
    if (stage == 0 && x.count > 0) swm_trace(run->b, swm_vae_frames(x), "decoder.conv_in");
    swm_vae_resnets(run, &x, &d->vae->decoder[stage], layers);
    if (x.count == 0) return 0;
    if (stage == 0)
        swm_trace(run->b, swm_vae_frames(x), "decoder.mid_block");
    else
        swm_trace(run->b, swm_vae_frames(x), "decoder.up_blocks.%d", stage - 1);
    return stage == config->decoder_blocks ? finish(d, x) : run_pieces(d, stage + 1, x, last);
}

/* (n,h,w,C): the next latents of the state's video, which a causal decoder need not know the end of, or all of one. */
static int decode_latents(decoder d, swm_tensor latent)
{
    const swm_vae_config *config = &d.vae->config;
    swm_vae_state past;
    swm_mark mark = swm_mark_of(d.run.b);
    d.run.causal = config->decoder_causal;
    d.run.reflect = config->decoder_padding == SWM_PAD_REFLECT;
    if (d.span == 0) d.span = SWM_VAE_SPAN;
    if (d.run.state == NULL && !fits_one_span(config, d.span, latent)) {
        d.run.state = &past;
        swm_vae_state_take(d.run.b, d.vae, &past, latent.shape[1], latent.shape[2]);
    }
    int result = run_pieces(&d, 0, (swm_vae_span){latent, 0, latent.shape[0]}, true);
    swm_release(d.run.b, mark);
    return result;
}

/* Keeps frames where the caller wants them in one piece; `user` is the tensor of all. */
static int collect(void *user, swm_backend *b, int64_t first_frame, swm_tensor frames)
{
    const swm_tensor *all = user;
    swm_copy(b, swm_rows(*all, first_frame, frames.shape[0]), frames);
    return 0;
}

static swm_tensor decode_tile(swm_backend *b, const swm_vae *vae, swm_tensor latent, const void *tiling)
{
    int64_t frames = 8 * latent.shape[0] - 7;
    swm_tensor all = SWM_TAKE(b, b->compute, frames, 32 * latent.shape[1], 32 * latent.shape[2], 3);
    int64_t span = ((const swm_vae_tiling *)tiling)->span;
    decode_latents((decoder){.run.b = b, .vae = vae, .span = span, .emit = collect, .user = &all}, latent);
    return all;
}

static bool needs_tiles(swm_tensor latent, const swm_vae_tiling *tiling)
{
    return tiling->stride > 0 && (32 * latent.shape[1] > tiling->height || 32 * latent.shape[2] > tiling->width);
}

/* All of the picture for some latents, in spatial tiles if it is larger than one. */
static swm_tensor decode_picture(swm_backend *b, const swm_vae *vae, swm_tensor latent, const swm_vae_tiling *tiling)
{
    swm_vae_tiles how = {.height = tiling->height / 32,
                         .width = tiling->width / 32,
                         .stride = tiling->stride / 32,
                         .in = 1,
                         .out = 32,
                         .out_frames = 8 * latent.shape[0] - 7,
                         .out_channels = 3,
                         .network = decode_tile,
                         .user = tiling};
    return swm_vae_run_tiles(b, vae, latent, &how);
}

/* Temporal tiles: each decodes a few latents as if they were a video of their own, whose first frame the tile before has
 * shown already. It is cut off, the overlap with the tile before is mixed, and a stride of frames is final. */
static int decode_temporal_tiles(swm_backend *b, const swm_vae *vae, swm_tensor latent, const swm_vae_tiling *tiling,
                                 swm_frames_callback emit, void *user)
{
    int64_t latents = latent.shape[0], size = tiling->frames / 8, stride = tiling->frame_stride / 8;
    int64_t overlap = tiling->frames - tiling->frame_stride;
    int64_t height = 32 * latent.shape[1], width = 32 * latent.shape[2], kept = 0, shown = 0;
    swm_mark mark = swm_mark_of(b);
    swm_tensor tail = SWM_TAKE(b, b->compute, overlap, height, width, 3); /* `kept` last frames of the tile before */
    swm_mark tile_mark = swm_mark_of(b);
    int result = 0;
    /* A last tile of one latent is all first frame: nothing of it would be left. */
    for (int64_t start = 0; result == 0 && start < latents && (start == 0 || latents - start > 1); start += stride) {
        int64_t count = swm_min(size + 1, latents - start);
        swm_tensor tile = decode_picture(b, vae, swm_rows(latent, start, count), tiling);
        if (start > 0) tile = swm_rows(tile, tiling->reference_lag ? 0 : 1, tile.shape[0] - 1);
        int64_t frames = tile.shape[0], common = swm_min(kept, frames);
        swm_blend(b, tile, swm_rows(tail, kept - common, common), 0, common);
        int64_t final = swm_min(frames, 8 * stride + (start == 0 ? 1 : 0));
        result = show(b, emit, user, shown, swm_rows(tile, 0, final));
        shown += final;
        kept = swm_min(overlap, frames);
        swm_copy(b, swm_rows(tail, 0, kept), swm_rows(tile, frames - kept, kept));
        swm_release(b, tile_mark);
    }
    swm_release(b, mark);
    return result;
}

static void require_latent(const swm_vae *vae, swm_tensor latent)
{
    int64_t least = vae->config.decoder_padding == SWM_PAD_REFLECT ? 2 : 1;
    SWM_REQUIRE(vae->has_decoder && latent.rank == 4 && latent.shape[0] > 0 && latent.shape[1] >= least &&
                    latent.shape[2] >= least && latent.shape[3] == vae->config.latent_channels,
                "latents %s", swm_describe(latent).text);
}

int swm_vae_decode(swm_backend *b, const swm_vae *vae, swm_tensor latent, const swm_vae_tiling *tiling,
                   swm_frames_callback emit, void *user)
{
    const swm_vae_tiling whole = {0};
    if (tiling == NULL) tiling = &whole;
    require_latent(vae, latent);
    SWM_REQUIRE(tiling->frames % 8 == 0 && tiling->frame_stride % 8 == 0 && tiling->frame_stride <= tiling->frames &&
                    (tiling->frames == 0 || tiling->frame_stride > 0),
                "tiles of %lld frames every %lld", (long long)tiling->frames, (long long)tiling->frame_stride);
    if (tiling->frames > 0 && latent.shape[0] > tiling->frames / 8)
        return decode_temporal_tiles(b, vae, latent, tiling, emit, user);
    if (!needs_tiles(latent, tiling))
        return decode_latents((decoder){.run.b = b, .vae = vae, .span = tiling->span, .emit = emit, .user = user},
                              latent);
    swm_mark mark = swm_mark_of(b);
    int result = show(b, emit, user, 0, decode_picture(b, vae, latent, tiling));
    swm_release(b, mark);
    return result;
}

/* ---- streaming ---------------------------------------------------------------------------------------------------- */

void swm_vae_state_take(swm_backend *b, const swm_vae *vae, swm_vae_state *state, int64_t height, int64_t width)
{
    const swm_vae_config *config = &vae->config;
    *state = (swm_vae_state){0};
    swm_tensor *cache = state->caches, *late = state->late;
    int64_t width_in = config->latent_channels, channels = config->decoder_channels[0];
    for (int stage = 0; stage <= config->decoder_blocks; stage++) {
        *cache++ = SWM_TAKE(b, b->compute, 2, height + 2, width + 2, width_in);
        if (stage > 0 && !config->decoder_causal) *late = SWM_TAKE(b, b->compute, 1, height, width, width_in);
        late++;
        if (stage > 0) height *= 2, width *= 2, channels /= 2;
        for (int64_t i = 0; i < config->decoder_layers[stage]; i++, late++) {
            *cache++ = SWM_TAKE(b, b->compute, 2, height + 2, width + 2, channels);
            *cache++ = SWM_TAKE(b, b->compute, 2, height + 2, width + 2, channels);
            if (!config->decoder_causal) *late = SWM_TAKE(b, b->compute, 2, height, width, channels);
        }
        width_in = channels;
    }
    *cache = SWM_TAKE(b, b->compute, 2, height + 2, width + 2, channels);
}

swm_tensor swm_vae_decode_next(swm_backend *b, const swm_vae *vae, swm_vae_state *state, swm_tensor latent)
{
    require_latent(vae, latent);
    SWM_REQUIRE(vae->config.decoder_causal, "a stream of %s for a decoder that is not causal",
                swm_describe(latent).text);
    if (state->frames == 0) {
        memset(state->filled, 0, sizeof state->filled);
        memset(state->begun, 0, sizeof state->begun);
    }
    int64_t frames = 8 * latent.shape[0] - (state->frames == 0 ? 7 : 0);
    swm_tensor all = SWM_TAKE(b, b->compute, frames, 32 * latent.shape[1], 32 * latent.shape[2], 3);
    decode_latents((decoder){.run = {.b = b, .state = state}, .vae = vae, .emit = collect, .user = &all}, latent);
    state->frames += frames;
    return all;
}
