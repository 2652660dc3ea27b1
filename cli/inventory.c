/* Implements inventory.h. */
#include "inventory.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/file.h"

static const char bidirectional[] = "Efficient-Large-Model/SANA-WM_bidirectional";
static const char chunk_causal[] = "Efficient-Large-Model/SANA-WM_chunk_causal";
static const char gemma[] = "Efficient-Large-Model/gemma-2-2b-it";
enum { GEMMA_2_2B_WIDTH = 2304 };

static bool ends_in(const char *text, const char *ending)
{
    const size_t length = strlen(text), size = strlen(ending);
    return length >= size && strcmp(text + length - size, ending) == 0;
}

/* Buffers are made from the configuration, carried along, or statistics: no training step has moved them. */
static bool is_buffer(const char *name)
{
    return ends_in(name, "y_embedder.y_embedding") || ends_in(name, ".recall_gate") || ends_in(name, "pos_embed") ||
           strcmp(name, "latents_mean") == 0 || strcmp(name, "latents_std") == 0;
}

int64_t cli_parameters(const swm_weights *weights)
{
    int64_t count = 0;
    for (size_t i = 0; i < swm_weights_count(weights); i++) {
        const char *name;
        const swm_tensor *t = swm_weights_at(weights, i, &name);
        if (!is_buffer(name)) count += swm_count(*t);
    }
    return count;
}

/* ---- weights ----------------------------------------------------------------------------------------------------- */

/* The files behind `path`: itself, or for an index the shards beside it. */
static void count_files(const char *path, int *files, double *bytes)
{
    struct stat status;
    *files = 0;
    *bytes = 0;
    if (!ends_in(path, ".index.json")) {
        *files = 1;
        if (stat(path, &status) == 0) *bytes = (double)status.st_size;
        return;
    }
    const char *slash = strrchr(path, '/');
    char *directory = swm_format(NULL, "%.*s", slash != NULL ? (int)(slash - path) : 1, slash != NULL ? path : ".");
    DIR *listing = directory != NULL ? opendir(directory) : NULL;
    for (struct dirent *entry; listing != NULL && (entry = readdir(listing)) != NULL;) {
        char *file = ends_in(entry->d_name, ".safetensors") ? swm_path_join(NULL, directory, entry->d_name) : NULL;
        if (file != NULL && stat(file, &status) == 0 && S_ISREG(status.st_mode)) {
            ++*files;
            *bytes += (double)status.st_size;
        }
        free(file);
    }
    if (listing != NULL) closedir(listing);
    free(directory);
}

/* "BF16" or "BF16 and F32", in the order of the types. */
static void name_types(const swm_weights *weights, char *text, size_t size)
{
    bool seen[SWM_DTYPE_COUNT] = {false};
    for (size_t i = 0; i < swm_weights_count(weights); i++) seen[swm_weights_at(weights, i, NULL)->dtype] = true;
    text[0] = '\0';
    for (int type = 0; type < SWM_DTYPE_COUNT; type++) {
        const size_t length = strlen(text);
        if (seen[type])
            snprintf(text + length, size - length, "%s%s", length > 0 ? " and " : "", swm_dtype_name((swm_dtype)type));
    }
}

/* What can be said of any weights: the part's summary and the members of its JSON. */
static int describe_weights(cli_part *part, const swm_weights *weights, bool fingerprint)
{
    int files;
    double bytes;
    char types[64], hex[65] = "";
    const char *path = swm_weights_path(weights);
    const int64_t parameters = cli_parameters(weights);
    count_files(path, &files, &bytes);
    name_types(weights, types, sizeof types);
    if (fingerprint && swm_weights_fingerprint(weights, hex, &part->problem) != 0) return -1;
    part->summary = swm_format(&part->problem, "%s parameters, %s, %s in %d file%s%s%s",
                               cli_grouped((double)parameters).text, types, cli_bytes(bytes).text, files,
                               files == 1 ? "" : "s", fingerprint ? ", fingerprint " : "", hex);
    cJSON_AddStringToObject(part->json, "path", path);
    cJSON_AddNumberToObject(part->json, "parameters", (double)parameters);
    cJSON_AddNumberToObject(part->json, "tensors", (double)swm_weights_count(weights));
    cJSON_AddStringToObject(part->json, "types", types);
    cJSON_AddNumberToObject(part->json, "files", files);
    cJSON_AddNumberToObject(part->json, "bytes", bytes);
    if (fingerprint) cJSON_AddStringToObject(part->json, "fingerprint", hex);
    return part->summary != NULL ? 0 : -1;
}

