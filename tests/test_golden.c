/* Every golden file of the tree is within the bounds of the tolerance table; the table and the comparer can say no. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "golden.h"
#include "place.h"
#include "tolerance.h"

#include "core/file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int test_golden(void);

static const golden_options silent = {.device = "cpu", .compute = SWM_F32, .threads = 1};

static void check(const char *path, int tensors)
{
    golden_totals totals = {0};
    golden_check_file(path, &silent, &totals);
    if (!golden_passed(&totals)) fail_msg("%s", totals.complaint.text);
    assert_int_equal(totals.within, tensors);
}

/* The numbers of compared tensors are here so that none goes missing unnoticed. */
#define FILE_TEST(name, path, tensors)                                                                                 \
    static void name(void **state)                                                                                     \
    {                                                                                                                  \
        (void)state;                                                                                                   \
        check(path, tensors);                                                                                          \
    }
FILE_TEST(test_file_camera, "tests/golden/camera.safetensors", 19)
FILE_TEST(test_file_sampler, "tests/golden/sampler.safetensors", 14)
FILE_TEST(test_file_rng_cuda, "tests/golden/rng_cuda.safetensors", 30)
FILE_TEST(test_file_gemma2, "tests/golden/gemma2.safetensors", 4)
FILE_TEST(test_file_gemma3, "tests/golden/gemma3.safetensors", 8)
FILE_TEST(test_file_vae, "tests/golden/vae.safetensors", 16)
FILE_TEST(test_file_vae_causal, "tests/golden/vae_causal.safetensors", 3)
FILE_TEST(test_file_dit_bidirectional, "tests/golden/dit_bidirectional.safetensors", 19)
FILE_TEST(test_file_dit_bidirectional_d112, "tests/golden/dit_bidirectional_d112.safetensors", 17)
FILE_TEST(test_file_dit_chunk_causal, "tests/golden/dit_chunk_causal.safetensors", 5)
FILE_TEST(test_file_dit_streaming, "tests/golden/dit_streaming.safetensors", 6)
FILE_TEST(test_file_refiner, "tests/golden/refiner.safetensors", 9)
FILE_TEST(test_file_pipeline, "tests/golden/pipeline.safetensors", 18)
FILE_TEST(test_file_toyworld, "models/toyworld/demo/reference.safetensors", 7)

/* ---- the comparer itself ------------------------------------------------------------------------------------------ */

/* A copy of the rng golden under another name, with `change` added to one value of `tensor`, or without it when change is
 * not finite; metadata may be NULL. */
static golden_totals check_changed(const char *source, const char *tensor, float change)
{
    enum { MOST = 256 };
    swm_error error = {0};
    swm_safetensors *file = swm_safetensors_open(source, &error);
    assert_non_null(file);
    const char *names[MOST];
    swm_tensor tensors[MOST];
    float *copy = NULL;
    size_t count = 0;
    for (size_t i = 0; i < swm_safetensors_count(file); i++) {
        assert_true(count < MOST);
        tensors[count] = *swm_safetensors_at(file, i, &names[count]);
        if (strcmp(names[count], tensor) == 0) {
            if (!isfinite(change)) continue;
            copy = malloc(swm_bytes(tensors[count]));
            assert_non_null(copy);
            memcpy(copy, tensors[count].data, swm_bytes(tensors[count]));
            copy[swm_count(tensors[count]) / 2] += change;
            tensors[count].data = copy;
        }
        count++;
    }
    const char *metadata[] = {"config", swm_safetensors_metadata(file, "config"), NULL};
    char path[64];
    snprintf(path, sizeof path, "%s/other.safetensors", place_directory());
    if (swm_safetensors_save(path, count, names, tensors, metadata, &error) != 0) fail_msg("%s", error.text);
    golden_totals totals = {0};
    golden_check_directory(place_directory(), &silent, &totals);
    unlink(path);
    free(copy);
    swm_safetensors_close(file);
    return totals;
}

static void test_any_name_and_small_changes(void **state)
{
    (void)state;
    golden_totals totals = check_changed("tests/golden/rng_cuda.safetensors", "cuda.0.5.float32", 0);
    assert_true(golden_passed(&totals));
    totals = check_changed("tests/golden/rng_cuda.safetensors", "cuda.0.5.float32", 1e-5f);
    assert_int_equal(totals.outside, 1);
    assert_non_null(strstr(totals.complaint.text, "cuda.0.5.float32"));
    totals = check_changed("tests/golden/dit_chunk_causal.safetensors", "act.blocks.2", 0.1f);
    assert_int_equal(totals.outside, 1);
    totals = check_changed("tests/golden/dit_chunk_causal.safetensors", "in.x", 0.1f);
    assert_int_equal(totals.outside, 5);
}

static void test_missing_tensors(void **state)
{
    (void)state;
    golden_totals totals = check_changed("tests/golden/dit_chunk_causal.safetensors", "in.y", INFINITY);
    assert_int_equal(totals.failed, 1);
    assert_non_null(strstr(totals.complaint.text, "in.y"));
    totals = check_changed("tests/golden/dit_chunk_causal.safetensors", "out", INFINITY);
    assert_int_equal(totals.outside, 1);
    totals = check_changed("tests/golden/dit_chunk_causal.safetensors", "weight.blocks.0.attn.qkv.weight", INFINITY);
    assert_int_equal(totals.failed, 1);
    assert_non_null(strstr(totals.complaint.text, "blocks.0.attn.qkv.weight"));
}

