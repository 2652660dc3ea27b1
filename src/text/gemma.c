/* Implements text/gemma.h. The forward comes last and reads top to bottom; before it stand the names of the tensors. */
#include "text/gemma.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- binding ----------------------------------------------------------------------------------------------------- */

/* A size of the config that is a side of a matrix; NONE makes a vector of the other. */
typedef enum side { NONE, HIDDEN, QUERIES, KEYS, INNER } side;

static const struct {
    const char *name;
    size_t offset; /* in swm_gemma_layer */
    side rows, columns;
} layer_tensors[] = {
    {"input_layernorm", offsetof(swm_gemma_layer, attention_norm), HIDDEN, NONE},
    {"self_attn.q_proj", offsetof(swm_gemma_layer, q), QUERIES, HIDDEN},
    {"self_attn.k_proj", offsetof(swm_gemma_layer, k), KEYS, HIDDEN},
    {"self_attn.v_proj", offsetof(swm_gemma_layer, v), KEYS, HIDDEN},
    {"self_attn.o_proj", offsetof(swm_gemma_layer, o), HIDDEN, QUERIES},
    {"post_attention_layernorm", offsetof(swm_gemma_layer, attention_out_norm), HIDDEN, NONE},
    {"pre_feedforward_layernorm", offsetof(swm_gemma_layer, ffn_norm), HIDDEN, NONE},
    {"mlp.gate_proj", offsetof(swm_gemma_layer, gate), INNER, HIDDEN},
    {"mlp.up_proj", offsetof(swm_gemma_layer, up), INNER, HIDDEN},
    {"mlp.down_proj", offsetof(swm_gemma_layer, down), HIDDEN, INNER},
    {"post_feedforward_layernorm", offsetof(swm_gemma_layer, ffn_out_norm), HIDDEN, NONE},
};
enum { LAYER_TENSORS = sizeof layer_tensors / sizeof layer_tensors[0] };

