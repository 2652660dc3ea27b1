/* Implements io/video.h over libavformat and libavcodec. Two kinds of writer share one handle: an encoder with a muxer,
 * and a directory of PNG files. The conversion from RGB is here, in integers, so that a video's bytes do not depend on
 * the version of libswscale; the reader uses libswscale, as it must take any layout. */
#include "io/video.h"

#include "core/file.h"
#include "io/image.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/opt.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>

struct swm_video {
    swm_video_options options; /* comment is not kept */
    int64_t frames;            /* written so far */
    swm_output output;         /* the file; unused for a PNG sequence */
    AVFormatContext *muxer;
    AVCodecContext *encoder;
    AVFrame *frame;
    AVPacket *packet;
    AVStream *stream;
    char *directory, *temporary; /* of a PNG sequence */
};

static int fail_write(const char *path, int code, swm_error *error)
{
    return swm_fail(error, "%s: cannot be written: %s; free some space or choose another place", path,
                    av_err2str(code));
}

/* ---- codecs ---------------------------------------------------------------------------------------------------- */

typedef struct codec_kind {
    const char *name, *title, *container;
    int default_quality, worst_quality;
    bool subsampled; /* 4:2:0, which needs even sides */
} codec_kind;

static const codec_kind KINDS[] = {
    [SWM_H264] = {"h264", "H.264", "mp4", 18, 51, true},
    [SWM_HEVC] = {"hevc", "HEVC", "mp4", 20, 51, true},
    [SWM_AV1] = {"av1", "AV1", "mp4", 25, 63, true},
    [SWM_FFV1] = {"ffv1", "FFV1", "matroska", 0, 0, false},
    [SWM_PNG_SEQUENCE] = {"png", "PNG sequence", NULL, 0, 0, false},
};
enum { KIND_COUNT = sizeof KINDS / sizeof KINDS[0] };

/* Encoders in the order they are tried. `quality` names the private option that takes the rate factor; `settings` are
 * further private options. */
typedef struct encoder_kind {
    swm_video_codec codec;
    const char *name, *quality, *settings;
} encoder_kind;

static const encoder_kind ENCODERS[] = {
    {SWM_H264, "libx264", "crf", "preset=medium"},
    {SWM_H264, "h264_nvenc", "cq", "preset=p5:rc=vbr"},
    {SWM_H264, "libopenh264", NULL, NULL},
    {SWM_HEVC, "libx265", "crf", "preset=medium:x265-params=log-level=none"}, /* else it prints to stderr */
    {SWM_HEVC, "hevc_nvenc", "cq", "preset=p5:rc=vbr"},
    {SWM_AV1, "libaom-av1", "crf", "cpu-used=8:row-mt=1"},
    {SWM_AV1, "libsvtav1", "crf", "preset=8"}, /* last, as it prints to stderr and no option stops it */
    {SWM_FFV1, "ffv1", NULL, "slicecrc=1"},
};
enum { ENCODER_COUNT = sizeof ENCODERS / sizeof ENCODERS[0] };

int swm_video_codec_from_name(const char *name, swm_video_codec *codec, swm_error *error)
{
    for (int i = 0; i < KIND_COUNT; i++) {
        if (strcmp(name, KINDS[i].name) != 0) continue;
        *codec = (swm_video_codec)i;
        return 0;
    }
    return swm_fail(error, "'%s' is no video codec; choose h264, hevc, av1, ffv1 or png", name);
}

static int check_options(const swm_video_options *o, const char *path, swm_error *error)
{
    if ((unsigned)o->codec >= KIND_COUNT) return swm_fail(error, "%s: no such video codec: %d", path, (int)o->codec);
    const codec_kind *kind = &KINDS[o->codec];
    if (o->width < 1 || o->height < 1 || o->width > SWM_VIDEO_SIDE || o->height > SWM_VIDEO_SIDE)
        return swm_fail(error, "%s: a video of %d x %d pixels is not possible; sides are 1 to %d", path, o->width,
                        o->height, SWM_VIDEO_SIDE);
    if (kind->subsampled && (o->width % 2 != 0 || o->height % 2 != 0))
        return swm_fail(error, "%s: %s needs even sides, these are %d x %d; choose FFV1 (.mkv) or a PNG sequence", path,
                        kind->title, o->width, o->height);
    if (!(o->fps >= 0.001 && o->fps <= 1000.0))
        return swm_fail(error, "%s: %g frames a second is not possible; choose 0.001 to 1000", path, o->fps);
    if (o->quality < -1 || (kind->subsampled && o->quality > kind->worst_quality))
        return swm_fail(error, "%s: quality %d is out of range for %s; choose 0 (best) to %d, or -1 for the default",
                        path, o->quality, kind->title, kind->worst_quality);
    if (o->threads < 0 || o->threads > SWM_VIDEO_THREADS)
        return swm_fail(error, "%s: %d threads are not possible; choose 1 to %d, or 0 for one a processor", path,
                        o->threads, SWM_VIDEO_THREADS);
    return 0;
}

