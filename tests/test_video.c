/* Videos: every codec out and back in, colours, tags, options, and what is left behind when something goes wrong. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/file.h"
#include "io/image.h"
#include "io/video.h"

/* libx265 3.5 leaks one kilobyte an encode; the leak checker is to show ours only. */
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) { return "leak:libx265\n"; }

enum { SIDE = 64, FRAMES = 10, FRAME_BYTES = SIDE * SIDE * 3 };

typedef struct place {
    char directory[32], path[64];
} place;

static void make_place(place *p, const char *name)
{
    strcpy(p->directory, "/tmp/swm_video_XXXXXX");
    assert_non_null(mkdtemp(p->directory));
    snprintf(p->path, sizeof p->path, "%s/%s", p->directory, name);
}

/* The directory holds nothing but what the test itself removed: no temporary file was left. */
static void remove_place(const place *p) { assert_int_equal(rmdir(p->directory), 0); }

static void require_ok(int result, const swm_error *error)
{
    if (result != 0) fail_msg("%s", error->text);
}

static void require_message(bool failed, const swm_error *error, const char *part)
{
    assert_true(failed);
    if (strstr(error->text, part) == NULL) fail_msg("'%s' lacks '%s'", error->text, part);
    assert_null(strchr(error->text, '\n'));
}

/* A smooth moving picture: what a codec keeps well even at 64 pixels. */
static void draw(uint8_t *rgb, int frame)
{
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) {
            uint8_t *p = rgb + (y * SIDE + x) * 3;
            p[0] = (uint8_t)(128 + 100 * sin((x + 2 * frame) / 11.0));
            p[1] = (uint8_t)(128 + 100 * cos((y - frame) / 13.0));
            p[2] = (uint8_t)(64 + x + y + frame);
        }
}

static void noise(uint8_t *rgb, size_t size, uint32_t state)
{
    for (size_t i = 0; i < size; i++) {
        state = state * 1664525u + 1013904223u;
        rgb[i] = (uint8_t)(state >> 24);
    }
}

static double psnr(const uint8_t *a, const uint8_t *b, size_t size)
{
    double sum = 0;
    for (size_t i = 0; i < size; i++) sum += (a[i] - b[i]) * (a[i] - b[i]);
    return sum == 0 ? 99.0 : 10.0 * log10(255.0 * 255.0 * (double)size / sum);
}

static void write_video(const char *path, const swm_video_options *options)
{
    static uint8_t rgb[FRAME_BYTES];
    swm_error error = {0};
    swm_video *video = swm_video_open(path, options, &error);
    if (video == NULL) fail_msg("%s", error.text);
    for (int i = 0; i < FRAMES; i++) {
        draw(rgb, i);
        require_ok(swm_video_write(video, rgb, &error), &error);
    }
    assert_false(swm_file_exists(path));
    require_ok(swm_video_finish(video, &error), &error);
}

static void check_video(const char *path, const char *codec, double fps, bool bt709, double least_psnr)
{
    static uint8_t rgb[FRAME_BYTES], want[FRAME_BYTES];
    swm_error error = {0};
    swm_video_info info;
    swm_video_reader *reader = swm_video_reader_open(path, &info, &error);
    if (reader == NULL) fail_msg("%s", error.text);
    assert_string_equal(info.codec, codec);
    assert_int_equal(info.width, SIDE);
    assert_int_equal(info.height, SIDE);
    assert_true(fabs(info.fps - fps) < 1e-3);
    assert_true(info.frames == FRAMES || (info.frames == 0 && !bt709)); /* Matroska does not count */
    assert_int_equal(info.bt709, bt709);
    assert_string_equal(info.comment, "seed 42; steps 60");
    for (int i = 0; i < FRAMES; i++) {
        assert_int_equal(swm_video_reader_next(reader, rgb, &error), 1);
        draw(want, i);
        double quality = psnr(rgb, want, FRAME_BYTES);
        if (quality < least_psnr) fail_msg("%s: frame %d has %.1f dB", codec, i, quality);
    }
    assert_int_equal(swm_video_reader_next(reader, rgb, &error), 0);
    swm_video_reader_close(reader);
}

