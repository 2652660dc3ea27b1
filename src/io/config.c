/* Implements io/config.h. YAML is turned into the same cJSON tree that JSON gives, so that one set of getters checks
 * both. */
#include "io/config.h"

#include "core/file.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum { MAXIMUM_FILE = 1 << 20, MAXIMUM_NODES = 4096, MAXIMUM_DEPTH = 16, MAXIMUM_SCALAR = 16384 };

/* ---- YAML ---- */

typedef struct yaml_reader {
    yaml_parser_t parser;
    const char *file;
    int nodes;
    swm_error *error;
} yaml_reader;

static int yaml_fail(yaml_reader *reader, const yaml_event_t *event, const char *problem)
{
    return swm_fail(reader->error, "%s: line %zu: %s", reader->file, event->start_mark.line + 1, problem);
}

static int yaml_next(yaml_reader *reader, yaml_event_t *event)
{
    if (yaml_parser_parse(&reader->parser, event)) return 0;
    const char *problem = reader->parser.problem != NULL ? reader->parser.problem : "no memory is left";
    return swm_fail(reader->error, "%s: line %zu: is no valid YAML: %s", reader->file,
                    reader->parser.problem_mark.line + 1, problem);
}

/* The next event must be of this type; its contents are not needed. */
static int yaml_expect(yaml_reader *reader, yaml_event_type_t type, const char *problem)
{
    yaml_event_t event;
    if (yaml_next(reader, &event) != 0) return -1;
    int result = event.type == type ? 0 : yaml_fail(reader, &event, problem);
    if (result == 0 && type == YAML_DOCUMENT_START_EVENT &&
        (event.data.document_start.version_directive != NULL ||
         event.data.document_start.tag_directives.start != event.data.document_start.tag_directives.end))
        result = yaml_fail(reader, &event, "directives are not accepted; remove the line that starts with %");
    yaml_event_delete(&event);
    return result;
}

static bool is_one_of(const char *text, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(text, words[i]) == 0) return true;
    return false;
}

/* Decimal numbers as YAML 1.1 and JSON agree on them, so that cJSON can read the value whatever the locale is. */
static bool is_decimal(const char *text)
{
    const char *digits = "0123456789";
    if (*text == '-') text++;
    size_t whole = strspn(text, digits);
    if (whole == 0 || (text[0] == '0' && whole > 1)) return false;
    text += whole;
    if (*text == '.') text += 1 + strspn(text + 1, digits);
    if (*text == 'e' || *text == 'E') {
        text += text[1] == '+' || text[1] == '-' ? 2 : 1;
        if (strspn(text, digits) == 0) return false;
        text += strspn(text, digits);
    }
    return *text == '\0';
}

/* An unquoted scalar means null, a truth value, a number or itself. */
static cJSON *resolve_plain(const char *text)
{
    static const char *const null[] = {"", "~", "null", "Null", "NULL"};
    static const char *const yes[] = {"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"};
    static const char *const no[] = {"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"};
    if (is_one_of(text, null, sizeof null / sizeof *null)) return cJSON_CreateNull();
    if (is_one_of(text, yes, sizeof yes / sizeof *yes)) return cJSON_CreateTrue();
    if (is_one_of(text, no, sizeof no / sizeof *no)) return cJSON_CreateFalse();
    if (is_decimal(text) && strlen(text) < 60) return cJSON_Parse(text);
    return cJSON_CreateString(text);
}

/* The text of a scalar event, NULL with a message when it is no plain data. */
static const char *scalar_text(yaml_reader *reader, const yaml_event_t *event)
{
    const char *text = (const char *)event->data.scalar.value;
    if (event->data.scalar.length > MAXIMUM_SCALAR || strlen(text) != event->data.scalar.length) {
        yaml_fail(reader, event, "a text holds a NUL or is longer than 16384 bytes");
        return NULL;
    }
    return text;
}

static cJSON *read_node(yaml_reader *reader, const yaml_event_t *event, int depth);

/* The members of a mapping or list, up to its end. */
static int read_members(yaml_reader *reader, cJSON *parent, int depth)
{
    bool mapping = cJSON_IsObject(parent);
    yaml_event_type_t end = mapping ? YAML_MAPPING_END_EVENT : YAML_SEQUENCE_END_EVENT;
    for (;;) {
        yaml_event_t key = {0}, value = {0};
        int result = yaml_next(reader, mapping ? &key : &value);
        bool done = result == 0 && (mapping ? key.type : value.type) == end;
        if (result == 0 && !done && mapping) {
            const char *text = key.type == YAML_SCALAR_EVENT ? scalar_text(reader, &key) : "";
            if (text == NULL)
                result = -1;
            else if (key.type != YAML_SCALAR_EVENT || key.data.scalar.anchor != NULL || key.data.scalar.tag != NULL)
                result = yaml_fail(reader, &key, "a key is no plain text");
            else if (cJSON_GetObjectItemCaseSensitive(parent, text) != NULL)
                result = yaml_fail(reader, &key, "this key stands twice in its section; remove one");
            else
                result = yaml_next(reader, &value);
        }
        if (result == 0 && !done) {
            cJSON *child = read_node(reader, &value, depth + 1);
            if (child == NULL)
                result = -1;
            else if (mapping ? !cJSON_AddItemToObject(parent, (const char *)key.data.scalar.value, child)
                             : !cJSON_AddItemToArray(parent, child)) {
                cJSON_Delete(child);
                result = swm_fail(reader->error, "%s: out of memory", reader->file);
            }
        }
        yaml_event_delete(&key);
        yaml_event_delete(&value);
        if (result != 0 || done) return result;
    }
}

