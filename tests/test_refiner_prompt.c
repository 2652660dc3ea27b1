/* Prompts of the second stage on the small model: ids of the golden, batches, cuts, plans, files and their malformed kin. */
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

#include "core/file.h"
#include "io/safetensors.h"
#include "place.h"
#include "text/refiner_prompt.h"

#define TINY "tests/golden/tiny_random_model/refiner/"

int test_refiner_prompt(void);

enum { SLOTS = 32, WIDTH = 48, STATES = 8 };
static const char golden_prompt[] = "a wide salt flat at dusk, a black car";

typedef struct tiny {
    swm_weights *gemma_weights, *connectors_weights;
    swm_gemma gemma;
    swm_connectors *connectors;
    swm_tokenizer *tokenizer;
    swm_refiner_encoder encoder;
    swm_backend *backend;
} tiny;

static int open_tiny(void **state)
{
    swm_error error = {0};
    swm_gemma_config gemma;
    swm_connectors_config connectors;
    tiny *t = calloc(1, sizeof *t);
    if (t == NULL) return -1;
    *state = t;
    t->gemma_weights = swm_weights_open(TINY "text_encoder", &error);
    t->connectors_weights = swm_weights_open(TINY "connectors", &error);
    t->tokenizer = swm_tokenizer_open(TINY "text_encoder", &error);
    if (t->gemma_weights == NULL || t->connectors_weights == NULL || t->tokenizer == NULL ||
        swm_gemma_config_read(&gemma, TINY "text_encoder/config.json", &error) != 0 ||
        swm_connectors_config_read(&connectors, TINY "connectors", &error) != 0 ||
        swm_gemma_bind(&t->gemma, t->gemma_weights, &gemma, false, &error) != 0)
        fail_msg("%s", error.text);
    t->connectors = swm_connectors_bind(t->connectors_weights, &connectors, &error);
    t->backend = swm_backend_open_cpu(2, &error);
    if (t->connectors == NULL || t->backend == NULL) fail_msg("%s", error.text);
    t->encoder = (swm_refiner_encoder){&t->gemma, t->tokenizer, t->connectors, SLOTS};
    return 0;
}

static int close_tiny(void **state)
{
    tiny *t = *state;
    swm_backend_close(t->backend);
    swm_tokenizer_close(t->tokenizer);
    free(t->connectors);
    swm_gemma_free(&t->gemma);
    swm_weights_close(t->connectors_weights);
    swm_weights_close(t->gemma_weights);
    free(t);
    return 0;
}

static void check_fails(int result, const swm_error *error, const char *part)
{
    assert_int_equal(result, -1);
    if (strstr(error->text, part) == NULL) fail_msg("\"%s\" where \"%s\" was expected", error->text, part);
}

static size_t planned_peak(const tiny *t, const char *const *texts, int64_t count)
{
    swm_error error = {0};
    swm_backend *plan = swm_backend_open_plan(SWM_F32, &error);
    swm_refiner_prompt prompts[8];
    assert_non_null(plan);
    assert_int_equal(swm_refiner_prompt_encode(prompts, &t->encoder, plan, texts, count, &error), 0);
    for (int64_t i = 0; i < count; i++) {
        for (int64_t k = 0; k < SLOTS * WIDTH; k++) assert_true(prompts[i].states[k] == 0.0f);
        swm_refiner_prompt_free(&prompts[i]);
    }
    size_t peak = plan->scratch.peak;
    swm_backend_close(plan);
    return peak;
}

static void encode(tiny *t, swm_refiner_prompt *prompts, const char *const *texts, int64_t count)
{
    swm_error error = {0};
    size_t peak = planned_peak(t, texts, count);
    if (swm_backend_reserve(t->backend, peak, &error) != 0 ||
        swm_refiner_prompt_encode(prompts, &t->encoder, t->backend, texts, count, &error) != 0)
        fail_msg("%s", error.text);
    assert_int_equal(t->backend->scratch.peak, peak);
    assert_int_equal(t->backend->scratch.used, 0);
}

/* ---- encoding ---------------------------------------------------------------------------------------------------- */

