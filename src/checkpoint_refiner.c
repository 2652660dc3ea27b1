/* The parts of the second stage: opened, and held against each other and the model that they are to refine. */
#include "checkpoint.h"
#include "core/file.h"
#include "io/lora.h"

#include <stdlib.h>

/* ---- the transformer ---------------------------------------------------------------------------------------------- */

static char *part_of(const char *directory, const char *part, swm_error *error)
{
    char *path = swm_path_join(error, directory, part);
    if (path == NULL || swm_directory_exists(path)) return path;
    swm_fail(error, "%s: holds no %s/; a refiner is transformer/, connectors/ and text_encoder/", directory, part);
    free(path);
    return NULL;
}

static char *config_of(const char *directory, swm_error *error)
{
    char *path = swm_path_join(error, directory, "config.json");
    if (path == NULL || swm_file_exists(path)) return path;
    swm_fail(error, "%s: holds no config.json; copy it there from where the weights come from", directory);
    free(path);
    return NULL;
}

static int merge_lora(swm_weights *weights, const swm_refiner_config *config, const swm_checkpoint_options *o,
                      swm_error *error)
{
    if (o->refiner_lora == NULL) return 0;
    const double strength = o->refiner_lora_strength != 0 ? o->refiner_lora_strength : 1;
    swm_weights *only = swm_weights_declared(error);
    int result = only != NULL ? swm_refiner_declare(only, config, SWM_BF16, error) : -1;
    if (result == 0) result = swm_lora_merge(weights, o->refiner_lora, strength, only, o->threads, NULL, error);
    swm_weights_close(only);
    return result;
}

static int open_transformer(swm_refiner_parts *r, const char *directory, const swm_checkpoint_options *o,
                            swm_error *error)
{
    swm_refiner_config config;
    char *place = part_of(directory, "transformer", error), *path = place != NULL ? config_of(place, error) : NULL;
    int result = path != NULL ? swm_refiner_config_read(&config, path, error) : -1;
    if (result == 0) r->transformer_weights = swm_weights_open(place, error);
    free(path);
    free(place);
    if (r->transformer_weights == NULL || merge_lora(r->transformer_weights, &config, o, error) != 0) return -1;
    r->transformer = swm_refiner_bind(r->transformer_weights, &config, error);
    return r->transformer != NULL ? 0 : -1;
}

/* ---- the text path ------------------------------------------------------------------------------------------------ */

static int open_connectors(swm_refiner_parts *r, const char *directory, swm_error *error)
{
    swm_connectors_config config;
    char *place = part_of(directory, "connectors", error), *path = place != NULL ? config_of(place, error) : NULL;
    int result = path != NULL ? swm_connectors_config_read(&config, path, error) : -1;
    if (result == 0) r->connector_weights = swm_weights_open(place, error);
    free(path);
    free(place);
    if (r->connector_weights == NULL) return -1;
    r->connectors = swm_connectors_bind(r->connector_weights, &config, error);
    return r->connectors != NULL ? 0 : -1;
}

/* LTX-2 itself keeps the tokenizer beside its text encoder, the releases inside. */
static char *tokenizer_place(const swm_layout *layout, swm_error *error)
{
    static const char *const names[] = {"tokenizer.json", "tokenizer.model"};
    const char *encoder = layout->refiner_text_encoder;
    for (int i = 0; i < 2; i++) {
        char *file = swm_path_join(error, encoder, names[i]);
        const bool inside = file != NULL && swm_file_exists(file);
        free(file);
        if (inside) return swm_copy_string(error, encoder);
    }
    char *beside = swm_path_join(error, layout->refiner, "tokenizer");
    if (beside != NULL && swm_directory_exists(beside)) return beside;
    free(beside);
    swm_fail(error, "%s: holds neither tokenizer.json nor tokenizer.model; copy one of them there", encoder);
    return NULL;
}

static int open_text_encoder(swm_refiner_parts *r, const swm_layout *layout, swm_error *error)
{
    char *words = tokenizer_place(layout, error);
    int result = words != NULL ? swm_text_encoder_open(layout->refiner_text_encoder, words, false, &r->gemma,
                                                       &r->text_weights, &r->tokenizer, error)
                               : -1;
    free(words);
    return result;
}

/* ---- the whole ---------------------------------------------------------------------------------------------------- */

