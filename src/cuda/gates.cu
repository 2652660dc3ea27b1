/* What feeds the gated delta rule: the short convolution of keys, the frames' means, decay and the camera's beta. */
#include "cuda/common.cuh"

/* Tiling: a thread owns W channels of one token's place in the picture and walks through the frames with the seven
 * that a result needs in registers, so that every key is read once: frame f lies in slot f % 7, hence the loop of
 * seven. Two more are on their way. Bound by memory: 0.95 GB, 0.22 ms for (106480, 2240) bf16. */
enum { KEY_THREADS = 128, KEY_WINDOW = 7 };

template <typename T, int W>
__global__ void __launch_bounds__(KEY_THREADS)
    key_conv_kernel(T *y, const T *k, const T *taps, const T *tail, int frames, int64_t frame_size, int64_t channels,
                    const __grid_constant__ swm_chunk_bits chunks)
{
    int64_t at = ((int64_t)blockIdx.x * KEY_THREADS + threadIdx.x) * W;
    if (at >= frame_size) return;
    float weight[W][4], window[KEY_WINDOW][W];
    swm_raw<T, W> ahead[2]; /* frames f+4 and f+5 */
#pragma unroll
    for (int i = 0; i < W; i++) swm_load<T, 4>(weight[i], taps + (at % channels + i) * 4);
#pragma unroll
    for (int i = -3; i < 6; i++) {
        swm_raw<T, W> raw;
        raw.clear();
        if (i < 0 && tail != nullptr) raw.load(tail + (i + 3) * frame_size + at);
        if (i >= 0 && i < frames) raw.load(k + i * frame_size + at);
        if (i >= 4)
            ahead[i - 4] = raw;
        else
#pragma unroll
            for (int c = 0; c < W; c++) window[(i + KEY_WINDOW) % KEY_WINDOW][c] = raw.get(c);
    }
    for (int base = 0; base < frames; base += KEY_WINDOW)
#pragma unroll
        for (int u = 0; u < KEY_WINDOW; u++) {
            int f = base + u;
            if (f >= frames) return;
            swm_raw<T, W> next;
            next.clear();
            if (f + 6 < frames) next.load(k + (f + 6) * frame_size + at);
            float sum[W] = {};
#pragma unroll
            for (int j = 0; j < 4; j++)
#pragma unroll
                for (int c = 0; c < W; c++) sum[c] += weight[c][3 - j] * window[(u - j + KEY_WINDOW) % KEY_WINDOW][c];
            bool inside = true;
#pragma unroll
            for (int j = 1; j < 4; j++) {
                inside = inside && f + j < frames && !chunks.starts(f + j);
                if (inside)
#pragma unroll
                    for (int c = 0; c < W; c++) sum[c] += weight[c][3 - j] * window[(u + j) % KEY_WINDOW][c];
            }
            swm_store<T, W>(y + f * frame_size + at, sum);
#pragma unroll
            for (int c = 0; c < W; c++) window[(u + 4) % KEY_WINDOW][c] = ahead[0].get(c);
            ahead[0] = ahead[1];
            ahead[1] = next;
        }
}

extern "C" void swm_cuda_key_conv(swm_backend *b, swm_tensor y, swm_tensor k, swm_tensor taps, int64_t frames,
                                  swm_chunks chunks, swm_tensor tail, bool keep_tail)
{
    int64_t channels = k.shape[1], frame_size = k.shape[0] / frames * channels;
    cudaStream_t stream = swm_cuda_device_of(b)->stream;
    swm_chunk_bits bits;
    if (frame_size == 0 || !swm_mark_chunks(b, &bits, chunks, frames)) return;
    SWM_CUDA_BY_TYPE(b->compute, {
        T *to = swm_elements<T>(y);
        const T *from = swm_elements<T>(k), *past = swm_elements<T>(tail), *weight = swm_elements<T>(taps);
        bool wide = channels % swm_wide<T> == 0 && swm_aligned(to) && swm_aligned(from) && swm_aligned(past);
        int64_t threads = frame_size / (wide ? swm_wide<T> : 1);
        if (wide)
            key_conv_kernel<T, swm_wide<T>><<<swm_blocks(threads, KEY_THREADS), KEY_THREADS, 0, stream>>>(
                to, from, weight, past, (int)frames, frame_size, channels, bits);
        else
            key_conv_kernel<T, 1><<<swm_blocks(threads, KEY_THREADS), KEY_THREADS, 0, stream>>>(
                to, from, weight, past, (int)frames, frame_size, channels, bits);
    });
    if (!swm_cuda_launched(b, "key_conv") || !keep_tail) return;
    /* The last three frames of (tail, k); a span shorter than three keeps some of the old tail. Frames move one by one,
     * because places before and after overlap. */
    int64_t kept = swm_max(0, 3 - frames);
    size_t bytes = (size_t)frame_size * swm_dtype_size(b->compute);
    char *past = (char *)tail.data;
    for (int64_t i = 0; i < 3; i++) {
        const char *source =
            i < kept ? past + (size_t)(i + 3 - kept) * bytes : (const char *)k.data + (size_t)(frames - 3 + i) * bytes;
        if (!swm_cuda_check(b,
                            cudaMemcpyAsync(past + (size_t)i * bytes, source, bytes, cudaMemcpyDeviceToDevice, stream),
                            "key_conv"))
            return;
    }
}

