/* Implements io/lora.h: names first, then the checks of all pairs, then the product in tiles of rows. */
#include "io/lora.h"

#include <cblas.h>
#include <limits.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* OpenBLAS has threads of its own, which would fight with ours; other BLAS libraries lack the symbol. */
extern void openblas_set_num_threads(int threads) __attribute__((weak));

enum {
    MAX_NAME = 512,
    TILE = 1 << 20, /* floats of a weight that a thread holds at a time */
    TILE_ROWS = 256,
};

#define LORA_A ".lora_A.weight"
#define LORA_B ".lora_B.weight"
#define ALPHA  ".alpha"

/* One pair that is going to be merged. */
struct pair {
    char name[MAX_NAME];   /* of the base's weight */
    char a_name[MAX_NAME]; /* of the adapter's tensor */
    swm_tensor a, b, base; /* (r,in), (out,r), (out,in) */
    double factor;         /* strength * alpha / r */
    void *merged;          /* ours until it has become the weights' */
};

struct merge {
    const char *path; /* of the adapter, for messages */
    swm_weights *weights, *adapter;
    const swm_weights *only;
    double strength;
    struct pair *pairs;
    size_t count;
    swm_lora_summary summary;
};

/* ---- names ------------------------------------------------------------------------------------------------------- */

/* Components of module names that diffusers calls otherwise than the LTX files. */
static const char *const renamed[][2] = {
    {"patchify_proj", "proj_in"},
    {"audio_patchify_proj", "audio_proj_in"},
    {"adaln_single", "time_embed"},
    {"audio_adaln_single", "audio_time_embed"},
    {"q_norm", "norm_q"},
    {"k_norm", "norm_k"},
    {"av_ca_video_scale_shift_adaln_single", "av_cross_attn_video_scale_shift"},
    {"av_ca_a2v_gate_adaln_single", "av_cross_attn_video_a2v_gate"},
    {"av_ca_audio_scale_shift_adaln_single", "av_cross_attn_audio_scale_shift"},
    {"av_ca_v2a_gate_adaln_single", "av_cross_attn_audio_v2a_gate"},
};

/* What follows `head` in `text`, NULL if it does not begin with it. */
static const char *behind(const char *text, const char *head)
{
    size_t length = strlen(head);
    return strncmp(text, head, length) == 0 ? text + length : NULL;
}

/* Length of `name` without `tail`, 0 if it does not end with it. */
static size_t length_before(const char *name, const char *tail)
{
    size_t length = strlen(name), end = strlen(tail);
    return length > end && strcmp(name + length - end, tail) == 0 ? length - end : 0;
}

/* The base's name, "<module>.weight", for the `length` characters that stand before the suffix in a key of the file.
 * Names that are longer than any of the base come out cut and are not found. */
static void base_name(char name[MAX_NAME], const char *key, size_t length)
{
    const char *end = key + length, *module = behind(key, "diffusion_model.");
    bool original = module != NULL;
    if (!original) module = behind(key, "transformer.");
    if (module == NULL) module = key;
    size_t used = 0;
    while (module < end && used < MAX_NAME) { /* component by component */
        const char *dot = memchr(module, '.', (size_t)(end - module));
        size_t size = (size_t)((dot == NULL ? end : dot) - module);
        const char *word = module;
        size_t word_size = size;
        for (size_t i = 0; original && i < sizeof renamed / sizeof *renamed; i++)
            if (strlen(renamed[i][0]) == size && memcmp(module, renamed[i][0], size) == 0) {
                word = renamed[i][1];
                word_size = strlen(word);
            }
        used +=
            (size_t)snprintf(name + used, MAX_NAME - used, "%.*s.", (int)swm_min((int64_t)word_size, MAX_NAME), word);
        module += size + 1;
    }
    if (used < MAX_NAME) snprintf(name + used, MAX_NAME - used, "weight");
}

/* The tensor of the adapter whose key is that of another with `tail` in its suffix's place. */
static const swm_tensor *sibling(const struct merge *m, const char *key, size_t length, const char *tail,
                                 char name[MAX_NAME])
{
    int size = snprintf(name, MAX_NAME, "%.*s%s", (int)swm_min((int64_t)length, MAX_NAME), key, tail);
    return size < MAX_NAME ? swm_weights_find(m->adapter, name) : NULL;
}

