/* Weights on the device: the carrying out of core/residency.h. A struct that stays is placed at its first use: copied
 * from its file through pinned buffers, converted and laid out as the kernels want it. One that streams is placed into a
 * slot of the ring whenever it is not there; from its second arrival on it comes from a pinned copy of the device's own
 * bytes, and one struct ahead of its use. All of that happens on a stream of its own, so that weights arrive while the
 * structs before them compute; the other stream waits for what it is about to read, this one for what is still being
 * read from the slot that it is about to write.
 *
 * Structs that no plan has named (tests, single ops) get memory of their own and stay until their stage is over.
 *
 * What is decided in core/residency.c is not decided here. */
#include "cuda/cuda.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Deep enough that the host fills while the device fetches; small, because pinning takes time. */
enum { STAGES = 4, STAGE_BYTES = 16 << 20, MOST_THREADS = 8 };
/* Where a piece waits in the type of the file, then in the device's: at most twice as wide. */
enum { LANDING_BYTES = 3 * STAGE_BYTES };

/* The struct as the model has it, and as kernels see it: the same but for type and address. */
typedef struct entry {
    const void *key; /* where the model keeps its struct; NULL: free */
    size_t bytes;    /* of the struct */
    swm_tensor *placed;
    int64_t place;        /* in the residency; -1: in no plan */
    bool there;           /* placed for good */
    int users;            /* of a struct that streams */
    int loads;            /* how often it has come */
    char *pinned;         /* the device's bytes; NULL: not kept */
    void *memory;         /* of its own, when in no plan */
    uint64_t fingerprint; /* when in no plan */
} entry;

struct swm_cuda_weights {
    entry *entries; /* open addressing, a power of two, at most half full */
    size_t capacity, count;
    swm_residency residency;
    swm_ring ring;
    char *memory;                        /* of the residency */
    cudaEvent_t arrived[SWM_RING_SLOTS]; /* on `stream`: the slot is filled */
    cudaEvent_t read[SWM_RING_SLOTS];    /* on device->stream: nobody reads the slot any more */
    size_t pinnable;                     /* bytes that may still be pinned */
    cudaStream_t stream;
    cudaEvent_t placed; /* on `stream`: what stays has been placed */
    char *stage[STAGES];
    cudaEvent_t stage_free[STAGES];
    unsigned turn;
    char *landing;
    int threads;
};

/* ---- entries ------------------------------------------------------------------------------------------------------ */

static entry *find_entry(entry *entries, size_t capacity, const void *key)
{
    size_t at = (size_t)(((uintptr_t)key >> 4) * 0x9E3779B97F4A7C15u) & (capacity - 1);
    while (entries[at].key != NULL && entries[at].key != key) at = (at + 1) & (capacity - 1);
    return &entries[at];
}

static bool grow(swm_backend *b, swm_cuda_weights *w)
{
    size_t capacity = w->capacity > 0 ? 2 * w->capacity : 256;
    entry *entries = (entry *)swm_allocate(&b->error, capacity, sizeof *entries);
    if (entries == NULL) return false;
    for (size_t i = 0; i < w->capacity; i++)
        if (w->entries[i].key != NULL) *find_entry(entries, capacity, w->entries[i].key) = w->entries[i];
    free(w->entries);
    w->entries = entries;
    w->capacity = capacity;
    return true;
}

/* The entry of a key, made if need be; NULL after a failure. Valid until the next call. */
static entry *entry_of(swm_backend *b, swm_cuda_weights *w, const void *key)
{
    if (2 * (w->count + 1) > w->capacity && !grow(b, w)) return NULL;
    entry *e = find_entry(w->entries, w->capacity, key);
    if (e->key == NULL) {
        *e = entry{};
        e->key = key;
        e->place = -1;
        w->count++;
    }
    return e;
}

static void unpin(swm_cuda_weights *w, entry *e)
{
    if (e->pinned == NULL) return;
    size_t bytes = w->residency.places[e->place].bytes;
    cudaHostUnregister(e->pinned);
    munmap(e->pinned, bytes);
    e->pinned = NULL;
}

/* Everything but the key, which holds its place in the table. */
static void empty(swm_cuda_weights *w, entry *e)
{
    unpin(w, e);
    cudaFree(e->memory);
    free(e->placed);
    const void *key = e->key;
    *e = entry{};
    e->key = key;
    e->place = -1;
}

/* A hash over the struct and the first and last bytes of every tensor: a model freed and another one bound at the same
 * address must not find the weights of the first. A stage with a plan has one model. */
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

/* ---- from file to device ------------------------------------------------------------------------------------------ */

/* A tensor to `to`, in the compute type and the kernels' layout, by pieces: of any length where it goes as it is, of whole
 * rows where the layout changes, which it does within rows. Kernels launched here run on the stream of weights. */
