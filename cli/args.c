/* Implements args.h. */
#include "args.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { HELP_COLUMN = 30, HELP_WIDTH = 100, NAME_LIMIT = 64 };

int cli_usage(const cli_command *command, const char *format, ...)
{
    char text[900];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    cli_message("%s (see sanawm help%s%s)", text, command != NULL ? " " : "", command != NULL ? command->name : "");
    return CLI_USAGE;
}

/* ---- values ------------------------------------------------------------------------------------------------------ */

bool cli_number(const char *text, double *value)
{
    if (text[0] == '\0' || text[strspn(text, "0123456789+-.eE")] != '\0') return false;
    char *end;
    *value = strtod(text, &end);
    return *end == '\0' && isfinite(*value);
}

static bool whole_number(const char *text, int64_t *value)
{
    const char *digits = text[0] == '-' || text[0] == '+' ? text + 1 : text;
    if (digits[0] == '\0' || digits[strspn(digits, "0123456789")] != '\0') return false;
    errno = 0;
    *value = strtoll(text, NULL, 10);
    return errno == 0;
}

static bool seed_number(const char *text, uint64_t *value)
{
    if (text[0] == '\0' || text[strspn(text, "0123456789")] != '\0') return false;
    errno = 0;
    *value = strtoull(text, NULL, 10);
    return errno == 0;
}

static bool size_number(const char *text, cli_size *size)
{
    int end = -1;
    if (text[strspn(text, "0123456789x")] != '\0' || strlen(text) > 11) return false;
    if (sscanf(text, "%5dx%5d%n", &size->width, &size->height, &end) != 2 || text[end] != '\0') return false;
    return size->width >= 64 && size->height >= 64 && size->width % 32 == 0 && size->height % 32 == 0;
}

/* "12G", "1.5g", "900MiB"; "auto" is 0. */
static bool memory_amount(const char *text, uint64_t *bytes)
{
    char digits[24];
    const size_t length = strspn(text, "0123456789.");
    const char *unit = text + length;
    double value, scale;
    *bytes = 0;
    if (strcmp(text, "auto") == 0) return true;
    if (length == 0 || length >= sizeof digits || *unit == '\0') return false;
    memcpy(digits, text, length);
    digits[length] = '\0';
    if (*unit == 'M' || *unit == 'm')
        scale = 1 << 20;
    else if (*unit == 'G' || *unit == 'g')
        scale = 1 << 30;
    else
        return false;
    if (unit[1] != '\0' && strcasecmp(unit + 1, "b") != 0 && strcasecmp(unit + 1, "ib") != 0) return false;
    if (!cli_number(digits, &value) || value * scale < 1 || value * scale > 0x1p50) return false;
    *bytes = (uint64_t)(value * scale);
    return true;
}

/* The index of `text` among the words of "a|b|c", -1 when it is none of them. */
static int word_index(const char *words, const char *text)
{
    const size_t length = strlen(text);
    for (int i = 0; *words != '\0'; i++) {
        const size_t size = strcspn(words, "|");
        if (size == length && memcmp(words, text, size) == 0) return i;
        words += size + (words[size] == '|');
    }
    return -1;
}