/* ---- checks ------------------------------------------------------------------------------------------------------ */

static bool is_floating(swm_dtype dtype) { return dtype == SWM_F32 || dtype == SWM_BF16 || dtype == SWM_F16; }

static int check_matrix(const char *path, const char *name, const swm_tensor *t, swm_error *error)
{
    if (!is_floating(t->dtype))
        return swm_fail(error, "%s: tensor %.256s has elements of type %s, expected F32, F16 or BF16", path, name,
                        swm_dtype_name(t->dtype));
    if (t->rank != 2 || t->shape[0] < 1 || t->shape[1] < 1 || t->shape[0] > INT_MAX || t->shape[1] > INT_MAX)
        return swm_fail(error, "%s: tensor %.256s has shape %s, expected that of a matrix", path, name,
                        swm_describe(*t).text);
    return 0;
}

/* The sizes of a pair against each other and against the base's weight. */
static int check_pair(const struct merge *m, const struct pair *pair, const char *b_name, swm_error *error)
{
    const char *base_path = swm_weights_path(m->weights);
    if (check_matrix(m->path, pair->a_name, &pair->a, error) != 0 ||
        check_matrix(m->path, b_name, &pair->b, error) != 0 ||
        check_matrix(base_path, pair->name, &pair->base, error) != 0)
        return -1;
    if (pair->base.data == NULL)
        return swm_fail(error, "%s: tensor %.256s has a shape only; an adapter needs the weights of a file", base_path,
                        pair->name);
    if (pair->a.shape[0] != pair->b.shape[1])
        return swm_fail(error, "%s: %.256s %s and %.256s %s differ in their rank, %lld and %lld", m->path, pair->a_name,
                        swm_describe(pair->a).text, b_name, swm_describe(pair->b).text, (long long)pair->a.shape[0],
                        (long long)pair->b.shape[1]);
    bool inputs_fit = pair->a.shape[1] == pair->base.shape[1];
    if (inputs_fit && pair->b.shape[0] == pair->base.shape[0]) return 0;
    return swm_fail(error, "%s: %.256s %s does not fit %.256s %s of %s; is this an adapter of another model?", m->path,
                    inputs_fit ? b_name : pair->a_name, swm_describe(inputs_fit ? pair->b : pair->a).text, pair->name,
                    swm_describe(pair->base).text, base_path);
}

/* strength * alpha / rank; without alpha, alpha is the rank. */
static int read_factor(const struct merge *m, struct pair *pair, const swm_tensor *alpha, const char *alpha_name,
                       swm_error *error)
{
    pair->factor = m->strength;
    if (alpha != NULL) {
        float value = 0;
        if (swm_count(*alpha) != 1)
            return swm_fail(error, "%s: tensor %.256s has shape %s, expected one number", m->path, alpha_name,
                            swm_describe(*alpha).text);
        swm_to_f32(&value, alpha->data, alpha->dtype, 1);
        if (!isfinite(value)) return swm_fail(error, "%s: tensor %.256s is not finite", m->path, alpha_name);
        pair->factor *= (double)value / (double)pair->a.shape[0];
    }
    if (isfinite((float)pair->factor)) return 0;
    return swm_fail(error, "%s: %.256s: strength and alpha make the factor %g, which float32 cannot hold", m->path,
                    pair->a_name, pair->factor);
}

