/* How far a generation is, on standard error: one line that is redrawn on a terminal, a line a stage elsewhere. Shows
 * the preview above it where the terminal can. */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include "preview.h"
#include "sanawm.h"

typedef struct cli_progress {
    bool quiet;        /* show nothing */
    bool terminal;     /* standard error is one */
    bool line_drawn;   /* a line without a newline stands there */
    const char *stage; /* the stage shown last, NULL before the first */
    cli_preview preview;
} cli_progress;

void cli_progress_start(cli_progress *progress, bool quiet, bool with_preview);
void cli_progress_show(cli_progress *progress, const swm_progress *now);
/* Make room for a message, or for the end: whatever line is being redrawn goes away. */
void cli_progress_clear(cli_progress *progress);

#endif
