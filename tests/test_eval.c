/* The measures against numbers of an independent implementation (tests/interop/eval_reference.py prints and checks many
 * more), and against what must hold whatever the numbers are: invariances, degenerate paths, refusals. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "eval/chart.h"
#include "eval/poses.h"
#include "eval/revisit.h"
#include "eval/video.h"
#include "io/npy.h"
#include "io/video.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int test_eval(void);

enum { FRAMES = 12, HALF_TURNS = 10 };

/* ---- paths from formulas ---------------------------------------------------------------------------------------- */

static void multiply3(double out[9], const double a[9], const double b[9])
{
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            out[3 * i + j] = a[3 * i] * b[j] + a[3 * i + 1] * b[3 + j] + a[3 * i + 2] * b[6 + j];
}

static void put_pose(double pose[16], double yaw, double pitch, double x, double y, double z)
{
    const double a[9] = {cos(yaw), 0, sin(yaw), 0, 1, 0, -sin(yaw), 0, cos(yaw)};
    const double b[9] = {1, 0, 0, 0, cos(pitch), -sin(pitch), 0, sin(pitch), cos(pitch)};
    double r[9];
    multiply3(r, a, b);
    for (int i = 0; i < 3; i++) memcpy(pose + 4 * i, r + 3 * i, 3 * sizeof(double));
    pose[3] = x;
    pose[7] = y;
    pose[11] = z;
    pose[12] = pose[13] = pose[14] = 0;
    pose[15] = 1;
}

typedef struct paths {
    double est[16 * FRAMES], gt[16 * FRAMES];
    int64_t count;
} paths;

static void wander(paths *p)
{
    p->count = FRAMES;
    for (int i = 0; i < FRAMES; i++) {
        put_pose(p->gt + 16 * i, 0.1 * i, 0.05 * sin(i), 0.3 * sin(0.4 * i), 0.1 * cos(0.7 * i), 0.25 * i);
        put_pose(p->est + 16 * i, 0.4 + 0.1 * i + 0.02 * sin(3 * i), 0.2 + 0.05 * sin(i) - 0.01 * i,
                 2 + 0.5 * sin(0.4 * i) + 0.02 * i, 1 - 0.17 * cos(0.7 * i), 3 - 0.4 * i + 0.03 * sin(5 * i));
    }
}

static void flatten(paths *p)
{
    wander(p);
    for (int i = 0; i < FRAMES; i++) p->est[16 * i + 7] = p->gt[16 * i + 7] = 0;
}

static void set_place(double *pose, double x, double y, double z)
{
    pose[3] = x;
    pose[7] = y;
    pose[11] = z;
}

static void straighten(paths *p)
{
    wander(p);
    for (int i = 0; i < FRAMES; i++) {
        set_place(p->est + 16 * i, 0.1 * i, 0.2 * i, 0.3 * i);
        set_place(p->gt + 16 * i, 0.1 * i, 0.2 * i, 0.3 * i);
    }
}

/* Half a turn about each axis, again and again: the mean relative rotation is nearest to a reflection. */
static void turn_by_halves(paths *p)
{
    static const double signs[4][3] = {{1, 1, 1}, {1, -1, -1}, {-1, 1, -1}, {-1, -1, 1}};
    p->count = HALF_TURNS;
    for (int i = 0; i < HALF_TURNS; i++) {
        put_pose(p->gt + 16 * i, 0, 0, 0, 0, 0.5 * i);
        put_pose(p->est + 16 * i, 0, 0, 0.1 * i, 0.3 * cos(i), 0.2 * sin(2 * i));
        for (int k = 0; k < 3; k++) p->est[16 * i + 5 * k] = signs[i == 0 ? 0 : 1 + (i - 1) % 3][k];
    }
}

static void stay(paths *p)
{
    wander(p);
    for (int i = 0; i < FRAMES; i++) set_place(p->gt + 16 * i, 1, 2, 3);
}

static void single_frame(paths *p)
{
    wander(p);
    memmove(p->est, p->est + 48, 16 * sizeof(double));
    memmove(p->gt, p->gt + 48, 16 * sizeof(double));
    p->count = 1;
}

static void measure(swm_pose_errors *errors, const paths *p, int64_t delta)
{
    paths copy = *p;
    swm_error error = {0};
    const swm_eval_path est = {copy.count, copy.est}, gt = {copy.count, copy.gt};
    if (swm_pose_errors_compute(errors, &est, &gt, delta, &error) < 0) fail_msg("%s", error.text);
}

