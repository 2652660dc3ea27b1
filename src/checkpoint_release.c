/* The published model as shapes alone, for plans. */
#include "checkpoint.h"

#include <string.h>

/* Sizes of the published model: pipeline of 704x1280, LTX-2.0 video autoencoder, Gemma-2-2B. */
const char swm_checkpoint_release_config[] =
    "model: {model: SanaMSVideoCamCtrl_1600M_P1_D20, image_size: 720, linear_head_dim: 112, softmax_every_n: 4,\n"
    "  conv_kernel_size: 4, k_conv_only: true, attn_type: BidirectionalGDNTriton, ffn_type: GLUMBConvTemp,\n"
    "  t_kernel_size: 3, mlp_acts: [silu, silu, null], mlp_ratio: 3, pos_embed_type: wan_rope, qk_norm: true,\n"
    "  cross_norm: true, use_chunk_plucker_post_attn: true, chunk_plucker_channels: 48, mixed_precision: bf16}\n"
    "vae: {vae_type: LTX2VAE_diffusers, vae_pretrained: ., vae_latent_dim: 128, vae_stride: [8, 32, 32]}\n"
    "text_encoder: {text_encoder_name: gemma-2-2b-it, y_norm: true, model_max_length: 300}\n"
    "scheduler: {flow_shift: 9.95, inference_flow_shift: 9.8, vis_sampler: flow_dpm-solver, predict_flow_v: true,\n"
    "  noise_schedule: linear_flow, pred_sigma: false}\n";

static const swm_vae_config release_vae = {
    .latent_channels = 128,
    .encoder_blocks = 4,
    .encoder_channels = {256, 512, 1024, 2048},
    .encoder_layers = {4, 6, 6, 2, 2},
    .encoder_stride = {{1, 2, 2}, {2, 1, 1}, {2, 2, 2}, {2, 2, 2}},
    .decoder_blocks = 3,
    .decoder_channels = {1024, 512, 256},
    .decoder_layers = {5, 5, 5, 5},
    .encoder_causal = true,
    .decoder_causal = false,
    .encoder_padding = SWM_PAD_ZEROS,
    .decoder_padding = SWM_PAD_REFLECT,
    .scaling_factor = 1.0,
};

static const swm_gemma_config release_gemma = {
    .generation = 2,
    .vocab_size = 256000,
    .hidden_size = 2304,
    .intermediate_size = 9216,
    .layers = 26,
    .heads = 8,
    .kv_heads = 4,
    .head_dim = 256,
    .query_pre_attn_scalar = 256,
    .attn_logit_softcapping = 50,
    .rms_norm_eps = 1e-6,
    .rope_theta = 10000,
    .sliding_rope_theta = 10000,
    .rope_factor = 1,
    .sliding_window = 4096,
};

/* Every sixth layer of Gemma 3 sees all, the others a window. */
static swm_gemma_config release_gemma3(void)
{
    swm_gemma_config config = {
        .generation = 3,
        .vocab_size = 262208,
        .hidden_size = 3840,
        .intermediate_size = 15360,
        .layers = 48,
        .heads = 16,
        .kv_heads = 8,
        .head_dim = 256,
        .query_pre_attn_scalar = 256,
        .rms_norm_eps = 1e-6,
        .rope_theta = 1e6,
        .sliding_rope_theta = 1e4,
        .rope_factor = 8,
        .sliding_window = 1024,
    };
    for (int64_t i = 0; i < config.layers; i++) config.sliding[i] = (i + 1) % 6 != 0;
    return config;
}

static int open_release_refiner(swm_refiner_parts *r, swm_error *error)
{
    const swm_refiner_config transformer = swm_refiner_release_config();
    const swm_connectors_config connectors = swm_connectors_release_config();
    const swm_gemma_config gemma = release_gemma3();
    r->transformer_weights = swm_weights_declared(error);
    r->connector_weights = swm_weights_declared(error);
    r->text_weights = swm_weights_declared(error);
    if (r->transformer_weights == NULL || r->connector_weights == NULL || r->text_weights == NULL) return -1;
    if (swm_refiner_declare(r->transformer_weights, &transformer, SWM_BF16, error) != 0 ||
        swm_connectors_declare(r->connector_weights, &connectors, SWM_BF16, error) != 0 ||
        swm_gemma_declare(r->text_weights, &gemma, SWM_BF16, error) != 0)
        return -1;
    r->transformer = swm_refiner_bind(r->transformer_weights, &transformer, error);
    r->connectors = r->transformer != NULL ? swm_connectors_bind(r->connector_weights, &connectors, error) : NULL;
    if (r->connectors == NULL) return -1;
    return swm_gemma_bind(&r->gemma, r->text_weights, &gemma, false, error);
}

static int open_release(swm_checkpoint *c, swm_error *error)
{
    swm_dit_size size = swm_dit_release_size();
    if (swm_pipeline_config_parse(&c->config, "the release", swm_checkpoint_release_config,
                                  strlen(swm_checkpoint_release_config), error) != 0)
        return -1;
    c->dit_weights = swm_weights_declared(error);
    c->vae_weights = swm_weights_declared(error);
    c->text_weights = swm_weights_declared(error);
    if (c->dit_weights == NULL || c->vae_weights == NULL || c->text_weights == NULL) return -1;
    if (swm_dit_declare(c->dit_weights, &size, SWM_BF16, error) != 0 ||
        swm_vae_declare(c->vae_weights, &release_vae, SWM_BF16, error) != 0 ||
        swm_gemma_declare(c->text_weights, &release_gemma, SWM_BF16, error) != 0)
        return -1;
    c->dit = swm_dit_bind(c->dit_weights, size.head, size.softmax_every, error);
    c->vae = c->dit != NULL ? swm_vae_bind(c->vae_weights, &release_vae, SWM_VAE_BOTH, error) : NULL;
    if (c->vae == NULL) return -1;
    if (swm_gemma_bind(&c->gemma, c->text_weights, &release_gemma, false, error) != 0) return -1;
    return open_release_refiner(&c->refiner, error);
}

int swm_checkpoint_open_release(swm_checkpoint *c, swm_error *error)
{
    *c = (swm_checkpoint){0};
    if (open_release(c, error) == 0) return 0;
    swm_checkpoint_close(c);
    return -1;
}