static cJSON *read_node(yaml_reader *reader, const yaml_event_t *event, int depth)
{
    bool list = event->type == YAML_SEQUENCE_START_EVENT, scalar = event->type == YAML_SCALAR_EVENT;
    const void *anchor = scalar ? event->data.scalar.anchor
                         : list ? event->data.sequence_start.anchor
                                : event->data.mapping_start.anchor;
    const void *tag = scalar ? event->data.scalar.tag
                      : list ? event->data.sequence_start.tag
                             : event->data.mapping_start.tag;
    const char *problem = NULL;
    if (event->type == YAML_ALIAS_EVENT)
        problem = "aliases (*name) are not accepted; write the value out";
    else if (!scalar && !list && event->type != YAML_MAPPING_START_EVENT)
        problem = "the document is empty";
    else if (anchor != NULL || tag != NULL)
        problem = "anchors (&name) and tags (!name) are not accepted; remove them";
    else if (++reader->nodes > MAXIMUM_NODES || depth > MAXIMUM_DEPTH)
        problem = "more than 4096 values, or more than 16 levels, are not accepted";
    if (problem != NULL) {
        yaml_fail(reader, event, problem);
        return NULL;
    }
    const char *text = scalar ? scalar_text(reader, event) : "";
    if (text == NULL) return NULL;
    cJSON *node = list                                                  ? cJSON_CreateArray()
                  : !scalar                                             ? cJSON_CreateObject()
                  : event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE ? resolve_plain(text)
                                                                        : cJSON_CreateString(text);
    if (node == NULL) {
        swm_fail(reader->error, "%s: out of memory", reader->file);
        return NULL;
    }
    if (scalar || read_members(reader, node, depth) == 0) return node;
    cJSON_Delete(node);
    return NULL;
}

static cJSON *parse_yaml(const char *file, const void *data, size_t size, swm_error *error)
{
    if (size > MAXIMUM_FILE) {
        swm_fail(error, "%s: has %zu bytes, more than the 1 MiB that a configuration may have", file, size);
        return NULL;
    }
    yaml_reader reader = {.file = file, .error = error};
    if (!yaml_parser_initialize(&reader.parser)) {
        swm_fail(error, "%s: out of memory", file);
        return NULL;
    }
    yaml_parser_set_encoding(&reader.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&reader.parser, data, size);
    cJSON *tree = NULL;
    yaml_event_t first;
    if (yaml_expect(&reader, YAML_STREAM_START_EVENT, "is no YAML") == 0 &&
        yaml_expect(&reader, YAML_DOCUMENT_START_EVENT, "the file is empty") == 0 && yaml_next(&reader, &first) == 0) {
        tree = read_node(&reader, &first, 0);
        yaml_event_delete(&first);
    }
    if (tree != NULL && (yaml_expect(&reader, YAML_DOCUMENT_END_EVENT, "the document does not end here") != 0 ||
                         yaml_expect(&reader, YAML_STREAM_END_EVENT, "only one document is accepted") != 0)) {
        cJSON_Delete(tree);
        tree = NULL;
    }
    yaml_parser_delete(&reader.parser);
    return tree;
}

/* ---- config.yaml ---- */

/* Every key that a section may have. Some are only checked for their type, because they concern training or because
 * the code has no choice to offer; check_network refuses those values that would need another network. */
static const char *const model_keys[] = {"model",
                                         "image_size",
                                         "mixed_precision",
                                         "fp32_attention",
                                         "aspect_ratio_type",
                                         "multi_scale",
                                         "attn_type",
                                         "softmax_every_n",
                                         "linear_head_dim",
                                         "conv_kernel_size",
                                         "k_conv_only",
                                         "ffn_type",
                                         "t_kernel_size",
                                         "mlp_acts",
                                         "mlp_ratio",
                                         "use_pe",
                                         "pos_embed_type",
                                         "rope_fhw_dim",
                                         "qk_norm",
                                         "cross_norm",
                                         "class_dropout_prob",
                                         "camctrl_type",
                                         "chunk_size",
                                         "chunk_index",
                                         "chunk_split_strategy",
                                         "cam_attn_compress",
                                         "init_cam_from_base",
                                         "use_chunk_plucker_post_attn",
                                         "chunk_plucker_channels",
                                         "chunk_plucker_post_attn_blocks",
                                         "load_from",
                                         "from_pretrained"};
static const char *const vae_keys[] = {"vae_type",
                                       "vae_pretrained",
                                       "weight_dtype",
                                       "vae_latent_dim",
                                       "vae_downsample_rate",
                                       "vae_stride",
                                       "use_framewise_encoding",
                                       "use_framewise_decoding",
                                       "tile_sample_stride_num_frames",
                                       "tile_sample_min_num_frames",
                                       "cache_dir",
                                       "load_vae_feat",
                                       "scale_factor",
                                       "sample_posterior",
                                       "if_cache"};
