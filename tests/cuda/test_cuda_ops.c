/* Every CUDA op but the matrix work (test_cuda_matrix.c) against its definition, the CPU backend, over random shapes;
 * and their times at the release's full size. */
#include "harness.h"

#include <math.h>
#include <stdlib.h>

enum { ROUNDS = 12 };

#define CASES(h) for (int round = 0; round < ROUNDS; round++)

/* ---- pointwise, norms -------------------------------------------------------------------------------------------- */

/* Channels: odd ones, those of toys, those of the release, long ones. */
static int64_t pick_channels(harness *h)
{
    static const int64_t known[] = {8, 64, 112, 128, 2240, 2304, 4096, 9224};
    return harness_pick(h, 0, 2) == 0 ? harness_pick(h, 1, 70) : known[harness_pick(h, 0, 7)];
}

static void test_pointwise(harness *h)
{
    static const char *const names[] = {"add", "multiply_silu", "gelu_multiply", "silu"};
    for (int op = 0; op < 4; op++) {
        CASES(h)
        {
            harness_begin(h);
            int64_t n = harness_pick(h, 1, 60), c = pick_channels(h);
            twin x = harness_values(h, false, -6, 6, SHAPE(n, c)), y = harness_values(h, false, -6, 6, SHAPE(n, c));
            if (op == 0) swm_add(h->cpu, x.cpu, y.cpu), swm_add(h->gpu, x.gpu, y.gpu);
            if (op == 1) swm_multiply_silu(h->cpu, x.cpu, y.cpu), swm_multiply_silu(h->gpu, x.gpu, y.gpu);
            if (op == 2) swm_gelu_multiply(h->cpu, x.cpu, y.cpu), swm_gelu_multiply(h->gpu, x.gpu, y.gpu);
            if (op == 3) x = (twin){swm_silu(h->cpu, y.cpu), swm_silu(h->gpu, y.gpu)};
            harness_check(h, x, "%lldx%lld", (long long)n, (long long)c);
            harness_end(h);
        }
        harness_report(h, names[op], 1e-5, 1e-2);
    }
}

static void test_modulated(harness *h)
{
    static const char *const names[] = {"modulation", "adaptive_norm", "gated_add", "adaptive_rms_norm"};
    for (int op = 0; op < 4; op++) {
        CASES(h)
        {
            harness_begin(h);
            int64_t frames = harness_pick(h, 1, 5), tokens = harness_pick(h, 1, 17), c = pick_channels(h);
            twin t = harness_values(h, false, -1, 1, SHAPE(frames, op == 0 && round % 2 ? 1 : 6, c));
            twin x = harness_values(h, false, -3, 4, SHAPE(frames * tokens, c));
            twin y = harness_values(h, false, -1, 1, SHAPE(frames * tokens, c)),
                 table = harness_weight(h, 1, SHAPE(6, c));
            if (op == 0) x = (twin){swm_modulation(h->cpu, t.cpu, table.cpu), swm_modulation(h->gpu, t.gpu, table.gpu)};
            if (op == 1)
                x = (twin){swm_adaptive_norm(h->cpu, x.cpu, t.cpu, 3, 4),
                           swm_adaptive_norm(h->gpu, x.gpu, t.gpu, 3, 4)};
            if (op == 2) swm_gated_add(h->cpu, x.cpu, y.cpu, t.cpu, 5), swm_gated_add(h->gpu, x.gpu, y.gpu, t.gpu, 5);
            if (op == 3)
                x = (twin){swm_adaptive_rms_norm(h->cpu, x.cpu, t.cpu, 0, 1),
                           swm_adaptive_rms_norm(h->gpu, x.gpu, t.gpu, 0, 1)};
            harness_check(h, x, "%lld frames of %lldx%lld", (long long)frames, (long long)tokens, (long long)c);
            harness_end(h);
        }
        harness_report(h, names[op], 1e-5, 1e-2);
    }
}

static void test_rms_norm(harness *h)
{
    CASES(h)
    {
        harness_begin(h);
        int64_t n = harness_pick(h, 1, 60), c = pick_channels(h);
        float offset = (float)(round % 2);
        twin x = harness_values(h, false, -2, 3, SHAPE(n, c)), w = harness_weight(h, 1, SHAPE(c));
        if (round % 3 == 0) w = (twin){0};
        harness_check(h,
                      (twin){swm_rms_norm(h->cpu, x.cpu, w.cpu, 1e-5f, offset),
                             swm_rms_norm(h->gpu, x.gpu, w.gpu, 1e-5f, offset)},
                      "%lldx%lld, weight %d", (long long)n, (long long)c, round % 3 != 0);
        harness_end(h);
    }
    harness_report(h, "rms_norm", 1e-5, 1e-2);
}

