/* Softmax attention in tiles of queries and keys, with running maxima, so that no score matrix is ever whole. */
#include "cpu/cpu.h"
#include "cpu/vector_math.h"

#include <cblas.h>
#include <math.h>
#include <string.h>

enum { QUERY_TILE = 32, KEY_TILE = 256 };

/* Far below every score, yet finite, so that a row whose keys so far are all hidden stays free of NaN: what it gathers
 * is scaled to nothing by the first visible key. A row that never sees a key averages the values. */
static const float hidden = -1e30f;

/* Scores of one tile: soft cap and mask. */
static void finish_scores(float *scores, int64_t first_query, int64_t queries, int64_t first_key, int64_t keys,
                          const swm_attention *how)
{
    for (int64_t i = 0; i < queries; i++) {
        float *row = scores + i * KEY_TILE;
        if (how->softcap > 0)
            for (int64_t j = 0; j < keys; j++) row[j] = how->softcap * tanhf(row[j] / how->softcap);
        if (!how->causal) continue;
        for (int64_t j = 0; j < keys; j++) {
            int64_t distance = first_query + i - first_key - j;
            if (distance < 0 || (how->window > 0 && distance >= how->window)) row[j] = hidden;
        }
    }
}

/* Scores to weights against the running maximum; what was gathered so far is rescaled to the new maximum. */
static void soften(float *scores, float *gathered, float *maximum, float *total, int64_t queries, int64_t keys,
                   int64_t size)
{
    for (int64_t i = 0; i < queries; i++) {
        float *row = scores + i * KEY_TILE, highest = maximum[i], sum = 0;
        for (int64_t j = 0; j < keys; j++) highest = row[j] > highest ? row[j] : highest;
        float rescale = swm_exp(maximum[i] - highest);
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < keys; j++) {
            row[j] = swm_exp(row[j] - highest);
            sum += row[j];
        }
        for (int64_t d = 0; d < size; d++) gathered[i * size + d] *= rescale;
        total[i] = total[i] * rescale + sum;
        maximum[i] = highest;
    }
}

void swm_cpu_attend(swm_backend *b, swm_tensor y, swm_tensor q, swm_tensor k, swm_tensor v, const swm_attention *how)
{
    int64_t queries = q.shape[0], size = q.shape[1] / how->heads;
    int64_t before = swm_present(how->prefix_keys) ? how->prefix_keys.shape[0] : 0, keys = before + k.shape[0];
    int64_t key_heads = how->key_heads ? how->key_heads : how->heads, share = how->heads / key_heads;
    int64_t tiles = swm_divide_up(queries, QUERY_TILE);
    int q_stride = (int)q.shape[1], k_stride = (int)k.shape[1];
    SWM_REQUIRE(QUERY_TILE * (KEY_TILE + size + 2) <= SWM_CPU_WORKSPACE, "heads of %lld", (long long)size);
#pragma omp parallel for num_threads(b->threads) schedule(dynamic) collapse(2)
    for (int64_t head = 0; head < how->heads; head++)
        for (int64_t tile = 0; tile < tiles; tile++) {
            int64_t first = tile * QUERY_TILE, count = swm_min(QUERY_TILE, queries - first);
            float *scores = swm_cpu_workspace(b), *gathered = scores + QUERY_TILE * KEY_TILE;
            float *maximum = gathered + QUERY_TILE * size, *total = maximum + QUERY_TILE;
            memset(gathered, 0, (size_t)(count * size) * sizeof(float));
            for (int64_t i = 0; i < count; i++) maximum[i] = hidden, total[i] = 0;
            const float *q_head = swm_floats(q) + first * q.shape[1] + head * size;
            int64_t end = how->causal ? swm_min(keys, first + count) : keys;
            for (int64_t key = 0, here; key < end; key += here) {
                bool prefix = key < before; /* a tile lies on one side of the seam */
                int64_t column = (prefix ? key : key - before) * k.shape[1] + head / share * size;
                const float *k_head = swm_floats(prefix ? how->prefix_keys : k) + column;
                const float *v_head = swm_floats(prefix ? how->prefix_values : v) + column;
                here = swm_min(KEY_TILE, (prefix ? before : end) - key);
                cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)count, (int)here, (int)size, how->scale,
                            q_head, q_stride, k_head, k_stride, 0.0f, scores, KEY_TILE);
                finish_scores(scores, first, count, key, here, how);
                soften(scores, gathered, maximum, total, count, here, size);
                cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)count, (int)size, (int)here, 1.0f, scores,
                            KEY_TILE, v_head, k_stride, 1.0f, gathered, (int)size);
            }
            for (int64_t i = 0; i < count; i++) {
                float *out = swm_floats(y) + (first + i) * q.shape[1] + head * size;
                for (int64_t d = 0; d < size; d++) out[d] = gathered[i * size + d] / total[i];
            }
        }
}
