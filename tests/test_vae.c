/* The video autoencoder: goldens of encoder and decoder with their intermediates, tiles, streams, and plan against run. */
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

#include "io/safetensors.h"
#include "model/vae.h"
#include "ops.h"
#include "place.h"

int test_vae(void);

/* fp32 against fp32 in another order of summation; files that store results in F16 add 2^-11. */
#define TOLERANCE     1e-4
#define TOLERANCE_F16 1e-3

/* ---- models ------------------------------------------------------------------------------------------------------- */

static const char *weights_path(void) { return place_path("vae.safetensors"); }

/* A model with its weights, and the golden file it came from if it did. */
typedef struct fixture {
    swm_safetensors *golden;
    swm_weights *weights;
    swm_vae *vae;
} fixture;

static void bind_saved(fixture *f, const swm_vae_config *config, size_t count, const char *const *names,
                       const swm_tensor *tensors)
{
    swm_error error = {0};
    if (swm_safetensors_save(weights_path(), count, names, tensors, NULL, &error) == 0)
        f->weights = swm_weights_open(weights_path(), &error);
    if (f->weights != NULL) f->vae = swm_vae_bind(f->weights, config, SWM_VAE_BOTH, &error);
    if (f->vae == NULL) fail_msg("%s", error.text);
}

enum { MAX_TENSORS = 256 };

static void open_golden(fixture *f, const char *path)
{
    *f = (fixture){0};
    swm_error error = {0};
    f->golden = swm_safetensors_open(path, &error);
    if (f->golden == NULL) fail_msg("%s", error.text);
    const char *text = swm_safetensors_metadata(f->golden, "config");
    swm_vae_config config;
    cJSON *json = swm_json_parse("config", text, strlen(text), &error);
    if (json == NULL || swm_vae_config_from_json(&config, "config", json, &error) != 0) fail_msg("%s", error.text);
    cJSON_Delete(json);
    const char *names[MAX_TENSORS];
    swm_tensor tensors[MAX_TENSORS];
    size_t count = 0;
    for (size_t i = 0; i < swm_safetensors_count(f->golden); i++) {
        const char *name;
        const swm_tensor *t = swm_safetensors_at(f->golden, i, &name);
        if (strncmp(name, "weight.", 7) != 0) continue;
        assert_true(count < MAX_TENSORS);
        names[count] = name + 7;
        tensors[count++] = *t;
    }
    bind_saved(f, &config, count, names, tensors);
}

static void close_fixture(fixture *f)
{
    free(f->vae);
    swm_weights_close(f->weights);
    unlink(weights_path());
    swm_safetensors_close(f->golden);
}

static const swm_tensor *golden_tensor(const fixture *f, const char *name)
{
    const swm_tensor *t = swm_safetensors_find(f->golden, name);
    if (t == NULL || t->rank != 5) fail_msg("no golden %s", name);
    return t;
}

/* (1,C,T,H,W) of a file as (T,H,W,C) floats in fresh memory. */
static float *golden_values(const fixture *f, const char *name)
{
    const swm_tensor *t = golden_tensor(f, name);
    int64_t count = swm_count(*t), channels = t->shape[1], positions = count / channels;
    float *stored = malloc((size_t)count * sizeof *stored), *values = malloc((size_t)count * sizeof *values);
    assert_non_null(stored);
    assert_non_null(values);
    swm_to_f32(stored, t->data, t->dtype, (size_t)count);
    for (int64_t i = 0; i < count; i++) values[i] = stored[i % channels * positions + i / channels];
    free(stored);
    return values;
}

/* An input: values under a run, shapes alone under a plan. */
static swm_tensor golden_input(const fixture *f, swm_backend *b, const char *name)
{
    const swm_tensor *t = golden_tensor(f, name);
    float *values = golden_values(f, name);
    swm_tensor x = SWM_UPLOAD(b, SWM_F32, values, t->shape[2], t->shape[3], t->shape[4], t->shape[1]);
    free(values);
    return x;
}

