/* Names and shapes of the refiner's tensors: binding a checkpoint, declaring one that exists only as shapes. The audio
 * half of LTX-2, two tensors in three, is never looked up. */
#include "model/refiner.h"

#include "io/binding.h"

#include <stdio.h>
#include <stdlib.h>

static void visit_outer(swm_binding *k, swm_refiner_outer *w, const swm_refiner_config *config)
{
    int64_t c = config->heads * config->head;
    swm_binding_prefix(k, "%s", "");
    swm_visit_affine(k, &w->in, "proj_in", c, config->channels);
    swm_visit_affine(k, &w->out, "proj_out", config->channels, c);
    swm_visit_affine(k, &w->caption_in, "caption_projection.linear_1", c, config->caption_channels);
    swm_visit_affine(k, &w->caption_out, "caption_projection.linear_2", c, c);
    swm_visit_affine(k, &w->time_in, "time_embed.emb.timestep_embedder.linear_1", c, 256);
    swm_visit_affine(k, &w->time_out, "time_embed.emb.timestep_embedder.linear_2", c, c);
    swm_visit_affine(k, &w->time_block, "time_embed.linear", 6 * c, c);
    SWM_VISIT(k, &w->table, "scale_shift_table", 2, c);
}

static void visit_attention(swm_binding *k, swm_refiner_attention *w, int64_t c, int64_t block, int which)
{
    swm_binding_prefix(k, "transformer_blocks.%lld.attn%d.", (long long)block, which);
    swm_visit_affine(k, &w->q, "to_q", c, c);
    swm_visit_affine(k, &w->k, "to_k", c, c);
    swm_visit_affine(k, &w->v, "to_v", c, c);
    swm_visit_affine(k, &w->out, "to_out.0", c, c);
    SWM_VISIT(k, &w->q_norm, "norm_q.weight", c);
    SWM_VISIT(k, &w->k_norm, "norm_k.weight", c);
}

static void visit_block(swm_binding *k, swm_refiner_block *w, const swm_refiner_config *config, int64_t block)
{
    int64_t c = config->heads * config->head;
    visit_attention(k, &w->self, c, block, 1);
    visit_attention(k, &w->cross, c, block, 2);
    swm_binding_prefix(k, "transformer_blocks.%lld.", (long long)block);
    SWM_VISIT(k, &w->table, "scale_shift_table", 6, c);
    swm_visit_affine(k, &w->expand, "ff.net.0.proj", 4 * c, c);
    swm_visit_affine(k, &w->contract, "ff.net.2", c, 4 * c);
}

swm_refiner *swm_refiner_bind(const swm_weights *weights, const swm_refiner_config *config, swm_error *error)
{
    swm_refiner *refiner = swm_allocate(error, 1, sizeof *refiner);
    if (refiner == NULL) return NULL;
    refiner->config = *config;
    swm_binding k = {.weights = weights, .error = error};
    visit_outer(&k, &refiner->outer, config);
    for (int64_t i = 0; i < config->depth; i++) visit_block(&k, &refiner->blocks[i], config, i);
    char beyond[64];
    snprintf(beyond, sizeof beyond, "transformer_blocks.%lld.scale_shift_table", (long long)config->depth);
    if (k.result == 0 && swm_weights_find(weights, beyond) != NULL)
        k.result = swm_fail(error, "%s: has more than the %lld blocks that config.json tells (num_layers)",
                            swm_weights_path(weights), (long long)config->depth);
    if (k.result == 0) return refiner;
    free(refiner);
    return NULL;
}

int swm_refiner_declare(swm_weights *weights, const swm_refiner_config *config, swm_dtype dtype, swm_error *error)
{
    swm_binding k = {.declare = weights, .dtype = dtype, .error = error};
    swm_refiner_outer outer;
    swm_refiner_block block;
    visit_outer(&k, &outer, config);
    for (int64_t i = 0; i < config->depth; i++) visit_block(&k, &block, config, i);
    return k.result;
}