/* ---- RGB to the encoder's layout ------------------------------------------------------------------------------- */

/* BT.709, limited range, with 16 fractional bits. The rows sum to 219 / 255 and to zero, so that white is exactly 235
 * and every gray exactly 128. */
enum { Y_RED = 11966, Y_GREEN = 40254, Y_BLUE = 4064 };
enum { CB_RED = -6596, CB_GREEN = -22189, CB_BLUE = 28785 };
enum { CR_RED = 28785, CR_GREEN = -26145, CR_BLUE = -2640 };

/* Two rows to two rows of luma and one of chroma. A chroma sample sits on the even column (horizontal weights 1 2 1)
 * and half-way between the rows, which is what AVCHROMA_LOC_LEFT says. Outside the picture the border repeats. */
static void convert_row_pair(const uint8_t *rgb, AVFrame *frame, int width, int pair)
{
    size_t row = (size_t)width * 3;
    const uint8_t *top = rgb + (size_t)pair * 2 * row, *rows[2] = {top, top + row};
    for (int r = 0; r < 2; r++) {
        uint8_t *luma = frame->data[0] + (ptrdiff_t)(2 * pair + r) * frame->linesize[0];
        const uint8_t *p = rows[r];
        for (int x = 0; x < width; x++, p += 3)
            luma[x] = (uint8_t)((Y_RED * p[0] + Y_GREEN * p[1] + Y_BLUE * p[2] + (16 << 16) + 32768) >> 16);
    }
    uint8_t *cb = frame->data[1] + (ptrdiff_t)pair * frame->linesize[1];
    uint8_t *cr = frame->data[2] + (ptrdiff_t)pair * frame->linesize[2];
    for (int x = 0; x < width; x += 2) {
        size_t here = (size_t)x * 3, left = x > 0 ? here - 3 : here, right = here + 3;
        int sum[3];
        for (size_t c = 0; c < 3; c++)
            sum[c] = rows[0][left + c] + 2 * rows[0][here + c] + rows[0][right + c] + rows[1][left + c] +
                     2 * rows[1][here + c] + rows[1][right + c];
        int blue = CB_RED * sum[0] + CB_GREEN * sum[1] + CB_BLUE * sum[2];
        int red = CR_RED * sum[0] + CR_GREEN * sum[1] + CR_BLUE * sum[2];
        cb[x / 2] = (uint8_t)((blue + (128 << 19) + (1 << 18)) >> 19);
        cr[x / 2] = (uint8_t)((red + (128 << 19) + (1 << 18)) >> 19);
    }
}

static void convert_frame(const uint8_t *rgb, AVFrame *frame, bool subsampled)
{
    int width = frame->width, height = frame->height;
    if (subsampled) {
#pragma omp parallel for schedule(static)
        for (int pair = 0; pair < height / 2; pair++) convert_row_pair(rgb, frame, width, pair);
        return;
    }
#pragma omp parallel for schedule(static)
    for (int y = 0; y < height; y++) {
        uint8_t *out = frame->data[0] + (ptrdiff_t)y * frame->linesize[0];
        const uint8_t *p = rgb + (size_t)y * (size_t)width * 3;
        for (int x = 0; x < width; x++, p += 3, out += 4) {
            uint32_t pixel = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2]; /* AV_PIX_FMT_0RGB32, native order */
            memcpy(out, &pixel, 4);
        }
    }
}

/* ---- encoder and muxer ----------------------------------------------------------------------------------------- */

static int64_t bits_a_second(const swm_video_options *o)
{
    double rate = 0.2 * o->width * o->height * o->fps; /* 2.9 Mbit/s at 1280 x 704 and 16 frames a second */
    return (int64_t)fmin(fmax(rate, 1e5), 2e8);
}

