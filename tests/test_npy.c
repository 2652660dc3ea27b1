/* .npy and .npz: every element type, both orders, the writer's round trip, and damaged files. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "io/npy.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

int test_npy(void);

typedef struct bytes {
    uint8_t data[4096];
    size_t size;
} bytes;

static void append(bytes *b, const void *data, size_t size)
{
    assert_true(b->size + size <= sizeof b->data);
    memcpy(b->data + b->size, data, size);
    b->size += size;
}

static void append_little(bytes *b, uint64_t value, int width)
{
    for (; width > 0; width--, value >>= 8) append(b, &(uint8_t){(uint8_t)value}, 1);
}

/* A .npy of this version, header text and data. */
static bytes make_npy(int version, const char *header, const void *data, size_t size)
{
    bytes b = {0};
    append(&b, "\x93NUMPY", 6);
    append_little(&b, (uint64_t)version, 2);
    append_little(&b, strlen(header), version == 1 ? 2 : 4);
    append(&b, header, strlen(header));
    append(&b, data, size);
    return b;
}

static bytes make_typed(const char *descr, const char *order, const char *shape, const void *data, size_t size)
{
    char header[200];
    snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': %s, 'shape': %s, }   \n", descr, order, shape);
    return make_npy(1, header, data, size);
}

static void expect_values(const bytes *b, int count, const double *values)
{
    swm_array array;
    swm_error error = {0};
    if (swm_npy_parse("x.npy", b->data, b->size, &array, &error) != 0) fail_msg("%s", error.text);
    assert_int_equal(swm_array_count(&array), count);
    for (int i = 0; i < count; i++) assert_true(array.values[i] == values[i]);
    swm_array_free(&array);
    swm_array_free(&array);
}

/* Parsing fails with a message that starts with the file and contains `text`. */
static void expect_error(const bytes *b, const char *text)
{
    swm_array array;
    swm_error error = {0};
    assert_int_equal(swm_npy_parse("x.npy", b->data, b->size, &array, &error), -1);
    assert_null(array.values);
    assert_ptr_equal(strstr(error.text, "x.npy"), error.text);
    if (strstr(error.text, text) == NULL) fail_msg("\"%s\" does not say \"%s\"", error.text, text);
}

static void types(void **state)
{
    (void)state;
    static const struct {
        const char *descr;
        size_t size;
        uint8_t data[16];
        double values[2];
    } cases[] = {
        {"<f2", 4, {0x00, 0x3c, 0x00, 0xc0}, {1, -2}},
        {">f2", 4, {0x3c, 0x00, 0xc0, 0x00}, {1, -2}},
        {"<f4", 8, {0, 0, 0xc0, 0x3f, 0, 0, 0, 0xc0}, {1.5, -2}},
        {">f4", 8, {0x3f, 0xc0, 0, 0, 0xc0, 0, 0, 0}, {1.5, -2}},
        {"<f8", 16, {0, 0, 0, 0, 0, 0, 0xf8, 0x3f, 0, 0, 0, 0, 0, 0, 0, 0xc0}, {1.5, -2}},
        {">f8", 16, {0x3f, 0xf8, 0, 0, 0, 0, 0, 0, 0xc0, 0, 0, 0, 0, 0, 0, 0}, {1.5, -2}},
        {"|i1", 2, {0xff, 0x7f}, {-1, 127}},
        {"<i2", 4, {0xfe, 0xff, 1, 2}, {-2, 513}},
        {">i2", 4, {0xff, 0xfe, 2, 1}, {-2, 513}},
        {"<i4", 8, {0xfd, 0xff, 0xff, 0xff, 1, 0, 0, 0}, {-3, 1}},
        {"<i8", 16, {0xfc, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 1, 0, 0, 0, 0, 0, 0}, {-4, 256}},
        {">i8", 16, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfc, 0, 0, 0, 0, 0, 0, 1, 0}, {-4, 256}},
        {"|u1", 2, {0xff, 1}, {255, 1}},
        {"<u2", 4, {0xff, 0xff, 1, 0}, {65535, 1}},
        {">u4", 8, {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1}, {4294967295.0, 1}},
        {"|b1", 2, {1, 0}, {1, 0}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bytes b = make_typed(cases[i].descr, "False", "(2,)", cases[i].data, cases[i].size);
        expect_values(&b, 2, cases[i].values);
    }
}

