/* Any bytes as an adapter, merged into two small weights. Adapters are opened by path, hence the files. */
#include "core/file.h"
#include "io/lora.h"
#include "io/safetensors.h"

#include <stdlib.h>
#include <unistd.h>

static const char *const names[] = {"proj_in.weight", "transformer_blocks.0.attn1.to_q.weight"};
enum { ROWS = 3, COLUMNS = 4 };

static void write_base(const char *path)
{
    float values[ROWS * COLUMNS] = {1, 2, 3};
    const swm_tensor tensors[] = {SWM_TENSOR(SWM_F32, values, ROWS, COLUMNS),
                                  SWM_TENSOR(SWM_F32, values, ROWS, COLUMNS)};
    SWM_REQUIRE(swm_safetensors_save(path, 2, names, tensors, NULL, NULL) == 0, "a base");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    swm_error error = {0};
    char *base = swm_format(NULL, "/tmp/sanawm-fuzz-%ld-base.safetensors", (long)getpid());
    char *adapter = swm_format(NULL, "/tmp/sanawm-fuzz-%ld-lora.safetensors", (long)getpid());
    SWM_REQUIRE(base != NULL && adapter != NULL, "memory for two names");
    write_base(base);
    SWM_REQUIRE(swm_file_write(adapter, data, size, NULL) == 0, "an adapter");
    swm_weights *weights = swm_weights_open(base, &error);
    SWM_REQUIRE(weights != NULL, "%s", error.text);
    swm_lora_summary summary = {0};
    int result = swm_lora_merge(weights, adapter, 0.5, NULL, 1, &summary, &error);
    SWM_REQUIRE((result != 0) == swm_failed(&error), "a result or a message");
    SWM_REQUIRE(result != 0 || (summary.merged >= 1 && summary.merged <= 2), "%zu merged weights", summary.merged);
    for (int i = 0; i < 2; i++) SWM_REQUIRE(swm_weights_find(weights, names[i]) != NULL, "both weights");
    swm_weights_close(weights);
    unlink(base);
    unlink(adapter);
    free(base);
    free(adapter);
    return 0;
}
