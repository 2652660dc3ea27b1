/* The matrix ops of the CUDA backend (linear, temporal_conv, attend, conv) against the CPU backend over many shapes,
 * with every kernel that could be chosen; and their speed at the release's size. One line an op and kernel. A
 * failing op does not stop the others, unless the device is lost. */
#include "harness.h"

#include "cuda/matrix.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct pair {
    swm_backend *cpu, *cuda;
} pair;

typedef struct verdict {
    const char *type, *name;
    int cases;
    double worst, bound;
    char where[160];
} verdict;

static const char *choice_names[] = {"best", "generic"};

/* ---- values ------------------------------------------------------------------------------------------------------ */

static uint64_t random_state = 0x2545F4914F6CDD1Du;

static uint64_t random_bits(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* Roughly normal, mean 0, deviation `scale`, exact in bfloat16 so that both backends start from the same numbers. */
static float *random_floats(int64_t count, float scale)
{
    float *values = malloc((size_t)(count > 0 ? count : 1) * sizeof *values);
    for (int64_t i = 0; values != NULL && i < count; i++) {
        float sum = 0;
        uint64_t bits = random_bits();
        for (int k = 0; k < 4; k++) sum += (float)((bits >> (16 * k)) & 0xffff) / 65536.0f - 0.5f;
        values[i] = swm_bf16_to_f32(swm_f32_to_bf16(sum * 1.732f * scale));
    }
    return values;
}

/* An operand on both backends. */
typedef struct operand {
    swm_tensor cpu, cuda;
} operand;

static operand put(const pair *p, swm_dtype dtype, float scale, int rank, const int64_t *shape)
{
    swm_tensor like = swm_tensor_make(SWM_F32, NULL, rank, shape);
    float *values = random_floats(swm_count(like), scale);
    operand o = {swm_upload(p->cpu, SWM_F32, values, rank, shape), swm_upload(p->cuda, dtype, values, rank, shape)};
    free(values);
    return o;
}
#define PUT(p, scale, ...)                                                                                             \
    put(p, (p)->cuda->compute, scale, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),                       \
        (int64_t[]){__VA_ARGS__})

/* Weights: on the host in F32; each backend sees them through swm_weights_use. */
typedef struct affine {
    swm_tensor weight, bias;
} affine;

static affine make_weights(int64_t outputs, int rank, const int64_t *shape)
{
    swm_tensor like = swm_tensor_make(SWM_F32, NULL, rank, shape);
    float scale = 1.0f / sqrtf((float)(swm_count(like) / outputs));
    affine w = {swm_tensor_make(SWM_F32, random_floats(swm_count(like), scale), rank, shape),
                SWM_TENSOR(SWM_F32, random_floats(outputs, 0.5f), outputs)};
    return w;
}

static void free_weights(affine *w)
{
    free(w->weight.data);
    free(w->bias.data);
}

/* What nobody writes must not look right: the rest of the device's arena becomes NaN. */
static void poison(swm_backend *b)
{
    cudaMemset((char *)b->scratch.base + b->scratch.used, 0xff, b->scratch.capacity - b->scratch.used);
    cudaDeviceSynchronize();
}

static double distance(const pair *p, swm_tensor got, swm_tensor want)
{
    int64_t count = swm_count(want);
    float *values = malloc((size_t)count * sizeof *values);
    if (values == NULL) return INFINITY;
    swm_download(p->cuda, values, got);
    double squares = 0, norm = 0;
    for (int64_t i = 0; i < count; i++) {
        double difference = (double)values[i] - (double)swm_floats(want)[i];
        squares += difference * difference;
        norm += (double)swm_floats(want)[i] * (double)swm_floats(want)[i];
    }
    free(values);
    swm_error error = {0};
    if (swm_backend_check(p->cuda, &error) != 0) {
        printf("  %s\n", error.text);
        return INFINITY;
    }
    return sqrt(squares / (norm > 0 ? norm : 1));
}

