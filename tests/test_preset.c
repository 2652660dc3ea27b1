/* Camera paths that people author: named moves, keyframe files, limits of speed, the keys of other engines, and the check
 * against what the model knows. Poses are computed by hand; their meaning is said in words. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "camera/action.h"
#include "camera/check.h"
#include "camera/keyframe.h"
#include "camera/preset.h"
#include "camera/retime.h"
#include "core/file.h"

int test_preset(void);

static const double PI = 3.14159265358979323846;

/* --- what a pose means --- */

/* A camera that stands there and looks that way, level, given as compass-like unit vectors. */
typedef struct expected {
    double at[3], right[3], ahead[3];
} expected;

static void assert_pose(const swm_poses *poses, int64_t frame, expected e, double tolerance)
{
    const float *m = poses->c2w + 16 * frame;
    for (int i = 0; i < 3; i++) {
        const double found[3] = {(double)m[4 * i + 3], (double)m[4 * i], (double)m[4 * i + 2]};
        const double wanted[3] = {e.at[i], e.right[i], e.ahead[i]};
        for (int k = 0; k < 3; k++)
            if (!(fabs(found[k] - wanted[k]) <= tolerance))
                fail_msg("frame %d, %s %c is %g, expected %g", (int)frame,
                         k == 0   ? "position"
                         : k == 1 ? "right"
                                  : "ahead",
                         "xyz"[i], found[k], wanted[k]);
    }
    swm_error error = {0};
    if (swm_poses_check(poses, &error) < 0) fail_msg("%s", error.text);
}

static swm_preset_options move(const char *name)
{
    swm_error error = {0};
    const swm_preset *preset = swm_preset_find(name, &error);
    if (preset == NULL) fail_msg("%s", error.text);
    swm_preset_options options = swm_preset_defaults(preset);
    options.ease = 0;
    options.frames = 81;
    return options;
}

static swm_poses make(const swm_preset_options *options)
{
    swm_error error = {0};
    swm_poses poses;
    if (swm_preset_make(options, &poses, &error) < 0) fail_msg("%s", error.text);
    return poses;
}

static const expected HOME = {{0, 0, 0}, {1, 0, 0}, {0, 0, 1}};

/* --- moves --- */

static void every_move_starts_at_home(void **state)
{
    (void)state;
    for (int i = 0; swm_preset_at(i) != NULL; i++) {
        swm_preset_options options = swm_preset_defaults(swm_preset_at(i));
        swm_poses poses = make(&options);
        assert_pose(&poses, 0, HOME, 1e-7);
        assert_true(poses.count % 8 == 1 && poses.count <= 961);
        assert_true(strlen(swm_preset_at(i)->meaning) > 20);
        /* With everything at its default a move stays within what the model knows. */
        const swm_camera_measures m = swm_camera_measure(&poses);
        const swm_camera_limits limits = swm_camera_limits_default();
        swm_camera_warning warnings[SWM_CAMERA_WARNINGS];
        if (swm_camera_check(&m, &limits, warnings) != 0) fail_msg("%s: %s", swm_preset_at(i)->name, warnings[0].text);
        swm_poses_free(&poses);
    }
}

/* Around a subject 2 units ahead. A quarter on, the camera stands right of the subject and looks left at it; half way it
 * stands behind and looks back; at the end it is where it began. */
static void orbit_circles_the_subject(void **state)
{
    (void)state;
    swm_preset_options options = move("orbit");
    swm_poses poses = make(&options);
    assert_pose(&poses, 20, (expected){{2, 0, 2}, {0, 0, 1}, {-1, 0, 0}}, 1e-6);
    assert_pose(&poses, 40, (expected){{0, 0, 4}, {-1, 0, 0}, {0, 0, -1}}, 1e-6);
    assert_pose(&poses, 60, (expected){{-2, 0, 2}, {0, 0, -1}, {1, 0, 0}}, 1e-6);
    assert_pose(&poses, 80, HOME, 1e-6);
    swm_poses_free(&poses);
    /* To the left, a quarter. */
    options.values[SWM_PRESET_ANGLE] = -90;
    poses = make(&options);
    assert_pose(&poses, 80, (expected){{-2, 0, 2}, {0, 0, -1}, {1, 0, 0}}, 1e-6);
    swm_poses_free(&poses);
}

static void straight_moves_keep_their_view(void **state)
{
    (void)state;
    swm_preset_options options = move("dolly");
    options.values[SWM_PRESET_DISTANCE] = -3; /* three units back */
    swm_poses poses = make(&options);
    assert_pose(&poses, 40, (expected){{0, 0, -1.5}, {1, 0, 0}, {0, 0, 1}}, 1e-6);
    assert_pose(&poses, 80, (expected){{0, 0, -3}, {1, 0, 0}, {0, 0, 1}}, 1e-6);
    swm_poses_free(&poses);
    options = move("truck"); /* one and a half to the right */
    poses = make(&options);
    assert_pose(&poses, 80, (expected){{1.5, 0, 0}, {1, 0, 0}, {0, 0, 1}}, 1e-6);
    swm_poses_free(&poses);
    options = move("pedestal"); /* one up: y points down */
    poses = make(&options);
    assert_pose(&poses, 80, (expected){{0, -1, 0}, {1, 0, 0}, {0, 0, 1}}, 1e-6);
    swm_poses_free(&poses);
}

