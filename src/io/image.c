/* Implements io/image.h over libavcodec. libav decodes the coded samples; turning them into RGB is done here, with the
 * integer arithmetic of libjpeg-turbo and libwebp, because a world that starts from other pixels is another world. */
#include "io/image.h"

#include "core/file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <libavcodec/avcodec.h>
#include <libavutil/frame.h>
#include <libavutil/log.h>
#include <libavutil/opt.h>
#include <libavutil/pixdesc.h>

static const size_t FILE_LIMIT = (size_t)1 << 30;

void swm_av_quiet(void) { av_log_set_level(AV_LOG_QUIET); }

/* ---- what kind of file ----------------------------------------------------------------------------------------- */

typedef struct picture_format {
    const char *name;
    enum AVCodecID codec;
} picture_format;

/* By content alone: names lie, and libav's own probing would let any of its hundreds of demuxers see hostile bytes. */
static picture_format sniff(const uint8_t *data, size_t size)
{
    if (size >= 8 && memcmp(data, "\x89PNG\r\n\x1a\n", 8) == 0) return (picture_format){"PNG", AV_CODEC_ID_PNG};
    if (size >= 3 && memcmp(data, "\xff\xd8\xff", 3) == 0) return (picture_format){"JPEG", AV_CODEC_ID_MJPEG};
    if (size >= 12 && memcmp(data, "RIFF", 4) == 0 && memcmp(data + 8, "WEBP", 4) == 0)
        return (picture_format){"WebP", AV_CODEC_ID_WEBP};
    if (size >= 2 && memcmp(data, "BM", 2) == 0) return (picture_format){"BMP", AV_CODEC_ID_BMP};
    if (size >= 4 && (memcmp(data, "II*\0", 4) == 0 || memcmp(data, "MM\0*", 4) == 0))
        return (picture_format){"TIFF", AV_CODEC_ID_TIFF};
    if (size >= 3 && data[0] == 'P' && strchr(" \t\r\n#", data[2]) != NULL && data[2] != '\0') {
        if (data[1] == '1' || data[1] == '4') return (picture_format){"PBM", AV_CODEC_ID_PBM};
        if (data[1] == '2' || data[1] == '5') return (picture_format){"PGM", AV_CODEC_ID_PGM};
        if (data[1] == '3' || data[1] == '6') return (picture_format){"PPM", AV_CODEC_ID_PPM};
    }
    return (picture_format){NULL, AV_CODEC_ID_NONE};
}

static uint32_t big16(const uint8_t *p) { return (uint32_t)p[0] << 8 | p[1]; }
static uint32_t big32(const uint8_t *p) { return big16(p) << 16 | big16(p + 2); }
static uint32_t little24(const uint8_t *p) { return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16; }
static uint32_t little32(const uint8_t *p) { return little24(p) | (uint32_t)p[3] << 24; }

/* One piece of a container: a PNG or RIFF chunk, or a JPEG marker segment. */
typedef struct chunk {
    const uint8_t *type; /* four letters; for JPEG the marker byte */
    const uint8_t *data;
    size_t size;
} chunk;

/* The next chunk at *position, which moves behind it; false at the end or when the rest is no whole chunk. */
static bool next_png_chunk(const uint8_t *data, size_t size, size_t *position, chunk *found)
{
    if (size - *position < 12) return false;
    const uint8_t *p = data + *position;
    size_t length = big32(p);
    if (length > size - *position - 12) return false;
    *found = (chunk){.type = p + 4, .data = p + 8, .size = length};
    *position += 12 + length;
    return true;
}

static bool next_riff_chunk(const uint8_t *data, size_t size, size_t *position, chunk *found)
{
    if (*position > size || size - *position < 8) return false;
    const uint8_t *p = data + *position;
    size_t length = little32(p + 4);
    if (length > size - *position - 8) return false;
    *found = (chunk){.type = p, .data = p + 8, .size = length};
    *position += 8 + length + (length & 1);
    return true;
}

static bool next_jpeg_segment(const uint8_t *data, size_t size, size_t *position, chunk *found)
{
    size_t at = *position;
    while (size - at >= 2 && data[at] == 0xff && data[at + 1] == 0xff) at++; /* fill bytes */
    if (size - at < 4 || data[at] != 0xff) return false;
    size_t length = big16(data + at + 2);
    if (length < 2 || length > size - at - 2) return false;
    *found = (chunk){.type = data + at + 1, .data = data + at + 4, .size = length - 2};
    *position = at + 2 + length;
    return true;
}