static void record(verdict *v, double d, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void record(verdict *v, double d, const char *format, ...)
{
    v->cases++;
    if (d <= v->worst) return;
    v->worst = isnan(d) ? INFINITY : d;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(v->where, sizeof v->where, format, arguments);
    va_end(arguments);
}

static int conclude(const verdict *v)
{
    bool good = v->worst <= v->bound;
    printf("%-5s %-34s %4d cases  worst %.1e  bound %.0e  %s  %s\n", v->type, v->name, v->cases, v->worst, v->bound,
           good ? "ok  " : "FAIL", v->where);
    fflush(stdout);
    return good ? 0 : 1;
}

static verdict open_verdict(const pair *p, const char *name, double f32_bound)
{
    verdict v = {.type = swm_dtype_name(p->cuda->compute),
                 .name = name,
                 .bound = p->cuda->compute == SWM_F32 ? f32_bound : 1e-2};
    return v;
}

/* ---- linear ------------------------------------------------------------------------------------------------------ */

static void linear_case(const pair *p, verdict *v, int64_t rows, int64_t inputs, int64_t outputs, bool biased,
                        swm_activation activation, bool accumulate)
{
    swm_mark cpu = swm_mark_of(p->cpu), cuda = swm_mark_of(p->cuda);
    operand x = PUT(p, 1, rows, inputs), sum = PUT(p, 1, rows, outputs);
    affine w = make_weights(outputs, 2, (int64_t[]){outputs, inputs});
    if (!biased) w.bias.rank = 0;
    poison(p->cuda);
    const affine *here = swm_weights_use(p->cpu, &w, sizeof w), *there = swm_weights_use(p->cuda, &w, sizeof w);
    operand y = sum;
    if (accumulate) {
        swm_linear_add(p->cpu, sum.cpu, x.cpu, here->weight, here->bias);
        swm_linear_add(p->cuda, sum.cuda, x.cuda, there->weight, there->bias);
    } else {
        y.cpu = swm_linear(p->cpu, x.cpu, here->weight, here->bias, activation);
        y.cuda = swm_linear(p->cuda, x.cuda, there->weight, there->bias, activation);
    }
    record(v, distance(p, y.cuda, y.cpu), "%lldx%lld to %lld, bias %d, activation %d, add %d", (long long)rows,
           (long long)inputs, (long long)outputs, biased, (int)activation, accumulate);
    free_weights(&w);
    swm_release(p->cpu, cpu);
    swm_release(p->cuda, cuda);
}

/* The same rows in one call and in two give the same bits. */
static int linear_slices(const pair *p, int64_t rows, int64_t inputs, int64_t outputs)
{
    swm_mark cpu = swm_mark_of(p->cpu), cuda = swm_mark_of(p->cuda);
    operand x = PUT(p, 1, rows, inputs);
    affine w = make_weights(outputs, 2, (int64_t[]){outputs, inputs});
    const affine *there = swm_weights_use(p->cuda, &w, sizeof w);
    swm_tensor whole = swm_linear(p->cuda, x.cuda, there->weight, there->bias, SWM_IDENTITY);
    swm_tensor parts = SWM_TAKE(p->cuda, p->cuda->compute, rows, outputs);
    int64_t cut = rows / 3;
    swm_linear_to(p->cuda, swm_rows(parts, 0, cut), swm_rows(x.cuda, 0, cut), there->weight, there->bias, SWM_IDENTITY);
    swm_linear_to(p->cuda, swm_rows(parts, cut, rows - cut), swm_rows(x.cuda, cut, rows - cut), there->weight,
                  there->bias, SWM_IDENTITY);
    int64_t count = rows * outputs;
    float *a = malloc((size_t)count * sizeof *a), *b = malloc((size_t)count * sizeof *b);
    swm_download(p->cuda, a, whole);
    swm_download(p->cuda, b, parts);
    int failed = a == NULL || b == NULL || memcmp(a, b, (size_t)count * sizeof *a) != 0;
    printf("linear of %lldx%lld to %lld in slices: %s\n", (long long)rows, (long long)inputs, (long long)outputs,
           failed ? "OTHER BITS" : "same bits");
    free(a);
    free(b);
    free_weights(&w);
    swm_release(p->cpu, cpu);
    swm_release(p->cuda, cuda);
    return failed;
}

static int test_linear(const pair *p)
{
    static const int64_t shapes[][3] = {{1, 8, 8},       {37, 24, 16},     {121, 256, 2240}, {300, 2304, 448},
                                        {880, 448, 20},  {64, 17, 5},      {129, 100, 33},   {1, 2240, 2240},
                                        {513, 112, 896}, {2640, 224, 640}, {77, 6720, 64},   {1000, 64, 1344}};
    int failures = 0;
    for (int what = 0; what < 6; what++) {
        static const char *names[] = {"linear",         "linear silu", "linear gelu",
                                      "linear sigmoid", "linear add",  "linear no bias"};
        verdict v = open_verdict(p, names[what], 1e-5);
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            linear_case(p, &v, shapes[i][0], shapes[i][1], shapes[i][2], what != 5,
                        what < 4 ? (swm_activation)what : SWM_IDENTITY, what == 4);
        failures += conclude(&v);
    }
    failures += linear_slices(p, 2640, 448, 1344);
    failures += linear_slices(p, 301, 112, 448);
    /* Whole and parts in different classes of row counts, whose algorithms might add in another order. */
    failures += linear_slices(p, 4400, 4096, 4096);
    failures += linear_slices(p, 4400, 2240, 13440);
    failures += linear_slices(p, 1200, 4096, 4096);
    return failures;
}

/* ---- temporal convolution ---------------------------------------------------------------------------------------- */

static void temporal_case(const pair *p, verdict *v, int64_t frames, int64_t tokens, int64_t channels,
                          swm_chunks chunks, bool tail)
{
    swm_mark cpu = swm_mark_of(p->cpu), cuda = swm_mark_of(p->cuda);
    operand x = PUT(p, 1, frames * tokens, channels), past = PUT(p, 1, tokens, channels);
    if (!tail) past = (operand){0};
    affine w = make_weights(channels, 4, (int64_t[]){channels, channels, 3, 1});
    poison(p->cuda);
    const affine *here = swm_weights_use(p->cpu, &w, sizeof w), *there = swm_weights_use(p->cuda, &w, sizeof w);
    operand y = {swm_temporal_conv(p->cpu, x.cpu, here->weight, frames, chunks, past.cpu, tail),
                 swm_temporal_conv(p->cuda, x.cuda, there->weight, frames, chunks, past.cuda, tail)};
    double d = distance(p, y.cuda, y.cpu);
    if (tail) d = fmax(d, distance(p, past.cuda, past.cpu));
    record(v, d, "%lld frames of %lld tokens, %lld channels, %d chunks, tail %d", (long long)frames, (long long)tokens,
           (long long)channels, chunks.count, tail);
    free_weights(&w);
    swm_release(p->cpu, cpu);
    swm_release(p->cuda, cuda);
}

static int test_temporal(const pair *p)
{
    static const int64_t one[] = {0}, two[] = {0, 3}, many[] = {0, 1, 4, 7};
    const swm_chunks chunks[] = {{1, one}, {2, two}, {4, many}};
    verdict v = open_verdict(p, "temporal_conv", 1e-5);
    for (int i = 0; i < 3; i++)
        for (int tail = 0; tail < 2; tail++) {
            temporal_case(p, &v, 9, 40, 64, chunks[i], tail);
            temporal_case(p, &v, 8, 7, 36, chunks[i], tail);
            temporal_case(p, &v, 11, 1, 224, chunks[i], tail);
        }
    temporal_case(p, &v, 1, 35, 64, chunks[0], true);
    temporal_case(p, &v, 13, 1200, 1800, chunks[0], true); /* more than one slice of scratch */
    return conclude(&v);
}

/* ---- attention --------------------------------------------------------------------------------------------------- */

typedef struct attend_shape {
    int64_t queries, keys, heads, key_heads, head, window, prefix;
    bool causal;
    float softcap, steep; /* steep: factor of the usual scale, 0 for 1 */
} attend_shape;

static void attend_case(const pair *p, verdict *v, const attend_shape *s)
{
    swm_mark cpu = swm_mark_of(p->cpu), cuda = swm_mark_of(p->cuda);
    int64_t key_heads = s->key_heads ? s->key_heads : s->heads;
    operand q = PUT(p, 2, s->queries, s->heads * s->head), k = PUT(p, 2, s->keys, key_heads * s->head);
    operand values = PUT(p, 1, s->keys, key_heads * s->head);
    int64_t before = s->prefix > 0 ? s->prefix : 1;
    operand prefix_k = PUT(p, 2, before, key_heads * s->head), prefix_v = PUT(p, 1, before, key_heads * s->head);
    swm_attention how = {.heads = s->heads,
                         .key_heads = s->key_heads,
                         .scale = (s->steep > 0 ? s->steep : 1) / sqrtf((float)s->head),
                         .softcap = s->softcap,
                         .causal = s->causal,
                         .window = s->window};
    if (s->prefix > 0) how.prefix_keys = prefix_k.cpu, how.prefix_values = prefix_v.cpu;
    swm_tensor want = swm_attend(p->cpu, q.cpu, k.cpu, values.cpu, &how);
    if (s->prefix > 0) how.prefix_keys = prefix_k.cuda, how.prefix_values = prefix_v.cuda;
    poison(p->cuda);
    swm_tensor got = swm_attend(p->cuda, q.cuda, k.cuda, values.cuda, &how);
    record(v, distance(p, got, want),
           "%lld queries, %lld + %lld keys, %lld/%lld heads of %lld, causal %d window %lld cap %g steep %g",
           (long long)s->queries, (long long)s->prefix, (long long)s->keys, (long long)s->heads, (long long)key_heads,
           (long long)s->head, s->causal, (long long)s->window, (double)s->softcap, (double)s->steep);
    swm_release(p->cpu, cpu);
    swm_release(p->cuda, cuda);
}

static int test_attend(const pair *p, swm_cuda_choice choice)
{
    static const int64_t heads[] = {8, 20, 32, 40, 64, 112, 128, 256};
    static const int64_t lengths[][2] = {{1, 1},     {7, 3},     {64, 64},    {128, 176}, {129, 177},
                                         {100, 352}, {300, 353}, {257, 1000}, {1000, 528}};
    int failures = 0;
    char name[64];
    snprintf(name, sizeof name, "attend (%s)", choice_names[choice]);
    swm_cuda_device_of(p->cuda)->matrix->attention = choice;
    verdict v = open_verdict(p, name, 2e-5);
    for (size_t h = 0; h < sizeof heads / sizeof *heads; h++)
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
            attend_shape s = {.queries = lengths[i][0], .keys = lengths[i][1], .heads = 3, .head = heads[h]};
            attend_case(p, &v, &s);
        }
    failures += conclude(&v);
    snprintf(name, sizeof name, "attend masked, grouped (%s)", choice_names[choice]);
    v = open_verdict(p, name, 2e-5);
    for (size_t h = 0; h < sizeof heads / sizeof *heads; h++)
        for (int64_t n = 1; n <= 400; n = n * 3 + 5) {
            attend_shape s = {.queries = n, .keys = n, .heads = 4, .key_heads = 2, .head = heads[h]};
            attend_case(p, &v, &s);
            s.causal = true;
            attend_case(p, &v, &s);
            s.softcap = 5;
            attend_case(p, &v, &s);
            s.window = 50;
            attend_case(p, &v, &s);
        }
    failures += conclude(&v);
    /* Keys before the keys. With 45 heads the last wave of an H200 (132 multiprocessors) is made of pieces. */
    static const int64_t prefixes[] = {0, 1, 176, 192, 353, 880, 881};
    static const int64_t behind[][2] = {{1, 1}, {300, 177}, {257, 880}};
    snprintf(name, sizeof name, "attend behind a prefix (%s)", choice_names[choice]);
    v = open_verdict(p, name, 2e-5);
    for (size_t h = 0; h < sizeof heads / sizeof *heads; h++)
        for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
            for (size_t k = 0; k < sizeof behind / sizeof *behind; k++) {
                attend_shape s = {.queries = behind[k][0], .keys = behind[k][1], .heads = 2, .head = heads[h]};
                s.prefix = prefixes[i];
                s.key_heads = i % 2 ? 1 : 2;
                attend_case(p, &v, &s);
            }
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        attend_shape s = {.queries = 384 + (int64_t)i, .keys = 2000, .heads = 45, .head = i % 2 ? 112 : 128};
        s.prefix = prefixes[i];
        attend_case(p, &v, &s);
    }
    failures += conclude(&v);
    /* Scores of hundreds: later tiles exceed the first by more than a weight's exponent can hold. */
    snprintf(name, sizeof name, "attend steep (%s)", choice_names[choice]);
    v = open_verdict(p, name, 1e-3);
    for (size_t h = 0; h < sizeof heads / sizeof *heads; h++)
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
            attend_shape s = {.queries = lengths[i][0], .keys = lengths[i][1], .heads = 3, .head = heads[h]};
            s.steep = i % 2 ? 20 : 100;
            attend_case(p, &v, &s);
            s.prefix = 200;
            attend_case(p, &v, &s);
        }
    for (int64_t i = 0; i < 4; i++) {
        attend_shape s = {.queries = 384 + i, .keys = 2000, .heads = 45, .head = i % 2 ? 112 : 128, .steep = 60};
        attend_case(p, &v, &s);
    }
    failures += conclude(&v);
    swm_cuda_device_of(p->cuda)->matrix->attention = SWM_CUDA_BEST;
    return failures;
}

