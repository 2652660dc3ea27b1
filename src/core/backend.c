/* The functions of core/backend.h: shape checks, results from the arena, counts of work, and the call of the kernel if
 * there is one. No arithmetic on elements happens here. */
#include "core/backend.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- opening and memory ------------------------------------------------------------------------------------------- */

swm_backend *swm_backend_open_plan(swm_dtype compute, swm_error *error)
{
    swm_backend *b = swm_allocate(error, 1, sizeof *b);
    swm_weight_list *weights = swm_allocate(error, 1, sizeof *weights);
    if (b == NULL || weights == NULL) {
        free(weights);
        free(b);
        return NULL;
    }
    *b = (swm_backend){.name = "plan", .compute = compute, .device = weights};
    return b;
}

swm_backend *swm_backend_open(const char *device, bool float32, int threads, swm_error *error)
{
    if (device == NULL) device = swm_cuda_device_count() > 0 ? "cuda" : "cpu";
    if (strcmp(device, "cuda") == 0) return swm_backend_open_cuda(float32 ? SWM_F32 : SWM_BF16, 0, error);
    if (strcmp(device, "cpu") == 0) return swm_backend_open_cpu(threads, error);
    swm_fail(error, "device \"%s\" is unknown; cpu and cuda are known", device);
    return NULL;
}

void swm_backend_close(swm_backend *b)
{
    if (b == NULL) return;
    if (b->kernels != NULL) {
        b->kernels->release(b, b->scratch.base);
        b->kernels->close(b);
    } else {
        swm_weight_list weights = swm_plan_weights(b);
        swm_weight_list_free(&weights);
        free(b->device);
    }
    free(b);
}

int swm_backend_reserve(swm_backend *b, size_t bytes, swm_error *error)
{
    SWM_REQUIRE(b->scratch.used == 0, "%zu bytes of the arena are in use", b->scratch.used);
    b->scratch.peak = 0;
    if (b->kernels == NULL || bytes <= b->scratch.capacity) return 0;
    b->kernels->release(b, b->scratch.base);
    b->scratch.base = b->kernels->allocate(b, bytes);
    b->scratch.capacity = b->scratch.base != NULL ? bytes : 0;
    if (b->scratch.base == NULL)
        return swm_fail(error, "out of memory: the %s backend has no %.2f GB for activations; choose a smaller job",
                        b->name, (double)bytes * 1e-9);
    return 0;
}

/* Whether a kernel should run: there is a device, nothing has failed, nobody has asked to stop. */
static bool running(swm_backend *b)
{
    if (b->kernels == NULL || swm_failed(&b->error)) return false;
    if (b->interrupted != NULL && b->interrupted(b->interrupted_user)) {
        swm_fail(&b->error, "interrupted");
        return false;
    }
    return true;
}

int swm_backend_check(swm_backend *b, swm_error *error)
{
    if (b->kernels != NULL) b->kernels->synchronise(b);
    if (!swm_failed(&b->error)) return 0;
    swm_fail(error, "%s", b->error.text);
    b->error = (swm_error){0};
    return -1;
}

swm_device_report swm_backend_device(swm_backend *b)
{
    swm_device_report report = {0};
    if (b->kernels != NULL) b->kernels->report(b, &report);
    return report;
}

void swm_backend_stamp(swm_backend *b, size_t index)
{
    if (b->kernels != NULL) b->kernels->stamp(b, index);
}

double swm_backend_between(swm_backend *b, size_t from, size_t to)
{
    return b->kernels != NULL ? b->kernels->between(b, from, to) : 0;
}

static const swm_tensor absent = {0};

static void observe(swm_backend *b, const char *op, swm_tensor x, swm_tensor y, swm_tensor z)
{
    if (b->observe != NULL) b->observe(b->observer, b, op, (swm_tensor[]){x, y, z});
}

swm_tensor swm_take(swm_backend *b, swm_dtype dtype, int rank, const int64_t *shape)
{
    swm_tensor t = swm_tensor_make(dtype, NULL, rank, shape);
    t.data = swm_arena_take(&b->scratch, swm_bytes(t));
    return t;
}

static swm_tensor take_like(swm_backend *b, swm_tensor like) { return swm_take(b, b->compute, like.rank, like.shape); }

swm_tensor swm_upload(swm_backend *b, swm_dtype dtype, const float *values, int rank, const int64_t *shape)
{
    swm_tensor t = swm_take(b, dtype, rank, shape);
    observe(b, "upload", t, absent, absent);
    if (running(b)) b->kernels->upload(b, t, values);
    return t;
}

