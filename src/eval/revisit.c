/* Frames at which the camera is back where it was. See revisit.h. */
#include "eval/revisit.h"

#include "io/video.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

swm_revisit_options swm_revisit_defaults(void)
{
    return (swm_revisit_options){.distance = 0.5, .degrees = 20, .gap = 16, .spacing = 8, .pairs = 5};
}

/* ---- pairs ------------------------------------------------------------------------------------------------------ */

static double place_distance(const double *a, const double *b)
{
    const double x = a[3] - b[3], y = a[7] - b[7], z = a[11] - b[11];
    return sqrt(x * x + y * y + z * z);
}

static bool keeps_spacing(int64_t first, int64_t second, const swm_revisit *found, int count, int64_t spacing)
{
    for (int i = 0; i < count; i++)
        if (llabs(first - found[i].first) < spacing && llabs(second - found[i].second) < spacing) return false;
    return true;
}

/* The best pair of the first frame `first` that keeps its spacing; its score, infinite when there is none. */
static double best_from(swm_revisit *best, int64_t first, const swm_eval_path *path, const swm_revisit_options *o,
                        const swm_revisit *found, int count)
{
    const double *a = path->c2w + 16 * first;
    double best_score = INFINITY;
    bool left = false;
    for (int64_t second = first + 1; second < path->count; second++) {
        const double *b = path->c2w + 16 * second, distance = place_distance(a, b);
        if (distance > o->distance) {
            left = true;
            continue;
        }
        /* The angle costs far more than the distance; most pairs are settled without it. */
        if (left && distance / o->distance >= best_score) continue;
        const double degrees = swm_rotation_angle(a, b);
        if (degrees > o->degrees) left = true;
        const double score = distance / o->distance + degrees / o->degrees;
        if (!left || degrees > o->degrees || second - first < o->gap || score >= best_score ||
            !keeps_spacing(first, second, found, count, o->spacing))
            continue;
        best_score = score;
        *best = (swm_revisit){.first = first, .second = second, .distance = distance, .degrees = degrees};
    }
    return best_score;
}

int swm_revisit_find(swm_revisit *found, const swm_eval_path *path, const swm_revisit_options *o, swm_error *error)
{
    if (!(o->distance > 0) || !(o->degrees > 0) || o->gap < 1 || o->spacing < 1 || o->pairs < 1 ||
        o->pairs > SWM_REVISIT_PAIRS)
        return swm_fail(error,
                        "revisits within %g units and %g degrees, %lld frames apart, %d pairs; limits must be "
                        "positive, pairs 1 .. %d",
                        o->distance, o->degrees, (long long)o->gap, o->pairs, SWM_REVISIT_PAIRS);
    if (path->count > SWM_REVISIT_FRAMES)
        return swm_fail(error, "a path of %lld poses; revisits are looked for in at most %d, cut it into parts",
                        (long long)path->count, SWM_REVISIT_FRAMES);
    /* No list of candidates, which could be quadratic in the frames. The best score of a first frame only grows as
     * pairs are taken, so a frame whose last known score is no better than the best one so far needs no new look. */
    double *scores = swm_allocate(error, (size_t)swm_max(1, path->count), sizeof(double));
    if (scores == NULL) return -1;
    int count = 0;
    for (double best_score = 0; count < o->pairs && best_score < INFINITY;) {
        swm_revisit best = {0}, candidate = {0};
        best_score = INFINITY;
        for (int64_t i = 0; i < path->count; i++) {
            if (scores[i] >= best_score) continue;
            scores[i] = best_from(&candidate, i, path, o, found, count);
            if (scores[i] >= best_score) continue;
            best_score = scores[i];
            best = candidate;
        }
        if (best_score < INFINITY) found[count++] = best;
    }
    free(scores);
    return count;
}

/* ---- pictures --------------------------------------------------------------------------------------------------- */

int64_t swm_video_frame_count(const char *video, swm_error *error)
{
    swm_video_info info;
    swm_video_reader *reader = swm_video_reader_open(video, &info, error);
    if (reader == NULL) return -1;
    int64_t count = info.frames;
    uint8_t *frame = NULL;
    if (count <= 0) {
        frame = swm_allocate(error, (size_t)info.width * (size_t)info.height, 3);
        int got = frame != NULL ? 1 : -1;
        for (count = -1; got > 0; count++) got = swm_video_reader_next(reader, frame, error);
        if (got < 0) count = -1;
    }
    free(frame);
    swm_video_reader_close(reader);
    return count;
}

typedef struct album {
    uint8_t **pictures; /* of revisit i: 2 i and 2 i + 1; a frame used twice is kept twice */
    swm_revisit *revisits;
    int count;
    size_t size; /* bytes of a picture */
} album;

static int keep_frame(album *kept, int64_t number, const uint8_t *rgb, swm_error *error)
{
    for (int i = 0; i < 2 * kept->count; i++) {
        const swm_revisit *r = &kept->revisits[i / 2];
        if ((i % 2 == 0 ? r->first : r->second) != number) continue;
        if ((kept->pictures[i] = swm_allocate(error, kept->size, 1)) == NULL) return -1;
        memcpy(kept->pictures[i], rgb, kept->size);
    }
    return 0;
}

static int collect(album *kept, swm_video_reader *reader, const char *video, uint8_t *frame, swm_error *error)
{
    int64_t last = 0;
    for (int i = 0; i < kept->count; i++) last = swm_max(last, kept->revisits[i].second);
    for (int64_t n = 0; n <= last; n++) {
        const int got = swm_video_reader_next(reader, frame, error);
        if (got < 0) return -1;
        if (got == 0)
            return swm_fail(error, "%.300s ends after %lld frames; frame %lld is needed, does the path belong to it?",
                            video, (long long)n, (long long)last);
        if (keep_frame(kept, n, frame, error) < 0) return -1;
    }
    return 0;
}

static int compare_pictures(album *kept, int width, int height, swm_error *error)
{
    for (int i = 0; i < kept->count; i++) {
        const uint8_t *a = kept->pictures[2 * i], *b = kept->pictures[2 * i + 1];
        swm_revisit *r = &kept->revisits[i];
        r->psnr = swm_psnr(swm_mean_squared_error(a, b, width, height));
        if (swm_ssim(&r->ssim, a, b, width, height, SWM_SSIM_GAUSSIAN, error) < 0 ||
            swm_ssim(&r->ssim_uniform, a, b, width, height, SWM_SSIM_UNIFORM, error) < 0)
            return -1;
    }
    return 0;
}

int swm_revisit_measure(swm_revisit *revisits, int count, const char *video, swm_error *error)
{
    if (count < 1) return 0;
    swm_video_info info;
    swm_video_reader *reader = swm_video_reader_open(video, &info, error);
    if (reader == NULL) return -1;
    album kept = {.revisits = revisits, .count = count, .size = (size_t)info.width * (size_t)info.height * 3};
    kept.pictures = swm_allocate(error, 2 * (size_t)count, sizeof(uint8_t *));
    uint8_t *frame = swm_allocate(error, kept.size, 1);
    const int status = kept.pictures == NULL || frame == NULL || collect(&kept, reader, video, frame, error) < 0 ||
                               compare_pictures(&kept, info.width, info.height, error) < 0
                           ? -1
                           : 0;
    if (kept.pictures != NULL)
        for (int i = 0; i < 2 * count; i++) free(kept.pictures[i]);
    free(kept.pictures);
    free(frame);
    swm_video_reader_close(reader);
    return status;
}