static const char *const text_keys[] = {"text_encoder_name",   "caption_channels", "y_norm",
                                        "y_norm_scale_factor", "model_max_length", "chi_prompt"};
static const char *const scheduler_keys[] = {
    "predict_flow_v", "noise_schedule",       "pred_sigma",  "flow_shift",       "inference_flow_shift",
    "vis_sampler",    "train_sampling_steps", "learn_sigma", "weighting_scheme", "logit_mean",
    "logit_std"};
static const char *const top_keys[] = {"model", "vae", "text_encoder", "scheduler", "work_dir"};
#define COUNT(list) ((int)(sizeof(list) / sizeof *(list)))

/* An owned copy of a string with a default. */
static int copy_text(swm_json in, const char *key, const char *otherwise, char **copy, swm_error *error)
{
    const char *text;
    if (swm_json_string_or(in, key, otherwise, &text, error) != 0) return -1;
    *copy = swm_copy_string(error, text);
    return *copy != NULL ? 0 : -1;
}

/* The value must be this one; `otherwise` is what an absent key means to the reference. */
static int require_text(swm_json in, const char *key, const char *otherwise, const char *const *accepted, int count,
                        const char *expected, swm_error *error)
{
    const char *text;
    if (swm_json_string_or(in, key, otherwise, &text, error) != 0) return -1;
    return is_one_of(text, accepted, (size_t)count) ? 0 : swm_json_refuse(in, key, expected, error);
}

static int require_bool(swm_json in, const char *key, bool otherwise, bool required, swm_error *error)
{
    bool value;
    if (swm_json_bool_or(in, key, otherwise, &value, error) != 0) return -1;
    if (value == required) return 0;
    return swm_json_refuse(
        in, key, required ? "true: nothing else is implemented" : "false: nothing else is implemented", error);
}

/* Types of the keys whose values do not matter. */
static int check_unused(swm_json in, const char *const *booleans, const char *const *texts, const char *const *numbers,
                        swm_error *error)
{
    bool truth;
    const char *text;
    double number;
    for (; *booleans != NULL; booleans++)
        if (swm_json_bool_or(in, *booleans, false, &truth, error) != 0) return -1;
    for (; *texts != NULL; texts++)
        if (swm_json_string_or(in, *texts, "", &text, error) != 0) return -1;
    for (; *numbers != NULL; numbers++)
        if (swm_json_number_or(in, *numbers, -1e9, 1e9, 0, &number, error) != 0) return -1;
    return 0;
}

/* Refuse values of `model` that describe another network than the one in model/dit.c. */
static int check_network(swm_json in, swm_pipeline_config *config, swm_error *error)
{
    static const char *const attention[] = {"BidirectionalGDNTriton", "ChunkCausalGDNTriton"};
    static const char *const ffn[] = {"GLUMBConvTemp", "ChunkGLUMBConvTemp"};
    static const char *const rope[] = {"wan_rope"};
    /* The chunk-causal network has its own names for the same tensors. */
    int names = config->chunk_causal ? 2 : 1;
    int64_t compress;
    if (strncmp(config->model, "SanaMSVideoCamCtrl", 18) != 0 || strstr(config->model, "_P1_") == NULL)
        return swm_json_refuse(in, "model", "a SanaMSVideoCamCtrl..._P1_... network", error);
    if (require_text(in, "attn_type", "linear", attention, names,
                     "BidirectionalGDNTriton, or ChunkCausalGDNTriton with a chunk-causal camctrl_type", error) != 0 ||
        require_text(in, "ffn_type", "glumbconv", ffn, names,
                     "GLUMBConvTemp, or ChunkGLUMBConvTemp with a chunk-causal camctrl_type", error) != 0 ||
        require_text(in, "pos_embed_type", "", rope, 1, "wan_rope", error) != 0 ||
        require_bool(in, "k_conv_only", true, true, error) != 0 ||
        require_bool(in, "qk_norm", false, true, error) != 0 ||
        require_bool(in, "cross_norm", false, true, error) != 0 ||
        require_bool(in, "use_chunk_plucker_post_attn", false, true, error) != 0 ||
        swm_json_integer_or(in, "cam_attn_compress", 1, 1, 1, &compress, error) != 0)
        return -1;
    if (swm_json_find(in, "rope_fhw_dim") != NULL) return swm_json_refuse(in, "rope_fhw_dim", "null", error);
    const cJSON *acts = swm_json_find(in, "mlp_acts"), *first = cJSON_GetArrayItem(acts, 0),
                *second = cJSON_GetArrayItem(acts, 1);
    bool silu = cJSON_IsString(first) && cJSON_IsString(second) && strcmp(first->valuestring, "silu") == 0 &&
                strcmp(second->valuestring, "silu") == 0;
    if (acts != NULL &&
        (!cJSON_IsArray(acts) || cJSON_GetArraySize(acts) != 3 || !silu || !cJSON_IsNull(cJSON_GetArrayItem(acts, 2))))
        return swm_json_refuse(in, "mlp_acts", "[silu, silu, null]", error);
    return 0;
}

