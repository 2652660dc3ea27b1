/* The encoder of model/vae.h. */
#include "model/vae_internal.h"

/* (T,...) -> (T+1,...): a temporal sampler pairs frames, the first of them with itself. */
static swm_tensor repeat_first(swm_backend *b, swm_tensor x)
{
    swm_tensor y = SWM_TAKE(b, x.dtype, x.shape[0] + 1, x.shape[1], x.shape[2], x.shape[3]);
    swm_copy(b, swm_rows(y, 0, 1), swm_rows(x, 0, 1));
    swm_copy(b, swm_rows(y, 1, x.shape[0]), x);
    return y;
}

/* x and all else since `mark` is given up; the result lies there. */
static swm_tensor down_sample(swm_vae_run *run, swm_mark mark, swm_tensor x, const swm_vae_stage *stage,
                              swm_vae_stride stride)
{
    swm_backend *b = run->b;
    const swm_vae_conv_options plain = {0};
    bool lone = x.shape[0] == 1;
    swm_tensor y;
    if (stride.time == 1) {
        y = swm_vae_single(run, x, &stage->sampler, plain);
    } else if (lone) { /* a frame repeated, convolved, is the frame convolved, repeated */
        y = repeat_first(b, swm_vae_single(run, x, &stage->sampler, plain));
        x = repeat_first(b, x);
    } else {
        x = repeat_first(b, x);
        y = swm_vae_single(run, x, &stage->sampler, plain);
    }
    const int steps[3] = {(int)stride.time, (int)stride.height, (int)stride.width};
    return swm_vae_settle(b, mark, swm_downsample_merge(b, y, x, steps));
}

/* (F,H,W,3) -> (T,h,w,C) */
static swm_tensor encode_tile(swm_backend *b, const swm_vae *vae, swm_tensor video, const void *user)
{
    (void)user;
    const swm_vae_config *config = &vae->config;
    swm_vae_run run = {.b = b, .causal = config->encoder_causal, .reflect = config->encoder_padding == SWM_PAD_REFLECT};
    int64_t latents = (video.shape[0] + 7) / 8, height = video.shape[1] / 32, width = video.shape[2] / 32;
    swm_tensor mean = SWM_TAKE(b, b->compute, latents, height, width, config->latent_channels);
    swm_mark mark = swm_mark_of(b);
    swm_tensor x = swm_patchify(b, video);                                    /* F, 8h, 8w, 48 */
    x = swm_vae_single(&run, x, &vae->encoder_in, (swm_vae_conv_options){0}); /* F, 8h, 8w, C */
    swm_trace(b, x, "encoder.conv_in");
    for (int i = 0; i < config->encoder_blocks; i++) {
        swm_vae_resnets(&run, &(swm_vae_span){x, 0, x.shape[0]}, &vae->encoder[i], config->encoder_layers[i]);
        x = down_sample(&run, mark, x, &vae->encoder[i], config->encoder_stride[i]);
        swm_trace(b, x, "encoder.down_blocks.%d", i);
    }
    int mid = config->encoder_blocks; /* T, h, w, width */
    swm_vae_resnets(&run, &(swm_vae_span){x, 0, x.shape[0]}, &vae->encoder[mid], config->encoder_layers[mid]);
    swm_trace(b, x, "encoder.mid_block");
    x = swm_vae_single(&run, x, &vae->encoder_out, (swm_vae_conv_options){.norm_silu = true}); /* T, h, w, C+1 */
    swm_trace(b, x, "encoder.conv_out");
    const int64_t zero[4] = {0};
    swm_paste(b, mean, zero, x, zero, mean.shape); /* the last channel is a log-variance, which nobody samples */
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
