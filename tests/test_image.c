/* Pictures: decoding against Pillow, Lanczos against Pillow, the fit's geometry, PNG out, EXIF, and damaged files. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/file.h"
#include "io/image.h"
#include "io/safetensors.h"

#define PICTURES "tests/golden/pictures/"

static void require_ok(int result, const swm_error *error)
{
    if (result != 0) fail_msg("%s", error->text);
}

/* One line that says something: not empty, no newline, and the file's name in it. */
static void require_message(int result, const swm_error *error, const char *part)
{
    assert_int_equal(result, -1);
    if (strstr(error->text, part) == NULL) fail_msg("'%s' lacks '%s'", error->text, part);
    assert_null(strchr(error->text, '\n'));
}

static void pattern(swm_image *image, int width, int height)
{
    swm_error error = {0};
    require_ok(swm_image_make(image, width, height, &error), &error);
    uint32_t state = 12345;
    for (size_t i = 0; i < (size_t)width * (size_t)height * 3; i++) {
        state = state * 1664525u + 1013904223u;
        image->rgb[i] = (uint8_t)(state >> 24);
    }
}

static void test_decode(void **state)
{
    (void)state;
    swm_error error = {0};
    swm_safetensors *expected = swm_safetensors_open(PICTURES "expected.safetensors", &error);
    if (expected == NULL) fail_msg("%s", error.text);
    assert_true(swm_safetensors_count(expected) >= 25);
    for (size_t i = 0; i < swm_safetensors_count(expected); i++) {
        const char *name = NULL;
        const swm_tensor *want = swm_safetensors_at(expected, i, &name);
        char path[256];
        snprintf(path, sizeof path, PICTURES "%s", name);
        swm_image image;
        require_ok(swm_image_load(&image, path, &error), &error);
        assert_int_equal(image.height, want->shape[0]);
        assert_int_equal(image.width, want->shape[1]);
        /* libjpeg's inverse DCT rounds in its own way; one step of a sample is up to three of a colour. */
        int allowed = strstr(name, ".jpg") != NULL ? 3 : 0;
        const uint8_t *bytes = want->data;
        for (size_t k = 0; k < swm_bytes(*want); k++)
            if (abs(bytes[k] - image.rgb[k]) > allowed)
                fail_msg("%s: byte %zu is %d, expected %d", name, k, image.rgb[k], bytes[k]);
        swm_image_free(&image);
    }
    swm_safetensors_close(expected);
}

static void test_resize(void **state)
{
    (void)state;
    swm_error error = {0};
    swm_safetensors *golden = swm_safetensors_open("tests/golden/camera.safetensors", &error);
    if (golden == NULL) fail_msg("%s", error.text);
    int compared = 0;
    for (int i = 0; i < 5; i++) {
        char name[32];
        snprintf(name, sizeof name, "resize.%d.geom", i);
        const swm_tensor *geometry = swm_safetensors_find(golden, name);
        assert_non_null(geometry);
        const int64_t *g = geometry->data; /* h, w, target h, target w, then w, h, resized w, resized h, left, top */
        swm_fit fit = swm_image_fit((int)g[1], (int)g[0], (int)g[3], (int)g[2]);
        int got[6] = {fit.source_width, fit.source_height, fit.resized_width, fit.resized_height, fit.left, fit.top};
        for (int k = 0; k < 6; k++) assert_int_equal(got[k], g[4 + k]);
        snprintf(name, sizeof name, "resize.%d.in", i);
        const swm_tensor *in = swm_safetensors_find(golden, name);
        snprintf(name, sizeof name, "resize.%d.out", i);
        const swm_tensor *want = swm_safetensors_find(golden, name);
        if (in == NULL || want == NULL) continue;
        swm_image source = {(int)in->shape[1], (int)in->shape[0], in->data}, out;
        require_ok(swm_image_fit_to(&out, &fit, &source, (int)g[3], (int)g[2], &error), &error);
        assert_int_equal(out.height, want->shape[0]);
        assert_int_equal(out.width, want->shape[1]);
        assert_memory_equal(out.rgb, want->data, swm_bytes(*want));
        swm_image_free(&out);
        compared++;
    }
    assert_int_equal(compared, 3);
    swm_safetensors_close(golden);
}

