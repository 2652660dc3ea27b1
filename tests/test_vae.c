/* The video autoencoder and the CPU kernels under it: kernels against naive loops, goldens of encoder and decoder with
 * their intermediates, tiles, streams, and plan against run. */
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

int test_vae(void);

/* fp32 against fp32 in another order of summation; files that store results in F16 add 2^-11. */
#define TOLERANCE     1e-4
#define TOLERANCE_F16 1e-3

/* ---- small tools -------------------------------------------------------------------------------------------------- */

static float next_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (float)(int32_t)*seed * 0x1p-31f;
}

static float *random_floats(int64_t count, uint32_t seed)
{
    float *values = malloc((size_t)count * sizeof *values + 1);
    assert_non_null(values);
    for (int64_t i = 0; i < count; i++) values[i] = next_random(&seed);
    return values;
}

static swm_tensor random_tensor(swm_backend *b, uint32_t seed, int rank, const int64_t *shape)
{
    swm_tensor t = swm_tensor_make(SWM_F32, NULL, rank, shape);
    float *values = random_floats(swm_count(t), seed);
    t = swm_upload(b, SWM_F32, values, rank, shape);
    free(values);
    return t;
}
#define RANDOM(b, seed, ...)                                                                                           \
    random_tensor(b, seed, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__})

static double relative(const float *a, const float *b, int64_t count)
{
    double difference = 0, norm = 0;
    for (int64_t i = 0; i < count; i++) {
        difference += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        norm += (double)b[i] * (double)b[i];
    }
    return sqrt(difference / (norm > 0 ? norm : 1));
}

static void check_close(const char *name, const float *a, const float *b, int64_t count, double tolerance)
{
    double distance = relative(a, b, count);
    if (!(distance <= tolerance)) fail_msg("%s: relative distance %.3g above %.3g", name, distance, tolerance);
}

static void check_near(float value, double expected)
{
    if (!(fabs((double)value - expected) <= 1e-5)) fail_msg("%.8g where %.8g belongs", (double)value, expected);
}

static swm_backend *open_cpu(int threads, size_t bytes)
{
    swm_error error = {0};
    swm_backend *b = swm_backend_open_cpu(threads, &error);
    if (b == NULL || swm_backend_reserve(b, bytes, &error) != 0) fail_msg("%s", error.text);
    return b;
}

static void close_backend(swm_backend *b)
{
    swm_error error = {0};
    if (swm_backend_check(b, &error) != 0) fail_msg("%s", error.text);
    swm_backend_close(b);
}

/* ---- kernels against naive loops ---------------------------------------------------------------------------------- */

typedef struct conv_case {
    int64_t frames, height, width, in, out;
    bool causal, reflect, norm_silu, residual, cache, cache_filled;
    swm_dtype dtype;
} conv_case;

/* The input as the convolution sees it at frame t (from -2), row and column (from -1), in double. */
static double naive_input(const conv_case *c, const float *x, const float *cache, int64_t t, int64_t h, int64_t w,
                          int64_t i)
{
    if (c->cache_filled && t < 0)
        return (double)cache[(((t + 2) * (c->height + 2) + h + 1) * (c->width + 2) + w + 1) * c->in + i];
    t = t < 0 ? 0 : t >= c->frames ? c->frames - 1 : t;
    if (c->reflect) {
        h = h < 0 ? 1 : h == c->height ? c->height - 2 : h;
        w = w < 0 ? 1 : w == c->width ? c->width - 2 : w;
    }
    if (h < 0 || h == c->height || w < 0 || w == c->width) return 0;
    const float *pixel = x + ((t * c->height + h) * c->width + w) * c->in;
    if (!c->norm_silu) return (double)pixel[i];
    double square = 0;
    for (int64_t k = 0; k < c->in; k++) square += (double)pixel[k] * (double)pixel[k];
    double v = (double)pixel[i] / sqrt(square / (double)c->in + 1e-8);
    return v / (1 + exp(-v));
}

