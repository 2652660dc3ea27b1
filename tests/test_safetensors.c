/* safetensors: every malformed header is refused with a message about it, and what is saved reads back bit for bit. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "io/safetensors.h"

#include "core/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int test_safetensors(void);

/* A file of `header`, preceded by its length and followed by `data_size` bytes 0, 1, 2, ...; free() it. */
static uint8_t *make_file(const char *header, size_t data_size, size_t *size)
{
    size_t length = strlen(header);
    *size = 8 + length + data_size;
    uint8_t *file = malloc(*size);
    assert_non_null(file);
    for (int i = 0; i < 8; i++) file[i] = (uint8_t)(length >> 8 * i);
    memcpy(file + 8, header, length);
    for (size_t i = 0; i < data_size; i++) file[8 + length + i] = (uint8_t)i;
    return file;
}

/* The file must be refused with a message that names it and has `needle` in it. */
static void refuse_bytes(const void *data, size_t size, const char *needle)
{
    swm_error error = {0};
    assert_null(swm_safetensors_open_memory(data, size, "some.safetensors", &error));
    if (strstr(error.text, needle) == NULL || strncmp(error.text, "some.safetensors: ", 18) != 0)
        fail_msg("\"%s\" lacks \"%s\"", error.text, needle);
}

static void refuse(const char *header, size_t data_size, const char *needle)
{
    size_t size;
    uint8_t *file = make_file(header, data_size, &size);
    refuse_bytes(file, size, needle);
    free(file);
}

static void test_valid(void **state)
{
    (void)state;
    size_t size;
    uint8_t *bytes = make_file("{\"__metadata__\":{\"format\":\"pt\",\"step\":\"7\"},"
                               "\"b.weight\":{\"dtype\":\"F16\",\"shape\":[2,3],\"data_offsets\":[8,20]},"
                               "\"a\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]},"
                               "\"empty\":{\"dtype\":\"F32\",\"shape\":[0,3],\"data_offsets\":[20,20]}}   ",
                               20, &size);
    swm_error error = {0};
    swm_safetensors *file = swm_safetensors_open_memory(bytes, size, "x", &error);
    assert_non_null(file);
    assert_int_equal(swm_safetensors_count(file), 3);
    const char *name;
    const swm_tensor *scalar = swm_safetensors_at(file, 0, &name);
    assert_string_equal(name, "a");
    assert_true(scalar->dtype == SWM_I64 && scalar->rank == 1 && scalar->shape[0] == 1);
    assert_memory_equal(scalar->data, bytes + size - 20, 8);
    const swm_tensor *weight = swm_safetensors_find(file, "b.weight");
    assert_true(weight->dtype == SWM_F16 && weight->rank == 2 && weight->shape[0] == 2 && weight->shape[1] == 3);
    assert_memory_equal(weight->data, bytes + size - 12, 12);
    assert_int_equal(swm_count(*swm_safetensors_find(file, "empty")), 0);
    assert_null(swm_safetensors_find(file, "b"));
    assert_string_equal(swm_safetensors_metadata(file, "step"), "7");
    assert_null(swm_safetensors_metadata(file, "Step"));
    swm_safetensors_close(file);
    free(bytes);

    bytes = make_file("{}", 0, &size);
    file = swm_safetensors_open_memory(bytes, size, "x", &error);
    assert_non_null(file);
    assert_int_equal(swm_safetensors_count(file), 0);
    assert_null(swm_safetensors_metadata(file, "step"));
    swm_safetensors_close(file);
    free(bytes);
}

static void test_many_dimensions(void **state)
{
    (void)state;
    for (int rank = SWM_MAX_RANK; rank <= SWM_MAX_RANK + 1; rank++) {
        char header[256] = "{\"t\":{\"dtype\":\"U8\",\"shape\":[3";
        for (int i = 1; i < rank; i++) strcat(header, ",1");
        strcat(header, "],\"data_offsets\":[0,3]}}");
        if (rank > SWM_MAX_RANK) {
            refuse(header, 3, "tensor t has more than");
            continue;
        }
        size_t size;
        uint8_t *bytes = make_file(header, 3, &size);
        swm_error error = {0};
        swm_safetensors *file = swm_safetensors_open_memory(bytes, size, "x", &error);
        assert_non_null(file);
        assert_int_equal(swm_safetensors_find(file, "t")->rank, SWM_MAX_RANK);
        swm_safetensors_close(file);
        free(bytes);
    }
}

