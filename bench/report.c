/* Implements report.h. */
#include "report.h"

#include "../cli/console.h"
#include "core/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int bench_rows_add(bench_rows *rows, bench_row row, swm_error *error)
{
    if (rows->count == rows->capacity) {
        size_t more = rows->capacity > 0 ? 2 * rows->capacity : 16;
        bench_row *fresh = swm_allocate(error, more, sizeof *fresh);
        if (fresh == NULL) return -1;
        if (rows->count > 0) memcpy(fresh, rows->rows, rows->count * sizeof *fresh);
        free(rows->rows);
        rows->rows = fresh;
        rows->capacity = more;
    }
    rows->rows[rows->count++] = row;
    return 0;
}

void bench_rows_free(bench_rows *rows)
{
    free(rows->rows);
    *rows = (bench_rows){0};
}

bench_row bench_row_of(const char *kind, const char *name, int64_t calls, double seconds)
{
    bench_row row = {.kind = kind, .calls = calls, .time = {1, .median = seconds, .best = seconds, .worst = seconds}};
    snprintf(row.name, sizeof row.name, "%s", name);
    return row;
}

static double flops_of(const bench_row *r) { return r->time.demand.matrix + r->time.demand.attention; }
static double rate(double amount, double seconds) { return seconds > 0 ? amount / seconds : 0; }
/* Of what the machine could do. */
static double percent(const bench_row *r) { return 100 * rate(r->floor, r->time.median); }

void bench_print_stages(const bench_rows *rows)
{
    printf("%-14s %11s %11s %11s %10s %10s %9s %8s %7s %6s %10s %10s %10s\n", "stage", "median", "best", "worst",
           "setup", "enqueue", "TFLOP", "TFLOP/s", "GB/s", "roof", "scratch", "weights", "device");
    for (size_t i = 0; i < rows->count; i++) {
        const bench_row *r = &rows->rows[i];
        const bench_time *t = &r->time;
        if (strcmp(r->kind, "stage") != 0) continue;
        printf("%-14s %8.2f ms %8.2f ms %8.2f ms %7.0f ms %7.2f ms %9.4g %8.4g %7.4g %4.0f %% %10s %10s %10s\n",
               r->name, t->median * 1e3, t->best * 1e3, t->worst * 1e3, t->setup * 1e3, t->enqueue * 1e3,
               flops_of(r) / 1e12, rate(flops_of(r), t->median) / 1e12, rate(t->demand.bytes, t->median) / 1e9,
               percent(r), cli_bytes((double)t->scratch).text, cli_bytes((double)t->weights).text,
               t->memory > 0 ? cli_bytes((double)t->memory).text : "-");
        if (t->back_to_back > 0)
            printf("%-14s %8.2f ms a pass when %d follow each other without waiting; the host hands one over in %.2f "
                   "ms, %.0f %% of that\n",
                   "", t->back_to_back * 1e3, t->repeats, t->enqueue * 1e3, 100 * t->enqueue / t->back_to_back);
    }
    puts("\nsetup: until the first result, less a pass: weights to the device, conditions, libraries. enqueue: the "
         "host's part of a pass.\nFLOPs are those of matrix products and convolutions; bytes count every operand of an "
         "op once; roof is the share of what the\nmachine could do, judged by the longer of FLOPs and bytes at full "
         "rate. device: memory in use there by everything.");
}

void bench_print_ops(const bench_rows *rows, const char *stage, int most)
{
    double total = 0, floor = 0;
    size_t prefix = strlen(stage);
    for (int pass = 0; pass < 2; pass++) {
        int shown = 0;
        for (size_t i = 0; i < rows->count; i++) {
            const bench_row *r = &rows->rows[i];
            if (strcmp(r->kind, "op") != 0 || strncmp(r->name, stage, prefix) != 0 || r->name[prefix] != ':') continue;
            if (pass == 0) {
                total += r->time.median;
                floor += r->floor;
            } else if (shown++ < most) {
                printf("%9.3f ms %5.1f %% %6lld %8.4g %8.4g %5.0f %%  %s\n", r->time.median * 1e3,
                       100 * rate(r->time.median, total), (long long)r->calls, rate(flops_of(r), r->time.median) / 1e12,
                       rate(r->time.demand.bytes, r->time.median) / 1e9, percent(r), r->name + prefix + 2);
            }
        }
        if (pass == 0)
            printf("\n%s by ops: %.2f ms; at full rate they would take %.2f ms\n%12s %7s %6s %8s %8s %7s  %s\n", stage,
                   total * 1e3, floor * 1e3, "time", "share", "calls", "TFLOP/s", "GB/s", "roof", "op");
        else if (shown > most)
            printf("%12s and %d more\n", "", shown - most);
    }
}

