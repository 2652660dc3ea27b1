/* Implements tests/golden.h: opening files, telling their kinds, running, comparing and printing. */
#include "golden.h"

#include "core/file.h"
#include "tolerance.h"

#include <dirent.h>
#include <fnmatch.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* ---- kinds -------------------------------------------------------------------------------------------------------- */

static bool is_bf16_reference(const golden *g) { return golden_has(g, "dit_bidirectional.out"); }

static int run_bf16_reference(golden *g);
static const golden_kind bf16_reference = {"bf16_reference", is_bf16_reference, run_bf16_reference};

/* The first that recognises a file has it. */
static const golden_kind *const kinds[] = {
    &golden_kind_dit_streaming,
    &golden_kind_dit_chunk_causal,
    &golden_kind_dit,
    &golden_kind_vae,
    &golden_kind_gemma3,
    &golden_kind_gemma2,
    &golden_kind_camera,
    &golden_kind_sampler,
    &golden_kind_rng_cuda,
    &golden_kind_pipeline,
    &golden_kind_toyworld,
    &golden_kind_refiner,
    &bf16_reference,
};

static const golden_kind *kind_of(const golden *g)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (kinds[i]->recognises(g)) return kinds[i];
    return NULL;
}

/* ---- reading ------------------------------------------------------------------------------------------------------ */

void *golden_allocate(golden *g, int64_t count, size_t size)
{
    void *memory = swm_allocate(&g->error, (size_t)count, size);
    void **grown = memory != NULL ? realloc(g->memory, (g->memory_count + 1) * sizeof *grown) : NULL;
    if (grown == NULL) {
        swm_fail(&g->error, "out of memory");
        free(memory);
        return NULL;
    }
    g->memory = grown;
    return g->memory[g->memory_count++] = memory;
}

enum { NAME = 160 };
#define FORMAT_NAME(name, format)                                                                                      \
    do {                                                                                                               \
        va_list arguments;                                                                                             \
        va_start(arguments, format);                                                                                   \
        vsnprintf(name, sizeof name, format, arguments);                                                               \
        va_end(arguments);                                                                                             \
    } while (0)

bool golden_has(const golden *g, const char *name_format, ...)
{
    char name[NAME];
    FORMAT_NAME(name, name_format);
    return swm_safetensors_find(g->tensors, name) != NULL;
}

static const swm_tensor *need(golden *g, int rank, const char *name)
{
    const swm_tensor *t = swm_safetensors_find(g->tensors, name);
    if (t == NULL) {
        swm_fail(&g->error, "%s: has no tensor %s", g->path, name);
        return NULL;
    }
    if (rank >= 0 && t->rank != rank) {
        swm_fail(&g->error, "%s: tensor %s has shape %s, expected %d dimensions", g->path, name, swm_describe(*t).text,
                 rank);
        return NULL;
    }
    return t;
}

const swm_tensor *golden_need(golden *g, int rank, const char *name_format, ...)
{
    char name[NAME];
    FORMAT_NAME(name, name_format);
    return need(g, rank, name);
}

static float *read_floats(golden *g, const swm_tensor *t)
{
    float *values = t != NULL ? golden_floats(g, swm_count(*t)) : NULL;
    if (values != NULL) swm_to_f32(values, t->data, t->dtype, (size_t)swm_count(*t));
    return values;
}

float *golden_read(golden *g, const char *name_format, ...)
{
    char name[NAME];
    FORMAT_NAME(name, name_format);
    return read_floats(g, need(g, -1, name));
}

/* (rows,columns) -> (columns,rows) */
static void transpose(float *out, const float *in, int64_t rows, int64_t columns)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) out[j * rows + i] = in[i * columns + j];
}

void golden_channels_first(float *out, const float *in, int64_t positions, int64_t channels)
{
    transpose(out, in, positions, channels);
}

/* The channels of a tensor (1,C,...), with a failure for other shapes. */
static int64_t channels_of(golden *g, const char *name, const swm_tensor *t)
{
    if (t->rank >= 2 && t->shape[0] == 1 && t->shape[1] > 0) return t->shape[1];
    swm_fail(&g->error, "%s: tensor %s has shape %s, expected (1,C,...)", g->path, name, swm_describe(*t).text);
    return 0;
}