swm_tensor swm_upload_computed(swm_backend *b, swm_dtype dtype, swm_fill_function fill, const void *user, int rank,
                               const int64_t *shape)
{
    swm_tensor t = swm_take(b, dtype, rank, shape);
    observe(b, "upload", t, absent, absent);
    if (!running(b)) return t;
    float *values = swm_allocate(&b->error, (size_t)swm_count(t), sizeof(float));
    if (values == NULL) return t;
    fill(user, values);
    b->kernels->upload(b, t, values);
    free(values);
    return t;
}

void swm_download(swm_backend *b, float *values, swm_tensor t)
{
    SWM_REQUIRE(t.dtype != SWM_U8, "bytes downloaded as floats");
    observe(b, "download", t, absent, absent);
    if (running(b)) b->kernels->download(b, values, t);
}

void swm_download_bytes(swm_backend *b, uint8_t *values, swm_tensor t)
{
    SWM_REQUIRE(t.dtype == SWM_U8, "%s downloaded as bytes", swm_dtype_name(t.dtype));
    observe(b, "download", t, absent, absent);
    if (running(b)) b->kernels->download(b, values, t);
}

const void *swm_weights_use(swm_backend *b, const void *weights, size_t bytes)
{
    SWM_REQUIRE(bytes % sizeof(swm_tensor) == 0, "%zu bytes are no struct of tensors", bytes);
    observe(b, "weights", absent, absent, absent);
    if (b->kernels != NULL) return b->kernels->weights_use(b, weights, bytes);
    if (!swm_failed(&b->error)) swm_weight_list_use(b->device, weights, bytes, b->compute, &b->error);
    return weights;
}

void swm_weights_done(swm_backend *b, const void *weights)
{
    if (b->kernels != NULL)
        b->kernels->weights_done(b, weights);
    else if (!swm_failed(&b->error))
        swm_weight_list_done(b->device, weights);
}

void swm_weights_leave(swm_backend *b)
{
    if (b->kernels != NULL) b->kernels->weights_leave(b);
}

void swm_trace(swm_backend *b, swm_tensor value, const char *name_format, ...)
{
    if (b->trace == NULL || swm_failed(&b->error)) return;
    char name[160];
    va_list arguments;
    va_start(arguments, name_format);
    vsnprintf(name, sizeof name, name_format, arguments);
    va_end(arguments);
    b->trace(b->trace_user, b, name, value);
}

/* ---- checks and counts -------------------------------------------------------------------------------------------- */

static void require_shape(const char *op, swm_tensor t, int rank, const int64_t *shape)
{
    bool same = t.rank == rank;
    for (int i = 0; same && i < rank; i++) same = t.shape[i] == shape[i];
    SWM_REQUIRE(same, "%s: %s where %s belongs", op, swm_describe(t).text,
                swm_describe(swm_tensor_make(SWM_F32, NULL, rank, shape)).text);
}
#define REQUIRE_SHAPE(op, t, ...)                                                                                      \
    require_shape(op, t, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__})

static void require_same(const char *op, swm_tensor x, swm_tensor y) { require_shape(op, x, y.rank, y.shape); }

/* Ops call `account`, which knows the op by the function it stands in: swm_add is "add". */
static void account_op(const char *function, swm_backend *b, double flops, swm_tensor x, swm_tensor y, swm_tensor z)
{
    observe(b, strncmp(function, "swm_", 4) == 0 ? function + 4 : function, x, y, z);
    b->work.operations++;
    b->work.flops += flops;
    b->work.bytes += (double)swm_bytes(x) + (double)swm_bytes(y) + (double)swm_bytes(z);
}
#define account(...) account_op(__func__, __VA_ARGS__)

void swm_copy(swm_backend *b, swm_tensor to, swm_tensor from)
{
    SWM_REQUIRE(to.dtype == from.dtype && swm_count(to) == swm_count(from), "copy: %s to %s", swm_describe(from).text,
                swm_describe(to).text);
    account(b, 0, to, from, absent);
    if (running(b)) b->kernels->copy(b, to, from);
}

void swm_zero(swm_backend *b, swm_tensor t)
{
    account(b, 0, t, absent, absent);
    if (running(b)) b->kernels->zero(b, t);
}

/* ---- linear layers and pointwise maths ---------------------------------------------------------------------------- */