static void check_golden(const fixture *f, const char *name, const float *values, int64_t count)
{
    const swm_tensor *t = golden_tensor(f, name);
    assert_int_equal(swm_count(*t), count);
    float *expected = golden_values(f, name);
    ops_check_close(name, values, expected, count, t->dtype == SWM_F16 ? TOLERANCE_F16 : TOLERANCE);
    free(expected);
}

/* Compares whatever the golden file has of the intermediates. */
typedef struct comparison {
    const fixture *f;
    const char *prefix;
    int seen;
} comparison;

static void compare_trace(void *user, swm_backend *b, const char *name, swm_tensor value)
{
    comparison *c = user;
    char key[64];
    snprintf(key, sizeof key, "%s%s", c->prefix, name);
    if (b->kernels == NULL || swm_safetensors_find(c->f->golden, key) == NULL) return;
    check_golden(c->f, key, swm_floats(value), swm_count(value));
    c->seen++;
}

/* Frames as they come, in host memory. */
typedef struct film {
    int64_t frames, size, spans;
    float *values; /* of up to `capacity` frames; NULL under plan */
    int64_t stop_after;
} film;

static int keep_frames(void *user, swm_backend *b, int64_t first_frame, swm_tensor frames)
{
    film *f = user;
    assert_int_equal(first_frame, f->frames);
    f->size = swm_row_size(frames);
    f->frames += frames.shape[0];
    f->spans++;
    if (b->kernels != NULL) {
        f->values = realloc(f->values, (size_t)(f->frames * f->size) * sizeof(float));
        assert_non_null(f->values);
        swm_download(b, f->values + first_frame * f->size, frames);
    }
    return f->stop_after > 0 && f->spans >= f->stop_after;
}

/* A job of a test, run on a plan and then on a CPU with exactly the planned memory. */
typedef void (*job)(const fixture *f, swm_backend *b, void *user);

static void plan_and_run(const fixture *f, job run, void *user)
{
    swm_error error = {0};
    swm_backend *plan = swm_backend_open_plan(SWM_F32, &error);
    assert_non_null(plan);
    run(f, plan, user);
    size_t peak = plan->scratch.peak;
    swm_work work = plan->work;
    ops_close_cpu(plan);
    swm_backend *b = ops_open_cpu(1, peak); /* threads are the business of the tests of kernels */
    run(f, b, user);
    assert_int_equal(b->scratch.peak, peak);
    assert_true(b->work.flops == work.flops && b->work.operations == work.operations);
    ops_close_cpu(b);
}

/* ---- goldens ------------------------------------------------------------------------------------------------------ */

typedef struct encode_job {
    const char *in, *out, *traces;
    int seen;
} encode_job;

static void run_encode(const fixture *f, swm_backend *b, void *user)
{
    encode_job *e = user;
    comparison compare = {f, e->traces, 0};
    swm_mark mark = swm_mark_of(b);
    swm_tensor x = golden_input(f, b, e->in);
    b->trace = e->traces != NULL ? compare_trace : NULL;
    b->trace_user = &compare;
    swm_tensor latent = swm_vae_encode(b, f->vae, x, &swm_vae_reference_tiling);
    if (b->kernels != NULL) check_golden(f, e->out, swm_floats(latent), swm_count(latent));
    e->seen = compare.seen;
    swm_release(b, mark);
}

typedef struct decode_job {
    const char *in, *out, *traces;
    swm_vae_tiling tiling;
    int64_t latents; /* 0: all */
    int seen, spans;
} decode_job;

static void run_decode(const fixture *f, swm_backend *b, void *user)
{
    decode_job *d = user;
    comparison compare = {f, d->traces, 0};
    film shown = {0};
    swm_tensor z = golden_input(f, b, d->in);
    if (d->latents > 0) z = swm_rows(z, 0, d->latents);
    b->trace = d->traces != NULL ? compare_trace : NULL;
    b->trace_user = &compare;
    assert_int_equal(swm_vae_decode(b, f->vae, z, &d->tiling, keep_frames, &shown), 0);
    assert_int_equal(shown.frames, 8 * z.shape[0] - 7);
    assert_int_equal(shown.spans, d->spans);
    if (b->kernels != NULL) check_golden(f, d->out, shown.values, shown.frames * shown.size);
    d->seen = compare.seen;
    free(shown.values);
}

