/* Plots of several paths, the sketch for the terminal, and the page that plays paths: as text and pixels. The page itself
 * runs in a browser in tests/interop/viewer.sh. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "camera/html.h"
#include "camera/plot.h"
#include "camera/preset.h"
#include "camera/sketch.h"
#include "io/json.h"

int test_plot(void);

static swm_poses move(const char *name, int64_t frames)
{
    swm_preset_options options = swm_preset_defaults(swm_preset_find(name, NULL));
    options.frames = frames;
    swm_poses poses;
    assert_int_equal(swm_preset_make(&options, &poses, NULL), 0);
    return poses;
}

static int occurrences(const char *text, const char *words)
{
    int count = 0;
    for (const char *at = strstr(text, words); at != NULL; at = strstr(at + 1, words)) count++;
    return count;
}

/* Pixels of about that colour. */
static int pixels(const swm_image *image, uint32_t color)
{
    int count = 0;
    for (int i = 0; i < image->width * image->height; i++) {
        int off = 0;
        for (int k = 0; k < 3; k++) off += abs((int)image->rgb[3 * i + k] - (int)(color >> (16 - 8 * k) & 0xff));
        count += off < 24;
    }
    return count;
}

static void several_paths_share_a_page(void **state)
{
    (void)state;
    swm_poses orbit = move("orbit", 81), dolly = move("dolly", 41), crane = move("crane", 61);
    const swm_plot_path paths[3] = {{&orbit, "around <it>"}, {&dolly, "ahead"}, {&crane, NULL}};
    const swm_plot_options options = {.width = 600, .height = 480};
    swm_error error = {0};
    swm_image image;
    if (swm_plot_paths(&image, paths, 3, &options, &error) < 0) fail_msg("%s", error.text);
    assert_true(pixels(&image, 0x2f6dac) > 40 && pixels(&image, 0xd0722a) > 40 && pixels(&image, 0xb5446e) > 40);
    swm_image_free(&image);
    char *svg = swm_plot_paths_svg(paths, 3, &options, &error);
    assert_non_null(svg);
    assert_non_null(strstr(svg, "around &lt;it&gt;"));
    assert_non_null(strstr(svg, "81 frames"));
    assert_non_null(strstr(svg, "41 frames"));
    assert_non_null(strstr(svg, "3 paths"));
    assert_non_null(strstr(svg, "From above"));
    assert_non_null(strstr(svg, "From the right"));
    /* 5 degrees a frame is far more than the model knows: the line that says so is drawn. */
    assert_int_equal(occurrences(svg, "usual at most"), 2);
    assert_null(strstr(svg, "nan"));
    free(svg);
    assert_int_equal(swm_plot_paths(&image, paths, 0, &options, NULL), -1);
    assert_int_equal(swm_plot_paths(&image, paths, SWM_PLOT_MOST_PATHS + 1, &options, &error), -1);
    assert_non_null(strstr(error.text, "1 to 8"));
    swm_poses_free(&orbit);
    swm_poses_free(&dolly);
    swm_poses_free(&crane);
}

/* Lines, and whether none is longer than so many characters. */
static int lines_of(const char *text, int columns)
{
    int lines = 0, width = 0;
    for (const uint8_t *p = (const uint8_t *)text; *p != '\0'; p++) {
        if (*p == '\n') {
            lines++;
            width = 0;
        } else if ((*p & 0xc0) != 0x80 && ++width > columns) {
            fail_msg("line %d is longer than %d characters", lines + 1, columns);
        }
    }
    return lines;
}

static void a_sketch_shows_the_way(void **state)
{
    (void)state;
    swm_poses poses = move("dolly", 41);
    const swm_plot_path path = {&poses, "dolly"};
    const swm_sketch_options options = {.columns = 40, .rows = 16};
    char *text = swm_sketch(&path, 1, &options, NULL);
    assert_non_null(text);
    assert_int_equal(lines_of(text, 60), 16);
    /* Straight ahead: the end stands above the start in the same column, and the cameras look up the page. */
    const char *end = strstr(text, "\xe2\x96\xa0"), *start = strstr(text, "\xe2\x97\x8f");
    assert_true(end != NULL && start != NULL && end < start);
    assert_true(occurrences(text, "\xe2\x86\x91") >= 3);
    assert_int_equal(occurrences(text, "\xe2\x86\x92"), 0);
    assert_non_null(strstr(text, "41 frames, 2.6 s, 2.00 units, 0 degrees"));
    assert_non_null(strstr(text, "speed"));
    free(text);
    swm_poses_free(&poses);

    swm_poses orbit = move("orbit", 961), still = move("pan", 2);
    const swm_plot_path paths[2] = {{&orbit, "or\x1b[31mbit"}, {&still, NULL}};
    text = swm_sketch(paths, 2, NULL, NULL);
    assert_non_null(text);
    assert_int_equal(lines_of(text, 80), 30);
    assert_null(strchr(text, '\x1b'));
    assert_non_null(strstr(text, "1 or?[31mbit  961 frames"));
    assert_non_null(strstr(text, "2 "));
    free(text);
    swm_error error = {0};
    assert_null(swm_sketch(paths, 2, &(swm_sketch_options){.columns = 10, .rows = 20}, &error));
    assert_non_null(strstr(error.text, "24 .. 400"));
    orbit.c2w[3] = NAN;
    assert_null(swm_sketch(paths, 2, NULL, NULL));
    swm_poses_free(&orbit);
    swm_poses_free(&still);
}

