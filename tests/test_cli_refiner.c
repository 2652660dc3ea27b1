/* The second stage as users of the program meet it: in one go and over saved latents, in both modes, and what is said of
 * refiners and latents that cannot be used. */
#include "cli_fixture.h"

#include "io/safetensors.h"

int test_cli_refiner(void);

/* Same file, byte for byte. */
static void assert_same(const fixture *f, const char *name, const char *other, bool same)
{
    size_t size[2] = {0};
    char *data[2];
    const char *const names[] = {name, other};
    for (int i = 0; i < 2; i++) {
        char *path = swm_path_join(NULL, f->place, names[i]);
        data[i] = swm_file_read(path, (size_t)1 << 24, &size[i], NULL);
        if (data[i] == NULL) fail_msg("%s is missing", path);
        free(path);
    }
    if ((size[0] == size[1] && memcmp(data[0], data[1], size[0]) == 0) != same)
        fail_msg("%s and %s are %s", name, other, same ? "different" : "the same");
    free(data[0]);
    free(data[1]);
}

static int refine_latents(fixture *f, const char *const *more)
{
    const char *arguments[MOST_ARGUMENTS + 1] = {"refine", "clip.latents", "--threads", "1", "--quiet", "--model"};
    char *model = absolute(f, tiny);
    int count = 6;
    arguments[count++] = model;
    while (*more != NULL && count < MOST_ARGUMENTS) arguments[count++] = *more++;
    const int status = run(f, arguments);
    free(model);
    return status;
}
#define REFINE(f, ...) refine_latents(f, (const char *const[]){__VA_ARGS__, NULL})

/* Two stages in one go and one after the other, in both modes, with everything that can be saved in between. */
static void refining_later_is_the_same(void **state)
{
    fixture *f = *state;
    char *picture = absolute(f, scene);
#define CLIP "--image", picture, "--action", "w-40", "--prompt", "a road", "--fov", "60", "--steps", "2", "--quiet"
    assert_int_equal(GENERATE(f, CLIP, "-o", "shot.mp4", "--save-latents", "clip.latents", "--save-stage1",
                              "stage1.mp4", "--save-refiner-prompt-embeddings", "road.refiner",
                              "--save-prompt-embeddings", "road"),
                     0);
    assert_int_equal(GENERATE(f, CLIP, "-o", "blocks.mp4", "--refiner-mode", "blocks", "--refiner-block", "1",
                              "--refiner-window", "3"),
                     0);
    assert_int_equal(GENERATE(f, CLIP, "-o", "plain.mp4", "--no-refiner"), 0);
    free(picture);
#undef CLIP
    assert_same(f, "stage1.mp4", "plain.mp4", true);
    assert_same(f, "shot.mp4", "plain.mp4", false);
    assert_same(f, "shot.mp4", "blocks.mp4", false);
    assert_int_equal(REFINE(f, "-o", "shot2.mp4", "--save-stage1", "stage1-2.mp4"), 0);
    assert_same(f, "shot.mp4", "shot2.mp4", true);
    assert_same(f, "stage1.mp4", "stage1-2.mp4", true);
    assert_int_equal(REFINE(f, "-o", "blocks2.mp4", "--refiner-block", "1", "--refiner-kv-max-frames", "3",
                            "--refiner-prompt-embeddings", "road.refiner"),
                     0);
    assert_same(f, "blocks.mp4", "blocks2.mp4", true);
    assert_int_equal(REFINE(f, "-o", "plain2.mp4", "--no-refiner", "--json"), 0);
    assert_same(f, "plain.mp4", "plain2.mp4", true);
    cJSON *tree = parse_output(f);
    const cJSON *told = cJSON_GetObjectItem(tree, "run");
    assert_int_equal((int)number(told, "frames"), 41);
    assert_string_equal(cJSON_GetObjectItem(told, "prompt")->valuestring, "a road");
    assert_int_equal((int)number(cJSON_GetObjectItem(cJSON_GetObjectItem(told, "stage1"), "settings"), "steps"), 2);
    cJSON_Delete(tree);
    assert_int_equal(REFINE(f, "-o", "seed.mp4", "--refiner-seed", "7", "--fps", "8"), 0);
    assert_same(f, "shot.mp4", "seed.mp4", false);
    assert_int_equal(REFINE(f, "-o", "noise.mp4", "--noise", "frame", "--refiner-sigmas", "0.8,0.4"), 0);
    /* The saved prompt is what sanawm prompt makes. */
    char *model = absolute(f, tiny);
    write_place(f, "prompts.txt", "a road\r\n\n  two cars \n", 20);
    assert_int_equal(RUN(f, "prompt", "a road", "--model", model, "--threads", "1", "-o", "alone"), 0);
    assert_string_equal(f->out, "alone.safetensors\nalone.refiner.safetensors\n");
    assert_int_equal(RUN(f, "prompt", "--file", "prompts.txt", "--model", model, "--threads", "1"), 0);
    assert_holds(f->out, "prompt-2.refiner.safetensors");
    assert_same(f, "road", "alone.safetensors", true);
    assert_same(f, "road.refiner", "alone.refiner.safetensors", true);
    assert_same(f, "road.refiner", "prompt-1.refiner.safetensors", true);
    assert_same(f, "road.refiner", "prompt-2.refiner.safetensors", false);
    free(model);
}

