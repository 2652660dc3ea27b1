/* The EXIF reader, over whole files of any kind and over an EXIF block inside each container that may carry one. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "io/image.h"

static void read_focal(const uint8_t *data, size_t size)
{
    double focal = 0;
    if (swm_image_exif_focal_decode(data, size, 1280, 704, &focal) && !(focal > 0)) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    read_focal(data, size);
    if (size > 60000) return 0;
    /* Exactly as large as what is in it, so that ASan sees the first byte read too far. */
    uint8_t *file = malloc(size + 12);
    if (file == NULL) return 0;
    memcpy(file, "\xff\xd8\xff\xe1", 4);
    file[4] = (uint8_t)((size + 8) >> 8);
    file[5] = (uint8_t)(size + 8);
    memcpy(file + 6, "Exif\0\0", 6);
    memcpy(file + 12, data, size);
    read_focal(file, size + 12);
    free(file);
    file = malloc(size + 20);
    if (file == NULL) return 0;
    memcpy(file, "\x89PNG\r\n\x1a\n\0\0\0\0eXIf", 16);
    file[10] = (uint8_t)(size >> 8);
    file[11] = (uint8_t)size;
    memcpy(file + 16, data, size);
    memset(file + 16 + size, 0, 4);
    read_focal(file, size + 20);
    free(file);
    file = malloc(size + 20);
    if (file == NULL) return 0;
    memcpy(file, "RIFF....WEBPEXIF", 16);
    for (int i = 0; i < 4; i++) file[16 + i] = (uint8_t)(size >> (8 * i));
    memcpy(file + 20, data, size);
    read_focal(file, size + 20);
    free(file);
    return 0;
}