static void round_trip(swm_video_codec codec, const char *name, double fps, double least_psnr)
{
    place p;
    make_place(&p, codec == SWM_FFV1 ? "a:b.mkv" : "a:b.mp4");
    swm_video_options options = {.codec = codec,
                                 .width = SIDE,
                                 .height = SIDE,
                                 .fps = fps,
                                 .quality = -1,
                                 .threads = 2,
                                 .comment = "seed 42; steps 60"};
    write_video(p.path, &options);
    check_video(p.path, name, fps, codec != SWM_FFV1, least_psnr);
    /* The same frames give the same bytes; x265 does not keep to that. */
    size_t size = 0, again_size = 0;
    swm_error error = {0};
    char *first = swm_file_read(p.path, 1 << 24, &size, &error);
    unlink(p.path);
    write_video(p.path, &options);
    char *again = swm_file_read(p.path, 1 << 24, &again_size, &error);
    assert_non_null(first);
    assert_non_null(again);
    if (codec != SWM_HEVC) {
        assert_int_equal(size, again_size);
        assert_memory_equal(first, again, size);
    }
    /* An index in front lets a browser play before the whole file is there. */
    if (codec != SWM_FFV1) {
        char *index = memmem(first, size, "moov", 4), *media = memmem(first, size, "mdat", 4);
        assert_true(index != NULL && media != NULL && index < media);
    }
    free(first);
    free(again);
    unlink(p.path);
    remove_place(&p);
}

static void test_h264(void **state)
{
    (void)state;
    round_trip(SWM_H264, "h264", 16, 35);
}

static void test_hevc(void **state)
{
    (void)state;
    round_trip(SWM_HEVC, "hevc", 30000.0 / 1001.0, 35);
}

static void test_av1(void **state)
{
    (void)state;
    round_trip(SWM_AV1, "av1", 24, 30);
}

static void test_ffv1(void **state)
{
    (void)state;
    round_trip(SWM_FFV1, "ffv1", 16, 99);
}

/* Lossless means every byte, of noise too and at odd sizes. */
static void test_lossless(void **state)
{
    (void)state;
    enum { WIDTH = 37, HEIGHT = 21, SIZE = WIDTH * HEIGHT * 3 };
    uint8_t rgb[SIZE], back[SIZE];
    place p;
    make_place(&p, "odd.mkv");
    swm_error error = {0};
    swm_video_options options = {.codec = SWM_FFV1, .width = WIDTH, .height = HEIGHT, .fps = 10, .quality = -1};
    swm_video *video = swm_video_open(p.path, &options, &error);
    for (uint32_t i = 0; i < 3; i++) {
        noise(rgb, SIZE, i);
        require_ok(swm_video_write(video, rgb, &error), &error);
    }
    require_ok(swm_video_finish(video, &error), &error);
    swm_video_reader *reader = swm_video_reader_open(p.path, NULL, &error);
    if (reader == NULL) fail_msg("%s", error.text);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(swm_video_reader_next(reader, back, &error), 1);
        noise(rgb, SIZE, i);
        assert_memory_equal(rgb, back, SIZE);
    }
    swm_video_reader_close(reader);
    unlink(p.path);
    remove_place(&p);
}

