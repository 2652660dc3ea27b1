/* The refiner beyond its golden: configuration, binding, positions, and equalities that the maths promises: the ring
 * against a window that never forgets, spans that are cut against spans that are not. Its sampler is in
 * test_refine.c. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "model/refiner_positions.h"
#include "sample/refine.h"
#include "tolerance.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIRECTORY "tests/golden/tiny_random_model/refiner/transformer"

int test_refiner(void);

/* ---- configuration ------------------------------------------------------------------------------------------------ */

static int parse(swm_refiner_config *config, const char *text, swm_error *error)
{
    *error = (swm_error){0};
    return swm_refiner_config_parse(config, "config.json", text, strlen(text), error);
}

/* Member by member: what lies between members is nobody's. */
static void assert_same(swm_refiner_config a, swm_refiner_config b)
{
    assert_true(a.channels == b.channels && a.depth == b.depth && a.heads == b.heads && a.head == b.head &&
                a.caption_channels == b.caption_channels && a.interleaved == b.interleaved &&
                !(a.rope_theta < b.rope_theta) && !(a.rope_theta > b.rope_theta));
    assert_memory_equal(a.max_positions, b.max_positions, sizeof a.max_positions);
}

static void test_config(void **state)
{
    (void)state;
    swm_error error;
    swm_refiner_config config, release = swm_refiner_release_config();
    assert_int_equal(parse(&config, "{\"rope_type\": \"split\"}", &error), 0);
    assert_same(config, release);
    assert_int_equal(
        parse(&config, "{\"rope_type\":\"interleaved\",\"audio_gated_attn\":true,\"audio_patch_size\":7}", &error), 0);
    assert_true(config.interleaved);

    error = (swm_error){0};
    swm_refiner_config tiny = {0};
    assert_int_equal(swm_refiner_config_read(&tiny, DIRECTORY, &error), 0);
    assert_int_equal(swm_refiner_config_read(&config, DIRECTORY "/config.json", &error), 0);
    assert_same(config, tiny);
    assert_true(tiny.channels == 16 && tiny.depth == 3 && tiny.heads == 2 && tiny.head == 32 && !tiny.interleaved);
    assert_true(tiny.caption_channels == 48 && tiny.rope_theta == 10000 && tiny.max_positions[0] == 20 &&
                tiny.max_positions[1] == 2048 && tiny.max_positions[2] == 2048);
}

