/* Cameras: key profiles, the action string, motion, intrinsics, the model's camera tensors, files and plots. */
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
#include "camera/plot.h"
#include "camera/trajectory.h"
#include "io/npy.h"
#include "io/safetensors.h"

int test_camera(void);

static swm_safetensors *golden(void)
{
    swm_error error = {0};
    swm_safetensors *file = swm_safetensors_open("tests/golden/camera.safetensors", &error);
    if (file == NULL) fail_msg("%s", error.text);
    return file;
}

static const swm_tensor *tensor(const swm_safetensors *file, const char *name)
{
    const swm_tensor *t = swm_safetensors_find(file, name);
    if (t == NULL) fail_msg("no tensor %s", name);
    return t;
}

/* Relative L2 distance and largest elementwise distance to a golden tensor. */
static void assert_near(const float *found, const swm_tensor *expected, double relative, double elementwise)
{
    const float *e = swm_floats(*expected);
    double distance = 0, norm = 0, worst = 0;
    for (int64_t i = 0; i < swm_count(*expected); i++) {
        const double d = (double)found[i] - (double)e[i];
        distance += d * d;
        norm += (double)e[i] * (double)e[i];
        worst = fmax(worst, fabs(d));
    }
    if (!(sqrt(distance / norm) <= relative) || !(worst <= elementwise))
        fail_msg("relative %.3g (at most %.3g), elementwise %.3g (at most %.3g)", sqrt(distance / norm), relative,
                 worst, elementwise);
}

static void assert_values(const float *found, const double *expected, int count, double tolerance)
{
    for (int i = 0; i < count; i++)
        if (!(fabs((double)found[i] - expected[i]) <= tolerance))
            fail_msg("value %d is %.9g, expected %.9g", i, (double)found[i], expected[i]);
}

static swm_poses roll(const char *action, const swm_motion_options *options)
{
    swm_error error = {0};
    swm_poses poses;
    if (swm_action_rollout(action, options, &poses, &error) < 0) fail_msg("%s", error.text);
    return poses;
}

#define DEMO "w-100,dw-60,w-100,aw-60"

/* --- actions --- */

static void actions_reach_the_reference_poses(void **state)
{
    (void)state;
    swm_motion_options slow = swm_motion_defaults(NULL), quick = slow, abrupt = slow, flat = slow;
    slow.translation_speed = 0.015;
    quick.rotation_speed_degrees = 1.2;
    abrupt.smooth = false;
    flat.pitch_limit_degrees = 35;
    const struct {
        const char *name, *action;
        const swm_motion_options *options;
    } cases[] = {{"c2w.a0", DEMO, NULL},
                 {"c2w.a1", "w-25,aw-60,dw-100,aw-55,none-85", &slow},
                 {"c2w.a2", "ik-5,i-130,k-10,jl-7,ld-20,none-30,sj-40", &quick},
                 {"c2w.a3", "W-8, Dl-4 ,none-3", &abrupt},
                 {"c2w.a4", "k-300", &flat}};
    swm_safetensors *file = golden();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const swm_tensor *expected = tensor(file, cases[i].name);
        swm_poses poses = roll(cases[i].action, cases[i].options);
        assert_int_equal(poses.count, expected->shape[0]);
        assert_near(poses.c2w, expected, 1e-7, 5e-7); /* equal but for the last bit of a float */
        swm_poses_free(&poses);
    }
    swm_safetensors_close(file);
}

static void motion_has_the_documented_velocities(void **state)
{
    (void)state;
    const swm_motion_options options = swm_motion_defaults(NULL);
    swm_camera_motion motion;
    swm_motion_start(&motion, &options);
    const unsigned w = SWM_CONTROL_FORWARD, i = SWM_CONTROL_PITCH_UP;
    const unsigned held[8] = {w, w, w, w | i, w | i, w | i, 0, 0};
    const double pitch[8] = {0, 0, 0, .0104719755, .0104719755, .0104719755, .00983751059, .00924148595};
    const double forward[8] = {.025, .025, .025, .025, .025, .025, .0234853266, .0220624226};
    double pose[16];
    for (int n = 0; n < 8; n++) {
        swm_motion_step(&motion, held[n], pose);
        assert_true(fabs(motion.pitch - pitch[n]) < 1e-10);
        assert_true(fabs(motion.forward - forward[n]) < 1e-10);
    }
    assert_true(fabs(pose[11] - .19554755) < 1e-8);
    assert_true(fabs(pose[6] + .050473467) < 1e-9);

    /* Plain data: a copy goes on exactly as the original does. */
    swm_camera_motion copy = motion;
    double again[16];
    swm_motion_step(&motion, w, pose);
    swm_motion_step(&copy, w, again);
    assert_memory_equal(pose, again, sizeof pose);
}