static void ids_match_golden(void **state)
{
    tiny *t = *state;
    swm_error error = {0};
    swm_safetensors *golden = swm_safetensors_open("tests/golden/pipeline.safetensors", &error);
    const swm_tensor *want = golden != NULL ? swm_safetensors_find(golden, "act.refiner_ids") : NULL;
    assert_non_null(want);
    assert_int_equal(swm_count(*want), SLOTS);
    int64_t count, dropped;
    int32_t *ids = swm_refiner_prompt_tokens(&t->encoder, "\n a wide salt flat at dusk, a black car\u3000", &count,
                                             &dropped, &error);
    if (ids == NULL) fail_msg("%s", error.text);
    assert_int_equal(dropped, 0);
    for (int64_t i = 0; i < SLOTS; i++) {
        int64_t place = i - (SLOTS - count);
        assert_int_equal(place < 0 ? 0 : ids[place], ((const int64_t *)want->data)[i]);
    }
    free(ids);
    swm_safetensors_close(golden);
}

/* A prompt's states are the encoder's and the connectors', with the text at the end of the slots. */
static void parts_make_the_whole(void **state)
{
    tiny *t = *state;
    swm_error error = {0};
    swm_refiner_prompt prompt;
    encode(t, &prompt, (const char *const[]){golden_prompt}, 1);
    assert_string_equal(prompt.text, golden_prompt);
    assert_true(prompt.slots == SLOTS && prompt.width == WIDTH && prompt.dropped == 0);
    int64_t count, dropped;
    int32_t *ids = swm_refiner_prompt_tokens(&t->encoder, golden_prompt, &count, &dropped, &error);
    assert_non_null(ids);
    swm_backend *b = t->backend;
    swm_tensor states = SWM_TAKE(b, SWM_F32, STATES, count, WIDTH);
    swm_mark mark = swm_mark_of(b);
    swm_gemma_forward(b, &t->gemma, ids, count, SLOTS - count, &states);
    swm_release(b, mark);
    swm_tensor out = swm_connectors_forward(b, t->connectors, states, SLOTS);
    assert_memory_equal(out.data, prompt.states, SLOTS * WIDTH * sizeof(float));
    swm_release(b, 0);
    free(ids);
    swm_refiner_prompt_free(&prompt);
    assert_null(prompt.states);
}

static void batch_equals_singles(void **state)
{
    tiny *t = *state;
    static const char *const texts[] = {golden_prompt, "x", "two  spaces\n\nand a car \xf0\x9f\x99\x82"};
    swm_refiner_prompt batch[3], single;
    encode(t, batch, texts, 3);
    for (int i = 0; i < 3; i++) {
        encode(t, &single, &texts[i], 1);
        assert_string_equal(batch[i].text, texts[i]);
        assert_memory_equal(batch[i].states, single.states, SLOTS * WIDTH * sizeof(float));
        swm_refiner_prompt_free(&single);
    }
    for (int i = 0; i < 3; i++) swm_refiner_prompt_free(&batch[i]);
}

static void long_prompts_are_cut(void **state)
{
    tiny *t = *state;
    static const char text[] =
        "a wide salt flat at dusk, a black car, a wide salt flat at dusk, a black car, a black car";
    swm_error error = {0};
    int64_t all, count, dropped;
    t->encoder.slots = 1000;
    int32_t *whole = swm_refiner_prompt_tokens(&t->encoder, text, &all, &dropped, &error);
    assert_non_null(whole);
    assert_true(all > SLOTS);
    t->encoder.slots = SLOTS;
    int32_t *cut = swm_refiner_prompt_tokens(&t->encoder, text, &count, &dropped, &error);
    assert_non_null(cut);
    assert_int_equal(count, SLOTS);
    assert_int_equal(dropped, all - SLOTS);
    assert_memory_equal(cut, whole, SLOTS * sizeof *cut);
    assert_int_equal(cut[0], 2);
    free(cut);
    free(whole);
    swm_refiner_prompt prompt;
    encode(t, &prompt, (const char *const[]){text}, 1);
    assert_int_equal(prompt.dropped, all - SLOTS);
    for (int i = 0; i < SLOTS * WIDTH; i++) assert_true(isfinite(prompt.states[i]));
    swm_refiner_prompt_free(&prompt);
}

