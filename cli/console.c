/* Implements console.h. */
#include "console.h"

#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void cli_message(const char *format, ...)
{
    char text[1200];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    swm_error line = {0};
    swm_fail(&line, "%s", text);
    fprintf(stderr, "sanawm: %s\n", line.text);
}

int cli_failure(const swm_error *error)
{
    cli_message("%s", error->text);
    return CLI_FAILURE;
}

cli_text cli_grouped(double whole)
{
    char digits[32];
    cli_text out = {0};
    const int length = snprintf(digits, sizeof digits, "%.0f", fmin(fmax(whole, -1e20), 1e20));
    size_t end = 0;
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0 && digits[i - 1] != '-') out.text[end++] = ',';
        out.text[end++] = digits[i];
    }
    return out;
}

cli_text cli_bytes(double bytes)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB"};
    int unit = 0;
    while (bytes >= 1024 && unit < 5) {
        bytes /= 1024;
        unit++;
    }
    cli_text out;
    const int decimals = unit == 0 || bytes >= 100 ? 0 : bytes >= 10 ? 1 : 2;
    snprintf(out.text, sizeof out.text, "%.*f %s", decimals, bytes, units[unit]);
    return out;
}

cli_text cli_duration(double seconds)
{
    cli_text out;
    if (!(seconds >= 0) || seconds > 1e9)
        snprintf(out.text, sizeof out.text, "?");
    else if (seconds < 10)
        snprintf(out.text, sizeof out.text, "%.2f s", seconds);
    else if (seconds < 59.5)
        snprintf(out.text, sizeof out.text, "%.0f s", seconds);
    else {
        const int64_t whole = (int64_t)(seconds + 0.5);
        const int hours = (int)(whole / 3600), minutes = (int)(whole / 60 % 60), rest = (int)(whole % 60);
        if (hours > 0)
            snprintf(out.text, sizeof out.text, "%d:%02d:%02d", hours, minutes, rest);
        else
            snprintf(out.text, sizeof out.text, "%d:%02d", minutes, rest);
    }
    return out;
}

int cli_print_json(cJSON *tree)
{
    char *text = tree != NULL ? cJSON_Print(tree) : NULL;
    cJSON_Delete(tree);
    if (text == NULL) {
        cli_message("out of memory for the JSON text");
        return CLI_FAILURE;
    }
    puts(text);
    free(text);
    return CLI_OK;
}

/* The one variable of the program that a signal handler may write. */
static volatile sig_atomic_t caught;

static void remember(int number) { caught = number; }

void cli_catch_interrupts(void)
{
    struct sigaction action = {.sa_handler = remember, .sa_flags = (int)(SA_RESETHAND | SA_RESTART)};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool cli_interrupted(void) { return caught != 0; }

int cli_interrupt_status(void) { return 128 + (int)caught; }