/* ---- convolution ------------------------------------------------------------------------------------------------- */

typedef struct conv_shape {
    int64_t frames, height, width, inputs, outputs;
    bool causal, reflect, norm, residual;
    int cache; /* 1: there but empty, 2: filled, 3 and 4: the same, and the video goes on */
} conv_shape;

static void conv_case(const pair *p, verdict *v, const conv_shape *s)
{
    swm_mark cpu = swm_mark_of(p->cpu), cuda = swm_mark_of(p->cuda);
    operand x = PUT(p, 1, s->frames, s->height, s->width, s->inputs);
    swm_conv3d how = {.causal = s->causal,
                      .reflect = s->reflect,
                      .norm_silu = s->norm,
                      .cache_filled = s->cache == 2 || s->cache == 4,
                      .open = s->cache > 2};
    int64_t frames = swm_conv_frames(&how, s->frames);
    operand residual = PUT(p, 1, frames + 1, s->height, s->width, s->outputs);
    operand cache = PUT(p, 1, 2, s->height + 2, s->width + 2, s->inputs);
    affine w = make_weights(s->outputs, 5, (int64_t[]){s->outputs, s->inputs, 3, 3, 3});
    const affine *here = swm_weights_use(p->cpu, &w, sizeof w), *there = swm_weights_use(p->cuda, &w, sizeof w);
    how.weight = here->weight;
    how.bias = here->bias;
    if (s->residual) how.residual = swm_rows(residual.cpu, 0, frames);
    if (s->cache) how.cache = cache.cpu;
    swm_tensor want = swm_conv(p->cpu, x.cpu, &how);
    how.weight = there->weight;
    how.bias = there->bias;
    swm_tensor got = swm_rows(residual.cuda, 0, frames); /* in place */
    if (s->residual) how.residual = got;
    if (s->cache) how.cache = cache.cuda;
    poison(p->cuda);
    swm_conv_to(p->cuda, got, x.cuda, &how);
    double d = frames > 0 ? distance(p, got, want) : 0;
    if (s->cache) d = fmax(d, distance(p, cache.cuda, cache.cpu));
    record(v, d, "%lldx%lldx%lld, %lld to %lld, causal %d reflect %d norm %d residual %d cache %d",
           (long long)s->frames, (long long)s->height, (long long)s->width, (long long)s->inputs, (long long)s->outputs,
           s->causal, s->reflect, s->norm, s->residual, s->cache);
    free_weights(&w);
    swm_release(p->cpu, cpu);
    swm_release(p->cuda, cuda);
}

