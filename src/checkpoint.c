/* Implements checkpoint.h. */
#include "checkpoint.h"

#include "core/file.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- places ------------------------------------------------------------------------------------------------------- */

static char *existing(swm_error *error, const char *directory, const char *name, bool (*exists)(const char *path))
{
    char *path = swm_path_join(error, directory, name);
    if (path != NULL && exists(path)) return path;
    free(path);
    return NULL;
}

/* The only entry of a directory that is not hidden; NULL when there is none or more than one. */
static char *only_entry(const char *directory)
{
    DIR *listing = opendir(directory);
    if (listing == NULL) return NULL;
    char *found = NULL;
    int count = 0;
    for (struct dirent *entry; (entry = readdir(listing)) != NULL;) {
        if (entry->d_name[0] == '.') continue;
        free(found);
        found = swm_path_join(NULL, directory, entry->d_name);
        count++;
    }
    closedir(listing);
    if (count == 1) return found;
    free(found);
    return NULL;
}

/* A cache directory of Hugging Face (models--owner--name) stands for the snapshot that refs/main names, or its only one. */
static char *resolve_snapshot(const char *directory, swm_error *error)
{
    char *snapshots = swm_path_join(error, directory, "snapshots");
    if (snapshots == NULL) return NULL;
    char *resolved = NULL;
    if (swm_directory_exists(snapshots)) {
        char *reference = swm_path_join(error, directory, "refs/main");
        char *revision = reference != NULL ? swm_file_read(reference, 256, NULL, NULL) : NULL;
        if (revision != NULL) {
            revision[strcspn(revision, " \r\n")] = '\0';
            if (strchr(revision, '/') == NULL) resolved = existing(error, snapshots, revision, swm_directory_exists);
        }
        if (resolved == NULL) resolved = only_entry(snapshots);
        if (resolved == NULL)
            swm_fail(error, "%s: holds several snapshots and refs/main names none; give one of them", snapshots);
        free(revision);
        free(reference);
    } else {
        resolved = swm_copy_string(error, directory);
    }
    free(snapshots);
    return resolved;
}

int swm_layout_find(swm_layout *layout, const char *directory, const char *dit, const char *text_encoder,
                    swm_error *error)
{
    *layout = (swm_layout){0};
    if (!swm_directory_exists(directory))
        return swm_fail(error, "%s: is no directory; a model directory holds config.yaml, dit/ and vae/", directory);
    layout->directory = resolve_snapshot(directory, error);
    if (layout->directory == NULL) return -1;
    const char *root = layout->directory;
    layout->config = existing(error, root, "config.yaml", swm_file_exists);
    layout->dit = dit != NULL ? swm_copy_string(error, dit) : existing(error, root, "dit", swm_directory_exists);
    if (layout->dit == NULL) layout->dit = existing(error, root, "sana_dit/model.pt", swm_file_exists);
    layout->vae = existing(error, root, "vae", swm_directory_exists);
    if (layout->vae == NULL) layout->vae = existing(error, root, "ltx2_causal_vae", swm_directory_exists);
    layout->text_encoder = text_encoder != NULL ? resolve_snapshot(text_encoder, error)
                                                : existing(error, root, "text_encoder", swm_directory_exists);
    /* Beside a release in a Hugging Face cache lies the repository of its text encoder. */
    char *cached =
        text_encoder == NULL && layout->text_encoder == NULL
            ? existing(error, root, "../../../models--Efficient-Large-Model--gemma-2-2b-it", swm_directory_exists)
            : NULL;
    if (cached != NULL) layout->text_encoder = resolve_snapshot(cached, error);
    free(cached);
    layout->refiner = existing(error, root, "refiner", swm_directory_exists);
    if (!swm_failed(error)) return 0;
    swm_layout_free(layout);
    return -1;
}

void swm_layout_free(swm_layout *layout)
{
    free(layout->directory);
    free(layout->config);
    free(layout->dit);
    free(layout->vae);
    free(layout->text_encoder);
    free(layout->refiner);
    *layout = (swm_layout){0};
}

void swm_checkpoint_video_size(const swm_pipeline_config *config, int *width, int *height)
{
    /* 16:9 of the nominal height, both cut to whole latent cells: 720 -> 1280x704, 128 -> 224x128. */
    *height = (int)(config->image_size / 32 * 32);
    *width = (int)(config->image_size * 16 / 9 / 32 * 32);
}

/* ---- opening ------------------------------------------------------------------------------------------------------ */

static int open_text_encoder(swm_checkpoint *c, bool softcap, swm_error *error)
{
    const char *directory = c->layout.text_encoder;
    if (directory == NULL) return 0;
    char *path = swm_path_join(error, directory, "config.json");
    swm_gemma_config config;
    int result = path != NULL ? swm_gemma_config_read(&config, path, error) : -1;
    free(path);
    if (result != 0) return -1;
    c->text_weights = swm_weights_open(directory, error);
    c->tokenizer = c->text_weights != NULL ? swm_tokenizer_open(directory, error) : NULL;
    if (c->tokenizer == NULL || swm_gemma_bind(&c->gemma, c->text_weights, &config, softcap, error) != 0) return -1;
    if (swm_tokenizer_vocabulary(c->tokenizer) > config.vocab_size)
        return swm_fail(error, "%s: the tokenizer has %lld tokens, the encoder knows %lld; they do not belong together",
                        directory, (long long)swm_tokenizer_vocabulary(c->tokenizer), (long long)config.vocab_size);
    return 0;
}

