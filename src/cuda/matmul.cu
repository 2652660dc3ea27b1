/* Products with weights, through cuBLASLt: linear layers and the dense temporal convolution of the FFN; also the state
 * that the matrix kernels share, and the layout of convolution weights.
 *
 * A row-major product y = x w^T is the column-major y^T = w x^T: w is the transposed left operand, bias runs along its
 * rows. Bias, tanh-GELU and addition to what is there are part of the product; SiLU and sigmoid, which the library does
 * not have, are a pass over the result in place (two roundings, as in the reference).
 *
 * Algorithms are asked for once per kind of product and class of row counts (nominal_rows), without split sums, and
 * kept for every number of rows of the class: the same row gives the same bits however the rows are cut into calls of a
 * class. Classes are far apart: slices of a long clip are in the last one, a block of three frames and a text are not
 * sliced.
 *
 * The temporal convolution is one product with three times the channels: neighbours of a slice of rows are gathered
 * side by side in scratch (zeros where there is none) and the result is added to x on the way out, with one rounding.
 * Three products accumulated in bf16 would round three times; in a float32 buffer they would move 28 bytes an element,
 * gathering moves 14, in 0.5 ms against 4.6 ms of product at N=106480, C=2240.
 *
 * Bound: tensor cores, about 790 TFLOP/s for the layers of the release. */
#include "cuda/common.cuh"
#include "cuda/matrix.h"

#include <stdlib.h>

enum { ACTIVATION_THREADS = 256, GATHER_THREADS = 256, MASK_FRAMES = 2048, MOST_ROWS = 65535 };

/* ---- state ------------------------------------------------------------------------------------------------------- */

static bool blas_check(swm_backend *b, cublasStatus_t status, const char *what)
{
    if (status == CUBLAS_STATUS_SUCCESS) return true;
    swm_fail(&b->error, "cuda: %s: cuBLASLt reports %s", what, cublasLtGetStatusString(status));
    return false;
}

extern "C" int swm_cuda_matrix_open(swm_backend *b, swm_error *error)
{
    swm_cuda_device *device = swm_cuda_device_of(b);
    swm_cuda_matrix *matrix = static_cast<swm_cuda_matrix *>(swm_allocate(error, 1, sizeof *matrix));
    if (matrix == NULL) return -1;
    device->matrix = matrix;
    cublasStatus_t status = cublasLtCreate(&matrix->blas);
    if (status != CUBLAS_STATUS_SUCCESS)
        return swm_fail(error, "cuda: cuBLASLt cannot start on %s: %s", device->name, cublasLtGetStatusString(status));
    if (device->capability == 90) {
        void *entry = NULL;
        cudaDriverEntryPointQueryResult found;
        if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &found) !=
                cudaSuccess ||
            found != cudaDriverEntryPointSuccess)
            return swm_fail(error,
                            "cuda: the driver of %s has no cuTensorMapEncodeTiled; update it to CUDA 12 or later",
                            device->name);
        matrix->encode = reinterpret_cast<swm_cuda_encode>(entry);
    }
    return 0;
}

extern "C" void swm_cuda_matrix_close(swm_backend *b)
{
    swm_cuda_device *device = swm_cuda_device_of(b);
    if (device == NULL || device->matrix == NULL) return;
    if (device->matrix->blas != NULL) cublasLtDestroy(device->matrix->blas);
    free(device->matrix);
    device->matrix = NULL;
}

