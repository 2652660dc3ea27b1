/* Implements text/connectors.h. The forward comes last and reads top to bottom, one op a line, shapes behind: N tokens of
 * the text, S slots, E channels, L states of the encoder. */
#include "text/connectors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "io/binding.h"

enum { MAXIMUM_FILE = 1 << 20, MAXIMUM_LAYERS = 256 };
#define COUNT(list) (sizeof(list) / sizeof *(list))

/* Of every RMSNorm here. */
static const float epsilon = 1e-6f;

/* ---- config.json --------------------------------------------------------------------------------------------------- */

swm_connectors_config swm_connectors_release_config(void)
{
    return (swm_connectors_config){
        .caption_channels = 3840,
        .layers = 49,
        .depth = 2,
        .heads = 30,
        .head = 128,
        .registers = 128,
        .base_positions = 4096,
        .rope_theta = 10000,
    };
}

/* Switches of LTX2TextConnectors that have one position here; an absent key is in it. */
static const struct {
    const char *key;
    bool value;
} switches[] = {
    {"rope_double_precision", true},     {"causal_temporal_positioning", false},
    {"per_modality_projections", false}, {"proj_bias", false},
    {"video_gated_attn", false},
};

static int check_network(swm_json in, swm_error *error)
{
    if (swm_json_must_be_string(in, "_class_name", "LTX2TextConnectors", error) != 0) return -1;
    for (size_t i = 0; i < COUNT(switches); i++)
        if (swm_json_must_be_bool(in, switches[i].key, switches[i].value, error) != 0) return -1;
    return 0;
}

static int read_config(swm_json in, swm_connectors_config *config, swm_error *error)
{
    swm_connectors_config release = swm_connectors_release_config();
    const char *kind;
    if (check_network(in, error) != 0 ||
        swm_json_integer_or(in, "caption_channels", 2, 65536, release.caption_channels, &config->caption_channels,
                            error) != 0 ||
        swm_json_integer_or(in, "text_proj_in_factor", 1, MAXIMUM_LAYERS, release.layers, &config->layers, error) !=
            0 ||
        swm_json_integer_or(in, "video_connector_num_layers", 1, SWM_CONNECTORS_MAX_DEPTH, release.depth,
                            &config->depth, error) != 0 ||
        swm_json_integer_or(in, "video_connector_num_attention_heads", 1, 1024, release.heads, &config->heads, error) !=
            0 ||
        swm_json_integer_or(in, "video_connector_attention_head_dim", 2, 1024, release.head, &config->head, error) !=
            0 ||
        swm_json_integer_or(in, "video_connector_num_learnable_registers", 1, 1 << 16, release.registers,
                            &config->registers, error) != 0 ||
        swm_json_integer_or(in, "connector_rope_base_seq_len", 1, 1 << 24, release.base_positions,
                            &config->base_positions, error) != 0 ||
        swm_json_number_or(in, "rope_theta", 1, 1e9, release.rope_theta, &config->rope_theta, error) != 0 ||
        swm_json_string(in, "rope_type", &kind, error) != 0)
        return -1;
    config->interleaved = strcmp(kind, "interleaved") == 0;
    if (!config->interleaved && strcmp(kind, "split") != 0)
        return swm_json_refuse(in, "rope_type", "split or interleaved", error);
    if (config->head % 2 != 0)
        return swm_json_refuse(in, "video_connector_attention_head_dim", "an even number", error);
    if (config->heads * config->head != config->caption_channels)
        return swm_json_refuse(in, "caption_channels",
                               "video_connector_num_attention_heads times video_connector_attention_head_dim", error);
    return 0;
}

int swm_connectors_config_from_json(swm_connectors_config *config, const char *file, const cJSON *object,
                                    swm_error *error)
{
    *config = (swm_connectors_config){0};
    swm_json in;
    if (swm_json_root(&in, file, object, error) == 0 && read_config(in, config, error) == 0) return 0;
    *config = (swm_connectors_config){0};
    return -1;
}

int swm_connectors_config_parse(swm_connectors_config *config, const char *file, const void *data, size_t size,
                                swm_error *error)
{
    *config = (swm_connectors_config){0};
    if (size > MAXIMUM_FILE)
        return swm_fail(error, "%s: has %zu bytes, more than the 1 MiB that a configuration may have", file, size);
    cJSON *tree = swm_json_parse(file, data, size, error);
    int result = tree != NULL ? swm_connectors_config_from_json(config, file, tree, error) : -1;
    cJSON_Delete(tree);
    return result;
}