/* A TIFF file, or the TIFF structure inside EXIF. Only the first directory and the EXIF directory it names are ever
 * visited, each entry once, so that no chain of offsets can loop. */
typedef struct tiff_block {
    const uint8_t *data;
    size_t size;
    bool big; /* big-endian */
} tiff_block;

static bool tiff_read(const tiff_block *block, size_t offset, size_t bytes, uint32_t *value)
{
    if (offset > block->size || bytes > block->size - offset) return false;
    *value = 0;
    for (size_t i = 0; i < bytes; i++) *value = *value << 8 | block->data[offset + (block->big ? i : bytes - 1 - i)];
    return true;
}

/* The first value of a tag in the directory at `offset`; unsigned short, long or rational. */
static bool tiff_tag(const tiff_block *block, size_t offset, uint32_t wanted, double *value)
{
    uint32_t count = 0, tag = 0, type = 0, number = 0, numerator = 0, denominator = 0;
    if (!tiff_read(block, offset, 2, &count)) return false;
    for (uint32_t i = 0; i < count; i++) {
        size_t entry = offset + 2 + (size_t)i * 12;
        if (!tiff_read(block, entry, 2, &tag) || !tiff_read(block, entry + 2, 2, &type) ||
            !tiff_read(block, entry + 8, type == 3 ? 2 : 4, &number))
            return false;
        if (tag != wanted) continue;
        *value = number;
        if (type == 3 || type == 4) return true;
        if (type != 5 || !tiff_read(block, number, 4, &numerator) ||
            !tiff_read(block, (size_t)number + 4, 4, &denominator) || denominator == 0)
            return false;
        *value = (double)numerator / denominator;
        return true;
    }
    return false;
}

static bool is_frame_header(uint8_t marker)
{
    return marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
}

/* Refuse what libav would decode with patches of gray, and what it would refuse without saying why. */
static int check_container(picture_format format, const uint8_t *data, size_t size, const char *name, swm_error *error)
{
    uint32_t width = 0, height = 0;
    bool whole = true;
    if (format.codec == AV_CODEC_ID_PNG) {
        size_t position = 8;
        chunk c = {0};
        whole = false;
        while (!whole && next_png_chunk(data, size, &position, &c)) {
            if (memcmp(c.type, "IHDR", 4) == 0 && c.size >= 8) width = big32(c.data), height = big32(c.data + 4);
            whole = memcmp(c.type, "IEND", 4) == 0;
        }
    } else if (format.codec == AV_CODEC_ID_MJPEG) {
        size_t position = 2;
        chunk c = {0};
        bool scan = false;
        while (!scan && next_jpeg_segment(data, size, &position, &c)) {
            if (is_frame_header(*c.type) && c.size >= 5) height = big16(c.data + 1), width = big16(c.data + 3);
            scan = *c.type == 0xda;
        }
        /* 0xff is stuffed inside a scan, so this can only be the end marker (of the thumbnail's we are past). */
        whole = scan && memmem(data + position, size - position, "\xff\xd9", 2) != NULL;
    } else if (format.codec == AV_CODEC_ID_WEBP) {
        whole = (size_t)little32(data + 4) <= size - 8;
    } else if (format.codec == AV_CODEC_ID_TIFF) {
        tiff_block block = {.data = data, .size = size, .big = data[0] == 'M'};
        uint32_t first = 0;
        double compression = 1;
        /* libav hands the YCbCr of a JPEG inside a TIFF out as RGB. */
        if (tiff_read(&block, 4, 4, &first) && tiff_tag(&block, first, 259, &compression) &&
            (compression == 6 || compression == 7))
            return swm_fail(error, "%s: is a TIFF with JPEG inside, which is not supported; save it as PNG", name);
    }
    if (width > SWM_IMAGE_SIDE || height > SWM_IMAGE_SIDE || (uint64_t)width * height > SWM_IMAGE_AREA)
        return swm_fail(error, "%s: has %u x %u pixels; a side may have at most %d and the picture 2^30", name, width,
                        height, SWM_IMAGE_SIDE);
    if (!whole) return swm_fail(error, "%s: is a truncated %s file; copy or download it again", name, format.name);
    return 0;
}