cJSON *bench_describe(const bench_rows *rows)
{
    cJSON *list = cJSON_CreateArray();
    for (size_t i = 0; list != NULL && i < rows->count; i++) {
        const bench_row *r = &rows->rows[i];
        const bench_time *t = &r->time;
        cJSON *row = cJSON_CreateObject();
        cJSON_AddStringToObject(row, "kind", r->kind);
        cJSON_AddStringToObject(row, "name", r->name);
        cJSON_AddNumberToObject(row, "calls", (double)r->calls);
        cJSON_AddNumberToObject(row, "repeats", t->repeats);
        cJSON_AddNumberToObject(row, "seconds", t->median);
        cJSON_AddNumberToObject(row, "best_seconds", t->best);
        cJSON_AddNumberToObject(row, "worst_seconds", t->worst);
        cJSON_AddNumberToObject(row, "setup_seconds", t->setup);
        cJSON_AddNumberToObject(row, "enqueue_seconds", t->enqueue);
        cJSON_AddNumberToObject(row, "back_to_back_seconds", t->back_to_back);
        cJSON_AddNumberToObject(row, "flops", flops_of(r));
        cJSON_AddNumberToObject(row, "bytes_moved", t->demand.bytes);
        cJSON_AddNumberToObject(row, "operations", (double)t->demand.operations);
        cJSON_AddNumberToObject(row, "floor_seconds", r->floor);
        cJSON_AddNumberToObject(row, "scratch_bytes", (double)t->scratch);
        cJSON_AddNumberToObject(row, "weights_bytes", (double)t->weights);
        cJSON_AddNumberToObject(row, "device_bytes", (double)t->memory);
        cJSON_AddItemToArray(list, row);
    }
    return list;
}

/* ---- CSV ---------------------------------------------------------------------------------------------------------- */

static const char heading[] =
    "date,device,commit,command,kind,name,frames,size,calls,median_ms,best_ms,worst_ms,setup_ms,enqueue_ms,"
    "back_to_back_ms,gflop,tflops,gbs,roofline_percent,scratch_mib,weights_mib,device_mib\n";

static void write_quoted(FILE *file, const char *text)
{
    fputc('"', file);
    for (; *text != '\0'; text++) {
        if (*text == '"') fputc('"', file);
        fputc(*text, file);
    }
    fputs("\",", file);
}

/* Nothing where a row has nothing to say. */
static void write_number(FILE *file, double value, int decimals, const char *end)
{
    if (value > 0) fprintf(file, "%.*f", decimals, value);
    fputs(end, file);
}

static void write_row(FILE *file, const bench_context *context, const char *date, const bench_row *r)
{
    const bench_time *t = &r->time;
    const double mib = 1 << 20;
    fprintf(file, "%s,", date);
    write_quoted(file, context->device);
    fprintf(file, "%s,", bench_commit);
    write_quoted(file, context->command);
    fprintf(file, "%s,", r->kind);
    write_quoted(file, r->name);
    fprintf(file, "%lld,%dx%d,%lld,%.3f,%.3f,%.3f,", (long long)context->frames, context->width, context->height,
            (long long)r->calls, t->median * 1e3, t->best * 1e3, t->worst * 1e3);
    write_number(file, t->setup * 1e3, 1, ",");
    write_number(file, t->enqueue * 1e3, 3, ",");
    write_number(file, t->back_to_back * 1e3, 3, ",");
    write_number(file, flops_of(r) / 1e9, 3, ",");
    write_number(file, rate(flops_of(r), t->median) / 1e12, 3, ",");
    write_number(file, rate(t->demand.bytes, t->median) / 1e9, 1, ",");
    write_number(file, percent(r), 1, ",");
    write_number(file, (double)t->scratch / mib, 0, ",");
    write_number(file, (double)t->weights / mib, 0, ",");
    write_number(file, (double)t->memory / mib, 0, "\n");
}

/* Whether the file, open for reading from its start, is still empty; fails where it holds something else. */
static int check_heading(FILE *file, const char *path, bool *fresh, swm_error *error)
{
    char found[sizeof heading] = "";
    rewind(file);
    *fresh = fgets(found, sizeof found, file) == NULL;
    if (*fresh || strcmp(found, heading) == 0) return 0;
    return swm_fail(error, "%s: has other columns than this program writes; give --csv another file", path);
}

int bench_check_csv(const char *path, swm_error *error)
{
    FILE *file = fopen(path, "r+");
    if (file == NULL) {
        swm_output probe;
        if (swm_output_open(&probe, path, error) != 0) return -1;
        swm_output_abandon(&probe);
        return 0;
    }
    bool fresh;
    int result = check_heading(file, path, &fresh, error);
    fclose(file);
    return result;
}

int bench_append_csv(const char *path, const bench_context *context, const bench_rows *rows, swm_error *error)
{
    char date[16];
    time_t now = time(NULL);
    struct tm day;
    strftime(date, sizeof date, "%Y-%m-%d", localtime_r(&now, &day));
    FILE *file = fopen(path, "a+");
    if (file == NULL) return swm_fail(error, "%s: cannot be written; give --csv another place", path);
    bool fresh;
    int result = check_heading(file, path, &fresh, error);
    if (fresh) fputs(heading, file);
    for (size_t i = 0; i < rows->count && result == 0; i++) write_row(file, context, date, &rows->rows[i]);
    if ((ferror(file) | fclose(file)) != 0 && result == 0) result = swm_fail(error, "%s: cannot be written", path);
    return result;
}