static int test_conv(const pair *p, swm_cuda_choice choice)
{
    static const int64_t volumes[][3] = {{1, 2, 2},  {1, 5, 7},   {2, 4, 6},  {3, 11, 20},
                                         {5, 9, 33}, {4, 22, 40}, {2, 16, 64}};
    static const int64_t widths[][2] = {{64, 128}, {128, 64},  {48, 32}, {8, 48}, {16, 16},
                                        {64, 160}, {136, 256}, {3, 5},   {64, 72}};
    char name[64];
    snprintf(name, sizeof name, "conv (%s)", choice_names[choice]);
    swm_cuda_device_of(p->cuda)->matrix->conv = choice;
    verdict v = open_verdict(p, name, 1e-5);
    for (size_t i = 0; i < sizeof volumes / sizeof *volumes; i++)
        for (size_t k = 0; k < sizeof widths / sizeof *widths; k++) {
            unsigned bits = (unsigned)random_bits();
            conv_shape s = {volumes[i][0], volumes[i][1], volumes[i][2], widths[k][0],  widths[k][1],
                            bits & 1,      bits >> 1 & 1, bits >> 2 & 1, bits >> 3 & 1, 0};
            conv_case(p, &v, &s);
            s.cache = 1 + (int)(bits >> 4 & 3);
            s.causal = s.causal && s.cache <= 2;
            s.norm = !s.norm;
            s.residual = !s.residual;
            conv_case(p, &v, &s);
        }
    int failures = conclude(&v);
    swm_cuda_device_of(p->cuda)->matrix->conv = SWM_CUDA_BEST;
    return failures;
}

