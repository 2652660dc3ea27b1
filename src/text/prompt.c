/* Implements text/prompt.h. */
#include "text/prompt.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "io/safetensors.h"
#include "text/prompt_internal.h"
#include "text/tokenizer_internal.h"

/* ---- memory ------------------------------------------------------------------------------------------------------ */

void swm_prompt_free(swm_prompt *prompt)
{
    free(prompt->text);
    free(prompt->states);
    free(prompt->mask);
    *prompt = (swm_prompt){0};
}

/* All states zero and masked. On failure *prompt is {0}. */
static int make(swm_prompt *prompt, const char *text, int64_t tokens, int64_t width, swm_error *error)
{
    *prompt = (swm_prompt){.tokens = tokens, .width = width};
    prompt->text = swm_copy_string(error, text);
    prompt->states = swm_allocate(error, (size_t)(tokens * width), sizeof *prompt->states);
    prompt->mask = swm_allocate(error, (size_t)tokens, 1);
    if (prompt->text != NULL && prompt->states != NULL && prompt->mask != NULL) return 0;
    swm_prompt_free(prompt);
    return -1;
}

/* ---- text -------------------------------------------------------------------------------------------------------- */

/* Characters that Python's str.strip() takes away, as the reference does, beyond the ASCII ones. */
static const char *const wide_spaces[] = {
    "\xc2\x85", "\u00a0", "\u1680", "\u2000", "\u2001", "\u2002", "\u2003", "\u2004", "\u2005", "\u2006",
    "\u2007",   "\u2008", "\u2009", "\u200a", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000",
};

static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r') || (c >= 0x1c && c <= 0x1f); }

/* Bytes of the whitespace character that text starts with, or ends with; 0 if it does not. Comparing bytes is enough:
 * in valid UTF-8 no character contains another. */
static size_t space_at(const char *text, size_t length, bool end)
{
    if (length == 0) return 0;
    if (is_space(end ? text[length - 1] : text[0])) return 1;
    for (size_t i = 0; i < sizeof wide_spaces / sizeof wide_spaces[0]; i++) {
        size_t size = strlen(wide_spaces[i]);
        if (size <= length && memcmp(end ? text + length - size : text, wide_spaces[i], size) == 0) return size;
    }
    return 0;
}

int swm_prompt_check_text(const char *name, const char *data, size_t size, swm_error *error)
{
    if (size > SWM_PROMPT_LIMIT)
        return swm_fail(error, "%s: has %zu bytes, more than the %zu that a prompt may have; shorten it", name, size,
                        SWM_PROMPT_LIMIT);
    for (size_t at = 0, step; at < size; at += step) {
        step = swm_utf8_character(data + at, size - at);
        if (step == 0)
            return swm_fail(error, "%s: byte %zu (0x%02x) is no valid UTF-8; save the text as UTF-8", name, at,
                            (unsigned char)data[at]);
        if (data[at] == '\0')
            return swm_fail(error, "%s: byte %zu is NUL, so this is no text; give plain text in UTF-8", name, at);
    }
    return 0;
}

char *swm_prompt_clean(const char *name, const char *data, size_t size, swm_error *error)
{
    if (swm_prompt_check_text(name, data, size, error) != 0) return NULL;
    for (size_t step; (step = space_at(data, size, false)) > 0; size -= step) data += step;
    for (size_t step; (step = space_at(data, size, true)) > 0;) size -= step;
    if (size == 0) {
        swm_fail(error, "%s: is empty; describe the scene in a sentence or more", name);
        return NULL;
    }
    char *text = swm_allocate(error, size + 1, 1);
    if (text != NULL) memcpy(text, data, size);
    return text;
}

char *swm_prompt_read_file(const char *path, swm_error *error)
{
    size_t size = 0;
    char *data = swm_file_read(path, SWM_PROMPT_LIMIT, &size, error);
    char *text = data != NULL ? swm_prompt_clean(path, data, size, error) : NULL;
    free(data);
    return text;
}

/* ---- encoding ---------------------------------------------------------------------------------------------------- */

int32_t *swm_prompt_ids(const swm_tokenizer *tokenizer, const swm_gemma *gemma, const char *text, int64_t *count,
                        swm_error *error)
{
    int32_t *ids = NULL;
    size_t length = 0;
    if (swm_tokenizer_encode(tokenizer, text, strlen(text), &ids, &length, error) != 0) return NULL;
    *count = (int64_t)length;
    int64_t rows = gemma->config.vocab_size;
    for (size_t i = 0; i < length; i++)
        if (ids[i] >= rows) {
            swm_fail(error,
                     "tokenizer: token %d is outside the %lld tokens of the text encoder; use the tokenizer that "
                     "came with the encoder",
                     (int)ids[i], (long long)rows);
            free(ids);
            return NULL;
        }
    return ids;
}

