/* Implements text/gemma.h. The forward comes last and reads top to bottom; before it stand the names of the tensors. */
#include "text/gemma.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- binding ----------------------------------------------------------------------------------------------------- */

/* A size of the config that is a side of a matrix; NONE makes a vector of the other. */
typedef enum side { NONE, HIDDEN, QUERIES, KEYS, HEAD, INNER } side;

static const struct {
    const char *name;
    size_t offset; /* in swm_gemma_layer */
    side rows, columns;
    int generation; /* the first that has it */
} layer_tensors[] = {
    {"input_layernorm", offsetof(swm_gemma_layer, attention_norm), HIDDEN, NONE, 2},
    {"self_attn.q_proj", offsetof(swm_gemma_layer, q), QUERIES, HIDDEN, 2},
    {"self_attn.k_proj", offsetof(swm_gemma_layer, k), KEYS, HIDDEN, 2},
    {"self_attn.v_proj", offsetof(swm_gemma_layer, v), KEYS, HIDDEN, 2},
    {"self_attn.o_proj", offsetof(swm_gemma_layer, o), HIDDEN, QUERIES, 2},
    {"self_attn.q_norm", offsetof(swm_gemma_layer, q_norm), HEAD, NONE, 3},
    {"self_attn.k_norm", offsetof(swm_gemma_layer, k_norm), HEAD, NONE, 3},
    {"post_attention_layernorm", offsetof(swm_gemma_layer, attention_out_norm), HIDDEN, NONE, 2},
    {"pre_feedforward_layernorm", offsetof(swm_gemma_layer, ffn_norm), HIDDEN, NONE, 2},
    {"mlp.gate_proj", offsetof(swm_gemma_layer, gate), INNER, HIDDEN, 2},
    {"mlp.up_proj", offsetof(swm_gemma_layer, up), INNER, HIDDEN, 2},
    {"mlp.down_proj", offsetof(swm_gemma_layer, down), HIDDEN, INNER, 2},
    {"post_feedforward_layernorm", offsetof(swm_gemma_layer, ffn_out_norm), HIDDEN, NONE, 2},
};
enum { LAYER_TENSORS = sizeof layer_tensors / sizeof layer_tensors[0] };

static int64_t length_of(const swm_gemma_config *config, side which)
{
    switch (which) {
    case HIDDEN: return config->hidden_size;
    case QUERIES: return config->heads * config->head_dim;
    case KEYS: return config->kv_heads * config->head_dim;
    case HEAD: return config->head_dim;
    case INNER: return config->intermediate_size;
    case NONE: break;
    }
    return 0;
}

/* Shape of a layer's tensor; returns the rank. */
static int layer_shape(const swm_gemma_config *config, int tensor, int64_t shape[2])
{
    shape[0] = length_of(config, layer_tensors[tensor].rows);
    shape[1] = length_of(config, layer_tensors[tensor].columns);
    return layer_tensors[tensor].columns == NONE ? 1 : 2;
}

static bool has(const swm_gemma_config *config, int tensor)
{
    return config->generation >= layer_tensors[tensor].generation;
}

static int bind_layer(swm_gemma_layer *layer, const swm_weights *weights, const swm_gemma_config *config,
                      const char *prefix, int64_t index, swm_error *error)
{
    for (int i = 0; i < LAYER_TENSORS; i++) {
        if (!has(config, i)) continue;
        int64_t shape[2];
        int rank = layer_shape(config, i, shape);
        swm_tensor *slot = (swm_tensor *)(void *)((char *)layer + layer_tensors[i].offset);
        if (swm_weights_bind(weights, slot, error, rank, shape, "%slayers.%lld.%s.weight", prefix, (long long)index,
                             layer_tensors[i].name) != 0)
            return -1;
    }
    return 0;
}

/* Files of the bare encoder have no prefix, files of a language model one, and files of a model that also sees pictures
 * another, whose parts stand in either order. */
static const char *prefix_of(const swm_weights *weights)
{
    static const char *const prefixes[] = {"model.", "language_model.model.", "model.language_model."};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        char name[64];
        snprintf(name, sizeof name, "%sembed_tokens.weight", prefixes[i]);
        if (swm_weights_find(weights, name) != NULL) return prefixes[i];
    }
    return "";
}

int swm_gemma_bind(swm_gemma *gemma, const swm_weights *weights, const swm_gemma_config *config, bool softcap,
                   swm_error *error)
{
    *gemma = (swm_gemma){0};
    gemma->config = *config;
    gemma->softcap = softcap && config->attn_logit_softcapping > 0;
    gemma->layers = swm_allocate(error, (size_t)config->layers, sizeof *gemma->layers);
    const char *prefix = prefix_of(weights);
    int64_t embedding[] = {config->vocab_size, config->hidden_size};
    bool bound = gemma->layers != NULL && swm_weights_bind(weights, &gemma->embedding, error, 2, embedding,
                                                           "%sembed_tokens.weight", prefix) == 0;
    for (int64_t i = 0; bound && i < config->layers; i++)
        bound = bind_layer(&gemma->layers[i], weights, config, prefix, i, error) == 0;
    if (bound) bound = swm_weights_bind(weights, &gemma->norm, error, 1, &embedding[1], "%snorm.weight", prefix) == 0;
    if (!bound) swm_gemma_free(gemma);
    return bound ? 0 : -1;
}

