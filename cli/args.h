/* Command lines from tables: a command declares its options once, and parsing, checking and help follow from that. */
#ifndef CLI_ARGS_H
#define CLI_ARGS_H

#include "console.h"

typedef enum cli_kind {
    CLI_HEADING, /* no option: a heading in the help, in `help` */
    CLI_FLAG,    /* bool: takes no value */
    CLI_STRING,  /* const char *, borrowed from the command line */
    CLI_WORD,    /* const char *: one of the words of `value`, "a|b|c" */
    CLI_CHOICE,  /* int: the index of the word in `value` */
    CLI_INTEGER, /* int64_t within minimum .. maximum */
    CLI_NUMBER,  /* double within minimum .. maximum */
    CLI_SEED,    /* uint64_t, any */
    CLI_SIZE,    /* cli_size: 1280x704 */
    CLI_MEMORY,  /* uint64_t, bytes: 12G, 900M (of 2^30, 2^20 bytes); 0 for "auto" */
} cli_kind;

typedef struct cli_size {
    int width, height; /* multiples of 32 */
} cli_size;

typedef struct cli_option {
    cli_kind kind;
    const char *name;  /* with dashes inside, without those in front; underscores are taken for dashes */
    const char *alias; /* a second name or NULL; not shown in the help */
    char letter;       /* for -o; 0: none */
    size_t offset;     /* of the member in the command's struct of values */
    double minimum, maximum;
    const char *value; /* how the value is called in the help */
    const char *help;
} cli_option;

typedef struct cli_command cli_command;
struct cli_command {
    const char *name, *summary; /* one line */
    const char *operands;       /* as the usage line shows them; "" */
    int operands_least, operands_most;
    const char *description; /* paragraphs of the help */
    const cli_option *options;
    int option_count;
    int (*run)(const cli_command *command, int argc, char **argv);
};

/* Read argv[0..argc) into `values`, which holds the defaults, and `operands`, which has room for operands_most. Options
 * may be shortened as long as they are unambiguous; the last of repeated ones counts; "--" ends them. False when there
 * is nothing to run: *status is CLI_OK after help, CLI_USAGE after a message. */
bool cli_parse(const cli_command *command, int argc, char **argv, void *values, const char **operands, int *status);

/* A message that points to the command's help (to the program's for NULL); returns CLI_USAGE. */
int cli_usage(const cli_command *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The whole help on standard output. */
void cli_print_help(const cli_command *command);

/* Numbers as the options take them: the whole text, finite, decimal, of no locale. */
bool cli_number(const char *text, double *value);
/* Edits between two words, to suggest what was meant. */
int cli_distance(const char *a, const char *b);

#endif