static swm_summary summary_of(const swm_pose_errors *errors, int metric)
{
    swm_summary s;
    assert_int_equal(swm_summarise(&s, swm_pose_errors_of(errors, metric), errors->count, NULL), 0);
    return s;
}

static void expect_near(double found, double expected, double tolerance, const char *what)
{
    if (isnan(expected) && isnan(found)) return;
    if (!(fabs(found - expected) <= tolerance * fmax(1, fabs(expected))))
        fail_msg("%s: %.17g, expected %.17g", what, found, expected);
}

/* ---- the numbers ------------------------------------------------------------------------------------------------ */

/* SANA-WM: RotErr, TransErr, CamMC, scale. CameraCtrl: RotErr, TransErr, CamMC, TransErr_abs, CamMC_abs. evo's rmse of
 * ATE translation and rotation and RPE translation and rotation over 2 frames: none, origin, rigid, similarity. */
enum { SANAWM_NUMBERS = 4, CAMERACTRL_NUMBERS = 5, NUMBERS = SANAWM_NUMBERS + CAMERACTRL_NUMBERS + 16 };

static const struct {
    const char *name;
    double numbers[NUMBERS];
} EXPECTED[] = {
    {"a wandering path",
     {3.14819079156299, 0.27506327171075,   0.289578406175866, -0.594601144920991, 1.21252861691664,
      11.5171718565178, 11.6455284445223,   15.0573551908313,  15.1556610896102,   3.3128885796914,
      24.4989990590848, 1.32180171099724,   2.08171701303171,  4.12851941073871,   6.64635927178085,
      1.32180171099724, 2.08171701303171,   0.527061004949328, 173.88335590966,    1.32180171099724,
      2.08171701303171, 0.0155757009302235, 173.88335590966,   1.01430626209029,   2.08171701303171}},
    {"a plane", {3.14819079156299, 0.27799844014328,   0.29239882848901,  -0.589617911145094, 1.21252861691664,
                 11.457334935741,  11.5865963279573,   14.9795718703571,  15.0785607672191,   3.16623172964555,
                 24.4989990590848, 1.29902304903754,   2.08171701303171,  4.11631171603375,   6.64635927178085,
                 1.29902304903754, 2.08171701303171,   0.524815250417859, 173.965268490615,   1.29902304903754,
                 2.08171701303171, 0.0149221126365665, 173.965268490615,  0.997027044465271,  2.08171701303171}},
    {"a straight line",
     {3.14819079156299,  0.428968758320824,    0.436167202451748,    0.925591217651746, 1.21252861691664,
      2.26440047859207,  2.84205915542762,     2.26440047859207,     2.84205915542762,  0,
      24.4989990590848,  0.282918194032102,    2.08171701303171,     0.916960527520082, 6.64635927178085,
      0.282918194032102, 2.08171701303171,     1.34311368887474e-16, (double)NAN,       0.282918194032103,
      2.08171701303171,  5.57074063034348e-16, (double)NAN,          0.282918194032102, 2.08171701303171}},
    {"half turns",
     {99,
      2.00581888633238,
      3.10816295958209,
      -1.09800866507055,
      28.2743338823081,
      7.52064184355175,
      26.7284515444546,
      5.18574460799405,
      26.1110814885994,
      2.75451907083622,
      170.762993649092,
      1.14256512633015,
      180,
      2.76943786417267,
      170.762993649092,
      1.14256512633015,
      180,
      1.17036345805909,
      (double)NAN,
      1.14256512633015,
      180,
      0.93369828892928,
      (double)NAN,
      1.75203641515169,
      180}},
    {"turning on the spot", {3.14819079156299,   0,
                             0.0776897504244344, 0,
                             1.21252861691664,   6.0942935962636,
                             6.33132001350945,   27056868110.8577,
                             27056868110.8577,   3.06699275459305,
                             24.4989990590848,   0.864714331072212,
                             2.08171701303171,   2.63102403900905,
                             6.64635927178085,   0.864714331072212,
                             2.08171701303171,   1.41379436514338,
                             (double)NAN,        0.864714331072212,
                             2.08171701303171,   0,
                             (double)NAN,        5.78089408266639e-16,
                             2.08171701303171}},
    {"one frame",
     {0,
      0,
      0,
      1,
      0,
      0,
      0,
      0,
      0,
      2.73521364640339,
      25.3114534731525,
      (double)NAN,
      (double)NAN,
      3.90802052949966e-16,
      8.55836822044954e-16,
      (double)NAN,
      (double)NAN,
      1.30922788333607e-16,
      (double)NAN,
      (double)NAN,
      (double)NAN,
      1.30922788333607e-16,
      (double)NAN,
      (double)NAN,
      (double)NAN}},
};

