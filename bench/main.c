/* `sanawm bench` alone, without what reads and writes pictures: builds and runs on a bare CUDA machine. */
#include "../cli/commands.h"
#include "../cli/run.h"

char *cli_builtin_model(swm_error *error)
{
    swm_fail(error, "this program comes without a model; pass --model DIR or --release");
    return NULL;
}

int main(int argc, char **argv) { return cli_bench.run(&cli_bench, argc - 1, argv + 1); }
