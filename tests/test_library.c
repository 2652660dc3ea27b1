/* The public library as its users meet it: sanawm.h alone, the example program against the shared library, and what an
 * installation consists of. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "sanawm.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char toyworld[] = "models/toyworld", picture[] = "models/toyworld/demo/scene0.png";

static swm_request toy_request(const swm_model *model)
{
    swm_request request = swm_request_defaults(model);
    request.image = picture;
    request.action = "w-8";
    request.translation_speed = 0.06;
    request.fov = 64;
    request.steps = 2;
    return request;
}

static swm_model *open_toyworld(void)
{
    swm_message message = {{0}};
    swm_model *model = swm_model_open(toyworld, NULL, &message);
    assert_string_equal(message.text, "");
    assert_non_null(model);
    return model;
}

typedef struct watch {
    int64_t frames, stop_after; /* stop_after 0: never */
    int notices, steps;
    bool ended;
    unsigned long long sum; /* of all bytes, so that two runs can be compared */
} watch;

static void count_notice(void *user, const char *text)
{
    assert_non_null(text);
    ((watch *)user)->notices++;
}

static void count_progress(void *user, const swm_progress *progress)
{
    watch *w = user;
    assert_non_null(progress->stage);
    if (strcmp(progress->stage, "denoise") == 0 && progress->step > 0) {
        w->steps++;
        assert_int_equal(progress->step, w->steps);
        assert_int_equal(progress->steps, 2);
        assert_non_null(progress->preview);
    }
}

static bool ask_stop(void *user) { return ((watch *)user)->ended; }

static int count_frames(void *user, int64_t first, int64_t count, const uint8_t *rgb, int width, int height)
{
    watch *w = user;
    assert_int_equal(first, w->frames);
    assert_int_equal(width, 224);
    assert_int_equal(height, 128);
    for (int64_t i = 0; i < count * width * height * 3; i++) w->sum += rgb[i] * (unsigned long long)(i % 251 + 1);
    w->frames += count;
    return w->stop_after > 0 && w->frames >= w->stop_after;
}

static swm_events watched(watch *w)
{
    return (swm_events){
        .user = w, .notice = count_notice, .progress = count_progress, .stop = ask_stop, .frames = count_frames};
}

static void frames_come_in_order_and_again_the_same(void **state)
{
    (void)state;
    swm_model *model = open_toyworld();
    swm_request request = toy_request(model);
    watch first = {0}, second = {0};
    swm_message message;
    char *sidecar = NULL;
    swm_events events = watched(&first);
    assert_int_equal(swm_generate(model, &request, &events, &sidecar, &message), 0);
    assert_int_equal(first.frames, 9);
    assert_int_equal(first.steps, 2);
    assert_non_null(sidecar);
    assert_non_null(strstr(sidecar, "\"seed\":\"42\""));
    free(sidecar);
    request.threads = 1;
    events = watched(&second);
    assert_int_equal(swm_generate(model, &request, &events, NULL, &message), 0);
    assert_true(first.sum == second.sum); /* whatever the number of threads */
    swm_model_close(model);
}

static void a_receiver_and_a_user_can_stop(void **state)
{
    (void)state;
    swm_model *model = open_toyworld();
    swm_request request = toy_request(model);
    swm_message message;
    watch receiver = {.stop_after = 1}, user = {.ended = true};
    swm_events events = watched(&receiver);
    assert_int_equal(swm_generate(model, &request, &events, NULL, &message), -1);
    assert_non_null(strstr(message.text, "receiver"));
    events = watched(&user);
    assert_int_equal(swm_generate(model, &request, &events, NULL, &message), -1);
    assert_string_equal(message.text, "interrupted");
    assert_int_equal(user.frames, 0);
    swm_model_close(model);
}

/* One line that names the cause, for requests that no command line could make. */
static void bad_requests_are_refused(void **state)
{
    (void)state;
    swm_model *model = open_toyworld();
    swm_message message;
    const float nan_pose[16] = {(float)NAN, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1};
    const uint8_t pixel[3] = {1, 2, 3};
    struct {
        const char *says;
        swm_request request;
    } cases[] = {
        {"no first frame", toy_request(model)},  {"more than one camera", toy_request(model)},
        {"no camera path", toy_request(model)},  {"poses", toy_request(model)},
        {"picture of 0x0", toy_request(model)},  {"takes no prompt", toy_request(model)},
        {"multiples of 32", toy_request(model)}, {"frames were asked for", toy_request(model)},
        {"guidance", toy_request(model)},        {"steps", toy_request(model)},
        {"field of view", toy_request(model)},   {"more than one way", toy_request(model)},
    };
    cases[0].request.image = NULL;
    cases[1].request.camera = "poses.npy";
    cases[2].request.action = NULL;
    cases[3].request.action = NULL;
    cases[3].request.poses = nan_pose;
    cases[3].request.pose_count = 0;
    cases[4].request.image = NULL;
    cases[4].request.image_rgb = pixel;
    cases[5].request.prompt = "a room";
    cases[6].request.width = 100;
    cases[7].request.frames = 100;
    cases[8].request.guidance = -1;
    cases[9].request.steps = 1;
    cases[10].request.fov = 400;
    cases[11].request.intrinsics = "k.npy";
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(swm_generate(model, &cases[i].request, NULL, NULL, &message), -1);
        if (strstr(message.text, cases[i].says) == NULL) fail_msg("case %zu says: %s", i, message.text);
        assert_null(strchr(message.text, '\n'));
    }
    swm_model_close(model);
    assert_null(swm_model_open("no/such/model", NULL, &message));
    assert_non_null(strstr(message.text, "no/such/model"));
}

