/* Strict JSON and YAML, and the configurations of the models in the tree: what they hold and what is refused. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/file.h"
#include "io/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int test_config(void);

#define TINY "tests/golden/tiny_random_model/"
#define TOY  "models/toyworld/"

static void expect_message(const swm_error *error, const char *text)
{
    assert_ptr_equal(strstr(error->text, "file: "), error->text);
    if (strstr(error->text, text) == NULL) fail_msg("\"%s\" does not say \"%s\"", error->text, text);
}

static void json_syntax(void **state)
{
    (void)state;
    static const char *const good[] = {"{}", " [1, -0.5e+3, 0] \n", "\"\\u00e9\\ud83d\\ude42 \xc3\xa9\"", "null",
                                       "{\"a\":{\"a\":1},\"b\":{\"a\":2}}"};
    static const char *const bad[] = {"",
                                      " ",
                                      "{",
                                      "[1,]",
                                      "[1 2]",
                                      "{\"a\" 1}",
                                      "{\"1\":1,",
                                      "{} x",
                                      "{}{}",
                                      "[01]",
                                      "[1.]",
                                      "[+1]",
                                      "[-]",
                                      "[NaN]",
                                      "[1e]",
                                      "truex",
                                      "\"\t\"",
                                      "\"abc",
                                      "\"\\x\"",
                                      "\"\\u0000\"",
                                      "\"\\ud800\"",
                                      "\"\\u12\"",
                                      "\"\xff\"",
                                      "\"\xc0\x80\"",
                                      "\"\xed\xa0\x80\"",
                                      "\"\xf4\x90\x80\x80\"",
                                      "\"\xe2\x82",
                                      "[1]\v",
                                      "{\"a\":1,\"a\":2}",
                                      "{\"x\":[{\"a\":1,\"b\":3,\"a\":2}]}",
                                      "[9999999999999999999999999999999999999999999999999999999999999999999]"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        swm_error error = {0};
        cJSON *tree = swm_json_parse("file", good[i], strlen(good[i]), &error);
        if (tree == NULL) fail_msg("%s: %s", good[i], error.text);
        cJSON_Delete(tree);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        swm_error error = {0};
        /* An exact allocation lets the sanitizer see a read past the end. */
        size_t size = strlen(bad[i]);
        char *copy = malloc(size + 1);
        assert_non_null(copy);
        memcpy(copy + 1, bad[i], size);
        if (swm_json_parse("file", copy + 1, size, &error) != NULL) fail_msg("%s was accepted", bad[i]);
        expect_message(&error, "file: ");
        free(copy);
    }
    assert_null(swm_json_parse("file", "[1\0]", 4, NULL));
    char deep[130];
    memset(deep, '[', 65);
    memset(deep + 65, ']', 65);
    assert_null(swm_json_parse("file", deep, 130, NULL));
    cJSON *tree = swm_json_parse("file", deep + 1, 128, NULL);
    assert_non_null(tree);
    cJSON_Delete(tree);
}

