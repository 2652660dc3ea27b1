/* The golden comparer: runs our code on the inputs of a reference file and measures every result against the file's.
 *
 * A golden file is a safetensors file of in.*, act.* (intermediates, under the names of swm_trace), out.* and
 * weight.<name>, with a JSON object of sizes under the metadata key "config". What kind of file it is shows in its
 * content, so files of other shapes and seeds work under any name. Owned here: reading, running, comparing, one line a
 * tensor. How far is too far, tests/tolerance.h says. The kinds themselves are in golden_<model>.c. */
#ifndef SWM_GOLDEN_H
#define SWM_GOLDEN_H

#include "core/backend.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "io/weights.h"

#include <stdio.h>
#include <string.h>

typedef struct golden_options {
    const char *device; /* "cpu" */
    swm_dtype compute;
    int threads; /* of the CPU; 0: all */
    FILE *lines; /* one a tensor; NULL: silent */
    /* Of files with several results on one network (vae, streaming), the one of this tensor; NULL: all. For sanitizers,
     * which take minutes for each. */
    const char *only;
    /* {tensor: relative distance}: what is compared, and with bounds of 1.5 times that; NULL: all, by the table. */
    const cJSON *limits;
} golden_options;

/* What came of files. `complaint` is about the first thing that went wrong. */
typedef struct golden_totals {
    int within, outside; /* tensors */
    int failed;          /* files that could not be run */
    swm_error complaint;
} golden_totals;

/* Compare one file, or all of a directory (not of its subdirectories). Adds to *totals. */
void golden_check_file(const char *path, const golden_options *options, golden_totals *totals);
void golden_check_directory(const char *directory, const golden_options *options, golden_totals *totals);
/* Nothing was out of bounds, and every file could be run. */
bool golden_passed(const golden_totals *totals);

/* ---- running as planned ------------------------------------------------------------------------------------------- */

/* Everything between an empty arena and an empty arena. It runs twice: under the plan backend, where downloads leave
 * their memory as it is, and then on the device. */
typedef int (*golden_job)(void *user, swm_backend *b, swm_error *error);
/* Size the arena to the peak of a plan, run, and insist that the peak was just that. `trace` may be NULL. */
int golden_run_planned(const golden_options *options, golden_job job, void *user, swm_trace_function trace,
                       void *trace_user, swm_error *error);
swm_backend *golden_open_device(const golden_options *options, swm_error *error);

/* Whether the options ask for the result `out`. */
static inline bool golden_wanted(const golden_options *options, const char *out)
{
    return options->only == NULL || strcmp(options->only, out) == 0;
}

/* ---- for the kinds ------------------------------------------------------------------------------------------------ */

/* One file in work. */
typedef struct golden {
    const char *path, *name, *kind; /* name: the path's last part, for lines */
    char *directory;
    swm_safetensors *tensors;
    cJSON *object;
    swm_json config; /* of the metadata; object NULL without one */
    const golden_options *options;
    golden_totals *totals;
    swm_error error;
    void **memory; /* freed with the file */
    size_t memory_count;
} golden;

typedef struct golden_kind {
    const char *name;
    bool (*recognises)(const golden *g);
    int (*run)(golden *g);
} golden_kind;

extern const golden_kind golden_kind_camera, golden_kind_sampler, golden_kind_rng_cuda, golden_kind_dit,
    golden_kind_dit_chunk_causal, golden_kind_dit_streaming, golden_kind_vae, golden_kind_gemma2, golden_kind_gemma3,
    golden_kind_pipeline, golden_kind_toyworld, golden_kind_refiner;

/* The text's part of a refiner file: packing, connectors. */
int golden_compare_connectors(golden *g);

/* Zeroed memory that lives as long as the file is in work; NULL with g->error set. */
void *golden_allocate(golden *g, int64_t count, size_t size);
static inline float *golden_floats(golden *g, int64_t count) { return golden_allocate(g, count, sizeof(float)); }

bool golden_has(const golden *g, const char *name_format, ...) __attribute__((format(printf, 2, 3)));
/* A tensor that must be there and have this rank (-1: any): NULL with g->error set. */
const swm_tensor *golden_need(golden *g, int rank, const char *name_format, ...) __attribute__((format(printf, 3, 4)));
/* Its values as floats in memory of the file. */
float *golden_read(golden *g, const char *name_format, ...) __attribute__((format(printf, 2, 3)));
/* The same of a tensor (1,C,...) as (...,C). */
float *golden_read_channels_last(golden *g, const char *name);
void golden_channels_first(float *out, const float *in, int64_t positions, int64_t channels);

/* Print a line for a result and count it. The golden tensor is `name`; `count` elements are there to compare. */
void golden_compare(golden *g, const char *name, const float *got, int64_t count);
/* A result (...,C) against a golden (1,C,...). */
void golden_compare_channels_last(golden *g, const char *name, const float *got, int64_t count);
/* Against values that are not, or not as they are, a tensor of the file. */
void golden_compare_values(golden *g, const char *name, swm_dtype stored, const float *got, const float *want,
                           int64_t count);

/* Intermediates of a run that the file has under <prefix>act.<name>, appended from one pass to the next. Volumes
 * (T,H,W,C) are kept as (C,T,H,W). */
typedef struct golden_trace {
    golden *g;
    const char *prefix;
    struct golden_traced {
        char name[160]; /* of the golden tensor */
        float *values;
        int64_t capacity, count;
    } tensors[128];
    int tensor_count;
} golden_trace;
int golden_trace_prepare(golden_trace *trace, golden *g, const char *prefix);
void golden_trace_function(void *trace, swm_backend *b, const char *name, swm_tensor value);
void golden_trace_compare(golden_trace *trace);

#endif