void swm_gemma_free(swm_gemma *gemma)
{
    free(gemma->layers);
    *gemma = (swm_gemma){0};
}

int swm_gemma_declare(swm_weights *weights, const swm_gemma_config *config, swm_dtype dtype, swm_error *error)
{
    int64_t embedding[] = {config->vocab_size, config->hidden_size};
    int result = swm_weights_declare(weights, "embed_tokens.weight", dtype, 2, embedding, error);
    for (int64_t layer = 0; layer < config->layers; layer++)
        for (int i = 0; result == 0 && i < LAYER_TENSORS; i++) {
            if (!has(config, i)) continue;
            char name[96];
            snprintf(name, sizeof name, "layers.%lld.%s.weight", (long long)layer, layer_tensors[i].name);
            int64_t shape[2];
            int rank = layer_shape(config, i, shape);
            result = swm_weights_declare(weights, name, dtype, rank, shape, error);
        }
    return result != 0 ? -1 : swm_weights_declare(weights, "norm.weight", dtype, 1, &embedding[1], error);
}

int swm_gemma_fingerprint(const swm_gemma *gemma, const swm_weights *weights, char text[SWM_GEMMA_FINGERPRINT],
                          swm_error *error)
{
    char hex[65];
    if (swm_weights_fingerprint(weights, hex, error) != 0) return -1;
    snprintf(text, SWM_GEMMA_FINGERPRINT, "%s%s", hex, gemma->softcap ? "+softcap" : "");
    return 0;
}

/* ---- forward ----------------------------------------------------------------------------------------------------- */

/* Rows of the embedding are picked and scaled on the host: a table of 2 GB never travels to a device for the sake of a
 * few hundred of its rows. */
typedef struct embedding_rows {
    swm_tensor table;
    const int32_t *ids;
    int64_t count;
    float scale;
} embedding_rows;

static void fill_embedding(const void *user, float *values)
{
    const embedding_rows *rows = user;
    int64_t width = rows->table.shape[1];
    for (int64_t n = 0; n < rows->count; n++, values += width) {
        int32_t id = rows->ids[n];
        SWM_REQUIRE(id >= 0 && id < rows->table.shape[0], "token %d of %lld", (int)id, (long long)rows->table.shape[0]);
        swm_to_f32(values, swm_rows(rows->table, id, 1).data, rows->table.dtype, (size_t)width);
        for (int64_t c = 0; c < width; c++) values[c] *= rows->scale;
    }
}

/* The factor is sqrt(H). The weights were trained with that number rounded to bf16, which a bf16 run keeps: it is exact
 * for H = 2304, but 62 and not 61.97 for H = 3840. */
static swm_tensor embed(swm_backend *b, const swm_gemma *gemma, const int32_t *ids, int64_t count)
{
    float scale = (float)sqrt((double)gemma->config.hidden_size);
    if (b->compute == SWM_BF16) scale = swm_bf16_to_f32(swm_f32_to_bf16(scale));
    embedding_rows rows = {gemma->embedding, ids, count, scale};
    int64_t shape[] = {count, gemma->config.hidden_size};
    return swm_upload_computed(b, b->compute, fill_embedding, &rows, 2, shape);
}

typedef struct rotation_rows {
    double theta, factor;
    int64_t first, count, half;
    bool round; /* to bf16 */
} rotation_rows;

/* Cosine and sine of position * theta^(-2i/D) / factor: (count,D/2,2). Frequencies and angles are floats, as in the
 * reference; where it computes in bf16 it rounds cosine and sine, too, which makes absolute positions count. */
static void fill_rotation(const void *user, float *values)
{
    const rotation_rows *rows = user;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows->half; i++) {
        float frequency = (float)(pow(rows->theta, -(double)i / (double)rows->half) / rows->factor);
        for (int64_t n = 0; n < rows->count; n++) {
            float *pair = values + 2 * (n * rows->half + i);
            double angle = (double)((float)(rows->first + n) * frequency);
            pair[0] = (float)cos(angle);
            pair[1] = (float)sin(angle);
            for (int k = 0; rows->round && k < 2; k++) pair[k] = swm_bf16_to_f32(swm_f32_to_bf16(pair[k]));
        }
    }
}

static swm_tensor rotation_table(swm_backend *b, const swm_gemma_config *config, int64_t first, int64_t count,
                                 bool sliding)
{
    rotation_rows rows = {
        .theta = sliding ? config->sliding_rope_theta : config->rope_theta,
        .factor = sliding ? 1 : config->rope_factor,
        .first = first,
        .count = count,
        .half = config->head_dim / 2,
        .round = b->compute == SWM_BF16,
    };
    return swm_upload_computed(b, SWM_F32, fill_rotation, &rows, 3, (int64_t[]){count, rows.half, 2});
}