static void json_getters(void **state)
{
    (void)state;
    const char *text = "{\"i\":3.0,\"h\":2.5,\"big\":1e300,\"inf\":1e999,\"t\":true,\"s\":\"x\",\"n\":null,"
                       "\"l\":[1,2,3],\"m\":[1,\"2\"],\"o\":{\"k\":7}}";
    cJSON *tree = swm_json_parse("file", text, strlen(text), NULL);
    assert_non_null(tree);
    swm_json top, inner;
    int64_t i = 0, list[3];
    double d = 0;
    bool b = false;
    const char *s = NULL;
    int count = 0;
    assert_int_equal(swm_json_root(&top, "file", tree, NULL), 0);
    assert_int_equal(swm_json_integer(top, "i", 3, 3, &i, NULL), 0);
    assert_int_equal(i, 3);
    assert_int_equal(swm_json_integer_or(top, "n", 0, 9, 5, &i, NULL), 0);
    assert_int_equal(i, 5);
    assert_int_equal(swm_json_number(top, "h", 0, 3, &d, NULL), 0);
    assert_true(d == 2.5);
    assert_int_equal(swm_json_bool(top, "t", &b, NULL), 0);
    assert_true(b);
    assert_int_equal(swm_json_string_or(top, "none", "y", &s, NULL), 0);
    assert_string_equal(s, "y");
    assert_int_equal(swm_json_integers(top, "l", 1, 3, list, 3, &count, NULL), 0);
    assert_true(count == 3 && list[2] == 3);
    assert_int_equal(swm_json_integers_or_none(top, "none", 1, 3, list, 3, &count, NULL), 0);
    assert_int_equal(count, 0);

    static const char *const not_integers[] = {"h", "big", "inf", "t", "s", "n", "l", "none"};
    for (size_t k = 0; k < sizeof not_integers / sizeof *not_integers; k++) {
        swm_error error = {0};
        assert_int_equal(swm_json_integer(top, not_integers[k], -9, 9, &i, &error), -1);
        expect_message(&error, not_integers[k]);
        expect_message(&error, "an integer from -9 to 9");
    }
    assert_int_equal(swm_json_integer(top, "i", 4, 9, &i, NULL), -1);
    assert_int_equal(swm_json_number(top, "inf", -1e308, 1e308, &d, NULL), -1);
    assert_int_equal(swm_json_bool(top, "i", &b, NULL), -1);
    assert_int_equal(swm_json_string(top, "i", &s, NULL), -1);
    assert_int_equal(swm_json_integers(top, "l", 1, 3, list, 2, &count, NULL), -1);
    assert_int_equal(swm_json_integers(top, "m", 1, 3, list, 3, &count, NULL), -1);
    swm_error error = {0};
    assert_int_equal(swm_json_section(top, "o", &inner, NULL), 0);
    assert_int_equal(swm_json_integer(inner, "k", 0, 1, &i, &error), -1);
    assert_string_equal(error.text, "file: o.k is 7, expected an integer from 0 to 1");
    cJSON_Delete(tree);
}

static void pipeline(void **state)
{
    (void)state;
    swm_pipeline_config c;
    swm_error error = {0};
    if (swm_pipeline_config_read(&c, TINY "config.yaml", &error) != 0) fail_msg("%s", error.text);
    assert_string_equal(c.model, "SanaMSVideoCamCtrl_1600M_P1_D20");
    assert_true(c.mixed_precision == SWM_BF16 && c.linear_head_dim == 32 && c.softmax_every_n == 4);
    assert_true(c.conv_kernel_size == 4 && c.t_kernel_size == 3 && c.mlp_ratio == 3 && c.image_size == 64);
    assert_true(c.chunk_size == 0 && c.chunk_index_count == 0 && !c.chunk_causal);
    assert_true(c.chunk_plucker_channels == 48 && c.chunk_plucker_post_attn_blocks == -1);
    assert_string_equal(c.vae_pretrained, ".");
    assert_true(c.vae_latent_dim == 16 && c.vae_stride[0] == 8 && c.vae_stride[1] == 32 && c.vae_stride[2] == 32);
    assert_true(c.tile_sample_min_num_frames == 96 && c.tile_sample_stride_num_frames == 64);
    assert_true(c.model_max_length == 20 && c.caption_channels == 2304 && c.y_norm);
    assert_int_equal(c.chi_prompt_count, 2);
    assert_string_equal(c.chi_prompt[1], "User Prompt: ");
    assert_true(c.flow_shift == 9.95 && c.inference_flow_shift == 9.8);
    assert_string_equal(c.vis_sampler, "flow_dpm-solver");
    assert_string_equal(c.work_dir, "");
    swm_pipeline_config_free(&c);
    swm_pipeline_config_free(&c);

    if (swm_pipeline_config_read(&c, TOY "config.yaml", &error) != 0) fail_msg("%s", error.text);
    assert_true(c.linear_head_dim == 112 && c.vae_latent_dim == 64 && c.chi_prompt_count == 0 && c.flow_shift == 3);
    swm_pipeline_config_free(&c);
}

