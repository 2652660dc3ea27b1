/* Implements tests/place.h. Groups run one after the other, so that one directory serves them all. */
#include "place.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char directory[32];

int place_open(void **state)
{
    (void)state;
    strcpy(directory, "/tmp/swm_test_XXXXXX");
    return mkdtemp(directory) != NULL ? 0 : -1;
}

int place_close(void **state)
{
    (void)state;
    return rmdir(directory);
}

const char *place_directory(void) { return directory; }

const char *place_path(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}
