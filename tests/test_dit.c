/* The DiT beyond its goldens: binding, plans, and equalities that the maths promises: streams against whole clips, results
 * that do not depend on threads, on padding or on fractions of a timestep. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "io/safetensors.h"
#include "model/dit.h"
#include "tolerance.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GOLDEN "tests/golden/dit_chunk_causal.safetensors"

int test_dit(void);

/* ---- a small model with made-up inputs ---------------------------------------------------------------------------- */

enum { TOKENS = 12, HEIGHT = 3, WIDTH = 5, CELLS = HEIGHT * WIDTH, LATENT = 16, MOST = 16 };

typedef struct fixture {
    swm_weights *weights;
    swm_dit *dit;
    float x[LATENT * MOST * CELLS], states[TOKENS * 48], conditions[MOST * 20], plucker[48 * MOST * CELLS],
        timesteps[MOST];
    uint8_t mask[TOKENS];
} fixture;

static void fill(float *values, int64_t count, double seed)
{
    for (int64_t i = 0; i < count; i++) values[i] = (float)sin(12.9898 * (double)i + seed);
}

static void fill_conditions(float *conditions)
{
    for (int f = 0; f < MOST; f++) {
        double yaw = 0.05 * f;
        const double c2w[16] = {cos(yaw),  0, sin(yaw), 0.1 * f, 0, 1, 0, 0.02 * f,
                                -sin(yaw), 0, cos(yaw), 0.3 * f, 0, 0, 0, 1};
        for (int i = 0; i < 16; i++) conditions[f * 20 + i] = (float)c2w[i];
        const float k[4] = {3.1f, 3.3f, 2.4f, 1.4f};
        memcpy(conditions + f * 20 + 16, k, sizeof k);
    }
}

static int open_fixture(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    if (f == NULL) return -1;
    *state = f;
    f->weights = swm_weights_open_prefixed(GOLDEN, "weight.", NULL);
    f->dit = f->weights != NULL ? swm_dit_bind(f->weights, 32, 4, NULL) : NULL;
    fill(f->x, LATENT * MOST * CELLS, 1);
    fill(f->states, TOKENS * 48, 2);
    fill(f->plucker, 48 * MOST * CELLS, 3);
    fill_conditions(f->conditions);
    for (int i = 0; i < MOST; i++) f->timesteps[i] = i == 0 ? 0 : 700 - 13 * (float)i;
    for (int i = 0; i < TOKENS; i++) f->mask[i] = i < 9;
    return f->dit != NULL ? 0 : -1;
}

static int close_fixture(void **state)
{
    fixture *f = *state;
    free(f->dit);
    swm_weights_close(f->weights);
    free(f);
    return 0;
}

/* Frames first .. first+count-1 of (C,frames,CELLS). */
static void cut(float *out, const float *in, int64_t channels, int64_t frames, int64_t first, int64_t count)
{
    for (int64_t c = 0; c < channels; c++)
        memcpy(out + c * count * CELLS, in + (c * frames + first) * CELLS, (size_t)(count * CELLS) * sizeof *out);
}

/* Velocity of frames first .. first+count-1 of a clip whose inputs are the fixture's leading frames. */
static void forward(swm_backend *b, const fixture *f, const swm_dit_caption *caption, int64_t frames, int64_t first,
                    int64_t count, swm_chunks chunks, swm_dit_state *state, float *velocity)
{
    float *x = calloc(LATENT * MOST * CELLS, sizeof *x), *plucker = calloc(48 * MOST * CELLS, sizeof *plucker);
    assert_true(x != NULL && plucker != NULL);
    cut(x, f->x, LATENT, frames, first, count);
    cut(plucker, f->plucker, 48, frames, first, count);
    swm_mark mark = swm_mark_of(b);
    swm_dit_cameras cameras = {.frames = count,
                               .height = HEIGHT,
                               .width = WIDTH,
                               .first_frame = first,
                               .conditions = f->conditions + 20 * first,
                               .plucker = plucker};
    swm_dit_view view;
    swm_dit_view_prepare(b, f->dit, &view, &cameras);
    swm_dit_plucker plucker_maps;
    swm_dit_plucker_prepare(b, f->dit, &plucker_maps);
    swm_dit_step step = {.latent = SWM_UPLOAD(b, b->compute, x, LATENT, count, HEIGHT, WIDTH),
                         .timesteps = f->timesteps + first,
                         .caption = caption,
                         .view = &view,
                         .plucker = &plucker_maps,
                         .chunks = chunks,
                         .state = state,
                         .keep = state != NULL};
    swm_download(b, velocity, swm_dit_forward(b, f->dit, &step));
    if (state != NULL) swm_dit_state_advance(b, f->dit, state, count);
    swm_release(b, mark);
    free(plucker);
    free(x);
}