/* The scratch of a stage in a plan or a sidecar. */
static double scratch_of(const cJSON *plan, const char *stage)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItem(plan, "stages"))
    {
        if (strcmp(cJSON_GetObjectItem(item, "stage")->valuestring, stage) == 0) return number(item, "scratch_bytes");
    }
    fail_msg("no stage %s", stage);
    return 0;
}

/* To the byte, in both modes; the texts' stages depend on their tokens. */
static void scratch_is_as_planned(void **state)
{
    fixture *f = *state;
    static const char *const stages[] = {"encode", "denoise", "refine", "decode"};
    static const char *const modes[] = {"one-shot", "blocks"};
    char *picture = absolute(f, scene), *model = absolute(f, tiny);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(RUN(f, "plan", "--model", model, "--size", "96x64", "--frames", "65", "--rate", "1", "--json",
                             "--refiner-mode", modes[i]),
                         0);
        cJSON *plan = parse_output(f);
        assert_int_equal(GENERATE(f, "--image", picture, "--action", "w-64", "--prompt", "x", "--fov", "60", "--steps",
                                  "2", "--quiet", "--json", "--refiner-mode", modes[i]),
                         0);
        cJSON *result = parse_output(f);
        const cJSON *scratch = cJSON_GetObjectItem(cJSON_GetObjectItem(result, "run"), "scratch_bytes");
        for (int k = 0; k < 4; k++)
            if (number(scratch, stages[k]) != scratch_of(plan, stages[k]))
                fail_msg("%s %s: %g planned, %g used", modes[i], stages[k], scratch_of(plan, stages[k]),
                         number(scratch, stages[k]));
        cJSON_Delete(result);
        cJSON_Delete(plan);
    }
    free(model);
    free(picture);
}

