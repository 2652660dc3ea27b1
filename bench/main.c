/* `sanawm bench` alone, without what reads and writes pictures: builds and runs on a bare CUDA machine. */
#include "../cli/commands.h"
#include "../cli/run.h"
#include "whole.h"

char *cli_builtin_model(swm_error *error)
{
    swm_fail(error, "this program comes without a model; pass --model DIR or --release");
    return NULL;
}

int bench_movie(int64_t frames, int width, int height, double *seconds, swm_error *error)
{
    (void)frames, (void)width, (void)height, (void)error;
    cli_message("this program has no libav: the budget goes without the MP4 file");
    *seconds = 0;
    return 0;
}

int main(int argc, char **argv) { return cli_bench.run(&cli_bench, argc - 1, argv + 1); }
