/* Implements compare.h. */
#include "compare.h"

#include "second_stage.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct worker {
    char name; /* A, B */
    pid_t process;
    FILE *to, *from;
} worker;

static int stopped(const worker *w, swm_error *error)
{
    return swm_fail(error, "%c does not answer; what it said stands above, or it is no program of this kind", w->name);
}

static int start(worker *w, char name, char *const *arguments, swm_error *error)
{
    int in[2], out[2];
    *w = (worker){.name = name};
    if (pipe(in) != 0) return swm_fail(error, "no pipe to a worker");
    if (pipe(out) != 0) {
        close(in[0]);
        close(in[1]);
        return swm_fail(error, "no pipe from a worker");
    }
    w->process = fork();
    if (w->process == 0) {
        dup2(in[0], STDIN_FILENO);
        dup2(out[1], STDOUT_FILENO);
        for (int i = 0; i < 2; i++) {
            close(in[i]);
            close(out[i]);
        }
        execv(arguments[0], arguments);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    w->to = fdopen(in[1], "w");
    w->from = fdopen(out[0], "r");
    if (w->process < 0 || w->to == NULL || w->from == NULL)
        return swm_fail(error, "%s: cannot be started", arguments[0]);
    /* The other worker must not inherit these ends, or this one would never see its input end. */
    fcntl(in[1], F_SETFD, FD_CLOEXEC);
    fcntl(out[0], F_SETFD, FD_CLOEXEC);
    return 0;
}

static int read_line(worker *w, char *line, int size, swm_error *error)
{
    if (fgets(line, size, w->from) == NULL) return stopped(w, error);
    line[strcspn(line, "\n")] = '\0';
    return 0;
}

static int await_ready(worker *w, swm_error *error)
{
    char line[64];
    if (read_line(w, line, sizeof line, error) != 0) return -1;
    return strcmp(line, "ready") == 0 ? 0 : stopped(w, error);
}

static int ask(worker *w, bench_stage stage, double *seconds, swm_error *error)
{
    char line[64], *end;
    fprintf(w->to, "%s\n", bench_stage_name(stage));
    if (fflush(w->to) != 0 || read_line(w, line, sizeof line, error) != 0) return stopped(w, error);
    *seconds = strtod(line, &end);
    return end != line && *end == '\0' ? 0 : stopped(w, error);
}

static void finish(worker *w)
{
    if (w->to != NULL) fclose(w->to);
    if (w->from != NULL) fclose(w->from);
    if (w->process > 0) waitpid(w->process, NULL, 0);
}

static int race(worker sides[2], bench_stage stage, int rounds, double *seconds, bench_rows *rows, swm_error *error)
{
    int result = 0;
    for (int side = 0; side < 2 && result == 0; side++) result = ask(&sides[side], stage, seconds, error);
    for (int round = 0; round < rounds && result == 0; round++)
        for (int side = 0; side < 2 && result == 0; side++)
            result = ask(&sides[side], stage, &seconds[side * rounds + round], error);
    for (int side = 0; side < 2 && result == 0; side++) {
        double *own = seconds + side * rounds, median = bench_median(own, rounds);
        bench_row row = bench_row_of(side == 0 ? "a" : "b", bench_stage_name(stage), rounds, median);
        row.time.best = own[0];
        row.time.worst = own[rounds - 1];
        result = bench_rows_add(rows, row, error);
    }
    return result;
}

int bench_compare(char *const *a, char *const *b, unsigned stages, int rounds, bench_rows *rows, swm_error *error)
{
    worker sides[2] = {{0}, {0}};
    double *seconds = swm_allocate(error, 2 * (size_t)rounds, sizeof *seconds);
    if (seconds == NULL) return -1;
    signal(SIGPIPE, SIG_IGN);
    int result = start(&sides[0], 'A', a, error);
    if (result == 0) result = start(&sides[1], 'B', b, error);
    for (int side = 0; side < 2 && result == 0; side++) result = await_ready(&sides[side], error);
    for (int stage = 0; stage < BENCH_STAGE_COUNT && result == 0; stage++)
        if ((stages >> stage & 1) != 0) result = race(sides, (bench_stage)stage, rounds, seconds, rows, error);
    for (int side = 0; side < 2; side++) finish(&sides[side]);
    free(seconds);
    return result;
}

void bench_print_comparison(const bench_rows *rows)
{
    printf("%-14s %11s %11s %8s   %s\n", "stage", "A", "B", "A / B", "best to worst of A, of B");
    for (size_t i = 0; i + 1 < rows->count; i += 2) {
        const bench_time *a = &rows->rows[i].time, *b = &rows->rows[i + 1].time;
        printf("%-14s %8.2f ms %8.2f ms %8.3f   %.2f to %.2f ms, %.2f to %.2f ms\n", rows->rows[i].name,
               a->median * 1e3, b->median * 1e3, a->median / b->median, a->best * 1e3, a->worst * 1e3, b->best * 1e3,
               b->worst * 1e3);
    }
    puts("\nmedians of passes that take turns; A / B above 1: B is faster");
}