static int read_precision(swm_json in, swm_dtype *dtype, swm_error *error)
{
    static const struct {
        const char *name;
        swm_dtype dtype;
    } spellings[] = {{"bf16", SWM_BF16},   {"bfloat16", SWM_BF16}, {"fp16", SWM_F16},
                     {"float16", SWM_F16}, {"fp32", SWM_F32},      {"float32", SWM_F32}};
    const char *text;
    if (swm_json_string_or(in, "mixed_precision", "fp16", &text, error) != 0) return -1;
    for (int i = 0; i < COUNT(spellings); i++) {
        if (strcmp(text, spellings[i].name) != 0) continue;
        *dtype = spellings[i].dtype;
        return 0;
    }
    return swm_json_refuse(in, "mixed_precision", "bf16, fp16 or fp32", error);
}

static int read_chunks(swm_json in, swm_pipeline_config *config, swm_error *error)
{
    static const char *const names[] = {"first_chunk_plus_one", "uniform", "first_frame"};
    static const swm_chunk_split splits[] = {SWM_SPLIT_FIRST_CHUNK_PLUS_ONE, SWM_SPLIT_UNIFORM, SWM_SPLIT_FIRST_FRAME};
    const char *split;
    if (swm_json_integer_or(in, "chunk_size", 1, 1024, 0, &config->chunk_size, error) != 0 ||
        swm_json_integers_or_none(in, "chunk_index", 0, 1 << 20, config->chunk_index, SWM_MAX_CHUNKS,
                                  &config->chunk_index_count, error) != 0 ||
        swm_json_string_or(in, "chunk_split_strategy", names[0], &split, error) != 0)
        return -1;
    for (int i = 0; i < config->chunk_index_count; i++)
        if (i == 0 ? config->chunk_index[0] != 0 : config->chunk_index[i] <= config->chunk_index[i - 1])
            return swm_json_refuse(in, "chunk_index", "a list of frames that starts with 0 and ascends", error);
    for (int i = 0; i < COUNT(names); i++) {
        if (strcmp(split, names[i]) != 0) continue;
        config->chunk_split_strategy = splits[i];
        return 0;
    }
    return swm_json_refuse(in, "chunk_split_strategy", "first_chunk_plus_one, uniform or first_frame", error);
}

static int read_model(swm_json in, swm_pipeline_config *config, swm_error *error)
{
    static const char *const booleans[] = {"multi_scale", "use_pe", "init_cam_from_base", NULL};
    static const char *const texts[] = {"aspect_ratio_type", "load_from", "from_pretrained", NULL};
    static const char *const numbers[] = {"class_dropout_prob", NULL};
    if (swm_json_only(in, model_keys, COUNT(model_keys), error) != 0 ||
        check_unused(in, booleans, texts, numbers, error) != 0 ||
        copy_text(in, "model", "", &config->model, error) != 0 ||
        copy_text(in, "camctrl_type", "", &config->camctrl_type, error) != 0)
        return -1;
    config->chunk_causal = strstr(config->camctrl_type, "ChunkCausal") != NULL;
    if (check_network(in, config, error) != 0 || read_precision(in, &config->mixed_precision, error) != 0 ||
        read_chunks(in, config, error) != 0 ||
        swm_json_bool_or(in, "fp32_attention", true, &config->fp32_attention, error) != 0 ||
        swm_json_integer_or(in, "image_size", 1, 65536, 512, &config->image_size, error) != 0 ||
        swm_json_integer_or(in, "linear_head_dim", 1, 4096, 32, &config->linear_head_dim, error) != 0 ||
        swm_json_integer_or(in, "softmax_every_n", 0, 1024, 4, &config->softmax_every_n, error) != 0 ||
        swm_json_integer_or(in, "conv_kernel_size", 1, 64, 4, &config->conv_kernel_size, error) != 0 ||
        swm_json_integer_or(in, "t_kernel_size", 1, 63, 3, &config->t_kernel_size, error) != 0 ||
        swm_json_number_or(in, "mlp_ratio", 0.01, 64, 2.5, &config->mlp_ratio, error) != 0 ||
        swm_json_integer_or(in, "chunk_plucker_channels", 1, 4096, 48, &config->chunk_plucker_channels, error) != 0 ||
        swm_json_integer_or(in, "chunk_plucker_post_attn_blocks", -1, 4096, -1, &config->chunk_plucker_post_attn_blocks,
                            error) != 0)
        return -1;
    if (config->t_kernel_size % 2 == 0) return swm_json_refuse(in, "t_kernel_size", "an odd number", error);
    return 0;
}