/* Three up and one ahead of four: the camera looks down along the sides 3 : 3 of a triangle, 45 degrees. */
static void crane_keeps_the_subject(void **state)
{
    (void)state;
    swm_preset_options options = move("crane");
    options.values[SWM_PRESET_HEIGHT] = 3;
    options.values[SWM_PRESET_DISTANCE] = 1;
    options.values[SWM_PRESET_RADIUS] = 4;
    swm_poses poses = make(&options);
    const double h = sqrt(0.5);
    assert_pose(&poses, 80, (expected){{0, -3, 1}, {1, 0, 0}, {0, h, h}}, 1e-6);
    swm_poses_free(&poses);
}

/* A quarter around to the right of a subject 3 ahead, 3 higher: it stands 3 right and 3 up of the subject, looks left and
 * 45 degrees down. */
static void arc_rises_and_faces_the_subject(void **state)
{
    (void)state;
    swm_preset_options options = move("arc");
    options.values[SWM_PRESET_RADIUS] = 3;
    options.values[SWM_PRESET_ANGLE] = 90;
    options.values[SWM_PRESET_HEIGHT] = 3;
    swm_poses poses = make(&options);
    const double h = sqrt(0.5);
    assert_pose(&poses, 80, (expected){{3, -3, 3}, {0, 0, 1}, {-h, h, 0}}, 1e-6);
    swm_poses_free(&poses);
}

/* One turn from 2 units to 1: half way around, 1.5 behind the subject and half as high; at the end 1 before it. */
static void spiral_closes_in(void **state)
{
    (void)state;
    swm_preset_options options = move("spiral");
    options.values[SWM_PRESET_TURNS] = 1;
    options.values[SWM_PRESET_HEIGHT] = 0;
    swm_poses poses = make(&options);
    assert_pose(&poses, 40, (expected){{0, 0, 3.5}, {-1, 0, 0}, {0, 0, -1}}, 1e-6);
    assert_pose(&poses, 80, (expected){{0, 0, 1}, {1, 0, 0}, {0, 0, 1}}, 1e-6);
    swm_poses_free(&poses);
}

static void turns_on_the_spot(void **state)
{
    (void)state;
    swm_preset_options options = move("pan"); /* 90 degrees to the right */
    swm_poses poses = make(&options);
    assert_pose(&poses, 80, (expected){{0, 0, 0}, {0, 0, -1}, {1, 0, 0}}, 1e-6);
    swm_poses_free(&poses);
    options = move("tilt"); /* 30 degrees up */
    poses = make(&options);
    assert_pose(&poses, 80, (expected){{0, 0, 0}, {1, 0, 0}, {0, -0.5, sqrt(0.75)}}, 1e-6);
    swm_poses_free(&poses);
    options = move("look-around"); /* 45 to the right after a quarter of the time, to the left after three, back */
    poses = make(&options);
    const double h = sqrt(0.5);
    assert_pose(&poses, 20, (expected){{0, 0, 0}, {h, 0, -h}, {h, 0, h}}, 1e-6);
    assert_pose(&poses, 40, HOME, 1e-6);
    assert_pose(&poses, 60, (expected){{0, 0, 0}, {h, 0, h}, {-h, 0, h}}, 1e-6);
    assert_pose(&poses, 80, HOME, 1e-6);
    swm_poses_free(&poses);
}

/* Circles of radius 1.2: after a quarter of the right one it is 1.2 right and ahead and walks right; after half of it
 * 2.4 right and walks back; then home; the left circle mirrors it. */
static void figure_8_returns_twice(void **state)
{
    (void)state;
    swm_preset_options options = move("figure-8");
    swm_poses poses = make(&options);
    assert_pose(&poses, 10, (expected){{1.2, 0, 1.2}, {0, 0, -1}, {1, 0, 0}}, 1e-6);
    assert_pose(&poses, 20, (expected){{2.4, 0, 0}, {-1, 0, 0}, {0, 0, -1}}, 1e-6);
    assert_pose(&poses, 40, HOME, 1e-6);
    assert_pose(&poses, 50, (expected){{-1.2, 0, 1.2}, {0, 0, 1}, {-1, 0, 0}}, 1e-6);
    assert_pose(&poses, 80, HOME, 1e-6);
    swm_poses_free(&poses);
}

