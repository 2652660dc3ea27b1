/* The text connectors: the golden, a forward in doubles for both rotations, config.json, binding, plan against run. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "io/safetensors.h"
#include "ops.h"
#include "text/connectors.h"
#include "tolerance.h"

#define TINY "tests/golden/tiny_random_model/refiner/connectors"

int test_connectors(void);

enum { SLOTS = 32, WIDTH = 48, LAYERS = 8, HEADS = 2, REGISTERS = 8 };

typedef struct fixture {
    swm_safetensors *golden;
    swm_connectors_config config;
    swm_weights *weights;
    swm_connectors *connectors;
    float *states; /* (layers,tokens,width) */
    int64_t first, tokens;
} fixture;

static const swm_tensor *golden_tensor(const fixture *f, const char *name)
{
    const swm_tensor *t = swm_safetensors_find(f->golden, name);
    if (t == NULL) fail_msg("no golden %s", name);
    return t;
}

static int open_fixture(void **state)
{
    swm_error error = {0};
    fixture *f = calloc(1, sizeof *f);
    if (f == NULL) return -1;
    *state = f;
    static const char path[] = "tests/golden/refiner.safetensors";
    f->golden = swm_safetensors_open(path, &error);
    f->weights = swm_weights_open_prefixed(path, "weight.connectors.", &error);
    if (f->golden == NULL || f->weights == NULL || swm_connectors_config_read(&f->config, TINY, &error) != 0)
        fail_msg("%s", error.text);
    f->connectors = swm_connectors_bind(f->weights, &f->config, &error);
    if (f->connectors == NULL) fail_msg("%s", error.text);
    const int64_t *mask = golden_tensor(f, "in.mask")->data;
    while (mask[f->first] == 0) f->first++;
    f->tokens = SLOTS - f->first;
    const float *values = swm_floats(*golden_tensor(f, "in.hidden_states")); /* (1,slots,width,layers) */
    int64_t cells = f->tokens * WIDTH;
    f->states = calloc((size_t)(cells * LAYERS), sizeof *f->states);
    if (f->states == NULL) return -1;
    for (int64_t i = 0; i < cells; i++)
        for (int64_t layer = 0; layer < LAYERS; layer++)
            f->states[layer * cells + i] = values[(f->first * WIDTH + i) * LAYERS + layer];
    return 0;
}

static int close_fixture(void **state)
{
    fixture *f = *state;
    free(f->states);
    free(f->connectors);
    swm_weights_close(f->weights);
    swm_safetensors_close(f->golden);
    free(f);
    return 0;
}

static swm_tensor forward(swm_backend *b, const swm_connectors *connectors, const float *states, int64_t tokens,
                          int64_t slots)
{
    swm_tensor t = SWM_UPLOAD(b, b->compute, states, LAYERS, tokens, WIDTH);
    return swm_connectors_forward(b, connectors, t, slots);
}

static size_t planned_peak(const swm_connectors *connectors, int64_t tokens, int64_t slots, swm_work *work)
{
    swm_backend *plan = swm_backend_open_plan(SWM_F32, NULL);
    assert_non_null(plan);
    swm_tensor y = forward(plan, connectors, NULL, tokens, slots);
    assert_true(y.rank == 2 && y.shape[0] == slots && y.shape[1] == WIDTH);
    size_t peak = plan->scratch.peak;
    if (work != NULL) *work = plan->work;
    swm_backend_close(plan);
    return peak;
}

/* Slots (slots,width) of the fixture's first `tokens` tokens; `trace` may be NULL. */
static void run(const fixture *f, int64_t tokens, int64_t slots, float *out, swm_trace_function trace, void *user)
{
    float *states = calloc((size_t)(LAYERS * tokens * WIDTH), sizeof *states);
    assert_non_null(states);
    for (int64_t layer = 0; layer < LAYERS; layer++)
        memcpy(states + layer * tokens * WIDTH, f->states + layer * f->tokens * WIDTH,
               (size_t)(tokens * WIDTH) * sizeof *states);
    swm_backend *b = ops_open_cpu(2, planned_peak(f->connectors, tokens, slots, NULL));
    b->trace = trace;
    b->trace_user = user;
    swm_download(b, out, forward(b, f->connectors, states, tokens, slots));
    swm_error error = {0};
    assert_int_equal(swm_backend_check(b, &error), 0);
    swm_backend_close(b);
    free(states);
}

/* ---- a forward in doubles ------------------------------------------------------------------------------------------ */

static double at(swm_tensor t, int64_t i)
{
    float value;
    swm_to_f32(&value, (const char *)t.data + (size_t)i * swm_dtype_size(t.dtype), t.dtype, 1);
    return (double)value;
}

