/* Still pictures: files to 8-bit RGB and back, the fit to a target size, and the focal length a camera wrote into them.
 * Decoding gives what Pillow's convert("RGB") gives: gray replicated, palette expanded, alpha dropped without
 * compositing, the high byte of 16-bit samples, EXIF orientation not applied. Owns no video (io/video.h). */
#ifndef SWM_IMAGE_H
#define SWM_IMAGE_H

#include "core/base.h"

enum {
    SWM_IMAGE_SIDE = 65500,  /* the most pixels a side of a picture may have */
    SWM_FIT_SIDE = 16384,    /* the most pixels a side of a fit's target may have */
    SWM_IMAGE_AREA = 1 << 30 /* the most pixels of a picture */
};

typedef struct swm_image {
    int width, height;
    uint8_t *rgb; /* [height][width][3], owned; free with swm_image_free */
} swm_image;

/* Every function that fills an image leaves it {0} on failure. PNG, JPEG, WebP, BMP, PNM or TIFF, told by content. Of
 * an animation the first frame. A damaged or truncated file is an error, as is one of more than a GiB. */
int swm_image_load(swm_image *image, const char *path, swm_error *error);
int swm_image_decode(swm_image *image, const uint8_t *data, size_t size, const char *name, swm_error *error);
int swm_image_make(swm_image *image, int width, int height, swm_error *error); /* black */
void swm_image_free(swm_image *image);                                         /* safe on {0} */

/* Lossless; the file appears whole or not at all. */
int swm_image_save_png(const char *path, const swm_image *image, swm_error *error);
/* The same bytes in fresh memory; free with free(). */
int swm_image_encode_png(const swm_image *image, uint8_t **data, size_t *size, swm_error *error);

/* Lanczos resampling, byte for byte Pillow's. */
int swm_image_resize(swm_image *out, const swm_image *in, int width, int height, swm_error *error);

/* How a picture covers a target: resized to resized_width x resized_height, then cropped from (left, top). Intrinsics
 * follow as fx * resized_width / source_width, cx * resized_width / source_width - left. */
typedef struct swm_fit {
    int source_width, source_height, resized_width, resized_height, left, top;
} swm_fit;

/* Source sides 1 .. SWM_IMAGE_SIDE, target sides 1 .. SWM_FIT_SIDE; anything else aborts. */
swm_fit swm_image_fit(int source_width, int source_height, int target_width, int target_height);
/* Resize and crop in one; only the pixels that stay are computed. A target size out of range is an error. */
int swm_image_fit_to(swm_image *out, swm_fit *fit, const swm_image *in, int target_width, int target_height,
                     swm_error *error);

/* The focal length in pixels of a width x height picture, from its EXIF: the 35 mm equivalent, else focal length and
 * sensor resolution. False when the file says nothing or nonsense. Wrong for pictures that were cropped afterwards. */
bool swm_image_exif_focal(const char *path, int width, int height, double *focal_pixels);
bool swm_image_exif_focal_decode(const uint8_t *data, size_t size, int width, int height, double *focal_pixels);

/* libav logs to stderr by default, and its log level is one per process. This turns it off; everything here and in
 * io/video.h that uses libav calls it first. Harmless to repeat. */
void swm_av_quiet(void);

#endif
