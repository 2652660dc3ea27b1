/* Implements model.h, but for the writing. */
#include "model.h"

#include "stages.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- opening ------------------------------------------------------------------------------------------------------ */

int bench_model_open(bench_model *m, const char *directory, swm_error *error)
{
    const swm_checkpoint_options options = {.with_refiner = true};
    *m = (bench_model){.release = directory == NULL};
    return m->release ? swm_checkpoint_open_release(&m->checkpoint, error)
                      : swm_checkpoint_open(&m->checkpoint, directory, &options, error);
}

void bench_model_close(bench_model *m)
{
    swm_checkpoint_close(&m->checkpoint);
    free(m->random);
    *m = (bench_model){0};
}

/* ---- the networks of a stage --------------------------------------------------------------------------------------- */

/* Structs of tensors that lie side by side: blocks of a network, or one struct. */
typedef struct group {
    void *tensors;
    size_t structs, each; /* how many, and tensors in one of them */
} group;

#define GROUP(first, count)                                                                                            \
    (group) { (first), (size_t)(count), sizeof *(first) / sizeof(swm_tensor) }

enum { MOST_GROUPS = 24 };

static int vae_groups(group *groups, swm_vae_conv *in, swm_vae_conv *out, swm_vae_stage *stages)
{
    groups[0] = GROUP(in, 1);
    groups[1] = GROUP(out, 1);
    for (int i = 0; i <= SWM_VAE_MAX_BLOCKS; i++) {
        groups[2 + 2 * i] = GROUP(&stages[i].sampler, 1);
        groups[3 + 2 * i] = GROUP(stages[i].resnets, SWM_VAE_MAX_LAYERS);
    }
    return 4 + 2 * SWM_VAE_MAX_BLOCKS;
}

static int gemma_groups(group *groups, swm_gemma *gemma)
{
    if (gemma->layers == NULL) return 0;
    groups[0] = GROUP(&gemma->embedding, 1);
    groups[1] = GROUP(&gemma->norm, 1);
    groups[2] = GROUP(gemma->layers, gemma->config.layers);
    return 3;
}

static int groups_of(const bench_model *m, bench_stage stage, group groups[MOST_GROUPS])
{
    swm_vae *vae = m->checkpoint.vae;
    swm_dit *dit = m->checkpoint.dit;
    /* The groups of a const model are only read. */
    swm_gemma *gemma = (swm_gemma *)(uintptr_t)&m->checkpoint.gemma;
    swm_gemma *refiner_gemma = (swm_gemma *)(uintptr_t)&m->checkpoint.refiner.gemma;
    swm_refiner *refiner = m->checkpoint.refiner.transformer;
    swm_connectors *connectors = m->checkpoint.refiner.connectors;
    int count = 0;
    switch (stage) {
    case BENCH_PROMPT: return gemma_groups(groups, gemma);
    case BENCH_ENCODE: return vae_groups(groups, &vae->encoder_in, &vae->encoder_out, vae->encoder);
    case BENCH_DECODE: return vae_groups(groups, &vae->decoder_in, &vae->decoder_out, vae->decoder);
    case BENCH_DENOISE:
    case BENCH_DENOISE_CHUNK:
        groups[0] = GROUP(&dit->outer, 1);
        groups[1] = GROUP(dit->blocks, dit->size.depth);
        return 2;
    case BENCH_REFINER_PROMPT:
        if (connectors == NULL) return 0;
        count = gemma_groups(groups, refiner_gemma);
        groups[count] = GROUP(&connectors->outer, 1);
        groups[count + 1] = GROUP(connectors->blocks, connectors->config.depth);
        return count + 2;
    case BENCH_REFINE:
    case BENCH_REFINE_BLOCK:
        if (refiner == NULL) return 0;
        groups[0] = GROUP(&refiner->outer, 1);
        groups[1] = GROUP(refiner->blocks, refiner->config.depth);
        return 2;
    case BENCH_STAGE_COUNT: break;
    }
    return 0;
}

/* ---- random weights ------------------------------------------------------------------------------------------------- */

enum { TILE = 1 << 16 };

/* Rows of matrices keep their input's size, vectors are small positive numbers, so that nothing grows or dies on its
 * way. The values repeat, shifted, every tile. */
static void fill(swm_tensor t, const float *tile)
{
    float scale = t.rank > 1 ? 1.0f / sqrtf((float)swm_row_size(t)) : 0;
    int64_t count = swm_count(t);
    size_t element = swm_dtype_size(t.dtype);
#pragma omp parallel for schedule(static)
    for (int64_t piece = 0; piece < swm_divide_up(count, TILE); piece++) {
        float values[1024];
        int64_t end = swm_min(count, (piece + 1) * TILE);
        for (int64_t at = piece * TILE; at < end; at += 1024) {
            int64_t length = swm_min(1024, end - at);
            for (int64_t i = 0; i < length; i++)
                values[i] = scale > 0 ? scale * tile[(at + i + 7919 * piece) % TILE] : 0.25f;
            swm_from_f32((char *)t.data + (size_t)at * element, t.dtype, values, (size_t)length);
        }
    }
}

static bool alike(swm_tensor a, swm_tensor b)
{
    return a.dtype == b.dtype && a.rank == b.rank && memcmp(a.shape, b.shape, sizeof a.shape) == 0;
}

/* Room for a group's absent tensors from `memory` + used on; with `memory` NULL it only counts. A tensor lies where the
 * same member of an earlier struct lies, if that is like it. */
static size_t place(group g, char *memory, size_t used, const float *tile)
{
    swm_tensor *tensors = g.tensors;
    for (size_t i = 0; i < g.structs * g.each; i++) {
        swm_tensor *t = &tensors[i];
        if (!swm_present(*t) || t->data != NULL) continue;
        size_t twin = i % g.each;
        while (twin < i && !alike(tensors[twin], *t)) twin += g.each;
        if (twin < i) {
            if (memory != NULL) t->data = tensors[twin].data;
            continue;
        }
        if (memory != NULL) {
            t->data = memory + used;
            fill(*t, tile);
        }
        used += swm_aligned_bytes(swm_bytes(*t));
    }
    return used;
}

static size_t place_networks(bench_model *m, unsigned stages, char *memory, const float *tile)
{
    group groups[MOST_GROUPS];
    size_t used = 0;
    for (int stage = 0; stage < BENCH_STAGE_COUNT; stage++) {
        int count = (stages >> stage & 1) != 0 ? groups_of(m, (bench_stage)stage, groups) : 0;
        for (int i = 0; i < count; i++) used = place(groups[i], memory, used, tile);
    }
    return used;
}

int bench_model_randomise(bench_model *m, unsigned stages, swm_error *error)
{
    /* Two stages may share a network: an upper bound. */
    size_t bytes = place_networks(m, stages, NULL, NULL);
    if (bytes == 0) return 0;
    float *tile = swm_allocate(error, TILE, sizeof *tile);
    if (tile == NULL) return -1;
    uint32_t state = 1;
    for (int i = 0; i < TILE; i++) {
        state = state * 1664525u + 1013904223u;
        tile[i] = ((float)(state >> 8) * 0x1p-23f - 1.0f) * 1.7320508f; /* mean 0, deviation 1 */
    }
    m->random = aligned_alloc(SWM_ARENA_ALIGNMENT, bytes);
    if (m->random != NULL) place_networks(m, stages, m->random, tile);
    free(tile);
    return m->random != NULL ? 0
                             : swm_fail(error, "no memory for %zu bytes of random weights; time fewer stages", bytes);
}
