/* The program as its users meet it: the built sanawm beside this test runner, run in a directory of its own. Exit
 * statuses, what goes to which stream, and that nothing is left behind by a failure. */
#include "cli_fixture.h"

int test_cli(void);

/* ---- usage ------------------------------------------------------------------------------------------------------- */

static void wrong_usage_names_the_fix(void **state)
{
    static const struct {
        const char *arguments[12], *fragment;
    } cases[] = {
        {{"genrate"}, "did you mean generate?"},
        {{"generate", "--stpes", "3"}, "did you mean --steps?"},
        {{"generate", "--s", "3"}, "could be"},
        {{"generate", "--steps"}, "needs a value"},
        {{"generate", "--prompt", "--steps", "3"}, "--prompt needs a value"},
        {{"generate", "--steps", "3x"}, "whole number from 2 to 1000"},
        {{"generate", "--steps", "99999999999999999999"}, "whole number from 2 to 1000"},
        {{"generate", "--guidance", "nan"}, "number from 1 to 100"},
        {{"generate", "--guidance", "0x5"}, "number from 1 to 100"},
        {{"generate", "--fps", " 16"}, "number from 1 to 1000"},
        {{"generate", "--seed", "18446744073709551616"}, "from 0 to 18446744073709551615"},
        {{"generate", "--size", "100x64"}, "multiples of 32"},
        {{"generate", "--codec", "mpeg"}, "h264|hevc|av1|ffv1|png"},
        {{"generate", "--action", "w-8"}, "--image is missing"},
        {{"generate", "--image", "a.png"}, "pass --action"},
        {{"generate", "--image", "a.png", "--action", "w-8", "--camera", "c.npy"}, "pass one of them"},
        {{"generate", "--image", "a.png", "--camera", "c.npy", "--keys", "v1"}, "belong to --action"},
        {{"generate", "--image", "a.png", "--action", "w-8", "--fov", "60", "--intrinsics", "k.npy"},
         "pass one of them"},
        {{"generate", "--image", "a.png", "--action", "w-8", "--prompt", "x", "--prompt-file", "y"}, "only one of"},
        {{"generate", "--image", "a.png", "--action", "w-8", "--no-refiner", "--save-stage1", "s.mp4"}, "--no-refiner"},
        {{"generate", "--refiner-mode", "twice"}, "one-shot|blocks"},
        {{"refine", "--model", "x"}, "LATENTS is missing"},
        {{"refine", "l.safetensors"}, "--model is missing"},
        {{"prompt", "--model", "x"}, "pass a prompt, or --file"},
        {{"prompt", "road", "--file", "x.txt", "--model", "x"}, "either"},
        {{"info"}, "DIR is missing"},
        {{"plan", "--model", "x", "--release"}, "pass one of them"},
        {{"plan", "--vram-budget", "12"}, "for instance 12G or 900M, or auto"},
        {{"plan", "--vram-budget", "12K"}, "for instance 12G or 900M, or auto"},
        {{"plan", "--vram-budget", "-1G"}, "for instance 12G or 900M, or auto"},
        {{"plan", "--vram-budget", "1.2.3G"}, "for instance 12G or 900M, or auto"},
        {{"plan", "--vram-budget", "9999999999G"}, "for instance 12G or 900M, or auto"},
    };
    fixture *f = *state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(run(f, cases[i].arguments), 2);
        assert_one_line(f, cases[i].fragment);
        assert_holds(f->err, "see sanawm help");
        assert_string_equal(f->out, "");
    }
    assert_place_is_empty(f);
}