/* Tiling: a block owns 32 vectors of channels of a frame; each of its 8 rows of threads adds every eighth token, and
 * the eight sums meet in shared memory in a fixed order. Bound by memory: 0.48 GB, 0.11 ms for (106480, 2240) bf16. */
template <typename T, int W>
__global__ void __launch_bounds__(256) frame_mean_kernel(T *y, const T *x, int64_t tokens, int64_t channels)
{
    __shared__ float parts[8][32][W + 1];
    int64_t c = ((int64_t)blockIdx.x * 32 + threadIdx.x) * W, frame = blockIdx.y;
    float sum[W] = {};
    if (c < channels) {
        const T *from = x + frame * tokens * channels + c;
#pragma unroll 4
        for (int64_t s = threadIdx.y; s < tokens; s += 8) {
            float value[W];
            swm_load<T, W>(value, from + s * channels);
#pragma unroll
            for (int i = 0; i < W; i++) sum[i] += value[i];
        }
    }
#pragma unroll
    for (int i = 0; i < W; i++) parts[threadIdx.y][threadIdx.x][i] = sum[i];
    __syncthreads();
    if (threadIdx.y > 0 || c >= channels) return;
    for (int row = 1; row < 8; row++)
#pragma unroll
        for (int i = 0; i < W; i++) sum[i] += parts[row][threadIdx.x][i];
#pragma unroll
    for (int i = 0; i < W; i++) sum[i] /= (float)tokens;
    swm_store<T, W>(y + frame * channels + c, sum);
}

extern "C" void swm_cuda_frame_mean(swm_backend *b, swm_tensor y, swm_tensor x)
{
    int64_t frames = y.shape[0], channels = y.shape[1], tokens = x.shape[0] / frames;
    cudaStream_t stream = swm_cuda_device_of(b)->stream;
    SWM_CUDA_BY_TYPE(b->compute, {
        T *to = swm_elements<T>(y);
        const T *from = swm_elements<T>(x);
        bool wide = channels % swm_wide<T> == 0 && swm_aligned(to) && swm_aligned(from);
        dim3 blocks(swm_blocks(channels / (wide ? swm_wide<T> : 1), 32), (unsigned)frames), threads(32, 8);
        if (wide)
            frame_mean_kernel<T, swm_wide<T>><<<blocks, threads, 0, stream>>>(to, from, tokens, channels);
        else
            frame_mean_kernel<T, 1><<<blocks, threads, 0, stream>>>(to, from, tokens, channels);
    });
    swm_cuda_launched(b, "frame_mean");
}

/* 2420 values: a thread each. */
template <typename T>
__global__ void __launch_bounds__(256)
    gdn_decay_kernel(float *y, const T *u, const T *a_log, const T *dt_bias, int64_t count, int64_t heads)
{
    int64_t i = (int64_t)blockIdx.x * 256 + threadIdx.x;
    if (i >= count) return;
    float x = swm_float_of(u[i]) + swm_float_of(dt_bias[i % heads]);
    float softplus = x > 20.0f ? x : log1pf(expf(x));
    y[i] = expf(-expf(swm_float_of(a_log[i % heads])) * softplus);
}

extern "C" void swm_cuda_gdn_decay(swm_backend *b, swm_tensor y, swm_tensor u, swm_tensor a_log, swm_tensor dt_bias)
{
    int64_t count = swm_count(u);
    SWM_CUDA_BY_TYPE(b->compute, {
        gdn_decay_kernel<<<swm_blocks(count, 256), 256, 0, swm_cuda_device_of(b)->stream>>>(
            swm_elements<float>(y), swm_elements<const T>(u), swm_elements<const T>(a_log),
            swm_elements<const T>(dt_bias), count, swm_last(u));
    });
    swm_cuda_launched(b, "gdn_decay");
}

/* Tiling: a block owns a frame; a warp at a time owns a head, its lanes every 32nd token, twice through: for the mean
 * and for the quotient. 17 MB at the release's size: launch-bound. */
template <typename T>
__global__ void __launch_bounds__(1024)
    camera_beta_kernel(float *y, const T *beta, const float *inflation, int tokens, int heads)
{
    int64_t first = (int64_t)blockIdx.x * tokens * heads;
    for (int head = (int)threadIdx.x / 32; head < heads; head += (int)blockDim.x / 32) {
        float sum = 0;
        for (int s = (int)threadIdx.x % 32; s < tokens; s += 32) sum += inflation[first + (int64_t)s * heads + head];
        float divisor = fmaxf(swm_warp_sum(sum) / (float)tokens, 1.0f);
        for (int s = (int)threadIdx.x % 32; s < tokens; s += 32) {
            int64_t i = first + (int64_t)s * heads + head;
            y[i] = swm_float_of(beta[i]) / divisor;
        }
    }
}

extern "C" void swm_cuda_gdn_camera_beta(swm_backend *b, swm_tensor y, swm_tensor beta, swm_tensor inflation,
                                         int64_t frames)
{
    int64_t heads = swm_last(beta), tokens = beta.shape[0] / frames;
    unsigned threads = (unsigned)(32 * swm_min(heads, 32));
    SWM_CUDA_BY_TYPE(b->compute, {
        camera_beta_kernel<<<(unsigned)frames, threads, 0, swm_cuda_device_of(b)->stream>>>(
            swm_elements<float>(y), swm_elements<const T>(beta), swm_elements<const float>(inflation), (int)tokens,
            (int)heads);
    });
    swm_cuda_launched(b, "gdn_camera_beta");
}