/* What a plan knows without a tokenizer is what encoding takes. */
static void forward_can_be_planned(void **state)
{
    tiny *t = *state;
    static const char *const texts[] = {golden_prompt, "x"};
    swm_error error = {0};
    int64_t tokens[2], dropped;
    for (int i = 0; i < 2; i++) free(swm_refiner_prompt_tokens(&t->encoder, texts[i], &tokens[i], &dropped, &error));
    size_t peak = planned_peak(t, texts, 2);
    t->encoder.tokenizer = NULL;
    swm_backend *plan = swm_backend_open_plan(SWM_F32, &error);
    assert_non_null(plan);
    swm_refiner_prompt_forward(plan, &t->encoder, NULL, tokens, NULL, 2);
    assert_int_equal(plan->scratch.peak, peak);
    assert_int_equal(plan->scratch.used, 0);
    swm_backend_close(plan);
}

static bool always(void *user)
{
    (void)user;
    return true;
}

static void refuse(tiny *t, const char *text, const char *part)
{
    swm_error error = {0};
    swm_refiner_prompt prompts[2];
    const char *const texts[] = {"a car", text};
    check_fails(swm_refiner_prompt_encode(prompts, &t->encoder, t->backend, texts, 2, &error), &error, part);
    for (int i = 0; i < 2; i++) assert_true(prompts[i].text == NULL && prompts[i].states == NULL);
    assert_int_equal(t->backend->scratch.used, 0);
}

static void encode_refuses(void **state)
{
    tiny *t = *state;
    swm_error error = {0};
    static const char *const texts[] = {"a car", "a car"};
    assert_int_equal(swm_backend_reserve(t->backend, planned_peak(t, texts, 2), &error), 0);
    refuse(t, " \t\n\xc2\xa0", "prompt: is empty");
    refuse(t, "caf\xe9", "prompt: byte 3 (0xe9)");
    t->backend->interrupted = always;
    refuse(t, "a car", "interrupted");
    t->backend->interrupted = NULL;
    t->gemma.config.vocab_size = 300;
    refuse(t, golden_prompt, "outside the 300 tokens");
    t->gemma.config.vocab_size = 420;
    t->connectors->config.layers = 9;
    refuse(t, "a car", "take 9 states of 48 channels, the text encoder makes 8 of 48");
    t->connectors->config.layers = 8;
    t->gemma.config.generation = 2;
    refuse(t, "a car", "is a Gemma 2");
    t->gemma.config.generation = 3;
}

