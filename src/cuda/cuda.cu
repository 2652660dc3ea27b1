/* Opening of the CUDA backend, its memory, the way of tensors to and from the device, the residence of weights, and the
 * kernel table. No arithmetic happens here. */
#include "cuda/cuda.h"

#include <stdlib.h>
#include <string.h>

/* Host memory travels through two pinned buffers: while one is on its way, the other is filled or emptied. */
enum { STAGES = 2, STAGE_BYTES = 32 << 20 };
static_assert((size_t)STAGES * STAGE_BYTES <= SWM_CUDA_SCRATCH, "conversions need a piece of scratch for every stage");

/* A struct of weights on the device. Both copies of the struct live on the host; the second one's data are on the
 * device, back to back in `memory`. */
typedef struct resident {
    const void *key; /* where the model keeps its struct; NULL: free slot */
    size_t bytes;    /* of the struct */
    uint64_t fingerprint;
    swm_tensor *bound, *placed;
    void *memory;
} resident;

struct swm_cuda_weights {
    resident *slots; /* open addressing, a power of two, at most half full */
    size_t capacity, count;
    char *stage[STAGES];
    cudaEvent_t stage_free[STAGES];
};

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

static void synchronise(swm_backend *b)
{
    swm_cuda_check(b, cudaStreamSynchronize(swm_cuda_device_of(b)->stream), "waiting for the device");
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
    swm_cuda_weights *w = device->weights;
    size_t from_size = swm_dtype_size(from_type), to_size = swm_dtype_size(to_type);
    int64_t piece = (int64_t)(STAGE_BYTES / from_size);
    for (int64_t first = 0, turn = 0; first < count; first += piece, turn++) {
        int64_t here = swm_min(piece, count - first);
        size_t bytes = (size_t)here * from_size;
        int stage = (int)(turn % STAGES);
        char *target = (char *)to + (size_t)first * to_size, *landing = target;
        if (to_type != from_type) landing = (char *)device->scratch + (size_t)stage * STAGE_BYTES;
        if (!swm_cuda_check(b, cudaEventSynchronize(w->stage_free[stage]), "upload")) return false;
        memcpy(w->stage[stage], (const char *)from + (size_t)first * from_size, bytes);
        if (!swm_cuda_check(b, cudaMemcpyAsync(landing, w->stage[stage], bytes, cudaMemcpyHostToDevice, device->stream),
                            "upload") ||
            !swm_cuda_check(b, cudaEventRecord(w->stage_free[stage], device->stream), "upload"))
            return false;
        if (to_type != from_type) swm_cuda_convert(b, target, to_type, landing, from_type, here);
    }
    return true;
}

/* `count` elements from device to host, changing their type on the way; waits. */
static bool receive(swm_backend *b, void *to, swm_dtype to_type, const void *from, swm_dtype from_type, int64_t count)
{
    swm_cuda_device *device = swm_cuda_device_of(b);
    swm_cuda_weights *w = device->weights;
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
            if (!swm_cuda_check(b, cudaEventSynchronize(w->stage_free[stage]), "download") ||
                !swm_cuda_check(b,
                                cudaMemcpyAsync(w->stage[stage], source, (size_t)here * to_size, cudaMemcpyDeviceToHost,
                                                device->stream),
                                "download") ||
                !swm_cuda_check(b, cudaEventRecord(w->stage_free[stage], device->stream), "download"))
                return false;
        }
        if (turn > 0) {
            int64_t first = (turn - 1) * piece, here = swm_min(piece, count - first);
            int stage = (int)((turn - 1) % STAGES);
            if (!swm_cuda_check(b, cudaEventSynchronize(w->stage_free[stage]), "download")) return false;
            memcpy((char *)to + (size_t)first * to_size, w->stage[stage], (size_t)here * to_size);
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

/* ---- weights ----------------------------------------------------------------------------------------------------- */

/* A hash over the struct and the first and last bytes of every tensor: a model freed and another one bound at the same
 * address must not find the weights of the first. */
static uint64_t fingerprint_of(const swm_tensor *tensors, size_t count)
{
    const size_t most = 64;
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < count; i++) {
        const swm_tensor *t = &tensors[i];
        if (!swm_present(*t)) continue;
        size_t bytes = swm_bytes(*t), edge = bytes < most ? bytes : most;
        const unsigned char *parts[] = {(const unsigned char *)t->data, (const unsigned char *)t->data + bytes - edge,
                                        (const unsigned char *)t};
        const size_t sizes[] = {edge, edge, offsetof(swm_tensor, shape) + sizeof(int64_t) * (size_t)t->rank};
        for (int p = 0; p < 3; p++)
            for (size_t k = 0; k < sizes[p]; k++) hash = (hash ^ parts[p][k]) * 0x100000001b3u;
    }
    return hash;
}