static golden_totals check_single(const char *tensor)
{
    float value = 1;
    swm_tensor t = SWM_TENSOR(SWM_F32, &value, 1);
    swm_error error = {0};
    char path[64];
    snprintf(path, sizeof path, "%s/single.safetensors", place_directory());
    if (swm_safetensors_save(path, 1, &tensor, &t, NULL, &error) != 0) fail_msg("%s", error.text);
    golden_totals totals = {0};
    golden_check_directory(place_directory(), &silent, &totals);
    unlink(path);
    return totals;
}

static void test_kinds(void **state)
{
    (void)state;
    golden_totals totals = check_single("something");
    assert_int_equal(totals.failed, 1);
    assert_false(golden_passed(&totals));
    totals = check_single("dit_bidirectional.out"); /* has nothing to say about a run in float32 */
    assert_int_equal(totals.within, 0);
    assert_true(golden_passed(&totals));
    golden_totals empty = {0};
    golden_check_directory(place_directory(), &silent, &empty);
    assert_int_equal(empty.failed, 1);
}

/* Distances of another run as bounds: only what they name, and not far beyond them. */
static void test_limits(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int within, outside;
    } cases[] = {
        {"{\"out\": 1e-4}", 1, 0}, {"{\"out\": 1e-9, \"act.blocks.0\": 1e-4}", 1, 1}, {"{\"other\": 1}", 0, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        golden_options options = silent;
        golden_totals totals = {0};
        cJSON *limits = swm_json_parse("limits", cases[i].text, strlen(cases[i].text), NULL);
        assert_non_null(limits);
        options.limits = limits;
        golden_check_file("tests/golden/dit_chunk_causal.safetensors", &options, &totals);
        cJSON_Delete(limits);
        assert_int_equal(totals.within, cases[i].within);
        assert_int_equal(totals.outside, cases[i].outside);
        assert_int_equal(totals.failed, 0);
    }
}

static void test_devices(void **state)
{
    (void)state;
    const golden_options other = {.device = "abacus", .compute = SWM_F32},
                         rounded = {.device = "cpu", .compute = SWM_BF16};
    golden_totals totals = {0};
    golden_check_file("tests/golden/gemma2.safetensors", &other, &totals);
    golden_check_file("tests/golden/gemma2.safetensors", &rounded, &totals);
    assert_int_equal(totals.failed, 2);
    assert_non_null(strstr(totals.complaint.text, "abacus"));
}

static void test_tolerances(void **state)
{
    (void)state;
    for (size_t i = 0; swm_tolerance_at(i) != NULL; i++) {
        const swm_tolerance *t = swm_tolerance_at(i);
        assert_true(strlen(t->reason) > 5);
        assert_true(t->measure == SWM_DECIBELS ? t->bf16 <= t->f32 : t->bf16 >= t->f32);
    }
    const float want[4] = {1, -2, 3, 4}, near[4] = {1, -2, 3, 4.0002f}, bad[4] = {1, NAN, 3, 4};
    swm_distance none = swm_distance_of(want, want, 4), small = swm_distance_of(near, want, 4),
                 nan = swm_distance_of(bad, want, 4);
    assert_true(none.relative == 0 && none.largest == 0 && isinf(none.decibels));
    assert_true(fabs(small.relative - 2e-4 / sqrt(30)) < 1e-6 && fabs(small.largest - 2e-4) < 1e-6);
    const swm_tolerance *t = swm_tolerance_find("dit", "out", SWM_F32),
                        *same = swm_tolerance_find("rng_cuda", "x.bfloat16", SWM_F32);
    assert_true(t->measure == SWM_RELATIVE && t->f32 == 1e-4 && t->bf16 == 2e-2);
    assert_true(swm_tolerance_holds(t, SWM_F32, &small) && !swm_tolerance_holds(t, SWM_F32, &nan));
    assert_true(swm_tolerance_holds(same, SWM_F32, &none) && !swm_tolerance_holds(same, SWM_BF16, &small));
    assert_true(swm_tolerance_find("vae", "out.decoded", SWM_F16)->f32 == 1e-3);
    const float black[2] = {0, 0}, zero[2] = {0, 255};
    assert_true(fabs(swm_distance_of(zero, black, 2).decibels - 10 * log10(2)) < 1e-9);
    assert_false(swm_tolerance_holds(t, SWM_F32, &(swm_distance){.relative = INFINITY, .finite = true}));
}

int test_golden(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_file_camera),
        cmocka_unit_test(test_file_sampler),
        cmocka_unit_test(test_file_rng_cuda),
        cmocka_unit_test(test_file_gemma2),
        cmocka_unit_test(test_file_gemma3),
        cmocka_unit_test(test_file_vae),
        cmocka_unit_test(test_file_vae_causal),
        cmocka_unit_test(test_file_dit_bidirectional),
        cmocka_unit_test(test_file_dit_bidirectional_d112),
        cmocka_unit_test(test_file_dit_chunk_causal),
        cmocka_unit_test(test_file_dit_streaming),
        cmocka_unit_test(test_file_refiner),
        cmocka_unit_test(test_file_pipeline),
        cmocka_unit_test(test_file_toyworld),
        cmocka_unit_test(test_any_name_and_small_changes),
        cmocka_unit_test(test_missing_tensors),
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_devices),
        cmocka_unit_test(test_tolerances),
    };
    return cmocka_run_group_tests_name("golden", tests, place_open, place_close);
}
