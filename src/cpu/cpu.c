/* Opening of the CPU backend, its memory, work spaces and kernel table. */
#include "cpu/cpu.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* OpenBLAS has threads of its own, which would fight with ours; other BLAS libraries lack the symbol. */
extern void openblas_set_num_threads(int threads) __attribute__((weak));

typedef struct cpu_device {
    float *slots;
    int workspace_count;
    float *workspaces;
    double *stamps;
    size_t stamp_count;
} cpu_device;

float *swm_cpu_workspace(swm_backend *b)
{
    cpu_device *device = b->device;
    int thread = omp_get_thread_num();
    SWM_REQUIRE(thread < device->workspace_count, "thread %d of %d", thread, device->workspace_count);
    return device->workspaces + (size_t)thread * SWM_CPU_WORKSPACE;
}

const float *swm_cpu_vector(swm_backend *b, int slot, swm_tensor weight)
{
    if (!swm_present(weight)) return NULL;
    if (weight.dtype == SWM_F32 && (uintptr_t)weight.data % sizeof(float) == 0) return weight.data;
    SWM_REQUIRE(slot < SWM_CPU_SLOTS && swm_count(weight) <= SWM_CPU_SLOT_SIZE, "weight %s in slot %d",
                swm_describe(weight).text, slot);
    float *values = ((cpu_device *)b->device)->slots + (size_t)slot * SWM_CPU_SLOT_SIZE;
    swm_to_f32(values, weight.data, weight.dtype, (size_t)swm_count(weight));
    return values;
}

static void *allocate(swm_backend *b, size_t bytes)
{
    (void)b;
    size_t rounded = swm_aligned_bytes(bytes);
    return aligned_alloc(SWM_ARENA_ALIGNMENT, rounded > 0 ? rounded : SWM_ARENA_ALIGNMENT);
}

static void release(swm_backend *b, void *memory)
{
    (void)b;
    free(memory);
}

static void close_device(swm_backend *b)
{
    cpu_device *device = b->device;
    free(device->stamps);
    free(device->workspaces);
    free(device->slots);
    free(device);
}

static void synchronise(swm_backend *b) { (void)b; }

/* "model name : AMD EPYC 7763" */
static void report(swm_backend *b, swm_device_report *out)
{
    (void)b;
    snprintf(out->name, sizeof out->name, "CPU");
    FILE *file = fopen("/proc/cpuinfo", "r");
    for (char line[256]; file != NULL && fgets(line, sizeof line, file) != NULL;)
        if (sscanf(line, "model name : %127[^\n]", out->name) == 1) break;
    if (file != NULL) fclose(file);
}

static void stamp(swm_backend *b, size_t index)
{
    cpu_device *device = b->device;
    if (index >= device->stamp_count) {
        size_t count = 2 * index + 64;
        double *stamps = swm_allocate(&b->error, count, sizeof *stamps);
        if (stamps == NULL) return;
        if (device->stamps != NULL) memcpy(stamps, device->stamps, device->stamp_count * sizeof *stamps);
        free(device->stamps);
        device->stamps = stamps;
        device->stamp_count = count;
    }
    device->stamps[index] = swm_seconds();
}

static double between(swm_backend *b, size_t from, size_t to)
{
    const cpu_device *device = b->device;
    SWM_REQUIRE(from < device->stamp_count && to < device->stamp_count, "stamps %zu and %zu", from, to);
    return device->stamps[to] - device->stamps[from];
}

static void upload(swm_backend *b, swm_tensor to, const float *values)
{
    (void)b;
    swm_from_f32(to.data, to.dtype, values, (size_t)swm_count(to));
}

static void download(swm_backend *b, void *values, swm_tensor from)
{
    (void)b;
    if (from.dtype == SWM_U8)
        memcpy(values, from.data, swm_bytes(from));
    else
        swm_to_f32(values, from.data, from.dtype, (size_t)swm_count(from));
}

static void copy(swm_backend *b, swm_tensor to, swm_tensor from)
{
    (void)b;
    memmove(to.data, from.data, swm_bytes(from));
}

static void zero(swm_backend *b, swm_tensor t)
{
    (void)b;
    memset(t.data, 0, swm_bytes(t));
}

/* Weights are used where they are mapped. */
static const void *weights_use(swm_backend *b, const void *weights, size_t bytes)
{
    (void)b;
    (void)bytes;
    return weights;
}

static void weights_done(swm_backend *b, const void *weights)
{
    (void)b;
    (void)weights;
}

static void weights_leave(swm_backend *b) { (void)b; }

static const swm_kernels cpu_kernels = {
    .allocate = allocate,
    .release = release,
    .close = close_device,
    .synchronise = synchronise,
    .report = report,
    .stamp = stamp,
    .between = between,
    .upload = upload,
    .download = download,
    .copy = copy,
    .zero = zero,
    .weights_use = weights_use,
    .weights_done = weights_done,
    .weights_leave = weights_leave,
    .linear = swm_cpu_linear,
    .add = swm_cpu_add,
    .multiply_silu = swm_cpu_multiply_silu,
    .gelu_multiply = swm_cpu_gelu_multiply,
    .silu = swm_cpu_silu,
    .modulation = swm_cpu_modulation,
    .adaptive_norm = swm_cpu_adaptive_norm,
    .gated_add = swm_cpu_gated_add,
    .rms_norm = swm_cpu_rms_norm,
    .rotate_grid = swm_cpu_rotate_grid,
    .transform_heads = swm_cpu_transform_heads,
    .attend = swm_cpu_attend,
    .key_conv = swm_cpu_key_conv,
    .frame_mean = swm_cpu_frame_mean,
    .gdn_decay = swm_cpu_gdn_decay,
    .gdn_camera_beta = swm_cpu_gdn_camera_beta,
    .gdn_scan = swm_cpu_gdn_scan,
    .depthwise_glu = swm_cpu_depthwise_glu,
    .temporal_conv = swm_cpu_temporal_conv,
    .transpose = swm_cpu_transpose,
    .pack_states = swm_cpu_pack_states,
    .rotate_half = swm_cpu_rotate_half,
    .conv = swm_cpu_conv,
    .upsample_merge = swm_cpu_upsample_merge,
    .downsample_merge = swm_cpu_downsample_merge,
    .patchify = swm_cpu_patchify,
    .unpatchify = swm_cpu_unpatchify,
    .blend = swm_cpu_blend,
    .paste = swm_cpu_paste,
    .pixels = swm_cpu_pixels,
};

swm_backend *swm_backend_open_cpu(int threads, swm_error *error)
{
    swm_backend *b = swm_allocate(error, 1, sizeof *b);
    cpu_device *device = swm_allocate(error, 1, sizeof *device);
    if (threads <= 0) threads = omp_get_num_procs();
    float *workspaces = swm_allocate(error, (size_t)threads * SWM_CPU_WORKSPACE, sizeof(float));
    float *slots = swm_allocate(error, (size_t)SWM_CPU_SLOTS * SWM_CPU_SLOT_SIZE, sizeof(float));
    if (b == NULL || device == NULL || workspaces == NULL || slots == NULL) {
        free(slots);
        free(workspaces);
        free(device);
        free(b);
        return NULL;
    }
    if (openblas_set_num_threads != NULL) openblas_set_num_threads(1);
    *device = (cpu_device){.slots = slots, .workspace_count = threads, .workspaces = workspaces};
    *b =
        (swm_backend){.name = "cpu", .kernels = &cpu_kernels, .compute = SWM_F32, .threads = threads, .device = device};
    return b;
}