static void symmetric_goldens_are_met(void **state)
{
    (void)state;
    fixture f;
    open_golden(&f, "tests/golden/vae.safetensors");
    encode_job encodes[] = {{"in.image", "out.image_latent", "img.act.", 0}, {"in.video", "out.video_latent", NULL, 0}};
    for (int i = 0; i < 2; i++) plan_and_run(&f, run_encode, &encodes[i]);
    assert_int_equal(encodes[0].seen, 6);
    const swm_vae_tiling time = {.frames = 16, .frame_stride = 8, .reference_lag = true};
    const swm_vae_tiling space = {.height = 96, .width = 96, .stride = 64};
    swm_vae_tiling both = space;
    both.frames = 16, both.frame_stride = 8, both.reference_lag = true;
    decode_job decodes[] = {
        {"in.z", "out.decoded", "dec.act.", {0}, 0, 0, 1},
        {"in.z", "out.decoded_1frame", NULL, {0}, 1, 0, 1},
        {"in.z_framewise", "out.decoded_framewise", NULL, time, 0, 0, 4},
        {"in.z_tiled", "out.decoded_tiled", NULL, space, 0, 0, 1},
        {"in.z_tiled_framewise", "out.decoded_tiled_framewise", NULL, both, 0, 0, 2},
    };
    for (int i = 0; i < 5; i++) plan_and_run(&f, run_decode, &decodes[i]);
    assert_int_equal(decodes[0].seen, 3);
    close_fixture(&f);
}

/* A stream in the calls of `counts`, denormalised on the host. */
static void run_stream(const fixture *f, swm_backend *b, void *user)
{
    const int64_t *counts = user; /* ends with 0 */
    const swm_tensor *shape = golden_tensor(f, "in.z");
    int64_t height = shape->shape[3], width = shape->shape[4], channels = shape->shape[1];
    float *values = golden_values(f, "in.z");
    swm_vae_denormalise(f->vae, values, shape->shape[2] * height * width);
    swm_vae_state *state = malloc(sizeof *state);
    assert_non_null(state);
    swm_vae_state_take(b, f->vae, state, height, width);
    for (int pass = 0; pass < 2; pass++) { /* the second must not see anything of the first */
        film shown = {0};
        state->frames = 0;
        int64_t first = 0;
        for (const int64_t *n = counts; *n > 0; first += *n++) {
            swm_mark mark = swm_mark_of(b);
            swm_tensor z =
                SWM_UPLOAD(b, SWM_F32, values + first * height * width * channels, *n, height, width, channels);
            swm_tensor frames = swm_vae_decode_next(b, f->vae, state, z);
            assert_int_equal(frames.shape[0], first == 0 ? 8 * *n - 7 : 8 * *n);
            keep_frames(&shown, b, state->frames - frames.shape[0], frames);
            swm_release(b, mark);
        }
        if (b->kernels != NULL) check_golden(f, "out.stream", shown.values, shown.frames * shown.size);
        free(shown.values);
    }
    free(state);
    free(values);
}

static void causal_goldens_are_met(void **state)
{
    (void)state;
    fixture f;
    open_golden(&f, "tests/golden/vae_causal.safetensors");
    plan_and_run(&f, run_encode, &(encode_job){"in.image", "out.image_latent", NULL, 0});
    plan_and_run(&f, run_decode, &(decode_job){"in.z", "out.decoded_whole", NULL, {0}, 0, 0, 1});
    plan_and_run(&f, run_stream, (int64_t[]){4, 2, 1, 0});
    plan_and_run(&f, run_stream, (int64_t[]){1, 3, 3, 0});
    plan_and_run(&f, run_stream, (int64_t[]){1, 1, 1, 1, 1, 1, 1, 0});
    plan_and_run(&f, run_stream, (int64_t[]){7, 0});
    close_fixture(&f);
}

/* One frame takes a shortcut with weights summed over time; the first latent of a video takes the long way, and a causal
 * encoder makes the same of it. */