static void (*const MAKERS[])(paths *) = {wander, flatten, straighten, turn_by_halves, stay, single_frame};

static void numbers(void **state)
{
    (void)state;
    static const int sana[] = {SWM_SANAWM_ROTATION, SWM_SANAWM_TRANSLATION, SWM_SANAWM_MOTION};
    for (size_t n = 0; n < sizeof MAKERS / sizeof MAKERS[0]; n++) {
        paths p;
        swm_pose_errors e;
        MAKERS[n](&p);
        measure(&e, &p, 2);
        const double *expected = EXPECTED[n].numbers;
        const char *name = EXPECTED[n].name;
        for (int i = 0; i < 3; i++) expect_near(summary_of(&e, sana[i]).mean, *expected++, 1e-9, name);
        expect_near(e.sanawm_scale, *expected++, 1e-9, name);
        for (int i = 0; i < CAMERACTRL_NUMBERS; i++)
            expect_near(summary_of(&e, SWM_CAMERACTRL_ROTATION + i).sum, *expected++, 1e-9, name);
        for (int i = SWM_EVO_METRICS; i < SWM_POSE_METRICS; i++)
            expect_near(summary_of(&e, i).rmse, *expected++, 1e-9, name);
        assert_int_equal(e.sanawm_mirrored, MAKERS[n] == turn_by_halves);
        swm_pose_errors_free(&e);
        swm_pose_errors_free(&e);
    }
}

/* ---- what must hold --------------------------------------------------------------------------------------------- */

/* A path measured against itself, and against itself in another world and at another scale. */
static void equal_paths_have_no_error(void **state)
{
    (void)state;
    paths p;
    swm_pose_errors e;
    wander(&p);
    memcpy(p.est, p.gt, sizeof p.est);
    measure(&e, &p, 1);
    for (int m = 0; m < SWM_POSE_METRICS; m++)
        expect_near(summary_of(&e, m).greatest, 0, 1e-12, swm_pose_metric_name(m));
    swm_pose_errors_free(&e);

    double world[16];
    put_pose(world, 2.1, -0.7, 5, -3, 8);
    for (int i = 0; i < FRAMES; i++) {
        swm_se3_multiply(p.est + 16 * i, world, p.gt + 16 * i);
        for (int k = 3; k < 12; k += 4) p.est[16 * i + k] *= 2.5;
    }
    measure(&e, &p, 1);
    for (int m = 0; m < SWM_POSE_METRICS; m++) {
        const bool scaled_away = m <= SWM_CAMERACTRL_MOTION || m >= swm_evo_metric(SWM_ALIGN_SIMILARITY, 0);
        const bool turned_away = m == swm_evo_metric(SWM_ALIGN_RIGID, SWM_ATE_ROTATION) ||
                                 m == swm_evo_metric(SWM_ALIGN_ORIGIN, SWM_ATE_ROTATION);
        /* CameraCtrl's guard against division by zero, 1e-9, weighs differently at another scale. */
        if (scaled_away || turned_away)
            expect_near(summary_of(&e, m).greatest, 0, m < SWM_EVO_METRICS ? 1e-9 : 1e-12, swm_pose_metric_name(m));
    }
    expect_near(e.sanawm_scale, 0.4, 1e-12, "scale");
    expect_near(e.alignment[SWM_ALIGN_SIMILARITY].scale, 0.4, 1e-12, "scale");
    assert_true(summary_of(&e, swm_evo_metric(SWM_ALIGN_RIGID, SWM_ATE_TRANSLATION)).rmse > 0.1);
    swm_pose_errors_free(&e);
}

/* In words: a camera that looks 3 degrees too far to the right in every frame. SANA-WM's alignment forgives it, evo's
 * does not see rotations at all, without alignment it is 3 degrees. */