static void tilt_stops_at_its_limit(void **state)
{
    (void)state;
    swm_motion_options options = swm_motion_defaults(NULL);
    options.pitch_limit_degrees = 10;
    swm_poses poses = roll("i-60", &options);
    const float *last = poses.c2w + 16 * 60;
    assert_true(fabs((double)last[6] + sin(10 * 3.14159265358979 / 180)) < 1e-7);
    swm_poses_free(&poses);
}

static void action_text_is_forgiving_where_it_may_be(void **state)
{
    (void)state;
    const char *const same[] = {"w-100,dw-60,w-100,aw-60", " W - 1 0 0 , wd-60 ,\n\tw-100,aW-60 ",
                                "w-100\xef\xbc\x8c\xe3\x80\x80wwd-060,w-100,wa-60", "w-99,w-1,dw-60,w-100,aw-60"};
    swm_poses first = roll(same[0], NULL);
    for (size_t i = 1; i < sizeof same / sizeof same[0]; i++) {
        swm_poses other = roll(same[i], NULL);
        assert_int_equal(other.count, 321);
        assert_memory_equal(other.c2w, first.c2w, 321 * 16 * sizeof(float));
        swm_poses_free(&other);
    }
    swm_poses_free(&first);

    const swm_key_profile *profile = swm_key_profile_find(NULL, NULL);
    swm_action action;
    assert_int_equal(swm_action_parse(&action, "none-2,-1,NoNe-1,iS-1", 21, profile, NULL), 0);
    assert_int_equal(action.count, 5);
    const uint8_t expected[5] = {0, 0, 0, 0, SWM_CONTROL_PITCH_UP | SWM_CONTROL_BACK};
    assert_memory_equal(action.controls, expected, 5);
    swm_action_free(&action);
}

static void bad_actions_name_the_segment(void **state)
{
    (void)state;
    const struct {
        const char *action, *message;
    } cases[] = {
        {"", "the text is empty"},
        {" \t\xe3\x80\x80\n", "the text is empty"},
        {"w-3,", "segment 2 \"\" (at character 5): it is empty"},
        {",w-3", "segment 1 \"\" (at character 1): it is empty"},
        {"w-3,,w-3", "segment 2"},
        {"w-3,  w3", "segment 2 \"w3\" (at character 7): it has no '-'"},
        {"w-", "the number of frames after '-' is missing"},
        {"w-0", "must be 1 or more"},
        {"w-1.5", "must be digits only"},
        {"w-+5", "must be digits only"},
        {"w--5x", "must be digits only"},
        {"w--5", "segment 1 \"w--5\" (at character 1): '-' is no key"},
        {"w-80,dx-40", "segment 2 \"dx-40\" (at character 6): 'x' is no key; keys of profile \"current\" are w s a d"},
        {"w-80\xef\xbc\x8cq-4", "segment 2 \"q-4\" (at character 6)"},
        {"nonew-4", "'n' is no key"},
        {"w-1000001", "longer than 1000000 frames"},
        {"w-600000,w-600000", "segment 2"},
        {"w-99999999999999999999999999", "longer than 1000000 frames"},
        {"\xff-4", "byte 0xff is no key"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        swm_error error = {0};
        swm_poses poses;
        assert_int_equal(swm_action_rollout(cases[i].action, NULL, &poses, &error), -1);
        assert_null(poses.c2w);
        if (strstr(error.text, cases[i].message) == NULL)
            fail_msg("\"%s\" gives \"%s\", not \"%s\"", cases[i].action, error.text, cases[i].message);
    }
    swm_action action;
    swm_error error = {0};
    assert_int_equal(swm_action_parse(&action, "w\0-4", 4, swm_key_profile_at(0), &error), -1);
    assert_non_null(strstr(error.text, "byte 0x00"));
}

static void bad_motion_is_refused(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        swm_motion_options options = swm_motion_defaults(NULL);
        if (i == 0) options.translation_speed = -1;
        if (i == 1) options.translation_speed = INFINITY;
        if (i == 2) options.rotation_speed_degrees = (double)NAN;
        if (i == 3) options.rotation_speed_degrees = 200;
        if (i == 4) options.pitch_limit_degrees = 91;
        swm_error error = {0};
        swm_poses poses;
        assert_int_equal(swm_action_rollout("w-3", &options, &poses, &error), -1);
        assert_non_null(strstr(error.text, "must lie in"));
    }
}