static twin rotation_table(harness *h, int64_t tokens, int64_t pairs)
{
    float *values = calloc((size_t)(tokens * pairs * 2), sizeof *values);
    for (int64_t i = 0; i < tokens * pairs; i++) {
        double angle = 3 * (double)harness_uniform(h);
        values[2 * i] = (float)cos(angle);
        values[2 * i + 1] = (float)sin(angle);
    }
    twin t = harness_from(h, true, values, SHAPE(tokens, pairs, 2));
    free(values);
    return t;
}

static void test_transform_heads(harness *h)
{
    static const int64_t sizes[] = {32, 64, 112, 128, 24, 8, 6};
    for (int kind = 0; kind < 3; kind++) { /* norm alone, rotation, rays */
        for (int round = 0; round < 2 * ROUNDS; round++) {
            harness_begin(h);
            int64_t size = sizes[harness_pick(h, 0, kind == 2 ? 5 : 6)], heads = harness_pick(h, 1, 20);
            int64_t n = harness_pick(h, 1, 40), c = size * heads;
            twin x = harness_values(h, false, -2, 3, SHAPE(n, c)), w = harness_weight(h, 1, SHAPE(c));
            twin rotation = rotation_table(h, n, kind == 2 ? size / 4 : size / 2);
            twin rays = harness_values(h, true, -1, 1, SHAPE(n, 16)),
                 inflation = harness_values(h, true, 0, 1, SHAPE(n, heads));
            swm_head_transform how[2] = {{.heads = heads,
                                          .epsilon = 1e-5f,
                                          .relu = harness_pick(h, 0, 1),
                                          .scale = harness_pick(h, 0, 1) ? 0.3f : 0,
                                          .conjugate = harness_pick(h, 0, 1),
                                          .transpose = harness_pick(h, 0, 1)}};
            bool norm = kind == 0 || harness_pick(h, 0, 1), inflates = kind == 2 && harness_pick(h, 0, 1);
            how[1] = how[0];
            if (norm) how[0].norm = w.cpu, how[1].norm = w.gpu;
            if (kind > 0) how[0].rotation = rotation.cpu, how[1].rotation = rotation.gpu;
            if (kind == 2) how[0].rays = rays.cpu, how[1].rays = rays.gpu;
            if (inflates) how[0].inflation = inflation.cpu, how[1].inflation = inflation.gpu;
            twin y = {swm_transform_heads(h->cpu, x.cpu, &how[0]), swm_transform_heads(h->gpu, x.gpu, &how[1])};
            harness_check(h, y, "%lldx%lldx%lld", (long long)n, (long long)heads, (long long)size);
            if (inflates)
                harness_check(h, inflation, "inflation of %lldx%lldx%lld", (long long)n, (long long)heads,
                              (long long)size);
            harness_end(h);
        }
        harness_report(h, kind == 0 ? "heads: norm" : kind == 1 ? "heads: rotation" : "heads: rays", 1e-5, 1e-2);
    }
}

static void test_rotate_grid(harness *h)
{
    static const int64_t sizes[] = {32, 64, 128, 2, 6, 24, 112};
    for (int round = 0; round < 6 * ROUNDS; round++) {
        harness_begin(h);
        int64_t size = sizes[harness_pick(h, 0, 6)], heads = harness_pick(h, 1, round % 8 ? 9 : 32), c = size * heads;
        bool grid = c >= 6 && harness_pick(h, 0, 2), norm = harness_pick(h, 0, 2), in_place = harness_pick(h, 0, 1);
        int64_t sides[3] = {harness_pick(h, 1, 4), harness_pick(h, 1, 5), harness_pick(h, 1, 7)};
        if (!grid) sides[0] = harness_pick(h, 1, 40), sides[1] = sides[2] = 1;
        int64_t n = sides[0] * sides[1] * sides[2], most = c / 2 / (grid ? 3 : 1);
        int64_t frequencies = round % 2 ? most : harness_pick(h, 1, most);
        twin x = harness_values(h, false, -2, 3, SHAPE(n, c)), y = x, w = harness_weight(h, 1, SHAPE(c));
        if (!in_place) y = harness_values(h, false, 0, 1, SHAPE(n, c));
        if (!norm) w = (twin){0};
        swm_grid_rotation how[2] = {{.heads = heads, .interleaved = harness_pick(h, 0, 1)}};
        how[1] = how[0];
        for (int i = 0; i < (grid ? 3 : 1); i++) {
            twin table = rotation_table(h, sides[i], frequencies);
            how[0].axes[i] = table.cpu;
            how[1].axes[i] = table.gpu;
        }
        swm_rotate_grid(h->cpu, y.cpu, x.cpu, w.cpu, 1e-6f, &how[0]);
        swm_rotate_grid(h->gpu, y.gpu, x.gpu, w.gpu, 1e-6f, &how[1]);
        harness_check(h, y, "%lld tokens, %lldx%lld, %lld frequencies, grid %d norm %d interleaved %d in place %d",
                      (long long)n, (long long)heads, (long long)size, (long long)frequencies, grid, norm,
                      how[0].interleaved, in_place);
        harness_end(h);
    }
    harness_report(h, "rotate_grid", 1e-5, 1e-2);
}