static void a_constant_turn(void **state)
{
    (void)state;
    paths p;
    swm_pose_errors e;
    double turn[16];
    wander(&p);
    put_pose(turn, 3 / 57.29577951308232, 0, 0, 0, 0);
    for (int i = 0; i < FRAMES; i++) swm_se3_multiply(p.est + 16 * i, p.gt + 16 * i, turn);
    measure(&e, &p, 1);
    for (int i = 0; i < FRAMES; i++) {
        expect_near(swm_pose_errors_of(&e, swm_evo_metric(SWM_ALIGN_NONE, SWM_ATE_ROTATION))[i], 3, 1e-12, "none");
        expect_near(swm_pose_errors_of(&e, swm_evo_metric(SWM_ALIGN_RIGID, SWM_ATE_ROTATION))[i], 3, 1e-12, "rigid");
        expect_near(swm_pose_errors_of(&e, swm_evo_metric(SWM_ALIGN_RIGID, SWM_ATE_TRANSLATION))[i], 0, 1e-12, "place");
    }
    swm_pose_errors_free(&e);
}

/* Angles from the smallest to half a turn keep their digits. */
static void angles(void **state)
{
    (void)state;
    static const double radians[] = {0, 1e-12, 1e-8, 1e-4, 0.5, 1.5707963267948966, 3, 3.14159265};
    double a[16], b[16];
    for (size_t i = 0; i < sizeof radians / sizeof radians[0]; i++) {
        put_pose(a, 0.3, 0.2, 0, 0, 0);
        put_pose(b, 0.3, 0.2 + radians[i], 1, 2, 3);
        expect_near(swm_rotation_angle(a, b) / 57.29577951308232, radians[i], 1e-15, "angle");
        expect_near(swm_rotation_angle(b, a) / 57.29577951308232, radians[i], 1e-15, "angle");
    }
    /* A mirrored matrix: the cosine alone counts, -1.5 is taken for -1. */
    put_pose(a, 0, 0, 0, 0, 0);
    put_pose(b, 0, 0, 0, 0, 0);
    b[0] = b[5] = b[10] = -1;
    expect_near(swm_rotation_angle(a, b), 180, 1e-12, "reflection");
}

static void check_svd(const double a[9])
{
    double u[9], s[3], v[9], largest = 0;
    swm_svd3(u, s, v, a);
    for (int i = 0; i < 9; i++) largest = fmax(largest, fabs(a[i]));
    assert_true(s[0] >= s[1] && s[1] >= s[2] && s[2] >= 0);
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) {
            double product = 0, uu = 0, vv = 0;
            for (int k = 0; k < 3; k++) {
                product += u[3 * i + k] * s[k] * v[3 * j + k];
                uu += u[3 * k + i] * u[3 * k + j];
                vv += v[3 * k + i] * v[3 * k + j];
            }
            expect_near(uu, i == j, 1e-14, "U");
            expect_near(vv, i == j, 1e-14, "V");
            if (!(fabs(product - a[3 * i + j]) <= 1e-14 * largest)) fail_msg("%g is not %g", product, a[3 * i + j]);
        }
}

static void decomposition(void **state)
{
    (void)state;
    static const double fixed[][9] = {{0},
                                      {1, 0, 0, 0, 1, 0, 0, 0, 1},
                                      {-1, 0, 0, 0, -1, 0, 0, 0, -1},
                                      {0, 0, 0, 0, 0, 0, 0, 0, 5},
                                      {1, 2, 3, 2, 4, 6, 3, 6, 9},
                                      {1, 2, 3, 4, 5, 6, 7, 8, 9},
                                      {1e200, 2e200, 0, 0, 1e180, 3, 1e-200, 0, 0},
                                      {1e-300, 0, 2e-300, 0, 3e-300, 0, 1e-301, 0, 0}};
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++) check_svd(fixed[i]);
    uint64_t seed = 1;
    for (int n = 0; n < 2000; n++) {
        double a[9];
        for (int i = 0; i < 9; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            a[i] = (double)(int64_t)seed / 9.2e18 * (n % 3 == 0 && i < 3 ? 1e-9 : 1);
        }
        check_svd(a);
    }
}

/* ---- files ------------------------------------------------------------------------------------------------------ */

typedef struct place {
    char directory[64], path[128];
} place;

static int make_place(void **state)
{
    place *p = calloc(1, sizeof *p);
    strcpy(p->directory, "/tmp/swm-eval-XXXXXX");
    *state = p;
    return mkdtemp(p->directory) != NULL ? 0 : -1;
}

