/* Two builds or two settings that take turns: each is a process that stays loaded. */
#ifndef BENCH_COMPARE_H
#define BENCH_COMPARE_H

#include "report.h"

/* The command lines, NULL-terminated, of two programs that answer stage names on their input with seconds on their output
 * (bench_serve) after a line "ready". Every stage is warmed up once, then timed A B A B ... `rounds` times. A row of kind
 * "a" and one of kind "b" a stage. Ignores SIGPIPE from here on. */
int bench_compare(char *const *a, char *const *b, unsigned stages, int rounds, bench_rows *rows, swm_error *error);
/* Medians, their ratio and the spread. */
void bench_print_comparison(const bench_rows *rows);

#endif