static void a_lone_frame_is_encoded_like_the_first_of_a_video(void **state)
{
    (void)state;
    fixture f;
    open_golden(&f, "tests/golden/vae.safetensors");
    swm_backend *b = ops_open_cpu(1, 64 << 20);
    swm_tensor video = golden_input(&f, b, "in.video");
    swm_tensor all = swm_vae_encode(b, f.vae, video, NULL);
    swm_tensor first = swm_vae_encode(b, f.vae, swm_rows(video, 0, 1), NULL);
    ops_check_close("first latent", swm_floats(first), swm_floats(all), swm_count(first), 1e-5);
    ops_close_cpu(b);
    close_fixture(&f);
}

static void statistics_invert_each_other(void **state)
{
    (void)state;
    fixture f;
    open_golden(&f, "tests/golden/vae.safetensors");
    int64_t channels = f.vae->config.latent_channels, count = 5 * channels;
    float *values = ops_floats(count, 1), *same = ops_floats(count, 1);
    swm_vae_normalise(f.vae, values, 5);
    float expected = (same[channels + 3] - f.vae->mean[3]) / f.vae->deviation[3];
    ops_check_near(values[channels + 3], (double)expected);
    swm_vae_denormalise(f.vae, values, 5);
    ops_check_close("round trip", values, same, count, 1e-6);
    free(values);
    free(same);
    close_fixture(&f);
}

/* ---- tiles -------------------------------------------------------------------------------------------------------- */

static const swm_vae_config small_config = {
    .latent_channels = 4,
    .encoder_blocks = 4,
    .encoder_channels = {4, 8, 16, 32},
    .encoder_layers = {1, 0, 0, 0, 0},
    .encoder_stride = {{1, 2, 2}, {2, 1, 1}, {2, 2, 2}, {2, 2, 2}},
    .decoder_blocks = 3,
    .decoder_channels = {32, 16, 8},
    .decoder_layers = {0, 0, 1, 0},
    .encoder_causal = true,
    .decoder_padding = SWM_PAD_REFLECT,
    .scaling_factor = 1,
};

/* Random weights on the middle tap and zeros on all others: every result depends on its own latent alone, so that tiles,
 * cut and mixed rightly, cannot change anything. */
static void open_pointwise(fixture *f)
{
    *f = (fixture){0};
    swm_error error = {0};
    swm_weights *shapes = swm_weights_declared(&error);
    assert_non_null(shapes);
    assert_int_equal(swm_vae_declare(shapes, &small_config, SWM_F32, &error), 0);
    size_t count = swm_weights_count(shapes);
    const char *names[MAX_TENSORS];
    swm_tensor tensors[MAX_TENSORS];
    assert_true(count <= MAX_TENSORS);
    for (size_t i = 0; i < count; i++) {
        tensors[i] = *swm_weights_at(shapes, i, &names[i]);
        float *values = ops_floats(swm_count(tensors[i]), (int)i);
        bool statistic = tensors[i].rank == 1 && strncmp(names[i], "latents_", 8) == 0;
        int64_t middle = strncmp(names[i], "encoder.", 8) == 0 ? 22 : 13; /* causal: the last frame is the present */
        for (int64_t k = 0; k < swm_count(tensors[i]); k++) {
            if (statistic) values[k] = 1;
            if (tensors[i].rank == 5 && k % 27 != middle) values[k] = 0;
        }
        tensors[i].data = values;
    }
    bind_saved(f, &small_config, count, names, tensors);
    for (size_t i = 0; i < count; i++) free(tensors[i].data);
    swm_weights_close(shapes);
}

/* A random latent decoded, plan and run; frames in `film`. */
typedef struct tile_job {
    int64_t latents, height, width;
    swm_vae_tiling tiling;
    film film;
} tile_job;

static void run_tiles(const fixture *f, swm_backend *b, void *user)
{
    tile_job *t = user;
    t->film = (film){0};
    swm_tensor z = OPS_MAKE(b, SWM_F32, 7, t->latents, t->height, t->width, 4);
    assert_int_equal(swm_vae_decode(b, f->vae, z, &t->tiling, keep_frames, &t->film), 0);
    assert_int_equal(t->film.frames, 8 * t->latents - 7);
}

