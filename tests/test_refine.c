/* The second stage's samplers on a network that is a formula: spans, their order, rounding, sigmas and noise. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "sample/refine.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

int test_refine(void);

/* ---- a network that is a formula ---------------------------------------------------------------------------------- */

enum { CHANNELS = 2, FRAMES = 9, CELLS = 3, COUNT = CHANNELS * FRAMES * CELLS, MOST_CALLS = 64 };
static const swm_latent_shape shape = {CHANNELS, FRAMES, 1, CELLS};

typedef struct recorder {
    struct call {
        int64_t first, frames;
        float sigma;
        bool keep, noise;
    } calls[MOST_CALLS];
    int count, fail_at; /* call that fails; -1: none */
    int steps, all;     /* of after_step */
    float sink[CHANNELS * CELLS];
    float last_kept[CHANNELS * FRAMES * CELLS];
} recorder;

static float velocity_at(float x, float sigma) { return 0.75f * x - 0.5f * sigma + 0.125f; }
static float noise_at(int64_t frame, int64_t c, int64_t i) { return (float)sin((double)(31 * frame + 7 * c + i)); }
static float stage1_at(int64_t frame, int64_t c, int64_t i) { return (float)cos((double)(3 * frame + 5 * c + i)); }

static void record(recorder *r, struct call call)
{
    assert_true(r->count < MOST_CALLS);
    r->calls[r->count++] = call;
}

static int velocity(void *user, int64_t first, int64_t frames, const float *latent, float sigma, bool keep, float *out,
                    swm_error *error)
{
    recorder *r = user;
    record(r, (struct call){first, frames, sigma, keep, false});
    if (r->count - 1 == r->fail_at) return swm_fail(error, "the network is out");
    assert_true(keep == (out == NULL));
    int64_t count = CHANNELS * frames * CELLS;
    for (int64_t i = 0; !keep && i < count; i++) out[i] = velocity_at(latent[i], sigma);
    if (keep) memcpy(first == 0 ? r->sink : r->last_kept, latent, (size_t)count * sizeof(float));
    return 0;
}

static void noise(void *user, int64_t first, int64_t frames, float *out)
{
    record(user, (struct call){first, frames, 0, false, true});
    for (int64_t c = 0; c < CHANNELS; c++)
        for (int64_t f = 0; f < frames; f++)
            for (int64_t i = 0; i < CELLS; i++) out[(c * frames + f) * CELLS + i] = noise_at(first + f, c, i);
}

static void after_step(void *user, int step, int steps, const float *latent)
{
    recorder *r = user;
    assert_int_equal(step, ++r->steps);
    assert_true(latent[0] == stage1_at(0, 0, 0));
    r->all = steps;
}

static swm_refinement refinement(recorder *r, int64_t block, bool history, bool rounded)
{
    *r = (recorder){.fail_at = -1};
    swm_refinement how = swm_refinement_defaults();
    how.block = block;
    how.history = history;
    how.round_to_bf16 = rounded;
    how.velocity = velocity;
    how.noise = noise;
    how.after_step = after_step;
    how.user = r;
    return how;
}

static void fill_stage1(float *latent)
{
    for (int64_t c = 0; c < CHANNELS; c++)
        for (int64_t f = 0; f < FRAMES; f++)
            for (int64_t i = 0; i < CELLS; i++) latent[(c * FRAMES + f) * CELLS + i] = stage1_at(f, c, i);
}

static float bf16(float value) { return swm_bf16_to_f32(swm_f32_to_bf16(value)); }

/* ---- values ------------------------------------------------------------------------------------------------------- */

/* The three steps of one element in doubles, where both forms are the same. */
static double exact(double x, double e)
{
    static const double sigmas[] = {0.909375f, 0.725f, 0.421875f, 0};
    x = (1 - sigmas[0]) * x + sigmas[0] * e;
    for (int i = 0; i < 3; i++) x += (sigmas[i + 1] - sigmas[i]) * (0.75 * x - 0.5 * sigmas[i] + 0.125);
    return x;
}

/* The forms of the reference in bf16. */
static float one_shot(float z, float e)
{
    static const float sigmas[] = {0.909375f, 0.725f, 0.421875f, 0};
    volatile float a = (1.0f - sigmas[0]) * bf16(z), b = sigmas[0] * bf16(e); /* volatile: no fused products */
    float x = bf16(bf16(a) + bf16(b));
    for (int i = 0; i < 3; i++) {
        volatile float change = velocity_at(x, sigmas[i]) * sigmas[i];
        float clean = bf16(x - change), slope = (x - clean) / sigmas[i];
        change = slope * (sigmas[i + 1] - sigmas[i]);
        x = bf16(x + change);
    }
    return x;
}

