/* Implements text/refiner_prompt.h. */
#include "text/refiner_prompt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/safetensors.h"
#include "text/prompt.h"
#include "text/prompt_internal.h"

void swm_refiner_prompt_free(swm_refiner_prompt *prompt)
{
    free(prompt->text);
    free(prompt->states);
    *prompt = (swm_refiner_prompt){0};
}

/* Takes `text` over, also on failure; it may be NULL after one. All states zero. On failure *prompt is {0}. */
static int make(swm_refiner_prompt *prompt, char *text, int64_t slots, int64_t width, swm_error *error)
{
    *prompt = (swm_refiner_prompt){.text = text, .slots = slots, .width = width};
    if (text != NULL) prompt->states = swm_allocate(error, (size_t)(slots * width), sizeof *prompt->states);
    if (prompt->states != NULL) return 0;
    swm_refiner_prompt_free(prompt);
    return -1;
}

/* ---- encoding ---------------------------------------------------------------------------------------------------- */

int swm_refiner_encoder_check(const swm_gemma *gemma, const swm_connectors *connectors, swm_error *error)
{
    const swm_gemma_config *g = &gemma->config;
    const swm_connectors_config *c = &connectors->config;
    if (g->generation != 3)
        return swm_fail(error,
                        "text encoder: is a Gemma %d, but the refiner reads prompts through a Gemma 3; give a Gemma 3 "
                        "directory",
                        g->generation);
    if (g->hidden_size != c->caption_channels || g->layers + 1 != c->layers)
        return swm_fail(error,
                        "connectors: take %lld states of %lld channels, the text encoder makes %lld of %lld; they do "
                        "not belong together",
                        (long long)c->layers, (long long)c->caption_channels, (long long)g->layers + 1,
                        (long long)g->hidden_size);
    return 0;
}

int swm_refiner_encoder_fingerprint(const swm_gemma *gemma, const swm_weights *gemma_weights,
                                    const swm_weights *connectors_weights, char text[SWM_REFINER_FINGERPRINT],
                                    swm_error *error)
{
    char encoder[SWM_GEMMA_FINGERPRINT], connectors[65];
    if (swm_gemma_fingerprint(gemma, gemma_weights, encoder, error) != 0 ||
        swm_weights_fingerprint(connectors_weights, connectors, error) != 0)
        return -1;
    snprintf(text, SWM_REFINER_FINGERPRINT, "%s+%s", encoder, connectors);
    return 0;
}

int32_t *swm_refiner_prompt_tokens(const swm_refiner_encoder *encoder, const char *text, int64_t *count,
                                   int64_t *dropped, swm_error *error)
{
    int64_t all = 0;
    char *clean = swm_prompt_clean("prompt", text, strlen(text), error);
    int32_t *ids = clean != NULL ? swm_prompt_ids(encoder->tokenizer, encoder->gemma, clean, &all, error) : NULL;
    free(clean);
    *count = swm_min(all, encoder->slots);
    *dropped = all - *count;
    return ids;
}

void swm_refiner_prompt_forward(swm_backend *b, const swm_refiner_encoder *encoder, const int32_t *const *ids,
                                const int64_t *tokens, float *const *states, int64_t count)
{
    const swm_connectors_config *c = &encoder->connectors->config;
    int64_t sum = 0;
    for (int64_t i = 0; i < count; i++) sum += tokens[i];
    swm_mark start = swm_mark_of(b);
    /* The states of all texts, a piece (L,n,E) each. */
    swm_tensor all = SWM_TAKE(b, b->compute, sum, c->layers * c->caption_channels);
    swm_mark mark = swm_mark_of(b);
    for (int pass = 0; pass < 2; pass++)
        for (int64_t i = 0, first = 0; i < count; first += tokens[i++]) {
            swm_tensor hidden =
                SWM_RESHAPE(swm_rows(all, first, tokens[i]), c->layers, tokens[i], c->caption_channels); /* (L,n,E) */
            if (pass == 0)
                swm_gemma_forward(b, encoder->gemma, ids != NULL ? ids[i] : NULL, tokens[i], encoder->slots - tokens[i],
                                  &hidden);
            else
                swm_download(b, states != NULL ? states[i] : NULL,
                             swm_connectors_forward(b, encoder->connectors, hidden, encoder->slots));
            swm_release(b, mark);
        }
    swm_release(b, start);
}

/* Everything that encode holds of one prompt besides the result. */
typedef struct workspace {
    int32_t **ids;
    int64_t *tokens;
    float **states;
} workspace;

