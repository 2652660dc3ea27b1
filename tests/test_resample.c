/* Quaternions, and camera paths at other frame counts and rates. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "camera/resample.h"

#include <math.h>
#include <string.h>

int test_resample(void);

static const double PI = 3.14159265358979323846;

static void expect_near(const char *what, const double *a, const double *b, int64_t count, double tolerance)
{
    for (int64_t i = 0; i < count; i++)
        if (!(fabs(a[i] - b[i]) <= tolerance))
            fail_msg("%s: number %lld is %.12g, expected %.12g", what, (long long)i, a[i], b[i]);
}

static swm_camera_path line(int64_t count, const double *times, const double *z, const double *yaw_degrees)
{
    swm_error error = {0};
    swm_camera_path path;
    if (swm_camera_path_create(&path, count, times != NULL, false, false, &error) < 0) fail_msg("%s", error.text);
    for (int64_t i = 0; i < count; i++) {
        const double half = (yaw_degrees != NULL ? yaw_degrees[i] : 0) / 360 * PI;
        const double q[4] = {cos(half), 0, sin(half), 0};
        double *p = path.c2w + 16 * i;
        swm_quaternion_to_pose(p, q);
        p[11] = z[i];
        p[15] = 1;
        if (times != NULL) path.times[i] = times[i];
    }
    return path;
}

static swm_camera_path resample(const swm_camera_path *in, swm_resampling options)
{
    swm_error error = {0};
    swm_camera_path out;
    if (swm_camera_path_resample(&out, in, &options, &error) < 0) fail_msg("%s", error.text);
    return out;
}

static double yaw_of(const swm_camera_path *path, int64_t i)
{
    return atan2(path->c2w[16 * i + 2], path->c2w[16 * i + 10]) * (180 / PI);
}

static void resampling_keeps_time(void **state)
{
    (void)state;
    /* One metre in the first second while turning 90 degrees, three in the next two. */
    swm_camera_path in = line(3, (const double[]){10, 11, 13}, (const double[]){0, 1, 4}, (const double[]){0, 90, 90});
    swm_camera_path out = resample(&in, (swm_resampling){.fps = 4});
    assert_int_equal(out.count, 13);
    for (int64_t i = 0; i < 13; i++) {
        const double t = (double)i / 4;
        assert_true(fabs(out.times[i] - 10 - t) < 1e-12);
        assert_true(fabs(out.c2w[16 * i + 11] - (t < 1 ? t : 1 + (t - 1) * 1.5)) < 1e-12);
        assert_true(fabs(yaw_of(&out, i) - (t < 1 ? 90 * t : 90)) < 1e-9);
    }
    swm_camera_path_free(&out);
    out = resample(&in, (swm_resampling){.frames = 7});
    assert_true(out.count == 7 && fabs(out.fps - 2) < 1e-12 && fabs(out.c2w[16 * 2 + 11] - 1) < 1e-12);
    assert_true(out.c2w[16 * 6 + 11] == 4);
    swm_camera_path_free(&out);
    out = resample(&in, (swm_resampling){.frames = 7, .fps = 30});
    assert_true(out.count == 7 && fabs(out.times[6] - 10.2) < 1e-12 && fabs(out.c2w[16 * 2 + 11] - 1) < 1e-12);
    swm_camera_path_free(&out);
    swm_camera_path_free(&in);
}

static void resampling_evens_speed(void **state)
{
    (void)state;
    /* One metre, then a turn on the spot for a second, then three metres; two of three seconds move 4 metres. */
    swm_camera_path in =
        line(4, (const double[]){0, 1, 2, 3}, (const double[]){0, 1, 1, 4}, (const double[]){0, 0, 90, 90});
    for (int smooth = 0; smooth < 2; smooth++) {
        swm_camera_path out =
            resample(&in, (swm_resampling){.frames = 61, .constant_speed = true, .smooth = smooth == 1});
        int64_t resting = 0;
        for (int64_t i = 1; i < 61; i++) {
            const double step = out.c2w[16 * i + 11] - out.c2w[16 * i - 5];
            resting += step < 0.01;
            /* 4 metres over 40 frames, the turn takes its 20. */
            if (smooth == 0 && step > 0.001) assert_true(fabs(step - 0.1) < 1e-9);
        }
        if (smooth == 0) assert_int_equal(resting, 20);
        if (smooth == 0) assert_true(fabs(yaw_of(&out, 20) - 45) < 1e-9);
        assert_true(out.c2w[16 * 60 + 11] == 4);
        swm_camera_path_free(&out);
    }
    swm_camera_path_free(&in);
    /* Only turning: equal angles. */
    in = line(3, NULL, (const double[]){1, 1, 1}, (const double[]){0, 10, 90});
    swm_camera_path out = resample(&in, (swm_resampling){.frames = 10, .constant_speed = true});
    for (int64_t i = 0; i < 10; i++) assert_true(fabs(yaw_of(&out, i) - 10 * (double)i) < 1e-9);
    swm_camera_path_free(&out);
    swm_camera_path_free(&in);
    /* Nothing moves at all. */
    in = line(3, NULL, (const double[]){1, 1, 1}, NULL);
    out = resample(&in, (swm_resampling){.frames = 10, .constant_speed = true});
    for (int64_t i = 0; i < 10; i++) assert_true(out.c2w[16 * i + 11] == 1);
    swm_camera_path_free(&out);
    swm_camera_path_free(&in);
}

