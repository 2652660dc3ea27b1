/* Names and shapes of the DiT's tensors: binding a checkpoint, declaring one that exists only as shapes. */
#include "model/dit.h"

#include "io/binding.h"

#include <stdio.h>
#include <stdlib.h>

swm_dit_size swm_dit_release_size(void)
{
    return (swm_dit_size){
        .depth = 20,
        .channels = 2240,
        .heads = 20,
        .head = 112,
        .softmax_every = 4,
        .latent_channels = 128,
        .plucker_channels = 48,
        .caption_channels = 2304,
        .caption_tokens = 300,
        .ffn = 6720,
    };
}

static void visit_outer(swm_binding *k, swm_dit_outer *w, const swm_dit_size *s)
{
    int64_t c = s->channels;
    swm_binding_prefix(k, "%s", "");
    swm_visit_affine(k, &w->x_embedder, "x_embedder.proj", c, s->latent_channels);
    swm_visit_affine(k, &w->plucker_embedder, "plucker_embedder.proj", c, s->plucker_channels);
    swm_visit_affine(k, &w->time_in, "t_embedder.mlp.0", c, 256);
    swm_visit_affine(k, &w->time_out, "t_embedder.mlp.2", c, c);
    swm_visit_affine(k, &w->time_block, "t_block.1", 6 * c, c);
    swm_visit_affine(k, &w->caption_in, "y_embedder.y_proj.fc1", c, s->caption_channels);
    swm_visit_affine(k, &w->caption_out, "y_embedder.y_proj.fc2", c, c);
    SWM_VISIT(k, &w->caption_norm, "attention_y_norm.weight", c);
    swm_visit_affine(k, &w->final, "final_layer.linear", s->latent_channels, c);
    SWM_VISIT(k, &w->final_table, "final_layer.scale_shift_table", 2, c);
}

static void visit_gates(swm_binding *k, swm_dit_block *w, const swm_dit_size *s)
{
    swm_visit_affine(k, &w->beta, "attn.beta_proj", s->heads, s->channels);
    swm_visit_affine(k, &w->decay, "attn.gate_proj", s->heads, s->channels);
    SWM_VISIT(k, &w->a_log, "attn.A_log", s->heads);
    SWM_VISIT(k, &w->dt_bias, "attn.dt_bias", s->heads);
}

static void visit_block(swm_binding *k, swm_dit_block *w, const swm_dit_size *s, int64_t index)
{
    int64_t c = s->channels, f = s->ffn;
    swm_binding_prefix(k, "blocks.%lld.", (long long)index);
    SWM_VISIT(k, &w->table, "scale_shift_table", 6, c);
    SWM_VISIT(k, &w->qkv, "attn.qkv.weight", 3 * c, c);
    SWM_VISIT(k, &w->q_norm, "attn.q_norm.weight", c);
    SWM_VISIT(k, &w->k_norm, "attn.k_norm.weight", c);
    if (!swm_dit_is_softmax(s, index)) {
        SWM_VISIT(k, &w->conv_k, "attn.conv_k.weight", c, 1, 4);
        SWM_VISIT(k, &w->conv_k_camera, "attn.conv_k_cam.weight", c, 1, 4);
        visit_gates(k, w, s);
    }
    swm_visit_affine(k, &w->q_camera, "attn.q_proj_cam", c, c);
    swm_visit_affine(k, &w->k_camera, "attn.k_proj_cam", c, c);
    swm_visit_affine(k, &w->v_camera, "attn.v_proj_cam", c, c);
    swm_visit_affine(k, &w->out_camera, "attn.out_proj_cam", c, c);
    SWM_VISIT(k, &w->q_norm_camera, "attn.q_norm_cam.weight", c);
    SWM_VISIT(k, &w->k_norm_camera, "attn.k_norm_cam.weight", c);
    swm_visit_affine(k, &w->output_gate, "attn.output_gate", c, c);
    swm_visit_affine(k, &w->projection, "attn.proj", c, c);
    swm_visit_affine(k, &w->plucker, "plucker_proj", c, c);
    swm_visit_affine(k, &w->cross_q, "cross_attn.q_linear", c, c);
    swm_visit_affine(k, &w->cross_kv, "cross_attn.kv_linear", 2 * c, c);
    swm_visit_affine(k, &w->cross_out, "cross_attn.proj", c, c);
    SWM_VISIT(k, &w->cross_q_norm, "cross_attn.q_norm.weight", c);
    SWM_VISIT(k, &w->cross_k_norm, "cross_attn.k_norm.weight", c);
    swm_visit_affine(k, &w->expand, "mlp.inverted_conv.conv", 2 * f, c);
    SWM_VISIT(k, &w->depthwise.weight, "mlp.depth_conv.conv.weight", 2 * f, 1, 3, 3);
    SWM_VISIT(k, &w->depthwise.bias, "mlp.depth_conv.conv.bias", 2 * f);
    SWM_VISIT(k, &w->contract, "mlp.point_conv.conv.weight", c, f);
    SWM_VISIT(k, &w->temporal, "mlp.t_conv.weight", c, c, 3, 1);
}

