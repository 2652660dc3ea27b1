/* The frame-wise gated delta rule: short convolution of keys, gates, and the two-directional scan over frames. */
#include "cpu/cpu.h"

#include <cblas.h>
#include <math.h>
#include <string.h>

/* ---- short convolution and gates ---------------------------------------------------------------------------------- */

/* out += taps[.][tap] * in over `count` values of (rows, channels), channels fastest; taps (C,4). */
static void add_tap(float *out, const float *in, const float *taps, int tap, int64_t tokens, int64_t channels)
{
    for (int64_t s = 0; s < tokens; s++)
        for (int64_t c = 0; c < channels; c++) out[s * channels + c] += taps[4 * c + tap] * in[s * channels + c];
}

void swm_cpu_key_conv(swm_backend *b, swm_tensor y, swm_tensor k, swm_tensor taps, int64_t frames, swm_chunks chunks,
                      swm_tensor tail, bool keep_tail)
{
    int64_t channels = k.shape[1], tokens = k.shape[0] / frames, frame_size = tokens * channels;
    const float *taps_values = swm_cpu_vector(b, 0, taps), *in = swm_floats(k);
    float *past = swm_present(tail) ? swm_floats(tail) : NULL;
    memset(y.data, 0, swm_bytes(y));
#pragma omp parallel for num_threads(b->threads) if (frames * tokens * channels > SWM_CPU_WORTH_SHARING)
    for (int64_t f = 0; f < frames; f++) {
        float *out = swm_floats(y) + f * frame_size;
        int chunk = chunks.count - 1;
        while (chunks.starts[chunk] > f) chunk--;
        int64_t end = chunk + 1 < chunks.count ? chunks.starts[chunk + 1] : frames;
        for (int j = 0; j < 4; j++) {
            if (f - j >= 0)
                add_tap(out, in + (f - j) * frame_size, taps_values, 3 - j, tokens, channels);
            else if (past != NULL)
                add_tap(out, past + (3 + f - j) * frame_size, taps_values, 3 - j, tokens, channels);
            if (j > 0 && f + j < end) add_tap(out, in + (f + j) * frame_size, taps_values, 3 - j, tokens, channels);
        }
    }
    if (!keep_tail) return;
    /* The last three frames of (tail, k); a span shorter than three keeps some of the old tail. */
    int64_t kept = swm_max(0, 3 - frames), added = 3 - kept;
    memmove(past, past + (3 - kept) * frame_size, (size_t)(kept * frame_size) * sizeof(float));
    memcpy(past + kept * frame_size, in + (frames - added) * frame_size, (size_t)(added * frame_size) * sizeof(float));
}

void swm_cpu_frame_mean(swm_backend *b, swm_tensor y, swm_tensor x)
{
    int64_t frames = y.shape[0], channels = y.shape[1], tokens = x.shape[0] / frames;
#pragma omp parallel for num_threads(b->threads) if (frames * tokens * channels > SWM_CPU_WORTH_SHARING)
    for (int64_t f = 0; f < frames; f++) {
        float *out = swm_floats(y) + f * channels;
        memset(out, 0, (size_t)channels * sizeof(float));
        for (int64_t s = 0; s < tokens; s++) {
            const float *in = swm_floats(x) + (f * tokens + s) * channels;
            for (int64_t c = 0; c < channels; c++) out[c] += in[c];
        }
        for (int64_t c = 0; c < channels; c++) out[c] /= (float)tokens;
    }
}

void swm_cpu_gdn_decay(swm_backend *b, swm_tensor y, swm_tensor u, swm_tensor a_log, swm_tensor dt_bias)
{
    const float *rate = swm_cpu_vector(b, 0, a_log), *shift = swm_cpu_vector(b, 1, dt_bias);
    int64_t heads = swm_last(u), count = swm_count(u);
    for (int64_t i = 0; i < count; i++) {
        float x = swm_floats(u)[i] + shift[i % heads];
        float softplus = x > 20.0f ? x : log1pf(expf(x));
        swm_floats(y)[i] = expf(-expf(rate[i % heads]) * softplus);
    }
}