/* No extent, one pose, far away, thinnest and smallest grids. */
static void odd_paths_are_sketched(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        swm_poses poses = move("dolly", 3);
        if (i == 1) poses.count = 1;
        if (i == 2) poses.c2w[3] = poses.c2w[19] = poses.c2w[35] = 1e6f;
        if (i == 3) poses.c2w[3] = -1e6f;
        for (int rows = 8; rows <= 200; rows += 48)
            for (int columns = 24; columns <= 400; columns += 94) {
                const swm_plot_path path = {&poses, ""};
                char *text = swm_sketch(&path, 1, &(swm_sketch_options){.columns = columns, .rows = rows}, NULL);
                assert_non_null(text);
                free(text);
            }
        swm_poses_free(&poses);
    }
}

/* The data of a page as a tree. */
static cJSON *data_of(const char *page)
{
    static const char begin[] = "const data = ";
    const char *at = strstr(page, begin), *end = at != NULL ? strstr(at, "]};\n") : NULL;
    assert_non_null(end);
    at += sizeof begin - 1;
    swm_error error = {0};
    cJSON *tree = swm_json_parse("page", at, (size_t)(end + 2 - at), &error);
    if (tree == NULL) fail_msg("%s", error.text);
    return tree;
}

static void a_page_carries_its_paths(void **state)
{
    (void)state;
    swm_poses orbit = move("orbit", 81), dolly = move("dolly", 41);
    const swm_plot_path paths[2] = {{&orbit, "</script><b>\"x\" \xc3\xa9 \xf0\x9f\x8e\xa5 \xff\xed\xa0\x80"},
                                    {&dolly, "b"}};
    const swm_plot_options options = {.title = "a & b", .fps = 24};
    swm_error error = {0};
    char *page = swm_camera_html(paths, 2, &options, &error);
    if (page == NULL) fail_msg("%s", error.text);
    cJSON *data = data_of(page);
    assert_string_equal(cJSON_GetObjectItem(data, "title")->valuestring, "a & b");
    assert_true(cJSON_GetObjectItem(data, "fps")->valuedouble == 24);
    const cJSON *list = cJSON_GetObjectItem(data, "paths"), *first = cJSON_GetArrayItem(list, 0);
    assert_int_equal(cJSON_GetArraySize(list), 2);
    /* The name survives, but for bytes that are no text, and cannot leave the script. */
    assert_string_equal(cJSON_GetObjectItem(first, "name")->valuestring,
                        "</script><b>\"x\" \xc3\xa9 \xf0\x9f\x8e\xa5 ??");
    assert_int_equal(occurrences(page, "</script>"), 1);
    const cJSON *poses = cJSON_GetObjectItem(first, "poses"), *quarter = cJSON_GetArrayItem(poses, 40);
    assert_int_equal(cJSON_GetArraySize(poses), 81);
    /* Half way around, two units behind the subject, turned by 180 degrees about the vertical. */
    const double expected[7] = {0, 0, 4, 0, 0, 1, 0};
    for (int i = 0; i < 7; i++)
        assert_true(fabs(fabs(cJSON_GetArrayItem(quarter, i)->valuedouble) - expected[i]) < 2e-6);
    cJSON_Delete(data);
    /* It needs nothing from anywhere. */
    assert_null(strstr(page, "http://"));
    assert_null(strstr(page, "https://"));
    assert_null(strstr(page, " src="));
    assert_null(strstr(page, "fetch("));
    free(page);
    swm_poses many = move("dolly", SWM_HTML_MOST_POSES + 1);
    assert_null(swm_camera_html(&(swm_plot_path){&many, "long"}, 1, NULL, &error));
    assert_non_null(strstr(error.text, "at most 100000"));
    swm_poses_free(&many);
    swm_poses_free(&orbit);
    swm_poses_free(&dolly);
}

int test_plot(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(several_paths_share_a_page),
        cmocka_unit_test(a_sketch_shows_the_way),
        cmocka_unit_test(odd_paths_are_sketched),
        cmocka_unit_test(a_page_carries_its_paths),
    };
    return cmocka_run_group_tests_name("plot", tests, NULL, NULL);
}