/* ---- speed ------------------------------------------------------------------------------------------------------- */

typedef struct linear_job {
    swm_tensor y, x, weight, bias;
    swm_activation activation;
    bool accumulate;
} linear_job;

static void run_linear(harness *h, const void *user)
{
    const linear_job *j = user;
    if (j->accumulate)
        swm_linear_add(h->gpu, j->y, j->x, j->weight, j->bias);
    else
        swm_linear_to(h->gpu, j->y, j->x, j->weight, j->bias, j->activation);
}

static void time_linear(harness *h, int64_t rows, int64_t inputs, int64_t outputs, swm_activation activation,
                        bool accumulate)
{
    swm_mark mark = swm_mark_of(h->gpu);
    linear_job j = {.activation = activation, .accumulate = accumulate};
    j.x = harness_large(h, false, -1, 1, SHAPE(rows, inputs));
    j.y = harness_large(h, false, -1, 1, SHAPE(rows, outputs));
    j.weight = harness_large(h, false, -0.03f, 0.03f, SHAPE(outputs, inputs));
    j.bias = harness_large(h, false, -1, 1, SHAPE(outputs));
    char name[80];
    snprintf(name, sizeof name, "linear %lld x %lld to %lld%s%s%s", (long long)rows, (long long)inputs,
             (long long)outputs, swm_cuda_device_of(h->gpu)->matrix->linear == SWM_CUDA_GENERIC ? " (one class)" : "",
             activation == SWM_SILU        ? " silu"
             : activation == SWM_GELU_TANH ? " gelu"
                                           : "",
             accumulate ? " add" : "");
    harness_time(h, name, run_linear, &j);
    swm_release(h->gpu, mark);
}