static void affine(double *y, const double *x, swm_affine w, int64_t rows)
{
    int64_t outputs = w.weight.shape[0], inputs = w.weight.shape[1];
    for (int64_t n = 0; n < rows; n++)
        for (int64_t o = 0; o < outputs; o++) {
            double sum = at(w.bias, o);
            for (int64_t i = 0; i < inputs; i++) sum += x[n * inputs + i] * at(w.weight, o * inputs + i);
            y[n * outputs + o] = sum;
        }
}

static void rms(double *y, const double *x, const swm_tensor *weight)
{
    for (int n = 0; n < SLOTS; n++) {
        double squares = 0;
        for (int i = 0; i < WIDTH; i++) squares += x[n * WIDTH + i] * x[n * WIDTH + i];
        for (int i = 0; i < WIDTH; i++)
            y[n * WIDTH + i] = x[n * WIDTH + i] / sqrt(squares / WIDTH + 1e-6) * (weight != NULL ? at(*weight, i) : 1);
    }
}

static void turn(double *x, bool interleaved)
{
    for (int n = 0; n < SLOTS; n++)
        for (int e = 0; e < WIDTH / 2; e++) {
            float frequency = (float)(pow(10000, e / (WIDTH / 2 - 1.0)) * M_PI / 2);
            double angle = (double)(((float)n / 4096 * 2 - 1) * frequency);
            int half = WIDTH / HEADS / 2, first = interleaved ? 2 * e : e / half * 2 * half + e % half;
            double *a = x + n * WIDTH + first, *c = a + (interleaved ? 1 : half), left = *a;
            *a = left * cos(angle) - *c * sin(angle);
            *c = *c * cos(angle) + left * sin(angle);
        }
}

static void attend(double *y, const double *q, const double *k, const double *v)
{
    enum { HEAD = WIDTH / HEADS };
    for (int h = 0; h < HEADS; h++)
        for (int n = 0; n < SLOTS; n++) {
            double weights[SLOTS], sum = 0, *out = y + n * WIDTH + h * HEAD;
            for (int m = 0; m < SLOTS; m++) {
                double score = 0;
                for (int i = 0; i < HEAD; i++) score += q[n * WIDTH + h * HEAD + i] * k[m * WIDTH + h * HEAD + i];
                sum += weights[m] = exp(score / sqrt(HEAD));
            }
            memset(out, 0, HEAD * sizeof *out);
            for (int m = 0; m < SLOTS; m++)
                for (int i = 0; i < HEAD; i++) out[i] += weights[m] / sum * v[m * WIDTH + h * HEAD + i];
        }
}

/* What follows the projection of the text, in place. */
static void reference(const swm_connectors *connectors, double *x)
{
    static double u[SLOTS * WIDTH], q[SLOTS * WIDTH], k[SLOTS * WIDTH], v[SLOTS * WIDTH], a[SLOTS * WIDTH],
        h[SLOTS * WIDTH * 4];
    for (int64_t block = 0; block < connectors->config.depth; block++) {
        const swm_connectors_block *w = &connectors->blocks[block];
        rms(u, x, NULL);
        affine(q, u, w->q, SLOTS);
        affine(k, u, w->k, SLOTS);
        affine(v, u, w->v, SLOTS);
        rms(q, q, &w->q_norm);
        rms(k, k, &w->k_norm);
        turn(q, connectors->config.interleaved);
        turn(k, connectors->config.interleaved);
        attend(a, q, k, v);
        affine(u, a, w->out, SLOTS);
        for (int i = 0; i < SLOTS * WIDTH; i++) x[i] += u[i];
        rms(u, x, NULL);
        affine(h, u, w->expand, SLOTS);
        for (int i = 0; i < SLOTS * WIDTH * 4; i++)
            h[i] *= 0.5 * (1 + tanh(sqrt(2 / M_PI) * (h[i] + 0.044715 * h[i] * h[i] * h[i])));
        affine(u, h, w->contract, SLOTS);
        for (int i = 0; i < SLOTS * WIDTH; i++) x[i] += u[i];
    }
    rms(x, x, NULL);
}

/* ---- tests --------------------------------------------------------------------------------------------------------- */

typedef struct traced {
    float packed[SLOTS * WIDTH * LAYERS], projected[SLOTS * WIDTH];
    int64_t projected_rows;
    int seen;
} traced;

static void keep_trace(void *user, swm_backend *b, const char *name, swm_tensor value)
{
    traced *t = user;
    static const char *const names[] = {"packed", "text_proj_in", "blocks.0", "blocks.1", "prompt_embeds"};
    assert_true(t->seen < 5);
    assert_string_equal(name, names[t->seen++]);
    if (t->seen == 1) swm_download(b, t->packed, value);
    if (t->seen == 2) swm_download(b, t->projected, value);
    if (t->seen == 2) t->projected_rows = value.shape[0];
}