static resident *find_slot(resident *slots, size_t capacity, const void *key)
{
    size_t at = (size_t)(((uintptr_t)key >> 4) * 0x9E3779B97F4A7C15u) & (capacity - 1);
    while (slots[at].key != NULL && slots[at].key != key) at = (at + 1) & (capacity - 1);
    return &slots[at];
}

static bool grow(swm_backend *b, swm_cuda_weights *w)
{
    size_t capacity = w->capacity > 0 ? 2 * w->capacity : 256;
    resident *slots = (resident *)swm_allocate(&b->error, capacity, sizeof *slots);
    if (slots == NULL) return false;
    for (size_t i = 0; i < w->capacity; i++)
        if (w->slots[i].key != NULL) *find_slot(slots, capacity, w->slots[i].key) = w->slots[i];
    free(w->slots);
    w->slots = slots;
    w->capacity = capacity;
    return true;
}

/* The slot stays taken by its key. */
static void drop(resident *r)
{
    cudaFree(r->memory);
    free(r->bound);
    free(r->placed);
    r->memory = NULL;
    r->bound = r->placed = NULL;
}

static size_t aligned(size_t bytes)
{
    return (bytes + SWM_ARENA_ALIGNMENT - 1) / SWM_ARENA_ALIGNMENT * SWM_ARENA_ALIGNMENT;
}

static bool refuse_memory(swm_backend *b, size_t bytes)
{
    size_t available = 0, total = 0;
    cudaMemGetInfo(&available, &total);
    swm_fail(&b->error, "cuda: out of memory: %.2f GB of weights, %.2f of %.2f GB free on %s; choose a smaller job",
             (double)bytes * 1e-9, (double)available * 1e-9, (double)total * 1e-9, swm_cuda_device_of(b)->name);
    return false;
}

/* The tensors of r->bound to the device, with r->placed pointing at them. */
static bool place(swm_backend *b, resident *r)
{
    size_t count = r->bytes / sizeof(swm_tensor), total = 0, largest = 0, element = swm_dtype_size(b->compute);
    for (size_t i = 0; i < count; i++) {
        const swm_tensor *t = &r->bound[i];
        if (!swm_present(*t)) continue;
        if (t->dtype != SWM_F32 && t->dtype != SWM_BF16 && t->dtype != SWM_F16) {
            swm_fail(&b->error, "cuda: weights %s of type %s, where F32, F16 or BF16 was expected",
                     swm_describe(*t).text, swm_dtype_name(t->dtype));
            return false;
        }
        size_t bytes = (size_t)swm_count(*t) * element;
        total += aligned(bytes);
        if (swm_cuda_wants_preparation(*t) && bytes > largest) largest = bytes;
    }
    r->memory = allocate(b, total);
    void *raw = largest > 0 ? allocate(b, largest) : NULL; /* in the order of the file */
    bool placed = (r->memory != NULL && (largest == 0 || raw != NULL)) || refuse_memory(b, total + largest);
    char *at = (char *)r->memory;
    for (size_t i = 0; placed && i < count; i++) {
        swm_tensor *t = &r->placed[i];
        const swm_tensor *bound = &r->bound[i];
        if (!swm_present(*t)) continue;
        SWM_REQUIRE(bound->data != NULL, "weights %s without data", swm_describe(*bound).text);
        *t = swm_tensor_make(b->compute, at, t->rank, t->shape);
        at += aligned(swm_bytes(*t));
        bool prepare = swm_cuda_wants_preparation(*t);
        placed = send(b, prepare ? raw : t->data, b->compute, bound->data, bound->dtype, swm_count(*t));
        if (placed && prepare) swm_cuda_prepare_weight(b, t->data, raw, *t);
    }
    cudaFree(raw);
    return placed && !swm_failed(&b->error);
}

/* Weights stay on the device from their first use until their stage is over or the backend closes. A mode that keeps only some of them there
 * belongs here: it would place into a ring and learn from weights_done when a place is free. After a failure callers
 * get their own struct back, whose shapes are right and which no kernel will read. */