static void every_command_has_help(void **state)
{
    static const char *const names[] = {"generate", "refine", "prompt", "demo", "camera",
                                        "info",     "plan",   "eval",   "bench"};
    static const struct {
        const char *command, *part, *fragment;
    } parts[] = {{"camera", "make", "--list"},     {"camera", "convert", "--axes"}, {"camera", "plot", "--html"},
                 {"camera", "check", "REFERENCE"}, {"eval", "poses", "--delta"},    {"eval", "revisit", "VIDEO"},
                 {"eval", "video", "PSNR"}};
    fixture *f = *state;
    assert_int_equal(RUN(f, "help"), 0);
    for (int i = 0; i < 9; i++) assert_holds(f->out, names[i]);
    for (int i = 0; i < 9; i++) {
        assert_int_equal(RUN(f, "help", names[i]), 0);
        assert_holds(f->out, names[i]);
        assert_holds(f->out, "--help");
        assert_string_equal(f->err, "");
    }
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        assert_int_equal(RUN(f, "help", parts[i].command, parts[i].part), 0);
        assert_holds(f->out, parts[i].fragment);
    }
    assert_int_equal(RUN(f, "help", "eval", "nothing"), 2);
    assert_one_line(f, "poses, revisit and video");
    assert_int_equal(RUN(f, "help", "plan"), 0);
    char *text = f->out;
    f->out = NULL;
    assert_int_equal(RUN(f, "plan", "--rate", "1", "-h"), 0);
    assert_string_equal(f->out, text);
    free(text);
    assert_int_equal(RUN(f, "--version"), 0);
    assert_holds(f->out, "sanawm 0.");
}

/* ---- camera ------------------------------------------------------------------------------------------------------ */

static void camera_tells_saves_and_plots(void **state)
{
    fixture *f = *state;
    assert_int_equal(RUN(f, "camera", "w-8,d-8", "--json", "--intrinsics", "100,101,50,40", "--rotation_speed_deg=2"),
                     0);
    cJSON *tree = parse_output(f);
    assert_int_equal((int)number(tree, "poses"), 17);
    assert_int_equal((int)number(tree, "video_frames"), 17);
    assert_true(fabs(number(tree, "largest_turn_degrees") - 2) < 1e-4);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(tree, "intrinsics")), 17);
    cJSON_Delete(tree);
    assert_int_equal(RUN(f, "camera", "w-8,d-8", "--keys", "v1", "--save", "w-4.npy", "--plot", "path.svg"), 0);
    assert_string_equal(f->out, "w-4.npy\npath.svg\n");
    char *plot = slurp(f, "path.svg");
    assert_holds(plot, "<svg");
    free(plot);
    assert_int_equal(RUN(f, "camera", "w-8,d-8", "--keys", "v1"), 0);
    char *text = f->out;
    f->out = NULL;
    assert_int_equal(RUN(f, "camera", "w-4.npy"), 0);
    assert_string_equal(f->out, text);
    assert_int_equal(RUN(f, "camera", "w-4.npy", "--frames", "5"), 0);
    assert_holds(f->err, "5 poses, a video of 1 frames");
    free(text);
    assert_int_equal(RUN(f, "camera", "none.npy"), 1);
    assert_one_line(f, "cannot be opened");
    /* A name that is an action too means the file: this one holds no poses. */
    write_place(f, "w-4", "hello", 5);
    assert_int_equal(RUN(f, "camera", "w-4"), 1);
    assert_one_line(f, "w-4");
    assert_int_equal(RUN(f, "camera", "w-8", "--frames", "10"), 1);
    assert_one_line(f, "9 poses");
    assert_int_equal(RUN(f, "camera", "w-x"), 1);
    assert_one_line(f, "w-x");
}

