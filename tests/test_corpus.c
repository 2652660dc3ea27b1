/* Every fuzz target on every file of its corpus: seeds and cases that once failed. The table is made by the Makefile from
 * the files in tests/fuzz. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/file.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

typedef int (*fuzz_target)(const uint8_t *data, size_t size);
typedef struct named_target {
    const char *name;
    fuzz_target run;
} named_target;

/* In the file that the Makefile writes. */
extern const named_target swm_fuzz_targets[];
extern const int swm_fuzz_target_count;

static void run_target(void **state)
{
    const named_target *target = *state;
    char path[512];
    snprintf(path, sizeof path, "tests/fuzz/corpus/%s", target->name);
    DIR *listing = opendir(path);
    assert_non_null(listing);
    int files = 0;
    for (struct dirent *entry; (entry = readdir(listing)) != NULL;) {
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "tests/fuzz/corpus/%s/%s", target->name, entry->d_name);
        size_t size;
        swm_error error = {0};
        char *data = swm_file_read(path, 1 << 24, &size, &error);
        assert_string_equal(error.text, "");
        /* An exact allocation, so that a read past the end is seen. */
        uint8_t *copy = swm_allocate(&error, size, 1);
        assert_non_null(copy);
        for (size_t i = 0; i < size; i++) copy[i] = (uint8_t)data[i];
        assert_int_equal(target->run(copy, size), 0);
        free(copy);
        free(data);
        files++;
    }
    closedir(listing);
    assert_true(files > 0);
}

int test_corpus(void);
int test_corpus(void)
{
    struct CMUnitTest tests[64];
    assert_true(swm_fuzz_target_count <= 64);
    for (int i = 0; i < swm_fuzz_target_count; i++)
        tests[i] = (struct CMUnitTest){swm_fuzz_targets[i].name, run_target, NULL, NULL,
                                       (void *)(uintptr_t)&swm_fuzz_targets[i]};
    return _cmocka_run_group_tests("corpus", tests, (size_t)swm_fuzz_target_count, NULL, NULL);
}