int swm_connectors_config_read(swm_connectors_config *config, const char *path, swm_error *error)
{
    *config = (swm_connectors_config){0};
    char *file = swm_directory_exists(path) ? swm_path_join(error, path, "config.json") : swm_copy_string(error, path);
    cJSON *tree = file != NULL ? swm_json_read(file, MAXIMUM_FILE, error) : NULL;
    int result = tree != NULL ? swm_connectors_config_from_json(config, file, tree, error) : -1;
    cJSON_Delete(tree);
    free(file);
    return result;
}

/* ---- binding ------------------------------------------------------------------------------------------------------- */

static void visit_outer(swm_binding *k, swm_connectors_outer *w, const swm_connectors_config *config)
{
    swm_binding_prefix(k, "%s", "");
    SWM_VISIT(k, &w->text_in, "text_proj_in.weight", config->caption_channels,
              config->caption_channels * config->layers);
    SWM_VISIT(k, &w->registers, "video_connector.learnable_registers", config->registers, config->caption_channels);
}

static void visit_block(swm_binding *k, swm_connectors_block *w, const swm_connectors_config *config, int64_t block)
{
    int64_t e = config->caption_channels;
    swm_binding_prefix(k, "video_connector.transformer_blocks.%lld.", (long long)block);
    swm_visit_affine(k, &w->q, "attn1.to_q", e, e);
    swm_visit_affine(k, &w->k, "attn1.to_k", e, e);
    swm_visit_affine(k, &w->v, "attn1.to_v", e, e);
    swm_visit_affine(k, &w->out, "attn1.to_out.0", e, e);
    SWM_VISIT(k, &w->q_norm, "attn1.norm_q.weight", e);
    SWM_VISIT(k, &w->k_norm, "attn1.norm_k.weight", e);
    swm_visit_affine(k, &w->expand, "ff.net.0.proj", 4 * e, e);
    swm_visit_affine(k, &w->contract, "ff.net.2", e, 4 * e);
}

swm_connectors *swm_connectors_bind(const swm_weights *weights, const swm_connectors_config *config, swm_error *error)
{
    swm_connectors *connectors = swm_allocate(error, 1, sizeof *connectors);
    if (connectors == NULL) return NULL;
    connectors->config = *config;
    swm_binding k = {.weights = weights, .error = error};
    visit_outer(&k, &connectors->outer, config);
    for (int64_t i = 0; i < config->depth; i++) visit_block(&k, &connectors->blocks[i], config, i);
    char beyond[96];
    snprintf(beyond, sizeof beyond, "video_connector.transformer_blocks.%lld.attn1.to_q.weight",
             (long long)config->depth);
    if (k.result == 0 && swm_weights_find(weights, beyond) != NULL)
        k.result =
            swm_fail(error, "%s: has more than the %lld blocks that config.json tells (video_connector_num_layers)",
                     swm_weights_path(weights), (long long)config->depth);
    if (k.result == 0) return connectors;
    free(connectors);
    return NULL;
}

int swm_connectors_declare(swm_weights *weights, const swm_connectors_config *config, swm_dtype dtype, swm_error *error)
{
    swm_binding k = {.declare = weights, .dtype = dtype, .error = error};
    swm_connectors_outer outer;
    swm_connectors_block block;
    visit_outer(&k, &outer, config);
    for (int64_t i = 0; i < config->depth; i++) visit_block(&k, &block, config, i);
    return k.result;
}

/* ---- forward ------------------------------------------------------------------------------------------------------- */

/* Rows of x from `first` on that the text leaves free. Row i is register i % R, counted from the start of x and not from
 * the end of the text. */
typedef struct register_rows {
    swm_tensor registers;
    int64_t first, count;
} register_rows;

static void fill_registers(const void *user, float *values)
{
    const register_rows *rows = user;
    int64_t width = rows->registers.shape[1];
    for (int64_t n = 0; n < rows->count; n++) {
        swm_tensor row = swm_rows(rows->registers, (rows->first + n) % rows->registers.shape[0], 1);
        swm_to_f32(values + n * width, row.data, row.dtype, (size_t)width);
    }
}

/* One axis, and every pair of a row has a frequency of its own: (S,E/2,2). */
typedef struct rotation_rows {
    const swm_connectors_config *config;
    int64_t slots, frequencies;
} rotation_rows;

static void fill_rotation(const void *user, float *values)
{
    const rotation_rows *rows = user;
    float scale = 1.0f / (float)rows->config->base_positions;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows->frequencies; i++) {
        double exponent = (double)i / (double)swm_max(rows->frequencies - 1, 1);
        float frequency = (float)(pow(rows->config->rope_theta, exponent) * M_PI / 2);
        for (int64_t n = 0; n < rows->slots; n++) {
            float angle = ((float)n * scale * 2.0f - 1.0f) * frequency; /* position 0 turns, too: by -frequency */
            values[2 * (n * rows->frequencies + i)] = (float)cos((double)angle);
            values[2 * (n * rows->frequencies + i) + 1] = (float)sin((double)angle);
        }
    }
}