static bool deliver(swm_backend *b, swm_cuda_weights *w, char *to, const swm_tensor *t)
{
    bool prepare = swm_cuda_wants_preparation(*t), convert = t->dtype != b->compute;
    size_t from_size = swm_dtype_size(t->dtype), to_size = swm_dtype_size(b->compute);
    int64_t unit = prepare ? swm_row_size(*t) : 1, count = swm_count(*t);
    int64_t piece = (int64_t)(STAGE_BYTES / from_size) / unit * unit;
    if (piece == 0) {
        swm_fail(&b->error, "cuda: weights %s have rows of more than %d MiB", swm_describe(*t).text, STAGE_BYTES >> 20);
        return false;
    }
    for (int64_t first = 0; first < count; first += piece) {
        int64_t here = swm_min(piece, count - first);
        size_t bytes = (size_t)here * from_size;
        unsigned stage = w->turn++ % STAGES;
        char *target = to + (size_t)first * to_size, *at = convert || prepare ? w->landing : target;
        if (!swm_cuda_check(b, cudaEventSynchronize(w->stage_free[stage]), "weights")) return false;
        swm_copy_mapped(w->stage[stage], (const char *)t->data + (size_t)first * from_size, bytes, w->threads);
        if (!swm_cuda_check(b, cudaMemcpyAsync(at, w->stage[stage], bytes, cudaMemcpyHostToDevice, w->stream),
                            "weights") ||
            !swm_cuda_check(b, cudaEventRecord(w->stage_free[stage], w->stream), "weights"))
            return false;
        if (convert) {
            char *converted = prepare ? w->landing + STAGE_BYTES : target;
            swm_cuda_convert(b, converted, b->compute, at, t->dtype, here);
            at = converted;
        }
        swm_tensor rows = *t;
        rows.shape[0] = here / unit;
        if (prepare) swm_cuda_prepare_weight(b, target, at, rows);
    }
    return true;
}

/* e->placed: the struct's tensors back to back from `base` on. */
static bool aim(swm_backend *b, entry *e, char *base)
{
    const swm_tensor *bound = (const swm_tensor *)e->key;
    for (size_t i = 0; i < e->bytes / sizeof *bound; i++) {
        const swm_tensor *t = &bound[i];
        if (!swm_present(*t)) continue;
        if (t->dtype != SWM_F32 && t->dtype != SWM_BF16 && t->dtype != SWM_F16) {
            swm_fail(&b->error, "cuda: weights %s of type %s, where F32, F16 or BF16 was expected",
                     swm_describe(*t).text, swm_dtype_name(t->dtype));
            return false;
        }
        SWM_REQUIRE(t->data != NULL, "weights %s without data", swm_describe(*t).text);
        e->placed[i] = swm_tensor_make(b->compute, base, t->rank, t->shape);
        base += swm_aligned_bytes(swm_bytes(e->placed[i]));
    }
    return true;
}

/* A struct to where it has been aimed at. */
static bool place(swm_backend *b, swm_cuda_weights *w, const entry *e)
{
    swm_cuda_device *device = swm_cuda_device_of(b);
    const swm_tensor *bound = (const swm_tensor *)e->key;
    cudaStream_t compute = device->stream;
    bool placed = true;
    device->stream = w->stream; /* where the kernels of conversion and layout launch */
    for (size_t i = 0; placed && i < e->bytes / sizeof *bound; i++)
        if (swm_present(bound[i])) placed = deliver(b, w, (char *)e->placed[i].data, &bound[i]);
    device->stream = compute;
    return placed && !swm_failed(&b->error);
}

/* The kernels to come read what has been placed. */
static bool await(swm_backend *b, cudaEvent_t event)
{
    return swm_cuda_check(b, cudaStreamWaitEvent(swm_cuda_device_of(b)->stream, event, 0), "weights");
}

static bool place_for_good(swm_backend *b, swm_cuda_weights *w, entry *e, char *base)
{
    e->there = aim(b, e, base) && place(b, w, e) &&
               swm_cuda_check(b, cudaEventRecord(w->placed, w->stream), "weights") && await(b, w->placed);
    return e->there;
}

/* ---- structs that stream ------------------------------------------------------------------------------------------ */

/* Keep the bytes that the device has, once they are there, in memory that it can fetch from at full speed. Large pages are
 * pinned in a fraction of the time. Without memory for it, weights keep coming from their file. */
static void keep_copy(swm_backend *b, swm_cuda_weights *w, entry *e, const char *base)
{
    size_t bytes = w->residency.places[e->place].bytes;
    if (bytes > w->pinnable) return;
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return;
    madvise(memory, bytes, MADV_HUGEPAGE);
    if (cudaHostRegister(memory, bytes, cudaHostRegisterDefault) != cudaSuccess) {
        cudaGetLastError(); /* otherwise the next launch would report it */
        munmap(memory, bytes);
        w->pinnable = 0;
        return;
    }
    w->pinnable -= bytes;
    e->pinned = (char *)memory;
    swm_cuda_check(b, cudaMemcpyAsync(memory, base, bytes, cudaMemcpyDeviceToHost, w->stream), "weights");
}