static int read_vae(swm_json in, swm_pipeline_config *config, swm_error *error)
{
    static const char *const booleans[] = {
        "use_framewise_encoding", "use_framewise_decoding", "load_vae_feat", "sample_posterior", "if_cache", NULL};
    static const char *const texts[] = {"weight_dtype", "cache_dir", NULL};
    static const char *const numbers[] = {"vae_downsample_rate", "scale_factor", NULL};
    static const int64_t stride[3] = {8, 32, 32};
    int count;
    if (swm_json_only(in, vae_keys, COUNT(vae_keys), error) != 0 ||
        check_unused(in, booleans, texts, numbers, error) != 0 ||
        copy_text(in, "vae_type", "", &config->vae_type, error) != 0 ||
        copy_text(in, "vae_pretrained", ".", &config->vae_pretrained, error) != 0 ||
        swm_json_integer_or(in, "vae_latent_dim", 1, 4096, 32, &config->vae_latent_dim, error) != 0 ||
        swm_json_integers_or_none(in, "vae_stride", 1, 64, config->vae_stride, 3, &count, error) != 0 ||
        swm_json_integer_or(in, "tile_sample_min_num_frames", 8, 65536, 96, &config->tile_sample_min_num_frames,
                            error) != 0 ||
        swm_json_integer_or(in, "tile_sample_stride_num_frames", 8, 65536, 64, &config->tile_sample_stride_num_frames,
                            error) != 0)
        return -1;
    if (strstr(config->vae_type, "LTX2VAE_diffusers") == NULL)
        return swm_json_refuse(in, "vae_type", "LTX2VAE_diffusers", error);
    if (swm_json_find(in, "vae_stride") == NULL) memcpy(config->vae_stride, stride, sizeof stride);
    if (memcmp(config->vae_stride, stride, sizeof stride) != 0)
        return swm_json_refuse(in, "vae_stride", "[8, 32, 32]", error);
    if (config->tile_sample_min_num_frames % 8 != 0)
        return swm_json_refuse(in, "tile_sample_min_num_frames", "a multiple of 8", error);
    if (config->tile_sample_stride_num_frames % 8 != 0 ||
        config->tile_sample_stride_num_frames > config->tile_sample_min_num_frames)
        return swm_json_refuse(in, "tile_sample_stride_num_frames", "a multiple of 8 up to tile_sample_min_num_frames",
                               error);
    return 0;
}

static int read_text(swm_json in, swm_pipeline_config *config, swm_error *error)
{
    double unused;
    if (swm_json_only(in, text_keys, COUNT(text_keys), error) != 0 ||
        copy_text(in, "text_encoder_name", "gemma-2-2b-it", &config->text_encoder_name, error) != 0 ||
        swm_json_integer_or(in, "caption_channels", 1, 65536, 2304, &config->caption_channels, error) != 0 ||
        swm_json_integer_or(in, "model_max_length", 1, 8192, 300, &config->model_max_length, error) != 0 ||
        swm_json_bool_or(in, "y_norm", true, &config->y_norm, error) != 0 ||
        swm_json_number_or(in, "y_norm_scale_factor", 0, 1e6, 1, &unused, error) != 0)
        return -1;
    const cJSON *lines = swm_json_find(in, "chi_prompt"), *line;
    if (lines == NULL) return 0;
    if (!cJSON_IsArray(lines)) return swm_json_refuse(in, "chi_prompt", "a list of texts", error);
    config->chi_prompt = swm_allocate(error, (size_t)cJSON_GetArraySize(lines), sizeof *config->chi_prompt);
    if (config->chi_prompt == NULL) return -1;
    cJSON_ArrayForEach(line, lines)
    {
        if (!cJSON_IsString(line)) return swm_json_refuse(in, "chi_prompt", "a list of texts", error);
        char *copy = swm_copy_string(error, line->valuestring);
        if (copy == NULL) return -1;
        config->chi_prompt[config->chi_prompt_count++] = copy;
    }
    return 0;
}

static int read_scheduler(swm_json in, swm_pipeline_config *config, swm_error *error)
{
    static const char *const booleans[] = {"predict_flow_v", "learn_sigma", NULL};
    static const char *const texts[] = {"noise_schedule", "weighting_scheme", NULL};
    static const char *const numbers[] = {"train_sampling_steps", "logit_mean", "logit_std", NULL};
    if (swm_json_only(in, scheduler_keys, COUNT(scheduler_keys), error) != 0 ||
        check_unused(in, booleans, texts, numbers, error) != 0 ||
        require_bool(in, "pred_sigma", false, false, error) != 0 ||
        swm_json_number_or(in, "flow_shift", 1e-3, 1e3, 1, &config->flow_shift, error) != 0 ||
        swm_json_number_or(in, "inference_flow_shift", 1e-3, 1e3, 0, &config->inference_flow_shift, error) != 0)
        return -1;
    return copy_text(in, "vis_sampler", "flow_dpm-solver", &config->vis_sampler, error);
}

int swm_pipeline_config_parse(swm_pipeline_config *config, const char *file, const void *data, size_t size,
                              swm_error *error)
{
    *config = (swm_pipeline_config){0};
    cJSON *tree = parse_yaml(file, data, size, error);
    if (tree == NULL) return -1;
    swm_json top, section;
    int result = swm_json_root(&top, file, tree, error);
    if (result == 0) result = swm_json_only(top, top_keys, COUNT(top_keys), error);
    if (result == 0) result = swm_json_section(top, "model", &section, error);
    if (result == 0) result = read_model(section, config, error);
    if (result == 0) result = swm_json_section(top, "vae", &section, error);
    if (result == 0) result = read_vae(section, config, error);
    if (result == 0) result = swm_json_section(top, "text_encoder", &section, error);
    if (result == 0) result = read_text(section, config, error);
    if (result == 0) result = swm_json_section(top, "scheduler", &section, error);
    if (result == 0) result = read_scheduler(section, config, error);
    if (result == 0) result = copy_text(top, "work_dir", "", &config->work_dir, error);
    cJSON_Delete(tree);
    if (result != 0) swm_pipeline_config_free(config);
    return result;
}

