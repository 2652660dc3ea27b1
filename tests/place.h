/* A directory of a group's own below /tmp: set up before the group, and gone behind it. What a test puts there it removes;
 * the group fails when something was left. */
#ifndef SWM_TEST_PLACE_H
#define SWM_TEST_PLACE_H

/* For cmocka_run_group_tests_name. */
int place_open(void **state);
int place_close(void **state);

const char *place_directory(void);
/* A path in it; good until the next call. */
const char *place_path(const char *name);

#endif
