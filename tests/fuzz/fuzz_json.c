/* Fuzz target: strict JSON, and the model configurations that are read from it. */
#include "io/config.h"
#include "io/json.h"
#include "model/refiner.h"
#include "text/connectors.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cJSON *tree = swm_json_parse("fuzz", data, size, NULL);
    swm_vae_config vae;
    swm_gemma_config gemma;
    swm_vae_config_from_json(&vae, "fuzz", tree, NULL);
    swm_gemma_config_from_json(&gemma, "fuzz", tree, NULL);
    cJSON_Delete(tree);
    swm_refiner_config refiner;
    if (swm_refiner_config_parse(&refiner, "fuzz", data, size, NULL) == 0 && refiner.heads * refiner.head < 6) abort();
    swm_connectors_config connectors;
    if (swm_connectors_config_parse(&connectors, "fuzz", data, size, NULL) == 0 && connectors.layers < 1) abort();
    return 0;
}