/* `text` with the first `old` replaced by `new`; the caller frees. */
static char *replace(const char *text, const char *old, const char *new)
{
    const char *at = strstr(text, old);
    assert_non_null(at);
    char *result = swm_format(NULL, "%.*s%s%s", (int)(at - text), text, new, at + strlen(old));
    assert_non_null(result);
    return result;
}

typedef struct variant {
    const char *old, *new, *message; /* message NULL: must be accepted */
} variant;

static void pipeline_variants(void **state)
{
    (void)state;
    static const variant variants[] = {
        {"linear_head_dim: 32", "linear_head_dims: 32", "the nearest known one is linear_head_dim"},
        {"linear_head_dim: 32", "linear_head_dim: many", "model.linear_head_dim is \"many\""},
        {"linear_head_dim: 32", "linear_head_dim: 0", "model.linear_head_dim"},
        {"linear_head_dim: 32", "linear_head_dim: 1e300", "model.linear_head_dim"},
        {"linear_head_dim: 32", "linear_head_dim: '32'", "model.linear_head_dim"},
        {"linear_head_dim: 32", "linear_head_dim: 32\n  linear_head_dim: 32", "twice"},
        {"linear_head_dim: 32", "linear_head_dim: &x 32", "anchors"},
        {"linear_head_dim: 32", "linear_head_dim: !!int 32", "tags"},
        {"linear_head_dim: 32", "linear_head_dim: *x", "aliases"},
        {"linear_head_dim: 32", "linear_head_dim: ~", NULL},
        {"linear_head_dim: 32", "<<: {}", "<<"},
        {"linear_head_dim: 32", "[1]: 2", "key"},
        {"model: Sana", "model: Other", "model.model"},
        {"_P1_", "_P2_", "model.model"},
        {"bf16", "int8", "bf16, fp16 or fp32"},
        {"BidirectionalGDNTriton", "flash", "attn_type"},
        {"BidirectionalGDNTriton", "ChunkCausalGDNTriton", "attn_type"},
        {"BidirectionalGDNTriton", "ChunkCausalGDNTriton\n  camctrl_type: ChunkCausalGDNUCPE\n  chunk_size: 3", NULL},
        {"GLUMBConvTemp", "glumbconv", "ffn_type"},
        {"wan_rope", "sincos", "pos_embed_type"},
        {"k_conv_only: true", "k_conv_only: false", "k_conv_only"},
        {"pred_sigma: false", "pred_sigma: true", "pred_sigma"},
        {"use_chunk_plucker_post_attn: true", "use_pe: on", "use_chunk_plucker_post_attn is missing"},
        {"qk_norm: true", "qk_norm: no", "qk_norm"},
        {"    -\n", "    - relu\n", "mlp_acts"},
        {"    -\n", "    - null\n  chunk_index: [0, 4, 7]\n  chunk_split_strategy: uniform\n", NULL},
        {"    -\n", "    -\n  chunk_index: [0, 4, 4]\n", "chunk_index"},
        {"    -\n", "    -\n  chunk_index: [3]\n", "chunk_index"},
        {"    -\n", "    -\n  chunk_split_strategy: other\n", "chunk_split_strategy"},
        {"    -\n", "    -\n  rope_fhw_dim: [1, 2, 3]\n", "rope_fhw_dim"},
        {"    -\n", "    -\n  multi_scale: 3\n", "multi_scale"},
        {"LTX2VAE_diffusers", "dc-ae", "vae_type"},
        {"[8, 32, 32]", "[4, 8, 8]", "vae_stride"},
        {"[8, 32, 32]", "[8, 32]", "vae_stride"},
        {"[8, 32, 32]", "[8, 32, 32]\n  tile_sample_stride_num_frames: 100", "tile_sample_stride_num_frames"},
        {"    - 'User Prompt: '", "    - 5", "chi_prompt"},
        {"    - 'User Prompt: '", "    - \"a\\0b\"", "NUL"},
        {"scheduler:", "train:\n  x: 1\nscheduler:", "train is no known key"},
        {"scheduler:", "work_dir: output\nscheduler:", NULL},
        {"scheduler:", "schedular:", "nearest known one is scheduler"},
        {"model:", "[model]:", "file: "},
        {"flow_shift: 9.95", "flow_shift: .inf", "flow_shift"},
        {"flow_shift: 9.95", "flow_shift: -1", "flow_shift"},
        {"vis_sampler: flow_dpm-solver", "vis_sampler: x\n---\nmodel: 1", "one document"},
        {"vis_sampler: flow_dpm-solver", "vis_sampler: [x", "YAML"},
    };
    char *text = swm_file_read(TINY "config.yaml", 1 << 20, NULL, NULL);
    assert_non_null(text);
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
        swm_pipeline_config config;
        swm_error error = {0};
        char *changed = replace(text, variants[i].old, variants[i].new);
        int result = swm_pipeline_config_parse(&config, "file", changed, strlen(changed), &error);
        if (variants[i].message == NULL) {
            if (result != 0) fail_msg("%s: %s", variants[i].new, error.text);
        } else {
            if (result == 0) fail_msg("%s was accepted", variants[i].new);
            expect_message(&error, variants[i].message);
        }
        swm_pipeline_config_free(&config);
        free(changed);
    }
    for (size_t size = 0; size + 60 < strlen(text); size += 7) { /* cut before the last section is complete or not */
        swm_pipeline_config config;
        swm_pipeline_config_parse(&config, "file", text, size, NULL);
        swm_pipeline_config_free(&config);
    }
    free(text);
    static const char *const broken[] = {"",
                                         "---\n",
                                         "5",
                                         "[]",
                                         "%YAML 1.1\n---\nmodel: 1",
                                         "model: {}",
                                         "\xff\xfe",
                                         "[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]"};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        swm_pipeline_config config;
        swm_error error = {0};
        assert_int_equal(swm_pipeline_config_parse(&config, "file", broken[i], strlen(broken[i]), &error), -1);
        expect_message(&error, "file: ");
    }
}