static void test_pack_states(harness *h)
{
    CASES(h)
    {
        harness_begin(h);
        int64_t layers = harness_pick(h, 1, 60), n = harness_pick(h, 8, 40),
                c = harness_pick(h, 8, round % 4 ? 80 : 4000);
        twin x = harness_values(h, false, -3, 5, SHAPE(layers, n, c));
        harness_check(h, (twin){swm_pack_states(h->cpu, x.cpu), swm_pack_states(h->gpu, x.gpu)},
                      "%lld layers of %lldx%lld", (long long)layers, (long long)n, (long long)c);
        harness_end(h);
    }
    harness_report(h, "pack_states", 1e-5, 1e-2);
}

/* ---- gated delta rule -------------------------------------------------------------------------------------------- */

/* One chunk, or several of random lengths. */
static swm_chunks pick_chunks(harness *h, int64_t frames, int64_t *starts)
{
    swm_chunks chunks = {1, starts};
    starts[0] = 0;
    if (harness_pick(h, 0, 1)) return chunks;
    for (int64_t f = 1; f < frames; f++)
        if (harness_pick(h, 0, 2) == 0) starts[chunks.count++] = f;
    return chunks;
}

static void test_key_conv(harness *h)
{
    CASES(h)
    {
        harness_begin(h);
        int64_t starts[32], frames = harness_pick(h, 1, 24), tokens = harness_pick(h, 1, 9), c = pick_channels(h);
        swm_chunks chunks = pick_chunks(h, frames, starts);
        bool tailed = harness_pick(h, 0, 1);
        twin k = harness_values(h, false, -1, 1, SHAPE(frames * tokens, c)),
             taps = harness_weight(h, 1, SHAPE(c, 1, 4));
        twin tail = harness_values(h, false, -1, 1, SHAPE(3 * tokens, c));
        swm_tensor none = {0};
        twin y = {swm_key_conv(h->cpu, k.cpu, taps.cpu, frames, chunks, tailed ? tail.cpu : none, tailed),
                  swm_key_conv(h->gpu, k.gpu, taps.gpu, frames, chunks, tailed ? tail.gpu : none, tailed)};
        harness_check(h, y, "%lld frames of %lldx%lld", (long long)frames, (long long)tokens, (long long)c);
        harness_check(h, tail, "tail of %lld frames", (long long)frames);
        harness_end(h);
    }
    harness_report(h, "key_conv", 1e-5, 1e-2);
}

static void test_gates(harness *h)
{
    CASES(h)
    {
        harness_begin(h);
        int64_t frames = harness_pick(h, 1, 5), tokens = harness_pick(h, 1, 300), c = harness_pick(h, 0, 1) ? 2240 : 37;
        twin x = harness_values(h, false, -1, 2, SHAPE(frames * tokens, c));
        harness_check(h, (twin){swm_frame_mean(h->cpu, x.cpu, frames), swm_frame_mean(h->gpu, x.gpu, frames)},
                      "%lld frames of %lldx%lld", (long long)frames, (long long)tokens, (long long)c);
        harness_end(h);
    }
    harness_report(h, "frame_mean", 1e-5, 1e-2);
    CASES(h)
    {
        harness_begin(h);
        int64_t frames = harness_pick(h, 1, 130), heads = harness_pick(h, 1, 40);
        twin u = harness_values(h, false, -3, 25, SHAPE(frames, heads)), rate = harness_weight(h, 2, SHAPE(heads));
        twin shift = harness_weight(h, 1, SHAPE(heads));
        harness_check(h,
                      (twin){swm_gdn_decay(h->cpu, u.cpu, rate.cpu, shift.cpu),
                             swm_gdn_decay(h->gpu, u.gpu, rate.gpu, shift.gpu)},
                      "%lldx%lld", (long long)frames, (long long)heads);
        harness_end(h);
    }
    harness_report(h, "gdn_decay", 1e-5, 1e-5);
    CASES(h)
    {
        harness_begin(h);
        int64_t frames = harness_pick(h, 1, 5), tokens = harness_pick(h, 1, 100), heads = harness_pick(h, 1, 40);
        twin beta = harness_values(h, false, 0, 1, SHAPE(frames * tokens, heads));
        twin inflation = harness_values(h, true, 0, 3, SHAPE(frames * tokens, heads));
        harness_check(h,
                      (twin){swm_gdn_camera_beta(h->cpu, beta.cpu, inflation.cpu, frames),
                             swm_gdn_camera_beta(h->gpu, beta.gpu, inflation.gpu, frames)},
                      "%lld frames of %lldx%lld", (long long)frames, (long long)tokens, (long long)heads);
        harness_end(h);
    }
    harness_report(h, "gdn_camera_beta", 1e-5, 1e-5);
}

