/* Adapters: merged weights against a plain triple loop, both styles of names, every way a file can fail to fit. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "io/lora.h"

#include "core/file.h"
#include "io/safetensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int test_lora(void);

enum { MOST = 12, RANK = 5 };

/* A directory with a base and an adapter, and the tensors that go into each. */
struct world {
    char directory[64], base[96], adapter[96];
    struct contents {
        const char *names[MOST];
        swm_tensor tensors[MOST];
        size_t count;
    } in_base, in_adapter;
    swm_weights *weights;
};

static int make_world(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    if (world == NULL) return -1;
    *state = world;
    strcpy(world->directory, "/tmp/swm_lora_XXXXXX");
    if (mkdtemp(world->directory) == NULL) return -1;
    snprintf(world->base, sizeof world->base, "%s/base.safetensors", world->directory);
    snprintf(world->adapter, sizeof world->adapter, "%s/adapter.safetensors", world->directory);
    return 0;
}

static void clear(struct contents *contents)
{
    for (size_t i = 0; i < contents->count; i++) free(contents->tensors[i].data);
    contents->count = 0;
}

static int remove_world(void **state)
{
    struct world *world = *state;
    swm_weights_close(world->weights);
    clear(&world->in_base);
    clear(&world->in_adapter);
    unlink(world->base);
    unlink(world->adapter);
    int result = rmdir(world->directory); /* fails when the library has left a file behind */
    free(world);
    return result;
}

/* A matrix of values around 1, another for every name; columns 0 makes a vector. Integers are any
 * bits. */
static void put(struct contents *contents, const char *name, swm_dtype dtype, int64_t rows, int64_t columns)
{
    assert_true(contents->count < MOST);
    int64_t count = rows * swm_max(columns, 1);
    float *values = malloc((size_t)count * sizeof *values);
    void *data = malloc((size_t)count * swm_dtype_size(dtype));
    assert_true(values != NULL && data != NULL);
    uint64_t seed = 1;
    for (const char *c = name; *c != '\0'; c++) seed = seed * 31 + (uint64_t)*c;
    for (int64_t i = 0; i < count; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        values[i] = (float)((double)(seed >> 33) / 0x1p30 - 1);
    }
    swm_from_f32(data, dtype == SWM_I32 ? SWM_F32 : dtype, values, (size_t)count);
    free(values);
    contents->names[contents->count] = name;
    contents->tensors[contents->count++] =
        swm_tensor_make(dtype, data, columns == 0 ? 1 : 2, (int64_t[]){rows, columns});
}

static void put_number(struct contents *contents, const char *name, float value)
{
    put(contents, name, SWM_F32, 1, 0);
    *(float *)contents->tensors[contents->count - 1].data = value;
}

static void save(const struct contents *contents, const char *path)
{
    swm_error error = {0};
    if (swm_safetensors_save(path, contents->count, contents->names, contents->tensors, NULL, &error) != 0)
        fail_msg("%s", error.text);
}

/* Both files as they are described, the base opened. */
static void open_world(struct world *world)
{
    swm_error error = {0};
    save(&world->in_base, world->base);
    save(&world->in_adapter, world->adapter);
    swm_weights_close(world->weights);
    world->weights = swm_weights_open(world->base, &error);
    if (world->weights == NULL) fail_msg("%s", error.text);
}

static swm_lora_summary merge(struct world *world, double strength, const swm_weights *only, int threads)
{
    swm_error error = {0};
    swm_lora_summary summary;
    if (swm_lora_merge(world->weights, world->adapter, strength, only, threads, &summary, &error) != 0)
        fail_msg("%s", error.text);
    return summary;
}