/* An opened encoder of one kind, or NULL when this libav or this machine has none. */
static AVCodecContext *open_encoder(const encoder_kind *kind, const swm_video_options *o, bool global_header)
{
    const AVCodec *codec = avcodec_find_encoder_by_name(kind->name);
    AVCodecContext *context = codec != NULL ? avcodec_alloc_context3(codec) : NULL;
    if (context == NULL) return NULL;
    bool subsampled = KINDS[o->codec].subsampled;
    AVRational fps = av_d2q(o->fps, 100000);
    context->width = o->width;
    context->height = o->height;
    context->sample_aspect_ratio = (AVRational){1, 1};
    context->framerate = fps;
    context->time_base = av_inv_q(fps);
    context->thread_count = o->threads > 0 ? o->threads : (int)swm_max(1, swm_min(sysconf(_SC_NPROCESSORS_ONLN), 16));
    context->pix_fmt = subsampled ? AV_PIX_FMT_YUV420P : AV_PIX_FMT_0RGB32;
    context->color_primaries = AVCOL_PRI_BT709;
    context->color_trc = AVCOL_TRC_BT709;
    context->colorspace = subsampled ? AVCOL_SPC_BT709 : AVCOL_SPC_RGB;
    context->color_range = subsampled ? AVCOL_RANGE_MPEG : AVCOL_RANGE_JPEG;
    if (subsampled) context->chroma_sample_location = AVCHROMA_LOC_LEFT;
    if (global_header) context->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
    if (o->codec == SWM_HEVC) context->codec_tag = MKTAG('h', 'v', 'c', '1');
    if (o->codec == SWM_FFV1) context->level = 3, context->gop_size = 1; /* every frame stands alone, with checksums */
    int result = 0;
    if (kind->quality != NULL) {
        int quality = o->quality < 0 ? KINDS[o->codec].default_quality : o->quality;
        char text[16];
        snprintf(text, sizeof text, "%d", quality);
        result = av_opt_set(context->priv_data, kind->quality, text, 0);
    } else if (subsampled) {
        context->bit_rate = bits_a_second(o);
    }
    if (result >= 0 && kind->settings != NULL)
        result = av_set_options_string(context->priv_data, kind->settings, "=", ":");
    if (result >= 0) result = avcodec_open2(context, codec, NULL);
    if (result < 0) avcodec_free_context(&context);
    return context;
}

static int fail_encoder(const swm_video_options *o, const char *path, swm_error *error)
{
    char names[128] = "";
    for (int i = 0; i < ENCODER_COUNT; i++) {
        if (ENCODERS[i].codec != o->codec) continue;
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", used > 0 ? ", " : "", ENCODERS[i].name);
    }
    return swm_fail(error,
                    "%s: no %s encoder (%s) of the installed libav can encode %d x %d pixels; install one, or choose "
                    "another codec: h264, hevc, av1, ffv1 or png",
                    path, KINDS[o->codec].title, names, o->width, o->height);
}