void swm_cpu_gdn_camera_beta(swm_backend *b, swm_tensor y, swm_tensor beta, swm_tensor inflation, int64_t frames)
{
    (void)b;
    int64_t heads = swm_last(beta), tokens = beta.shape[0] / frames;
    for (int64_t f = 0; f < frames; f++)
        for (int64_t h = 0; h < heads; h++) {
            int64_t first = f * tokens * heads + h;
            float sum = 0;
            for (int64_t s = 0; s < tokens; s++) sum += swm_floats(inflation)[first + s * heads];
            float divisor = fmaxf(sum / (float)tokens, 1.0f);
            for (int64_t s = 0; s < tokens; s++)
                swm_floats(y)[first + s * heads] = swm_floats(beta)[first + s * heads] / divisor;
        }
}

/* ---- the scan ----------------------------------------------------------------------------------------------------- */

enum { TOKEN_TILE = 256, COLUMN_BLOCK = 64 };

typedef struct scan_shape {
    int64_t frames, tokens, heads, size, channels; /* tokens a frame, elements a head, channels = heads * size */
} scan_shape;

/* Rows of one head, turned by the tokens' angles if there are any: (count,size) at `out`. */
static void gather_head(float *out, swm_tensor x, swm_tensor rotation, const scan_shape *s, int64_t head, int64_t token,
                        int64_t count)
{
    for (int64_t n = 0; n < count; n++, out += s->size) {
        const float *in = swm_floats(x) + (token + n) * s->channels + head * s->size;
        if (!swm_present(rotation)) {
            memcpy(out, in, (size_t)s->size * sizeof(float));
            continue;
        }
        const float *table = swm_floats(rotation) + (token + n) * s->size;
        for (int64_t i = 0; i < s->size; i += 2) {
            out[i] = in[i] * table[i] - in[i + 1] * table[i + 1];
            out[i + 1] = in[i] * table[i + 1] + in[i + 1] * table[i];
        }
    }
}

/* out (size,columns) += left^T right over `count` rows */
static void add_outer(float *out, const float *left, const float *right, int64_t right_stride, int64_t columns,
                      int64_t count, int64_t size)
{
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)size, (int)columns, (int)count, 1.0f, left, (int)size,
                right, (int)right_stride, 1.0f, out, (int)columns);
}

/* P to decay (I - P) */
static void finish_transition(float *p, int64_t size, float decay)
{
    for (int64_t i = 0; i < size; i++)
        for (int64_t j = 0; j < size; j++) p[i * size + j] = decay * ((i == j ? 1.0f : 0.0f) - p[i * size + j]);
}

/* What one frame does to the memory of one head: transition decay (I - sum beta k k^T) and content sum beta k v^T, and
 * for z the same of unrotated keys with the value 1. */
static void summarise_frame(swm_backend *b, const swm_gdn *how, const swm_gdn_work *work, const scan_shape *s,
                            int64_t frame, int64_t head)
{
    int64_t square = s->size * s->size, index = frame * s->heads + head;
    float *transition = swm_floats(work->transition) + index * square;
    float *content = swm_floats(work->content) + index * square;
    float *z_transition = how->normalise ? swm_floats(work->normaliser_transition) + index * square : NULL;
    float *z_content = how->normalise ? swm_floats(work->normaliser_content) + index * s->size : NULL;
    memset(transition, 0, (size_t)square * sizeof(float));
    memset(content, 0, (size_t)square * sizeof(float));
    if (how->normalise) {
        memset(z_transition, 0, (size_t)square * sizeof(float));
        memset(z_content, 0, (size_t)s->size * sizeof(float));
    }
    float *keys = swm_cpu_workspace(b), *weighted = keys + TOKEN_TILE * s->size;
    for (int64_t first = 0; first < s->tokens; first += TOKEN_TILE) {
        int64_t count = swm_min(TOKEN_TILE, s->tokens - first), token = frame * s->tokens + first;
        const float *beta = swm_floats(how->beta) + token * s->heads + head;
        const float *values = swm_floats(how->v) + token * s->channels + head * s->size;
        gather_head(keys, how->k, how->rotation, s, head, token, count);
        for (int64_t n = 0; n < count; n++)
            for (int64_t i = 0; i < s->size; i++)
                weighted[n * s->size + i] = beta[n * s->heads] * keys[n * s->size + i];
        add_outer(transition, weighted, keys, s->size, s->size, count, s->size);
        add_outer(content, weighted, values, s->channels, s->size, count, s->size);
        if (!how->normalise) continue;
        gather_head(keys, how->k, (swm_tensor){0}, s, head, token, count);
        for (int64_t n = 0; n < count; n++)
            for (int64_t i = 0; i < s->size; i++) {
                weighted[n * s->size + i] = beta[n * s->heads] * keys[n * s->size + i];
                z_content[i] += weighted[n * s->size + i];
            }
        add_outer(z_transition, weighted, keys, s->size, s->size, count, s->size);
    }
    float decay = swm_floats(how->decay)[index];
    finish_transition(transition, s->size, decay);
    if (how->normalise) finish_transition(z_transition, s->size, decay);
}

