/* sanawm bench as its users meet it: every mode on a tiny model, wrong usage, and the file that collects results. */
#include "cli_fixture.h"
#include "core/backend.h"

int test_bench(void);

/* Good until the next call. */
static const char *tiny_model(const fixture *f)
{
    static char path[PATH_MAX + sizeof tiny];
    snprintf(path, sizeof path, "%s/%s", f->root, tiny);
    return path;
}

/* The exit status of sanawm bench with further arguments, on one thread of the CPU. */
static int bench(fixture *f, const char *const *more)
{
    const char *arguments[MOST_ARGUMENTS + 1] = {"bench", "--device", "cpu", "--threads", "1"};
    for (int i = 0; more[i] != NULL; i++) {
        assert_true(5 + i < MOST_ARGUMENTS);
        arguments[5 + i] = more[i];
    }
    return run(f, arguments);
}
#define BENCH(f, ...) bench(f, (const char *const[]){__VA_ARGS__, NULL})

static const char *text(const cJSON *object, const char *key)
{
    const char *value = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));
    assert_non_null(value);
    return value;
}

/* Those of a kind, and of a name that begins so. */
static int count_rows(const cJSON *rows, const char *kind, const char *name)
{
    int count = 0;
    const cJSON *row;
    cJSON_ArrayForEach(row, rows) count +=
        strcmp(text(row, "kind"), kind) == 0 && strncmp(text(row, "name"), name, strlen(name)) == 0;
    return count;
}

#define EVERY_STAGE "prompt,encode,denoise,denoise_chunk,refiner_prompt,refine,refine_block,decode"

/* ---- tests -------------------------------------------------------------------------------------------------------- */