/* Token ids of before + text. */
static int tokenise(const swm_prompt_encoder *encoder, const char *before, const char *text, int32_t **ids,
                    int64_t *count, swm_error *error)
{
    char *joined = swm_format(error, "%s%s", before, text);
    *ids = joined != NULL ? swm_prompt_ids(encoder->tokenizer, encoder->gemma, joined, count, error) : NULL;
    free(joined);
    return *ids != NULL ? 0 : -1;
}

/* One branch: run the encoder over the first `window` tokens, and keep token 0 and the last tokens - 1 of the window.
 * What of it lies behind the text is padding. Causal attention never looks at padding on the right, so only the text is
 * run. */
static int encode_branch(swm_prompt *prompt, const swm_prompt_encoder *encoder, swm_backend *b, const int32_t *ids,
                         int64_t count, int64_t window, const char *text, swm_error *error)
{
    int64_t width = encoder->gemma->config.hidden_size, tokens = encoder->tokens, valid = swm_min(count, window);
    float *hidden = swm_allocate(error, (size_t)(valid * width), sizeof *hidden);
    if (hidden == NULL) return -1;
    swm_mark mark = swm_mark_of(b);
    swm_download(b, hidden, swm_gemma_forward(b, encoder->gemma, ids, valid, 0, NULL));
    swm_release(b, mark);
    int result = swm_backend_check(b, error);
    if (result == 0) result = make(prompt, text, tokens, width, error);
    for (int64_t i = 0; result == 0 && i < tokens; i++) {
        int64_t position = i == 0 ? 0 : window - tokens + i;
        if (position >= valid) break;
        memcpy(prompt->states + i * width, hidden + position * width, (size_t)width * sizeof *hidden);
        prompt->mask[i] = 1;
    }
    prompt->dropped = count - valid;
    free(hidden);
    return result;
}

/* The lines joined by newlines, in fresh memory. */
static char *join_lines(char *const *lines, int count, swm_error *error)
{
    size_t size = 1;
    for (int i = 0; i < count; i++) size += strlen(lines[i]) + 1;
    char *joined = swm_allocate(error, size, 1), *end = joined;
    for (int i = 0; joined != NULL && i < count; i++) {
        if (i > 0) *end++ = '\n';
        end = stpcpy(end, lines[i]);
    }
    return joined;
}

/* The instruction goes before the prompt, and the window grows by its tokens so that the prompt has as much room as
 * without. They are counted as the instruction stands alone, BOS included. The - 2 is for BOS, which both lengths
 * count, and for the blank at the instruction's end, which in the joined text merges with the first word of the prompt.
 * So the states kept are BOS and, normally, all of the prompt and nothing of the instruction. The models were trained
 * on this very selection, also where a prompt begins with something that a blank does not merge with. */
static int encode_conditional(swm_prompt *prompt, const swm_prompt_encoder *encoder, swm_backend *b, const char *text,
                              swm_error *error)
{
    char *instruction = join_lines(encoder->instruction, encoder->instruction_count, error);
    if (instruction == NULL) return -1;
    int32_t *ids = NULL;
    int64_t window = encoder->tokens, count = 0;
    int result = 0;
    if (instruction[0] != '\0') {
        result = tokenise(encoder, instruction, "", &ids, &count, error);
        window += count - 2;
        free(ids);
    }
    if (result == 0) result = tokenise(encoder, instruction, text, &ids, &count, error);
    if (result == 0) {
        result = encode_branch(prompt, encoder, b, ids, count, window, text, error);
        free(ids);
    }
    free(instruction);
    return result;
}

static int encode_unconditional(swm_prompt *prompt, const swm_prompt_encoder *encoder, swm_backend *b, const char *text,
                                swm_error *error)
{
    int32_t *ids = NULL;
    int64_t count = 0;
    if (swm_prompt_check_text("negative prompt", text, strlen(text), error) != 0 ||
        tokenise(encoder, "", text, &ids, &count, error) != 0)
        return -1;
    int result = encode_branch(prompt, encoder, b, ids, count, encoder->tokens, text, error);
    free(ids);
    return result;
}

