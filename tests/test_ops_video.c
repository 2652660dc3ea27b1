/* Every op of the video autoencoder on the CPU against a plain loop in doubles. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "ops.h"

#include <math.h>
#include <string.h>

int test_ops_video(void);

static int64_t at4(swm_tensor t, int64_t f, int64_t y, int64_t x, int64_t c)
{
    return ((f * t.shape[1] + y) * t.shape[2] + x) * t.shape[3] + c;
}

/* ---- convolution -------------------------------------------------------------------------------------------------- */

/* Elements of the input as the convolution sees it, through pixel norm and SiLU. */
static double *prepared(swm_backend *b, swm_tensor x, bool norm_silu)
{
    int64_t channels = swm_last(x);
    double *values = ops_want(b, swm_count(x));
    for (int64_t n = 0; n < swm_count(x) / channels; n++) {
        double square = 0;
        for (int64_t c = 0; c < channels; c++) square += pow(ops_at(x, n * channels + c), 2) / (double)channels;
        for (int64_t c = 0; c < channels; c++) {
            double v = ops_at(x, n * channels + c);
            values[n * channels + c] = norm_silu ? ops_silu(v / sqrt(square + 1e-8)) : v;
        }
    }
    return values;
}

static int64_t clamp(int64_t i, int64_t count) { return i < 0 ? 0 : i >= count ? count - 1 : i; }

/* Where a position outside lies inside, -1 for a zero. */
static int64_t border(int64_t i, int64_t count, bool reflect)
{
    if (i >= 0 && i < count) return i;
    if (!reflect) return -1;
    return i < 0 ? -i : 2 * count - 2 - i;
}

static double conv_at(const double *values, swm_tensor x, const swm_conv3d *how, int64_t f, int64_t y, int64_t column,
                      int64_t out)
{
    int64_t in = swm_last(x);
    double sum = ops_at(how->bias, out);
    for (int64_t tap = 0; tap < 27; tap++) {
        int64_t frame = clamp(f + tap / 9 - (how->causal ? 2 : 1), x.shape[0]);
        int64_t row = border(y + tap / 3 % 3 - 1, x.shape[1], how->reflect);
        int64_t col = border(column + tap % 3 - 1, x.shape[2], how->reflect);
        for (int64_t c = 0; row >= 0 && col >= 0 && c < in; c++)
            sum += ops_at(how->weight, (out * in + c) * 27 + tap) * values[at4(x, frame, row, col, c)];
    }
    return sum;
}

static void check_conv(swm_backend *b, const int64_t shape[4], int64_t out, swm_dtype type, swm_conv3d how,
                       bool residual)
{
    swm_mark mark = swm_mark_of(b);
    swm_tensor x = ops_make(b, SWM_F32, 1, 4, shape);
    how.weight = OPS_MAKE(b, type, 2, out, shape[3], 3, 3, 3);
    how.bias = OPS_MAKE(b, type, 3, out);
    if (residual) how.residual = OPS_MAKE(b, SWM_F32, 4, shape[0], shape[1], shape[2], out);
    const double *values = prepared(b, x, how.norm_silu);
    int64_t count = shape[0] * shape[1] * shape[2] * out;
    double *want = ops_want(b, count);
    for (int64_t i = 0; i < count; i++) {
        int64_t n = i / out;
        want[i] = conv_at(values, x, &how, n / shape[2] / shape[1], n / shape[2] % shape[1], n % shape[2], i % out) +
                  (residual ? ops_at(how.residual, i) : 0);
    }
    ops_check("conv", swm_conv(b, x, &how), want);
    swm_release(b, mark);
}

static void test_conv(void **state)
{
    swm_backend *b = *state;
    const int64_t shapes[][4] = {{1, 1, 1, 1}, {1, 2, 2, 3}, {3, 5, 7, 5}, {4, 3, 9, 17}, {2, 19, 2, 8}};
    const swm_dtype types[] = {SWM_F32, SWM_BF16, SWM_F16, SWM_BF16, SWM_F32};
    for (int s = 0; s < 5; s++)
        for (int variant = 0; variant < 8; variant++) {
            swm_conv3d how = {
                .causal = variant & 1, .reflect = (variant & 2) && shapes[s][1] > 1, .norm_silu = variant & 4};
            check_conv(b, shapes[s], s == 3 ? 67 : 4, types[s], how, variant == 5 || variant == 2);
        }
}