static int remove_place(void **state)
{
    place *p = *state;
    const int status = rmdir(p->directory);
    free(p);
    return status;
}

static const char *in_place(place *p, const char *name)
{
    snprintf(p->path, sizeof p->path, "%s/%s", p->directory, name);
    return p->path;
}

static void loading_keeps_digits(void **state)
{
    place *p = *state;
    paths made;
    swm_eval_path path;
    swm_error error = {0};
    wander(&made);
    const int64_t shape[] = {FRAMES, 4, 4};
    const char *file = in_place(p, "path.npy");
    assert_int_equal(swm_npy_save(file, SWM_F64, 3, shape, made.gt, &error), 0);
    if (swm_eval_path_load(&path, file, NULL, &error) < 0) fail_msg("%s", error.text);
    assert_int_equal(path.count, FRAMES);
    assert_memory_equal(path.c2w, made.gt, sizeof made.gt);
    swm_eval_path_thin(&path, 1, 4);
    assert_int_equal(path.count, 3);
    assert_memory_equal(path.c2w + 32, made.gt + 16 * 9, 16 * sizeof(double));
    swm_eval_path_free(&path);
    swm_eval_path_free(&path);

    made.gt[16 * 5 + 3] = (double)NAN;
    assert_int_equal(swm_npy_save(file, SWM_F64, 3, shape, made.gt, &error), 0);
    assert_int_equal(swm_eval_path_load(&path, file, NULL, &error), -1);
    assert_non_null(strstr(error.text, "path.npy"));
    assert_non_null(strstr(error.text, "frame 5"));
    assert_null(path.c2w);
    unlink(file);
}

static void refusals(void **state)
{
    (void)state;
    paths p;
    swm_pose_errors e;
    swm_error error = {0};
    wander(&p);
    const swm_eval_path est = {FRAMES, p.est}, gt = {FRAMES - 1, p.gt};
    assert_int_equal(swm_pose_errors_compute(&e, &est, &gt, 1, &error), -1);
    assert_non_null(strstr(error.text, "12 poses"));
    assert_non_null(strstr(error.text, "11"));
    assert_null(e.values);
    assert_int_equal(swm_pose_errors_compute(&e, &est, &est, 0, NULL), -1);
    const uint8_t picture[10 * 11 * 3] = {0};
    double ssim;
    assert_int_equal(swm_ssim(&ssim, picture, picture, 10, 11, SWM_SSIM_GAUSSIAN, NULL), -1);
    error = (swm_error){0};
    const swm_chart_series series = {NULL, p.gt, p.gt, 3, 0, false};
    const swm_chart_panel panel = {.title = "t", .x_name = "x", .series = &series, .count = 1};
    assert_int_equal(swm_chart_save("plot.jpg", "t", "s", &panel, 1, &error), -1);
    assert_non_null(strstr(error.text, ".svg or .png"));
}

static void statistics(void **state)
{
    (void)state;
    const double values[] = {(double)NAN, 3, 1, (double)NAN, 2, 6};
    swm_summary s;
    assert_int_equal(swm_summarise(&s, values, 6, NULL), 0);
    assert_int_equal(s.count, 4);
    expect_near(s.mean, 3, 1e-15, "mean");
    expect_near(s.rmse, sqrt(12.5), 1e-15, "rmse");
    expect_near(s.median, 2.5, 1e-15, "median");
    expect_near(s.deviation, sqrt(3.5), 1e-15, "deviation");
    expect_near(s.least, 1, 0, "least");
    expect_near(s.greatest, 6, 0, "greatest");
    assert_int_equal(swm_summarise(&s, values, 1, NULL), 0);
    assert_true(s.count == 0 && isnan(s.mean) && isnan(s.median));
}

/* ---- pictures --------------------------------------------------------------------------------------------------- */

enum { WIDTH = 17, HEIGHT = 13, BYTES = WIDTH * HEIGHT * 3 };

static void paint(uint8_t *a, uint8_t *b)
{
    for (int y = 0; y < HEIGHT; y++)
        for (int x = 0; x < WIDTH; x++)
            for (int c = 0; c < 3; c++) {
                const int value = x * x * 3 + y * 11 + x * y * c + c * 40, i = (y * WIDTH + x) * 3 + c;
                a[i] = (uint8_t)(value % 256);
                b[i] = (uint8_t)((value + (x * 7 + y * 5 + c) % 23) % 256);
            }
}