static void latents_that_are_none_are_refused(void **state)
{
    fixture *f = *state;
    char *picture = absolute(f, scene);
    assert_int_equal(REFINE(f, "-o", "x.mp4"), 1);
    assert_one_line(f, "clip.latents");
    write_place(f, "clip.latents", "hello", 5);
    assert_int_equal(REFINE(f, "-o", "x.mp4"), 1);
    assert_one_line(f, "clip.latents");
    assert_int_equal(GENERATE(f, "--image", picture, "--action", "w-8", "--prompt", "x", "--fov", "60", "--steps", "2",
                              "--quiet", "-o", "x.mp4", "--save-latents", "clip.latents"),
                     0);
    free(picture);
    char *toy = absolute(f, "models/toyworld");
    assert_int_equal(RUN(f, "refine", "clip.latents", "--model", toy), 1);
    assert_one_line(f, "has no refiner");
    assert_int_equal(RUN(f, "refine", "clip.latents", "--model", toy, "--no-refiner"), 1);
    assert_one_line(f, "is it for this model?");
    free(toy);
    /* Another number of frames in the poses, another version, a truncated file: one byte is enough. */
    size_t size;
    char *path = swm_path_join(NULL, f->place, "clip.latents"), *data = swm_file_read(path, 1 << 20, &size, NULL);
    assert_non_null(data);
    static const struct {
        const char *from, *to, *fragment;
    } edits[] = {
        {"\"version\":\"1\"", "\"version\":\"9\"", "version 9"},
        {"\"c2w\"", "\"c3w\"", "c2w is not there"},
        {"\\\"fps\\\":16", "\\\"fps\\\":-6", "fps"},
        {"sana-wm latents", "sana-wm potents", "holds no latents"},
        {"[16,2,2,3]", "[16,2,6,1]", "64 to 8192 pixels"}, /* too narrow for the decoder */
    };
    for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
        char *at = memmem(data, size, edits[i].from, strlen(edits[i].from));
        assert_non_null(at);
        memcpy(at, edits[i].to, strlen(edits[i].to));
        write_place(f, "clip.latents", data, size);
        assert_int_equal(REFINE(f, "-o", "x.mp4"), 1);
        assert_one_line(f, edits[i].fragment);
        memcpy(at, edits[i].from, strlen(edits[i].from));
    }
    write_place(f, "clip.latents", data, size - 1);
    assert_int_equal(REFINE(f, "-o", "x.mp4"), 1);
    assert_one_line(f, "clip.latents");
    free(data);
    free(path);
}