/* A stream in any spans gives what one call gives; the last bits may depend on how many frames a product has. */
static void test_conv_cache(void **state)
{
    swm_backend *b = *state;
    enum { T = 7, H = 3, W = 5, I = 6, O = 9, SIZE = H * W * O };
    const int spans[][5] = {{7}, {1, 1, 1, 4}, {4, 2, 1}, {2, 5}};
    swm_tensor x = OPS_MAKE(b, SWM_F32, 1, T, H, W, I);
    swm_conv3d how = {.weight = OPS_MAKE(b, SWM_BF16, 2, O, I, 3, 3, 3),
                      .bias = OPS_MAKE(b, SWM_BF16, 3, O),
                      .causal = true,
                      .reflect = true,
                      .norm_silu = true};
    swm_tensor whole = swm_conv(b, x, &how);
    double *want = ops_want(b, T * SIZE);
    for (int i = 0; i < T * SIZE; i++) want[i] = ops_at(whole, i);
    for (int s = 0; s < 4; s++) {
        how.cache = SWM_TAKE(b, SWM_F32, 2, H + 2, W + 2, I);
        memset(how.cache.data, 0xff, swm_bytes(how.cache)); /* not to be read before it is filled */
        how.cache_filled = false;
        for (int i = 0, first = 0; i < 5 && spans[s][i] > 0; first += spans[s][i++]) {
            swm_tensor part = swm_conv(b, swm_rows(x, first, spans[s][i]), &how);
            ops_check("conv of a stream", part, want + first * SIZE);
            how.cache_filled = true;
        }
    }
}

/* ---- samplers ----------------------------------------------------------------------------------------------------- */

static void check_upsample(swm_backend *b, int64_t f, int64_t h, int64_t w, int64_t k, int64_t r, bool drop)
{
    swm_tensor y = OPS_MAKE(b, SWM_F32, 1, f, h, w, 8 * k), x = OPS_MAKE(b, SWM_F32, 2, f, h, w, 8 * r);
    swm_tensor got = swm_upsample_merge(b, y, x, drop);
    assert_int_equal(got.shape[0], 2 * f - drop);
    double *want = ops_want(b, swm_count(got));
    for (int64_t i = 0; i < swm_count(got); i++) {
        int64_t c = i % k, column = i / k % (2 * w), row = i / k / (2 * w) % (2 * h),
                frame = i / k / (2 * w) / (2 * h) + drop;
        int64_t cell = frame % 2 * 4 + row % 2 * 2 + column % 2;
        want[i] = ops_at(y, at4(y, frame / 2, row / 2, column / 2, 8 * c + cell)) +
                  ops_at(x, at4(x, frame / 2, row / 2, column / 2, 8 * (c % r) + cell));
    }
    ops_check("upsample_merge", got, want);
}

static void check_downsample(swm_backend *b, const int stride[3], int64_t f, int64_t h, int64_t w, int64_t in,
                             int64_t out)
{
    int64_t cells = (int64_t)stride[0] * stride[1] * stride[2];
    swm_tensor y = OPS_MAKE(b, SWM_F32, 1, f * stride[0], h * stride[1], w * stride[2], out / cells);
    swm_tensor x = OPS_MAKE(b, SWM_F32, 2, f * stride[0], h * stride[1], w * stride[2], in);
    swm_tensor got = swm_downsample_merge(b, y, x, stride);
    double *want = ops_want(b, swm_count(got));
    int64_t group = in * cells / out;
    for (int64_t i = 0; i < swm_count(got); i++) {
        int64_t c = i % out, column = i / out % w, row = i / out / w % h, frame = i / out / w / h;
        /* Channel n of a space-to-depth is channel n / cells at the cell n % cells. */
        for (int64_t g = -1; g < group; g++) {
            int64_t n = g < 0 ? c : c * group + g, cell = n % cells;
            int64_t from_frame = frame * stride[0] + cell / (stride[1] * stride[2]);
            int64_t from_row = row * stride[1] + cell / stride[2] % stride[1],
                    from_column = column * stride[2] + cell % stride[2];
            want[i] += g < 0 ? ops_at(y, at4(y, from_frame, from_row, from_column, n / cells))
                             : ops_at(x, at4(x, from_frame, from_row, from_column, n / cells)) / (double)group;
        }
    }
    ops_check("downsample_merge", got, want);
}

static void test_samplers(void **state)
{
    swm_backend *b = *state;
    check_upsample(b, 1, 1, 1, 1, 1, true);
    check_upsample(b, 3, 2, 5, 6, 3, true);
    check_upsample(b, 2, 3, 1, 8, 1, false);
    check_downsample(b, (int[]){1, 2, 2}, 3, 2, 5, 6, 12);
    check_downsample(b, (int[]){2, 1, 1}, 2, 3, 5, 6, 4);
    check_downsample(b, (int[]){2, 2, 2}, 1, 1, 1, 8, 16);
    check_downsample(b, (int[]){2, 2, 2}, 2, 3, 1, 3, 24);
}