static void test_png_sequence(void **state)
{
    (void)state;
    place p;
    make_place(&p, "frames/");
    swm_error error = {0};
    swm_video_options options = {.codec = SWM_PNG_SEQUENCE, .width = 9, .height = 5, .fps = 16, .quality = -1};
    uint8_t rgb[9 * 5 * 3];
    swm_video *video = swm_video_open(p.path, &options, &error);
    if (video == NULL) fail_msg("%s", error.text);
    for (uint32_t i = 0; i < 3; i++) {
        noise(rgb, sizeof rgb, i);
        require_ok(swm_video_write(video, rgb, &error), &error);
    }
    require_ok(swm_video_finish(video, &error), &error);
    /* What is there is not overwritten. */
    assert_null(swm_video_open(p.path, &options, &error));
    require_message(true, &error, "exists already");
    error = (swm_error){0};
    for (uint32_t i = 0; i < 3; i++) {
        char path[96];
        snprintf(path, sizeof path, "%s%06u.png", p.path, i);
        swm_image image;
        require_ok(swm_image_load(&image, path, &error), &error);
        noise(rgb, sizeof rgb, i);
        assert_memory_equal(image.rgb, rgb, sizeof rgb);
        swm_image_free(&image);
        assert_int_equal(unlink(path), 0);
    }
    assert_int_equal(rmdir(p.path), 0);
    remove_place(&p);
}

/* Flat colours come back within a step or two: the matrix, the range and the tags agree. */
static void test_colours(void **state)
{
    (void)state;
    static const uint8_t colours[][3] = {{255, 0, 0}, {0, 255, 0},     {0, 0, 255},   {255, 255, 255},
                                         {0, 0, 0},   {128, 128, 128}, {200, 30, 90}, {20, 160, 220}};
    static uint8_t rgb[FRAME_BYTES];
    place p;
    make_place(&p, "colours.mp4");
    swm_error error = {0};
    swm_video_options options = {.codec = SWM_H264, .width = SIDE, .height = SIDE, .fps = 16, .quality = 1};
    swm_video *video = swm_video_open(p.path, &options, &error);
    if (video == NULL) fail_msg("%s", error.text);
    for (size_t i = 0; i < 8; i++) {
        for (int k = 0; k < FRAME_BYTES; k++) rgb[k] = colours[i][k % 3];
        require_ok(swm_video_write(video, rgb, &error), &error);
    }
    require_ok(swm_video_finish(video, &error), &error);
    swm_video_reader *reader = swm_video_reader_open(p.path, NULL, &error);
    if (reader == NULL) fail_msg("%s", error.text);
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(swm_video_reader_next(reader, rgb, &error), 1);
        const uint8_t *got = rgb + (32 * SIDE + 32) * 3;
        for (int c = 0; c < 3; c++)
            if (abs(got[c] - colours[i][c]) > 2)
                fail_msg("colour %zu is %d %d %d, expected %d %d %d", i, got[0], got[1], got[2], colours[i][0],
                         colours[i][1], colours[i][2]);
    }
    swm_video_reader_close(reader);
    unlink(p.path);
    remove_place(&p);
}

static void test_abort(void **state)
{
    (void)state;
    static uint8_t rgb[FRAME_BYTES];
    static const swm_video_codec codecs[] = {SWM_H264, SWM_FFV1, SWM_PNG_SEQUENCE};
    for (size_t i = 0; i < 3; i++) {
        place p;
        make_place(&p, "gone.mp4");
        swm_error error = {0};
        swm_video_options options = {.codec = codecs[i], .width = SIDE, .height = SIDE, .fps = 16, .quality = -1};
        swm_video *video = swm_video_open(p.path, &options, &error);
        if (video == NULL) fail_msg("%s", error.text);
        draw(rgb, 0);
        require_ok(swm_video_write(video, rgb, &error), &error);
        swm_video_abort(video);
        remove_place(&p);
        /* Nothing written is no video. */
        make_place(&p, "empty.mp4");
        video = swm_video_open(p.path, &options, &error);
        require_message(swm_video_finish(video, &error) != 0, &error, "no frame");
        remove_place(&p);
    }
    swm_video_abort(NULL);
    swm_video_reader_close(NULL);
}

static void refuse(swm_video_options options, const char *path, const char *part)
{
    swm_error error = {0};
    require_message(swm_video_open(path, &options, &error) == NULL, &error, part);
    assert_non_null(strstr(error.text, path));
}

