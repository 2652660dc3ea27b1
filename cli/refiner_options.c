/* Implements refiner_options.h. */
#include "refiner_options.h"

#include <string.h>

#include "core/file.h"

char *cli_refiner_model(swm_model_options *options, const cli_refiner_values *v, swm_error *error)
{
    options->no_refiner = v->off;
    options->refiner = v->directory;
    if (v->lora == NULL) return NULL;
    char *lora = swm_copy_string(error, v->lora);
    options->refiner_lora = lora;
    /* A colon may belong to the file's name. */
    char *colon = lora != NULL && !swm_file_exists(lora) ? strrchr(lora, ':') : NULL;
    if (colon == NULL || !cli_number(colon + 1, &options->refiner_lora_strength)) return lora;
    *colon = '\0';
    if (options->refiner_lora_strength == 0) options->refiner_lora = NULL; /* to the library 0 is the default, 1 */
    return lora;
}

void cli_refiner_request(swm_request *r, const cli_refiner_values *v)
{
    r->no_refiner = v->off;
    r->refiner_mode = v->mode == NULL                  ? SWM_REFINER_AUTO
                      : strcmp(v->mode, "blocks") == 0 ? SWM_REFINER_BLOCKS
                                                       : SWM_REFINER_ONE_SHOT;
    r->refiner_block = v->block;
    r->refiner_window = v->window;
    r->refiner_sink = v->sink;
    r->refiner_seed = v->seed;
    r->refiner_sigmas = v->sigmas;
    r->refiner_prompt_embeddings = v->prompt_embeddings;
    r->save_refiner_prompt_embeddings = v->save_prompt_embeddings;
}