static void check_linear(const char *op, swm_tensor x, swm_tensor w, swm_tensor bias)
{
    SWM_REQUIRE(x.rank == 2 && w.rank >= 2 && swm_count(w) == w.shape[0] * x.shape[1], "%s: x %s, weight %s", op,
                swm_describe(x).text, swm_describe(w).text);
    if (swm_present(bias)) REQUIRE_SHAPE(op, bias, w.shape[0]);
}

static double linear_flops(swm_tensor x, swm_tensor w) { return 2.0 * (double)x.shape[0] * (double)swm_count(w); }

void swm_linear_to(swm_backend *b, swm_tensor y, swm_tensor x, swm_tensor w, swm_tensor bias, swm_activation activation)
{
    check_linear("linear", x, w, bias);
    REQUIRE_SHAPE("linear", y, x.shape[0], w.shape[0]);
    account(b, linear_flops(x, w), x, w, y);
    if (running(b)) b->kernels->linear(b, y, x, w, bias, activation, false);
}

swm_tensor swm_linear(swm_backend *b, swm_tensor x, swm_tensor w, swm_tensor bias, swm_activation activation)
{
    swm_tensor y = SWM_TAKE(b, b->compute, x.shape[0], w.shape[0]);
    swm_linear_to(b, y, x, w, bias, activation);
    return y;
}

void swm_linear_add(swm_backend *b, swm_tensor sum, swm_tensor x, swm_tensor w, swm_tensor bias)
{
    check_linear("linear_add", x, w, bias);
    REQUIRE_SHAPE("linear_add", sum, x.shape[0], w.shape[0]);
    account(b, linear_flops(x, w), x, w, sum);
    if (running(b)) b->kernels->linear(b, sum, x, w, bias, SWM_IDENTITY, true);
}

void swm_add(swm_backend *b, swm_tensor sum, swm_tensor y)
{
    require_same("add", y, sum);
    account(b, 0, sum, y, sum);
    if (running(b)) b->kernels->add(b, sum, y);
}

void swm_multiply_silu(swm_backend *b, swm_tensor x, swm_tensor gate)
{
    require_same("multiply_silu", gate, x);
    account(b, 0, x, gate, x);
    if (running(b)) b->kernels->multiply_silu(b, x, gate);
}

void swm_gelu_multiply(swm_backend *b, swm_tensor gate, swm_tensor up)
{
    require_same("gelu_multiply", up, gate);
    account(b, 0, gate, up, gate);
    if (running(b)) b->kernels->gelu_multiply(b, gate, up);
}

swm_tensor swm_silu(swm_backend *b, swm_tensor x)
{
    swm_tensor y = take_like(b, x);
    account(b, 0, x, y, absent);
    if (running(b)) b->kernels->silu(b, y, x);
    return y;
}

/* ---- norms and modulation ----------------------------------------------------------------------------------------- */

swm_tensor swm_modulation(swm_backend *b, swm_tensor t, swm_tensor table)
{
    SWM_REQUIRE(t.rank == 3 && table.rank == 2 && t.shape[2] == table.shape[1] &&
                    (t.shape[1] == table.shape[0] || t.shape[1] == 1),
                "modulation: %s with table %s", swm_describe(t).text, swm_describe(table).text);
    swm_tensor y = SWM_TAKE(b, b->compute, t.shape[0], table.shape[0], table.shape[1]);
    account(b, 0, t, table, y);
    if (running(b)) b->kernels->modulation(b, y, t, table);
    return y;
}

static void check_modulation(const char *op, swm_tensor x, swm_tensor modulation, int row)
{
    SWM_REQUIRE(x.rank == 2 && modulation.rank == 3 && modulation.shape[2] == x.shape[1] && row >= 0 &&
                    row < modulation.shape[1] && modulation.shape[0] > 0 && x.shape[0] % modulation.shape[0] == 0,
                "%s: %s with row %d of %s", op, swm_describe(x).text, row, swm_describe(modulation).text);
}

static swm_tensor adaptive_norm(swm_backend *b, swm_tensor x, swm_tensor modulation, int shift_row, int scale_row,
                                bool centred)
{
    check_modulation("adaptive_norm", x, modulation, shift_row);
    check_modulation("adaptive_norm", x, modulation, scale_row);
    swm_tensor y = take_like(b, x);
    account(b, 0, x, y, modulation);
    if (running(b)) b->kernels->adaptive_norm(b, y, x, modulation, shift_row, scale_row, centred);
    return y;
}

swm_tensor swm_adaptive_norm(swm_backend *b, swm_tensor x, swm_tensor modulation, int shift_row, int scale_row)
{
    return adaptive_norm(b, x, modulation, shift_row, scale_row, true);
}