/* Cropping while resizing gives the pixels of resizing, then cropping. */
static void test_resize_window(void **state)
{
    (void)state;
    static const int sizes[][4] = {{50, 20, 16, 40}, {20, 50, 31, 7}, {40, 30, 40, 20}, {30, 40, 15, 40}, {9, 9, 9, 9}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        swm_error error = {0};
        swm_image in, whole, out;
        swm_fit fit;
        pattern(&in, sizes[i][0], sizes[i][1]);
        require_ok(swm_image_fit_to(&out, &fit, &in, sizes[i][2], sizes[i][3], &error), &error);
        require_ok(swm_image_resize(&whole, &in, fit.resized_width, fit.resized_height, &error), &error);
        size_t row = (size_t)out.width * 3;
        for (int y = 0; y < out.height; y++)
            assert_memory_equal(out.rgb + (size_t)y * row,
                                whole.rgb + ((size_t)(y + fit.top) * (size_t)whole.width + (size_t)fit.left) * 3, row);
        swm_image_free(&in);
        swm_image_free(&whole);
        swm_image_free(&out);
    }
}

static void test_fit(void **state)
{
    (void)state;
    static const int cases[][6] = {{1691, 930, 1280, 704, 0, 0},
                                   {1672, 941, 1280, 720, 0, 8},
                                   {1024, 1024, 1280, 1280, 0, 288},
                                   {1080, 1920, 1280, 2276, 0, 786}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        swm_fit fit = swm_image_fit(cases[i][0], cases[i][1], 1280, 704);
        assert_int_equal(fit.resized_width, cases[i][2]);
        assert_int_equal(fit.resized_height, cases[i][3]);
        assert_int_equal(fit.left, cases[i][4]);
        assert_int_equal(fit.top, cases[i][5]);
    }
    /* A strip that would be 46 million pixels wide if it were resized before it is cropped. */
    swm_error error = {0};
    swm_image in, out;
    swm_fit fit;
    pattern(&in, SWM_IMAGE_SIDE, 1);
    require_ok(swm_image_fit_to(&out, &fit, &in, 1280, 704, &error), &error);
    assert_int_equal(fit.resized_width, SWM_IMAGE_SIDE * 704);
    swm_image_free(&out);
    require_message(swm_image_fit_to(&out, &fit, &in, 0, 704, &error), &error, "0 x 704");
    assert_null(out.rgb);
    swm_image_free(&in);
}

static void test_png_round_trip(void **state)
{
    (void)state;
    char directory[] = "/tmp/swm_image_XXXXXX", path[64];
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/a.png", directory);
    static const int sizes[][2] = {{1, 1}, {7, 3}, {64, 48}};
    for (size_t i = 0; i < 3; i++) {
        swm_error error = {0};
        swm_image image, back;
        pattern(&image, sizes[i][0], sizes[i][1]);
        require_ok(swm_image_save_png(path, &image, &error), &error);
        require_ok(swm_image_load(&back, path, &error), &error);
        assert_int_equal(back.width, image.width);
        assert_int_equal(back.height, image.height);
        assert_memory_equal(back.rgb, image.rgb, (size_t)(image.width * image.height * 3));
        swm_image_free(&image);
        swm_image_free(&back);
    }
    swm_error error = {0};
    swm_image image;
    pattern(&image, 2, 2);
    require_message(swm_image_save_png("/nonexistent/a.png", &image, &error), &error, "/nonexistent/a.png");
    swm_image_free(&image);
    unlink(path);
    assert_int_equal(rmdir(directory), 0);
}

static void refuse(const void *data, size_t size, const char *part)
{
    swm_error error = {0};
    swm_image image;
    require_message(swm_image_decode(&image, data, size, "input.png", &error), &error, part);
    assert_non_null(strstr(error.text, "input.png"));
    assert_null(image.rgb);
}