static void test_gdn_scan(harness *h)
{
    static const int64_t sizes[] = {32, 64, 112, 128};
    for (int round = 0; round < 3 * ROUNDS; round++) {
        harness_begin(h);
        int64_t starts[32], frames = harness_pick(h, 1, 12), tokens = harness_pick(h, 1, 150),
                            heads = harness_pick(h, 1, 3);
        int64_t size = sizes[round % 4], c = heads * size;
        if (round == 0) heads = 20, c = heads * size;
        bool normalise = harness_pick(h, 0, 1), rotates = harness_pick(h, 0, 1), carries = harness_pick(h, 0, 1);
        /* With a normaliser keys and queries are positive, as after their ReLU; the scale keeps I - P a contraction. */
        float low = normalise ? 0 : -1, scale = 1 / sqrtf((float)(size * tokens));
        twin q = harness_values(h, false, low, 1, SHAPE(frames * tokens, c));
        twin k = harness_values(h, false, low * scale, scale, SHAPE(frames * tokens, c));
        twin v = harness_values(h, false, -1, 2, SHAPE(frames * tokens, c)),
             rotation = rotation_table(h, frames * tokens, size / 2);
        twin beta = harness_values(h, !normalise, 0, 1, SHAPE(frames * tokens, heads));
        twin decay = harness_values(h, true, 0.5f, 1, SHAPE(frames, heads));
        twin state = harness_values(h, true, -1, 1, SHAPE(heads, size, size)),
             z = harness_values(h, true, 0, 1, SHAPE(heads, size));
        swm_chunks chunks = pick_chunks(h, frames, starts);
        swm_gdn how[2] = {{.q = q.cpu, .k = k.cpu, .v = v.cpu, .beta = beta.cpu, .decay = decay.cpu},
                          {.q = q.gpu, .k = k.gpu, .v = v.gpu, .beta = beta.gpu, .decay = decay.gpu}};
        for (int i = 0; i < 2; i++) {
            how[i].normalise = normalise;
            how[i].chunks = chunks;
            how[i].keep_state = carries;
            if (rotates) how[i].rotation = i ? rotation.gpu : rotation.cpu;
            if (carries) how[i].state = i ? state.gpu : state.cpu;
            if (carries && normalise) how[i].normaliser = i ? z.gpu : z.cpu;
        }
        twin y = {swm_gdn_scan(h->cpu, &how[0]), swm_gdn_scan(h->gpu, &how[1])};
        harness_check(h, y, "%lld frames of %lld, %lldx%lld%s%s%s, %d chunks", (long long)frames, (long long)tokens,
                      (long long)heads, (long long)size, normalise ? ", z" : "", rotates ? ", turned" : "",
                      carries ? ", carried" : "", chunks.count);
        if (!carries) harness_check_repeated(h, y.gpu, swm_gdn_scan(h->gpu, &how[1]), "gdn_scan");
        harness_check(h, state, "state after %lld frames, %lldx%lld", (long long)frames, (long long)heads,
                      (long long)size);
        harness_check(h, z, "normaliser after %lld frames, %lldx%lld", (long long)frames, (long long)heads,
                      (long long)size);
        harness_end(h);
    }
    harness_report(h, "gdn_scan", 1e-4, 1e-2);
}

/* ---- layout, video ----------------------------------------------------------------------------------------------- */

static void test_depthwise_glu(harness *h)
{
    static const int64_t halves[] = {4, 7, 32, 130, 336, 1000};
    CASES(h)
    {
        harness_begin(h);
        int64_t frames = harness_pick(h, 1, 3), rows = harness_pick(h, 1, 30), columns = harness_pick(h, 1, 20);
        int64_t half = halves[harness_pick(h, 0, 5)];
        twin x = harness_values(h, false, -1, 1, SHAPE(frames * rows * columns, 2 * half));
        twin w = harness_weight(h, 1, SHAPE(2 * half, 1, 3, 3)), bias = harness_weight(h, 1, SHAPE(2 * half));
        harness_check(h,
                      (twin){swm_depthwise_glu(h->cpu, x.cpu, w.cpu, bias.cpu, rows, columns),
                             swm_depthwise_glu(h->gpu, x.gpu, w.gpu, bias.gpu, rows, columns)},
                      "%lld frames of %lldx%lld, 2x%lld", (long long)frames, (long long)rows, (long long)columns,
                      (long long)half);
        harness_end(h);
    }
    harness_report(h, "depthwise_glu", 1e-5, 1e-2);
}

