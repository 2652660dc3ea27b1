/* The program under test: the built sanawm beside the test runner, run in a directory of its own, and what it said. */
#ifndef CLI_FIXTURE_H
#define CLI_FIXTURE_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/file.h"
#include "io/json.h"
#include "io/npy.h"
#include "io/video.h"

enum { MOST_ARGUMENTS = 40, PATIENCE = 60 };

static const char scene[] = "models/toyworld/demo/scene0.png";
static const char tiny[] = "tests/golden/tiny_random_model";

/* ---- running ----------------------------------------------------------------------------------------------------- */

/* Where the test runs: `root` is the repository, `program` the built sanawm, `place` a fresh directory. */
typedef struct fixture {
    char root[PATH_MAX], program[PATH_MAX], place[64];
    char *out, *err; /* of the last run */
} fixture;

static inline char *absolute(const fixture *f, const char *path)
{
    char *joined = swm_path_join(NULL, f->root, path);
    assert_non_null(joined);
    return joined;
}

static inline int setup(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    assert_non_null(getcwd(f->root, sizeof f->root));
    const ssize_t length = readlink("/proc/self/exe", f->program, sizeof f->program - 16);
    assert_true(length > 0);
    strcpy(strrchr(f->program, '/'), "/sanawm");
    if (access(f->program, X_OK) != 0) fail_msg("%s: build the program first", f->program);
    strcpy(f->place, "/tmp/sanawm-cli-XXXXXX");
    assert_non_null(mkdtemp(f->place));
    *state = f;
    return 0;
}

static inline int remove_entry(const char *path, const struct stat *status, int type, struct FTW *where)
{
    (void)status, (void)type, (void)where;
    return remove(path);
}

static inline int teardown(void **state)
{
    fixture *f = *state;
    nftw(f->place, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    free(f->out);
    free(f->err);
    free(f);
    return 0;
}

static inline int count_entry(const char *path, const struct stat *status, int type, struct FTW *where)
{
    (void)status, (void)type;
    if (where->level == 1 && strstr(path, "/std") == NULL) fail_msg("%s was left behind", path);
    return 0;
}

static inline void assert_place_is_empty(const fixture *f)
{
    assert_int_equal(nftw(f->place, count_entry, 8, FTW_PHYS), 0);
}

/* Start the program in the fixture's place with these arguments, the last of which is NULL; terminal < 0: none. */
static inline pid_t start(fixture *f, const char *const *arguments, int terminal)
{
    char *argv[MOST_ARGUMENTS + 2] = {f->program};
    for (int i = 0; arguments[i] != NULL; i++) {
        assert_true(i < MOST_ARGUMENTS);
        argv[i + 1] = (char *)(uintptr_t)arguments[i];
    }
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child > 0) return child;
    if (chdir(f->place) != 0) _exit(99);
    const int out = open("stdout", O_WRONLY | O_CREAT | O_TRUNC, 0600);
    const int err = terminal >= 0 ? terminal : open("stderr", O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (dup2(out, 1) < 0 || dup2(err, 2) < 0) _exit(99);
    if (terminal >= 0) setenv("TERM", "xterm-kitty", 1);
    execv(f->program, argv);
    _exit(99);
}

static inline char *slurp(const fixture *f, const char *name)
{
    char *path = swm_path_join(NULL, f->place, name);
    char *text = swm_file_read(path, (size_t)1 << 24, NULL, NULL);
    free(path);
    return text;
}

static inline int finish(fixture *f, pid_t child)
{
    int status = 0;
    pid_t done = 0;
    for (int tick = 0; tick < PATIENCE * 100 && done == 0; tick++) {
        done = waitpid(child, &status, WNOHANG);
        if (done == 0) usleep(10000);
    }
    if (done == 0) {
        kill(child, SIGKILL);
        waitpid(child, &status, 0);
        fail_msg("the program did not end within %d s", PATIENCE);
    }
    free(f->out);
    free(f->err);
    f->out = slurp(f, "stdout");
    f->err = slurp(f, "stderr");
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static inline int run(fixture *f, const char *const *arguments) { return finish(f, start(f, arguments, -1)); }
#define RUN(f, ...) run(f, (const char *const[]){__VA_ARGS__, NULL})

/* The line of standard error that says why: the only one, and it holds the fragment. */
static inline void assert_one_line(const fixture *f, const char *fragment)
{
    const size_t length = strlen(f->err);
    const char *newline = strchr(f->err, '\n');
    if (strncmp(f->err, "sanawm: ", 8) != 0 || newline != f->err + length - 1 || strstr(f->err, fragment) == NULL)
        fail_msg("one line with \"%s\" was expected, found: %s", fragment, f->err);
}

static inline void assert_holds(const char *text, const char *fragment)
{
    if (text == NULL || strstr(text, fragment) == NULL)
        fail_msg("no \"%s\" in: %s", fragment, text != NULL ? text : "");
}

static inline cJSON *parse_output(const fixture *f)
{
    swm_error error = {0};
    cJSON *tree = swm_json_parse("standard output", f->out, strlen(f->out), &error);
    if (tree == NULL) fail_msg("%s", error.text);
    return tree;
}

static inline double number(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!cJSON_IsNumber(item)) fail_msg("no number %s", key);
    return item->valuedouble;
}

static inline void write_place(const fixture *f, const char *name, const void *data, size_t size)
{
    swm_error error = {0};
    char *path = swm_path_join(NULL, f->place, name);
    if (swm_file_write(path, data, size, &error) != 0) fail_msg("%s", error.text);
    free(path);
}

/* The tiny model at its smallest, with further arguments behind. One thread: waiting ones would slow a busy machine. */
static inline int generate(fixture *f, const char *const *more, pid_t *started)
{
    const char *arguments[MOST_ARGUMENTS + 1] = {"generate", "--size", "96x64", "--threads", "1", "--model"};
    char *model = absolute(f, tiny);
    int count = 6;
    arguments[count++] = model;
    while (*more != NULL && count < MOST_ARGUMENTS) arguments[count++] = *more++;
    arguments[count] = NULL;
    const pid_t child = start(f, arguments, -1);
    free(model);
    if (started != NULL) *started = child;
    return started != NULL ? 0 : finish(f, child);
}
#define GENERATE(f, ...) generate(f, (const char *const[]){__VA_ARGS__, NULL}, NULL)

static inline void forget(const fixture *f, const char *name)
{
    char *path = swm_path_join(NULL, f->place, name);
    assert_int_equal(remove(path), 0);
    free(path);
}

#endif