static void spatial_tiles_fit_together(void **state)
{
    (void)state;
    fixture f;
    open_pointwise(&f);
    static const struct {
        int64_t height, width, tile_height, tile_width, stride;
    } cases[] = {{3, 7, 96, 96, 64}, {7, 5, 96, 64, 64}, {9, 2, 128, 96, 64}, {6, 6, 192, 160, 64}, {2, 4, 96, 96, 64}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tile_job whole = {2, cases[i].height, cases[i].width, {0}, {0}}, tiled = whole;
        tiled.tiling.height = cases[i].tile_height;
        tiled.tiling.width = cases[i].tile_width;
        tiled.tiling.stride = cases[i].stride;
        plan_and_run(&f, run_tiles, &whole);
        plan_and_run(&f, run_tiles, &tiled);
        ops_check_close("tiled", tiled.film.values, whole.film.values, whole.film.frames * whole.film.size, 1e-6);
        free(whole.film.values);
        free(tiled.film.values);
    }
    close_fixture(&f);
}

/* Tiles of 3 latents every 2 with an overlap of 8 frames. By default every frame is the true one. With the reference's
 * lag, frames after the first seam show the frame before, and mixtures of both lie between. */
static void temporal_tiles_fit_together(void **state)
{
    (void)state;
    fixture f;
    open_pointwise(&f);
    for (int64_t latents = 1; latents <= 12; latents++) {
        tile_job whole = {latents, 2, 2, {0}, {0}}, tiled = whole, late = whole;
        tiled.tiling = (swm_vae_tiling){.frames = 24, .frame_stride = 16};
        late.tiling = (swm_vae_tiling){.frames = 24, .frame_stride = 16, .reference_lag = true};
        plan_and_run(&f, run_tiles, &whole);
        plan_and_run(&f, run_tiles, &tiled);
        plan_and_run(&f, run_tiles, &late);
        const int64_t size = whole.film.size, frames = whole.film.frames;
        ops_check_close("tiled", tiled.film.values, whole.film.values, frames * size, 1e-6);
        for (int64_t k = 0; k < frames; k++) {
            double share = latents <= 3 ? 0 : k <= 17 ? 0 : k >= 25 ? 1 : (double)(k - 17) / 8;
            const float *now = whole.film.values + k * size, *before = now - size;
            for (int64_t i = 0; i < size; i++)
                ops_check_near(late.film.values[k * size + i],
                               (double)now[i] * (1 - share) + (share > 0 ? (double)before[i] * share : 0));
        }
        free(whole.film.values);
        free(tiled.film.values);
        free(late.film.values);
    }
    close_fixture(&f);
}

/* A convolution over a video in spans, first spans of one frame and spans that leave nothing included, against the whole
 * of it: the same bits. With the residual as the result, and without. */
static void conv_in_spans_is_conv_of_the_whole(void **state)
{
    (void)state;
    static const int64_t spans[][6] = {{5}, {1, 4}, {4, 1}, {1, 1, 1, 1, 1}, {2, 2, 1}};
    enum { T = 5, H = 3, W = 4, I = 6, O = 19 };
    swm_backend *b = ops_open_cpu(1, 8 << 20);
    swm_tensor x = OPS_MAKE(b, SWM_F32, 3, T, H, W, I), residual = OPS_MAKE(b, SWM_F32, 4, T, H, W, O);
    swm_conv3d how = {.weight = OPS_MAKE(b, SWM_F32, 1, O, I, 3, 3, 3),
                      .bias = OPS_MAKE(b, SWM_F32, 2, O),
                      .reflect = true,
                      .norm_silu = true,
                      .residual = residual};
    swm_tensor whole = swm_conv(b, x, &how);
    for (size_t n = 0; n < sizeof spans / sizeof spans[0]; n++) {
        swm_mark mark = swm_mark_of(b);
        swm_tensor y = SWM_TAKE(b, SWM_F32, T, H, W, O);
        swm_copy(b, y, residual);
        how.cache = OPS_MAKE(b, SWM_F32, 5, 2, H + 2, W + 2, I);
        how.cache_filled = false;
        int64_t first = 0, done = 0;
        for (const int64_t *count = spans[n]; *count > 0; first += *count++) {
            how.open = first + *count < T;
            int64_t frames = swm_conv_frames(&how, *count);
            how.residual = swm_rows(y, done, frames);
            swm_conv_to(b, how.residual, swm_rows(x, first, *count), &how);
            how.cache_filled = true;
            done += frames;
        }
        assert_int_equal(done, T);
        assert_memory_equal(y.data, whole.data, swm_bytes(whole));
        swm_release(b, mark);
    }
    ops_close_cpu(b);
}