static void test_config_errors(void **state)
{
    (void)state;
    static const struct {
        const char *members, *complaint;
    } cases[] = {
        {"\"in_channels\": 128", "rope_type is missing"},
        {"\"rope_type\": \"spiral\"", "rope_type is \"spiral\", expected split or interleaved"},
        {"\"rope_type\": 3", "rope_type"},
        {"\"rope_type\": \"split\", \"gated_attn\": true", "gated_attn is true, expected false"},
        {"\"rope_type\": \"split\", \"cross_attn_mod\": true", "cross_attn_mod is true, expected false"},
        {"\"rope_type\": \"split\", \"perturbed_attn\": true", "perturbed_attn"},
        {"\"rope_type\": \"split\", \"attention_bias\": false", "attention_bias is false, expected true"},
        {"\"rope_type\": \"split\", \"rope_double_precision\": false", "rope_double_precision"},
        {"\"rope_type\": \"split\", \"use_keyframes_abs_pos_embedding\": true", "use_keyframes_abs_pos_embedding"},
        {"\"rope_type\": \"split\", \"norm_elementwise_affine\": true", "norm_elementwise_affine"},
        {"\"rope_type\": \"split\", \"_class_name\": \"LTXVideoTransformer3DModel\"", "_class_name"},
        {"\"rope_type\": \"split\", \"activation_fn\": \"geglu\"", "expected gelu-approximate"},
        {"\"rope_type\": \"split\", \"qk_norm\": \"rms_norm\"", "expected rms_norm_across_heads"},
        {"\"rope_type\": \"split\", \"norm_eps\": 1e-5", "norm_eps"},
        {"\"rope_type\": \"split\", \"patch_size\": 2", "patch_size is 2, expected 1"},
        {"\"rope_type\": \"split\", \"patch_size_t\": 2", "patch_size_t"},
        {"\"rope_type\": \"split\", \"causal_offset\": 0", "causal_offset"},
        {"\"rope_type\": \"split\", \"timestep_scale_multiplier\": 1", "expected 1000"},
        {"\"rope_type\": \"split\", \"vae_scale_factors\": [4, 32, 32]", "expected [8, 32, 32]"},
        {"\"rope_type\": \"split\", \"vae_scale_factors\": [8, 32]", "expected [8, 32, 32]"},
        {"\"rope_type\": \"split\", \"out_channels\": 64", "out_channels"},
        {"\"rope_type\": \"split\", \"cross_attention_dim\": 64", "cross_attention_dim"},
        {"\"rope_type\": \"split\", \"num_layers\": 97", "num_layers"},
        {"\"rope_type\": \"split\", \"num_layers\": 0", "num_layers"},
        {"\"rope_type\": \"split\", \"attention_head_dim\": 33, \"cross_attention_dim\": 1056", "attention_head_dim"},
        {"\"rope_type\": \"split\", \"rope_theta\": -1", "rope_theta"},
        {"\"rope_type\": \"split\", \"base_width\": 0", "base_width"},
        {"\"rope_type\": \"split\", \"rope_type\": \"split\"", "rope_type"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[256];
        swm_error error;
        swm_refiner_config config, none = {0};
        snprintf(text, sizeof text, "{%s}", cases[i].members);
        assert_int_equal(parse(&config, text, &error), -1);
        if (strstr(error.text, cases[i].complaint) == NULL) fail_msg("%s gave: %s", text, error.text);
        assert_same(config, none);
    }
    swm_error error;
    swm_refiner_config config;
    assert_int_equal(parse(&config, "[1]", &error), -1);
    assert_int_equal(parse(&config, "{\"rope_type\": \"spl", &error), -1);
    assert_int_equal(swm_refiner_config_read(&config, "tests/golden/absent", &error), -1);
}

/* ---- weights ------------------------------------------------------------------------------------------------------ */

static void test_release_size(void **state)
{
    (void)state;
    swm_error error = {0};
    swm_weights *weights = swm_weights_declared(&error);
    swm_refiner_config release = swm_refiner_release_config();
    assert_int_equal(swm_refiner_declare(weights, &release, SWM_BF16, &error), 0);
    assert_int_equal(swm_weights_count(weights), 1215);
    assert_true(swm_weights_parameters(weights) == 13041520768);
    swm_refiner *refiner = swm_refiner_bind(weights, &release, &error);
    assert_non_null(refiner);
    assert_true(refiner->blocks[47].contract.weight.shape[1] == 16384);
    free(refiner);
    swm_weights_close(weights);
}

/* Shards of a whole LTX-2, of which 90 tensors are the video's. */
static void test_shards(void **state)
{
    (void)state;
    swm_error error = {0};
    swm_refiner_config config = {0};
    assert_int_equal(swm_refiner_config_read(&config, DIRECTORY, &error), 0);
    swm_weights *weights = swm_weights_open(DIRECTORY, &error), *declared = swm_weights_declared(&error);
    assert_non_null(weights);
    assert_int_equal(swm_weights_count(weights), 270);
    assert_int_equal(swm_refiner_declare(declared, &config, SWM_F32, &error), 0);
    assert_int_equal(swm_weights_count(declared), 25 * 3 + 15);
    for (size_t i = 0; i < swm_weights_count(declared); i++) {
        const char *name;
        swm_weights_at(declared, i, &name);
        assert_non_null(swm_weights_find(weights, name));
    }
    swm_refiner *refiner = swm_refiner_bind(weights, &config, &error);
    if (refiner == NULL) fail_msg("%s", error.text);
    free(refiner);

    const struct {
        int64_t depth, heads, caption;
        const char *complaint;
    } wrong[] = {
        {4, 2, 48, "transformer_blocks.3."},
        {2, 2, 48, "more than the 2 blocks"},
        {3, 4, 48, "proj_in.weight"},
        {3, 2, 49, "caption_projection.linear_1.weight"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        swm_refiner_config other = config;
        other.depth = wrong[i].depth;
        other.heads = wrong[i].heads;
        other.caption_channels = wrong[i].caption;
        error = (swm_error){0};
        assert_null(swm_refiner_bind(weights, &other, &error));
        if (strstr(error.text, wrong[i].complaint) == NULL) fail_msg("%s", error.text);
    }
    swm_weights_close(declared);
    swm_weights_close(weights);
}

/* ---- positions ---------------------------------------------------------------------------------------------------- */

/* Values that follow from the definition alone, at 16 pictures a second. */
static void test_spans(void **state)
{
    (void)state;
    const swm_refiner_grid grid = {0, 121, 22, 40, 16};
    const struct {
        int axis;
        int64_t index;
        double begin, end;
    } cases[] = {
        {0, 0, 0, 0.0625}, {0, 1, 0.0625, 0.5625}, {0, 2, 0.5625, 1.0625}, {0, 120, 59.5625, 60.0625},
        {1, 0, 0, 32},     {1, 21, 672, 704},      {2, 39, 1248, 1280},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        float span[2];
        swm_refiner_span(&grid, cases[i].axis, cases[i].index, span);
        assert_true((double)span[0] == cases[i].begin && (double)span[1] == cases[i].end);
    }
}

static void test_angles(void **state)
{
    (void)state;
    swm_error error = {0};
    swm_backend *b = swm_backend_open_cpu(1, &error);
    swm_refiner_config release = swm_refiner_release_config();
    assert_int_equal(swm_backend_reserve(b, 1 << 20, &error), 0);
    const struct {
        int axis;
        int64_t first, index; /* of the table */
        int frequency;
        double cosine, sine;
    } cases[] = {
        /* u and the frequency as float32 numbers whose product is rounded once */
        {0, 0, 0, 0, cos(-0.996874988 * 1.57079637), sin(-0.996874988 * 1.57079637)},
        {0, 1, 0, 1, cos(-0.96875 * 1.59218526), sin(-0.96875 * 1.59218526)},
        {0, 0, 1, 2, cos(-0.96875 * 1.61386538), sin(-0.96875 * 1.61386538)},
        {0, 2, 0, 0, cos(-0.918749988 * 1.57079637), sin(-0.918749988 * 1.57079637)},
        {0, 119, 1, 681, 0.70367, sin(78245.2969)}, /* beyond 20 s, where nothing is clamped */
        {1, 0, 0, 340, cos(-0.984375 * 156.020981), sin(-0.984375 * 156.020981)},
        {2, 7, 39, 0, cos(0.234375 * 1.57079637), sin(0.234375 * 1.57079637)},
        {2, 7, 39, 681, cos(0.234375 * 15707.9629), sin(0.234375 * 15707.9629)},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        swm_mark mark = swm_mark_of(b);
        swm_refiner_grid grid = {cases[i].first, 2, 22, 40, 16};
        static const int64_t counts[3] = {2, 22, 40};
        swm_tensor angles = swm_refiner_angles(b, &release, &grid, cases[i].axis);
        assert_true(angles.rank == 3 && angles.shape[0] == counts[cases[i].axis] && angles.shape[1] == 682);
        const float *at = swm_floats(angles) + 2 * (cases[i].index * 682 + cases[i].frequency);
        double within = cases[i].frequency > 300 ? 3e-4 : 1e-6; /* nine digits of a large angle are given */
        assert_true(fabs((double)at[0] - cases[i].cosine) < within && fabs((double)at[1] - cases[i].sine) < within);
        swm_release(b, mark);
    }
    swm_backend_close(b);
}

/* ---- a small model with made-up inputs ---------------------------------------------------------------------------- */

enum { HEIGHT = 2, WIDTH = 3, CELLS = HEIGHT * WIDTH, LATENT = 16, MOST = 20, TOKENS = 9, CAPTION = 48 };

typedef struct fixture {
    swm_weights *weights;
    swm_refiner *refiner;
    float x[MOST][LATENT * CELLS], states[TOKENS * CAPTION]; /* frames (c,h,w) */
} fixture;

static int open_fixture(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    if (f == NULL) return -1;
    *state = f;
    swm_refiner_config config;
    if (swm_refiner_config_read(&config, DIRECTORY, NULL) != 0) return -1;
    f->weights = swm_weights_open(DIRECTORY, NULL);
    f->refiner = f->weights != NULL ? swm_refiner_bind(f->weights, &config, NULL) : NULL;
    for (int i = 0; i < MOST; i++)
        for (int k = 0; k < LATENT * CELLS; k++) f->x[i][k] = (float)sin(12.9898 * k + i + 1);
    for (int i = 0; i < TOKENS * CAPTION; i++) f->states[i] = (float)sin(78.233 * i + 2);
    return f->refiner != NULL ? 0 : -1;
}

static int close_fixture(void **state)
{
    fixture *f = *state;
    free(f->refiner);
    swm_weights_close(f->weights);
    free(f);
    return 0;
}

/* One pass over frames of the fixture. The velocity may be NULL. */
static void forward(swm_backend *b, const fixture *f, const swm_refiner *refiner, const swm_refiner_text *text,
                    swm_refiner_window *window, int64_t first, int64_t frames, float sigma, swm_refiner_keep keep,
                    float *velocity)
{
    float x[LATENT * MOST * CELLS];
    for (int64_t c = 0; c < LATENT; c++)
        for (int64_t i = 0; i < frames; i++)
            memcpy(x + (c * frames + i) * CELLS, f->x[first + i] + c * CELLS, CELLS * sizeof *x);
    swm_mark mark = swm_mark_of(b);
    swm_refiner_step step = {.latent = SWM_UPLOAD(b, b->compute, x, LATENT, frames, HEIGHT, WIDTH),
                             .first = first,
                             .fps = 16,
                             .sigma = sigma,
                             .text = text,
                             .window = window,
                             .keep = keep};
    swm_tensor v = swm_refiner_forward(b, refiner, &step);
    assert_true(swm_present(v) == (keep == SWM_REFINER_KEEP_NOTHING));
    if (velocity != NULL) swm_download(b, velocity, v);
    swm_release(b, mark);
}

/* A job that runs under a plan, whose peak sizes the arena, and then on the CPU, whose peak must be the same. */
typedef void (*job)(swm_backend *b, const fixture *f, void *user);

static void run_job(const fixture *f, job what, void *user)
{
    swm_error error = {0};
    swm_backend *plan = swm_backend_open_plan(SWM_F32, &error), *b = swm_backend_open_cpu(1, &error);
    assert_true(plan != NULL && b != NULL);
    what(plan, f, user);
    assert_int_equal(plan->scratch.used, 0);
    assert_int_equal(swm_backend_reserve(b, plan->scratch.peak, &error), 0);
    what(b, f, user);
    if (swm_backend_check(b, &error) != 0) fail_msg("%s", error.text);
    assert_int_equal(b->scratch.peak, plan->scratch.peak);
    swm_backend_close(plan);
    swm_backend_close(b);
}

static void check_close(const float *got, const float *want, int64_t count, double bound)
{
    swm_distance distance = swm_distance_of(got, want, count);
    if (!(distance.relative < bound)) fail_msg("distance %g, at most %g expected", distance.relative, bound);
}

/* ---- the window --------------------------------------------------------------------------------------------------- */

/* Frames of each span, run noisily and then kept. */
typedef struct spans {
    int64_t history;
    int count;
    const int64_t *frames;
    float *velocity; /* of all spans, one after another */
} spans;

static void run_ring(swm_backend *b, const fixture *f, void *user)
{
    const spans *s = user;
    swm_refiner_text text;
    swm_refiner_window window;
    swm_mark mark = swm_mark_of(b);
    swm_refiner_text_prepare(b, f->refiner, &text, TOKENS, f->states);
    swm_refiner_window_take(b, f->refiner, &window, s->history, HEIGHT, WIDTH);
    forward(b, f, f->refiner, &text, &window, 0, 1, 0, SWM_REFINER_KEEP_SINK, NULL);
    int64_t first = 1;
    float *out = s->velocity;
    for (int i = 0; i < s->count; i++) {
        forward(b, f, f->refiner, &text, &window, first, s->frames[i], 0.7f, SWM_REFINER_KEEP_NOTHING, out);
        assert_int_equal(window.sink_at, first - swm_min(first - 1, s->history) - 1);
        forward(b, f, f->refiner, &text, &window, first, s->frames[i], 0, SWM_REFINER_KEEP_HISTORY, NULL);
        out += s->frames[i] * LATENT * CELLS;
        first += s->frames[i];
        assert_int_equal(window.held, swm_min(first - 1, s->history));
        assert_int_equal(window.written, first - 1);
    }
    swm_release(b, mark);
}

/* A window of its own for every pass, long enough that nothing ever leaves: `held` frames of what all passes have left,
 * copied into it in the order of time. */
static swm_refiner_window dense_window(swm_backend *b, const fixture *f, const swm_refiner_window *all, int64_t first,
                                       int64_t held, int64_t room)
{
    swm_refiner_window window;
    swm_refiner_window_take(b, f->refiner, &window, held + room, HEIGHT, WIDTH);
    window.held = window.written = held;
    window.sink_at = first - held - 1;
    swm_refiner_grid grid = {window.sink_at, 1, HEIGHT, WIDTH, 16};
    const swm_refiner_config *config = &f->refiner->config;
    const swm_grid_rotation rotation = {.heads = config->heads,
                                        .interleaved = config->interleaved,
                                        .axes = {swm_refiner_angles(b, config, &grid, 0),
                                                 swm_refiner_angles(b, config, &grid, 1),
                                                 swm_refiner_angles(b, config, &grid, 2)}};
    for (int64_t i = 0; i < f->refiner->config.depth; i++) {
        int64_t from = (first - held) * CELLS, count = held * CELLS;
        swm_copy(b, window.blocks[i].sink_keys, all->blocks[i].sink_keys);
        swm_rotate_grid(b, swm_rows(window.blocks[i].keys, 0, CELLS), all->blocks[i].sink_keys, (swm_tensor){0}, 0,
                        &rotation);
        swm_copy(b, swm_rows(window.blocks[i].values, 0, CELLS), swm_rows(all->blocks[i].values, 0, CELLS));
        if (held == 0) continue;
        swm_copy(b, swm_rows(window.blocks[i].keys, CELLS, count), swm_rows(all->blocks[i].keys, from, count));
        swm_copy(b, swm_rows(window.blocks[i].values, CELLS, count), swm_rows(all->blocks[i].values, from, count));
    }
    return window;
}

static void run_dense(swm_backend *b, const fixture *f, void *user)
{
    const spans *s = user;
    swm_refiner_text text;
    swm_refiner_window all;
    swm_mark mark = swm_mark_of(b);
    swm_refiner_text_prepare(b, f->refiner, &text, TOKENS, f->states);
    swm_refiner_window_take(b, f->refiner, &all, MOST - 1, HEIGHT, WIDTH);
    forward(b, f, f->refiner, &text, &all, 0, 1, 0, SWM_REFINER_KEEP_SINK, NULL);
    int64_t first = 1;
    float *out = s->velocity;
    for (int i = 0; i < s->count; i++) {
        int64_t frames = s->frames[i], held = swm_min(first - 1, s->history);
        swm_mark span = swm_mark_of(b);
        swm_refiner_window window = dense_window(b, f, &all, first, held, frames);
        forward(b, f, f->refiner, &text, &window, first, frames, 0.7f, SWM_REFINER_KEEP_NOTHING, out);
        forward(b, f, f->refiner, &text, &window, first, frames, 0, SWM_REFINER_KEEP_HISTORY, NULL);
        for (int64_t k = 0; k < f->refiner->config.depth; k++) {
            int64_t from = (1 + held) * CELLS, count = frames * CELLS;
            swm_copy(b, swm_rows(all.blocks[k].keys, first * CELLS, count),
                     swm_rows(window.blocks[k].keys, from, count));
            swm_copy(b, swm_rows(all.blocks[k].values, first * CELLS, count),
                     swm_rows(window.blocks[k].values, from, count));
        }
        swm_release(b, span);
        out += frames * LATENT * CELLS;
        first += frames;
    }
    swm_release(b, mark);
}

static void test_ring(void **state)
{
    const fixture *f = *state;
    static const int64_t short_last[] = {3, 3, 3, 3, 1}, long_spans[] = {2, 6, 1, 5, 4}, ones[] = {1, 1, 1, 1, 1};
    const spans cases[] = {{4, 5, short_last, NULL},
                           {10, 5, short_last, NULL},
                           {4, 5, long_spans, NULL},
                           {1, 5, long_spans, NULL},
                           {2, 5, ones, NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        static float ring[MOST * LATENT * CELLS], dense[MOST * LATENT * CELLS];
        spans s = cases[i];
        int64_t frames = 0;
        for (int k = 0; k < s.count; k++) frames += s.frames[k];
        s.velocity = ring;
        run_job(f, run_ring, &s);
        s.velocity = dense;
        run_job(f, run_dense, &s);
        check_close(ring, dense, frames * LATENT * CELLS, 2e-6);
        /* And it does look back: another history makes another velocity. */
        s.history = s.history == 1 ? 2 : 1;
        run_job(f, run_dense, &s);
        assert_true(swm_distance_of(ring, dense, frames * LATENT * CELLS).relative > 1e-4);
    }
}

/* The positions that the sink takes in the release's window: the spec of blocks of three behind ten frames. */
static void run_places(swm_backend *b, const fixture *f, void *user)
{
    static const int64_t places[6] = {0, 0, 0, 0, 2, 5};
    swm_refiner_text text;
    swm_refiner_window window;
    swm_mark mark = swm_mark_of(b);
    swm_refiner_text_prepare(b, f->refiner, &text, TOKENS, f->states);
    swm_refiner_window_take(b, f->refiner, &window, 10, HEIGHT, WIDTH);
    forward(b, f, f->refiner, &text, &window, 0, 1, 0, SWM_REFINER_KEEP_SINK, NULL);
    for (int64_t i = 0; i < 6; i++) {
        forward(b, f, f->refiner, &text, &window, 1 + 3 * i, 3, 0.5f, SWM_REFINER_KEEP_NOTHING, user);
        assert_int_equal(window.sink_at, places[i]);
        forward(b, f, f->refiner, &text, &window, 1 + 3 * i, 3, 0, SWM_REFINER_KEEP_HISTORY, NULL);
        assert_int_equal(window.sink_at, places[i]);
    }
    swm_release(b, mark);
}

static void test_sink_places(void **state)
{
    float velocity[3 * LATENT * CELLS];
    run_job(*state, run_places, velocity);
}

/* ---- one shot and blocks ------------------------------------------------------------------------------------------ */

typedef struct refinement {
    const fixture *fixture;
    swm_refinement how;
    int64_t history;
    swm_refine_source source;
    float latent[LATENT * MOST * CELLS];
    swm_backend *b;
    swm_refiner_text text;
    swm_refiner_window window;
    bool interleaved;
} refinement;

enum { REFINED = 8 };

static int refine_velocity(void *user, int64_t first, int64_t frames, const float *latent, float sigma, bool keep,
                           float *velocity, swm_error *error)
{
    (void)error;
    refinement *r = user;
    swm_backend *b = r->b;
    swm_mark mark = swm_mark_of(b);
    swm_refiner_step step = {.latent = SWM_UPLOAD(b, b->compute, latent, LATENT, frames, HEIGHT, WIDTH),
                             .first = first,
                             .fps = 16,
                             .sigma = sigma,
                             .text = &r->text,
                             .window = &r->window,
                             .keep = !keep        ? SWM_REFINER_KEEP_NOTHING
                                     : first == 0 ? SWM_REFINER_KEEP_SINK
                                                  : SWM_REFINER_KEEP_HISTORY};
    swm_tensor v = swm_refiner_forward(b, r->fixture->refiner, &step);
    if (!keep) swm_download(b, velocity, v);
    swm_release(b, mark);
    return 0;
}

static void refine_noise(void *user, int64_t first, int64_t frames, float *noise)
{
    refinement *r = user;
    swm_refine_draw(&r->source, first, frames, noise);
}

static void run_refinement(swm_backend *b, const fixture *f, void *user)
{
    refinement *r = user;
    swm_latent_shape shape = {LATENT, REFINED, HEIGHT, WIDTH};
    swm_error error = {0};
    r->b = b;
    r->fixture = f;
    r->source = (swm_refine_source){
        .generator = {.seed = 42}, .by_frame = true, .channels = LATENT, .height = HEIGHT, .width = WIDTH};
    for (int i = 0; i < LATENT * REFINED * CELLS; i++) r->latent[i] = (float)cos(0.37 * i);
    swm_mark mark = swm_mark_of(b);
    swm_refiner_text_prepare(b, f->refiner, &r->text, TOKENS, f->states);
    swm_refiner_window_take(b, f->refiner, &r->window, r->history, HEIGHT, WIDTH);
    assert_int_equal(swm_refine(&r->how, shape, r->latent, &error), 0);
    swm_release(b, mark);
}

static refinement refinement_of(int64_t block, int64_t history)
{
    refinement r = {.how = swm_refinement_defaults(), .history = history};
    r.how.block = block;
    r.how.history = history > 0;
    r.how.velocity = refine_velocity;
    r.how.noise = refine_noise;
    return r;
}

static void test_one_shot(void **state)
{
    static refinement shot, block, blocks;
    shot = refinement_of(0, 0);
    block = refinement_of(REFINED - 1, 0);
    blocks = refinement_of(3, 4);
    refinement *all[] = {&shot, &block, &blocks};
    for (int i = 0; i < 3; i++) {
        all[i]->how.user = all[i];
        run_job(*state, run_refinement, all[i]);
    }
    check_close(shot.latent, block.latent, LATENT * REFINED * CELLS, 2e-6);
    assert_true(swm_distance_of(shot.latent, blocks.latent, LATENT * REFINED * CELLS).relative > 1e-4);
    for (int64_t c = 0; c < LATENT; c++)
        for (int64_t i = 0; i < CELLS; i++)
            assert_true(shot.latent[c * REFINED * CELLS + i] == (float)cos(0.37 * (double)(c * REFINED * CELLS + i)));
}

/* ---- what a plan says --------------------------------------------------------------------------------------------- */

/* A minute in one shot: the latent's tokens, keys and values whole, all else in slices. */
static void test_plan_of_release(void **state)
{
    (void)state;
    swm_error error = {0};
    swm_weights *weights = swm_weights_declared(&error);
    swm_refiner_config release = swm_refiner_release_config();
    assert_int_equal(swm_refiner_declare(weights, &release, SWM_BF16, &error), 0);
    swm_refiner *refiner = swm_refiner_bind(weights, &release, &error);
    swm_backend *b = swm_backend_open_plan(SWM_BF16, &error);
    assert_true(refiner != NULL && b != NULL);
    swm_refiner_text text;
    swm_refiner_window window;
    swm_refiner_text_prepare(b, refiner, &text, 1024, NULL);
    swm_refiner_window_take(b, refiner, &window, 0, 22, 40);
    size_t before = b->scratch.used;
    double flops = b->work.flops;
    swm_refiner_step step = {.first = 0, .fps = 16, .text = &text, .window = &window, .keep = SWM_REFINER_KEEP_SINK};
    step.latent = SWM_TAKE(b, SWM_BF16, 128, 1, 22, 40);
    assert_false(swm_present(swm_refiner_forward(b, refiner, &step)));
    step.latent = SWM_TAKE(b, SWM_BF16, 128, 120, 22, 40);
    step.first = 1;
    step.sigma = 0.725f;
    step.keep = SWM_REFINER_KEEP_NOTHING;
    b->scratch.peak = b->scratch.used;
    assert_true(swm_present(swm_refiner_forward(b, refiner, &step)));
    double whole = 105600.0 * 4096 * 2, peak = (double)(b->scratch.peak - before);
    assert_true(peak > 3 * whole && peak < 3 * whole + 1.1e9);
    /* 2401 + 8843 + 86 TFLOP for linear layers, self and cross attention of the whole clip */
    assert_true(fabs((b->work.flops - flops) / 11.33e15 - 1) < 0.01);
    swm_backend_close(b);
    free(refiner);
    swm_weights_close(weights);
}

int test_refiner(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_config),
        cmocka_unit_test(test_config_errors),
        cmocka_unit_test(test_release_size),
        cmocka_unit_test(test_shards),
        cmocka_unit_test(test_spans),
        cmocka_unit_test(test_angles),
        cmocka_unit_test_setup_teardown(test_ring, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(test_sink_places, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(test_one_shot, open_fixture, close_fixture),
        cmocka_unit_test(test_plan_of_release),
    };
    return cmocka_run_group_tests_name("refiner", tests, NULL, NULL);
}