static void run_temporal(harness *h, const void *user)
{
    static const int64_t zero = 0;
    const linear_job *j = user;
    swm_temporal_conv(h->gpu, j->x, j->weight, 121, (swm_chunks){1, &zero}, (swm_tensor){0}, false);
}

static void time_temporal(harness *h)
{
    swm_mark mark = swm_mark_of(h->gpu);
    linear_job j = {.x = harness_large(h, false, -1, 1, SHAPE(121 * 880, 2240)),
                    .weight = harness_large(h, false, -0.02f, 0.02f, SHAPE(2240, 2240, 3, 1))};
    harness_time(h, "temporal_conv", run_temporal, &j);
    swm_release(h->gpu, mark);
}

typedef struct attend_job {
    swm_tensor q, k, v;
    swm_attention how;
} attend_job;

static void run_attend(harness *h, const void *user)
{
    const attend_job *j = user;
    swm_attend(h->gpu, j->q, j->k, j->v, &j->how);
}

/* With either choice of algorithms. */
static void time_small_linear(harness *h, int64_t rows, int64_t inputs, int64_t outputs, swm_activation activation)
{
    time_linear(h, rows, inputs, outputs, activation, false);
    swm_cuda_device_of(h->gpu)->matrix->linear = SWM_CUDA_GENERIC;
    time_linear(h, rows, inputs, outputs, activation, false);
    swm_cuda_device_of(h->gpu)->matrix->linear = SWM_CUDA_BEST;
}

