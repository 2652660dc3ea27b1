/* Every op of the transformers on the CPU against a plain loop in doubles: odd shapes, one token, one frame, all types of
 * weights, head sizes of all models. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "ops.h"

#include <math.h>
#include <string.h>

int test_ops(void);

static const swm_dtype weight_types[] = {SWM_F32, SWM_BF16, SWM_F16};
static const int64_t head_sizes[] = {8, 32, 64, 112, 128};
#define FOR_EACH(type, name, list) for (const type *name = list; name < list + sizeof list / sizeof *list; name++)

/* ---- linear layers and pointwise maths ---------------------------------------------------------------------------- */

static double activated(double x, swm_activation activation)
{
    switch (activation) {
    case SWM_SILU: return ops_silu(x);
    case SWM_GELU_TANH: return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case SWM_SIGMOID: return ops_sigmoid(x);
    case SWM_IDENTITY: break;
    }
    return x;
}

static double dot(swm_tensor x, int64_t row, swm_tensor w, int64_t output, int64_t inputs)
{
    double sum = 0;
    for (int64_t i = 0; i < inputs; i++) sum += ops_at(x, row * inputs + i) * ops_at(w, output * inputs + i);
    return sum;
}

static void test_linear(void **state)
{
    swm_backend *b = *state;
    const int64_t shapes[][3] = {{1, 1, 1}, {1, 67, 130}, {7, 48, 3}, {33, 5, 65}, {1030, 9, 70}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) FOR_EACH(swm_dtype, type, weight_types)
        {
            int64_t rows = shapes[s][0], in = shapes[s][1], out = shapes[s][2];
            for (int activation = SWM_IDENTITY; activation <= SWM_SIGMOID; activation++) {
                swm_mark mark = swm_mark_of(b);
                bool biased = activation != SWM_SILU;
                swm_tensor x = OPS_MAKE(b, SWM_F32, 1, rows, in), w = OPS_MAKE(b, *type, 2, out, in);
                swm_tensor bias = biased ? OPS_MAKE(b, *type, 3, out) : (swm_tensor){0};
                double *want = ops_want(b, rows * out);
                for (int64_t n = 0; n < rows; n++)
                    for (int64_t o = 0; o < out; o++)
                        want[n * out + o] =
                            activated(dot(x, n, w, o, in) + (biased ? ops_at(bias, o) : 0), (swm_activation)activation);
                ops_check("linear", swm_linear(b, x, w, bias, (swm_activation)activation), want);
                swm_tensor y = OPS_MAKE(b, SWM_F32, 4, rows, out);
                swm_linear_to(b, y, x, SWM_RESHAPE(w, out, in, 1, 1, 1), bias, (swm_activation)activation);
                ops_check("linear_to", y, want);
                swm_release(b, mark);
            }
        }
}

static void test_linear_add(void **state)
{
    swm_backend *b = *state;
    swm_tensor x = OPS_MAKE(b, SWM_F32, 1, 11, 13), w = OPS_MAKE(b, SWM_BF16, 2, 70, 13),
               bias = OPS_MAKE(b, SWM_BF16, 3, 70);
    swm_tensor sum = OPS_MAKE(b, SWM_F32, 4, 11, 70);
    double *want = ops_want(b, 11 * 70);
    for (int64_t i = 0; i < 11 * 70; i++)
        want[i] = ops_at(sum, i) + dot(x, i / 70, w, i % 70, 13) + ops_at(bias, i % 70);
    swm_linear_add(b, sum, x, w, bias);
    ops_check("linear_add", sum, want);
    for (int64_t i = 0; i < 11 * 70; i++) want[i] += dot(x, i / 70, w, i % 70, 13);
    swm_linear_add(b, sum, x, w, (swm_tensor){0});
    ops_check("linear_add without bias", sum, want);
}