float *golden_read_channels_last(golden *g, const char *name)
{
    const swm_tensor *t = need(g, -1, name);
    int64_t channels = t != NULL ? channels_of(g, name, t) : 0;
    float *values = channels > 0 ? read_floats(g, t) : NULL;
    float *out = values != NULL ? golden_floats(g, swm_count(*t)) : NULL;
    if (out != NULL) transpose(out, values, channels, swm_count(*t) / channels);
    return out;
}

/* ---- comparing ---------------------------------------------------------------------------------------------------- */

static void print_line(const golden *g, const char *tensor, const swm_distance *distance, const char *bound,
                       const char *verdict)
{
    FILE *out = g->options->lines;
    if (out == NULL) return;
    fprintf(out, "%-36s %-32s ", g->name, tensor);
    if (distance != NULL)
        fprintf(out, "%9.2e %9.2e", distance->relative, distance->largest);
    else
        fprintf(out, "%9s %9s", "-", "-");
    fprintf(out, "  %-12s %s\n", bound, verdict);
}

static void out_of_bounds(golden *g, const char *name, const swm_distance *distance, const char *bound,
                          const char *what)
{
    g->totals->outside++;
    print_line(g, name, distance, bound, what);
    if (distance != NULL)
        swm_fail(&g->totals->complaint, "%s: %s is out of bounds: relative %.3g, largest %.3g, psnr %.1f, bound %s",
                 g->path, name, distance->relative, distance->largest, distance->decibels, bound);
    else
        swm_fail(&g->totals->complaint, "%s: %s: %s", g->path, name, what);
}

void golden_compare_values(golden *g, const char *name, swm_dtype stored, const float *got, const float *want,
                           int64_t count)
{
    const cJSON *limits = g->options->limits, *limit = cJSON_GetObjectItemCaseSensitive(limits, name);
    if (limits != NULL && !cJSON_IsNumber(limit)) return;
    const double far = limit != NULL ? 1.5 * limit->valuedouble : 0;
    const swm_tolerance own = {.measure = SWM_RELATIVE, .f32 = far, .bf16 = far};
    const swm_tolerance *tolerance = limit != NULL ? &own : swm_tolerance_find(g->kind, name, stored);
    const swm_bound_text text = swm_tolerance_text(tolerance, g->options->compute);
    const char *bound = text.text;
    swm_distance distance = swm_distance_of(got, want, count);
    if (!swm_tolerance_holds(tolerance, g->options->compute, &distance)) {
        out_of_bounds(g, name, &distance, bound, "OUT OF BOUNDS");
        return;
    }
    g->totals->within++;
    print_line(g, name, &distance, bound, "ok");
}

/* The golden behind a result of `count` elements, as floats; NULL after a line about what is wrong. */
static float *expected(golden *g, const char *name, int64_t count, const swm_tensor **tensor)
{
    const swm_tensor *t = *tensor = swm_safetensors_find(g->tensors, name);
    char what[128] = "";
    if (t == NULL)
        snprintf(what, sizeof what, "NOT IN THE FILE");
    else if (swm_count(*t) != count)
        snprintf(what, sizeof what, "HAS %lld ELEMENTS, WE MADE %lld", (long long)swm_count(*t), (long long)count);
    if (what[0] == '\0') return read_floats(g, t);
    out_of_bounds(g, name, NULL, "", what);
    return NULL;
}

void golden_compare(golden *g, const char *name, const float *got, int64_t count)
{
    const swm_tensor *t;
    const float *want = expected(g, name, count, &t);
    if (want != NULL) golden_compare_values(g, name, t->dtype, got, want, count);
}

void golden_compare_channels_last(golden *g, const char *name, const float *got, int64_t count)
{
    const swm_tensor *t;
    const float *want = expected(g, name, count, &t);
    int64_t channels = want != NULL ? channels_of(g, name, t) : 0;
    float *turned = channels > 0 ? golden_floats(g, count) : NULL;
    if (turned == NULL) return;
    transpose(turned, got, count / channels, channels);
    golden_compare_values(g, name, t->dtype, turned, want, count);
}