static int store(const cli_command *command, const cli_option *o, const char *text, void *values)
{
    void *at = (char *)values + o->offset;
    switch (o->kind) {
    case CLI_HEADING: break;
    case CLI_FLAG: *(bool *)at = true; return CLI_OK;
    case CLI_STRING:
        if (text[0] == '\0') return cli_usage(command, "--%s is empty; expected %s", o->name, o->value);
        *(const char **)at = text;
        return CLI_OK;
    case CLI_WORD:
    case CLI_CHOICE: {
        const int index = word_index(o->value, text);
        if (index < 0) return cli_usage(command, "--%s is \"%.64s\"; expected %s", o->name, text, o->value);
        if (o->kind == CLI_WORD)
            *(const char **)at = text;
        else
            *(int *)at = index;
        return CLI_OK;
    }
    case CLI_INTEGER: {
        int64_t value = 0;
        if (!whole_number(text, &value) || (double)value < o->minimum || (double)value > o->maximum)
            return cli_usage(command, "--%s is \"%.64s\"; expected a whole number from %.0f to %.0f", o->name, text,
                             o->minimum, o->maximum);
        *(int64_t *)at = value;
        return CLI_OK;
    }
    case CLI_NUMBER: {
        double value = 0;
        if (!cli_number(text, &value) || value < o->minimum || value > o->maximum)
            return cli_usage(command, "--%s is \"%.64s\"; expected a number from %g to %g", o->name, text, o->minimum,
                             o->maximum);
        *(double *)at = value;
        return CLI_OK;
    }
    case CLI_SEED:
        if (!seed_number(text, at))
            return cli_usage(command, "--%s is \"%.64s\"; expected a whole number from 0 to 18446744073709551615",
                             o->name, text);
        return CLI_OK;
    case CLI_SIZE:
        if (!size_number(text, at))
            return cli_usage(command,
                             "--%s is \"%.64s\"; expected WIDTHxHEIGHT in multiples of 32 from 64 on, for "
                             "instance 1280x704",
                             o->name, text);
        return CLI_OK;
    case CLI_MEMORY:
        if (!memory_amount(text, at))
            return cli_usage(command,
                             "--%s is \"%.64s\"; expected an amount with its unit, for instance 12G or 900M, or auto",
                             o->name, text);
        return CLI_OK;
    }
    return CLI_USAGE;
}

/* ---- names ------------------------------------------------------------------------------------------------------- */

int cli_distance(const char *a, const char *b)
{
    int row[NAME_LIMIT + 1];
    const int n = (int)strnlen(a, NAME_LIMIT), m = (int)strnlen(b, NAME_LIMIT);
    for (int j = 0; j <= m; j++) row[j] = j;
    for (int i = 1; i <= n; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= m; j++) {
            const int above = row[j], replaced = diagonal + (a[i - 1] != b[j - 1]);
            const int other = (above < row[j - 1] ? above : row[j - 1]) + 1;
            row[j] = replaced < other ? replaced : other;
            diagonal = above;
        }
    }
    return row[m];
}

static bool starts_with(const char *name, const char *start) { return strncmp(name, start, strlen(start)) == 0; }

static const cli_option *suggest(const cli_command *command, const char *name)
{
    const cli_option *nearest = NULL;
    int best = (int)strlen(name) / 2 + 1;
    for (int i = 0; i < command->option_count; i++) {
        const cli_option *o = &command->options[i];
        if (o->kind == CLI_HEADING) continue;
        int distance = cli_distance(name, o->name);
        if (o->alias != NULL && cli_distance(name, o->alias) < distance) distance = cli_distance(name, o->alias);
        if (distance < best) {
            best = distance;
            nearest = o;
        }
    }
    return nearest;
}

/* The option of that name, or the only one that begins so. NULL after a message. */
static const cli_option *find_long(const cli_command *command, const char *name)
{
    const cli_option *found = NULL, *other = NULL;
    for (int i = 0; i < command->option_count; i++) {
        const cli_option *o = &command->options[i];
        if (o->kind == CLI_HEADING) continue;
        if (strcmp(o->name, name) == 0 || (o->alias != NULL && strcmp(o->alias, name) == 0)) return o;
        if (name[0] == '\0' || !(starts_with(o->name, name) || (o->alias != NULL && starts_with(o->alias, name))))
            continue;
        if (found == NULL)
            found = o;
        else
            other = o;
    }
    if (found != NULL && other != NULL) {
        cli_usage(command, "--%s could be --%s or --%s", name, found->name, other->name);
        return NULL;
    }
    if (found != NULL) return found;
    const cli_option *nearest = suggest(command, name);
    if (nearest != NULL)
        cli_usage(command, "--%s is unknown; did you mean --%s?", name, nearest->name);
    else
        cli_usage(command, "--%s is unknown", name);
    return NULL;
}

static const cli_option *find_letter(const cli_command *command, char letter)
{
    for (int i = 0; i < command->option_count; i++)
        if (command->options[i].letter == letter && letter != '\0') return &command->options[i];
    cli_usage(command, "-%c is unknown", letter);
    return NULL;
}

/* ---- parsing ----------------------------------------------------------------------------------------------------- */