static void pictures(void **state)
{
    (void)state;
    uint8_t a[BYTES], b[BYTES];
    double ssim;
    paint(a, b);
    expect_near(swm_mean_squared_error(a, b, WIDTH, HEIGHT), 2428.35897435897, 1e-12, "squared error");
    expect_near(swm_mean_absolute_error(a, b, WIDTH, HEIGHT), 19.8340874811463, 1e-12, "absolute error");
    expect_near(swm_psnr(swm_mean_squared_error(a, b, WIDTH, HEIGHT)), 14.277674737449182, 1e-12, "PSNR");
    assert_int_equal(swm_ssim(&ssim, a, b, WIDTH, HEIGHT, SWM_SSIM_GAUSSIAN, NULL), 0);
    expect_near(ssim, 0.82615365394344, 1e-12, "Gaussian SSIM");
    assert_int_equal(swm_ssim(&ssim, a, b, WIDTH, HEIGHT, SWM_SSIM_UNIFORM, NULL), 0);
    expect_near(ssim, 0.767338794135425, 1e-12, "uniform SSIM");
    assert_int_equal(swm_ssim(&ssim, a, a, WIDTH, HEIGHT, SWM_SSIM_GAUSSIAN, NULL), 0);
    expect_near(ssim, 1, 1e-15, "SSIM of equal pictures");
    assert_true(swm_psnr(0) == SWM_PSNR_SAME);
}

/* A film of picture `a`, with picture `b` at the frames named. */
static void film(const char *path, int frames, const int *changed, int count)
{
    uint8_t a[BYTES], b[BYTES];
    swm_error error = {0};
    const swm_video_options options = {
        .codec = SWM_FFV1, .width = WIDTH, .height = HEIGHT, .fps = 16, .quality = -1, .threads = 1};
    swm_video *video = swm_video_open(path, &options, &error);
    if (video == NULL) fail_msg("%s", error.text);
    paint(a, b);
    for (int n = 0; n < frames; n++) {
        bool other = false;
        for (int i = 0; i < count; i++) other |= changed[i] == n;
        assert_int_equal(swm_video_write(video, other ? b : a, &error), 0);
    }
    assert_int_equal(swm_video_finish(video, &error), 0);
}

static void videos(void **state)
{
    place *p = *state;
    char a[128], b[128], c[128];
    swm_video_errors e;
    swm_error error = {0};
    strcpy(a, in_place(p, "a.mkv"));
    strcpy(b, in_place(p, "b.mkv"));
    strcpy(c, in_place(p, "c.mkv"));
    film(a, 4, NULL, 0);
    film(b, 4, (const int[]){2}, 1);
    film(c, 3, NULL, 0);
    if (swm_video_errors_compute(&e, a, b, NULL, NULL, &error) < 0) fail_msg("%s", error.text);
    assert_int_equal(e.count, 4);
    assert_true(e.values[SWM_VIDEO_PSNR][0] == SWM_PSNR_SAME);
    expect_near(e.values[SWM_VIDEO_PSNR][2], 14.277674737449182, 1e-12, "PSNR");
    expect_near(e.values[SWM_VIDEO_SSIM][2], 0.82615365394344, 1e-12, "SSIM");
    expect_near(e.mean_squared_error, 2428.35897435897 / 4, 1e-12, "all frames");
    assert_true(isnan(e.values[SWM_VIDEO_FLICKER_B][0]));
    for (int n = 1; n < 4; n++) {
        const double change = n == 1 ? 0 : 19.8340874811463;
        expect_near(e.values[SWM_VIDEO_FLICKER_A][n], 0, 0, "flicker of A");
        expect_near(e.values[SWM_VIDEO_FLICKER_B][n], change, 1e-12, "flicker of B");
        expect_near(e.values[SWM_VIDEO_FLICKER_DIFFERENCE][n], change, 1e-12, "flicker of A - B");
    }
    swm_video_errors_free(&e);
    assert_int_equal(swm_video_errors_compute(&e, a, c, NULL, NULL, &error), -1);
    assert_non_null(strstr(error.text, "c.mkv ends after 3 frames"));
    assert_null(e.values[0]);
    unlink(a);
    unlink(b);
    unlink(c);
}

/* ---- revisits --------------------------------------------------------------------------------------------------- */

