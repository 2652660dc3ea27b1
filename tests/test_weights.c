/* Weights: every way a model can lie on disk, binding by name and shape, and messages that say what to do. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "io/weights.h"

#include "core/file.h"
#include "io/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int test_weights(void);

/* A directory of the test's own, removed with what the test has put into it. */
struct place {
    char directory[64], path[160];
    char made[16][160];
    int count;
};

static int make_place(void **state)
{
    struct place *place = calloc(1, sizeof *place);
    if (place == NULL) return -1;
    *state = place;
    strcpy(place->directory, "/tmp/swm_weights_XXXXXX");
    return mkdtemp(place->directory) == NULL ? -1 : 0;
}

static int remove_place(void **state)
{
    struct place *place = *state;
    while (place->count-- > 0) unlink(place->made[place->count]);
    int result = rmdir(place->directory); /* fails when the library has left a file behind */
    free(place);
    return result;
}

/* The path of a file in the place, which is removed at the end. */
static const char *at(struct place *place, const char *name)
{
    snprintf(place->path, sizeof place->path, "%s/%s", place->directory, name);
    assert_true(place->count < 16);
    return strcpy(place->made[place->count++], place->path);
}

static float ramp[64];

/* One file of two float tensors: "<prefix>a" (2,3) and "<prefix>b" (4). */
static void save_pair(const char *path, const char *prefix)
{
    char a[64], b[64];
    snprintf(a, sizeof a, "%sa", prefix);
    snprintf(b, sizeof b, "%sb", prefix);
    for (int i = 0; i < 64; i++) ramp[i] = (float)i;
    const char *names[] = {a, b};
    swm_tensor tensors[] = {SWM_TENSOR(SWM_F32, ramp, 2, 3), SWM_TENSOR(SWM_F32, ramp + 6, 4)};
    swm_error error = {0};
    assert_int_equal(swm_safetensors_save(path, 2, names, tensors, NULL, &error), 0);
}

static void write_text(const char *path, const char *text)
{
    swm_error error = {0};
    assert_int_equal(swm_file_write(path, text, strlen(text), &error), 0);
}

static swm_weights *open_good(const char *path)
{
    swm_error error = {0};
    swm_weights *weights = swm_weights_open(path, &error);
    if (weights == NULL) fail_msg("%s", error.text);
    return weights;
}

static void refuse(const char *path, const char *needle)
{
    swm_error error = {0};
    assert_null(swm_weights_open(path, &error));
    if (strstr(error.text, needle) == NULL) fail_msg("\"%s\" lacks \"%s\"", error.text, needle);
}

static void test_single_file(void **state)
{
    struct place *place = *state;
    const char *path = at(place, "model.safetensors");
    save_pair(path, "");
    swm_weights *weights = open_good(path);
    assert_string_equal(swm_weights_path(weights), path);
    assert_int_equal(swm_weights_count(weights), 2);
    assert_int_equal(swm_weights_parameters(weights), 10);
    const char *name;
    const swm_tensor *tensor = swm_weights_at(weights, 1, &name);
    assert_string_equal(name, "b");
    assert_ptr_equal(tensor, swm_weights_find(weights, "b"));
    assert_memory_equal(tensor->data, ramp + 6, 16);
    assert_null(swm_weights_find(weights, "c"));
    swm_weights_close(weights);

    /* A snapshot is a directory of links to blobs without a suffix. */
    const char *blob = at(place, "0123abcd"), *link_path = at(place, "link.safetensors");
    assert_int_equal(rename(path, blob), 0);
    assert_int_equal(symlink("0123abcd", link_path), 0);
    weights = open_good(link_path);
    assert_int_equal(swm_weights_count(weights), 2);
    swm_weights_close(weights);
    refuse(blob, "ends in none of");
    unlink(blob);
    refuse(link_path, "link.safetensors"); /* a link to a blob that was not fetched */
    swm_weights_close(NULL);
}

static void test_prefix(void **state)
{
    struct place *place = *state;
    const char *path = at(place, "model.safetensors");
    const char *names[] = {"vae.b", "text.a", "vae.a", "vae", "vaf.c"};
    swm_tensor tensors[5];
    for (int i = 0; i < 5; i++) tensors[i] = SWM_TENSOR(SWM_F32, ramp, i + 1);
    swm_error error = {0};
    assert_int_equal(swm_safetensors_save(path, 5, names, tensors, NULL, &error), 0);
    swm_weights *weights = swm_weights_open_prefixed(path, "vae.", &error);
    assert_non_null(weights);
    assert_int_equal(swm_weights_count(weights), 2);
    assert_int_equal(swm_weights_parameters(weights), 4);
    assert_int_equal(swm_weights_find(weights, "a")->shape[0], 3);
    assert_int_equal(swm_weights_find(weights, "b")->shape[0], 1);
    assert_null(swm_weights_find(weights, "vae.a"));
    swm_weights_close(weights);
    assert_null(swm_weights_open_prefixed(path, "dit.", &error));
    assert_non_null(strstr(error.text, "model.safetensors: has no tensor whose name begins with \"dit.\""));
}