static swm_grid_rotation rotation_of(swm_backend *b, const swm_connectors_config *config, int64_t slots)
{
    swm_grid_rotation rotation = {.heads = config->heads, .interleaved = config->interleaved};
    rotation_rows rows = {config, slots, config->caption_channels / 2};
    int64_t shape[] = {slots, rows.frequencies, 2};
    rotation.axes[0] = swm_upload_computed(b, SWM_F32, fill_rotation, &rows, 3, shape);
    return rotation;
}

static swm_tensor linear(swm_backend *b, swm_tensor x, swm_affine w, swm_activation activation)
{
    return swm_linear(b, x, w.weight, w.bias, activation);
}

/* The text's rows of x, then the registers'. */
static void embed(swm_backend *b, const swm_connectors *connectors, swm_tensor x, swm_tensor states)
{
    int64_t slots = swm_row_count(x), text = states.shape[1];
    swm_mark mark = swm_mark_of(b);
    swm_tensor packed = swm_pack_states(b, states); /* (N,E*L) */
    swm_trace(b, packed, "packed");
    const swm_connectors_outer *w = swm_weights_use(b, &connectors->outer, sizeof connectors->outer);
    swm_linear_to(b, swm_rows(x, 0, text), packed, w->text_in, (swm_tensor){0}, SWM_IDENTITY);
    swm_weights_done(b, &connectors->outer);
    swm_trace(b, swm_rows(x, 0, text), "text_proj_in");
    swm_release(b, mark);
    if (text == slots) return;
    register_rows rows = {connectors->outer.registers, text, slots - text};
    int64_t shape[] = {rows.count, x.shape[1]};
    swm_copy(b, swm_rows(x, text, rows.count), swm_upload_computed(b, b->compute, fill_registers, &rows, 2, shape));
    swm_release(b, mark);
}

static void attention(swm_backend *b, const swm_connectors_config *config, const swm_connectors_block *w, swm_tensor x,
                      const swm_grid_rotation *rotation)
{
    swm_attention how = {.heads = config->heads, .scale = (float)(1.0 / sqrt((double)config->head))};
    swm_tensor u = swm_rms_norm(b, x, (swm_tensor){0}, epsilon, 0); /* (S,E) */
    swm_tensor q = linear(b, u, w->q, SWM_IDENTITY);                /* (S,E) */
    swm_tensor k = linear(b, u, w->k, SWM_IDENTITY);                /* (S,E) */
    swm_tensor v = linear(b, u, w->v, SWM_IDENTITY);                /* (S,E) */
    swm_rotate_grid(b, q, q, w->q_norm, epsilon, rotation);
    swm_rotate_grid(b, k, k, w->k_norm, epsilon, rotation);
    swm_tensor a = swm_attend(b, q, k, v, &how); /* (S,E), registers and text alike */
    swm_linear_add(b, x, a, w->out.weight, w->out.bias);
}

static void feed_forward(swm_backend *b, const swm_connectors_block *w, swm_tensor x)
{
    swm_tensor u = swm_rms_norm(b, x, (swm_tensor){0}, epsilon, 0); /* (S,E) */
    swm_tensor h = linear(b, u, w->expand, SWM_GELU_TANH);          /* (S,4E) */
    swm_linear_add(b, x, h, w->contract.weight, w->contract.bias);
}

swm_tensor swm_connectors_forward(swm_backend *b, const swm_connectors *connectors, swm_tensor states, int64_t slots)
{
    const swm_connectors_config *c = &connectors->config;
    SWM_REQUIRE(states.rank == 3 && states.shape[0] == c->layers && states.shape[2] == c->caption_channels &&
                    states.shape[1] > 0 && states.shape[1] <= slots,
                "states %s for %lld slots", swm_describe(states).text, (long long)slots);
    swm_tensor x = SWM_TAKE(b, b->compute, slots, c->caption_channels); /* (S,E) */
    embed(b, connectors, x, states);
    swm_mark behind_x = swm_mark_of(b);
    swm_grid_rotation rotation = rotation_of(b, c, slots);
    for (int64_t i = 0; i < c->depth; i++) {
        const swm_connectors_block *w = swm_weights_use(b, &connectors->blocks[i], sizeof *w);
        swm_mark mark = swm_mark_of(b);
        attention(b, c, w, x, &rotation);
        swm_release(b, mark);
        feed_forward(b, w, x);
        swm_release(b, mark);
        swm_weights_done(b, &connectors->blocks[i]);
        swm_trace(b, x, "blocks.%lld", (long long)i);
    }
    swm_copy(b, x, swm_rms_norm(b, x, (swm_tensor){0}, epsilon, 0));
    swm_release(b, behind_x);
    swm_trace(b, x, "prompt_embeds");
    return x;
}
