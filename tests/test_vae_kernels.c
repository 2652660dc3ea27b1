/* The CPU kernels under the video autoencoder against naive loops: every form of the convolution, on any number of threads. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops.h"

int test_vae_kernels(void);

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
    float *weight = ops_floats(c->out * c->in * 27, 1), *bias = ops_floats(c->out, 2);
    void *stored = stored_weights(weight, c->dtype, c->out * c->in * 27);
    void *stored_bias = stored_weights(bias, c->dtype, c->out);
    swm_tensor x = OPS_MAKE(b, SWM_F32, 3, c->frames, c->height, c->width, c->in);
    swm_conv3d how = {.weight = SWM_TENSOR(c->dtype, stored, c->out, c->in, 3, 3, 3),
                      .bias = SWM_TENSOR(c->dtype, stored_bias, c->out),
                      .causal = c->causal,
                      .reflect = c->reflect,
                      .norm_silu = c->norm_silu,
                      .cache_filled = c->cache_filled};
    if (c->residual) how.residual = OPS_MAKE(b, SWM_F32, 4, c->frames, c->height, c->width, c->out);
    if (c->cache) how.cache = OPS_MAKE(b, SWM_F32, 5, 2, c->height + 2, c->width + 2, c->in);
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
    ops_check_close("conv", swm_floats(y), expected, count, 1e-5); /* up to 55323 products in a sum */
    for (int64_t k = 0; c->cache && k < swm_count(how.cache); k++) {
        int64_t i = k % c->in, w = k / c->in % (c->width + 2) - 1;
        int64_t h = k / c->in / (c->width + 2) % (c->height + 2) - 1;
        int64_t t = k / swm_row_size(how.cache) + c->frames - 2;
        ops_check_near(swm_floats(how.cache)[k], naive_input(c, swm_floats(x), old_cache, t, h, w, i));
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
        swm_backend *b = ops_open_cpu(threads, 8 << 20);
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) check_conv(b, &cases[i]);
        ops_close_cpu(b);
    }
}

static void conv_does_not_depend_on_threads(void **state)
{
    (void)state;
    float *results[2];
    int64_t count = 0;
    for (int i = 0; i < 2; i++) {
        swm_backend *b = ops_open_cpu(1 + 3 * i, 8 << 20);
        swm_conv3d how = {.weight = OPS_MAKE(b, SWM_F32, 1, 33, 12, 3, 3, 3),
                          .bias = OPS_MAKE(b, SWM_F32, 2, 33),
                          .causal = true,
                          .norm_silu = true};
        swm_tensor y = swm_conv(b, OPS_MAKE(b, SWM_F32, 3, 3, 19, 17, 12), &how);
        count = swm_count(y);
        results[i] = malloc(swm_bytes(y));
        assert_non_null(results[i]);
        swm_download(b, results[i], y);
        ops_close_cpu(b);
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
    swm_backend *b = ops_open_cpu(2, 1 << 20);
    for (size_t n = 0; n < sizeof cases / sizeof cases[0]; n++) {
        int64_t height = cases[n].height, width = cases[n].width, half = cases[n].half, channels = 2 * half;
        int64_t tokens = cases[n].frames * height * width;
        float *weight = ops_floats(channels * 9, 1), *bias = ops_floats(channels, 2);
        void *stored = stored_weights(weight, cases[n].dtype, channels * 9);
        swm_mark mark = swm_mark_of(b);
        swm_tensor x = OPS_MAKE(b, SWM_F32, 3, tokens, channels);
        swm_tensor y = swm_depthwise_glu(b, x, SWM_TENSOR(cases[n].dtype, stored, channels, 1, 3, 3),
                                         SWM_TENSOR(SWM_F32, bias, channels), height, width);
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
                ops_check_near(swm_floats(y)[p * half + c], sum[0] * sum[1] / (1 + exp(-sum[1])));
            }
        swm_release(b, mark);
        free(stored);
        free(weight);
        free(bias);
    }
    ops_close_cpu(b);
}

static void up_and_down_samplers_follow_the_index_maps(void **state)
{
    (void)state;
    swm_backend *b = ops_open_cpu(2, 1 << 20);
    for (int drop = 0; drop < 2; drop++) {
        swm_tensor y = OPS_MAKE(b, SWM_F32, 1, 3, 2, 5, 96), x = OPS_MAKE(b, SWM_F32, 2, 3, 2, 5, 24);
        swm_tensor out = swm_upsample_merge(b, y, x, drop == 1);
        assert_int_equal(out.shape[0], 6 - drop);
        for (int64_t n = 0; n < swm_count(out); n++) {
            int64_t k = n % 12, w = n / 12 % 10, h = n / 120 % 4, t = n / 480, u = t + drop;
            int64_t cell = 4 * (u % 2) + 2 * (h % 2) + w % 2;
            float expected =
                ops_at4(y, u / 2, h / 2, w / 2, 8 * k + cell) + ops_at4(x, u / 2, h / 2, w / 2, 8 * (k % 3) + cell);
            ops_check_near(ops_at4(out, t, h, w, k), (double)expected);
        }
    }
    static const int strides[3][3] = {{1, 2, 2}, {2, 1, 1}, {2, 2, 2}};
    for (int i = 0; i < 3; i++) {
        const int *s = strides[i];
        int64_t cells = s[0] * s[1] * s[2], inputs = 6, learned = 3, outputs = learned * cells, group = 2;
        swm_tensor y = OPS_MAKE(b, SWM_F32, 3, 4, 6, 10, learned), x = OPS_MAKE(b, SWM_F32, 4, 4, 6, 10, inputs);
        swm_tensor out = swm_downsample_merge(b, y, x, s);
        for (int64_t n = 0; n < swm_count(out); n++) {
            int64_t k = n % outputs, w = n / outputs % out.shape[2], h = n / outputs / out.shape[2] % out.shape[1];
            int64_t t = n / outputs / out.shape[2] / out.shape[1];
            double sum = 0;
            for (int64_t j = -1; j < group; j++) { /* -1: the learned channel */
                int64_t channel = j < 0 ? k : k * group + j, cell = channel % cells;
                float value = ops_at4(j < 0 ? y : x, t * s[0] + cell / (s[1] * s[2]), h * s[1] + cell / s[2] % s[1],
                                      w * s[2] + cell % s[2], channel / cells);
                sum += (double)value / (double)(j < 0 ? 1 : group);
            }
            ops_check_near(ops_at4(out, t, h, w, k), sum);
        }
    }
    ops_close_cpu(b);
}