static void test_layout(harness *h)
{
    CASES(h)
    {
        harness_begin(h);
        twin x = harness_values(
            h, false, -1, 1,
            SHAPE(harness_pick(h, 1, 70), harness_pick(h, 1, 9), harness_pick(h, 1, 9), harness_pick(h, 1, 70)));
        harness_check(h, (twin){swm_channels_last(h->cpu, x.cpu), swm_channels_last(h->gpu, x.gpu)}, "last of %s",
                      swm_describe(x.cpu).text);
        harness_check(h, (twin){swm_channels_first(h->cpu, x.cpu), swm_channels_first(h->gpu, x.gpu)}, "first of %s",
                      swm_describe(x.cpu).text);
        harness_end(h);
    }
    harness_report(h, "transpose", 0, 0);
    CASES(h)
    {
        harness_begin(h);
        int64_t tokens = harness_pick(h, 1, 40), heads = harness_pick(h, 1, 9), half = harness_pick(h, 1, 128);
        twin x = harness_values(h, false, -1, 1, SHAPE(tokens, heads * 2 * half)),
             rotation = rotation_table(h, tokens, half);
        swm_rotate_half(h->cpu, x.cpu, rotation.cpu, heads);
        swm_rotate_half(h->gpu, x.gpu, rotation.gpu, heads);
        harness_check(h, x, "%lldx%lldx2x%lld", (long long)tokens, (long long)heads, (long long)half);
        harness_end(h);
    }
    harness_report(h, "rotate_half", 1e-5, 1e-2);
}

static void test_samplers(harness *h)
{
    CASES(h)
    {
        harness_begin(h);
        int64_t t = harness_pick(h, 1, 3), rows = harness_pick(h, 1, 7), columns = harness_pick(h, 1, 7);
        int64_t repeat = harness_pick(h, 1, 5), channels = repeat * (round % 2 ? 8 : harness_pick(h, 1, 6));
        bool drop = harness_pick(h, 0, 1);
        twin y = harness_values(h, false, -1, 1, SHAPE(t, rows, columns, 8 * channels));
        twin x = harness_values(h, false, -1, 1, SHAPE(t, rows, columns, 8 * repeat));
        harness_check(
            h, (twin){swm_upsample_merge(h->cpu, y.cpu, x.cpu, drop), swm_upsample_merge(h->gpu, y.gpu, x.gpu, drop)},
            "%s, %lld", swm_describe(y.cpu).text, (long long)repeat);
        harness_end(h);
    }
    harness_report(h, "upsample_merge", 1e-6, 1e-2);
    CASES(h)
    {
        harness_begin(h);
        int stride[3] = {(int)harness_pick(h, 1, 2), (int)harness_pick(h, 1, 2), (int)harness_pick(h, 1, 2)};
        int64_t t = stride[0] * harness_pick(h, 1, 3), rows = stride[1] * harness_pick(h, 1, 5);
        int64_t columns = stride[2] * harness_pick(h, 1, 5), learned = harness_pick(h, 1, 9);
        int64_t kept = learned * harness_pick(h, 1, 3);
        twin y = harness_values(h, false, -1, 1, SHAPE(t, rows, columns, learned));
        twin x = harness_values(h, false, -1, 1, SHAPE(t, rows, columns, kept));
        harness_check(h,
                      (twin){swm_downsample_merge(h->cpu, y.cpu, x.cpu, stride),
                             swm_downsample_merge(h->gpu, y.gpu, x.gpu, stride)},
                      "%s, %lld by %d,%d,%d", swm_describe(y.cpu).text, (long long)kept, stride[0], stride[1],
                      stride[2]);
        harness_end(h);
    }
    harness_report(h, "downsample_merge", 1e-6, 1e-2);
}