/* One head's columns [first, first+count) of a memory with `width` columns, through all frames forward and back.
 * Columns do not mix, so that they can be scanned apart. */
typedef struct scan_columns {
    const float *transition, *content; /* of frame 0 and this head; frames lie heads * size * {size,width} apart */
    float *memory;
    float *state; /* (size,width) carried in and out, or NULL */
    bool keep_state;
    int64_t width, first, count;
} scan_columns;

/* next = transition state + content, (size,count) from columns of (size,width); a NULL state is zero */
static void scan_step(float *next, const float *state, const scan_columns *c, const scan_shape *s, int64_t frame)
{
    const float *content = c->content + frame * s->heads * s->size * c->width + c->first;
    for (int64_t i = 0; i < s->size; i++)
        memcpy(next + i * c->count, content + i * c->width, (size_t)c->count * sizeof(float));
    if (state == NULL) return;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)s->size, (int)c->count, (int)s->size, 1.0f,
                c->transition + frame * s->heads * s->size * s->size, (int)s->size, state, (int)c->count, 1.0f, next,
                (int)c->count);
}

static void scan_both_ways(const scan_columns *c, const scan_shape *s, swm_chunks chunks, float *work)
{
    int64_t size = s->size * c->count;
    float *state = work, *next = work + size;
    for (int64_t i = 0; c->state != NULL && i < s->size; i++)
        memcpy(state + i * c->count, c->state + i * c->width + c->first, (size_t)c->count * sizeof(float));
    for (int64_t f = 0; f < s->frames; f++) {
        scan_step(next, f == 0 && c->state == NULL ? NULL : state, c, s, f);
        float *memory = c->memory + f * s->heads * s->size * c->width + c->first;
        for (int64_t i = 0; i < s->size; i++)
            memcpy(memory + i * c->width, next + i * c->count, (size_t)c->count * sizeof(float));
        float *swap = state;
        state = next;
        next = swap;
    }
    for (int64_t i = 0; c->keep_state && i < s->size; i++)
        memcpy(c->state + i * c->width + c->first, state + i * c->count, (size_t)c->count * sizeof(float));
    for (int chunk = 0; chunk < chunks.count; chunk++) {
        int64_t start = chunks.starts[chunk], end = chunk + 1 < chunks.count ? chunks.starts[chunk + 1] : s->frames;
        for (int64_t f = end - 1; f > start; f--) {
            scan_step(next, f == end - 1 ? NULL : state, c, s, f);
            float *memory = c->memory + (f - 1) * s->heads * s->size * c->width + c->first;
            for (int64_t i = 0; i < s->size; i++)
                for (int64_t j = 0; j < c->count; j++) memory[i * c->width + j] += next[i * c->count + j];
            float *swap = state;
            state = next;
            next = swap;
        }
    }
}