/* A quarter circle of length pi / 2 has radius 1: at the turning point one right, one ahead, looking right. */
static void there_and_back_meets_the_same_poses(void **state)
{
    (void)state;
    swm_preset_options options = move("there-and-back");
    options.values[SWM_PRESET_DISTANCE] = PI / 2;
    options.values[SWM_PRESET_ANGLE] = 90;
    options.ease = 0.2;
    for (int odd = 0; odd < 2; odd++) {
        options.frames = 81 - odd;
        swm_poses poses = make(&options);
        for (int64_t i = 0; i < poses.count; i++)
            assert_memory_equal(poses.c2w + 16 * i, poses.c2w + 16 * (poses.count - 1 - i), 16 * sizeof(float));
        if (odd == 0) assert_pose(&poses, 40, (expected){{1, 0, 1}, {0, 0, -1}, {1, 0, 0}}, 1e-6);
        swm_poses_free(&poses);
    }
    options.values[SWM_PRESET_ANGLE] = 0;
    options.frames = 81;
    swm_poses poses = make(&options);
    assert_pose(&poses, 40, (expected){{0, 0, PI / 2}, {1, 0, 0}, {0, 0, 1}}, 1e-6);
    swm_poses_free(&poses);
}

static void a_hand_trembles_by_its_seed(void **state)
{
    (void)state;
    swm_preset_options options = move("handheld");
    options.frames = 16001;
    swm_poses a = make(&options), b = make(&options);
    assert_memory_equal(a.c2w, b.c2w, (size_t)a.count * 16 * sizeof(float));
    options.handheld.seed = 1;
    swm_poses c = make(&options);
    assert_true(memcmp(a.c2w, c.c2w, (size_t)a.count * 16 * sizeof(float)) != 0);
    assert_pose(&a, 0, HOME, 0);
    /* Over a thousand seconds the trembling has the size that was asked for. */
    double place = 0, view = 0;
    for (int64_t i = 0; i < a.count; i++) {
        place += (double)a.c2w[16 * i + 3] * (double)a.c2w[16 * i + 3];
        view += (double)a.c2w[16 * i + 2] * (double)a.c2w[16 * i + 2];
    }
    assert_true(fabs(sqrt(place / (double)a.count) - 0.01) < 0.001);
    assert_true(fabs(sqrt(view / (double)a.count) * 180 / PI - 0.5) < 0.05);
    swm_poses_free(&a);
    swm_poses_free(&b);
    swm_poses_free(&c);
}

static void easing_starts_and_stops_gently(void **state)
{
    (void)state;
    assert_true(swm_ease(0, 0.2) == 0 && swm_ease(1, 0.2) == 1 && fabs(swm_ease(0.5, 0.2) - 0.5) < 1e-15);
    assert_true(swm_ease(0.3, 0) == 0.3);
    /* Full speed in between is 1 / (1 - ease); by the end of the ramp half of ease is covered at that speed. */
    assert_true(fabs(swm_ease(0.2, 0.2) - 0.1 / 0.8) < 1e-15);
    assert_true(fabs(swm_ease(0.6, 0.2) - swm_ease(0.4, 0.2) - 0.2 / 0.8) < 1e-15);
    double before = 0;
    for (int i = 1; i <= 100; i++) {
        const double now = swm_ease(i / 100.0, 0.5);
        assert_true(now > before && fabs(now + swm_ease(1 - i / 100.0, 0.5) - 1) < 1e-14);
        before = now;
    }
}

