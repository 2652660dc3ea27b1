/* The test runner: all groups, or those named as arguments; --list prints the names. Exit status 1 when a test fails,
 * and a last line "N passed, M failed". */
#include "groups.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define DECLARE(name) int test_##name(void);
SWM_TEST_GROUPS(DECLARE)

#define ENTRY(name) {#name, test_##name},
static const struct group {
    const char *name;
    int (*run)(void);
} groups[] = {SWM_TEST_GROUPS(ENTRY)};
enum { GROUP_COUNT = sizeof groups / sizeof *groups };

/* cmocka returns failures only. The linker sends its entry through here (--wrap), which sees how many tests there are. */
static size_t tests_seen;
struct CMUnitTest;
typedef int fixture(void **state);
int __real__cmocka_run_group_tests(const char *name, const struct CMUnitTest *tests, size_t count, fixture *set_up,
                                   fixture *tear_down);
int __wrap__cmocka_run_group_tests(const char *name, const struct CMUnitTest *tests, size_t count, fixture *set_up,
                                   fixture *tear_down);
int __wrap__cmocka_run_group_tests(const char *name, const struct CMUnitTest *tests, size_t count, fixture *set_up,
                                   fixture *tear_down)
{
    tests_seen += count;
    return __real__cmocka_run_group_tests(name, tests, count, set_up, tear_down);
}

static const struct group *find(const char *name)
{
    for (int i = 0; i < GROUP_COUNT; i++)
        if (strcmp(groups[i].name, name) == 0) return &groups[i];
    return NULL;
}

/* Failed tests of a group, all of them when its own set-up failed. */
static size_t run(const struct group *group)
{
    size_t before = tests_seen;
    int failures = group->run();
    size_t count = tests_seen - before;
    return failures < 0 || (size_t)failures > count ? count : (size_t)failures;
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0); /* in order with cmocka's stderr */
    if (argc > 1 && strcmp(argv[1], "--list") == 0) {
        for (int i = 0; i < GROUP_COUNT; i++) puts(groups[i].name);
        return 0;
    }
    for (int i = 1; i < argc; i++)
        if (find(argv[i]) == NULL) {
            fprintf(stderr, "no group of tests is named \"%s\"; --list prints the names\n", argv[i]);
            return 2;
        }
    size_t failed = 0;
    for (int i = 0; argc == 1 && i < GROUP_COUNT; i++) failed += run(&groups[i]);
    for (int i = 1; i < argc; i++) failed += run(find(argv[i]));
    printf("%zu passed, %zu failed\n", tests_seen - failed, failed);
    return failed > 0 ? 1 : 0;
}