static void fingerprint_covers_both(void **state)
{
    tiny *t = *state;
    swm_error error = {0};
    char text[SWM_REFINER_FINGERPRINT], gemma[SWM_GEMMA_FINGERPRINT], connectors[65];
    assert_int_equal(swm_refiner_encoder_fingerprint(&t->gemma, t->gemma_weights, t->connectors_weights, text, &error),
                     0);
    assert_int_equal(swm_gemma_fingerprint(&t->gemma, t->gemma_weights, gemma, &error), 0);
    assert_int_equal(swm_weights_fingerprint(t->connectors_weights, connectors, &error), 0);
    assert_int_equal(strlen(text), 129);
    assert_memory_equal(text, gemma, 64);
    assert_string_equal(text + 65, connectors);
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

static const char *temporary_file(void) { return place_path("prompt.safetensors"); }

static void states_survive_a_file(void **state)
{
    (void)state;
    static float values[] = {1, -2.5f, 3, 1e-30f, 5, -6};
    static char text[] = "a \"car\"\n\u4e16\u754c";
    const swm_refiner_prompt prompt = {.text = text, .slots = 3, .width = 2, .dropped = 7, .states = values};
    const char *path = temporary_file();
    swm_error error = {0};
    swm_refiner_prompt loaded;
    assert_int_equal(swm_refiner_prompt_save(path, &prompt, "abc", &error), 0);
    for (int any = 0; any < 2; any++) {
        if (swm_refiner_prompt_load(&loaded, path, any ? 0 : 3, any ? 0 : 2, &error) != 0) fail_msg("%s", error.text);
        assert_string_equal(loaded.text, text);
        assert_true(loaded.slots == 3 && loaded.width == 2 && loaded.dropped == 0);
        assert_memory_equal(loaded.states, values, sizeof values);
        swm_refiner_prompt_free(&loaded);
    }
    check_fails(swm_refiner_prompt_load(&loaded, path, 4, 2, &error), &error, "is (3,2), expected (4,2)");
    assert_null(loaded.text);
    error = (swm_error){0};
    check_fails(swm_refiner_prompt_load(&loaded, path, 0, 3, &error), &error, "is (3,2), expected (3,3)");
    size_t size = 0;
    error = (swm_error){0};
    char *data = swm_file_read(path, 1 << 20, &size, &error);
    unlink(path);
    assert_non_null(data);
    for (size_t i = 0; i < size; i++) {
        error = (swm_error){0};
        check_fails(swm_refiner_prompt_load_memory(&loaded, data, i, "memory", 0, 0, &error), &error, "memory: ");
    }
    error = (swm_error){0};
    assert_int_equal(swm_refiner_prompt_load_memory(&loaded, data, size, "memory", 3, 2, &error), 0);
    swm_refiner_prompt_free(&loaded);
    free(data);
    error = (swm_error){0};
    check_fails(swm_refiner_prompt_load(&loaded, path, 0, 0, &error), &error, path);
}

static void files_are_validated(void **state)
{
    (void)state;
    static float values[6], infinite[6] = {0, INFINITY};
    static const char *const fields[] = {"format", "version", "prompt", "encoder"};
    static const char *const contents[] = {"sana-wm refiner prompt states", "1", "a car", "abc"};
    /* The tensor, its name or one metadata value is replaced; NULL leaves a value away. */
    const struct {
        const char *name;
        swm_tensor value;
        int field;
        const char *content, *part;
    } cases[] = {
        {"states", SWM_TENSOR(SWM_F32, values, 3, 2), -1, NULL, NULL},
        {"states", SWM_TENSOR(SWM_F32, values, 3, 2), 0, NULL, "no metadata \"format\""},
        {"states", SWM_TENSOR(SWM_F32, values, 3, 2), 0, "sana-wm prompt states", "has the format"},
        {"states", SWM_TENSOR(SWM_F32, values, 3, 2), 1, "2", "has version \"2\""},
        {"states", SWM_TENSOR(SWM_F32, values, 3, 2), 2, NULL, "no metadata \"prompt\""},
        {"states", SWM_TENSOR(SWM_F32, values, 3, 2), 3, NULL, "no metadata \"encoder\""},
        {"other", SWM_TENSOR(SWM_F32, values, 3, 2), -1, NULL, "lacks the tensor states"},
        {"states", SWM_TENSOR(SWM_I32, values, 3, 2), -1, NULL, "states is I32"},
        {"states", SWM_TENSOR(SWM_F32, values, 6), -1, NULL, "expected F32 of rank 2"},
        {"states", SWM_TENSOR(SWM_F32, values, 0, 2), -1, NULL, "is (0,2), expected (1,2)"},
        {"states", SWM_TENSOR(SWM_F32, infinite, 3, 2), -1, NULL, "states holds inf at element 1"},
    };
    const char *path = temporary_file();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *metadata[9];
        int words = 0;
        for (int j = 0; j < 4; j++) {
            const char *content = j == cases[i].field ? cases[i].content : contents[j];
            if (content == NULL) continue;
            metadata[words++] = fields[j];
            metadata[words++] = content;
        }
        metadata[words] = NULL;
        swm_error error = {0};
        if (swm_safetensors_save(path, 1, &cases[i].name, &cases[i].value, metadata, &error) != 0)
            fail_msg("%s", error.text);
        swm_refiner_prompt prompt;
        int result = swm_refiner_prompt_load(&prompt, path, 0, 0, &error);
        if (cases[i].part != NULL) {
            check_fails(result, &error, cases[i].part);
            assert_true(prompt.text == NULL && prompt.states == NULL);
        } else if (result != 0) {
            fail_msg("%s", error.text);
        }
        swm_refiner_prompt_free(&prompt);
    }
    unlink(path);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_tiny, close_tiny)

int test_refiner_prompt(void)
{
    const struct CMUnitTest tests[] = {
        TEST(ids_match_golden),
        TEST(parts_make_the_whole),
        TEST(batch_equals_singles),
        TEST(long_prompts_are_cut),
        TEST(forward_can_be_planned),
        TEST(encode_refuses),
        TEST(fingerprint_covers_both),
        cmocka_unit_test(states_survive_a_file),
        cmocka_unit_test(files_are_validated),
    };
    return cmocka_run_group_tests_name("refiner_prompt", tests, place_open, place_close);
}
