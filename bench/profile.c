/* Implements profile.h. */
#include "profile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- rates -------------------------------------------------------------------------------------------------------- */

/* Large bf16 products, flash attention at head sizes 112 and 128, and copies, measured. */
static const struct {
    const char *device;
    bench_rates rates;
} known[] = {
    {"NVIDIA H200", {.matrix = 790e12, .attention = 700e12, .bandwidth = 4.3e12}},
};

double bench_floor(bench_demand demand, bench_rates rates)
{
    double compute = demand.matrix / rates.matrix + demand.attention / rates.attention;
    double transfer = demand.bytes / rates.bandwidth;
    return compute > transfer ? compute : transfer;
}

static void fill_even(const void *user, float *values)
{
    const int64_t *count = user;
    uint32_t state = 1;
    for (int64_t i = 0; i < *count; i++) {
        state = state * 1664525u + 1013904223u;
        values[i] = (float)(state >> 8) * 0x1p-24f - 0.5f;
    }
}

/* Best of some products of (rows,n) and (n,n) and of some copies of the larger operand. */
static int measure_rates(bench_rates *rates, swm_backend *b, swm_error *error)
{
    const int64_t n = swm_backend_device(b).memory > 0 ? 4096 : 512, rows = 4 * n, passes = 6;
    size_t element = swm_dtype_size(b->compute);
    if (swm_backend_reserve(b, (size_t)(4 * rows * n + n * n) * element, error) != 0) return -1;
    swm_mark mark = swm_mark_of(b);
    int64_t count = rows * n, weights = n * n;
    swm_tensor x = swm_upload_computed(b, b->compute, fill_even, &count, 2, (int64_t[]){rows, n});
    swm_tensor w = swm_upload_computed(b, b->compute, fill_even, &weights, 2, (int64_t[]){n, n});
    swm_tensor y = SWM_TAKE(b, b->compute, rows, n), from = SWM_TAKE(b, b->compute, 2 * rows, n);
    swm_tensor to = swm_rows(from, rows, rows);
    from = swm_rows(from, 0, rows);
    swm_copy(b, from, x);
    double product = 1e9, copy = 1e9;
    for (int64_t i = 0; i < passes; i++) {
        swm_backend_stamp(b, 0);
        swm_linear_to(b, y, x, w, (swm_tensor){0}, SWM_IDENTITY);
        swm_backend_stamp(b, 1);
        swm_copy(b, to, from);
        swm_backend_stamp(b, 2);
        double first = swm_backend_between(b, 0, 1), second = swm_backend_between(b, 1, 2);
        if (i > 0 && first < product) product = first;
        if (i > 0 && second < copy) copy = second;
    }
    swm_release(b, mark);
    if (swm_backend_check(b, error) != 0) return -1;
    *rates = (bench_rates){.matrix = 2.0 * (double)(rows * n) * (double)n / product,
                           .bandwidth = 2.0 * (double)swm_bytes(from) / copy,
                           .measured = true};
    rates->attention = rates->matrix;
    return 0;
}

int bench_rates_find(bench_rates *rates, swm_backend *b, swm_error *error)
{
    bench_rates found = {0};
    swm_device_report device = swm_backend_device(b);
    if (rates->matrix > 0 && rates->bandwidth > 0) {
        if (!(rates->attention > 0)) rates->attention = rates->matrix;
        return 0;
    }
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (b->compute == SWM_BF16 && strcmp(device.name, known[i].device) == 0) found = known[i].rates;
    if (!(found.matrix > 0) && measure_rates(&found, b, error) != 0) return -1;
    if (rates->matrix > 0) found.matrix = found.attention = rates->matrix;
    if (rates->attention > 0) found.attention = rates->attention;
    if (rates->bandwidth > 0) found.bandwidth = rates->bandwidth;
    *rates = found;
    return 0;
}

/* ---- rows --------------------------------------------------------------------------------------------------------- */