swm_tensor swm_adaptive_rms_norm(swm_backend *b, swm_tensor x, swm_tensor modulation, int shift_row, int scale_row)
{
    return adaptive_norm(b, x, modulation, shift_row, scale_row, false);
}

void swm_gated_add(swm_backend *b, swm_tensor sum, swm_tensor y, swm_tensor modulation, int gate_row)
{
    require_same("gated_add", y, sum);
    check_modulation("gated_add", sum, modulation, gate_row);
    account(b, 0, sum, y, sum);
    if (running(b)) b->kernels->gated_add(b, sum, y, modulation, gate_row);
}

swm_tensor swm_rms_norm(swm_backend *b, swm_tensor x, swm_tensor weight, float epsilon, float offset)
{
    if (swm_present(weight)) REQUIRE_SHAPE("rms_norm", weight, swm_last(x));
    swm_tensor y = take_like(b, x);
    account(b, 0, x, y, weight);
    if (running(b)) b->kernels->rms_norm(b, y, x, weight, epsilon, offset);
    return y;
}

void swm_rotate_grid(swm_backend *b, swm_tensor y, swm_tensor x, swm_tensor norm, float epsilon,
                     const swm_grid_rotation *rotation)
{
    const swm_tensor *axes = rotation->axes;
    bool grid = swm_present(axes[1]);
    int64_t positions = axes[0].shape[0] * (grid ? axes[1].shape[0] * axes[2].shape[0] : 1);
    require_same("rotate_grid", y, x);
    SWM_REQUIRE(x.rank == 2 && x.shape[0] == positions && rotation->heads > 0 && x.shape[1] % rotation->heads == 0 &&
                    x.shape[1] / rotation->heads % 2 == 0 && swm_present(axes[2]) == grid,
                "rotate_grid: %s at %lld positions, %lld heads", swm_describe(x).text, (long long)positions,
                (long long)rotation->heads);
    for (int i = 0; i < (grid ? 3 : 1); i++)
        REQUIRE_SHAPE("rotate_grid", axes[i], axes[i].shape[0], axes[0].shape[1], 2);
    SWM_REQUIRE((grid ? 3 : 1) * axes[0].shape[1] <= x.shape[1] / 2, "rotate_grid: %lld frequencies for %s",
                (long long)axes[0].shape[1], swm_describe(x).text);
    if (swm_present(norm)) REQUIRE_SHAPE("rotate_grid", norm, x.shape[1]);
    account(b, 0, x, y, norm);
    if (running(b)) b->kernels->rotate_grid(b, y, x, norm, epsilon, rotation);
}

swm_tensor swm_transform_heads(swm_backend *b, swm_tensor x, const swm_head_transform *how)
{
    SWM_REQUIRE(x.rank == 2 && how->heads > 0 && x.shape[1] % how->heads == 0, "transform_heads: %s in %lld heads",
                swm_describe(x).text, (long long)how->heads);
    int64_t tokens = x.shape[0], head = x.shape[1] / how->heads;
    bool rays = swm_present(how->rays);
    if (swm_present(how->norm)) REQUIRE_SHAPE("transform_heads", how->norm, x.shape[1]);
    if (rays) REQUIRE_SHAPE("transform_heads", how->rays, tokens, 16);
    if (swm_present(how->rotation))
        REQUIRE_SHAPE("transform_heads", how->rotation, tokens, rays ? head / 4 : head / 2, 2);
    if (swm_present(how->inflation)) REQUIRE_SHAPE("transform_heads", how->inflation, tokens, how->heads);
    SWM_REQUIRE(rays ? head % 8 == 0 && swm_present(how->rotation) : !swm_present(how->inflation),
                "transform_heads: heads of %lld with a ray transform", (long long)head);
    swm_tensor y = take_like(b, x);
    account(b, 0, x, y, how->rays);
    if (running(b)) b->kernels->transform_heads(b, y, x, how);
    return y;
}

/* ---- mixing tokens ------------------------------------------------------------------------------------------------ */

