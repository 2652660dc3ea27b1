/* The configuration files of a model directory as checked structs: config.yaml of the pipeline, vae/config.json and
 * text_encoder/config.json. Owns reading, defaults, ranges and the refusal of what is not implemented. Sizes that only
 * the weights know (depth, width) are not here.
 *
 * Every integer is bounded such that products of any few of them fit into int64_t. In each file, null means absent. */
#ifndef SWM_CONFIG_H
#define SWM_CONFIG_H

#include "core/base.h"
#include "io/json.h"

enum { SWM_MAX_CHUNKS = 1024, SWM_VAE_MAX_BLOCKS = 8, SWM_GEMMA_MAX_LAYERS = 128 };

/* How a clip is cut into chunks when chunk_size is set and chunk_index is not. */
typedef enum swm_chunk_split {
    SWM_SPLIT_FIRST_CHUNK_PLUS_ONE, /* c+1 frames, then c each */
    SWM_SPLIT_UNIFORM,              /* c each */
    SWM_SPLIT_FIRST_FRAME           /* 1 frame, then c each */
} swm_chunk_split;

/* config.yaml. Strings are owned and never NULL. */
typedef struct swm_pipeline_config {
    /* model */
    char *model;               /* SanaMSVideoCamCtrl... */
    swm_dtype mixed_precision; /* SWM_BF16, SWM_F16 or SWM_F32: what the reference computes in */
    int64_t image_size;
    int64_t linear_head_dim;  /* heads = width / this */
    int64_t softmax_every_n;  /* block i has softmax attention iff (i + 1) % n == 0; 0: none has */
    int64_t conv_kernel_size; /* of the short convolution on keys, in frames */
    int64_t t_kernel_size;    /* of the temporal convolution in the FFN */
    double mlp_ratio;         /* informative: the tensors know the width */
    bool fp32_attention;
    char *camctrl_type; /* "" when absent */
    bool chunk_causal;  /* camctrl_type contains ChunkCausal */
    int64_t chunk_size; /* latent frames; 0: not set, the clip is one chunk */
    int chunk_index_count;
    int64_t chunk_index[SWM_MAX_CHUNKS]; /* first frames of chunks: starts at 0, ascends; empty: from chunk_size */
    swm_chunk_split chunk_split_strategy;
    int64_t chunk_plucker_channels;         /* 6 numbers a ray times frames a latent frame */
    int64_t chunk_plucker_post_attn_blocks; /* blocks with a Plucker projection, from the first on; -1: all */

    /* vae */
    char *vae_type, *vae_pretrained;
    int64_t vae_latent_dim;
    int64_t vae_stride[3];                                             /* pixels a latent: frames, rows, columns */
    int64_t tile_sample_min_num_frames, tile_sample_stride_num_frames; /* pixel frames, multiples of 8 */

    /* text_encoder */
    char *text_encoder_name;
    int64_t model_max_length; /* tokens kept behind the instruction */
    int chi_prompt_count;
    char **chi_prompt; /* lines of the instruction, verbatim: the last one ends in a blank that counts */
    int64_t caption_channels;
    bool y_norm;

    /* scheduler */
    double flow_shift;
    double inference_flow_shift; /* 0: absent, then flow_shift holds */
    char *vis_sampler;

    char *work_dir; /* "" when absent */
} swm_pipeline_config;

/* Unknown keys, wrong types, repeated keys, anchors, aliases, tags and further documents are errors, as are values that
 * ask for a network which is not implemented. On failure *config is {0}. */
int swm_pipeline_config_read(swm_pipeline_config *config, const char *path, swm_error *error);
int swm_pipeline_config_parse(swm_pipeline_config *config, const char *file, const void *data, size_t size,
                              swm_error *error);
void swm_pipeline_config_free(swm_pipeline_config *config); /* safe on {0} and twice */

typedef enum swm_spatial_padding { SWM_PAD_ZEROS, SWM_PAD_REFLECT } swm_spatial_padding;

typedef struct swm_vae_stride {
    int64_t time, height, width;
} swm_vae_stride;

/* vae/config.json. Encoder block i has encoder_layers[i] resnets at its input width (latent_channels for the first) and
 * then halves the axes of encoder_stride[i] into encoder_channels[i]; the mid block has encoder_layers[encoder_blocks].
 * The decoder is in execution order, the reverse of the file: its mid block has decoder_layers[0] resnets at
 * decoder_channels[0]; up block i widens (2,2,2) from decoder_channels[i] to half of that and has decoder_layers[i + 1]
 * resnets there. Owns nothing. */
typedef struct swm_vae_config {
    int64_t latent_channels;
    int encoder_blocks;
    int64_t encoder_channels[SWM_VAE_MAX_BLOCKS];
    int64_t encoder_layers[SWM_VAE_MAX_BLOCKS + 1];
    swm_vae_stride encoder_stride[SWM_VAE_MAX_BLOCKS];
    int decoder_blocks;
    int64_t decoder_channels[SWM_VAE_MAX_BLOCKS];
    int64_t decoder_layers[SWM_VAE_MAX_BLOCKS + 1];
    bool encoder_causal, decoder_causal;
    swm_spatial_padding encoder_padding, decoder_padding;
    double scaling_factor;
} swm_vae_config;

int swm_vae_config_read(swm_vae_config *config, const char *path, swm_error *error);
/* From a parsed object; `file` only names the source. Keys that are not about structure are ignored. */
int swm_vae_config_from_json(swm_vae_config *config, const char *file, const cJSON *object, swm_error *error);

/* text_encoder/config.json: Gemma 2 or the text model of Gemma 3. Owns nothing. */
typedef struct swm_gemma_config {
    int generation; /* 2 or 3 */
    int64_t vocab_size, hidden_size, intermediate_size, layers, heads, kv_heads, head_dim;
    double query_pre_attn_scalar;  /* scores are scaled by its -1/2 power */
    double attn_logit_softcapping; /* c: scores become c tanh(score / c); 0: they do not */
    double rms_norm_eps;
    double rope_theta;         /* of full layers, and of sliding ones in Gemma 2 */
    double sliding_rope_theta; /* of sliding layers; equals rope_theta in Gemma 2 */
    double rope_factor;        /* inverse frequencies of full layers are divided by it; 1 in Gemma 2 */
    int64_t sliding_window;    /* a sliding layer's query i sees key j iff 0 <= i - j < window */
    bool sliding[SWM_GEMMA_MAX_LAYERS];
} swm_gemma_config;

int swm_gemma_config_read(swm_gemma_config *config, const char *path, swm_error *error);
/* From a parsed object, in which a missing model_type means gemma2. A text_config inside is followed. */
int swm_gemma_config_from_json(swm_gemma_config *config, const char *file, const cJSON *object, swm_error *error);

#endif