static void naive_conv(const conv_case *c, float *y, const float *x, const float *weight, const float *bias,
                       const float *residual, const float *cache)
{
    int64_t padded_row = (c->width + 2) * c->in, padded_frame = (c->height + 2) * padded_row;
    double *padded = malloc((size_t)((c->frames + 2) * padded_frame) * sizeof *padded);
    assert_non_null(padded);
    int64_t lead = c->causal ? 2 : 1;
    for (int64_t t = 0; t < c->frames + 2; t++)
        for (int64_t h = 0; h < c->height + 2; h++)
            for (int64_t w = 0; w < c->width + 2; w++)
                for (int64_t i = 0; i < c->in; i++)
                    padded[t * padded_frame + h * padded_row + w * c->in + i] =
                        naive_input(c, x, cache, t - lead, h - 1, w - 1, i);
    for (int64_t p = 0; p < c->frames * c->height * c->width; p++)
        for (int64_t o = 0; o < c->out; o++) {
            int64_t t = p / c->width / c->height, h = p / c->width % c->height, w = p % c->width;
            double sum = (double)bias[o] + (residual != NULL ? (double)residual[p * c->out + o] : 0);
            for (int64_t i = 0; i < c->in; i++)
                for (int64_t k = 0; k < 27; k++)
                    sum += (double)weight[(o * c->in + i) * 27 + k] *
                           padded[(t + k / 9) * padded_frame + (h + k / 3 % 3) * padded_row + (w + k % 3) * c->in + i];
            y[p * c->out + o] = (float)sum;
        }
    free(padded);
}

/* The weights as this type holds them: `values` are rounded, the result owns the stored form. */
static void *stored_weights(float *values, swm_dtype dtype, int64_t count)
{
    void *stored = malloc((size_t)count * swm_dtype_size(dtype));
    assert_non_null(stored);
    swm_from_f32(stored, dtype, values, (size_t)count);
    swm_to_f32(values, stored, dtype, (size_t)count);
    return stored;
}

static void check_conv(swm_backend *b, const conv_case *c)
{
    swm_mark mark = swm_mark_of(b);
    float *weight = random_floats(c->out * c->in * 27, 1), *bias = random_floats(c->out, 2);
    void *stored = stored_weights(weight, c->dtype, c->out * c->in * 27);
    void *stored_bias = stored_weights(bias, c->dtype, c->out);
    swm_tensor x = RANDOM(b, 3, c->frames, c->height, c->width, c->in);
    swm_conv3d how = {.weight = SWM_TENSOR(c->dtype, stored, c->out, c->in, 3, 3, 3),
                      .bias = SWM_TENSOR(c->dtype, stored_bias, c->out),
                      .causal = c->causal,
                      .reflect = c->reflect,
                      .norm_silu = c->norm_silu,
                      .cache_filled = c->cache_filled};
    if (c->residual) how.residual = RANDOM(b, 4, c->frames, c->height, c->width, c->out);
    if (c->cache) how.cache = RANDOM(b, 5, 2, c->height + 2, c->width + 2, c->in);
    int64_t count = c->frames * c->height * c->width * c->out;
    float *expected = malloc((size_t)count * sizeof *expected);
    assert_non_null(expected);
    naive_conv(c, expected, swm_floats(x), weight, bias, swm_present(how.residual) ? how.residual.data : NULL,
               swm_present(how.cache) ? how.cache.data : NULL);
    float *old_cache = NULL;
    if (c->cache) {
        old_cache = malloc(swm_bytes(how.cache));
        assert_non_null(old_cache);
        memcpy(old_cache, how.cache.data, swm_bytes(how.cache));
    }
    swm_tensor y = swm_conv(b, x, &how);
    check_close("conv", swm_floats(y), expected, count, 1e-5); /* up to 55323 products in a sum */
    for (int64_t k = 0; c->cache && k < swm_count(how.cache); k++) {
        int64_t i = k % c->in, w = k / c->in % (c->width + 2) - 1;
        int64_t h = k / c->in / (c->width + 2) % (c->height + 2) - 1;
        int64_t t = k / swm_row_size(how.cache) + c->frames - 2;
        check_near(swm_floats(how.cache)[k], naive_input(c, swm_floats(x), old_cache, t, h, w, i));
    }
    free(old_cache);
    free(expected);
    free(stored);
    free(stored_bias);
    free(weight);
    free(bias);
    swm_release(b, mark);
}

