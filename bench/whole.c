/* Implements whole.h. */
#include "whole.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- start ---------------------------------------------------------------------------------------------------------- */

double bench_process_seconds(void)
{
    char text[1024];
    FILE *file = fopen("/proc/self/stat", "r");
    size_t length = file != NULL ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file != NULL) fclose(file);
    text[length] = '\0';
    /* The second field is the program's name in parentheses, which may hold anything; the 22nd is the start. */
    const char *at = strrchr(text, ')');
    for (int field = 2; at != NULL && field < 22; field++) at = strchr(at + 1, ' ');
    struct timespec now;
    if (at == NULL || clock_gettime(CLOCK_BOOTTIME, &now) != 0) return -1;
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9 - strtod(at, NULL) / (double)sysconf(_SC_CLK_TCK);
}

static int note(bench_rows *rows, const char *name, swm_error *error)
{
    return bench_rows_add(rows, bench_row_of("start", name, 1, bench_process_seconds()), error);
}

/* Both halves of the guidance and what the sampler makes of them. */
static int first_step(bench *m, swm_error *error)
{
    int64_t count = bench_result_count(m, BENCH_DENOISE);
    float *velocity = swm_allocate(error, 2 * (size_t)count, sizeof(float)), *latent = m->inputs.latent;
    double seconds;
    int result = velocity != NULL ? 0 : -1;
    for (int half = 0; half < 2 && result == 0; half++)
        result = bench_pass(m, BENCH_DENOISE, &seconds, velocity + half * count, error);
    for (int64_t i = 0; i < count && result == 0; i++)
        latent[i] -= 0.01f * (velocity[count + i] + 5.0f * (velocity[i] - velocity[count + i]));
    free(velocity);
    return result;
}

static int run_start(bench *m, bench_rows *rows, swm_error *error)
{
    double seconds;
    for (int half = 0; half < 2 && (m->stages & 1u << BENCH_PROMPT) != 0; half++)
        if (bench_pass(m, BENCH_PROMPT, &seconds, NULL, error) != 0) return -1;
    if (note(rows, "both prompts encoded", error) != 0 || bench_pass(m, BENCH_ENCODE, &seconds, NULL, error) != 0 ||
        note(rows, "picture encoded", error) != 0 || first_step(m, error) != 0)
        return -1;
    return note(rows, "first sampler step done", error);
}

int bench_start(const char *directory, bench_choice choice, bench_rows *rows, swm_device_report *report,
                swm_error *error)
{
    if (note(rows, "program running", error) != 0) return -1;
    bench_model model = {.release = false};
    if (swm_checkpoint_open(&model.checkpoint, directory, NULL, error) != 0) return -1;
    int result = note(rows, "model opened", error);
    swm_backend *b = result == 0 ? swm_backend_open(choice.device, choice.float32, choice.threads, error) : NULL;
    bench m = {0};
    result = b != NULL && (choice.vram_budget == 0 || swm_backend_limit(b, choice.vram_budget, error) == 0) ? 0 : -1;
    if (result == 0) result = note(rows, "device opened", error);
    if (result == 0) {
        const swm_checkpoint *c = &model.checkpoint;
        unsigned stages = 1u << BENCH_ENCODE | 1u << BENCH_DENOISE;
        if (c->gemma.layers != NULL) stages |= 1u << BENCH_PROMPT;
        if (choice.shape.width == 0) swm_checkpoint_video_size(&c->config, &choice.shape.width, &choice.shape.height);
        if (choice.shape.prompt_tokens == 0) choice.shape.prompt_tokens = c->config.model_max_length;
        *report = swm_backend_device(b);
        result = bench_open(&m, b, &model, choice.shape, stages, NULL, error);
    }
    if (result == 0) result = note(rows, "planned", error);
    if (result == 0) result = run_start(&m, rows, error);
    bench_close(&m);
    swm_backend_close(b);
    bench_model_close(&model);
    return result;
}

/* ---- a clip --------------------------------------------------------------------------------------------------------- */

enum { STEPS = 60, REFINER_STEPS = 3, REFINER_BLOCK = 3 };

/* Passes of a stage in a clip. */
static int64_t passes_of(bench_stage stage, int64_t frames)
{
    int64_t latents = (frames - 1) / 8 + 1;
    switch (stage) {
    case BENCH_PROMPT: return 2;
    case BENCH_ENCODE:
    case BENCH_REFINER_PROMPT:
    case BENCH_DECODE: return 1;
    case BENCH_DENOISE: return 2 * STEPS;
    case BENCH_REFINE: return REFINER_STEPS;
    case BENCH_REFINE_BLOCK: return swm_divide_up(latents - 1, REFINER_BLOCK);
    default: return 0;
    }
}

int bench_clip(bench *m, int repeats, double opening, bench_rows *rows, swm_error *error)
{
    double total = opening, movie = 0;
    int result = bench_rows_add(rows, bench_row_of("clip", "open model and device", 1, opening), error);
    for (int stage = 0; stage < BENCH_STAGE_COUNT && result == 0; stage++) {
        int64_t calls = passes_of((bench_stage)stage, m->shape.frames);
        if ((m->stages >> stage & 1) == 0 || calls == 0) continue;
        bench_row row = bench_row_of("clip", bench_stage_name((bench_stage)stage), calls, 0);
        result = bench_measure(m, (bench_stage)stage, repeats, &row.time, error);
        total += row.time.setup + (double)calls * row.time.median;
        if (result == 0) result = bench_rows_add(rows, row, error);
    }
    if (result == 0) result = bench_movie(m->shape.frames, m->shape.width, m->shape.height, &movie, error);
    if (result == 0 && movie > 0) result = bench_rows_add(rows, bench_row_of("clip", "MP4 file", 1, movie), error);
    return result == 0 ? bench_rows_add(rows, bench_row_of("clip", "total", 1, total + movie), error) : -1;
}

void bench_print_clip(const bench_rows *rows)
{
    printf("%-24s %6s %12s %12s %12s\n", "", "passes", "each", "setup", "together");
    for (size_t i = 0; i < rows->count; i++) {
        const bench_row *r = &rows->rows[i];
        printf("%-24s %6lld %9.3f s  %9.3f s  %9.2f s\n", r->name, (long long)r->calls, r->time.median, r->time.setup,
               r->time.setup + (double)r->calls * r->time.median);
    }
}