static void run_random(const fixture *f, swm_backend *b, void *user)
{
    tile_job *t = user;
    t->film = (film){0};
    swm_tensor z = OPS_MAKE(b, SWM_F32, 7, t->latents, t->height, t->width, f->vae->config.latent_channels);
    assert_int_equal(swm_vae_decode(b, f->vae, z, &t->tiling, keep_frames, &t->film), 0);
    assert_int_equal(t->film.frames, 8 * t->latents - 7);
}

/* However the decoder cuts its way through a clip, every bit of every frame is the same, causal or not. Spans of one
 * element mean one frame of input to every stage at a time; the others cut some levels and not others. */
static void spans_make_the_same_frames(void **state)
{
    (void)state;
    static const char *const paths[] = {"tests/golden/vae.safetensors", "tests/golden/vae_causal.safetensors"};
    static const int64_t latents[] = {1, 2, 3, 9};
    for (int model = 0; model < 2; model++) {
        fixture f;
        open_golden(&f, paths[model]);
        const swm_vae_config *config = &f.vae->config;
        for (size_t i = 0; i < sizeof latents / sizeof latents[0]; i++) {
            tile_job whole = {latents[i], 2, 3, {0}, {0}};
            plan_and_run(&f, run_random, &whole);
            assert_int_equal(whole.film.spans, 1);
            int64_t level = 6 * config->decoder_channels[0]; /* elements a latent, twice as many on the next level */
            const int64_t spans[] = {1, 5 * level, 9 * level, 40 * level};
            for (size_t k = 0; k < sizeof spans / sizeof spans[0]; k++) {
                tile_job cut = whole;
                cut.tiling.span = spans[k];
                plan_and_run(&f, run_random, &cut);
                assert_true(cut.film.spans > 1 || latents[i] < 3 || k == 3);
                assert_memory_equal(cut.film.values, whole.film.values,
                                    (size_t)(whole.film.frames * whole.film.size) * sizeof(float));
                free(cut.film.values);
            }
            free(whole.film.values);
        }
        close_fixture(&f);
    }
}

static bool interrupt(void *user)
{
    (void)user;
    return true;
}

static void a_callback_can_stop_the_decoding(void **state)
{
    (void)state;
    fixture f;
    open_pointwise(&f);
    swm_backend *b = ops_open_cpu(1, 16 << 20);
    film shown = {.stop_after = 2};
    swm_tensor z = OPS_MAKE(b, SWM_F32, 1, 9, 2, 2, 4);
    const swm_vae_tiling tiling = {.frames = 24, .frame_stride = 16};
    size_t used = b->scratch.used;
    assert_int_equal(swm_vae_decode(b, f.vae, z, &tiling, keep_frames, &shown), -1);
    assert_int_equal(shown.spans, 2);
    assert_int_equal(b->scratch.used, used);
    free(shown.values);

    shown = (film){.stop_after = 2};
    const swm_vae_tiling cut = {.span = 1};
    assert_int_equal(swm_vae_decode(b, f.vae, z, &cut, keep_frames, &shown), -1);
    assert_int_equal(shown.spans, 2);
    assert_int_equal(b->scratch.used, used);
    free(shown.values);

    shown = (film){0};
    b->interrupted = interrupt; /* a failed backend shows nothing */
    assert_int_equal(swm_vae_decode(b, f.vae, z, &tiling, keep_frames, &shown), -1);
    assert_int_equal(swm_vae_decode(b, f.vae, z, NULL, keep_frames, &shown), -1);
    assert_int_equal(swm_vae_decode(b, f.vae, z, &cut, keep_frames, &shown), -1);
    assert_int_equal(shown.spans, 0);
    assert_int_equal(b->scratch.used, used);
    swm_error error = {0};
    assert_int_equal(swm_backend_check(b, &error), -1);
    ops_close_cpu(b);
    close_fixture(&f);
}