swm_tensor swm_attend(swm_backend *b, swm_tensor q, swm_tensor k, swm_tensor v, const swm_attention *how)
{
    int64_t key_heads = how->key_heads ? how->key_heads : how->heads;
    SWM_REQUIRE(q.rank == 2 && k.rank == 2 && how->heads > 0 && how->heads % key_heads == 0 &&
                    q.shape[1] % how->heads == 0 && k.shape[1] == q.shape[1] / how->heads * key_heads &&
                    k.shape[0] > 0 && (!how->causal || q.shape[0] == k.shape[0]),
                "attend: q %s, k %s in %lld and %lld heads", swm_describe(q).text, swm_describe(k).text,
                (long long)how->heads, (long long)key_heads);
    require_same("attend", v, k);
    int64_t keys = k.shape[0];
    if (swm_present(how->prefix_keys)) {
        SWM_REQUIRE(!how->causal, "attend: a prefix with a mask");
        REQUIRE_SHAPE("attend", how->prefix_keys, how->prefix_keys.shape[0], k.shape[1]);
        require_same("attend", how->prefix_values, how->prefix_keys);
        keys += how->prefix_keys.shape[0];
    }
    swm_tensor y = take_like(b, q);
    account(b, 4.0 * (double)swm_count(q) * (double)keys, q, k, v);
    b->work.bytes += (double)swm_bytes(y) + 2.0 * (double)swm_bytes(how->prefix_keys);
    if (running(b)) b->kernels->attend(b, y, q, k, v, how);
    return y;
}

static void check_chunks(const char *op, swm_tensor x, int64_t frames, swm_chunks chunks)
{
    SWM_REQUIRE(x.rank == 2 && frames > 0 && x.shape[0] % frames == 0, "%s: %s in %lld frames", op,
                swm_describe(x).text, (long long)frames);
    SWM_REQUIRE(chunks.count > 0 && chunks.starts[0] == 0, "%s: no first chunk", op);
    for (int i = 0; i < chunks.count; i++) {
        int64_t end = i + 1 < chunks.count ? chunks.starts[i + 1] : frames;
        SWM_REQUIRE(chunks.starts[i] < end && end <= frames, "%s: chunk %d from %lld to %lld of %lld frames", op, i,
                    (long long)chunks.starts[i], (long long)end, (long long)frames);
    }
}

swm_tensor swm_key_conv(swm_backend *b, swm_tensor k, swm_tensor taps, int64_t frames, swm_chunks chunks,
                        swm_tensor tail, bool keep_tail)
{
    check_chunks("key_conv", k, frames, chunks);
    REQUIRE_SHAPE("key_conv", taps, k.shape[1], 1, 4);
    if (swm_present(tail)) REQUIRE_SHAPE("key_conv", tail, 3 * (k.shape[0] / frames), k.shape[1]);
    swm_tensor y = take_like(b, k);
    account(b, 0, k, y, taps);
    if (running(b)) b->kernels->key_conv(b, y, k, taps, frames, chunks, tail, keep_tail);
    return y;
}

swm_tensor swm_frame_mean(swm_backend *b, swm_tensor x, int64_t frames)
{
    SWM_REQUIRE(x.rank == 2 && frames > 0 && x.shape[0] % frames == 0, "frame_mean: %s in %lld frames",
                swm_describe(x).text, (long long)frames);
    swm_tensor y = SWM_TAKE(b, b->compute, frames, x.shape[1]);
    account(b, 0, x, y, absent);
    if (running(b)) b->kernels->frame_mean(b, y, x);
    return y;
}

swm_tensor swm_gdn_decay(swm_backend *b, swm_tensor u, swm_tensor a_log, swm_tensor dt_bias)
{
    REQUIRE_SHAPE("gdn_decay", a_log, swm_last(u));
    REQUIRE_SHAPE("gdn_decay", dt_bias, swm_last(u));
    swm_tensor y = swm_take(b, SWM_F32, u.rank, u.shape);
    account(b, 0, u, y, absent);
    if (running(b)) b->kernels->gdn_decay(b, y, u, a_log, dt_bias);
    return y;
}

swm_tensor swm_gdn_camera_beta(swm_backend *b, swm_tensor beta, swm_tensor inflation, int64_t frames)
{
    require_same("gdn_camera_beta", inflation, beta);
    SWM_REQUIRE(frames > 0 && beta.shape[0] % frames == 0, "gdn_camera_beta: %s in %lld frames",
                swm_describe(beta).text, (long long)frames);
    swm_tensor y = swm_take(b, SWM_F32, beta.rank, beta.shape);
    account(b, 0, beta, inflation, y);
    if (running(b)) b->kernels->gdn_camera_beta(b, y, beta, inflation, frames);
    return y;
}