static void profiles_exchange_turning_and_strafing(void **state)
{
    (void)state;
    const swm_key_profile *current = swm_key_profile_find("", NULL), *v1 = swm_key_profile_find("v1", NULL);
    assert_string_equal(current->name, "current");
    assert_int_equal(swm_key_control(current, 'A'), SWM_CONTROL_YAW_LEFT);
    assert_int_equal(swm_key_control(current, 'l'), SWM_CONTROL_STRAFE_RIGHT);
    assert_int_equal(swm_key_control(v1, 'a'), SWM_CONTROL_STRAFE_LEFT);
    assert_int_equal(swm_key_control(v1, 'd'), SWM_CONTROL_STRAFE_RIGHT);
    assert_int_equal(swm_key_control(v1, 'j'), SWM_CONTROL_YAW_LEFT);
    assert_int_equal(swm_key_control(v1, 'l'), SWM_CONTROL_YAW_RIGHT);
    assert_int_equal(swm_key_control(v1, '\0'), 0);
    swm_error error = {0};
    assert_null(swm_key_profile_find("v0", &error));
    assert_non_null(strstr(error.text, "current, v1"));

    /* With equal speeds the two differ by the exchange of letters only. */
    swm_motion_options old = swm_motion_defaults(v1);
    assert_true(fabs(old.translation_speed - 0.055) < 1e-15 && fabs(old.rotation_speed_degrees - 1.2) < 1e-15);
    old.translation_speed = current->translation_speed;
    old.rotation_speed_degrees = current->rotation_speed_degrees;
    swm_poses a = roll("wa-9,dj-4,il-7", NULL), b = roll("wj-9,la-4,id-7", &old);
    assert_memory_equal(a.c2w, b.c2w, 21 * 16 * sizeof(float));
    swm_poses_free(&a);
    swm_poses_free(&b);
}