int swm_pipeline_config_read(swm_pipeline_config *config, const char *path, swm_error *error)
{
    *config = (swm_pipeline_config){0};
    size_t size = 0;
    char *text = swm_file_read(path, MAXIMUM_FILE, &size, error);
    if (text == NULL) return -1;
    int result = swm_pipeline_config_parse(config, path, text, size, error);
    free(text);
    return result;
}

void swm_pipeline_config_free(swm_pipeline_config *config)
{
    for (int i = 0; i < config->chi_prompt_count; i++) free(config->chi_prompt[i]);
    free(config->chi_prompt);
    free(config->model);
    free(config->camctrl_type);
    free(config->vae_type);
    free(config->vae_pretrained);
    free(config->text_encoder_name);
    free(config->vis_sampler);
    free(config->work_dir);
    *config = (swm_pipeline_config){0};
}

/* ---- vae/config.json ---- */

/* The list under `key` must have `count` entries, all equal to `text` (or, when text is NULL, to `truth`). */
static int require_list(swm_json in, const char *key, int count, const char *text, bool truth, const char *expected,
                        swm_error *error)
{
    const cJSON *list = swm_json_find(in, key), *item;
    bool good = cJSON_IsArray(list) && cJSON_GetArraySize(list) == count;
    if (good)
        cJSON_ArrayForEach(item, list) good =
            good && (text == NULL ? cJSON_IsBool(item) && cJSON_IsTrue(item) == truth
                                  : cJSON_IsString(item) && strcmp(item->valuestring, text) == 0);
    return good ? 0 : swm_json_refuse(in, key, expected, error);
}

static int read_padding(swm_json in, const char *key, swm_spatial_padding *padding, swm_error *error)
{
    const char *text;
    if (swm_json_string(in, key, &text, error) != 0) return -1;
    *padding = strcmp(text, "reflect") == 0 ? SWM_PAD_REFLECT : SWM_PAD_ZEROS;
    if (*padding == SWM_PAD_ZEROS && strcmp(text, "zeros") != 0)
        return swm_json_refuse(in, key, "zeros or reflect", error);
    return 0;
}

/* downsample_type as strides; their product must be the compression that the rest of the pipeline counts on. */
static int read_encoder_strides(swm_json in, swm_vae_config *config, swm_error *error)
{
    const cJSON *list = swm_json_find(in, "downsample_type"), *item;
    int64_t time = 1, height = 4;
    int i = 0;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != config->encoder_blocks)
        return swm_json_refuse(in, "downsample_type", "one entry for each of block_out_channels", error);
    cJSON_ArrayForEach(item, list)
    {
        const char *text = cJSON_IsString(item) ? item->valuestring : "";
        bool both = strcmp(text, "spatiotemporal") == 0, temporal = strcmp(text, "temporal") == 0;
        if (!both && !temporal && strcmp(text, "spatial") != 0)
            return swm_json_refuse(in, "downsample_type", "spatial, temporal or spatiotemporal throughout", error);
        int64_t across = temporal ? 1 : 2, along = both || temporal ? 2 : 1;
        config->encoder_stride[i++] = (swm_vae_stride){along, across, across};
        time *= along;
        height *= across;
    }
    if (time != 8 || height != 32)
        return swm_json_refuse(in, "downsample_type", "strides that make 8 in time and, with patches of 4, 32 in space",
                               error);
    return 0;
}

static int read_encoder(swm_json in, swm_vae_config *config, swm_error *error)
{
    int layers;
    if (swm_json_integers(in, "block_out_channels", 1, 65536, config->encoder_channels, SWM_VAE_MAX_BLOCKS,
                          &config->encoder_blocks, error) != 0 ||
        read_encoder_strides(in, config, error) != 0 ||
        swm_json_integers(in, "layers_per_block", 0, 64, config->encoder_layers, SWM_VAE_MAX_BLOCKS + 1, &layers,
                          error) != 0 ||
        require_list(in, "spatio_temporal_scaling", config->encoder_blocks, NULL, true,
                     "true for each of block_out_channels", error) != 0)
        return -1;
    if (layers != config->encoder_blocks + 1)
        return swm_json_refuse(in, "layers_per_block", "one entry more than block_out_channels", error);
    int64_t width = config->latent_channels;
    for (int i = 0; i < config->encoder_blocks; i++) {
        swm_vae_stride stride = config->encoder_stride[i];
        int64_t cell = stride.time * stride.height * stride.width, out = config->encoder_channels[i];
        if (out % cell != 0 || width * cell % out != 0)
            return swm_json_refuse(in, "block_out_channels",
                                   "widths that a space-to-depth of their inputs divides into", error);
        width = out;
    }
    return 0;
}