static void conv_matches_a_naive_loop(void **state)
{
    (void)state;
    static const conv_case cases[] = {
        {3, 5, 7, 9, 17, .causal = true, .norm_silu = true},
        {2, 2, 3, 5, 3, .reflect = true, .residual = true},
        {4, 3, 2, 16, 48, .causal = true, .reflect = true, .norm_silu = true, .residual = true, .dtype = SWM_BF16},
        {1, 5, 3, 33, 129, .causal = true, .dtype = SWM_F16},
        {1, 3, 5, 8, 1, .reflect = true, .norm_silu = true, .dtype = SWM_BF16},
        {1, 1, 1, 1, 1, .causal = true},
        {5, 1, 4, 3, 16, .causal = false},
        {3, 4, 4, 7, 18, .causal = true, .reflect = true, .norm_silu = true, .cache = true},
        {1, 4, 3, 7, 18, .causal = true, .reflect = true, .cache = true},
        {1, 4, 3, 7, 18, .causal = true, .reflect = true, .norm_silu = true, .cache = true, .cache_filled = true},
        {2, 3, 3, 20, 16, .causal = true, .cache = true, .cache_filled = true, .residual = true},
        {3, 3, 3, 4, 5, .causal = true, .cache = true, .cache_filled = true},
        {2, 2, 2, 2049, 17, .reflect = true, .residual = true}, /* more channels than one pass takes */
        {2, 20, 23, 4, 20, .reflect = true, .norm_silu = true}, /* several ranges of positions */
    };
    for (int threads = 1; threads <= 3; threads += 2) {
        swm_backend *b = open_cpu(threads, 8 << 20);
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) check_conv(b, &cases[i]);
        close_backend(b);
    }
}

static void conv_does_not_depend_on_threads(void **state)
{
    (void)state;
    float *results[2];
    int64_t count = 0;
    for (int i = 0; i < 2; i++) {
        swm_backend *b = open_cpu(1 + 3 * i, 8 << 20);
        swm_conv3d how = {
            .weight = RANDOM(b, 1, 33, 12, 3, 3, 3), .bias = RANDOM(b, 2, 33), .causal = true, .norm_silu = true};
        swm_tensor y = swm_conv(b, RANDOM(b, 3, 3, 19, 17, 12), &how);
        count = swm_count(y);
        results[i] = malloc(swm_bytes(y));
        assert_non_null(results[i]);
        swm_download(b, results[i], y);
        close_backend(b);
    }
    assert_memory_equal(results[0], results[1], (size_t)count * sizeof(float));
    free(results[0]);
    free(results[1]);
}

static void depthwise_glu_matches_a_naive_loop(void **state)
{
    (void)state;
    static const struct {
        int64_t frames, height, width, half;
        swm_dtype dtype;
    } cases[] = {{2, 5, 7, 13, SWM_F32}, {1, 3, 4, 16, SWM_BF16}, {3, 1, 1, 8, SWM_F16}, {1, 2, 9, 1, SWM_F32}};
    swm_backend *b = open_cpu(2, 1 << 20);
    for (size_t n = 0; n < sizeof cases / sizeof cases[0]; n++) {
        int64_t height = cases[n].height, width = cases[n].width, half = cases[n].half, channels = 2 * half;
        int64_t tokens = cases[n].frames * height * width;
        float *weight = random_floats(channels * 9, 1), *bias = random_floats(channels, 2);
        void *stored = stored_weights(weight, cases[n].dtype, channels * 9);
        swm_mark mark = swm_mark_of(b);
        swm_tensor x = RANDOM(b, 3, tokens, channels);
        swm_tensor y = swm_depthwise_glu(b, x, SWM_TENSOR(cases[n].dtype, stored, channels, 1, 3, 3),
                                         SWM_TENSOR(SWM_F32, bias, channels), height, width, false);
        for (int64_t p = 0; p < tokens; p++)
            for (int64_t c = 0; c < half; c++) {
                double sum[2] = {(double)bias[c], (double)bias[c + half]};
                for (int64_t k = 0; k < 18; k++) {
                    int64_t h = p / width % height + k / 3 % 3 - 1, w = p % width + k % 3 - 1,
                            channel = c + k / 9 * half;
                    if (h < 0 || h >= height || w < 0 || w >= width) continue;
                    int64_t at = p / width / height * height * width + h * width + w;
                    sum[k / 9] += (double)weight[channel * 9 + k % 9] * (double)swm_floats(x)[at * channels + channel];
                }
                check_near(swm_floats(y)[p * half + c], sum[0] * sum[1] / (1 + exp(-sum[1])));
            }
        swm_release(b, mark);
        free(stored);
        free(weight);
        free(bias);
    }
    close_backend(b);
}