static int prepare(swm_refiner_prompt *prompts, workspace *w, const swm_refiner_encoder *encoder,
                   const char *const *texts, int64_t count, swm_error *error)
{
    w->ids = swm_allocate(error, (size_t)count, sizeof *w->ids);
    w->tokens = swm_allocate(error, (size_t)count, sizeof *w->tokens);
    w->states = swm_allocate(error, (size_t)count, sizeof *w->states);
    if (w->ids == NULL || w->tokens == NULL || w->states == NULL) return -1;
    for (int64_t i = 0; i < count; i++) {
        char *text = swm_prompt_clean("prompt", texts[i], strlen(texts[i]), error);
        if (make(&prompts[i], text, encoder->slots, encoder->gemma->config.hidden_size, error) != 0) return -1;
        w->ids[i] = swm_refiner_prompt_tokens(encoder, texts[i], &w->tokens[i], &prompts[i].dropped, error);
        if (w->ids[i] == NULL) return -1;
        w->states[i] = prompts[i].states;
    }
    return 0;
}

int swm_refiner_prompt_encode(swm_refiner_prompt *prompts, const swm_refiner_encoder *encoder, swm_backend *b,
                              const char *const *texts, int64_t count, swm_error *error)
{
    SWM_REQUIRE(count > 0 && encoder->slots > 0 && encoder->slots <= SWM_REFINER_PROMPT_MOST, "%lld texts, %lld slots",
                (long long)count, (long long)encoder->slots);
    memset(prompts, 0, (size_t)count * sizeof *prompts);
    if (swm_refiner_encoder_check(encoder->gemma, encoder->connectors, error) != 0) return -1;
    workspace w = {0};
    int result = prepare(prompts, &w, encoder, texts, count, error);
    if (result == 0) {
        swm_refiner_prompt_forward(b, encoder, (const int32_t *const *)w.ids, w.tokens, w.states, count);
        result = swm_backend_check(b, error);
    }
    for (int64_t i = 0; i < count; i++) {
        if (w.ids != NULL) free(w.ids[i]);
        if (result != 0) swm_refiner_prompt_free(&prompts[i]);
    }
    free(w.ids);
    free(w.tokens);
    free(w.states);
    return result;
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

#define FORMAT  "sana-wm refiner prompt states"
#define VERSION "1"

static const char tensor_name[] = "states";

int swm_refiner_prompt_save(const char *path, const swm_refiner_prompt *prompt, const char *fingerprint,
                            swm_error *error)
{
    const char *const names[] = {tensor_name};
    const swm_tensor states = SWM_TENSOR(SWM_F32, prompt->states, prompt->slots, prompt->width);
    const char *const metadata[] = {
        "format", FORMAT, "version", VERSION, "prompt", prompt->text, "encoder", fingerprint, NULL,
    };
    return swm_safetensors_save(path, 1, names, &states, metadata, error);
}

static int read_file(swm_refiner_prompt *prompt, const swm_safetensors *file, const char *name, int64_t slots,
                     int64_t width, swm_error *error)
{
    if (swm_prompt_check_file(file, name, FORMAT, VERSION, NULL, error) != 0) return -1;
    const char *text = swm_prompt_metadata(file, name, "prompt", error);
    const swm_tensor *t = text != NULL ? swm_prompt_tensor(file, name, tensor_name, SWM_F32, 2, error) : NULL;
    if (t == NULL || swm_prompt_check_text(name, text, strlen(text), error) != 0) return -1;
    int64_t want_slots = slots != 0 ? slots : t->shape[0], want_width = width != 0 ? width : t->shape[1];
    if (t->shape[0] != want_slots || t->shape[1] != want_width || swm_count(*t) == 0)
        return swm_fail(error, "%s: %s is %s, expected (%lld,%lld); make it anew for this model", name, tensor_name,
                        swm_describe(*t).text, (long long)swm_max(want_slots, 1), (long long)swm_max(want_width, 1));
    if (make(prompt, swm_copy_string(error, text), want_slots, want_width, error) != 0) return -1;
    memcpy(prompt->states, t->data, swm_bytes(*t));
    if (swm_prompt_check_values(name, tensor_name, prompt->states, swm_count(*t), error) == 0) return 0;
    swm_refiner_prompt_free(prompt);
    return -1;
}

/* Takes the file over. */
static int load(swm_refiner_prompt *prompt, swm_safetensors *file, const char *name, int64_t slots, int64_t width,
                swm_error *error)
{
    *prompt = (swm_refiner_prompt){0};
    int result = file != NULL ? read_file(prompt, file, name, slots, width, error) : -1;
    swm_safetensors_close(file);
    return result;
}

int swm_refiner_prompt_load(swm_refiner_prompt *prompt, const char *path, int64_t slots, int64_t width,
                            swm_error *error)
{
    return load(prompt, swm_safetensors_open(path, error), path, slots, width, error);
}

int swm_refiner_prompt_load_memory(swm_refiner_prompt *prompt, const void *data, size_t size, const char *name,
                                   int64_t slots, int64_t width, swm_error *error)
{
    return load(prompt, swm_safetensors_open_memory(data, size, name, error), name, slots, width, error);
}