static void camera_paths_are_made_and_converted(void **state)
{
    fixture *f = *state;
    assert_int_equal(RUN(f, "camera", "make", "truck", "--distance", "0.5", "--frames", "33", "-o", "truck.json"), 0);
    assert_string_equal(f->out, "truck.json\n");
    assert_one_line(f, "33 poses");
    assert_int_equal(RUN(f, "camera", "make", "dolly", "-o", "dolly.path", "--to", "kitti"), 0);
    assert_int_equal(RUN(f, "camera", "convert", "truck.json", "truck.txt", "--to", "tum"), 0);
    assert_string_equal(f->out, "truck.txt\n");
    assert_int_equal(RUN(f, "camera", "convert", "truck.txt", "back.npy", "--frames", "17", "--quiet"), 0);
    assert_string_equal(f->err, "");
    assert_int_equal(RUN(f, "camera", "back.npy", "--json"), 0);
    cJSON *tree = parse_output(f);
    assert_int_equal((int)number(tree, "poses"), 17);
    const cJSON *across = cJSON_GetArrayItem(cJSON_GetObjectItem(tree, "extent"), 0);
    assert_true(fabs(across->valuedouble - 0.5) < 1e-5);
    cJSON_Delete(tree);
    assert_int_equal(RUN(f, "camera", "make", "--list"), 0);
    assert_holds(f->out, "there-and-back");
    static const struct {
        const char *arguments[8], *fragment;
        int status;
    } wrong[] = {
        {{"camera", "make", "wobble", "-o", "x.npy"}, "there are: orbit", 1},
        {{"camera", "make", "orbit", "--radius", "0"}, "--radius", 2},
        {{"camera", "make", "dolly", "--frames", "9", "-o", "x.gif"}, "tells no format", 1},
        {{"camera", "convert", "truck.txt"}, "IN OUT", 2},
        {{"camera", "convert", "none.txt", "x.npy"}, "none.txt", 1},
        {{"camera", "convert", "truck.json", "x.npy", "--quiet", "--from", "tum"}, "truck.json", 1},
        {{"camera", "make", "dolly", "-o", "/dev/null"}, "/dev/null", 1},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(run(f, wrong[i].arguments), wrong[i].status);
        assert_one_line(f, wrong[i].fragment);
    }
}

static void camera_paths_are_drawn_and_checked(void **state)
{
    fixture *f = *state;
    assert_int_equal(RUN(f, "camera", "plot", "w-8", "d-8", "-o", "path.svg", "--html", "path.html"), 0);
    assert_string_equal(f->out, "path.svg\npath.html\n");
    char *plot = slurp(f, "path.svg"), *page = slurp(f, "path.html");
    assert_holds(plot, "</svg>");
    assert_holds(page, "<script");
    free(plot);
    free(page);
    assert_int_equal(RUN(f, "camera", "plot", "w-8,d-8", "--columns", "40", "--rows", "10"), 0);
    assert_true(strlen(f->out) > 40);
    assert_int_equal(RUN(f, "camera", "plot", "none.npy", "-o", "none.svg"), 1);
    assert_one_line(f, "none.npy");
    assert_int_equal(RUN(f, "camera", "check", "w-8,d-8"), 0);
    assert_holds(f->out, "within what the model knows");
    assert_int_equal(RUN(f, "camera", "make", "dolly", "--distance", "9", "--frames", "9", "-o", "fast.npy"), 0);
    assert_holds(f->err, "warning");
    assert_int_equal(RUN(f, "camera", "check", "fast.npy"), 1);
}

static void camera_paths_are_compared(void **state)
{
    fixture *f = *state;
    assert_int_equal(RUN(f, "camera", "w-8,d-8", "--save", "gt.npy"), 0);
    assert_int_equal(RUN(f, "camera", "w-8,a-8", "--save", "est.npy"), 0);
    assert_int_equal(RUN(f, "camera", "w-8", "--save", "short.npy"), 0);
    assert_int_equal(RUN(f, "eval", "poses", "gt.npy", "gt.npy", "--json", "--quiet"), 0);
    cJSON *tree = parse_output(f);
    assert_int_equal((int)number(tree, "frames"), 17);
    assert_true(number(cJSON_GetObjectItem(tree, "sanawm"), "RotErr") < 1e-9);
    assert_true(number(cJSON_GetObjectItem(tree, "sanawm"), "TransErr") < 1e-7);
    cJSON_Delete(tree);
    assert_int_equal(
        RUN(f, "eval", "poses", "est.npy", "gt.npy", "--quiet", "--csv", "errors.csv", "--plot", "errors.svg"), 0);
    assert_holds(f->out, "RotErr");
    char *table = slurp(f, "errors.csv"), *plot = slurp(f, "errors.svg");
    assert_non_null(table);
    assert_holds(plot, "</svg>");
    free(table);
    free(plot);
    assert_int_equal(RUN(f, "eval", "poses", "short.npy", "gt.npy", "--quiet"), 1);
    assert_one_line(f, "9 poses");
    assert_int_equal(RUN(f, "eval", "poses", "none.npy", "gt.npy"), 1);
    assert_one_line(f, "none.npy");
    assert_int_equal(RUN(f, "eval", "poses", "gt.npy"), 2);
    assert_int_equal(RUN(f, "eval", "nothing"), 2);
}