static void test_damaged(void **state)
{
    (void)state;
    refuse("", 0, "empty");
    refuse("hello, world", 12, "no picture");
    refuse("P", 1, "no picture");
    refuse("GIF89a......................", 28, "no picture");
    static const char *const whole[] = {"rgb.png", "ycc420.jpg", "progressive.jpg", "lossy.webp", "animation.webp",
                                        "rgb.bmp", "rgb.ppm",    "rgb.tif",         "gray4.png",  "interlaced.png"};
    for (size_t i = 0; i < sizeof whole / sizeof whole[0]; i++) {
        char path[256];
        snprintf(path, sizeof path, PICTURES "%s", whole[i]);
        swm_error error = {0};
        size_t size = 0;
        char *data = swm_file_read(path, 1 << 20, &size, &error);
        if (data == NULL) fail_msg("%s", error.text);
        for (size_t part = 1; part < 8; part++) refuse(data, size * part / 8, "input.png");
        free(data);
    }
    swm_error error = {0};
    swm_image image;
    require_message(swm_image_load(&image, PICTURES "missing.png", &error), &error, "missing.png");
    error = (swm_error){0};
    require_message(swm_image_load(&image, "tests", &error), &error, "tests");
}

/* Sizes that a header claims: over the limits, and within them but with nothing behind. */
static void test_huge(void **state)
{
    (void)state;
    swm_error error = {0};
    size_t size = 0;
    uint8_t *data = (uint8_t *)swm_file_read(PICTURES "rgb.png", 1 << 20, &size, &error);
    if (data == NULL) fail_msg("%s", error.text);
    static const uint8_t wide[] = {0, 1, 0, 0, 0, 0, 0, 1}, large[] = {0, 0, 200, 0, 0, 0, 200, 0},
                         bomb[] = {0, 0, 120, 0, 0, 0, 120, 0};
    memcpy(data + 16, wide, 8);
    refuse(data, size, "65536 x 1");
    memcpy(data + 16, large, 8);
    refuse(data, size, "51200 x 51200");
    memcpy(data + 16, bomb, 8);
    refuse(data, size, "cannot be decoded");
    free(data);
    swm_image image;
    require_message(swm_image_make(&image, 0, 5, &error), &error, "0 x 5");
}

static void test_exif(void **state)
{
    (void)state;
    double focal = 0;
    static const char *const names[] = {"focal35.jpg", "focal35.png", "focal35.webp"};
    for (size_t i = 0; i < 3; i++) {
        char path[256];
        snprintf(path, sizeof path, PICTURES "%s", names[i]);
        assert_true(swm_image_exif_focal(path, 1300, 1100, &focal));
        assert_true(fabs(focal - 26.0 / sqrt(36.0 * 36.0 + 24.0 * 24.0) * hypot(1300, 1100)) < 1e-6);
    }
    /* 5 mm at 20 pixels a millimetre, in a picture half as large as the sensor's. */
    assert_true(swm_image_exif_focal(PICTURES "focal_sensor.jpg", 13, 11, &focal));
    assert_true(fabs(focal - 50.0) < 1e-9);
    assert_false(swm_image_exif_focal(PICTURES "rgb.png", 13, 11, &focal));
    assert_false(swm_image_exif_focal(PICTURES "missing.jpg", 13, 11, &focal));
    /* Cut anywhere it is found or not found, but never read beyond; ASan watches. */
    swm_error error = {0};
    size_t size = 0;
    char *data = swm_file_read(PICTURES "focal35.jpg", 1 << 20, &size, &error);
    if (data == NULL) fail_msg("%s", error.text);
    for (size_t part = 0; part < size; part++) {
        uint8_t *copy = malloc(part + 1);
        assert_non_null(copy);
        memcpy(copy, data, part);
        swm_image_exif_focal_decode(copy, part, 1300, 1100, &focal);
        free(copy);
    }
    free(data);
}

int test_image(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode), cmocka_unit_test(test_resize),         cmocka_unit_test(test_resize_window),
        cmocka_unit_test(test_fit),    cmocka_unit_test(test_png_round_trip), cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_huge),   cmocka_unit_test(test_exif),
    };
    return cmocka_run_group_tests_name("image", tests, NULL, NULL);
}