static void vae(void **state)
{
    (void)state;
    swm_vae_config c;
    swm_error error = {0};
    if (swm_vae_config_read(&c, TINY "vae/config.json", &error) != 0) fail_msg("%s", error.text);
    assert_true(c.latent_channels == 16 && c.encoder_blocks == 4 && c.decoder_blocks == 3);
    assert_memory_equal(c.encoder_channels, ((int64_t[]){4, 8, 16, 32}), 4 * sizeof(int64_t));
    assert_memory_equal(c.encoder_layers, ((int64_t[]){1, 2, 1, 1, 1}), 5 * sizeof(int64_t));
    assert_memory_equal(c.decoder_channels, ((int64_t[]){32, 16, 8}), 3 * sizeof(int64_t));
    assert_memory_equal(c.decoder_layers, ((int64_t[]){1, 1, 2, 1}), 4 * sizeof(int64_t));
    assert_true(c.encoder_stride[0].time == 1 && c.encoder_stride[0].height == 2 && c.encoder_stride[0].width == 2);
    assert_true(c.encoder_stride[1].time == 2 && c.encoder_stride[1].height == 1 && c.encoder_stride[1].width == 1);
    assert_true(c.encoder_stride[3].time == 2 && c.encoder_stride[3].height == 2);
    assert_true(c.encoder_causal && !c.decoder_causal && c.scaling_factor == 1);
    assert_true(c.encoder_padding == SWM_PAD_ZEROS && c.decoder_padding == SWM_PAD_REFLECT);
    if (swm_vae_config_read(&c, TOY "vae/config.json", &error) != 0) fail_msg("%s", error.text);
    assert_memory_equal(c.decoder_layers, ((int64_t[]){2, 3, 3, 3}), 4 * sizeof(int64_t));
}