static void test_options(void **state)
{
    (void)state;
    swm_video_options good = {.codec = SWM_H264, .width = 64, .height = 64, .fps = 16, .quality = -1}, o;
    o = good, o.width = 63, refuse(o, "a.mp4", "FFV1");
    o = good, o.height = 0, refuse(o, "a.mp4", "64 x 0");
    o = good, o.width = 1 << 20, refuse(o, "a.mp4", "sides");
    o = good, o.fps = 0, refuse(o, "a.mp4", "frames a second");
    o = good, o.fps = NAN, refuse(o, "a.mp4", "frames a second");
    o = good, o.quality = 52, refuse(o, "a.mp4", "quality");
    o = good, o.threads = -1, refuse(o, "a.mp4", "threads");
    refuse(good, "/nonexistent/a.mp4", "cannot be written");
    refuse(good, "/tmp", "directory");
    o = good, o.codec = SWM_PNG_SEQUENCE, refuse(o, "/nonexistent/frames", "cannot be written");
    swm_video_codec codec;
    swm_error error = {0};
    assert_int_equal(swm_video_codec_from_name("ffv1", &codec, &error), 0);
    assert_int_equal(codec, SWM_FFV1);
    require_message(swm_video_codec_from_name("h266", &codec, &error) != 0, &error, "h266");
}

/* A file that may not grow stands for a full disk. */
static void test_disk_full(void **state)
{
    (void)state;
    static uint8_t rgb[FRAME_BYTES];
    static const swm_video_codec codecs[] = {SWM_H264, SWM_FFV1, SWM_PNG_SEQUENCE};
    for (size_t i = 0; i < 3; i++) {
        place p;
        make_place(&p, "full.mp4");
        swm_error error = {0};
        struct rlimit before, tight;
        void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
        getrlimit(RLIMIT_FSIZE, &before);
        tight = before;
        tight.rlim_cur = 8192;
        setrlimit(RLIMIT_FSIZE, &tight);
        swm_video_options options = {.codec = codecs[i], .width = SIDE, .height = SIDE, .fps = 16, .quality = 5};
        swm_video *video = swm_video_open(p.path, &options, &error);
        int result = video != NULL ? 0 : -1;
        for (uint32_t k = 0; result == 0 && k < 12; k++) {
            noise(rgb, FRAME_BYTES, k);
            result = swm_video_write(video, rgb, &error);
        }
        if (result == 0)
            result = swm_video_finish(video, &error);
        else
            swm_video_abort(video);
        setrlimit(RLIMIT_FSIZE, &before);
        signal(SIGXFSZ, handler);
        require_message(result != 0, &error, "cannot be written: File too large");
        remove_place(&p);
    }
}

static void test_bad_input(void **state)
{
    (void)state;
    swm_error error = {0};
    assert_null(swm_video_reader_open("/nonexistent.mp4", NULL, &error));
    require_message(true, &error, "/nonexistent.mp4");
    place p;
    make_place(&p, "bad.mp4");
    static const char *const texts[] = {"", "no video", "#EXTM3U\n#EXTINF:1,\nhttp://localhost/a.ts\n"};
    for (size_t i = 0; i < 3; i++) {
        error = (swm_error){0};
        require_ok(swm_file_write(p.path, texts[i], strlen(texts[i]), &error), &error);
        assert_null(swm_video_reader_open(p.path, NULL, &error));
        require_message(true, &error, "bad.mp4");
    }
    unlink(p.path);
    remove_place(&p);
}

int test_video(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_h264),      cmocka_unit_test(test_hevc),      cmocka_unit_test(test_av1),
        cmocka_unit_test(test_ffv1),      cmocka_unit_test(test_lossless),  cmocka_unit_test(test_png_sequence),
        cmocka_unit_test(test_colours),   cmocka_unit_test(test_abort),     cmocka_unit_test(test_options),
        cmocka_unit_test(test_disk_full), cmocka_unit_test(test_bad_input),
    };
    return cmocka_run_group_tests_name("video", tests, NULL, NULL);
}