static void wrong_usage_names_the_fix(void **state)
{
    fixture *f = *state;
    const struct {
        const char *arguments[8], *fragment;
    } cases[] = {
        {{"--stage", "denoize"}, "no stage \"denoize\""},
        {{"--stage", "denoise,"}, "no stage \"\""},
        {{"--model", "x", "--release"}, "pass one of them"},
        {{"--clip", "long"}, "--clip is \"long\""},
        {{"--clip", "0s"}, "--clip is \"0s\""},
        {{"--clip", "4s", "--start", "x"}, "exclude each other"},
        {{"--matrix-rate", "0"}, "number from"},
        {{"--dit-type", "f16"}, "f32|bf16"},
        {{"--repeat", "0"}, "from 1 to"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(bench(f, cases[i].arguments), 2);
        assert_holds(f->err, cases[i].fragment);
        assert_string_equal(f->out, "");
    }
    assert_int_equal(BENCH(f, "--model", tiny_model(f), "--frames", "1", "--stage", "refine"), 1);
    assert_holds(f->err, "--frames 9 or more");
    assert_int_equal(BENCH(f, "--model", tiny_model(f), "--frames", "9", "--stage", "denoise_chunk"), 1);
    assert_holds(f->err, "--frames 17 or more");
    /* Before anything is measured. */
    assert_int_equal(BENCH(f, "--stage", "encode", "--csv", "nowhere/all.csv"), 1);
    assert_one_line(f, "nowhere/all.csv");
    assert_int_equal(BENCH(f, "--start", "nowhere"), 1);
    assert_holds(f->err, "nowhere");
    assert_int_equal(BENCH(f, "--model", tiny_model(f), "--vram-budget", "12G", "--stage", "encode"), 1);
    assert_holds(f->err, "budget");
}

static void every_stage_is_timed_op_by_op(void **state)
{
    fixture *f = *state;
    assert_int_equal(BENCH(f, "--model", tiny_model(f), "--stage", EVERY_STAGE, "--repeat", "1", "--ops", "--json",
                           "--matrix-rate", "0.1", "--attention-rate", "0.05", "--bandwidth", "20", "--prompt-tokens",
                           "5"),
                     0);
    cJSON *tree = parse_output(f);
    const cJSON *rows = cJSON_GetObjectItemCaseSensitive(tree, "rows"), *row, *part;
    assert_true(fabs(number(tree, "matrix_flops") / 0.1e12 - 1) < 1e-9);
    assert_int_equal(count_rows(rows, "stage", ""), 8);
    cJSON_ArrayForEach(row, rows)
    {
        if (strcmp(text(row, "kind"), "stage") != 0) continue;
        double flops = 0, bytes = 0;
        char prefix[64];
        const size_t length = (size_t)snprintf(prefix, sizeof prefix, "%s: ", text(row, "name"));
        cJSON_ArrayForEach(part, rows) if (strncmp(text(part, "name"), prefix, length) == 0)
        {
            flops += number(part, "flops");
            bytes += number(part, "bytes_moved");
        }
        /* What the plan counted is what ran. */
        assert_true(number(row, "seconds") > 0 && number(row, "flops") > 0 && number(row, "weights_bytes") > 0);
        assert_true(number(row, "scratch_bytes") > 0 && number(row, "floor_seconds") > 0);
        assert_true(fabs(flops / number(row, "flops") - 1) < 1e-9);
        assert_true(fabs(bytes / number(row, "bytes_moved") - 1) < 1e-9);
        assert_true(number(row, "floor_seconds") * 20e9 >= 0.999 * bytes);
    }
    assert_true(count_rows(rows, "op", "denoise: linear ") > 3);
    assert_true(count_rows(rows, "op", "refine: attend ") >= 2);
    cJSON_Delete(tree);
}

static void results_gather_in_a_file(void **state)
{
    fixture *f = *state;
    for (int i = 0; i < 2; i++)
        assert_int_equal(BENCH(f, "--model", tiny_model(f), "--stage", "encode", "--repeat", "1", "--csv", "all.csv"),
                         0);
    assert_holds(f->out, "encode");
    assert_holds(f->out, "measured now");
    char *csv = slurp(f, "all.csv");
    int lines = 0;
    for (const char *at = csv; (at = strchr(at, '\n')) != NULL; at++) lines++;
    assert_int_equal(lines, 3);
    assert_ptr_equal(strstr(csv, "date,device,commit,command,"), csv);
    assert_holds(csv, ",stage,\"encode\",33,96x64,1,");
    free(csv);
    swm_error error = {0};
    char *path = swm_path_join(NULL, f->place, "other.csv");
    assert_int_equal(swm_file_write(path, "a,b\n1,2\n", 8, &error), 0);
    free(path);
    assert_int_equal(BENCH(f, "--model", tiny_model(f), "--stage", "encode", "--repeat", "1", "--csv", "other.csv"), 1);
    assert_holds(f->err, "other columns");
}

static void a_clip_has_a_budget(void **state)
{
    fixture *f = *state;
    assert_int_equal(BENCH(f, "--model", tiny_model(f), "--clip", "1s", "--repeat", "1", "--json", "--stage",
                           "encode,denoise,refine_block,decode"),
                     0);
    cJSON *tree = parse_output(f);
    const cJSON *rows = cJSON_GetObjectItemCaseSensitive(tree, "rows"), *row;
    double sum = 0, total = 0;
    cJSON_ArrayForEach(row, rows)
    {
        const double whole = number(row, "calls") * number(row, "seconds") + number(row, "setup_seconds");
        *(strcmp(text(row, "name"), "total") == 0 ? &total : &sum) += whole;
        if (strcmp(text(row, "name"), "denoise") == 0) assert_true(number(row, "calls") == 120);
        if (strcmp(text(row, "name"), "refine_block") == 0) assert_true(number(row, "calls") == 1);
    }
    assert_int_equal(count_rows(rows, "clip", ""), 7);
    assert_true(total > 0 && fabs(sum / total - 1) < 1e-9);
    cJSON_Delete(tree);
}

static void a_written_model_starts(void **state)
{
    fixture *f = *state;
    assert_int_equal(BENCH(f, "--model", tiny_model(f), "--write-model", "model", "--dit-type", "bf16"), 0);
    assert_int_equal(BENCH(f, "--start", "model", "--size", "64x64", "--frames", "9", "--json"), 0);
    cJSON *tree = parse_output(f);
    const cJSON *rows = cJSON_GetObjectItemCaseSensitive(tree, "rows"), *row;
    double before = 0;
    assert_int_equal(count_rows(rows, "start", ""), 7);
    assert_int_equal(count_rows(rows, "start", "first sampler step done"), 1);
    cJSON_ArrayForEach(row, rows)
    {
        assert_true(number(row, "seconds") >= before - 0.02); /* the kernel's clock has steps */
        before = number(row, "seconds");
    }
    cJSON_Delete(tree);
    assert_int_equal(BENCH(f, "--model", tiny_model(f), "--write-model", "model"), 1);
    assert_holds(f->err, "is there already");
}

static void two_sides_take_turns(void **state)
{
    fixture *f = *state;
    assert_int_equal(BENCH(f, "--model", tiny_model(f), "--stage", "denoise,encode", "--repeat", "2", "--json",
                           "--with=--frames 9 --size 64x64"),
                     0);
    cJSON *tree = parse_output(f);
    const cJSON *rows = cJSON_GetObjectItemCaseSensitive(tree, "rows");
    assert_int_equal(count_rows(rows, "a", "") + count_rows(rows, "b", ""), 4);
    assert_int_equal(count_rows(rows, "b", "denoise"), 1);
    cJSON_Delete(tree);
    assert_int_equal(BENCH(f, "--model", tiny_model(f), "--stage", "encode", "--repeat", "1", "--against", f->program),
                     0);
    assert_holds(f->out, "A / B");
    assert_int_equal(BENCH(f, "--model", tiny_model(f), "--stage", "encode", "--against", "/bin/true"), 1);
    assert_holds(f->err, "B does not answer");
    assert_int_equal(BENCH(f, "--model", tiny_model(f), "--stage", "encode", "--with=--frames none"), 1);
    assert_holds(f->err, "B does not answer");
}

/* Under a watched backend every op is seen once, with its count of work still to come. */
typedef struct seen {
    int count;
    char names[64];
} seen;

static void see(void *user, swm_backend *b, const char *op, const swm_tensor operands[3])
{
    seen *s = user;
    assert_int_equal(b->work.operations, s->count < 2 ? 0 : s->count - 2);
    assert_true(swm_present(operands[0]));
    strcat(strcat(s->names, op), " ");
    s->count++;
}

static void an_observer_sees_every_op(void **state)
{
    (void)state;
    swm_error error = {0};
    swm_backend *b = swm_backend_open_cpu(1, &error);
    assert_non_null(b);
    assert_int_equal(swm_backend_reserve(b, 1 << 16, &error), 0);
    seen s = {0};
    float values[16] = {1};
    b->observe = see;
    b->observer = &s;
    swm_tensor x = SWM_UPLOAD(b, SWM_F32, values, 4, 4), w = SWM_UPLOAD(b, SWM_F32, values, 4, 4);
    swm_backend_stamp(b, 0);
    swm_tensor y = swm_linear(b, x, w, (swm_tensor){0}, SWM_IDENTITY);
    swm_add(b, y, x);
    swm_backend_stamp(b, 1);
    swm_download(b, values, y);
    assert_string_equal(s.names, "upload upload linear_to add download ");
    assert_true(swm_backend_between(b, 0, 1) >= 0);
    assert_true(strlen(swm_backend_device(b).name) > 0);
    swm_backend_close(b);
}

int test_bench(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_observer_sees_every_op),
        cmocka_unit_test_setup_teardown(wrong_usage_names_the_fix, setup, teardown),
        cmocka_unit_test_setup_teardown(every_stage_is_timed_op_by_op, setup, teardown),
        cmocka_unit_test_setup_teardown(results_gather_in_a_file, setup, teardown),
        cmocka_unit_test_setup_teardown(a_clip_has_a_budget, setup, teardown),
        cmocka_unit_test_setup_teardown(a_written_model_starts, setup, teardown),
        cmocka_unit_test_setup_teardown(two_sides_take_turns, setup, teardown),
    };
    return cmocka_run_group_tests_name("bench", tests, NULL, NULL);
}
