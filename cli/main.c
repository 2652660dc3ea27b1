/* sanawm: which command to run, and the list of them. */
#include "commands.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sanawm.h"

static const cli_command *const commands[] = {&cli_generate, &cli_refine, &cli_prompt, &cli_demo, &cli_camera,
                                              &cli_eval,     &cli_info,   &cli_plan,   &cli_bench};
enum { COMMAND_COUNT = sizeof commands / sizeof commands[0] };

static const cli_command *find_command(const char *name)
{
    for (int i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(commands[i]->name, name) == 0) return commands[i];
    return NULL;
}

static int unknown_command(const char *name)
{
    const cli_command *nearest = NULL;
    int best = (int)strlen(name) / 2 + 1;
    for (int i = 0; i < COMMAND_COUNT; i++) {
        const int distance = cli_distance(name, commands[i]->name);
        if (distance >= best) continue;
        best = distance;
        nearest = commands[i];
    }
    if (nearest != NULL) return cli_usage(NULL, "no command \"%.64s\"; did you mean %s?", name, nearest->name);
    return cli_usage(NULL, "no command \"%.64s\"", name);
}

static void print_overview(void)
{
    puts("sanawm COMMAND [OPTIONS]\n\nA camera-controlled video from one picture.\n");
    for (int i = 0; i < COMMAND_COUNT; i++) printf("  %-10s %s\n", commands[i]->name, commands[i]->summary);
    puts("  help       What a command does and takes: sanawm help COMMAND\n\n"
         "  --version  The version.\n\n"
         "Try: sanawm demo w-16,dw-16 -o demo.mp4\n"
         "Results go to standard output, progress and messages to standard error. Exit status: 0 done, 1 failed,\n"
         "2 wrong usage, 130 stopped by Ctrl-C.");
}

static int help(int argc, char **argv)
{
    if (argc < 1) {
        print_overview();
        return CLI_OK;
    }
    const cli_command *command = find_command(argv[0]);
    if (command == NULL) return unknown_command(argv[0]);
    /* A part of the command, as in "help camera convert", is for the command to find. */
    char ask[] = "--help", *part[] = {argc > 1 ? argv[1] : ask, ask};
    return command->run(command, argc > 1 ? 2 : 1, part);
}

static int dispatch(int argc, char **argv)
{
    if (argc < 2) {
        print_overview();
        return CLI_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) {
        printf("sanawm %s\n", swm_version());
        return CLI_OK;
    }
    if (strcmp(name, "help") == 0 || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        return help(argc - 2, argv + 2);
    const cli_command *command = find_command(name);
    return command != NULL ? command->run(command, argc - 2, argv + 2) : unknown_command(name);
}

/* GNU's OpenMP lets waiting threads spin. When another program wants the same cores, every short parallel piece then waits
 * for a time slice, and a run takes ten times as long. The runtime reads its policy before main, so that the program
 * starts itself again with it. Speed is all that changes; a policy that the user has set stays. */
static void wait_without_spinning(char **argv)
{
    char program[PATH_MAX];
    if (getenv("OMP_WAIT_POLICY") != NULL || setenv("OMP_WAIT_POLICY", "passive", 0) != 0) return;
    /* By its path: under an emulator the link itself leads to the emulator. */
    const ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length <= 0) return;
    program[length] = '\0';
    execv(program, argv);
}

int main(int argc, char **argv)
{
    wait_without_spinning(argv);
    const int status = dispatch(argc, argv);
    /* A full disk behind standard output shows only when the buffer is written. */
    if (ferror(stdout) || fflush(stdout) != 0) {
        cli_message("standard output cannot be written: %s", strerror(errno));
        return status == CLI_OK ? CLI_FAILURE : status;
    }
    return status;
}