/* ---- info and plan ----------------------------------------------------------------------------------------------- */

static void info_counts_parameters(void **state)
{
    fixture *f = *state;
    char *toy = absolute(f, "models/toyworld"), *model = absolute(f, tiny);
    assert_int_equal(RUN(f, "info", toy), 0);
    assert_holds(f->out, "11,130,912 parameters, BF16");
    assert_holds(f->out, "7,250,493 parameters");
    assert_holds(f->out, "null caption");
    assert_int_equal(RUN(f, "info", model, "--json", "--fingerprint"), 0);
    cJSON *tree = parse_output(f);
    const cJSON *dit = cJSON_GetObjectItem(tree, "dit");
    assert_int_equal((int)number(dit, "depth"), 4);
    assert_int_equal((int)number(dit, "heads"), 2);
    assert_int_equal(strlen(cJSON_GetObjectItem(dit, "fingerprint")->valuestring), 64);
    assert_int_equal((int)number(cJSON_GetObjectItem(tree, "text_encoder"), "vocabulary"), 420);
    const cJSON *refiner = cJSON_GetObjectItem(tree, "refiner"), *parts = cJSON_GetObjectItem(refiner, "transformer");
    assert_string_equal(cJSON_GetObjectItem(refiner, "mode")->valuestring, "one-shot");
    assert_int_equal((int)number(parts, "parameters"), 451768);
    assert_int_equal((int)number(parts, "parameters_read"), 256144);
    assert_int_equal(strlen(cJSON_GetObjectItem(parts, "fingerprint")->valuestring), 64);
    cJSON_Delete(tree);
    free(model);
    free(toy);
}

static void info_says_what_is_missing(void **state)
{
    fixture *f = *state;
    char *vae = absolute(f, "tests/golden/tiny_random_model/vae"),
         *dit = absolute(f, "tests/golden/tiny_random_model/dit");
    char *part = swm_path_join(NULL, f->place, "vae"), *broken = swm_path_join(NULL, f->place, "dit");
    assert_int_equal(symlink(vae, part), 0);
    assert_int_equal(RUN(f, "info", "."), 1);
    assert_holds(f->err, "config.yaml is missing; copy it from Efficient-Large-Model/SANA-WM_bidirectional");
    assert_holds(f->err, "dit/ is missing");
    assert_holds(f->err, "gemma-2-2b-it");
    assert_holds(f->out, "368,276 parameters");
    assert_int_equal(remove(part), 0);
    assert_int_equal(symlink(dit, broken), 0);
    assert_int_equal(RUN(f, "info", "."), 1);
    assert_holds(f->out, "4 blocks of width 64, 2 heads");
    assert_int_equal(remove(broken), 0);
    assert_int_equal(symlink(vae, broken), 0);
    assert_int_equal(RUN(f, "info", ".", "--json"), 1);
    assert_holds(f->err, "not those of a SANA-WM DiT");
    cJSON *tree = parse_output(f);
    assert_string_equal(cJSON_GetObjectItem(cJSON_GetObjectItem(tree, "dit"), "state")->valuestring, "broken");
    cJSON_Delete(tree);
    assert_int_equal(RUN(f, "info", "nowhere"), 1);
    assert_one_line(f, "nowhere");
    free(vae);
    free(dit);
    free(part);
    free(broken);
}