static int open_container(swm_video *video, const swm_video_options *o, const char *path, swm_error *error)
{
    if (swm_output_open(&video->output, path, error) != 0) return -1;
    /* The protocol is named so that a colon in a file's name is not taken for one. */
    char *url = swm_format(error, "file:%s", video->output.temporary);
    if (url == NULL) return -1;
    const char *container = KINDS[o->codec].container;
    int result = avformat_alloc_output_context2(&video->muxer, NULL, container, url);
    if (result < 0) swm_fail(error, "%s: this libav cannot write %s files; choose a PNG sequence", path, container);
    for (int i = 0; result >= 0 && i < ENCODER_COUNT && video->encoder == NULL; i++) {
        bool global_header = (video->muxer->oformat->flags & AVFMT_GLOBALHEADER) != 0;
        if (ENCODERS[i].codec == o->codec) video->encoder = open_encoder(&ENCODERS[i], o, global_header);
    }
    if (result >= 0 && video->encoder == NULL) result = fail_encoder(o, path, error);
    if (result >= 0) {
        video->stream = avformat_new_stream(video->muxer, NULL);
        video->frame = av_frame_alloc();
        video->packet = av_packet_alloc();
        if (video->stream == NULL || video->frame == NULL || video->packet == NULL) result = AVERROR(ENOMEM);
    }
    if (result >= 0) {
        AVFrame *frame = video->frame;
        const AVCodecContext *encoder = video->encoder;
        frame->width = encoder->width, frame->height = encoder->height, frame->format = encoder->pix_fmt;
        frame->color_primaries = encoder->color_primaries;
        frame->color_trc = encoder->color_trc;
        frame->colorspace = encoder->colorspace;
        frame->color_range = encoder->color_range;
        frame->chroma_location = encoder->chroma_sample_location;
        frame->sample_aspect_ratio = encoder->sample_aspect_ratio;
        video->stream->time_base = encoder->time_base;
        video->stream->avg_frame_rate = encoder->framerate;
        video->stream->r_frame_rate = encoder->framerate;
        result = avcodec_parameters_from_context(video->stream->codecpar, encoder);
    }
    if (result >= 0) result = av_frame_get_buffer(video->frame, 0);
    if (result >= 0 && o->comment != NULL) result = av_dict_set(&video->muxer->metadata, "comment", o->comment, 0);
    if (result >= 0) result = avio_open(&video->muxer->pb, url, AVIO_FLAG_WRITE);
    /* Matroska would otherwise carry a random identity, and the same frames give different bytes. */
    if (result >= 0 && o->codec == SWM_FFV1) video->muxer->flags |= AVFMT_FLAG_BITEXACT;
    AVDictionary *settings = NULL;
    if (result >= 0 && o->codec != SWM_FFV1) result = av_dict_set(&settings, "movflags", "+faststart", 0);
    if (result >= 0) result = avformat_write_header(video->muxer, &settings);
    av_dict_free(&settings);
    if (result < 0) fail_write(path, result, error);
    free(url);
    return result < 0 ? -1 : 0;
}

/* Hand a frame (NULL: the end) to the encoder and write what comes out. 0 or a libav error. */
static int encode(swm_video *video, const AVFrame *frame)
{
    int result = avcodec_send_frame(video->encoder, frame);
    while (result >= 0) {
        result = avcodec_receive_packet(video->encoder, video->packet);
        if (result == AVERROR(EAGAIN) || result == AVERROR_EOF) return 0;
        if (result < 0) return result;
        if (video->packet->duration == 0) video->packet->duration = 1; /* else the last frame would last no time */
        av_packet_rescale_ts(video->packet, video->encoder->time_base, video->stream->time_base);
        video->packet->stream_index = video->stream->index;
        result = av_interleaved_write_frame(video->muxer, video->packet);
        if (result >= 0 && video->muxer->pb->error < 0) result = video->muxer->pb->error;
    }
    return result;
}

static int write_coded(swm_video *video, const uint8_t *rgb, swm_error *error)
{
    /* The encoder may still hold the previous frame's buffer. */
    int result = av_frame_make_writable(video->frame);
    if (result >= 0) {
        convert_frame(rgb, video->frame, KINDS[video->options.codec].subsampled);
        video->frame->pts = video->frames;
        result = encode(video, video->frame);
    }
    return result < 0 ? fail_write(video->output.path, result, error) : 0;
}

static int finish_coded(swm_video *video, swm_error *error)
{
    int result = encode(video, NULL);
    if (result >= 0) result = av_write_trailer(video->muxer);
    if (result >= 0 && video->muxer->pb->error < 0) result = video->muxer->pb->error;
    int closed = avio_closep(&video->muxer->pb);
    if (result >= 0) result = closed;
    if (result < 0) return fail_write(video->output.path, result, error);
    return swm_output_commit(&video->output, error);
}

/* ---- PNG sequences --------------------------------------------------------------------------------------------- */

/* True when the path is an empty directory, or nothing. */
static bool directory_is_free(const char *path)
{
    DIR *directory = opendir(path);
    if (directory == NULL) return errno == ENOENT;
    int entries = 0;
    while (readdir(directory) != NULL) entries++;
    closedir(directory);
    return entries <= 2; /* . and .. */
}

static int open_sequence(swm_video *video, const char *path, swm_error *error)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/') length--;
    video->directory = swm_format(error, "%.*s", (int)length, path);
    if (video->directory == NULL) return -1;
    if (!directory_is_free(video->directory))
        return swm_fail(error, "%s: exists already; name a new directory for the PNG sequence", path);
    char *temporary = swm_format(error, "%s.partial-%ld", video->directory, (long)getpid());
    if (temporary == NULL) return -1;
    if (mkdir(temporary, 0777) != 0) {
        swm_fail(error, "%s: cannot be written: %s; choose another place for the output", path, strerror(errno));
        free(temporary);
        return -1;
    }
    video->temporary = temporary;
    return 0;
}