static float at4(swm_tensor t, int64_t i, int64_t j, int64_t k, int64_t l)
{
    return swm_floats(t)[((i * t.shape[1] + j) * t.shape[2] + k) * t.shape[3] + l];
}

static void up_and_down_samplers_follow_the_index_maps(void **state)
{
    (void)state;
    swm_backend *b = open_cpu(2, 1 << 20);
    for (int drop = 0; drop < 2; drop++) {
        swm_tensor y = RANDOM(b, 1, 3, 2, 5, 96), x = RANDOM(b, 2, 3, 2, 5, 24);
        swm_tensor out = swm_upsample_merge(b, y, x, drop == 1);
        assert_int_equal(out.shape[0], 6 - drop);
        for (int64_t n = 0; n < swm_count(out); n++) {
            int64_t k = n % 12, w = n / 12 % 10, h = n / 120 % 4, t = n / 480, u = t + drop;
            int64_t cell = 4 * (u % 2) + 2 * (h % 2) + w % 2;
            float expected =
                at4(y, u / 2, h / 2, w / 2, 8 * k + cell) + at4(x, u / 2, h / 2, w / 2, 8 * (k % 3) + cell);
            check_near(at4(out, t, h, w, k), (double)expected);
        }
    }
    static const int strides[3][3] = {{1, 2, 2}, {2, 1, 1}, {2, 2, 2}};
    for (int i = 0; i < 3; i++) {
        const int *s = strides[i];
        int64_t cells = s[0] * s[1] * s[2], inputs = 6, learned = 3, outputs = learned * cells, group = 2;
        swm_tensor y = RANDOM(b, 3, 4, 6, 10, learned), x = RANDOM(b, 4, 4, 6, 10, inputs);
        swm_tensor out = swm_downsample_merge(b, y, x, s);
        for (int64_t n = 0; n < swm_count(out); n++) {
            int64_t k = n % outputs, w = n / outputs % out.shape[2], h = n / outputs / out.shape[2] % out.shape[1];
            int64_t t = n / outputs / out.shape[2] / out.shape[1];
            double sum = 0;
            for (int64_t j = -1; j < group; j++) { /* -1: the learned channel */
                int64_t channel = j < 0 ? k : k * group + j, cell = channel % cells;
                float value = at4(j < 0 ? y : x, t * s[0] + cell / (s[1] * s[2]), h * s[1] + cell / s[2] % s[1],
                                  w * s[2] + cell % s[2], channel / cells);
                sum += (double)value / (double)(j < 0 ? 1 : group);
            }
            check_near(at4(out, t, h, w, k), sum);
        }
    }
    close_backend(b);
}

