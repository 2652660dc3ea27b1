/* What the camera commands take for a path: a file in any format, a keyframe file, the name of a move, or an action. */
#ifndef CLI_CAMERA_SOURCE_H
#define CLI_CAMERA_SOURCE_H

#include "camera/action.h"
#include "camera/preset.h"
#include "console.h"

typedef enum cli_source_kind {
    CLI_SOURCE_FILE,
    CLI_SOURCE_KEYFRAMES,
    CLI_SOURCE_MOVE,
    CLI_SOURCE_ACTION
} cli_source_kind;

/* By what is there: an existing file or directory first, then the names of moves, else an action string. */
cli_source_kind cli_source_kind_of(const char *source);

/* The poses of a source with everything at its default. *fps is the file's, or 0 where it has none or it is no file.
 * Unless `quiet`, what was assumed about a file is told on standard error. */
int cli_source_load(swm_poses *poses, double *fps, const char *source, bool quiet, swm_error *error);

/* The part of a source that names it in a legend: of files, what follows the last slash. */
const char *cli_source_name(const char *source);

/* One line of measures, and a line for each way in which the path leaves what the model knows, on standard error. */
void cli_tell_path(const swm_poses *poses, double fps);

#endif