/* libav's WebP decoder knows no animation. Rewrap the coded data of the first frame as a still of its own, in fresh
 * memory: *still stays NULL when the file is no animation. */
static int first_webp_frame(const uint8_t *data, size_t size, uint8_t **still, size_t *still_size, const char *name,
                            swm_error *error)
{
    size_t position = 12;
    uint32_t canvas_width = 0, canvas_height = 0;
    chunk c = {0}, inner = {0};
    while (next_riff_chunk(data, size, &position, &c)) {
        if (memcmp(c.type, "VP8X", 4) == 0 && c.size >= 10)
            canvas_width = little24(c.data + 4) + 1, canvas_height = little24(c.data + 7) + 1;
        if (memcmp(c.type, "ANMF", 4) != 0 || c.size < 16) continue;
        uint32_t width = little24(c.data + 6) + 1, height = little24(c.data + 9) + 1;
        if (width != canvas_width || height != canvas_height)
            return swm_fail(error,
                            "%s: is an animation of %u x %u pixels whose first frame has only %u x %u; save the frame "
                            "you want as PNG",
                            name, canvas_width, canvas_height, width, height);
        size_t inside = 16;
        while (next_riff_chunk(c.data, c.size, &inside, &inner)) {
            if (memcmp(inner.type, "VP8 ", 4) != 0 && memcmp(inner.type, "VP8L", 4) != 0) continue;
            size_t body = 8 + inner.size + (inner.size & 1);
            *still = swm_allocate(error, 12 + body, 1);
            if (*still == NULL) return -1;
            uint32_t riff = (uint32_t)(4 + body);
            memcpy(*still, "RIFF", 4);
            for (int i = 0; i < 4; i++) (*still)[4 + i] = (uint8_t)(riff >> (8 * i));
            memcpy(*still + 8, "WEBP", 4);
            memcpy(*still + 12, inner.type, 8 + inner.size);
            *still_size = 12 + body;
            return 0;
        }
        return swm_fail(error, "%s: is an animation whose first frame is empty; save it as PNG", name);
    }
    return 0;
}

/* ---- decoding -------------------------------------------------------------------------------------------------- */

/* A damaged PNG can end before its last row without libav noticing; let those rows be black, not old memory. */
static int get_black_buffer(AVCodecContext *context, AVFrame *frame, int flags)
{
    int result = avcodec_default_get_buffer2(context, frame, flags);
    for (int i = 0; result >= 0 && i < AV_NUM_DATA_POINTERS && frame->buf[i] != NULL; i++)
        memset(frame->buf[i]->data, 0, frame->buf[i]->size);
    return result;
}

static AVFrame *decode_frame(picture_format format, const uint8_t *data, size_t size, const char *name,
                             swm_error *error)
{
    const AVCodec *codec = avcodec_find_decoder(format.codec);
    AVCodecContext *context = codec != NULL ? avcodec_alloc_context3(codec) : NULL;
    AVPacket *packet = av_packet_alloc();
    AVFrame *frame = av_frame_alloc();
    int result = AVERROR(ENOMEM);
    if (codec == NULL)
        swm_fail(error, "%s: is a %s file, which this libav was built without; convert it to another format", name,
                 format.name);
    if (context != NULL && packet != NULL && frame != NULL) result = av_new_packet(packet, (int)size);
    if (result >= 0) {
        memcpy(packet->data, data, size);
        context->thread_count = 1;
        context->get_buffer2 = get_black_buffer;
        context->err_recognition = AV_EF_CRCCHECK | AV_EF_BITSTREAM | AV_EF_BUFFER;
        /* libav's TIFF decoder would explode on any tag it does not know, of which there are many. */
        if (format.codec != AV_CODEC_ID_TIFF) context->err_recognition |= AV_EF_EXPLODE;
        context->idct_algo = FF_IDCT_FAAN; /* the transform whose rounding is nearest to that of libjpeg */
        /* A small file may claim 64 Mpixel; more must be backed by data at the best ratio of deflate on 1-bit pixels,
         * so that a few bytes cannot make us allocate gigabytes. */
        context->max_pixels = swm_min(SWM_IMAGE_AREA, ((int64_t)1 << 26) + (int64_t)size * 8 * 1032);
        result = avcodec_open2(context, codec, NULL);
    }
    if (result >= 0) result = avcodec_send_packet(context, packet);
    if (result >= 0) avcodec_send_packet(context, NULL);
    if (result >= 0) result = avcodec_receive_frame(context, frame);
    if (result >= 0 && (frame->decode_error_flags != 0 || (frame->flags & AV_FRAME_FLAG_CORRUPT) != 0))
        result = AVERROR_INVALIDDATA;
    if (result < 0) {
        if (result == AVERROR_EOF) result = AVERROR_INVALIDDATA;
        swm_fail(error,
                 "%s: cannot be decoded as %s: %s; the file is damaged, truncated, too large or of an unusual "
                 "kind: save it again as PNG",
                 name, format.name, av_err2str(result));
        av_frame_free(&frame);
    }
    av_packet_free(&packet);
    avcodec_free_context(&context);
    return frame;
}

