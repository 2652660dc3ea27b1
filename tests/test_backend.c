/* The backend contract around the ops: arena, plan, errors that stick, interruption, threads. What the ops compute is in
 * test_ops.c and test_ops_video.c. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "ops.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

int test_backend(void);

/* ---- arena -------------------------------------------------------------------------------------------------------- */

static void test_arena(void **state)
{
    (void)state;
    _Alignas(SWM_ARENA_ALIGNMENT) static char memory[2048];
    swm_arena arena = {.base = memory, .capacity = sizeof memory};
    assert_ptr_equal(swm_arena_take(&arena, 1), memory);
    assert_ptr_equal(swm_arena_take(&arena, 256), memory + 256);
    swm_mark mark = swm_arena_mark(&arena);
    assert_ptr_equal(swm_arena_take(&arena, 0), memory + 512); /* nothing takes nothing */
    assert_ptr_equal(swm_arena_take(&arena, 257), memory + 512);
    assert_int_equal(arena.used, 1024);
    swm_arena_release(&arena, mark);
    assert_int_equal(arena.used, 512);
    assert_int_equal(arena.peak, 1024);
    assert_ptr_equal(swm_arena_take(&arena, 1536), memory + 512);
    swm_arena counting = {0};
    assert_null(swm_arena_take(&counting, 1 << 30));
    assert_int_equal(counting.peak, 1 << 30);
}

static void overrun(swm_backend *b) { SWM_TAKE(b, SWM_F32, 1 << 26); }
static void reserve_in_use(swm_backend *b)
{
    SWM_TAKE(b, SWM_F32, 1);
    swm_backend_reserve(b, 1 << 20, NULL);
}
static void wrong_shapes(swm_backend *b) { swm_add(b, SWM_TAKE(b, SWM_F32, 2, 3), SWM_TAKE(b, SWM_F32, 3, 2)); }
static void wrong_weight(swm_backend *b)
{
    swm_linear(b, SWM_TAKE(b, SWM_F32, 2, 3), SWM_TAKE(b, SWM_F32, 4, 5), (swm_tensor){0}, SWM_IDENTITY);
}
static void wrong_chunks(swm_backend *b)
{
    swm_key_conv(b, SWM_TAKE(b, SWM_F32, 4, 2), SWM_TAKE(b, SWM_F32, 2, 1, 4), 4, (swm_chunks){2, (int64_t[]){0, 4}},
                 (swm_tensor){0}, false);
}
static void release_upwards(swm_backend *b) { swm_release(b, 256); }

/* A bug in the caller aborts, with a message on stderr. */
static void test_bugs_abort(void **state)
{
    swm_backend *b = *state;
    void (*const bugs[])(swm_backend *) = {overrun,      reserve_in_use, wrong_shapes,
                                           wrong_weight, wrong_chunks,   release_upwards};
    for (size_t i = 0; i < sizeof bugs / sizeof *bugs; i++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            close(STDERR_FILENO);
            bugs[i](b);
            _exit(0);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT) fail_msg("bug %zu went unnoticed", i);
    }
}

/* ---- memory ------------------------------------------------------------------------------------------------------- */

static void test_upload_download(void **state)
{
    swm_backend *b = *state;
    const swm_dtype types[] = {SWM_F32, SWM_BF16, SWM_F16};
    const float values[5] = {1, -0.5f, 3.140625f, 0, 1e-3f};
    for (int i = 0; i < 3; i++) {
        float back[5];
        swm_tensor t = SWM_UPLOAD(b, types[i], values, 5), copy = SWM_TAKE(b, types[i], 5, 1);
        assert_int_equal((uintptr_t)t.data % SWM_ARENA_ALIGNMENT, 0);
        swm_copy(b, copy, t);
        swm_download(b, back, copy);
        for (int j = 0; j < 4; j++) assert_true(back[j] == values[j]);
        assert_true(fabsf(back[4] - values[4]) < 4e-6f);
        swm_zero(b, copy);
        swm_download(b, back, copy);
        for (int j = 0; j < 5; j++) assert_true(back[j] == 0);
    }
}

static void *refuse(swm_backend *b, size_t bytes)
{
    (void)b;
    (void)bytes;
    return NULL;
}

static void test_reserve(void **state)
{
    (void)state;
    swm_error error = {0};
    swm_backend *b = swm_backend_open_cpu(1, &error);
    assert_non_null(b);
    assert_int_equal(swm_backend_reserve(b, 1024, &error), 0);
    SWM_TAKE(b, SWM_F32, 200);
    assert_int_equal(b->scratch.peak, 1024);
    swm_release(b, 0);
    assert_int_equal(swm_backend_reserve(b, 100, &error), 0); /* keeps the larger arena, forgets the peak */
    assert_int_equal(b->scratch.capacity, 1024);
    assert_int_equal(b->scratch.peak, 0);
    const swm_kernels *kernels = b->kernels;
    swm_kernels full = *kernels;
    full.allocate = refuse;
    b->kernels = &full;
    assert_int_equal(swm_backend_reserve(b, 2048, &error), -1);
    assert_non_null(strstr(error.text, "out of memory"));
    assert_int_equal(b->scratch.capacity, 0);
    b->kernels = kernels;
    error = (swm_error){0};
    assert_int_equal(swm_backend_reserve(b, 4096, &error), 0);
    swm_backend_close(b);
    swm_backend_close(NULL);
}

