/* Implements preview.h. */
#include "preview.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/image.h"

enum {
    PIXELS_WANTED = 320, /* across the enlarged picture */
    LARGEST_SIDE = 4096, /* of what is shown at all */
    COLUMNS_WANTED = 48,
    KITTY_CHUNK = 4096, /* of base64, the protocol's limit */
    KITTY_IMAGE = 7319  /* one id for all frames of the preview: a new picture replaces the old one */
};

static bool variable_is(const char *name, const char *value)
{
    const char *found = getenv(name);
    return found != NULL && strcmp(found, value) == 0;
}

/* A terminal is asked for nothing, so that no answer can end up in the user's shell: its name has to do. Inside tmux
 * and screen pictures would need a passthrough that is usually off. */
static cli_preview_protocol detect(void)
{
    const char *term = getenv("TERM");
    if (term == NULL || strncmp(term, "screen", 6) == 0 || strncmp(term, "tmux", 4) == 0) return CLI_PREVIEW_NONE;
    if (strstr(term, "kitty") != NULL || strstr(term, "ghostty") != NULL || getenv("KITTY_WINDOW_ID") != NULL ||
        variable_is("TERM_PROGRAM", "ghostty") || variable_is("TERM_PROGRAM", "WezTerm") ||
        getenv("KONSOLE_VERSION") != NULL)
        return CLI_PREVIEW_KITTY;
    return variable_is("TERM_PROGRAM", "iTerm.app") ? CLI_PREVIEW_ITERM : CLI_PREVIEW_NONE;
}

void cli_preview_start(cli_preview *preview, int terminal_columns)
{
    *preview = (cli_preview){.protocol = detect(), .columns = terminal_columns};
}

/* A latent picture has one pixel a cell: enlarged without smoothing so that it reads as the sketch that it is. */
static int enlarge(swm_image *out, const uint8_t *rgb, int width, int height)
{
    int factor = PIXELS_WANTED / width;
    factor = factor < 8 ? 8 : factor > 16 ? 16 : factor;
    if (swm_image_make(out, width * factor, height * factor, NULL) != 0) return -1;
    uint8_t *pixel = out->rgb;
    for (int y = 0; y < out->height; y++)
        for (int x = 0; x < out->width; x++, pixel += 3)
            memcpy(pixel, rgb + ((size_t)(y / factor) * (size_t)width + (size_t)(x / factor)) * 3, 3);
    return 0;
}

static char *base64(const uint8_t *data, size_t size, size_t *length)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *text = swm_allocate(NULL, (size + 2) / 3 * 4 + 1, 1), *end = text;
    for (size_t i = 0; text != NULL && i < size; i += 3) {
        const size_t left = size - i;
        const uint32_t bits = (uint32_t)data[i] << 16 | (left > 1 ? (uint32_t)data[i + 1] << 8 : 0) |
                              (left > 2 ? (uint32_t)data[i + 2] : 0);
        *end++ = digits[bits >> 18];
        *end++ = digits[bits >> 12 & 63];
        *end++ = left > 1 ? digits[bits >> 6 & 63] : '=';
        *end++ = left > 2 ? digits[bits & 63] : '=';
    }
    if (text != NULL) *length = (size_t)(end - text);
    return text;
}

/* a=T: transmit and show; f=100: PNG; q=2: do not answer; C=1: the cursor stays; c, r: size in character cells. */
static void send_kitty(const char *text, size_t length, int columns, int rows)
{
    for (size_t at = 0; at < length; at += KITTY_CHUNK) {
        const size_t size = length - at < KITTY_CHUNK ? length - at : KITTY_CHUNK;
        const int more = at + size < length;
        if (at == 0)
            fprintf(stderr, "\033_Ga=T,f=100,q=2,C=1,i=%d,c=%d,r=%d,m=%d;", KITTY_IMAGE, columns, rows, more);
        else
            fprintf(stderr, "\033_Gq=2,m=%d;", more);
        fwrite(text + at, 1, size, stderr);
        fputs("\033\\", stderr);
    }
}

/* The terminal moves its cursor behind an inline image, hence saving (ESC 7) and restoring (ESC 8) it. */
static void send_iterm(const char *text, int columns, int rows)
{
    fprintf(stderr, "\0337\033]1337;File=inline=1;width=%d;height=%d;preserveAspectRatio=0:%s\a\0338", columns, rows,
            text);
}

void cli_preview_show(cli_preview *preview, const uint8_t *rgb, int width, int height)
{
    if (preview->protocol == CLI_PREVIEW_NONE || width < 1 || height < 1 || width > LARGEST_SIDE / 16 ||
        height > LARGEST_SIDE / 16)
        return;
    swm_image image;
    uint8_t *png = NULL;
    size_t size = 0, length = 0;
    if (enlarge(&image, rgb, width, height) != 0) return;
    char *text = swm_image_encode_png(&image, &png, &size, NULL) == 0 ? base64(png, size, &length) : NULL;
    if (text != NULL) {
        const int columns = preview->columns < COLUMNS_WANTED ? preview->columns : COLUMNS_WANTED;
        int rows = columns * height / (width * 2); /* a character cell is about twice as high as wide */
        if (rows < 1) rows = 1;
        /* New lines scroll a place free; later pictures go up into the same place. */
        if (preview->rows == 0) {
            for (int i = 0; i < rows; i++) fputc('\n', stderr);
            preview->rows = rows;
        }
        fprintf(stderr, "\r\033[%dA", preview->rows);
        if (preview->protocol == CLI_PREVIEW_KITTY)
            send_kitty(text, length, columns, preview->rows);
        else
            send_iterm(text, columns, preview->rows);
        fprintf(stderr, "\r\033[%dB", preview->rows);
        fflush(stderr);
    }
    free(text);
    free(png);
    swm_image_free(&image);
}
