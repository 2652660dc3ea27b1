/* Fuzz target: config.yaml. */
#include "io/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    swm_pipeline_config config;
    swm_pipeline_config_parse(&config, "fuzz", data, size, NULL);
    swm_pipeline_config_free(&config);
    return 0;
}