static void test_pointwise(void **state)
{
    swm_backend *b = *state;
    const int64_t counts[][2] = {{1, 1}, {3, 17}, {129, 65}};
    for (size_t s = 0; s < 3; s++) {
        int64_t rows = counts[s][0], columns = counts[s][1], count = rows * columns;
        swm_tensor x = OPS_MAKE(b, SWM_F32, 1, rows, columns), y = OPS_MAKE(b, SWM_F32, 2, rows, columns);
        for (int64_t i = 0; i < count; i++) swm_floats(y)[i] *= 9; /* far into both tails of the gates */
        double *want = ops_want(b, count);
        for (int64_t i = 0; i < count; i++) want[i] = ops_silu(ops_at(y, i));
        ops_check("silu", swm_silu(b, y), want);
        for (int64_t i = 0; i < count; i++) want[i] = ops_at(x, i) * ops_silu(ops_at(y, i));
        swm_multiply_silu(b, x, y);
        ops_check("multiply_silu", x, want);
        for (int64_t i = 0; i < count; i++) want[i] = ops_at(x, i) + ops_at(y, i);
        swm_add(b, x, y);
        ops_check("add", x, want);
        for (int64_t i = 0; i < count; i++) want[i] = activated(ops_at(y, i), SWM_GELU_TANH) * ops_at(x, i);
        swm_gelu_multiply(b, y, x);
        ops_check("gelu_multiply", y, want);
    }
}

/* ---- norms -------------------------------------------------------------------------------------------------------- */

static void test_modulation(void **state)
{
    swm_backend *b = *state;
    enum { T = 3, R = 6, C = 19, S = 4 };
    swm_tensor full = OPS_MAKE(b, SWM_F32, 1, T, R, C), single = OPS_MAKE(b, SWM_F32, 2, T, 1, C);
    swm_tensor table = OPS_MAKE(b, SWM_BF16, 3, R, C);
    double *want = ops_want(b, T * R * C);
    for (int i = 0; i < T * R * C; i++) want[i] = ops_at(full, i) + ops_at(table, i % (R * C));
    swm_tensor modulation = swm_modulation(b, full, table);
    ops_check("modulation", modulation, want);
    for (int i = 0; i < T * R * C; i++) want[i] = ops_at(single, i / (R * C) * C + i % C) + ops_at(table, i % (R * C));
    ops_check("modulation of one row", swm_modulation(b, single, table), want);

    swm_tensor x = OPS_MAKE(b, SWM_F32, 4, T * S, C), y = OPS_MAKE(b, SWM_F32, 5, T * S, C);
    for (int n = 0; n < T * S; n++) {
        double mean = 0, square = 0;
        for (int c = 0; c < C; c++) mean += ops_at(x, n * C + c) / C;
        for (int c = 0; c < C; c++) square += pow(ops_at(x, n * C + c) - mean, 2) / C;
        for (int c = 0; c < C; c++)
            want[n * C + c] = (ops_at(x, n * C + c) - mean) / sqrt(square + 1e-6) *
                                  (1 + ops_at(modulation, (n / S * R + 4) * C + c)) +
                              ops_at(modulation, (n / S * R + 1) * C + c);
    }
    ops_check("adaptive_norm", swm_adaptive_norm(b, x, modulation, 1, 4), want);
    for (int i = 0; i < T * S * C; i++)
        want[i] = ops_at(x, i) + ops_at(y, i) * ops_at(modulation, (i / C / S * R + 5) * C + i % C);
    swm_gated_add(b, x, y, modulation, 5);
    ops_check("gated_add", x, want);
}

static double inverse_rms(swm_tensor x, int64_t row, int64_t channels, double epsilon)
{
    double square = 0;
    for (int64_t c = 0; c < channels; c++) square += pow(ops_at(x, row * channels + c), 2) / (double)channels;
    return 1 / sqrt(square + epsilon);
}

static void test_rms_norm(void **state)
{
    swm_backend *b = *state;
    FOR_EACH(swm_dtype, type, weight_types)
    for (int offset = 0; offset < 2; offset++) {
        enum { N = 5, C = 37 };
        swm_tensor x = OPS_MAKE(b, SWM_F32, 1, N, C), w = OPS_MAKE(b, *type, 2, C);
        double *want = ops_want(b, N * C);
        for (int i = 0; i < N * C; i++)
            want[i] = ops_at(x, i) * inverse_rms(x, i / C, C, 1e-5) * (offset + ops_at(w, i % C));
        ops_check("rms_norm", swm_rms_norm(b, x, w, 1e-5f, (float)offset), want);
    }
}

/* ---- heads -------------------------------------------------------------------------------------------------------- */