static void test_pictures(harness *h)
{
    CASES(h)
    {
        harness_begin(h);
        int64_t t = harness_pick(h, 1, 3), rows = harness_pick(h, 1, 5), columns = harness_pick(h, 1, 150);
        int64_t colours = round % 3 ? 3 : harness_pick(h, 1, 4);
        if (round % 2) columns = (columns + 7) / 8 * 8;
        twin picture = harness_values(h, false, -1, 1, SHAPE(t, 4 * rows, 4 * columns, colours));
        twin patches = {swm_patchify(h->cpu, picture.cpu), swm_patchify(h->gpu, picture.gpu)};
        harness_check(h, patches, "patches of %s", swm_describe(picture.cpu).text);
        twin back = {swm_unpatchify(h->cpu, patches.cpu), swm_unpatchify(h->gpu, patches.gpu)};
        harness_check(h, back, "picture %s", swm_describe(picture.cpu).text);
        harness_end(h);
    }
    harness_report(h, "patchify", 0, 0);
    CASES(h)
    {
        harness_begin(h);
        int64_t size[4] = {harness_pick(h, 1, 5), harness_pick(h, 1, 9), harness_pick(h, 1, 9), harness_pick(h, 1, 20)};
        int axis = (int)harness_pick(h, 0, 2);
        twin tile = harness_values(h, false, -1, 1, 4, size);
        int64_t length = size[axis];
        size[axis] = harness_pick(h, 1, 9);
        twin before = harness_values(h, false, -1, 1, 4, size);
        int64_t extent = harness_pick(h, 0, swm_min(length, size[axis]));
        swm_blend(h->cpu, tile.cpu, before.cpu, axis, extent);
        swm_blend(h->gpu, tile.gpu, before.gpu, axis, extent);
        harness_check(h, tile, "%lld of axis %d of %s", (long long)extent, axis, swm_describe(tile.cpu).text);
        harness_end(h);
    }
    harness_report(h, "blend", 1e-6, 1e-2);
    CASES(h)
    {
        harness_begin(h);
        int64_t to_size[4], x_size[4], at[4], from[4], box[4];
        for (int i = 0; i < 4; i++) {
            box[i] = harness_pick(h, i == 0, 6);
            at[i] = harness_pick(h, 0, i == 3 && round % 2 ? 0 : 3);
            from[i] = i == 3 && round % 2 ? 0 : harness_pick(h, 0, 3);
            to_size[i] = swm_max(1, at[i] + box[i] + (i == 3 && round % 2 ? 0 : harness_pick(h, 0, 2)));
            x_size[i] = swm_max(1, from[i] + box[i] + (i == 3 && round % 2 ? 0 : harness_pick(h, 0, 2)));
        }
        twin to = harness_values(h, false, -1, 1, 4, to_size), x = harness_values(h, false, -1, 1, 4, x_size);
        swm_paste(h->cpu, to.cpu, at, x.cpu, from, box);
        swm_paste(h->gpu, to.gpu, at, x.gpu, from, box);
        harness_check(h, to, "%s to %s", swm_describe(x.cpu).text, swm_describe(to.cpu).text);
        harness_end(h);
    }
    harness_report(h, "paste", 0, 0);
    CASES(h)
    {
        harness_begin(h);
        twin x = harness_values(h, false, -1.3f, 1.3f, SHAPE(harness_pick(h, 1, 4), 4, round % 2 ? 8 : 7, 3));
        harness_check(h, (twin){swm_pixels(h->cpu, x.cpu, round % 3 == 0), swm_pixels(h->gpu, x.gpu, round % 3 == 0)},
                      "%s", swm_describe(x.cpu).text);
        harness_end(h);
    }
    harness_report(h, "pixels", 2e-3, 2e-3); /* products rounded apart may cross an edge of a byte */
}

/* Weights at an address whose former owner is gone, copies and zeros. */
static void test_memory(harness *h)
{
    CASES(h)
    {
        harness_begin(h);
        twin w = harness_weight(h, 1, SHAPE(5, 33)), x = harness_values(h, false, -1, 1, SHAPE(5, 33));
        harness_check(h, w, "weights");
        swm_copy(h->cpu, swm_rows(x.cpu, 1, 3), swm_rows(w.cpu, 2, 3));
        swm_copy(h->gpu, swm_rows(x.gpu, 1, 3), swm_rows(w.gpu, 2, 3));
        swm_zero(h->cpu, swm_rows(x.cpu, 4, 1));
        swm_zero(h->gpu, swm_rows(x.gpu, 4, 1));
        harness_check(h, x, "rows");
        harness_end(h);
    }
    harness_begin(h); /* more than the staging buffers hold */
    twin large = harness_values(h, false, -1, 1, SHAPE(23, 1 << 20));
    harness_check(h, large, "upload and download of %s", swm_describe(large.cpu).text);
    harness_end(h);
    harness_report(h, "memory", 0, 0);
}

void cuda_ops_tests(harness *h)
{
    test_memory(h);
    test_pointwise(h);
    test_modulated(h);
    test_rms_norm(h);
    test_transform_heads(h);
    test_rotate_grid(h);
    test_pack_states(h);
    test_key_conv(h);
    test_gates(h);
    test_gdn_scan(h);
    test_depthwise_glu(h);
    test_layout(h);
    test_samplers(h);
    test_pictures(h);
}

/* ---- times at the release's size --------------------------------------------------------------------------------- */

enum {
    FRAMES = 121,
    TOKENS = 880,
    ROWS = 22,
    COLUMNS = 40,
    HEADS = 20,
    SIZE = 112,
    CHANNELS = HEADS * SIZE,
    HALF = 6720
};
enum { ALL = FRAMES * TOKENS, SLICE = 18 * TOKENS, BLOCK = 3 }; /* BLOCK: frames */

typedef struct operands {
    swm_tensor x, y, z, modulation, weight, taps, rotation, half_rotation, rays, inflation, beta, camera_beta, decay;
} operands;

static void run_add(harness *h, const void *user)
{
    const operands *o = user;
    swm_add(h->gpu, o->x, o->y);
}

static void run_multiply_silu(harness *h, const void *user)
{
    const operands *o = user;
    swm_multiply_silu(h->gpu, o->x, o->y);
}

static void run_adaptive_norm(harness *h, const void *user)
{
    const operands *o = user;
    swm_adaptive_norm(h->gpu, o->y, o->modulation, 0, 1);
}