/* What the configuration says against what the tensors are. */
static int check_agreement(const swm_checkpoint *c, swm_error *error)
{
    const swm_dit_size *s = &c->dit->size;
    const char *file = c->layout.config;
    if (s->latent_channels != c->config.vae_latent_dim || s->latent_channels != c->vae->config.latent_channels)
        return swm_fail(error,
                        "%s: vae_latent_dim is %lld, the DiT has %lld latent channels and the VAE %lld; these parts "
                        "do not belong together",
                        file, (long long)c->config.vae_latent_dim, (long long)s->latent_channels,
                        (long long)c->vae->config.latent_channels);
    if (s->plucker_channels != 48)
        return swm_fail(error, "%s: the DiT takes %lld Plucker channels; 48 are expected",
                        swm_weights_path(c->dit_weights), (long long)s->plucker_channels);
    if (c->config.model_max_length > 1 << 12)
        return swm_fail(error, "%s: model_max_length is %lld; at most 4096 is expected", file,
                        (long long)c->config.model_max_length);
    if (c->tokenizer != NULL && c->gemma.config.hidden_size != s->caption_channels)
        return swm_fail(error, "%s: has states of width %lld, the DiT takes %lld; this is another model's text encoder",
                        c->layout.text_encoder, (long long)c->gemma.config.hidden_size, (long long)s->caption_channels);
    return 0;
}

static int open_parts(swm_checkpoint *c, bool softcap, swm_error *error)
{
    const char *root = c->layout.directory;
    if (c->layout.config == NULL) return swm_fail(error, "%s: holds no config.yaml; is this a model directory?", root);
    if (c->layout.dit == NULL) return swm_fail(error, "%s: holds no dit/; pass --dit FILE if it is elsewhere", root);
    if (c->layout.vae == NULL)
        return swm_fail(error, "%s: holds no vae/; copy the bidirectional release's vae/ there", root);
    if (swm_pipeline_config_read(&c->config, c->layout.config, error) != 0) return -1;
    c->dit_weights = swm_weights_open(c->layout.dit, error);
    if (c->dit_weights == NULL) return -1;
    c->dit = swm_dit_bind(c->dit_weights, c->config.linear_head_dim, c->config.softmax_every_n, error);
    if (c->dit == NULL) return -1;
    char *path = swm_path_join(error, c->layout.vae, "config.json");
    swm_vae_config config;
    int result = path != NULL ? swm_vae_config_read(&config, path, error) : -1;
    free(path);
    if (result != 0) return -1;
    c->vae_weights = swm_weights_open(c->layout.vae, error);
    if (c->vae_weights == NULL) return -1;
    c->vae = swm_vae_bind(c->vae_weights, &config, SWM_VAE_BOTH, error);
    if (c->vae == NULL || open_text_encoder(c, softcap, error) != 0) return -1;
    return check_agreement(c, error);
}

int swm_checkpoint_open(swm_checkpoint *c, const char *directory, const char *dit, const char *text_encoder,
                        bool softcap, swm_error *error)
{
    *c = (swm_checkpoint){0};
    if (swm_layout_find(&c->layout, directory, dit, text_encoder, error) == 0 && open_parts(c, softcap, error) == 0)
        return 0;
    swm_checkpoint_close(c);
    return -1;
}

void swm_checkpoint_close(swm_checkpoint *c)
{
    swm_tokenizer_close(c->tokenizer);
    swm_gemma_free(&c->gemma);
    free(c->vae);
    free(c->dit);
    swm_weights_close(c->text_weights);
    swm_weights_close(c->vae_weights);
    swm_weights_close(c->dit_weights);
    swm_pipeline_config_free(&c->config);
    swm_layout_free(&c->layout);
    *c = (swm_checkpoint){0};
}

/* ---- the release without files ------------------------------------------------------------------------------------- */

/* Sizes of the published model: pipeline of 704x1280, LTX-2.0 video autoencoder, Gemma-2-2B. */
static const char release_config[] =
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

static int open_release(swm_checkpoint *c, swm_error *error)
{
    swm_dit_size size = swm_dit_release_size();
    if (swm_pipeline_config_parse(&c->config, "the release", release_config, strlen(release_config), error) != 0)
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
    return swm_gemma_bind(&c->gemma, c->text_weights, &release_gemma, false, error);
}

int swm_checkpoint_open_release(swm_checkpoint *c, swm_error *error)
{
    *c = (swm_checkpoint){0};
    if (open_release(c, error) == 0) return 0;
    swm_checkpoint_close(c);
    return -1;
}
