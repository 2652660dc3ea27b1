/* Where the time of a pass goes: rows of ops with equal shapes, and what the machine could do at best. Owns the watching
 * of a backend's ops and the rates of machines. */
#ifndef BENCH_PROFILE_H
#define BENCH_PROFILE_H

#include "core/backend.h"

/* What some work asks of a machine. */
typedef struct bench_demand {
    double matrix, attention; /* FLOPs of linear layers, convolutions and scans; of softmax attention */
    double bytes;             /* every operand of every op once */
    int64_t operations;
} bench_demand;

/* What a machine gives at best. */
typedef struct bench_rates {
    double matrix, attention; /* FLOP/s */
    double bandwidth;         /* bytes/s */
    bool measured;            /* just now, on this machine; otherwise known or given */
} bench_rates;

/* The time below which the work cannot get: the longer one of its FLOPs and its bytes at full rate. */
double bench_floor(bench_demand demand, bench_rates rates);

/* Rates that are not positive are filled in: from a table of known machines when it computes in BF16, else measured by
 * a large product and a copy, for which the backend's arena must be empty. Attention is taken for as fast as products,
 * where it is not known. */
int bench_rates_find(bench_rates *rates, swm_backend *b, swm_error *error);

typedef struct bench_op {
    char name[128]; /* "linear 106480x2240 -> 6720" */
    int64_t calls;
    double seconds;
    bench_demand demand;
} bench_op;

typedef struct bench_profile {
    swm_backend *backend;
    bench_op *rows;
    size_t count, capacity;
    size_t *calls; /* the row of each, in order */
    size_t call_count, call_capacity;
    swm_work before; /* count of work at the last call */
    double seconds;  /* of the whole, filled in by bench_profile_end */
} bench_profile;

/* Watch the backend's ops from here to bench_profile_end, which waits for the device and sorts the rows, longest first.
 * Under plan times are 0. Failures of memory end up in the backend. */
void bench_profile_begin(bench_profile *profile, swm_backend *b);
void bench_profile_end(bench_profile *profile);
void bench_profile_free(bench_profile *profile);
bench_demand bench_profile_demand(const bench_profile *profile);

#endif