/* Gray, palette and RGB layouts of any depth, through libav's description of them. */
static int convert_direct(swm_image *image, const AVFrame *frame, const AVPixFmtDescriptor *layout, swm_error *error)
{
    bool palette = (layout->flags & AV_PIX_FMT_FLAG_PAL) != 0, rgb = (layout->flags & AV_PIX_FMT_FLAG_RGB) != 0;
    size_t width = (size_t)image->width;
    uint16_t *line = swm_allocate(error, width, sizeof *line);
    if (line == NULL) return -1;
    for (int y = 0; y < image->height; y++) {
        uint8_t *out = image->rgb + (size_t)y * width * 3;
        for (int c = 0; c < (rgb && !palette ? 3 : 1); c++) {
            int depth = layout->comp[c].depth;
            int invert = frame->format == AV_PIX_FMT_MONOWHITE ? 1 : 0;
            av_read_image_line2(line, (const uint8_t **)(uintptr_t)frame->data, frame->linesize, layout, 0, y, c,
                                image->width, 0, sizeof *line);
            for (size_t x = 0; x < width; x++) {
                int value = line[x] ^ invert;
                line[x] = (uint16_t)(depth >= 8 ? value >> (depth - 8) : value * 255 / ((1 << depth) - 1));
            }
            if (rgb && !palette) {
                for (size_t x = 0; x < width; x++) out[3 * x + (size_t)c] = (uint8_t)line[x];
            } else {
                for (size_t x = 0; x < width; x++) {
                    uint32_t colour = line[x] * 0x010101u;
                    if (palette) memcpy(&colour, frame->data[1] + 4 * (line[x] & 255u), 4); /* 0xAARRGGBB */
                    for (int k = 0; k < 3; k++) out[3 * x + (size_t)k] = (uint8_t)(colour >> (16 - 8 * k));
                }
            }
        }
    }
    free(line);
    return 0;
}

/* One plane of subsampled chroma and the row of it that an output row needs. */
typedef struct chroma {
    const uint8_t *near, *far; /* the rows nearest and second nearest to the output row, [width] */
    int width, shift_x, shift_y;
    bool lower; /* the output row is the lower of the two that `near` covers */
} chroma;

static chroma chroma_at(const AVFrame *frame, int plane, const AVPixFmtDescriptor *layout, int y)
{
    int sx = layout->log2_chroma_w, sy = layout->log2_chroma_h, height = AV_CEIL_RSHIFT(frame->height, sy);
    int near = y >> sy, odd = sy == 1 ? y & 1 : 0;
    int far = sy != 1 ? near : odd ? (near + 1 < height ? near + 1 : near) : (near > 0 ? near - 1 : 0);
    return (chroma){.near = frame->data[plane] + (ptrdiff_t)near * frame->linesize[plane],
                    .far = frame->data[plane] + (ptrdiff_t)far * frame->linesize[plane],
                    .width = AV_CEIL_RSHIFT(frame->width, sx),
                    .shift_x = sx,
                    .shift_y = sy,
                    .lower = odd == 1};
}

/* Chroma at output column x as libjpeg's "fancy" triangle filter gives it, its alternating rounding included. Where
 * libjpeg has no such filter (4:1:1, or two columns and fewer) samples repeat. */