static void rotate(double *x, swm_tensor table, int64_t token, int64_t pairs, double sign)
{
    for (int64_t i = 0; i < pairs; i++) {
        double c = ops_at(table, (token * pairs + i) * 2), s = sign * ops_at(table, (token * pairs + i) * 2 + 1);
        double even = x[2 * i], odd = x[2 * i + 1];
        x[2 * i] = even * c - odd * s;
        x[2 * i + 1] = even * s + odd * c;
    }
}

static double squares_of(const double *x, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += x[i] * x[i];
    return fmax(sum, 1e-12);
}

/* What swm_head_transform says, head by head. */
static void transform(swm_tensor x, const swm_head_transform *how, double *want, double *inflation)
{
    int64_t channels = x.shape[1], size = channels / how->heads;
    for (int64_t n = 0; n < x.shape[0]; n++)
        for (int64_t h = 0; h < how->heads; h++) {
            double *head = want + n * channels + h * size, sign = how->conjugate ? -1 : 1;
            for (int64_t i = 0; i < size; i++) {
                int64_t c = h * size + i;
                head[i] = ops_at(x, n * channels + c);
                if (swm_present(how->norm))
                    head[i] *= inverse_rms(x, n, channels, (double)how->epsilon) * ops_at(how->norm, c);
                if (how->relu) head[i] = fmax(head[i], 0);
                if (how->scale != 0) head[i] *= (double)how->scale;
            }
            if (!swm_present(how->rays)) {
                if (swm_present(how->rotation)) rotate(head, how->rotation, n, size / 2, sign);
                continue;
            }
            double before = squares_of(head, size);
            for (int64_t g = 0; g < size / 2; g += 4) {
                double turned[4] = {0};
                for (int i = 0; i < 4; i++)
                    for (int j = 0; j < 4; j++)
                        turned[i] += head[g + j] * ops_at(how->rays, n * 16 + (how->transpose ? j * 4 + i : i * 4 + j));
                memcpy(head + g, turned, sizeof turned);
            }
            rotate(head + size / 2, how->rotation, n, size / 4, sign);
            inflation[n * how->heads + h] = squares_of(head, size) / before;
        }
}

static void test_transform_heads(void **state)
{
    swm_backend *b = *state;
    FOR_EACH(int64_t, size, head_sizes)
    for (int variant = 0; variant < 6; variant++) {
        swm_mark mark = swm_mark_of(b);
        int64_t tokens = variant == 0 ? 1 : 9, heads = 3, channels = heads * *size;
        swm_tensor x = OPS_MAKE(b, SWM_F32, 1, tokens, channels);
        swm_head_transform how = {.heads = heads, .epsilon = 1e-5f, .relu = variant == 1 || variant == 3};
        if (variant != 2) how.norm = OPS_MAKE(b, variant == 1 ? SWM_BF16 : SWM_F32, 2, channels);
        if (variant == 3) how.scale = 0.37f;
        if (variant >= 3) {
            how.rays = OPS_MAKE(b, SWM_F32, 3, tokens, 16);
            how.transpose = variant == 4;
            if (variant < 5) how.inflation = SWM_TAKE(b, SWM_F32, tokens, heads);
        }
        how.conjugate = variant == 5 || variant == 2;
        how.rotation = ops_rotation(b, 4, tokens, variant >= 3 ? *size / 4 : *size / 2);
        double *want = ops_want(b, tokens * channels), *inflation = ops_want(b, tokens * heads);
        transform(x, &how, want, inflation);
        ops_check("transform_heads", swm_transform_heads(b, x, &how), want);
        if (swm_present(how.inflation)) ops_check("inflation", how.inflation, inflation);
        swm_release(b, mark);
    }
}

static void test_rotate_half(void **state)
{
    swm_backend *b = *state;
    enum { N = 5, H = 3, D = 14 };
    swm_tensor x = OPS_MAKE(b, SWM_F32, 1, N, H * D), rotation = ops_rotation(b, 2, N, D / 2);
    double *want = ops_want(b, N * H * D);
    for (int n = 0; n < N; n++)
        for (int h = 0; h < H; h++)
            for (int i = 0; i < D / 2; i++) {
                int64_t at = n * H * D + h * D + i;
                double c = ops_at(rotation, (n * D / 2 + i) * 2), s = ops_at(rotation, (n * D / 2 + i) * 2 + 1);
                want[at] = ops_at(x, at) * c - ops_at(x, at + D / 2) * s;
                want[at + D / 2] = ops_at(x, at + D / 2) * c + ops_at(x, at) * s;
            }
    swm_rotate_half(b, x, rotation, H);
    ops_check("rotate_half", x, want);
}