/* ---- plan --------------------------------------------------------------------------------------------------------- */

/* A little of everything; results at different heights of the arena. */
static swm_tensor some_work(swm_backend *b, const float *values)
{
    swm_tensor x = SWM_UPLOAD(b, b->compute, values, 6, 8), w = SWM_UPLOAD(b, SWM_BF16, values, 16, 8);
    swm_tensor y = SWM_TAKE(b, b->compute, 6, 16);
    swm_mark mark = swm_mark_of(b);
    swm_tensor h = swm_linear(b, x, w, (swm_tensor){0}, SWM_SILU);
    h = swm_attend(b, h, h, h, &(swm_attention){.heads = 2, .scale = 1});
    swm_copy(b, y, swm_silu(b, h));
    swm_release(b, mark);
    swm_gdn gdn = {.q = y,
                   .k = y,
                   .v = y,
                   .beta = SWM_UPLOAD(b, b->compute, values, 6, 2),
                   .decay = SWM_UPLOAD(b, SWM_F32, values, 3, 2),
                   .normalise = true,
                   .chunks = {1, (int64_t[]){0}}};
    return swm_gdn_scan(b, &gdn);
}

static void test_plan(void **state)
{
    (void)state;
    float values[128];
    for (int i = 0; i < 128; i++) values[i] = 0.01f * (float)(i % 17);
    swm_error error = {0};
    swm_backend *plan = swm_backend_open_plan(SWM_F32, &error), *half = swm_backend_open_plan(SWM_BF16, &error);
    swm_backend *b = swm_backend_open_cpu(1, &error);
    assert_true(plan != NULL && half != NULL && b != NULL);
    swm_tensor planned = some_work(plan, NULL);
    assert_null(planned.data);
    assert_string_equal(plan->name, "plan");
    assert_int_equal(swm_backend_check(plan, &error), 0);
    assert_int_equal(swm_backend_reserve(b, plan->scratch.peak, &error), 0);
    swm_tensor real = some_work(b, values);
    assert_int_equal(swm_backend_check(b, &error), 0);
    assert_int_equal(b->scratch.peak, plan->scratch.peak);
    assert_int_equal(b->scratch.peak, b->scratch.capacity);
    assert_int_equal(b->scratch.used, plan->scratch.used);
    assert_true(real.rank == planned.rank && real.shape[0] == planned.shape[0] && real.shape[1] == planned.shape[1]);
    assert_true(b->work.operations == plan->work.operations && b->work.flops == plan->work.flops);
    assert_true(b->work.bytes == plan->work.bytes);
    /* Work of the matrix products, by hand: the linear layer, the two of attention, and the scan's. */
    double scan = 4 * (2.0 * 6 * 16 * 8) + 2.0 * (2.0 * 3 * 2 * 8 * 8) * 8;
    assert_true(plan->work.flops == 2.0 * 6 * 8 * 16 + 4.0 * 6 * 16 * 6 + scan);
    some_work(half, NULL);
    assert_true(half->scratch.peak < plan->scratch.peak && half->work.flops == plan->work.flops &&
                half->work.bytes < plan->work.bytes);
    swm_backend_close(plan);
    swm_backend_close(half);
    swm_backend_close(b);
}

/* A download under plan leaves its memory alone, and a plan uploads from nowhere. */
static void fill_ones(const void *user, float *values)
{
    for (int i = 0; i < *(const int *)user; i++) values[i] = 1;
}

static void test_plan_moves_nothing(void **state)
{
    swm_backend *b = *state;
    int count = 6;
    float back[6] = {7, 7, 7, 7, 7, 7};
    swm_backend *plan = swm_backend_open_plan(SWM_F32, NULL);
    swm_download(plan, back, swm_upload_computed(plan, SWM_F32, fill_ones, NULL, 1, (int64_t[]){6}));
    assert_true(back[0] == 7 && back[5] == 7);
    swm_download(b, back, swm_upload_computed(b, SWM_F32, fill_ones, &count, 1, (int64_t[]){6}));
    assert_true(back[0] == 1 && back[5] == 1);
    swm_backend_close(plan);
}

/* ---- errors and interruption -------------------------------------------------------------------------------------- */