/* Whatever the length of the header, floats can be read where the tensor says they are. */
static void test_unaligned(void **state)
{
    (void)state;
    for (int padding = 0; padding < 8; padding++) {
        char header[200];
        snprintf(header, sizeof header,
                 "{\"x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                 "\"y\":{\"dtype\":\"F64\",\"shape\":[2],\"data_offsets\":[1,17]}}%*s",
                 padding, "");
        size_t size;
        uint8_t *bytes = make_file(header, 17, &size);
        swm_error error = {0};
        swm_safetensors *file = swm_safetensors_open_memory(bytes, size, "x", &error);
        assert_non_null(file);
        const swm_tensor *y = swm_safetensors_find(file, "y");
        assert_int_equal((uintptr_t)y->data % 8, 0);
        assert_memory_equal(y->data, bytes + size - 16, 16);
        swm_safetensors_close(file);
        free(bytes);
    }
}

static void test_truncated(void **state)
{
    (void)state;
    refuse_bytes("", 0, "too few");
    refuse_bytes("\1\0\0\0\0\0\0", 7, "too few");
    refuse_bytes("\1\0\0\0\0\0\0\0", 8, "claims a header of 1 bytes");
    refuse_bytes("\377\377\377\377\377\377\377\377{}", 10, "claims a header");
    refuse_bytes("\0\0\0\0\0\0\0\0", 8, "");
    size_t size;
    uint8_t *bytes = make_file("{\"t\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, &size);
    for (size_t cut = 0; cut < size; cut++) refuse_bytes(bytes, cut, "");
    refuse_bytes(bytes, size - 1, "the file is truncated");
    free(bytes);
}

/* A length that the file has but no honest header reaches. Sparse, so nothing is written for its hundred megabytes. */
static void test_huge_header(void **state)
{
    (void)state;
    char directory[] = "/tmp/swm_safetensors_XXXXXX";
    assert_non_null(mkdtemp(directory));
    char path[64];
    snprintf(path, sizeof path, "%s/huge.safetensors", directory);
    FILE *stream = fopen(path, "wb");
    assert_non_null(stream);
    uint64_t length = 100000001;
    assert_int_equal(fwrite(&length, 8, 1, stream), 1);
    assert_int_equal(fclose(stream), 0);
    assert_int_equal(truncate(path, 100000100), 0);
    swm_error error = {0};
    assert_null(swm_safetensors_open(path, &error));
    assert_non_null(strstr(error.text, "claims a header of 100000001 bytes"));
    unlink(path);
    rmdir(directory);
}

static void test_bad_json(void **state)
{
    (void)state;
    refuse("[]", 0, "no object");
    refuse("3", 0, "no object");
    refuse("{", 0, "");
    refuse("{\"1\":1,", 0, "");
    refuse("{}x", 0, "");
    refuse("{}{}", 0, "");
    refuse("{\"a\":1}", 0, "tensor a is no object");
    refuse("{\"__metadata__\":3}", 0, "__metadata__ is no object");
    refuse("{\"__metadata__\":{\"k\":3}}", 0, "__metadata__ key k is no string");
    refuse("{\"__metadata__\":{},\"__metadata__\":{}}", 0, "twice");
    char *deep = malloc(200001);
    assert_non_null(deep);
    memset(deep, '[', 200000);
    deep[200000] = '\0';
    refuse(deep, 0, "");
    free(deep);
}

static void test_bad_tensors(void **state)
{
    (void)state;
    static const struct {
        const char *fields, *needle;
    } cases[] = {
        {"\"shape\":[2],\"data_offsets\":[0,8]", "lacks its dtype"},
        {"\"dtype\":\"F32\",\"data_offsets\":[0,8]", "lacks its shape"},
        {"\"dtype\":\"F32\",\"shape\":[2]", "lacks its data_offsets"},
        {"\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]", "twice"},
        {"\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],\"strides\":[1]", "unknown field strides"},
        {"\"dtype\":7,\"shape\":[2],\"data_offsets\":[0,8]", "dtype is no string"},
        {"\"dtype\":\"F8_E4M3\",\"shape\":[8],\"data_offsets\":[0,8]", "has dtype F8_E4M3; expected F32"},
        {"\"dtype\":\"F32\",\"shape\":2,\"data_offsets\":[0,8]", "shape is no list"},
        {"\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]", "a size in its shape is no integer"},
        {"\"dtype\":\"F32\",\"shape\":[1,2.5],\"data_offsets\":[0,8]", "a size in its shape is no integer"},
        {"\"dtype\":\"F32\",\"shape\":[\"2\"],\"data_offsets\":[0,8]", "a size in its shape is no integer"},
        {"\"dtype\":\"F32\",\"shape\":[1e300],\"data_offsets\":[0,8]", "a size in its shape is no integer"},
        {"\"dtype\":\"F32\",\"shape\":[9007199254740992,9007199254740992,9007199254740992],\"data_offsets\":[0,8]",
         "do not fit that shape"},
        {"\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]", "do not fit that shape"},
        {"\"dtype\":\"F32\",\"shape\":[4294967296,4294967296,0],\"data_offsets\":[0,0]", "do not fit that shape"},
        {"\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]", "of shape (3) F32 occupies 8 bytes"},
        {"\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,12]", "the file is truncated"},
        {"\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[9007199254740984,9007199254740992]", "truncated"},
        {"\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]", "data_offsets is no"},
        {"\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-8,0]", "data_offsets is no"},
        {"\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]", "data_offsets is no"},
        {"\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8,8]", "data_offsets is no"},
        {"\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":{\"0\":0,\"1\":8}", "data_offsets is no"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char header[256];
        snprintf(header, sizeof header, "{\"t\":{%s}}", cases[i].fields);
        refuse(header, 8, cases[i].needle);
    }
}

static void test_overlap_duplicates_and_surplus(void **state)
{
    (void)state;
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[5],\"data_offsets\":[0,5]},"
           "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}}",
           8, "tensors a and b overlap");
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]},"
           "\"b\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]}}",
           8, "overlap");
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
           "\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}}",
           8, "twice");
    refuse("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 8, "end at byte 4");
    refuse("{}", 8, "end at byte 0");
}