/* Size `dimension` of a tensor, 0 when there is none. */
static int64_t size_of(const swm_weights *weights, const char *name, int dimension)
{
    const swm_tensor *t = swm_weights_find(weights, name);
    return t != NULL && t->rank > dimension ? t->shape[dimension] : 0;
}

/* ---- the parts --------------------------------------------------------------------------------------------------- */

static int take_config(cli_part *part, const swm_layout *layout, swm_pipeline_config *config)
{
    if (swm_pipeline_config_read(config, layout->config, &part->problem) != 0) return -1;
    int width, height;
    swm_checkpoint_video_size(config, &width, &height);
    const bool chunked = config->chunk_causal || config->chunk_size > 0 || config->chunk_index_count > 0;
    const char *kind = chunked ? "chunk-causal" : "bidirectional";
    const double shift = config->inference_flow_shift > 0 ? config->inference_flow_shift : config->flow_shift;
    part->summary = swm_format(&part->problem, "%.100s, %s, %dx%d, flow shift %g, made for %s", config->model, kind,
                               width, height, shift, swm_dtype_name(config->mixed_precision));
    cJSON_AddStringToObject(part->json, "path", layout->config);
    cJSON_AddStringToObject(part->json, "model", config->model);
    cJSON_AddStringToObject(part->json, "attention", kind);
    cJSON_AddNumberToObject(part->json, "width", width);
    cJSON_AddNumberToObject(part->json, "height", height);
    cJSON_AddNumberToObject(part->json, "flow_shift", shift);
    cJSON_AddStringToObject(part->json, "precision", swm_dtype_name(config->mixed_precision));
    return part->summary != NULL ? 0 : -1;
}

/* The width of its captions goes to *caption_width. */
static int take_dit(cli_part *part, const swm_layout *layout, bool fingerprint, int64_t *caption_width)
{
    swm_weights *weights = swm_weights_open(layout->dit, &part->problem);
    if (weights == NULL) return -1;
    int64_t depth = 0;
    char name[64];
    do snprintf(name, sizeof name, "blocks.%lld.scale_shift_table", (long long)depth);
    while (swm_weights_find(weights, name) != NULL && ++depth < SWM_DIT_MAX_DEPTH);
    const int64_t width = size_of(weights, "x_embedder.proj.bias", 0),
                  heads = size_of(weights, "blocks.0.attn.A_log", 0);
    const int64_t latent = size_of(weights, "final_layer.linear.bias", 0);
    const int64_t ffn = size_of(weights, "blocks.0.mlp.point_conv.conv.weight", 1);
    *caption_width = size_of(weights, "y_embedder.y_proj.fc1.weight", 1);
    int result = describe_weights(part, weights, fingerprint);
    if (result == 0 && (depth == 0 || width == 0 || latent == 0 || *caption_width == 0))
        result =
            swm_fail(&part->problem, "%s: holds tensors, but not those of a SANA-WM DiT", swm_weights_path(weights));
    swm_weights_close(weights);
    if (result != 0) return -1;
    part->detail = swm_format(&part->problem,
                              "%lld blocks of width %lld, %lld heads, FFN %lld; %lld latent channels, captions "
                              "of width %lld",
                              (long long)depth, (long long)width, (long long)heads, (long long)ffn, (long long)latent,
                              (long long)*caption_width);
    cJSON_AddNumberToObject(part->json, "depth", (double)depth);
    cJSON_AddNumberToObject(part->json, "width", (double)width);
    cJSON_AddNumberToObject(part->json, "heads", (double)heads);
    cJSON_AddNumberToObject(part->json, "ffn", (double)ffn);
    cJSON_AddNumberToObject(part->json, "latent_channels", (double)latent);
    cJSON_AddNumberToObject(part->json, "caption_width", (double)*caption_width);
    return part->detail != NULL ? 0 : -1;
}

