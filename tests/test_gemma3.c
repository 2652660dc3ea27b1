/* The text encoder of the second stage: all hidden states against the golden, positions behind padding, the window, names
 * in other spellings, plan against run. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "checkpoint.h"
#include "io/safetensors.h"
#include "ops.h"
#include "text/gemma.h"
#include "tolerance.h"

#define TINY "tests/golden/tiny_random_model/refiner/text_encoder"

int test_gemma3(void);

enum { SLOTS = 32, WIDTH = 48, LAYERS = 7, STATES = LAYERS + 1, WINDOW = 8 };

typedef struct fixture {
    swm_safetensors *golden;
    swm_gemma_config config;
    swm_weights *weights;
    swm_gemma gemma;
    int32_t ids[SLOTS];
    int64_t first, tokens;
} fixture;

static const swm_tensor *golden_tensor(const fixture *f, const char *name)
{
    const swm_tensor *t = swm_safetensors_find(f->golden, name);
    if (t == NULL) fail_msg("no golden %s", name);
    return t;
}

/* The golden was made with the sizes of the tiny model, but for the vocabulary. */
static int open_fixture(void **state)
{
    swm_error error = {0};
    fixture *f = calloc(1, sizeof *f);
    if (f == NULL) return -1;
    *state = f;
    f->golden = swm_safetensors_open("tests/golden/gemma3.safetensors", &error);
    f->weights = swm_weights_open_prefixed("tests/golden/gemma3.safetensors", "weight.", &error);
    if (f->golden == NULL || f->weights == NULL || swm_gemma_config_read(&f->config, TINY "/config.json", &error) != 0)
        fail_msg("%s", error.text);
    f->config.vocab_size = 320;
    if (swm_gemma_bind(&f->gemma, f->weights, &f->config, false, &error) != 0) fail_msg("%s", error.text);
    const int64_t *ids = golden_tensor(f, "in.ids")->data, *mask = golden_tensor(f, "in.mask")->data;
    while (mask[f->first] == 0) f->first++;
    f->tokens = SLOTS - f->first;
    for (int64_t i = 0; i < f->tokens; i++) f->ids[i] = (int32_t)ids[f->first + i];
    return 0;
}

static int close_fixture(void **state)
{
    fixture *f = *state;
    swm_gemma_free(&f->gemma);
    swm_weights_close(f->weights);
    swm_safetensors_close(f->golden);
    free(f);
    return 0;
}

/* The result and, with `states`, all states: what a forward leaves in the arena. */
static swm_tensor forward(swm_backend *b, const swm_gemma *gemma, const int32_t *ids, int64_t count, int64_t first,
                          swm_tensor *states)
{
    if (states != NULL) *states = SWM_TAKE(b, b->compute, STATES, count, WIDTH);
    return swm_gemma_forward(b, gemma, ids, count, first, states);
}

static size_t planned_peak(const swm_gemma *gemma, int64_t count, swm_work *work)
{
    swm_backend *plan = swm_backend_open_plan(SWM_F32, NULL);
    assert_non_null(plan);
    swm_tensor states;
    forward(plan, gemma, NULL, count, SLOTS - count, &states);
    size_t peak = plan->scratch.peak;
    if (work != NULL) *work = plan->work;
    swm_backend_close(plan);
    return peak;
}

/* All states of the fixture's tokens with the first one at `first`, in fresh memory. */
static float *states_of(const swm_gemma *gemma, const int32_t *ids, int64_t count, int64_t first)
{
    swm_backend *b = ops_open_cpu(2, planned_peak(gemma, count, NULL));
    swm_tensor states, last = forward(b, gemma, ids, count, first, &states);
    float *values = calloc((size_t)swm_count(states), sizeof *values);
    assert_non_null(values);
    swm_download(b, values, states);
    /* What is returned is the last of them. */
    assert_memory_equal(swm_floats(last), values + LAYERS * count * WIDTH, swm_bytes(last));
    swm_error error = {0};
    assert_int_equal(swm_backend_check(b, &error), 0);
    swm_backend_close(b);
    return values;
}

