/* Prompts encoded ahead of the clips that they are for, many with one load of each encoder. */
#ifndef SWM_PROMPTS_H
#define SWM_PROMPTS_H

#include "checkpoint.h"
#include "text/prompt.h"
#include "text/refiner_prompt.h"

typedef struct swm_prompts {
    int64_t count;
    const char *const *texts;           /* cleaned (swm_prompt_clean) */
    const char *negative_text;          /* never NULL */
    swm_prompt *conditional, *negative; /* (count): the first stage's; NULL without a text encoder */
    swm_refiner_prompt *refined;        /* (count): the second stage's; NULL without a refiner that can encode */
} swm_prompts;

/* Fill in the lists, whose owner frees them and what is in them with swm_prompts_free, also after a failure. device,
 * vram_budget and threads as in swm_request. */
int swm_prompts_encode(swm_prompts *prompts, const swm_checkpoint *checkpoint, const char *device, uint64_t vram_budget,
                       int threads, swm_error *error);
void swm_prompts_free(swm_prompts *prompts);

#endif