int swm_prompt_encode(swm_prompt *conditional, swm_prompt *unconditional, const swm_prompt_encoder *encoder,
                      swm_backend *b, const char *prompt, const char *negative, swm_error *error)
{
    *conditional = *unconditional = (swm_prompt){0};
    if (encoder->tokens < 2 || encoder->tokens > SWM_PROMPT_TOKENS)
        return swm_fail(error, "model_max_length: is %lld, expected 2 to %d; correct it in the model's config.yaml",
                        (long long)encoder->tokens, SWM_PROMPT_TOKENS);
    if (encoder->gemma->config.generation != 2)
        return swm_fail(error,
                        "text encoder: is a Gemma %d, but the first stage reads prompts through a Gemma 2; give a "
                        "Gemma 2 directory",
                        encoder->gemma->config.generation);
    char *text = swm_prompt_clean("prompt", prompt, strlen(prompt), error);
    if (text == NULL) return -1;
    int result = encode_conditional(conditional, encoder, b, text, error);
    if (result == 0) result = encode_unconditional(unconditional, encoder, b, negative, error);
    free(text);
    if (result == 0) return 0;
    swm_prompt_free(conditional);
    swm_prompt_free(unconditional);
    return -1;
}

int swm_prompt_null(swm_prompt *prompt, int64_t tokens, int64_t width, swm_error *error)
{
    SWM_REQUIRE(tokens > 0 && width > 0, "%lld tokens of %lld", (long long)tokens, (long long)width);
    if (make(prompt, "", tokens, width, error) != 0) return -1;
    prompt->mask[0] = 1;
    return 0;
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

#define FORMAT  "sana-wm prompt states"
#define VERSION "1"

static const char *const tensor_names[] = {"conditional.states", "conditional.mask", "unconditional.states",
                                           "unconditional.mask"};

int swm_prompt_save(const char *path, const swm_prompt *conditional, const swm_prompt *unconditional,
                    const char *fingerprint, swm_error *error)
{
    int64_t tokens = conditional->tokens, width = conditional->width;
    SWM_REQUIRE(unconditional->tokens == tokens && unconditional->width == width,
                "branches (%lld,%lld) and (%lld,%lld)", (long long)tokens, (long long)width,
                (long long)unconditional->tokens, (long long)unconditional->width);
    const swm_tensor tensors[] = {
        SWM_TENSOR(SWM_F32, conditional->states, tokens, width),
        SWM_TENSOR(SWM_U8, conditional->mask, tokens),
        SWM_TENSOR(SWM_F32, unconditional->states, tokens, width),
        SWM_TENSOR(SWM_U8, unconditional->mask, tokens),
    };
    const char *const metadata[] = {
        "format",  FORMAT,      "version", VERSION, "prompt", conditional->text, "negative_prompt", unconditional->text,
        "encoder", fingerprint, NULL,
    };
    return swm_safetensors_save(path, 4, tensor_names, tensors, metadata, error);
}

const char *swm_prompt_metadata(const swm_safetensors *file, const char *name, const char *key, swm_error *error)
{
    const char *value = swm_safetensors_metadata(file, key);
    if (value == NULL)
        swm_fail(error, "%s: has no metadata \"%s\"; it is no file of prompt states, or damaged: make it anew", name,
                 key);
    return value;
}

int swm_prompt_check_file(const swm_safetensors *file, const char *name, const char *format, const char *version,
                          const char *encoder, swm_error *error)
{
    const char *its_format = swm_prompt_metadata(file, name, "format", error);
    const char *its_version = its_format != NULL ? swm_prompt_metadata(file, name, "version", error) : NULL;
    const char *its_encoder = its_version != NULL ? swm_prompt_metadata(file, name, "encoder", error) : NULL;
    if (its_encoder == NULL) return -1;
    if (strcmp(its_format, format) != 0)
        return swm_fail(error, "%s: has the format \"%.40s\", expected \"%s\"; it is another kind of file", name,
                        its_format, format);
    if (strcmp(its_version, version) != 0)
        return swm_fail(error, "%s: has version \"%.40s\", expected \"%s\"; make it anew with this program", name,
                        its_version, version);
    if (encoder != NULL && strcmp(its_encoder, encoder) != 0)
        return swm_fail(error, "%s: was made by the text encoder %.160s, expected %.160s; make it anew with this model",
                        name, its_encoder, encoder);
    return 0;
}

const swm_tensor *swm_prompt_tensor(const swm_safetensors *file, const char *name, const char *tensor, swm_dtype dtype,
                                    int rank, swm_error *error)
{
    const swm_tensor *t = swm_safetensors_find(file, tensor);
    if (t == NULL)
        swm_fail(error, "%s: lacks the tensor %s; it is damaged: make it anew", name, tensor);
    else if (t->dtype != dtype || t->rank != rank) {
        swm_fail(error, "%s: %s is %s %s, expected %s of rank %d; make it anew", name, tensor, swm_dtype_name(t->dtype),
                 swm_describe(*t).text, swm_dtype_name(dtype), rank);
        t = NULL;
    }
    return t;
}

int swm_prompt_check_values(const char *name, const char *tensor, const float *values, int64_t count, swm_error *error)
{
    for (int64_t i = 0; i < count; i++)
        if (!isfinite(values[i]))
            return swm_fail(error, "%s: %s holds %g at element %lld; make it anew", name, tensor, (double)values[i],
                            (long long)i);
    return 0;
}

static int check_branch(const swm_prompt *prompt, const char *name, const char *const names[2], swm_error *error)
{
    if (swm_prompt_check_values(name, names[0], prompt->states, prompt->tokens * prompt->width, error) != 0) return -1;
    int64_t valid = 0;
    for (int64_t i = 0; i < prompt->tokens; i++) {
        if (prompt->mask[i] > 1)
            return swm_fail(error, "%s: %s holds %d at element %lld, expected 0 or 1; make it anew", name, names[1],
                            prompt->mask[i], (long long)i);
        valid += prompt->mask[i];
    }
    if (valid == 0) return swm_fail(error, "%s: %s has no valid token; make it anew", name, names[1]);
    return 0;
}

/* names: of the states and of the mask. */
static int load_branch(swm_prompt *prompt, const swm_safetensors *file, const char *name, const char *const names[2],
                       const char *text_key, swm_prompt_expected expected, swm_error *error)
{
    const char *text = swm_prompt_metadata(file, name, text_key, error);
    const swm_tensor *states = text != NULL ? swm_prompt_tensor(file, name, names[0], SWM_F32, 2, error) : NULL;
    const swm_tensor *mask = states != NULL ? swm_prompt_tensor(file, name, names[1], SWM_U8, 1, error) : NULL;
    if (mask == NULL || swm_prompt_check_text(name, text, strlen(text), error) != 0) return -1;
    int64_t tokens = states->shape[0], width = states->shape[1];
    int64_t want_tokens = expected.tokens != 0 ? expected.tokens : tokens;
    int64_t want_width = expected.width != 0 ? expected.width : width;
    if (tokens != want_tokens || width != want_width)
        return swm_fail(error, "%s: %s is %s, expected (%lld,%lld); make it anew for this model", name, names[0],
                        swm_describe(*states).text, (long long)want_tokens, (long long)want_width);
    if (tokens < 1 || width < 1 || mask->shape[0] != tokens)
        return swm_fail(error, "%s: %s is %s and %s is %s, expected as many rows in both; make it anew", name, names[0],
                        swm_describe(*states).text, names[1], swm_describe(*mask).text);
    if (make(prompt, text, tokens, width, error) != 0) return -1;
    memcpy(prompt->states, states->data, swm_bytes(*states));
    memcpy(prompt->mask, mask->data, swm_bytes(*mask));
    return check_branch(prompt, name, names, error);
}

/* Takes the file over. */
static int load(swm_prompt *conditional, swm_prompt *unconditional, swm_safetensors *file, const char *name,
                swm_prompt_expected expected, swm_error *error)
{
    *conditional = *unconditional = (swm_prompt){0};
    if (file == NULL) return -1;
    int result = swm_prompt_check_file(file, name, FORMAT, VERSION, expected.fingerprint, error);
    if (result == 0) result = load_branch(conditional, file, name, &tensor_names[0], "prompt", expected, error);
    if (result == 0) {
        expected.tokens = conditional->tokens;
        expected.width = conditional->width;
        result = load_branch(unconditional, file, name, &tensor_names[2], "negative_prompt", expected, error);
    }
    swm_safetensors_close(file);
    if (result == 0) return 0;
    swm_prompt_free(conditional);
    swm_prompt_free(unconditional);
    return -1;
}

int swm_prompt_load(swm_prompt *conditional, swm_prompt *unconditional, const char *path, swm_prompt_expected expected,
                    swm_error *error)
{
    return load(conditional, unconditional, swm_safetensors_open(path, error), path, expected, error);
}

int swm_prompt_load_memory(swm_prompt *conditional, swm_prompt *unconditional, const void *data, size_t size,
                           const char *name, swm_prompt_expected expected, swm_error *error)
{
    return load(conditional, unconditional, swm_safetensors_open_memory(data, size, name, error), name, expected,
                error);
}