static void bad_moves_are_refused(void **state)
{
    (void)state;
    swm_error error = {0};
    assert_null(swm_preset_find("orbits", &error));
    assert_non_null(strstr(error.text, "orbit, arc, spiral, dolly"));
    const struct {
        const char *name;
        int parameter;
        double value;
        const char *message;
    } cases[] = {{"dolly", SWM_PRESET_RADIUS, 2, "dolly: the move has no radius; it takes distance"},
                 {"orbit", SWM_PRESET_RADIUS, 0, "orbit: radius is 0; it must lie in 0.01 .. 1000 units"},
                 {"orbit", SWM_PRESET_ANGLE, NAN, "orbit: angle is nan"},
                 {"crane", SWM_PRESET_DISTANCE, 3, "crane: distance 3 reaches the subject"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        swm_preset_options options = move(cases[i].name);
        options.values[cases[i].parameter] = cases[i].value;
        swm_poses poses;
        error = (swm_error){0};
        assert_int_equal(swm_preset_make(&options, &poses, &error), -1);
        if (strstr(error.text, cases[i].message) == NULL) fail_msg("%s", error.text);
        assert_null(poses.c2w);
    }
    swm_preset_options options = move("orbit");
    options.frames = 1;
    assert_int_equal(swm_preset_check(&options, NULL), -1);
    options.frames = 0;
    options.ease = 0.6;
    assert_int_equal(swm_preset_check(&options, NULL), -1);
    options.ease = 0.1;
    options.handheld.sway = -1;
    assert_int_equal(swm_preset_check(&options, NULL), -1);
}

/* --- keyframes --- */

#define HEAD "{\"format\":\"sanawm-keyframes\",\"version\":1,"

static swm_poses read_keyframes(const char *text)
{
    swm_error error = {0};
    swm_poses poses;
    if (swm_keyframes_parse(&poses, NULL, "k.json", text, strlen(text), &error) < 0) fail_msg("%s", error.text);
    return poses;
}

/* Every way to say that the camera stands one unit to the right and looks back over the start, to the left and level. */
static void poses_can_be_said_in_many_ways(void **state)
{
    (void)state;
    static const char *const ways[] = {
        "\"look_at\":[-5,0,0]",
        "\"euler\":[-90,0,0]",
        "\"quaternion_wxyz\":[0.70710678118654752,0,-0.70710678118654752,0]",
        "\"quaternion_xyzw\":[0,-3,0,3]",
    };
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        char text[400];
        snprintf(text, sizeof text, HEAD "\"poses\":[{\"time\":0},{\"time\":1,\"position\":[1,0,0],%s}]}", ways[i]);
        swm_poses poses = read_keyframes(text);
        assert_int_equal(poses.count, 17);
        assert_pose(&poses, 0, HOME, 1e-7);
        assert_pose(&poses, 16, (expected){{1, 0, 0}, {0, 0, 1}, {-1, 0, 0}}, 1e-6);
        swm_poses_free(&poses);
    }
    /* Tilted up by 30 degrees, then rolled clockwise by 90: what was right points down, tilted with the camera. */
    swm_poses poses = read_keyframes(HEAD "\"poses\":[{\"time\":0},{\"time\":1,\"euler\":[0,30,90]}]}");
    assert_pose(&poses, 16, (expected){{0, 0, 0}, {0, sqrt(0.75), 0.5}, {0, -0.5, sqrt(0.75)}}, 1e-6);
    swm_poses_free(&poses);
}

static void curves_pass_through_their_keys(void **state)
{
    (void)state;
    swm_poses poses = read_keyframes(
        HEAD "\"poses\":[{\"time\":0,\"position\":[0,0,0]},{\"time\":1,\"position\":[1,0,2],\"euler\":[20,5,0]},"
             "{\"time\":2.5,\"position\":[0,-1,3],\"euler\":[60,0,0]},{\"time\":4,\"position\":[0,0,4],\"euler\":[0,0,"
             "0]}]}");
    assert_int_equal(poses.count, 65);
    assert_pose(&poses, 0, HOME, 1e-7);
    const double c = cos(PI / 3), s = sin(PI / 3);
    assert_pose(&poses, 40, (expected){{0, -1, 3}, {c, 0, -s}, {s, 0, c}}, 1e-6);
    assert_pose(&poses, 64, (expected){{0, 0, 4}, {1, 0, 0}, {0, 0, 1}}, 1e-6);
    /* At rest at both ends, and without a jump of speed or rotation anywhere: in a cubic, steps change little. */
    double before = 0, before_turn = 0;
    for (int64_t i = 0; i < 64; i++) {
        const double step = swm_camera_step(&poses, i), turn = swm_camera_turn(&poses, i);
        assert_true(fabs(step - before) < 0.035 && fabs(turn - before_turn) < 0.7);
        before = step;
        before_turn = turn;
    }
    assert_true(swm_camera_step(&poses, 0) < 0.02 && swm_camera_step(&poses, 63) < 0.02);
    swm_poses_free(&poses);
    /* One axis, equal times: a steady turn with natural ends is a steady turn, whatever the curve in between. */
    poses = read_keyframes(HEAD "\"ease\":\"none\",\"poses\":[{\"time\":0},{\"time\":1,\"euler\":[40,0,0]},"
                                "{\"time\":2,\"euler\":[80,0,0]},{\"time\":3,\"euler\":[120,0,0]}]}");
    for (int64_t i = 0; i < 48; i++) assert_true(fabs(swm_camera_turn(&poses, i) - 2.5) < 1e-4);
    swm_poses_free(&poses);
    poses = read_keyframes(HEAD "\"curve\":\"linear\",\"poses\":[{\"time\":0},{\"time\":2,\"position\":[0,0,1]},"
                                "{\"time\":3,\"position\":[0,0,3]}]}");
    assert_pose(&poses, 16, (expected){{0, 0, 0.5}, {1, 0, 0}, {0, 0, 1}}, 1e-6);
    assert_pose(&poses, 40, (expected){{0, 0, 2}, {1, 0, 0}, {0, 0, 1}}, 1e-6);
    swm_poses_free(&poses);
}