static void orders_and_shapes(void **state)
{
    (void)state;
    const uint8_t data[6] = {0, 1, 2, 3, 4, 5};
    bytes b = make_typed("|u1", "False", "(2, 3)", data, 6);
    expect_values(&b, 6, (double[]){0, 1, 2, 3, 4, 5});
    b = make_typed("|u1", "True", "(2, 3)", data, 6);
    expect_values(&b, 6, (double[]){0, 2, 4, 1, 3, 5});
    b = make_typed("|u1", "True", "(1, 3, 1, 2, 1)", data, 6);
    expect_values(&b, 6, (double[]){0, 3, 1, 4, 2, 5});
    b = make_typed("|u1", "False", "()", data, 1);
    expect_values(&b, 1, (double[]){0});
    b = make_typed("<f8", "False", "(0, 3)", data, 0);
    expect_values(&b, 0, NULL);
    /* Versions 2 and 3, keys in another order, double quotes, no last comma. */
    for (int version = 2; version <= 3; version++) {
        b = make_npy(version, "{\"shape\":(2,),\"descr\":\"|u1\",\"fortran_order\":False}\n", data, 2);
        expect_values(&b, 2, (double[]){0, 1});
    }
    const uint8_t nan[8] = {0, 0, 0xc0, 0x7f, 0, 0, 0x80, 0xff}; /* passed through */
    b = make_typed("<f4", "False", "(2,)", nan, 8);
    swm_array array;
    assert_int_equal(swm_npy_parse("x.npy", b.data, b.size, &array, NULL), 0);
    assert_true(isnan(array.values[0]) && isinf(array.values[1]));
    swm_array_free(&array);
}

static void damaged(void **state)
{
    (void)state;
    const uint8_t data[8] = {0};
    static const struct {
        const char *descr, *order, *shape, *message;
        size_t size;
    } cases[] = {
        {"<c8", "False", "(1,)", "element type", 8},
        {"|O", "False", "(1,)", "element type", 8},
        {"|f4", "False", "(1,)", "element type", 4},
        {"<f4", "false", "(1,)", "fortran_order", 4},
        {"<f4", "False", "(3)", "shape", 4},
        {"<f4", "False", "(-1,)", "shape", 4},
        {"<f4", "False", "(1 1)", "shape", 4},
        {"<f4", "False", "(1,1,1,1,1,1)", "shape", 4},
        {"<f4", "False", "(,)", "shape", 4},
        {"<f4", "False", "(99999999999999999999,)", "shape", 4},
        {"<f4", "False", "(2,)", "4 bytes of data", 4},
        {"<f4", "False", "(1,)", "8 bytes of data", 8},
        {"<f4", "False", "(134217728,134217728,134217728)", "2^27", 4},
        {"<f4", "False", "(0,134217728,134217728,134217728)", "2^27", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bytes b = make_typed(cases[i].descr, cases[i].order, cases[i].shape, data, cases[i].size);
        expect_error(&b, cases[i].message);
    }
    static const char *const headers[] = {"",
                                          "{}",
                                          "[]",
                                          "{'descr': '<f4'",
                                          "{'descr': '<f4', 'fortran_order': False, }",
                                          "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'x': 1}",
                                          "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,)}",
                                          "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} x"};
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        bytes b = make_npy(1, headers[i], data, 4);
        expect_error(&b, "header");
    }
    bytes good = make_typed("<f4", "False", "(2,)", data, 8);
    for (size_t size = 0; size < good.size; size++) {
        bytes cut = {.size = size};
        memcpy(cut.data, good.data, size);
        expect_error(&cut, "x.npy");
    }
    good.data[6] = 4;
    expect_error(&good, "version 4");
}

static void writer(void **state)
{
    (void)state;
    char directory[] = "/tmp/test_npy_XXXXXX", path[64];
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/a.npy", directory);
    double values[3000];
    for (int i = 0; i < 3000; i++) values[i] = i * 0.1 - 7;
    static const int64_t shapes[][5] = {{1}, {3000}, {30, 100}, {2, 3, 4, 5, 25}};
    static const int ranks[] = {0, 1, 2, 5};
    for (int i = 0; i < 4; i++) {
        for (int wide = 0; wide < 2; wide++) {
            swm_array array;
            swm_error error = {0};
            assert_int_equal(swm_npy_save(path, wide ? SWM_F64 : SWM_F32, ranks[i], shapes[i], values, &error), 0);
            if (swm_npy_read(path, &array, &error) != 0) fail_msg("%s", error.text);
            assert_int_equal(array.rank, ranks[i]);
            if (ranks[i] > 0) assert_memory_equal(array.shape, shapes[i], (size_t)ranks[i] * sizeof(int64_t));
            int64_t count = swm_array_count(&array);
            assert_int_equal(count, ranks[i] == 0 ? 1 : 3000);
            for (int64_t n = 0; n < count; n++)
                assert_true(array.values[n] == (wide ? values[n] : (double)(float)values[n]));
            swm_array_free(&array);
        }
    }
    FILE *file = fopen(path, "rb"); /* the data starts at a multiple of 64 bytes */
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    assert_int_equal((ftell(file) - 3000 * 8) % 64, 0);
    fclose(file);
    unlink(path);
    swm_array array;
    swm_error error = {0};
    assert_int_equal(swm_npy_read(path, &array, &error), -1);
    assert_non_null(strstr(error.text, path));
    rmdir(directory);
}