extern "C" bool swm_cuda_map(swm_backend *b, CUtensorMap *map, void *data, int rank, const int64_t *sizes,
                             const int64_t *strides, const int64_t *box)
{
    cuuint64_t map_sizes[5], map_strides[4];
    cuuint32_t map_box[5], steps[5];
    for (int i = 0; i < rank; i++) {
        map_sizes[i] = (cuuint64_t)sizes[i];
        map_box[i] = (cuuint32_t)box[i];
        steps[i] = 1;
        if (i + 1 < rank) map_strides[i] = (cuuint64_t)strides[i];
    }
    CUresult status = swm_cuda_device_of(b)->matrix->encode(
        map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, (cuuint32_t)rank, data, map_sizes, map_strides, map_box, steps,
        CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
        CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (status != CUDA_SUCCESS)
        swm_fail(&b->error, "cuda: no tensor map of rank %d, inner sizes %lld and %lld (error %d)", rank,
                 (long long)sizes[0], (long long)sizes[1], (int)status);
    return status == CUDA_SUCCESS;
}

/* ---- products ---------------------------------------------------------------------------------------------------- */

/* y = epilogue(x w^T + bias) or, with `sum`, x w^T + bias + sum: x (rows,inputs), w (outputs,inputs), y and sum
 * (rows,outputs). y may be sum. */
typedef struct product {
    void *y;
    const void *x, *w, *bias, *sum;
    int64_t rows, inputs, outputs;
    cublasLtEpilogue_t epilogue;
} product;

/* The library's description of a product, on the stack. */
typedef struct blas_operands {
    cublasLtMatmulDescOpaque_t operation;
    cublasLtMatrixLayoutOpaque_t w, x, y;
} blas_operands;

static bool describe(swm_backend *b, blas_operands *o, const product *p, int64_t rows)
{
    cudaDataType_t type = b->compute == SWM_BF16 ? CUDA_R_16BF : CUDA_R_32F;
    cublasOperation_t transpose = CUBLAS_OP_T;
    uint64_t inputs = (uint64_t)p->inputs, outputs = (uint64_t)p->outputs;
    return blas_check(b, cublasLtMatmulDescInit(&o->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "linear") &&
           blas_check(
               b,
               cublasLtMatmulDescSetAttribute(&o->operation, CUBLASLT_MATMUL_DESC_TRANSA, &transpose, sizeof transpose),
               "linear") &&
           blas_check(b,
                      cublasLtMatmulDescSetAttribute(&o->operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &p->epilogue,
                                                     sizeof p->epilogue),
                      "linear") &&
           (p->bias == NULL ||
            blas_check(b,
                       cublasLtMatmulDescSetAttribute(&o->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p->bias,
                                                      sizeof p->bias),
                       "linear")) &&
           blas_check(b, cublasLtMatrixLayoutInit(&o->w, type, inputs, outputs, p->inputs), "linear") &&
           blas_check(b, cublasLtMatrixLayoutInit(&o->x, type, inputs, (uint64_t)rows, p->inputs), "linear") &&
           blas_check(b, cublasLtMatrixLayoutInit(&o->y, type, outputs, (uint64_t)rows, p->outputs), "linear");
}

/* Bytes that operands are multiples of whichever row they start at: 16 if rows are. */
static int alignment_of(swm_backend *b, const product *p)
{
    int64_t size = (int64_t)swm_dtype_size(b->compute), rows = p->inputs * size | p->outputs * size | 16;
    uintptr_t bases = (uintptr_t)p->y | (uintptr_t)p->x | (uintptr_t)p->w | (uintptr_t)p->sum | (uintptr_t)p->bias;
    uint64_t all = (uint64_t)rows | bases;
    return (int)(all & (~all + 1));
}

static bool ask(swm_backend *b, cublasLtMatmulAlgo_t *algorithm, const product *p, int alignment, int64_t rows)
{
    swm_cuda_device *device = swm_cuda_device_of(b);
    blas_operands o;
    if (!describe(b, &o, p, rows)) return false;
    cublasLtMatmulPreferenceOpaque_t preference;
    size_t workspace = SWM_CUDA_BLAS_WORKSPACE;
    uint32_t bytes = (uint32_t)alignment, reductions = CUBLASLT_REDUCTION_SCHEME_NONE;
    const cublasLtMatmulPreferenceAttributes_t alignments[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    cublasStatus_t status = cublasLtMatmulPreferenceInit(&preference);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatmulPreferenceSetAttribute(&preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
                                                      sizeof workspace);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatmulPreferenceSetAttribute(&preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                                      &reductions, sizeof reductions);
    for (int i = 0; i < 4 && status == CUBLAS_STATUS_SUCCESS; i++)
        status = cublasLtMatmulPreferenceSetAttribute(&preference, alignments[i], &bytes, sizeof bytes);
    cublasLtMatmulHeuristicResult_t result;
    int found = 0;
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatmulAlgoGetHeuristic(device->matrix->blas, &o.operation, &o.w, &o.x, &o.y, &o.y, &preference,
                                                1, &result, &found);
    if (status == CUBLAS_STATUS_SUCCESS && found == 0) status = CUBLAS_STATUS_NOT_SUPPORTED;
    if (!blas_check(b, status, "choosing an algorithm for a linear layer")) return false;
    *algorithm = result.algo;
    return true;
}

/* What an algorithm for so many rows is asked for: a text, three frames, a clip or a slice of it. */
static int64_t nominal_rows(swm_backend *b, int64_t rows)
{
    bool one_class = swm_cuda_device_of(b)->matrix->linear == SWM_CUDA_GENERIC || b->compute == SWM_F32;
    if (one_class || rows > 3072) return 16384;
    return rows > 512 ? 2640 : 320;
}

/* The algorithm of this kind of product for `rows` rows in all; NULL after a failure. */
static const cublasLtMatmulAlgo_t *plan_of(swm_backend *b, const product *p, int64_t rows)
{
    swm_cuda_matrix *matrix = swm_cuda_device_of(b)->matrix;
    int alignment = alignment_of(b, p);
    int64_t nominal = nominal_rows(b, rows);
    bool accumulate = p->sum != NULL;
    for (int i = 0; i < matrix->plan_count; i++) {
        const swm_cuda_plan *plan = &matrix->plans[i];
        if (plan->rows == nominal && plan->inputs == p->inputs && plan->outputs == p->outputs &&
            plan->epilogue == p->epilogue && plan->accumulate == accumulate && plan->alignment == alignment)
            return &plan->algorithm;
    }
    /* A model has some dozens of kinds; after a thousand, forget them all rather than grow. */
    if (matrix->plan_count == SWM_CUDA_PLANS) matrix->plan_count = 0;
    swm_cuda_plan *plan = &matrix->plans[matrix->plan_count];
    plan->rows = nominal;
    plan->inputs = p->inputs;
    plan->outputs = p->outputs;
    plan->epilogue = p->epilogue;
    plan->accumulate = accumulate;
    plan->alignment = alignment;
    if (!ask(b, &plan->algorithm, p, alignment, nominal)) return NULL;
    matrix->plan_count++;
    return &plan->algorithm;
}

static cublasStatus_t run(swm_backend *b, const product *p, blas_operands *o, const cublasLtMatmulAlgo_t *algorithm)
{
    swm_cuda_device *device = swm_cuda_device_of(b);
    const float one = 1, beta = p->sum != NULL ? 1 : 0;
    return cublasLtMatmul(device->matrix->blas, &o->operation, &one, p->w, &o->w, p->x, &o->x, &beta,
                          p->sum != NULL ? p->sum : p->y, &o->y, p->y, &o->y, algorithm, device->blas_workspace,
                          SWM_CUDA_BLAS_WORKSPACE, device->stream);
}

/* `rows`: of the op that this is a slice of. Pieces keep every element offset below 2^31, whatever the library does
 * inside. */
static bool multiply(swm_backend *b, const product *whole, int64_t rows)
{
    int64_t piece = INT32_MAX / swm_max(whole->inputs, whole->outputs);
    size_t size = swm_dtype_size(b->compute);
    const cublasLtMatmulAlgo_t *algorithm = plan_of(b, whole, rows);
    if (algorithm == NULL) return false;
    for (int64_t first = 0; first < whole->rows; first += piece) {
        product p = *whole;
        p.rows = swm_min(piece, whole->rows - first);
        p.x = (const char *)whole->x + (size_t)(first * p.inputs) * size;
        p.y = (char *)whole->y + (size_t)(first * p.outputs) * size;
        if (p.sum != NULL) p.sum = (const char *)whole->sum + (size_t)(first * p.outputs) * size;
        blas_operands o;
        if (!describe(b, &o, &p, p.rows)) return false;
        cublasStatus_t status = run(b, &p, &o, algorithm);
        if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) {
            /* An algorithm for many rows that does not take so few. */
            cublasLtMatmulAlgo_t own;
            if (!ask(b, &own, &p, alignment_of(b, &p), p.rows)) return false;
            status = run(b, &p, &o, &own);
        }
        if (!blas_check(b, status, "linear")) return false;
    }
    return true;
}

/* ---- linear layers ----------------------------------------------------------------------------------------------- */

template <typename T> __device__ inline float activated(float x, swm_activation activation)
{
    /* In float32 mode the exponential is the exact one. */
    float e = sizeof(T) == 2
                  ? 0
                  : expf(activation == SWM_GELU_TANH ? -1.5957691216057308f * (x + 0.044715f * x * x * x) : -x);
    switch (activation) {
    case SWM_SILU: return sizeof(T) == 2 ? swm_silu_of(x) : x / (1 + e);
    case SWM_GELU_TANH: return sizeof(T) == 2 ? swm_gelu_tanh_of(x) : x / (1 + e);
    case SWM_SIGMOID: return sizeof(T) == 2 ? swm_sigmoid(x) : 1 / (1 + e);
    default: return x;
    }
}

template <typename T, int W>
static __global__ void __launch_bounds__(ACTIVATION_THREADS)
    activate_kernel(T *y, int64_t count, swm_activation activation)
{
    int64_t i = ((int64_t)blockIdx.x * ACTIVATION_THREADS + threadIdx.x) * W;
    if (i >= count) return;
    float values[W];
    swm_load<T, W>(values, y + i);
#pragma unroll
    for (int k = 0; k < W; k++) values[k] = activated<T>(values[k], activation);
    swm_store<T, W>(y + i, values);
}

template <typename T> static void activate(swm_backend *b, T *y, int64_t count, swm_activation activation)
{
    constexpr int W = swm_wide<T>;
    cudaStream_t stream = swm_cuda_device_of(b)->stream;
    if (count % W == 0 && swm_aligned(y))
        activate_kernel<T, W>
            <<<swm_blocks(count, ACTIVATION_THREADS * W), ACTIVATION_THREADS, 0, stream>>>(y, count, activation);
    else
        activate_kernel<T, 1>
            <<<swm_blocks(count, ACTIVATION_THREADS), ACTIVATION_THREADS, 0, stream>>>(y, count, activation);
    swm_cuda_launched(b, "linear");
}

extern "C" void swm_cuda_linear(swm_backend *b, swm_tensor y, swm_tensor x, swm_tensor w, swm_tensor bias,
                                swm_activation activation, bool accumulate)
{
    bool biased = swm_present(bias), fused = activation == SWM_GELU_TANH && b->compute == SWM_BF16;
    product p = {};
    p.y = y.data;
    p.x = x.data;
    p.w = w.data;
    p.bias = biased ? bias.data : NULL;
    p.sum = accumulate ? y.data : NULL;
    p.rows = x.shape[0];
    p.inputs = x.shape[1];
    p.outputs = w.shape[0];
    if (fused)
        p.epilogue = biased ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
    else
        p.epilogue = biased ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    if (p.rows == 0 || !multiply(b, &p, p.rows) || fused || activation == SWM_IDENTITY) return;
    SWM_CUDA_BY_TYPE(b->compute, activate(b, swm_elements<T>(y), swm_count(y), activation));
}

/* ---- temporal convolution ---------------------------------------------------------------------------------------- */

/* Frames of a slice that have no right neighbour: the last ones of their chunks. Bit f % 32 of word f / 32. */
struct frame_mask {
    uint32_t words[MASK_FRAMES / 32];
};

struct gather_arguments {
    int first, rows, tokens, channels; /* rows first .. first+rows-1 of x; tokens a frame */
};

/* Rows [left neighbour, row, right neighbour] of 3 C channels, blockIdx.y of the slice; a thread moves W elements. */
template <typename T, int W>
static __global__ void __launch_bounds__(GATHER_THREADS)
    gather_kernel(T *to, const T *x, const T *tail, const gather_arguments a, const frame_mask last)
{
    int column = (int)(blockIdx.x * GATHER_THREADS + threadIdx.x) * W, channels = a.channels;
    if (column >= 3 * channels) return;
    int row = a.first + (int)blockIdx.y, frame = row / a.tokens, offset = frame - a.first / a.tokens;
    int side = column / channels, channel = column - side * channels;
    int64_t frame_size = (int64_t)a.tokens * channels;
    const T *from = x + (int64_t)row * channels + channel;
    if (side == 0) {
        from = frame > 0      ? from - frame_size
               : tail != NULL ? tail + (from - x)
                              : NULL; /* frame 0 has the tail's rows */
    } else if (side == 2) {
        from = last.words[offset / 32] >> (offset % 32) & 1 ? NULL : from + frame_size;
    }
    swm_raw<T, W> raw;
    if (from != NULL)
        raw.load(from);
    else
        raw.clear();
    raw.store(to + (int64_t)blockIdx.y * 3 * channels + column);
}

template <typename T>
static void gather(swm_backend *b, swm_tensor x, swm_tensor tail, const gather_arguments &a, const frame_mask &last)
{
    constexpr int W = swm_wide<T>;
    swm_cuda_device *device = swm_cuda_device_of(b);
    T *to = static_cast<T *>(device->scratch);
    const T *past = swm_present(tail) ? swm_elements<T>(tail) : NULL;
    bool wide = a.channels % W == 0 && swm_aligned(x.data) && swm_aligned(past);
    dim3 grid(swm_blocks(3 * a.channels, GATHER_THREADS * (wide ? W : 1)), (unsigned)a.rows);
    if (wide)
        gather_kernel<T, W><<<grid, GATHER_THREADS, 0, device->stream>>>(to, swm_elements<T>(x), past, a, last);
    else
        gather_kernel<T, 1><<<grid, GATHER_THREADS, 0, device->stream>>>(to, swm_elements<T>(x), past, a, last);
    swm_cuda_launched(b, "temporal_conv");
}

static frame_mask last_frames(const swm_chunks *chunks, int64_t frames, int64_t first_frame)
{
    frame_mask mask = {};
    for (int i = 0; i < chunks->count; i++) {
        int64_t last = (i + 1 < chunks->count ? chunks->starts[i + 1] : frames) - 1 - first_frame;
        if (last >= 0 && last < MASK_FRAMES) mask.words[last / 32] |= 1u << (last % 32);
    }
    return mask;
}

extern "C" void swm_cuda_temporal_conv(swm_backend *b, swm_tensor y, swm_tensor x, swm_tensor weight, int64_t frames,
                                       swm_chunks chunks, swm_tensor tail, bool keep_tail)
{
    int64_t channels = x.shape[1], rows = x.shape[0], tokens = rows / frames;
    size_t size = swm_dtype_size(b->compute), row_bytes = (size_t)channels * size;
    int64_t slice =
        swm_min((int64_t)(SWM_CUDA_SCRATCH / (3 * row_bytes)), swm_min(MOST_ROWS, (MASK_FRAMES - 1) * tokens));
    if (slice < 1 || rows > INT32_MAX / 2) {
        swm_fail(&b->error, "cuda: temporal_conv: %s does not fit the work space", swm_describe(x).text);
        return;
    }
    for (int64_t first = 0; first < rows; first += slice) {
        gather_arguments a = {(int)first, (int)swm_min(slice, rows - first), (int)tokens, (int)channels};
        frame_mask last = last_frames(&chunks, frames, first / tokens);
        SWM_CUDA_BY_TYPE(b->compute, gather<T>(b, x, tail, a, last));
        product p = {};
        p.y = (char *)y.data + (size_t)first * row_bytes;
        p.sum = (const char *)x.data + (size_t)first * row_bytes;
        p.x = swm_cuda_device_of(b)->scratch;
        p.w = weight.data;
        p.rows = a.rows;
        p.inputs = 3 * channels;
        p.outputs = channels;
        p.epilogue = CUBLASLT_EPILOGUE_DEFAULT;
        if (swm_failed(&b->error) || !multiply(b, &p, rows)) return;
    }
    if (keep_tail) {
        const char *from = (const char *)x.data + (size_t)(rows - tokens) * row_bytes;
        swm_cuda_check(b,
                       cudaMemcpyAsync(tail.data, from, (size_t)tokens * row_bytes, cudaMemcpyDeviceToDevice,
                                       swm_cuda_device_of(b)->stream),
                       "temporal_conv");
    }
}

/* ---- weights of convolutions ------------------------------------------------------------------------------------- */

extern "C" bool swm_cuda_wants_preparation(swm_tensor w)
{
    return (w.rank == 5 && w.shape[2] == 3 && w.shape[3] == 3 && w.shape[4] == 3) ||
           (w.rank == 4 && w.shape[0] == w.shape[1] && w.shape[2] == 3 && w.shape[3] == 1);
}

/* (O,I,taps) to (O,taps,I): every output channel has its inputs of one tap side by side. */
template <typename T>
static __global__ void __launch_bounds__(GATHER_THREADS)
    prepare_kernel(T *to, const T *from, int64_t inputs, int taps, int64_t count)
{
    int64_t i = (int64_t)blockIdx.x * GATHER_THREADS + threadIdx.x;
    if (i >= count) return;
    int64_t input = i % inputs, tap = i / inputs % taps, output = i / inputs / taps;
    to[i] = from[(output * inputs + input) * taps + tap];
}

extern "C" void swm_cuda_prepare_weight(swm_backend *b, void *to, const void *from, swm_tensor w)
{
    int64_t count = swm_count(w);
    int taps = w.rank == 5 ? 27 : 3;
    SWM_CUDA_BY_TYPE(
        b->compute,
        prepare_kernel<<<swm_blocks(count, GATHER_THREADS), GATHER_THREADS, 0, swm_cuda_device_of(b)->stream>>>(
            static_cast<T *>(to), static_cast<const T *>(from), w.shape[1], taps, count));
    swm_cuda_launched(b, "laying out a convolution's weights");
}