/* The whole way from one side of a point to the other, facing it: in the middle it looks straight ahead at it. */
static void a_segment_can_watch_a_point(void **state)
{
    (void)state;
    swm_poses poses = read_keyframes(HEAD "\"look_at\":[0,0,1],\"poses\":[{\"time\":0,\"position\":[-1,0,0]},"
                                          "{\"time\":2,\"position\":[1,0,0]}]}");
    const double h = sqrt(0.5);
    assert_pose(&poses, 0, (expected){{-1, 0, 0}, {h, 0, -h}, {h, 0, h}}, 1e-6);
    assert_pose(&poses, 16, HOME, 1e-6);
    assert_pose(&poses, 32, (expected){{1, 0, 0}, {h, 0, h}, {-h, 0, h}}, 1e-6);
    swm_poses_free(&poses);
}

/* Two ahead in one second, wait for half, turn right by 90 in one, two ahead in the new direction, and all the way back. */
static void segments_join_where_the_last_ended(void **state)
{
    (void)state;
    swm_poses poses =
        read_keyframes(HEAD "\"segments\":[{\"move\":\"dolly\",\"seconds\":1,\"distance\":2},{\"hold\":0.5},"
                            "{\"move\":\"pan\",\"seconds\":1},{\"poses\":[{\"time\":3},{\"time\":4,\"position\":[0,0,2]"
                            "}]},{\"return\":true}]}");
    const expected corner = {{0, 0, 2}, {0, 0, -1}, {1, 0, 0}};
    assert_int_equal(poses.count, 2 * 56 + 1);
    assert_pose(&poses, 16, (expected){{0, 0, 2}, {1, 0, 0}, {0, 0, 1}}, 1e-6);
    assert_memory_equal(poses.c2w + 16 * 16, poses.c2w + 24 * 16, 16 * sizeof(float));
    assert_pose(&poses, 40, corner, 1e-6);
    assert_pose(&poses, 56, (expected){{2, 0, 2}, {0, 0, -1}, {1, 0, 0}}, 1e-6);
    for (int64_t i = 0; i < poses.count; i++)
        assert_memory_equal(poses.c2w + 16 * i, poses.c2w + 16 * (112 - i), 16 * sizeof(float));
    swm_poses_free(&poses);
    /* An action is one pose a frame, as without the file. */
    poses = read_keyframes(HEAD "\"segments\":[{\"action\":\"w-20,d-10\",\"keys\":\"sglang\"}]}");
    swm_motion_options motion = swm_motion_defaults(swm_key_profile_find("sglang", NULL));
    swm_poses direct;
    assert_int_equal(swm_action_rollout("w-20,d-10", &motion, &direct, NULL), 0);
    assert_int_equal(poses.count, direct.count);
    for (int64_t i = 0; i < 16 * poses.count; i++)
        assert_true(fabs((double)poses.c2w[i] - (double)direct.c2w[i]) < 1e-6);
    swm_poses_free(&poses);
    swm_poses_free(&direct);
}

