/* The stage that encodes the prompt. Without text to encode, the job has its states already. */
#include "pipeline/clip.h"

#include <stdio.h>

static int encode_prompt(swm_clip *c, swm_backend *b)
{
    swm_job *job = c->job;
    const swm_checkpoint *checkpoint = job->checkpoint;
    swm_prompt_encoder encoder = {
        .gemma = &checkpoint->gemma,
        .tokenizer = checkpoint->tokenizer,
        .instruction = checkpoint->config.chi_prompt,
        .instruction_count = checkpoint->config.chi_prompt_count,
        .tokens = checkpoint->config.model_max_length,
    };
    swm_prompt_free(&job->conditional);
    swm_prompt_free(&job->negative);
    return swm_prompt_encode(&job->conditional, &job->negative, &encoder, b, job->prompt, job->negative_prompt,
                             c->error);
}

static int save_prompt(swm_clip *c)
{
    swm_job *job = c->job;
    char fingerprint[SWM_GEMMA_FINGERPRINT];
    if (job->save_prompt_embeddings == NULL) return 0;
    if (swm_gemma_fingerprint(&job->checkpoint->gemma, job->checkpoint->text_weights, fingerprint, c->error) != 0)
        return -1;
    return swm_prompt_save(job->save_prompt_embeddings, &job->conditional, &job->negative, fingerprint, c->error);
}

static size_t weights(const swm_job *job) { return swm_stage_weights(job->checkpoint->text_weights, ""); }

static bool wanted(const swm_job *job)
{
    return swm_job_has_first_stage(job) && (job->encode_prompt || job->prompt_tokens > 0);
}

static int plan(swm_clip *c, swm_backend *b, swm_stage_plan *plan)
{
    swm_work start = b->work;
    if (c->job->encode_prompt) {
        if (encode_prompt(c, b) != 0) return -1;
    } else {
        swm_mark mark = swm_mark_of(b);
        swm_gemma_forward(b, &c->job->checkpoint->gemma, NULL, c->job->prompt_tokens, 0, NULL);
        swm_release(b, mark);
    }
    plan->pass = swm_work_since(b, start);
    return 0;
}

void swm_clip_tell_dropped(const swm_clip *c, const char *whose, int64_t dropped)
{
    char text[128];
    if (dropped == 0 || c->events->notice == NULL) return;
    snprintf(text, sizeof text, "the last %lld tokens of the prompt had no room in the %s and were left away",
             (long long)dropped, whose);
    c->events->notice(c->events->user, text);
}

static int run(swm_clip *c, swm_backend *b)
{
    if (encode_prompt(c, b) != 0) return -1;
    swm_clip_tell_dropped(c, "first stage", c->job->conditional.dropped);
    return save_prompt(c);
}

const swm_stage_entry swm_prompt_stage = {
    .name = "prompt", .wanted = wanted, .weights = weights, .plan = plan, .run = run};
