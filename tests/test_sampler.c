/* Samplers and schedules: quoted numbers, a solver in doubles beside the program's, what frames see which timestep. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "sample/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int test_sampler(void);

/* ---- schedules ---------------------------------------------------------------------------------------------------- */

static void check_values(const float *sigmas, const int *indices, const double *want, int count, double tolerance)
{
    for (int i = 0; i < count; i++)
        if (!(fabs((double)sigmas[indices[i]] - want[i]) <= tolerance))
            fail_msg("sigma %d is %.9g, not %.9g", indices[i], (double)sigmas[indices[i]], want[i]);
}

static void test_euler_schedule(void **state)
{
    (void)state;
    const int indices[] = {0, 1, 2, 57, 58, 59, 60};
    const double high[] = {1, 0.9982611, 0.9964681, 0.30717647, 0.21058397, 0.08770456, 0};
    const double low[] = {1, 0.9978668, 0.99566895, 0.25761706, 0.16881366, 0.06020697, 0};
    const int times_high[] = {1000, 998, 996, 307, 210, 87};
    float sigmas[61], timesteps[60];
    swm_schedule_euler(60, 9.8, sigmas, timesteps);
    check_values(sigmas, indices, high, 7, 1e-7);
    for (int i = 0; i < 6; i++) assert_int_equal((int)timesteps[indices[i]], times_high[i]);
    swm_schedule_euler(60, 8, sigmas, timesteps);
    check_values(sigmas, indices, low, 7, 1e-7);
    for (int i = 0; i < 60; i++) assert_true(sigmas[i] > sigmas[i + 1] && timesteps[i] == sigmas[i] * 1000.0f);
    swm_schedule_euler(2, 1, sigmas, timesteps);
    assert_true(sigmas[0] == 1 && sigmas[1] > 0 && sigmas[2] == 0);
}

static void test_dpm_schedule(void **state)
{
    (void)state;
    const int indices[] = {0, 1, 2, 57, 58, 59, 60};
    const double high[] = {0.99989784, 0.99817, 0.9963888, 0.34004143, 0.2523819, 0.14231779, 0};
    const double low[] = {0.9998749, 0.9977591, 0.99557984, 0.29607677, 0.21604078, 0.11929618, 0};
    float sigmas[61];
    swm_schedule_dpm(60, 9.8, sigmas);
    check_values(sigmas, indices, high, 7, 1e-7);
    swm_schedule_dpm(60, 8, sigmas);
    check_values(sigmas, indices, low, 7, 1e-7);
}

/* ---- chunks ------------------------------------------------------------------------------------------------------- */

static void check_chunks(swm_chunk_split split, int64_t chunk, int64_t frames, int count, const int64_t *want)
{
    int64_t starts[64];
    assert_true(frames <= 64);
    assert_int_equal(swm_chunk_starts(split, chunk, frames, starts), count);
    for (int i = 0; i < count; i++) assert_int_equal(starts[i], want[i]);
}
#define CHECK_CHUNKS(split, chunk, frames, ...)                                                                        \
    check_chunks(split, chunk, frames, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),                      \
                 (int64_t[]){__VA_ARGS__})

static void test_chunk_starts(void **state)
{
    (void)state;
    CHECK_CHUNKS(SWM_SPLIT_FIRST_CHUNK_PLUS_ONE, 3, 41, 0, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31, 34, 37);
    CHECK_CHUNKS(SWM_SPLIT_FIRST_CHUNK_PLUS_ONE, 3, 7, 0, 4);
    CHECK_CHUNKS(SWM_SPLIT_FIRST_CHUNK_PLUS_ONE, 3, 4, 0);
    CHECK_CHUNKS(SWM_SPLIT_FIRST_CHUNK_PLUS_ONE, 3, 1, 0);
    CHECK_CHUNKS(SWM_SPLIT_FIRST_CHUNK_PLUS_ONE, 3, 9, 0, 4); /* a rest of two joins the chunk before */
    CHECK_CHUNKS(SWM_SPLIT_FIRST_CHUNK_PLUS_ONE, 3, 6, 0);
    CHECK_CHUNKS(SWM_SPLIT_UNIFORM, 3, 9, 0, 3, 6);
    CHECK_CHUNKS(SWM_SPLIT_UNIFORM, 3, 8, 0, 3);
    CHECK_CHUNKS(SWM_SPLIT_UNIFORM, 3, 2, 0);
    CHECK_CHUNKS(SWM_SPLIT_FIRST_FRAME, 3, 7, 0, 1, 4);
    CHECK_CHUNKS(SWM_SPLIT_FIRST_FRAME, 3, 6, 0, 1);
    CHECK_CHUNKS(SWM_SPLIT_FIRST_FRAME, 3, 3, 0, 1); /* with two starts a short rest stays */
    CHECK_CHUNKS(SWM_SPLIT_FIRST_FRAME, 3, 1, 0);
}