static void test_patches(void **state)
{
    swm_backend *b = *state;
    enum { F = 2, H = 8, W = 12 };
    swm_tensor x = OPS_MAKE(b, SWM_F32, 1, F, H, W, 3), y = swm_patchify(b, x);
    assert_true(y.shape[0] == F && y.shape[1] == H / 4 && y.shape[2] == W / 4 && y.shape[3] == 48);
    for (int64_t i = 0; i < swm_count(x); i++) {
        int64_t c = i % 3, column = i / 3 % W, row = i / 3 / W % H, f = i / 3 / W / H;
        assert_true(ops_at(y, at4(y, f, row / 4, column / 4, c * 16 + column % 4 * 4 + row % 4)) == ops_at(x, i));
    }
    assert_memory_equal(swm_unpatchify(b, y).data, x.data, swm_bytes(x));
}

/* ---- tiles -------------------------------------------------------------------------------------------------------- */

static void test_blend(void **state)
{
    swm_backend *b = *state;
    for (int axis = 0; axis < 4; axis++)
        for (int64_t extent = 0; extent <= 3; extent++) {
            int64_t shape[] = {4, 5, 6, 3}, before_shape[] = {4, 5, 6, 3};
            before_shape[axis] = 3;
            swm_tensor tile = ops_make(b, SWM_F32, 1, 4, shape), before = ops_make(b, SWM_F32, 2, 4, before_shape);
            if (extent > shape[axis]) continue;
            double *want = ops_want(b, swm_count(tile));
            for (int64_t i = 0; i < swm_count(tile); i++) {
                int64_t p[4] = {i / 90, i / 18 % 5, i / 3 % 6, i % 3}, k = p[axis];
                want[i] = ops_at(tile, i);
                if (k >= extent) continue;
                p[axis] = 3 - extent + k;
                double part = (double)k / (double)extent;
                want[i] = ops_at(before, at4(before, p[0], p[1], p[2], p[3])) * (1 - part) + ops_at(tile, i) * part;
            }
            swm_blend(b, tile, before, axis, extent);
            ops_check("blend", tile, want);
        }
}

static void test_paste(void **state)
{
    swm_backend *b = *state;
    swm_tensor to = OPS_MAKE(b, SWM_F32, 1, 3, 4, 5, 2), x = OPS_MAKE(b, SWM_F32, 2, 2, 6, 4, 2);
    const int64_t at[4] = {1, 0, 2, 0}, from[4] = {0, 3, 1, 0}, box[4] = {2, 3, 3, 2}, nothing[4] = {0, 3, 3, 2};
    double *want = ops_want(b, swm_count(to));
    for (int64_t i = 0; i < swm_count(to); i++) {
        int64_t p[4] = {i / 40, i / 10 % 4, i / 2 % 5, i % 2};
        bool inside = true;
        for (int a = 0; a < 4; a++) inside = inside && p[a] >= at[a] && p[a] < at[a] + box[a];
        want[i] = inside ? ops_at(x, at4(x, p[0] - at[0] + from[0], p[1] - at[1] + from[1], p[2] - at[2] + from[2],
                                         p[3] - at[3] + from[3]))
                         : ops_at(to, i);
    }
    swm_paste(b, to, at, x, from, box);
    ops_check("paste", to, want);
    swm_paste(b, to, at, x, from, nothing);
    ops_check("paste of nothing", to, want);
}

static void test_pixels(void **state)
{
    swm_backend *b = *state;
    const float values[] = {-1, 1, 0, -7, 7, 0.9999f, (100.4f - 127.5f) / 127.5f, (100.6f - 127.5f) / 127.5f, -0.9999f};
    const uint8_t rounded[] = {0, 255, 128, 0, 255, 255, 100, 101, 0},
                  truncated[] = {0, 255, 127, 0, 255, 254, 100, 100, 0};
    swm_tensor x = SWM_UPLOAD(b, SWM_F32, values, 1, 1, 3, 3);
    uint8_t got[9];
    swm_download_bytes(b, got, swm_pixels(b, x, false));
    for (int i = 0; i < 9; i++)
        if (i != 2) assert_int_equal(got[i], rounded[i]);
    assert_true(got[2] == 127 || got[2] == 128); /* 127.5 is a tie */
    swm_download_bytes(b, got, swm_pixels(b, x, true));
    assert_memory_equal(got, truncated, sizeof got);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, ops_open, ops_close)

int test_ops_video(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_conv),  TEST(test_conv_cache), TEST(test_samplers), TEST(test_patches),
        TEST(test_blend), TEST(test_paste),      TEST(test_pixels),
    };
    return cmocka_run_group_tests_name("ops_video", tests, NULL, NULL);
}
