/* Video files out, frame by frame, and back in. A file appears under its name when it is finished, whole or not at all.
 * Owns no sound, no scaling and no choice of codec. */
#ifndef SWM_VIDEO_H
#define SWM_VIDEO_H

#include "core/base.h"

typedef enum swm_video_codec {
    SWM_H264,        /* MP4, 4:2:0 */
    SWM_HEVC,        /* MP4, 4:2:0, tagged hvc1 so that Apple's players take it */
    SWM_AV1,         /* MP4, 4:2:0 */
    SWM_FFV1,        /* Matroska, RGB, lossless */
    SWM_PNG_SEQUENCE /* a new directory with 000000.png, 000001.png, ...; lossless; keeps no fps and no comment */
} swm_video_codec;

enum {
    SWM_VIDEO_SIDE = 16384, /* the most pixels a side of a frame may have */
    SWM_VIDEO_THREADS = 64
};

/* "h264", "hevc", "av1", "ffv1" or "png". */
int swm_video_codec_from_name(const char *name, swm_video_codec *codec, swm_error *error);

typedef struct swm_video_options {
    swm_video_codec codec;
    int width, height;   /* pixels, 1 .. SWM_VIDEO_SIDE; even for 4:2:0 */
    double fps;          /* up to 1000; kept as the nearest fraction */
    int quality;         /* constant rate factor, smaller is better: 0 .. 51 (AV1: 63); -1 for the codec's default */
    int threads;         /* 1 .. SWM_VIDEO_THREADS, 0 for one a processor up to 16 */
    const char *comment; /* written into the file's metadata; may be NULL */
} swm_video_options;

/* The same frames, options and libav give the same bytes, except for HEVC: x265 differs by a few bytes now and then.
 * The number of threads may change the bytes, so 0 gives other bytes on another machine. */
typedef struct swm_video swm_video;

/* Fails at once when the place cannot be written or this libav has no encoder. The path's extension is not looked at.
 * For a PNG sequence the path must not exist, or be an empty directory. NULL on failure. */
swm_video *swm_video_open(const char *path, const swm_video_options *options, swm_error *error);
/* One frame, rgb[height][width][3]. After a failure only swm_video_abort makes sense. */
int swm_video_write(swm_video *video, const uint8_t *rgb, swm_error *error);
/* Flush, write the index, rename into place. Frees the video in any case; on failure nothing is left behind. */
int swm_video_finish(swm_video *video, swm_error *error);
/* Leaves nothing behind and frees; safe on NULL. */
void swm_video_abort(swm_video *video);

typedef struct swm_video_reader swm_video_reader;

typedef struct swm_video_info {
    int width, height;
    double fps;         /* average */
    int64_t frames;     /* as the container says, 0 when it does not */
    char codec[32];     /* libav's name of the coding: "h264", "hevc", "av1", "ffv1" */
    bool bt709;         /* tagged BT.709, limited range */
    char comment[1024]; /* "" when there is none; cut when longer */
} swm_video_info;

/* Open the video stream of an MP4/MOV or Matroska/WebM file. *info may be NULL. NULL on failure. */
swm_video_reader *swm_video_reader_open(const char *path, swm_video_info *info, swm_error *error);
/* The next frame into rgb[height][width][3]: 1 when there was one, 0 at the end, -1 on failure. Untagged colours are
 * taken for BT.601, limited range. */
int swm_video_reader_next(swm_video_reader *reader, uint8_t *rgb, swm_error *error);
void swm_video_reader_close(swm_video_reader *reader); /* safe on NULL */

#endif
