/* Noise: the values of torch's CUDA generator as published, how a generator moves on, and noise by the frame. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int test_rng(void);

static float *draw(swm_generator *generator, int64_t count)
{
    float *values = malloc((size_t)count * sizeof *values);
    assert_non_null(values);
    swm_generator_normal(generator, values, count);
    return values;
}

static void test_published_values(void **state)
{
    (void)state;
    /* Four decimals of torch.randn on a GPU with 132 multiprocessors, seed 42, and values one grid apart. */
    const int64_t grid = 132 * 8 * 256;
    const double first[10] = {0.1940, 2.1614, -0.1721, 0.8491, -1.9244, 0.6530, -0.6494, -0.8175, 0.5280, -1.2753};
    const double apart[3] = {-0.9702, 1.9239, -1.2356};
    swm_generator generator = {.seed = 42};
    float *values = draw(&generator, 4 * grid);
    for (int i = 0; i < 10; i++) assert_true(fabs((double)values[i] - first[i]) <= 6e-5);
    for (int i = 0; i < 3; i++) assert_true(fabs((double)values[(i + 1) * grid] - apart[i]) <= 6e-5);
    assert_int_equal(generator.rounds, 1);
    free(values);
}

/* A draw uses up whole rounds of four values a thread, however many of them are kept. */
static void test_second_draw(void **state)
{
    (void)state;
    const struct {
        int64_t count;
        uint64_t rounds;
    } cases[] = {{1, 1}, {5, 1}, {1024, 1}, {1025, 1}, {300000, 1}, {4 * 270336, 1}, {4 * 270336 + 1, 2}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        swm_generator generator = {.seed = 7}, fresh = {.seed = 7, .rounds = cases[i].rounds};
        free(draw(&generator, cases[i].count));
        assert_int_equal(generator.rounds, cases[i].rounds);
        float *second = draw(&generator, 100), *direct = draw(&fresh, 100);
        assert_memory_equal(second, direct, 100 * sizeof *second);
        swm_generator start = {.seed = 7};
        float *first = draw(&start, 100);
        assert_memory_not_equal(first, second, 100 * sizeof *second);
        free(first);
        free(direct);
        free(second);
    }
    swm_generator idle = {.seed = 7, .rounds = 3};
    swm_generator_normal(&idle, NULL, 0);
    assert_int_equal(idle.rounds, 3);
}

/* A thread's second value lies one grid behind its first, and the grid stops growing at 1056 blocks: a longer draw
 * agrees with a shorter one up to that many values and not beyond. */
static void test_count_matters(void **state)
{
    (void)state;
    const int64_t grid = 132 * 8 * 256;
    swm_generator one = {.seed = 3}, other = {.seed = 3};
    float *few = draw(&one, 1000), *more = draw(&other, 2 * grid);
    assert_memory_equal(few, more, 1000 * sizeof *few);
    free(few);
    one = (swm_generator){.seed = 3};
    few = draw(&one, grid + 256);
    assert_memory_equal(few, more, (size_t)(grid + 256) * sizeof *few);
    free(few);
    free(more);
}

enum { CHANNELS = 3, CELLS = 35, MOST_FRAMES = 9 };

/* Noise (C,T,cells) filled frame by frame. */
static void fill_clip(float *clip, uint64_t seed, int64_t frames)
{
    for (int64_t f = 0; f < frames; f++) swm_frame_normal(seed, f, clip + f * CELLS, CHANNELS, CELLS, frames * CELLS);
}

static void test_frames(void **state)
{
    (void)state;
    float shorter[CHANNELS * 4 * CELLS], longer[CHANNELS * MOST_FRAMES * CELLS], other[CHANNELS * 4 * CELLS];
    fill_clip(shorter, 5, 4);
    fill_clip(longer, 5, MOST_FRAMES);
    fill_clip(other, 6, 4);
    for (int c = 0; c < CHANNELS; c++)
        assert_memory_equal(shorter + c * 4 * CELLS, longer + c * MOST_FRAMES * CELLS, 4 * CELLS * sizeof(float));
    assert_memory_not_equal(shorter, other, sizeof shorter);
    for (int f = 1; f < MOST_FRAMES; f++) assert_memory_not_equal(longer, longer + f * CELLS, CELLS * sizeof(float));
    /* An element depends on its number alone, not on how many there are; nothing beyond them is written. */
    float packed[CHANNELS * CELLS + 1], part[2 * CELLS];
    packed[CHANNELS * CELLS] = 77;
    swm_frame_normal(5, 2, packed, CHANNELS, CELLS, CELLS);
    swm_frame_normal(5, 2, part, 2, CELLS, CELLS);
    assert_memory_equal(packed, part, sizeof part);
    assert_true(packed[CHANNELS * CELLS] == 77);
    for (int c = 0; c < CHANNELS; c++)
        assert_memory_equal(packed + c * CELLS, shorter + (c * 4 + 2) * CELLS, CELLS * sizeof(float));
}

static void check_moments(const float *values, int64_t count)
{
    double sum = 0, squares = 0, fourth = 0;
    for (int64_t i = 0; i < count; i++) {
        double x = (double)values[i];
        assert_true(isfinite(x));
        sum += x;
        squares += x * x;
        fourth += x * x * x * x;
    }
    double n = (double)count;
    assert_true(fabs(sum / n) < 5 / sqrt(n));
    assert_true(fabs(squares / n - 1) < 5 * sqrt(2 / n));
    assert_true(fabs(fourth / n - 3) < 5 * sqrt(96 / n));
}

static void test_normal(void **state)
{
    (void)state;
    enum { COUNT = 100000 };
    swm_generator generator = {.seed = 11};
    float *values = draw(&generator, COUNT);
    check_moments(values, COUNT);
    swm_frame_normal(11, 0, values, 10, COUNT / 10, COUNT / 10);
    check_moments(values, COUNT);
    free(values);
}

int test_rng(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published_values), cmocka_unit_test(test_second_draw),
        cmocka_unit_test(test_count_matters),    cmocka_unit_test(test_frames),
        cmocka_unit_test(test_normal),
    };
    return cmocka_run_group_tests_name("rng", tests, NULL, NULL);
}