/* Two tiles side by side, put together by hand. */
static void encoded_tiles_are_blended(void **state)
{
    (void)state;
    fixture f;
    open_golden(&f, "tests/golden/vae.safetensors");
    swm_backend *b = ops_open_cpu(1, 64 << 20);
    swm_tensor picture = OPS_MAKE(b, SWM_F32, 1, 1, 64, 160, 3);
    const swm_vae_tiling tiling = {.height = 128, .width = 128, .stride = 64};
    swm_tensor out = swm_vae_encode(b, f.vae, picture, &tiling);
    swm_tensor tiles[3];
    for (int64_t j = 0; j < 2; j++) { /* a third tile would be one latent wide, so the second goes on to the end */
        const int64_t zero[4] = {0}, from[4] = {0, 0, 64 * j, 0};
        swm_tensor part = SWM_TAKE(b, SWM_F32, 1, 64, j == 0 ? 128 : 96, 3);
        swm_paste(b, part, zero, picture, from, part.shape);
        tiles[j] = swm_vae_encode(b, f.vae, part, NULL);
    }
    for (int64_t n = 0; n < swm_count(out); n++) {
        int64_t c = n % 16, w = n / 16 % 5, h = n / 80;
        double share = w < 2 ? 0 : w == 3 ? 0.5 : w == 2 ? 0 : 1;
        double expected = (w < 4 ? (double)ops_at4(tiles[0], 0, h, w, c) * (1 - share) : 0) +
                          (w > 1 ? (double)ops_at4(tiles[1], 0, h, w - 2, c) * share : 0);
        ops_check_near(swm_floats(out)[n], expected);
    }
    ops_close_cpu(b);
    close_fixture(&f);
}

static void encoded_tiles_fit_together(void **state)
{
    (void)state;
    fixture f;
    open_pointwise(&f);
    swm_backend *b = ops_open_cpu(1, 64 << 20);
    swm_tensor picture = OPS_MAKE(b, SWM_F32, 1, 1, 192, 224, 3);
    const swm_vae_tiling tiling = {.height = 96, .width = 128, .stride = 64};
    swm_tensor whole = swm_vae_encode(b, f.vae, picture, NULL), tiled = swm_vae_encode(b, f.vae, picture, &tiling);
    ops_check_close("tiled", swm_floats(tiled), swm_floats(whole), swm_count(whole), 1e-6);
    ops_close_cpu(b);
    close_fixture(&f);
}

/* ---- binding and planning ----------------------------------------------------------------------------------------- */

static const swm_vae_config released_config = {
    .latent_channels = 128,
    .encoder_blocks = 4,
    .encoder_channels = {256, 512, 1024, 2048},
    .encoder_layers = {4, 6, 6, 2, 2},
    .encoder_stride = {{1, 2, 2}, {2, 1, 1}, {2, 2, 2}, {2, 2, 2}},
    .decoder_blocks = 3,
    .decoder_channels = {1024, 512, 256},
    .decoder_layers = {5, 5, 5, 5},
    .encoder_causal = true,
    .decoder_padding = SWM_PAD_REFLECT,
    .scaling_factor = 1,
};

static int count_frames(void *user, swm_backend *b, int64_t first_frame, swm_tensor frames)
{
    (void)b;
    int64_t *shown = user;
    assert_int_equal(first_frame, *shown);
    *shown += frames.shape[0];
    return 0;
}