/* A struct into a slot that nobody uses. */
static bool load(swm_backend *b, swm_cuda_weights *w, entry *e, int slot)
{
    size_t bytes = w->residency.places[e->place].bytes;
    char *base = w->memory + w->residency.resident + (size_t)slot * w->residency.slot;
    if (!aim(b, e, base) || !swm_cuda_check(b, cudaStreamWaitEvent(w->stream, w->read[slot], 0), "weights"))
        return false;
    if (e->pinned != NULL) {
        if (!swm_cuda_check(b, cudaMemcpyAsync(base, e->pinned, bytes, cudaMemcpyHostToDevice, w->stream), "weights"))
            return false;
    } else {
        if (!place(b, w, e)) return false;
        /* A stage of one pass never comes here a second time and pays for no copy. */
        if (e->loads > 0) keep_copy(b, w, e, base);
    }
    e->loads++;
    return swm_cuda_check(b, cudaEventRecord(w->arrived[slot], w->stream), "weights");
}

static bool use_streamed(swm_backend *b, swm_cuda_weights *w, entry *e)
{
    int64_t index = e->place;
    int slot = swm_ring_find(&w->ring, index);
    if (slot < 0) {
        slot = swm_ring_take(&w->ring, index);
        SWM_REQUIRE(slot >= 0, "more than %d structs of weights that stream are in use", SWM_RING_SLOTS);
        if (!load(b, w, e, slot)) return false;
    }
    swm_ring_hold(&w->ring, slot);
    e->users++;
    if (!await(b, w->arrived[slot])) return false;
    int64_t next = swm_ring_next(&w->ring, index);
    if (next < 0) return true;
    entry *ahead = find_entry(w->entries, w->capacity, w->residency.places[next].key);
    /* From its file it would keep the host from launching what is to compute meanwhile. */
    if (ahead->pinned == NULL) return true;
    return load(b, w, ahead, swm_ring_take(&w->ring, next));
}

/* ---- the contract ------------------------------------------------------------------------------------------------- */

static bool use_unplanned(swm_backend *b, swm_cuda_weights *w, entry *e)
{
    const swm_tensor *bound = (const swm_tensor *)e->key;
    size_t bytes = swm_weights_placed_bytes(bound, e->bytes / sizeof *bound, b->compute);
    if (cudaMalloc(&e->memory, bytes > 0 ? bytes : 1) != cudaSuccess) {
        cudaGetLastError();
        e->memory = NULL;
        swm_device_report report = {};
        b->kernels->report(b, &report);
        swm_fail(&b->error, "cuda: out of memory: %.2f GiB of weights, %.2f of %.2f GiB in use on %s",
                 (double)bytes / (1 << 30), (double)report.memory_used / (1 << 30), (double)report.memory / (1 << 30),
                 report.name);
        return false;
    }
    return place_for_good(b, w, e, (char *)e->memory);
}

/* The struct on the device, or after a failure the caller's own, whose shapes are right and which no kernel will read. */
extern "C" const void *swm_cuda_weights_use(swm_backend *b, const void *weights, size_t bytes)
{
    if (swm_failed(&b->error)) return weights;
    swm_cuda_weights *w = swm_cuda_device_of(b)->weights;
    entry *e = entry_of(b, w, weights);
    if (e == NULL) return weights;
    bool planned = e->place >= 0;
    uint64_t fingerprint = planned ? 0 : fingerprint_of((const swm_tensor *)weights, bytes / sizeof(swm_tensor));
    if (e->there && e->bytes == bytes && e->fingerprint == fingerprint) return e->placed;
    if (!planned) empty(w, e);
    if (e->placed == NULL) {
        e->bytes = bytes;
        e->fingerprint = fingerprint;
        e->placed = (swm_tensor *)swm_allocate(&b->error, bytes / sizeof(swm_tensor), sizeof(swm_tensor));
        if (e->placed == NULL) return weights;
    }
    bool ready;
    if (!planned)
        ready = use_unplanned(b, w, e);
    else if (w->residency.places[e->place].streamed)
        ready = use_streamed(b, w, e);
    else
        ready = place_for_good(b, w, e, w->memory + w->residency.places[e->place].offset);
    return ready ? e->placed : weights;
}