static int jpeg_chroma(const chroma *c, int x)
{
    int i = x >> c->shift_x;
    if (c->shift_x > 1 || c->shift_y > 1 || (c->shift_x == 1 && c->width <= 2)) return c->near[i];
    if (c->shift_x == 0) return c->shift_y == 0 ? c->near[i] : (3 * c->near[i] + c->far[i] + (c->lower ? 2 : 1)) >> 2;
    int side = (x & 1) != 0 ? (i + 1 < c->width ? i + 1 : i) : (i > 0 ? i - 1 : 0);
    if (c->shift_y == 0) return (3 * c->near[i] + c->near[side] + ((x & 1) != 0 ? 2 : 1)) >> 2;
    int here = 3 * c->near[i] + c->far[i], beside = 3 * c->near[side] + c->far[side];
    return (3 * here + beside + ((x & 1) != 0 ? 7 : 8)) >> 4;
}

/* The same for 4:2:0 as libwebp does it: weights 9 3 3 1 in two roundings. */
static int webp_chroma(const chroma *c, int x)
{
    int i = x >> 1, side = (x & 1) != 0 ? (i + 1 < c->width ? i + 1 : i) : (i > 0 ? i - 1 : 0);
    int n = c->near[i], h = c->near[side], v = c->far[i], d = c->far[side];
    return (((n + h + v + d + 8 + 2 * (h + v)) >> 3) + n) >> 1;
}

/* Full-range BT.601 with libjpeg's 16-bit constants. */
static void jpeg_pixel(uint8_t *out, int y, int cb, int cr)
{
    cb -= 128;
    cr -= 128;
    out[0] = swm_clamp_byte(y + ((91881 * cr + 32768) >> 16));
    out[1] = swm_clamp_byte(y + ((-22554 * cb - 46802 * cr + 32768) >> 16));
    out[2] = swm_clamp_byte(y + ((116130 * cb + 32768) >> 16));
}

/* Limited-range BT.601 with libwebp's constants: six fractional bits, truncated. */
static void webp_pixel(uint8_t *out, int y, int u, int v)
{
    int luma = (y * 19077) >> 8;
    out[0] = swm_clamp_byte((luma + ((v * 26149) >> 8) - 14234) >> 6);
    out[1] = swm_clamp_byte((luma - ((u * 6419) >> 8) - ((v * 13320) >> 8) + 8708) >> 6);
    out[2] = swm_clamp_byte((luma + ((u * 33050) >> 8) - 17685) >> 6);
}

static void convert_yuv(swm_image *image, const AVFrame *frame, const AVPixFmtDescriptor *layout, bool webp)
{
#pragma omp parallel for schedule(static)
    for (int y = 0; y < image->height; y++) {
        const uint8_t *luma = frame->data[0] + (ptrdiff_t)y * frame->linesize[0];
        chroma u = chroma_at(frame, 1, layout, y), v = chroma_at(frame, 2, layout, y);
        uint8_t *out = image->rgb + (size_t)y * (size_t)image->width * 3;
        for (int x = 0; x < image->width; x++, out += 3) {
            if (webp)
                webp_pixel(out, luma[x], webp_chroma(&u, x), webp_chroma(&v, x));
            else
                jpeg_pixel(out, luma[x], jpeg_chroma(&u, x), jpeg_chroma(&v, x));
        }
    }
}

static int convert_frame(swm_image *image, const AVFrame *frame, bool webp, const char *name, swm_error *error)
{
    const AVPixFmtDescriptor *layout = av_pix_fmt_desc_get(frame->format);
    bool usable = layout != NULL && (layout->flags & (AV_PIX_FMT_FLAG_HWACCEL | AV_PIX_FMT_FLAG_FLOAT)) == 0;
    bool direct =
        usable && ((layout->flags & (AV_PIX_FMT_FLAG_RGB | AV_PIX_FMT_FLAG_PAL)) != 0 || layout->nb_components <= 2);
    bool yuv = usable && !direct && (layout->flags & AV_PIX_FMT_FLAG_PLANAR) != 0 && layout->nb_components >= 3 &&
               layout->comp[0].depth == 8 && (!webp || (layout->log2_chroma_w == 1 && layout->log2_chroma_h == 1));
    if ((!direct && !yuv) || (usable && layout->comp[0].depth > 16))
        return swm_fail(error, "%s: has pixels of the kind %s, which is not supported; save it as 8-bit RGB PNG", name,
                        layout != NULL ? layout->name : "unknown");
    if (swm_image_make(image, frame->width, frame->height, error) != 0) return -1;
    if (direct && convert_direct(image, frame, layout, error) != 0) {
        swm_image_free(image);
        return -1;
    }
    if (yuv) convert_yuv(image, frame, layout, webp);
    return 0;
}