static void run_gated_add(harness *h, const void *user)
{
    const operands *o = user;
    swm_gated_add(h->gpu, o->x, o->y, o->modulation, 2);
}

static void run_rms_norm(harness *h, const void *user)
{
    const operands *o = user;
    swm_rms_norm(h->gpu, o->y, o->weight, 1e-6f, 0);
}

static void run_heads(harness *h, const void *user)
{
    const operands *o = user;
    swm_head_transform how = {.heads = HEADS, .norm = o->weight, .epsilon = 1e-5f, .rotation = o->rotation};
    swm_transform_heads(h->gpu, o->y, &how);
}

static void run_heads_rays(harness *h, const void *user)
{
    const operands *o = user;
    swm_head_transform how = {.heads = HEADS,
                              .norm = o->weight,
                              .epsilon = 1e-5f,
                              .relu = true,
                              .scale = 0.01f,
                              .rotation = o->half_rotation,
                              .rays = o->rays,
                              .inflation = o->inflation};
    swm_transform_heads(h->gpu, o->y, &how);
}

static void run_key_conv(harness *h, const void *user)
{
    const operands *o = user;
    swm_key_conv(h->gpu, o->y, o->taps, FRAMES, (swm_chunks){1, (int64_t[]){0}}, (swm_tensor){0}, false);
}

static void run_frame_mean(harness *h, const void *user)
{
    const operands *o = user;
    swm_frame_mean(h->gpu, o->y, FRAMES);
}

static void run_camera_beta(harness *h, const void *user)
{
    const operands *o = user;
    swm_gdn_camera_beta(h->gpu, o->beta, o->inflation, FRAMES);
}

static void run_scan(harness *h, const void *user)
{
    const operands *o = user;
    swm_gdn how = {.q = o->y,
                   .k = o->z,
                   .v = o->y,
                   .rotation = o->rotation,
                   .beta = o->beta,
                   .decay = o->decay,
                   .normalise = true,
                   .chunks = {1, (int64_t[]){0}}};
    swm_gdn_scan(h->gpu, &how);
}

static void run_camera_scan(harness *h, const void *user)
{
    const operands *o = user;
    swm_gdn how = {
        .q = o->y, .k = o->z, .v = o->y, .beta = o->camera_beta, .decay = o->decay, .chunks = {1, (int64_t[]){0}}};
    swm_gdn_scan(h->gpu, &how);
}

static void run_depthwise(harness *h, const void *user)
{
    const operands *o = user;
    swm_depthwise_glu(h->gpu, o->x, o->weight, o->y, ROWS, COLUMNS);
}

static void run_upsample(harness *h, const void *user)
{
    const operands *o = user;
    swm_upsample_merge(h->gpu, o->x, o->y, true);
}

static void run_downsample(harness *h, const void *user)
{
    static const int stride[3] = {2, 2, 2};
    const operands *o = user;
    swm_downsample_merge(h->gpu, o->y, o->x, stride);
}

static void run_unpatchify(harness *h, const void *user)
{
    const operands *o = user;
    swm_unpatchify(h->gpu, o->x);
}

static void run_pixels(harness *h, const void *user)
{
    const operands *o = user;
    swm_pixels(h->gpu, o->x, true);
}

static void time_tokens(harness *h)
{
    float scale = 1 / sqrtf((float)(SIZE * TOKENS));
    harness_begin(h);
    operands o = {
        .x = harness_large(h, false, -1, 1, SHAPE(ALL, CHANNELS)),
        .y = harness_large(h, false, 0, 1, SHAPE(ALL, CHANNELS)),
        .z = harness_large(h, false, 0, scale, SHAPE(ALL, CHANNELS)),
        .modulation = harness_large(h, false, -0.001f, 0.001f, SHAPE(FRAMES, 6, CHANNELS)),
        .weight = harness_large_weight(h, 1, SHAPE(CHANNELS)),
        .taps = harness_large_weight(h, 1, SHAPE(CHANNELS, 1, 4)),
        .rotation = harness_large(h, true, -1, 1, SHAPE(ALL, SIZE / 2, 2)),
        .half_rotation = harness_large(h, true, -1, 1, SHAPE(ALL, SIZE / 4, 2)),
        .rays = harness_large(h, true, -1, 1, SHAPE(ALL, 16)),
        .inflation = harness_large(h, true, 0, 2, SHAPE(ALL, HEADS)),
        .beta = harness_large(h, false, 0, 1, SHAPE(ALL, HEADS)),
        .camera_beta = harness_large(h, true, 0, 1, SHAPE(ALL, HEADS)),
        .decay = harness_large(h, true, 0.5f, 1, SHAPE(FRAMES, HEADS)),
    };
    harness_time(h, "add", run_add, &o);
    harness_time(h, "multiply_silu", run_multiply_silu, &o);
    harness_time(h, "adaptive_norm", run_adaptive_norm, &o);
    harness_time(h, "gated_add", run_gated_add, &o);
    harness_time(h, "rms_norm", run_rms_norm, &o);
    harness_time(h, "heads: norm, rotation", run_heads, &o);
    harness_time(h, "heads: norm, rays, inflation", run_heads_rays, &o);
    harness_time(h, "key_conv", run_key_conv, &o);
    harness_time(h, "frame_mean", run_frame_mean, &o);
    harness_time(h, "gdn_camera_beta", run_camera_beta, &o);
    harness_time(h, "gdn_scan, main", run_scan, &o);
    harness_time(h, "gdn_scan, camera", run_camera_scan, &o);
    harness_end(h);
    harness_begin(h);
    o = (operands){.x = harness_large(h, false, -1, 1, SHAPE(SLICE, 2 * HALF)),
                   .weight = harness_large_weight(h, 1, SHAPE(2 * HALF, 1, 3, 3)),
                   .y = harness_large_weight(h, 1, SHAPE(2 * HALF))};
    harness_time(h, "depthwise_glu, 18 frames", run_depthwise, &o);
    harness_end(h);
}