typedef struct clip {
    int64_t frames;
    swm_chunks chunks;
    bool streamed; /* chunk by chunk with a state */
    swm_dit_window window;
} clip;

/* All frames; a stream keeps every chunk as it is. Runs under any backend. */
static void run_clip(swm_backend *b, const fixture *f, const clip *how, float *velocity)
{
    swm_mark mark = swm_mark_of(b);
    swm_dit_caption caption;
    swm_dit_caption_prepare(b, f->dit, &caption, TOKENS, f->states, f->mask);
    if (!how->streamed) {
        forward(b, f, &caption, how->frames, 0, how->frames, how->chunks, NULL, velocity);
    } else {
        swm_dit_state state;
        swm_dit_state_take(b, f->dit, &state, how->window, how->frames, 3, HEIGHT, WIDTH);
        for (int i = 0; i < how->chunks.count; i++) {
            int64_t first = how->chunks.starts[i];
            int64_t count = (i + 1 < how->chunks.count ? how->chunks.starts[i + 1] : how->frames) - first;
            float part[LATENT * MOST * CELLS];
            forward(b, f, &caption, how->frames, first, count, (swm_chunks){1, (int64_t[]){0}}, &state, part);
            for (int64_t c = 0; b->kernels != NULL && c < LATENT; c++)
                memcpy(velocity + (c * how->frames + first) * CELLS, part + c * count * CELLS,
                       (size_t)(count * CELLS) * sizeof *velocity);
        }
    }
    swm_release(b, mark);
}

/* Plan, reserve, run; velocity (LATENT,frames,CELLS) in fresh memory. */
static float *run(const fixture *f, const clip *how, int threads)
{
    swm_error error = {0};
    swm_backend *plan = swm_backend_open_plan(SWM_F32, &error), *b = swm_backend_open_cpu(threads, &error);
    float *velocity = calloc((size_t)(LATENT * how->frames * CELLS), sizeof *velocity);
    assert_true(plan != NULL && b != NULL && velocity != NULL);
    run_clip(plan, f, how, velocity);
    assert_int_equal(swm_backend_reserve(b, plan->scratch.peak, &error), 0);
    run_clip(b, f, how, velocity);
    if (swm_backend_check(b, &error) != 0) fail_msg("%s", error.text);
    assert_int_equal(b->scratch.peak, plan->scratch.peak);
    assert_int_equal(b->work.operations, plan->work.operations);
    assert_true(b->work.flops == plan->work.flops && b->work.bytes == plan->work.bytes && plan->work.flops > 1e6);
    swm_backend_close(plan);
    swm_backend_close(b);
    return velocity;
}

static size_t bytes_of(const clip *how) { return (size_t)(LATENT * how->frames * CELLS) * sizeof(float); }

static double distance(const float *got, const float *want, const clip *how)
{
    swm_distance d = swm_distance_of(got, want, LATENT * how->frames * CELLS);
    assert_true(d.finite);
    return d.relative;
}

static const int64_t starts[] = {0, 4, 7, 10, 13};
#define WHOLE                                                                                                          \
    {                                                                                                                  \
        1, starts                                                                                                      \
    }

/* ---- equalities --------------------------------------------------------------------------------------------------- */

static void test_threads(void **state)
{
    const clip how = {.frames = 7, .chunks = {2, starts}};
    float *one = run(*state, &how, 1);
    for (int threads = 2; threads <= 3; threads++) {
        float *more = run(*state, &how, threads);
        assert_memory_equal(more, one, bytes_of(&how));
        free(more);
    }
    free(one);
}

/* A stream of one chunk has no past: it is the whole clip, seen in both directions. */
static void test_one_chunk(void **state)
{
    const clip whole = {.frames = 4, .chunks = WHOLE};
    const clip stream = {.frames = 4, .chunks = WHOLE, .streamed = true, .window = {-1, false}};
    float *a = run(*state, &whole, 1), *b = run(*state, &stream, 1);
    assert_memory_equal(a, b, bytes_of(&whole));
    free(a);
    free(b);
}