static void time_attend(harness *h, swm_cuda_choice choice, int64_t queries, int64_t keys, int64_t prefix,
                        int64_t heads, int64_t head)
{
    swm_mark mark = swm_mark_of(h->gpu);
    attend_job j = {.q = harness_large(h, false, -3, 3, SHAPE(queries, heads * head)),
                    .k = harness_large(h, false, -3, 3, SHAPE(keys, heads * head)),
                    .v = harness_large(h, false, -1, 1, SHAPE(keys, heads * head)),
                    .how = {.heads = heads, .scale = 1.0f / sqrtf((float)head)}};
    if (prefix > 0) j.how.prefix_keys = harness_large(h, false, -3, 3, SHAPE(prefix, heads * head));
    if (prefix > 0) j.how.prefix_values = harness_large(h, false, -1, 1, SHAPE(prefix, heads * head));
    swm_cuda_device_of(h->gpu)->matrix->attention = choice;
    char name[80];
    snprintf(name, sizeof name, "attend %lld,%lld+%lld %lldx%lld (%s)", (long long)queries, (long long)prefix,
             (long long)keys, (long long)heads, (long long)head, choice_names[choice]);
    harness_time(h, name, run_attend, &j);
    swm_cuda_device_of(h->gpu)->matrix->attention = SWM_CUDA_BEST;
    swm_release(h->gpu, mark);
}

typedef struct conv_job {
    swm_tensor x;
    swm_conv3d how;
} conv_job;

static void run_conv(harness *h, const void *user)
{
    const conv_job *j = user;
    swm_conv(h->gpu, j->x, &j->how);
}

static void time_conv(harness *h, swm_cuda_choice choice, const conv_shape *s)
{
    swm_mark mark = swm_mark_of(h->gpu);
    conv_job j = {.x = harness_large(h, false, -1, 1, SHAPE(s->frames, s->height, s->width, s->inputs)),
                  .how = {.causal = s->causal, .reflect = s->reflect, .norm_silu = s->norm}};
    j.how.weight = harness_large(h, false, -0.02f, 0.02f, SHAPE(s->outputs, s->inputs, 3, 3, 3));
    j.how.bias = harness_large(h, false, -1, 1, SHAPE(s->outputs));
    if (s->residual) j.how.residual = j.x;
    swm_cuda_device_of(h->gpu)->matrix->conv = choice;
    char name[80];
    snprintf(name, sizeof name, "conv %lldx%lldx%lld %lld-%lld%s (%s)", (long long)s->frames, (long long)s->height,
             (long long)s->width, (long long)s->inputs, (long long)s->outputs, s->residual ? "+" : "",
             choice_names[choice]);
    harness_time(h, name, run_conv, &j);
    swm_cuda_device_of(h->gpu)->matrix->conv = SWM_CUDA_BEST;
    swm_release(h->gpu, mark);
}