/* A clip of 20 s: everything stays in 24 GiB; in 7 the transformer's weights stream; in 1 nothing works. */
static void plan_keeps_to_a_budget(void **state)
{
    fixture *f = *state;
    assert_int_equal(RUN(f, "plan", "--frames", "321", "--rate", "1", "--no-refiner", "--vram-budget", "24G"), 0);
    assert_holds(f->out, "within 24.0 GiB");
    assert_holds(f->out, "resident");
    assert_null(strstr(f->out, "streamed"));
    assert_int_equal(RUN(f, "plan", "--frames", "321", "--rate", "1", "--vram-budget", "7g", "--json"), 0);
    cJSON *tree = parse_output(f);
    const cJSON *denoise = cJSON_GetArrayItem(cJSON_GetObjectItem(tree, "stages"), 2);
    assert_string_equal(cJSON_GetObjectItem(tree, "compute")->valuestring, "BF16");
    assert_true(number(denoise, "gpu_streamed_bytes") > 0 && number(denoise, "gpu_weight_bytes") > 5e9);
    assert_true(number(denoise, "gpu_bytes") <= 7.0 * (1 << 30));
    assert_true(number(denoise, "gpu_bytes") > 6.7 * (1 << 30)); /* the room is used */
    assert_true(number(denoise, "gpu_smallest_budget") < number(denoise, "gpu_bytes"));
    cJSON_Delete(tree);
    assert_int_equal(RUN(f, "plan", "--frames", "321", "--rate", "1", "--vram-budget", "1024MiB"), 0);
    assert_holds(f->out, "does not fit");
    assert_int_equal(RUN(f, "plan", "--frames", "33", "--rate", "1", "--vram-budget", "auto"), 0);
    assert_null(strstr(f->out, "On a GPU"));
}

static void plan_knows_the_release(void **state)
{
    fixture *f = *state;
    assert_int_equal(RUN(f, "plan", "--release", "--frames", "961", "--size", "1280x704", "--rate", "100"), 0);
    assert_holds(f->out, "2,661,800,448 parameters, 1520.");
    assert_int_equal(RUN(f, "plan", "--frames", "961", "--rate", "100", "--compute", "bf16", "--json"), 0);
    cJSON *tree = parse_output(f);
    assert_true(number(tree, "dit_parameters") == 2661800448.0);
    /* By the specification, less plucker_embedder and plucker_proj as products of their own, and one map a block. */
    assert_true(fabs(number(tree, "dit_forward_flops") / 1e12 - (1541.5 - 0.02 - 21.37 + 0.46)) < 0.05);
    assert_true(number(tree, "seconds") > 0);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(tree, "stages")), 6);
    assert_true(number(tree, "refiner_parameters") == 13041520768.0);
    /* Three steps of 11.33 PFLOP, of which the first frame's part is taken once. */
    const cJSON *refine = cJSON_GetArrayItem(cJSON_GetObjectItem(tree, "stages"), 4);
    assert_string_equal(cJSON_GetObjectItem(refine, "stage")->valuestring, "refine");
    assert_int_equal((int)number(refine, "passes"), 3);
    assert_true(fabs(number(refine, "flops_a_pass") / 1e15 - 11.31) < 0.01);
    assert_true(fabs(number(refine, "flops") / 1e15 - 33.95) < 0.05);
    cJSON_Delete(tree);
    assert_int_equal(RUN(f, "plan", "--frames", "961", "--rate", "100", "--refiner-mode", "blocks", "--json"), 0);
    tree = parse_output(f);
    refine = cJSON_GetArrayItem(cJSON_GetObjectItem(tree, "stages"), 4);
    assert_int_equal((int)number(refine, "passes"), 40 * 4 - 1);
    assert_true(fabs(number(refine, "flops") / 1e15 - 13.7) < 0.1);
    cJSON_Delete(tree);
    assert_int_equal(RUN(f, "plan", "--frames", "961", "--rate", "100", "--no-refiner"), 0);
    assert_null(strstr(f->out, "refine"));
    char *toy = absolute(f, "models/toyworld");
    assert_int_equal(RUN(f, "plan", "--model", toy, "--frames", "30", "--steps", "20"), 0);
    assert_holds(f->err, "33 frames instead of 30");
    assert_holds(f->out, "11,130,912 parameters");
    assert_holds(f->out, "matrix products of this machine");
    free(toy);
    assert_int_equal(RUN(f, "plan", "--model", "nowhere"), 1);
    assert_one_line(f, "nowhere");
}

