/* Camera path formats: what each means against poses computed by hand, round trips between all pairs, guessing and its
 * refusals, damaged files, and datasets. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "camera/dataset.h"
#include "camera/resample.h"
#include "camera/trajectory.h"
#include "core/file.h"
#include "io/npy.h"

#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int test_formats(void);

/* --- a directory of our own --- */

static char scratch[64];
static char place_text[4][256];

static int enter(void **state)
{
    (void)state;
    snprintf(scratch, sizeof scratch, "/tmp/swm-formats-XXXXXX");
    return mkdtemp(scratch) != NULL ? 0 : -1;
}

static int remove_entry(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
    (void)status;
    (void)kind;
    (void)walk;
    return remove(path);
}

static int leave(void **state)
{
    (void)state;
    return nftw(scratch, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

/* Names in the directory; four live at a time. */
static const char *place(const char *name)
{
    static int next;
    char *text = place_text[next++ % 4];
    snprintf(text, sizeof place_text[0], "%s/%s", scratch, name);
    return text;
}

static void write_text(const char *name, const char *text)
{
    swm_error error = {0};
    char directory[256];
    snprintf(directory, sizeof directory, "%s", place(name));
    *strrchr(directory, '/') = '\0';
    if (swm_make_directories(directory, &error) < 0 || swm_file_write(place(name), text, strlen(text), &error) < 0)
        fail_msg("%s", error.text);
}

/* --- poses by hand --- */

enum { POSES = 5 };

/* Camera to world with OpenCV axes, in a world of x right, y down, z forward:
 * 0: at the origin, looking forward
 * 1: one metre to the right, looking back
 * 2: two metres up, looking straight down, its upper edge forward
 * 3: three metres forward, turned to the right by 90 degrees
 * 4: 0.25 left, half a metre down, 1.5 forward, rolled clockwise by 30 degrees */
#define C30 0.86602540378443864676
static const double HAND[POSES][16] = {
    {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1},
    {-1, 0, 0, 1, 0, 1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1},
    {1, 0, 0, 0, 0, 0, 1, -2, 0, -1, 0, 0, 0, 0, 0, 1},
    {0, 0, 1, 0, 0, 1, 0, 0, -1, 0, 0, 3, 0, 0, 0, 1},
    {C30, -0.5, 0, -0.25, 0.5, C30, 0, 0.5, 0, 0, 1, 1.5, 0, 0, 0, 1},
};
static const double LENS[4] = {800, 800, 320, 180}; /* of 640x360 */

static swm_camera_path hand_path(bool times, bool names)
{
    swm_error error = {0};
    swm_camera_path path;
    if (swm_camera_path_create(&path, POSES, times, true, names, &error) < 0) fail_msg("%s", error.text);
    for (int i = 0; i < POSES; i++) {
        memcpy(path.c2w + 16 * i, HAND[i], sizeof HAND[i]);
        memcpy(path.intrinsics + 4 * i, LENS, sizeof LENS);
        if (times) path.times[i] = 0.5 * i;
        char name[32];
        snprintf(name, sizeof name, "view_%d.png", i);
        if (names) path.names[i] = swm_copy_string(&error, name);
    }
    path.width = 640;
    path.height = 360;
    path.fps = 2;
    return path;
}

static void expect_near(const char *what, const double *a, const double *b, int64_t count, double tolerance)
{
    for (int64_t i = 0; i < count; i++)
        if (!(fabs(a[i] - b[i]) <= tolerance))
            fail_msg("%s: number %lld is %.12g, expected %.12g", what, (long long)i, a[i], b[i]);
}

static void expect_hand(const char *what, const swm_camera_path *path, double tolerance)
{
    if (path->count != POSES) fail_msg("%s: %lld poses", what, (long long)path->count);
    expect_near(what, path->c2w, HAND[0], sizeof HAND / sizeof(double), tolerance);
}

static swm_camera_path load(const char *name, const swm_path_reading *reading)
{
    swm_error error = {0};
    swm_camera_path path;
    if (swm_camera_path_load(&path, place(name), reading, &error) < 0) fail_msg("%s", error.text);
    return path;
}

static void save(const swm_camera_path *path, const char *name, swm_path_format format)
{
    swm_error error = {0};
    if (swm_camera_path_save(path, place(name), &(swm_path_writing){.format = format}, &error) < 0)
        fail_msg("%s", error.text);
}

/* Loading fails with one line that has the file in front and says `text`. */
static void expect_refusal(const char *name, const swm_path_reading *reading, const char *text)
{
    swm_error error = {0};
    swm_camera_path path;
    if (swm_camera_path_load(&path, place(name), reading, &error) == 0)
        fail_msg("%s was taken; expected \"%s\"", name, text);
    assert_null(path.c2w);
    assert_null(strchr(error.text, '\n'));
    if (strstr(error.text, text) == NULL) fail_msg("\"%s\" does not say \"%s\"", error.text, text);
    if (strstr(error.text, scratch) == NULL) fail_msg("\"%s\" does not name the file", error.text);
}

static void refuse_text(const char *name, const char *content, const char *text)
{
    write_text(name, content);
    expect_refusal(name, NULL, text);
}

/* --- meaning --- */

/* c2w quaternions x y z w: none; half a turn about y; a quarter about -x; a quarter about y; 30 degrees about z. */
static const char TUM_HAND[] = "# time tx ty tz qx qy qz qw\n"
                               "0 0 0 0 0 0 0 1\n"
                               "0.5 1 0 0 0 1 0 0\r\n"
                               "\n"
                               "1e0 0 -2 0 -0.7071067811865476 0 0 0.7071067811865476\n"
                               "1.5 0 0 3 0 0.7071067811865476 0 0.7071067811865476\n"
                               "2 -0.25 0.5 1.5 0 0 0.25881904510252074 0.9659258262890683";

static const char KITTI_HAND[] = "1 0 0 0 0 1 0 0 0 0 1 0\n"
                                 "-1 0 0 1 0 1 0 0 0 0 -1 0\n"
                                 "1 0 0 0 0 0 1 -2 0 -1 0 0\n"
                                 "0 0 1 0 0 1 0 0 -1 0 0 3\n"
                                 "0.8660254037844386 -0.5 0 -0.25 0.5 0.8660254037844386 0 0.5 0 0 1 1.5\n";

/* World to camera. Camera 1 sees the origin one metre to its right; camera 2 has it two metres ahead; camera 3 three
 * metres to its right; camera 4 at (R^T)(0.25,-0.5,-1.5). */
static const char REALESTATE_HAND[] = "https://example.org/video\n"
                                      "0 1.25 2.2222222222222223 0.5 0.5 0 0 1 0 0 0 0 1 0 0 0 0 1 0\n"
                                      "500000 1.25 2.2222222222222223 0.5 0.5 0 0 -1 0 0 1 0 1 0 0 0 0 -1 0\n"
                                      "1000000 1.25 2.2222222222222223 0.5 0.5 0 0 1 0 0 0 0 0 -1 0 0 1 0 2\n"
                                      "1500000 1.25 2.2222222222222223 0.5 0.5 0 0 0 0 -1 3 0 1 0 0 1 0 0 0\n"
                                      "2000000 1.25 2.2222222222222223 0.5 0.5 0 0 0.8660254037844386 0.5 0 "
                                      "-0.0334936490538903 -0.5 0.8660254037844386 0 "
                                      "-0.5580127018922193 0 0 1 -1.5\n";

static const char CAMERAS_HAND[] =
    "# one camera\n1 SIMPLE_PINHOLE 640 360 800 320 180\n7 PINHOLE 640 360 800 800 320 180\n";
/* Out of order, with points, with a line of no points, the last line without its line end. */
static const char IMAGES_HAND[] =
    "# images\n"
    "11 1 0 0 0 0 0 0 1 view_0.png\n"
    "1.5 2.5 -1 4 5 17\n"
    "4 0.7071067811865476 0 -0.7071067811865476 0 3 0 0 7 view_3.png\n"
    "\n"
    "2 0 0 1 0 1 0 0 1 view_1.png\n"
    "\n"
    "3 0.7071067811865476 0.7071067811865476 0 0 0 0 2 1 view_2.png\n"
    "\n"
    "5 0.9659258262890683 0 0 -0.25881904510252074 -0.0334936490538903 -0.5580127018922193 -1.5 1 view_10.png\n";

/* OpenGL axes: y up and z back, so the second and third column are those of OpenCV negated. */
#define FRAMES_HAND                                                                                                    \
    "\"frames\": [{\"file_path\": \"./r_0\", \"transform_matrix\": [[1,0,0,0],[0,-1,0,0],[0,0,-1,0],[0,0,0,1]]},"      \
    "{\"file_path\": \"./r_1\", \"transform_matrix\": [[-1,0,0,1],[0,-1,0,0],[0,0,1,0],[0,0,0,1]]},"                   \
    "{\"file_path\": \"./r_2\", \"transform_matrix\": [[1,0,0,0],[0,0,-1,-2],[0,1,0,0],[0,0,0,1]]},"                   \
    "{\"file_path\": \"./r_10\", \"transform_matrix\": [[0.8660254037844386,0.5,0,-0.25],"                             \
    "[0.5,-0.8660254037844386,0,0.5],[0,0,-1,1.5]]},"                                                                  \
    "{\"file_path\": \"./r_3\", \"transform_matrix\": [[0,0,-1,0],[0,-1,0,0],[-1,0,0,3],[0,0,0,1]]}]}"

/* 2 atan(320/800) */
#define ANGLE_HAND "0.7610127542247298"

static const struct {
    const char *name, *text;
    swm_path_format format;
} HAND_FILES[] = {
    {"a.txt", TUM_HAND, SWM_PATH_TUM},
    {"b.txt", KITTI_HAND, SWM_PATH_KITTI},
    {"c.txt", REALESTATE_HAND, SWM_PATH_REALESTATE},
    {"d.json", "{\"fl_x\": 800, \"fl_y\": 800.0, \"cx\": 320, \"cy\": 180, \"w\": 640, \"h\": 360, " FRAMES_HAND,
     SWM_PATH_NERFSTUDIO},
    {"e.json",
     "{\"aabb_scale\": 16, \"camera_angle_x\": " ANGLE_HAND ", \"fl_x\": 800, \"w\": 640, \"h\": 360, " FRAMES_HAND,
     SWM_PATH_INSTANT_NGP},
    {"f.json", "{\"camera_angle_x\": " ANGLE_HAND ", " FRAMES_HAND, SWM_PATH_BLENDER},
    {"g.json",
     "{\"width\": 640, \"height\": 360, \"fps\": 2, \"c2w\": [[1,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1],"
     "[-1,0,0,1, 0,1,0,0, 0,0,-1,0, 0,0,0,1],[[1,0,0,0],[0,0,1,-2],[0,-1,0,0],[0,0,0,1]],"
     "[0,0,1,0, 0,1,0,0, -1,0,0,3, 0,0,0,1],[0.8660254037844386,-0.5,0,-0.25, 0.5,0.8660254037844386,0,0.5,"
     "0,0,1,1.5, 0,0,0,1]], \"intrinsics\": [[800,800,320,180],[800,800,320,180],[800,800,320,180],"
     "[800,800,320,180],[800,800,320,180]]}",
     SWM_PATH_JSON},
};

static void notice_kept(void *user, const char *text)
{
    char *all = user;
    const size_t used = strlen(all);
    snprintf(all + used, 2000 - used, "%s\n", text);
}

static void formats_mean_what_they_say(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof HAND_FILES / sizeof HAND_FILES[0]; i++) {
        char notices[2000] = "";
        write_text(HAND_FILES[i].name, HAND_FILES[i].text);
        const swm_path_reading reading = {.width = 640, .height = 360, .notice = notice_kept, .user = notices};
        swm_camera_path path = load(HAND_FILES[i].name, &reading);
        expect_hand(HAND_FILES[i].name, &path, 1e-12);
        if (strstr(notices, swm_path_format_title(HAND_FILES[i].format)) == NULL) fail_msg("\"%s\"", notices);
        assert_non_null(strstr(notices, "camera axes x right, y "));
        if (path.intrinsics != NULL) expect_near(HAND_FILES[i].name, path.intrinsics + 16, LENS, 4, 1e-9);
        if (path.times != NULL) assert_true(path.times[3] == 1.5);
        swm_camera_path_free(&path);
    }
}

static void colmap_means_what_it_says(void **state)
{
    (void)state;
    write_text("model/sparse/0/cameras.txt", CAMERAS_HAND);
    write_text("model/sparse/0/images.txt", IMAGES_HAND);
    static const char *const names[] = {"model", "model/sparse", "model/sparse/0", "model/sparse/0/images.txt"};
    for (int i = 0; i < 4; i++) {
        if (i == 1) {
            expect_refusal(names[i], NULL, "holds no camera path");
            continue;
        }
        swm_camera_path path = load(names[i], NULL);
        expect_hand(names[i], &path, 1e-12);
        expect_near(names[i], path.intrinsics + 12, LENS, 4, 0);
        assert_int_equal(path.width, 640);
        assert_string_equal(path.names[4], "view_10.png");
        swm_camera_path_free(&path);
    }
    swm_camera_path path = load("model", &(swm_path_reading){.file_order = true});
    assert_string_equal(path.names[1], "view_3.png");
    expect_near("the second image", path.c2w + 16, HAND[3], 16, 1e-12);
    swm_camera_path_free(&path);
}

/* What Debian's colmap 3.8 wrote for the poses by hand; tests/interop/formats.py made it. */
static void colmap_itself_is_read(void **state)
{
    (void)state;
    static const char *const places[] = {"tests/interop/stored/colmap-binary", "tests/interop/stored/colmap-text"};
    for (int i = 0; i < 2; i++) {
        swm_error error = {0};
        swm_camera_path path;
        if (swm_camera_path_load(&path, places[i], NULL, &error) < 0) fail_msg("%s", error.text);
        expect_hand(places[i], &path, 1e-9);
        expect_near(places[i], path.intrinsics, LENS, 4, 1e-9);
        swm_camera_path_free(&path);
    }
}

/* --- round trips --- */

static const struct {
    swm_path_format format;
    const char *name;
    bool text;
} OUTPUTS[] = {
    {SWM_PATH_NPY, "p.npy", false},
    {SWM_PATH_NPZ, "p.npz", false},
    {SWM_PATH_PAIR, "pair", false},
    {SWM_PATH_COLMAP_TEXT, "colmap-text", true},
    {SWM_PATH_COLMAP_BINARY, "colmap-binary", false},
    {SWM_PATH_NERFSTUDIO, "transforms.json", true},
    {SWM_PATH_INSTANT_NGP, "ngp.json", true},
    {SWM_PATH_BLENDER, "blender.json", true},
    {SWM_PATH_TUM, "p.tum", true},
    {SWM_PATH_KITTI, "p.kitti", true},
    {SWM_PATH_REALESTATE, "re10k.txt", true},
    {SWM_PATH_JSON, "ours.json", true},
};
enum { OUTPUT_COUNT = sizeof OUTPUTS / sizeof OUTPUTS[0] };

static void every_pair_round_trips(void **state)
{
    (void)state;
    /* Where a format has no intrinsics, the next reading gives them again. */
    const swm_path_reading reading = {
        .width = 640, .height = 360, .fov = 2 * atan(320.0 / 800) * 180 / 3.14159265358979323846};
    swm_camera_path path = hand_path(true, true);
    for (int a = 0; a < OUTPUT_COUNT; a++) {
        save(&path, OUTPUTS[a].name, OUTPUTS[a].format);
        for (int b = 0; b < OUTPUT_COUNT; b++) {
            char second[64], what[96];
            snprintf(what, sizeof what, "%s to %s", swm_path_format_name(OUTPUTS[a].format),
                     swm_path_format_name(OUTPUTS[b].format));
            snprintf(second, sizeof second, "second-%s", OUTPUTS[b].name);
            swm_camera_path middle = load(OUTPUTS[a].name, &reading);
            expect_hand(what, &middle, 1e-12);
            save(&middle, second, OUTPUTS[b].format);
            swm_camera_path end = load(second, &reading);
            expect_hand(what, &end, OUTPUTS[b].text ? 1e-9 : 1e-12);
            expect_near(what, end.intrinsics, LENS, 4, 1e-9);
            assert_int_equal(end.width, 640);
            if (middle.times != NULL && end.times != NULL) expect_near(what, end.times, path.times, POSES, 1e-9);
            if (middle.names != NULL && end.names != NULL) assert_non_null(strstr(end.names[2], "view_2"));
            swm_camera_path_free(&middle);
            swm_camera_path_free(&end);
        }
    }
    swm_camera_path_free(&path);
}

/* A path whose numbers have no short decimals, with a zoom and a principal point off the centre. */
static void changing_intrinsics_round_trip(void **state)
{
    (void)state;
    static const swm_path_format formats[] = {SWM_PATH_NPZ,           SWM_PATH_PAIR,       SWM_PATH_COLMAP_TEXT,
                                              SWM_PATH_COLMAP_BINARY, SWM_PATH_NERFSTUDIO, SWM_PATH_INSTANT_NGP,
                                              SWM_PATH_REALESTATE,    SWM_PATH_JSON};
    swm_camera_path path = hand_path(false, false);
    for (int i = 0; i < POSES; i++) {
        const double q[4] = {1, 0.1 * i, -0.07 * i * i, 0.3 / (i + 1)};
        swm_quaternion_to_pose(path.c2w + 16 * i, q);
        for (int k = 0; k < 3; k++) path.c2w[16 * i + 4 * k + 3] = sin(i + 0.3 * k) * 17;
        for (int k = 0; k < 4; k++) path.intrinsics[4 * i + k] = LENS[k] + cos(i * 1.7 + k);
    }
    for (size_t f = 0; f < sizeof formats / sizeof formats[0]; f++) {
        save(&path, "changing", formats[f]);
        const swm_path_reading reading = {.format = formats[f], .width = 640, .height = 360};
        swm_camera_path back = load("changing", &reading);
        expect_near(swm_path_format_name(formats[f]), back.c2w, path.c2w, 16 * POSES, 1e-12);
        expect_near(swm_path_format_name(formats[f]), back.intrinsics, path.intrinsics, 4 * POSES, 1e-9);
        swm_camera_path_free(&back);
        nftw(place("changing"), remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    }
    swm_error error = {0};
    assert_int_equal(swm_camera_path_save(&path, place("x"), &(swm_path_writing){.format = SWM_PATH_BLENDER}, &error),
                     -1);
    assert_non_null(strstr(error.text, "not centred and square"));
    swm_camera_path_free(&path);
}

static void fractions_stay_fractions(void **state)
{
    (void)state;
    write_text("a.txt", REALESTATE_HAND);
    swm_camera_path path = load("a.txt", NULL);
    assert_true(path.fractions);
    assert_true(path.intrinsics[0] == 1.25);
    save(&path, "b.txt", SWM_PATH_REALESTATE);
    save(&path, "b.json", SWM_PATH_JSON);
    swm_camera_path back = load("b.json", NULL);
    assert_true(back.fractions);
    swm_camera_path_free(&back);
    back = load("b.txt", NULL);
    assert_true(back.fractions && back.intrinsics[0] == 1.25);
    swm_camera_path_free(&back);
    swm_error error = {0};
    assert_int_equal(swm_camera_path_save(&path, place("c.npz"), NULL, &error), -1);
    assert_non_null(strstr(error.text, "--size"));
    swm_camera_path_free(&path);
    swm_trajectory trajectory;
    error = (swm_error){0};
    assert_int_equal(swm_trajectory_load(&trajectory, place("a.txt"), &error), -1);
    assert_non_null(strstr(error.text, "--size"));
}

/* Every format serves as generate's --camera. */
static void trajectories_come_from_every_format(void **state)
{
    (void)state;
    swm_camera_path path = hand_path(true, true);
    for (int a = 0; a < OUTPUT_COUNT; a++) {
        swm_error error = {0};
        swm_trajectory trajectory;
        if (OUTPUTS[a].format == SWM_PATH_REALESTATE) continue;
        save(&path, OUTPUTS[a].name, OUTPUTS[a].format);
        if (swm_trajectory_load(&trajectory, place(OUTPUTS[a].name), &error) < 0) fail_msg("%s", error.text);
        assert_int_equal(trajectory.poses.count, POSES);
        for (int i = 0; i < 16 * POSES; i++)
            assert_true(fabs((double)trajectory.poses.c2w[i] - HAND[i / 16][i % 16]) < 1e-6);
        swm_trajectory_free(&trajectory);
    }
    swm_camera_path_free(&path);
}

/* --- conventions --- */

static void conventions_can_be_said(void **state)
{
    (void)state;
    swm_camera_path path = hand_path(false, false);
    static const char *const names[] = {"opencv", "opengl", "blender", "pytorch3d", "llff", "ros", "fdl", "lub"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        for (int direction = SWM_CAMERA_TO_WORLD; direction <= SWM_WORLD_TO_CAMERA; direction++) {
            swm_error error = {0};
            const swm_path_writing writing = {.axes = names[i], .direction = (swm_direction)direction};
            if (strcmp(names[i], "lub") == 0) {
                assert_int_equal(swm_camera_path_save(&path, place("p.npy"), &writing, &error), -1);
                assert_non_null(strstr(error.text, "left-handed"));
                continue;
            }
            if (swm_camera_path_save(&path, place("p.npy"), &writing, &error) < 0) fail_msg("%s", error.text);
            swm_camera_path back =
                load("p.npy", &(swm_path_reading){.axes = names[i], .direction = (swm_direction)direction});
            expect_hand(names[i], &back, 1e-12);
            swm_camera_path_free(&back);
        }
    /* Camera 3 looks to the world's right; ROS has forward as x, left as y, up as z. */
    swm_error error = {0};
    if (swm_camera_path_save(&path, place("p.npy"), &(swm_path_writing){.axes = "ros"}, &error) < 0)
        fail_msg("%s", error.text);
    swm_camera_path raw = load("p.npy", NULL);
    expect_near("ROS", raw.c2w + 48, (const double[16]){1, 0, 0, 0, 0, 0, -1, 0, 0, 1, 0, 3, 0, 0, 0, 1}, 16, 1e-12);
    swm_camera_path_free(&raw);
    swm_camera_path_free(&path);
    error = (swm_error){0};
    assert_int_equal(swm_camera_path_load(&raw, place("p.npy"), &(swm_path_reading){.axes = "sideways"}, &error), -1);
    assert_non_null(strstr(error.text, "no camera axes are called \"sideways\""));
    error = (swm_error){0};
    assert_int_equal(swm_camera_path_load(&raw, place("p.npy"), &(swm_path_reading){.flip = "x,yy"}, &error), -1);
    assert_non_null(strstr(error.text, "cannot flip \"yy\""));
}

static void flips_mirror(void **state)
{
    (void)state;
    save(&(swm_camera_path){.count = POSES, .c2w = (double *)(uintptr_t)HAND[0]}, "p.npy", SWM_PATH_NPY);
    /* Mirrored left to right, the camera one metre to the right is one to the left, and camera 3 looks left. */
    swm_camera_path path = load("p.npy", &(swm_path_reading){.flip = "x"});
    assert_true(path.c2w[16 + 3] == -1);
    expect_near("mirrored", path.c2w + 48, (const double[16]){0, 0, -1, 0, 0, 1, 0, 0, 1, 0, 0, 3, 0, 0, 0, 1}, 16, 0);
    swm_camera_path_free(&path);
    expect_refusal("p.npy", &(swm_path_reading){.flip = "camera-x"}, "left-handed");
    path = load("p.npy", &(swm_path_reading){.flip = "camera-y,camera-z"});
    expect_near("OpenGL", path.c2w, (const double[16]){1, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1}, 16, 0);
    swm_camera_path_free(&path);
    path = load("p.npy", &(swm_path_reading){.flip = "world-y,world-z"});
    expect_near("turned world", path.c2w + 32, (const double[16]){1, 0, 0, 0, 0, 0, -1, 2, 0, 1, 0, 0, 0, 0, 0, 1}, 16,
                0);
    /* Left-handed files are repaired by flipping what is wrong with them. */
    swm_camera_path_scale(&path, -1);
    swm_camera_path_free(&path);
    double mirrored[POSES][16];
    memcpy(mirrored, HAND, sizeof HAND);
    for (int i = 0; i < POSES; i++)
        for (int k = 0; k < 3; k++) mirrored[i][4 * k] *= -1;
    save(&(swm_camera_path){.count = POSES, .c2w = mirrored[0]}, "p.npy", SWM_PATH_NPY);
    expect_refusal("p.npy", NULL, "left-handed (determinant -1.000)");
    path = load("p.npy", &(swm_path_reading){.flip = "camera-x"});
    expect_hand("repaired", &path, 0);
    swm_camera_path_free(&path);
}

static void paths_move(void **state)
{
    (void)state;
    swm_camera_path path = hand_path(false, false);
    swm_camera_path_scale(&path, 2);
    assert_true(path.c2w[16 + 3] == 2 && path.c2w[48 + 11] == 6 && path.c2w[0] == 1);
    /* Seen from camera 1, which looks back, camera 0 is one metre to the right, and looks back too. */
    memmove(path.c2w, path.c2w + 16, 16 * sizeof(double));
    memcpy(path.c2w + 16, HAND[0], sizeof HAND[0]);
    swm_camera_path_recentre(&path);
    expect_near("first", path.c2w, HAND[0], 16, 0);
    expect_near("second", path.c2w + 16, (const double[16]){-1, 0, 0, 2, 0, 1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1}, 16,
                1e-12);
    swm_camera_path_free(&path);
}

/* --- guessing --- */

static void ambiguity_is_refused(void **state)
{
    (void)state;
    swm_camera_path path = hand_path(false, true);
    save(&path, "both", SWM_PATH_COLMAP_TEXT);
    save(&path, "both", SWM_PATH_COLMAP_BINARY);
    expect_refusal("both", NULL, "--from colmap-text or --from colmap-binary");
    swm_camera_path chosen = load("both", &(swm_path_reading){.format = SWM_PATH_COLMAP_TEXT});
    swm_camera_path_free(&chosen);
    write_text("scene/readme", "");
    save(&path, "scene/sparse/0", SWM_PATH_COLMAP_BINARY);
    save(&path, "scene/transforms.json", SWM_PATH_NERFSTUDIO);
    expect_refusal("scene", NULL, "transforms.json and a COLMAP binary model");
    save(&path, "many/sparse/0", SWM_PATH_COLMAP_BINARY);
    save(&path, "many/sparse/1", SWM_PATH_COLMAP_BINARY);
    expect_refusal("many", NULL, "several COLMAP models");
    write_text("split/transforms_train.json", "{}");
    expect_refusal("split", NULL, "transforms_train.json and others; name one");
    write_text("none/readme", "");
    expect_refusal("none", NULL, "holds no camera path");
    static const char *const endings[][2] = {
        {"p.txt", "--to tum"}, {"p", "--to"}, {"transforms_train.json", "--to blender"}, {"p.csv", "--to"}};
    for (int i = 0; i < 4; i++) {
        swm_error error = {0};
        assert_int_equal(swm_camera_path_save(&path, place(endings[i][0]), NULL, &error), -1);
        if (strstr(error.text, endings[i][1]) == NULL) fail_msg("%s", error.text);
    }
    path.width = 0;
    static const swm_path_format sized[] = {SWM_PATH_COLMAP_TEXT, SWM_PATH_NERFSTUDIO, SWM_PATH_REALESTATE};
    for (int i = 0; i < 3; i++) {
        swm_error error = {0};
        assert_int_equal(swm_camera_path_save(&path, place("q"), &(swm_path_writing){.format = sized[i]}, &error), -1);
        if (strstr(error.text, "--size WIDTHxHEIGHT") == NULL) fail_msg("%s", error.text);
    }
    swm_camera_path_free(&path);
    swm_error error = {0};
    swm_path_format format;
    assert_int_equal(swm_path_format_from_name("tmu", &format, &error), -1);
    assert_non_null(strstr(error.text, "no camera path format is called \"tmu\""));
}

static void pairs_are_found(void **state)
{
    (void)state;
    swm_camera_path path = hand_path(false, false);
    save(&path, "lingbot", SWM_PATH_PAIR);
    static const char *const names[] = {"lingbot", "lingbot/poses.npy"};
    for (int i = 0; i < 2; i++) {
        swm_camera_path back = load(names[i], NULL);
        expect_hand(names[i], &back, 0);
        expect_near(names[i], back.intrinsics, LENS, 4, 0);
        swm_camera_path_free(&back);
    }
    swm_camera_path_free(&path);
    path = load("lingbot/poses.npy", &(swm_path_reading){.poses_only = true});
    assert_null(path.intrinsics);
    swm_camera_path_free(&path);
    path = load("lingbot/poses.npy",
                &(swm_path_reading){.format = SWM_PATH_NPY, .intrinsics = place("lingbot/intrinsics.npy")});
    expect_near("intrinsics of their own", path.intrinsics + 16, LENS, 4, 0);
    swm_camera_path_free(&path);
}

/* --- damaged files --- */

static void damaged_text_is_refused(void **state)
{
    (void)state;
    refuse_text("a.txt", "", "no line of numbers");
    refuse_text("a.txt", "# nothing\n\n", "no line of numbers");
    refuse_text("a.txt", "0 0 0 0 0 0 0 1\n1 0 0 0 0 0 0\n", "line 2 has 7 numbers; expected time tx ty tz");
    refuse_text("a.txt", "0 0 0 0 0 0 0 1\n1 0 0 0 0 nan 0 1\n", "line 2 has \"nan 0 1\" behind 5 numbers");
    refuse_text("a.txt", "0 0 0 0 0 0 0 1\n1 0 0 0 0 1e999 0 1\n", "line 2 has \"1e999 0 1\"");
    refuse_text("a.txt", "0 0 0 0 0 0 0 0\n", "quaternion of length 0");
    refuse_text("a.txt", "0 0 0 0 1 1 0 1\n", "quaternion of length 1.73");
    refuse_text("a.txt", "0 2e6 0 0 0 0 0 1\n", "2e+06 units from the origin");
    refuse_text("a.txt", "1e13 0 0 0 0 0 0 1\n", "the time 1e+13");
    refuse_text("a.txt", "1,2,3,4,5,6,7,8\n", "no line of numbers with spaces");
    refuse_text("a.txt", "\x89PNG\r\n\x1a\n1 2 3 4 5 6 7 8\n", "is no camera path");
    refuse_text("a.txt", "1 0 0 0 0 1 0 0 0 0 1\n", "line 1 has 11 numbers; known are TUM (8)");
    refuse_text("a.txt", "1 0 0 0 0 1 0 0 0 0 1 0\n2 0 0 0 0 1 0 0 0 0 1 0\n", "frame 1 has no orthonormal rotation");
    refuse_text("a.txt", "1 0 0 0 0 1 0 0 0 0 -1 0\n", "left-handed");
    refuse_text("a.txt", "u\n0 900 900 320 180 0 0 1 0 0 0 0 1 0 0 0 0 1 0\n",
                "expected a fraction of the picture's width");
    char long_line[5000];
    memset(long_line, '1', sizeof long_line);
    long_line[sizeof long_line - 1] = '\0';
    refuse_text("a.txt", long_line, "line 1 is longer than 4096");
    expect_refusal("missing.txt", NULL, "missing.txt");
}

static void damaged_json_is_refused(void **state)
{
    (void)state;
    refuse_text("a.json", "{", "a.json");
    refuse_text("a.json", "[1, 2]", "neither \"c2w\" (ours) nor \"frames\"");
    refuse_text("a.json", "{\"frames\": []}", "frames");
    refuse_text("a.json", "{\"frames\": [1]}", "frames[0] is no object");
    refuse_text("a.json", "{\"frames\": [{\"transform_matrix\": [[1,2,3,4]]}]}",
                "frames[0].transform_matrix is no 4x4");
    refuse_text("a.json", "{\"frames\": [{\"transform_matrix\": [[1,0,0],[0,1,0],[0,0,1]]}]}",
                "transform_matrix is no 4x4");
    refuse_text("a.json", "{\"frames\": [{\"transform_matrix\": [[2,0,0,0],[0,1,0,0],[0,0,1,0]]}]}",
                "no orthonormal rotation");
    refuse_text("a.json", "{\"fl_x\": -1, \"frames\": [{}]}", "fl_x");
    refuse_text(
        "a.json",
        "{\"camera_model\": \"OPENCV_FISHEYE\", \"frames\": [{\"transform_matrix\": [[1,0,0,0],[0,1,0,0],[0,0,1,0]]}]}",
        "--poses-only");
    refuse_text("a.json", "{\"c2w\": 3}", "c2w");
    refuse_text("a.json", "{\"c2w\": [[1,2]]}", "c2w[0] is no list of 16 numbers");
    refuse_text("a.json", "{\"c2w\": [[1,0,0,0,0,1,0,0,0,0,1,0,0,0,0,1]], \"intrinsics\": []}",
                "intrinsics is no list of 1");
    refuse_text("a.json", "{\"c2w\": [[1,0,0,0,0,1,0,0,0,0,1,0,0,0,0,1]], \"times\": [\"a\"]}",
                "times[0] is no number");
    refuse_text("a.json", "{\"c2w\": [[1,0,0,0,0,1,0,0,0,0,1,0,0,0,0,1]], \"intrinsics\": [[0,1,1,1]]}",
                "focal lengths must be positive");
}

static void damaged_colmap_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *cameras, *images, *text;
    } cases[] = {
        {"", "1 1 0 0 0 0 0 0 1 a.png\n\n", "of camera 1, which"},
        {"1 PINHOLE 640 360 1 1 1\n", "1 1 0 0 0 0 0 0 1 a.png\n\n", "PINHOLE has 4 parameters, found 3"},
        {"1 FISHY 640 360 1 1 1\n", "1 1 0 0 0 0 0 0 1 a.png\n\n", "no camera model is called \"FISHY\""},
        {"1 PINHOLE 0 360 1 1 1 1\n", "1 1 0 0 0 0 0 0 1 a.png\n\n", "pictures of 0x360 pixels"},
        {"1 OPENCV_FISHEYE 640 360 1 1 1 1 0 0 0 0\n", "1 1 0 0 0 0 0 0 1 a.png\n\n", "--poses-only"},
        {"1 PINHOLE 640 360 1 1 1 1\n1 PINHOLE 640 360 1 1 1 1\n", "1 1 0 0 0 0 0 0 1 a.png\n\n",
         "camera 1 is there twice"},
        {"1 PINHOLE 640 360 1 1 1 1\n2 PINHOLE 64 36 1 1 1 1\n",
         "1 1 0 0 0 0 0 0 1 a.png\n\n2 1 0 0 0 0 0 0 2 b.png\n\n", "different sizes"},
        {"1 PINHOLE 640 360 1 1 1 1\n", "# none\n", "holds no images"},
        {"1 PINHOLE 640 360 1 1 1 1\n", "1 1 0 0 0 0 0 1 a.png\n\n", "line 1 is no image"},
        {"1 PINHOLE 640 360 1 1 1 1\n", "1 3 0 0 0 0 0 0 1 a.png\n\n", "quaternion of length 3"},
        {"1 PINHOLE 640 360 1 1 1 1\n", "1 1 0 0 0 0 0 0 1         \n\n", "line 1 has no name"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_text("model/cameras.txt", cases[i].cameras);
        write_text("model/images.txt", cases[i].images);
        expect_refusal("model", NULL, cases[i].text);
    }
    swm_camera_path path = hand_path(false, true);
    save(&path, "binary", SWM_PATH_COLMAP_BINARY);
    swm_camera_path_free(&path);
    swm_error error = {0};
    size_t sizes[2];
    char *files[2] = {swm_file_read(place("binary/cameras.bin"), 1 << 20, &sizes[0], &error),
                      swm_file_read(place("binary/images.bin"), 1 << 20, &sizes[1], &error)};
    if (files[0] == NULL || files[1] == NULL) fail_msg("%s", error.text);
    for (int which = 0; which < 2; which++)
        for (size_t size = 0; size < sizes[which]; size++) {
            const swm_path_source sources[2] = {{"m/cameras.bin", files[0], which == 0 ? size : sizes[0]},
                                                {"m/images.bin", files[1], which == 1 ? size : sizes[1]}};
            error = (swm_error){0};
            assert_int_equal(swm_camera_path_parse(&path, sources, 2, NULL, &error), -1);
            assert_null(path.c2w);
            assert_true(strncmp(error.text, "m/", 2) == 0);
        }
    free(files[0]);
    free(files[1]);
    expect_refusal("binary/points3D.bin", NULL, "points3D.bin");
}

static void lenses_lose_their_distortion(void **state)
{
    (void)state;
    char notices[2000] = "";
    write_text("model/cameras.txt", "1 OPENCV 640 360 800 800 320 180 0.1 0 0 0\n");
    write_text("model/images.txt", "1 1 0 0 0 0 0 0 1 a b.png\n\n");
    swm_camera_path path = load("model", &(swm_path_reading){.notice = notice_kept, .user = notices});
    expect_near("lens", path.intrinsics, LENS, 4, 0);
    assert_non_null(strstr(notices, "the lens distortion was left aside"));
    assert_string_equal(path.names[0], "a b.png");
    swm_error error = {0};
    assert_int_equal(
        swm_camera_path_save(&path, place("out"), &(swm_path_writing){.format = SWM_PATH_COLMAP_TEXT}, &error), -1);
    assert_non_null(strstr(error.text, "cannot be named in a COLMAP text model"));
    swm_camera_path_free(&path);
    write_text("model/cameras.txt", "1 OPENCV_FISHEYE 640 360 800 800 320 180 0.1 0 0 0\n");
    path = load("model", &(swm_path_reading){.poses_only = true});
    assert_null(path.intrinsics);
    swm_camera_path_free(&path);
}

/* --- datasets --- */

static void fill_frame(uint8_t *rgb, int width, int height, int frame)
{
    for (int i = 0; i < width * height * 3; i++) rgb[i] = (uint8_t)(i % 251 + frame);
}

static int make_dataset(const char *name, swm_dataset_kind kind, int frames, swm_error *error)
{
    enum { W = 64, H = 32 };
    uint8_t rgb[W * H * 3];
    swm_camera_path path = hand_path(true, true);
    path.width = W;
    path.height = H;
    const swm_dataset_options options = {kind, 16, SWM_FFV1, -1, 1};
    swm_dataset *dataset = swm_dataset_open(place(name), &options, error);
    int status = dataset != NULL ? 0 : -1;
    for (int i = 0; i < frames && status == 0; i++) {
        fill_frame(rgb, W, H, i);
        status = swm_dataset_frames(dataset, i, 1, rgb, W, H);
    }
    if (dataset != NULL) status = swm_dataset_finish(dataset, &path, NULL, error);
    swm_camera_path_free(&path);
    return status;
}

static void datasets_are_laid_out(void **state)
{
    (void)state;
    static const char *const names[] = {"colmap", "transforms", "tum"};
    static const char *const files[][4] = {
        {"images/000000.png", "images/000004.png", "sparse/0/points3D.bin", "camera.json"},
        {"images/000000.png", "images/000004.png", "transforms.json", "camera.json"},
        {"video.mkv", "trajectory.txt", "camera.json", "camera.json"},
    };
    for (int kind = 0; kind < 3; kind++) {
        swm_error error = {0};
        swm_dataset_kind found;
        assert_int_equal(swm_dataset_kind_from_name(names[kind], &found, NULL), 0);
        if (make_dataset(names[kind], found, POSES, &error) < 0) fail_msg("%s", error.text);
        for (int i = 0; i < 4; i++) {
            char file[128];
            snprintf(file, sizeof file, "%s/%s", names[kind], files[kind][i]);
            if (!swm_file_exists(place(file))) fail_msg("%s is missing", file);
        }
        char camera[64];
        snprintf(camera, sizeof camera, "%s/camera.json", names[kind]);
        swm_camera_path path = load(camera, NULL);
        expect_hand(camera, &path, 1e-12);
        assert_true(path.fps == 16);
        swm_camera_path_free(&path);
        path = load(kind == 2 ? "tum/trajectory.txt" : names[kind], NULL);
        expect_hand(names[kind], &path, 1e-12);
        if (kind == 2) assert_true(fabs(path.times[4] - 0.25) < 1e-12);
        if (kind == 0) assert_string_equal(path.names[4], "000004.png");
        swm_camera_path_free(&path);
        /* A second clip does not go into the first. */
        assert_int_equal(make_dataset(names[kind], found, POSES, &error), -1);
        assert_non_null(strstr(error.text, "is not empty"));
    }
}

static void failed_datasets_leave_nothing(void **state)
{
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        swm_error error = {0};
        assert_int_equal(make_dataset("failed", (swm_dataset_kind)kind, POSES - 1, &error), -1);
        assert_non_null(strstr(error.text, "4 frames were made for a path of 5 poses"));
        assert_false(swm_directory_exists(place("failed")));
        swm_dataset *dataset = swm_dataset_open(
            place("failed"), &(swm_dataset_options){(swm_dataset_kind)kind, 16, SWM_FFV1, -1, 1}, &error);
        swm_dataset_abort(dataset);
        assert_false(swm_directory_exists(place("failed")));
    }
    swm_error error = {0};
    const swm_dataset_options options = {SWM_DATASET_TUM, 16, SWM_PNG_SEQUENCE, -1, 1};
    assert_null(swm_dataset_open(place("failed"), &options, &error));
    assert_non_null(strstr(error.text, "the tum layout has a video"));
}

int test_formats(void)
{
#define IN_SCRATCH(test) cmocka_unit_test_setup_teardown(test, enter, leave)
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(formats_mean_what_they_say),
        IN_SCRATCH(colmap_means_what_it_says),
        cmocka_unit_test(colmap_itself_is_read),
        IN_SCRATCH(every_pair_round_trips),
        IN_SCRATCH(changing_intrinsics_round_trip),
        IN_SCRATCH(fractions_stay_fractions),
        IN_SCRATCH(trajectories_come_from_every_format),
        IN_SCRATCH(conventions_can_be_said),
        IN_SCRATCH(flips_mirror),
        IN_SCRATCH(paths_move),
        IN_SCRATCH(ambiguity_is_refused),
        IN_SCRATCH(pairs_are_found),
        IN_SCRATCH(damaged_text_is_refused),
        IN_SCRATCH(damaged_json_is_refused),
        IN_SCRATCH(damaged_colmap_is_refused),
        IN_SCRATCH(lenses_lose_their_distortion),
        IN_SCRATCH(datasets_are_laid_out),
        IN_SCRATCH(failed_datasets_leave_nothing),
    };
    return cmocka_run_group_tests_name("formats", tests, NULL, NULL);
}