static void test_torch_file(void **state)
{
    (void)state;
    swm_weights *weights = open_good("tests/golden/torch_small.pt");
    assert_int_equal(swm_weights_count(weights), 8);
    swm_error error = {0};
    swm_tensor tensor;
    assert_int_equal(swm_weights_bind(weights, &tensor, &error, 2, (int64_t[]){3, 4}, "%s", "weight"), 0);
    assert_true(swm_floats(tensor)[11] == 11.0f);
    assert_int_equal(swm_weights_bind(weights, &tensor, &error, 1, (int64_t[]){1}, "scalar"), -1);
    assert_non_null(strstr(error.text, "torch_small.pt: tensor scalar has elements of type I64, expected F32"));
    swm_weights_close(weights);
}

static void test_shards(void **state)
{
    struct place *place = *state;
    const char *first = at(place, "m-00001-of-00002.safetensors"), *second = at(place, "m-00002-of-00002.safetensors"),
               *index = at(place, "m.safetensors.index.json");
    save_pair(first, "one.");
    save_pair(second, "two.");
    write_text(index, "{\"metadata\":{\"total_size\":80},\"weight_map\":{"
                      "\"two.b\":\"m-00002-of-00002.safetensors\",\"one.a\":\"m-00001-of-00002.safetensors\","
                      "\"one.b\":\"m-00001-of-00002.safetensors\"}}");
    swm_weights *weights = open_good(index);
    assert_int_equal(swm_weights_count(weights), 3); /* two.a is not listed */
    static const char *const listed[] = {"one.a", "one.b", "two.b"};
    for (size_t i = 0; i < 3; i++) {
        const char *name;
        swm_weights_at(weights, i, &name);
        assert_string_equal(name, listed[i]);
    }
    swm_error error = {0};
    swm_tensor tensor;
    assert_int_equal(swm_weights_bind(weights, &tensor, &error, 1, (int64_t[]){5}, "two.%c", 'b'), -1);
    assert_non_null(strstr(error.text, "m-00002-of-00002.safetensors: tensor two.b has shape (4), expected (5)"));
    swm_weights_close(weights);

#define ENTRY(name, shard) "{\"weight_map\":{\"" name "\":\"" shard "\"}}"
    static const struct {
        const char *text, *needle;
    } bad[] = {
        {ENTRY("one.c", "m-00001-of-00002.safetensors"), "has no tensor one.c, which"},
        {ENTRY("one.a", "m-00002-of-00002.safetensors"), "has no tensor one.a, which"},
        {ENTRY("one.a", "m-00003-of-00002.safetensors"), "m-00003-of-00002.safetensors"},
        {ENTRY("one.a", "../m-00001-of-00002.safetensors"), "no name of a .safetensors file"},
        {ENTRY("one.a", "/etc/x.safetensors"), "no name of a .safetensors file"},
        {ENTRY("one.a", "..safetensors"), "no name of a .safetensors file"},
        {ENTRY("one.a", "m.bin"), "no name of a .safetensors file"},
        {ENTRY("one.a", ""), "no name of a .safetensors file"},
        {"{\"weight_map\":{\"one.a\":3}}", "no name of a .safetensors file"},
        {"{\"weight_map\":{\"one.a\":\"m-00001-of-00002.safetensors\","
         "\"one.a\":\"m-00001-of-00002.safetensors\"}}",
         "twice"},
        {"{\"weight_map\":[]}", "has no weight_map"},
        {"{}", "has no weight_map"},
        {"[]", "has no weight_map"},
        {"{", "m.safetensors.index.json"},
        {"", "m.safetensors.index.json"},
    };
#undef ENTRY
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_text(index, bad[i].text);
        refuse(index, bad[i].needle);
    }
}

static void test_directories(void **state)
{
    struct place *place = *state;
    refuse(place->directory, "has no .safetensors file");
    const char *single = at(place, "anything.safetensors");
    save_pair(single, "");
    swm_weights *weights = open_good(place->directory);
    assert_string_equal(swm_weights_path(weights), single);
    swm_weights_close(weights);

    const char *other = at(place, "other.safetensors");
    save_pair(other, "");
    refuse(place->directory, "has several .safetensors files and no index");

    static const char *const preferred[] = {"model.safetensors.index.json", "model.safetensors",
                                            "diffusion_pytorch_model.safetensors.index.json",
                                            "diffusion_pytorch_model.safetensors"};
    for (size_t i = 0; i < 4; i++) { /* each one wins over all before it */
        const char *path = at(place, preferred[i]);
        if (i % 2 == 0)
            write_text(path, "{\"weight_map\":{\"a\":\"other.safetensors\"}}");
        else
            save_pair(path, "");
        weights = open_good(place->directory);
        assert_string_equal(swm_weights_path(weights), path);
        assert_int_equal(swm_weights_count(weights), i % 2 == 0 ? 1 : 2);
        swm_weights_close(weights);
    }
    refuse("/nowhere/model.safetensors", "/nowhere/model.safetensors");
    refuse("/nowhere/model.bin", "ends in none of");
    refuse("", "ends in none of");
}