static int64_t length_of(const swm_gemma_config *config, side which)
{
    switch (which) {
    case HIDDEN: return config->hidden_size;
    case QUERIES: return config->heads * config->head_dim;
    case KEYS: return config->kv_heads * config->head_dim;
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

static int check_generation(const swm_gemma_config *config, swm_error *error)
{
    if (config->generation == 2) return 0;
    return swm_fail(error,
                    "text encoder: is a Gemma %d, but prompts are encoded by a Gemma 2; give a Gemma 2 directory",
                    config->generation);
}

static int bind_layer(swm_gemma_layer *layer, const swm_weights *weights, const swm_gemma_config *config,
                      const char *prefix, int64_t index, swm_error *error)
{
    for (int i = 0; i < LAYER_TENSORS; i++) {
        int64_t shape[2];
        int rank = layer_shape(config, i, shape);
        swm_tensor *slot = (swm_tensor *)(void *)((char *)layer + layer_tensors[i].offset);
        if (swm_weights_bind(weights, slot, error, rank, shape, "%slayers.%lld.%s.weight", prefix, (long long)index,
                             layer_tensors[i].name) != 0)
            return -1;
    }
    return 0;
}

int swm_gemma_bind(swm_gemma *gemma, const swm_weights *weights, const swm_gemma_config *config, bool softcap,
                   swm_error *error)
{
    *gemma = (swm_gemma){0};
    if (check_generation(config, error) != 0) return -1;
    gemma->config = *config;
    gemma->softcap = softcap && config->attn_logit_softcapping > 0;
    gemma->layers = swm_allocate(error, (size_t)config->layers, sizeof *gemma->layers);
    /* Files of the whole language model have the prefix, files of the bare encoder do not. */
    const char *prefix = swm_weights_find(weights, "model.embed_tokens.weight") != NULL ? "model." : "";
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
    if (check_generation(config, error) != 0) return -1;
    int64_t embedding[] = {config->vocab_size, config->hidden_size};
    int result = swm_weights_declare(weights, "embed_tokens.weight", dtype, 2, embedding, error);
    for (int64_t layer = 0; layer < config->layers; layer++)
        for (int i = 0; result == 0 && i < LAYER_TENSORS; i++) {
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

/* Cosine and sine of position * theta^(-2i/D), F32 (count,D/2,2). */
static swm_tensor rotation_table(swm_backend *b, const swm_gemma_config *config, int64_t count)
{
    int64_t half = config->head_dim / 2;
    float *table = NULL;
    if (b->kernels != NULL && !swm_failed(&b->error))
        table = swm_allocate(&b->error, (size_t)(count * half), 2 * sizeof *table);
    for (int64_t n = 0; table != NULL && n < count; n++)
        for (int64_t i = 0; i < half; i++) {
            double angle = (double)n * pow(config->rope_theta, -2.0 * (double)i / (double)config->head_dim);
            table[(n * half + i) * 2] = (float)cos(angle);
            table[(n * half + i) * 2 + 1] = (float)sin(angle);
        }
    swm_tensor rotation = SWM_UPLOAD(b, SWM_F32, table, count, half, 2);
    free(table);
    return rotation;
}

/* No linear layer has a bias. */
static swm_tensor project(swm_backend *b, swm_tensor x, swm_tensor w)
{
    return swm_linear(b, x, w, (swm_tensor){0}, SWM_IDENTITY);
}

static void attention(swm_backend *b, const swm_gemma *gemma, const swm_gemma_layer *w, swm_tensor x,
                      swm_tensor rotation, bool sliding)
{
    const swm_gemma_config *c = &gemma->config;
    float epsilon = (float)c->rms_norm_eps;
    swm_tensor u = swm_rms_norm(b, x, w->attention_norm, epsilon, 1.0f); /* (N,H) */
    swm_tensor q = project(b, u, w->q);                                  /* (N,Q) */
    swm_tensor k = project(b, u, w->k);                                  /* (N,K) */
    swm_tensor v = project(b, u, w->v);                                  /* (N,K) */
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

/* The embedding is scaled by sqrt(H). The weights were trained with that number rounded to bf16, which a bf16 run
 * keeps: it is exact for H = 2304, but 62 and not 61.97 for H = 3840. */
static float embedding_scale(const swm_backend *b, int64_t hidden)
{
    float scale = (float)sqrt((double)hidden);
    return b->compute == SWM_BF16 ? swm_bf16_to_f32(swm_f32_to_bf16(scale)) : scale;
}

swm_tensor swm_gemma_forward(swm_backend *b, const swm_gemma *gemma, const int32_t *ids, int64_t count)
{
    const swm_gemma_config *c = &gemma->config;
    const swm_tensor *embedding = swm_weights_use(b, &gemma->embedding, sizeof gemma->embedding);
    swm_tensor x = swm_embed(b, *embedding, ids, count, embedding_scale(b, c->hidden_size)); /* (N,H) */
    swm_weights_done(b, embedding);
    swm_trace(b, x, "embed");
    swm_mark behind_x = swm_mark_of(b);
    swm_tensor rotation = rotation_table(b, c, count);
    for (int64_t i = 0; i < c->layers; i++) {
        const swm_gemma_layer *w = swm_weights_use(b, &gemma->layers[i], sizeof gemma->layers[i]);
        swm_mark mark = swm_mark_of(b);
        attention(b, gemma, w, x, rotation, c->sliding[i]);
        swm_release(b, mark);
        feed_forward(b, gemma, w, x);
        swm_release(b, mark);
        swm_weights_done(b, w);
        swm_trace(b, x, "layer%lld", (long long)i);
    }
    const swm_tensor *norm = swm_weights_use(b, &gemma->norm, sizeof gemma->norm);
    swm_copy(b, x, swm_rms_norm(b, x, *norm, (float)c->rms_norm_eps, 1.0f));
    swm_weights_done(b, norm);
    swm_release(b, behind_x);
    swm_trace(b, x, "last_hidden");
    return x;
}