swm_tensor swm_gdn_scan(swm_backend *b, const swm_gdn *how)
{
    int64_t tokens = how->q.shape[0], channels = how->q.shape[1], frames = how->decay.shape[0];
    check_chunks("gdn_scan", how->q, frames, how->chunks);
    require_same("gdn_scan", how->k, how->q);
    require_same("gdn_scan", how->v, how->q);
    int64_t heads = how->decay.shape[1], head = channels / heads;
    REQUIRE_SHAPE("gdn_scan", how->beta, tokens, heads);
    if (swm_present(how->rotation)) REQUIRE_SHAPE("gdn_scan", how->rotation, tokens, head / 2, 2);
    if (swm_present(how->state)) REQUIRE_SHAPE("gdn_scan", how->state, heads, head, head);
    if (swm_present(how->normaliser)) REQUIRE_SHAPE("gdn_scan", how->normaliser, heads, head);
    swm_tensor y = take_like(b, how->q);
    swm_mark mark = swm_mark_of(b);
    swm_gdn_work work = {
        .transition = SWM_TAKE(b, SWM_F32, frames, heads, head, head),
        .content = SWM_TAKE(b, SWM_F32, frames, heads, head, head),
        .memory = SWM_TAKE(b, SWM_F32, frames, heads, head, head),
    };
    if (how->normalise) {
        work.normaliser_transition = SWM_TAKE(b, SWM_F32, frames, heads, head, head);
        work.normaliser_content = SWM_TAKE(b, SWM_F32, frames, heads, head);
        work.normaliser_memory = SWM_TAKE(b, SWM_F32, frames, heads, head);
    }
    double per_token = 2.0 * (double)(tokens * channels * head),
           per_frame = 2.0 * (double)(frames * heads * head * head);
    double products = how->normalise ? 4.0 : 3.0; /* transition, content, output and the normaliser's transition */
    account(b, products * per_token + 2.0 * per_frame * (double)head, how->q, how->k, how->v);
    b->work.bytes += (double)swm_bytes(y);
    if (running(b)) b->kernels->gdn_scan(b, y, how, &work);
    swm_release(b, mark);
    return y;
}

/* ---- convolutions of the FFN -------------------------------------------------------------------------------------- */

swm_tensor swm_depthwise_glu(swm_backend *b, swm_tensor x, swm_tensor weight, swm_tensor bias, int64_t h, int64_t w)
{
    SWM_REQUIRE(x.rank == 2 && x.shape[0] % (h * w) == 0 && x.shape[1] % 2 == 0, "depthwise_glu: %s on %lldx%lld",
                swm_describe(x).text, (long long)h, (long long)w);
    REQUIRE_SHAPE("depthwise_glu", weight, x.shape[1], 1, 3, 3);
    REQUIRE_SHAPE("depthwise_glu", bias, x.shape[1]);
    swm_tensor y = SWM_TAKE(b, b->compute, x.shape[0], x.shape[1] / 2);
    account(b, 18.0 * (double)swm_count(x), x, y, weight);
    if (running(b)) b->kernels->depthwise_glu(b, y, x, weight, bias, h, w);
    return y;
}

swm_tensor swm_temporal_conv(swm_backend *b, swm_tensor x, swm_tensor weight, int64_t frames, swm_chunks chunks,
                             swm_tensor tail, bool keep_tail)
{
    check_chunks("temporal_conv", x, frames, chunks);
    REQUIRE_SHAPE("temporal_conv", weight, x.shape[1], x.shape[1], 3, 1);
    if (swm_present(tail)) REQUIRE_SHAPE("temporal_conv", tail, x.shape[0] / frames, x.shape[1]);
    swm_tensor y = take_like(b, x);
    account(b, linear_flops(x, weight), x, y, weight);
    if (running(b)) b->kernels->temporal_conv(b, y, x, weight, frames, chunks, tail, keep_tail);
    return y;
}

/* ---- layout ------------------------------------------------------------------------------------------------------- */

static swm_tensor transpose(swm_backend *b, swm_tensor x, swm_tensor y, int64_t rows, int64_t columns)
{
    account(b, 0, x, y, absent);
    if (running(b)) b->kernels->transpose(b, y, x, rows, columns);
    return y;
}

swm_tensor swm_channels_last(swm_backend *b, swm_tensor x)
{
    int64_t shape[SWM_MAX_RANK];
    for (int i = 0; i < x.rank; i++) shape[i] = x.shape[(i + 1) % x.rank];
    return transpose(b, x, swm_take(b, b->compute, x.rank, shape), x.shape[0], swm_row_size(x));
}

swm_tensor swm_channels_first(swm_backend *b, swm_tensor x)
{
    int64_t shape[SWM_MAX_RANK], channels = swm_last(x);
    for (int i = 0; i < x.rank; i++) shape[i] = x.shape[(i + x.rank - 1) % x.rank];
    return transpose(b, x, swm_take(b, b->compute, x.rank, shape), swm_count(x) / channels, channels);
}