int swm_image_decode(swm_image *image, const uint8_t *data, size_t size, const char *name, swm_error *error)
{
    swm_av_quiet();
    *image = (swm_image){0};
    if (size == 0) return swm_fail(error, "%s: is empty; a picture is expected", name);
    if (size > FILE_LIMIT)
        return swm_fail(error, "%s: has %zu bytes, more than the %zu that a picture may have", name, size, FILE_LIMIT);
    picture_format format = sniff(data, size);
    if (format.name == NULL)
        return swm_fail(error, "%s: is no picture this program can read; give it a PNG, JPEG, WebP, BMP, PNM or TIFF",
                        name);
    if (check_container(format, data, size, name, error) != 0) return -1;
    uint8_t *still = NULL;
    bool webp = format.codec == AV_CODEC_ID_WEBP;
    if (webp && first_webp_frame(data, size, &still, &size, name, error) != 0) return -1;
    AVFrame *frame = decode_frame(format, still != NULL ? still : data, size, name, error);
    free(still);
    if (frame == NULL) return -1;
    int result = convert_frame(image, frame, webp, name, error);
    av_frame_free(&frame);
    return result;
}

int swm_image_load(swm_image *image, const char *path, swm_error *error)
{
    *image = (swm_image){0};
    size_t size = 0;
    char *data = swm_file_read(path, FILE_LIMIT, &size, error);
    if (data == NULL) return -1;
    int result = swm_image_decode(image, (const uint8_t *)data, size, path, error);
    free(data);
    return result;
}

/* ---- PNG out --------------------------------------------------------------------------------------------------- */

static int encode_packet(AVCodecContext *context, AVFrame *frame, AVPacket *packet, const swm_image *image)
{
    context->width = frame->width = image->width;
    context->height = frame->height = image->height;
    context->pix_fmt = AV_PIX_FMT_RGB24;
    frame->format = AV_PIX_FMT_RGB24;
    context->time_base = (AVRational){1, 1};
    context->thread_count = 1;
    context->max_pixels = SWM_IMAGE_AREA;
    int result = av_opt_set(context->priv_data, "pred", "paeth", 0);
    if (result >= 0) result = avcodec_open2(context, context->codec, NULL);
    if (result >= 0) result = av_frame_get_buffer(frame, 0);
    if (result < 0) return result;
    size_t row = (size_t)image->width * 3;
    for (int y = 0; y < image->height; y++)
        memcpy(frame->data[0] + (ptrdiff_t)y * frame->linesize[0], image->rgb + (size_t)y * row, row);
    result = avcodec_send_frame(context, frame);
    if (result >= 0) avcodec_send_frame(context, NULL);
    return result < 0 ? result : avcodec_receive_packet(context, packet);
}

int swm_image_encode_png(const swm_image *image, uint8_t **data, size_t *size, swm_error *error)
{
    swm_av_quiet();
    *data = NULL;
    *size = 0;
    const AVCodec *codec = avcodec_find_encoder(AV_CODEC_ID_PNG);
    if (codec == NULL) return swm_fail(error, "this libav was built without a PNG encoder; install one that has it");
    AVCodecContext *context = avcodec_alloc_context3(codec);
    AVFrame *frame = av_frame_alloc();
    AVPacket *packet = av_packet_alloc();
    int result = AVERROR(ENOMEM);
    if (context != NULL && frame != NULL && packet != NULL) result = encode_packet(context, frame, packet, image);
    if (result < 0)
        swm_fail(error, "a picture of %d x %d pixels cannot be encoded as PNG: %s", image->width, image->height,
                 av_err2str(result));
    else
        *data = swm_allocate(error, (size_t)packet->size, 1);
    if (*data != NULL) {
        memcpy(*data, packet->data, (size_t)packet->size);
        *size = (size_t)packet->size;
    }
    av_packet_free(&packet);
    av_frame_free(&frame);
    avcodec_free_context(&context);
    return *data != NULL ? 0 : -1;
}