/* ---- generate ---------------------------------------------------------------------------------------------------- */

/* Poses of which one number is no number. */
static void write_bad_poses(const fixture *f)
{
    double values[9 * 16] = {0};
    for (int i = 0; i < 9; i++) values[i * 16] = values[i * 16 + 5] = values[i * 16 + 10] = values[i * 16 + 15] = 1;
    values[4 * 16 + 3] = NAN;
    char *path = swm_path_join(NULL, f->place, "poses.npy");
    assert_int_equal(swm_npy_save(path, SWM_F32, 3, (const int64_t[]){9, 4, 4}, values, NULL), 0);
    free(path);
}

static void bad_input_leaves_one_line_and_nothing_else(void **state)
{
    fixture *f = *state;
    char *picture = absolute(f, scene), *huge = malloc((size_t)2 << 20);
    assert_non_null(huge);
    memset(huge, 'x', (size_t)2 << 20);
    write_place(f, "text.png", "hello\n", 6);
    write_place(f, "huge.txt", huge, (size_t)2 << 20);
    write_bad_poses(f);
    free(huge);
    const struct {
        const char *arguments[14], *fragment;
    } cases[] = {
        {{"--image", "none.png", "--action", "w-8", "--prompt", "x", "--fov", "60"}, "none.png"},
        {{"--image", "text.png", "--action", "w-8", "--prompt", "x", "--fov", "60"}, "text.png"},
        {{"--image", picture, "--action", "w-8", "--prompt", "x", "--fov", "60", "-o", "no/such/place.mp4"},
         "no/such/place"},
        {{"--image", picture, "--action", "w-8", "--prompt", "x", "--fov", "60", "-o", "video.avi"}, "video.avi"},
        {{"--image", picture, "--camera", "poses.npy", "--prompt", "x", "--fov", "60"}, "poses.npy"},
        {{"--image", picture, "--action", "w-8;", "--prompt", "x", "--fov", "60"}, "w-8;"},
        {{"--image", picture, "--action", "w-8", "--prompt", "x", "--fov", "60", "--frames", "17"}, "9 poses"},
        {{"--image", picture, "--action", "w-8", "--prompt", "a\xff", "--fov", "60"}, "UTF-8"},
        {{"--image", picture, "--action", "w-8", "--prompt", "@huge.txt", "--fov", "60"}, "huge.txt"},
        {{"--image", picture, "--action", "w-8", "--prompt-file", "none.txt", "--fov", "60"}, "none.txt"},
        {{"--image", picture, "--action", "w-8", "--fov", "60"}, "--prompt"},
        {{"--image", picture, "--action", "w-8", "--prompt", "x", "--intrinsics", "0,0,1,1"}, "focal"},
        {{"--image", picture, "--action", "w-8", "--prompt", "x", "--intrinsics", "1,2,3,4,5"}, "fx,fy,cx,cy"},
        {{"--image", picture, "--action", "w-8", "--prompt", "x", "--intrinsics", "nan,1,1,1"}, "fx,fy,cx,cy"},
        {{"--image", picture, "--action", "w-8", "--prompt", "x", "--fov", "60", "--device", "cuda"}, "--device cpu"},
        {{"--image", picture, "--action", "w-8", "--prompt", "x", "--fov", "60", "--device", "cpu", "--vram-budget",
          "8G"},
         "leave the budget away"},
        {{"--image", picture, "--action", "w-8", "--prompt", "x", "--fov", "60", "--dit", "none.safetensors"},
         "none.safetensors"},
        {{"--image", picture, "--action", "w-8", "--prompt-embeddings", "text.png", "--fov", "60"}, "text.png"},
        {{"--image", picture, "--action", "w-8", "--prompt", "x", "--fov", "60", "--refiner-prompt-embeddings",
          "text.png"},
         "text.png"},
        {{"--image", picture, "--action", "w-8", "--prompt", "x", "--fov", "60", "--refiner-sink", "2"}, "sink of 2"},
        {{"--image", picture, "--action", "w-8", "--prompt", "x", "--fov", "60", "--refiner-sigmas", "0.1,0.9"}, "0.9"},
        {{"--image", picture, "--action", "w-8", "--prompt", "x", "--fov", "60", "--frames", "1"}, "--no-refiner"},
        {{"--image", picture, "--action", "w-8", "--prompt", "x", "--fov", "60", "--refiner", "nowhere"}, "nowhere"},
        {{"--image", picture, "--action", "w-8", "--prompt", "x", "--fov", "60", "--save-latents", "no/such/place"},
         "no/such/place"},
        {{"--image", picture, "--action", "w-8", "--prompt", "x", "--fov", "60", "--refiner-lora", "none:0.5"}, "none"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const int status = generate(f, cases[i].arguments, NULL);
        if (status != 1) fail_msg("case %zu ended with %d: %s", i, status, f->err);
        assert_string_equal(f->out, "");
        if (strstr(f->err, "so far)") == NULL) assert_one_line(f, cases[i].fragment);
        assert_holds(f->err, cases[i].fragment);
    }
    free(picture);
    forget(f, "text.png");
    forget(f, "huge.txt");
    forget(f, "poses.npy");
    assert_place_is_empty(f);
}

static void generate_makes_a_video_and_tells_how(void **state)
{
    fixture *f = *state;
    char *picture = absolute(f, scene);
    assert_int_equal(GENERATE(f, "--image", picture, "--action", "w-8", "--prompt", "a road", "--num_frames", "9",
                              "--step", "2", "--cfg_scale=3", "--seed", "18446744073709551615", "--intrinsics",
                              "178,178,112,64", "-oclip.mp4", "--json", "--save-prompt-embeddings", "road.safetensors"),
                     0);
    assert_holds(f->err, "seed 18446744073709551615, 2 steps, guidance 3");
    assert_holds(f->err, "denoise");
    cJSON *tree = parse_output(f);
    assert_string_equal(cJSON_GetObjectItem(tree, "video")->valuestring, "clip.mp4");
    assert_string_equal(cJSON_GetObjectItem(tree, "sidecar")->valuestring, "clip.json");
    /* Refined, hence without the picture's own frame. */
    const cJSON *told = cJSON_GetObjectItem(tree, "run");
    assert_int_equal((int)number(told, "frames"), 8);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(told, "c2w")), 8);
    assert_string_equal(cJSON_GetObjectItem(cJSON_GetObjectItem(told, "refiner"), "mode")->valuestring, "one-shot");
    cJSON_Delete(tree);
    swm_error error = {0};
    swm_video_info info;
    char *video = swm_path_join(NULL, f->place, "clip.mp4");
    swm_video_reader *reader = swm_video_reader_open(video, &info, &error);
    if (reader == NULL) fail_msg("%s", error.text);
    assert_int_equal(info.width, 96);
    assert_int_equal(info.height, 64);
    assert_int_equal(info.frames, 8);
    swm_video_reader_close(reader);
    free(video);
    /* Without progress and from the saved prompt: the path is all there is to read. */
    assert_int_equal(GENERATE(f, "--image", picture, "--action", "w-8", "--fov", "60", "--steps", "2",
                              "--prompt-embeddings", "road.safetensors", "--quiet", "--no-sidecar", "-o", "again.mkv"),
                     0);
    assert_string_equal(f->out, "again.mkv\n");
    assert_string_equal(f->err, "");
    char *sidecar = swm_path_join(NULL, f->place, "again.json");
    assert_false(swm_file_exists(sidecar));
    free(sidecar);
    free(picture);
}

