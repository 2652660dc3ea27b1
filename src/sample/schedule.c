/* Implements sample/schedule.h. */
#include "sample/schedule.h"

void swm_schedule_euler(int steps, double shift, float *sigmas, float *timesteps)
{
    float minimum = (float)shift * 0.001f / (1.0f + (float)(shift - 1) * 0.001f);
    double last = (double)minimum * 1000, step = steps > 1 ? (last - 1000) / (steps - 1) : 0;
    for (int i = 0; i < steps; i++) {
        double level = (i == steps - 1 && steps > 1 ? last : i * step + 1000) / 1000;
        sigmas[i] = (float)(shift * level / (1 + (shift - 1) * level));
        timesteps[i] = sigmas[i] * 1000.0f;
    }
    sigmas[steps] = 0;
}

void swm_schedule_dpm(int steps, double shift, float *sigmas)
{
    /* torch.linspace(1, 0.001, steps + 1) in float32 counts from both ends towards the middle. */
    float step = (0.001f - 1.0f) / (float)steps;
    for (int i = 0; i <= steps; i++) {
        float level = i < (steps + 1) / 2 ? 1.0f + step * (float)i : 0.001f - step * (float)(steps - i);
        float e = 1.0f - level;
        sigmas[steps - i] = (float)shift * e / (1.0f + (float)(shift - 1) * e);
    }
}

int swm_chunk_starts(swm_chunk_split split, int64_t chunk, int64_t frames, int64_t *starts)
{
    int count = 1;
    starts[0] = 0;
    int64_t first = split == SWM_SPLIT_FIRST_CHUNK_PLUS_ONE ? chunk + 1 : split == SWM_SPLIT_UNIFORM ? chunk : 1;
    for (int64_t start = first; start < frames; start += chunk) starts[count++] = start;
    int kept = split == SWM_SPLIT_FIRST_FRAME ? 2 : 1;
    if (count > kept && frames - starts[count - 1] < chunk) count--;
    return count;
}
