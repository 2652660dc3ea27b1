/* The options of the second stage, which several commands take, and what they mean to a model and a request. */
#ifndef CLI_REFINER_OPTIONS_H
#define CLI_REFINER_OPTIONS_H

#include "args.h"
#include "sanawm.h"

typedef struct cli_refiner_values {
    bool off;
    const char *directory, *lora, *mode, *sigmas, *prompt_embeddings, *save_prompt_embeddings;
    int64_t block, window, sink;
    uint64_t seed; /* 42 unless chosen: start with CLI_REFINER_DEFAULTS */
} cli_refiner_values;
/* clang-format off */
#define CLI_REFINER_DEFAULTS {.seed = 42}

/* Rows of the option table of a command whose struct of values has a cli_refiner_values `refiner`. The second names are
 * those of the reference's program. */
#define CLI_REFINER_AT(values, member) .offset = offsetof(values, refiner.member)
#define CLI_REFINER_OPTIONS(values)                                                                                    \
    {CLI_FLAG, "no-refiner", CLI_REFINER_AT(values, off),                                                              \
     .help = "Leave the second stage away, which otherwise refines the clip if the model has a refiner"},              \
    {CLI_STRING, "refiner", "refiner-root", CLI_REFINER_AT(values, directory), .value = "DIR",                         \
     .help = "transformer/, connectors/ and text_encoder/ elsewhere than in DIR/refiner"},                             \
    {CLI_STRING, "refiner-lora", CLI_REFINER_AT(values, lora), .value = "FILE[:STRENGTH]",                             \
     .help = "Adapter to merge into base weights of LTX-2"},                                                           \
    {CLI_WORD, "refiner-mode", CLI_REFINER_AT(values, mode), .value = "one-shot|blocks",                               \
     .help = "All frames at once, or some behind a window of those before: less memory and, for long clips, time "     \
             "[one-shot; blocks for the streaming release]"},                                                          \
    {CLI_INTEGER, "refiner-block", "refiner-block-size", CLI_REFINER_AT(values, block), .minimum = 1,                  \
     .maximum = 1024, .value = "N", .help = "Latent frames of a block; means blocks [3]"},                             \
    {CLI_INTEGER, "refiner-window", "refiner-kv-max-frames", CLI_REFINER_AT(values, window), .minimum = 1,             \
     .maximum = 1024, .value = "N",                                                                                    \
     .help = "Latent frames that a block sees before itself, the first of all included; means blocks [11]"},           \
    {CLI_INTEGER, "refiner-sink", "sink-size", CLI_REFINER_AT(values, sink), .minimum = 1, .maximum = 1024,            \
     .value = "N", .help = "Leading latent frames that stay as they are; only 1 is possible [1]"},                     \
    {CLI_SEED, "refiner-seed", CLI_REFINER_AT(values, seed), .value = "N", .help = "[42]"},                            \
    {CLI_STRING, "refiner-sigmas", CLI_REFINER_AT(values, sigmas), .value = "A,B,...",                                 \
     .help = "Noise levels, falling [0.909375,0.725,0.421875]"},                                                       \
    {CLI_STRING, "refiner-prompt-embeddings", CLI_REFINER_AT(values, prompt_embeddings), .value = "FILE",              \
     .help = "The refiner's encoded prompt of an earlier run; no Gemma-3 is needed then"},                             \
    {CLI_STRING, "save-refiner-prompt-embeddings", CLI_REFINER_AT(values, save_prompt_embeddings),                     \
     .value = "FILE", .help = "Keep the refiner's encoded prompt"}
/* clang-format on */

/* The adapter's path comes back in fresh memory, to be freed after the model is open; NULL without one or after a
 * failure. */
char *cli_refiner_model(swm_model_options *options, const cli_refiner_values *v, swm_error *error);
void cli_refiner_request(swm_request *request, const cli_refiner_values *v);

#endif