swm_tensor swm_pack_states(swm_backend *b, swm_tensor states)
{
    SWM_REQUIRE(states.rank == 3 && swm_count(states) > 0, "pack_states: %s", swm_describe(states).text);
    swm_tensor y = SWM_TAKE(b, b->compute, states.shape[1], states.shape[2] * states.shape[0]);
    account(b, 0, y, states, absent);
    if (running(b)) b->kernels->pack_states(b, y, states);
    return y;
}

void swm_rotate_half(swm_backend *b, swm_tensor x, swm_tensor rotation, int64_t heads)
{
    SWM_REQUIRE(x.rank == 2 && heads > 0 && x.shape[1] % (2 * heads) == 0, "rotate_half: %s in %lld heads",
                swm_describe(x).text, (long long)heads);
    REQUIRE_SHAPE("rotate_half", rotation, x.shape[0], x.shape[1] / heads / 2, 2);
    account(b, 0, x, x, rotation);
    if (running(b)) b->kernels->rotate_half(b, x, rotation, heads);
}

/* ---- video autoencoder -------------------------------------------------------------------------------------------- */

void swm_conv_to(swm_backend *b, swm_tensor y, swm_tensor x, const swm_conv3d *how)
{
    SWM_REQUIRE(x.rank == 4 && x.shape[0] > 0 && (!how->reflect || (x.shape[1] > 1 && x.shape[2] > 1)),
                "conv: input %s", swm_describe(x).text);
    int64_t height = x.shape[1], width = x.shape[2], in = x.shape[3], out = how->weight.shape[0];
    int64_t frames = swm_conv_frames(how, x.shape[0]);
    REQUIRE_SHAPE("conv", how->weight, out, in, 3, 3, 3);
    REQUIRE_SHAPE("conv", how->bias, out);
    REQUIRE_SHAPE("conv", y, frames, height, width, out);
    if (swm_present(how->residual)) require_same("conv", how->residual, y);
    if (swm_present(how->cache)) REQUIRE_SHAPE("conv", how->cache, 2, height + 2, width + 2, in);
    SWM_REQUIRE(swm_present(how->cache) || !(how->cache_filled || how->open), "conv: spans of %s without a cache",
                swm_describe(x).text);
    swm_mark mark = swm_mark_of(b);
    swm_tensor padded = SWM_TAKE(b, b->compute, frames + 2, height + 2, width + 2, in);
    account(b, 2.0 * (double)(frames * height * width) * (double)swm_count(how->weight), x, y, how->weight);
    if (running(b)) b->kernels->conv(b, y, x, how, padded);
    swm_release(b, mark);
}

swm_tensor swm_conv(swm_backend *b, swm_tensor x, const swm_conv3d *how)
{
    SWM_REQUIRE(x.rank == 4, "conv: input %s", swm_describe(x).text);
    swm_tensor y =
        SWM_TAKE(b, b->compute, swm_conv_frames(how, x.shape[0]), x.shape[1], x.shape[2], how->weight.shape[0]);
    swm_conv_to(b, y, x, how);
    return y;
}

void swm_upsample_merge_to(swm_backend *b, swm_tensor out, swm_tensor y, swm_tensor x, bool drop_first)
{
    SWM_REQUIRE(y.rank == 4 && x.rank == 4 && y.shape[3] % 8 == 0 && x.shape[3] % 8 == 0 &&
                    y.shape[3] % x.shape[3] == 0,
                "upsample_merge: %s and %s", swm_describe(y).text, swm_describe(x).text);
    REQUIRE_SHAPE("upsample_merge", x, y.shape[0], y.shape[1], y.shape[2], x.shape[3]);
    REQUIRE_SHAPE("upsample_merge", out, 2 * y.shape[0] - (drop_first ? 1 : 0), 2 * y.shape[1], 2 * y.shape[2],
                  y.shape[3] / 8);
    account(b, 0, y, x, out);
    if (running(b)) b->kernels->upsample_merge(b, out, y, x, drop_first);
}

swm_tensor swm_upsample_merge(swm_backend *b, swm_tensor y, swm_tensor x, bool drop_first)
{
    SWM_REQUIRE(y.rank == 4, "upsample_merge: %s", swm_describe(y).text);
    swm_tensor out =
        SWM_TAKE(b, b->compute, 2 * y.shape[0] - (drop_first ? 1 : 0), 2 * y.shape[1], 2 * y.shape[2], y.shape[3] / 8);
    swm_upsample_merge_to(b, out, y, x, drop_first);
    return out;
}

