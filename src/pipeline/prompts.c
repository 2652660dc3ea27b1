/* Implements prompts.h: two stages of their own, each planned by running it on a counting backend. */
#include "pipeline/prompts.h"

#include <stdlib.h>

/* The refiner's encoder keeps all states of the prompts in work: 0.4 MB a token. */
enum { TOGETHER = 32 };

typedef struct encoding {
    swm_prompts *prompts;
    const swm_checkpoint *checkpoint;
    swm_error *error;
} encoding;

static int encode_first(const encoding *e, swm_backend *b)
{
    const swm_pipeline_config *config = &e->checkpoint->config;
    const swm_prompt_encoder encoder = {
        .gemma = &e->checkpoint->gemma,
        .tokenizer = e->checkpoint->tokenizer,
        .instruction = config->chi_prompt,
        .instruction_count = config->chi_prompt_count,
        .tokens = config->model_max_length,
    };
    swm_prompts *p = e->prompts;
    for (int64_t i = 0; i < p->count; i++) {
        swm_prompt_free(&p->conditional[i]);
        swm_prompt_free(&p->negative[i]);
        if (swm_prompt_encode(&p->conditional[i], &p->negative[i], &encoder, b, p->texts[i], p->negative_text,
                              e->error) != 0)
            return -1;
    }
    return 0;
}

static int encode_second(const encoding *e, swm_backend *b)
{
    const swm_refiner_parts *parts = &e->checkpoint->refiner;
    const swm_refiner_encoder encoder = {
        .gemma = &parts->gemma,
        .tokenizer = parts->tokenizer,
        .connectors = parts->connectors,
        .slots = SWM_REFINER_PROMPT_SLOTS,
    };
    swm_prompts *p = e->prompts;
    for (int64_t i = 0; i < p->count; i += TOGETHER) {
        int64_t count = swm_min(TOGETHER, p->count - i);
        for (int64_t k = i; k < i + count; k++) swm_refiner_prompt_free(&p->refined[k]);
        if (swm_refiner_prompt_encode(p->refined + i, &encoder, b, p->texts + i, count, e->error) != 0) return -1;
    }
    return 0;
}

static int run_planned(const encoding *e, swm_backend *b, const char *name,
                       int (*encode)(const encoding *e, swm_backend *b))
{
    swm_backend *plan = swm_backend_open_plan(b->compute, e->error);
    if (plan == NULL) return -1;
    int result = encode(e, plan);
    size_t scratch = plan->scratch.peak;
    swm_weight_list weights = swm_plan_weights(plan);
    swm_backend_close(plan);
    if (result == 0) result = swm_backend_begin(b, name, scratch, &weights, e->error);
    if (result == 0) result = encode(e, b);
    if (result == 0) swm_weights_leave(b);
    swm_weight_list_free(&weights);
    return result;
}

int swm_prompts_encode(swm_prompts *p, const swm_checkpoint *checkpoint, const char *device, uint64_t vram_budget,
                       int threads, swm_error *error)
{
    const encoding e = {.prompts = p, .checkpoint = checkpoint, .error = error};
    const bool first = checkpoint->tokenizer != NULL, second = checkpoint->refiner.tokenizer != NULL;
    size_t count = (size_t)p->count;
    p->conditional = first ? swm_allocate(error, count, sizeof *p->conditional) : NULL;
    p->negative = first ? swm_allocate(error, count, sizeof *p->negative) : NULL;
    p->refined = second ? swm_allocate(error, count, sizeof *p->refined) : NULL;
    if (swm_failed(error)) return -1;
    swm_backend *b = swm_backend_open(device, false, threads, error);
    int result = b != NULL ? swm_backend_limit(b, vram_budget, error) : -1;
    if (result == 0 && first) result = run_planned(&e, b, "prompt", encode_first);
    if (result == 0 && second) result = run_planned(&e, b, "refiner_prompt", encode_second);
    swm_backend_close(b);
    return result;
}

void swm_prompts_free(swm_prompts *p)
{
    for (int64_t i = 0; i < p->count; i++) {
        if (p->conditional != NULL) swm_prompt_free(&p->conditional[i]);
        if (p->negative != NULL) swm_prompt_free(&p->negative[i]);
        if (p->refined != NULL) swm_refiner_prompt_free(&p->refined[i]);
    }
    free(p->conditional);
    free(p->negative);
    free(p->refined);
    p->conditional = p->negative = NULL;
    p->refined = NULL;
}