static int take_vae(cli_part *part, const swm_layout *layout, bool fingerprint)
{
    swm_vae_config config;
    char *path = swm_path_join(&part->problem, layout->vae, "config.json");
    int result = path != NULL ? swm_vae_config_read(&config, path, &part->problem) : -1;
    free(path);
    swm_weights *weights = result == 0 ? swm_weights_open(layout->vae, &part->problem) : NULL;
    if (weights == NULL) return -1;
    result = describe_weights(part, weights, fingerprint);
    swm_weights_close(weights);
    if (result != 0) return -1;
    part->detail =
        swm_format(&part->problem, "%lld latent channels, %s encoder, %s decoder", (long long)config.latent_channels,
                   config.encoder_causal ? "causal" : "non-causal", config.decoder_causal ? "causal" : "non-causal");
    cJSON_AddNumberToObject(part->json, "latent_channels", (double)config.latent_channels);
    cJSON_AddBoolToObject(part->json, "encoder_causal", config.encoder_causal);
    cJSON_AddBoolToObject(part->json, "decoder_causal", config.decoder_causal);
    return part->detail != NULL ? 0 : -1;
}

static const char *tokenizer_file(const char *directory)
{
    static const char *const names[] = {"tokenizer.json", "tokenizer.model"};
    for (int i = 0; i < 2; i++) {
        char *path = swm_path_join(NULL, directory, names[i]);
        const bool found = path != NULL && swm_file_exists(path);
        free(path);
        if (found) return names[i];
    }
    return NULL;
}

static int take_text_encoder(cli_part *part, const swm_layout *layout, bool fingerprint)
{
    swm_gemma_config config;
    const char *directory = layout->text_encoder, *tokenizer = tokenizer_file(directory);
    char *path = swm_path_join(&part->problem, directory, "config.json");
    int result = path != NULL ? swm_gemma_config_read(&config, path, &part->problem) : -1;
    free(path);
    if (result == 0 && tokenizer == NULL)
        result = swm_fail(&part->problem,
                          "%s: holds neither tokenizer.json nor tokenizer.model; copy one of them there", directory);
    swm_weights *weights = result == 0 ? swm_weights_open(directory, &part->problem) : NULL;
    if (weights == NULL) return -1;
    result = describe_weights(part, weights, fingerprint);
    swm_weights_close(weights);
    if (result != 0) return -1;
    part->detail =
        swm_format(&part->problem, "Gemma %d, %lld layers of width %lld, vocabulary %lld, %s", config.generation,
                   (long long)config.layers, (long long)config.hidden_size, (long long)config.vocab_size, tokenizer);
    cJSON_AddNumberToObject(part->json, "generation", config.generation);
    cJSON_AddNumberToObject(part->json, "layers", (double)config.layers);
    cJSON_AddNumberToObject(part->json, "width", (double)config.hidden_size);
    cJSON_AddNumberToObject(part->json, "vocabulary", (double)config.vocab_size);
    cJSON_AddStringToObject(part->json, "tokenizer", tokenizer);
    return part->detail != NULL ? 0 : -1;
}

/* A network of the refiner: what is read of its file. Returns "A of B parameters" in fresh memory. */
static char *take_network(cli_part *part, const char *name, const swm_weights *weights, swm_part_size size,
                          bool fingerprint)
{
    cJSON *json = cJSON_AddObjectToObject(part->json, name);
    const double all = (double)swm_weights_parameters(weights), read = (double)size.parameters;
    char hex[65];
    cJSON_AddStringToObject(json, "path", swm_weights_path(weights));
    cJSON_AddNumberToObject(json, "parameters", all);
    cJSON_AddNumberToObject(json, "parameters_read", read);
    cJSON_AddNumberToObject(json, "bytes_read", (double)size.bytes);
    if (fingerprint && swm_weights_fingerprint(weights, hex, &part->problem) != 0) return NULL;
    if (fingerprint) cJSON_AddStringToObject(json, "fingerprint", hex);
    const cli_text part_read = cli_grouped(read), whole = cli_grouped(all);
    return swm_format(&part->problem, "%s%s%s parameters%s", part_read.text, read < all ? " of " : "",
                      read < all ? whole.text : "", read < all ? " read" : "");
}