static void matches_golden(void **state)
{
    fixture *f = *state;
    traced *t = calloc(1, sizeof *t);
    assert_non_null(t);
    float out[SLOTS * WIDTH];
    run(f, f->tokens, SLOTS, out, keep_trace, t);
    assert_int_equal(t->seen, 5);
    const float *packed = swm_floats(*golden_tensor(f, "act.packed"));
    ops_check_close("packed", t->packed, packed + f->first * WIDTH * LAYERS, f->tokens * WIDTH * LAYERS, 1e-5);
    ops_check_close("prompt_embeds", out, swm_floats(*golden_tensor(f, "act.prompt_embeds")), SLOTS * WIDTH, 1e-5);
    free(t);
}

/* Texts of every length, as the registers behind them differ, and both rotations. */
static void matches_doubles(void **state)
{
    fixture *f = *state;
    static const int64_t lengths[] = {1, 5, 8, 13};
    for (int interleaved = 0; interleaved < 2; interleaved++)
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
            static double want[SLOTS * WIDTH];
            float out[SLOTS * WIDTH], floats[SLOTS * WIDTH];
            traced *t = calloc(1, sizeof *t);
            assert_non_null(t);
            f->connectors->config.interleaved = interleaved;
            run(f, lengths[i], SLOTS, out, keep_trace, t);
            assert_int_equal(t->projected_rows, lengths[i]);
            for (int64_t n = 0; n < SLOTS; n++)
                for (int64_t c = 0; c < WIDTH; c++)
                    want[n * WIDTH + c] = n < lengths[i]
                                              ? (double)t->projected[n * WIDTH + c]
                                              : at(f->connectors->outer.registers, n % REGISTERS * WIDTH + c);
            free(t);
            reference(f->connectors, want);
            for (int j = 0; j < SLOTS * WIDTH; j++) floats[j] = (float)want[j];
            ops_check_close(interleaved ? "interleaved" : "split", out, floats, SLOTS * WIDTH, 1e-5);
        }
}

static void text_may_fill_all_slots(void **state)
{
    fixture *f = *state;
    float out[SLOTS * WIDTH];
    run(f, f->tokens, f->tokens, out, NULL, NULL);
    for (int64_t i = 0; i < f->tokens * WIDTH; i++) assert_true(isfinite(out[i]));
}

static void plan_is_exact(void **state)
{
    fixture *f = *state;
    swm_error error = {0};
    swm_weights *declared = swm_weights_declared(&error);
    assert_non_null(declared);
    assert_int_equal(swm_connectors_declare(declared, &f->config, SWM_BF16, &error), 0);
    assert_int_equal(swm_weights_count(declared), 30);
    swm_connectors *shapes = swm_connectors_bind(declared, &f->config, &error);
    if (shapes == NULL) fail_msg("%s", error.text);
    for (int64_t tokens = 1; tokens <= f->tokens; tokens += f->tokens - 1) {
        swm_work work;
        size_t peak = planned_peak(shapes, tokens, SLOTS, &work);
        swm_backend *b = ops_open_cpu(2, peak);
        forward(b, f->connectors, f->states, tokens, SLOTS);
        assert_int_equal(b->scratch.peak, peak);
        assert_int_equal(b->work.operations, work.operations);
        assert_true(b->work.flops == work.flops && b->work.bytes == work.bytes && work.flops > 0);
        swm_backend_close(b);
    }
    free(shapes);
    swm_weights_close(declared);
}

static void release_counts(void **state)
{
    (void)state;
    swm_error error = {0};
    swm_connectors_config release = swm_connectors_release_config();
    swm_weights *declared = swm_weights_declared(&error);
    assert_non_null(declared);
    assert_int_equal(swm_connectors_declare(declared, &release, SWM_BF16, &error), 0);
    assert_int_equal(swm_weights_parameters(declared), 1077004800);
    swm_weights_close(declared);
}