/* ---- intermediates ------------------------------------------------------------------------------------------------ */

int golden_trace_prepare(golden_trace *trace, golden *g, const char *prefix)
{
    trace->g = g;
    trace->prefix = prefix;
    trace->tensor_count = 0;
    char head[NAME];
    snprintf(head, sizeof head, "%sact.", prefix);
    for (size_t i = 0; i < swm_safetensors_count(g->tensors); i++) {
        const char *name;
        const swm_tensor *t = swm_safetensors_at(g->tensors, i, &name);
        if (strncmp(name, head, strlen(head)) != 0) continue;
        if (trace->tensor_count == sizeof trace->tensors / sizeof *trace->tensors || strlen(name) >= NAME)
            return swm_fail(&g->error, "%s: has more or longer names of intermediates than expected", g->path);
        struct golden_traced *traced = &trace->tensors[trace->tensor_count++];
        snprintf(traced->name, sizeof traced->name, "%s", name);
        traced->count = 0;
        traced->capacity = swm_count(*t);
        traced->values = golden_floats(g, traced->capacity);
        if (traced->values == NULL) return -1;
    }
    return 0;
}

static struct golden_traced *find_traced(golden_trace *trace, const char *name)
{
    size_t length = strlen(trace->prefix) + strlen("act.");
    for (int i = 0; i < trace->tensor_count; i++)
        if (strcmp(trace->tensors[i].name + length, name) == 0) return &trace->tensors[i];
    return NULL;
}

void golden_trace_function(void *user, swm_backend *b, const char *name, swm_tensor value)
{
    golden_trace *trace = user;
    struct golden_traced *traced = find_traced(trace, name);
    if (traced == NULL) return;
    int64_t count = swm_count(value), first = traced->count;
    traced->count += count;
    if (traced->count > traced->capacity) return; /* reported when compared */
    float *values = malloc((size_t)count * sizeof *values);
    if (values == NULL) return;
    swm_download(b, values, value);
    if (value.rank == 4)
        transpose(traced->values + first, values, count / swm_last(value), swm_last(value));
    else
        memcpy(traced->values + first, values, (size_t)count * sizeof *values);
    free(values);
}

void golden_trace_compare(golden_trace *trace)
{
    for (int i = 0; i < trace->tensor_count; i++) {
        struct golden_traced *traced = &trace->tensors[i];
        golden_compare(trace->g, traced->name, traced->values, traced->count);
    }
}

/* ---- running as planned ------------------------------------------------------------------------------------------- */

swm_backend *golden_open_device(const golden_options *options, swm_error *error)
{
    if (strcmp(options->device, "cuda") == 0) return swm_backend_open_cuda(options->compute, 0, error);
    if (strcmp(options->device, "cpu") != 0) {
        swm_fail(error, "device \"%s\" is unknown; cpu and cuda are known", options->device);
        return NULL;
    }
    if (options->compute != SWM_F32) {
        swm_fail(error, "the cpu computes in f32 only, not in %s", swm_dtype_name(options->compute));
        return NULL;
    }
    return swm_backend_open_cpu(options->threads, error);
}

static int plan_peak(const golden_options *options, golden_job job, void *user, size_t *peak, swm_error *error)
{
    swm_backend *plan = swm_backend_open_plan(options->compute, error);
    if (plan == NULL) return -1;
    int result = job(user, plan, error);
    if (result == 0 && plan->scratch.used != 0) result = swm_fail(error, "the job left the arena of its plan in use");
    *peak = plan->scratch.peak;
    swm_backend_close(plan);
    return result;
}

int golden_run_planned(const golden_options *options, golden_job job, void *user, swm_trace_function trace,
                       void *trace_user, swm_error *error)
{
    size_t peak = 0;
    if (plan_peak(options, job, user, &peak, error) != 0) return -1;
    swm_backend *b = golden_open_device(options, error);
    if (b == NULL) return -1;
    b->trace = trace;
    b->trace_user = trace_user;
    int result = swm_backend_reserve(b, peak, error);
    if (result == 0) result = job(user, b, error);
    if (result == 0) result = swm_backend_check(b, error);
    if (result == 0 && b->scratch.peak != peak)
        result = swm_fail(error, "the %s backend took %zu bytes at its peak where %zu were planned", b->name,
                          b->scratch.peak, peak);
    swm_backend_close(b);
    return result;
}