static void bad_keyframes_give_one_line(void **state)
{
    (void)state;
    const struct {
        const char *text, *message;
    } cases[] = {
        {"", "k.json"},
        {"[]", "k.json"},
        {"{\"format\":\"nerf\"}", "format is \"nerf\", expected \"sanawm-keyframes\""},
        {"{\"format\":\"sanawm-keyframes\",\"version\":2,\"poses\":[]}", "version"},
        {HEAD "\"fps\":16}", "expected either \"poses\" or \"segments\""},
        {HEAD "\"poses\":[{\"time\":0}]}", "poses is a list that does not fit, expected a list of 2 to 4096 poses"},
        {HEAD "\"poses\":[{\"time\":0},{\"time\":0}]}", "poses[1] has time 0, the one before 0; times must rise"},
        {HEAD "\"poses\":[{\"time\":0},{\"time\":1,\"position\":[1,2]}]}", "poses[1].position"},
        {HEAD "\"poses\":[{\"time\":0},{\"time\":1,\"position\":[1,2,1e99]}]}", "poses[1].position"},
        {HEAD "\"poses\":[{\"time\":0},{\"time\":1,\"look_at\":[0,0,0]}]}", "another point than the position"},
        {HEAD "\"poses\":[{\"time\":0},{\"time\":1,\"quaternion_wxyz\":[0,0,0,0]}]}", "not zero"},
        {HEAD "\"poses\":[{\"time\":0},{\"time\":1,\"euler\":[0,0,0],\"look_at\":[0,0,1]}]}", "both look_at and euler"},
        {HEAD "\"poses\":[{\"time\":0},{\"time\":1,\"rotation\":[0,0,0]}]}", "rotation"},
        {HEAD "\"poses\":[{\"time\":0},{\"time\":36000}],\"fps\":240}", "longer than 65536 frames"},
        {HEAD "\"poses\":[{\"time\":0},{\"time\":1}],\"ease\":\"slow\"}", "ease is \"slow\""},
        {HEAD "\"segments\":[]}", "1 to 1024 segments"},
        {HEAD "\"segments\":[{}]}", "segments[0] has none of poses, hold, move, action and return"},
        {HEAD "\"segments\":[{\"return\":true}]}", "not first"},
        {HEAD "\"segments\":[{\"move\":\"fly\",\"seconds\":1}]}", "camera move \"fly\" is unknown"},
        {HEAD "\"segments\":[{\"move\":\"dolly\",\"seconds\":1,\"radius\":3}]}", "the move has no radius"},
        {HEAD "\"segments\":[{\"move\":\"dolly\"}]}", "segments[0].seconds is missing"},
        {HEAD "\"segments\":[{\"action\":\"z-4\"}]}", "segments[0]: action: segment 1"},
        {HEAD "\"segments\":[{\"action\":\"w-4\",\"keys\":\"unreal\"}]}", "key profile \"unreal\" is unknown"},
        {HEAD "\"limits\":{\"speed\":-1},\"poses\":[{\"time\":0},{\"time\":1}]}", "limits.speed"},
        {HEAD "\"limits\":{\"speed\":1e-6},\"poses\":[{\"time\":0},{\"time\":1,\"position\":[9,0,0]}]}",
         "within these limits"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        swm_error error = {0};
        swm_poses poses;
        assert_int_equal(swm_keyframes_parse(&poses, NULL, "k.json", cases[i].text, strlen(cases[i].text), &error), -1);
        if (strstr(error.text, cases[i].message) == NULL || strncmp(error.text, "k.json", 6) != 0)
            fail_msg("case %zu: %s", i, error.text);
        assert_null(poses.c2w);
    }
}

static void keyframes_come_from_files(void **state)
{
    (void)state;
    char place[] = "/tmp/swm-keyframes-XXXXXX", path[64];
    assert_non_null(mkdtemp(place));
    snprintf(path, sizeof path, "%s/k.json", place);
    const char *text = HEAD "\"fps\":8,\"poses\":[{\"time\":0},{\"time\":1}]}";
    assert_int_equal(swm_file_write(path, text, strlen(text), NULL), 0);
    swm_poses poses;
    double fps = 0;
    assert_int_equal(swm_keyframes_load(&poses, &fps, path, NULL), 0);
    assert_true(fps == 8 && poses.count == 9);
    swm_poses_free(&poses);
    unlink(path);
    swm_error error = {0};
    assert_int_equal(swm_keyframes_load(&poses, NULL, path, &error), -1);
    assert_non_null(strstr(error.text, path));
    rmdir(place);
}

/* --- limits of speed --- */

/* The largest speed and change of speed, a second, of a path at 16 frames a second. */
static void assert_pace(const swm_poses *poses, const swm_pace *pace)
{
    double before = 0, before_turn = 0;
    for (int64_t i = 0; i < poses->count; i++) {
        const bool last = i + 1 == poses->count;
        const double speed = last ? 0 : swm_camera_step(poses, i) * 16,
                     turn = last ? 0 : swm_camera_turn(poses, i) * 16;
        /* Between frames lie parts of acceleration of both kinds; a tenth covers that and the rounding of floats. */
        if (pace->speed > 0 && speed > pace->speed * 1.001) fail_msg("frame %d: speed %g", (int)i, speed);
        if (pace->turn > 0 && turn > pace->turn * 1.001) fail_msg("frame %d: turn %g", (int)i, turn);
        if (pace->acceleration > 0 && fabs(speed - before) * 16 > pace->acceleration * 1.1)
            fail_msg("frame %d: acceleration %g", (int)i, fabs(speed - before) * 16);
        if (pace->turn_acceleration > 0 && fabs(turn - before_turn) * 16 > pace->turn_acceleration * 1.1)
            fail_msg("frame %d: turn acceleration %g", (int)i, fabs(turn - before_turn) * 16);
        before = speed;
        before_turn = turn;
    }
}

static void limits_slow_a_path_down(void **state)
{
    (void)state;
    /* 4 units at 1 unit a second, half a unit a second gained a second: 2 s up over 1 unit, 2 s steady, 2 s down. */
    swm_poses poses = read_keyframes(HEAD "\"limits\":{\"speed\":1,\"acceleration\":0.5},\"curve\":\"linear\","
                                          "\"poses\":[{\"time\":0},{\"time\":1,\"position\":[0,0,4]}]}");
    assert_true(poses.count >= 6 * 16 && poses.count <= 6 * 16 + 2);
    assert_pose(&poses, 0, HOME, 1e-7);
    assert_pose(&poses, poses.count - 1, (expected){{0, 0, 4}, {1, 0, 0}, {0, 0, 1}}, 1e-6);
    assert_true(fabs((double)poses.c2w[16 * 32 + 11] - 1) < 0.03);
    assert_pace(&poses, &(swm_pace){1, 0.5, 0, 0});
    swm_poses_free(&poses);
    /* A chain of everything, with corners and a way back. */
    poses = read_keyframes(
        HEAD "\"limits\":{\"speed\":0.6,\"acceleration\":0.5,\"turn\":15,\"turn_acceleration\":20},\"segments\":["
             "{\"poses\":[{\"time\":0,\"look_at\":[0,0,3]},{\"time\":3,\"position\":[1,-0.4,1],\"look_at\":[0,0,3]},"
             "{\"time\":6,\"position\":[0.2,-0.8,2],\"euler\":[-30,-10,0]}]},{\"hold\":1},"
             "{\"move\":\"arc\",\"seconds\":6,\"angle\":-70,\"radius\":1.5},{\"action\":\"w-30,dw-40\"},{\"return\":"
             "true}]}");
    assert_pace(&poses, &(swm_pace){0.6, 0.5, 15, 20});
    swm_poses_free(&poses);
    /* A path that breaks no limit is left as it is. */
    poses = read_keyframes(HEAD "\"limits\":{\"speed\":9},\"poses\":[{\"time\":0},{\"time\":1,\"position\":[0,0,1]}]}");
    assert_int_equal(poses.count, 17);
    swm_poses_free(&poses);
}

static void odd_paces_are_handled(void **state)
{
    (void)state;
    const double still[32] = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1,
                              1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1};
    const swm_pace pace = {1, 1, 1, 1};
    for (int64_t count = 1; count <= 2; count++) {
        swm_poses poses;
        assert_int_equal(swm_retime(&poses, still, count, 16, 16, &pace, 100, NULL), 0);
        assert_int_equal(poses.count, count);
        assert_pose(&poses, count - 1, HOME, 0);
        swm_poses_free(&poses);
    }
    swm_poses poses;
    swm_error error = {0};
    assert_int_equal(swm_retime(&poses, still, 2, 16, 16, &(swm_pace){.speed = NAN}, 100, &error), -1);
    assert_non_null(strstr(error.text, "limit of speed is nan"));
}

