/* Implements core/rng.h. Sources: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (Philox); cuRAND's
 * documented curand_normal4; the order of elements of torch's CUDA distribution kernels. */
#include "core/rng.h"

#include <math.h>

typedef struct block {
    uint32_t word[4];
} block;

static block philox(uint64_t seed, block counter)
{
    uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t *c = counter.word;
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)c[0] * 0xD2511F53u, b = (uint64_t)c[2] * 0xCD9E8D57u;
        block next = {
            {(uint32_t)(b >> 32) ^ c[1] ^ key[0], (uint32_t)b, (uint32_t)(a >> 32) ^ c[3] ^ key[1], (uint32_t)a}};
        counter = next;
        key[0] += 0x9E3779B9u;
        key[1] += 0xBB67AE85u;
    }
    return counter;
}

/* Box-Muller on two words. The uniform numbers are rounded to float as cuRAND does, what follows is exact to a float. */
static void normal_pair(uint32_t x, uint32_t y, float *sine, float *cosine)
{
    float u = (float)x * 0x1p-32f + 0x1p-33f;
    float angle = (float)y * (float)(0x1p-32 * 2 * M_PI) + (float)(0x1p-33 * 2 * M_PI);
    double radius = sqrt(-2.0 * log((double)u));
    *sine = (float)(radius * sin((double)angle));
    *cosine = (float)(radius * cos((double)angle));
}

static void normal_four(uint64_t seed, block counter, float out[4])
{
    block random = philox(seed, counter);
    normal_pair(random.word[0], random.word[1], &out[0], &out[1]);
    normal_pair(random.word[2], random.word[3], &out[2], &out[3]);
}

void swm_generator_normal(swm_generator *generator, float *values, int64_t count)
{
    enum { MULTIPROCESSORS = 132, THREADS = 2048, BLOCK = 256 };
    if (count <= 0) return;
    int64_t blocks = swm_min(swm_divide_up(count, BLOCK), MULTIPROCESSORS * (THREADS / BLOCK));
    int64_t threads = blocks * BLOCK, rounds = (count - 1) / (4 * threads) + 1;
    /* Thread i draws four values a round and leaves them a whole grid apart. */
#pragma omp parallel for collapse(2)
    for (int64_t round = 0; round < rounds; round++)
        for (int64_t thread = 0; thread < threads; thread++) {
            int64_t first = 4 * round * threads + thread;
            if (first >= count) continue;
            uint64_t offset = generator->rounds + (uint64_t)round;
            float four[4];
            normal_four(
                generator->seed,
                (block){{(uint32_t)offset, (uint32_t)(offset >> 32), (uint32_t)thread, (uint32_t)(thread >> 32)}},
                four);
            for (int i = 0; i < 4 && first + i * threads < count; i++) values[first + i * threads] = four[i];
        }
    generator->rounds += (uint64_t)rounds;
}

void swm_frame_normal(uint64_t seed, int64_t frame, float *values, int64_t channels, int64_t cells,
                      int64_t channel_stride)
{
    /* The last counter word keeps these streams apart from torch's, which never reach so far. */
    const uint32_t domain = 0x73776d66u;
    int64_t count = channels * cells;
#pragma omp parallel for
    for (int64_t first = 0; first < count; first += 4) {
        float four[4];
        uint64_t index = (uint64_t)first / 4;
        normal_four(seed, (block){{(uint32_t)index, (uint32_t)(index >> 32), (uint32_t)frame, domain}}, four);
        for (int64_t i = 0; i < 4 && first + i < count; i++) {
            int64_t element = first + i;
            values[element / cells * channel_stride + element % cells] = four[i];
        }
    }
}
