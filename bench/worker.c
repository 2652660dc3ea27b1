/* One side of a comparison that takes turns: `bench-worker MODEL INPUTS RESULTS THREADS` writes each stage's result once,
 * as raw floats, to RESULTS/<stage>.f32, then runs a stage for every line of its input that names one and answers with the
 * seconds it took. INPUTS is a safetensors file (stages.h). */
#include "stages.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int write_result(bench *m, bench_stage stage, const char *directory, swm_error *error)
{
    size_t count = (size_t)bench_result_count(m, stage);
    float *values = swm_allocate(error, count, sizeof(float));
    char *path = swm_format(error, "%s/%s.f32", directory, bench_stage_name(stage));
    double seconds;
    int result = values != NULL && path != NULL ? bench_pass(m, stage, &seconds, values, error) : -1;
    if (result == 0) {
        FILE *file = fopen(path, "wb");
        bool written = file != NULL && fwrite(values, sizeof(float), count, file) == count;
        if ((file != NULL && fclose(file) != 0) || !written) result = swm_fail(error, "%s: cannot be written", path);
    }
    free(path);
    free(values);
    return result;
}

static const unsigned stages = 1u << BENCH_ENCODE | 1u << BENCH_DENOISE | 1u << BENCH_DECODE;

static int serve(bench *m, const char *results, swm_error *error)
{
    for (int stage = 0; stage < BENCH_STAGE_COUNT; stage++)
        if ((stages >> stage & 1) != 0 && write_result(m, (bench_stage)stage, results, error) != 0) return -1;
    puts("ready");
    fflush(stdout);
    return bench_serve(m, stdin, stdout, error);
}

static int work(char **argv, swm_error *error)
{
    bench_model model;
    int result = bench_model_open(&model, argv[1], error);
    swm_weights *inputs = result == 0 ? swm_weights_open(argv[2], error) : NULL;
    swm_backend *b = inputs != NULL ? swm_backend_open_cpu(atoi(argv[4]), error) : NULL;
    const swm_tensor *latent = inputs != NULL ? swm_weights_find(inputs, "latent") : NULL;
    result = -1;
    if (b != NULL && (latent == NULL || latent->rank != 4)) swm_fail(error, "%s: has no latent (C,T,h,w)", argv[2]);
    if (b != NULL && !swm_failed(error)) {
        bench m;
        bench_shape shape = {.width = (int)latent->shape[3] * 32,
                             .height = (int)latent->shape[2] * 32,
                             .frames = 8 * latent->shape[1] - 7,
                             .prompt_tokens = 1};
        result = bench_open(&m, b, &model, shape, stages, inputs, error);
        if (result == 0) result = serve(&m, argv[3], error);
        bench_close(&m);
    }
    swm_backend_close(b);
    swm_weights_close(inputs);
    bench_model_close(&model);
    return result;
}

int main(int argc, char **argv)
{
    swm_error error = {0};
    if (argc != 5) {
        fputs("usage: bench-worker MODEL INPUTS RESULTS THREADS\n", stderr);
        return 2;
    }
    if (work(argv, &error) == 0) return 0;
    fprintf(stderr, "bench-worker: %s\n", error.text);
    return 1;
}