static int read_decoder(swm_json in, swm_vae_config *config, swm_error *error)
{
    int64_t channels[SWM_VAE_MAX_BLOCKS], layers[SWM_VAE_MAX_BLOCKS + 1], factor[SWM_VAE_MAX_BLOCKS];
    int count, blocks, factors;
    if (swm_json_integers(in, "decoder_block_out_channels", 2, 65536, channels, SWM_VAE_MAX_BLOCKS, &blocks, error) !=
        0)
        return -1;
    if (blocks != 3) /* (2,2,2) each: 8 in time and, with patches of 4, 32 in space */
        return swm_json_refuse(in, "decoder_block_out_channels", "3 widths", error);
    if (swm_json_integers(in, "decoder_layers_per_block", 0, 64, layers, SWM_VAE_MAX_BLOCKS + 1, &count, error) != 0 ||
        swm_json_integers(in, "upsample_factor", 2, 2, factor, SWM_VAE_MAX_BLOCKS, &factors, error) != 0 ||
        require_list(in, "decoder_spatio_temporal_scaling", blocks, NULL, true, "true three times", error) != 0 ||
        require_list(in, "decoder_inject_noise", blocks + 1, NULL, false, "false four times", error) != 0 ||
        require_list(in, "upsample_residual", blocks, NULL, true, "true three times", error) != 0)
        return -1;
    static const char *const types[] = {"upsample_type", "decoder_upsample_type"}; /* older files have neither */
    for (int i = 0; i < COUNT(types); i++)
        if (swm_json_find(in, types[i]) != NULL &&
            require_list(in, types[i], blocks, "spatiotemporal", true, "spatiotemporal three times", error) != 0)
            return -1;
    if (count != blocks + 1) return swm_json_refuse(in, "decoder_layers_per_block", "4 entries", error);
    if (factors != blocks) return swm_json_refuse(in, "upsample_factor", "2 three times", error);
    config->decoder_blocks = blocks;
    for (int i = 0; i < blocks; i++) config->decoder_channels[i] = channels[blocks - 1 - i];
    for (int i = 0; i < count; i++) config->decoder_layers[i] = layers[count - 1 - i];
    for (int i = 0; i < blocks; i++)
        if (config->decoder_channels[i] % 2 != 0 ||
            (i > 0 && config->decoder_channels[i] * 2 != config->decoder_channels[i - 1]))
            return swm_json_refuse(in, "decoder_block_out_channels", "even widths that double", error);
    return 0;
}

int swm_vae_config_from_json(swm_vae_config *config, const char *file, const cJSON *object, swm_error *error)
{
    *config = (swm_vae_config){0};
    swm_json in;
    int64_t fixed;
    if (swm_json_root(&in, file, object, error) != 0 || swm_json_integer(in, "in_channels", 3, 3, &fixed, error) != 0 ||
        swm_json_integer(in, "out_channels", 3, 3, &fixed, error) != 0 ||
        swm_json_integer(in, "patch_size", 4, 4, &fixed, error) != 0 ||
        swm_json_integer(in, "patch_size_t", 1, 1, &fixed, error) != 0 ||
        swm_json_integer_or(in, "spatial_compression_ratio", 32, 32, 32, &fixed, error) != 0 ||
        swm_json_integer_or(in, "temporal_compression_ratio", 8, 8, 8, &fixed, error) != 0 ||
        require_bool(in, "timestep_conditioning", false, false, error) != 0 ||
        swm_json_integer(in, "latent_channels", 1, 4096, &config->latent_channels, error) != 0 ||
        swm_json_number_or(in, "scaling_factor", 1e-6, 1e6, 1, &config->scaling_factor, error) != 0 ||
        swm_json_bool(in, "encoder_causal", &config->encoder_causal, error) != 0 ||
        swm_json_bool(in, "decoder_causal", &config->decoder_causal, error) != 0 ||
        read_padding(in, "encoder_spatial_padding_mode", &config->encoder_padding, error) != 0 ||
        read_padding(in, "decoder_spatial_padding_mode", &config->decoder_padding, error) != 0 ||
        read_encoder(in, config, error) != 0)
        return -1;
    return read_decoder(in, config, error);
}

int swm_vae_config_read(swm_vae_config *config, const char *path, swm_error *error)
{
    *config = (swm_vae_config){0};
    cJSON *tree = swm_json_read(path, MAXIMUM_FILE, error);
    int result = tree == NULL ? -1 : swm_vae_config_from_json(config, path, tree, error);
    cJSON_Delete(tree);
    return result;
}

/* ---- text_encoder/config.json ---- */

static int read_rope(swm_json in, swm_gemma_config *config, swm_error *error)
{
    double *theta = &config->rope_theta, *sliding = &config->sliding_rope_theta, *factor = &config->rope_factor;
    bool gemma3 = config->generation == 3;
    swm_json rope = {0}, kind = {0};
    *factor = 1;
    if (swm_json_number_or(in, "rope_theta", 1, 1e9, gemma3 ? 1e6 : 1e4, theta, error) != 0 ||
        swm_json_number_or(in, "rope_local_base_freq", 1, 1e9, gemma3 ? 1e4 : *theta, sliding, error) != 0)
        return -1;
    if (swm_json_find(in, "rope_scaling") != NULL && (swm_json_section(in, "rope_scaling", &rope, error) != 0 ||
                                                      swm_json_number(rope, "factor", 1, 1e6, factor, error) != 0))
        return -1;
    /* Newer files gather the same numbers in rope_parameters, for Gemma 3 one set a kind of layer. */
    if (swm_json_find(in, "rope_parameters") == NULL) return 0;
    if (swm_json_section(in, "rope_parameters", &rope, error) != 0) return -1;
    if (!gemma3) {
        if (swm_json_number(rope, "rope_theta", 1, 1e9, theta, error) != 0) return -1;
        *sliding = *theta;
        return swm_json_number_or(rope, "factor", 1, 1e6, 1, factor, error);
    }
    if (swm_json_section(rope, "full_attention", &kind, error) != 0 ||
        swm_json_number(kind, "rope_theta", 1, 1e9, theta, error) != 0 ||
        swm_json_number_or(kind, "factor", 1, 1e6, 1, factor, error) != 0 ||
        swm_json_section(rope, "sliding_attention", &kind, error) != 0)
        return -1;
    return swm_json_number(kind, "rope_theta", 1, 1e9, sliding, error);
}

