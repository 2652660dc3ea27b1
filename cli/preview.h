/* Small pictures in terminals that show pictures: the Kitty graphics protocol and iTerm2's inline images. Owns the
 * detection and the escape sequences; the pictures come from the generation. */
#ifndef CLI_PREVIEW_H
#define CLI_PREVIEW_H

#include <stdbool.h>
#include <stdint.h>

typedef enum cli_preview_protocol { CLI_PREVIEW_NONE, CLI_PREVIEW_KITTY, CLI_PREVIEW_ITERM } cli_preview_protocol;

typedef struct cli_preview {
    cli_preview_protocol protocol;
    int columns; /* of the terminal */
    int rows;    /* of the picture that stands above the cursor's line; 0: none yet */
} cli_preview;

/* Standard error is a terminal of so many columns; its environment says which pictures it understands. */
void cli_preview_start(cli_preview *preview, int terminal_columns);
/* Show rgb[height][width][3] above the cursor's line, in place of the picture before it; the cursor is at the start of
 * an empty line before and after. A picture that cannot be shown is left out. */
void cli_preview_show(cli_preview *preview, const uint8_t *rgb, int width, int height);

#endif