static const void *weights_use(swm_backend *b, const void *weights, size_t bytes)
{
    if (swm_failed(&b->error)) return weights;
    swm_cuda_weights *w = swm_cuda_device_of(b)->weights;
    size_t count = bytes / sizeof(swm_tensor);
    if (2 * (w->count + 1) > w->capacity && !grow(b, w)) return weights;
    uint64_t fingerprint = fingerprint_of((const swm_tensor *)weights, count);
    resident *r = find_slot(w->slots, w->capacity, weights);
    if (r->placed != NULL && r->bytes == bytes && r->fingerprint == fingerprint) return r->placed;
    if (r->key == NULL) w->count++;
    drop(r);
    r->key = weights;
    r->bytes = bytes;
    r->fingerprint = fingerprint;
    r->bound = (swm_tensor *)swm_allocate(&b->error, count, sizeof(swm_tensor));
    r->placed = (swm_tensor *)swm_allocate(&b->error, count, sizeof(swm_tensor));
    if (r->bound != NULL && r->placed != NULL) {
        memcpy(r->bound, weights, bytes);
        memcpy(r->placed, weights, bytes);
        if (place(b, r)) return r->placed;
    }
    drop(r);
    return weights;
}

static void weights_done(swm_backend *b, const void *weights)
{
    (void)b;
    (void)weights;
}

static void weights_leave(swm_backend *b)
{
    swm_cuda_weights *w = swm_cuda_device_of(b)->weights;
    synchronise(b);
    for (size_t i = 0; i < w->capacity; i++) drop(&w->slots[i]);
    if (w->slots != NULL) memset(w->slots, 0, w->capacity * sizeof *w->slots);
    w->count = 0;
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

static void close_weights(swm_cuda_weights *w)
{
    if (w == NULL) return;
    for (size_t i = 0; i < w->capacity; i++) drop(&w->slots[i]);
    for (int i = 0; i < STAGES; i++) {
        cudaFreeHost(w->stage[i]);
        if (w->stage_free[i] != NULL) cudaEventDestroy(w->stage_free[i]);
    }
    free(w->slots);
    free(w);
}

static void close_device(swm_backend *b)
{
    swm_cuda_device *device = swm_cuda_device_of(b);
    if (device->stream != NULL) cudaStreamSynchronize(device->stream);
    swm_cuda_matrix_close(b);
    close_weights(device->weights);
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
    .upload = upload,
    .download = download,
    .copy = copy,
    .zero = zero,
    .weights_use = weights_use,
    .weights_done = weights_done,
    .weights_leave = weights_leave,
    .linear = swm_cuda_linear,
    .add = swm_cuda_add,
    .multiply_silu = swm_cuda_multiply_silu,
    .gelu_multiply = swm_cuda_gelu_multiply,
    .silu = swm_cuda_silu,
    .modulation = swm_cuda_modulation,
    .adaptive_norm = swm_cuda_adaptive_norm,
    .gated_add = swm_cuda_gated_add,
    .rms_norm = swm_cuda_rms_norm,
    .rotate_grid = swm_cuda_rotate_grid,
    .transform_heads = swm_cuda_transform_heads,
    .attend = swm_cuda_attend,
    .key_conv = swm_cuda_key_conv,
    .frame_mean = swm_cuda_frame_mean,
    .gdn_decay = swm_cuda_gdn_decay,
    .gdn_camera_beta = swm_cuda_gdn_camera_beta,
    .gdn_scan = swm_cuda_gdn_scan,
    .depthwise_glu = swm_cuda_depthwise_glu,
    .temporal_conv = swm_cuda_temporal_conv,
    .transpose = swm_cuda_transpose,
    .embed = swm_cuda_embed,
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
    device->weights = (swm_cuda_weights *)swm_allocate(error, 1, sizeof *device->weights);
    if (device->weights == NULL) return -1;
    cudaError_t status = cudaSetDevice(device->ordinal);
    if (status == cudaSuccess) status = cudaStreamCreateWithFlags(&device->stream, cudaStreamNonBlocking);
    if (status == cudaSuccess) status = cudaMalloc(&device->scratch, SWM_CUDA_SCRATCH);
    if (status == cudaSuccess) status = cudaMalloc(&device->blas_workspace, SWM_CUDA_BLAS_WORKSPACE);
    for (int i = 0; i < STAGES && status == cudaSuccess; i++) {
        status = cudaMallocHost((void **)&device->weights->stage[i], STAGE_BYTES);
        if (status == cudaSuccess)
            status = cudaEventCreateWithFlags(&device->weights->stage_free[i], cudaEventDisableTiming);
    }
    if (status != cudaSuccess)
        return swm_fail(error, "cuda: %s does not start: %s", device->name, cudaGetErrorString(status));
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