/* Chunks with all of the past in their state see what they see in the whole clip. The clip's length is no multiple of
 * three, where the reference groups the convolution of keys differently. */
static void test_stream(void **state)
{
    const clip whole = {.frames = 13, .chunks = {4, starts}};
    const clip stream = {.frames = 13, .chunks = {4, starts}, .streamed = true, .window = {-1, false}};
    float *a = run(*state, &whole, 1), *b = run(*state, &stream, 1);
    assert_true(distance(b, a, &whole) < 1e-5);
    /* Chunks matter: both directions over the whole clip is another thing. */
    const clip both = {.frames = 13, .chunks = WHOLE};
    float *c = run(*state, &both, 1);
    assert_true(distance(c, a, &whole) > 1e-3);
    free(a);
    free(b);
    free(c);
}

/* A clip of a multiple of three frames has the convolution of keys cut at every third frame, whatever its chunks are. */
static void test_groups_of_three(void **state)
{
    (void)state;
    int64_t found[SWM_MAX_CHUNKS];
    swm_dit_view view = {.frames = 9};
    swm_dit_step step = {.view = &view, .chunks = {2, starts}};
    swm_chunks keys = swm_dit_key_chunks(&step, found);
    assert_int_equal(keys.count, 3);
    assert_true(keys.starts[1] == 3 && keys.starts[2] == 6);
    view.frames = 7;
    assert_ptr_equal(swm_dit_key_chunks(&step, found).starts, starts);
    view.frames = 9;
    swm_dit_state memory = {0};
    step.state = &memory; /* a stream has its past in the tail */
    assert_ptr_equal(swm_dit_key_chunks(&step, found).starts, starts);
}

static void test_windows(void **state)
{
    clip how = {.frames = 16, .chunks = {5, starts}, .streamed = true, .window = {-1, false}};
    float *all = run(*state, &how, 1);
    how.window = (swm_dit_window){8, false};
    float *wide = run(*state, &how, 1);
    assert_memory_equal(wide, all, bytes_of(&how));
    how.window = (swm_dit_window){2, false};
    float *narrow = run(*state, &how, 1);
    how.window = (swm_dit_window){2, true};
    float *sink = run(*state, &how, 1);
    how.window = (swm_dit_window){1, false};
    float *last = run(*state, &how, 1);
    assert_true(distance(narrow, all, &how) > 1e-5 && distance(sink, narrow, &how) > 1e-6 &&
                distance(last, narrow, &how) > 1e-6);
    /* Until the window is full nothing can differ: chunks 0 to 2 have at most two chunks behind them. */
    for (int c = 0; c < LATENT; c++) {
        assert_memory_equal(narrow + c * 16 * CELLS, all + c * 16 * CELLS, 10 * CELLS * sizeof(float));
        assert_memory_equal(sink + c * 16 * CELLS, all + c * 16 * CELLS, 10 * CELLS * sizeof(float));
        assert_memory_equal(last + c * 16 * CELLS, all + c * 16 * CELLS, 7 * CELLS * sizeof(float));
    }
    free(all);
    free(wide);
    free(narrow);
    free(sink);
    free(last);
}

/* The past does not depend on the future. */
static void test_causality(void **state)
{
    fixture *f = *state;
    const clip how = {.frames = 7, .chunks = {2, starts}};
    float *before = run(f, &how, 1);
    for (int c = 0; c < LATENT; c++) f->x[(c * 7 + 6) * CELLS] += 1;
    float *after = run(f, &how, 1);
    for (int c = 0; c < LATENT; c++) {
        assert_memory_equal(after + c * 7 * CELLS, before + c * 7 * CELLS, 4 * CELLS * sizeof(float));
        assert_memory_not_equal(after + (c * 7 + 4) * CELLS, before + (c * 7 + 4) * CELLS, 3 * CELLS * sizeof(float));
    }
    free(before);
    free(after);
}

static void test_caption_padding(void **state)
{
    fixture *f = *state;
    const clip how = {.frames = 4, .chunks = WHOLE};
    float *before = run(f, &how, 1);
    for (int i = 9 * 48; i < TOKENS * 48; i++) f->states[i] = 5;
    float *padded = run(f, &how, 1);
    assert_memory_equal(padded, before, bytes_of(&how));
    f->states[0] += 1;
    float *other = run(f, &how, 1);
    assert_memory_not_equal(other, before, bytes_of(&how));
    free(before);
    free(padded);
    free(other);
}