/* ---- attention ---------------------------------------------------------------------------------------------------- */

static void attend(swm_tensor q, swm_tensor k, swm_tensor v, const swm_attention *how, double *want, double *weights)
{
    int64_t queries = q.shape[0], keys = k.shape[0], size = q.shape[1] / how->heads;
    int64_t share = how->heads / (how->key_heads ? how->key_heads : how->heads);
    for (int64_t h = 0; h < how->heads; h++)
        for (int64_t i = 0; i < queries; i++) {
            double highest = -INFINITY, total = 0;
            for (int64_t j = 0; j < keys; j++) {
                double score = 0;
                for (int64_t d = 0; d < size; d++)
                    score +=
                        ops_at(q, i * q.shape[1] + h * size + d) * ops_at(k, j * k.shape[1] + h / share * size + d);
                score *= (double)how->scale;
                if (how->softcap > 0) score = (double)how->softcap * tanh(score / (double)how->softcap);
                if (how->causal && (j > i || (how->window > 0 && i - j >= how->window))) score = -INFINITY;
                weights[j] = score;
                highest = fmax(highest, score);
            }
            for (int64_t j = 0; j < keys; j++) total += weights[j] = exp(weights[j] - highest);
            for (int64_t j = 0; j < keys; j++)
                for (int64_t d = 0; d < size; d++)
                    want[i * q.shape[1] + h * size + d] +=
                        weights[j] / total * ops_at(v, j * k.shape[1] + h / share * size + d);
        }
}

static void check_attend(swm_backend *b, int64_t queries, int64_t keys, int64_t size, swm_attention how)
{
    swm_mark mark = swm_mark_of(b);
    int64_t key_heads = how.key_heads ? how.key_heads : how.heads;
    swm_tensor q = OPS_MAKE(b, SWM_F32, 1, queries, how.heads * size),
               k = OPS_MAKE(b, SWM_F32, 2, keys, key_heads * size);
    swm_tensor v = OPS_MAKE(b, SWM_F32, 3, keys, key_heads * size);
    double *want = ops_want(b, queries * how.heads * size);
    attend(q, k, v, &how, want, ops_want(b, keys));
    ops_check("attend", swm_attend(b, q, k, v, &how), want);
    swm_release(b, mark);
}

static void test_attend(void **state)
{
    swm_backend *b = *state;
    FOR_EACH(int64_t, size, head_sizes) check_attend(b, 37, 41, *size, (swm_attention){.heads = 2, .scale = 0.7f});
    check_attend(b, 1, 1, 32, (swm_attention){.heads = 1, .scale = 1});
    check_attend(b, 3, 300, 16, (swm_attention){.heads = 1, .scale = 4}); /* keys in more than one tile */
    check_attend(b, 33, 33, 16, (swm_attention){.heads = 6, .key_heads = 2, .scale = 1, .softcap = 2, .causal = true});
    check_attend(b, 300, 300, 8, (swm_attention){.heads = 2, .scale = 3, .causal = true, .window = 5});
    check_attend(b, 9, 9, 8, (swm_attention){.heads = 2, .scale = 3, .causal = true, .window = 1});
}

/* ---- the delta rule ----------------------------------------------------------------------------------------------- */

static const int64_t cuts[] = {0, 2, 5};