extern "C" void swm_cuda_weights_done(swm_backend *b, const void *weights)
{
    swm_cuda_weights *w = swm_cuda_device_of(b)->weights;
    entry *e = w->capacity > 0 ? find_entry(w->entries, w->capacity, weights) : NULL;
    if (e == NULL || e->users == 0) return; /* it stays, or its use had failed */
    int slot = swm_ring_find(&w->ring, e->place);
    e->users--;
    swm_ring_let_go(&w->ring, slot);
    swm_cuda_check(b, cudaEventRecord(w->read[slot], swm_cuda_device_of(b)->stream), "weights");
}

/* All entries, what they hold, and the places; nothing may be on its way any more. */
static void drop_all(swm_cuda_weights *w)
{
    for (size_t i = 0; i < w->capacity; i++) empty(w, &w->entries[i]);
    free(w->entries);
    w->entries = NULL;
    w->capacity = w->count = 0;
    cudaFree(w->memory);
    w->memory = NULL;
    swm_ring_close(&w->ring);
    swm_residency_free(&w->residency);
}

extern "C" void swm_cuda_weights_leave(swm_backend *b)
{
    swm_cuda_weights *w = swm_cuda_device_of(b)->weights;
    swm_cuda_check(b, cudaStreamSynchronize(w->stream), "waiting for weights");
    b->kernels->synchronise(b);
    drop_all(w);
}

/* Half of the machine's memory: more, pinned, would leave none for the files that weights come from. */
static size_t pinnable_bytes(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    return pages > 0 && page > 0 ? (size_t)pages / 2 * (size_t)page : 0;
}

extern "C" bool swm_cuda_weights_arrange(swm_backend *b, const swm_residency *residency)
{
    swm_cuda_weights *w = swm_cuda_device_of(b)->weights;
    swm_cuda_weights_leave(b);
    w->residency = *residency;
    w->pinnable = pinnable_bytes();
    if (swm_ring_open(&w->ring, residency, &b->error) != 0) return false;
    for (int64_t i = 0; i < residency->count; i++) {
        entry *e = entry_of(b, w, residency->places[i].key);
        if (e == NULL) return false;
        e->place = i;
    }
    w->memory = (char *)b->kernels->allocate(b, residency->memory);
    return w->memory != NULL;
}

extern "C" size_t swm_cuda_weights_held(swm_backend *b)
{
    const swm_cuda_weights *w = swm_cuda_device_of(b)->weights;
    return w->memory != NULL ? w->residency.memory : 0;
}

/* ---- opening ------------------------------------------------------------------------------------------------------ */

static cudaError_t make_event(cudaEvent_t *event) { return cudaEventCreateWithFlags(event, cudaEventDisableTiming); }

extern "C" int swm_cuda_weights_open(swm_backend *b, swm_error *error)
{
    swm_cuda_device *device = swm_cuda_device_of(b);
    swm_cuda_weights *w = (swm_cuda_weights *)swm_allocate(error, 1, sizeof *w);
    if (w == NULL) return -1;
    device->weights = w;
    w->threads = (int)swm_max(1, swm_min(MOST_THREADS, sysconf(_SC_NPROCESSORS_ONLN)));
    cudaError_t status = cudaStreamCreateWithFlags(&w->stream, cudaStreamNonBlocking);
    if (status == cudaSuccess) status = cudaMalloc((void **)&w->landing, LANDING_BYTES);
    if (status == cudaSuccess) status = make_event(&w->placed);
    for (int i = 0; i < SWM_RING_SLOTS && status == cudaSuccess; i++) {
        status = make_event(&w->arrived[i]);
        if (status == cudaSuccess) status = make_event(&w->read[i]);
    }
    for (int i = 0; i < STAGES && status == cudaSuccess; i++) {
        status = cudaMallocHost((void **)&w->stage[i], STAGE_BYTES);
        if (status == cudaSuccess) status = make_event(&w->stage_free[i]);
    }
    if (status == cudaSuccess) return 0;
    return swm_fail(error, "cuda: %s does not start: %s", device->name, cudaGetErrorString(status));
}

static void destroy(cudaEvent_t event)
{
    if (event != NULL) cudaEventDestroy(event);
}

extern "C" void swm_cuda_weights_close(swm_backend *b)
{
    swm_cuda_device *device = swm_cuda_device_of(b);
    swm_cuda_weights *w = device->weights;
    if (w == NULL) return;
    if (w->stream != NULL) cudaStreamSynchronize(w->stream);
    drop_all(w);
    for (int i = 0; i < STAGES; i++) {
        cudaFreeHost(w->stage[i]);
        destroy(w->stage_free[i]);
    }
    for (int i = 0; i < SWM_RING_SLOTS; i++) {
        destroy(w->arrived[i]);
        destroy(w->read[i]);
    }
    destroy(w->placed);
    cudaFree(w->landing);
    if (w->stream != NULL) cudaStreamDestroy(w->stream);
    free(w);
    device->weights = NULL;
}