static void patches_blends_and_boxes_follow_the_index_maps(void **state)
{
    (void)state;
    swm_backend *b = ops_open_cpu(2, 1 << 20);
    swm_tensor x = OPS_MAKE(b, SWM_F32, 1, 2, 12, 20, 3), patches = swm_patchify(b, x);
    for (int64_t n = 0; n < swm_count(x); n++) {
        int64_t c = n % 3, w = n / 3 % 20, h = n / 60 % 12, t = n / 720;
        assert_true(ops_at4(patches, t, h / 4, w / 4, c * 16 + w % 4 * 4 + h % 4) == ops_at4(x, t, h, w, c));
    }
    assert_memory_equal(swm_unpatchify(b, patches).data, x.data, swm_bytes(x));

    for (int axis = 0; axis < 4; axis++) {
        int64_t shape[4] = {5, 6, 7, 4}, longer[4] = {5, 6, 7, 4};
        longer[axis] += 3;
        swm_tensor tile = ops_make(b, SWM_F32, 2, 4, shape), same = ops_make(b, SWM_F32, 2, 4, shape);
        swm_tensor before = ops_make(b, SWM_F32, 3, 4, longer);
        swm_blend(b, tile, before, axis, 4);
        for (int64_t n = 0; n < swm_count(tile); n++) {
            int64_t i[4] = {n / 168, n / 28 % 6, n / 4 % 7, n % 4}, j[4] = {i[0], i[1], i[2], i[3]};
            j[axis] += longer[axis] - 4;
            double share = (double)i[axis] / 4, expected = (double)ops_at4(same, i[0], i[1], i[2], i[3]);
            if (i[axis] < 4)
                expected = (double)ops_at4(before, j[0], j[1], j[2], j[3]) * (1 - share) + expected * share;
            ops_check_near(swm_floats(tile)[n], expected);
        }
    }

    swm_tensor to = OPS_MAKE(b, SWM_F32, 4, 4, 5, 6, 7), kept = OPS_MAKE(b, SWM_F32, 4, 4, 5, 6, 7),
               from = OPS_MAKE(b, SWM_F32, 5, 5, 4, 6, 8);
    const int64_t at[4] = {1, 0, 2, 3}, start[4] = {2, 1, 0, 4}, box[4] = {3, 2, 4, 3};
    swm_paste(b, to, at, from, start, box);
    for (int64_t n = 0; n < swm_count(to); n++) {
        int64_t i[4] = {n / 210 - at[0], n / 42 % 5 - at[1], n / 7 % 6 - at[2], n % 7 - at[3]};
        bool inside = true;
        for (int k = 0; k < 4; k++) inside = inside && i[k] >= 0 && i[k] < box[k];
        float expected = inside ? ops_at4(from, i[0] + 2, i[1] + 1, i[2], i[3] + 4) : swm_floats(kept)[n];
        assert_true(swm_floats(to)[n] == expected);
    }
    ops_close_cpu(b);
}

static void pixels_are_clamped_and_rounded(void **state)
{
    (void)state;
    static const float values[] = {-1.5f, -1.0f, 0.0f, 0.6f / 127.5f, 0.4f / 127.5f, 1.0f, 7.0f, NAN};
    static const uint8_t nearest[] = {0, 0, 128, 128, 128, 255, 255, 0},
                         truncated[] = {0, 0, 127, 128, 127, 255, 255, 0};
    swm_backend *b = ops_open_cpu(1, 1 << 16);
    swm_tensor x = SWM_UPLOAD(b, SWM_F32, values, 8);
    assert_memory_equal(swm_pixels(b, x, false).data, nearest, 8);
    assert_memory_equal(swm_pixels(b, x, true).data, truncated, 8);
    ops_close_cpu(b);
}

int test_vae_kernels(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conv_matches_a_naive_loop),
        cmocka_unit_test(conv_does_not_depend_on_threads),
        cmocka_unit_test(depthwise_glu_matches_a_naive_loop),
        cmocka_unit_test(up_and_down_samplers_follow_the_index_maps),
        cmocka_unit_test(patches_blends_and_boxes_follow_the_index_maps),
        cmocka_unit_test(pixels_are_clamped_and_rounded),
    };
    return cmocka_run_group_tests_name("vae_kernels", tests, NULL, NULL);
}