static void test_key_conv(void **state)
{
    swm_backend *b = *state;
    const int64_t frames_of[] = {1, 2, 7};
    for (int f = 0; f < 3; f++)
        for (int tailed = 0; tailed < 2; tailed++) {
            int64_t frames = frames_of[f], tokens = 3, channels = 5, size = tokens * channels;
            swm_chunks chunks = {frames == 7 ? 3 : 1, cuts};
            swm_tensor k = OPS_MAKE(b, SWM_F32, 1, frames * tokens, channels),
                       taps = OPS_MAKE(b, SWM_BF16, 2, channels, 1, 4);
            swm_tensor tail = tailed ? OPS_MAKE(b, SWM_F32, 3, 3 * tokens, channels) : (swm_tensor){0};
            double *want = ops_want(b, frames * size), *kept = ops_want(b, 3 * size);
            for (int64_t i = 0; i < frames * size; i++)
                for (int64_t other = i / size - 3; other <= i / size + 3; other++) {
                    int64_t frame = i / size, distance = frame > other ? frame - other : other - frame;
                    double tap = ops_at(taps, i % channels * 4 + 3 - distance);
                    int64_t end = frames;
                    for (int c = chunks.count - 1; c > 0; c--)
                        if (frame < cuts[c]) end = cuts[c];
                    if (other < 0 && tailed) want[i] += tap * ops_at(tail, (other + 3) * size + i % size);
                    if (other >= 0 && other < (other > frame ? end : frames))
                        want[i] += tap * ops_at(k, other * size + i % size);
                }
            for (int64_t i = 0; tailed && i < 3 * size; i++) {
                int64_t frame = frames - 3 + i / size;
                kept[i] = frame < 0 ? ops_at(tail, (frame + 3) * size + i % size) : ops_at(k, frame * size + i % size);
            }
            ops_check("key_conv", swm_key_conv(b, k, taps, frames, chunks, tail, tailed), want);
            if (tailed) ops_check("tail of key_conv", tail, kept);
        }
}

static void test_gates(void **state)
{
    swm_backend *b = *state;
    enum { T = 3, S = 5, H = 4, C = 11 };
    swm_tensor x = OPS_MAKE(b, SWM_F32, 1, T * S, C), u = OPS_MAKE(b, SWM_F32, 2, T, H),
               a_log = OPS_MAKE(b, SWM_F32, 3, H);
    swm_tensor dt_bias = OPS_MAKE(b, SWM_BF16, 4, H), beta = OPS_MAKE(b, SWM_F32, 5, T * S, H);
    swm_tensor inflation = OPS_MAKE(b, SWM_F32, 6, T * S, H);
    double *want = ops_want(b, T * S * C);
    for (int i = 0; i < T * S * C; i++) want[i / C / S * C + i % C] += ops_at(x, i) / S;
    ops_check("frame_mean", swm_frame_mean(b, x, T), want);
    swm_floats(u)[1] = 40; /* softplus of a large number is the number */
    swm_floats(u)[2] = -40;
    for (int i = 0; i < T * H; i++) {
        double z = ops_at(u, i) + ops_at(dt_bias, i % H);
        want[i] = exp(-exp(ops_at(a_log, i % H)) * (z > 30 ? z : log1p(exp(z))));
    }
    ops_check("gdn_decay", swm_gdn_decay(b, u, a_log, dt_bias), want);
    for (int i = 0; i < T * S * H; i++)
        swm_floats(inflation)[i] = 2 * swm_floats(inflation)[i] + (i / H / S == 1 ? 3 : 0);
    for (int i = 0; i < T * S * H; i++) {
        double mean = 0;
        for (int s = 0; s < S; s++) mean += ops_at(inflation, (i / H / S * S + s) * H + i % H) / S;
        want[i] = ops_at(beta, i) / fmax(1, mean);
    }
    ops_check("gdn_camera_beta", swm_gdn_camera_beta(b, beta, inflation, T), want);
}

/* The recurrence as it stands in core/backend.h, for one head: m (D,D) and z (D) of every frame. */
typedef struct naive_scan {
    const swm_gdn *how;
    int64_t head, size, tokens, frames;
    double *m, *z; /* sums of both directions: (T,D,D), (T,D) */
} naive_scan;

static void read_head(const naive_scan *n, swm_tensor x, bool turned, int64_t token, double *out)
{
    for (int64_t i = 0; i < n->size; i++) out[i] = ops_at(x, token * n->how->q.shape[1] + n->head * n->size + i);
    if (turned && swm_present(n->how->rotation)) rotate(out, n->how->rotation, token, n->size / 2, 1);
}