/* The refiner: 32 heads of 128. */
static void run_rotate_grid(harness *h, const void *user)
{
    const operands *o = user;
    swm_grid_rotation how = {.heads = 32, .axes = {o->rotation, o->half_rotation, o->rays}};
    swm_rotate_grid(h->gpu, o->x, o->y, o->weight, 1e-6f, &how);
}

static void run_adaptive_rms_norm(harness *h, const void *user)
{
    const operands *o = user;
    swm_adaptive_rms_norm(h->gpu, o->y, o->modulation, 0, 1);
}

static void run_pack_states(harness *h, const void *user)
{
    const operands *o = user;
    swm_pack_states(h->gpu, o->z);
}

static void time_refiner(harness *h)
{
    harness_begin(h);
    operands o = {
        .x = harness_large(h, false, -1, 1, SHAPE(ALL, 4096)),
        .y = harness_large(h, false, -1, 1, SHAPE(ALL, 4096)),
        .z = harness_large(h, false, -1, 1, SHAPE(49, 300, 3840)),
        .modulation = harness_large(h, false, -0.001f, 0.001f, SHAPE(FRAMES, 6, 4096)),
        .weight = harness_large_weight(h, 1, SHAPE(4096)),
        .rotation = harness_large(h, true, -1, 1, SHAPE(FRAMES, 682, 2)),
        .half_rotation = harness_large(h, true, -1, 1, SHAPE(ROWS, 682, 2)),
        .rays = harness_large(h, true, -1, 1, SHAPE(COLUMNS, 682, 2)),
    };
    harness_time(h, "rotate_grid, 4096 channels", run_rotate_grid, &o);
    harness_time(h, "adaptive_rms_norm, 4096 channels", run_adaptive_rms_norm, &o);
    harness_time(h, "gated_add, 4096 channels", run_gated_add, &o);
    harness_time(h, "pack_states of 49x300x3840", run_pack_states, &o);
    /* A block of frames. */
    o.x = swm_rows(o.x, 0, BLOCK * TOKENS);
    o.y = swm_rows(o.y, 0, BLOCK * TOKENS);
    o.rotation = swm_rows(o.rotation, 0, BLOCK);
    o.modulation = swm_rows(o.modulation, 0, 1);
    harness_time(h, "rotate_grid, 3 frames", run_rotate_grid, &o);
    harness_time(h, "adaptive_rms_norm, 3 frames", run_adaptive_rms_norm, &o);
    harness_time(h, "gated_add, 3 frames", run_gated_add, &o);
    harness_end(h);
}

static void time_video(harness *h)
{
    harness_begin(h);
    operands o = {.x = harness_large(h, false, -1, 1, SHAPE(61, 88, 160, 1024)),
                  .y = harness_large(h, false, -1, 1, SHAPE(61, 88, 160, 512))};
    harness_time(h, "upsample_merge to 121x176x320x128", run_upsample, &o);
    harness_end(h);
    harness_begin(h);
    o = (operands){.x = harness_large(h, false, -1, 1, SHAPE(2, 88, 160, 512)),
                   .y = harness_large(h, false, -1, 1, SHAPE(2, 88, 160, 128))};
    harness_time(h, "downsample_merge to 1x44x80x1024", run_downsample, &o);
    harness_end(h);
    harness_begin(h);
    o = (operands){.x = harness_large(h, false, -1, 1, SHAPE(961, 176, 320, 48))};
    harness_time(h, "unpatchify to 961x704x1280x3", run_unpatchify, &o);
    o.x = SWM_RESHAPE(o.x, 961, 704, 1280, 3);
    harness_time(h, "pixels of 961x704x1280x3", run_pixels, &o);
    harness_end(h);
}

void cuda_ops_times(harness *h)
{
    time_tokens(h);
    time_refiner(h);
    time_video(h);
}