static void test_bind(void **state)
{
    (void)state;
    swm_error error = {0};
    swm_weights *weights = swm_weights_declared(&error);
    assert_non_null(weights);
    static const struct {
        const char *name;
        swm_dtype dtype;
        int rank;
        int64_t shape[5];
    } tensors[] = {
        {"x.weight", SWM_BF16, 5, {2240, 128, 1, 1, 1}},
        {"blocks.3.attn.qkv.weight", SWM_F32, 2, {6720, 2240}},
        {"scale", SWM_F16, 1, {1}},
        {"one_row", SWM_F32, 2, {1, 7}},
        {"ids", SWM_I64, 1, {4}},
        {"model.only", SWM_F32, 1, {3}},
        {"bare", SWM_F32, 1, {3}},
    };
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++)
        assert_int_equal(
            swm_weights_declare(weights, tensors[i].name, tensors[i].dtype, tensors[i].rank, tensors[i].shape, &error),
            0);
    assert_int_equal(swm_weights_count(weights), 7);
    assert_int_equal(swm_weights_parameters(weights), 2240 * 128 + 6720 * 2240 + 1 + 7 + 4 + 3 + 3);
    const char *last = "";
    for (size_t i = 0; i < 7; i++) {
        const char *name;
        swm_weights_at(weights, i, &name);
        assert_true(strcmp(last, name) < 0);
        last = name;
    }
    swm_tensor t;
#define BIND(name, ...)                                                                                                \
    (error = (swm_error){0}, swm_weights_bind(weights, &t, &error, (int)(sizeof((int64_t[]){__VA_ARGS__}) / 8),        \
                                              (int64_t[]){__VA_ARGS__}, "%s", name))
    assert_int_equal(
        swm_weights_bind(weights, &t, &error, 2, (int64_t[]){6720, 2240}, "blocks.%d.%s", 3, "attn.qkv.weight"), 0);
    assert_true(t.data == NULL && t.dtype == SWM_F32 && t.rank == 2 && t.shape[0] == 6720 && t.shape[1] == 2240);
    assert_int_equal(BIND("x.weight", 2240, 128), 0);
    assert_true(t.dtype == SWM_BF16 && t.rank == 2 && t.shape[0] == 2240 && t.shape[1] == 128);
    assert_int_equal(BIND("x.weight", 2240, 128, 1, 1, 1), 0);
    assert_int_equal(BIND("x.weight", 1, 2240, 1, 128), 0);
    assert_true(t.rank == 4 && t.shape[0] == 1 && t.shape[3] == 128);
    assert_int_equal(BIND("x.weight", 2240, -1), 0);
    assert_true(t.rank == 2 && t.shape[1] == 128);
    assert_int_equal(BIND("one_row", -1, 7), 0);
    assert_true(t.rank == 2 && t.shape[0] == 1 && t.shape[1] == 7);
    assert_int_equal(BIND("one_row", -1, 7, 1), 0);
    assert_true(t.rank == 3 && t.shape[0] == 1 && t.shape[1] == 7 && t.shape[2] == 1);
    assert_int_equal(BIND("one_row", -1), 0);
    assert_true(t.rank == 1 && t.shape[0] == 7);
    assert_int_equal(BIND("scale", 1, 1), 0);
    assert_int_equal(BIND("scale", -1), 0);
    assert_int_equal(t.shape[0], 1);

    assert_int_equal(BIND("x.weight", 128, 2240), -1);
    assert_non_null(strstr(error.text, "tensor x.weight has shape (2240,128,1,1,1), expected (128,2240)"));
    assert_int_equal(t.rank, 0);
    assert_int_equal(BIND("x.weight", 2240, -1, 3), -1);
    assert_non_null(strstr(error.text, "expected (2240,any,3)"));
    assert_int_equal(BIND("x.weight", 286720), -1);
    assert_int_equal(BIND("x.weight", -1), -1);
    assert_int_equal(BIND("x.weight", 2240, 128, 2), -1);
    assert_int_equal(BIND("scale", 2), -1);
    assert_int_equal(BIND("ids", 4), -1);
    assert_non_null(strstr(error.text, "has elements of type I64, expected F32, F16 or BF16"));
    assert_int_equal(BIND("absent", 4), -1);
    assert_non_null(strstr(error.text, "(declared): has no tensor absent among its 7"));
    assert_int_equal(BIND("only", 3), -1);
    assert_non_null(strstr(error.text, "has no tensor only, but model.only"));
    assert_int_equal(BIND("model.bare", 3), -1);
    assert_non_null(strstr(error.text, "has no tensor model.bare, but bare"));
