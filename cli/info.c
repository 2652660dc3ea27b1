/* sanawm info: what lies in a model directory, and what is missing. */
#include "commands.h"

#include <stdio.h>

#include "inventory.h"

typedef struct info_values {
    const char *dit, *text_encoder, *refiner;
    bool fingerprint, json;
} info_values;

#define AT(member) .offset = offsetof(info_values, member)

static const cli_option options[] = {
    {CLI_STRING, "dit", AT(dit), .value = "PATH", .help = "DiT weights elsewhere than in DIR/dit"},
    {CLI_STRING, "text-encoder", AT(text_encoder), .value = "DIR",
     .help = "Gemma-2 elsewhere than in DIR/text_encoder"},
    {CLI_STRING, "refiner", AT(refiner), .value = "DIR", .help = "The refiner elsewhere than in DIR/refiner"},
    {CLI_FLAG, "fingerprint", AT(fingerprint), .help = "Also a hash of each part's weights, to tell versions apart"},
    {CLI_FLAG, "json", AT(json), .help = "Print the inventory as JSON"},
};

static void print_parts(const char *directory, const cli_part *parts)
{
    printf("%s\n", directory);
    for (int i = 0; i < CLI_PART_COUNT; i++) {
        const cli_part *p = &parts[i];
        if (p->state == CLI_PART_MISSING)
            printf("  %-13s missing; get it from %s\n", p->name, p->repository);
        else if (p->state == CLI_PART_BROKEN)
            printf("  %-13s cannot be used\n", p->name);
        else
            printf("  %-13s %s\n", p->name, p->summary);
        if (p->state == CLI_PART_PRESENT && p->detail != NULL) printf("  %-13s %s\n", "", p->detail);
    }
}

static cJSON *describe(const char *directory, cli_part *parts)
{
    static const char *const states[] = {"present", "missing", "broken", "none"};
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "directory", directory);
    for (int i = 0; i < CLI_PART_COUNT; i++) {
        cli_part *p = &parts[i];
        cJSON *json = p->json;
        p->json = NULL;
        cJSON_AddStringToObject(json, "state", states[p->state]);
        if (p->state == CLI_PART_BROKEN) cJSON_AddStringToObject(json, "problem", p->problem.text);
        if (p->state == CLI_PART_MISSING) {
            cJSON_AddStringToObject(json, "repository", p->repository);
            cJSON_AddStringToObject(json, "place", p->place);
        }
        cJSON_AddItemToObject(root, p->name, json);
    }
    return root;
}

/* One line for every part that generation cannot do without. */
static int tell_problems(const char *directory, const cli_part *parts)
{
    int status = CLI_OK;
    for (int i = 0; i < CLI_PART_COUNT; i++) {
        const cli_part *p = &parts[i];
        if (p->state == CLI_PART_MISSING)
            cli_message("%s: %s is missing; copy it from %s to %s", directory, p->place, p->repository, p->place);
        else if (p->state == CLI_PART_BROKEN)
            cli_message("%s", p->problem.text);
        else
            continue;
        status = CLI_FAILURE;
    }
    return status;
}

static int run_info(const cli_command *command, int argc, char **argv)
{
    info_values v = {0};
    const char *directory = NULL;
    int status;
    if (!cli_parse(command, argc, argv, &v, &directory, &status)) return status;
    swm_error error = {0};
    swm_layout layout;
    cli_part parts[CLI_PART_COUNT];
    const swm_checkpoint_options places = {.dit = v.dit, .text_encoder = v.text_encoder, .refiner = v.refiner};
    if (swm_layout_find(&layout, directory, &places, &error) != 0) return cli_failure(&error);
    cli_inventory_take(parts, &layout, v.fingerprint);
    status = tell_problems(directory, parts);
    if (!v.json)
        print_parts(layout.directory, parts);
    else if (cli_print_json(describe(layout.directory, parts)) != CLI_OK)
        status = CLI_FAILURE;
    cli_inventory_free(parts);
    swm_layout_free(&layout);
    return status;
}

const cli_command cli_info = {
    .name = "info",
    .summary = "What lies in a model directory, and what is missing",
    .operands = "DIR",
    .operands_least = 1,
    .operands_most = 1,
    .description =
        "Take inventory of a model directory from headers and configuration files alone. The exit status is 1 when "
        "something is missing or broken that generation needs.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run_info,
};