static void patches_blends_and_boxes_follow_the_index_maps(void **state)
{
    (void)state;
    swm_backend *b = open_cpu(2, 1 << 20);
    swm_tensor x = RANDOM(b, 1, 2, 12, 20, 3), patches = swm_patchify(b, x);
    for (int64_t n = 0; n < swm_count(x); n++) {
        int64_t c = n % 3, w = n / 3 % 20, h = n / 60 % 12, t = n / 720;
        assert_true(at4(patches, t, h / 4, w / 4, c * 16 + w % 4 * 4 + h % 4) == at4(x, t, h, w, c));
    }
    assert_memory_equal(swm_unpatchify(b, patches).data, x.data, swm_bytes(x));

    for (int axis = 0; axis < 4; axis++) {
        int64_t shape[4] = {5, 6, 7, 4}, longer[4] = {5, 6, 7, 4};
        longer[axis] += 3;
        swm_tensor tile = random_tensor(b, 2, 4, shape), same = random_tensor(b, 2, 4, shape);
        swm_tensor before = random_tensor(b, 3, 4, longer);
        swm_blend(b, tile, before, axis, 4);
        for (int64_t n = 0; n < swm_count(tile); n++) {
            int64_t i[4] = {n / 168, n / 28 % 6, n / 4 % 7, n % 4}, j[4] = {i[0], i[1], i[2], i[3]};
            j[axis] += longer[axis] - 4;
            double share = (double)i[axis] / 4, expected = (double)at4(same, i[0], i[1], i[2], i[3]);
            if (i[axis] < 4) expected = (double)at4(before, j[0], j[1], j[2], j[3]) * (1 - share) + expected * share;
            check_near(swm_floats(tile)[n], expected);
        }
    }

    swm_tensor to = RANDOM(b, 4, 4, 5, 6, 7), kept = RANDOM(b, 4, 4, 5, 6, 7), from = RANDOM(b, 5, 5, 4, 6, 8);
    const int64_t at[4] = {1, 0, 2, 3}, start[4] = {2, 1, 0, 4}, box[4] = {3, 2, 4, 3};
    swm_paste(b, to, at, from, start, box);
    for (int64_t n = 0; n < swm_count(to); n++) {
        int64_t i[4] = {n / 210 - at[0], n / 42 % 5 - at[1], n / 7 % 6 - at[2], n % 7 - at[3]};
        bool inside = true;
        for (int k = 0; k < 4; k++) inside = inside && i[k] >= 0 && i[k] < box[k];
        float expected = inside ? at4(from, i[0] + 2, i[1] + 1, i[2], i[3] + 4) : swm_floats(kept)[n];
        assert_true(swm_floats(to)[n] == expected);
    }
    close_backend(b);
}

static void pixels_are_clamped_and_rounded(void **state)
{
    (void)state;
    static const float values[] = {-1.5f, -1.0f, 0.0f, 0.6f / 127.5f, 0.4f / 127.5f, 1.0f, 7.0f, NAN};
    static const uint8_t nearest[] = {0, 0, 128, 128, 128, 255, 255, 0},
                         truncated[] = {0, 0, 127, 128, 127, 255, 255, 0};
    swm_backend *b = open_cpu(1, 1 << 16);
    swm_tensor x = SWM_UPLOAD(b, SWM_F32, values, 8);
    assert_memory_equal(swm_pixels(b, x, false).data, nearest, 8);
    assert_memory_equal(swm_pixels(b, x, true).data, truncated, 8);
    close_backend(b);
}

/* ---- models ------------------------------------------------------------------------------------------------------- */

static char directory[] = "/tmp/test_vae_XXXXXX";

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(directory) != NULL ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    int result = rmdir(directory);
    memcpy(directory + sizeof directory - 7, "XXXXXX", 6);
    return result;
}

static const char *weights_path(void)
{
    static char path[64];
    snprintf(path, sizeof path, "%s/vae.safetensors", directory);
    return path;
}

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
    check_close(name, values, expected, count, t->dtype == SWM_F16 ? TOLERANCE_F16 : TOLERANCE);
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
    close_backend(plan);
    swm_backend *b = open_cpu(1, peak); /* threads are the business of the tests of kernels */
    run(f, b, user);
    assert_int_equal(b->scratch.peak, peak);
    assert_true(b->work.flops == work.flops && b->work.operations == work.operations);
    close_backend(b);
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
    swm_backend *b = open_cpu(1, 64 << 20);
    swm_tensor video = golden_input(&f, b, "in.video");
    swm_tensor all = swm_vae_encode(b, f.vae, video, NULL);
    swm_tensor first = swm_vae_encode(b, f.vae, swm_rows(video, 0, 1), NULL);
    check_close("first latent", swm_floats(first), swm_floats(all), swm_count(first), 1e-5);
    close_backend(b);
    close_fixture(&f);
}