void swm_downsample_merge_to(swm_backend *b, swm_tensor out, swm_tensor y, swm_tensor x, const int stride[3])
{
    int64_t cell = (int64_t)stride[0] * stride[1] * stride[2], channels = y.shape[3] * cell;
    SWM_REQUIRE(y.rank == 4 && x.rank == 4 && x.shape[0] % stride[0] == 0 && x.shape[1] % stride[1] == 0 &&
                    x.shape[2] % stride[2] == 0 && x.shape[3] * cell % channels == 0,
                "downsample_merge: %s and %s by %d,%d,%d", swm_describe(y).text, swm_describe(x).text, stride[0],
                stride[1], stride[2]);
    REQUIRE_SHAPE("downsample_merge", x, y.shape[0], y.shape[1], y.shape[2], x.shape[3]);
    REQUIRE_SHAPE("downsample_merge", out, x.shape[0] / stride[0], x.shape[1] / stride[1], x.shape[2] / stride[2],
                  channels);
    account(b, 0, y, x, out);
    if (running(b)) b->kernels->downsample_merge(b, out, y, x, stride);
}

swm_tensor swm_downsample_merge(swm_backend *b, swm_tensor y, swm_tensor x, const int stride[3])
{
    swm_tensor out = SWM_TAKE(b, b->compute, x.shape[0] / stride[0], x.shape[1] / stride[1], x.shape[2] / stride[2],
                              y.shape[3] * stride[0] * stride[1] * stride[2]);
    swm_downsample_merge_to(b, out, y, x, stride);
    return out;
}

swm_tensor swm_patchify(swm_backend *b, swm_tensor x)
{
    SWM_REQUIRE(x.rank == 4 && x.shape[1] % 4 == 0 && x.shape[2] % 4 == 0, "patchify: %s", swm_describe(x).text);
    swm_tensor y = SWM_TAKE(b, b->compute, x.shape[0], x.shape[1] / 4, x.shape[2] / 4, x.shape[3] * 16);
    account(b, 0, x, y, absent);
    if (running(b)) b->kernels->patchify(b, y, x);
    return y;
}

swm_tensor swm_unpatchify(swm_backend *b, swm_tensor x)
{
    SWM_REQUIRE(x.rank == 4 && x.shape[3] % 16 == 0, "unpatchify: %s", swm_describe(x).text);
    swm_tensor y = SWM_TAKE(b, b->compute, x.shape[0], x.shape[1] * 4, x.shape[2] * 4, x.shape[3] / 16);
    account(b, 0, x, y, absent);
    if (running(b)) b->kernels->unpatchify(b, y, x);
    return y;
}

void swm_blend(swm_backend *b, swm_tensor tile, swm_tensor before, int axis, int64_t extent)
{
    SWM_REQUIRE(tile.rank == 4 && before.rank == 4 && axis >= 0 && axis < 4 && extent >= 0 &&
                    extent <= tile.shape[axis] && extent <= before.shape[axis],
                "blend: %lld of axis %d of %s and %s", (long long)extent, axis, swm_describe(tile).text,
                swm_describe(before).text);
    account(b, 0, tile, before, absent);
    if (running(b) && extent > 0) b->kernels->blend(b, tile, before, axis, extent);
}

void swm_paste(swm_backend *b, swm_tensor to, const int64_t at[4], swm_tensor x, const int64_t from[4],
               const int64_t box[4])
{
    SWM_REQUIRE(to.rank == 4 && x.rank == 4, "paste: %s to %s", swm_describe(x).text, swm_describe(to).text);
    for (int i = 0; i < 4; i++)
        SWM_REQUIRE(at[i] >= 0 && from[i] >= 0 && box[i] >= 0 && at[i] + box[i] <= to.shape[i] &&
                        from[i] + box[i] <= x.shape[i],
                    "paste: axis %d of %s to %s", i, swm_describe(x).text, swm_describe(to).text);
    account(b, 0, to, x, absent);
    if (running(b)) b->kernels->paste(b, to, at, x, from, box);
}

swm_tensor swm_pixels(swm_backend *b, swm_tensor x, bool truncate)
{
    swm_tensor y = swm_take(b, SWM_U8, x.rank, x.shape);
    account(b, 0, x, y, absent);
    if (running(b)) b->kernels->pixels(b, y, x, truncate);
    return y;
}