static void sidecars_stand_beside(void **state)
{
    (void)state;
    static const char *const names[][2] = {{"clip.mp4", "clip.json"},
                                           {"a.b/clip", "a.b/clip.json"},
                                           {"frames/", "frames.json"},
                                           {".hidden", ".hidden.json"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *path = swm_sidecar_path(names[i][0]);
        assert_string_equal(path, names[i][1]);
        free(path);
    }
}

/* The folder that this program was built into. */
static void build_folder(char *folder, size_t size)
{
    ssize_t length = readlink("/proc/self/exe", folder, size - 1);
    assert_true(length > 0);
    folder[length] = '\0';
    *strrchr(folder, '/') = '\0';
}

static int run(const char *command)
{
    int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void example_makes_a_video(void **state)
{
    (void)state;
    char build[512], folder[] = "/tmp/sanawm-library-XXXXXX", command[2048];
    build_folder(build, sizeof build);
    assert_non_null(mkdtemp(folder));
    snprintf(command, sizeof command,
             "'%s/example' %s %s w-8 %s/clip.mp4 2>%s/log && test -s %s/clip.mp4 && test -s %s/clip.json", build,
             toyworld, picture, folder, folder, folder, folder);
    assert_int_equal(run(command), 0);
    snprintf(command, sizeof command, "'%s/example' no/model %s w-8 %s/none.mp4 2>/dev/null", build, picture, folder);
    assert_int_equal(run(command), 1);
    snprintf(command, sizeof command, "test ! -e %s/none.mp4 && rm -r %s", folder, folder);
    assert_int_equal(run(command), 0);
}

/* ---- the second stage -------------------------------------------------------------------------------------------- */

typedef struct stages {
    int64_t frames, stage1_frames;
    char seen[256]; /* names of the stages, in order */
} stages;

static int count_refined(void *user, int64_t first, int64_t count, const uint8_t *rgb, int width, int height)
{
    stages *s = user;
    (void)rgb, (void)width, (void)height;
    assert_int_equal(first, s->frames);
    s->frames += count;
    return 0;
}

static int count_stage1(void *user, int64_t first, int64_t count, const uint8_t *rgb, int width, int height)
{
    stages *s = user;
    (void)rgb, (void)width, (void)height;
    assert_int_equal(first, s->stage1_frames);
    assert_int_equal(s->frames, 0);
    s->stage1_frames += count;
    return 0;
}

static void note_stage(void *user, const swm_progress *progress)
{
    stages *s = user;
    if (progress->step != 0) return;
    size_t length = strlen(s->seen);
    snprintf(s->seen + length, sizeof s->seen - length, "%s ", progress->stage);
}

static void refined_clips_lose_the_picture(void **state)
{
    (void)state;
    swm_message message = {{0}};
    swm_model *model = swm_model_open("tests/golden/tiny_random_model", NULL, &message);
    assert_string_equal(message.text, "");
    assert_true(swm_model_has_refiner(model));
    swm_request request = toy_request(model);
    request.prompt = "a road";
    request.threads = 1;
    request.action = "w-40";
    stages s = {0};
    swm_events events = {.user = &s, .frames = count_refined, .stage1_frames = count_stage1, .progress = note_stage};
    assert_int_equal(swm_generate(model, &request, &events, NULL, &message), 0);
    assert_string_equal(s.seen, "prompt encode denoise decode_stage1 refiner_prompt refine decode ");
    assert_int_equal(s.stage1_frames, 41);
    assert_int_equal(s.frames, 40);
    s = (stages){0};
    request.no_refiner = true;
    assert_int_equal(swm_generate(model, &request, &events, NULL, &message), 0);
    assert_string_equal(s.seen, "prompt encode denoise decode ");
    assert_int_equal(s.stage1_frames, 0);
    assert_int_equal(s.frames, 41);
    const struct {
        const char *says;
        swm_request request;
    } cases[] = {
        {"latents and a picture", {.latents = "l", .image = picture}},
        {"latents and an action", {.latents = "l", .action = "w-8"}},
        {"latents and intrinsics", {.latents = "l", .fov = 60}},
        {"cannot be opened", {.latents = "tests/nowhere"}},
        {"no refiner is there or wanted",
         {.image = picture, .action = "w-8", .prompt = "x", .no_refiner = true, .refiner_prompt_embeddings = "x"}},
        {"in one shot",
         {.image = picture, .action = "w-8", .prompt = "x", .refiner_block = 3, .refiner_mode = SWM_REFINER_ONE_SHOT}},
        {"blocks of -1", {.image = picture, .action = "w-8", .prompt = "x", .refiner_block = -1}},
        {"window of -1", {.image = picture, .action = "w-8", .prompt = "x", .refiner_window = -1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(swm_generate(model, &cases[i].request, NULL, NULL, &message), -1);
        if (strstr(message.text, cases[i].says) == NULL) fail_msg("no \"%s\" in: %s", cases[i].says, message.text);
    }
    swm_model_close(model);
    const swm_model_options without = {.no_refiner = true};
    model = swm_model_open("tests/golden/tiny_random_model", &without, &message);
    assert_false(swm_model_has_refiner(model));
    swm_model_close(model);
}

int test_library(void);
int test_library(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_come_in_order_and_again_the_same),
        cmocka_unit_test(a_receiver_and_a_user_can_stop),
        cmocka_unit_test(bad_requests_are_refused),
        cmocka_unit_test(sidecars_stand_beside),
        cmocka_unit_test(refined_clips_lose_the_picture),
        cmocka_unit_test(example_makes_a_video),
    };
    return cmocka_run_group_tests_name("library", tests, NULL, NULL);
}
