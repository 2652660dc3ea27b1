/* The commands of the program; one source file each. */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

#include "args.h"

extern const cli_command cli_generate, cli_refine, cli_prompt, cli_demo, cli_info, cli_plan, cli_camera,
    cli_camera_convert, cli_camera_make, cli_camera_plot, cli_camera_check, cli_eval, cli_bench;

#endif