static int describe_refiner(cli_part *part, const swm_layout *layout, const swm_refiner_parts *r, bool fingerprint)
{
    const swm_refiner_config *t = &r->transformer->config;
    const char *mode = layout->refiner_streaming ? "blocks" : "one-shot";
    cJSON_AddStringToObject(part->json, "path", layout->refiner);
    cJSON_AddStringToObject(part->json, "mode", mode);
    cJSON_AddNumberToObject(part->json, "depth", (double)t->depth);
    cJSON_AddNumberToObject(part->json, "width", (double)(t->heads * t->head));
    char *transformer =
        take_network(part, "transformer", r->transformer_weights, swm_transformer_size(r->transformer), fingerprint);
    part->summary = swm_format(&part->problem, "%s, %lld blocks of width %lld, %s", transformer, (long long)t->depth,
                               (long long)(t->heads * t->head), mode);
    free(transformer);
    if (r->tokenizer == NULL) {
        part->detail = swm_format(&part->problem, "no text encoder: prompts from --refiner-prompt-embeddings alone");
        return swm_failed(&part->problem) ? -1 : 0;
    }
    char *connectors =
        take_network(part, "connectors", r->connector_weights, swm_connectors_size(r->connectors), fingerprint);
    char *encoder = take_network(part, "text_encoder", r->text_weights, swm_gemma_size(&r->gemma), fingerprint);
    part->detail = swm_format(&part->problem, "connectors %s; Gemma 3 %s, %lld layers of width %lld", connectors,
                              encoder, (long long)r->gemma.config.layers, (long long)r->gemma.config.hidden_size);
    free(encoder);
    free(connectors);
    return swm_failed(&part->problem) ? -1 : 0;
}

/* latent_channels: what the DiT makes. */
static int take_refiner(cli_part *part, const swm_layout *layout, bool fingerprint, int64_t latent_channels)
{
    static const swm_checkpoint_options defaults;
    swm_refiner_parts parts;
    int result = swm_refiner_open(&parts, layout, &defaults, latent_channels, &part->problem);
    if (result == 0) result = describe_refiner(part, layout, &parts, fingerprint);
    swm_refiner_close(&parts);
    return result;
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

static void settle(cli_part *part, const char *path, int result)
{
    part->state = path == NULL ? CLI_PART_MISSING : result == 0 ? CLI_PART_PRESENT : CLI_PART_BROKEN;
}

void cli_inventory_take(cli_part parts[CLI_PART_COUNT], const swm_layout *layout, bool fingerprints)
{
    static const char *const names[] = {"config", "dit", "vae", "text_encoder", "refiner"};
    static const char *const places[] = {"config.yaml", "dit/", "vae/", "text_encoder/", "refiner/"};
    for (int i = 0; i < CLI_PART_COUNT; i++)
        parts[i] =
            (cli_part){.name = names[i], .place = places[i], .repository = bidirectional, .json = cJSON_CreateObject()};
    swm_pipeline_config config = {0};
    int64_t caption_width = 0;
    cli_part *part = &parts[CLI_PART_CONFIG];
    settle(part, layout->config, layout->config != NULL ? take_config(part, layout, &config) : -1);
    part = &parts[CLI_PART_DIT];
    if (config.chunk_causal) part->repository = chunk_causal;
    settle(part, layout->dit, layout->dit != NULL ? take_dit(part, layout, fingerprints, &caption_width) : -1);
    part = &parts[CLI_PART_VAE];
    settle(part, layout->vae, layout->vae != NULL ? take_vae(part, layout, fingerprints) : -1);
    part = &parts[CLI_PART_TEXT_ENCODER];
    part->repository = gemma;
    settle(part, layout->text_encoder,
           layout->text_encoder != NULL ? take_text_encoder(part, layout, fingerprints) : -1);
    /* Captions of another width than Gemma's come from a model that was trained on its null caption. */
    if (part->state == CLI_PART_MISSING && caption_width != 0 && caption_width != GEMMA_2_2B_WIDTH) {
        part->state = CLI_PART_OPTIONAL;
        part->summary = swm_format(&part->problem, "none; the model runs on its null caption");
    }
    part = &parts[CLI_PART_REFINER];
    settle(part, layout->refiner,
           layout->refiner != NULL ? take_refiner(part, layout, fingerprints, config.vae_latent_dim) : -1);
    if (part->state == CLI_PART_MISSING) {
        part->state = CLI_PART_OPTIONAL;
        part->summary = swm_format(&part->problem, "none");
    }
    swm_pipeline_config_free(&config);
}

void cli_inventory_free(cli_part parts[CLI_PART_COUNT])
{
    for (int i = 0; i < CLI_PART_COUNT; i++) {
        free(parts[i].summary);
        free(parts[i].detail);
        cJSON_Delete(parts[i].json);
    }
}