/* --- the keys of other engines --- */

static void keys_move_as_in_sglang(void **state)
{
    (void)state;
    swm_motion_options motion = swm_motion_defaults(swm_key_profile_find("sglang", NULL));
    swm_poses poses;
    /* Two steps of 0.04 ahead, which the millionth in the law makes a little shorter. */
    assert_int_equal(swm_action_rollout("w-2", &motion, &poses, NULL), 0);
    assert_pose(&poses, 2, (expected){{0, 0, 0.08}, {1, 0, 0}, {0, 0, 1}}, 1e-6);
    swm_poses_free(&poses);
    /* To strafe right turns right by 0.4 of 1.2 degrees a frame, and then goes to the new right. */
    const double yaw = 0.48 * PI / 180;
    assert_int_equal(swm_action_rollout("d-1", &motion, &poses, NULL), 0);
    assert_pose(&poses, 1,
                (expected){{0.04 * cos(yaw), 0, -0.04 * sin(yaw)}, {cos(yaw), 0, -sin(yaw)}, {sin(yaw), 0, cos(yaw)}},
                1e-6);
    swm_poses_free(&poses);
    /* Together with a turn to the left both add up. */
    assert_int_equal(swm_action_rollout("dj-1", &motion, &poses, NULL), 0);
    assert_true(fabs((double)poses.c2w[16 + 2] - sin(-0.72 * PI / 180)) < 1e-6);
    swm_poses_free(&poses);
    /* 70 steps of 1.2 degrees are 84; the 71st would pass 85 and is not taken. */
    assert_int_equal(swm_action_rollout("i-90", &motion, &poses, NULL), 0);
    assert_true(fabs((double)poses.c2w[16 * 90 + 6] + sin(84 * PI / 180)) < 1e-6);
    swm_poses_free(&poses);
}

static void keys_move_as_in_flashdreams(void **state)
{
    (void)state;
    const swm_key_profile *profile = swm_key_profile_find("flashdreams", NULL);
    assert_int_equal(swm_key_control(profile, 'a'), SWM_CONTROL_YAW_LEFT);
    assert_int_equal(swm_key_control(profile, 'J'), SWM_CONTROL_YAW_LEFT);
    assert_int_equal(swm_key_control(profile, 'l'), SWM_CONTROL_YAW_RIGHT);
    assert_int_equal(swm_key_control(profile, 'q'), SWM_CONTROL_STRAFE_LEFT);
    assert_int_equal(swm_key_control(profile, '.'), 0);
    swm_motion_options motion = swm_motion_defaults(profile);
    swm_poses poses;
    /* 45 frames of 2 degrees to the right, then a step ahead: to what was right. */
    assert_int_equal(swm_action_rollout("l-45,w-1,e-1", &motion, &poses, NULL), 0);
    assert_pose(&poses, 46, (expected){{0.05, 0, 0}, {0, 0, -1}, {1, 0, 0}}, 1e-6);
    assert_pose(&poses, 47, (expected){{0.05, 0, -0.05}, {0, 0, -1}, {1, 0, 0}}, 1e-6);
    swm_poses_free(&poses);
    /* Tilted up by 60 and then turned by 90 about its own vertical, the camera looks level to the right, and lies: its
     * down, which pointed ahead and down, still does. In the other laws the view stays tilted. */
    assert_int_equal(swm_action_rollout("i-30,d-45", &motion, &poses, NULL), 0);
    assert_pose(&poses, 75, (expected){{0, 0, 0}, {0, sqrt(0.75), -0.5}, {1, 0, 0}}, 1e-6);
    swm_poses_free(&poses);
    swm_error error = {0};
    swm_action action;
    assert_int_equal(swm_action_parse(&action, "z-1", 3, profile, &error), -1);
    assert_non_null(strstr(error.text, "w s a d i k q e j l"));
}