/* m and z after one frame, token by token: k (k^T m) needs no matrix P. */
static void naive_step(const naive_scan *n, int64_t frame, double *m, double *z, double *next_m, double *next_z)
{
    int64_t d = n->size;
    double decay = ops_at(n->how->decay, frame * n->how->decay.shape[1] + n->head), k[128], plain[128], v[128];
    for (int64_t i = 0; i < d * d; i++) next_m[i] = decay * m[i];
    for (int64_t i = 0; i < d; i++) next_z[i] = decay * z[i];
    for (int64_t s = 0; s < n->tokens; s++) {
        int64_t token = frame * n->tokens + s;
        double beta = ops_at(n->how->beta, token * n->how->decay.shape[1] + n->head), z_seen = 0;
        read_head(n, n->how->k, true, token, k);
        read_head(n, n->how->k, false, token, plain);
        read_head(n, n->how->v, false, token, v);
        for (int64_t j = 0; j < d; j++) {
            double seen = 0;
            for (int64_t i = 0; i < d; i++) seen += k[i] * m[i * d + j];
            for (int64_t i = 0; i < d; i++) next_m[i * d + j] += beta * k[i] * (v[j] - decay * seen);
        }
        for (int64_t i = 0; i < d; i++) z_seen += plain[i] * z[i];
        for (int64_t i = 0; i < d; i++) next_z[i] += beta * plain[i] * (1 - decay * z_seen);
    }
    memcpy(m, next_m, (size_t)(d * d) * sizeof *m);
    memcpy(z, next_z, (size_t)d * sizeof *z);
}

static void naive_head(swm_backend *b, naive_scan *n, double *want, double *last_m, double *last_z)
{
    int64_t d = n->size, channels = n->how->q.shape[1];
    swm_chunks chunks = n->how->chunks;
    double *m = ops_want(b, d * d), *z = ops_want(b, d), *next_m = ops_want(b, d * d), *next_z = ops_want(b, d), q[128],
           plain[128];
    for (int64_t i = 0; i < d * d && swm_present(n->how->state); i++) m[i] = ops_at(n->how->state, n->head * d * d + i);
    for (int64_t i = 0; i < d && swm_present(n->how->normaliser); i++)
        z[i] = ops_at(n->how->normaliser, n->head * d + i);
    for (int64_t f = 0; f < n->frames; f++) {
        naive_step(n, f, m, z, next_m, next_z);
        for (int64_t i = 0; i < d * d; i++) n->m[f * d * d + i] = m[i];
        for (int64_t i = 0; i < d; i++) n->z[f * d + i] = z[i];
    }
    memcpy(last_m + n->head * d * d, m, (size_t)(d * d) * sizeof *m);
    memcpy(last_z + n->head * d, z, (size_t)d * sizeof *z);
    for (int c = 0; c < chunks.count; c++) {
        int64_t end = c + 1 < chunks.count ? chunks.starts[c + 1] : n->frames;
        memset(m, 0, (size_t)(d * d) * sizeof *m);
        memset(z, 0, (size_t)d * sizeof *z);
        for (int64_t f = end - 1; f > chunks.starts[c]; f--) {
            naive_step(n, f, m, z, next_m, next_z);
            for (int64_t i = 0; i < d * d; i++) n->m[(f - 1) * d * d + i] += m[i];
            for (int64_t i = 0; i < d; i++) n->z[(f - 1) * d + i] += z[i];
        }
    }
    for (int64_t token = 0; token < n->frames * n->tokens; token++) {
        double divisor = 1e-8;
        read_head(n, n->how->q, true, token, q);
        read_head(n, n->how->q, false, token, plain);
        for (int64_t i = 0; i < d; i++) divisor += n->z[token / n->tokens * d + i] * plain[i];
        for (int64_t j = 0; j < d; j++) {
            double sum = 0;
            for (int64_t i = 0; i < d; i++) sum += n->m[(token / n->tokens * d + i) * d + j] * q[i];
            want[token * channels + n->head * d + j] = n->how->normalise ? sum / divisor : sum;
        }
    }
}

