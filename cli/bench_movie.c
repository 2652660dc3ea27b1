/* The part of sanawm bench that needs libav: what a clip's file costs. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../bench/whole.h"
#include "core/file.h"
#include "io/video.h"

/* A gradient that moves, with a little noise: nothing that a codec could skip. */
static void draw(uint8_t *rgb, int width, int height, int64_t frame)
{
    uint32_t state = (uint32_t)frame + 1;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++, rgb += 3) {
            state = state * 1664525u + 1013904223u;
            const uint8_t noise = (uint8_t)(state >> 29);
            rgb[0] = (uint8_t)(((x + 4 * frame) & 127) + noise);
            rgb[1] = (uint8_t)(((y + 2 * frame) & 127) + noise);
            rgb[2] = (uint8_t)((((x ^ y) >> 2) & 127) + noise);
        }
}

/* Some frames stand for all. */
int bench_movie(int64_t frames, int width, int height, double *seconds, swm_error *error)
{
    const int64_t part = swm_min(frames, 97);
    const swm_video_options options = {.codec = SWM_H264, .width = width, .height = height, .fps = 16, .quality = -1};
    char place[] = "/tmp/sanawm-bench-XXXXXX";
    if (mkdtemp(place) == NULL) return swm_fail(error, "no directory below /tmp for a video file");
    char *path = swm_path_join(error, place, "clip.mp4");
    uint8_t *rgb = swm_allocate(error, (size_t)width * (size_t)height, 3);
    swm_video *video = path != NULL && rgb != NULL ? swm_video_open(path, &options, error) : NULL;
    int result = video != NULL ? 0 : -1;
    *seconds = 0;
    for (int64_t i = 0; i < part && result == 0; i++) {
        draw(rgb, width, height, i);
        const double start = swm_seconds();
        result = swm_video_write(video, rgb, error);
        *seconds += swm_seconds() - start;
    }
    const double start = swm_seconds();
    if (result == 0)
        result = swm_video_finish(video, error);
    else
        swm_video_abort(video);
    *seconds = (*seconds + swm_seconds() - start) * (double)frames / (double)part;
    if (path != NULL) unlink(path);
    rmdir(place);
    free(rgb);
    free(path);
    return result;
}