static int check_agreement(const swm_refiner_parts *r, const swm_layout *layout, int64_t latent_channels,
                           swm_error *error)
{
    const swm_refiner_config *t = &r->transformer->config;
    const char *where = layout->refiner, *encoder = layout->refiner_text_encoder;
    if (latent_channels != 0 && t->channels != latent_channels)
        return swm_fail(error, "%s: the transformer refines latents of %lld channels, the model makes %lld", where,
                        (long long)t->channels, (long long)latent_channels);
    if (r->connectors == NULL) return 0;
    const swm_connectors_config *c = &r->connectors->config;
    const swm_gemma_config *g = &r->gemma.config;
    if (c->caption_channels != t->caption_channels)
        return swm_fail(error, "%s: the connectors make states of width %lld, the transformer takes %lld", where,
                        (long long)c->caption_channels, (long long)t->caption_channels);
    if (g->generation != 3)
        return swm_fail(error, "%s: is Gemma %d; the refiner's text encoder is a Gemma 3", encoder, g->generation);
    if (g->hidden_size != c->caption_channels)
        return swm_fail(error, "%s: has states of width %lld, the connectors in %s take %lld", encoder,
                        (long long)g->hidden_size, where, (long long)c->caption_channels);
    if (g->layers + 1 != c->layers)
        return swm_fail(error, "%s: has %lld layers, hence %lld states; the connectors in %s take %lld", encoder,
                        (long long)g->layers, (long long)g->layers + 1, where, (long long)c->layers);
    return 0;
}

static int open_parts(swm_refiner_parts *r, const swm_layout *layout, const swm_checkpoint_options *o,
                      int64_t latent_channels, swm_error *error)
{
    if (open_transformer(r, layout->refiner, o, error) != 0) return -1;
    if (layout->refiner_text_encoder != NULL &&
        (open_connectors(r, layout->refiner, error) != 0 || open_text_encoder(r, layout, error) != 0))
        return -1;
    return check_agreement(r, layout, latent_channels, error);
}

int swm_refiner_open(swm_refiner_parts *r, const swm_layout *layout, const swm_checkpoint_options *o,
                     int64_t latent_channels, swm_error *error)
{
    swm_error why = {0};
    *r = (swm_refiner_parts){0};
    if (open_parts(r, layout, o, latent_channels, &why) == 0) return 0;
    return swm_fail(error, "%s; or do without the refiner: --no-refiner", why.text);
}

void swm_refiner_close(swm_refiner_parts *r)
{
    swm_tokenizer_close(r->tokenizer);
    swm_gemma_free(&r->gemma);
    free(r->connectors);
    free(r->transformer);
    swm_weights_close(r->text_weights);
    swm_weights_close(r->connector_weights);
    swm_weights_close(r->transformer_weights);
    *r = (swm_refiner_parts){0};
}

int swm_refiner_can_encode(const swm_checkpoint *c, swm_error *error)
{
    if (c->refiner.tokenizer != NULL) return 0;
    return swm_fail(error,
                    "%s: holds no text_encoder/ (Gemma 3), nor is there a gemma3_12b/ beside it; copy it there, pass "
                    "--refiner-prompt-embeddings FILE, or do without the refiner: --no-refiner",
                    c->layout.refiner);
}

/* ---- sizes -------------------------------------------------------------------------------------------------------- */

/* `tensors` is a struct of nothing but tensors. */
static void add(swm_part_size *size, const void *tensors, size_t bytes)
{
    const swm_tensor *t = tensors;
    for (size_t i = 0; i < bytes / sizeof *t; i++) {
        size->parameters += swm_count(t[i]);
        size->bytes += swm_present(t[i]) ? swm_bytes(t[i]) : 0;
    }
}

swm_part_size swm_transformer_size(const swm_refiner *refiner)
{
    swm_part_size size = {0};
    add(&size, &refiner->outer, sizeof refiner->outer);
    for (int64_t i = 0; i < refiner->config.depth; i++) add(&size, &refiner->blocks[i], sizeof refiner->blocks[i]);
    return size;
}

swm_part_size swm_connectors_size(const swm_connectors *connectors)
{
    swm_part_size size = {0};
    add(&size, &connectors->outer, sizeof connectors->outer);
    for (int64_t i = 0; i < connectors->config.depth; i++)
        add(&size, &connectors->blocks[i], sizeof connectors->blocks[i]);
    return size;
}

swm_part_size swm_gemma_size(const swm_gemma *gemma)
{
    swm_part_size size = {0};
    add(&size, &gemma->embedding, sizeof gemma->embedding);
    add(&size, &gemma->norm, sizeof gemma->norm);
    for (int64_t i = 0; i < gemma->config.layers; i++) add(&size, &gemma->layers[i], sizeof gemma->layers[i]);
    return size;
}