static void gemma(void **state)
{
    (void)state;
    swm_gemma_config c;
    swm_error error = {0};
    if (swm_gemma_config_read(&c, TINY "text_encoder/config.json", &error) != 0) fail_msg("%s", error.text);
    assert_true(c.generation == 2 && c.vocab_size == 420 && c.hidden_size == 48 && c.intermediate_size == 96);
    assert_true(c.layers == 4 && c.heads == 4 && c.kv_heads == 2 && c.head_dim == 16 && c.sliding_window == 8);
    assert_true(c.query_pre_attn_scalar == 24 && c.attn_logit_softcapping == 50 && c.rms_norm_eps == 1e-6);
    assert_true(c.rope_theta == 1e4 && c.sliding_rope_theta == 1e4 && c.rope_factor == 1);
    assert_true(c.sliding[0] && !c.sliding[1] && c.sliding[2] && !c.sliding[3]);
    if (swm_gemma_config_read(&c, TINY "refiner/text_encoder/config.json", &error) != 0) fail_msg("%s", error.text);
    assert_true(c.generation == 3 && c.layers == 7 && c.attn_logit_softcapping == 0 && c.query_pre_attn_scalar == 16);
    assert_true(c.rope_theta == 1e6 && c.sliding_rope_theta == 1e4 && c.rope_factor == 8);
    assert_true(c.sliding[4] && !c.sliding[5] && c.sliding[6]);

    /* The published spellings: Gemma 2 with rope_theta alone, Gemma 3 nested and with most keys left to the class. */
    const char *gemma2 = "{\"hidden_size\":48,\"intermediate_size\":96,\"num_hidden_layers\":3,"
                         "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"rope_theta\":20000.0}";
    const char *gemma3 =
        "{\"model_type\":\"gemma3\",\"text_config\":{\"model_type\":\"gemma3_text\",\"hidden_size\":3840,"
        "\"intermediate_size\":15360,\"num_hidden_layers\":48,\"num_attention_heads\":16,"
        "\"num_key_value_heads\":8,\"rope_scaling\":{\"factor\":8.0,\"rope_type\":\"linear\"},"
        "\"sliding_window\":1024}}";
    cJSON *tree = swm_json_parse("file", gemma2, strlen(gemma2), NULL);
    if (swm_gemma_config_from_json(&c, "file", tree, &error) != 0) fail_msg("%s", error.text);
    cJSON_Delete(tree);
    assert_true(c.generation == 2 && c.rope_theta == 2e4 && c.sliding_rope_theta == 2e4 && c.head_dim == 256);
    assert_true(c.attn_logit_softcapping == 50 && c.sliding[0] && !c.sliding[1] && c.sliding[2]);
    tree = swm_json_parse("file", gemma3, strlen(gemma3), NULL);
    if (swm_gemma_config_from_json(&c, "file", tree, &error) != 0) fail_msg("%s", error.text);
    cJSON_Delete(tree);
    assert_true(c.generation == 3 && c.rope_theta == 1e6 && c.sliding_rope_theta == 1e4 && c.rope_factor == 8);
    assert_true(c.vocab_size == 262208 && c.head_dim == 256 && c.sliding_window == 1024);
    assert_true(c.sliding[4] && !c.sliding[5] && !c.sliding[47]);
}

/* Each variant sets `old` to the JSON in `new`, or removes it when that is NULL. */
static void json_variants(const char *path, bool is_vae, const variant *variants, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        swm_error error = {0};
        swm_vae_config vae_config;
        swm_gemma_config gemma_config;
        cJSON *tree = swm_json_read(path, 1 << 20, &error);
        assert_non_null(tree);
        cJSON_DeleteItemFromObjectCaseSensitive(tree, variants[i].old);
        if (variants[i].new != NULL) cJSON_AddItemToObject(tree, variants[i].old, cJSON_Parse(variants[i].new));
        int result = is_vae ? swm_vae_config_from_json(&vae_config, "file", tree, &error)
                            : swm_gemma_config_from_json(&gemma_config, "file", tree, &error);
        cJSON_Delete(tree);
        if (variants[i].message == NULL) {
            if (result != 0) fail_msg("%s: %s", variants[i].old, error.text);
        } else {
            if (result == 0) fail_msg("%s: %s was accepted", variants[i].old, variants[i].new);
            expect_message(&error, variants[i].message);
        }
    }
}