static void statistics_invert_each_other(void **state)
{
    (void)state;
    fixture f;
    open_golden(&f, "tests/golden/vae.safetensors");
    int64_t channels = f.vae->config.latent_channels, count = 5 * channels;
    float *values = random_floats(count, 1), *same = random_floats(count, 1);
    swm_vae_normalise(f.vae, values, 5);
    float expected = (same[channels + 3] - f.vae->mean[3]) / f.vae->deviation[3];
    check_near(values[channels + 3], (double)expected);
    swm_vae_denormalise(f.vae, values, 5);
    check_close("round trip", values, same, count, 1e-6);
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
        float *values = random_floats(swm_count(tensors[i]), (uint32_t)i);
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
    swm_tensor z = RANDOM(b, 7, t->latents, t->height, t->width, 4);
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
        check_close("tiled", tiled.film.values, whole.film.values, whole.film.frames * whole.film.size, 1e-6);
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
        check_close("tiled", tiled.film.values, whole.film.values, frames * size, 1e-6);
        for (int64_t k = 0; k < frames; k++) {
            double share = latents <= 3 ? 0 : k <= 17 ? 0 : k >= 25 ? 1 : (double)(k - 17) / 8;
            const float *now = whole.film.values + k * size, *before = now - size;
            for (int64_t i = 0; i < size; i++)
                check_near(late.film.values[k * size + i],
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
    swm_backend *b = open_cpu(1, 8 << 20);
    swm_tensor x = RANDOM(b, 3, T, H, W, I), residual = RANDOM(b, 4, T, H, W, O);
    swm_conv3d how = {.weight = RANDOM(b, 1, O, I, 3, 3, 3),
                      .bias = RANDOM(b, 2, O),
                      .reflect = true,
                      .norm_silu = true,
                      .residual = residual};
    swm_tensor whole = swm_conv(b, x, &how);
    for (size_t n = 0; n < sizeof spans / sizeof spans[0]; n++) {
        swm_mark mark = swm_mark_of(b);
        swm_tensor y = SWM_TAKE(b, SWM_F32, T, H, W, O);
        swm_copy(b, y, residual);
        how.cache = RANDOM(b, 5, 2, H + 2, W + 2, I);
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
    close_backend(b);
}

static void run_random(const fixture *f, swm_backend *b, void *user)
{
    tile_job *t = user;
    t->film = (film){0};
    swm_tensor z = RANDOM(b, 7, t->latents, t->height, t->width, f->vae->config.latent_channels);
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
    swm_backend *b = open_cpu(1, 16 << 20);
    film shown = {.stop_after = 2};
    swm_tensor z = RANDOM(b, 1, 9, 2, 2, 4);
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
    close_backend(b);
    close_fixture(&f);
}

/* Two tiles side by side, put together by hand. */
static void encoded_tiles_are_blended(void **state)
{
    (void)state;
    fixture f;
    open_golden(&f, "tests/golden/vae.safetensors");
    swm_backend *b = open_cpu(1, 64 << 20);
    swm_tensor picture = RANDOM(b, 1, 1, 64, 160, 3);
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
        double expected = (w < 4 ? (double)at4(tiles[0], 0, h, w, c) * (1 - share) : 0) +
                          (w > 1 ? (double)at4(tiles[1], 0, h, w - 2, c) * share : 0);
        check_near(swm_floats(out)[n], expected);
    }
    close_backend(b);
    close_fixture(&f);
}

static void encoded_tiles_fit_together(void **state)
{
    (void)state;
    fixture f;
    open_pointwise(&f);
    swm_backend *b = open_cpu(1, 64 << 20);
    swm_tensor picture = RANDOM(b, 1, 1, 192, 224, 3);
    const swm_vae_tiling tiling = {.height = 96, .width = 128, .stride = 64};
    swm_tensor whole = swm_vae_encode(b, f.vae, picture, NULL), tiled = swm_vae_encode(b, f.vae, picture, &tiling);
    check_close("tiled", swm_floats(tiled), swm_floats(whole), swm_count(whole), 1e-6);
    close_backend(b);
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
        cmocka_unit_test(conv_matches_a_naive_loop),
        cmocka_unit_test(conv_does_not_depend_on_threads),
        cmocka_unit_test(depthwise_glu_matches_a_naive_loop),
        cmocka_unit_test(up_and_down_samplers_follow_the_index_maps),
        cmocka_unit_test(patches_blends_and_boxes_follow_the_index_maps),
        cmocka_unit_test(pixels_are_clamped_and_rounded),
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
    return cmocka_run_group_tests_name("vae", tests, set_up, tear_down);
}