/* Where valid tokens stand among the others changes nothing; a mask that hides all of them hides none. */
static void test_caption_masks(void **state)
{
    fixture *f = *state;
    const clip how = {.frames = 4, .chunks = WHOLE};
    float *before = run(f, &how, 1), packed[TOKENS * 48];
    memcpy(packed, f->states, sizeof packed);
    for (int i = 0, next = 0; i < TOKENS; i++) {
        f->mask[i] = i % 4 != 1; /* 9 of 12 */
        for (int c = 0; c < 48; c++) f->states[48 * i + c] = f->mask[i] ? packed[48 * next + c] : 5;
        next += f->mask[i];
    }
    float *scattered = run(f, &how, 1);
    assert_memory_equal(scattered, before, bytes_of(&how));
    memset(f->mask, 0, sizeof f->mask);
    float *hidden = run(f, &how, 1);
    memset(f->mask, 1, sizeof f->mask);
    float *seen = run(f, &how, 1);
    assert_memory_equal(hidden, seen, bytes_of(&how));
    assert_memory_not_equal(hidden, before, bytes_of(&how));
    free(before);
    free(scattered);
    free(hidden);
    free(seen);
}

static void test_timesteps_are_whole(void **state)
{
    fixture *f = *state;
    const clip how = {.frames = 4, .chunks = WHOLE};
    float *before = run(f, &how, 1);
    for (int i = 1; i < 4; i++) f->timesteps[i] += 0.875f;
    float *fraction = run(f, &how, 1);
    assert_memory_equal(fraction, before, bytes_of(&how));
    f->timesteps[3] += 0.25f;
    float *next = run(f, &how, 1);
    assert_memory_not_equal(next, before, bytes_of(&how));
    free(before);
    free(fraction);
    free(next);
}

/* ---- binding ------------------------------------------------------------------------------------------------------ */

/* The golden's weights with `name` left out, or with its last dimension cut off when `cut_short`. */
static void check_refused(const char *name, bool cut_short, const char *needle)
{
    enum { MOST_TENSORS = 256 };
    swm_error error = {0};
    char path[] = "/tmp/test_dit_XXXXXX.safetensors";
    int descriptor = mkstemps(path, 12);
    assert_true(descriptor >= 0);
    close(descriptor);
    swm_weights *all = swm_weights_open_prefixed(GOLDEN, "weight.", &error);
    assert_non_null(all);
    const char *names[MOST_TENSORS];
    swm_tensor tensors[MOST_TENSORS];
    size_t count = 0;
    for (size_t i = 0; i < swm_weights_count(all); i++) {
        tensors[count] = *swm_weights_at(all, i, &names[count]);
        if (strcmp(names[count], name) == 0) {
            if (!cut_short) continue;
            tensors[count].shape[0]--;
        }
        count++;
    }
    assert_int_equal(swm_safetensors_save(path, count, names, tensors, NULL, &error), 0);
    swm_weights *some = swm_weights_open(path, &error);
    assert_non_null(some);
    swm_dit *dit = swm_dit_bind(some, 32, 4, &error);
    unlink(path);
    swm_weights_close(some);
    swm_weights_close(all);
    free(dit);
    assert_null(dit);
    if (strstr(error.text, needle) == NULL || strstr(error.text, "/tmp/test_dit") == NULL)
        fail_msg("\"%s\" lacks \"%s\" or the file", error.text, needle);
}

static void test_missing_and_misshapen(void **state)
{
    (void)state;
    static const char *const names[] = {
        "x_embedder.proj.weight",          "final_layer.scale_shift_table",      "blocks.1.attn.A_log",
        "blocks.2.attn.conv_k_cam.weight", "blocks.3.cross_attn.kv_linear.bias", "blocks.0.mlp.t_conv.weight",
        "blocks.3.plucker_proj.weight"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        check_refused(names[i], false, names[i]);
        check_refused(names[i], true, names[i]);
    }
    check_refused("blocks.0.scale_shift_table", false, "blocks"); /* seems to have no blocks */
    check_refused("x_embedder.proj.bias", false, "x_embedder.proj.bias");
}