static char *frame_path(const swm_video *video, int64_t index, swm_error *error)
{
    return swm_format(error, "%s/%06lld.png", video->temporary, (long long)index);
}

static int write_sequence(swm_video *video, const uint8_t *rgb, swm_error *error)
{
    swm_image image = {video->options.width, video->options.height, (uint8_t *)(uintptr_t)rgb};
    uint8_t *data = NULL;
    size_t size = 0;
    if (swm_image_encode_png(&image, &data, &size, error) != 0) return -1;
    char *path = frame_path(video, video->frames, error);
    /* No temporary file and no sync for each: the directory is renamed as a whole. */
    FILE *stream = path != NULL ? fopen(path, "wbe") : NULL;
    int failure = path == NULL ? ENOMEM : stream == NULL ? errno : 0;
    if (stream != NULL && fwrite(data, 1, size, stream) != size) failure = errno;
    if (stream != NULL && fclose(stream) != 0 && failure == 0) failure = errno;
    free(path);
    free(data);
    return failure != 0 ? fail_write(video->directory, AVERROR(failure), error) : 0;
}

static int finish_sequence(swm_video *video, swm_error *error)
{
    if (rename(video->temporary, video->directory) != 0) return fail_write(video->directory, AVERROR(errno), error);
    free(video->temporary);
    video->temporary = NULL;
    return 0;
}

static void remove_sequence(swm_video *video)
{
    /* One more than were written: the last may have failed half-way. */
    for (int64_t i = 0; i <= video->frames; i++) {
        char *path = frame_path(video, i, NULL);
        if (path != NULL) unlink(path);
        free(path);
    }
    rmdir(video->temporary);
}

/* ---- writer ---------------------------------------------------------------------------------------------------- */

swm_video *swm_video_open(const char *path, const swm_video_options *options, swm_error *error)
{
    swm_av_quiet();
    if (check_options(options, path, error) != 0) return NULL;
    swm_video *video = swm_allocate(error, 1, sizeof *video);
    if (video == NULL) return NULL;
    video->options = *options;
    video->options.comment = NULL;
    int result = options->codec == SWM_PNG_SEQUENCE ? open_sequence(video, path, error)
                                                    : open_container(video, options, path, error);
    if (result != 0) {
        swm_video_abort(video);
        return NULL;
    }
    return video;
}

int swm_video_write(swm_video *video, const uint8_t *rgb, swm_error *error)
{
    bool sequence = video->options.codec == SWM_PNG_SEQUENCE;
    int result = sequence ? write_sequence(video, rgb, error) : write_coded(video, rgb, error);
    if (result == 0) video->frames++;
    return result;
}

int swm_video_finish(swm_video *video, swm_error *error)
{
    bool sequence = video->options.codec == SWM_PNG_SEQUENCE;
    const char *path = sequence ? video->directory : video->output.path;
    int result = 0;
    if (video->frames == 0)
        result = swm_fail(error, "%s: no frame was written, so there is no video", path);
    else
        result = sequence ? finish_sequence(video, error) : finish_coded(video, error);
    swm_video_abort(video);
    return result;
}

void swm_video_abort(swm_video *video)
{
    if (video == NULL) return;
    avcodec_free_context(&video->encoder);
    av_frame_free(&video->frame);
    av_packet_free(&video->packet);
    if (video->muxer != NULL) avio_closep(&video->muxer->pb);
    avformat_free_context(video->muxer);
    swm_output_abandon(&video->output);
    if (video->temporary != NULL) remove_sequence(video);
    free(video->temporary);
    free(video->directory);
    free(video);
}

/* ---- reader ---------------------------------------------------------------------------------------------------- */

struct swm_video_reader {
    char *path;
    int width, height, stream;
    AVFormatContext *demuxer;
    AVCodecContext *decoder;
    AVPacket *packet;
    AVFrame *frame;
    struct SwsContext *scaler; /* made for the first frame, whose layout all others must share */
    enum AVPixelFormat format;
    bool drained; /* the file's last packet went to the decoder */
};

