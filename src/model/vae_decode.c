/* The decoder of model/vae.h, and the drivers that run it over tiles of space and time and over streams. */
#include "model/vae_internal.h"

/* Twice the size along every axis, half the width, and without the first frame where a video starts. x and all else since
 * `mark` is given up; the result lies there. */
static swm_tensor up_sample(swm_vae_run *run, swm_mark mark, swm_tensor x, const swm_vae_stage *stage)
{
    bool start = run->state == NULL || run->state->frames == 0;
    swm_tensor y = swm_vae_single(run, x, &stage->sampler, (swm_vae_conv_options){0});
    return swm_vae_settle(run->b, mark, swm_upsample_merge(run->b, y, x, start));
}

/* (n,h,w,C) -> (8n-7,32h,32w,3), or 8n frames where a stream goes on. */
static swm_tensor decode_span(swm_backend *b, const swm_vae *vae, swm_tensor latent, swm_vae_state *state)
{
    const swm_vae_config *config = &vae->config;
    swm_vae_run run = {.b = b,
                       .causal = config->decoder_causal,
                       .reflect = config->decoder_padding == SWM_PAD_REFLECT,
                       .state = state};
    swm_mark mark = swm_mark_of(b);
    swm_tensor x = swm_vae_single(&run, latent, &vae->decoder_in, (swm_vae_conv_options){0}); /* n, h, w, width */
    swm_trace(b, x, "decoder.conv_in");
    swm_vae_resnets(&run, x, &vae->decoder[0], config->decoder_layers[0]);
    swm_trace(b, x, "decoder.mid_block");
    for (int i = 0; i < config->decoder_blocks; i++) { /* n' = 2n-1, 2h, 2w, width/2 and so on */
        const swm_vae_stage *stage = &vae->decoder[i + 1];
        x = up_sample(&run, mark, x, stage);
        swm_vae_resnets(&run, x, stage, config->decoder_layers[i + 1]);
        swm_trace(b, x, "decoder.up_blocks.%d", i);
    }
    x = swm_vae_single(&run, x, &vae->decoder_out, (swm_vae_conv_options){.norm_silu = true}); /* 8n-7, 8h, 8w, 48 */
    x = swm_vae_settle(b, mark, swm_unpatchify(b, x));                                         /* 8n-7, 32h, 32w, 3 */
    if (state != NULL) state->frames += x.shape[0];
    return x;
}

static swm_tensor decode_tile(swm_backend *b, const swm_vae *vae, swm_tensor latent)
{
    return decode_span(b, vae, latent, NULL);
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
                         .network = decode_tile};
    return swm_vae_run_tiles(b, vae, latent, &how);
}

/* Frames of a failed backend are never shown. */
static int show(swm_backend *b, swm_frames_callback emit, void *user, int64_t first_frame, swm_tensor frames)
{
    return !swm_failed(&b->error) && emit(user, b, first_frame, frames) == 0 ? 0 : -1;
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
    swm_mark mark = swm_mark_of(b);
    int result = show(b, emit, user, 0, decode_picture(b, vae, latent, tiling));
    swm_release(b, mark);
    return result;
}

/* ---- streaming ---------------------------------------------------------------------------------------------------- */

static swm_tensor *take_caches(swm_backend *b, swm_tensor *next, int64_t count, int64_t height, int64_t width,
                               int64_t channels)
{
    for (int64_t i = 0; i < count; i++) *next++ = SWM_TAKE(b, b->compute, 2, height + 2, width + 2, channels);
    return next;
}

void swm_vae_state_take(swm_backend *b, const swm_vae *vae, swm_vae_state *state, int64_t height, int64_t width)
{
    const swm_vae_config *config = &vae->config;
    *state = (swm_vae_state){0};
    int64_t channels = config->decoder_channels[0];
    swm_tensor *next = take_caches(b, state->caches, 1, height, width, config->latent_channels);
    next = take_caches(b, next, 2 * config->decoder_layers[0], height, width, channels);
    for (int i = 0; i < config->decoder_blocks; i++) {
        next = take_caches(b, next, 1, height, width, channels);
        height *= 2, width *= 2, channels /= 2;
        next = take_caches(b, next, 2 * config->decoder_layers[i + 1], height, width, channels);
    }
    take_caches(b, next, 1, height, width, channels);
}

swm_tensor swm_vae_decode_next(swm_backend *b, const swm_vae *vae, swm_vae_state *state, swm_tensor latent)
{
    require_latent(vae, latent);
    SWM_REQUIRE(vae->config.decoder_causal, "a stream of %s for a decoder that is not causal",
                swm_describe(latent).text);
    return decode_span(b, vae, latent, state);
}
