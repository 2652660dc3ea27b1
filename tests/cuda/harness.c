/* The program that tests and times the CUDA ops on a machine with a GPU:
 *     test-cuda [--time [--only TEXT]] [--no-matrix] [--device N]
 * Every op against the CPU backend in F32 and in BF16 mode, one line an op; with --time every op at the release's full
 * size, or those with TEXT in their names. Exit status 1 when an op is out of its bound. */
#include "harness.h"

#include "cuda/cuda.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a large bf16 matrix product and a device copy reach on an H200. */
static const double peak_flops = 790e12, peak_bytes = 4.3e12;

static void die(const swm_error *error)
{
    fprintf(stderr, "test-cuda: %s\n", error->text);
    exit(2);
}

static void stop_on_error(harness *h)
{
    swm_error error = {0};
    if (swm_backend_check(h->gpu, &error) != 0) die(&error);
}

/* ---- random values ----------------------------------------------------------------------------------------------- */

static uint64_t draw(harness *h)
{
    h->random += 0x9E3779B97F4A7C15u;
    uint64_t x = h->random;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

int64_t harness_pick(harness *h, int64_t low, int64_t high)
{
    return low + (int64_t)(draw(h) % (uint64_t)(high - low + 1));
}

float harness_uniform(harness *h) { return (float)((double)(draw(h) >> 40) / (1 << 23) - 1); }

static float *random_floats(harness *h, float low, float high, int64_t count)
{
    swm_error error = {0};
    float *values = swm_allocate(&error, (size_t)count + 1, sizeof *values);
    if (values == NULL) die(&error);
    for (int64_t i = 0; i < count; i++) values[i] = low + (high - low) * 0.5f * (harness_uniform(h) + 1);
    return values;
}

static int64_t count_of(int rank, const int64_t *shape)
{
    return swm_count(swm_tensor_make(SWM_F32, NULL, rank, shape));
}

/* ---- twins ------------------------------------------------------------------------------------------------------- */

void harness_begin(harness *h)
{
    SWM_REQUIRE(h->weight_count == 0 && swm_mark_of(h->gpu) == 0, "a case inside a case");
    h->cases++;
}

void harness_end(harness *h)
{
    if (h->cpu != NULL) swm_release(h->cpu, 0);
    stop_on_error(h);
    swm_release(h->gpu, 0);
    while (h->weight_count > 0) free(h->weights[--h->weight_count]);
}

twin harness_from(harness *h, bool f32, const float *values, int rank, const int64_t *shape)
{
    swm_dtype type = f32 ? SWM_F32 : h->gpu->compute;
    twin t = {swm_upload(h->cpu, SWM_F32, values, rank, shape), swm_upload(h->gpu, type, values, rank, shape)};
    float *rounded = swm_floats(t.cpu);
    if (type == SWM_BF16)
        for (int64_t i = 0; i < swm_count(t.cpu); i++) rounded[i] = swm_bf16_to_f32(swm_f32_to_bf16(rounded[i]));
    return t;
}

twin harness_values(harness *h, bool f32, float low, float high, int rank, const int64_t *shape)
{
    float *values = random_floats(h, low, high, count_of(rank, shape));
    twin t = harness_from(h, f32, values, rank, shape);
    free(values);
    return t;
}

/* A tensor and its elements in one piece of memory that harness_end frees. */
static swm_tensor *host_weight(harness *h, swm_dtype type, float scale, int rank, const int64_t *shape)
{
    int64_t count = count_of(rank, shape);
    swm_error error = {0};
    swm_tensor *t = swm_allocate(&error, sizeof *t + (size_t)count * swm_dtype_size(type), 1);
    if (t == NULL) die(&error);
    SWM_REQUIRE(h->weight_count < (int)(sizeof h->weights / sizeof *h->weights), "%d weights", h->weight_count);
    h->weights[h->weight_count++] = t;
    *t = swm_tensor_make(type, t + 1, rank, shape);
    float *values = random_floats(h, -scale, scale, count);
    swm_from_f32(t->data, type, values, (size_t)count);
    free(values);
    return t;
}

twin harness_weight(harness *h, float scale, int rank, const int64_t *shape)
{
    static const swm_dtype types[] = {SWM_F32, SWM_BF16, SWM_F16};
    swm_tensor *t = host_weight(h, types[harness_pick(h, 0, 2)], scale, rank, shape);
    /* What the CPU sees has been rounded as the GPU's copy has. */
    swm_tensor cpu = swm_take(h->cpu, SWM_F32, rank, shape);
    float *rounded = swm_floats(cpu);
    swm_to_f32(rounded, t->data, t->dtype, (size_t)swm_count(*t));
    if (h->gpu->compute == SWM_BF16)
        for (int64_t i = 0; i < swm_count(cpu); i++) rounded[i] = swm_bf16_to_f32(swm_f32_to_bf16(rounded[i]));
    const swm_tensor *gpu = swm_weights_use(h->gpu, t, sizeof *t);
    stop_on_error(h);
    return (twin){cpu, *gpu};
}

/* ---- comparison -------------------------------------------------------------------------------------------------- */

static float *floats_of(harness *h, swm_backend *b, swm_tensor t)
{
    swm_error error = {0};
    int64_t count = swm_count(t);
    float *values = swm_allocate(&error, (size_t)count + 1, sizeof *values);
    if (values == NULL) die(&error);
    if (t.dtype == SWM_U8) {
        uint8_t *bytes = (uint8_t *)values;
        swm_download_bytes(b, bytes, t);
        for (int64_t i = count - 1; i >= 0; i--) values[i] = bytes[i];
    } else {
        swm_download(b, values, t);
    }
    stop_on_error(h);
    return values;
}

void harness_check(harness *h, twin result, const char *format, ...)
{
    SWM_REQUIRE(swm_count(result.cpu) == swm_count(result.gpu), "%s and %s", swm_describe(result.cpu).text,
                swm_describe(result.gpu).text);
    float *want = floats_of(h, h->cpu, result.cpu), *got = floats_of(h, h->gpu, result.gpu);
    double squares = 0, norm = 0;
    for (int64_t i = 0; i < swm_count(result.cpu); i++) {
        double difference = (double)got[i] - (double)want[i];
        squares += difference * difference;
        norm += (double)want[i] * (double)want[i];
    }
    double distance = norm > 0 ? sqrt(squares / norm) : sqrt(squares);
    if (!isfinite(distance)) distance = INFINITY;
    if (distance >= h->worst) {
        h->worst = distance;
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(h->where, sizeof h->where, format, arguments);
        va_end(arguments);
    }
    free(want);
    free(got);
}

void harness_check_repeated(harness *h, swm_tensor first, swm_tensor second, const char *op)
{
    float *a = floats_of(h, h->gpu, first), *b = floats_of(h, h->gpu, second);
    if (memcmp(a, b, (size_t)swm_count(first) * sizeof *a) != 0) {
        h->worst = INFINITY;
        snprintf(h->where, sizeof h->where, "%s run twice: other bits", op);
    }
    free(a);
    free(b);
}

void harness_report(harness *h, const char *op, double f32, double bf16)
{
    double bound = h->gpu->compute == SWM_BF16 ? bf16 : f32;
    bool holds = h->worst <= bound;
    printf("%-5s %-18s %4d cases  worst %.1e  bound %.0e  %s  %s\n", swm_dtype_name(h->gpu->compute), op, h->cases,
           h->worst, bound, holds ? "ok  " : "FAIL", h->where);
    fflush(stdout);
    h->failures += !holds;
    h->reports++;
    h->cases = 0;
    h->worst = 0;
    h->where[0] = '\0';
}

/* ---- timing ------------------------------------------------------------------------------------------------------ */

swm_tensor harness_large(harness *h, bool f32, float low, float high, int rank, const int64_t *shape)
{
    swm_tensor t = swm_take(h->gpu, f32 ? SWM_F32 : h->gpu->compute, rank, shape);
    int64_t count = swm_count(t), block = swm_min(count, (4 << 20) + 1237); /* no power of two: rows shall differ */
    swm_tensor flat = SWM_RESHAPE(t, count);
    float *values = random_floats(h, low, high, block);
    h->gpu->kernels->upload(h->gpu, swm_rows(flat, 0, block), values);
    free(values);
    for (int64_t done = block; done < count; done += block) {
        int64_t here = swm_min(block, count - done);
        swm_copy(h->gpu, swm_rows(flat, done, here), swm_rows(flat, 0, here));
    }
    return t;
}

swm_tensor harness_large_weight(harness *h, float scale, int rank, const int64_t *shape)
{
    swm_tensor *t = host_weight(h, SWM_BF16, scale, rank, shape);
    swm_tensor placed = *(const swm_tensor *)swm_weights_use(h->gpu, t, sizeof *t);
    stop_on_error(h);
    return placed;
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

void harness_time(harness *h, const char *name, void (*run)(harness *h, const void *user), const void *user)
{
    enum { WARM = 3, TIMED = 9 };
    if (strstr(name, h->only) == NULL) return;
    swm_backend *b = h->gpu;
    cudaStream_t stream = swm_cuda_device_of(b)->stream;
    cudaEvent_t start, stop;
    float times[TIMED];
    swm_work before = {0};
    if (cudaEventCreate(&start) != cudaSuccess || cudaEventCreate(&stop) != cudaSuccess) exit(2);
    for (int i = 0; i < WARM + TIMED; i++) {
        swm_mark mark = swm_mark_of(b);
        before = b->work;
        cudaEventRecord(start, stream);
        run(h, user);
        cudaEventRecord(stop, stream);
        swm_release(b, mark);
        stop_on_error(h);
        if (i >= WARM) cudaEventElapsedTime(&times[i - WARM], start, stop);
    }
    cudaEventDestroy(start);
    cudaEventDestroy(stop);
    qsort(times, TIMED, sizeof *times, by_value);
    double seconds = (double)times[TIMED / 2] * 1e-3;
    double flops = (b->work.flops - before.flops) / seconds, bytes = (b->work.bytes - before.bytes) / seconds;
    printf("%-34s %9.3f ms  %7.1f TFLOP/s %5.1f %%  %7.0f GB/s %5.1f %%\n", name, seconds * 1e3, flops * 1e-12,
           100 * flops / peak_flops, bytes * 1e-9, 100 * bytes / peak_bytes);
    fflush(stdout);
}

/* ---- the program ------------------------------------------------------------------------------------------------- */

/* only: see harness.h; NULL: tests, no times. */
static int run_mode(swm_dtype compute, int device, const char *only, bool matrices)
{
    bool timing = only != NULL;
    swm_error error = {0};
    harness h = {.random = 1, .only = only};
    h.gpu = swm_backend_open_cuda(compute, device, &error);
    if (h.gpu == NULL) die(&error);
    size_t bytes = timing ? (size_t)48 << 30 : (size_t)1 << 30;
    if (swm_backend_reserve(h.gpu, bytes, &error) != 0) die(&error);
    if (timing) {
        cuda_ops_times(&h);
        if (matrices && cuda_matrix_times != NULL) cuda_matrix_times(&h);
    } else {
        h.cpu = swm_backend_open_cpu(0, &error);
        if (h.cpu == NULL || swm_backend_reserve(h.cpu, bytes, &error) != 0) die(&error);
        cuda_ops_tests(&h);
        if (matrices && cuda_matrix_tests != NULL) cuda_matrix_tests(&h);
        cuda_residency_tests(&h);
        swm_backend_close(h.cpu);
    }
    swm_backend_close(h.gpu);
    return h.failures;
}

int main(int count, char **arguments)
{
    bool timing = false, matrices = true;
    const char *only = "";
    int device = 0, failures = 0;
    for (int i = 1; i < count; i++) {
        if (strcmp(arguments[i], "--time") == 0) {
            timing = true;
        } else if (strcmp(arguments[i], "--only") == 0 && i + 1 < count) {
            only = arguments[++i];
        } else if (strcmp(arguments[i], "--no-matrix") == 0) {
            matrices = false;
        } else if (strcmp(arguments[i], "--device") == 0 && i + 1 < count) {
            device = atoi(arguments[++i]);
        } else {
            fprintf(stderr, "usage: test-cuda [--time [--only TEXT]] [--no-matrix] [--device N]\n");
            return 2;
        }
    }
    if (!timing) failures += run_mode(SWM_F32, device, NULL, matrices);
    failures += run_mode(SWM_BF16, device, timing ? only : NULL, matrices);
    if (!timing) printf("%d failed\n", failures);
    return failures > 0;
}