static void states_match_golden(void **state)
{
    fixture *f = *state;
    float *states = states_of(&f->gemma, f->ids, f->tokens, f->first);
    const float *golden = swm_floats(*golden_tensor(f, "out.hidden_states")); /* (1,slots,width,states) */
    int64_t size = f->tokens * WIDTH;
    float want[SLOTS * WIDTH];
    for (int layer = 0; layer < STATES; layer++) {
        for (int64_t i = 0; i < size; i++) want[i] = golden[(f->first * WIDTH + i) * STATES + layer];
        double distance = swm_distance_of(states + layer * size, want, size).relative;
        if (!(distance <= 1e-5)) fail_msg("states %d: relative distance %.3g", layer, distance);
    }
    free(states);
}

/* Rotation is relative: where a text begins moves angles, and so roundings, but not what they mean. */
static void padding_only_shifts(void **state)
{
    fixture *f = *state;
    float *start = states_of(&f->gemma, f->ids, f->tokens, 0);
    static const int64_t shifts[] = {1, 13, 1000};
    for (size_t i = 0; i < sizeof shifts / sizeof *shifts; i++) {
        float *shifted = states_of(&f->gemma, f->ids, f->tokens, shifts[i]);
        int64_t count = STATES * f->tokens * WIDTH;
        double distance = swm_distance_of(shifted, start, count).relative;
        if (!(distance > 0 && distance < 1e-4))
            fail_msg("%lld: relative distance %.3g", (long long)shifts[i], distance);
        free(shifted);
    }
    free(start);
}

static void window_masks(void **state)
{
    fixture *f = *state;
    assert_int_equal(f->config.sliding_window, WINDOW);
    assert_true(f->tokens > 2 * WINDOW);
    float *narrow = states_of(&f->gemma, f->ids, f->tokens, 0);
    f->gemma.config.sliding_window = 1024;
    float *wide = states_of(&f->gemma, f->ids, f->tokens, 0);
    /* The first layer slides: token 8 is the first that does not see token 0. */
    const float *a = narrow + f->tokens * WIDTH, *b = wide + f->tokens * WIDTH;
    assert_memory_equal(a, b, WINDOW * WIDTH * sizeof *a);
    for (int64_t i = WINDOW; i < f->tokens; i++)
        assert_memory_not_equal(a + i * WIDTH, b + i * WIDTH, WIDTH * sizeof *a);
    free(narrow);
    free(wide);
}

/* Tokens behind do not reach those before: what is encoded together with more text is what is encoded alone. */
static void attention_is_causal(void **state)
{
    fixture *f = *state;
    float *all = states_of(&f->gemma, f->ids, f->tokens, 3), *some = states_of(&f->gemma, f->ids, 5, 3);
    for (int layer = 0; layer < STATES; layer++) {
        double distance =
            swm_distance_of(some + layer * 5 * WIDTH, all + layer * f->tokens * WIDTH, 5 * WIDTH).relative;
        assert_true(distance <= 1e-5);
    }
    free(all);
    free(some);
}

/* Weights under `prefix`, in floats, beside what else a file of the whole model holds. */
static void names_have_prefixes(void **state)
{
    fixture *f = *state;
    enum { MOST = LAYERS * 13 + 2 + 3 };
    static const char *const prefixes[] = {"", "model.", "language_model.model.", "model.language_model."};
    static const char *const others[] = {"vision_tower.embed_tokens.weight", "multi_modal_projector.norm.weight",
                                         "lm_head.weight"};
    float *want = states_of(&f->gemma, f->ids, f->tokens, f->first), one = 1;
    char path[] = "/tmp/test_gemma3_XXXXXX.safetensors";
    int descriptor = mkstemps(path, 12);
    assert_true(descriptor >= 0);
    close(descriptor);
    for (size_t p = 0; p < sizeof prefixes / sizeof *prefixes; p++) {
        char text[MOST][96];
        const char *names[MOST];
        swm_tensor tensors[MOST];
        size_t count = 0;
        for (; count < swm_weights_count(f->weights); count++) {
            const char *name;
            swm_tensor t = *swm_weights_at(f->weights, count, &name);
            snprintf(text[count], sizeof text[count], "%s%s", prefixes[p], name);
            names[count] = text[count];
            tensors[count] = t;
            tensors[count].dtype = SWM_F32;
            tensors[count].data = calloc((size_t)swm_count(t), sizeof(float));
            assert_non_null(tensors[count].data);
            swm_to_f32(tensors[count].data, t.data, t.dtype, (size_t)swm_count(t));
        }
        assert_int_equal(count, LAYERS * 13 + 2);
        for (int i = 0; i < 3; i++, count++) {
            names[count] = others[i];
            tensors[count] = SWM_TENSOR(SWM_F32, &one, 1);
        }
        swm_error error = {0};
        if (swm_safetensors_save(path, count, names, tensors, NULL, &error) != 0) fail_msg("%s", error.text);
        for (size_t i = 0; i + 3 < count; i++) free(tensors[i].data);
        swm_weights *weights = swm_weights_open(path, &error);
        swm_gemma gemma;
        if (weights == NULL || swm_gemma_bind(&gemma, weights, &f->config, false, &error) != 0)
            fail_msg("%s", error.text);
        float *got = states_of(&gemma, f->ids, f->tokens, f->first);
        assert_memory_equal(got, want, (size_t)(STATES * f->tokens * WIDTH) * sizeof *got);
        free(got);
        swm_gemma_free(&gemma);
        swm_weights_close(weights);
    }
    assert_int_equal(unlink(path), 0);
    free(want);
}

