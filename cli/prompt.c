/* sanawm prompt: prompts encoded ahead, as files for --prompt-embeddings and --refiner-prompt-embeddings. */
#include "commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "pipeline/prompts.h"
#include "run.h"

enum { MOST_PROMPTS = 10000, FILE_LIMIT = 64 << 20 };

typedef struct prompt_values {
    const char *model, *text_encoder, *refiner, *file, *output, *negative_prompt, *device;
    bool no_refiner;
    uint64_t vram_budget;
    int64_t threads;
} prompt_values;

#define AT(member) .offset = offsetof(prompt_values, member)

static const cli_option options[] = {
    {CLI_STRING, "file", AT(file), .value = "FILE", .help = "UTF-8 text with a prompt a line, in place of TEXT"},
    {CLI_STRING, "output", .letter = 'o', AT(output), .value = "NAME",
     .help = "[prompt] NAME.safetensors and NAME.refiner.safetensors; with --file NAME-1.safetensors and so on"},
    {CLI_STRING, "negative-prompt", AT(negative_prompt), .value = "TEXT", .help = "What is not to be seen"},
    {CLI_STRING, "model", AT(model), .value = "DIR", .help = "Whose encoders they are"},
    {CLI_STRING, "text-encoder", AT(text_encoder), .value = "DIR",
     .help = "Gemma-2 elsewhere than in DIR/text_encoder"},
    {CLI_STRING, "refiner", AT(refiner), .value = "DIR", .help = "The refiner elsewhere than in DIR/refiner"},
    {CLI_FLAG, "no-refiner", AT(no_refiner), .help = "Encode for the first stage alone"},
    CLI_MACHINE_OPTIONS(prompt_values),
};

/* ---- texts ------------------------------------------------------------------------------------------------------- */

typedef struct text_list {
    char **texts;
    int64_t count;
} text_list;

static void free_texts(text_list *list)
{
    for (int64_t i = 0; i < list->count; i++) free(list->texts[i]);
    free(list->texts);
}

/* Every line that is not blank. */
static int read_lines(text_list *list, const char *path, swm_error *error)
{
    size_t size;
    char *data = swm_file_read(path, FILE_LIMIT, &size, error);
    list->texts = data != NULL ? swm_allocate(error, MOST_PROMPTS, sizeof *list->texts) : NULL;
    int64_t number = 1;
    for (char *line = data, *end; list->texts != NULL && !swm_failed(error) && line < data + size; line = end + 1) {
        end = memchr(line, '\n', (size_t)(data + size - line));
        if (end == NULL) end = data + size;
        char *name = swm_format(error, "%s, line %lld", path, (long long)number++);
        if (strspn(line, " \t\r\n") < (size_t)(end - line)) {
            if (list->count == MOST_PROMPTS) swm_fail(error, "%s: has more than %d prompts", path, MOST_PROMPTS);
            char *text = swm_failed(error) ? NULL : swm_prompt_clean(name, line, (size_t)(end - line), error);
            if (text != NULL) list->texts[list->count++] = text;
        }
        free(name);
    }
    free(data);
    if (!swm_failed(error) && list->count == 0) swm_fail(error, "%s: holds no prompt", path);
    return swm_failed(error) ? -1 : 0;
}

static int take_texts(text_list *list, const prompt_values *v, const char *text, swm_error *error)
{
    if (v->file != NULL) return read_lines(list, v->file, error);
    list->texts = swm_allocate(error, 1, sizeof *list->texts);
    if (list->texts == NULL || cli_read_prompt(text, NULL, &list->texts[0], error) != 0) return -1;
    list->count = 1;
    return 0;
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

static char *name_of(const prompt_values *v, int64_t index, const char *ending, swm_error *error)
{
    return v->file != NULL ? swm_format(error, "%s-%lld%s", v->output, (long long)index + 1, ending)
                           : swm_format(error, "%s%s", v->output, ending);
}

static int save(const prompt_values *v, const swm_prompts *p, const swm_checkpoint *model, swm_error *error)
{
    char first[SWM_GEMMA_FINGERPRINT], second[SWM_REFINER_FINGERPRINT];
    const swm_refiner_parts *r = &model->refiner;
    if ((p->conditional != NULL && swm_gemma_fingerprint(&model->gemma, model->text_weights, first, error) != 0) ||
        (p->refined != NULL &&
         swm_refiner_encoder_fingerprint(&r->gemma, r->text_weights, r->connector_weights, second, error) != 0))
        return -1;
    for (int64_t i = 0; i < p->count; i++) {
        char *path = name_of(v, i, ".safetensors", error), *refined = name_of(v, i, ".refiner.safetensors", error);
        int result = path != NULL && refined != NULL ? 0 : -1;
        if (result == 0 && p->conditional != NULL) {
            result = swm_prompt_save(path, &p->conditional[i], &p->negative[i], first, error);
            if (result == 0) puts(path);
        }
        if (result == 0 && p->refined != NULL) {
            result = swm_refiner_prompt_save(refined, &p->refined[i], second, error);
            if (result == 0) puts(refined);
        }
        free(path);
        free(refined);
        if (result != 0) return -1;
    }
    return 0;
}

static int encode(const prompt_values *v, const text_list *list, swm_error *error)
{
    const swm_checkpoint_options places = {
        .text_encoder = v->text_encoder, .refiner = v->refiner, .with_refiner = !v->no_refiner};
    swm_checkpoint model;
    if (swm_checkpoint_open(&model, v->model, &places, error) != 0) return -1;
    swm_prompts prompts = {
        .count = list->count,
        .texts = (const char *const *)list->texts,
        .negative_text = v->negative_prompt != NULL ? v->negative_prompt : "",
    };
    int result = 0;
    if (model.tokenizer == NULL && model.refiner.tokenizer == NULL)
        result = swm_fail(error, "%s: has no text encoder; name one with --text-encoder or --refiner", v->model);
    if (result == 0) result = swm_prompts_encode(&prompts, &model, v->device, v->vram_budget, (int)v->threads, error);
    if (result == 0) result = save(v, &prompts, &model, error);
    swm_prompts_free(&prompts);
    swm_checkpoint_close(&model);
    return result;
}

static int run_prompt(const cli_command *command, int argc, char **argv)
{
    prompt_values v = {.output = "prompt"};
    const char *text = NULL;
    int status;
    if (!cli_parse(command, argc, argv, &v, &text, &status)) return status;
    if (v.model == NULL) return cli_usage(command, "--model is missing: the directory with the text encoders");
    if ((text != NULL) == (v.file != NULL))
        return cli_usage(command, "pass %s", text == NULL ? "a prompt, or --file" : "either a prompt or --file");
    swm_error error = {0};
    text_list list = {0};
    status = take_texts(&list, &v, text, &error) == 0 && encode(&v, &list, &error) == 0 ? CLI_OK : cli_failure(&error);
    free_texts(&list);
    return status;
}

const cli_command cli_prompt = {
    .name = "prompt",
    .summary = "Encode prompts ahead, many with one load of the encoders",
    .operands = "[TEXT]",
    .operands_most = 1,
    .description =
        "Encode a prompt, or a file of them, to files that sanawm generate takes with --prompt-embeddings and "
        "--refiner-prompt-embeddings: then no text encoder need be there. Prints the names of the files.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run_prompt,
};