static int open_decoder(swm_video_reader *reader, swm_error *error)
{
    const AVCodec *codec = NULL;
    reader->stream = av_find_best_stream(reader->demuxer, AVMEDIA_TYPE_VIDEO, -1, -1, &codec, 0);
    if (reader->stream < 0 || codec == NULL)
        return swm_fail(error, "%s: holds no video that this libav can decode", reader->path);
    const AVCodecParameters *parameters = reader->demuxer->streams[reader->stream]->codecpar;
    reader->width = parameters->width;
    reader->height = parameters->height;
    if (reader->width < 1 || reader->height < 1 || reader->width > SWM_VIDEO_SIDE || reader->height > SWM_VIDEO_SIDE)
        return swm_fail(error, "%s: has frames of %d x %d pixels; sides of 1 to %d are expected", reader->path,
                        reader->width, reader->height, SWM_VIDEO_SIDE);
    reader->decoder = avcodec_alloc_context3(codec);
    reader->packet = av_packet_alloc();
    reader->frame = av_frame_alloc();
    int result = AVERROR(ENOMEM);
    if (reader->decoder != NULL && reader->packet != NULL && reader->frame != NULL)
        result = avcodec_parameters_to_context(reader->decoder, parameters);
    if (result >= 0) {
        reader->decoder->max_pixels = (int64_t)SWM_VIDEO_SIDE * SWM_VIDEO_SIDE;
        reader->decoder->err_recognition = AV_EF_CRCCHECK | AV_EF_EXPLODE;
        result = avcodec_open2(reader->decoder, codec, NULL);
    }
    if (result < 0)
        return swm_fail(error, "%s: cannot be decoded: %s; the file is damaged or cut off", reader->path,
                        av_err2str(result));
    return 0;
}

static void describe(const swm_video_reader *reader, swm_video_info *info)
{
    const AVStream *stream = reader->demuxer->streams[reader->stream];
    const AVCodecParameters *p = stream->codecpar;
    const AVDictionaryEntry *comment = av_dict_get(reader->demuxer->metadata, "comment", NULL, 0);
    double fps = stream->avg_frame_rate.den > 0 ? av_q2d(stream->avg_frame_rate) : 0;
    *info = (swm_video_info){.width = p->width, .height = p->height, .fps = fps, .frames = stream->nb_frames};
    info->bt709 = p->color_space == AVCOL_SPC_BT709 && p->color_primaries == AVCOL_PRI_BT709 &&
                  p->color_trc == AVCOL_TRC_BT709 && p->color_range == AVCOL_RANGE_MPEG;
    snprintf(info->codec, sizeof info->codec, "%s", avcodec_get_name(p->codec_id));
    snprintf(info->comment, sizeof info->comment, "%s", comment != NULL ? comment->value : "");
}

swm_video_reader *swm_video_reader_open(const char *path, swm_video_info *info, swm_error *error)
{
    swm_av_quiet();
    if (!swm_file_exists(path)) {
        swm_fail(error, "%s: is no file; a video is expected", path);
        return NULL;
    }
    swm_video_reader *reader = swm_allocate(error, 1, sizeof *reader);
    char *url = swm_format(error, "file:%s", path);
    AVDictionary *settings = NULL;
    int result = -1;
    if (reader != NULL && url != NULL) {
        reader->path = swm_copy_string(error, path);
        /* A hostile file must reach neither the network nor the hundreds of rarely tested demuxers. */
        av_dict_set(&settings, "protocol_whitelist", "file", 0);
        av_dict_set(&settings, "format_whitelist", "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm", 0);
        if (reader->path != NULL) {
            int code = avformat_open_input(&reader->demuxer, url, NULL, &settings);
            if (code >= 0) code = avformat_find_stream_info(reader->demuxer, NULL);
            if (code < 0)
                swm_fail(error, "%s: is no MP4 or Matroska video: %s; give it one that sanawm wrote", path,
                         av_err2str(code));
            if (code >= 0) result = open_decoder(reader, error);
        }
    }
    av_dict_free(&settings);
    free(url);
    if (result != 0) {
        swm_video_reader_close(reader);
        return NULL;
    }
    if (info != NULL) describe(reader, info);
    return reader;
}