static void splines_pass_through_poses(void **state)
{
    (void)state;
    /* A parabola z = t^2 at uneven times: the tangents are exact inside, so are the inner segments. */
    const double times[6] = {0, 1, 1.5, 3, 4, 4.5};
    double z[6];
    for (int i = 0; i < 6; i++) z[i] = times[i] * times[i];
    swm_camera_path in = line(6, times, z, NULL);
    swm_camera_path out = resample(&in, (swm_resampling){.fps = 8, .smooth = true});
    for (int64_t i = 8; i <= 32; i++) {
        const double t = (double)i / 8;
        assert_true(fabs(out.c2w[16 * i + 11] - t * t) < 1e-9);
    }
    swm_camera_path_free(&out);
    swm_camera_path_free(&in);
}

static void resampling_refuses(void **state)
{
    (void)state;
    swm_camera_path in = line(3, (const double[]){0, 1, 1}, (const double[]){0, 1, 2}, NULL), out;
    swm_error error = {0};
    assert_int_equal(swm_camera_path_resample(&out, &in, &(swm_resampling){.frames = 5}, &error), -1);
    assert_non_null(strstr(error.text, "times must rise"));
    in.times[2] = 1e9;
    error = (swm_error){0};
    assert_int_equal(swm_camera_path_resample(&out, &in, &(swm_resampling){.fps = 16}, &error), -1);
    assert_non_null(strstr(error.text, "--frames"));
    error = (swm_error){0};
    assert_int_equal(swm_camera_path_resample(&out, &in, &(swm_resampling){.frames = -1}, &error), -1);
    assert_null(out.c2w);
    in.count = 1;
    out = resample(&in, (swm_resampling){.frames = 9, .fps = 16});
    assert_true(out.count == 9 && out.c2w[16 * 8] == 1 && out.times[8] == 0.5);
    swm_camera_path_free(&out);
    swm_camera_path_free(&in);
}

static void quaternions_hold(void **state)
{
    (void)state;
    /* All four branches, and tiny angles whose arcus cosine would be zero. */
    static const double q[][4] = {{1, 0, 0, 0}, {0, 1, 0, 0},          {0, 0, 1, 0},
                                  {0, 0, 0, 1}, {0.1, 0.7, -0.7, 0.1}, {0.5, 0.5, 0.5, 0.5}};
    for (size_t i = 0; i < sizeof q / sizeof q[0]; i++) {
        double pose[16] = {0}, back[4], again[16] = {0};
        swm_quaternion_to_pose(pose, q[i]);
        swm_quaternion_from_pose(back, pose);
        swm_quaternion_to_pose(again, back);
        expect_near("quaternion", again, pose, 16, 1e-15);
    }
    double a[16] = {0}, b[16] = {0};
    swm_quaternion_to_pose(a, q[5]);
    const double near[4] = {0.5, 0.5, 0.5, 0.5 + 1e-9};
    swm_quaternion_to_pose(b, near);
    assert_true(fabs(swm_pose_angle(a, b) / (sqrt(3) * 1e-9) - 1) < 1e-4);
}

int test_resample(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resampling_keeps_time),      cmocka_unit_test(resampling_evens_speed),
        cmocka_unit_test(splines_pass_through_poses), cmocka_unit_test(resampling_refuses),
        cmocka_unit_test(quaternions_hold),
    };
    return cmocka_run_group_tests_name("resample", tests, NULL, NULL);
}