static void clips_snap_to_whole_latent_frames(void **state)
{
    (void)state;
    const int64_t cases[][4] = {{100, 1000, 8, 97},   {160, 1000, 8, 161}, {164, 1000, 8, 161}, {165, 1000, 8, 169},
                                {165, 166, 8, 161},   {4, 1000, 8, 1},     {5, 1000, 8, 9},     {5, 8, 8, 1},
                                {161, 40, 8, 41 - 8}, {0, 10, 8, 1},       {-5, 10, 8, 1},      {161, 0, 8, 1},
                                {161, 161, 8, 161},   {12, 1000, 24, 1},   {13, 1000, 24, 25},  {961, 1000, 24, 961}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(swm_snap_frames(cases[i][0], cases[i][1], cases[i][2]), cases[i][3]);
    assert_int_equal(swm_latent_frames(161), 21);
    assert_int_equal(swm_latent_frames(8), 1);
}

/* --- tensors --- */

static swm_intrinsics repeat(const double entry[4], int64_t count)
{
    swm_intrinsics k;
    assert_int_equal(swm_intrinsics_from_array(&k, count, 1, (const int64_t[]){4}, entry, NULL), 0);
    return k;
}

static void check_conditions(const swm_safetensors *file, const char *prefix, int height, int width)
{
    char name[64];
    snprintf(name, sizeof name, "%s.c2w", prefix);
    const swm_tensor *c2w = tensor(file, name), *k = tensor(file, "prep.intrinsics");
    const int64_t F = c2w->shape[0], T = swm_latent_frames(F), h = height / 32, w = width / 32;
    swm_poses poses;
    swm_intrinsics latent;
    assert_int_equal(swm_poses_create(&poses, F, NULL), 0);
    assert_int_equal(swm_intrinsics_create(&latent, F, NULL), 0);
    memcpy(poses.c2w, c2w->data, swm_bytes(*c2w));
    memcpy(latent.values, k->data, swm_bytes(*k));
    swm_poses_relativise(&poses);
    swm_intrinsics_to_latent(&latent, width, height, w, h);

    float *raymap = calloc((size_t)T * 20, sizeof(float)), *plucker = calloc((size_t)(48 * T * h * w), sizeof(float));
    swm_raymap(raymap, &poses, &latent, 0, T);
    swm_chunk_plucker(plucker, &poses, &latent, 0, T, h, w);
    snprintf(name, sizeof name, "%s.raymap", prefix);
    assert_near(raymap, tensor(file, name), 3e-7, 2e-6);
    snprintf(name, sizeof name, "%s.chunk_plucker", prefix);
    assert_near(plucker, tensor(file, name), 3e-7, 2e-6);

    /* A part of the clip has the same numbers as the whole. */
    float *part = calloc((size_t)(48 * 2 * h * w), sizeof(float));
    swm_chunk_plucker(part, &poses, &latent, 3, 2, h, w);
    for (int64_t c = 0; c < 48; c++)
        assert_memory_equal(part + c * 2 * h * w, plucker + (c * T + 3) * h * w, (size_t)(2 * h * w) * sizeof(float));
    free(part);
    free(plucker);
    free(raymap);
    swm_poses_free(&poses);
    swm_intrinsics_free(&latent);
}

static void conditions_match_the_reference(void **state)
{
    (void)state;
    swm_safetensors *file = golden();
    check_conditions(file, "prep", 352, 640);
    check_conditions(file, "prep2", 128, 160);
    swm_safetensors_close(file);
}

/* The published vectors of the demonstration clip. */
static void conditions_match_the_test_vectors(void **state)
{
    (void)state;
    const int64_t h = 22, w = 40, T = 41, plane = T * h * w;
    swm_poses poses = roll(DEMO, NULL);
    const double last[12] = {.9868975, 0, .16134831, 2.8639948, 0, 1, 0, 0, -.16134831, 0, .9868975, 7.0168824};
    assert_values(poses.c2w + 16 * 320, last, 12, 1e-6);

    const double crop[4] = {603.95306, 628.33911, 639.06708, 351.03296};
    swm_intrinsics k = repeat(crop, poses.count);
    swm_intrinsics_to_latent(&k, 1280, 704, w, h);
    swm_poses_relativise(&poses);
    float *raymap = calloc((size_t)T * 20, sizeof(float)), *plucker = calloc((size_t)(48 * plane), sizeof(float));
    swm_raymap(raymap, &poses, &k, 0, T);
    swm_chunk_plucker(plucker, &poses, &k, 0, T, h, w);
    const double ray[20] = {.8090170, 0,         .5877852, .4632810, 0, 1, 0,         0,         -.5877852, 0,
                            .8090170, 3.9008300, 0,        0,        0, 1, 18.873533, 19.635597, 19.970846, 10.969780};
    assert_values(raymap + 20 * 20, ray, 20, 1e-6);
    const double begin[6] = {-.6785501, -.3582552, .6412667, 0, 0, 0};
    const double later[6] = {.8978304, -.0435722, .4381804, .1699677, 3.2992830, -.0201862};
    for (int c = 0; c < 6; c++) {
        assert_values(plucker + c * plane, begin + c, 1, 1e-6);
        assert_values(plucker + (42 + c) * plane + (20 * h + 10) * w + 30, later + c, 1, 1e-6);
    }
    free(plucker);
    free(raymap);
    swm_poses_free(&poses);
    swm_intrinsics_free(&k);
}

/* One frame alone: the chunk repeats it, and its moments vanish. */
static void single_frame_fills_its_chunk(void **state)
{
    (void)state;
    swm_poses poses;
    assert_int_equal(swm_poses_create(&poses, 1, NULL), 0);
    for (int i = 0; i < 4; i++) poses.c2w[5 * i] = 1;
    poses.c2w[3] = 9;
    swm_poses_relativise(&poses);
    swm_intrinsics k = repeat((const double[]){4, 4, 2, 1}, 1);
    float plucker[48 * 2 * 3];
    swm_chunk_plucker(plucker, &poses, &k, 0, 1, 2, 3);
    for (int f = 1; f < 8; f++) assert_memory_equal(plucker + f * 36, plucker, 36 * sizeof(float));
    for (int i = 18; i < 36; i++) assert_true(fabs((double)plucker[i]) <= 0);
    swm_poses_free(&poses);
    swm_intrinsics_free(&k);
}

static void rays_match_the_reference(void **state)
{
    (void)state;
    swm_safetensors *file = golden();
    const swm_tensor *raymap = tensor(file, "prep2.raymap"), *expected = tensor(file, "ucpe.raymats");
    const int64_t T = expected->shape[1], h = expected->shape[2], w = expected->shape[3], size = 16 * T * h * w;
    float *P = calloc((size_t)size, sizeof(float)), *inverse = calloc((size_t)size, sizeof(float));
    float *rounded = calloc((size_t)size, sizeof(float)), *rounded_inverse = calloc((size_t)size, sizeof(float));
    swm_ray_matrices(P, inverse, swm_floats(*raymap), T, h, w, false);
    assert_near(P, expected, 1e-6, 1e-5);
    assert_near(inverse, tensor(file, "ucpe.inv"), 1e-6, 1e-5);

    /* bf16 keeps 8 bits; the detour of the focal length through degrees costs up to 1e-2 in ray slope. */
    swm_ray_matrices(rounded, rounded_inverse, swm_floats(*raymap), T, h, w, true);
    assert_near(rounded, expected, 2e-2, 2e-2);
    assert_near(rounded_inverse, tensor(file, "ucpe.inv"), 2e-2, 2e-2);
    int64_t changed = 0;
    for (int64_t i = 0; i < size; i++) {
        changed += fabs((double)rounded[i] - (double)P[i]) > 1e-6;
        assert_true(fabs((double)swm_bf16_to_f32(swm_f32_to_bf16(rounded[i])) - (double)rounded[i]) <= 0);
    }
    assert_true(changed > size / 4);
    free(P);
    free(inverse);
    free(rounded);
    free(rounded_inverse);
    swm_safetensors_close(file);
}

/* The slope of the ray one cell beside the principal point is the inverse of the focal length that was used. */
static void focal_lengths_pass_through_degrees(void **state)
{
    (void)state;
    enum { H = 22, W = 40 };
    const struct {
        float focal;
        double x, y;
    } cases[] = {{34.375f, 34.75, 0}, {24.375f, 24.5, 24.25}};
    float *P = calloc(H * W * 16, sizeof(float)), *inverse = calloc(H * W * 16, sizeof(float));
    for (size_t i = 0; i < 2; i++) {
        const float condition[20] = {
            [0] = 1, [5] = 1, [10] = 1, [15] = 1, [16] = cases[i].focal, [17] = cases[i].focal, [18] = 0, [19] = 0};
        swm_ray_matrices(P, inverse, condition, 1, H, W, true);
        /* The farthest cell shows the focal length best: slope = 39 / f, in bf16. */
        const float *x = P + 16 * (W - 1), *y = P + 16 * (size_t)(W * (H - 1));
        assert_true(fabs((double)x[8] / (double)x[10] * cases[i].x / (W - 1) - 1) < 6e-3);
        if (cases[i].y > 0) assert_true(fabs((double)y[9] / (double)y[10] * cases[i].y / (H - 1) - 1) < 6e-3);
    }
    free(P);
    free(inverse);
}

static void hopeless_rays_become_the_identity(void **state)
{
    (void)state;
    const float condition[20] = {[0] = 1, [5] = NAN, [10] = 1, [15] = 1, [16] = 1, [17] = 1};
    for (int bf16 = 0; bf16 < 2; bf16++) {
        float P[16], inverse[16];
        swm_ray_matrices(P, inverse, condition, 1, 1, 1, bf16 == 1);
        for (int i = 0; i < 16; i++) assert_true(P[i] == (float)(i % 5 == 0) && inverse[i] == P[i]);
    }
}

static void rigid_motions_invert(void **state)
{
    (void)state;
    swm_poses poses = roll("wi-20,dl-30,k-4", NULL);
    double pose[16], product[16];
    swm_se3_from_floats(pose, poses.c2w + 16 * 54);
    swm_se3_inverse(product, pose);
    swm_se3_multiply(product, product, pose);
    for (int i = 0; i < 16; i++) assert_true(fabs(product[i] - (i % 5 == 0)) < 1e-6);
    swm_poses_free(&poses);
}

/* --- intrinsics --- */

static void intrinsics_fit_the_clip(void **state)
{
    (void)state;
    const double three[12] = {100, 200, 10, 20, 110, 210, 12, 24, 130, 190, 8, 20};
    const double matrices[18] = {100, 7, 10, 0, 200, 20, 0, 0, 1, 110, 7, 12, 0, 210, 24, 9, 9, 9};
    swm_intrinsics k;
    assert_int_equal(swm_intrinsics_from_array(&k, 5, 2, (const int64_t[]){3, 4}, three, NULL), 0);
    const double stretched[20] = {100, 200, 10,  20,  105, 205, 11,  22,  110, 210,
                                  12,  24,  120, 200, 10,  22,  130, 190, 8,   20};
    assert_values(k.values, stretched, 20, 1e-5);
    swm_intrinsics_free(&k);
    assert_int_equal(swm_intrinsics_from_array(&k, 2, 2, (const int64_t[]){3, 4}, three, NULL), 0);
    assert_values(k.values, three, 8, 0);
    swm_intrinsics_free(&k);
    assert_int_equal(swm_intrinsics_from_array(&k, 3, 2, (const int64_t[]){1, 4}, three, NULL), 0);
    for (int j = 0; j < 3; j++) assert_values(k.values + 4 * j, three, 4, 0);
    swm_intrinsics_free(&k);
    assert_int_equal(swm_intrinsics_from_array(&k, 2, 2, (const int64_t[]){3, 3}, matrices, NULL), 0);
    assert_values(k.values + 4, three, 4, 0);
    swm_intrinsics_free(&k);
    assert_int_equal(swm_intrinsics_from_array(&k, 2, 3, (const int64_t[]){2, 3, 3}, matrices, NULL), 0);
    assert_values(k.values, three, 8, 0);
    swm_intrinsics_free(&k);
    const int64_t shapes[][3] = {{5, 0, 0}, {2, 3, 0}, {2, 2, 2}, {0, 4, 0}};
    const int ranks[4] = {1, 2, 3, 2};
    for (int i = 0; i < 4; i++) {
        swm_error error = {0};
        assert_int_equal(swm_intrinsics_from_array(&k, 2, ranks[i], shapes[i], matrices, &error), -1);
        assert_non_null(strstr(error.text, "expected (4) fx fy cx cy"));
    }
}

static void intrinsics_follow_the_crop(void **state)
{
    (void)state;
    const double source[4] = {800, 900, 844.26749, 463.72253};
    swm_intrinsics k = repeat(source, 2);
    swm_intrinsics_apply_fit(&k, &(swm_fit){1691, 930, 1280, 704, 0, 0});
    assert_values(k.values + 4, (const double[]){800 * 1280 / 1691.0, 900 * 704 / 930.0, 639.06708, 351.03296}, 4,
                  1e-4);
    swm_intrinsics_free(&k);
    k = repeat(source, 1);
    swm_intrinsics_apply_fit(&k, &(swm_fit){1024, 1024, 1280, 1280, 0, 288});
    assert_values(k.values, (const double[]){1000, 1125, 1055.33436, 291.65316}, 4, 1e-3);
    swm_intrinsics_free(&k);
    assert_int_equal(swm_intrinsics_centred(&k, 2, swm_focal_from_fov(90, 1280), 1280, 720, NULL), 0);
    assert_values(k.values + 4, (const double[]){640, 640, 640, 360}, 4, 1e-4);
    swm_intrinsics_free(&k);
}

static void absurd_intrinsics_are_refused(void **state)
{
    (void)state;
    const struct {
        double k[4];
        const char *message;
    } cases[] = {{{600, 600, 640, 352}, NULL},
                 {{600, 600, 0, 0}, NULL},
                 {{(double)NAN, 600, 640, 352}, "must be positive"},
                 {{600, 600, INFINITY, 352}, "must be positive"},
                 {{-600, 600, 640, 352}, "must be positive"},
                 {{600, 0, 640, 352}, "must be positive"},
                 {{0.5, 0.9, 0.5, 0.5}, "field of view"},
                 {{600, 90000, 640, 352}, "field of view"},
                 {{600, 600, 6400, 352}, "principal point"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        swm_error error = {0};
        swm_intrinsics k = repeat(cases[i].k, 1);
        assert_int_equal(swm_intrinsics_check(&k, 1280, 704, &error), cases[i].message != NULL ? -1 : 0);
        if (cases[i].message != NULL) assert_non_null(strstr(error.text, cases[i].message));
        swm_intrinsics_free(&k);
    }
}

static void malformed_poses_are_refused(void **state)
{
    (void)state;
    const struct {
        int at;
        float value;
        const char *message;
    } cases[] = {{0, NAN, "pose of frame 7 holds nan"},
                 {7, INFINITY, "holds inf in row 1, column 3"},
                 {15, 2, "bottom row"},
                 {12, 0.5f, "bottom row"},
                 {0, 1.1f, "no orthonormal rotation"},
                 {1, 0.01f, "no orthonormal rotation"},
                 {10, -1, "left-handed"},
                 {3, 2e6f, "units from the origin"},
                 {0, 1.0003f, NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        swm_poses poses = roll("w-9", NULL);
        poses.c2w[16 * 7 + cases[i].at] = cases[i].value;
        swm_error error = {0};
        assert_int_equal(swm_poses_check(&poses, &error), cases[i].message != NULL ? -1 : 0);
        if (cases[i].message != NULL && strstr(error.text, cases[i].message) == NULL) fail_msg("%s", error.text);
        swm_poses_free(&poses);
    }
    swm_error error = {0};
    swm_poses poses;
    assert_int_equal(swm_poses_from_array(&poses, 3, (const int64_t[]){3, 3, 4}, NULL, &error), -1);
    assert_non_null(strstr(error.text, "shape (3,3,4); expected (frames,4,4)"));
    assert_int_equal(swm_poses_create(&poses, 0, NULL), -1);
}

/* --- files and plots --- */

typedef struct scratch {
    char directory[64], path[128];
} scratch;

static void enter(scratch *s)
{
    strcpy(s->directory, "/tmp/test_camera_XXXXXX");
    assert_non_null(mkdtemp(s->directory));
}

static const char *in_scratch(scratch *s, const char *name)
{
    snprintf(s->path, sizeof s->path, "%s/%s", s->directory, name);
    return s->path;
}

static void leave(scratch *s, const char *name)
{
    unlink(in_scratch(s, name));
    assert_int_equal(rmdir(s->directory), 0);
}

static void paths_come_from_files(void **state)
{
    (void)state;
    scratch s;
    enter(&s);
    swm_error error = {0};
    swm_poses poses = roll("w-4,d-4", NULL);
    double values[9 * 16];
    for (int i = 0; i < 9 * 16; i++) values[i] = (double)poses.c2w[i];
    const char *path = in_scratch(&s, "a.npy");
    assert_int_equal(swm_npy_save(path, SWM_F64, 3, (const int64_t[]){9, 4, 4}, values, &error), 0);
    swm_trajectory t;
    if (swm_trajectory_load(&t, path, &error) < 0) fail_msg("%s", error.text);
    assert_int_equal(t.poses.count, 9);
    assert_int_equal(t.intrinsics.count, 0);
    assert_memory_equal(t.poses.c2w, poses.c2w, sizeof(float) * 9 * 16);
    swm_trajectory_free(&t);

    values[16 * 3] = 2;
    assert_int_equal(swm_npy_save(path, SWM_F32, 3, (const int64_t[]){9, 4, 4}, values, &error), 0);
    assert_int_equal(swm_trajectory_load(&t, path, &error), -1);
    assert_non_null(strstr(error.text, path));
    assert_non_null(strstr(error.text, "pose of frame 3 has no orthonormal rotation"));
    assert_null(t.poses.c2w);

    assert_int_equal(swm_npy_save(path, SWM_F32, 1, (const int64_t[]){4}, (const double[]){1, 2, 3, 4}, NULL), 0);
    swm_intrinsics k;
    assert_int_equal(swm_intrinsics_load(&k, path, 3, NULL), 0);
    assert_values(k.values + 8, (const double[]){1, 2, 3, 4}, 4, 0);
    swm_intrinsics_free(&k);
    error = (swm_error){0};
    assert_int_equal(swm_trajectory_load(&t, path, &error), -1);
    assert_non_null(strstr(error.text, "shape (4); expected (frames,4,4)"));
    error = (swm_error){0};
    assert_int_equal(swm_trajectory_parse(&t, "path.txt", "", 0, &error), -1);
    assert_non_null(strstr(error.text, "expected a .npy or .npz file"));
    swm_poses_free(&poses);
    leave(&s, "a.npy");
}

/* Archives are assembled here: one stored entry a file, as numpy.savez writes it. */
typedef struct archive {
    uint8_t data[8192];
    size_t size, count;
    struct {
        size_t offset, size;
        uint32_t checksum;
        char name[32];
    } entry[4];
} archive;

static void put_number(archive *a, uint32_t value, int bytes)
{
    for (int i = 0; i < bytes; i++) a->data[a->size++] = (uint8_t)(value >> (8 * i));
}

static uint32_t crc32_of(const uint8_t *data, size_t size)
{
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < size; i++) {
        crc ^= data[i];
        for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (0xedb88320 & (0u - (crc & 1)));
    }
    return ~crc;
}

/* The fields that a local and a central header share. */
static void put_common(archive *a, size_t i)
{
    put_number(a, 20, 2);
    put_number(a, 0, 4); /* flags, stored */
    put_number(a, 0, 4); /* time, date */
    put_number(a, a->entry[i].checksum, 4);
    put_number(a, (uint32_t)a->entry[i].size, 4);
    put_number(a, (uint32_t)a->entry[i].size, 4);
    put_number(a, (uint32_t)strlen(a->entry[i].name), 2);
    put_number(a, 0, 2);
}

static void add_array(archive *a, const char *name, const char *shape, const float *values, size_t count)
{
    uint8_t npy[4096] = "\x93NUMPY\x01\0\x76";
    const size_t header = 128, i = a->count++;
    const int n = snprintf((char *)npy + 10, 118, "{'descr': '<f4', 'fortran_order': False, 'shape': %s, }", shape);
    memset(npy + 10 + n, ' ', (size_t)(117 - n));
    npy[127] = '\n';
    memcpy(npy + header, values, count * sizeof(float));
    snprintf(a->entry[i].name, sizeof a->entry[i].name, "%s.npy", name);
    a->entry[i].offset = a->size;
    a->entry[i].size = header + count * sizeof(float);
    a->entry[i].checksum = crc32_of(npy, a->entry[i].size);
    put_number(a, 0x04034b50, 4);
    put_common(a, i);
    memcpy(a->data + a->size, a->entry[i].name, strlen(a->entry[i].name));
    a->size += strlen(a->entry[i].name);
    memcpy(a->data + a->size, npy, a->entry[i].size);
    a->size += a->entry[i].size;
}

static void close_archive(archive *a)
{
    const size_t begin = a->size;
    for (size_t i = 0; i < a->count; i++) {
        put_number(a, 0x02014b50, 4);
        put_number(a, 20, 2);
        put_common(a, i);
        put_number(a, 0, 4); /* comment, disk */
        put_number(a, 0, 2);
        put_number(a, 0, 4);
        put_number(a, (uint32_t)a->entry[i].offset, 4);
        memcpy(a->data + a->size, a->entry[i].name, strlen(a->entry[i].name));
        a->size += strlen(a->entry[i].name);
    }
    const size_t directory = a->size - begin;
    put_number(a, 0x06054b50, 4);
    put_number(a, 0, 4);
    put_number(a, (uint32_t)a->count, 2);
    put_number(a, (uint32_t)a->count, 2);
    put_number(a, (uint32_t)directory, 4);
    put_number(a, (uint32_t)begin, 4);
    put_number(a, 0, 2);
}

static void paths_come_from_archives(void **state)
{
    (void)state;
    swm_poses poses = roll("w-4", NULL);
    const float k[9] = {500, 0, 320, 0, 510, 180, 0, 0, 1};
    for (int i = 0; i < 3; i++) {
        static const char *const keys[3] = {"poses", "c2w", "matrices"};
        archive a = {.size = 0};
        add_array(&a, "intrinsics", "(3, 3)", k, 9);
        add_array(&a, keys[i], "(5, 4, 4)", poses.c2w, 80);
        close_archive(&a);
        swm_trajectory t;
        swm_error error = {0};
        const int status = swm_trajectory_parse(&t, "clip.npz", a.data, a.size, &error);
        if (i == 2) {
            assert_int_equal(status, -1);
            assert_non_null(strstr(error.text, "neither \"c2w\" nor \"poses\""));
            continue;
        }
        if (status < 0) fail_msg("%s", error.text);
        assert_int_equal(t.poses.count, 5);
        assert_memory_equal(t.poses.c2w, poses.c2w, 80 * sizeof(float));
        assert_int_equal(t.intrinsics.count, 5);
        assert_values(t.intrinsics.values + 16, (const double[]){500, 510, 320, 180}, 4, 0);
        swm_trajectory_free(&t);
        error = (swm_error){0};
        assert_int_equal(swm_trajectory_parse(&t, "clip.npz", a.data, a.size / 2, &error), -1);
        assert_null(t.poses.c2w);
    }
    swm_poses_free(&poses);
}

static void plots_are_drawn(void **state)
{
    (void)state;
    swm_error error = {0};
    swm_poses poses = roll(DEMO, NULL);
    const swm_plot_options options = {.title = "<a> & \"b\" \xc2\xb7 \xff\x01", .width = 960, .height = 768};
    swm_image image;
    if (swm_plot_trajectory(&image, &poses, &options, &error) < 0) fail_msg("%s", error.text);
    assert_true(image.width == 960 && image.height == 768);
    /* The path and both curves are on it: count pixels close to their colours. */
    int start = 0, end = 0, warm = 0;
    for (int i = 0; i < 960 * 768; i++) {
        const uint8_t *p = image.rgb + 3 * i;
        start += p[0] == 0x2a && p[1] == 0x9d && p[2] == 0x8f;
        end += p[0] == 0x1d && p[1] == 0x46 && p[2] == 0x80;
        warm += p[0] > 0xc8 && p[1] > 0x78 && p[1] < 0x98 && p[2] < 0x60;
    }
    assert_true(start > 20 && end > 20 && warm > 100);
    swm_image_free(&image);

    char *svg = swm_plot_trajectory_svg(&poses, &options, &error);
    assert_non_null(svg);
    assert_non_null(strstr(svg, "&lt;a&gt; &amp; &quot;b&quot; \xc2\xb7 ?"
                                "?</text>"));
    assert_non_null(strstr(svg, "321 frames"));
    assert_string_equal(svg + strlen(svg) - 7, "</svg>\n");
    free(svg);

    scratch s;
    enter(&s);
    assert_int_equal(swm_plot_save(in_scratch(&s, "p.svg"), &poses, &options, &error), 0);
    leave(&s, "p.svg");
    assert_int_equal(swm_plot_save("p.pdf", &poses, &options, &error), -1);
    assert_non_null(strstr(error.text, ".svg or .png"));
    assert_int_equal(swm_plot_trajectory(&image, &poses, &(swm_plot_options){.width = 9000}, NULL), -1);
    assert_int_equal(swm_plot_trajectory(&image, &poses, &(swm_plot_options){.fps = -1}, NULL), -1);
    poses.c2w[0] = NAN;
    assert_int_equal(swm_plot_trajectory(&image, &poses, &options, NULL), -1);
    swm_poses_free(&poses);
}

/* Paths without extent, with one pose, far away, and longer than the curves have points. */
static void odd_paths_are_drawn(void **state)
{
    (void)state;
    const swm_plot_options options = {.width = 320, .height = 320};
    swm_poses poses = roll("w-20000,a-3", NULL);
    for (int i = 0; i < 4; i++) {
        if (i > 0) poses.count = 1 + (i == 1);
        if (i == 2) poses.c2w[3] = 1e6f;
        swm_image image;
        assert_int_equal(swm_plot_trajectory(&image, &poses, &options, NULL), 0);
        swm_image_free(&image);
        char *svg = swm_plot_trajectory_svg(&poses, &options, NULL);
        assert_non_null(svg);
        assert_null(strstr(svg, "nan"));
        assert_true(strlen(svg) < 400000);
        free(svg);
    }
    swm_poses_free(&poses);
}

int test_camera(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(actions_reach_the_reference_poses),
        cmocka_unit_test(motion_has_the_documented_velocities),
        cmocka_unit_test(tilt_stops_at_its_limit),
        cmocka_unit_test(action_text_is_forgiving_where_it_may_be),
        cmocka_unit_test(bad_actions_name_the_segment),
        cmocka_unit_test(bad_motion_is_refused),
        cmocka_unit_test(profiles_exchange_turning_and_strafing),
        cmocka_unit_test(clips_snap_to_whole_latent_frames),
        cmocka_unit_test(conditions_match_the_reference),
        cmocka_unit_test(conditions_match_the_test_vectors),
        cmocka_unit_test(single_frame_fills_its_chunk),
        cmocka_unit_test(rays_match_the_reference),
        cmocka_unit_test(focal_lengths_pass_through_degrees),
        cmocka_unit_test(hopeless_rays_become_the_identity),
        cmocka_unit_test(rigid_motions_invert),
        cmocka_unit_test(intrinsics_fit_the_clip),
        cmocka_unit_test(intrinsics_follow_the_crop),
        cmocka_unit_test(absurd_intrinsics_are_refused),
        cmocka_unit_test(malformed_poses_are_refused),
        cmocka_unit_test(paths_come_from_files),
        cmocka_unit_test(paths_come_from_archives),
        cmocka_unit_test(plots_are_drawn),
        cmocka_unit_test(odd_paths_are_drawn),
    };
    return cmocka_run_group_tests_name("camera", tests, NULL, NULL);
}
