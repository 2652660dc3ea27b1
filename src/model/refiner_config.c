/* config.json of the refiner's transformer. */
#include "core/file.h"
#include "model/refiner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAXIMUM_FILE = 1 << 20 };
#define COUNT(list) (sizeof(list) / sizeof *(list))

swm_refiner_config swm_refiner_release_config(void)
{
    return (swm_refiner_config){
        .channels = 128,
        .depth = 48,
        .heads = 32,
        .head = 128,
        .caption_channels = 3840,
        .rope_theta = 10000,
        .max_positions = {20, 2048, 2048},
    };
}

/* Switches of LTX2VideoTransformer3DModel that have one position here. Those which LTX-2.3 or keyframes turn on ask for
 * parts of a network that does not exist here; an absent key is in this position. */
static const struct {
    const char *key;
    bool value;
} switches[] = {
    {"attention_bias", true},
    {"attention_out_bias", true},
    {"ff_bias", true},
    {"norm_elementwise_affine", false},
    {"rope_double_precision", true},
    {"use_prompt_embeddings", true},
    {"gated_attn", false},
    {"cross_attn_mod", false},
    {"perturbed_attn", false},
    {"use_keyframes_abs_pos_embedding", false},
};
static const struct {
    const char *key, *value;
} texts[] = {
    {"_class_name", "LTX2VideoTransformer3DModel"},
    {"activation_fn", "gelu-approximate"},
    {"qk_norm", "rms_norm_across_heads"},
};
static const struct {
    const char *key;
    double value;
} numbers[] = {
    {"norm_eps", 1e-6},   {"patch_size", 1}, {"patch_size_t", 1}, {"timestep_scale_multiplier", 1000},
    {"causal_offset", 1},
};

static int check_network(swm_json in, swm_error *error)
{
    for (size_t i = 0; i < COUNT(switches); i++)
        if (swm_json_must_be_bool(in, switches[i].key, switches[i].value, error) != 0) return -1;
    for (size_t i = 0; i < COUNT(texts); i++)
        if (swm_json_must_be_string(in, texts[i].key, texts[i].value, error) != 0) return -1;
    for (size_t i = 0; i < COUNT(numbers); i++) {
        double value;
        if (swm_json_number_or(in, numbers[i].key, -1e9, 1e9, numbers[i].value, &value, error) != 0) return -1;
        if (value < numbers[i].value || value > numbers[i].value) {
            char expected[32];
            snprintf(expected, sizeof expected, "%g", numbers[i].value);
            return swm_json_refuse(in, numbers[i].key, expected, error);
        }
    }
    int64_t factors[3] = {8, 32, 32};
    int count = 3;
    if (swm_json_find(in, "vae_scale_factors") != NULL &&
        swm_json_integers(in, "vae_scale_factors", 1, 1024, factors, 3, &count, error) != 0)
        return -1;
    if (count != 3 || factors[0] != 8 || factors[1] != 32 || factors[2] != 32)
        return swm_json_refuse(in, "vae_scale_factors", "[8, 32, 32]", error);
    return 0;
}

static int read_sizes(swm_json in, swm_refiner_config *config, swm_error *error)
{
    swm_refiner_config release = swm_refiner_release_config();
    int64_t out, cross, width;
    if (swm_json_integer_or(in, "in_channels", 1, 4096, release.channels, &config->channels, error) != 0 ||
        swm_json_integer_or(in, "out_channels", 1, 4096, config->channels, &out, error) != 0 ||
        swm_json_integer_or(in, "num_layers", 1, SWM_REFINER_MAX_DEPTH, release.depth, &config->depth, error) != 0 ||
        swm_json_integer_or(in, "num_attention_heads", 1, 1024, release.heads, &config->heads, error) != 0 ||
        swm_json_integer_or(in, "attention_head_dim", 2, 1024, release.head, &config->head, error) != 0 ||
        swm_json_integer_or(in, "caption_channels", 1, 65536, release.caption_channels, &config->caption_channels,
                            error) != 0)
        return -1;
    width = config->heads * config->head;
    if (swm_json_integer_or(in, "cross_attention_dim", 1, 1 << 20, width, &cross, error) != 0) return -1;
    if (out != config->channels) return swm_json_refuse(in, "out_channels", "as many as in_channels", error);
    if (cross != width)
        return swm_json_refuse(in, "cross_attention_dim", "num_attention_heads times attention_head_dim", error);
    if (config->head % 2 != 0 || width < 6)
        return swm_json_refuse(in, "attention_head_dim", "an even size, and 6 or more over all heads", error);
    return 0;
}

static int read_rotation(swm_json in, swm_refiner_config *config, swm_error *error)
{
    /* The class takes an absent rope_type as interleaved, the release is split: a guess would make noise of a video. */
    static const char *const keys[3] = {"pos_embed_max_pos", "base_height", "base_width"};
    swm_refiner_config release = swm_refiner_release_config();
    const char *kind;
    if (swm_json_string(in, "rope_type", &kind, error) != 0 ||
        swm_json_number_or(in, "rope_theta", 1, 1e9, release.rope_theta, &config->rope_theta, error) != 0)
        return -1;
    config->interleaved = strcmp(kind, "interleaved") == 0;
    if (!config->interleaved && strcmp(kind, "split") != 0)
        return swm_json_refuse(in, "rope_type", "split or interleaved", error);
    for (int i = 0; i < 3; i++)
        if (swm_json_integer_or(in, keys[i], 1, 1 << 20, release.max_positions[i], &config->max_positions[i], error) !=
            0)
            return -1;
    return 0;
}

int swm_refiner_config_parse(swm_refiner_config *config, const char *file, const void *data, size_t size,
                             swm_error *error)
{
    *config = (swm_refiner_config){0};
    if (size > MAXIMUM_FILE)
        return swm_fail(error, "%s: has %zu bytes, more than the 1 MiB that a configuration may have", file, size);
    cJSON *tree = swm_json_parse(file, data, size, error);
    swm_json in;
    int result = tree != NULL ? swm_json_root(&in, file, tree, error) : -1;
    if (result == 0) result = check_network(in, error);
    if (result == 0) result = read_sizes(in, config, error);
    if (result == 0) result = read_rotation(in, config, error);
    if (result != 0) *config = (swm_refiner_config){0};
    cJSON_Delete(tree);
    return result;
}

int swm_refiner_config_read(swm_refiner_config *config, const char *path, swm_error *error)
{
    *config = (swm_refiner_config){0};
    char *file = swm_directory_exists(path) ? swm_path_join(error, path, "config.json") : swm_copy_string(error, path);
    size_t size;
    char *data = file != NULL ? swm_file_read(file, MAXIMUM_FILE, &size, error) : NULL;
    int result = data != NULL ? swm_refiner_config_parse(config, file, data, size, error) : -1;
    free(data);
    free(file);
    return result;
}