/* The pair of the lora_A tensor `key`, whose module's name has `length` characters, if it is one to merge. */
static int add_pair(struct merge *m, const char *key, size_t length, const swm_tensor *a, swm_error *error)
{
    char b_name[MAX_NAME], alpha_name[MAX_NAME];
    struct pair *pair = &m->pairs[m->count];
    *pair = (struct pair){.a = *a};
    const swm_tensor *b = sibling(m, key, length, LORA_B, b_name);
    if (b == NULL) return swm_fail(error, "%s: has %.256s, but no %.256s; a pair needs both", m->path, key, b_name);
    base_name(pair->name, key, length);
    const swm_tensor *base = swm_weights_find(m->weights, pair->name);
    if (base == NULL || (m->only != NULL && swm_weights_find(m->only, pair->name) == NULL)) {
        m->summary.skipped++;
        return 0;
    }
    snprintf(pair->a_name, sizeof pair->a_name, "%s", key);
    pair->b = *b;
    pair->base = *base;
    m->count++;
    const swm_tensor *alpha = sibling(m, key, length, ALPHA, alpha_name);
    return check_pair(m, pair, b_name, error) != 0 ? -1 : read_factor(m, pair, alpha, alpha_name, error);
}

static int compare_pairs(const void *left, const void *right)
{
    return strcmp(((const struct pair *)left)->name, ((const struct pair *)right)->name);
}

/* All tensors of the adapter: each is half of a pair or the alpha of one. */
static int collect(struct merge *m, swm_error *error)
{
    size_t count = swm_weights_count(m->adapter);
    m->pairs = swm_allocate(error, count / 2 + 1, sizeof *m->pairs);
    if (m->pairs == NULL) return -1;
    for (size_t i = 0; i < count; i++) {
        const char *key;
        char a_name[MAX_NAME];
        const swm_tensor *tensor = swm_weights_at(m->adapter, i, &key);
        size_t a = length_before(key, LORA_A), b = length_before(key, LORA_B), alpha = length_before(key, ALPHA);
        if (a == 0 && b == 0 && alpha == 0)
            return swm_fail(error,
                            "%s: tensor %.256s is no part of a LoRA pair; expected names that end in %s, %s or %s",
                            m->path, key, LORA_A, LORA_B, ALPHA);
        if (a == 0 && sibling(m, key, b > 0 ? b : alpha, LORA_A, a_name) == NULL)
            return swm_fail(error, "%s: has %.256s, but no %.256s; a pair needs both", m->path, key, a_name);
        if (a > 0 && add_pair(m, key, a, tensor, error) != 0) return -1;
    }
    if (count == 0) return swm_fail(error, "%s: holds no tensors; is this an adapter?", m->path);
    if (m->count == 0)
        return swm_fail(error, "%s: none of its %zu pairs is for a weight of %s; is this an adapter of another model?",
                        m->path, m->summary.skipped, swm_weights_path(m->weights));
    qsort(m->pairs, m->count, sizeof *m->pairs, compare_pairs);
    for (size_t i = 1; i < m->count; i++)
        if (compare_pairs(&m->pairs[i - 1], &m->pairs[i]) == 0)
            return swm_fail(error, "%s: %.256s and %.256s are both for %.256s", m->path, m->pairs[i - 1].a_name,
                            m->pairs[i].a_name, m->pairs[i].name);
    return 0;
}

/* ---- product ----------------------------------------------------------------------------------------------------- */

/* Rows of a weight that are computed at a time. Fixed by the shape alone, so that the number of threads changes no bit. */
static int64_t tile_rows(const struct pair *pair)
{
    return swm_min(swm_max(TILE / pair->base.shape[1], 1), swm_min(TILE_ROWS, pair->base.shape[0]));
}

/* Floats of work space that a thread needs: rows of the weight and of B. */
static int64_t tile_size(const struct pair *pair) { return tile_rows(pair) * (pair->base.shape[1] + pair->a.shape[0]); }

/* Rows first ... of the merged weight; whether all are finite. `a` holds A as floats, `work` has room for tile_size. */
static bool merge_tile(const struct pair *pair, const float *a, int64_t first, float *work)
{
    int64_t inputs = pair->base.shape[1], rank = pair->a.shape[0];
    int64_t count = swm_min(tile_rows(pair), pair->base.shape[0] - first);
    swm_tensor base = swm_rows(pair->base, first, count), b_rows = swm_rows(pair->b, first, count), merged = base;
    float *sum = work, *b = work + count * inputs;
    swm_to_f32(sum, base.data, base.dtype, (size_t)swm_count(base));
    swm_to_f32(b, b_rows.data, b_rows.dtype, (size_t)swm_count(b_rows));
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)count, (int)inputs, (int)rank, (float)pair->factor, b,
                (int)rank, a, (int)inputs, 1.0f, sum, (int)inputs);
    bool finite = true;
    for (int64_t i = 0; i < count * inputs; i++) finite = finite && isfinite(sum[i]);
    merged.data = (char *)pair->merged + (size_t)(first * inputs) * swm_dtype_size(merged.dtype);
    swm_from_f32(merged.data, merged.dtype, sum, (size_t)swm_count(merged));
    return finite;
}