/* --- the check --- */

static void measures_are_those_of_the_path(void **state)
{
    (void)state;
    swm_preset_options options = move("orbit");
    options.values[SWM_PRESET_ANGLE] = 180;
    options.frames = 181;
    swm_poses poses = make(&options);
    const swm_camera_measures m = swm_camera_measure(&poses);
    assert_int_equal(m.frames, 181);
    assert_true(fabs(m.length - 2 * PI) < 1e-3 && fabs(m.turned - 180) < 1e-3);
    assert_true(fabs(m.extent[0] - 2) < 1e-6 && m.extent[1] < 1e-9 && fabs(m.extent[2] - 4) < 1e-6);
    assert_true(fabs(m.reach - 4) < 1e-6 && m.reach_at == 180);
    assert_true(fabs(m.turn - 1) < 1e-4 && fabs(m.step - 4 * sin(PI / 360)) < 1e-5 && m.tilt < 1e-4);
    swm_poses_free(&poses);
    options = move("tilt");
    poses = make(&options);
    assert_true(fabs(swm_camera_measure(&poses).tilt - 30) < 1e-4);
    swm_poses_free(&poses);
}

static void the_check_names_frame_and_remedy(void **state)
{
    (void)state;
    const swm_camera_limits limits = swm_camera_limits_default();
    swm_camera_warning warnings[SWM_CAMERA_WARNINGS];
    swm_preset_options options = move("dolly");
    options.values[SWM_PRESET_DISTANCE] = 8.8; /* 0.11 a frame: twice the limit */
    swm_poses poses = make(&options);
    swm_camera_measures m = swm_camera_measure(&poses);
    assert_int_equal(swm_camera_check(&m, &limits, warnings), 1);
    assert_non_null(strstr(warnings[0].text, "moves 0.11 units from the one before; the model knows up to 0.055"));
    assert_non_null(strstr(warnings[0].text, "resample to 161 frames"));
    swm_poses_free(&poses);
    m = (swm_camera_measures){.frames = 2000, .step = 1, .step_at = 7, .turn = 9, .reach = 100, .tilt = 80};
    assert_int_equal(swm_camera_check(&m, &limits, warnings), SWM_CAMERA_WARNINGS);
    assert_non_null(strstr(warnings[0].text, "frame 7"));
    assert_non_null(strstr(warnings[4].text, "2000 frames"));
    /* Limits learnt from a path admit that path and nothing beyond it. */
    swm_camera_limits learnt = {0};
    swm_camera_limits_cover(&learnt, &m);
    assert_int_equal(swm_camera_check(&m, &learnt, warnings), 0);
    m.turn = 9.1;
    assert_int_equal(swm_camera_check(&m, &learnt, warnings), 1);
}

int test_preset(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_move_starts_at_home),
        cmocka_unit_test(orbit_circles_the_subject),
        cmocka_unit_test(straight_moves_keep_their_view),
        cmocka_unit_test(crane_keeps_the_subject),
        cmocka_unit_test(arc_rises_and_faces_the_subject),
        cmocka_unit_test(spiral_closes_in),
        cmocka_unit_test(turns_on_the_spot),
        cmocka_unit_test(figure_8_returns_twice),
        cmocka_unit_test(there_and_back_meets_the_same_poses),
        cmocka_unit_test(a_hand_trembles_by_its_seed),
        cmocka_unit_test(easing_starts_and_stops_gently),
        cmocka_unit_test(bad_moves_are_refused),
        cmocka_unit_test(poses_can_be_said_in_many_ways),
        cmocka_unit_test(curves_pass_through_their_keys),
        cmocka_unit_test(a_segment_can_watch_a_point),
        cmocka_unit_test(segments_join_where_the_last_ended),
        cmocka_unit_test(bad_keyframes_give_one_line),
        cmocka_unit_test(keyframes_come_from_files),
        cmocka_unit_test(limits_slow_a_path_down),
        cmocka_unit_test(odd_paces_are_handled),
        cmocka_unit_test(keys_move_as_in_sglang),
        cmocka_unit_test(keys_move_as_in_flashdreams),
        cmocka_unit_test(measures_are_those_of_the_path),
        cmocka_unit_test(the_check_names_frame_and_remedy),
    };
    return cmocka_run_group_tests_name("preset", tests, NULL, NULL);
}