/* "106480x2240" */
static void write_shape(char *text, size_t size, swm_tensor t)
{
    size_t used = 0;
    text[0] = '\0';
    for (int i = 0; i < t.rank && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%lld", i > 0 ? "x" : "", (long long)t.shape[i]);
}

/* Operands of a product are x, w and y; of everything else whatever tells the sizes. conv_to is conv, where the caller
 * gave the place of the result. */
static void write_name(char *name, size_t size, const char *function, const swm_tensor operands[3])
{
    char first[40], second[40], op[32];
    size_t length = strlen(function);
    if (length > 3 && strcmp(function + length - 3, "_to") == 0) length -= 3;
    snprintf(op, sizeof op, "%.*s", (int)length, function);
    swm_tensor x = operands[0], y = operands[1];
    write_shape(first, sizeof first, x);
    if (strncmp(op, "linear", 6) == 0) {
        snprintf(name, size, "%s %s -> %lld", op, first, (long long)y.shape[0]);
        return;
    }
    bool same = x.rank == y.rank && memcmp(x.shape, y.shape, sizeof x.shape) == 0;
    write_shape(second, sizeof second, y);
    snprintf(name, size, "%s%s%s%s%s", op, x.rank > 0 ? " " : "", first, same || y.rank == 0 ? "" : ", ",
             same ? "" : second);
}

/* Room for one more element; the backend keeps the failure. */
static bool grow(swm_backend *b, void **elements, size_t *capacity, size_t count, size_t size)
{
    if (count < *capacity) return true;
    size_t more = *capacity > 0 ? 2 * *capacity : 256;
    void *fresh = swm_allocate(&b->error, more, size);
    if (fresh == NULL) return false;
    if (count > 0) memcpy(fresh, *elements, count * size);
    free(*elements);
    *elements = fresh;
    *capacity = more;
    return true;
}

/* What was counted since the last call belongs to that call's row. */
static void settle(bench_profile *p)
{
    swm_work now = p->backend->work, before = p->before;
    p->before = now;
    if (p->call_count == 0) return;
    bench_op *row = &p->rows[p->calls[p->call_count - 1]];
    double flops = now.flops - before.flops;
    *(strncmp(row->name, "attend", 6) == 0 ? &row->demand.attention : &row->demand.matrix) += flops;
    row->demand.bytes += now.bytes - before.bytes;
    row->demand.operations += now.operations - before.operations;
}

static void watch(void *user, swm_backend *b, const char *op, const swm_tensor operands[3])
{
    bench_profile *p = user;
    bench_op fresh = {.calls = 0};
    size_t row = 0;
    settle(p);
    write_name(fresh.name, sizeof fresh.name, op, operands);
    while (row < p->count && strcmp(p->rows[row].name, fresh.name) != 0) row++;
    if (!grow(b, (void **)&p->rows, &p->capacity, row, sizeof *p->rows) ||
        !grow(b, (void **)&p->calls, &p->call_capacity, p->call_count, sizeof *p->calls))
        return;
    if (row == p->count) p->rows[p->count++] = fresh;
    p->rows[row].calls++;
    swm_backend_stamp(b, p->call_count);
    p->calls[p->call_count++] = row;
}

void bench_profile_begin(bench_profile *profile, swm_backend *b)
{
    *profile = (bench_profile){.backend = b, .before = b->work};
    b->observe = watch;
    b->observer = profile;
}

static int compare_rows(const void *left, const void *right)
{
    const bench_op *a = left, *b = right;
    return a->seconds != b->seconds ? (a->seconds < b->seconds ? 1 : -1) : strcmp(a->name, b->name);
}

void bench_profile_end(bench_profile *p)
{
    swm_backend *b = p->backend;
    settle(p);
    b->observe = NULL;
    b->observer = NULL;
    swm_backend_stamp(b, p->call_count);
    for (size_t i = 0; i < p->call_count && !swm_failed(&b->error); i++) {
        double seconds = swm_backend_between(b, i, i + 1);
        p->rows[p->calls[i]].seconds += seconds;
        p->seconds += seconds;
    }
    if (p->count > 0) qsort(p->rows, p->count, sizeof *p->rows, compare_rows);
}

bench_demand bench_profile_demand(const bench_profile *p)
{
    bench_demand sum = {0};
    for (size_t i = 0; i < p->count; i++) {
        sum.matrix += p->rows[i].demand.matrix;
        sum.attention += p->rows[i].demand.attention;
        sum.bytes += p->rows[i].demand.bytes;
        sum.operations += p->rows[i].demand.operations;
    }
    return sum;
}

void bench_profile_free(bench_profile *profile)
{
    free(profile->rows);
    free(profile->calls);
    *profile = (bench_profile){0};
}