/* One option at argv[*i], which is moved past its value. */
static int parse_option(const cli_command *command, int argc, char **argv, int *i, void *values)
{
    const char *argument = argv[*i], *value = NULL;
    const cli_option *o;
    if (argument[1] == '-') {
        char name[NAME_LIMIT];
        const size_t length = strcspn(argument + 2, "=");
        if (length >= sizeof name) return cli_usage(command, "%.40s... is unknown", argument);
        for (size_t k = 0; k < length; k++) name[k] = argument[2 + k] == '_' ? '-' : argument[2 + k];
        name[length] = '\0';
        if (argument[2 + length] == '=') value = argument + 3 + length;
        o = find_long(command, name);
    } else {
        o = find_letter(command, argument[1]);
        if (argument[2] != '\0') value = argument + 2;
    }
    if (o == NULL) return CLI_USAGE;
    if (o->kind == CLI_FLAG && value != NULL) return cli_usage(command, "%s: --%s takes no value", argument, o->name);
    if (o->kind != CLI_FLAG && value == NULL) {
        /* What looks like an option is not swallowed as a value; --prompt=--text says that it is one. */
        if (*i + 1 >= argc || starts_with(argv[*i + 1], "--"))
            return cli_usage(command, "--%s needs a value: %s", o->name, o->value);
        value = argv[++*i];
    }
    return store(command, o, value, values);
}

static bool asks_for_help(const char *argument)
{
    return strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0;
}

bool cli_parse(const cli_command *command, int argc, char **argv, void *values, const char **operands, int *status)
{
    int count = 0;
    bool options = true;
    *status = CLI_OK;
    for (int i = 0; i < command->operands_most; i++) operands[i] = NULL;
    for (int i = 0; i < argc; i++) {
        const char *argument = argv[i];
        if (options && strcmp(argument, "--") == 0) {
            options = false;
        } else if (options && asks_for_help(argument)) {
            cli_print_help(command);
            return false;
        } else if (options && argument[0] == '-' && argument[1] != '\0') {
            *status = parse_option(command, argc, argv, &i, values);
            if (*status != CLI_OK) return false;
        } else if (count < command->operands_most) {
            operands[count++] = argument;
        } else {
            *status = cli_usage(command, "\"%.200s\" is one argument too many", argument);
            return false;
        }
    }
    if (count < command->operands_least) {
        *status = cli_usage(command, "%s is missing", command->operands);
        return false;
    }
    return true;
}

/* ---- help -------------------------------------------------------------------------------------------------------- */

/* Words of `text` from column `start` on, continued at column `indent`. */
static void print_wrapped(const char *text, int start, int indent)
{
    int column = start;
    while (*text != '\0') {
        const int length = (int)strcspn(text, " \n");
        if (column > indent && column + 1 + length > HELP_WIDTH) {
            printf("\n%*s", indent, "");
            column = indent;
        } else if (column > indent) {
            putchar(' ');
            column++;
        }
        printf("%.*s", length, text);
        column += length;
        text += length;
        if (*text == '\n') {
            printf("\n%*s", indent, "");
            column = indent;
        }
        if (*text != '\0') text++;
    }
    putchar('\n');
}

static void print_option(const cli_option *o)
{
    if (o->kind == CLI_HEADING) {
        printf("\n%s\n", o->help);
        return;
    }
    int column = o->letter != '\0' ? printf("  -%c, --%s", o->letter, o->name) : printf("  --%s", o->name);
    if (o->kind != CLI_FLAG) column += printf(" %s", o->value);
    if (column < HELP_COLUMN - 1)
        printf("%*s", HELP_COLUMN - column, "");
    else
        printf("\n%*s", HELP_COLUMN, "");
    print_wrapped(o->help, HELP_COLUMN, HELP_COLUMN);
}

void cli_print_help(const cli_command *command)
{
    printf("sanawm %s%s%s [OPTIONS]\n\n", command->name, command->operands[0] != '\0' ? " " : "", command->operands);
    print_wrapped(command->description, 0, 0);
    if (command->option_count > 0 && command->options[0].kind != CLI_HEADING) printf("\nOptions\n");
    for (int i = 0; i < command->option_count; i++) print_option(&command->options[i]);
    printf("  -h, --help%*sThis text.\n", HELP_COLUMN - 12, "");
}