/* The released size without any file: number of parameters and FLOPs as the model's description has them. */
static void the_released_size_is_planned(void **state)
{
    (void)state;
    swm_error error = {0};
    swm_weights *weights = swm_weights_declared(&error);
    assert_int_equal(swm_vae_declare(weights, &released_config, SWM_BF16, &error), 0);
    assert_int_equal(swm_weights_count(weights), 184);
    assert_int_equal(swm_weights_parameters(weights), 1222479857);
    swm_vae *vae = swm_vae_bind(weights, &released_config, SWM_VAE_BOTH, &error);
    assert_non_null(vae);
    swm_backend *plan = swm_backend_open_plan(SWM_BF16, &error);
    swm_tensor z = SWM_TAKE(plan, SWM_BF16, 121, 22, 40, 128);
    int64_t shown = 0;
    assert_int_equal(swm_vae_decode(plan, vae, z, NULL, count_frames, &shown), 0);
    assert_int_equal(shown, 961);
    assert_true(fabs(plan->work.flops * 1e-12 - 1085.6) < 0.1); /* nothing twice */
    assert_true(plan->scratch.peak < (size_t)6000 << 20);
    plan->work = (swm_work){0};
    plan->scratch.peak = plan->scratch.used;
    shown = 0;
    assert_int_equal(swm_vae_decode(plan, vae, z, &swm_vae_reference_tiling, count_frames, &shown), 0);
    assert_int_equal(shown, 961);
    /* 3.1 less than with a last tile of one latent, whose only frame is thrown away */
    assert_true(fabs(plan->work.flops * 1e-12 - 1953.2) < 0.1);
    assert_true(plan->scratch.peak < (size_t)5000 << 20);
    swm_backend_close(plan);
    free(vae);
    swm_weights_close(weights);
}

static void unusable_models_are_refused(void **state)
{
    (void)state;
    swm_error error = {0};
    swm_vae_config config = small_config;
    config.decoder_channels[2] = 4;
    swm_weights *weights = swm_weights_declared(&error);
    assert_int_equal(swm_vae_declare(weights, &config, SWM_F32, &error), -1);
    assert_non_null(strstr(error.text, "multiples of 8"));
    swm_weights_close(weights);

    error = (swm_error){0};
    weights = swm_weights_declared(&error);
    assert_int_equal(swm_vae_declare(weights, &small_config, SWM_F32, &error), 0);
    config = small_config;
    config.decoder_layers[1] = 1;
    assert_null(swm_vae_bind(weights, &config, SWM_VAE_DECODER, &error));
    assert_non_null(strstr(error.text, "decoder.up_blocks.0.resnets.0.conv1.conv.weight"));
    error = (swm_error){0};
    swm_vae *vae = swm_vae_bind(weights, &config, SWM_VAE_ENCODER, &error); /* knows nothing of the decoder */
    assert_non_null(vae);
    assert_true(vae->has_encoder && !vae->has_decoder);
    free(vae);
    swm_weights_close(weights);

    const float bad[4] = {1, 0, 1, 1};
    const char *const names[] = {"latents_mean", "latents_std"};
    const swm_tensor tensors[] = {SWM_TENSOR(SWM_F32, (void *)(uintptr_t)bad, 4),
                                  SWM_TENSOR(SWM_F32, (void *)(uintptr_t)bad, 4)};
    assert_int_equal(swm_safetensors_save(weights_path(), 2, names, tensors, NULL, &error), 0);
    weights = swm_weights_open(weights_path(), &error);
    assert_null(swm_vae_bind(weights, &small_config, SWM_VAE_BOTH, &error));
    assert_non_null(strstr(error.text, "latents_std"));
    swm_weights_close(weights);
    unlink(weights_path());
}

int test_vae(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(symmetric_goldens_are_met),
        cmocka_unit_test(causal_goldens_are_met),
        cmocka_unit_test(a_lone_frame_is_encoded_like_the_first_of_a_video),
        cmocka_unit_test(statistics_invert_each_other),
        cmocka_unit_test(spatial_tiles_fit_together),
        cmocka_unit_test(temporal_tiles_fit_together),
        cmocka_unit_test(conv_in_spans_is_conv_of_the_whole),
        cmocka_unit_test(spans_make_the_same_frames),
        cmocka_unit_test(a_callback_can_stop_the_decoding),
        cmocka_unit_test(encoded_tiles_are_blended),
        cmocka_unit_test(encoded_tiles_fit_together),
        cmocka_unit_test(the_released_size_is_planned),
        cmocka_unit_test(unusable_models_are_refused),
    };
    return cmocka_run_group_tests_name("vae", tests, place_open, place_close);
}