static void plan_is_exact(void **state)
{
    fixture *f = *state;
    swm_error error = {0};
    swm_weights *declared = swm_weights_declared(&error);
    swm_gemma shapes;
    assert_non_null(declared);
    assert_int_equal(swm_gemma_declare(declared, &f->config, SWM_BF16, &error), 0);
    assert_int_equal(swm_gemma_bind(&shapes, declared, &f->config, false, &error), 0);
    assert_int_equal(swm_weights_count(declared), LAYERS * 13 + 2);
    assert_int_equal(swm_weights_parameters(declared), swm_weights_parameters(f->weights));
    for (int64_t count = 1; count <= 19; count += 18) {
        swm_work work;
        size_t peak = planned_peak(&shapes, count, &work);
        swm_backend *b = ops_open_cpu(2, peak);
        swm_tensor states;
        forward(b, &f->gemma, f->ids, count, SLOTS - count, &states);
        assert_int_equal(b->scratch.peak, peak);
        assert_int_equal(b->work.operations, work.operations);
        assert_true(b->work.flops == work.flops && b->work.bytes == work.bytes && work.flops > 0);
        swm_backend_close(b);
    }
    swm_gemma_free(&shapes);
    swm_weights_close(declared);
}

static void release_counts(void **state)
{
    (void)state;
    swm_error error = {0};
    swm_checkpoint release;
    assert_int_equal(swm_checkpoint_open_release(&release, &error), 0);
    assert_int_equal(release.refiner.gemma.config.generation, 3);
    assert_int_equal(swm_weights_count(release.refiner.text_weights), 626);
    assert_int_equal(swm_weights_parameters(release.refiner.text_weights), 11766034176);
    swm_checkpoint_close(&release);
}

static void bind_refuses(void **state)
{
    fixture *f = *state;
    static const struct {
        int64_t head_dim, kv_heads, layers;
        const char *part;
    } cases[] = {
        {32, 2, 7, "layers.0.self_attn.q_proj.weight"},
        {16, 1, 7, "layers.0.self_attn.k_proj.weight"},
        {16, 2, 8, "layers.7.input_layernorm.weight"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        swm_gemma_config config = f->config;
        config.head_dim = cases[i].head_dim;
        config.kv_heads = cases[i].kv_heads;
        config.layers = cases[i].layers;
        swm_error error = {0};
        swm_gemma gemma;
        assert_int_equal(swm_gemma_bind(&gemma, f->weights, &config, false, &error), -1);
        assert_null(gemma.layers);
        if (strstr(error.text, cases[i].part) == NULL) fail_msg("%s", error.text);
    }
}

/* An id beyond the embedding is a bug in the caller: ids are checked where texts become ids. */
static void unknown_token_aborts(void **state)
{
    fixture *f = *state;
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        close(STDERR_FILENO);
        swm_backend *b = swm_backend_open_cpu(1, NULL);
        if (b != NULL && swm_backend_reserve(b, 1 << 20, NULL) == 0)
            swm_gemma_forward(b, &f->gemma, (int32_t[]){320}, 1, 0, NULL);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_fixture, close_fixture)

int test_gemma3(void)
{
    const struct CMUnitTest tests[] = {
        TEST(states_match_golden), TEST(padding_only_shifts),  TEST(window_masks),
        TEST(attention_is_causal), TEST(names_have_prefixes),  TEST(plan_is_exact),
        TEST(bind_refuses),        TEST(unknown_token_aborts), cmocka_unit_test(release_counts),
    };
    return cmocka_run_group_tests_name("gemma3", tests, NULL, NULL);
}