/* A zip of one member; `claimed` is what its headers say it unpacks to. */
static bytes make_npz(const bytes *member, bool deflate_it, uint64_t claimed, bool wide)
{
    bytes packed = {0}, b = {0};
    if (deflate_it) {
        z_stream stream = {.next_in = (Bytef *)(uintptr_t)member->data,
                           .avail_in = (uInt)member->size,
                           .next_out = packed.data,
                           .avail_out = sizeof packed.data};
        assert_int_equal(deflateInit2(&stream, 9, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY), Z_OK);
        assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
        packed.size = stream.total_out;
        deflateEnd(&stream);
    } else
        packed = *member;
    uint64_t checksum = crc32(0, member->data, (uInt)member->size);
    for (int central = 0; central < 2; central++) {
        size_t start = b.size;
        append_little(&b, central ? 0x02014b50 : 0x04034b50, 4);
        if (central) append_little(&b, 20, 2);
        append_little(&b, 20, 2);
        append_little(&b, 0, 2);
        append_little(&b, deflate_it ? 8 : 0, 2);
        append_little(&b, 0, 4);
        append_little(&b, checksum, 4);
        append_little(&b, wide ? UINT32_MAX : packed.size, 4);
        append_little(&b, wide ? UINT32_MAX : claimed, 4);
        append_little(&b, 8, 2);
        append_little(&b, wide ? 20 : 0, 2);
        if (central) append_little(&b, 0, 14); /* comment, disk, attributes, offset of the local header */
        append(&b, "pose.npy", 8);
        if (wide) {
            append_little(&b, 1, 2);
            append_little(&b, 16, 2);
            append_little(&b, claimed, 8);
            append_little(&b, packed.size, 8);
        }
        if (!central) append(&b, packed.data, packed.size);
        if (!central) continue;
        size_t size = b.size - start;
        append_little(&b, 0x06054b50, 4);
        append_little(&b, 0, 4);
        append_little(&b, 0x00010001, 4);
        append_little(&b, size, 4);
        append_little(&b, start, 4);
        append_little(&b, 0, 2);
    }
    return b;
}

static int read_pose(const bytes *b, swm_array *array, swm_error *error)
{
    swm_npz npz;
    *array = (swm_array){0};
    if (swm_npz_parse(&npz, "x.npz", b->data, b->size, error) != 0) return -1;
    int result = npz.count == 1 ? swm_npz_read(&npz, "pose", array, error) : swm_fail(error, "x.npz: not one array");
    swm_npz_close(&npz);
    swm_npz_close(&npz);
    return result;
}

static void npz(void **state)
{
    (void)state;
    const uint8_t data[600] = {1, 2, 3};
    bytes member = make_typed("|u1", "False", "(2, 300)", data, sizeof data);
    swm_array array;
    for (int variant = 0; variant < 4; variant++) {
        swm_error error = {0};
        bytes b = make_npz(&member, variant & 1, member.size, variant & 2);
        if (read_pose(&b, &array, &error) != 0) fail_msg("%s", error.text);
        assert_int_equal(swm_array_count(&array), 600);
        assert_true(array.values[2] == 3 && array.values[3] == 0);
        swm_array_free(&array);
        for (size_t size = 0; size < b.size; size++) { /* a cut file never opens */
            swm_npz cut;
            assert_int_equal(swm_npz_parse(&cut, "x.npz", b.data, size, NULL), -1);
        }
        for (size_t i = 0; i < b.size; i++) { /* a changed bit is an error or does not matter, and never crashes */
            b.data[i] ^= 0x11;
            read_pose(&b, &array, NULL);
            swm_array_free(&array);
            b.data[i] ^= 0x11;
        }
        b.data[38 + (variant & 2 ? 20 : 0) + 8] ^= 1; /* inside the packed data */
        assert_int_equal(read_pose(&b, &array, NULL), -1);
    }
    static const uint64_t claims[] = {0, 100, 727, 1 << 20, UINT32_MAX - 1, (uint64_t)1 << 40, UINT64_MAX};
    for (size_t i = 0; i < sizeof claims / sizeof *claims; i++) {
        swm_error error = {0};
        bytes b = make_npz(&member, true, claims[i], true);
        assert_int_equal(read_pose(&b, &array, &error), -1);
        assert_ptr_equal(strstr(error.text, "x.npz"), error.text);
    }
    bytes b = make_npz(&member, false, member.size, false);
    swm_npz file;
    swm_error error = {0};
    assert_int_equal(swm_npz_parse(&file, "x.npz", b.data, b.size, NULL), 0);
    assert_string_equal(file.entries[0].name, "pose");
    assert_int_equal(swm_npz_read(&file, "K", &array, &error), -1);
    assert_non_null(strstr(error.text, "no array K"));
    swm_npz_close(&file);
}

int test_npy(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(types), cmocka_unit_test(orders_and_shapes),
                                       cmocka_unit_test(damaged), cmocka_unit_test(writer), cmocka_unit_test(npz)};
    return cmocka_run_group_tests_name("npy", tests, NULL, NULL);
}