/* ---- a model to sample -------------------------------------------------------------------------------------------- */

enum { CALLS = 256, FRAMES = 41 };

/* What a sampler asked of its model. */
typedef struct notebook {
    swm_latent_shape shape;
    int calls, fails_at; /* 0: never */
    int steps;           /* reported as done */
    int64_t frames[CALLS];
    int chunks[CALLS];
    float timesteps[CALLS][FRAMES];
} notebook;

static double model(double x, double timestep) { return tanh(0.7 * x) + 0.3 * sin(3 * timestep / 1000); }

static int velocity(void *user, const float *latent, int64_t frames, const float *timesteps, swm_chunks chunks,
                    float *out, swm_error *error)
{
    notebook *notes = user;
    int64_t cells = notes->shape.height * notes->shape.width;
    assert_true(notes->calls < CALLS && frames <= FRAMES);
    notes->frames[notes->calls] = frames;
    notes->chunks[notes->calls] = chunks.count;
    memcpy(notes->timesteps[notes->calls], timesteps, (size_t)frames * sizeof *timesteps);
    notes->calls++;
    if (notes->calls == notes->fails_at) return swm_fail(error, "the model failed");
    for (int64_t i = 0; i < notes->shape.channels * frames * cells; i++)
        out[i] = (float)model((double)latent[i], (double)timesteps[i / cells % frames]);
    return 0;
}

static void fill(float *values, int64_t count)
{
    for (int64_t i = 0; i < count; i++) values[i] = (float)sin(1.7 * (double)i + 0.3);
}

static void count_steps(void *user, int step, int steps, const float *latent)
{
    notebook *notes = user;
    assert_int_equal(step, ++notes->steps);
    assert_int_equal(step, notes->calls);
    assert_true(step <= steps && latent != NULL);
}

/* ---- samplers ----------------------------------------------------------------------------------------------------- */

static void test_dpm_solver(void **state)
{
    (void)state;
    enum { COUNT = 2 * 3 * 2, STEPS = 12 };
    notebook notes = {.shape = {2, 3, 1, 2}};
    float latent[COUNT], sigmas[STEPS + 1];
    double x[COUNT], before[COUNT] = {0};
    fill(latent, COUNT);
    for (int i = 0; i < COUNT; i++) x[i] = (double)latent[i];
    swm_schedule_dpm(STEPS, 3, sigmas);
    /* By the book, on the noise prediction. */
    for (int step = 0; step < STEPS; step++) {
        double s = (double)sigmas[step], t = (double)sigmas[step + 1];
        bool last = step == STEPS - 1, second = step > 0 && !last;
        double h = last ? INFINITY : log1p(-t) - log(t) - (log1p(-s) - log(s)), phi = expm1(-h);
        for (int i = 0; i < COUNT; i++) {
            double noise = (1 - s) * model(x[i], 1000 * s) + x[i], data = (x[i] - s * noise) / (1 - s);
            x[i] = t / s * x[i] - (1 - t) * phi * data;
            if (second) {
                double p = (double)sigmas[step - 1], r = (log1p(-s) - log(s) - (log1p(-p) - log(p))) / h;
                x[i] -= 0.5 * (1 - t) * phi * (data - before[i]) / r;
            }
            before[i] = data;
        }
    }
    swm_error error = {0};
    swm_sampling how = {.sampler = SWM_FLOW_DPM_SOLVER,
                        .steps = STEPS,
                        .shift = 3,
                        .chunks = {1, (int64_t[]){0}},
                        .velocity = velocity,
                        .user = &notes};
    assert_int_equal(swm_sample(&how, notes.shape, latent, &error), 0);
    assert_int_equal(notes.calls, STEPS);
    assert_int_equal(swm_sampling_passes(&how), STEPS);
    for (int i = 0; i < COUNT; i++) assert_true(fabs((double)latent[i] - x[i]) < 1e-5);
    assert_true(notes.timesteps[0][0] == 1000.0f * sigmas[0]); /* frame 0 as well */
}