/* All memory first; the weights themselves are not touched before every pair is merged. */
static int merge_pairs(struct merge *m, int threads, swm_error *error)
{
    int64_t a_size = 0, work_size = 0;
    int result = 0;
    for (size_t i = 0; result == 0 && i < m->count; i++) {
        struct pair *pair = &m->pairs[i];
        a_size = swm_max(a_size, swm_count(pair->a));
        work_size = swm_max(work_size, tile_size(pair));
        pair->merged = swm_allocate(error, (size_t)swm_count(pair->base), swm_dtype_size(pair->base.dtype));
        result = pair->merged == NULL ? -1 : 0;
    }
    float *a = result == 0 ? swm_allocate(error, (size_t)a_size, sizeof *a) : NULL;
    float *work = a != NULL ? swm_allocate(error, (size_t)work_size * (size_t)threads, sizeof *work) : NULL;
    if (openblas_set_num_threads != NULL) openblas_set_num_threads(1);
    result = work != NULL ? 0 : -1;
    for (size_t i = 0; result == 0 && i < m->count; i++) {
        const struct pair *pair = &m->pairs[i];
        bool finite = true;
        swm_to_f32(a, pair->a.data, pair->a.dtype, (size_t)swm_count(pair->a));
#pragma omp parallel for num_threads(threads) schedule(dynamic) reduction(&& : finite)
        for (int64_t first = 0; first < pair->base.shape[0]; first += tile_rows(pair)) {
            bool tile = merge_tile(pair, a, first, work + omp_get_thread_num() * work_size);
            finite = tile && finite;
        }
        if (!finite)
            result = swm_fail(
                error, "%s: %.256s and its lora_B make numbers of %.256s that are not finite; is the file whole?",
                m->path, pair->a_name, pair->name);
    }
    free(work);
    free(a);
    return result;
}

/* The merged weights become the base's. */
static int settle(struct merge *m, swm_error *error)
{
    char hex[65], line[128];
    if (swm_weights_fingerprint(m->adapter, hex, error) != 0) return -1;
    snprintf(line, sizeof line, "lora %s %.17g", hex, m->strength);
    if (swm_weights_sign(m->weights, line, error) != 0) return -1;
    for (size_t i = 0; i < m->count; i++) {
        struct pair *pair = &m->pairs[i];
        swm_weights_replace(m->weights, pair->name, pair->merged);
        pair->merged = NULL;
        m->summary.merged++;
        m->summary.parameters += swm_count(pair->base);
        m->summary.rank = swm_max(m->summary.rank, pair->a.shape[0]);
    }
    return 0;
}

int swm_lora_merge(swm_weights *weights, const char *path, double strength, const swm_weights *only, int threads,
                   swm_lora_summary *summary, swm_error *error)
{
    if (!isfinite((float)strength))
        return swm_fail(error, "%s: strength %g, expected a finite number, 1 as a rule", path, strength);
    if (threads <= 0) threads = omp_get_num_procs();
    struct merge m = {.path = path, .weights = weights, .only = only, .strength = strength};
    m.adapter = swm_weights_open(path, error);
    int result = m.adapter == NULL ? -1 : collect(&m, error);
    if (result == 0) result = merge_pairs(&m, threads, error);
    if (result == 0) result = settle(&m, error);
    if (result == 0 && summary != NULL) *summary = m.summary;
    for (size_t i = 0; i < m.count; i++) free(m.pairs[i].merged);
    free(m.pairs);
    swm_weights_close(m.adapter);
    return result;
}