int swm_image_save_png(const char *path, const swm_image *image, swm_error *error)
{
    uint8_t *data = NULL;
    size_t size = 0;
    if (swm_image_encode_png(image, &data, &size, error) != 0) return -1;
    int result = swm_file_write(path, data, size, error);
    free(data);
    return result;
}

/* ---- EXIF ------------------------------------------------------------------------------------------------------ */

static bool find_exif(const uint8_t *data, size_t size, tiff_block *block)
{
    picture_format format = sniff(data, size);
    chunk c = {0};
    bool found = false;
    size_t position = format.codec == AV_CODEC_ID_PNG ? 8 : format.codec == AV_CODEC_ID_MJPEG ? 2 : 12;
    if (format.codec == AV_CODEC_ID_TIFF) {
        c = (chunk){.data = data, .size = size};
        found = true;
    } else if (format.codec == AV_CODEC_ID_PNG) {
        while (!found && next_png_chunk(data, size, &position, &c)) found = memcmp(c.type, "eXIf", 4) == 0;
    } else if (format.codec == AV_CODEC_ID_WEBP) {
        while (!found && next_riff_chunk(data, size, &position, &c)) found = memcmp(c.type, "EXIF", 4) == 0;
    } else if (format.codec == AV_CODEC_ID_MJPEG) {
        while (!found && next_jpeg_segment(data, size, &position, &c) && *c.type != 0xda)
            found = *c.type == 0xe1 && c.size >= 6 && memcmp(c.data, "Exif\0\0", 6) == 0;
    }
    if (!found) return false;
    /* Mandatory in JPEG, and some writers put it into WebP as well. */
    if (c.size >= 6 && memcmp(c.data, "Exif\0\0", 6) == 0) c.data += 6, c.size -= 6;
    if (c.size < 8 || (memcmp(c.data, "II*\0", 4) != 0 && memcmp(c.data, "MM\0*", 4) != 0)) return false;
    *block = (tiff_block){.data = c.data, .size = c.size, .big = c.data[0] == 'M'};
    return true;
}

/* Focal length times pixels per millimetre of the sensor, scaled to a picture that was resized since. */
static double exif_sensor_focal(const tiff_block *block, size_t directory, int width, int height)
{
    double focal = 0, resolution = 0, unit = 2, sensor_width = 0, sensor_height = 0;
    if (!tiff_tag(block, directory, 0x920a, &focal) || !tiff_tag(block, directory, 0xa20e, &resolution)) return 0;
    tiff_tag(block, directory, 0xa210, &unit);
    double millimetres = unit == 2 ? 25.4 : unit == 3 ? 10.0 : unit == 4 ? 1.0 : unit == 5 ? 0.001 : 0.0;
    if (millimetres == 0) return 0;
    double pixels = focal * resolution / millimetres;
    if (tiff_tag(block, directory, 0xa002, &sensor_width) && tiff_tag(block, directory, 0xa003, &sensor_height) &&
        fmax(sensor_width, sensor_height) > 0)
        pixels *= fmax(width, height) / fmax(sensor_width, sensor_height);
    return pixels;
}

bool swm_image_exif_focal_decode(const uint8_t *data, size_t size, int width, int height, double *focal_pixels)
{
    tiff_block block;
    uint32_t first = 0;
    double directory = 0, focal35 = 0;
    if (!find_exif(data, size, &block) || !tiff_read(&block, 4, 4, &first) ||
        !tiff_tag(&block, first, 0x8769, &directory))
        return false;
    /* 43.2666 mm is the diagonal of the 36 x 24 mm frame. Zero stands for unknown. */
    double focal = tiff_tag(&block, (size_t)directory, 0xa405, &focal35) && focal35 > 0
                       ? focal35 / 43.2666153056 * hypot(width, height)
                       : exif_sensor_focal(&block, (size_t)directory, width, height);
    double side = fmax(width, height);
    if (!(focal > 0.05 * side && focal < 100 * side)) return false; /* no lens: views under half a degree or over 168 */
    *focal_pixels = focal;
    return true;
}

bool swm_image_exif_focal(const char *path, int width, int height, double *focal_pixels)
{
    size_t size = 0;
    char *data = swm_file_read(path, FILE_LIMIT, &size, NULL);
    bool found = data != NULL && swm_image_exif_focal_decode((uint8_t *)data, size, width, height, focal_pixels);
    free(data);
    return found;
}