static void test_first_frame_is_kept(void **state)
{
    (void)state;
    enum { COUNT = 3 * 5 * 4 };
    for (int rounded = 0; rounded < 2; rounded++) {
        notebook notes = {.shape = {3, 5, 2, 2}};
        float latent[COUNT], before[COUNT];
        fill(latent, COUNT);
        for (int i = 0; i < COUNT && rounded; i++) latent[i] = swm_bf16_to_f32(swm_f32_to_bf16(latent[i]));
        memcpy(before, latent, sizeof before);
        swm_error error = {0};
        swm_sampling how = {.sampler = SWM_FLOW_EULER_LTX,
                            .steps = 7,
                            .shift = 8,
                            .chunks = {1, (int64_t[]){0}},
                            .round_to_bf16 = rounded,
                            .velocity = velocity,
                            .user = &notes};
        assert_int_equal(swm_sample(&how, notes.shape, latent, &error), 0);
        for (int c = 0; c < 3; c++) {
            assert_memory_equal(latent + c * 20, before + c * 20, 4 * sizeof(float));
            for (int i = 4; i < 20; i++) assert_true(latent[c * 20 + i] != before[c * 20 + i]);
        }
        for (int i = 0; i < COUNT && rounded; i++)
            assert_true(latent[i] == swm_bf16_to_f32(swm_f32_to_bf16(latent[i])));
        for (int i = 0; i < notes.calls; i++)
            assert_true(notes.timesteps[i][0] == 0 && notes.timesteps[i][1] == notes.timesteps[i][4]);
    }
}

/* Chunks begin at int((k * K) * N) in doubles, which is not the exact floor: with 12 chunks and 60 steps, chunks 5, 7 and
 * 10 begin a step early. Finished chunks stay as clean context. */
static void test_chunk_sampler(void **state)
{
    (void)state;
    enum { CELLS = 1 };
    int64_t starts[12];
    for (int k = 0; k < 12; k++) starts[k] = k == 0 ? 0 : 3 * k + 1;
    notebook *notes = calloc(1, sizeof *notes);
    assert_non_null(notes);
    notes->shape = (swm_latent_shape){1, 37, CELLS, CELLS};
    float latent[37], first;
    fill(latent, 37);
    first = latent[0];
    swm_error error = {0};
    swm_sampling how = {.sampler = SWM_CHUNK_FLOW_EULER,
                        .steps = 60,
                        .shift = 8,
                        .chunks = {12, starts},
                        .velocity = velocity,
                        .user = notes};
    assert_int_equal(swm_sampling_passes(&how), 55 + 60);
    assert_int_equal(swm_sample(&how, notes->shape, latent, &error), 0);
    assert_int_equal(notes->calls, 115);
    int begin[12] = {0};
    for (int i = 0; i < notes->calls; i++)
        for (int k = 0; k < notes->chunks[i]; k++)
            if (k > 0 && begin[k] == 0) begin[k] = i;
    assert_int_equal(begin[5], 24);
    assert_int_equal(begin[7], 34);
    assert_int_equal(begin[10], 49);
    assert_int_equal(notes->frames[0], 4);
    assert_int_equal(notes->frames[114], 37);
    assert_true(notes->timesteps[114][1] == 0 && notes->timesteps[114][36] > 0 && notes->timesteps[20][1] > 0);
    assert_true(latent[0] == first);

    /* Its first chunk is sampled as if it were alone. */
    notebook alone = {.shape = {1, 4, CELLS, CELLS}};
    float single[4];
    fill(single, 4);
    how = (swm_sampling){.sampler = SWM_FLOW_EULER_LTX,
                         .steps = 60,
                         .shift = 8,
                         .chunks = {1, (int64_t[]){0}},
                         .velocity = velocity,
                         .user = &alone};
    assert_int_equal(swm_sample(&how, alone.shape, single, &error), 0);
    assert_memory_equal(single, latent, sizeof single);
    free(notes);
}

static int chunk_velocity(void *user, int64_t first, int64_t frames, const float *latent, const float *timesteps,
                          bool keep, float *out, swm_error *error)
{
    (void)error;
    notebook *notes = user;
    memcpy(notes->timesteps[notes->calls], timesteps, (size_t)frames * sizeof *timesteps);
    notes->frames[notes->calls] = first;
    notes->chunks[notes->calls++] = keep;
    assert_true(keep == (out == NULL));
    for (int64_t i = 0; !keep && i < frames; i++) out[i] = (float)model((double)latent[i], (double)timesteps[i]);
    return 0;
}