static void test_save(void **state)
{
    (void)state;
    char directory[] = "/tmp/swm_safetensors_XXXXXX";
    assert_non_null(mkdtemp(directory));
    char path[64];
    snprintf(path, sizeof path, "%s/saved.safetensors", directory);
    uint8_t small[3] = {1, 2, 3};
    float values[6] = {0, 1, 2, 3, 4, 5};
    int64_t steps[1] = {-9};
    const char *names[] = {"z \"quoted\"", "weight", "steps", "none"};
    swm_tensor tensors[] = {SWM_TENSOR(SWM_U8, small, 3), SWM_TENSOR(SWM_F32, values, 2, 3),
                            SWM_TENSOR(SWM_I64, steps, 1), SWM_TENSOR(SWM_F32, NULL, 0, 4)};
    const char *metadata[] = {"format", "pt", "made by", "a\ntest", NULL};
    swm_error error = {0};
    assert_int_equal(swm_safetensors_save(path, 4, names, tensors, metadata, &error), 0);
    swm_safetensors *file = swm_safetensors_open(path, &error);
    assert_non_null(file);
    assert_int_equal(swm_safetensors_count(file), 4);
    for (size_t i = 0; i < 3; i++) {
        const swm_tensor *read = swm_safetensors_find(file, names[i]);
        assert_non_null(read);
        assert_true(read->dtype == tensors[i].dtype && read->rank == tensors[i].rank);
        assert_memory_equal(read->shape, tensors[i].shape, sizeof(int64_t) * (size_t)read->rank);
        assert_memory_equal(read->data, tensors[i].data, swm_bytes(tensors[i]));
    }
    assert_int_equal(swm_safetensors_find(file, "none")->shape[1], 4);
    assert_string_equal(swm_safetensors_metadata(file, "made by"), "a\ntest");
    swm_safetensors_close(file);

    uint64_t length;
    char *raw = swm_file_read(path, 4096, NULL, &error);
    assert_non_null(raw);
    memcpy(&length, raw, 8);
    assert_int_equal(length % 8, 0);
    free(raw);

    names[1] = "steps";
    assert_int_equal(swm_safetensors_save(path, 4, names, tensors, NULL, &error), -1);
    assert_non_null(strstr(error.text, "two tensors to save are named steps"));
    error = (swm_error){0};
    names[1] = "__metadata__";
    assert_int_equal(swm_safetensors_save(path, 4, names, tensors, NULL, &error), -1);
    error = (swm_error){0};
    assert_int_equal(swm_safetensors_save("/nowhere/at/all.safetensors", 0, NULL, NULL, NULL, &error), -1);
    assert_non_null(strstr(error.text, "/nowhere/at/all.safetensors"));
    unlink(path);
    assert_int_equal(rmdir(directory), 0); /* failures have left no temporary file */
}

static void test_missing_file(void **state)
{
    (void)state;
    swm_error error = {0};
    assert_null(swm_safetensors_open("/nowhere/model.safetensors", &error));
    assert_non_null(strstr(error.text, "/nowhere/model.safetensors"));
    swm_safetensors_close(NULL);
}

int test_safetensors(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_valid),
        cmocka_unit_test(test_unaligned),
        cmocka_unit_test(test_many_dimensions),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_huge_header),
        cmocka_unit_test(test_bad_json),
        cmocka_unit_test(test_bad_tensors),
        cmocka_unit_test(test_save),
        cmocka_unit_test(test_overlap_duplicates_and_surplus),
        cmocka_unit_test(test_missing_file),
    };
    return cmocka_run_group_tests_name("safetensors", tests, NULL, NULL);
}