/* The first dimension, or the one behind it, of a tensor whose shape says a size. */
static int64_t size_from(swm_binding *k, const char *name, int dimension)
{
    const swm_tensor *t = k->result == 0 ? swm_weights_find(k->weights, name) : NULL;
    if (t != NULL && t->rank > dimension && t->shape[dimension] > 0 && t->shape[dimension] <= 1 << 20)
        return t->shape[dimension];
    if (k->result == 0)
        k->result = swm_fail(k->error, "%s: no tensor %s with %d or more dimensions; this is no SANA-WM DiT checkpoint",
                             swm_weights_path(k->weights), name, dimension + 1);
    return 1;
}

swm_dit *swm_dit_bind(const swm_weights *weights, int64_t head, int64_t softmax_every, swm_error *error)
{
    swm_dit *dit = swm_allocate(error, 1, sizeof *dit);
    if (dit == NULL) return NULL;
    swm_binding k = {.weights = weights, .error = error};
    swm_dit_size *s = &dit->size;
    *s = (swm_dit_size){
        .head = head,
        .softmax_every = softmax_every,
        .channels = size_from(&k, "x_embedder.proj.bias", 0),
        .latent_channels = size_from(&k, "final_layer.linear.bias", 0),
        .plucker_channels = size_from(&k, "plucker_embedder.proj.weight", 1),
        .caption_channels = size_from(&k, "y_embedder.y_proj.fc1.weight", 1),
        .ffn = size_from(&k, "blocks.0.mlp.point_conv.conv.weight", 1),
    };
    char name[64];
    while (s->depth <= SWM_DIT_MAX_DEPTH) {
        snprintf(name, sizeof name, "blocks.%lld.scale_shift_table", (long long)s->depth);
        if (swm_weights_find(weights, name) == NULL) break;
        s->depth++;
    }
    const swm_tensor *captions = swm_weights_find(weights, "y_embedder.y_embedding");
    s->caption_tokens = captions != NULL ? captions->shape[0] : 0;
    if (k.result == 0 && (s->depth == 0 || s->depth > SWM_DIT_MAX_DEPTH))
        k.result = swm_fail(error, "%s: has %s blocks; 1 to %d are expected", swm_weights_path(weights),
                            s->depth == 0 ? "no" : "too many", SWM_DIT_MAX_DEPTH);
    if (k.result == 0 && (head < 8 || head % 8 != 0 || s->channels % head != 0))
        k.result = swm_fail(error, "%s: width %lld does not fit heads of %lld; check linear_head_dim in config.yaml",
                            swm_weights_path(weights), (long long)s->channels, (long long)head);
    if (k.result == 0) s->heads = s->channels / head;
    visit_outer(&k, &dit->outer, s);
    for (int64_t i = 0; k.result == 0 && i < s->depth; i++) visit_block(&k, &dit->blocks[i], s, i);
    if (k.result == 0) return dit;
    free(dit);
    return NULL;
}

int swm_dit_declare(swm_weights *weights, const swm_dit_size *size, swm_dtype dtype, swm_error *error)
{
    swm_binding k = {.weights = weights, .declare = weights, .dtype = dtype, .error = error};
    swm_dit_outer outer;
    swm_dit_block block;
    visit_outer(&k, &outer, size);
    /* Parameters of the checkpoint that inference never reads. */
    swm_affine unused;
    swm_visit_affine(&k, &unused, "raymap_embedder.proj", size->channels, 3);
    for (int64_t i = 0; k.result == 0 && i < size->depth; i++) {
        visit_block(&k, &block, size, i);
        if (swm_dit_is_softmax(size, i)) visit_gates(&k, &block, size);
    }
    return k.result;
}