static void test_self_forcing(void **state)
{
    (void)state;
    const float sigmas[] = {1, 0.96f, 0.5f, 0};
    notebook notes = {.shape = {1, 4, 1, 1}};
    swm_self_forcing how = {.steps = 3, .sigmas = sigmas, .chunk = 3, .velocity = chunk_velocity, .user = &notes};
    assert_int_equal(swm_self_forcing_first(&how, 7), 4);
    assert_int_equal(swm_self_forcing_first(&how, 9), 3);
    assert_int_equal(swm_self_forcing_first(&how, 11), 5);
    swm_error error = {0};
    float latent[4], want[4], first;
    fill(latent, 4);
    memcpy(want, latent, sizeof want);
    first = latent[0];
    assert_int_equal(swm_self_forcing_chunk(&how, notes.shape, 0, latent, &error), 0);
    assert_true(latent[0] == first);
    for (int step = 0; step < 3; step++)
        for (int i = 1; i < 4; i++)
            want[i] -=
                (sigmas[step] - sigmas[step + 1]) * (float)model((double)want[i], (double)(1000.0f * sigmas[step]));
    for (int i = 1; i < 4; i++) assert_true(fabsf(latent[i] - want[i]) < 1e-6f);
    assert_int_equal(notes.calls, 4); /* three steps and the pass that is kept, with clean latents */
    assert_true(notes.chunks[2] == 0 && notes.chunks[3] == 1 && notes.timesteps[3][1] == 0 &&
                notes.timesteps[0][1] == 1000);
    assert_true(notes.timesteps[0][0] == 0);
    notes.calls = 0;
    assert_int_equal(swm_self_forcing_chunk(&how, (swm_latent_shape){1, 3, 1, 1}, 4, latent, &error), 0);
    assert_true(notes.timesteps[0][0] == 1000 && notes.frames[0] == 4);
}

static void test_failures(void **state)
{
    (void)state;
    float latent[8] = {0};
    notebook notes = {.shape = {1, 2, 2, 2}};
    swm_sampling how = {.sampler = SWM_FLOW_EULER_LTX,
                        .steps = 1,
                        .shift = 8,
                        .chunks = {1, (int64_t[]){0}},
                        .velocity = velocity,
                        .user = &notes};
    const int steps[] = {1, 0, -5, SWM_MAX_STEPS + 1};
    for (int i = 0; i < 4; i++) {
        swm_error error = {0};
        how.steps = steps[i];
        assert_int_equal(swm_sample(&how, notes.shape, latent, &error), -1);
        assert_non_null(strstr(error.text, "steps"));
    }
    const double shifts[] = {0, -1, NAN, INFINITY};
    how.steps = 4;
    for (int i = 0; i < 4; i++) {
        swm_error error = {0};
        how.shift = shifts[i];
        assert_int_equal(swm_sample(&how, notes.shape, latent, &error), -1);
        assert_non_null(strstr(error.text, "shift"));
    }
    how.shift = 8;
    for (int sampler = SWM_FLOW_EULER_LTX; sampler <= SWM_CHUNK_FLOW_EULER; sampler++) {
        swm_error error = {0};
        how.sampler = (swm_sampler)sampler;
        notes.calls = 0;
        notes.fails_at = 3;
        assert_int_equal(swm_sample(&how, notes.shape, latent, &error), -1);
        assert_string_equal(error.text, "the model failed");
        assert_int_equal(notes.calls, 3);
    }
}

static void test_names_and_steps(void **state)
{
    (void)state;
    for (int i = SWM_FLOW_EULER_LTX; i <= SWM_CHUNK_FLOW_EULER; i++) {
        swm_sampler sampler;
        assert_int_equal(swm_sampler_from_name(swm_sampler_name((swm_sampler)i), &sampler, NULL), 0);
        assert_int_equal(sampler, i);
    }
    swm_sampler sampler;
    swm_error error = {0};
    assert_int_equal(swm_sampler_from_name("flow_euler", &sampler, &error), -1);
    assert_non_null(strstr(error.text, "flow_euler_ltx"));
    for (int i = SWM_FLOW_EULER_LTX; i <= SWM_CHUNK_FLOW_EULER; i++) {
        notebook notes = {.shape = {1, 2, 1, 1}};
        float latent[2] = {1, 2};
        swm_sampling how = {.sampler = (swm_sampler)i,
                            .steps = 5,
                            .shift = 1,
                            .chunks = {1, (int64_t[]){0}},
                            .velocity = velocity,
                            .user = &notes,
                            .after_step = count_steps};
        assert_int_equal(swm_sample(&how, notes.shape, latent, NULL), 0);
        assert_int_equal(notes.steps, 5);
    }
}

int test_sampler(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_euler_schedule),      cmocka_unit_test(test_dpm_schedule),
        cmocka_unit_test(test_chunk_starts),        cmocka_unit_test(test_dpm_solver),
        cmocka_unit_test(test_first_frame_is_kept), cmocka_unit_test(test_chunk_sampler),
        cmocka_unit_test(test_self_forcing),        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_names_and_steps),
    };
    return cmocka_run_group_tests_name("sampler", tests, NULL, NULL);
}