/* No linear layer has a bias. */
static swm_tensor project(swm_backend *b, swm_tensor x, swm_tensor w)
{
    return swm_linear(b, x, w, (swm_tensor){0}, SWM_IDENTITY);
}

/* RMSNorm of every head by itself, where the model has one: x (N,heads*D). */
static swm_tensor norm_heads(swm_backend *b, swm_tensor x, swm_tensor norm, float epsilon)
{
    if (!swm_present(norm)) return x;
    swm_tensor heads = SWM_RESHAPE(x, swm_count(x) / norm.shape[0], norm.shape[0]); /* (N*heads,D) */
    return swm_reshape(swm_rms_norm(b, heads, norm, epsilon, 1.0f), x.rank, x.shape);
}

static void attention(swm_backend *b, const swm_gemma *gemma, const swm_gemma_layer *w, swm_tensor x,
                      swm_tensor rotation, bool sliding)
{
    const swm_gemma_config *c = &gemma->config;
    float epsilon = (float)c->rms_norm_eps;
    swm_tensor u = swm_rms_norm(b, x, w->attention_norm, epsilon, 1.0f);   /* (N,H) */
    swm_tensor q = norm_heads(b, project(b, u, w->q), w->q_norm, epsilon); /* (N,Q) */
    swm_tensor k = norm_heads(b, project(b, u, w->k), w->k_norm, epsilon); /* (N,K) */
    swm_tensor v = project(b, u, w->v);                                    /* (N,K) */
    swm_rotate_half(b, q, rotation, c->heads);
    swm_rotate_half(b, k, rotation, c->kv_heads);
    swm_attention how = {
        .heads = c->heads,
        .key_heads = c->kv_heads,
        .scale = (float)(1.0 / sqrt(c->query_pre_attn_scalar)), /* which need not be the head's size */
        .softcap = gemma->softcap ? (float)c->attn_logit_softcapping : 0.0f,
        .causal = true,
        .window = sliding ? c->sliding_window : 0,
    };
    swm_tensor a = swm_attend(b, q, k, v, &how); /* (N,Q) */
    swm_tensor o = project(b, a, w->o);          /* (N,H) */
    swm_add(b, x, swm_rms_norm(b, o, w->attention_out_norm, epsilon, 1.0f));
}

static void feed_forward(swm_backend *b, const swm_gemma *gemma, const swm_gemma_layer *w, swm_tensor x)
{
    float epsilon = (float)gemma->config.rms_norm_eps;
    swm_tensor u = swm_rms_norm(b, x, w->ffn_norm, epsilon, 1.0f); /* (N,H) */
    swm_tensor gate = project(b, u, w->gate);                      /* (N,I) */
    swm_tensor up = project(b, u, w->up);                          /* (N,I) */
    swm_gelu_multiply(b, gate, up);
    swm_tensor down = project(b, gate, w->down); /* (N,H) */
    swm_add(b, x, swm_rms_norm(b, down, w->ffn_out_norm, epsilon, 1.0f));
}

static void keep(swm_backend *b, const swm_tensor *states, int64_t index, swm_tensor x)
{
    if (states != NULL) swm_copy(b, swm_rows(*states, index, 1), x);
}

swm_tensor swm_gemma_forward(swm_backend *b, const swm_gemma *gemma, const int32_t *ids, int64_t count,
                             int64_t first_position, const swm_tensor *states)
{
    const swm_gemma_config *c = &gemma->config;
    swm_tensor x = embed(b, gemma, ids, count); /* (N,H) */
    swm_trace(b, x, "embed");
    keep(b, states, 0, x);
    swm_mark behind_x = swm_mark_of(b);
    swm_tensor full = rotation_table(b, c, first_position, count, false);
    swm_tensor sliding = rotation_table(b, c, first_position, count, true);
    for (int64_t i = 0; i < c->layers; i++) {
        const swm_gemma_layer *w = swm_weights_use(b, &gemma->layers[i], sizeof gemma->layers[i]);
        swm_mark mark = swm_mark_of(b);
        attention(b, gemma, w, x, c->sliding[i] ? sliding : full, c->sliding[i]);
        swm_release(b, mark);
        feed_forward(b, gemma, w, x);
        swm_release(b, mark);
        swm_weights_done(b, &gemma->layers[i]);
        swm_trace(b, x, "layer%lld", (long long)i);
        if (i + 1 < c->layers) keep(b, states, i + 1, x);
    }
    const swm_tensor *norm = swm_weights_use(b, &gemma->norm, sizeof gemma->norm);
    swm_copy(b, x, swm_rms_norm(b, x, *norm, (float)c->rms_norm_eps, 1.0f));
    swm_weights_done(b, &gemma->norm);
    keep(b, states, c->layers, x);
    swm_release(b, behind_x);
    swm_trace(b, x, "last_hidden");
    return x;
}