static void bind_refuses(void **state)
{
    fixture *f = *state;
    static const struct {
        int64_t layers, depth, registers;
        const char *part;
    } cases[] = {
        {9, 2, 8, "text_proj_in.weight"},
        {8, 3, 8, "transformer_blocks.2.attn1.to_q.weight"},
        {8, 1, 8, "more than the 1 blocks"},
        {8, 2, 7, "learnable_registers"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        swm_connectors_config config = f->config;
        config.layers = cases[i].layers;
        config.depth = cases[i].depth;
        config.registers = cases[i].registers;
        swm_error error = {0};
        assert_null(swm_connectors_bind(f->weights, &config, &error));
        if (strstr(error.text, cases[i].part) == NULL) fail_msg("%s", error.text);
    }
}

static void config_is_read(void **state)
{
    (void)state;
    swm_error error = {0};
    swm_connectors_config tiny, parsed, release = swm_connectors_release_config();
    assert_int_equal(swm_connectors_config_read(&tiny, TINY "/config.json", &error), 0);
    assert_true(tiny.caption_channels == WIDTH && tiny.layers == LAYERS && tiny.depth == 2 && tiny.heads == HEADS &&
                tiny.head == WIDTH / HEADS && tiny.registers == REGISTERS && tiny.base_positions == 4096 &&
                !tiny.interleaved);
    static const char least[] = "{\"rope_type\": \"split\", \"audio_connector_num_layers\": \"unread\"}";
    assert_int_equal(swm_connectors_config_parse(&parsed, "least", least, sizeof least - 1, &error), 0);
    assert_true(parsed.caption_channels == release.caption_channels && parsed.layers == release.layers &&
                parsed.depth == release.depth && parsed.heads == release.heads && parsed.head == release.head &&
                parsed.registers == release.registers && parsed.base_positions == release.base_positions &&
                parsed.rope_theta == release.rope_theta && parsed.interleaved == release.interleaved);
    static const char turned[] = "{\"rope_type\": \"interleaved\"}";
    assert_int_equal(swm_connectors_config_parse(&parsed, "turned", turned, sizeof turned - 1, &error), 0);
    assert_true(parsed.interleaved);
}

static void config_refuses(void **state)
{
    (void)state;
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"", "config"},
        {"[]", "config"},
        {"{}", "rope_type"},
        {"{\"rope_type\": \"spiral\"}", "split or interleaved"},
        {"{\"rope_type\": \"split\", \"_class_name\": \"Other\"}", "LTX2TextConnectors"},
        {"{\"rope_type\": \"split\", \"per_modality_projections\": true}", "per_modality_projections"},
        {"{\"rope_type\": \"split\", \"rope_double_precision\": false}", "rope_double_precision"},
        {"{\"rope_type\": \"split\", \"video_gated_attn\": true}", "video_gated_attn"},
        {"{\"rope_type\": \"split\", \"proj_bias\": true}", "proj_bias"},
        {"{\"rope_type\": \"split\", \"causal_temporal_positioning\": true}", "causal_temporal_positioning"},
        {"{\"rope_type\": \"split\", \"caption_channels\": 4096}", "caption_channels"},
        {"{\"rope_type\": \"split\", \"video_connector_num_layers\": 17}", "video_connector_num_layers"},
        {"{\"rope_type\": \"split\", \"video_connector_num_layers\": 0}", "video_connector_num_layers"},
        {"{\"rope_type\": \"split\", \"video_connector_num_learnable_registers\": 0}", "registers"},
        {"{\"rope_type\": \"split\", \"video_connector_attention_head_dim\": 1e30}", "attention_head_dim"},
        {"{\"rope_type\": \"split\", \"video_connector_attention_head_dim\": 3, \"caption_channels\": 90}", "an even"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        swm_error error = {0};
        swm_connectors_config config;
        int result = swm_connectors_config_parse(&config, "config", cases[i].text, strlen(cases[i].text), &error);
        assert_int_equal(result, -1);
        assert_int_equal(config.depth, 0);
        if (strstr(error.text, cases[i].part) == NULL) fail_msg("%zu: %s", i, error.text);
    }
    swm_error error = {0};
    swm_connectors_config config;
    assert_int_equal(swm_connectors_config_read(&config, "tests/golden/nothing", &error), -1);
    assert_non_null(strstr(error.text, "tests/golden/nothing"));
    char *large = calloc(1, (1 << 20) + 1);
    assert_non_null(large);
    error = (swm_error){0};
    assert_int_equal(swm_connectors_config_parse(&config, "large", large, (1 << 20) + 1, &error), -1);
    assert_non_null(strstr(error.text, "1 MiB"));
    free(large);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_fixture, close_fixture)

int test_connectors(void)
{
    const struct CMUnitTest tests[] = {
        TEST(matches_golden),
        TEST(matches_doubles),
        TEST(text_may_fill_all_slots),
        TEST(plan_is_exact),
        TEST(bind_refuses),
        cmocka_unit_test(release_counts),
        cmocka_unit_test(config_is_read),
        cmocka_unit_test(config_refuses),
    };
    return cmocka_run_group_tests_name("connectors", tests, NULL, NULL);
}