static float in_blocks(float z, float e)
{
    static const float sigmas[] = {0.909375f, 0.725f, 0.421875f, 0};
    static const double ratios[] = {0.797250874873, 0.581896532588, 0};
    volatile float a = (1.0f - sigmas[0]) * bf16(z), b = sigmas[0] * bf16(e);
    float x = bf16(a + b);
    for (int i = 0; i < 3; i++) {
        volatile float change = velocity_at(x, sigmas[i]) * sigmas[i];
        float clean = bf16(x - change);
        a = (float)ratios[i] * x;
        b = (float)(1 - ratios[i]) * clean;
        x = bf16(a + b);
    }
    return x;
}

static void test_values(void **state)
{
    (void)state;
    static const struct {
        int64_t block;
        bool rounded;
    } cases[] = {{0, false}, {3, false}, {1, false}, {100, false}, {0, true}, {3, true}};
    int differ = 0;
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        recorder r;
        swm_error error = {0};
        swm_refinement how = refinement(&r, cases[k].block, true, cases[k].rounded);
        float latent[COUNT];
        fill_stage1(latent);
        assert_int_equal(swm_refine(&how, shape, latent, &error), 0);
        assert_int_equal(r.steps, swm_refinement_passes(&how, FRAMES));
        assert_int_equal(r.all, r.steps);
        for (int64_t c = 0; c < CHANNELS; c++)
            for (int64_t f = 0; f < FRAMES; f++)
                for (int64_t i = 0; i < CELLS; i++) {
                    float got = latent[(c * FRAMES + f) * CELLS + i], z = stage1_at(f, c, i), e = noise_at(f, c, i);
                    if (f == 0)
                        assert_true(got == z);
                    else if (!cases[k].rounded)
                        assert_true(fabs((double)got - exact((double)z, (double)e)) < 1e-6);
                    else
                        assert_true(got == (cases[k].block == 0 ? one_shot(z, e) : in_blocks(z, e)));
                    differ += one_shot(z, e) < in_blocks(z, e) || one_shot(z, e) > in_blocks(z, e);
                }
        for (int64_t i = 0; i < CHANNELS * CELLS; i++) {
            float z = stage1_at(0, i / CELLS, i % CELLS);
            assert_true(r.sink[i] == (cases[k].rounded ? bf16(z) : z));
        }
    }
    assert_true(differ > 0); /* the two forms are two */
}

/* ---- order -------------------------------------------------------------------------------------------------------- */

static void check_calls(const recorder *r, int64_t block, bool history)
{
    static const float sigmas[] = {0.909375f, 0.725f, 0.421875f};
    int at = 0;
    const struct call *sink = &r->calls[at++];
    assert_true(sink->first == 0 && sink->frames == 1 && sink->sigma == 0 && sink->keep);
    for (int64_t first = 1; first < FRAMES; first += block) {
        int64_t frames = swm_min(block, FRAMES - first);
        const struct call *call = &r->calls[at++];
        assert_true(call->noise && call->first == first && call->frames == frames);
        for (int i = 0; i < 3; i++) {
            call = &r->calls[at++];
            assert_true(!call->noise && call->first == first && call->frames == frames && call->sigma == sigmas[i] &&
                        !call->keep);
        }
        if (!history || first + frames == FRAMES) continue;
        call = &r->calls[at++];
        assert_true(call->keep && call->first == first && call->frames == frames && call->sigma == 0);
    }
    assert_int_equal(at, r->count);
}