static void demo_films_the_toy_world(void **state)
{
    fixture *f = *state;
    char *toy = absolute(f, "models/toyworld");
    assert_int_equal(RUN(f, "demo", "w-9", "--steps", "2", "--threads", "1", "--scene", "1", "--model", toy), 0);
    assert_string_equal(f->out, "demo.mp4\n");
    assert_holds(f->err, "9 frames of 224x128 along w-9");
    assert_int_equal(RUN(f, "demo", "w-9-", "--model", toy), 1);
    assert_one_line(f, "w-9-");
    assert_int_equal(RUN(f, "demo", "--model", "nowhere"), 1);
    assert_one_line(f, "nowhere");
    free(toy);
}

static void ctrl_c_leaves_nothing(void **state)
{
    fixture *f = *state;
    char *picture = absolute(f, scene);
    pid_t child;
    generate(f,
             (const char *const[]){"--image", picture, "--action", "w-64", "--prompt", "x", "--fov", "60", "--steps",
                                   "1000", NULL},
             &child);
    bool denoising = false;
    for (int tick = 0; tick < PATIENCE * 100 && !denoising; tick++) {
        usleep(10000);
        char *text = slurp(f, "stderr");
        denoising = text != NULL && strstr(text, "denoise") != NULL;
        free(text);
    }
    assert_true(denoising);
    assert_int_equal(kill(child, SIGINT), 0);
    assert_int_equal(finish(f, child), 130);
    assert_holds(f->err, "interrupted");
    assert_string_equal(f->out, "");
    assert_place_is_empty(f);
    free(picture);
}