enum { WALK = 41 };

/* Four units ahead and back on the same track, looking ahead all the time. */
static void walk(double *c2w)
{
    for (int i = 0; i < WALK; i++) put_pose(c2w + 16 * i, 0, 0, 0, 0, 0.2 * (i < WALK / 2 ? i : WALK - 1 - i));
}

static void revisits(void **state)
{
    place *p = *state;
    double c2w[16 * WALK];
    swm_revisit found[SWM_REVISIT_PAIRS];
    swm_error error = {0};
    swm_revisit_options options = swm_revisit_defaults();
    walk(c2w);
    const swm_eval_path path = {WALK, c2w};
    /* Every frame i is met again at 40 - i, at distance 0; at least 16 frames apart, spaced by 8. */
    assert_int_equal(swm_revisit_find(found, &path, &options, &error), 2);
    assert_true(found[0].first == 0 && found[0].second == 40);
    assert_true(found[1].first == 8 && found[1].second == 32);
    expect_near(found[1].distance, 0, 1e-12, "distance");
    expect_near(found[1].degrees, 0, 1e-12, "angle");

    const char *video = in_place(p, "walk.mkv");
    film(video, WALK, (const int[]){32}, 1);
    assert_int_equal(swm_video_frame_count(video, &error), WALK);
    if (swm_revisit_measure(found, 2, video, &error) < 0) fail_msg("%s", error.text);
    assert_true(found[0].psnr == SWM_PSNR_SAME);
    expect_near(found[1].psnr, 14.277674737449182, 1e-12, "PSNR");
    expect_near(found[1].ssim_uniform, 0.767338794135425, 1e-12, "SSIM");
    found[0].second = WALK + 3;
    assert_int_equal(swm_revisit_measure(found, 2, video, &error), -1);
    assert_non_null(strstr(error.text, "ends after 41 frames"));
    unlink(video);

    /* On the way back the camera looks the other way: near in place, but never the same view. */
    for (int i = WALK / 2; i < WALK; i++) put_pose(c2w + 16 * i, 3.14159265358979, 0, 0, 0, c2w[16 * i + 11]);
    assert_int_equal(swm_revisit_find(found, &path, &options, &error), 0);
    /* Nothing is a revisit that was never left. */
    for (int i = 0; i < WALK; i++) put_pose(c2w + 16 * i, 0, 0, 0, 0, 0.01 * i);
    assert_int_equal(swm_revisit_find(found, &path, &options, &error), 0);
    options.pairs = 0;
    assert_int_equal(swm_revisit_find(found, &path, &options, &error), -1);
}

static void charts(void **state)
{
    place *p = *state;
    const double x[] = {0, 1, 2, 3}, y[] = {1, (double)NAN, 2, 3}, none[] = {(double)NAN, (double)NAN};
    const swm_chart_series series[] = {{"a", x, y, 4, 0x2f6dac, false}, {"b", x, x, 4, 0xd07f3c, true}};
    const swm_chart_series empty = {NULL, x, none, 2, 0, false};
    const swm_chart_panel panels[] = {{.title = "t", .x_name = "x", .series = series, .count = 2, .map = true},
                                      {.title = "e", .x_name = "x", .series = &empty, .count = 1, .from_zero = true}};
    swm_error error = {0};
    static const char *const names[] = {"chart.svg", "chart.png"};
    for (int i = 0; i < 2; i++) {
        const char *file = in_place(p, names[i]);
        if (swm_chart_save(file, "title <&>", "subtitle", panels, 2, &error) < 0) fail_msg("%s", error.text);
        assert_int_equal(unlink(file), 0);
    }
}

int test_eval(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers),
        cmocka_unit_test(equal_paths_have_no_error),
        cmocka_unit_test(a_constant_turn),
        cmocka_unit_test(angles),
        cmocka_unit_test(decomposition),
        cmocka_unit_test_setup_teardown(loading_keeps_digits, make_place, remove_place),
        cmocka_unit_test(refusals),
        cmocka_unit_test(statistics),
        cmocka_unit_test(pictures),
        cmocka_unit_test_setup_teardown(videos, make_place, remove_place),
        cmocka_unit_test_setup_teardown(revisits, make_place, remove_place),
        cmocka_unit_test_setup_teardown(charts, make_place, remove_place),
    };
    return cmocka_run_group_tests_name("eval", tests, NULL, NULL);
}