static void check_scan(swm_backend *b, int64_t frames, int64_t tokens, int64_t size, bool normalise, bool carried)
{
    enum { HEADS = 2 };
    swm_mark mark = swm_mark_of(b);
    int64_t channels = HEADS * size, count = frames * tokens;
    swm_gdn how = {.q = OPS_MAKE(b, SWM_F32, 1, count, channels),
                   .k = OPS_MAKE(b, SWM_F32, 2, count, channels),
                   .v = OPS_MAKE(b, SWM_F32, 3, count, channels),
                   .beta = OPS_MAKE(b, SWM_F32, 4, count, HEADS),
                   .decay = OPS_MAKE(b, SWM_F32, 5, frames, HEADS),
                   .normalise = normalise,
                   .chunks = {frames == 7 ? 3 : 1, cuts},
                   .keep_state = carried};
    /* As the model has them: small keys of one sign, gates in 0..1. */
    for (int64_t i = 0; i < count * channels; i++) {
        swm_floats(how.q)[i] = fabsf(swm_floats(how.q)[i]);
        swm_floats(how.k)[i] = fabsf(swm_floats(how.k)[i]) / sqrtf((float)(size * tokens));
    }
    for (int64_t i = 0; i < count * HEADS; i++) swm_floats(how.beta)[i] = fabsf(swm_floats(how.beta)[i]);
    for (int64_t i = 0; i < frames * HEADS; i++) swm_floats(how.decay)[i] = fabsf(swm_floats(how.decay)[i]);
    if (normalise) how.rotation = ops_rotation(b, 6, count, size / 2);
    if (carried) how.state = OPS_MAKE(b, SWM_F32, 7, HEADS, size, size);
    if (carried && normalise) {
        how.normaliser = OPS_MAKE(b, SWM_F32, 8, HEADS, size);
        for (int64_t i = 0; i < HEADS * size; i++) swm_floats(how.normaliser)[i] = fabsf(swm_floats(how.normaliser)[i]);
    }
    double *want = ops_want(b, count * channels), *last_m = ops_want(b, HEADS * size * size),
           *last_z = ops_want(b, HEADS * size);
    for (int64_t head = 0; head < HEADS; head++) {
        naive_scan n = {
            &how, head, size, tokens, frames, ops_want(b, frames * size * size), ops_want(b, frames * size)};
        naive_head(b, &n, want, last_m, last_z);
    }
    ops_check("gdn_scan", swm_gdn_scan(b, &how), want);
    if (carried) ops_check("state of gdn_scan", how.state, last_m);
    if (swm_present(how.normaliser)) ops_check("normaliser of gdn_scan", how.normaliser, last_z);
    swm_release(b, mark);
}

static void test_gdn_scan(void **state)
{
    swm_backend *b = *state;
    FOR_EACH(int64_t, size, head_sizes) check_scan(b, 3, 5, *size, true, false);
    check_scan(b, 1, 1, 32, true, false);
    check_scan(b, 1, 6, 32, false, true);
    check_scan(b, 7, 4, 16, true, true);
    check_scan(b, 7, 4, 16, false, false);
    check_scan(b, 2, 300, 8, true, true); /* more tokens than one tile */
}

/* ---- convolutions of the FFN -------------------------------------------------------------------------------------- */

static void check_depthwise(swm_backend *b, int64_t frames, int64_t h, int64_t w, int64_t half, swm_dtype type)
{
    int64_t channels = 2 * half, count = frames * h * w;
    swm_tensor x = OPS_MAKE(b, SWM_F32, 1, count, channels), weight = OPS_MAKE(b, type, 2, channels, 1, 3, 3);
    swm_tensor bias = OPS_MAKE(b, type, 3, channels);
    double *sums = ops_want(b, count * channels), *want = ops_want(b, count * half);
    for (int64_t i = 0; i < count * channels; i++) {
        int64_t c = i % channels, column = i / channels % w, row = i / channels / w % h, frame = i / channels / w / h;
        sums[i] = ops_at(bias, c);
        for (int64_t dy = -1; dy <= 1; dy++)
            for (int64_t dx = -1; dx <= 1; dx++) {
                if (row + dy < 0 || row + dy >= h || column + dx < 0 || column + dx >= w) continue;
                sums[i] += ops_at(weight, c * 9 + (dy + 1) * 3 + dx + 1) *
                           ops_at(x, ((frame * h + row + dy) * w + column + dx) * channels + c);
            }
    }
    for (int64_t i = 0; i < count * half; i++) {
        int64_t token = i / half, c = i % half;
        want[i] = sums[token * channels + c] * ops_silu(sums[token * channels + half + c]);
    }
    ops_check("depthwise_glu", swm_depthwise_glu(b, x, weight, bias, h, w), want);
}