static int open_scaler(swm_video_reader *reader, swm_error *error)
{
    const AVFrame *frame = reader->frame;
    const AVPixFmtDescriptor *layout = av_pix_fmt_desc_get(frame->format);
    reader->format = frame->format;
    int flags = SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT | SWS_FULL_CHR_H_INP;
    struct SwsContext *scaler = sws_alloc_context();
    reader->scaler = scaler;
    int result = scaler != NULL ? 0 : AVERROR(ENOMEM);
    if (result >= 0) {
        av_opt_set_int(scaler, "srcw", frame->width, 0);
        av_opt_set_int(scaler, "srch", frame->height, 0);
        av_opt_set_int(scaler, "dstw", frame->width, 0);
        av_opt_set_int(scaler, "dsth", frame->height, 0);
        av_opt_set_int(scaler, "src_format", frame->format, 0);
        av_opt_set_int(scaler, "dst_format", AV_PIX_FMT_RGB24, 0);
        av_opt_set_int(scaler, "sws_flags", flags, 0);
        if (layout != NULL && layout->log2_chroma_w == 1)
            av_opt_set_int(scaler, "src_h_chr_pos", frame->chroma_location == AVCHROMA_LOC_CENTER ? 128 : 0, 0);
        if (layout != NULL && layout->log2_chroma_h == 1) av_opt_set_int(scaler, "src_v_chr_pos", 128, 0);
        result = sws_init_context(scaler, NULL, NULL);
    }
    if (result < 0) return swm_fail(error, "%s: has pixels that cannot become RGB", reader->path);
    const int *matrix = sws_getCoefficients(frame->colorspace == AVCOL_SPC_BT709 ? SWS_CS_ITU709 : SWS_CS_ITU601);
    sws_setColorspaceDetails(scaler, matrix, frame->color_range == AVCOL_RANGE_JPEG, matrix, 1, 0, 1 << 16, 1 << 16);
    return 0;
}

/* Decode until a frame is there: 1, 0 at the end, or a libav error. */
static int decode_next(swm_video_reader *reader)
{
    for (;;) {
        int result = avcodec_receive_frame(reader->decoder, reader->frame);
        if (result >= 0) return 1;
        if (result == AVERROR_EOF) return 0;
        if (result != AVERROR(EAGAIN) || reader->drained) return result;
        result = av_read_frame(reader->demuxer, reader->packet);
        if (result == AVERROR_EOF) {
            reader->drained = true;
            result = avcodec_send_packet(reader->decoder, NULL);
        } else if (result >= 0) {
            if (reader->packet->stream_index == reader->stream)
                result = avcodec_send_packet(reader->decoder, reader->packet);
            av_packet_unref(reader->packet);
        }
        if (result < 0) return result;
    }
}

int swm_video_reader_next(swm_video_reader *reader, uint8_t *rgb, swm_error *error)
{
    int result = decode_next(reader);
    if (result < 0)
        return swm_fail(error, "%s: cannot be decoded: %s; the file is damaged or cut off", reader->path,
                        av_err2str(result));
    if (result == 0) return 0;
    const AVFrame *frame = reader->frame;
    if (frame->width != reader->width || frame->height != reader->height ||
        (reader->scaler != NULL && frame->format != reader->format))
        return swm_fail(error, "%s: changes its frames' size or layout half-way, which is not supported", reader->path);
    if (reader->scaler == NULL && open_scaler(reader, error) != 0) return -1;
    /* libswscale writes rows in whole vectors, so it gets its own padded frame and not the caller's memory. */
    AVFrame *picture = av_frame_alloc();
    if (picture != NULL) {
        picture->width = frame->width, picture->height = frame->height, picture->format = AV_PIX_FMT_RGB24;
        result = av_frame_get_buffer(picture, 0);
    }
    if (picture == NULL || result < 0) {
        av_frame_free(&picture);
        return swm_fail(error, "%s: no memory for a frame of %d x %d pixels", reader->path, reader->width,
                        reader->height);
    }
    sws_scale(reader->scaler, (const uint8_t *const *)frame->data, frame->linesize, 0, frame->height, picture->data,
              picture->linesize);
    size_t row = (size_t)reader->width * 3;
    for (int y = 0; y < reader->height; y++)
        memcpy(rgb + (size_t)y * row, picture->data[0] + (ptrdiff_t)y * picture->linesize[0], row);
    av_frame_free(&picture);
    return 1;
}

void swm_video_reader_close(swm_video_reader *reader)
{
    if (reader == NULL) return;
    sws_freeContext(reader->scaler);
    av_frame_free(&reader->frame);
    av_packet_free(&reader->packet);
    avcodec_free_context(&reader->decoder);
    avformat_close_input(&reader->demuxer);
    free(reader->path);
    free(reader);
}