static void test_errors_stick(void **state)
{
    swm_backend *b = *state;
    float values[4] = {1, 2, 3, 4}, back[4] = {0};
    swm_tensor x = SWM_UPLOAD(b, SWM_F32, values, 4, 1), y = SWM_UPLOAD(b, SWM_F32, values, 4, 1);
    swm_fail(&b->error, "the first failure");
    swm_add(b, x, y);
    swm_fail(&b->error, "the second failure");
    swm_download(b, back, x);
    assert_true(back[0] == 0 && ops_at(x, 3) == 4); /* nothing ran */
    swm_error error = {0};
    assert_int_equal(swm_backend_check(b, &error), -1);
    assert_string_equal(error.text, "the first failure");
    assert_int_equal(swm_backend_check(b, &error), 0); /* handed over, and gone */
    swm_add(b, x, y);
    assert_true(ops_at(x, 3) == 8);
}

static bool after_three(void *user)
{
    int *asked = user;
    return ++*asked > 3;
}

static void test_interruption(void **state)
{
    swm_backend *b = *state;
    float value = 1;
    swm_tensor x = SWM_UPLOAD(b, SWM_F32, &value, 1, 1), y = SWM_UPLOAD(b, SWM_F32, &value, 1, 1);
    int asked = 0;
    b->interrupted = after_three;
    b->interrupted_user = &asked;
    for (int i = 0; i < 10; i++) swm_add(b, x, y);
    b->interrupted = NULL;
    assert_true(ops_at(x, 0) == 4);
    assert_int_equal(asked, 4); /* not again once stopped */
    swm_error error = {0};
    assert_int_equal(swm_backend_check(b, &error), -1);
    assert_string_equal(error.text, "interrupted");
}

static void remember_trace(void *user, swm_backend *b, const char *name, swm_tensor value)
{
    (void)b;
    snprintf(user, 256, "%.60s %s", name, swm_describe(value).text);
}

static void test_trace(void **state)
{
    swm_backend *b = *state;
    char seen[256] = "";
    swm_tensor x = OPS_MAKE(b, SWM_F32, 1, 2, 3);
    swm_trace(b, x, "unheard");
    b->trace = remember_trace;
    b->trace_user = seen;
    swm_trace(b, x, "blocks.%d", 3);
    assert_string_equal(seen, "blocks.3 (2,3)");
    swm_fail(&b->error, "broken");
    swm_trace(b, x, "late");
    assert_string_equal(seen, "blocks.3 (2,3)");
    swm_backend_check(b, NULL);
}

/* ---- threads ------------------------------------------------------------------------------------------------------ */

/* Ops large enough to be shared out give the same bits for every number of threads. */
static void check_threads(int threads, float *first)
{
    enum { N = 700, C = 96, H = 3 };
    swm_backend *b = swm_backend_open_cpu(threads, NULL);
    assert_non_null(b);
    assert_int_equal(b->threads, threads);
    assert_int_equal(swm_backend_reserve(b, 64 << 20, NULL), 0);
    swm_tensor x = OPS_MAKE(b, SWM_F32, 1, N, C), w = OPS_MAKE(b, SWM_BF16, 2, C, C);
    swm_tensor y = swm_linear(b, x, w, (swm_tensor){0}, SWM_GELU_TANH);
    y = swm_attend(b, y, x, y, &(swm_attention){.heads = H, .scale = 0.1f});
    swm_gdn gdn = {.q = y,
                   .k = x,
                   .v = y,
                   .beta = OPS_MAKE(b, SWM_F32, 3, N, H),
                   .decay = OPS_MAKE(b, SWM_F32, 4, 7, H),
                   .chunks = {1, (int64_t[]){0}}};
    for (int i = 0; i < N * C; i++) swm_floats(x)[i] *= 0.01f;
    y = swm_gdn_scan(b, &gdn);
    y = swm_temporal_conv(b, y, OPS_MAKE(b, SWM_F32, 5, C, C, 3, 1), 7, gdn.chunks, (swm_tensor){0}, false);
    swm_conv3d conv = {
        .weight = OPS_MAKE(b, SWM_F32, 6, 8, C, 3, 3, 3), .bias = OPS_MAKE(b, SWM_F32, 7, 8), .norm_silu = true};
    swm_tensor z = swm_conv(b, SWM_RESHAPE(y, 7, 10, 10, C), &conv);
    float values[N * 8];
    swm_download(b, values, z);
    assert_int_equal(swm_backend_check(b, NULL), 0);
    if (threads == 1) memcpy(first, values, sizeof values);
    assert_memory_equal(values, first, sizeof values);
    assert_true(isfinite(values[0]));
    swm_backend_close(b);
}

static void test_threads(void **state)
{
    (void)state;
    float first[700 * 8];
    for (int threads = 1; threads <= 4; threads++) check_threads(threads, first);
    swm_backend *b = swm_backend_open_cpu(0, NULL);
    assert_true(b != NULL && b->threads >= 1);
    swm_backend_close(b);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, ops_open, ops_close)

int test_backend(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arena),   TEST(test_bugs_abort),       TEST(test_upload_download),
        cmocka_unit_test(test_reserve), cmocka_unit_test(test_plan), TEST(test_plan_moves_nothing),
        TEST(test_errors_stick),        TEST(test_interruption),     TEST(test_trace),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests_name("backend", tests, NULL, NULL);
}