static void scan_head_columns(swm_backend *b, const swm_gdn *how, const swm_gdn_work *work, const scan_shape *s,
                              int64_t head, int64_t first)
{
    int64_t square = s->size * s->size;
    scan_columns memory = {
        .transition = swm_floats(work->transition) + head * square,
        .content = swm_floats(work->content) + head * square,
        .memory = swm_floats(work->memory) + head * square,
        .state = swm_present(how->state) ? swm_floats(how->state) + head * square : NULL,
        .keep_state = how->keep_state,
        .width = s->size,
        .first = first,
        .count = swm_min(COLUMN_BLOCK, s->size - first),
    };
    scan_both_ways(&memory, s, how->chunks, swm_cpu_workspace(b));
    if (!how->normalise || first != 0) return;
    scan_columns normaliser = {
        .transition = swm_floats(work->normaliser_transition) + head * square,
        .content = swm_floats(work->normaliser_content) + head * s->size,
        .memory = swm_floats(work->normaliser_memory) + head * s->size,
        .state = swm_present(how->normaliser) ? swm_floats(how->normaliser) + head * s->size : NULL,
        .keep_state = how->keep_state,
        .width = 1,
        .count = 1,
    };
    scan_both_ways(&normaliser, s, how->chunks, swm_cpu_workspace(b));
}

/* out = (M + B)^T q of one frame and head, divided by z.q with the unrotated q */
static void read_frame(swm_backend *b, swm_tensor y, const swm_gdn *how, const swm_gdn_work *work, const scan_shape *s,
                       int64_t frame, int64_t head)
{
    int64_t index = frame * s->heads + head;
    const float *memory = swm_floats(work->memory) + index * s->size * s->size;
    const float *z = how->normalise ? swm_floats(work->normaliser_memory) + index * s->size : NULL;
    float *queries = swm_cpu_workspace(b);
    for (int64_t first = 0; first < s->tokens; first += TOKEN_TILE) {
        int64_t count = swm_min(TOKEN_TILE, s->tokens - first), token = frame * s->tokens + first;
        float *out = swm_floats(y) + token * s->channels + head * s->size;
        gather_head(queries, how->q, how->rotation, s, head, token, count);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)count, (int)s->size, (int)s->size, 1.0f, queries,
                    (int)s->size, memory, (int)s->size, 0.0f, out, (int)s->channels);
        for (int64_t n = 0; how->normalise && n < count; n++) {
            const float *q = swm_floats(how->q) + (token + n) * s->channels + head * s->size;
            float denominator = 0;
            for (int64_t i = 0; i < s->size; i++) denominator += q[i] * z[i];
            for (int64_t i = 0; i < s->size; i++) out[n * s->channels + i] /= denominator + 1e-8f;
        }
    }
}

void swm_cpu_gdn_scan(swm_backend *b, swm_tensor y, const swm_gdn *how, const swm_gdn_work *work)
{
    scan_shape s = {.frames = how->decay.shape[0], .heads = how->decay.shape[1], .channels = how->q.shape[1]};
    s.tokens = how->q.shape[0] / s.frames;
    s.size = s.channels / s.heads;
    SWM_REQUIRE(2 * TOKEN_TILE * s.size <= SWM_CPU_WORKSPACE, "heads of %lld", (long long)s.size);
    int64_t blocks = swm_divide_up(s.size, COLUMN_BLOCK);
#pragma omp parallel num_threads(b->threads)
    {
#pragma omp for schedule(dynamic) collapse(2)
        for (int64_t frame = 0; frame < s.frames; frame++)
            for (int64_t head = 0; head < s.heads; head++) summarise_frame(b, how, work, &s, frame, head);
#pragma omp for schedule(dynamic) collapse(2)
        for (int64_t head = 0; head < s.heads; head++)
            for (int64_t block = 0; block < blocks; block++)
                scan_head_columns(b, how, work, &s, head, block * COLUMN_BLOCK);
#pragma omp for schedule(dynamic) collapse(2)
        for (int64_t frame = 0; frame < s.frames; frame++)
            for (int64_t head = 0; head < s.heads; head++) read_frame(b, y, how, work, &s, frame, head);
    }
}