static void test_depthwise_glu(void **state)
{
    swm_backend *b = *state;
    FOR_EACH(swm_dtype, type, weight_types) check_depthwise(b, 2, 3, 5, 35, *type);
    check_depthwise(b, 1, 1, 1, 1, SWM_F32);
    check_depthwise(b, 3, 1, 7, 16, SWM_F32);
    check_depthwise(b, 1, 9, 1, 3, SWM_BF16);
}

static void check_temporal(swm_backend *b, int64_t frames, int64_t tokens, int64_t channels, swm_dtype type,
                           bool tailed)
{
    swm_chunks chunks = {frames == 7 ? 3 : 1, cuts};
    int64_t size = tokens * channels;
    swm_tensor x = OPS_MAKE(b, SWM_F32, 1, frames * tokens, channels),
               weight = OPS_MAKE(b, type, 2, channels, channels, 3, 1);
    swm_tensor tail = tailed ? OPS_MAKE(b, SWM_F32, 3, tokens, channels) : (swm_tensor){0};
    double *want = ops_want(b, frames * size), *kept = ops_want(b, size);
    for (int64_t i = 0; i < frames * size; i++) {
        int64_t frame = i / size, token = i / channels % tokens, out = i % channels, end = frames;
        for (int c = chunks.count - 1; c > 0; c--)
            if (frame < cuts[c]) end = cuts[c];
        want[i] = ops_at(x, i);
        for (int64_t c = 0; c < channels; c++) {
            int64_t at = token * channels + c;
            double left = frame > 0 ? ops_at(x, (frame - 1) * size + at) : tailed ? ops_at(tail, at) : 0;
            double right = frame + 1 < end ? ops_at(x, (frame + 1) * size + at) : 0;
            int64_t tap = (out * channels + c) * 3;
            want[i] += ops_at(weight, tap) * left + ops_at(weight, tap + 1) * ops_at(x, frame * size + at) +
                       ops_at(weight, tap + 2) * right;
        }
    }
    for (int64_t i = 0; i < size; i++) kept[i] = ops_at(x, (frames - 1) * size + i);
    ops_check("temporal_conv", swm_temporal_conv(b, x, weight, frames, chunks, tail, tailed), want);
    if (tailed) ops_check("tail of temporal_conv", tail, kept);
}

static void test_temporal_conv(void **state)
{
    swm_backend *b = *state;
    FOR_EACH(swm_dtype, type, weight_types) check_temporal(b, 7, 3, 37, *type, true);
    check_temporal(b, 1, 1, 1, SWM_F32, false);
    check_temporal(b, 1, 4, 70, SWM_F32, true);
    check_temporal(b, 5, 2, 130, SWM_BF16, false);
}

/* ---- layout ------------------------------------------------------------------------------------------------------- */

static void test_layout(void **state)
{
    swm_backend *b = *state;
    enum { C = 35, T = 3, H = 2, W = 41, P = T * H * W };
    swm_tensor x = OPS_MAKE(b, SWM_F32, 1, C, T, H, W);
    swm_tensor last = swm_channels_last(b, x);
    assert_true(last.rank == 4 && last.shape[0] == T && last.shape[3] == C);
    for (int i = 0; i < C * P; i++) assert_true(ops_at(last, i % P * C + i / P) == ops_at(x, i));
    swm_tensor back = swm_channels_first(b, last);
    assert_true(back.shape[0] == C && back.shape[1] == T && back.shape[3] == W);
    assert_memory_equal(back.data, x.data, swm_bytes(x));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, ops_open, ops_close)

int test_ops(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_linear),        TEST(test_linear_add),      TEST(test_pointwise),   TEST(test_modulation),
        TEST(test_rms_norm),      TEST(test_transform_heads), TEST(test_rotate_half), TEST(test_attend),
        TEST(test_key_conv),      TEST(test_gates),           TEST(test_gdn_scan),    TEST(test_depthwise_glu),
        TEST(test_temporal_conv), TEST(test_layout),
    };
    return cmocka_run_group_tests_name("ops", tests, NULL, NULL);
}
