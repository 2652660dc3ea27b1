/* Results as text, JSON and CSV. One row form for everything that is measured. */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include <cjson/cJSON.h>

#include "stages.h"

/* kind: "stage"; "op", a row of a stage's profile, whose calls are those of a pass and whose time is all of them; "a" and
 * "b", the sides of a comparison; "start", seconds since the start of the process; "clip", a part of a clip's budget, one
 * of `calls` equal ones. */
typedef struct bench_row {
    const char *kind;
    char name[160];
    int64_t calls;
    bench_time time;
    double floor; /* seconds; 0: not known */
} bench_row;

typedef struct bench_rows {
    bench_row *rows;
    size_t count, capacity;
} bench_rows;
/* Copies the row. */
int bench_rows_add(bench_rows *rows, bench_row row, swm_error *error);
void bench_rows_free(bench_rows *rows);

/* A row whose times are all `seconds`. */
bench_row bench_row_of(const char *kind, const char *name, int64_t calls, double seconds);

void bench_print_stages(const bench_rows *rows);
/* The `most` longest rows of kind "op" that belong to a stage, with their shares. */
void bench_print_ops(const bench_rows *rows, const char *stage, int most);
cJSON *bench_describe(const bench_rows *rows); /* an array; NULL: no memory */

/* What stands in every line of a CSV file beside the measurement. */
typedef struct bench_context {
    const char *device, *command;
    int64_t frames;
    int width, height;
} bench_context;
/* Could rows be appended there? To be asked before an hour of measuring. */
int bench_check_csv(const char *path, swm_error *error);
/* Append to a file, with a heading if it is new. A file with another heading is refused. */
int bench_append_csv(const char *path, const bench_context *context, const bench_rows *rows, swm_error *error);

/* Of the tree that the program was built from, "+" behind it when it had changes; "" when unknown. */
extern const char bench_commit[];

#endif