/* Under whatever name: what the run reads stays, and no result takes another's place. */
static void no_file_is_lost(void **state)
{
    fixture *f = *state;
    char *picture = absolute(f, scene);
    const char *const common[] = {"--image", picture, "--action", "w-8", "--prompt", "x",
                                  "--fov",   "60",    "--steps",  "2",   "--quiet"};
    enum { COMMON = sizeof common / sizeof common[0] };
    static const struct {
        const char *arguments[4], *fragment;
    } cases[] = {
        {{"-o", "a.mp4", "--save-latents", "./a.mp4"}, "a.mp4: two results"},
        {{"-o", "a.mp4", "--save-latents", "a.json"}, "a.json: two results"},
        {{"--save-latents", "a.l", "--save-refiner-prompt-embeddings", "a.l"}, "a.l: two results"},
        {{"-o", "a.mp4", "--save-stage1", "a.avi"}, "a.avi: --codec h264 writes .mp4 files"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *arguments[COMMON + 5] = {0};
        memcpy(arguments, common, sizeof common);
        memcpy(arguments + COMMON, cases[i].arguments, sizeof cases[i].arguments);
        assert_int_equal(generate(f, arguments, NULL), 1);
        assert_one_line(f, cases[i].fragment);
        assert_place_is_empty(f);
    }
    free(picture);
    write_place(f, "clip.latents", "hello", 5);
    assert_int_equal(REFINE(f, "-o", "./clip.latents"), 1);
    assert_one_line(f, "clip.latents: is read by this run");
    char *text = slurp(f, "clip.latents");
    assert_string_equal(text, "hello");
    free(text);
}

/* A link in the fixture's place to a file or directory of the tiny model. */
static void link_part(const fixture *f, const char *part, const char *name)
{
    char *place = swm_path_join(NULL, f->place, name), *model = absolute(f, tiny);
    char *target = swm_path_join(NULL, model, part);
    unlink(place);
    if (symlink(target, place) != 0) fail_msg("%s", place);
    free(target);
    free(model);
    free(place);
}

static void make_directory(const fixture *f, const char *name)
{
    swm_error error = {0};
    char *path = swm_path_join(NULL, f->place, name);
    if (swm_make_directories(path, &error) != 0) fail_msg("%s", error.text);
    free(path);
}

/* A copy of a text file of the tiny model in which one text stands for another. */
static void edit_part(const fixture *f, const char *part, const char *name, const char *from, const char *to)
{
    char *model = absolute(f, tiny), *source = swm_path_join(NULL, model, part);
    char *text = swm_file_read(source, 1 << 20, NULL, NULL), *at = text != NULL ? strstr(text, from) : NULL;
    if (at == NULL) fail_msg("%s: has no %s", source, from);
    char *edited = swm_format(NULL, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    write_place(f, name, edited, strlen(edited));
    free(edited);
    free(text);
    free(source);
    free(model);
}

static int try_refiner(fixture *f)
{
    char *picture = absolute(f, scene);
    const int status = RUN(f, "generate", "--size", "96x64", "--threads", "1", "--model", "model", "--image", picture,
                           "--action", "w-8", "--prompt", "x", "--fov", "60", "--steps", "2", "--quiet", "-o", "x.mp4");
    free(picture);
    return status;
}

static void assert_refiner_refused(fixture *f, const char *fragment)
{
    assert_int_equal(try_refiner(f), 1);
    assert_one_line(f, fragment);
    assert_holds(f->err, "--no-refiner");
}

/* From an empty directory to a whole refiner, then with parts of another. */
static void incomplete_refiners_say_what_is_missing(void **state)
{
    fixture *f = *state;
    static const char *const parts[] = {"config.yaml", "dit", "vae", "text_encoder"};
    make_directory(f, "model/refiner");
    for (int i = 0; i < 4; i++) {
        char *name = swm_path_join(NULL, "model", parts[i]);
        link_part(f, parts[i], name);
        free(name);
    }
    assert_refiner_refused(f, "holds no transformer/");
    make_directory(f, "model/refiner/transformer");
    assert_refiner_refused(f, "transformer: holds no config.json");
    link_part(f, "refiner/transformer/config.json", "model/refiner/transformer/config.json");
    assert_refiner_refused(f, "diffusion_pytorch_model.safetensors");
    link_part(f, "refiner/transformer/diffusion_pytorch_model.safetensors.index.json",
              "model/refiner/transformer/diffusion_pytorch_model.safetensors.index.json");
    assert_refiner_refused(f, "-of-00009.safetensors");
    for (int i = 1; i <= 9; i++) {
        char *shard = swm_format(NULL, "refiner/transformer/diffusion_pytorch_model-0000%d-of-00009.safetensors", i);
        char *place = swm_path_join(NULL, "model", shard);
        link_part(f, shard, place);
        free(place);
        free(shard);
    }
    /* A transformer alone can refine; it cannot read. */
    assert_refiner_refused(f, "holds no text_encoder/");
    make_directory(f, "model/refiner/text_encoder");
    assert_refiner_refused(f, "holds no connectors/");
    link_part(f, "refiner/connectors", "model/refiner/connectors");
    assert_refiner_refused(f, "neither tokenizer.json nor tokenizer.model");
    link_part(f, "refiner/text_encoder/tokenizer.model", "model/refiner/text_encoder/tokenizer.model");
    assert_refiner_refused(f, "text_encoder/config.json");
    link_part(f, "refiner/text_encoder/model.safetensors", "model/refiner/text_encoder/model.safetensors");
    link_part(f, "text_encoder/config.json", "model/refiner/text_encoder/config.json");
    assert_int_equal(try_refiner(f), 1);
    link_part(f, "refiner/text_encoder/config.json", "model/refiner/text_encoder/config.json");
    assert_int_equal(try_refiner(f), 0);
    /* Sizes that belong to other networks. */
    forget(f, "model/refiner/transformer/config.json");
    edit_part(f, "refiner/transformer/config.json", "model/refiner/transformer/config.json", "\"in_channels\": 16",
              "\"in_channels\": 32");
    assert_refiner_refused(f, "in_channels");
    forget(f, "model/refiner/transformer/config.json");
    edit_part(f, "refiner/transformer/config.json", "model/refiner/transformer/config.json", "\"num_layers\": 3",
              "\"num_layers\": 2");
    assert_refiner_refused(f, "num_layers");
    forget(f, "model/refiner/transformer/config.json");
    link_part(f, "refiner/transformer/config.json", "model/refiner/transformer/config.json");
    forget(f, "model/refiner/text_encoder/config.json");
    forget(f, "model/refiner/text_encoder/model.safetensors");
    link_part(f, "text_encoder/config.json", "model/refiner/text_encoder/config.json");
    link_part(f, "text_encoder/model.safetensors", "model/refiner/text_encoder/model.safetensors");
    assert_refiner_refused(f, "is Gemma 2");
}

/* The streaming release keeps its refiner, made for blocks, under other names. */
static void the_streaming_layout_refines_in_blocks(void **state)
{
    fixture *f = *state;
    static const char *const parts[][2] = {{"config.yaml", "model/config.yaml"},
                                           {"dit", "model/dit"},
                                           {"vae", "model/vae"},
                                           {"text_encoder", "model/text_encoder"},
                                           {"refiner/transformer", "model/refiner_diffusers/transformer"},
                                           {"refiner/connectors", "model/refiner_diffusers/connectors"},
                                           {"refiner/text_encoder", "model/gemma3_12b"}};
    make_directory(f, "model/refiner_diffusers");
    for (int i = 0; i < 7; i++) link_part(f, parts[i][0], parts[i][1]);
    assert_int_equal(try_refiner(f), 0);
    char *text = slurp(f, "x.json");
    assert_holds(text, "\"mode\":\"blocks\",\"block\":3");
    free(text);
    assert_int_equal(RUN(f, "info", "model"), 0);
    assert_holds(f->out, "256,144 of 451,768 parameters read, 3 blocks of width 64, blocks");
}

/* A pair for one layer, with and without strength. */
static void adapters_are_merged(void **state)
{
    fixture *f = *state;
    swm_error error = {0};
    float a[64], b[64];
    for (int i = 0; i < 64; i++) a[i] = b[i] = (float)(i % 7 - 3) / 3;
    const char *const names[] = {"diffusion_model.transformer_blocks.0.attn1.to_v.lora_A.weight",
                                 "diffusion_model.transformer_blocks.0.attn1.to_v.lora_B.weight"};
    const swm_tensor pair[] = {SWM_TENSOR(SWM_F32, a, 1, 64), SWM_TENSOR(SWM_F32, b, 64, 1)};
    char *path = swm_path_join(NULL, f->place, "one:2.safetensors"), *picture = absolute(f, scene);
    if (swm_safetensors_save(path, 2, names, pair, NULL, &error) != 0) fail_msg("%s", error.text);
    free(path);
    assert_int_equal(GENERATE(f, "--image", picture, "--action", "w-16", "--prompt", "x", "--fov", "60", "--steps", "2",
                              "--quiet", "-o", "base.mp4", "--save-latents", "clip.latents"),
                     0);
    free(picture);
    assert_int_equal(REFINE(f, "-o", "whole.mp4", "--refiner-lora", "one:2.safetensors"), 0);
    assert_int_equal(REFINE(f, "-o", "half.mp4", "--refiner-lora", "one:2.safetensors:0.5"), 0);
    assert_int_equal(REFINE(f, "-o", "none.mp4", "--refiner-lora", "one:2.safetensors:0"), 0);
    assert_same(f, "base.mp4", "none.mp4", true);
    assert_same(f, "base.mp4", "half.mp4", false);
    assert_same(f, "half.mp4", "whole.mp4", false);
    assert_int_equal(REFINE(f, "-o", "x.mp4", "--refiner-lora", "clip.latents:1"), 1);
    assert_one_line(f, "clip.latents");
}

int test_cli_refiner(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(refining_later_is_the_same),
        TEST(scratch_is_as_planned),
        TEST(latents_that_are_none_are_refused),
        TEST(no_file_is_lost),
        TEST(incomplete_refiners_say_what_is_missing),
        TEST(the_streaming_layout_refines_in_blocks),
        TEST(adapters_are_merged),
    };
#undef TEST
    return cmocka_run_group_tests_name("cli_refiner", tests, NULL, NULL);
}