static void test_heads(void **state)
{
    const fixture *f = *state;
    const int64_t wrong[] = {0, 7, 48, -32, 1 << 20};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        swm_error error = {0};
        assert_null(swm_dit_bind(f->weights, wrong[i], 4, &error));
        assert_non_null(strstr(error.text, "linear_head_dim"));
    }
    assert_int_equal(f->dit->size.heads, 2);
    assert_int_equal(f->dit->size.depth, 4);
    assert_int_equal(f->dit->size.latent_channels, 16);
    assert_int_equal(f->dit->size.caption_channels, 48);
    assert_int_equal(f->dit->size.ffn, 192);
    assert_true(swm_dit_is_softmax(&f->dit->size, 3) && !swm_dit_is_softmax(&f->dit->size, 2));
}

/* The release exists as shapes, which bind and can be planned. */
static void test_release(void **state)
{
    (void)state;
    swm_error error = {0};
    swm_weights *declared = swm_weights_declared(&error);
    swm_dit_size size = swm_dit_release_size();
    assert_int_equal(swm_dit_declare(declared, &size, SWM_BF16, &error), 0);
    assert_true(fabs((double)swm_weights_parameters(declared) - 2.66e9) < 1e7);
    swm_dit *dit = swm_dit_bind(declared, size.head, size.softmax_every, &error);
    if (dit == NULL) fail_msg("%s", error.text);
    assert_int_equal(dit->size.depth, 20);
    swm_backend *plan = swm_backend_open_plan(SWM_BF16, &error);
    swm_mark mark = swm_mark_of(plan);
    swm_dit_caption caption;
    swm_dit_caption_prepare(plan, dit, &caption, 300, NULL, NULL);
    swm_dit_view view;
    swm_dit_view_prepare(plan, dit, &view, &(swm_dit_cameras){.frames = 41, .height = 22, .width = 40});
    swm_dit_plucker plucker;
    swm_dit_plucker_prepare(plan, dit, &plucker);
    double before = plan->work.flops;
    swm_dit_step step = {.latent = SWM_TAKE(plan, SWM_BF16, 128, 41, 22, 40),
                         .caption = &caption,
                         .view = &view,
                         .plucker = &plucker,
                         .chunks = WHOLE};
    swm_tensor v = swm_dit_forward(plan, dit, &step);
    assert_true(v.rank == 4 && v.shape[0] == 128 && v.shape[1] == 41 && v.data == NULL);
    assert_true(plan->work.flops - before >
                2 * 2.5e9 * 41 * 22 * 40); /* at least one multiply-add a weight and token */
    swm_release(plan, mark);
    assert_int_equal(plan->scratch.used, 0);
    assert_int_equal(swm_backend_check(plan, &error), 0);
    swm_backend_close(plan);
    free(dit);
    swm_weights_close(declared);
}

/* ---- traces ------------------------------------------------------------------------------------------------------- */

static void count_trace(void *user, swm_backend *b, const char *name, swm_tensor value)
{
    (void)b;
    int *count = user;
    count[0]++;
    count[1] += strncmp(name, "blocks.", 7) == 0;
    assert_true(value.rank >= 2 && value.data != NULL);
}

static void test_traces(void **state)
{
    const fixture *f = *state;
    swm_error error = {0};
    int count[2] = {0};
    const clip how = {.frames = 4, .chunks = WHOLE};
    swm_backend *b = swm_backend_open_cpu(1, &error);
    assert_int_equal(swm_backend_reserve(b, 64 << 20, &error), 0);
    b->trace = count_trace;
    b->trace_user = count;
    float velocity[LATENT * 4 * CELLS];
    run_clip(b, f, &how, velocity);
    assert_int_equal(count[1], 4 * 4);
    assert_int_equal(count[0], 4 * 4 + 6);
    swm_backend_close(b);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_fixture, close_fixture)

int test_dit(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_threads),
        TEST(test_one_chunk),
        TEST(test_stream),
        cmocka_unit_test(test_groups_of_three),
        TEST(test_windows),
        TEST(test_causality),
        TEST(test_caption_padding),
        TEST(test_caption_masks),
        TEST(test_timesteps_are_whole),
        cmocka_unit_test(test_missing_and_misshapen),
        TEST(test_heads),
        cmocka_unit_test(test_release),
        TEST(test_traces),
    };
    return cmocka_run_group_tests_name("dit", tests, NULL, NULL);
}
