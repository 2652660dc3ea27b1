/* Opening of the CUDA backend, its memory, the way of tensors to and from the device, and the kernel table. No arithmetic
 * happens here; weights have a file of their own. */
#include "cuda/cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Activations travel between host and device through two pinned buffers: while one is on its way, the other is filled or
 * emptied. */
enum { STAGES = SWM_CUDA_STAGES, STAGE_BYTES = 16 << 20, COPY_THREADS = 4 };
static_assert((size_t)STAGES * STAGE_BYTES <= SWM_CUDA_SCRATCH, "conversions need a piece of scratch for every stage");

/* Left free when nobody sets a limit: code and local memory of kernels that have not run yet, other programs. */
static const size_t free_reserve = (size_t)512 << 20;

/* ---- errors ------------------------------------------------------------------------------------------------------ */

bool swm_cuda_check(swm_backend *b, cudaError_t status, const char *what)
{
    if (status == cudaSuccess) return true;
    const swm_cuda_device *device = swm_cuda_device_of(b);
    if (status == cudaErrorNoKernelImageForDevice)
        swm_fail(&b->error, "cuda: %s: this program holds no code for %s (compute capability %d.%d); build it for that",
                 what, device->name, device->capability / 10, device->capability % 10);
    else
        swm_fail(&b->error, "cuda: %s on %s: %s (%s)", what, device->name, cudaGetErrorString(status),
                 cudaGetErrorName(status));
    return false;
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

/* A refusal leaves b->error alone: the caller says what the memory was for. */
static void *allocate(swm_backend *b, size_t bytes)
{
    void *memory = NULL;
    cudaSetDevice(swm_cuda_device_of(b)->ordinal);
    if (cudaMalloc(&memory, bytes > 0 ? bytes : 1) == cudaSuccess) return memory;
    cudaGetLastError(); /* otherwise the next launch would report it */
    return NULL;
}

static void release(swm_backend *b, void *memory)
{
    (void)b;
    cudaFree(memory); /* waits for the device */
}

static size_t room(swm_backend *b)
{
    size_t available = 0, total = 0;
    cudaSetDevice(swm_cuda_device_of(b)->ordinal);
    if (!swm_cuda_check(b, cudaMemGetInfo(&available, &total), "asking for free memory")) return 0;
    available += b->scratch.capacity + swm_cuda_weights_held(b);
    return available > free_reserve ? available - free_reserve : 0;
}

static void synchronise(swm_backend *b)
{
    swm_cuda_check(b, cudaStreamSynchronize(swm_cuda_device_of(b)->stream), "waiting for the device");
}

static void report(swm_backend *b, swm_device_report *out)
{
    const swm_cuda_device *device = swm_cuda_device_of(b);
    size_t available = 0;
    snprintf(out->name, sizeof out->name, "%.*s", (int)sizeof out->name - 1, device->name);
    if (cudaMemGetInfo(&available, &out->memory) == cudaSuccess) out->memory_used = out->memory - available;
}

static void stamp(swm_backend *b, size_t index)
{
    swm_cuda_device *device = swm_cuda_device_of(b);
    if (index >= device->stamp_count) {
        size_t count = 2 * index + 64;
        cudaEvent_t *stamps = (cudaEvent_t *)swm_allocate(&b->error, count, sizeof *stamps);
        if (stamps == NULL) return;
        if (device->stamp_count > 0) memcpy(stamps, device->stamps, device->stamp_count * sizeof *stamps);
        free(device->stamps);
        device->stamps = stamps;
        device->stamp_count = count;
    }
    if (device->stamps[index] == NULL &&
        !swm_cuda_check(b, cudaEventCreate(&device->stamps[index]), "an event for a stamp"))
        return;
    swm_cuda_check(b, cudaEventRecord(device->stamps[index], device->stream), "stamp");
}

static double between(swm_backend *b, size_t from, size_t to)
{
    const swm_cuda_device *device = swm_cuda_device_of(b);
    float milliseconds = 0;
    SWM_REQUIRE(from < device->stamp_count && to < device->stamp_count, "stamps %zu and %zu", from, to);
    if (swm_failed(&b->error)) return 0;
    swm_cuda_check(b, cudaEventSynchronize(device->stamps[to]), "stamp");
    swm_cuda_check(b, cudaEventElapsedTime(&milliseconds, device->stamps[from], device->stamps[to]), "stamp");
    return milliseconds * 1e-3;
}

static void close_stamps(swm_cuda_device *device)
{
    for (size_t i = 0; i < device->stamp_count; i++)
        if (device->stamps[i] != NULL) cudaEventDestroy(device->stamps[i]);
    free(device->stamps);
}

static void copy(swm_backend *b, swm_tensor to, swm_tensor from)
{
    swm_cuda_check(
        b,
        cudaMemcpyAsync(to.data, from.data, swm_bytes(from), cudaMemcpyDeviceToDevice, swm_cuda_device_of(b)->stream),
        "copy");
}

static void zero(swm_backend *b, swm_tensor t)
{
    swm_cuda_check(b, cudaMemsetAsync(t.data, 0, swm_bytes(t), swm_cuda_device_of(b)->stream), "zero");
}

/* ---- between host and device ------------------------------------------------------------------------------------- */

/* `count` elements from host to device, changing their type on the way. Returns once the source may be changed. */
static bool send(swm_backend *b, void *to, swm_dtype to_type, const void *from, swm_dtype from_type, int64_t count)
{
    swm_cuda_device *device = swm_cuda_device_of(b);
    size_t from_size = swm_dtype_size(from_type), to_size = swm_dtype_size(to_type);
    int64_t piece = (int64_t)(STAGE_BYTES / from_size);
    for (int64_t first = 0, turn = 0; first < count; first += piece, turn++) {
        int64_t here = swm_min(piece, count - first);
        size_t bytes = (size_t)here * from_size;
        int stage = (int)(turn % STAGES);
        char *target = (char *)to + (size_t)first * to_size, *landing = target;
        if (to_type != from_type) landing = (char *)device->scratch + (size_t)stage * STAGE_BYTES;
        if (!swm_cuda_check(b, cudaEventSynchronize(device->stage_free[stage]), "upload")) return false;
        swm_copy_mapped(device->stage[stage], (const char *)from + (size_t)first * from_size, bytes, COPY_THREADS);
        if (!swm_cuda_check(
                b, cudaMemcpyAsync(landing, device->stage[stage], bytes, cudaMemcpyHostToDevice, device->stream),
                "upload") ||
            !swm_cuda_check(b, cudaEventRecord(device->stage_free[stage], device->stream), "upload"))
            return false;
        if (to_type != from_type) swm_cuda_convert(b, target, to_type, landing, from_type, here);
    }
    return true;
}

/* `count` elements from device to host, changing their type on the way; waits. */
static bool receive(swm_backend *b, void *to, swm_dtype to_type, const void *from, swm_dtype from_type, int64_t count)
{
    swm_cuda_device *device = swm_cuda_device_of(b);
    size_t to_size = swm_dtype_size(to_type), from_size = swm_dtype_size(from_type);
    int64_t piece = (int64_t)(STAGE_BYTES / to_size), pieces = swm_divide_up(count, piece);
    for (int64_t turn = 0; turn <= pieces; turn++) {
        if (turn < pieces) { /* its buffer was emptied in the turn before */
            int64_t first = turn * piece, here = swm_min(piece, count - first);
            int stage = (int)(turn % STAGES);
            const void *source = (const char *)from + (size_t)first * from_size;
            if (to_type != from_type) {
                void *converted = (char *)device->scratch + (size_t)stage * STAGE_BYTES;
                swm_cuda_convert(b, converted, to_type, source, from_type, here);
                source = converted;
            }
            if (!swm_cuda_check(b, cudaEventSynchronize(device->stage_free[stage]), "download") ||
                !swm_cuda_check(b,
                                cudaMemcpyAsync(device->stage[stage], source, (size_t)here * to_size,
                                                cudaMemcpyDeviceToHost, device->stream),
                                "download") ||
                !swm_cuda_check(b, cudaEventRecord(device->stage_free[stage], device->stream), "download"))
                return false;
        }
        if (turn > 0) {
            int64_t first = (turn - 1) * piece, here = swm_min(piece, count - first);
            int stage = (int)((turn - 1) % STAGES);
            if (!swm_cuda_check(b, cudaEventSynchronize(device->stage_free[stage]), "download")) return false;
            swm_copy_mapped((char *)to + (size_t)first * to_size, device->stage[stage], (size_t)here * to_size,
                            COPY_THREADS);
        }
    }
    return true;
}

static void upload(swm_backend *b, swm_tensor to, const float *values)
{
    send(b, to.data, to.dtype, values, SWM_F32, swm_count(to));
}

static void download(swm_backend *b, void *values, swm_tensor from)
{
    receive(b, values, from.dtype == SWM_U8 ? SWM_U8 : SWM_F32, from.data, from.dtype, swm_count(from));
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

static void close_device(swm_backend *b)
{
    swm_cuda_device *device = swm_cuda_device_of(b);
    if (device->stream != NULL) cudaStreamSynchronize(device->stream);
    swm_cuda_matrix_close(b);
    swm_cuda_weights_close(b);
    for (int i = 0; i < STAGES; i++) {
        cudaFreeHost(device->stage[i]);
        if (device->stage_free[i] != NULL) cudaEventDestroy(device->stage_free[i]);
    }
    close_stamps(device);
    cudaFree(device->scratch);
    cudaFree(device->blas_workspace);
    if (device->stream != NULL) cudaStreamDestroy(device->stream);
    free(device);
}

static const swm_kernels cuda_kernels = {
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
    .room = room,
    .weights_arrange = swm_cuda_weights_arrange,
    .weights_use = swm_cuda_weights_use,
    .weights_done = swm_cuda_weights_done,
    .weights_leave = swm_cuda_weights_leave,
    .linear = swm_cuda_linear,
    .add = swm_cuda_add,
    .multiply_silu = swm_cuda_multiply_silu,
    .gelu_multiply = swm_cuda_gelu_multiply,
    .silu = swm_cuda_silu,
    .modulation = swm_cuda_modulation,
    .adaptive_norm = swm_cuda_adaptive_norm,
    .gated_add = swm_cuda_gated_add,
    .rms_norm = swm_cuda_rms_norm,
    .transform_heads = swm_cuda_transform_heads,
    .rotate_grid = swm_cuda_rotate_grid,
    .attend = swm_cuda_attend,
    .key_conv = swm_cuda_key_conv,
    .frame_mean = swm_cuda_frame_mean,
    .gdn_decay = swm_cuda_gdn_decay,
    .gdn_camera_beta = swm_cuda_gdn_camera_beta,
    .gdn_scan = swm_cuda_gdn_scan,
    .depthwise_glu = swm_cuda_depthwise_glu,
    .temporal_conv = swm_cuda_temporal_conv,
    .transpose = swm_cuda_transpose,
    .pack_states = swm_cuda_pack_states,
    .rotate_half = swm_cuda_rotate_half,
    .conv = swm_cuda_conv,
    .upsample_merge = swm_cuda_upsample_merge,
    .downsample_merge = swm_cuda_downsample_merge,
    .patchify = swm_cuda_patchify,
    .unpatchify = swm_cuda_unpatchify,
    .blend = swm_cuda_blend,
    .paste = swm_cuda_paste,
    .pixels = swm_cuda_pixels,
};

/* What there is to know about the device, without taking anything of it. */
static int describe_device(swm_cuda_device *device, int ordinal, swm_error *error)
{
    int count = 0, shared = 0;
    cudaError_t status = cudaGetDeviceCount(&count);
    if (status != cudaSuccess || count == 0)
        return swm_fail(error, "cuda: no device: %s; use the CPU",
                        status != cudaSuccess ? cudaGetErrorString(status) : "the driver lists none");
    if (ordinal < 0 || ordinal >= count)
        return swm_fail(error, "cuda: no device %d; the driver lists 0 to %d", ordinal, count - 1);
    cudaDeviceProp properties;
    status = cudaGetDeviceProperties(&properties, ordinal);
    if (status == cudaSuccess)
        status = cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, ordinal);
    if (status != cudaSuccess) return swm_fail(error, "cuda: device %d: %s", ordinal, cudaGetErrorString(status));
    device->ordinal = ordinal;
    device->capability = 10 * properties.major + properties.minor;
    device->processors = properties.multiProcessorCount;
    device->shared_limit = (size_t)shared;
    memcpy(device->name, properties.name, sizeof device->name);
    device->name[sizeof device->name - 1] = '\0';
    if (device->capability < 80)
        return swm_fail(error, "cuda: %s has compute capability %d.%d; 8.0 or newer is needed", device->name,
                        properties.major, properties.minor);
    return 0;
}

/* Stream, work spaces, staging buffers. What exists when it fails is for close_device. */
static int equip_device(swm_backend *b, swm_error *error)
{
    swm_cuda_device *device = swm_cuda_device_of(b);
    cudaError_t status = cudaSetDevice(device->ordinal);
    if (status == cudaSuccess) status = cudaStreamCreateWithFlags(&device->stream, cudaStreamNonBlocking);
    if (status == cudaSuccess) status = cudaMalloc(&device->scratch, SWM_CUDA_SCRATCH);
    if (status == cudaSuccess) status = cudaMalloc(&device->blas_workspace, SWM_CUDA_BLAS_WORKSPACE);
    for (int i = 0; i < STAGES && status == cudaSuccess; i++) {
        status = cudaMallocHost((void **)&device->stage[i], STAGE_BYTES);
        if (status == cudaSuccess) status = cudaEventCreateWithFlags(&device->stage_free[i], cudaEventDisableTiming);
    }
    if (status != cudaSuccess)
        return swm_fail(error, "cuda: %s does not start: %s", device->name, cudaGetErrorString(status));
    if (swm_cuda_weights_open(b, error) != 0) return -1;
    return swm_cuda_matrix_open(b, error);
}

extern "C" swm_backend *swm_backend_open_cuda(swm_dtype compute, int ordinal, swm_error *error)
{
    SWM_REQUIRE(compute == SWM_BF16 || compute == SWM_F32, "activations of type %s", swm_dtype_name(compute));
    swm_backend *b = (swm_backend *)swm_allocate(error, 1, sizeof *b);
    swm_cuda_device *device = (swm_cuda_device *)swm_allocate(error, 1, sizeof *device);
    if (b == NULL || device == NULL || describe_device(device, ordinal, error) != 0) {
        free(device);
        free(b);
        return NULL;
    }
    b->name = "cuda";
    b->kernels = &cuda_kernels;
    b->compute = compute;
    b->threads = 1;
    b->device = device;
    if (equip_device(b, error) == 0) return b;
    close_device(b);
    free(b);
    return NULL;
}

extern "C" int swm_cuda_device_count(void)
{
    int count = 0;
    return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}