/* ---- files -------------------------------------------------------------------------------------------------------- */

static int open_file(golden *g)
{
    const char *slash = strrchr(g->path, '/');
    g->name = slash != NULL ? slash + 1 : g->path;
    g->directory =
        swm_format(&g->error, "%.*s", slash != NULL ? (int)(slash - g->path) : 1, slash != NULL ? g->path : ".");
    g->tensors = g->directory != NULL ? swm_safetensors_open(g->path, &g->error) : NULL;
    if (g->tensors == NULL) return -1;
    const char *config = swm_safetensors_metadata(g->tensors, "config");
    if (config == NULL) return 0;
    g->object = swm_json_parse(g->path, config, strlen(config), &g->error);
    return g->object != NULL ? swm_json_root(&g->config, g->path, g->object, &g->error) : -1;
}

static void close_file(golden *g)
{
    for (size_t i = 0; i < g->memory_count; i++) free(g->memory[i]);
    free(g->memory);
    cJSON_Delete(g->object);
    swm_safetensors_close(g->tensors);
    free(g->directory);
}

static int run_file(golden *g)
{
    if (open_file(g) != 0) return -1;
    const golden_kind *kind = kind_of(g);
    if (kind == NULL) return swm_fail(&g->error, "%s: is no kind of golden file that is known here", g->path);
    g->kind = kind->name;
    return kind->run(g);
}

void golden_check_file(const char *path, const golden_options *options, golden_totals *totals)
{
    golden g = {.path = path, .options = options, .totals = totals};
    if (run_file(&g) != 0 || swm_failed(&g.error)) {
        totals->failed++;
        swm_fail(&totals->complaint, "%s", g.error.text);
        print_line(&g, "*", NULL, "", "NOT RUN");
        if (options->lines != NULL) fprintf(options->lines, "    %s\n", g.error.text);
    }
    close_file(&g);
}

static int is_golden(const struct dirent *entry) { return fnmatch("*.safetensors", entry->d_name, FNM_PERIOD) == 0; }

/* How far the reference is from its own float32 run when it computes in bf16, file by file: the rounding of each of its
 * steps. Ours, which rounds elsewhere, may be half as far again. */
static int run_bf16_reference(golden *g)
{
    if (g->options->limits != NULL) return swm_fail(&g->error, "%s: names itself", g->path);
    const cJSON *limits;
    cJSON_ArrayForEach(limits, g->object)
    {
        if (g->options->compute != SWM_BF16) {
            print_line(g, limits->string, NULL, "", "not applicable");
            continue;
        }
        golden_options options = *g->options;
        options.limits = limits;
        int before = g->totals->within + g->totals->outside;
        char *path = swm_format(&g->error, "%s/%s.safetensors", g->directory, limits->string);
        if (path == NULL) return -1;
        golden_check_file(path, &options, g->totals);
        free(path);
        if (g->totals->within + g->totals->outside - before != cJSON_GetArraySize(limits))
            return swm_fail(&g->error, "%s: names other tensors than %s has", g->path, limits->string);
    }
    return 0;
}

void golden_check_directory(const char *directory, const golden_options *options, golden_totals *totals)
{
    struct dirent **entries;
    int count = scandir(directory, &entries, is_golden, alphasort);
    if (count <= 0) {
        totals->failed++;
        swm_fail(&totals->complaint, "%s: %s", directory, count < 0 ? "cannot be listed" : "has no .safetensors files");
        if (count == 0) free(entries);
        return;
    }
    for (int i = 0; i < count; i++) {
        char *path = swm_path_join(&totals->complaint, directory, entries[i]->d_name);
        if (path != NULL)
            golden_check_file(path, options, totals);
        else
            totals->failed++;
        free(path);
        free(entries[i]);
    }
    free(entries);
}

bool golden_passed(const golden_totals *totals) { return totals->outside == 0 && totals->failed == 0; }