#undef BIND
    swm_weights_close(weights);
}

static void test_declare_refusals(void **state)
{
    (void)state;
    swm_error error = {0};
    swm_weights *weights = swm_weights_declared(&error);
    assert_non_null(weights);
    assert_null(swm_weights_find(weights, "a"));
    assert_int_equal(swm_weights_declare(weights, "a", SWM_F32, 1, (int64_t[]){1}, &error), 0);
    assert_int_equal(swm_weights_declare(weights, "a", SWM_F32, 1, (int64_t[]){1}, &error), -1);
    assert_non_null(strstr(error.text, "tensor a is declared twice"));
    error = (swm_error){0};
    assert_int_equal(swm_weights_declare(weights, "b", SWM_F32, 2, (int64_t[]){3, -1}, &error), -1);
    assert_non_null(strstr(error.text, "impossible size -1 of dimension 1"));
    assert_int_equal(swm_weights_declare(weights, "b", SWM_F32, 2, (int64_t[]){1LL << 40, 1LL << 40}, NULL), -1);
    /* Each of these fits, the sum does not. */
    error = (swm_error){0};
    assert_int_equal(swm_weights_declare(weights, "c", SWM_U8, 2, (int64_t[]){1LL << 53, 1 << 9}, &error), 0);
    assert_int_equal(swm_weights_declare(weights, "d", SWM_U8, 2, (int64_t[]){1LL << 53, 1 << 9}, &error), -1);
    assert_non_null(strstr(error.text, "more parameters"));
    char hex[65];
    error = (swm_error){0};
    assert_int_equal(swm_weights_fingerprint(weights, hex, &error), -1);
    assert_non_null(strstr(error.text, "no fingerprint"));
    swm_weights_close(weights);
}

static void fingerprint(const char *path, char hex[65])
{
    swm_weights *weights = open_good(path);
    swm_error error = {0};
    if (swm_weights_fingerprint(weights, hex, &error) != 0) fail_msg("%s", error.text);
    assert_int_equal(strlen(hex), 64);
    assert_int_equal(strspn(hex, "0123456789abcdef"), 64);
    swm_weights_close(weights);
}

static void test_fingerprint(void **state)
{
    struct place *place = *state;
    char first[65], second[65];
    fingerprint("tests/golden/torch_small.pt", first);
    /* sha256(size as 8 bytes + whole file + whole file), as the file is smaller than a MiB */
    assert_string_equal(first, "44220729903afb6af7df5a95f75bc89625e01ec0359443e3af371900ff889d3c");
    const char *one = at(place, "one.safetensors"), *two = at(place, "two.safetensors");
    save_pair(one, "");
    save_pair(two, "");
    fingerprint(one, first);
    fingerprint(two, second);
    assert_string_equal(first, second); /* the name does not count */
    save_pair(two, "x");
    fingerprint(two, second);
    assert_string_not_equal(first, second); /* the header counts */

    /* So does the end of the data, and the index of shards. */
    const char *names[] = {"a"};
    float value = 1.0f;
    swm_tensor tensor = SWM_TENSOR(SWM_F32, &value, 1);
    assert_int_equal(swm_safetensors_save(one, 1, names, &tensor, NULL, NULL), 0);
    fingerprint(one, first);
    value = 2.0f;
    assert_int_equal(swm_safetensors_save(one, 1, names, &tensor, NULL, NULL), 0);
    fingerprint(one, second);
    assert_string_not_equal(first, second);
    const char *index = at(place, "one.index.json");
    write_text(index, "{\"weight_map\":{\"a\":\"one.safetensors\"}}");
    fingerprint(index, first);
    assert_string_not_equal(first, second);
}

int test_weights(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_single_file, make_place, remove_place),
        cmocka_unit_test_setup_teardown(test_prefix, make_place, remove_place),
        cmocka_unit_test(test_torch_file),
        cmocka_unit_test_setup_teardown(test_shards, make_place, remove_place),
        cmocka_unit_test_setup_teardown(test_directories, make_place, remove_place),
        cmocka_unit_test(test_bind),
        cmocka_unit_test(test_declare_refusals),
        cmocka_unit_test_setup_teardown(test_fingerprint, make_place, remove_place),
    };
    return cmocka_run_group_tests_name("weights", tests, NULL, NULL);
}
