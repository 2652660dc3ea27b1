/* Weights on the device in every way that they may lie there: each by itself, all resident as planned, half of them
 * streaming, all of them streaming. Results must be the same to the bit, in the first pass (from files), the second (which
 * keeps pinned copies) and later ones (from those). Also prints what a pass takes. */
#include "harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS = 12, TOKENS = 4096, CHANNELS = 1024, HIDDEN = 4096, FRAMES = 8, PASSES = 6 };

typedef struct block {
    swm_affine expand;
    swm_tensor contract, temporal, norm;
} block;

typedef struct outer {
    swm_affine in;
    swm_tensor norm;
} outer;

typedef struct network {
    outer outer; /* in use while the blocks come and go */
    block blocks[BLOCKS];
    void *memory[4 * BLOCKS + 3];
    int count;
} network;

/* Random bf16, f16 and f32 weights by turns: some arrive as they are, some are converted, some laid out anew. */
static swm_tensor make_weight(harness *h, network *n, float scale, int rank, const int64_t *shape)
{
    static const swm_dtype types[] = {SWM_BF16, SWM_F32, SWM_F16};
    swm_tensor t = swm_tensor_make(types[n->count % 3], NULL, rank, shape);
    int64_t count = swm_count(t);
    float row[1024];
    size_t element = swm_dtype_size(t.dtype);
    t.data = malloc((size_t)count * element);
    SWM_REQUIRE(t.data != NULL && n->count < (int)(sizeof n->memory / sizeof *n->memory), "weight %d", n->count);
    n->memory[n->count++] = t.data;
    for (int64_t at = 0; at < count; at += 1024) {
        int64_t here = swm_min(1024, count - at);
        for (int64_t i = 0; i < here; i++) row[i] = scale * harness_uniform(h);
        swm_from_f32((char *)t.data + (size_t)at * element, t.dtype, row, (size_t)here);
    }
    return t;
}

static void make_network(harness *h, network *n)
{
    n->count = 0;
    n->outer.in.weight = make_weight(h, n, 0.05f, SHAPE(CHANNELS, CHANNELS));
    n->outer.in.bias = make_weight(h, n, 0.1f, SHAPE(CHANNELS));
    n->outer.norm = make_weight(h, n, 1, SHAPE(CHANNELS));
    for (int i = 0; i < BLOCKS; i++) {
        block *w = &n->blocks[i];
        w->expand = (swm_affine){.weight = make_weight(h, n, 0.05f, SHAPE(HIDDEN, CHANNELS))};
        w->contract = make_weight(h, n, 0.02f, SHAPE(CHANNELS, HIDDEN));
        w->temporal = make_weight(h, n, 0.02f, SHAPE(CHANNELS, CHANNELS, 3, 1));
        w->norm = make_weight(h, n, 1, SHAPE(CHANNELS));
    }
}

static void run_block(swm_backend *b, const block *bound, swm_tensor x)
{
    int64_t start = 0;
    swm_mark mark = swm_mark_of(b);
    const block *w = swm_weights_use(b, bound, sizeof *bound);
    swm_tensor y = swm_rms_norm(b, x, w->norm, 1e-6f, 0);
    y = swm_linear(b, y, w->expand.weight, w->expand.bias, SWM_GELU_TANH);
    y = swm_linear(b, y, w->contract, (swm_tensor){0}, SWM_IDENTITY);
    y = swm_temporal_conv(b, y, w->temporal, FRAMES, (swm_chunks){1, &start}, (swm_tensor){0}, false);
    swm_add(b, x, y);
    swm_weights_done(b, bound);
    swm_release(b, mark);
}

/* `out` may be NULL under plan only. */
static void run_network(swm_backend *b, const network *n, const float *input, float *out)
{
    swm_mark mark = swm_mark_of(b);
    const outer *w = swm_weights_use(b, &n->outer, sizeof n->outer);
    swm_tensor x = SWM_UPLOAD(b, b->compute, input, TOKENS, CHANNELS);
    x = swm_linear(b, x, w->in.weight, w->in.bias, SWM_IDENTITY);
    for (int i = 0; i < BLOCKS; i++) run_block(b, &n->blocks[i], x);
    x = swm_rms_norm(b, x, w->norm, 1e-6f, 0);
    swm_weights_done(b, &n->outer);
    swm_download(b, out, x);
    swm_release(b, mark);
}