static void test_order(void **state)
{
    (void)state;
    static const struct {
        int64_t block, span, passes;
        bool history;
    } cases[] = {{0, 8, 4, false},  {0, 8, 4, true},  {3, 3, 12, true},
                 {3, 3, 10, false}, {1, 1, 32, true}, {8, 8, 4, true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        recorder r;
        swm_error error = {0};
        swm_refinement how = refinement(&r, cases[i].block, cases[i].history, false);
        float latent[COUNT];
        fill_stage1(latent);
        assert_int_equal(swm_refine(&how, shape, latent, &error), 0);
        check_calls(&r, cases[i].span, cases[i].history);
        assert_int_equal(swm_refinement_passes(&how, FRAMES), cases[i].passes);
        if (cases[i].history && cases[i].block == 3) /* what is kept is what came out: frames 4..6 were the last */
            assert_true(r.last_kept[0] == latent[4 * CELLS] && r.last_kept[3 * CELLS] == latent[(FRAMES + 4) * CELLS]);
    }
}

static void test_errors(void **state)
{
    (void)state;
    recorder r;
    swm_error error = {0};
    float latent[COUNT] = {0};
    swm_refinement how = refinement(&r, 3, true, false);
    assert_int_equal(swm_refine(&how, (swm_latent_shape){CHANNELS, 1, 1, CELLS}, latent, &error), -1);
    assert_non_null(strstr(error.text, "1 frames"));
    assert_int_equal(swm_refinement_passes(&how, 1), 0);
    how.steps = 0;
    error = (swm_error){0};
    assert_int_equal(swm_refine(&how, shape, latent, &error), -1);
    assert_non_null(strstr(error.text, "0 steps"));
    how = refinement(&r, -1, true, false);
    assert_int_equal(swm_refine(&how, shape, latent, NULL), -1);
    how = refinement(&r, 0, true, false);
    how.sigmas[1] = 0.95f;
    error = (swm_error){0};
    assert_int_equal(swm_refine(&how, shape, latent, &error), -1);
    assert_non_null(strstr(error.text, "fall"));
    how.sigmas[1] = NAN;
    assert_int_equal(swm_refine(&how, shape, latent, NULL), -1);
    assert_int_equal(r.count, 0);
    static const int fail_at[] = {0, 2, 5, 7}; /* the sink, a step, a pass that keeps, a step of the next block */
    for (size_t i = 0; i < sizeof fail_at / sizeof *fail_at; i++) {
        how = refinement(&r, 3, true, false);
        r.fail_at = fail_at[i];
        error = (swm_error){0};
        fill_stage1(latent);
        assert_int_equal(swm_refine(&how, shape, latent, &error), -1);
        assert_true(strcmp(error.text, "the network is out") == 0 && r.count == fail_at[i] + 1);
    }
}

/* ---- sigmas ------------------------------------------------------------------------------------------------------- */

static void test_sigmas(void **state)
{
    (void)state;
    swm_error error = {0};
    swm_refinement how = swm_refinement_defaults();
    assert_true(how.steps == 3 && how.sigmas[0] == 0.909375f && how.sigmas[2] == 0.421875f && how.sigmas[3] == 0);
    assert_int_equal(swm_refinement_parse_sigmas(&how, "0.9, .5,1e-1", &error), 0);
    assert_true(how.steps == 3 && how.sigmas[0] == 0.9f && how.sigmas[1] == 0.5f && how.sigmas[2] == 0.1f &&
                how.sigmas[3] == 0);
    assert_int_equal(swm_refinement_parse_sigmas(&how, "1,0", &error), 0);
    assert_true(how.steps == 1 && how.sigmas[0] == 1 && how.sigmas[1] == 0);
    assert_int_equal(swm_refinement_parse_sigmas(&how, "0.5", &error), 0);
    assert_true(how.steps == 1 && how.sigmas[0] == 0.5f && how.sigmas[1] == 0);
    char text[256] = "0.99";
    for (int i = 1; i < SWM_REFINE_MAX_STEPS; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), ",0.%02d", 99 - i);
    assert_int_equal(swm_refinement_parse_sigmas(&how, text, &error), 0);
    assert_int_equal(how.steps, SWM_REFINE_MAX_STEPS);
    snprintf(text + strlen(text), sizeof text - strlen(text), ",0");
    assert_int_equal(swm_refinement_parse_sigmas(&how, text, &error), 0);
    assert_int_equal(how.steps, SWM_REFINE_MAX_STEPS);
    snprintf(text + strlen(text) - 1, 8, ".01");

    static const char *const wrong[] = {"",        "x",       "0.5,", ",0.5",    "0.5;0.2", "0.5 0.2",
                                        "0.2,0.5", "0.5,0.5", "1.1",  "-0.1",    "nan",     "inf",
                                        "0x1p-1",  "0.5,0,0", "0",    "0.5-0.2", "1e999",   "--"};
    for (size_t i = 0; i <= sizeof wrong / sizeof *wrong; i++) {
        const char *given = i < sizeof wrong / sizeof *wrong ? wrong[i] : text;
        swm_refinement before = how;
        error = (swm_error){0};
        int result = swm_refinement_parse_sigmas(&how, given, &error);
        if (result != -1 || strncmp(error.text, "sigmas \"", 8) != 0) fail_msg("\"%s\": %s", given, error.text);
        assert_int_equal(how.steps, before.steps);
        assert_memory_equal(how.sigmas, before.sigmas, sizeof how.sigmas);
    }
}

/* ---- noise -------------------------------------------------------------------------------------------------------- */

static void test_draws(void **state)
{
    (void)state;
    enum { BLOCK = CHANNELS * 3 * CELLS };
    swm_refine_source source = {.generator = {.seed = 42}, .channels = CHANNELS, .height = 1, .width = CELLS};
    swm_generator generator = {.seed = 42};
    float got[BLOCK], want[BLOCK], whole[CHANNELS * 8 * CELLS];
    for (int64_t first = 1; first < 7; first += 3) {
        swm_refine_draw(&source, first, 3, got);
        swm_generator_normal(&generator, want, BLOCK);
        assert_memory_equal(got, want, sizeof got);
    }
    source.by_frame = true;
    swm_refine_draw(&source, 1, 8, whole);
    swm_refine_draw(&source, 4, 3, got); /* the same frames whatever the cut */
    for (int64_t c = 0; c < CHANNELS; c++)
        assert_memory_equal(got + c * 3 * CELLS, whole + (c * 8 + 3) * CELLS, 3 * CELLS * sizeof *got);
}

int test_refine(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values), cmocka_unit_test(test_order), cmocka_unit_test(test_errors),
        cmocka_unit_test(test_sigmas), cmocka_unit_test(test_draws),
    };
    return cmocka_run_group_tests_name("refine", tests, NULL, NULL);
}