static void vae_variants(void **state)
{
    (void)state;
    static const variant variants[] = {
        {"decoder_causal", NULL, "decoder_causal is missing"},
        {"decoder_causal", "1", "true or false"},
        {"scaling_factor", NULL, NULL},
        {"upsample_type", NULL, NULL},
        {"spatial_compression_ratio", "null", NULL},
        {"spatial_compression_ratio", "64", "32"},
        {"temporal_compression_ratio", "16", "8"},
        {"resnet_norm_eps", "\"unused\"", NULL},
        {"patch_size", "2", "patch_size"},
        {"patch_size_t", "2", "patch_size_t"},
        {"in_channels", NULL, "in_channels is missing"},
        {"latent_channels", "0", "latent_channels"},
        {"timestep_conditioning", "true", "timestep_conditioning"},
        {"decoder_inject_noise", "[false,false,true,false]", "decoder_inject_noise"},
        {"spatio_temporal_scaling", "[true,true,true,false]", "spatio_temporal_scaling"},
        {"decoder_spatio_temporal_scaling", NULL, "decoder_spatio_temporal_scaling is missing"},
        {"upsample_residual", "[true,false,true]", "upsample_residual"},
        {"upsample_factor", "[2,1,2]", "upsample_factor"},
        {"upsample_factor", "[2,2]", "upsample_factor"},
        {"upsample_type", "[\"spatiotemporal\",\"spatial\",\"spatiotemporal\"]", "upsample_type"},
        {"decoder_upsample_type", "[\"temporal\"]", "decoder_upsample_type"},
        {"downsample_type", "[\"spatial\",\"temporal\",\"spatiotemporal\",\"spatial\"]", "8 in time"},
        {"downsample_type", "[\"spatial\",\"temporal\",\"spatiotemporal\",5]", "throughout"},
        {"downsample_type", "[\"spatial\"]", "one entry for each"},
        {"block_out_channels", "[4,8,16]", "downsample_type"},
        {"block_out_channels", "[4,8,16,33]", "block_out_channels"},
        {"block_out_channels", "[4,8,16,1e9]", "block_out_channels"},
        {"layers_per_block", "[1,1,1,1]", "layers_per_block"},
        {"decoder_block_out_channels", "[4,8,16,32]", "3 widths"},
        {"decoder_block_out_channels", "[8,16,33]", "double"},
        {"decoder_layers_per_block", "[1,1,1]", "4 entries"},
        {"decoder_spatial_padding_mode", "\"replicate\"", "zeros or reflect"},
        {"encoder_spatial_padding_mode", NULL, "encoder_spatial_padding_mode is missing"},
    };
    json_variants(TINY "vae/config.json", true, variants, sizeof variants / sizeof *variants);
}

static void gemma_variants(void **state)
{
    (void)state;
    static const variant variants[] = {
        {"model_type", "\"llama\"", "gemma2 or gemma3_text"},
        {"model_type", NULL, NULL},
        {"layer_types", NULL, NULL},
        {"layer_types", "[\"full_attention\"]", "one entry a layer"},
        {"layer_types", "[\"full_attention\",\"x\",\"full_attention\",\"full_attention\"]", "throughout"},
        {"attn_logit_softcapping", "null", NULL},
        {"attn_logit_softcapping", "-1", "attn_logit_softcapping"},
        {"hidden_size", NULL, "hidden_size is missing"},
        {"num_hidden_layers", "129", "from 1 to 128"},
        {"num_key_value_heads", "3", "divisor"},
        {"head_dim", "15", "even"},
        {"vocab_size", "1e15", "vocab_size"},
        {"rope_parameters", "{}", "rope_parameters.rope_theta is missing"},
        {"rope_parameters", "5", "rope_parameters"},
        {"attention_bias", "true", "attention_bias"},
        {"hidden_activation", "\"relu\"", "gelu_pytorch_tanh"},
        {"text_config", "[]", "text_config"},
    };
    json_variants(TINY "text_encoder/config.json", false, variants, sizeof variants / sizeof *variants);
}

int test_config(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(json_syntax), cmocka_unit_test(json_getters),
                                       cmocka_unit_test(pipeline),    cmocka_unit_test(pipeline_variants),
                                       cmocka_unit_test(vae),         cmocka_unit_test(vae_variants),
                                       cmocka_unit_test(gemma),       cmocka_unit_test(gemma_variants)};
    return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