static void stop(const swm_error *error)
{
    fprintf(stderr, "test-cuda: %s\n", error->text);
    exit(2);
}

/* All passes in one mode: equal to `want`, or the first of them fills it. */
static void run_mode(harness *h, swm_backend *b, const char *name, const network *n, const float *input, float *want,
                     bool first)
{
    size_t count = (size_t)TOKENS * CHANNELS;
    swm_error error = {0};
    double seconds[PASSES];
    float *got = malloc(count * sizeof *got);
    SWM_REQUIRE(got != NULL, "%zu floats", count);
    for (int pass = 0; pass < PASSES; pass++) {
        float *out = first && pass == 0 ? want : got;
        double start = swm_seconds();
        run_network(b, n, input, out);
        if (swm_backend_check(b, &error) != 0) stop(&error);
        seconds[pass] = swm_seconds() - start;
        h->cases++;
        if (out == want || memcmp(out, want, count * sizeof *want) == 0) continue;
        h->worst = INFINITY;
        snprintf(h->where, sizeof h->where, "%s, pass %d", name, pass + 1);
    }
    printf("      %-28s passes in ms:", name);
    for (int pass = 0; pass < PASSES; pass++) printf(" %.2f", seconds[pass] * 1e3);
    putchar('\n');
    free(got);
}

void cuda_residency_tests(harness *h)
{
    static network n;
    swm_error error = {0};
    size_t count = (size_t)TOKENS * CHANNELS;
    float *input = malloc(count * sizeof *input), *want = malloc(count * sizeof *want);
    SWM_REQUIRE(input != NULL && want != NULL, "%zu floats", count);
    for (size_t i = 0; i < count; i++) input[i] = harness_uniform(h);
    make_network(h, &n);
    swm_backend *plan = swm_backend_open_plan(h->gpu->compute, &error);
    swm_backend *b = swm_backend_open_cuda(h->gpu->compute, 0, &error);
    if (plan == NULL || b == NULL) stop(&error);
    run_network(plan, &n, NULL, NULL);
    swm_weight_list list = swm_plan_weights(plan);
    size_t scratch = plan->scratch.peak, all = swm_weight_list_bytes(&list), least = swm_residency_least(&list);
    printf("      %zu MiB of weights, %zu MiB of arena; %zu MiB hold what stays and two slots\n", all >> 20,
           scratch >> 20, least >> 20);

    if (swm_backend_reserve(b, scratch, &error) != 0) stop(&error);
    run_mode(h, b, "in no plan", &n, input, want, true);
    const char *const names[] = {"resident", "half streaming", "streaming"};
    for (int mode = 0; mode < 3; mode++) {
        size_t room = mode == 0 ? all : mode == 1 ? (all + least) / 2 : least;
        if (swm_backend_limit(b, SWM_DEVICE_OVERHEAD + scratch + room, &error) != 0) stop(&error);
        if (swm_backend_begin(b, names[mode], scratch, &list, &error) != 0) stop(&error);
        run_mode(h, b, names[mode], &n, input, want, false);
        swm_weights_leave(b);
    }
    swm_backend_limit(b, SWM_DEVICE_OVERHEAD + scratch + least - 1, &error);
    bool refused = swm_backend_begin(b, "too small", scratch, &list, &error) != 0;
    printf("      one byte less: %s\n", refused ? error.text : "accepted");
    if (!refused) {
        h->worst = INFINITY;
        snprintf(h->where, sizeof h->where, "a budget that is too small was accepted");
    }
    harness_report(h, "weights residency", 0, 0);
    swm_weight_list_free(&list);
    swm_backend_close(plan);
    swm_backend_close(b);
    while (n.count > 0) free(n.memory[--n.count]);
    free(want);
    free(input);
}
