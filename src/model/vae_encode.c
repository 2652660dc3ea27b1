/* The encoder of model/vae.h. */
#include "model/vae_internal.h"

/* Frame 0 once more in front of itself. */
static void repeat_first(swm_backend *b, swm_vae_span *x)
{
    swm_copy(b, swm_rows(x->room, x->first - 1, 1), swm_rows(x->room, x->first, 1));
    x->first--, x->count++;
}

/* Frames of room that what enters a block needs in front: a temporal sampler pairs frames, the first of them with
 * itself. */
static int64_t front_of(const swm_vae_config *config, int block)
{
    return block < config->encoder_blocks && config->encoder_stride[block].time > 1 ? 1 : 0;
}

/* What leaves a block: x, of `channels`, with half as many elements along the axes of the stride. `front` frames of room
 * are left before it. */
static swm_vae_span down_sample(swm_vae_run *run, swm_vae_span x, const swm_vae_stage *stage, swm_vae_stride stride,
                                int64_t channels, int64_t front)
{
    swm_backend *b = run->b;
    const int steps[3] = {(int)stride.time, (int)stride.height, (int)stride.width};
    bool pairs = stride.time > 1, lone = pairs && x.count == 1;
    int64_t frames = (x.count + (pairs ? 1 : 0)) / stride.time;
    swm_vae_span out = {.first = front, .count = frames};
    out.room = SWM_TAKE(b, b->compute, front + frames, x.room.shape[1] / stride.height, x.room.shape[2] / stride.width,
                        channels);
    swm_mark mark = swm_mark_of(b);
    swm_vae_span y = {0};
    if (lone) { /* a frame repeated, convolved, is the frame convolved, repeated */
        y.room = swm_vae_single(run, swm_vae_frames(x), &stage->sampler, (swm_vae_conv_options){.front = 1});
        y.first = y.count = 1;
        repeat_first(b, &y);
    }
    if (pairs) repeat_first(b, &x);
    if (!lone) {
        y.room = swm_vae_single(run, swm_vae_frames(x), &stage->sampler, (swm_vae_conv_options){0});
        y.count = x.count;
    }
    swm_downsample_merge_to(b, swm_vae_frames(out), swm_vae_frames(y), swm_vae_frames(x), steps);
    swm_release(b, mark);
    return out;
}

/* (F,H,W,3) -> (T,h,w,C). Every block's input stays where it is, under its result: together they take less than the
 * first block does. */
static swm_tensor encode_tile(swm_backend *b, const swm_vae *vae, swm_tensor video, const void *user)
{
    (void)user;
    const swm_vae_config *config = &vae->config;
    swm_vae_run run = {.b = b, .causal = config->encoder_causal, .reflect = config->encoder_padding == SWM_PAD_REFLECT};
    int64_t latents = (video.shape[0] + 7) / 8, height = video.shape[1] / 32, width = video.shape[2] / 32;
    swm_tensor mean = SWM_TAKE(b, b->compute, latents, height, width, config->latent_channels);
    swm_mark mark = swm_mark_of(b);
    swm_vae_span x = {.first = front_of(config, 0), .count = video.shape[0]};
    x.room = swm_vae_single(&run, swm_patchify(b, video), &vae->encoder_in,
                            (swm_vae_conv_options){.front = x.first}); /* F, 8h, 8w, C */
    swm_trace(b, swm_vae_frames(x), "encoder.conv_in");
    for (int i = 0; i < config->encoder_blocks; i++) {
        swm_vae_resnets(&run, &x, &vae->encoder[i], config->encoder_layers[i]);
        x = down_sample(&run, x, &vae->encoder[i], config->encoder_stride[i], config->encoder_channels[i],
                        front_of(config, i + 1));
        swm_trace(b, swm_vae_frames(x), "encoder.down_blocks.%d", i);
    }
    int mid = config->encoder_blocks; /* T, h, w, width */
    swm_vae_resnets(&run, &x, &vae->encoder[mid], config->encoder_layers[mid]);
    swm_trace(b, swm_vae_frames(x), "encoder.mid_block");
    swm_tensor out = swm_vae_single(&run, swm_vae_frames(x), &vae->encoder_out,
                                    (swm_vae_conv_options){.norm_silu = true}); /* T, h, w, C+1 */
    swm_trace(b, out, "encoder.conv_out");
    const int64_t zero[4] = {0};
    swm_paste(b, mean, zero, out, zero, mean.shape); /* the last channel is a log-variance, which nobody samples */
    swm_release(b, mark);
    return mean;
}

swm_tensor swm_vae_encode(swm_backend *b, const swm_vae *vae, swm_tensor video, const swm_vae_tiling *tiling)
{
    SWM_REQUIRE(vae->has_encoder && video.rank == 4 && video.shape[0] % 8 == 1 && video.shape[1] % 32 == 0 &&
                    video.shape[2] % 32 == 0 && video.shape[3] == 3,
                "video %s", swm_describe(video).text);
    swm_vae_tiles how = {.in = 32,
                         .out = 1,
                         .out_frames = (video.shape[0] + 7) / 8,
                         .out_channels = vae->config.latent_channels,
                         .network = encode_tile};
    if (tiling != NULL) {
        how.height = tiling->height / 32;
        how.width = tiling->width / 32;
        how.stride = tiling->stride / 32;
    }
    return swm_vae_run_tiles(b, vae, video, &how);
}