/* A terminal that shows pictures gets a line that is redrawn, and the preview above it. */
static void terminal_shows_progress_and_preview(void **state)
{
    fixture *f = *state;
    const int master = posix_openpt(O_RDWR | O_NOCTTY);
    assert_true(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
    char name[128];
    assert_int_equal(ptsname_r(master, name, sizeof name), 0);
    const int slave = open(name, O_RDWR | O_NOCTTY);
    assert_true(slave >= 0);
    const struct winsize size = {.ws_row = 24, .ws_col = 60};
    assert_int_equal(ioctl(slave, TIOCSWINSZ, &size), 0);
    char *picture = absolute(f, scene), *model = absolute(f, tiny);
    const pid_t child =
        start(f,
              (const char *const[]){"generate", "--threads", "1", "--model", model, "--size", "96x64", "--image",
                                    picture, "--action", "w-8", "--prompt", "x", "--fov", "60", "--steps", "2", NULL},
              slave);
    close(slave);
    /* Reading ends with an error when the last writer is gone. */
    size_t length = 0, room = (size_t)1 << 20;
    char *screen = calloc(room, 1);
    assert_non_null(screen);
    for (ssize_t got = 1; got > 0 && length<room - 1; length += got> 0 ? (size_t)got : 0)
        got = read(master, screen + length, room - 1 - length);
    close(master);
    assert_int_equal(finish(f, child), 0);
    assert_holds(screen, "\r\033[Kdenoise");
    assert_holds(screen, "\033_Ga=T,f=100,q=2,C=1");
    assert_holds(screen, "2/2 100%");
    free(screen);
    free(model);
    free(picture);
}

static void full_output_is_a_failure(void **state)
{
    fixture *f = *state;
    char *full = swm_path_join(NULL, f->place, "stdout");
    assert_int_equal(symlink("/dev/full", full), 0);
    const pid_t child = start(f, (const char *const[]){"camera", "w-8", NULL}, -1);
    assert_int_equal(finish(f, child), 1);
    assert_holds(f->err, "standard output cannot be written");
    free(full);
}

int test_cli(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(wrong_usage_names_the_fix),
        TEST(every_command_has_help),
        TEST(camera_tells_saves_and_plots),
        TEST(camera_paths_are_made_and_converted),
        TEST(camera_paths_are_drawn_and_checked),
        TEST(camera_paths_are_compared),
        TEST(info_counts_parameters),
        TEST(info_says_what_is_missing),
        TEST(plan_knows_the_release),
        TEST(plan_keeps_to_a_budget),
        TEST(bad_input_leaves_one_line_and_nothing_else),
        TEST(generate_makes_a_video_and_tells_how),
        TEST(demo_films_the_toy_world),
        TEST(ctrl_c_leaves_nothing),
        TEST(terminal_shows_progress_and_preview),
        TEST(full_output_is_a_failure),
    };
#undef TEST
    return cmocka_run_group_tests_name("cli", tests, NULL, NULL);
}