void cuda_matrix_times(harness *h)
{
    time_linear(h, 106480, 2240, 2240, SWM_IDENTITY, false);
    time_linear(h, 106480, 2240, 2240, SWM_IDENTITY, true);
    time_linear(h, 15840, 2240, 13440, SWM_IDENTITY, false);
    time_linear(h, 15840, 2240, 13440, SWM_SILU, false);
    time_linear(h, 15840, 6720, 2240, SWM_IDENTITY, false);
    time_linear(h, 106480, 4096, 4096, SWM_IDENTITY, false);
    time_linear(h, 15840, 4096, 4096, SWM_IDENTITY, false);
    time_linear(h, 15840, 4096, 16384, SWM_GELU_TANH, false);
    time_linear(h, 15840, 16384, 4096, SWM_IDENTITY, false);
    time_small_linear(h, 2640, 2240, 2240, SWM_IDENTITY);
    time_small_linear(h, 2640, 2240, 13440, SWM_IDENTITY);
    time_small_linear(h, 2640, 4096, 4096, SWM_IDENTITY);
    time_small_linear(h, 2640, 4096, 16384, SWM_GELU_TANH);
    time_small_linear(h, 2640, 16384, 4096, SWM_IDENTITY);
    time_small_linear(h, 300, 3840, 4096, SWM_IDENTITY);
    time_small_linear(h, 300, 3840, 15360, SWM_IDENTITY);
    time_small_linear(h, 300, 15360, 3840, SWM_IDENTITY);
    time_temporal(h);
    time_attend(h, SWM_CUDA_BEST, 106480, 106480, 0, 20, 112);
    time_attend(h, SWM_CUDA_BEST, 35200, 35200, 0, 20, 112);
    time_attend(h, SWM_CUDA_GENERIC, 35200, 35200, 0, 20, 112);
    time_attend(h, SWM_CUDA_BEST, 35200, 35200, 0, 32, 128);
    time_attend(h, SWM_CUDA_BEST, 15840, 105600, 880, 32, 128);
    time_attend(h, SWM_CUDA_BEST, 105600, 105600, 880, 32, 128);
    time_attend(h, SWM_CUDA_BEST, 2640, 2640, 9680, 32, 128);
    time_attend(h, SWM_CUDA_BEST, 2640, 2640, 9681, 32, 128); /* a masked seam */
    time_attend(h, SWM_CUDA_BEST, 2640, 1024, 0, 32, 128);
    time_attend(h, SWM_CUDA_BEST, 15840, 1024, 0, 32, 128);
    time_attend(h, SWM_CUDA_BEST, 2640, 29040, 0, 20, 112);
    time_attend(h, SWM_CUDA_BEST, 106480, 300, 0, 20, 112);
    time_attend(h, SWM_CUDA_BEST, 106480, 64, 0, 20, 112);
    time_attend(h, SWM_CUDA_GENERIC, 106480, 300, 0, 20, 112);
    /* The decoder's layers; then one of them on both kernels. */
    static const conv_shape convs[] = {
        {121, 22, 40, 1024, 1024, false, true, true, true, 0}, {121, 22, 40, 1024, 4096, false, true, false, false, 0},
        {241, 44, 80, 512, 512, false, true, true, true, 0},   {481, 88, 160, 256, 256, false, true, true, true, 0},
        {961, 176, 320, 128, 128, false, true, true, true, 0}, {961, 176, 320, 128, 48, false, true, true, false, 0},
    };
    for (size_t i = 0; i < sizeof convs / sizeof *convs; i++) time_conv(h, SWM_CUDA_BEST, &convs[i]);
    static const conv_shape small = {61, 88, 160, 256, 256, false, true, true, true, 0};
    time_conv(h, SWM_CUDA_BEST, &small);
    time_conv(h, SWM_CUDA_GENERIC, &small);
}

/* ---- all --------------------------------------------------------------------------------------------------------- */

void cuda_matrix_tests(harness *h)
{
    pair p = {h->cpu, h->gpu};
    h->failures += test_linear(&p);
    h->failures += test_temporal(&p);
    h->failures += test_attend(&p, SWM_CUDA_GENERIC);
    h->failures += test_conv(&p, SWM_CUDA_GENERIC);
    if (h->gpu->compute != SWM_BF16) return;
    h->failures += test_conv(&p, SWM_CUDA_BEST);
    h->failures += test_attend(&p, SWM_CUDA_BEST);
}
