/* What every command needs to speak to its user: exit statuses, messages, sizes in words, and Ctrl-C. Standard output
 * carries results only; everything here goes to standard error. */
#ifndef CLI_CONSOLE_H
#define CLI_CONSOLE_H

#include <cjson/cJSON.h>

#include "core/base.h"

enum { CLI_OK = 0, CLI_FAILURE = 1, CLI_USAGE = 2 };

/* "sanawm: <text>" as one line, control characters replaced. */
void cli_message(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The message of a failure; returns CLI_FAILURE. */
int cli_failure(const swm_error *error);

typedef struct cli_text {
    char text[48];
} cli_text;
cli_text cli_grouped(double whole);    /* 2661800448 -> "2,661,800,448" */
cli_text cli_bytes(double bytes);      /* 5323600896 -> "4.96 GiB" */
cli_text cli_duration(double seconds); /* 0.42 -> "0.42 s", 75 -> "1:15", 4000 -> "1:06:40" */

/* Print a tree on standard output and free it; NULL stands for a failure to build it. */
int cli_print_json(cJSON *tree);

/* From now on the first Ctrl-C (or SIGTERM) is only remembered, the second one has its usual effect. */
void cli_catch_interrupts(void);
bool cli_interrupted(void);
/* 130 after Ctrl-C, 143 after SIGTERM, as shells report it. */
int cli_interrupt_status(void);

#endif
