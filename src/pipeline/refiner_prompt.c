/* The stage that encodes the refiner's prompt: Gemma 3, then the connectors. */
#include "pipeline/clip.h"

static swm_refiner_encoder encoder_of(const swm_job *job)
{
    const swm_refiner_parts *parts = &job->checkpoint->refiner;
    return (swm_refiner_encoder){.gemma = &parts->gemma,
                                 .tokenizer = parts->tokenizer,
                                 .connectors = parts->connectors,
                                 .slots = SWM_REFINER_PROMPT_SLOTS};
}

static int encode(swm_clip *c, swm_backend *b)
{
    swm_job_refiner *refiner = &c->job->refiner;
    const swm_refiner_encoder encoder = encoder_of(c->job);
    const char *const texts[] = {refiner->text};
    swm_refiner_prompt_free(&refiner->prompt);
    return swm_refiner_prompt_encode(&refiner->prompt, &encoder, b, texts, 1, c->error);
}

static int save(swm_clip *c)
{
    const swm_job_refiner *refiner = &c->job->refiner;
    const swm_refiner_parts *parts = &c->job->checkpoint->refiner;
    char fingerprint[SWM_REFINER_FINGERPRINT];
    if (refiner->save_prompt_embeddings == NULL) return 0;
    if (swm_refiner_encoder_fingerprint(&parts->gemma, parts->text_weights, parts->connector_weights, fingerprint,
                                        c->error) != 0)
        return -1;
    return swm_refiner_prompt_save(refiner->save_prompt_embeddings, &refiner->prompt, fingerprint, c->error);
}

static int run(swm_clip *c, swm_backend *b)
{
    if (encode(c, b) != 0) return -1;
    swm_clip_tell_dropped(c, "refiner", c->job->refiner.prompt.dropped);
    return save(c);
}

static int plan(swm_clip *c, swm_backend *b, swm_stage_plan *plan)
{
    const swm_job *job = c->job;
    swm_work start = b->work;
    if (job->refiner.text != NULL) {
        if (encode(c, b) != 0) return -1;
    } else {
        const swm_refiner_encoder encoder = encoder_of(job);
        swm_refiner_prompt_forward(b, &encoder, NULL, &job->refiner.prompt_tokens, NULL, 1);
    }
    plan->pass = swm_work_since(b, start);
    return 0;
}

static bool wanted(const swm_job *job)
{
    return job->refiner.wanted && (job->refiner.text != NULL || job->refiner.prompt_tokens > 0);
}

static size_t weights(const swm_job *job)
{
    const swm_refiner_parts *parts = &job->checkpoint->refiner;
    return swm_gemma_size(&parts->gemma).bytes + swm_connectors_size(parts->connectors).bytes;
}

const swm_stage_entry swm_refiner_prompt_stage = {
    .name = "refiner_prompt", .wanted = wanted, .weights = weights, .plan = plan, .run = run};
