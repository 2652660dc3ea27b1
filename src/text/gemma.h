/* The Gemma text encoder: token ids to the hidden states that condition the video models. Owns the binding of its
 * weights and its forward, which serves Gemma 2 (first stage) and the text model of Gemma 3 (second stage). What the ids
 * are and which states are kept belongs to text/prompt.h and text/refiner_prompt.h. */
#ifndef SWM_GEMMA_H
#define SWM_GEMMA_H

#include "core/backend.h"
#include "io/config.h"
#include "io/weights.h"

/* H hidden_size, Q heads * head_dim, K kv_heads * head_dim, I intermediate_size. */
typedef struct swm_gemma_layer {
    swm_tensor attention_norm, attention_out_norm; /* (H): before and after, inside the residual branch */
    swm_tensor q, k, v, o;                         /* (Q,H), (K,H), (K,H), (H,Q) */
    swm_tensor q_norm, k_norm;                     /* (head_dim), of every head; Gemma 2 has neither */
    swm_tensor ffn_norm, ffn_out_norm;             /* (H) */
    swm_tensor gate, up, down;                     /* (I,H), (I,H), (H,I) */
} swm_gemma_layer;

/* Immutable once bound. Borrows the tensors: keep the swm_weights open as long as this is used. */
typedef struct swm_gemma {
    swm_gemma_config config;
    bool softcap;            /* cap attention scores at config.attn_logit_softcapping */
    swm_tensor embedding;    /* (vocab_size,H) */
    swm_tensor norm;         /* (H) */
    swm_gemma_layer *layers; /* config.layers of them, owned */
} swm_gemma;

/* Bind every tensor, with exact shapes, under its name as it is or behind one of the prefixes "model.",
 * "language_model.model." and "model.language_model."; what else a file holds is not looked at. On failure *gemma is {0}.
 *
 * softcap: Gemma 2 was trained with capped attention scores, but the library that made the prompt states of SANA-WM's
 * release ignored the cap. The release's video models therefore want false. Models that were made with the cap want
 * true. */
int swm_gemma_bind(swm_gemma *gemma, const swm_weights *weights, const swm_gemma_config *config, bool softcap,
                   swm_error *error);
void swm_gemma_free(swm_gemma *gemma); /* safe on {0} */

/* Declare the tensors that bind asks for, all of one type, to plan without files. */
int swm_gemma_declare(swm_weights *weights, const swm_gemma_config *config, swm_dtype dtype, swm_error *error);

/* Which states this encoder makes: the fingerprint of its weights, and whether scores are capped. */
enum { SWM_GEMMA_FINGERPRINT = 80 };
int swm_gemma_fingerprint(const swm_gemma *gemma, const swm_weights *weights, char text[SWM_GEMMA_FINGERPRINT],
                          swm_error *error);

/* Hidden states behind the last norm, (count,H), of count >= 1 ids, each below vocab_size (unread under plan, where
 * they may be NULL). Attention is causal, so padding on the right would change nothing, and padding on the left is masked
 * and only shifts positions: leave both away, and say in first_position how many tokens of padding the first id has on
 * its left. Traces "embed", "layer0", "layer1", ... and "last_hidden". The result is all that stays in the arena.
 *
 * states: NULL, or where all hidden states go, (layers+1,count,H) of the compute type: the embedding, the residual stream
 * behind every layer but the last, and the result. */
swm_tensor swm_gemma_forward(swm_backend *b, const swm_gemma *gemma, const int32_t *ids, int64_t count,
                             int64_t first_position, const swm_tensor *states);

#endif