static const swm_tensor *tensor_of(const struct contents *contents, const char *name)
{
    for (size_t i = 0; i < contents->count; i++)
        if (strcmp(contents->names[i], name) == 0) return &contents->tensors[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

static double element(const swm_tensor *t, int64_t index)
{
    float value;
    swm_to_f32(&value, (const char *)t->data + (size_t)index * swm_dtype_size(t->dtype), t->dtype, 1);
    return (double)value;
}

/* `name` in the opened weights against base + factor * B A in doubles: a float sum, rounded once. */
static void expect(const struct world *world, const char *name, const char *a_name, const char *b_name, double factor)
{
    const swm_tensor *got = swm_weights_find(world->weights, name), *base = tensor_of(&world->in_base, name);
    const swm_tensor *a = tensor_of(&world->in_adapter, a_name), *b = tensor_of(&world->in_adapter, b_name);
    int64_t rows = base->shape[0], columns = base->shape[1], rank = a->shape[0];
    /* A float sum is wrong by far less than 1e-6 of its terms; beside that, half a step of the stored type. */
    double step = base->dtype == SWM_BF16 ? 0x1p-8 : base->dtype == SWM_F16 ? 0x1p-11 : 0;
    assert_int_equal(got->dtype, base->dtype);
    assert_true(got->rank == 2 && got->shape[0] == rows && got->shape[1] == columns);
    for (int64_t row = 0; row < rows; row++)
        for (int64_t column = 0; column < columns; column++) {
            double sum = element(base, row * columns + column), terms = fabs(sum);
            for (int64_t k = 0; k < rank; k++) {
                double term = factor * element(b, row * rank + k) * element(a, k * columns + column);
                sum += term;
                terms += fabs(term);
            }
            double value = element(got, row * columns + column);
            if (fabs(value - sum) > 1e-6 * terms + step * fabs(sum) * (1 + 1e-6))
                fail_msg("%s (%lld,%lld): %.9g, not %.9g", name, (long long)row, (long long)column, value, sum);
        }
}

/* ---- results ----------------------------------------------------------------------------------------------------- */

static void put_pair(struct contents *contents, const char *a, const char *b, swm_dtype dtype, int64_t out, int64_t in)
{
    put(contents, a, dtype, RANK, in);
    put(contents, b, dtype, out, RANK);
}

#define A(name) name ".lora_A.weight"
#define B(name) name ".lora_B.weight"

static void test_names_and_types(void **state)
{
    struct world *world = *state;
    struct contents *base = &world->in_base, *adapter = &world->in_adapter;
    put(base, "proj_in.weight", SWM_BF16, 24, 7);
    put(base, "proj_in.bias", SWM_BF16, 24, 0);
    put(base, "time_embed.emb.timestep_embedder.linear_1.weight", SWM_F32, 6, 9);
    put(base, "transformer_blocks.0.attn1.to_out.0.weight", SWM_F16, 5, 11);
    put(base, "av_cross_attn_video_a2v_gate.linear.weight", SWM_BF16, 3, 3);
    put_pair(adapter, A("diffusion_model.patchify_proj"), B("diffusion_model.patchify_proj"), SWM_BF16, 24, 7);
    put_pair(adapter, A("transformer.time_embed.emb.timestep_embedder.linear_1"),
             B("transformer.time_embed.emb.timestep_embedder.linear_1"), SWM_F32, 6, 9);
    put_pair(adapter, A("transformer_blocks.0.attn1.to_out.0"), B("transformer_blocks.0.attn1.to_out.0"), SWM_F16, 5,
             11);
    put_pair(adapter, A("diffusion_model.av_ca_a2v_gate_adaln_single.linear"),
             B("diffusion_model.av_ca_a2v_gate_adaln_single.linear"), SWM_BF16, 3, 3);
    /* Not of this base; and diffusers' names are not translated. */
    put_pair(adapter, A("transformer.patchify_proj"), B("transformer.patchify_proj"), SWM_BF16, 24, 7);
    open_world(world);
    swm_lora_summary summary = merge(world, 0.75, NULL, 2);
    assert_int_equal(summary.merged, 4);
    assert_int_equal(summary.skipped, 1);
    assert_int_equal(summary.parameters, 24 * 7 + 6 * 9 + 5 * 11 + 9);
    assert_int_equal(summary.rank, RANK);
    expect(world, "proj_in.weight", A("diffusion_model.patchify_proj"), B("diffusion_model.patchify_proj"), 0.75);
    expect(world, "time_embed.emb.timestep_embedder.linear_1.weight",
           A("transformer.time_embed.emb.timestep_embedder.linear_1"),
           B("transformer.time_embed.emb.timestep_embedder.linear_1"), 0.75);
    expect(world, "transformer_blocks.0.attn1.to_out.0.weight", A("transformer_blocks.0.attn1.to_out.0"),
           B("transformer_blocks.0.attn1.to_out.0"), 0.75);
    expect(world, "av_cross_attn_video_a2v_gate.linear.weight", A("diffusion_model.av_ca_a2v_gate_adaln_single.linear"),
           B("diffusion_model.av_ca_a2v_gate_adaln_single.linear"), 0.75);
    assert_memory_equal(swm_weights_find(world->weights, "proj_in.bias")->data, base->tensors[1].data, 48);

    /* What a model binds is the merged weight. */
    swm_error error = {0};
    swm_tensor bound;
    assert_int_equal(swm_weights_bind(world->weights, &bound, &error, 2, (int64_t[]){24, 7}, "proj_in.weight"), 0);
    assert_ptr_equal(bound.data, swm_weights_find(world->weights, "proj_in.weight")->data);
}

static void test_alpha_and_only(void **state)
{
    struct world *world = *state;
    put(&world->in_base, "x.weight", SWM_F32, 4, 6);
    put(&world->in_base, "audio_x.weight", SWM_F32, 4, 6);
    put_pair(&world->in_adapter, A("x"), B("x"), SWM_F32, 4, 6);
    put_pair(&world->in_adapter, A("audio_x"), B("audio_x"), SWM_F32, 4, 6);
    put_number(&world->in_adapter, "x.alpha", 2);
    open_world(world);
    swm_error error = {0};
    swm_weights *only = swm_weights_declared(&error);
    assert_non_null(only);
    assert_int_equal(swm_weights_declare(only, "x.weight", SWM_BF16, 2, (int64_t[]){4, 6}, &error), 0);
    swm_lora_summary summary = merge(world, -1.5, only, 1);
    swm_weights_close(only);
    assert_int_equal(summary.merged, 1);
    assert_int_equal(summary.skipped, 1);
    expect(world, "x.weight", A("x"), B("x"), -1.5 * 2 / RANK);
    assert_memory_equal(swm_weights_find(world->weights, "audio_x.weight")->data, world->in_base.tensors[1].data, 96);

    /* Once more on top: the same product twice, up to the rounding of each. */
    assert_int_equal(merge(world, -1.5, NULL, 1).merged, 2);
    expect(world, "x.weight", A("x"), B("x"), -1.5 * 4 / RANK);
}

/* Several tiles of rows, of which the last is short; any number of threads gives the same bits. */
static void test_tiles(void **state)
{
    struct world *world = *state;
    put(&world->in_base, "x.weight", SWM_BF16, 519, 33);
    put_pair(&world->in_adapter, A("x"), B("x"), SWM_BF16, 519, 33);
    open_world(world);
    merge(world, 1, NULL, 3);
    expect(world, "x.weight", A("x"), B("x"), 1);
    size_t size = 519 * 33 * 2;
    void *first = malloc(size);
    assert_non_null(first);
    memcpy(first, swm_weights_find(world->weights, "x.weight")->data, size);
    open_world(world);
    merge(world, 1, NULL, 1);
    assert_memory_equal(swm_weights_find(world->weights, "x.weight")->data, first, size);
    free(first);
}

static void fingerprint(const struct world *world, char hex[65])
{
    swm_error error = {0};
    if (swm_weights_fingerprint(world->weights, hex, &error) != 0) fail_msg("%s", error.text);
}

static void test_fingerprint(void **state)
{
    struct world *world = *state;
    put(&world->in_base, "x.weight", SWM_F32, 4, 6);
    put_pair(&world->in_adapter, A("x"), B("x"), SWM_F32, 4, 6);
    char base[65], whole[65], again[65], half[65], other[65];
    open_world(world);
    fingerprint(world, base);
    merge(world, 1, NULL, 1);
    fingerprint(world, whole);
    open_world(world);
    merge(world, 1, NULL, 2);
    fingerprint(world, again);
    assert_string_equal(whole, again);
    assert_string_not_equal(whole, base);
    open_world(world);
    merge(world, 0.5, NULL, 1);
    fingerprint(world, half);
    assert_string_not_equal(half, whole);
    put_number(&world->in_adapter, "x.alpha", 2);
    open_world(world);
    merge(world, 1, NULL, 1);
    fingerprint(world, other);
    assert_string_not_equal(other, whole);
}

/* ---- refusals ---------------------------------------------------------------------------------------------------- */

/* The adapter as it is described does not merge, for a reason that names every needle, and the base stays as it was. */
static void refuse(struct world *world, double strength, const char *needle, const char *second)
{
    swm_error error = {0};
    open_world(world);
    char before[65], after[65];
    fingerprint(world, before);
    const void *data = swm_weights_find(world->weights, "x.weight")->data;
    assert_int_equal(swm_lora_merge(world->weights, world->adapter, strength, NULL, 1, NULL, &error), -1);
    if (strstr(error.text, needle) == NULL || strstr(error.text, second) == NULL)
        fail_msg("\"%s\" lacks \"%s\" or \"%s\"", error.text, needle, second);
    fingerprint(world, after);
    assert_string_equal(before, after);
    assert_ptr_equal(data, swm_weights_find(world->weights, "x.weight")->data);
    clear(&world->in_adapter);
}

static void test_refusals(void **state)
{
    struct world *world = *state;
    struct contents *adapter = &world->in_adapter;
    put(&world->in_base, "x.weight", SWM_F32, 4, 6);
    put(&world->in_base, "norm_q.weight", SWM_F32, 6, 0);
    put(&world->in_base, "whole.weight", SWM_I32, 4, 6);

    put(adapter, A("x"), SWM_F32, RANK, 6);
    refuse(world, 1, "has x.lora_A.weight, but no x.lora_B.weight", "adapter.safetensors");
    put(adapter, B("absent"), SWM_F32, 4, RANK);
    refuse(world, 1, "has absent.lora_B.weight, but no absent.lora_A.weight", "");
    put_number(adapter, "x.alpha", 1);
    refuse(world, 1, "has x.alpha, but no x.lora_A.weight", "");
    put_pair(adapter, A("x"), B("x"), SWM_F32, 4, 6);
    put(adapter, "x.dora_scale", SWM_F32, 4, 1);
    refuse(world, 1, "x.dora_scale is no part of a LoRA pair", "");

    put(adapter, A("x"), SWM_F32, RANK, 6);
    put(adapter, B("x"), SWM_F32, 4, RANK + 1);
    refuse(world, 1, "x.lora_A.weight (5,6) and x.lora_B.weight (4,6) differ in their rank", "5 and 6");
    put_pair(adapter, A("transformer.x"), B("transformer.x"), SWM_F32, 4, 7);
    refuse(world, 1, "transformer.x.lora_A.weight (5,7) does not fit x.weight (4,6)", "base.safetensors");
    put_pair(adapter, A("x"), B("x"), SWM_F32, 3, 6);
    refuse(world, 1, "x.lora_B.weight (3,5) does not fit x.weight (4,6)", "");
    put_pair(adapter, A("diffusion_model.q_norm"), B("diffusion_model.q_norm"), SWM_F32, 6, 1);
    refuse(world, 1, "norm_q.weight has shape (6), expected that of a matrix", "base.safetensors");
    put_pair(adapter, A("x"), B("x"), SWM_I32, 4, 6);
    refuse(world, 1, "x.lora_A.weight has elements of type I32", "");
    put_pair(adapter, A("whole"), B("whole"), SWM_F32, 4, 6);
    refuse(world, 1, "whole.weight has elements of type I32", "base.safetensors");

    put_pair(adapter, A("y"), B("y"), SWM_F32, 4, 6);
    refuse(world, 1, "none of its 1 pairs", "base.safetensors");
    refuse(world, 1, "holds no tensors", ""); /* an empty file */
    put_pair(adapter, A("x"), B("x"), SWM_F32, 4, 6);
    put_pair(adapter, A("transformer.x"), B("transformer.x"), SWM_F32, 4, 6);
    refuse(world, 1, "are both for x.weight", "transformer.x.lora_A.weight");

    put_pair(adapter, A("x"), B("x"), SWM_F32, 4, 6);
    refuse(world, (double)NAN, "strength", "finite");
    put_pair(adapter, A("x"), B("x"), SWM_F32, 4, 6);
    refuse(world, 1e39, "strength", "finite");
    put_pair(adapter, A("x"), B("x"), SWM_F32, 4, 6);
    put_number(adapter, "x.alpha", INFINITY);
    refuse(world, 1, "x.alpha is not finite", "");
    put_pair(adapter, A("x"), B("x"), SWM_F32, 4, 6);
    put_number(adapter, "x.alpha", 3e38f);
    refuse(world, 1e38, "float32 cannot hold", "");
    put_pair(adapter, A("x"), B("x"), SWM_F32, 4, 6);
    put(adapter, "x.alpha", SWM_F32, 2, 0);
    refuse(world, 1, "x.alpha has shape (2), expected one number", "");
    put_pair(adapter, A("x"), B("x"), SWM_F32, 4, 6);
    ((float *)adapter->tensors[1].data)[7] = NAN;
    refuse(world, 1, "x.lora_A.weight and its lora_B make numbers of x.weight that are not finite", "");
}

static void test_declared_base(void **state)
{
    struct world *world = *state;
    swm_error error = {0};
    put_pair(&world->in_adapter, A("x"), B("x"), SWM_F32, 4, 6);
    save(&world->in_adapter, world->adapter);
    world->weights = swm_weights_declared(&error);
    assert_non_null(world->weights);
    assert_int_equal(swm_weights_declare(world->weights, "x.weight", SWM_BF16, 2, (int64_t[]){4, 6}, &error), 0);
    assert_int_equal(swm_lora_merge(world->weights, world->adapter, 1, NULL, 1, NULL, &error), -1);
    assert_non_null(strstr(error.text, "x.weight has a shape only"));
    error = (swm_error){0};
    assert_int_equal(swm_lora_merge(world->weights, "/nowhere/adapter.safetensors", 1, NULL, 1, NULL, &error), -1);
    assert_non_null(strstr(error.text, "/nowhere/adapter.safetensors"));
}

int test_lora(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_names_and_types, make_world, remove_world),
        cmocka_unit_test_setup_teardown(test_alpha_and_only, make_world, remove_world),
        cmocka_unit_test_setup_teardown(test_tiles, make_world, remove_world),
        cmocka_unit_test_setup_teardown(test_fingerprint, make_world, remove_world),
        cmocka_unit_test_setup_teardown(test_refusals, make_world, remove_world),
        cmocka_unit_test_setup_teardown(test_declared_base, make_world, remove_world),
    };
    return cmocka_run_group_tests_name("lora", tests, NULL, NULL);
}