/* Without layer_types, Gemma 2 alternates from a sliding layer on and every sixth layer of Gemma 3 is full. */
static int read_layer_types(swm_json in, swm_gemma_config *config, swm_error *error)
{
    const cJSON *list = swm_json_find(in, "layer_types"), *item;
    int64_t pattern;
    int period = config->generation == 3 ? 6 : 2, i = 0;
    if (swm_json_integer_or(in, "sliding_window_pattern", period, period, period, &pattern, error) != 0) return -1;
    for (; i < config->layers; i++) config->sliding[i] = (i + 1) % period != 0;
    if (list == NULL) return 0;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != config->layers)
        return swm_json_refuse(in, "layer_types", "one entry a layer", error);
    i = 0;
    cJSON_ArrayForEach(item, list)
    {
        const char *text = cJSON_IsString(item) ? item->valuestring : "";
        config->sliding[i] = strcmp(text, "sliding_attention") == 0;
        if (!config->sliding[i++] && strcmp(text, "full_attention") != 0)
            return swm_json_refuse(in, "layer_types", "sliding_attention or full_attention throughout", error);
    }
    return 0;
}

int swm_gemma_config_from_json(swm_gemma_config *config, const char *file, const cJSON *object, swm_error *error)
{
    static const char *const types[] = {"gemma2", "gemma3_text"}, *const activations[] = {"gelu_pytorch_tanh"};
    *config = (swm_gemma_config){0};
    swm_json in;
    const char *type;
    if (swm_json_root(&in, file, object, error) != 0) return -1;
    if (swm_json_find(in, "text_config") != NULL && swm_json_section(in, "text_config", &in, error) != 0) return -1;
    if (swm_json_string_or(in, "model_type", types[0], &type, error) != 0 ||
        require_text(in, "model_type", types[0], types, 2, "gemma2 or gemma3_text", error) != 0)
        return -1;
    config->generation = strcmp(type, types[1]) == 0 ? 3 : 2;
    int64_t vocabulary = config->generation == 3 ? 262208 : 256000;
    /* null switches the soft cap off; a Gemma 2 file without the key means the class's 50. */
    bool capped =
        config->generation == 2 && cJSON_GetObjectItemCaseSensitive(in.object, "attn_logit_softcapping") == NULL;
    if (swm_json_integer_or(in, "vocab_size", 1, 1 << 22, vocabulary, &config->vocab_size, error) != 0 ||
        swm_json_integer(in, "hidden_size", 1, 65536, &config->hidden_size, error) != 0 ||
        swm_json_integer(in, "intermediate_size", 1, 1 << 20, &config->intermediate_size, error) != 0 ||
        swm_json_integer(in, "num_hidden_layers", 1, SWM_GEMMA_MAX_LAYERS, &config->layers, error) != 0 ||
        swm_json_integer(in, "num_attention_heads", 1, 1024, &config->heads, error) != 0 ||
        swm_json_integer(in, "num_key_value_heads", 1, 1024, &config->kv_heads, error) != 0 ||
        swm_json_integer_or(in, "head_dim", 2, 4096, 256, &config->head_dim, error) != 0 ||
        swm_json_number_or(in, "query_pre_attn_scalar", 1, 1e6, 256, &config->query_pre_attn_scalar, error) != 0 ||
        swm_json_number_or(in, "attn_logit_softcapping", 1e-3, 1e6, capped ? 50 : 0, &config->attn_logit_softcapping,
                           error) != 0 ||
        swm_json_number_or(in, "rms_norm_eps", 0, 1, 1e-6, &config->rms_norm_eps, error) != 0 ||
        swm_json_integer_or(in, "sliding_window", 1, 1 << 24, 4096, &config->sliding_window, error) != 0 ||
        require_text(in, "hidden_activation", activations[0], activations, 1, activations[0], error) != 0 ||
        require_bool(in, "attention_bias", false, false, error) != 0 || read_rope(in, config, error) != 0)
        return -1;
    if (config->heads % config->kv_heads != 0)
        return swm_json_refuse(in, "num_key_value_heads", "a divisor of num_attention_heads", error);
    if (config->head_dim % 2 != 0) return swm_json_refuse(in, "head_dim", "an even number", error);
    return read_layer_types(in, config, error);
}

int swm_gemma_config_read(swm_gemma_config *config, const char *path, swm_error *error)
{
    *config = (swm_gemma_config){0};
    cJSON *tree = swm_json_read(path, MAXIMUM_FILE, error);
    int result = tree == NULL ? -1 : swm_gemma_config_from_json(config, path, tree, error);
    cJSON_Delete(tree);
    return result;
}
